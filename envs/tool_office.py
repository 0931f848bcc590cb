"""What the desks of an episode's services share: the core, the names in use, tokens, and replies to failed calls."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import ScenarioError
from ..faults import Status
from .tool_api import HEADERS, Operation, argument_name, operations
from .tool_bodies import Clerk, dump, filler, http_status, retry_after
from .tool_calls import Done
from .tool_core import ToolCore
from .tool_values import plain
from .workflow_state import Kind

PAGE = 4
"""Entries on a page of a list."""


class Refusal(Exception):
    """A request that no service has to look at.

    Args:
        status: HTTP status.
        message: what is wrong, default: what the status stands for.
        details: what is wrong with which argument.
        headers: headers besides the usual ones.
    """

    def __init__(
        self,
        status: int,
        message: str | None = None,
        details: list[dict[str, Any]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.details, self.headers = status, message, details, dict(headers or {})


class Reply:
    """A response before the headers that every response has.

    Args:
        status: HTTP status; 0 if nothing comes back.
        text: the body.
        headers: headers of its own.
        failure: ``timeout`` or ``reset`` if nothing comes back.
    """

    def __init__(
        self, status: int, text: str, headers: Mapping[str, str] | None = None, failure: str | None = None
    ) -> None:
        self.status, self.text, self.headers, self.failure = status, text, dict(headers or {}), failure


class Office:
    """The state of an episode's services beside the physics.

    Args:
        core: the core, with the episode begun.

    Raises:
        ScenarioError: if two operations would have one name.
    """

    def __init__(self, core: ToolCore) -> None:
        self.core = core
        self.spec = core.spec
        self.clerk = Clerk(core.case())
        self.number = 0
        """Requests so far."""
        self.issued = 0
        self.tokens: set[str] = set()
        self.told: set[int] = set()
        """Services whose new names the agent has been told."""
        self.operations: tuple[Operation, ...] = ()
        self.describe()
        self.first_token = self.issue()

    def describe(self) -> None:
        """Make the description of the interface as it is told to agents now."""
        names = self.core.services.names
        self.operations = operations(self.spec, self.core.case_fields.facts, {names[i] for i in self.told})
        tools = [operation.tool.flat_name for operation in self.operations]
        twice = sorted({name for name in tools if tools.count(name) > 1})
        if twice:
            raise ScenarioError(f"{self.spec.name}: two operations are called {twice[0]!r}; rename a step or a record")

    def issue(self) -> str:
        """Return a new access token; the ones before it are void."""
        self.issued += 1
        token = self.next_token()
        self.tokens = {token}
        return token

    def next_token(self, ahead: int = 0) -> str:
        """Return the newest token, or one that is yet to be issued."""
        return self.clerk.token_of("token", self.issued + ahead, 24)

    # ---------------------------------------------------------------- names and times

    @property
    def now(self) -> float:
        """Virtual time, seconds."""
        return float(self.core.clock[0])

    def argument(self, column: int, service: int) -> str:
        """Return what a service calls the argument for a field now."""
        return argument_name(self.core.field_names[column], service in self.core.drifted)

    def value(self, column: int, text: str | None) -> Any:
        """Return the text of a field as it stands in a body."""
        return plain(text, self.core.case_fields.facts[column])

    def columns_of(self, record: int) -> list[int]:
        """Return the fields of a record."""
        return np.flatnonzero(self.core.record_of == record).tolist()

    # ---------------------------------------------------------------- calls

    def place(self, kind: Kind, **about: Any) -> tuple[Done, list[dict[str, Any]] | None, list[tuple[str, str]]]:
        """Place a call.

        Args:
            kind: what is asked for.
            **about: as for :meth:`ToolCore.place`.

        Returns:
            What became of it; far too much history to come with the answer, None for none; the effects that struck
            it, with their parameters as JSON.
        """
        core = self.core
        context, rows = float(core.context[0]), 0 if core.plan is None else len(core.plan.log)
        done = core.place(kind, **about)
        bloated = float(core.context[0]) > context + core.spec.session.growth + 1e-9
        struck: list[tuple[str, str]] = []
        if core.plan is not None and len(core.plan.log) > rows:
            struck = [(str(row["effect"]), str(row["parameters"])) for row in core.plan.log.rows()[rows:]]
        done.struck = struck
        return done, filler(self.clerk, self.number) if bloated else None, struck

    def answer(
        self,
        operation: Operation,
        done: Done,
        body: Mapping[str, Any],
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        history: list[dict[str, Any]] | None = None,
    ) -> Reply:
        """Return the reply to a call: ``body`` if all went well, else what its caller sees instead."""
        text = dump(body if history is None else {**body, "history": history})
        return self.failed(operation, done, text, status) or Reply(status, text, headers)

    def failed(self, operation: Operation, done: Done, good: str, status: int) -> Reply | None:
        """Return the reply to a call that did not go well, None if it did; ``good`` is what it would have said."""
        assert done.calls is not None
        word, retry = done.status, float(done.calls.retry_after_s[0])
        if word in (Status.OK, Status.PENDING):
            return None
        if word in (Status.TIMEOUT, Status.RESET):
            return Reply(0, "", failure="timeout" if word is Status.TIMEOUT else "reset")
        headers = {"Retry-After": retry_after(retry)} if retry > 0.0 else {}
        if word is Status.MALFORMED:
            text, about = self.clerk.damaged(good, self.number)
            return Reply(status, text, about)
        if word in (Status.EMPTY, Status.PARTIAL):
            return Reply(status, "")
        if word is Status.UNEXPECTED:
            codes = [json.loads(parameters).get("code") for _, parameters in done.struck]
            code = next((int(code) for code in codes if code is not None), 409)
            return Reply(code, "" if code < 400 else self.clerk.error(code), headers)
        code = http_status(word)
        if code == 401:
            headers |= challenge(operation.service)
        if code == 502 or (code in (500, 503) and self.clerk.case.draw("tool.page", self.number) < 0.4):
            return Reply(code, self.clerk.page(code), headers | {"Content-Type": "text/html"})
        return Reply(code, self.clerk.error(code), headers)

    def page(
        self,
        operation: Operation,
        done: Done,
        items: list[Any],
        start: int,
        history: list[dict[str, Any]] | None = None,
    ) -> Reply:
        """Return one page of a list."""
        more = f"p{start // PAGE + 1}" if start + PAGE < len(items) else None
        return self.answer(
            operation, done, {"items": items[start : start + PAGE], "next_cursor": more}, history=history
        )


def start_of(arguments: Mapping[str, Any]) -> int:
    """Return where the page that a cursor names begins.

    Raises:
        Refusal: if no such cursor was given out.
    """
    cursor = arguments.get("cursor")
    if cursor in (None, ""):
        return 0
    text = str(cursor).removeprefix("p")
    if not (str(cursor).startswith("p") and text.isascii() and text.isdigit() and len(text) < 6):
        raise Refusal(400, "The cursor is not one that was given out.")
    return int(text) * PAGE


def challenge(service: str | None) -> dict[str, str]:
    """Return the header that comes with 401."""
    return {
        "WWW-Authenticate": f'Bearer realm="{service or "api"}", error="invalid_token", '
        'error_description="The access token expired or was revoked"'
    }


def check(operation: Operation, arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that are missing, unknown or of another type than the schema says.

    Raises:
        Refusal: naming them.
    """
    properties = operation.tool.parameters["properties"]
    details = [
        {"loc": [name], "message": "field required", "type": "missing"}
        for name in operation.tool.parameters["required"]
        if arguments.get(name) is None
    ]
    for name, value in arguments.items():
        if name in properties:
            problem = None if value is None else _problem(value, properties[name])
            if problem:
                details.append({"loc": [name], "message": problem, "type": "type_error"})
        elif name not in HEADERS:
            details.append({"loc": [name], "message": "unexpected field", "type": "extra_forbidden"})
    if details:
        raise Refusal(422, details=details)


def _problem(value: Any, schema: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a value, None if nothing is."""
    if schema.get("type") == "number":
        if isinstance(value, bool) or not isinstance(value, int | float):
            return "must be a number"
        if not schema["exclusiveMinimum"] < value <= schema["maximum"]:
            return f"must be above {schema['exclusiveMinimum']} and at most {schema['maximum']}"
    elif not isinstance(value, str):
        return "must be text"
    if "enum" in schema and value not in schema["enum"]:
        return f"must be one of {', '.join(schema['enum'])}"
    return None
