"""How the claims about single calls and their repeats are measured on known runs.

The judge is perfect throughout: a right answer is recognised as soon as it is there. What a choice between
configurations looks at outcomes for is chosen on some tasks and scored on others, so no figure has seen its own luck.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .claim_evidence import REPEATS, Evidence, Figure, bootstrap, halves, mean_figure, ratio_figure
from .fixed_plans import KnownRuns, play_waves
from .statistics import pass_at_k

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
FEW: Final = 800  # simulated tasks are many: enough of them to choose on
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
        if not fits.any():
            continue
        count = int(fits.sum())

        def share(q: I64, once: F64 = once, four: F64 = four, fits: NDArray[np.bool_] = fits) -> float:
            won = four[q].mean(axis=0)[:, None] > once[q].mean(axis=0)[None, :]
            return 100.0 * float(won[fits].mean())

        figures.append(Figure(f"pairs in which the four win, of {count}", runs.label,
                              *bootstrap(share, len(once)), "%"))  # fmt: skip
        # prices are known beforehand and their means over half of the tasks are rough: fits is read off all tasks
        same = fits & (np.array(runs.families)[:, None] == np.array(runs.families)[None, :])
        if same.any():
            figures.append(Figure(f"pairs of one maker in which they win, of {int(same.sum())}", runs.label,
                                  *bootstrap(lambda q, same=same: share(q, fits=same), len(once)), "%"))  # fmt: skip
        gain, money, pairs = _cross(runs, lambda part, fits=fits: _best_pair(part, fits), _gain_of_pair)
        names = " and ".join(dict.fromkeys(f"{runs.configs[a]} against {runs.configs[b]}" for a, b in pairs))
        figures.append(mean_figure(f"success, four of the small minus one of the large: {names}, chosen on other tasks",
                                   runs, gain, "points"))  # fmt: skip
        figures.append(ratio_figure("its cost, all four paid", runs, money[:, 0], money[:, 1]))
        if all(fits[:, half.rate.mean(axis=0).argmax()].any() for half in map(runs.at, halves(len(once)))):
            best, *_ = _cross(runs, lambda part, fits=fits: _best_pair(part, fits, strongest=True), _gain_of_pair)
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
) -> tuple[F64, F64, list[Any]]:
    """Choose on each half of the tasks, score on the other; scores by task, and what was chosen."""
    one, two = halves(len(runs.right))
    first: list[F64] = []
    second: list[F64] = []
    chosen: list[Any] = []
    for fit, test in ((one, two), (two, one)):
        chosen.append(choose(runs.at(fit)))
        a, b = score(runs.at(test), chosen[-1])
        first.append(a)
        second.append(b)
    order = np.argsort(np.concatenate([two, one]), kind="stable")
    return np.concatenate(first)[order], np.concatenate(second)[order], chosen


def success_gap(evidence: Evidence) -> tuple[Figure, ...]:
    """Points between success@1 and success@n, ``n`` up to 10 where there are as many runs."""
    figures = []
    asked = [(runs, runs.right.shape[2]) for runs in evidence.sources if runs.recorded]
    # four runs of a fitted scenario show whether its repeats are as alike as the recorded ones
    asked += [(runs, n) for runs in evidence.fitted for n in (REPEATS, 4)] + [(evidence.browsecomp, REPEATS)]
    for runs, n in asked:
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
            both, *_ = _cross(runs, _three_makers, _all_right)
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
        fore, usual, _ = _cross(runs, _fastest_three, _race)
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
