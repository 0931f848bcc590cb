"""Whether an agent may go out: thresholds on the figures of a stress run, each decided by its interval.

A threshold passes when the whole interval lies on the allowed side, fails when the whole interval lies on the other
side, and is undecided in between: then the run was too small to tell. Undecided is never a pass, and neither is a run
with too few, missing or invalid episodes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from ..errors import GateError
from .gate_config import GateConfig, Promotion, Threshold, read_gate
from .shadow import ShadowReport, compare
from .stress_report import Better, Figure, StressReport, read_report
from .stress_rows import FAULTED

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


def judge(file: str | Path, run: str | Path | None = None, baseline: str | Path | None = None) -> GateResult:
    """Judge a stress run by a gate's file, which may name run and baseline itself, from its own folder.

    Args:
        file: the gate.
        run: run folder; None: as the file says.
        baseline: run folder to compare with; None: as the file says, if it does.

    Raises:
        GateError: the file is not valid, or no run is named; and as :func:`run_gate`.
    """
    config, home = read_gate(file), Path(file).parent
    judged = run if run is not None or config.report is None else home / config.report
    if judged is None:
        raise GateError(f"{file}: report: not given; name a run folder there or on the command line")
    against = baseline if baseline is not None or config.baseline is None else home / config.baseline
    return run_gate(config, judged, against)


def run_gate(config: GateConfig, report: str | Path, baseline: str | Path | None = None) -> GateResult:
    """Judge a stress run.

    Args:
        config: the gate.
        report: run folder of the agent.
        baseline: run folder to compare with, over the same episodes; needed for ``of: baseline`` and a promotion.

    Raises:
        GateError: a metric or effect is not in the run, or no baseline is given and the gate needs one.
        StressError: the baseline was not played on the same episodes.
        ArtefactError: a file of a run cannot be used.
    """
    run = read_report(report)
    checks = _check_run(config, run)
    against: ShadowReport | None = None
    if config.promotion is not None or any(rule.of == "baseline" for rule in config.thresholds):
        if baseline is None:
            raise GateError("baseline: none given, and the gate compares with one; name a run folder")
        against = compare(Path(report), Path(baseline))
        checks += _check_pairs(against, config.needs.invalid)
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


def _figure(rule: Threshold, run: StressReport, against: ShadowReport | None) -> tuple[Figure, float]:
    """Find what a threshold is about, and the difference that so many episodes can find."""
    if rule.effect is not None:
        return _effect_figure(rule, run), math.nan
    if rule.of == "baseline":
        assert against is not None
        return _difference(rule.metric, against)
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


def _check_pairs(against: ShadowReport, allowed: float) -> list[Check]:
    """Refuse to judge by pairs when too many are missing."""
    alone = against.unpaired[FAULTED]
    share = alone / max(alone + against.pairs[FAULTED], 1)
    if share <= allowed:
        return []
    rule = f"at most {allowed:.1%} of the episodes without a partner"
    return [_unfit(rule, f"{alone} episodes have a score in one of the two runs only")]


def _difference(metric: str, against: ShadowReport) -> tuple[Figure, float]:
    """Return this run minus the baseline, and the smallest difference that would be found."""
    figures = against.differences[FAULTED]
    if metric not in figures:
        raise GateError(f"{metric}: cannot be paired with a baseline; allowed: {', '.join(figures)}")
    return figures[metric], against.smallest_detectable[FAULTED][metric]


def _promote(rule: Promotion, against: ShadowReport) -> Iterable[Check]:
    """No worse by more than a margin in some metrics, better for sure in one of others."""
    for metric, margin in rule.not_worse.items():
        figure, detectable = _difference(metric, against)
        low, high = (-margin, math.inf) if figure.better == "higher" else (-math.inf, margin)
        yield _decide(f"promotion: {metric} not worse by more than {margin:g}", figure, low, high, detectable)
    if not rule.better:
        return
    found = [(metric, *_difference(metric, against)) for metric in rule.better]
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
