"""The commands that show results: the report of a training, and the published claims beside our own figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

app = typer.Typer()
out = Console()
err = Console(stderr=True)


@app.command()
def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of brownout train, stress or shadow.")],
    target: Annotated[
        Path | None, typer.Option("--out", help="File, or a folder for several formats; default: into RUN.")
    ] = None,
    formats: Annotated[
        str | None, typer.Option("--format", metavar="A,B,...", help="Stress, shadow: html, md, json, junit.")
    ] = None,
    gate: Annotated[Path | None, typer.Option(metavar="FILE", help="Stress: show what this gate says.")] = None,
    baseline: Annotated[Path | None, typer.Option(metavar="RUN", help="Stress: what the gate compares with.")] = None,
    beside: Annotated[
        list[Path] | None, typer.Option(metavar="RUN", help="Stress: show another run beside it. Repeatable.")
    ] = None,
    episodes: Annotated[
        int | None, typer.Option(min=2, help="Training: evaluate anew; default: as stored, else 2000.")
    ] = None,
    scenario: Annotated[
        str | None, typer.Option("--scenario", "-s", help="Training: its file, if RUN does not hold it.")
    ] = None,
    calibration: Annotated[Path | None, typer.Option(help="Training: what brownout calibrate --json printed.")] = None,
    pictures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Training: also write every picture as PNG.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Training: seed of the episodes; default 0.")] = None,
) -> None:
    """Write a report about a training, a stress run or a comparison: one self-contained HTML page.

    Stress runs and comparisons also as Markdown, JSON and JUnit XML.
    """
    from .errors import StressError
    from .trainers.run_reports import kind_of, write_run_reports

    of_training = {"--episodes": episodes, "--scenario": scenario, "--calibration": calibration,
                   "--pictures": pictures, "--seed": seed}  # fmt: skip
    of_stress = {"--format": formats, "--gate": gate, "--baseline": baseline, "--beside": beside}
    kind = kind_of(run)
    for option, value in (of_stress if kind == "training" else of_training).items():
        if value is not None:
            raise StressError(f"{option}: not for the report of a {kind}, which {str(run)!r} is")
    if kind != "training":
        wanted = [part.strip() for part in formats.split(",")] if formats else []
        with err.status("writing"):
            paths = write_run_reports(
                run, target, formats=wanted, gate=gate, baseline=baseline, beside=beside or ()
            )  # fmt: skip
        for path in paths:
            out.print(f"wrote {path}", highlight=False, soft_wrap=True, markup=False)
        return
    from .trainers.report import write_report

    with err.status("reading") as status:
        path = write_report(
            run, target, episodes=episodes, scenario=scenario, calibration=calibration, pictures=pictures,
            seed=seed or 0, progress=lambda text: status.update(text),
        )  # fmt: skip
    also = f" and the pictures in {pictures}" if pictures else ""
    out.print(f"wrote {path}{also}", highlight=False, soft_wrap=True, markup=False)


@app.command()
def claims(
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of recorded tables, such as mcpmark.")
    ] = None,
    target: Annotated[Path | None, typer.Option("--out", help="Markdown page to write.")] = None,
    tasks: Annotated[int, typer.Option(min=100, help="Simulated tasks per scenario.")] = 4000,
    steps: Annotated[int, typer.Option(min=1, help="Training steps of the claim about a learned stop.")] = 400_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Measure published claims about routing, repeating and stopping, each beside our own figure.

    Takes well under a minute. Without --data the claims are measured on built-in scenarios only.
    """
    from .errors import TableError
    from .trainers.artefact import write_text
    from .trainers.claim_evidence import Evidence
    from .trainers.claims import measure_claims, stamps, to_markdown

    if data is not None and not data.is_dir():
        raise TableError(f"--data: no folder {str(data)!r}; give one that holds recorded tables")
    evidence = Evidence(data, tasks, steps)
    with err.status("measuring") as status:
        findings = measure_claims(evidence, lambda name: status.update(f"measuring {name}"))
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_text(target, to_markdown(findings, evidence))
    if as_json:
        rows = [finding.to_dict() for finding in findings]
        print(json.dumps({"measured_with": stamps(evidence), "claims": rows}, indent=2))
        return
    for finding in findings:
        claim = finding.claim
        table = Table("figure", "measured on", "ours", title=f"{claim.claim} ({claim.published})", title_justify="left")
        for figure in finding.figures:
            table.add_row(figure.what, figure.where, figure.text)
        out.print(table)
        told = "; ".join([*finding.verdicts, *finding.missing])
        out.print(f"agrees if {claim.rule}? {told}", highlight=False, markup=False)
    if target is not None:
        out.print(f"wrote {target}", highlight=False, markup=False)
