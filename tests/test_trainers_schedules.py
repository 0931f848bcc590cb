"""Schedules: what the grammar means, and what it refuses."""

from __future__ import annotations

import math

import pytest

from brownout.errors import PolicyError
from brownout.trainers.ppo import PPOConfig
from brownout.trainers.schedules import Schedule
from brownout.trainers.sweep import plan_trials, read_sweep


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0.8", [0.8, 0.8, 0.8, 0.8, 0.8]),
        ("0:1@0.5", [0.0, 0.5, 1.0, 1.0, 1.0]),
        ("0.25:1.5@1", [0.25, 0.5625, 0.875, 1.1875, 1.5]),
        ("1:0@0.25:2@0.75", [1.0, 0.0, 1.0, 2.0, 2.0]),
        ("0/0.5@0.25/1@0.75", [0.0, 0.5, 0.5, 1.0, 1.0]),
    ],
)
def test_a_schedule_means_what_its_text_says(text: str, values: list[float]) -> None:
    schedule = Schedule.parse(text)
    assert [schedule.at(share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)] == pytest.approx(values)
    assert str(schedule) == text
    assert Schedule.parse(str(schedule)) == schedule
    assert schedule.range == (min(p[1] for p in schedule.points), max(p[1] for p in schedule.points))


def test_data_and_text_are_the_same_schedule() -> None:
    assert Schedule.parse({"linear": [[0, 0.25], [0.6, 1.5]]}) == Schedule.parse("0.25:1.5@0.6")
    assert Schedule.parse({"steps": [[0, 0], [0.3, 1]]}) == Schedule.parse(" 0 / 1@0.3 ")
    assert Schedule.parse(0.5) == Schedule.parse("0.5") == Schedule.parse("0.50")


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("", "write a number"),
        ("high", "write a number"),
        ("0:1", "cannot read ':1'"),
        ("0:1@0.5x", "cannot read 'x'"),
        ("-1:1@0.5", "write a number"),
        ("0:1@0.5/2@0.7", "mixes"),
        ("0:1@0.5:2@0.4", "must rise"),
        ("0:1@1.5", "at most 1"),
        ("0:1@0", "must rise"),
        (True, "write a number"),
        (math.nan, "write a number"),
        (None, "write a number"),
        ([0, 1], "write a number"),
        ({}, "as data"),
        ({"linear": [[0, 1]], "steps": []}, "as data"),
        ({"curve": [[0, 1]]}, "as data"),
        ({"linear": [[0, "1"]]}, "must be numbers"),
        ({"linear": [[0.1, 1]]}, "rise from 0"),
        ({"linear": [0, 1]}, "as data"),
    ],
)
def test_anything_else_is_refused(bad: object, said: str) -> None:
    with pytest.raises(PolicyError, match=said):
        Schedule.parse(bad)


def test_a_configuration_keeps_schedules_as_text_and_checks_their_range() -> None:
    config = PPOConfig(fault_share=0.5, intensity={"linear": [[0, 0], [1, 1]]})  # type: ignore[arg-type]
    assert (config.fault_share, config.intensity) == ("0.5", "0:1@1")
    assert config.curriculum
    assert not PPOConfig(fault_share="1.0", intensity=1).curriculum  # type: ignore[arg-type]
    with pytest.raises(PolicyError, match=r"option fault_share: '0:2@0.5', must stay from 0 to 1"):
        PPOConfig(fault_share="0:2@0.5")
    with pytest.raises(PolicyError, match=r"option intensity: got 'much'"):
        PPOConfig(intensity="much")
    with pytest.raises(PolicyError, match="one of auto, regret, value-loss"):
        PPOConfig(replay_score="luck")


def test_a_sweep_can_vary_them() -> None:
    sweep = read_sweep({"fault_share": [1, "0:1@0.5"], "replay": [0, 0.5]})
    trials = plan_trials(PPOConfig(), 1, sweep)
    assert {(t.config.fault_share, t.config.replay) for t in trials} == {
        ("1", 0), ("1", 0.5), ("0:1@0.5", 0), ("0:1@0.5", 0.5),
    }  # fmt: skip
    assert len({trial.name for trial in trials}) == 4
    with pytest.raises(PolicyError, match="value 2 of fault_share"):
        read_sweep({"fault_share": [1, "0:1"]})
