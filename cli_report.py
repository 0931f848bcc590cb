"""The commands that show results: the report of a training, and the published claims beside our own figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer()
out = Console()
err = Console(stderr=True)


@app.command()
def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of brownout train.")],
    target: Annotated[Path | None, typer.Option("--out", help="HTML file; default: report.html in RUN.")] = None,
    episodes: Annotated[int | None, typer.Option(min=2, help="Evaluate anew; default: as stored, else 2000.")] = None,
    scenario: Annotated[str | None, typer.Option("--scenario", "-s", help="Its file, if RUN does not hold it.")] = None,
    calibration: Annotated[Path | None, typer.Option(help="What brownout calibrate --json printed.")] = None,
    pictures: Annotated[Path | None, typer.Option(metavar="DIR", help="Also write every picture as PNG.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the episodes.")] = 0,
) -> None:
    """Write one self-contained HTML page about a training: figures, pictures, told episodes, how to repeat it."""
    from .trainers.report import write_report

    with err.status("reading") as status:
        path = write_report(
            run, target, episodes=episodes, scenario=scenario, calibration=calibration, pictures=pictures, seed=seed,
            progress=lambda text: status.update(text),
        )  # fmt: skip
    also = f" and the pictures in {pictures}" if pictures else ""
    out.print(f"wrote {path}{also}", highlight=False, soft_wrap=True, markup=False)
