"""Exact sequential plans on recorded runs: correlated repeats, a judge that does not err.

A query has ``s`` successes among ``r`` recorded samples of a configuration, and samples are played without
replacement in random order. After ``t`` failures of it, the next call succeeds with probability
``s / (r - t)``; the chance of ``t`` failures in a row is ``C(r - s, t) / C(r, t)``. Given the query,
configurations are independent, so the weight of a query in a state (failures per configuration) is a product,
and the value of the best plan obeys

    U(f) = max(0, max_k G_k(f) + U(f + e_k)),   G_k(f) = sum_q w_q(f) (R p_qk(f_k) - c_qk(f_k))

with ``U(f)`` the value times the weight of the queries still unsolved. Without correlation it is Weitzman's
rule. As only failures lead on, a plan is a fixed sequence of configurations with a place to stop.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import TableError

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
MAX_STATES = 20_000
Plan = tuple[int, ...]
"""A plan: the configurations to try in turn until one succeeds, then stop."""


@dataclass(frozen=True, eq=False)
class Attempts:
    """What the ``t``-th call of each configuration brings on each query, given that all before it failed.

    Args:
        survive: ``(Q, K, R + 1)`` chance that the first ``t`` calls all fail.
        chance: ``(Q, K, R)`` chance that call ``t`` succeeds, given ``t`` failures.
        cost: ``(Q, K, R)`` its expected cost, USD.
        latency: ``(Q, K, R)`` its expected latency, seconds.
        weight: ``(Q,)`` weight of each query; sums to 1.
    """

    survive: F64
    chance: F64
    cost: F64
    latency: F64
    weight: F64

    @classmethod
    def of(
        cls,
        success: F64,
        cost_usd: F64,
        latency_s: F64,
        n_samples: I64,
        queries: I64 | None = None,
        configs: Sequence[int] | None = None,
        repeats: int | None = None,
    ) -> Attempts:
        """Condense recorded runs.

        Args:
            success: ``(Q, K, R)`` success of each sample; 0.5 and above counts.
            cost_usd: ``(Q, K, R)`` cost of each sample.
            latency_s: ``(Q, K, R)`` latency of each sample.
            n_samples: ``(Q, K)`` samples recorded.
            queries: which queries; default all.
            configs: which configurations, in this order; default all.
            repeats: calls of one configuration at most; default all recorded.
        """
        q = np.arange(success.shape[0]) if queries is None else np.asarray(queries)
        k = np.arange(success.shape[1]) if configs is None else np.asarray(configs, dtype=np.int64)
        take = np.ix_(q, k)
        won, n = success[take] >= 0.5, n_samples[take][:, :, None]
        there = np.arange(success.shape[2]) < n
        won &= there
        depth = min(repeats or success.shape[2], success.shape[2])
        t = np.arange(depth)
        s = won.sum(axis=2, keepdims=True)
        left = n - t
        possible = (left > 0) & (t <= n - s)
        chance = np.where(possible, s / np.maximum(left, 1), 0.0)
        # a configuration with no sample left cannot solve the query and costs nothing
        survive = np.ones((*s.shape[:2], depth + 1))
        np.cumprod(1.0 - chance, axis=2, out=survive[:, :, 1:])

        def expected(values: F64) -> F64:
            values = np.where(there, np.nan_to_num(values[take]), 0.0)
            good = (values * won).sum(axis=2, keepdims=True) / np.maximum(s, 1)
            bad = (values * ~won).sum(axis=2, keepdims=True) / np.maximum(n - s, 1)
            return np.where(possible, chance * good + (1.0 - chance) * bad, 0.0)

        weight = np.full(len(q), 1.0 / max(len(q), 1))
        return cls(survive, chance, expected(cost_usd), expected(latency_s), weight)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Queries, configurations, repeats."""
        q, k, r = self.chance.shape
        return q, k, r

    def choose(self, configs: Sequence[int]) -> Attempts:
        """The same queries with some of the configurations."""
        c = np.asarray(configs, dtype=np.int64)
        return Attempts(self.survive[:, c], self.chance[:, c], self.cost[:, c], self.latency[:, c], self.weight)


@dataclass(frozen=True, eq=False)
class PlanScore:
    """What a plan does, per query: ``(Q,)`` chance of success, expected cost, latency and calls."""

    success: F64
    cost_usd: F64
    latency_s: F64
    calls: F64
    weight: F64

    @property
    def point(self) -> tuple[float, float]:
        """Mean cost and mean success."""
        return float(self.weight @ self.cost_usd), float(self.weight @ self.success)

    def value(self, prize: float) -> float:
        """``R * success - cost``, mean over queries."""
        return float(self.weight @ (prize * self.success - self.cost_usd))


def score(plan: Plan, attempts: Attempts) -> PlanScore:
    """Play a plan on every query in expectation, exactly."""
    q, k, repeats = attempts.shape
    alive = np.ones(q)
    success, cost, latency, calls = np.zeros(q), np.zeros(q), np.zeros(q), np.zeros(q)
    used = [0] * k
    for j in plan:
        t = used[j]
        if t >= repeats:
            continue
        p = attempts.chance[:, j, t]
        success += alive * p
        cost += alive * attempts.cost[:, j, t]
        latency += alive * attempts.latency[:, j, t]
        calls += alive
        alive = alive * (1.0 - p)
        used[j] += 1
    return PlanScore(success, cost, latency, calls, attempts.weight)


