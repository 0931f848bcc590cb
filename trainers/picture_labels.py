"""Names beside points that cover neither points nor other names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .picture_style import LIGHT, plain

Spot = tuple[float, float]
Place = tuple[int, int, float]


def name_points(
    figure: Any, axes: Any, points: Sequence[Spot], names: Sequence[str], colours: Sequence[str], *,
    avoid: Sequence[Spot] = (), size: float = 8.5,
) -> None:  # fmt: skip
    """Write a name at every point; the first one is bold.

    Call it last: it fixes the layout of the figure, as places are found in pixels.

    Args:
        figure: the figure.
        axes: the axes that hold the points.
        points: coordinates in data units.
        names: what to write.
        colours: colour of each name.
        avoid: further points that names should not cover, such as the ends of error bars.
        size: of the letters, points.
    """
    from matplotlib.transforms import Bbox

    renderer = figure.canvas.get_renderer()
    figure.draw(renderer)
    figure.set_layout_engine("none")  # the layout stays, so that data can be turned into pixels
    pixel = figure.dpi / 72
    frame = axes.get_window_extent(renderer).padded(-2)
    spots = [axes.transData.transform(point) for point in points]
    bars = [axes.transData.transform(point) for point in avoid]
    texts = [
        axes.annotate(
            plain(name), point, xytext=(0, 0), textcoords="offset pixels", fontsize=size, ha="left", va="bottom",
            zorder=5, color=colour, weight="bold" if i == 0 else "normal",
        )
        for i, (name, point, colour) in enumerate(zip(names, points, colours, strict=True))
    ]  # fmt: skip
    sizes = [(box.width, box.height) for box in (text.get_window_extent(renderer) for text in texts)]
    near = [(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1) if (x, y) != (0, 0)]
    places = [(x, y, reach * pixel) for reach in (9, 15, 24, 38) for x, y in near]

    def box(i: int, place: Place) -> Any:
        """Where a name would stand: beside, above or below its point, ``reach`` pixels away."""
        x, y, reach = place
        (w, h), (px, py) = sizes[i], spots[i]
        slant = 0.7 if x and y else 1.0
        left = px + slant * x * reach - (w if x < 0 else w / 2 if x == 0 else 0)
        low = py + slant * y * reach - (h if y < 0 else h / 2 if y == 0 else 0)
        return Bbox.from_bounds(left, low, w, h)

    def cost(i: int, place: Place, others: Mapping[int, Any]) -> float:
        mine = box(i, place)
        total = 0.05 * place[2] + (0.0 if place[:2] == (1, 0) else 1.0)
        total += 200.0 * (mine.x0 < frame.x0 or mine.x1 > frame.x1 or mine.y0 < frame.y0 or mine.y1 > frame.y1)
        total += sum(100.0 for other in others.values() if mine.padded(1).overlaps(other))
        total += sum(60.0 for x, y in spots if mine.padded(4).contains(x, y))
        total += sum(12.0 for x, y in bars if mine.padded(2).contains(x, y))
        (px, py), x, y = spots[i], (mine.x0 + mine.x1) / 2, (mine.y0 + mine.y1) / 2
        line = [(px + t * (x - px), py + t * (y - py)) for t in (0.2, 0.35, 0.5)]
        return total + sum(15.0 for x, y in line for other in others.values() if other.contains(x, y))

    taken = dict.fromkeys(range(len(points)), places[0])
    chosen = {i: box(i, places[0]) for i in taken}
    for _ in range(12):
        for i in chosen:
            others = {j: other for j, other in chosen.items() if j != i}
            taken[i] = min(places, key=lambda place, i=i, others=others: cost(i, place, others))
            chosen[i] = box(i, taken[i])
    for i, text in enumerate(texts):
        # in points from the data, so that the place holds at any resolution
        text.set_position(((chosen[i].x0 - spots[i][0]) / pixel, (chosen[i].y0 - spots[i][1]) / pixel))
        text.set_anncoords("offset points")
        if taken[i][2] > 10 * pixel:
            end = (min(max(spots[i][0], chosen[i].x0), chosen[i].x1), min(max(spots[i][1], chosen[i].y0), chosen[i].y1))
            xs, ys = zip(*axes.transData.inverted().transform([spots[i], end]), strict=True)
            axes.plot(xs, ys, color=LIGHT["void"], lw=0.7, zorder=2)
