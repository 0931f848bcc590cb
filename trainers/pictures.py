"""Pictures of results, drawn with matplotlib (``pip install 'brownout[plot]'``).

Every ``..._figure`` returns a figure; ``draw_...`` writes one as PNG. The look is that of :mod:`.picture_style`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .evaluation import Evaluation, PolicyResult
from .picture_labels import name_points
from .picture_style import (
    HERO,
    INK,
    LIGHT,
    OTHER,
    PAPER,
    SOFT,
    label,
    legend,
    new_figure,
    plain,
    save_png,
    series,
)

F64 = NDArray[np.float64]
Records = Sequence[Mapping[str, Any]]
OUTCOME_COLOURS = {
    "success": LIGHT["good"], "wrong_answer": LIGHT["bad"], "escalated": LIGHT["one"], "abstained": LIGHT["void"],
    "limit": LIGHT["five"], "partial": LIGHT["two"], "silent_garbage": LIGHT["bad"], "duplicate_effect": LIGHT["four"],
    "aborted": LIGHT["void"], "harness_error": LIGHT["ink"],
}  # fmt: skip
_HATCHES = ("", "////", "....", "", "xxxx")  # what colour says, a hatch says too


def frontier_figure(evaluation: Evaluation, hull: F64 | None = None) -> Any:
    """Success against cost, one point per policy, the first one emphasised.

    Args:
        evaluation: the table to draw.
        hull: ``(m, 2)`` cost and success of the best mixes of single configurations, drawn as a line.

    Raises:
        MissingExtraError: without matplotlib.
    """
    figure, axes = new_figure(height=3.9)
    rows = [row for row in evaluation.rows if row is evaluation.rows[0] or row.success.value > 0.0]
    right = max(row.cost_usd.high for row in rows) * 1.05
    if hull is not None and len(hull):
        line = np.vstack([hull, [max(right, hull[-1, 0]), hull[-1, 1]]])
        axes.plot(line[:, 0], 100 * line[:, 1], "--", color=SOFT, lw=1.2, label="best mix of single calls", zorder=1)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper right", frameon=False, fontsize=8.5,
                      labelcolor=INK)  # fmt: skip
    for row in rows:
        hero = row is evaluation.rows[0]
        success = 100 * row.success.value
        axes.errorbar(
            row.cost_usd.value, success, xerr=row.cost_usd.half_width,
            yerr=[[max(success - 100 * row.success.low, 0.0)], [max(100 * row.success.high - success, 0.0)]],
            fmt="D" if hero else "o", markersize=8 if hero else 5, color=HERO if hero else OTHER, elinewidth=1,
            capsize=2, zorder=3 if hero else 2,
        )  # fmt: skip
    axes.set_xlim(0, right * 1.08)
    axes.set_ylim(-3, 106)
    axes.set_yticks(range(0, 101, 20))
    label(axes, "mean cost of an episode, USD", "success, %")
    points = [(row.cost_usd.value, 100 * row.success.value) for row in rows]
    colours = [HERO if row is evaluation.rows[0] else OTHER for row in rows]
    bars = [(row.cost_usd.value + part * row.cost_usd.half_width, 100 * row.success.value)
            for row in rows for part in (-1.0, -0.6, 0.6, 1.0)]  # fmt: skip
    bars += [(row.cost_usd.value, 100 * end) for row in rows for end in (row.success.low, row.success.high)]
    if hull is not None and len(hull):
        xs = np.linspace(0, right, 60)
        bars += zip(xs.tolist(), (100 * np.interp(xs, hull[:, 0], hull[:, 1])).tolist(), strict=True)
    name_points(figure, axes, points, [row.name for row in rows], colours, avoid=bars)
    return figure


def draw_frontier(evaluation: Evaluation, path: Path, hull: F64 | None = None) -> Path:
    """Write :func:`frontier_figure` as PNG."""
    return save_png(frontier_figure(evaluation, hull), path)


def learning_figure(records: Records, lines: Mapping[str, float] | None = None) -> Any:
    """Utility against steps, with horizontal lines to compare with.

    Args:
        records: one per iteration, as in ``metrics.jsonl``.
        lines: value of each line by its label, such as the ceiling or the hindsight bound.

    Raises:
        MissingExtraError: without matplotlib.
    """
    figure, axes = new_figure()
    played = [r for r in records if r.get("utility") is not None]
    scored = [r for r in records if r.get("score") is not None]
    axes.plot([r["steps"] / 1e6 for r in played], [r["utility"] for r in played], color=OTHER, lw=1, label="exploring")
    axes.plot([r["steps"] / 1e6 for r in scored], [r["score"] for r in scored], "o-", color=HERO, lw=2, ms=4,
              clip_on=False, label="greedy")  # fmt: skip
    end = max((r["steps"] for r in records), default=1) / 1e6
    axes.set_xlim(0, end)
    for i, (name, value) in enumerate((lines or {}).items()):
        axes.axhline(value, color=INK, lw=1.1, ls=("--", ":", "-.")[i % 3])
        axes.annotate(plain(f"{name} {value:.3f}"), (0.995, value), xycoords=("axes fraction", "data"), ha="right",
                      va="bottom", xytext=(0, 2), textcoords="offset points", fontsize=8.5, color=INK)  # fmt: skip
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.07 * (high - low))
    label(axes, "environment steps, millions", "utility per episode")
    if played or scored:
        legend(axes, loc="lower right")
    return figure


def draw_learning(metrics: Path, path: Path, lines: dict[str, float] | None = None) -> Path:
    """Write :func:`learning_figure` of a run's ``metrics.jsonl`` as PNG."""
    records = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    return save_png(learning_figure(records, lines), path)


