"""Fixed plans on known runs, against a simulation by hand and against the exact sequential plans."""

from __future__ import annotations

from itertools import permutations, product
from typing import Any

import numpy as np
import pytest

from brownout.envs.sequential import Attempts, score
from brownout.errors import TableError
from brownout.trainers.fixed_plans import KnownRuns, ordered_partitions, play_waves

RNG = np.random.default_rng(5)


def known(tasks: int = 6, configs: int = 3, repeats: int = 3) -> KnownRuns:
    shape = (tasks, configs, repeats)
    names = tuple("abcdef"[:configs])
    right = RNG.random(shape) < RNG.random((tasks, configs, 1))
    return KnownRuns("made up", True, names, names, right, RNG.random(shape) + 0.1, 10 * RNG.random(shape) + 1)


def by_hand(runs: KnownRuns, waves: Any, task: int) -> tuple[float, float, float, float]:
    """Play every draw of samples call by call and average."""
    members = [k for wave in waves for k in wave]
    totals = []
    for samples in product(range(runs.right.shape[2]), repeat=len(members)):
        pairs = list(zip(members, samples, strict=True))
        if len(set(pairs)) < len(pairs):
            continue  # without replacement
        left, clock, cost, full, solved = iter(pairs), 0.0, 0.0, 0.0, 0.0
        for wave in waves:
            calls = [next(left) for _ in wave]
            lengths = [runs.latency_s[task, k, j] for k, j in calls]
            wins = [length for (k, j), length in zip(calls, lengths, strict=True) if runs.right[task, k, j]]
            until = min(wins) if wins else max(lengths)
            for (k, j), length in zip(calls, lengths, strict=True):
                cost += runs.cost_usd[task, k, j] * min(1.0, until / length)
                full += runs.cost_usd[task, k, j]
            clock += until
            if wins:
                solved = 1.0
                break
        totals.append((solved, cost, full, clock))
    return tuple(np.mean(totals, axis=0))


@pytest.mark.parametrize("waves", [[[0]], [[0, 1, 2]], [[2], [0, 1]], [[1, 1], [0], [1]], [[0], [0], [0]]], ids=str)
def test_every_figure_is_that_of_a_simulation(waves: Any) -> None:
    runs = known()
    played = play_waves(runs, waves)
    for task in range(len(runs.right)):
        got = [getattr(played, name)[task] for name in ("success", "cost_usd", "cost_uncancelled_usd", "latency_s")]
        assert got == pytest.approx(by_hand(runs, waves, task)), task


@pytest.mark.parametrize("plan", [(0, 1, 2), (1, 1, 0), (2, 2, 2)], ids=str)
def test_one_call_at_a_time_is_the_sequential_plan(plan: tuple[int, ...]) -> None:
    runs = known(20)
    counts = np.full(runs.right.shape[:2], 3)
    exact = score(plan, Attempts.of(runs.right.astype(float), runs.cost_usd, runs.latency_s, counts))
    played = play_waves(runs, [[k] for k in plan])
    for mine, theirs in ((played.success, exact.success), (played.cost_usd, exact.cost_usd),
                         (played.latency_s, exact.latency_s)):  # fmt: skip
        assert mine == pytest.approx(theirs)


def test_success_does_not_depend_on_the_plan_and_parallel_is_fast_and_dear() -> None:
    runs = known(30)
    plans = list(ordered_partitions([0, 1, 2]))
    assert len(set(plans)) == 13
    assert all(sorted(k for wave in plan for k in wave) == [0, 1, 2] for plan in plans)
    assert {tuple((k,) for k in order) for order in permutations(range(3))} <= set(plans)
    played = {plan: play_waves(runs, plan) for plan in plans}
    for figures in played.values():
        assert figures.success == pytest.approx(played[plans[0]].success)
        assert (figures.cost_usd <= figures.cost_uncancelled_usd + 1e-12).all()
        assert (figures.latency_s >= played[((0, 1, 2),)].latency_s - 1e-12).all()


def test_more_calls_than_runs_are_refused() -> None:
    with pytest.raises(TableError, match="b has 3 runs; got 4 calls"):
        play_waves(known(), [[1, 1], [1, 1]])
