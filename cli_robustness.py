"""The commands around robustness: sensitivity, recovery, ablation and drift."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from .cli_options import (
    CurriculumOption,
    ImitateOption,
    JsonOption,
    PictureOption,
    PPOOption,
    ProfileOption,
    ScenarioArgument,
    SetOption,
    ppo_config,
)
from .trainers.wide import wide

if TYPE_CHECKING:
    from .scenarios import Scenario
    from .trainers.ablation import Ablation
    from .trainers.drift import DriftStudy
    from .trainers.recovery import Recovery
    from .trainers.sensitivity import Sensitivity
    from .trainers.statistics import Difference, Estimate

app = typer.Typer()
out = Console()
err = Console(stderr=True)


class By(StrEnum):
    """What faults are grouped by."""

    effect = "effect"
    family = "family"
    id = "id"


def _load(scenario: str, overrides: list[str] | None) -> Scenario:
    from .scenarios import load_scenario

    return load_scenario(scenario, overrides or [])


def _range(value: Estimate | Difference, digits: int = 3) -> str:
    sign = "" if hasattr(value, "half_width") else "+"
    return f"{value.value:{sign}.{digits}f} [{value.low:{sign}.{digits}f}, {value.high:{sign}.{digits}f}]"


def _print(table: Table, *lines: str) -> None:
    console = wide(out)
    console.print(table)
    for line in lines:
        console.print(line, highlight=False)


def _plain(value: Any) -> Any:
    """JSON data; what is not a finite number becomes null."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and value != value else value


# ---------------------------------------------------------------- sensitivity


