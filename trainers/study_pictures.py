"""Pictures of studies: the sweep of a judge's error rate, and what policies deliver for a budget."""

from __future__ import annotations

from pathlib import Path

from .budgets import BudgetTable
from .judge_sweep import JudgeSweep
from .picture_style import HERO, INK, label, legend, new_figure, plain, save_png, series


def draw_judge_sweep(sweep: JudgeSweep, path: Path) -> Path:
    """Draw utilities against the judge's false-positive rate, and how the trained policy begins.

    Args:
        sweep: what to draw; of several true-positive rates the highest.
        path: PNG file to write.

    Raises:
        MissingExtraError: without matplotlib.
    """
    figure, (top, bottom) = new_figure(height=6.4, rows=2)
    best = max(point.true_positive for point in sweep.points)
    points = sorted((p for p in sweep.points if p.true_positive == best), key=lambda p: p.false_positive)
    rates = [point.false_positive for point in points]
    for i, row in enumerate(points[0].rows):
        found = [point.row(row.policy).utility for point in points]
        name = sweep.single if row.policy == "best-single" else row.policy
        top.plot(rates, [e.value for e in found], "o-", color=series(i), ms=4, lw=1.2 if i else 2, label=plain(name))
        top.fill_between(rates, [e.low for e in found], [e.high for e in found], color=series(i), alpha=0.15, lw=0)
    kinds = list(points[0].opening)
    shares = [[100 * point.opening[kind] for point in points] for kind in kinds]
    bottom.stackplot(rates, shares, labels=kinds, colors=[series(i) for i in range(len(kinds))], alpha=0.75, lw=0)
    for even in sweep.break_even:
        if even.rate is not None and even.true_positive == best:
            for axes in (top, bottom):
                axes.axvline(even.rate, color=INK, lw=0.9, ls="--")
    who = "the judge" if sweep.judge == "judge" else sweep.judge
    label(top, "", "utility per episode", f"{sweep.scenario}, {sweep.profile} faults: how good must {who} be?")
    label(
        bottom, "share of wrong answers that the judge accepts (dashed: break-even rates)", "trained policy begins, %"
    )
    bottom.set_ylim(0, 100)
    legend(top)
    legend(bottom, loc="lower left")
    return save_png(figure, path)


def draw_budgets(table: BudgetTable, path: Path) -> Path:
    """Draw what policies deliver against what they may spend, and what they do spend.

    Args:
        table: what to draw.
        path: PNG file to write.

    Raises:
        MissingExtraError: without matplotlib.
    """
    figure, (top, bottom) = new_figure(height=6.4, rows=2)
    for i, policy in enumerate(table.policies):
        rows = [row for row in table.rows if row.policy == policy]
        budgets, colour = [row.budget_usd for row in rows], series(i) if i else HERO
        for axes, found in ((top, [row.delivered for row in rows]), (bottom, [row.cost_usd for row in rows])):
            axes.plot(budgets, [e.value for e in found], "o-", color=colour, ms=4, lw=1.4, label=plain(policy))
            axes.fill_between(budgets, [e.low for e in found], [e.high for e in found], color=colour, alpha=0.15, lw=0)
            axes.set_xscale("log")
    caps = sorted({row.budget_usd for row in table.rows})
    for axes in (top, bottom):
        axes.set_xticks(caps, [f"{cap:g}" for cap in caps])
        axes.minorticks_off()
    label(top, "", table.measure, f"{table.scenario}, {table.profile} faults")
    label(bottom, "budget, USD", "spent, USD")
    legend(top)
    return save_png(figure, path)
