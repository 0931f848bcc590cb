"""Recorded tables: what is read, split, filled and refused, on small tables made here."""

from __future__ import annotations

import gzip
import itertools
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv
from scipy import optimize, stats

from brownout.envs.streams import stream_id, uniform
from brownout.errors import TableError
from brownout.faults.calls import Status
from brownout.scenarios.table_fill import FAILURE_STATUS, _nonnegative_fit
from brownout.scenarios.tables import RecordedTable

Rows = dict[str, list[Any]]
MODES = ("ok", "wrong_result", "timeout", "context_overflow")


def draw(name: str, n: int) -> np.ndarray:
    return uniform(np.arange(n, dtype=np.uint64), stream_id(f"test.table.{name}"))


def make_rows(queries: int = 40, configs: tuple[str, ...] = ("small", "large", "medium"), samples: int = 3) -> Rows:
    """A complete table: one row per query, configuration and sample, in that order."""
    cells = list(itertools.product(range(queries), range(len(configs)), range(samples)))
    n = len(cells)
    success = draw("success", n) < 0.6
    mode = draw("mode", n) * 3
    return {
        "query_id": [f"q{q:03d}" for q, _, _ in cells],
        "config": [configs[c] for _, c, _ in cells],
        "sample": [s for _, _, s in cells],
        "success": [int(x) for x in success],
        "score": [None] * n,
        "cost_usd": (0.01 + draw("cost", n)).tolist(),
        "latency_s": (1 + 9 * draw("latency", n)).tolist(),
        "tokens_in": (100 + 1000 * draw("in", n)).round().tolist(),
        "tokens_out": (10 + 100 * draw("out", n)).round().tolist(),
        "failure_mode": ["ok" if s else MODES[1 + int(m)] for s, m in zip(success, mode, strict=True)],
        "service": [("crm", "mail", "git")[q % 3] for q, _, _ in cells],
        "prompt_chars": [50.0 + 7 * q for q, _, _ in cells],
        "response_chars": (200 * draw("response", n)).round().tolist(),
    }


def shuffled(rows: Rows) -> Rows:
    order = np.argsort(draw("shuffle", len(rows["query_id"])))
    return {name: [column[i] for i in order] for name, column in rows.items()}


def write(rows: Rows, path: Path) -> Path:
    table = pa.table(rows)
    if path.suffix in (".parquet", ".pq"):
        pq.write_table(table, path)
    elif path.suffix == ".gz":
        with gzip.open(path, "wb") as file:
            csv.write_csv(table, file)
    else:
        csv.write_csv(table, path)
    return path


def build(rows: Mapping[str, Any], **options: Any) -> RecordedTable:
    return RecordedTable.from_columns(rows, **options)


def refusal(rows: Rows, **options: Any) -> str:
    with pytest.raises(TableError) as error:
        build(rows, **options)
    return str(error.value)


def changed(rows: Rows, column: str, row: int, value: Any) -> Rows:
    return {**rows, column: [value if i == row else old for i, old in enumerate(rows[column])]}


def without(rows: Rows, keep: Callable[[int], bool]) -> Rows:
    return {name: [value for i, value in enumerate(column) if keep(i)] for name, column in rows.items()}


# ---------------------------------------------------------------- reading


@pytest.mark.parametrize("suffix", [".parquet", ".pq", ".csv", ".csv.gz"])
def test_a_file_reads_as_what_was_written(tmp_path: Path, suffix: str) -> None:
    rows = make_rows()
    table = RecordedTable.load(write(shuffled(rows), tmp_path / f"runs{suffix}"), configs=["large", "small"])
    assert table.configs == ("large", "small")
    assert table.success.shape == table.cost_usd.shape == table.status.shape == (40, 2, 3)
    assert (table.n_samples == 3).all()
    for i in range(len(rows["query_id"])):
        if rows["config"][i] in table.configs:
            cell = (
                table.query_ids.index(rows["query_id"][i]),
                table.configs.index(rows["config"][i]),
                rows["sample"][i],
            )
            assert table.success[cell] == table.score[cell] == rows["success"][i]
            assert table.cost_usd[cell] == pytest.approx(rows["cost_usd"][i], rel=1e-12)
            assert table.latency_s[cell] == pytest.approx(rows["latency_s"][i], rel=1e-12)
    assert table.digest == build(rows, configs=["large", "small"]).digest


