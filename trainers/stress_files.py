"""The folder of a stress run: what was asked for, the scenario, and the episodes as they end.

``config.json`` says what was run, ``scenario.yaml`` on what, ``episodes.jsonl`` holds one row per episode,
``requests.jsonl`` what the agent asked in it (enough to play it again), ``agent.log`` what the agents printed, and
``stress.json`` the summary, written at the end.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from ..append_log import AppendLog
from ..errors import ArtefactError, StressError
from ..scenarios.loading import load_scenario, scenario_data
from ..scenarios.schema import Scenario
from .artefact import read_json, write_text
from .own_tools import OwnTools
from .stress_report import REPORT_FILE
from .stress_rows import ROWS_FILE, EpisodeRow, Key, read_rows

CONFIG_FILE: Final = "config.json"
SCENARIO_FILE: Final = "scenario.yaml"
TOOLS_FILE: Final = "tools.json"  # instead of a scenario
REQUESTS_FILE: Final = "requests.jsonl"
LOG_FILE: Final = "agent.log"
REPORT_NAMES: Final = {"html": "report.html", "md": "report.md", "json": "report.json", "junit": "junit.xml"}
_FREE: Final = ("scenario_file", "evalset_file")  # may differ between the parts of a resumed run


def keep_scenario(folder: Path, scenario: Scenario | OwnTools) -> None:
    """Write the scenario, or what takes its place, into a run folder, made if missing.

    Raises:
        ArtefactError: the folder cannot be written.
    """
    if isinstance(scenario, OwnTools):
        name, other, text = TOOLS_FILE, SCENARIO_FILE, json.dumps(scenario.to_dict(), indent=2) + "\n"
    else:
        where = None if scenario.path is None else str(scenario.path.absolute())
        data = yaml.safe_dump(scenario_data(scenario), sort_keys=False, allow_unicode=True, width=110)
        name, other, text = SCENARIO_FILE, TOOLS_FILE, f"# from {json.dumps(where)}\n{data}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / name, text)
        (folder / other).unlink(missing_ok=True)
    except OSError as error:
        raise ArtefactError(f"{folder}: cannot write the run folder: {error}") from error


def load_kept_scenario(folder: Path) -> Scenario | OwnTools:
    """The scenario of a run folder, or what takes its place; relative paths in it are found where they were.

    Raises:
        ArtefactError: there is none.
        ScenarioError: it is not valid.
    """
    if (folder / TOOLS_FILE).is_file():
        return OwnTools.from_dict(read_json(folder / TOOLS_FILE, "; a stress run wrote it"))
    path = folder / SCENARIO_FILE
    try:
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        origin = json.loads(first.removeprefix("# from "))
    except (OSError, ValueError) as error:
        raise ArtefactError(f"{path}: cannot read the scenario of the run: {error}") from error
    scenario = load_scenario(path)
    scenario._path = None if origin is None else Path(origin)
    return scenario


def read_config(folder: Path) -> dict[str, Any]:
    """What a run was asked for.

    Raises:
        ArtefactError: there is no run in the folder, or the file is damaged.
    """
    return read_json(folder / CONFIG_FILE, "; a run folder is what `brownout stress` wrote")


def refuse_other(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse to resume under another configuration.

    Raises:
        ArtefactError: there is no run to resume.
        StressError: naming every field that differs.
    """
    kept = read_config(folder)
    changed = [
        f"{name}: {json.dumps(kept.get(name))} -> {json.dumps(config.get(name))}"
        for name in dict.fromkeys((*kept, *config))
        if name not in _FREE and kept.get(name) != config.get(name)
    ]
    if changed:
        raise StressError(f"{folder}: --resume: this run was started otherwise; changed: {'; '.join(changed)}")


def clear(folder: Path, overwrite: bool) -> None:
    """Make room for a new run.

    Raises:
        StressError: there is a run already, and it may not be overwritten.
    """
    rows = folder / ROWS_FILE
    if rows.exists() and rows.stat().st_size and not overwrite:
        raise StressError(
            f"{folder}: there is a run in it; allowed: --resume to complete it, --overwrite to replace it, or "
            "another --out"
        )
    for name in (ROWS_FILE, REQUESTS_FILE, REPORT_FILE, CONFIG_FILE, LOG_FILE, *REPORT_NAMES.values()):
        (folder / name).unlink(missing_ok=True)


class EpisodeFiles:
    """Appends episodes to a run folder; those that stand in it are in ``rows``.

    Args:
        folder: the run folder.

    Attributes:
        rows: the episodes so far.
        torn: whether a half-written last line was taken away.

    Raises:
        ArtefactError: another process is writing, or a file is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._rows_file = AppendLog(folder / ROWS_FILE, error=ArtefactError)
        self._requests = AppendLog(folder / REQUESTS_FILE, error=ArtefactError)
        self.torn = bool(self._rows_file.torn_bytes)
        self.rows = read_rows(folder)

    def add(self, row: EpisodeRow, events: Iterable[Mapping[str, Any]], over: str | None) -> None:
        """Write one episode; when this returns the disk has it.

        Args:
            row: what became of it.
            events: the requests.
            over: how the harness ended it, if it did.

        Raises:
            ArtefactError: the disk is full or broken.
        """
        line = json.dumps({"key": row.key, "over": over, "events": list(events)}, separators=(",", ":"))
        try:
            self._requests.append(line.encode() + b"\n")  # first: a row without its requests cannot be replayed
            self._rows_file.append(row.to_line().encode())
            self._rows_file.sync()
        except OSError as error:
            raise ArtefactError(f"{self._rows_file.path}: cannot write an episode: {error}") from error
        self.rows.append(row)

    def close(self) -> None:
        """Close the files."""
        self._requests.close()
        self._rows_file.close()


@dataclass(frozen=True)
class Requests:
    """What was asked in one episode.

    Args:
        events: the recorded events.
        over: how the harness ended it, ``limit`` or ``loop``; None if it did not.
    """

    events: list[dict[str, Any]]
    over: str | None


def read_requests(folder: Path, wanted: Iterable[Key]) -> dict[Key, Requests]:
    """The recorded requests of some episodes; of an episode that was begun twice, those that count.

    Raises:
        ArtefactError: the file is missing or damaged.
    """
    path, keys = folder / REQUESTS_FILE, set(wanted)
    found: dict[Key, Requests] = {}
    number = 0
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                number += 1
                if not line.endswith("\n"):
                    break
                data = json.loads(line)
                key = tuple(data["key"])
                if key in keys:
                    found[key] = Requests(list(data["events"]), data["over"])
    except OSError as error:
        raise ArtefactError(f"{path}: cannot read the requests: {error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ArtefactError(f"{path}:{number}: damaged: {type(error).__name__} {error}") from error
    return found
