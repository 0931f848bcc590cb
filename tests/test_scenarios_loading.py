"""Finding, inheriting and overriding scenarios, and their JSON schema."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from brownout.envs.router_core import RouterCore
from brownout.errors import ScenarioError, TableError
from brownout.scenarios import (
    RouterScenario,
    Scenario,
    builtin_scenarios,
    fault_plan,
    json_schema,
    load_scenario,
    profile_names,
)
from brownout.scenarios.loading import LIBRARY


def loaded(source: Any, *overrides: str) -> RouterScenario:
    scenario = load_scenario(source, overrides)
    assert isinstance(scenario, RouterScenario)
    return scenario


# ---------------------------------------------------------------- sources


def test_names_paths_mappings_and_scenarios_are_the_same(tmp_path: Path) -> None:
    by_name = loaded("textbook")
    path = LIBRARY / "textbook.yaml"
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert loaded(path).hash == loaded(str(path)).hash == loaded(data).hash == by_name.hash
    assert loaded(by_name) is by_name
    assert by_name.path is not None
    assert by_name.path.samefile(path)
    assert loaded(data).path is None


def test_an_unknown_name_lists_the_library() -> None:
    with pytest.raises(ScenarioError, match=r"no scenario 'suport-desk'.*did you mean 'support-desk'.*textbook"):
        load_scenario("suport-desk")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [1\nb: 2\n", r"x.yaml:2: not valid YAML"),
        (b"\xff\xfe\x00", "not a readable YAML file"),
        (b"- 1\n- 2\n", "a scenario is a mapping of fields, got list"),
        (b"", "a scenario is a mapping of fields, got NoneType"),
        (b"a: !!python/object/apply:os.getcwd []\n", "not a readable YAML file"),
        (b"? [1, 2]\n: 3\n", "x.yaml:1: a field's name must be plain text"),
        (b"a: &a {x: 1, y: [1, 2]}\nb: [" + b"*a, " * 30_000 + b"*a]\n", "too large"),
        (b"#" * 1_000_001, "too many for a scenario"),
    ],
    ids=["syntax", "encoding", "list", "empty", "object", "key", "aliases", "size"],
)
def test_an_unreadable_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(ScenarioError, match=message):
        load_scenario(path)


def test_a_missing_table_is_told_when_it_is_needed() -> None:
    scenario = load_scenario(
        {
            "version": 1,
            "name": "replay",
            "tasks": {"table": "nowhere.parquet"},
            "portfolio": {"m": None},
            "profiles": {"clean": []},
        }
    )
    with pytest.raises(TableError, match=r"tasks.table: no file 'nowhere.parquet'.*--set tasks.table=PATH"):
        RouterCore(scenario, 1, profile="clean")


# ---------------------------------------------------------------- extends


def test_extends_merges_mappings_and_replaces_lists(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "extends: support-desk\nname: mine\nperson: null\nlimits: {deadline_s: 30}\n"
        "portfolio: {small: {cost_usd: 0.5}, extra: {skill: 1, cost_usd: 1, latency_s: 1}}\n"
        "profiles: {production: [{fault: refusal}]}\n"
    )
    base, mine = loaded("support-desk"), loaded(path)
    assert mine.name == "mine"
    assert mine.person is None
    assert mine.limits.deadline_s == 30
    assert mine.limits.budget_usd == base.limits.budget_usd
    assert list(mine.portfolio) == [*base.portfolio, "extra"]
    assert mine.portfolio["small"].latency_s == base.portfolio["small"].latency_s
    assert mine.profiles["production"] == [{"fault": "refusal"}]
    assert mine.profiles["hostile"] == base.profiles["hostile"]


def test_a_file_beside_comes_before_the_library(tmp_path: Path) -> None:
    (tmp_path / "textbook.yaml").write_text("extends: textbook\nname: local\n")
    (tmp_path / "top.yaml").write_text("extends: textbook\ndescription: top\n")
    assert loaded(tmp_path / "top.yaml").name == "local"


def test_an_error_in_the_base_names_the_base(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("extends: textbook\nlimits:\n  budget_usd: -1\n")
    (tmp_path / "top.yaml").write_text("extends: base\nname: top\nlimits: {deadline_s: 5}\n")
    with pytest.raises(ScenarioError, match=r"base.yaml:3: limits.budget_usd.*got -1"):
        load_scenario(tmp_path / "top.yaml")


@pytest.mark.parametrize(
    ("base", "message"),
    [
     ("b", r"b.yaml:1: extends: 'a' leads back to itself: a.yaml -> b.yaml -> a.yaml"),
     ("nowhere", r"a.yaml:1: extends: no scenario 'nowhere'"),
     ("[1]", r"a.yaml:1: extends: got \[1\]")],
)  # fmt: skip
def test_a_base_that_leads_nowhere_is_refused(tmp_path: Path, base: str, message: str) -> None:
    (tmp_path / "a.yaml").write_text(f"extends: {base}\n")
    (tmp_path / "b.yaml").write_text("extends: a\n")
    with pytest.raises(ScenarioError, match=message):
        load_scenario(tmp_path / "a.yaml")


# ---------------------------------------------------------------- overrides


def test_overrides_reach_everything() -> None:
    scenario = loaded(
        "support-desk", "limits.budget_usd=0.25", "person=null", "portfolio.small.cost_usd={median: 1, p95: 2}",
        "portfolio.small.skill.faq=9", "profiles.production.0.status=timeout", "preferences.per_usd=[0.1, 2]",
        "profiles.gentle=[{fault: refusal}]",
    )  # fmt: skip
    assert scenario.limits.budget_usd == 0.25
    assert scenario.person is None
    cost = scenario.portfolio["small"].cost_usd
    assert cost is not None
    assert cost.median == 1.0
    assert cost.p95 == 2.0
    assert isinstance(scenario.portfolio["small"].skill, dict)
    assert scenario.portfolio["small"].skill["faq"] == 9
    assert scenario.profiles["production"][0]["status"] == "timeout"
    assert "gentle" in scenario.profiles


def test_a_key_with_dots_can_be_overridden() -> None:
    assert loaded("browsecomp", "portfolio.gpt5.2-dense.skill=1.5").portfolio["gpt5.2-dense"].skill == 1.5


def test_overrides_of_a_scenario_keep_what_was_said() -> None:
    first = loaded("support-desk", "person=null", "tasks.hint_sd=null")
    second = loaded(first, "limits.max_steps=9")
    assert second.person is None
    assert second.tasks.kind == "model"
    assert second.tasks.hint_sd is None
    assert second.limits.max_steps == 9
    assert first.limits.max_steps != 9
    assert second.portfolio == first.portfolio


def test_overrides_leave_the_callers_mapping_alone() -> None:
    data = yaml.safe_load((LIBRARY / "textbook.yaml").read_text(encoding="utf-8"))
    before = copy.deepcopy(data)
    loaded(data, "limits.budget_usd=3", "portfolio.tiny.skill=1")
    assert data == before


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("limits.budget_usd", ["write it as field.path=value"]),
        ("=3", ["write it as field.path=value"]),
        ("limits..budget_usd=3", ["write it as field.path=value"]),
        ("limits.budget_usd=[1", ["not valid YAML"]),
        ("limits.budget_usd=-2", ["--set 'limits.budget_usd=-2'", "limits.budget_usd", "greater than 0"]),
        ("limits.budget=2", ["--set 'limits.budget=2'", "did you mean", "'budget_usd'"]),
        ("name.first=x", ["name is 'support-desk', which has no fields"]),
        ("profiles.production.99.code=500", ["list of", "'99'", "allowed: 0 to"]),
        ("profiles.production.0.family=zz", ["--set 'profiles.production.0.family=zz'", "'zz'", "a, b"]),
        ("portfolio.small.skill.faq=high", ["portfolio.small.skill.faq", "'high'"]),
    ],
)
def test_a_bad_override_is_refused(override: str, parts: list[str]) -> None:
    with pytest.raises(ScenarioError) as caught:
        load_scenario("support-desk", [override])
    assert override.partition("=")[0].split(".")[0] in str(caught.value)
    for part in parts:
        assert part in str(caught.value), str(caught.value)


def test_overrides_are_a_list() -> None:
    with pytest.raises(ScenarioError, match="allowed: a list"):
        load_scenario("textbook", "limits.budget_usd=1")


# ---------------------------------------------------------------- profiles


def test_profiles_and_the_implied_hostile_one() -> None:
    assert profile_names(load_scenario("textbook")) == ["clean", "production", "hostile"]
    textbook, desk = load_scenario("textbook"), load_scenario("support-desk")
    plan, factor = fault_plan(textbook, "hostile")
    assert factor == 2.0
    assert len(plan) == len(fault_plan(textbook, "production")[0])
    assert fault_plan(desk, "hostile")[1] == 1.0
    with pytest.raises(ScenarioError, match=r"no profile 'prodution'.*did you mean 'production'.*clean"):
        fault_plan(desk, "prodution")


# ---------------------------------------------------------------- JSON schema


@pytest.fixture(scope="module")
def validator() -> Any:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(json_schema())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("name", builtin_scenarios())
def test_the_json_schema_accepts_the_library(name: str, validator: Any) -> None:
    if load_scenario(name).env != "router":
        validator = type(validator)(json.loads(json_schema(load_scenario(name).env)))
    data = yaml.safe_load((LIBRARY / f"{name}.yaml").read_text(encoding="utf-8"))
    assert [error.message for error in validator.iter_errors(data)] == []
    assert validator.is_valid(load_scenario(name).model_dump(mode="json"))


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("limits", "budget_us"), 1), (("limits", "budget_usd"), -1), (("portfolio", "small", "cost_usd"), "cheap"),
        (("profiles", "production", 0, "famly"), "b"), (("profiles", "production", 3, "after_s"), "soon"),
        (("version",), 2), (("judge", "true_positive"), 2), (("reward", "kind"), "weighted-sun"),
    ],
)  # fmt: skip
def test_the_json_schema_refuses(keys: tuple[Any, ...], value: Any, validator: Any) -> None:
    data = yaml.safe_load((LIBRARY / "support-desk.yaml").read_text(encoding="utf-8"))
    assert validator.is_valid(data)
    target = data
    for key in keys[:-1]:
        target = target[key]
    target[keys[-1]] = value
    assert not validator.is_valid(data)


def test_the_json_schema_leaves_faults_of_plug_ins_alone(validator: Any) -> None:
    data = yaml.safe_load((LIBRARY / "textbook.yaml").read_text(encoding="utf-8"))
    data["profiles"]["production"].append({"fault": "third-party", "knob": 3})
    assert validator.is_valid(data)
    assert not validator.is_valid({"name": "x", "version": 1})


def test_only_environments_that_exist_have_a_schema() -> None:
    with pytest.raises(ScenarioError, match=r"'nothing'; allowed: router"):
        json_schema("nothing")


def test_a_scenario_is_frozen() -> None:
    scenario: Scenario = load_scenario("textbook")
    with pytest.raises(ValueError, match="frozen"):
        scenario.name = "other"
