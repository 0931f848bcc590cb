"""Frozen evaluation sets: episodes in a file that is played exactly, or refused.

JSON lines, a header and one line per episode. Every line begins with the SHA-256 of the rest of its bytes, and the
header holds that of all episodes, so no byte can change unseen. The header also holds the scenario's fields: when the
scenario has another digest than that of the set, the refusal says which of them changed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from ..envs.cores import make_core
from ..envs.workflow_core import WorkflowCore
from ..errors import ArtefactError, ScenarioError, StressError
from ..scenarios.fault_selection import select_faults
from ..scenarios.loading import load_scenario, scenario_data
from ..scenarios.schema import Scenario
from .artefact import brownout_version, write_text
from .stress_play import Job

FORMAT: Final = "brownout.evalset/1"
_LINE: Final = re.compile(rb'\{"hash":"([0-9a-f]{64})",(.*\}\n)', re.DOTALL)
_SHOWN: Final = 5  # changed fields that a refusal lists


@dataclass(frozen=True)
class Recorded:
    """What an agent did in an episode when it was frozen.

    Args:
        agent: as it was named.
        repeat: which of its repeats.
        outcome: how the end state stood.
        agent_outcome: how the agent ended.
        utility: its utility; None for NaN.
        digest: of requests and responses.
        events: the recorded requests.
        over: how the harness ended the episode, if it did.
    """

    agent: str
    repeat: int
    outcome: str
    agent_outcome: str
    utility: float | None
    digest: str
    events: list[dict[str, Any]]
    over: str | None


@dataclass(frozen=True)
class FrozenEpisode:
    """One episode of a set.

    Args:
        job: which episode, under which faults.
        expected: what must stand at its end and what must not; see :func:`expected_end`.
        injections: the faults that struck: those of the recorded agent, or without one those that need no request.
        recorded: what an agent did in it, if one played it.
    """

    job: Job
    expected: Mapping[str, list[str]]
    injections: Sequence[Mapping[str, Any]]
    recorded: Recorded | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for its line."""
        return {
            "episode": self.job.to_dict(),
            "expected": dict(self.expected),
            "injections": [dict(one) for one in self.injections],
            "recorded": None if self.recorded is None else vars(self.recorded),
        }


@dataclass(frozen=True, eq=False)
class EvaluationSet:
    """A set as it stands in a file.

    Args:
        path: the file.
        hash: of its header, which covers everything else.
        version: of the package that froze it.
        name: of the scenario.
        scenario_hash: of the scenario.
        scenario_file: where the scenario was; None for a built-in one.
        fields: the scenario's fields.
        episodes: the episodes.
        limits: the ceilings under which they were played; None where no agent has played them.
    """

    path: Path
    hash: str
    version: str
    name: str
    scenario_hash: str
    scenario_file: str | None
    episodes: tuple[FrozenEpisode, ...]
    fields: Mapping[str, Any] = field(repr=False)
    limits: Mapping[str, Any] | None = None

    def scenario(self, given: Scenario | None = None) -> Scenario:
        """The scenario to play the set on.

        Args:
            given: where it has moved; default: the built-in one, or the file it was.

        Raises:
            StressError: it is another one than that of the set, or the package is; says what changed.
            ScenarioError: it cannot be found.
        """
        if self.version != brownout_version():
            raise StressError(
                f"{self.path}: frozen by brownout {self.version}; this is {brownout_version()}, whose episodes may "
                "differ; freeze the set again, or install that version"
            )
        try:
            found = given or load_scenario(self.scenario_file or self.name)
        except ScenarioError as error:
            raise ScenarioError(f"{self.path}: its scenario: {error}; give its file by --scenario") from error
        if found.hash != self.scenario_hash:
            changed = list(_changes(self.fields, scenario_data(found)))
            more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
            raise StressError(
                f"{self.path}: frozen on scenario {self.name!r} ({self.scenario_hash}), but {found.name!r} is "
                f"{found.hash}; changed: {'; '.join(changed[:_SHOWN]) or 'what its files hold'}{more}"
            )
        return found


def write_set(
    path: str | Path, scenario: Scenario, episodes: Sequence[FrozenEpisode], limits: Mapping[str, Any] | None = None
) -> EvaluationSet:
    """Write a set, under a temporary name first.

    Args:
        path: the file.
        scenario: of the episodes.
        episodes: the episodes, each once.
        limits: the ceilings under which they were played.

    Raises:
        StressError: there is no episode, or one stands in it twice.
        ArtefactError: the file cannot be written.
    """
    path = Path(path)
    if not episodes:
        raise StressError(f"{path}: no episode to freeze")
    keys = [(one.job.seed, one.job.episode) for one in episodes]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:
        raise StressError(f"{path}: seed {twice[0]}, episode {twice[1]} is to be frozen twice; allowed: once")
    lines = [_line({"index": i, **one.to_dict()}) for i, one in enumerate(episodes)]
    header = {
        "format": FORMAT,
        "version": brownout_version(),
        "scenario": scenario.name,
        "scenario_hash": scenario.hash,
        "scenario_file": _origin(scenario),
        "episodes": len(episodes),
        "content": hashlib.sha256("".join(lines).encode()).hexdigest(),
        "limits": None if limits is None else dict(limits),
        "fields": scenario_data(scenario),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, _line(header) + "".join(lines))
    except OSError as error:
        raise ArtefactError(f"{path}: cannot write the set: {error}") from error
    return read_set(path)


