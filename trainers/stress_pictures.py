"""Pictures of stress runs: success against cost and time, and against intensity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .figure_text import visible
from .picture_labels import name_points
from .picture_style import HERO, LIGHT, OTHER, label, legend, new_figure, plain
from .stress_findings import agent_name
from .stress_report import Figure, StressReport
from .stress_rows import CLEAN, FAULTED

_ROOM = 26  # characters of a name
AXES = {"cost_usd": "mean cost of an episode, USD", "latency_s": "mean time of an episode, s"}


def stress_frontier_figure(reports: Sequence[StressReport], price: str) -> Any:
    """Success against a price: per run a ring without faults, a diamond with them, and a line between.

    Args:
        reports: the runs, the first one emphasised.
        price: ``cost_usd`` or ``latency_s``.

    Raises:
        MissingExtraError: without matplotlib.
    """
    figure, axes = new_figure(height=3.7)
    points: list[tuple[float, float]] = []
    names: list[str] = []
    colours: list[str] = []
    avoid: list[tuple[float, float]] = []
    right = 0.0
    for i, report in enumerate(reports):
        colour = HERO if not i else OTHER
        ends = []
        for condition, mark, face in ((CLEAN, "o", "none"), (FAULTED, "D", colour)):
            x, y = report.conditions[condition].get(price), report.conditions[condition].get("success")
            if x is None or y is None or not (math.isfinite(x.value) and math.isfinite(y.value)):
                continue
            axes.errorbar(
                x.value, 100 * y.value, xerr=_reach(x), yerr=_reach(y, 100), fmt=mark, color=colour,
                markerfacecolor=face, markersize=7, elinewidth=1, capsize=2, zorder=3,
                label={CLEAN: "clean", FAULTED: "faulted"}[condition] if not i else None,
            )  # fmt: skip
            ends.append((x.value, 100 * y.value))
            right = max(right, x.high if math.isfinite(x.high) else x.value)
        if len(ends) == 2:
            (x0, y0), (x1, y1) = ends
            axes.plot([x0, x1], [y0, y1], color=colour, lw=1, ls=":", zorder=2)
            avoid += [(x0 + (x1 - x0) * k / 12, y0 + (y1 - y0) * k / 12) for k in range(13)]
        if ends:
            points.append(ends[-1])
            names.append(_short(report.agent))
            colours.append(colour)
    axes.set_xlim(0, right * 1.15 or 1.0)
    axes.set_ylim(-4, 106)
    axes.set_yticks(range(0, 101, 20))
    label(axes, AXES[price], "success, %")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper right", ncols=2, frameon=False, fontsize=8.5,
                  labelcolor=LIGHT["ink"])  # fmt: skip
    if points:
        name_points(figure, axes, points, names, colours, avoid=avoid)
    return figure


def intensity_figure(report: StressReport) -> Any:
    """Success against the intensity of the faults, with its 95 % band.

    Raises:
        MissingExtraError: without matplotlib.
    """
    figure, axes = new_figure(height=3.3)
    curve = [point for point in report.intensity_curve if math.isfinite(point.success.value)]
    xs = [point.intensity for point in curve]
    ys = [100 * point.success.value for point in curve]
    low, high = ([100 * end for end in ends] for ends in zip(*(_ends(point.success) for point in curve), strict=True))
    axes.fill_between(xs, low, high, color=LIGHT["grid"], linewidth=0, zorder=1, label="95 % interval")
    axes.plot(xs, ys, "o-", color=HERO, lw=2, ms=5, zorder=3, label=plain(_short(report.agent)))
    axes.set_ylim(-4, 106)
    axes.set_yticks(range(0, 101, 20))
    axes.set_xticks(xs)
    label(axes, "intensity of the faults (1 is the profile as it is written)", "success, %")
    legend(axes, loc="best")
    return figure


def _short(agent: str) -> str:
    """An agent's name as there is room for it."""
    name = visible(agent_name(agent))
    return name if len(name) <= _ROOM else f"{name[: _ROOM - 1]}\u2026"


def _ends(figure: Figure) -> tuple[float, float]:
    return tuple(end if math.isfinite(end) else figure.value for end in (figure.low, figure.high))  # type: ignore[return-value]


def _reach(figure: Figure, scale: float = 1.0) -> list[list[float]]:
    low, high = _ends(figure)
    return [[scale * max(figure.value - low, 0.0)], [scale * max(high - figure.value, 0.0)]]
