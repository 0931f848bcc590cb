"""Playing recorded episodes again: the same requests, or the same episode with an agent."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import EpisodeError, StressError
from ..scenarios.schema import Scenario
from .artefact import brownout_version
from .evaluation_set import EvaluationSet, expected_end, read_set
from .freeze import job_of
from .own_tools import OwnTools
from .stress_files import (
    LOG_FILE,
    SCENARIO_FILE,
    TOOLS_FILE,
    keep_scenario,
    load_kept_scenario,
    read_config,
    read_requests,
)
from .stress_play import Job, Stage
from .stress_pool import Pool
from .stress_rows import FAULTED, EpisodeRow, read_rows, row_from
from .stress_watch import Limits


@dataclass(frozen=True)
class Replay:
    """One episode, played again.

    Args:
        row: what became of it now.
        differences: what differs from the recording: all of what happened, or with an agent of one's own only what
            the set fixes.
        identical: whether every request and answer is as recorded; None where no agent was recorded.
    """

    row: EpisodeRow
    differences: tuple[str, ...]
    identical: bool | None

    @property
    def same(self) -> bool:
        """Whether nothing differs from the recording."""
        return not self.differences


@dataclass(frozen=True)
class Record:
    """One recorded episode, from a run or from a set; the last fields are what happened, where an agent played it."""

    job: Job
    name: str
    events: list[dict[str, Any]] | None
    over: str | None
    injections: Sequence[Mapping[str, Any]]
    expected: Mapping[str, list[str]] | None
    digest: str | None
    outcome: str | None
    agent_outcome: str | None


@dataclass(frozen=True, eq=False)
class Source:
    """A run folder or a frozen set, ready to be played again.

    Args:
        scenario: on what.
        limits: the ceilings under which it was played.
        records: its episodes.
    """

    scenario: Scenario | OwnTools
    limits: Limits
    records: tuple[Record, ...]


def open_source(
    path: str | Path, *, episode: int | None = None, seed: int | None = None, condition: str | None = None,
    repeat: int = 0, scenario: Scenario | None = None,
) -> Source:  # fmt: skip
    """Find the episodes to play again.

    Args:
        path: run folder or frozen set.
        episode: its number in a run, its line in a set (from 0); None takes all.
        seed: of a run's episode, where the run has several.
        condition: of a run; default ``faulted``.
        repeat: of a run.
        scenario: where the scenario of a set has moved.

    Raises:
        StressError: there is no such episode, or version or scenario have changed; says how.
        ArtefactError: the files are damaged.
    """
    path = Path(path)
    if path.is_dir():
        if scenario is not None:
            raise StressError(f"{path}: a run folder holds its scenario; leave --scenario out")
        return _of_run(path, episode, seed, condition or FAULTED, repeat)
    if seed is not None or condition is not None or repeat:
        raise StressError(f"{path}: an episode of a set is named by --episode alone, its line counted from 0")
    return _of_set(read_set(path), episode, scenario)


def stage_of(folder: Path) -> Stage:
    """What opens the episodes of a run as they were played.

    Raises:
        StressError: version or scenario have changed; says how.
        ArtefactError: the files are damaged.
    """
    config = read_config(folder)
    if config.get("version") != brownout_version():
        raise StressError(
            f"{folder}: played by brownout {config.get('version')}; this is {brownout_version()}, whose episodes may "
            "differ; play the run again"
        )
    scenario = load_kept_scenario(folder)
    if scenario.hash != config.get("scenario_hash"):
        name = SCENARIO_FILE if isinstance(scenario, Scenario) else TOOLS_FILE
        raise StressError(f"{folder}: its {name} is {scenario.hash}; it was played on {config.get('scenario_hash')}")
    return Stage(scenario, Limits(**config["limits"]))


def _of_run(folder: Path, episode: int | None, seed: int | None, condition: str, repeat: int) -> Source:
    stage = stage_of(folder)
    rows = [
        row for row in read_rows(folder)
        if (episode is None or row.episode == episode) and (seed is None or row.seed == seed)
        and row.condition == condition and row.repeat == repeat
    ]  # fmt: skip
    if not rows:
        asked = {"episode": episode, "seed": seed, "condition": condition, "repeat": repeat}
        raise StressError(
            f"{folder}: no such episode: {', '.join(f'{k} {v}' for k, v in asked.items() if v is not None)}"
        )
    requests = read_requests(folder, [row.key for row in rows])
    records = []
    for row in rows:
        told = requests.get(row.key)
        records.append(
            Record(
                job_of(row),
                f"seed {row.seed}, episode {row.episode}, {row.condition}",
                told and told.events,
                told and told.over,
                [one.model_dump(mode="json") for one in row.injections],
                None,
                row.digest,
                row.outcome,
                row.agent_outcome,
            )
        )
    return Source(stage.scenario, stage.limits, tuple(records))


def _of_set(frozen: EvaluationSet, episode: int | None, given: Scenario | None) -> Source:
    count = len(frozen.episodes)
    if episode is not None and not 0 <= episode < count:
        raise StressError(f"{frozen.path}: no episode {episode}; allowed: 0 to {count - 1}")
    records = []
    for i, one in enumerate(frozen.episodes):
        if episode in (None, i):
            past = one.recorded
            records.append(
                Record(
                    one.job,
                    f"episode {i} (seed {one.job.seed}, {one.job.episode})",
                    past and past.events,
                    past and past.over,
                    one.injections,
                    one.expected,
                    past and past.digest,
                    past and past.outcome,
                    past and past.agent_outcome,
                )
            )
    limits = Limits(**frozen.limits) if frozen.limits else Limits()
    return Source(frozen.scenario(given), limits, tuple(records))


def replay(source: Source) -> Iterator[Replay]:
    """Make the recorded requests again and compare everything that happens.

    An episode of a set that no agent has played is opened and closed.

    Raises:
        StressError: it was played on tools of one's own, which nobody but an agent calls.
    """
    if isinstance(source.scenario, OwnTools):
        raise StressError("this run called tools of your own, whose world is not recorded; name an agent (--agent)")
    stage = Stage(source.scenario, source.limits)
    for record in source.records:
        try:
            episode = stage.again(record.job, record.events or [])
            row = stage.row(record.job, episode, "returned", None, 0.0, record.over, 0.0)
        except EpisodeError as error:
            row = stage.spoilt(record.job, "returned", str(error), 0.0)
        yield _compared(source, record, row, record.digest is not None)


def replay_with(source: Source, agent: str) -> Iterator[Replay]:
    """Let an agent play the recorded episodes, in a process that it may crash.

    Raises:
        AgentError: it cannot be loaded.
    """
    with tempfile.TemporaryDirectory(prefix="brownout-replay-") as name:
        folder = Path(name)
        keep_scenario(folder, source.scenario)
        order = {"agent": agent, "folder": name, "limits": source.limits.to_dict(), "here": os.getcwd()}
        stage = Stage(source.scenario, source.limits)
        with Pool(order, 1, source.limits.deadline_s, folder / LOG_FILE) as pool:
            for record in source.records:
                for ended in pool.run(iter([record.job]), lambda: False):
                    if ended.row is not None:
                        row = row_from(ended.row, "episode")
                    else:
                        assert ended.fate is not None
                        row, _ = stage.settle(
                            ended.job, ended.events, ended.fate, ended.error, ended.wall_s, ended.over
                        )  # fmt: skip
                    yield _compared(source, record, row, whole=False)


def _compared(source: Source, record: Record, row: EpisodeRow, whole: bool) -> Replay:
    """Put an episode beside its recording; see :func:`_differences`."""
    identical = None if record.digest is None else row.digest == record.digest
    return Replay(row, _differences(source, record, row, whole), identical)


def _differences(source: Source, record: Record, row: EpisodeRow, whole: bool) -> tuple[str, ...]:
    """What differs between a recording and now; ``whole`` compares what the requests lead to as well."""
    found = []
    if not row.valid:
        found.append(f"no score: {row.error}")
    if record.expected is not None:
        assert not isinstance(source.scenario, OwnTools)  # a frozen set is of a workflow
        now = expected_end(source.scenario, record.job)
        found += [f"{key}: {record.expected[key]} -> {now[key]}" for key in now if record.expected[key] != now[key]]
    if whole:
        injections = [one.model_dump(mode="json") for one in row.injections]
        if injections != [dict(one) for one in record.injections]:
            found.append(f"injections: {len(record.injections)} recorded, now {len(injections)} or others")
        if row.digest != record.digest:
            found.append(f"digest: {record.digest} -> {row.digest}")
        if row.outcome != record.outcome:
            found.append(f"outcome: {record.outcome} -> {row.outcome}")
    return tuple(found)
