"""Writing messy records and the truth about them to CSV, Parquet or JSON lines, block by block.

Memory stays flat whatever the number of rows. Both files are written under a temporary name and renamed at
the end, so a file with the right name is a whole file. Equal seeds give equal bytes, with any number of workers.

Everything in the messy table is text or empty, as in a raw export: a damaged amount is no number. The truth
has one row per dirty cell.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import RecordError, WorkerError
from ..extras import missing_extra
from .messy import BLOCK_ROWS, MessyBlock, MessyRecords
from .record_schema import RecordSchema
from .records import RecordSource

Columns = Mapping[str, NDArray[Any]]

FORMATS: Final = {".csv": "csv", ".parquet": "parquet", ".pq": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl"}

TRUTH_COLUMNS: Final = {
    "row": "row of the table, from 0",
    "record": "number of the record the row is about",
    "key": "its key",
    "copy": "whether the row is a second version of the record",
    "field": "the dirty field",
    "effect": "what happened to it",
    "fault": "id of the fault in the plan",
    "clean": "what should stand there",
    "visible": "whether a check of format, range or uniqueness shows it",
    "repairable": "whether the clean value can be found from what is there",
}


@dataclass(frozen=True)
class RecordJob:
    """What to make: plain data, so that a worker process can make its part of it.

    Args:
        schema: the schema.
        kind: kind of record; None: the schema's main kind.
        mess: profile of the schema.
        intensity: scales every fault.
        seed: equal seeds give equal files.
        locale: Faker locales instead of the schema's.
        out: format of the table.
        truth: format of the truth.
    """

    schema: RecordSchema
    kind: str | None
    mess: str
    intensity: float
    seed: int
    locale: str | Mapping[str, float] | None
    out: str
    truth: str

    def records(self) -> MessyRecords:
        """Return the messy records."""
        source = RecordSource(self.schema, self.seed, self.locale)
        return MessyRecords(source, self.kind, self.mess, self.intensity)


@dataclass
class Summary:
    """What was written.

    Args:
        kind: kind of record.
        fields: the columns.
        records: clean records.
        rows: rows of the table, second versions included.
        dirty: dirty cells in all.
        visible: how many of them a check shows.
        repairable: how many of them can be repaired.
        by_effect: dirty cells per effect.
        by_field: dirty cells per field.
    """

    kind: str
    fields: tuple[str, ...]
    records: int = 0
    rows: int = 0
    dirty: int = 0
    visible: int = 0
    repairable: int = 0
    by_effect: Counter[str] = field(default_factory=Counter)
    by_field: Counter[str] = field(default_factory=Counter)

    @property
    def cells(self) -> int:
        """Cells of the table."""
        return self.rows * len(self.fields)

    def add(self, block: MessyBlock, effects: tuple[str, ...]) -> None:
        """Count a block."""
        self.rows += len(block)
        self.dirty += int(block.dirty.sum())
        self.visible += int(block.visible.sum())
        self.repairable += int(block.repairable.sum())
        per_fault = np.bincount(block.fault.reshape(-1), minlength=len(effects) + 1)[1:]
        for effect, count in zip(effects, per_fault.tolist(), strict=True):
            self.by_effect[effect] += count
        for name, count in zip(block.names, block.dirty.sum(axis=0).tolist(), strict=True):
            self.by_field[name] += count

    def merge(self, other: Summary) -> None:
        """Add what another part counted."""
        for name in ("rows", "dirty", "visible", "repairable"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.by_effect.update(other.by_effect)
        self.by_field.update(other.by_field)

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as plain data."""
        return {
            "kind": self.kind,
            "records": self.records,
            "rows": self.rows,
            "cells": self.cells,
            "dirty": self.dirty,
            "visible": self.visible,
            "repairable": self.repairable,
            "by_effect": dict(self.by_effect),
            "by_field": dict(self.by_field),
        }


def truth_of(block: MessyBlock, messy: MessyRecords, first_row: int) -> dict[str, NDArray[Any]]:
    """Return the truth of a block: one row per dirty cell, the columns of :data:`TRUTH_COLUMNS`.

    Args:
        block: the block.
        messy: where it comes from.
        first_row: row of the table that the block begins with.
    """
    rows, columns = block.fault.nonzero()
    clean = np.empty(rows.size, dtype=object)
    for column, name in enumerate(block.names):
        mine = columns == column
        clean[mine] = block.clean[name].take(rows[mine])
    key = messy.source.schema.kinds[messy.kind].key
    none = np.full(rows.size, None, dtype=object)
    code = block.fault[rows, columns] - 1
    return {
        "row": rows + first_row,
        "record": block.record.take(rows),
        "key": none if key is None else block.clean[key].take(rows),
        "copy": block.copy.take(rows),
        "field": np.array(block.names, dtype=object).take(columns),
        "effect": _words(messy.effect_names, code),
        "fault": _words(messy.fault_ids, code),
        "clean": clean,
        "visible": block.visible[rows, columns],
        "repairable": block.repairable[rows, columns],
    }


def _words(words: tuple[str, ...], code: NDArray[Any]) -> NDArray[np.object_]:
    return np.array(words or ("",), dtype=object).take(code)


# ---------------------------------------------------------------- formats


def format_of(path: Path) -> str:
    """Return the format that a file's name asks for.

    Raises:
        RecordError: if it is none of those there are.
    """
    found = FORMATS.get(path.suffix.lower())
    if found is None:
        raise RecordError(f"{path}: unknown type of file; allowed: {', '.join(FORMATS)}")
    return found


