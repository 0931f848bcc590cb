"""One policy for every price of a dollar, against nine trained at nine prices with the same steps in all.

    python benchmarks/preference_frontier.py [--steps 9000000] [--seeds 2] [--full] [--json]

All are trained on ``operating-points`` with the same options. The one sees prices drawn over the whole range; each
of the nine sees one of them. Then all play the same held-out episodes at the nine prices: the one policy at each,
the nine each at its own. Hypervolume and AIQ of the two curves are compared with a paired bootstrap over episodes.
``--full`` also trains nine with as many steps *each* as the one has in all. A benchmark is no test: the exit status
is 0 whatever the figures are.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import brownout
from brownout.envs.router_core import RouterCore
from brownout.trainers.frontier_curves import Frontier
from brownout.trainers.frontier_sweep import Sweep, evaluate_frontier
from brownout.trainers.policy import Policy
from brownout.trainers.ppo import PPOConfig

SCENARIO = "operating-points"
ONE, NINE, FULL = "one policy", "nine, same steps in all", "nine, same steps each"
COMPARED = ("hypervolume_cost", "hypervolume_latency", "aiq")
AIM = 0.97


class Specialists:
    """Policies of one price each; the one whose price an episode shows decides."""

    def __init__(self, policies: dict[float, Policy]) -> None:
        core = RouterCore(SCENARIO, 1)
        self._column = [column.name for column in core.observation_columns].index("per_usd")
        self._prices = np.array(list(policies))
        self._policies = list(policies.values())

    def act_batch(self, observations: NDArray[Any], mask: NDArray[Any], uniforms: Any = None) -> NDArray[np.int64]:
        """Actions of the specialist for the price of the first row, which a sweep gives to all rows."""
        nearest = int(np.abs(self._prices - float(observations[0, self._column])).argmin())
        return self._policies[nearest].act_batch(observations, mask, uniforms)


def train(job: tuple[float | None, int, int, float, Path]) -> tuple[Path, float]:
    """Train one policy, at one price or over all, in a process of its own."""
    price, steps, seed, entropy, out = job
    scenario = brownout.load_scenario(SCENARIO, [] if price is None else [f"preferences.per_usd={price}"])
    result = brownout.train(scenario, config=PPOConfig(steps=steps, seed=seed, entropy=entropy), out=out)
    return out, result.seconds


def train_all(seed: int, steps: int, prices: Sequence[float], entropy: float, full: bool, workers: int) -> dict:
    """Every policy of one seed, by name of the curve."""
    with tempfile.TemporaryDirectory() as folder:
        jobs = [(None, steps, seed, entropy, Path(folder) / "one")]
        for name, each in ((NINE, steps // len(prices)), *([(FULL, steps)] if full else [])):
            jobs += [(price, each, seed, entropy, Path(folder) / name / f"{price:g}") for price in prices]
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            trained = [brownout.load_policy(path) for path, _ in pool.map(train, jobs)]
    rest = iter(trained[1:])
    curves: dict[str, Any] = {ONE: trained[0]}
    for name in (NINE, FULL)[: 1 + full]:
        curves[name] = Specialists({price: next(rest) for price in prices})
    return curves


def report(frontiers: dict[int, Frontier], console: Console) -> None:
    """Print the comparison of every seed, then utility by price."""
    table = Table(title=f"{ONE} as a share of the others, 95 % paired bootstrap")
    for head in ("seed", "against", *COMPARED):
        table.add_column(head, no_wrap=True)
    for seed, frontier in frontiers.items():
        for other in [curve.name for curve in frontier.curves[1 : frontier.policies]]:
            cells = []
            for figure in COMPARED:
                share = frontier.ratio(ONE, other, figure)
                mine, theirs = (getattr(frontier.curve(name), figure).value for name in (ONE, other))
                cells.append(
                    f"{100 * share.value:.1f} % [{100 * share.low:.1f}, {100 * share.high:.1f}]"
                    f" ({mine:.3f}/{theirs:.3f})"
                )
            table.add_row(str(seed), other, *cells)
    console.print(table)
    prices = next(iter(frontiers.values())).sweep.values
    table = Table("seed", "utility at a price of", *(f"{price:g}" for price in prices))
    for seed, frontier in frontiers.items():
        for curve in frontier.curves[: frontier.policies + 1]:
            table.add_row(str(seed), curve.name, *(f"{point.utility.value:.3f}" for point in curve.points))
    console.print(table)


def main() -> None:
    """Train, evaluate, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=9_000_000, help="of the one policy; the nine have a ninth each")
    parser.add_argument("--points", type=int, default=9)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--entropy", type=float, default=0.03, help="PPO's option, for every training alike")
    parser.add_argument("--episodes", type=int, default=5000)
    parser.add_argument("--full", action="store_true", help="also nine policies with --steps each")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="trainings at a time")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    core = RouterCore(SCENARIO, 1)
    sweep = Sweep.of(core.preference_source, arguments.points)
    frontiers = {}
    start = time.perf_counter()
    for seed in range(arguments.seeds):
        curves = train_all(seed, arguments.steps, sweep.values, arguments.entropy, arguments.full, arguments.workers)
        frontiers[seed] = evaluate_frontier(curves, SCENARIO, sweep=sweep, episodes=arguments.episodes)
    if arguments.json:
        rows = [
            {"seed": seed, "against": curve.name,
             **{figure: asdict(frontier.ratio(ONE, curve.name, figure)) for figure in COMPARED}}
            for seed, frontier in frontiers.items() for curve in frontier.curves[1 : frontier.policies]
        ]  # fmt: skip
        print(json.dumps({"steps": arguments.steps, "aim": AIM, "rows": rows}, indent=2))
        return
    console = Console(width=160)
    report(frontiers, console)
    console.print(
        f"{arguments.steps:,} steps, {arguments.episodes:,} episodes at each price, "
        f"{time.perf_counter() - start:.0f} s. Aim: {AIM:.0%} of the hypervolume.",
        highlight=False,
    )


if __name__ == "__main__":
    main()
