"""The Dict form of observations: the same scalar and batched, in every autoreset mode."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import DictInfoToList

from brownout.envs import ENVIRONMENTS
from brownout.envs.wrappers import MaskedObservation, VectorMaskedObservation
from env_cases import CASES, FAULTY, Case, assert_same, batched, choose, label, scalar

one_case_per_id = [next(case for case in FAULTY if case[0] == env_id) for env_id in ENVIRONMENTS]
every_mode = pytest.mark.parametrize("mode", list(AutoresetMode), ids=lambda mode: mode.name)
each_id = pytest.mark.parametrize("case", one_case_per_id, ids=label)


def run(env: Any, steps: int, seed: int) -> list[Any]:
    """What a batched wrapped environment returns; masks for the choice come from the observations."""
    rng = np.random.default_rng(0)
    seen = [env.reset(seed=seed)]
    masks = seen[0][0]["action_mask"]
    for _ in range(steps):
        seen.append(env.step(choose(masks.copy(), rng)))
        over = seen[-1][2] | seen[-1][3]
        if env.metadata["autoreset_mode"] == AutoresetMode.DISABLED and over.any():
            seen.append(env.reset(options={"reset_mask": over.copy()}))
        masks = seen[-1][0]["action_mask"]
    return seen


@each_id
@every_mode
@pytest.mark.parametrize("num_envs", [1, 3, 64])
def test_wrapped_batch_equals_batch_of_wrapped(case: Case, mode: AutoresetMode, num_envs: int) -> None:
    makers = [lambda: MaskedObservation(scalar(case))] * num_envs
    reference = gym.vector.SyncVectorEnv(makers, autoreset_mode=mode)
    wrapped = VectorMaskedObservation(batched(case, num_envs, mode))
    assert wrapped.single_observation_space == reference.single_observation_space
    assert wrapped.observation_space == reference.observation_space
    native = run(wrapped, 40, seed=6)
    assert_same(native, run(reference, 40, seed=6))
    finals = [part[4]["final_obs"] for part in native if len(part) == 5 and "final_obs" in part[4]]
    assert bool(finals) == (mode == AutoresetMode.SAME_STEP)
    for final in finals:
        assert all(wrapped.single_observation_space.contains(row) for row in final if row is not None)


@pytest.mark.parametrize("case", CASES, ids=label)
def test_masks_and_observations_are_those_of_the_environment(case: Case) -> None:
    plain, wrapped = batched(case, 8), VectorMaskedObservation(batched(case, 8))
    assert_same(wrapped.reset(seed=1)[0]["observations"], plain.reset(seed=1)[0])
    rng = np.random.default_rng(0)
    for _ in range(20):
        actions = choose(plain.action_masks(), rng)
        (a, *rest), (b, *others) = wrapped.step(actions), plain.step(actions)
        assert_same(rest, others)
        assert_same(a, {"action_mask": plain.action_masks(), "observations": b})
        assert wrapped.observation_space.contains(a)


@each_id
def test_scalar_wrapper_passes_the_passive_checker(case: Case) -> None:
    env = gym.wrappers.PassiveEnvChecker(MaskedObservation(scalar(case)))
    env.action_space.seed(0)
    env.reset(seed=0)
    for _ in range(200):
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated or truncated:
            env.reset()


@each_id
def test_mask_samples_legal_actions(case: Case) -> None:
    """The mask has the type that ``Discrete.sample`` asks for."""
    env = MaskedObservation(scalar(case))
    env.action_space.seed(0)
    observation, _ = env.reset(seed=0)
    for _ in range(100):
        action = env.action_space.sample(mask=observation["action_mask"])
        assert observation["action_mask"][action] == 1
        observation, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            observation, _ = env.reset()


@each_id
def test_wrapper_is_part_of_the_specification(case: Case) -> None:
    env = MaskedObservation(gym.make(case[0], scenario=case[1], profile=case[2], disable_env_checker=True))
    assert env.spec is not None
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    assert isinstance(again, MaskedObservation)
    assert_same(again.reset(seed=3), env.reset(seed=3))


@each_id
def test_later_steps_leave_earlier_observations_alone(case: Case) -> None:
    env = VectorMaskedObservation(batched(case, 4, AutoresetMode.SAME_STEP))
    rng = np.random.default_rng(0)
    held, _ = env.reset(seed=0)
    copies = [{name: part.copy() for name, part in held.items()}]
    kept = [held]
    for _ in range(20):
        observation, *_ = env.step(choose(kept[-1]["action_mask"], rng))
        kept.append(observation)
        copies.append({name: part.copy() for name, part in observation.items()})
    assert_same(kept, copies)


@each_id
@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED], ids=lambda mode: mode.name)
def test_infos_convert_to_lists(case: Case, mode: AutoresetMode) -> None:
    """Gymnasium's converter, which RLlib applies, finds each lane's own entries and no filler."""
    env, plain = DictInfoToList(batched(case, 3, mode)), batched(case, 3, mode)
    infos: Any = env.reset(seed=0)[1]
    plain.reset(seed=0)
    assert [sorted(info) for info in infos] == [["action_mask"]] * 3
    rng = np.random.default_rng(1)
    ends = 0
    for _ in range(30):
        actions = choose(plain.action_masks(), rng)
        _, _, terminated, truncated, infos = env.step(actions)
        plain.step(actions)
        for info, over in zip(infos, terminated | truncated, strict=True):
            assert ("outcome" in info) == over
            assert info["action_mask"].any()
            ends += over
        if mode == AutoresetMode.DISABLED and (terminated | truncated).any():
            for each in (env, plain):
                each.reset(options={"reset_mask": terminated | truncated})
    assert ends > 3
