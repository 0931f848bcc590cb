"""Rollout actors: restarts, hangs, errors, and never the same data twice."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ray_support
import toy_lanes
from brownout.errors import PolicyError, WorkerError
from brownout.trainers.artefact import load_policy
from brownout.trainers.collectors import CollectorPool
from brownout.trainers.distributed import train_collectors
from brownout.trainers.policy import Policy, initial_weights
from brownout.trainers.ppo import PPOConfig
from brownout.trainers.ray_session import Place
from brownout.trainers.rollout import Collector
from brownout.trainers.training import read_checkpoint
from ray_support import ToyTask
from toy_lanes import ToyLanes

CONFIG = PPOConfig(lanes=32, rollout_steps=16, minibatch=256, hidden=(16, 16), steps=12 * 512)
POLICY = Policy(initial_weights(3, 3, (16, 16)))

pytestmark = pytest.mark.ray


@pytest.fixture(autouse=True)
def _cluster(ray_cluster: None) -> Iterator[None]:
    """Workers cannot import the modules of the tests, so these travel by value."""
    from ray import cloudpickle

    for module in (ray_support, toy_lanes):
        cloudpickle.register_pickle_by_value(module)
    yield
    for module in (ray_support, toy_lanes):
        cloudpickle.unregister_pickle_by_value(module)


@pytest.fixture
def pool() -> Iterator[Any]:
    pools: list[CollectorPool] = []

    def make(task: ToyTask) -> CollectorPool:
        import ray

        pools.append(CollectorPool(ray, Place.of(task, 60.0), CONFIG, 2, timeout_s=60.0))
        return pools[-1]

    yield make
    for one in pools:
        one.close()


def chances(observations: Any) -> set[float]:
    """The success probability that each episode shows stands for the episode."""
    return set(observations[..., 0].ravel().tolist())


def test_a_pool_plays_what_collectors_in_this_process_play(pool: Any) -> None:
    parts = [Collector(ToyLanes(16), steps=16, seed=CONFIG.seed, rank=rank, gamma=CONFIG.gamma) for rank in (0, 1)]
    remote = pool(ToyTask())
    rollouts = [remote.collect(POLICY, iteration) for iteration in range(3)]
    for iteration, rollout in enumerate(rollouts):
        for rank, part in enumerate(parts):
            mine = part.collect(POLICY, iteration)
            lanes = slice(16 * rank, 16 * (rank + 1))
            for name in ("observations", "masks", "actions", "log_probs", "advantages"):
                np.testing.assert_array_equal(getattr(rollout, name)[:, lanes], getattr(mine, name), err_msg=name)
        assert rollout.observations.flags.writeable
        assert not chances(rollout.observations[:, :16]) & chances(rollout.observations[:, 16:])
    assert remote.figures() == {"workers_replaced": 0}


def test_a_killed_collector_is_replaced_and_repeats_nothing(pool: Any) -> None:
    import ray

    remote = pool(ToyTask())
    before = [remote.collect(POLICY, iteration) for iteration in range(3)]
    os.kill(ray.get(remote.workers[1].identity.remote()), signal.SIGKILL)
    after = [remote.collect(POLICY, iteration) for iteration in (3, 4)]
    figures = remote.figures()
    assert figures["workers_replaced"] == 1
    assert len(figures["notes"]) == 1
    assert "collector 1 was lost and replaced in iteration 3" in figures["notes"][0]
    assert remote.figures() == {"workers_replaced": 1}
    lost = slice(16, 32)
    old = set().union(*(chances(rollout.observations[:, lost]) for rollout in before))
    new = set().union(*(chances(rollout.observations[:, lost]) for rollout in after))
    assert len(old) > 100
    assert not old & new
    for rollout in after:
        assert rollout.steps == CONFIG.batch
        assert len({tuple(lane) for lane in rollout.actions[:, lost].T.tolist()}) > 8
        assert not (rollout.actions[:, lost] == before[0].actions[:, lost]).all()
    # The other collector went on as if nothing had happened.
    alone = Collector(ToyLanes(16), steps=16, seed=CONFIG.seed, rank=0, gamma=CONFIG.gamma)
    mine = [alone.collect(POLICY, iteration) for iteration in range(4)]
    np.testing.assert_array_equal(after[0].observations[:, :16], mine[3].observations)


@pytest.mark.parametrize("stopped", [False, True], ids=["asleep", "frozen"])
def test_a_hung_collector_is_replaced(pool: Any, tmp_path: Path, stopped: bool) -> None:
    import ray

    # The twentieth step of the first to reach it comes in the second rollout.
    remote = pool(ToyTask() if stopped else ToyTask(str(tmp_path), "hang"))
    first = remote.collect(POLICY, 0)
    remote.timeout_s = 2.0
    if stopped:
        os.kill(ray.get(remote.workers[0].identity.remote()), signal.SIGSTOP)
    second = remote.collect(POLICY, 1)
    figures = remote.figures()
    assert figures["workers_replaced"] >= 1  # more only on a machine so busy that nobody answers in time
    assert "hung in iteration 1: no answer for 2 s" in figures["notes"][0]
    assert second.steps == CONFIG.batch
    assert any(
        not chances(first.observations[:, lanes]) & chances(second.observations[:, lanes])
        for lanes in (slice(0, 16), slice(16, 32))
    )


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        ("raise", "collector [01], iteration 1: ZeroDivisionError: a bug in an environment"),
        ("nan", "collector [01], iteration 1: rank [01], iteration 1: reward nan in lane 0"),
    ],
)
def test_an_error_in_a_rollout_is_typed_and_not_retried(pool: Any, tmp_path: Path, trouble: str, message: str) -> None:
    remote = pool(ToyTask(str(tmp_path), trouble))
    remote.collect(POLICY, 0)
    with pytest.raises(WorkerError, match=message):
        remote.collect(POLICY, 1)
    assert remote.figures() == {"workers_replaced": 0}


def test_killed_in_the_middle_the_training_completes_and_says_so(tmp_path: Path) -> None:
    task = ToyTask(str(tmp_path), "kill", after=40)
    records: list[dict[str, Any]] = []
    result = train_collectors(
        task, CONFIG, 2, out=tmp_path / "run", callback=lambda record, trainer: records.append(record), timeout_s=60
    )
    assert (tmp_path / "kill-0").exists()
    assert result.steps == CONFIG.steps
    assert [record["workers_replaced"] for record in records] == [0, 0] + [1] * 10
    assert any("was lost and replaced in iteration 2" in warning for warning in result.warnings)
    policy = load_policy(tmp_path / "run")
    assert task.score(policy) == pytest.approx(result.best_score)


def test_used_up_replacements_end_with_a_usable_checkpoint(tmp_path: Path) -> None:
    task = ToyTask(str(tmp_path), "kill", times=9, after=40)
    with pytest.raises(WorkerError, match=r"was lost in iteration \d and its replacements \(1\) are used up; .*resume"):
        train_collectors(task, CONFIG, 1, out=tmp_path / "run", replacements=1, timeout_s=60)
    kept = int(read_checkpoint(tmp_path / "run" / "checkpoint.npz")[0]["counters"][0])
    assert kept == 4  # iterations 0, 1, then one restart, 2, 3
    result = train_collectors(ToyTask(), CONFIG, 1, out=tmp_path / "run", resume=True, timeout_s=60)
    assert (result.iterations, result.steps) == (12, CONFIG.steps)
    assert load_policy(tmp_path / "run").actions == 3


def test_equal_seeds_give_equal_weights_and_others_do_not() -> None:
    short = replace(CONFIG, steps=4 * 512)
    one, two = (train_collectors(ToyTask(), short, 2, timeout_s=60).policy for _ in range(2))
    other = train_collectors(ToyTask(), replace(short, seed=1), 2, timeout_s=60).policy
    for name, weight in one.weights.items():
        np.testing.assert_array_equal(weight, two.weights[name], err_msg=name)
    assert (one.weights["policy.0.weight"] != other.weights["policy.0.weight"]).any()


def test_more_collectors_than_lanes_are_refused() -> None:
    with pytest.raises(PolicyError, match="collectors: 33, must be from 1 to the number of lanes, 32"):
        train_collectors(ToyTask(), CONFIG, 33)
