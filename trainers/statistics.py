"""Statistics of evaluation: every number with its uncertainty, undefined (NaN) rather than optimistic.

Plain functions over arrays of per-episode values. Where a quantity is not defined by the data (an interval of
one episode, pass@k with fewer than k attempts, a 99th percentile of fifty episodes), the result is NaN. A NaN
among the values makes the result NaN too: an episode without a value is the caller's to count and report.
Episodes that share a query are not independent; pass ``clusters`` then.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

F64 = NDArray[np.float64]

NAN: Final = float("nan")


def read_number(value: Any) -> float:
    """A number from JSON, where null stands for an undefined one."""
    return float("nan") if value is None else float(value)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its two-sided interval.

    Args:
        value: point estimate.
        low: lower end of the interval, NaN where undefined.
        high: upper end of the interval, NaN where undefined.
        n: values it is made of.
    """

    value: float
    low: float
    high: float
    n: int

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Estimate:
        """Read the fields back from JSON."""
        return cls(read_number(row["value"]), read_number(row["low"]), read_number(row["high"]), int(row["n"]))

    @property
    def half_width(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2.0

    def excludes(self, number: float) -> bool:
        """Whether the interval is defined and does not contain ``number``."""
        return number < self.low or number > self.high


@dataclass(frozen=True, slots=True)
class Difference:
    """A paired mean difference with its interval.

    Args:
        value: mean of ``a - b``.
        low: lower end of the interval.
        high: upper end of the interval.
        n: pairs.
        p_value: two-sided p-value of "no difference".
        smallest_detectable: true difference that this number of pairs would find significant with the
            stated power; smaller ones are likely to be missed.
    """

    value: float
    low: float
    high: float
    n: int
    p_value: float
    smallest_detectable: float

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Difference:
        """Read the fields back from JSON."""
        return cls(
            read_number(row["value"]), read_number(row["low"]), read_number(row["high"]), int(row["n"]),
            read_number(row["p_value"]), read_number(row["smallest_detectable"]),
        )  # fmt: skip

    def excludes(self, number: float) -> bool:
        """Whether the interval is defined and does not contain ``number``."""
        return number < self.low or number > self.high


def _vector(values: ArrayLike) -> F64:
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1:
        raise ValueError(f"values: got shape {vector.shape}; allowed: (n,), one value per episode")
    return vector


def _check_share(name: str, value: float) -> None:
    if not 0.0 < value < 1.0:
        raise ValueError(f"{name}: got {value!r}; allowed: between 0 and 1")


def _t_quantile(p: float, df: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(df, p))


def _standard_error(values: F64, clusters: ArrayLike | None) -> tuple[float, int]:
    """Return the standard error of the mean and its degrees of freedom.

    With clusters, the sandwich estimate with the small-sample factor G / (G - 1):
    ``se**2 = G / (G - 1) * sum_g (sum_{i in g} (x_i - mean))**2 / n**2`` with G - 1 degrees of freedom.
    """
    n = len(values)
    if clusters is None:
        return (float(values.std(ddof=1)) / math.sqrt(n), n - 1) if n > 1 else (NAN, 0)
    ids = np.asarray(clusters)
    if ids.shape != values.shape:
        raise ValueError(f"clusters: got shape {ids.shape}; allowed: one id per value, shape {values.shape}")
    groups, index = np.unique(ids, return_inverse=True)
    if len(groups) < 2:
        return NAN, 0
    sums = np.bincount(index, weights=values - values.mean())
    return math.sqrt(len(groups) / (len(groups) - 1) * float(sums @ sums)) / n, len(groups) - 1


def mean(values: ArrayLike, clusters: ArrayLike | None = None, level: float = 0.95) -> Estimate:
    """Mean with a Student t interval, cluster-robust when ``clusters`` is given.

    Args:
        values: ``(n,)`` one value per episode.
        clusters: ``(n,)`` id of what episodes share, such as their query.
        level: confidence level.

    Source: Liang and Zeger (1986); Miller, "Adding error bars to evals" (2024).

    >>> estimate = mean([1.0, 2.0, 3.0])
    >>> estimate.value, round(estimate.low, 3), round(estimate.high, 3)
    (2.0, -0.484, 4.484)
    """
    _check_share("level", level)
    vector = _vector(values)
    if not len(vector):
        return Estimate(NAN, NAN, NAN, 0)
    error, df = _standard_error(vector, clusters)
    half = _t_quantile((1.0 + level) / 2.0, df) * error if df else NAN
    value = float(vector.mean())
    return Estimate(value, value - half, value + half, len(vector))


def proportion(successes: ArrayLike, clusters: ArrayLike | None = None, level: float = 0.95) -> Estimate:
    """Share of successes with a Wilson score interval.

    With clusters, Wilson's interval at the effective sample size ``p (1 - p) / se**2`` (cluster-robust
    standard error, at most n) and the t quantile with G - 1 degrees of freedom. If all values agree, the
    data says nothing about the correlation and each cluster counts as one observation.

    Args:
        successes: ``(n,)`` of 0 and 1, or booleans.
        clusters: ``(n,)`` id of what episodes share, such as their query.
        level: confidence level.

    Raises:
        ValueError: if a value is neither 0 nor 1 (nor NaN).

    Source: Wilson (1927); effective sample size as in Korn and Graubard (1998).

    >>> estimate = proportion([1] * 10)
    >>> estimate.value, round(estimate.low, 4), round(estimate.high, 4)
    (1.0, 0.7225, 1.0)
    """
    _check_share("level", level)
    vector = _vector(successes)
    n = len(vector)
    if not n or np.isnan(vector).any():
        return Estimate(NAN, NAN, NAN, n)
    wrong = vector[(vector != 0.0) & (vector != 1.0)]
    if wrong.size:
        raise ValueError(f"successes: got {wrong[0]}; allowed: 0 and 1")
    p = float(vector.mean())
    effective = float(n)
    quantile = (1.0 + level) / 2.0
    z = _t_quantile(quantile, math.inf)
    if clusters is not None:
        error, df = _standard_error(vector, clusters)
        if not df:
            return Estimate(p, NAN, NAN, n)
        z = _t_quantile(quantile, df)
        varied = 0.0 < p < 1.0
        effective = min(float(n), p * (1.0 - p) / error**2) if varied and error > 0.0 else float(df + 1)
        if varied and error == 0.0:  # every cluster has the same mean: nothing suggests fewer than n
            effective = float(n)
    scale = 1.0 + z * z / effective
    centre = (p + z * z / (2.0 * effective)) / scale
    half = z / scale * math.sqrt(p * (1.0 - p) / effective + z * z / (4.0 * effective**2))
    low = 0.0 if p == 0.0 else max(0.0, centre - half)
    high = 1.0 if p == 1.0 else min(1.0, centre + half)
    return Estimate(p, low, high, n)


def quantile(values: ArrayLike, q: float, level: float = 0.95) -> Estimate:
    """Quantile with a distribution-free interval between two order statistics.

    The ranks are the tightest equal-tailed pair with P(X_(l) <= quantile) and P(quantile <= X_(u)) each at
    least ``1 - (1 - level) / 2``, from the binomial distribution. An end that no rank reaches (p99 of 100
    episodes) is NaN.

    Args:
        values: ``(n,)`` one value per episode.
        q: probability, between 0 and 1.
        level: confidence level.

    Source: David and Nagaraja, "Order statistics" (2003), section 7.1.
    """
    _check_share("q", q)
    _check_share("level", level)
    ordered = np.sort(_vector(values))
    n = len(ordered)
    if not n or np.isnan(ordered).any():
        return Estimate(NAN, NAN, NAN, n)
    from scipy.special import bdtr

    below = np.asarray(bdtr(np.arange(n, dtype=np.float64), n, q))  # P(at most r values below the quantile)
    tail = (1.0 - level) / 2.0
    # lower rank l: the largest with P(at most l - 1 values below) <= tail
    lower = int(np.searchsorted(below, tail, side="right"))
    # upper rank u: the smallest with P(at least u values below) <= tail
    upper = int(np.searchsorted(below, 1.0 - tail, side="left")) + 1
    low = float(ordered[lower - 1]) if lower >= 1 else NAN
    high = float(ordered[upper - 1]) if upper <= n else NAN
    return Estimate(float(np.quantile(ordered, q)), low, high, n)


def percentiles(values: ArrayLike, level: float = 0.95) -> dict[str, Estimate]:
    """The quantiles that costs and latencies are reported at: ``p50``, ``p95``, ``p99``."""
    return {f"p{round(100 * q)}": quantile(values, q, level) for q in (0.5, 0.95, 0.99)}


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    clusters: ArrayLike | None = None,
    level: float = 0.95,
    power: float = 0.8,
) -> Difference:
    """Mean of ``a - b`` over the same episodes, with a paired t interval (cluster-robust with ``clusters``).

    The smallest detectable difference is ``(t_{(1 + level) / 2} + t_power) * se``: the true difference found
    significant at ``1 - level`` with probability ``power``.

    Args:
        a: ``(n,)`` values of one policy or condition.
        b: ``(n,)`` values of the other, on the same episodes in the same order.
        clusters: ``(n,)`` id of what episodes share, such as their query.
        level: confidence level.
        power: power of the smallest detectable difference.

    Raises:
        ValueError: if ``a`` and ``b`` are not equally long.
    """
    _check_share("level", level)
    _check_share("power", power)
    first, second = _vector(a), _vector(b)
    if first.shape != second.shape:
        raise ValueError(f"a and b: got {len(first)} and {len(second)} values; allowed: equally many")
    delta = first - second
    estimate = mean(delta, clusters, level)
    if not len(delta):
        return Difference(NAN, NAN, NAN, 0, NAN, NAN)
    error, df = _standard_error(delta, clusters)
    if not df or math.isnan(error):
        return Difference(estimate.value, NAN, NAN, len(delta), NAN, NAN)
    from scipy.special import stdtr

    if error > 0.0:
        p_value = float(2.0 * stdtr(df, -abs(estimate.value) / error))
    else:
        p_value = 1.0 if estimate.value == 0.0 else 0.0
    detectable = (_t_quantile((1.0 + level) / 2.0, df) + _t_quantile(power, df)) * error
    return Difference(estimate.value, estimate.low, estimate.high, len(delta), p_value, detectable)


