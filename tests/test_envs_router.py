"""Physics of the router: episodes computed by hand, an independent simulation in plain Python, closed forms."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
from scipy import integrate, stats

from brownout.envs.quantiles import QuantileTable
from brownout.envs.router import RouterVectorEnv
from brownout.envs.router_core import RouterCore
from brownout.envs.streams import stream_id, uniform
from brownout.envs.trace import random_actions
from brownout.faults import CallEffect, Calls, Status, register_fault
from brownout.faults.registry import unregister_fault
from brownout.scenarios import load_scenario
from router_support import PER_S, Table, begin, column, portfolio, step_all, tiny

# ---------------------------------------------------------------- one call after the other


def test_launch_takes_no_time_and_costs_nothing_yet() -> None:
    table = Table()
    turn = table.do("launch:sure")
    assert turn.parts == dict.fromkeys(turn.parts, 0.0)
    assert (turn.reward, turn.terminated, turn.truncated, table.clock, table.spend) == (0.0, False, False, 0.0, 0.0)
    assert (table.see("running"), table.see("sure.running"), table.see("sure.launched")) == (1, 1, 1)
    assert table.see("best_value") == 0.0


def test_wait_bills_the_call_and_moves_the_clock() -> None:
    table = Table()
    turn = table.do("launch:sure", "wait")
    assert (turn.parts["cost_usd"], turn.parts["latency_s"]) == (0.25, 8.0)
    assert turn.reward == -0.25 - 8 * PER_S
    assert (table.clock, table.spend) == (8.0, 0.25)
    assert (table.see("running"), table.see("unjudged"), table.see("sure.candidates")) == (0, 1, 1)
    assert (table.see("clock"), table.see("spend"), table.see("budget_left")) == (8.0, 0.25, 15.75)
    assert (table.see("deadline_left"), table.see("sure.last_status")) == (1016.0, float(Status.OK))


def test_a_right_answer_judged_and_submitted() -> None:
    table = Table()
    judged = table.do("launch:sure", "wait", "judge")
    assert (judged.parts["cost_usd"], judged.parts["latency_s"]) == (0.03125, 1.0)
    assert (table.see("best_accepted"), table.see("sure.best_score"), table.see("unjudged")) == (1, 1, 0)
    turn = table.do("submit")
    assert (turn.reward, turn.outcome, turn.terminated) == (1.0, "success", True)
    assert (turn.parts["accuracy"], turn.parts["safety"], turn.parts["cost_usd"]) == (1.0, 0.0, 0.0)


def test_a_wrong_answer_is_rejected_and_costs_when_submitted() -> None:
    table = Table()
    table.do("launch:dud", "wait", "judge")
    assert (table.see("best_rejected"), table.see("dud.best_score")) == (1, 0)
    turn = table.do("submit")
    assert (turn.reward, turn.outcome) == (-0.5, "wrong_answer")
    assert (turn.parts["accuracy"], turn.parts["safety"]) == (0.0, 1.0)


def test_abstain_is_free() -> None:
    turn = Table().do("abstain")
    assert (turn.reward, turn.outcome, turn.terminated) == (0.0, "abstained", True)


def test_escalation_pays_the_person_and_scores_a_handoff() -> None:
    turn = Table().do("escalate")
    assert (turn.parts["cost_usd"], turn.parts["latency_s"], turn.parts["handoff"]) == (2.0, 128.0, 1.0)
    assert (turn.parts["accuracy"], turn.outcome) == (0.0, "escalated")
    assert turn.reward == 0.75 - 2.0 - 128 * PER_S


def test_a_person_who_errs_brings_no_handoff() -> None:
    turn = Table(tiny(person__accuracy=0.0)).do("escalate")
    assert (turn.parts["handoff"], turn.outcome, turn.reward) == (0.0, "escalated", -3.0)


def test_a_forbidden_action_uses_up_a_step() -> None:
    table = Table()
    before = table.see("steps_left")
    turn = table.do("submit")
    assert (turn.reward, turn.terminated, table.clock) == (0.0, False, 0.0)
    assert table.see("steps_left") == before - 1


# ---------------------------------------------------------------- repair


def test_repair_is_cheaper_and_mends_a_wrong_answer() -> None:
    table = Table()
    table.do("launch:dud", "wait", "judge", "repair")
    assert (table.see("dud.launched"), table.see("running")) == (2, 1)
    turn = table.do("wait")
    assert (turn.parts["cost_usd"], turn.parts["latency_s"]) == (0.0625 * 0.5, 2.0 * 0.25)
    assert (table.see("best_unjudged"), table.see("best_rejected")) == (1, 0)
    assert table.do("submit").outcome == "success"


def test_repair_can_break_a_right_answer_and_leaves_the_old_one() -> None:
    table = Table(tiny(repair__harm=1.0, portfolio__sure__max_calls=2))
    table.do("launch:sure", "wait", "repair", "wait")
    assert table.see("sure.candidates") == 2
    table.do("judge")  # the repaired one comes first, and it is wrong
    assert table.see("best_unjudged") == 1
    table.do("judge")  # the old one is still there, and it is right
    assert (table.see("best_accepted"), table.see("unjudged"), table.see("sure.best_score")) == (1, 0, 1)
    assert table.do("submit").outcome == "success"


def test_repair_without_luck_is_a_fresh_call() -> None:
    table = Table(tiny(repair__fix=0.0))
    assert table.do("launch:dud", "wait", "judge", "repair", "wait", "submit").outcome == "wrong_answer"


@pytest.mark.parametrize(("fix", "harm"), [(0.35, 0.1), (0.8, 0.5)])
def test_repair_rates(fix: float, harm: float) -> None:
    lanes = 20_000
    for skill, chance in ((-50.0, fix), (50.0, 1.0 - harm)):
        core = begin(tiny(portfolio=portfolio(one=skill), repair__fix=fix, repair__harm=harm), lanes)
        step_all(core, "launch:one", "wait", "repair", "wait")
        rate = float(core.right[:, 1].mean())
        assert abs(rate - chance) < 4 * math.sqrt(chance * (1 - chance) / lanes)


# ---------------------------------------------------------------- several calls at once


def test_parallel_calls_share_the_clock_and_arrive_in_order() -> None:
    table = Table()
    table.do("launch:slow", "launch:sure", "launch:dud")
    arrivals = [table.do("wait").parts for _ in range(3)]
    assert [part["latency_s"] for part in arrivals] == [2.0, 6.0, 56.0]
    assert [part["cost_usd"] for part in arrivals] == [0.0625, 0.25, 0.5]
    assert table.clock == 64.0


def test_a_call_launched_later_arrives_later() -> None:
    table = Table()
    table.do("launch:slow", "launch:sure", "wait", "launch:dud", "wait")
    assert table.clock == 10.0
    table.do("wait")
    assert table.clock == 64.0


def test_calls_run_on_while_the_judge_works() -> None:
    table = Table(tiny(judge__latency_s=30.0))
    table.do("launch:sure", "launch:dud", "wait", "judge")
    assert table.clock == 32.0
    turn = table.do("wait")
    assert (turn.parts["latency_s"], turn.parts["cost_usd"], table.clock) == (0.0, 0.25, 32.0)


def test_stopping_cancels_and_bills_the_share_of_the_time_run() -> None:
    for stop, extra in (("submit", 0.0), ("abstain", 0.0), ("escalate", 2.0)):
        table = Table()
        table.do("launch:slow", "launch:sure", "wait")
        turn = table.do(stop)
        assert turn.parts["cost_usd"] == 0.5 * 8 / 64 + extra
        assert table.core.status[0, 0] == Status.CANCELLED
        assert table.see("running") == 0


def test_a_call_cancelled_at_once_costs_nothing_or_its_cancel_share() -> None:
    assert Table().do("launch:sure", "abstain").parts["cost_usd"] == 0.0
    assert Table(tiny(limits__cancel_share=0.5)).do("launch:sure", "abstain").parts["cost_usd"] == 0.125
    table = Table(tiny(limits__cancel_share=0.5))
    turn = table.do("launch:slow", "launch:sure", "wait", "submit")
    assert turn.parts["cost_usd"] == 0.5 * (0.5 + 0.5 * 8 / 64)
    whole = Table(tiny(limits__cancel_share=1.0)).do("launch:slow", "launch:sure", "wait", "submit")
    assert whole.parts["cost_usd"] == 0.5


def test_a_person_begins_when_the_rest_is_cancelled() -> None:
    """What still runs is billed up to the moment of escalation, not until the person is done."""
    turn = Table().do("launch:slow", "launch:dud", "wait", "escalate")
    assert turn.parts["cost_usd"] == 0.5 * 2 / 64 + 2.0
    assert turn.parts["latency_s"] == 128.0


# ---------------------------------------------------------------- limits


def test_at_the_budget_the_charge_stops_and_the_episode_ends() -> None:
    table = Table(tiny(limits__budget_usd=0.3))
    turn = table.do("launch:sure", "wait", "launch:slow", "wait")
    assert (turn.terminated, turn.outcome) == (True, "limit")
    assert turn.parts["cost_usd"] == pytest.approx(0.05)
    assert table.spend == 0.3


def test_spending_exactly_the_budget_ends_the_episode() -> None:
    turn = Table(tiny(limits__budget_usd=0.25)).do("launch:sure", "wait")
    assert (turn.terminated, turn.outcome, turn.parts["cost_usd"]) == (True, "limit", 0.25)


def test_the_judge_can_exhaust_the_budget() -> None:
    table = Table(tiny(limits__budget_usd=0.26))
    turn = table.do("launch:sure", "wait", "judge")
    assert (turn.terminated, turn.outcome, table.spend) == (True, "limit", 0.26)


def test_cancelling_never_charges_beyond_the_budget() -> None:
    table = Table(tiny(limits__budget_usd=0.27))
    turn = table.do("launch:slow", "launch:sure", "wait", "submit")
    assert (turn.outcome, table.spend) == ("success", 0.27)
    assert turn.parts["cost_usd"] == pytest.approx(0.02)


def test_a_budget_mask_hides_calls_that_do_not_fit_with_what_is_running() -> None:
    table = Table(tiny(limits__budget_usd=0.6, limits__on_budget="mask"))
    assert {"launch:sure", "launch:dud", "launch:slow"} <= table.legal()
    table.do("launch:sure")
    assert {"launch:sure", "launch:dud"} <= table.legal()
    assert "launch:slow" not in table.legal()
    table.do("launch:sure")
    assert {name for name in table.legal() if name.startswith("launch")} == {"launch:dud"}
    table.do("wait", "abstain")
    free = Table(tiny(limits__budget_usd=0.6))
    free.do("launch:sure", "launch:sure")
    assert {"launch:sure", "launch:slow"} <= free.legal()


def test_a_soft_budget_is_no_ceiling() -> None:
    table = Table(tiny(limits__budget_usd=0.1, limits__on_budget="soft"))
    turn = table.do("launch:sure", "wait")
    assert (turn.terminated, table.spend, table.see("budget_left")) == (False, 0.25, 0.0)
    assert table.do("submit").outcome == "success"


def test_the_deadline_ends_the_episode_and_cancels() -> None:
    table = Table(tiny(limits__deadline_s=6.0))
    turn = table.do("launch:sure", "wait")
    assert (turn.terminated, turn.outcome, table.clock) == (True, "limit", 6.0)
    assert (turn.parts["cost_usd"], turn.parts["late_s"]) == (0.25 * 6 / 8, 0.0)


def test_finishing_on_the_deadline_is_in_time() -> None:
    table = Table(tiny(limits__deadline_s=8.0))
    assert not table.do("launch:sure", "wait").terminated
    assert table.do("submit").outcome == "success"


def test_the_judge_and_a_back_off_can_miss_the_deadline() -> None:
    table = Table(tiny(limits__deadline_s=8.5))
    turn = table.do("launch:slow", "launch:sure", "wait", "judge")
    assert (turn.outcome, table.clock) == ("limit", 8.5)
    assert turn.parts["cost_usd"] == 0.5 * 8.5 / 64 + 0.03125
    failing = {"fault": "server-error", "code": 500, "latency_s": 1.0, "when": "always"}
    table = Table(tiny(failing, limits__deadline_s=3.0))
    turn = table.do("launch:sure", "wait", "wait")
    assert (turn.outcome, table.clock) == ("limit", 3.0)


def test_a_soft_deadline_charges_late_seconds() -> None:
    table = Table(tiny(limits__deadline_s=5.0, limits__on_deadline="soft", reward__late_per_s=0.5))
    turn = table.do("launch:sure", "wait")
    assert (turn.terminated, turn.parts["latency_s"], turn.parts["late_s"]) == (False, 8.0, 3.0)
    assert turn.reward == -0.25 - 8 * PER_S - 3 * 0.5
    assert table.do("judge").parts["late_s"] == 1.0
    assert table.do("submit").parts["late_s"] == 0.0


def test_truncation_cancels_and_counts_as_limit() -> None:
    table = Table(tiny(limits__max_steps=3, limits__cancel_share=0.5))
    turn = table.do("launch:dud", "wait", "launch:slow")
    assert (turn.terminated, turn.truncated, turn.outcome) == (False, True, "limit")
    assert turn.parts["cost_usd"] == 0.25
    ends = Table(tiny(limits__max_steps=3)).do("launch:dud", "wait", "submit")
    assert (ends.terminated, ends.truncated, ends.outcome) == (True, False, "wrong_answer")


# ---------------------------------------------------------------- the mask


def test_what_is_legal_when() -> None:
    table = Table()
    launches = {"launch:sure", "launch:dud", "launch:slow"}
    assert table.legal() == {*launches, "escalate", "abstain"}
    table.do("launch:dud")
    assert table.legal() == {*launches, "wait", "escalate", "abstain"}
    table.do("wait")
    assert table.legal() == {*launches, "judge", "repair", "submit", "escalate", "abstain"}
    table.do("judge")
    assert table.legal() == {*launches, "repair", "submit", "escalate", "abstain"}


def test_services_that_a_scenario_lacks_are_never_legal() -> None:
    table = Table(tiny(judge=None, person=None, repair=None))
    table.do("launch:sure", "wait")
    assert not table.legal() & {"judge", "escalate", "repair"}


def test_calls_are_limited_per_configuration_in_all_and_at_once() -> None:
    table = Table(tiny(portfolio__dud__max_calls=2, limits__max_calls=4, limits__max_parallel=2))
    table.do("launch:dud", "launch:sure")
    assert not {name for name in table.legal() if name.startswith("launch")}
    table.do("wait")
    assert {"launch:dud", "launch:sure", "repair"} <= table.legal()
    table.do("launch:dud")
    table.do("wait")
    assert "launch:dud" not in table.legal()  # its second and last call has been used
    assert "repair" not in table.legal()  # a repair of dud's answer would be its third
    assert "launch:sure" in table.legal()
    table.do("wait", "launch:sure", "wait")
    assert not {name for name in table.legal() if name.startswith("launch")}  # four calls were made


# ---------------------------------------------------------------- which candidate is the best


def test_the_stronger_of_two_unjudged_answers_is_the_best() -> None:
    for order in (("launch:sure", "launch:dud"), ("launch:dud", "launch:sure")):
        table = Table()
        table.do(*order, "wait", "wait")
        assert table.see("best_strength") == pytest.approx(0.999)
        assert table.do("submit").outcome == "success"


def test_a_verdict_beats_strength_and_a_rejected_answer_comes_last() -> None:
    table = Table()
    table.do("launch:dud", "launch:sure", "wait", "judge")  # dud is rejected
    assert table.see("best_strength") == 0.0
    table.do("wait")
    assert (table.see("best_unjudged"), table.see("best_strength")) == (1, pytest.approx(0.999))
    lenient = Table(tiny(judge__false_positive=1.0))
    lenient.do("launch:dud", "launch:sure", "wait", "judge", "wait")  # dud is accepted, sure not judged
    assert (lenient.see("best_accepted"), lenient.see("best_strength")) == (1, 0.0)
    assert lenient.see("best_value") == pytest.approx(2 / 3)
    assert lenient.do("submit").outcome == "wrong_answer"


def test_the_judge_takes_the_best_answer_without_a_verdict() -> None:
    table = Table()
    table.do("launch:dud", "launch:sure", "wait", "wait", "judge")
    assert (table.see("sure.best_score"), table.see("dud.best_score"), table.see("unjudged")) == (1, -1, 1)
    table.do("judge")
    assert (table.see("dud.best_score"), table.see("best_accepted"), table.see("unjudged")) == (0, 1, 0)


@pytest.mark.parametrize(("true_positive", "false_positive"), [(0.93, 0.15), (0.6, 0.5)])
def test_judge_rates(true_positive: float, false_positive: float) -> None:
    lanes = 20_000
    scenario = tiny(judge__true_positive=true_positive, judge__false_positive=false_positive)
    for name, rate in (("sure", true_positive), ("dud", false_positive)):
        core = begin(scenario, lanes)
        step_all(core, f"launch:{name}", "wait", f"launch:{name}", "wait", "judge")
        first = column(core, f"{name}.best_score") == 1
        assert abs(first.mean() - rate) < 4 * math.sqrt(rate * (1 - rate) / lanes)
        before = core.value[:, 1].copy()
        step_all(core, "judge")
        assert (before >= 1.0).all()
        assert (before < 2.0).all()
        second = core.value[:, 1] >= 2.0
        assert abs(np.corrcoef(first, second)[0, 1]) < 4 / math.sqrt(lanes)  # verdicts are drawn afresh


def test_person_rate() -> None:
    core = begin(tiny(person__accuracy=0.7), 20_000)
    step_all(core, "escalate")
    share = core.components[:, core.component_names.index("handoff")].mean()
    assert abs(share - 0.7) < 4 * math.sqrt(0.21 / 20_000)


# ---------------------------------------------------------------- failures


@pytest.fixture
def busy_fault() -> Iterator[str]:
    """A fault that refuses a call after half a second and asks to come back seven seconds later."""

    @register_fault("test-busy")
    @dataclass(frozen=True)
    class Busy(CallEffect):
        wait_s: float = 7.0
        category: ClassVar[str] = "test"

        def strike(self, calls: Calls, draw: Any) -> None:
            calls.fail(Status.RATE_LIMITED, latency_s=0.5, retry_after_s=self.wait_s)

    yield "test-busy"
    unregister_fault("test-busy")


def test_a_failed_call_is_seen_is_free_and_leaves_no_candidate(busy_fault: str) -> None:
    table = Table(tiny({"fault": busy_fault, "when": "nth_call(1)"}))
    turn = table.do("launch:sure", "wait")
    assert (turn.parts["cost_usd"], turn.parts["latency_s"]) == (0.0, 0.5)
    assert (table.see("sure.failed"), table.see("sure.candidates")) == (1, 0)
    assert table.see("sure.last_status") == float(Status.RATE_LIMITED)
    assert (table.see("sure.since_failure"), table.see("sure.retry_in")) == (0.0, 7.0)
    assert "submit" not in table.legal()
    assert "wait" in table.legal()


def test_waiting_with_nothing_running_obeys_retry_after(busy_fault: str) -> None:
    table = Table(tiny({"fault": busy_fault, "when": "nth_call(1)"}))
    table.do("launch:sure", "wait", "wait")
    assert table.clock == 7.5
    assert (table.see("sure.retry_in"), table.see("sure.since_failure")) == (0.0, 7.0)
    assert table.do("launch:sure", "wait", "submit").outcome == "success"


def test_the_earliest_retry_time_is_waited_for(busy_fault: str) -> None:
    table = Table(
        tiny(
            {"fault": busy_fault, "wait_s": 20.0, "when": "nth_call(1) & on('sure')"},
            {"fault": busy_fault, "wait_s": 4.0, "when": "nth_call(1) & on('dud')"},
        )
    )
    table.do("launch:sure", "launch:dud", "wait", "wait", "wait")
    assert table.clock == 4.5
    table.do("wait")
    assert table.clock == 20.5
    table.do("wait")  # nothing known any more: the scenario's back-off
    assert table.clock == 23.5


def test_a_running_call_comes_before_a_retry_time(busy_fault: str) -> None:
    table = Table(tiny({"fault": busy_fault, "wait_s": 1.0, "when": "on('dud')"}))
    table.do("launch:sure", "launch:dud", "wait", "wait")
    assert table.clock == 8.0


def test_without_a_retry_time_waiting_backs_off() -> None:
    table = Table(tiny({"fault": "server-error", "code": 500, "latency_s": 1.0, "when": "nth_call(1)"}))
    table.do("launch:sure", "wait")
    assert (table.clock, table.see("sure.retry_in")) == (1.0, 0.0)
    table.do("wait")
    assert table.clock == 1.0 + 3.0


def test_a_judge_that_fails_leaves_the_answer_unjudged() -> None:
    fault = {"fault": "server-error", "code": 500, "latency_s": 0.25, "when": "nth_call(1) & on('judge')"}
    table = Table(tiny(fault))
    turn = table.do("launch:sure", "wait", "judge")
    assert (turn.parts["latency_s"], turn.parts["cost_usd"]) == (0.25, 0.0)
    assert (table.see("unjudged"), table.see("best_unjudged"), table.see("sure.best_score")) == (1, 1, -1)
    table.do("judge")
    assert table.see("best_accepted") == 1


# ---------------------------------------------------------------- preferences and shaping


def test_sampled_preferences_are_shown_and_decide() -> None:
    scenario = tiny(
        preferences={"per_usd": [0.5, 8.0], "per_s": [0.001, 0.1], "budget_usd": [0.125, 2.0], "deadline_s": [4, 64]}
    )
    core = begin(scenario, 500)
    per_usd, per_s = column(core, "per_usd").astype(float), column(core, "per_s").astype(float)
    budget, deadline = column(core, "budget_left").astype(float), column(core, "deadline_left").astype(float)
    for values, low, high in ((per_usd, 0.5, 8.0), (per_s, 0.001, 0.1), (budget, 0.125, 2.0), (deadline, 4, 64)):
        assert low <= values.min() < low * 1.2
        assert high / 1.2 < values.max() <= high
        assert stats.kstest(np.log(values / low) / math.log(high / low), "uniform").pvalue > 1e-3
    reward = step_all(core, "launch:sure", "wait")
    ran = np.minimum(deadline, 8.0)
    cost = np.where(deadline < 8.0, np.minimum(0.25 * ran / 8.0, budget), np.minimum(0.25, budget))
    np.testing.assert_allclose(reward, -per_usd * cost - per_s * ran, rtol=1e-5)
    assert np.array_equal(core.terminated, (deadline < 8.0) | (budget <= 0.25))
    fixed = begin(tiny(preferences={"per_usd": 3.0}), 2)
    assert column(fixed, "per_usd").tolist() == [3.0, 3.0]


def test_a_named_preference_is_also_shown_as_a_logarithm() -> None:
    wanted = {"per_usd": [0.01, 100.0], "deadline_s": [10, 1000]}
    core = begin(tiny(preferences=wanted), 200)
    shown = [c for c in core.observation_columns if c.name.startswith("log_")]
    assert [(c.name, c.unit) for c in shown] == [
        ("log_per_usd", "log10 utility/USD"), ("log_deadline_left", "log10 s"),
    ]  # fmt: skip
    step_all(core, "launch:dud", "wait")
    for name in ("per_usd", "deadline_left"):
        np.testing.assert_allclose(column(core, f"log_{name}"), np.log10(column(core, name)), atol=1e-6)
    for lane in (0, 123):
        alone = begin(tiny(preferences=wanted), 1)
        alone.seed(alone.all_lanes, [lane])
        alone.begin(alone.all_lanes)
        step_all(alone, "launch:dud", "wait")
        assert alone.observe()[0].tobytes() == core.observe()[lane].tobytes()
        assert core.observe(np.array([lane]))[0].tobytes() == core.observe()[lane].tobytes()


def test_fixing_a_sampled_preference_keeps_the_columns_and_naming_none_adds_none() -> None:
    def names(**changes: Any) -> list[str]:
        return [c.name for c in begin(tiny(**changes), 1).observation_columns]

    assert names(preferences={"per_usd": [0.5, 8.0]}) == names(preferences={"per_usd": 2.0})
    assert not any(name.startswith("log_") for name in names())
    nothing = begin(tiny(preferences={"per_s": 0.0, "deadline_s": 8.0}), 1)
    step_all(nothing, "launch:sure", "wait")
    assert column(nothing, "log_per_s").tolist() == [-6.0]
    assert column(nothing, "log_deadline_left").tolist() == [-6.0]


def test_shaping_pays_for_a_find_and_takes_it_back() -> None:
    scenario = tiny(shaping={"kind": "best-candidate", "weight": 0.6})
    gamma = 0.5
    shaped, plain = (RouterVectorEnv(2, scenario, "clean", shaping_gamma=g) for g in (gamma, None))
    for env in (shaped, plain):
        env.lane_reset([0, 1])
    extra = []
    for action in ("launch:sure", "wait", "judge", "submit"):
        chosen = np.full(2, shaped.action_names.index(action))
        extra.append(float((shaped.lane_step(chosen).reward - plain.lane_step(chosen).reward)[0]))
    unjudged, accepted = 0.6 * 1.999 / 3, 0.6 * 2.999 / 3
    expected = [0.0, gamma * unjudged, gamma * accepted - unjudged, -accepted]
    assert extra == pytest.approx(expected, rel=1e-6)
    assert sum(gamma**t * value for t, value in enumerate(extra)) == pytest.approx(0.0, abs=1e-7)


# ---------------------------------------------------------------- how often calls succeed


def chance(skill: float, mean: float, sd: float) -> float:
    """P(skill - difficulty + noise > 0) with normal difficulty and latents of joint deviation ``sd``."""
    if sd == 0.0:
        return float(stats.logistic.cdf(skill - mean))
    return float(integrate.quad(lambda x: stats.norm.pdf(x, mean, sd) * stats.logistic.cdf(skill - x), -30, 30)[0])


@pytest.mark.parametrize(
    ("difficulty", "family_sd", "configuration_sd"),
    [((0.3, 0.0), 0.0, 0.0), ((-0.5, 1.2), 0.0, 0.0), ((0.2, 0.5), 0.7, 1.5), ((0.0, 2.69), 0.8, 2.43)],
)
def test_success_rates_equal_the_closed_form(
    difficulty: tuple[float, float], family_sd: float, configuration_sd: float
) -> None:
    skills, lanes = {"low": -1.0, "mid": 0.4, "high": 2.0}, 40_000
    core = begin(
        tiny(
            portfolio=portfolio(**skills), tasks__difficulty={"only": list(difficulty)}, tasks__family_sd=family_sd,
            tasks__configuration_sd=configuration_sd,
        ),
        lanes,
    )  # fmt: skip
    sd = math.sqrt(difficulty[1] ** 2 + family_sd**2 + configuration_sd**2)
    step_all(core, "launch:low", "launch:mid", "launch:high")
    for k, skill in enumerate(skills.values()):
        expected = chance(skill, difficulty[0], sd)
        assert abs(core.right[:, k].mean() - expected) < 4 * math.sqrt(expected * (1 - expected) / lanes) + 1e-3


def phi(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a, b)[0, 1])


def test_repeats_of_a_configuration_agree_as_its_latents_say() -> None:
    lanes = 40_000
    both = {"one": 0.0, "two": 0.0}
    configs = portfolio(**both, far=0.0)
    configs["one"]["family"] = configs["two"]["family"] = "same"
    noise = 4 / math.sqrt(lanes)

    def repeats(family_sd: float, configuration_sd: float) -> tuple[float, float, float]:
        scenario = tiny(portfolio=configs, tasks__family_sd=family_sd, tasks__configuration_sd=configuration_sd)
        core = begin(scenario, lanes)
        step_all(core, "launch:one", "launch:one", "launch:two", "launch:far")
        right = core.right
        return phi(right[:, 0], right[:, 1]), phi(right[:, 0], right[:, 2]), phi(right[:, 0], right[:, 3])

    assert max(map(abs, repeats(0.0, 0.0))) < noise

    def agreement(sd: float) -> float:
        """Correlation of two calls that share a normal latent: Var(P(success | latent)) / (p (1 - p))."""
        square = integrate.quad(lambda x: stats.norm.pdf(x, 0, sd) * stats.logistic.cdf(x) ** 2, -30, 30)[0]
        return (square - 0.25) / 0.25

    own, sibling, stranger = repeats(0.0, 2.0)
    assert abs(own - agreement(2.0)) < noise
    assert own > 0.3
    assert max(abs(sibling), abs(stranger)) < noise
    own, sibling, stranger = repeats(1.5, 0.0)
    assert abs(own - agreement(1.5)) < noise
    assert abs(sibling - agreement(1.5)) < noise
    assert abs(stranger) < noise


def test_costs_and_latencies_follow_their_distributions() -> None:
    configs = portfolio(one=0.0)
    configs["one"] |= {"cost_usd": {"mean": 0.5, "spread": 0.7}, "latency_s": {"median": 3.0, "p95": 9.0}}
    core = begin(tiny(portfolio=configs, limits__budget_usd=100.0), 20_000)
    step_all(core, "launch:one", "wait")
    parts = dict(zip(core.component_names, core.components.T, strict=True))
    assert parts["cost_usd"].mean() == pytest.approx(0.5, rel=0.03)
    assert np.median(parts["latency_s"]) == pytest.approx(3.0, rel=0.03)
    assert np.quantile(parts["latency_s"], 0.95) == pytest.approx(9.0, rel=0.05)
    assert abs(phi(parts["cost_usd"], parts["latency_s"])) < 4 / math.sqrt(20_000)


def test_classes_come_in_their_shares_and_are_shown() -> None:
    scenario = tiny(
        tasks__classes={"easy": 3.0, "hard": 1.0}, tasks__difficulty={"easy": [-50, 0], "hard": [50, 0]},
        tasks__hint_sd=0.5, portfolio=portfolio(one=0.0),
    )  # fmt: skip
    core = begin(scenario, 8000)
    easy = column(core, "task.class.easy") == 1
    assert abs(easy.mean() - 0.75) < 4 * math.sqrt(0.75 * 0.25 / 8000)
    assert np.array_equal(column(core, "task.class.hard") == 1, ~easy)
    step_all(core, "launch:one")
    assert np.array_equal(core.right[:, 0], easy)
    noise = tiny(tasks__difficulty={"only": [1.0, 0.0]}, tasks__hint_sd=0.5)
    hint = column(begin(noise, 8000), "task.difficulty_hint")
    assert (hint.mean(), hint.std()) == (pytest.approx(1.0, abs=0.03), pytest.approx(0.5, abs=0.02))


# ---------------------------------------------------------------- an independent simulation


class Twin:
    """The rules of the router for one lane, in plain Python; draws come from the same named streams."""

    def __init__(self, core: RouterCore) -> None:
        self.core, self.spec = core, core.spec
        self.key = core.keys.copy()
        self.budget, self.deadline = (float(core.preferences[n][0]) for n in ("budget_usd", "deadline_s"))
        self.clock = self.spend = 0.0
        self.calls: list[dict[str, Any]] = []
        self.counts = [0] * core.num_configs
        self.judged, self.steps, self.outcome = 0, 0, ""

    def draw(self, stream: str, number: int) -> float:
        return float(uniform(self.key, stream_id(stream), number)[0])

    def side(self, name: str, service: Any, number: int) -> tuple[float, float, float]:
        def sample(table: QuantileTable, part: str) -> float:
            return float(table.sample(np.array([self.draw(f"{name}.{part}", number)]))[0])

        cost, latency = sample(service.cost_usd.table(), "cost"), sample(service.latency_s.table(), "latency")
        return cost, latency, self.draw(f"{name}.verdict", number)

    def rank(self, call: dict[str, Any]) -> tuple[int, float]:
        order = {"rejected": 0, "unjudged": 1, "accepted": 2}
        return order[call["verdict"]], float(self.core.strength[call["k"]])

    def candidates(self, *verdicts: str) -> list[dict[str, Any]]:
        return [c for c in self.calls if c["done"] and (not verdicts or c["verdict"] in verdicts)]

    def best(self) -> dict[str, Any]:
        return max(self.candidates(), key=self.rank)

    def open_calls(self) -> list[dict[str, Any]]:
        return [call for call in self.calls if not call["done"] and not call["dead"]]

    def launch(self, k: int, repair: dict[str, Any] | None = None) -> None:
        lane, number = np.array([0]), self.counts[k]
        found = self.core.source.call(lane, self.key, np.array([k]), np.array([number]))
        right, cost, latency = bool(found.right[0]), float(found.cost_usd[0]), float(found.latency_s[0])
        if repair is not None:
            rule, name = self.spec.repair, self.core.config_names[k]
            assert rule is not None
            if repair["right"]:
                right = self.draw(f"repair.{name}.harm", number) >= rule.harm
            else:
                right = right or self.draw(f"repair.{name}.fix", number) < rule.fix
            cost, latency = cost * rule.cost_factor, latency * rule.latency_factor
        self.counts[k] += 1
        call = {"k": k, "start": self.clock, "end": self.clock + latency, "cost": cost, "right": right}
        self.calls.append({**call, "done": False, "dead": False, "verdict": "unjudged"})

    def pay(self, cost: float) -> None:
        self.spend += cost
        if self.spend >= self.budget:
            self.spend = self.budget
            if not self.outcome:
                self.end("limit")

    def end(self, outcome: str) -> None:
        self.outcome = outcome
        due = self.spec.limits.cancel_share
        for call in self.open_calls():
            share = (min(self.clock, call["end"]) - call["start"]) / (call["end"] - call["start"])
            self.spend = min(self.spend + (due + (1 - due) * share) * call["cost"], self.budget)
            call["dead"] = True

    def act(self, action: str) -> tuple[float, float]:
        """Take an action; returns money and time it took."""
        clock, spend = self.clock, self.spend
        if action.startswith("launch:"):
            self.launch(self.core.config_names.index(action.removeprefix("launch:")))
        elif action == "repair":
            self.launch(self.best()["k"], self.best())
        elif action == "wait":
            call = min(self.open_calls(), key=lambda c: c["end"])
            until = max(call["end"], self.clock)
            if until > self.deadline:
                self.clock = self.deadline
                self.end("limit")
            else:
                self.clock = until
                call["done"] = True
                self.pay(call["cost"])
        elif action == "judge":
            judge = self.spec.judge
            assert judge is not None
            call = max(self.candidates("unjudged"), key=self.rank)
            cost, latency, u = self.side("judge", judge, self.judged)
            self.judged += 1
            if self.clock + latency > self.deadline:
                self.clock = self.deadline
                self.end("limit")
            else:
                self.clock += latency
                accept = u < (judge.true_positive if call["right"] else judge.false_positive)
                call["verdict"] = "accepted" if accept else "rejected"
            self.pay(cost)
        elif action == "submit":
            self.end("success" if self.best()["right"] else "wrong_answer")
        elif action == "escalate":
            self.end("escalated")
            cost, latency, _ = self.side("person", self.spec.person, 0)
            self.clock += latency
            self.spend += cost
        else:
            self.end("abstained")
        self.steps += 1
        return self.spend - spend, self.clock - clock

    def legal(self) -> set[str]:
        room = len(self.calls) < self.core.max_calls and len(self.open_calls()) < self.spec.limits.max_parallel
        entries = self.spec.portfolio.items()
        names = {
            f"launch:{name}" for k, (name, entry) in enumerate(entries) if room and self.counts[k] < entry.max_calls
        }
        if self.candidates():
            again = f"launch:{self.core.config_names[self.best()['k']]}"
            names |= {"submit"} | ({"repair"} if again in names else set())
        if self.candidates("unjudged"):
            names.add("judge")
        if self.open_calls():
            names.add("wait")
        return names | {"escalate", "abstain"}


@pytest.mark.parametrize(
    "overrides", [[], ["limits.cancel_share=0.3", "limits.deadline_s=12", "limits.budget_usd=0.2"]]
)
def test_every_step_equals_an_independent_simulation(overrides: list[str]) -> None:
    core = RouterCore(load_scenario("support-desk", overrides), 1, profile="clean")
    reward = load_scenario("support-desk").reward
    seen: dict[str, int] = {}
    for seed in range(120):
        core.seed(core.all_lanes, [seed])
        core.begin(core.all_lanes)
        twin, over = Twin(core), False
        while not over:
            mask = core.mask()
            names = {name for name, legal in zip(core.action_names, mask[0], strict=True) if legal}
            assert names == twin.legal()
            if uniform(core.keys, stream_id("stay"), core.steps)[0] < 0.8 and len(names) > 2:
                mask[0, -2:] = False  # longer episodes
            action = random_actions(core, mask)
            name = core.action_names[action[0]]
            core.advance(action)
            cost, time = twin.act(name)
            parts = dict(zip(core.component_names, core.components[0].tolist(), strict=True))
            assert (parts["cost_usd"], parts["latency_s"]) == pytest.approx((cost, time), abs=1e-9)
            assert (float(core.clock[0]), float(core.spend[0])) == pytest.approx((twin.clock, twin.spend), abs=1e-9)
            over = bool(core.terminated[0] or core.truncated[0])
            assert bool(core.terminated[0]) == bool(twin.outcome)
            if core.terminated[0]:
                outcome = core.outcome_names[core.outcome[0]]
                assert outcome == twin.outcome
                seen[outcome] = seen.get(outcome, 0) + 1
                value = {"success": 1.0, "wrong_answer": reward["wrong_answer"]}.get(outcome, 0.0)
                value += reward["handoff"] * parts["handoff"]
                paid = reward["per_usd"] * cost + reward["per_s"] * time
                assert core.reward[0] == pytest.approx(value - paid)
    wanted = {"success", "wrong_answer", "escalated", "abstained"} | ({"limit"} if overrides else set())
    assert wanted <= set(seen)


def test_a_finished_call_shows_what_it_cost_and_took_against_the_usual() -> None:
    dear = {
        "family": "a",
        "skill": -50.0,
        "cost_usd": {"low": 0.0, "high": 1.0},
        "latency_s": {"low": 2.0, "high": 6.0},
    }
    data = tiny(portfolio__dud=dear)
    table = Table(data, seed=3, profile="clean")
    assert (table.see("dud.last_cost"), table.see("dud.last_latency")) == (0.0, 0.0)
    table.do("launch:dud")
    assert table.see("dud.last_cost") == 0.0  # not before it has been paid for
    cost, latency = float(table.core.cost[0, 0]), float(table.core.finish[0, 0])
    table.do("wait")
    assert table.see("dud.last_cost") == pytest.approx(cost / (cost + 0.5), rel=1e-6)
    assert table.see("dud.last_latency") == pytest.approx(latency / (latency + 4.0), rel=1e-6)
    assert table.see("sure.last_cost") == 0.0
    table.do("launch:sure", "wait")
    assert (table.see("sure.last_cost"), table.see("sure.last_latency")) == (0.5, 0.5)  # exactly the usual


def test_a_call_that_ends_while_the_judge_works_shows_its_own_time() -> None:
    table = Table(tiny(judge__latency_s=100.0), profile="clean")
    table.do("launch:sure", "launch:dud", "wait", "judge", "wait")
    assert table.clock == 102.0
    assert table.see("sure.last_latency") == 0.5


def test_a_free_configuration_has_a_defined_ratio() -> None:
    table = Table(tiny(portfolio__sure__cost_usd=0.0, portfolio__sure__latency_s=0.0), profile="clean")
    table.do("launch:sure", "wait")
    assert (table.see("sure.last_cost"), table.see("sure.last_latency")) == (0.0, 0.0)
