"""Plans as data: what is read, what is refused and in which words, what fits an environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from brownout.errors import BrownoutError, FaultError
from brownout.faults import (
    Burst,
    Calls,
    FaultPlan,
    On,
    Rate,
    Services,
    Status,
    describe_faults,
    parameter_schema,
    registered_faults,
)
from brownout.faults.portfolio import SilentRegression
from brownout.faults.services import Outage, Timeout
from faults_support import PORTS, SERVICES, TableWorld, bound, keys_of

EXAMPLE = [
    {"fault": "timeout", "after_s": 30, "when": "rate(0.03) & on('frontier')"},
    {"fault": "rate-limit", "per_minute": 30, "retry_after_s": 8},
    {"fault": "outage", "family": "b", "when": "burst(mean_on=120, mean_off=7200)"},
    {"fault": "slow-response", "factor": 4, "when": "rate(0.05)"},
]


def test_the_example_plan_reads() -> None:
    plan = FaultPlan.from_specs(EXAMPLE, "desk.yaml: profiles.production")
    assert [fault.id for fault in plan.faults] == ["timeout#0", "rate-limit#0", "outage#0", "slow-response#0"]
    first, _, third, _ = plan.faults
    assert first.effect == Timeout(after_s=30.0)
    assert first.trigger == Rate(0.03) & On("frontier")
    assert third.effect == Outage(family="b")
    assert third.trigger == Burst(120, 7200)
    plan.check(SERVICES, PORTS)
    assert len(plan) == 4


def test_ids_count_within_a_name() -> None:
    specs = [
        {"fault": "timeout", "when": "rate(0.1)"},
        {"fault": "empty-result", "when": "rate(0.1)"},
        {"fault": "timeout", "when": "rate(0.1)", "id": "mine"},
        {"fault": "timeout", "when": "rate(0.1)"},
    ]
    ids = [fault.id for fault in FaultPlan.from_specs(specs).faults]
    assert ids == ["timeout#0", "empty-result#0", "mine", "timeout#2"]


def test_a_trigger_object_is_as_good_as_text() -> None:
    text = FaultPlan.from_specs([{"fault": "timeout", "when": "rate(0.1) & on('mid')"}])
    made = FaultPlan.from_specs([{"fault": "timeout", "when": Rate(0.1) & On("mid")}])
    assert text == made


def test_default_triggers() -> None:
    plan = FaultPlan.from_specs([{"fault": "silent-regression"}, {"fault": "rate-limit"}])
    assert [str(fault.trigger) for fault in plan.faults] == ["sticky(0.1)", "always"]


def test_to_specs_round_trips_every_fault() -> None:
    specs = [{"fault": name, "when": "rate(0.5) & after(3) | every(2)"} for name in registered_faults()]
    plan = FaultPlan.from_specs(specs, "plan")
    written = plan.to_specs()
    assert FaultPlan.from_specs(written, "plan") == plan
    outage = next(spec for spec in written if spec["fault"] == "outage")
    assert outage["status"] == "unavailable"


ERRORS: list[tuple[Any, str]] = [
    ("timeout", "p: must be a list of faults, not 'timeout'"),
    ({"fault": "timeout"}, "p: must be a list of faults, not {"),
    (["timeout"], "p[0]: must be a mapping such as {fault: timeout, when: 'rate(0.03)'}, not 'timeout'"),
    ([{"when": "always"}], "p[0]: has no field 'fault'; it must name the fault; given: when"),
    ([{"fault": 3}], "p[0]: fault = 3 is not allowed: must be the name of a fault"),
    ([{"fault": "timeot"}], "p[0]: unknown fault 'timeot'; did you mean 'timeout'? known: async-polling, "),
    ([{"fault": "zzz"}], "p[0]: unknown fault 'zzz'; known: async-polling, "),
    ([{"fault": "timeout"}], "p[0] (timeout): needs a field 'when' that says when it strikes"),
    ([{"fault": "timeout", "when": 0.1}], "p[0] (timeout): when = 0.1 is not allowed: must be a trigger"),
    ([{"fault": "timeout", "when": "rate(2)"}], "p[0] (timeout): trigger 'rate(2)', column 1: rate: p = 2"),
    (
        [{"fault": "timeout", "when": "always", "aftr_s": 3}],
        "p[0] (timeout): unknown parameter 'aftr_s'; did you mean 'after_s'? known: after_s, applied, fault, id, when",
    ),
    (
        [{"fault": "rate-limit"}, {"fault": "rate-limit", "per_minute": -3}],
        "p[1] (rate-limit): per_minute = -3.0 is not allowed: must be a number > 0 (calls per minute)",
    ),
    (
        [{"fault": "timeout", "when": "always", "after_s": "soon"}],
        "p[0] (timeout): after_s = 'soon' is not allowed: Input should be a valid number",
    ),
    ([{"fault": "timeout", "when": "always", "after_s": None}], "p[0] (timeout): after_s = None is not allowed"),
    (
        [{"fault": "timeout", "when": "always", "after_s": True}],
        "p[0] (timeout): after_s = True is not allowed: must be a number",
    ),
    ([{"fault": "outage", "status": "gone"}], "p[0] (outage): status: 'gone' is not a status; allowed: running, ok"),
    ([{"fault": "outage", "status": "ok"}], "p[0] (outage): status = 'ok' is not allowed: must be a failure"),
    ([{"fault": "capacity-limit", "mode": "drop"}], "p[0] (capacity-limit): mode = 'drop' is not allowed"),
    ([{"fault": "rate-limit", "id": "a b"}], "p[0] (rate-limit): id = 'a b' is not allowed: use letters"),
    ([{"fault": "rate-limit", "id": 7}], "p[0] (rate-limit): id = 7 is not allowed"),
    (
        [{"fault": "rate-limit", "id": "x"}, {"fault": "outage", "id": "x"}],
        "p[1] (outage): id = 'x' is already used by p[0]",
    ),
    (
        [{"fault": "rate-limit", "id": "outage#0"}, {"fault": "outage"}],
        "p[1] (outage): id = 'outage#0' is already used by p[0]",
    ),
]


@pytest.mark.parametrize(("specs", "message"), ERRORS, ids=[message[:50] for _, message in ERRORS])
def test_a_bad_plan_is_refused_in_words(specs: Any, message: str) -> None:
    with pytest.raises(FaultError) as caught:
        FaultPlan.from_specs(specs, "p")
    assert str(caught.value).startswith(message), str(caught.value)
    assert isinstance(caught.value, BrownoutError)
    assert isinstance(caught.value, ValueError)


UNFIT: list[tuple[Sequence[dict[str, Any]], str]] = [
    (
        [{"fault": "timeout", "when": "on('frontir')"}],
        "p[0] (timeout): on('frontir') matches no service and no verb; services: small, mid, frontier",
    ),
    (
        [{"fault": "timeout", "when": "rate(0.5) | ~on('zip*')"}],
        "p[0] (timeout): on('zip*') matches no service and no verb",
    ),
    (
        [{"fault": "outage", "family": "z"}],
        "p[0] (outage): family = 'z' is not a provider family here; allowed: a, b, c, judge, person",
    ),
    (
        [{"fault": "judge-drift", "when": "on('small')"}],
        "p[0] (judge-drift): it can strike no call: when = 'on('small')'; it acts on judge calls",
    ),
    (
        [{"fault": "outage", "family": "a", "when": "on('frontier')"}],
        "p[0] (outage): it can strike no call",
    ),
    (
        [{"fault": "partial-result", "when": "on('judge') & rate(0.1)"}],
        "p[0] (partial-result): it can strike no call: when = 'on('judge') & rate(0.1)'; it acts on launch, repair",
    ),
    (
        [{"fault": "timeout", "when": "when(sped > 1)"}],
        "p[0] (timeout): when(sped > 1): 'sped' is not a known quantity here; allowed: clock_s, step",
    ),
    (
        [{"fault": "timeout", "when": "drift(0, 1, 5)"}],
        "p[0] (timeout): drift(0, 1, 5): 'episode' is not a known quantity here",
    ),
]


@pytest.mark.parametrize(("specs", "message"), UNFIT)
def test_a_plan_that_does_not_fit_is_refused(specs: Sequence[dict[str, Any]], message: str) -> None:
    plan = FaultPlan.from_specs(specs, "p")
    world = TableWorld(clock_s=np.zeros(1), step=np.zeros(1))
    with pytest.raises(FaultError) as caught:
        plan.check(SERVICES, PORTS, world.names)
    assert str(caught.value).startswith(message), str(caught.value)
    for intensity in (0.0, 1.0):  # an unfit plan is unfit at any intensity
        with pytest.raises(FaultError) as caught:
            plan.bind(SERVICES, PORTS, intensity, 1, world)
        assert str(caught.value).startswith(message)


def test_a_missing_port_is_named() -> None:
    plan = FaultPlan.from_specs([{"fault": "timeout", "when": "always"}, {"fault": "refusal", "when": "always"}], "p")
    message = r"p\[1\] \(refusal\): needs the port portfolio, which this environment does not offer; offered: calls"
    with pytest.raises(FaultError, match=message):
        plan.check(SERVICES, {"calls"})


@pytest.mark.parametrize("intensity", [-0.1, float("nan"), float("inf"), "1", None, True])
def test_a_bad_intensity_is_refused(intensity: Any) -> None:
    plan = FaultPlan.from_specs([{"fault": "price-change"}])
    with pytest.raises(FaultError, match=r"intensity = .* is not allowed: must be a finite number >= 0"):
        plan.bind(SERVICES, PORTS, intensity)


def test_nothing_to_do_binds_to_none() -> None:
    assert FaultPlan().bind(SERVICES, PORTS) is None
    plan = FaultPlan.from_specs([{"fault": "price-change"}])
    assert plan.bind(SERVICES, PORTS, 0.0) is None
    assert plan.bind(SERVICES, PORTS, 0) is None
    assert plan.bind(SERVICES, PORTS, float(np.float32(0.5))) is not None


def test_judge_and_person_take_their_own_calls() -> None:
    table = SERVICES.placeable()
    configurations = [True] * 4 + [False] * 2
    assert table[0].tolist() == table[1].tolist() == configurations
    assert table[2].tolist() == [False] * 4 + [True, False]
    assert table[3].tolist() == [False] * 5 + [True]
    assert Services(("x",), ("f",)).placeable().all()


def test_services_are_checked() -> None:
    with pytest.raises(FaultError, match="2 service names but 1 families"):
        Services(("a", "b"), ("x",))
    with pytest.raises(FaultError, match="service names must differ"):
        Services(("a", "a"), ("x", "x"))


def test_negated_on_keeps_the_default_verbs_and_on_widens_them() -> None:
    def reach(when: str) -> set[str]:
        fault = FaultPlan.from_specs([{"fault": "timeout", "when": when}]).faults[0]
        verbs = ("launch", "repair", "judge", "escalate")
        table = fault.reach(SERVICES)
        return {verbs[v] for v in range(4) if table[v].any()}

    assert reach("rate(0.1)") == {"launch", "repair"}
    assert reach("rate(0.1) & ~on('mid')") == {"launch", "repair"}
    assert reach("rate(0.1) & on('judge')") == {"judge"}
    assert reach("rate(0.1) & on('*')") == {"launch", "repair", "judge"}
    assert reach("on('repair')") == {"repair"}


def test_json_schema_of_parameters() -> None:
    schema = parameter_schema("outage")
    assert "unavailable" in schema["properties"]["status"]["enum"]
    assert schema["additionalProperties"] is False
    for name in registered_faults():
        assert parameter_schema(name)["type"] == "object"
    with pytest.raises(FaultError, match="unknown fault 'nope'"):
        parameter_schema("nope")


def test_catalogue_is_complete() -> None:
    rows = {row["name"]: row for row in describe_faults()}
    assert set(rows) == set(registered_faults())
    for row in rows.values():
        assert row["summary"].endswith((".", ")")), row["name"]
        assert row["recovery"]
        for parameter in row["parameters"]:
            assert parameter["help"], (row["name"], parameter["name"])
            assert not parameter["required"]
    timeout = rows["timeout"]
    assert timeout["parameters"][0] == {
        "name": "after_s",
        "type": "float",
        "default": 30.0,
        "required": False,
        "help": "seconds until the client gives up.",
    }
    assert (timeout["visibility"], timeout["kind"], timeout["phase"]) == ("visible", "omission", "both")
    assert rows["silent-regression"]["visibility"] == "silent"
    assert rows["silent-regression"]["duration"] == "permanent"
    assert rows["judge-drift"]["verbs"] == ["judge"]
    assert {row["category"] for row in rows.values()} == {
        "services", "latency", "portfolio", "records", "session", "workflow", "adversarial",
    }  # fmt: skip
    listed = {
        name: sum(row["category"] == name for row in rows.values()) for name in ("services", "latency", "records")
    }
    assert listed == {"services": 10, "latency": 3, "records": 11}


def test_steady_effects_grow_with_intensity_and_shrink_to_a_share_of_calls() -> None:
    lanes = np.arange(2000)
    spec = [{"fault": "price-change", "factor": 2.0}]

    def costs(intensity: float) -> np.ndarray:
        plan = bound(spec, num_lanes=2000, intensity=intensity)
        calls = Calls.place(lanes, cost_usd=1.0)
        plan.strike(calls, keys_of(lanes))
        return calls.cost_usd

    assert set(costs(1.0)) == {2.0}
    assert set(costs(3.0)) == {4.0}
    assert set(costs(0.25)) == {1.0, 2.0}
    assert 0.2 < (costs(0.25) == 2.0).mean() < 0.3


def test_plans_are_values() -> None:
    one = FaultPlan.from_specs(EXAMPLE, "p")
    assert one == FaultPlan.from_specs([dict(spec) for spec in EXAMPLE], "p")
    assert hash(one) == hash(FaultPlan.from_specs(EXAMPLE, "p"))
    assert SilentRegression(0.2) != SilentRegression(0.3)
    assert Status.OK == 1


def test_an_annotation_that_its_module_cannot_resolve_is_named() -> None:
    from dataclasses import dataclass

    from brownout.faults import CallEffect
    from brownout.faults.plan import make_effect

    @dataclass(frozen=True)
    class Puzzling(CallEffect):
        """Annotated with a name that exists nowhere."""

        depth: "Nowhere" = 1  # type: ignore[name-defined]  # noqa: F821, UP037

    with pytest.raises(FaultError, match="Puzzling: an annotation names 'Nowhere', which its module does not have"):
        make_effect(Puzzling, {})
