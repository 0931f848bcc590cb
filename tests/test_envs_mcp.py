"""The MCP form of a session, met by the official client over stdio and streamable HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from brownout.envs.serve import LocalService, Service
from brownout.envs.serve_settings import ServeSettings
from brownout.envs.serve_store import EpisodeRequest
from brownout.envs.tools import EpisodeResult, Response, ToolEpisode

mcp = pytest.importorskip("mcp")
requests = pytest.importorskip("requests")

from brownout.envs.mcp_face import result_of  # noqa: E402
from brownout.envs.remote_session import McpSession  # noqa: E402
from brownout.errors import ServeError  # noqa: E402
from brownout.trainers.stress_faces import open_face  # noqa: E402

MODES = pytest.mark.parametrize("mode", ["auto", "legacy"])


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalService]:
    settings = ServeSettings(count_idle=False, body_bytes=4096)
    made = LocalService(Service(tmp_path_factory.mktemp("mcp"), settings))
    with made:
        yield made


def refund(call: Callable[..., dict[str, Any]], task: dict[str, Any]) -> None:
    """The procedure of a refund, where nothing goes wrong."""
    customer = call("crm_get_customer", id=task["customer_id"])
    order = call("shop_get_order", id=task["order_id"])
    call("crm_locate", customer_name=customer["name"], customer_email=customer["email"])
    assert call("shop_policy", order_date=order["date"], order_item=order["item"])["eligible"]
    call("payments_refund", order_total=order["total"], customer_account=customer["account"], idempotency_key="r-1")
    call("mail_notify", customer_email=customer["email"])
    call("finish", summary="paid back")


def with_client(server: Any, work: Callable[[Any], Coroutine[Any, Any, Any]], mode: str = "auto") -> Any:
    """Run some work with the official client."""

    async def main() -> Any:
        async with mcp.Client(server, mode=mode) as client:
            return await work(client)

    return asyncio.run(main())


async def a_refund(client: Any) -> None:
    """A workflow from the instructions to the end, as a model's host would drive it."""
    task = json.loads(client.instructions)
    (resource,) = (await client.list_resources()).resources
    assert json.loads((await client.read_resource(resource.uri)).contents[0].text) == task
    loop = asyncio.get_running_loop()

    def call(name: str, **arguments: Any) -> dict[str, Any]:
        result = asyncio.run_coroutine_threadsafe(client.call_tool(name, arguments), loop).result()
        assert not result.is_error
        assert json.loads(result.content[0].text) == result.structured_content
        return json.loads(result.structured_content["body"])

    await asyncio.to_thread(refund, call, task)


@MODES
def test_a_workflow_over_streamable_http(local: LocalService, mode: str) -> None:
    episode = local.service.store.make(EpisodeRequest("refund", 3, "clean"))
    with local.lent(episode) as base:
        with_client(f"{base}/mcp", a_refund, mode)
    assert episode.result().outcome == "success"


def stdio(*options: str) -> Any:
    """The command as a client's configuration names it."""
    command = ["-m", "brownout", "mcp", "--scenario", "refund", "--seed", "3", *options]
    return mcp.StdioServerParameters(command=sys.executable, args=command, env=dict(os.environ))


