"""What becomes of the episodes that a fault struck: how many still succeed, and what it took.

Every fault is looked at alone, on the same episodes with the same draws as the clean ones, so what an episode took
more than its clean twin is what recovering from that fault took. Who was struck is read from the injection log and
from the fields that were spoilt: the truth, not what a policy noticed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..envs.lanes import LaneCore
from ..envs.workflow_core import WorkflowCore
from ..scenarios.fault_selection import Grouping, fault_groups, select_faults
from ..scenarios.loading import load_scenario
from ..scenarios.schema import Scenario
from .evaluation import EpisodeRecords, bind_policy, play
from .statistics import Estimate, mean, proportion

ALL: Final = "all together"
FALSE_SUCCESS: Final = ("wrong_answer", "partial", "silent_garbage", "duplicate_effect")


@dataclass(frozen=True)
class RecoveryRow:
    """What one fault did to the episodes that it struck; shares are of these, with 95 % intervals.

    Args:
        name: its id, effect or family, or :data:`ALL`.
        episodes: episodes that it struck.
        strikes: how often it struck calls in them; spoilt fields of records are not counted.
        recovered: share that succeed all the same.
        extra_steps: steps that a recovered episode took more than its clean twin, where that succeeds too.
        extra_usd: the same in USD.
        extra_s: the same in virtual seconds.
        false_success: share that the policy declared done and that are not right.
        duplicates: share that end with an effect that stands twice.
        handed_over: share that a person got right.
    """

    name: str
    episodes: int
    strikes: int
    recovered: Estimate
    extra_steps: Estimate
    extra_usd: Estimate
    extra_s: Estimate
    false_success: Estimate
    duplicates: Estimate
    handed_over: Estimate


@dataclass(frozen=True)
class Recovery:
    """The study of one policy; ``rows`` are ranked by the share that recovers, the lowest first."""

    policy: str
    scenario: str
    scenario_hash: str
    profile: str
    episodes: int
    seed: int
    by: Grouping
    rows: tuple[RecoveryRow, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def recovery(
    policy: Any,
    scenario: str | Path | Scenario | dict[str, Any],
    *,
    profile: str = "production",
    intensity: float = 1.0,
    by: Grouping = "effect",
    episodes: int = 5000,
    split: str = "eval",
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Recovery:
    """Study how a policy recovers from each fault of a profile.

    Args:
        policy: policy, artefact folder or ``baseline:NAME``.
        scenario: built-in name, path, mapping or scenario.
        profile: fault profile.
        intensity: fault intensity.
        by: whether faults are looked at by ``id``, by ``effect`` or by ``family``.
        episodes: episodes per condition.
        split: ``eval`` or ``train``.
        seed: seed of the episodes.
        progress: called with the name of each condition.

    Raises:
        PolicyError, ArtefactError: if the policy cannot be used.
        ScenarioError: if there is no such profile.
    """
    loaded = load_scenario(scenario)
    name = ""

    def under(what: str, chosen: Scenario, strength: float) -> tuple[EpisodeRecords, NDArray[np.bool_], int]:
        nonlocal name
        if progress is not None:
            progress(what)
        name, actor, core = bind_policy(policy, chosen, episodes, profile=profile, intensity=strength, split=split)
        struck, strikes = spoilt_episodes(core, episodes, seed), 0
        parts = []
        for first in range(0, episodes, _CHUNK):
            if core.plan is not None:
                core.plan.log.clear()
            parts.append(play(actor, core, min(_CHUNK, episodes - first), seed, first=first))
            if core.plan is not None:
                hit = core.plan.log.rows()["episode"]
                hit = hit[(hit >= first) & (hit < first + len(parts[-1].steps))]
                struck[hit] = True
                strikes += hit.size
        return _joined(parts), struck, strikes

    clean, _, _ = under("clean", loaded, 0.0)
    rows = []
    for group in [ALL, *fault_groups(loaded, profile, by)]:
        chosen = loaded if group == ALL else select_faults(loaded, profile, only=[group])
        records, struck, strikes = under(group, chosen, intensity)
        rows.append(_row(group, records, clean, struck, strikes))
    ranked = sorted(rows[1:], key=lambda row: (np.isnan(row.recovered.value), row.recovered.value))
    return Recovery(name, loaded.name, loaded.hash, profile, episodes, seed, by, (rows[0], *ranked))


_CHUNK = 1000  # episodes between two looks at the log, which keeps a limited number of strikes


def spoilt_episodes(core: LaneCore, episodes: int, seed: int) -> NDArray[np.bool_]:
    """Which of episodes ``0 ... episodes - 1`` begin with a spoilt field, ``(E,)``; the core's state is overwritten."""
    out = np.zeros(episodes, np.bool_)
    if not isinstance(core, WorkflowCore):
        return out
    for first in range(0, episodes, core.num_lanes):
        core.seed(core.all_lanes, [seed] * core.num_lanes)
        core.begin(core.all_lanes, core.all_lanes + first)
        there = min(core.num_lanes, episodes - first)
        out[first : first + there] = (core.dirt[:there] != 0).any(axis=1)
    return out


def _joined(parts: list[EpisodeRecords]) -> EpisodeRecords:
    whole = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("utility", "components", "steps", "outcome", "group", "opening")
    }
    launches = np.sum([part.launches for part in parts], axis=0)
    last = parts[-1]
    return EpisodeRecords(
        **whole, launches=launches, component_names=last.component_names, outcome_names=last.outcome_names,
        graded=last.graded,
    )  # fmt: skip


def _row(
    name: str, records: EpisodeRecords, clean: EpisodeRecords, struck: NDArray[np.bool_], strikes: int
) -> RecoveryRow:
    words = np.array(records.outcome_names)[records.outcome]
    won = words == "success"
    both = struck & won & (clean.outcome == clean.outcome_names.index("success"))

    def extra(of: Callable[[EpisodeRecords], NDArray[Any]]) -> Estimate:
        return mean((of(records) - of(clean))[both].astype(np.float64))

    return RecoveryRow(
        name=name,
        episodes=int(struck.sum()),
        strikes=strikes,
        recovered=proportion(won[struck]),
        extra_steps=extra(lambda one: one.steps),
        extra_usd=extra(lambda one: one.component("cost_usd")),
        extra_s=extra(lambda one: one.component("latency_s")),
        false_success=proportion(np.isin(words, FALSE_SUCCESS)[struck]),
        duplicates=proportion((words == "duplicate_effect")[struck]),
        handed_over=proportion(records.component("handoff")[struck] > 0),
    )
