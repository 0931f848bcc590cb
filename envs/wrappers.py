"""Wrappers for trainers that want the action mask inside the observation.

There is no single standard for masks. The environments here put one into ``info["action_mask"]`` and offer
``action_masks()``; RLlib, Tianshou and PettingZoo read it from a Dict observation, which these wrappers make.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

Masked = dict[str, NDArray[Any]]


def masked_space(observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> gym.spaces.Dict:
    """The Dict space of one lane: ``observations`` and ``action_mask``.

    Args:
        observation_space: space of the plain observation.
        action_space: a ``Discrete`` space of ``A`` actions.

    >>> space = masked_space(gym.spaces.Box(0, 1, (3,)), gym.spaces.Discrete(2))
    >>> space["action_mask"]
    Box(0, 1, (2,), int8)
    """
    assert isinstance(action_space, gym.spaces.Discrete)
    mask = gym.spaces.Box(0, 1, (int(action_space.n),), np.int8)
    return gym.spaces.Dict({"observations": observation_space, "action_mask": mask})


class MaskedObservation(gym.Wrapper[Masked, Any, NDArray[np.float32], Any], RecordConstructorArgs):
    """Observations ``{"observations": Box, "action_mask": Box(0, 1, (A,), int8)}`` of a scalar environment.

    Args:
        env: an environment that puts ``action_mask`` into the info of ``reset`` and ``step``.
    """

    def __init__(self, env: gym.Env[NDArray[np.float32], Any]) -> None:
        RecordConstructorArgs.__init__(self)
        gym.Wrapper.__init__(self, env)
        self.observation_space = masked_space(env.observation_space, env.action_space)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Masked, dict[str, Any]]:
        """Begin an episode; see the wrapped environment."""
        observation, info = self.env.reset(seed=seed, options=options)
        return _join(observation, info["action_mask"]), info

    def step(self, action: Any) -> tuple[Masked, Any, bool, bool, dict[str, Any]]:
        """Apply one action; see the wrapped environment."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return _join(observation, info["action_mask"]), reward, terminated, truncated, info


class VectorMaskedObservation(VectorWrapper, RecordConstructorArgs):
    """:class:`MaskedObservation` of a batched environment, in every autoreset mode.

    With same-step autoreset the entries of ``info["final_obs"]`` are Dict observations as well.

    Args:
        env: a batched environment of this package.
    """

    def __init__(self, env: VectorEnv[NDArray[np.float32], Any, Any]) -> None:
        RecordConstructorArgs.__init__(self)
        VectorWrapper.__init__(self, env)
        self.single_observation_space = masked_space(env.single_observation_space, env.single_action_space)
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Masked, dict[str, Any]]:
        """Begin episodes; see the wrapped environment."""
        observation, info = self.env.reset(seed=seed, options=options)
        # Not from the info: after a partial reset that holds the masks of the lanes that began.
        lanes: Any = self.env.unwrapped
        return _join(observation, lanes.action_masks()), info

    def step(self, actions: Any) -> tuple[Masked, Any, Any, Any, dict[str, Any]]:
        """Step every lane; see the wrapped environment."""
        observation, reward, terminated, truncated, info = self.env.step(actions)
        if self.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP and "final_obs" in info:
            final, masks = info["final_obs"], info["final_info"]["action_mask"]
            joined = np.full(final.shape, None, dtype=object)
            for lane in np.flatnonzero(info["_final_obs"]):
                joined[lane] = _join(final[lane], masks[lane].copy())
            info = {**info, "final_obs": joined}
        return _join(observation, info["action_mask"].copy()), reward, terminated, truncated, info


def _join(observation: NDArray[Any], mask: NDArray[Any]) -> Masked:
    return {"action_mask": mask, "observations": observation}
