"""The pictures of a calibration: simulated beside recorded in four panels (``pip install 'brownout[plot]'``)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from .goodness import Goodness
from .picture_style import HERO, INK, MARKS, label, legend, new_figure, plain, save_png, series

_SHOWN: Final = 6  # curves that a panel can hold


def draw_goodness(goodness: Goodness, path: Path) -> Path:
    """Draw success@n, cost and latency quantiles, and the log-likelihood of held-out queries.

    Figures outside their recorded interval are ringed.

    Args:
        goodness: what to draw.
        path: PNG file to write.

    Raises:
        MissingExtraError: without matplotlib.
    """
    figure, panels = new_figure(10.8, 8.2, 2, 2)
    for axes, draw in zip(panels.ravel(), PANELS.values(), strict=True):
        draw(axes, goodness)
    return save_png(figure, path, dpi=130)


def panel_figure(goodness: Goodness, name: str) -> Any:
    """One of the :data:`PANELS` as a figure of its own.

    Raises:
        MissingExtraError: without matplotlib.
    """
    figure, axes = new_figure(height=4.0)
    PANELS[name](axes, goodness)
    return figure


def _curves(axes: Any, goodness: Goodness) -> None:
    checks = [check for check in goodness.checks if check.kind == "success"]
    names = list(dict.fromkeys(check.config for check in checks))
    # where there are too many, those spread over the range of success
    last = {check.config: check.recorded for check in checks}
    ranked = sorted(names, key=last.__getitem__, reverse=True)
    shown = [ranked[i] for i in np.unique(np.linspace(0, len(ranked) - 1, min(_SHOWN, len(ranked))).astype(int))]
    for i, name in enumerate(shown):
        mine = [check for check in checks if check.config == name]
        n = np.arange(1, len(mine) + 1)
        colour, mark = series(i), MARKS[i % len(MARKS)]
        axes.plot(n, [100 * c.simulated for c in mine], color=colour, lw=1.8, label=plain(name))
        spread = [[100 * (c.recorded - c.low) for c in mine], [100 * (c.high - c.recorded) for c in mine]]
        axes.errorbar(n + 0.02 * (i - len(shown) / 2), [100 * c.recorded for c in mine], yerr=np.maximum(spread, 0.0),
                      fmt=mark, ms=4.5, color=colour, lw=1, capsize=2)  # fmt: skip
    if checks:
        axes.set_xticks(range(1, 1 + max(int(c.what.split("@")[1]) for c in checks)))
    axes.set_ylim(bottom=0)
    inside, total = goodness.inside("success")
    label(axes, "calls to the same configuration (line: simulated, mark: recorded)", "at least one right, %",
          f"success@n: {inside} of {total} in the recorded interval")  # fmt: skip
    if checks:
        legend(axes, fontsize=7.5, ncols=2)


def _scatter(axes: Any, goodness: Goodness, kind: str, unit: str) -> None:
    checks = [check for check in goodness.checks if check.kind == kind]
    marks = dict(zip(("p50", "p90", "p95", "mean"), "osD^", strict=True))
    for what, mark in marks.items():
        mine = [c for c in checks if c.what == what and c.recorded > 0.0 and c.simulated > 0.0]
        if not mine:
            continue
        spread = np.array([[c.recorded - c.low for c in mine], [c.high - c.recorded for c in mine]])
        axes.errorbar([c.recorded for c in mine], [c.simulated for c in mine], xerr=np.maximum(spread, 0.0), fmt=mark,
                      ms=4.5, lw=0.8, capsize=1.5, color=series(list(marks).index(what)), label=what)  # fmt: skip
        off = [c for c in mine if not c.inside]
        axes.plot([c.recorded for c in off], [c.simulated for c in off], "o", ms=10, mfc="none", mec=HERO, mew=1.4)
    values = [v for c in checks for v in (c.recorded, c.simulated) if v > 0.0]
    if values:
        ends = [min(values) / 1.5, max(values) * 1.5]
        axes.plot(ends, ends, color=INK, lw=0.8, ls="--")
        axes.set_xscale("log")
        axes.set_yscale("log")
        legend(axes)
    inside, total = goodness.inside(kind)
    label(
        axes, f"recorded {unit}", "simulated", f"{unit.split(' of')[0]}: {inside} of {total} in the recorded interval"
    )


def _held_out(axes: Any, goodness: Goodness) -> None:
    label(axes, title="held out: the fit is ahead by")
    if not goodness.rivals:
        axes.annotate("no queries were held out", (0.5, 0.5), xycoords="axes fraction", ha="center", color=INK)
        return
    names = [rival.name for rival in goodness.rivals]
    ahead = [rival.ahead for rival in goodness.rivals]
    spread = [[d.value - d.low for d in ahead], [d.high - d.value for d in ahead]]
    axes.barh(names, [d.value for d in ahead], xerr=spread, color=series(0), height=0.45,
              error_kw={"lw": 1, "capsize": 3, "ecolor": INK})  # fmt: skip
    axes.axvline(0.0, color=INK, lw=0.9)
    axes.set_yticks(range(len(names)), [plain(f"against\n{name}") for name in names], fontsize=8)
    axes.set_ylim(-0.6, len(names) - 0.4)
    queries = goodness.train + goodness.test
    axes.set_xlabel(f"log-likelihood per query,\n{goodness.test} of {queries} held out", color=INK, fontsize=9.5)


PANELS: Final[dict[str, Callable[[Any, Goodness], None]]] = {
    "success": _curves,
    "cost": lambda axes, goodness: _scatter(axes, goodness, "cost_usd", "cost of a call, USD"),
    "latency": lambda axes, goodness: _scatter(axes, goodness, "latency_s", "latency of a call, s"),
    "held-out": _held_out,
}
