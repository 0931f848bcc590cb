"""The built-in library: every scenario loads, plays and poses a problem; published figures are met."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from brownout.envs.optimum import ceiling_of
from brownout.envs.router_core import RouterCore
from brownout.scenarios import RouterScenario, builtin_scenarios, fault_plan, load_scenario, profile_names
from brownout.scenarios.loading import LIBRARY
from brownout.trainers.baselines import make_baseline
from brownout.trainers.checking import check_scenario
from brownout.trainers.evaluation import play

ROOT = Path(__file__).resolve().parent.parent
PROMISED = {
    "textbook", "support-desk", "browsecomp", "provider-outage", "flaky-api", "price-surge", "judge-drift",
    "overnight-loop", "operating-points", "test-suite", "code-review", "cheap-first", "deep-research", "patch-review",
}  # fmt: skip
library = pytest.mark.parametrize("name", builtin_scenarios())


def utility(name: str, profile: str, baseline: str, episodes: int = 1500) -> float:
    core = RouterCore(name, 256, profile=profile, split="eval")
    return float(play(make_baseline(baseline, core), core, episodes).utility.mean())


def test_the_promised_scenarios_are_there() -> None:
    assert set(builtin_scenarios()) >= PROMISED


@library
def test_it_says_what_it_is(name: str) -> None:
    scenario = load_scenario(name)
    assert scenario.name == name
    assert len(scenario.description.split()) >= 20
    assert {"clean", "production"} <= set(scenario.profiles)
    assert scenario.profiles["production"], "production without faults"
    assert len((LIBRARY / f"{name}.yaml").read_text(encoding="utf-8").splitlines()) <= 70


@library
def test_it_passes_its_check(name: str) -> None:
    report = check_scenario(name, episodes=150)
    assert report.ok, report.to_text()
    assert [profile.profile for profile in report.profiles] == profile_names(load_scenario(name))


@pytest.mark.parametrize("name", builtin_scenarios("router"))
def test_hostile_is_worse_than_production_and_production_than_clean(name: str) -> None:
    best = {}
    for profile in ("clean", "production", "hostile"):
        best[profile] = max(utility(name, profile, b) for b in ("greedy-index", "cheapest-first", "strongest-first"))
    assert best["clean"] > best["production"] > best["hostile"]


def test_production_is_a_cliff_on_the_support_desk() -> None:
    for baseline in ("greedy-index", "cheapest-first", "strongest-first", "retry-then-fallback"):
        assert utility("support-desk", "clean", baseline) - utility("support-desk", "production", baseline) > 0.1


def test_starting_cheap_is_a_bet_on_the_judge() -> None:
    gap = {
        profile: utility("judge-drift", profile, "strongest-first") - utility("judge-drift", profile, "cheapest-first")
        for profile in ("clean", "production")
    }
    assert abs(gap["clean"]) < 0.08
    assert gap["production"] > 0.15


def test_drift_grows_over_the_episodes_of_a_lane() -> None:
    core = RouterCore("judge-drift", 512, profile="production")
    core.seed(core.all_lanes, range(512))
    strong, struck = core.action_names.index("launch:frontier"), []
    for episode in (0, 400):
        core.begin(core.all_lanes, episode)
        core.plan.log.clear()  # pyright: ignore[reportOptionalMemberAccess]
        for action in (strong, len(core.config_names), len(core.config_names) + 1):
            core.advance(core.all_lanes * 0 + action)
        struck.append(core.plan.log.counts["judge-drift#1"])  # pyright: ignore[reportOptionalMemberAccess]
    assert struck[0] < 0.35 * struck[1]
    assert struck[1] > 400


def test_some_requests_of_the_overnight_loop_are_beyond_everybody() -> None:
    report = check_scenario("overnight-loop", episodes=50, profiles=["clean"])
    assert 0.05 < report.unsolvable < 0.3
    core = RouterCore("overnight-loop", 256, profile="production", split="eval")
    naive = play(make_baseline("retry-then-fallback", core), core, 1500)
    spent = naive.component("cost_usd")
    assert (spent >= core.scenario.limits.budget_usd - 1e-9).mean() > 0.05  # burned to the ceiling


def test_textbook_knows_its_ceiling() -> None:
    assert ceiling_of(RouterCore("textbook", 1, profile="clean")) == pytest.approx(0.7345, abs=5e-4)
    assert ceiling_of(RouterCore("textbook", 1, profile="production")) is None


@pytest.mark.parametrize(("name", "ceiling"), [("test-suite", 0.7682), ("code-review", 0.7080)])
def test_the_computed_scenarios_know_their_ceiling(name: str, ceiling: float) -> None:
    assert ceiling_of(RouterCore(name, 1, profile="clean")) == pytest.approx(ceiling, abs=5e-4)
    assert ceiling_of(RouterCore(name, 1, profile="production")) is None


def test_faults_of_two_families_differ_in_the_outage() -> None:
    plan, _ = fault_plan(load_scenario("provider-outage"), "production")
    down = {fault.effect.family for fault in plan.faults if fault.effect.name == "outage"}  # pyright: ignore[reportAttributeAccessIssue]
    assert down == {"north", "south"}


# ---------------------------------------------------------------- published figures


@pytest.fixture(scope="module")
def fit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fit_browsecomp", ROOT / "benchmarks" / "fit_browsecomp.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fit_browsecomp"] = module
    spec.loader.exec_module(module)
    return module


def test_browsecomp_has_the_published_figures(fit: ModuleType) -> None:
    scenario = load_scenario("browsecomp")
    assert isinstance(scenario, RouterScenario)
    assert set(scenario.portfolio) == set(fit.PUBLISHED)
    assert len(fit.PUBLISHED) == 11
    figures = fit.measure(scenario, 60_000)
    for name, (cost, latency, accuracy) in fit.PUBLISHED.items():
        assert figures.accuracy[name] == pytest.approx(accuracy, abs=0.005), name
        assert figures.cost_usd[name] == pytest.approx(cost, rel=0.015), name
        assert figures.latency_s[name] == pytest.approx(latency, rel=0.015), name
    assert figures.trio == pytest.approx(0.46, abs=0.01)
    assert all(passes > 0.90 for passes in figures.ensembles.values())
    assert figures.alike == pytest.approx(0.60, abs=0.02)
    assert figures.log_sd_cost == pytest.approx(0.76, abs=0.02)
    assert figures.log_sd_latency == pytest.approx(0.59, abs=0.02)
    # far from four independent draws, which would pass 97.7 %
    assert figures.repeats[4] < 0.80


def test_browsecomp_says_what_the_fit_gives(fit: ModuleType) -> None:
    data = yaml.safe_load((LIBRARY / "browsecomp.yaml").read_text(encoding="utf-8"))
    family = {name: entry["family"] for name, entry in data["portfolio"].items()}
    difficulty_sd, configuration_sd, skills = fit.fit(data["tasks"]["family_sd"], family)
    assert data["tasks"]["difficulty"]["question"][1] == pytest.approx(difficulty_sd, abs=0.011)
    assert data["tasks"]["configuration_sd"] == pytest.approx(configuration_sd, abs=0.011)
    for name, skill in skills.items():
        assert data["portfolio"][name]["skill"] == pytest.approx(skill, abs=0.02), name


def test_a_wrong_figure_is_noticed(fit: ModuleType) -> None:
    scenario = load_scenario(
        "browsecomp", ["portfolio.minimax-late+.skill=1.4", "portfolio.gpt5-dense.cost_usd.mean=2.2"]
    )
    assert isinstance(scenario, RouterScenario)
    missed = fit.misses(fit.measure(scenario, 20_000))
    assert any("minimax-late+: accuracy" in line for line in missed)
    assert any("gpt5-dense: cost" in line for line in missed)


# ---------------------------------------------------------------- example on a table


def test_the_table_example_plays_on_a_table_of_its_form(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    data = yaml.safe_load((ROOT / "examples" / "mcpmark.yaml").read_text(encoding="utf-8"))
    lines = ["query_id,config,sample,success,cost_usd,latency_s,failure_mode,service"]
    for q in range(40):
        for c, config in enumerate(data["portfolio"]):
            for sample in range(4):
                right = int((q * 7 + c * 3 + sample) % 5 < 1 + c)
                mode = "ok" if right else ("timeout" if (q + sample) % 9 == 0 else "wrong_result")
                lines.append(f"q{q},{config},{sample},{right},{0.1 * (c + 1)},{60 * (c + 1)},{mode},s{q % 3}")
    table = tmp_path / "runs.csv"
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    scenario = load_scenario(ROOT / "examples" / "mcpmark.yaml", [f"tasks.table={table}"])
    report = check_scenario(scenario, episodes=100)
    assert report.ok, report.to_text()