@app.command("sensitivity")
def sensitivity_command(
    policy: Annotated[str, typer.Argument(metavar="POLICY", help="Artefact folder or baseline:NAME.")],
    scenario: Annotated[str, typer.Option("--scenario", "-s", help="Built-in name or YAML file.")],
    profile: ProfileOption = "production",
    by: Annotated[By, typer.Option(help="Look at faults by effect, family or id.")] = By.effect,
    episodes: Annotated[int, typer.Option(min=2, help="Episodes per condition.")] = 5000,
    seed: Annotated[int, typer.Option(help="Seed of the episodes.")] = 0,
    overrides: SetOption = None,
    picture: PictureOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rank faults by what they cost a policy, alone and beside the others, and sweep the intensity from 0 to 2."""
    from .trainers.sensitivity import sensitivity

    loaded = _load(scenario, overrides)
    with err.status("playing") as status:
        study = sensitivity(
            policy, loaded, profile=profile, by=by.value, episodes=episodes, seed=seed,
            progress=lambda text: status.update(f"playing: {text}"),
        )  # fmt: skip
    if picture is not None:
        from .trainers.robustness_pictures import draw_sensitivity

        draw_sensitivity(study, picture)
    if as_json:
        print(json.dumps(_plain(study.to_dict()), indent=2))
    else:
        _show_sensitivity(study)


def _show_sensitivity(study: Sensitivity) -> None:
    title = f"{study.policy} on {study.scenario}, {study.profile}: {study.episodes:,} episodes, the same in every row"
    swept = Table("intensity", "utility", "success %", "cost $", "latency s", "lost against clean", title=title)
    for row in study.intensities:
        swept.add_row(
            f"{row.intensity:g}", f"{row.utility.value:.3f} ± {row.utility.half_width:.3f}",
            f"{100 * row.success.value:.1f}", f"{row.cost_usd.value:.4f}", f"{row.latency_s.value:.1f}",
            _range(row.loss) if row.intensity else "",
        )  # fmt: skip
    _print(swept)
    ranked = Table(
        study.by, "strikes in 100 episodes", "utility lost alone", "success lost alone, points",
        "lost beside the others", "smallest detectable",
    )  # fmt: skip
    for row in study.faults:
        lost = row.success_lost
        ranked.add_row(
            row.name, f"{row.strikes:.1f}", _range(row.alone),
            f"{100 * lost.value:+.1f} [{100 * lost.low:+.1f}, {100 * lost.high:+.1f}]",
            _range(row.last), f"{row.alone.smallest_detectable:.3f}",
        )  # fmt: skip
    _print(
        ranked,
        "Alone: clean minus only this fault. Beside the others: without it minus all. 95 % intervals, paired by "
        "episode; a true loss of the smallest detectable size is found with 80 % power.",
    )


# ---------------------------------------------------------------- ablation


# ---------------------------------------------------------------- recovery


@app.command("recovery")
def recovery_command(
    policy: Annotated[list[str], typer.Argument(metavar="POLICY...", help="Artefact folders or baseline:NAME.")],
    scenario: Annotated[str, typer.Option("--scenario", "-s", help="Built-in name or YAML file.")],
    profile: ProfileOption = "production",
    intensity: Annotated[float, typer.Option(min=0, help="Scales every fault.")] = 1.0,
    by: Annotated[By, typer.Option(help="Look at faults by effect, family or id.")] = By.effect,
    episodes: Annotated[int, typer.Option(min=2, help="Episodes per condition.")] = 5000,
    seed: Annotated[int, typer.Option(help="Seed of the episodes.")] = 0,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what becomes of the episodes that a fault struck: how many still succeed, and what it took."""
    from .trainers.recovery import recovery

    loaded = _load(scenario, overrides)
    studies = []
    for one in policy:
        with err.status("playing") as status:
            studies.append(
                recovery(
                    one, loaded, profile=profile, intensity=intensity, by=by.value, episodes=episodes, seed=seed,
                    progress=lambda text: status.update(f"playing: {text}"),
                )
            )  # fmt: skip
    if as_json:
        print(json.dumps(_plain([study.to_dict() for study in studies]), indent=2))
        return
    for study in studies:
        _show_recovery(study)


def _show_recovery(study: Recovery) -> None:
    title = f"{study.policy} on {study.scenario}, {study.profile}: {study.episodes:,} episodes, each fault alone"
    heads = ("struck", "recovered %", "+ steps", "+ $", "+ s", "false success %", "duplicate %", "handed over %")
    shown = Table(study.by, *heads, title=title)
    for row in study.rows:
        shares = [
            f"{100 * share.value:.1f} [{100 * share.low:.1f}, {100 * share.high:.1f}]"
            for share in (row.recovered, row.false_success, row.duplicates, row.handed_over)
        ]
        took = ((row.extra_steps, 1), (row.extra_usd, 3), (row.extra_s, 1))
        extra = ["-" if one.value != one.value else f"{one.value:.{digits}f}" for one, digits in took]
        shown.add_row(row.name, f"{row.episodes:,}", shares[0], *extra, *shares[1:])
    _print(shown, "Shares of the struck episodes, with 95 % intervals; + is what a recovered one took more than clean.")


@app.command("ablation")
def ablation_command(
    scenario: ScenarioArgument,
    profile: ProfileOption = "production",
    held_out: Annotated[
        list[str] | None,
        typer.Option(
            "--held-out",
            metavar="SELECTOR",
            help="Family, effect or id to hold out. Repeatable; default: each family.",
        ),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps of each training.")] = 1_000_000,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each kind.")] = 1,
    seed: Annotated[int, typer.Option(help="First training seed.")] = 0,
    episodes: Annotated[int, typer.Option(min=2, help="Evaluation episodes per condition.")] = 5000,
    option: PPOOption = None,
    curriculum: CurriculumOption = None,
    imitate: ImitateOption = None,
    folder: Annotated[Path | None, typer.Option("--out", help="Keep the run folders here.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue or keep the trainings in --out.")] = False,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train with all faults, with none and with each family held out; evaluate each clean and under every family."""
    from .trainers.ablation import ablation
    from .trainers.api import study_config

    loaded = _load(scenario, overrides)
    config = ppo_config(option, curriculum, study_config(loaded, taught=True))
    with err.status("training") as status:
        table = ablation(
            loaded, profile=profile, held_out=held_out, steps=steps, seeds=seeds, seed=seed, episodes=episodes,
            config=config, imitate=imitate, out=folder, resume=resume, progress=status.update,
        )  # fmt: skip
    if as_json:
        print(json.dumps(_plain(table.to_dict()), indent=2))
    else:
        _show_ablation(table)


def _show_ablation(table: Ablation) -> None:
    shown = Table(
        "trained under", "evaluated under", "utility", "success %", "harm %", "all faults minus it",
        title=f"{table.scenario}, {table.profile}: {table.seeds} x {table.steps:,} steps each, "
        f"{table.episodes:,} held-out episodes",
    )  # fmt: skip
    for name in table.trainings:
        for condition in table.conditions:
            cell = table.cell(name, condition)
            shown.add_row(
                name, f"{condition} (held out)" if cell.held_out else condition,
                f"{cell.utility.value:.3f} ± {cell.utility.half_width:.3f}", f"{100 * cell.success.value:.1f}",
                f"{100 * cell.harm.value:.1f}", "" if cell.against is None else _range(cell.against),
                end_section=condition == table.conditions[-1],
            )  # fmt: skip
    luck = "episodes, not the luck of a training: give --seeds" if table.seeds == 1 else "episodes and trainings"
    _print(shown, f"Conditions: clean, all faults, one family alone. 95 % intervals, paired; they cover {luck}.")


# ---------------------------------------------------------------- drift


@app.command("drift")
def drift_command(
    scenario: Annotated[str, typer.Argument(metavar="[SCENARIO]", help="Built-in name or YAML file.")] = "moving-desk",
    profile: ProfileOption = "drift",
    weeks: Annotated[int, typer.Option(min=2, help="Weeks to play.")] = 12,
    episodes: Annotated[int, typer.Option("--episodes-per-week", min=2, help="What a week is in episodes.")] = 1000,
    steps: Annotated[int, typer.Option(min=1, help="Steps of the first training.")] = 1_000_000,
    retrain_steps: Annotated[int, typer.Option(min=1, help="Steps of each further training.")] = 200_000,
    recent: Annotated[int, typer.Option(min=1, help="Past weeks to train on.")] = 1,
    baseline: Annotated[str | None, typer.Option(help="Baseline to show; default: the best of week 0.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the trainings.")] = 0,
    option: PPOOption = None,
    curriculum: CurriculumOption = None,
    imitate: ImitateOption = None,
    folder: Annotated[Path | None, typer.Option("--out", help="Keep the policy of every week here.")] = None,
    overrides: SetOption = None,
    picture: PictureOption = None,
    as_json: JsonOption = False,
) -> None:
    """Weeks in which the world moves: a policy frozen in the first week against one trained again every week."""
    from .trainers.api import study_config
    from .trainers.drift import drift_study

    loaded = _load(scenario, overrides)
    config = ppo_config(option, curriculum, study_config(loaded, taught=False))
    with err.status("training") as status:
        study = drift_study(
            loaded, profile=profile, weeks=weeks, episodes_per_week=episodes, steps=steps, retrain_steps=retrain_steps,
            recent=recent, baseline=baseline, seed=seed, config=config, imitate=imitate,
            out=folder, progress=status.update,
        )  # fmt: skip
    if picture is not None:
        from .trainers.robustness_pictures import draw_drift

        draw_drift(study, picture)
    if as_json:
        print(json.dumps(_plain(study.to_dict()), indent=2))
    else:
        _show_drift(study)


def _show_drift(study: DriftStudy) -> None:
    names = list(dict.fromkeys(row.policy for row in study.rows))
    title = f"{study.scenario}, {study.profile}: {study.episodes_per_week:,} held-out episodes a week"
    heads = [f"{name}\n{what}" for name in names for what in ("utility", "success %")]
    shown = Table("week", *heads, "gain", title=title)
    for week in range(study.weeks):
        cells = []
        for row in (row for row in study.rows if row.week == week):
            low, high = 100 * row.success.low, 100 * row.success.high
            cells += [f"{row.utility.value:.3f} ± {row.utility.half_width:.3f}",
                      f"{100 * row.success.value:.0f} [{low:.0f}, {high:.0f}]"]  # fmt: skip
        shown.add_row(f"{week}{' =' if week in study.kept else ''}", *cells, _range(study.gains[week]) if week else "")
    lines = [f"note: {note}" for note in study.notes]
    if study.kept:
        lines.append("=: training again brought nothing on past episodes, so the policy before it stayed.")
    _print(shown, "Gain: utility of retrained minus frozen, paired by episode. 95 % intervals.", *lines)