def _by_utility(evaluation: Evaluation) -> list[PolicyResult]:
    return sorted(evaluation.rows, key=lambda row: row.utility.value)


def _policy_names(axes: Any, rows: Sequence[PolicyResult], first: PolicyResult) -> None:
    axes.set_yticks(range(len(rows)), [plain(row.name) for row in rows], fontsize=8.5)
    for text, row in zip(axes.get_yticklabels(), rows, strict=True):
        text.set_color(HERO if row is first else INK)
        text.set_weight("bold" if row is first else "normal")
    axes.grid(axis="y", visible=False)
    axes.set_ylim(-0.6, len(rows) - 0.4)


def outcomes_figure(evaluation: Evaluation) -> Any:
    """Share of each outcome per policy, best utility on top.

    Raises:
        MissingExtraError: without matplotlib.
    """
    rows = _by_utility(evaluation)
    figure, axes = new_figure(height=1.1 + 0.27 * len(rows))
    left = np.zeros(len(rows))
    for i, name in enumerate(evaluation.rows[0].outcomes):
        share = np.array([100 * row.outcomes.get(name, 0.0) for row in rows])
        if not share.any():
            continue
        axes.barh(range(len(rows)), share, left=left, height=0.68, label=name.replace("_", " "),
                  color=OUTCOME_COLOURS.get(name, series(i)), hatch=_HATCHES[i % len(_HATCHES)], edgecolor=PAPER,
                  linewidth=0.5)  # fmt: skip
        left += share
    _policy_names(axes, rows, evaluation.rows[0])
    axes.set_xlim(0, 100)
    label(axes, "share of episodes, %")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=5, frameon=False, fontsize=8.5,
                  labelcolor=INK, handlelength=1.4, columnspacing=1.0)  # fmt: skip
    return figure


def quantiles_figure(evaluation: Evaluation, kind: str) -> Any:
    """Mean, median, 95th and 99th percentile per policy, best utility on top.

    Args:
        evaluation: the table to draw.
        kind: ``cost_usd`` or ``latency_s``.

    Raises:
        MissingExtraError: without matplotlib.
    """
    rows = _by_utility(evaluation)
    figure, axes = new_figure(height=1.1 + 0.27 * len(rows))
    marks = {"p50": ("o", "median"), "mean": ("|", "mean"), "p95": ("s", "95 %"), "p99": ("^", "99 %")}
    measured = [getattr(row, "cost_quantiles" if kind == "cost_usd" else "latency_quantiles") for row in rows]
    values = {key: np.array([m[key].value for m in measured]) for key in ("p50", "p95", "p99")}
    values["mean"] = np.array([getattr(row, kind).value for row in rows])
    y = np.arange(len(rows))
    axes.hlines(y, values["p50"], values["p99"], color=LIGHT["void"], lw=1.2, zorder=1)
    for i, (key, (mark, name)) in enumerate(marks.items()):
        axes.plot(values[key], y, mark, color=series(i), ms=9 if mark == "|" else 5.5, mew=2 if mark == "|" else 1,
                  label=name, zorder=3)  # fmt: skip
    _policy_names(axes, rows, evaluation.rows[0])
    shown = np.concatenate(list(values.values()))
    if shown[shown > 0].size and shown.max() > 30 * np.median(shown[shown > 0]):
        axes.set_xscale("symlog", linthresh=float(np.median(shown[shown > 0])))
    axes.set_xlim(left=0)
    label(axes, "cost of an episode, USD" if kind == "cost_usd" else "time of an episode, s")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False, fontsize=8.5,
                  labelcolor=INK)  # fmt: skip
    return figure


def paired_figure(evaluation: Evaluation) -> Any:
    """Paired difference in utility, first policy minus each other, with 95 % intervals; None with one policy.

    Raises:
        MissingExtraError: without matplotlib.
    """
    rows = [row for row in _by_utility(evaluation) if row.against is not None]
    if not rows:
        return None
    figure, axes = new_figure(height=1.0 + 0.27 * len(rows))
    gaps = [row.against for row in rows if row.against is not None]
    for y, gap in enumerate(gaps):
        colour, mark = (LIGHT["good"], "D") if gap.low > 0 else (LIGHT["bad"], "X") if gap.high < 0 else (SOFT, "o")
        axes.errorbar(gap.value, y, xerr=[[gap.value - gap.low], [gap.high - gap.value]], fmt=mark, ms=6, color=colour,
                      elinewidth=1.3, capsize=3)  # fmt: skip
    axes.axvline(0.0, color=INK, lw=1)
    _policy_names(axes, rows, evaluation.rows[0])
    label(axes, f"utility of {evaluation.rows[0].name} minus that of the policy named")
    return figure
