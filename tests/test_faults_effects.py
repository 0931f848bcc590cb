"""Every effect against a result worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from brownout.errors import FaultError
from brownout.faults import BoundPlan, CallEffect, Calls, Draw, FaultPlan, Status, Verb, lookup, registered_faults
from brownout.faults.draws import unit_exponential, unit_pareto
from faults_support import (
    ALT,
    FRONTIER,
    JUDGE,
    MID,
    SERVICES,
    SMALL,
    StubDraw,
    bound,
    keys_of,
    struck,
)

O, X = True, False  # noqa: E741


def three(**changes: Any) -> Calls:
    """Three calls of 8, 2 and 40 seconds that cost 1, 2 and 4 dollars; the second answer is wrong."""
    given: dict[str, Any] = {
        "latency_s": [8.0, 2.0, 40.0],
        "cost_usd": [1.0, 2.0, 4.0],
        "right": [True, False, True],
        "pass_probability": [0.9, 0.1, 0.95],
        "concurrent": [0, 2, 5],
    }
    return Calls.place([0, 1, 2], **(given | changes))


class Case:
    """What one effect does to the three calls."""

    def __init__(
        self,
        fault: str,
        parameters: dict[str, Any],
        draws: Sequence[Sequence[float]] = (),
        *,
        status: Sequence[Status] = (Status.OK,) * 3,
        latency: Sequence[float] = (8.0, 2.0, 40.0),
        cost: Sequence[float] = (1.0, 2.0, 4.0),
        right: Sequence[bool] = (True, False, True),
        applied: Sequence[bool] = (True, True, True),
        passes: Sequence[float] = (0.9, 0.1, 0.95),
        retry: Sequence[float] = (0.0, 0.0, 0.0),
        hit: Sequence[bool] | None = None,
    ) -> None:
        self.fault, self.parameters, self.draws = fault, parameters, draws
        self.expected = {
            "status": status,
            "latency_s": latency,
            "cost_usd": cost,
            "right": right,
            "applied": applied,
            "pass_probability": passes,
            "retry_after_s": retry,
        }
        self.hit = hit

    def __repr__(self) -> str:
        return f"{self.fault}({', '.join(f'{k}={v}' for k, v in self.parameters.items())})"


WRONG = (False, False, False)
CASES = [
    Case(
        "timeout",
        {"after_s": 30.0, "applied": 0.3},
        [[0.29, 0.3, 0.9]],
        status=[Status.TIMEOUT] * 3,
        latency=(30.0, 30.0, 30.0),
        cost=(1.0, 0.0, 0.0),
        right=WRONG,
        applied=(True, False, False),
    ),
    Case(
        "connection-reset",
        {"applied": 0.5},
        [[0.6, 0.4, 0.6], [0.25, 0.5, 0.75]],
        status=[Status.RESET] * 3,
        latency=(2.0, 1.0, 30.0),
        cost=(0.0, 2.0, 0.0),
        right=WRONG,
        applied=(False, True, False),
    ),
    Case(
        "connection-reset",
        {"after_s": 5.0, "applied": 0.0},
        [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]],
        status=[Status.RESET] * 3,
        latency=(5.0, 2.0, 5.0),
        cost=(0.0, 0.0, 0.0),
        right=WRONG,
        applied=WRONG,
    ),
    Case(
        "server-error",
        {"code": 502, "latency_s": 0.25, "applied": 0.5, "retry_after_s": 3.0},
        [[0.1, 0.9, 0.9]],
        status=[Status.BAD_GATEWAY] * 3,
        latency=(0.25, 0.25, 0.25),
        cost=(1.0, 0.0, 0.0),
        right=WRONG,
        applied=(True, False, False),
        retry=(3.0, 3.0, 3.0),
    ),
    Case(
        "server-error",
        {"code": 503, "latency_s": None},
        [[0.0, 0.0, 0.0]],
        status=[Status.UNAVAILABLE] * 3,
        cost=(0.0, 0.0, 0.0),
        right=WRONG,
        applied=WRONG,
    ),
    Case(
        "outage",
        {"status": "reset", "latency_s": 0.2},
        status=[Status.RESET] * 3,
        latency=(0.2, 0.2, 0.2),
        cost=(0.0, 0.0, 0.0),
        right=WRONG,
        applied=WRONG,
    ),
    Case(
        "unexpected-status",
        {"applied": 0.5},
        [[0.4, 0.6, 0.6]],
        status=[Status.UNEXPECTED] * 3,
        cost=(1.0, 0.0, 0.0),
        right=WRONG,
        applied=(True, False, False),
    ),
    Case("malformed-body", {}, status=[Status.MALFORMED] * 3, right=WRONG),
    Case("empty-result", {}, status=[Status.EMPTY] * 3, right=WRONG),
    Case("partial-result", {"lost": 0.5}, [[0.4, 0.4, 0.6]], right=(False, False, True), hit=[O, X, X]),
    Case("silent-noop", {}, cost=(0.0, 0.0, 0.0), right=WRONG, applied=WRONG),
    Case("slow-response", {"factor": 4.0}, latency=(32.0, 8.0, 160.0)),
    Case("load-latency", {"slope": 0.25}, latency=(8.0, 3.0, 90.0)),
    Case("async-polling", {"poll_s": 5.0}, latency=(10.0, 5.0, 40.0)),
    Case("price-change", {"factor": 2.5}, cost=(2.5, 5.0, 10.0)),
    Case("silent-regression", {"loss": 0.2}, [[0.3, 0.1, 0.1]], right=(True, False, False), hit=[X, X, O]),
    Case("judge-drift", {"false_positive": 0.25, "true_positive": -0.5}, passes=(0.4, 0.35, 0.45)),
    Case("judge-drift", {"false_positive": -0.2, "true_positive": 0.07}, passes=(0.97, 0.0, 1.0)),
    Case(
        "refusal",
        {"cost_share": 0.5, "latency_share": 0.25},
        status=[Status.REFUSED] * 3,
        latency=(2.0, 0.5, 10.0),
        cost=(0.5, 1.0, 2.0),
        right=WRONG,
    ),
    # With two at once: 2 running means 1 in line including itself, 5 running means 4.
    Case("capacity-limit", {"limit": 2}, latency=(8.0, 3.0, 120.0)),
    Case(
        "capacity-limit",
        {"limit": 2, "mode": "reject", "retry_after_s": 7.0, "latency_s": 0.1},
        status=[Status.RATE_LIMITED] * 3,
        latency=(0.1, 0.1, 0.1),
        cost=(0.0, 0.0, 0.0),
        right=WRONG,
        applied=WRONG,
        retry=(7.0, 7.0, 7.0),
    ),
]


def make(case: Case) -> CallEffect:
    planned = FaultPlan.from_specs([{"fault": case.fault, "when": "always", **case.parameters}], "plan")
    effect = planned.faults[0].effect
    assert isinstance(effect, CallEffect)
    return effect


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_effect_does_what_it_says(case: Case) -> None:
    calls = three()
    hit = make(case).strike(calls, StubDraw(*case.draws))
    for name, expected in case.expected.items():
        np.testing.assert_allclose(getattr(calls, name), expected, rtol=1e-12, err_msg=name)
    if case.hit is None:
        assert hit is None
    else:
        assert hit is not None
        assert hit.tolist() == case.hit


def test_every_built_in_effect_has_a_case() -> None:
    # The token bucket has memory, so its cases are below; other families have tests of their own.
    here = ("services", "latency", "portfolio")
    built_in = {
        name
        for name, cls in registered_faults().items()
        if cls.__module__.startswith("brownout.") and cls.category in here
    }
    assert built_in == {case.fault for case in CASES} | {"rate-limit"}


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_not_applied_costs_nothing_and_applied_is_billed(case: Case) -> None:
    calls = three()
    make(case).strike(calls, StubDraw(*case.draws))
    assert (calls.cost_usd[~calls.applied] == 0).all()
    if case.fault not in ("price-change", "refusal"):
        assert (calls.cost_usd == np.where(calls.applied, [1.0, 2.0, 4.0], 0.0)).all()


def test_slow_response_tail_is_a_pareto_factor() -> None:
    calls = three()
    make(Case("slow-response", {"factor": 2.0, "tail": 1.5})).strike(calls, StubDraw([0.0, 0.5, 0.9]))
    # The 0.5 quantile of a Pareto with exponent 1.5 is 2**(2/3), the 0.9 quantile 10**(2/3).
    expected = [8 * 2 * 1.0, 2 * 2 * 2 ** (2 / 3), 40 * 2 * 10 ** (2 / 3)]
    np.testing.assert_allclose(calls.latency_s, expected, rtol=1e-3)


def test_draw_tables_have_the_right_means() -> None:
    assert unit_exponential().mean == pytest.approx(1.0, rel=1e-9)
    assert unit_pareto(3.0).mean == pytest.approx(1.5, rel=0.01)


def test_draw_requests_open_independent_sub_streams() -> None:
    keys = keys_of(np.arange(20_000))
    streams = np.full(20_000, 12345, dtype=np.uint64)
    draw = Draw(keys, streams, np.zeros(20_000, dtype=np.int64))
    first, second = draw.uniform(), draw.uniform()
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.04
    again = Draw(keys, streams, np.zeros(20_000, dtype=np.int64))
    assert again.uniform().tobytes() == first.tobytes()
    assert again.exponential(3.0).tobytes() == (unit_exponential().sample(second) * 3.0).tobytes()


# The token bucket.


def one_call(at: float, number: int, service: int = SMALL, lane: int = 0) -> Calls:
    return Calls.place([lane], service=service, number=number, started_s=at, cost_usd=1.0)


def last_of_several(plan: BoundPlan, services: Sequence[int]) -> Calls:
    """Place one call to each service at time 0 in lane 0, and return the last."""
    calls = [one_call(0.0, number, service) for number, service in enumerate(services)]
    for call in calls:
        plan.strike(call, keys_of([0]))
    return calls[-1]


BUCKET = {"fault": "rate-limit", "per_minute": 6.0, "burst": 2, "load": 0.0}


def test_rate_limit_by_hand() -> None:
    # One token per 10 s, two at most, full at the start.
    plan = bound([BUCKET])
    outcome = []
    for number, at in enumerate([0.0, 1.0, 2.0, 10.0, 11.0, 100.0, 100.0, 100.0]):
        calls = one_call(at, number)
        plan.strike(calls, keys_of([0]))
        outcome.append((Status(int(calls.status[0])).name, round(float(calls.retry_after_s[0]), 6)))
    assert outcome == [
        ("OK", 0.0),
        ("OK", 0.0),
        ("RATE_LIMITED", 8.0),
        ("OK", 0.0),
        ("RATE_LIMITED", 9.0),
        ("OK", 0.0),
        ("OK", 0.0),
        ("RATE_LIMITED", 10.0),
    ]


def test_rate_limit_refusal_is_quick_and_free() -> None:
    calls = last_of_several(bound([BUCKET]), [SMALL] * 3)
    assert (calls.latency_s[0], calls.cost_usd[0]) == (0.1, 0.0)
    assert (calls.applied[0], calls.right[0]) == (False, False)


def test_rate_limit_bucket_is_shared_by_the_family_only() -> None:
    plan = bound([BUCKET])
    seen = []
    for number, service in enumerate([SMALL, MID, MID, FRONTIER]):
        calls = one_call(0.0, number, service)
        plan.strike(calls, keys_of([0]))
        seen.append(int(calls.status[0]))
    assert seen == [Status.OK, Status.OK, Status.RATE_LIMITED, Status.OK]
    calls = last_of_several(bound([BUCKET | {"scope": "service"}]), [SMALL, SMALL, MID])
    assert calls.status[0] == Status.OK


def test_rate_limit_of_one_lane_leaves_another_alone() -> None:
    plan = bound([BUCKET], num_lanes=2)
    busy = last_of_several(plan, [SMALL] * 3)
    other = one_call(0.0, 0, lane=1)
    plan.strike(other, keys_of([1]))
    assert busy.status[0] == Status.RATE_LIMITED
    assert other.status[0] == Status.OK


@pytest.mark.parametrize("load", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("per_minute", [7.0, 30.0, 113.0])
def test_waiting_as_long_as_retry_after_says_succeeds(load: float, per_minute: float) -> None:
    spec = {"fault": "rate-limit", "per_minute": per_minute, "burst": 1, "load": load, "retry_after_s": 0.2}
    lanes = np.arange(64)
    plan = bound([spec], num_lanes=64)
    now, refused_ever = np.linspace(0.0, 3.0, 64), 0
    for number in range(0, 40, 2):
        calls = Calls.place(lanes, number=number, started_s=now)
        plan.strike(calls, keys_of(lanes))
        refused = calls.status == Status.RATE_LIMITED
        refused_ever += int(refused.sum())
        assert (calls.retry_after_s[refused] >= 0.2).all()
        now = now + np.where(refused, calls.retry_after_s, 0.0)
        retry = Calls.place(lanes[refused], number=number + 1, started_s=now[refused])
        plan.strike(retry, keys_of(lanes[refused]))
        assert (retry.status == Status.OK).all()
        now = now + 0.01
    assert refused_ever > 100


def test_rate_limit_start_level_is_random_under_load_and_reset_restores_it() -> None:
    lanes = np.arange(400)
    plan = bound([BUCKET | {"load": 0.5}], num_lanes=400)
    first = Calls.place(lanes)
    plan.strike(first, keys_of(lanes))
    share = (first.status == Status.RATE_LIMITED).mean()
    assert 0.35 < share < 0.65  # the level is uniform on [0, 2] tokens, and less than 1 refuses
    plan.reset(lanes, keys_of(lanes))
    again = Calls.place(lanes)
    plan.strike(again, keys_of(lanes))
    assert (first.status == again.status).all()
    plan.reset(lanes, keys_of(lanes, episode=1))
    other = Calls.place(lanes)
    plan.strike(other, keys_of(lanes, episode=1))
    assert (first.status != other.status).any()


def test_rate_limit_throughput_is_the_refill_rate() -> None:
    plan = bound([{"fault": "rate-limit", "per_minute": 60.0, "burst": 3, "load": 0.5}])
    granted = 0
    for number in range(2000):
        calls = one_call(number * 0.1, number)
        plan.strike(calls, keys_of([0]))
        granted += int(calls.status[0] == Status.OK)
    # 200 seconds at half of one per second, and up to three from the bucket.
    assert 99 <= granted <= 104


# Effects inside a plan.


def test_outage_strikes_its_family_only() -> None:
    plan = bound([{"fault": "outage", "family": "a", "when": "always"}], num_lanes=4)
    calls = Calls.place(np.arange(4), service=[SMALL, MID, FRONTIER, ALT])
    plan.strike(calls, keys_of(np.arange(4)))
    assert calls.status.tolist() == [Status.UNAVAILABLE, Status.UNAVAILABLE, Status.OK, Status.OK]


def test_judge_drift_strikes_judge_calls_only() -> None:
    plan = bound([{"fault": "judge-drift"}], num_lanes=2)
    calls = Calls.place([0, 1], service=[SMALL, JUDGE], verb=[Verb.LAUNCH, Verb.JUDGE], pass_probability=0.5)
    plan.strike(calls, keys_of([0, 1]))
    np.testing.assert_allclose(calls.pass_probability, [0.5, 0.35])


def test_capacity_limit_lets_a_call_in_below_the_limit() -> None:
    for mode in ("queue", "reject"):
        plan = bound([{"fault": "capacity-limit", "limit": 2, "mode": mode}], num_lanes=4)
        calls = Calls.place(np.arange(4), concurrent=[0, 1, 2, 5], latency_s=8.0)
        healthy = calls.select(np.arange(4))
        plan.strike(calls, keys_of(np.arange(4)))
        assert struck(calls, healthy).tolist() == [False, False, True, True]
        if mode == "queue":
            assert calls.latency_s.tolist() == [8.0, 8.0, 12.0, 24.0]


def test_sticky_refusal_lasts_the_episode_and_rate_does_not() -> None:
    lanes = np.arange(300)

    def refused(when: str) -> np.ndarray:
        plan = bound([{"fault": "refusal", "when": when}], num_lanes=300)
        rows = []
        for number in range(6):
            calls = Calls.place(lanes, number=number)
            plan.strike(calls, keys_of(lanes))
            rows.append(calls.status == Status.REFUSED)
        return np.array(rows)

    sticky, rate = refused("sticky(0.3)"), refused("rate(0.3)")
    assert (sticky == sticky[0]).all()
    assert 0.15 < sticky[0].mean() < 0.45
    assert not (rate == rate[0]).all()


def test_a_retry_after_a_transient_fault_can_win() -> None:
    lanes = np.arange(500)
    plan = bound([{"fault": "server-error", "when": "rate(0.5)"}], num_lanes=500)
    first, retry = Calls.place(lanes), Calls.place(lanes, number=1)
    plan.strike(first, keys_of(lanes))
    plan.strike(retry, keys_of(lanes))
    failed = first.status != Status.OK
    assert 0.3 < (retry.status[failed] == Status.OK).mean() < 0.7


# The vocabulary.


def test_fail_keeps_other_rows_and_an_earlier_loss() -> None:
    calls = three()
    calls.skip(np.array([O, X, X]))
    calls.fail(Status.EMPTY, latency_s=[1.0, 2.0, 3.0], applied=True, where=np.array([O, X, O]))
    assert calls.status.tolist() == [Status.EMPTY, Status.OK, Status.EMPTY]
    assert calls.latency_s.tolist() == [1.0, 2.0, 3.0]
    assert calls.applied.tolist() == [False, True, True]
    calls.fail(Status.RESET, where=np.array([X, X, O]))
    assert calls.applied.tolist() == [False, True, False]
    assert calls.cost_usd.tolist() == [0.0, 2.0, 0.0]


def test_delay_charge_sway_respect_where() -> None:
    calls, where = three(), np.array([X, O, X])
    calls.delay(seconds=1.0, factor=2.0, where=where)
    calls.charge(3.0, where=where)
    calls.sway(0.5, where=where)
    assert calls.latency_s.tolist() == [8.0, 5.0, 40.0]
    assert calls.cost_usd.tolist() == [1.0, 6.0, 4.0]
    assert calls.pass_probability.tolist() == [0.9, 0.6, 0.95]


def test_select_copies_and_assign_writes_back() -> None:
    calls = three()
    sub = calls.select(np.array([X, O, O]))
    sub.charge(10.0)
    assert calls.cost_usd.tolist() == [1.0, 2.0, 4.0]
    calls.assign(np.array([1, 2]), sub)
    assert calls.cost_usd.tolist() == [1.0, 20.0, 40.0]


# Strength at an intensity above 1.


@pytest.mark.parametrize(
    ("fault", "parameters", "field", "expected"),
    [
        ("rate-limit", {"per_minute": 30.0}, "per_minute", 15.0),
        ("load-latency", {"slope": 0.2}, "slope", 0.4),
        ("async-polling", {"poll_s": 4.0}, "poll_s", 8.0),
        ("price-change", {"factor": 1.5}, "factor", 2.0),
        ("silent-regression", {"loss": 0.7}, "loss", 1.0),
        ("judge-drift", {"false_positive": 0.2}, "false_positive", 0.4),
        ("judge-drift", {"true_positive": -0.8}, "true_positive", -1.0),
        ("capacity-limit", {"limit": 5}, "limit", 2),
    ],
)
def test_strengthened_twice_as_strong(fault: str, parameters: dict[str, Any], field: str, expected: float) -> None:
    effect = make(Case(fault, parameters))
    assert getattr(effect.strengthened(2.0), field) == pytest.approx(expected)


BAD = [
    ("timeout", {"after_s": 0.0}, "after_s = 0.0 is not allowed: must be a number > 0 (seconds)"),
    ("timeout", {"after_s": float("nan")}, "after_s = nan is not allowed"),
    ("timeout", {"after_s": float("inf")}, "after_s = inf is not allowed"),
    ("timeout", {"applied": 1.5}, "applied = 1.5 is not allowed: must be a number >= 0 and <= 1"),
    ("connection-reset", {"after_s": -1.0}, "after_s = -1.0"),
    ("server-error", {"code": 418}, "code = 418 is not allowed; allowed: 500, 502, 503"),
    ("server-error", {"latency_s": -0.1}, "latency_s = -0.1"),
    ("server-error", {"retry_after_s": -1.0}, "retry_after_s = -1.0"),
    ("rate-limit", {"per_minute": 0.0}, "per_minute = 0.0"),
    ("rate-limit", {"burst": 0}, "burst = 0"),
    ("rate-limit", {"load": 1.0}, "load = 1.0 is not allowed: must be a number >= 0 and < 1"),
    ("rate-limit", {"retry_after_s": -2.0}, "retry_after_s = -2.0"),
    ("rate-limit", {"latency_s": -2.0}, "latency_s = -2.0"),
    ("outage", {"status": Status.OK}, "status = 'ok' is not allowed: must be a failure"),
    ("outage", {"status": "down"}, "'down' is not a status; allowed: running, ok, timeout"),
    ("outage", {"family": ""}, "family = '' is not allowed"),
    ("outage", {"latency_s": -1.0}, "latency_s = -1.0"),
    ("unexpected-status", {"code": 99}, "code = 99"),
    ("unexpected-status", {"applied": -0.1}, "applied = -0.1"),
    ("partial-result", {"lost": 2.0}, "lost = 2.0"),
    ("slow-response", {"factor": 0.5}, "factor = 0.5"),
    ("slow-response", {"tail": 1.0}, "tail = 1.0"),
    ("load-latency", {"slope": -1.0}, "slope = -1.0"),
    ("async-polling", {"poll_s": 0.0}, "poll_s = 0.0"),
    ("price-change", {"factor": -1.0}, "factor = -1.0"),
    ("silent-regression", {"loss": -0.1}, "loss = -0.1"),
    ("judge-drift", {"false_positive": 1.1}, "false_positive = 1.1"),
    ("refusal", {"cost_share": 1.1}, "cost_share = 1.1"),
    ("capacity-limit", {"limit": 0}, "limit = 0"),
    ("capacity-limit", {"mode": "drop"}, "mode = 'drop' is not allowed; allowed: queue, reject"),
    ("capacity-limit", {"retry_after_s": -1.0}, "retry_after_s = -1.0"),
    ("capacity-limit", {"latency_s": -1.0}, "latency_s = -1.0"),
]


@pytest.mark.parametrize(("fault", "parameters", "message"), BAD)
def test_a_bad_parameter_is_refused_by_the_constructor(fault: str, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(FaultError) as caught:
        lookup(fault)(**parameters)
    assert message in str(caught.value)


def test_words_of_statuses() -> None:
    assert Status.parse("rate-limited") is Status.RATE_LIMITED
    assert Verb.parse(Verb.JUDGE) is Verb.JUDGE
    assert Status.BAD_GATEWAY.word == "bad-gateway"
    with pytest.raises(FaultError, match="3 is not a verb; allowed: launch, repair, judge, escalate"):
        Verb.parse(3)


def test_every_effect_survives_replace_and_comparison() -> None:
    for name, cls in registered_faults().items():
        effect = cls()
        assert replace(effect) == effect, name  # pyright: ignore[reportArgumentType]
        if isinstance(effect, CallEffect):
            assert effect.serves(SERVICES) is None
