"""What claims are measured on: recorded tables where a folder holds them, and scenarios of the library.

Also the tools that every measurement needs: a figure with its interval, the bootstrap over tasks, halves of the tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..envs.streams import stream_id, uniform
from ..scenarios.calibration import calibrate
from ..scenarios.loading import load_scenario
from ..scenarios.schema import RouterScenario
from ..scenarios.tables import RecordedTable
from .fixed_plans import KnownRuns
from .goodness import play_calls

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
TASKS: Final = 4000
REPEATS: Final = 10
DRAWS: Final = 500
_BOOTSTRAP, _HALVES = stream_id("claims.bootstrap"), stream_id("claims.halves")
LABELS: Final = {"mcpmark": "MCPMark, recorded"}


@dataclass(frozen=True)
class Figure:
    """One measured figure.

    Args:
        what: what was measured, in words.
        where: on which runs.
        value: point estimate.
        low: lower end of the 95 % interval, NaN where there is none.
        high: upper end.
        unit: ``%``, ``points``, ``USD``, ``s``, ``x`` or empty.
    """

    what: str
    where: str
    value: float
    low: float
    high: float
    unit: str

    @property
    def text(self) -> str:
        """The figure with its interval, for people."""
        form = {
            "%": ("{:.1f}", " %"), "points": ("{:+.1f}", " points"), "USD": ("${:,.2f}", ""), "s": ("{:,.0f}", " s"),
            "x": ("{:.1f}", " x"),
        }.get(self.unit, ("{:.3g}", ""))  # fmt: skip
        if np.isnan(self.low):
            return form[0].format(self.value) + form[1]
        ends = f"{form[0].format(self.low)} to {form[0].format(self.high)}"
        return f"{form[0].format(self.value)}{form[1]} [{ends}]"


@dataclass(frozen=True, eq=False)
class Evidence:
    """Where figures may come from.

    Args:
        folder: holds recorded tables, ``NAME.parquet`` or ``NAME.csv``; None for none.
        tasks: simulated tasks per scenario.
        steps: training steps for the claim that needs a trained policy.
    """

    folder: Path | None = None
    tasks: int = TASKS
    steps: int = 400_000

    def table(self, name: str) -> KnownRuns | None:
        """The runs of a recorded table, None if the folder does not hold it.

        Raises:
            TableError: if the file cannot be used.
        """
        return self._tables.get(name)

    @cached_property
    def _paths(self) -> dict[str, Path]:
        places = [(name, self.folder / f"{name}.{end}") for name in LABELS for end in ("csv", "parquet") if self.folder]
        return {name: path for name, path in places if path.is_file()}

    @cached_property
    def _tables(self) -> dict[str, KnownRuns]:
        return {name: _read(path, LABELS[name]) for name, path in self._paths.items()}

    @cached_property
    def fitted(self) -> list[KnownRuns]:
        """Simulated calls of scenarios fitted to the recorded tables: more repeats than were recorded."""
        found = []
        for name, path in self._paths.items():
            played = play_calls(calibrate(path).scenario, self.tasks, REPEATS)
            families = tuple(config.split("-")[0] for config in played.configs)
            label = f"fitted to {LABELS[name].split(',')[0]}, simulated"
            found.append(KnownRuns(label, False, played.configs, families, played.right, played.cost_usd,
                                   played.latency_s))  # fmt: skip
        return found

    @cached_property
    def browsecomp(self) -> KnownRuns:
        """Simulated calls of the scenario ``browsecomp``, without faults."""
        scenario = load_scenario("browsecomp")
        assert isinstance(scenario, RouterScenario)
        played = play_calls(scenario, self.tasks, REPEATS, profile="clean")
        families = tuple(entry.family for entry in scenario.portfolio.values())
        return KnownRuns("browsecomp, simulated", False, played.configs, families, played.right, played.cost_usd,
                         played.latency_s)  # fmt: skip

    @cached_property
    def sources(self) -> list[KnownRuns]:
        """Every source with costs, times and repeats, recorded ones first; four runs per cell."""
        recorded = [runs for runs in self._tables.values() if runs.right.shape[2] >= 4]
        simulated = self.browsecomp
        four = KnownRuns(simulated.label, False, simulated.configs, simulated.families, simulated.right[:, :, :4],
                         simulated.cost_usd[:, :, :4], simulated.latency_s[:, :, :4])  # fmt: skip
        return [*recorded, four]


def _read(path: Path, label: str) -> KnownRuns:
    table = RecordedTable.load(path, missing={"cost_usd": "config-median", "latency_s": "config-median"}, features=[])
    return KnownRuns.of_table(table, [name.split("-")[0] for name in table.configs], label)


def bootstrap(figure: Callable[[I64], float], size: int, draws: int = DRAWS) -> tuple[float, float, float]:
    """A figure over tasks and its 95 % interval from resampled tasks.

    Args:
        figure: the figure on the tasks with these indices.
        size: number of tasks.
        draws: bootstrap samples.
    """
    values = np.empty(draws)
    for i in range(draws):
        u = uniform(np.arange(size, dtype=np.uint64), _BOOTSTRAP, i)
        values[i] = figure(np.minimum((u * size).astype(np.int64), size - 1))
    low, high = np.quantile(values, (0.025, 0.975)) if np.isfinite(values).all() else (np.nan, np.nan)
    return figure(np.arange(size)), float(low), float(high)


def halves(size: int) -> tuple[I64, I64]:
    """Two halves of the tasks, drawn from a named stream: choose on one, score on the other."""
    order = np.argsort(uniform(np.arange(size, dtype=np.uint64), _HALVES, 0), kind="stable")
    return np.sort(order[: size // 2]), np.sort(order[size // 2 :])


def mean_figure(what: str, runs: KnownRuns, values: F64, unit: str) -> Figure:
    """The mean of one value per task, with its interval; shares and points are given in per cent."""
    scale = 100.0 if unit in ("%", "points") else 1.0
    return Figure(what, runs.label, *bootstrap(lambda q: float(scale * values[q].mean()), len(values)), unit)


def ratio_figure(what: str, runs: KnownRuns, above: F64, below: F64, unit: str = "%") -> Figure:
    """The relative difference ``mean(above) / mean(below) - 1`` in per cent, or the quotient with unit ``x``."""

    def figure(q: I64) -> float:
        quotient = float(above[q].mean() / below[q].mean())
        return quotient if unit == "x" else 100.0 * (quotient - 1.0)

    return Figure(what, runs.label, *bootstrap(figure, len(above)), unit)
