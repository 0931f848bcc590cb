"""The frontier sweep: figures by hand, the same episodes at every point, and a policy that follows its preference."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import brownout
from brownout.envs.router_core import RouterCore
from brownout.errors import PolicyError, ScenarioError
from brownout.rewards import Preferences
from brownout.trainers.frontier_curves import FIGURES, Frontier
from brownout.trainers.frontier_sweep import ORACLE, STATIC, Sweep, evaluate_frontier
from brownout.trainers.ppo import PPOConfig
from router_support import TINY, begin, tiny

PRICED = {"per_usd": [0.5, 8.0]}


class Script:
    """Takes the same named actions in every episode."""

    def __init__(self, core: RouterCore, *names: str) -> None:
        self.actions = np.array([core.action_names.index(name) for name in names])
        self.left = [column.name for column in core.observation_columns].index("steps_left")
        self.steps = core.max_steps

    def act_batch(self, observations: Any, mask: Any, uniforms: Any = None) -> np.ndarray:
        return self.actions[(self.steps - observations[:, self.left]).astype(int)]


def sweep_tiny(*names: str, **changes: Any) -> Frontier:
    scenario = tiny(preferences=PRICED, **changes)
    script = Script(RouterCore(scenario, 1), *names)
    return evaluate_frontier(
        {"script": script}, scenario, sweep="per_usd=0.5,8", episodes=20, draws=10, rivals=(), profile="clean"
    )


# ---------------------------------------------------------------- what is swept


def test_a_sweep_is_geometric_or_a_list() -> None:
    assert Sweep.parse("per_s=0.01:1:3") == Sweep("per_s", (0.01, 0.1, 1.0))
    assert Sweep.parse(" budget_usd=2,0.5,1") == Sweep("budget_usd", (0.5, 1.0, 2.0))
    values = Sweep.parse("per_usd=0.123456:30:9").values
    assert (values[0], values[-1], len(values)) == (0.123456, 30.0, 9)
    ratios = np.divide(values[1:], values[:-1])
    np.testing.assert_allclose(ratios, ratios[0], rtol=0.02)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("per_usd", r"sweep 'per_usd': allowed: NAME=LOW:HIGH:POINTS or"),
        ("per_dollar=1:2:3", r"no preference 'per_dollar'; allowed: per_usd, per_s, budget_usd, deadline_s"),
        ("per_usd=a:b:3", r"'a:b:3' is not readable"),
        ("per_usd=1:2", r"'1:2' is not readable"),
        ("per_usd=2:1:3", r"got 2 to 1 in 3 points; allowed: 0 < low < high, 2 to 100 points"),
        ("per_usd=0:1:3", r"got 0 to 1"),
        ("per_usd=1:2:1", r"in 1 points"),
        ("per_usd=1:2:101", r"in 101 points"),
        ("per_usd=1:inf:3", r"got 1 to inf"),
        ("per_usd=1", r"got \[1.0\]; allowed: two or more different numbers from 0"),
        ("per_usd=1,1", r"got \[1.0, 1.0\]"),
        ("per_usd=-1,1", r"got \[-1.0, 1.0\]"),
        ("per_usd=nan,1", r"allowed: two or more different numbers"),
    ],
)
def test_a_sweep_that_makes_no_sense_is_refused(text: str, message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        Sweep.parse(text)


def test_the_first_sampled_preference_is_swept_unless_told() -> None:
    defaults = {"per_usd": 1.0, "per_s": 0.0, "budget_usd": 1.0, "deadline_s": 60.0}
    given = Preferences.compile({"per_usd": 3.0, "deadline_s": [10, 1000], "budget_usd": 2.0}, defaults)
    assert Sweep.of(given, 3) == Sweep("deadline_s", (10.0, 100.0, 1000.0))
    with pytest.raises(PolicyError, match=r"samples no preference; say what to sweep, such as --sweep per_usd"):
        evaluate_frontier("baseline:null", "support-desk", episodes=4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policies": []}, "policies: got none"),
        ({"policies": {"oracle": "baseline:null"}}, "the name 'oracle' is taken"),
        ({"policies": "baseline:nul"}, "no baseline 'nul'; did you mean 'null'"),
        ({"sweep": "deadline_s=0,1"}, r"sweep: preferences.deadline_s: got 0"),
        ({"quality": "grade"}, "quality: got 'grade'; allowed: success, resolved"),
        ({"reference": (0.0, 1.0)}, r"reference: got \(0.0, 1.0\); allowed: a cost and a latency above 0"),
        ({"draws": 1}, "draws: got 1; allowed: 2 or more"),
        ({"episodes": 0}, "episodes: got 0"),
    ],
)
def test_bad_input_is_refused(options: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"policies": "baseline:null", "scenario": tiny(preferences=PRICED), "episodes": 4}
    with pytest.raises(PolicyError, match=message):
        evaluate_frontier(**{**given, **options})
    with pytest.raises(ScenarioError, match="no profile 'staging'"):
        evaluate_frontier(**given, profile="staging")


# ---------------------------------------------------------------- figures by hand


def test_the_figures_of_one_certain_call_are_those_computed_by_hand() -> None:
    frontier = sweep_tiny("launch:sure", "wait", "submit")
    # sure: 1 at $0.25 and 8 s; dud: 0 at $0.0625 and 2 s; slow: 1 at $0.5 and 64 s
    assert (frontier.best_single, frontier.best_cost, frontier.best_success) == ("sure", 0.25, 1.0)
    assert frontier.reference == (0.8125, 74.0)
    script = frontier.curve("script")
    assert [point.value for point in script.points] == [0.5, 8.0]
    for point, price in zip(script.points, (0.5, 8.0), strict=True):
        assert (point.success.value, point.cost_usd.value, point.latency_s.value) == (1.0, 0.25, 8.0)
        assert point.utility.value == 1.0 - price * 0.25 - 8 / 128
        assert point.launches == {"sure": 1.0, "dud": 0.0, "slow": 0.0}
    assert script.aiq.value == 0.5  # a straight line from no call to (0.25, 1)
    assert script.success_at_cost.value == 1.0
    assert script.cost_at_success.value == 0.25
    assert script.hypervolume_cost.value == pytest.approx((0.8125 - 0.25) / 0.8125)
    assert script.hypervolume_latency.value == pytest.approx((74 - 8) / 74)
    assert (script.aiq.low, script.aiq.high) == (0.5, 0.5)  # no episode differs from another
    assert [point.label for point in frontier.curve(STATIC).points] == ["sure", "dud", "slow"]
    assert frontier.curve(STATIC).aiq.value == 0.5


def test_a_policy_that_never_answers_gets_nothing_and_never_arrives() -> None:
    script = sweep_tiny("launch:dud", "wait", "submit").curve("script")
    assert (script.aiq.value, script.success_at_cost.value, script.hypervolume_cost.value) == (0.0, 0.0, 0.0)
    assert np.isnan(script.cost_at_success.value)
    assert np.isnan(script.cost_at_success.low)


def test_the_oracle_pays_for_the_cheapest_success_as_long_as_it_is_worth_it() -> None:
    oracle = sweep_tiny("abstain").curve(ORACLE)
    worth, too_dear = oracle.points  # 0.5 * 0.25 + 8 / 128 < 1, but 8 * 0.25 > 1
    assert (worth.success.value, worth.cost_usd.value, worth.latency_s.value) == (1.0, 0.25, 8.0)
    assert (too_dear.success.value, too_dear.cost_usd.value, too_dear.latency_s.value) == (0.0, 0.0, 0.0)
    assert worth.launches == {"sure": 1.0, "dud": 0.0, "slow": 0.0}
    slow_first = {name: TINY["portfolio"][name] for name in ("slow", "sure")}
    free = evaluate_frontier(
        "baseline:null", tiny(reward__per_s=0.0, portfolio=slow_first), sweep="per_usd=0,1", episodes=5, rivals=()
    )
    assert free.curve(ORACLE).points[0].cost_usd.value == 0.25, "dollars are free, yet none is thrown away"
    assert sweep_tiny("abstain", limits__deadline_s=7.0).curve(ORACLE).points[0].success.value == 0.0
    assert sweep_tiny("abstain", limits__budget_usd=0.2).curve(ORACLE).points[0].success.value == 0.0


def test_the_oracle_is_the_best_of_the_single_calls_of_each_episode() -> None:
    """In a world without faults every single call can be played, and then the best one is known."""
    scenario = brownout.load_scenario("support-desk", ["person=null"])
    frontier = evaluate_frontier("baseline:null", scenario, sweep="per_usd=1,4", episodes=300, profile="clean")
    for price, oracle in zip((1.0, 4.0), frontier.curve(ORACLE).points, strict=True):
        best = np.zeros(300)
        for config in scenario.portfolio:  # type: ignore[attr-defined]
            core = RouterCore(scenario, 300, profile="clean", split="eval")
            core.preference_source = core.preference_source.at("per_usd", price)
            core.seed(core.all_lanes, [0] * 300)
            core.begin(core.all_lanes, np.arange(300))
            utility, alive = np.zeros(300), np.ones(300, bool)
            for name in (f"launch:{config}", "wait", "submit"):
                core.advance(np.full(300, core.action_names.index(name)), np.flatnonzero(~alive))
                utility += core.reward
                alive &= ~core.terminated
            best = np.maximum(best, utility)
        worth = oracle.success.value - price * oracle.cost_usd.value - 0.002 * oracle.latency_s.value
        assert worth == pytest.approx(best.mean(), abs=1e-9)


def test_right_hand_overs_count_when_asked_for() -> None:
    found = {}
    for quality in ("success", "resolved"):
        frontier = evaluate_frontier(
            "baseline:always-escalate", tiny(preferences=PRICED), sweep="per_usd=0.5,8", episodes=10, rivals=(),
            quality=quality,
        )  # fmt: skip
        found[quality] = [point.success.value for point in frontier.curves[0].points]
        # a person costs $2 and 128 s
        assert frontier.reference == ((0.8125, 74.0) if quality == "success" else (2.8125, 202.0))
    assert found == {"success": [0.0, 0.0], "resolved": [1.0, 1.0]}


def test_a_reference_of_ones_own_moves_the_hypervolume_and_nothing_else() -> None:
    scenario = tiny(preferences=PRICED)
    near, far = (
        evaluate_frontier(
            "baseline:always-strongest", scenario, sweep="per_usd=0.5,8", episodes=10, rivals=(), reference=reference
        ).curves[0]
        for reference in ((0.5, 16.0), (1.0, 80.0))
    )
    assert (near.hypervolume_cost.value, near.hypervolume_latency.value) == (0.5, 0.5)
    assert (far.hypervolume_cost.value, far.hypervolume_latency.value) == (0.75, 0.9)
    assert near.aiq == far.aiq


# ---------------------------------------------------------------- the same episodes


def test_results_do_not_depend_on_the_number_of_lanes() -> None:
    def frontier(lanes: int) -> dict[str, Any]:
        return evaluate_frontier(
            ["baseline:cheapest-first", "baseline:random"], "operating-points", sweep="per_s=0.001:0.02:2",
            episodes=40, lanes=lanes, draws=20,
        ).to_dict()  # fmt: skip

    whole = frontier(40)
    assert frontier(1) == whole
    assert frontier(7) == whole
    assert [curve["name"] for curve in whole["curves"]] == [
        "cheapest-first", "random", "greedy-index", STATIC, ORACLE,
    ]  # fmt: skip


def test_a_policy_that_ignores_the_price_is_one_point_and_its_utility_falls_with_it() -> None:
    frontier = evaluate_frontier("baseline:cheapest-first", "support-desk", sweep="per_usd=1,2,5", episodes=200)
    first, *rest = frontier.curves[0].points
    for point in rest:
        assert dataclasses.replace(point, label="", value=None, utility=first.utility) == dataclasses.replace(
            first, label="", value=None
        )
        fall = (point.value - first.value) * first.cost_usd.value  # type: ignore[operator]
        assert point.utility.value == pytest.approx(first.utility.value - fall)


def test_the_budget_can_be_swept_and_binds() -> None:
    scenario = brownout.load_scenario("support-desk", ["person=null"])
    frontier = evaluate_frontier("baseline:strongest-first", scenario, sweep="budget_usd=0.05,0.6", episodes=200)
    tight, loose = frontier.curves[0].points
    assert tight.cost_usd.value <= 0.05
    assert tight.success.value < loose.success.value - 0.1
    # single configurations are played under the loosest limit
    assert frontier.curve(STATIC).points[-1].cost_usd.value > 0.05


def test_exact_rivals_are_added_where_they_exist_and_beat_the_others() -> None:
    frontier = evaluate_frontier(
        "baseline:cheapest-first", "textbook", sweep="per_usd=0.3,1,3", episodes=1500, profile="clean"
    )
    exact, cheapest = frontier.curve("weitzman"), frontier.curve("cheapest-first")
    for best, other in zip(exact.points, cheapest.points, strict=True):
        assert best.utility.value > other.utility.value - 0.02
    assert exact.points[0].utility.value > exact.points[1].utility.value > exact.points[2].utility.value
    assert exact.points[0].success.value > exact.points[2].success.value + 0.2
    production = evaluate_frontier("baseline:null", "textbook", sweep="per_usd=0.3,3", episodes=20)
    assert "weitzman" not in [curve.name for curve in production.curves]


def test_greedy_index_hands_over_at_the_price_of_the_episode() -> None:
    scenario = tiny(preferences={"per_usd": [0.01, 1.0]}, portfolio__sure__skill=-50.0, portfolio__slow__skill=-50.0,
                    reward__per_s=0.0)  # fmt: skip
    frontier = evaluate_frontier(
        "baseline:greedy-index", scenario, sweep="per_usd=0.01,1", episodes=20, quality="resolved", rivals=()
    )
    # a person costs $2 and brings 0.75
    assert [point.success.value for point in frontier.curves[0].points] == [1.0, 0.0]


# ---------------------------------------------------------------- intervals and comparison


def test_a_ratio_is_paired() -> None:
    frontier = evaluate_frontier(
        {"a": "baseline:cheapest-first", "b": "baseline:strongest-first", "a again": "baseline:cheapest-first"},
        "operating-points", sweep="per_usd=0.1:30:3", episodes=300, rivals=(),
    )  # fmt: skip
    same = frontier.ratio("a", "a again")
    assert (same.value, same.low, same.high) == (1.0, 1.0, 1.0)
    for figure in FIGURES[:2]:
        share = frontier.ratio("a", "b", figure)
        one, other = (getattr(frontier.curve(name), figure) for name in ("a", "b"))
        assert share.value == one.value / other.value
        assert share.low < share.value < share.high
        assert share.high - share.low < (one.high / other.low) - (one.low / other.high)


def test_intervals_cover_what_more_episodes_find() -> None:
    few, many = (
        evaluate_frontier("baseline:cheapest-first", "support-desk", sweep="per_usd=1,2", episodes=n, rivals=())
        for n in (400, 6000)
    )
    for figure in ("aiq", "hypervolume_cost", "hypervolume_latency"):
        short, long = (getattr(frontier.curves[0], figure) for frontier in (few, many))
        assert short.low - 0.03 < long.value < short.high + 0.03
        assert long.high - long.low < 0.5 * (short.high - short.low)


@pytest.fixture
def recorded(tmp_path: Path) -> dict[str, Any]:
    """Queries that are all easy or all hard."""
    path = tmp_path / "runs.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["query_id", "config", "sample", "success", "cost_usd", "latency_s"])
        rows.writerows([f"q{q:02}", "one", s, int(q % 2 == 0), 0.1, 1.0] for q in range(40) for s in range(2))
    return tiny(
        tasks={"table": str(path), "eval_fraction": 0.3, "features": []}, portfolio={"one": {}}, preferences=PRICED
    )


def test_on_a_table_the_intervals_count_queries(recorded: dict[str, Any]) -> None:
    frontier = evaluate_frontier("baseline:always-cheapest", recorded, sweep="per_usd=0.5,1", episodes=2000, rivals=())
    assert frontier.clusters is not None
    assert 6 <= frontier.clusters <= 20
    curve = frontier.curves[0]
    wanted = 2 * 1.96 * 0.5 / np.sqrt(frontier.clusters)  # of one value per query
    width = curve.hypervolume_cost.high - curve.hypervolume_cost.low
    assert curve.hypervolume_cost.value == pytest.approx(0.0)  # the only configuration is the reference
    assert width == pytest.approx(0.0)
    success = curve.success_at_cost
    assert success.high - success.low == pytest.approx(wanted, rel=0.35)
    assert curve.points[0].success.half_width > 0.3 * wanted


# ---------------------------------------------------------------- out


def test_json_and_csv_hold_every_point() -> None:
    frontier = evaluate_frontier("baseline:null", tiny(preferences=PRICED), sweep="per_usd=0.5,8", episodes=5, draws=5)
    data = json.loads(frontier.to_json(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert data["sweep"] == {"name": "per_usd", "values": [0.5, 8.0]}
    assert [curve["name"] for curve in data["curves"]] == ["null", "greedy-index", STATIC, ORACLE]
    assert data["curves"][0]["cost_at_success"]["value"] is None
    assert data["curves"][3]["points"][0]["utility"]["value"] is None
    rows = list(csv.DictReader(io.StringIO(frontier.to_csv())))
    assert [row["policy"] for row in rows] == ["null"] * 2 + ["greedy-index"] * 2 + [STATIC] * 3 + [ORACLE] * 2
    assert rows[0]["point"] == "0.5"
    assert float(rows[4]["cost_usd"]) == 0.25


def test_the_picture_is_a_png_with_a_white_ground(tmp_path: Path) -> None:
    image = pytest.importorskip("matplotlib.image")
    from brownout.trainers.frontier_picture import draw_curves

    frontier = evaluate_frontier("baseline:null", tiny(preferences=PRICED), sweep="per_usd=0.5,8", episodes=5, draws=5)
    pixels = image.imread(draw_curves(frontier, tmp_path / "deep" / "frontier.png"))
    assert pixels.shape[0] > 500
    assert pixels[0, 0].tolist() == [1.0, 1.0, 1.0, 1.0]
    assert (pixels[..., :3].min(axis=2) < 0.5).mean() > 0.003
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["frontier.png"]


def test_progress_names_policy_and_point() -> None:
    heard: list[tuple[str, str]] = []
    evaluate_frontier(
        {"mine": "baseline:null"}, tiny(preferences=PRICED), sweep="per_usd=0.5,8", episodes=5, rivals=(), draws=5,
        progress=lambda name, point: heard.append((name, point)),
    )  # fmt: skip
    assert heard == [("mine", "0.5"), ("mine", "8"), *((STATIC, name) for name in ("sure", "dud", "slow"))]


# ---------------------------------------------------------------- one policy for all


def choice() -> dict[str, Any]:
    """A weak and a strong configuration; which one is right depends on the price of a dollar alone."""
    return tiny(
        portfolio={
            "weak": {"family": "a", "skill": 0.0, "cost_usd": 0.01, "latency_s": 1.0, "max_calls": 1},
            "strong": {"family": "b", "skill": 3.0, "cost_usd": 0.3, "latency_s": 1.0, "max_calls": 1},
        },
        preferences={"per_usd": [0.03, 30.0]}, judge=None, repair=None, person=None, reward__per_s=0.0,
        reward__wrong_answer=0.0,
    )  # fmt: skip


OPTIONS = PPOConfig(steps=120_000, lanes=128, rollout_steps=16, minibatch=512, hidden=(32, 32), learning_rate=3e-3)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "choice"
    brownout.train(choice(), config=OPTIONS, profile="clean", out=folder, evaluate_every=1000)
    return folder


def test_a_trained_policy_calls_the_stronger_configuration_where_dollars_weigh_less(trained: Path) -> None:
    frontier = evaluate_frontier(str(trained), choice(), sweep="per_usd=0.03:30:4", episodes=500, profile="clean")
    points = frontier.curves[0].points
    strong = [point.launches["strong"] * (point.cost_usd.value > 0) for point in points]
    assert strong[0] > 0.45, "worth a second call or the only one"
    assert strong[-1] < 0.05
    assert sorted(strong, reverse=True) == strong
    assert points[0].success.value > points[-1].success.value + 0.25
    assert frontier.curves[0].aiq.value > frontier.curve(STATIC).aiq.value - 0.02


def test_it_can_be_evaluated_at_one_point_and_does_the_same_there(trained: Path) -> None:
    fixed = brownout.load_scenario(choice(), ["preferences.per_usd=0.3"])
    row = brownout.evaluate(str(trained), fixed, episodes=200, profile="clean").rows[0]
    sweep = evaluate_frontier(str(trained), choice(), sweep="per_usd=0.3,3", episodes=200, profile="clean", rivals=())
    point = sweep.curves[0].points[0]
    assert (row.success, row.cost_usd, row.utility) == (point.success, point.cost_usd, point.utility)


def test_a_policy_trained_at_one_price_does_the_same_at_every_price() -> None:
    """Of a column that stood still in training it knows nothing, so it must not react to it."""
    fixed = brownout.load_scenario(choice(), ["preferences.per_usd=0.3"])
    config = dataclasses.replace(OPTIONS, steps=8_000)
    policy = brownout.train(fixed, config=config, profile="clean", evaluate_every=1000).policy
    cheap, dear = (
        begin(brownout.load_scenario(fixed, [f"preferences.per_usd={price}"]), 20).observe() for price in (0.03, 30)
    )
    assert not np.array_equal(cheap, dear)
    assert np.array_equal(policy.logits(cheap), policy.logits(dear))
    assert np.array_equal(policy.values(cheap), policy.values(dear))
