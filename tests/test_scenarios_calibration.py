"""From recorded runs to a scenario file: what is fitted, what is noted, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from brownout.errors import TableError
from brownout.scenarios import load_scenario
from brownout.scenarios.calibration import calibrate
from brownout.scenarios.runs import load_runs


def table(queries: int = 60, repeats: int = 3, seed: int = 0, fail: float = 0.0, **extra: Any) -> dict[str, list[Any]]:
    """Two configurations of one family and one of another; `fail` of big's runs time out."""
    rng = np.random.default_rng(seed)
    rows: dict[str, list[Any]] = {
        name: []
        for name in ("query_id", "config", "sample", "success", "cost_usd", "latency_s", "failure_mode", "kind")
    }
    for q in range(queries):
        hard = rng.normal(0, 1.5) + (1.5 if q % 3 == 0 else -0.75)
        for name, skill, price in (("ant-big", 1.0, 0.5), ("ant-small", -0.5, 0.02), ("bee", 0.2, 0.1)):
            luck = rng.normal(0, 0.8)
            for sample in range(repeats):
                right = rng.random() < 1 / (1 + np.exp(-(skill - hard + luck)))
                timed_out = name == "ant-big" and rng.random() < fail
                rows["query_id"].append(f"q{q}")
                rows["config"].append(name)
                rows["sample"].append(sample)
                rows["success"].append(int(right and not timed_out))
                rows["cost_usd"].append(float(price * rng.lognormal(0, 0.7)))
                rows["latency_s"].append(90.0 if timed_out else float(5 * rng.lognormal(0, 0.5)))
                rows["failure_mode"].append("timeout" if timed_out else "ok" if right else "wrong_result")
                rows["kind"].append("long" if q % 3 == 0 else "short")
    return {**rows, **extra}


def test_a_table_becomes_a_scenario_that_loads_back(tmp_path: Path) -> None:
    found = calibrate(table(fail=0.1), tmp_path / "deep" / "mine.yaml", name="mine")
    loaded = load_scenario(tmp_path / "deep" / "mine.yaml")
    assert loaded.hash == found.scenario.hash
    assert loaded.name == "mine"
    text = (tmp_path / "deep" / "mine.yaml").read_text(encoding="utf-8")
    assert all(f"# - {note}" in text for note in found.notes)
    assert list(found.scenario.portfolio) == ["ant-big", "ant-small", "bee"]
    assert [entry.family for entry in found.scenario.portfolio.values()] == ["ant", "ant", "bee"]
    assert found.scenario.person is None
    assert "is assumed" not in text


def test_equal_tables_give_equal_files() -> None:
    assert calibrate(table()).to_yaml() == calibrate(table()).to_yaml()
    assert calibrate(table()).to_yaml() != calibrate(table(seed=1)).to_yaml()


def test_costs_and_latencies_keep_quantiles_and_mean() -> None:
    columns = table(queries=150)
    found = calibrate(columns).scenario
    for field, factor in (("cost_usd", "cost_factor"), ("latency_s", "latency_factor")):
        for name, entry in found.portfolio.items():
            wrong = getattr(entry.wrong, factor) if entry.wrong is not None else 1.0
            runs = zip(columns[field], columns["config"], columns["success"], strict=True)
            values = [v if s else v / wrong for v, c, s in runs if c == name]  # as a right answer would have cost
            fitted = getattr(entry, field).table()
            assert len(getattr(entry, field).samples) == 41
            assert fitted.mean == pytest.approx(np.mean(values), rel=0.01)
            for p in (0.1, 0.5, 0.9, 0.95):
                assert fitted.quantile(p) == pytest.approx(np.quantile(values, p), rel=0.03)


def test_few_values_become_a_log_normal_and_equal_ones_a_number() -> None:
    columns = table(queries=5)
    columns["latency_s"] = [2.5] * len(columns["latency_s"])
    entry = calibrate(columns).scenario.portfolio["bee"]
    assert entry.latency_s is not None
    assert entry.latency_s.value == 2.5
    assert entry.cost_usd is not None
    assert entry.cost_usd.spread is not None
    known = [v for v, c in zip(columns["cost_usd"], columns["config"], strict=True) if c == "bee"]
    assert entry.cost_usd.table().mean == pytest.approx(np.mean(known), rel=1e-3)


