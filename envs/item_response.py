"""Exact dynamic programming for tasks of the item-response model, with a judge that may err.

The optimal policy knows the class and the hint of a task, and the verdicts on the answers it has bought. Given
difficulty ``d`` the likelihood of the verdicts factorises over families, and inside a family, given its latent, over
configurations; with ``A = t p + f (1 - p)`` the chance that a call's answer is accepted and ``B = 1 - A``,

    m(r, a) = sum_d w(d) prod_families E prod_k E[ B_k^r_k A_k^a_k | d ]

is the mass of the state "``r_k`` answers of configuration ``k`` rejected, ``a_k`` accepted", ``w(d)`` the chance of a
difficulty together with the hint at hand. As ``p = (A - f) / (t - f)``, masses of neighbouring states give the chance
that an accepted, a rejected or a fresh answer is right, and the value times the mass obeys

    U(s) = max( m(s) max(0, person),  submit(s),  max_k [ -c_k m(s) + max( blind_k(s),
                -c_v m(s) + U(s + accepted_k) + U(s + rejected_k) ) ] )

with ``c_v`` the price of a verdict and ``blind`` the value of submitting the fresh answer without one. This is the
POMDP of AutoMix (Aggarwal et al. 2023, arXiv:2310.12963) with costs; with a perfect judge it is the dynamic programme
over failure counts, and with independent attempts Weitzman's rule. An answer without a verdict tells nothing, so a
policy loses nothing by calling only for an answer that it will judge or submit next.

Integrals are over the very quantile tables that the environment samples: the latents by Gaussian quadrature of the
table's distribution, difficulty by the means of cells of equal chance, the hint by bins. A policy that sees the bin
only cannot do better than one that sees the hint, so binning errs downwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod

import numpy as np
from numpy.typing import NDArray

from ..errors import PolicyError
from ..rewards import WeightedSum
from ..scenarios.schema import Judge, ModelTasks, Person
from .quantiles import QuantileTable, logistic, normal
from .router_core import RouterCore
from .sequential import MAX_STATES

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

ABSTAIN, ESCALATE, SUBMIT = -1, -2, -3
"""Decisions that end an episode; others are the configuration to call."""


@dataclass(frozen=True)
class Grid:
    """How finely latents (Gauss nodes), difficulty (cells, a divisor of 1024) and hints (bins) are resolved."""

    latent: int = 16
    difficulty: int = 256
    hint: int = 128


@dataclass(frozen=True, eq=False)
class ItemResponse:
    """What a policy can gain on tasks of the item-response model, in utility.

    Args:
        share: ``(C,)`` chance of each class.
        mean: ``(C,)`` mean difficulty, logits.
        sd: ``(C,)`` its standard deviation.
        skill: ``(K, C)`` skill, logits.
        family: ``(K,)`` number of each configuration's family.
        family_sd: standard deviation of the family latent.
        configuration_sd: ``(K,)`` standard deviation of each configuration's latent.
        hint_sd: noise of the hint; None for no hint.
        calls: ``(K,)`` calls of each configuration at most.
        max_calls: calls in all at most.
        price: ``(K,)`` expected price of a call.
        judge: expected price of a verdict; None for no judge.
        true_positive: chance that a right answer is accepted.
        false_positive: chance that a wrong answer is accepted.
        right: value of submitting a right answer.
        wrong: value of submitting a wrong answer.
        handoff: expected value of handing over; minus infinity without a person.
        strength: ``(K,)`` success rates by which the environment ranks answers with the same verdict.
    """

    share: F64
    mean: F64
    sd: F64
    skill: F64
    family: I64
    family_sd: float
    configuration_sd: F64
    hint_sd: float | None
    calls: I64
    max_calls: int
    price: F64
    judge: float | None
    true_positive: float
    false_positive: float
    right: float
    wrong: float
    handoff: float
    strength: F64

    @property
    def sure(self) -> bool:
        """Whether an accepted answer is certainly right, so that nothing follows it but its submission."""
        return self.false_positive == 0.0

    @property
    def symbols(self) -> list[int]:
        """Number of verdict histories of each configuration: rejections, or pairs with acceptances."""
        return [int(n) + 1 if self.sure else int((n + 1) * (n + 2) // 2) for n in self.calls]

    def without_judge(self) -> ItemResponse:
        """The same tasks without a judge: nothing is ever learned, so one answer is all that can be of use."""
        return replace(
            self, judge=None, true_positive=1.0, false_positive=0.0, calls=np.minimum(self.calls, 1), max_calls=1
        )


def limits_bind(core: RouterCore, calls: int) -> str | None:
    """Return which limit could end an episode of ``calls`` judged calls early, or None when none can.

    The dearest and slowest draws are taken together, so the answer holds for every episode.
    """
    spec, limits = core.spec, core.spec.limits
    given = {column.name: column.low for column in core.preference_source.columns}
    if core.max_steps < 3 * calls + 1:
        return f"limits.max_steps: {core.max_steps} is below 3 steps per call and one to end, {3 * calls + 1}"
    entries = spec.portfolio.values()
    for field, soft, most in (
        ("cost_usd", not core.ends_on_budget, given["budget_usd"]),
        ("latency_s", not core.ends_on_deadline, given["deadline_s"]),
    ):
        highs = [getattr(entry, field).table().high for entry in entries for _ in range(entry.max_calls)]
        worst = sum(sorted(highs, reverse=True)[:calls])
        if spec.judge is not None:
            worst += calls * getattr(spec.judge, field).table().high
        name = "budget_usd" if field == "cost_usd" else "deadline_s"
        if not soft and worst >= most:
            return f"limits.{name}: {most:g} can be reached, up to {worst:.6g} may be used"
    if limits.on_deadline == "soft" and getattr(core.reward_function, "late_per_s", 0.0) > 0.0:
        return "reward.late_per_s: late seconds are charged"
    return None


def _refusal(core: RouterCore, reason: str) -> PolicyError:
    return PolicyError(f"{core.scenario.name}, profile {core.profile}: no exact optimum: {reason}")


def _obstacle(core: RouterCore) -> str | None:
    """What else is in a scenario with modelled tasks that makes the dynamic programme inexact, if anything."""
    spec = core.spec
    assert isinstance(spec.tasks, ModelTasks)
    if core.plan is not None:
        return "faults can strike; take the profile clean or intensity 0"
    if spec.repair is not None:
        return "repair: answers can be repaired"
    if spec.quality is not None:
        return "quality: answers are not just right or wrong"
    if spec.judges is not None:
        return "judges: there are several"
    if spec.judge is not None and spec.judge.correlation > 0.0 and spec.judge.false_positive > 0.0:
        return "judge.correlation: verdicts on like answers are alike"
    if spec.tasks.ceiling is not None:
        return "tasks.ceiling: some tasks are beyond every configuration"
    if spec.tasks.drift is not None:
        return "tasks.drift: the mix of classes moves with the episode"
    if spec.tasks.effort is not None:
        return "tasks.effort: what a call costs tells of the next one"
    for name, entry in spec.portfolio.items():
        if entry.wrong is not None:
            return f"portfolio.{name}.wrong: what a call costs tells whether it is right"
    for name in core.preference_source.sampled:
        return f"preferences.{name} is drawn per episode"
    per_s = next(column.low for column in core.preference_source.columns if column.name == "per_s")
    instant = spec.judge is None or spec.judge.latency_s.table().high == 0.0
    if per_s > 0.0 and not (spec.limits.max_parallel == 1 and instant):
        return "reward.per_s: time has a price, so calls side by side may beat any sequence"
    return None


def item_response_of(core: RouterCore) -> ItemResponse:
    """The problem that a core's scenario and profile pose.

    Raises:
        PolicyError: with the reason, where dynamic programming would not be exact.
    """
    spec, reward = core.spec, core.reward_function
    tasks, judge, person = spec.tasks, spec.judge, spec.person
    if not isinstance(tasks, ModelTasks):
        raise _refusal(core, "tasks come from a table")
    if not isinstance(reward, WeightedSum):
        raise _refusal(core, "reward.kind is not weighted-sum")
    entries = list(spec.portfolio.values())
    calls = np.array([entry.max_calls for entry in entries], dtype=np.int64)
    most = min(core.max_calls, int(calls.sum()))
    reason = _obstacle(core) or limits_bind(core, most)
    if reason is not None:
        raise _refusal(core, reason)
    given = {column.name: column.low for column in core.preference_source.columns}
    per_usd, per_s = given["per_usd"], given["per_s"]

    def price(service: Judge | Person) -> float:
        return per_usd * service.cost_usd.table().mean + per_s * service.latency_s.table().mean

    problem = ItemResponse(
        share=tasks.mixes[0],
        mean=np.array([tasks.difficulty[c][0] for c in tasks.classes]),
        sd=np.array([tasks.difficulty[c][1] for c in tasks.classes]),
        skill=np.array(
            [[e.skill[c] if isinstance(e.skill, dict) else e.skill for c in tasks.classes] for e in entries]
        ),
        family=core.family_of,
        family_sd=tasks.family_sd,
        configuration_sd=np.array([tasks.configuration_sd if e.latent_sd is None else e.latent_sd for e in entries]),
        hint_sd=tasks.hint_sd,
        calls=np.minimum(calls, most),
        max_calls=most,
        price=per_usd * core.source.expected_cost + per_s * core.source.expected_latency,
        judge=None if judge is None else price(judge),
        true_positive=0.0 if judge is None else judge.true_positive,
        false_positive=0.0 if judge is None else judge.false_positive,
        right=reward.accuracy,
        wrong=reward.wrong_answer,
        handoff=-np.inf if person is None else reward.handoff * person.accuracy - price(person),
        strength=core.strength,
    )
    if problem.true_positive == problem.false_positive:
        problem = problem.without_judge()  # verdicts are noise
    errs = problem.judge is not None and not (problem.sure and problem.true_positive == 1.0)
    if errs and len(set(problem.strength.tolist())) < len(calls):
        reason = "two configurations have the same strength, so the order of calls decides which answer is best"
        raise _refusal(core, reason)
    return problem


# ---------------------------------------------------------------- grids


@lru_cache(maxsize=16)
def gauss_nodes(n: int) -> tuple[F64, F64]:
    """Nodes and weights of the ``n``-point Gaussian quadrature for the table of the standard normal distribution.

    Source: Golub and Welsch (1969), with the recurrence from Stieltjes' procedure on the table's 1,024 uniform
    pieces, two points each.
    """
    values = normal().values
    x = (values[:-1, None] + np.diff(values)[:, None] * (0.5 + np.array([-0.5, 0.5]) / np.sqrt(3.0))).ravel()
    before, now = np.zeros_like(x), np.ones_like(x)
    centre, off, norm = np.zeros(n), np.zeros(n), 1.0
    for i in range(n):
        centre[i] = (x * now**2).mean() / norm
        before, now = now, (x - centre[i]) * now - off[i - 1] ** 2 * before if i else x - centre[i]
        size = float((now**2).mean())
        off[i], norm = np.sqrt(size / norm), size
    nodes, vectors = np.linalg.eigh(np.diag(centre) + np.diag(off[:-1], 1) + np.diag(off[:-1], -1))
    return nodes, vectors[0] ** 2


def cumulative(table: QuantileTable, x: F64) -> F64:
    """Chance that a sample of a table is at most ``x``."""
    return np.interp(x, table.values, np.linspace(0.0, 1.0, table.values.size))


def cells(n: int) -> F64:
    """Means of the standard normal table in ``n`` cells of equal chance."""
    values = normal().values
    return (0.5 * (values[:-1] + values[1:])).reshape(n, -1).mean(axis=1)


def hint_edges(problem: ItemResponse, c: int, bins: int) -> F64:
    """Edges between the bins of the hint in class ``c``: none where it tells nothing."""
    if problem.hint_sd is None or problem.sd[c] == 0.0:
        return np.zeros(0)
    spread = np.hypot(problem.sd[c], problem.hint_sd)
    edges = problem.mean[c] + spread * np.quantile(normal().values, np.arange(1, bins) / bins)
    return np.unique(np.clip(edges, -8.0, 8.0))  # where the environment clips the hint


def joint_weights(problem: ItemResponse, c: int, grid: Grid) -> tuple[F64, F64, F64]:
    """Difficulties ``(D,)``, the chance of each together with each bin ``(D, H)``, and the edges ``(H - 1,)``."""
    edges = hint_edges(problem, c, grid.hint)
    z = cells(grid.difficulty) if problem.sd[c] > 0.0 else np.zeros(1)
    difficulty = problem.mean[c] + problem.sd[c] * z
    distance = edges[None, :] - difficulty[:, None]
    exact = problem.hint_sd is None or problem.hint_sd == 0.0
    below = (distance > 0.0) * 1.0 if exact else cumulative(normal(), distance / problem.hint_sd)
    ends = np.zeros((len(z), 1))
    return difficulty, np.diff(np.hstack([ends, below, ends + 1.0]), axis=1) / len(z), edges


# ---------------------------------------------------------------- states


class States:
    """The states of a problem: mixed-radix numbers of one verdict history per configuration.

    ``rejected``, ``accepted`` and ``total`` are ``(S, K)`` counts; ``place`` is the ``(K,)`` weight of each
    configuration's digit, ``levels`` the states by number of calls.
    """

    def __init__(self, problem: ItemResponse) -> None:
        sizes = problem.symbols
        self.histories = [_histories(int(n), problem.sure) for n in problem.calls]
        self.place = np.cumprod([1, *sizes[:-1]])
        digits = (np.arange(prod(sizes))[:, None] // self.place) % np.array(sizes)
        self.digits = digits
        self.rejected = np.stack([h[digits[:, k], 0] for k, h in enumerate(self.histories)], axis=1)
        self.accepted = np.stack([h[digits[:, k], 1] for k, h in enumerate(self.histories)], axis=1)
        self.total = self.rejected + self.accepted
        level = self.total.sum(axis=1)
        self.levels = [np.flatnonzero(level == n) for n in range(problem.max_calls + 1)]
        self._sure = problem.sure

    def after_rejection(self, rows: I64, k: int) -> I64:
        """The states with one more rejected answer of ``k``."""
        return rows + self.place[k] * (1 if self._sure else self.total[rows, k] + 1)

    def after_acceptance(self, rows: I64, k: int) -> I64:
        """The states with one more accepted answer of ``k``; only where accepted answers may be wrong."""
        return rows + self.place[k] * (self.total[rows, k] + 2)

    def before_rejection(self, rows: I64, k: int) -> I64:
        """The states with one rejected answer of ``k`` less."""
        return rows - self.place[k] * (1 if self._sure else self.total[rows, k])

    def before_acceptance(self, rows: I64, k: int) -> I64:
        """The states with one accepted answer of ``k`` less."""
        return rows - self.place[k] * (self.total[rows, k] + 1)


def _histories(calls: int, sure: bool) -> I64:
    """``(P, 2)`` counts of rejected and accepted answers, by total and then by acceptances."""
    if sure:
        return np.array([(n, 0) for n in range(calls + 1)])
    return np.array([(n - a, a) for n in range(calls + 1) for a in range(n + 1)])


def _masses(problem: ItemResponse, states: States, c: int, difficulty: F64, weights: F64, grid: Grid) -> F64:
    """``(S, H)`` mass of every state in class ``c`` together with every bin of the hint."""
    z, z_weight = gauss_nodes(grid.latent) if problem.configuration_sd.any() else (np.zeros(1), np.ones(1))
    y, y_weight = gauss_nodes(grid.latent) if problem.family_sd else (np.zeros(1), np.ones(1))
    tables, index = [], []
    for name in np.unique(problem.family):
        members = np.flatnonzero(problem.family == name)
        parts = []
        for k in members:
            margin = problem.skill[k, c] - difficulty[:, None] + problem.family_sd * y
            margin = margin[:, :, None] + problem.configuration_sd[k] * z
            chance = 1.0 - cumulative(logistic(), -margin)
            accept = problem.false_positive + (problem.true_positive - problem.false_positive) * chance
            rows = [((1.0 - accept) ** r * accept**a) @ z_weight for r, a in states.histories[k]]
            parts.append(np.stack(rows, axis=1))  # (D, P, Y)
        half = (len(parts) + 1) // 2
        one, two = _outer(parts[:half]), _outer(parts[half:]) if len(parts) > 1 else np.ones((1, 1, len(y)))
        tables.append(((two * y_weight) @ one.transpose(0, 2, 1)).reshape(len(difficulty), -1).T)
        place = np.cumprod([1, *(len(states.histories[k]) for k in members[:-1])])
        index.append(states.digits[:, members] @ place)
    mass = np.zeros((len(states.digits), weights.shape[1]))
    for rows in states.levels:
        likelihood = tables[0][index[0][rows]]
        for table, i in zip(tables[1:], index[1:], strict=True):
            likelihood *= table[i[rows]]
        mass[rows] = likelihood @ weights
    return mass


def _outer(parts: list[F64]) -> F64:
    """Products of ``(D, P, Y)`` tables over all combinations of ``P``, the first part's digit running fastest."""
    out = parts[0]
    for part in parts[1:]:
        out = (part[:, :, None, :] * out[:, None, :, :]).reshape(len(part), -1, part.shape[2])
    return out


