"""The commands around recorded runs: portfolio, crossval, calibrate, and the runtime that records new ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from .cli_options import JsonOption
from .errors import TableError

if TYPE_CHECKING:
    from .scenarios.tables import RecordedTable
    from .trainers.statistics import Estimate

app = typer.Typer()
out = Console()
err = Console(stderr=True)

TableArgument = Annotated[Path, typer.Argument(metavar="TABLE", help="Parquet or CSV of recorded runs.")]
ConfigsOption = Annotated[str | None, typer.Option(metavar="A,B,...", help="Configurations to use; default: all.")]
SizeOption = Annotated[int, typer.Option(min=1, help="Configurations to keep at most.")]
SelectOption = Annotated[int, typer.Option(min=1, help="Calls of one configuration in view while choosing.")]


def _names(configs: str | None) -> list[str] | None:
    return None if configs is None else [name.strip() for name in configs.split(",") if name.strip()]


def _load(table: Path, configs: str | None, features: list[str] | None = None) -> RecordedTable:
    from .scenarios.tables import RecordedTable

    if not table.is_file():
        raise TableError(f"no table {str(table)!r}; give a Parquet or CSV file of recorded runs")
    rules = {"cost_usd": "config-median", "latency_s": "config-median"}
    loaded = RecordedTable.load(table, configs=_names(configs), missing=rules, features=features or [])
    for note in loaded.notes:
        err.print(f"note: {note}", highlight=False)
    return loaded


def _pm(estimate: Estimate, digits: int = 3, empty: str = "never") -> str:
    if estimate.value != estimate.value:
        return empty
    if estimate.low != estimate.low:
        return f"{estimate.value:.{digits}f} [not in every draw]"
    return f"{estimate.value:.{digits}f} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


@app.command()
def portfolio(
    table: TableArgument,
    size: SizeOption = 4,
    repeats: SelectOption = 1,
    configs: ConfigsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Choose which configurations to keep, by the value of the policy that will use them."""
    from .envs.sequential import Attempts
    from .trainers.portfolio import best_single, forward_select

    loaded = _load(table, configs)
    attempts = Attempts.of(loaded.success, loaded.cost_usd, loaded.latency_s, loaded.n_samples, repeats=repeats)
    spent = float(sum(s.cost_usd * s.runs for s in loaded.config_summary("all")))
    with err.status("choosing"):
        choice = forward_select(attempts, size, spent_usd=spent)
    best, cost, success = best_single(attempts)
    means = attempts.weight @ attempts.chance[:, :, 0], attempts.weight @ attempts.cost[:, :, 0]
    rows = [
        {"configuration": loaded.configs[k], "success": float(means[0][k]), "cost_usd": float(means[1][k]), "aiq": v}
        for k, v in zip(choice.members, choice.values, strict=True)
    ]
    single = {"configuration": loaded.configs[best], "success": success, "cost_usd": cost}
    if as_json:
        print(json.dumps({"portfolio": rows, "best_single": single, "build_usd": spent}, indent=2))
        return
    shown = Table("kept, in order", "success %", "cost $", "AIQ with it", title=f"{len(loaded.query_ids)} queries")
    for row in rows:
        shown.add_row(
            str(row["configuration"]),
            f"{100 * float(row['success']):.1f}",
            f"{row['cost_usd']:.4f}",
            f"{row['aiq']:.3f}",
        )
    out.print(shown)
    out.print(
        f"Best single: {single['configuration']}, {100 * success:.1f} % at ${cost:.4f}. Trying all "
        f"{len(loaded.configs)} configurations cost ${spent:,.2f}. In-sample figures; see brownout crossval.",
        highlight=False,
    )


