"""From a session's response to bytes on a connection: late, cut short, or no bytes at all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from http import HTTPStatus
from typing import Any, Final, Protocol

from .tools import Response

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

BODILESS: Final = frozenset({204, 304})
DRAINED: Final = 16  # a body this many times too large is still read, so that the client gets to see the 413


class Breakable(Protocol):
    """A connection that can be closed early or broken."""

    def close(self) -> None:
        """Close after what was sent."""

    def reset(self) -> None:
        """Break with a TCP reset."""


class BodyError(Exception):
    """A body that is not taken: ``status`` says why."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class ClientGoneError(Exception):
    """The client closed the connection before it had its answer."""


async def read_body(receive: Receive, limit: int, seconds: float) -> bytes:
    """Read a request's body.

    Args:
        receive: of the request.
        limit: bytes taken.
        seconds: time for the whole body to arrive.

    Raises:
        BodyError: it is too large (413) or too slow (408).
        ClientGoneError: the client went away.
    """
    parts, size, more = [], 0, True
    try:
        async with asyncio.timeout(seconds):
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGoneError
                part, more = message.get("body", b""), message.get("more_body", False)
                size += len(part)
                if size <= limit:
                    parts.append(part)
                elif size > limit * DRAINED:
                    raise BodyError(413)
    except TimeoutError:
        raise BodyError(408) from None
    if size > limit:
        raise BodyError(413)
    return b"".join(parts)


def joined_headers(pairs: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers by name in small letters; what is sent twice is joined by commas."""
    headers: dict[str, str] = {}
    for name, value in pairs:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers


async def deliver(
    response: Response, *, method: str, time_scale: float, connection: Breakable, receive: Receive, send: Send
) -> None:
    """Answer a request as the response says, after the share of its time that is really waited.

    A time-out is a connection on which nothing comes until the client gives up or the time is over, and which is
    then closed without an answer; a reset is a TCP reset. A body shorter than its ``Content-Length`` is sent as far
    as it goes, then the connection is closed.
    """
    if await gone_within(response.elapsed_s * time_scale, receive):
        return
    if response.failure is not None:
        if response.failure == "reset":
            connection.reset()
        else:
            connection.close()
        await disconnected(receive)
        return
    bodiless = response.status in BODILESS
    body = b"" if bodiless else response.text.encode()
    headers, promised = {}, len(body)
    for name, value in response.headers.items():
        if name.lower() == "content-length":
            promised = max(promised, int(value))
        else:
            headers[name] = value
    if not bodiless:
        headers["Content-Length"] = str(promised)
    cut = promised > len(body) and not bodiless and method != "HEAD"
    await send({"type": "http.response.start", "status": response.status, "headers": _encoded(headers)})
    await send({"type": "http.response.body", "body": body, "more_body": cut})
    if cut:
        connection.close()
        await disconnected(receive)


def refusal(status: int) -> str:
    """The body of an answer that the service itself gives instead of the session."""
    phrase = HTTPStatus(status).phrase
    return json.dumps({"error": {"code": phrase.lower().replace(" ", "_"), "message": f"{phrase}."}})


async def answer_json(
    send: Send, status: int, body: str, headers: Mapping[str, str] | None = None, *, close: bool = False
) -> None:
    """Send a JSON answer of the service itself."""
    data = body.encode()
    told = {"Content-Type": "application/json", "Content-Length": str(len(data)), **(headers or {})}
    if close:
        told["Connection"] = "close"
    await send({"type": "http.response.start", "status": status, "headers": _encoded(told)})
    await send({"type": "http.response.body", "body": data})


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


async def gone_within(seconds: float, receive: Receive) -> bool:
    """Wait; True as soon as the client goes away meanwhile. The request's body must have been read."""
    if seconds <= 0:
        return False
    going = asyncio.ensure_future(disconnected(receive))
    done, _ = await asyncio.wait({going}, timeout=seconds)
    if not done:
        going.cancel()
    return bool(done)


async def disconnected(receive: Receive) -> None:
    """Wait until the connection is closed."""
    while (await receive())["type"] != "http.disconnect":
        pass
