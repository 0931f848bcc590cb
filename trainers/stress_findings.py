"""What a report of a stress run is made of, whatever it is written as."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import StressError
from ..faults.registry import registered_faults
from .figure_text import interval, number, tendency
from .gate import GateResult
from .shadow import compare
from .stress_report import EffectRow, Figure, StressReport, read_report
from .stress_rows import CLEAN, FAULTED, ROWS_FILE, read_rows
from .stress_stories import Story, worst_stories
from .stress_summary import LOUD_SHARE, OUTCOMES

METRICS = (
    "success", "pass@", "pass^", "utility", "silent_garbage", "duplicate_effect", "partial", "escalated", "aborted",
    "limit", "crash", "hang", "killed", "loop", "recovery", "cost_usd", "cost_usd.p50", "cost_usd.p95",
    "latency_s.p50", "latency_s.p95", "latency_s.p99", "calls",
)  # fmt: skip
_ALWAYS = ("success", "utility", "silent_garbage", "duplicate_effect", "recovery", "cost_usd", "latency_s.p50",
           "latency_s.p95", "latency_s.p99")  # fmt: skip
_ENOUGH = 5  # struck episodes from which an effect is worth naming in a sentence


@dataclass(frozen=True)
class Beside:
    """Another run that is shown beside this one.

    Args:
        folder: its folder.
        report: its summary.
        gap: utility of this run minus the other on the same faulted episodes; None if they have other ones.
        why: why there is none.
    """

    folder: Path
    report: StressReport
    gap: Figure | None
    why: str = ""


@dataclass(frozen=True)
class Findings:
    """A stress run and what belongs to it.

    Args:
        report: its summary.
        folder: of the run; None if only the summary is known.
        gate: what a gate said of it, if one was asked.
        beside: other runs.
        stories: the worst episodes.
        untold: why the stories are shorter than they could be.
        errors: how agents ended badly: condition, ending, error and number of episodes, the most frequent first.
    """

    report: StressReport
    folder: Path | None = None
    gate: GateResult | None = None
    beside: tuple[Beside, ...] = ()
    stories: tuple[Story, ...] = ()
    untold: str | None = None
    errors: tuple[tuple[str, str, str, int], ...] = ()


def find(run: str | Path, gate: GateResult | None = None, beside: Iterable[str | Path] = ()) -> Findings:
    """Read a run and what is to be shown with it.

    Args:
        run: run folder or ``stress.json``.
        gate: what a gate said of it.
        beside: folders of other runs.

    Raises:
        ArtefactError: a summary is missing or damaged.
    """
    run = Path(run)
    report = read_report(run)
    folder = run if run.is_dir() and (run / ROWS_FILE).is_file() else None
    stories, untold = worst_stories(report, folder)
    others = tuple(_beside(run, Path(other)) for other in beside)
    return Findings(report, folder, gate, others, stories, untold, _errors(folder))


def _beside(run: Path, folder: Path) -> Beside:
    report = read_report(folder)
    try:
        return Beside(folder, report, compare(run, folder).differences[FAULTED]["utility"])
    except StressError as error:
        return Beside(folder, report, None, str(error))


def _errors(folder: Path | None) -> tuple[tuple[str, str, str, int], ...]:
    if folder is None:
        return ()
    ended = Counter(
        (row.condition, row.agent_outcome if row.valid else "no score", row.error or "")
        for row in read_rows(folder)
        if not row.valid or row.agent_outcome in ("crash", "hang", "killed", "loop")
    )
    return tuple((*key, count) for key, count in ended.most_common())


# ---------------------------------------------------------------- words


def agent_name(agent: str) -> str:
    """An agent without the folders of its file."""
    command, colon, rest = agent.partition(":")
    return agent if command in ("http", "mcp") else f"{command.rpartition('/')[2]}{colon}{rest}"


def conditions_text(report: StressReport) -> str:
    """Under what it was played."""
    what = f"Profile {report.profile} at intensity {report.intensity:g}"
    if report.evalset is not None:
        what = f"Frozen set {report.evalset[:12]}"
    times = f", each {report.repeats} times" if report.repeats > 1 else ""
    return f"{what}, {report.episodes:,} episodes clean and faulted{times}"


def headline(report: StressReport) -> str:
    """The cliff in one or two sentences."""
    clean, faulted = (report.conditions[name].get("success") for name in (CLEAN, FAULTED))
    gap = report.paired.get("success")
    if clean is None or faulted is None or gap is None or clean.value != clean.value or faulted.value != faulted.value:
        return "Not enough episodes were played to say how the agent does."
    text = (
        f"Without faults the agent succeeds in {number(clean.value, 'share')} of the episodes, with them in "
        f"{number(faulted.value, 'share')}"
    )
    points = f"{100 * abs(gap.value):.1f} points [{100 * min(abs(gap.low), abs(gap.high)):.1f}, " \
             f"{100 * max(abs(gap.low), abs(gap.high)):.1f}]"  # fmt: skip
    tells = tendency(gap)
    if tells == "worse":
        text += f": a cliff of {points}."
    elif tells == "better":
        text += f": {points} more."
    else:
        text += "; so few episodes cannot tell these apart." if gap.value else ": no difference was seen."
    harm = {"silent_garbage": "silent garbage", "duplicate_effect": "a duplicate effect"}
    counts = {word: sum(report.outcomes.get(name, {}).get(word, 0) for name in (CLEAN, FAULTED)) for word in harm}
    said = [f"{count} episode{'s' * (count > 1)} ended in {harm[word]}" for word, count in counts.items() if count]
    return text + (f" {' and '.join(said)}." if said else " Nothing wrong was left standing.")


def to_mend(report: StressReport) -> list[str]:
    """The effects that cost the most, in words, at most three."""
    found = []
    for row in report.effects:
        loss = row.alone or row.loss
        if row.struck >= _ENOUGH and tendency(loss) == "worse":
            found.append(
                f"{row.effect}: struck {row.struck} episodes, {number(row.recovery.value, 'share')} of them succeed "
                f"all the same; {_cost(row)}"
            )
    return found[:3]


def _cost(row: EffectRow) -> str:
    if row.alone is not None:
        return f"on its own it costs {interval(row.alone)} utility per episode"
    return f"these lost {interval(row.loss)} utility each"


def warnings(findings: Findings) -> list[str]:
    """What a reader must know before any figure."""
    report, found = findings.report, []
    lost = sum(report.invalid.values())
    if lost:
        reasons = ", ".join(f"{count} {reason}" for reason, count in report.invalid.items())
        loud = " None of these figures can be trusted." if report.invalid_share > LOUD_SHARE else ""
        found.append(f"{lost} of {report.valid + lost} episodes have no score ({reasons}).{loud}")
    if report.unplayed:
        why = f" The run was stopped: {report.stopped}." if report.stopped else ""
        found.append(f"{report.unplayed} of {report.planned} episodes were not played.{why}")
    found += report.notes
    if findings.untold:
        found.append(findings.untold)
    return found


# ---------------------------------------------------------------- tables


def metric_name(name: str) -> str:
    """A metric as it is read."""
    base, dot, quantile = name.partition(".")
    said = {"cost_usd": "cost {}", "latency_s": "latency {}, s"}.get(base)
    return name.replace("_", " ") if said is None else said.format(quantile if dot else "mean")


def outcome_words(rows: Iterable[dict[str, int]]) -> list[str]:
    """The outcomes that occur, the worst first."""
    seen = {word for row in rows for word, count in row.items() if count}
    return [*(word for word in OUTCOMES if word in seen), *sorted(seen - set(OUTCOMES))]


def shown_metrics(report: StressReport) -> list[str]:
    """The metrics a report shows: the main ones, and others where anything happened."""
    clean, faulted = report.conditions[CLEAN], report.conditions[FAULTED]
    found = []
    for wanted in METRICS:
        for name in faulted:
            if name != wanted and not (wanted in ("pass@", "pass^") and name.startswith(wanted)):
                continue
            if name == "pass@1" or name not in clean:
                continue  # the same as success
            if name in _ALWAYS or any(one[name].value not in (0.0,) for one in (clean, faulted)):
                found.append(name)
    return found


def ranking(findings: Findings) -> Sequence[tuple[StressReport, Beside | None]]:
    """This run and those beside it, the highest utility under faults first."""
    runs = [(findings.report, None), *((one.report, one) for one in findings.beside)]
    return sorted(runs, key=lambda pair: -_or_last(pair[0].conditions[FAULTED].get("utility")))


def _or_last(figure: Figure | None) -> float:
    return float("-inf") if figure is None or figure.value != figure.value else figure.value


def effect_summaries() -> dict[str, str]:
    """What each known effect does, in one sentence."""
    import inspect

    return {
        name: " ".join((inspect.getdoc(effect) or "").split("\n\n")[0].split()).replace("``", "").rstrip(".")
        for name, effect in registered_faults().items()
    }
