"""Which configurations to keep: forward selection on the value of the policy that will use them.

Selecting by coverage (most newly solved tasks per dollar) picks portfolios that no policy can use well; the
policy's own value is the criterion here. The value is the AIQ of a plan family: the mean height of its
cost-success hull up to the cost of the best single configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..envs.sequential import Attempts, ExactPlanner, Plan, greedy_plan, index_plan, score
from .frontier import aiq

F64 = NDArray[np.float64]
PRIZES: F64 = np.geomspace(0.05, 300.0, 32)
Planner = Callable[[Attempts, Sequence[float]], list[Plan]]
Point = tuple[float, float]


def exact_plans(attempts: Attempts, prizes: Sequence[float]) -> list[Plan]:
    """Optimal plans, one per prize."""
    planner = ExactPlanner(attempts)
    return [planner.solve(float(prize))[1] for prize in prizes]


def greedy_plans(attempts: Attempts, prizes: Sequence[float]) -> list[Plan]:
    """Greedy index plans conditioned on failures, one per prize."""
    return [greedy_plan(attempts, float(prize)) for prize in prizes]


def index_plans(attempts: Attempts, prizes: Sequence[float]) -> list[Plan]:
    """Weitzman's order, each configuration once, one plan per prize."""
    return [index_plan(attempts, float(prize)) for prize in prizes]


def static_plans(attempts: Attempts, prizes: Sequence[float]) -> list[Plan]:
    """The best single configuration for each prize; no call at all where none is worth it."""
    p, c = attempts.weight @ attempts.chance[:, :, 0], attempts.weight @ attempts.cost[:, :, 0]
    plans: list[Plan] = []
    for prize in prizes:
        best = int((float(prize) * p - c).argmax())
        plans.append((best,) if float(prize) * p[best] > c[best] else ())
    return plans


PLANNERS: dict[str, Planner] = {
    "static": static_plans,
    "index": index_plans,
    "greedy": greedy_plans,
    "exact": exact_plans,
}


def points_of(plans: Sequence[Plan], attempts: Attempts) -> list[Point]:
    """Mean cost and success of plans on given queries."""
    known: dict[Plan, Point] = {}
    for plan in plans:
        if plan not in known:
            known[plan] = score(plan, attempts).point
    return [known[plan] for plan in plans]


@dataclass(frozen=True)
class Choice:
    """A portfolio and how it came about.

    Args:
        members: indices of the configurations, in the order of their selection.
        values: value of the policy after each addition.
        build_usd: what trying every configuration on the profiling queries cost, USD.
    """

    members: tuple[int, ...]
    values: tuple[float, ...]
    build_usd: float


def best_single(attempts: Attempts) -> tuple[int, float, float]:
    """Index, mean cost and mean success of the single configuration with the most successes."""
    p, c = attempts.weight @ attempts.chance[:, :, 0], attempts.weight @ attempts.cost[:, :, 0]
    best = int(np.lexsort((c, -p))[0])
    return best, float(c[best]), float(p[best])


def forward_select(
    attempts: Attempts,
    size: int,
    *,
    cost_max: float | None = None,
    planner: Planner = greedy_plans,
    prizes: Sequence[float] = tuple(PRIZES),
    spent_usd: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
) -> Choice:
    """Add, one by one, the configuration that raises the policy's AIQ most; stop early when none does.

    Args:
        attempts: runs of all candidates on the profiling queries.
        size: configurations to keep at most.
        cost_max: cost at which the AIQ's hull ends, USD; default: that of the best single configuration.
        planner: how plans are made from a portfolio.
        prizes: values of a success to plan for, USD.
        spent_usd: what profiling cost, kept in the result.
        progress: called with the candidates tried and their number in each round.
    """
    limit = best_single(attempts)[1] if cost_max is None else cost_max
    members: list[int] = []
    values: list[float] = []
    for _ in range(min(size, attempts.shape[1])):
        tried: list[tuple[float, int]] = []
        rest = [j for j in range(attempts.shape[1]) if j not in members]
        for n, j in enumerate(rest):
            part = attempts.choose([*members, j])
            tried.append((aiq(points_of(planner(part, prizes), part), limit), -j))
            if progress is not None:
                progress(n + 1, len(rest))
        value, j = max(tried)
        if values and value <= values[-1] + 1e-9:
            break
        members.append(-j)
        values.append(value)
    return Choice(tuple(members), tuple(values), spent_usd)
