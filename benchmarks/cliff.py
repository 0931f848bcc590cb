"""The cliff between demo and production on ``refund``, and a policy trained here that does not fall off it.

    python benchmarks/cliff.py [--seeds 3] [--steps N] [--episodes 10000] [--policy FOLDER] [--json]
                               [--imitate TEACHER] [--option NAME=VALUE ...] [--curriculum fault_share=0:1@0.4 ...]
                               [--set reward.handoff=0.6 ...]

Trains with ``brownout.train``, once per seed, with the options below (``--option`` and the like change them, as they do
in ``brownout train``), then plays the same held-out episodes clean and under ``production``. Printed are success, wrong
ends (garbage, or a duplicate, that nobody was told of), hand-overs, cost and quantiles of time, each with its 95 %
interval, and for each aim whether it is met, and whether the whole interval meets it. A benchmark is no test: the exit
status is 0 whatever the figures are.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import asdict, replace
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from rich.console import Console
from rich.table import Table

import brownout
from brownout.cli_options import ppo_config
from brownout.scenarios import load_scenario
from brownout.trainers.evaluation import PolicyResult
from brownout.trainers.statistics import Difference, Estimate, paired_difference, proportion
from brownout.trainers.tables import WRONG

# Imitation brings the level of the teacher, and its advice keeps the policy there. What a careful act is worth shows in
# one episode of a hundred, hence the large batches; exploration ends early, so that the policy settles.
RECIPE = (
    "imitate=double-check", "imitate_share=0.2", "imitate_weight=0.1:0.02@1", "lanes=2048", "minibatch=4096",
    "epochs=3", "entropy=0.01", "entropy_end=0", "entropy_until=0.6",
)  # fmt: skip
STEPS = 3_000_000
TEACHERS = ("playbook", "double-check")


def share_of(row: PolicyResult, *outcomes: str) -> Estimate:
    """Share of the episodes that ended in one of some ways, with its interval."""
    assert row.records is not None
    codes = [row.records.outcome_names.index(name) for name in outcomes if name in row.records.outcome_names]
    return proportion(np.isin(row.records.outcome, codes))


def figures(row: PolicyResult) -> dict[str, Estimate]:
    """What is printed of a policy."""
    return {
        "success": row.success, "wrong": share_of(row, *WRONG), "handed_over": share_of(row, "escalated"),
        "cost_usd": row.cost_usd, "p50_s": row.latency_quantiles["p50"], "p99_s": row.latency_quantiles["p99"],
        "utility": row.utility,
    }  # fmt: skip


def trained(arguments: argparse.Namespace, scenario: Any) -> dict[str, Any]:
    """The policies to measure, by name."""
    if arguments.policy is not None:
        return {"trained": arguments.policy}
    config = replace(ppo_config([*RECIPE, *arguments.option], arguments.curriculum), steps=arguments.steps)
    return {
        f"trained, seed {seed}": brownout.train(
            scenario, config=config, seed=seed, imitate=arguments.imitate, evaluate_every=5, progress=not arguments.json
        ).policy
        for seed in range(arguments.seed, arguments.seed + arguments.seeds)
    }


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train, evaluate clean and in production, and hold the figures against the aims."""
    scenario = load_scenario("refund", arguments.overrides)
    start = time.perf_counter()
    ours = trained(arguments, scenario)
    training_s = time.perf_counter() - start
    rules = {name: f"baseline:{name}" for name in ("happy-path", *TEACHERS)}
    profiles = {"clean": {"happy-path": rules["happy-path"]}, "production": rules | ours}
    tables = {
        profile: brownout.evaluate(policies, scenario, profile=profile, episodes=arguments.episodes)
        for profile, policies in profiles.items()
    }
    rows = {
        (profile, name): table.row(name) for profile, table in tables.items() for name in profiles[profile]
    }  # fmt: skip
    found = {key: figures(row) for key, row in rows.items()}
    demo, live = found["clean", "happy-path"], found["production", "happy-path"]
    rival = rows["production", "playbook"].records
    assert rival is not None
    aims = [
        ("the happy path succeeds in 95 % of clean episodes", *above(demo["success"], 0.95)),
        ("and in less than 80 % in production", *below(live["success"], 0.8)),
        ("with at least ten times the p99 of the time", live["p99_s"].value >= 10 * demo["p99_s"].value,
         live["p99_s"].low >= 10 * demo["p99_s"].high),
    ]  # fmt: skip
    for name in ours:
        mine, records = found["production", name], rows["production", name].records
        assert records is not None
        dearer = paired_difference(records.component("cost_usd"), rival.component("cost_usd"))
        aims += [
            (f"{name}: succeeds in 90 % in production", *above(mine["success"], 0.9)),
            (f"{name}: at no more than the playbook's cost, {spread(dearer)}", dearer.value <= 0.0, dearer.high <= 0.0),
            (f"{name}: with less than 1 % garbage and duplicates", *below(mine["wrong"], 0.01)),
        ]  # fmt: skip
    return {
        "training_s": training_s,
        "rows": [{"profile": profile, "policy": name} | row for (profile, name), row in found.items()],
        "aims": [{"aim": aim, "met": bool(met), "surely": bool(surely)} for aim, met, surely in aims],
    }


