"""A stress run as one HTML page; the template is ``stress_page.html``."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from .figure_text import interval, number, tendency, visible
from .page import Picture, inline, page_template, render
from .stress_findings import (
    Findings,
    agent_name,
    conditions_text,
    effect_summaries,
    headline,
    metric_name,
    outcome_words,
    ranking,
    shown_metrics,
    to_mend,
    warnings,
)
from .stress_report import Figure, StressReport
from .stress_rows import AGENT_OUTCOMES, CLEAN, FAULTED
from .stress_stories import Story
from .stress_terms import AGENT_TERMS, METRIC_TERMS, OUTCOME_TERMS

TEMPLATE: Final = "stress_page.html"
_HOTTEST: Final = 50  # per cent of colour in a cell of the heat map; more would drown the text
_MARKS: Final = {
    "asked": "\u2192",
    "got": "\u2190",
    "failed": "\u2190",
    "struck": "\u26a1",
    "thought": "\u2026",
    "note": "",
}
_SAID: Final = {"struck": "injected: "}


def stress_html(findings: Findings) -> str:
    """The page.

    Raises:
        MissingExtraError: without jinja2 or matplotlib.
    """
    template = page_template(TEMPLATE)
    return render(template, page_data(findings))


def page_data(findings: Findings) -> dict[str, Any]:
    """What the template reads: plain values, and pictures as SVG marked safe."""
    report = findings.report
    ranked = _ranking(findings)
    data = {
        "title": visible(f"{agent_name(report.agent)} on {report.scenario}"),
        "agent": visible(agent_name(report.agent)),
        "scenario": visible(report.scenario),
        "gate": None if findings.gate is None else _gate(findings),
        "headline": headline(report),
        "conditions": conditions_text(report),
        "warnings": [visible(text) for text in warnings(findings)],
        "mix": [mix_row(name, report.outcomes.get(name, {})) for name in (CLEAN, FAULTED)],
        "mix_legend": _mix_legend(report),
        "metrics": _metrics(report),
        "to_mend": to_mend(report),
        **_effects(report),
        "heat_table": _heat(report),
        "pictures": [inline(picture) for picture in _pictures(findings)],
        "ranking": ranked,
        "not_paired": [visible(f"{one.folder}: {one.why}.") for one in findings.beside if one.gap is None],
        "curve": [
            (f"{one.intensity:g}", interval(one.success), interval(one.utility), interval(one.cost_usd))
            for one in report.intensity_curve
        ],
        "stories": [story_data(story) for story in findings.stories],
        "endings": _endings(report),
        "errors": [
            {"condition": condition, "ended": ended, "text": visible(text), "count": count}
            for condition, ended, text, count in findings.errors
        ],
        "facts": _facts(findings),
        "commands": _commands(findings),
        "glossary": glossary(),
    }
    shown = (
        ("The cliff", "cliff", True), ("Gate", "gate", data["gate"]), ("What broke it", "effects", data["effects"]),
        ("Cost and time", "frontier", data["pictures"]), ("Worst episodes", "worst", data["stories"]),
        ("The agent", "agent", True), ("What was run", "facts", True), ("Words", "glossary", True),
    )  # fmt: skip
    return data | {"parts": [(name, id_) for name, id_, there in shown if there]}


# ---------------------------------------------------------------- scales


class Scale:
    """Where values lie on a strip, in per cent of its width.

    Args:
        figures: everything that must fit.
        floor: lowest value shown at least.
        ceiling: highest value shown at least.
    """

    def __init__(self, figures: Iterable[Figure], floor: float = 0.0, ceiling: float = 0.0) -> None:
        ends = [end for one in figures for end in (one.value, one.low, one.high) if math.isfinite(end)]
        self.low, self.high = min([floor, *ends]), max([ceiling, *ends])

    def at(self, value: float) -> float:
        """Per cent of the width."""
        width = self.high - self.low
        return round(2.0 + 96.0 * (value - self.low) / width, 2) if width else 2.0

    def mark(self, figure: Figure, kind: str) -> list[dict[str, Any]]:
        """A figure with its interval; none where it is not defined."""
        if not math.isfinite(figure.value):
            return []
        known = [math.isfinite(end) for end in (figure.low, figure.high)]
        low = self.at(figure.low) if known[0] else self.at(figure.value)
        high = self.at(figure.high) if known[1] else 98.0
        return [{"kind": kind, "at": self.at(figure.value), "low": low if any(known) else None, "high": high,
                 "open": not all(known)}]  # fmt: skip


# ---------------------------------------------------------------- parts


def words(name: str) -> str:
    """A name of a file as it is read."""
    return name.replace("_", " ")


def mix_row(name: str, outcomes: Mapping[str, int]) -> dict[str, Any]:
    """One bar of outcomes, the worst first."""
    total = sum(outcomes.values())
    order = outcome_words([dict(outcomes)])
    return {
        "name": name,
        "parts": [{"word": _class(word), "count": outcomes[word]} for word in order],
        "text": ", ".join(f"{words(word)} {outcomes[word]}" for word in order),
        "end": f"{100 * outcomes.get('success', 0) / total:.0f} % success" if total else "no episodes",
    }


def _class(word: str) -> str:
    return word if word in OUTCOME_TERMS else "other"


def _mix_legend(report: StressReport) -> list[dict[str, str]]:
    counts = [report.outcomes.get(name, {}) for name in (CLEAN, FAULTED)]
    return [
        {"word": _class(word), "name": words(word), "text": f"{counts[0].get(word, 0)} \u2192 {counts[1].get(word, 0)}"}
        for word in outcome_words(counts)
    ]


def _metrics(report: StressReport) -> list[dict[str, Any]]:
    clean, faulted = (report.conditions[name] for name in (CLEAN, FAULTED))
    names = shown_metrics(report)
    found = []
    for name in names:
        group = [n for n in names if n.split(".")[0] == name.split(".")[0]]  # quantiles of one thing share a scale
        share = faulted[name].unit == "share"
        scale = Scale([one[n] for n in group for one in (clean, faulted)], ceiling=1.0 if share else 0.0)
        gap = report.paired.get(name)
        least = report.smallest_detectable.get(name, math.nan)
        found.append({
            "name": metric_name(name),
            "marks": scale.mark(clean[name], "clean") + scale.mark(faulted[name], "faulted"),
            "clean": interval(clean[name]),
            "faulted": interval(faulted[name]),
            "gap": "" if gap is None else interval(gap, "+"),
            "tendency": "" if gap is None else tendency(gap),
            "least": number(least, faulted[name].unit) if math.isfinite(least) else "",
        })  # fmt: skip
    return found


def _effects(report: StressReport) -> dict[str, Any]:
    told = effect_summaries()
    losses = Scale([row.loss for row in report.effects if row.struck > 1])  # one episode says nothing of the scale
    share = Scale([], ceiling=1.0)
    rows = []
    for row in report.effects:
        fits = row.struck > 1 or losses.low <= row.loss.value <= losses.high
        rows.append({
            "name": visible(row.effect),
            "summary": told.get(row.effect, row.family),
            "struck": row.struck,
            "loss_marks": losses.mark(row.loss, tendency(row.loss) or "plain") if fits else [],
            "loss": interval(row.loss, "+"),
            "tendency": tendency(row.loss),
            "alone": "" if row.alone is None else interval(row.alone, "+"),
            "alone_tendency": "" if row.alone is None else tendency(row.alone),
            "recovery_marks": share.mark(row.recovery, "plain"),
            "recovery": interval(row.recovery),
        })  # fmt: skip
    return {
        "effects": rows,
        "alone": any(row.alone is not None for row in report.effects),
        "loss_zero": losses.at(0.0),
        "loss_scale": f"{losses.low:.2f} to {losses.high:.2f}, zero dashed",
    }


def _heat(report: StressReport) -> dict[str, Any]:
    rows = [(name, report.outcomes.get(name, {}), True) for name in (CLEAN, FAULTED)]
    rows += [(row.effect, row.outcomes, False) for row in report.effects]
    heads = outcome_words(dict(counts) for _, counts, _ in rows)

    def cell(word: str, counts: Mapping[str, int]) -> dict[str, Any]:
        total, count = sum(counts.values()), counts.get(word, 0)
        share = count / total if total else 0.0
        return {"text": f"{100 * share:.0f} %" if count else "\u00b7", "count": count or "", "good": word == "success",
                "heat": round(_HOTTEST * share, 1)}  # fmt: skip

    return {
        "heads": [words(word) for word in heads],
        "rows": [
            {"name": visible(name), "count": sum(counts.values()), "strong": strong,
             "cells": [cell(word, counts) for word in heads]}
            for name, counts, strong in rows
        ],
    }  # fmt: skip


def frontier_pictures(reports: Sequence[StressReport]) -> list[Picture]:
    """Success against cost and time; no picture where nothing is known of the price."""
    from .stress_pictures import stress_frontier_figure

    caption = "A ring is without faults, a diamond with them; bars are 95 % intervals. Up and to the left is better."
    return [
        Picture(f"frontier-{name.split('_')[0]}", stress_frontier_figure(reports, name), title, caption)
        for name, title in (("cost_usd", "Success against cost"), ("latency_s", "Success against time"))
        if any(
            name in one.conditions[FAULTED] and math.isfinite(one.conditions[FAULTED][name].value) for one in reports
        )
    ]


def _pictures(findings: Findings) -> list[Picture]:
    from .stress_pictures import intensity_figure

    found = frontier_pictures([findings.report, *(one.report for one in findings.beside)])
    if findings.report.intensity_curve:
        found.append(Picture(
            "intensity", intensity_figure(findings.report), "Success against intensity",
            "The same episodes with weaker and stronger faults. A steep line is an agent without slack.",
        ))  # fmt: skip
    return found


def _ranking(findings: Findings) -> list[dict[str, Any]]:
    if not findings.beside:
        return []

    def shown(report: StressReport, condition: str, name: str) -> str:
        figure = report.conditions[condition].get(name)
        return "" if figure is None else interval(figure)

    return [
        {
            "hero": other is None, "name": visible(agent_name(report.agent)),
            "folder": "" if other is None else visible(other.folder),
            "utility": shown(report, FAULTED, "utility"), "clean": shown(report, CLEAN, "success"),
            "faulted": shown(report, FAULTED, "success"), "garbage": shown(report, FAULTED, "silent_garbage"),
            "twice": shown(report, FAULTED, "duplicate_effect"), "cost": shown(report, FAULTED, "cost_usd"),
            "late": shown(report, FAULTED, "latency_s.p95"),
            "gap": "" if other is None or other.gap is None else interval(other.gap, "+"),
            "tendency": "" if other is None or other.gap is None else tendency(other.gap),
        }
        for report, other in ranking(findings)
    ]  # fmt: skip


def story_data(story: Story) -> dict[str, Any]:
    """A story as the template shows it."""
    return {
        "title": visible(story.title),
        "ended": visible(story.ended),
        "lines": [
            {"kind": line.kind, "time": f"{line.time_s:.2f} s", "mark": _MARKS[line.kind],
             "said": _SAID.get(line.kind, ""), "text": visible(line.text)}
            for line in story.lines
        ],
        "standing": story.standing,
        "replay": visible(story.replay),
    }  # fmt: skip


def _gate(findings: Findings) -> dict[str, Any]:
    assert findings.gate is not None
    checks = [{"rule": visible(one.rule), "verdict": one.verdict, "reason": visible(one.reason)}
              for one in findings.gate.checks]  # fmt: skip
    return {"verdict": findings.gate.verdict, "checks": checks}


def _endings(report: StressReport) -> dict[str, Any]:
    seen = {word for counts in report.agent_outcomes.values() for word in counts}
    order = [word for word in AGENT_OUTCOMES if word in seen]
    return {
        "heads": ["condition", *order],
        "rows": [[visible(name), *(counts.get(word, 0) for word in order)]
                 for name, counts in report.agent_outcomes.items()],
    }  # fmt: skip


def _facts(findings: Findings) -> list[tuple[str, str]]:
    report = findings.report
    limits = [f"{words(name)} {value:g}" for name, value in report.limits.items() if value is not None]
    facts: Sequence[tuple[str, object]] = (
        ("agent", report.agent),
        ("scenario", f"{report.scenario} ({report.scenario_hash})"),
        ("faults", f"profile {report.profile} at intensity {report.intensity:g}"),
        ("episodes", f"{report.episodes:,} per condition, split {report.split}" + (
            f", seed {report.seed}" if report.seed is not None else f", frozen set {report.evalset}")),
        ("repeats", report.repeats),
        ("conditions", ", ".join(report.conditions_played)),
        ("valid", f"{report.valid:,} of {report.planned:,} episodes"),
        ("limits", ", ".join(limits) or "none"),
        ("real time", f"{report.wall_s:.0f} s"),
        ("brownout", report.version),
        ("run folder", findings.folder or "not given"),
    )  # fmt: skip
    return [(name, visible(value)) for name, value in facts]


def _commands(findings: Findings) -> list[str]:
    if findings.folder is None:
        return []
    folder = str(findings.folder)
    beside = [word for one in findings.beside for word in ("--beside", str(one.folder))]
    lines = (["brownout", "report", folder, *beside], ["brownout", "gate", folder, "--config", "gate.yaml"],
             ["brownout", "freeze", folder, "--worst", "10", "--out", "worst.jsonl"])  # fmt: skip
    return [visible(shlex.join(line)) for line in lines]


def glossary() -> list[tuple[str, list[tuple[str, str]]]]:
    """Every word of the report with its meaning, in three groups."""
    groups = (("Outcomes", OUTCOME_TERMS), ("How agents end", AGENT_TERMS), ("Figures", METRIC_TERMS))
    return [(title, [(words(name), text) for name, text in terms.items()]) for title, terms in groups]