def test_a_workflow_over_stdio(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    with_client(stdio("--profile", "clean", "--result", str(file)), a_refund)
    result = EpisodeResult.from_dict(json.loads(file.read_text()))
    assert (result.outcome, result.seed, result.profile) == ("success", 3, "clean")
    episode = ToolEpisode("refund", 3, profile="clean")
    refund(lambda name, **arguments: episode.session.call(name, **arguments).json(), episode.session.task)
    assert result.digest == episode.result().digest


def test_a_session_left_open_is_judged_by_what_stands(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    with McpSession(stdio("--profile", "production", "--result", str(file))) as session:
        assert session.call("requester.messages").ok
    assert json.loads(file.read_text())["outcome"] == "partial"


def test_tools_are_listed_in_the_form_of_the_protocol(local: LocalService) -> None:
    episode = local.service.store.make(EpisodeRequest("order-exchange", 1, "clean"))
    with local.lent(episode) as base:
        listed = with_client(f"{base}/mcp", lambda client: client.list_tools()).tools
    wanted = [tool.mcp() for tool in episode.session.tools]
    told = [form.model_dump(by_alias=True, exclude_none=True) for form in listed]
    assert [{name: form[name] for name in ("name", "description", "inputSchema")} for form in told] == wanted
    assert [form["title"] for form in told] == [tool.name for tool in episode.session.tools]


@pytest.mark.parametrize(
    ("response", "is_error", "told"),
    [
        (Response(200, {"ETag": '"1"'}, "{}", 0.2), False, {"status": 200, "headers": {"ETag": '"1"'}, "body": "{}"}),
        (Response(200, {}, '{"id": ', 0.2), False, {"status": 200, "headers": {}, "body": '{"id": '}),
        (Response(429, {"Retry-After": "3"}, "no", 0.1), True,
         {"status": 429, "headers": {"Retry-After": "3"}, "body": "no"}),
        (Response(0, {}, "", 20.0, "timeout"), True, {"status": 0, "failure": "timeout", "headers": {}, "body": ""}),
        (Response(0, {}, "", 0.1, "reset"), True, {"status": 0, "failure": "reset", "headers": {}, "body": ""}),
    ],
)  # fmt: skip
def test_a_response_as_a_result(response: Response, is_error: bool, told: dict[str, Any]) -> None:
    result = result_of(response)
    assert (result.is_error, result.structured_content) == (is_error, told)
    assert json.loads(result.content[0].text) == told  # type: ignore[union-attr]


@MODES
def test_errors_of_tools_are_results_and_those_of_the_protocol_are_errors(local: LocalService, mode: str) -> None:
    async def work(client: Any) -> None:
        for name, arguments, status in (
            ("crm_get_customer", {"id": "nobody"}, 404),
            ("crm_get_customer", {}, 422),
            ("clock_wait", {"seconds": "soon"}, 422),
            ("no_such_tool", {"x": [1]}, 404),
        ):
            result = await client.call_tool(name, arguments)
            assert result.is_error
            assert result.structured_content["status"] == status
            assert json.loads(result.structured_content["body"])["error"]["message"]
        with pytest.raises(mcp.MCPError, match="no resource"):
            await client.read_resource("file:///etc/passwd")

    episode = local.service.store.make(EpisodeRequest("refund", 3, "clean"))
    with local.lent(episode) as base:
        with_client(f"{base}/mcp", work, mode)
    assert not episode.done


def test_calls_after_the_end_are_answered_410(local: LocalService) -> None:
    async def work(client: Any) -> None:
        assert not (await client.call_tool("abort", {})).is_error
        for name in ("abort", "crm_get_customer"):
            result = await client.call_tool(name, {})
            assert (result.is_error, result.structured_content["status"]) == (True, 410)
        assert (await client.list_tools(cache_mode="bypass")).tools == []

    held = local.service.store.open(EpisodeRequest("refund", 3, "clean"))
    with_client(f"{local.service.url}/e/{held.id}/mcp", work)
    row = local.service.store.recorded(held.id)
    assert row is not None
    assert row["result"]["outcome"] == "aborted"


def test_parallel_calls_take_turns(local: LocalService) -> None:
    async def work(client: Any) -> list[Any]:
        return await asyncio.gather(*(client.call_tool("requester_messages", {}) for _ in range(20)))

    episode = local.service.store.make(EpisodeRequest("refund", 3, "clean"))
    with local.lent(episode) as base:
        results = with_client(f"{base}/mcp", work)
    stamps = [result.structured_content["headers"]["X-Request-Id"] for result in results]
    assert len(set(stamps)) == 20
    assert len(episode.events) == 20


def test_latency_is_waited_to_scale(tmp_path: Path) -> None:
    local = LocalService(Service(tmp_path, ServeSettings(time_scale=0.1)))
    with local:
        episode = local.service.store.make(EpisodeRequest("refund", 3, "clean"))
        with local.lent(episode) as base, McpSession(f"{base}/mcp") as session:
            began = time.monotonic()
            assert session.call("clock.wait", seconds=5).ok
            assert 0.5 <= time.monotonic() - began < 1.5


# ---------------------------------------------------------------- security of the endpoint

PING = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
HEADERS = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({}, json.dumps(PING), 200),
        ({"Host": "evil.example"}, json.dumps(PING), 421),
        ({"Origin": "http://evil.example"}, json.dumps(PING), 403),
        ({"Content-Type": "text/plain"}, json.dumps(PING), 400),
        ({}, "{", 400),
        ({}, "[]", 400),
        ({}, json.dumps(PING | {"pad": "x" * 5000}), 413),
    ],
    ids=["good", "host", "origin", "type", "no JSON", "no request", "large"],
)
def test_the_endpoint_is_careful(local: LocalService, headers: dict[str, str], body: str, status: int) -> None:
    episode = local.service.store.make(EpisodeRequest("refund", 3, "clean"))
    with local.lent(episode) as base:
        answer = requests.post(f"{base}/mcp", data=body, headers=HEADERS | headers)
    assert answer.status_code == status, answer.text
    assert not episode.events


def test_an_unknown_episode_has_no_endpoint(local: LocalService) -> None:
    assert requests.post(f"{local.service.url}/e/nothing/mcp", json=PING, headers=HEADERS).status_code == 404


# ---------------------------------------------------------------- what a command under stress is told


def test_a_face_tells_a_command_all_it_needs() -> None:
    episode = ToolEpisode("refund", 3, profile="clean")
    with open_face("http", episode) as told:
        assert json.loads(told["BROWNOUT_TASK"]) == episode.session.task
        assert told["BROWNOUT_TOKEN"] == episode.session.task["access_token"]
        headers = {"Authorization": f"Bearer {told['BROWNOUT_TOKEN']}"}
        path = f"/crm/customers/{episode.session.task['customer_id']}"
        assert requests.get(told["BROWNOUT_BASE_URL"] + path, headers=headers).status_code == 200
        with McpSession(told["BROWNOUT_MCP_URL"]) as session:
            assert session.call("requester.messages").ok
    assert not episode.done, "the face does not close what it was lent"
    assert [event["kind"] for event in episode.events] == ["call", "call"]
    assert requests.get(told["BROWNOUT_BASE_URL"] + path, headers=headers).status_code == 404
    seen: list[str] = []
    watched = ToolEpisode("refund", 3, profile="clean", watch=lambda event: seen.append(event["kind"]))
    with open_face("mcp", watched) as told, McpSession(told["BROWNOUT_MCP_URL"]) as session:
        assert [session.call("abort").status for _ in range(3)] == [200, 410, 410]
    assert seen == ["call", "after", "after"], "what is asked after the end is seen"
    with pytest.raises(ServeError, match="face: got 'ftp'"), open_face("ftp", episode):
        pass
