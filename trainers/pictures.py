"""Pictures of results, drawn with matplotlib (``pip install 'brownout[plot]'``)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..extras import missing_extra
from .evaluation import Evaluation

INK, GRID, HERO, OTHER = "#1f2733", "#d8dee6", "#d9480f", "#4c6a92"


def new_figure(width: float = 7.6, height: float = 4.6, columns: int = 1) -> tuple[Any, Any]:
    """Return a figure in the style of all pictures and its axes (a list of them when there are several columns).

    Raises:
        MissingExtraError: without matplotlib.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_extra("plot", error) from error
    figure = Figure(figsize=(width, height), dpi=140, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    every = [figure.add_subplot(1, columns, place + 1) for place in range(columns)]
    for axes in every:
        axes.grid(color=GRID, linewidth=0.7)
        axes.set_axisbelow(True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    return figure, every[0] if columns == 1 else every


def draw_frontier(evaluation: Evaluation, path: Path) -> Path:
    """Draw success against cost, one point per policy, the first one emphasised.

    Args:
        evaluation: the table to draw.
        path: PNG file to write.

    Raises:
        MissingExtraError: without matplotlib.
    """
    figure, axes = new_figure()
    rows = [row for row in evaluation.rows if row.success.value > 0.0]
    for row in rows:
        hero = row is evaluation.rows[0]
        colour = HERO if hero else OTHER
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
    axes.set_xlabel("mean cost of an episode, USD", color=INK)
    axes.set_ylabel("answered right, %", color=INK)
    axes.set_xlim(left=0)
    axes.margins(x=0.18, y=0.1)
    axes.set_title(
        f"{evaluation.scenario} under {evaluation.profile} faults: {evaluation.rows[0].episodes:,} held-out episodes",
        loc="left", fontsize=10, color=INK,
    )  # fmt: skip
    return write_figure(figure, path)


def draw_learning(metrics: Path, path: Path, lines: dict[str, float] | None = None) -> Path:
    """Draw utility against steps from a run's ``metrics.jsonl``.

    Args:
        metrics: the metrics file.
        path: PNG file to write.
        lines: horizontal lines to compare with, by label.

    Raises:
        MissingExtraError: without matplotlib.
    """
    figure, axes = new_figure()
    records = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    shown = [r for r in records if r.get("utility") is not None]
    axes.plot(
        [r["steps"] / 1e6 for r in shown],
        [r["utility"] for r in shown],
        color=OTHER,
        lw=1,
        label="exploring",
    )
    greedy = [r for r in records if r.get("score") is not None]
    if greedy:
        axes.plot(
            [r["steps"] / 1e6 for r in greedy],
            [r["score"] for r in greedy],
            color=HERO,
            lw=2,
            label="greedy",
        )
    for label, value in (lines or {}).items():
        axes.axhline(value, color=INK, lw=0.9, ls="--")
        axes.annotate(label, (0.995, value), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=8)
    axes.set_xlabel("environment steps, millions", color=INK)
    axes.set_ylabel("utility per episode", color=INK)
    axes.legend(frameon=False, loc="lower right")
    return write_figure(figure, path)


def write_figure(figure: Any, path: Path) -> Path:
    """Write a PNG file under a temporary name, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    figure.savefig(temporary, format="png")
    temporary.replace(path)
    return path
