"""Triggers: hazards, composition, the text form and its errors, the burst process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brownout.errors import FaultError
from brownout.faults import (
    After,
    Always,
    And,
    Between,
    Burst,
    Calls,
    Context,
    Drift,
    EmptyWorld,
    Every,
    Not,
    NthCall,
    On,
    Or,
    Ramp,
    Rate,
    Status,
    Sticky,
    Trigger,
    Verb,
    When,
    World,
    known_triggers,
    parse_trigger,
    register_trigger,
)
from brownout.faults.compose import Scope
from brownout.faults.predicate import parse_condition
from brownout.faults.triggers import drawn_per_episode
from faults_support import FRONTIER, JUDGE, PERSON, SERVICES, SMALL, TableWorld, bound, chance_interval, keys_of


class PlainScope:
    """Binds a trigger with no memory."""

    services = SERVICES

    def __init__(self, world: Any = None) -> None:
        self.world: World = world or EmptyWorld()

    def lane_array(self, name: str, fill: float) -> Any:
        return np.full(64, fill)

    def stream(self, name: str) -> int:
        return 99

    def service_streams(self, name: str) -> Any:
        return np.arange(len(SERVICES), dtype=np.uint64)


def hazard(trigger: Trigger, calls: Calls, world: Any = None) -> list[float]:
    scope: Scope = PlainScope(world)
    found = trigger.compile(scope)(Context(calls, keys_of(calls.lanes), None, scope.world))
    return np.broadcast_to(np.asarray(found, dtype=np.float64), (len(calls),)).tolist()


FIVE = Calls.place(np.arange(5), number=np.arange(5), started_s=[0.0, 5.0, 10.0, 15.0, 20.0])
MIXED = Calls.place(
    np.arange(4),
    service=[SMALL, FRONTIER, JUDGE, PERSON],
    verb=[Verb.LAUNCH, Verb.REPAIR, Verb.JUDGE, Verb.ESCALATE],
)


@pytest.mark.parametrize(
    ("trigger", "expected"),
    [
        (Always(), [1, 1, 1, 1, 1]),
        (Rate(0.25), [0.25] * 5),
        (NthCall(2), [0, 1, 0, 0, 0]),
        (Every(2), [0, 1, 0, 1, 0]),
        (After(10.0), [0, 0, 1, 1, 1]),
        (Between(5.0, 15.0), [0, 1, 1, 0, 0]),
        (Ramp(0.0, 0.8, 16.0), [0.0, 0.25, 0.5, 0.75, 0.8]),
        (Ramp(0.8, 0.0, 20.0), [0.8, 0.6, 0.4, 0.2, 0.0]),
        (~Rate(0.25), [0.75] * 5),
        (Rate(0.5) & After(10.0), [0, 0, 0.5, 0.5, 0.5]),
        (Rate(0.5) | After(10.0), [0.5, 0.5, 1, 1, 1]),
        (Rate(0.5) | Rate(0.5), [0.75] * 5),
        (~(NthCall(1) | NthCall(3)), [0, 1, 0, 1, 1]),
    ],
    ids=str,
)
def test_hazard_by_hand(trigger: Trigger, expected: list[float]) -> None:
    np.testing.assert_allclose(hazard(trigger, FIVE), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("small", [1, 0, 0, 0]),
        ("*", [1, 1, 1, 1]),
        ("judge", [0, 0, 1, 0]),
        ("repair", [0, 1, 0, 0]),
        ("[sf]*", [1, 1, 0, 0]),
        ("escalate", [0, 0, 0, 1]),
    ],
)
def test_on_matches_services_and_verbs(pattern: str, expected: list[int]) -> None:
    assert hazard(On(pattern), MIXED) == expected


def test_when_and_drift_read_the_world() -> None:
    world = TableWorld(spend_usd=np.array([0.1, 0.2, 0.3, 0.4, 0.5]), episode=np.array([0, 1, 2, 4, 9]))
    assert hazard(When("spend_usd > 0.2 and not spend_usd >= 0.5"), FIVE, world) == [0, 0, 1, 1, 0]
    assert hazard(When("0.2 <= spend_usd < 0.4 or episode == 9"), FIVE, world) == [0, 1, 1, 0, 1]
    np.testing.assert_allclose(hazard(Drift(0.0, 0.4, 4), FIVE, world), [0, 0.1, 0.2, 0.4, 0.4])


@pytest.mark.parametrize("trigger", [When("speed > 1"), Drift(0.0, 1.0, 3)], ids=str)
def test_a_quantity_the_world_lacks_is_refused(trigger: Trigger) -> None:
    with pytest.raises(FaultError, match=r"'(speed|episode)' is not a known quantity here; allowed: step"):
        hazard(trigger, FIVE, TableWorld(step=np.zeros(5)))


# Composition.

numbers = st.floats(0.0, 1.0, allow_nan=False).map(lambda p: round(p, 3))
leaf = st.one_of(
    numbers.map(Rate),
    st.integers(1, 5).map(NthCall),
    st.integers(1, 5).map(Every),
    st.floats(0, 30).map(After),
    st.sampled_from(["small", "fr*", "judge", "repair", "*"]).map(On),
    st.tuples(numbers, numbers, st.floats(0.1, 50)).map(lambda given: Ramp(*given)),
    st.just(Always()),
    st.tuples(st.floats(1, 50), st.floats(1, 50)).map(lambda given: Burst(*given)),
    numbers.map(Sticky),
    st.sampled_from(["step > 1", "step >= 1 and not (step < 2 or step == 3)", "0 < step < 3"]).map(When),
)
trees = st.recursive(
    leaf,
    lambda part: st.one_of(st.builds(And, part, part), st.builds(Or, part, part), st.builds(Not, part)),
    max_leaves=8,
)
ANY = Calls.place(
    np.arange(12),
    service=np.arange(12) % 6,
    verb=np.arange(12) % 4,
    number=np.arange(12) % 5,
    started_s=np.arange(12) * 3.0,
)
STEPS = TableWorld(step=np.arange(64) % 4, episode=np.arange(64))


@given(trees)
def test_text_form_round_trips(trigger: Trigger) -> None:
    assert parse_trigger(str(trigger)) == trigger


@given(trees)
def test_hazard_is_a_probability_within_its_bounds(trigger: Trigger) -> None:
    found = np.array(hazard(trigger, ANY, STEPS))
    low, high = trigger.bounds(SERVICES)
    assert (found >= low[ANY.verb, ANY.service] - 1e-12).all()
    assert (found <= high[ANY.verb, ANY.service] + 1e-12).all()
    assert ((found >= 0.0) & (found <= 1.0)).all()
    if trigger.is_certain():
        assert set(found.tolist()) <= {0.0, 1.0}


@given(trees, trees)
def test_algebra(a: Trigger, b: Trigger) -> None:
    x, y = np.array(hazard(a, ANY, STEPS)), np.array(hazard(b, ANY, STEPS))
    np.testing.assert_allclose(hazard(a & b, ANY, STEPS), x * y, atol=1e-12)
    np.testing.assert_allclose(hazard(a | b, ANY, STEPS), x + y - x * y, atol=1e-12)
    np.testing.assert_allclose(hazard(~a, ANY, STEPS), 1.0 - x, atol=1e-12)


@given(trees)
def test_intensity_one_changes_no_hazard(trigger: Trigger) -> None:
    same, rest = trigger.at(1.0)
    assert rest == 1.0
    assert hazard(same, ANY, STEPS) == hazard(trigger, ANY, STEPS)


def test_intensity_is_spent_once() -> None:
    assert Rate(0.1).at(3.0) == (Rate(0.1), 3.0)
    assert Sticky(0.125).at(3.0) == (Sticky(0.375), 1.0)
    assert Sticky(0.5).at(3.0) == (Sticky(1.0), 1.0)
    assert (Sticky(0.25) & Rate(0.2)).at(2.0) == (Sticky(0.5) & Rate(0.2), 1.0)
    assert (Rate(0.2) & Sticky(0.25)).at(2.0) == (Rate(0.2) & Sticky(0.5), 1.0)
    assert Burst(10.0, 100.0).at(2.0) == (Burst(20.0, 100.0), 2.0)
    assert Burst(10.0, 100.0).at(0.5) == (Burst(10.0, 100.0), 0.5)
    either, rest = (Sticky(0.25) | Rate(0.2)).at(2.0)
    assert rest == 1.0
    assert either.bounds(SERVICES)[1][0, 0] == pytest.approx(1.0)
    assert either.bounds(SERVICES)[0][0, 0] == pytest.approx(0.4)


def test_one_sticky_and_plain_conditions_draw_once_per_episode() -> None:
    assert drawn_per_episode(Sticky(0.2) & On("small")) == Rate(0.2) & On("small")
    assert drawn_per_episode(After(3.0) & Sticky(0.2)) == After(3.0) & Rate(0.2)
    assert drawn_per_episode(Sticky(0.2) & Rate(0.5)) is None
    assert drawn_per_episode(Sticky(0.2) | On("small")) is None
    assert drawn_per_episode(Sticky(0.2) & Sticky(0.3)) is None
    assert drawn_per_episode(Rate(0.2)) is None


# The text form.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rate(0.03) & on('frontier')", Rate(0.03) & On("frontier")),
        ("burst(mean_on=120, mean_off=7200)", Burst(120, 7200)),
        ("rate(0.1) | nth_call(1) & after(5)", Rate(0.1) | (NthCall(1) & After(5))),
        ("~on('judge')", ~On("judge")),
        ("always", Always()),
        ("always()", Always()),
        ("  rate(p=1)\n & every(3)", Rate(1) & Every(3)),
        ('on("a b")', On("a b")),
        ("when(spend_usd > 0.2 and running >= 2)", When("spend_usd > 0.2 and running >= 2")),
        ("when(-1 < step)", When("-1 < step")),
        ("drift(start=0, end=0.5, over=10)", Drift(0, 0.5, 10)),
    ],
)
def test_parse(text: str, expected: Trigger) -> None:
    assert parse_trigger(text) == expected


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("rat(0.1)", 1, "unknown trigger 'rat'; did you mean 'rate'"),
        ("rate(0.1) & brust(1, 2)", 13, "unknown trigger 'brust'; did you mean 'burst'"),
        ("rate(0.1) and on('a')", 1, "join triggers with '&'"),
        ("rate(0.1) or on('a')", 1, "join triggers with '|'"),
        ("not rate(0.1)", 1, "negate a trigger with '~'"),
        ("rate(0.1) & spend_usd > 2", 1, "a comparison belongs inside when(...)"),
        ("rate()", 1, "missing argument p; usage: rate(p)"),
        ("rate(0.1, 0.2)", 11, "too many arguments; usage: rate(p)"),
        ("rate(q=0.1)", 6, "unknown argument 'q'; usage: rate(p)"),
        ("rate(**x)", 6, "unknown argument '**'"),
        ("burst(10, mean_on=5, mean_off=3)", 11, "argument 'mean_on' is given twice"),
        ("rate('a')", 6, "argument 'p' must be a number"),
        ("rate(True)", 6, "argument 'p' must be a number"),
        ("rate(1e999)", 6, "argument 'p' must be a number"),
        ("on(3)", 4, "argument 'pattern' must be a quoted name"),
        ("on(frontier)", 4, "argument 'pattern' must be a number or a quoted name"),
        ("on('')", 1, "on: pattern = '' is not allowed"),
        ("after(1) & rate(1.5)", 12, "rate: p = 1.5 is not allowed: must be a number >= 0 and <= 1"),
        ("nth_call(0)", 1, "n = 0 is not allowed"),
        ("every(1.5)", 1, "n = 1.5 is not allowed: must be a whole number >= 1"),
        ("between(5, 5)", 1, "t1 = 5 is not allowed: must be a number > 5"),
        ("burst(0.01, 5)", 1, "mean_on = 0.01 is not allowed"),
        ("rate(0.1) + rate(0.2)", 1, "not allowed in a trigger"),
        ("rate(__import__('os'))", 6, "must be a number or a quoted name"),
        ("__import__('os')", 1, "unknown trigger '__import__'"),
        ("(lambda: 1)()", 1, "not allowed in a trigger"),
        ("rate(0.1).p", 1, "not allowed in a trigger"),
        ("when()", 1, "when(...) takes one condition"),
        ("when(step)", 6, "a condition compares something"),
        ("when(step > 1 & step < 2)", 13, "each side of a comparison is a name or a number"),
        ("when((step > 1) & (step < 2))", 6, "inside when(...) write 'and' and 'or'"),
        ("when(step in 3)", 6, "this comparison is not allowed; allowed: <, <=, >, >=, ==, !="),
        ("when(step > 'a')", 13, "each side of a comparison is a name or a number"),
        ("when(f(step) > 1)", 6, "each side of a comparison is a name or a number"),
        ("when([step > 1])", 6, "not allowed in a condition"),
        ("rate(0.1", 5, "was never closed"),
        ("   rate(0.1) &", 15, "invalid syntax"),
        ("on('é') & rat(1)", 11, "unknown trigger 'rat'"),
        ("rate(0.1)) & (rate(0.2)", 10, "unmatched ')'"),
        ("~" * 1999 + "always", 1, "too long"),
    ],
)
def test_parse_errors_name_the_column(text: str, column: int, message: str) -> None:
    with pytest.raises(FaultError) as caught:
        parse_trigger(text)
    said = str(caught.value)
    assert message in said
    if "too long" not in message:
        assert f"column {column}:" in said, said


@pytest.mark.parametrize("text", ["(" * 900 + "always" + ")" * 900, "~" * 1900 + "always", "~" * 400 + "always"])
def test_deep_nesting_is_refused_not_a_crash(text: str) -> None:
    with pytest.raises(FaultError, match="column"):
        parse_trigger(text)


@pytest.mark.parametrize("text", ["", "  ", None, 3])
def test_an_empty_trigger_is_refused(text: Any) -> None:
    with pytest.raises(FaultError, match="is empty"):
        parse_trigger(text)


@given(st.text(max_size=40))
@settings(max_examples=200)
def test_any_text_parses_or_raises_a_fault_error(text: str) -> None:
    with contextlib.suppress(FaultError):
        assert isinstance(parse_trigger(text), Trigger)


def test_condition_errors_and_words() -> None:
    with pytest.raises(FaultError, match="condition 'step >', column"):
        parse_condition("step >")
    with pytest.raises(FaultError, match=r"column 5: each side"):
        parse_condition("1 < 'x'")
    assert str(parse_condition("a > 1 and (b < 2 or not c == 3)")) == "a > 1 and (b < 2 or not (c == 3))"


def test_third_party_trigger() -> None:
    @register_trigger("odd_lanes")
    @dataclass(frozen=True)
    class OddLanes(Trigger):
        p: float

        def hazard(self, context: Context) -> Any:
            return (context.lanes % 2) * self.p

    try:
        assert parse_trigger("odd_lanes(1.0) & rate(0.5)") == OddLanes(1.0) & Rate(0.5)
        plan = bound([{"fault": "empty-result", "when": "odd_lanes(1)"}], num_lanes=6)
        calls = Calls.place(np.arange(6))
        plan.strike(calls, keys_of(np.arange(6)))
        assert (calls.status == Status.EMPTY).tolist() == [False, True] * 3
        with pytest.raises(FaultError, match="'odd_lanes' is already registered by"):
            register_trigger("odd_lanes")(OddLanes)
    finally:
        from brownout.faults.compose import _TRIGGERS

        del _TRIGGERS["odd_lanes"]
    assert "odd_lanes" not in known_triggers()


def test_bad_trigger_classes_are_refused() -> None:
    with pytest.raises(FaultError, match="must be a dataclass that subclasses Trigger"):
        register_trigger("thing")(dict)  # pyright: ignore[reportArgumentType]
    with pytest.raises(FaultError, match="use a Python identifier"):
        register_trigger("no-good")(Rate)
    with pytest.raises(NotImplementedError, match="does not define hazard"):
        Trigger().hazard(Context(FIVE, keys_of(FIVE.lanes), None, EmptyWorld()))


# The burst process.


def outages(lanes: np.ndarray, times: Iterator[float] | list[float], when: str, **more: Any) -> np.ndarray:
    plan = bound([{"fault": "outage", "when": when}], num_lanes=len(lanes), **more)
    rows = []
    for number, at in enumerate(times):
        calls = Calls.place(lanes, number=number, started_s=at)
        plan.strike(calls, keys_of(lanes))
        rows.append(calls.status != Status.OK)
    return np.array(rows)


def test_burst_duty_cycle_at_any_time() -> None:
    lanes = np.arange(6000)
    down = outages(lanes, [0.0, 40.0, 1000.0], "burst(mean_on=30, mean_off=90)")
    low, high = chance_interval(0.25, 6000)
    for share in down.mean(axis=1):
        assert low < share < high


def test_burst_autocorrelation_is_exponential() -> None:
    lanes = np.arange(8000)
    lag = 15.0
    down = outages(lanes, [100.0, 100.0 + lag, 5000.0], "burst(mean_on=30, mean_off=90)").astype(float)
    # A two-state Markov process forgets at the rate 1/mean_on + 1/mean_off.
    expected = np.exp(-lag * (1 / 30 + 1 / 90))
    near, far = np.corrcoef(down)[0, 1:]
    assert near == pytest.approx(expected, abs=0.05)
    assert abs(far) < 0.05


def test_bursts_last_as_long_as_they_say_and_longer_at_higher_intensity() -> None:
    lanes = np.arange(400)

    def mean_length(intensity: float) -> float:
        down = outages(lanes, [float(t) for t in range(1500)], "burst(mean_on=20, mean_off=60)", intensity=intensity)
        starts = (down[1:] & ~down[:-1]).sum()
        return float(down[1:].sum() / starts)

    plain, long = mean_length(1.0), mean_length(2.0)
    assert plain == pytest.approx(20.0, rel=0.08)
    assert long == pytest.approx(40.0, rel=0.10)


def test_burst_is_a_pure_function_of_time() -> None:
    lanes = np.arange(50)
    times = [0.0, 3.0, 250.0, 900.0]
    when = "burst(mean_on=20, mean_off=20)"
    forward = outages(lanes, times, when)
    backward = outages(lanes, times[::-1], when)
    assert (forward == backward[::-1]).all()
    alone = np.array([outages(lanes, [t], when)[0] for t in times])
    assert (forward == alone).all()
    assert forward.any()
    assert not forward.all()


def test_a_burst_passes_so_a_patient_retry_wins() -> None:
    lanes = np.arange(300)
    down = outages(lanes, [0.0, 1.0, 300.0], "burst(mean_on=20, mean_off=2000)")
    assert down[1][down[0]].mean() > 0.8
    assert down[2][down[0]].mean() < 0.2


def test_two_bursts_in_one_trigger_are_independent() -> None:
    lanes = np.arange(4000)
    both = outages(lanes, [50.0], "burst(40, 40) & burst(40, 40)").mean()
    low, high = chance_interval(0.25, 4000)
    assert low < both < high


def test_sticky_beside_a_rate_holds_for_the_episode() -> None:
    lanes = np.arange(2000)
    plan = bound([{"fault": "empty-result", "when": "sticky(0.25) & rate(0.5)"}], num_lanes=2000)
    rows = []
    for number in range(12):
        calls = Calls.place(lanes, number=number)
        plan.strike(calls, keys_of(lanes))
        rows.append(calls.status != Status.OK)
    hits = np.array(rows).sum(axis=0)
    touched = hits > 0
    low, high = chance_interval(0.25 * (1 - 0.5**12), 2000)
    assert low < touched.mean() < high
    assert hits[touched].mean() == pytest.approx(6.0, abs=0.5)
