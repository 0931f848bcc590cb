"""Check that a scenario can be played in every profile and is neither trivial nor hopeless."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..envs.cores import make_core
from ..envs.lanes import LaneCore
from ..envs.router_core import RouterCore
from ..envs.streams import pick_allowed, stream_id, uniform
from ..envs.workflow_core import WorkflowCore
from ..errors import BrownoutError, ScenarioError
from ..scenarios.loading import load_scenario, profile_names
from ..scenarios.schema import Scenario
from .baselines import applicable_baselines, make_baseline
from .evaluation import play
from .solvability import Solvability, solvability

SEEDS = 1000
_STREAM = stream_id("check.action")
_LANES = 64
_WORLDS = 1000
_STOP = 0.1  # chance to consider the actions that end an episode, so that random play reaches its depths


@dataclass(frozen=True)
class FaultRate:
    """How often one planned fault struck during random play."""

    id: str
    strikes: int
    per_100_calls: float


@dataclass(frozen=True)
class ProfileReport:
    """What happened in one profile.

    Args:
        profile: its name.
        episodes: episodes of random play, and of each baseline.
        calls: calls placed in random play, the judge's included.
        faults: how often each planned fault struck in it.
        utilities: mean utility of each baseline, ``null`` included.
        best: the best baseline.
        solvability: of a workflow: what the oracle reaches; None elsewhere.
    """

    profile: str
    episodes: int
    calls: int
    faults: tuple[FaultRate, ...]
    utilities: Mapping[str, float]
    best: str
    solvability: Solvability | None = None


@dataclass(frozen=True)
class CheckReport:
    """Outcome of a check; ``problems`` make it fail, ``notes`` are for the author to judge.

    Args:
        scenario: its name.
        scenario_hash: digest of its content.
        problems: what makes it unfit.
        notes: what is unusual.
        unsolvable: share of tasks that no configuration solves with all its calls; NaN if unknown.
        profiles: one report per profile that could be played.
    """

    scenario: str
    scenario_hash: str
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    unsolvable: float
    profiles: tuple[ProfileReport, ...]

    @property
    def ok(self) -> bool:
        """Whether there is no problem."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; an unknown share becomes None."""
        data = asdict(self)
        data["unsolvable"] = self.unsolvable if np.isfinite(self.unsolvable) else None
        for report, plain in zip(self.profiles, data["profiles"], strict=True):
            plain["solvability"] = None if report.solvability is None else report.solvability.to_dict()
        return {"ok": self.ok, **data}

    def to_text(self) -> str:
        """Lines for a person to read."""
        lines = [f"{self.scenario} ({self.scenario_hash}): {'ok' if self.ok else 'NOT OK'}"]
        lines += [f"  problem: {text}" for text in self.problems]
        lines += [f"  note: {text}" for text in self.notes]
        if np.isfinite(self.unsolvable):
            lines.append(f"  {self.unsolvable:.1%} of tasks are beyond every configuration")
        for report in self.profiles:
            ranked = sorted(report.utilities.items(), key=lambda item: -item[1])[:3]
            best = ", ".join(f"{name} {value:.3f}" for name, value in ranked)
            lines.append(f"  {report.profile}: {best} ({report.episodes} episodes each)")
            if report.solvability is not None:
                lines.append(f"    {report.solvability.to_text()}")
            if report.faults:
                rates = ", ".join(f"{rate.id} {rate.per_100_calls:.1f}" for rate in report.faults)
                lines.append(f"    strikes per 100 calls of random play: {rates}")
        return "\n".join(lines)


