"""The log of real calls: complete, crash-safe, and a table that the rest of brownout reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import brownout
from brownout.errors import TableError
from brownout.scenarios.tables import RecordedTable
from brownout.trainers.runtime import Answer, Runtime, Verdict
from brownout.trainers.runtime_clock import run_simulated
from brownout.trainers.runtime_log import SCHEMA, CallLog, export_table, read_log, table_columns


def row(query: str, config: str, sample: int, mode: str = "ok", **more: Any) -> dict[str, Any]:
    return {
        "kind": "launch", "query_id": query, "config": config, "sample": sample, "success": None, "score": None,
        "cost_usd": 0.5, "latency_s": 2.0, "n_calls": 1, "tokens_in": None, "tokens_out": None, "failure_mode": mode,
        "error": None, "task": {"class": "faq"}, "run": 0, **more,
    }  # fmt: skip


def verdict(query: str, config: str, sample: int, score: float, number: int = 0) -> dict[str, Any]:
    about = {"config": config, "sample": sample, "score": score, "accepted": score >= 0.5}
    return row(query, "judge", number, kind="judge", verdict=about)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "log.jsonl"


def test_rows_are_on_disk_as_soon_as_they_are_written(path: Path) -> None:
    with CallLog(path) as log:
        log.write(row("a", "small", 0, answer=np.float32(0.5), other={1, 2} and Path("x")))
        written = json.loads(path.read_text())
        assert written["answer"] == 0.5
        assert written["other"] == "x"
        assert log.rows == 1


def test_a_killed_process_loses_no_row(path: Path) -> None:
    """Ten rows, then a kill without any clean-up, in the middle of an eleventh."""
    code = (
        "import os, sys\nfrom brownout.trainers.runtime_log import CallLog\n"
        f"log = CallLog({str(path)!r})\n"
        "call = {'kind': 'launch', 'query_id': 'q', 'config': 'c', 'run': 0}\n"
        "for i in range(10):\n    log.write({**call, 'sample': i})\n"
        'os.write(log._log._file, b\'{"kind": "launch", "query\')\nos.kill(os.getpid(), 9)\n'
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    assert done.returncode == -9
    assert len(read_log(path)) == 10
    with CallLog(path) as log:
        assert log.torn_bytes == len(b'{"kind": "launch", "query')
        assert log.next_sample("q", "c") == 10
        assert log.next_run("q") == 1
        log.write(row("q", "c", 10))
    assert [entry["sample"] for entry in read_log(path)] == list(range(11))


def test_a_log_that_is_one_torn_line_starts_anew(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b'{"kind": "la')
    with CallLog(path) as log:
        assert log.torn_bytes == 12
    assert path.read_bytes() == b""


def test_one_writer_at_a_time(path: Path) -> None:
    with CallLog(path), pytest.raises(TableError, match="another process is writing"):
        CallLog(path)
    CallLog(path).close()


@pytest.mark.parametrize("text", ["hello\n", "[1]\n", '{"a": 1}\n', '{"kind": "task"}\nnonsense\n'])
def test_another_file_is_not_taken_for_a_log(path: Path, text: str) -> None:
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(TableError, match=rf"line {text.count(chr(10))} is no row of a call log"):
        CallLog(path)
    with pytest.raises(TableError, match="is no row of a call log"):
        read_log(path)
    assert path.read_text() == text


def test_a_log_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="no such file"):
        read_log(tmp_path / "none.jsonl")
    with pytest.raises(TableError, match="cannot open the log"):
        CallLog(tmp_path)


def test_success_comes_from_labels_then_failures_then_the_judge(path: Path) -> None:
    with CallLog(path) as log:
        for entry in (
            row("a", "small", 0), verdict("a", "small", 0, 0.25), verdict("a", "small", 0, 0.75, 1),
            row("a", "large", 0, "timeout"),
            row("b", "small", 0), verdict("b", "small", 0, 1.0),
            row("b", "large", 0), row("b", "large", 1, "cancelled"), row("b", "small", 1, kind="repair"),
        ):  # fmt: skip
            log.write(entry)
            log._count(entry)
        log.label("b", "small", 0, False)
        log.label("b", "large", 0, 0.5)
    columns, counts = table_columns([path])
    made = list(zip(*(columns[n] for n in ("query_id", "config", "sample", "success", "score")), strict=True))
    assert made == [
        ("a", "small", 0, 1.0, 0.75), ("a", "large", 0, 0.0, 0.0), ("b", "small", 0, 0.0, 0.0),
        ("b", "large", 0, 0.5, 0.5),
    ]  # fmt: skip
    assert columns["class"] == ["faq"] * 4
    assert counts == {
        "label": 2, "status": 1, "judge": 1, "left out: cancelled": 1, "left out: judge": 3, "left out: repair": 1,
    }  # fmt: skip
    assert table_columns([path], judged=False)[1]["left out: not judged"] == 1
    with pytest.raises(TableError, match="allowed: launch, repair"):
        table_columns([path], kinds=["judge"])


@pytest.mark.parametrize(("sample", "success", "message"), [
    (0, 1.5, "got 1.5"), (0, "yes", "got 'yes'"), (1, 1.0, "got sample 1; allowed: 0 to 0"),
])  # fmt: skip
def test_labels_are_checked(path: Path, sample: int, success: Any, message: str) -> None:
    with CallLog(path) as log:
        log.next_sample("a", "small")
        with pytest.raises(TableError, match=message):
            log.label("a", "small", sample, success)


def test_samples_of_several_logs_do_not_collide(tmp_path: Path) -> None:
    paths = [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]
    for path in paths:
        with CallLog(path) as log:
            log.write(row("a", "small", 0, "reset"))
    assert table_columns(paths)[0]["sample"] == [0, 1]


def test_an_export_says_what_it_cannot_do(path: Path) -> None:
    with CallLog(path) as log:
        log.write(row("a", "small", 0))
    with pytest.raises(TableError, match=r"no call whose success is known \(left out: not judged: 1\)"):
        export_table(path, path.with_suffix(".csv"))
    with pytest.raises(TableError, match=r"allowed: .parquet, .csv"):
        export_table(path, path.with_suffix(".xlsx"))
    with CallLog(path) as log:
        log.write(row("a", "small", 1, "reset", task={"class": 3.0}))
        log.write(row("a", "small", 2, "reset", task={"class": "faq"}))
    with pytest.raises(TableError, match="column 'class' mixes kinds of values"):
        export_table(path, path.with_suffix(".csv"))
    assert sorted(entry.name for entry in path.parent.iterdir()) == [path.name]


# ---------------------------------------------------------------- from the runtime and back


async def ask(task: Any, configuration: str) -> Answer:
    if task["id"] % 5 == 0 and configuration == "small":
        raise ConnectionResetError("peer")
    return Answer("right" if task["id"] % 3 else "wrong", 0.01, tokens_in=11, tokens_out=3, n_calls=2)


async def judge(task: Any, answer: Any) -> Verdict:
    return Verdict(answer == "right", 0.003)


def features(task: Any) -> dict[str, Any]:
    return {"class": ("faq", "account", "contract")[task["id"] % 3], "difficulty_hint": (task["id"] % 7) / 7.0}


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_logs_flow_back_into_a_table_and_a_scenario(path: Path, suffix: str) -> None:
    """Calls of the runtime become a recorded table, and an environment that replays them."""
    with CallLog(path) as log:
        runtime = Runtime("baseline:cheapest-first", "support-desk", ask, judge, features=features, log=log)
        run_simulated(runtime.solve_many(({"id": i} for i in range(60)), concurrency=7))
        run_simulated(runtime.solve_many(({"id": i} for i in range(60)), concurrency=7))
    rows = read_log(path)
    calls = [entry for entry in rows if entry["kind"] in ("launch", "judge")]
    assert len(calls) == runtime.counts["calls"]
    assert {entry["run"] for entry in calls} == {0, 1}
    ends = [entry for entry in rows if entry["kind"] == "task"]
    assert len(ends) == 120
    out = path.with_suffix(suffix)
    export = export_table(path, out)
    assert export.rows + sum(export.left_out.values()) == len(calls)
    assert export.from_judge > 0
    assert export.from_status == sum(entry["failure_mode"] == "reset" for entry in calls)
    table = RecordedTable.load(out, configs=["small", "fast"], incomplete="keep")
    assert [column.name for column in table.feature_columns] == [
        "class=account", "class=contract", "class=faq", "class=other", "difficulty_hint",
    ]  # fmt: skip
    assert set(table.status[table.status >= 0].tolist()) <= {1, 3}
    scenario = brownout.load_scenario(
        {"version": 1, "name": "mine", "env": "router", "tasks": {"table": str(out)},
         "portfolio": {"small": {}}, "profiles": {"clean": []}}
    )  # fmt: skip
    evaluation = brownout.evaluate(["baseline:always-cheapest"], scenario, episodes=64, profile="clean")
    assert evaluation.rows[0].success.value > 0.3
    assert table.success[:, 0].ravel().mean() == pytest.approx(8 / 15)  # of 60 tasks 12 fail, and a third of the rest


def test_a_row_holds_the_schema_and_the_task(path: Path) -> None:
    with CallLog(path) as log:
        runtime = Runtime("baseline:always-cheapest", "support-desk", ask, judge, features=features, log=log)
        decision = run_simulated(runtime.solve({"id": 1}))
    rows = read_log(path)
    assert [entry["kind"] for entry in rows] == ["launch", "task"]
    assert set(SCHEMA) <= set(rows[0])
    assert rows[0] == decision.calls[0]
    assert (rows[0]["tokens_in"], rows[0]["tokens_out"], rows[0]["n_calls"]) == (11, 3, 2)
    assert rows[0]["task"] == features({"id": 1})
    assert rows[0]["success"] is None  # nobody judged it
    assert (rows[1]["outcome"], rows[1]["calls"], rows[1]["spend_usd"]) == ("submitted", 1, 0.01)
    assert os.path.getsize(path) > 0
