"""From the rows of a stress run to its summary."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from .own_tools import PROFILE
from .stress_metrics import MEANS, Sample, difference, differences, figures
from .stress_report import CurvePoint, EffectRow, Figure, StressReport, WorstEpisode
from .stress_rows import AGENT_OUTCOMES, CLEAN, FAULTED, INTENSITY, ONLY, EpisodeRow

WORST: Final = 10
LOUD_SHARE: Final = 0.01  # of episodes without a score, above which no figure should be trusted
OUTCOMES: Final = (
    "silent_garbage", "duplicate_effect", "partial", "limit", "aborted", "escalated", "success",
)  # fmt: skip
_LOSSES: Final = ("utility", "success")


def summarise(
    rows: Sequence[EpisodeRow], about: Mapping[str, Any], conditions: Sequence[str], *, repeats: int, planned: int,
    folder: Path, stopped: str | None, notes: Iterable[str], wall_s: float,
) -> StressReport:  # fmt: skip
    """Condense a run.

    Args:
        rows: its episodes, in any order.
        about: the fields of the report that say what was run.
        conditions: those that were to be played.
        repeats: how often each episode was to be played.
        planned: episodes that were to be played, over conditions and repeats.
        folder: of the run, for the replay commands.
        stopped: why it ended early, if it did.
        notes: what a reader must know already.
        wall_s: real seconds.
    """
    samples = {name: Sample([row for row in rows if row.condition == name]) for name in conditions}
    clean, faulted = samples[CLEAN], samples[FAULTED]
    invalid = Counter(row.outcome for row in rows if not row.valid)
    paired = differences(faulted, clean, repeats)
    return StressReport(
        **about,
        repeats=repeats,
        conditions_played=tuple(conditions),
        planned=planned,
        valid=sum(row.valid for row in rows),
        invalid=dict(sorted(invalid.items())),
        unplayed=planned - len(rows),
        stopped=stopped,
        conditions={name: figures(samples[name], repeats) for name in (CLEAN, FAULTED)},
        paired={name: figure for name, (figure, _) in paired.items()},
        outcomes={name: _counted((row.outcome for row in one.rows), OUTCOMES) for name, one in samples.items()},
        agent_outcomes={
            name: _counted((row.agent_outcome for row in one.rows), AGENT_OUTCOMES) for name, one in samples.items()
        },
        effects=_effects(samples),
        intensity_curve=_curve(samples, about["intensity"]),
        worst=_worst(faulted, clean, folder, about["agent"] if about["profile"] == PROFILE else None),
        smallest_detectable={name: least for name, (_, least) in paired.items()},
        notes=(*notes, *_warnings(rows)),
        wall_s=wall_s,
    )


def _counted(words: Iterable[str], order: Sequence[str]) -> dict[str, int]:
    """How often each word occurs, in an order that puts the worst first."""
    counts = Counter(words)
    return {word: counts[word] for word in sorted(counts, key=lambda word: (*_rank(word, order), word))}


def _rank(word: str, order: Sequence[str]) -> tuple[int]:
    return (order.index(word) if word in order else len(order),)


def _effects(samples: Mapping[str, Sample]) -> tuple[EffectRow, ...]:
    """One row per effect that struck in the faulted condition; what it cost over all its episodes ranks it."""
    clean, faulted = samples[CLEAN], samples[FAULTED]
    families = {strike.effect: strike.family for row in faulted.rows for strike in row.injections}
    found = []
    for effect in sorted(families):
        struck = faulted.where(lambda row, effect=effect: effect in row.struck_by)
        shared = [episode for episode in struck.by_episode if episode in clean.by_episode]
        lost = {name: _lost(clean, struck, name, shared) for name in _LOSSES}
        alone = samples.get(ONLY + effect)
        both = [] if alone is None else [episode for episode in alone.by_episode if episode in clean.by_episode]
        found.append(
            EffectRow(
                effect=effect,
                family=families[effect],
                struck=len(struck.rows),
                recovery=Figure.of(struck.estimate(MEANS["success"]), "share", "higher"),
                loss=lost["utility"],
                success_loss=lost["success"],
                alone=None if alone is None else _lost(clean, alone, "utility", both),
                outcomes=_counted((row.outcome for row in struck.rows), OUTCOMES),
            )
        )
    return tuple(sorted(found, key=_dearness, reverse=True))


def _dearness(row: EffectRow) -> tuple[bool, float]:
    """What an effect cost: alone where that was played, else what its episodes lost, times their number."""
    cost = row.loss.value * row.struck if row.alone is None else row.alone.value
    return not np.isnan(cost), cost


def _lost(clean: Sample, other: Sample, name: str, episodes: Sequence[tuple[int, int]]) -> Figure:
    return Figure.of(difference(clean, other, MEANS[name], episodes), MEANS[name].unit, "lower")


def _curve(samples: Mapping[str, Sample], intensity: float) -> tuple[CurvePoint, ...]:
    """The intensities that were played, if any beyond the two conditions were."""
    points = {float(name.removeprefix(INTENSITY)): one for name, one in samples.items() if name.startswith(INTENSITY)}
    if not points:
        return ()
    points |= {0.0: samples[CLEAN], intensity: samples[FAULTED]}

    def point(at: float) -> CurvePoint:
        figure = {
            name: Figure.of(points[at].estimate(MEANS[name]), MEANS[name].unit, MEANS[name].better)
            for name in ("success", "utility", "cost_usd")
        }
        return CurvePoint(intensity=at, **figure)

    return tuple(point(at) for at in sorted(points))


def _worst(faulted: Sample, clean: Sample, folder: Path, agent: str | None) -> tuple[WorstEpisode, ...]:
    """The episodes of the lowest utility, each once, its worst repeat standing for it."""
    ranked = sorted((*faulted.rows, *clean.rows), key=lambda row: (row.utility, _rank(row.outcome, OUTCOMES), row.key))
    first: dict[tuple[str, int, int], EpisodeRow] = {}
    for row in ranked:
        if not row.success:
            first.setdefault((row.condition, row.seed, row.episode), row)
    return tuple(
        WorstEpisode(
            seed=row.seed, episode=row.episode, repeat=row.repeat, condition=row.condition, outcome=row.outcome,
            agent_outcome=row.agent_outcome, utility=row.utility, timeline=row.timeline,
            replay=replay_command(folder, row, agent),
        )
        for row in list(first.values())[:WORST]
    )  # fmt: skip


def replay_command(folder: Path, row: EpisodeRow, agent: str | None = None) -> str:
    """The line that plays a recorded episode again, with an agent if it has to be one."""
    words = ["brownout", "replay", str(folder), "--episode", str(row.episode), "--seed", str(row.seed)]
    if row.condition != FAULTED:
        words += ["--condition", row.condition]
    if row.repeat:
        words += ["--repeat", str(row.repeat)]
    if agent is not None:
        words += ["--agent", agent]
    return shlex.join(words)


def _warnings(rows: Sequence[EpisodeRow]) -> list[str]:
    found = []
    lost = [row for row in rows if not row.valid]
    if lost:
        share = len(lost) / len(rows)
        first = f"{len(lost)} of {len(rows)} episodes ({share:.1%}) have no score; the first: {lost[0].error}"
        found.append(f"{'TOO MANY INVALID EPISODES: ' if share > LOUD_SHARE else ''}{first}")
    return found
