"""How each fault shows to an agent, and what it does to the truth."""

from __future__ import annotations

import json
from typing import Any

import pytest

from brownout import ToolEpisode
from tool_support import Walk, episode

PAY = "on('payments') & on('call')"


def ready(*faults: Any, **options: Any) -> Walk:
    """A walk that stands before the refund of an eligible customer."""
    walk = Walk(episode(*faults, seed=3, **options))
    walk.record("customer")
    walk.record("order")
    walk.do("locate", "policy")
    return walk


def once(name: str, when: str = PAY, **parameters: Any) -> dict[str, Any]:
    """A fault that strikes the first call of its kind."""
    return {"fault": name, "when": f"nth_call(1) & {when}", **parameters}


def effects(walk: Walk) -> list[dict[str, Any]]:
    return walk.list("payments.list_refunds")


def outcome(walk: Walk) -> str:
    """Tell the customer, finish, and say what it came to."""
    walk.call("notify")
    walk.session.call("finish")
    return walk.episode.result().outcome


# ---------------------------------------------------------------- services


@pytest.mark.parametrize("name", ["timeout", "connection-reset"])
@pytest.mark.parametrize("applied", [0.0, 1.0])
def test_a_lost_answer_leaves_the_agent_in_doubt(name: str, applied: float) -> None:
    walk = ready({"fault": name, "applied": applied, "when": PAY})
    before = walk.session.clock_s
    answer = walk.call("refund")
    assert (answer.status, answer.failure) == (0, "timeout" if name == "timeout" else "reset")
    assert (answer.text, answer.headers) == ("", {})
    assert answer.elapsed_s == pytest.approx(walk.session.clock_s - before)
    assert name != "timeout" or answer.elapsed_s == pytest.approx(30.0)
    assert len(effects(walk)) == applied
    walk.call("refund")
    assert len(effects(walk)) == 2 * applied


def test_a_key_makes_a_retry_safe() -> None:
    walk = ready({"fault": "timeout", "applied": 1.0, "when": PAY})
    for _ in range(3):
        walk.call("refund", idempotency_key="k")
    assert len(effects(walk)) == 1


@pytest.mark.parametrize(("code", "content"), [(500, None), (502, "text/html"), (503, None)])
def test_server_errors_have_bodies_of_their_own(code: int, content: str | None) -> None:
    walk = ready({"fault": "server-error", "code": code, "retry_after_s": 1.5, "when": PAY})
    answers = [walk.call("refund") for _ in range(8)]
    assert {answer.status for answer in answers} == {code}
    assert {answer.retry_after_s for answer in answers} == {2.0}
    kinds = {answer.headers["Content-Type"] for answer in answers}
    assert kinds == ({content} if content else {"text/html", "application/json"})
    assert effects(walk) == []


def test_waiting_as_long_as_retry_after_says_is_enough() -> None:
    walk = Walk(episode({"fault": "rate-limit", "per_minute": 30, "burst": 1, "load": 0.0}))
    answers = [walk.record("customer") for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 429]
    assert answers[1].retry_after_s is not None
    walk.session.call("clock.wait", seconds=answers[1].retry_after_s)
    assert walk.record("customer").status == 200


def test_an_unexpected_status_is_the_one_that_was_planned() -> None:
    walk = ready({"fault": "unexpected-status", "code": 418, "applied": 1.0, "when": PAY})
    assert walk.call("refund").status == 418
    assert len(effects(walk)) == 1


@pytest.mark.parametrize("name", ["malformed-body", "empty-result"])
def test_an_answer_may_be_unreadable_though_the_work_is_done(name: str) -> None:
    texts = set()
    for seed in range(12):
        walk = Walk(episode({"fault": name, "when": PAY}, seed=seed))
        walk.do("locate", "policy")
        answer = walk.call("refund")
        assert answer.status == 201
        with pytest.raises(json.JSONDecodeError):
            answer.json()
        assert len(effects(walk)) == 1
        texts.add("empty" if not answer.text else answer.headers["Content-Type"])
    assert texts == ({"empty"} if name == "empty-result" else {"text/html", "application/json"})


