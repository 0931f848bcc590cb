"""Curves of policies over a sweep: points, figures with intervals, and how one compares with another."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from ..envs.streams import stream_id, uniform
from .frontier import hull_figures, hypervolume_2d
from .statistics import Estimate, bootstrap_estimate, mean, proportion

if TYPE_CHECKING:
    from .frontier_sweep import Sweep

F64 = NDArray[np.float64]
FIGURES: Final = ("aiq", "success_at_cost", "cost_at_success", "hypervolume_cost", "hypervolume_latency")
_BOOTSTRAP: Final = stream_id("frontier.bootstrap")


@dataclass(frozen=True)
class Point:
    """What a policy does at one operating point; intervals are 95 %, over queries where there are recorded ones.

    Args:
        label: the preference's value as text, or the name of a configuration.
        value: the preference's value; None for a single configuration.
        utility: mean utility at this preference; NaN for the oracle.
        success: share of episodes that count as answered.
        cost_usd: mean cost.
        latency_s: mean time.
        launches: share of each configuration among all calls.
    """

    label: str
    value: float | None
    utility: Estimate
    success: Estimate
    cost_usd: Estimate
    latency_s: Estimate
    launches: Mapping[str, float]


@dataclass(frozen=True)
class Curve:
    """A policy over the whole sweep; each figure carries a 95 % bootstrap interval.

    Args:
        name: of the policy.
        points: by rising preference.
        aiq: mean height of its quality hull up to the cost of the best single configuration.
        success_at_cost: success on that hull at the best single configuration's cost.
        cost_at_success: cost on that hull at the best single configuration's success; NaN if it never gets there.
        hypervolume_cost: share of the box between no cost, full success and the reference that its points dominate.
        hypervolume_latency: the same with latency for cost.
        draws: ``(B, 5)`` the figures on each resample.
    """

    name: str
    points: tuple[Point, ...]
    aiq: Estimate
    success_at_cost: Estimate
    cost_at_success: Estimate
    hypervolume_cost: Estimate
    hypervolume_latency: Estimate
    draws: F64 = field(repr=False, compare=False)


@dataclass(frozen=True)
class Frontier:
    """Curves of policies on the same episodes.

    Args:
        curves: the policies in the order given, then rivals, static mixes and oracle.
        policies: how many of them were asked for.
        sweep: which preference took which values.
        scenario: name of the scenario.
        scenario_hash: its digest.
        profile: fault profile.
        intensity: fault intensity.
        split: the episodes' split.
        seed: their seed.
        episodes: their number, at each point.
        quality: what counts as answered: ``success``, or ``resolved`` with right hand-overs.
        best_single: the single configuration with the most successes.
        best_cost: its mean cost, USD: where the AIQ's hull ends.
        best_success: its success.
        reference: cost and latency of the hypervolumes' reference point, at success 0.
        clusters: distinct recorded queries; None for modelled tasks.
    """

    curves: tuple[Curve, ...]
    policies: int
    sweep: Sweep
    scenario: str
    scenario_hash: str
    profile: str
    intensity: float
    split: str
    seed: int
    episodes: int
    quality: str
    best_single: str
    best_cost: float
    best_success: float
    reference: tuple[float, float]
    clusters: int | None

    def curve(self, name: str) -> Curve:
        """The curve of the policy called ``name``."""
        return next(curve for curve in self.curves if curve.name == name)

    def ratio(self, first: str, other: str, figure: str = "hypervolume_cost") -> Estimate:
        """A figure of one curve over that of another; the interval is paired, over the same resamples.

        Args:
            first: name of a curve.
            other: name of another.
            figure: one of :data:`FIGURES`.
        """
        a, b, column = self.curve(first), self.curve(other), FIGURES.index(figure)
        with np.errstate(divide="ignore", invalid="ignore"):
            whole = np.divide(getattr(a, figure).value, getattr(b, figure).value)
            return bootstrap_estimate(float(whole), a.draws[:, column] / b.draws[:, column], self.episodes)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; undefined numbers become None."""
        data = {key: getattr(self, key) for key in self.__dataclass_fields__ if key != "curves"}
        data["sweep"] = asdict(self.sweep)
        data["curves"] = [
            {key: value for key, value in asdict(curve).items() if key != "draws"} for curve in self.curves
        ]
        return _plain(data)

    def to_json(self) -> str:
        """The same as text."""
        return json.dumps(self.to_dict(), indent=2)

    def to_csv(self) -> str:
        """One line per point: policy, preference, and each figure with its interval."""
        figures = ("success", "cost_usd", "latency_s", "utility")
        names = [f"{name}{end}" for name in figures for end in ("", "_low", "_high")]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["policy", "point", *names])
        for curve in self.curves:
            for point in curve.points:
                estimates = [getattr(point, name) for name in figures]
                writer.writerow([curve.name, point.label, *(n for e in estimates for n in (e.value, e.low, e.high))])
        return text.getvalue()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


@dataclass(frozen=True, eq=False)
class Play:
    """Per-episode cost, success and latency of one policy at one point."""

    label: str
    value: float | None
    cost: F64
    success: F64
    latency: F64
    utility: F64
    launches: Mapping[str, float]


class Measure:
    """Turns plays into points and figures; every curve is resampled alike, so differences are paired."""

    def __init__(
        self, clusters: NDArray[np.int64] | None, episodes: int, draws: int, cost: float, success: float,
        reference: tuple[float, float],
    ) -> None:  # fmt: skip
        self.clusters, self.cost, self.success, self.reference = clusters, cost, success, reference
        ids = np.arange(episodes) if clusters is None else np.unique(clusters, return_inverse=True)[1]
        count = int(ids.max()) + 1
        keys = np.arange(count, dtype=np.uint64)
        weights = np.empty((episodes, draws))
        for draw in range(draws):
            picked = np.minimum((uniform(keys, _BOOTSTRAP, draw) * count).astype(np.int64), count - 1)
            weights[:, draw] = np.bincount(picked, minlength=count)[ids]
        self._weights = weights / weights.sum(axis=0)

    def curve(self, name: str, plays: Sequence[Play]) -> Curve:
        """Points and figures of one policy."""
        cost, success, latency = (
            np.array([getattr(play, what) for play in plays]) for what in ("cost", "success", "latency")
        )
        whole = self._figures(cost.mean(axis=1), success.mean(axis=1), latency.mean(axis=1))
        resampled = [array @ self._weights for array in (cost, success, latency)]
        draws = np.array([self._figures(*columns) for columns in zip(*(array.T for array in resampled), strict=True)])
        n = cost.shape[1]
        figures = [bootstrap_estimate(value, draws[:, j], n) for j, value in enumerate(whole)]
        return Curve(name, tuple(self._point(play) for play in plays), *figures, draws=draws)

    def _figures(self, cost: F64, success: F64, latency: F64) -> tuple[float, ...]:
        """The five figures of :data:`FIGURES`."""
        volumes = (
            hypervolume_2d(np.column_stack([spent, success]), (most, 0.0)) / most if most > 0.0 else float("nan")
            for spent, most in zip((cost, latency), self.reference, strict=True)
        )
        hull = hull_figures(cost, success, self.cost, self.success) if self.cost > 0.0 else (float("nan"),) * 3
        return (*hull, *volumes)

    def _point(self, play: Play) -> Point:
        return Point(
            play.label, play.value, mean(play.utility, self.clusters), proportion(play.success, self.clusters),
            mean(play.cost, self.clusters), mean(play.latency, self.clusters), play.launches,
        )  # fmt: skip
