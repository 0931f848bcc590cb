"""The published claims, each with its source, how we measure it, and what would count as agreement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from .claim_ensembles import browsecomp_ensemble, ensemble_against_repeats, opposite_plans
from .claim_evidence import Evidence, Figure
from .claim_loop import loop_figures
from .claim_measures import four_small_runs, shortest_path, solved_by_all, success_gap

Figures = Sequence[Figure]
Holds = Callable[[Figures], bool | None]

TALK: Final = (
    "O. Dagan (AI21 Labs), Optimizing accuracy, cost and latency in real-world agents, talk at AI Dev 26 x SF, May 2026"
)
GAPS: Final = (
    "AI21 Labs on four gaps between demo and production agents: Y. Belfer, webinar at DataCamp, May 2026, and B. Lenz, "
    "Mind the gap, blog"
)
SPOKEN: Final = "Quoted as said: we found the idea in writing, but not the figure."


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A published claim and how it is measured.

    Args:
        id: short name.
        claim: what is claimed.
        published: the published figure.
        source: who published it, and where.
        note: how sure the source is.
        how: how we measure it.
        measure: returns our figures.
        key: beginning of the figure that the summary shows.
        rule: what counts as agreement, in words.
        holds: whether the figures of one place agree; None where they cannot tell.
        why: what our figures say, and why they may differ.
        recorded: whether recorded tables say more than a scenario does.
    """

    id: str
    claim: str
    published: str
    source: str
    note: str
    how: str
    measure: Callable[[Evidence], tuple[Figure, ...]]
    key: str
    rule: str
    holds: Holds
    why: str
    recorded: bool = True


def find(figures: Figures, start: str) -> Figure:
    """The first figure whose name begins with ``start``."""
    return next(figure for figure in figures if figure.what.startswith(start))


def _small(figures: Figures) -> bool:
    return find(figures, "success, four").low > 0 and find(figures, "its cost").value <= 0


def _ten(figures: Figures) -> bool | None:
    gap = figures[0]
    if gap.what.startswith("success@10"):
        return 15 <= gap.value <= 20
    return None if gap.value <= 20 else False  # fewer runs can only gain less


def _mix(figures: Figures) -> bool:
    gap, cost, time = (find(figures, start) for start in ("success, mix", "cost, all at once", "time"))
    return gap.high >= 0 and cost.value <= -50 and time.value <= -20


def _opposite(figures: Figures) -> bool:
    fastest, one = find(figures, "waves of the fastest"), find(figures, "cost of the best plan with one")
    cost, time = find(figures, "cost of the fastest"), find(figures, "time of the fastest")
    return fastest.value == 1 and one.value <= 1 and cost.low > 0 and time.high < 0


def _stopped(figures: Figures) -> bool:
    ahead = [figure for figure in figures if figure.what.startswith("utility")]
    learned, endless = (find(figures, f"{name}: 99th") for name in ("the trained policy", "retries without a stop"))
    return all(figure.low > 0 for figure in ahead) and learned.high < endless.low


