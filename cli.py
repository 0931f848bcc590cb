"""The ``brownout`` command.

Exit status: 0 when all went well, 1 when something ran and failed, 2 when the input was bad.
"""

from __future__ import annotations

import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.table import Table

from . import __version__
from .cli_gate import app as gate_app
from .cli_options import (
    CurriculumOption,
    EpisodesOption,
    ImitateOption,
    IntensityOption,
    JsonOption,
    PPOOption,
    ProfileOption,
    ScenarioArgument,
    SeedOption,
    SetOption,
    ppo_config,
)
from .cli_records import app as records_app
from .cli_report import app as report_app
from .cli_robustness import app as robustness_app
from .cli_runs import app as runs_app
from .cli_serve import app as serve_app
from .cli_stress import app as stress_app
from .cli_studies import app as studies_app
from .errors import BrownoutError, PolicyError, WorkerError

if TYPE_CHECKING:
    from .scenarios import Scenario
    from .trainers.evaluation import Evaluation

app = typer.Typer(
    help="Train and compare routing-and-stopping policies under production faults.",
    epilog="Start with:  brownout scenarios list   then   brownout train support-desk --steps 1000000",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
scenarios_app = typer.Typer(help="List, show, check and describe scenarios.", no_args_is_help=True)
app.add_typer(scenarios_app, name="scenarios")
app.add_typer(runs_app)
app.add_typer(stress_app)
app.add_typer(robustness_app)
app.add_typer(records_app)
app.add_typer(gate_app)
app.add_typer(report_app)
app.add_typer(studies_app)
app.add_typer(serve_app)
out = Console()
err = Console(stderr=True)

OnlyFaultsOption = Annotated[
    list[str] | None,
    typer.Option("--only-faults", metavar="SELECTOR", help="Keep these: family, effect or id. Repeatable."),
]
WithoutFaultsOption = Annotated[
    list[str] | None,
    typer.Option("--without-faults", metavar="SELECTOR", help="Leave these out: family, effect or id. Repeatable."),
]


def _load(scenario: str, overrides: list[str] | None) -> Scenario:
    from .scenarios import load_scenario

    return load_scenario(scenario, overrides or [])


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit


# ---------------------------------------------------------------- scenarios


@scenarios_app.command("list")
def scenarios_list(as_json: JsonOption = False) -> None:
    """List the built-in scenarios."""
    from .scenarios import builtin_scenarios, load_scenario

    rows = [load_scenario(name) for name in builtin_scenarios()]
    if as_json:
        _print_json([{"name": s.name, "env": s.env, "profiles": list(s.profiles), "description": s.description.strip(),
                      "hash": s.hash} for s in rows])  # fmt: skip
        return
    table = Table("name", "profiles", "what it is")
    for s in rows:
        first = " ".join(s.description.split()).split(". ")[0].rstrip(".")
        table.add_row(s.name, ", ".join(s.profiles), first)
    out.print(table)
    out.print("More: brownout scenarios show NAME", highlight=False)


@scenarios_app.command("show")
def scenarios_show(scenario: ScenarioArgument, overrides: SetOption = None, as_json: JsonOption = False) -> None:
    """Print a scenario in full, defaults and overrides filled in."""
    from .scenarios.loading import scenario_data

    data = scenario_data(_load(scenario, overrides))
    if as_json:
        _print_json(data)
    else:
        print(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=110), end="")


@scenarios_app.command("check")
def scenarios_check(
    scenario: Annotated[list[str] | None, typer.Argument(help="Names or files; default: all built-in ones.")] = None,
    overrides: SetOption = None,
    episodes: EpisodesOption = 500,
    profile: Annotated[list[str] | None, typer.Option("--profile", help="Only this profile. Repeatable.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Workflows: episodes that the oracle is to solve.")] = 1000,
    as_json: JsonOption = False,
) -> None:
    """Check that scenarios are valid, playable in every profile and neither trivial nor hopeless.

    A workflow is also shown to be solvable: an oracle succeeds, doing nothing fails, and what is out of reach is named.
    """
    from .scenarios import builtin_scenarios
    from .trainers.checking import check_scenario

    reports = [
        check_scenario(_load(name, overrides), episodes=episodes, profiles=profile, seeds=seeds)
        for name in scenario or builtin_scenarios()
    ]
    if as_json:
        _print_json([report.to_dict() for report in reports])
    else:
        for report in reports:
            out.print(report.to_text(), highlight=False)
    if not all(report.ok for report in reports):
        raise typer.Exit(1)


