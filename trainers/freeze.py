"""Choosing the episodes of a frozen set: the worst of a stress run, or the first of a scenario."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from ..errors import StressError
from ..scenarios.schema import Scenario
from .evaluation_set import EvaluationSet, FrozenEpisode, Recorded, expected_end, write_set
from .own_tools import OwnTools
from .stress_files import Requests, load_kept_scenario, read_config, read_requests
from .stress_play import Job, Stage
from .stress_rows import CLEAN, FAULTED, ONLY, EpisodeRow, read_rows
from .stress_watch import Limits


def job_of(row: EpisodeRow) -> Job:
    """The episode of a row, to be played again."""
    only = row.condition.removeprefix(ONLY) if row.condition.startswith(ONLY) else None
    return Job(row.condition, row.seed, row.episode, row.repeat, row.profile, row.intensity, row.split, only)


def freeze_run(
    folder: str | Path, path: str | Path, *, worst: int | None = None, effects: Sequence[str] = (),
    condition: str = FAULTED,
) -> EvaluationSet:  # fmt: skip
    """Freeze episodes of a stress run, with what its agent did in them.

    Args:
        folder: the run.
        path: the set's file.
        worst: how many, those of the lowest utility; None takes all.
        effects: take only episodes that one of these effects struck; none takes any.
        condition: of these rows.

    Raises:
        StressError: nothing is left to freeze.
        ArtefactError: the run cannot be read, or the set not be written.
    """
    folder = Path(folder)
    config = read_config(folder)
    scenario = load_kept_scenario(folder)
    if isinstance(scenario, OwnTools):
        raise StressError(f"{folder}: a run on tools of your own, whose world is not recorded; it cannot be frozen")
    rows = [row for row in read_rows(folder) if row.condition == condition and row.valid]
    if not rows:
        raise StressError(f"{folder}: no scored episode under {condition!r}; allowed: a condition that was played")
    _refuse_unknown(str(folder), effects, {name for row in rows for name in row.struck_by})
    rows = [row for row in rows if not effects or set(effects) & set(row.struck_by)]
    rows.sort(key=lambda row: (row.utility, row.key))
    first: dict[tuple[int, int], EpisodeRow] = {}
    for row in rows:
        first.setdefault((row.seed, row.episode), row)
    chosen = list(first.values())[:worst]
    requests = read_requests(folder, [row.key for row in chosen])
    missing = next((row for row in chosen if row.key not in requests), None)
    if missing is not None:
        raise StressError(f"{folder}: the requests of {missing.key} are not in it; play the run again")
    frozen = [_frozen(scenario, row, requests[row.key], str(config["agent"])) for row in chosen]
    return write_set(path, scenario, frozen, config["limits"])


def freeze_scenario(
    scenario: Scenario, path: str | Path, *, episodes: int = 50, profile: str = "production", intensity: float = 1.0,
    split: str = "eval", seed: int = 0, effects: Sequence[str] = (),
) -> EvaluationSet:  # fmt: skip
    """Freeze the first episodes of a scenario, which no agent has played yet.

    Their injections are those that need no request: fields that are wrong from the start.

    Args:
        scenario: the workflow.
        path: the set's file.
        episodes: how many to look at.
        profile: fault profile.
        intensity: fault intensity.
        split: ``eval`` or ``train``.
        seed: seed of the episodes.
        effects: keep only episodes that one of these effects struck.

    Raises:
        StressError: nothing is left to freeze.
        ArtefactError: the set cannot be written.
    """
    stage = Stage(scenario, Limits())
    found = []
    for number in range(episodes):
        job = Job(FAULTED, seed, number, 0, profile, intensity, split)
        episode = stage.open(job)
        episode.close()
        injections = episode.result().to_dict()["injections"]
        found.append(FrozenEpisode(job, expected_end(scenario, job), injections))
    known = {one["effect"] for frozen in found for one in frozen.injections}
    _refuse_unknown(f"{scenario.name} (no agent has played it: freeze a stress run for other effects)", effects, known)
    kept = [frozen for frozen in found if not effects or set(effects) & {one["effect"] for one in frozen.injections}]
    return write_set(path, scenario, kept)


def _frozen(scenario: Scenario, row: EpisodeRow, requests: Requests, agent: str) -> FrozenEpisode:
    job = job_of(row)
    as_frozen = Job(**job.to_dict() | {"condition": CLEAN if job.intensity == 0 else FAULTED, "repeat": 0})
    recorded = Recorded(
        agent, row.repeat, row.outcome, row.agent_outcome, None if math.isnan(row.utility) else row.utility,
        row.digest, requests.events, requests.over,
    )  # fmt: skip
    injections = [injection.model_dump(mode="json") for injection in row.injections]
    return FrozenEpisode(as_frozen, expected_end(scenario, job), injections, recorded)


def _refuse_unknown(where: str, effects: Sequence[str], known: set[str]) -> None:
    for effect in effects:
        if effect not in known:
            raise StressError(
                f"{where}: no episode was struck by {effect!r}; allowed: {', '.join(sorted(known)) or 'none'}"
            )
