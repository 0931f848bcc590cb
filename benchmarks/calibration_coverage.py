"""How often do the stated intervals of `calibrate` contain the truth, and does that hold with 100 queries?

    python benchmarks/calibration_coverage.py [--draws 100] [--queries 100] [--repeats 4] [--classes] [--mcpmark FILE]

Tables are played in a known scenario through the environment, faults and judge included, and calibrated; the share
of 95 % intervals that contain the true parameter is printed per kind of parameter, with its binomial interval.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from brownout.scenarios import RouterScenario, load_scenario
from brownout.scenarios.calibration import calibrate
from brownout.trainers.goodness import goodness_of_fit, play_calls
from brownout.trainers.statistics import proportion

TRUTH: dict[str, Any] = {
    "version": 1,
    "name": "known",
    "env": "router",
    "tasks": {"classes": {"all": 1.0}, "difficulty": {"all": [0.0, 1.5]}, "family_sd": 0.7, "configuration_sd": 1.0},
    "portfolio": {
        "a-small": {"family": "a", "skill": -1.0, "cost_usd": {"median": 0.01, "p95": 0.04}, "latency_s": 2.0},
        "a-large": {"family": "a", "skill": 0.5, "cost_usd": {"median": 0.05, "p95": 0.2}, "latency_s": 5.0},
        "a-max": {"family": "a", "skill": 1.2, "cost_usd": {"median": 0.1, "p95": 0.3}, "latency_s": 9.0},
        "b-small": {"family": "b", "skill": -0.5, "cost_usd": {"median": 0.02, "p95": 0.06}, "latency_s": 3.0},
        "b-large": {"family": "b", "skill": 0.9, "cost_usd": {"median": 0.08, "p95": 0.3}, "latency_s": 6.0},
        "b-max": {"family": "b", "skill": 1.5, "cost_usd": {"median": 0.2, "p95": 0.6}, "latency_s": 20.0},
    },
    "judge": {"true_positive": 0.9, "false_positive": 0.2},
    "profiles": {
        "production": [
            {"fault": "server-error", "code": 500, "when": "rate(0.08) & on('a-large')"},
            {"fault": "timeout", "after_s": 60, "applied": 1.0, "when": "sticky(0.15) & rate(0.5) & on('b-max')"},
        ]
    },
}
CLASSES = {
    "tasks.classes": "{easy: 0.5, hard: 0.5}",
    "tasks.difficulty": "{easy: [-1.0, 1.5], hard: [1.0, 1.5]}",
    "portfolio.a-small.skill": "{easy: -0.6, hard: -1.4}",
    "portfolio.b-max.skill": "{easy: 1.1, hard: 1.9}",
}
FAULTS = {"fault.a-large.server-error": 0.08, "fault.b-max.timeout": 0.15 * 0.5}


def true_values(scenario: RouterScenario) -> dict[str, float]:
    """The parameters of a scenario under the names of the intervals."""
    tasks: Any = scenario.tasks
    names = list(tasks.classes)
    values = {"family_sd": tasks.family_sd, "configuration_sd": tasks.configuration_sd}
    values["difficulty_sd"] = tasks.difficulty[names[0]][1]
    for k, entry in scenario.portfolio.items():
        for i, c in enumerate(names):
            skill: Any = entry.skill
            label = f"g{i}" if len(names) > 1 else "all"
            values[f"margin.{k}.{label}"] = (skill[c] if isinstance(skill, dict) else skill) - tasks.difficulty[c][0]
        assert entry.cost_usd is not None
        values[f"cost_usd.{k}"] = entry.cost_usd.table().mean
    assert scenario.judge is not None
    values["judge.true_positive"] = scenario.judge.true_positive
    values["judge.false_positive"] = scenario.judge.false_positive
    return {**values, **FAULTS}


def judged(columns: dict[str, list[Any]], scenario: RouterScenario, seed: int) -> dict[str, list[Any]]:
    """Add the verdicts of the scenario's judge on every run."""
    assert scenario.judge is not None
    right = np.array(columns["success"], dtype=bool)
    chance = np.where(right, scenario.judge.true_positive, scenario.judge.false_positive)
    return {**columns, "judge_accept": (np.random.default_rng(seed).random(len(right)) < chance).astype(int).tolist()}


def draws(
    scenario: RouterScenario, number: int, queries: int, repeats: int, first: int = 0
) -> Iterator[dict[str, Any]]:
    """Per draw: which true values the intervals contain, and the estimates."""
    truth = true_values(scenario)
    classes = len(scenario.tasks.classes) > 1  # type: ignore[union-attr]
    for draw in range(first, first + number):
        columns = judged(play_calls(scenario, queries, repeats, seed=draw + 1).to_columns(), scenario, draw)
        found = calibrate(columns, class_column="group" if classes else None, families=families(scenario))
        intervals = found.uncertainty
        yield {
            name: (
                intervals[name].covers(value),
                intervals[name].value - value,
                intervals[name].high - intervals[name].low,
            )
            for name, value in truth.items()
            if name in intervals
        }


def families(scenario: RouterScenario) -> dict[str, str]:
    return {name: entry.family for name, entry in scenario.portfolio.items()}


def kind(name: str) -> str:
    return ".".join(name.split(".")[:2]) if name.startswith("judge") else name.split(".")[0]


def report(rows: list[dict[str, Any]]) -> bool:
    """Print coverage per kind of parameter; whether none is far below 95 %."""
    kinds: dict[str, list[tuple[int, bool, float, float]]] = {}
    for draw, row in enumerate(rows):
        for name, (covered, error, width) in row.items():
            kinds.setdefault(kind(name), []).append((draw, covered, error, width))
    print(f"{'parameter':24} {'coverage':>9} {'interval':>17} {'bias':>8} {'median width':>13}")
    fine = True
    for name, found in kinds.items():
        estimate = proportion([c for _, c, _, _ in found], clusters=[d for d, _, _, _ in found])
        widths = [w for *_, w in found]
        bias = np.mean([e for _, _, e, _ in found])
        interval = f"[{estimate.low:.3f}, {estimate.high:.3f}]"
        print(f"{name:24} {estimate.value:9.3f} {interval:>17} {bias:+8.3f} {np.median(widths):13.3f}")
        fine &= estimate.high >= 0.93
    return fine


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--classes", action="store_true", help="two classes of queries with skills of their own")
    parser.add_argument("--mcpmark", type=Path, help="also calibrate this table and print its goodness of fit")
    options = parser.parse_args(arguments)
    changes = [f"{key}={value}" for key, value in CLASSES.items()] if options.classes else []
    scenario = load_scenario(TRUTH, changes)
    assert isinstance(scenario, RouterScenario)
    start = time.perf_counter()
    rows = list(draws(scenario, options.draws, options.queries, options.repeats))
    seconds = time.perf_counter() - start
    print(f"{options.draws} tables of {options.queries} queries x {len(scenario.portfolio)} configurations x "
          f"{options.repeats} runs, {seconds / options.draws:.2f} s each")  # fmt: skip
    fine = report(rows)
    if options.mcpmark is not None:
        best = ["gpt-5-2-high", "gemini-3-pro-high", "gpt-5-medium", "claude-opus-4-5-high", "grok-4-fast",
                "deepseek-v3-2-thinking"]  # fmt: skip
        goodness = goodness_of_fit(calibrate(options.mcpmark, configs=best))
        for name in ("success", "cost_usd", "latency_s", "alike"):
            inside, total = goodness.inside(name)
            print(f"mcpmark {name}: {inside} of {total} in the recorded interval")
            fine &= name == "alike" or inside == total
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
