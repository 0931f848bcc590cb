"""The rules of thumb of workflows, as batched policies over the same observations."""

from __future__ import annotations

import difflib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..envs.lanes import LaneCore
from ..envs.workflow_core import WorkflowCore
from ..envs.workflow_state import Kind
from ..errors import PolicyError
from .baselines import F64, Actor, Bools, Random, Rule
from .workflow_oracle import Oracle

_JUST = 1e-3  # seconds since a failure, if the last action brought it


class WorkflowDesk:
    """What a rule reads: named observation columns; ``abstain`` is what it does when nothing else is open.

    Args:
        core: the core whose observations will be read.
    """

    abstain = int(Kind.ABORT)

    def __init__(self, core: WorkflowCore) -> None:
        self._index = {column.name: i for i, column in enumerate(core.observation_columns)}

    def column(self, observations: NDArray[Any], name: str) -> F64:
        """One named column, ``(n,)``."""
        return observations[:, self._index[name]].astype(np.float64)


class WorkflowRule(Rule):
    """A rule of workflows: a list of (condition, action) pairs, tried in order, the first legal one taken."""

    def __init__(self, desk: WorkflowDesk, core: WorkflowCore) -> None:
        self.desk = desk

    def _read(self, observations: NDArray[Any], *names: str) -> list[F64]:
        return [self.desk.column(observations, name) for name in names]


class HappyPath(WorkflowRule):
    """What a demo agent does: read, call each step once, wait for what is pending, say that it is done."""

    name, summary = "happy-path", "reads, calls each step once with the cheap reasoner, and finishes"

    def _choose(self, observations: NDArray[Any], mask: Bools) -> list[tuple[Any, Any]]:
        unseen, attempts, flying = self._read(observations, "fields.unseen", "step.attempts", "in_flight")
        return [
            (unseen > 0, Kind.FETCH), (attempts == 0, Kind.CALL_CHEAP), (flying > 0, Kind.WAIT), (True, Kind.FINISH),
        ]  # fmt: skip


class RetryN(WorkflowRule):
    """What most agent loops do: repeat what failed, with a pause, a limited number of times."""

    name, summary = "retry-n", "the happy path; backs off and repeats what failed, at most 5 calls per step"
    tries = 5

    def _choose(self, observations: NDArray[Any], mask: Bools) -> list[tuple[Any, Any]]:
        unseen, attempts, flying, since, retry_in, unauthorized, forbidden = self._read(
            observations, "fields.unseen", "step.attempts", "in_flight", "since_failure", "retry_in",
            "last.unauthorized", "last.forbidden",
        )  # fmt: skip
        fresh = since <= _JUST
        return [
            *self._beforehand(observations),
            (forbidden > 0, Kind.ESCALATE),
            ((unauthorized > 0) & fresh, Kind.REFRESH),
            (fresh | (retry_in > 0), Kind.WAIT),
            (unseen > 0, Kind.FETCH),
            (attempts < self.tries, Kind.CALL_CHEAP),
            (flying > 0, Kind.WAIT),
            (mask[:, Kind.CALL_CHEAP], Kind.ESCALATE),  # a step is left that did not work
            (True, Kind.FINISH),
        ]  # fmt: skip

    def _beforehand(self, observations: NDArray[Any]) -> list[tuple[Any, Any]]:
        """Pairs that go before all others."""
        return []


class CircuitBreaker(RetryN):
    """Retries, and leaves a service alone for a while after three failed calls of a step (Nygard 2007)."""

    name, summary = "circuit-breaker", "retry-n; after 3 failed calls of a step nothing for 30 s, then one more try"
    opens_after, cool_down_s = 3, 30.0

    def _beforehand(self, observations: NDArray[Any]) -> list[tuple[Any, Any]]:
        attempts, failed, since = self._read(observations, "step.attempts", "step.failed", "since_failure")
        return [((attempts >= self.opens_after) & (failed > 0) & (since < self.cool_down_s), Kind.WAIT)]


class AlwaysVerify(RetryN):
    """Retries, and reads back every write before it goes on, and undoes what is too much."""

    name, summary = "always-verify", "retry-n; reads every write back and undoes what is too much, checks no field"

    def _beforehand(self, observations: NDArray[Any]) -> list[tuple[Any, Any]]:
        excess, doubt, unverified, since = self._read(
            observations, "excess", "step.unknown", "unverified", "since_failure"
        )
        calm = since > _JUST
        return [(calm & (excess > 0), Kind.COMPENSATE), (calm & ((doubt > 0) | (unverified > 0)), Kind.VERIFY)]


