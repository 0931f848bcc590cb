"""ScriptedModel: stands in for a language model, so that the adapters run without a network, a key or a bill.

It is no model. It decides by a script, from nothing but the conversation it is sent: the task, and the results of the
tools that it asked for. ``handle`` is the same script as a plain agent, without a model's interface in between:

    brownout stress examples/agents/scripted_model.py:handle --scenario refund
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from brownout import ToolSession

ATTEMPTS = 6
Call = tuple[str, dict[str, Any]]
Answer = dict[str, Any]
Script = Generator[list[Call], list[Answer], None]


def script(task: Mapping[str, Any], tools: Sequence[str]) -> Script:
    """The work: yields the calls of a turn, several at once where they do not need each other; is sent the answers.

    Args:
        task: as the user's message has it.
        tools: names of the tools.
    """
    getters = {name.partition("_get_")[2]: name for name in tools if "_get_" in name}
    readings = [(name, {"id": task[f"{record}_id"]}) for record, name in getters.items()]
    records = dict(zip(getters, (yield from insist(readings)), strict=True))
    facts: dict[str, Any] = {}
    for step in task["procedure"]:
        if any(facts.get(name) != wanted for name, wanted in step.get("only_if", {}).items()):
            continue
        arguments = {}
        for argument, field in step["needs"].items():
            record, _, name = field.partition(".")
            arguments[argument] = records.get(record, {}).get(name)
        (found,) = yield from insist([(step["tool"].replace(".", "_"), arguments)])
        facts |= found
        if found.get("status") == "pending":
            yield [("clock_wait", {"seconds": 600})]
    yield [("finish", {"summary": "done"})]


def insist(calls: list[Call]) -> Generator[list[Call], list[Answer], list[dict[str, Any]]]:
    """Repeat what fails, waiting as told; returns the bodies, empty where nothing came of it."""
    bodies: list[dict[str, Any]] = [{} for _ in calls]
    rest = list(range(len(calls)))
    for attempt in range(ATTEMPTS):
        answers = yield [calls[i] for i in rest]
        for i, answer in zip(rest, answers, strict=True):
            bodies[i] = body(answer)
        rest = [i for i in rest if not bodies[i]]
        if not rest:
            break
        if any(answer["status"] == 401 for answer in answers):
            yield [("auth_token", {})]
        else:
            waits = [float(answer["headers"].get("Retry-After", 0)) for answer in answers]
            yield [("clock_wait", {"seconds": max(*waits, 2.0**attempt)})]
    return bodies


def body(answer: Answer) -> dict[str, Any]:
    """The body of a success, if it can be read."""
    try:
        found = json.loads(answer["body"]) if 200 <= answer["status"] < 300 else {}
    except ValueError:
        found = {}
    return found if isinstance(found, dict) else {}


def handle(session: ToolSession) -> None:
    """Follow the script without a model."""
    turns = script(session.task, [tool.flat_name for tool in session.tools])
    calls = next(turns)
    while not session.done:
        answers = []
        for name, arguments in calls:
            answers.append(session.call(name, **arguments).told())
            if session.done:
                return
        try:
            calls = turns.send(answers)
        except StopIteration:
            return


def decide(task: str, tools: Sequence[str], results: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """What the scripted model asks for next: call id, tool, arguments as JSON. Nothing when it has come to its end.

    Args:
        task: the user's message.
        tools: names of the tools it is offered.
        results: what the conversation holds: results by call id.
    """
    turns = script(json.loads(task.partition("\n\n")[2]), tools)
    calls, made = next(turns), 0
    while True:
        ids = [f"call_{made + i}" for i in range(len(calls))]
        made += len(calls)
        if ids[0] not in results:
            return [(id_, name, json.dumps(arguments)) for id_, (name, arguments) in zip(ids, calls, strict=True)]
        try:
            calls = turns.send([json.loads(results[id_]) for id_ in ids])
        except StopIteration:
            return []


def tokens(value: Any) -> int:
    """About how many tokens a text is."""
    return len(json.dumps(value, default=str)) // 4


class ScriptedModel:
    """The interface of a chat client, ``chat.completions.create``, in front of the script."""

    def __init__(self) -> None:
        self.chat = self.completions = self

    def create(self, *, model: str, messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> Any:
        """Answer a conversation."""
        task = next(message["content"] for message in messages if message["role"] == "user")
        results = {message["tool_call_id"]: message["content"] for message in messages if message["role"] == "tool"}
        asked = decide(task, [tool["function"]["name"] for tool in tools], results)
        calls = [
            SimpleNamespace(id=id_, type="function", function=SimpleNamespace(name=name, arguments=arguments))
            for id_, name, arguments in asked
        ]
        message = SimpleNamespace(role="assistant", content=None if calls else "Done.", tool_calls=calls or None)
        usage = SimpleNamespace(prompt_tokens=tokens(messages), completion_tokens=tokens(asked))
        return SimpleNamespace(model=model, choices=[SimpleNamespace(message=message)], usage=usage)
