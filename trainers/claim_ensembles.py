"""How the claims about ensembles are measured: mixes against repeats, plans in waves, the BrowseComp-Plus ensemble.

As in :mod:`.claim_measures` the judge is perfect unless said otherwise, and choices are scored on other tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, permutations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..scenarios.loading import load_scenario
from ..scenarios.schema import RouterScenario
from .claim_evidence import Evidence, Figure, halves, mean_figure, ratio_figure
from .claim_measures import FEW, success_at
from .crossval import fold_of_queries
from .fixed_plans import KnownRuns, PlanFigures, ordered_partitions, play_waves

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
FOLDS: Final = 5
ENSEMBLE: Final = {"minimax-late+": 3, "gpt5-late+": 1}


def ensemble_against_repeats(evidence: Evidence) -> tuple[Figure, ...]:
    """The cheapest mix of two to four models at the success of four runs of the best, beside these."""
    figures = []
    for runs in evidence.sources:
        many, mixed = _both_plans(runs)
        gap = mixed["parallel"].success - many["parallel"].success
        figures.append(mean_figure("success, mix minus the best four times", runs, gap, "points"))
        for what, plan, name in (
            ("cost, all at once and all paid", "parallel", "cost_uncancelled_usd"),
            ("cost, one after the other", "sequence", "cost_usd"),
            ("time, all at once", "parallel", "latency_s"),
        ):  # fmt: skip
            figures.append(ratio_figure(what, runs, getattr(mixed[plan], name), getattr(many[plan], name)))
    return tuple(figures)


def _both_plans(runs: KnownRuns) -> tuple[dict[str, PlanFigures], dict[str, PlanFigures]]:
    """Best model four times, and the mix, each in parallel and in sequence, on tasks they were not chosen on."""
    fold = fold_of_queries(len(runs.right), FOLDS, 0)
    tests: list[I64] = []
    many: list[dict[str, PlanFigures]] = []
    mixed: list[dict[str, PlanFigures]] = []
    for f in range(FOLDS):
        fit, test = np.flatnonzero(fold != f), np.flatnonzero(fold == f)
        chosen_on, part = runs.at(fit[:FEW]), runs.at(test)
        best = int(chosen_on.rate.mean(axis=0).argmax())
        mix = cheapest_mix(chosen_on, float(success_at(chosen_on, 4)[:, best].mean()))
        tests.append(test)
        many.append(_two_ways(part, [best] * 4))
        mixed.append(_two_ways(part, mix))
    order = np.argsort(np.concatenate(tests), kind="stable")

    def whole(parts: list[dict[str, PlanFigures]], way: str) -> PlanFigures:
        def by_task(name: str) -> F64:
            return np.concatenate([getattr(part[way], name) for part in parts])[order]

        return PlanFigures(*map(by_task, ("success", "cost_usd", "cost_uncancelled_usd", "latency_s")))

    ways = ("parallel", "sequence")
    return {way: whole(many, way) for way in ways}, {way: whole(mixed, way) for way in ways}


def _two_ways(part: KnownRuns, members: Sequence[int]) -> dict[str, PlanFigures]:
    return {"parallel": play_waves(part, [members]), "sequence": play_waves(part, [[k] for k in members])}


def cheapest_mix(runs: KnownRuns, success: float, largest: int = 4) -> list[int]:
    """The models, two to ``largest``, one run each, that reach ``success`` at least total cost, cheapest first.

    Args:
        runs: what to choose on.
        success: share of tasks that one of them must solve.
        largest: members at most.

    Returns:
        members in the order of rising cost per success; the mix with most successes where none reaches ``success``.
    """
    miss, cost = 1.0 - runs.rate, runs.cost_usd.mean(axis=(0, 2))
    best: tuple[bool, float, list[int]] = (False, -np.inf, [])
    for size in range(2, min(largest, len(runs.configs)) + 1):
        sets = np.array(list(combinations(range(len(runs.configs)), size)))
        for chunk in np.array_split(sets, max(1, len(sets) // 8000)):
            reached = 1.0 - miss[:, chunk].prod(axis=2).mean(axis=0)
            price = cost[chunk].sum(axis=1)
            enough = reached >= success
            score = np.where(enough, -price, reached - 10.0) if not enough.any() else np.where(enough, -price, -np.inf)
            top = int(score.argmax())
            best = max(best, (bool(enough[top]), float(score[top]), chunk[top].tolist()))
    with np.errstate(divide="ignore"):
        order = np.argsort(cost[best[2]] / runs.rate.mean(axis=0)[best[2]], kind="stable")
    return [best[2][i] for i in order]


def opposite_plans(evidence: Evidence) -> tuple[Figure, ...]:
    """Cheapest and fastest plan of waves over the same models: how many waves each has, and what it costs."""
    figures = []
    for runs in evidence.sources:
        one, two = halves(len(runs.right))
        waves: dict[str, list[int]] = {"cheapest": [], "fastest": [], "one by one": []}
        played: dict[str, list[PlanFigures]] = {name: [] for name in waves}
        size = 0
        for fit, test in ((one, two), (two, one)):
            part = runs.at(fit[:FEW])
            best = int(part.rate.mean(axis=0).argmax())
            mix = cheapest_mix(part, float(success_at(part, 4)[:, best].mean()))
            size = max(size, len(mix))
            plans = {*ordered_partitions(mix), *(tuple((k,) for k in order) for order in permutations(mix))}
            scored = [(plan, play_waves(part, plan)) for plan in sorted(plans)]
            for name, figure in (("cheapest", "cost_usd"), ("fastest", "latency_s"), ("one by one", "cost_usd")):
                open_ = [item for item in scored if name != "one by one" or len(item[0]) == len(mix)]
                plan = min(open_, key=lambda item, figure=figure: float(getattr(item[1], figure).mean()))[0]
                waves[name].append(len(plan))
                played[name].append(play_waves(runs.at(test), plan))
        joined = {name: [np.concatenate([getattr(p, f) for p in parts]) for f in ("cost_usd", "latency_s")]
                  for name, parts in played.items()}  # fmt: skip
        for name in ("cheapest", "fastest"):
            what = f"waves of the {name} plan ({size}: one model at a time, 1: all at once)"
            figures.append(Figure(what, runs.label, float(np.mean(waves[name])), float("nan"), float("nan"), ""))
        figures.append(ratio_figure("cost of the best plan with one model at a time against the cheapest", runs,
                                    joined["one by one"][0], joined["cheapest"][0]))  # fmt: skip
        figures.append(ratio_figure("cost of the fastest plan against the cheapest", runs, joined["fastest"][0],
                                    joined["cheapest"][0]))  # fmt: skip
        figures.append(ratio_figure("time of the fastest plan against the cheapest", runs, joined["fastest"][1],
                                    joined["cheapest"][1]))  # fmt: skip
    return tuple(figures)


def browsecomp_ensemble(evidence: Evidence) -> tuple[Figure, ...]:
    """The ensemble of the scenario ``browsecomp``, with a perfect judge and with the scenario's own."""
    runs, scenario = evidence.browsecomp, load_scenario("browsecomp")
    assert isinstance(scenario, RouterScenario)
    assert scenario.judge is not None
    index = {name: k for k, name in enumerate(runs.configs)}
    four = KnownRuns(runs.label, False, runs.configs, runs.families, runs.right[:, :, :4], runs.cost_usd[:, :, :4],
                     runs.latency_s[:, :, :4])  # fmt: skip
    members = [index[name] for name, n in ENSEMBLE.items() for _ in range(n)]
    more = [*members, index["gpt5-dense"]]
    alone = index["gpt5-late+"]
    words = " and ".join(f"{n} x {name}" for name, n in ENSEMBLE.items())
    parallel = play_waves(four, [members])
    first_runs = np.concatenate([runs.right[:, index[name], :n] for name, n in ENSEMBLE.items()], axis=1)
    noisy = first_accepted(first_runs, scenario.judge.true_positive, scenario.judge.false_positive)
    return (
        mean_figure("gpt5-late+ once, the best single configuration", runs, runs.rate[:, alone], "%"),
        mean_figure(f"{words}", runs, parallel.success, "%"),
        mean_figure(f"{words} and gpt5-dense", runs, play_waves(four, [more]).success, "%"),
        mean_figure(f"{words}, the scenario's own judge, first accepted", runs, noisy, "%"),
        mean_figure(f"cost of {words}, all paid", runs, parallel.cost_uncancelled_usd, "USD"),
        mean_figure("cost of gpt5-late+ once", runs, runs.cost_usd[:, alone].mean(axis=1), "USD"),
    )


def first_accepted(right: NDArray[np.bool_], true_positive: float, false_positive: float) -> F64:
    """``(Q,)`` chance that the first answer the judge accepts, else the last one, is right.

    Args:
        right: ``(Q, n)`` answers in the order in which they are judged.
        true_positive: chance that a right answer is accepted.
        false_positive: chance that a wrong answer is accepted.
    """
    accept = np.where(right, true_positive, false_positive)
    reached = np.concatenate([np.ones((len(right), 1)), np.cumprod(1.0 - accept, axis=1)], axis=1)
    return (reached[:, :-1] * accept * right).sum(axis=1) + reached[:, -1] * right[:, -1]
