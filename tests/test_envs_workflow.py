"""Physics of the workflow, worked out by hand: what stands, what the agent believes, what it costs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from brownout.envs.cores import make_core
from brownout.envs.workflow_core import WorkflowCore
from brownout.envs.workflow_state import ACTIONS, OUTCOMES, Belief, Kind, Known
from brownout.errors import ScenarioError
from brownout.faults import registered_faults
from brownout.scenarios import load_scenario
from brownout.trainers.baselines import make_baseline
from brownout.trainers.evaluation import play
from workflow_support import HAPPY, TINY_WORKFLOW, Bench, tiny_workflow

PAID = ("fetch", "call:cheap", "fetch", "call:cheap")
LOST = {"fault": "timeout", "after_s": 20.0, "applied": 1.0, "when": "nth_call(1) & on('bank')"}


# ---------------------------------------------------------------- the healthy world


def test_the_happy_path_costs_what_its_calls_cost() -> None:
    bench = Bench()
    end = bench.do(*HAPPY)
    assert (end.outcome, end.reward, end.terminated) == ("success", 1.0, True)
    # fetch customer 1 s, locate 0.5 + 1, fetch order 2, pay 0.5 + 4, tell 0.5 + 1
    assert bench.clock == 1 + 1.5 + 2 + 4.5 + 1.5
    assert bench.spend == 3 * 0.125 + 0.25
    assert bench.core.made[0].tolist() == [3, 1, 1, 0, 0, 0, 0, 0]


def test_components_add_up() -> None:
    bench = Bench()
    cost = seconds = 0.0
    for action in HAPPY:
        parts = bench.do(action).parts
        cost, seconds = cost + parts["cost_usd"], seconds + parts["latency_s"]
    assert (cost, seconds) == (bench.spend, bench.clock)


@pytest.mark.parametrize(
    ("actions", "outcome"),
    [
        (("finish",), "partial"), (("abort",), "aborted"), (("escalate",), "escalated"),
        ((*PAID, "finish"), "partial"), (HAPPY, "success"),
    ],
)  # fmt: skip
def test_outcomes(actions: tuple[str, ...], outcome: str) -> None:
    end = Bench().do(*actions)
    assert end.outcome == outcome
    assert end.parts["accuracy"] == (outcome == "success")
    assert end.parts["handoff"] == (outcome == "escalated")
    assert end.parts["safety"] == 0


def test_the_mask_says_what_makes_sense() -> None:
    bench = Bench()
    assert bench.legal() == {"fetch", "refresh", "resync", "clarify", "escalate", "finish", "abort"}
    bench.do("fetch")
    assert {"validate:cheap", "validate:strong", "call:cheap", "call:strong", "dispatch"} <= bench.legal()
    assert not {"repair:cheap", "verify", "compensate", "wait", "switch"} & bench.legal()
    bench.do("call:cheap", "fetch", "call:cheap")
    assert "verify" in bench.legal()
    assert not {"escalate"} & Bench(person=None).legal()
    assert not {"clarify"} & Bench(requester=None).legal()


def test_limits_end_an_episode() -> None:
    broke = Bench(limits__budget_usd=0.3)
    end = broke.do(*PAID)
    assert (end.outcome, end.terminated, broke.spend) == ("limit", True, 0.3)
    late = Bench(limits__deadline_s=6.0)
    end = late.do(*PAID)
    assert (end.outcome, end.terminated, late.clock) == ("limit", True, 6.0)
    assert late.applied("pay") == 1, "the call had been placed"
    over = Bench(limits__max_steps=2).do("fetch", "call:cheap")
    assert (over.outcome, over.truncated) == ("limit", True)


def test_a_soft_deadline_charges_what_is_late() -> None:
    bench = Bench(limits__deadline_s=2.0, limits__on_deadline="soft")
    assert bench.do("fetch").parts["late_s"] == 0.0
    assert bench.do("call:cheap").parts["late_s"] == 0.5
    assert bench.do("fetch").parts["late_s"] == 2.0


# ---------------------------------------------------------------- in doubt


@pytest.mark.parametrize(("idempotency", "stands"), [("key", 1), ("natural", 1), ("none", 2)])
def test_repeating_a_lost_call(idempotency: str, stands: int) -> None:
    bench = Bench(LOST, steps__pay__idempotency=idempotency)
    bench.do(*PAID)
    assert (bench.belief("pay"), bench.applied("pay"), bench.see("last.lost")) == (Belief.UNKNOWN, 1, 1.0)
    assert bench.clock == 1 + 1.5 + 2 + 0.5 + 20
    bench.do("call:cheap")
    assert bench.applied("pay") == stands
    end = bench.do("call:cheap", "finish")
    assert end.outcome == ("duplicate_effect" if stands > 1 else "success")
    assert (end.parts["safety"], end.reward) == ((1.0, -0.5) if stands > 1 else (0.0, 1.0))


@pytest.mark.parametrize("applied", [0.0, 1.0])
def test_reading_back_settles_a_doubt(applied: float) -> None:
    bench = Bench({**LOST, "applied": applied}, steps__pay__idempotency="none")
    bench.do(*PAID, "verify")
    assert bench.belief("pay") == (Belief.DONE if applied else Belief.TODO)
    if not applied:
        bench.do("call:cheap")
    assert bench.do("call:cheap", "finish").outcome == "success"


def test_a_double_is_undone_once() -> None:
    bench = Bench(LOST, steps__pay__idempotency="none")
    bench.do(*PAID, "call:cheap", "verify")
    assert (bench.see("excess"), bench.see("step.excess")) == (1, 0), "the cursor has moved on"
    bench.do("compensate")
    assert (bench.applied("pay"), bench.belief("pay"), bench.see("excess")) == (1, Belief.DONE, 0)
    assert bench.do("call:cheap", "finish").outcome == "success"


def test_a_step_in_doubt_can_be_undone_whole() -> None:
    bench = Bench(LOST)
    bench.do(*PAID, "compensate")
    assert (bench.applied("pay"), bench.belief("pay")) == (0, Belief.TODO)
    bench.do("call:cheap")
    assert bench.applied("pay") == 1, "a new effect needs a new key, or nothing would happen"
    assert bench.do("call:cheap", "finish").outcome == "success"


def test_what_cannot_be_undone_is_handed_over() -> None:
    bench = Bench(LOST, steps__pay__idempotency="none", steps__pay__compensable=False)
    bench.do(*PAID, "call:cheap", "verify")
    assert "compensate" not in bench.legal()
    end = bench.do("escalate")
    assert (end.parts["handoff"], end.parts["safety"]) == (1.0, 0.0)
    failed = Bench(LOST, steps__pay__idempotency="none", person__accuracy=0.0)
    end = failed.do(*PAID, "call:cheap", "escalate")
    assert (end.parts["handoff"], end.parts["safety"]) == (0.0, 1.0), "nobody cleared it"


def test_a_refused_call_leaves_no_doubt() -> None:
    bench = Bench({"fault": "outage", "family": "bank", "when": "nth_call(1)"})
    bench.do(*PAID)
    assert (bench.belief("pay"), bench.see("last.down"), bench.see("step.failed")) == (Belief.TODO, 1, 1)


def test_waiting_keeps_a_retry_after() -> None:
    bench = Bench({"fault": "server-error", "code": 503, "retry_after_s": 7.0, "when": "nth_call(1) & on('bank')"})
    bench.do(*PAID)
    assert bench.see("retry_in") == 7.0
    before = bench.clock
    bench.do("wait")
    assert bench.clock == before + 7.0
    bench.do("wait")
    assert bench.clock == before + 7.0 + 3.0, "then it backs off"


# ---------------------------------------------------------------- fields


def dirty(fault: str, **parameters: Any) -> Bench:
    return Bench({"fault": fault, "when": "always & on('order.total')", **parameters})


def test_a_silent_error_is_written_unless_it_is_found() -> None:
    end = dirty("stale-value").do(*HAPPY)
    assert (end.outcome, end.reward) == ("silent_garbage", -0.5)


def test_the_strong_reasoner_finds_what_the_cheap_one_does_not() -> None:
    bench = dirty("stale-value")
    bench.do("fetch", "call:cheap", "fetch", "validate:cheap")
    assert (bench.known("order.total"), bench.see("fields.checked")) == (Known.CHECKED, 1)
    bench.do("validate:strong")
    assert (bench.known("order.total"), bench.see("fields.flagged")) == (Known.FLAGGED, 1)
    bench.do("repair:strong")
    assert bench.known("order.total") == Known.STUCK, "what is lost cannot be made up"
    assert "repair:strong" not in bench.legal()
    bench.do("clarify")
    assert (bench.known("order.total"), bench.core.wrong[0, 2]) == (Known.REPAIRED, False)
    assert bench.do("call:cheap", "call:cheap", "finish").outcome == "success"


def test_a_broken_format_shows_and_can_be_repaired() -> None:
    bench = dirty("malformed-format")
    bench.do("fetch", "call:cheap", "fetch")
    assert bench.known("order.total") == Known.FLAGGED
    bench.do("repair:strong")
    assert (bench.known("order.total"), bench.core.wrong[0, 2]) == (Known.REPAIRED, False)
    assert bench.do("call:cheap", "call:cheap", "finish").outcome == "success"


def test_reading_again_does_not_undo_a_repair() -> None:
    bench = dirty("malformed-format")
    bench.do("fetch", "call:cheap", "fetch", "repair:strong", "fetch")
    assert (bench.known("order.total"), bench.core.wrong[0, 2]) == (Known.REPAIRED, False)


def test_a_strict_service_refuses_a_broken_format() -> None:
    bench = Bench({"fault": "malformed-format", "when": "always & on('order.total')"}, services__bank__strict=1.0)
    bench.do(*PAID)
    assert (bench.see("last.unprocessable"), bench.applied("pay")) == (1, 0)


def test_a_fooled_reasoner_believes_its_repair() -> None:
    """`cheap` mends nothing and notices nothing."""
    bench = dirty("malformed-format")
    bench.do("fetch", "call:cheap", "fetch", "repair:cheap")
    assert (bench.known("order.total"), bench.core.wrong[0, 2]) == (Known.REPAIRED, True)


def test_a_slip_is_told_by_reading_back() -> None:
    bench = Bench(reasoners__cheap={**TINY_WORKFLOW["reasoners"]["cheap"], "slip": 1.0})
    bench.do("fetch", "call:strong", "fetch", "call:cheap")
    assert bench.core.bad[0, 1] == 2
    bench.do("verify")
    assert (bench.current, bench.see("step.excess")) == ("pay", 1)
    bench.do("compensate", "call:strong", "call:strong")
    assert bench.do("finish").outcome == "success"


@pytest.mark.parametrize("extra", [("fetch",), ("verify",), ("fetch", "fetch", "verify"), ("refresh",)])
def test_reading_more_changes_no_outcome(extra: tuple[str, ...]) -> None:
    """The same episodes with reads thrown in after every action of the happy path end alike."""
    changes = [
        "reasoners.cheap.slip=0", "session.confusion=0", "history.begun=0.3", "limits.max_steps=200",
        "limits.deadline_s=100000", *(f"services.{name}.strict=0" for name in ("crm", "shop", "payments", "mail")),
        "profiles.production=[{fault: typo, when: 'rate(0.1)'}, {fault: outlier, when: 'rate(0.1)'}, "
        "{fault: missing-field, when: 'rate(0.05)'}]",
    ]  # fmt: skip
    scenario = load_scenario("refund", changes)

    def outcomes(more: tuple[str, ...]) -> list[int]:
        core = WorkflowCore(scenario, 128)
        core.seed(core.all_lanes, range(128))
        core.begin(core.all_lanes)
        rule = make_baseline("happy-path", core)
        found, ended = np.zeros(128, np.int64), np.zeros(128, np.bool_)
        while not ended.all():
            actions = rule.act_batch(core.observe(), core.mask())
            for row in (actions, *(np.full(128, ACTIONS.index(name)) for name in more)):
                core.advance(row, np.flatnonzero(ended))
                fresh = (core.terminated | core.truncated) & ~ended
                found[fresh] = core.outcome[fresh]
                ended |= fresh
        return found.tolist()

    plain = outcomes(())
    assert len(set(plain)) > 2, "nothing to compare"
    if "verify" in extra:  # reading back may find what the happy path would do twice, and never makes it worse
        better = [a == b or b == OUTCOMES.index("success") for a, b in zip(plain, outcomes(extra), strict=True)]
        assert all(better) or plain.count(0) <= outcomes(extra).count(0)
    else:
        assert outcomes(extra) == plain


# ---------------------------------------------------------------- branches and the background

FORK = {
    "left": {"service": "bank", "needs": ["order.total"], "after": ["locate"], "writes": True, "idempotency": "key"},
    "right": {
        "service": "shop",
        "needs": ["customer.email"],
        "after": ["locate"],
        "writes": True,
        "idempotency": "key",
    },
}


def forked(**changes: Any) -> Bench:
    return Bench(steps={"locate": TINY_WORKFLOW["steps"]["locate"], **FORK}, **changes)


def test_independent_steps_run_side_by_side() -> None:
    bench = forked()
    bench.do("fetch", "call:cheap", "fetch")
    began = bench.clock
    bench.do("dispatch")
    assert bench.clock == began + 8.0, "only the strong reasoner's time passes"
    assert (bench.current, bench.see("in_flight"), bench.belief("left")) == ("right", 1, Belief.IN_FLIGHT)
    bench.do("call:cheap")
    assert bench.clock == began + 8.0 + 2.5
    bench.do("wait")
    assert bench.clock == began + 8.0 + 4.0, "the other call had begun 2.5 s before"
    assert bench.belief("left") == Belief.DONE
    assert bench.do("finish").outcome == "success"


def test_switching_between_branches() -> None:
    bench = forked()
    bench.do("fetch", "call:cheap")
    assert (bench.current, bench.see("ready")) == ("left", 2)
    bench.do("switch")
    assert bench.current == "right"
    bench.do("call:cheap")
    assert (bench.current, "switch" in bench.legal()) == ("left", False)


def test_a_lost_answer_from_the_background_leaves_a_doubt() -> None:
    bench = Bench(LOST, steps={"locate": TINY_WORKFLOW["steps"]["locate"], **FORK})
    bench.do("fetch", "call:cheap", "fetch", "dispatch", "call:cheap", "wait")
    assert bench.belief("left") == Belief.UNKNOWN
    bench.do("verify")
    assert bench.do("finish").outcome == "success"


DECIDED = {
    "locate": TINY_WORKFLOW["steps"]["locate"],
    "pay": {**TINY_WORKFLOW["steps"]["pay"], "when": "fair"},
    "deny": {"service": "crm", "after": ["locate"], "writes": True, "idempotency": "natural", "unless": "fair"},
    "tell": {**TINY_WORKFLOW["steps"]["tell"], "after": ["pay", "deny"]},
}


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_decision_opens_one_branch_and_rules_out_the_other(share: float) -> None:
    bench = Bench(steps=DECIDED, decisions={"fair": {"by": "locate", "share": share}})
    bench.do("fetch", "call:cheap")
    yes, no = ("pay", "deny") if share else ("deny", "pay")
    assert (bench.current, bench.belief(no)) == (yes, Belief.SKIPPED)
    bench.do(*(("fetch",) if share else ()), "call:cheap", "call:cheap")
    assert bench.do("finish").outcome == "success"
    assert bench.applied(no) == 0


def test_wrong_data_opens_the_wrong_branch() -> None:
    fault = {"fault": "typo", "when": "always & on('customer.name')"}
    bench = Bench(fault, steps=DECIDED, decisions={"fair": {"by": "locate", "share": 1.0}})
    bench.do("fetch", "call:cheap")
    assert bench.current == "deny"
    end = bench.do("call:cheap", "call:cheap", "finish")
    # what was denied should have been paid, and the message says the wrong thing
    assert (end.outcome, end.parts["safety"]) == ("silent_garbage", 1.0)


def test_an_episode_can_begin_half_done() -> None:
    core = WorkflowCore(tiny_workflow(history__begun=1.0), 64, profile="clean")
    core.seed(core.all_lanes, range(64))
    core.begin(core.all_lanes)
    assert core.begun.all()
    assert set(core.applied[:, 1:3].sum(axis=1).tolist()) == {1, 2}
    assert (core.belief[:, 1:3] == Belief.UNKNOWN).all()
    bench = Bench(history__begun=1.0)
    bench.do("fetch", "call:cheap", "verify")
    assert bench.belief("pay") == Belief.DONE
    bench.do("verify") if bench.applied("tell") else bench.do("call:cheap")
    assert bench.do("finish").outcome == "success"


# ---------------------------------------------------------------- faces and figures


def test_actions_and_their_codes_agree() -> None:
    assert [kind.name.lower().replace("_cheap", ":cheap").replace("_strong", ":strong") for kind in Kind][:-1] == list(
        ACTIONS
    )
    assert ACTIONS[-3:] == ("escalate", "finish", "abort")


def test_nothing_the_agent_sees_names_a_fault() -> None:
    names = [column.name for column in make_core("refund").observation_columns] + list(ACTIONS) + list(OUTCOMES)
    for fault in registered_faults():
        assert not [name for name in names if fault in name or fault.replace("-", "_") in name]


def test_a_router_scenario_is_refused() -> None:
    with pytest.raises(ScenarioError, match="allowed: workflow"):
        WorkflowCore("textbook", 1)


def test_refund_is_a_cliff() -> None:
    """The figures that the manual promises, on fewer episodes."""
    found = {}
    for profile in ("clean", "production"):
        core = make_core("refund", 256, profile=profile, split="eval")
        for name in ("happy-path", "playbook"):
            records = play(make_baseline(name, core), core, 1500)
            found[profile, name] = records.component("accuracy").mean(), records.component("latency_s")
    assert found["clean", "happy-path"][0] > 0.95
    assert np.median(found["clean", "happy-path"][1]) < 2.5
    assert found["production", "happy-path"][0] < 0.6
    p99 = [np.quantile(found[profile, "happy-path"][1], 0.99) for profile in ("clean", "production")]
    assert p99[1] > 8 * p99[0]
    assert found["production", "playbook"][0] > 0.92


# ---------------------------------------------------------------- preferences


def test_a_named_preference_is_also_shown_as_a_logarithm() -> None:
    wanted = {"per_usd": [0.01, 100.0], "budget_usd": [0.5, 50.0]}
    core = make_core(load_scenario(tiny_workflow(preferences=wanted)), 200)
    core.seed(core.all_lanes, range(200))
    core.begin(core.all_lanes)
    names = [column.name for column in core.observation_columns]
    plain = [column.name for column in WorkflowCore(tiny_workflow(), 1).observation_columns]
    assert names == [*plain, "log_per_usd", "log_budget_left"]
    assert core.observation_columns[-1].unit == "log10 USD"
    core.advance(np.full(200, int(Kind.FETCH)))
    core.advance(np.full(200, int(Kind.CALL_CHEAP)))
    seen = core.observe()
    for name in ("per_usd", "budget_left"):
        np.testing.assert_allclose(seen[:, names.index(f"log_{name}")], np.log10(seen[:, names.index(name)]), atol=1e-6)
    assert np.ptp(seen[:, names.index("log_per_usd")]) > 3.0, "drawn over powers of ten"
    for lane in (0, 123):
        alone = WorkflowCore(tiny_workflow(preferences=wanted), 1)
        alone.seed(alone.all_lanes, [lane])
        alone.begin(alone.all_lanes)
        for kind in (Kind.FETCH, Kind.CALL_CHEAP):
            alone.advance(np.array([int(kind)]))
        assert alone.observe()[0].tobytes() == seen[lane].tobytes()
        assert core.observe(np.array([lane]))[0].tobytes() == seen[lane].tobytes()
    fixed = WorkflowCore(tiny_workflow(preferences={"per_usd": 2.0, "budget_usd": 1.0}), 1)
    assert [column.name for column in fixed.observation_columns] == names
