"""Failures that belong to the task: which wrong answers are visible, and how that clusters.

A failure mode mapped to ``{answer: STATUS}`` is a wrong answer that shows: it counts against the skill of its
configuration, as hard tasks bring it, and of the wrong answers of a configuration a share ends so. Which ones is a
matter of a normal score with parts of the task, the family and the configuration: a call fails where its score is
above a threshold. Pairs of wrong answers that both failed, beside what two correlated scores would give, tell how
much each part weighs (tetrachoric correlations).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .effort_fit import resampled
from .fault_rates import ANSWER, Mapped, clustered_rate
from .fitting import Interval, ResponseFit
from .runs import Runs
from .schema import success_rates

F64 = NDArray[np.float64]
FEWEST: Final = 10  # failures, below which they are taken to be independent
_GRID: Final = np.linspace(0.0, 0.95, 20)
_MOST: Final = 0.95


@dataclass(frozen=True, eq=False)
class FailureFit:
    """Visible failures among the wrong answers.

    Args:
        fails: per configuration, status -> share of its wrong answers.
        sharing: entry ``tasks.effort.failure``; None where there are too few.
        intervals: of all of these, by name.
    """

    fails: tuple[dict[str, float], ...]
    sharing: dict[str, float] | None
    intervals: Mapping[str, Interval]


def fit_failures(runs: Runs, fit: ResponseFit, mapped: Mapped) -> FailureFit:
    """Fit the failures that the mapping calls answers with a status.

    Args:
        runs: the recorded runs.
        fit: the item-response model fitted to them.
        mapped: from :func:`~brownout.scenarios.fault_rates.read_mapping`.
    """
    names = fit.counts.configs
    status = {mode: entry[ANSWER] for mode, entry in mapped.items() if isinstance(entry, dict) and ANSWER in entry}
    wrong = ~runs.visible & ~runs.success
    n = runs.tally(wrong)
    fails: list[dict[str, float]] = [{} for _ in names]
    intervals: dict[str, Interval] = {}
    failed = np.zeros(n.shape, dtype=np.int64)
    for word in sorted(set(status.values())):
        rows = wrong & np.isin(runs.mode, [mode for mode, w in status.items() if w == word])
        count = runs.tally(rows)
        failed += count
        for k in np.flatnonzero(count.sum(axis=0)):
            interval = clustered_rate(count[:, k], n[:, k])
            fails[k][word] = round(interval.value, 4)
            intervals[f"wrong.{names[k]}.fails.{word}"] = interval
    if failed.sum() < FEWEST:
        return FailureFit(tuple(fails), None, intervals)
    found = _sharing(n, failed, fit)
    for name, values in found.items():
        low, high = np.quantile(values[1:], (0.025, 0.975))
        intervals[f"effort.failure.{name}"] = Interval(float(values[0]), float(low), float(high))
    return FailureFit(tuple(fails), {name: round(float(values[0]), 3) for name, values in found.items()}, intervals)


def _sharing(n: NDArray[np.int64], failed: NDArray[np.int64], fit: ResponseFit) -> dict[str, F64]:
    """Shares of task, family and configuration and the correlation with difficulty: the estimate, then resamples."""
    from scipy.stats import norm

    queries, size = n.shape
    share = np.clip(failed.sum(axis=0) / np.maximum(n.sum(axis=0), 1), 1e-4, 1.0 - 1e-4)
    threshold = norm.ppf(1.0 - share)
    family = np.array([fit.counts.families.index(f) for f in fit.counts.families])
    same = family[:, None] == family[None, :]
    itself = np.eye(size, dtype=bool)
    weights = resampled(queries)
    both = np.array([[[_both(a, b, r) for r in _GRID] for b in threshold] for a in threshold])
    pairs = n[:, :, None] * n[:, None, :] - n[:, :, None] * itself
    seen = failed[:, :, None] * failed[:, None, :] - failed[:, :, None] * itself

    def correlation(which: NDArray[np.bool_]) -> F64 | None:
        """At which correlation as many pairs would fail together as did, for every row of weights."""
        if not pairs[:, which].any():
            return None
        expected = (weights @ pairs[:, which]) @ both[which]
        target = weights @ seen[:, which].sum(axis=1)
        return np.array([np.interp(t, e, _GRID) for t, e in zip(target, expected, strict=True)])

    others, kin, repeats = (correlation(which) for which in (~same, same & ~itself, itself))
    task = next((r for r in (others, kin, repeats) if r is not None), np.zeros(len(weights)))
    shared = task if kin is None or others is None else np.maximum(task, kin)
    whole = shared if repeats is None else np.maximum(shared, repeats)
    slope = _slopes(fit, norm.pdf(threshold))
    counts = fit.counts
    far = ~same if (~same).any() else ~itself
    top, bottom = np.zeros(queries), np.zeros(queries)
    for k, j in zip(*np.nonzero(far), strict=True):
        usual = (n[:, k] @ counts.successes[:, j]) / max(n[:, k] @ counts.runs[:, j], 1)
        top += (failed[:, k] - share[k] * n[:, k]) * (counts.successes[:, j] - usual * counts.runs[:, j])
        bottom += n[:, k] * counts.runs[:, j] * slope[k, j]
    pull = (weights @ top) / np.minimum(weights @ bottom, -1e-12) / np.sqrt(np.maximum(task, 0.05))
    return {
        "task": task,
        "family": shared - task,
        "configuration": whole - shared,
        "difficulty": np.clip(pull, -_MOST, _MOST),
    }


def _both(a: float, b: float, r: float) -> float:
    """Probability that two normal scores with correlation ``r`` are above ``a`` and ``b``."""
    from scipy.stats import norm

    x = np.linspace(a, max(a, 0.0) + 8.0, 401)
    return float(np.trapezoid(norm.pdf(x) * norm.cdf((r * x - b) / np.sqrt(1.0 - r * r)), x))


def _slopes(fit: ResponseFit, density: F64) -> F64:
    """``(K, K)`` covariance of a failure of ``k`` with a success of ``j`` on a task where ``k`` was wrong, per unit of
    correlation between failure and difficulty: to first order, for configurations of different families."""
    z = np.linspace(-4.5, 4.5, 91)
    weight = np.exp(-0.5 * z * z)
    weight /= weight.sum()
    spread = np.sqrt(fit.sds[1] ** 2 + fit.latent_sd**2)
    margin = fit.margin @ fit.counts.share
    chance = success_rates(margin[:, None] - fit.sds[0] * z, spread[:, None])
    wrong = weight * (1.0 - chance)
    wrong /= wrong.sum(axis=1, keepdims=True)
    centred = z - (wrong @ z)[:, None]
    return density[:, None] * ((wrong * centred) @ chance.T)
