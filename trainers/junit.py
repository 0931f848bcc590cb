"""JUnit XML, as continuous integration shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal
from xml.etree import ElementTree

from .figure_text import visible

_TAGS: Final = {"fail": "failure", "error": "error", "skip": "skipped"}


@dataclass(frozen=True)
class Case:
    """One test case.

    Args:
        group: what it belongs to, shown as its class.
        name: what is tested.
        state: how it came out; ``error`` says that it could not be decided.
        message: in one line.
        text: further lines.
    """

    group: str
    name: str
    state: Literal["pass", "fail", "error", "skip"]
    message: str
    text: str = ""


def junit_xml(name: str, cases: Sequence[Case], seconds: float | None = None) -> str:
    """One suite of test cases; control characters are written out, since XML has none.

    Args:
        name: of the suite.
        cases: its cases.
        seconds: real time it took.
    """
    count = {state: str(sum(case.state == state for case in cases)) for state in _TAGS}
    suite = ElementTree.Element(
        "testsuite", name=visible(name), tests=str(len(cases)), failures=count["fail"], errors=count["error"],
        skipped=count["skip"],
    )  # fmt: skip
    if seconds is not None:
        suite.set("time", f"{seconds:.3f}")
    for case in cases:
        element = ElementTree.SubElement(suite, "testcase", classname=visible(case.group), name=visible(case.name))
        if case.state != "pass":
            told = ElementTree.SubElement(element, _TAGS[case.state], message=visible(case.message))
            told.text = visible(case.text) or None
        else:
            ElementTree.SubElement(element, "system-out").text = visible(
                "\n".join(filter(None, (case.message, case.text)))
            )
    ElementTree.indent(suite)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ElementTree.tostring(suite, encoding="unicode")}\n'
