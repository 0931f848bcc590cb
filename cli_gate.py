"""The command that decides whether an agent may go out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from .trainers.wide import wide

if TYPE_CHECKING:
    from .trainers.gate import GateResult

app = typer.Typer()
out = Console()

_COLOURS = {"pass": "green", "fail": "red", "undecided": "yellow"}


@app.command("gate")
def gate_command(
    run: Annotated[
        Path | None, typer.Argument(metavar="RUN", help="Folder of a stress run; default: `report` of the gate's file.")
    ] = None,
    config: Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="The gate.")] = Path("gate.yaml"),
    baseline: Annotated[
        Path | None, typer.Option(metavar="RUN", help="An earlier run of the same episodes to compare with.")
    ] = None,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write JUnit XML.")] = None,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also append a Markdown table, e.g. to $GITHUB_STEP_SUMMARY.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Judge a stress run by thresholds and their intervals: exit status 0 pass, 1 fail, 2 could not decide."""
    from .trainers.gate import judge
    from .trainers.gate_output import append_markdown, write_junit

    result = judge(config, run, baseline)
    if junit is not None:
        write_junit(result, junit)
    if markdown is not None:
        append_markdown(result, markdown)
    if as_json:
        print(json.dumps(result.to_dict(), indent=2))
    else:
        _show(result)
    raise typer.Exit(result.exit_status)


def _show(result: GateResult) -> None:
    table = Table("", "rule", "measured", "smallest detectable", title=f"{result.agent} on {result.scenario}")
    for check in result.checks:
        colour = _COLOURS[check.verdict]
        detectable = f"{check.detectable:.3g}" if check.detectable == check.detectable else ""
        table.add_row(f"[{colour}]{check.verdict}[/]", check.rule, check.reason, detectable)
    wide(out).print(table)
    out.print(f"[bold {_COLOURS[result.verdict]}]{result.verdict}[/]")
