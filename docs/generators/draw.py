"""The pictures of the documentation, on white, with labels that keep clear of each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

INK, GRID, HERO, OTHER, PALE = "#1f2733", "#e3e8ee", "#d9480f", "#3f6188", "#9db2c9"
Point = Mapping[str, Any]


def _figure(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=130, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_axisbelow(True)
    axes.grid(color=GRID, linewidth=0.7)
    axes.tick_params(colors=INK, labelsize=9)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _save(figure: Any, path: Path) -> None:
    # no software version in the file, so that equal pictures are equal files
    figure.savefig(path, format="png", metadata={"Software": None})


def frontier(points: Sequence[Point], path: Path) -> None:
    """Worth of the outcomes against their price, both in utility; equal utility lies on a diagonal."""
    figure, axes = _figure(8.0, 5.2)
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
                color="#7d93ab", ha="center" if at_top else "left", va="bottom" if at_top else "center",
                annotation_clip=False,
            )  # fmt: skip
    best = points[0]["utility"]
    axes.plot([left, right], [left + best, right + best], color=HERO, lw=1.0, alpha=0.45, zorder=1)
    axes.grid(visible=False)
    for point in shown:
        hero = point is points[0]
        axes.plot(
            point["price"], point["worth"], "o", markersize=10 if hero else 6.5, color=HERO if hero else OTHER,
            zorder=4 if hero else 3, markeredgecolor="white", markeredgewidth=0.8,
        )  # fmt: skip
    axes.set_xlabel("price of an episode: money and time, in utility", color=INK)
    axes.set_ylabel("worth of its outcome, in utility", color=INK)
    axes.set_title(
        "support-desk under production faults: utility is worth minus price, and equal on a diagonal",
        loc="left", pad=20, fontsize=10, color=INK,
    )  # fmt: skip
    _label(figure, axes, shown, points[0])
    _save(figure, path)


def _label(figure: Any, axes: Any, points: Sequence[Point], hero: Point) -> None:
    """Name every point where the name covers neither points nor other names."""
    from matplotlib.transforms import Bbox

    renderer = figure.canvas.get_renderer()
    figure.draw(renderer)
    figure.set_layout_engine("none")  # the layout stays, so that data can be turned into pixels
    pixel = figure.dpi / 72
    frame = axes.get_window_extent(renderer).padded(-3)
    spots = [axes.transData.transform((p["price"], p["worth"])) for p in points]
    texts = [
        axes.text(
            0, 0, f"{p['name']}  {p['utility']:.2f}", transform=None, fontsize=8.5, ha="left", va="bottom", zorder=5,
            color=HERO if p is hero else OTHER, weight="bold" if p is hero else "normal",
        )
        for p in points
    ]  # fmt: skip
    sizes = [(box.width, box.height) for box in (text.get_window_extent(renderer) for text in texts)]
    near = [(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1) if (x, y) != (0, 0)]
    places = [(x, y, reach * pixel) for reach in (8, 16, 26) for x, y in near]

    def box(i: int, place: tuple[int, int, float]) -> Any:
        """Where a name would stand: beside, above or below its point, ``reach`` pixels away."""
        x, y, reach = place
        (w, h), (px, py) = sizes[i], spots[i]
        slant = 0.7 if x and y else 1.0
        left = px + slant * x * reach - (w if x < 0 else w / 2 if x == 0 else 0)
        low = py + slant * y * reach - (h if y < 0 else h / 2 if y == 0 else 0)
        return Bbox.from_bounds(left, low, w, h)

    def cost(i: int, place: tuple[int, int, float], others: Mapping[int, Any]) -> float:
        mine = box(i, place)
        total = 0.05 * place[2] + (0.0 if place[:2] == (1, 0) else 1.0)
        total += 200.0 * (mine.x0 < frame.x0 or mine.x1 > frame.x1 or mine.y0 < frame.y0 or mine.y1 > frame.y1)
        total += sum(100.0 for other in others.values() if mine.padded(1).overlaps(other))
        total += sum(60.0 for x, y in spots if mine.padded(4).contains(x, y))
        (px, py), x, y = spots[i], (mine.x0 + mine.x1) / 2, (mine.y0 + mine.y1) / 2
        line = [(px + t * (x - px), py + t * (y - py)) for t in (0.2, 0.35, 0.5)]
        return total + sum(15.0 for x, y in line for other in others.values() if other.contains(x, y))

    chosen = {i: box(i, places[0]) for i in range(len(points))}
    taken = dict.fromkeys(chosen, places[0])
    for _ in range(12):
        for i in chosen:
            others = {j: other for j, other in chosen.items() if j != i}
            taken[i] = min(places, key=lambda place, i=i, others=others: cost(i, place, others))
            chosen[i] = box(i, taken[i])
    for i, text in enumerate(texts):
        text.set_position((chosen[i].x0, chosen[i].y0))
        if taken[i][2] > 12 * pixel:
            end = (min(max(spots[i][0], chosen[i].x0), chosen[i].x1), min(max(spots[i][1], chosen[i].y0), chosen[i].y1))
            xs, ys = zip(*axes.transData.inverted().transform([spots[i], end]), strict=True)
            axes.plot(xs, ys, color=PALE, lw=0.8, zorder=2)


def _signed(value: float) -> str:
    return "0.00" if abs(value) < 0.005 else f"{value:+.2f}"


def learning(records: Sequence[Mapping[str, Any]], points: Sequence[Point], path: Path) -> None:
    """Utility against training steps, with the best baselines as lines."""
    figure, axes = _figure(8.0, 4.4)
    played = [r for r in records if r.get("utility") is not None]
    scored = [r for r in records if r.get("score") is not None]
    axes.plot([r["steps"] / 1e6 for r in played], [r["utility"] for r in played], color=PALE, lw=1.2)
    axes.plot([r["steps"] / 1e6 for r in scored], [r["score"] for r in scored], "o-", color=HERO, lw=2, ms=4)
    end = max(r["steps"] for r in records) / 1e6
    axes.set_xlim(0, end * 1.34)
    labels = [("trained, greedy", scored[-1]["score"], HERO), ("trained, exploring", played[-1]["utility"], "#6d87a3")]
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
    _save(figure, path)


def cliff(clean: Sequence[Point], production: Sequence[Point], change: Mapping[str, Any], path: Path) -> None:
    """Utility of every policy without and with production faults, on the same episodes."""
    figure, axes = _figure(8.0, 4.6)
    before = {p["name"]: p["utility"] for p in clean}
    rows = sorted(production, key=lambda p: p["utility"])
    for y, row in enumerate(rows):
        name, after = row["name"], row["utility"]
        colour = HERO if name == "trained" else OTHER
        axes.plot([before[name], after], [y, y], color=PALE, lw=2.2, zorder=1, solid_capstyle="round")
        axes.plot(before[name], y, "o", ms=8, color="white", markeredgecolor=colour, markeredgewidth=1.6, zorder=2)
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
    axes.plot([], [], "o", ms=8, color="white", markeredgecolor=OTHER, markeredgewidth=1.6, label="clean")
    axes.plot([], [], "o", ms=8, color=OTHER, label="production")
    axes.legend(frameon=False, loc="lower right", fontsize=9)
    axes.set_xlabel("utility per episode", color=INK)
    axes.set_title("support-desk: what the same policies are worth once production faults strike", loc="left",
                   fontsize=10, color=INK)  # fmt: skip
    _save(figure, path)
