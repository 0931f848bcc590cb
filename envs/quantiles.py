"""Quantile tables: the one form in which brownout samples a distribution.

A table holds the quantile function at equally spaced probabilities. Sampling is linear interpolation, that
is multiplication and addition only, so a lane computes the same bits alone or in a batch of thousands (a
vectorised ``exp`` or ``log`` gives no such promise). An empirical distribution *is* a table; a parametric
one is compiled to a table when the scenario is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

F64 = NDArray[np.float64]

KNOTS: Final = 1025
REACH: Final = 4.0
_LAST: Final = 1.0 - 2.0**-53
_Z95: Final = NormalDist().inv_cdf(0.95)


@dataclass(frozen=True, eq=False)
class QuantileTable:
    """A distribution as its quantiles at ``KNOTS`` equally spaced probabilities.

    Args:
        values: ``(KNOTS,)`` non-decreasing finite quantiles; the first and last are the range.

    Raises:
        ValueError: if the values are not finite and non-decreasing.
    """

    values: F64

    def __post_init__(self) -> None:
        if self.values.shape != (KNOTS,):
            raise ValueError(f"a quantile table has {KNOTS} values, not {self.values.shape}")
        if not np.isfinite(self.values).all() or (np.diff(self.values) < 0).any():
            raise ValueError("quantile values must be finite and non-decreasing")

    def sample(self, u: F64) -> F64:
        """Map uniforms in [0, 1) of any shape to samples."""
        position = u * (KNOTS - 1)
        index = position.astype(np.int64)
        low = self.values.take(index)
        return low + (position - index) * (self.values.take(index + 1) - low)

    @property
    def mean(self) -> float:
        """Mean of what :meth:`sample` draws (trapezoid rule, exact for the interpolated table)."""
        return float((self.values[0] / 2 + self.values[1:-1].sum() + self.values[-1] / 2) / (KNOTS - 1))

    @property
    def low(self) -> float:
        """Smallest possible sample."""
        return float(self.values[0])

    @property
    def high(self) -> float:
        """Largest possible sample."""
        return float(self.values[-1])

    def quantile(self, p: float) -> float:
        """Return the ``p`` quantile, ``0 <= p <= 1``."""
        return float(np.interp(p * (KNOTS - 1), np.arange(KNOTS), self.values))


def _tabulate(quantile: Callable[[float], float], *, rescale_mean: float | None = None) -> QuantileTable:
    """Tabulate ``quantile``, cutting the two infinite ends at a quarter of a knot."""
    edge = 0.25 / (KNOTS - 1)
    grid = np.clip(np.linspace(0.0, 1.0, KNOTS), edge, 1.0 - edge)
    table = QuantileTable(np.array([quantile(float(p)) for p in grid]))
    if rescale_mean is not None and table.mean != 0.0:
        table = QuantileTable(table.values * (rescale_mean / table.mean))
    table.values.setflags(write=False)  # a table is made once and shared
    return table


def constant(value: float) -> QuantileTable:
    """A distribution with one value."""
    return QuantileTable(np.full(KNOTS, float(value)))


def uniform_between(low: float, high: float) -> QuantileTable:
    """Uniform on ``[low, high]``."""
    return QuantileTable(np.linspace(low, high, KNOTS))


@lru_cache(maxsize=256)
def normal(mean: float = 0.0, sd: float = 1.0) -> QuantileTable:
    """Normal distribution, cut at about 3.5 standard deviations."""
    unit = NormalDist()
    return _tabulate(lambda p: mean + sd * unit.inv_cdf(p))


@lru_cache(maxsize=256)
def logistic() -> QuantileTable:
    """Standard logistic distribution: ``P(x > -m) = 1 / (1 + exp(-m))``."""
    return _tabulate(lambda p: float(np.log(p) - np.log1p(-p)))


@lru_cache(maxsize=256)
def lognormal(median: float, p95: float) -> QuantileTable:
    """Log-normal distribution given by its median and its 95th percentile.

    Raises:
        ValueError: unless ``0 < median <= p95``.
    """
    if not 0.0 < median <= p95:
        raise ValueError(f"need 0 < median <= p95, not median={median!r}, p95={p95!r}")
    sigma = float(np.log(p95 / median)) / _Z95
    unit = NormalDist()
    return _tabulate(lambda p: float(median * np.exp(sigma * unit.inv_cdf(p))))


@lru_cache(maxsize=256)
def lognormal_mean(mean: float, spread: float) -> QuantileTable:
    """Log-normal distribution with a given mean and log standard deviation ``spread``."""
    unit = NormalDist()
    return _tabulate(lambda p: float(np.exp(spread * unit.inv_cdf(p))), rescale_mean=mean)


def log_uniform(low: float, high: float) -> QuantileTable:
    """Uniform in the logarithm on ``[low, high]``, ``0 < low <= high``."""
    if not 0.0 < low <= high:
        raise ValueError(f"need 0 < low <= high, not low={low!r}, high={high!r}")
    values = np.exp(np.linspace(np.log(low), np.log(high), KNOTS))
    values[0], values[-1] = low, high
    return QuantileTable(values)


@lru_cache(maxsize=256)
def exponential(mean: float) -> QuantileTable:
    """Exponential distribution with the given mean (the table's own mean is exact)."""
    return _tabulate(lambda p: float(-np.log1p(-p)), rescale_mean=mean)


@lru_cache(maxsize=256)
def pareto(alpha: float) -> QuantileTable:
    """Pareto distribution with minimum 1 and tail exponent ``alpha``: ``P(x > t) = t**-alpha``."""
    if not alpha > 0.0:
        raise ValueError(f"need alpha > 0, not {alpha!r}")
    return _tabulate(lambda p: float((1.0 - p) ** (-1.0 / alpha)))


def empirical(samples: ArrayLike) -> QuantileTable:
    """The distribution of observed samples (at least one, all finite)."""
    data = np.asarray(samples, dtype=np.float64)
    if data.size == 0 or not np.isfinite(data).all():
        raise ValueError("need at least one sample, all finite")
    return QuantileTable(np.quantile(data, np.linspace(0.0, 1.0, KNOTS)))


@lru_cache(maxsize=1)
def _shares() -> F64:
    """Probabilities of the knots of :func:`by_score`, in knots."""
    unit = NormalDist()
    return np.array([unit.cdf(float(z)) for z in np.linspace(-REACH, REACH, KNOTS)]) * (KNOTS - 1)


def by_score(table: QuantileTable) -> QuantileTable:
    """The same distribution over normal scores: knots are equally spaced in the score from -REACH to REACH.

    Sampled at :func:`score_position`, it gives the quantile at which a normal score stands.
    """
    return QuantileTable(np.interp(_shares(), np.arange(KNOTS), table.values))


def score_position(z: F64) -> F64:
    """Where normal scores stand in a table made by :func:`by_score`, in [0, 1)."""
    return np.minimum(np.maximum(z * (0.5 / REACH) + 0.5, 0.0), _LAST)


_MANTISSA_LOG10: Final = np.log10(np.linspace(0.5, 1.0, KNOTS))
_LOG10_2: Final = float(np.log10(2.0))


def log10(values: F64) -> F64:
    """Decimal logarithm of numbers above zero, the same bits alone or in a batch; exact to 6e-8.

    Mantissa and exponent are taken apart; the mantissa's logarithm comes from a table, by interpolation.

    >>> log10(np.array([0.1, 1.0, 1000.0])).round(7)
    array([-1.,  0.,  3.])
    """
    mantissa, exponent = np.frexp(values)
    position = (mantissa - 0.5) * (2 * (KNOTS - 1))
    index = position.astype(np.int64)
    low = _MANTISSA_LOG10.take(index)
    return low + (position - index) * (_MANTISSA_LOG10.take(index + 1) - low) + exponent * _LOG10_2


class QuantileBank:
    """Several tables stacked, so that draws from different ones are one interpolation.

    Args:
        tables: the tables; ``bank.sample(row, u)`` samples ``tables[row]`` elementwise.
    """

    def __init__(self, tables: Sequence[QuantileTable]) -> None:
        self._flat = np.concatenate([table.values for table in tables])

    def sample(self, row: NDArray[np.int64], u: F64) -> F64:
        """Sample table ``row`` at ``u``; the two broadcast."""
        position = u * (KNOTS - 1)
        index = position.astype(np.int64)
        position -= index
        index += row * KNOTS
        low = self._flat.take(index)
        index += 1
        high = self._flat.take(index)
        high -= low
        high *= position
        high += low
        return high
