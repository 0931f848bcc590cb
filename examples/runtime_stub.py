"""A policy on real calls, with stubs in place of providers: they sleep, charge, fail, and are cancelled.

    python examples/runtime_stub.py --policy baseline:race-all --tasks 20
    cd examples && brownout runtime runs/desk --scenario support-desk --calls runtime_stub:hooks \\
        --tasks tasks.jsonl --out log.jsonl

Put your clients in place of `ask` and your test suite or judge in place of `check`; the rest stays.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from brownout.trainers.runtime import Answer, Hooks, LiveConfiguration, Runtime, Verdict
from brownout.trainers.runtime_log import export_table

# seconds, USD per call at most, share of right answers
PORTFOLIO = {
    "small": (0.02, 0.006, 0.5),
    "fast": (0.02, 0.015, 0.6),
    "medium": (0.06, 0.09, 0.8),
    "large": (0.10, 0.18, 0.9),
    "frontier": (0.15, 0.36, 0.95),
}
LUCK = np.random.default_rng(0)


class TooManyRequests(Exception):
    """What an HTTP client raises on status 429; the runtime reads the two attributes."""

    status_code = 429
    headers = {"Retry-After": "0.05"}


async def ask(task: Any, configuration: str) -> Answer:
    """One call. A real one would limit its tokens, so that its highest price is known."""
    seconds, most, strength = PORTFOLIO[configuration]
    await asyncio.sleep(float(LUCK.exponential(seconds)))  # cancelled here when another answer wins
    luck = LUCK.random()
    if luck < 0.05:
        raise TooManyRequests
    if luck < 0.08:
        raise ConnectionResetError("peer went away")
    text = "right" if LUCK.random() < strength else "wrong"
    return Answer(text, cost_usd=most * float(LUCK.uniform(0.2, 1.0)), tokens_in=300, tokens_out=80)


async def check(task: Any, answer: str) -> Verdict:
    """The judge: it errs once in ten."""
    await asyncio.sleep(0.01)
    return Verdict((answer == "right") != (LUCK.random() < 0.1), cost_usd=0.003)


async def mend(task: Any, answer: str, configuration: str) -> Answer:
    """Critique and repair; here just another call."""
    return await ask(task, configuration)


def features(task: Any) -> dict[str, Any]:
    """What is known before any call, in the columns of the scenario `support-desk`."""
    return {"class": task["kind"], "difficulty_hint": task["guess"]}


def hooks() -> Hooks:
    """All of it, as `--calls runtime_stub:hooks` finds it."""
    return Hooks(
        configurations={name: LiveConfiguration(ask, most) for name, (_, most, _) in PORTFOLIO.items()},
        judge=check,
        judge_max_cost_usd=0.003,
        repair=mend,
        features=features,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", default="baseline:race-all", help="artefact folder or baseline:NAME")
    parser.add_argument("--tasks", type=int, default=20)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.jsonl"
        runtime = Runtime.of(args.policy, "support-desk", hooks(), log=log)
        tasks = [{"id": f"t{i}", "kind": ("faq", "account", "contract")[i % 3], "guess": i % 3 - 1.0}
                 for i in range(args.tasks)]  # fmt: skip
        decisions = asyncio.run(runtime.solve_many(tasks, concurrency=8))
        runtime.close()
        print("\n".join(decisions[0].timeline))
        right = sum(decision.answer == "right" for decision in decisions)
        spend = sum(decision.spend_usd for decision in decisions)
        print(f"{right} of {len(decisions)} right, ${spend:.3f}, {runtime.counts['calls']} calls")
        export = export_table(log, Path(folder) / "runs.csv")
        print(f"{export.rows} rows for calibrate; left out: {dict(export.left_out)}")


if __name__ == "__main__":
    main()
