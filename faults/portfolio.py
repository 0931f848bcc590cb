"""Effects on the portfolio: models and judges that change under their users."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from .base import CallEffect, Memory, Metadata, Stage, check_choice, check_number, check_share
from .calls import ROUTED, Calls, Mask, Status, Verb
from .draws import Draw
from .registry import register_fault

_MACHINES = (Verb.LAUNCH, Verb.REPAIR, Verb.JUDGE)


class _PortfolioEffect(CallEffect):
    category: ClassVar[str] = "portfolio"
    ports: ClassVar[frozenset[str]] = frozenset({"calls", "portfolio"})
    verbs: ClassVar[tuple[Verb, ...]] = ROUTED


@register_fault
@dataclass(frozen=True)
class PriceChange(CallEffect):
    """The price is not what it was. In a workflow that of calls; writing their arguments is not one.

    Args:
        factor: what the bill is multiplied by; below 1 is a price cut.
    """

    factor: float = 2.0
    category: ClassVar[str] = "portfolio"
    default_when: ClassVar[str | None] = "always"
    stage: ClassVar[Stage] = Stage.PRICE
    metadata: ClassVar[Metadata] = Metadata(duration="permanent", kind="value", phase="both", recovery="re-route")

    def __post_init__(self) -> None:
        check_number(self, "factor", at_least=0.0)

    def strike(self, calls: Calls, draw: Draw) -> None:
        """Multiply the bill."""
        calls.charge(self.factor)

    def strengthened(self, factor: float) -> Self:
        """Move the price further from what it was."""
        return replace(self, factor=max(0.0, 1.0 + (self.factor - 1.0) * factor))


@register_fault
@dataclass(frozen=True)
class SilentRegression(_PortfolioEffect):
    """A new version of a model is worse, and nobody said so.

    Args:
        loss: share of its right answers that it no longer gives.
    """

    loss: float = 0.3
    allowed_verbs: ClassVar[tuple[Verb, ...]] = ROUTED
    default_when: ClassVar[str | None] = "sticky(0.1)"
    stage: ClassVar[Stage] = Stage.RESULT
    metadata: ClassVar[Metadata] = Metadata(
        visibility="silent",
        duration="permanent",
        kind="value",
        phase="after",
        recovery="judge the answers, then re-route",
    )

    def __post_init__(self) -> None:
        check_share(self, "loss")

    def strike(self, calls: Calls, draw: Draw) -> Mask:
        """Spoil a share of the right answers; these are the rows hit."""
        return calls.spoil(draw.chance(self.loss))

    def strengthened(self, factor: float) -> Self:
        """Lose more."""
        return replace(self, loss=min(1.0, self.loss * factor))


@register_fault
@dataclass(frozen=True)
class JudgeDrift(_PortfolioEffect):
    """The judge is no longer as good as when it was calibrated: wrong answers pass, right ones fail.

    Args:
        false_positive: added to the probability that a wrong answer is accepted.
        true_positive: added to the probability that a right answer is accepted.
    """

    false_positive: float = 0.15
    true_positive: float = -0.15
    verbs: ClassVar[tuple[Verb, ...]] = (Verb.JUDGE,)
    allowed_verbs: ClassVar[tuple[Verb, ...]] = (Verb.JUDGE,)
    default_when: ClassVar[str | None] = "always"
    stage: ClassVar[Stage] = Stage.RESULT
    metadata: ClassVar[Metadata] = Metadata(
        visibility="silent",
        duration="permanent",
        kind="value",
        disturbs="observation",
        phase="after",
        recovery="trust the judge less",
    )

    def __post_init__(self) -> None:
        for name in ("false_positive", "true_positive"):
            check_number(self, name, at_least=-1.0, at_most=1.0)

    def strike(self, calls: Calls, draw: Draw) -> None:
        """Shift the probability of a pass on the side where the judged answer is."""
        calls.sway(np.where(calls.right, self.true_positive, self.false_positive))

    def strengthened(self, factor: float) -> Self:
        """Drift further."""
        shifts = (min(1.0, max(-1.0, shift * factor)) for shift in (self.false_positive, self.true_positive))
        false_positive, true_positive = shifts
        return replace(self, false_positive=false_positive, true_positive=true_positive)


@register_fault
@dataclass(frozen=True)
class Refusal(_PortfolioEffect):
    """A model declines the task: a short, billed answer of no use. Asking it again does not help.

    Args:
        cost_share: share of the full price that the short answer costs.
        latency_share: share of the full latency that it takes.
    """

    cost_share: float = 0.3
    latency_share: float = 0.3
    allowed_verbs: ClassVar[tuple[Verb, ...]] = ROUTED
    default_when: ClassVar[str | None] = "sticky(0.05)"
    stage: ClassVar[Stage] = Stage.SERVICE
    metadata: ClassVar[Metadata] = Metadata(
        duration="permanent", kind="omission", phase="after", recovery="use another model"
    )

    def __post_init__(self) -> None:
        check_share(self, "cost_share", "latency_share")

    def strike(self, calls: Calls, draw: Draw) -> None:
        """Refuse, at a share of price and time."""
        calls.charge(self.cost_share)
        calls.fail(Status.REFUSED, latency_s=calls.latency_s * self.latency_share, applied=True)


@register_fault
@dataclass(frozen=True)
class CapacityLimit(_PortfolioEffect):
    """A provider runs only so many calls at once; the next ones wait in line or are turned away.

    In line, a call waits ``latency * ahead / limit`` seconds, where ``ahead`` counts the calls in line before
    it and itself: the servers free up once per ``latency / limit`` on average.

    Args:
        limit: calls of one family that run at once.
        mode: ``queue`` or ``reject`` (429).
        retry_after_s: seconds in the Retry-After header of a rejection, 0 for none.
        latency_s: seconds until a rejection arrives.
    """

    limit: int = 2
    mode: Literal["queue", "reject"] = "queue"
    retry_after_s: float = 1.0
    latency_s: float = 0.1
    allowed_verbs: ClassVar[tuple[Verb, ...]] = _MACHINES
    default_when: ClassVar[str | None] = "always"
    stage: ClassVar[Stage] = Stage.ADMISSION
    metadata: ClassVar[Metadata] = Metadata(kind="timing", recovery="run fewer calls at once, or spread them")

    def __post_init__(self) -> None:
        check_number(self, "limit", at_least=1, unit="calls")
        check_choice(self, "mode", ("queue", "reject"))
        check_number(self, "retry_after_s", at_least=0.0, unit="seconds")
        check_number(self, "latency_s", at_least=0.0, unit="seconds")

    def screen(self, calls: Calls, rows: NDArray[np.int64] | None, memory: Memory) -> Mask:
        """Keep the calls that find the provider full."""
        return (calls.concurrent if rows is None else calls.concurrent.take(rows)) >= self.limit

    def strike(self, calls: Calls, draw: Draw) -> None:
        """Queue or reject."""
        if self.mode == "reject":
            calls.fail(Status.RATE_LIMITED, latency_s=self.latency_s, retry_after_s=self.retry_after_s)
        else:
            ahead = np.maximum(calls.concurrent - (self.limit - 1), 0)
            calls.delay(seconds=calls.latency_s * ahead / self.limit)

    def strengthened(self, factor: float) -> Self:
        """Run fewer calls at once."""
        return replace(self, limit=max(1, int(self.limit / factor)))