def read_set(path: str | Path) -> EvaluationSet:
    """Read a set and check every byte of it.

    Raises:
        ArtefactError: the file is missing, of another format, or anything in it has changed; names the line.
    """
    path = Path(path)
    try:
        raw = path.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise ArtefactError(f"{path}: cannot read the set: {error}") from error
    if not raw:
        raise ArtefactError(f"{path}: empty; a set is what `brownout freeze` wrote")
    mark, header = _read(path, 1, raw[0])
    if header.get("format") != FORMAT:
        raise ArtefactError(f"{path}:1: format: got {header.get('format')!r}; allowed: {FORMAT!r}")
    lines = [_read(path, number, line)[1] for number, line in enumerate(raw[1:], 2)]
    if len(lines) != header["episodes"]:
        raise ArtefactError(f"{path}: {len(lines)} episodes, but {header['episodes']} were frozen")
    if hashlib.sha256(b"".join(raw[1:])).hexdigest() != header["content"]:
        raise ArtefactError(f"{path}: lines were put in another order or come from another set")
    try:
        episodes = tuple(_episode(line) for line in lines)
        return EvaluationSet(
            path, mark, header["version"], header["scenario"], header["scenario_hash"], header["scenario_file"],
            episodes, header["fields"], header["limits"],
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise ArtefactError(f"{path}: field missing or wrong: {type(error).__name__} {error}") from error


def expected_end(scenario: Scenario, job: Job) -> dict[str, list[str]]:
    """What the end state of an episode must be, as it begins.

    Returns:
        ``done``: steps whose effect must stand exactly once; ``not_done``: writing steps that must not be carried
        out.
    """
    chosen = scenario if job.only is None else select_faults(scenario, job.profile, only=[job.only])
    core = make_core(chosen, 1, profile=job.profile, intensity=job.intensity, split=job.split)
    assert isinstance(core, WorkflowCore)
    core.seed(core.all_lanes, [job.seed])
    core.begin(core.all_lanes, np.array([job.episode]))
    names = np.array(core.step_names)
    steps = slice(0, core.num_steps)
    return {
        "done": names[(core.needed[0] & core.writes)[steps]].tolist(),
        "not_done": names[core.banned[0][steps]].tolist(),
    }


def _origin(scenario: Scenario) -> str | None:
    """The scenario's file; None for a built-in one, which is found by its name."""
    if scenario.path is None:
        return None
    try:
        builtin = load_scenario(scenario.name).path
    except ScenarioError:
        builtin = None
    return None if builtin == scenario.path else str(scenario.path.absolute())


def _line(data: Mapping[str, Any]) -> str:
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)[1:] + "\n"
    return f'{{"hash":"{hashlib.sha256(text.encode()).hexdigest()}",{text}'


def _read(path: Path, number: int, line: bytes) -> tuple[str, dict[str, Any]]:
    match = _LINE.fullmatch(line)
    if match is None:
        raise ArtefactError(f"{path}:{number}: no whole line of a set (cut off or altered)")
    mark, rest = match[1].decode(), match[2]
    found = hashlib.sha256(rest).hexdigest()
    if found != mark:
        raise ArtefactError(
            f"{path}:{number}: changed since it was frozen: its hash is {found[:12]}, it says {mark[:12]}"
        )
    return mark, json.loads(b"{" + rest)


def _episode(line: Mapping[str, Any]) -> FrozenEpisode:
    recorded = line["recorded"]
    return FrozenEpisode(
        Job(**line["episode"]), line["expected"], line["injections"],
        None if recorded is None else Recorded(**recorded),
    )  # fmt: skip


def _changes(old: Any, new: Any, at: str = "") -> Iterator[str]:
    """``field: old -> new`` of everything that differs."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys((*old, *new)):
            below = f"{at}.{key}" if at else str(key)
            if key not in new:
                yield f"{below}: taken away"
            elif key not in old:
                yield f"{below}: new"
            else:
                yield from _changes(old[key], new[key], below)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from _changes(one, other, f"{at}[{i}]")
    elif old != new:
        yield f"{at}: {_short(old)} -> {_short(new)}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
