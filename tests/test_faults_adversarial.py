"""Every adversarial effect: what it does, worked out by hand, and the way out of it."""

from __future__ import annotations

from brownout.envs.workflow_state import Belief, Known
from workflow_support import HAPPY, Bench

PAID = ("fetch", "call:cheap", "fetch", "call:cheap")


# ---------------------------------------------------------------- injected-instruction


def test_a_reasoner_that_obeys_does_what_nobody_asked_for() -> None:
    fault = {"fault": "injected-instruction", "when": "nth_call(1) & on('shop')"}
    bench = Bench(fault)
    bench.do(*PAID)
    assert (bench.applied("pay"), bench.core.stray[0, 1]) == (1, 1)
    bench.do("verify")
    assert (bench.belief("pay"), bench.see("excess")) == (Belief.DONE, 1)
    bench.do("compensate")
    assert (bench.applied("pay"), bench.core.stray[0, 1]) == (1, 0)
    bench.do("call:cheap")
    assert bench.do("finish").outcome == "success"
    end = Bench(fault).do(*PAID, "call:cheap", "finish")
    assert (end.outcome, end.parts["safety"]) == ("silent_garbage", 1.0)


def test_a_reasoner_that_does_not_obey_is_safe() -> None:
    bench = Bench({"fault": "injected-instruction", "when": "nth_call(1) & on('shop')"})
    bench.do("fetch", "call:cheap", "fetch", "call:strong")
    assert bench.core.stray[0, 1] == 0


def test_a_check_finds_the_instruction() -> None:
    bench = Bench({"fault": "injected-instruction", "when": "nth_call(1) & on('shop')"})
    bench.do("fetch", "call:cheap", "fetch", "validate:strong", "call:cheap", "call:cheap")
    assert bench.do("finish").outcome == "success"


def test_a_careless_check_does_not() -> None:
    bench = Bench({"fault": "injected-instruction", "when": "nth_call(1) & on('shop')"})
    bench.do("fetch", "call:cheap", "fetch", "validate:cheap", "call:cheap", "call:cheap")
    assert bench.do("finish").outcome == "silent_garbage"


# ---------------------------------------------------------------- poisoned-output


def test_a_poisoned_reading_is_wrong_without_a_sign() -> None:
    fault = {"fault": "poisoned-output", "when": "nth_call(1) & on('shop')"}
    assert Bench(fault).do(*HAPPY).outcome == "silent_garbage"
    bench = Bench(fault)
    bench.do("fetch", "call:cheap", "fetch")
    assert (bench.known("order.total"), bench.core.wrong[0, 2]) == (Known.FETCHED, True)
    bench.do("validate:strong")
    assert bench.known("order.total") == Known.FLAGGED
    bench.do("fetch")
    assert (bench.known("order.total"), bench.core.wrong[0, 2]) == (Known.FETCHED, False)
    bench.do("call:cheap", "call:cheap")
    assert bench.do("finish").outcome == "success"


def test_a_poisoned_check_passes_everything() -> None:
    bench = Bench({"fault": "poisoned-output", "when": "nth_call(1) & (on('shop') | on('strong'))"})
    bench.do("fetch", "call:cheap", "fetch", "validate:strong")
    assert (bench.known("order.total"), bench.core.wrong[0, 2]) == (Known.ASSURED, True)
    assert bench.strikes == {"poisoned-output#0": 2}
    bench.do("call:cheap", "call:cheap")
    assert bench.do("finish").outcome == "silent_garbage"


# ---------------------------------------------------------------- lying-success


def test_a_lie_about_success_is_billed_and_believed() -> None:
    fault = {"fault": "lying-success", "when": "nth_call(1) & on('bank')"}
    bench = Bench(fault)
    bench.do("fetch", "call:cheap", "fetch")
    spent = bench.spend
    bench.do("call:cheap")
    assert bench.spend == spent + 0.125 + 0.25
    assert (bench.belief("pay"), bench.applied("pay")) == (Belief.DONE, 0)
    assert Bench(fault).do(*HAPPY).outcome == "partial"
    bench.do("verify")
    assert (bench.current, bench.belief("pay")) == ("pay", Belief.TODO)
    bench.do("call:cheap", "verify", "call:cheap")
    assert bench.do("finish").outcome == "success"


def test_a_read_that_brings_nothing_is_noticed() -> None:
    bench = Bench({"fault": "lying-success", "when": "nth_call(2) & on('crm')"})
    bench.do("fetch", "call:cheap")
    assert (bench.current, bench.see("last.lost"), bench.belief("locate")) == ("locate", 1, Belief.TODO)
    bench.do("call:cheap", "fetch", "call:cheap", "call:cheap")
    assert bench.do("finish").outcome == "success"


def test_a_compensation_can_be_a_lie_as_well() -> None:
    bench = Bench(
        {"fault": "duplicate-submission", "when": "nth_call(1) & on('shop')"},
        {"fault": "lying-success", "when": "nth_call(3) & on('bank') & on('compensate')"},
    )
    bench.do(*PAID, "verify", "compensate")
    assert (bench.applied("pay"), bench.see("excess")) == (2, 0)
    bench.do("verify", "compensate", "verify")
    assert bench.applied("pay") == 1
    bench.do("call:cheap")
    assert bench.do("finish").outcome == "success"


def test_nothing_to_see_names_a_fault() -> None:
    """No column, action or line of the timeline has the name of an effect in it."""
    bench = Bench({"fault": "lying-success", "when": "on('bank')"})
    bench.do(*HAPPY)
    text = " ".join([*(c.name for c in bench.core.observation_columns), *bench.names, *bench.core.timeline()])
    assert not [word for word in ("lying", "success#", "poison", "inject", "fault") if word in text]
