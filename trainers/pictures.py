"""Pictures of results, drawn with matplotlib (``pip install 'brownout[plot]'``)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..extras import missing_extra
from .budgets import BudgetTable
from .evaluation import Evaluation
from .judge_sweep import JudgeSweep

_INK, _GRID, _HERO, _OTHER = "#1f2733", "#d8dee6", "#d9480f", "#4c6a92"
_COLOURS = (_HERO, _OTHER, "#35876b", "#8c97a5", "#8a5aa8", "#d98e04", "#31688e")


def _figure(width: float = 7.6, height: float = 4.6, panels: int = 1) -> tuple[Any, Any]:
    """A figure and its axes: one, or an array of several that share the horizontal one."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_extra("plot", error) from error
    figure = Figure(figsize=(width, height), dpi=140, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(panels, sharex=True, squeeze=False)[:, 0]
    for axes in grid:
        axes.grid(color=_GRID, linewidth=0.7)
        axes.set_axisbelow(True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    return figure, grid if panels > 1 else grid[0]


def draw_frontier(evaluation: Evaluation, path: Path) -> Path:
    """Draw success against cost, one point per policy, the first one emphasised.

    Args:
        evaluation: the table to draw.
        path: PNG file to write.

    Raises:
        MissingExtraError: without matplotlib.
    """
    figure, axes = _figure()
    rows = [row for row in evaluation.rows if row.success.value > 0.0]
    for row in rows:
        hero = row is evaluation.rows[0]
        colour = _HERO if hero else _OTHER
        success = 100 * row.success.value
        axes.errorbar(
            row.cost_usd.value, success, xerr=row.cost_usd.half_width,
            yerr=[[success - 100 * row.success.low], [100 * row.success.high - success]],
            fmt="o", markersize=9 if hero else 6, color=colour, elinewidth=1, capsize=2, zorder=3 if hero else 2,
        )  # fmt: skip
        axes.annotate(
            f"{row.name}\nutility {row.utility.value:.2f}", (row.cost_usd.value, success), xytext=(8, -3),
            textcoords="offset points", fontsize=8, color=colour, weight="bold" if hero else "normal",
        )  # fmt: skip
    axes.set_xlabel("mean cost of an episode, USD", color=_INK)
    axes.set_ylabel("answered right, %", color=_INK)
    axes.set_xlim(left=0)
    axes.margins(x=0.18, y=0.1)
    axes.set_title(
        f"{evaluation.scenario} under {evaluation.profile} faults: {evaluation.rows[0].episodes:,} held-out episodes",
        loc="left", fontsize=10, color=_INK,
    )  # fmt: skip
    return _write(figure, path)


def draw_learning(metrics: Path, path: Path, lines: dict[str, float] | None = None) -> Path:
    """Draw utility against steps from a run's ``metrics.jsonl``.

    Args:
        metrics: the metrics file.
        path: PNG file to write.
        lines: horizontal lines to compare with, by label.

    Raises:
        MissingExtraError: without matplotlib.
    """
    figure, axes = _figure()
    records = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    shown = [r for r in records if r.get("utility") is not None]
    axes.plot(
        [r["steps"] / 1e6 for r in shown],
        [r["utility"] for r in shown],
        color=_OTHER,
        lw=1,
        label="exploring",
    )
    greedy = [r for r in records if r.get("score") is not None]
    if greedy:
        axes.plot(
            [r["steps"] / 1e6 for r in greedy],
            [r["score"] for r in greedy],
            color=_HERO,
            lw=2,
            label="greedy",
        )
    for label, value in (lines or {}).items():
        axes.axhline(value, color=_INK, lw=0.9, ls="--")
        axes.annotate(label, (0.995, value), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=8)
    axes.set_xlabel("environment steps, millions", color=_INK)
    axes.set_ylabel("utility per episode", color=_INK)
    axes.legend(frameon=False, loc="lower right")
    return _write(figure, path)


def draw_judge_sweep(sweep: JudgeSweep, path: Path) -> Path:
    """Draw utilities against the judge's false-positive rate, and how the trained policy begins.

    Args:
        sweep: what to draw; of several true-positive rates the highest.
        path: PNG file to write.

    Raises:
        MissingExtraError: without matplotlib.
    """
    figure, (top, bottom) = _figure(7.6, 6.4, panels=2)
    best = max(point.true_positive for point in sweep.points)
    points = sorted((p for p in sweep.points if p.true_positive == best), key=lambda p: p.false_positive)
    rates = [point.false_positive for point in points]
    for row, colour in zip(points[0].rows, _COLOURS, strict=False):
        found = [point.row(row.policy).utility for point in points]
        top.plot(rates, [e.value for e in found], "o-", color=colour, ms=4, lw=2 if colour == _HERO else 1.2,
                 label=sweep.single if row.policy == "best-single" else row.policy)  # fmt: skip
        top.fill_between(rates, [e.low for e in found], [e.high for e in found], color=colour, alpha=0.15, lw=0)
    who = "the judge" if sweep.judge == "judge" else sweep.judge
    top.set_ylabel("utility per episode", color=_INK)
    top.legend(frameon=False, fontsize=8)
    top.set_title(f"{sweep.scenario}, {sweep.profile} faults: how good must {who} be?", loc="left", fontsize=10,
                  color=_INK)  # fmt: skip
    kinds = list(points[0].opening)
    shares = [[100 * point.opening[kind] for point in points] for kind in kinds]
    bottom.stackplot(rates, shares, labels=kinds, colors=_COLOURS, alpha=0.75, lw=0)
    for even in sweep.break_even:
        if even.rate is not None and even.true_positive == best:
            bottom.axvline(even.rate, color=_INK, lw=0.9, ls="--")
            top.axvline(even.rate, color=_INK, lw=0.9, ls="--")
    bottom.set_ylabel("trained policy begins, %", color=_INK)
    bottom.set_xlabel("share of wrong answers that the judge accepts (dashed: break-even rates)", color=_INK)
    bottom.set_ylim(0, 100)
    bottom.legend(frameon=False, fontsize=8, loc="lower left")
    return _write(figure, path)


def draw_budgets(table: BudgetTable, path: Path) -> Path:
    """Draw what policies deliver against what they may spend, and what they do spend.

    Args:
        table: what to draw.
        path: PNG file to write.

    Raises:
        MissingExtraError: without matplotlib.
    """
    figure, (top, bottom) = _figure(7.6, 6.4, panels=2)
    for policy, colour in zip(table.policies, (_HERO, *_COLOURS[1:]), strict=False):
        rows = [row for row in table.rows if row.policy == policy]
        for axes, found in ((top, [row.delivered for row in rows]), (bottom, [row.cost_usd for row in rows])):
            budgets = [row.budget_usd for row in rows]
            axes.plot(budgets, [e.value for e in found], "o-", color=colour, ms=4, lw=1.4, label=policy)
            axes.fill_between(budgets, [e.low for e in found], [e.high for e in found], color=colour, alpha=0.15, lw=0)
    caps = sorted({row.budget_usd for row in table.rows})
    bottom.set_xscale("log")
    bottom.set_xticks(caps, [f"{cap:g}" for cap in caps])
    bottom.minorticks_off()
    top.set_ylabel(table.measure, color=_INK)
    bottom.set_ylabel("spent, USD", color=_INK)
    bottom.set_xlabel("budget, USD", color=_INK)
    top.legend(frameon=False, fontsize=8)
    top.set_title(f"{table.scenario}, {table.profile} faults", loc="left", fontsize=10, color=_INK)
    return _write(figure, path)


def _write(figure: Any, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    figure.savefig(temporary, format="png")
    temporary.replace(path)
    return path
