"""What happened in one workflow episode, action by action: who worked, what came back, what stands, what was believed.

Like :mod:`.episode_events` this is read off the state of a one-lane core before and after every step, so it holds what
the simulation did. It includes what no policy can see: which effects stand on the servers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from ..envs.workflow_core import WorkflowCore
from ..envs.workflow_state import DONE, IN_FLIGHT, SKIPPED, TODO, UNKNOWN, Kind
from ..faults import Status
from .episode_events import Span

Change = Literal["stands", "wrong", "twice", "stray", "undone"]
BELIEFS: Final = {TODO: "to do", DONE: "done", UNKNOWN: "unknown", IN_FLIGHT: "in flight", SKIPPED: "ruled out"}
_WRITERS: Final = {Kind.CALL_CHEAP: "cheap", Kind.CALL_STRONG: "strong", Kind.DISPATCH: "strong"}


@dataclass(frozen=True)
class Moment:
    """One action of a workflow episode; the first one of all is its beginning, before any action.

    Args:
        action: name of the action, empty for the beginning.
        about: the step or record that it was about; empty where there is none.
        result: the answer in words, as the agent got it; empty where nothing was asked.
        start_s: seconds from the start of the episode to the action.
        end_s: the same to the next action.
        spans: who worked in it; a call that runs on in the background ends when its answer is there.
        beliefs: by step what the agent believes of it afterwards, in the words of :data:`BELIEFS`.
        changes: what became of the effects on the servers, as (step, change): the step's effect now ``stands``, stands
            ``wrong`` or ``twice``, is a ``stray`` one that nobody asked for, or has been ``undone``.
    """

    action: str
    about: str
    result: str
    start_s: float
    end_s: float
    spans: tuple[Span, ...]
    beliefs: dict[str, str]
    changes: tuple[tuple[str, Change], ...]


class WorkflowRecorder:
    """Collects the moments of lane 0; make it when an episode has begun, and call ``before`` and ``after`` each step.

    Args:
        core: the core that is played, with its timeline on.
    """

    def __init__(self, core: WorkflowCore) -> None:
        self.core = core
        self.moments: list[Moment] = []
        self._lane = np.zeros(1, np.int64)
        self._copy()
        self._applied[:] = 0  # so that what earlier work has left behind shows
        self._add("", "", "", ())

    @property
    def spans(self) -> list[Span]:
        """Everything that took time, in the order in which it began."""
        return [span for moment in self.moments for span in moment.spans]

    def _copy(self) -> None:
        core = self.core
        self._clock, self._spend = float(core.clock[0]), float(core.spend[0])
        self._made, self._flights = core.made[0].copy(), core.flight_until[0].copy()
        self._applied, self._stray, self._bad = core.applied[0].copy(), core.stray[0].copy(), core.bad[0].copy()
        self._legal = core.mask()[0]
        self._record = int(core._record_of(self._lane, core.cursor[:1])[0])

    def before(self) -> None:
        """Remember the state that a step starts from."""
        self._copy()

    def after(self, action: int) -> None:
        """Record what the step with this action did."""
        core, kind = self.core, Kind(action)
        if not self._legal[action]:
            self._add(core.action_names[action], "", "not allowed", ())
        elif kind < Kind.WAIT:
            self._add(core.action_names[action], self._about(kind), _word(core.answer[0]), self._call(kind))
        elif kind == Kind.WAIT:
            self._wait()
        elif kind == Kind.SWITCH:
            self._add("switch", core.step_names[int(core.cursor[0])], "", ())
        else:
            person = (Span("person", "person", self._clock, float(core.clock[0]), "", self._cost()),)
            self._add(core.action_names[action], "", "", person if kind == Kind.ESCALATE else ())

    def _about(self, kind: Kind) -> str:
        core = self.core
        if kind == Kind.FETCH:
            return core.record_names[self._record]
        step = int(core.target[0])
        alone = kind in (Kind.REFRESH, Kind.RESYNC, Kind.CLARIFY) or step == core.num_steps
        return "" if alone else core.step_names[step]

    def _call(self, kind: Kind) -> tuple[Span, ...]:
        """The reasoner that wrote the arguments, if one did, and the service."""
        core, end = self.core, float(self.core.clock[0])
        service = int(np.flatnonzero(core.made[0] != self._made)[0])
        begins = min(core.started_s, end)
        flight = core.flight_until[0]
        new = np.isfinite(flight) & (flight != self._flights)
        if new.any():
            end = float(flight[new][0])
        result, cost = _word(core.answer[0]), self._cost()
        call = Span("call", core.services.names[service], begins, end, result, cost)
        writer = _WRITERS.get(kind)
        return (call,) if writer is None else (Span("think", writer, self._clock, begins, "", None), call)

    def _wait(self) -> None:
        """A wait ends with an answer from the background, or with nothing."""
        core = self.core
        landed = np.flatnonzero(np.isfinite(self._flights) & ~np.isfinite(core.flight_until[0]))
        if landed.size:
            self._add("wait", core.step_names[int(landed[0])], _word(core.answer[0]), ())
        else:
            self._add("wait", "", "", (Span("pause", "", self._clock, float(core.clock[0]), "", None),))

    def _cost(self) -> float:
        return float(self.core.spend[0]) - self._spend

    def _add(self, action: str, about: str, result: str, spans: tuple[Span, ...]) -> None:
        core = self.core
        codes = core.belief[0, : core.num_steps].tolist()
        beliefs = {name: BELIEFS[code] for name, code in zip(core.step_names, codes, strict=True)}
        end = float(core.clock[0])
        self.moments.append(Moment(action, about, result, self._clock, end, spans, beliefs, self._changes()))

    def _changes(self) -> tuple[tuple[str, Change], ...]:
        """Steps whose effects on the servers are not what they were, and what they are now."""
        core, found = self.core, list[tuple[str, Change]]()
        for i in np.flatnonzero(core.writes[: core.num_steps]).tolist():
            was = self._applied[i], self._stray[i], bool(self._bad[i])
            count, stray, bad = (now := (core.applied[0, i], core.stray[0, i], bool(core.bad[0, i])))
            if now != was:
                bad |= bool(core.banned[0, i])
                change: Change = "stray" if stray else "twice" if count > 1 else "wrong" if bad else "stands"
                found.append((core.step_names[i], change if count or stray else "undone"))
        return tuple(found)


def _word(status: Any) -> str:
    return Status(int(status)).word.replace("-", " ")
