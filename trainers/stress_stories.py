"""Recorded episodes as stories: what the agent asked, what it got, what struck, and what stands in the end."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..errors import BrownoutError
from .figure_text import visible
from .freeze import job_of
from .stress_files import Requests, read_requests
from .stress_replay import stage_of
from .stress_report import StressReport, WorstEpisode
from .stress_rows import EpisodeRow, Key, read_rows

_LONG: Final = 220  # characters of a request or a body that are shown
_WAITED: Final = 0.005  # seconds below which a step took no time worth naming


@dataclass(frozen=True)
class Line:
    """One line of a story.

    Args:
        kind: ``asked``, ``got``, ``failed`` (an answer that is an error or none), ``struck``, ``thought`` or ``note``.
        time_s: virtual time at its end.
        text: what is to be read.
    """

    kind: str
    time_s: float
    text: str


@dataclass(frozen=True)
class Standing:
    """One effect that stands, or should.

    Args:
        right: whether that is as it should be.
        text: what is to be read.
    """

    right: bool
    text: str


@dataclass(frozen=True)
class Story:
    """One episode.

    Args:
        title: which episode it is and how it ended.
        ended: how the agent ended, with its error if there was one.
        lines: in the order of the clock.
        standing: what stands at the end; None where the recording could not be played again.
        replay: the command that plays it again.
    """

    title: str
    ended: str
    lines: tuple[Line, ...]
    standing: tuple[Standing, ...] | None
    replay: str

    def texts(self) -> list[str]:
        """The story as plain lines."""
        marks = {"asked": "->", "got": "<-", "failed": "<-", "struck": "!!", "thought": "..", "note": "  "}
        found = [f"{line.time_s:9.2f} s  {marks[line.kind]} {line.text}" for line in self.lines]
        if self.standing is not None:
            found += [
                "",
                "stands in the end:",
                *(f"  {'ok ' if one.right else 'NOT'} {one.text}" for one in self.standing),
            ]
        return found


def worst_stories(report: StressReport, folder: Path | None) -> tuple[tuple[Story, ...], str | None]:
    """Tell the worst episodes of a run.

    Args:
        report: the summary.
        folder: of the run; None tells from the summary alone.

    Returns:
        the stories; why they are short, if they are.
    """
    if folder is None or not report.worst:
        return tuple(_short(one) for one in report.worst), None
    keys = [(one.condition, one.seed, one.episode, one.repeat) for one in report.worst]
    try:
        rows = {row.key: row for row in read_rows(folder)}
        told = read_requests(folder, keys)
    except BrownoutError as error:
        return tuple(_short(one) for one in report.worst), str(error)
    ends, why = _ends(folder, [rows[key] for key in keys if key in rows and key in told], told)
    found = []
    for key, one in zip(keys, report.worst, strict=True):
        if key in rows and key in told:
            lines = _lines(told[key].events, rows[key])
            found.append(Story(_title(one), _ended(rows[key]), lines, ends.get(key), one.replay))
        else:
            found.append(_short(one))
    return tuple(found), why


def _short(one: WorstEpisode) -> Story:
    lines = tuple(_of_timeline(text) for text in one.timeline)
    return Story(_title(one), one.agent_outcome, lines, None, one.replay)


def _of_timeline(text: str) -> Line:
    when, _, rest = text.partition(" s  ")
    told = rest.partition("  ")[2] or rest or text
    try:
        time_s = float(when)
    except ValueError:
        return Line("note", 0.0, text)
    return Line("struck", time_s, told[2:]) if told.startswith("! ") else Line("note", time_s, told)


def _title(one: WorstEpisode) -> str:
    again = f", repeat {one.repeat}" if one.repeat else ""
    return (
        f"{one.outcome.replace('_', ' ')}, utility {one.utility:+.3f}: episode {one.episode} of seed {one.seed}"
        f"{again}, {one.condition}"
    )


def _ended(row: EpisodeRow) -> str:
    return row.agent_outcome if row.error is None else f"{row.agent_outcome}: {row.error}"


# ---------------------------------------------------------------- what happened


def _lines(events: Iterable[Mapping[str, Any]], row: EpisodeRow) -> tuple[Line, ...]:
    struck: dict[int, list[str]] = defaultdict(list)
    for injection in row.injections:
        data = injection.model_dump(mode="json")
        struck[int(data.get("call", 0))].append(_strike(data))
    found = [Line("struck", 0.0, text) for text in struck.pop(0, [])]
    number, before = 0, 0.0
    for event in events:
        clock = float(event["clock_s"])
        if event["kind"] in ("call", "wire"):
            number += 1
            response = event["response"]
            failed = bool(response["failure"]) or int(response["status"]) >= 400
            found.append(Line("asked", before, _request(event)))
            found += [Line("struck", clock, text) for text in struck.pop(number, [])]
            found.append(Line("failed" if failed else "got", clock, _answer(response, clock - before)))
        elif event["kind"] == "usage":
            text = f"the agent's own model: {event['latency_s']:.2f} s, ${event['cost_usd']:.4f}"
            found.append(Line("thought", clock, text))
        before = clock
    found += [Line("struck", before, text) for texts in struck.values() for text in texts]
    return tuple(found)


def _strike(data: Mapping[str, Any]) -> str:
    if data.get("field"):
        return f"{data['effect']} in {data['field']}"
    when = "before the work was done" if data.get("before") else "after the work was done"
    return f"{data['effect']} at {data.get('service', '?')}, {when}"


def _request(event: Mapping[str, Any]) -> str:
    if event["kind"] == "wire":
        body = event.get("body")
        return f"{event['method']} {event['path']}" + (f" {_cut(body)}" if body else "")
    arguments = ", ".join(f"{name}={json.dumps(value)}" for name, value in event["arguments"].items())
    return f"{event['tool']}({_cut(arguments)})"


def _answer(response: Mapping[str, Any], took_s: float) -> str:
    after = f" after {took_s:.1f} s" if took_s >= 1.0 else ""
    if response["failure"]:
        return f"nothing came back: {response['failure']}{after}"
    text = _cut(" ".join(str(response["text"]).split()))
    return f"{response['status']}{after} {text}".rstrip()


def _cut(text: object) -> str:
    shown = visible(text)
    return shown if len(shown) <= _LONG else f"{shown[:_LONG]} ... ({len(shown):,} characters)"


# ---------------------------------------------------------------- what stands


def _ends(
    folder: Path, rows: Iterable[EpisodeRow], told: Mapping[Key, Requests]
) -> tuple[dict[Key, tuple[Standing, ...]], str | None]:
    """Make the requests of some episodes again and look at the servers; why that was not possible."""
    found: dict[Key, tuple[Standing, ...]] = {}
    try:
        stage = stage_of(folder)
        for row in rows:
            again = stage.again(job_of(row), told[row.key].events)
            found[row.key] = tuple(_standing(one) for one in again.end_state())
    except BrownoutError as error:
        return found, f"what stands in the end is not shown: {error}"
    return found, None


def _standing(one: Mapping[str, Any]) -> Standing:
    values = ", ".join(f"{name} {_shown(value)}" for name, value in one["values"].items())
    should = ", ".join(f"{name} {_shown(value)}" for name, value in one["should"].items())
    right = one["verdict"] == "right"
    text = f"{one['step']}: {one['verdict']}"
    if values:
        text += f"; stands with {values}"
    if should and one["verdict"] in ("missing", "wrong values"):
        text += f"; should be {should}"
    return Standing(right, visible(text))


def _shown(value: object) -> str:
    return "nothing" if value is None else _cut(value)
