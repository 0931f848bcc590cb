"""Every effect of auth and session: what it does, worked out by hand, and the way out of it."""

from __future__ import annotations

import pytest

from brownout.envs.workflow_state import Belief, Known
from brownout.errors import FaultError, ScenarioError
from brownout.faults import CallEffect, Status
from brownout.faults.plan import make_effect
from brownout.faults.registry import lookup
from brownout.scenarios import load_scenario
from workflow_support import Bench, tiny_workflow


def effect(name: str, **parameters: float) -> CallEffect:
    made = make_effect(lookup(name), parameters)
    assert isinstance(made, CallEffect)
    return made


def status(bench: Bench, step: str) -> Status:
    return Status(int(bench.core.status[0, bench.at(step)]))


def finishes(bench: Bench) -> bool:
    return bench.do("finish").outcome == "success"


# ---------------------------------------------------------------- expired-token


def test_an_expired_token_refuses_until_it_is_refreshed() -> None:
    bench = Bench({"fault": "expired-token", "midway": 0.0, "when": "nth_call(2) & on('crm')"})
    bench.do("fetch", "call:cheap")
    assert status(bench, "locate") == Status.UNAUTHORIZED
    assert bench.see("last.unauthorized") == 1
    assert bench.applied("locate") == 0
    assert bench.see("token_left") == 512.0 - bench.clock, "the agent still believes in the expiry it was told"
    bench.do("call:cheap")
    assert status(bench, "locate") == Status.UNAUTHORIZED, "every call is refused, not only the struck one"
    spent = bench.spend
    assert spent == 2 * 0.125, "the service bills nothing for a refusal; the reasoner has worked"
    bench.do("refresh")
    assert bench.see("token_left") == 512.0
    bench.do("call:cheap", "fetch", "call:cheap", "call:cheap")
    assert finishes(bench)


def test_a_token_that_ends_midway_leaves_the_work_done() -> None:
    bench = Bench({"fault": "expired-token", "midway": 1.0, "when": "nth_call(1) & on('bank')"})
    bench.do("fetch", "call:cheap", "fetch", "call:cheap")
    assert status(bench, "pay") == Status.UNAUTHORIZED
    assert bench.applied("pay") == 1
    assert bench.belief("pay") == Belief.TODO
    bench.do("refresh", "verify")
    assert bench.belief("pay") == Belief.DONE
    bench.do("call:cheap")
    assert finishes(bench)


# ---------------------------------------------------------------- refresh-failure


def test_a_failed_refresh_brings_no_token() -> None:
    bench = Bench({"fault": "refresh-failure", "race": 0.0, "latency_s": 2.0, "when": "nth_call(1)"})
    bench.do("fetch")
    before = bench.see("token_left")
    bench.do("refresh")
    assert bench.clock == 1.0 + 2.0
    assert bench.see("token_left") == before - 2.0
    bench.do("refresh")
    assert bench.see("token_left") == 512.0


def test_a_refresh_that_loses_the_race_looks_fine() -> None:
    bench = Bench({"fault": "refresh-failure", "race": 1.0, "when": "nth_call(1)"})
    bench.do("refresh")
    assert bench.see("token_left") == 512.0
    bench.do("fetch")
    assert status(bench, "locate") == Status.UNAUTHORIZED
    bench.do("refresh", "fetch")
    assert status(bench, "locate") == Status.OK


# ---------------------------------------------------------------- revoked-scope


def test_a_revoked_scope_is_for_good_and_is_handed_over() -> None:
    bench = Bench({"fault": "revoked-scope", "when": "on('bank')"})
    bench.do("fetch", "call:cheap", "fetch", "call:cheap")
    assert status(bench, "pay") == Status.FORBIDDEN
    assert bench.spend == 2 * 0.125, "the bank bills nothing for a refusal"
    bench.do("refresh", "resync", "call:strong")
    assert status(bench, "pay") == Status.FORBIDDEN
    assert bench.strikes == {"revoked-scope#0": 1}, "once per service"
    end = bench.do("escalate")
    assert (end.outcome, end.parts["handoff"], end.parts["safety"]) == ("escalated", 1.0, 0.0)


# ---------------------------------------------------------------- stale-session


@pytest.mark.parametrize("strict", [0.0, 1.0])
def test_a_stale_session_is_refused_or_writes_old_data(strict: float) -> None:
    bench = Bench({"fault": "stale-session", "when": "nth_call(1) & on('bank')"}, services__bank__strict=strict)
    bench.do("fetch", "call:cheap", "fetch", "call:cheap")
    if strict:
        assert (status(bench, "pay"), bench.applied("pay")) == (Status.CONFLICT, 0)
    else:
        assert (bench.belief("pay"), bench.core.bad[0, 1]) == (Belief.DONE, 1)
        unaware = Bench({"fault": "stale-session", "when": "nth_call(1) & on('bank')"})
        assert (
            unaware.do("fetch", "call:cheap", "fetch", "call:cheap", "call:cheap", "finish").outcome == "silent_garbage"
        )
    # the way out: a new session, or reading back what was written, tells that the record has moved on
    bench.do("resync" if strict else "verify")
    assert bench.known("order.total") == Known.UNSEEN
    assert bench.current == "pay"
    if not strict:
        assert bench.see("step.excess") == 1.0
        bench.do("compensate")
        assert bench.applied("pay") == 0
    bench.do("fetch", "call:cheap", "call:cheap")
    assert finishes(bench)


