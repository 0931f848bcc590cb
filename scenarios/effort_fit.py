"""What calls on one task share in cost and time, fitted to recorded runs.

Moments of normal scores: the scores of two calls correlate by the shares of variance that the two have in common
(task, family, configuration), so each share is a difference of two mean products over pairs of runs. What the
task's part has to do with difficulty follows from Stein's lemma: for normal latents the covariance of a score
with the success of *another* configuration on the task is ``-r * sd(task part) * sd(difficulty) * E[slope]``,
the mean slope of the success curve. The factor of wrong answers compares right and wrong runs of one
configuration on one task, where difficulty is the same.

Source: Stein, "Estimation of the mean of a multivariate normal distribution" (1981), lemma 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..envs.streams import episode_keys, pick, stream_id, uniform
from .fitting import Interval, ResponseFit
from .runs import Runs
from .schema import success_rates

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

MEASURES: Final = ("cost", "latency")
DRAWS: Final = 300
FEWEST_MIXED: Final = 10  # cells with right and wrong runs, below which no factor is fitted
_MOST: Final = 0.95
_Z95: Final = 1.959963984540054


@dataclass(frozen=True, eq=False)
class EffortFit:
    """Fitted dependence of costs and times.

    Args:
        effort: entry ``tasks.effort`` of a scenario; None where the runs cannot tell.
        wrong: ``(K, 2)`` factors on cost and time of wrong answers; 1 where the interval contains it.
        intervals: of all of these, by name.
    """

    effort: dict[str, Any] | None
    wrong: F64
    intervals: Mapping[str, Interval]


def fit_effort(runs: Runs, fit: ResponseFit, usual: Sequence[Bools]) -> EffortFit:
    """Fit what calls on one task share, and what wrong answers cost and take.

    Args:
        runs: the recorded runs.
        fit: the item-response model fitted to them.
        usual: for cost and time, the runs whose value is one of the configuration's usual ones.
    """
    names = fit.counts.configs
    wrong = np.ones((len(names), 2))
    intervals: dict[str, Interval] = {}
    scores: list[F64] = []
    for j, (values, rows) in enumerate(zip((runs.cost_usd, runs.latency_s), usual, strict=True)):
        known = rows & ~np.isnan(values) & (values > 0.0)
        log = np.log(values, where=known, out=np.full(len(values), np.nan))
        factors, found = _wrong_factors(runs, log, known, names)
        wrong[:, j] = factors
        intervals |= {f"wrong.{name}.{MEASURES[j]}": interval for name, interval in found.items()}
        base = log - np.where(runs.success | runs.visible, 0.0, np.log(factors)[runs.config])
        scores.append(_normal_scores(base, runs.config))
    several = len(names) > 1 or bool((fit.counts.runs > 1).any())
    enough = len(fit.counts.query_class) >= 10 and all(np.isfinite(score).sum() >= 20 for score in scores)
    if not (several and enough):
        return EffortFit(None, wrong, intervals)
    pairs = _Pairs(runs, fit, scores)
    found = pairs.estimates(resampled(pairs.queries))
    for name, values in found.items():
        low, high = np.quantile(values[1:], (0.025, 0.975))
        intervals[f"effort.{name}"] = Interval(float(values[0]), float(low), float(high))
    entry: dict[str, Any] = {
        measure: {
            part: round(float(found[f"{measure}.{part}"][0]), 3)
            for part in ("task", "family", "configuration", "difficulty")
        }
        for measure in MEASURES
    }
    entry["together"] = round(float(found["together"][0]), 3)
    if len(fit.counts.classes) > 1:
        entry["classes"] = {
            name: [round(float(v), 3) for v in pairs.shifts[c]] for c, name in enumerate(fit.counts.classes)
        }
    return EffortFit(entry, wrong, intervals)


def _wrong_factors(runs: Runs, log: F64, known: Bools, names: Sequence[str]) -> tuple[F64, dict[str, Interval]]:
    """Factor of wrong answers per configuration, shrunk to their common mean by how much they seem to differ."""
    size = len(names)
    estimate, variance, cells = np.zeros(size), np.full(size, np.inf), 0
    for k in range(size):
        rows = np.flatnonzero(known & ~runs.visible & (runs.config == k))
        query, right, x = runs.query[rows], runs.success[rows], log[rows]
        count = len(runs.table.query_ids)
        n = [np.bincount(query[right == side], minlength=count) for side in (True, False)]
        mixed = (n[0] > 0) & (n[1] > 0)
        if not mixed.any():
            continue
        means = [
            np.bincount(query[right == side], weights=x[right == side], minlength=count) / np.maximum(n[i], 1)
            for i, side in enumerate((True, False))
        ]
        rest = x - np.where(right, means[0][query], means[1][query])
        free = len(rows) - int((n[0] > 0).sum() + (n[1] > 0).sum())
        noise = float(rest @ rest) / max(free, 1)
        precision = 1.0 / (1.0 / n[0][mixed] + 1.0 / n[1][mixed])
        estimate[k] = precision @ (means[1] - means[0])[mixed] / precision.sum()
        variance[k] = max(noise, 1e-6) / precision.sum()
        cells += int(mixed.sum())
    if cells < FEWEST_MIXED:
        return np.ones(size), {}
    seen = np.isfinite(variance)
    weight = np.where(seen, 1.0 / variance, 0.0)
    mean = float(weight @ estimate / weight.sum())
    # DerSimonian and Laird (1986): variance between configurations by the method of moments
    excess = float(weight @ (estimate - mean) ** 2) - (int(seen.sum()) - 1)
    between = max(0.0, excess / max(weight.sum() - float(weight @ weight) / weight.sum(), 1e-12))
    error = np.sqrt(1.0 / (weight + 1.0 / max(between, 1e-6)) + 1.0 / weight.sum())
    shrunk = mean + (estimate - mean) * between / (between + np.where(seen, variance, 1.0)) * seen
    found = {
        name: Interval(float(np.exp(s)), float(np.exp(s - _Z95 * e)), float(np.exp(s + _Z95 * e)), bool(there))
        for name, s, e, there in zip(names, shrunk, error, seen, strict=True)
    }
    # a factor that may as well be 1 is left out
    clear = np.array([interval.identified and not interval.covers(1.0) for interval in found.values()])
    return np.where(clear, np.exp(shrunk), 1.0), found


def _normal_scores(values: F64, config: I64) -> F64:
    """Normal score of each value among those of its configuration; NaN stays."""
    from scipy.stats import norm, rankdata

    scores = np.full(len(values), np.nan)
    for k in range(int(config.max()) + 1):
        rows = np.flatnonzero((config == k) & np.isfinite(values))
        if rows.size:
            scores[rows] = norm.ppf((rankdata(values[rows]) - 0.5) / rows.size)
    return scores


def resampled(queries: int) -> F64:
    """``(1 + DRAWS, Q)`` weights of the queries: all once, then how often each is in each bootstrap sample."""
    keys = episode_keys(np.zeros(DRAWS, np.int64), np.arange(DRAWS), "effort.bootstrap")
    chosen = pick(uniform(keys[:, None], stream_id("query"), np.arange(queries)[None, :]), queries)
    weights = np.zeros((1 + DRAWS, queries))
    weights[0] = 1.0
    np.add.at(weights, (np.arange(1, 1 + DRAWS)[:, None], chosen), 1.0)
    return weights


@dataclass(frozen=True, eq=False)
class Alikeness:
    """How alike calls on one task are in one measure; each ``(B,)``, one value per row of weights of the queries.

    Args:
        repeats: mean product of the scores of two runs of one configuration.
        pairs: the same of runs of two configurations.
        success: mean product of a run's score and the success of another configuration, less what is usual.
    """

    repeats: F64
    pairs: F64
    success: F64


def alikeness(values: F64, success: Bools, query: I64, config: I64, weights: F64) -> Alikeness:
    """Measure how alike runs are, without a model; see :class:`Alikeness`.

    Args:
        values: ``(N,)`` costs or times, NaN where not known.
        success: ``(N,)`` whether the run was right.
        query: ``(N,)`` index of its query.
        config: ``(N,)`` index of its configuration.
        weights: ``(B, Q)`` weights of the queries.
    """
    score = _normal_scores(values, config)
    shape = (weights.shape[1], int(config.max()) + 1)
    n, s, square = _cell_sums(score, query, config, shape)
    usual = np.bincount(config, weights=success) / np.maximum(np.bincount(config), 1)
    runs = _cell_sums(np.ones(len(query)), query, config, shape)[0]
    centred = _cell_sums(success - usual[config], query, config, shape)[1]
    apart = 1.0 - np.eye(shape[1])

    def ratio(top: F64, bottom: F64) -> F64:
        with np.errstate(invalid="ignore", divide="ignore"):
            return (weights @ top) / (weights @ bottom)

    return Alikeness(
        ratio((s * s - square).sum(axis=1), (n * (n - 1)).sum(axis=1)),
        ratio(((s @ apart) * s).sum(axis=1), ((n @ apart) * n).sum(axis=1)),
        ratio(((s @ apart) * centred).sum(axis=1), ((n @ apart) * runs).sum(axis=1)),
    )


def _cell_sums(score: F64, query: I64, config: I64, shape: tuple[int, int]) -> tuple[F64, F64, F64]:
    """``(Q, K)`` count, sum and sum of squares of the known scores of each query and configuration."""
    there = np.isfinite(score)
    cell = query[there] * shape[1] + config[there]
    of = (np.ones(len(cell)), score[there], score[there] ** 2)
    n, s, square = (np.bincount(cell, w, shape[0] * shape[1]).astype(np.float64).reshape(shape) for w in of)
    return n, s, square


class _Pairs:
    """Sums over pairs of runs of each query, so that every estimate is a ratio of weighted sums over queries."""

    def __init__(self, runs: Runs, fit: ResponseFit, scores: Sequence[F64]) -> None:
        counts = fit.counts
        self.queries, size = counts.runs.shape
        self._group = counts.query_class
        self._classes = len(counts.classes)
        family = np.array([counts.families.index(f) for f in counts.families])
        same = family[:, None] == family[None, :]
        self._other = (~same).astype(float)
        self._kin = (same & ~np.eye(size, dtype=bool)).astype(float)
        cost, slow = scores
        both = np.isfinite(cost) & np.isfinite(slow)
        per_query = runs.query
        self._products = np.stack(
            [np.bincount(per_query[both], weights=(a * b)[both], minlength=self.queries)
             for a, b in ((cost, slow), (cost, cost), (slow, slow))]
        )  # fmt: skip
        product, one, two = self._products.sum(axis=1)
        together = float(np.clip(product / np.sqrt(one * two), -_MOST, _MOST)) if one * two > 0.0 else 0.0
        # time counts for what it says beyond the cost
        own = (slow - together * np.where(np.isfinite(cost), cost, 0.0)) / np.sqrt(1.0 - together**2)
        self.shifts = np.zeros((self._classes, 2))
        spread = np.sqrt(fit.sds[0] ** 2 + fit.sds[1] ** 2 + fit.latent_sd**2)
        margin = fit.margin.T[self._group]
        slope = (success_rates(margin + 0.05, spread) - success_rates(margin - 0.05, spread)) / 0.1
        rate = success_rates(margin, spread)
        centred = counts.successes - counts.runs * rate
        self._parts = []
        for j, score in enumerate((cost, own)):
            there = np.isfinite(score)
            if self._classes > 1:
                score = self._shift(j, score, there, runs)
            n, s, square = _cell_sums(score, runs.query, runs.config, (self.queries, size))
            self._parts.append(self._sums(n, s, square, centred, counts.runs * slope, fit.sds[0]))

    def _shift(self, j: int, score: F64, there: Bools, runs: Runs) -> F64:
        """Take out the mean score of each class, shrunk to 0 by how well it is known; keeps it in ``shifts``."""
        n = np.bincount(runs.query[there], minlength=self.queries)
        mean = np.bincount(runs.query[there], weights=score[there], minlength=self.queries) / np.maximum(n, 1)
        count = np.bincount(self._group, minlength=self._classes)
        of_class = np.bincount(self._group, weights=mean, minlength=self._classes) / count
        within = float(((mean - of_class[self._group]) ** 2).sum()) / max(self.queries - self._classes, 1)
        noise = within / count
        between = max(0.0, float(of_class.var(ddof=1) - noise.mean()))
        shift = of_class * between / (between + noise)
        shift -= count @ shift / count.sum()
        self.shifts[:, j] = shift
        scale = np.sqrt(max(1.0 - float(count @ shift**2) / count.sum(), 0.05))
        return (score - shift[self._group[runs.query]]) / scale

    def _sums(self, n: F64, s: F64, square: F64, centred: F64, slope: F64, sd: float) -> dict[str, tuple[F64, F64]]:
        """Per query, numerator and denominator of each mean over pairs."""

        def across(a: F64, b: F64, which: F64) -> F64:
            return ((a @ which) * b).sum(axis=1)

        far = self._other if self._other.any() else self._kin
        if not far.any():
            far = np.eye(len(far))  # one configuration: its own runs tell of difficulty
        return {
            "repeats": ((s * s - square).sum(axis=1), (n * (n - 1)).sum(axis=1)),
            "kin": (across(s, s, self._kin), across(n, n, self._kin)),
            "others": (across(s, s, self._other), across(n, n, self._other)),
            "difficulty": (-across(s, centred, far), sd * across(n, slope, far)),
        }

    def estimates(self, weights: F64) -> dict[str, F64]:
        """Every parameter for every row of weights of the queries."""
        found: dict[str, F64] = {}
        for measure, sums in zip(MEASURES, self._parts, strict=True):
            mean: dict[str, F64 | None] = {}
            for name, (top, bottom) in sums.items():
                total = weights @ bottom
                mean[name] = None if (total <= 0.0).any() else (weights @ top) / np.maximum(total, 1e-300)
            repeats, kin, others = mean["repeats"], mean["kin"], mean["others"]
            task = next((m for m in (others, kin, repeats) if m is not None), None)
            task = np.zeros(len(weights)) if task is None else np.clip(task, 0.0, _MOST)
            shared = task if kin is None or others is None else np.clip(np.maximum(task, kin), 0.0, _MOST)
            whole = shared if repeats is None else np.clip(np.maximum(shared, repeats), 0.0, _MOST)
            found[f"{measure}.task"], found[f"{measure}.family"] = task, shared - task
            found[f"{measure}.configuration"] = whole - shared
            push = mean["difficulty"]
            pull = np.zeros(len(weights)) if push is None else push / np.sqrt(np.maximum(task, 0.02))
            found[f"{measure}.difficulty"] = np.clip(pull, -_MOST, _MOST)
        product, one, two = weights @ self._products[0], weights @ self._products[1], weights @ self._products[2]
        found["together"] = np.clip(product / np.sqrt(np.maximum(one * two, 1e-300)), -_MOST, _MOST)
        return found
