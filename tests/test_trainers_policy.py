"""The NumPy policy: masks, sampling, normalisation, and bits that do not depend on the batch."""

from __future__ import annotations

import time

import numpy as np
import pytest

from brownout.envs.streams import stream_id, uniform
from brownout.errors import PolicyError
from brownout.trainers.policy import (
    MASKED,
    Moments,
    Normaliser,
    Policy,
    initial_weights,
    sample,
    shapes,
)


def rows(count: int, columns: int, name: str = "rows") -> np.ndarray:
    """Uniform numbers in [-2, 2), the same in every run."""
    key = np.array([stream_id(name)], dtype=np.uint64)
    draws = uniform(key, 0, np.arange(count * columns))
    return (4 * draws - 2).reshape(count, columns).astype(np.float32)


def policy(columns: int = 20, actions: int = 9, hidden: tuple[int, ...] = (64, 64), scale: float = 3.0) -> Policy:
    weights = {name: np.float32(scale) * w for name, w in initial_weights(columns, actions, hidden, 1).items()}
    for name, w in weights.items():
        if name.endswith("bias"):
            weights[name] = rows(1, len(w), name)[0] / 4
    moments = Moments(columns)
    moments.update(rows(500, columns) * np.arange(1, columns + 1) + 5)
    return Policy(weights, Normaliser.of(moments))


def reference_logits(p: Policy, observations: np.ndarray) -> np.ndarray:
    """The same network in float64 with ordinary matrix products."""
    assert p.normaliser is not None
    x = (observations.astype(np.float64) - p.normaliser.mean) / p.normaliser.deviation
    x = np.clip(x, -p.normaliser.clip, p.normaliser.clip)
    for i in range(len(p.hidden) + 1):
        x = x @ p.weights[f"policy.{i}.weight"].astype(np.float64) + p.weights[f"policy.{i}.bias"]
        x = np.tanh(x) if i < len(p.hidden) else x
    return x


def test_logits_equal_a_plain_float64_network() -> None:
    p = policy()
    observations = rows(300, 20) * 20
    np.testing.assert_allclose(p.logits(observations), reference_logits(p, observations), atol=2e-5)


@pytest.mark.parametrize(
    ("columns", "actions", "hidden"),
    [
        (1, 2, (64, 64)),
        (33, 12, (64, 64)),
        (57, 17, (64, 64)),
        (48, 7, (50, 20)),
        (128, 30, (128,)),
        (20, 9, (256, 256)),
    ],
)
def test_the_bits_of_a_row_do_not_depend_on_its_batch(columns: int, actions: int, hidden: tuple[int, ...]) -> None:
    p = policy(columns, actions, hidden)
    observations = rows(1024, columns) * 10
    logits, values = p.logits(observations), p.values(observations)
    assert len(np.unique(logits[:, 0])) > 500, "different rows must differ, or the test shows nothing"
    order = np.argsort(uniform(np.arange(1024, dtype=np.uint64), stream_id("order")))
    for start, count in ((0, 1), (5, 2), (11, 3), (40, 7), (100, 8), (200, 9), (300, 64), (7, 1000)):
        chosen = order[start : start + count]
        np.testing.assert_array_equal(p.logits(observations[chosen]), logits[chosen])
        np.testing.assert_array_equal(p.values(observations[chosen]), values[chosen])


def test_greedy_action_alone_equals_greedy_action_in_a_batch() -> None:
    p = policy()
    observations = rows(200, 20) * 10
    mask = rows(200, 9, "mask") > 0
    mask[:, 4] = True
    batch = p.act_batch(observations, mask)
    assert len(set(batch.tolist())) > 4
    for i in range(200):
        assert p.act(observations[i], mask[i].astype(np.int8)) == batch[i]
        assert mask[i, batch[i]]
    draws = uniform(np.arange(200, dtype=np.uint64), stream_id("draw"))
    sampled = p.act_batch(observations, mask, draws)
    assert (sampled != batch).any()
    for i in range(200):
        assert p.act(observations[i], mask[i], greedy=False, uniform=draws[i]) == sampled[i]


def test_samples_follow_the_masked_softmax_and_carry_its_log_probability() -> None:
    logits = np.array([[0.0, 1.0, MASKED, -1.0, 2.0]], dtype=np.float32)
    p = np.exp(logits[0].astype(np.float64))
    p /= p.sum()
    count = 200_000
    draws = (np.arange(count) + 0.5) / count  # a grid instead of luck: shares are exact to one part in count
    actions, log_probs = sample(np.repeat(logits, count, axis=0), draws)
    np.testing.assert_allclose(np.bincount(actions, minlength=5) / count, p, atol=2 / count)
    np.testing.assert_allclose(log_probs, np.log(p[actions]), atol=1e-6)


