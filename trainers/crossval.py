"""Nested cross-validation on a recorded table: portfolio and plans fitted on four folds, scored on the fifth.

Every choice that looks at outcomes (which configurations to keep, in which order to call them, when to stop)
is made on the training folds, so the figures are what a user may expect on new queries. The judge is perfect
here; what an imperfect one costs is another question (see ``docs/evaluate.md``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from ..envs.sequential import Attempts, score
from ..envs.streams import stream_id, uniform
from ..errors import TableError, WorkerError
from ..scenarios.tables import RecordedTable
from .frontier import hull_figures
from .portfolio import PLANNERS, PRIZES, best_single, forward_select, greedy_plans
from .statistics import Estimate, bootstrap_estimate, mean

if TYPE_CHECKING:
    from .crossval_trained import TrainedOptions

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
_FOLDS = stream_id("crossval.folds")
_BOOTSTRAP = stream_id("crossval.bootstrap")
FITTED: Final = ("belief", "trained")
METHODS: Final = (*PLANNERS, *FITTED)
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class CrossvalRow:
    """One method: its figures with 95 % bootstrap intervals over queries."""

    method: str
    aiq: Estimate
    success_at_cost: Estimate
    cost_at_success: Estimate


@dataclass(frozen=True)
class CrossvalDifference(CrossvalRow):
    """``method`` minus ``reference`` on the same queries; intervals from the same bootstrap draws of queries."""

    reference: str


@dataclass(frozen=True)
class Crossval:
    """Outcome of a nested cross-validation.

    Args:
        rows: one per method.
        differences: the last method minus each of the others.
        queries: number of queries.
        best: name of the best single configuration on all queries.
        cost_max: its mean cost, USD: where the AIQ's hull ends.
        success: its mean success.
        portfolios: how often each configuration was kept, over folds and seeds.
        fits: number of folds times seeds.
        foresight: of the simulators of the methods ``belief`` and ``trained``: log-likelihood of recorded successes on
            held-out queries after a wrong answer, without and with its cost and time, and the difference; see
            :mod:`~brownout.trainers.foresight`.
    """

    rows: tuple[CrossvalRow, ...]
    differences: tuple[CrossvalDifference, ...]
    queries: int
    best: str
    cost_max: float
    success: float
    portfolios: Mapping[str, int]
    fits: int
    foresight: tuple[Estimate, Estimate, Estimate] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        from dataclasses import asdict

        return asdict(self)


@dataclass(frozen=True, eq=False)
class _Fold:
    """Per-query cost and success of every method on one test fold, each ``(prizes, queries)``."""

    queries: I64
    members: tuple[int, ...]
    cost: dict[str, F64]
    success: dict[str, F64]
    foresight: F64 | None


def fold_of_queries(count: int, folds: int, seed: int) -> I64:
    """Return the ``(count,)`` fold of each query, balanced and drawn from a named stream."""
    u = uniform(np.arange(count, dtype=np.uint64), _FOLDS, seed)
    fold = np.empty(count, dtype=np.int64)
    fold[np.argsort(u, kind="stable")] = np.arange(count) % folds
    return fold


def run_fold(
    table: RecordedTable,
    usable: Sequence[int],
    test: I64,
    *,
    size: int,
    repeats: int,
    select_repeats: int,
    methods: Sequence[str],
    prizes: Sequence[float],
    trained: TrainedOptions | None = None,
    seed: int = 0,
) -> _Fold:
    """Fit everything on the queries outside ``test`` and score it on ``test``; ``seed`` is that of a training."""
    train = np.setdiff1d(np.arange(len(table.query_ids)), test)

    def attempts(queries: I64, n: int) -> Attempts:
        return Attempts.of(table.success, table.cost_usd, table.latency_s, table.n_samples, queries, list(usable), n)

    choice = forward_select(attempts(train, select_repeats), size, planner=greedy_plans, prizes=prizes)
    fit, held_out = attempts(train, repeats), attempts(test, repeats)
    cost: dict[str, F64] = {}
    success: dict[str, F64] = {}
    seen = None
    going_by_simulators = [name for name in methods if name in FITTED]
    if going_by_simulators:
        from .crossval_trained import score_fitted

        found, seen = score_fitted(
            table, [usable[j] for j in choice.members], train, test, fit.choose(choice.members), prizes,
            methods=going_by_simulators, repeats=repeats, options=trained, seed=seed,
        )  # fmt: skip
        for name, scores in found.items():
            cost[name], success[name] = scores
    for name in methods:
        if name in FITTED:
            continue
        # a single configuration is chosen among all of them; the plans use the portfolio
        members = range(len(usable)) if name == "static" else choice.members
        plans = PLANNERS[name](fit.choose(members), prizes)
        scores = [score(plan, held_out.choose(members)) for plan in plans]
        cost[name] = np.array([s.cost_usd for s in scores])
        success[name] = np.array([s.success for s in scores])
    return _Fold(test, tuple(usable[j] for j in choice.members), cost, success, seen)


def crossval(
    table: RecordedTable,
    *,
    size: int = 5,
    repeats: int = 4,
    select_repeats: int = 1,
    folds: int = 5,
    seeds: int = 3,
    methods: Sequence[str] = ("static", "index", "greedy", "exact"),
    prizes: Sequence[float] = tuple(PRIZES),
    draws: int = 400,
    trained: TrainedOptions | None = None,
    map_folds: MapFolds | None = None,
    progress: Progress | None = None,
) -> Crossval:
    """Run the nested cross-validation.

    Args:
        table: recorded runs.
        size: configurations in the portfolio at most.
        repeats: calls of one configuration that plans may make.
        select_repeats: calls of one configuration in view while the portfolio is chosen.
        folds: folds over queries.
        seeds: how often the folds are drawn.
        methods: what to score, of :data:`METHODS`; the last one is compared with each of the others.
        prizes: values of a success to plan for, USD.
        draws: bootstrap draws over queries.
        trained: how the methods ``belief`` and ``trained`` are fitted; default: :class:`TrainedOptions` as it is.
        map_folds: runs the folds, e.g. on Ray; default: one after the other.
        progress: called with the number of finished folds and of all.

    Raises:
        TableError: if there are too few queries, no method, one that is unknown or twice there, or no configuration
            with all its repeats.
    """
    count = len(table.query_ids)
    if not 2 <= folds <= count:
        raise TableError(f"{table.source}: folds: got {folds}; allowed: 2 to {count}, the number of queries")
    unknown = [name for name in methods if name not in METHODS]
    if unknown:
        raise TableError(f"methods: got {unknown[0]!r}; allowed: {', '.join(METHODS)}")
    if not methods or len(set(methods)) < len(methods):
        raise TableError(f"methods: got {list(methods)}; allowed: one or more of {', '.join(METHODS)}, each once")
    by_simulators = not set(FITTED).isdisjoint(methods)
    if by_simulators:
        from .crossval_trained import labels_of

        labels_of(table, trained.class_column if trained is not None else None)  # a wrong name shows at once
    depth = table.success.shape[2]
    usable = [k for k in range(len(table.configs)) if int(table.n_samples[:, k].min()) >= min(repeats, depth)]
    if not usable:
        raise TableError(
            f"{table.source}: repeats: got {repeats}; no configuration has that many samples on every query"
        )
    jobs = [
        {"test": np.flatnonzero(fold_of_queries(count, folds, seed) == fold), "seed": seed * folds + fold}
        for seed in range(seeds)
        for fold in range(folds)
    ]
    common: dict[str, Any] = {
        "table": table, "usable": usable, "size": size, "repeats": repeats, "select_repeats": select_repeats,
        "methods": tuple(methods), "prizes": tuple(prizes), "trained": trained,
    }  # fmt: skip
    tell = progress or (lambda done, total: None)
    parts = (map_folds or _one_by_one)(run_fold, [{**common, **job} for job in jobs], tell)
    everything = Attempts.of(table.success, table.cost_usd, table.latency_s, table.n_samples, None, usable, repeats)
    best, cost_max, top = best_single(everything)
    figures: dict[str, F64] = {}
    for name in methods:
        cost, success = np.zeros((len(prizes), count)), np.zeros((len(prizes), count))
        for part in parts:
            cost[:, part.queries] += part.cost[name] / seeds
            success[:, part.queries] += part.success[name] / seeds
        figures[name] = _figures(cost, success, cost_max, top, draws)
    rows = [CrossvalRow(name, *_estimates(found, count)) for name, found in figures.items()]
    *others, last = methods
    differences = [
        CrossvalDifference(last, *_estimates(figures[last] - figures[name], count), reference=name) for name in others
    ]
    kept = np.bincount([k for part in parts for k in part.members], minlength=len(table.configs))
    chosen = {table.configs[k]: int(n) for k, n in enumerate(kept) if n}
    ranked = dict(sorted(chosen.items(), key=lambda item: -item[1]))
    seen = None
    if by_simulators:
        sums, times = np.zeros((count, 2)), np.zeros(count)
        for part in parts:
            assert part.foresight is not None
            there = np.isfinite(part.foresight[:, 0])
            sums[part.queries[there]] += part.foresight[there]
            times[part.queries[there]] += 1
        known = sums[times > 0] / times[times > 0, None]
        seen = mean(known[:, 0]), mean(known[:, 1]), mean(known[:, 1] - known[:, 0])
    return Crossval(
        tuple(rows), tuple(differences), count, table.configs[usable[best]], cost_max, top, ranked, len(parts), seen
    )


def _one_by_one(run: Callable[..., _Fold], jobs: list[dict[str, Any]], tell: Progress) -> list[_Fold]:
    parts = []
    for job in jobs:
        parts.append(run(**job))
        tell(len(parts), len(jobs))
    return parts


def on_ray(workers: int, address: str | None = None, timeout_s: float = 3600.0) -> MapFolds:
    """Return a ``map_folds`` that runs folds as Ray tasks, at most ``workers`` at a time.

    Args:
        workers: tasks side by side.
        address: Ray cluster; default: a local one.
        timeout_s: seconds without a finished fold after which the run is given up.

    Raises:
        WorkerError: when it is.
    """

    def run_all(run: Callable[..., _Fold], jobs: list[dict[str, Any]], tell: Progress) -> list[_Fold]:
        from .ray_session import ray_session

        with ray_session(address, workers) as ray:
            table = ray.put(jobs[0]["table"])
            task = ray.remote(num_cpus=1)(_remote_fold)
            shared = [{key: value for key, value in job.items() if key != "table"} for job in jobs]
            found = [task.remote(table, job) for job in shared]
            waiting = list(found)
            while waiting:
                ready, waiting = ray.wait(waiting, timeout=timeout_s)
                if not ready:
                    raise WorkerError(
                        f"no fold ended within {timeout_s:g} s; {len(found) - len(waiting)} of {len(found)} are done"
                    )
                ray.get(ready)  # an exception of a fold ends the run at once
                tell(len(found) - len(waiting), len(found))
            return ray.get(found)

    return run_all


def _remote_fold(table: RecordedTable, job: dict[str, Any]) -> _Fold:
    return run_fold(table, **job)


MapFolds = Callable[[Callable[..., _Fold], list[dict[str, Any]], Progress], list[_Fold]]


def _figures(cost: F64, success: F64, cost_max: float, top: float, draws: int) -> F64:
    """``(1 + draws, 3)`` figures of one method from its ``(prizes, queries)`` arrays: on all queries, then of each
    bootstrap draw of them, which are the same for every method."""
    count = cost.shape[1]
    found = np.empty((1 + draws, 3))
    found[0] = hull_figures(cost.mean(axis=1), success.mean(axis=1), cost_max, top)
    for i in range(draws):
        u = uniform(np.arange(count, dtype=np.uint64), _BOOTSTRAP, i)
        pick = np.minimum((u * count).astype(np.int64), count - 1)
        found[i + 1] = hull_figures(cost[:, pick].mean(axis=1), success[:, pick].mean(axis=1), cost_max, top)
    return found


def _estimates(figures: F64, count: int) -> tuple[Estimate, Estimate, Estimate]:
    aiq, at_cost, at_success = (bootstrap_estimate(float(column[0]), column[1:], count) for column in figures.T)
    return aiq, at_cost, at_success
