"""What a larger budget buys: the same episodes of every policy at one spending cap after another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import PolicyError
from ..scenarios.loading import load_scenario
from ..scenarios.schema import Scenario
from .evaluation import evaluate
from .statistics import Estimate


@dataclass(frozen=True)
class BudgetRow:
    """One policy under one budget.

    Args:
        budget_usd: what an episode may cost, USD.
        policy: its name.
        delivered: mean quality of what it delivered (0 where nothing), or its success rate.
        cost_usd: what it spent, USD.
        utility: its utility.
        per_usd: what the last increase of the budget added to ``delivered`` per further dollar *allowed*; None for
            the smallest budget.
    """

    budget_usd: float
    policy: str
    delivered: Estimate
    cost_usd: Estimate
    utility: Estimate
    per_usd: float | None


@dataclass(frozen=True)
class BudgetTable:
    """Rows by budget and policy; ``measure`` says what ``delivered`` is."""

    scenario: str
    profile: str
    episodes: int
    measure: str
    policies: tuple[str, ...]
    rows: tuple[BudgetRow, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def budget_table(
    policies: Mapping[str, Any] | Sequence[Any] | Any,
    scenario: str | Path | Mapping[str, Any] | Scenario,
    budgets: Sequence[float],
    *,
    episodes: int = 2000,
    profile: str = "production",
    intensity: float = 1.0,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> BudgetTable:
    """Evaluate policies under fixed budgets, on the same episodes.

    Args:
        policies: as for :func:`~brownout.trainers.evaluation.evaluate`.
        scenario: built-in name, path, mapping or scenario; its ``preferences.budget_usd`` is replaced.
        budgets: USD that an episode may cost.
        episodes: episodes per policy and budget.
        profile: fault profile.
        intensity: fault intensity.
        seed: seed of the episodes.
        progress: called with each budget that is done.

    Raises:
        PolicyError: a budget is not above 0, or there is none.
    """
    caps = sorted({float(budget) for budget in budgets})
    if not caps or not all(np.isfinite(cap) and cap > 0.0 for cap in caps):
        raise PolicyError(f"budgets: got {list(budgets)!r}; allowed: numbers above 0, USD")
    loaded = load_scenario(scenario)
    rows: list[BudgetRow] = []
    names: tuple[str, ...] = ()
    graded = False
    for cap in caps:
        table = evaluate(
            policies, load_scenario(loaded, [f"preferences.budget_usd={cap!r}"]), episodes=episodes, profile=profile,
            intensity=intensity, seed=seed,
        )  # fmt: skip
        names, before = tuple(row.name for row in table.rows), {row.policy: row for row in rows}
        for row in table.rows:
            delivered, last = row.quality or row.success, before.get(row.name)
            gain = None if last is None else (delivered.value - last.delivered.value) / (cap - last.budget_usd)
            rows.append(BudgetRow(cap, row.name, delivered, row.cost_usd, row.utility, gain))
            graded = row.quality is not None
        if progress is not None:
            progress(cap)
    return BudgetTable(loaded.name, profile, episodes, "quality" if graded else "success", names, tuple(rows))
