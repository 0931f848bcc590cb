"""Exact sequential plans against explicit enumeration of queries and sample orders."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brownout.envs.sequential import (
    Attempts,
    ExactPlanner,
    Plan,
    exact_plan,
    greedy_plan,
    index_plan,
    oracle_points,
    score,
)
from brownout.errors import TableError

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@st.composite
def tables(draw: Any, q: int = 4, k: int = 2, r: int = 3) -> Arrays:
    """Small random tables, with ragged numbers of samples."""
    cells = st.lists(st.integers(0, 1), min_size=q * k * r, max_size=q * k * r)
    prices = st.lists(st.integers(0, 9), min_size=q * k * r, max_size=q * k * r)
    success = np.array(draw(cells), dtype=float).reshape(q, k, r)
    cost = np.array(draw(prices), dtype=float).reshape(q, k, r) / 4
    latency = np.array(draw(prices), dtype=float).reshape(q, k, r)
    n = np.array(draw(st.lists(st.integers(1, r), min_size=q * k, max_size=q * k))).reshape(q, k)
    return success, cost, latency, n


def played(plan: Plan, table: Arrays) -> tuple[float, float, float]:
    """Mean success, cost and latency of a plan over every query and every order of its samples."""
    success, cost, latency, n = table
    totals = np.zeros(3)
    for q in range(len(success)):
        orders = [list(itertools.permutations(range(n[q, k]))) for k in range(success.shape[1])]
        worlds = list(itertools.product(*orders))
        for world in worlds:
            used = [0] * success.shape[1]
            for k in plan:
                if used[k] >= n[q, k]:
                    continue
                sample = world[k][used[k]]
                used[k] += 1
                totals[1] += cost[q, k, sample] / len(worlds)
                totals[2] += latency[q, k, sample] / len(worlds)
                if success[q, k, sample]:
                    totals[0] += 1 / len(worlds)
                    break
    return tuple(totals / len(success))


def attempts_of(table: Arrays) -> Attempts:
    return Attempts.of(*table)


@given(tables(), st.lists(st.integers(0, 1), max_size=6))
@settings(max_examples=40, deadline=None)
def test_the_score_of_any_plan_is_its_mean_over_all_worlds(table: Arrays, plan: list[int]) -> None:
    result = score(tuple(plan), attempts_of(table))
    wanted = played(tuple(plan), table)
    assert result.success.mean() == pytest.approx(wanted[0], abs=1e-12)
    assert result.cost_usd.mean() == pytest.approx(wanted[1], abs=1e-12)
    assert result.latency_s.mean() == pytest.approx(wanted[2], abs=1e-12)


@given(tables(), st.floats(0.1, 20.0))
@settings(max_examples=40, deadline=None)
def test_no_sequence_of_calls_beats_the_exact_plan(table: Arrays, prize: float) -> None:
    attempts = attempts_of(table)
    value, plan = ExactPlanner(attempts).solve(prize)
    best = max(
        prize * played(sequence, table)[0] - played(sequence, table)[1]
        for length in range(5)
        for sequence in itertools.product(range(2), repeat=length)
    )
    assert value >= best - 1e-9
    assert score(plan, attempts).value(prize) == pytest.approx(value, abs=1e-9)


@given(tables(k=3), st.floats(0.1, 20.0))
@settings(max_examples=40, deadline=None)
def test_rules_of_thumb_never_beat_the_exact_plan_in_sample(table: Arrays, prize: float) -> None:
    attempts = attempts_of(table)
    value = ExactPlanner(attempts).solve(prize)[0]
    for rule in (greedy_plan, index_plan):
        assert score(rule(attempts, prize), attempts).value(prize) <= value + 1e-9


def test_repeats_of_a_hopeless_query_are_not_taken_for_fresh_draws() -> None:
    # Half the queries are always solved, half never: a second call can never help.
    success = np.zeros((2, 1, 4))
    success[0] = 1.0
    attempts = Attempts.of(success, np.full((2, 1, 4), 0.1), np.ones((2, 1, 4)), np.full((2, 1), 4))
    assert exact_plan(attempts, 1.0) == (0,)
    assert greedy_plan(attempts, 1.0) == (0,)
    assert index_plan(attempts, 1.0, once=False) == (0, 0, 0, 0)


def test_independent_configurations_give_weitzmans_order() -> None:
    # p = 1/2 at 0.1 and p = 1/2 at 0.3, independent over four queries
    success = np.array([[[1], [1]], [[1], [0]], [[0], [1]], [[0], [0]]], dtype=float)
    cost = np.broadcast_to(np.array([0.3, 0.1])[None, :, None], (4, 2, 1)).copy()
    attempts = Attempts.of(success, cost, np.ones_like(cost), np.ones((4, 2), dtype=int))
    value, plan = ExactPlanner(attempts).solve(1.0)
    assert plan == index_plan(attempts, 1.0) == (1, 0)
    assert value == pytest.approx((0.5 - 0.1) + 0.5 * (0.5 - 0.3))
    assert exact_plan(attempts, 0.5) == (1,)
    assert exact_plan(attempts, 0.1) == ()


def test_the_oracle_picks_the_cheapest_that_solves_each_query() -> None:
    success = np.array([[[1], [1]], [[0], [1]], [[0], [0]]], dtype=float)
    cost = np.broadcast_to(np.array([1.0, 3.0])[None, :, None], (3, 2, 1)).copy()
    attempts = Attempts.of(success, cost, np.ones_like(cost), np.ones((3, 2), dtype=int))
    assert oracle_points(attempts, [100.0]) == [(pytest.approx(4 / 3), pytest.approx(2 / 3))]


def test_too_many_states_are_refused_with_the_number() -> None:
    shape = (2, 8, 4)
    attempts = Attempts.of(np.zeros(shape), np.ones(shape), np.ones(shape), np.full((2, 8), 4))
    with pytest.raises(TableError, match="390625 states; allowed: 20000"):
        ExactPlanner(attempts)
