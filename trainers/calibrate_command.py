"""The command ``brownout calibrate``: fit a scenario to recorded runs and say how well it fits."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import TableError
from ..scenarios.calibration import Calibration, calibrate
from ..scenarios.fitting import SDS, Interval
from .artefact import write_text
from .goodness import Check, Goodness, goodness_of_fit

if TYPE_CHECKING:
    from rich.console import Console


def run_calibrate(
    table: Path,
    out: Path,
    *,
    class_column: str | None = None,
    configs: Sequence[str] | None = None,
    mapping: Path | None = None,
    prices: Path | None = None,
    episodes: int = 4000,
    seed: int = 0,
    bootstrap: int = 0,
    picture: Path | None = None,
    as_json: bool = False,
    console: Console | None = None,
) -> int:
    """Calibrate, write the scenario and its figures (``NAME.calibration.json``), print the fit and its goodness.

    Args:
        table: Parquet, CSV or spans as JSON lines.
        out: scenario file to write.
        class_column: column with the class of each query.
        configs: configurations to use; None takes all.
        mapping: YAML file from failure modes to faults.
        prices: YAML file ``model: [USD per million tokens in, out]``, for spans.
        episodes: tasks to simulate.
        seed: of simulation and bootstrap.
        bootstrap: parametric bootstrap draws for the model's intervals; 0 uses the observed information.
        picture: PNG file to write.
        as_json: print JSON instead of tables.
        console: where tables go.

    Returns:
        exit status, 0.

    Raises:
        TableError: if the table, the mapping or the prices cannot be used.
    """
    done = calibrate(
        table, out, class_column=class_column, configs=list(configs) if configs else None, mapping=mapping,
        prices=None if prices is None else read_prices(prices), seed=seed,
    )  # fmt: skip
    goodness = goodness_of_fit(done, episodes=episodes, seed=seed)
    intervals = {**done.uncertainty, **(done.shifted(done.fit.bootstrap(bootstrap, seed)) if bootstrap else {})}
    if picture is not None:
        from .goodness_picture import draw_goodness

        draw_goodness(goodness, picture)
    told = json.dumps(_finite(to_dict(done, intervals, goodness, out)), indent=2)
    write_text(out.with_suffix(".calibration.json"), told + "\n")  # a report on a training finds it there
    if as_json:
        print(told)
        return 0
    from rich.console import Console

    show(done, intervals, goodness, console or Console())
    files = [str(path) for path in (out, out.with_suffix(".calibration.json"), picture) if path]
    (console or Console()).print(f"wrote {', '.join(files)}", highlight=False)
    return 0


def read_prices(path: Path) -> dict[str, list[float]]:
    """Read a price table.

    Raises:
        TableError: if it is not ``model: [USD per million tokens in, out]``.
    """
    import yaml

    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise TableError(f"{path}: not a readable YAML file: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise TableError(f"{path}: got {type(data).__name__}; allowed: model: [USD per million tokens in, out]")
    for model, pair in data.items():
        good = isinstance(pair, list) and len(pair) == 2 and all(
            isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v) and v >= 0 for v in pair
        )  # fmt: skip
        if not good:
            raise TableError(f"{path}: {model}: got {pair!r}; allowed: [USD per million tokens in, out], from 0")
    return {str(model): [float(v) for v in pair] for model, pair in data.items()}


def to_dict(done: Calibration, intervals: dict[str, Interval], goodness: Goodness, out: Path) -> dict[str, Any]:
    """Everything that the command prints, as plain data."""
    return {
        "out": str(out),
        "queries": len(done.runs.table.query_ids),
        "runs": len(done.runs.query),
        "parameters": {
            name: {"value": i.value, "low": i.low, "high": i.high, "identified": i.identified}
            for name, i in intervals.items()
        },
        "goodness": goodness.to_dict(),
        "notes": list(done.notes),
    }


def _finite(value: Any) -> Any:
    """NaN and infinities as null, which JSON can hold."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def show(done: Calibration, intervals: dict[str, Interval], goodness: Goodness, console: Console) -> None:
    """Print parameters, goodness of fit and notes."""
    from rich.table import Table

    counts = done.fit.counts
    title = f"{len(done.runs.query):,} runs of {len(done.runs.table.query_ids)} queries"
    table = Table("configuration", "family", "skill (logits)", "cost, USD", "latency, s", "fails visibly",
                  title=title, title_justify="left")  # fmt: skip
    for k, name in enumerate(counts.configs):
        skills = [_interval(intervals[f"margin.{name}.{group}"]) for group in counts.classes]
        fails = [i.value for key, i in intervals.items() if key.startswith(f"fault.{name}.")]
        table.add_row(
            name, counts.families[k],
            skills[0] if len(skills) == 1 else "\n".join(map(": ".join, zip(counts.classes, skills, strict=True))),
            *(_interval(intervals.get(f"{column}.{name}")) for column in ("cost_usd", "latency_s")),
            f"{100 * sum(fails):.1f} %",
        )  # fmt: skip
    console.print(table)
    console.print(
        "skill is relative to the class's mean difficulty; [..] are 95 % intervals", style="dim", markup=False
    )
    for name in SDS:
        console.print(f"{name}: {_interval(intervals[name])} logits", highlight=False, markup=False)
    for name in intervals:
        if name.startswith(("latent_sd.", "effort.", "wrong.", "judge.")):
            console.print(f"{name}: {_interval(intervals[name])}", highlight=False, markup=False)
    _show_goodness(goodness, console)
    console.print("notes", style="bold")
    for note in done.notes:
        console.print(f"- {note}", highlight=False, markup=False)


def _show_goodness(goodness: Goodness, console: Console) -> None:
    from rich.table import Table

    console.print("goodness of fit", style="bold")
    if goodness.rivals:
        console.print(
            f"held-out log-likelihood per query: {goodness.held_out:.3f} ({goodness.test} queries, fitted on "
            f"{goodness.train})", highlight=False,
        )  # fmt: skip
        for rival in goodness.rivals:
            console.print(
                f"  {rival.name}: {rival.log_likelihood:.3f}; the fit is ahead by {rival.ahead.value:.3f} "
                f"[{rival.ahead.low:.3f}, {rival.ahead.high:.3f}]", highlight=False, markup=False,
            )  # fmt: skip
    table = Table("figure", "in the recorded interval", "worst")
    for kind in dict.fromkeys(check.kind for check in goodness.checks):
        inside, total = goodness.inside(kind)
        worst = max((c for c in goodness.checks if c.kind == kind), key=_distance)
        table.add_row(kind, f"{inside} of {total}", "" if worst.inside else _told(worst))
    console.print(table)


def _distance(check: Check) -> float:
    """How far outside its interval a figure is, in widths of the interval."""
    width = max(check.high - check.low, 1e-12)
    return max(check.low - check.simulated, check.simulated - check.high, 0.0) / width if math.isfinite(width) else 0.0


def _told(check: Check) -> str:
    return (
        f"{check.config} {check.what}: simulated {check.simulated:.3g}, recorded {check.recorded:.3g} "
        f"({check.low:.3g} to {check.high:.3g})"
    )


def _interval(interval: Interval | None) -> str:
    if interval is None:
        return "not recorded"
    if not interval.identified:
        return f"{interval.value:.3g} (assumed)" if math.isfinite(interval.value) else "not seen"
    return f"{interval.value:.3g} \\[{interval.low:.3g}, {interval.high:.3g}]".replace("\\", "")
