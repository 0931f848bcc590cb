"""Real HTTP clients and their own retry logic against a running service: it runs, and the score sees what it does."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from brownout.envs.serve import LocalService, Service
from brownout.envs.serve_settings import ServeSettings
from brownout.envs.serve_store import EpisodeRequest
from brownout.scenarios import load_scenario
from brownout.scenarios.loading import scenario_data

httpx = pytest.importorskip("httpx")
requests = pytest.importorskip("requests")
tenacity = pytest.importorskip("tenacity")

from requests.adapters import HTTPAdapter  # noqa: E402
from urllib3.util.retry import Retry  # noqa: E402

Send = Callable[[str, str, dict[str, Any] | None], Any]

PROFILES: dict[str, list[dict[str, Any]]] = {
    "calm": [],
    "limited": [{"fault": "rate-limit", "per_minute": 60, "burst": 2, "retry_after_s": 1, "load": 0.0}],
    "refused": [{"fault": "server-error", "code": 503, "when": "nth_call(1)"}],
    "reset": [{"fault": "connection-reset", "applied": 0.0, "when": "nth_call(1)"}],
    "late": [{"fault": "timeout", "after_s": 20, "applied": 1.0, "when": "nth_call(1) & on('payments')"}],
    "lost": [{"fault": "timeout", "after_s": 20, "applied": 0.0, "when": "nth_call(1) & on('payments')"}],
}
SEED = 3  # of an episode whose refund is due


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    data = scenario_data(load_scenario("refund")) | {"name": "unsteady", "profiles": {"clean": [], **PROFILES}}
    unsteady = load_scenario(data)
    settings = ServeSettings(time_scale=0.01)  # a hang of 20 s is one of 0.2 s
    with LocalService(Service(tmp_path_factory.mktemp("clients"), settings, scenarios={"unsteady": unsteady})) as made:
        yield made


class Opened:
    """An episode opened over the control address, and clients that work on it."""

    def __init__(self, service: Service, profile: str, stack: ExitStack) -> None:
        headers = {"Authorization": f"Bearer {service.secret}"}
        self._stack = stack
        self._control = stack.enter_context(httpx.Client(base_url=service.control_url, headers=headers, verify=False))
        wish = {"scenario": "unsteady", "seed": SEED, "profile": profile}
        answer = self._control.post("/episodes", json=wish)
        assert answer.status_code == 201, answer.text
        self.told = answer.json()
        self.base, self.task = self.told["base_url"], self.told["task"]
        self.headers = {"Authorization": f"Bearer {self.task['access_token']}"}

    def client(self, kind: Any, **options: Any) -> Any:
        made = kind(self, **options)
        self._stack.callback(made.close)
        return made

    def score(self) -> dict[str, Any]:
        return self._control.get(f"/episodes/{self.told['id']}/score").json()


@pytest.fixture
def opened(service: Service) -> Iterator[Callable[[str], Opened]]:
    with ExitStack() as stack:
        yield lambda profile: Opened(service, profile, stack)


def refund(opened: Opened, send: Send) -> None:
    """What the procedure says, for a request without traps; ``send`` is a client's, with its retries."""
    task = opened.task
    customer = send("GET", f"/crm/customers/{task['customer_id']}", None)
    order = send("GET", f"/shop/orders/{task['order_id']}", None)
    send("POST", "/crm/locate", {"customer_name": customer["name"], "customer_email": customer["email"]})
    policy = send("POST", "/shop/policy", {"order_date": order["date"], "order_item": order["item"]})
    assert policy["eligible"] is True
    send("POST", "/payments/refund", {"order_total": order["total"], "customer_account": customer["account"]})
    send("POST", "/mail/notify", {"customer_email": customer["email"]})
    send("POST", "/finish", {"summary": "paid back"})


