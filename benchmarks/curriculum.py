"""What a curriculum brings: plain training under production faults beside schedules and replay, at equal steps.

    python benchmarks/curriculum.py [--scenario support-desk] [--steps 600000] [--seeds 3] [--json]

Every arm trains with the same options, steps and seeds, and its best policy (chosen on held-out episodes of the
training split, under production faults) plays the same held-out episodes in every profile. The difference to plain
is paired by training seed and episode; its interval is cluster-robust over training seeds, so it covers the luck of
a training as well as that of the episodes. With few seeds it is wide, as it should be.

The arms were written down before they were run and are reported whatever comes out. A benchmark is no test: the
exit status is 0 whatever the figures are.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import numpy as np
from rich.console import Console
from rich.table import Table

from brownout.scenarios import load_scenario
from brownout.trainers.api import train
from brownout.trainers.evaluation import evaluate
from brownout.trainers.statistics import mean, paired_difference

ARMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "fault share": {"fault_share": "0:1@0.5"},
    "intensity": {"intensity": "0.25:1.5@0.6"},
    "replay by regret": {"replay": 0.5, "replay_score": "regret"},
    "replay by value loss": {"replay": 0.5, "replay_score": "value-loss"},
}
PROFILES = ("clean", "production", "hostile")


def play_all(options: argparse.Namespace, console: Console) -> dict[str, dict[str, Any]]:
    """Train and evaluate every arm; per arm and profile the ``(S, E)`` utilities, and seconds of training."""
    scenario = load_scenario(options.scenario)
    found: dict[str, dict[str, Any]] = {}
    for arm in options.only:
        begun, utilities = time.perf_counter(), {profile: [] for profile in PROFILES}
        steps_per_s = []
        for seed in range(options.seeds):
            with console.status(f"{arm}, seed {seed}"):
                result = train(scenario, steps=options.steps, seed=seed, curriculum=ARMS[arm] or None)
                steps_per_s.append(result.steps / result.seconds)
                for profile in PROFILES:
                    row = evaluate(result.policy, scenario, episodes=options.episodes, profile=profile).rows[0]
                    assert row.records is not None
                    utilities[profile].append(row.records.utility)
        found[arm] = {
            "utility": {profile: np.stack(utilities[profile]) for profile in PROFILES},
            "steps_per_s": float(np.median(steps_per_s)),
            "seconds": time.perf_counter() - begun,
        }
    return found


def compare(found: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per arm and profile: mean utility, and the difference to the first arm."""
    rows = []
    first = next(iter(found))
    for arm, figures in found.items():
        for profile in PROFILES:
            own, plain = figures["utility"][profile], found[first]["utility"][profile]
            seeds = np.repeat(np.arange(len(own)), own.shape[1])
            against = None if arm == first else paired_difference(own.ravel(), plain.ravel(), seeds)
            rows.append(
                {
                    "arm": arm,
                    "profile": profile,
                    "utility": asdict(mean(own.ravel(), seeds)),
                    "against": None if against is None else asdict(against),
                    "by_seed": own.mean(axis=1).tolist(),
                    "steps_per_s": figures["steps_per_s"],
                }
            )
    return rows


def show(rows: list[dict[str, Any]], options: argparse.Namespace, console: Console) -> None:
    """Print the table."""
    title = (
        f"{options.scenario}: {options.seeds} trainings of {options.steps:,} steps each, {options.episodes:,} episodes"
    )
    table = Table("training", "evaluated", "utility", "of each seed", "minus plain", "steps/s", title=title)
    for row in rows:
        other = row["against"]
        table.add_row(
            row["arm"], row["profile"], f"{row['utility']['value']:.4f}",
            " ".join(f"{value:.3f}" for value in row["by_seed"]),
            "" if other is None else f"{other['value']:+.4f} [{other['low']:+.4f}, {other['high']:+.4f}]",
            f"{row['steps_per_s']:,.0f}", end_section=row["profile"] == PROFILES[-1],
        )  # fmt: skip
    console.print(table)
    told = [row for row in rows if row["against"] is not None]
    better = [f"{r['arm']} under {r['profile']}" for r in told if r["against"]["low"] > 0]
    worse = [f"{r['arm']} under {r['profile']}" for r in told if r["against"]["high"] < 0]
    console.print(
        f"Better than plain (interval above zero): {', '.join(better) or 'none'}. "
        f"Worse: {', '.join(worse) or 'none'}. Not told apart: the other {len(told) - len(better) - len(worse)}.",
        highlight=False,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", default="support-desk")
    parser.add_argument("--steps", type=int, default=600_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--episodes", type=int, default=4000)
    parser.add_argument("--only", default=",".join(ARMS), help="arms to run, the first is compared with")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="two short trainings per arm, to see that it runs")
    options = parser.parse_args(arguments)
    options.only = [name.strip() for name in options.only.split(",")]
    unknown = [name for name in options.only if name not in ARMS]
    if unknown or options.seeds < 2:
        parser.error(f"--only: unknown {unknown}, allowed: {', '.join(ARMS)}" if unknown else "--seeds: at least 2")
    if options.quick:
        options.steps, options.seeds, options.episodes = 40_000, 2, 300
    console = Console(stderr=options.json, width=None if sys.stdout.isatty() else 150)
    rows = compare(play_all(options, console))
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        show(rows, options, console)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
