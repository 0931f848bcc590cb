"""The picture of a frontier: success against cost and against latency (``pip install 'brownout[plot]'``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..extras import missing_extra
from .frontier import quality_hull
from .frontier_curves import Curve, Frontier
from .frontier_sweep import ORACLE, STATIC

_INK, _GRID = "#1f2733", "#d8dee6"
_COLOURS = ("#d9480f", "#31688e", "#35876b", "#8a5aa8", "#d98e04", "#b0413e")


def draw_curves(frontier: Frontier, path: Path) -> Path:
    """Draw every curve with intervals, the hull of the single configurations dashed, the oracle dotted.

    The figure has a white ground of its own, so it reads the same on a light and on a dark page.

    Args:
        frontier: what to draw.
        path: PNG file to write.

    Raises:
        MissingExtraError: without matplotlib.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_extra("plot", error) from error
    figure = Figure(figsize=(11.0, 4.8), dpi=140, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, column, unit in ((panels[0], "cost_usd", "cost of an episode, USD"),
                               (panels[1], "latency_s", "time of an episode, s")):  # fmt: skip
        axes.grid(color=_GRID, linewidth=0.7)
        axes.set_axisbelow(True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        colours = iter(_COLOURS * (1 + len(frontier.curves) // len(_COLOURS)))
        for place, curve in enumerate(frontier.curves):
            _draw(axes, curve, column, next(colours), place == 0, frontier.sweep.name)
        axes.set_xlabel(f"mean {unit}", color=_INK)
        axes.set_xlim(left=0)
        axes.margins(x=0.08, y=0.08)
    panels[0].set_ylabel("answered right, %", color=_INK)
    panels[0].set_title(
        f"{frontier.scenario} under {frontier.profile} faults, {frontier.sweep.name} from "
        f"{frontier.sweep.values[0]:g} to {frontier.sweep.values[-1]:g}",
        loc="left", fontsize=10, color=_INK,
    )  # fmt: skip
    panels[1].legend(frameon=False, loc="lower right", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    figure.savefig(temporary, format="png")
    temporary.replace(path)
    return path


def _draw(axes: Any, curve: Curve, column: str, colour: str, hero: bool, swept: str) -> None:
    """One curve; single configurations are points under the hull of their mixes."""
    estimates = [getattr(point, column) for point in curve.points]
    x = np.array([estimate.value for estimate in estimates])
    y = 100 * np.array([point.success.value for point in curve.points])
    if curve.name == STATIC:
        hull = quality_hull(np.column_stack([x, y]))
        axes.plot(*hull.T, "--", color="#5c6b7a", lw=1.2, label=curve.name)
        axes.plot(x, y, "s", color="#5c6b7a", markersize=4)
        for point, at in zip(curve.points, zip(x, y, strict=True), strict=True):
            axes.annotate(point.label, at, xytext=(4, -9), textcoords="offset points", fontsize=7, color="#5c6b7a")
        return
    if curve.name == ORACLE:
        axes.plot(x, y, ":", color=_INK, lw=1.4, label=f"{curve.name}: one call, known to succeed")
        return
    low, high = (100 * np.array([getattr(point.success, end) for point in curve.points]) for end in ("low", "high"))
    axes.errorbar(
        x, y, xerr=[e.half_width for e in estimates], yerr=[y - low, high - y], fmt="o-", color=colour,
        lw=2.2 if hero else 1.2, markersize=6 if hero else 4, elinewidth=0.8, label=curve.name, zorder=3 if hero else 2,
    )  # fmt: skip
    if hero:
        shown = {0: curve.points[0], len(x) // 2: curve.points[len(x) // 2], len(x) - 1: curve.points[-1]}
        for i, point in shown.items():
            text = f"{swept} {point.label}" if i == 0 else point.label
            axes.annotate(text, (x[i], y[i]), xytext=(6, 7), textcoords="offset points", fontsize=8, color=colour)
