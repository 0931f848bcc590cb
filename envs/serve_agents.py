"""The agents' address: under ``/e/<id>/`` the API of one episode, its OpenAPI document and its MCP endpoint.

Whoever knows an episode's id may use its tools, and nothing else: there is no way from here to other episodes, to
seeds, scores or the control address, and no answer names them.
"""

from __future__ import annotations

import json
import time
from typing import Any

from .mcp_face import answer_mcp
from .serve_listener import EXTENSION
from .serve_openapi import episode_document
from .serve_store import GONE, EpisodeStore, Held
from .serve_wire import (
    BodyError,
    ClientGoneError,
    Receive,
    Send,
    answer_json,
    deliver,
    joined_headers,
    read_body,
    refusal,
)


class AgentsApp:
    """ASGI application of the agents' address.

    Args:
        store: the episodes.
        hosts: values of the ``Host`` header that MCP requests may have; empty allows all.
    """

    def __init__(self, store: EpisodeStore, hosts: tuple[str, ...] = ()) -> None:
        self._store = store
        self._hosts = hosts
        self._settings = store.settings

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        # The raw path: a decoded or normalised one could lead from one episode's address to another's.
        start, word, key, rest = [*scope["raw_path"].decode("latin-1").split("/", 3), "", "", ""][:4]
        held = self._store.find(key) if (start, word) == ("", "e") else None
        if held is None and not (word == "e" and self._store.was(key)):
            await answer_json(send, 404, refusal(404), close=True)
        elif held is not None and not self._admitted(held):
            self._store.counts["refused"] += 1
            await answer_json(send, 429, refusal(429), {"Retry-After": "1"}, close=True)
        elif rest == "mcp":
            await answer_mcp(self._store, held, self._hosts, scope, receive, send)
        elif held is None:
            await answer_json(send, GONE.status, GONE.text, close=True)
        elif rest == "openapi.json" and scope["method"] == "GET":
            await answer_json(send, 200, json.dumps(episode_document(held.id, _session(held))))
        else:
            await self._ask(held, f"/{rest}", scope, receive, send)

    async def _ask(self, held: Held, path: str, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        method = scope["method"]
        if scope["query_string"]:
            path = f"{path}?{scope['query_string'].decode('latin-1')}"
        try:
            body = await read_body(receive, self._settings.body_bytes, self._settings.receive_s)
        except ClientGoneError:
            return
        except BodyError as error:
            self._store.counts["refused"] += 1
            await answer_json(send, error.status, refusal(error.status), close=True)
            return
        async with self._store.turn(held):
            headers = joined_headers(scope["headers"])
            try:
                response = await self._store.ask(
                    held, lambda session: session.request(method, path, headers=headers, body=body or None)
                )
            except Exception:  # logged and recorded by the store
                await answer_json(send, 500, refusal(500), close=True)
                return
            await deliver(
                response, method=method, time_scale=self._settings.time_scale,
                connection=scope["extensions"][EXTENSION], receive=receive, send=send,
            )  # fmt: skip

    def _admitted(self, held: Held) -> bool:
        """Whether the episode's own rate limit, one second's worth of requests at once, lets one more in."""
        rate = self._settings.rate_per_s
        if not rate:
            return True
        now = time.monotonic()
        left, then = held.allowance or (max(rate, 1.0), now)
        left = min(left + (now - then) * rate, max(rate, 1.0))
        held.allowance = (left - 1.0, now) if left >= 1.0 else (left, now)
        return left >= 1.0


def _session(held: Held) -> Any:
    assert held.episode is not None
    return held.episode.session
