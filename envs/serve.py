"""``brownout serve``: tool sessions over HTTP and MCP, and a control address apart from them.

Two listeners in one process share a store of episodes. Everything runs on one event loop; the simulation answers
in well under a few milliseconds, and only the waiting for simulated latency overlaps.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from ..errors import ServeError
from ..scenarios import Scenario
from .serve_agents import AgentsApp
from .serve_control import control_app
from .serve_listener import Listener, bind, make_listener, url_of
from .serve_secrets import new_secret
from .serve_settings import ServeSettings
from .serve_store import EpisodeStore, Held
from .tools import ToolEpisode

T = TypeVar("T")

log = logging.getLogger("brownout.serve")


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine only."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Service:
    """The service: bound when made, serving while :meth:`run` runs.

    Args:
        folder: folder of the record; unfinished episodes in it are taken up again.
        settings: time and limits.
        secret: the control secret.
        host: address to listen on.
        port: port of the agents' address; 0 takes a free one.
        control_port: port of the control address; likewise.
        public: base address to tell agents, if not the one that is bound.
        scenarios: further workflows by name.

    Raises:
        ServeError: an address or the record cannot be used.
    """

    def __init__(
        self,
        folder: str | Path,
        settings: ServeSettings | None = None,
        *,
        secret: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        control_port: int = 0,
        public: str | None = None,
        scenarios: Mapping[str, Scenario] | None = None,
    ) -> None:
        self.settings = settings or ServeSettings()
        self.secret = secret or new_secret()
        self._sockets = [bind(host, port), bind(host, control_port)]
        try:
            self.store = EpisodeStore(folder, self.settings, scenarios)
        except ServeError:
            for handle in self._sockets:
                handle.close()
            raise
        bound, self.control_url = map(url_of, self._sockets)
        self.url = (public or bound).rstrip("/")
        local = bound.removeprefix("http://")
        hosts = (local, f"localhost:{local.rpartition(':')[2]}") if is_loopback(host) and public is None else ()
        self._apps = [AgentsApp(self.store, hosts), control_app(self.store, self.secret, self.url)]
        self._listeners: list[Listener] = []

    async def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Serve until :meth:`stop`; then let running requests end, and leave open episodes to the next start.

        Args:
            ready: called once both addresses are served.

        Raises:
            ServeError: the record cannot be written any more.
        """
        self._listeners = [make_listener(app, self.settings) for app in self._apps]
        tending = asyncio.create_task(self.store.tend())
        tending.add_done_callback(lambda _: self.stop())
        serving = [
            asyncio.create_task(listener.serve(sockets=[handle]))
            for listener, handle in zip(self._listeners, self._sockets, strict=True)
        ]
        try:
            while not all(listener.started for listener in self._listeners):
                await asyncio.sleep(0.01)
            ready()
            await asyncio.gather(*serving)
        finally:
            failure = None if tending.cancel() else tending.exception()
            self.store.shut()
        if failure is not None:
            raise failure

    def stop(self) -> None:
        """Begin to stop; :meth:`run` returns soon after."""
        for listener in self._listeners:
            listener.should_exit = True

    def run_until_signal(self, ready: Callable[[], None] = lambda: None) -> None:
        """Serve in this thread until SIGTERM or SIGINT."""

        async def main() -> None:
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self.stop)
            await self.run(ready)

        asyncio.run(main())


class LocalService:
    """A service in a thread of its own, for harnesses and tests; a context manager.

    Args:
        service: the service to run.

    Raises:
        ServeError: it does not come up, or does not stop.
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="brownout-serve", daemon=True)

    @property
    def running(self) -> bool:
        """Whether it serves."""
        return self._thread.is_alive()

    def _run(self) -> None:
        async def main() -> None:
            self._loop = asyncio.get_running_loop()
            await self.service.run(self._ready.set)

        try:
            asyncio.run(main())
        except BaseException as error:  # told to whoever waits
            self._failure = error
        finally:
            self._ready.set()

    def __enter__(self) -> Service:
        self._thread.start()
        if not self._ready.wait(30) or self._failure is not None:
            raise ServeError(f"the service does not come up: {self._failure or 'no answer in 30 s'}")
        return self.service

    @contextmanager
    def lent(self, episode: ToolEpisode) -> Iterator[str]:
        """Serve an episode made elsewhere, without ever closing it.

        Yields:
            its base address.
        """
        held = self._on_loop(self._adopt(episode))
        try:
            yield f"{self.service.url}/e/{held.id}"
        finally:
            self._on_loop(self.service.store.release(held))

    async def _adopt(self, episode: ToolEpisode) -> Held:
        return self.service.store.adopt(episode, lent=True)

    def _on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self.service.stop)
        self._thread.join(self.service.settings.shutdown_s + 10)
        if self._thread.is_alive():
            raise ServeError("the service does not stop")
        if self._failure is not None and error is None:
            raise ServeError(f"the service failed: {self._failure}") from self._failure
