"""Potential-based shaping: denser rewards that provably leave the optimal policy unchanged.

    F(s, s') = gamma * phi(s') - phi(s),   phi(terminal) = 0

Over an episode the terms telescope to ``-phi(s0)`` (discounted), whatever the policy does, so they favour
none. That holds only when ``gamma`` is the learner's discount, and when the potential of a *terminated*
state counts as zero. A *truncated* state keeps its potential: the learner bootstraps from its value.

Source: Ng, Harada and Russell, "Policy invariance under reward transformations" (ICML 1999), theorem 1;
for the terminal state see Grzes, "Reward shaping in episodic reinforcement learning" (AAMAS 2017).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import RewardError
from .registry import F64, POTENTIALS, Potential, check_number, did_you_mean, register_potential


@register_potential("best-candidate")
@dataclass(frozen=True)
class BestCandidate:
    """Potential that grows with the judged value of the best candidate in hand.

    phi = weight * best_value, with ``best_value`` in [0, 1]. Finding a good answer is then paid when it is
    found and taken back when it is delivered (the delivery has its own reward).

    Args:
        weight: potential of a certain candidate, in units of reward.

    Raises:
        RewardError: if the weight is negative or not finite.
    """

    weight: float = 0.5
    columns: ClassVar[tuple[str, ...]] = ("best_value",)

    def __post_init__(self) -> None:
        check_number("best-candidate.weight", self.weight, low=0.0)

    def __call__(self, columns: Mapping[str, F64]) -> F64:
        """Return the ``(N,)`` potentials."""
        return columns["best_value"] * self.weight


@register_potential("progress")
@dataclass(frozen=True)
class Progress:
    """Potential that grows with the share of a workflow's steps that are believed done.

    phi = weight * done / (done + remaining). It is paid as the work goes on and taken back at the end.

    Args:
        weight: potential of a workflow with every step done, in units of reward.

    Raises:
        RewardError: if the weight is negative or not finite.
    """

    weight: float = 0.5
    columns: ClassVar[tuple[str, ...]] = ("done", "remaining")

    def __post_init__(self) -> None:
        check_number("progress.weight", self.weight, low=0.0)

    def __call__(self, columns: Mapping[str, F64]) -> F64:
        """Return the ``(N,)`` potentials."""
        done = columns["done"]
        return done / np.maximum(done + columns["remaining"], 1.0) * self.weight


class PotentialShaping:
    """The shaping term of an environment with named observation columns.

    Args:
        potential: potential function.
        gamma: discount factor of the learner, in (0, 1].
        observation_columns: names of the ``D`` observation columns, in order.

    Raises:
        RewardError: if ``gamma`` is out of range, or the potential needs a column that is not there.
    """

    def __init__(self, potential: Potential, gamma: float, observation_columns: Sequence[str]) -> None:
        self.potential = potential
        self.gamma = check_number("shaping.gamma", gamma, 0.0, 1.0, above=True)
        known = list(observation_columns)
        self._indices: dict[str, int] = {}
        for name in potential.columns:
            if name not in known:
                raise RewardError(
                    f"shaping: {type(potential).__name__} needs the observation column {name!r}"
                    f"{did_you_mean(name, known)}; the environment has: {', '.join(known)}"
                )
            self._indices[name] = known.index(name)

    def potentials(self, observation: NDArray[Any]) -> F64:
        """Return the ``(N,)`` potentials of ``(N, D)`` raw (not normalised) observations."""
        columns = {name: observation[:, index].astype(np.float64) for name, index in self._indices.items()}
        return self.potential(columns)

    def __call__(self, before: NDArray[Any], after: NDArray[Any], terminated: NDArray[np.bool_]) -> F64:
        """Return the ``(N,)`` terms to add to the rewards of one step.

        Args:
            before: ``(N, D)`` observations that the actions were taken on.
            after: ``(N, D)`` observations they led to. For a lane that ended and was reset in the same step
                this is its *final* observation, not the new episode's first.
            terminated: ``(N,)`` whether the step terminated the episode (truncation does not count).
        """
        following = np.where(terminated, 0.0, self.potentials(after))
        return following * self.gamma - self.potentials(before)


def compile_shaping(
    spec: Mapping[str, Any], gamma: float, observation_columns: Sequence[str], where: str = "shaping"
) -> PotentialShaping:
    """Make the shaping term of a scenario's section, e.g. ``{kind: best-candidate, weight: 0.3}``.

    Raises:
        RewardError: naming the field, the value met and what is allowed.
    """
    potential = POTENTIALS.build(spec, where, default="best-candidate")
    return PotentialShaping(potential, gamma, observation_columns)
