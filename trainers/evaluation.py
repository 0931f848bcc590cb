"""Evaluation: many policies on the same episodes, with intervals and paired differences.

Episode ``e`` of an evaluation is episode number ``e`` of the lane seed ``seed`` in the chosen split, whatever the
number of lanes. Two policies therefore meet the same tasks, the same luck and the same faults, and differences are
taken episode by episode.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..envs.cores import make_core
from ..envs.hindsight import hindsight_bounds
from ..envs.lanes import LaneCore
from ..envs.optimum import ceiling_of
from ..envs.streams import stream_id, uniform
from ..envs.workflow_core import WorkflowCore
from ..errors import PolicyError
from ..scenarios.fault_selection import select_faults
from ..scenarios.loading import load_scenario
from ..scenarios.schema import RouterScenario, Scenario
from . import statistics
from .baselines import Actor, make_baseline
from .statistics import Difference, Estimate, read_number

F64 = NDArray[np.float64]
_ACTION_STREAM = stream_id("policy.action")
LANES = 512
_ORACLE_LANES = 2048  # it copies all lanes at every step, so few long steps are quicker


@dataclass(frozen=True, eq=False)
class EpisodeRecords:
    """What happened in ``E`` episodes, in the order of their numbers.

    Args:
        utility: ``(E,)`` sum of rewards.
        components: ``(E, C)`` sums of the objective components.
        steps: ``(E,)`` steps taken.
        outcome: ``(E,)`` index into ``outcome_names``.
        group: ``(E,)`` number of the query or task class.
        launches: ``(K,)`` calls placed per configuration, all episodes together.
        opening: ``(E, 2)`` the first two actions, -1 where there was none.
        component_names: names of the components.
        outcome_names: names of the outcomes.
        graded: whether answers have a quality, which then is the component ``accuracy``.
    """

    utility: F64
    components: F64
    steps: NDArray[np.int64]
    outcome: NDArray[np.int8]
    group: NDArray[np.int64]
    launches: NDArray[np.int64]
    opening: NDArray[np.int64]
    component_names: tuple[str, ...]
    outcome_names: tuple[str, ...]
    graded: bool = False

    def component(self, name: str) -> F64:
        """The ``(E,)`` sums of one component."""
        return self.components[:, self.component_names.index(name)]


def action_draws(actor: Actor, core: LaneCore) -> F64 | None:
    """The keyed uniforms of a stochastic actor's next action; None for a deterministic one."""
    return uniform(core.keys, _ACTION_STREAM, core.steps) if getattr(actor, "stochastic", False) else None


def play(
    actor: Actor,
    core: LaneCore,
    episodes: int,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
    first: int = 0,
) -> EpisodeRecords:
    """Play episodes ``first ... first + episodes - 1`` of one seed and record them.

    A lane whose episode has ended takes the next number, so no lane idles; the records do not depend on how
    many lanes there are.

    Args:
        actor: the policy; asked for its most likely action, or given keyed uniforms if it is stochastic.
        core: the lanes to play on; their state is overwritten.
        episodes: number of episodes ``E``.
        seed: seed of all of them.
        progress: called with the number of finished episodes.
        first: index of the first episode.
    """
    if episodes < 1:
        raise PolicyError(f"episodes: got {episodes!r}; allowed: 1 or more")
    n, c = core.num_lanes, len(core.component_names)
    utility, components = np.zeros(episodes), np.zeros((episodes, c))
    steps, outcome = np.zeros(episodes, np.int64), np.zeros(episodes, np.int8)
    group = np.zeros(episodes, np.int64)
    launches, opening = np.zeros(len(core.usage_names), np.int64), np.full((episodes, 2), -1)
    running = np.arange(n)
    active = running < episodes
    core.seed(core.all_lanes, [seed] * n)
    core.begin(core.all_lanes, running + first)
    group[running[active]] = core.group[active]
    following, finished = n, 0
    observation, mask = core.observe(), core.mask()
    while finished < episodes:
        actions = np.asarray(actor.act_batch(observation, mask, action_draws(actor, core)), dtype=np.int64)
        idle = None if active.all() else np.flatnonzero(~active)
        core.advance(actions, idle)
        lanes = core.all_lanes if idle is None else np.flatnonzero(active)
        episode = running[lanes]
        utility[episode] += core.reward[lanes]
        components[episode] += core.components[lanes]
        early = steps[episode] < 2
        if early.any():
            begun = episode[early]
            opening[begun, steps[begun]] = actions[lanes[early]]
        steps[episode] += 1
        ended = lanes[core.terminated[lanes] | core.truncated[lanes]]
        if ended.size:
            outcome[running[ended]] = core.outcome[ended]
            launches += core.usage(ended).sum(axis=0)
            finished += ended.size
            fresh = np.arange(following, following + ended.size)
            following += ended.size
            running[ended] = fresh
            active[ended] = fresh < episodes
            core.begin(ended, fresh + first)
            there = ended[active[ended]]
            group[running[there]] = core.group[there]
            if progress is not None:
                progress(finished)
        observation, mask = core.observe(), core.mask()
    return EpisodeRecords(
        utility, components, steps, outcome, group, launches, opening, core.component_names, core.outcome_names,
        core.graded,
    )  # fmt: skip