def test_the_order_of_rows_does_not_matter_and_the_order_of_configs_does() -> None:
    rows = make_rows()
    assert build(rows).digest == build(shuffled(rows)).digest
    assert build(rows).configs == ("large", "medium", "small")
    assert build(rows, configs=["small", "large"]).digest != build(rows, configs=["large", "small"]).digest
    assert build(changed(rows, "cost_usd", 5, 9.0)).digest != build(rows).digest


def test_ids_that_look_like_numbers_stay_text(tmp_path: Path) -> None:
    rows = make_rows(queries=8)
    rows["query_id"] = [f"0{name[1:]}" for name in rows["query_id"]]
    table = RecordedTable.load(write(rows, tmp_path / "runs.csv"), eval_fraction=0.5)
    assert table.query_ids[:2] == ("0000", "0001")
    whole = build({**rows, "query_id": [int(name) for name in rows["query_id"]]}, eval_fraction=0.5)
    assert set(whole.query_ids) == {str(i) for i in range(8)}


def test_arrays_cannot_be_changed_by_accident() -> None:
    table = build(make_rows())
    with pytest.raises(ValueError, match="read-only"):
        table.success[0, 0, 0] = 1.0


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("runs.parquet", b"PAR1 and then nothing", "not a readable table"),
        ("runs.csv", b"query_id,config\na,b\nc,d,e\n", "not a readable table"),
        ("runs.csv", b"", "not a readable table"),
        ("runs.csv", b"query_id,config,config\na,b,c\n", "given twice: config"),
        ("runs.xlsx", b"", r"allowed: \.parquet"),
        ("runs.parquet", None, "no such file"),
    ],
)
def test_an_unreadable_file_is_named(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TableError, match=message) as error:
        RecordedTable.load(path)
    assert str(path) in str(error.value)


def test_a_truncated_parquet_file_is_refused(tmp_path: Path) -> None:
    path = write(make_rows(), tmp_path / "runs.parquet")
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(TableError, match="not a readable table"):
        RecordedTable.load(path)


def test_a_missing_column_lists_what_is_there() -> None:
    rows = make_rows()
    rows["cost"] = rows.pop("cost_usd")
    message = refusal(rows, source="runs.csv")
    assert "runs.csv: missing column 'cost_usd' (did you mean 'cost'?)" in message
    assert "latency_s" in message
    assert "'success'" in refusal({"query_id": ["a"], "config": ["b"]})
    assert "no rows" in refusal({name: [] for name in rows} | {"cost_usd": []})
    assert "lengths" in refusal({**make_rows(), "service": ["crm"]})


# ---------------------------------------------------------------- values


@pytest.mark.parametrize(
    ("column", "value", "allowed"),
    [
        ("cost_usd", -0.5, "from 0"),
        ("cost_usd", float("inf"), "finite"),
        ("cost_usd", "free", "number"),
        ("latency_s", -1.0, "from 0"),
        ("success", float("nan"), "[0, 1]"),
        ("success", None, "[0, 1]"),
        ("success", 1.5, "[0, 1]"),
        ("success", "yes", "[0, 1]"),
        ("sample", 0.5, "whole number"),
        ("sample", -1, "whole number"),
        ("sample", None, "whole number"),
        ("query_id", None, "non-empty text"),
        ("query_id", "  ", "non-empty text"),
        ("config", 1.5, "non-empty text"),
    ],
)
def test_a_bad_value_names_file_column_row_and_what_is_allowed(column: str, value: Any, allowed: str) -> None:
    message = refusal(changed(make_rows(), column, 16, value), source="runs.parquet")
    assert message.startswith(f"runs.parquet: column '{column}', row 17: got ")
    assert allowed in message


def test_a_word_among_the_numbers_of_a_csv_file_is_found(tmp_path: Path) -> None:
    path = write(make_rows(), tmp_path / "runs.csv")
    lines = path.read_text().splitlines()
    cost = lines[0].replace('"', "").split(",").index("cost_usd")
    cells = lines[30].split(",")
    cells[cost] = "n.v."
    lines[30] = ",".join(cells)
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(TableError, match=r"column 'cost_usd', row 30: got 'n\.v\.'"):
        RecordedTable.load(path)


def test_a_bad_value_of_a_configuration_left_out_does_no_harm() -> None:
    rows = make_rows()
    row = rows["config"].index("medium")
    assert build(changed(rows, "cost_usd", row, -1.0), configs=["small", "large"]).success.shape[1] == 2


