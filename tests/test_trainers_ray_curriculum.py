"""The curriculum on Ray: actors and ranks follow it, and the learner keeps the episodes to replay."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brownout import load_scenario, train
from brownout.trainers.api import Task
from brownout.trainers.ppo import PPOConfig
from brownout.trainers.rollout import Collector, Rollout
from brownout.trainers.training import Trainer, read_checkpoint

CONFIG = PPOConfig(
    lanes=16, rollout_steps=16, minibatch=128, steps=5 * 256, hidden=(8,), fault_share="0.5:1@1", replay=0.5,
    replay_size=30,
)  # fmt: skip

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


class Both:
    """Two collectors of this process, in the place of two actors."""

    def __init__(self, task: Task) -> None:
        self.parts = [Collector.of(task.make_env(8), CONFIG, rank) for rank in (0, 1)]

    def collect(self, policy: Any, iteration: int, orders: Any = None) -> Rollout:
        return Rollout.concatenate([part.collect(policy, iteration, orders) for part in self.parts])

    def get_state(self) -> dict[str, Any]:
        return {}

    def set_state(self, state: Any) -> None: ...


def test_actors_play_what_collectors_in_this_process_play(ray_cluster: None, tmp_path: Path) -> None:
    task = Task(load_scenario("support-desk"))
    here = Trainer(task.make_env(1), CONFIG, collector=Both(task))
    mine = [here.step() for _ in range(5)]
    told: list[dict[str, Any]] = []
    train(
        "support-desk", config=CONFIG, collectors=2, out=tmp_path, callback=lambda r, t: told.append(r), timeout_s=100
    )  # fmt: skip
    for one, other in zip(mine, told, strict=True):
        assert (one["curriculum"], one["replay"], one["utility"]) == (
            other["curriculum"], other["replay"], other["utility"],
        )  # fmt: skip
    assert told[-1]["replay"]["share"] > 0.2
    state, _ = read_checkpoint(tmp_path / "checkpoint.npz")
    assert here.curriculum is not None
    np.testing.assert_array_equal(state["replay.seeds"], here.curriculum.buffer.seeds)

    longer = replace(CONFIG, steps=7 * 256)
    more: list[dict[str, Any]] = []
    train("support-desk", config=longer, collectors=2, out=tmp_path, resume=True, callback=lambda r, t: more.append(r))
    assert len(more) == 2
    assert more[0]["replay"]["share"] > 0.1, "the buffer outlived its process"


@pytest.mark.slow
def test_ranks_replay_and_a_resumed_group_starts_from_the_kept_buffer(ray_cluster: None, tmp_path: Path) -> None:
    train("support-desk", config=CONFIG, workers=2, steps=4 * 512, out=tmp_path, timeout_s=100)
    state, meta = read_checkpoint(tmp_path / "checkpoint.npz")
    assert len(state["replay.seeds"]) == 30
    assert meta["record"]["replay"]["share"] > 0.2
    result = train("support-desk", config=CONFIG, workers=2, steps=6 * 512, out=tmp_path, resume=True, timeout_s=100)
    assert result.iterations == 6
    assert result.record["curriculum"]["fault_share"] > 0.8
