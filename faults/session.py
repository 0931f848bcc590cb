"""Effects of auth and session: tokens that end, scopes that are taken away, sessions that are no longer what they were.

Each moves hidden state through the port ``session``; that a later call is refused, or goes wrong without a sign,
follows from that state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from .base import CallEffect, Memory, Metadata, Stage, check_number, check_share
from .calls import BUSINESS, Calls, Mask, Status, Verb
from .draws import Draw
from .registry import register_fault
from .world import Services

_DECIDING = (Verb.VALIDATE, Verb.REPAIR, Verb.CALL)


class SessionEffect(CallEffect):
    """Base of the effects that use the port ``session``."""

    category: ClassVar[str] = "session"
    ports: ClassVar[frozenset[str]] = frozenset({"calls", "session"})
    verbs: ClassVar[tuple[Verb, ...]] = (Verb.CALL,)
    allowed_verbs: ClassVar[tuple[Verb, ...]] = (*BUSINESS, Verb.VALIDATE, Verb.REPAIR)
    stage: ClassVar[Stage] = Stage.ADMISSION


class OnceEffect(CallEffect):
    """Base of effects that strike each service at most once in an episode, and last."""

    def memory(self, services: Services) -> Mapping[str, tuple[int, ...]]:
        """Return one mark per service."""
        return {"struck": (len(services.names),)}

    def screen(self, calls: Calls, rows: NDArray[np.int64] | None, memory: Memory) -> Mask:
        """Keep the calls to services that have not been struck, and mark them."""
        lanes, service = calls.lanes, calls.service
        if rows is not None:
            lanes, service = lanes.take(rows), service.take(rows)
        fresh = memory["struck"][lanes, service] == 0
        memory["struck"][lanes, service] = 1.0
        return fresh


@register_fault
@dataclass(frozen=True)
class ExpiredToken(SessionEffect):
    """The token ends before the time that the agent was told: calls are refused with 401 until it is refreshed.

    Args:
        midway: probability that it ends in the middle of the call: the work is done and billed, and the answer is
            401 all the same.
    """

    midway: float = 0.2
    verbs: ClassVar[tuple[Verb, ...]] = BUSINESS
    allowed_verbs: ClassVar[tuple[Verb, ...]] = BUSINESS
    metadata: ClassVar[Metadata] = Metadata(kind="omission", phase="both", recovery="refresh, check, then retry")

    def __post_init__(self) -> None:
        check_share(self, "midway")

    def strike(self, calls: Calls, draw: Draw) -> None:
        """End the token before the call, or at its end."""
        midway = draw.chance(self.midway)
        calls.session.expire_token(calls.lanes, np.where(midway, calls.started_s + calls.latency_s, 0.0))
        calls.fail(Status.UNAUTHORIZED, applied=True, where=midway)


@register_fault
@dataclass(frozen=True)
class RefreshFailure(SessionEffect):
    """A refresh fails, or another client refreshes at the same time and the token just received is already void.

    Args:
        race: probability of the second: the refresh looks fine.
        latency_s: seconds until the error arrives.
    """

    race: float = 0.3
    latency_s: float = 1.0
    verbs: ClassVar[tuple[Verb, ...]] = (Verb.REFRESH,)
    allowed_verbs: ClassVar[tuple[Verb, ...]] = (Verb.REFRESH,)
    metadata: ClassVar[Metadata] = Metadata(kind="omission", recovery="refresh again")

    def __post_init__(self) -> None:
        check_share(self, "race")
        check_number(self, "latency_s", at_least=0.0, unit="seconds")

    def strike(self, calls: Calls, draw: Draw) -> None:
        """Fail, or bring a token that is worth nothing."""
        raced = draw.chance(self.race)
        calls.spoil(raced)
        calls.fail(Status.SERVER_ERROR, latency_s=self.latency_s, where=~raced)


@register_fault
@dataclass(frozen=True)
class RevokedScope(SessionEffect, OnceEffect):
    """The agent may no longer use a service: 403 for the rest of the episode."""

    metadata: ClassVar[Metadata] = Metadata(duration="permanent", kind="omission", recovery="hand over to a person")

    def strike(self, calls: Calls, draw: Draw) -> None:
        """Take the scope away."""
        calls.session.revoke_scope(calls.lanes, calls.service)


@register_fault
@dataclass(frozen=True)
class StaleSession(SessionEffect):
    """Somebody else changes the records while the agent works with what it has read.

    A strict service refuses an outdated version with 409; another one takes it, and the effect is wrong.
    """

    verbs: ClassVar[tuple[Verb, ...]] = _DECIDING
    metadata: ClassVar[Metadata] = Metadata(
        visibility="silent", kind="timing", recovery="resync, read again, read back what was written"
    )

    def strike(self, calls: Calls, draw: Draw) -> None:
        """Move the versions."""
        calls.session.move_version(calls.lanes)


@register_fault
@dataclass(frozen=True)
class LeftoverDraft(SessionEffect):
    """An unfinished draft of earlier work is in the way: 409 until the session is set up anew."""

    metadata: ClassVar[Metadata] = Metadata(kind="value", recovery="resync, then retry")

    def strike(self, calls: Calls, draw: Draw) -> None:
        """Leave a draft."""
        calls.session.leave_draft(calls.lanes)


@register_fault
@dataclass(frozen=True)
class HeldLock(SessionEffect):
    """Somebody holds a lock on what the step writes: 423, with a Retry-After.

    Args:
        mean_s: mean length of the lock, seconds (exponential).
    """

    mean_s: float = 20.0
    metadata: ClassVar[Metadata] = Metadata(kind="timing", recovery="wait for Retry-After, then retry")

    def __post_init__(self) -> None:
        check_number(self, "mean_s", above=0.0, unit="seconds")

    def strike(self, calls: Calls, draw: Draw) -> None:
        """Lock."""
        calls.session.lock(calls.lanes, draw.exponential(self.mean_s))

    def strengthened(self, factor: float) -> Self:
        """Hold it longer."""
        return replace(self, mean_s=self.mean_s * factor)


@register_fault
@dataclass(frozen=True)
class ContextBloat(SessionEffect):
    """A call returns far more than was asked for; the context fills, and reasoners become dearer and less careful.

    Args:
        share: share of the context window that is filled.
    """

    share: float = 0.4
    verbs: ClassVar[tuple[Verb, ...]] = (Verb.FETCH, Verb.CALL, Verb.VERIFY)
    metadata: ClassVar[Metadata] = Metadata(duration="permanent", kind="value", disturbs="observation",
                                            phase="after", recovery="resync, which clears the context")  # fmt: skip

    def __post_init__(self) -> None:
        check_share(self, "share")

    def strike(self, calls: Calls, draw: Draw) -> None:
        """Fill the context."""
        calls.session.grow_context(calls.lanes, self.share)

    def strengthened(self, factor: float) -> Self:
        """Fill more of it."""
        return replace(self, share=min(1.0, self.share * factor))


@register_fault
@dataclass(frozen=True)
class TenantBleed(SessionEffect):
    """The session carries the state of another customer: reads bring their records, writes change their account."""

    verbs: ClassVar[tuple[Verb, ...]] = (Verb.FETCH, Verb.CALL)
    metadata: ClassVar[Metadata] = Metadata(
        visibility="silent", duration="permanent", kind="value", recovery="read back, resync, undo, then retry"
    )

    def strike(self, calls: Calls, draw: Draw) -> None:
        """Switch."""
        calls.session.switch_tenant(calls.lanes)
