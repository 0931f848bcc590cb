"""The three example agents, ranked as they are built."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

import stress_cases
from brownout.trainers.gate import run_gate
from brownout.trainers.gate_config import Needs, read_gate
from brownout.trainers.shadow import compare
from brownout.trainers.stress import stress
from brownout.trainers.stress_report import StressReport

pytestmark = pytest.mark.xdist_group("stress_ranking")
AGENTS = Path(stress_cases.__file__).parent.parent / "examples" / "agents"
NAMES = ("naive", "retrying", "careful")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranking")


@pytest.fixture(scope="module")
def runs(folder: Path) -> dict[str, StressReport]:
    found = {}
    for name in NAMES:
        found[name] = stress(f"{AGENTS / name}.py:handle", "refund", episodes=60, workers=2, out=folder / name)
    for worse, better in pairwise(NAMES):
        gap = compare(folder / better, folder / worse).differences["faulted"]["success"]
        assert gap.low > 0.0, (worse, better, gap)
    return found


def test_agents_are_ranked_by_what_they_survive_not_by_what_they_can_do(runs: dict[str, StressReport]) -> None:
    for name in NAMES:
        assert runs[name].conditions["clean"]["success"].value > 0.97
    faulted = [runs[name].conditions["faulted"]["success"].value for name in NAMES]
    assert faulted == sorted(faulted)
    assert (
        runs["careful"].conditions["faulted"]["success"].low > runs["retrying"].conditions["faulted"]["success"].value
    )


def test_the_report_names_what_each_fails_on(runs: dict[str, StressReport]) -> None:
    failed = {name: {row.effect for row in runs[name].effects if row.success_loss.low > 0.2} for name in NAMES}
    assert failed["naive"] >= {"rate-limit", "expired-token"}  # does not ask again
    assert "rate-limit" not in failed["retrying"]
    assert "missing-field" in failed["retrying"]  # asks again with what is wrong
    assert not failed["careful"]
    spoilt = runs["retrying"].outcomes["faulted"]
    assert spoilt["silent_garbage"] > runs["careful"].outcomes["faulted"].get("silent_garbage", 0)


def test_the_gate_lets_only_the_careful_agent_out(runs: dict[str, StressReport], folder: Path) -> None:
    example = read_gate(AGENTS.parent / "gate.yaml")
    loose = {
        "success": 0.78,
        "silent_garbage": 0.15,
        "duplicate_effect": 0.07,
        "recovery": 0.75,
    }  # 60 episodes, not 300
    bounds = [
        rule.model_copy(
            update={"at_least": -0.2 if rule.of == "paired" else min(rule.at_least, loose[rule.metric])}
            if rule.at_least is not None
            else {"at_most": loose[rule.metric]}
        )
        for rule in example.thresholds
    ]
    gate = example.model_copy(update={"needs": Needs(episodes=60), "thresholds": tuple(bounds)})  # pyright: ignore[reportCallIssue]
    verdicts = {name: run_gate(gate, folder / name).verdict for name in runs}
    assert [name for name, verdict in verdicts.items() if verdict == "pass"] == ["careful"]
    assert verdicts["naive"] == "fail"
    strict = example.model_copy(update={"needs": Needs(episodes=200)})  # pyright: ignore[reportCallIssue]
    assert run_gate(strict, folder / "careful").verdict != "pass"  # too few episodes
