"""The curriculum: who has faults, how strong, what comes again, and that it continues bit for bit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import brownout
from brownout.envs.hindsight import hindsight_of
from brownout.envs.router import RouterVectorEnv
from brownout.envs.router_core import RouterCore
from brownout.envs.streams import episode_keys, stream_id, uniform
from brownout.errors import FaultError, PolicyError
from brownout.trainers.api import Task
from brownout.trainers.artefact import load_policy, read_arrays
from brownout.trainers.baselines import make_baseline
from brownout.trainers.curriculum import Curriculum, Orders, read_curriculum
from brownout.trainers.evaluation import play
from brownout.trainers.policy import Policy, initial_weights
from brownout.trainers.ppo import PPOConfig
from brownout.trainers.replay import ReplayBuffer, positive_value_loss
from brownout.trainers.rollout import Collector, Episodes, Rollout
from brownout.trainers.training import train_loop
from toy_lanes import ToyLanes

SMALL = PPOConfig(lanes=32, rollout_steps=16, minibatch=256, hidden=(8,), steps=6 * 512)


def policy_for(env: Any) -> Policy:
    return Policy(initial_weights(len(env.observation_columns), len(env.action_names), (8,), 3), None)


def collected(config: PPOConfig, orders: list[Orders], scenario: str = "support-desk", **env: Any) -> list[Rollout]:
    lanes = RouterVectorEnv(config.lanes, scenario, **env)
    collector = Collector.of(lanes, config)
    return [collector.collect(policy_for(lanes), i, order) for i, order in enumerate(orders)]


def all_episodes(rollouts: list[Rollout]) -> Episodes:
    return Rollout.concatenate(rollouts).episodes if len(rollouts) > 1 else rollouts[0].episodes


# ---------------------------------------------------------------- schedules


def test_whether_an_episode_has_faults_depends_on_seed_and_index_and_the_share_alone() -> None:
    config = replace(SMALL, fault_share="0.5")
    for share in (0.3, 0.7):
        ends = all_episodes(collected(config, [Orders(share, 0.8)] * 4))
        drawn = uniform(episode_keys(ends.seed, ends.number, "train"), stream_id("curriculum.faulted"))
        np.testing.assert_array_equal(ends.scale, np.where(drawn < share, 0.8, 0.0))
        assert 0 < (ends.scale > 0).mean() < 1
        assert len(ends) > 100


def test_an_episode_without_faults_is_the_clean_episode() -> None:
    """Collected under share 0 of production and under the clean profile: the same bits, and others at share 1."""
    config = replace(SMALL, fault_share="0.5")
    healthy, faulted = (collected(config, [Orders(share, 1.0)] * 2) for share in (0.0, 1.0))
    clean = collected(SMALL, [Orders()] * 2, profile="clean")
    plain = collected(SMALL, [Orders()] * 2)
    for some, others in ((healthy, clean), (faulted, plain)):
        for one, other in zip(some, others, strict=True):
            assert one.observations.tobytes() == other.observations.tobytes()
            assert one.advantages.tobytes() == other.advantages.tobytes()
    assert healthy[0].observations.tobytes() != faulted[0].observations.tobytes()


def test_the_schedule_moves_with_the_steps_and_is_recorded(tmp_path: Path) -> None:
    records: list[dict[str, Any]] = []
    result = brownout.train(
        "support-desk", steps=SMALL.steps, config=SMALL, out=tmp_path, evaluate_every=100,
        curriculum={"fault_share": "0/1@0.5", "intensity": "0.5:1.5@1"}, callback=lambda r, t: records.append(r),
    )  # fmt: skip
    assert [r["curriculum"]["fault_share"] for r in records] == [0, 0, 0, 1, 1, 1]
    # to the next multiple of 0.05
    assert [r["curriculum"]["intensity"] for r in records] == pytest.approx([0.5, 0.65, 0.85, 1.0, 1.15, 1.35])
    assert records[0]["curriculum"]["faulted"] == 0.0
    assert records[-1]["curriculum"]["faulted"] > 0.5
    card = load_policy(tmp_path).card
    assert card is not None
    assert card.training["curriculum"]["fault_share"] == "0/1@0.5"
    assert "timeout#0" in card.training["faults"]
    assert result.steps == SMALL.steps


# ---------------------------------------------------------------- replay


def test_the_worst_come_again_first_and_the_buffer_keeps_no_episode_twice() -> None:
    buffer = ReplayBuffer(3, temperature=1.0, staleness=0.0)
    buffer.add(np.array([1, 2, 3, 4], np.uint64), np.array([0, 0, 0, 7]), np.array([0.1, 0.9, 0.5, 0.7]), 0)
    assert buffer.seeds.tolist() == [2, 4, 3], "the lowest score went"
    np.testing.assert_allclose(np.diff(buffer.cumulative(5), prepend=0), np.array([6, 3, 2]) / 11)
    buffer.add(np.array([2, 4], np.uint64), np.array([0, 0]), np.array([0.2, 0.6]), 1)
    assert list(zip(buffer.seeds.tolist(), buffer.episodes.tolist(), buffer.scores.tolist(), strict=True)) == [
        (4, 7, 0.7), (4, 0, 0.6), (3, 0, 0.5),
    ], "2 has a new, lower score and went; 4 has two episodes"  # fmt: skip


def test_staleness_draws_what_was_not_played_for_long() -> None:
    buffer = ReplayBuffer(10, temperature=1.0, staleness=1.0)
    buffer.add(np.array([1], np.uint64), np.array([0]), np.array([1.0]), 0)
    buffer.add(np.array([2], np.uint64), np.array([0]), np.array([9.0]), 3)
    chance = dict(zip(buffer.seeds.tolist(), np.diff(buffer.cumulative(4), prepend=0), strict=True))
    assert chance == pytest.approx({1: 0.8, 2: 0.2})
    assert ReplayBuffer(10, 1.0, 0.1).cumulative(4).size == 0


def test_positive_value_loss_is_the_mean_gain_of_an_episode_over_rollouts() -> None:
    gain, length = np.zeros(2), np.zeros(2, np.int64)
    advantages = np.array([[1.0, -1.0], [3.0, 5.0]])
    ended = np.array([[False, True], [False, False]])
    assert positive_value_loss(advantages, ended, gain, length).tolist() == [0.0]
    later = np.array([[-2.0, 1.0]])
    scores = positive_value_loss(later, np.array([[True, True]]), gain, length)
    assert scores.tolist() == pytest.approx([4 / 3, 3.0])
    assert gain.tolist() == [0.0, 0.0]


def test_regret_is_the_bound_minus_the_utility_of_that_very_episode() -> None:
    config = replace(SMALL, replay=0.5)
    orders = Orders(0.5, 0.75, 0.0)
    rollouts = collected(config, [orders] * 3, "textbook")
    core = RouterCore("textbook", 1)
    for ends in (r.episodes for r in rollouts):
        bounds = hindsight_of(core, ends.seed, ends.number, ends.scale)
        assert bounds is not None
        np.testing.assert_allclose(ends.score, bounds - ends.utility, atol=1e-9)
        assert (ends.score >= -1e-9).all()
    single = np.concatenate(
        [hindsight_of(RouterCore("textbook", 1, intensity=s), np.full(9, 4), np.arange(9), np.ones(9))
         for s in (0.0, 0.75)]  # type: ignore[misc]
    )  # fmt: skip
    both = hindsight_of(core, np.full(18, 4), np.tile(np.arange(9), 2), np.repeat([0.0, 0.75], 9))
    np.testing.assert_array_equal(both, single)


def test_an_episode_that_comes_again_is_the_same_episode() -> None:
    config = replace(SMALL, replay=1.0)
    wanted = Orders(1.0, 1.0, 1.0, np.array([77], np.uint64), np.array([5]), np.ones(1))
    rollouts = collected(config, [wanted] * 3)
    again = [r.episodes for r in rollouts]
    seeds = np.concatenate([e.seed[e.replayed] for e in again])
    assert len(seeds) > 50
    assert set(seeds.tolist()) == {77}
    assert {n for e in again for n in e.number[e.replayed].tolist()} == {5}
    core = RouterCore("support-desk", 1)
    core.seed(core.all_lanes, [77])
    core.begin(core.all_lanes, 5)
    first = core.observe()[0]
    there = (np.concatenate([r.observations.reshape(-1, len(first)) for r in rollouts]) == first).all(axis=1)
    assert there.sum() >= len(seeds)


@pytest.mark.parametrize("score", ["regret", "value-loss"])
def test_replay_fills_the_buffer_and_plays_from_it(score: str) -> None:
    records: list[dict[str, Any]] = []
    brownout.train(
        "support-desk", steps=SMALL.steps, config=SMALL, evaluate_every=100, callback=lambda r, t: records.append(r),
        curriculum={"replay": 0.5, "replay_size": 50, "replay_score": score},
    )  # fmt: skip
    shares = [r["replay"]["share"] for r in records]
    assert shares[0] == 0.0
    assert 0.3 < np.mean(shares[2:]) < 0.7
    assert records[-1]["replay"]["size"] == 50
    assert records[-1]["replay"]["kept_score"] > records[-1]["replay"]["score"]


# ---------------------------------------------------------------- exactness


def test_a_training_with_schedules_and_replay_continues_bit_for_bit(tmp_path: Path) -> None:
    config = replace(SMALL, fault_share="0.2:1@0.8", intensity="0.5:2@1", replay=0.4, replay_size=64)
    task = Task(brownout.load_scenario("support-desk"))
    make = lambda lanes: task.make_env(lanes)  # noqa: E731
    train_loop(make, config, out=tmp_path / "whole")
    train_loop(make, config, out=tmp_path / "parts", callback=lambda r, t: t.iteration >= 3)
    train_loop(make, config, out=tmp_path / "parts", resume=True)
    one, two = (read_arrays(tmp_path / name / "checkpoint.npz") for name in ("whole", "parts"))
    assert one.keys() == two.keys()
    assert {"replay.seeds", "lanes.chooser_home", "lanes.env.plan.scale"} <= one.keys()
    for name in one:
        if name not in ("seconds", "meta.json"):
            np.testing.assert_array_equal(one[name], two[name], err_msg=name)
    lines = [
        [{k: v for k, v in json.loads(line).items() if "seconds" not in k and "per_s" not in k}
         for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("whole", "parts")
    ]  # fmt: skip
    assert lines[0] == lines[1]


def test_two_trainings_are_equal_and_two_seeds_are_not() -> None:
    config = replace(SMALL, fault_share="0:1@1", replay=0.5)
    runs = [
        brownout.train("support-desk", config=config, steps=2048, seed=seed, evaluate_every=100).policy
        for seed in (0, 0, 1)
    ]
    weights = [run.weights["policy.0.weight"].tobytes() for run in runs]
    assert weights[0] == weights[1] != weights[2]


def test_defaults_leave_a_training_as_it_was() -> None:
    """A share of 1 at intensity 1 goes through the curriculum's machinery and changes no bit."""
    plain, through = (collected(SMALL, [Orders()] * 3), collected(replace(SMALL, replay=0.5), [Orders()] * 3))
    for one, other in zip(plain, through, strict=True):
        assert one.observations.tobytes() == other.observations.tobytes()
        assert one.episodes.utility.tobytes() == other.episodes.utility.tobytes()