@scenarios_app.command("schema")
def scenarios_schema(env: Annotated[str, typer.Option(help="router or workflow.")] = "router") -> None:
    """Print the JSON schema of the scenario files of one environment, for editors."""
    from .scenarios import json_schema

    print(json_schema(env))


@app.command("faults")
def faults_list(as_json: JsonOption = False) -> None:
    """List the fault effects with their parameters and metadata."""
    from .faults import describe_faults

    rows = describe_faults()
    if as_json:
        print(json.dumps(rows, indent=2, default=str))
        return
    table = Table("fault", "family", "kind", "what it does and its parameters")
    for row in rows:
        parameters = ", ".join(f"{p['name']}={p['default']}" for p in row["parameters"])
        kind = f"{row['visibility']}, {row['duration']}"
        table.add_row(row["name"], row["category"], kind, f"{row['summary']} [dim]{parameters}[/]")
    out.print(table)


# ---------------------------------------------------------------- train


@app.command()
def train(
    scenario: ScenarioArgument,
    steps: Annotated[int, typer.Option(min=1, help="Environment steps of the training.")] = 3_000_000,
    seed: SeedOption = 0,
    profile: ProfileOption = "production",
    intensity: IntensityOption = 1.0,
    folder: Annotated[Path | None, typer.Option("--out", help="Run folder; default runs/SCENARIO.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the checkpoint in --out.")] = False,
    overrides: SetOption = None,
    option: PPOOption = None,
    curriculum: CurriculumOption = None,
    imitate: ImitateOption = None,
    only_faults: OnlyFaultsOption = None,
    without_faults: WithoutFaultsOption = None,
    seeds: Annotated[int, typer.Option(min=1, help="Ray: whole trainings side by side, the best is kept.")] = 1,
    sweep: Annotated[Path | None, typer.Option(help="Ray: YAML file of option: [values], the best is kept.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Ray: one training, gradients data-parallel over N.")] = 1,
    collectors: Annotated[int, typer.Option(min=0, help="Ray: N rollout actors (dear environments).")] = 0,
    address: Annotated[str | None, typer.Option(help="Ray cluster; default: a local one.")] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also write TensorBoard events.")] = False,
    episodes: EpisodesOption = 5000,
    evaluate: Annotated[bool, typer.Option(help="Compare with every baseline afterwards.")] = True,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress display.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a policy with PPO, then compare it with every baseline on held-out episodes.

    Runs in this process; --seeds, --sweep, --workers and --collectors use Ray. Ctrl-C keeps a checkpoint.
    """
    from .trainers.api import train as run

    loaded = _load(scenario, overrides)
    config = ppo_config(option, curriculum)
    folder = folder or Path("runs") / loaded.name
    result = run(
        loaded, steps=steps, seed=seed, profile=profile, intensity=intensity, out=folder, resume=resume, config=config,
        imitate=imitate, only_faults=only_faults or (), without_faults=without_faults or (), workers=workers,
        collectors=collectors, seeds=seeds, sweep=sweep, address=address,
        progress=not (quiet or as_json), tensorboard=tensorboard,
    )  # fmt: skip
    said = out if not as_json else err
    rate = result.steps / result.seconds if result.seconds else 0.0
    state = "interrupted after" if result.interrupted else "trained"
    said.print(f"{state} {result.steps:,} steps in {result.seconds:.1f} s ({rate:,.0f}/s); policy in {folder}",
               highlight=False)  # fmt: skip
    for warning in result.warnings:
        said.print(f"note: {warning}", highlight=False)
    if evaluate and not result.interrupted:
        from .trainers.run_folder import keep_evaluation

        table = _compare(result.policy, loaded, profile, intensity, episodes, said)
        keep_evaluation(folder, table)
        _show(table, as_json)
    elif as_json:
        _print_json({"steps": result.steps, "seconds": result.seconds, "out": str(folder)})
    if result.interrupted:
        raise typer.Exit(1)


@app.command("options")
def options_list(as_json: JsonOption = False) -> None:
    """List the PPO options with their defaults."""
    from .trainers.ppo import PPOConfig

    rows = [(f.name, f.default, f.metadata.get("help", "")) for f in fields(PPOConfig)]
    if as_json:
        _print_json([{"name": n, "default": d, "help": h} for n, d, h in rows])
        return
    table = Table("option", "default", "meaning")
    for name, default, text in rows:
        table.add_row(name, str(default), text)
    out.print(table)


def _compare(
    policy: Any, scenario: Scenario, profile: str, intensity: float, episodes: int, console: Console
) -> Evaluation:
    from .envs.cores import make_core
    from .trainers.baselines import applicable_baselines
    from .trainers.evaluation import evaluate as run

    core = make_core(scenario, 1, profile=profile, intensity=intensity)
    rivals = {name: f"baseline:{name}" for name in applicable_baselines(core)}
    with console.status("evaluating"):
        return run({"trained": policy, **rivals}, scenario, episodes=episodes, profile=profile, intensity=intensity)


def _show(evaluation: Evaluation, as_json: bool) -> None:
    from .trainers.tables import print_evaluation, verdict

    if as_json:
        print(evaluation.to_json())
        return
    print_evaluation(evaluation, out)
    if len(evaluation.rows) > 1:
        out.print(verdict(evaluation), highlight=False)


# ---------------------------------------------------------------- evaluate, rollout, export


@app.command("evaluate")
def evaluate_command(
    policy: Annotated[
        list[str], typer.Argument(metavar="POLICY...", help="Artefact folders or baseline:NAME; the first is compared.")
    ],
    scenario: Annotated[str, typer.Option("--scenario", "-s", help="Built-in name or YAML file.")],
    episodes: EpisodesOption = 5000,
    seed: SeedOption = 0,
    profile: ProfileOption = "production",
    intensity: IntensityOption = 1.0,
    split: Annotated[str, typer.Option(help="eval or train.")] = "eval",
    only_faults: OnlyFaultsOption = None,
    without_faults: WithoutFaultsOption = None,
    lanes: Annotated[int, typer.Option(min=1, help="Lanes; changes speed, not results.")] = 512,
    overrides: SetOption = None,
    frontier: Annotated[bool, typer.Option("--frontier", help="Sweep a preference: hull, AIQ, hypervolume.")] = False,
    sweep: Annotated[
        str | None,
        typer.Option(
            metavar="NAME=LOW:HIGH:POINTS", help="What --frontier sweeps; default: what the scenario samples."
        ),
    ] = None,
    resolved: Annotated[bool, typer.Option("--resolved", help="Frontier: count right hand-overs as answers.")] = False,
    picture: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Frontier: picture to write.")] = None,
    csv_file: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Frontier: points to write.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Evaluate policies on the same episodes: utility, success, cost, latency, paired differences."""
    from .trainers.evaluation import evaluate as run

    loaded = _load(scenario, overrides)
    if frontier:
        from .trainers.frontier_command import run_frontier

        run_frontier(
            policy, loaded, console=out, status=err, as_json=as_json, picture=picture, csv_file=csv_file, sweep=sweep,
            episodes=episodes, profile=profile, intensity=intensity, split=split, seed=seed, lanes=lanes,
            quality="resolved" if resolved else "success",
        )  # fmt: skip
        return
    if sweep or resolved or picture or csv_file:
        raise PolicyError("--sweep, --resolved, --picture and --csv belong to --frontier; add it")
    with err.status("evaluating"):
        table = run(
            policy,
            loaded,
            episodes=episodes,
            profile=profile,
            intensity=intensity,
            split=split,
            seed=seed,
            lanes=lanes,
            only_faults=only_faults or (),
            without_faults=without_faults or (),
        )
    _show(table, as_json)


@app.command()
def rollout(
    scenario: ScenarioArgument,
    policy: Annotated[str, typer.Option("--policy", "-p", help="Artefact folder or baseline:NAME.")] = (
        "baseline:cheapest-first"
    ),
    seed: SeedOption = 0,
    episode: Annotated[int, typer.Option(min=0, help="Number of the episode; as in an evaluation.")] = 0,
    profile: ProfileOption = "production",
    intensity: IntensityOption = 1.0,
    split: Annotated[str, typer.Option(help="eval or train.")] = "eval",
    show_faults: Annotated[
        bool, typer.Option("--show-faults", help="Also print, and draw, which faults struck.")
    ] = False,
    picture: Annotated[Path | None, typer.Option(help="PNG file: the episode as a picture.")] = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Play one episode and print it as a timeline."""
    from dataclasses import asdict

    from .envs.cores import make_core
    from .trainers.evaluation import resolve_policy
    from .trainers.narrate import tell

    core = make_core(_load(scenario, overrides), 1, profile=profile, intensity=intensity, split=split)
    name, actor = resolve_policy(policy, core)
    story = tell(actor, core, seed, episode)
    if picture is not None:
        from .trainers.episode_picture import draw_episode

        title = f"{core.scenario.name}, seed {seed}, episode {episode}: {name}"
        draw_episode(story, picture, title, analysis=show_faults)
    if as_json:
        data = asdict(story)
        if not show_faults:
            del data["injections"], data["spoilt"]
        _print_json(
            {
                "scenario": core.scenario.name,
                "profile": profile,
                "seed": seed,
                "episode": episode,
                "policy": name,
                **data,
            }
        )
        return
    print(f"{core.scenario.name}, profile {profile}, seed {seed}, episode {episode}, policy {name}")
    print("\n".join(story.lines))
    cost, seconds = story.totals["cost_usd"], story.totals["latency_s"]
    print(f"utility {story.utility:+.4f}: {story.outcome.replace('_', ' ')}, ${cost:.4f}, {seconds:.1f} s")
    if show_faults:
        print("faults that struck:" if story.injections or story.spoilt else "no fault struck")
        for field, fault in story.spoilt.items():
            print(f"  from the start  {fault} in {field}")
        for row in story.injections:
            print(f"  {row['time_s']:9.2f} s  {row['fault']} on {row['service']} (call {row['number']})")


@app.command()
def export(
    policy: Annotated[Path, typer.Argument(metavar="POLICY", help="Artefact folder.")],
    target: Annotated[Path, typer.Argument(metavar="FILE", help="ONNX file to write.")],
) -> None:
    """Export a trained policy to ONNX."""
    from .trainers.artefact import load_policy
    from .trainers.onnx_export import export_onnx

    export_onnx(load_policy(policy), target)
    out.print(f"wrote {target}", highlight=False)


@app.command()
def demo(
    steps: Annotated[int, typer.Option(min=1, help="Training steps.")] = 4_000_000,
    episodes: EpisodesOption = 10_000,
    seed: SeedOption = 0,
    folder: Annotated[Path, typer.Option("--out", help="Run folder.")] = Path("runs/demo"),
) -> None:
    """Train on support-desk under production faults and compare with every baseline. Takes about a minute."""
    from .trainers.demo import run_demo

    run_demo(steps=steps, episodes=episodes, seed=seed, out=folder, console=out)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    try:
        result = app(args=arguments, standalone_mode=False, prog_name="brownout")
        return int(result) if isinstance(result, int) else 0
    except BrownoutError as error:
        err.print("[bold red]error:[/]", end=" ")
        print(error, file=sys.stderr)  # plain, for brackets in it are no markup
        return 1 if isinstance(error, WorkerError) else 2
    except typer.Exit as stop:
        return stop.exit_code
    except typer.Abort:
        return 1
    except Exception as error:
        show = getattr(error, "show", None)  # click's usage errors know how to show themselves
        if show is None:
            raise
        show()
        return int(getattr(error, "exit_code", 2))


if __name__ == "__main__":
    raise SystemExit(main())
