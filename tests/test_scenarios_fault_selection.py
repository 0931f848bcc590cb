"""Scenarios with faults left out: which go, and that the others stay as they were."""

from __future__ import annotations

import pytest

from brownout.envs.trace import trace_digest
from brownout.errors import FaultError, ScenarioError
from brownout.scenarios import load_scenario
from brownout.scenarios.fault_selection import fault_groups, select_faults
from brownout.scenarios.loading import fault_plan
from brownout.trainers.evaluation import evaluate
from router_support import tiny

FAULTS = (
    {"fault": "timeout", "when": "rate(0.5)"},
    {"fault": "timeout", "when": "nth_call(2)"},
    {"fault": "price-change", "factor": 3, "when": "rate(0.5)"},
)


def ids(only: tuple[str, ...] = (), without: tuple[str, ...] = ()) -> list[str]:
    chosen = select_faults(load_scenario(tiny(*FAULTS)), "production", only=only, without=without)
    return [fault.id for fault in fault_plan(chosen, "production")[0].faults]


def test_a_selector_is_a_family_an_effect_or_an_id() -> None:
    assert ids() == ["timeout#0", "timeout#1", "price-change#0"]
    assert ids(only=("services",)) == ["timeout#0", "timeout#1"]
    assert ids(only=("timeout#1", "portfolio")) == ["timeout#1", "price-change#0"]
    assert ids(without=("timeout",)) == ["price-change#0"]
    assert ids(only=("services",), without=("timeout#0",)) == ["timeout#1"], "the second time-out stays the second"
    assert ids(without=("services", "portfolio")) == []


def test_groups_are_named_in_the_order_of_the_plan() -> None:
    scenario = load_scenario(tiny(*FAULTS))
    assert fault_groups(scenario, "production", "family") == ["services", "portfolio"]
    assert fault_groups(scenario, "production", "effect") == ["timeout", "price-change"]
    assert fault_groups(scenario, "hostile", "id") == ["timeout#0", "timeout#1", "price-change#0"]
    assert fault_groups(scenario, "clean", "id") == []


def test_what_stays_draws_what_it_drew() -> None:
    scenario = load_scenario("support-desk")
    one = evaluate("baseline:best-of-n", scenario, episodes=300, only_faults=["rate-limit"])
    other = evaluate("baseline:best-of-n", scenario, episodes=300, without_faults=ids_but(scenario, "rate-limit#0"))
    assert one.rows[0].records is not None and other.rows[0].records is not None  # noqa: PT018
    assert (one.rows[0].records.utility == other.rows[0].records.utility).all()
    assert one.profile == "production, only rate-limit"
    whole = evaluate("baseline:best-of-n", scenario, episodes=300)
    assert whole.rows[0].utility.value != one.rows[0].utility.value


def ids_but(scenario: object, kept: str) -> list[str]:
    return [fault for fault in fault_groups(scenario, "production", "id") if fault != kept]  # type: ignore[arg-type]


def test_an_empty_plan_is_the_clean_profile() -> None:
    scenario = load_scenario("support-desk")
    none = select_faults(scenario, "production", without=fault_groups(scenario, "production", "family"))
    rows = [evaluate("baseline:cheapest-first", s, episodes=200, profile=p).rows[0]
            for s, p in ((none, "production"), (scenario, "clean"))]  # fmt: skip
    assert rows[0].utility == rows[1].utility
    assert none.hash != scenario.hash, "another world, so a training on it is never continued on the whole one"
    assert trace_digest(scenario, 8) != trace_digest(none, 8)


def test_a_selector_that_fits_nothing_is_refused_with_what_there_is() -> None:
    scenario = load_scenario(tiny(*FAULTS))
    with pytest.raises(FaultError, match=r"no fault 'timeouts'; allowed: family services, portfolio; effect timeout"):
        select_faults(scenario, "production", without=["timeouts"])
    with pytest.raises(FaultError, match="profile clean has no fault 'timeout'; allowed: family none"):
        select_faults(scenario, "clean", only=["timeout"])
    with pytest.raises(ScenarioError, match="no profile"):
        select_faults(scenario, "rainy", only=["timeout"])
