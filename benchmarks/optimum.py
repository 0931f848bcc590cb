"""How near to the optimum does training come, where the optimum is known?

    python benchmarks/optimum.py [--seeds 1] [--steps N] [--episodes 20000] [--only test-suite,code-review]
        [--quick] [--json]

For every scenario of the library whose optimum is computed in the profile ``clean``, it trains with the default
options, plays the trained and the optimal policy on the same held-out episodes, and prints

* the optimum, exact, and what the optimal policy earned, which must agree within its interval;
* the trained policy's share of it: one minus the paired difference to the optimal policy over the optimum. The
  luck of the episodes cancels, so the interval is far narrower than that of utility over optimum;
* the value of judging: the optimum minus the optimum without the judge.

With one seed it takes between one and two minutes on an idle core. A benchmark is no test: the exit status is 0
whatever the figures are.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from typing import Any

# Before NumPy or torch is imported: thread counts are read once, at import.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

from rich.console import Console
from rich.table import Table

from brownout.envs.item_response_optimum import optimum_of, value_of_judging
from brownout.envs.optimum import ceiling_of
from brownout.envs.router_core import RouterCore
from brownout.scenarios import builtin_scenarios, load_scenario
from brownout.scenarios.schema import RouterScenario
from brownout.trainers.api import train
from brownout.trainers.evaluation import evaluate

AIM = 0.98


def computable() -> list[str]:
    """Scenarios of the library whose optimum is known without faults."""
    routers = [name for name in builtin_scenarios() if isinstance(load_scenario(name), RouterScenario)]
    return [name for name in routers if ceiling_of(RouterCore(name, 1, profile="clean")) is not None]


def measure(name: str, seed: int, steps: int | None, episodes: int) -> dict[str, Any]:
    """Train on one scenario with one seed and hold the policy against the optimum."""
    core = RouterCore(name, 1, profile="clean")
    ceiling = ceiling_of(core)
    assert ceiling is not None
    states = len(optimum_of(core).states.digits)
    start = time.perf_counter()
    policy = train(name, steps=steps, seed=seed, profile="clean").policy
    train_s = time.perf_counter() - start
    table = evaluate({"optimum": "baseline:optimum", "trained": policy}, name, episodes=episodes, profile="clean")
    optimal, trained = table.rows
    loss = trained.against
    assert loss is not None
    return {
        "scenario": name, "seed": seed, "states": states, "train_s": train_s,
        "optimum": ceiling, "earned": [optimal.utility.value, optimal.utility.low, optimal.utility.high],
        "trained": [trained.utility.value, trained.utility.low, trained.utility.high],
        "share": [1.0 - x / ceiling for x in (loss.value, loss.high, loss.low)],
        "value_of_judging": value_of_judging(core),
    }  # fmt: skip


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1, help="trainings per scenario (default: 1)")
    parser.add_argument("--steps", type=int, help="environment steps of a training (default: train's)")
    parser.add_argument("--episodes", type=int, default=20_000, help="held-out episodes (default: 20,000)")
    parser.add_argument("--only", help="scenarios, separated by commas (default: all whose optimum is known)")
    parser.add_argument("--quick", action="store_true", help="200,000 steps, 4,000 episodes")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    if options.quick:
        options.steps, options.episodes = options.steps or 200_000, min(options.episodes, 4000)
    names = options.only.split(",") if options.only else computable()
    unknown = [name for name in names if name not in computable()]
    if unknown:
        parser.error(f"--only: no exact optimum for {', '.join(unknown)}; allowed: {', '.join(computable())}")
    rows = []
    for name in names:
        for seed in range(options.seeds):
            print(f"{name}, seed {seed}", file=sys.stderr)
            rows.append(measure(name, seed, options.steps, options.episodes))
    if options.json:
        json.dump({"rows": rows, "aim": AIM}, sys.stdout, indent=2)
        print()
        return
    table = Table(title="profile clean; [95 % interval]", title_justify="left")
    for heading in ("scenario", "seed", "states", "optimum", "it earned", "trained", "share of optimum", "judging"):
        table.add_column(heading, justify="left" if heading == "scenario" else "right", no_wrap=True)
    for row in rows:
        share = "{:.1%} [{:.1%}, {:.1%}]".format(*row["share"])
        earned, trained = ("{:.3f} [{:.3f}, {:.3f}]".format(*row[key]) for key in ("earned", "trained"))
        table.add_row(
            row["scenario"], str(row["seed"]), f"{row['states']:,}", f"{row['optimum']:.4f}", earned, trained,
            share, f"{row['value_of_judging']:.3f}",
        )  # fmt: skip
    console = Console()
    console = console if console.is_terminal else Console(width=150)
    console.print(table)
    met = sum(row["share"][0] >= AIM for row in rows)
    spent = sum(row["train_s"] for row in rows)
    console.print(
        f"{met} of {len(rows)} trainings reach {AIM:.0%} of the optimum (aim: all); {spent:.0f} s of training",
        highlight=False,
    )


if __name__ == "__main__":
    main()