@app.command()
def crossval(
    table: TableArgument,
    size: SizeOption = 5,
    repeats: Annotated[int, typer.Option(min=1, help="Calls of one configuration that a plan may make.")] = 4,
    select_repeats: SelectOption = 1,
    folds: Annotated[int, typer.Option(min=2, help="Folds over queries.")] = 5,
    seeds: Annotated[int, typer.Option(min=1, help="How often folds are drawn.")] = 3,
    workers: Annotated[int, typer.Option(min=1, help="Ray: folds side by side.")] = 1,
    address: Annotated[str | None, typer.Option(help="Ray cluster; default: a local one.")] = None,
    methods: Annotated[
        str,
        typer.Option(metavar="A,B,...", help="Of static, index, greedy, exact, belief, trained; the last is compared."),
    ] = "static,index,greedy,exact",
    steps: Annotated[int | None, typer.Option(min=1, help="trained: environment steps of each training.")] = None,
    simulators: Annotated[int | None, typer.Option(min=1, help="belief, trained: simulators per fold.")] = None,
    class_column: Annotated[str | None, typer.Option(help="belief, trained: column with a query's class.")] = None,
    configs: ConfigsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Nested cross-validation: portfolio, plans and policy fitted on some queries, scored on the others.

    The judge is perfect. AIQ is the mean success over costs from 0 to that of the best single configuration.
    """
    from .trainers.crossval import crossval as run
    from .trainers.crossval import on_ray
    from .trainers.crossval_trained import TrainedOptions

    loaded = _load(table, configs, [class_column] if class_column else [])
    given = {"steps": steps, "simulators": simulators, "class_column": class_column}
    trained = TrainedOptions(**{name: value for name, value in given.items() if value is not None})
    with err.status("fitting and scoring folds") as status:
        result = run(
            loaded, size=size, repeats=repeats, select_repeats=select_repeats, folds=folds, seeds=seeds,
            methods=_names(methods) or [], trained=trained,
            map_folds=on_ray(workers, address) if workers > 1 else None,
            progress=lambda done, total: status.update(f"fitting and scoring folds: {done} of {total}"),
        )  # fmt: skip
    if as_json:
        print(json.dumps(result.to_dict(), indent=2))
        return
    columns = "AIQ", f"success at ${result.cost_max:.4g}", f"cost at {100 * result.success:.1f} % success, $"
    shown = Table("method", *columns, title=f"{result.queries} queries, {folds} folds, {seeds} draws of them")
    for row in result.rows:
        shown.add_row(row.method, _pm(row.aiq), _pm(row.success_at_cost), _pm(row.cost_at_success))
    out.print(shown)
    if result.differences:
        shown = Table("on the same queries", *columns)
        for gap in result.differences:
            cells = (_pm(e, empty="not by both") for e in (gap.aiq, gap.success_at_cost, gap.cost_at_success))
            shown.add_row(f"{gap.method} - {gap.reference}", *cells)
        out.print(shown)
    if result.foresight is not None:
        without, context, gain = result.foresight
        out.print(
            "Simulators on held-out queries, log-likelihood per run after a wrong answer: "
            f"{_pm(without)}; knowing its cost and time {_pm(context)}, ahead by {_pm(gain)}.",
            highlight=False, markup=False,
        )  # fmt: skip
    out.print(
        f"Best single configuration: {result.best}. Kept most often: {', '.join(list(result.portfolios)[:6])}. "
        "Intervals: 95 %, bootstrap over queries.",
        highlight=False,
    )


@app.command()
def calibrate(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="Parquet, CSV, or GenAI spans as JSON lines.")],
    target: Annotated[Path, typer.Option("--out", help="Scenario file to write.")],
    class_column: Annotated[str | None, typer.Option(help="Column that holds the class of a query.")] = None,
    configs: ConfigsOption = None,
    mapping: Annotated[Path | None, typer.Option(help="YAML file from failure modes to faults.")] = None,
    prices: Annotated[Path | None, typer.Option(help="YAML file model: [USD per million in, out]; spans.")] = None,
    episodes: Annotated[int, typer.Option(min=100, help="Tasks to simulate for the comparison.")] = 4000,
    seed: Annotated[int, typer.Option(help="Seed of simulation and bootstrap.")] = 0,
    bootstrap: Annotated[int, typer.Option(min=0, help="Parametric bootstrap draws for the intervals.")] = 0,
    picture: Annotated[Path | None, typer.Option(help="PNG file: simulated beside recorded.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Fit a scenario to recorded runs, and say how well it fits and what it could not tell."""
    from .trainers.calibrate_command import run_calibrate

    run_calibrate(
        table, target, class_column=class_column, configs=_names(configs), mapping=mapping, prices=prices,
        episodes=episodes, seed=seed, bootstrap=bootstrap, picture=picture, as_json=as_json, console=out,
    )  # fmt: skip


@app.command()
def runtime(
    policy: Annotated[str, typer.Argument(metavar="POLICY", help="Artefact folder or baseline:NAME.")],
    scenario: Annotated[str, typer.Option("--scenario", "-s", help="Built-in name or YAML file.")],
    calls: Annotated[str, typer.Option(metavar="MODULE:NAME", help="Your functions: see docs/runtime.md.")],
    tasks: Annotated[Path, typer.Option(help="JSON lines, one task per line.")],
    log: Annotated[Path, typer.Option("--out", help="Log, one row per call, appended to.")],
    answers: Annotated[Path | None, typer.Option(help="JSON lines, one decision per task.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Tasks at a time.")] = 8,
    timeout_s: Annotated[float | None, typer.Option(min=0, help="Seconds after which a call is cut.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Skip tasks that the log says were solved.")] = False,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Override a field of the scenario.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Let a policy drive your own asynchronous functions, under a budget and a deadline; logs every call."""
    from .trainers.runtime_cli import run_tasks

    summary = run_tasks(
        policy, scenario, calls=calls, tasks=tasks, out=log, overrides=overrides or [], concurrency=concurrency,
        timeout_s=timeout_s, answers=answers, resume=resume,
    )  # fmt: skip
    print(json.dumps(summary.to_dict(), indent=2) if as_json else summary.to_text())
    if not summary.ok:
        raise typer.Exit(1)
