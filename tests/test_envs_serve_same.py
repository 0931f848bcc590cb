"""One agent, three faces: Python calls, HTTP and MCP give the same episode, to the last byte of every answer."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from brownout.envs.serve import LocalService, Service
from brownout.envs.serve_settings import ServeSettings
from brownout.envs.serve_store import EpisodeRequest
from brownout.envs.tools import Response, ToolEpisode
from brownout.scenarios import load_scenario
from brownout.scenarios.loading import scenario_data

pytest.importorskip("mcp")
pytest.importorskip("httpx")

from brownout.envs.remote_session import HttpSession, McpSession

AGENTS = Path(__file__).resolve().parents[1] / "examples" / "agents"
CASES = [
    (agent, scenario, profile, seed)
    for agent, scenario, seed in (("retrying", "refund", 1), ("careful", "refund", 2), ("careful", "order-exchange", 3))
    for profile in ("clean", "production", "hostile")
]


def agent(name: str) -> Callable[[Any], None]:
    """An example agent."""
    found = importlib.util.spec_from_file_location(f"example_{name}", AGENTS / f"{name}.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module.handle


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalService]:
    # A busy machine must not make the agent look slow: its pauses do not count here.
    service = LocalService(Service(tmp_path_factory.mktemp("same"), ServeSettings(count_idle=False)))
    with service:
        yield service


def played(local: LocalService, face: str, handle: Callable[[Any], None], request: EpisodeRequest) -> ToolEpisode:
    """An episode played over a face."""
    episode = local.service.store.make(request)
    if face == "python":
        handle(episode.session)
    else:
        with local.lent(episode) as base:
            remote = HttpSession(base, episode.session.task) if face == "http" else McpSession(f"{base}/mcp")
            with remote:
                handle(remote)
    episode.close()
    return episode


@pytest.mark.parametrize(("name", "scenario", "profile", "seed"), CASES)
def test_faces_are_alike(local: LocalService, name: str, scenario: str, profile: str, seed: int) -> None:
    request = EpisodeRequest(scenario, seed, profile)
    python, http, mcp = (played(local, face, agent(name), request) for face in ("python", "http", "mcp"))
    assert len(python.events) > 5
    for other in (http, mcp):
        assert other.events == python.events
        assert other.result() == python.result()


def test_bodies_that_break_off_arrive_as_far_as_they_came(local: LocalService) -> None:
    often = [{"fault": "malformed-body", "when": "rate(0.4)"}]
    data = scenario_data(load_scenario("refund")) | {"profiles": {"clean": [], "broken": often}}
    scenario = load_scenario(data)
    python, http = (ToolEpisode(scenario, 3, profile="broken") for _ in range(2))
    agent("retrying")(python.session)
    with local.lent(http) as base, HttpSession(base, http.session.task) as session:
        agent("retrying")(Witness(session, seen := []))
    answers = [event["response"] for event in http.events]
    assert [(answer["status"], answer["text"]) for answer in answers] == seen
    cut = [a for a in answers if len(a["text"].encode()) < int(a["headers"].get("Content-Length", 0))]
    whole = [a for a in answers if a["text"] and "Content-Length" not in a["headers"] and not _is_json(a["text"])]
    assert cut, "the connection broke on the way"
    assert whole, "the body itself was damaged"
    assert http.events == python.events


class Witness:
    """A session that notes what its caller receives."""

    def __init__(self, session: HttpSession, seen: list[tuple[int, str]]) -> None:
        self._session, self._seen = session, seen
        self.task = session.task

    @property
    def tools(self) -> Any:
        return self._session.tools

    def call(self, name: str, /, **arguments: Any) -> Response:
        response = self._session.call(name, **arguments)
        self._seen.append((response.status, response.text))
        return response


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def test_another_request_gives_another_digest(local: LocalService) -> None:
    first = played(local, "http", agent("careful"), EpisodeRequest("refund", 2, "production"))
    second = played(local, "http", agent("retrying"), EpisodeRequest("refund", 2, "production"))
    assert first.result().digest != second.result().digest


def test_a_remote_session_tells_what_a_session_tells(local: LocalService) -> None:
    episode = local.service.store.make(EpisodeRequest("refund", 1, "clean"))
    with ExitStack() as stack:
        base = stack.enter_context(local.lent(episode))
        http = stack.enter_context(HttpSession(base, episode.session.task))
        mcp = stack.enter_context(McpSession(f"{base}/mcp"))
        assert http.task == mcp.task == episode.session.task
        for tool, over_http, over_mcp in zip(episode.session.tools, http.tools, mcp.tools, strict=True):
            assert (over_http.name, over_http.method, over_http.path) == (tool.name, tool.method, tool.path)
            assert over_http.places == tool.places
            assert over_http.parameters["properties"] == tool.parameters["properties"]
            assert set(over_http.parameters["required"]) == set(tool.parameters["required"])
            assert (over_mcp.name, over_mcp.parameters) == (tool.name, tool.parameters)
        for session in (http, mcp):
            assert session.call("no.such_tool", x=1).status == 404
            assert not session.done
        assert http.call("abort").ok
        assert http.done
        assert mcp.call("abort").status == 410
        assert mcp.done
