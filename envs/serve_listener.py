"""A listener of the service: uvicorn, with a way for an answer to break its connection as real ones break."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import struct
from collections.abc import Iterator
from typing import Any

from ..errors import ServeError
from ..extras import missing_extra
from .serve_settings import ServeSettings
from .serve_wire import answer_json, refusal

try:
    import uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol
except ImportError as error:
    raise missing_extra("serve", error) from error

EXTENSION = "brownout.connection"


class Connection:
    """What an answer may do to the connection it would have gone over."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def close(self) -> None:
        """Close in an orderly way, after what was sent."""
        self._transport.close()

    def reset(self) -> None:
        """Break the connection: the client gets a TCP reset (RST), as from a host that crashed."""
        handle = self._transport.get_extra_info("socket")
        if handle is not None:
            # Closed with a lingering time of zero, a socket sends RST instead of FIN.
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()


class _Protocol(H11Protocol):
    """Hands each request its connection, and closes connections on which no request ever comes."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        app: Any = self.app
        extensions = {EXTENSION: Connection(transport)}
        limit = self.config.h11_max_incomplete_event_size or 0

        async def with_connection(scope: dict[str, Any], receive: Any, send: Any) -> None:
            # The parser limits only what arrives in parts.
            size = sum(len(name) + len(value) + 4 for name, value in scope["headers"])
            if size + len(scope["raw_path"]) + len(scope["query_string"]) > limit:
                await answer_json(send, 431, refusal(431), close=True)
                return
            scope["extensions"] = extensions
            try:
                await app(scope, receive, send)
            except asyncio.CancelledError:  # the service stops and the grace is over; no answer is better than a 500
                transport.abort()

        self.app = with_connection
        self._first_request = self.loop.call_later(self.config.timeout_keep_alive, self._give_up)

    def shutdown(self) -> None:
        super().shutdown()
        # What still waits by then waits for simulated time, which nobody needs any more.
        self.loop.call_later(max((self.config.timeout_graceful_shutdown or 1) - 1, 0), self.transport.close)

    def _give_up(self) -> None:
        if self.cycle is None:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._first_request.cancel()
        super().connection_lost(exc)


class Listener(uvicorn.Server):
    """One address of the service. Signals are the service's business, not the listener's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


def make_listener(app: Any, settings: ServeSettings) -> Listener:
    """A listener for an ASGI application under the limits of the service."""
    config = uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,  # nobody stands in front; a forged header must not change who the client is
        server_header=False,
        date_header=False,  # the session tells its own date
        backlog=max(settings.connections, 128),
        limit_concurrency=settings.connections + 1,
        h11_max_incomplete_event_size=settings.header_bytes,
        timeout_keep_alive=math.ceil(settings.receive_s),
        timeout_graceful_shutdown=math.ceil(settings.shutdown_s) + 1,
    )
    return Listener(config)


def bind(host: str, port: int) -> socket.socket:
    """Open a listening socket; port 0 takes a free one.

    Raises:
        ServeError: the address is not free, or not this machine's.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # Named as TCP, or asyncio leaves Nagle's algorithm on, which costs 40 ms an answer.
        handle = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as reason:
        raise ServeError(f"{host}:{port}: {reason}") from reason
    try:
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        handle.bind((host, port))
    except (OSError, OverflowError) as reason:
        handle.close()
        raise ServeError(f"{host}:{port}: cannot listen there: {reason}") from reason
    handle.set_inheritable(False)
    return handle


def url_of(handle: socket.socket) -> str:
    """The base address of a listening socket."""
    host, port = handle.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
