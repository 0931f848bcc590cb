"""Weighted sum, lexicographic order and Lagrangian: values by hand, bits in any batch, refusals."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from brownout.envs.streams import stream_id, uniform
from brownout.errors import RewardError
from brownout.rewards import (
    COMPONENT_NAMES,
    COMPONENTS,
    REWARDS,
    Lagrangian,
    Lexicographic,
    Reward,
    WeightedSum,
    compile_reward,
    known_rewards,
)

F64 = NDArray[np.float64]


def draw(name: str, *shape: int) -> F64:
    return uniform(np.arange(int(np.prod(shape)), dtype=np.uint64), stream_id(f"test.{name}")).reshape(shape)


def row(**values: float) -> F64:
    return np.array([[values.get(name, 0.0) for name in COMPONENT_NAMES]])


def preference(n: int) -> dict[str, F64]:
    return {
        "per_usd": 0.1 + draw("per_usd", n),
        "per_s": draw("per_s", n) * 0.01,
        "budget_usd": np.full(n, 1.0),
        "deadline_s": np.full(n, 60.0),
    }


def test_components_are_in_the_published_order() -> None:
    assert COMPONENT_NAMES == ("accuracy", "cost_usd", "latency_s", "late_s", "safety", "handoff")
    assert all(c.unit and c.meaning and c.good in (1, -1) for c in COMPONENTS)


@pytest.mark.parametrize(
    ("components", "expected"),
    [
        (row(accuracy=1), 2.0),
        (row(cost_usd=0.25), -0.75),
        (row(latency_s=10), -0.1),
        (row(late_s=4), -2.0),
        (row(safety=1), -0.7),
        (row(handoff=1), 0.4),
        (row(accuracy=1, cost_usd=0.25, latency_s=10, late_s=4, safety=2, handoff=0.5), -2.05),
    ],
)
def test_weighted_sum_by_hand(components: F64, expected: float) -> None:
    reward = WeightedSum(accuracy=2, per_usd=3, per_s=0.01, late_per_s=0.5, wrong_answer=-0.7, handoff=0.4)
    assert reward(components, {})[0] == pytest.approx(expected)


def test_the_preference_of_an_episode_replaces_the_parameter() -> None:
    components = np.repeat(row(accuracy=1, cost_usd=0.1, latency_s=5), 2, axis=0)
    got = WeightedSum(per_usd=9, per_s=9)(components, {"per_usd": np.array([1.0, 2.0]), "per_s": np.array([0.0, 0.1])})
    assert got == pytest.approx([0.9, 0.3])


@pytest.mark.parametrize("name", known_rewards())
def test_every_reward_has_the_same_bits_in_any_batch(name: str) -> None:
    reward = REWARDS.build({"kind": name}, "reward")
    components, preferences = draw("components", 257, len(COMPONENT_NAMES)), preference(257)
    whole = reward(components, preferences)
    assert whole.shape == (257,)
    assert whole.dtype == np.float64
    assert np.unique(whole).size > 200
    single = [reward(components[i : i + 1], {k: v[i : i + 1] for k, v in preferences.items()})[0] for i in range(257)]
    assert whole.tobytes() == np.array(single).tobytes()
    order = np.argsort(draw("order", 257))
    shuffled = reward(np.asfortranarray(components[order]), {k: v[order] for k, v in preferences.items()})
    assert whole[order].tobytes() == shuffled.tobytes()


@pytest.mark.parametrize("name", known_rewards())
def test_rewards_leave_their_inputs_alone(name: str) -> None:
    components, preferences = draw("components", 5, len(COMPONENT_NAMES)), preference(5)
    before = components.copy(), {key: value.copy() for key, value in preferences.items()}
    REWARDS.build({"kind": name}, "reward")(components, preferences)
    assert np.array_equal(components, before[0])
    assert all(np.array_equal(preferences[key], before[1][key]) for key in preferences)


@pytest.mark.parametrize(
    ("parameters", "parts"),
    [
        ({"per_usd": -1}, ["per_usd", "-1", "at least 0"]),
        ({"wrong_answer": 0.5}, ["wrong_answer", "0.5", "at most 0"]),
        ({"handoff": float("nan")}, ["handoff", "nan", "finite"]),
        ({"per_s": float("inf")}, ["per_s", "inf", "finite"]),
        ({"accuracy": "high"}, ["accuracy", "'high'"]),
        ({"accuracy": True}, ["accuracy", "True"]),
        ({"per_usb": 1}, ["per_usb", "did you mean 'per_usd'?", "late_per_s"]),
        (
            {"kind": "weighted"},
            ["reward.kind", "'weighted'", "did you mean 'weighted-sum'?", "lexicographic"],
        ),
        ({"kind": 7}, ["reward.kind", "7", "weighted-sum"]),
        ({"kind": "lexicographic", "order": ["cost"]}, ["order", "'cost'", "cost_usd"]),
        ({"kind": "lexicographic", "order": ["cost_usd", "cost_usd"]}, ["order", "each once"]),
        ({"kind": "lexicographic", "bounds": {"latency_s": 0}}, ["bounds.latency_s", "0", "above 0"]),
        ({"kind": "lexicographic", "resolution": {"cost_usd": 2}}, ["resolution.cost_usd", "2", "at most 1"]),
        ({"kind": "lagrangian", "constraint": "accuracy"}, ["constraint", "'accuracy'", "cost_usd"]),
        ({"kind": "lagrangian", "rate": 0}, ["rate", "above 0"]),
    ],
)
def test_a_bad_reward_names_field_value_and_what_is_allowed(parameters: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(RewardError) as error:
        compile_reward(parameters, {}, 1.0, 60.0)
    message = str(error.value)
    assert message.startswith("reward")
    assert not [part for part in parts if part not in message], message


def test_direct_construction_is_checked_too() -> None:
    with pytest.raises(RewardError, match="late_per_s"):
        WeightedSum(late_per_s=-0.1)


def test_lexicographic_orders_episodes_as_sorting_by_the_components_does() -> None:
    reward = Lexicographic(
        order=("accuracy", "cost_usd", "latency_s"),
        bounds={"cost_usd": 0.5, "latency_s": 100.0},
        resolution={"accuracy": 1.0, "cost_usd": 0.1, "latency_s": 25.0},
    )
    grid = list(itertools.product((0.0, 1.0), np.arange(6) * 0.1, np.arange(5) * 25.0))
    values = {cell: reward(row(accuracy=cell[0], cost_usd=cell[1], latency_s=cell[2]), {})[0] for cell in grid}
    by_value = sorted(grid, key=lambda cell: values[cell])
    assert by_value == sorted(grid, key=lambda cell: (cell[0], -cell[1], -cell[2]))
    assert reward.weights[0] == 1.0


def test_dual_ascent_finds_the_price_of_the_constraint() -> None:
    # three plans: value and mean cost; the best mix under mean cost 0.2 mixes the first two, price 0.5 / 0.3
    plans = np.array([[0.4, 0.1], [0.9, 0.4], [1.0, 0.8]])
    reward = Lagrangian(limit=0.2, multiplier=0.0, rate=0.05)
    seen = []
    for _ in range(4000):
        scores = [reward(row(accuracy=value, cost_usd=cost), {})[0] for value, cost in plans]
        cost = plans[int(np.argmax(scores)), 1]
        seen.append(cost)
        reward = reward.update(cost)
    assert reward.multiplier == pytest.approx(0.5 / 0.3, rel=0.05)
    assert np.mean(seen[1000:]) == pytest.approx(0.2, rel=0.02)
    assert Lagrangian(multiplier=0.01).update(0.0).multiplier == 0.0


def test_compile_reward_takes_prices_from_the_reward_and_limits_from_the_scenario() -> None:
    reward, preferences = compile_reward({"per_usd": 2, "per_s": 0.5}, {"deadline_s": 9}, 0.25, 60.0)
    assert isinstance(reward, Reward)
    drawn = preferences.sample(np.arange(3, dtype=np.uint64))
    assert {name: values.tolist() for name, values in drawn.items()} == {
        "per_usd": [2.0] * 3,
        "per_s": [0.5] * 3,
        "budget_usd": [0.25] * 3,
        "deadline_s": [9.0] * 3,
    }
    no_prices = compile_reward({"kind": "lexicographic"}, {}, 0.25, 60.0).preferences
    assert no_prices.sample(np.zeros(1, np.uint64))["per_usd"].tolist() == [0.0]
