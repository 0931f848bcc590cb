"""A tiny lane environment with a known optimum, for the tests of the trainer.

Each episode shows the success probability ``p`` of a cheap box. ``cheap`` costs 0.1 and succeeds with
probability p (three tries at most), ``strong`` costs 0.4, succeeds with probability 0.9 and ends the episode,
``stop`` ends it with nothing. Success pays 1 and ends the episode.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from brownout.envs.streams import episode_keys, stream_id, uniform

CHEAP, STRONG, STOP = 0, 1, 2


@dataclass(frozen=True)
class ToyColumn:
    name: str
    unit: str = ""
    low: float = 0.0
    high: float = 1.0


@dataclass
class ToyStep:
    observation: Any
    reward: Any
    terminated: Any
    truncated: Any
    mask: Any
    components: Any
    ended: Any
    final_observation: Any
    outcome: Any


class ToyLanes:
    """The fast path of a lane environment: same-step autoreset, exact state."""

    action_names = ("cheap", "strong", "stop")
    component_names = ("accuracy", "cost_usd")
    outcome_names = ("success", "failure", "limit")
    observation_columns = (ToyColumn("chance"), ToyColumn("tries"), ToyColumn("constant", "usd", 0, 1000))
    scenario = SimpleNamespace(name="toy", hash="abc123")
    profile = "clean"

    def __init__(self, num_envs: int, limit: int | None = None) -> None:
        self.num_envs, self.limit = num_envs, limit
        self.seeds = np.zeros(num_envs, dtype=np.uint64)
        self.episodes = np.zeros(num_envs, dtype=np.int64)
        self.keys = np.zeros(num_envs, dtype=np.uint64)
        self.chance = np.zeros(num_envs)
        self.tries = np.zeros(num_envs, dtype=np.int64)
        self.steps = np.zeros(num_envs, dtype=np.int64)

    @property
    def unwrapped(self) -> ToyLanes:
        return self

    def lane_reset(self, seeds: Any, episodes: int = 0) -> tuple[Any, Any]:
        self.seeds = np.asarray(seeds).astype(np.uint64)
        self.episodes[:] = episodes
        self._begin(np.arange(self.num_envs))
        return self._observe(), self._mask()

    def lane_step(self, actions: Any) -> ToyStep:
        assert self._mask()[np.arange(self.num_envs), actions].all(), "a masked action was taken"
        luck = uniform(self.keys, stream_id("luck"), self.steps)
        odds = np.where(actions == CHEAP, self.chance, np.where(actions == STRONG, 0.9, 0.0))
        won = luck < odds
        cost = np.where(actions == CHEAP, 0.1, np.where(actions == STRONG, 0.4, 0.0))
        self.tries += actions == CHEAP
        self.steps += 1
        terminated = won | (actions != CHEAP)
        truncated = np.zeros_like(terminated) if self.limit is None else (self.steps >= self.limit) & ~terminated
        ended = np.flatnonzero(terminated | truncated)
        final = self._observe()[ended]
        outcome = np.where(won, 0, np.where(terminated, 1, 2))[ended].astype(np.int8)
        if len(ended):
            self.episodes[ended] += 1
            self._begin(ended)
        components = np.stack([won.astype(np.float64), cost], axis=1)
        return ToyStep(
            self._observe(),
            won - cost,
            terminated,
            truncated,
            self._mask(),
            components,
            ended,
            final,
            outcome,
        )

    def get_state(self) -> dict[str, Any]:
        names = ("seeds", "episodes", "keys", "chance", "tries", "steps")
        return {name: getattr(self, name).copy() for name in names}

    def set_state(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, np.array(value))

    def _begin(self, rows: Any) -> None:
        self.keys[rows] = episode_keys(self.seeds[rows], self.episodes[rows], "train")
        self.chance[rows] = uniform(self.keys[rows], stream_id("chance"))
        self.tries[rows] = 0
        self.steps[rows] = 0

    def _observe(self) -> Any:
        return np.stack([self.chance, self.tries, np.full(self.num_envs, 500.0)], axis=1).astype(np.float32)

    def _mask(self) -> Any:
        mask = np.ones((self.num_envs, 3), dtype=bool)
        mask[:, CHEAP] = self.tries < 3
        return mask


def optimum() -> float:
    """Return the expected utility of the best policy, by backward induction on a grid of p."""
    p = (np.arange(100_000) + 0.5) / 100_000
    best = np.full_like(p, 0.5)
    for _ in range(3):
        best = np.maximum(0.5, p - 0.1 + (1 - p) * best)
    return float(best.mean())
