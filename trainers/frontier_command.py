"""``brownout evaluate --frontier``: tables for a terminal, JSON, CSV and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ..scenarios.schema import Scenario
from .artefact import write_text
from .frontier_curves import Curve, Frontier
from .frontier_sweep import evaluate_frontier
from .statistics import Estimate
from .wide import wide


def run_frontier(
    policies: Sequence[str],
    scenario: Scenario,
    *,
    console: Console,
    status: Console,
    as_json: bool = False,
    picture: Path | None = None,
    csv_file: Path | None = None,
    **options: Any,
) -> Frontier:
    """Sweep, write what was asked for and print.

    Args:
        policies: artefact folders or ``baseline:NAME``.
        scenario: the scenario.
        console: where the tables go.
        status: where progress goes.
        as_json: print JSON instead of tables.
        picture: PNG file to write.
        csv_file: CSV file to write, one line per point.
        options: of :func:`~brownout.trainers.frontier_sweep.evaluate_frontier`.

    Raises:
        BrownoutError: anything in the input is not valid.
    """
    with status.status("sweeping") as shown:
        frontier = evaluate_frontier(
            list(policies), scenario, progress=lambda name, point: shown.update(f"sweeping: {name} at {point}"),
            **options,
        )  # fmt: skip
    if picture is not None:
        from .frontier_picture import draw_curves

        draw_curves(frontier, picture)
    if csv_file is not None:
        write_text(csv_file, frontier.to_csv())
    if as_json:
        print(frontier.to_json())
    else:
        print_frontier(frontier, console)
    for path in (picture, csv_file):
        if path is not None:
            status.print(f"wrote {path}", highlight=False)
    return frontier


def _figure(estimate: Estimate, digits: int, scale: float = 1.0) -> str:
    if estimate.value != estimate.value:
        return "never"
    text = f"{scale * estimate.value:.{digits}f}"
    if estimate.low != estimate.low:
        return text
    return f"{text} [{scale * estimate.low:.{digits}f}, {scale * estimate.high:.{digits}f}]"


def print_frontier(frontier: Frontier, console: Console) -> None:
    """Print the figures of every curve, then the points of the policies asked for."""
    console = wide(console)
    title = f"{frontier.scenario}, profile {frontier.profile}"
    if frontier.intensity != 1.0:
        title += f" at intensity {frontier.intensity:g}"
    table = Table(
        title=f"{title}: {len(frontier.sweep.values)} values of {frontier.sweep.name}, "
        f"the same {frontier.episodes:,} {frontier.split} episodes at each"
    )
    heads = (
        "policy", "AIQ", f"success % at ${frontier.best_cost:.4g}",
        f"cost $ at {100 * frontier.best_success:.1f} %", "hypervolume cost", "hypervolume latency",
    )  # fmt: skip
    for place, head in enumerate(heads):
        table.add_column(head, justify="right" if place else "left", no_wrap=True)
    for place, curve in enumerate(frontier.curves):
        table.add_row(
            curve.name, _figure(curve.aiq, 3), _figure(curve.success_at_cost, 1, 100),
            _figure(curve.cost_at_success, 4), _figure(curve.hypervolume_cost, 3),
            _figure(curve.hypervolume_latency, 3), style="bold" if place == 0 else None,
        )  # fmt: skip
    console.print(table)
    for curve in frontier.curves[: frontier.policies]:
        console.print(_points(curve, frontier.sweep.name))
    what = "right answers and right hand-overs" if frontier.quality == "resolved" else "right answers"
    lines = [
        f"Success counts {what}. The best single configuration is {frontier.best_single}: "
        f"{100 * frontier.best_success:.1f} % at ${frontier.best_cost:.4g}; the AIQ ends at that cost.",
        f"Hypervolumes are shares of the box up to ${frontier.reference[0]:.4g} and {frontier.reference[1]:.4g} s. "
        "The oracle makes one call, to the cheapest configuration that will succeed.",
    ]
    over = "episodes" if frontier.clusters is None else f"the {frontier.clusters} recorded queries they replay"
    lines.append(f"Intervals: 95 %, bootstrap over {over}, the best single configuration's figures held fixed.")
    for line in lines:
        console.print(line, highlight=False)


def _points(curve: Curve, swept: str) -> Table:
    table = Table(title=curve.name)
    for place, head in enumerate((swept, "success %", "cost $", "latency s", "utility", "calls")):
        table.add_column(head, justify="left" if place == 5 else "right", no_wrap=place < 5)
    for point in curve.points:
        mix = sorted(point.launches.items(), key=lambda item: -item[1])
        calls = ", ".join(f"{name} {100 * share:.0f} %" for name, share in mix if share >= 0.005)
        table.add_row(
            point.label, _figure(point.success, 1, 100), f"{point.cost_usd.value:.4f}",
            f"{point.latency_s.value:.1f}", _figure(point.utility, 3), calls,
        )  # fmt: skip
    return table
