"""The Stable-Baselines3 adapter: the protocol of ``VecEnv``, and training with and without masks."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("sb3_contrib")

from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.evaluation import evaluate_policy
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3 import PPO
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecCheckNan, VecNormalize

from brownout.envs.router import RouterEnv
from brownout.errors import PolicyError
from brownout.trainers import sb3
from brownout.trainers.sb3 import make_sb3
from env_cases import FAULTY, assert_same, choose, label, scalar, scenario_of

SMALL: dict[str, Any] = {"n_steps": 16, "batch_size": 256, "n_epochs": 2, "seed": 0, "device": "cpu"}


def dummy(name: str, num_envs: int, profile: str = "production") -> DummyVecEnv:
    """SB3's own vectoriser over the scalar environment, as the oracle."""

    def maker() -> gym.Env[Any, Any]:
        return Monitor(RouterEnv(scenario_of(name), profile))

    return DummyVecEnv([maker] * num_envs)


@pytest.mark.parametrize("case", [case for case in FAULTY if "Router" in case[0]], ids=label)
def test_adapter_equals_a_dummy_vec_env(case: tuple[str, str, str]) -> None:
    _, name, profile = case
    adapter, reference = make_sb3(scenario_of(name), 7, profile=profile), dummy(name, 7, profile)
    adapter.seed(5)
    reference.seed(5)
    assert_same(adapter.reset(), reference.reset())
    rng = np.random.default_rng(0)
    ends = 0
    for _ in range(60):
        masks = np.stack(adapter.env_method("action_masks"))
        assert_same(masks.astype(np.int8), np.stack(reference.env_method("action_masks")))
        actions = choose(masks, rng)
        (a_observation, a_reward, a_done, a_infos), b = adapter.step(actions), reference.step(actions)
        assert_same((a_observation, a_reward, a_done), b[:3])
        for a_info, b_info, done in zip(a_infos, b[3], a_done, strict=True):
            if not done:
                assert a_info == {}
                continue
            ends += 1
            for key in ("terminal_observation", "TimeLimit.truncated", "outcome"):
                assert_same(a_info[key], b_info[key], key)
            assert a_info["episode"]["l"] == b_info["episode"]["l"]
            assert a_info["episode"]["r"] == pytest.approx(b_info["episode"]["r"], abs=1e-5)
            assert a_info["is_success"] == (b_info["outcome"] == "success")
    assert ends > 20
    assert_same(adapter.reset(), reference.reset(), "a reset without seed goes on to the next episodes")


def test_truncation_is_told_from_termination() -> None:
    env = make_sb3("textbook", 3, seed=0, max_episode_steps=4)
    names: list[str] = env.get_attr("action_names")[0]
    env.reset()
    forbidden = np.full(3, names.index("submit"))  # there is nothing to submit
    for _ in range(3):
        assert not env.step(forbidden)[2].any()
    _, _, done, infos = env.step(np.array([*forbidden[:2], names.index("abstain")]))
    assert done.all()
    assert [info["TimeLimit.truncated"] for info in infos] == [True, True, False]
    assert [info["outcome"] for info in infos] == ["limit", "limit", "abstained"]
    assert [info["episode"]["l"] for info in infos] == [4, 4, 4]


def test_infos_and_arrays_are_the_callers_own() -> None:
    """SB3 adds to rewards and wrappers write into infos; nothing may come back in the next step."""
    env, twin = make_sb3("support-desk", 4, seed=0), make_sb3("support-desk", 4, seed=0)
    env.reset()
    twin.reset()
    rng = np.random.default_rng(0)
    for _ in range(30):
        actions = choose(np.stack(twin.env_method("action_masks")), rng)
        observation, reward, done, infos = env.step(actions)
        expected = twin.step(actions)
        assert_same((observation, reward, done), expected[:3])
        assert [info.keys() for info in infos] == [info.keys() for info in expected[3]]
        assert isinstance(observation, np.ndarray)
        observation[:], reward[:], done[:] = -1.0, 99.0, True
        for info in infos:
            info["mine"] = 1


