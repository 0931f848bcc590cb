"""Portfolio choice by the value of the policy that will use it."""

from __future__ import annotations

import numpy as np
import pytest

from brownout.envs.sequential import Attempts
from brownout.trainers.portfolio import PLANNERS, best_single, forward_select, points_of


def attempts_of(solved: list[list[int]], cost: list[float]) -> Attempts:
    """One sample per cell: rows are queries, columns configurations."""
    success = np.array(solved, dtype=float)[:, :, None]
    price = np.broadcast_to(np.array(cost)[None, :, None], success.shape).copy()
    return Attempts.of(success, price, np.ones_like(price), np.ones(success.shape[:2], dtype=int))


def test_a_complement_is_chosen_before_a_better_twin() -> None:
    # 0 and 1 solve the same four queries; 2 solves the other two only.
    solved = [[1, 1, 0]] * 4 + [[0, 0, 1]] * 2
    choice = forward_select(attempts_of(solved, [1.0, 1.1, 1.0]), 3)
    assert choice.members[:2] == (0, 2)
    assert len(choice.members) == 2, "the twin adds nothing and must not be bought"
    assert choice.values[1] > choice.values[0]


def test_what_is_never_worth_its_price_is_left_out() -> None:
    solved = [[1, 1], [1, 0], [0, 0]]
    choice = forward_select(attempts_of(solved, [1.0, 50.0]), 2)
    assert choice.members == (0,)


def test_best_single_prefers_success_then_the_lower_price() -> None:
    assert best_single(attempts_of([[1, 1], [1, 1], [0, 0]], [2.0, 1.0])) == (1, 1.0, pytest.approx(2 / 3))


@pytest.mark.parametrize("name", sorted(PLANNERS))
def test_every_planner_gives_a_plan_per_prize_and_spends_more_for_more(name: str) -> None:
    attempts = attempts_of([[1, 0], [0, 1], [0, 0]], [1.0, 2.0])
    prizes = [0.5, 4.0, 100.0]
    plans = PLANNERS[name](attempts, prizes)
    costs = [cost for cost, _ in points_of(plans, attempts)]
    assert len(plans) == 3
    assert costs == sorted(costs)
    assert plans[0] == ()
