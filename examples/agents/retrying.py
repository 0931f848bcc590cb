"""An agent with a retry loop: whatever fails is tried again, with no idempotency key and no look at what stands.

brownout stress examples/agents/retrying.py:handle --scenario refund
"""

from __future__ import annotations

from typing import Any

from brownout import ToolSession

ATTEMPTS = 6


def handle(session: ToolSession) -> None:
    """Work through the task of any workflow; try again until an answer looks good."""
    records = {}
    for tool in session.tools:
        _, get, record = tool.name.partition(".get_")
        if get:
            records[record] = insist(session, tool.name, id=session.task[f"{record}_id"])
    facts: dict[str, Any] = {}
    for step in session.task["procedure"]:
        if any(facts.get(name) != wanted for name, wanted in step.get("only_if", {}).items()):
            continue
        arguments = {}
        for argument, field in step["needs"].items():
            record, _, name = field.partition(".")
            arguments[argument] = records.get(record, {}).get(name)
        answer = insist(session, step["tool"], **arguments)
        facts |= answer
        if answer.get("status") == "pending":
            session.call("clock.wait", seconds=600)
    session.call("finish", summary="done")


def insist(session: ToolSession, tool: str, **arguments: Any) -> dict[str, Any]:
    """Call until the answer is a success that can be read; give up after some attempts."""
    for attempt in range(ATTEMPTS):
        answer = session.call(tool, **arguments)
        if answer.ok:
            try:
                found = answer.json()
            except ValueError:
                found = None
            if isinstance(found, dict):
                return found
        if answer.status == 401:
            session.call("auth.token")
        else:
            session.call("clock.wait", seconds=answer.retry_after_s or 2.0**attempt)
    return {}