# ---------------------------------------------------------------- solution


@dataclass(frozen=True, eq=False)
class Node:
    """What the optimal plan does in the states that it reaches, one entry per state and bin of the hint.

    Args:
        state: ``(n,)`` number of the state.
        bin: ``(n,)`` bin of the hint.
        decision: ``(n,)`` configuration to call, or how to end.
        blind: ``(n,)`` whether the answer is submitted without a verdict.
    """

    state: I64
    bin: I64
    decision: I64
    blind: Bools


@dataclass(frozen=True, eq=False)
class ClassPlan:
    """The optimum of one class of task: its value, the edges between bins of the hint, and the plan."""

    value: float
    edges: F64
    nodes: Node


@dataclass(frozen=True, eq=False)
class Optimum:
    """The optimum of a problem: the expected utility before class and hint are known, and a plan per class."""

    value: float
    problem: ItemResponse
    states: States
    plans: tuple[ClassPlan, ...]


def solve(problem: ItemResponse, grid: Grid | None = None) -> Optimum:
    """Compute the optimum; about a second for 16,000 states and three classes.

    Args:
        problem: what is to be solved.
        grid: resolution; default: twice as fine moves the value by less than 1e-4 of it.
    """
    states = States(problem)
    plans = tuple(_solve_class(problem, states, c, grid or Grid()) for c in range(len(problem.share)))
    value = float(problem.share @ np.array([plan.value for plan in plans]))
    return Optimum(value, problem, states, plans)