def encode(columns: Columns, format_: str) -> bytes:
    """Return columns as bytes: rows of text, or an Arrow stream on its way into a Parquet file."""
    if format_ == "parquet":
        return _encode_arrow(columns)
    lists = [values.tolist() for values in columns.values()]
    if format_ == "jsonl":
        names = list(columns)
        write = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
        lines = [write(dict(zip(names, row, strict=True))) for row in zip(*lists, strict=True)]
        return "".join(f"{line}\n" for line in lines).encode()
    text = io.StringIO(newline="")
    # RFC 4180; with these line ends a lone carriage return is quoted as well
    csv.writer(text, lineterminator="\r\n").writerows(zip(*lists, strict=True))
    return text.getvalue().encode()


def _encode_arrow(columns: Columns) -> bytes:
    import pyarrow as pa

    table = pa.table({name: pa.array(values, type=_arrow_type(values)) for name, values in columns.items()})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue().to_pybytes()


def _arrow_type(values: NDArray[Any]) -> Any:
    import pyarrow as pa

    return pa.string() if values.dtype == object else None


class _File:
    """One file under its temporary name."""

    def __init__(self, path: Path, format_: str, names: list[str], stack: ExitStack) -> None:
        self.path = path
        self.part = path.with_name(f".{path.name}.{os.getpid()}.part")
        self._format = format_
        self._names = names
        self._writer: Any = None
        self._file: IO[bytes] = stack.enter_context(self.part.open("wb"))
        if format_ == "csv":
            header = {name: np.array([name], dtype=object) for name in names}
            self._file.write(encode(header, "csv"))

    def append(self, data: bytes) -> None:
        """Write one block."""
        if self._format != "parquet":
            self._file.write(data)
            return
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.ipc.open_stream(data).read_all()
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._file, table.schema)
        self._writer.write_table(table)

    def finish(self) -> None:
        """Write what a format needs at its end."""
        if self._writer is not None:
            self._writer.close()


# ---------------------------------------------------------------- writing


def write_records(
    job: RecordJob,
    rows: int,
    out: Path,
    truth: Path,
    *,
    workers: int = 1,
    progress: Callable[[int], None] | None = None,
    block_rows: int = BLOCK_ROWS,
) -> Summary:
    """Write a messy table and its truth.

    Args:
        job: what to make.
        rows: number of records; the table has more rows if some have a second version.
        out: the table.
        truth: the truth.
        workers: processes that make blocks; the result is the same.
        progress: called with the number of records that were written just now.
        block_rows: records in memory at a time; changes the row groups of a Parquet file and nothing else.

    Raises:
        RecordError: for a bad number of rows, or files that cannot be written.
        FaultError: if the plan does not fit the schema.
        MissingExtraError: if Parquet is asked for and pyarrow is not installed.
        WorkerError: if a worker process dies.
    """
    if rows < 0:
        raise RecordError(f"rows = {rows} is not allowed: must be 0 or more")
    if out.resolve() == truth.resolve():
        raise RecordError(f"{out}: table and truth need two files")
    if "parquet" in (job.out, job.truth):
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise missing_extra("data", error) from error
    messy = job.records()
    if rows:
        messy.source.block(messy.kind, [rows - 1])  # refuses more rows than there are keys
    summary = Summary(messy.kind, messy.names, records=rows)
    files: list[_File] = []
    try:
        with ExitStack() as stack:
            files.append(_File(out, job.out, list(messy.names), stack))
            files.append(_File(truth, job.truth, list(TRUTH_COLUMNS), stack))
            starts = range(0, rows, block_rows) if rows else range(1)
            for start, (table, counted) in zip(starts, _parts(messy, job, rows, starts, workers), strict=True):
                files[0].append(table)
                # rows of the truth count on from the rows written so far
                block_truth, part = counted
                files[1].append(encode({**block_truth, "row": block_truth["row"] + summary.rows}, job.truth))
                summary.merge(part)
                if progress is not None:
                    progress(min(start + block_rows, rows) - start)
            for file in files:
                file.finish()
        for file in files:
            file.part.replace(file.path)
    except OSError as error:
        raise RecordError(f"{error.filename or out}: cannot be written: {error.strerror or error}") from error
    finally:
        for file in files:
            file.part.unlink(missing_ok=True)
    return summary


_Part = tuple[bytes, tuple[dict[str, NDArray[Any]], Summary]]


def _part(messy: MessyRecords, format_: str, start: int, stop: int) -> _Part:
    block = messy.block(start, stop)
    summary = Summary(messy.kind, messy.names)
    summary.add(block, messy.effect_names)
    return encode(block.values, format_), (truth_of(block, messy, 0), summary)


def _parts(messy: MessyRecords, job: RecordJob, rows: int, starts: range, workers: int) -> Iterator[_Part]:
    stops = [min(start + starts.step, rows) for start in starts]
    if workers <= 1 or len(stops) == 1:
        for start, stop in zip(starts, stops, strict=True):
            yield _part(messy, job.out, start, stop)
        return
    import multiprocessing
    from concurrent.futures import Future, ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(job,))
    waiting: deque[Future[_Part]] = deque()
    try:
        with pool:
            for start, stop in zip(starts, stops, strict=True):
                waiting.append(pool.submit(_make, start, stop))
                if len(waiting) > 2 * workers:  # flat memory: never far ahead of the file
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise WorkerError("a worker process died while it made records; nothing was written") from error


_AT_WORK: dict[str, Any] = {}


def _begin(job: RecordJob) -> None:
    """Prepare a worker process."""
    _AT_WORK["job"], _AT_WORK["messy"] = job, job.records()


def _make(start: int, stop: int) -> _Part:
    return _part(_AT_WORK["messy"], _AT_WORK["job"].out, start, stop)
