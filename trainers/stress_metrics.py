"""The metrics of a stress run: over the rows of one condition, and paired over those of two.

An episode played several times is one cluster: its repeats share everything but the agent's own luck. Differences
are taken episode by episode, over the means of its repeats.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..envs.streams import pick, stream_id, uniform
from . import statistics
from .statistics import Difference, Estimate
from .stress_report import Better, Figure
from .stress_rows import EpisodeRow

F64 = NDArray[np.float64]
_BOOTSTRAP: Final = stream_id("stress.bootstrap")
_DRAWS: Final = 1000
_FEWEST_DRAWS: Final = 200
_CELLS: Final = 5_000_000  # of the table of resampled episodes: a large run takes fewer draws, not all the memory


@dataclass(frozen=True)
class Metric:
    """One value per episode, averaged.

    Args:
        unit: of the value; ``share`` for yes and no.
        better: which direction is better.
        value: of one row.
    """

    unit: str
    better: Better
    value: Callable[[EpisodeRow], float]


def _ended(outcome: str) -> Metric:
    return Metric("share", "lower", lambda row: row.outcome == outcome)


def _agent(outcome: str) -> Metric:
    return Metric("share", "lower", lambda row: row.agent_outcome == outcome)


MEANS: Final[Mapping[str, Metric]] = {
    "success": Metric("share", "higher", lambda row: row.success),
    "utility": Metric("utility", "higher", lambda row: row.utility),
    "silent_garbage": _ended("silent_garbage"),
    "duplicate_effect": _ended("duplicate_effect"),
    "partial": _ended("partial"),
    "escalated": _ended("escalated"),
    "aborted": _ended("aborted"),
    "limit": _ended("limit"),
    "crash": _agent("crash"),
    "hang": _agent("hang"),
    "killed": _agent("killed"),
    "loop": _agent("loop"),
    "cost_usd": Metric("USD", "lower", lambda row: row.cost_usd),
    "latency_s": Metric("s", "lower", lambda row: row.latency_s),
    "calls": Metric("calls", "lower", lambda row: row.calls),
    "wrong_effects": Metric("effects", "lower", lambda row: row.wrong_effects),
    "duplicate_effects": Metric("effects", "lower", lambda row: row.duplicate_effects),
}
QUANTILES: Final[Mapping[str, tuple[str, float]]] = {
    "cost_usd.p50": ("cost_usd", 0.5),
    "cost_usd.p95": ("cost_usd", 0.95),
    "latency_s.p50": ("latency_s", 0.5),
    "latency_s.p95": ("latency_s", 0.95),
    "latency_s.p99": ("latency_s", 0.99),
}
RECOVERY: Final = "recovery"
Episode = tuple[int, int]


class Sample:
    """The valid rows of one condition.

    Args:
        rows: in any order; those without a score are left out.
    """

    def __init__(self, rows: Sequence[EpisodeRow]) -> None:
        self.rows = sorted((row for row in rows if row.valid), key=lambda row: row.key)

    @cached_property
    def by_episode(self) -> dict[Episode, list[EpisodeRow]]:
        """The rows of each episode, in the order of the repeats."""
        found: dict[Episode, list[EpisodeRow]] = {}
        for row in self.rows:
            found.setdefault((row.seed, row.episode), []).append(row)
        return found

    @property
    def repeats(self) -> int:
        """The most valid repeats that an episode has."""
        return max(map(len, self.by_episode.values()), default=0)

    def values(self, metric: Metric) -> F64:
        """One value per row."""
        return np.array([metric.value(row) for row in self.rows], dtype=np.float64)

    def clusters(self) -> NDArray[np.int64] | None:
        """The number of each row's episode; None where every row is an episode of its own."""
        if self.repeats < 2:
            return None
        number = {episode: i for i, episode in enumerate(self.by_episode)}
        return np.array([number[row.seed, row.episode] for row in self.rows], dtype=np.int64)

    def where(self, test: Callable[[EpisodeRow], bool]) -> Sample:
        """The rows that pass a test."""
        return Sample([row for row in self.rows if test(row)])

    def estimate(self, metric: Metric) -> Estimate:
        """The mean of a metric, a share with Wilson's interval."""
        over = statistics.proportion if metric.unit == "share" else statistics.mean
        return over(self.values(metric), self.clusters())

    def grid(self, metric: Metric, episodes: Sequence[Episode]) -> F64:
        """``(E, R)`` values of episodes that all have the same number of valid repeats."""
        return np.array([[metric.value(row) for row in self.by_episode[one]] for one in episodes], dtype=np.float64)

    def full(self, repeats: int) -> list[Episode]:
        """The episodes all of whose repeats are valid."""
        return [episode for episode, rows in self.by_episode.items() if len(rows) == repeats]


def figures(sample: Sample, repeats: int) -> dict[str, Figure]:
    """Every metric of one condition.

    Args:
        sample: its rows.
        repeats: how often every episode was to be played.
    """
    found = {name: Figure.of(sample.estimate(one), one.unit, one.better) for name, one in MEANS.items()}
    for name, (of, q) in QUANTILES.items():
        found[name] = Figure.of(_quantile(sample, MEANS[of], q, repeats), MEANS[of].unit, "lower")
    for name, chance in _chances(repeats).items():
        found[name] = Figure.of(statistics.mean(_per_episode(sample, chance)), "share", "higher")
    struck = sample.where(lambda row: bool(row.injections))
    found[RECOVERY] = Figure.of(struck.estimate(MEANS["success"]), "share", "higher")
    return found


