"""The log of real calls: one JSON line per call, written as calls end, in the schema of recorded tables.

The file is only ever appended to. A line that a crash cut off is taken away when the file is opened again. Verdicts
and labels come after the calls they speak of, as lines of their own; :func:`export_table` brings them together.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from ..append_log import AppendLog
from ..errors import TableError
from ..extras import missing_extra

SCHEMA: Final = (
    "query_id", "config", "sample", "success", "score", "cost_usd", "latency_s", "n_calls", "tokens_in",
    "tokens_out", "failure_mode", "error",
)  # fmt: skip
CALLS: Final = ("launch", "repair", "judge", "person")
_WHOLE: Final = ("sample", "n_calls", "tokens_in", "tokens_out")
_TEXT: Final = ("query_id", "config", "failure_mode", "error")


class CallLog:
    """Appends rows to a file, each flushed to the operating system before :meth:`write` returns.

    A file is open in one process at a time. ``failure`` holds what went wrong with writing, if anything did.

    Args:
        path: JSON-lines file; continued if it exists.
        sync: also wait until the disk has each row (survives a power cut; slower).

    Raises:
        TableError: the file cannot be opened, is in use, or is no log.
    """

    def __init__(self, path: str | Path, *, sync: bool = False) -> None:
        self._log = AppendLog(path, error=TableError)
        self.path, self.torn_bytes = self._log.path, self._log.torn_bytes
        self.failure: OSError | None = None
        self.rows = 0
        self._sync = sync
        self._samples: Counter[tuple[str, str]] = Counter()
        self._runs: Counter[str] = Counter()
        self.done: set[str] = set()
        try:
            for row in _lines(self.path):
                self._count(row)
        except TableError:
            self._log.close()
            raise

    def _count(self, row: Mapping[str, Any]) -> None:
        query, kind = str(row.get("query_id")), row.get("kind")
        if kind in CALLS:
            key = (query, str(row.get("config")))
            self._samples[key] = max(self._samples[key], int(row["sample"]) + 1)
        if kind in (*CALLS, "task"):
            self._runs[query] = max(self._runs[query], int(row.get("run", 0)) + 1)
        if kind == "task" and row.get("outcome") != "harness_error":
            self.done.add(query)

    def next_run(self, query_id: str) -> int:
        """Number of the next solution of a task, counted over the whole file."""
        self._runs[query_id] += 1
        return self._runs[query_id] - 1

    def next_sample(self, query_id: str, config: str) -> int:
        """Number of the next call of a configuration on a task, counted over the whole file."""
        self._samples[query_id, config] += 1
        return self._samples[query_id, config] - 1

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one row. A failure is kept in ``failure`` for :meth:`check`, as calls end inside callbacks."""
        if row.get("kind") == "task":
            self._count(row)
        data = (json.dumps(row, ensure_ascii=False, allow_nan=False, default=_plain) + "\n").encode()
        try:
            self._log.append(data)
            if self._sync:
                self._log.sync()
            self.rows += 1
        except OSError as error:
            self.failure = self.failure or error

    def label(self, query_id: str, config: str, sample: int, success: float) -> None:
        """Record what became known later about the answer of one call: 1 right, 0 wrong, or a share.

        Raises:
            TableError: ``success`` is no number in [0, 1], or the log has no such call.
        """
        if isinstance(success, bool):
            success = float(success)
        if not isinstance(success, (int, float)) or not 0.0 <= success <= 1.0:
            raise TableError(f"{self.path}: label: got {success!r}; allowed: a number in [0, 1]")
        known = self._samples[query_id, config]
        if not 0 <= sample < known:
            raise TableError(
                f"{self.path}: label: got sample {sample!r}; allowed: 0 to {known - 1} (query {query_id!r}, "
                f"config {config!r})"
            )
        self.write({"kind": "label", "query_id": query_id, "config": config, "sample": sample, "success": success})

    def check(self) -> None:
        """Raise what went wrong with writing.

        Raises:
            TableError: a row could not be written.
        """
        if self.failure is not None:
            raise TableError(f"{self.path}: a row of the log was lost: {self.failure}") from self.failure

    def close(self) -> None:
        """Flush to the disk and close."""
        self._log.close()

    def __enter__(self) -> CallLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _plain(value: Any) -> Any:
    """NumPy scalars as numbers, everything else that JSON has no word for as text."""
    return value.item() if isinstance(value, np.generic) else str(value)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return  # a writer is at it, or died at it
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            if not isinstance(row, dict) or "kind" not in row:
                raise TableError(f"{path}: line {number} is no row of a call log: {line[:60]!r}")
            yield row