def test_duplicates_are_refused() -> None:
    rows = make_rows()
    message = refusal(changed(rows, "sample", 4, 0))
    assert "rows 4 and 5 are both sample 0 of query 'q000', config 'large'" in message


def test_success_may_be_boolean_and_graded_score_is_kept() -> None:
    rows = make_rows()
    assert build({**rows, "success": [bool(x) for x in rows["success"]]}).digest == build(rows).digest
    graded = build(changed(rows, "score", 0, 0.25))
    assert graded.score[0, graded.configs.index("small"), 0] == 0.25
    raw = build(changed(rows, "score", 0, 9.5))
    assert np.array_equal(raw.score, raw.success)
    assert any("9.5" in note for note in raw.notes)


@pytest.mark.parametrize(
    ("configs", "parts"),
    [
        (["small", "larg"], ["'larg'", "did you mean 'large'?", "medium"]),
        (["small", "small"], ["each once"]),
        ([], ["one or more"]),
    ],
)
def test_configurations_are_checked(configs: list[str], parts: list[str]) -> None:
    message = refusal(make_rows(), configs=configs)
    assert not [part for part in parts if part not in message], message


# ---------------------------------------------------------------- incomplete queries


def test_unequal_samples_are_packed() -> None:
    rows = make_rows(samples=4)
    gone = [i for i in range(480) if rows["query_id"][i] == "q003" and rows["config"][i] == "large" and i % 4 in (0, 2)]
    table = build(without(rows, lambda i: i not in gone))
    q, k = table.query_ids.index("q003"), table.configs.index("large")
    assert table.n_samples[q, k] == 2
    kept = [rows["cost_usd"][i] for i in (gone[0] + 1, gone[1] + 1)]
    assert table.cost_usd[q, k, :2] == pytest.approx(kept)
    assert np.isnan(table.cost_usd[q, k, 2:]).all()
    assert (table.status[q, k, 2:] == -1).all()
    assert np.isfinite(table.cost_usd[q, k - 1]).all()


def test_a_query_without_one_configuration_is_dropped_or_kept() -> None:
    rows = without(make_rows(), lambda i: not (9 <= i < 12))  # q001 has no run of small
    dropped = build(rows)
    assert dropped.dropped_queries == ("q001",)
    assert len(dropped.query_ids) == len(dropped.features) == len(dropped.is_eval) == 39
    assert any("1 of 40 queries dropped" in note for note in dropped.notes)
    kept = build(rows, incomplete="keep")
    assert kept.dropped_queries == ()
    assert kept.n_samples[kept.query_ids.index("q001"), kept.configs.index("small")] == 0
    assert build(rows, configs=["large"]).dropped_queries == ()
    assert "incomplete: got 'maybe'" in refusal(rows, incomplete="maybe")


def test_configurations_with_no_query_in_common_are_refused() -> None:
    rows = make_rows()
    rows = without(rows, lambda i: (rows["config"][i] == "small") == (rows["query_id"][i] < "q010"))
    message = refusal(rows)
    assert "no query has runs of all 3" in message
    assert "'small' covers 10 of 40" in message


# ---------------------------------------------------------------- split


def test_the_split_is_a_function_of_the_query_alone() -> None:
    table, more = build(make_rows(queries=60)), build(make_rows(queries=200, samples=1), configs=["large"])
    side = dict(zip(more.query_ids, more.is_eval, strict=True))
    assert all(side[name] == held for name, held in zip(table.query_ids, table.is_eval, strict=True))
    assert 0.2 < more.is_eval.mean() < 0.4
    assert sorted([*more.queries("train"), *more.queries("eval")]) == list(range(200))
    wider = build(make_rows(queries=200, samples=1), eval_fraction=0.6)
    assert not (more.is_eval & ~wider.is_eval).any()
    salted = build(make_rows(queries=200, samples=1), salt="again")
    assert (salted.is_eval != more.is_eval).any()


def test_the_split_never_changes() -> None:
    table = build(make_rows(queries=20))
    held_out = {name for name, held in zip(table.query_ids, table.is_eval, strict=True) if held}
    assert held_out == {"q001", "q003", "q007", "q008", "q009", "q012", "q014", "q019"}


