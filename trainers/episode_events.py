"""What happened in one episode, as spans on the clock: calls, judgements, hand-overs, pauses.

The spans are read off the state of a one-lane core before and after every step, so they hold what the simulation
did and not what a text says about it. They include what no policy can see: whether an answer was right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..envs.router_core import RouterCore
from ..faults import Status
from ..rewards.components import HANDOFF

SpanKind = Literal["call", "repair", "judge", "think", "person", "pause"]


@dataclass(frozen=True)
class Span:
    """One stretch of an episode.

    Args:
        kind: ``call``, ``repair``, ``judge``, ``think`` (a reasoner in a workflow), ``person``, or ``pause`` where
            nothing ran.
        who: the configuration, service or reasoner; for ``judge`` and ``person`` the same word.
        start_s: seconds from the start of the episode.
        end_s: seconds from the start of the episode.
        result: in the router ``right`` or ``wrong`` for answers, the status in words for failures, ``cancelled``;
            ``accepts``, ``rejects`` or ``no verdict`` for the judge; in a workflow the status in words; empty for a
            pause.
        cost_usd: USD; None for what was cancelled, which is charged by the share of its time.
    """

    kind: SpanKind
    who: str
    start_s: float
    end_s: float
    result: str
    cost_usd: float | None


class EpisodeRecorder:
    """Collects the spans of lane 0; call :meth:`before` and :meth:`after` around every step.

    Args:
        core: the core that is played.
    """

    def __init__(self, core: RouterCore) -> None:
        self.core = core
        self.spans: list[Span] = []
        self._open: dict[int, SpanKind] = {}  # call record -> how it began
        self._clock, self._spend, self._used, self._judged = 0.0, 0.0, 0, 0
        self._value: Any = None
        self._scores: Any = None

    def before(self) -> None:
        """Remember the state that a step starts from."""
        core = self.core
        self._clock, self._spend = float(core.clock[0]), float(core.spend[0])
        self._used, self._judged = int(core.used[0]), int(core.judgements[0].sum())
        self._value, self._scores = core.value[0].copy(), core.scores[0].copy()

    def after(self, action: int) -> None:
        """Record what the step with this action did."""
        core, name = self.core, self.core.action_names[action]
        for record in range(self._used, int(core.used[0])):
            self._open[record] = "repair" if name == "repair" else "call"
        if int(core.judgements[0].sum()) > self._judged:
            judge = name.partition(":")[2] or name
            self._add("judge", judge, self._verdict(), float(core.spend[0]) - self._spend)
        elif name == "escalate" and core.terminated[0]:
            right = bool(core.components[0, HANDOFF])
            self._add("person", "person", "right" if right else "wrong", None)
        elif name == "wait" and not self._open:
            self._add("pause", "", "", None)
        stopped = self._clock if name == "escalate" else float(core.clock[0])  # calls end before a person begins
        for record in [r for r in self._open if not np.isfinite(core.finish[0, r])]:
            self._close(record, stopped)

    def _verdict(self) -> str:
        """What the judgement of this step said."""
        core = self.core
        if not core.weighs:
            changed = core.value[0][core.value[0] != self._value]
            return "no verdict" if not changed.size else "accepts" if changed[0] >= 2 else "rejects"
        changed = core.scores[0][core.scores[0] != self._scores]
        if not changed.size:
            return "no verdict"
        return f"scores {changed[0]:.2f}" if core.graded else "accepts" if changed[0] > 0 else "rejects"

    def _add(self, kind: SpanKind, who: str, result: str, cost: float | None) -> None:
        end = float(self.core.clock[0])
        if end > self._clock or kind != "pause":
            self.spans.append(Span(kind, who, self._clock, end, result, cost))

    def _close(self, record: int, end: float) -> None:
        core, kind = self.core, self._open.pop(record)
        status = Status(int(core.status[0, record]))
        result = status.name.lower().replace("_", " ")
        if status == Status.OK:
            result = "right" if core.right[0, record] else "wrong"
        cost = None if status == Status.CANCELLED else float(core.cost[0, record])
        who = core.config_names[int(core.config[0, record])]
        self.spans.append(Span(kind, who, float(core.start[0, record]), end, result, cost))
