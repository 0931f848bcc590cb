"""The service under requests made up from its own OpenAPI documents: no answer that they do not allow for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from brownout.envs.serve import Service
from brownout.envs.serve_openapi import control_document, episode_document
from brownout.envs.tools import ToolEpisode
from serve_support import serving

requests = pytest.importorskip("requests")
schemathesis = pytest.importorskip("schemathesis")

SECRET = "control-secret-of-the-tests"
PAID = {"Authorization": f"Bearer {SECRET}"}
EPISODE = episode_document("x", ToolEpisode("refund", 0, profile="clean").session)
FUZZ = settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
POSITIVE, NEGATIVE = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE


LEAVES = st.none() | st.booleans() | st.floats() | st.text()


def as_json(value: Any) -> bytes:
    """The value as a body."""
    return json.dumps(value).encode()


def operations(document: dict[str, Any]) -> list[tuple[str, str]]:
    """Method and path of every operation."""
    return [(method.upper(), path) for path, methods in document["paths"].items() for method in methods]


def plans(document: dict[str, Any]) -> list[Any]:
    """Every operation as described; where a body can break the description, also against it."""
    found = []
    for method, path in operations(document):
        found.append(pytest.param(method, path, POSITIVE, id=f"{method} {path}"))
        if "requestBody" in document["paths"][path][method.lower()]:
            found.append(pytest.param(method, path, NEGATIVE, id=f"{method} {path} against"))
    return found


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("fuzz")
    with serving(folder, secret=SECRET, body_bytes=8192, batch=2, open_episodes=10_000) as made:
        yield made
    assert made.store.counts["harness_errors"] == 0


def cases(document: dict[str, Any], method: str, path: str, mode: Any) -> Any:
    """Requests to an operation, as its description has them or against it."""
    operation = schemathesis.openapi.from_dict(document)[path][method]
    return operation.as_strategy(generation_mode=mode)


def sent(case: Any, base: str, token: str) -> Any:
    """The answer to a generated request, with a token of ours and none of the generator's."""
    case.headers = {name: value for name, value in (case.headers or {}).items() if name.lower() != "authorization"}
    arguments = case.as_transport_kwargs(base_url=base)
    arguments["headers"] = {**arguments.get("headers", {}), "Authorization": f"Bearer {token}"}
    return requests.request(**arguments, timeout=10)


@pytest.mark.parametrize(("method", "path", "mode"), plans(EPISODE))
def test_an_episode_takes_any_request(service: Service, method: str, path: str, mode: Any) -> None:
    told = requests.post(f"{service.control_url}/episodes", json={"profile": "clean"}, headers=PAID).json()
    document = requests.get(told["openapi_url"]).json()
    assert operations(document) == operations(EPISODE)
    statuses: list[int] = []

    @FUZZ
    @given(case=cases(document, method, path, mode))
    def run(case: Any) -> None:
        answer = sent(case, told["base_url"], told["task"]["access_token"])
        statuses.append(answer.status_code)
        assert answer.status_code < 500, answer.text
        assert answer.headers["Content-Type"] == "application/json"
        body = answer.json()
        if answer.status_code >= 400:
            assert set(body["error"]) >= {"code", "message"}

    run()
    assert statuses
    row = requests.post(f"{service.control_url}/episodes/{told['id']}/close", headers=PAID).json()
    assert row["outcome"] != "harness_error"


@pytest.mark.parametrize(("method", "path", "mode"), plans(control_document()))
def test_control_takes_any_request(service: Service, method: str, path: str, mode: Any) -> None:
    document = requests.get(f"{service.control_url}/openapi.json", headers=PAID).json()
    documented = document["paths"][path][method.lower()]["responses"]

    @FUZZ
    @given(case=cases(document, method, path, mode))
    def run(case: Any) -> None:
        answer = sent(case, service.control_url, SECRET)
        assert str(answer.status_code) in {*documented, "404", "405"}, answer.text
        assert answer.status_code < 500
        assert isinstance(answer.json(), dict)

    run()


@pytest.fixture(scope="module")
def target(service: Service) -> str:
    """The base address of an episode for all comers."""
    return requests.post(f"{service.control_url}/episodes", json={"profile": "clean"}, headers=PAID).json()["base_url"]


@settings(FUZZ, max_examples=60)
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "PROPFIND"]),
    path=st.sampled_from([path.replace("{id}", "x").replace("{effect_id}", "y") for _, path in operations(EPISODE)]),
    query=st.text(max_size=20),
    content=st.sampled_from(
        ["application/json", "text/plain", "application/xml", "multipart/form-data", "", "x" * 300]
    ),
    body=st.one_of(
        st.binary(max_size=200),
        st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)).map(as_json),
    ),
)
def test_any_bytes_to_any_path(target: str, method: str, path: str, query: str, content: str, body: bytes) -> None:
    headers = {"Content-Type": content} if content else {}
    url = target + path
    answer = requests.request(method, url, params={"q": query}, data=body, headers=headers, timeout=10)
    assert answer.status_code < 500
