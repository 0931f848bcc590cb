"""Baselines: legal everywhere, the same in any batch, and each does what its name says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from brownout.envs.optimum import WeitzmanPolicy
from brownout.envs.router_core import RouterCore
from brownout.envs.streams import stream_id, uniform
from brownout.errors import PolicyError
from brownout.faults import Status
from brownout.scenarios import builtin_scenarios, load_scenario
from brownout.trainers.baselines import BASELINES, applicable_baselines, make_baseline
from brownout.trainers.evaluation import action_draws, play
from router_support import begin, tiny

SCENARIOS = {name: load_scenario(name) for name in builtin_scenarios("router")}
CALL = {"cost_usd": 0.125, "latency_s": 4.0}


def desk(*faults: Any, judge: Any = None, skills: dict[str, float] | None = None, **changes: Any) -> dict[str, Any]:
    """Three configurations: ``weak`` is cheapest, ``strong`` dearest; nothing is left to chance."""
    skills = skills or {"weak": -50.0, "middle": 0.0, "strong": 50.0}
    prices = (0.0625, 0.125, 0.25)
    portfolio = {
        name: {"family": name, "skill": skill, "cost_usd": price, "latency_s": 4.0, "max_calls": 4}
        for (name, skill), price in zip(skills.items(), prices, strict=True)
    }
    if judge is not None:
        changes |= {f"judge__{name}": value for name, value in judge.items()}
    return tiny(*faults, portfolio=portfolio, limits__max_parallel=8, limits__max_calls=12, **changes)


def story(name: str, scenario: Any, seed: int = 0, profile: str = "production") -> list[str]:
    """The actions that a baseline takes in one episode."""
    core = RouterCore(scenario, 1, profile=profile)
    rule = make_baseline(name, core)
    core.seed(core.all_lanes, [seed])
    core.begin(core.all_lanes)
    actions = []
    while not (core.terminated[0] or core.truncated[0]) or not actions:
        action = rule.act_batch(core.observe(), core.mask(), action_draws(rule, core))
        actions.append(core.action_names[action[0]])
        core.advance(action)
    return actions


# ---------------------------------------------------------------- all of them


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_action_is_legal_and_every_episode_ends_by_itself(name: str, scenario: str) -> None:
    core = RouterCore(SCENARIOS[scenario], 96, profile="hostile")
    rule = make_baseline(name, core)
    core.seed(core.all_lanes, range(96))
    core.begin(core.all_lanes)
    ended = np.zeros(96, np.bool_)
    for _ in range(core.max_steps):
        observation, mask = core.observe(), core.mask()
        before = observation.copy(), mask.copy()
        action = rule.act_batch(observation, mask, action_draws(rule, core))
        assert (action.shape, action.dtype.kind) == ((96,), "i")
        assert mask[np.arange(96), action].all()
        assert np.array_equal(observation, before[0])
        assert np.array_equal(mask, before[1])
        core.advance(action, np.flatnonzero(ended) if ended.any() else None)
        assert not core.truncated[~ended].any(), "a rule of thumb must not run out of steps"
        ended |= core.terminated
        if ended.all():
            break
    assert ended.all()


@pytest.mark.parametrize("name", BASELINES)
def test_a_row_is_decided_alone(name: str) -> None:
    core = begin(SCENARIOS["support-desk"], 40)
    rule = make_baseline(name, core)
    for _ in range(4):
        observation, mask, draws = core.observe(), core.mask(), action_draws(rule, core)
        whole = rule.act_batch(observation, mask, draws)
        for i in range(0, 40, 7):
            one = slice(i, i + 1)
            alone = rule.act_batch(observation[one], mask[one], None if draws is None else draws[one])
            assert alone[0] == whole[i]
        core.advance(whole)


def test_names_and_summaries() -> None:
    assert list(BASELINES) == [
        "random", "always-cheapest", "always-strongest", "cheapest-first", "strongest-first", "best-of-n", "race-all",
        "greedy-index", "draft-and-repair", "retry-then-fallback", "always-escalate", "null",
    ]  # fmt: skip
    for name, rule in BASELINES.items():
        assert (rule.name, bool(rule.summary)) == (name, True)  # type: ignore[attr-defined]


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(PolicyError, match=r"no baseline 'race'.*Allowed: random, .*null"):
        make_baseline("race", begin(tiny(), 1))


def test_those_that_need_a_person_or_a_quality_are_left_out_without_one() -> None:
    graded = tiny(quality={}, judge__score_sd=0.1)
    assert applicable_baselines(begin(graded, 1)) == [name for name in BASELINES if name != "null"]
    usual = [name for name in BASELINES if name not in ("null", "draft-and-repair")]
    assert applicable_baselines(begin(tiny(), 1)) == usual
    assert "always-escalate" not in applicable_baselines(begin(tiny(person=None), 1))


# ---------------------------------------------------------------- each by itself


def test_random_is_uniform_over_legal_actions_and_keyed() -> None:
    core = begin(desk(), 30_000)
    rule = make_baseline("random", core)
    mask = core.mask()
    draws = uniform(core.keys, stream_id("policy.action"), 0)
    action = rule.act_batch(core.observe(), mask, draws)
    counts = np.bincount(action, minlength=mask.shape[1])
    legal = mask[0]
    assert (counts[~legal] == 0).all()
    expected = 30_000 / legal.sum()
    assert np.abs(counts[legal] - expected).max() < 4.5 * np.sqrt(expected)
    assert np.array_equal(rule.act_batch(core.observe(), mask, draws), action)
    with pytest.raises(PolicyError, match="baseline:random needs uniforms"):
        rule.act_batch(core.observe(), mask)


def test_one_configuration_and_no_judge() -> None:
    assert story("always-cheapest", desk()) == ["launch:weak", "wait", "submit"]
    assert story("always-strongest", desk()) == ["launch:strong", "wait", "submit"]


def test_strength_is_success_and_not_price() -> None:
    bargain = desk(skills={"weak": 50.0, "middle": -50.0, "strong": -40.0})
    for name in ("always-strongest", "strongest-first", "retry-then-fallback", "race-all"):
        assert story(name, bargain)[0] == "launch:weak", name
    assert story("always-cheapest", bargain)[0] == "launch:weak"


def test_one_configuration_is_retried_twice_on_visible_errors() -> None:
    down = {"fault": "server-error", "code": 500, "latency_s": 1.0, "when": "on('strong')"}
    tried = story("always-strongest", desk(down))
    assert tried == ["launch:strong", "wait"] * 3 + ["abstain"]
    once = {**down, "when": "nth_call(1) & on('strong')"}
    assert story("always-strongest", desk(once)) == ["launch:strong", "wait"] * 2 + ["submit"]


def test_cascades_climb_until_the_judge_accepts() -> None:
    steps = ["wait", "judge"]
    skills = {"weak": -50.0, "middle": -40.0, "strong": 50.0}
    assert story("cheapest-first", desk(skills=skills)) == [
        "launch:weak", *steps, "launch:middle", *steps, "launch:strong", *steps, "submit",
    ]  # fmt: skip
    assert story("strongest-first", desk(skills=skills)) == ["launch:strong", *steps, "submit"]
    fooled = desk(skills=skills, judge={"false_positive": 1.0})
    assert story("cheapest-first", fooled) == ["launch:weak", *steps, "submit"]


def test_a_cascade_at_its_end_submits_what_it_has_and_hands_over_what_it_has_not() -> None:
    hopeless = desk(skills={"weak": -7.0, "middle": -6.5, "strong": -6.0})  # right once in 400 calls
    assert story("cheapest-first", hopeless)[-2:] == ["judge", "submit"]
    assert story("strongest-first", hopeless)[0] == "launch:strong"
    dead = desk({"fault": "server-error", "code": 500, "when": "always"})
    assert story("cheapest-first", dead) == [
        "launch:weak", "wait", "launch:middle", "wait", "launch:strong", "wait", "escalate",
    ]  # fmt: skip


def test_best_of_n_asks_one_configuration_three_times_at_once() -> None:
    played = story("best-of-n", desk(judge={"true_positive": 0.0}))
    assert played == ["launch:strong"] * 3 + ["wait"] * 3 + ["judge"] * 3 + ["submit"]
    accepted = story("best-of-n", desk())
    assert accepted == ["launch:strong"] * 3 + ["wait"] * 3 + ["judge", "submit"]


def test_best_of_n_takes_the_best_value_and_not_the_strongest() -> None:
    skills = {"weak": 1.0, "middle": 1.2, "strong": 50.0}  # right in 73, 77 and 100 %
    assert story("best-of-n", desk(skills=skills, reward__per_usd=4.0))[0] == "launch:weak"
    assert story("best-of-n", desk(skills=skills, reward__per_usd=0.1))[0] == "launch:strong"


def test_race_all_launches_everything_and_cancels_the_losers() -> None:
    scenario = desk()
    scenario["portfolio"]["strong"]["latency_s"] = 2.0
    core = RouterCore(scenario, 1, profile="clean")
    rule = make_baseline("race-all", core)
    records = play(rule, core, 1)
    assert story("race-all", scenario) == ["launch:strong", "launch:middle", "launch:weak", "wait", "judge", "submit"]
    assert records.launches.tolist() == [1, 1, 1]
    # two seconds of race, one of the judge: the losers ran three quarters of their four seconds
    assert records.component("cost_usd")[0] == 0.25 + 0.03125 + 0.75 * (0.0625 + 0.125)


def test_retry_then_fallback_acts_on_visible_errors_only() -> None:
    wrong = desk(skills={"weak": -7.0, "middle": -6.5, "strong": -6.0})
    assert story("retry-then-fallback", wrong) == ["launch:strong", "wait", "submit"]  # no judge, no second thought
    down = {"fault": "server-error", "code": 503, "latency_s": 1.0, "when": "on('strong')"}
    assert story("retry-then-fallback", desk(down)) == [
        *["launch:strong", "wait"] * 3, "launch:middle", "wait", "submit",
    ]  # fmt: skip
    cooling = {**down, "retry_after_s": 9.0}
    assert story("retry-then-fallback", desk(cooling))[:5] == [
        "launch:strong", "wait", "wait", "launch:strong", "wait",
    ]  # fmt: skip
    dead = {**down, "when": "always"}
    played = story("retry-then-fallback", desk(dead))
    assert [played.count(f"launch:{name}") for name in ("strong", "middle", "weak")] == [3, 3, 3]
    assert played[-1] == "escalate"


def test_escalate_and_null() -> None:
    assert story("always-escalate", desk()) == ["escalate"]
    assert story("null", desk()) == ["abstain"]
    for scenario in SCENARIOS.values():
        core = RouterCore(scenario, 64)
        assert play(make_baseline("null", core), core, 64).utility.tolist() == [0.0] * 64


# ---------------------------------------------------------------- the index rule


def test_greedy_index_plays_weitzman_on_independent_boxes() -> None:
    core = RouterCore(SCENARIOS["textbook"], 256, profile="clean", split="eval")
    mine = play(make_baseline("greedy-index", core), core, 4000)
    best = play(WeitzmanPolicy(core), core, 4000)
    assert np.array_equal(mine.utility, best.utility)
    assert np.array_equal(mine.launches, best.launches)


def test_greedy_index_asks_what_is_worth_its_price_and_stops() -> None:
    assert story("greedy-index", desk(), profile="clean") == ["launch:strong", "wait", "judge", "submit"]
    dear = desk(person=None, reward__per_usd=50.0)
    assert story("greedy-index", dear, profile="clean") == ["abstain"]
    cheap_person = desk(reward__per_usd=50.0, person__cost_usd=0.001, person__latency_s=1.0)
    assert story("greedy-index", cheap_person, profile="clean") == ["escalate"]


def test_greedy_index_learns_from_failures() -> None:
    """A strongly correlated repeat is not worth a second try; an independent one is."""
    fixed: dict[str, Any] = {
        "skills": {"weak": -60.0, "middle": -60.0, "strong": 0.0}, "person": None, "judge": {"cost_usd": 0.0},
        "reward__per_usd": 1.0, "reward__per_s": 0.0,
    }  # fmt: skip
    tries = {}
    for sd in (0.0, 30.0):
        scenario = desk(**fixed, tasks__configuration_sd=sd)
        stories = [story("greedy-index", scenario, seed, profile="clean") for seed in range(12)]
        tries[sd] = max(played.count("launch:strong") for played in stories)
    assert tries == {0.0: 4, 30.0: 1}


def test_greedy_index_waits_out_a_retry_time() -> None:
    down = {"fault": "server-error", "code": 503, "latency_s": 1.0, "retry_after_s": 50.0, "when": "on('strong')"}
    core = begin(desk(down, person=None), 1)
    rule = make_baseline("greedy-index", core)
    for _ in range(2):
        core.advance(rule.act_batch(core.observe(), core.mask()))
    assert core.conf[0, 4].max() == Status.UNAVAILABLE
    action = core.action_names[rule.act_batch(core.observe(), core.mask())[0]]
    assert action != "launch:strong"
