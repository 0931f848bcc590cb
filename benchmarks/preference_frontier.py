"""One policy for every price, against nine trained at nine prices with the same steps in all.

    python benchmarks/preference_frontier.py [--preference per_s] [--steps 9000000] [--seeds 2] [--full] [--json]
    python benchmarks/preference_frontier.py --preference both [--steps 9000000] [--seeds 2] [--json]

All are trained on ``operating-points`` with the same options. The one sees prices drawn over the whole range; each
of the nine sees one price of a dollar (or with ``--preference per_s`` of a second) and the other ranges. Then all
play the same held-out episodes at the nine prices: the one policy at each, the nine each at its own. Hypervolume and
AIQ of the two curves are compared with a paired bootstrap over episodes. What a sweep traces out is success against
what it prices: cost for ``per_usd``, time for ``per_s``; the hypervolume of the other is shown beside it. With
``--preference both`` the nine stand on a grid of three prices of a dollar times three of a second, and the
hypervolume is that of success, cost and time together. ``--full`` also trains nine with as many steps *each* as the
one has in all. A benchmark is no test: the exit status is 0 whatever the figures are.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from itertools import product
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
from brownout.envs.streams import stream_id, uniform
from brownout.trainers.frontier import hypervolume_3d
from brownout.trainers.frontier_curves import Frontier
from brownout.trainers.frontier_sweep import Sweep, evaluate_frontier
from brownout.trainers.policy import Policy
from brownout.trainers.ppo import PPOConfig

SCENARIO = "operating-points"
ONE, NINE, FULL = "one policy", "nine, same steps in all", "nine, same steps each"
COMPARED = ("hypervolume_cost", "hypervolume_latency", "aiq")
AIM = 0.97
F64 = NDArray[np.float64]
_BOOTSTRAP = stream_id("benchmark.frontier.bootstrap")


class Specialists:
    """Policies of one price each; the one whose price an episode shows decides."""

    def __init__(self, preference: str, policies: dict[float, Policy]) -> None:
        core = RouterCore(SCENARIO, 1)
        self._column = [column.name for column in core.observation_columns].index(preference)
        self._prices = np.array(list(policies))
        self._policies = list(policies.values())

    def act_batch(self, observations: NDArray[Any], mask: NDArray[Any], uniforms: Any = None) -> NDArray[np.int64]:
        """Actions of the specialist for the price of the first row, which a sweep gives to all rows."""
        nearest = int(np.abs(self._prices - float(observations[0, self._column])).argmin())
        return self._policies[nearest].act_batch(observations, mask, uniforms)


def train(overrides: list[str], config: PPOConfig, out: Path) -> Path:
    """Train one policy, at one price or over all, in a process of its own."""
    brownout.train(brownout.load_scenario(SCENARIO, overrides), config=config, out=out)
    return out


def train_all(sweep: Sweep, config: PPOConfig, full: bool, workers: int) -> dict[str, Any]:
    """Every policy of one seed, by name of the curve."""
    prices = sweep.values
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        jobs = [pool.submit(train, [], config, Path(folder) / "one")]
        for name, each in ((NINE, config.steps // len(prices)), *([(FULL, config.steps)] if full else [])):
            jobs += [
                pool.submit(
                    train,
                    [f"preferences.{sweep.name}={price}"],
                    replace(config, steps=each),
                    Path(folder, name, str(i)),
                )
                for i, price in enumerate(prices)
            ]
        trained = [brownout.load_policy(job.result()) for job in jobs]
    rest = iter(trained[1:])
    curves: dict[str, Any] = {ONE: trained[0]}
    for name in (NINE, FULL)[: 1 + full]:
        curves[name] = Specialists(sweep.name, {price: next(rest) for price in prices})
    return curves


def volumes(curves: dict[str, dict[tuple[float, ...], Path]], episodes: int, draws: int = 400) -> dict[str, Any]:
    """Volume dominated in success, cost and time by the points of each curve, and their ratio, paired by episode."""
    outcomes: dict[str, list[F64]] = {name: [] for name in curves}
    utilities: list[dict[str, float]] = []
    for usd, second in curves[ONE]:
        at = [f"preferences.per_usd={usd}", f"preferences.per_s={second}"]
        table = brownout.evaluate(
            {name: runs[usd, second] for name, runs in curves.items()},
            brownout.load_scenario(SCENARIO, at),
            episodes=episodes,
        )
        utilities.append({name: table.row(name).utility.value for name in curves})
        for name in curves:
            records = table.row(name).records
            assert records is not None
            success = (records.outcome == records.outcome_names.index("success")).astype(np.float64)
            outcomes[name].append(np.stack([records.component("cost_usd"), records.component("latency_s"), success]))
    stacked = {name: np.stack(points) for name, points in outcomes.items()}
    means = np.concatenate([points.mean(axis=2) for points in stacked.values()])
    reference = (float(means[:, 0].max()), float(means[:, 1].max()), 0.0)

    def figure(pick: Any) -> list[float]:
        return [hypervolume_3d(points[:, :, pick].mean(axis=2), reference) for points in stacked.values()]

    one, nine = figure(slice(None))
    ratios = []
    for draw in range(draws):
        u = uniform(np.arange(episodes, dtype=np.uint64), _BOOTSTRAP, draw)
        mine, theirs = figure((u * episodes).astype(np.int64))
        ratios.append(mine / theirs if theirs else float("nan"))
    low, high = np.quantile(ratios, [0.025, 0.975])
    share = one / nine if nine else float("nan")
    points = [
        {"per_usd": usd, "per_s": second, "curve": name, "utility": utility[name],
         **dict(zip(("cost_usd", "latency_s", "success"), stacked[name][i].mean(axis=1).tolist(), strict=True))}
        for i, ((usd, second), utility) in enumerate(zip(curves[ONE], utilities, strict=True)) for name in curves
    ]  # fmt: skip
    return {
        "ratio": share, "low": float(low), "high": float(high), "one": one, "nine": nine, "reference": reference,
        "points": points,
    }  # fmt: skip


def grid(arguments: argparse.Namespace) -> None:
    """Three prices of a dollar times three of a second."""
    ranges: Any = brownout.load_scenario(SCENARIO).preferences
    bounds = [(name, *ranges[name]) for name in ("per_usd", "per_s")]
    prices = list(product(*(Sweep.between(name, low, high, 3).values for name, low, high in bounds)))
    rows = []
    for seed in range(arguments.seeds):
        config = PPOConfig(steps=arguments.steps, seed=seed, entropy=arguments.entropy)
        each = replace(config, steps=config.steps // len(prices))
        workers = ProcessPoolExecutor(arguments.workers, get_context("spawn"))
        with tempfile.TemporaryDirectory() as folder, workers as pool:
            one = pool.submit(train, [], config, Path(folder) / "one")
            nine = {
                at: pool.submit(
                    train,
                    [f"preferences.per_usd={at[0]}", f"preferences.per_s={at[1]}"],
                    each,
                    Path(folder, f"nine-{i}"),
                )
                for i, at in enumerate(prices)
            }
            curves = {ONE: dict.fromkeys(prices, one.result()), NINE: {at: job.result() for at, job in nine.items()}}
            rows.append({"seed": seed, **volumes(curves, arguments.episodes)})
    if arguments.json:
        print(json.dumps({"preference": "both", "steps": arguments.steps, "aim": AIM, "rows": rows}, indent=2))
        return
    table = Table("seed", "share of the nine's volume", "one policy", "nine", title="success, cost and time together")
    for row in rows:
        share = f"{row['ratio']:.1%} [{row['low']:.1%}, {row['high']:.1%}]"
        table.add_row(str(row["seed"]), share, f"{row['one']:.4g}", f"{row['nine']:.4g}")
    console = Console(width=120)
    console.print(table)
    for row in rows:
        table = Table(
            "per_usd", "per_s", "policy", "utility", "success", "cost, $", "time, s", title=f"seed {row['seed']}"
        )
        for point in row["points"]:
            figures = (point[name] for name in ("utility", "success", "cost_usd", "latency_s"))
            table.add_row(
                f"{point['per_usd']:g}", f"{point['per_s']:g}", point["curve"], *(f"{x:.4g}" for x in figures)
            )
        console.print(table)


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
    sweep = next(iter(frontiers.values())).sweep
    table = Table("seed", f"utility at {sweep.name} =", *(f"{price:g}" for price in sweep.values))
    for seed, frontier in frontiers.items():
        for curve in frontier.curves[: frontier.policies + 1]:
            table.add_row(str(seed), curve.name, *(f"{point.utility.value:.3f}" for point in curve.points))
    console.print(table)


def main() -> None:
    """Train, evaluate, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=9_000_000, help="of the one policy; the nine have a ninth each")
    parser.add_argument("--preference", choices=("per_usd", "per_s", "both"), default="per_usd")
    parser.add_argument("--points", type=int, default=9)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--entropy", type=float, default=0.03, help="PPO's option, for every training alike")
    parser.add_argument("--episodes", type=int, default=5000)
    parser.add_argument("--full", action="store_true", help="also nine policies with --steps each")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="trainings at a time")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.preference == "both":
        grid(arguments)
        return
    low, high = brownout.load_scenario(SCENARIO).preferences[arguments.preference]  # type: ignore[misc]
    sweep = Sweep.between(arguments.preference, low, high, arguments.points)
    frontiers = {}
    start = time.perf_counter()
    for seed in range(arguments.seeds):
        config = PPOConfig(steps=arguments.steps, seed=seed, entropy=arguments.entropy)
        curves = train_all(sweep, config, arguments.full, arguments.workers)
        frontiers[seed] = evaluate_frontier(curves, SCENARIO, sweep=sweep, episodes=arguments.episodes)
        print(f"seed {seed}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
    if arguments.json:
        rows = [
            {"seed": seed, "against": curve.name,
             **{figure: asdict(frontier.ratio(ONE, curve.name, figure)) for figure in COMPARED}}
            for seed, frontier in frontiers.items() for curve in frontier.curves[1 : frontier.policies]
        ]  # fmt: skip
        print(json.dumps({"preference": sweep.name, "steps": arguments.steps, "aim": AIM, "rows": rows}, indent=2))
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
