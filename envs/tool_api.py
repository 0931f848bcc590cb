"""The interface of a workflow: its operations as tools with JSON schemas, and what a response is."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..faults import FieldFacts, FieldType
from ..scenarios.workflow_schema import WorkflowScenario

SCHEMA = "https://json-schema.org/draft/2020-12/schema"
HEADERS = {"idempotency_key": "Idempotency-Key", "if_match": "If-Match"}
Failure = Literal["timeout", "reset"]


@dataclass(frozen=True)
class Tool:
    """One operation of the interface that an agent works with.

    Args:
        name: its name, ``crm.get_customer``; the forms for models have ``_`` for the dot.
        description: what it does.
        method: ``GET``, ``POST`` or ``DELETE``.
        path: its path, ``/crm/customers/{id}``.
        parameters: JSON schema (object, draft 2020-12) of all arguments.
        places: where each argument goes: ``path``, ``query``, ``header:<name>`` or ``body``.
    """

    name: str
    description: str
    method: str
    path: str
    parameters: dict[str, Any]
    places: dict[str, str]

    @property
    def flat_name(self) -> str:
        """The name without dots."""
        return self.name.replace(".", "_")

    def openai(self) -> dict[str, Any]:
        """Return the tool as the chat and responses interfaces of model providers take it."""
        function = {"name": self.flat_name, "description": self.description, "parameters": self._schema()}
        return {"type": "function", "function": function}

    def mcp(self) -> dict[str, Any]:
        """Return the tool as the Model Context Protocol lists it."""
        return {"name": self.flat_name, "description": self.description, "inputSchema": self._schema()}

    def openapi(self) -> dict[str, Any]:
        """Return the operation object of an OpenAPI 3.1 document; it belongs under its path and method."""
        properties, required = self.parameters["properties"], self.parameters.get("required", [])
        operation: dict[str, Any] = {
            "operationId": self.flat_name,
            "summary": self.description,
            "responses": {"default": {"description": "as the service answers", "content": {"application/json": {}}}},
        }
        parameters = []
        for name, place in self.places.items():
            if place == "body":
                continue
            where, _, header = place.partition(":")
            parameters.append(
                {"name": header or name, "in": where, "required": name in required, "schema": properties[name]}
            )
        if parameters:
            operation["parameters"] = parameters
        body = {name: properties[name] for name, place in self.places.items() if place == "body"}
        if body:
            needed = [name for name in required if name in body]
            schema = {"type": "object", "properties": body, "required": needed, "additionalProperties": False}
            content = {"application/json": {"schema": schema}}
            if self.name == "auth.token":
                content["application/x-www-form-urlencoded"] = {"schema": schema}
            operation["requestBody"] = {"required": bool(needed), "content": content}
        return operation

    def _schema(self) -> dict[str, Any]:
        return json.loads(json.dumps(self.parameters))


@dataclass(frozen=True)
class Response:
    """What came back.

    Args:
        status: HTTP status; 0 when nothing came back.
        headers: its headers.
        text: its body as it arrived, which may be cut off, HTML or empty.
        elapsed_s: virtual seconds that it took.
        failure: ``timeout`` or ``reset`` when nothing came back, else None.
    """

    status: int
    headers: dict[str, str]
    text: str
    elapsed_s: float
    failure: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the status is one of success."""
        return 200 <= self.status < 300

    def json(self) -> Any:
        """Return the body as JSON.

        Raises:
            ValueError: if it is none.
        """
        return json.loads(self.text)

    @property
    def retry_after_s(self) -> float | None:
        """Seconds after which the service invites a retry, None if it does not say."""
        value = self.headers.get("Retry-After")
        return None if value is None else float(value)

    def told(self) -> dict[str, Any]:
        """Return what a model is told: status, headers and body, and the failure where nothing came back."""
        if self.failure is not None:
            return {"status": 0, "failure": self.failure, "headers": {}, "body": ""}
        return {"status": self.status, "headers": dict(self.headers), "body": self.text}

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"status": self.status, "headers": dict(self.headers), "text": self.text, "elapsed_s": self.elapsed_s,
                "failure": self.failure}  # fmt: skip


@dataclass(frozen=True)
class Operation:
    """A tool, and what it is about.

    Args:
        tool: the tool.
        kind: which handler answers it.
        service: name of the service it goes to; None for those beside the business services.
        record: index of the record, -1 for none.
        step: index of the step, -1 for none.
        listed: whether agents are told of it.
    """

    tool: Tool
    kind: str
    service: str | None = None
    record: int = -1
    step: int = -1
    listed: bool = True
    pattern: re.Pattern[str] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        parts = re.split(r"\{(\w+)\}", self.tool.path)
        pattern = "".join(re.escape(p) if i % 2 == 0 else f"(?P<{p}>[^/]+)" for i, p in enumerate(parts))
        object.__setattr__(self, "pattern", re.compile(pattern))