def test_an_empty_side_is_refused() -> None:
    assert "no eval query among 2" in refusal(make_rows(queries=2), eval_fraction=1e-9)
    assert "no train query" in refusal(make_rows(queries=2), eval_fraction=1 - 1e-9)
    assert not build(make_rows(queries=2), eval_fraction=0.0).is_eval.any()
    assert "eval_fraction: got 1.0" in refusal(make_rows(), eval_fraction=1.0)
    with pytest.raises(TableError, match="allowed: train, eval, all"):
        build(make_rows()).queries("test")  # type: ignore[arg-type]


# ---------------------------------------------------------------- missing values


def holes(rows: Rows, column: str, at: list[int]) -> Rows:
    return {**rows, column: [None if i in at else value for i, value in enumerate(rows[column])]}


@pytest.mark.parametrize("column", ["cost_usd", "latency_s"])
def test_missing_values_are_an_error_that_says_what_to_do(column: str) -> None:
    message = refusal(holes(make_rows(), column, [4, 31]), source="runs.csv")
    assert message.startswith(f"runs.csv: column '{column}' is empty in 2 of 360 rows (first rows 5, 32; ")
    assert "large (2)" in message
    assert "'config-median'" in message
    assert ("tokens" in message) == (column == "cost_usd")


def test_missing_values_are_filled_by_the_median_of_train_queries() -> None:
    rows = make_rows()
    table = build(holes(rows, "latency_s", [4]), missing={"latency_s": "config-median"})
    held = dict(zip(table.query_ids, table.is_eval, strict=True))
    known = [
        rows["latency_s"][i]
        for i in range(360)
        if rows["config"][i] == "large" and i != 4 and not held[rows["query_id"][i]]
    ]
    assert table.latency_s[0, table.configs.index("large"), 1] == pytest.approx(np.median(known))
    assert table.filled == {"cost_usd": 0, "latency_s": 1}
    assert table.notes == ("1 missing values of latency_s: rule 'config-median'",)


def test_missing_values_are_filled_by_a_number() -> None:
    table = build(holes(make_rows(), "cost_usd", [4]), missing={"cost_usd": 0.5})
    assert table.cost_usd[0, table.configs.index("large"), 1] == 0.5
    rows = make_rows()
    del rows["latency_s"]
    absent = build(rows, missing={"latency_s": 2})
    assert (absent.latency_s == 2.0).all()
    assert "missing column 'latency_s'" in refusal(rows, missing={"latency_s": "config-median"})


def test_missing_costs_are_filled_from_tokens_at_the_prices_of_the_configuration() -> None:
    rows = make_rows()
    price = {"small": (1e-6, 4e-6), "large": (5e-6, 25e-6), "medium": (2e-6, 0.0)}
    rows["cost_usd"] = [
        price[c][0] * a + price[c][1] * b
        for c, a, b in zip(rows["config"], rows["tokens_in"], rows["tokens_out"], strict=True)
    ]
    table = build(holes(rows, "cost_usd", [0, 4, 8, 100]), missing={"cost_usd": "tokens"})
    assert table.filled["cost_usd"] == 4
    assert table.cost_usd == pytest.approx(build(rows).cost_usd, rel=1e-9)
    message = refusal(holes(holes(rows, "cost_usd", [4]), "tokens_in", [4]), missing={"cost_usd": "tokens"})
    assert "cannot fill row 5" in message
    bare = {name: column for name, column in rows.items() if name != "tokens_in"}
    assert "tokens_in" in refusal(holes(bare, "cost_usd", [4]), missing={"cost_usd": "tokens"})


def test_the_price_fit_is_non_negative_least_squares() -> None:
    for i in range(50):
        x, y = draw(f"x{i}", 16).reshape(8, 2), draw(f"y{i}", 8) - 0.4
        assert _nonnegative_fit(x, y) == pytest.approx(optimize.nnls(x, y)[0], abs=1e-9)


def test_a_configuration_without_any_value_needs_a_number() -> None:
    rows = make_rows()
    empty = holes(rows, "cost_usd", [i for i in range(360) if rows["config"][i] == "large"])
    for rule in ("config-median", "tokens"):
        message = refusal(empty, missing={"cost_usd": rule})
        assert "all values of configuration 'large' are missing" in message
    assert build(empty, missing={"cost_usd": 0.0}).filled["cost_usd"] == 120
    assert build(empty, configs=["small", "medium"]).filled["cost_usd"] == 0