def test_visible_failures_become_faults_and_leave_the_skills_alone() -> None:
    clean, found = calibrate(table(queries=120)), calibrate(table(queries=120, fail=0.2))
    (fault,) = found.scenario.profiles["production"]
    assert clean.scenario.profiles["production"] == []
    assert (fault["fault"], fault["after_s"], fault["id"]) == ("timeout", 90.0, "timeout.ant-big")
    assert "on('ant-big')" in fault["when"]
    rate = found.uncertainty["fault.ant-big.timeout"]
    assert rate.covers(0.2)
    assert 0.03 < rate.high - rate.low < 0.15
    assert found.fit.counts.runs[:, 0].sum() < clean.fit.counts.runs[:, 0].sum() == 360
    assert found.fit.margin[0, 0] == pytest.approx(clean.fit.margin[0, 0], abs=0.6)


def test_failures_that_stay_with_a_query_are_sticky() -> None:
    columns = table(queries=120, repeats=4)
    for i, (query, config) in enumerate(zip(columns["query_id"], columns["config"], strict=True)):
        if config == "bee" and int(query[1:]) % 5 == 0:  # every run on a fifth of the queries
            columns["failure_mode"][i], columns["success"][i] = "server-error", 0
    (fault,) = calibrate(columns).scenario.profiles["production"]
    assert fault["when"].startswith("sticky(0.2) & rate(1)")


def test_success_with_clustered_faults_on_is_the_recorded_one() -> None:
    from brownout.trainers.goodness import play_calls

    columns = table(queries=150, repeats=4)
    wrong = [
        query for query in sorted(set(columns["query_id"]))
        if not any(s for s, q, c in zip(columns["success"], columns["query_id"], columns["config"], strict=True)
                   if q == query and c == "ant-small")
    ]  # fmt: skip
    for i, (query, config) in enumerate(zip(columns["query_id"], columns["config"], strict=True)):
        if config == "ant-small" and query in wrong[:40]:  # it fails where it has no success to lose
            columns["failure_mode"][i] = "context_overflow"
    recorded = np.mean([s for s, c in zip(columns["success"], columns["config"], strict=True) if c == "ant-small"])
    found = calibrate(columns)
    assert any("skills are shifted, by" in note and "ant-small +" in note for note in found.notes)
    played = play_calls(found.scenario, 4000, 1)
    assert played.right[:, 1].mean() == pytest.approx(recorded, abs=0.025)


def test_a_mapping_decides_what_a_failure_is(tmp_path: Path) -> None:
    path = tmp_path / "modes.yaml"
    path.write_text("timeout: {fault: slow-response, factor: 9}\n", encoding="utf-8")
    (fault,) = calibrate(table(fail=0.2), mapping=path).scenario.profiles["production"]
    assert (fault["fault"], fault["factor"]) == ("slow-response", 9)
    answered = calibrate(table(fail=0.2), mapping={"timeout": "answer"})
    assert answered.scenario.profiles["production"] == []
    assert answered.fit.counts.runs.sum() == 60 * 3 * 3


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({"timeout": "later"}, "mapping: timeout: got 'later'"),
        ({"timeout": {"fault": "time-out"}}, "did you mean 'timeout'"),
        ({"timeout": {"fault": "timeout", "when": "always"}}, "`when` and `id` are fitted"),
    ],
)
def test_bad_mappings_are_refused(mapping: dict[str, Any], said: str) -> None:
    with pytest.raises(TableError) as caught:
        calibrate(table(), mapping=mapping)
    assert said in str(caught.value)


def test_an_unknown_failure_mode_asks_for_an_entry() -> None:
    columns = table()
    columns["failure_mode"][4], columns["success"][4] = "gremlins", 0
    with pytest.raises(TableError, match=r"'gremlins'.*mapping file"):
        calibrate(columns)
    found = calibrate(columns, mapping={"gremlins": {"fault": "server-error"}})
    assert found.scenario.profiles["production"][0]["fault"] == "server-error"


