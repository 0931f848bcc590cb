"""Published claims about agents that route, repeat and stop, each beside what we measure.

A claim is an entry of :data:`CLAIMS`: what was published, by whom, how we measure it and when our figures count as
agreement. Where they differ the page says so. ``brownout claims`` measures them all; ``docs/claims.md`` is its output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from ..extras import MissingExtraError
from ..scenarios.loading import load_scenario
from .artefact import brownout_version
from .claim_evidence import LABELS, Evidence, Figure
from .claim_loop import SCENARIO as LOOP
from .claim_loop import loop_figures
from .claim_measures import (
    browsecomp_ensemble,
    ensemble_against_repeats,
    four_small_runs,
    opposite_plans,
    shortest_path,
    solved_by_all,
    success_gap,
)

TALK: Final = (
    "O. Dagan (AI21 Labs), Optimizing accuracy, cost and latency in real-world agents, talk at AI Dev 26 x SF, May 2026"
)
GAPS: Final = (
    "AI21 Labs on the four gaps of production agents: Y. Belfer, webinar at DataCamp, May 2026; B. Lenz, Mind the gap, "
    "blog"
)
SPOKEN: Final = "The figure is quoted as said; we found the gap's definition in writing, but not the figure."
Figures = Sequence[Figure]
Holds = Callable[[Figures], bool]


@dataclass(frozen=True)
class Claim:
    """A published claim and how it is measured.

    Args:
        id: short name.
        claim: what is claimed.
        published: the published figure.
        source: who published it, and where.
        note: how sure the source is; may be empty.
        how: how we measure it.
        measure: returns our figures.
        key: beginning of the figure that the summary shows.
        holds: whether figures of one place agree with the claim.
        rule: what ``holds`` asks for, in words.
        why: why ours may differ.
        recorded: whether recorded tables say more than the scenario does.
    """

    id: str
    claim: str
    published: str
    source: str
    note: str
    how: str
    measure: Callable[[Evidence], tuple[Figure, ...]]
    key: str
    holds: Holds
    rule: str
    why: str
    recorded: bool = True


@dataclass(frozen=True)
class Finding:
    """A claim with our figures.

    Args:
        claim: what was measured.
        figures: ours; empty when nothing could be measured.
        holds: by place, whether the figures agree with the claim.
        missing: what could not be measured and why, in sentences.
    """

    claim: Claim
    figures: tuple[Figure, ...]
    holds: Mapping[str, bool]
    missing: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; undefined numbers become None."""
        about = {k: v for k, v in self.claim.__dict__.items() if isinstance(v, str)}
        rows = [
            {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in asdict(f).items()}
            for f in self.figures
        ]
        return {**about, "figures": rows, "holds": dict(self.holds), "missing": list(self.missing)}


def _find(figures: Figures, start: str) -> Figure:
    return next(figure for figure in figures if figure.what.startswith(start))


def _small(figures: Figures) -> bool:
    return _find(figures, "the same against the best").low > 0


def _mix(figures: Figures) -> bool:
    gap, cost, time = (_find(figures, start) for start in ("success, mix", "cost, all at once", "time"))
    return gap.high >= 0 and cost.value <= -50 and time.value <= -20


def _opposite(figures: Figures) -> bool:
    cheap, fast = (_find(figures, f"waves of the {name}") for name in ("cheapest", "fastest"))
    models = float(cheap.what.split("(")[1].split(":")[0])
    cost, time = _find(figures, "cost of the fastest"), _find(figures, "time of the fastest")
    return cheap.value == models and fast.value == 1 and cost.low > 0 and time.high < 0


def _stopped(figures: Figures) -> bool:
    ahead = [figure for figure in figures if figure.what.startswith("utility")]
    worst = _find(figures, "the trained policy: 99th"), _find(figures, "retries without a stop: 99th")
    return all(figure.low > 0 for figure in ahead) and worst[0].high < worst[1].low


