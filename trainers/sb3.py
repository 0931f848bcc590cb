"""Stable-Baselines3 on the native environment: a ``VecEnv`` of all lanes at once, action masks included.

Stable-Baselines3 takes no Gymnasium ``VectorEnv``, so the adapter speaks its own protocol: same-step
autoreset with ``terminal_observation``, ``TimeLimit.truncated`` and the ``episode`` record of a ``Monitor``.
``SB3VecEnv`` is made on first use, because its base class brings PyTorch.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from ..envs.cores import make_lanes
from ..envs.router import DEFAULT_SCENARIO
from ..envs.vector import LaneVectorEnv, fresh_seed
from ..errors import PolicyError
from ..extras import missing_extra

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv


def make_sb3(
    scenario: Any = DEFAULT_SCENARIO,
    num_envs: int = 512,
    *,
    profile: str = "production",
    intensity: float = 1.0,
    split: str = "train",
    seed: int | None = None,
    max_episode_steps: int | None = None,
    shaping_gamma: float | None = None,
    render_mode: str | None = None,
) -> VecEnv:
    """Make a scenario ready for ``PPO`` and ``MaskablePPO``.

    Observations are raw (dollars, seconds, counts): put a ``VecNormalize`` around the result to train.

    Args:
        scenario: built-in name, path, mapping or scenario.
        num_envs: number of lanes.
        profile: fault profile.
        intensity: scales every fault of the profile.
        split: ``train`` or ``eval``.
        seed: lane ``i`` starts from ``seed + i``; None takes fresh entropy.
        max_episode_steps: steps after which an episode is truncated; default: the scenario's.
        shaping_gamma: discount for which to add the scenario's potential-based shaping.
        render_mode: ``ansi`` or ``rgb_array``, of lane 0.

    Raises:
        MissingExtraError: without Stable-Baselines3 (``pip install 'brownout[sb3]'``).
        ScenarioError: if the scenario cannot be used.
    """
    adapter = _adapter()
    lanes = make_lanes(
        scenario, num_envs, profile=profile, intensity=intensity, split=split, max_episode_steps=max_episode_steps,
        render_mode=render_mode, autoreset_mode=AutoresetMode.SAME_STEP, shaping_gamma=shaping_gamma,
    )  # fmt: skip
    env = adapter(lanes)
    if seed is not None:
        env.seed(seed)
    return env


class SB3Policy:
    """A trained model as a policy that :func:`brownout.evaluate` takes: most likely actions, masks kept.

    Args:
        model: a ``MaskablePPO``, or any model whose ``predict`` takes ``action_masks``; the observation
            normalisation of its environment is applied.
    """

    name = "sb3"

    def __init__(self, model: Any) -> None:
        self._model = model
        self._normalise = model.get_vec_normalize_env()

    def act_batch(
        self, observations: NDArray[Any], mask: NDArray[Any], uniforms: NDArray[np.float64] | None = None
    ) -> NDArray[np.int64]:
        """Return ``(n,)`` actions for ``(n, D)`` raw observations and ``(n, A)`` masks."""
        if self._normalise is not None:
            observations = self._normalise.normalize_obs(observations)
        actions, _ = self._model.predict(observations, action_masks=mask, deterministic=True)
        return actions.astype(np.int64)


@cache
def _adapter() -> type[Any]:
    """Define the adapter class once its base class can be imported."""
    try:
        from stable_baselines3.common.monitor import Monitor
        from stable_baselines3.common.vec_env import VecEnv
    except ImportError as error:
        raise missing_extra("sb3", error) from error

    class SB3VecEnv(VecEnv):
        """A lane environment as the ``VecEnv`` of Stable-Baselines3.

        Args:
            lanes: the native environment; its autoreset mode does not matter.
        """

        def __init__(self, lanes: LaneVectorEnv) -> None:
            self.lanes = lanes
            self._mask: NDArray[np.bool_] = np.ones((lanes.num_envs, len(lanes.action_names)), np.bool_)
            self._actions: NDArray[np.int64] = np.zeros(lanes.num_envs, np.int64)
            self._returns = np.zeros(lanes.num_envs)
            self._lengths = np.zeros(lanes.num_envs, np.int64)
            self._success = lanes.outcome_names.index("success") if "success" in lanes.outcome_names else -1
            self._began_s = time.time()
            super().__init__(lanes.num_envs, lanes.single_observation_space, lanes.single_action_space)

        def reset(self) -> NDArray[np.float32]:
            """Begin the episodes asked for by ``seed`` and ``set_options``, or each lane's next one."""
            options = self._options[0]
            if any(other != options for other in self._options):
                raise PolicyError("set_options: got different options per lane; allowed: the same for all lanes")
            seeds = None if all(seed is None for seed in self._seeds) else self._seeds
            observation, _ = self.lanes.reset(seed=seeds, options=dict(options))
            self._reset_seeds()
            self._reset_options()
            self._mask = self.lanes.core.mask()
            self.reset_infos = [{"action_mask": row} for row in self._mask.astype(np.int8)]
            self._returns[:] = 0.0
            self._lengths[:] = 0
            return observation

        def seed(self, seed: int | None = None) -> Sequence[int | None]:
            """Set the seeds of the next reset: lane ``i`` gets ``seed + i``."""
            return super().seed(fresh_seed() if seed is None else int(seed))

        def step_async(self, actions: NDArray[Any]) -> None:
            """Take the actions of the next :meth:`step_wait`."""
            self._actions = self.lanes.core.check_actions(actions)

        def step_wait(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], list[Any]]:
            """Step all lanes; a lane whose episode ended shows the first observation of its next one."""
            step = self.lanes.lane_step(self._actions)
            self._mask = step.mask
            self._returns += step.reward
            self._lengths += 1
            infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
            if step.ended.size:
                self._report(step, infos)
            done = step.terminated | step.truncated
            return step.observation, step.reward.astype(np.float32), done, infos

        def _report(self, step: Any, infos: list[dict[str, Any]]) -> None:
            """Fill the infos of the lanes whose episode ended, and start their counts anew."""
            ended, names = step.ended, self.lanes.outcome_names
            elapsed_s = round(time.time() - self._began_s, 6)
            rows = zip(
                ended.tolist(), step.final_observation, self._returns[ended].tolist(),
                self._lengths[ended].tolist(), step.truncated[ended].tolist(), step.outcome.tolist(),
                strict=True,
            )  # fmt: skip
            for lane, observation, total, length, truncated, outcome in rows:
                infos[lane] = {
                    "terminal_observation": observation,
                    "TimeLimit.truncated": truncated,
                    "episode": {"r": total, "l": length, "t": elapsed_s},
                    "is_success": outcome == self._success,
                    "outcome": names[outcome],
                }
            self._returns[ended] = 0.0
            self._lengths[ended] = 0

        def action_masks(self) -> NDArray[np.bool_]:
            """The ``(N, A)`` mask of allowed actions."""
            return self._mask

        def close(self) -> None:
            """Close the lanes."""
            self.lanes.close()

        def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
            """The picture of lane 0, the only one that is drawn."""
            return self.lanes.render() if self.render_mode == "rgb_array" else [None]

        def _count(self, indices: Any) -> int:
            return len(list(self._get_indices(indices)))

        def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
            """The attribute of the environment that all lanes share, once per lane."""
            return [getattr(self.lanes, attr_name)] * self._count(indices)

        def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
            """Set an attribute of the environment that all lanes share; a part of the lanes has none."""
            if self._count(indices) != self.num_envs:
                raise PolicyError(f"set_attr({attr_name!r}): the lanes share it; allowed: all lanes at once")
            setattr(self.lanes, attr_name, value)

        def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
            """``action_masks``: one row per lane; any other method of the lanes is called once for all."""
            if method_name == "action_masks":
                return list(self._mask if indices is None else self._mask[list(self._get_indices(indices))])
            return [getattr(self.lanes, method_name)(*args, **kwargs)] * self._count(indices)

        def env_is_wrapped(self, wrapper_class: type[Any], indices: Any = None) -> list[bool]:
            """True for ``Monitor``, whose records the infos hold; the lanes carry no other wrapper."""
            return [wrapper_class is Monitor] * self._count(indices)

    SB3VecEnv.__module__, SB3VecEnv.__qualname__ = __name__, "SB3VecEnv"
    return SB3VecEnv


def __getattr__(name: str) -> Any:
    if name == "SB3VecEnv":
        return _adapter()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