class ExactPlanner:
    """The optimal plan for any prize, by dynamic programming over failure counts.

    Args:
        attempts: the runs to plan on.

    Raises:
        TableError: if there are more than ``MAX_STATES`` states.
    """

    def __init__(self, attempts: Attempts) -> None:
        _, k, r = attempts.shape
        states = (r + 1) ** k
        if states > MAX_STATES:
            raise TableError(
                f"exact plan: {k} configurations with {r} calls each give {states} states; allowed: {MAX_STATES}. "
                "Choose fewer configurations or repeats"
            )
        self._k, self._r = k, r
        self._radix = (r + 1) ** np.arange(k)
        self.counts = (np.arange(states)[:, None] // self._radix) % (r + 1)
        weight = np.repeat(attempts.weight[None, :], states, axis=0)
        for j in range(k):
            weight *= attempts.survive[:, j, :].T[self.counts[:, j]]
        self._win, self._pay = np.full((states, k), -np.inf), np.zeros((states, k))
        for j in range(k):
            open_ = self.counts[:, j] < r
            t = self.counts[open_, j]
            self._win[open_, j] = (weight[open_] * attempts.chance[:, j, :].T[t]).sum(axis=1)
            self._pay[open_, j] = (weight[open_] * attempts.cost[:, j, :].T[t]).sum(axis=1)
        level = self.counts.sum(axis=1)
        self._levels = [np.flatnonzero(level == n) for n in range(int(level.max()), -1, -1)]

    def solve(self, prize: float) -> tuple[float, Plan]:
        """Return the value of the best plan and the plan, for one prize ``R`` in USD."""
        gain = np.where(np.isfinite(self._win), prize * np.nan_to_num(self._win, neginf=0.0) - self._pay, -np.inf)
        value = np.zeros(len(self.counts))
        action = np.full(len(self.counts), -1)
        for rows in self._levels:
            following = np.minimum(rows[:, None] + self._radix, len(value) - 1)
            total = gain[rows] + np.where(np.isfinite(gain[rows]), value[following], 0.0)
            best = total.argmax(axis=1)
            top = total[np.arange(len(rows)), best]
            go = top > 1e-15
            value[rows] = np.where(go, top, 0.0)
            action[rows] = np.where(go, best, -1)
        plan: list[int] = []
        state = 0
        while action[state] >= 0:
            plan.append(int(action[state]))
            state += int(self._radix[action[state]])
        return float(value[0]), tuple(plan)


def exact_plan(attempts: Attempts, prize: float) -> Plan:
    """The optimal plan for one prize."""
    return ExactPlanner(attempts).solve(prize)[1]


def index_plan(attempts: Attempts, prize: float, once: bool = True) -> Plan:
    """Weitzman's order taken as if calls were independent: rising cost per success, while ``R p > c``.

    Args:
        attempts: the runs to plan on.
        prize: value of a success, USD.
        once: each configuration once; otherwise repeats count as fresh draws.
    """
    p, c = attempts.weight @ attempts.chance[:, :, 0], attempts.weight @ attempts.cost[:, :, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(p > 0, c / p, np.inf)
    order = [int(j) for j in np.argsort(ratio, kind="stable") if prize * p[j] > c[j]]
    return tuple(j for j in order for _ in range(1 if once else attempts.shape[2]))


def greedy_plan(attempts: Attempts, prize: float, once: bool = False) -> Plan:
    """The index conditioned on all failures so far: best chance per cost next, while worth its cost."""
    _, k, repeats = attempts.shape
    alive, used, plan = attempts.weight.copy(), [0] * k, []
    limit = 1 if once else repeats
    while alive.sum() > 1e-12:
        best, rate = -1, 0.0
        for j in range(k):
            if used[j] >= limit:
                continue
            win, pay = alive @ attempts.chance[:, j, used[j]], alive @ attempts.cost[:, j, used[j]]
            if prize * win > pay and win / max(pay, 1e-300) > rate:
                best, rate = j, win / max(pay, 1e-300)
        if best < 0:
            break
        plan.append(best)
        alive = alive * (1.0 - attempts.chance[:, best, used[best]])
        used[best] += 1
    return tuple(plan)


def oracle_points(attempts: Attempts, prizes: Iterable[float]) -> list[tuple[float, float]]:
    """One attempt by the best configuration of each query, for each prize: what full context is worth."""
    p, c = attempts.chance[:, :, 0], attempts.cost[:, :, 0]
    rows = np.arange(p.shape[0])
    points = []
    for prize in prizes:
        best = (prize * p - c).argmax(axis=1)
        go = prize * p[rows, best] > c[rows, best]
        points.append((float(attempts.weight @ (c[rows, best] * go)), float(attempts.weight @ (p[rows, best] * go))))
    return points
