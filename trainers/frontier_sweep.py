"""The frontier of policies: what each reaches at every operating point, and how much it covers in all.

One preference (the price of a dollar or a second, the budget or the deadline) is held at one value after the other.
Every policy plays the same episodes at each of them, which gives a curve of success against cost and against latency.
Beside the policies stand the single configurations and their random mixes, rules that adapt to the preference, and an
oracle that knows in advance which single call would succeed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from ..envs.hindsight import first_calls
from ..envs.router_core import RouterCore
from ..errors import PolicyError, RewardError
from ..rewards import PREFERENCE_NAMES, Preferences, WeightedSum
from ..scenarios.loading import load_scenario
from ..scenarios.schema import Scenario
from .baselines import Actor, Desk, One
from .evaluation import LANES, EpisodeRecords, play, resolve_policy
from .frontier_curves import F64, Frontier, Measure, Play

STATIC: Final = "static mixes"
ORACLE: Final = "oracle"
RIVALS: Final = (
    "greedy-index",
    "weitzman",
    "optimum",
    "exact-plan",
)  # they adapt to the preference; those that do not apply are left out


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
        inner = (float(f"{value:.3g}") for value in np.geomspace(low, high, points)[1:-1])
        return cls(name, (low, *inner, high))

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


class _Stage:
    """The episodes of one evaluation, to be played at any value of the preference."""

    def __init__(self, core: RouterCore, sweep: Sweep, episodes: int, seed: int, quality: str) -> None:
        self.core, self.sweep, self.episodes, self.seed, self.quality = core, sweep, episodes, seed, quality
        self._given = core.preference_source
        self.group = np.zeros(episodes, np.int64)

    def at(self, value: float) -> None:
        """Hold the swept preference at ``value``; tasks, luck and faults stay the same."""
        self.core.preference_source = self._given.at(self.sweep.name, value)

    def play(self, actor: Actor, label: str, value: float | None) -> Play:
        """Let ``actor`` play all episodes as things stand."""
        records = play(actor, self.core, self.episodes, self.seed)
        self.group = records.group
        calls = max(int(records.launches.sum()), 1)
        shares = {k: float(n) / calls for k, n in zip(self.core.config_names, records.launches.tolist(), strict=True)}
        cost, latency = records.component("cost_usd"), records.component("latency_s")
        return Play(label, value, cost, self._answered(records), latency, records.utility, shares)

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

    def policy(self, policy: Any, told: Callable[[str], None]) -> list[Play]:
        """Play one policy at every point; what depends on the preference in its making is made anew."""
        plays = []
        for value in self.sweep.values:
            self.at(value)
            plays.append(self.play(resolve_policy(policy, self.core)[1], f"{value:g}", value))
            told(plays[-1].label)
        return plays

    def singles(self, told: Callable[[str], None]) -> list[Play]:
        """Each configuration alone, as ``always-cheapest`` plays it, under the loosest limit of the sweep."""
        self.at(self.sweep.values[-1])
        desk = Desk(self.core)
        plays = []
        for k, name in enumerate(self.core.config_names):
            plays.append(self.play(One(desk, self.core, k), name, None))
            told(name)
        return plays

    def everything(self, singles: Sequence[Play]) -> tuple[float, float]:
        """Mean cost and time of every configuration once, one after the other, then a person if hand-overs count."""
        cost = float(sum(single.cost.mean() for single in singles))
        latency = float(sum(single.latency.mean() for single in singles))
        person = self.core.spec.person if self.quality == "resolved" else None
        if person is not None:
            cost, latency = cost + person.cost_usd.table().mean, latency + person.latency_s.table().mean
        return cost, latency

    def oracle(self) -> list[Play]:
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
                per_usd = np.maximum(given["per_usd"], 1e-9)  # of equal worth the cheaper one, where dollars are free
                price = per_usd * calls.cost_usd + given["per_s"] * calls.latency_s
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
            plays.append(Play(f"{value:g}", value, cost, there.astype(np.float64), latency, nothing, shares))
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
            configuration once, one after the other, and then a person if hand-overs count.
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
    played = {name: stage.policy(policy, partial(progress or _silent, name)) for name, policy in named.items()}
    played[STATIC] = stage.singles(partial(progress or _silent, STATIC))
    played[ORACLE] = stage.oracle()
    singles = played[STATIC]
    best = max(singles, key=lambda single: (single.success.mean(), -single.cost.mean()))
    best_cost, best_success = float(best.cost.mean()), float(best.success.mean())
    if reference is None:
        reference = stage.everything(singles)
    clusters = stage.group if loaded.tasks.kind == "table" else None  # type: ignore[attr-defined]
    measure = Measure(clusters, episodes, draws, best_cost, best_success, reference)
    curves = tuple(measure.curve(name, plays) for name, plays in played.items())
    return Frontier(
        curves, asked, chosen, loaded.name, loaded.hash, profile, intensity, split, seed, episodes, quality,
        best.label, best_cost, best_success, reference, None if clusters is None else int(np.unique(clusters).size),
    )  # fmt: skip


def _silent(name: str, point: str) -> None:
    """Tell nobody."""


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
