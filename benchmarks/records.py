"""Clean and messy field values per second, on one core, of names, e-mails, dates, amounts and addresses.

    python benchmarks/records.py [--rows 16384] [--seconds 1] [--windows 5] [--cpu] [--json] [--quick]

One field value is one cell of the table, as text: ``clean`` makes them, ``messy`` also strikes them with every
effect of the profile and makes the damaged text, the mask, and the truth about every cell. Blocks of ``--rows``
records are made one after the other, every window of other rows; nothing is written. ``files`` writes
CSV with its truth to a temporary folder as well, and counts the cells of the table. Making the Faker pools is counted
nowhere: it happens once per process, and its time stands below the table. One thread, one process. With ``--cpu`` the
clock is the process's own CPU time, for a machine that others use as well. A benchmark is no test: the exit status
is 0 whatever the figures are.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from rich.console import Console
from rich.table import Table

from brownout.scenarios import RecordSource
from brownout.scenarios.messy import MessyRecords
from brownout.scenarios.record_files import RecordJob, write_records

AIM = 1e6
FIELDS = ("name", "email", "born", "balance", "address")
EVERY = [
    {"fault": "conflicting-duplicate", "when": "rate(0.02)"},
    {"fault": "missing-field", "when": "bad_records(p=0.01, share=0.2)"},
    {"fault": "malformed-format", "when": "rate(0.01)"},
    {"fault": "typo", "when": "rate(0.01)"},
    {"fault": "stale-value", "when": "rate(0.01)"},
    {"fault": "swapped-fields", "when": "rate(0.01)"},
    {"fault": "wrong-unit", "when": "rate(0.01)"},
    {"fault": "encoding-damage", "when": "rate(0.01)"},
    {"fault": "truncated-value", "when": "own_value(0.0, 0.02)"},
    {"fault": "outlier", "when": "depends('born', 0.0, 0.02)"},
    {"fault": "partial-update", "when": "rate(0.01)"},
]
SCHEMA: dict[str, Any] = {
    "version": 1,
    "name": "bench",
    "locales": {"en_US": 0.7, "de_DE": 0.3},
    "kinds": {
        "person": {
            "fields": {
                "name": {"type": "name", "pair": "address"},
                "email": {"type": "email"},
                "born": {"type": "date", "start": "1940-01-01", "end": "2005-12-31"},
                "balance": {"type": "amount", "value": {"median": 250, "p95": 4000}},
                "address": {"type": "address"},
            }
        }
    },
    "profiles": {"all-effects": EVERY},
}


def rates(work: Callable[[int], int], seconds: float, windows: int, clock: Callable[[], float]) -> list[float]:
    """Cells per second, one figure per window; ``work`` gets the number of the block and returns its cells."""
    work(0)
    found, number = [], 1
    for _ in range(windows):
        cells, start = 0, clock()
        while clock() - start < seconds:
            cells += work(number)
            number += 1
        found.append(cells / (clock() - start))
    return sorted(found)


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Take every figure."""
    clock: Callable[[], float] = time.process_time if options.cpu else time.perf_counter
    figures: list[dict[str, Any]] = []
    settings: list[tuple[str, Any, str, tuple[str, ...]]] = [
        ("names, e-mails, dates, amounts, addresses", SCHEMA, "all-effects", ("person",)),
        ("commerce", "commerce", "production", ("customer", "order")),
        ("commerce", "commerce", "hostile", ("customer",)),
    ]
    for title, schema, profile, kinds in settings:
        for kind in kinds:
            begin = clock()
            source = RecordSource(schema, seed=1)
            messy = MessyRecords(source, kind, profile)
            messy.block(0, 64)
            pools_s = clock() - begin
            size, width = options.rows, len(messy.names)
            shares: list[float] = []

            def clean(block: int) -> int:
                source.text(kind, np.arange(block * size, (block + 1) * size))  # noqa: B023
                return size * width  # noqa: B023

            def dirty(block: int) -> int:
                made = messy.block(block * size, (block + 1) * size)  # noqa: B023
                shares.append(float(made.dirty.mean()))  # noqa: B023
                return made.dirty.size

            with tempfile.TemporaryDirectory() as folder:
                job = RecordJob(source.schema, kind, profile, 1.0, 1, None, "csv", "csv")
                table, truth = Path(folder, "table.csv"), Path(folder, "truth.csv")

                def files(block: int) -> int:
                    return write_records(job, size, table, truth).cells  # noqa: B023

                for name, work in (("clean", clean), ("messy", dirty), ("files", files)):
                    found = rates(work, options.seconds, options.windows, clock)
                    figures.append(
                        {
                            "records": f"{title}: {kind}" if kind != "person" else title,
                            "profile": profile if name != "clean" else "clean",
                            "what": name,
                            "cells_per_s": statistics.median(found),
                            "low": found[0],
                            "high": found[-1],
                            "dirty": statistics.mean(shares) if name == "messy" else None,
                            "pools_s": pools_s,
                        }
                    )
    return figures


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=16_384, help="records per block")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a window")
    parser.add_argument("--windows", type=int, default=5, help="windows per figure")
    parser.add_argument("--quick", action="store_true", help="three windows of a fifth of a second")
    parser.add_argument("--cpu", action="store_true", help="count the process's CPU time instead of the wall clock's")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    if options.quick:
        options.seconds, options.windows = 0.2, 3
    figures = measure(options)
    machine = {
        "python": platform.python_version(), "numpy": np.__version__, "machine": platform.machine(),
        "cores": os.cpu_count(), "load": [round(value, 2) for value in os.getloadavg()],
    }  # fmt: skip
    if options.json:
        json.dump({"machine": machine, "aim": AIM, "figures": figures}, sys.stdout, indent=2)
        print()
        return
    console = Console() if sys.stdout.isatty() else Console(width=140)
    table = Table(title=f"field values per second, one core; aim for messy: {AIM / 1e6:g} M", title_justify="left")
    for head in ("records", "profile", "what", "M values/s", "range", "dirty cells, %", "aim met"):
        table.add_column(head, no_wrap=True)
    for row in figures:
        table.add_row(
            row["records"], row["profile"], row["what"], f"{row['cells_per_s'] / 1e6:.2f}",
            f"{row['low'] / 1e6:.2f} to {row['high'] / 1e6:.2f}",
            "" if row["dirty"] is None else f"{100 * row['dirty']:.1f}",
            ("yes" if row["cells_per_s"] >= AIM else "no") if row["what"] == "messy" else "",
        )  # fmt: skip
    console.print(table)
    pools = {row["records"]: f"{row['pools_s']:.1f} s" for row in figures}
    console.print(
        "start-up with pools: " + ", ".join(f"{name} {took}" for name, took in pools.items()), highlight=False
    )
    console.print(", ".join(f"{name} {value}" for name, value in machine.items()), highlight=False)


if __name__ == "__main__":
    main()