@pytest.mark.parametrize(
    ("missing", "parts"),
    [
        ({"cost": 1}, ["missing.cost", "did you mean 'cost_usd'?"]),
        ({"cost_usd": "median"}, ["missing.cost_usd", "'median'", "'config-median'", "'tokens'"]),
        ({"latency_s": "tokens"}, ["missing.latency_s", "'tokens'", "'config-median'"]),
        ({"latency_s": -1}, ["missing.latency_s", "-1", "from 0"]),
        ({"latency_s": float("nan")}, ["missing.latency_s", "nan"]),
        ({"latency_s": True}, ["missing.latency_s", "True"]),
    ],
)
def test_a_bad_rule_is_refused(missing: dict[str, Any], parts: list[str]) -> None:
    message = refusal(make_rows(), missing=missing)
    assert not [part for part in parts if part not in message], message


# ---------------------------------------------------------------- statuses


def test_failure_modes_become_visible_statuses() -> None:
    rows = make_rows()
    table = build(rows)
    expected = {"ok": 1, "wrong_result": 1, "timeout": Status.TIMEOUT, "context_overflow": Status.UNEXPECTED}
    for i, mode in enumerate(rows["failure_mode"]):
        cell = (
            table.query_ids.index(rows["query_id"][i]),
            table.configs.index(rows["config"][i]),
            rows["sample"][i],
        )
        assert table.status[cell] == expected[mode]
    assert len({*rows["failure_mode"]}) == 4
    bare = {name: column for name, column in rows.items() if name != "failure_mode"}
    assert (build(bare).status == Status.OK).all()


def test_the_mode_table_can_be_overridden_and_extended() -> None:
    rows = make_rows()
    failed = [i for i, success in enumerate(rows["success"]) if not success]
    for i, mode in zip(failed, ["odd_thing", "stranger", "rate_limited", None], strict=False):
        rows["failure_mode"][i] = mode
    message = refusal(rows)
    assert "'odd_thing' (1 rows)" in message
    assert "'stranger' (1 rows)" in message
    assert "rate_limited" not in message
    assert "rate-limited" in message  # among the statuses that are allowed
    table = build(rows, failure_status={"odd_thing": "refused", "other": "server-error", "timeout": "reset"})
    flat = table.status[:, [table.configs.index(c) for c in ("small", "large", "medium")]].reshape(-1)
    assert flat[failed[:4]].tolist() == [Status.REFUSED, Status.SERVER_ERROR, Status.RATE_LIMITED, Status.OK]
    assert Status.RESET in flat
    assert Status.TIMEOUT not in flat
    message = refusal(rows, failure_status={"odd_thing": "refuse"})
    assert "failure_status.odd_thing: got 'refuse' (did you mean 'refused'?)" in message
    assert "running" not in message


def test_every_default_mode_has_a_status_that_exists() -> None:
    assert set(FAILURE_STATUS.values()) <= {status.word for status in Status}


def test_a_success_with_a_failure_mode_is_ok_and_counted() -> None:
    rows = make_rows()
    row = rows["success"].index(1)
    table = build(changed(rows, "failure_mode", row, "timeout"))
    assert table.digest == build(rows).digest
    assert any("1 runs with success > 0 and a failure_mode" in note for note in table.notes)


# ---------------------------------------------------------------- features


def test_features_are_columns_known_before_the_call() -> None:
    table = build(make_rows())
    names = [column.name for column in table.feature_columns]
    assert names == ["service=crm", "service=git", "service=mail", "service=other", "prompt_chars"]
    assert "varies within query 'q000'" in table.skipped["response_chars"]
    assert not {"success", "cost_usd", "tokens_in", "failure_mode", "config"} & {*names, *table.skipped}
    assert table.features.shape == (40, 5)
    assert table.features.dtype == np.float32
    low, high = ([getattr(column, end) for column in table.feature_columns] for end in ("low", "high"))
    assert (table.features >= np.array(low, np.float32)).all()
    assert (table.features <= np.array(high, np.float32)).all()
    assert (table.features[:, :4].sum(axis=1) == 1).all()
    assert table.features[table.query_ids.index("q004"), :4].tolist() == [0, 0, 1, 0]


def test_a_requested_feature_that_leaks_is_an_error() -> None:
    rows = make_rows()
    assert "varies within query 'q000'" in refusal(rows, features=["service", "response_chars"])
    assert "'success' is an outcome" in refusal(rows, features=["success"])
    assert "'config' is an outcome or a key" in refusal(rows, features=["config"])
    assert "no column 'servic' (did you mean 'service'?)" in refusal(rows, features=["servic"])
    assert "allowed: 'auto'" in refusal(rows, features="service")
    assert build(rows, features=[]).features.shape == (40, 0)


