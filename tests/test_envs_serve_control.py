"""The control address and what keeps agents away from it, from each other, from seeds and from scores."""

from __future__ import annotations

import json
import re
import socket
import stat
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from brownout.envs.serve import Service, is_loopback
from brownout.envs.serve_secrets import control_secret, same_secret
from brownout.envs.serve_settings import ServeSettings
from brownout.envs.tools import EpisodeResult, ToolEpisode
from brownout.errors import ServeError
from brownout.faults import describe_faults
from serve_support import serving

httpx = pytest.importorskip("httpx")
requests = pytest.importorskip("requests")

SECRET = "control-secret-of-the-tests"
PAID = {"Authorization": f"Bearer {SECRET}"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("control")
    with serving(folder, secret=SECRET, open_episodes=40, batch=20, body_bytes=4096) as made:
        yield made


def client_of(service: Service) -> Any:
    """A client of the control address that has the secret."""
    return httpx.Client(base_url=service.control_url, headers=PAID, verify=False)


@pytest.fixture
def control(service: Service) -> Iterator[Any]:
    with client_of(service) as client:
        yield client


def opened(control: Any, **wish: Any) -> dict[str, Any]:
    answer = control.post("/episodes", json={"profile": "clean", **wish})
    assert answer.status_code == 201, answer.text
    return answer.json()


# ---------------------------------------------------------------- what it does


def test_an_episode_from_opening_to_its_score(control: Any) -> None:
    told = opened(control, seed=5)
    assert set(told) == {"id", "base_url", "openapi_url", "mcp_url", "task", "header"}
    assert told["task"] == ToolEpisode("refund", 5, profile="clean").session.task
    assert control.get(f"/episodes/{told['id']}/score").status_code == 409
    shown = control.get(f"/episodes/{told['id']}").json()
    assert (shown["state"], shown["task"]) == ("open", told["task"])
    token = {"Authorization": f"Bearer {told['task']['access_token']}"}
    assert requests.post(f"{told['base_url']}/finish", headers=token).status_code == 200
    score = control.get(f"/episodes/{told['id']}/score").json()
    assert EpisodeResult.from_dict(score).outcome == "partial", "nothing was done"
    shown = control.get(f"/episodes/{told['id']}").json()
    assert (shown["state"], shown["by"], shown["restarts"]) == ("closed", "agent", 0)
    assert requests.post(f"{told['base_url']}/finish", headers=token).status_code == 410


def test_a_batch_has_a_seed_each(control: Any) -> None:
    told = opened(control, seed=100, count=3)["episodes"]
    assert [each["header"]["seed"] for each in told] == [100, 101, 102]
    assert len({each["id"] for each in told}) == 3
    for each in told:
        assert control.post(f"/episodes/{each['id']}/close").json()["seed"] == each["header"]["seed"]


@pytest.mark.parametrize("outcome", ["limit", "aborted", "harness_error"])
def test_closing_may_name_the_outcome(control: Any, outcome: str) -> None:
    told = opened(control)
    assert control.post(f"/episodes/{told['id']}/close", json={"outcome": outcome}).json()["outcome"] == outcome
    again = control.post(f"/episodes/{told['id']}/close", json={"outcome": "limit"}).json()
    assert again["outcome"] == outcome, "closing twice changes nothing"


def test_usage_of_the_agents_model_counts(control: Any) -> None:
    told = opened(control)
    answer = control.post(f"/episodes/{told['id']}/usage", json={"cost_usd": 0.25, "latency_s": 3.0})
    assert answer.json() == {"done": False}
    score = control.post(f"/episodes/{told['id']}/close").json()
    assert score["cost_usd"] >= 0.25
    assert score["latency_s"] >= 3.0


def test_episodes_are_listed(control: Any) -> None:
    told = opened(control, seed=77)
    rows = control.get("/episodes", params={"count": 1000}).json()
    assert told["id"] in {row["id"] for row in rows["episodes"]}
    assert rows["total"] == len(rows["episodes"])
    control.post(f"/episodes/{told['id']}/close")
    rows = control.get("/episodes", params={"state": "closed", "count": 1000}).json()
    (row,) = [row for row in rows["episodes"] if row["id"] == told["id"]]
    assert (row["seed"], row["outcome"], row["by"]) == (77, "partial", "control")
    page = control.get("/episodes", params={"state": "closed", "start": 1, "count": 1}).json()
    assert page["episodes"] == rows["episodes"][1:2]


def test_every_workflow_can_be_asked_for(control: Any) -> None:
    names = control.get("/status").json()["scenarios"]
    assert {"refund", "order-exchange"} <= set(names)
    for name in names:
        told = opened(control, scenario=name)
        document = requests.get(told["openapi_url"]).json()
        tools = ToolEpisode(name, 0, profile="clean").session.tools
        described = {(path, method.upper()) for path, methods in document["paths"].items() for method in methods}
        assert described == {(tool.path, tool.method) for tool in tools}
        control.post(f"/episodes/{told['id']}/close")


@pytest.mark.parametrize(
    ("wish", "status", "named"),
    [
        ({"scenario": "nonsense"}, 422, "scenario: got 'nonsense'"),
        ({"scenario": "/etc/passwd"}, 422, "scenario: got '/etc/passwd'"),
        ({"scenario": "support-desk"}, 422, "allowed:"),
        ({"profile": "nonsense"}, 422, "nonsense"),
        ({"seed": -1}, 422, "seed"),
        ({"seed": "1"}, 422, "seed"),
        ({"seed": True}, 422, "seed"),
        ({"intensity": 1e9}, 422, "intensity"),
        ({"split": "test"}, 422, "split"),
        ({"count": 21}, 422, "count: got 21; allowed: at most 20"),
        ({"colour": "red"}, 422, "colour"),
        ([], 422, "body"),
    ],
)
def test_a_bad_wish_is_named(control: Any, wish: Any, status: int, named: str) -> None:
    answer = control.post("/episodes", json=wish)
    assert answer.status_code == status
    assert named in answer.json()["error"]


def test_bad_bodies_and_queries(control: Any) -> None:
    assert control.post("/episodes", content=b"{").status_code == 400
    assert control.post("/episodes", content=b"\xff\xfe").status_code == 400
    assert control.post("/episodes", content=b"[" * 3000).status_code == 400
    assert control.post("/episodes", content=b" " * 4097).status_code == 413
    for query in ("state=odd", "start=-1", "start=x", "count=0", "count=1001", "start=" + "9" * 5000):
        assert control.get(f"/episodes?{query}").status_code == 422
    assert control.get("/episodes/nothing").status_code == 404
    assert control.delete("/episodes").status_code == 405


def test_open_episodes_are_limited(tmp_path: Path) -> None:
    limits = {"secret": SECRET, "open_episodes": 2}
    with serving(tmp_path, **limits) as small, client_of(small) as control:
        told = [opened(control), opened(control)]
        answer = control.post("/episodes", json={})
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "5")
        control.post(f"/episodes/{told[0]['id']}/close")
        assert control.post("/episodes", json={"count": 2}).status_code == 429, "a batch is opened whole or not at all"
        opened(control)