CLAIMS: Final[tuple[Claim, ...]] = (
    Claim(
        id="small-four-times",
        claim="Four runs of a small model beat one run of a large one, at lower cost",
        published="four of the small win",
        source=GAPS,
        note=SPOKEN,
        how="Every pair of configurations in which four runs of the first cost at most as much as one of the second, "
        "on mean costs over all tasks. Success at four is unbiased. The pair with the largest gain is chosen on "
        "half of the tasks and scored on the other half, both ways. The maker is the first word of a name. The "
        "last figure admits only the best configuration as the large one.",
        measure=four_small_runs,
        key="success, four",
        rule="a pair chosen on other tasks wins, interval above zero, at no higher cost",
        holds=_small,
        why="There are such pairs: dear models that a cheap one passes in four runs. It is not the rule, as the share"
        " of pairs says, and it does not hold against the best configuration: runs of one model are much alike, "
        "and what the first misses the others mostly miss too.",
    ),
    Claim(
        id="success-at-ten",
        claim="Success at ten runs lies 15 to 20 points above success at one",
        published="15 to 20 points",
        source=GAPS,
        note=SPOKEN,
        how="success@n minus success@1 per configuration, unbiased, with as many runs as there are, ten at most. "
        "MCPMark holds four, so a scenario fitted to it plays ten; the interval there covers the simulated tasks,"
        " not the fit.",
        measure=success_gap,
        key="success@",
        rule="the median configuration gains 15 to 20 points at ten runs",
        holds=_ten,
        why="The gap depends on the model more than on the number of runs: middling ones gain most, the best and the "
        "weakest less, so a range for all of them says little. A fitted scenario takes repeats of all "
        "configurations to be equally alike; those of the best one are more alike than that, so its own gain is "
        "overstated there.",
    ),
    Claim(
        id="solved-by-all",
        claim="About half of the tasks are solved by every model",
        published="about half",
        source=GAPS,
        note=SPOKEN,
        how="Mean over tasks of the product of success rates: one run each, independent given the task. On recorded "
        "tables the best three configurations of different makers, chosen on other tasks.",
        measure=solved_by_all,
        key="solved by each of",
        rule="40 to 60 % for three models",
        holds=lambda figures: 40 <= figures[0].value <= 60,
        why="It depends on the tasks and on how many models are asked. MCPMark is hard: its best configuration solves"
        " little more than half of it in one run. In the scenario the figure is no evidence, as its latents were "
        "fitted so that the three solve 46 %.",
    ),
    Claim(
        id="shortest-path",
        claim="The shortest successful path is three times faster than the average run",
        published="3 x",
        source=GAPS,
        note=SPOKEN,
        how="Mean time of all runs of a task over that of its fastest right run, on tasks that some run solves: once "
        "for the best configuration, once for all. This is hindsight, so the last figure is what can be had "
        "without it: a race of three, chosen on half of the tasks, in which the first right answer wins.",
        measure=shortest_path,
        key="all runs",
        rule="3 x or more over all runs",
        holds=lambda figures: find(figures, "all runs").value >= 3,
        why="A minimum over many runs falls with their number and does not say which run to start. Repeats of one "
        "configuration take about the same time each; the spread is between configurations, most of all in the "
        "scenario, where they differ by a factor of forty. A race chosen beforehand gains much less.",
    ),
    Claim(
        id="diverse-ensemble",
        claim="A diverse ensemble is over half cheaper and a fifth faster than the best model repeated",
        published="-50 % cost, -20 % time",
        source=TALK,
        note="A written summary of the talk gives both figures.",
        how="The best configuration four times against two to four different ones once each: those that reach the "
        "same success at least cost. Both are chosen on four fifths of the tasks and scored on the rest, five "
        "times.",
        measure=ensemble_against_repeats,
        key="cost, all at once",
        rule="at least 50 % cheaper and 20 % faster, with success not told apart",
        holds=_mix,
        why="What a mix saves depends on the best configuration. On MCPMark that one is dear and slow. In the "
        "scenario it is itself cheap and quick for what it solves, so a mix that is as good saves money only when"
        " its calls are made one after the other.",
    ),
    Claim(
        id="opposite-plans",
        claim="The plan with the least cost is sequential, the one with the least time parallel",
        published="opposite plans",
        source=TALK,
        note="Quoted as said: we found no figure in writing.",
        how="All plans of waves over the models of the mix above, in every order. Cheapest and fastest are chosen on "
        "half of the tasks and scored on the other half, both ways; success is the same for all plans. A call "
        "that is cancelled is paid by its share of time.",
        measure=opposite_plans,
        key="cost of the fastest",
        rule="the fastest plan is one wave, one model at a time is within 1 % of the cheapest plan, and between the "
        "two cost and time differ",
        holds=_opposite,
        why="Where two models cost next to nothing beside the others, the cheapest plan may call these together, "
        "which makes no difference that matters.",
    ),
    Claim(
        id="browsecomp-plus",
        claim="An ensemble passes 90 % on BrowseComp-Plus",
        published="above 90 %",
        source=TALK,
        note="A written summary speaks of a new best result. Sail Research reports 90.72 % with a system of its own; "
        "in the benchmark's paper (arXiv 2508.06600) GPT-5 has 55.9 to 70.1 %.",
        how="The scenario `browsecomp`, whose eleven configurations have the published cost, time and accuracy. Its "
        "latents were fitted to other figures, so the ensemble is a prediction. A task counts when one of the "
        "calls is right.",
        measure=browsecomp_ensemble,
        key="3 x",
        rule="interval above 90 % with a perfect judge",
        holds=lambda figures: find(figures, "3 x").low > 90,
        why="With a perfect judge it holds. With the judge that the scenario assumes it does not: a wrong answer of a"
        " cheap configuration that is accepted ends the search, and the ensemble falls below its best member. The"
        " judge decides whether an ensemble pays.",
        recorded=False,
    ),
    Claim(
        id="endless-loop",
        claim="Agents that kept asking each other cost $47,000 in eleven days; a stop prevents it",
        published="$47,000",
        source="T. Kusireddy, We spent $47,000 running AI agents in production, Towards AI, 2025",
        note="A team's own account of one incident: two of four agents in a loop, no logs published.",
        how="The scenario `overnight-loop` under production faults, in which a request that comes back as a question "
        "tends to come back so again. One agent asked until the judge accepts, at most 64 times per request; the "
        "same with a budget of four turns; a policy trained on the scenario, which may also call stronger agents,"
        " stop, or hand over to a person. The same episodes for all.",
        measure=loop_figures,
        key="the trained policy: cost",
        rule="utility above both, intervals above zero, and the dearest requests cheaper than without a stop",
        holds=_stopped,
        why="The incident cannot be replayed; the scenario has its shape, not its bill. Without a stop the bill is "
        "whatever the cap allows: here 64 turns. A budget of turns ends the loss, and gives up on requests that a"
        " stronger agent or a person solves. The learned stop spends more than that budget and solves far more "
        "for it.",
        recorded=False,
    ),
)
