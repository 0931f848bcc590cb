"""The claim about a loop that nobody stops: naive retries, a step budget, and a stop that was learned.

All play the same episodes of the scenario ``overnight-loop`` under its production faults, in which a request that comes
back as a question tends to come back as one again. Draws do not depend on limits, so differences are paired.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..envs.router_core import RouterCore
from ..scenarios.loading import load_scenario
from ..scenarios.schema import Scenario
from .baselines import Desk, Rule
from .claim_evidence import Evidence, Figure
from .evaluation import EpisodeRecords, play
from .statistics import mean, paired_difference, proportion, quantile

SCENARIO: Final = "overnight-loop"
WORKER: Final = "worker"
TURNS: Final = 64  # the most that a scenario allows per configuration: as good as no stop
BUDGET_TURNS: Final = 4
UNLIMITED: Final = (
    "limits.on_budget=soft", "limits.on_deadline=soft", "limits.max_steps=1000", f"limits.max_calls={TURNS}",
    f"portfolio.{WORKER}.max_calls={TURNS}",
)  # fmt: skip


class AskAgain(Rule):
    """Ask one agent again and again until the judge accepts; stop only when it may not be called any more.

    Args:
        desk: what it reads.
        core: the core to play on.
        config: index of the agent.
        turns: calls after which it gives up.
    """

    name = "ask-again"

    def __init__(self, desk: Desk, core: RouterCore, config: int, turns: int) -> None:
        super().__init__(desk, core)
        self.config, self.turns = config, turns

    def _choose(self, observations: NDArray[Any], mask: NDArray[np.bool_]) -> list[tuple[Any, Any]]:
        desk = self.desk
        accepted = desk.column(observations, "best_accepted") > 0
        running, unjudged = (desk.column(observations, name) > 0 for name in ("running", "unjudged"))
        more = desk.block(observations, "launched")[:, self.config] < self.turns
        return [(accepted, desk.submit), (running, desk.wait), (unjudged, desk.judge), (more, self.config)]


def loop_figures(evidence: Evidence) -> tuple[Figure, ...]:
    """Cost per 1,000 requests without a stop, with a step budget and with a trained policy; and what each solves.

    Raises:
        MissingExtraError: without PyTorch, which trains the policy.
    """
    from .api import train

    spec = load_scenario(SCENARIO)
    free = load_scenario(SCENARIO, list(UNLIMITED))
    policy = train(spec, steps=evidence.steps, seed=0).policy
    n = min(evidence.tasks, 4000)
    runs = {
        "retries without a stop": _ask(free, n, TURNS),
        f"a budget of {BUDGET_TURNS} turns": _ask(free, n, BUDGET_TURNS),
        "the trained policy": play(policy, _core(spec, n), n),
    }
    where = f"{SCENARIO}, simulated"
    figures = []
    for name, records in runs.items():
        cost = mean(records.component("cost_usd"))
        figures.append(Figure(f"{name}: cost of 1,000 requests", where, *_ends(cost, 1000.0), "USD"))
        worst = quantile(records.component("cost_usd"), 0.99)
        figures.append(Figure(f"{name}: 99th percentile of one request", where, *_ends(worst, 1.0), "USD"))
        for who, right in (("agents", "accuracy"), ("the person", "handoff")):
            solved = proportion(records.component(right) > 0)
            if solved.value > 0:
                figures.append(Figure(f"{name}: solved by {who}", where, *_ends(solved, 100.0), "%"))
    names = list(runs)
    for other in names[:2]:
        gap = paired_difference(runs[names[2]].utility, runs[other].utility)
        what = f"utility per request, trained policy minus {other} (paired)"
        figures.append(Figure(what, where, gap.value, gap.low, gap.high, ""))
    return tuple(figures)


def _core(scenario: Scenario, episodes: int) -> RouterCore:
    return RouterCore(scenario, min(512, episodes), split="eval")


def _ask(scenario: Scenario, episodes: int, turns: int) -> EpisodeRecords:
    core = _core(scenario, episodes)
    return play(AskAgain(Desk(core), core, core.config_names.index(WORKER), turns), core, episodes)


def _ends(estimate: Any, scale: float) -> tuple[float, float, float]:
    return scale * estimate.value, scale * estimate.low, scale * estimate.high