class Urllib3Client:
    """requests with the retries that most of its users configure; also of writes, as too many do."""

    def __init__(self, opened: Opened, *, key: bool = False) -> None:
        self._base, self._key = opened.base, key
        self._session = requests.Session()
        self._session.headers.update(opened.headers)
        self.retry = Retry(total=5, backoff_factor=0.01, status_forcelist=[429, 503], allowed_methods=None)
        self._session.mount("http://", HTTPAdapter(max_retries=self.retry))

    def close(self) -> None:
        self._session.close()

    def __call__(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        headers = {"Idempotency-Key": f"{path}-1"} if self._key else {}
        answer = self._session.request(method, self._base + path, json=body, headers=headers, timeout=0.1)
        answer.raise_for_status()
        return answer.json()


class TenacityClient:
    """httpx with tenacity: waits as Retry-After says, else a little."""

    def __init__(self, opened: Opened, *, key: bool = False) -> None:
        self._client = httpx.Client(base_url=opened.base, headers=opened.headers, timeout=0.1, verify=False)
        self._key = key
        self.seen: list[str] = []

    def close(self) -> None:
        self._client.close()

    def __call__(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        for attempt in tenacity.Retrying(
            retry=tenacity.retry_if_exception_type((httpx.TransportError, httpx.HTTPStatusError)),
            wait=self._pause,
            stop=tenacity.stop_after_attempt(6),
            before_sleep=lambda state: self.seen.append(type(state.outcome.exception()).__name__),
            reraise=True,
        ):
            with attempt:
                headers = {"Idempotency-Key": f"{path}-1"} if self._key else {}
                return self._client.request(method, path, json=body, headers=headers).raise_for_status().json()
        raise AssertionError

    @staticmethod
    def _pause(state: Any) -> float:
        error = state.outcome.exception()
        told = error.response.headers.get("Retry-After") if isinstance(error, httpx.HTTPStatusError) else None
        return float(told or 0.01)


CLIENTS = pytest.mark.parametrize("client", [Urllib3Client, TenacityClient])


@CLIENTS
def test_a_calm_service_is_a_success(opened: Callable[[str], Opened], client: Any) -> None:
    work = opened("calm")
    refund(work, work.client(client))
    assert work.score()["outcome"] == "success"


@CLIENTS
def test_retry_after_is_slept_and_has_passed_on_the_clock(opened: Callable[[str], Opened], client: Any) -> None:
    work = opened("limited")
    began = time.monotonic()
    refund(work, work.client(client))
    score = work.score()
    assert score["outcome"] == "success"
    limits = [injection for injection in score["injections"] if injection["effect"] == "rate-limit"]
    assert limits
    assert time.monotonic() - began >= len(limits), "a second each, really slept"
    assert score["latency_s"] >= len(limits)


@CLIENTS
def test_a_refusal_is_tried_again(opened: Callable[[str], Opened], client: Any) -> None:
    work = opened("refused")
    refund(work, work.client(client))
    score = work.score()
    assert (score["outcome"], score["duplicate_effects"]) == ("success", 0)
    assert {injection["effect"] for injection in score["injections"]} == {"server-error"}
    assert score["calls"] > 7, "more requests than the work has"


@CLIENTS
def test_a_reset_is_tried_again(opened: Callable[[str], Opened], client: Any) -> None:
    work = opened("reset")
    sender = work.client(client)
    refund(work, sender)
    score = work.score()
    assert (score["outcome"], score["duplicate_effects"]) == ("success", 0)
    if client is TenacityClient:
        assert set(sender.seen) == {"ReadError"}


@CLIENTS
def test_a_timeout_before_the_effect_is_harmless(opened: Callable[[str], Opened], client: Any) -> None:
    work = opened("lost")
    sender = work.client(client)
    refund(work, sender)
    assert work.score()["outcome"] == "success"
    if client is TenacityClient:
        assert sender.seen == ["ReadTimeout"]


@CLIENTS
def test_a_timeout_after_the_effect_and_a_blind_retry_pay_twice(opened: Callable[[str], Opened], client: Any) -> None:
    work = opened("late")
    refund(work, work.client(client))
    score = work.score()
    assert (score["outcome"], score["success"], score["duplicate_effects"]) == ("duplicate_effect", False, 1)


@CLIENTS
def test_an_idempotency_key_makes_the_retry_safe(opened: Callable[[str], Opened], client: Any) -> None:
    work = opened("late")
    refund(work, work.client(client, key=True))
    score = work.score()
    assert (score["outcome"], score["duplicate_effects"]) == ("success", 0)


def test_the_same_requests_in_python_give_the_same_digest(service: Service, opened: Callable[[str], Opened]) -> None:
    work = opened("late")
    refund(work, work.client(Urllib3Client))
    episode = service.store.make(EpisodeRequest("unsteady", SEED, "late"))

    def send(method: str, path: str, body: dict[str, Any] | None) -> Any:
        while True:
            headers = work.headers | {"Content-Type": "application/json"}
            text = None if body is None else json.dumps(body)
            answer = episode.session.request(method, path, headers, text)
            if answer.failure is None:
                return answer.json()

    refund(work, send)
    assert episode.result().digest == work.score()["digest"]