CLAIMS: Final[tuple[Claim, ...]] = (
    Claim(
        "small-four-times", "Four runs of a small model beat one run of a large one, at lower cost", "four of the small win",
        GAPS, SPOKEN,
        "Every pair of configurations in which four runs of the first cost at most as much as one of the second, on "
        "mean costs over all tasks. success@4 is unbiased. The pair of the second figure is the one with the largest "
        "gain on half of the tasks, scored on the other half; the last figure admits only the best model as the large one.",
        four_small_runs, "the same against the best", _small, "ahead even of the best model of all, interval above zero",
        "True of many pairs, and by a wide margin of some: there are dear models that a cheap one passes. It does not hold "
        "against the strongest model, because runs of one model are much alike: what the first misses, the others "
        "mostly miss too.",
    ),
    Claim(
        "success-at-ten", "Success at ten runs lies 15 to 20 points above success at one", "15 to 20 points", GAPS, SPOKEN,
        "success@n minus success@1 per configuration, unbiased, with as many runs as there are, ten at most: recorded "
        "tables have four.",
        success_gap, "success@", lambda f: 15 <= f[0].value <= 20, "the median configuration gains 15 to 20 points",
        "The gap depends on how good a configuration is: weak ones gain most, the best about half of that. Four "
        "recorded runs show only part of what ten would. The scenario was fitted to repeats that correlate at .60; ten "
        "simulated runs of a middling configuration gain more than was published.",
    ),
    Claim(
        "solved-by-all", "About half of the tasks are solved by every model", "about half", GAPS, SPOKEN,
        "Mean over tasks of the product of success rates: one run each, independent given the task. On recorded tables the "
        "best three models of different makers, chosen on other tasks.",
        solved_by_all, "solved by each of", lambda f: 40 <= f[0].value <= 60, "40 to 60 % for three models",
        "It depends on the tasks and on how many models are asked: MCPMark is hard, its best model solves little more than "
        "half of it. In the scenario the figure is no evidence: its latents were fitted so that the three solve 46 %.",
    ),
    Claim(
        "shortest-path", "The shortest successful path is three times faster than the average run", "3 x", GAPS, SPOKEN,
        "Mean time of all runs of a task over that of its fastest right run, on tasks that some run solves: once for the "
        "best configuration, once for all. This is hindsight, so the last figure is what can be had without it: a race "
        "of three, chosen on half of the tasks, first right answer wins.",
        shortest_path, "all runs", lambda f: _find(f, "all runs").value >= 3, "3 x or more over all runs",
        "A minimum over many runs falls with their number, and it says nothing about which run to start. Repeats of one "
        "configuration take about the same time each; the spread is between configurations, most of all in the scenario, "
        "where they differ by a factor of forty.",
    ),
    Claim(
        "diverse-ensemble", "A diverse ensemble is over half cheaper and a fifth faster than the best model repeated",
        "-50 % cost, -20 % time", TALK, "A written summary of the talk gives both figures.",
        "The best configuration four times against two to four different ones once each: those that reach the same "
        "success at least cost. Both are chosen on four fifths of the tasks and scored on the rest, five times.",
        ensemble_against_repeats, "cost, all at once", _mix, "at least 50 % cheaper and 20 % faster, success not told apart",
        "Recorded runs agree. In the scenario the best configuration is itself cheap and quick for what it solves, so a "
        "mix that is as good saves money only when its calls are made one after the other.",
    ),
    Claim(
        "opposite-plans", "The plan with the least cost is sequential, the one with the least time parallel", "opposite plans",
        TALK, "Quoted as said; we found no figure in writing.",
        "All plans of waves over the models of the mix above, in every order. Cheapest and fastest are chosen on half of "
        "the tasks and scored on the other half; success is the same for all. A call that is cancelled is paid by its "
        "share of time.",
        opposite_plans, "cost of the fastest", _opposite,
        "the cheapest plan calls one model at a time, the fastest all at once, and both pay for it",
        "Where two cheap models cost next to nothing beside the others, calling them together is as cheap as one by one, "
        "and the cheapest plan on the tasks it was chosen on may have a wave of two.",
    ),
    Claim(
        "browsecomp-plus", "An ensemble passes 90 % on BrowseComp-Plus", "above 90 %", TALK,
        "A written summary of the talk speaks of a new best result. Sail Research reports 90.72 % with another system; the "
        "benchmark's paper (arXiv 2508.06600) has GPT-5 at 55.9 to 70.1 %.",
        "The scenario `browsecomp`, whose eleven configurations have the published cost, time and accuracy. The latents "
        "were fitted to other figures, so the ensemble is a prediction. A task counts when one of the calls is right.",
        browsecomp_ensemble, "3 x", lambda f: f[1].low > 90, "interval above 90 % with a perfect judge",
        "With a perfect judge it holds. With the judge that the scenario assumes it does not: a wrong answer accepted from a "
        "cheap configuration ends the search. The judge decides whether an ensemble pays.",
        recorded=False,
    ),
    Claim(
        "endless-loop", "Two agents asked each other for clarification for eleven days, for $47,000", "$47,000",
        "T. Kusireddy, We spent $47,000 running AI agents in production, Towards AI, 2025",
        "A team's own account of one incident: no data, no logs.",
        "The scenario `overnight-loop` under production faults: a request that comes back as a question tends to come "
        "back so again. One agent retried until the judge accepts, at most 64 times per request; the same with a "
        "budget of turns; a policy trained on the scenario, which may also hand over to a person. Same episodes for all.",
        loop_figures, "the trained policy: cost", _stopped,
        "utility above both, interval above zero, and the dearest requests cheaper than without a stop",
        "The incident cannot be replayed; the scenario has its shape, not its bill. A step budget stops the loss but gives "
        "up on requests that a stronger agent solves. The learned stop costs more than the budget, as it pays agents and "
        "people for what it then solves.",
        recorded=False,
    ),
)  # fmt: skip


