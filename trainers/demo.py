"""``brownout demo``: the main job on one page, from nothing to a trained policy beside every baseline."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console

from ..envs.router_core import RouterCore
from ..scenarios.loading import load_scenario
from .api import train
from .baselines import Actor, applicable_baselines
from .evaluation import Evaluation, evaluate
from .narrate import tell
from .run_folder import keep_evaluation
from .tables import print_evaluation, verdict

SCENARIO = "support-desk"


def run_demo(*, steps: int, episodes: int, seed: int, out: Path, console: Console) -> Evaluation:
    """Train, compare with every baseline, tell one episode, and leave policy, table and picture in ``out``.

    Args:
        steps: training steps.
        episodes: evaluation episodes per policy.
        seed: seed of the training.
        out: run folder.
        console: where to print.
    """
    scenario = load_scenario(SCENARIO)
    start = time.perf_counter()

    def say(text: str) -> None:
        console.print(text, highlight=False)

    say(f"[bold]1[/] Training on [bold]{SCENARIO}[/] under production faults: {steps:,} steps with PPO, in process.")
    result = train(scenario, steps=steps, seed=seed, out=out, progress=True)
    say(f"  {result.steps:,} steps in {result.seconds:.0f} s; the policy is in {out}")
    say(f"[bold]2[/] The same {episodes:,} held-out episodes for the policy and for every rule of thumb.")
    core = RouterCore(scenario, 1, split="eval")
    rivals = {name: f"baseline:{name}" for name in applicable_baselines(core)}
    with console.status("evaluating"):
        evaluation = evaluate({"trained": result.policy, **rivals}, scenario, episodes=episodes)
    print_evaluation(evaluation, console)
    say(verdict(evaluation))
    keep_evaluation(out, evaluation)
    say("[bold]3[/] One of those episodes, as the trained policy played it:")
    story = _eventful(result.policy, core)
    for line in story:
        console.print(f"  {line}", highlight=False, markup=False)
    picture = _draw(evaluation, out / "frontier.png")
    say(f"[bold]4[/] Files: {out}/policy.json, weights.npz, metrics.jsonl, evaluation.json" + (picture or ""))
    say(f"Done in {time.perf_counter() - start:.0f} s. Next: brownout rollout {SCENARIO} --policy {out} --show-faults")
    return evaluation


def _eventful(policy: Actor, core: RouterCore, tries: int = 200) -> list[str]:
    """The first evaluated episode, of a length one can read, in which a fault struck and the answer was right."""
    story = tell(policy, core, 0)
    for episode in range(tries):
        story = tell(policy, core, 0, episode)
        if story.injections and story.outcome == "success" and 5 <= len(story.lines) <= 14:
            break
    return story.lines


def _draw(evaluation: Evaluation, path: Path) -> str | None:
    try:
        from .pictures import draw_frontier

        draw_frontier(evaluation, path)
    except ImportError:
        return None
    return f", {path.name}"
