"""What an agent holds: :class:`ToolSession`, and the exchange behind it that records every request and its response."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit
from weakref import WeakKeyDictionary

from .tool_api import HEADERS, Operation, Response, Tool
from .tool_office import Refusal, Reply
from .tool_server import ToolServer

_LARGEST_BODY = 1 << 20


class Exchange:
    """Requests to one episode's services, in order, and what came back.

    Args:
        server: the services.
        header: what the episode is, as text; the digest begins with it.
    """

    def __init__(self, server: ToolServer, header: str) -> None:
        self.server = server
        self.token: str | None = server.office.first_token
        self.events: list[dict[str, Any]] = []
        self.error: str | None = None
        self._hash = hashlib.sha256(header.encode())
        self.account: Callable[[], None] = lambda: None
        self._shown: tuple[Any, tuple[Tool, ...]] = None, ()
        self.watch: Callable[[dict[str, Any]], None] = lambda event: None

    @property
    def digest(self) -> str:
        """Digest of the header and of every request and response so far."""
        return self._hash.hexdigest()

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The tools as they are described to the agent now."""
        operations = self.server.operations
        if self._shown[0] is not operations:  # the agent gets copies, to do with as it likes
            listed = [operation.tool for operation in operations if operation.listed]
            self._shown = operations, tuple(copy.deepcopy(listed))
        return self._shown[1]

    # ---------------------------------------------------------------- requests

    def call(self, name: str, arguments: dict[str, Any], token: str | None) -> Response:
        """Call a tool by its name, with arguments and a token."""
        operation = self._find(name)
        plain = _as_json(arguments)
        request = {"tool": operation.tool.name if operation else str(name), "arguments": plain, "token": token}

        def work() -> Reply:
            if operation is None:
                raise Refusal(404, "There is no such operation.")
            if plain is None:
                raise Refusal(400, "The arguments are not JSON.")
            return self.server.serve(operation, _placed(operation, plain), token)

        if operation is not None and plain is not None:
            request["arguments"] = _canonical(operation, plain)
        response = self._record("call", request, work)
        if operation is not None and operation.kind == "token":
            self._take_token(response)
        return response

    def wire(self, method: str, path: str, headers: Mapping[str, str], body: str | bytes | None) -> Response:
        """Make a request as it goes over the wire; where it comes to a tool, it is the same as :meth:`call`."""
        method = str(method).upper()
        text = body.decode("utf-8", "replace") if isinstance(body, bytes) else str(body or "")
        lower = {str(name).lower(): str(value) for name, value in headers.items()}
        kind, _, token = lower.get("authorization", "").partition(" ")
        given = token.strip() if kind.lower() == "bearer" and token.strip() else None
        try:
            operation, arguments = self._route(method, str(path), lower, text)
        except Refusal as refusal:
            problem = refusal
            asked = {name: lower[name] for name in ("content-type",) if name in lower}
            request = {
                "method": method,
                "path": _clean(str(path)),
                "headers": asked,
                "body": _clean(text),
                "token": given,
            }

            def work() -> Reply:
                raise problem

            return self._record("wire", request, work)
        return self.call(operation.tool.name, arguments, given)

    def usage(self, cost_usd: float, latency_s: float) -> None:
        """Charge what the agent's own model cost; what is no number of 0 or more is taken for 0."""
        cost, latency = _amount(cost_usd), _amount(latency_s)
        core = self.server.core
        if self.server.over:
            return

        def operation() -> None:
            core.pass_time(latency, cost)

        core.steps -= 1  # thinking is no request
        core.perform(operation)
        self.account()
        self._write({"kind": "usage", "cost_usd": cost, "latency_s": latency})

    def settle(self, kind: str, operation: Callable[[], None]) -> None:
        """End the episode from outside."""
        self.server.core.perform(operation)
        self.account()
        self._write({"kind": "close", "outcome": kind})

    # ---------------------------------------------------------------- parts

    def _find(self, name: str) -> Operation | None:
        return next((o for o in self.server.operations if name in (o.tool.name, o.tool.flat_name)), None)

    def _route(self, method: str, path: str, headers: Mapping[str, str], body: str) -> tuple[Operation, dict[str, Any]]:
        """Find the operation of a request, and its arguments.

        Raises:
            Refusal: if there is none, or the body cannot be read.
        """
        try:
            parts = urlsplit(path)
        except ValueError:
            raise Refusal(400, "The path cannot be read.") from None
        matches = [(o, m) for o in self.server.operations if (m := o.pattern.fullmatch(parts.path))]
        if not matches:
            raise Refusal(404)
        chosen = next(((o, m) for o, m in matches if o.tool.method == method), None)
        if chosen is None:
            allowed = sorted({o.tool.method for o, _ in matches})
            raise Refusal(405, headers={"Allow": ", ".join(allowed)})
        operation, match = chosen
        arguments: dict[str, Any] = _body(headers.get("content-type", ""), body) if method == "POST" else {}
        arguments |= {name: unquote(value) for name, value in match.groupdict().items()}
        arguments |= dict(parse_qsl(parts.query, keep_blank_values=True))
        for name, header in HEADERS.items():
            arguments.pop(name, None)
            if header.lower() in headers:
                arguments[name] = headers[header.lower()]
        return operation, arguments

    def _record(self, kind: str, request: dict[str, Any], work: Callable[[], Reply]) -> Response:
        """Make a request, account for it and write it down; one that comes after the end leaves no trace."""
        server = self.server
        if server.over:
            self.watch({"kind": "after"})
            return server.gone()
        try:
            response = server.handle(work)
            self.account()
        except Exception as error:  # a fault of a third party, or of the simulation: never the agent's
            self.error = f"{type(error).__name__}: {error}"
            server.core.terminated[0] = True
            server.core.components[:], server.core.reward[:] = 0.0, 0.0
            self.account()
            server.core.outcome[0] = server.core.outcome_names.index("harness_error")
            response = server.gone()
        self._write({"kind": kind, **request, "response": response.to_dict()})
        return response

    def _write(self, event: dict[str, Any]) -> None:
        core = self.server.core
        self._hash.update(json.dumps(event, sort_keys=True, separators=(",", ":")).encode("utf-8", "replace"))
        self.events.append(
            {"n": len(self.events) + 1, "clock_s": float(core.clock[0]), "spend_usd": float(core.spend[0]),
             **event, "digest": self.digest}
        )  # fmt: skip
        self.watch(self.events[-1])

    def _take_token(self, response: Response) -> None:
        """Keep a new token as an HTTP client would: if the answer can be read."""
        try:
            body = response.json() if response.ok else None
        except ValueError:
            return
        if isinstance(body, dict) and isinstance(body.get("access_token"), str):
            self.token = body["access_token"]