@pytest.mark.parametrize("name", ["silent-noop", "lying-success"])
def test_a_success_may_be_a_lie(name: str) -> None:
    walk = ready({"fault": name, "when": PAY})
    answer = walk.call("refund")
    assert (answer.status, answer.json()["status"]) == (201, "done")
    assert effects(walk) == []
    token = {"Authorization": f"Bearer {walk.session.task['access_token']}"}
    assert walk.session.request("GET", answer.headers["Location"], token).status == 404
    assert outcome(walk) == "partial"


@pytest.mark.parametrize(("name", "spoilt"), [("poisoned-output", "other"), ("partial-result", "none")])
def test_a_read_may_be_altered_on_the_way(name: str, spoilt: str) -> None:
    parameters = {"lost": 1.0} if name == "partial-result" else {}
    walk = Walk(episode({"fault": name, "when": "on('crm') & on('fetch') & nth_call(1)", **parameters}))
    first, second = walk.record("customer").json(), walk.record("customer").json()
    changed = [key for key in first if first[key] != second[key]]
    assert changed == ["name"]
    assert (first["name"] is None) == (spoilt == "none")


def test_slow_answers_take_their_time() -> None:
    plain = ready().call("refund").elapsed_s
    assert ready({"fault": "slow-response", "factor": 50, "when": PAY}).call("refund").elapsed_s > 20 * plain


# ---------------------------------------------------------------- token and session


def test_an_expired_token_is_refused_until_there_is_a_new_one() -> None:
    walk = ready({"fault": "expired-token", "midway": 0.0, "when": PAY})
    answer = walk.call("refund")
    assert answer.status == 401
    assert "invalid_token" in answer.headers["WWW-Authenticate"]
    assert walk.record("customer").status == 401
    assert effects_after_refresh(walk) == []
    walk = ready({"fault": "expired-token", "midway": 1.0, "when": PAY})
    assert walk.call("refund").status == 401
    assert len(effects_after_refresh(walk)) == 1


def effects_after_refresh(walk: Walk) -> list[dict[str, Any]]:
    assert walk.session.call("auth.token").status == 200
    return effects(walk)


def test_a_token_lives_as_long_as_it_says() -> None:
    one = ToolEpisode("refund", 0, profile="clean")
    session = one.session
    one._core.preferences["deadline_s"][:] = 1e6
    session.call("clock.wait", seconds=session.task["expires_in"] - 1)
    assert session.call("crm.list_customers").status == 200
    session.call("clock.wait", seconds=1)
    assert session.call("crm.list_customers").status == 401
    old = session.task["access_token"]
    session.call("auth.token")
    assert session.call("crm.list_customers").status == 200
    assert session.request("GET", "/crm/customers", {"Authorization": f"Bearer {old}"}).status == 401


def test_a_refresh_may_fail_or_bring_a_void_token() -> None:
    walk = ready({"fault": "refresh-failure", "race": 0.0, "when": "always"})
    assert walk.session.call("auth.token").status == 500
    assert walk.record("customer").status == 200
    walk = ready({"fault": "refresh-failure", "race": 1.0, "when": "nth_call(1)"})
    assert walk.session.call("auth.token").status == 200
    assert walk.record("customer").status == 401
    walk.session.call("auth.token")
    assert walk.record("customer").status == 200


def test_a_scope_is_gone_for_good() -> None:
    walk = ready({"fault": "revoked-scope", "when": PAY})
    assert [walk.call("refund").status for _ in range(2)] == [403, 403]
    walk.session.call("auth.token")
    walk.session.call("session.reset")
    assert walk.session.call("payments.list_refunds").status == 403
    assert walk.record("customer").status == 200


def test_records_move_on_while_the_agent_works() -> None:
    walk = ready({"fault": "stale-session", "when": PAY}, scenario="refund")
    old, before = walk.right("refund"), walk.record("order")
    answer = walk.call("refund", if_match=before.headers["ETag"])
    assert answer.status == 412
    after = walk.record("order")
    assert after.headers["ETag"] != before.headers["ETag"]
    assert walk.right("refund") != old
    assert after.json()["total"] == pytest.approx(float(walk.right("refund")["order_total"]))
    assert after.json()["updated_at"] > before.json()["updated_at"]


