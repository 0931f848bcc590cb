"""Prioritised replay of episodes: the ones that went worst come again.

Source: Jiang, Grefenstette and Rocktaeschel, "Prioritized level replay" (2021), arXiv:2010.03934: episodes are
drawn by the rank of their score, mixed with how long ago they were played, so that old scores get renewed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]


def positive_value_loss(advantages: F64, ended: NDArray[np.bool_], gain: F64, length: I64) -> F64:
    """Mean positive advantage of every episode that ended: how much better it went than the value net thought.

    Args:
        advantages: ``(T, N)`` of one rollout.
        ended: ``(T, N)`` where an episode ended.
        gain: ``(N,)`` sum so far of each lane's running episode; updated.
        length: ``(N,)`` steps so far; updated.

    Returns:
        ``(E,)`` in the order of time, then lane.

    Source: Jiang et al., "Replay-guided adversarial environment design" (2021), arXiv:2110.02439.
    """
    found: list[F64] = [np.zeros(0)]
    for t in range(len(advantages)):
        gain += np.maximum(advantages[t], 0.0)
        length += 1
        over = np.flatnonzero(ended[t])
        if over.size:
            found.append(gain[over] / length[over])
            gain[over], length[over] = 0.0, 0
    return np.concatenate(found)


class ReplayBuffer:
    """Episodes worth another try, each with its last score and when it was played.

    Args:
        size: episodes to keep; the highest scores stay.
        temperature: an episode of rank r has the weight ``r ** (-1 / temperature)``; high is flat.
        staleness: share of the draws that goes by how long an episode was not played.
    """

    def __init__(self, size: int, temperature: float, staleness: float) -> None:
        self.size, self.temperature, self.staleness = size, temperature, staleness
        self.seeds: U64 = np.zeros(0, dtype=np.uint64)
        self.episodes: I64 = np.zeros(0, dtype=np.int64)
        self.scores: F64 = np.zeros(0)
        self.played: I64 = np.zeros(0, dtype=np.int64)

    def __len__(self) -> int:
        return self.scores.size

    def add(self, seeds: U64, episodes: I64, scores: F64, iteration: int) -> None:
        """Take in episodes that were played; one that is there already gets its new score.

        Args:
            seeds: ``(E,)`` lane seeds.
            episodes: ``(E,)`` episode indices.
            scores: ``(E,)`` higher comes again sooner.
            iteration: now.
        """
        seed, episode = np.concatenate([self.seeds, seeds]), np.concatenate([self.episodes, episodes])
        score = np.concatenate([self.scores, scores])
        played = np.concatenate([self.played, np.full(len(seeds), iteration)])
        order = np.lexsort((episode, seed))  # stable: of equal episodes the latest comes last
        same = (np.diff(seed[order]) == 0) & (np.diff(episode[order]) == 0)
        kept = order[np.append(~same, True)] if len(order) else order
        best = np.lexsort((episode[kept], seed[kept], -played[kept], -score[kept]))
        kept = kept[best[: self.size]]
        self.seeds, self.episodes, self.scores, self.played = seed[kept], episode[kept], score[kept], played[kept]

    def cumulative(self, iteration: int) -> F64:
        """Return the ``(len,)`` cumulative probabilities of a draw in this iteration; empty without episodes."""
        if not len(self):
            return np.zeros(0)
        by_rank = np.arange(1, len(self) + 1) ** (-1.0 / self.temperature)  # they are kept in order of their scores
        chance = by_rank / by_rank.sum()
        age = (iteration - self.played).astype(np.float64)
        if age.any():
            chance = (1.0 - self.staleness) * chance + self.staleness * age / age.sum()
        total = np.cumsum(chance)
        return total / total[-1]

    def get_state(self) -> dict[str, NDArray[Any]]:
        """Return everything, as arrays."""
        return {
            "seeds": self.seeds.copy(),
            "episodes": self.episodes.copy(),
            "scores": self.scores.copy(),
            "played": self.played.copy(),
        }

    def set_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue exactly from :meth:`get_state`."""
        self.seeds, self.episodes = np.array(state["seeds"]), np.array(state["episodes"])
        self.scores, self.played = np.array(state["scores"]), np.array(state["played"])
