"""Task sources: replay without replacement, orders that differ by episode, held-out queries, the model's draws."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from brownout.envs.router_core import RouterCore
from brownout.envs.streams import episode_keys
from brownout.errors import BrownoutError, ScenarioError, TableError
from brownout.scenarios import RouterScenario, load_scenario
from brownout.scenarios.tasks import ModelTaskSource, TableTaskSource, table_of, task_source
from router_support import begin, column, step_all, tiny

QUERIES, REPEATS = 60, 4


def cost(query: int, config: int, sample: int) -> float:
    """A price that tells which recorded run it is."""
    return query + 0.1 * config + 0.001 * (sample + 1)


@pytest.fixture
def recorded(tmp_path: Path) -> dict[str, Any]:
    """A scenario on a table in which every run has a price of its own."""
    path = tmp_path / "runs.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["query_id", "config", "sample", "success", "cost_usd", "latency_s", "failure_mode", "topic"])
        for q in range(QUERIES):
            for c, name in enumerate(("one", "two")):
                for s in range(REPEATS):
                    failed = (q + s) % 5 == 0
                    mode = "timeout" if failed and s % 2 == 0 else ""
                    rows.writerow([f"q{q:03}", name, s, int(not failed), cost(q, c, s), 1 + s, mode, f"t{q % 3}"])
    data = tiny(limits__budget_usd=1e6, limits__deadline_s=1e6, limits__max_steps=50)
    data["tasks"] = {"table": str(path), "eval_fraction": 0.3, "features": ["topic"]}
    data["portfolio"] = {"one": {"family": "a", "max_calls": 6}, "two": {"family": "b", "max_calls": 2}}
    return data


def replay(core: RouterCore, name: str, times: int) -> np.ndarray:
    """Prices of successive calls, ``(N, times)``, whatever their status."""
    step_all(core, *[f"launch:{name}"] * times)
    return core.cost[:, :times]


# ---------------------------------------------------------------- recorded runs


def test_each_call_replays_another_sample_of_its_query(recorded: dict[str, Any]) -> None:
    core = begin(recorded, 300)
    prices = replay(core, "one", REPEATS)
    for lane in range(300):
        q = int(core.source.group[lane])
        assert sorted(prices[lane].tolist()) == pytest.approx([cost(q, 0, s) for s in range(REPEATS)])
    assert not core.mask()[:, core.action_names.index("launch:one")].any()  # every sample is used up


def test_recorded_facts_are_replayed_together(recorded: dict[str, Any]) -> None:
    core = begin(recorded, 200)
    prices = replay(core, "one", REPEATS)
    table = table_of(core.spec)
    for lane in range(200):
        q = int(core.source.group[lane])
        for j in range(REPEATS):
            sample = round((prices[lane, j] - q) * 1000) - 1
            assert core.right[lane, j] == (table.success[q, 0, sample] == 1.0)
            assert core.status[lane, j] == table.status[q, 0, sample]
            assert core.finish[lane, j] == table.latency_s[q, 0, sample]


def test_the_order_of_samples_differs_by_episode_and_by_configuration(recorded: dict[str, Any]) -> None:
    core = begin(recorded, 2000)
    prices = replay(core, "one", REPEATS)
    samples = np.rint((prices - core.source.group[:, None]) * 1000).astype(int) - 1
    orders = Counter(map(tuple, samples.tolist()))
    assert len(orders) == 24
    assert max(orders.values()) < 2000 / 24 * 1.6
    same = begin(recorded, 2000)
    assert np.array_equal(replay(same, "one", REPEATS), prices)
    same.begin(same.all_lanes)  # the lanes' next episodes
    assert not np.array_equal(replay(same, "one", REPEATS), prices)


def test_configurations_are_shuffled_independently(recorded: dict[str, Any]) -> None:
    core = begin(recorded, 4000)
    step_all(core, "launch:one", "launch:two")
    within = np.rint((core.cost[:, :2] - core.source.group[:, None] - [0.0, 0.1]) * 1000).astype(int) - 1
    counts = np.bincount(within[:, 0] * REPEATS + within[:, 1], minlength=REPEATS**2)
    assert stats.chisquare(counts).pvalue > 1e-4


def test_limits_of_the_scenario_and_of_the_table_both_count(recorded: dict[str, Any]) -> None:
    core = begin(recorded, 4)
    assert core.source.calls_allowed.tolist() == [[4, 2]] * 4


def test_held_out_queries_never_come_up_in_training(recorded: dict[str, Any]) -> None:
    train, held_out = (begin(recorded, 3000, split=split) for split in ("train", "eval"))
    seen = [set(core.source.group.tolist()) for core in (train, held_out)]
    assert not seen[0] & seen[1]
    assert seen[0] | seen[1] == set(range(QUERIES))  # and every query comes up in one of them
    table = table_of(train.spec)
    assert seen[1] == set(np.flatnonzero(table.is_eval).tolist())
    counts = np.bincount(held_out.source.group, minlength=QUERIES)[table.is_eval]
    assert counts.max() < 2 * counts.mean()


def test_what_an_operator_knows_comes_from_training_queries_only(recorded: dict[str, Any]) -> None:
    sources = [begin(recorded, 1, split=split).source for split in ("train", "eval")]
    held_out = table_of(begin(recorded, 1).spec).is_eval
    train = [q for q in range(QUERIES) if not held_out[q]]
    expected = np.mean([cost(q, 0, s) for q in train for s in range(REPEATS)])
    rate = np.mean([(q + s) % 5 != 0 for q in train for s in range(REPEATS)])
    for source in sources:
        assert source.expected_cost[0] == pytest.approx(expected)
        assert source.strength[0] == pytest.approx(rate)


def test_features_of_the_query_are_shown(recorded: dict[str, Any]) -> None:
    core = begin(recorded, 100)
    names = [c.name for c in core.observation_columns if c.name.startswith("task.")]
    assert names == ["task.topic=t0", "task.topic=t1", "task.topic=t2", "task.topic=other"]
    shown = core.observe()[:, :4].argmax(axis=1)
    assert np.unique(np.column_stack([core.source.group % 3, shown]), axis=0).shape == (3, 2)


def test_a_failure_of_the_table_is_a_visible_failure(recorded: dict[str, Any]) -> None:
    core = begin(recorded, 500)
    step_all(core, "launch:one", "wait")
    failed = column(core, "one.failed") == 1
    assert failed.any()
    assert np.array_equal(failed, column(core, "one.candidates") == 0)


def test_a_graded_success_is_a_chance(tmp_path: Path, recorded: dict[str, Any]) -> None:
    path = tmp_path / "graded.csv"
    lines = ["query_id,config,sample,success,cost_usd,latency_s"]
    lines += [f"q{q},{name},0,0.3,1,1" for q in range(20) for name in ("one", "two")]
    path.write_text("\n".join(lines))
    recorded["tasks"] = {"table": str(path), "features": []}
    core = begin(recorded, 8000)
    step_all(core, "launch:one")
    assert abs(core.right[:, 0].mean() - 0.3) < 4 * np.sqrt(0.21 / 8000)


def test_a_relative_path_starts_at_the_scenario_file(tmp_path: Path, recorded: dict[str, Any]) -> None:
    import yaml

    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "runs.csv").write_bytes(Path(recorded["tasks"]["table"]).read_bytes())
    recorded["tasks"]["table"] = "runs.csv"
    file = tmp_path / "sub" / "own.yaml"
    file.write_text(yaml.safe_dump(recorded))
    scenario = load_scenario(file)
    assert isinstance(scenario, RouterScenario)
    assert len(table_of(scenario).query_ids) == QUERIES


def test_a_missing_file_says_where_to_put_the_path(recorded: dict[str, Any]) -> None:
    recorded["tasks"]["table"] = "nowhere.parquet"
    with pytest.raises(TableError, match=r"tasks\.table: no file 'nowhere\.parquet'.*--set tasks\.table=PATH"):
        begin(recorded, 1)


def test_prices_beside_a_table_are_refused(recorded: dict[str, Any]) -> None:
    recorded["portfolio"]["one"]["cost_usd"] = 1.0
    with pytest.raises(ScenarioError, match=r"portfolio\.one\.cost_usd: comes from the table; leave it out"):
        load_scenario(recorded)


def test_a_changed_file_is_read_again(recorded: dict[str, Any]) -> None:
    import os

    first = begin(recorded, 1).source.expected_cost[0]
    path = Path(recorded["tasks"]["table"])
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *(line.replace(",0,1,", ",0,1,9", 1) for line in lines[1:])]))
    os.utime(path, ns=(1, 1))
    assert begin(recorded, 1).source.expected_cost[0] != first


# ---------------------------------------------------------------- the model


def test_each_kind_of_tasks_has_its_source(recorded: dict[str, Any]) -> None:
    model, table = load_scenario(tiny()), load_scenario(recorded)
    assert isinstance(model, RouterScenario)
    assert isinstance(table, RouterScenario)
    assert isinstance(task_source(model, "train"), ModelTaskSource)
    assert isinstance(task_source(table, "train"), TableTaskSource)


@pytest.mark.parametrize("kind", ["model", "table"])
def test_a_call_is_a_function_of_episode_configuration_and_number(kind: str, recorded: dict[str, Any]) -> None:
    """Asked in any batch and any order, with other calls in between."""
    scenario = load_scenario("support-desk") if kind == "model" else load_scenario(recorded)
    assert isinstance(scenario, RouterScenario)
    lanes = np.arange(40)
    keys = episode_keys(lanes, np.zeros(40, np.int64), "train")
    k, number = lanes % 2, lanes % 3
    source = task_source(scenario, "train")
    source.allocate(40)
    source.begin(lanes, keys)
    whole = source.call(lanes, keys, k, number)
    again = task_source(scenario, "train")
    again.allocate(40)
    order = lanes[::-1].copy()
    again.begin(order, keys[order])
    for lane in order:
        one = np.array([lane])
        again.call(one, keys[one], np.array([1 - k[lane]]), number[one])
        alone = again.call(one, keys[one], k[one], number[one])
        for field in ("right", "cost_usd", "latency_s", "status"):
            assert getattr(alone, field)[0] == getattr(whole, field)[lane], field


def test_splits_of_a_model_hold_other_tasks() -> None:
    hints = [column(begin("support-desk", 500, split=s), "task.difficulty_hint") for s in ("train", "eval")]
    assert not set(hints[0].tolist()) & set(hints[1].tolist())


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(BrownoutError, match="split: got 'test'; allowed: train, eval"):
        RouterCore("textbook", 1, split="test")


def test_a_configuration_more_leaves_the_others_draws_alone() -> None:
    """Streams are named, so adding to the portfolio moves no outcome of what was there."""
    base = load_scenario("support-desk")
    assert isinstance(base, RouterScenario)
    data = base.model_dump(mode="json", exclude_none=True)
    more = {"family": "c", "skill": 0.0, "cost_usd": 0.01, "latency_s": 1.0}
    data["portfolio"] = {"extra": more, **data["portfolio"]}
    old, new = begin(base, 200, profile="clean"), begin(data, 200, profile="clean")
    for core in (old, new):
        step_all(core, "launch:medium", "launch:large", "launch:medium")
    for name in ("right", "cost", "finish"):
        assert np.array_equal(getattr(old, name)[:, :3], getattr(new, name)[:, :3]), name
