"""The picture of a calibration: simulated beside recorded in four panels (``pip install 'brownout[plot]'``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..extras import missing_extra
from .goodness import Check, Goodness

_INK, _GRID, _OFF = "#1f2733", "#d8dee6", "#d9480f"
_COLOURS = ("#31688e", "#d98e04", "#35876b", "#8a5aa8", "#b0413e", "#5c6b7a")
_SHOWN = 6  # curves that a panel can hold


def draw_goodness(goodness: Goodness, path: Path) -> Path:
    """Draw success@n, cost and latency quantiles, and the log-likelihood of held-out queries.

    Figures outside their recorded interval are ringed in red.

    Args:
        goodness: what to draw.
        path: PNG file to write.

    Raises:
        MissingExtraError: without matplotlib.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_extra("plot", error) from error
    figure = Figure(figsize=(10.4, 8.0), dpi=130, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 2)
    for axes in panels.ravel():
        axes.grid(color=_GRID, linewidth=0.7)
        axes.set_axisbelow(True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    _curves(panels[0, 0], [c for c in goodness.checks if c.kind == "success"], goodness)
    for axes, kind, unit in ((panels[0, 1], "cost_usd", "cost of a call, USD"),
                             (panels[1, 0], "latency_s", "latency of a call, s")):  # fmt: skip
        _scatter(axes, [c for c in goodness.checks if c.kind == kind], goodness, kind, unit)
    _held_out(panels[1, 1], goodness)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    figure.savefig(temporary, format="png")
    temporary.replace(path)
    return path


def _title(axes: Any, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=10, color=_INK)


def _curves(axes: Any, checks: list[Check], goodness: Goodness) -> None:
    names = list(dict.fromkeys(check.config for check in checks))
    # where there are too many, those spread over the range of success
    last = {check.config: check.recorded for check in checks}
    ranked = sorted(names, key=last.__getitem__, reverse=True)
    shown = [ranked[i] for i in np.unique(np.linspace(0, len(ranked) - 1, min(_SHOWN, len(ranked))).astype(int))]
    for i, name in enumerate(shown):
        mine = [check for check in checks if check.config == name]
        n = np.arange(1, len(mine) + 1)
        colour = _COLOURS[i % len(_COLOURS)]
        axes.plot(n, [100 * c.simulated for c in mine], color=colour, lw=1.8, label=name)
        spread = [[100 * (c.recorded - c.low) for c in mine], [100 * (c.high - c.recorded) for c in mine]]
        axes.errorbar(n + 0.02 * (i - len(shown) / 2), [100 * c.recorded for c in mine], yerr=np.maximum(spread, 0.0),
                      fmt="o", ms=4, color=colour, lw=1, capsize=2)  # fmt: skip
    if checks:
        axes.set_xticks(range(1, 1 + max(int(c.what.split("@")[1]) for c in checks)))
    axes.set_xlabel("calls to the same configuration", color=_INK)
    axes.set_ylabel("at least one right, %", color=_INK)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=7, ncols=2, title="line: simulated, dot: recorded", title_fontsize=7)
    inside, total = goodness.inside("success")
    _title(axes, f"success@n: {inside} of {total} in the recorded interval")


def _scatter(axes: Any, checks: list[Check], goodness: Goodness, kind: str, unit: str) -> None:
    marks = dict(zip(("p50", "p90", "p95", "mean"), "osD^", strict=True))
    for what, mark in marks.items():
        mine = [c for c in checks if c.what == what and c.recorded > 0.0 and c.simulated > 0.0]
        if not mine:
            continue
        spread = np.array([[c.recorded - c.low for c in mine], [c.high - c.recorded for c in mine]])
        axes.errorbar([c.recorded for c in mine], [c.simulated for c in mine], xerr=np.maximum(spread, 0.0), fmt=mark,
                      ms=4.5, lw=0.8, capsize=1.5, color=_COLOURS[list(marks).index(what)], label=what)  # fmt: skip
        off = [c for c in mine if not c.inside]
        axes.plot([c.recorded for c in off], [c.simulated for c in off], "o", ms=10, mfc="none", mec=_OFF, mew=1.4)
    values = [v for c in checks for v in (c.recorded, c.simulated) if v > 0.0]
    if values:
        ends = [min(values) / 1.5, max(values) * 1.5]
        axes.plot(ends, ends, color=_INK, lw=0.8, ls="--")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.legend(frameon=False, fontsize=8)
    axes.set_xlabel(f"recorded {unit}", color=_INK)
    axes.set_ylabel("simulated", color=_INK)
    inside, total = goodness.inside(kind)
    _title(axes, f"{unit.split(' of')[0]}: {inside} of {total} in the recorded interval")


def _held_out(axes: Any, goodness: Goodness) -> None:
    _title(axes, "held-out queries: how far the fitted model is ahead")
    if not goodness.rivals:
        axes.annotate("no queries were held out", (0.5, 0.5), xycoords="axes fraction", ha="center", color=_INK)
        return
    names = [rival.name for rival in goodness.rivals]
    ahead = [rival.ahead for rival in goodness.rivals]
    spread = [[d.value - d.low for d in ahead], [d.high - d.value for d in ahead]]
    axes.barh(names, [d.value for d in ahead], xerr=spread, color=_COLOURS[0], height=0.45,
              error_kw={"lw": 1, "capsize": 3})  # fmt: skip
    axes.axvline(0.0, color=_INK, lw=0.9)
    axes.set_yticks(range(len(names)), [f"against\n{name}" for name in names], fontsize=8)
    axes.set_ylim(-0.6, len(names) - 0.4)
    queries = goodness.train + goodness.test
    axes.set_xlabel(f"log-likelihood per query, {goodness.test} held out of {queries}", color=_INK)
