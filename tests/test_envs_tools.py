"""The session an agent gets: its tools, their answers, and what an episode comes to."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from brownout import EpisodeResult, ToolEpisode, load_scenario
from brownout.errors import EpisodeError, ScenarioError
from brownout.scenarios import builtin_scenarios
from tool_support import Walk, agent, episode

WORKFLOWS = builtin_scenarios("workflow")


def clean(scenario: str = "refund", seed: int = 0, **options: Any) -> ToolEpisode:
    return ToolEpisode(scenario, seed, profile="clean", **options)


# ---------------------------------------------------------------- description


@pytest.mark.parametrize("scenario", WORKFLOWS)
def test_tools_have_schemas_in_all_three_forms(scenario: str) -> None:
    session = clean(scenario).session
    names = [tool.name for tool in session.tools]
    assert len(names) == len(set(names))
    for name in ("auth.token", "session.reset", "requester.ask", "requester.messages", "clock.wait", "handoff"):
        assert name in names
    for tool in session.tools:
        properties = tool.parameters["properties"]
        assert tool.parameters["$schema"] == "https://json-schema.org/draft/2020-12/schema"
        assert set(tool.parameters["required"]) <= set(properties) == set(tool.places)
        assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", tool.openai()["function"]["name"])
        assert tool.mcp()["inputSchema"] == tool.openai()["function"]["parameters"] == tool.parameters
        assert set(re.findall(r"\{(\w+)\}", tool.path)) == {n for n, place in tool.places.items() if place == "path"}
        operation = tool.openapi()
        body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
        shown = {p["name"] for p in operation.get("parameters", ())} | set(body.get("properties", {}))
        headers = {place.partition(":")[2] for place in tool.places.values() if place.startswith("header")}
        assert shown == {n for n, place in tool.places.items() if not place.startswith("header")} | headers


@pytest.mark.parametrize("scenario", WORKFLOWS)
def test_the_task_names_everything_that_is_needed(scenario: str) -> None:
    session = clean(scenario).session
    task = json.loads(json.dumps(session.task))
    tools = {tool.name: tool for tool in session.tools}
    for step in task["procedure"]:
        tool = tools[step["tool"]]
        assert set(step["needs"]) == {n for n, place in tool.places.items() if place == "body"}
        for field in step["needs"].values():
            assert f"{field.partition('.')[0]}_id" in task
    assert task["budget_usd"] > 0 < task["deadline_s"]


# ---------------------------------------------------------------- records


def test_a_record_is_read_by_its_id_and_found_in_the_list() -> None:
    session = clean().session
    one = session.call("crm.get_customer", id=session.task["customer_id"])
    assert (one.status, one.headers["Content-Type"]) == (200, "application/json")
    found, cursor, pages = [], "", 0
    while cursor is not None:
        page = session.call("crm_list_customers", **({"cursor": cursor} if cursor else {})).json()
        found += page["items"]
        cursor, pages = page["next_cursor"], pages + 1
    assert pages > 1
    assert one.json() in found
    assert len({item["id"] for item in found}) == len(found) > 4
    other = next(item for item in found if item["id"] != one.json()["id"])
    assert session.call("crm.get_customer", id=other["id"]).json() == other
    assert other["email"] != one.json()["email"]


def test_reading_again_gives_the_same_and_another_seed_another() -> None:
    first, second = clean(seed=1).session, clean(seed=1).session
    bodies = [s.call("shop.get_order", id=s.task["order_id"]).text for s in (first, first, second)]
    assert len(set(bodies)) == 1
    other = clean(seed=2).session
    assert other.call("shop.get_order", id=other.task["order_id"]).text != bodies[0]


def test_the_requester_knows_what_is_clean_and_answers_few_questions() -> None:
    walk = Walk(episode({"fault": "typo", "when": "on('customer.*')"}))
    wanted = {**walk.right("locate"), **walk.right("refund")}
    assert walk.record("customer").json()["email"] != wanted["customer_email"]
    answers = [walk.session.call("requester.ask", about="customer_email, customer.account, customer_name").json()]
    answers.append(walk.session.call("requester.ask", about="order_total").json())
    last = walk.session.call("requester.ask", about="customer_email").json()
    told = answers[0]["values"]
    assert told
    for name, value in told.items():
        assert value == wanted[name]
    assert last["values"] == {}


# ---------------------------------------------------------------- steps


@pytest.mark.parametrize("scenario", WORKFLOWS)
def test_right_values_in_order_are_a_success(scenario: str) -> None:
    won = 0
    for seed in range(6):
        one = clean(scenario, seed)
        walk = Walk(one)
        if one._core.begun[0]:
            continue
        facts: dict[str, Any] = {}
        for name, step in walk.steps.items():
            if all(facts.get(k) == v for k, v in step.get("only_if", {}).items()):
                answer = walk.call(name)
                assert answer.ok, answer
                facts |= {k: v for k, v in answer.json().items() if isinstance(v, bool)}
                if answer.status == 202:
                    walk.session.call("clock.wait", seconds=1000)
        walk.session.call("finish")
        result = one.result()
        won += result.success
        assert result.outcome == "success", result.timeline
        assert result.components["accuracy"] == 1.0
    assert won > 3


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ("order_total", lambda v: float(v), lambda v: float(v) + 0.01),
        ("order_total", lambda v: f" {v}0 ", lambda v: f"-{v}"),
        ("customer_account", lambda v: f" {v} ", lambda v: v[:-1]),
    ],
)
def test_values_are_compared_by_their_type(field: str, good: Any, bad: Any) -> None:
    for change, right in ((good, True), (bad, False)):
        walk = Walk(episode(seed=3))
        walk.call("locate")
        assert walk.call("policy").json()["eligible"] is True
        value = walk.right("refund")[field]
        answer = walk.call("refund", **{field: change(value)})
        walk.call("notify")
        walk.session.call("finish")
        assert right or answer.status in (201, 422)
        outcome = walk.episode.result().outcome
        assert outcome == ("success" if right else "silent_garbage" if answer.ok else "partial")


def test_an_email_is_the_same_in_any_case() -> None:
    walk = Walk(episode(seed=3))
    email = walk.right("locate")["customer_email"]
    body = walk.call("locate", customer_email=email.upper()).json()
    assert body["customer_id"] == walk.session.task["customer_id"]


def test_a_search_with_wrong_data_finds_somebody_else() -> None:
    walk = Walk(episode(seed=3))
    found = walk.call("locate", customer_name="Nobody Atall")
    assert found.status == 200
    assert found.json()["customer_id"] != walk.session.task["customer_id"]
    walk.call("policy")
    walk.call("refund")
    walk.session.call("finish")
    assert walk.episode.result().wrong_effects == 1


def test_a_step_waits_for_the_reads_before_it() -> None:
    walk = Walk(episode())
    answer = walk.call("refund")
    assert (answer.status, "policy" in answer.text) == (409, True)
    assert walk.core.made.sum() == 0


def test_a_write_that_must_not_be_is_garbage() -> None:
    for seed in range(8):
        walk = Walk(episode(seed=seed))
        walk.call("locate")
        eligible = walk.call("policy").json()["eligible"]
        walk.call("decline" if eligible else "refund")
        walk.session.call("finish")
        assert walk.episode.result().wrong_effects == 1


def test_one_key_one_effect() -> None:
    walk = Walk(episode())
    walk.do("locate", "policy")
    first = walk.call("refund", idempotency_key="a")
    again = walk.call("refund", idempotency_key="a")
    assert (first.status, again.status) == (201, 201)
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["Idempotent-Replayed"] == "true"
    reused = walk.call("refund", idempotency_key="a", order_total=1)
    assert reused.status == 422
    assert len(walk.list("payments.list_refunds")) == 1
    walk.call("refund", idempotency_key="b")
    walk.session.call("finish")
    result = walk.episode.result()
    assert (result.outcome, result.duplicate_effects, result.wrong_effects) == ("duplicate_effect", 1, 0)


def test_a_key_is_free_again_once_its_effect_is_taken_back() -> None:
    walk = Walk(episode())
    walk.do("locate", "policy")
    made = walk.call("refund", idempotency_key="a", order_total=1).json()["id"]
    assert walk.session.call("payments.undo_refund", effect_id=made).json()["status"] == "undone"
    assert walk.list("payments.list_refunds") == []
    assert walk.session.call("payments.undo_refund", effect_id=made).status == 404
    assert walk.call("refund", idempotency_key="a").status == 201
    walk.call("notify")
    walk.session.call("finish")
    assert walk.episode.result().outcome == "success"


def test_a_natural_step_sets_the_same_state_again() -> None:
    seed = next(s for s in range(40) if not ToolEpisode("refund", s, profile="clean")._core.facts[0, 0])
    walk = Walk(episode(seed=seed))
    walk.do("locate", "policy")
    first = walk.call("decline", order_item="something else")
    second = walk.call("decline")
    assert first.json()["id"] == second.json()["id"]
    assert [e["order_item"] for e in walk.list("crm.list_declines")] == [walk.right("decline")["order_item"]]
    walk.call("notify")
    walk.session.call("finish")
    assert walk.episode.result().outcome == "success"


def test_if_match_refuses_an_outdated_version() -> None:
    walk = Walk(episode())
    walk.do("locate", "policy")
    tag = walk.record("order").headers["ETag"]
    assert walk.call("refund", if_match='"0123456789ab"').status == 412
    assert walk.call("refund", if_match=f"{tag}, {walk.record('customer').headers['ETag']}").status == 201


def test_an_effect_can_be_looked_up_at_its_location() -> None:
    walk = Walk(episode())
    walk.do("locate", "policy")
    made = walk.call("refund")
    token = {"Authorization": f"Bearer {walk.session.task['access_token']}"}
    assert walk.session.request("GET", made.headers["Location"], token).json() == made.json()
    assert walk.session.request("GET", "/payments/refunds/re_1", token).status == 404


# ---------------------------------------------------------------- calls that make no sense

BAD_CALLS = [
    ("nothing.at_all", {}, 404),
    ("crm.get_customer", {}, 422),
    ("crm.get_customer", {"id": "cus_0"}, 404),
    ("crm.list_customers", {"cursor": "later"}, 400),
    ("crm.locate", {}, 422),
    ("crm.locate", {"customer_name": ["x"], "customer_email": "y"}, 422),
    ("crm.locate", {"customer_name": "x", "customer_email": "y", "more": 1}, 422),
    ("crm.locate", {"customer_name": object(), "customer_email": "y"}, 400),
    ("crm.locate", {"customer_name": float("nan"), "customer_email": "y"}, 400),
    ("clock.wait", {"seconds": -1}, 422),
    ("clock.wait", {"seconds": "soon"}, 422),
    ("clock.wait", {"seconds": 1e9}, 422),
    ("requester.ask", {}, 422),
    ("auth.token", {"grant_type": "password"}, 422),
    ("payments.undo_refund", {"effect_id": "re_1"}, 404),
]


@pytest.mark.parametrize(("name", "arguments", "status"), BAD_CALLS)
def test_bad_calls_are_answered_and_change_nothing(name: str, arguments: dict[str, Any], status: int) -> None:
    one = ToolEpisode("refund", 4, profile="hostile")
    before = {k: v for k, v in one._core.get_state().items() if k not in ("clock", "steps")}
    answer = one.session.call(name, **arguments)
    assert answer.status == status
    assert answer.json()["error"]["message"]
    after = one._core.get_state()
    assert all((after[k] == v).all() for k, v in before.items())
    assert not one.done


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status"),
    [
        ("GET", "/nowhere", {}, None, 404),
        ("PUT", "/crm/customers", {}, None, 405),
        ("GET", "/crm/customers", {}, None, 401),
        ("GET", "/crm/customers", {"Authorization": "Bearer wrong"}, None, 401),
        ("POST", "/wait", {}, "{", 400),
        ("POST", "/wait", {}, "[]", 422),
        ("POST", "/wait", {"Content-Type": "text/plain"}, "seconds=1", 415),
        ("POST", "/wait", {}, b"\xff\xfe", 400),
        ("GET", "//[", {}, None, 400),
    ],
)
def test_bad_requests_are_answered(method: str, path: str, headers: Any, body: Any, status: int) -> None:
    answer = clean().session.request(method, path, headers, body)
    assert answer.status == status
    assert "error" in answer.json()
    assert (status != 401) or answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert (status != 405) or answer.headers["Allow"] == "GET"


def test_the_wire_and_the_call_are_one_request() -> None:
    one, two = clean(), clean()
    customer, token = one.session.task["customer_id"], one.session.task["access_token"]
    one.session.call("crm.get_customer", id=customer)
    one.session.call("clock.wait", seconds=2)
    one.session.call("auth.token", grant_type="client_credentials")
    auth = {"authorization": f"Bearer {token}"}
    two.session.request("GET", f"/crm/customers/{customer}", auth)
    two.session.request("POST", "/wait", {**auth, "content-type": "application/json"}, '{ "seconds" : 2 }')
    form = {**auth, "Content-Type": "application/x-www-form-urlencoded"}
    answer = two.session.request("POST", "/auth/token", form, "grant_type=client_credentials")
    assert one.events == two.events
    assert answer.json()["access_token"] != token
    # the session's own client keeps the new token, whichever way it came
    assert two.session.call("crm.get_customer", id=customer).status == 200


# ---------------------------------------------------------------- ends


def test_after_the_end_everything_is_gone_and_nothing_counts() -> None:
    one = clean()
    one.session.call("finish", summary="well")
    result = one.result()
    for answer in (one.session.call("crm.list_customers"), one.session.request("GET", "/crm/customers")):
        assert answer.status == 410
    one.session.usage(cost_usd=5)
    one.close("aborted")
    assert one.result() == result
    assert result.outcome == "partial"


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [(None, "partial"), ("limit", "limit"), ("aborted", "aborted"), ("harness_error", "harness_error")],
)
def test_an_open_episode_can_be_closed(outcome: str | None, expected: str) -> None:
    one = clean()
    with pytest.raises(EpisodeError, match="still open"):
        one.result()
    one.close(outcome)
    assert one.result().outcome == expected


def test_close_takes_no_other_outcome() -> None:
    with pytest.raises(EpisodeError, match="outcome: got 'success'"):
        clean().close("success")


def test_limits_end_an_episode() -> None:
    slow, dear, busy = clean(), clean(), clean(max_calls=3)
    slow.session.call("clock.wait", seconds=10_000)
    dear.session.usage(cost_usd=0.5, latency_s=1.0)
    assert not dear.done
    dear.session.usage(cost_usd=0.6)
    for _ in range(3):
        assert not busy.done
        busy.session.call("nothing")
    for one in (slow, dear, busy):
        assert one.result().outcome == "limit"
    assert (slow.session.clock_s, dear.session.spend_usd, busy.result().calls) == (600.0, 1.0, 3)


def test_thinking_costs_time_and_money_but_no_calls() -> None:
    one = clean(max_calls=2)
    for _ in range(5):
        one.session.usage(cost_usd=0.01, latency_s=2.0)
    one.session.usage(cost_usd=float("nan"), latency_s=-4.0)
    one.session.call("finish")
    result = one.result()
    assert (result.calls, result.cost_usd) == (1, pytest.approx(0.05))
    assert result.components["latency_s"] == pytest.approx(result.latency_s)
    assert result.latency_s == pytest.approx(10.0, abs=0.5)


def test_handing_over_is_judged() -> None:
    results = []
    for seed in range(30):
        one = ToolEpisode("refund", seed, profile="clean")
        one.session.call("handoff", reason="not for me")
        results.append(one.result())
    assert {result.outcome for result in results} == {"escalated"}
    assert sum(result.handed_over_right for result in results) >= 27
    assert all(result.cost_usd == pytest.approx(0.4) for result in results)


def test_results_are_json_both_ways() -> None:
    one = ToolEpisode("refund", 5, profile="hostile")
    agent("retrying")(one.session)
    one.close()
    result = one.result()
    data = json.loads(json.dumps(result.to_dict()))
    assert EpisodeResult.from_dict(data | {"more": 1}) == result
    del data["utility"]
    with pytest.raises(EpisodeError, match="utility is missing"):
        EpisodeResult.from_dict(data)


def test_components_add_up_to_the_utility() -> None:
    harm = load_scenario("refund").reward["wrong_answer"]
    for seed in range(10):
        one = ToolEpisode("refund", seed, profile="hostile")
        agent("retrying")(one.session)
        one.close()
        result = one.result()
        parts = result.components
        assert parts["cost_usd"] == pytest.approx(result.cost_usd)
        assert parts["safety"] == result.wrong_effects + result.duplicate_effects
        expected = (parts["accuracy"] - parts["cost_usd"] - 0.001 * parts["latency_s"]
                    + harm * parts["safety"] + 0.85 * parts["handoff"])  # fmt: skip
        assert result.utility == pytest.approx(expected)


def test_a_router_is_no_episode_of_tools() -> None:
    with pytest.raises(ScenarioError, match="allowed: workflow"):
        ToolEpisode("support-desk")
