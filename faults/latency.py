"""Effects on latency: the answer is right and comes late."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from .base import CallEffect, Memory, Metadata, Stage, check_number
from .calls import MACHINES, Calls, Mask, Verb
from .draws import Draw
from .registry import register_fault


class _LatencyEffect(CallEffect):
    category: ClassVar[str] = "latency"
    stage: ClassVar[Stage] = Stage.SERVICE
    metadata: ClassVar[Metadata] = Metadata(kind="timing", phase="both", recovery="wait, race or cancel")


@register_fault
@dataclass(frozen=True)
class SlowResponse(_LatencyEffect):
    """The call takes several times as long, with a heavy tail if asked for.

    Args:
        factor: how many times as long at the least.
        tail: exponent of a Pareto tail on top (smaller is heavier, at least 1.05); None: no tail.
    """

    factor: float = 4.0
    tail: float | None = None

    def __post_init__(self) -> None:
        check_number(self, "factor", at_least=1.0)
        if self.tail is not None:
            check_number(self, "tail", at_least=1.05)

    def strike(self, calls: Calls, draw: Draw) -> None:
        """Lengthen the call by ``factor``, times a Pareto draw of at least 1."""
        calls.delay(factor=self.factor if self.tail is None else draw.pareto(self.tail) * self.factor)


@register_fault
@dataclass(frozen=True)
class LoadLatency(_LatencyEffect):
    """Calls slow each other down: the latency grows with the calls already running at the provider.

    Args:
        slope: share of its latency that a call gains per running call of the same family.
    """

    slope: float = 0.25
    default_when: ClassVar[str | None] = "always"

    def __post_init__(self) -> None:
        check_number(self, "slope", at_least=0.0)

    def screen(self, calls: Calls, rows: NDArray[np.int64] | None, memory: Memory) -> Mask:
        """Keep the calls that are not alone."""
        return (calls.concurrent if rows is None else calls.concurrent.take(rows)) > 0

    def strike(self, calls: Calls, draw: Draw) -> None:
        """Lengthen the call by ``1 + slope * concurrent``."""
        calls.delay(factor=1.0 + calls.concurrent.astype(np.float64) * self.slope)

    def strengthened(self, factor: float) -> Self:
        """Steepen the slope."""
        return replace(self, slope=self.slope * factor)


@register_fault
@dataclass(frozen=True)
class AsyncPolling(_LatencyEffect):
    """The answer is fetched by polling, so it is seen at the next poll after it is ready.

    Args:
        poll_s: seconds between polls.
    """

    poll_s: float = 5.0
    allowed_verbs: ClassVar[tuple[Verb, ...]] = MACHINES
    default_when: ClassVar[str | None] = "always"

    def __post_init__(self) -> None:
        check_number(self, "poll_s", above=0.0, unit="seconds")

    def strike(self, calls: Calls, draw: Draw) -> None:
        """Round the latency up to a whole number of polls, at least one."""
        polls = np.maximum(np.ceil(calls.latency_s / self.poll_s), 1.0)
        calls.delay(seconds=polls * self.poll_s, factor=0.0)

    def strengthened(self, factor: float) -> Self:
        """Poll less often."""
        return replace(self, poll_s=self.poll_s * factor)
