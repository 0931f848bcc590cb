"""Agents for the tests of stress runs: some work, some end badly, all decide by what the task says."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import time
import zlib
from collections.abc import Callable
from typing import Any

WAYS = ("finish", "return", "crash", "exit", "kill", "loop", "async", "segfault", "finish", "finish", "hang", "calls")


def way(task: dict[str, Any]) -> str:
    """How the agent of :func:`mixed` ends, from what it is told."""
    return WAYS[zlib.crc32(task["customer_id"].encode()) % len(WAYS)]


def read(session: Any) -> None:
    """Read every record that the task names."""
    for tool in session.tools:
        _, found, record = tool.name.partition(".get_")
        if found and f"{record}_id" in session.task:
            session.call(tool.name, id=session.task[f"{record}_id"])


def hand_over(session: Any) -> None:
    """Look at the records, pay for thinking, and leave it to a person."""
    read(session)
    session.usage(cost_usd=0.01, latency_s=0.5)
    session.call("handoff", reason="not sure")


def slow(session: Any) -> None:
    """The same, taking its time."""
    time.sleep(0.1)
    hand_over(session)


def give_up(session: Any) -> None:
    """Do nothing and say so."""
    session.call("abort")


def finish(session: Any) -> None:
    """Claim that all is done."""
    session.call("finish", summary="done")


async def patient(session: Any) -> None:
    """An async agent that does nothing wrong."""
    await asyncio.sleep(0)
    hand_over(session)


async def _breaks(session: Any) -> None:
    await asyncio.sleep(0)
    read(session)
    raise RuntimeError("out of ideas\nand more")


def spin(session: Any) -> None:
    """Ask the same for ever, also after the end, and catch whatever can be caught."""
    while True:
        try:
            session.call("requester.messages")
        except Exception:
            continue


def talk(session: Any) -> None:
    """Ask something new for ever."""
    number = 0
    while True:
        number += 1
        session.call("nothing.there", number=number)


def spend(session: Any) -> None:
    """Think, dearly, for ever."""
    while not session.done:
        session.usage(cost_usd=0.3)


def mixed(session: Any) -> Any:
    """End in the way that the task says."""
    read(session)
    if way(session.task) == "async":
        return _breaks(session)
    _DOINGS[way(session.task)](session)
    return None


def _crash(session: Any) -> None:
    raise ValueError("no such thing")


_DOINGS: dict[str, Callable[[Any], None]] = {
    "finish": finish,
    "return": lambda session: None,
    "crash": _crash,
    "exit": lambda session: os._exit(3),
    "kill": lambda session: os.kill(os.getpid(), signal.SIGKILL),
    "segfault": lambda session: print(ctypes.string_at(0)),
    "hang": lambda session: time.sleep(3600),
    "loop": spin,
    "calls": talk,
}
