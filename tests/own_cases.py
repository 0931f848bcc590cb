"""Tools of a team's own for the tests of stress runs, and agents that end in every way."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any

from brownout import ToolError, WrapTool


def make(seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """A purse with something to pay into it; one tool is async."""
    world: dict[str, Any] = {"paid": [], "due": seed % 1000}

    def due() -> dict[str, int]:
        return {"due": world["due"]}

    async def pay(amount: int, *, note: Any = None) -> dict[str, int]:
        await asyncio.sleep(0)
        world["paid"].append(amount)
        return {"paid": len(world["paid"])}

    tools = {
        "way": "as it is",
        "due": WrapTool(due, latency_s=0.25),
        "pay": WrapTool(pay, writes=True, latency_s=1.0, cost_usd=0.5),
    }
    return tools, world


def check(world: dict[str, Any], answer: Any) -> bool | dict[str, Any]:
    """Whether what is due was paid once."""
    if len(world["paid"]) > 1:
        return {"outcome": "duplicate_effect", "duplicate_effects": len(world["paid"]) - 1, "utility": -2}
    return world["paid"] == [world["due"]]


def bare() -> dict[str, Any]:
    """Tools without a world or a seed."""
    return {"ping": lambda: "pong"}


def ping_check(world: Any, answer: Any) -> bool:
    """The world is the tools, where none is given."""
    return answer == ["pong"] and set(world) == {"ping"}


def ping(tools: Any) -> list[str]:
    return [tools["ping"]()]


async def good(tools: Any) -> None:
    """Pay; try again when the connection fails."""
    assert tools["way"] == "as it is"
    for _ in range(20):
        try:
            due = tools["due"]()["due"]
            await tools["pay"](due, note=object())  # no JSON: told by its form
            return
        except ToolError:
            continue


async def gone(tools: Any) -> str:
    """Work, and then break."""
    await good(tools)
    raise RuntimeError("after the work")


def lazy(tools: Any) -> str:
    return "done"


def breaks(tools: Any) -> None:
    tools["due"]()
    raise KeyError("no such thing")


def dies(tools: Any) -> None:
    tools["due"]()
    os.kill(os.getpid(), signal.SIGKILL)


def hangs(tools: Any) -> None:
    time.sleep(3600)


def spins(tools: Any) -> None:
    while True:
        try:
            tools["due"]()
        except Exception:
            continue


def counts(tools: Any) -> None:
    number = 0
    while True:
        number += 1
        try:
            asyncio.run(tools["pay"](number))
        except ToolError as error:
            if error.status_code == 410:
                return


def odd_check(world: Any, answer: Any) -> Any:
    return {"outcome": "excellent"}


def broken_check(world: Any, answer: Any) -> Any:
    raise LookupError("no ledger")


def no_tools() -> Any:
    return [1, 2]


def no_making() -> Any:
    raise OSError("no database")
