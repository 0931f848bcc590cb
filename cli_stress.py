"""The commands that test an agent before it goes out: stress, freeze, replay and shadow."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from .errors import StressError

if TYPE_CHECKING:
    from .scenarios import Scenario
    from .trainers.own_tools import OwnTools

app = typer.Typer()
out = Console()
err = Console(stderr=True)

AgentArgument = Annotated[
    str, typer.Argument(metavar="AGENT", help="module:callable, file.py:callable, http:COMMAND or mcp:COMMAND.")
]
ScenarioOption = Annotated[
    str | None, typer.Option("--scenario", "-s", help="Built-in workflow or YAML file.")
]  # fmt: skip
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Override a field of the scenario. Repeatable.")
]
EvalsetOption = Annotated[Path | None, typer.Option("--evalset", metavar="FILE", help="Play a frozen set instead.")]
EpisodesOption = Annotated[int, typer.Option("--episodes", "-n", min=1, help="Episodes per condition.")]
RepeatsOption = Annotated[int, typer.Option(min=1, help="How often each is played; for pass^k.")]
ProfileOption = Annotated[str, typer.Option("--profile", help="Fault profile.")]
IntensityOption = Annotated[float, typer.Option("--intensity", min=0, help="Scales every fault.")]
SplitOption = Annotated[str, typer.Option(help="eval or train.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of the episodes.")]
WorkersOption = Annotated[int, typer.Option(min=1, help="Processes; changes speed, not results.")]
TimeLimitOption = Annotated[
    float | None, typer.Option(min=0, help="Real seconds after which no further episode begins.")
]  # fmt: skip
CostLimitOption = Annotated[
    float | None, typer.Option(min=0, help="USD the agent reports (session.usage) after which no episode begins.")
]
TimeoutOption = Annotated[float, typer.Option(help="Real seconds an episode may take.")]
CallsOption = Annotated[int, typer.Option(min=1, help="Requests an episode may take.")]
UsdOption = Annotated[float | None, typer.Option(min=0, help="USD an episode may cost.")]
LoopOption = Annotated[int, typer.Option(min=0, help="Repeated requests without news that are a loop; 0 never.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Complete the run in --out.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="No progress display.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
EffectOption = Annotated[
    list[str] | None, typer.Option("--effect", help="Only episodes that this fault effect struck. Repeatable.")
]


def _load(scenario: str, overrides: list[str] | None) -> Scenario:
    from .scenarios import load_scenario

    return load_scenario(scenario, overrides or [])


@contextmanager
def _terminable() -> Iterator[None]:
    """Let a run that is told to end (SIGTERM, as CI does) end as it does on Ctrl-C."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@app.command("stress")