def test_the_leak_guard_sees_rows_of_configurations_left_out() -> None:
    rows = make_rows(samples=1)
    rows["verdict"] = ["fine" if success else "poor" for success in rows["success"]]
    table = build(rows, configs=["large"])
    assert "varies" in table.skipped["verdict"]
    assert "varies" in refusal(rows, configs=["large"], features=["verdict"])


def test_an_empty_cell_beside_a_filled_one_is_a_leak() -> None:
    rows = make_rows()
    assert "varies" in build(holes(rows, "service", [7])).skipped["service"]
    assert "varies" in build(holes(rows, "prompt_chars", [7])).skipped["prompt_chars"]


def test_one_row_per_query_proves_nothing_so_features_must_be_named() -> None:
    rows = make_rows(configs=("only",), samples=1)
    table = build(rows)
    assert table.features.shape == (40, 0)
    assert "one row" in table.skipped["service"]
    assert build(rows, features=["service"]).features.shape == (40, 4)


def test_encodings_come_from_train_queries_only() -> None:
    rows = make_rows(queries=60)
    table = build(rows)
    held = {name for name, is_eval in zip(table.query_ids, table.is_eval, strict=True) if is_eval}
    rows["prompt_chars"] = [
        1e6 if name in held else value for name, value in zip(rows["query_id"], rows["prompt_chars"], strict=True)
    ]
    rows["service"] = [
        "fax" if name in held else value for name, value in zip(rows["query_id"], rows["service"], strict=True)
    ]
    odd = build(rows)
    train = odd.queries("train")
    assert [column.name for column in odd.feature_columns] == [column.name for column in table.feature_columns]
    assert np.array_equal(odd.features[train], table.features[train])
    column = odd.features[train, -1]
    assert (column.mean(), column.std()) == (pytest.approx(0, abs=1e-6), pytest.approx(1, abs=1e-6))
    assert (odd.features[odd.queries("eval"), 3] == 1).all()  # unseen level: other
    assert (odd.features[odd.queries("eval"), -1] == 5).all()  # clipped


def test_rare_levels_and_ids_make_no_columns() -> None:
    rows = make_rows(queries=120)
    number = [int(name[1:]) for name in rows["query_id"]]
    rows["many"] = [f"level{q % 50:02d}" for q in number]
    rows["title"] = [f"title of {q}" for q in number]
    rows["same"] = ["x"] * len(number)
    rows["zero"] = [0.0] * len(number)
    tags = np.empty(len(number), dtype=object)
    tags[:] = [["a"] for _ in number]
    table = build({**rows, "tags": tags})
    names = [column.name for column in table.feature_columns]
    assert len([name for name in names if name.startswith("many=")]) == 33
    assert set(table.skipped) == {"title", "same", "zero", "tags", "response_chars"}
    assert "no value occurs in 2 train queries" in table.skipped["title"]
    assert "have the value 'x'" in table.skipped["same"]
    assert "list" in table.skipped["tags"]


def test_empty_cells_of_a_feature_are_marked() -> None:
    rows = make_rows()
    rows["prompt_chars"] = [
        None if name < "q008" else value for name, value in zip(rows["query_id"], rows["prompt_chars"], strict=True)
    ]
    rows["service"] = [
        None if name < "q008" else value for name, value in zip(rows["query_id"], rows["service"], strict=True)
    ]
    table = build(rows)
    names = [column.name for column in table.feature_columns]
    assert {"service=(empty)", "prompt_chars:missing"} <= set(names)
    marked = table.features[:, names.index("prompt_chars:missing")]
    assert np.array_equal(marked, (np.array(table.query_ids) < "q008").astype(np.float32))
    assert (table.features[:8, names.index("prompt_chars")] == 0).all()


# ---------------------------------------------------------------- summaries


