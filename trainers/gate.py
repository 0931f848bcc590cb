"""Whether an agent may go out: thresholds on the figures of a stress run, each decided by its interval.

A threshold passes when the whole interval lies on the allowed side, fails when the whole interval lies on the other
side, and is undecided in between: then the run was too small to tell. Undecided is never a pass, and neither is a run
with too few, missing or invalid episodes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from ..errors import GateError
from .gate_config import GateConfig, Promotion, Threshold
from .statistics import paired_difference
from .stress_metrics import METRICS
from .stress_report import Better, Figure, StressReport, read_report
from .stress_rows import FAULTED, EpisodeRow, read_rows

Verdict = Literal["pass", "fail", "undecided"]
EXIT: Final[dict[Verdict, int]] = {"pass": 0, "fail": 1, "undecided": 2}
_OF_EFFECT: Final = ("recovery", "loss", "success_loss", "alone")


@dataclass(frozen=True)
class Check:
    """One line of a gate's result.

    Args:
        rule: what was asked.
        verdict: ``pass``, ``fail`` or ``undecided``.
        figure: what was measured, None if the run itself was checked.
        detectable: smallest difference that this many episodes find with 80 % power, NaN where it is not known.
        reason: in one sentence.
    """

    rule: str
    verdict: Verdict
    figure: Figure | None
    detectable: float
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """As plain data; undefined numbers are None."""
        data = asdict(self) | {"figure": None if self.figure is None else self.figure.model_dump(mode="json")}
        return data | {"detectable": self.detectable if math.isfinite(self.detectable) else None}


@dataclass(frozen=True)
class GateResult:
    """What a gate came to; one failed check fails it, else one undecided check leaves it undecided."""

    checks: tuple[Check, ...]
    agent: str
    scenario: str

    @property
    def verdict(self) -> Verdict:
        """``pass`` only if every check passed."""
        verdicts = {check.verdict for check in self.checks}
        return "fail" if "fail" in verdicts else "undecided" if "undecided" in verdicts or not verdicts else "pass"

    @property
    def exit_status(self) -> int:
        """0 pass, 1 fail, 2 could not decide."""
        return EXIT[self.verdict]

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "verdict": self.verdict, "agent": self.agent, "scenario": self.scenario,
            "checks": [check.to_dict() for check in self.checks],
        }  # fmt: skip


def run_gate(config: GateConfig, report: str | Path, baseline: str | Path | None = None) -> GateResult:
    """Judge a stress run.

    Args:
        config: the gate.
        report: run folder of the agent.
        baseline: run folder to compare with, over the same episodes; needed for ``of: baseline`` and a promotion.

    Raises:
        GateError: a metric or effect is not in the run, or the baseline is missing or played other episodes.
        ArtefactError: a file of a run cannot be used.
    """
    run = read_report(report)
    checks = _check_run(config, run)
    against: _Against | None = None
    if config.promotion is not None or any(rule.of == "baseline" for rule in config.thresholds):
        if baseline is None:
            raise GateError("baseline: none given, and the gate compares with one; name a run folder")
        against = _Against(run, read_rows(report), baseline)
        checks += against.check_pairs(config.needs.invalid)
    for rule in config.thresholds:
        figure, detectable = _figure(rule, run, against)
        checks.append(_decide(str(rule), figure, rule.low, rule.high, detectable))
    if config.promotion is not None and against is not None:
        checks += _promote(config.promotion, against)
    return GateResult(tuple(checks), run.agent, run.scenario)


# ---------------------------------------------------------------- is the run fit to be judged


def _check_run(config: GateConfig, run: StressReport) -> list[Check]:
    needs = config.needs
    found: list[Check] = []
    for condition, outcomes in run.outcomes.items():
        valid = sum(outcomes.values())
        if valid < needs.episodes:
            found.append(_unfit(f"{condition}: {needs.episodes} valid episodes", f"the run has {valid}"))
    if run.invalid_share > needs.invalid:
        reasons = ", ".join(f"{count} {reason}" for reason, count in run.invalid.items())
        rule = f"at most {needs.invalid:.1%} of the episodes without a score"
        found.append(_unfit(rule, f"{run.invalid_share:.1%} have none: {reasons}"))
    if needs.complete and not run.complete:
        why = f" ({run.stopped})" if run.stopped else ""
        found.append(_unfit("every planned episode played", f"{run.unplayed} of {run.planned} were not{why}"))
    return found


def _unfit(rule: str, reason: str) -> Check:
    return Check(rule, "undecided", None, math.nan, reason)


# ---------------------------------------------------------------- figures


def _figure(rule: Threshold, run: StressReport, against: _Against | None) -> tuple[Figure, float]:
    """Find what a threshold is about, and the difference that so many episodes can find."""
    if rule.effect is not None:
        return _effect_figure(rule, run), math.nan
    if rule.of == "baseline":
        assert against is not None
        return against.difference(rule.metric)
    figures = run.paired if rule.of == "paired" else run.conditions.get(rule.of)
    if figures is None:
        raise GateError(f"{rule}: the run has no condition {rule.of!r}; it has {', '.join(run.conditions)}")
    if rule.metric not in figures:
        raise GateError(f"{rule}: no metric {rule.metric!r}; the run has {', '.join(figures)}")
    detectable = run.smallest_detectable.get(rule.metric, math.nan) if rule.of == "paired" else math.nan
    return figures[rule.metric], detectable


def _effect_figure(rule: Threshold, run: StressReport) -> Figure:
    if rule.metric not in _OF_EFFECT:
        raise GateError(f"{rule}: metric: got {rule.metric!r}; allowed with effect: {', '.join(_OF_EFFECT)}")
    rows = {row.effect: row for row in run.effects}
    if rule.effect not in rows:
        struck = ", ".join(rows) or "none"
        raise GateError(f"{rule}: the effect {rule.effect!r} struck no episode; those that did: {struck}")
    figure = getattr(rows[rule.effect], rule.metric)
    if figure is None:
        raise GateError(f"{rule}: the run did not play {rule.effect!r} alone; `brownout stress --isolate` does")
    return figure


def _decide(rule: str, figure: Figure, low: float, high: float, detectable: float) -> Check:
    shown = f"{figure.value:.4g} [{figure.low:.4g}, {figure.high:.4g}]"

    def check(verdict: Verdict, reason: str) -> Check:
        return Check(rule, verdict, figure, detectable, reason)

    if not (math.isfinite(figure.low) and math.isfinite(figure.high)):
        return check("undecided", f"{figure.value:.4g} has no interval ({figure.n} values): too few episodes")
    if figure.low >= low and figure.high <= high:
        return check("pass", f"{shown} lies on the allowed side")
    if figure.high < low or figure.low > high:
        return check("fail", f"{shown} lies beyond the bound")
    return check("undecided", f"{shown} reaches over the bound{_episodes_needed(figure, low, high)}")


def _episodes_needed(figure: Figure, low: float, high: float) -> str:
    """Say how many values would decide it, if the point estimate were true: widths shrink with the root of n."""
    if not low <= figure.value <= high:
        return ""
    needs = [
        ((figure.value - end) / (figure.value - bound)) ** 2
        for bound, end in ((low, figure.low), (high, figure.high))
        if math.isfinite(bound) and figure.value != bound
    ]
    if not needs or max(needs) <= 1.0:
        return ""
    return f"; if {figure.value:.4g} is true, about {math.ceil(figure.n * max(needs))} values would show it"


# ---------------------------------------------------------------- against a baseline


class _Against:
    """This run beside a stored one, episode by episode."""

    def __init__(self, run: StressReport, rows: Sequence[EpisodeRow], baseline: str | Path) -> None:
        base = read_report(baseline)
        for name in ("scenario", "scenario_hash", "profile", "intensity", "split", "version"):
            mine, other = getattr(run, name), getattr(base, name)
            if mine != other:
                raise GateError(f"{baseline}: {name}: got {other!r}; allowed: {mine!r}, as in the run that is judged")
        mine = {row.key: row for row in rows if row.condition == FAULTED}
        other = {row.key: row for row in read_rows(baseline) if row.condition == FAULTED}
        shared = [key for key in mine if key in other]
        if not shared:
            raise GateError(f"{baseline}: has no episode in common with the run that is judged; use the same seeds")
        self.missing = len(mine.keys() ^ other.keys())
        pairs = [(mine[key], other[key]) for key in shared]
        self.pairs = [(a, b) for a, b in pairs if a.valid and b.valid]
        self.lost = len(pairs) - len(self.pairs)
        self.all = len(pairs) + self.missing

    def check_pairs(self, allowed: float) -> list[Check]:
        """Refuse to judge by pairs when too many are missing."""
        share = (self.missing + self.lost) / self.all
        if share <= allowed:
            return []
        reason = f"{self.missing} episodes are in one run only, {self.lost} have no score in one of them"
        return [_unfit(f"at most {allowed:.1%} of the episodes without a partner", reason)]

    def difference(self, metric: str) -> tuple[Figure, float]:
        """Return this run minus the baseline, and the smallest difference that would be found."""
        found = METRICS.get(metric)
        if found is None:
            raise GateError(f"{metric}: cannot be paired episode by episode; allowed: {', '.join(METRICS)}")
        clusters = [f"{a.seed}.{a.episode}" for a, _ in self.pairs]
        difference = paired_difference(
            [found.of(a) for a, _ in self.pairs],
            [found.of(b) for _, b in self.pairs],
            clusters if len(set(clusters)) < len(clusters) else None,
        )
        figure = Figure.of(difference, found.unit, found.better)
        if found.unit == "share" and figure.low == figure.high:
            figure = _widened(figure)
        return figure, difference.smallest_detectable


def _widened(figure: Figure) -> Figure:
    """The interval of a share that differs alike in all ``n`` pairs: up to 1 - 0.05**(1/n) of others may have differed.

    Source: Hanley and Lippman-Hand, "If nothing goes wrong, is everything all right?" (1983).
    """
    room = 1.0 - 0.05 ** (1.0 / figure.n)
    return figure.model_copy(update={"low": max(figure.value - room, -1.0), "high": min(figure.value + room, 1.0)})


def _promote(rule: Promotion, against: _Against) -> Iterable[Check]:
    """No worse by more than a margin in some metrics, better for sure in one of others."""
    for metric, margin in rule.not_worse.items():
        figure, detectable = against.difference(metric)
        low, high = (-margin, math.inf) if figure.better == "higher" else (-math.inf, margin)
        yield _decide(f"promotion: {metric} not worse by more than {margin:g}", figure, low, high, detectable)
    if not rule.better:
        return
    found = [(metric, *against.difference(metric)) for metric in rule.better]
    checks = [_decide(metric, figure, *_better(figure.better), detectable) for metric, figure, detectable in found]
    best = next((check for check in checks if check.verdict == "pass"), None)
    verdict: Verdict = "pass" if best else "fail" if all(c.verdict == "fail" for c in checks) else "undecided"
    reason = "; ".join(f"{check.rule}: {check.reason}" for check in checks)
    chosen = best or checks[0]
    yield Check(f"promotion: better in {' or '.join(rule.better)}", verdict, chosen.figure, chosen.detectable, reason)


def _better(direction: Better) -> tuple[float, float]:
    """Bounds of a difference that is an improvement, zero itself left out."""
    least = math.ulp(0.0)
    return (least, math.inf) if direction == "higher" else (-math.inf, -least)


__all__ = ["Check", "GateResult", "Verdict", "run_gate"]
