"""The picture of a workflow episode: a row per action, lanes for who worked, columns for what is believed and stands.

Time runs down, and every action has a row of its own with the clock beside it: calls take tenths of a second and a
lost answer takes many, so an even scale would show the waits only (``pip install 'brownout[plot]'``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby
from typing import Any, Final

from .episode_events import Span
from .narrate import Story
from .picture_style import HERO, INK, LIGHT, PAPER, SOFT, WIDTH, new_figure, plain
from .workflow_events import Moment

_AT_THE_SIDE: Final = ("cheap", "strong", "auth", "requester", "person")
_LOST: Final = ("timeout", "reset", "server error", "bad gateway", "unexpected", "malformed", "empty", "partial")
_SIZE: Final = 8.5  # points
_LETTER: Final = 0.063  # inches that a letter takes on average
_CLOCK: Final = 0.6  # inches
_COLUMN, _ROW = 0.2, 0.19  # inches
_LEGEND: Final = 3  # columns
_LOOKS: Final[dict[str, tuple[str, str, Any, str]]] = {  # colour, hatch, line, what the legend says
    "ok": (LIGHT["one"], "", "-", "answered"), "lost": (LIGHT["bad"], "/////", "-", "answer lost"),
    "refused": (LIGHT["void"], "xxxxx", "-", "refused"), "pending": (PAPER, "", ":", "goes on behind"),
    "think": (LIGHT["five"], "", "-", "writes the arguments"),
}  # fmt: skip
_BANDS: Final = {
    "done": (LIGHT["six"], "", "believed done"), "unknown": (LIGHT["two"], "/////", "done or not"),
    "in flight": (PAPER, "....", "in flight"),
}  # fmt: skip
_CHANGES: Final = {
    "stands": ("D", LIGHT["good"], "effect on the server"), "wrong": ("X", LIGHT["bad"], "wrong effect"),
    "twice": ("P", LIGHT["bad"], "stands twice"), "stray": ("*", LIGHT["four"], "effect nobody asked for"),
    "undone": ("o", PAPER, "undone"),
}  # fmt: skip


def workflow_figure(story: Story, title: str = "", *, analysis: bool = False) -> Any:
    """One workflow episode, a row per action.

    Args:
        story: what happened, with its moments.
        title: written above.
        analysis: also show which faults struck, which nobody can see who takes part.

    Raises:
        MissingExtraError: without matplotlib.
    """
    notes = _notes(story) if analysis else {}
    rows = [(moment, notes.get(i, [])) for i, moment in enumerate(story.moments)]
    if not rows[0][0].changes and not rows[0][1]:
        del rows[0]  # nothing to say of the beginning
    lanes = _lanes([span for moment, _ in rows for span in moment.spans])
    steps = list(rows[0][0].beliefs)
    words = [_text(moment) for moment, _ in rows] + [f"    {note}" for _, found in rows for note in found]
    text_ends = _CLOCK + _LETTER * max(map(len, words)) + 0.15  # inches
    first_step = len(lanes) + 0.3  # in columns, from the first lane
    end = sum(1 + len(found) for _, found in rows)
    head = 0.1 + 0.07 * max(map(len, [*lanes, *steps]))
    handles = _handles(_used(story), bool(notes))
    width = max(text_ends + _COLUMN * (first_step + len(steps)), WIDTH)
    height = head + _ROW * (end + 1.4) + 0.17 * -(-len(handles) // _LEGEND) + (0.4 if title else 0.1)
    figure, axes = new_figure(width, height)
    axes.set_axis_off()
    axes.set_xlim(-text_ends / _COLUMN, (width - text_ends) / _COLUMN)
    axes.set_ylim(end + 0.7, -head / _ROW - 0.6)
    clock, text = (-text_ends + _CLOCK - 0.08) / _COLUMN, (-text_ends + _CLOCK) / _COLUMN
    for x, name in [*enumerate(lanes), *((first_step + i, name) for i, name in enumerate(steps))]:
        axes.plot([x, x], [-0.5, end - 0.5], color=LIGHT["grid"], lw=0.8, zorder=0)
        axes.annotate(plain(name), (x, -0.7), rotation=90, ha="center", va="bottom", fontsize=_SIZE, color=INK)
    y = 0
    for moment, found in rows:
        colour = LIGHT["bad"] if _class(moment.result) in ("lost", "refused") else INK
        axes.annotate(_clock(moment.start_s), (clock, y), ha="right", va="center", fontsize=_SIZE, color=SOFT)
        axes.annotate(plain(_text(moment)), (text, y), va="center", fontsize=_SIZE, color=colour)
        for i, note in enumerate(found, 1):
            axes.plot(text + 0.3, y + i, "^", ms=5, color=HERO)
            axes.annotate(plain(note), (text + 0.8, y + i), va="center", fontsize=_SIZE, color=HERO)
        for span in moment.spans:
            if span.who in lanes:
                _cell(axes, lanes.index(span.who), y, span)
        for step, change in moment.changes:
            mark, fill, _ = _CHANGES[change]
            axes.plot(first_step + steps.index(step), y, mark, ms=7, color=fill, zorder=5,
                      markeredgecolor=INK if fill == PAPER else PAPER, markeredgewidth=0.9)  # fmt: skip
        y += 1 + len(found)
    for i, step in enumerate(steps):
        y = 0
        for belief, run in groupby(rows, key=lambda row: row[0].beliefs[step]):
            high = sum(1 + len(found) for _, found in run)
            _band(axes, first_step + i, y, high, belief)
            y += high
    time = story.totals["latency_s"]
    word = f"{story.outcome.replace('_', ' ')}, ${story.totals['cost_usd']:.3g}, {time:,.0f} s"
    axes.annotate(plain(word), (text, end + 0.1), va="center", fontsize=_SIZE, color=HERO, weight="bold")
    if title:
        figure.suptitle(plain(title), x=0.01, ha="left", fontsize=9.5, color=INK)
    figure.legend(handles=handles, loc="outside lower left", ncols=_LEGEND, frameon=False, fontsize=_SIZE,
                  labelcolor=INK, handlelength=1.2, columnspacing=1.0)  # fmt: skip
    return figure


def _clock(seconds: float) -> str:
    return f"{seconds:,.1f} s" if seconds < 1000 else f"{seconds:,.0f} s"


def _lanes(spans: Sequence[Span]) -> list[str]:
    """Who worked: services of the business in the order in which they are first called, then those at the side."""
    found = dict.fromkeys(span.who for span in spans if span.kind != "pause")
    return [*(who for who in found if who not in _AT_THE_SIDE), *(who for who in _AT_THE_SIDE if who in found)]


def _text(moment: Moment) -> str:
    head = f"{moment.action or 'the episode begins'} {moment.about}".rstrip()
    if moment.action == "wait" and not moment.about:
        head = f"wait {moment.end_s - moment.start_s:.1f} s"
    return head if moment.result in ("", "ok") else f"{head}: {moment.result}"


def _class(result: str) -> str:
    if result in ("", "ok"):
        return "ok"
    return "pending" if result == "pending" else "lost" if result in _LOST else "refused"


def _look(span: Span) -> str:
    return "think" if span.kind == "think" else _class(span.result)


def _cell(axes: Any, x: float, y: int, span: Span) -> None:
    colour, hatch, line, _ = _LOOKS[_look(span)]
    axes.barh(y, 0.78, left=x - 0.39, height=0.7, color=colour, hatch=hatch, linestyle=line, linewidth=0.8,
              edgecolor=SOFT if colour == PAPER else PAPER, zorder=2)  # fmt: skip


def _band(axes: Any, x: float, y: int, high: int, belief: str) -> None:
    """What is believed of one step over ``high`` rows from ``y`` on."""
    middle = y - 0.5 + high / 2
    if belief == "ruled out":
        axes.plot([x, x], [y - 0.5, y - 0.5 + high], ":", color=SOFT, lw=1.6, zorder=1)
    elif belief in _BANDS:
        colour, hatch, _ = _BANDS[belief]
        axes.barh(middle, 0.36, left=x - 0.18, height=high, color=colour, hatch=hatch, linewidth=0.0,
                  edgecolor=SOFT if colour == PAPER else PAPER, zorder=1)  # fmt: skip


def _notes(story: Story) -> dict[int, list[str]]:
    """What struck, by the moment that it struck in; the beginning is moment 0, so step ``n`` is moment ``n + 1``."""
    found: dict[int, list[str]] = defaultdict(list)
    for field, fault in story.spoilt.items():
        found[0].append(f"{fault.partition('#')[0]} in {field}")
    for row in story.injections:
        lost = row["verb"] == "call" and row["status"].replace("-", " ") in _LOST
        when = (", work done" if row["phase"] == "after" else ", nothing done") if lost else ""
        found[int(row["step"]) + 1].append(f"{row['effect']}{when}")
    return found


def _used(story: Story) -> set[str]:
    """What the legend must explain."""
    moments = story.moments
    found = {_look(span) for moment in moments for span in moment.spans if span.kind != "pause"}
    found |= {belief for moment in moments for belief in moment.beliefs.values()}
    return found | {change for moment in moments for _, change in moment.changes}


def _handles(used: set[str], analysis: bool) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = []
    for kind, (colour, hatch, line, text) in _LOOKS.items():
        if kind in used:
            edge = SOFT if colour == PAPER else PAPER
            handles.append(Patch(facecolor=colour, hatch=hatch, linestyle=line, edgecolor=edge, label=text))
    for belief, (colour, hatch, text) in _BANDS.items():
        if belief in used:
            handles.append(Patch(facecolor=colour, hatch=hatch, edgecolor=SOFT if colour == PAPER else PAPER,
                                 label=text))  # fmt: skip
    if "ruled out" in used:
        handles.append(Line2D([], [], ls=":", color=SOFT, lw=1.6, label="ruled out"))
    for change, (mark, fill, text) in _CHANGES.items():
        if change in used:
            edge = INK if fill == PAPER else PAPER
            handles.append(Line2D([], [], marker=mark, ls="", ms=7, color=fill, markeredgecolor=edge, label=text))
    if analysis:
        handles.append(Line2D([], [], marker="^", ls="", ms=6, color=HERO, label="fault (hidden)"))
    return handles
