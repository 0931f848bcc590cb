"""The OpenAPI documents: of one episode's tools, and of the control address."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from .serve_requests import Closing, NewEpisode, Usage
from .tools import ToolSession


def episode_document(key: str, session: ToolSession) -> dict[str, Any]:
    """Describe exactly the tools of an episode, with addresses relative to the server.

    Args:
        key: id of the episode.
        session: its session.
    """
    paths: dict[str, dict[str, Any]] = {}
    for tool in session.tools:
        group, dot, _ = tool.name.rpartition(".")
        tags = {"tags": [group]} if dot else {}
        paths.setdefault(tool.path, {})[tool.method.lower()] = tool.openapi() | tags
    base = f"/e/{key}"
    token = {"clientCredentials": {"tokenUrl": f"{base}/auth/token", "scopes": {}}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Operations API", "version": "1.0.0", "description": str(session.task.get("request", ""))},
        "servers": [{"url": base}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {"securitySchemes": {"token": {"type": "oauth2", "flows": token}}},
    }


def control_document() -> dict[str, Any]:
    """Describe the control address."""
    bodies = (NewEpisode, Closing, Usage)
    _, schemas = models_json_schema(
        [(body, "validation") for body in bodies], ref_template="#/components/schemas/{model}"
    )
    one = [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}]
    state = {"type": "string", "enum": ["open", "closed"], "default": "open"}
    start = {"type": "integer", "minimum": 0, "maximum": 10**11, "default": 0}
    count = {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}
    page = [
        {"name": name, "in": "query", "schema": schema}
        for name, schema in {"state": state, "start": start, "count": count}.items()
    ]
    return {
        "openapi": "3.1.0",
        "info": {"title": "brownout control", "version": "1"},
        "security": [{"secret": []}],
        "paths": {
            "/episodes": {
                "post": _operation("Open an episode, or several.", {201, 422, 429, 503}, body=NewEpisode),
                "get": _operation("List episodes.", {200}, parameters=page),
            },
            "/episodes/{id}": {"get": _operation("Show an episode.", {200, 404}, parameters=one)},
            "/episodes/{id}/score": {
                "get": _operation("Read the result of a finished episode.", {200, 404, 409}, parameters=one)
            },
            "/episodes/{id}/close": {
                "post": _operation("Close an episode and read its result.", {200, 404}, parameters=one, body=Closing)
            },
            "/episodes/{id}/usage": {
                "post": _operation("Count in what the agent's model cost.", {200, 404, 409}, parameters=one, body=Usage)
            },
            "/status": {"get": _operation("Counts, limits and workflows.", {200})},
            "/openapi.json": {"get": _operation("This document.", {200})},
        },
        "components": {
            "securitySchemes": {"secret": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas["$defs"],
        },
    }


def _operation(
    summary: str,
    statuses: set[int],
    *,
    parameters: list[dict[str, Any]] | None = None,
    body: type[BaseModel] | None = None,
) -> dict[str, Any]:
    told = {str(status): HTTPStatus(status).phrase for status in sorted({*statuses, 401, 422})}
    if body is not None:
        told |= {str(status): HTTPStatus(status).phrase for status in (400, 408, 413)}
    operation: dict[str, Any] = {
        "summary": summary,
        "responses": {
            status: {"description": text, "content": {"application/json": {"schema": {"type": "object"}}}}
            for status, text in told.items()
        },
    }
    if parameters:
        operation["parameters"] = parameters
    if body is not None:
        schema = {"$ref": f"#/components/schemas/{body.__name__}"}
        operation["requestBody"] = {"content": {"application/json": {"schema": schema}}}
    return operation
