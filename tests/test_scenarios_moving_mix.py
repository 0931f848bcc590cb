"""Mixes of classes and shares of decisions that move with the episode: by hand, and nothing else moves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from brownout import load_scenario
from brownout.envs.cores import make_core
from brownout.envs.lanes import LaneCore
from brownout.envs.optimum import ceiling_of
from brownout.envs.workflow_core import WorkflowCore
from brownout.errors import ScenarioError
from brownout.scenarios import RouterScenario
from brownout.scenarios.loading import LIBRARY
from brownout.trainers.drift import _notes
from router_support import tiny
from workflow_support import TINY_WORKFLOW, Bench, tiny_workflow

LANES = 6000
CLASSES = "tasks.classes={faq: 6, account: 2, contract: 2}"
MIX = "tasks.drift={to: {faq: 1, account: 1, contract: 2}, over: 400}"


def desk(*settings: str) -> Any:
    return load_scenario("support-desk", settings)


def begun(scenario: Any, episode: int, lanes: int = LANES) -> LaneCore:
    core = make_core(scenario, lanes, profile="clean")
    core.seed(core.all_lanes, range(lanes))
    core.begin(core.all_lanes, episode)
    return core


@pytest.mark.parametrize(
    ("episode", "shares"),
    [(0, (0.6, 0.2, 0.2)), (200, (0.425, 0.225, 0.35)), (400, (0.25, 0.25, 0.5)), (9000, (0.25, 0.25, 0.5))],
)
def test_the_mix_goes_in_a_straight_line_and_stays(episode: int, shares: tuple[float, ...]) -> None:
    found = np.bincount(begun(desk(CLASSES, MIX), episode).group, minlength=3) / LANES
    assert found == pytest.approx(shares, abs=4 * 0.5 / LANES**0.5)


def test_only_the_class_moves_and_a_lane_is_the_same_alone() -> None:
    still, moving = (begun(desk(*settings), 300) for settings in ([CLASSES], [CLASSES, MIX]))
    changed = still.group != moving.group
    assert 0.05 < changed.mean() < 0.5
    kept = ~changed
    assert (still.observe()[kept] == moving.observe()[kept]).all()
    for lane in (0, 17, 4999):
        one = make_core(desk(CLASSES, MIX), 1, profile="clean")
        one.seed(one.all_lanes, [lane])
        one.begin(one.all_lanes, 300)
        assert one.group[0] == moving.group[lane]
    first = [begun(desk(*settings), 0).group for settings in ([CLASSES], [CLASSES, MIX])]
    assert (first[0] == first[1]).all()


def test_a_state_comes_back_with_its_class() -> None:
    core = begun(desk(CLASSES, MIX), 350, 64)
    other = make_core(desk(CLASSES, MIX), 64, profile="clean")
    other.set_state(core.get_state())
    assert (other.group == core.group).all()
    assert (other.observe() == core.observe()).all()


@pytest.mark.parametrize(("episode", "share"), [(0, 0.9), (50, 0.6), (100, 0.3), (500, 0.3)])
def test_the_share_of_a_decision_goes_in_a_straight_line_and_stays(episode: int, share: float) -> None:
    fair = {"by": "locate", "share": 0.9, "drift": {"to": 0.3, "over": 100}}
    scenario = load_scenario(tiny_workflow(decisions={"fair": fair, "old": {"by": "locate", "share": 0.5}}))
    core = begun(scenario, episode)
    assert isinstance(core, WorkflowCore)
    assert core.facts.mean(axis=0) == pytest.approx([share, 0.5], abs=4 * 0.5 / LANES**0.5)
    plain = {"fair": {"by": "locate", "share": 0.9}, "old": {"by": "locate", "share": 0.5}}
    still = begun(load_scenario(tiny_workflow(decisions=plain)), episode)
    assert isinstance(still, WorkflowCore)
    assert (still.facts[:, 1] == core.facts[:, 1]).all(), "another decision does not move with it"
    assert (core.facts[:, 0] <= still.facts[:, 0]).all(), "the same draw against a smaller share"


@pytest.mark.parametrize(
    ("drift", "says"),
    [
        ("{to: {faq: 1, account: 1}, over: 10}", "must name the classes"),
        ("{to: {faq: 0, account: 0, contract: 0}, over: 10}", "one of them above 0"),
        ("{to: {faq: -1, account: 1, contract: 1}, over: 10}", "greater than or equal to 0"),
        ("{to: {faq: 1, account: 1, contract: 1}, over: 0}", "greater than or equal to 1"),
        ("{to: {faq: 1, account: 1, contract: 1}}", "over"),
    ],
)
def test_a_mix_that_cannot_be_is_refused(drift: str, says: str) -> None:
    with pytest.raises(ScenarioError, match=r"tasks\.(model\.)?drift|tasks") as caught:
        load_scenario("support-desk", [f"tasks.drift={drift}"])
    assert says in str(caught.value)


def test_a_share_that_cannot_be_is_refused() -> None:
    with pytest.raises(ScenarioError, match=r"decisions.eligible.drift.to.*less than or equal to 1"):
        load_scenario("refund", ["decisions.eligible.drift={to: 1.5, over: 10}"])


def test_scenarios_that_stand_still_say_nothing_of_it() -> None:
    for scenario in (load_scenario(tiny()), load_scenario(TINY_WORKFLOW | {"profiles": {"clean": []}})):
        assert '"drift"' not in scenario.model_dump_json()
        assert scenario.moves_over == []
    assert desk(MIX).moves_over == [400]


def test_a_mix_that_moves_has_no_known_optimum() -> None:
    classes = ["tasks.classes={box: 1, other: 1}", "tasks.difficulty={box: [0, 0], other: [1, 0]}"]
    textbook = load_scenario("textbook")
    assert isinstance(textbook, RouterScenario)
    skills = [f"portfolio.{name}.skill=1" for name in textbook.portfolio]
    still = load_scenario("textbook", [*classes, *skills])
    assert ceiling_of(make_core(still, 1, profile="clean")) is not None
    moving = load_scenario(still, ["tasks.drift={to: {box: 1, other: 2}, over: 9}"])
    assert ceiling_of(make_core(moving, 1, profile="clean")) is None


def test_a_price_changes_in_a_workflow_too() -> None:
    fault = {"fault": "price-change", "factor": 3.0, "when": "on('strong')"}
    bench = Bench(fault)
    bench.do("fetch", "validate:strong")
    assert bench.spend == 1.5
    bench.do("call:strong")  # writing arguments is no call
    assert bench.spend == 2.0
    everywhere = Bench({"fault": "price-change", "factor": 3.0})
    everywhere.do("fetch", "validate:strong", "call:cheap", "fetch", "call:cheap")
    assert everywhere.spend == 1.5 + 2 * 0.125 + 3 * 0.25


def test_the_library_moves_for_twelve_weeks_of_a_thousand() -> None:
    for name in ("moving-desk", "moving-refund"):
        scenario = load_scenario(name)
        assert scenario.moves_over == [12_000]
        assert _notes(scenario, "drift", 12_000) == ()
        assert "drift goes on for 12,000" in _notes(scenario, "drift", 5000)[0]
        assert (LIBRARY / f"{name}.yaml").is_file()
