"""The control address: open episodes, read their task, close them, read their scores. Every request needs the secret.

It listens apart from the agents' address, so that a firewall or a network namespace can keep agents away from it
altogether.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from http import HTTPStatus
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from ..errors import BrownoutError, ServeError
from ..extras import missing_extra
from .serve_openapi import control_document
from .serve_requests import Closing, NewEpisode, Usage
from .serve_secrets import same_secret
from .serve_store import EpisodeStore, FullError, Held
from .serve_wire import BodyError, ClientGoneError, read_body

try:
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route
except ImportError as error:
    raise missing_extra("serve", error) from error

PAGE: Final = 100
Handler = Callable[[Request], Awaitable[Response]]


def control_app(store: EpisodeStore, secret: str, agents_url: str) -> Starlette:
    """The ASGI application of the control address.

    Args:
        store: the episodes.
        secret: the bearer secret that every request must have.
        agents_url: base address under which agents reach their episodes.
    """

    def guarded(handler: Handler) -> Handler:
        async def guard(request: Request) -> Response:
            kind, _, given = request.headers.get("authorization", "").partition(" ")
            if kind.lower() != "bearer" or not same_secret(given, secret):
                raise HTTPException(401, "the control secret is missing or wrong", {"WWW-Authenticate": "Bearer"})
            return await handler(request)

        return guard

    async def read(request: Request, model: type[BaseModel]) -> Any:
        limit = max(store.settings.body_bytes, 1)
        body = await read_body(request.receive, limit, store.settings.receive_s)
        return model.model_validate_json(body or b"{}")

    def told(held: Held) -> dict[str, Any]:
        assert held.episode is not None
        base = f"{agents_url}/e/{held.id}"
        return {
            "id": held.id,
            "base_url": base,
            "openapi_url": f"{base}/openapi.json",
            "mcp_url": f"{base}/mcp",
            "task": held.episode.session.task,
            "header": held.episode.header,
        }

    def find(request: Request) -> Held:
        held = store.find(request.path_params["id"])
        if held is not None:
            return held
        if store.was(request.path_params["id"]):
            raise HTTPException(409, "the episode has ended; read its score")
        raise HTTPException(404, "no episode has this id")

    async def create(request: Request) -> Response:
        wanted = await read(request, NewEpisode)
        if wanted.count > store.settings.batch:
            raise HTTPException(422, f"count: got {wanted.count}; allowed: at most {store.settings.batch}")
        if wanted.count + store.open_count > store.settings.open_episodes:
            raise FullError(f"{store.open_count} episodes are open; allowed: {store.settings.open_episodes}")
        opened = []
        for wish in wanted.requests():
            opened.append(told(store.open(wish)))
            await asyncio.sleep(0)  # a batch must not hold up the agents
        await store.durable()
        return JSONResponse({"episodes": opened} if wanted.count > 1 else opened[0], 201)

    async def listing(request: Request) -> Response:
        state = request.query_params.get("state", "open")
        start, count = request.query_params.get("start", "0"), request.query_params.get("count", str(PAGE))
        numbers = start.isascii() and start.isdecimal() and count.isascii() and count.isdecimal()
        if state not in ("open", "closed") or not numbers or len(start) > 12 or not 1 <= int(count[:12]) <= 1000:
            raise HTTPException(422, "state: open or closed; start: 0 or more; count: 1 to 1000")
        rows = store.listing(state, int(start), int(count))
        total = store.open_count if state == "open" else store.closed_count
        return JSONResponse({"episodes": rows, "total": total})

    async def show(request: Request) -> Response:
        row = store.recorded(request.path_params["id"])
        return JSONResponse({"state": "closed", **row} if row else {"state": "open", **told(find(request))})

    async def score(request: Request) -> Response:
        row = store.recorded(request.path_params["id"])
        if row is None:
            find(request)
            raise HTTPException(409, "the episode is open; close it, or wait until the agent has finished")
        return JSONResponse(row["result"])

    async def close(request: Request) -> Response:
        wanted = await read(request, Closing)
        row = await store.close(request.path_params["id"], wanted.outcome)
        if row is None:
            raise HTTPException(404, "no episode has this id")
        return JSONResponse(row["result"])

    async def usage(request: Request) -> Response:
        wanted = await read(request, Usage)
        held = find(request)
        async with store.turn(held):
            await store.ask(held, lambda session: session.usage(**wanted.model_dump()))
        return JSONResponse({"done": held.ended})

    async def status(_request: Request) -> Response:
        return JSONResponse(
            {
                "open": store.open_count,
                "closed": store.closed_count,
                **store.counts,
                "settings": asdict(store.settings),
                "scenarios": store.workflows.names(),
            }
        )

    async def document(_request: Request) -> Response:
        return JSONResponse(control_document())

    routes = [
        Route("/episodes", guarded(create), methods=["POST"]),
        Route("/episodes", guarded(listing), methods=["GET"]),
        Route("/episodes/{id}", guarded(show), methods=["GET"]),
        Route("/episodes/{id}/score", guarded(score), methods=["GET"]),
        Route("/episodes/{id}/close", guarded(close), methods=["POST"]),
        Route("/episodes/{id}/usage", guarded(usage), methods=["POST"]),
        Route("/status", guarded(status), methods=["GET"]),
        Route("/openapi.json", guarded(document), methods=["GET"]),
    ]
    kinds = (HTTPException, ValidationError, BrownoutError, BodyError, ClientGoneError)
    app = Starlette(routes=routes, exception_handlers=dict.fromkeys(kinds, _refuse))
    app.router.redirect_slashes = False
    return app


async def _refuse(_request: Request, error: Exception) -> Response:
    status, headers, message = 422, {}, str(error)
    if isinstance(error, HTTPException):
        status, headers, message = error.status_code, dict(error.headers or {}), error.detail
    elif isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        status = 400 if first["type"] == "json_invalid" else 422
        message = f"{'.'.join(map(str, first['loc'])) or 'body'}: {first['msg']}"
    elif isinstance(error, FullError):
        status, headers = 429, {"Retry-After": "5"}
    elif isinstance(error, ServeError):
        status = 503
    elif isinstance(error, BodyError):
        status, headers, message = error.status, {"Connection": "close"}, HTTPStatus(error.status).phrase
    elif isinstance(error, ClientGoneError):
        status = 400
    return JSONResponse({"error": message}, status, headers)