def measure_claims(evidence: Evidence, progress: Callable[[str], None] = lambda text: None) -> list[Finding]:
    """Measure every claim; what cannot be measured says why.

    Args:
        evidence: tables and scenarios.
        progress: told which claim is being measured.

    Raises:
        TableError: if a table in the folder cannot be used.
    """
    findings = []
    for claim in CLAIMS:
        progress(claim.id)
        missing: list[str] = []
        try:
            figures = claim.measure(evidence)
        except MissingExtraError as error:
            figures = ()
            missing.append(f"not measured: {error}")
        places = list(dict.fromkeys(figure.where for figure in figures))
        if claim.recorded:
            missing += [
                f"{label}: not measured; give a folder that holds {name}.parquet or {name}.csv (--data)"
                for name, label in LABELS.items() if evidence.table(name) is None
            ]  # fmt: skip
        holds = {place: bool(claim.holds([f for f in figures if f.where == place])) for place in places}
        findings.append(Finding(claim, figures, holds, tuple(missing)))
    return findings


def stamps(evidence: Evidence) -> dict[str, str]:
    """What figures depend on: version, scenarios, tables."""
    found = {"brownout": brownout_version()}
    found |= {f"scenario {name}": load_scenario(name).hash for name in ("browsecomp", LOOP)}
    for name in LABELS:
        runs = evidence.table(name)
        if runs is not None:
            q, k, r = runs.right.shape
            found[f"table {name}"] = f"{q} tasks, {k} configurations, {r} runs each"
    return found


def to_markdown(findings: Sequence[Finding], evidence: Evidence) -> str:
    """The page, whole."""
    lines = [
        "# Published claims beside our figures",
        "",
        "Written by `brownout claims --data DIR --out docs/claims.md`; do not edit. DIR holds recorded tables "
        "(see [own-table.md](own-table.md)); without it the claims are measured on the built-in scenarios only.",
        "",
        "Intervals are 95 %: bootstrap over tasks, and in the last claim those of [evaluate.md](evaluate.md). The judge is "
        "perfect unless said otherwise, so success means that a right answer was among those bought. Whatever is chosen by "
        "looking at outcomes is chosen on other tasks than it is scored on. Simulated figures say what the scenario "
        "implies, not what is true of the models in it.",
        "",
        "| claim | published | ours | agrees |",
        "| --- | --- | --- | --- |",
    ]
    for finding in findings:
        claim = finding.claim
        shown = "<br>".join(f"{f.text} ({f.where})" for f in _headline(finding)) or "not measured"
        agrees = "<br>".join(f"{'yes' if held else 'no'} ({place})" for place, held in finding.holds.items()) or "open"
        lines.append(f"| [{claim.claim}](#{claim.id}) | {claim.published} | {shown} | {agrees} |")
    for finding in findings:
        lines += ["", *_section(finding)]
    lines += ["", "## Measured with", "", "| what | value |", "| --- | --- |"]
    lines += [f"| {name} | {value} |" for name, value in stamps(evidence).items()]
    lines += [f"| simulated tasks | {evidence.tasks:,} |", f"| training steps | {evidence.steps:,} |"]
    return "\n".join(lines) + "\n"


def _headline(finding: Finding) -> list[Figure]:
    seen: dict[str, Figure] = {}
    for figure in finding.figures:
        if figure.what.startswith(finding.claim.key):
            seen.setdefault(figure.where, figure)
    return list(seen.values())


def _section(finding: Finding) -> list[str]:
    claim = finding.claim
    lines = [
        f'## <a id="{claim.id}"></a>{claim.claim}', "",
        f"**Published:** {claim.published}. {claim.source}. {claim.note}".strip(), "",
        f"**How:** {claim.how}", "",
    ]  # fmt: skip
    if finding.figures:
        lines += ["| figure | measured on | ours |", "| --- | --- | --- |"]
        lines += [row(figure) for figure in finding.figures]
        lines.append("")
    said = [f"{place}: {'yes' if held else 'no'}" for place, held in finding.holds.items()]
    if said:
        lines += [f"**Agrees** ({claim.rule}): {'; '.join(said)}.", ""]
    lines += [f"- {text}" for text in finding.missing] + ([""] if finding.missing else [])
    return [*lines, claim.why]


def row(figure: Figure) -> str:
    """The line of one figure on the page."""
    return f"| {figure.what} | {figure.where} | {figure.text} |"
