"""One real call: what it may return, how its exceptions read as statuses, and how it is stopped for certain."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np

from ..faults import Status
from .live_core import CallableError
from .runtime_status import StatusTable, seconds_of, visible_status

# A call that ended like this may have done work that is billed; a call refused at the door did not.
UNCERTAIN: Final = (Status.TIMEOUT, Status.CANCELLED)


@dataclass(frozen=True)
class Answer:
    """What a call returns.

    Args:
        answer: anything; None stands for an empty answer.
        cost_usd: what the call cost; None when it is not known, and then the expected price is booked.
        status: how it ended, a :class:`~brownout.faults.Status` or its word; ``ok`` by default.
        retry_after_s: seconds after which the service invites a retry.
        n_calls: requests or turns it took.
        tokens_in: tokens sent.
        tokens_out: tokens received.
        error: text for the log.
    """

    answer: Any = None
    cost_usd: float | None = None
    status: Status | str = Status.OK
    retry_after_s: float = 0.0
    n_calls: int | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    error: str | None = None


@dataclass(frozen=True)
class Verdict:
    """What a judge returns: a score in [0, 1], or True and False, and its cost."""

    score: float | bool
    cost_usd: float | None = None
    status: Status | str = Status.OK
    retry_after_s: float = 0.0
    error: str | None = None


# ---------------------------------------------------------------- results


@dataclass
class Ended:
    """How a call ended, checked.

    Args:
        status: how.
        answer: the answer, or the judge's score in [0, 1].
        cost_usd: what it cost, None when nobody said.
        retry_after_s: seconds of a ``Retry-After``.
        n_calls: requests or turns.
        tokens_in: tokens sent.
        tokens_out: tokens received.
        error: text for the log.
        at_s: event-loop time of the end.
        abandoned: it did not stop within the grace period after it had been cancelled.
    """

    status: Status
    answer: Any = None
    cost_usd: float | None = None
    retry_after_s: float = 0.0
    n_calls: int | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    error: str | None = None
    at_s: float = 0.0
    abandoned: bool = False


def read_answer(value: Any) -> Ended:
    """Check what a call returned: an :class:`Answer`, anything with its fields, a mapping, or (answer, cost)."""
    if isinstance(value, (tuple, list)):
        value = {"answer": value[0], "cost_usd": value[1]} if len(value) == 2 else None
    get = _reader(value, "answer", "cost_usd")
    if get is None:
        return Ended(Status.MALFORMED, error=f"returned {_short(value)}; allowed: Answer(answer, cost_usd, ...)")
    ended = _common(get)
    ended.answer = get("answer")
    for name in ("n_calls", "tokens_in", "tokens_out"):
        count = get(name)
        whole = isinstance(count, (int, np.integer)) and not isinstance(count, bool) and count >= 0
        setattr(ended, name, int(count) if whole else None)
    if ended.status == Status.OK and (ended.answer is None or (isinstance(ended.answer, str) and not ended.answer)):
        ended.status = Status.EMPTY
    return ended


def read_verdict(value: Any) -> Ended:
    """Check what a judge returned: bool, score, (score, cost), a mapping with ``score`` or a :class:`Verdict`."""
    if isinstance(value, (bool, int, float, np.bool_, np.number)):
        value = {"score": value}
    elif isinstance(value, (tuple, list)):
        value = {"score": value[0], "cost_usd": value[1]} if len(value) == 2 else None
    get = _reader(value, "score")
    if get is None:
        return Ended(Status.MALFORMED, error=f"returned {_short(value)}; allowed: a bool, a score in [0, 1], Verdict")
    ended = _common(get)
    score = get("score")
    number = isinstance(score, (bool, int, float, np.bool_, np.number)) and 0.0 <= float(score) <= 1.0
    if ended.status == Status.OK and not number:
        ended.status, ended.error = Status.MALFORMED, f"score {_short(score)}; allowed: 0 to 1"
    ended.answer = float(score) if number else None
    return ended


def _reader(value: Any, *needed: str) -> Callable[[str], Any] | None:
    """A function that looks fields up in a mapping or an object; None if it lacks one that is needed."""
    if isinstance(value, Mapping):
        return value.get if needed[0] in value else None
    return partial(_attribute, value) if all(hasattr(value, name) for name in needed) else None


def _attribute(value: Any, name: str) -> Any:
    return getattr(value, name, None)


def _common(get: Callable[[str], Any]) -> Ended:
    error, status = get("error"), get("status")
    ended = Ended(Status.OK, error=None if error is None else str(error))
    try:
        ended.status = Status.OK if status is None else visible_status(status, "status")
    except CallableError as problem:
        ended.status, ended.error = Status.MALFORMED, str(problem)
    ended.retry_after_s = seconds_of(get("retry_after_s")) or 0.0
    cost = get("cost_usd")
    ended.cost_usd = seconds_of(cost)
    if cost is not None and ended.cost_usd is None:
        ended.error = f"cost_usd {_short(cost)} is no amount of money; the expected price is booked"
    return ended


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


# ---------------------------------------------------------------- running one call


def check_async(function: Any, where: str) -> None:
    """Refuse what cannot be awaited.

    Raises:
        CallableError: if ``function`` is not callable, or is a plain function or generator.
    """
    if not callable(function):
        raise CallableError(f"{where}: got {_short(function)}; allowed: async def ...")
    inner = function
    while isinstance(inner, partial):
        inner = inner.func
    plain = inspect.isfunction(inner) or inspect.ismethod(inner)
    # a lambda may hand on what an async function returns
    if plain and not inspect.iscoroutinefunction(inner) and getattr(inner, "__name__", "") != "<lambda>":
        raise CallableError(f"{where}: {getattr(inner, '__name__', inner)!r} is not async; allowed: async def ...")


@dataclass
class LiveCall:
    """One call in flight; made by :meth:`start`.

    ``ended`` is done as soon as the call has ended, or has failed to stop within the grace period: nothing that
    waits for it can hang. ``child`` is the user's own coroutine.

    Args:
        read: turns what the function returned into an :class:`Ended`.
        statuses: turns what it raised into a status.
        grace_s: seconds that a cancelled call may take to stop.
        on_end: called once, when the call has ended.
    """

    read: Callable[[Any], Ended]
    statuses: StatusTable
    grace_s: float
    on_end: Callable[[LiveCall], None]
    started_s: float = 0.0
    result: Ended | None = None
    cut_as: Status | None = None
    child: asyncio.Task[Any] = field(init=False)
    ended: asyncio.Future[None] = field(init=False)
    _timer: asyncio.TimerHandle | None = None

    def start(self, invoke: Callable[[], Awaitable[Any]], timeout_s: float) -> LiveCall:
        """Begin: ``invoke`` is awaited in a task of its own and cut after ``timeout_s`` seconds."""
        loop = asyncio.get_running_loop()
        self.started_s = loop.time()
        self.ended = loop.create_future()
        self.child = loop.create_task(_invoke(invoke))
        self.child.add_done_callback(self._finished)
        self._timer = loop.call_later(timeout_s, self.cut, Status.TIMEOUT)
        return self

    def cut(self, status: Status) -> None:
        """Cancel the call; it counts as ended with ``status``, at the latest after the grace period."""
        if self.result is not None:
            self.child.cancel()  # once more, if it outlived its grace
            return
        if self.child.done():
            return  # it ended in this very instant; its own result counts
        loop = asyncio.get_running_loop()
        if self.cut_as is None:
            self.cut_as = status
            self._stop_timer()
            self._timer = loop.call_later(self.grace_s, self._abandon)
        self.child.cancel()

    @property
    def alive(self) -> bool:
        """Whether the user's coroutine still runs."""
        return not self.child.done()

    def _finished(self, child: asyncio.Task[Any]) -> None:
        error = None if child.cancelled() else child.exception()  # always fetched, or asyncio complains later
        if self.result is not None:
            return
        if child.cancelled():
            # without a cut, somebody inside the call cancelled it
            result = Ended(self.cut_as or Status.UNEXPECTED, error="cancelled")
        else:
            try:
                result = self.read(child.result()) if error is None else self._read_error(error)
            except Exception as problem:  # whatever an odd object does when looked at, the call has ended
                result = Ended(Status.MALFORMED, error=f"unreadable: {type(problem).__name__}")
        if self.cut_as is not None:
            result.status = self.cut_as
            result.answer = None
        self._close(result)

    def _read_error(self, error: BaseException) -> Ended:
        status, retry = self.statuses.read(error)
        cost = seconds_of(getattr(error, "cost_usd", None))
        text = f"{type(error).__name__}: {error}"[:500]
        return Ended(status, cost_usd=cost, retry_after_s=retry, error=text)

    def _abandon(self) -> None:
        assert self.cut_as is not None
        text = f"still running {self.grace_s:g} s after its cancellation"
        self._close(Ended(self.cut_as, error=text, abandoned=True))

    def _close(self, result: Ended) -> None:
        self._stop_timer()
        result.at_s = asyncio.get_running_loop().time()
        self.result = result
        try:
            self.on_end(self)
        finally:  # whoever waits must not hang
            if not self.ended.done():
                self.ended.set_result(None)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


async def _invoke(invoke: Callable[[], Awaitable[Any]]) -> Any:
    value = invoke()
    if not inspect.isawaitable(value):
        return value
    return await value
