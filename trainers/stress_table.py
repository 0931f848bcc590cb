"""A stress run on the terminal: while it runs, and what it came to."""

from __future__ import annotations

import time
from collections import Counter
from typing import Final

from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from .figure_text import interval, number, tendency
from .progress import LiveBar
from .shadow import ShadowReport
from .stress_replay import Replay
from .stress_report import Figure, StressReport
from .stress_rows import CLEAN, FAULTED, EpisodeRow
from .stress_summary import LOUD_SHARE, OUTCOMES
from .wide import wide

_SHOWN: Final = (
    "success", "pass@1", "pass^", "utility", "silent_garbage", "duplicate_effect", "partial", "escalated", "aborted",
    "limit", "crash", "hang", "killed", "loop", "recovery", "cost_usd", "cost_usd.p95", "latency_s.p50",
    "latency_s.p95", "latency_s.p99", "calls",
)  # fmt: skip
_ALWAYS: Final = ("success", "utility", "silent_garbage", "duplicate_effect", "recovery")
_WIDTH: Final = 120
_TIMELINE: Final = 12  # lines of the worst episode that are printed


class StressProgress(LiveBar):
    """A bar with what became of the episodes so far; a line every ten seconds where there is no terminal."""

    def __init__(self, console: Console, every_s: float = 10.0) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._console, self._every_s, self._printed = console, every_s, time.monotonic()
        self._won: Counter[str] = Counter()
        self._played: Counter[str] = Counter()
        self._ended: Counter[str] = Counter()
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("stress"), BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("{task.fields[text]}"),
                TimeRemainingColumn(), console=console,
            )  # fmt: skip
            self._task = self._bar.add_task("stress", total=None, text="")

    def __call__(self, row: EpisodeRow, done: int, planned: int) -> None:
        """Take in one episode."""
        self._played[row.condition] += row.valid
        self._won[row.condition] += row.valid and row.success
        word = row.agent_outcome if row.valid else "invalid"
        if word not in ("finished", "returned"):
            self._ended[word] += 1
        text = self.text()
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=planned, text=text)
        elif time.monotonic() - self._printed >= self._every_s or done == planned:
            self._printed = time.monotonic()
            self._console.print(f"stress {done}/{planned}  {text}", highlight=False)

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._console.print(line, highlight=False, markup=False)

    def text(self) -> str:
        """Success per condition so far, and agents that did not end well."""
        parts = [f"{c} {self._won[c] / self._played[c]:.0%}" for c in (CLEAN, FAULTED) if self._played[c]]
        return "  ".join([*parts, *(f"{word} {count}" for word, count in self._ended.items())])


def print_report(report: StressReport, console: Console) -> None:
    """Print a run: metrics, outcomes, effects, curve and the worst episode."""
    console = wide(console, _WIDTH)
    console.print(_metrics(report))
    console.print(_outcomes(report))
    if report.effects:
        console.print(_effects(report))
    if report.intensity_curve:
        console.print(_curve(report))
    if report.worst:
        worst = report.worst[0]
        lines = worst.timeline[:_TIMELINE]
        more = [f"... {len(worst.timeline) - _TIMELINE} more"] if len(worst.timeline) > _TIMELINE else []
        title = f"worst of {len(report.worst)} listed: {worst.condition}, {worst.outcome}, utility {worst.utility:+.3f}"
        console.print(Panel(Text("\n".join([*lines, *more, worst.replay])), title=title, title_align="left"))
    for note in report.notes:
        console.print(Text(f"note: {note}"))
    if report.invalid_share > LOUD_SHARE:
        console.print(
            f"[bold red]Too many episodes have no score ({report.invalid_share:.1%}): none of these figures can be "
            "trusted.[/]"
        )  # fmt: skip
    if report.stopped is not None:
        console.print(f"[bold]Stopped ({report.stopped}): {report.unplayed} of {report.planned} episodes are missing; "
                      "--resume plays them.[/]")  # fmt: skip


def print_shadow(report: ShadowReport, console: Console) -> None:
    """Print a comparison."""
    console = wide(console, _WIDTH)
    pairs = ", ".join(f"{count} {name}" for name, count in report.pairs.items())
    table = _table(title=f"{report.candidate} minus {report.baseline} on {report.scenario}: {pairs} pairs")
    table.add_column("metric")
    for name in (CLEAN, FAULTED):
        table.add_column(name, justify="right")
        table.add_column("least found", justify="right")
    for name in report.differences[FAULTED]:
        cells = []
        for condition in (CLEAN, FAULTED):
            least = report.smallest_detectable[condition][name]
            figure = report.differences[condition][name]
            cells += [_styled(figure), "" if least != least else number(least, figure.unit)]
        if _matters(name, [report.differences[c][name] for c in (CLEAN, FAULTED)]):
            table.add_row(name, *cells)
    console.print(table)
    console.print(f"The candidate alone succeeds in {report.won} episodes, the baseline alone in {report.lost}.")
    for flip in report.flips[:3]:
        console.print(Text(f"  lost: {flip.condition}, {flip.candidate} instead of {flip.baseline}: {flip.replay}"))
    if not report.complete:
        console.print("[bold]A run is not complete; --resume plays the rest.[/]")


