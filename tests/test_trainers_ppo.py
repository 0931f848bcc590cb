"""The learner: it learns, it is deterministic, it equals its NumPy twin, and ranks agree."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brownout.envs.streams import uniform
from brownout.errors import PolicyError, WorkerError
from brownout.trainers.imitation import Lesson
from brownout.trainers.policy import MASKED, Moments, Policy
from brownout.trainers.ppo import AllReduce, Learner, PPOConfig
from brownout.trainers.rollout import Collector, Rollout, lane_keys
from toy_lanes import ToyLanes, optimum

SMALL = PPOConfig(lanes=64, rollout_steps=16, minibatch=256, hidden=(16, 16), steps=100_000)


def train(config: PPOConfig, iterations: int, comm: Any = None) -> tuple[Learner, Rollout]:
    learner = Learner(config, 3, 3, comm)
    rank = 0 if comm is None else comm.rank
    collector = Collector(ToyLanes(config.lanes), steps=config.rollout_steps, seed=config.seed, rank=rank)
    rollout = collector.collect(learner.policy(), 0)
    learner.observe(rollout.observations)
    for i in range(1, iterations):
        rollout = collector.collect(learner.policy(), i)
        learner.update(rollout, i)
        learner.observe(rollout.observations)
    return learner, rollout


def greedy_utility(policy: Policy, episodes: int = 20_000) -> float:
    env = ToyLanes(episodes)
    observation, mask = env.lane_reset(lane_keys("evaluation", 0, 0, 0, episodes))
    total, running = np.zeros(episodes), np.ones(episodes, dtype=bool)
    for _ in range(4):
        step = env.lane_step(policy.act_batch(observation, mask))
        total += np.where(running, step.reward, 0.0)
        running[step.ended] = False
        observation, mask = step.observation, step.mask
    assert not running.any()
    return float(total.mean())


def test_it_learns_the_toy_to_its_optimum() -> None:
    learner, _ = train(PPOConfig(lanes=256), 40)
    reached = greedy_utility(learner.policy())
    assert reached > optimum() - 0.01
    assert greedy_utility(Learner(PPOConfig(), 3, 3).policy()) < 0.65, "or learning shows nothing"


def test_same_seed_same_weights_other_seed_other_weights() -> None:
    one, two, other = (
        train(SMALL, 4)[0],
        train(SMALL, 4)[0],
        train(PPOConfig.of(vars(SMALL) | {"seed": 1}), 4)[0],
    )
    for name, value in one.get_state().items():
        np.testing.assert_array_equal(value, two.get_state()[name])
    assert (one.get_state()["theta"] != other.get_state()["theta"]).mean() > 0.5


def test_values_and_logits_of_torch_and_numpy_agree() -> None:
    import torch

    learner, rollout = train(SMALL, 6)
    policy = learner.policy()
    rows = rollout.observations.reshape(-1, 3)
    assert policy.normaliser is not None
    x = torch.from_numpy(policy.normaliser(rows))
    with torch.no_grad():
        logits = learner._forward("policy", x).numpy()
        values = learner._forward("value", x)[:, 0].numpy()
    np.testing.assert_allclose(policy.logits(rows), logits, atol=1e-5)
    in_utility = values * learner.returns.deviation[0] + learner.returns.mean[0]
    np.testing.assert_allclose(policy.values(rows), in_utility, atol=1e-5)
    mask = rollout.masks.reshape(-1, 3)
    assert (policy.logits(rows, mask)[~mask] == MASKED).all()


@pytest.mark.parametrize("lesson", [None, Lesson(0.0, False, 0.5), Lesson(1.0, True, 1.0)])
def test_the_gradient_of_the_loss_equals_finite_differences(lesson: Lesson | None) -> None:
    """Covers the NumPy tanh inside autograd, the mask, the clipping, the entropy and the teacher."""
    import torch

    learner, rollout = train(SMALL, 3)
    rows = slice(0, 40)
    normaliser = learner.policy().normaliser
    assert normaliser is not None
    batch = [
        torch.from_numpy(normaliser(rollout.observations.reshape(-1, 3)[rows])),
        torch.from_numpy(rollout.masks.reshape(-1, 3)[rows]),
        torch.from_numpy(rollout.actions.reshape(-1, 1)[rows]),
        torch.from_numpy(rollout.log_probs.ravel()[rows]),
        torch.from_numpy(rollout.advantages.ravel()[rows]),
        torch.from_numpy(rollout.returns.ravel()[rows]),
        torch.from_numpy(rollout.masks.reshape(-1, 3)[rows].argmax(axis=1)[:, None]),  # advice: the first allowed
    ]
    theta, gradient = learner._theta, learner._theta.grad
    assert gradient is not None
    gradient.zero_()
    learner._loss(batch, 0.3, lesson)[0].backward()
    analytic = gradient.numpy().copy()
    assert np.abs(analytic).max() > 0.01
    largest = np.argsort(-np.abs(analytic))[:12]
    for i in [int(i) for i in largest] + [5, 60, 400]:
        ends = []
        for step in (2e-2, -2e-2):
            with torch.no_grad():
                theta[i] += step
            ends.append(float(learner._loss(batch, 0.3, lesson)[0].detach()))
            with torch.no_grad():
                theta[i] -= step
        assert (ends[0] - ends[1]) / 4e-2 == pytest.approx(analytic[i], abs=2e-3, rel=2e-2)


def test_new_return_statistics_do_not_move_the_values() -> None:
    learner, rollout = train(SMALL, 4)
    rows = rollout.observations.reshape(-1, 3)
    before = learner.policy().values(rows)
    learner._rescale_values(np.full((5000, 1), 40.0, dtype=np.float32))
    assert learner.returns.mean[0] > 10
    np.testing.assert_allclose(learner.policy().values(rows), before, atol=1e-3)


def test_state_continues_exactly_and_refuses_another_size() -> None:
    learner, rollout = train(SMALL, 3)
    copy = Learner(SMALL, 3, 3)
    copy.set_state(learner.get_state())
    for one in (learner, copy):
        one.update(rollout, 3)
    np.testing.assert_array_equal(learner.get_state()["theta"], copy.get_state()["theta"])
    np.testing.assert_array_equal(learner.get_state()["adam.exp_avg"], copy.get_state()["adam.exp_avg"])
    with pytest.raises(PolicyError, match="4 columns"):
        Learner(SMALL, 4, 3).set_state(learner.get_state())


def test_a_warm_start_acts_like_the_policy_it_came_from() -> None:
    policy = train(SMALL, 4)[0].policy()
    learner = Learner(SMALL, 3, 3)
    learner.load_policy(policy)
    rows = 2 * uniform(lane_keys("rows", 0, 0, 0, 90).reshape(30, 3), 0).astype(np.float32)
    np.testing.assert_allclose(learner.policy().logits(rows), policy.logits(rows), atol=1e-5)
    np.testing.assert_allclose(learner.policy().values(rows), policy.values(rows), atol=1e-5)
    with pytest.raises(PolicyError, match="layers"):
        Learner(PPOConfig(hidden=(8,)), 3, 3).load_policy(policy)


class Pair:
    """Two ranks as threads; averages by a barrier."""

    def __init__(self) -> None:
        self.barrier = threading.Barrier(2, timeout=60)
        self.box: list[Any] = [None, None]

    def end(self, rank: int) -> Any:
        pair = self

        class End:
            size = 2

            def __init__(self) -> None:
                self.rank = rank

            def mean_(self, arrays: Sequence[Any]) -> None:
                pair.box[rank] = [a.copy() for a in arrays]
                pair.barrier.wait()
                means = [(one + two) / 2 for one, two in zip(*pair.box, strict=True)]
                pair.barrier.wait()
                for array, mean in zip(arrays, means, strict=True):
                    array[...] = mean

        return End()


def test_ranks_play_different_episodes_and_stay_bit_identical() -> None:
    pair, results = Pair(), {}

    def run(rank: int) -> None:
        results[rank] = train(SMALL, 5, pair.end(rank))

    threads = [threading.Thread(target=run, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (one, first), (two, second) = results[0], results[1]
    assert not np.isin(first.observations[..., 0], second.observations[..., 0]).any()
    for name, value in one.get_state().items():
        np.testing.assert_array_equal(value, two.get_state()[name])
    alone = train(SMALL, 5)[0]
    assert (alone.get_state()["theta"] != one.get_state()["theta"]).any()


def rank_process(rank: int, folder: str) -> None:
    """One rank of a real process group; leaves its weights and averages in a file."""
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    comm = AllReduce()
    wide, narrow = np.array([[1.0, 2.0], [3.0, 4.0]]) * (rank + 1), np.array([rank], dtype=np.float32)
    comm.mean_([wide, narrow])
    learner, _ = train(SMALL, 3, comm)
    np.savez(f"{folder}/{rank}.npz", wide=wide, narrow=narrow, theta=learner.get_state()["theta"])
    dist.destroy_process_group()


def test_all_reduce_over_two_processes_equals_averaging_by_hand(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ranks = [context.Process(target=rank_process, args=(rank, str(tmp_path))) for rank in (0, 1)]
    for process in ranks:
        process.start()
    pair, results = Pair(), {}

    def run(rank: int) -> None:
        results[rank] = train(SMALL, 3, pair.end(rank))[0].get_state()["theta"]

    threads = [threading.Thread(target=run, args=(rank,)) for rank in (0, 1)]
    for worker in threads:
        worker.start()
    for worker in (*threads, *ranks):
        worker.join(timeout=60)
    for rank in (0, 1):
        with np.load(tmp_path / f"{rank}.npz") as saved:
            np.testing.assert_array_equal(saved["wide"], [[1.5, 3.0], [4.5, 6.0]])
            np.testing.assert_array_equal(saved["narrow"], np.array([0.5], dtype=np.float32))
            np.testing.assert_allclose(saved["theta"], results[rank], atol=1e-6)


def test_moments_over_ranks_equal_the_moments_of_all_rows() -> None:
    pair, learners = Pair(), {}
    data = uniform(lane_keys("moments", 0, 0, 0, 600).reshape(200, 3), 0) * np.array([1.0, 100.0, 1e4])

    def run(rank: int) -> None:
        learners[rank] = Learner(SMALL, 3, 3, pair.end(rank))
        learners[rank].observe(data[rank * 100 : rank * 100 + 100].astype(np.float32))

    threads = [threading.Thread(target=run, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = Moments(3)
    expected.update(data.astype(np.float32))
    for learner in learners.values():
        np.testing.assert_allclose(learner.observations.deviation, expected.deviation, rtol=1e-12)
        assert learner.observations.count == 200


def test_a_gradient_that_is_not_finite_is_a_typed_error_and_changes_no_weight() -> None:
    learner, rollout = train(SMALL, 2)
    before = learner.get_state()["theta"]
    rollout.log_probs[0, 0] = np.nan
    with pytest.raises(WorkerError, match=r"iteration 2.*gradient is not finite"):
        learner.update(rollout, 2)
    after = learner.get_state()["theta"]
    assert np.isfinite(after).all()
    assert before.shape == after.shape


def test_target_kl_ends_the_epochs_early() -> None:
    learner, rollout = train(SMALL, 2)
    eager = PPOConfig.of(vars(SMALL) | {"epochs": 50, "learning_rate": 0.02, "clip": 100.0})
    careful = PPOConfig.of(vars(eager) | {"target_kl": 0.01})
    kl = {}
    for name, config in (("eager", eager), ("careful", careful)):
        one = Learner(config, 3, 3)
        one.set_state(learner.get_state())
        kl[name] = one.update(rollout, 2)["kl"]
    assert kl["careful"] < kl["eager"] / 2


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("lanes", 0, "lanes: 0, must be a whole number from 1"),
        ("lanes", 1.5, "lanes: 1.5"),
        ("gamma", 1.01, "gamma: 1.01, must be a number from 0 to 1"),
        ("learning_rate", "fast", "learning_rate: 'fast'"),
        ("learning_rate", float("nan"), "learning_rate: nan"),
        ("hidden", (64, 0), "hidden"),
        ("normalise", 1, "normalise: 1, must be true or false"),
        ("layers", 3, "'layers' is unknown; known are steps, seed, lanes"),
    ],
)
def test_impossible_options_are_refused(option: str, value: Any, words: str) -> None:
    with pytest.raises(PolicyError, match=words):
        PPOConfig.of({option: value})
