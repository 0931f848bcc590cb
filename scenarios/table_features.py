"""Features of recorded queries: what was known before any call.

A column may be a feature when it is not an outcome *and* has one value in all rows of a query: a column that
differs between the runs of one query was written after the call. The check uses every row of the table, also
those of configurations that were not chosen. (A column that happens to be constant can still be an outcome,
e.g. a number of successes per query: name such a column in no feature list.) Encodings are fixed on train
queries: levels, means and standard deviations never see an eval query.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import TableError
from .columns import Column
from .table_io import I64, Columns, is_empty, listed, near

OUTCOMES: Final = frozenset(
    {"query_id", "config", "sample", "success", "score", "cost_usd", "latency_s", "n_calls", "tokens_in",
     "tokens_out", "failure_mode", "error"}
)  # fmt: skip
MAX_LEVELS: Final = 32
MIN_QUERIES: Final = 2
CLIP: Final = 5.0


@dataclass(frozen=True)
class FeatureMatrix:
    """Encoded features of the kept queries.

    Args:
        values: ``(Q, F)`` float32.
        columns: name, unit and range of each of the ``F`` columns.
        skipped: columns of the table that are no feature, with the reason.
    """

    values: NDArray[np.float32]
    columns: tuple[Column, ...]
    skipped: dict[str, str]


def encode_features(
    source: str,
    columns: Columns,
    query: I64,
    query_ids: Sequence[str],
    kept: I64,
    train: NDArray[np.bool_],
    requested: Literal["auto"] | Sequence[str],
) -> FeatureMatrix:
    """Encode the feature columns of a table.

    Text becomes one column per level (levels seen in at least two train queries, the 32 most frequent) and
    one for all others; numbers and booleans are standardised with train statistics and clipped to 5 standard
    deviations, an empty cell is 0 (the mean) and sets an extra column ``<name>:missing``.

    Args:
        source: file, for messages.
        columns: all columns of the table, each with one value per row.
        query: index into ``query_ids`` of each row.
        query_ids: ids of all queries.
        kept: ``(Q,)`` indices of the kept queries, the rows of the result.
        train: ``(Q,)`` which of them are train queries.
        requested: ``auto``, or the names of the columns to use.

    Raises:
        TableError: if a requested column is missing, an outcome, varies within a query, or carries nothing.
    """
    if isinstance(requested, str) and requested != "auto":
        raise TableError(f"features: got {requested!r}; allowed: 'auto' or a list of column names")
    auto = isinstance(requested, str)
    candidates = [name for name in columns if name not in OUTCOMES] if auto else list(requested)
    first_row = np.full(len(query_ids), len(query), dtype=np.int64)
    np.minimum.at(first_row, query, np.arange(len(query)))
    comparable = len(query) > len(query_ids)
    blocks: list[NDArray[np.float32]] = []
    names: list[Column] = []
    skipped: dict[str, str] = {}
    for name in candidates:
        if name not in columns:
            offer = [column for column in columns if column not in OUTCOMES]
            hint = near(name, offer)
            raise TableError(f"{source}: features: no column {name!r}{hint}; allowed: {listed(offer)}")
        if name in OUTCOMES:
            raise TableError(f"{source}: features: {name!r} is an outcome or a key, not known before a call")
        reason = _leak(columns[name], query, query_ids, first_row)
        if reason is None and auto and not comparable:
            reason = "every query has one row, so nothing shows that it was known before; list it in features"
        encoded = None
        if reason is None:
            encoded = _encode(name, columns[name][first_row[kept]], train)
            reason = encoded if isinstance(encoded, str) else None
        if reason is not None or encoded is None or isinstance(encoded, str):
            if not auto:
                raise TableError(f"{source}: features: column {name!r} cannot be a feature: {reason}")
            skipped[name] = str(reason)
            continue
        names.extend(encoded[0])
        blocks.append(encoded[1])
    values = np.concatenate(blocks, axis=1) if blocks else np.zeros((len(kept), 0), dtype=np.float32)
    return FeatureMatrix(values, tuple(names), skipped)


def _leak(column: NDArray[Any], query: I64, query_ids: Sequence[str], first_row: I64) -> str | None:
    """Return why a column varies within a query, or None when it does not."""
    if column.dtype == object:
        index: dict[Any, int] = {}
        try:
            cells = [None if is_empty(value) else value for value in column.tolist()]
            codes = np.array([index.setdefault(value, len(index)) for value in cells])
        except TypeError:
            return f"its values ({type(column[0]).__name__}) are neither text nor numbers"
        differs = codes != codes[first_row[query]]
    else:
        first = column[first_row[query]]
        differs = column != first
        if column.dtype.kind == "f":
            differs &= ~(np.isnan(column) & np.isnan(first))
    rows = np.flatnonzero(differs)
    if not rows.size:
        return None
    at = int(query[rows[0]])
    one, two = (column[row : row + 1].tolist()[0] for row in (first_row[at], rows[0]))
    return f"it varies within query {query_ids[at]!r} ({one!r}, {two!r}): it was not known before the call"


def _encode(
    name: str, column: NDArray[Any], train: NDArray[np.bool_]
) -> tuple[list[Column], NDArray[np.float32]] | str:
    """Encode one value per query, or return why there is nothing to encode."""
    if column.dtype.kind in "iufb":
        return _standardise(name, column.astype(np.float64), train)
    if column.dtype != object:
        return f"its type {column.dtype} is neither text nor a number"
    filled = [value for value in column if not is_empty(value)]
    if filled and all(isinstance(value, (bool, int, float)) for value in filled):
        return _standardise(name, np.array([np.nan if is_empty(v) else float(v) for v in column]), train)
    if not all(isinstance(value, str) for value in filled):
        return "its values are neither all text nor all numbers"
    return _one_hot(name, ["(empty)" if is_empty(value) else str(value) for value in column], train)


def _one_hot(name: str, values: list[str], train: NDArray[np.bool_]) -> tuple[list[Column], NDArray[np.float32]] | str:
    counts = Counter(value for value, known in zip(values, train, strict=True) if known)
    if len(counts) == 1:
        return f"all train queries have the value {next(iter(counts))!r}"
    common = [level for level, count in counts.items() if count >= MIN_QUERIES and level != "other"]
    if not common:
        return f"no value occurs in {MIN_QUERIES} train queries"
    levels = sorted(sorted(common, key=lambda level: (-counts[level], level))[:MAX_LEVELS])
    position = {level: i for i, level in enumerate(levels)}
    matrix = np.zeros((len(values), len(levels) + 1), dtype=np.float32)
    matrix[np.arange(len(values)), [position.get(value, len(levels)) for value in values]] = 1.0
    return [Column(f"{name}={level}", "flag", 0.0, 1.0) for level in (*levels, "other")], matrix


def _standardise(
    name: str, values: NDArray[np.float64], train: NDArray[np.bool_]
) -> tuple[list[Column], NDArray[np.float32]] | str:
    empty = ~np.isfinite(values)
    known = values[train & ~empty]
    spread = float(known.std()) if known.size else 0.0
    columns: list[Column] = []
    parts: list[NDArray[np.float64]] = []
    if spread > 1e-12 * max(1.0, float(np.abs(known).max(initial=0.0))):
        scaled = np.where(empty, 0.0, (np.where(empty, 0.0, values) - known.mean()) / spread)
        columns.append(Column(name, "z", -CLIP, CLIP))
        parts.append(np.clip(scaled, -CLIP, CLIP))
    if empty[train].any() and not empty[train].all():
        columns.append(Column(f"{name}:missing", "flag", 0.0, 1.0))
        parts.append(empty.astype(np.float64))
    if not parts:
        return "it has one value, or none, on all train queries"
    return columns, np.stack(parts, axis=1).astype(np.float32)
