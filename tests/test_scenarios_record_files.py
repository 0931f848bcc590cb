"""Messy tables as files: every format holds the same cells, ugly text survives, the truth is aligned."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rich.console import Console

from brownout import cli_records
from brownout.cli import main
from brownout.errors import RecordError, WorkerError
from brownout.scenarios import RecordSource, load_record_schema, record_files
from brownout.scenarios.messy import MessyRecords
from brownout.scenarios.record_files import TRUTH_COLUMNS, RecordJob, Summary, format_of, write_records

UGLY = {
    'say "hi"': 1, "a,b;c": 1, "two\nlines": 1, "return\rhere": 1, "both\r\nends": 1, "nul\x00inside": 1, "👍🏽 ok": 1,
    " spaces ": 1, "'": 1, "=1+1": 1, "\ufeffbom": 1, "tab\t": 1, "back\\slash": 1, "null": 1, "{}": 1,
    "\u2028line": 1,
}  # fmt: skip
SCHEMA: dict[str, Any] = {
    "version": 1,
    "name": "ugly",
    "kinds": {
        "thing": {
            "fields": {
                "id": {"type": "key", "digits": 5},
                "text": {"type": "choice", "values": UGLY},
                "more": {"type": "text", "template": "{text} / {text}"},
                "price": {"type": "amount", "value": {"low": 1, "high": 2000}},
            }
        }
    },
    "profiles": {
        "production": [
            {"fault": "conflicting-duplicate", "when": "rate(0.1)"},
            {"fault": "missing-field", "when": "rate(0.1)"},
            {"fault": "encoding-damage", "when": "rate(0.2) & on('*.text')"},
            {"fault": "truncated-value", "when": "rate(0.1)"},
            {"fault": "malformed-format", "when": "rate(0.1)"},
        ]
    },
}
SUFFIXES = ("csv", "jsonl", "parquet")


def job(out: str = "csv", truth: str = "csv", schema: Any = SCHEMA, **more: Any) -> RecordJob:
    given = {"kind": None, "mess": "production", "intensity": 1.0, "seed": 3, "locale": None, **more}
    return RecordJob(load_record_schema(schema), out=out, truth=truth, **given)


def read(path: Path) -> list[dict[str, Any]]:
    """Rows of a file by a reader that is not ours; an empty cell of a CSV file is None."""
    if path.suffix == ".jsonl":
        lines = path.read_bytes().decode().split("\n")
        assert lines.pop() == ""
        return [json.loads(line) for line in lines]
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        return pq.read_table(path).to_pylist()
    with path.open(newline="", encoding="utf-8") as file:
        return [{name: value or None for name, value in row.items()} for row in csv.DictReader(file)]


def written(folder: Path, suffix: str, rows: int = 500, **more: Any) -> tuple[Path, Path, Summary]:
    """Write a table and its truth."""
    out, truth = folder / f"table.{suffix}", folder / f"truth.{suffix}"
    options = {name: more.pop(name) for name in ("workers", "block_rows") if name in more}
    kind = format_of(out)
    return out, truth, write_records(job(kind, kind, **more), rows, out, truth, **options)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files_hold_the_cells_and_the_truth_is_aligned(suffix: str, tmp_path: Path) -> None:
    out, truth, summary = written(tmp_path, suffix, block_rows=200)
    block = MessyRecords(RecordSource(SCHEMA, seed=3)).block(0, 500)
    found, told = read(out), read(truth)
    assert len(found) == len(block) == summary.rows
    for name in block.names:
        assert [row[name] for row in found] == block.values[name].tolist(), name
    assert list(told[0]) == list(TRUTH_COLUMNS)
    assert len(told) == block.dirty.sum() == summary.dirty
    for line in told:
        row, column = int(line["row"]), block.names.index(line["field"])
        assert block.dirty[row, column]
        assert line["clean"] == block.clean[line["field"]][row]
        assert line["clean"] != found[row][line["field"]]
        assert line["key"] == block.clean["id"][row]
        assert int(line["record"]) == block.record[row]
        for name, value in (("copy", block.copy[row]), ("visible", block.visible[row, column]),
                            ("repairable", block.repairable[row, column])):  # fmt: skip
            assert str(line[name]) == str(bool(value))
    restored = [dict(row) for row in found]
    for line in told:
        restored[int(line["row"])][line["field"]] = line["clean"]
    clean = RecordSource(SCHEMA, seed=3).text("thing", np.arange(500))
    for row, number in zip(restored, block.record.tolist(), strict=True):
        assert row == {name: clean[name][number] for name in block.names}, "truth puts every cell right"
    assert {row["text"] for row in restored} == set(UGLY), "every ugly text was there"


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_equal_bytes_from_blocks_of_any_size(suffix: str, tmp_path: Path) -> None:
    files: list[tuple[bytes, bytes]] = []
    for size in (500, 64, 7):
        folder = tmp_path / str(size)
        folder.mkdir()
        out, truth, _ = written(folder, suffix, block_rows=size)
        files.append((out.read_bytes(), truth.read_bytes()))
    assert files[0] == files[1] == files[2]
    out, truth, _ = written(tmp_path, suffix, seed=4)
    assert (out.read_bytes(), truth.read_bytes()) != files[0]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_equal_bytes_from_any_number_of_workers(suffix: str, tmp_path: Path) -> None:
    files: list[tuple[bytes, bytes, dict[str, Any]]] = []
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        folder.mkdir()
        out, truth, summary = written(folder, suffix, workers=workers, block_rows=100)
        files.append((out.read_bytes(), truth.read_bytes(), summary.to_dict()))
    assert files[0] == files[1]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_rows_make_files_with_a_header(suffix: str, tmp_path: Path) -> None:
    out, truth, summary = written(tmp_path, suffix, rows=0)
    assert (read(out), read(truth), summary.cells, summary.dirty) == ([], [], 0, 0)
    if suffix == "csv":
        assert out.read_bytes() == b"id,text,more,price\r\n"


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "table.csv").write_text("old")
    calls = 0
    whole = MessyRecords.block

    def breaks(self: MessyRecords, start: int, stop: int) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise RuntimeError("power cut")
        return whole(self, start, stop)

    monkeypatch.setattr(MessyRecords, "block", breaks)
    with pytest.raises(RuntimeError, match="power cut"):
        written(tmp_path, "csv", block_rows=100)
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]
    assert (tmp_path / "table.csv").read_text() == "old"


def test_a_dead_worker_is_an_error_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_files, "_begin", os._exit)  # every worker exits when it begins
    with pytest.raises(WorkerError, match="a worker process died while it made records; nothing was written"):
        written(tmp_path, "csv", workers=2, block_rows=100)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"unknown type of file; allowed: .csv, .parquet"):
        format_of(tmp_path / "table.xlsx")
    same = tmp_path / "table.csv"
    with pytest.raises(RecordError, match="table and truth need two files"):
        write_records(job(), 10, same, same)
    with pytest.raises(RecordError, match="rows = -1 is not allowed"):
        write_records(job(), -1, same, tmp_path / "truth.csv")
    with pytest.raises(RecordError, match=r"thing: row 100000 is not allowed: 0 to 99999"):
        write_records(job(), 100_001, same, tmp_path / "truth.csv")
    with pytest.raises(RecordError, match="cannot be written: No such file or directory"):
        write_records(job(), 10, tmp_path / "none" / "table.csv", tmp_path / "truth.csv")
    assert not list(tmp_path.iterdir())


def test_memory_stays_flat(tmp_path: Path) -> None:
    """Eight times the rows must not need eight times the memory."""
    import tracemalloc

    peaks = []
    for rows in (2_000, 16_000):
        tracemalloc.start()
        written(tmp_path, "csv", rows=rows, block_rows=1000)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


# ---------------------------------------------------------------- the command


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_records, "out", Console(width=200))


@pytest.mark.usefixtures("wide")
def test_the_command_writes_and_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schema = tmp_path / "ugly.yaml"
    schema.write_text(yaml.safe_dump(SCHEMA, sort_keys=False, allow_unicode=False))
    out = tmp_path / "table.csv"
    assert main(["records", str(schema), "--rows", "300", "--seed", "3", "--out", str(out)]) == 0
    said, shown = capsys.readouterr()
    block = MessyRecords(RecordSource(schema, seed=3)).block(0, 300)
    assert f"wrote {len(block)} rows about 300 records (thing) to {out}" in said
    assert f"dirty: {int(block.dirty.sum())} of {4 * len(block):,} cells" in said
    for word in ("encoding-damage", "conflicting-duplicate", "price"):
        assert word in said
    assert "Traceback" not in shown
    assert [row["price"] for row in read(out)] == block.values["price"].tolist()
    assert len(read(tmp_path / "table.truth.csv")) == block.dirty.sum()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["table.csv", "table.truth.csv", "ugly.yaml"]


def test_the_command_speaks_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "table.jsonl"
    arguments = ["records", "insurance", "--kind", "holder", "--rows", "50", "--locale", "de_DE=3,es_ES", "--json"]
    assert main([*arguments, "--out", str(out), "--truth", str(tmp_path / "t.parquet"), "--mess", "hostile"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["records"] == 50
    assert told["rows"] == len(read(out)) >= 50
    assert told["dirty"] == len(read(tmp_path / "t.parquet")) == sum(told["by_field"].values())
    assert sum(told["by_effect"].values()) == told["dirty"]
    assert (
        main(
            ["records", "insurance", "--kind", "holder", "--rows", "50", "--mess", "clean", "--out", str(out), "--json"]
        )
        == 0
    )
    assert json.loads(capsys.readouterr().out)["dirty"] == 0
    assert main(["records", "list", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == ["commerce", "insurance", "workplace"]
    assert main(["records", "commerce", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kinds"]["customer"]["fields"]["email"]["type"] == "email"


@pytest.mark.usefixtures("wide")
def test_the_command_describes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["records", "list"]) == 0
    assert "workplace" in capsys.readouterr().out
    assert main(["records", "commerce"]) == 0
    said = capsys.readouterr().out
    assert "profiles: clean, production, hostile" in said
    assert "order_line" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["comerce"], "did you mean 'commerce'?"),
        (["commerce", "--kind", "ordr", "--out", "t.csv"], "no kind 'ordr'"),
        (["commerce", "--mess", "dirty", "--out", "t.csv"], "no profile 'dirty'; allowed: clean, production, hostile"),
        (["commerce", "--out", "t.xlsx"], "unknown type of file"),
        (["commerce", "--locale", "en_US=x", "--out", "t.csv"], "'x' is not a number"),
        (["commerce", "--locale", "xx_XX", "--out", "t.csv"], "Faker has no locale 'xx_XX'"),
        (["commerce", "--out", "t.csv", "--truth", "t.csv"], "table and truth need two files"),
    ],
)
def test_the_command_refuses(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["records", *arguments]) == 2
    said, shown = capsys.readouterr()
    assert said == ""
    assert shown.startswith("error: ")
    assert message in shown
    assert not list(tmp_path.iterdir())
