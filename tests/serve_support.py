"""What the tests of the service share: an episode whose answers are written down, and services on free ports."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from brownout.envs.serve import LocalService, Service
from brownout.envs.serve_settings import ServeSettings
from brownout.envs.tools import Response, ToolEpisode

JSON = {"Content-Type": "application/json"}


class ScriptedEpisode:
    """Answers by path, so that every form an answer may have on the wire can be asked for by name."""

    def __init__(self, answers: Mapping[str, Response]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.waited: list[float] = []
        self.events: list[dict[str, Any]] = []
        self.header: dict[str, Any] = {"scenario": "scripted"}
        self.error = None
        self.session = self
        self.tools = ()
        self.task = {"request": "none"}
        self.done = False

    def request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Response:
        """Give the answer of the path."""
        self.asked.append((method, path, dict(headers or {}), body or b""))
        if self.done:
            return Response(410, JSON, "{}", 0.0)
        if path == "/raise":
            raise RuntimeError("a defect of the simulation")
        return self.answers.get(path, Response(200, JSON, json.dumps({"path": path, "size": len(body or b"")}), 0.0))

    def usage(self, cost_usd: float = 0.0, latency_s: float = 0.0) -> None:
        """Note the waiting."""
        self.waited.append(latency_s)

    def close(self, outcome: str | None = None) -> None:
        """End."""
        self.done = True

    def result(self) -> Any:
        """A result with nothing in it."""
        return self

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data."""
        return {"outcome": "harness_error"}


@contextmanager
def serving(folder: Path, **settings: Any) -> Iterator[Service]:
    """A service on free ports."""
    secret = settings.pop("secret", None)
    with LocalService(Service(folder, ServeSettings(**settings), secret=secret)) as service:
        yield service


@contextmanager
def scripted(folder: Path, answers: Mapping[str, Response], **settings: Any) -> Iterator[tuple[ScriptedEpisode, str]]:
    """A scripted episode and its base address."""
    episode = ScriptedEpisode(answers)
    local = LocalService(Service(folder, ServeSettings(**settings)))
    with local, local.lent(cast(ToolEpisode, episode)) as base:
        yield episode, base
