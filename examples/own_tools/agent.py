"""An agent that calls tools by name and retries what fails, without a look at what stands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from brownout import ToolError

ATTEMPTS = 3


def handle(tools: Mapping[str, Any]) -> str:
    """Pay an order back."""
    order = insist(tools["shop.order"], tools["task"]["order_id"])
    if not isinstance(order, dict) or not isinstance(order.get("total"), float):
        return "a person must look at it"
    answer = insist(tools["bank.refund"], order["id"], order["total"])
    return "done" if answer else "a person must look at it"


def insist(tool: Callable[..., Any], *arguments: Any) -> Any:
    """Call until it answers."""
    for _ in range(ATTEMPTS):
        try:
            return tool(*arguments)
        except (ToolError, ValueError):
            continue
    return None
