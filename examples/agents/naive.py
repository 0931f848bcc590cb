"""An agent for demos: it follows the procedure, believes every answer, and finishes.

brownout stress examples/agents/naive.py:handle --scenario refund
"""

from __future__ import annotations

from typing import Any

from brownout import ToolSession


def handle(session: ToolSession) -> None:
    """Work through the task of any workflow, without looking left or right."""
    records = {}
    for tool in session.tools:
        _, get, record = tool.name.partition(".get_")
        if get:
            records[record] = body(session.call(tool.name, id=session.task[f"{record}_id"]))
    facts: dict[str, Any] = {}
    for step in session.task["procedure"]:
        if any(facts.get(name) != wanted for name, wanted in step.get("only_if", {}).items()):
            continue
        arguments = {}
        for argument, field in step["needs"].items():
            record, _, name = field.partition(".")
            arguments[argument] = records.get(record, {}).get(name)
        answer = session.call(step["tool"], **arguments)
        facts |= body(answer)
        if answer.status == 202:
            session.call("clock.wait", seconds=600)
    session.call("finish", summary="done")


def body(answer: Any) -> dict[str, Any]:
    """The body of an answer, if it can be read."""
    try:
        found = answer.json() if answer.ok else {}
    except ValueError:
        found = {}
    return found if isinstance(found, dict) else {}
