"""A workflow small enough to compute by hand, and a driver that plays named actions on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from brownout.envs.workflow_core import WorkflowCore
from brownout.envs.workflow_state import Belief, Known
from lane_support import OneLane, changed

# Every latency and price is a constant; `cheap` sees and mends nothing, `strong` everything; nobody slips.
TINY_WORKFLOW: dict[str, Any] = {
    "version": 1,
    "name": "tiny-workflow",
    "env": "workflow",
    "records": {
        "customer": {"service": "crm", "fields": {"name": "text", "email": "email"}},
        "order": {"service": "shop", "fields": {"total": "amount"}},
    },
    "services": {
        "crm": {"family": "suite", "latency_s": 1.0, "cost_usd": 0.0, "strict": 0.0},
        "shop": {"family": "suite", "latency_s": 2.0, "cost_usd": 0.0, "strict": 0.0},
        "bank": {"family": "bank", "latency_s": 4.0, "cost_usd": 0.25, "strict": 0.0},
    },
    "reasoners": {
        "cheap": {"family": "a", "latency_s": 0.5, "cost_usd": 0.125, "detect": 0, "mend": 0, "slip": 0, "obey": 1,
                  "false_alarm": 0},
        "strong": {"family": "b", "latency_s": 8.0, "cost_usd": 0.5, "detect": 1, "mend": 1, "slip": 0, "obey": 0,
                   "false_alarm": 0},
    },
    "token": {"ttl_s": 512.0, "latency_s": 0.5, "cost_usd": 0.0},
    "session": {"growth": 0.0, "surcharge": 1.0, "confusion": 0.0},
    "requester": {"knows": 1.0, "patience": 2, "latency_s": 32.0, "cost_usd": 0.0625},
    "person": {"accuracy": 1.0, "cost_usd": 2.0, "latency_s": 128.0},
    "steps": {
        "locate": {"service": "crm", "needs": ["customer.name"]},
        "pay": {"service": "bank", "needs": ["order.total"], "after": ["locate"], "writes": True, "idempotency": "key",
                "compensable": True},
        "tell": {"service": "crm", "needs": ["customer.email"], "after": ["pay"], "writes": True,
                 "idempotency": "natural"},
    },
    "limits": {"budget_usd": 16.0, "deadline_s": 1024.0, "max_steps": 40, "backoff_s": 3.0},
    "reward": {"accuracy": 1.0, "per_usd": 0.0, "per_s": 0.0, "wrong_answer": -0.5, "handoff": 0.75},
    "profiles": {"clean": []},
}  # fmt: skip
HAPPY = ("fetch", "call:cheap", "fetch", "call:cheap", "call:cheap", "finish")


def tiny_workflow(*faults: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """The scenario with some fields changed (``steps__pay__idempotency="none"``), and ``faults`` in production."""
    return changed(TINY_WORKFLOW, faults, changes)


class Bench(OneLane[WorkflowCore]):
    """One lane of the workflow, played with the names of legal actions, with a timeline."""

    def __init__(self, *faults: Mapping[str, Any], seed: int = 0, episode: int = 0, **changes: Any) -> None:
        core = WorkflowCore(tiny_workflow(*faults, **changes), 1)
        core.trace = []
        super().__init__(core, seed, episode)

    def take(self, action: str) -> None:
        assert action in self.legal(), f"{action} is not legal; timeline: {self.core.timeline()}"
        super().take(action)

    def at(self, step: str) -> int:
        """Column of a step."""
        return self.core.step_names.index(step)

    def belief(self, step: str) -> Belief:
        return Belief(int(self.core.belief[0, self.at(step)]))

    def applied(self, step: str) -> int:
        return int(self.core.applied[0, self.at(step)])

    def known(self, field: str) -> Known:
        return Known(int(self.core.known[0, self.core.field_names.index(field)]))

    @property
    def current(self) -> str:
        """Name of the current step, empty if there is none."""
        return [*self.core.step_names, ""][int(self.core.cursor[0])]

    @property
    def strikes(self) -> dict[str, int]:
        """How often each fault struck."""
        assert self.core.plan is not None
        return self.core.plan.log.counts