def spread(difference: Difference) -> str:
    """A difference in USD with its interval."""
    return f"{difference.value:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]"


def above(estimate: Estimate, bound: float) -> tuple[bool, bool]:
    """Whether an estimate, and its whole interval, is at least ``bound``."""
    return estimate.value >= bound, estimate.low >= bound


def below(estimate: Estimate, bound: float) -> tuple[bool, bool]:
    """Whether an estimate, and its whole interval, is less than ``bound``."""
    return estimate.value < bound, estimate.high < bound


def show(found: dict[str, Any], episodes: int) -> None:
    """Print the table and the aims."""
    table = Table(
        title=f"refund, {episodes:,} held-out episodes, 95 % intervals; trained in {found['training_s']:.0f} s"
    )
    heads = {"success": "success %", "wrong": "wrong %", "handed_over": "handed over %", "cost_usd": "cost $",
             "p50_s": "p50 s", "p99_s": "p99 s", "utility": "utility"}  # fmt: skip
    forms = {"cost_usd": (1, 4), "p50_s": (1, 1), "p99_s": (1, 0), "utility": (1, 3)}
    for head in ("profile", "policy", *heads.values()):
        table.add_column(head)
    for row in found["rows"]:
        cells = []
        for name in heads:
            factor, digits = forms.get(name, (100, 2))
            value, low, high = (f"{factor * x:.{digits}f}" for x in (row[name].value, row[name].low, row[name].high))
            cells.append(f"{value} [{low}, {high}]")
        table.add_row(row["profile"], row["policy"], *cells)
    console = Console(width=190)
    console.print(table)
    for aim in found["aims"]:
        word = "yes" if aim["surely"] else "yes, but not the whole interval" if aim["met"] else "NO"
        console.print(f"{aim['aim']}: {word}", highlight=False)


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--episodes", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0, help="of the first training")
    parser.add_argument("--seeds", type=int, default=1, help="trainings, one after the other")
    parser.add_argument("--policy", help="artefact folder to measure instead of training")
    parser.add_argument("--imitate", metavar="TEACHER")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--curriculum", action="append", default=[], metavar="NAME=SCHEDULE")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="FIELD=VALUE")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)
    found = measure(arguments)
    if arguments.json:
        plain = [
            {name: asdict(cell) if isinstance(cell, Estimate) else cell for name, cell in row.items()}
            for row in found["rows"]
        ]
        print(json.dumps(found | {"rows": plain}, indent=2))
    else:
        show(found, arguments.episodes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
