"""Recorded runs as flat arrays, one entry per run, for fitting a scenario to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..envs.streams import episode_keys, stream_id, uniform
from ..errors import TableError
from .spans import SPAN_SUFFIXES, PriceTable, read_spans
from .table_fill import FAILURE_STATUS, Rule
from .table_io import Columns, bad_value, is_empty, listed, near, numbers, read_columns
from .tables import RecordedTable

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

Source = str | Path | Mapping[str, ArrayLike]
RARE: Final = 10  # a class with fewer queries joins the class "other"


@dataclass(frozen=True, eq=False)
class Runs:
    """Runs of one table, sorted by query, configuration and sample; every array has one entry per run.

    Args:
        table: the dense table the runs come from (all queries, configurations as chosen).
        query: index of the query in ``table.query_ids``.
        config: index of the configuration in ``table.configs``.
        success: whether the run was right; a graded share is decided by a draw, as a replay does.
        cost_usd: USD, NaN where the table has none.
        latency_s: seconds, NaN where the table has none.
        mode: failure mode as recorded, ``ok`` where empty.
        visible: whether the caller saw the run fail.
        accept: verdict of the recorded judge, 1 or 0; NaN where there is none.
        families: family of each configuration.
        classes: names of the classes of queries.
        query_class: ``(Q,)`` class of each query.
        notes: what was decided on the way, in sentences.
    """

    table: RecordedTable
    query: I64
    config: I64
    success: Bools
    cost_usd: F64
    latency_s: F64
    mode: NDArray[Any]
    visible: Bools
    accept: F64
    families: tuple[str, ...]
    classes: tuple[str, ...]
    query_class: I64
    notes: tuple[str, ...]

    def tally(self, rows: Bools) -> I64:
        """``(Q, K)`` number of the chosen runs of each query and configuration."""
        found = np.zeros((len(self.table.query_ids), len(self.table.configs)), dtype=np.int64)
        np.add.at(found, (self.query[rows], self.config[rows]), 1)
        return found


def load_runs(
    source: Source,
    *,
    configs: Sequence[str] | None = None,
    class_column: str | None = None,
    families: Mapping[str, str] | None = None,
    answers: Sequence[str] = (),
    modes: Sequence[str] = (),
    missing: Mapping[str, Rule] | None = None,
    prices: PriceTable | None = None,
    judge_threshold: float = 0.5,
) -> Runs:
    """Read a table (Parquet or CSV), spans (JSON lines) or columns in memory.

    Args:
        source: path, or columns.
        configs: configurations to use, in this order; None takes all.
        class_column: column with the class of each query, the same in all its rows; None is one class.
        families: family of each configuration; without it the column ``family`` (or ``provider``), else the
            leading letters of the configuration's name.
        answers: failure modes that count as wrong answers, not as faults.
        modes: other failure modes that are faults, known or not.
        missing: rules for missing costs and latencies as in :meth:`RecordedTable.from_columns`; by default
            a missing value is left out of its distribution.
        prices: for spans, USD per million tokens (in, out) by model.
        judge_threshold: a ``judge_score`` from here counts as accepted.

    Raises:
        TableError: naming file, column, row (or line), the value met and what is allowed.
    """
    if isinstance(source, Mapping):
        name, columns = "table", {key: np.asarray(_plain(values)) for key, values in source.items()}
    else:
        name, path = str(source), Path(source)
        spans = path.name.lower().endswith(SPAN_SUFFIXES)
        columns = _as_arrays(read_spans(path, prices=prices)) if spans else read_columns(path)
    rules: dict[str, Rule] = {"cost_usd": "config-median", "latency_s": "config-median", **(missing or {})}
    status = {mode: "unexpected" for mode in modes if mode not in FAILURE_STATUS}
    status.update(dict.fromkeys(answers, "ok"))
    try:
        table = RecordedTable.from_columns(
            columns, source=name, configs=configs, features=[], missing=rules, failure_status=status,
            incomplete="keep", eval_fraction=0.3 if len(set(columns.get("query_id", []))) > 3 else 0.0,
        )  # fmt: skip
    except TableError as error:
        if "no status for" not in str(error):
            raise
        raise TableError(
            f"{str(error).split('. Map each')[0]}. Give each a fault or 'answer' (a wrong answer) in the "
            "mapping file, e.g. `my_mode: {fault: server-error}`"
        ) from None
    order = _order(columns, table)
    there = np.arange(table.success.shape[2]) < table.n_samples[:, :, None]
    query, config, place = np.nonzero(there)
    notes = list(table.notes)
    share = table.success[query, config, place]
    keys = episode_keys(query, place, "calibration.luck")
    success = uniform(keys, stream_id("luck"), config) < share
    graded = int(((share > 0.0) & (share < 1.0)).sum())
    if graded:
        notes.append(f"{graded} runs with a share of success count as right with that probability, as in a replay")
    mode = np.array([_mode(v) for v in _column(columns, "failure_mode", order)], dtype=object)
    group, classes, more = _classes(name, columns, order, query, len(table.query_ids), class_column)
    measured = [
        np.where(_known(name, columns, key, order) | (not isinstance(rules[key], str)), values, np.nan)
        for key, values in (("cost_usd", table.cost_usd[there]), ("latency_s", table.latency_s[there]))
    ]
    return Runs(
        table=table, query=query, config=config, success=success, cost_usd=measured[0], latency_s=measured[1],
        mode=mode, visible=table.status[there] != 1,
        accept=_verdicts(name, columns, order, judge_threshold),
        families=_families(name, columns, order, config, table.configs, families, notes),
        classes=classes, query_class=group, notes=(*notes, *more),
    )  # fmt: skip


def _plain(values: ArrayLike) -> Any:
    array = np.asarray(values)
    return np.array(values, dtype=object) if array.dtype.kind in "US" else array


def _as_arrays(columns: Mapping[str, Sequence[Any]]) -> dict[str, NDArray[Any]]:
    return {key: np.asarray(_plain(values)) for key, values in columns.items()}


def _order(columns: Columns, table: RecordedTable) -> I64:
    """Rows of the source in the order of the dense table."""
    queries = {name: i for i, name in enumerate(table.query_ids)}
    configs = {name: i for i, name in enumerate(table.configs)}
    q = np.array([queries.get(str(v), -1) for v in columns["query_id"].tolist()])
    k = np.array([configs.get(str(v), -1) for v in columns["config"].tolist()])
    rows = np.flatnonzero((q >= 0) & (k >= 0))
    sample = columns["sample"][rows].astype(np.float64)
    return rows[np.lexsort((sample, k[rows], q[rows]))]


def _column(columns: Columns, name: str, order: I64) -> list[Any]:
    return columns[name][order].tolist() if name in columns else [None] * len(order)


def _mode(value: object) -> str:
    return "ok" if is_empty(value) else str(value)


def _known(source: str, columns: Columns, name: str, order: I64) -> Bools:
    if name not in columns:
        return np.zeros(len(order), dtype=bool)
    return ~np.isnan(numbers(source, name, columns[name], order, 0.0, np.inf, "a finite number from 0"))


def _verdicts(source: str, columns: Columns, order: I64, threshold: float) -> F64:
    for name, at in (("judge_accept", 0.5), ("judge_score", threshold)):
        if name in columns:
            allowed = "0, 1 or empty" if name == "judge_accept" else "a finite number"
            column = columns[name]
            column = column.astype(np.float64) if column.dtype == bool else column
            values = numbers(source, name, column, order, -np.inf, np.inf, allowed)
            wrong = np.flatnonzero(~np.isnan(values) & ~np.isin(values, (0.0, 1.0)))
            if name == "judge_accept" and wrong.size:
                raise bad_value(source, name, int(order[wrong[0]]), values[wrong[0]], allowed)
            return np.where(np.isnan(values), np.nan, (values >= at).astype(np.float64))
    return np.full(len(order), np.nan)


def _per_group(
    source: str, name: str, values: Sequence[Any], group: I64, order: I64, labels: Sequence[str], what: str
) -> list[str | None]:
    """The one value that each query (or configuration) has in a column."""
    found: list[str | None] = [None] * len(labels)
    for i, value in enumerate(values):
        if is_empty(value):
            continue
        text, g = str(value), int(group[i])
        if found[g] not in (None, text):
            raise bad_value(
                source,
                name,
                int(order[i]),
                value,
                f"one value in all rows of {what} {labels[g]!r}, before {found[g]!r}",
            )
        found[g] = text
    return found


def _classes(
    source: str, columns: Columns, order: I64, query: I64, queries: int, name: str | None
) -> tuple[I64, tuple[str, ...], list[str]]:
    if name is None:
        return np.zeros(queries, dtype=np.int64), ("all",), []
    if name not in columns:
        raise TableError(
            f"{source}: class_column: no column {name!r}{near(name, columns)}; the table has: {', '.join(columns)}"
        )
    ids = [str(i) for i in range(queries)]
    labels = [
        safe_name(v or "other")
        for v in _per_group(source, name, _column(columns, name, order), query, order, ids, "query")
    ]
    notes = []
    count = {label: labels.count(label) for label in sorted(set(labels))}
    rare = [label for label, n in count.items() if n < RARE]
    if len(count) - len(rare) + bool(rare) < len(count):
        notes.append(f"classes with fewer than {RARE} queries are one class 'other': {listed(rare)}")
        labels = ["other" if label in rare else label for label in labels]
    classes = tuple(sorted(set(labels)))
    return np.array([classes.index(label) for label in labels]), classes, notes


def _families(
    source: str, columns: Columns, order: I64, config: I64, configs: Sequence[str],
    given: Mapping[str, str] | None, notes: list[str],
) -> tuple[str, ...]:  # fmt: skip
    if given is not None:
        lacking = [name for name in configs if name not in given]
        if lacking:
            raise TableError(
                f"families: no family for {listed(map(repr, lacking))}; allowed: one for each configuration"
            )
        return tuple(safe_name(given[name]) for name in configs)
    for name in ("family", "provider"):
        if name in columns:
            values = _per_group(source, name, _column(columns, name, order), config, order, configs, "configuration")
            return tuple(safe_name(v or c) for v, c in zip(values, configs, strict=True))
    guess = tuple(
        safe_name(name[: next((i for i, c in enumerate(name) if not c.isalpha()), None)] or name) for name in configs
    )
    notes.append("families are guessed from the names of the configurations; a column `family` states them")
    return guess


def safe_name(text: str) -> str:
    """A name that scenarios allow: letters, digits and ``_.+-``, not reserved."""
    kept = "".join(c if (c.isascii() and c.isalnum()) or c in "_.+-" else "-" for c in str(text)).lstrip("_.+-") or "x"
    return f"{kept}-1" if kept in ("judge", "person", "launch", "repair", "escalate") else kept