def test_the_ends_of_the_uniform_range_never_pick_a_masked_action() -> None:
    logits = np.array([[MASKED, 0.3, MASKED, 0.1, MASKED]], dtype=np.float32)
    assert sample(logits, np.array([0.0]))[0][0] == 1
    assert sample(logits, np.array([np.nextafter(1.0, 0.0)]))[0][0] == 3


def test_moments_merged_in_parts_equal_the_moments_of_all() -> None:
    data = rows(1000, 3).astype(np.float64) + np.array([0.0, 1e6, 5.0])
    moments = Moments(3)
    for part in (data[:1], data[1:17], data[17:400], data[400:]):
        moments.merge(len(part), part.mean(axis=0), part.var(axis=0))
    np.testing.assert_allclose(moments.mean, data.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(moments.deviation, data.std(axis=0), rtol=1e-7)
    other = Moments(3)
    other.set_state(moments.get_state())
    np.testing.assert_array_equal(other.deviation, moments.deviation)


def test_a_column_that_never_moved_is_ignored_and_outliers_are_clipped() -> None:
    moments = Moments(2)
    moments.update(np.column_stack([np.full(50, 7.0), np.arange(50.0)]))
    out = Normaliser.of(moments, clip=5.0)(np.array([[7.0, 1e9], [800.0, -1e9]]))
    np.testing.assert_array_equal(out, [[0.0, 5.0], [0.0, -5.0]])
    fresh = Normaliser.of(Moments(2))  # before anything was observed nothing is known to stand still
    np.testing.assert_array_equal(fresh(np.array([[1.0, -2.0]])), [[1.0, -2.0]])


def test_initial_weights_are_orthogonal_and_belong_to_the_seed() -> None:
    one, again, other = (initial_weights(30, 7, seed=seed) for seed in (1, 1, 2))
    for name in shapes(30, 7):
        np.testing.assert_array_equal(one[name], again[name])
    assert (one["policy.0.weight"] != other["policy.0.weight"]).all()
    assert (one["policy.1.weight"] != one["value.1.weight"]).all()
    square = one["policy.1.weight"]
    np.testing.assert_allclose(square @ square.T, 2 * np.eye(64), atol=1e-5)
    assert np.abs(one["policy.2.weight"]).max() <= 0.01


@pytest.mark.parametrize(
    ("observation", "mask", "words"),
    [
        (np.zeros(19), np.ones(9), r"shape \(19,\), expected \(20,\)"),
        (np.zeros(20), np.zeros(9), "mask allows no action"),
        (np.where(np.arange(20) == 3, np.nan, 0.0), np.ones(9), r"not finite in columns \[3\]"),
    ],
)
def test_what_cannot_be_decided_is_refused(observation: np.ndarray, mask: np.ndarray, words: str) -> None:
    with pytest.raises(PolicyError, match=words):
        policy().act(observation, mask)
    with pytest.raises(PolicyError):
        policy().act_batch(np.stack([np.zeros_like(observation), observation]), np.stack([mask, mask]))


def test_sampling_without_a_uniform_is_refused() -> None:
    with pytest.raises(PolicyError, match="needs uniform"):
        policy().act(np.zeros(20), greedy=False)


def test_damaged_weights_are_refused() -> None:
    good = initial_weights(4, 3)
    with pytest.raises(PolicyError, match=r"missing arrays \['value.0.bias'\]"):
        Policy({name: w for name, w in good.items() if name != "value.0.bias"})
    with pytest.raises(PolicyError, match=r"policy.1.weight: shape \(64, 63\)"):
        Policy(good | {"policy.1.weight": np.zeros((64, 63))})
    with pytest.raises(PolicyError, match=r"value\.2\.bias: holds NaN"):
        Policy(good | {"value.2.bias": np.array([np.nan])})


@pytest.mark.timing
def test_one_decision_takes_less_than_50_microseconds() -> None:
    p = policy(60, 14)
    observation, mask = rows(1, 60)[0], np.ones(14, dtype=np.int8)
    best = float("inf")
    for _ in range(20):
        start = time.perf_counter()
        for _ in range(200):
            p.act(observation, mask)
        best = min(best, (time.perf_counter() - start) / 200)
    assert best < 50e-6
