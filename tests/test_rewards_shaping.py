"""Shaping leaves the optimum unchanged: exact value iteration with and without, and telescoping."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from brownout.envs.streams import stream_id, uniform
from brownout.errors import RewardError
from brownout.rewards import BestCandidate, PotentialShaping, compile_shaping

F64 = NDArray[np.float64]
STATES, TERMINAL, ACTIONS = 7, 3, 3
SEEDS = range(40)
COLUMNS = ("clock_s", "best_value", "spend_usd")


class Process(NamedTuple):
    """A Markov decision process whose last ``TERMINAL`` states end the episode."""

    transition: F64  # (S, A, S)
    reward: F64  # (S, A, S)
    observation: F64  # (S, D)
    terminal: NDArray[np.bool_]  # (S,)


def draw(name: str, seed: int, *shape: int) -> F64:
    keys = np.arange(int(np.prod(shape)), dtype=np.uint64) + np.uint64(seed * 10_000)
    return uniform(keys, stream_id(f"test.mdp.{name}")).reshape(shape)


def random_process(seed: int) -> Process:
    weight = draw("transition", seed, STATES, ACTIONS, STATES) ** 4
    weight[:, :, -TERMINAL:] += 0.02
    terminal = np.arange(STATES) >= STATES - TERMINAL
    reward = draw("reward", seed, STATES, ACTIONS, STATES) - 0.5
    transition = weight / weight.sum(axis=2, keepdims=True)
    return Process(transition, reward, draw("observation", seed, STATES, len(COLUMNS)), terminal)


def optimal_values(process: Process, reward: F64, gamma: float) -> F64:
    """Q* by value iteration to a fixed point; terminal states are worth zero."""
    value, q = np.zeros(STATES), np.zeros((STATES, ACTIONS))
    for _ in range(3000):
        q = (process.transition * (reward + gamma * value)).sum(axis=2)
        new = np.where(process.terminal, 0.0, q.max(axis=1))
        if np.abs(new - value).max() < 1e-13:
            break
        value = new
    return q[~process.terminal]


def shaped_reward(process: Process, shaping: PotentialShaping, honour_terminal: bool = True) -> F64:
    before, after = (index.ravel() for index in np.indices((STATES, STATES)))
    ended = process.terminal[after] & honour_terminal
    terms = shaping(process.observation[before], process.observation[after], ended)
    return process.reward + terms.reshape(STATES, 1, STATES)


@pytest.mark.parametrize("gamma", [0.9, 0.99, 1.0])
def test_the_optimal_policy_is_unchanged(gamma: float) -> None:
    shaping = PotentialShaping(BestCandidate(weight=3.0), gamma, COLUMNS)
    for seed in SEEDS:
        process = random_process(seed)
        plain = optimal_values(process, process.reward, gamma)
        shaped = optimal_values(process, shaped_reward(process, shaping), gamma)
        assert np.array_equal(plain.argmax(axis=1), shaped.argmax(axis=1))
        potential = shaping.potentials(process.observation)[~process.terminal]
        assert shaped == pytest.approx(plain - potential[:, None], abs=1e-9)


@pytest.mark.parametrize("gamma", [0.9, 1.0])
def test_a_potential_left_on_terminal_states_would_change_it(gamma: float) -> None:
    shaping = PotentialShaping(BestCandidate(weight=3.0), gamma, COLUMNS)
    changed = 0
    for seed in SEEDS:
        process = random_process(seed)
        plain = optimal_values(process, process.reward, gamma)
        wrong = optimal_values(process, shaped_reward(process, shaping, honour_terminal=False), gamma)
        changed += not np.array_equal(plain.argmax(axis=1), wrong.argmax(axis=1))
    assert changed > len(SEEDS) / 4


def test_another_discount_than_the_learners_would_change_it() -> None:
    shaping = PotentialShaping(BestCandidate(weight=3.0), 0.5, COLUMNS)
    changed = 0
    for seed in SEEDS:
        process = random_process(seed)
        plain = optimal_values(process, process.reward, 0.95)
        wrong = optimal_values(process, shaped_reward(process, shaping), 0.95)
        changed += not np.array_equal(plain.argmax(axis=1), wrong.argmax(axis=1))
    assert changed > len(SEEDS) / 4


@pytest.mark.parametrize("terminated", [True, False])
@pytest.mark.parametrize("gamma", [0.97, 1.0])
def test_terms_telescope_over_an_episode(gamma: float, terminated: bool) -> None:
    shaping = PotentialShaping(BestCandidate(weight=0.7), gamma, COLUMNS)
    lanes, steps = 5, 12
    path = draw("path", 1, steps + 1, lanes, len(COLUMNS)).astype(np.float32)
    total = np.zeros(lanes)
    for t in range(steps):
        ended = np.full(lanes, terminated and t == steps - 1)
        total += gamma**t * shaping(path[t], path[t + 1], ended)
    first, last = 0.7 * path[0, :, 1].astype(float), 0.7 * path[-1, :, 1].astype(float)
    expected = -first if terminated else gamma**steps * last - first  # a truncated state keeps its potential
    assert total == pytest.approx(expected)


def test_lanes_are_computed_alone() -> None:
    shaping = PotentialShaping(BestCandidate(), 0.99, COLUMNS)
    before, after = draw("before", 2, 65, len(COLUMNS)), draw("after", 2, 65, len(COLUMNS))
    ended = draw("ended", 2, 65) < 0.3
    whole = shaping(before, after, ended)
    alone = [shaping(before[i : i + 1], after[i : i + 1], ended[i : i + 1])[0] for i in range(65)]
    assert whole.tobytes() == np.array(alone).tobytes()


def test_a_potential_of_ones_own() -> None:
    @dataclass(frozen=True)
    class Thrift:
        columns: ClassVar[tuple[str, ...]] = ("spend_usd", "clock_s")

        def __call__(self, columns: Mapping[str, F64]) -> F64:
            return -columns["spend_usd"] - 0.01 * columns["clock_s"]

    shaping = PotentialShaping(Thrift(), 1.0, COLUMNS)
    terms = shaping(np.array([[10.0, 0, 0.2]]), np.array([[20.0, 0, 0.5]]), np.array([False]))
    assert terms == pytest.approx([-0.4])


@pytest.mark.parametrize(
    ("spec", "gamma", "columns", "parts"),
    [
        ({}, 0.0, COLUMNS, ["shaping.gamma", "0", "above 0"]),
        ({}, 1.1, COLUMNS, ["shaping.gamma", "1.1", "at most 1"]),
        ({}, 0.99, ("clock_s", "best_valu"), ["'best_value'", "did you mean 'best_valu'?", "clock_s"]),
        ({"weight": -1}, 0.99, COLUMNS, ["shaping", "weight", "-1", "at least 0"]),
        ({"kind": "best"}, 0.99, COLUMNS, ["shaping.kind", "'best'", "best-candidate"]),
    ],
)
def test_bad_shaping_is_refused(
    spec: dict[str, object], gamma: float, columns: tuple[str, ...], parts: list[str]
) -> None:
    with pytest.raises(RewardError) as error:
        compile_shaping(spec, gamma, columns)
    assert not [part for part in parts if part not in str(error.value)], str(error.value)
