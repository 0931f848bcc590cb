"""A workflow small enough to compute by hand, and a driver that plays named actions on it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from brownout.envs.workflow_core import WorkflowCore
from brownout.envs.workflow_state import Belief, Known
from router_support import Turn

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
    data = copy.deepcopy(TINY_WORKFLOW)
    for path, value in changes.items():
        *parents, last = path.split("__")
        target = data
        for key in parents:
            target = target.setdefault(key, {})
        target[last] = value
    data["profiles"]["production"] = [dict(fault) for fault in faults]
    return data


class Bench:
    """One lane, played with action names."""

    def __init__(self, *faults: Mapping[str, Any], seed: int = 0, episode: int = 0, **changes: Any) -> None:
        self.core = WorkflowCore(tiny_workflow(*faults, **changes), 1)
        self.core.trace = []
        self.core.seed(self.core.all_lanes, [seed])
        self.core.begin(self.core.all_lanes, episode)
        self.names = list(self.core.action_names)

    def do(self, *actions: str) -> Turn:
        """Take legal actions and return what the last one did."""
        core = self.core
        for action in actions:
            assert action in self.legal(), f"{action} is not legal; timeline: {core.timeline()}"
            core.advance(np.array([self.names.index(action)]))
        parts = dict(zip(core.component_names, core.components[0].tolist(), strict=True))
        ended = bool(core.terminated[0] or core.truncated[0])
        outcome = core.outcome_names[core.outcome[0]] if ended else ""
        return Turn(float(core.reward[0]), parts, bool(core.terminated[0]), bool(core.truncated[0]), outcome)

    def legal(self) -> set[str]:
        """Names of the actions allowed now."""
        return {name for name, allowed in zip(self.names, self.core.mask()[0], strict=True) if allowed}

    def see(self, column: str) -> float:
        """One named column of the observation."""
        names = [c.name for c in self.core.observation_columns]
        return float(self.core.observe()[0, names.index(column)])

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
    def clock(self) -> float:
        return float(self.core.clock[0])

    @property
    def spend(self) -> float:
        return float(self.core.spend[0])

    @property
    def strikes(self) -> dict[str, int]:
        """How often each fault struck."""
        assert self.core.plan is not None
        return self.core.plan.log.counts
