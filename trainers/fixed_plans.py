"""What a fixed plan does on runs that are known: in sequence, in parallel, in waves; the judge never errs.

A plan is a sequence of waves, each a set of calls that start together. The first right answer ends it and cancels what
still runs: a wave takes ``T = min over right answers of L_j``, or ``max L_j`` where none is right, and costs
``sum_j c_j min(1, T / L_j)``. Waves of one call are the sequential plan, one wave is the parallel one. Repeats of a
configuration are drawn from its runs without replacement, in every order, so the figures are exact expectations for
the runs at hand and carry the correlation of repeats.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray

from ..errors import TableError
from ..scenarios.tables import RecordedTable

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Waves = Sequence[Sequence[int]]


@dataclass(frozen=True, eq=False)
class KnownRuns:
    """Runs of ``K`` configurations on ``Q`` tasks, ``R`` each.

    Args:
        label: where they come from, for people.
        recorded: whether they were recorded, or simulated.
        configs: ``K`` names.
        families: ``K`` makers.
        right: ``(Q, K, R)`` whether the answer was right.
        cost_usd: ``(Q, K, R)`` USD; NaN where unknown.
        latency_s: ``(Q, K, R)`` seconds; NaN where unknown.
    """

    label: str
    recorded: bool
    configs: tuple[str, ...]
    families: tuple[str, ...]
    right: NDArray[np.bool_]
    cost_usd: F64
    latency_s: F64

    @property
    def rate(self) -> F64:
        """``(Q, K)`` share of right answers."""
        return self.right.mean(axis=2)

    def at(self, queries: I64) -> KnownRuns:
        """The same runs on some of the tasks."""
        arrays = (self.right[queries], self.cost_usd[queries], self.latency_s[queries])
        return KnownRuns(self.label, self.recorded, self.configs, self.families, *arrays)

    @classmethod
    def of_table(cls, table: RecordedTable, families: Sequence[str], label: str) -> KnownRuns:
        """The configurations of a table that have all its repeats, everywhere."""
        depth = table.success.shape[2]
        whole = np.flatnonzero((table.n_samples == depth).all(axis=0))
        if whole.size < 3:
            raise TableError(
                f"{table.source}: {whole.size} configurations have {depth} runs on every query; allowed: 3 or more"
            )
        names, makers = (tuple(given[k] for k in whole.tolist()) for given in (table.configs, families))
        right = np.asarray(table.success >= 0.5)[:, whole]
        return cls(label, True, names, makers, right, table.cost_usd[:, whole], table.latency_s[:, whole])


@dataclass(frozen=True, eq=False)
class PlanFigures:
    """A plan on every task: ``(Q,)`` chance of success, cost with and without cancelling, and time."""

    success: F64
    cost_usd: F64
    cost_uncancelled_usd: F64
    latency_s: F64


def play_waves(runs: KnownRuns, waves: Waves) -> PlanFigures:
    """Play a plan of waves on every task.

    Args:
        runs: what calls bring.
        waves: indices of configurations; one named twice is called twice.

    Raises:
        TableError: a configuration is called more often than it has runs.

    >>> one = np.ones((1, 2, 1))
    >>> known = KnownRuns("two", False, ("a", "b"), ("a", "b"), np.array([[[False], [True]]]), one, 4 * one)
    >>> play_waves(known, [[0], [1]]).latency_s, play_waves(known, [[0, 1]]).latency_s
    (array([8.]), array([4.]))
    """
    members = [k for wave in waves for k in wave]
    draws = _draws(runs, members)
    alive = np.ones((len(runs.right), len(draws)))
    success, cost, uncancelled, latency = (np.zeros(alive.shape) for _ in range(4))
    place = 0
    for wave in waves:
        k, j = np.asarray(wave), draws[:, place : place + len(wave)]
        place += len(wave)
        right, price, length = (array[:, k[None, :], j] for array in (runs.right, runs.cost_usd, runs.latency_s))
        until = np.where(right, length, np.inf).min(axis=2)
        until = np.where(np.isfinite(until), until, length.max(axis=2))
        share = np.minimum(1.0, until[:, :, None] / np.maximum(length, 1e-12))
        cost += alive * (price * share).sum(axis=2)
        uncancelled += alive * price.sum(axis=2)
        latency += alive * until
        solved = right.any(axis=2)
        success += alive * solved
        alive *= ~solved
    return PlanFigures(*(array.mean(axis=1) for array in (success, cost, uncancelled, latency)))


def _draws(runs: KnownRuns, members: Sequence[int]) -> I64:
    """``(S, M)`` every way to give the calls runs of their own."""
    depth = runs.right.shape[2]
    count = Counter(members)
    over = [k for k, n in count.items() if n > depth]
    if over:
        raise TableError(f"{runs.label}: {runs.configs[over[0]]} has {depth} runs; got {count[over[0]]} calls")
    ways = [list(permutations(range(depth), n)) for n in count.values()]
    rows = []
    for chosen in product(*ways):
        left = {k: iter(samples) for k, samples in zip(count, chosen, strict=True)}
        rows.append([next(left[k]) for k in members])
    return np.array(rows, dtype=np.int64)


def ordered_partitions(members: Sequence[int]) -> Iterator[tuple[tuple[int, ...], ...]]:
    """Every plan of waves that calls each member once.

    >>> len(list(ordered_partitions([0, 1, 2])))
    13
    """
    if not members:
        yield ()
        return
    for mask in range(1, 2 ** len(members)):
        first = tuple(m for i, m in enumerate(members) if mask >> i & 1)
        rest = [m for i, m in enumerate(members) if not mask >> i & 1]
        yield from ((first, *more) for more in ordered_partitions(rest))