def paired_proportion(a: ArrayLike, b: ArrayLike, level: float = 0.95, power: float = 0.8) -> Difference:
    """Difference of two shares over the same episodes, with an interval that is not empty where none differ.

    The adjusted Wald interval: with ``f12`` episodes that only ``a`` won, ``f21`` that only ``b`` won,
    ``p12 = (f12 + 1) / (n + 2)`` and ``p21`` likewise, ``p12 - p21 +- z sqrt((p12 + p21 - (p12 - p21)**2) / (n + 2))``.
    The p-value is that of McNemar's exact test.

    Args:
        a: ``(n,)`` of 0 and 1, or booleans.
        b: ``(n,)`` of the other, on the same episodes in the same order.
        level: confidence level.
        power: power of the smallest detectable difference.

    Raises:
        ValueError: if the two are not equally long, or a value is neither 0 nor 1.

    Source: Bonett and Price (2012); McNemar (1947).

    >>> found = paired_proportion([1] * 20, [1] * 20)
    >>> found.value, round(found.low, 3), round(found.high, 3)
    (0.0, -0.126, 0.126)
    """
    _check_share("level", level)
    _check_share("power", power)
    first, second = _vector(a), _vector(b)
    if first.shape != second.shape:
        raise ValueError(f"a and b: got {len(first)} and {len(second)} values; allowed: equally many")
    n = len(first)
    if not n or np.isnan(first).any() or np.isnan(second).any():
        return Difference(NAN, NAN, NAN, n, NAN, NAN)
    both = np.concatenate([first, second])
    wrong = both[(both != 0.0) & (both != 1.0)]
    if wrong.size:
        raise ValueError(f"a and b: got {wrong[0]}; allowed: 0 and 1")
    from scipy.special import bdtr

    won, lost = int((first > second).sum()), int((first < second).sum())
    p12, p21 = (won + 1.0) / (n + 2.0), (lost + 1.0) / (n + 2.0)
    error = math.sqrt((p12 + p21 - (p12 - p21) ** 2) / (n + 2.0))
    z = _t_quantile((1.0 + level) / 2.0, math.inf)
    low, high = max(-1.0, p12 - p21 - z * error), min(1.0, p12 - p21 + z * error)
    p_value = min(1.0, 2.0 * float(bdtr(float(min(won, lost)), won + lost, 0.5)))
    return Difference((won - lost) / n, low, high, n, p_value, (z + _t_quantile(power, math.inf)) * error)