def read_log(path: str | Path) -> list[dict[str, Any]]:
    """Read all rows of a log; a torn last line is left out.

    Raises:
        TableError: the file is missing or holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise TableError(f"{path}: no such file")
    return list(_lines(path))


@dataclass(frozen=True)
class Export:
    """What :func:`export_table` wrote.

    Args:
        path: the file.
        rows: rows written.
        from_labels: rows whose success is a label.
        from_judge: rows whose success is the judge's verdict.
        from_status: rows that failed for all to see.
        left_out: rows left out, by reason.
    """

    path: Path
    rows: int
    from_labels: int
    from_judge: int
    from_status: int
    left_out: Mapping[str, int]


def table_columns(
    logs: Sequence[str | Path], *, kinds: Sequence[str] = ("launch",), judged: bool = True
) -> tuple[dict[str, list[Any]], dict[str, int]]:
    """Bring the calls of logs, their verdicts and their labels together as columns of a recorded table.

    ``success`` is the label if there is one, else 0 for a visible failure, else the judge's verdict (the last one;
    it errs as judges do). A call whose success nobody knows is left out: one that was cancelled, or an answer that
    was neither judged nor labelled.

    Args:
        logs: JSON-lines files; samples are numbered anew over all of them.
        kinds: kinds of call to take. A repair starts from an answer, so it is no fresh sample of its
            configuration; it is left out unless named here.
        judged: take verdicts where there is no label.

    Returns:
        the columns of the table (schema and task features), and counts: ``label``, ``judge``, ``status``, and
        ``left out: ...`` by reason.

    Raises:
        TableError: a file is no log, or nothing is left.
    """
    wrong = [kind for kind in kinds if kind not in ("launch", "repair")]
    if wrong:
        raise TableError(f"kinds: got {wrong[0]!r}; allowed: launch, repair")
    taken: list[dict[str, Any]] = []
    counts: Counter[str] = Counter()
    samples: Counter[tuple[str, str]] = Counter()
    for path in logs:
        rows = read_log(path)
        verdicts, labels = _later_words(rows)
        for row in rows:
            if row["kind"] not in CALLS:
                continue
            key = (row["query_id"], row["config"], row["sample"])
            failed = row["failure_mode"] not in ("ok", "cancelled")
            score = verdicts.get(key) if judged else None
            if row["kind"] not in kinds:
                counts[f"left out: {row['kind']}"] += 1
                continue
            if key in labels:
                success, score, source = labels[key], labels[key], "label"
            elif failed:
                success, score, source = 0.0, 0.0, "status"
            elif score is not None:
                success, source = float(score["accepted"]), "judge"
                score = score["score"]
            else:
                counts["left out: cancelled" if row["failure_mode"] == "cancelled" else "left out: not judged"] += 1
                continue
            counts[source] += 1
            mode = "ok" if row["failure_mode"] == "cancelled" else row["failure_mode"]
            sample = samples[row["query_id"], row["config"]]
            samples[row["query_id"], row["config"]] += 1
            known = {name: row.get(name) for name in SCHEMA}
            settled = {"success": success, "score": score, "sample": sample, "failure_mode": mode}
            taken.append({**(row.get("task") or {}), **known, **settled})
    if not taken:
        reasons = ", ".join(f"{name}: {count}" for name, count in counts.items()) or "no calls"
        raise TableError(f"{', '.join(map(str, logs))}: no call whose success is known ({reasons})")
    names = dict.fromkeys([*SCHEMA, *(name for row in taken for name in row)])
    return {name: [row.get(name) for row in taken] for name in names}, dict(counts)


def _later_words(rows: Sequence[Mapping[str, Any]]) -> tuple[dict[Any, dict[str, Any]], dict[Any, float]]:
    verdicts: dict[Any, dict[str, Any]] = {}
    labels: dict[Any, float] = {}
    for row in rows:
        if row["kind"] == "label":
            labels[row["query_id"], row["config"], row["sample"]] = float(row["success"])
        elif row["kind"] == "judge" and row.get("verdict"):
            verdict = row["verdict"]
            verdicts[row["query_id"], verdict["config"], verdict["sample"]] = verdict
    return verdicts, labels


def export_table(
    logs: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    kinds: Sequence[str] = ("launch",),
    judged: bool = True,
) -> Export:
    """Write logs as a recorded table that ``tasks.table`` and ``calibrate`` read.

    Args:
        logs: one JSON-lines file or several.
        out: ``.parquet`` or ``.csv`` file to write.
        kinds: see :func:`table_columns`.
        judged: see :func:`table_columns`.

    Raises:
        TableError: nothing to write, or an unknown type of file.
        MissingExtraError: pyarrow is not installed.
    """
    out = Path(out)
    writers: dict[str, Callable[[Any, Path], None]] = {".parquet": _write_parquet, ".csv": _write_csv}
    if out.suffix not in writers:
        raise TableError(f"{out}: unknown type of file; allowed: {', '.join(writers)}")
    paths = [logs] if isinstance(logs, (str, Path)) else list(logs)
    columns, counts = table_columns(paths, kinds=kinds, judged=judged)
    try:
        import pyarrow as pa
    except ImportError as error:
        raise missing_extra("data", error) from error
    arrays: dict[str, Any] = {}
    for name, values in columns.items():
        kind = pa.int64() if name in _WHOLE else pa.string() if name in _TEXT else pa.float64()
        try:
            arrays[name] = pa.array(values, type=kind if name in SCHEMA else None)
        except pa.ArrowException as error:
            raise TableError(f"{out}: column {name!r} mixes kinds of values: {error}") from error
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        writers[out.suffix](pa.table(arrays), temporary)
        os.replace(temporary, out)
    except OSError as error:
        raise TableError(f"{out}: cannot write the table: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    prefix = "left out: "
    left = {name.removeprefix(prefix): count for name, count in counts.items() if name.startswith(prefix)}
    label, judge, status = (counts.get(name, 0) for name in ("label", "judge", "status"))
    return Export(out, len(columns["query_id"]), label, judge, status, left)


def _write_parquet(table: Any, path: Path) -> None:
    import pyarrow.parquet as pq

    pq.write_table(table, path)


def _write_csv(table: Any, path: Path) -> None:
    from pyarrow import csv

    csv.write_csv(table, path)