# ---------------------------------------------------------------- leftover-draft


def test_a_draft_is_in_the_way_until_the_session_is_new() -> None:
    bench = Bench({"fault": "leftover-draft", "when": "nth_call(1) & on('bank')"})
    bench.do("fetch", "call:cheap", "fetch", "call:cheap", "call:cheap")
    assert (status(bench, "pay"), bench.applied("pay")) == (Status.CONFLICT, 0)
    bench.do("resync", "call:cheap", "call:cheap")
    assert finishes(bench)


# ---------------------------------------------------------------- held-lock


def test_a_lock_says_how_long_and_then_lets_in() -> None:
    bench = Bench({"fault": "held-lock", "mean_s": 20.0, "when": "nth_call(1) & on('bank')"})
    bench.do("fetch", "call:cheap", "fetch")
    placed = bench.clock
    bench.do("call:cheap")
    assert status(bench, "pay") == Status.LOCKED
    until = bench.core.lock_until[0, 1]
    assert until > placed + 0.5
    # the refusal took 0.5 s of thinking and 4 s of the call; Retry-After counts from the moment it arrived
    assert bench.core.retry_at[0] == pytest.approx(bench.clock + until - (placed + 0.5))
    bench.do("wait", "call:cheap", "call:cheap")
    assert finishes(bench)


# ---------------------------------------------------------------- context-bloat


def test_a_full_context_makes_reasoners_dearer_until_it_is_cleared() -> None:
    bench = Bench({"fault": "context-bloat", "share": 0.5, "when": "nth_call(1) & on('crm')"})
    bench.do("fetch")
    assert bench.see("context") == 0.5
    bench.do("validate:strong")
    assert bench.spend == 0.5 * 1.5, "half a context costs half the surcharge of 1"
    bench.do("call:cheap")
    assert bench.spend == 0.5 * 1.5 + 0.125 * 1.5
    bench.do("resync")
    assert bench.see("context") == 0.0
    before = bench.spend
    bench.do("fetch", "call:cheap")
    assert bench.spend == before + 0.125 + 0.25
    bench.do("call:cheap")
    assert finishes(bench)


def test_a_full_context_makes_slips() -> None:
    bench = Bench({"fault": "context-bloat", "share": 1.0, "when": "nth_call(1) & on('crm')"}, session__confusion=1.0)
    bench.do("fetch", "call:cheap")
    assert bench.core.bad[0, 0] == 2


# ---------------------------------------------------------------- tenant-bleed


def test_writes_of_a_foreign_session_hit_somebody_else() -> None:
    bench = Bench({"fault": "tenant-bleed", "when": "nth_call(1) & on('bank')"})
    bench.do("fetch", "call:cheap", "fetch", "call:cheap")
    assert (bench.belief("pay"), bench.applied("pay"), bench.core.stray[0, 1]) == (Belief.DONE, 0, 1)
    bench.do("verify")
    assert (bench.current, bench.see("step.excess")) == ("pay", 1.0), "it is not there, and something else is"
    bench.do("resync", "compensate")
    assert bench.core.stray[0, 1] == 0
    bench.do("call:cheap", "call:cheap")
    assert finishes(bench)


def test_reads_of_a_foreign_session_bring_wrong_values() -> None:
    bench = Bench({"fault": "tenant-bleed", "when": "nth_call(1) & on('crm')"})
    bench.do("fetch")
    assert bench.core.wrong[0, :2].all()
    bench.do("validate:strong")
    assert bench.known("customer.name") == Known.FLAGGED
    bench.do("resync", "fetch")
    assert not bench.core.wrong[0].any()


def test_unnoticed_it_ends_as_garbage() -> None:
    bench = Bench({"fault": "tenant-bleed", "when": "nth_call(1) & on('bank')"})
    bench.do("fetch", "call:cheap", "fetch", "call:cheap", "call:cheap")
    end = bench.do("finish")
    # the payment and the message both went to somebody else
    assert (end.outcome, end.parts["safety"], end.reward) == ("silent_garbage", 2.0, -1.0)


# ---------------------------------------------------------------- all of them


@pytest.mark.parametrize(
    ("fault", "field", "value"),
    [
        ("expired-token", "midway", 1.5), ("refresh-failure", "race", -0.1), ("refresh-failure", "latency_s", -1),
        ("held-lock", "mean_s", 0), ("context-bloat", "share", 2),
    ],
)  # fmt: skip
def test_impossible_parameters_are_refused(fault: str, field: str, value: float) -> None:
    with pytest.raises(FaultError, match=field):
        effect(fault, **{field: value})


def test_they_need_a_session() -> None:
    with pytest.raises(ScenarioError, match="needs the port session"):
        load_scenario("textbook", ["profiles.production=[{fault: leftover-draft, when: always}]"])


def test_they_strike_only_calls_that_there_are() -> None:
    with pytest.raises(ScenarioError, match="can strike no call"):
        load_scenario(tiny_workflow({"fault": "refresh-failure", "when": "on('bank')"}))


def test_greater_intensity_is_stronger() -> None:
    assert effect("held-lock", mean_s=20.0).strengthened(2.0) == effect("held-lock", mean_s=40.0)
    assert effect("context-bloat", share=0.4).strengthened(3.0) == effect("context-bloat", share=1.0)
