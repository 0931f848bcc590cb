"""What a scenario file may say: every wrong field is refused with its place, its value and what is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from brownout.envs.router_state import _World
from brownout.errors import ScenarioError
from brownout.scenarios import RouterScenario, load_scenario

FILE = """\
version: 1
name: desk
tasks:
  classes: {easy: 0.7, hard: 0.3}
  difficulty: {easy: [-1.0, 0.5], hard: [1.5, 0.5]}
portfolio:
  small: {family: a, skill: 0.0, cost_usd: 0.01, latency_s: {median: 1.0, p95: 3.0}}
  large: {family: b, skill: {easy: 3.0, hard: 2.0}, cost_usd: {mean: 0.1, spread: 0.5}, latency_s: {low: 2, high: 9}}
judge: {false_positive: 0.1}
person: null
limits: {budget_usd: 1.0, deadline_s: 60}
reward: {accuracy: 1.0, per_usd: 0.5}
profiles:
  production:
    - {fault: timeout, after_s: 20, when: "rate(0.1) & on('large')"}
    - {fault: outage, family: b}
"""


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(old: str = "", new: str = "") -> Path:
        assert old in FILE
        path = tmp_path / "desk.yaml"
        path.write_text(FILE.replace(old, new, 1) if old else FILE, encoding="utf-8")
        return path

    return write


def test_the_file_loads_as_written(write: Any) -> None:
    scenario = load_scenario(write())
    assert isinstance(scenario, RouterScenario)
    assert scenario.person is None
    assert scenario.judge is not None
    assert scenario.judge.true_positive == 0.95
    assert list(scenario.profiles) == ["clean", "production"]
    assert scenario.profiles["clean"] == []
    large = scenario.portfolio["large"]
    assert large.cost_usd is not None
    assert large.cost_usd.table().mean == pytest.approx(0.1)
    assert scenario.max_calls == 8


@pytest.mark.parametrize(
    ("old", "new", "line", "parts"),
    [
        ("fault: outage", "fault: outrage", 16, ["profiles.production[1]", "'outrage'", "did you mean 'outage'"]),
        ("after_s: 20", "after: 20", 15, ["profiles.production[0] (timeout)", "'after'", "did you mean 'after_s'"]),
        ("after_s: 20", "after_s: -2", 15, ["(timeout)", "after_s = -2", "> 0"]),
        ("rate(0.1)", "rat(0.1)", 15, ["column 1", "did you mean 'rate'"]),
        ("on('large')", "on('larg')", 15, ["on('larg')", "small, large, judge, person"]),
        ("on('large')", "when(spent > 1)", 15, ["'spent'", "spend_usd"]),
        ("family: b}\n", "family: c}\n", 16, ["family = 'c'", "a, b"]),
        ("cost_usd: 0.01", "cost_usd: -0.01", 7, ["portfolio.small.cost_usd", "greater than or equal to 0", "-0.01"]),
        ("cost_usd: 0.01", "cost_usd: cheap", 7, ["portfolio.small.cost_usd", "a number, {median, p95}", "'cheap'"]),
        ("cost_usd: 0.01", "cost_usd: true", 7, ["portfolio.small.cost_usd", "a number", "True"]),
        ("median: 1.0, ", "", 7, ["portfolio.small.latency_s", "{median, p95}", "['p95']"]),
        ("p95: 3.0", "p95: 0.5", 7, ["p95 must be at least the median 1.0"]),
        ("low: 2", "low: 20", 8, ["portfolio.large.latency_s", "at least low"]),
        ("cost_usd: 0.01, ", "", 7, ["portfolio.small.cost_usd", "missing"]),
        ("hard: [1.5", "herd: [1.5", 5, ["tasks.difficulty", "['easy', 'hard']", "['easy', 'herd']"]),
        ("hard: 2.0", "herd: 2.0", 8, ["portfolio.large.skill", "['easy', 'hard']"]),
        ("skill: 0.0", "skill: .nan", 7, ["portfolio.small.skill", "finite", "nan"]),
        ("skill: 0.0", "skill: high", 7, ["portfolio.small.skill", "'high'"]),
        ("easy: 0.7", "easy: 0", 4, ["tasks.classes.easy", "greater than 0"]),
        ("  small:", "  judge:", 7, ["portfolio.judge", "reserved"]),
        ("  small:", "  repair:", 7, ["portfolio.repair", "reserved", "escalate"]),
        ("  small:", "  's m':", 7, ["letters, digits", "'s m'"]),
        ("family: a", "family: person", 7, ["portfolio.small.family", "reserved"]),
        ("budget_usd: 1.0", "budget_us: 1.0", 11, ["limits.budget_us", "did you mean 'budget_usd'", "deadline_s"]),
        ("deadline_s: 60", "deadline_s: 0", 11, ["limits.deadline_s", "greater than 0", "got 0"]),
        ("deadline_s: 60", "max_steps: 2.5", 11, ["limits.max_steps", "2.5"]),
        ("deadline_s: 60", "max_steps: true", 11, ["limits.max_steps", "not true or false"]),
        ("deadline_s: 60", "on_budget: stop", 11, ["limits.on_budget", "'end', 'mask' or 'soft'", "'stop'"]),
        ("false_positive: 0.1", "false_positive: 10", 9, ["judge.false_positive", "less than or equal to 1", "10"]),
        ("false_positive", "false_positives", 9, ["judge.false_positives", "did you mean 'false_positive'"]),
        ("per_usd: 0.5", "per_used: 0.5", 12, ["reward.per_used", "did you mean 'per_usd'"]),
        ("accuracy: 1.0", "kind: weighted-sun", 12, ["reward.kind", "did you mean 'weighted-sum'"]),
        ("person: null", "preferences: {per_usd: [2, 1]}", 10, ["preferences.per_usd.high", "at least 2"]),
        ("person: null", "persons: null", 10, ["persons", "did you mean 'person'"]),
        ("person: null", "env: workflo", 10, ["env", "'workflo'", "router"]),
        ("version: 1", "version: 3", 1, ["version", "should be 1", "got 3"]),
        ("name: desk", "name: [desk]", 2, ["name", "string", "a list"]),
        ("profiles:\n", "profiles:\n  clean: [{fault: refusal}]\n", 14, ["profiles.clean", "no faults"]),
        ("  classes: {", "  table: x.parquet\n  classes: {", 5, ["tasks.classes", "unknown field", "eval_fraction"]),
        ("name: desk", "name: desk\nname: other", 3, ["'name'", "twice", "line 2"]),
        ("person: null", "person: {cost_usd: [1", 11, ["not valid YAML"]),
        ("person: null", "person: &p {cost_usd: *p}", 10, ["an alias holds itself"]),
    ],
)  # fmt: skip
def test_a_wrong_field_is_refused(write: Any, old: str, new: str, line: int, parts: list[str]) -> None:
    path = write(old, new)
    with pytest.raises(ScenarioError) as caught:
        load_scenario(path)
    text = str(caught.value)
    assert text.startswith(f"{path}:{line}: "), text
    for part in parts:
        assert part in text, text
    assert "pydantic" not in text
    assert "http" not in text


def test_a_required_field_that_is_missing_is_named(write: Any) -> None:
    with pytest.raises(ScenarioError, match=r"desk.yaml: name: required field is missing"):
        load_scenario(write("name: desk\n", ""))


def test_several_errors_are_all_told(write: Any) -> None:
    path = write("limits: {budget_usd: 1.0, deadline_s: 60}", "limits: {budget_usd: -1, deadline_s: -2}")
    with pytest.raises(ScenarioError) as caught:
        load_scenario(path)
    assert "limits.budget_usd" in str(caught.value)
    assert "limits.deadline_s" in str(caught.value)


def test_a_fault_whose_port_is_missing_is_refused(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RouterScenario, "ports", frozenset({"calls"}))
    path = write("{fault: outage, family: b}", "{fault: refusal}")
    with pytest.raises(
        ScenarioError, match=r"desk.yaml:16: .*\(refusal\): needs the port portfolio.*offere?[sd]: calls"
    ):
        load_scenario(path)


def test_table_scenarios_take_their_figures_from_the_table() -> None:
    data: dict[str, Any] = {
        "version": 1, "name": "replay", "tasks": {"table": "runs.csv"}, "portfolio": {"m": None},
        "profiles": {"clean": []},
    }  # fmt: skip
    assert isinstance(load_scenario(data), RouterScenario)
    for field, value in (("cost_usd", 0.1), ("latency_s", 1.0), ("skill", 2.0)):
        with pytest.raises(ScenarioError, match=rf"portfolio.m.{field}: .*comes from the table"):
            load_scenario({**data, "portfolio": {"m": {field: value}}})


def test_quantities_are_those_of_the_environment() -> None:
    assert set(RouterScenario.quantities) == set(_World.names)


# ---------------------------------------------------------------- hash


def test_equal_content_has_an_equal_hash(write: Any) -> None:
    scenario = load_scenario(write())
    turned = write(
        "name: desk\ntasks:\n  classes: {easy: 0.7, hard: 0.3}",
        "name: desk  # the same\ntasks:\n  classes: {hard: 0.3, easy: 0.70}",
    )
    assert load_scenario(turned).hash == scenario.hash
    assert load_scenario(scenario.model_dump(mode="json")).hash == scenario.hash
    assert load_scenario(write("cost_usd: 0.01", "cost_usd: {value: 0.01}")).hash == scenario.hash


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("skill: 0.0", "skill: 0.1"),
        ("after_s: 20", "after_s: 21"),
        ("person: null\n", ""),
        ("per_usd: 0.5", "per_usd: 0.6"),
    ],
)
def test_a_changed_value_changes_the_hash(write: Any, old: str, new: str) -> None:
    assert load_scenario(write(old, new)).hash != load_scenario(write()).hash


def test_hopeless_tasks_have_no_quality() -> None:
    with pytest.raises(ScenarioError, match=r"tasks\.ceiling: got 2\.0 in a scenario with `quality`"):
        load_scenario("deep-research", ["tasks.ceiling=2.0"])