_EXCHANGES: WeakKeyDictionary[ToolSession, Exchange] = WeakKeyDictionary()


class ToolSession:
    """All that an agent gets: a task, tools, and a way to call them.

    Every answer, also that to a call that makes no sense, is a :class:`Response`; nothing raises, and nothing but
    ``finish``, ``handoff``, ``abort`` and the limits ends the episode. Afterwards every answer is 410.

    Attributes:
        task: what is to be done, as plain data: ``request``, the ids of the records, ``details`` that the requester
            gave, ``procedure``, ``access_token``, ``expires_in``, ``deadline_s`` and ``budget_usd``.
    """

    __slots__ = ("__weakref__", "task")

    def __init__(self, exchange: Exchange, task: dict[str, Any]) -> None:
        self.task = copy.deepcopy(task)
        _EXCHANGES[self] = exchange

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The tools. ``session.reset`` may change what they are called with."""
        return _EXCHANGES[self].tools

    @property
    def done(self) -> bool:
        """Whether the episode is over."""
        return _EXCHANGES[self].server.over

    @property
    def clock_s(self) -> float:
        """Virtual seconds since the request came."""
        return float(_EXCHANGES[self].server.core.clock[0])

    @property
    def spend_usd(self) -> float:
        """USD spent so far."""
        return float(_EXCHANGES[self].server.core.spend[0])

    def call(self, name: str, /, **arguments: Any) -> Response:
        """Call a tool; the newest token is sent along, as an HTTP client would.

        Args:
            name: the tool, as ``crm.get_customer`` or ``crm_get_customer``.
            arguments: what its schema asks for.
        """
        exchange = _EXCHANGES[self]
        return exchange.call(str(name), arguments, exchange.token)

    def request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: str | bytes | None = None
    ) -> Response:
        """Make a request as it goes over the wire, with headers of one's own (``Authorization: Bearer ...``).

        Args:
            method: GET, POST or DELETE.
            path: path and query.
            headers: headers; their names in any case.
            body: JSON, or a form where the operation takes one.
        """
        return _EXCHANGES[self].wire(method, path, headers or {}, body)

    def usage(self, cost_usd: float = 0.0, latency_s: float = 0.0) -> None:
        """Report what the agent's own model has cost since the last report.

        Args:
            cost_usd: USD.
            latency_s: seconds of virtual time.
        """
        _EXCHANGES[self].usage(cost_usd, latency_s)


# ---------------------------------------------------------------- arguments


def _as_json(arguments: dict[str, Any]) -> dict[str, Any] | None:
    """Return arguments as plain data, None if they are not such."""
    try:
        return json.loads(_clean(json.dumps(arguments, ensure_ascii=False, allow_nan=False)))
    except (TypeError, ValueError, RecursionError):
        return None


def _clean(text: str) -> str:
    """Return text without what cannot be written as UTF-8."""
    return text.encode("utf-8", "replace").decode()


def _canonical(operation: Operation, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return arguments as they come off the wire: those beside the body are text, and empty ones are left out."""
    places, found = operation.tool.places, {}
    for name in sorted(arguments):
        value = arguments[name]
        if places.get(name, f"header:{name}" if name in HEADERS else "body") != "body":
            if value is None:
                continue
            value = value if isinstance(value, str) else json.dumps(value)
        found[name] = value
    return found


_placed = _canonical


def _body(content: str, text: str) -> dict[str, Any]:
    """Read the body of a request.

    Raises:
        Refusal: if it is no JSON object and no form.
    """
    if len(text) > _LARGEST_BODY:
        raise Refusal(400, "The body is too large.")
    if not text.strip():
        return {}
    kind = content.partition(";")[0].strip().lower()
    if kind == "application/x-www-form-urlencoded":
        return dict(parse_qsl(text, keep_blank_values=True))
    if kind and kind != "application/json" and not re.fullmatch(r"application/[a-z.+-]*\+json", kind):
        raise Refusal(415)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise Refusal(400, "The body is not valid JSON.") from None
    if not isinstance(found, dict):
        raise Refusal(422, "The body must be a JSON object.")
    return found


def _amount(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return number if 0.0 < number < 1e9 else 0.0