@dataclass(frozen=True)
class PolicyResult:
    """One row of an evaluation: a policy's figures, each with its 95 % interval.

    ``regret`` is the mean distance to the hindsight bound on the same episodes. ``quality`` is the mean quality of
    what was delivered, 0 where nothing was; None where answers are right or wrong.
    """

    name: str
    episodes: int
    utility: Estimate
    success: Estimate
    cost_usd: Estimate
    latency_s: Estimate
    cost_quantiles: dict[str, Estimate]
    latency_quantiles: dict[str, Estimate]
    outcomes: dict[str, float]
    launches: dict[str, float]
    steps: float
    share_of_ceiling: float | None = None
    share_of_bound: float | None = None
    regret: Estimate | None = None
    quality: Estimate | None = None
    against: Difference | None = None
    records: EpisodeRecords | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Evaluation:
    """The table of an evaluation; ``against`` in each row is the first policy minus that row.

    Args:
        rows: one per policy, in the order given.
        scenario: name of the scenario.
        scenario_hash: digest of the scenario.
        profile: fault profile, and which of its faults if not all.
        intensity: fault intensity.
        split: episodes' split.
        seed: seed of the episodes.
        ceiling: best achievable utility, where it is known.
        bound: mean hindsight bound of the same episodes, which no policy can pass; in a workflow what its oracle
            reaches in them, which is no bound in the strict sense; None where neither is known.
        clusters: distinct recorded queries the episodes were drawn from; None for model tasks.
        bound_kind: ``hindsight`` or ``oracle``.
    """

    rows: tuple[PolicyResult, ...]
    scenario: str
    scenario_hash: str
    profile: str
    intensity: float
    split: str
    seed: int
    ceiling: float | None
    bound: float | None
    clusters: int | None
    bound_kind: str | None = None

    def row(self, name: str) -> PolicyResult:
        """The row of the policy called ``name``."""
        return next(row for row in self.rows if row.name == name)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; undefined numbers become None."""

        def plain(value: Any) -> Any:
            if isinstance(value, (Estimate, Difference)):
                return {key: plain(getattr(value, key)) for key in value.__dataclass_fields__}
            if isinstance(value, PolicyResult):
                return {k: plain(getattr(value, k)) for k in value.__dataclass_fields__ if k != "records"}
            if isinstance(value, dict):
                return {key: plain(item) for key, item in value.items()}
            if isinstance(value, tuple):
                return [plain(item) for item in value]
            if isinstance(value, float):
                return float(value) if np.isfinite(value) else None
            return value

        return {key: plain(getattr(self, key)) for key in self.__dataclass_fields__}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Evaluation:
        """Read :meth:`to_dict` back; null stands for an undefined number, and episodes are not kept.

        Raises:
            KeyError, TypeError, ValueError: a field is missing or of the wrong type.
        """

        def maybe(read: Callable[[Any], Any], value: Any) -> Any:
            return None if value is None else read(value)

        def each(read: Callable[[Any], Any], values: Mapping[str, Any]) -> dict[str, Any]:
            return {str(key): read(value) for key, value in values.items()}

        def result(row: Mapping[str, Any]) -> PolicyResult:
            return PolicyResult(
                name=str(row["name"]), episodes=int(row["episodes"]), utility=Estimate.from_dict(row["utility"]),
                success=Estimate.from_dict(row["success"]), cost_usd=Estimate.from_dict(row["cost_usd"]),
                latency_s=Estimate.from_dict(row["latency_s"]),
                cost_quantiles=each(Estimate.from_dict, row["cost_quantiles"]),
                latency_quantiles=each(Estimate.from_dict, row["latency_quantiles"]),
                outcomes=each(read_number, row["outcomes"]), launches=each(read_number, row["launches"]),
                steps=read_number(row["steps"]),
                share_of_ceiling=maybe(float, row["share_of_ceiling"]),
                share_of_bound=maybe(float, row["share_of_bound"]), regret=maybe(Estimate.from_dict, row["regret"]),
                quality=maybe(Estimate.from_dict, row.get("quality")),
                against=maybe(Difference.from_dict, row["against"]),
            )  # fmt: skip

        return cls(
            rows=tuple(map(result, data["rows"])), scenario=str(data["scenario"]),
            scenario_hash=str(data["scenario_hash"]), profile=str(data["profile"]),
            intensity=float(data["intensity"]), split=str(data["split"]), seed=int(data["seed"]),
            ceiling=maybe(float, data["ceiling"]), bound=maybe(float, data["bound"]),
            clusters=maybe(int, data["clusters"]), bound_kind=maybe(str, data.get("bound_kind")),
        )  # fmt: skip

    def to_json(self) -> str:
        """The table as JSON text."""
        return json.dumps(self.to_dict(), indent=2)


def resolve_policy(policy: Any, core: LaneCore) -> tuple[str, Actor]:
    """Turn a policy, an artefact folder or ``baseline:NAME`` into a name and an actor for ``core``.

    Raises:
        PolicyError: if a name or folder is none of these.
        ArtefactError: if an artefact is damaged or does not fit the environment.
    """
    if hasattr(policy, "act_batch"):
        if hasattr(policy, "check"):
            policy.check(core)
        return str(getattr(policy, "name", None) or "policy"), policy
    text = str(policy)
    if text.startswith("baseline:"):
        name = text.removeprefix("baseline:")
        return name, make_baseline(name, core)
    from .artefact import load_policy

    if not Path(text).exists():
        raise PolicyError(f"no policy {text!r}: neither a folder nor baseline:NAME (see brownout evaluate --help)")
    loaded = load_policy(Path(text))
    loaded.check(core)
    return Path(text).name, loaded


def bind_policy(
    policy: Any, scenario: Scenario, episodes: int, *, profile: str, intensity: float, split: str
) -> tuple[str, Actor, LaneCore]:
    """Build the lanes to play ``episodes`` on, and turn a policy into a name and an actor for them.

    Raises:
        PolicyError, ArtefactError: as :func:`resolve_policy`.
    """
    core = make_core(scenario, min(LANES, episodes), profile=profile, intensity=intensity, split=split)
    return *resolve_policy(policy, core), core


def summarise(name: str, records: EpisodeRecords, clustered: bool, configs: Sequence[str]) -> PolicyResult:
    """Condense records into a row; intervals are cluster-robust over queries when ``clustered``."""
    clusters = records.group if clustered else None
    success = records.outcome == records.outcome_names.index("success")
    shares = np.bincount(records.outcome, minlength=len(records.outcome_names)) / len(records.outcome)
    calls = max(int(records.launches.sum()), 1)
    return PolicyResult(
        name=name,
        episodes=len(records.utility),
        utility=statistics.mean(records.utility, clusters),
        success=statistics.proportion(success, clusters),
        cost_usd=statistics.mean(records.component("cost_usd"), clusters),
        latency_s=statistics.mean(records.component("latency_s"), clusters),
        cost_quantiles=statistics.percentiles(records.component("cost_usd")),
        latency_quantiles=statistics.percentiles(records.component("latency_s")),
        outcomes={o: float(s) for o, s in zip(records.outcome_names, shares, strict=True)},
        launches={k: float(v) / calls for k, v in zip(configs, records.launches.tolist(), strict=True)},
        steps=float(records.steps.mean()),
        quality=statistics.mean(records.component("accuracy"), clusters) if records.graded else None,
        records=records,
    )


def evaluate(
    policies: Mapping[str, Any] | Sequence[Any] | Any,
    scenario: str | Path | Scenario | dict[str, Any],
    *,
    episodes: int = 5000,
    profile: str = "production",
    intensity: float = 1.0,
    split: str = "eval",
    seed: int = 0,
    lanes: int = LANES,
    only_faults: Sequence[str] = (),
    without_faults: Sequence[str] = (),
    progress: Callable[[str, int], None] | None = None,
) -> Evaluation:
    """Evaluate policies on the same episodes.

    Args:
        policies: policies, artefact folders or ``baseline:NAME``, as a list or by name; the first is
            compared with each other.
        scenario: built-in name, path, mapping or scenario.
        episodes: number of episodes.
        profile: fault profile.
        intensity: fault intensity.
        split: ``eval`` (default) or ``train``.
        seed: seed of the episodes; another one gives other episodes.
        lanes: lanes to play on; changes speed, not results.
        only_faults: families, effects or ids of the faults to evaluate under; default: all of the profile.
        without_faults: families, effects or ids of faults to leave out.
        progress: called with a policy's name and its finished episodes.

    Raises:
        PolicyError: if a policy cannot be resolved or there is none.
        FaultError: if the profile has no such faults.
    """
    named: Mapping[str, Any] = policies if isinstance(policies, Mapping) else {}
    chosen = [policies]
    if isinstance(policies, (list, tuple, Mapping)):
        chosen = list(policies.values()) if isinstance(policies, Mapping) else list(policies)
    if not chosen:
        raise PolicyError("policies: got none; allowed: one or more")
    loaded = select_faults(load_scenario(scenario), profile, only=only_faults, without=without_faults)
    core = make_core(loaded, min(lanes, episodes), profile=profile, intensity=intensity, split=split)
    clustered = isinstance(loaded, RouterScenario) and loaded.tasks.kind == "table"
    ceiling, bounds = ceiling_of(core), hindsight_bounds(core, episodes, seed)
    kind = None if bounds is None else "hindsight"
    if isinstance(core, WorkflowCore):
        wide = make_core(loaded, min(_ORACLE_LANES, episodes), profile=profile, intensity=intensity, split=split)
        bounds, kind = play(make_baseline("oracle", wide), wide, episodes, seed).utility, "oracle"
    rows: list[PolicyResult] = []
    taken: set[str] = set()
    for i, policy in enumerate(chosen):
        name, actor = resolve_policy(policy, core)
        if named:
            name = list(named)[i]
        while name in taken:
            name += "'"
        taken.add(name)
        told = None if progress is None else (lambda done, name=name: progress(name, done))
        rows.append(summarise(name, play(actor, core, episodes, seed, told), clustered, core.usage_names))
    first = rows[0].records
    assert first is not None
    clusters = first.group if clustered else None
    bound = None if bounds is None else float(bounds.mean())
    for word, selectors in (("only", only_faults), ("without", without_faults)):
        profile += f", {word} {' and '.join(selectors)}" if selectors else ""
    done = []
    for row in rows:
        assert row.records is not None
        utility = row.records.utility
        done.append(
            replace(
                row,
                share_of_ceiling=None if ceiling is None else row.utility.value / ceiling,
                share_of_bound=row.utility.value / bound if bound else None,
                regret=None if bounds is None else statistics.mean(bounds - utility, clusters),
                against=None if row is rows[0] else statistics.paired_difference(first.utility, utility, clusters),
            )
        )
    return Evaluation(
        tuple(done), loaded.name, loaded.hash, profile, intensity, split, seed, ceiling,
        bound, int(np.unique(first.group).size) if clustered else None, kind,
    )  # fmt: skip
