"""How good must a judge be before starting cheap pays?

On the scenario ``cheap-first`` a policy is trained at each false-positive rate of the judge and compared, on the same
episodes, with both cascades and with the best single configuration. Aims: its first action changes from cheap to
strong as the rate rises, and it never falls below the best single configuration by more than its interval. About two
minutes on an idle core; ``--workers 2`` uses Ray.

With ``--table FILE``, a Parquet or CSV of recorded runs, the closed form of a judged cascade
(``brownout.envs.cascade``) is evaluated on it, by default for four plans of MCPMark's configurations: success of
"first accepted wins, else the last", with a judge that accepts every right answer.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from brownout.cli_studies import print_sweep
from brownout.envs.cascade import judged_cascade
from brownout.scenarios.tables import RecordedTable
from brownout.trainers.judge_sweep import JudgeSweep, RatePoint, judge_sweep
from brownout.trainers.statistics import Difference

RATES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
PLANS = (
    "gpt-5-2-high,gpt-5-2-high,gpt-5-2-high,gpt-5-2-high",
    "grok-4-fast,gpt-5-2-high",
    "grok-4-fast,deepseek-v3-2-thinking,gpt-5-2-high",
    "grok-4-fast,gpt-5-medium,gemini-3-pro-high,gpt-5-2-high",
)


def plan_success(table: RecordedTable, plan: Sequence[str], true_positive: float, false_positive: float) -> float:
    """Success of a plan on a table: the ``j``-th runs of all configurations make a world, repeats come in any order."""
    names = list(dict.fromkeys(plan))
    samples = [table.success[:, table.configs.index(name)] >= 0.5 for name in names]
    worlds: list[NDArray[np.bool_]] = []
    if len(names) == len(plan):
        worlds += [np.column_stack([s[:, j] for s in samples]) for j in range(samples[0].shape[1])]
    elif len(names) == 1:
        worlds += [samples[0][:, list(order)] for order in permutations(range(samples[0].shape[1]), len(plan))]
    else:
        raise ValueError(f"{plan}: repeats are supported for one configuration alone")
    return float(np.mean([judged_cascade(x, true_positive, false_positive).success.mean() for x in worlds]))


def break_even(table: RecordedTable, plan: Sequence[str], single: float) -> float | None:
    """False-positive rate at which a plan falls to the success of one call; None if it never does."""
    low, high = 0.0, 1.0
    if plan_success(table, plan, 1.0, high) >= single - 1e-9:
        return None
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if plan_success(table, plan, 1.0, middle) >= single else (low, middle)
    return low


def show_plans(path: Path, plans: Sequence[str], console: Console) -> None:
    """Print the success of each plan at each rate, in per cent."""
    parts = [plan.split(",") for plan in plans]
    configs = list(dict.fromkeys(name for plan in parts for name in plan))
    loaded = RecordedTable.load(
        path, configs=configs, missing={"cost_usd": "config-median", "latency_s": "config-median"}, features=[]
    )
    shown = Table(title=f"{path.name}: success %, judge accepts all right answers and this share of wrong ones")
    for i, head in enumerate(("plan", *(f"{rate:g}" for rate in RATES), "break-even")):
        shown.add_column(head, justify="right" if i else "left", no_wrap=bool(i))
    best = max(float((loaded.success[:, k] >= 0.5).mean()) for k in range(len(configs)))
    for plan in parts:
        rate = break_even(loaded, plan, best)
        values = [f"{100 * plan_success(loaded, plan, 1.0, f):.1f}" for f in RATES]
        shown.add_row(" > ".join(plan), *values, "never" if rate is None else f"{rate:.2f}")
    console.print(shown)
    console.print(f"break-even: with the best of them alone, {100 * best:.1f} %", highlight=False)


def verdict(sweep: JudgeSweep) -> list[str]:
    """What was aimed at, and what was found."""
    points = sorted(sweep.points, key=lambda point: point.false_positive)
    starts = [round(point.starts_cheap, 2) for point in points]
    worst = min(points, key=lambda point: _lead(point).high)
    lead = _lead(worst)
    turned = starts[0] > 0.5 > starts[-1]
    return [
        f"starts cheap, by rate: {starts} (aim: from cheap to strong, {'met' if turned else 'missed'})",
        f"least lead over {sweep.single} alone: {lead.value:+.3f} [{lead.low:+.3f}, {lead.high:+.3f}] at "
        f"{worst.false_positive:g} (aim: 0 within or below the interval, {'met' if lead.high >= 0 else 'missed'})",
    ]


def _lead(point: RatePoint) -> Difference:
    difference = point.row("trained").against
    assert difference is not None
    return difference


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", default="cheap-first")
    parser.add_argument("--profile", default="production")
    parser.add_argument("--steps", type=int, default=1_000_000, help="steps of a training")
    parser.add_argument("--seeds", type=int, default=2, help="trainings at each rate, of which the best is kept")
    parser.add_argument("--episodes", type=int, default=4000, help="evaluation episodes")
    parser.add_argument("--workers", type=int, default=1, help="trainings side by side, on Ray")
    parser.add_argument("--table", type=Path, help="recorded runs to evaluate plans on")
    parser.add_argument("--plan", action="append", metavar="A,B,...", help="plan to evaluate; repeatable")
    parser.add_argument("--quick", action="store_true", help="one training of a fifth of the steps at three rates")
    parser.add_argument("--picture", type=Path, help="PNG file to draw the sweep into")
    parser.add_argument("--json", action="store_true", help="print the sweep as JSON")
    options = parser.parse_args(arguments)
    console = Console(width=150) if not sys.stdout.isatty() else Console()
    if options.table is not None:
        show_plans(options.table, options.plan or PLANS, console)
    rates = (0.0, 0.2, 0.5) if options.quick else (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)
    sweep = judge_sweep(
        options.scenario, rates, steps=options.steps // 5 if options.quick else options.steps,
        seeds=1 if options.quick else options.seeds, episodes=options.episodes, profile=options.profile,
        workers=options.workers,
    )  # fmt: skip
    if options.picture is not None:
        from brownout.trainers.study_pictures import draw_judge_sweep

        draw_judge_sweep(sweep, options.picture)
    if options.json:
        json.dump(sweep.to_dict(), sys.stdout, indent=2)
        print()
        return
    print_sweep(sweep, console)
    for line in verdict(sweep):
        console.print(line, highlight=False)


if __name__ == "__main__":
    main()
