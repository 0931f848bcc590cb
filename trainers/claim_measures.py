"""How each claim about fixed plans is measured on known runs.

The judge is perfect throughout: a right answer is recognised as soon as it is there. What a choice between
configurations looks at outcomes for is chosen on some tasks and scored on others, so no figure has seen its own luck.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations, permutations
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .claim_evidence import Evidence, Figure, bootstrap, halves, mean_figure, ratio_figure
from .crossval import fold_of_queries
from .fixed_plans import KnownRuns, PlanFigures, ordered_partitions, play_waves
from .statistics import pass_at_k

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
FOLDS: Final = 5
FEW: Final = 800  # simulated tasks are many: enough of them to choose on
ENSEMBLE: Final = {"minimax-late+": 3, "gpt5-late+": 1}
TRIO: Final = ("gpt5-late+", "gpt5.2-dense", "minimax-late+")


def success_at(runs: KnownRuns, n: int) -> F64:
    """``(Q, K)`` unbiased chance that one of ``n`` runs is right."""
    depth = runs.right.shape[2]
    return pass_at_k(np.full(runs.right.shape[:2], depth), runs.right.sum(axis=2), n)


def _cheaper_four(runs: KnownRuns) -> NDArray[np.bool_]:
    """``(K, K)`` whether four runs of the first cost at most as much as one of the second."""
    cost = runs.cost_usd.mean(axis=(0, 2))
    fits = 4.0 * cost[:, None] <= cost[None, :]
    np.fill_diagonal(fits, False)
    return fits


def four_small_runs(evidence: Evidence) -> tuple[Figure, ...]:
    """Four runs of a small model against one of a large, where the four cost at most as much."""
    figures = []
    for runs in evidence.sources:
        once, four, fits = runs.rate, success_at(runs, 4), _cheaper_four(runs)
        count = int(fits.sum())

        def share(q: I64, once: F64 = once, four: F64 = four, fits: NDArray[np.bool_] = fits) -> float:
            won = four[q].mean(axis=0)[:, None] > once[q].mean(axis=0)[None, :]
            return 100.0 * float(won[fits].mean())

        figures.append(Figure(f"pairs in which the four win, of {count}", runs.label,
                              *bootstrap(share, len(once)), "%"))  # fmt: skip
        # prices are known beforehand and their means over half of the tasks are rough: fits is read off all tasks
        gain, money = _cross(runs, lambda part, fits=fits: _best_pair(part, fits), _gain_of_pair)
        figures.append(mean_figure("success, four of the small minus one of the large, pair chosen on other tasks",
                                   runs, gain, "points"))  # fmt: skip
        figures.append(ratio_figure("its cost, all four paid", runs, money[:, 0], money[:, 1]))
        best, _ = _cross(runs, lambda part, fits=fits: _best_pair(part, fits, strongest=True), _gain_of_pair)
        figures.append(mean_figure("the same against the best model of all", runs, best, "points"))
    return tuple(figures)


def _best_pair(part: KnownRuns, fits: NDArray[np.bool_], strongest: bool = False) -> tuple[int, int]:
    rate = part.rate.mean(axis=0)
    gain = success_at(part, 4).mean(axis=0)[:, None] - rate[None, :]
    allowed = fits & (np.arange(len(rate)) == rate.argmax())[None, :] if strongest else fits
    small, other = np.unravel_index(np.where(allowed, gain, -np.inf).argmax(), gain.shape)
    return int(small), int(other)


def _gain_of_pair(part: KnownRuns, pair: Any) -> tuple[F64, F64]:
    small, large = pair
    gain = success_at(part, 4)[:, small] - part.rate[:, large]
    money = np.stack([4.0 * part.cost_usd[:, small].mean(axis=1), part.cost_usd[:, large].mean(axis=1)], axis=1)
    return gain, money


def _cross(
    runs: KnownRuns, choose: Callable[[KnownRuns], Any], score: Callable[[KnownRuns, Any], tuple[F64, F64]]
) -> tuple[F64, F64]:
    """Choose on each half of the tasks, score on the other, and put the scores together by task."""
    one, two = halves(len(runs.right))
    first: list[F64] = []
    second: list[F64] = []
    for fit, test in ((one, two), (two, one)):
        a, b = score(runs.at(test), choose(runs.at(fit)))
        first.append(a)
        second.append(b)
    order = np.argsort(np.concatenate([two, one]), kind="stable")
    return np.concatenate(first)[order], np.concatenate(second)[order]


def success_gap(evidence: Evidence) -> tuple[Figure, ...]:
    """Points between success@1 and success@n, ``n`` up to 10 where there are as many runs."""
    figures = []
    for runs in [r for r in evidence.sources if r.recorded] + [evidence.browsecomp]:
        n = min(runs.right.shape[2], 10)
        gaps = success_at(runs, n) - runs.rate
        best = int(runs.rate.mean(axis=0).argmax())  # named, not picked for its gap

        def middle(q: I64, gaps: F64 = gaps) -> float:
            return 100.0 * float(np.median(gaps[q].mean(axis=0)))

        what = f"success@{n} minus success@1"
        figures.append(Figure(f"{what}, median of {gaps.shape[1]} configurations", runs.label,
                              *bootstrap(middle, len(gaps)), "points"))  # fmt: skip
        figures.append(mean_figure(f"{what}, {runs.configs[best]}, the best at one run", runs, gaps[:, best], "points"))
    return tuple(figures)


def solved_by_all(evidence: Evidence) -> tuple[Figure, ...]:
    """Share of tasks that every one of a few good models solves in one run each."""
    figures = []
    for runs in evidence.sources:
        if runs.recorded:
            both, _ = _cross(runs, _three_makers, _all_right)
            figures.append(mean_figure("solved by each of the best three of different makers, chosen on other tasks",
                                       runs, both, "%"))  # fmt: skip
        else:
            picked = [runs.configs.index(name) for name in TRIO]
            figures.append(mean_figure(f"solved by each of {', '.join(TRIO)}", runs, _all_right(runs, picked)[0], "%"))
        every = runs.rate.prod(axis=1)
        figures.append(mean_figure(f"solved by each of all {len(runs.configs)}", runs, every, "%"))
    return tuple(figures)


def _three_makers(part: KnownRuns) -> list[int]:
    chosen: list[int] = []
    for k in np.argsort(-part.rate.mean(axis=0), kind="stable"):
        if part.families[k] not in {part.families[c] for c in chosen}:
            chosen.append(int(k))
    return chosen[:3]


def _all_right(part: KnownRuns, members: Any) -> tuple[F64, F64]:
    picked = np.asarray(members)
    rate = part.rate[:, picked].prod(axis=1)  # runs of different models are independent, given the task
    return rate, rate


def shortest_path(evidence: Evidence) -> tuple[Figure, ...]:
    """Mean time of a run over that of the fastest right one, on tasks that some run solves."""
    figures = []
    for runs in evidence.sources:
        best = int(runs.rate.mean(axis=0).argmax())
        for members, name in (([best], f"runs of {runs.configs[best]}"), (range(len(runs.configs)), "all runs")):
            k = np.asarray(members)
            right, seconds = runs.right[:, k], runs.latency_s[:, k]
            solved = right.any(axis=(1, 2))
            fast = np.where(right, seconds, np.inf).min(axis=(1, 2))[solved]
            usual = seconds.mean(axis=(1, 2))[solved]
            figures.append(
                ratio_figure(f"{name}: mean time over that of the fastest right one", runs, usual, fast, "x")
            )
        fore, usual = _cross(runs, _fastest_three, _race)
        figures.append(ratio_figure("what can be had: mean time of a run over a race of three chosen on other tasks",
                                    runs, usual, fore, "x"))  # fmt: skip
    return tuple(figures)


def _fastest_three(part: KnownRuns) -> list[int]:
    """The three whose race gives most successes per second."""
    part = part.at(np.arange(min(FEW, len(part.right))))
    pool = np.argsort(-part.rate.mean(axis=0), kind="stable")[:10].tolist()

    def speed(members: Sequence[int]) -> float:
        figures = play_waves(part, [members])
        return float(figures.success.mean() / figures.latency_s.mean())

    return list(max(combinations(pool, 3), key=speed))


def _race(part: KnownRuns, members: Any) -> tuple[F64, F64]:
    picked = np.asarray(members).tolist()
    return play_waves(part, [picked]).latency_s, part.latency_s.mean(axis=(1, 2))


# ---------------------------------------------------------------- ensembles


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
    parts: list[tuple[I64, dict[str, PlanFigures], dict[str, PlanFigures]]] = []
    for f in range(FOLDS):
        fit, test = np.flatnonzero(fold != f), np.flatnonzero(fold == f)
        chosen_on = runs.at(fit[:FEW])
        best = int(chosen_on.rate.mean(axis=0).argmax())
        mix = cheapest_mix(chosen_on, float(success_at(chosen_on, 4)[:, best].mean()))
        part = runs.at(test)
        parts.append((test, _two_ways(part, [best] * 4), _two_ways(part, mix)))
    order = np.argsort(np.concatenate([test for test, _, _ in parts]), kind="stable")

    def whole(which: int) -> dict[str, PlanFigures]:
        return {
            way: PlanFigures(*(
                np.concatenate([getattr(part[which][way], name) for part in parts])[order]
                for name in ("success", "cost_usd", "cost_uncancelled_usd", "latency_s")
            ))
            for way in ("parallel", "sequence")
        }  # fmt: skip

    return whole(1), whole(2)


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
    for size in range(2, largest + 1):
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
        waves: dict[str, list[int]] = {"cheapest": [], "fastest": []}
        played: dict[str, list[PlanFigures]] = {"cheapest": [], "fastest": []}
        size = 0
        for fit, test in ((one, two), (two, one)):
            part = runs.at(fit[:FEW])
            best = int(part.rate.mean(axis=0).argmax())
            mix = cheapest_mix(part, float(success_at(part, 4)[:, best].mean()))
            size = max(size, len(mix))
            plans = {*ordered_partitions(mix), *(tuple((k,) for k in order) for order in permutations(mix))}
            scored = [(plan, play_waves(part, plan)) for plan in sorted(plans)]
            for name, figure in (("cheapest", "cost_usd"), ("fastest", "latency_s")):
                plan = min(scored, key=lambda item, figure=figure: float(getattr(item[1], figure).mean()))[0]
                waves[name].append(len(plan))
                played[name].append(play_waves(runs.at(test), plan))
        joined = {name: [np.concatenate([getattr(p, f) for p in parts]) for f in ("cost_usd", "latency_s")]
                  for name, parts in played.items()}  # fmt: skip
        for name, counts in waves.items():
            figures.append(Figure(f"waves of the {name} plan ({size}: one model at a time, 1: all at once)", runs.label,
                                  float(np.mean(counts)), float("nan"), float("nan"), ""))  # fmt: skip
        figures.append(ratio_figure("cost of the fastest plan against the cheapest", runs, joined["fastest"][0],
                                    joined["cheapest"][0]))  # fmt: skip
        figures.append(ratio_figure("time of the fastest plan against the cheapest", runs, joined["fastest"][1],
                                    joined["cheapest"][1]))  # fmt: skip
    return tuple(figures)


def browsecomp_ensemble(evidence: Evidence) -> tuple[Figure, ...]:
    """The ensemble of the scenario ``browsecomp``, with a perfect judge and with the scenario's own."""
    from ..scenarios.loading import load_scenario
    from ..scenarios.schema import RouterScenario

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