class Playbook(WorkflowRule):
    """A careful operator: check what is written, read back what is in doubt, undo what is too much, ask, hand over."""

    name, summary = "playbook", "checks fields, reads back writes, undoes, refreshes, resyncs, asks, hands over"
    tries = 8

    def _choose(self, observations: NDArray[Any], mask: Bools) -> list[tuple[Any, Any]]:
        read = self._read
        (unseen, fetched, checked, flagged, attempts, flying, doubt, excess, unverified) = read(
            observations, "fields.unseen", "fields.fetched", "fields.checked", "fields.flagged", "step.attempts",
            "in_flight", "step.unknown", "excess", "unverified",
        )  # fmt: skip
        unauthorized, forbidden, not_found, conflict, unprocessable, locked, down = (
            flag > 0
            for flag in read(
                observations, "last.unauthorized", "last.forbidden", "last.not_found", "last.conflict",
                "last.unprocessable", "last.locked", "last.down",
            )
        )  # fmt: skip
        since, synced, retry_in, messages, stuck, questions, token = read(
            observations, "since_failure", "since_resync", "retry_in", "messages", "fields.stuck",
            "questions_left", "token_left",
        )  # fmt: skip
        fresh = since <= _JUST
        resynced = synced < since  # since the last failure
        return [
            (forbidden | (attempts > self.tries), Kind.ESCALATE),
            ((unauthorized & fresh) | (token <= 0), Kind.REFRESH),
            ((conflict | unprocessable) & ~resynced, Kind.RESYNC),
            ((locked | down | not_found) & fresh, Kind.WAIT),
            (retry_in > 0, Kind.WAIT),
            (excess > 0, Kind.COMPENSATE),
            (excess > 0, Kind.ESCALATE),
            (messages > 0, Kind.CLARIFY),
            ((doubt > 0) | (unverified > 0), Kind.VERIFY),
            (unseen > 0, Kind.FETCH),
            *self._look(observations, fetched, checked),
            (flagged > 0, Kind.REPAIR_STRONG),
            ((stuck > 0) & (questions > 0), Kind.CLARIFY),
            (stuck > 0, Kind.ESCALATE),
            *self._before_acting(observations, mask),
            (True, Kind.CALL_CHEAP),
            (flying > 0, Kind.WAIT),
            (True, Kind.FINISH),
        ]  # fmt: skip

    def _look(self, observations: NDArray[Any], fetched: F64, checked: F64) -> list[tuple[Any, Any]]:
        """Pairs that have a reasoner look at fields: at none yet, or the cheap one has."""
        return [((fetched > 0) | (checked > 0), Kind.VALIDATE_STRONG)]

    def _before_acting(self, observations: NDArray[Any], mask: Bools) -> list[tuple[Any, Any]]:
        """Pairs that go before carrying out a step whose fields are in order, and before finishing."""
        return []


class DoubleCheck(Playbook):
    """The playbook, with care where it pays.

    What a step finds out by reading nobody ever reads back, and everything after it depends on it, so both reasoners
    look at its fields: they miss different errors. What is written is read back, so there the cheap one does. A full
    context makes reasoners slip. A request may change without a message after it was read; the read before a write
    brings that to light, for the write before it as well.
    """

    name = "double-check"
    summary = "the playbook; both reasoners check what decides, a clear context for calls, reads again before writes"

    def __init__(self, desk: WorkflowDesk, core: WorkflowCore) -> None:
        super().__init__(desk, core)
        self._crowded = 1.5 * core.spec.session.growth  # more than one call since the context was cleared

    def _look(self, observations: NDArray[Any], fetched: F64, checked: F64) -> list[tuple[Any, Any]]:
        (writes,) = self._read(observations, "step.writes")
        return [(fetched > 0, Kind.VALIDATE_CHEAP), ((checked > 0) & (writes == 0), Kind.VALIDATE_STRONG)]

    def _before_acting(self, observations: NDArray[Any], mask: Bools) -> list[tuple[Any, Any]]:
        context, synced, writes, messages = self._read(
            observations, "context", "since_resync", "step.writes", "messages"
        )
        return [
            ((context > self._crowded) & mask[:, Kind.CALL_CHEAP], Kind.RESYNC),
            ((writes > 0) & (synced <= _JUST), Kind.FETCH),
            (messages > 0, Kind.ESCALATE),  # nobody is left to ask
        ]  # fmt: skip


class AlwaysEscalate(WorkflowRule):
    """Hand everything to a person."""

    name, summary = "always-escalate", "every request to a person"

    def _choose(self, observations: NDArray[Any], mask: Bools) -> list[tuple[Any, Any]]:
        return [(True, Kind.ESCALATE)]


class Null(WorkflowRule):
    """Do nothing: the policy that must fail."""

    name, summary = "null", "aborts at once"

    def _choose(self, observations: NDArray[Any], mask: Bools) -> list[tuple[Any, Any]]:
        return []


_RULES = (
    Random, HappyPath, RetryN, CircuitBreaker, AlwaysVerify, Playbook, DoubleCheck, AlwaysEscalate, Null, Oracle,
)  # fmt: skip
WORKFLOW_BASELINES: dict[str, Any] = {rule.name: rule for rule in _RULES}


def applicable_workflow_baselines(core: LaneCore) -> list[str]:
    """Names of the baselines that make sense in a scenario; ``null``, and ``oracle``, which is none, left out."""
    assert isinstance(core, WorkflowCore)
    names = [name for name in WORKFLOW_BASELINES if name not in ("null", "oracle")]
    return names if core.spec.person is not None else [name for name in names if name != "always-escalate"]


def make_workflow_baseline(name: str, core: LaneCore) -> Actor:
    """Bind the baseline called ``name``, or the oracle, to a core.

    Raises:
        PolicyError: if there is no such baseline.
    """
    assert isinstance(core, WorkflowCore)
    if name not in WORKFLOW_BASELINES:
        near = difflib.get_close_matches(name, WORKFLOW_BASELINES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise PolicyError(f"no baseline {name!r}{hint} Allowed: {', '.join(WORKFLOW_BASELINES)}")
    return Oracle(core) if name == Oracle.name else WORKFLOW_BASELINES[name](WorkflowDesk(core), core)
