"""A gate's result for machines and pull requests: JUnit XML and Markdown."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from xml.etree import ElementTree

from ..errors import GateError
from .artefact import write_text
from .gate import GateResult

_MARKS: Final = {"pass": "✅ pass", "fail": "❌ fail", "undecided": "⚠️ undecided"}


def write_junit(result: GateResult, path: str | Path) -> None:
    """Write one test case per check: a failed one is a failure, an undecided one an error.

    Raises:
        GateError: the file cannot be written.
    """
    counts = {verdict: sum(check.verdict == verdict for check in result.checks) for verdict in _MARKS}
    suite = ElementTree.Element(
        "testsuite",
        name=f"brownout gate: {result.agent} on {result.scenario}",
        tests=str(len(result.checks)),
        failures=str(counts["fail"]),
        errors=str(counts["undecided"]),
    )
    for check in result.checks:
        case = ElementTree.SubElement(suite, "testcase", classname=f"gate.{result.scenario}", name=check.rule)
        if check.verdict == "pass":
            ElementTree.SubElement(case, "system-out").text = check.reason
        else:
            ElementTree.SubElement(case, "failure" if check.verdict == "fail" else "error", message=check.reason)
    ElementTree.indent(suite)
    text = ElementTree.tostring(suite, encoding="unicode", xml_declaration=False)
    _write(Path(path), f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n')


def markdown_of(result: GateResult) -> str:
    """Return the result as a Markdown section."""
    lines = [f"### Gate: {result.agent} on {result.scenario}: {_MARKS[result.verdict]}", "",
             "| | rule | measured |", "| --- | --- | --- |"]  # fmt: skip
    for check in result.checks:
        cells = [text.replace("|", "\\|") for text in (check.rule, check.reason)]
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
