"""Names beside points that cover neither points nor other names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .picture_style import LIGHT, plain

F64 = NDArray[np.float64]
Spot = tuple[float, float]
REACHES: Final = (9.0, 15.0, 24.0, 38.0)  # points between a point and its name
ROUNDS: Final = 12


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
    renderer = figure.canvas.get_renderer()
    figure.draw(renderer)
    figure.set_layout_engine("none")  # the layout stays, so that data can be turned into pixels
    pixel = figure.dpi / 72
    frame = axes.get_window_extent(renderer).padded(-2).extents
    spots = axes.transData.transform(np.asarray(points, dtype=np.float64))
    bars = axes.transData.transform(np.asarray(avoid, dtype=np.float64).reshape(-1, 2))
    texts = [
        axes.annotate(
            plain(name), point, xytext=(0, 0), textcoords="offset points", fontsize=size, ha="left", va="bottom",
            zorder=5, color=colour, weight="bold" if i == 0 else "normal",
        )
        for i, (name, point, colour) in enumerate(zip(names, points, colours, strict=True))
    ]  # fmt: skip
    sizes = np.array([text.get_window_extent(renderer).size for text in texts])
    boxes, reach = _places(spots, sizes, pixel)
    fixed = _fixed_cost(boxes, reach, spots, bars, frame)
    taken = np.zeros(len(spots), dtype=np.int64)
    everybody = np.arange(len(spots))
    for _ in range(ROUNDS):
        for i in everybody:
            others = boxes[everybody, taken][everybody != i]
            taken[i] = (fixed[i] + _cost_among(boxes[i], spots[i], others)).argmin()
    for i, text in enumerate(texts):
        x0, y0, x1, y1 = boxes[i, taken[i]]
        # in points from the data, so that the place holds at any resolution
        text.set_position(((x0 - spots[i, 0]) / pixel, (y0 - spots[i, 1]) / pixel))
        if reach[taken[i]] > 10 * pixel:
            end = (min(max(spots[i, 0], x0), x1), min(max(spots[i, 1], y0), y1))
            xs, ys = zip(*axes.transData.inverted().transform([spots[i], end]), strict=True)
            axes.plot(xs, ys, color=LIGHT["void"], lw=0.7, zorder=2)


def _places(spots: F64, sizes: F64, pixel: float) -> tuple[F64, F64]:
    """``(n, P, 4)`` boxes where each name could stand, and ``(P,)`` how far from its point, right of it first."""
    sides = [(1, 0), (1, 1), (1, -1), (0, 1), (0, -1), (-1, 1), (-1, 0), (-1, -1)]
    slots = np.array([(x, y, reach * pixel) for reach in REACHES for x, y in sides])
    x, y, reach = slots.T
    slant = np.where((x != 0) & (y != 0), 0.7, 1.0) * reach
    w, h = sizes[:, :1], sizes[:, 1:]
    left = spots[:, :1] + slant * x - w * (0.5 - 0.5 * x)
    low = spots[:, 1:] + slant * y - h * (0.5 - 0.5 * y)
    return np.stack([left, low, left + w, low + h], axis=2), reach


def _within(boxes: F64, points: F64, pad: float) -> F64:
    """``(..., m)`` which of ``m`` points lie in each box, widened by ``pad``."""
    x0, y0, x1, y1 = (boxes[..., k, None] for k in range(4))
    x, y = points[:, 0], points[:, 1]
    return ((x >= x0 - pad) & (x <= x1 + pad) & (y >= y0 - pad) & (y <= y1 + pad)).astype(np.float64)


def _fixed_cost(boxes: F64, reach: F64, spots: F64, bars: F64, frame: F64) -> F64:
    """``(n, P)`` what a place costs whatever the others do: out of the frame, over points or bars, far away."""
    outside = (boxes[..., 0] < frame[0]) | (boxes[..., 1] < frame[1])
    outside |= (boxes[..., 2] > frame[2]) | (boxes[..., 3] > frame[3])
    cost = (
        200.0 * outside + 60.0 * _within(boxes, spots, 4.0).sum(axis=2) + 12.0 * _within(boxes, bars, 2.0).sum(axis=2)
    )
    return cost + 0.05 * reach + (np.arange(len(reach)) % 8 != 0)


def _cost_among(places: F64, spot: F64, others: F64) -> F64:
    """``(P,)`` what each place of one name costs beside the other names: overlaps, and lines that cross a name."""
    x0, y0, x1, y1 = (places[:, None, k] for k in range(4))
    apart = (x1 + 1 < others[:, 0]) | (others[:, 2] < x0 - 1) | (y1 + 1 < others[:, 1]) | (others[:, 3] < y0 - 1)
    middle = (places[:, :2] + places[:, 2:]) / 2.0
    crossed = [_within(others, spot + t * (middle - spot), 0.0).sum(axis=0) for t in (0.2, 0.35, 0.5)]
    return 100.0 * (~apart).sum(axis=1) + 15.0 * np.sum(crossed, axis=0)
