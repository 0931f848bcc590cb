"""The tools of one episode as an MCP server, for stdio and for streamable HTTP, on the official SDK.

A tool's result is the response as a JSON object, as text and as structured content: ``status``, ``headers`` and
``body``; a status outside 200 to 299, or no answer at all (``failure``), is marked as an error.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ..extras import missing_extra
from .serve_store import GONE, EpisodeStore, Held
from .serve_wire import Receive, Send
from .tools import Response, ToolSession

try:
    import mcp_types as types
    from mcp.server.lowlevel import Server
    from mcp.server.stdio import stdio_server
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
    from mcp.server.transport_security import TransportSecuritySettings
    from mcp.shared.exceptions import MCPError
except ImportError as error:
    raise missing_extra("serve", error) from error

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext

NAME: Final = "operations"
TASK_URI: Final = "task://current"
JSON: Final = "application/json"

Ask = Callable[[str, Mapping[str, Any]], Awaitable[Response]]


def result_of(response: Response) -> types.CallToolResult:
    """A response as the result of a tool call."""
    told = response.told()
    text = types.TextContent(type="text", text=json.dumps(told, ensure_ascii=False))
    failed = response.failure is not None or not 200 <= response.status < 300
    return types.CallToolResult(content=[text], structured_content=told, is_error=failed)


def mcp_server(session: ToolSession | None, ask: Ask) -> Server[Any]:
    """An MCP server of the tools of a session.

    Args:
        session: whose tools and task; the task is told in the instructions and as the resource ``task://current``.
            None for one that has ended: it has neither.
        ask: performs a call.
    """
    text = "" if session is None else json.dumps(session.task, ensure_ascii=False, indent=2)

    async def list_tools(_context: ServerRequestContext[Any], _params: Any) -> types.ListToolsResult:
        tools = () if session is None else session.tools  # these may change while the session lives
        return types.ListToolsResult(tools=[types.Tool(**tool.mcp(), title=tool.name) for tool in tools])

    async def call_tool(
        _context: ServerRequestContext[Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        return result_of(await ask(params.name, params.arguments or {}))

    async def list_resources(_context: ServerRequestContext[Any], _params: Any) -> types.ListResourcesResult:
        told = types.Resource(
            uri=TASK_URI, name="task", description="What is to be done.", mime_type="application/json"
        )
        return types.ListResourcesResult(resources=[told] if text else [])

    async def read_resource(
        _context: ServerRequestContext[Any], params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        if not text or str(params.uri) != TASK_URI:
            raise MCPError(types.INVALID_PARAMS, f"no resource {params.uri}; there is {TASK_URI}")
        content = types.TextResourceContents(uri=TASK_URI, mime_type=JSON, text=text)
        return types.ReadResourceResult(contents=[content])

    return Server(
        NAME,
        version="1.0.0",
        instructions=text or None,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_read_resource=read_resource,
    )


async def serve_stdio(session: ToolSession, time_scale: float = 0.0) -> None:
    """Serve a session over standard input and output until the client closes them.

    Args:
        session: the session.
        time_scale: real seconds waited per simulated second.
    """

    async def ask(name: str, arguments: Mapping[str, Any]) -> Response:
        async with turn:
            response = session.call(name, **arguments)
            await asyncio.sleep(response.elapsed_s * time_scale)
        return response

    turn = asyncio.Lock()
    server = mcp_server(session, ask)
    async with stdio_server() as (reader, writer):
        await server.run(reader, writer, server.create_initialization_options())


async def answer_mcp(
    store: EpisodeStore, held: Held | None, hosts: Sequence[str], scope: dict[str, Any], receive: Receive, send: Send
) -> None:
    """Answer one request to an episode's MCP endpoint.

    Nothing is kept between requests, so that a restarted service answers where the old one left off. Calls after
    the end are answered 410.

    Args:
        store: the episodes.
        held: the episode; None if it has ended.
        hosts: values that the ``Host`` header may have; empty allows all.
        scope: of ASGI, as ``receive`` and ``send``.
    """

    async def ask(name: str, arguments: Mapping[str, Any]) -> Response:
        if held is None:
            return GONE
        async with store.turn(held):
            response = await store.ask(held, lambda session: session.call(name, **arguments))
            await asyncio.sleep(response.elapsed_s * store.settings.time_scale)
        return response

    session = held.episode.session if held is not None and held.episode is not None else None
    server = mcp_server(session, ask)
    origins = [f"http://{host}" for host in hosts]
    security = TransportSecuritySettings(
        enable_dns_rebinding_protection=bool(hosts), allowed_hosts=list(hosts), allowed_origins=origins
    )
    manager = StreamableHTTPSessionManager(
        server,
        json_response=True,
        stateless=True,
        security_settings=security,
        max_request_body_size=store.settings.body_bytes,
    )
    async with manager.run():
        await manager.handle_request(scope, receive, send)