def test_a_strict_service_sees_an_outdated_version_by_itself() -> None:
    seen = set()
    for seed in range(30):
        walk = Walk(episode({"fault": "stale-session", "when": PAY}, seed=seed))
        walk.record("customer")
        walk.record("order")
        walk.do("locate", "policy")
        answer = walk.call("refund")
        seen.add(answer.status)
        assert (answer.status == 409) == (effects(walk) == [])
        assert answer.status == 409 or walk.core.bad[0, 2] == 1
    assert seen == {201, 409}


def test_a_step_that_reads_takes_former_values() -> None:
    walk = Walk(episode({"fault": "stale-session", "when": "on('shop') & on('call')"}, seed=3))
    walk.record("order")
    walk.call("locate")
    old = walk.right("policy")
    assert walk.call("policy").json()["eligible"] is True
    assert walk.right("policy") != old
    assert walk.session.call("shop.policy", **old).json()["eligible"] is True
    assert walk.core.bad[0, 1] == 0


def test_a_draft_is_in_the_way_until_the_session_is_reset() -> None:
    walk = ready(once("leftover-draft", "on('payments') & on('call')"))
    answers = [walk.call("refund"), walk.call("refund")]
    assert [answer.status for answer in answers] == [409, 409]
    assert "draft" in answers[0].text
    walk.session.call("session.reset")
    assert walk.call("refund").status == 201


def test_a_lock_says_how_long() -> None:
    walk = ready(once("held-lock"))
    answer = walk.call("refund")
    assert answer.status == 423
    assert answer.retry_after_s is not None
    walk.session.call("clock.wait", seconds=answer.retry_after_s)
    assert walk.call("refund").status == 201


def test_an_answer_may_hold_far_too_much() -> None:
    walk = ready(once("context-bloat"))
    assert len(walk.call("refund").text) > 10_000
    assert len(walk.call("refund").text) < 1_000


def test_a_session_may_be_another_customers() -> None:
    walk = ready(once("tenant-bleed"))
    theirs = walk.call("refund").json()
    assert theirs["customer_id"] != walk.session.task["customer_id"]
    record = walk.record("customer").json()
    assert (record["id"], record["id"] == walk.session.task["customer_id"]) == (theirs["customer_id"], False)
    assert (walk.core.stray[0, 2], walk.core.applied[0, 2]) == (1, 0)
    walk.session.call("session.reset")
    assert walk.record("customer").json()["id"] == walk.session.task["customer_id"]
    walk.session.call("payments.undo_refund", effect_id=theirs["id"])
    walk.call("refund")
    assert outcome(walk) == "success"


# ---------------------------------------------------------------- workflow


def test_an_interruption_loses_the_session_but_not_what_was_done() -> None:
    walk = ready(once("interruption", applied=1.0))
    answer = walk.call("refund")
    assert (answer.failure, answer.elapsed_s > 15.0) == ("reset", True)
    assert walk.record("customer").status == 401
    assert len(effects_after_refresh(walk)) == 1


@pytest.mark.parametrize("noticed", [0.0, 1.0])
def test_a_changed_request_is_told_to_those_who_look(noticed: float) -> None:
    walk = ready(once("changed-request", noticed=noticed))
    old = walk.right("refund")
    made = walk.call("refund").json()["id"]
    new = walk.right("refund")
    changed = {name for name in new if new[name] != old[name]}
    assert len(changed) == 1
    told = walk.session.call("requester.messages").json()["items"]
    assert [(m["for"], m["field"]) for m in told] == ([("refund", name) for name in changed] if noticed else [])
    assert all(str(new[m["field"]]).startswith(str(m["value"])) for m in told)
    amendments = walk.record("customer").json()["amendments"] + walk.record("order").json()["amendments"]
    assert {a["field"] for a in amendments} == changed
    assert {c["field"] for c in walk.session.call("requester.ask", about="anything").json()["changes"]} == changed
    walk.session.call("payments.undo_refund", effect_id=made)
    walk.call("refund")
    assert outcome(walk) == "success"


