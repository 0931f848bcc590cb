"""A stress run as Markdown, JSON and JUnit XML; the page is in :mod:`.stress_page`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Final

from .figure_text import fenced, interval, markdown, number, tendency
from .gate_output import gate_cases, markdown_of
from .junit import Case, junit_xml
from .stress_findings import (
    Findings,
    agent_name,
    conditions_text,
    headline,
    metric_name,
    outcome_words,
    ranking,
    shown_metrics,
    to_mend,
    warnings,
)
from .stress_report import StressReport
from .stress_rows import CLEAN, FAULTED
from .stress_summary import LOUD_SHARE

FORMAT: Final = "brownout.report/1"
_TOLD: Final = 3  # episodes that Markdown tells; the page has ten
_ENDINGS: Final = ("crash", "hang", "killed", "loop")
_HARM: Final = {"silent_garbage": "no silent garbage", "duplicate_effect": "no duplicate effect"}


# ---------------------------------------------------------------- Markdown


def stress_markdown(findings: Findings) -> str:
    """The report as Markdown, for a pull request or a job summary."""
    report = findings.report
    who = f"{markdown(agent_name(report.agent))} on {markdown(report.scenario)}"
    parts = [f"## Stress report: {who}", headline(report), markdown(conditions_text(report)) + "."]
    parts += [f"> **{markdown(text)}**" for text in warnings(findings)]
    if findings.gate is not None:
        parts.append(markdown_of(findings.gate).strip())
    clean, faulted = report.conditions[CLEAN], report.conditions[FAULTED]
    parts.append("### The cliff\n\n" + _table(
        ("metric", "clean", "faulted", "faulted - clean", ""),
        ((metric_name(name), interval(clean[name]), interval(faulted[name]),
          interval(report.paired[name], "+") if name in report.paired else "",
          tendency(report.paired[name]) if name in report.paired else "")
         for name in shown_metrics(report)),
    ))  # fmt: skip
    words = outcome_words(report.outcomes.values())
    parts.append("### How the episodes ended\n\n" + _table(
        ("condition", *(word.replace("_", " ") for word in words)),
        ((name, *(counts.get(word, 0) for word in words)) for name, counts in report.outcomes.items()),
    ))  # fmt: skip
    if report.effects:
        mend = "".join(f"{i}. {markdown(text)}\n" for i, text in enumerate(to_mend(report), 1))
        rows = [
            (row.effect, row.struck, interval(row.loss, "+"), *(
                () if row.alone is None else (interval(row.alone, "+"),)), interval(row.recovery), _ends(row.outcomes))
            for row in report.effects
        ]  # fmt: skip
        alone = ("lost alone, per episode",) if any(row.alone is not None for row in report.effects) else ()
        heads = ("effect", "struck", "utility lost where it struck", *alone, "recovered", "ended as")
        if alone and len({len(row) for row in rows}) > 1:  # an effect that was not played alone has an empty cell
            rows = [row if len(row) == len(heads) else (*row[:3], "", *row[3:]) for row in rows]
        parts.append(f"### What broke it\n\n{mend}\n{_table(heads, rows)}")
    if report.intensity_curve:
        points = ((f"{one.intensity:g}", interval(one.success), interval(one.utility), interval(one.cost_usd))
                  for one in report.intensity_curve)  # fmt: skip
        parts.append("### Intensity\n\n" + _table(("intensity", "success", "utility", "cost"), points))
    if findings.beside:
        parts.append("### Beside other runs\n\n" + _table(
            ("agent", "utility", "success, clean", "success, faulted", "silent garbage", "duplicates", "cost",
             "this minus it"),
            (_ranked(one, "" if other is None or other.gap is None else interval(other.gap, "+"))
             for one, other in ranking(findings)),
        ))  # fmt: skip
    for story in findings.stories[:_TOLD]:
        text = "\n".join([f"agent: {story.ended}", *story.texts()])
        parts.append(
            f"<details><summary>{markdown(story.title)}</summary>\n\n{fenced(text)}\n\n{fenced(story.replay)}\n\n</details>"
        )
    return "\n\n".join(parts) + "\n"


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    return "\n".join([*lines, *("| " + " | ".join(markdown(cell) for cell in row) + " |" for row in rows)])


def _ranked(report: StressReport, gap: str) -> tuple[str, ...]:
    places = ((FAULTED, "utility"), (CLEAN, "success"), (FAULTED, "success"), (FAULTED, "silent_garbage"),
              (FAULTED, "duplicate_effect"), (FAULTED, "cost_usd"))  # fmt: skip
    figures = (report.conditions[condition].get(name) for condition, name in places)
    return (agent_name(report.agent), *("" if one is None else interval(one) for one in figures), gap)


def _ends(outcomes: dict[str, int]) -> str:
    return ", ".join(f"{word.replace('_', ' ')} {outcomes[word]}" for word in outcome_words([outcomes]))


# ---------------------------------------------------------------- JSON


def stress_json(findings: Findings) -> str:
    """The figures of ``stress.json``, with the gate's verdict and the other runs."""
    gate = findings.gate
    data = {
        "format": FORMAT,
        "report": findings.report.model_dump(mode="json"),
        "gate": None if gate is None else gate.to_dict(),
        "beside": [
            {"folder": str(one.folder), "report": one.report.model_dump(mode="json"), "why_not_paired": one.why or None,
             "utility_gap": None if one.gap is None else one.gap.model_dump(mode="json")}
            for one in findings.beside
        ],
    }  # fmt: skip
    return json.dumps(data, indent=2, allow_nan=False) + "\n"