def differences(a: Sample, b: Sample, repeats: int) -> dict[str, tuple[Figure, float]]:
    """Every metric's paired difference ``a - b``, with the smallest difference that would probably be found.

    Recovery has none: which episodes a fault strikes depends on what the agent does in them.
    """
    shared = [episode for episode in a.by_episode if episode in b.by_episode]
    full = [episode for episode in a.full(repeats) if len(b.by_episode.get(episode, ())) == repeats]
    found: dict[str, tuple[Figure, float]] = {}

    def keep(name: str, gap: Difference, unit: str, better: Better) -> None:
        found[name] = Figure.of(gap, unit, better), gap.smallest_detectable

    for name, metric in MEANS.items():
        keep(name, difference(a, b, metric, shared), metric.unit, metric.better)
    for name, (of, q) in QUANTILES.items():
        metric = MEANS[of]
        keep(name, _quantile_difference(a.grid(metric, full), b.grid(metric, full), q), metric.unit, "lower")
    for name, chance in _chances(repeats).items():
        first, second = (np.array([chance(one.by_episode[e]) for e in full]) for one in (a, b))
        keep(name, _paired(first, second, share=True), "share", "higher")
    return found


def difference(a: Sample, b: Sample, metric: Metric, episodes: Sequence[Episode]) -> Difference:
    """The paired difference ``a - b`` of a metric's mean over episodes that both have."""
    first, second = (
        np.array([np.mean([metric.value(row) for row in one.by_episode[e]]) for e in episodes], dtype=np.float64)
        for one in (a, b)
    )
    return _paired(first, second, metric.unit == "share")


def _paired(a: F64, b: F64, share: bool) -> Difference:
    whole = bool(np.isin(a, (0.0, 1.0)).all() and np.isin(b, (0.0, 1.0)).all())
    if share and (whole or np.array_equal(a, b)):
        # an interval of no width would say that the two never differ
        return statistics.paired_proportion(a == 1.0, b == 1.0) if whole else statistics.paired_proportion(a * 0, b * 0)
    return statistics.paired_difference(a, b)


def _chances(repeats: int) -> dict[str, Callable[[Sequence[EpisodeRow]], float]]:
    """pass@1, and with repeats pass@k and pass^k for every k that they allow."""
    found: dict[str, Callable[[Sequence[EpisodeRow]], float]] = {}
    for k in range(1, repeats + 1):
        for name, chance in (("pass@", statistics.pass_at_k), ("pass^", statistics.pass_hat_k)):
            if k > 1 or name == "pass@":
                found[f"{name}{k}"] = lambda rows, chance=chance, k=k: float(
                    chance([len(rows)], [sum(row.success for row in rows)], k)[0]
                )
    return found


def _per_episode(sample: Sample, chance: Callable[[Sequence[EpisodeRow]], float]) -> F64:
    """One chance per episode; episodes with too few valid repeats have none and are left out of ``n``."""
    found = np.array([chance(rows) for rows in sample.by_episode.values()], dtype=np.float64)
    return found[~np.isnan(found)]


def _quantile(sample: Sample, metric: Metric, q: float, repeats: int) -> Estimate:
    if repeats == 1:
        return statistics.quantile(sample.values(metric), q)
    values = sample.grid(metric, sample.full(repeats))
    if not len(values):
        return statistics.quantile([], q)
    draws = _resampled_quantiles(values, _resampled(len(values)), q)
    return statistics.bootstrap_estimate(float(np.quantile(values, q)), draws, values.size)


def _quantile_difference(a: F64, b: F64, q: float) -> Difference:
    """Difference of two quantiles over the same episodes, resampled together; ``a`` and ``b`` are ``(E, R)``."""
    n = len(a)
    nan = statistics.NAN
    if n < 2:
        return Difference(nan, nan, nan, n, nan, nan)
    rows = _resampled(n)
    draws = _resampled_quantiles(a, rows, q) - _resampled_quantiles(b, rows, q)
    known = np.isfinite(statistics.quantile(a[:, 0], q).high)  # too few episodes for this quantile: no interval
    value = float(np.quantile(a, q) - np.quantile(b, q))
    found = statistics.bootstrap_estimate(value, draws if known else [], n)
    return Difference(found.value, found.low, found.high, n, nan, nan)


def _resampled_quantiles(values: F64, rows: NDArray[np.int64], q: float) -> F64:
    return np.quantile(values[rows].reshape(len(rows), -1), q, axis=1)


def _resampled(n: int) -> NDArray[np.int64]:
    """``(draws, n)`` episodes, drawn with replacement."""
    draws = max(_FEWEST_DRAWS, min(_DRAWS, _CELLS // n))
    keys = np.arange(n, dtype=np.uint64)
    return pick(uniform(keys[None, :], _BOOTSTRAP, np.arange(draws)[:, None]), n)
