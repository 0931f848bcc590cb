"""The frontier of policies: what each reaches at every operating point, and how much it covers in all.

One preference (the price of a dollar or a second, the budget or the deadline) is held at one value after the other.
Every policy plays the same episodes at each of them, which gives a curve of success against cost and against latency.
Beside the policies stand the single configurations and their random mixes, rules that adapt to the preference, and an
oracle that knows in advance which single call would succeed.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..envs.hindsight import first_calls
from ..envs.router_core import RouterCore
from ..envs.streams import stream_id, uniform
from ..errors import PolicyError, RewardError
from ..rewards import PREFERENCE_NAMES, Preferences, WeightedSum
from ..scenarios.loading import load_scenario
from ..scenarios.schema import Scenario
from .baselines import Actor, Desk, One
from .evaluation import LANES, EpisodeRecords, play, resolve_policy
from .frontier import hull_figures, hypervolume_2d
from .statistics import Estimate, bootstrap_estimate, mean, proportion

F64 = NDArray[np.float64]
STATIC: Final = "static mixes"
ORACLE: Final = "oracle"
RIVALS: Final = ("greedy-index", "weitzman")  # they adapt to the preference; those that do not apply are left out
FIGURES: Final = ("aiq", "success_at_cost", "cost_at_success", "hypervolume_cost", "hypervolume_latency")
_BOOTSTRAP: Final = stream_id("frontier.bootstrap")


@dataclass(frozen=True)
class Sweep:
    """One preference and the values it takes, in rising order.

    Args:
        name: ``per_usd``, ``per_s``, ``budget_usd`` or ``deadline_s``.
        values: at least two.
    """

    name: str
    values: tuple[float, ...]

    @classmethod
    def parse(cls, text: str) -> Sweep:
        """Read ``per_usd=0.1:100:9`` (nine values, equally spaced in the logarithm) or ``per_usd=0.1,1,10``.

        Raises:
            PolicyError: naming what was met and what is allowed.

        >>> Sweep.parse("per_usd=0.1:10:3").values
        (0.1, 1.0, 10.0)
        """
        name, sign, right = text.partition("=")
        name = name.strip()
        allowed = "NAME=LOW:HIGH:POINTS or NAME=VALUE,VALUE,..., such as per_usd=0.1:100:9"
        if not sign:
            raise PolicyError(f"sweep {text!r}: allowed: {allowed}")
        if name not in PREFERENCE_NAMES:
            raise PolicyError(f"sweep {text!r}: no preference {name!r}; allowed: {', '.join(PREFERENCE_NAMES)}")
        try:
            if ":" in right:
                low, high, points = right.split(":")
                return cls.between(name, float(low), float(high), int(points))
            return cls(name, tuple(sorted(float(value) for value in right.split(","))))
        except ValueError as error:
            if isinstance(error, PolicyError):
                raise
            raise PolicyError(f"sweep {text!r}: {right!r} is not readable; allowed: {allowed}") from None

    @classmethod
    def between(cls, name: str, low: float, high: float, points: int = 9) -> Sweep:
        """Values from ``low`` to ``high``, equally spaced in the logarithm.

        Raises:
            PolicyError: unless ``0 < low < high`` and there are 2 to 100 points.
        """
        if not (0.0 < low < high < float("inf") and 2 <= points <= 100):
            raise PolicyError(
                f"sweep of {name}: got {low:g} to {high:g} in {points} points; allowed: 0 < low < high, 2 to 100 points"
            )
        return cls(name, tuple(float(f"{value:.6g}") for value in np.geomspace(low, high, points)))

    @classmethod
    def of(cls, preferences: Preferences, points: int = 9) -> Sweep:
        """The range of the first preference that a scenario samples.

        Raises:
            PolicyError: if it samples none.
        """
        for column in preferences.columns:
            if column.sampled:
                return cls.between(column.name, column.low, column.high, points)
        raise PolicyError("the scenario samples no preference; say what to sweep, such as --sweep per_usd=0.1:100:9")

    def __post_init__(self) -> None:
        """Refuse values that cannot be swept."""
        fits = all(0.0 <= value < float("inf") for value in self.values)
        if len(set(self.values)) < 2 or not fits:
            raise PolicyError(
                f"sweep of {self.name}: got {list(self.values)}; allowed: two or more different numbers from 0"
            )


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


# ---------------------------------------------------------------- playing


@dataclass(frozen=True, eq=False)
class _Play:
    """Per-episode cost, success and latency of one policy at one point."""

    label: str
    value: float | None
    cost: F64
    success: F64
    latency: F64
    utility: F64
    launches: Mapping[str, float]


class _Stage:
    """The episodes of one evaluation, to be played at any value of the preference."""

    def __init__(self, core: RouterCore, sweep: Sweep, episodes: int, seed: int, quality: str) -> None:
        self.core, self.sweep, self.episodes, self.seed, self.quality = core, sweep, episodes, seed, quality
        self._given = core.preference_source
        self.group = np.zeros(episodes, np.int64)

    def at(self, value: float) -> None:
        """Hold the swept preference at ``value``; tasks, luck and faults stay the same."""
        self.core.preference_source = self._given.at(self.sweep.name, value)

    def play(self, actor: Actor, label: str, value: float | None) -> _Play:
        """Let ``actor`` play all episodes as things stand."""
        records = play(actor, self.core, self.episodes, self.seed)
        self.group = records.group
        calls = max(int(records.launches.sum()), 1)
        shares = {k: float(n) / calls for k, n in zip(self.core.config_names, records.launches.tolist(), strict=True)}
        cost, latency = records.component("cost_usd"), records.component("latency_s")
        return _Play(label, value, cost, self._answered(records), latency, records.utility, shares)

    def _answered(self, records: EpisodeRecords) -> F64:
        answered = records.component("accuracy") > 0
        if self.quality == "resolved":
            answered = answered | (records.component("handoff") > 0)
        return answered.astype(np.float64)

    def applies(self, policy: str) -> bool:
        """Whether a baseline can be made at every point; an exact policy exists for some scenarios only."""
        try:
            for value in self.sweep.values:
                self.at(value)
                resolve_policy(policy, self.core)
        except PolicyError:
            return False
        return True

    def policy(self, policy: Any, told: Callable[[str], None]) -> list[_Play]:
        """Play one policy at every point; what depends on the preference in its making is made anew."""
        plays = []
        for value in self.sweep.values:
            self.at(value)
            plays.append(self.play(resolve_policy(policy, self.core)[1], f"{value:g}", value))
            told(plays[-1].label)
        return plays

    def singles(self, told: Callable[[str], None]) -> list[_Play]:
        """Each configuration alone, as ``always-cheapest`` plays it, under the loosest limit of the sweep."""
        self.at(self.sweep.values[-1])
        desk = Desk(self.core)
        plays = []
        for k, name in enumerate(self.core.config_names):
            plays.append(self.play(One(desk, self.core, k), name, None))
            told(name)
        return plays

    def oracle(self) -> list[_Play]:
        """One call to the configuration that is known to succeed at the least price, if it is worth that."""
        calls = first_calls(self.core, self.episodes, self.seed)
        core, reward = self.core, self.core.reward_function
        prize = reward.accuracy if isinstance(reward, WeightedSum) else np.inf
        rows = np.arange(self.episodes)
        plays = []
        for value in self.sweep.values:
            self.at(value)
            given = {name: array[:, None] for name, array in core.preference_source.sample(calls.keys).items()}
            price = calls.cost_usd
            if isinstance(reward, WeightedSum):
                price = given["per_usd"] * calls.cost_usd + given["per_s"] * calls.latency_s
            fits = calls.right & (price < prize)
            if core.ends_on_budget:
                fits &= calls.cost_usd < given["budget_usd"]
            if core.ends_on_deadline:
                fits &= calls.latency_s <= given["deadline_s"]
            best = np.where(fits, price, np.inf).argmin(axis=1)
            there = fits[rows, best]
            cost, latency = (np.where(there, array[rows, best], 0.0) for array in (calls.cost_usd, calls.latency_s))
            counts = np.bincount(best[there], minlength=core.num_configs) / max(int(there.sum()), 1)
            shares = dict(zip(core.config_names, counts.tolist(), strict=True))
            nothing = np.full(self.episodes, np.nan)
            plays.append(_Play(f"{value:g}", value, cost, there.astype(np.float64), latency, nothing, shares))
        return plays


def evaluate_frontier(
    policies: Mapping[str, Any] | Sequence[Any] | Any,
    scenario: str | Path | Scenario | dict[str, Any],
    *,
    sweep: Sweep | str | None = None,
    episodes: int = 5000,
    profile: str = "production",
    intensity: float = 1.0,
    split: str = "eval",
    seed: int = 0,
    lanes: int = LANES,
    quality: str = "success",
    rivals: Iterable[str] = RIVALS,
    reference: tuple[float, float] | None = None,
    draws: int = 400,
    progress: Callable[[str, str], None] | None = None,
) -> Frontier:
    """Let policies play the same episodes at every value of a preference.

    The other preferences are what the scenario says; one that it samples is drawn as ever, the same at every point.

    Args:
        policies: policies, artefact folders or ``baseline:NAME``, as a list or by name.
        scenario: built-in name, path, mapping or scenario.
        sweep: the preference and its values, or text for :meth:`Sweep.parse`; default: nine values over the range
            of the first preference that the scenario samples.
        episodes: number of episodes at each point.
        profile: fault profile.
        intensity: fault intensity.
        split: ``eval`` (default) or ``train``.
        seed: seed of the episodes.
        lanes: lanes to play on; changes speed, not results.
        quality: ``success``, or ``resolved``, which also counts hand-overs to a person who gets it right.
        rivals: names of baselines to add, where they apply.
        reference: cost and latency of the hypervolumes' reference point; default: those of calling every
            configuration once, one after the other.
        draws: bootstrap draws.
        progress: called with a policy's name and the point that it has finished.

    Raises:
        PolicyError: no policy, one that cannot be resolved, nothing to sweep, or a value that cannot be used.
    """
    loaded = load_scenario(scenario)
    core = RouterCore(loaded, min(lanes, max(episodes, 1)), profile=profile, intensity=intensity, split=split)
    chosen = Sweep.of(core.preference_source) if sweep is None else sweep
    chosen = Sweep.parse(chosen) if isinstance(chosen, str) else chosen
    if quality not in ("success", "resolved"):
        raise PolicyError(f"quality: got {quality!r}; allowed: success, resolved")
    if draws < 2:
        raise PolicyError(f"draws: got {draws!r}; allowed: 2 or more")
    if reference is not None and not all(0.0 < end < np.inf for end in reference):
        raise PolicyError(f"reference: got {reference!r}; allowed: a cost and a latency above 0")
    stage = _Stage(core, chosen, episodes, seed, quality)
    try:
        for value in chosen.values:
            stage.at(value)
    except RewardError as error:
        raise PolicyError(f"sweep: {error}") from None
    named = _named(policies, core)
    asked = len(named)
    for rival in rivals:
        if rival not in named and stage.applies(f"baseline:{rival}"):
            named[rival] = f"baseline:{rival}"

    def told(name: str) -> Callable[[str], None]:
        return (lambda point: None) if progress is None else (lambda point: progress(name, point))

    played = {name: stage.policy(policy, told(name)) for name, policy in named.items()}
    played[STATIC] = stage.singles(told(STATIC))
    played[ORACLE] = stage.oracle()
    singles = [(play.success.mean(), -play.cost.mean(), play.label) for play in played[STATIC]]
    success, cost, best = max(singles)
    if reference is None:
        reference = tuple(  # type: ignore[assignment]
            float(sum(array.mean() for array in column))
            for column in zip(*((play.cost, play.latency) for play in played[STATIC]), strict=True)
        )
    assert reference is not None
    clusters = stage.group if loaded.tasks.kind == "table" else None  # type: ignore[attr-defined]
    measure = _Measure(clusters, episodes, draws, float(-cost), float(success), reference)
    curves = tuple(measure.curve(name, plays) for name, plays in played.items())
    return Frontier(
        curves, asked, chosen, loaded.name, loaded.hash, profile, intensity, split, seed, episodes, quality, best,
        float(-cost), float(success), reference, None if clusters is None else int(np.unique(clusters).size),
    )  # fmt: skip


def _named(policies: Any, core: RouterCore) -> dict[str, Any]:
    """Policies by name; equal names get a prime."""
    if isinstance(policies, Mapping):
        named = dict(policies)
        for policy in named.values():
            resolve_policy(policy, core)  # refuse before anything is played
    else:
        named = {}
        for policy in policies if isinstance(policies, (list, tuple)) else [policies]:
            name = resolve_policy(policy, core)[0]
            while name in named:
                name += "'"
            named[name] = policy
    if not named:
        raise PolicyError("policies: got none; allowed: one or more")
    reserved = [name for name in (STATIC, ORACLE) if name in named]
    if reserved:
        raise PolicyError(f"policies: the name {reserved[0]!r} is taken; give another")
    return named


class _Measure:
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

    def curve(self, name: str, plays: Sequence[_Play]) -> Curve:
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

    def _point(self, play: _Play) -> Point:
        return Point(
            play.label, play.value, mean(play.utility, self.clusters), proportion(play.success, self.clusters),
            mean(play.cost, self.clusters), mean(play.latency, self.clusters), play.launches,
        )  # fmt: skip
