"""Drawing an episode's timeline as a picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from gymnasium.error import DependencyNotInstalled
from numpy.typing import NDArray


def draw_timeline(lines: Sequence[str], *, last: int = 18) -> NDArray[np.uint8]:
    """Draw the last lines of a timeline.

    Args:
        lines: text lines, oldest first.
        last: how many lines fit on the picture.

    Returns:
        ``(480, 720, 3)`` uint8 picture.

    Raises:
        DependencyNotInstalled: without matplotlib (``pip install 'brownout[plot]'``).
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DependencyNotInstalled("rgb_array needs matplotlib: pip install 'brownout[plot]'") from error

    figure = Figure(figsize=(7.2, 4.8), dpi=100, facecolor="#10151c")
    canvas = FigureCanvasAgg(figure)
    shown = list(lines)[-last:] or ["(the episode begins)"]
    for i, line in enumerate(shown):
        newest = i == len(shown) - 1
        figure.text(
            0.03, 0.95 - i * 0.05, line.replace("$", r"\$"), family="monospace", fontsize=9.5, va="top",
            color="#ffd479" if newest else "#c8d3e0",
        )  # fmt: skip
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()
