"""What the runtime hands back, and the record of a call that it placed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..envs.lanes import Bools
from .runtime_calls import Ended, LiveCall


@dataclass(frozen=True)
class Step:
    """One decision, as an observer sees it.

    Args:
        query_id: the task.
        run: which solution of it.
        observation: ``(D,)`` what the policy saw.
        mask: ``(A,)`` what it was allowed.
        action: what it chose.
    """

    query_id: str
    run: int
    observation: NDArray[np.float32]
    mask: Bools
    action: int


@dataclass(frozen=True)
class Decision:
    """What came of one task.

    Args:
        query_id: the task.
        run: which solution of it, from 0.
        outcome: ``submitted``, ``escalated``, ``abstained``, ``limit`` (budget, deadline or steps), or
            ``harness_error`` when policy or hooks broke.
        answer: the submitted answer, or the person's; None otherwise.
        config: configuration that made ``answer``, or ``person``.
        candidate: the best answer in hand at the end, submitted or not.
        accepted: the judge's verdict on it, None without one.
        spend_usd: cost of all calls to configurations and the judge.
        person_usd: cost of the person, which no budget limits.
        budget_usd: the budget.
        clock_s: seconds from the start to the decision.
        steps: decisions taken.
        calls: rows of the log, in the order in which calls ended.
        refused: decisions at which the budget hid an action that the policy could have taken otherwise.
        overruns: calls that cost more than was declared.
        leaked: calls that would not stop.
        timeline: what happened, one line each.
        error: why the harness gave up.
    """

    query_id: str
    run: int
    outcome: str
    answer: Any = None
    config: str | None = None
    candidate: Any = None
    accepted: bool | None = None
    spend_usd: float = 0.0
    person_usd: float = 0.0
    budget_usd: float = math.inf
    clock_s: float = 0.0
    steps: int = 0
    calls: tuple[dict[str, Any], ...] = ()
    refused: int = 0
    overruns: int = 0
    leaked: int = 0
    timeline: tuple[str, ...] = ()
    error: str | None = None


@dataclass
class Placed:
    """A call that was placed: who, what is set aside for it, and how it runs.

    Args:
        kind: ``launch``, ``repair``, ``judge`` or ``person``.
        config: configuration, or ``judge`` or ``person``.
        sample: number of the call of this configuration on this task in the log.
        column: column of the core, -1 for judge and person.
        expected_usd: price to expect.
        expected_s: time to expect.
        most_usd: declared highest cost, None if none is.
        live: the call itself.
        cost_usd: what it cost, once it has ended.
        about: the judged call.
    """

    kind: str
    config: str
    sample: int
    column: int
    expected_usd: float
    expected_s: float
    most_usd: float | None
    live: LiveCall = field(init=False)
    cost_usd: float = 0.0
    about: Placed | None = None

    @property
    def result(self) -> Ended:
        """How it ended; only once it has."""
        assert self.live.result is not None, "the call has not ended"
        return self.live.result

    @property
    def reserve(self) -> float:
        """Money to set aside while it runs."""
        return self.expected_usd if self.most_usd is None else self.most_usd
