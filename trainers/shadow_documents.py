"""A comparison of two agents as an HTML page, Markdown, JSON and JUnit XML; the template is ``shadow_page.html``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..errors import ArtefactError
from .figure_text import fenced, interval, markdown, number, tendency, visible
from .junit import Case, junit_xml
from .page import inline, page_template, render
from .shadow import BASELINE, CANDIDATE, ShadowReport, read_shadow
from .stress_findings import agent_name, metric_name, outcome_words
from .stress_page import Scale, frontier_pictures, glossary, mix_row, words
from .stress_report import StressReport, read_report
from .stress_rows import CLEAN, FAULTED

TEMPLATE: Final = "shadow_page.html"
_ALWAYS: Final = ("success", "utility", "silent_garbage", "duplicate_effect", "cost_usd", "latency_s")
_LEFT_OUT: Final = ("wrong_effects", "duplicate_effects", "pass@1")


@dataclass(frozen=True)
class Shadow:
    """A comparison with the two runs, as far as they are there.

    Args:
        report: the comparison.
        runs: summaries of candidate and baseline; empty if one cannot be read.
        missing: why they are not there.
    """

    report: ShadowReport
    runs: tuple[StressReport, ...]
    missing: str = ""


def find_shadow(folder: str | Path) -> Shadow:
    """Read a comparison and its runs.

    Raises:
        ArtefactError: the comparison is missing or damaged.
    """
    report = read_shadow(folder)
    try:
        return Shadow(report, tuple(read_report(report.folders[name]) for name in (CANDIDATE, BASELINE)))
    except ArtefactError as error:
        return Shadow(report, (), f"the runs themselves are not shown: {error}")


def _headline(report: ShadowReport) -> str:
    gap = report.differences[FAULTED]["utility"]
    said = {"better": "The candidate is better", "worse": "The candidate is worse"}.get(
        tendency(gap), "These episodes cannot tell the two apart"
    )
    return (
        f"{said}: utility under faults {interval(gap, '+')}. The candidate alone succeeds in {report.won} episodes, "
        f"the baseline alone in {report.lost}."
    )


def _conditions(report: ShadowReport) -> str:
    what = f"Profile {report.profile} at intensity {report.intensity:g}"
    if report.evalset is not None:
        what = f"Frozen set {report.evalset[:12]}"
    return f"{what}, {', '.join(f'{count:,} {name}' for name, count in report.pairs.items())} pairs of episodes"


def _warnings(shadow: Shadow) -> list[str]:
    report = shadow.report
    found = [] if report.complete else ["A run is not complete; --resume plays the rest."]
    found += [f"{count} {name} episodes have a score in one of the two runs only and are left out."
              for name, count in report.unpaired.items() if count]  # fmt: skip
    return [*found, shadow.missing] if shadow.missing else found


def _shown(report: ShadowReport) -> list[str]:
    gaps = report.differences
    return [
        name for name in gaps[FAULTED]
        if name not in _LEFT_OUT and (name in _ALWAYS or any(gaps[c][name].value for c in (CLEAN, FAULTED)))
    ]  # fmt: skip


def _flips(report: ShadowReport) -> list[dict[str, str]]:
    return [
        {"text": f"{one.condition}, episode {one.episode} of seed {one.seed}: {words(one.candidate)} instead of "
                 f"{words(one.baseline)}", "replay": visible(one.replay)}
        for one in report.flips
    ]  # fmt: skip


def shadow_html(shadow: Shadow) -> str:
    """The page.

    Raises:
        MissingExtraError: without jinja2 or matplotlib.
    """
    template = page_template(TEMPLATE)
    return render(template, page_data(shadow))


def page_data(shadow: Shadow) -> dict[str, Any]:
    """What the template reads."""
    report = shadow.report
    runs = dict(zip((CANDIDATE, BASELINE), shadow.runs, strict=False))
    mix = [(f"{name}, {condition}", run.outcomes.get(condition, {}))
           for condition in (CLEAN, FAULTED) for name, run in runs.items()]  # fmt: skip
    return {
        "candidate": visible(agent_name(report.candidate)),
        "baseline": visible(agent_name(report.baseline)),
        "scenario": visible(report.scenario),
        "headline": _headline(report),
        "conditions": _conditions(report),
        "warnings": [visible(text) for text in _warnings(shadow)],
        "mix": [mix_row(name, counts) for name, counts in mix],
        "mix_legend": [{"word": word, "name": words(word), "text": ""}
                       for word in outcome_words(counts for _, counts in mix)],
        "metrics": [_metric(report, name) for name in _shown(report)],
        "pictures": [inline(picture) for picture in frontier_pictures(shadow.runs)],
        "flips": _flips(report),
        "facts": [(name, visible(value)) for name, value in _facts(report)],
        "glossary": glossary(),
    }  # fmt: skip


def _metric(report: ShadowReport, name: str) -> dict[str, Any]:
    gaps = [report.differences[condition][name] for condition in (CLEAN, FAULTED)]
    scale = Scale(gaps)
    least = report.smallest_detectable[FAULTED].get(name, math.nan)
    return {
        "name": metric_name(name),
        "zero": scale.at(0.0),
        "marks": scale.mark(gaps[0], CLEAN) + scale.mark(gaps[1], FAULTED),
        "cells": [{"name": condition, "text": interval(gap, "+"), "tendency": tendency(gap)}
                  for condition, gap in zip((CLEAN, FAULTED), gaps, strict=True)],
        "least": number(least, gaps[1].unit) if math.isfinite(least) else "",
    }  # fmt: skip


def _facts(report: ShadowReport) -> list[tuple[str, object]]:
    return [
        ("candidate", f"{report.candidate} in {report.folders[CANDIDATE]}"),
        ("baseline", f"{report.baseline} in {report.folders[BASELINE]}"),
        ("scenario", f"{report.scenario} ({report.scenario_hash})"),
        ("seed", "of the frozen set" if report.seed is None else report.seed),
        ("brownout", report.version),
    ]


def shadow_markdown(shadow: Shadow) -> str:
    """The comparison as Markdown."""
    report = shadow.report
    names = " beside ".join(markdown(agent_name(one)) for one in (report.candidate, report.baseline))
    lines = [f"## {names} on {markdown(report.scenario)}", "", _headline(report), "", _conditions(report) + ".", ""]
    lines += [line for text in _warnings(shadow) for line in (f"> **{markdown(text)}**", "")]
    lines += ["| metric | clean | faulted | faulted |", "| --- | --- | --- | --- |"]
    for name in _shown(report):
        clean, faulted = (report.differences[condition][name] for condition in (CLEAN, FAULTED))
        cells = (metric_name(name), interval(clean, "+"), interval(faulted, "+"), tendency(faulted))
        lines.append(f"| {' | '.join(map(markdown, cells))} |")
    for flip in _flips(report):
        lines += ["", markdown(flip["text"]), "", fenced(flip["replay"])]
    return "\n".join(lines) + "\n"


def shadow_json(shadow: Shadow) -> str:
    """The figures of ``shadow.json``."""
    return shadow.report.model_dump_json(indent=2) + "\n"


def shadow_junit(shadow: Shadow) -> str:
    """One case per metric and condition, which fails where the candidate is worse for sure."""
    report = shadow.report
    cases = [
        Case(f"shadow.{report.scenario}.{condition}", name, "fail" if tendency(gap) == "worse" else "pass",
             f"candidate minus baseline {interval(gap, '+')}")
        for condition, gaps in report.differences.items() for name, gap in gaps.items()
    ]  # fmt: skip
    cases.append(Case(f"shadow.{report.scenario}.run", "every planned episode was played",
                      "pass" if report.complete else "error", "; ".join(_warnings(shadow)) or "all were"))  # fmt: skip
    return junit_xml(f"brownout shadow: {report.candidate} beside {report.baseline} on {report.scenario}", cases)
