"""The picture of a frontier: success against cost and against latency (``pip install 'brownout[plot]'``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .frontier import quality_hull
from .frontier_curves import Curve, Frontier
from .frontier_sweep import ORACLE, STATIC
from .picture_style import HERO, INK, MARKS, SOFT, label, legend, new_figure, plain, save_png, series


def draw_curves(frontier: Frontier, path: Path) -> Path:
    """Draw every curve with intervals, the hull of the single configurations dashed, the oracle dotted.

    The figure has a white ground of its own, so it reads the same on a light and on a dark page.

    Args:
        frontier: what to draw.
        path: PNG file to write.

    Raises:
        MissingExtraError: without matplotlib.
    """
    figure, panels = new_figure(11.0, 4.8, columns=2)
    panels[1].sharey(panels[0])
    for axes, column, unit in ((panels[0], "cost_usd", "cost of an episode, USD"),
                               (panels[1], "latency_s", "time of an episode, s")):  # fmt: skip
        for place, curve in enumerate(frontier.curves):
            _draw(axes, curve, column, place, frontier.sweep.name)
        label(axes, f"mean {unit}")
        axes.set_xlim(left=0)
        axes.margins(x=0.08, y=0.08)
    swept = f"{frontier.sweep.name} from {frontier.sweep.values[0]:g} to {frontier.sweep.values[-1]:g}"
    title = f"{frontier.scenario} under {frontier.profile} faults, {swept}"
    label(panels[0], panels[0].get_xlabel(), "success, %", title)
    legend(panels[1], loc="lower right")
    return save_png(figure, path, dpi=140)


def _draw(axes: Any, curve: Curve, column: str, place: int, swept: str) -> None:
    """One curve, the first one emphasised; single configurations are points under the hull of their mixes."""
    hero = place == 0
    colour, mark = HERO if hero else series(place - 1), MARKS[place % len(MARKS)]
    estimates = [getattr(point, column) for point in curve.points]
    x = np.array([estimate.value for estimate in estimates])
    y = 100 * np.array([point.success.value for point in curve.points])
    if curve.name == STATIC:
        hull = quality_hull(np.column_stack([x, y]))
        axes.plot(*hull.T, "--", color=SOFT, lw=1.2, label=plain(curve.name))
        axes.plot(x, y, "s", color=SOFT, markersize=4)
        for point, at in zip(curve.points, zip(x, y, strict=True), strict=True):
            axes.annotate(plain(point.label), at, xytext=(4, -9), textcoords="offset points", fontsize=8, color=SOFT)
        return
    if curve.name == ORACLE:
        axes.plot(x, y, ":", color=INK, lw=1.4, label=plain(f"{curve.name}: one call, known to succeed"))
        return
    low, high = (100 * np.array([getattr(point.success, end) for point in curve.points]) for end in ("low", "high"))
    axes.errorbar(
        x, y, xerr=[e.half_width for e in estimates], yerr=[y - low, high - y], fmt=f"{mark}-", color=colour,
        lw=2.2 if hero else 1.2, markersize=6 if hero else 4, elinewidth=0.8, label=plain(curve.name),
        zorder=3 if hero else 2,
    )  # fmt: skip
    if hero and np.ptp(x) + np.ptp(y) > 0:  # a policy that ignores what is swept has one point
        shown = {0: curve.points[0], len(x) // 2: curve.points[len(x) // 2], len(x) - 1: curve.points[-1]}
        for i, point in shown.items():
            text = f"{swept} {point.label}" if i == 0 else point.label
            axes.annotate(
                plain(text), (x[i], y[i]), xytext=(6, 7), textcoords="offset points", fontsize=8, color=colour
            )
