"""Reading the columns of a recorded table, and checking them value by value.

Parquet and CSV are both read through pyarrow (extra ``brownout[data]``), imported on use. Rows are numbered
from 1 in every message; the header of a CSV file is not counted.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import TableError
from ..extras import missing_extra

Columns = Mapping[str, NDArray[Any]]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

SUFFIXES: Final = (".parquet", ".pq", ".csv", ".csv.gz")
_UNUSED: Final = frozenset({"error", "n_calls"})  # outcomes that nothing here reads, often the bulk of a file


def near(name: object, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` when a known name is close to ``name``, else an empty string."""
    found = difflib.get_close_matches(str(name), list(known), n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""


def listed(items: Iterable[object], limit: int = 12) -> str:
    """Join items with commas, the first ``limit`` of them."""
    shown = [str(item) for item in items]
    more = f", ... ({len(shown)} in all)" if len(shown) > limit else ""
    return ", ".join(shown[:limit]) + more


def read_columns(path: Path) -> dict[str, NDArray[Any]]:
    """Read a Parquet or CSV file into NumPy columns.

    Text comes as object arrays with ``None`` where empty, numbers as they are stored, with NaN where empty.

    Raises:
        TableError: if the file is missing, not of a known type, or damaged.
        MissingExtraError: if pyarrow is not installed.
    """
    name = path.name.lower()
    if not name.endswith(SUFFIXES):
        raise TableError(f"{path}: unknown type of file; allowed: {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise TableError(f"{path}: no such file")
    try:
        import pyarrow as pa
    except ImportError as error:
        raise missing_extra("data", error) from error
    try:
        table = _read_csv(path) if ".csv" in name else _read_parquet(path)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise TableError(f"{path}: not a readable table: {' '.join(str(error).split())}") from error
    names: list[str] = table.column_names
    twice = sorted({column for column in names if names.count(column) > 1})
    if twice:
        raise TableError(f"{path}: column given twice: {', '.join(twice)}")
    return {column: _to_numpy(table.column(column)) for column in names}


def _read_parquet(path: Path) -> Any:
    import pyarrow.parquet as pq

    names = pq.read_schema(path).names
    return pq.read_table(path, columns=[name for name in names if name not in _UNUSED])


def _read_csv(path: Path) -> Any:
    from pyarrow import csv, string

    # ids stay text, so that "007" and "7" remain two queries
    types = {"query_id": string(), "config": string()}
    return csv.read_csv(path, convert_options=csv.ConvertOptions(column_types=types))


def _to_numpy(column: Any) -> NDArray[Any]:
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_decimal(kind) or pa.types.is_float16(kind):
        column = column.cast(pa.float64())
    if pa.types.is_null(kind):
        return np.full(len(column), np.nan)
    return column.to_numpy()


def require(source: str, columns: Columns, names: Iterable[str]) -> None:
    """Check that the columns are there and equally long.

    Raises:
        TableError: listing what is missing and what is there.
    """
    lacking = [name for name in names if name not in columns]
    if lacking:
        raise TableError(
            f"{source}: missing column{'s' if len(lacking) > 1 else ''} {', '.join(map(repr, lacking))}"
            f"{near(lacking[0], columns)}; the table has: {', '.join(columns)}"
        )
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise TableError(f"{source}: columns of different lengths: {lengths}")
    if not next(iter(lengths.values()), 0):
        raise TableError(f"{source}: the table has no rows")


def bad_value(source: str, name: str, row: int, value: object, allowed: str) -> TableError:
    """Return the error of one bad value; ``row`` counts from 0."""
    shown = value.item() if isinstance(value, np.generic) else value
    return TableError(f"{source}: column {name!r}, row {row + 1}: got {shown!r}; allowed: {allowed}")


def is_empty(value: object) -> bool:
    """Whether a cell is empty: null, NaN or blank text."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return True
    return isinstance(value, (float, np.floating)) and math.isnan(value)


def text_codes(source: str, name: str, column: NDArray[Any]) -> tuple[list[str], I64]:
    """Return the sorted distinct ids of a text or integer column and each row's index among them.

    Raises:
        TableError: if an id is empty or of another type.
    """
    index: dict[Any, int] = {}
    codes = np.array([index.setdefault(value, len(index)) for value in column.tolist()], dtype=np.int64)
    for value, code in index.items():
        if isinstance(value, bool) or not isinstance(value, (str, int)) or is_empty(value):
            row = int(np.flatnonzero(codes == code)[0])
            raise bad_value(source, name, row, value, "non-empty text or an integer")
    names = [str(value) for value in index]
    order = sorted(range(len(names)), key=names.__getitem__)
    rank = np.empty(len(names), dtype=np.int64)
    rank[order] = np.arange(len(names))
    return [names[i] for i in order], rank[codes]


def numbers(source: str, name: str, column: NDArray[Any], rows: I64, low: float, high: float, allowed: str) -> F64:
    """Return the chosen rows of a numeric column as float64, NaN where a cell is empty.

    Args:
        source: file, for messages.
        name: column, for messages.
        column: the whole column.
        rows: indices of the chosen rows; only these are checked.
        low: least allowed value.
        high: greatest allowed value.
        allowed: what is allowed, in words.

    Raises:
        TableError: naming file, column, row, value and what is allowed.
    """
    chosen = column[rows]
    if chosen.dtype == object:
        values = np.full(len(chosen), np.nan)
        wrong = [i for i, value in enumerate(chosen) if not is_empty(value) and not _is_number(name, value)]
        if wrong:
            # of a text column, show the cell that made it text
            at = next((i for i in wrong if not _reads_as_number(chosen[i])), wrong[0])
            raise bad_value(source, name, int(rows[at]), chosen[at], allowed)
        for i, value in enumerate(chosen):
            values[i] = np.nan if is_empty(value) else float(value)
    elif chosen.dtype.kind in "iuf" or (chosen.dtype.kind == "b" and name == "success"):
        values = chosen.astype(np.float64)
    else:
        raise bad_value(source, name, int(rows[0]), chosen[0], allowed)
    outside = np.flatnonzero((values < low) | (values > high) | np.isinf(values))
    if outside.size:
        raise bad_value(source, name, int(rows[outside[0]]), values[outside[0]], allowed)
    return values


def _is_number(name: str, value: object) -> bool:
    if isinstance(value, (bool, np.bool_)):
        return name == "success"
    return isinstance(value, (int, float, np.number))


def _reads_as_number(value: object) -> bool:
    try:
        float(str(value))
    except ValueError:
        return False
    return True
