"""Learning from a teacher before, and while, learning from reward.

First the policy only imitates: a teacher says in every state what it would do there, and the net learns to say the
same. At the start the teacher also acts; ever more of the steps are then the pupil's own, so it learns what to do
after its own mistakes, which plain cloning of a teacher's episodes never shows it (dataset aggregation, DAgger: Ross,
Gordon and Bagnell, 2011, arXiv:1011.0686). The value net meanwhile learns what such behaviour is worth, so the first
step of PPO has advantages to go by. Then PPO goes on with the teacher's advice as one more term of the loss, whose
weight fades: the divergence of the policy from a teacher that does one thing in each state (as in "kickstarting":
Schmitt et al., 2018, arXiv:1803.03835).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from ..envs.lanes import LaneCore
from ..envs.streams import stream_id, uniform
from ..errors import PolicyError
from .evaluation import action_draws, resolve_policy
from .schedules import Schedule

if TYPE_CHECKING:
    from .baselines import Actor
    from .ppo import PPOConfig

OPTIONS: Final = ("imitate", "imitate_share", "imitate_weight")
_ACTS = stream_id("imitation.acts")


@dataclass(frozen=True)
class Lesson:
    """What the teacher does in one iteration; plain data, sent to rollout actors.

    Args:
        acts: chance that the teacher takes a step in the pupil's place.
        alone: whether nothing but the teacher is learned from.
        weight: of the teacher's term in the loss.
    """

    acts: float
    alone: bool
    weight: float

    @classmethod
    def at(cls, config: PPOConfig, share: float) -> Lesson | None:
        """Return what holds when ``share`` of the steps have been made; None where the teacher has nothing to say."""
        if not config.imitate:
            return None
        if share < config.imitate_share:
            return cls(1.0 - share / config.imitate_share, True, 1.0)
        weight = Schedule.parse(config.imitate_weight).at(share)
        return cls(0.0, False, weight) if weight > 0.0 else None


class Teacher:
    """A policy that is asked about every state of some lanes.

    Args:
        name: a baseline, with or without ``baseline:`` before it, or the folder of a trained policy.
        env: native vector environment that the pupil plays in.

    Raises:
        PolicyError: there is no such policy, or the environment has no place for one.
        ArtefactError: the folder is damaged, or its policy does not fit the environment.
    """

    def __init__(self, name: str, env: Any) -> None:
        core = getattr(env.unwrapped, "core", None)
        if not isinstance(core, LaneCore):
            raise PolicyError("imitate: this environment has no baselines to imitate")
        self._core, self._actor = core, find_teacher(name, core)

    def advise(self, observations: NDArray[Any], mask: NDArray[Any]) -> NDArray[np.int64]:
        """Return the ``(N,)`` actions that the teacher would take in every lane as it is now."""
        draws = action_draws(self._actor, self._core)
        return np.asarray(self._actor.act_batch(observations, mask, draws), dtype=np.int64)

    def takes_over(self, keys: NDArray[np.uint64], step: int, chance: float) -> NDArray[np.bool_]:
        """Return in which of the ``(N,)`` lanes the teacher acts in a step of a rollout.

        Args:
            keys: ``(N,)`` one per lane and rollout.
            step: number of the step.
            chance: of each lane.
        """
        return uniform(keys, _ACTS, step) < chance


def find_teacher(name: str, core: LaneCore) -> Actor:
    """Return the policy called ``name``, bound to ``core``; raises as :class:`Teacher` does."""
    plain = ":" in name or Path(name).exists()
    try:
        return resolve_policy(name if plain else f"baseline:{name}", core)[1]
    except PolicyError as error:
        raise PolicyError(f"imitate: {error}") from None
