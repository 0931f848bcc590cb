"""The figures of a stress run, against rows whose answer can be counted by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brownout.trainers import statistics
from brownout.trainers.stress_metrics import MEANS, QUANTILES, Sample, differences, figures
from brownout.trainers.stress_report import StressReport
from brownout.trainers.stress_rows import EpisodeRow, row_from
from brownout.trainers.stress_summary import summarise

ABOUT = {
    "version": "0", "agent": "a:b", "scenario": "refund", "scenario_hash": "h", "profile": "production",
    "intensity": 1.0, "split": "eval", "seed": 0, "episodes": 4,
}  # fmt: skip


def row(condition: str, episode: int, outcome: str = "success", **given: Any) -> EpisodeRow:
    effects = given.pop("struck", ())
    data = {
        "scenario": "refund", "scenario_hash": "h", "profile": "production", "split": "eval", "seed": 0,
        "intensity": 0.0 if condition == "clean" else 1.0, "condition": condition, "episode": episode,
        "valid": outcome != "harness_error", "outcome": outcome, "success": outcome == "success",
        "utility": 1.0 if outcome == "success" else -1.0, "cost_usd": 0.1, "latency_s": 10.0, "calls": 5,
        "agent_outcome": "finished", "wall_s": 0.0,
        "injections": [{"effect": name, "family": "services"} for name in effects],
    }  # fmt: skip
    return row_from(data | given, "row")


def summary(
    rows: list[EpisodeRow], repeats: int = 1, conditions: tuple[str, ...] = ("clean", "faulted")
) -> StressReport:
    return summarise(
        rows, ABOUT, conditions, repeats=repeats, planned=len(rows), folder=Path("run"), stopped=None, notes=(),
        wall_s=0.0,
    )  # fmt: skip


def test_paired_differences_are_faulted_minus_clean_episode_by_episode() -> None:
    rows = [row("clean", e) for e in range(10)]
    rows += [row("faulted", e, "success" if e < 6 else "silent_garbage", cost_usd=0.1 + 0.01 * e) for e in range(10)]
    report = summary(rows)
    assert report.paired["success"].value == pytest.approx(-0.4)
    assert report.paired["utility"].value == pytest.approx(-0.8)
    assert report.paired["silent_garbage"].value == pytest.approx(0.4)
    assert report.paired["cost_usd"].value == pytest.approx(0.045)
    # by hand: f12 = 0, f21 = 4, n = 10: -5/12 + 1/12 ... of Bonett and Price
    gap, spread = (1 - 5) / 12, 1.959964 * math.sqrt((6 / 12 - (4 / 12) ** 2) / 12)
    assert report.paired["success"].low == pytest.approx(gap - spread, abs=1e-6)
    assert report.paired["success"].high == pytest.approx(gap + spread, abs=1e-6)
    assert report.outcomes["faulted"] == {"silent_garbage": 4, "success": 6}
    assert list(report.outcomes["faulted"]) == ["silent_garbage", "success"]  # the silent ones first


def test_every_metric_of_the_contract_is_there() -> None:
    rows = [row(c, e, repeat=r) for c in ("clean", "faulted") for e in range(4) for r in range(3)]
    report = summary(rows, repeats=3)
    wanted = {*MEANS, *QUANTILES, "pass@1", "pass@2", "pass@3", "pass^2", "pass^3", "recovery"}
    assert set(report.conditions["clean"]) == set(report.conditions["faulted"]) == wanted
    assert set(report.paired) == wanted - {"recovery"}
    assert {"killed", "hang", "loop", "crash", "limit", "latency_s.p99", "cost_usd.p95"} <= wanted
    for figure in report.conditions["clean"].values():
        assert figure.unit
        assert figure.better in ("higher", "lower")


def test_pass_hat_k_is_unbiased_and_undefined_without_enough_repeats() -> None:
    won = {0: (1, 1, 1), 1: (1, 1, 0), 2: (1, 0, 0), 3: (0, 0, 0)}
    rows = [
        row("faulted", e, "success" if hit else "partial", repeat=r) for e, hits in won.items()
        for r, hit in enumerate(hits)
    ]  # fmt: skip
    found = figures(Sample(rows), 3)
    assert found["pass@1"].value == pytest.approx(0.5)
    assert found["pass^2"].value == pytest.approx((1 + 1 / 3 + 0 + 0) / 4)
    assert found["pass^3"].value == pytest.approx(0.25)
    assert found["pass@2"].value == pytest.approx((1 + 1 + 2 / 3 + 0) / 4)
    assert found["pass@3"].value == pytest.approx(0.75)
    assert found["success"].n == 12
    alone = statistics.proportion([1] * 6 + [0] * 6)
    assert found["success"].high - found["success"].low > alone.high - alone.low  # repeats are no new episodes
    lost = [one for one in rows if (one.episode, one.repeat) != (0, 2)]
    found = figures(Sample(lost), 3)
    assert found["pass^3"].n == 3
    assert found["pass^3"].value == 0.0
    assert found["pass^2"].n == 4


def test_an_effect_is_charged_with_the_episodes_that_it_struck() -> None:
    rows = [row("clean", e) for e in range(10)]
    fate = {0: ("silent_garbage", ["timeout"]), 1: ("success", ["timeout"]), 2: ("partial", ["typo", "timeout"]),
            3: ("success", ["slow-response", "slow-response"])}  # fmt: skip
    rows += [row("faulted", e, fate.get(e, ("success", []))[0], struck=fate.get(e, ("", []))[1]) for e in range(10)]
    report = summary(rows)
    effects = {one.effect: one for one in report.effects}
    assert [one.effect for one in report.effects] == ["timeout", "typo", "slow-response"]
    assert effects["timeout"].struck == 3
    assert effects["timeout"].loss.value == pytest.approx(4 / 3)
    assert effects["timeout"].success_loss.value == pytest.approx(2 / 3)
    assert effects["timeout"].recovery.value == pytest.approx(1 / 3)
    assert effects["timeout"].outcomes == {"silent_garbage": 1, "partial": 1, "success": 1}
    assert effects["slow-response"].struck == 1  # twice in one episode is one episode
    assert effects["slow-response"].recovery.value == 1.0
    assert report.conditions["faulted"]["recovery"].value == pytest.approx(2 / 4)
    assert report.conditions["faulted"]["recovery"].n == 4


def test_an_effect_alone_ranks_by_what_it_costs_alone() -> None:
    rows = [row("clean", e) for e in range(6)]
    rows += [
        row("faulted", e, "partial" if e == 0 else "success", struck=["timeout", "typo"] if e == 0 else [])
        for e in range(6)
    ]
    rows += [row("only:timeout", e) for e in range(6)]
    rows += [row("only:typo", e, "partial" if e < 2 else "success") for e in range(6)]
    report = summary(rows, conditions=("clean", "faulted", "only:timeout", "only:typo"))
    assert [one.effect for one in report.effects] == ["typo", "timeout"]
    alone = {one.effect: one.alone for one in report.effects}
    assert alone["typo"] is not None
    assert alone["typo"].value == pytest.approx(2 / 3)
    assert alone["timeout"] is not None
    assert alone["timeout"].value == 0.0


def test_the_curve_holds_every_intensity_once() -> None:
    rows = [row("clean", e) for e in range(4)] + [row("faulted", e, "partial") for e in range(4)]
    rows += [row("intensity:0.5", e, "success" if e else "partial", intensity=0.5) for e in range(4)]
    report = summary(rows, conditions=("clean", "faulted", "intensity:0.5"))
    assert [(point.intensity, point.success.value) for point in report.intensity_curve] == [
        (0.0, 1),
        (0.5, 0.75),
        (1.0, 0),
    ]
    assert summary(rows[:8]).intensity_curve == ()


def test_the_worst_come_first_and_each_episode_once() -> None:
    rows = [row("clean", e, repeat=r) for e in range(30) for r in range(2)]
    rows += [row("faulted", e, "silent_garbage" if e < 20 else "success", repeat=r, utility=-e - r if e < 20 else 1.0)
             for e in range(30) for r in range(2)]  # fmt: skip
    worst = summary(rows, repeats=2).worst
    assert [(one.episode, one.repeat) for one in worst] == [(e, 1) for e in range(19, 9, -1)]
    assert worst[0].replay == "brownout replay run --episode 19 --seed 0 --repeat 1"


def test_episodes_without_a_score_are_counted_and_said_loudly() -> None:
    rows = [row("clean", e) for e in range(10)]
    rows += [row("faulted", e, "harness_error" if e < 2 else "success", utility=None, error="a bug") for e in range(10)]
    report = summary(rows)
    assert (report.planned, report.valid, report.invalid) == (20, 18, {"harness_error": 2})
    assert report.invalid_share == pytest.approx(0.1)
    assert report.notes[0].startswith("TOO MANY INVALID EPISODES: 2 of 20")
    assert report.conditions["faulted"]["success"].n == 8
    assert report.conditions["faulted"]["success"].value == 1.0  # no zero for what has no score
    assert report.paired["success"].n == 8
    few = [
        row(c, e, "harness_error" if (c, e) == ("clean", 0) else "success")
        for c in ("clean", "faulted")
        for e in range(60)
    ]
    assert "TOO MANY" not in summary(few).notes[0]


def test_a_run_without_a_score_has_no_figures_but_a_summary() -> None:
    report = summary([row(c, e, "harness_error", error="x") for c in ("clean", "faulted") for e in range(2)])
    assert report.valid == 0
    assert math.isnan(report.conditions["clean"]["success"].value)
    assert math.isnan(report.paired["cost_usd"].value)


def test_the_difference_of_a_quantile_is_resampled_in_pairs() -> None:
    u = np.linspace(1.0, 100.0, 200)
    a = Sample([row("faulted", e, latency_s=float(u[e] + 5.0)) for e in range(200)])
    b = Sample([row("clean", e, latency_s=float(u[e])) for e in range(200)])
    found, _ = differences(a, b, 1)["latency_s.p95"]
    assert (found.value, found.low, found.high) == pytest.approx((5.0, 5.0, 5.0))  # unpaired it would be +-10
    tail, _ = differences(a, b, 1)["latency_s.p99"]
    assert math.isnan(tail.low)  # 200 episodes say nothing of the 99th percentile's upper end


def test_the_interval_of_a_paired_share_covers_as_it_says() -> None:
    rng = np.random.default_rng(5)
    both, only_a, only_b = 0.55, 0.25, 0.1
    covered = 0
    for _ in range(2000):
        kind = rng.random(60)
        a = (kind < both) | ((kind >= both) & (kind < both + only_a))
        b = (kind < both) | ((kind >= both + only_a) & (kind < both + only_a + only_b))
        found = statistics.paired_proportion(a, b)
        covered += found.low <= only_a - only_b <= found.high
    assert 0.93 < covered / 2000 < 0.975


def test_the_interval_of_a_paired_share_is_never_empty() -> None:
    same = statistics.paired_proportion([1] * 50, [1] * 50)
    assert same.value == 0.0
    assert -0.1 < same.low < 0.0 < same.high < 0.1
    assert same.p_value == 1.0
    won = statistics.paired_proportion([1] * 10, [0] * 10)
    assert won.p_value == pytest.approx(2 / 2**10)
    with pytest.raises(ValueError, match="equally many"):
        statistics.paired_proportion([1], [1, 0])
    with pytest.raises(ValueError, match="allowed: 0 and 1"):
        statistics.paired_proportion([0.5], [1])