def _solve_class(problem: ItemResponse, states: States, c: int, grid: Grid) -> ClassPlan:
    difficulty, weights, edges = joint_weights(problem, c, grid)
    mass = _masses(problem, states, c, difficulty, weights, grid)
    worth = np.zeros_like(mass)
    decision = np.full(mass.shape, ABSTAIN if problem.handoff <= 0.0 else ESCALATE, dtype=np.int16)
    blind = np.zeros(mass.shape, np.bool_)
    stop = max(problem.handoff, 0.0)
    for rows in reversed(states.levels):
        worth[rows] = stop * mass[rows]
        for which, value in _submissions(problem, states, rows, mass):
            better = value > worth[which]
            worth[which] = np.where(better, value, worth[which])
            decision[which] = np.where(better, SUBMIT, decision[which])
        if rows is states.levels[-1]:
            continue
        for k in range(len(problem.calls)):
            which = rows[states.total[rows, k] < problem.calls[k]]
            if which.size:
                value, unseen = _call(problem, states, which, k, mass, worth)
                # a hair, lest rounding prefer a call to an end of the same value
                better = value > worth[which] + 1e-12 * mass[which]
                worth[which] = np.where(better, value, worth[which])
                decision[which] = np.where(better, k, decision[which])
                blind[which] = np.where(better, unseen, blind[which])
    return ClassPlan(float(worth[0].sum()), edges, _trace(problem, states, decision, blind))


