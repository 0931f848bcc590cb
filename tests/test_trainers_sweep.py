"""Sweeps: what a file may say, and which trainings come of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from brownout.errors import PolicyError
from brownout.trainers.ppo import PPOConfig
from brownout.trainers.sweep import plan_trials, read_sweep

EXAMPLE = Path(__file__).parent.parent / "examples" / "sweep.yaml"


def test_the_example_gives_the_trainings_it_announces() -> None:
    trials = plan_trials(PPOConfig(), 2, read_sweep(EXAMPLE))
    assert len(trials) == len({trial.name for trial in trials}) == 8
    assert trials[0].config == PPOConfig(learning_rate=1e-3, entropy=0.003, seed=0)
    assert trials[-1].config == PPOConfig(learning_rate=3e-3, entropy=0.01, seed=1)


def test_layers_become_tuples_and_text_numbers_become_numbers(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text("learning_rate: [1e-3, 3e-4]\nhidden: [[32], [64, 64]]\n")
    sweep = read_sweep(file)
    assert sweep == {"learning_rate": [1e-3, 3e-4], "hidden": [(32,), (64, 64)]}
    names = [trial.name for trial in plan_trials(PPOConfig(seed=7), 1, sweep)]
    assert names[-1] == "learning_rate=0.0003,hidden=64x64,seed=7"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rat: [0.1]", r"sweep.yaml:1: unknown training option 'learning_rat'; did you mean 'learning_rate'"),
        ("lanes: [64]\nlearning_rate: 0.1", r"sweep.yaml:2: learning_rate: got 0.1; allowed: a list of values"),
        ("lanes: []", r"lanes: got \[\]; allowed: a list of values"),
        ("lanes: [64, 0]", r"sweep.yaml:1: value 2 of lanes: training option lanes: 0, must be a whole number from 1"),
        ("lanes: [fast]", r"value 1 of lanes: training option lanes: 'fast', must be a whole number"),
        ("entropy: [0.1, 1e-1]", r"entropy: 0.1 is there twice"),
        ("lanes: [1]\nlanes: [2]", r"sweep.yaml:2: option 'lanes' is there twice"),
        ("- lanes", r"a sweep maps training options to lists of values, got \['lanes'\]"),
        ("", r"a sweep maps training options to lists of values, got None"),
        ("lanes: [1", r"sweep.yaml: not a readable YAML file: .*line"),
    ],
)
def test_a_bad_sweep_names_line_option_and_value(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(text)
    with pytest.raises(PolicyError, match=message):
        read_sweep(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"nowhere.yaml: not a readable YAML file: .*No such file"):
        read_sweep(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("seeds", "sweep", "message"),
    [
        (0, None, "seeds: 0, must be 1 or more"),
        (2, {"seed": [1, 2]}, "the sweep names its seeds itself"),
        (1001, None, "more than 1000 trials"),
    ],
)
def test_impossible_plans_are_refused(seeds: int, sweep: Any, message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        plan_trials(PPOConfig(), seeds, sweep)


def test_a_sweep_may_name_its_seeds() -> None:
    assert [t.config.seed for t in plan_trials(PPOConfig(), 1, {"seed": [3, 5]})] == [3, 5]
