"""A graph of LangGraph, as an agent (``pip install 'brownout[agents]'``).

    brownout stress examples/agents/langgraph_graph.py:handle --scenario refund

Here a scripted model answers; put a chat model of LangChain in its place, such as ``ChatOpenAI(model=...)``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolCall, ToolMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import BaseTool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from scripted_model import decide, tokens

from brownout.trainers.agent_frameworks import langgraph_agent
from brownout.trainers.agent_loop import INSTRUCTIONS


class ScriptedModel(BaseChatModel):
    """The script behind LangChain's interface of a chat model."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Any:
        """Return the model with the tools it may ask for."""
        return self.bind(tools=[tool.name for tool in tools], **kwargs)

    def _generate(self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
        task = next(str(message.content) for message in messages if isinstance(message, HumanMessage))
        results = {one.tool_call_id: str(one.content) for one in messages if isinstance(one, ToolMessage)}
        asked = decide(task, kwargs["tools"], results)
        calls = [ToolCall(id=id_, name=name, args=json.loads(arguments)) for id_, name, arguments in asked]
        read, said = tokens([message.content for message in messages]), tokens(asked)
        usage = UsageMetadata(input_tokens=read, output_tokens=said, total_tokens=read + said)
        message = AIMessage(content="" if calls else "Done.", tool_calls=calls, usage_metadata=usage)
        return ChatResult(generations=[ChatGeneration(message=message)])


def build(tools: Sequence[BaseTool]) -> Any:
    """A model that calls tools until it needs no more."""
    model = ScriptedModel().bind_tools(tools)

    async def think(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("think", think)
    graph.add_node("tools", ToolNode(tools))
    graph.add_edge(START, "think")
    graph.add_conditional_edges("think", tools_condition)
    graph.add_edge("tools", "think")
    return graph.compile()


handle = langgraph_agent(build, system=INSTRUCTIONS)
