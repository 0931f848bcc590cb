"""The three example agents, ranked as they are built."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

import stress_cases
from brownout.trainers.shadow import compare
from brownout.trainers.stress import stress
from brownout.trainers.stress_report import StressReport

pytestmark = pytest.mark.xdist_group("stress_ranking")
AGENTS = Path(stress_cases.__file__).parent.parent / "examples" / "agents"
NAMES = ("naive", "retrying", "careful")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, StressReport]:
    folder = tmp_path_factory.mktemp("ranking")
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