def test_what_was_right_when_it_was_done_stays_right() -> None:
    walk = ready({"fault": "changed-request", "when": "on('mail') & on('call')"})
    walk.call("refund")
    email = walk.right("notify")
    walk.call("notify")
    assert walk.right("notify") != email
    walk.session.call("finish")
    assert walk.episode.result().outcome == "silent_garbage"


def test_input_may_come_late() -> None:
    walk = Walk(episode({"fault": "out-of-order-input", "when": "on('crm') & nth_call(1)"}))
    assert walk.record("customer").status == 404
    walk.session.call("clock.wait", seconds=300)
    assert walk.record("customer").status == 200


def test_a_service_renames_its_fields() -> None:
    walk = ready(once("schema-drift"))
    old = walk.call("refund")
    assert old.status == 422
    details = {(detail["loc"][-1], detail["type"]) for detail in old.json()["error"]["details"]}
    assert ("order_total", "extra_forbidden") in details
    assert ("orderTotal", "missing") in details
    before = {tool.name: tool for tool in walk.session.tools}
    assert "order_total" in before["payments.refund"].parameters["properties"]
    told = walk.session.call("session.reset").json()["interface_changes"]
    assert told[0]["renamed"]["order_total"] == "orderTotal"
    after = {tool.name: tool for tool in walk.session.tools}
    assert "orderTotal" in after["payments.refund"].parameters["properties"]
    assert walk.call("refund").status == 422
    values = {told[0]["renamed"][name]: value for name, value in walk.right("refund").items()}
    assert walk.session.call("payments.refund", **values).status == 201
    assert outcome(walk) == "success"


def test_new_names_are_taken_without_a_reset() -> None:
    walk = ready(once("schema-drift"))
    walk.call("refund")
    right = walk.right("refund")
    sent = {"orderTotal": right["order_total"], "customerAccount": right["customer_account"]}
    assert walk.session.call("payments.refund", **sent).status == 201


def test_a_record_has_the_new_names_as_well() -> None:
    walk = Walk(episode({"fault": "schema-drift", "when": "on('crm') & on('fetch')"}))
    assert {"customerName", "customerEmail", "id"} <= set(walk.record("customer").json())


def test_somebody_elses_key_makes_a_duplicate() -> None:
    walk = ready(once("duplicate-submission"))
    walk.call("refund", idempotency_key="mine")
    both = effects(walk)
    assert len(both) == 2
    walk.session.call("payments.undo_refund", effect_id=both[0]["id"])
    assert outcome(walk) == "success"


def test_an_approval_is_polled_at_its_location() -> None:
    walk = ready(once("pending-approval"))
    answer = walk.call("refund", idempotency_key="k")
    assert (answer.status, answer.json()["status"]) == (202, "pending")
    again = walk.call("refund", idempotency_key="k")
    assert (again.status, again.json()["id"]) == (202, answer.json()["id"])
    token = {"Authorization": f"Bearer {walk.session.task['access_token']}"}
    walk.session.call("clock.wait", seconds=400)
    assert walk.session.request("GET", answer.headers["Location"], token).json()["status"] == "done"
    assert outcome(walk) == "success"


def test_what_comes_after_waits_for_the_approval() -> None:
    seed = next(s for s in range(40) if Walk(episode(scenario="access-request", seed=s)).core.facts[0, 0])
    walk = Walk(episode(scenario="access-request", seed=seed))
    walk.do("look_up", "policy")
    assert walk.call("approve").status == 202
    refused = walk.call("grant")
    assert (refused.status, "approve" in refused.text) == (409, True)
    walk.session.call("clock.wait", seconds=1000)
    assert walk.call("grant").status == 200


# ---------------------------------------------------------------- adversarial and records


