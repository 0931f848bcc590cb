"""The hindsight bound: nothing passes it, and where the best plan is plain it is reached."""

from __future__ import annotations

import numpy as np
import pytest

from brownout.envs.hindsight import first_calls, hindsight_bounds
from brownout.envs.router_core import RouterCore
from brownout.scenarios import builtin_scenarios
from brownout.trainers.baselines import applicable_baselines, make_baseline
from brownout.trainers.evaluation import evaluate, play
from router_support import tiny

EPISODES = 300


def bounds_of(core: RouterCore, seed: int = 0) -> np.ndarray:
    bounds = hindsight_bounds(core, EPISODES, seed)
    assert bounds is not None
    return bounds


@pytest.mark.parametrize("profile", ["clean", "production"])
@pytest.mark.parametrize("name", builtin_scenarios("router"))
def test_no_policy_passes_the_bound_in_any_episode(name: str, profile: str) -> None:
    core = RouterCore(name, 64, profile=profile)
    bounds = bounds_of(core)
    for baseline in applicable_baselines(core):
        utility = play(make_baseline(baseline, core), core, EPISODES).utility
        assert (utility <= bounds + 1e-9).all(), baseline
    assert (bounds >= 0.0).all(), "abstaining is always possible"


def test_first_calls_are_those_that_play_out() -> None:
    core = RouterCore("support-desk", EPISODES, profile="clean", split="eval")
    calls = first_calls(core, EPISODES, seed=3)
    for k, name in enumerate(core.config_names):
        core.seed(core.all_lanes, [3] * EPISODES)
        core.begin(core.all_lanes, np.arange(EPISODES))
        assert np.array_equal(core.keys, calls.keys)
        for action in (f"launch:{name}", "wait"):
            core.advance(np.full(EPISODES, core.action_names.index(action)))
        done = ~core.terminated  # neither too late nor too dear
        np.testing.assert_allclose(core.spend[done], calls.cost_usd[done, k])
        np.testing.assert_allclose(core.clock[done], calls.latency_s[done, k])
        core.advance(np.full(EPISODES, core.action_names.index("submit")), np.flatnonzero(~done))
        assert np.array_equal(core.components[done, 0] > 0, calls.right[done, k])
        assert 0.2 < calls.right[:, k].mean() < 0.95


def test_random_play_under_hostile_faults_stays_below_too() -> None:
    for intensity in (1.0, 3.0):
        core = RouterCore("support-desk", 64, profile="hostile", intensity=intensity)
        utility = play(make_baseline("random", core), core, EPISODES).utility
        assert (utility <= bounds_of(core) + 1e-9).all()


def test_a_sure_answer_is_the_bound_and_asking_for_it_reaches_it() -> None:
    """``sure`` is always right at a constant price, so the best plan is to ask it once and submit."""
    core = RouterCore(tiny(person=None, repair=None), 8)
    utilities = play(make_baseline("always-strongest", core), core, EPISODES).utility
    assert utilities == pytest.approx(bounds_of(core))


def test_the_bound_is_that_of_the_same_episodes() -> None:
    core = RouterCore("support-desk", 32)
    assert not np.array_equal(bounds_of(core), bounds_of(core, seed=1))
    assert np.array_equal(bounds_of(core), bounds_of(RouterCore("support-desk", 1)))


def test_faults_lower_the_bound() -> None:
    clean, faulted = (bounds_of(RouterCore("textbook", 1, profile=p)) for p in ("clean", "production"))
    assert faulted.mean() < clean.mean()
    assert (faulted <= clean + 1e-12).all()


def test_an_evaluation_reports_share_and_regret() -> None:
    table = evaluate(["baseline:cheapest-first", "baseline:null"], "support-desk", episodes=EPISODES)
    first, null = table.rows
    assert table.bound is not None
    assert first.share_of_bound == pytest.approx(first.utility.value / table.bound)
    assert null.regret is not None
    assert null.regret.value == pytest.approx(table.bound)
