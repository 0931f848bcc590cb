"""The RLlib adapter: what RLlib's runner sees, masks that hold, and a training iteration on a cluster."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("ray.rllib")

from gymnasium.vector import AutoresetMode

from brownout.trainers import rllib
from brownout.trainers.rllib import make_rllib, ppo_config
from env_cases import assert_same, scalar, scenario_of

pytestmark = [
    pytest.mark.ray,
    # RLlib registers the environment anew for every runner, and warns about its own old names.
    pytest.mark.filterwarnings("ignore:.*Overriding environment.*:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
ROUTER = ("brownout/Router-v0", "support-desk", "production")


def runner_of(config: Any) -> Any:
    from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

    return SingleAgentEnvRunner(config=config)


def small(**changes: Any) -> Any:
    return ppo_config(scenario_of("support-desk"), 4, steps=16, **changes)


def test_environment_is_next_step_and_masked() -> None:
    env = make_rllib({"scenario": "support-desk", "num_envs": 3})
    assert env.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
    assert set(env.single_observation_space.spaces) == {"observations", "action_mask"}
    single = make_rllib({"scenario": "support-desk"})
    assert single.observation_space == env.single_observation_space


def test_runners_do_not_share_episodes() -> None:
    """RLlib gives runner ``w`` the seed ``s + w``, so plain seeds would make lanes of runners coincide."""
    from ray.rllib.env.env_context import EnvContext

    starts: list[bytes] = []
    for worker in (1, 2, 3):
        context = EnvContext({"scenario": scenario_of("support-desk"), "num_envs": 8}, worker_index=worker)
        observation, _ = make_rllib(context).reset(seed=worker)
        starts += [row.tobytes() for row in observation["observations"]]
    assert len(set(starts)) == len(starts)


def test_runner_samples_random_actions() -> None:
    episodes = runner_of(small()).sample(num_timesteps=400, random_actions=True)
    assert sum(len(episode) for episode in episodes) >= 400
    assert sum(episode.is_done for episode in episodes) > 10


def test_runner_loses_no_transition() -> None:
    """Every episode that the runner reports equals a replay of its actions in the scalar environment."""
    runner = runner_of(small())
    first = runner._seed
    episodes = [episode for episode in runner.sample(num_timesteps=300, random_actions=True) if episode.is_done]
    starts: dict[bytes, tuple[int, int]] = {}
    env = scalar(ROUTER)
    for lane in range(4):
        for number in range(40):
            observation, _ = env.reset(seed=first + lane, options={"episode": number})
            starts[observation.tobytes()] = (lane, number)
    replayed = 0
    for episode in episodes:
        lane, number = starts[episode.get_observations(0)["observations"].tobytes()]
        env.reset(seed=first + lane, options={"episode": number})
        for t, action in enumerate(episode.get_actions()):
            observation, reward, terminated, truncated, info = env.step(int(action))
            assert reward == episode.get_rewards(t)
            seen = episode.get_observations(t + 1)
            assert_same(seen["observations"], observation)
            assert_same(seen["action_mask"], info["action_mask"])
            assert (terminated or truncated) == (t == len(episode) - 1)
        replayed += 1
    assert replayed > 10


def test_module_chooses_allowed_actions_only() -> None:
    runner = runner_of(small())
    for explore in (True, False):
        for episode in runner.sample(num_timesteps=200, explore=explore):
            for t, action in enumerate(episode.get_actions()):
                assert episode.get_observations(t)["action_mask"][action] == 1


def test_module_masks_leave_the_rest_alone() -> None:
    import torch

    module = runner_of(small()).module
    space = module.observation_space
    raw = torch.as_tensor(np.stack([space["observations"].low, space["observations"].high]))
    masks = torch.ones((2, space["action_mask"].shape[0]), dtype=torch.int8)
    free = module.forward_inference({"obs": {"observations": raw, "action_mask": masks}})["action_dist_inputs"]
    masks[:, 1:] = 0
    bound = module.forward_inference({"obs": {"observations": raw, "action_mask": masks}})["action_dist_inputs"]
    assert torch.isfinite(free).all()
    assert torch.equal(free[:, 0], bound[:, 0])
    assert (bound[:, 1:] < -1e7).all()


def test_module_can_be_stored_and_restored(tmp_path: Any) -> None:
    module = runner_of(small()).module
    module.save_to_path(tmp_path / "module")
    again = type(module).from_checkpoint(str(tmp_path / "module"))
    assert type(again) is rllib.MaskedRLModule
    for name, value in module.get_state().items():
        assert np.array_equal(np.asarray(value), np.asarray(again.get_state()[name])), name


def test_names() -> None:
    assert rllib.MaskedRLModule.__qualname__ == "MaskedRLModule"
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = rllib.nonsense


def test_scenario_objects_can_be_given() -> None:
    runner = runner_of(ppo_config(scenario_of("textbook"), 2, steps=8))
    assert runner.sample(num_timesteps=16, random_actions=True)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_training_improves_the_return() -> None:
    config = ppo_config("textbook", 64, steps=16, num_env_runners=0)
    algorithm = config.build_algo()
    try:
        returns = [algorithm.train()["env_runners"]["episode_return_mean"] for _ in range(8)]
    finally:
        algorithm.stop()
    assert max(returns[-3:]) > returns[0] + 0.05


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_remote_runner_collects() -> None:
    algorithm = small(num_env_runners=1).build_algo()
    try:
        result = algorithm.train()
    finally:
        algorithm.stop()
    assert result["env_runners"]["num_env_steps_sampled"] >= 64
