"""An agent of the OpenAI Agents SDK (``pip install 'brownout[agents]'``).

    brownout stress examples/agents/openai_agents_sdk.py:handle --scenario refund

Here a scripted model answers; leave ``model=`` to the SDK, or name one, for a real one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from agents import Agent, Model, ModelResponse, Usage
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText
from scripted_model import decide, tokens

from brownout.trainers.agent_frameworks import agents_sdk_agent
from brownout.trainers.agent_loop import INSTRUCTIONS


class ScriptedModel(Model):
    """The script behind the SDK's interface of a model."""

    async def get_response(self, system_instructions: Any, input: Any, *args: Any, **kwargs: Any) -> ModelResponse:  # noqa: A002 (the SDK's name)
        """Answer a conversation."""
        tools = kwargs.get("tools") or args[1]
        results = {item["call_id"]: item["output"] for item in input if item.get("type") == "function_call_output"}
        asked = decide(input[0]["content"], [tool.name for tool in tools], results)
        usage = Usage(requests=1, input_tokens=tokens(input), output_tokens=tokens(asked))
        calls = [
            ResponseFunctionToolCall(call_id=id_, name=name, arguments=arguments, type="function_call")
            for id_, name, arguments in asked
        ]
        text = ResponseOutputText(text="Done.", type="output_text", annotations=[])
        said = ResponseOutputMessage(id="said", content=[text], role="assistant", status="completed", type="message")
        return ModelResponse(output=[*calls] or [said], usage=usage, response_id=None)

    def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """Answer piece by piece, which this one cannot."""
        raise NotImplementedError


handle = agents_sdk_agent(Agent(name="clerk", instructions=INSTRUCTIONS, model=ScriptedModel()))
