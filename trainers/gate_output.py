"""A gate's result for machines and pull requests: JUnit XML and Markdown."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from ..errors import GateError
from .artefact import write_text
from .figure_text import markdown
from .gate import GateResult, Verdict
from .junit import Case, junit_xml

_MARKS: Final = {"pass": "✅ pass", "fail": "❌ fail", "undecided": "⚠️ undecided"}


def write_junit(result: GateResult, path: str | Path) -> None:
    """Write one test case per check: a failed one is a failure, an undecided one an error.

    Raises:
        GateError: the file cannot be written.
    """
    _write(Path(path), junit_xml(f"brownout gate: {result.agent} on {result.scenario}", gate_cases(result)))


def gate_cases(result: GateResult) -> list[Case]:
    """One test case per check: a failed one is a failure, an undecided one an error."""
    states: dict[Verdict, Literal["pass", "fail", "error"]] = {"pass": "pass", "fail": "fail", "undecided": "error"}
    group = f"gate.{result.scenario}"
    return [Case(group, check.rule, states[check.verdict], check.reason) for check in result.checks]


def markdown_of(result: GateResult) -> str:
    """Return the result as a Markdown section."""
    lines = [f"### Gate: {markdown(result.agent)} on {markdown(result.scenario)}: {_MARKS[result.verdict]}", "",
             "| | rule | measured |", "| --- | --- | --- |"]  # fmt: skip
    for check in result.checks:
        cells = [markdown(text) for text in (check.rule, check.reason)]
        lines.append(f"| {_MARKS[check.verdict]} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines) + "\n"


def append_markdown(result: GateResult, path: str | Path) -> None:
    """Add the section to a file, which may be there already.

    Raises:
        GateError: the file cannot be written.
    """
    path = Path(path)
    try:
        before = path.read_text(encoding="utf-8") if path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise GateError(f"{path}: cannot be read: {error}") from error
    _write(path, before + markdown_of(result))


def _write(path: Path, text: str) -> None:
    try:
        write_text(path, text)
    except OSError as error:
        raise GateError(f"{path}: cannot be written: {error}") from error
