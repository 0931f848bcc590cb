"""The command ``brownout records``: messy data with the truth about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

app = typer.Typer()
out = Console()
err = Console(stderr=True)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@app.command()
def records(
    schema: Annotated[
        str, typer.Argument(metavar="SCHEMA", help="Built-in name or YAML file; `list` prints the built-in ones.")
    ],
    rows: Annotated[int, typer.Option(min=0, help="Records to make; second versions come on top.")] = 1000,
    kind: Annotated[str | None, typer.Option(help="Kind of record; default: the schema's main kind.")] = None,
    mess: Annotated[str, typer.Option(help="Profile of the schema: clean, production, hostile.")] = "production",
    intensity: Annotated[float, typer.Option(min=0, help="Scales every fault; 0 is clean records.")] = 1.0,
    target: Annotated[
        Path | None, typer.Option("--out", help="Table to write: .csv, .parquet, .jsonl; default: describe the schema.")
    ] = None,
    truth: Annotated[Path | None, typer.Option(help="Truth to write; default: NAME.truth beside the table.")] = None,
    seed: Annotated[int, typer.Option(help="Seed; equal seeds give equal files.")] = 0,
    locale: Annotated[
        str | None, typer.Option(metavar="LOCALE[=SHARE],...", help="Faker locales instead of the schema's.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes; changes speed, not results.")] = 1,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress display.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a messy table from a schema of records, and the truth about every dirty cell.

    Without --out it says what the schema holds; `brownout records list` names the built-in schemas.
    """
    from .scenarios.record_files import RecordJob, format_of, write_records
    from .scenarios.record_loading import load_record_schema

    if schema == "list":
        _list(as_json)
        return
    loaded = load_record_schema(schema)
    if target is None:
        _describe(loaded, as_json)
        return
    truth = target.with_name(f"{target.stem}.truth{target.suffix}") if truth is None else truth
    job = RecordJob(loaded, kind, mess, intensity, seed, _locales(locale), format_of(target), format_of(truth))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=quiet or as_json or not err.is_terminal) as progress:
        task = progress.add_task("records", total=rows)
        summary = write_records(
            job, rows, target, truth, workers=workers, progress=lambda done: progress.advance(task, done)
        )
    if as_json:
        print(json.dumps({"out": str(target), "truth": str(truth), **summary.to_dict()}, indent=2))
        return
    print(
        f"wrote {summary.rows:,} rows about {summary.records:,} records ({summary.kind}) to {target}, truth to {truth}"
    )
    cells, dirty = max(summary.cells, 1), max(summary.dirty, 1)
    print(
        f"dirty: {summary.dirty:,} of {summary.cells:,} cells ({100 * summary.dirty / cells:.2f} %); "
        f"{100 * summary.visible / dirty:.0f} % of them visible, {100 * summary.repairable / dirty:.0f} % repairable"
    )
    _shares("effect", summary.by_effect, cells, "of all cells, %")
    _shares("field", summary.by_field, max(summary.rows, 1), "of the field's cells, %")


def _shares(what: str, counts: dict[str, int], whole: int, head: str) -> None:
    if not counts:
        return
    table = Table(what, "dirty cells", head)
    for name, count in counts.items():
        table.add_row(name, f"{count:,}", f"{100 * count / whole:.3f}")
    out.print(table)


def _locales(text: str | None) -> str | dict[str, float] | None:
    from .errors import RecordError

    if text is None:
        return None
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, sign, share = part.strip().partition("=")
        try:
            shares[name] = float(share) if sign else 1.0
        except ValueError:
            raise RecordError(f"--locale {text!r}: {share!r} is not a number; write en_US=0.7,de_DE=0.3") from None
    return shares


def _list(as_json: bool) -> None:
    from .scenarios.record_loading import builtin_record_schemas, load_record_schema

    schemas = [load_record_schema(name) for name in builtin_record_schemas()]
    if as_json:
        rows = [{"name": s.name, "kinds": list(s.kinds), "description": s.description.strip()} for s in schemas]
        print(json.dumps(rows, indent=2))
        return
    table = Table("schema", "kinds", "what it is")
    for s in schemas:
        table.add_row(s.name, ", ".join(s.kinds), " ".join(s.description.split()).rstrip("."))
    out.print(table)
    out.print("More: brownout records SCHEMA", highlight=False)


def _describe(schema: Any, as_json: bool) -> None:
    from .scenarios.record_facts import profile_names

    if as_json:
        print(json.dumps(schema.model_dump(mode="json"), indent=2))
        return
    print(f"{schema.name}: {' '.join(schema.description.split())}")
    print(f"locales: {', '.join(schema.locales)}; profiles: {', '.join(profile_names(schema))}")
    table = Table("kind", "fields")
    for name, kind in schema.kinds.items():
        table.add_row(name, ", ".join(f"{field} ({spec.type})" for field, spec in kind.fields.items()))
    out.print(table)
