"""Does a fitted scenario behave like the runs it was fitted to? Simulated beside recorded, with intervals.

The scenario is played through the real environment, its recorded faults included: each configuration is called
as often per task as the table has repeats, so every figure is that of the simulator and never of the fit.
Intervals are those of the recorded figure (bootstrap over queries), as a table of other queries would differ by
that much too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..envs.router_core import RouterCore
from ..envs.streams import episode_keys, pick, stream_id, uniform
from ..faults import Status
from ..scenarios.calibration import Calibration, counts_of
from ..scenarios.effort_fit import alikeness
from ..scenarios.fitting import SDS, fit_best_model, fit_response_model
from ..scenarios.likelihood import Likelihood
from ..scenarios.loading import load_scenario
from ..scenarios.schema import RouterScenario
from .statistics import Difference, paired_difference, pass_at_k, read_number

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

QUANTILES: Final = (0.5, 0.9, 0.95)
MOST_REPEATS: Final = 8


@dataclass(frozen=True, eq=False)
class Played:
    """Calls played in a scenario; arrays ``(N, K, R)``: tasks, configurations, repeats.

    Args:
        configs: ``K`` names.
        right: whether the answer was right (never for a failed call).
        cost_usd: USD.
        latency_s: seconds.
        status: visible :class:`~brownout.faults.Status`.
        group: ``(N,)`` class (or query) of each task.
    """

    configs: tuple[str, ...]
    right: NDArray[np.bool_]
    cost_usd: F64
    latency_s: F64
    status: NDArray[np.int8]
    group: I64

    def to_columns(self, queries: int | None = None) -> dict[str, list[Any]]:
        """The first tasks as the columns of a recorded table, one row per call."""
        n, k, r = self.right[:queries].shape
        task, config, sample = (index.ravel() for index in np.indices((n, k, r)))
        status = self.status[:n].ravel()
        words = {int(s): s.word for s in Status}
        modes = np.array([words[int(s)] if s != Status.OK else "" for s in status], dtype=object)
        modes[(status == Status.OK) & ~self.right[:n].ravel()] = "wrong_result"
        return {
            "query_id": [f"q{t:06d}" for t in task],
            "config": [self.configs[c] for c in config],
            "sample": sample.tolist(),
            "success": self.right[:n].ravel().astype(int).tolist(),
            "cost_usd": self.cost_usd[:n].ravel().tolist(),
            "latency_s": self.latency_s[:n].ravel().tolist(),
            "failure_mode": modes.tolist(),
            "group": [f"g{self.group[t]}" for t in task],
        }


def play_calls(
    scenario: RouterScenario,
    tasks: int,
    repeats: int,
    *,
    profile: str = "production",
    split: str = "eval",
    seed: int = 0,
) -> Played:
    """Call every configuration ``repeats`` times at once on each of many tasks, through the environment."""
    names = tuple(scenario.portfolio)
    overrides = ["limits.max_calls=64", "limits.max_parallel=64", "limits.max_steps=100", "limits.on_budget=soft",
                 "limits.on_deadline=soft"]  # fmt: skip
    overrides += [f"portfolio.{name}.max_calls={repeats}" for name in names]
    core = RouterCore(load_scenario(scenario, overrides), tasks, profile=profile, split=split)
    shape = (tasks, len(names), repeats)
    right, status = np.zeros(shape, np.bool_), np.zeros(shape, np.int8)
    cost, latency = np.zeros(shape), np.zeros(shape)
    for k in range(len(names)):
        core.seed(core.all_lanes, range(seed * 1_000_003, seed * 1_000_003 + tasks))
        core.begin(core.all_lanes, 0)
        for _ in range(repeats):
            core.advance(np.full(tasks, k))
        right[:, k], status[:, k] = core.right[:, :repeats], core.status[:, :repeats]
        cost[:, k], latency[:, k] = core.cost[:, :repeats], core.finish[:, :repeats] - core.start[:, :repeats]
    return Played(names, right & (status == Status.OK), cost, latency, status, core.source.group.copy())


@dataclass(frozen=True, slots=True)
class Check:
    """One figure, recorded (with its interval) and simulated."""

    kind: str
    config: str
    what: str
    recorded: float
    low: float
    high: float
    simulated: float

    @property
    def inside(self) -> bool:
        """Whether the simulated figure lies in the recorded interval."""
        return bool(self.low <= self.simulated <= self.high)


@dataclass(frozen=True)
class Rival:
    """A simpler model on the held-out queries: log-likelihood per query, and how far the full model is ahead."""

    name: str
    log_likelihood: float
    ahead: Difference


@dataclass(frozen=True)
class Goodness:
    """How well a calibration fits.

    Args:
        checks: figures of the scenario beside those recorded.
        held_out: log-likelihood per held-out query of the full model, NaN without held-out queries.
        rivals: simpler models on the same queries.
        train: queries fitted for that comparison.
        test: queries held out.
        tasks: simulated tasks.
    """

    checks: tuple[Check, ...]
    held_out: float
    rivals: tuple[Rival, ...]
    train: int
    test: int
    tasks: int

    def inside(self, kind: str | None = None) -> tuple[int, int]:
        """How many checks (of a kind) lie in their interval, and how many there are."""
        chosen = [check for check in self.checks if kind in (None, check.kind)]
        return sum(check.inside for check in chosen), len(chosen)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "held_out": {
                "log_likelihood_per_query": self.held_out, "train_queries": self.train, "test_queries": self.test,
                "rivals": [asdict(rival) for rival in self.rivals],
            },
            "simulated_tasks": self.tasks,
            "checks": [{**asdict(check), "inside": check.inside} for check in self.checks],
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Goodness:
        """Read :meth:`to_dict` back, null standing for an undefined number.

        Raises:
            KeyError, TypeError, ValueError: a field is missing or of the wrong type.
        """

        def rival(row: Mapping[str, Any]) -> Rival:
            return Rival(str(row["name"]), read_number(row["log_likelihood"]), Difference.from_dict(row["ahead"]))

        def check(row: Mapping[str, Any]) -> Check:
            return Check(
                str(row["kind"]), str(row["config"]), str(row["what"]), read_number(row["recorded"]),
                read_number(row["low"]), read_number(row["high"]), read_number(row["simulated"]),
            )  # fmt: skip

        held = data["held_out"]
        return cls(
            tuple(map(check, data["checks"])), read_number(held["log_likelihood_per_query"]),
            tuple(map(rival, held["rivals"])),
            int(held["train_queries"]), int(held["test_queries"]), int(data["simulated_tasks"]),
        )  # fmt: skip


def goodness_of_fit(
    calibration: Calibration, *, episodes: int = 4000, draws: int = 500, seed: int = 0, held_out: bool = True
) -> Goodness:
    """Play the scenario and compare it with the runs it was fitted to.

    Args:
        calibration: what to check.
        episodes: tasks to simulate.
        draws: bootstrap draws of the queries, for the recorded intervals.
        seed: of both.
        held_out: whether to fit again on the train queries and score the others.
    """
    runs = calibration.runs
    total = runs.tally(np.ones(len(runs.query), dtype=bool))
    wins = runs.tally(runs.success & ~runs.visible)
    repeats = int(min(total.max(), MOST_REPEATS))
    played = play_calls(calibration.scenario, episodes, repeats, seed=seed)
    checks = list(_success(calibration, played, total, wins, repeats, draws, seed))
    checks += _measures(calibration, played, draws, seed)
    checks += _effort(calibration, played, draws, seed)
    if not held_out or not runs.table.is_eval.any() or runs.table.is_eval.all():
        return Goodness(tuple(checks), float("nan"), (), 0, 0, episodes)
    score, rivals, sizes = _held_out(calibration)
    return Goodness(tuple(checks), score, rivals, *sizes, episodes)


def _held_out(calibration: Calibration) -> tuple[float, tuple[Rival, ...], tuple[int, int]]:
    counts = counts_of(calibration.runs)
    held = calibration.runs.table.is_eval
    train, test = counts.choose(np.flatnonzero(~held)), counts.choose(np.flatnonzero(held))
    full = fit_best_model(train).score(test)
    alone = fit_response_model(train, fixed=dict.fromkeys(SDS, 0.0)).score(test)
    rate = (train.successes.sum() + 0.5) / (train.runs.sum() + 1.0)
    shape = (len(counts.configs), len(counts.classes))
    one = Likelihood(test).per_query(np.full(shape, float(np.log(rate / (1.0 - rate)))), (0.0, 0.0, 0.0))
    rivals = tuple(
        Rival(name, float(logs.mean()), paired_difference(full, logs))
        for name, logs in (("calls independent of one another", alone), ("one rate for all", one))
    )
    return float(full.mean()), rivals, (int((~held).sum()), int(held.sum()))


def _weights(queries: int, draws: int, seed: int) -> F64:
    """``(draws, Q)`` how often each query is in each bootstrap sample."""
    keys = episode_keys(np.full(draws, seed), np.arange(draws), "calibration.bootstrap")
    chosen = pick(uniform(keys[:, None], stream_id("query"), np.arange(queries)[None, :]), queries)
    weights = np.zeros((draws, queries))
    np.add.at(weights, (np.arange(draws)[:, None], chosen), 1.0)
    return weights


def _ends(values: F64) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    if not known.size:
        return float("nan"), float("nan")
    low, high = np.quantile(known, (0.025, 0.975))
    return float(low), float(high)


def _success(
    calibration: Calibration, played: Played, total: I64, wins: I64, repeats: int, draws: int, seed: int
) -> Iterator[Check]:
    weights = np.concatenate([np.ones((1, len(total))), _weights(len(total), draws, seed)])
    names = calibration.fit.counts.configs

    def check(kind: str, config: str, what: str, figure: Callable[[I64, I64, F64], F64]) -> Check:
        values = figure(wins, total, weights)
        n = len(played.right)
        calls = np.full((n, len(names)), repeats)
        simulated = figure(played.right.sum(axis=2), calls, np.ones((1, n)))
        return Check(kind, config, what, float(values[0]), *_ends(values[1:]), float(simulated[0]))

    for k, name in enumerate(names):
        for n in range(1, repeats + 1):
            if (total[:, k] >= n).any():
                yield check("success", name, f"success@{n}",
                            lambda w, t, b, k=k, n=n: _mean_of(pass_at_k(t[:, k], w[:, k], n), b))  # fmt: skip
        if (total[:, k] > 1).sum() >= 2:
            yield check("alike", name, "repeats alike", lambda w, t, b, k=k: _alike(w[:, k], t[:, k], b))
    if len(names) > 1:
        yield check("alike", "all pairs", "configurations alike", _pairs_alike)


def _mean_of(values: F64, weights: F64) -> F64:
    """Weighted mean per row of weights over the values that are defined."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (weights[:, known] @ values[known]) / weights[:, known].sum(axis=1)


