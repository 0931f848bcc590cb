"""The episodes of a service: opened, asked one request at a time, recorded as they run, rebuilt after a restart."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from ..errors import ScenarioError, ServeError
from ..scenarios import Scenario, builtin_scenarios, load_scenario
from .serve_journal import Journal, Place
from .serve_secrets import new_secret
from .serve_settings import ServeSettings
from .tools import Response, ToolEpisode, ToolSession

log = logging.getLogger("brownout.serve")

LISTED: Final = ("scenario", "seed", "profile", "intensity", "split", "episode", "outcome", "utility")
GONE: Final = Response(
    status=410,
    headers={"Content-Type": "application/json"},
    text='{"error": {"code": "gone", "message": "This session has ended."}}',
    elapsed_s=0.0,
    failure=None,
)


@dataclass(frozen=True)
class EpisodeRequest:
    """What makes an episode; see :class:`~brownout.envs.tools.ToolEpisode`."""

    scenario: str = "refund"
    seed: int = 0
    profile: str = "production"
    intensity: float = 1.0
    split: str = "eval"
    episode: int = 0
    max_calls: int = 200


@dataclass
class Held:
    """One open episode. After a restart ``episode`` stays empty until somebody asks for it.

    A lent one belongs to somebody else, who sees what is asked after its end too.
    """

    id: str
    header: dict[str, Any]
    episode: ToolEpisode | None = None
    events: list[Place] = field(default_factory=list)
    restarts: int = 0
    written: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    used_at: float = field(default_factory=time.monotonic)
    answered_at: float | None = None
    lent: bool = False
    ended: bool = False
    allowance: tuple[float, float] | None = None  # requests left under the rate limit, and when that was


T = TypeVar("T")


class FullError(ServeError):
    """As many episodes are open as the service may hold."""


class EpisodeStore:
    """Holds the open episodes of a service and the places of the finished ones.

    Args:
        folder: folder of the record; what it holds is taken up again.
        settings: time and limits.
        scenarios: further workflows by name, beside the built-in ones.

    Raises:
        ServeError: the record cannot be used.
    """

    def __init__(
        self, folder: str | Path, settings: ServeSettings, scenarios: Mapping[str, Scenario] | None = None
    ) -> None:
        self.settings = settings
        self.counts = {"requests": 0, "refused": 0, "harness_errors": 0}
        self.workflows = Workflows(scenarios)
        self._journal = Journal(folder)
        self._open: dict[str, Held] = {}
        self._closed: dict[str, Place] = {}
        for place, row in self._journal.rows():
            self._take_up(place, row)
        for held in self._open.values():
            held.restarts += 1

    def _take_up(self, place: Place, row: dict[str, Any]) -> None:
        if row["kind"] == "opened":
            self._open[row["id"]] = Held(row["id"], row["header"])
        elif row["kind"] == "event":
            self._open[row["id"]].events.append(place)
        else:
            del self._open[row["id"]]
            self._closed[row["id"]] = place

    # ------------------------------------------------------------ opening and finding

    @property
    def path(self) -> Path:
        """The file of the record."""
        return self._journal.path

    @property
    def open_count(self) -> int:
        """Episodes open now."""
        return len(self._open)

    @property
    def closed_count(self) -> int:
        """Episodes recorded as finished."""
        return len(self._closed)

    def make(self, request: EpisodeRequest) -> ToolEpisode:
        """Build an episode.

        Raises:
            ScenarioError: the workflow is not one of this service's.
            BrownoutError: another value is not valid.
        """
        scenario = self.workflows.get(request.scenario)
        if scenario is None:
            allowed = ", ".join(self.workflows.names())
            raise ScenarioError(f"scenario: got {request.scenario!r}; allowed: {allowed}")
        return ToolEpisode(**{**asdict(request), "scenario": scenario})

    def open(self, request: EpisodeRequest) -> Held:
        """Open an episode and record it.

        Raises:
            FullError: too many are open.
            BrownoutError: the request is not valid.
        """
        if len(self._open) >= self.settings.open_episodes:
            raise FullError(f"{len(self._open)} episodes are open; allowed: {self.settings.open_episodes}")
        return self.adopt(self.make(request))

    def adopt(self, episode: ToolEpisode, *, lent: bool = False) -> Held:
        """Take in an episode that was made elsewhere, and record it; a lent one stays until it is released."""
        held = Held(new_secret(), episode.header, episode, lent=lent)
        self._open[held.id] = held
        self._journal.write({"kind": "opened", "id": held.id, "at": time.time(), "header": held.header})
        return held

    def find(self, key: str) -> Held | None:
        """An open episode by its id, rebuilt if the service was restarted since; None if none is open by that id."""
        held = self._open.get(key)
        if held is not None and held.episode is None:
            self._rebuild(held)
        return held if held is not None and (held.lent or not held.ended) else None

    def _rebuild(self, held: Held) -> None:
        events = [self._journal.read(place)["event"] for place in held.events]
        known = self.workflows.get(str(held.header["scenario"]))  # loaded already; another one's hash is refused
        header = held.header | ({"scenario": known} if known is not None else {})
        try:
            held.episode = ToolEpisode.replay(header, events)
        except Exception as error:  # whatever a replay raises, the episode is lost and must say so
            log.error("episode %s cannot be rebuilt, closed as harness_error: %s", held.id[:8], error)
            self._close(held, "restart", held.header | {"outcome": "harness_error", "error": str(error)})
            return
        held.written = len(events)
        if held.episode.done:  # the process died between the last event and the result
            self.end(held, "agent")

    # ------------------------------------------------------------ asking

    @asynccontextmanager
    async def turn(self, held: Held) -> AsyncIterator[None]:
        """Take the episode for one request, in order of arrival; until the block ends nobody else has it."""
        arrived = time.monotonic()
        async with held.lock:
            self._pass_idle_time(held, arrived)
            try:
                yield
            finally:
                held.used_at = held.answered_at = time.monotonic()

    def _pass_idle_time(self, held: Held, arrived: float) -> None:
        held.used_at = arrived
        if not self.settings.count_idle or held.answered_at is None or held.ended or held.episode is None:
            return
        seconds = int(arrived - held.answered_at)
        if seconds > 0:
            held.episode.session.usage(latency_s=float(seconds))

    async def ask(self, held: Held, exchange: Callable[[ToolSession], T]) -> T | Response:
        """Run one request inside a turn and record it; an end is on the disk before this returns.

        Raises:
            Exception: what the simulation raised; the episode is then closed as ``harness_error``.
            ServeError: the record cannot be written.
        """
        if held.ended and held.lent and held.episode is not None:
            return exchange(held.episode.session)
        if held.ended or held.episode is None:
            return GONE
        self.counts["requests"] += 1
        try:
            response = exchange(held.episode.session)
        except Exception:
            log.exception("episode %s: the request failed; closed as harness_error", held.id[:8])
            self.end(held, "error", "harness_error")
            raise
        self._record(held)
        if held.episode.done:
            self.end(held, "agent")
            await self._journal.durable()
        return response

    def _record(self, held: Held) -> None:
        assert held.episode is not None
        events = held.episode.events
        for event in itertools.islice(events, held.written, None):
            self._journal.write({"kind": "event", "id": held.id, "event": event})
        held.written = len(events)

    # ------------------------------------------------------------ ending

    def end(self, held: Held, by: str, outcome: str | None = None) -> dict[str, Any]:
        """Close an episode, record its result and let go of it; returns the recorded row.

        Args:
            held: the episode.
            by: who ended it: ``agent``, ``control``, ``idle``, ``error``, ``restart``.
            outcome: an outcome to give it; by default the truth decides.
        """
        assert held.episode is not None
        if not held.episode.done:
            held.episode.close(outcome)
        self._record(held)
        result = held.episode.result().to_dict()
        if held.episode.error is not None:
            result["error"] = held.episode.error
            log.error("episode %s: the simulation failed, closed as harness_error: %s", held.id[:8], result["error"])
        return self._close(held, by, result)

    def _close(self, held: Held, by: str, result: dict[str, Any]) -> dict[str, Any]:
        if result["outcome"] == "harness_error":
            self.counts["harness_errors"] += 1
        row = {
            "kind": "closed", "id": held.id, "at": time.time(), "by": by, "restarts": held.restarts, "result": result,
        }  # fmt: skip
        self._closed[held.id] = self._journal.write(row)
        held.ended = True
        if not held.lent:
            self._open.pop(held.id, None)
        return row

    async def close(self, key: str, outcome: str | None = None, by: str = "control") -> dict[str, Any] | None:
        """Close an episode by its id and return its recorded row; None if there is none by that id."""
        held = self.find(key)
        if held is not None:
            async with held.lock:
                if not held.ended:
                    self.end(held, by, outcome)
            await self._journal.durable()
        return self.recorded(key)

    async def release(self, held: Held) -> None:
        """Let go of an episode without closing it, once nobody is asking it any more."""
        self._open.pop(held.id, None)
        async with held.lock:
            held.ended = True

    def recorded(self, key: str) -> dict[str, Any] | None:
        """The recorded row of a finished episode; None if none is finished by that id."""
        place = self._closed.get(key)
        return None if place is None else self._journal.read(place)

    def was(self, key: str) -> bool:
        """Whether a finished episode had this id."""
        return key in self._closed

    def listing(self, state: str, start: int, count: int) -> list[dict[str, Any]]:
        """Some episodes in the order of their opening (open ones) or their end (finished ones)."""
        keys: Iterator[str] = iter(self._open if state == "open" else self._closed)
        rows = []
        for key in itertools.islice(keys, start, start + count):
            if state == "open":
                held = self._open[key]
                about, row = held.header, {"restarts": held.restarts}
            else:
                row = self._journal.read(self._closed[key])
                about, row = row["result"], {"restarts": row["restarts"], "by": row["by"]}
            told = {name: about[name] for name in LISTED if name in about}
            rows.append({"id": key, "state": state, **row, **told})
        return rows

    async def tend(self, every_s: float = 0.5) -> None:
        """Sync the record in batches and close idle episodes, until cancelled."""
        while True:
            await asyncio.sleep(every_s)
            limit = time.monotonic() - self.settings.idle_s
            idle = [held for held in self._open.values() if held.used_at < limit and not held.lent]
            for held in [held for held in idle if not held.lock.locked()]:
                log.info("episode %s: nobody used it for %g s; closed", held.id[:8], self.settings.idle_s)
                await self.close(held.id, by="idle")
            await self._journal.durable()

    async def durable(self) -> None:
        """Wait until the disk has the record as it is now."""
        await self._journal.durable()

    def shut(self) -> None:
        """Sync and close the record; open episodes stay open in it."""
        self._journal.close()


class Workflows:
    """The workflows of a service, each loaded when it is first asked for.

    Args:
        further: workflows by name, beside the built-in ones.
    """

    def __init__(self, further: Mapping[str, Scenario] | None = None) -> None:
        self._loaded = dict(further or {})
        self._names = {*builtin_scenarios(), *self._loaded}

    def get(self, name: str) -> Scenario | None:
        """The workflow of this name, None if there is none. Files are never read by name."""
        if name not in self._names:
            return None
        if name not in self._loaded:
            self._loaded[name] = load_scenario(name)
        found = self._loaded[name]
        return found if found.env == "workflow" else None

    def names(self) -> list[str]:
        """Names of all of them."""
        return [name for name in sorted(self._names) if self.get(name) is not None]
