"""The picture of an episode (``pip install 'brownout[plot]'``).

Here that of a router episode, calls, judgements and pauses on a time axis; that of a workflow is in
:mod:`.workflow_picture`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .episode_events import Span
from .narrate import Story
from .picture_style import HERO, INK, LIGHT, PAPER, SOFT, WIDTH, label, new_figure, plain, save_png
from .workflow_picture import workflow_figure

_SIDE = {"judge": "judge", "person": "person", "pause": "pause"}
_LOOK = {
    "right": (LIGHT["good"], "", "right"), "wrong": (LIGHT["bad"], "////", "wrong"),
    "cancelled": (PAPER, "", "cancelled"), "accepts": (LIGHT["one"], "", "accepts"),
    "rejects": (LIGHT["one"], "xxxx", "rejects"), "": (LIGHT["grid"], "", "backs off"),
}  # fmt: skip


def _rows(spans: Sequence[Span]) -> list[tuple[str, list[Span]]]:
    """Spans by row: calls of one configuration share a row unless they overlap; judge, person, pause come last."""
    rows: list[tuple[str, list[Span]]] = []
    for span in sorted((s for s in spans if s.kind not in _SIDE), key=lambda s: (s.start_s, s.end_s)):
        for who, row in rows:
            if who == span.who and row[-1].end_s <= span.start_s:
                row.append(span)
                break
        else:
            rows.append((span.who, [span]))
    for kind, name in _SIDE.items():
        found = [span for span in spans if span.kind == kind]
        if found:
            rows.append((name, found))
    return rows


def episode_figure(story: Story, title: str = "", until_s: float | None = None, *, analysis: bool = False) -> Any:
    """One episode: bars on a time axis, or a row per action of a workflow.

    Args:
        story: what happened.
        title: written above.
        until_s: right end of the time axis, to give two pictures one scale.
        analysis: also mark which faults struck, which no policy can see.

    Raises:
        MissingExtraError: without matplotlib.
    """
    if story.moments:
        return workflow_figure(story, title, analysis=analysis)
    rows = _rows(story.spans)
    figure, axes = new_figure(WIDTH, 1.0 + 0.31 * max(len(rows), 1))
    end = max([story.totals["latency_s"], *(span.end_s for span in story.spans)], default=0.0)
    scale = max(until_s or 0.0, end, 1e-9)
    axes.set_xlim(0, scale * 1.02)
    for y, (_, row) in enumerate(rows):
        free = 0.0  # where the row is free of bars and words, from the left
        for i, span in enumerate(row):
            after = (row[i + 1].start_s if i + 1 < len(row) else scale * 1.02) - span.end_s
            free = _bar(axes, y, span, scale, span.start_s - free, after)
    if analysis:
        for x, y in _struck(story, rows):
            axes.plot(x, y - 0.36, "v", ms=5, color=HERO, zorder=5, clip_on=False)
    axes.axvline(end, color=HERO, lw=1.4)
    near = end > 0.6 * scale
    time = f"{end:,.0f}" if end >= 100 else f"{end:.3g}"
    word = f"{story.outcome.replace('_', ' ')}, ${story.totals['cost_usd']:.3g}, {time} s"
    axes.annotate(plain(word), (end, -0.62), xytext=(-3 if near else 3, 1), textcoords="offset points", va="bottom",
                  ha="right" if near else "left", fontsize=8.5, color=HERO, annotation_clip=False)  # fmt: skip
    axes.set_yticks(range(len(rows)), [plain(who) for who, _ in rows], fontsize=8.5, color=INK)
    axes.set_ylim(max(len(rows), 1) - 0.4, -0.62)
    axes.grid(axis="y", visible=False)
    label(axes, "seconds since the episode began")
    if title:
        axes.set_title(plain(title), loc="left", fontsize=9.5, color=INK, pad=16)
    return figure


def _bar(axes: Any, y: int, span: Span, scale: float, before: float, after: float) -> float:
    """One span and its result after it, in it or before it, as there is room; returns where the row is free again."""
    failed = span.kind in ("call", "repair") and span.result not in _LOOK
    look = (LIGHT["void"], "\\\\\\\\", span.result) if failed else (PAPER, "", span.result)
    colour, hatch, word = _LOOK.get(span.result, look)
    edge = SOFT if colour in (PAPER, LIGHT["grid"]) else PAPER
    width = max(span.end_s - span.start_s, 0.006 * scale)
    if width < 0.015 * scale:  # a border or a hatch would leave nothing of the colour
        edge, hatch = (edge if edge == SOFT else colour), ""
    axes.barh(y, width, left=span.start_s, height=0.56, color=colour, hatch=hatch, edgecolor=edge, linewidth=0.8,
              linestyle=":" if span.result == "cancelled" else "-", zorder=2)  # fmt: skip
    if span.kind == "repair":
        word = f"repair: {word}"
    letters = 0.021 * scale * len(word) + 0.02 * scale  # about what the word takes up
    text: dict[str, Any] = {"va": "center", "fontsize": 8.5, "color": INK, "zorder": 4}
    if letters < after:
        axes.annotate(plain(word), (span.start_s + width, y), xytext=(3, 0), textcoords="offset points", **text)
        return span.start_s + width + letters
    elif letters < width:
        text["bbox"] = {"boxstyle": "round,pad=0.15", "facecolor": PAPER, "edgecolor": "none"}
        axes.annotate(plain(word), (span.start_s + width / 2, y), ha="center", **text)
    elif letters < before:
        axes.annotate(plain(word), (span.start_s, y), xytext=(-3, 0), textcoords="offset points", ha="right", **text)
    return span.start_s + width


def _struck(story: Story, rows: Sequence[tuple[str, list[Span]]]) -> list[tuple[float, int]]:
    """Where faults struck: the time and the row of the bar that began then."""
    found = []
    for row in story.injections:
        places = [(abs(span.start_s - row["time_s"]), y) for y, (who, spans) in enumerate(rows)
                  for span in spans if who == row["service"]]  # fmt: skip
        if places:
            found.append((float(row["time_s"]), min(places)[1]))
    return found


def draw_episode(story: Story, path: Path, title: str = "", *, analysis: bool = False) -> Path:
    """Write :func:`episode_figure` as PNG."""
    return save_png(episode_figure(story, title, analysis=analysis), path)