def stress_command(
    agent: AgentArgument,
    scenario: ScenarioOption = None,
    evalset: EvalsetOption = None,
    tools: Annotated[
        str | None, typer.Option(metavar="PLACE", help="Tools of your own: module:make or file.py:make.")
    ] = None,
    plan: Annotated[Path | None, typer.Option(metavar="FILE", help="Their faults, a YAML list.")] = None,
    check: Annotated[
        str | None, typer.Option(metavar="PLACE", help="How their world stands at the end: check(world, answer).")
    ] = None,
    episodes: EpisodesOption = 200,
    repeats: RepeatsOption = 1,
    profile: ProfileOption = "production",
    intensity: IntensityOption = 1.0,
    seed: SeedOption = 0,
    split: SplitOption = "eval",
    isolate: Annotated[bool, typer.Option("--isolate", help="Also play every effect alone.")] = False,
    intensities: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Also play these intensities, e.g. 0,0.5,1,1.5,2.")
    ] = None,
    workers: WorkersOption = 1,
    timeout: TimeoutOption = 300.0,
    max_calls: CallsOption = 200,
    max_usd: UsdOption = None,
    loop_after: LoopOption = 25,
    time_limit: TimeLimitOption = None,
    cost_limit: CostLimitOption = None,
    folder: Annotated[Path, typer.Option("--out", help="Run folder, written as the run goes.")] = Path("runs/stress"),
    resume: ResumeOption = False,
    overwrite: OverwriteOption = False,
    overrides: SetOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Stress-test an agent: the same episodes clean and faulted, and where it breaks.

    Crashes, hangs and deaths of the agent are outcomes. Ctrl-C leaves a run that --resume completes.
    """
    from .trainers.stress import INTERRUPTED, stress
    from .trainers.stress_table import StressProgress, print_report
    from .trainers.stress_watch import Limits

    limits = Limits(max_calls=max_calls, max_usd=max_usd, timeout_s=timeout, loop_after=loop_after)
    with StressProgress(err) as progress, _terminable():
        report = stress(
            agent, _ground(scenario, tools, plan, check), overrides=overrides or [], episodes=episodes,
            repeats=repeats, profile=profile, intensity=intensity, split=split, seed=seed, isolate=isolate,
            intensities=_numbers(intensities), evalset=evalset, limits=limits, workers=workers,
            time_limit_s=time_limit, cost_limit_usd=cost_limit, out=folder, resume=resume, overwrite=overwrite,
            progress=None if quiet else progress, say=progress.say,
        )  # fmt: skip
    if as_json:
        print(report.to_json(), end="")
    else:
        print_report(report, out)
        out.print(f"Run folder: {folder}", highlight=False)
    if not report.valid:
        raise StressError(f"{folder}: no episode has a score: {'; '.join(report.notes) or report.stopped}")
    if report.stopped == INTERRUPTED:
        raise typer.Exit(1)


@app.command("shadow")
def shadow_command(
    candidate: Annotated[str, typer.Argument(metavar="CANDIDATE", help="The agent that may go out.")],
    baseline: Annotated[str, typer.Option(help="The agent in use, or the folder of a stress run of it.")],
    scenario: ScenarioOption = None,
    evalset: EvalsetOption = None,
    episodes: EpisodesOption = 200,
    repeats: RepeatsOption = 1,
    profile: ProfileOption = "production",
    intensity: IntensityOption = 1.0,
    seed: SeedOption = 0,
    split: SplitOption = "eval",
    workers: WorkersOption = 1,
    timeout: TimeoutOption = 300.0,
    max_calls: CallsOption = 200,
    max_usd: UsdOption = None,
    loop_after: LoopOption = 25,
    time_limit: TimeLimitOption = None,
    cost_limit: CostLimitOption = None,
    folder: Annotated[Path, typer.Option("--out", help="Folder for both runs.")] = Path("runs/shadow"),
    resume: ResumeOption = False,
    overwrite: OverwriteOption = False,
    overrides: SetOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run a candidate beside the agent in use on the same episodes: paired differences of every metric.

    The limits of time and cost hold for each of the two.
    """
    from .trainers.shadow import shadow
    from .trainers.stress import INTERRUPTED
    from .trainers.stress_table import StressProgress, print_shadow
    from .trainers.stress_watch import Limits

    limits = Limits(max_calls=max_calls, max_usd=max_usd, timeout_s=timeout, loop_after=loop_after)
    with StressProgress(err) as progress, _terminable():
        report, *runs = shadow(
            candidate, baseline, out=folder, resume=resume, overwrite=overwrite, scenario=scenario,
            overrides=overrides or [], episodes=episodes, repeats=repeats, profile=profile, intensity=intensity,
            split=split, seed=seed, evalset=evalset, limits=limits, workers=workers, time_limit_s=time_limit,
            cost_limit_usd=cost_limit, progress=None if quiet else progress, say=progress.say,
        )  # fmt: skip
    if as_json:
        print(report.model_dump_json(indent=2))
    else:
        print_shadow(report, out)
        out.print(f"Folder: {folder}", highlight=False)
    if any(run.stopped == INTERRUPTED for run in runs):
        raise typer.Exit(1)


