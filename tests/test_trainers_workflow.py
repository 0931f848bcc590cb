"""Evaluation, training and the adapters take a workflow wherever they take a router."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import brownout
from brownout.envs.cores import make_core, make_env, make_lanes
from brownout.envs.workflow import WorkflowEnv, WorkflowVectorEnv
from brownout.errors import PolicyError
from brownout.scenarios import load_scenario
from brownout.trainers.baselines import applicable_baselines, make_baseline
from brownout.trainers.checking import check_scenario
from brownout.trainers.evaluation import play
from brownout.trainers.narrate import tell
from workflow_support import tiny_workflow


def test_the_factory_knows_both_environments() -> None:
    assert isinstance(make_env("refund"), WorkflowEnv)
    assert isinstance(make_lanes("refund", 3), WorkflowVectorEnv)
    assert type(make_core("textbook", 2)).__name__ == "RouterCore"


def test_an_evaluation_is_the_same_at_any_number_of_lanes() -> None:
    rivals = ["baseline:playbook", "baseline:happy-path", "baseline:random"]
    tables = [brownout.evaluate(rivals, "claim-intake", episodes=200, lanes=lanes) for lanes in (7, 64)]
    for a, b in zip(tables[0].rows, tables[1].rows, strict=True):
        assert a.records is not None
        assert b.records is not None
        assert np.array_equal(a.records.utility, b.records.utility)
        assert np.array_equal(a.records.outcome, b.records.outcome)
    first = tables[0].rows[0]
    assert set(first.launches) == set(make_core("claim-intake").usage_names)
    assert sum(first.launches.values()) == pytest.approx(1.0)
    assert (tables[0].ceiling, tables[0].bound_kind) == (None, "oracle")
    assert tables[0].bound == tables[1].bound


def test_usage_counts_the_calls_of_each_service() -> None:
    core = make_core(tiny_workflow(), 4, profile="clean")
    records = play(make_baseline("happy-path", core), core, 10)
    usage = dict(zip(core.usage_names, records.launches.tolist(), strict=True))
    assert usage == {"crm": 30, "shop": 10, "bank": 10, "cheap": 0, "strong": 0, "auth": 0, "requester": 0, "person": 0}


@pytest.mark.parametrize("name", applicable_baselines(make_core("refund")))
def test_baselines_act_legally_and_end(name: str) -> None:
    core = make_core("refund", 64, profile="hostile")
    core.seed(core.all_lanes, range(64))
    core.begin(core.all_lanes)
    rule = make_baseline(name, core)
    rng = np.random.default_rng(0)
    open_ = np.ones(64, np.bool_)
    while open_.any():
        mask = core.mask()
        actions = rule.act_batch(core.observe(), mask, rng.random(64))
        assert mask[np.arange(64), actions].all()
        core.advance(actions, np.flatnonzero(~open_))
        open_ &= ~(core.terminated | core.truncated)


def test_double_check_is_more_careful_than_the_playbook_for_less() -> None:
    """In the default scenario: fewer wrong effects, which nobody notices, and less money."""
    table = brownout.evaluate(["baseline:double-check", "baseline:playbook"], "refund", episodes=4000)
    ours, theirs = table.rows
    assert ours.outcomes["silent_garbage"] < 0.6 * theirs.outcomes["silent_garbage"]
    assert ours.cost_usd.high < theirs.cost_usd.low
    assert ours.success.value > theirs.success.value
    assert ours.outcomes["duplicate_effect"] == 0.0


def test_double_check_clears_its_head_and_reads_again_before_it_writes() -> None:
    core = make_core("refund", 1, profile="clean", split="eval")
    lines = tell(make_baseline("double-check", core), core, 0, 3).lines
    acts = [line.split("  ")[-1].rpartition(":")[0] for line in lines]
    pay = acts.index("call:cheap refund")
    assert acts[pay - 3 : pay + 2] == [
        "validate:cheap refund", "resync", "fetch customer", "call:cheap refund", "verify refund",
    ]  # fmt: skip
    policy = acts.index("call:cheap policy")
    assert acts[policy - 3 : policy] == ["validate:cheap policy", "validate:strong policy", "resync"]


def test_an_unknown_baseline_is_refused() -> None:
    with pytest.raises(PolicyError, match="did you mean 'playbook'"):
        make_baseline("play-book", make_core("refund"))


def test_an_episode_can_be_told() -> None:
    core = make_core("refund", 1, profile="hostile", split="eval")
    story = tell(make_baseline("playbook", core), core, 0, 3)
    assert story.lines[-1].split()[-2:]
    assert story.totals["latency_s"] == pytest.approx(core.clock[0])
    assert story.injections


def test_a_check_covers_every_profile() -> None:
    report = check_scenario("refund", episodes=200)
    assert report.ok, report.to_text()
    assert [profile.profile for profile in report.profiles] == ["clean", "production", "hostile"]
    assert all(profile.calls > 200 for profile in report.profiles)


def test_training_runs_and_its_policy_can_be_loaded(tmp_path: Path) -> None:
    result = brownout.train("refund", steps=20_000, seed=1, out=tmp_path / "run")
    assert result.steps >= 20_000
    policy = brownout.load_policy(tmp_path / "run")
    table = brownout.evaluate([policy, "baseline:playbook"], "refund", episodes=50)
    assert len(table.rows) == 2


def test_progress_is_paid_and_taken_back() -> None:
    """With a discount of 1 the shaping of a whole episode adds up to nothing."""
    scenario = load_scenario(tiny_workflow() | {"shaping": {"kind": "progress", "weight": 0.6}})
    shaped, plain = (make_lanes(scenario, 2, profile="clean", shaping_gamma=gamma) for gamma in (1.0, None))
    names = list(shaped.action_names)
    paid = []
    for env in (shaped, plain):
        env.reset(seed=0)
        actions = ("fetch", "call:cheap", "fetch", "call:cheap", "call:cheap", "finish")
        paid.append([env.step(np.full(2, names.index(action)))[1][0] for action in actions])
    assert paid[1] == [0.0] * 5 + [1.0]
    assert paid[0] == pytest.approx([0.0, 0.2, 0.0, 0.2, 0.2, 1.0 - 0.6])


def test_stable_baselines3_takes_it() -> None:
    pytest.importorskip("stable_baselines3")
    from brownout.trainers.sb3 import make_sb3

    env: Any = make_sb3("refund", 4, seed=0)
    observation = env.reset()
    assert observation.shape == (4, len(make_core("refund").observation_columns))
    _, reward, done, infos = env.step(np.zeros(4, np.int64))
    assert (len(reward), len(done), len(infos)) == (4, 4, 4)


def test_rllib_takes_it() -> None:
    from brownout.trainers.rllib import make_rllib

    env = make_rllib({"scenario": "refund"})
    observation, _ = env.reset(seed=0)
    assert set(observation) == {"observations", "action_mask"} or "action_mask" in observation
    lanes = make_rllib({"scenario": "refund", "num_envs": 3})
    observation, _ = lanes.reset(seed=0)
    assert observation["action_mask"].shape == (3, 18)
