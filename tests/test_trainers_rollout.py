"""Collection and advantages: episode borders, truncation, keys, exact continuation."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from brownout.envs.streams import stream_id, uniform
from brownout.errors import WorkerError
from brownout.trainers.policy import Policy, initial_weights
from brownout.trainers.rollout import Collector, Rollout, advantages, lane_keys
from toy_lanes import CHEAP, ToyLanes


def toy_policy(seed: int = 0) -> Policy:
    weights = {name: 2 * w for name, w in initial_weights(3, 3, (16,), seed).items()}
    return Policy(weights)


def slow_advantages(rewards: Any, values: Any, next_values: Any, ended: Any, gamma: float, lam: float) -> np.ndarray:
    """Exponentially weighted sum of k-step advantages, straight from the definition of GAE."""
    steps, lanes = rewards.shape
    result = np.zeros((steps, lanes))
    for lane in range(lanes):
        for t in range(steps):
            last = t
            while last < steps - 1 and not ended[last, lane]:
                last += 1
            n = last - t + 1
            total, partial = 0.0, 0.0
            for k in range(1, n + 1):
                partial += gamma ** (k - 1) * rewards[t + k - 1, lane]
                k_step = partial + gamma**k * next_values[t + k - 1, lane] - values[t, lane]
                total += k_step * (lam ** (k - 1) * (1 - lam) if k < n else lam ** (n - 1))
            result[t, lane] = total
    return result


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.7), (0.99, 0.0), (1.0, 1.0)])
def test_advantages_equal_the_definition(gamma: float, lam: float) -> None:
    def draws(name: str) -> np.ndarray:
        keys = lane_keys(name, 0, 0, 0, 40 * 6).reshape(40, 6)
        return 2 * uniform(keys, stream_id(name)) - 1

    values = draws("values")
    ended = draws("ended") > 0.7
    next_values = np.where(ended, np.where(draws("cut") > 0, draws("final"), 0.0), draws("next"))
    next_values[:-1] = np.where(ended[:-1], next_values[:-1], values[1:])
    args = (draws("rewards"), values, next_values, ended, gamma, lam)
    np.testing.assert_allclose(advantages(*args), slow_advantages(*args), atol=1e-12)


def test_collected_advantages_equal_a_replay_with_bootstrap_only_at_truncations() -> None:
    policy = toy_policy()
    rollout = Collector(ToyLanes(32, limit=2), steps=24, seed=3, gamma=0.9, lam=0.8).collect(policy, 0)
    env = ToyLanes(32, limit=2)
    env.lane_reset(lane_keys("lanes", 3, 0, 0, 32))
    rewards, ended = np.zeros((24, 32)), np.zeros((24, 32), dtype=bool)
    next_values = np.zeros((24, 32))
    cut = done = 0
    for t in range(24):
        step = env.lane_step(rollout.actions[t])
        rewards[t], ended[t] = step.reward, step.terminated | step.truncated
        next_values[t] = policy.values(step.observation)
        for row, lane in enumerate(step.ended):
            if step.truncated[lane]:
                cut += 1
                next_values[t, lane] = policy.values(step.final_observation[row : row + 1])[0]
            else:
                done += 1
                next_values[t, lane] = 0.0
    assert cut > 20
    assert done > 20
    expected = slow_advantages(rewards, rollout.values, next_values, ended, 0.9, 0.8)
    np.testing.assert_allclose(rollout.advantages, expected, atol=1e-6)
    np.testing.assert_allclose(rollout.returns, expected + rollout.values, atol=1e-6)


def test_no_advantage_crosses_the_end_of_an_episode() -> None:
    rewards = np.zeros((6, 2))
    rewards[4] = 100.0
    ended = np.zeros((6, 2), dtype=bool)
    ended[2, 0] = True
    result = advantages(rewards, np.zeros((6, 2)), np.zeros((6, 2)), ended, 1.0, 1.0)
    np.testing.assert_array_equal(result[:, 0], [0, 0, 0, 100, 100, 0])
    np.testing.assert_array_equal(result[:, 1], [100, 100, 100, 100, 100, 0])


def test_every_stored_observation_is_the_one_acted_on() -> None:
    rollout = Collector(ToyLanes(16), steps=40, seed=1).collect(toy_policy(), 0)
    tries = rollout.observations[..., 1]
    follows = rollout.actions[:-1] == CHEAP
    # Within an episode the count of tries grows by one; otherwise the next episode starts at zero.
    grown = tries[1:] == tries[:-1] + 1
    assert ((grown & follows) | (tries[1:] == 0)).all()
    same = rollout.observations[1:, :, 0] == rollout.observations[:-1, :, 0]
    assert (same == grown).all(), "the chance shown belongs to the episode"
    assert grown.any()
    assert (~grown).any()
    np.testing.assert_array_equal(rollout.masks[..., CHEAP], tries < 3)


def test_log_probabilities_belong_to_the_policy_that_acted() -> None:
    policy = toy_policy()
    rollout = Collector(ToyLanes(16), steps=10).collect(policy, 0)
    flat = rollout.observations.reshape(-1, 3)
    logits = policy.logits(flat, rollout.masks.reshape(-1, 3)).astype(np.float64)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    chosen = log_p[np.arange(160), rollout.actions.ravel()]
    np.testing.assert_allclose(rollout.log_probs.ravel(), chosen, atol=1e-5)
    np.testing.assert_array_equal(rollout.values.ravel(), policy.values(flat))


def test_episode_statistics_add_up() -> None:
    env = ToyLanes(64)
    collector = Collector(env, steps=30, seed=2)
    parts = [collector.collect(toy_policy(), i).episodes for i in range(4)]
    utility = np.concatenate([p.utility for p in parts])
    components = np.concatenate([p.components for p in parts])
    outcome = np.concatenate([p.outcome for p in parts])
    length = np.concatenate([p.length for p in parts])
    np.testing.assert_allclose(utility, components[:, 0] - components[:, 1], atol=1e-12)
    np.testing.assert_array_equal(outcome == 0, components[:, 0] == 1)
    assert length.min() == 1
    assert length.max() == 4
    assert length.sum() + collector.get_state()["length"].sum() == 64 * 30 * 4


def collected(seed: int = 0, rank: int = 0, iteration: int = 0) -> Rollout:
    return Collector(ToyLanes(64), steps=8, seed=seed, rank=rank).collect(toy_policy(), iteration)


def assert_equal(one: Rollout, two: Rollout) -> None:
    for f in fields(Rollout):
        if f.name != "episodes":
            np.testing.assert_array_equal(getattr(one, f.name), getattr(two, f.name))


def test_a_restarted_worker_gets_the_same_data_only_for_the_same_iteration() -> None:
    assert_equal(collected(), collected())
    first = collected()
    for other in (collected(seed=1), collected(rank=1), collected(iteration=1)):
        shared = np.isin(other.observations[..., 0], first.observations[..., 0])
        assert shared.mean() < 0.01, "episodes are told apart by the chance they show"
        assert (other.actions != first.actions).any()


def test_a_restart_in_the_middle_repeats_nothing() -> None:
    collector = Collector(ToyLanes(64), steps=8)
    seen = np.concatenate([collector.collect(toy_policy(), i).observations[..., 0].ravel() for i in range(5)])
    restarted = collected(iteration=5).observations[..., 0]
    assert not np.isin(restarted, seen).any()


def test_state_continues_bit_for_bit() -> None:
    collector = Collector(ToyLanes(32), steps=8, seed=5)
    collector.collect(toy_policy(), 0)
    state = collector.get_state()
    expected = [collector.collect(toy_policy(), i) for i in (1, 2)]
    other = Collector(ToyLanes(32), steps=8, seed=5)
    other.set_state(state)
    for i, rollout in enumerate(expected, start=1):
        again = other.collect(toy_policy(), i)
        assert_equal(again, rollout)
        np.testing.assert_array_equal(again.episodes.utility, rollout.episodes.utility)
    fresh = Collector(ToyLanes(32), steps=8, seed=5).collect(toy_policy(), 1)
    assert (fresh.observations != expected[0].observations).any()
    with pytest.raises(WorkerError, match="32 lanes, this collector has 16"):
        Collector(ToyLanes(16)).set_state(state)


def test_rollouts_of_several_workers_join_along_the_lanes() -> None:
    one, two = collected(rank=0), collected(rank=1)
    joined = Rollout.concatenate([one, two])
    np.testing.assert_array_equal(joined.actions[:, :64], one.actions)
    np.testing.assert_array_equal(joined.observations[:, 64:], two.observations)
    assert joined.steps == 1024
    assert len(joined.episodes) == len(one.episodes) + len(two.episodes)


class Broken(ToyLanes):
    """Returns one reward or observation that is not finite."""

    where = "reward"

    def lane_step(self, actions: Any) -> Any:
        step = super().lane_step(actions)
        if self.where == "reward":
            step.reward[3] = np.nan
        else:
            step.observation[3, 1] = np.inf
        return step


@pytest.mark.parametrize(("where", "words"), [("reward", "reward nan in lane 3"), ("column", "'tries' is inf")])
def test_numbers_that_are_not_finite_are_refused_with_their_place(where: str, words: str) -> None:
    env = Broken(8)
    env.where = where
    with pytest.raises(WorkerError, match=words):
        Collector(env, steps=2).collect(toy_policy(), 0)
