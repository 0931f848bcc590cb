"""A team's own tools, for a stress run without a workflow of the library.

    brownout stress examples/own_tools/agent.py:handle --tools examples/own_tools/desk.py:make \\
        --plan examples/own_tools/plan.yaml --check examples/own_tools/desk.py:check

``make`` returns fresh tools and the world they act on, ``check`` says how that world stands at the end.
"""

from __future__ import annotations

from typing import Any

from brownout import WrapTool


def make(seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tools of one episode; ``seed`` differs between episodes, and is the same clean and faulted."""
    order = {"id": f"ord_{seed % 100_000:05}", "total": 10.0 + seed % 90, "email": "ann.meier@example.com"}
    paid: list[tuple[str, float]] = []

    def find_order(id: str) -> dict[str, Any]:  # noqa: A002 (a name as in any web interface)
        if id != order["id"]:
            raise KeyError(id)
        return dict(order)

    def refund(order_id: str, amount: float) -> dict[str, Any]:
        paid.append((order_id, amount))
        return {"refund": f"ref_{len(paid)}", "amount": amount}

    def refunds(order_id: str) -> list[dict[str, Any]]:
        return [{"amount": amount} for id_, amount in paid if id_ == order_id]

    tools = {
        "task": {"order_id": order["id"]},  # no tool: the agent gets it as it is
        "shop.order": WrapTool(find_order, family="shop", latency_s=0.2, fields={"total": "amount"}, key="id"),
        "bank.refund": WrapTool(refund, family="bank", writes=True, latency_s=0.5, cost_usd=0.01),
        "bank.refunds": WrapTool(refunds, family="bank", latency_s=0.3),
    }
    return tools, {"order": order, "paid": paid}


def check(world: dict[str, Any], answer: Any) -> bool | dict[str, Any]:
    """True when the order is paid back once; an agent that says it could not has not lied."""
    right = (world["order"]["id"], world["order"]["total"])
    if world["paid"] == [right]:
        return True
    if len(world["paid"]) > 1:
        return {"outcome": "duplicate_effect", "duplicate_effects": len(world["paid"]) - 1, "utility": -1.0}
    return False if answer == "done" else {"outcome": "escalated"}