def test_masks() -> None:
    env = make_sb3("support-desk", 5, seed=0)
    env.reset()
    assert is_masking_supported(env)
    masks = get_action_masks(env)
    assert masks.shape == (5, env.action_space.n)  # type: ignore[attr-defined]
    assert masks.any(axis=1).all()
    assert_same(np.stack(env.env_method("action_masks", indices=[1, 3])), masks[[1, 3]])
    assert len(env.env_method("action_masks", indices=2)) == 1


@pytest.mark.parametrize("case", [FAULTY[0]], ids=label)
def test_masks_of_the_scalar_environment(case: tuple[str, str, str]) -> None:
    env = scalar(case)
    env.reset(seed=0)
    assert is_masking_supported(env)
    assert_same(get_action_masks(env), env.unwrapped.action_masks())


def test_attributes() -> None:
    env = make_sb3("textbook", 3)
    assert env.get_attr("num_envs", [0, 2]) == [3, 3]
    assert env.has_attr("observation_columns")
    assert not env.has_attr("no_such_thing")
    assert env.env_is_wrapped(Monitor) == [True] * 3
    assert env.env_is_wrapped(gym.wrappers.TimeLimit, 0) == [False]
    env.set_attr("note", 4)
    assert env.get_attr("note") == [4, 4, 4]
    with pytest.raises(PolicyError, match="all lanes at once"):
        env.set_attr("note", 5, indices=0)
    env.set_options([{"episode": 1}, {}, {}])
    with pytest.raises(PolicyError, match="the same for all lanes"):
        env.reset()


def test_bad_actions_are_refused() -> None:
    env = make_sb3("textbook", 2, seed=0)
    env.reset()
    for actions in (np.array([0, 99]), np.array([0]), np.array([0.0, 1.0])):
        with pytest.raises(PolicyError, match="allowed"):
            env.step(actions)


def test_seeds_and_options() -> None:
    env = make_sb3("support-desk", 3, seed=8)
    start = env.reset()
    assert env.seed(8) == [8, 9, 10]
    assert_same(env.reset(), start)
    following = env.reset()
    env.seed(8)
    env.set_options({"episode": 1})
    assert_same(env.reset(), following)
    env.seed(9)
    assert not np.array_equal(env.reset(), start)  # type: ignore[arg-type]


def test_the_class_has_a_name_to_import() -> None:
    assert type(make_sb3("textbook", 1)) is sb3.SB3VecEnv
    assert (sb3.SB3VecEnv.__module__, sb3.SB3VecEnv.__qualname__) == (sb3.__name__, "SB3VecEnv")
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = sb3.nonsense


def test_maskable_ppo_trains_within_the_mask() -> None:
    env = VecNormalize(VecCheckNan(make_sb3("textbook", 64, seed=0), raise_exception=True), norm_reward=False)
    model = MaskablePPO("MlpPolicy", env, gamma=1.0, ent_coef=0.01, learning_rate=1e-3, **SMALL)
    before, _ = evaluate_policy(model, env, n_eval_episodes=200, warn=False)
    model.learn(64 * 16 * 16)
    after, _ = evaluate_policy(model, env, n_eval_episodes=200, warn=False)
    assert after > before + 0.05  # type: ignore[operator]
    assert model.ep_success_buffer is not None
    assert len(model.ep_success_buffer) == 100
    masks = get_action_masks(env)
    actions, _ = model.predict(env.normalize_obs(env.unwrapped.lanes.current()[0]), action_masks=masks)  # type: ignore[attr-defined]
    assert masks[np.arange(64), actions].all()


def test_ppo_without_masks_trains_too() -> None:
    env = VecNormalize(make_sb3("support-desk", 32, seed=0), norm_reward=False)
    model = PPO("MlpPolicy", env, **SMALL)
    model.learn(32 * 16 * 2)
    assert model.num_timesteps == 32 * 16 * 2
    assert model.ep_info_buffer
