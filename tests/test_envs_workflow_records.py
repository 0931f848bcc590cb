"""Records that a workflow reads: versions that lag behind, fields that are mixed up; worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from brownout.envs.cores import make_core
from brownout.envs.workflow_core import WorkflowCore
from brownout.envs.workflow_state import Known
from brownout.errors import ScenarioError
from brownout.faults import Status
from brownout.scenarios import load_scenario
from workflow_support import HAPPY, Bench, tiny_workflow

READY = ("fetch", "call:cheap", "fetch")
TOTAL = 2  # column of order.total
ORDER = 1  # row of the record


def lagging(reads: int = 1, **changes: Any) -> Bench:
    return Bench({"fault": "stale-value", "reads": reads, "when": "always & on('order.total')"}, **changes)


def held(bench: Bench) -> tuple[bool, bool, int]:
    """Of the order: whether the agent's copy is wrong, whether it is an old version, reads that brought one."""
    core = bench.core
    return bool(core.wrong[0, TOTAL]), bool(core.behind[0, ORDER]), int(core.served[0, ORDER])


# ---------------------------------------------------------------- a version that lags behind


def test_the_first_read_brings_the_earlier_version_and_the_next_the_present_one() -> None:
    bench = lagging()
    assert (bench.core.lag[0, TOTAL], bench.core.dirt[0, TOTAL]) == (1, 1)
    bench.do(*READY)
    assert held(bench) == (True, True, 1)
    assert bench.known("order.total") == Known.FETCHED, "nothing shows it"
    bench.do("fetch")
    assert held(bench) == (False, False, 1)
    assert (bench.core.lag[0, TOTAL], bench.core.dirt[0, TOTAL]) == (0, 0)
    assert bench.do("call:cheap", "call:cheap", "finish").outcome == "success"


def test_who_reads_once_writes_the_earlier_value() -> None:
    end = lagging().do(*HAPPY)
    assert (end.outcome, end.parts["safety"]) == ("silent_garbage", 1.0)


def test_a_strict_service_refuses_the_earlier_version_and_a_resync_says_so() -> None:
    bench = lagging(services__bank__strict=1.0)
    bench.do(*READY, "call:cheap")
    assert (Status(int(bench.core.status[0, 1])), bench.applied("pay")) == (Status.CONFLICT, 0)
    bench.do("resync")
    assert (bench.known("order.total"), bench.core.snapshot[0, ORDER]) == (Known.UNSEEN, -1)
    assert not bench.core.behind.any()
    bench.do("fetch", "call:cheap", "call:cheap")
    assert bench.do("finish").outcome == "success"


def test_reading_back_shows_that_the_version_is_not_the_present_one() -> None:
    bench = lagging()
    bench.do(*READY, "call:cheap", "verify")
    assert bench.known("order.total") == Known.UNSEEN
    assert bench.core.bad[0, 1] == 1, "what was written is wrong"


def test_a_write_with_the_right_value_is_right_whatever_version_was_read() -> None:
    """Asked, the requester says the right value; a service that is not strict takes it."""
    bench = lagging()
    bench.do(*READY, "validate:strong", "repair:strong")
    assert bench.known("order.total") == Known.STUCK
    bench.do("clarify")
    assert held(bench) == (False, True, 1)
    bench.do("call:cheap", "call:cheap")
    assert bench.do("finish").outcome == "success"


def test_some_versions_lag_for_longer() -> None:
    counts = []
    for seed in range(24):
        bench = lagging(3, seed=seed)
        bench.do(*READY)
        reads = 1
        while bench.core.wrong[0, TOTAL]:
            bench.do("fetch")
            reads += 1
        counts.append(reads - 1)
    assert set(counts) == {1, 2, 3}


def test_reading_again_never_brings_back_what_was_repaired() -> None:
    bench = lagging(100)
    bench.core.lag[0, TOTAL] = 2
    bench.do(*READY, "validate:strong", "repair:strong", "clarify", "fetch")
    assert (held(bench), bench.known("order.total")) == ((False, True, 2), Known.REPAIRED)
    bench.do("fetch")
    assert (held(bench), bench.known("order.total")) == ((False, False, 2), Known.REPAIRED)


def test_other_fields_of_the_record_are_left_alone() -> None:
    """The name lags, the e-mail address is misspelt for good: reading again sets right the one and not the other."""
    bench = Bench(
        {"fault": "stale-value", "reads": 1, "when": "always & on('customer.name')"},
        {"fault": "typo", "when": "always & on('customer.email')"},
    )
    bench.do("fetch")
    assert bench.core.wrong[0, :2].tolist() == [True, True]
    bench.do("fetch")
    assert bench.core.wrong[0, :2].tolist() == [False, True]


def test_a_crash_forgets_the_copy_and_not_how_often_it_was_served() -> None:
    crash = {"fault": "interruption", "applied": 0.0, "when": "nth_call(1) & on('bank')"}
    bench = Bench({"fault": "stale-value", "reads": 1, "when": "always & on('order.total')"}, crash)
    bench.do(*READY, "call:cheap")
    assert held(bench) == (False, False, 1)
    bench.do("fetch", "call:cheap", "verify", "fetch")
    assert held(bench) == (False, False, 1)


