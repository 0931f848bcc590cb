"""The pictures of the documentation, in the look that all pictures share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from brownout.trainers.picture_labels import name_points
from brownout.trainers.picture_style import GRID, HERO, INK, LIGHT, OTHER, PAPER, SOFT, new_figure, save_png

PALE = LIGHT["void"]
Point = Mapping[str, Any]


def frontier(points: Sequence[Point], path: Path) -> None:
    """Worth of the outcomes against their price, both in utility; equal utility lies on a diagonal."""
    figure, axes = new_figure(8.0, 5.2)
    shown = [p for p in points if p["utility"] > -0.5]
    xs, ys = [p["price"] for p in shown], [p["worth"] for p in shown]
    left, right = -0.02, max(xs) * 1.18
    low, high = min(min(ys) - 0.06, 0.0), max(ys) + 0.1
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)
    for tenth in range(-5, 15):
        utility = tenth / 10.0
        axes.plot([left, right], [left + utility, right + utility], color=GRID, lw=1.0, zorder=0)
        at_top = high - utility < right
        x, y = (high - utility, high) if at_top else (right, right + utility)
        if x > left + 0.02 and y > low + 0.03:
            axes.annotate(
                f"{utility:.1f}", (x, y), xytext=(0, 3) if at_top else (4, 0), textcoords="offset points", fontsize=8,
                color=SOFT, ha="center" if at_top else "left", va="bottom" if at_top else "center",
                annotation_clip=False,
            )  # fmt: skip
    best = points[0]["utility"]
    axes.plot([left, right], [left + best, right + best], color=HERO, lw=1.0, alpha=0.45, zorder=1)
    axes.grid(visible=False)
    for point in shown:
        hero = point is points[0]
        axes.plot(
            point["price"], point["worth"], "o", markersize=10 if hero else 6.5, color=HERO if hero else OTHER,
            zorder=4 if hero else 3, markeredgecolor=PAPER, markeredgewidth=0.8,
        )  # fmt: skip
    axes.set_xlabel("price of an episode: money and time, in utility", color=INK)
    axes.set_ylabel("worth of its outcome, in utility", color=INK)
    axes.set_title(
        "support-desk under production faults: utility is worth minus price, and equal on a diagonal",
        loc="left", pad=20, fontsize=10, color=INK,
    )  # fmt: skip
    ranked = sorted(shown, key=lambda p: p is not points[0])
    names = [f"{p['name']}  {p['utility']:.2f}" for p in ranked]
    colours = [HERO if p is points[0] else OTHER for p in ranked]
    name_points(figure, axes, [(p["price"], p["worth"]) for p in ranked], names, colours)
    save_png(figure, path, dpi=130)


def _signed(value: float) -> str:
    return "0.00" if abs(value) < 0.005 else f"{value:+.2f}"


def learning(records: Sequence[Mapping[str, Any]], points: Sequence[Point], path: Path) -> None:
    """Utility against training steps, with the best baselines as lines."""
    figure, axes = new_figure(8.0, 4.4)
    played = [r for r in records if r.get("utility") is not None]
    scored = [r for r in records if r.get("score") is not None]
    axes.plot([r["steps"] / 1e6 for r in played], [r["utility"] for r in played], color=PALE, lw=1.2)
    axes.plot([r["steps"] / 1e6 for r in scored], [r["score"] for r in scored], "o-", color=HERO, lw=2, ms=4)
    end = max(r["steps"] for r in records) / 1e6
    axes.set_xlim(0, end * 1.34)
    labels = [("trained, greedy", scored[-1]["score"], HERO), ("trained, exploring", played[-1]["utility"], SOFT)]
    rivals = sorted((p for p in points if p["name"] != "trained"), key=lambda p: -p["utility"])
    for rival in rivals[:4]:
        axes.plot([0, end], [rival["utility"]] * 2, color=OTHER, lw=0.9, ls="--", zorder=1)
        labels.append((rival["name"], rival["utility"], OTHER))
    low, high = axes.get_ylim()
    gap, last = 0.052 * (high - low), float("inf")
    for name, value, colour in sorted(labels, key=lambda label: -label[1]):
        last = min(value, last - gap)
        axes.annotate(
            f"{name}  {value:.3f}", (end, value), xytext=(end * 1.02, last), textcoords="data", fontsize=8.5,
            color=colour, va="center", weight="bold" if colour == HERO else "normal",
        )  # fmt: skip
    axes.set_xticks([tick for tick in axes.get_xticks() if 0 <= tick <= end + 1e-9])
    axes.spines["bottom"].set_bounds(0, end)
    axes.set_xlabel("environment steps, millions", color=INK)
    axes.set_ylabel("utility per episode", color=INK)
    axes.set_title("support-desk under production faults: training, and the best rules of thumb", loc="left",
                   fontsize=10, color=INK)  # fmt: skip
    save_png(figure, path, dpi=130)


def cliff(clean: Sequence[Point], production: Sequence[Point], change: Mapping[str, Any], path: Path) -> None:
    """Utility of every policy without and with production faults, on the same episodes."""
    figure, axes = new_figure(8.0, 4.6)
    before = {p["name"]: p["utility"] for p in clean}
    rows = sorted(production, key=lambda p: p["utility"])
    for y, row in enumerate(rows):
        name, after = row["name"], row["utility"]
        colour = HERO if name == "trained" else OTHER
        axes.plot([before[name], after], [y, y], color=PALE, lw=2.2, zorder=1, solid_capstyle="round")
        axes.plot(before[name], y, "o", ms=8, color=PAPER, markeredgecolor=colour, markeredgewidth=1.6, zorder=2)
        axes.plot(after, y, "o", ms=8, color=colour, zorder=3)
        axes.annotate(
            _signed(change[name]["value"]), (min(after, before[name]), y), xytext=(-10, 0), textcoords="offset points",
            ha="right", va="center", fontsize=8.5, color=colour,
        )  # fmt: skip
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows], fontsize=9)
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_color(HERO if row["name"] == "trained" else INK)
    axes.grid(axis="y", visible=False)
    axes.margins(x=0.12, y=0.06)
    axes.plot([], [], "o", ms=8, color=PAPER, markeredgecolor=OTHER, markeredgewidth=1.6, label="clean")
    axes.plot([], [], "o", ms=8, color=OTHER, label="production")
    axes.legend(frameon=False, loc="lower right", fontsize=9)
    axes.set_xlabel("utility per episode", color=INK)
    axes.set_title("support-desk: what the same policies are worth once production faults strike", loc="left",
                   fontsize=10, color=INK)  # fmt: skip
    save_png(figure, path, dpi=130)