def test_judge_rates_come_from_verdicts() -> None:
    columns = table(queries=120)
    rng = np.random.default_rng(1)
    columns["judge_accept"] = [int(rng.random() < (0.9 if s else 0.25)) for s in columns["success"]]
    found = calibrate(columns)
    assert found.scenario.judge is not None
    assert found.uncertainty["judge.true_positive"].covers(0.9)
    assert found.uncertainty["judge.false_positive"].covers(0.25)
    assert found.scenario.judge.false_positive == pytest.approx(0.25, abs=0.05)
    scored = dict(columns)
    scored["judge_score"] = [0.8 if v else 0.1 for v in scored.pop("judge_accept")]
    assert calibrate(scored).scenario.judge == found.scenario.judge


def test_one_sided_verdicts_leave_the_other_rate_open() -> None:
    columns = table()
    columns["judge_accept"] = [1 if s else None for s in columns["success"]]
    found = calibrate(columns)
    assert not found.uncertainty["judge.false_positive"].identified
    assert found.uncertainty["judge.true_positive"].low < 1.0
    assert any("false_positive could not be seen" in note for note in found.notes)


def test_classes_come_from_a_column_and_rare_ones_are_merged() -> None:
    found = calibrate(table(queries=120), class_column="kind")
    tasks: Any = found.scenario.tasks
    assert tasks.classes == pytest.approx({"long": 1 / 3, "short": 2 / 3}, abs=1e-3)
    assert tasks.difficulty["long"][0] - tasks.difficulty["short"][0] == pytest.approx(2.25, abs=1.0)
    columns = table(queries=60)
    columns["kind"] = [f"k {q[1:]}" if int(q[1:]) < 9 else "usual" for q in columns["query_id"]]
    merged = calibrate(columns, class_column="kind")
    assert merged.fit.counts.classes == ("other", "usual")
    assert any("one class 'other'" in note for note in merged.notes)


def test_some_queries_alone_give_what_a_table_of_them_gives() -> None:
    columns = table(fail=0.1)
    chosen = [f"q{q}" for q in range(0, 60, 2)]
    rows = [i for i, q in enumerate(columns["query_id"]) if q in chosen]
    alone = calibrate({name: [values[i] for i in rows] for name, values in columns.items()})
    part = calibrate(columns, queries=chosen)
    assert part.fit.margin == pytest.approx(alone.fit.margin, abs=1e-6)
    assert part.scenario.profiles == alone.scenario.profiles
    with pytest.raises(TableError, match="'nobody'"):
        calibrate(columns, queries=["nobody"])


def test_graded_success_counts_as_a_replay_draws_it() -> None:
    columns = table(queries=200, repeats=1)
    columns["success"] = [0.3] * len(columns["success"])
    runs = load_runs(columns)
    assert runs.success.mean() == pytest.approx(0.3, abs=0.06)
    assert any("share of success" in note for note in runs.notes)


def test_missing_costs_are_left_out_not_filled() -> None:
    columns = table(queries=40)
    for i in range(0, len(columns["cost_usd"]), 7):
        columns["cost_usd"][i] = float("nan")
    runs = load_runs(columns)
    assert np.isnan(runs.cost_usd).sum() == len(range(0, len(columns["cost_usd"]), 7))
    entry = calibrate(columns).scenario.portfolio["bee"]
    assert entry.cost_usd is not None
    assert entry.cost_usd.samples is not None


def test_names_that_scenarios_refuse_are_replaced() -> None:
    columns = table(queries=20)
    columns["config"] = [{"bee": "acme/bee v2", "ant-big": "judge"}.get(c, c) for c in columns["config"]]
    assert list(calibrate(columns).scenario.portfolio) == ["acme-bee-v2", "ant-small", "judge-1"]
    columns["config"] = [{"ant-small": "acme bee/v2"}.get(c, c) for c in columns["config"]]
    with pytest.raises(TableError, match="differ only in signs"):
        calibrate(columns)


def test_families_are_taken_from_the_table_where_it_has_them() -> None:
    columns = table(queries=20)
    columns["family"] = ["north" if c == "ant-big" else "south" for c in columns["config"]]
    found = calibrate(columns)
    assert [entry.family for entry in found.scenario.portfolio.values()] == ["north", "south", "south"]
    assert not any("guessed" in note for note in found.notes)
    columns["family"][1] = "west"
    with pytest.raises(TableError, match="column 'family'"):
        calibrate(columns)
    with pytest.raises(TableError, match="no family for 'bee'"):
        calibrate(table(), families={"ant-big": "a", "ant-small": "a"})


