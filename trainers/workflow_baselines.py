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
from .baselines import F64, Bools, Random, Rule


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
        fresh = since <= 1e-3  # the last action brought this answer
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
            ((fetched > 0) | (checked > 0), Kind.VALIDATE_STRONG),
            (flagged > 0, Kind.REPAIR_STRONG),
            ((stuck > 0) & (questions > 0), Kind.CLARIFY),
            (stuck > 0, Kind.ESCALATE),
            (True, Kind.CALL_CHEAP),
            (flying > 0, Kind.WAIT),
            (True, Kind.FINISH),
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


WORKFLOW_BASELINES: dict[str, Any] = {
    rule.name: rule for rule in (Random, HappyPath, Playbook, AlwaysEscalate, Null)
}  # fmt: skip


def applicable_workflow_baselines(core: LaneCore) -> list[str]:
    """Names of the baselines that make sense in a scenario, ``null`` left out."""
    assert isinstance(core, WorkflowCore)
    names = [name for name in WORKFLOW_BASELINES if name != "null"]
    return names if core.spec.person is not None else [name for name in names if name != "always-escalate"]


def make_workflow_baseline(name: str, core: LaneCore) -> Rule:
    """Bind the baseline called ``name`` to a core.

    Raises:
        PolicyError: if there is no such baseline.
    """
    assert isinstance(core, WorkflowCore)
    if name not in WORKFLOW_BASELINES:
        near = difflib.get_close_matches(name, WORKFLOW_BASELINES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise PolicyError(f"no baseline {name!r}{hint} Allowed: {', '.join(WORKFLOW_BASELINES)}")
    return WORKFLOW_BASELINES[name](WorkflowDesk(core), core)