@app.command("freeze")
def freeze_command(
    source: Annotated[str, typer.Argument(metavar="RUN|SCENARIO", help="Folder of a stress run, or a workflow.")],
    target: Annotated[Path, typer.Option("--out", help="File to write, JSON lines.")],
    worst: Annotated[
        int | None, typer.Option(min=1, help="Run: the episodes of the lowest utility; default all.")
    ] = None,
    condition: Annotated[str | None, typer.Option(help="Run: clean, faulted (default), only:EFFECT.")] = None,
    effect: EffectOption = None,
    episodes: Annotated[int, typer.Option("--episodes", "-n", min=1, help="Scenario: how many episodes.")] = 50,
    profile: ProfileOption = "production",
    intensity: IntensityOption = 1.0,
    seed: SeedOption = 0,
    split: SplitOption = "eval",
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Freeze episodes into an evaluation set that is played exactly, or refused."""
    from .trainers.freeze import freeze_run, freeze_scenario
    from .trainers.stress_rows import FAULTED

    if Path(source).is_dir():
        frozen = freeze_run(source, target, worst=worst, effects=effect or (), condition=condition or FAULTED)
    elif worst is not None or condition is not None:
        raise StressError(f"{source!r} is no folder of a stress run; --worst and --condition belong to one")
    else:
        frozen = freeze_scenario(
            _load(source, overrides), target, episodes=episodes, profile=profile, intensity=intensity, split=split,
            seed=seed, effects=effect or (),
        )  # fmt: skip
    if as_json:
        print(json.dumps({"file": str(target), "hash": frozen.hash, "episodes": len(frozen.episodes)}, indent=2))
    else:
        out.print(f"{len(frozen.episodes)} episodes in {target}, hash {frozen.hash[:12]}", highlight=False)


@app.command("replay")
def replay_command(
    source: Annotated[Path, typer.Argument(metavar="RUN|FILE", help="Folder of a stress run, or a frozen set.")],
    episode: Annotated[
        int | None, typer.Option(min=0, help="Its number; in a set its line from 0. Default: all.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Run: seed of the episode.")] = None,
    condition: Annotated[str | None, typer.Option(help="Run: clean, faulted (default), only:EFFECT.")] = None,
    repeat: Annotated[int, typer.Option(min=0, help="Run: which of the repeats.")] = 0,
    agent: Annotated[str | None, typer.Option(help="Let this agent play, instead of the recorded requests.")] = None,
    scenario: ScenarioOption = None,
    as_json: JsonOption = False,
) -> None:
    """Play recorded episodes again, and say whether anything differs from the recording.

    Exit status 1 when it does.
    """
    from .trainers.stress_replay import open_source, replay, replay_with
    from .trainers.stress_table import print_differences, print_replay

    found = open_source(
        source, episode=episode, seed=seed, condition=condition, repeat=repeat,
        scenario=None if scenario is None else _load(scenario, None),
    )  # fmt: skip
    done = differing = identical = 0
    for one in replay(found) if agent is None else replay_with(found, agent):
        done += 1
        differing += not one.same
        identical += bool(one.identical)
        if as_json:
            print(
                json.dumps(json.loads(one.row.to_line()) | {"differences": one.differences, "identical": one.identical})
            )
        elif episode is not None:
            print_replay(one, out)
        else:
            print_differences(one, out)
    if not as_json:
        out.print(f"{done - differing} of {done} episodes as recorded", highlight=False)
        if agent is not None:
            out.print(f"In {identical} the agent did what the recorded one did.", highlight=False)
    if differing:
        raise typer.Exit(1)


def _ground(scenario: str | None, tools: str | None, plan: Path | None, check: str | None) -> str | OwnTools | None:
    """What an agent is stressed on: a scenario, or tools of a team's own."""
    if tools is None:
        if plan is not None or check is not None:
            raise StressError("--plan and --check belong to --tools; a scenario has its own faults and its own truth")
        return scenario
    if plan is None or scenario is not None:
        raise StressError("--tools needs --plan, the file with their faults, and takes the place of --scenario")
    from .trainers.own_tools import OwnTools

    return OwnTools.of(tools, plan, check)


def _numbers(text: str | None) -> list[float]:
    if text is None:
        return []
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise StressError(f"--intensities {text!r}: allowed: numbers, e.g. 0,0.5,1,1.5,2") from None
