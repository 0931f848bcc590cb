"""Measured figures and pictures: one training with a fixed seed, compared with every baseline."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from . import draw

DOCS = Path(__file__).resolve().parents[1]
RUN = DOCS.parent / "runs" / "docs"
PICTURES = DOCS / "pictures"
SCENARIO, STEPS, SEED, EPISODES = "support-desk", 4_000_000, 0, 10_000


def measure(*, fresh: bool) -> None:
    """Train, evaluate and draw; with ``fresh=False`` draw from the figures of the last time."""
    path = RUN / "figures.json"
    if fresh:
        RUN.mkdir(parents=True, exist_ok=True)
        data = _train_and_evaluate() | {"speed": _throughput()}
        path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    elif not path.is_file():
        raise SystemExit(f"{path}: no such file; run docs/build.py without --redraw first")
    _data.cache_clear()
    data = _data()
    PICTURES.mkdir(exist_ok=True)
    records = [json.loads(line) for line in (RUN / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    draw.frontier(data["production"], PICTURES / "frontier.png")
    draw.learning(records, data["production"], PICTURES / "learning.png")
    workflow_episode(PICTURES / "refund-episode.svg")
    draw.cliff(data["clean"], data["production"], data["cliff"], PICTURES / "cliff.png")


@cache
def _data() -> dict[str, Any]:
    return json.loads((RUN / "figures.json").read_text(encoding="utf-8"))


def _train_and_evaluate() -> dict[str, Any]:
    import brownout
    from brownout.envs.router_core import RouterCore
    from brownout.trainers.baselines import applicable_baselines
    from brownout.trainers.statistics import paired_difference
    from brownout.trainers.tables import to_markdown, verdict

    result = brownout.train(SCENARIO, steps=STEPS, seed=SEED, out=RUN)
    core = RouterCore(SCENARIO, 1, split="eval")
    rivals = {name: f"baseline:{name}" for name in applicable_baselines(core)}
    policies = {"trained": result.policy, **rivals}
    production = brownout.evaluate(policies, SCENARIO, episodes=EPISODES)
    clean = brownout.evaluate(policies, SCENARIO, episodes=EPISODES, profile="clean")
    cliff = {}
    for row in production.rows:
        before, after = clean.row(row.name).records, row.records
        assert before is not None
        assert after is not None
        change = paired_difference(after.utility, before.utility)
        cliff[row.name] = {"value": change.value, "low": change.low, "high": change.high}
    return {
        "steps": result.steps,
        "seconds": result.seconds,
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}, PyTorch {version('torch')}",
        "table": to_markdown(production),
        "verdict": verdict(production),
        "production": _points(production, core.reward_function),
        "clean": _points(clean, core.reward_function),
        "cliff": cliff,
    }


def _points(evaluation: Any, reward: Any) -> list[dict[str, Any]]:
    """One point per policy: what its outcomes are worth and what they cost, both in utility."""
    points = []
    for row in evaluation.rows:
        worth = sum(
            weight * float(row.records.component(name).mean())
            for name, weight in (
                ("accuracy", reward.accuracy), ("safety", reward.wrong_answer), ("handoff", reward.handoff),
            )
        )  # fmt: skip
        points.append({
            "name": row.name, "utility": row.utility.value, "low": row.utility.low, "high": row.utility.high,
            "worth": worth, "price": worth - row.utility.value, "success": row.success.value,
        })  # fmt: skip
    return points


def _throughput() -> dict[str, Any]:
    """What ``benchmarks/throughput.py`` measures, in a process of its own."""
    command = [sys.executable, str(DOCS.parent / "benchmarks" / "throughput.py"), "--json"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def speed() -> str:
    """Lane-steps per second of every environment, from legal actions."""
    data = _data()["speed"]
    figures = [f for f in data["figures"] if f["unit"] == "lane-steps/s" and f["actions"] == "legal"]
    lanes = sorted({f["lanes"] for f in figures})
    lines = [
        "| environment | form | faults | " + " | ".join(f"{n:,} lane{'s' * (n > 1)}" for n in lanes) + " |",
        "|" + " --- |" * (3 + len(lanes)),
    ]
    for key in dict.fromkeys((f["env"], f["form"], f["faults"]) for f in figures):
        found = {f["lanes"]: f["median"] for f in figures if (f["env"], f["form"], f["faults"]) == key}
        cells = [_thousands(found[n]) if n in found else "" for n in lanes]
        lines.append("| " + " | ".join([*key, *cells]) + " |")
    machine = data["machine"]
    where = f"{machine['cores']} cores ({machine['machine']}), Python {machine['python']}, NumPy {machine['numpy']}"
    load = ", ".join(str(value) for value in machine["load"])
    return "\n".join(lines) + f"\n\nMedians, one thread, on {where}; load before the run: {load}."


def _thousands(value: float) -> str:
    return f"{value / 1e6:.2f} M" if value >= 1e6 else f"{value / 1e3:.0f} k"


def demo_table() -> str:
    """The table of ``brownout demo``."""
    data = _data()
    speed = data["steps"] / data["seconds"]
    return (
        f"{data['steps']:,} training steps took {data['seconds']:.0f} s ({speed:,.0f} per second) on "
        f"{data['machine']}. Then {EPISODES:,} held-out episodes, the same for every policy:\n\n"
        f"{data['table']}\n\n{data['verdict']}"
    )


def demo_episode() -> str:
    """Of the first 500 held-out episodes answered right, the one with the most kinds of fault and the least ado."""
    import brownout
    from brownout.envs.router_core import RouterCore
    from brownout.trainers.narrate import tell

    policy, core = brownout.load_policy(RUN), RouterCore(SCENARIO, 1, split="eval")
    policy.check(core)
    stories = [(seed, tell(policy, core, seed)) for seed in range(500)]

    def rank(item: tuple[int, Any]) -> tuple[int, ...]:
        seed, story = item
        kinds = len({row["effect"] for row in story.injections})
        return (story.outcome == "success", kinds, -len(story.lines), -seed)

    seed, story = max(stories, key=rank)
    faults = [
        f"  {r['time_s']:.2f} s: {r['fault']} on {r['service']}, call {r['number'] + 1}" for r in story.injections
    ]
    head = f"{SCENARIO}, profile production, seed {seed}"
    text = "\n".join([head, *story.lines, f"utility {story.utility:+.4f}", "faults that struck:", *faults])
    return f"```text\n{text}\n```"


def workflow_episode(path: Path) -> None:
    """Draw a refund with three faults of three families in three places, two of which the agent meets with: of 5,000
    episodes the shortest success in which a write took effect while its answer was lost."""
    from brownout.envs.workflow_core import WorkflowCore
    from brownout.faults import lookup
    from brownout.trainers.baselines import make_baseline
    from brownout.trainers.narrate import tell
    from brownout.trainers.picture_style import save_svg
    from brownout.trainers.workflow_picture import workflow_figure

    core = WorkflowCore("refund", 1, split="eval")
    playbook = make_baseline("playbook", core)
    found = []
    for episode in range(5000):
        story = tell(playbook, core, SEED, episode)
        effects = [row["effect"] for row in story.injections] + [f.partition("#")[0] for f in story.spoilt.values()]
        families = {lookup(name).category for name in effects}
        unheard = any(moment.changes and moment.result != "ok" for moment in story.moments[1:])
        places = {row["step"] for row in story.injections} | set(story.spoilt)
        met = sum(moment.result not in ("", "ok") for moment in story.moments)
        if story.outcome == "success" and len(effects) == len(families) == len(places) == 3 and unheard and met > 1:
            found.append((len(story.lines), episode, story))
    _, episode, story = min(found, key=lambda item: item[:2])
    title = f"refund, seed {SEED}, episode {episode}: what playbook did"
    save_svg(workflow_figure(story, title, analysis=True), path, title)


def cliff_words() -> str:
    """What the best rule of the demo loses in production."""
    data = _data()
    clean = {row["name"]: row for row in data["clean"] if row["name"] != "trained"}
    production = {row["name"]: row for row in data["production"]}
    best = max(clean.values(), key=lambda row: row["utility"])
    change, after = data["cliff"][best["name"]], production[best["name"]]
    return (
        f"Without faults the best rule of thumb on `{SCENARIO}` is `{best['name']}`, with a utility of "
        f"{best['utility']:.3f} per episode and {100 * best['success']:.1f} % right answers. On the same {EPISODES:,} "
        f"episodes under the `production` profile it has {after['utility']:.3f} and {100 * after['success']:.1f} %: a "
        f"change of {change['value']:+.3f} (paired 95 % interval {change['low']:+.3f} to {change['high']:+.3f})."
    )


def cliff_table() -> str:
    """Every policy in both profiles."""
    data = _data()
    clean = {row["name"]: row for row in data["clean"]}
    lines = ["| policy | clean | production | change [95 %] |", "| --- | --- | --- | --- |"]
    for row in sorted(data["production"], key=lambda r: -r["utility"]):
        change = data["cliff"][row["name"]]
        lines.append(
            f"| {row['name']} | {clean[row['name']]['utility']:.3f} | {row['utility']:.3f} | "
            f"{change['value']:+.3f} [{change['low']:+.3f}, {change['high']:+.3f}] |"
        )
    return "\n".join(lines)


BLOCKS: dict[str, Callable[[], str]] = {
    "speed": speed,
    "demo-table": demo_table,
    "demo-episode": demo_episode,
    "cliff-words": cliff_words,
    "cliff-table": cliff_table,
}
