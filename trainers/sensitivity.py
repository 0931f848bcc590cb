"""How much each fault costs a policy: the intensity from 0 to 2, and every fault alone and left out.

All conditions are played on the same episodes with the same draws, so every figure is a paired difference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from ..scenarios.fault_selection import Grouping, fault_groups, select_faults
from ..scenarios.loading import load_scenario
from ..scenarios.schema import Scenario
from .api import Task
from .evaluation import EpisodeRecords, bind_policy, play
from .statistics import Difference, Estimate, mean, paired_difference, proportion

INTENSITIES: Final = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)


@dataclass(frozen=True)
class IntensityRow:
    """A policy at one intensity; ``loss`` is the clean utility minus this one, episode by episode."""

    intensity: float
    utility: Estimate
    success: Estimate
    cost_usd: Estimate
    latency_s: Estimate
    loss: Difference


@dataclass(frozen=True)
class FaultRow:
    """What one fault (or effect, or family) costs.

    Args:
        name: its id, effect or family.
        strikes: how often it struck per 100 episodes when it was alone.
        alone: clean utility minus that with only this fault.
        last: utility with all others minus that with all: what it adds to the rest.
        success_lost: clean success minus that with only this fault.
    """

    name: str
    strikes: float
    alone: Difference
    last: Difference
    success_lost: Difference


@dataclass(frozen=True)
class Sensitivity:
    """The study of one policy; ``faults`` are ranked by what they cost alone."""

    policy: str
    scenario: str
    scenario_hash: str
    profile: str
    episodes: int
    seed: int
    by: Grouping
    intensities: tuple[IntensityRow, ...]
    faults: tuple[FaultRow, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def sensitivity(
    policy: Any,
    scenario: str | Path | Scenario | dict[str, Any],
    *,
    profile: str = "production",
    intensities: Sequence[float] = INTENSITIES,
    by: Grouping = "effect",
    episodes: int = 5000,
    split: str = "eval",
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Sensitivity:
    """Study how a policy's utility depends on the faults of a profile.

    Args:
        policy: policy, artefact folder or ``baseline:NAME``.
        scenario: built-in name, path, mapping or scenario.
        profile: fault profile.
        intensities: where to measure; 0 is the clean episode.
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
    groups = fault_groups(loaded, profile, by)
    name = ""

    def under(what: str, chosen: Scenario, intensity: float) -> tuple[EpisodeRecords, int]:
        nonlocal name
        if progress is not None:
            progress(what)
        name, actor, core = bind_policy(policy, chosen, episodes, profile=profile, intensity=intensity, split=split)
        records = play(actor, core, episodes, seed)
        return records, 0 if core.plan is None else sum(core.plan.log.counts.values())

    clean, _ = under("intensity 0", loaded, 0.0)
    clusters = clean.group if Task(loaded).clustered else None
    whole: EpisodeRecords | None = None
    rows = []
    for x in intensities:
        records = clean if x == 0.0 else under(f"intensity {x:g}", loaded, x)[0]
        whole = records if x == 1.0 else whole
        rows.append(
            IntensityRow(
                intensity=float(x),
                utility=mean(records.utility, clusters),
                success=proportion(records.component("accuracy") > 0, clusters),
                cost_usd=mean(records.component("cost_usd"), clusters),
                latency_s=mean(records.component("latency_s"), clusters),
                loss=paired_difference(clean.utility, records.utility, clusters),
            )
        )
    whole = under("intensity 1", loaded, 1.0)[0] if whole is None else whole
    faults = []
    for group in groups:
        only, strikes = under(f"{group} alone", select_faults(loaded, profile, only=[group]), 1.0)
        rest, _ = under(f"without {group}", select_faults(loaded, profile, without=[group]), 1.0)
        won, kept = clean.component("accuracy") > 0, only.component("accuracy") > 0
        faults.append(
            FaultRow(
                name=group,
                strikes=100.0 * strikes / episodes,
                alone=paired_difference(clean.utility, only.utility, clusters),
                last=paired_difference(rest.utility, whole.utility, clusters),
                success_lost=paired_difference(won, kept, clusters),
            )
        )
    ranked = sorted(faults, key=lambda row: -row.alone.value)
    return Sensitivity(name, loaded.name, loaded.hash, profile, episodes, seed, by, tuple(rows), tuple(ranked))
