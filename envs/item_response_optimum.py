"""Exact dynamic programming for tasks of the item-response model, with a judge that may err.

The optimal policy knows the class and the hint of a task, and the verdicts on the answers it has bought. With the mass
``m`` of a state, the chance ``A`` that an answer is accepted (:mod:`brownout.envs.item_response_states`) and the
judge's rates ``t`` and ``f`` of true and false positives an answer is right with ``p = (A - f) / (t - f)``: masses of
neighbouring states give the chance that an accepted, a rejected or a fresh answer is right, and the value times the
mass obeys

    U(s) = max( m(s) max(0, person),  submit(s),  max_k [ -c_k m(s) + max( blind_k(s),
                -c_v m(s) + U(s + accepted_k) + U(s + rejected_k) ) ] )

with ``c_v`` the price of a verdict and ``blind`` the value of submitting the fresh answer without one. This is the
POMDP of AutoMix (Aggarwal et al. 2023, arXiv:2310.12963) with costs; with a perfect judge it is the dynamic programme
over failure counts, and with independent attempts Weitzman's rule. An answer without a verdict tells nothing, so a
policy loses nothing by calling only for an answer that it will judge or submit next.

What follows the plan in an environment is :class:`brownout.envs.optimal.OptimumPolicy`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from .item_response import ItemResponse, item_response_of, refusal
from .item_response_states import Grid, States, joint_weights, masses
from .router_core import RouterCore
from .sequential import MAX_STATES

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

ABSTAIN, ESCALATE, SUBMIT = -1, -2, -3
"""Decisions that end an episode; others are the configuration to call."""


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
    mass = masses(problem, states, c, difficulty, weights, grid)
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
        raise refusal(core, f"{states} states; allowed: {MAX_STATES}. Fewer configurations or max_calls give fewer")
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
