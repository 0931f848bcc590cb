"""A tool session on the other side of a wire, with the interface of :class:`~brownout.envs.tools.ToolSession`.

An agent written as a Python callable runs over HTTP or MCP unchanged: ``handle(HttpSession(base_url, task))``. What
only the simulation knows (its clock, what was spent) is not there; ``elapsed_s`` is real time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlencode

from ..extras import missing_extra
from .tools import Response, Tool

LAST = frozenset({"finish", "handoff", "abort"})


class _Closing:
    """A context manager that closes itself at its end."""

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class HttpSession(_Closing):
    """A session at ``brownout serve`` over HTTP; a context manager.

    Args:
        base_url: base address of the episode.
        task: what the control address said the task is.
        timeout_s: seconds after which the client gives up on an answer.

    Raises:
        MissingExtraError: httpx is not installed.
        httpx.HTTPError: there is no such episode.
    """

    def __init__(self, base_url: str, task: Mapping[str, Any], *, timeout_s: float = 60.0) -> None:
        try:
            import httpx
        except ImportError as error:
            raise missing_extra("serve", error) from error
        self._errors = httpx
        secure = base_url.startswith("https:")  # else certificates need not be loaded
        self._client = httpx.Client(base_url=base_url, timeout=timeout_s, verify=secure)
        self.task = dict(task)
        self.done = False
        self._token = self.task.get("access_token")
        self._tools: dict[str, Tool] = {}
        self._learn()

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The tools. ``session.reset`` may change what they are called with."""
        return tuple(self._tools.values())

    def _learn(self) -> None:
        document = self._client.get("/openapi.json").raise_for_status().json()
        self._tools = {tool.name: tool for tool in tools_of(document)}

    def call(self, name: str, /, **arguments: Any) -> Response:
        """Call a tool with the newest token attached; one that does not exist is answered 404."""
        tool = self._tools.get(name)
        if tool is None:
            return self.request("GET", f"/{quote(name, safe='')}")
        response = self.request(*wire_form(tool, arguments, self._token))
        if name == "auth.token" and response.ok:
            self._take_token(response)
        if name == "session.reset" and response.ok:
            self._learn()
        self.done = self.done or response.status == 410 or (name in LAST and response.ok)
        return response

    def _take_token(self, response: Response) -> None:
        try:
            body = response.json()
        except ValueError:
            return
        if isinstance(body, dict) and isinstance(body.get("access_token"), str):
            self._token = body["access_token"]

    def request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: str | bytes | None = None
    ) -> Response:
        """Send a request as it is."""
        start = time.monotonic()
        status, told, parts, failure = 0, {}, [], None
        try:
            with self._client.stream(method, path, headers=dict(headers or {}), content=body) as answer:
                status = answer.status_code
                told = {name.decode("latin-1"): value.decode("latin-1") for name, value in answer.headers.raw}
                parts.extend(answer.iter_raw())
        except self._errors.TimeoutException:
            failure = "timeout"
        except self._errors.RemoteProtocolError:
            # Closed without an answer: the wait for one is over. Closed within one: what came is the body.
            failure = None if status else "timeout"
        except self._errors.TransportError:
            failure = "reset"
        if failure is not None:
            return Response(0, {}, "", time.monotonic() - start, failure)
        text = b"".join(parts).decode("utf-8", "replace")
        return Response(status, told, text, time.monotonic() - start, None)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


class McpSession(_Closing):
    """A session at an MCP server of brownout, over the official client; a context manager.

    Args:
        server: address of the MCP endpoint, or the ``StdioServerParameters`` of a command.

    Raises:
        MissingExtraError: the MCP SDK is not installed.
    """

    def __init__(self, server: Any) -> None:
        try:
            from anyio.from_thread import start_blocking_portal
            from mcp import Client
        except ImportError as error:
            raise missing_extra("serve", error) from error
        with ExitStack() as stack:
            self._portal = stack.enter_context(start_blocking_portal())
            self._client = stack.enter_context(self._portal.wrap_async_context_manager(Client(server)))
            self._names: dict[str, str] = {}
            self.tools: tuple[Tool, ...] = ()
            self._learn()
            task = self._portal.call(self._client.read_resource, "task://current")
            self.task: dict[str, Any] = json.loads(task.contents[0].text)  # type: ignore[union-attr]
            self._stack = stack.pop_all()
        self.done = False

    def _learn(self) -> None:
        listed = self._portal.call(self._client.list_tools).tools
        self._names = {form.title or form.name: form.name for form in listed}
        self.tools = tuple(
            Tool(form.title or form.name, form.description or "", "", "", form.input_schema, {}) for form in listed
        )

    def call(self, name: str, /, **arguments: Any) -> Response:
        """Call a tool."""
        start = time.monotonic()
        ask = partial(self._client.call_tool, self._names.get(name, name), arguments)
        told: dict[str, Any] = self._portal.call(ask).structured_content
        failure = told.get("failure")
        response = Response(told["status"], told["headers"], told["body"], time.monotonic() - start, failure)
        if name == "session.reset" and response.ok:
            self._learn()
        self.done = self.done or response.status == 410 or (name in LAST and response.ok)
        return response

    def close(self) -> None:
        """End the connection, and the command if there is one."""
        self._stack.close()


def wire_form(
    tool: Tool, arguments: Mapping[str, Any], token: str | None
) -> tuple[str, str, dict[str, str], str | None]:
    """A call of a tool as method, path, headers and body.

    Args:
        tool: the tool.
        arguments: its arguments; one that its description does not know goes where most do.
        token: access token, if any.
    """
    path, query, body = tool.path, {}, {}
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    for name, value in arguments.items():
        place = tool.places.get(name, "body" if tool.method == "POST" else "query")
        if place == "body":
            body[name] = value
            continue
        if value is None:
            continue
        text = value if isinstance(value, str) else json.dumps(value)
        if place == "path":
            path = path.replace(f"{{{name}}}", quote(text, safe=""))
        elif place == "query":
            query[name] = text
        else:
            headers[place.partition(":")[2]] = text
    if query:
        path = f"{path}?{urlencode(query)}"
    if not body:
        return tool.method, path, headers, None
    return tool.method, path, headers | {"Content-Type": "application/json"}, json.dumps(body)


def tools_of(document: Mapping[str, Any]) -> tuple[Tool, ...]:
    """Read the tools back from the OpenAPI document of an episode."""
    found = []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            flat, tags = operation["operationId"], operation.get("tags", [])
            name = f"{tags[0]}.{flat[len(tags[0]) + 1 :]}" if tags else flat
            properties: dict[str, Any] = {}
            places: dict[str, str] = {}
            required: list[str] = []
            for part in operation.get("parameters", []):
                argument = part["name"].lower().replace("-", "_") if part["in"] == "header" else part["name"]
                properties[argument] = part["schema"]
                places[argument] = f"header:{part['name']}" if part["in"] == "header" else part["in"]
                required += [argument] if part.get("required") else []
            content = operation.get("requestBody", {}).get("content", {})
            body = content.get("application/json", {}).get("schema", {"properties": {}})
            for argument, kind in body["properties"].items():
                properties[argument], places[argument] = kind, "body"
            required += body.get("required", [])
            parameters = {
                "type": "object",
                "properties": properties,
                "required": required,
                "additionalProperties": False,
            }
            found.append(Tool(name, operation.get("summary", ""), method.upper(), path, parameters, places))
    return tuple(found)
