"""Every effect of the workflow: what it does, worked out by hand, and the way out of it."""

from __future__ import annotations

import pytest

from brownout.envs.workflow_state import Belief, Known
from brownout.errors import FaultError
from brownout.faults import CallEffect, Status
from brownout.faults.plan import make_effect
from brownout.faults.registry import lookup
from workflow_support import Bench

PAID = ("fetch", "call:cheap", "fetch", "call:cheap")


def effect(name: str, **parameters: float) -> CallEffect:
    made = make_effect(lookup(name), parameters)
    assert isinstance(made, CallEffect)
    return made


def status(bench: Bench, step: str) -> Status:
    return Status(int(bench.core.status[0, bench.at(step)]))


# ---------------------------------------------------------------- interruption


@pytest.mark.parametrize("applied", [0.0, 1.0])
def test_an_interruption_forgets_what_the_agent_holds_and_nothing_else(applied: float) -> None:
    fault = {"fault": "interruption", "restart_s": 16.0, "applied": applied, "when": "nth_call(1) & on('bank')"}
    bench = Bench(fault)
    bench.do("fetch", "call:cheap", "fetch")
    before = bench.clock
    bench.do("call:cheap")
    assert bench.clock == before + 0.5 + 4.0 + 16.0
    assert bench.applied("pay") == int(applied)
    assert bench.known("order.total") == Known.UNSEEN
    beliefs = [bench.belief(step) for step in ("locate", "pay", "tell")]
    assert beliefs == [Belief.TODO, Belief.UNKNOWN, Belief.UNKNOWN]
    bench.do("fetch", "call:cheap", "verify")
    if not applied:
        bench.do("fetch", "call:cheap")
    bench.do("verify", "call:cheap")
    assert bench.do("finish").outcome == "success"


def test_the_key_is_lost_so_that_a_blind_repetition_doubles() -> None:
    fault = {"fault": "interruption", "applied": 1.0, "when": "nth_call(1) & on('bank')"}
    bench = Bench(fault)
    bench.do(*PAID, *PAID, "call:cheap")
    assert bench.applied("pay") == 2
    assert bench.do("finish").outcome == "duplicate_effect"


def test_with_its_key_a_repetition_is_harmless() -> None:
    """The counterpart: a lost answer alone loses no key."""
    bench = Bench({"fault": "timeout", "after_s": 20.0, "applied": 1.0, "when": "nth_call(1) & on('bank')"})
    bench.do(*PAID)
    assert (bench.belief("pay"), bench.applied("pay")) == (Belief.UNKNOWN, 1)
    bench.do("call:cheap", "call:cheap")
    assert bench.applied("pay") == 1
    assert bench.do("finish").outcome == "success"


# ---------------------------------------------------------------- changed-request


@pytest.mark.parametrize("noticed", [0.0, 1.0])
def test_a_changed_request_makes_the_effect_wrong(noticed: float) -> None:
    fault = {"fault": "changed-request", "noticed": noticed, "when": "nth_call(1) & on('bank')"}
    bench = Bench(fault)
    bench.do(*PAID)
    assert (bench.applied("pay"), bench.core.bad[0, 1]) == (1, 1)
    assert bench.see("messages") == noticed
    assert Bench(fault).do(*PAID, "call:cheap", "finish").outcome == "silent_garbage"


def test_a_change_that_is_noticed_in_time_does_no_harm() -> None:
    bench = Bench({"fault": "changed-request", "noticed": 1.0, "when": "nth_call(1) & on('strong')"})
    bench.do("fetch", "call:cheap", "fetch", "validate:strong")
    assert bench.see("messages") == 1
    bench.do("clarify")
    assert (bench.see("messages"), bench.see("questions_left")) == (0, 1)
    bench.do("call:cheap", "call:cheap")
    assert bench.do("finish").outcome == "success"


def test_a_change_that_came_too_late_is_undone_and_redone() -> None:
    bench = Bench(
        {"fault": "changed-request", "noticed": 1.0, "when": "nth_call(1) & on('bank')"},
        steps__tell__needs=["customer.email", "order.total"],
    )
    bench.do(*PAID, "fetch", "fetch", "verify")
    assert bench.see("step.excess") == 1, "with the new request in hand, what stands is seen to be wrong"
    bench.do("compensate", "call:cheap", "call:cheap")
    assert bench.do("finish").outcome == "success"


def test_what_was_read_back_before_the_change_is_known_is_in_doubt_again() -> None:
    bench = Bench({"fault": "changed-request", "noticed": 1.0, "when": "nth_call(1) & on('bank')"})
    bench.do(*PAID, "verify")
    assert (bench.see("unverified"), bench.see("excess")) == (0, 0), "it stands as the agent meant it"
    bench.do("clarify")
    assert bench.see("unverified") == 1
    bench.do("verify", "compensate", "call:cheap", "call:cheap")
    assert bench.do("finish").outcome == "success"