def argument_name(column: str, renamed: bool = False) -> str:
    """Return the name of the argument for ``record.field``; services that rename their fields write it otherwise.

    >>> argument_name("customer.email"), argument_name("customer.email", renamed=True)
    ('customer_email', 'customerEmail')
    """
    name = re.sub(r"[^a-zA-Z0-9]+", "_", column).strip("_")
    if not renamed:
        return name
    first, *rest = name.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)


def _words(name: str) -> str:
    return re.sub(r"[^a-zA-Z0-9]+", " ", name).strip()


def slug(name: str) -> str:
    """Return a name as it stands in a path or an argument."""
    return re.sub(r"[^a-zA-Z0-9]+", "_", name).strip("_").lower()


def schema_of(facts: FieldFacts) -> dict[str, Any]:
    """Return the JSON schema of an argument that holds a field."""
    what = f"the {_words(facts.kind)}'s {_words(facts.name)}"
    if facts.type is FieldType.AMOUNT:
        return {"type": ["number", "string"], "description": f"{what}, an amount with {facts.decimals} decimals"}
    if facts.type is FieldType.INTEGER:
        return {"type": ["integer", "string"], "description": f"{what}, a whole number"}
    formats = {FieldType.EMAIL: "email", FieldType.DATE: "date", FieldType.STAMP: "date-time"}
    schema: dict[str, Any] = {"type": "string", "description": what}
    if facts.type in formats:
        schema["format"] = formats[facts.type]
    return schema


def _tool(
    name: str, description: str, method: str, path: str, arguments: Mapping[str, tuple[str, dict[str, Any]]],
    optional: Collection[str] = (),
) -> Tool:  # fmt: skip
    parameters = {
        "$schema": SCHEMA,
        "type": "object",
        "properties": {name: schema for name, (_, schema) in arguments.items()},
        "required": [name for name in arguments if name not in optional],
        "additionalProperties": False,
    }
    return Tool(name, description, method, path, parameters, {name: place for name, (place, _) in arguments.items()})


_TEXT = {"type": "string"}
_ID = {"type": "string", "description": "id of the record"}
_CURSOR = {"type": "string", "description": "next_cursor of the page before"}


def operations(spec: WorkflowScenario, facts: list[FieldFacts], renamed: Collection[str] = ()) -> tuple[Operation, ...]:
    """Return everything that the interface of a workflow can do.

    Args:
        spec: the workflow.
        facts: its fields, in order.
        renamed: services whose arguments have got new names.
    """
    found = [_auth(spec)]
    for index, (record, kind) in enumerate(spec.records.items()):
        base, word = f"/{slug(kind.service)}/{slug(record)}s", _words(record)
        get = _tool(f"{slug(kind.service)}.get_{slug(record)}", f"Read one {word} by its id.", "GET", f"{base}/{{id}}",
                    {"id": ("path", _ID)})  # fmt: skip
        list_ = _tool(f"{slug(kind.service)}.list_{slug(record)}s", f"List {word} records, page by page.", "GET", base,
                      {"cursor": ("query", _CURSOR)}, ("cursor",))  # fmt: skip
        found += [Operation(get, "get_record", kind.service, index),
                  Operation(list_, "list_records", kind.service, index)]  # fmt: skip
    for index, name in enumerate(spec.steps):
        found += _step(spec, facts, index, name, renamed)
    return (*found, *_side(spec))


def _auth(spec: WorkflowScenario) -> Operation:
    grant = {"type": "string", "enum": ["client_credentials"]}
    token = _tool(
        "auth.token", f"Get a new access token; it lives for {spec.token.ttl_s:g} seconds.", "POST", "/auth/token",
        {"grant_type": ("body", grant), "scope": ("body", _TEXT)}, ("grant_type", "scope"),
    )  # fmt: skip
    return Operation(token, "token")


