"""The commands that vary one thing and look at what follows: judges, budgets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from .cli_options import (
    IntensityOption,
    JsonOption,
    PictureOption,
    ProfileOption,
    ScenarioArgument,
    SeedOption,
    SetOption,
)
from .errors import PolicyError
from .trainers.wide import wide

if TYPE_CHECKING:
    from .trainers.judge_sweep import JudgeSweep
    from .trainers.statistics import Estimate

app = typer.Typer()
out = Console()
err = Console(stderr=True)


def _numbers(option: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise PolicyError(f"{option} {text!r}: write numbers with commas between them, e.g. 0,0.1,0.5") from None


def _pm(estimate: Estimate, digits: int = 3) -> str:
    return f"{estimate.value:.{digits}f} ± {estimate.half_width:.{digits}f}"


@app.command()
def judges(
    scenario: ScenarioArgument,
    false_positive: Annotated[
        str, typer.Option(metavar="RATES", help="Shares of wrong answers that the judge accepts, by commas.")
    ] = "0,0.05,0.1,0.2,0.3,0.5",
    true_positive: Annotated[
        str | None, typer.Option(metavar="RATES", help="Shares of right answers that it accepts; default: as it is.")
    ] = None,
    judge: Annotated[str | None, typer.Option(metavar="NAME", help="Which judge, if there are several.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Environment steps of a training.")] = 1_000_000,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings at each rate; the best is kept.")] = 2,
    episodes: Annotated[int, typer.Option(min=2, help="Evaluation episodes.")] = 4000,
    seed: SeedOption = 0,
    profile: ProfileOption = "production",
    intensity: IntensityOption = 1.0,
    workers: Annotated[int, typer.Option(min=1, help="Ray: trainings side by side.")] = 1,
    address: Annotated[str | None, typer.Option(help="Ray cluster; default: a local one.")] = None,
    folder: Annotated[Path | None, typer.Option("--out", help="Folder that keeps the policies.")] = None,
    picture: PictureOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sweep a judge's error rates: where does starting cheap stop paying, and starting strong become right?

    At each rate a policy is trained and compared with both cascades and with the best single configuration, unjudged.
    """
    from .scenarios import load_scenario
    from .trainers.judge_sweep import judge_sweep

    rates = _numbers("--false-positive", false_positive)
    trues = None if true_positive is None else _numbers("--true-positive", true_positive)
    with err.status("training at the first rate") as status:
        sweep = judge_sweep(
            load_scenario(scenario, overrides or []), rates, trues, judge=judge, steps=steps, seeds=seeds,
            episodes=episodes, seed=seed, profile=profile, intensity=intensity, workers=workers, address=address,
            out=folder, progress=lambda point: status.update(f"false positives {point.false_positive:g}: done"),
        )  # fmt: skip
    if picture is not None:
        from .trainers.study_pictures import draw_judge_sweep

        draw_judge_sweep(sweep, picture)
    if as_json:
        print(json.dumps(sweep.to_dict(), indent=2))
        return
    print_sweep(sweep, out)
    if picture is not None:
        out.print(f"wrote {picture}", highlight=False)


def print_sweep(sweep: JudgeSweep, console: Console) -> None:
    """Print a sweep of a judge's rates as a table, and its break-even rates."""
    table = Table(title=f"{sweep.scenario}, profile {sweep.profile}: {sweep.judge} errs more and more "
                        f"({sweep.episodes:,} episodes each)")  # fmt: skip
    heads = ("wrong accepted", "right accepted", "policy", "starts cheap / strong / parallel %", "utility", "success %",
             "cost $", f"minus {sweep.single} alone")  # fmt: skip
    for i, head in enumerate(heads):
        table.add_column(head, justify="left" if i == 2 else "right", no_wrap=i != 3)
    for point in sweep.points:
        for row in point.rows:
            first, d = row is point.rows[0], row.against
            kinds = " / ".join(f"{100 * point.opening[kind]:.0f}" for kind in ("cheap", "strong", "parallel"))
            table.add_row(
                f"{point.false_positive:g}" if first else "", f"{point.true_positive:g}" if first else "",
                f"{sweep.single} alone" if row.policy == "best-single" else row.policy, kinds if first else "",
                _pm(row.utility), f"{100 * row.success.value:.1f}", f"{row.cost_usd.value:.4g}",
                "" if d is None else f"{d.value:+.3f} [{d.low:+.3f}, {d.high:+.3f}]", style="bold" if first else None,
            )  # fmt: skip
        table.add_section()
    console = wide(console)
    console.print(table)
    for even in sweep.break_even:
        within = " to ".join("?" if end is None else f"{end:.3f}" for end in (even.low, even.high))
        rate = "not between 0 and 1" if even.rate is None else f"from {even.rate:.3f} ({within})"
        if even.rate is None and even.how.startswith("interpolated"):
            rate = "not at the rates of this sweep"
        at = (
            "" if len({e.true_positive for e in sweep.break_even}) == 1 else f" (right accepted {even.true_positive:g})"
        )
        console.print(f"{even.what}{at}: {rate}; {even.how}.", highlight=False)


@app.command()
def budgets(
    policy: Annotated[list[str], typer.Argument(metavar="POLICY...", help="Artefact folders or baseline:NAME.")],
    scenario: Annotated[str, typer.Option("--scenario", "-s", help="Built-in name or YAML file.")],
    caps: Annotated[str, typer.Option("--budgets", metavar="USD,...", help="Budgets, by commas.")] = "0.5,1,2,5,10",
    episodes: Annotated[int, typer.Option(min=2, help="Evaluation episodes per policy and budget.")] = 2000,
    seed: SeedOption = 0,
    profile: ProfileOption = "production",
    intensity: IntensityOption = 1.0,
    picture: PictureOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a larger budget buys: quality (or success), spending and utility under one cap after another."""
    from .scenarios import load_scenario
    from .trainers.budgets import budget_table

    with err.status("evaluating"):
        found = budget_table(
            policy, load_scenario(scenario, overrides or []), _numbers("--budgets", caps), episodes=episodes,
            profile=profile, intensity=intensity, seed=seed,
        )  # fmt: skip
    if picture is not None:
        from .trainers.study_pictures import draw_budgets

        draw_budgets(found, picture)
    if as_json:
        print(json.dumps(found.to_dict(), indent=2))
        return
    table = Table(title=f"{found.scenario}, profile {found.profile}: {found.episodes:,} episodes each")
    for i, head in enumerate(("budget $", "policy", found.measure, "per further $", "spent $", "utility")):
        table.add_column(head, justify="left" if i == 1 else "right", no_wrap=True)
    for row in found.rows:
        table.add_row(
            f"{row.budget_usd:g}" if row.policy == found.policies[0] else "", row.policy, _pm(row.delivered),
            "" if row.per_usd is None else f"{row.per_usd:+.3f}", f"{row.cost_usd.value:.3f}", _pm(row.utility),
        )  # fmt: skip
        if row.policy == found.policies[-1]:
            table.add_section()
    wide(out).print(table)
    if picture is not None:
        out.print(f"wrote {picture}", highlight=False)