def test_a_wrong_answer_that_costs_more_is_priced_so() -> None:
    columns = table(queries=80)
    columns["cost_usd"] = [c * (1 if s else 4) for c, s in zip(columns["cost_usd"], columns["success"], strict=True)]
    found = calibrate(columns)
    for name, entry in found.scenario.portfolio.items():
        assert entry.wrong is not None
        assert found.rates[f"wrong.{name}.cost"].covers(4.0)
        assert 3.0 < entry.wrong.cost_factor < 5.0
    usual = calibrate(table(queries=80)).scenario.portfolio.values()
    assert all(entry.wrong is None or entry.wrong.cost_factor == 1.0 for entry in usual)


def test_spans_are_calibrated_too(tmp_path: Path) -> None:
    columns = table(queries=30)
    lines = []
    for i in range(len(columns["query_id"])):
        attributes = {
            "brownout.query_id": columns["query_id"][i], "brownout.sample": columns["sample"][i],
            "brownout.success": columns["success"][i], "brownout.cost_usd": columns["cost_usd"][i],
            "gen_ai.request.model": columns["config"][i],
        }  # fmt: skip
        lines.append(json.dumps({
            "context": {"trace_id": f"t{i}", "span_id": "s"}, "start_time": "2026-01-01T00:00:00Z",
            "end_time": "2026-01-01T00:00:04Z", "status": {"status_code": "OK"}, "attributes": attributes,
        }))  # fmt: skip
    path = tmp_path / "runs.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    found, direct = calibrate(path), calibrate(columns)
    assert found.fit.margin == pytest.approx(direct.fit.margin, abs=1e-6)
    assert found.scenario.name == "runs"


def test_failures_that_cost_and_last_like_answers_keep_their_spread() -> None:
    columns = table(queries=120, repeats=4)
    rng = np.random.default_rng(3)
    for i, config in enumerate(columns["config"]):
        if config == "bee" and rng.random() < 0.25:  # dear and slow, as a run that hits a limit is
            columns["failure_mode"][i], columns["success"][i] = "context_overflow", 0
            columns["cost_usd"][i] *= 6.0
            columns["latency_s"][i] *= 3.0
    found = calibrate(columns)
    (fault,) = found.scenario.profiles["production"]
    assert (fault["applied"], fault["latency_s"]) == (1.0, None)
    entry = found.scenario.portfolio["bee"]
    for field in ("cost_usd", "latency_s"):
        values = [v for v, c in zip(columns[field], columns["config"], strict=True) if c == "bee"]
        assert getattr(entry, field).table().mean == pytest.approx(np.mean(values), rel=0.01)
    assert load_scenario(dict(yaml.safe_load(found.to_yaml()))).hash == found.scenario.hash


def test_quick_failures_keep_their_own_time_and_price() -> None:
    columns = table(queries=120, fail=0.0)
    for i, config in enumerate(columns["config"]):
        if config == "bee" and i % 5 == 0:
            columns["failure_mode"][i], columns["success"][i] = "provider_5xx_or_conn", 0
            columns["cost_usd"][i], columns["latency_s"][i] = 0.0, 0.25
    found = calibrate(columns)
    (fault,) = found.scenario.profiles["production"]
    assert (fault["fault"], fault["applied"], fault["latency_s"]) == ("server-error", 0.0, 0.25)
    entry = found.scenario.portfolio["bee"]
    assert entry.latency_s is not None
    assert entry.latency_s.table().low > 0.25


def test_the_success_rate_of_a_scenario_is_the_recorded_one() -> None:
    from brownout.trainers.goodness import play_calls

    columns = table(queries=100, fail=0.15)
    played = play_calls(calibrate(columns).scenario, 6000, 1)
    for k, name in enumerate(played.configs):
        recorded = np.mean([s for s, c in zip(columns["success"], columns["config"], strict=True) if c == name])
        assert played.right[:, k].mean() == pytest.approx(recorded, abs=0.025)