def _step(
    spec: WorkflowScenario, facts: list[FieldFacts], index: int, name: str, renamed: Collection[str]
) -> list[Operation]:
    step = spec.steps[name]
    base = f"/{slug(step.service)}/{slug(name)}"
    taken = {slug(record) for record, kind in spec.records.items() if kind.service == step.service}
    many = f"{slug(name)}_entries" if slug(name) in taken else f"{slug(name)}s"
    columns = [spec.field_names.index(field) for field in spec.needed_fields(name)]
    arguments = {
        argument_name(spec.field_names[c], step.service in renamed): ("body", schema_of(facts[c])) for c in columns
    }
    optional = []
    if step.writes:
        arguments["if_match"] = (
            "header:If-Match",
            {"type": "string", "description": "ETag of a record that was read; refused if it has changed since"},
        )
        optional.append("if_match")
        if step.idempotency == "key":
            arguments["idempotency_key"] = (
                "header:Idempotency-Key",
                {"type": "string", "description": "a call repeated under the same key has no further effect"},
            )
            optional.append("idempotency_key")
    call = _tool(f"{slug(step.service)}.{slug(name)}", _purpose(spec, name), "POST", base, arguments, optional)
    found = [Operation(call, "step", step.service, step=index)]
    if not step.writes:
        return found
    there = f"/{slug(step.service)}/{many}"
    one = {"effect_id": ("path", {"type": "string", "description": "its id"})}
    list_ = _tool(f"{slug(step.service)}.list_{many}", f"List what '{_words(name)}' has done and stands.", "GET", there,
                  {"cursor": ("query", _CURSOR)}, ("cursor",))  # fmt: skip
    look = _tool(f"{slug(step.service)}.get_{many}", f"Look up one result of '{_words(name)}'.", "GET",
                 f"{there}/{{effect_id}}", one)  # fmt: skip
    found += [Operation(list_, "list_effects", step.service, step=index),
              Operation(look, "get_effect", step.service, step=index, listed=False)]  # fmt: skip
    if step.compensable:
        undo = _tool(f"{slug(step.service)}.undo_{slug(name)}", f"Take back one result of '{_words(name)}'.", "DELETE",
                     f"{there}/{{effect_id}}", one)  # fmt: skip
        found.append(Operation(undo, "undo", step.service, step=index))
    return found


def _purpose(spec: WorkflowScenario, name: str) -> str:
    """Describe a step in words."""
    step = spec.steps[name]
    parts = [f"Carry out '{_words(name)}'" if step.writes else f"Run '{_words(name)}', which changes nothing"]
    if step.after:
        parts.append(f"after {', '.join(repr(_words(other)) for other in step.after)}")
    if step.when or step.unless:
        parts.append(f"only if {step.when or step.unless} is {'true' if step.when else 'false'}")
    found = [decision for decision, d in spec.decisions.items() if d.by == name]
    text = " ".join(parts) + "."
    if found:
        text += f" The answer says whether {' and '.join(found)}."
    if step.writes:
        text += {
            "key": " Repeating it under the same idempotency key has no further effect.",
            "natural": " Repeating it sets the same state again.",
            "none": " Every call has an effect of its own.",
        }[step.idempotency]
    return text


def _side(spec: WorkflowScenario) -> list[Operation]:
    seconds = {"type": "number", "exclusiveMinimum": 0, "maximum": 86400}
    reset = _tool("session.reset", "Set up the session anew, and learn of changes of the interface.", "POST",
                  "/session", {})  # fmt: skip
    wait = _tool("clock.wait", "Wait for some seconds.", "POST", "/wait", {"seconds": ("body", seconds)})
    messages = _tool("requester.messages", "Read the messages of whoever asked for the work.", "GET",
                     "/requester/messages", {})  # fmt: skip
    ask = _tool("requester.ask", "Ask whoever asked for the work about fields, such as customer_email; at most four "
                "at a time. They answer few questions.", "POST", "/requester/questions",
                {"about": ("body", _TEXT | {"description": "argument names, separated by commas"})})  # fmt: skip
    handoff = _tool("handoff", "Hand the work over to a person, and stop.", "POST", "/handoff",
                    {"reason": ("body", _TEXT)}, ("reason",))  # fmt: skip
    finish = _tool("finish", "Report that the work is done, and stop.", "POST", "/finish",
                   {"summary": ("body", _TEXT)}, ("summary",))  # fmt: skip
    abort = _tool("abort", "Stop without having done the work.", "POST", "/abort", {"reason": ("body", _TEXT)},
                  ("reason",))  # fmt: skip
    found = [Operation(reset, "reset"), Operation(messages, "messages"), Operation(wait, "wait")]
    if spec.requester is not None:
        found.append(Operation(ask, "ask"))
    if spec.person is not None:
        found.append(Operation(handoff, "handoff"))
    return [*found, Operation(finish, "finish"), Operation(abort, "abort")]
