"""The cliff between demo and production on ``refund``: the happy path, the playbook, and a policy trained here.

    python benchmarks/cliff.py [--steps 3000000] [--option entropy=0.1 ...] [--curriculum fault_share=0:1@0.4 ...]
                               [--set reward.handoff=0.6 ...] [--episodes 5000] [--policy FOLDER] [--json]

Trains with ``brownout.train`` (options and overrides as those of ``brownout train``), then plays the same held-out
episodes clean and under ``production``. Printed are success, outcomes that are wrong, cost and the quantiles of time,
and for each aim whether it is met. A benchmark is no test: the exit status is 0 whatever the figures are.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import replace
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from rich.console import Console
from rich.table import Table

import brownout
from brownout.cli_options import curriculum_options, ppo_config
from brownout.scenarios import load_scenario
from brownout.trainers.evaluation import PolicyResult

WRONG = ("silent_garbage", "duplicate_effect")


def wrong(row: PolicyResult) -> float:
    """Share of episodes that end with garbage or a duplicate."""
    return sum(row.outcomes.get(name, 0.0) for name in WRONG)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train, evaluate clean and in production, and hold the figures against the aims."""
    scenario = load_scenario("refund", arguments.overrides)
    start = time.perf_counter()
    policy: Any = arguments.policy
    if policy is None:
        config = replace(ppo_config(arguments.option), steps=arguments.steps, seed=arguments.seed)
        for part in arguments.curriculum:
            config = replace(config, **curriculum_options(part))
        policy = brownout.train(scenario, config=config).policy
    trained_s = time.perf_counter() - start
    policies = {"trained": policy, "happy-path": "baseline:happy-path", "playbook": "baseline:playbook"}
    tables = {
        profile: brownout.evaluate(policies, scenario, profile=profile, episodes=arguments.episodes)
        for profile in ("clean", "production")
    }
    rows = [
        {
            "policy": name, "profile": profile, "success": row.success.value, "success_low": row.success.low,
            "wrong": wrong(row), "cost_usd": row.cost_usd.value, "p50_s": row.latency_quantiles["p50"].value,
            "p99_s": row.latency_quantiles["p99"].value, "utility": row.utility.value,
            "oracle": table.bound, "handed_over": row.outcomes["escalated"],
        }
        for profile, table in tables.items()
        for name, row in ((name, table.row(name)) for name in policies)
    ]  # fmt: skip
    at = {(row["policy"], row["profile"]): row for row in rows}
    demo, live = at["happy-path", "clean"], at["happy-path", "production"]
    ours, careful = at["trained", "production"], at["playbook", "production"]
    aims = {
        "happy path succeeds in 95 % of clean episodes": demo["success"] >= 0.95,
        "and below 80 % in production": live["success"] < 0.8,
        "with at least ten times the p99 of the time": live["p99_s"] >= 10 * demo["p99_s"],
        "the trained policy succeeds in 90 % in production": ours["success"] >= 0.9,
        "at no more than the playbook's cost": ours["cost_usd"] <= careful["cost_usd"],
        "with garbage and duplicates below 1 %": ours["wrong"] < 0.01,
    }
    return {"training_s": trained_s, "rows": rows, "aims": aims}


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3_000_000)
    parser.add_argument("--episodes", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--policy", help="artefact folder to measure instead of training")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--curriculum", action="append", default=[], metavar="NAME=SCHEDULE")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="FIELD=VALUE")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)
    found = measure(arguments)
    if arguments.json:
        print(json.dumps(found, indent=2))
        return 0
    table = Table(title=f"refund, {arguments.episodes:,} episodes; training took {found['training_s']:.0f} s")
    for head in ("profile", "policy", "success %", "wrong %", "handed over %", "cost $", "p50 s", "p99 s", "utility"):
        table.add_column(head)
    for row in found["rows"]:
        shares = (f"{100 * row[name]:.1f}" for name in ("success", "wrong", "handed_over"))
        table.add_row(row["profile"], row["policy"], *shares, f"{row['cost_usd']:.4f}", f"{row['p50_s']:.1f}",
                      f"{row['p99_s']:.0f}", f"{row['utility']:.3f}")  # fmt: skip
    console = Console(width=120)
    console.print(table)
    for aim, met in found["aims"].items():
        console.print(f"{'yes' if met else 'NO ':3} {aim}", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
