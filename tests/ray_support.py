"""A task for the tests of training on Ray: the toy lanes, which can get into trouble on order."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brownout.trainers.policy import Policy
from toy_lanes import ToyLanes, optimum


@dataclass(frozen=True)
class ToyTask:
    """Trains on the toy lanes.

    Args:
        marks: folder in which every trouble leaves a file, so that a restarted worker knows it is over.
        trouble: ``kill``, ``hang``, ``raise`` or ``nan``; none by default.
        times: how often.
        after: steps of an environment before it.
    """

    marks: str = ""
    trouble: str = ""
    times: int = 1
    after: int = 20

    def make_env(self, lanes: int, gamma: float = 1.0) -> ToyLanes:
        return TroubledLanes(lanes, self) if self.trouble else ToyLanes(lanes)

    def ceiling(self) -> float:
        return optimum()

    def score(self, policy: Policy, episodes: int = 256) -> float:
        env = ToyLanes(episodes)
        observation, mask = env.lane_reset(np.arange(episodes, dtype=np.uint64) + np.uint64(10**6))
        running, utility = np.ones(episodes, dtype=bool), np.zeros(episodes)
        while running.any():
            step = env.lane_step(policy.act_batch(observation, mask))
            utility += np.where(running, step.reward, 0.0)
            running &= ~(step.terminated | step.truncated)
            observation, mask = step.observation, step.mask
        return float(utility.mean())


class TroubledLanes(ToyLanes):
    def __init__(self, num_envs: int, task: ToyTask) -> None:
        super().__init__(num_envs)
        self.task, self.count = task, 0

    def lane_step(self, actions: Any) -> Any:
        self.count += 1
        step = super().lane_step(actions)
        if self.count == self.task.after and self._due():
            if self.task.trouble == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.task.trouble == "hang":
                time.sleep(3600)
            if self.task.trouble == "raise":
                raise ZeroDivisionError("a bug in an environment")
            step.reward = step.reward * np.nan
        return step

    def _due(self) -> bool:
        for i in range(self.task.times):
            try:
                os.close(os.open(Path(self.task.marks) / f"{self.task.trouble}-{i}", os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                continue
            return True
        return False
