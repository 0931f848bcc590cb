"""One self-contained HTML page about a training: no script, no font, no picture from elsewhere.

Everything in it is measured: figures and pictures come from the run folder or from episodes that are played now. The
template is ``report.html`` beside this file; values are escaped, pictures are inline SVG whose colours follow the
page's light or dark theme. Needs ``pip install 'brownout[report]'``.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from ..envs.cores import make_core
from ..envs.lanes import LaneCore
from ..errors import PolicyError
from ..scenarios.schema import RouterScenario
from ..scenarios.workflow_schema import WorkflowScenario
from .artefact import write_text
from .baselines import applicable_baselines
from .evaluation import Evaluation, evaluate, play, resolve_policy
from .frontier import quality_hull
from .narrate import Story, tell
from .page import Picture, inline, page_template, render
from .picture_style import save_png
from .ppo import PPOConfig
from .run_folder import RunFolder
from .single_calls import single_call_points
from .tables import cells, headings, verdict

TEMPLATE: Final = "report.html"
EPISODES: Final = 2000
TOLD: Final = 400  # episodes among which those to tell are found
HERO: Final = "trained"
# what was kept before the kind was named was a hindsight bound
_BOUNDS = {None: "hindsight bound", "hindsight": "hindsight bound", "oracle": "oracle"}


@dataclass(frozen=True)
class ToldEpisode:
    """One episode as two policies played it, with the reason why it is shown."""

    number: int
    why: str
    told: tuple[tuple[str, Story, Picture | None], ...]


@dataclass(frozen=True)
class Report:
    """Everything a report shows, before it becomes a page.

    Args:
        run: the training.
        evaluation: the policy, ``trained``, beside every baseline.
        seed: seed of the episodes.
        stored: whether the evaluation is the one stored in the folder.
        pictures: in the order of the page.
        episodes: a few, told.
        panels: of the calibration, if there is one.
    """

    run: RunFolder
    evaluation: Evaluation
    seed: int
    stored: bool
    pictures: tuple[Picture, ...]
    episodes: tuple[ToldEpisode, ...]
    panels: tuple[Picture, ...] = field(default=())


def write_report(
    run: str | Path,
    out: str | Path | None = None,
    *,
    episodes: int | None = None,
    scenario: str | Path | None = None,
    calibration: str | Path | None = None,
    pictures: str | Path | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Path:
    """Write the report of a training.

    Args:
        run: run folder of ``brownout train``.
        out: HTML file; default: ``report.html`` in the run folder.
        episodes: evaluate anew on this many episodes; default: the stored evaluation, else 2,000.
        scenario: its file, for a folder that does not hold it and whose scenario is not built in.
        calibration: what ``brownout calibrate --json`` printed.
        pictures: folder for every picture as PNG; None writes none.
        seed: seed of the episodes.
        progress: told what is being done.

    Returns:
        the file written.

    Raises:
        ArtefactError, ScenarioError: the folder or a file in it cannot be used.
        MissingExtraError: without jinja2 or matplotlib.
    """
    template = page_template(TEMPLATE)
    say = progress or (lambda text: None)
    folder = RunFolder.read(run, scenario=scenario, calibration=None if calibration is None else Path(calibration))
    report = gather(folder, episodes=episodes, seed=seed, progress=say)
    say("drawing")
    path = Path(out) if out is not None else Path(run) / "report.html"
    text = render(template, page_data(report, path))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
    if pictures is not None:
        told = [picture for episode in report.episodes for _, _, picture in episode.told if picture is not None]
        for picture in (*report.pictures, *report.panels, *told):
            save_png(picture.figure, Path(pictures) / f"{picture.name}.png")
    return path


# ---------------------------------------------------------------- measuring


def gather(
    run: RunFolder, *, episodes: int | None = None, seed: int = 0, progress: Callable[[str], None] = lambda text: None
) -> Report:
    """Measure what the folder does not hold and draw it all.

    Args:
        run: the training.
        episodes: evaluate anew on this many episodes; None takes the stored evaluation, if there is one.
        seed: seed of the episodes.
        progress: told what is being done.
    """
    evaluation, stored = run.evaluation, True
    if evaluation is None or episodes is not None or evaluation.seed != seed:
        progress("evaluating")
        evaluation, stored = _evaluate(run, episodes or EPISODES, seed), False
    points = None
    if isinstance(run.scenario, RouterScenario):
        progress("playing single calls")
        points = single_call_points(
            run.scenario, episodes=min(evaluation.rows[0].episodes, EPISODES), profile=run.profile,
            intensity=run.intensity, seed=seed,
        )  # fmt: skip
    progress("telling episodes")
    told = _told(run, evaluation, seed)
    return Report(run, evaluation, seed, stored, _pictures(run, evaluation, points), told, _panels(run))


def _core(run: RunFolder, lanes: int = 1) -> LaneCore:
    return make_core(run.scenario, lanes, profile=run.profile, intensity=run.intensity, split="eval")


def _evaluate(run: RunFolder, episodes: int, seed: int) -> Evaluation:
    rivals = {name: f"baseline:{name}" for name in applicable_baselines(_core(run))}
    return evaluate({HERO: run.policy, **rivals}, run.scenario, episodes=episodes, profile=run.profile,
                    intensity=run.intensity, seed=seed)  # fmt: skip


def _told(run: RunFolder, evaluation: Evaluation, seed: int) -> tuple[ToldEpisode, ...]:
    """The episodes with the largest gain, the largest loss and the median difference against the best baseline."""
    core = _core(run)
    rival = _best_rival(evaluation)
    if rival is None:
        return ()
    try:
        actor = resolve_policy(f"baseline:{rival}", core)[1]
    except PolicyError:  # a stored evaluation may name a policy of its own
        return ()
    several = _core(run, min(TOLD, 128))
    gain = (
        play(run.policy, several, TOLD, seed).utility
        - play(resolve_policy(f"baseline:{rival}", several)[1], several, TOLD, seed).utility
    )
    order = np.argsort(gain, kind="stable")
    chosen = {
        int(order[-1]): f"the largest gain over {rival} among the first {TOLD} episodes",
        int(order[0]): f"the largest loss against {rival} among them",
        int(order[TOLD // 2]): "the median difference",
    }
    episodes = []
    for number, why in chosen.items():
        stories = [(name, tell(who, core, seed, number)) for name, who in ((HERO, run.policy), (rival, actor))]
        until = max(max((span.end_s for span in story.spans), default=0.0) for _, story in stories)
        pairs = tuple(
            (name, story, _timeline(name, story, number, until, i)) for i, (name, story) in enumerate(stories)
        )
        episodes.append(ToldEpisode(number, why, pairs))
    return tuple(episodes)


def _best_rival(evaluation: Evaluation) -> str | None:
    rows = [row for row in evaluation.rows[1:] if row.name not in ("null", "random")]
    return max(rows, key=lambda row: row.utility.value).name if rows else None


def _timeline(name: str, story: Story, number: int, until: float, place: int) -> Picture | None:
    if not story.spans:  # an episode without calls
        return None
    from .episode_picture import episode_figure

    figure = episode_figure(story, f"{name}: utility {story.utility:+.3f}", until, analysis=True)
    title = f"Episode {number} as {name} played it"
    return Picture(f"episode-{number}-{place}", figure, title, "")


def _pictures(run: RunFolder, evaluation: Evaluation, points: Any) -> tuple[Picture, ...]:
    from . import pictures as draw

    found: list[Picture] = []
    if run.records:
        lines = {}
        if evaluation.ceiling is not None:
            lines["optimum"] = evaluation.ceiling
        if evaluation.bound is not None and (evaluation.ceiling is None or evaluation.bound > evaluation.ceiling):
            lines[_BOUNDS[evaluation.bound_kind]] = evaluation.bound
        found.append(Picture(
            "learning", draw.learning_figure(run.records, lines), "Learning curve",
            "Utility per episode while training, with sampled actions, and of the most likely actions on held-out "
            "episodes of the training split. Lines are what no policy can pass, measured on the evaluated episodes: "
            "the optimum where it is known, else what knowing every draw in advance would give.",
        ))  # fmt: skip
    hull = None if points is None else quality_hull(points)
    line = " On the dashed line lies what a random mix of single calls gives, each submitted unseen; a router has to " \
           "be above it."  # fmt: skip
    found.append(Picture(
        "frontier", draw.frontier_figure(evaluation, hull), "Success against cost",
        "Up and to the left is better. Bars are 95 % intervals." + ("" if hull is None else line),
    ))  # fmt: skip
    paired = draw.paired_figure(evaluation)
    if paired is not None:
        found.append(Picture(
            "paired", paired, "Paired differences",
            "Difference in utility on the same episodes, with 95 % intervals. Right of the line the trained policy is "
            "ahead (diamond), left of it behind (cross); a circle means that the interval holds zero.",
        ))  # fmt: skip
    found.append(Picture(
        "outcomes", draw.outcomes_figure(evaluation), "Outcomes",
        "How episodes end, as shares. Best utility on top.",
    ))  # fmt: skip
    for kind, word in (("cost_usd", "Cost"), ("latency_s", "Time")):
        found.append(Picture(
            kind.split("_")[0], draw.quantiles_figure(evaluation, kind), f"{word} per episode",
            "Median, mean, 95th and 99th percentile.",
        ))  # fmt: skip
    return tuple(found)


def _panels(run: RunFolder) -> tuple[Picture, ...]:
    if run.goodness is None:
        return ()
    from .goodness_picture import PANELS, panel_figure

    titles = {"success": "Success at n", "cost": "Cost of a call", "latency": "Time of a call",
              "held-out": "Held-out queries"}  # fmt: skip
    return tuple(Picture(f"calibration-{name}", panel_figure(run.goodness, name), titles[name], "") for name in PANELS)


# ---------------------------------------------------------------- page


def page_data(report: Report, out: Path) -> dict[str, Any]:
    """What the template reads: plain values, and pictures as SVG marked safe.

    Args:
        report: what to show.
        out: where the page will be, for the command that makes it again.
    """
    evaluation, run = report.evaluation, report.run
    first = evaluation.rows[0]
    ranked = sorted(evaluation.rows, key=lambda row: -row.utility.value)
    return {
        "title": f"{run.scenario.name}, profile {evaluation.profile}",
        "description": " ".join(run.scenario.description.split()),
        "headline": _headline(evaluation),
        "verdict": verdict(evaluation) if len(evaluation.rows) > 1 else "",
        "facts": _facts(report),
        "measured_on": _measured_on(report),
        "headings": headings(evaluation),
        "rows": [{"hero": row is first, "cells": cells(evaluation, row)} for row in ranked],
        "pictures": [inline(picture) for picture in report.pictures],
        "episodes": [
            {
                "number": episode.number,
                "why": episode.why,
                "told": [
                    {"name": name, "picture": None if picture is None else inline(picture), "lines": story.lines,
                     "faults": _faults(story), "utility": f"{story.utility:+.4f}",
                     "outcome": story.outcome.replace("_", " ")}
                    for name, story, picture in episode.told
                ],
            }
            for episode in report.episodes
        ],
        "drawn": any(picture is not None for episode in report.episodes for _, _, picture in episode.told),
        "workflow": isinstance(run.scenario, WorkflowScenario),
        "panels": [inline(picture) for picture in report.panels],
        "calibration": _calibration(run),
        "warnings": list(run.warnings),
        "commands": _commands(report, out),
    }  # fmt: skip


def _headline(evaluation: Evaluation) -> list[dict[str, str]]:
    first = evaluation.rows[0]
    u, s = first.utility, first.success
    found = [
        {"name": "utility per episode", "value": f"{u.value:.3f}", "range": f"{u.low:.3f} to {u.high:.3f}"},
        {"name": "success", "value": f"{100 * s.value:.1f} %",
         "range": f"{100 * s.low:.1f} to {100 * s.high:.1f} %"},
        {"name": "mean cost", "value": f"${first.cost_usd.value:.4f}",
         "range": f"{first.cost_usd.low:.4f} to {first.cost_usd.high:.4f}"},
        {"name": "mean time", "value": f"{first.latency_s.value:.1f} s",
         "range": f"{first.latency_s.low:.1f} to {first.latency_s.high:.1f} s"},
    ]  # fmt: skip
    if first.share_of_ceiling is not None and evaluation.ceiling is not None:
        share = f"{100 * first.share_of_ceiling:.1f} %"
        found.insert(1, {"name": "of the optimum", "value": share, "range": f"optimum {evaluation.ceiling:.4f}"})
    elif first.share_of_bound is not None and evaluation.bound is not None:
        share = f"{100 * first.share_of_bound:.1f} %"
        name = _BOUNDS[evaluation.bound_kind]
        found.insert(1, {"name": f"of the {name}", "value": share, "range": f"{name} {evaluation.bound:.3f}"})
    rivals = [row for row in evaluation.rows[1:] if row.against is not None]
    if rivals:
        best = max(rivals, key=lambda row: row.utility.value)
        gap = best.against
        assert gap is not None
        found.append({"name": f"ahead of {best.name}, the best baseline", "value": f"{gap.value:+.3f}",
                      "range": f"{gap.low:+.3f} to {gap.high:+.3f}, paired"})  # fmt: skip
    return found


def _facts(report: Report) -> list[tuple[str, str]]:
    run = report.run
    training, settings = run.card.training, run.about.get("settings", {})
    facts: list[tuple[str, str]] = [
        ("scenario", f"{run.scenario.name} ({run.card.scenario_hash})"),
        ("fault profile", run.profile + (f" at intensity {run.intensity:g}" if run.intensity != 1.0 else "")),
        *([("configurations", ", ".join(run.scenario.portfolio))] if isinstance(run.scenario, RouterScenario) else []),
        ("seed", str(training.get("seed", run.config.get("seed", "not recorded")))),
        ("steps", f"{int(training['steps']):,}" if "steps" in training else "not recorded"),
        ("training time", f"{float(training['seconds']):.0f} s" if "seconds" in training else "not recorded"),
        ("hidden layers", " x ".join(map(str, run.policy.hidden))),
        ("brownout", str(run.about.get("brownout", "version not recorded"))),
        ("machine", _machine(run.about.get("machine", {}))),
        ("run folder", str(run.folder)),
    ]
    spread = {"workers": 1, "collectors": 0, "seeds": 1}
    side = [f"{settings[name]} {name}" for name, alone in spread.items() if settings.get(name, alone) != alone]
    if side:
        facts.insert(7, ("on Ray", ", ".join(side)))
    return facts


def _machine(machine: Mapping[str, Any]) -> str:
    if not machine:
        return "not recorded"
    versions = [f"{name} {machine[name]}" for name in ("python", "numpy", "torch", "ray") if name in machine]
    return f"{machine.get('cores', '?')} cores, {machine.get('system', '?')}; {', '.join(versions)}"


def _measured_on(report: Report) -> str:
    evaluation = report.evaluation
    text = (
        f"{evaluation.rows[0].episodes:,} {evaluation.split} episodes of seed {evaluation.seed}, the same for every "
        "policy; intervals are 95 %."
    )
    if evaluation.clusters is not None:
        text += f" They replay {evaluation.clusters} recorded queries, and intervals are cluster-robust over queries."
    return text + (" Measured after the training." if report.stored else " Measured for this report.")


def _faults(story: Story) -> list[str]:
    return [f"from the start: {fault} in {field}" for field, fault in story.spoilt.items()] + [
        f"{row['time_s']:.2f} s: {row['fault']} on {row['service']}, call {int(row['number']) + 1}"
        for row in story.injections
    ]


def _calibration(run: RunFolder) -> str:
    if run.goodness is None:
        return ""
    inside, total = run.goodness.inside()
    return (
        f"{inside} of {total} simulated figures lie in the 95 % interval of the recorded ones "
        f"({run.goodness.tasks:,} simulated tasks). Figures outside are ringed."
    )


def _commands(report: Report, out: Path) -> list[str]:
    """The command lines that make run, evaluation and report again."""
    run = report.run
    known = run.folder / "scenario.yaml"
    source = str(known) if known.is_file() else str(run.scenario.path or run.scenario.name)
    if run.scenario.path is not None and run.scenario.path.parent.name == "scenarios" and not run.about:
        source = run.scenario.name
    faults = [] if run.profile == "production" else ["--profile", run.profile]
    faults += [] if run.intensity == 1.0 else ["--intensity", f"{run.intensity:g}"]
    settings = run.about.get("settings", {})
    ray = [part for name, alone in (("workers", 1), ("collectors", 0), ("seeds", 1))
           if settings.get(name, alone) != alone for part in (f"--{name}", str(settings[name]))]  # fmt: skip
    default = PPOConfig()
    options = []
    for name, value in run.config.items():
        usual = getattr(default, name, None)
        if name not in ("steps", "seed") and (list(usual) if isinstance(usual, tuple) else usual) != value:
            options += ["--option", f"{name}={value}"]
    steps, seed = run.config.get("steps", run.card.training.get("steps")), run.config.get("seed", 0)
    length = ["--steps", str(steps)] if steps else []
    train = ["brownout", "train", source, *length, "--seed", str(seed), *faults, *ray, *options, "--out",
             str(run.folder)]  # fmt: skip
    rivals = [f"baseline:{row.name}" for row in report.evaluation.rows[1:]]
    test = ["brownout", "evaluate", str(run.folder), *rivals, "--scenario", source, "--episodes",
            str(report.evaluation.rows[0].episodes), "--seed", str(report.seed), *faults]  # fmt: skip
    again = ["brownout", "report", str(run.folder), "--out", str(out)]
    return [shlex.join(command) for command in (train, test, again)]