def check_scenario(
    scenario: str | Path | Mapping[str, Any] | Scenario,
    *,
    episodes: int = 500,
    profiles: Iterable[str] | None = None,
    seeds: int = SEEDS,
) -> CheckReport:
    """Play a scenario at random and with every baseline, in every profile, and judge it.

    Problems are: an exception, an observation that is not finite or outside its column's range, a mask
    without a legal action, a null policy that gains, a profile in which no baseline beats doing nothing,
    limits that no call fits into; in a workflow also an episode that is neither solved by the oracle nor out of
    reach for a known reason, and one that doing nothing solves (see :mod:`brownout.trainers.solvability`).

    Args:
        scenario: built-in name, path, mapping or scenario.
        episodes: episodes per profile and policy.
        profiles: profiles to check; default: all.
        seeds: episodes of a workflow that the oracle is to solve, per profile.

    Raises:
        ScenarioError: if the scenario cannot be loaded at all, or has no such profile.
    """
    loaded = load_scenario(scenario)
    problems: list[str] = []
    notes: list[str] = []
    reports: list[ProfileReport] = []
    unsolvable = float("nan")
    try:
        core = make_core(loaded, _WORLDS, profile="clean", split="train")
        if isinstance(core, RouterCore):
            unsolvable = _look_at_portfolio(core, problems, notes)
    except BrownoutError as error:
        return CheckReport(loaded.name, loaded.hash, (str(error),), (), unsolvable, ())
    known = profile_names(loaded)
    for profile in profiles or known:
        if profile not in known:
            raise ScenarioError(f"{loaded.name}: profile: got {profile!r}; allowed: {', '.join(known)}")
        try:
            reports.append(_check_profile(loaded, profile, episodes, seeds, problems, notes))
        except BrownoutError as error:
            problems.append(f"{profile}: {error}")
        except Exception as error:  # whatever a plug-in raises belongs in the report
            problems.append(f"{profile}: {type(error).__name__}: {error}")
    return CheckReport(loaded.name, loaded.hash, tuple(problems), tuple(notes), unsolvable, tuple(reports))


# ---------------------------------------------------------------- portfolio


def _look_at_portfolio(core: RouterCore, problems: list[str], notes: list[str]) -> float:
    """Find what is dominated or cannot be afforded; return the share of tasks beyond every configuration."""
    core.seed(core.all_lanes, range(core.num_lanes))
    core.begin(core.all_lanes)
    source, names = core.source, core.config_names
    solved = np.zeros(core.num_lanes, np.bool_)
    first = np.zeros((core.num_lanes, len(names)), np.bool_)
    fastest, cheapest = np.inf, np.inf
    for k in range(len(names)):
        for j in range(int(source.calls_allowed[:, k].max())):
            allowed = j < source.calls_allowed[:, k]
            outcome = source.call(core.all_lanes, core.keys, np.full(core.num_lanes, k), np.full(core.num_lanes, j))
            solved |= outcome.right & allowed
            first[:, k] |= outcome.right & (j == 0)
            if allowed.any():
                fastest = min(fastest, float(outcome.latency_s[allowed].min()))
                cheapest = min(cheapest, float(outcome.cost_usd[allowed].min()))
    _note_dominated(core, first, notes)
    wanted = {column.name: column for column in core.preference_source.columns}
    budget, deadline = wanted["budget_usd"], wanted["deadline_s"]
    if core.ends_on_budget and cheapest >= budget.low:
        problems.append(
            f"limits.budget_usd {budget.low:g} ends every episode: the cheapest call seen costs {cheapest:.4g}"
        )
    elif core.ends_on_budget and float(source.expected_cost.min()) > budget.low:
        least = float(source.expected_cost.min())
        notes.append(
            f"limits.budget_usd {budget.low:g} is below the mean cost of every configuration ({least:.4g} at least)"
        )
    if core.ends_on_deadline and fastest >= deadline.low:
        problems.append(
            f"limits.deadline_s {deadline.low:g} ends every episode: the fastest call seen takes {fastest:.4g} s"
        )
    elif core.ends_on_deadline:
        late = [n for n, s in zip(names, source.expected_latency, strict=True) if s > deadline.low]
        if late:
            notes.append(f"limits.deadline_s {deadline.low:g} is below the mean latency of: {', '.join(late)}")
    return float(1.0 - solved.mean())


def _note_dominated(core: RouterCore, right: NDArray[np.bool_], notes: list[str]) -> None:
    """Note configurations that another beats in price, time and success on every class of task."""
    source, names = core.source, core.config_names
    groups = [source.group == g for g in np.unique(source.group)] if core.spec.tasks.kind == "model" else []
    rates = np.stack([right[rows].mean(axis=0) for rows in groups] or [core.strength])
    slack = 0.02  # sampling error of a rate over a thousand tasks
    for k, name in enumerate(names):
        better = [
            j
            for j in range(len(names))
            if j != k
            and source.expected_cost[j] <= source.expected_cost[k]
            and source.expected_latency[j] <= source.expected_latency[k]
            and (rates[:, j] >= rates[:, k] + slack).all()
        ]
        if better:
            winner = max(better, key=lambda j: float(core.strength[j]))
            notes.append(f"portfolio.{name} is dominated by {names[winner]}: cheaper, faster and right more often")


