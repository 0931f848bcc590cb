"""Soak of the runtime: many tasks, up to eight calls each at a time, on stubs that fail in every way they can.

    python benchmarks/runtime_soak.py --tasks 1000 --concurrency 64

The stubs really sleep; they raise, hang, are slow to die, cancel themselves and forget to say what they cost. Some
tasks are cancelled from outside. Then everything is counted from both sides: no task lost, no call left running, no
budget passed, one row of the log per call. Exit status 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import brownout
from brownout.trainers.runtime import Answer, Decision, LiveConfiguration, Refused, Runtime, Verdict
from brownout.trainers.runtime_log import CallLog, export_table, read_log

MOST = {"small": 0.01, "fast": 0.02, "medium": 0.05, "large": 0.08, "frontier": 0.15}
JUDGE_MOST = 0.005
FATES = {
    "answer": 0.56, "no cost": 0.05, "reset": 0.06, "rate limit": 0.05, "server error": 0.05, "time-out": 0.03,
    "refusal": 0.03, "bug": 0.03, "nonsense": 0.03, "hang": 0.06, "slow death": 0.03, "cancels itself": 0.02,
}  # fmt: skip


class HttpError(Exception):
    def __init__(self, code: int, retry_after: str = "") -> None:
        super().__init__(f"HTTP {code}")
        self.status_code = code
        self.headers = {"Retry-After": retry_after}


class Crowd:
    """Launches what it may until eight calls run, judges every answer, then does anything but give up early."""

    def __init__(self, actions: tuple[str, ...], running: int) -> None:
        self.k = len(actions) - 6
        self.running = running

    def act_batch(self, observations: Any, mask: Any, uniforms: Any = None) -> np.ndarray:
        row, legal = observations[0], np.asarray(mask[0])
        k = self.k
        digest = int(np.frombuffer(row.tobytes(), np.uint8).astype(np.int64) @ np.arange(1, 4 * len(row) + 1))
        launches = np.flatnonzero(legal[:k])
        few = row[self.running] < 8 and digest % 11 != 0
        order = [k + 1, k] if digest % 3 else [k + 2, k, k + 1]
        if few and launches.size:
            return np.array([launches[digest % launches.size]])
        for rare, action in ((17, k + 3), (41, k + 4), (97, k + 5)):
            if digest % rare == 0 and legal[action]:
                return np.array([action])
        choices = [a for a in (*order, *launches, k + 3, k + 4, k + 5) if legal[a]]
        return np.array([choices[0]])


@dataclass
class World:
    """The stubs, and their own account of what happened."""

    seed: int = 0
    scale_s: float = 0.01
    begun: Counter[tuple[str, str]] = field(default_factory=Counter)
    running: Counter[str] = field(default_factory=Counter)
    most_running: int = 0
    told_usd: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    fates: Counter[str] = field(default_factory=Counter)

    def _draw(self, task: Any, name: str) -> np.random.Generator:
        number = self.begun[task["id"], name]
        self.begun[task["id"], name] += 1
        return np.random.default_rng([self.seed, int(task["id"][1:]), sum(name.encode()), number])

    async def call(self, task: Any, configuration: str) -> Any:
        rng = self._draw(task, configuration)
        fate = str(rng.choice(list(FATES), p=list(FATES.values())))
        self.fates[fate] += 1
        query, cost = task["id"], float(rng.uniform(0.1, 1.0)) * MOST[configuration]
        self.running[query] += 1
        self.most_running = max(self.most_running, self.running[query])
        try:
            return await self._meet(fate, query, cost, float(rng.exponential(self.scale_s)))
        finally:
            self.running[query] -= 1

    async def _meet(self, fate: str, query: str, cost: float, seconds: float) -> Any:
        if fate in ("hang", "slow death"):
            try:
                await asyncio.sleep(3600.0)
            except asyncio.CancelledError:
                if fate == "hang":
                    raise
                await asyncio.sleep(self.scale_s)  # cleans up at leisure, and says what it spent
                self.told_usd[query] += cost
                return Answer("too late", cost)
        await asyncio.sleep(seconds)
        errors: dict[str, BaseException] = {
            "reset": ConnectionResetError("peer"),
            "rate limit": HttpError(429, "0.02"),
            "server error": HttpError(503),
            "time-out": TimeoutError("gave up"),
            "refusal": Refused("will not"),
            "bug": KeyError("choices"),
            "cancels itself": asyncio.CancelledError(),
        }
        if fate in errors:
            raise errors[fate]
        if fate == "nonsense":
            return "an answer without a price"
        if fate == "no cost":
            return Answer("an answer")
        self.told_usd[query] += cost
        return {"answer": "an answer", "cost_usd": cost, "tokens_in": 100, "tokens_out": 10}

    async def repair(self, task: Any, answer: Any, configuration: str) -> Any:
        return await self.call(task, configuration)

    async def judge(self, task: Any, answer: Any) -> Any:
        rng = self._draw(task, "judge")
        self.running[task["id"]] += 1
        try:
            fate = rng.random()
            if fate < 0.03:
                await asyncio.sleep(3600.0)
            await asyncio.sleep(float(rng.exponential(self.scale_s)))
            if fate < 0.08:
                raise HttpError(500)
            cost = float(rng.uniform(0.0, JUDGE_MOST))
            self.told_usd[task["id"]] += cost
            return Verdict(float(rng.random()) ** 4, cost)
        finally:
            self.running[task["id"]] -= 1

    async def person(self, task: Any) -> Any:
        self._draw(task, "person")
        await asyncio.sleep(self.scale_s)
        return Answer("by hand", 0.35)


@dataclass
class Report:
    """Figures of a soak, and what was wrong."""

    tasks: int
    cancelled_from_outside: int
    calls: int
    seconds: float
    most_running_calls: int
    highest_spend_share: float
    refused: int
    outcomes: dict[str, int]
    failure_modes: dict[str, int]
    exported_rows: int
    problems: list[str]


async def _soak(runtime: Runtime, tasks: list[Any], doomed: list[Any], concurrency: int) -> list[Decision]:
    async def spoil(task: Any, seconds: float) -> None:
        child = asyncio.ensure_future(runtime.solve(task))
        await asyncio.sleep(seconds)
        child.cancel()
        await asyncio.gather(child, return_exceptions=True)

    spoiling = asyncio.gather(*(spoil(task, 0.002 * (i % 20)) for i, task in enumerate(doomed)))
    decisions = await runtime.solve_many(tasks, concurrency=concurrency)
    await spoiling
    return decisions


async def _main(runtime: Runtime, tasks: list[Any], doomed: list[Any], concurrency: int) -> tuple[list[Decision], int]:
    decisions = await _soak(runtime, tasks, doomed, concurrency)
    return decisions, len(asyncio.all_tasks()) - 1


def soak(
    tasks: int, concurrency: int = 64, cancelled: int | None = None, seed: int = 0, scale_s: float = 0.01
) -> Report:
    """Run ``tasks`` tasks to the end and ``cancelled`` more that are cancelled on the way; check everything."""
    cancelled = tasks // 20 if cancelled is None else cancelled
    scenario = brownout.load_scenario(
        "support-desk",
        ["limits.max_parallel=8", "limits.max_calls=16", "limits.deadline_s=0.6", "limits.backoff_s=0.01",
         "limits.budget_usd=0.6", "limits.on_budget=end"],
    )  # fmt: skip
    world = World(seed, scale_s)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.jsonl"
        log = CallLog(path)
        runtime = Runtime(
            "baseline:null", scenario,
            {name: LiveConfiguration(world.call, most, timeout_s=0.15) for name, most in MOST.items()}, world.judge,
            repair=world.repair, person=world.person, judge_max_cost_usd=JUDGE_MOST, judge_timeout_s=0.15,
            features=lambda task: task["features"], log=log, grace_s=5.0,
        )  # fmt: skip
        names = [column.name for column in runtime.observation_columns]
        runtime.policy = Crowd(runtime.action_names, names.index("running"))
        rng = np.random.default_rng(seed)
        made = [
            {"id": f"t{i}", "features": {"class": str(rng.choice(["faq", "account", "contract"])),
                                         "difficulty_hint": float(rng.uniform(-3, 3))}}
            for i in range(tasks + cancelled)
        ]  # fmt: skip
        start = time.perf_counter()
        logging.getLogger("brownout.runtime").setLevel(logging.CRITICAL)
        decisions, left = asyncio.run(_main(runtime, made[:tasks], made[tasks:], concurrency))
        seconds = time.perf_counter() - start
        runtime.close()
        rows = read_log(path)
        exported = export_table(path, Path(folder) / "table.csv").rows
    return check(runtime, world, made, tasks, decisions, rows, left, seconds, exported)


def check(
    runtime: Runtime, world: World, made: list[Any], tasks: int, decisions: list[Decision], rows: list[dict[str, Any]],
    left: int, seconds: float, exported: int,
) -> Report:  # fmt: skip
    """Hold the account of the runtime against that of the stubs."""
    problems: list[str] = []

    def expect(holds: bool, text: str) -> None:
        if not holds:
            problems.append(text)

    expect([d.query_id for d in decisions] == [task["id"] for task in made[:tasks]], "a task was lost or out of order")
    ended = {row["query_id"]: row["outcome"] for row in rows if row["kind"] == "task"}
    begun = {query for query, _ in world.begun}
    expect(begun <= set(ended), "a task that began has no end in the log")
    expect(all(d.outcome != "harness_error" for d in decisions), "the harness broke on a task")
    expect(left == 0, f"{left} asyncio tasks were left running")
    expect(not +world.running, f"{sum((+world.running).values())} calls were left running")
    expect(runtime.counts["leaked"] == 0, f"{runtime.counts['leaked']} calls leaked")
    expect(runtime.counts["overruns"] == 0, "a call passed its declared cost")
    over = [d.query_id for d in decisions if d.spend_usd > d.budget_usd]
    expect(not over, f"budget passed on {over[:3]}")
    spent = {d.query_id: d.spend_usd for d in decisions}
    short = [query for query, usd in spent.items() if world.told_usd[query] > usd + 1e-9]
    expect(not short, f"money that a stub reported is missing on {short[:3]}")
    calls = [row for row in rows if row["kind"] != "task"]
    keys = Counter((row["query_id"], row["config"], row["sample"]) for row in calls)
    expect(max(keys.values()) == 1, "a call has two rows")
    expect(len(calls) == runtime.counts["calls"], f"{len(calls)} rows for {runtime.counts['calls']} calls")
    per_service = Counter((row["query_id"], row["config"]) for row in calls)
    unseen = sum((world.begun - per_service).values())
    expect(unseen == 0, f"{unseen} calls reached a stub and have no row")
    # a call that was cancelled before its first instruction has a row, and no stub ever saw it
    ghosts = per_service - world.begun
    early = Counter((row["query_id"], row["config"]) for row in calls if row["failure_mode"] == "cancelled")
    expect(not ghosts - early, "rows of calls that no stub saw")
    by_task = Counter(row["query_id"] for row in calls)
    expect(all(len(d.calls) == by_task[d.query_id] for d in decisions), "decisions and log disagree")
    share = max(d.spend_usd / d.budget_usd for d in decisions)
    return Report(
        tasks, len(made) - tasks, len(calls), seconds, world.most_running, share,
        sum(d.refused for d in decisions), dict(Counter(ended.values())),
        dict(Counter(row["failure_mode"] for row in calls)), exported, problems,
    )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--concurrency", type=int, default=64, help="tasks at a time")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    report = soak(args.tasks, args.concurrency, seed=args.seed)
    print(json.dumps(vars(report), indent=2))
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