def test_an_unused_episode_is_closed_and_recorded(tmp_path: Path) -> None:
    limits = {"secret": SECRET, "idle_s": 0.6, "count_idle": False}
    with serving(tmp_path, **limits) as brief, client_of(brief) as control:
        told = opened(control)
        for _ in range(4):  # twice the limit, in use
            time.sleep(0.3)
            assert requests.get(f"{told['base_url']}/nothing").status_code == 404
        time.sleep(1.5)
        shown = control.get(f"/episodes/{told['id']}").json()
        assert (shown["state"], shown["by"]) == ("closed", "idle")


# ---------------------------------------------------------------- who may

ROUTES = [
    ("GET", "/episodes"),
    ("POST", "/episodes"),
    ("GET", "/episodes/{id}"),
    ("GET", "/episodes/{id}/score"),
    ("POST", "/episodes/{id}/close"),
    ("POST", "/episodes/{id}/usage"),
    ("GET", "/status"),
    ("GET", "/openapi.json"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_control_needs_its_secret(service: Service, control: Any, method: str, path: str) -> None:
    told = opened(control)
    token, key = told["task"]["access_token"], told["id"]
    wrong = ["", token, key, SECRET[:-1], SECRET + "x", SECRET.upper(), "ü" * 8]
    attempts = [{"Authorization": f"Bearer {text}".encode()} for text in wrong]
    attempts += [{}, {"Authorization": SECRET}, {"Authorization": f"Basic {SECRET}"}, {"X-Secret": SECRET}]
    for headers in attempts:
        answer = requests.request(method, service.control_url + path.format(id=key), headers=headers)
        assert answer.status_code == 401, headers
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert SECRET not in answer.text
    query = requests.request(
        method, service.control_url + path.format(id=key), params={"secret": SECRET, "token": SECRET}
    )
    assert query.status_code == 401
    assert control.get(f"/episodes/{key}").json()["state"] == "open", "nothing happened"


def test_every_control_route_is_tried_here(control: Any) -> None:
    document = control.get("/openapi.json").json()
    told = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert told == set(ROUTES)


def test_the_agents_address_has_no_way_to_control(service: Service, control: Any) -> None:
    told = opened(control)
    for method, path in ROUTES:
        for base in (service.url, told["base_url"]):
            answer = requests.request(method, base + path.format(id=told["id"]), headers=PAID)
            ours = answer.status_code == 200 and answer.json().get("info", {}).get("title") == "Operations API"
            assert answer.status_code in (404, 405) or ours, (base, path)


@pytest.mark.parametrize(
    "trick",
    [
        "/e/{mine}/../{other}/requester/messages",
        "/e/{mine}/%2e%2e/{other}/requester/messages",
        "/e/{mine}/..%2f{other}/requester/messages",
        "/e/{mine}%2f..%2f{other}/requester/messages",
        "/e/{mine}//e/{other}/requester/messages",
        "/e/{mine}/./requester/messages",
        "//e/{mine}/requester/messages",
        "/e/{mine}/e/{other}/requester/messages",
        "/E/{mine}/requester/messages",
        "/e/{mine};x/requester/messages",
        "/e/{mine}%00/requester/messages",
        "/e/{mine_upper}/requester/messages",
        "/e/*/requester/messages",
        "/e//requester/messages",
        "/e/",
        "/e",
        "/",
        "/e/{mine}/../../episodes",
        "/e/{mine}/requester/messages/..",
        "/e/{mine}\\..\\{other}/requester/messages",
        "http://127.0.0.1/e/{mine}/requester/messages",
        "*",
    ],
)
def test_paths_cannot_be_bent(service: Service, control: Any, trick: str) -> None:
    mine, other = opened(control, seed=1), opened(control, seed=2)
    path = trick.format(mine=mine["id"], other=other["id"], mine_upper=mine["id"].swapcase())
    parts = urlsplit(service.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=5) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode("latin-1"))
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.split()[1] in (b"404", b"400"), answer
    for each in (mine, other):
        closed = control.post(f"/episodes/{each['id']}/close").json()
        assert closed["calls"] <= 1, "at most a 404 of the own episode"


def test_an_episodes_token_opens_no_other_episode(control: Any) -> None:
    mine, other = opened(control, seed=1), opened(control, seed=2)
    token = {"Authorization": f"Bearer {mine['task']['access_token']}"}
    path = f"/crm/customers/{other['task']['customer_id']}"
    assert requests.get(other["base_url"] + path, headers=token).status_code == 401
    assert requests.get(mine["base_url"] + path, headers=token).status_code == 404


def test_nothing_an_agent_receives_tells_of_faults(control: Any) -> None:
    """Names of effects, words of the trade and headers that production would not send."""
    effects = {row["name"] for row in describe_faults()}
    seen, headers = [], set()
    for profile in ("production", "hostile"):
        for seed in range(8):
            told = opened(control, seed=seed, profile=profile)
            seen.append(json.dumps(told["task"]))
            token = {"Authorization": f"Bearer {told['task']['access_token']}"}
            with httpx.Client(base_url=told["base_url"], headers=token, verify=False) as client:
                seen.append(client.get("/openapi.json").text)
                for path in (f"/crm/customers/{told['task']['customer_id']}", "/shop/orders", "/nothing") * 4:
                    try:
                        answer = client.get(path)
                    except httpx.TransportError:
                        continue
                    seen.append(answer.text)
                    headers |= set(answer.headers)
            control.post(f"/episodes/{told['id']}/close")
    text = "\n".join(seen).lower()
    for word in ("faults?", "inject", "brownout", "simulat", "chaos", "episode", "seed", *effects):
        assert not re.search(rf"\b{word}", text), word
    known = {"content-type", "content-length", "date", "etag", "retry-after", "www-authenticate", "x-request-id"}
    assert headers <= {*known, "connection", "allow", "location"}


def test_the_record_is_its_owners_alone(service: Service) -> None:
    assert stat.S_IMODE(service.store.path.stat().st_mode) == 0o600


def test_forwarded_headers_change_nothing(control: Any) -> None:
    told = opened(control)
    forged = {"X-Forwarded-For": "10.0.0.1", "X-Forwarded-Prefix": "/control", "Forwarded": "for=10.0.0.1"}
    assert requests.get(f"{told['base_url']}/requester/messages", headers=forged).status_code == 200


# ---------------------------------------------------------------- secrets and settings


def test_secrets_come_from_a_file_the_environment_or_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BROWNOUT_CONTROL_SECRET", raising=False)
    first, second = control_secret(), control_secret()
    assert first[1]
    assert second[1]
    assert first[0] != second[0]
    monkeypatch.setenv("BROWNOUT_CONTROL_SECRET", SECRET)
    assert control_secret() == (SECRET, False)
    file = tmp_path / "secret"
    file.write_text("from-a-file-of-mine\n")
    assert control_secret(file) == ("from-a-file-of-mine", False)
    for bad in ("short", "has spaces in the middle", "ümlaut-ümlaut-ümlaut", ""):
        file.write_text(bad)
        with pytest.raises(ServeError, match="not a usable control secret"):
            control_secret(file)
    with pytest.raises(ServeError, match="cannot read"):
        control_secret(tmp_path / "none")


def test_secrets_are_compared_whole() -> None:
    assert same_secret("abc", "abc")
    assert not same_secret("ab", "abc")
    assert not same_secret("abcd", "abc")
    assert not same_secret("äbc", "abc")


@pytest.mark.parametrize(("name", "value"), [("time_scale", -1.0), ("idle_s", 0.0), ("rate_per_s", float("nan"))])
def test_settings_out_of_range_are_named(name: str, value: float) -> None:
    with pytest.raises(ServeError, match=f"{name}: got"):
        replace(ServeSettings(), **{name: value})


def test_an_address_in_use_is_named(service: Service, tmp_path: Path) -> None:
    port = urlsplit(service.url).port
    assert port is not None
    with pytest.raises(ServeError, match=f"127.0.0.1:{port}: cannot listen there"):
        Service(tmp_path, port=port)


def test_a_record_in_use_is_named(service: Service) -> None:
    with pytest.raises(ServeError, match="another process is writing this log"):
        Service(service.store.path.parent)


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("10.0.0.1", False), ("box", False)],
)
def test_what_is_this_machine(host: str, local: bool) -> None:
    assert is_loopback(host) is local