# ---------------------------------------------------------------- out-of-order-input


def test_input_that_is_late_is_not_found_until_it_is_there() -> None:
    bench = Bench({"fault": "out-of-order-input", "mean_s": 8.0, "when": "nth_call(1) & on('shop')"})
    bench.do("fetch", "call:cheap", "fetch")
    assert status(bench, "pay") == Status.NOT_FOUND
    there = bench.core.input_at[0, 1]
    assert there > bench.clock - 2.0
    while bench.clock < there:
        bench.do("wait")
    bench.do("fetch", "call:cheap", "call:cheap")
    assert bench.do("finish").outcome == "success"


# ---------------------------------------------------------------- schema-drift


def test_a_renamed_interface_refuses_until_it_is_read_again() -> None:
    bench = Bench({"fault": "schema-drift", "when": "on('bank')"})
    bench.do(*PAID, "call:strong")
    assert (status(bench, "pay"), bench.applied("pay")) == (Status.UNPROCESSABLE, 0)
    bench.do("resync", "call:cheap", "call:cheap")
    assert bench.strikes == {"schema-drift#0": 1}, "once per service and episode"
    assert bench.do("finish").outcome == "success"


# ---------------------------------------------------------------- duplicate-submission


def test_a_twin_doubles_what_is_written_after_it() -> None:
    fault = {"fault": "duplicate-submission", "when": "nth_call(1) & on('shop')"}
    bench = Bench(fault)
    bench.do("fetch", "call:cheap", "fetch")
    assert bench.applied("pay") == 1
    bench.do("call:cheap")
    assert bench.applied("pay") == 2, "its key is another one"
    bench.do("verify")
    assert (bench.belief("pay"), bench.see("excess")) == (Belief.DONE, 1)
    bench.do("compensate")
    assert bench.applied("pay") == 1
    bench.do("call:cheap")
    assert bench.do("finish").outcome == "success"
    assert Bench(fault).do(*PAID, "call:cheap", "finish").outcome == "duplicate_effect"


def test_reading_back_before_a_write_finds_the_twin() -> None:
    bench = Bench({"fault": "duplicate-submission", "when": "nth_call(1) & on('shop')"})
    bench.do("fetch", "call:cheap", "fetch", "verify")
    assert bench.current == "tell"
    bench.do("call:cheap")
    assert bench.do("finish").outcome == "success"


def test_a_twin_of_a_natural_step_is_harmless() -> None:
    bench = Bench({"fault": "duplicate-submission", "when": "nth_call(3) & on('crm')"})
    bench.do(*PAID, "call:cheap")
    assert bench.applied("tell") == 1
    assert bench.do("finish").outcome == "success"


# ---------------------------------------------------------------- pending-approval


def test_an_approval_is_waited_for() -> None:
    bench = Bench({"fault": "pending-approval", "mean_s": 30.0, "when": "nth_call(1) & on('bank')"})
    bench.do("fetch", "call:cheap", "fetch")
    before = bench.clock
    bench.do("call:cheap")
    assert bench.clock == before + 4.5
    assert (status(bench, "pay"), bench.belief("pay")) == (Status.PENDING, Belief.IN_FLIGHT)
    assert (bench.current, bench.see("last.pending"), bench.see("in_flight")) == ("", 1, 1)
    until = bench.core.flight_until[0, 1]
    bench.do("wait")
    assert bench.clock == until > before + 4.5
    assert bench.current == "tell"
    bench.do("call:cheap")
    assert bench.do("finish").outcome == "success"


def test_a_scenario_can_ask_for_approvals_itself() -> None:
    bench = Bench(steps__pay__approval_s=64.0)
    bench.do("fetch", "call:cheap", "fetch", "call:cheap")
    after = bench.clock
    bench.do("wait")
    assert bench.clock == after + 64.0
    assert bench.belief("pay") == Belief.DONE


# ---------------------------------------------------------------- all of them


@pytest.mark.parametrize(
    ("fault", "field", "value"),
    [
        ("interruption", "restart_s", -1), ("interruption", "applied", 2), ("changed-request", "noticed", -1),
        ("out-of-order-input", "mean_s", 0), ("pending-approval", "mean_s", -3),
    ],
)  # fmt: skip
def test_impossible_parameters_are_refused(fault: str, field: str, value: float) -> None:
    with pytest.raises(FaultError, match=field):
        effect(fault, **{field: value})


@pytest.mark.parametrize("fault", ["out-of-order-input", "pending-approval"])
def test_greater_intensity_takes_longer(fault: str) -> None:
    assert effect(fault, mean_s=8.0).strengthened(2.0) == effect(fault, mean_s=16.0)
    assert effect("interruption", restart_s=8.0).strengthened(2.0) == effect("interruption", restart_s=16.0)
