"""Ceilings: the best value that any policy can reach, where it can be computed exactly.

Independent boxes with a perfect, free judge are Pandora's problem of Weitzman (1979, "Optimal search for
the best alternative", Econometrica 47). A box ``j`` holds the prize ``R`` with probability ``p_j`` and costs
``c_j`` to open; its reservation value solves ``E[(V_j - z_j)^+] = c_j``, that is ``z_j = R - c_j / p_j``. Opening
boxes by falling ``z_j`` while ``z_j > 0`` and stopping at the first success is optimal, with value
``sum_j prod_{i<j} (1 - p_i) (R p_j - c_j)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import PolicyError
from ..scenarios.schema import success_probability
from .item_response import item_response_of
from .item_response_optimum import optimum_of
from .lanes import LaneCore
from .router_core import RouterCore


@dataclass(frozen=True)
class Boxes:
    """Independent boxes with a common prize.

    Args:
        prize: value of a success, in utility.
        chance: ``(K,)`` probability of success.
        cost: ``(K,)`` cost of opening, in utility.
    """

    prize: float
    chance: NDArray[np.float64]
    cost: NDArray[np.float64]

    @property
    def reservation(self) -> NDArray[np.float64]:
        """Weitzman's reservation values ``R - c / p``; minus infinity where ``p`` is 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.chance > 0, self.prize - self.cost / self.chance, -np.inf)

    @property
    def order(self) -> NDArray[np.int64]:
        """Boxes worth opening, in the optimal order."""
        z = self.reservation
        ranked = np.argsort(-z, kind="stable")
        return ranked[z[ranked] > 0]

    @property
    def value(self) -> float:
        """Value of the optimal policy.

        >>> Boxes(1.0, np.array([0.5, 0.5]), np.array([0.1, 0.2])).value
        0.55
        """
        value, reached = 0.0, 1.0
        for j in self.order:
            value += reached * (self.prize * self.chance[j] - self.cost[j])
            reached *= 1.0 - self.chance[j]
        return round(float(value), 15)


def boxes_of(core: LaneCore) -> Boxes | None:
    """The boxes that a core's scenario amounts to, or None when it is not that problem.

    It is when tasks are one class of fixed difficulty without latents, each configuration can be called
    once, the judge is perfect and free, nobody can take over, and nothing else makes the optimum unknown.
    """
    if not isinstance(core, RouterCore):
        return None
    try:
        problem = item_response_of(core)
    except PolicyError:
        return None
    fixed = len(problem.share) == 1 and not (problem.sd.any() or problem.family_sd or problem.configuration_sd.any())
    free = problem.judge == 0.0 and problem.true_positive == 1.0 and problem.false_positive == 0.0
    once = bool((problem.calls == 1).all()) and problem.max_calls == len(problem.calls)
    if not (fixed and free and once and np.isneginf(problem.handoff)):
        return None
    chance = np.array([success_probability(float(skill)) for skill in problem.skill[:, 0] - problem.mean[0]])
    return Boxes(problem.right, chance, problem.price)


def ceiling_of(core: LaneCore) -> float | None:
    """The optimal utility of a core's scenario and profile, or None where it is not known.

    Independent boxes have a closed form; other tasks of the item-response model are solved by dynamic programming
    (:mod:`brownout.envs.item_response_optimum`) where that is exact.
    """
    boxes = boxes_of(core)
    if boxes is not None:
        return boxes.value
    if not isinstance(core, RouterCore):
        return None
    try:
        return optimum_of(core).value
    except PolicyError:
        return None


class WeitzmanPolicy:
    """The optimal policy of independent boxes, playable like any other.

    Args:
        core: a core for which :func:`boxes_of` is not None.

    Raises:
        PolicyError: if the scenario is not that problem.
    """

    name = "weitzman"
    summary = "where tasks are independent boxes: the exact optimum, by falling reservation value"

    def __init__(self, core: LaneCore) -> None:
        boxes = boxes_of(core)
        if boxes is None or not isinstance(core, RouterCore):
            raise PolicyError(
                f"{core.scenario.name}, profile {core.profile}: not independent boxes with a perfect, free judge"
            )
        self._order = boxes.order
        self._k = core.num_configs
        names = [column.name for column in core.observation_columns]
        self._accepted = names.index("best_accepted")
        self._launched = names.index(f"{core.config_names[0]}.launched")

    def act_batch(self, observations: NDArray[Any], mask: NDArray[Any], uniforms: Any = None) -> NDArray[np.int64]:
        """Open boxes in order, judge at once, submit the first success, stop when none is worth it."""
        k, legal = self._k, np.asarray(mask, dtype=np.bool_)
        wait, judge, submit, abstain = k, k + 1, k + 3, k + 5  # one judge: several have no such optimum
        fresh = observations[:, self._launched : self._launched + k] == 0
        ranked = fresh[:, self._order] & legal[:, self._order]
        action = np.where(ranked.any(axis=1), self._order[ranked.argmax(axis=1)], abstain)
        action = np.where(legal[:, wait], wait, action)
        action = np.where(legal[:, judge], judge, action)
        return np.where(observations[:, self._accepted] > 0, submit, action)
