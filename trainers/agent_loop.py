"""A language model as an agent: the loop over the chat interface of model providers, and what every adapter shares.

``handle = openai_agent(client, "some-model")`` is an agent like any other: ``brownout stress my_agent.py:handle``.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final

from ..envs.tools import ToolSession
from ..errors import AgentError

INSTRUCTIONS: Final = (
    "You carry out a piece of office work with the tools that you are given. Each result is a JSON object: the HTTP "
    "status, the headers and the body of the answer. Status 0 means that no answer came; the work may have been done "
    "all the same. Call finish when everything is done, handoff when a person must take over, or abort."
)
TURNS: Final = 60
_HIDDEN: Final = ("request", "access_token", "expires_in")  # told otherwise, or seen to by the session
_MILLION: Final = 1e6

Handle = Callable[[ToolSession], Awaitable[None]]


@dataclass(frozen=True)
class Price:
    """What a model costs, in money and in virtual time.

    Args:
        input_usd: USD per million input tokens.
        output_usd: USD per million output tokens.
        call_s: virtual seconds of a call.
        output_token_s: virtual seconds per output token.

    Raises:
        AgentError: a price is negative or no number.
    """

    input_usd: float
    output_usd: float
    call_s: float = 0.0
    output_token_s: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (isfinite(value) and value >= 0):
                raise AgentError(f"price: {name}: got {value!r}; allowed: a finite number from 0")

    def charge(self, session: ToolSession, input_tokens: int, output_tokens: int) -> None:
        """Report one call of the model to a session."""
        cost = (input_tokens * self.input_usd + output_tokens * self.output_usd) / _MILLION
        session.usage(cost, self.call_s + output_tokens * self.output_token_s)


def openai_agent(
    client: Any, model: str, *, system: str = INSTRUCTIONS, max_turns: int = TURNS, price: Price | None = None,
    **options: Any,
) -> Handle:  # fmt: skip
    """Return an agent that lets a model work through chat completions with tools.

    It ends when the model asks for no further tool, when the episode is over, or after ``max_turns``. A tool that
    does not exist and arguments that are no JSON object are told to the model, as an error; what the client raises is
    raised.

    Args:
        client: whatever has ``chat.completions.create(model=, messages=, tools=)``, sync or async; or a function or
            class that makes one for each episode. An async client that keeps connections must be made anew: every
            episode has an event loop of its own.
        model: passed on.
        system: the system message.
        max_turns: calls of the model per episode.
        price: turns the tokens that the client reports into cost and time of the episode; None reports neither.
        options: passed on with every call, such as ``temperature=0``.
    """
    check_turns(max_turns)

    async def handle(session: ToolSession) -> None:
        made = isinstance(client, type) or not hasattr(client, "chat")
        now = client() if made else client
        messages: list[dict[str, Any]] = [
            {"role": "system", "content": system},
            {"role": "user", "content": task_text(session)},
        ]
        try:
            for _ in range(max_turns):
                tools = [tool.openai() for tool in session.tools]  # session.reset may have changed them
                reply = await _settled(
                    now.chat.completions.create(model=model, messages=messages, tools=tools, **options)
                )
                usage = getattr(reply, "usage", None)
                if price is not None and usage is not None:
                    price.charge(session, usage.prompt_tokens, usage.completion_tokens)
                message = reply.choices[0].message
                calls = message.tool_calls or []
                if not calls or session.done:  # what the model cost may have ended the episode
                    return
                messages.append(_said(message.content, calls))
                for call in calls:
                    content = run_tool(session, call.function.name, call.function.arguments)
                    messages.append({"role": "tool", "tool_call_id": call.id, "content": content})
                    if session.done:
                        return
        finally:
            if made and hasattr(now, "close"):
                await _settled(now.close())

    return handle


def task_text(session: ToolSession) -> str:
    """The task as the first message to a model: the request, an empty line, and the rest as JSON."""
    rest = {name: value for name, value in session.task.items() if name not in _HIDDEN}
    return f"{session.task['request']}\n\n{json.dumps(rest, ensure_ascii=False)}"


def run_tool(session: ToolSession, name: str, arguments: str | Mapping[str, Any] | None) -> str:
    """Call a tool as a model asked for it, and return what the model is told.

    Args:
        session: whose tool.
        name: its name in the form for models, without dots.
        arguments: a JSON object, as text or read; empty text stands for none.

    Returns:
        the answer as JSON: ``status``, ``headers`` and ``body``, or ``error`` where the call makes no sense.
    """
    names = {tool.flat_name: tool.name for tool in session.tools}
    if name not in names:
        return _error(f"There is no tool {name!r}.")
    if arguments is None or isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError) as error:
            return _error(f"The arguments are not valid JSON: {error}")
    if not isinstance(arguments, Mapping):
        return _error("The arguments must be a JSON object.")
    return json.dumps(session.call(names[name], **arguments).told(), ensure_ascii=False)


def check_turns(max_turns: int) -> None:
    """Refuse a number of turns that lets no model work.

    Raises:
        AgentError: it is below 1.
    """
    if max_turns < 1:
        raise AgentError(f"max_turns: got {max_turns!r}; allowed: 1 or more")


def _error(text: str) -> str:
    return json.dumps({"error": text}, ensure_ascii=False)


def _said(content: str | None, calls: list[Any]) -> dict[str, Any]:
    """What the model said, to be sent back: only what every provider takes."""
    asked = [
        {"id": call.id, "type": "function",
         "function": {"name": call.function.name, "arguments": call.function.arguments}}
        for call in calls
    ]  # fmt: skip
    return {"role": "assistant", "content": content, "tool_calls": asked}


async def _settled(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value
