"""What a fitted simulator knows of held-out queries once a call has failed, with and without its cost and time.

For every pair of configurations: how likely is a success of the second on a query where a run of the first was
wrong? Without context the simulator answers with one rate; with context it answers by what the wrong run has
cost and how long it took, through a logistic regression fitted to simulated tasks. The gain in log-likelihood on
recorded, held-out queries is what failed runs tell, as far as the simulator has it right.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..scenarios.schema import RouterScenario
from ..scenarios.tables import RecordedTable
from ..scenarios.tasks import ModelTaskSource
from .goodness import play_calls

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
TASKS = 6000
_RIDGE = 1e-2
_FEWEST = 200  # simulated tasks with a wrong answer, below which a rate is no rate


def foresight(scenario: RouterScenario, table: RecordedTable, configs: Sequence[int], queries: I64) -> F64:
    """Log-likelihood of recorded successes after a wrong answer of another configuration.

    Args:
        scenario: a simulator of the configurations, fitted to other queries.
        table: recorded runs.
        configs: indices of the configurations in the table, in the order of the scenario.
        queries: the queries to score.

    Returns:
        ``(Q, 2)`` mean over pairs of runs, without and with cost and time of the wrong one; NaN for a query on which
        no run was wrong.
    """
    source = ModelTaskSource(scenario)
    usual = source.expected_cost, source.expected_latency
    played = play_calls(scenario, TASKS, 1, profile="clean")
    right = played.right[:, :, 0]
    total, pairs = np.zeros((len(queries), 2)), np.zeros(len(queries))
    for a, first in enumerate(configs):
        wrong = ~right[:, a]
        if wrong.sum() < _FEWEST:
            continue
        design = _design(played.cost_usd[wrong, a, 0], played.latency_s[wrong, a, 0], usual[0][a], usual[1][a])
        there = np.arange(table.success.shape[2]) < table.n_samples[queries, first][:, None]
        row, sample = np.nonzero(there & (table.success[queries, first] < 0.5))
        cell = queries[row], first, sample
        seen = _design(table.cost_usd[cell], table.latency_s[cell], usual[0][a], usual[1][a])
        for b, second in enumerate(configs):
            if a == b:
                continue
            known = np.arange(table.success.shape[2]) < table.n_samples[queries, second][:, None]
            n, wins = known.sum(axis=1), (known & (table.success[queries, second] >= 0.5)).sum(axis=1)
            rate = np.clip(right[wrong, b].mean(), 1e-3, 1.0 - 1e-3)
            chance = np.clip(_sigmoid(seen @ _logistic(design, right[wrong, b])), 1e-3, 1.0 - 1e-3)
            for j, p in enumerate((np.full(len(row), rate), chance)):
                np.add.at(total[:, j], row, wins[row] * np.log(p) + (n - wins)[row] * np.log(1.0 - p))
            np.add.at(pairs, row, n[row])
    with np.errstate(invalid="ignore", divide="ignore"):
        return total / np.where(pairs > 0, pairs, np.nan)[:, None]


def _design(cost: F64, latency: F64, usual_cost: float, usual_latency: float) -> F64:
    """What a policy is shown of a call, bent: 1, cost, time, their squares and product."""
    x = cost / (cost + max(usual_cost, 1e-12)) - 0.5
    y = latency / (latency + max(usual_latency, 1e-12)) - 0.5
    return np.column_stack([np.ones_like(x), x, y, x * x, y * y, x * y])


def _sigmoid(x: F64) -> F64:
    return 1.0 / (1.0 + np.exp(-np.clip(x, -30.0, 30.0)))


def _logistic(design: F64, target: NDArray[np.bool_]) -> F64:
    """Coefficients of a lightly penalised logistic regression, by Newton's method."""
    beta = np.zeros(design.shape[1])
    for _ in range(30):
        p = _sigmoid(design @ beta)
        slope = design.T @ (target - p) - _RIDGE * beta
        curve = (design * (p * (1.0 - p))[:, None]).T @ design + _RIDGE * np.eye(len(beta))
        step = np.linalg.solve(curve, slope)
        beta += step
        if np.abs(step).max() < 1e-8:
            break
    return beta
