"""The example agents work on every workflow, and differ as they are meant to."""

from __future__ import annotations

from collections import Counter

import pytest

from brownout import EpisodeResult, ToolEpisode
from brownout.scenarios import builtin_scenarios
from tool_support import agent, episode

AGENTS = ("naive", "retrying", "careful")


def play(name: str, scenario: str, profile: str, episodes: int) -> list[EpisodeResult]:
    results = []
    for seed in range(episodes):
        one = ToolEpisode(scenario, seed, profile=profile)
        agent(name)(one.session)
        one.close()
        assert one.error is None
        results.append(one.result())
    return results


def share(results: list[EpisodeResult]) -> float:
    return sum(result.success for result in results) / len(results)


@pytest.mark.parametrize("scenario", builtin_scenarios("workflow"))
def test_all_of_them_get_through_where_nothing_goes_wrong(scenario: str) -> None:
    for name in AGENTS:
        results = play(name, scenario, "clean", 8)
        # earlier work that is not looked for is done twice; who does not wait for an approval comes too early
        allowed = {"success"} if name == "careful" else {"success", "duplicate_effect", "partial"}
        assert {result.outcome for result in results} <= allowed
        assert share(results) >= (1.0 if name == "careful" else 0.5)


@pytest.mark.parametrize("profile", ["production", "hostile"])
def test_care_pays(profile: str) -> None:
    results = {name: play(name, "refund", profile, 40) for name in AGENTS}
    shares = [share(results[name]) for name in AGENTS]
    assert shares == sorted(shares)
    assert shares[0] + 0.15 < shares[1] < shares[2] - 0.15
    assert shares[2] >= 0.9
    wrong = {name: Counter(result.outcome for result in found) for name, found in results.items()}
    assert wrong["retrying"]["duplicate_effect"] > wrong["careful"]["duplicate_effect"] == 0
    utility = {name: sum(result.utility for result in found) for name, found in results.items()}
    assert utility["careful"] > max(utility["naive"], utility["retrying"])


def test_the_retrying_agent_pays_twice_where_an_answer_is_lost() -> None:
    lost = {"fault": "timeout", "applied": 1.0, "when": "nth_call(1) & on('payments') & on('call')"}
    found = {}
    for name in AGENTS:
        one = episode(lost, seed=3)
        agent(name)(one.session)
        one.close()
        found[name] = one.result().outcome
    assert found == {"naive": "success", "retrying": "duplicate_effect", "careful": "success"}


def test_only_the_careful_agent_sees_a_lie() -> None:
    lie = {"fault": "lying-success", "when": "nth_call(1) & on('payments') & on('call')"}
    found = {}
    for name in AGENTS:
        one = episode(lie, seed=3)
        agent(name)(one.session)
        one.close()
        found[name] = one.result().outcome
    assert found == {"naive": "partial", "retrying": "partial", "careful": "success"}


def test_the_careful_agent_hands_over_what_it_cannot_do() -> None:
    one = episode({"fault": "revoked-scope", "when": "on('payments') & on('call')"}, seed=3)
    agent("careful")(one.session)
    assert one.result().outcome == "escalated"
