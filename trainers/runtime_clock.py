"""An event loop on a simulated clock: programs with time-outs and sleeps run at once, and always alike.

Time stands still while anything can run, and jumps to the next timer when nothing can. What runs on it is ordinary
asyncio code; it must not wait for threads, sockets or subprocesses, whose time is another.
"""

from __future__ import annotations

import asyncio
import heapq
import selectors
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar

T = TypeVar("T")


class _JumpingSelector(selectors.SelectSelector):
    """Answers "nothing" at once and lets the clock jump over the time it should have waited."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.timers: list[float] = []

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if not events:
            if timeout is None:
                raise RuntimeError("everything waits for something that no timer of the simulated clock will bring")
            if timeout > 0.0:
                self._jump(self.now + timeout)
        return events

    def _jump(self, target: float) -> None:
        """Go to the timer at ``target``, exactly: the loop told only a difference, which may miss its last bit."""
        while self.timers and self.timers[0] < target - 1e-9:
            heapq.heappop(self.timers)  # it was cancelled, or the loop would have stopped there
        near = self.timers and self.timers[0] <= target + 1e-9
        self.now = self.timers[0] if near else target


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop whose :meth:`time` starts at 0 and passes only in sleeps.

    >>> loop = SimulatedLoop()
    >>> loop.run_until_complete(asyncio.sleep(3600.0)), loop.time()
    (None, 3600.0)
    >>> loop.close()
    """

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Simulated seconds since the loop was made."""
        return self._jumping.now

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Call at simulated time ``when``."""
        heapq.heappush(self._jumping.timers, when)
        return super().call_at(when, callback, *args, context=context)


def run_simulated(main: Coroutine[Any, Any, T]) -> T:
    """Run ``main`` to its end on a fresh simulated clock, as :func:`asyncio.run` does on the real one."""
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        return runner.run(main)