# ---------------------------------------------------------------- JUnit XML


def stress_junit(findings: Findings) -> str:
    """One case per thing that should not happen and per effect; with a gate only the gate's checks can fail."""
    report = findings.report
    cases = [*_condition_cases(findings), *_effect_cases(findings)]
    if findings.gate is not None:
        cases = [Case(one.group, one.name, "pass", one.message, one.text) for one in cases]
        cases = [*gate_cases(findings.gate), *cases]
    cases += _run_cases(report)
    return junit_xml(f"brownout stress: {report.agent} on {report.scenario}", cases, report.wall_s)


def _condition_cases(findings: Findings) -> list[Case]:
    report, found = findings.report, []
    for condition in (CLEAN, FAULTED):
        group = f"stress.{report.scenario}.{condition}"
        outcomes, ended = report.outcomes.get(condition, {}), report.agent_outcomes.get(condition, {})
        total = sum(outcomes.values())
        for word, rule in _HARM.items():
            count = outcomes.get(word, 0)
            found.append(Case(group, rule, "fail" if count else "pass", f"{count} of {total} episodes ended as {word}",
                              _replays(report, condition, word)))  # fmt: skip
        bad = {word: ended[word] for word in _ENDINGS if ended.get(word)}
        text = "\n".join(
            f"{count} x {how}: {error}" for name, how, error, count in findings.errors if name == condition
        )
        said = ", ".join(f"{word} in {count}" for word, count in bad.items()) or "none"
        found.append(Case(group, "no crash, hang, loop or death", "fail" if bad else "pass",
                          f"{said} of {total} episodes", text))  # fmt: skip
    return found


def _replays(report: StressReport, condition: str, outcome: str) -> str:
    lines = [one.replay for one in report.worst if (one.condition, one.outcome) == (condition, outcome)]
    return "\n".join(["play again:", *lines]) if lines else ""


def _effect_cases(findings: Findings) -> list[Case]:
    """An effect fails where it surely costs success; where the episodes are too few to tell it is skipped."""
    report, found = findings.report, []
    for row in report.effects:
        lost = row.success_loss
        message = f"struck {row.struck} episodes, {number(row.recovery.value, 'share')} succeed; success lost " \
                  f"{interval(lost, '+')}, utility lost {interval(row.loss, '+')}"  # fmt: skip
        state = "fail" if tendency(lost) == "worse" else "pass" if lost.value <= 0.0 else "skip"
        found.append(Case(f"stress.{report.scenario}.effects", row.effect, state, message, _ends(row.outcomes)))
    return found


def _run_cases(report: StressReport) -> list[Case]:
    group = f"stress.{report.scenario}.run"
    lost = sum(report.invalid.values())
    reasons = ", ".join(f"{count} {reason}" for reason, count in report.invalid.items()) or "none"
    loud = report.invalid_share > LOUD_SHARE
    unplayed = f"{report.unplayed} of {report.planned} episodes were not played" + (
        f" ({report.stopped})" if report.stopped else "")  # fmt: skip
    return [
        Case(group, "episodes have a score", "error" if loud else "pass", f"{lost} have none: {reasons}"),
        Case(group, "every planned episode was played", "error" if report.unplayed else "pass", unplayed),
    ]


__all__ = ["stress_json", "stress_junit", "stress_markdown"]
