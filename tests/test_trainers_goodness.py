"""Simulated beside recorded: the figures, their intervals, and the command that prints them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brownout.errors import TableError
from brownout.faults import Status
from brownout.scenarios import RouterScenario, load_scenario
from brownout.scenarios.calibration import Calibration, calibrate
from brownout.trainers.calibrate_command import read_prices, run_calibrate
from brownout.trainers.goodness import Check, goodness_of_fit, play_calls

KNOWN: dict[str, Any] = {
    "version": 1,
    "name": "known",
    "env": "router",
    "tasks": {"classes": {"all": 1.0}, "difficulty": {"all": [0.0, 1.5]}, "family_sd": 0.5, "configuration_sd": 1.0},
    "portfolio": {
        "a-small": {"family": "a", "skill": -1.0, "cost_usd": {"median": 0.01, "p95": 0.04},
                    "latency_s": {"median": 2, "p95": 6}},
        "a-large": {"family": "a", "skill": 1.0, "cost_usd": {"median": 0.05, "p95": 0.2},
                    "latency_s": {"median": 5, "p95": 20}},
        "b": {"family": "b", "skill": 0.3, "cost_usd": {"median": 0.02, "p95": 0.1},
              "latency_s": {"median": 3, "p95": 9}},
    },
    "limits": {"budget_usd": 0.01, "deadline_s": 0.5},
    "profiles": {"production": [{"fault": "server-error", "code": 500, "when": "rate(0.1) & on('b')"}]},
}  # fmt: skip


def known() -> RouterScenario:
    scenario = load_scenario(KNOWN)
    assert isinstance(scenario, RouterScenario)
    return scenario


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return calibrate(play_calls(known(), 120, 4, seed=5).to_columns())


def test_calls_are_those_of_the_scenario_whatever_its_limits() -> None:
    played = play_calls(known(), 3000, 3)
    assert played.right.shape == (3000, 3, 3)
    assert (played.status[:, :2] == Status.OK).all()
    assert (played.status[:, 2] == Status.SERVER_ERROR).mean() == pytest.approx(0.1, abs=0.02)
    assert not played.right[played.status != Status.OK].any()
    assert np.median(played.cost_usd[:, 1]) == pytest.approx(0.05, rel=0.05)
    assert np.median(played.latency_s[:, 0]) == pytest.approx(2.0, rel=0.05)
    assert (play_calls(known(), 3000, 3).right == played.right).all()
    assert (play_calls(known(), 3000, 3, seed=1).right != played.right).any()
    assert (play_calls(known(), 3000, 3, profile="clean").status == Status.OK).all()


def test_a_played_table_has_a_row_per_call() -> None:
    columns = play_calls(known(), 50, 2).to_columns(10)
    assert {len(values) for values in columns.values()} == {10 * 3 * 2}
    assert set(columns["failure_mode"]) <= {"", "wrong_result", "server-error"}


def test_a_fit_to_its_own_scenario_lies_in_the_recorded_intervals(calibration: Calibration) -> None:
    goodness = goodness_of_fit(calibration, episodes=3000, draws=200)
    for kind in ("success", "cost_usd", "latency_s", "alike"):
        inside, total = goodness.inside(kind)
        assert total >= 4
        assert inside >= total - 1
    assert {c.what for c in goodness.checks if c.kind == "success"} == {f"success@{n}" for n in range(1, 5)}
    assert [rival.ahead.low > 0.0 for rival in goodness.rivals] == [True, True]
    assert goodness.train + goodness.test == 120


def test_a_scenario_that_is_another_is_found_out(calibration: Calibration) -> None:
    from dataclasses import replace

    other = load_scenario(
        calibration.scenario, ["portfolio.b.skill=3", "portfolio.b.cost_usd=7", "tasks.configuration_sd=0"]
    )
    assert isinstance(other, RouterScenario)
    goodness = goodness_of_fit(replace(calibration, scenario=other), episodes=1500, draws=100, held_out=False)
    wrong = {(c.kind, c.config) for c in goodness.checks if not c.inside}
    assert {("success", "b"), ("cost_usd", "b")} <= wrong
    assert any(kind == "alike" for kind, _ in wrong)
    assert ("latency_s", "a-small") not in wrong
    assert goodness.rivals == ()


def test_a_check_outside_its_interval_says_so() -> None:
    assert Check("success", "x", "success@1", 0.5, 0.4, 0.6, 0.6).inside
    assert not Check("success", "x", "success@1", 0.5, 0.4, 0.6, 0.61).inside
    assert not Check("success", "x", "success@1", 0.5, float("nan"), float("nan"), 0.5).inside


def test_the_command_writes_prints_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    table = tmp_path / "runs.csv"
    columns = play_calls(known(), 60, 3, seed=2).to_columns()
    rows = zip(*columns.values(), strict=True)
    table.write_text(
        "\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)]) + "\n", encoding="utf-8"
    )
    out, picture = tmp_path / "mine.yaml", tmp_path / "mine.png"
    options: dict[str, Any] = {"configs": ["a-large", "b"], "mapping": None, "episodes": 500}
    assert run_calibrate(table, out, class_column=None, picture=picture, **options) == 0
    said = capsys.readouterr().out
    assert "held-out log-likelihood" in said
    assert "in the recorded interval" in said
    assert picture.stat().st_size > 10_000
    assert list(load_scenario(out).portfolio) == ["a-large", "b"]  # type: ignore[attr-defined]
    assert run_calibrate(table, out, class_column=None, as_json=True, bootstrap=3, **options) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["queries"] == 60
    assert data["parameters"]["family_sd"] == {"value": 0.0, "low": None, "high": None, "identified": False}
    assert {check["kind"] for check in data["goodness"]["checks"]} == {
        "success",
        "alike",
        "cost_usd",
        "latency_s",
        "effort",
    }


@pytest.mark.parametrize("text", ["- 1", "large: 3", "large: [1]", "large: [1, -2]", "large: [1, yes]"])
def test_bad_prices_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TableError, match=r"prices.yaml: .*allowed"):
        read_prices(path)
