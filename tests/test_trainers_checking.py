"""`brownout scenarios check`: what it finds in scenarios that are unfit."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from brownout.envs.router_core import RouterCore
from brownout.errors import ScenarioError
from brownout.scenarios import load_scenario
from brownout.trainers.checking import CheckReport, check_scenario


def check(*overrides: str, name: str = "support-desk", **options: Any) -> CheckReport:
    return check_scenario(load_scenario(name, overrides), episodes=60, **options)


def test_a_good_scenario_passes_with_its_figures() -> None:
    report = check()
    assert report.ok
    assert report.problems == ()
    assert [p.profile for p in report.profiles] == ["clean", "production", "hostile"]
    clean, production, _ = report.profiles
    assert clean.faults == ()
    assert clean.calls > 60
    assert {rate.id for rate in production.faults} >= {"outage#0", "rate-limit#0", "judge-drift#0"}
    assert sum(rate.strikes for rate in production.faults) > 0
    assert clean.utilities["null"] == 0.0
    assert clean.utilities[clean.best] > 0.0
    assert 0.0 <= report.unsolvable < 0.05
    assert json.loads(json.dumps(report.to_dict()))["ok"] is True
    assert "support-desk" in report.to_text()
    assert "production" in report.to_text()


def test_strikes_are_counted_per_call() -> None:
    report = check("profiles.production=[{fault: malformed-body, when: 'rate(0.2)'}]", profiles=["production"])
    (rate,) = report.profiles[0].faults
    assert rate.id == "malformed-body#0"
    # the judge's calls count too and are not struck
    assert 5.0 < rate.per_100_calls < 21.0
    assert rate.per_100_calls == pytest.approx(100.0 * rate.strikes / report.profiles[0].calls, abs=1e-3)


def test_limits_that_no_call_fits_into_are_problems() -> None:
    assert any(
        "limits.budget_usd" in p and "cheapest" in p for p in check("limits.budget_usd=0.00001", profiles=[]).problems
    )
    assert any(
        "limits.deadline_s" in p and "fastest" in p for p in check("limits.deadline_s=0.001", profiles=[]).problems
    )
    assert not check("limits.budget_usd=0.00001", "limits.on_budget=soft", profiles=[]).problems
    assert any(
        "mean latency" in note and "frontier" in note for note in check("limits.deadline_s=5", profiles=[]).notes
    )


def test_a_dominated_configuration_is_noted() -> None:
    notes = check("portfolio.vain={family: b, skill: -2, cost_usd: 0.5, latency_s: 100}", profiles=[]).notes
    assert any("portfolio.vain is dominated by" in note for note in notes)
    assert not any("dominated" in note for note in check(profiles=[]).notes)


def test_a_scenario_in_which_nothing_pays_is_a_problem() -> None:
    report = check("reward.per_usd=1000", profiles=["clean"])
    assert not report.ok
    assert "no baseline beats doing nothing" in report.problems[0]


def test_tasks_beyond_everybody_are_counted() -> None:
    report = check("tasks.difficulty={faq: [-1, 0.5], account: [0, 0.5], contract: [40, 0.1]}", profiles=[])
    assert report.unsolvable == pytest.approx(0.2, abs=0.05)


def test_a_fault_that_never_strikes_is_noted() -> None:
    report = check("profiles.production=[{fault: refusal, when: 'after(1000000)'}]", profiles=["production"])
    assert report.ok
    assert any("never struck" in note and "refusal#0" in note for note in report.notes)


def test_an_observation_out_of_range_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = RouterCore.observe

    def broken(self: RouterCore, lanes: Any = None) -> Any:
        rows = honest(self, lanes)
        rows[0, -1] = np.nan
        return rows

    monkeypatch.setattr(RouterCore, "observe", broken)
    report = check(profiles=["clean"])
    assert any("leaves its range" in p and "frontier.retry_in" in p for p in report.problems)


def test_an_exception_is_reported_and_not_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: RouterCore, rows: Any, j: int) -> None:
        raise RuntimeError("judge on strike")

    monkeypatch.setattr(RouterCore, "_judge", broken)
    report = check()
    assert not report.ok
    assert len(report.problems) == 3
    assert all("RuntimeError: judge on strike" in problem for problem in report.problems)


def test_a_missing_table_is_a_problem_and_an_invalid_scenario_an_error() -> None:
    data = {
        "version": 1,
        "name": "replay",
        "tasks": {"table": "gone.csv"},
        "portfolio": {"m": None},
        "profiles": {"clean": []},
    }
    report = check_scenario(data, episodes=10)
    assert not report.ok
    assert "gone.csv" in report.problems[0]
    assert report.to_dict()["unsolvable"] is None
    with pytest.raises(ScenarioError):
        check_scenario("no-such-scenario")


def test_the_same_check_gives_the_same_report() -> None:
    assert check(profiles=["production"]) == check(profiles=["production"])
