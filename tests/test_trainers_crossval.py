"""Nested cross-validation: nothing of the test fold is seen, and figures are what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from brownout.cli import main
from brownout.envs.streams import stream_id, uniform
from brownout.errors import TableError
from brownout.scenarios.tables import RecordedTable
from brownout.trainers.crossval import crossval, fold_of_queries, run_fold


def columns(queries: int = 60, repeats: int = 2) -> dict[str, Any]:
    """A cheap configuration that solves the easy half, a dear one that solves nearly all, and a useless twin."""
    rates = {"cheap": (0.95, 0.05), "dear": (0.97, 0.9), "useless": (0.0, 0.0)}
    price = {"cheap": 0.1, "dear": 1.0, "useless": 0.5}
    out: dict[str, Any] = {name: [] for name in ("query_id", "config", "sample", "success", "cost_usd", "latency_s")}
    for q in range(queries):
        for config, rate in rates.items():
            for sample in range(repeats):
                u = uniform(np.array([q], dtype=np.uint64), stream_id(f"{config}.{sample}"), 0)[0]
                row = (f"q{q:03d}", config, sample, int(u < rate[q % 2]), price[config], 2.0)
                for name, value in zip(out, row, strict=True):
                    out[name].append(value)
    return out


@pytest.fixture(scope="module")
def table() -> RecordedTable:
    return RecordedTable.from_columns(columns(), features=[])


def test_folds_are_balanced_disjoint_and_differ_by_seed() -> None:
    fold = fold_of_queries(23, 5, 0)
    assert sorted(np.bincount(fold).tolist()) == [4, 4, 5, 5, 5]
    assert np.array_equal(fold, fold_of_queries(23, 5, 0))
    assert not np.array_equal(fold, fold_of_queries(23, 5, 1))


def test_outcomes_of_the_test_fold_move_no_plan(table: RecordedTable) -> None:
    test = np.arange(0, 60, 5)
    success = table.success.copy()
    success[test] = 1.0 - success[test]
    changed = RecordedTable(**{**table.__dict__, "success": success})
    options: dict[str, Any] = {
        "size": 2,
        "repeats": 2,
        "select_repeats": 1,
        "methods": ("exact", "static"),
        "prizes": (0.3, 3.0, 30.0),
    }
    one, other = (run_fold(t, [0, 1, 2], test, **options) for t in (table, changed))
    assert one.members == other.members
    # cost of the first call of each plan does not depend on outcomes: static plans have no other
    assert np.allclose(one.cost["static"], other.cost["static"])
    assert not np.allclose(one.success["static"], other.success["static"])


def test_sequences_beat_single_configurations_and_the_useless_one_is_left_out(table: RecordedTable) -> None:
    result = crossval(table, size=3, repeats=2, seeds=2, draws=50)
    figures = {row.method: row for row in result.rows}
    assert result.best == "dear"
    assert figures["exact"].aiq.value > figures["static"].aiq.value + 0.05
    assert figures["exact"].cost_at_success.value < 0.8 * result.cost_max
    assert "useless" not in result.portfolios
    for row in result.rows:
        assert row.aiq.low <= row.aiq.value <= row.aiq.high


def test_impossible_options_are_refused(table: RecordedTable) -> None:
    with pytest.raises(TableError, match="folds: got 61; allowed: 2 to 60"):
        crossval(table, folds=61)
    with pytest.raises(TableError, match="methods: got 'magic'; allowed: static, index, greedy, exact"):
        crossval(table, methods=("magic",))


def test_the_commands_print_tables_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "runs.parquet"
    pq.write_table(pa.table(columns()), path)
    assert main(["portfolio", str(path), "--size", "2", "--json"]) == 0
    chosen = json.loads(capsys.readouterr().out)
    assert [row["configuration"] for row in chosen["portfolio"]] == ["dear", "cheap"] or [
        row["configuration"] for row in chosen["portfolio"]
    ] == ["cheap", "dear"]
    assert chosen["build_usd"] == pytest.approx(60 * 2 * (0.1 + 1.0 + 0.5))
    assert main(["crossval", str(path), "--seeds", "1", "--repeats", "2", "--json"]) == 0
    assert {row["method"] for row in json.loads(capsys.readouterr().out)["rows"]} == {
        "static", "index", "greedy", "exact",
    }  # fmt: skip
    assert main(["portfolio", str(path)]) == 0
    assert "dear" in capsys.readouterr().out
    out = tmp_path / "mine.yaml"
    assert main(["calibrate", str(path), "--out", str(out), "--episodes", "200"]) == 0
    capsys.readouterr()
    assert main(["scenarios", "check", str(out), "--episodes", "50"]) in (0, 1)
    assert main(["portfolio", str(tmp_path / "none.parquet")]) == 2
    assert "no table" in capsys.readouterr().err


@pytest.mark.ray
@pytest.mark.slow
def test_folds_on_ray_give_the_same_figures(table: RecordedTable, ray_cluster: object) -> None:
    from brownout.trainers.crossval import on_ray

    options: dict[str, Any] = {"size": 2, "repeats": 2, "seeds": 1, "draws": 20}
    here = crossval(table, **options)
    there = crossval(table, **options, map_folds=on_ray(2))
    assert json.dumps(here.to_dict()) == json.dumps(there.to_dict())