def _submissions(problem: ItemResponse, states: States, rows: I64, mass: F64) -> Iterator[tuple[I64, F64]]:
    """States with an answer in hand, and the value of submitting the one that the environment ranks best."""
    t, f = problem.true_positive, problem.false_positive
    if problem.judge is None or (problem.sure and t == 1.0):
        return  # nothing is in hand, or only what is surely wrong
    ranked = np.argsort(-problem.strength, kind="stable")
    for counts, accepted in ((states.accepted, True), (states.rejected, False)):
        left = rows if accepted else rows[(states.accepted[rows] == 0).all(axis=1)]
        for k in ranked:
            held = counts[left, k] > 0
            which, left = left[held], left[~held]
            if not which.size:
                continue
            if accepted:
                right = t * (mass[which] - f * mass[states.before_acceptance(which, k)]) / (t - f)
            else:
                right = (1.0 - t) * ((1.0 - f) * mass[states.before_rejection(which, k)] - mass[which]) / (t - f)
            yield which, problem.right * right + problem.wrong * (mass[which] - right)


def _call(problem: ItemResponse, states: States, rows: I64, k: int, mass: F64, worth: F64) -> tuple[F64, Bools]:
    """Value of calling ``k`` in ``rows``, and where its answer is best submitted without a verdict."""
    t, f = problem.true_positive, problem.false_positive
    here, refused = mass[rows], states.after_rejection(rows, k)
    right = ((1.0 - f) * here - mass[refused]) / (t - f)
    blind = problem.right * right + problem.wrong * (here - right)
    if problem.judge is None:
        return blind - problem.price[k] * here, np.ones(here.shape, np.bool_)
    if problem.sure:
        accepted = max(problem.right, problem.handoff) * (here - mass[refused])
    else:
        accepted = worth[states.after_acceptance(rows, k)]
        blind[(states.accepted[rows] > 0).any(axis=1)] = -np.inf  # the accepted answer would be submitted
    judged = accepted + worth[refused] - problem.judge * here
    return np.maximum(blind, judged) - problem.price[k] * here, blind > judged