# ---------------------------------------------------------------- play


def _check_profile(
    scenario: Scenario, profile: str, episodes: int, seeds: int, problems: list[str], notes: list[str]
) -> ProfileReport:
    core = make_core(scenario, min(_LANES, episodes), profile=profile, split="train")
    calls = _play_at_random(core, episodes, f"{profile}: random play", problems)
    faults: tuple[FaultRate, ...] = ()
    if core.plan is not None:
        counts = core.plan.log.counts
        faults = tuple(FaultRate(i, n, round(100.0 * n / max(calls, 1), 3)) for i, n in counts.items())
        silent = [rate.id for rate in faults if not rate.strikes]
        if silent:
            notes.append(f"{profile}: never struck in {episodes} episodes of random play: {', '.join(silent)}")
    elif scenario.profiles.get(profile):
        problems.append(f"{profile}: the fault plan is not in force")
    utilities: dict[str, float] = {}
    arena = make_core(scenario, min(512, episodes), profile=profile, split="eval")
    for name in [*applicable_baselines(arena), "null"]:
        utilities[name] = float(play(make_baseline(name, arena), arena, episodes).utility.mean())
    if utilities["null"] > 1e-9:
        problems.append(f"{profile}: doing nothing gains {utilities['null']:.4f}; allowed: 0 at most")
    best = max((name for name in utilities if name != "null"), key=lambda name: utilities[name])
    if utilities[best] <= max(utilities["null"], 0.0):
        problems.append(f"{profile}: no baseline beats doing nothing; the best is {best} with {utilities[best]:.4f}")
    elif best in ("random", "always-escalate", "always-cheapest"):
        notes.append(f"{profile}: {best} is the best baseline ({utilities[best]:.4f}), so there is little to decide")
    found = None
    if isinstance(core, WorkflowCore):
        found = solvability(scenario, profile, episodes=seeds)
        if not found.ok:
            problems.append(f"{profile}: {found.to_text()}")
    return ProfileReport(profile, episodes, calls, faults, utilities, best, found)


def _play_at_random(core: LaneCore, episodes: int, where: str, problems: list[str]) -> int:
    """Play random legal actions and look at everything that comes back; returns the calls placed."""
    low = np.array([column.low for column in core.observation_columns], np.float32)
    high = np.array([column.high for column in core.observation_columns], np.float32)
    ends = np.arange(len(core.action_names)) >= len(core.action_names) - 3
    said: set[str] = set()

    def complain(text: str) -> None:
        if text not in said:
            said.add(text)
            problems.append(f"{where}: {text}")

    core.seed(core.all_lanes, range(core.num_lanes))
    core.begin(core.all_lanes)
    finished = calls = 0
    while finished < episodes:
        observation, mask = core.observe(), core.mask()
        outside = ~((observation >= low) & (observation <= high)).all(axis=0)
        for column in np.flatnonzero(outside):
            name, values = core.observation_columns[column].name, observation[:, column]
            complain(
                f"{name} leaves its range {low[column]:g} to {high[column]:g}: met {values.min():g} to {values.max():g}"
            )
        if not mask.any(axis=1).all():
            complain("a mask without any legal action")
            break
        draws = [uniform(core.keys, _STREAM, 2 * core.steps + i) for i in (0, 1)]
        goes_on = mask & ~ends
        choice = np.where(((draws[1] < _STOP) | ~goes_on.any(axis=1))[:, None], mask, goes_on)
        core.advance(pick_allowed(draws[0], choice))
        if not (np.isfinite(core.reward).all() and np.isfinite(core.components).all()):
            complain("a reward or component that is not finite")
        if (core.components[:, 1:4] < -1e-9).any():
            complain("negative money or time")
        ended = np.flatnonzero(core.terminated | core.truncated)
        if ended.size:
            finished += ended.size
            calls += int(core.placed(ended).sum())
            core.begin(ended)
    # the log has the calls of unfinished episodes too
    return calls + int(core.placed(core.all_lanes).sum())
