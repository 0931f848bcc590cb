"""What counts when the agent says that it is done while something is still on its way, worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from brownout.envs.cores import make_core
from brownout.envs.workflow_core import WorkflowCore
from brownout.envs.workflow_state import ACTIONS, OUTCOMES, Belief
from brownout.envs.workflow_truth import HiddenTruth
from brownout.scenarios import builtin_scenarios, load_scenario
from brownout.trainers.baselines import make_baseline
from workflow_support import TINY_WORKFLOW, Bench

WORKFLOWS = [name for name in builtin_scenarios() if load_scenario(name).env == "workflow"]
READY = ("fetch", "call:cheap", "fetch")
SLOW = {"steps__pay__approval_s": 64.0, "steps__tell__after": ["locate"]}
LOST = {"fault": "timeout", "after_s": 20.0, "applied": 1.0, "when": "nth_call(1) & on('bank')"}


def alone(*faults: dict[str, Any], **changes: Any) -> Bench:
    """A workflow whose only write is `pay`."""
    steps = {name: TINY_WORKFLOW["steps"][name] for name in ("locate", "pay")}
    return Bench(*faults, steps={**steps, "pay": {**steps["pay"], **changes.pop("pay", {})}}, **changes)


# ---------------------------------------------------------------- in the background


def test_a_call_in_the_background_is_not_done_before_it_is_over() -> None:
    bench = alone()
    bench.do(*READY)
    began = bench.clock
    bench.do("dispatch")  # 8 s of the strong reasoner pass, 4 s of the bank are to come
    assert (bench.clock, bench.applied("pay"), bench.core.stands_at[0, 1]) == (began + 8, 1, began + 12)
    end = bench.do("finish")
    assert (end.outcome, end.reward, end.parts["accuracy"], end.parts["safety"]) == ("partial", 0.0, 0.0, 0.0)


@pytest.mark.parametrize(("refreshes", "outcome"), [(7, "partial"), (8, "success")])
def test_once_it_is_over_it_stands_whether_or_not_its_answer_was_heard(refreshes: int, outcome: str) -> None:
    """A refresh takes half a second, the bank four."""
    bench = alone()
    bench.do(*READY, "dispatch", *["refresh"] * refreshes)
    assert bench.belief("pay") == Belief.IN_FLIGHT
    assert bench.do("finish").outcome == outcome


def test_waiting_for_the_answer_is_enough() -> None:
    bench = alone()
    bench.do(*READY, "dispatch", "wait")
    assert bench.do("finish").outcome == "success"


def test_harm_on_its_way_counts_as_it_always_did() -> None:
    """Finishing early must not be a way out of what cannot be stopped."""
    bench = alone({"fault": "stale-value", "when": "always & on('order.total')"})
    bench.do(*READY, "dispatch")
    end = bench.do("finish")
    assert (end.outcome, end.parts["safety"]) == ("silent_garbage", 1.0)


def test_handing_over_and_giving_up_do_not_wait() -> None:
    for action, outcome in (("escalate", "escalated"), ("abort", "aborted")):
        bench = alone()
        bench.do(*READY, "dispatch")
        assert bench.do(action).outcome == outcome


# ---------------------------------------------------------------- waiting for an approval


def test_a_pending_approval_is_not_done() -> None:
    bench = Bench(**SLOW)
    bench.do(*READY, "call:cheap", "call:cheap")
    assert [bench.belief(step) for step in ("pay", "tell")] == [Belief.IN_FLIGHT, Belief.DONE]
    assert bench.do("finish").outcome == "partial"
    bench = Bench(**SLOW)
    bench.do(*READY, "call:cheap", "call:cheap", "wait")
    assert bench.do("finish").outcome == "success"


def test_reading_back_a_lost_write_shows_that_its_approval_is_pending() -> None:
    bench = Bench(LOST, **SLOW)
    bench.do(*READY)
    began = bench.clock
    bench.do("call:cheap")
    assert (bench.clock, bench.belief("pay")) == (began + 20.5, Belief.UNKNOWN)
    assert bench.core.stands_at[0, 1] == began + 20.5 + 64
    bench.do("verify")  # 4 s
    assert (bench.belief("pay"), bench.see("in_flight"), bench.see("unverified")) == (Belief.IN_FLIGHT, 1, 0)
    bench.do("call:cheap", "wait")
    assert (bench.clock, bench.belief("pay")) == (began + 20.5 + 64, Belief.DONE)
    assert bench.do("finish").outcome == "success"


def test_a_repetition_waits_for_the_same_approval() -> None:
    fault = {"fault": "pending-approval", "mean_s": 1000.0, "when": "nth_call(1) & on('bank')"}
    bench = Bench(fault, LOST)
    bench.do(*READY, "call:cheap")
    due = bench.core.stands_at[0, 1]
    bench.do("call:cheap")
    assert (bench.applied("pay"), bench.belief("pay"), bench.core.flight_until[0, 1]) == (1, Belief.IN_FLIGHT, due)
    assert bench.do("finish").outcome == "partial"


def test_a_crash_does_not_approve_what_is_pending() -> None:
    crash = {"fault": "interruption", "restart_s": 16.0, "applied": 0.0, "when": "nth_call(3) & on('crm')"}
    bench = Bench(crash, **SLOW)
    bench.do(*READY, "call:cheap")
    due = bench.core.stands_at[0, 1]
    bench.do("call:cheap")  # the crash: what was asked for is forgotten
    assert [bench.belief(step) for step in ("pay", "tell")] == [Belief.UNKNOWN, Belief.UNKNOWN]
    bench.do("fetch", "call:cheap", "verify")
    assert (bench.belief("pay"), bench.current) == (Belief.IN_FLIGHT, "tell")
    bench.do("fetch", "call:cheap")
    early = bench.core.get_state()
    assert bench.do("finish").outcome == "partial"
    bench.core.set_state(early)
    bench.do("wait")
    assert bench.clock == due
    assert bench.do("finish").outcome == "success"


def test_what_is_undone_while_it_is_pending_waits_no_more() -> None:
    bench = alone(LOST, pay={"approval_s": 64.0})
    bench.do(*READY, "call:cheap", "compensate")
    assert (bench.applied("pay"), bench.core.stands_at[0, 1]) == (0, 0.0)
    began = bench.clock
    bench.do("call:cheap")
    assert bench.core.stands_at[0, 1] == began + 4.5 + 64, "its own approval, nothing on top"


# ---------------------------------------------------------------- in the library


@pytest.mark.parametrize("name", WORKFLOWS)
def test_finishing_early_never_beats_waiting(name: str) -> None:
    """From the same state on: to finish at once is a success only where nothing that is needed is on its way."""
    core = make_core(name, 256, profile="hostile")
    assert isinstance(core, WorkflowCore)
    core.seed(core.all_lanes, range(256))
    core.begin(core.all_lanes)
    rule, ended = make_baseline("playbook", core), np.zeros(256, np.bool_)
    finish = np.full(256, ACTIONS.index("finish"))
    early = 0
    for _ in range(60):
        actions = rule.act_batch(core.observe(), core.mask())
        works = np.isin(actions, [ACTIONS.index("call:cheap")])
        core.advance(np.where(works, ACTIONS.index("dispatch"), actions), np.flatnonzero(ended))
        ended |= core.terminated | core.truncated
        state = core.get_state()
        late = (core.stands_at > core.clock[:, None]) & core.needed & ~ended[:, None]
        assert np.array_equal(HiddenTruth(core).won() & late.any(axis=1), np.zeros(256, np.bool_))
        core.advance(finish, np.flatnonzero(ended))
        assert OUTCOMES.index("success") not in core.outcome[late.any(axis=1)]
        early += int(late.any(axis=1).sum())
        core.set_state(state)
        core.terminated[:], core.truncated[:] = False, False
    assert early > 50