def _trace(problem: ItemResponse, states: States, decision: NDArray[np.int16], blind: Bools) -> Node:
    """The states that the plan reaches, level by level."""
    reached = np.zeros(decision.shape, np.bool_)
    reached[0] = True
    found: list[tuple[I64, I64]] = []
    for rows in states.levels:
        at, bins = np.nonzero(reached[rows])
        state = rows[at]
        found.append((state, bins))
        goes_on = (decision[state, bins] >= 0) & ~blind[state, bins]
        for k in range(len(problem.calls)):
            go = goes_on & (decision[state, bins] == k)
            reached[states.after_rejection(state[go], k), bins[go]] = True
            if not problem.sure:
                reached[states.after_acceptance(state[go], k), bins[go]] = True
    state = np.concatenate([pair[0] for pair in found])
    bins = np.concatenate([pair[1] for pair in found])
    return Node(state, bins, decision[state, bins].astype(np.int64), blind[state, bins])


_SOLVED: dict[tuple[str, int, int], Optimum] = {}


def optimum_of(core: RouterCore) -> Optimum:
    """The optimum of a core's scenario and profile, kept for as long as the process lives.

    Raises:
        PolicyError: with the reason, where it cannot be computed exactly.
    """
    problem = item_response_of(core)
    states = prod(problem.symbols)
    if states > MAX_STATES:
        raise _refusal(core, f"{states} states; allowed: {MAX_STATES}. Fewer configurations or max_calls give fewer")
    key = (core.scenario.hash, core.max_steps, core.max_calls)
    if key not in _SOLVED:
        while len(_SOLVED) >= 16:
            del _SOLVED[next(iter(_SOLVED))]
        _SOLVED[key] = solve(problem)
    return _SOLVED[key]


def value_of_judging(core: RouterCore) -> float:
    """What the judge is worth: the optimum with it minus the optimum without.

    Raises:
        PolicyError: with the reason, where they cannot be computed exactly.
    """
    optimum = optimum_of(core)
    return optimum.value - solve(optimum.problem.without_judge()).value
