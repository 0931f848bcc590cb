"""Effects of services: what goes wrong between a client and a server.

Every one takes the time it takes in production: a time-out lasts until the client gives up, a refusal is
quick. A call whose work was not done costs nothing; one whose work was done is billed in full, even if its
caller never sees the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import FaultError
from .base import CallEffect, Memory, Metadata, Stage, StartDraw, check_choice, check_number, check_share
from .calls import MACHINES, ROUTED, Calls, Mask, Status, Verb
from .draws import Draw
from .registry import register_fault
from .world import Services

SLACK_S = 1e-6
_BY_CODE = {500: Status.SERVER_ERROR, 502: Status.BAD_GATEWAY, 503: Status.UNAVAILABLE}


class _ServiceEffect(CallEffect):
    category: ClassVar[str] = "services"
    allowed_verbs: ClassVar[tuple[Verb, ...]] = MACHINES


@register_fault
@dataclass(frozen=True)
class Timeout(_ServiceEffect):
    """The client gives up waiting; the server may or may not have done the work.

    Args:
        after_s: seconds until the client gives up.
        applied: probability that the server did the work (and bills it).
    """

    after_s: float = 30.0
    applied: float = 0.3
    metadata: ClassVar[Metadata] = Metadata(kind="omission", phase="both", recovery="check, then retry")

    def __post_init__(self) -> None:
        check_number(self, "after_s", above=0.0, unit="seconds")
        check_share(self, "applied")

    def strike(self, calls: Calls, draw: Draw) -> None:
        """Fail after ``after_s``."""
        calls.fail(Status.TIMEOUT, latency_s=self.after_s, applied=draw.chance(self.applied))


@register_fault
@dataclass(frozen=True)
class ConnectionReset(_ServiceEffect):
    """The connection breaks while the client waits.

    Args:
        after_s: seconds until it breaks, at most the latency of the call; None: a random part of the latency.
        applied: probability that the server did the work (and bills it).
    """

    after_s: float | None = None
    applied: float = 0.3
    metadata: ClassVar[Metadata] = Metadata(kind="omission", phase="both", recovery="check, then retry")

    def __post_init__(self) -> None:
        if self.after_s is not None:
            check_number(self, "after_s", at_least=0.0, unit="seconds, or leave it out")
        check_share(self, "applied")

    def strike(self, calls: Calls, draw: Draw) -> None:
        """Fail part-way."""
        applied, part = draw.chance(self.applied), draw.uniform()
        waited = calls.latency_s * part if self.after_s is None else np.minimum(calls.latency_s, self.after_s)
        calls.fail(Status.RESET, latency_s=waited, applied=applied)


@register_fault
@dataclass(frozen=True)
class ServerError(_ServiceEffect):
    """The server answers 500, 502 or 503.

    Args:
        code: the status code.
        latency_s: seconds until the error arrives; None: the latency of the call.
        applied: probability that the server did the work before it failed (and bills it).
        retry_after_s: seconds in the Retry-After header, 0 for none.
    """

    code: int = 500
    latency_s: float | None = 0.5
    applied: float = 0.0
    retry_after_s: float = 0.0
    metadata: ClassVar[Metadata] = Metadata(kind="crash", phase="both", recovery="retry")

    def __post_init__(self) -> None:
        check_choice(self, "code", tuple(_BY_CODE))
        _check_latency(self)
        check_share(self, "applied")
        check_number(self, "retry_after_s", at_least=0.0, unit="seconds")

    def strike(self, calls: Calls, draw: Draw) -> None:
        """Fail with the status of ``code``."""
        calls.fail(
            _BY_CODE[self.code],
            latency_s=self.latency_s,
            applied=draw.chance(self.applied),
            retry_after_s=self.retry_after_s,
        )


@register_fault
@dataclass(frozen=True)
class RateLimit(_ServiceEffect):
    """A token bucket per provider family refuses calls with 429 and says when to come back.

    The bucket refills in virtual time and is shared with other clients of the account. Waiting as long as
    Retry-After says makes the next call succeed. Kept as the generic cell rate algorithm (ITU-T I.371): one
    theoretical arrival time per bucket, equivalent to a token bucket.

    Args:
        per_minute: calls per minute that the account may make.
        burst: calls it may make at once; None: a tenth of ``per_minute``, at least 1.
        retry_after_s: the least Retry-After the server gives, seconds.
        load: share of the refill that other clients use, and of how empty the bucket may be at the start: it
            begins with between ``burst * (1 - min(1, 2 * load))`` and ``burst`` tokens.
        latency_s: seconds until the refusal arrives.
        scope: whether a bucket is kept per ``family`` or per ``service``.
    """

    per_minute: float = 60.0
    burst: int | None = None
    retry_after_s: float = 0.0
    load: float = 0.5
    latency_s: float = 0.1
    scope: Literal["family", "service"] = "family"
    default_when: ClassVar[str | None] = "always"
    stage: ClassVar[Stage] = Stage.ADMISSION
    metadata: ClassVar[Metadata] = Metadata(kind="omission", recovery="wait for Retry-After, then retry")

    def __post_init__(self) -> None:
        check_number(self, "per_minute", above=0.0, unit="calls per minute")
        if self.burst is not None:
            check_number(self, "burst", at_least=1, unit="calls")
        check_number(self, "retry_after_s", at_least=0.0, unit="seconds")
        check_number(self, "load", at_least=0.0, below=1.0)
        _check_latency(self)
        check_choice(self, "scope", ("family", "service"))

    @property
    def size(self) -> float:
        """Tokens the bucket holds."""
        return max(1.0, self.per_minute / 10.0) if self.burst is None else float(self.burst)

    @property
    def interval_s(self) -> float:
        """Seconds per token."""
        return 60.0 / (self.per_minute * (1.0 - self.load))

    def memory(self, services: Services) -> Mapping[str, tuple[int, ...]]:
        """Return one theoretical arrival time per lane and bucket."""
        return {"full_at_s": (len(services.family_names if self.scope == "family" else services.names),)}

    def start(self, memory: Memory, lanes: NDArray[np.int64], draw: StartDraw) -> None:
        """Fill the buckets: one that lacks ``x`` tokens is full again after ``x`` intervals."""
        emptiest = self.size * min(1.0, 2.0 * self.load)
        for bucket in range(memory["full_at_s"].shape[1]):
            memory["full_at_s"][lanes, bucket] = draw.uniform() * (emptiest * self.interval_s)

    def screen(self, calls: Calls, rows: NDArray[np.int64] | None, memory: Memory) -> Mask:
        """Take a token where there is one; refuse the rest."""
        times = memory["full_at_s"]
        lanes, service, now = calls.lanes, calls.service, calls.started_s
        if rows is not None:
            lanes, service, now = lanes.take(rows), service.take(rows), now.take(rows)
        cell = lanes * times.shape[1]
        cell += memory.family_of.take(service) if self.scope == "family" else service
        flat = times.reshape(-1)
        full_at = flat.take(cell)
        refused = full_at - now > self._tolerance
        np.maximum(full_at, now, out=full_at, where=~refused)
        np.add(full_at, self.interval_s, out=full_at, where=~refused)
        flat[cell] = full_at
        return refused

    @property
    def _tolerance(self) -> float:
        # The slack absorbs rounding, so that a client that waits exactly as long as told is let in.
        return (self.size - 1.0) * self.interval_s + SLACK_S

    def strike(self, calls: Calls, draw: Draw) -> None:
        """Refuse, and say when a token is there."""
        assert calls.memory is not None
        times = calls.memory["full_at_s"]
        bucket = calls.memory.family_of.take(calls.service) if self.scope == "family" else calls.service
        wait = times[calls.lanes, bucket] - (self.size - 1.0) * self.interval_s - calls.started_s
        retry = np.maximum(wait, self.retry_after_s)
        calls.fail(Status.RATE_LIMITED, latency_s=self.latency_s, retry_after_s=retry)

    def strengthened(self, factor: float) -> Self:
        """Allow fewer calls per minute."""
        return replace(self, per_minute=self.per_minute / factor, burst=max(1, int(self.size / factor)))


@register_fault
@dataclass(frozen=True)
class Outage(_ServiceEffect):
    """A provider is down: every call to it is refused until it recovers.

    Args:
        family: the provider family that is down; None: whatever the trigger selects.
        status: how its calls end.
        latency_s: seconds until the refusal arrives.
    """

    family: str | None = None
    status: Status = Status.UNAVAILABLE
    latency_s: float = 0.3
    default_when: ClassVar[str | None] = "burst(mean_on=120, mean_off=7200)"
    stage: ClassVar[Stage] = Stage.ADMISSION
    metadata: ClassVar[Metadata] = Metadata(kind="crash", recovery="use another provider, or wait")

    def __post_init__(self) -> None:
        if self.family is not None and (not isinstance(self.family, str) or not self.family):
            raise FaultError(f"family = {self.family!r} is not allowed: must name a provider family")
        object.__setattr__(self, "status", Status.parse(self.status))
        if self.status in (Status.OK, Status.RUNNING):
            raise FaultError(f"status = {self.status.word!r} is not allowed: must be a failure")
        _check_latency(self)

    def serves(self, services: Services) -> Mask | None:
        """Return the services of the family."""
        return None if self.family is None else services.in_family(self.family)

    def strike(self, calls: Calls, draw: Draw) -> None:
        """Refuse."""
        calls.fail(self.status, latency_s=self.latency_s)


@register_fault
@dataclass(frozen=True)
class UnexpectedStatus(_ServiceEffect):
    """The server answers with a status its client has no rule for, such as 409 or 302.

    Args:
        code: the status code.
        latency_s: seconds until it arrives; None: the latency of the call.
        applied: probability that the server did the work all the same (and bills it).
    """

    code: int = 409
    latency_s: float | None = None
    applied: float = 0.0
    metadata: ClassVar[Metadata] = Metadata(kind="value", phase="both", recovery="retry once, then switch")

    def __post_init__(self) -> None:
        check_number(self, "code", at_least=100, at_most=599)
        _check_latency(self)
        check_share(self, "applied")

    def strike(self, calls: Calls, draw: Draw) -> None:
        """Fail as unexpected."""
        calls.fail(Status.UNEXPECTED, latency_s=self.latency_s, applied=draw.chance(self.applied))


@register_fault
@dataclass(frozen=True)
class MalformedBody(_ServiceEffect):
    """The work is done and billed, but the body cannot be parsed (cut off, HTML of a proxy)."""

    stage: ClassVar[Stage] = Stage.RESULT
    metadata: ClassVar[Metadata] = Metadata(
        kind="value", disturbs="observation", phase="after", recovery="check, then retry"
    )

    def strike(self, calls: Calls, draw: Draw) -> None:
        """Make the answer unusable."""
        calls.fail(Status.MALFORMED, applied=True)


@register_fault
@dataclass(frozen=True)
class EmptyResult(_ServiceEffect):
    """The work is done and billed, but nothing comes back."""

    stage: ClassVar[Stage] = Stage.RESULT
    metadata: ClassVar[Metadata] = Metadata(
        kind="omission", disturbs="observation", phase="after", recovery="check, then retry"
    )

    def strike(self, calls: Calls, draw: Draw) -> None:
        """Return nothing."""
        calls.fail(Status.EMPTY, applied=True)


@register_fault
@dataclass(frozen=True)
class PartialResult(_ServiceEffect):
    """Part of the result is missing without a sign of it, so some right answers become wrong.

    Args:
        lost: share of right answers that are lost.
    """

    lost: float = 0.5
    verbs: ClassVar[tuple[Verb, ...]] = (*ROUTED, Verb.FETCH, Verb.VALIDATE)
    allowed_verbs: ClassVar[tuple[Verb, ...]] = (*ROUTED, Verb.FETCH, Verb.VALIDATE, Verb.CALL)
    stage: ClassVar[Stage] = Stage.RESULT
    metadata: ClassVar[Metadata] = Metadata(
        visibility="silent",
        kind="omission",
        disturbs="observation",
        phase="after",
        recovery="judge the answer",
    )

    def __post_init__(self) -> None:
        check_share(self, "lost")

    def strike(self, calls: Calls, draw: Draw) -> Mask:
        """Spoil a share of the right answers; these are the rows hit."""
        return calls.spoil(draw.chance(self.lost))


@register_fault
@dataclass(frozen=True)
class SilentNoop(_ServiceEffect):
    """The server reports success and did nothing: no work, no bill, no right answer."""

    verbs: ClassVar[tuple[Verb, ...]] = (*ROUTED, Verb.CALL, Verb.COMPENSATE)
    allowed_verbs: ClassVar[tuple[Verb, ...]] = (*ROUTED, Verb.CALL, Verb.COMPENSATE)
    stage: ClassVar[Stage] = Stage.RESULT
    metadata: ClassVar[Metadata] = Metadata(visibility="silent", kind="omission", recovery="judge the answer")

    def strike(self, calls: Calls, draw: Draw) -> None:
        """Do nothing, successfully."""
        calls.skip()


def _check_latency(effect: CallEffect) -> None:
    if effect.latency_s is not None:  # pyright: ignore[reportAttributeAccessIssue]
        check_number(effect, "latency_s", at_least=0.0, unit="seconds")
