"""The frontier of cost and quality: who is not beaten, and how good a whole set of policies is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

F64 = NDArray[np.float64]


def non_dominated(points: ArrayLike, maximize: Sequence[bool]) -> NDArray[np.bool_]:
    """Which points no other point beats: at least as good everywhere and better somewhere.

    Args:
        points: ``(n, d)``, e.g. columns success, cost, latency.
        maximize: per column whether more is better.

    Returns:
        ``(n,)``; equal points are kept together, a point with a NaN is never in the set and beats nobody.
    """
    table = np.asarray(points, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] != len(maximize):
        raise ValueError(f"points: got shape {table.shape}; allowed: (n, {len(maximize)})")
    gain = table * np.where(np.asarray(maximize, dtype=bool), 1.0, -1.0)
    as_good = (gain[:, None, :] >= gain[None, :, :]).all(axis=2)
    better = (gain[:, None, :] > gain[None, :, :]).any(axis=2)
    beaten = np.asarray((as_good & better).any(axis=0))
    return ~beaten & ~np.asarray(np.isnan(gain).any(axis=1))


def hypervolume_2d(points: ArrayLike, reference: Sequence[float]) -> float:
    """Area dominated by (cost, quality) points, lower cost and higher quality being better.

    Args:
        points: ``(n, 2)`` cost and quality.
        reference: cost and quality of the reference point, dearer and worse than all; points beyond it add
            nothing.

    Source: Zitzler and Thiele (1998).

    >>> hypervolume_2d([[1.0, 0.5], [2.0, 0.8]], (4.0, 0.0))
    2.1
    """
    table = _pairs(points)
    if np.isnan(table).any():
        return float("nan")
    most, floor = reference
    area, best = 0.0, float(floor)
    inside = table[(table[:, 0] < most) & (table[:, 1] > floor)]
    for cost, quality in inside[np.lexsort((-inside[:, 1], inside[:, 0]))]:
        if quality > best:
            area += (most - cost) * (quality - best)
            best = quality
    return float(area)


def hypervolume_3d(points: ArrayLike, reference: Sequence[float]) -> float:
    """Volume dominated by (cost, latency, quality) points: areas of cost and quality, sliced along latency.

    Args:
        points: ``(n, 3)`` cost, latency and quality; less of the first two and more of the third is better.
        reference: cost, latency and quality of the reference point; points beyond it add nothing.

    >>> hypervolume_3d([[1.0, 1.0, 0.5], [2.0, 2.0, 0.8]], (4.0, 3.0, 0.0))
    3.6
    """
    table = np.asarray(points, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] != 3:
        raise ValueError(f"points: got shape {table.shape}; allowed: (n, 3)")
    if np.isnan(table).any():
        return float("nan")
    most, last, floor = reference
    table = table[table[:, 1] < last]
    table = table[np.argsort(table[:, 1], kind="stable")]
    depth = np.diff(table[:, 1], append=last)
    return float(sum(
        d * hypervolume_2d(table[: i + 1, [0, 2]], (most, floor)) for i, d in enumerate(depth.tolist())
    ))  # fmt: skip


def quality_hull(points: ArrayLike) -> F64:
    """Non-decreasing upper concave hull of (cost, quality) points from (0, 0).

    Any point on it is reached by mixing two policies at random (RouterBench's zero router).

    Args:
        points: ``(n, 2)`` cost and quality, not negative.

    Returns:
        ``(m, 2)`` vertices by rising cost.
    """
    vertices: list[tuple[float, float]] = []
    for x, y in sorted({(0.0, 0.0), *((float(cost), float(quality)) for cost, quality in _pairs(points))}):
        if vertices and vertices[-1][0] == x:
            vertices.pop()  # sorted, so the later point at one cost is the better one
        while len(vertices) > 1:
            (x0, y0), (x1, y1) = vertices[-2:]
            if (y1 - y0) * (x - x0) > (y - y0) * (x1 - x0):
                break
            vertices.pop()
        vertices.append((x, y))
    rising: list[tuple[float, float]] = []
    for vertex in vertices:
        if not rising or vertex[1] > rising[-1][1]:
            rising.append(vertex)
    return np.array(rising)


def aiq(points: ArrayLike, cost_max: float) -> float:
    """Average improvement in quality: mean height of the hull over the costs 0 to ``cost_max``.

    Args:
        points: ``(n, 2)`` cost and quality of the policies.
        cost_max: right end of the range, above 0; the hull goes on flat beyond its last vertex.

    Returns:
        the mean quality, NaN if a point holds a NaN or there is none.

    Source: Hu et al., "RouterBench" (2024), computed exactly instead of on a grid.
    """
    if not cost_max > 0.0:
        raise ValueError(f"cost_max: got {cost_max!r}; allowed: above 0")
    table = _pairs(points)
    if not len(table) or np.isnan(table).any():
        return float("nan")
    hull = quality_hull(table)
    knots = np.unique(np.concatenate((hull[:, 0][hull[:, 0] < cost_max], [0.0, cost_max])))
    heights = np.interp(knots, hull[:, 0], hull[:, 1])
    return float(((heights[1:] + heights[:-1]) / 2.0 * np.diff(knots)).sum() / cost_max)


def hull_figures(cost: F64, success: F64, cost_max: float, target: float) -> tuple[float, float, float]:
    """AIQ up to ``cost_max``, success of the hull at that cost, and its cost at success ``target``.

    Args:
        cost: ``(n,)`` mean costs of the policies, USD.
        success: ``(n,)`` their success rates.
        cost_max: right end of the range, USD.
        target: success to be reached; the third figure is NaN where the hull never reaches it.
    """
    points = np.column_stack([cost, success])
    x, y = quality_hull(points).T
    at_success = float(np.interp(target, y, x)) if y[-1] >= target else float("nan")
    return aiq(points, cost_max), float(np.interp(cost_max, x, y)), at_success


def _pairs(points: ArrayLike) -> F64:
    table = np.asarray(points, dtype=np.float64)
    if not table.size:
        return table.reshape(0, 2)
    if table.ndim != 2 or table.shape[1] != 2:
        raise ValueError(f"points: got shape {table.shape}; allowed: (n, 2), cost and quality")
    return table