def print_replay(replay: Replay, console: Console) -> None:
    """Print an episode that was played again."""
    row = replay.row
    console.print(
        f"{row.scenario}, {row.profile} x {row.intensity:g}, seed {row.seed}, episode {row.episode}", highlight=False
    )  # fmt: skip
    for line in row.timeline:
        console.print(Text(line))
    console.print(
        f"{row.outcome}, utility {row.utility:+.4f}, ${row.cost_usd:.4f}, {row.latency_s:.1f} s, {row.calls} requests"
        + ("" if row.agent_outcome in ("returned", "finished") else f"; the agent: {row.agent_outcome} ({row.error})"),
        highlight=False, markup=False,
    )  # fmt: skip
    print_differences(replay, console)


def print_differences(replay: Replay, console: Console) -> None:
    """Print how an episode that was played again differs from its recording."""
    for difference in replay.differences:
        console.print(Text(f"DIFFERS from the recording: {difference}", style="bold red"))


def _table(*headers: str, title: str) -> Table:
    return Table(*headers, title=title, box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left", title_style="bold")


def _metrics(report: StressReport) -> Table:
    what = f"{report.profile} x {report.intensity:g}" if report.evalset is None else f"set {report.evalset[:12]}"
    times = f" x {report.repeats}" if report.repeats > 1 else ""
    table = _table(
        title=f"{report.agent} on {report.scenario}, {what}: {report.episodes} episodes{times}, clean and faulted"
    )
    table.add_column("metric")
    for name in (CLEAN, FAULTED, "faulted - clean", "least found"):
        table.add_column(name, justify="right")
    clean, faulted = (report.conditions[name] for name in (CLEAN, FAULTED))
    for name in faulted:
        if not any(name == shown or (shown.endswith("^") and name.startswith(shown)) for shown in _SHOWN):
            continue
        if name == "pass@1" and report.repeats == 1:
            continue  # the same as success
        gap = report.paired.get(name)
        if not _matters(name, [clean[name], faulted[name]]):
            continue
        least = report.smallest_detectable.get(name, float("nan"))
        table.add_row(
            name, interval(clean[name]), interval(faulted[name]), "" if gap is None else _styled(gap),
            "" if least != least else number(least, faulted[name].unit),
        )  # fmt: skip
    return table


def _outcomes(report: StressReport) -> Table:
    words = [word for word in OUTCOMES if any(word in counts for counts in report.outcomes.values())]
    agents = list(dict.fromkeys(word for counts in report.agent_outcomes.values() for word in counts))
    table = _table("condition", *words, *(f"agent {word}" for word in agents), title="how the episodes ended")
    for condition, counts in report.outcomes.items():
        ended = report.agent_outcomes[condition]
        cells = [str(counts.get(word, 0)) for word in words] + [str(ended.get(word, 0)) for word in agents]
        table.add_row(condition, *cells)
    return table


def _effects(report: StressReport) -> Table:
    alone = any(row.alone is not None for row in report.effects)
    table = _table(title="what each effect cost where it struck, the dearest first")
    for name in (
        "effect",
        "struck",
        "recovered",
        "utility lost",
        *(("lost alone",) if alone else ()),
        "ended worst as",
    ):
        table.add_column(name)
    for row in report.effects:
        bad = [f"{word} {count}" for word, count in row.outcomes.items() if word != "success"][:2]
        cells = [_styled(row.alone) if row.alone is not None else ""] if alone else []
        table.add_row(
            row.effect, str(row.struck), interval(row.recovery), _styled(row.loss), *cells, ", ".join(bad) or "-"
        )  # fmt: skip
    return table


def _curve(report: StressReport) -> Table:
    table = _table("intensity", "success", "utility", "cost", title="intensity")
    for point in report.intensity_curve:
        table.add_row(
            f"{point.intensity:g}", interval(point.success), interval(point.utility), interval(point.cost_usd)
        )
    return table


def _matters(name: str, figures: list[Figure]) -> bool:
    """Whether a metric is shown: always the main ones, others where anything happened."""
    return name in _ALWAYS or any(figure.value != 0.0 for figure in figures)


def _styled(figure: Figure) -> Text:
    """A difference, red where its interval says worse and green where it says better."""
    return Text(interval(figure, "+"), style={"worse": "red", "better": "green"}.get(tendency(figure), ""))
