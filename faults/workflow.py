"""Effects of the workflow: work is interrupted, repeated, reordered, held up, or no longer what was asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from .base import CallEffect, Metadata, Stage, check_number, check_share
from .calls import BUSINESS, Calls, Status, Verb
from .draws import Draw
from .registry import register_fault
from .session import OnceEffect

_WORK = (Verb.FETCH, Verb.VALIDATE, Verb.REPAIR, Verb.CALL)


class WorkflowEffect(CallEffect):
    """Base of the effects that use the port ``workflow``."""

    category: ClassVar[str] = "workflow"
    ports: ClassVar[frozenset[str]] = frozenset({"calls", "workflow"})
    verbs: ClassVar[tuple[Verb, ...]] = (Verb.CALL,)
    allowed_verbs: ClassVar[tuple[Verb, ...]] = (*BUSINESS, Verb.VALIDATE, Verb.REPAIR)
    stage: ClassVar[Stage] = Stage.ADMISSION


@register_fault
@dataclass(frozen=True)
class Interruption(WorkflowEffect):
    """The agent's process dies during a call and starts again with nothing in its hands; the services forget nothing.

    Args:
        restart_s: seconds until it is back.
        applied: probability that the call it died in was carried out.
    """

    restart_s: float = 15.0
    applied: float = 0.5
    verbs: ClassVar[tuple[Verb, ...]] = _WORK
    metadata: ClassVar[Metadata] = Metadata(
        kind="crash", phase="both", recovery="read again, read back every write before repeating it"
    )

    def __post_init__(self) -> None:
        check_number(self, "restart_s", at_least=0.0, unit="seconds")
        check_share(self, "applied")

    def strike(self, calls: Calls, draw: Draw) -> None:
        """Forget, and come back later."""
        calls.fail(Status.RESET, latency_s=calls.latency_s + self.restart_s, applied=draw.chance(self.applied))
        calls.workflow.lose_progress(calls.lanes)

    def strengthened(self, factor: float) -> Self:
        """Take longer to come back."""
        return replace(self, restart_s=self.restart_s * factor)


@register_fault
@dataclass(frozen=True)
class ChangedRequest(WorkflowEffect):
    """The requester changes what a step is about while the agent works on it.

    Args:
        noticed: probability that a message says that something has changed.
    """

    noticed: float = 0.8
    verbs: ClassVar[tuple[Verb, ...]] = (Verb.VALIDATE, Verb.REPAIR, Verb.CALL)
    metadata: ClassVar[Metadata] = Metadata(
        visibility="silent", duration="permanent", kind="timing", recovery="ask or read again, then undo and redo"
    )

    def __post_init__(self) -> None:
        check_share(self, "noticed")

    def strike(self, calls: Calls, draw: Draw) -> None:
        """Change it."""
        calls.workflow.change_request(calls.lanes, draw.chance(self.noticed))


@register_fault
@dataclass(frozen=True)
class OutOfOrderInput(WorkflowEffect):
    """The input of a step has not arrived yet, though the step before it is done: 404 until it does.

    Args:
        mean_s: mean seconds until it is there (exponential).
    """

    mean_s: float = 20.0
    verbs: ClassVar[tuple[Verb, ...]] = (Verb.FETCH,)
    allowed_verbs: ClassVar[tuple[Verb, ...]] = (Verb.FETCH, Verb.CALL)
    metadata: ClassVar[Metadata] = Metadata(kind="timing", recovery="wait, or work on another branch")

    def __post_init__(self) -> None:
        check_number(self, "mean_s", above=0.0, unit="seconds")

    def strike(self, calls: Calls, draw: Draw) -> None:
        """Hold the input back."""
        calls.workflow.hold_input(calls.lanes, draw.exponential(self.mean_s))

    def strengthened(self, factor: float) -> Self:
        """Hold it back longer."""
        return replace(self, mean_s=self.mean_s * factor)


@register_fault
@dataclass(frozen=True)
class SchemaDrift(WorkflowEffect, OnceEffect):
    """A service renames its fields: 422 until the agent has read the new interface. Once per service and episode."""

    verbs: ClassVar[tuple[Verb, ...]] = (Verb.FETCH, Verb.CALL)
    allowed_verbs: ClassVar[tuple[Verb, ...]] = (Verb.FETCH, Verb.CALL)
    metadata: ClassVar[Metadata] = Metadata(duration="permanent", kind="value", recovery="resync, then retry")

    def strike(self, calls: Calls, draw: Draw) -> None:
        """Rename."""
        calls.workflow.rename_fields(calls.lanes, calls.service)


@register_fault
@dataclass(frozen=True)
class DuplicateSubmission(WorkflowEffect):
    """The request was submitted twice, and somebody else has just carried out the step."""

    verbs: ClassVar[tuple[Verb, ...]] = _WORK
    metadata: ClassVar[Metadata] = Metadata(
        visibility="silent", duration="permanent", kind="value", recovery="read back before and after a write, undo"
    )

    def strike(self, calls: Calls, draw: Draw) -> None:
        """Let the twin do it."""
        calls.workflow.resubmit(calls.lanes)


@register_fault
@dataclass(frozen=True)
class PendingApproval(WorkflowEffect):
    """A write is accepted with 202 and takes effect only when somebody has approved it.

    Args:
        mean_s: mean seconds until it is approved (exponential).
    """

    mean_s: float = 60.0
    allowed_verbs: ClassVar[tuple[Verb, ...]] = (Verb.CALL,)
    metadata: ClassVar[Metadata] = Metadata(kind="timing", phase="after", recovery="wait, or work on another branch")

    def __post_init__(self) -> None:
        check_number(self, "mean_s", above=0.0, unit="seconds")

    def strike(self, calls: Calls, draw: Draw) -> None:
        """Hold it."""
        calls.workflow.hold_approval(calls.lanes, draw.exponential(self.mean_s))

    def strengthened(self, factor: float) -> Self:
        """Take longer to approve."""
        return replace(self, mean_s=self.mean_s * factor)