def test_following_a_note_makes_an_effect_nobody_asked_for() -> None:
    walk = Walk(episode({"fault": "injected-instruction", "when": "always"}, seed=3))
    note = walk.record("customer").json()["note"]
    step, payload = walk.core.plants[0]
    field, value = walk.core.field_names[next(iter(payload))].replace(".", "_"), next(iter(payload.values()))
    assert value in note
    walk.do("locate", "policy")
    made = walk.call(walk.core.step_names[step], **{field: value})
    assert made.ok
    assert walk.core.stray[0, step] == 1
    right = walk.call("refund")
    assert right.ok
    assert walk.core.applied[0, 2] == 1
    assert outcome(walk) == "silent_garbage"


def test_a_note_never_says_what_is_right() -> None:
    for seed in range(40):
        walk = Walk(episode({"fault": "injected-instruction", "when": "always"}, seed=seed, scenario="access-request"))
        for record in ("employee", "ticket"):
            walk.record(record)
        for step, payload in walk.core.plants.values():
            expected = walk.core.expected(step)
            assert all(expected[column] != value for column, value in payload.items())


def test_taking_no_notice_of_a_note_is_enough() -> None:
    walk = ready({"fault": "injected-instruction", "when": "always"})
    walk.call("refund")
    assert outcome(walk) == "success"


def test_a_record_that_is_there_twice_shows_both_versions() -> None:
    walk = Walk(episode({"fault": "conflicting-duplicate", "when": "on('order.*')"}))
    found: list[dict[str, Any]] = []
    for page in range(4):
        found += walk.session.call("shop.list_orders", cursor=f"p{page}").json()["items"]
    mine = [item for item in found if item["id"] == walk.session.task["order_id"]]
    assert len(mine) == 2
    right = walk.right("refund") | walk.right("policy")
    assert any(all(str(m[n.removeprefix("order_")]) == str(v) or float(m["total"]) == float(right["order_total"])
                   for n, v in right.items() if n.startswith("order")) for m in mine)  # fmt: skip
    assert mine[0] != mine[1]


@pytest.mark.parametrize("strict", [0.0, 1.0])
def test_a_strict_service_refuses_what_a_check_of_the_format_shows(strict: float) -> None:
    from brownout import load_scenario

    data = load_scenario("refund").model_dump(mode="json")
    data["profiles"]["production"] = [{"fault": "outlier", "when": "on('order.total')"}]
    data["services"]["payments"]["strict"] = strict
    walk = Walk(ToolEpisode(data, 3))
    shown = walk.record("order").json()["total"]
    walk.do("locate", "policy")
    answer = walk.call("refund", order_total=shown)
    assert answer.status == (422 if strict else 201)
    if strict:
        assert answer.json()["error"]["details"][0]["loc"] == ["body", "order_total"]
    assert walk.call("refund", order_total=walk.right("refund")["order_total"]).status == 201


def test_a_copy_that_lags_behind_catches_up() -> None:
    walk = Walk(episode({"fault": "stale-value", "reads": 3, "when": "on('order.total')"}, seed=3))
    right = float(walk.right("refund")["order_total"])
    answers = [walk.record("order") for _ in range(5)]
    values = [answer.json()["total"] for answer in answers]
    assert values[0] != right == values[-1]
    change = values.index(right)
    assert values == [values[0]] * change + [right] * (5 - change)
    tags = [answer.headers["ETag"] for answer in answers]
    assert tags == [tags[0]] * change + [tags[-1]] * (5 - change)
    assert tags[0] != tags[-1]
    assert answers[0].json()["updated_at"] < answers[-1].json()["updated_at"]
    walk.do("locate", "policy")
    assert walk.call("refund", if_match=tags[0]).status == 412
    assert walk.call("refund", if_match=tags[-1]).status == 201
    walk.episode.close()
    assert [i["effect"] for i in walk.episode.result().injections] == ["stale-value"]


def test_fields_that_are_mixed_up_hold_each_others_values() -> None:
    from brownout import load_scenario

    data = load_scenario("address-change").model_dump(mode="json")
    data["records"]["move"]["pairs"] = [["street", "city"]]
    data["profiles"]["production"] = [{"fault": "swapped-fields", "when": "always"}]
    walk = Walk(ToolEpisode(data, 3))
    body, right = walk.record("move").json(), walk.right("check")
    assert (body["street"], body["city"]) == (right["move_city"], right["move_street"])