def bootstrap_estimate(value: float, draws: ArrayLike, n: int, level: float = 0.95) -> Estimate:
    """A figure with the percentile interval of its bootstrap draws.

    Args:
        value: the figure on all the data.
        draws: ``(b,)`` the figure on each resample.
        n: values it is made of.
        level: confidence level.

    Returns:
        an estimate without an interval if some draw is not finite: one over the others would flatter.

    Source: Efron and Tibshirani, "An introduction to the bootstrap" (1993), chapter 13.
    """
    _check_share("level", level)
    sampled = _vector(draws)
    if not len(sampled) or not np.isfinite(sampled).all():
        return Estimate(value, NAN, NAN, n)
    low, high = np.quantile(sampled, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return Estimate(value, float(low), float(high), n)


def pass_at_k(attempts: ArrayLike, successes: ArrayLike, k: int) -> F64:
    """Unbiased probability that at least one of ``k`` attempts succeeds, per task: 1 - C(n - c, k) / C(n, k).

    Args:
        attempts: ``(m,)`` attempts ``n`` of each task.
        successes: ``(m,)`` how many of them succeeded, ``c``.
        k: attempts allowed, from 1.

    Returns:
        ``(m,)``, NaN where ``n < k``.

    Source: Chen et al., "Evaluating large language models trained on code" (2021).

    >>> pass_at_k([4, 4, 2], [1, 0, 2], 3)
    array([0.75, 0.  ,  nan])
    """
    n, c = _counts(attempts, successes, k)
    return 1.0 - _all_from(n - c, n, k)


def pass_hat_k(attempts: ArrayLike, successes: ArrayLike, k: int) -> F64:
    """Unbiased probability that all of ``k`` attempts succeed (pass^k), per task: C(c, k) / C(n, k).

    Arguments and result as in :func:`pass_at_k`.

    Source: Yao et al., "tau-bench" (2024).
    """
    n, c = _counts(attempts, successes, k)
    return _all_from(c, n, k)


def _counts(attempts: ArrayLike, successes: ArrayLike, k: int) -> tuple[F64, F64]:
    n, c = np.broadcast_arrays(np.asarray(attempts, np.float64), np.asarray(successes, np.float64))
    if k < 1:
        raise ValueError(f"k: got {k!r}; allowed: a whole number from 1")
    bad = (c < 0) | (c > n) | (c != np.floor(c)) | (n != np.floor(n))
    if bad.any():
        raise ValueError(f"successes: got {c[bad][0]:g} of {n[bad][0]:g}; allowed: whole numbers from 0 to n")
    return n, c


def _all_from(part: F64, whole: F64, k: int) -> F64:
    """C(part, k) / C(whole, k), NaN where ``whole < k``."""
    ratio = np.where(whole < k, NAN, 1.0)
    for i in range(k):
        ratio = ratio * np.maximum(part - i, 0.0) / np.maximum(whole - i, 1.0)
    return ratio


def cvar(values: ArrayLike, share: float) -> float:
    """Mean of the worst (smallest) ``share`` of the values, the tail risk of a utility; NaN without values.

    The value on the boundary counts in part, so ``share=1`` is the mean.

    Source: Rockafellar and Uryasev, "Optimization of conditional value-at-risk" (2000).
    """
    if not 0.0 < share <= 1.0:
        raise ValueError(f"share: got {share!r}; allowed: above 0 and at most 1")
    ordered = np.sort(_vector(values))
    if not len(ordered) or np.isnan(ordered).any():
        return NAN
    weight = np.clip(share * len(ordered) - np.arange(len(ordered)), 0.0, 1.0)
    return float(ordered @ weight / weight.sum())