def test_without_reads_it_stays_as_it_was() -> None:
    bench = lagging(0)
    bench.do(*READY, "fetch", "fetch")
    assert (held(bench), bench.core.dirt[0, TOTAL]) == ((True, False, 0), 1)


def test_a_time_stamp_of_the_record_is_old_as_well() -> None:
    bench = Bench(
        {"fault": "stale-value", "reads": 1, "when": "always & on('order.total')"},
        records__order__fields={"total": "amount", "updated": "stamp"},
    )
    assert bench.core.dirt[0, 2:].tolist() == [1, 1]
    assert bench.core.lag[0, 2:].tolist() == [1, 1]
    bench.do("fetch", "call:cheap", "fetch")
    assert bench.core.wrong[0, 2:].tolist() == [True, True]
    bench.do("fetch")
    assert not bench.core.wrong.any()
    assert not bench.core.dirt.any()


@pytest.mark.parametrize("lanes", [1, 7])
def test_a_lane_reads_the_same_alone_and_among_others(lanes: int) -> None:
    faults = ({"fault": "stale-value", "reads": 3, "when": "rate(0.4)"}, {"fault": "typo", "when": "rate(0.2)"})
    scenario = tiny_workflow(*faults)
    many = WorkflowCore(scenario, 64)
    many.seed(many.all_lanes, range(64))
    many.begin(many.all_lanes)
    some = WorkflowCore(scenario, lanes)
    some.seed(some.all_lanes, range(20, 20 + lanes))
    some.begin(some.all_lanes)
    for action in (0, 5, 0, 0, 2, 10, 0, 0, 0, 5, 8, 0):
        many.advance(np.full(64, action))
        some.advance(np.full(lanes, action))
        for name in ("wrong", "known", "lag", "served", "behind", "dirt"):
            assert np.array_equal(getattr(many, name)[20 : 20 + lanes], getattr(some, name)), name
        assert np.array_equal(many.observe()[20 : 20 + lanes], some.observe())


# ---------------------------------------------------------------- fields that are mixed up


def swapped(pair: tuple[str, str] = ("name", "email"), **changes: Any) -> Bench:
    fields = {"name": "text", "city": "text", "email": "email"}
    steps = {"service": "crm", "needs": ["customer.name"]}
    return Bench(
        {"fault": "swapped-fields", "when": "always"},
        records__customer={"service": "crm", "fields": fields, "pairs": [list(pair)]},
        steps__locate=steps,
        **changes,
    )


def test_two_fields_of_one_record_are_exchanged() -> None:
    bench = swapped(("city", "name"))
    assert bench.core.field_names == ("customer.name", "customer.city", "customer.email", "order.total")
    assert bench.core.dirt[0].tolist() == [1, 1, 0, 0]
    assert (bench.core.visible.any(), bench.core.repairable[0].tolist()) == (False, [True, True, False, False])
    end = bench.do("fetch", "call:cheap", "fetch", "call:cheap", "call:cheap", "finish")
    assert end.outcome == "silent_garbage", "the wrong customer was found"


def test_they_can_be_exchanged_back() -> None:
    bench = swapped(("city", "name"))
    bench.do("fetch", "validate:strong")
    assert bench.known("customer.name") == Known.FLAGGED
    bench.do("repair:strong")
    assert (bench.known("customer.name"), bench.core.wrong[0, 0]) == (Known.REPAIRED, False)
    bench.do("call:cheap", "fetch", "call:cheap", "call:cheap")
    assert bench.do("finish").outcome == "success"


def test_a_check_of_the_format_sees_fields_of_other_types() -> None:
    bench = swapped(("name", "email"))
    bench.do("fetch")
    assert bench.known("customer.name") == bench.known("customer.email") == Known.FLAGGED


def test_pairs_are_fields_of_the_record_and_each_has_one_partner() -> None:
    def pairs(*some: list[str]) -> dict[str, Any]:
        return tiny_workflow(records__customer__pairs=list(some))

    load_scenario(pairs(["name", "email"]))
    for wrong, said in ((["name", "fax"], "got 'fax'"), (["name", "name"], "there twice")):
        with pytest.raises(ScenarioError, match=said):
            load_scenario(pairs(wrong))


def test_without_pairs_nothing_can_be_mixed_up() -> None:
    with pytest.raises(ScenarioError, match="swapped-fields"):
        WorkflowCore(tiny_workflow({"fault": "swapped-fields", "when": "rate(0.1)"}), 1)


@pytest.mark.parametrize("name", ["address-change", "customer-onboarding"])
def test_the_library_has_both(name: str) -> None:
    core = make_core(name, 2048, profile="hostile")
    assert isinstance(core, WorkflowCore)
    core.seed(core.all_lanes, range(2048))
    core.begin(core.all_lanes)
    assert core.lag.any(axis=1).mean() > 0.05
    for record, kind in core.spec.records.items():
        for one, other in kind.pairs:
            a, b = (core.field_names.index(f"{record}.{field}") for field in (one, other))
            plan = core._messes.at(20)
            assert plan is not None
            code = 1 + plan.effect_names.index("swapped-fields")
            assert np.array_equal(core.dirt[:, a] == code, core.dirt[:, b] == code)
            assert 0.008 < (core.dirt[:, a] == code).mean() < 0.04