# ---------------------------------------------------------------- windows


def test_a_window_keeps_training_and_selection_within_its_episodes() -> None:
    task = Task(brownout.load_scenario("support-desk"), window=(40, 60))
    env = task.make_env(32)
    collector = Collector.of(env, SMALL)
    ends = all_episodes([collector.collect(policy_for(env), i) for i in range(4)])
    assert set(ends.number.tolist()) == set(range(40, 60))
    assert len(set(zip(ends.seed.tolist(), ends.number.tolist(), strict=True))) == len(ends)


def test_play_can_begin_at_any_episode() -> None:
    actor = make_baseline("cheapest-first", RouterCore("support-desk", 1))
    whole, part = (play(actor, RouterCore("support-desk", n), e, first=f) for n, e, f in ((8, 30, 0), (3, 10, 20)))
    np.testing.assert_array_equal(whole.utility[20:], part.utility)
    np.testing.assert_array_equal(whole.group[20:], part.group)


# ---------------------------------------------------------------- refusals


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(PolicyError, match="split train, not 'eval'"):
        Collector.of(RouterVectorEnv(4, "support-desk", split="eval"), replace(SMALL, replay=0.5))
    with pytest.raises(PolicyError, match="does not let its episodes be chosen"):
        Collector.of(ToyLanes(4), replace(SMALL, fault_share="0.5"))
    lexicographic = brownout.load_scenario("support-desk", ["reward={kind: lexicographic}"])
    with pytest.raises(PolicyError, match="needs a hindsight bound"):
        Collector.of(RouterVectorEnv(4, lexicographic), replace(SMALL, replay=0.5, replay_score="regret"))
    Collector.of(RouterVectorEnv(4, lexicographic), replace(SMALL, replay=0.5))
    with pytest.raises(FaultError, match="no fault 'nonsense'"):
        brownout.train("support-desk", config=SMALL, without_faults=["nonsense"])


def test_a_curriculum_file_is_read_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "curriculum.yaml"
    path.write_text("fault_share: '0:1@0.5'\nintensity: {linear: [[0, 0.25], [0.6, 1.5]]}\nreplay: 0.3\n")
    assert PPOConfig.of(read_curriculum(path)).intensity == "0.25:1.5@0.6"
    path.write_text("lanes: 3\n")
    with pytest.raises(PolicyError, match=r"curriculum.yaml: unknown option 'lanes'; allowed: fault_share, intensity"):
        read_curriculum(path)
    path.write_text("[1, 2]\n")
    with pytest.raises(PolicyError, match="maps options to values"):
        read_curriculum(path)
    with pytest.raises(PolicyError, match="not a readable YAML file"):
        read_curriculum(tmp_path / "none.yaml")


def test_the_learner_s_side_survives_a_rollout_without_an_ended_episode() -> None:
    curriculum = Curriculum(replace(SMALL, replay=0.5))
    curriculum.orders(0.0, 0)
    empty = np.zeros(0, np.int64)
    record = curriculum.learn(Episodes(np.zeros(0), empty, empty, np.zeros((0, 5))), 0)
    assert record["replay"]["size"] == 0