def test_summary_by_hand() -> None:
    rows = without(make_rows(), lambda i: i % 7 != 3)
    table = build(rows, incomplete="keep")
    for split in ("train", "eval", "all"):
        chosen = {table.query_ids[i] for i in table.queries(split)}
        for summary in table.config_summary(split):
            mine = [
                i for i, name in enumerate(rows["query_id"]) if name in chosen and rows["config"][i] == summary.config
            ]
            assert summary.runs == len(mine)
            assert summary.queries == len({rows["query_id"][i] for i in mine})
            assert summary.success == pytest.approx(np.mean([rows["success"][i] for i in mine]))
            assert summary.cost_usd == pytest.approx(np.mean([rows["cost_usd"][i] for i in mine]))
            assert summary.latency_s == pytest.approx(np.mean([rows["latency_s"][i] for i in mine]))
            assert summary.median_latency_s == pytest.approx(np.median([rows["latency_s"][i] for i in mine]))


def repeats(correlation: float) -> RecordedTable:
    """Repeats that copy one draw of their query with probability sqrt(correlation)."""
    rows = make_rows(queries=1500, configs=("only",), samples=4)
    n = len(rows["success"])
    shared = np.repeat(draw("shared", 1500), 4) < 0.4
    own, copies = draw("own", n) < 0.4, draw("copies", n) < np.sqrt(correlation)
    return build({**rows, "success": np.where(copies, shared, own).astype(int).tolist(), "failure_mode": [None] * n})


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.6, 1.0])
def test_intraclass_correlation_recovers_how_alike_repeats_are(correlation: float) -> None:
    assert repeats(correlation).intraclass_correlation()["only"] == pytest.approx(correlation, abs=0.05)


def test_intraclass_correlation_by_hand() -> None:
    # four queries with two runs: mean squares 11/24 between and 1/8 within
    rows = make_rows(queries=4, configs=("only",), samples=2)
    table = build({**rows, "success": [1, 1, 0, 0, 1, 0, 0, 0]}, eval_fraction=0.0)
    assert table.intraclass_correlation()["only"] == pytest.approx(4 / 7)


def test_intraclass_correlation_of_unequal_groups_follows_the_analysis_of_variance() -> None:
    rows = without(make_rows(samples=4), lambda i: i % 5 != 4)
    table = build(rows, configs=["small"])
    groups = [table.success[q, 0, : table.n_samples[q, 0]] for q in range(len(table.query_ids))]
    sizes = np.array([len(group) for group in groups])
    assert set(sizes) == {3, 4}
    typical = (sizes.sum() - (sizes**2).sum() / sizes.sum()) / (len(sizes) - 1)
    ratio = stats.f_oneway(*groups).statistic
    expected = (ratio - 1) / (ratio - 1 + typical)
    assert table.intraclass_correlation()["small"] == pytest.approx(expected)


def test_intraclass_correlation_is_undefined_without_repeats_or_variation() -> None:
    assert np.isnan(build(make_rows(samples=1)).intraclass_correlation()["large"])
    rows = make_rows()
    assert np.isnan(build({**rows, "success": [1] * 360}).intraclass_correlation()["large"])


def test_correlated_repeats_flatten_success_at_n() -> None:
    apart, alike = repeats(0.0), repeats(0.6)
    assert apart.success_at_n(1)["only"] == pytest.approx(0.4, abs=0.03)
    assert apart.success_at_n(4)["only"] == pytest.approx(1 - 0.6**4, abs=0.03)
    assert alike.success_at_n(4)["only"] < apart.success_at_n(4)["only"] - 0.1


def test_success_at_n_by_enumeration() -> None:
    rows = without(make_rows(samples=4), lambda i: i % 5 != 4)
    table = build(rows, incomplete="keep")
    for n, (k, config) in itertools.product((1, 2, 3, 5), enumerate(table.configs)):
        per_query = []
        for q in range(len(table.query_ids)):
            runs = table.success[q, k, : table.n_samples[q, k]]
            if len(runs) >= n:
                per_query.append(np.mean([max(subset) for subset in itertools.combinations(runs, n)]))
        expected = np.mean(per_query) if per_query else np.nan
        assert table.success_at_n(n)[config] == pytest.approx(expected, nan_ok=True)
    with pytest.raises(TableError, match="n=0"):
        table.success_at_n(0)


# ---------------------------------------------------------------- speed


@pytest.mark.timing
def test_a_table_of_120_000_rows_is_read_quickly(tmp_path: Path) -> None:
    path = write(
        make_rows(queries=1000, configs=tuple(f"config{i}" for i in range(30)), samples=4),
        tmp_path / "runs.parquet",
    )
    start = time.perf_counter()
    table = RecordedTable.load(path)
    assert time.perf_counter() - start < 3.0
    assert table.success.shape == (1000, 30, 4)