def _alike(wins: I64, total: I64, weights: F64) -> F64:
    """Correlation of two runs of one configuration on one query."""
    several = total > 1
    w, t = wins[several].astype(float), total[several].astype(float)
    p, both = _mean_of(w / t, weights[:, several]), _mean_of(w * (w - 1) / (t * (t - 1)), weights[:, several])
    with np.errstate(invalid="ignore", divide="ignore"):
        return (both - p * p) / (p * (1.0 - p))


def _pairs_alike(wins: I64, total: I64, weights: F64) -> F64:
    """Mean correlation of runs of two configurations on one query, over all pairs."""
    there = total > 0
    rate = np.where(there, wins / np.maximum(total, 1), 0.0)
    a, b = np.triu_indices(rate.shape[1], 1)
    common = there[:, a] & there[:, b]
    size = weights @ common
    with np.errstate(invalid="ignore", divide="ignore"):
        both = (weights @ (rate[:, a] * rate[:, b])) / size
        p, q = (weights @ (rate[:, a] * common)) / size, (weights @ (rate[:, b] * common)) / size
        return np.nanmean((both - p * q) / np.sqrt(p * (1 - p) * q * (1 - q)), axis=1)


def _measures(calibration: Calibration, played: Played, draws: int, seed: int) -> Iterator[Check]:
    runs = calibration.runs
    weights = np.concatenate(
        [np.ones((1, len(runs.table.query_ids))), _weights(len(runs.table.query_ids), draws, seed)]
    )
    for kind, values, simulated in (
        ("cost_usd", runs.cost_usd, played.cost_usd), ("latency_s", runs.latency_s, played.latency_s),
    ):  # fmt: skip
        for k, name in enumerate(calibration.fit.counts.configs):
            rows = np.flatnonzero((runs.config == k) & ~np.isnan(values))
            if len(rows) < 2:
                continue
            order = rows[np.argsort(values[rows], kind="stable")]
            mass = np.cumsum(weights[:, runs.query[order]], axis=1)
            for p in QUANTILES:
                at = (mass < p * mass[:, -1:]).sum(axis=1)
                found = values[order][np.minimum(at, len(order) - 1)]
                yield Check(kind, name, f"p{100 * p:.0f}", float(found[0]), *_ends(found[1:]),
                            float(np.quantile(simulated[:, k], p)))  # fmt: skip
            means = _mean_of(values[order], weights[:, runs.query[order]])
            yield Check(kind, name, "mean", float(means[0]), *_ends(means[1:]), float(simulated[:, k].mean()))


def _effort(calibration: Calibration, played: Played, draws: int, seed: int) -> Iterator[Check]:
    """How alike costs and times are on one task, and what those of a run say of another configuration's success."""
    runs, n = calibration.runs, len(played.right)
    if len(played.configs) < 2:
        return
    queries = len(runs.table.query_ids)
    weights = np.concatenate([np.ones((1, queries)), _weights(queries, draws, seed)])
    task, config, _ = (index.ravel() for index in np.indices(played.right.shape))
    right = runs.success & ~runs.visible
    for what, values, simulated in (
        ("cost", runs.cost_usd, played.cost_usd), ("time", runs.latency_s, played.latency_s),
    ):  # fmt: skip
        found = alikeness(values, right, runs.query, runs.config, weights)
        drawn = alikeness(simulated.ravel(), played.right.ravel(), task, config, np.ones((1, n)))
        for name, label in (
            ("repeats", f"{what} of repeats alike"),
            ("pairs", f"{what} of configurations alike"),
            ("success", f"{what} against the others' success"),
        ):
            recorded = getattr(found, name)
            if np.isfinite(recorded[0]):
                value = float(getattr(drawn, name)[0])
                yield Check("effort", "all", label, float(recorded[0]), *_ends(recorded[1:]), value)
