"""Agents built on the OpenAI Agents SDK and on LangGraph: a session's tools in their forms, and a run of theirs.

Both frameworks are imported where they are used; they come with the extra ``agents``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..envs.tools import ToolSession
from ..extras import missing_extra
from .agent_loop import TURNS, Handle, Price, check_turns, run_tool, task_text

if TYPE_CHECKING:
    from agents import Agent, FunctionTool
    from langchain_core.tools import StructuredTool
    from langgraph.graph.state import CompiledStateGraph

_RESET = "session.reset"


def agents_sdk_tools(session: ToolSession) -> list[FunctionTool]:
    """A session's tools for the OpenAI Agents SDK; ``session.reset`` renews their schemas.

    Raises:
        MissingExtraError: the SDK is not installed.
    """
    try:
        from agents import FunctionTool
    except ImportError as error:
        raise missing_extra("agents", error) from error

    def made(name: str, form: dict[str, Any]) -> FunctionTool:
        async def invoke(_context: Any, arguments: str) -> str:
            answer = run_tool(session, form["name"], arguments)
            if name == _RESET:
                schemas = {tool.flat_name: tool.mcp()["inputSchema"] for tool in session.tools}
                for tool in tools:
                    tool.params_json_schema = schemas.get(tool.name, tool.params_json_schema)
            return answer

        return FunctionTool(form["name"], form["description"], form["inputSchema"], invoke, strict_json_schema=False)

    tools = [made(tool.name, tool.mcp()) for tool in session.tools]
    return tools


def agents_sdk_agent(
    agent: Agent[Any], *, max_turns: int = TURNS, price: Price | None = None, run_config: Any = None
) -> Handle:
    """Return an agent for a stress run from one of the OpenAI Agents SDK.

    It ends when the SDK's run does, when the episode is over, or after ``max_turns``.

    Args:
        agent: the agent, with its instructions and model; the session's tools are added to its own.
        max_turns: calls of the model per episode.
        price: turns the tokens that the model reports into cost and time of the episode; None reports neither.
        run_config: a ``RunConfig``; by default nothing is traced, tools are run in the order in which the model
            asked, and it is told of tools that do not exist.

    Raises:
        MissingExtraError: the SDK is not installed.
    """
    check_turns(max_turns)
    try:
        from agents import RunConfig, RunHooks, Runner, ToolsToFinalOutputResult
        from agents.exceptions import MaxTurnsExceeded
        from agents.run_config import ToolExecutionConfig
    except ImportError as error:
        raise missing_extra("agents", error) from error

    config = run_config or RunConfig(
        tracing_disabled=True,
        tool_execution=ToolExecutionConfig(max_function_tool_concurrency=1),
        tool_not_found_behavior="return_error_to_model",
    )

    async def handle(session: ToolSession) -> None:
        class Charge(RunHooks[Any]):
            async def on_llm_end(self, _context: Any, _agent: Any, response: Any) -> None:  # type: ignore[override]
                if price is not None:
                    price.charge(session, response.usage.input_tokens, response.usage.output_tokens)

        def over(_context: Any, _results: Any) -> ToolsToFinalOutputResult:
            return ToolsToFinalOutputResult(is_final_output=session.done, final_output="" if session.done else None)

        changes: dict[str, Any] = {"tools": [*agent.tools, *agents_sdk_tools(session)]}
        if agent.tool_use_behavior == "run_llm_again":
            changes["tool_use_behavior"] = over
        try:
            await Runner.run(
                agent.clone(**changes), task_text(session), max_turns=max_turns, hooks=Charge(), run_config=config
            )
        except MaxTurnsExceeded:
            return  # judged by what stands, as in every other adapter

    return handle


def langgraph_tools(session: ToolSession) -> list[StructuredTool]:
    """A session's tools for LangChain and LangGraph; they are async, so that their order is that of the model.

    Raises:
        MissingExtraError: LangGraph is not installed.
    """
    try:
        from langchain_core.tools import StructuredTool
    except ImportError as error:
        raise missing_extra("agents", error) from error

    def made(form: dict[str, Any]) -> StructuredTool:
        async def invoke(**arguments: Any) -> str:
            return run_tool(session, form["name"], arguments)

        return StructuredTool(
            name=form["name"], description=form["description"], args_schema=form["inputSchema"], coroutine=invoke
        )

    return [made(tool.mcp()) for tool in session.tools]


def langgraph_agent(
    build: Callable[[Sequence[StructuredTool]], CompiledStateGraph[Any, Any, Any, Any]],
    *,
    system: str | None = None,
    max_steps: int = 2 * TURNS,
    price: Price | None = None,
) -> Handle:
    """Return an agent for a stress run from a LangGraph graph.

    It ends when the graph does, when the episode is over, or after ``max_steps``.

    Args:
        build: makes the compiled graph from the tools; its state has ``messages``.
        system: a system message before the task, for graphs that bring none.
        max_steps: steps of the graph per episode; a call of the model and the tools that it asked for are two.
        price: turns the tokens that the model reports into cost and time of the episode; None reports neither.

    Raises:
        MissingExtraError: LangGraph is not installed.
    """
    check_turns(max_steps)
    try:
        from langchain_core.callbacks import AsyncCallbackHandler
        from langgraph.errors import GraphRecursionError
    except ImportError as error:
        raise missing_extra("agents", error) from error

    async def handle(session: ToolSession) -> None:
        class Charge(AsyncCallbackHandler):
            async def on_llm_end(self, response: Any, **_: Any) -> None:
                for said in response.generations[0][:1]:
                    usage = getattr(getattr(said, "message", None), "usage_metadata", None)
                    if price is not None and usage is not None:
                        price.charge(session, usage["input_tokens"], usage["output_tokens"])

        before = [] if system is None else [("system", system)]
        state = {"messages": [*before, ("user", task_text(session))]}
        options: Any = {"recursion_limit": max_steps, "callbacks": [] if price is None else [Charge()]}
        try:
            async for _ in build(langgraph_tools(session)).astream(state, options):
                if session.done:
                    return
        except GraphRecursionError:
            return  # judged by what stands, as in every other adapter

    return handle
