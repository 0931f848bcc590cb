"""The batched face of a lane core: a Gymnasium ``VectorEnv`` in all three autoreset modes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from ..errors import PolicyError
from ..rewards import compile_shaping
from .face import CoreFace
from .lanes import F64, I64, Bools, LaneCore, LaneStep
from .render import draw_timeline


def spaces_of(core: LaneCore) -> tuple[gym.spaces.Box, gym.spaces.Discrete]:
    """Observation and action space of one lane."""
    low = np.array([column.low for column in core.observation_columns], dtype=np.float32)
    high = np.array([column.high for column in core.observation_columns], dtype=np.float32)
    return gym.spaces.Box(low, high, dtype=np.float32), gym.spaces.Discrete(len(core.action_names))


def fresh_seed() -> int:
    """A seed from the operating system's entropy, for a reset that was given none."""
    return int(np.random.SeedSequence().generate_state(1, np.uint32)[0])


class LaneVectorEnv(CoreFace, gym.vector.VectorEnv[NDArray[np.float32], NDArray[np.int64], Any]):
    """``N`` lanes of a core as one vector environment.

    Lane ``i`` equals, bit for bit, the scalar environment with seed ``seed + i``, in every autoreset mode.

    Args:
        core: the simulation.
        autoreset_mode: ``NEXT_STEP`` (default), ``SAME_STEP`` or ``DISABLED``.
        render_mode: ``ansi`` or ``rgb_array`` renders lane 0.
        shaping_gamma: add the scenario's potential-based shaping to the reward, for a learner with this
            discount (training only).
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi", "rgb_array"], "render_fps": 2}

    def __init__(
        self,
        core: LaneCore,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        shaping_gamma: float | None = None,
    ) -> None:
        mode = AutoresetMode(autoreset_mode) if isinstance(autoreset_mode, str) else autoreset_mode
        self.core = core
        self.metadata = {**type(self).metadata, "autoreset_mode": mode}
        self.autoreset_mode = mode
        self.render_mode = render_mode
        if render_mode is not None:
            core.trace = []
        self.num_envs = core.num_lanes
        self.single_observation_space, self.single_action_space = spaces_of(core)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._ended: Bools = np.zeros(self.num_envs, np.bool_)
        self._begun = False
        # For a training that chooses its episodes: called after each step of the fast path with the core and the
        # lanes that ended, whose next episodes it begins; and the episode indices [first, end) to choose from.
        self.on_step: Callable[[LaneCore, I64], None] | None = None
        self.episode_window: tuple[int, int] | None = None
        self._outcomes = np.array(core.outcome_names, dtype=object)
        spec = core.scenario.shaping
        self._shaping = None
        if shaping_gamma is not None and spec is not None:
            self._shaping = compile_shaping(spec, shaping_gamma, [c.name for c in core.observation_columns])
        self._potential: F64 = np.zeros(self.num_envs)

    def action_masks(self) -> NDArray[np.int8]:
        """The ``(N, A)`` mask of allowed actions."""
        return self.core.mask().view(np.int8)  # a bool is one byte, 0 or 1

    # ---------------------------------------------------------------- Gymnasium

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin episodes in all lanes, or in those of ``options["reset_mask"]``.

        Args:
            seed: ``s`` gives lane ``i`` the seed ``s + i``, a list gives one each; None goes on to each
                lane's next episode.
            options: ``reset_mask`` (bool ``(N,)``) and ``episode`` (index of the episode to begin).
        """
        options = dict(options or {})
        n = self.num_envs
        reset_mask = options.pop("reset_mask", None)
        if reset_mask is None:
            lanes = self.core.all_lanes
        else:
            good = isinstance(reset_mask, np.ndarray) and reset_mask.shape == (n,) and reset_mask.dtype == np.bool_
            if not good or not reset_mask.any():
                raise PolicyError(f"options['reset_mask']: got {reset_mask!r}; allowed: ({n},) bool, at least one True")
            lanes = np.flatnonzero(reset_mask)
            if not self._begun and lanes.size < n:
                raise gym.error.ResetNeeded("options['reset_mask']: the first reset must begin every lane")
        self._seed(seed, lanes)
        self.core.begin(lanes, options.get("episode"))
        self._ended[lanes] = False
        observation = self.core.observe()
        self._note_potential(observation)
        began = np.zeros(n, np.bool_)
        began[lanes] = True
        return observation, self._masked({"action_mask": self.action_masks()}, began)

    def _seed(self, seed: int | Sequence[int | None] | None, lanes: I64) -> None:
        n = self.num_envs
        if seed is None and self._begun:
            return
        if seed is None:
            seed = fresh_seed()
        seeds = [seed + i for i in range(n)] if isinstance(seed, (int, np.integer)) else list(seed)
        if len(seeds) != n:
            raise PolicyError(f"seed: got a list of {len(seeds)}; allowed: one per lane, {n}")
        if not self._begun:
            fallback = fresh_seed()
            self.core.seed(self.core.all_lanes, [fallback + i if s is None else s for i, s in enumerate(seeds)])
            self._begun = True
            return
        given = np.array([int(i) for i in lanes if seeds[i] is not None], dtype=np.int64)
        if given.size:
            self.core.seed(given, [int(seeds[i]) for i in given])

    def step(self, actions: NDArray[np.int64]) -> tuple[NDArray[np.float32], F64, Bools, Bools, dict[str, Any]]:
        """Step every lane; see the Gymnasium documentation of the chosen autoreset mode."""
        self._require_reset()
        checked = self.core.check_actions(actions)
        if self.autoreset_mode == AutoresetMode.SAME_STEP:
            return self._step_same(checked)
        core = self.core
        if self.autoreset_mode == AutoresetMode.DISABLED:
            if self._ended.any():
                lane = int(np.flatnonzero(self._ended)[0])
                raise PolicyError(
                    f"lane {lane} has ended: autoreset is disabled, so call reset(options={{'reset_mask': ...}})"
                )
            frozen = None
        else:
            frozen = np.flatnonzero(self._ended) if self._ended.any() else None
        core.advance(checked, frozen)
        if frozen is not None:
            core.begin(frozen)
        observation = core.observe()
        reward = self._shaped(observation, core.reward, frozen)
        self._ended = core.terminated | core.truncated
        stepped = np.ones(self.num_envs, np.bool_)
        if frozen is not None:
            stepped[frozen] = False
        infos = self._masked({"action_mask": self.action_masks()}, np.ones(self.num_envs, np.bool_))
        if stepped.any():
            infos.update(self._step_info(stepped, self._ended))
        return observation, reward, core.terminated.copy(), core.truncated.copy(), infos

    def _step_same(self, actions: I64) -> tuple[NDArray[np.float32], F64, Bools, Bools, dict[str, Any]]:
        core, n = self.core, self.num_envs
        core.advance(actions)
        observation = core.observe()
        ended = core.terminated | core.truncated
        reward = self._shaped(observation, core.reward, None)
        terminated, truncated = core.terminated.copy(), core.truncated.copy()
        infos: dict[str, Any] = {}
        if not ended.all():
            infos.update(self._step_info(~ended, np.zeros(n, np.bool_)))
        if ended.any():
            lanes = np.flatnonzero(ended)
            final: dict[str, Any] = self._step_info(ended, ended)
            final.update(self._masked({"action_mask": self.action_masks()}, ended))
            final_obs = np.full(n, None, dtype=object)
            for lane in lanes:
                final_obs[lane] = observation[lane].copy()
            core.begin(lanes)
            observation[lanes] = core.observe(lanes)
            self._note_potential(observation, lanes)
            infos.update(final_obs=final_obs, _final_obs=ended, final_info=final, _final_info=ended.copy())
        infos.update(self._masked({"action_mask": self.action_masks()}, np.ones(n, np.bool_)))
        return observation, reward, terminated, truncated, infos

    def _step_info(self, stepped: Bools, ended: Bools) -> dict[str, Any]:
        """Components of the lanes that stepped, the outcome of those that ended."""
        core = self.core
        components = core.components
        if not stepped.all():
            components = np.where(stepped[:, None], components, 0.0)
        values: dict[str, Any] = {"vector_reward": components}
        values.update(zip(core.component_names, components.T.copy(), strict=True))
        infos = self._masked(values, stepped)
        if ended.any():
            outcome = np.full(self.num_envs, None, dtype=object)
            outcome[ended] = self._outcomes[core.outcome[ended]]
            infos.update(outcome=outcome, _outcome=ended.copy())
        return infos

    def _masked(self, values: dict[str, Any], mask: Bools) -> dict[str, Any]:
        """Gymnasium's info format: every key with its boolean mask, zeros where the mask is False."""
        infos: dict[str, Any] = {}
        everything = bool(mask.all())
        for key, value in values.items():
            if not everything:
                value = np.where(mask if value.ndim == 1 else mask[:, None], value, np.zeros((), value.dtype))
            infos[key] = value
            infos[f"_{key}"] = mask.copy()
        return infos

    def render(self) -> Any:
        """Render lane 0: its timeline as text, or as a picture."""
        if self.render_mode is None:
            return None
        lines = self.core.timeline()
        return ("\n".join(lines),) if self.render_mode == "ansi" else (draw_timeline(lines),)

    # ---------------------------------------------------------------- fast path

    def lane_reset(
        self, seeds: Sequence[int] | NDArray[Any], episodes: int | I64 = 0
    ) -> tuple[NDArray[np.float32], Bools]:
        """Begin the given episodes without building info dictionaries.

        Args:
            seeds: one seed per lane.
            episodes: episode index, one or one per lane.

        Returns:
            Observation ``(N, D)`` and action mask ``(N, A)``.
        """
        if len(seeds) != self.num_envs:
            raise PolicyError(f"seeds: got {len(seeds)}; allowed: one per lane, {self.num_envs}")
        self.core.seed(self.core.all_lanes, seeds)
        self.core.begin(self.core.all_lanes, episodes)
        self._begun = True
        self._ended[:] = False
        observation = self.core.observe()
        self._note_potential(observation)
        return observation, self.core.mask()

    def lane_step(self, actions: NDArray[np.int64]) -> LaneStep:
        """Step with same-step autoreset and compact results, whatever the autoreset mode is."""
        core = self.core
        core.advance(actions)
        observation = core.observe()
        reward = self._shaped(observation, core.reward, None)
        terminated, truncated = core.terminated, core.truncated
        ended = np.flatnonzero(terminated | truncated)
        final, outcome = observation[ended], core.outcome[ended]
        if self.on_step is not None:
            self.on_step(core, ended)
        elif ended.size:
            core.begin(ended)
        if ended.size:
            observation[ended] = core.observe(ended)
            self._note_potential(observation, ended)
        return LaneStep(observation, reward, terminated, truncated, core.mask(), core.components, ended, final, outcome)

    def get_state(self) -> dict[str, NDArray[Any]]:
        """State of every lane, for an exact continuation elsewhere."""
        return {**self.core.get_state(), "ended": self._ended.copy(), "potential": self._potential.copy()}

    def set_state(self, state: dict[str, NDArray[Any]]) -> None:
        """Continue from :meth:`get_state`."""
        self.core.set_state(state)
        self._ended = np.array(state["ended"], dtype=np.bool_)
        self._potential = np.array(state["potential"], dtype=np.float64)
        self._begun = True

    def current(self) -> tuple[NDArray[np.float32], Bools]:
        """Observation and mask of the present moment, without a step."""
        return self.core.observe(), self.core.mask()

    # ---------------------------------------------------------------- shaping

    def _note_potential(self, observation: NDArray[np.float32], lanes: I64 | None = None) -> None:
        if self._shaping is None:
            return
        if lanes is None:
            self._potential = self._shaping.potentials(observation)
        else:
            self._potential[lanes] = self._shaping.potentials(observation[lanes])

    def _shaped(self, observation: NDArray[np.float32], reward: F64, frozen: I64 | None) -> F64:
        if self._shaping is None:
            return reward.copy()
        potential = self._shaping.potentials(observation)
        following = np.where(self.core.terminated, 0.0, potential)
        extra = following * self._shaping.gamma - self._potential
        if frozen is not None:
            extra[frozen] = 0.0
        self._potential = potential
        return reward + extra

    def _require_reset(self) -> None:
        if not self._begun:
            raise gym.error.ResetNeeded("call reset() before step()")
