"""The scalar face of a lane core: the same physics at ``N = 1`` as a Gymnasium ``Env``."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from ..errors import PolicyError
from .face import CoreFace
from .lanes import LaneCore
from .render import draw_timeline
from .vector import fresh_seed, spaces_of


class LaneEnv(CoreFace, gym.Env[NDArray[np.float32], Any]):
    """One lane of a core, with a plain Python reward and flags.

    Args:
        core: a core with one lane.
        render_mode: ``ansi`` (the episode as a timeline) or ``rgb_array``.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi", "rgb_array"], "render_fps": 2}

    def __init__(self, core: LaneCore, *, render_mode: str | None = None) -> None:
        self.core = core
        self.render_mode = render_mode
        if render_mode is not None:
            core.trace = []
        self.observation_space, self.action_space = spaces_of(core)
        self._lane = core.all_lanes
        self._action = np.zeros(1, np.int64)
        self._seeded = False

    def action_masks(self) -> NDArray[np.int8]:
        """The ``(A,)`` mask of allowed actions."""
        return self.core.mask()[0].astype(np.int8)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin an episode: number 0 of ``seed``, or the lane's next one.

        Args:
            seed: a new seed for the lane.
            options: ``{"episode": i}`` begins episode ``i`` of the seed.
        """
        super().reset(seed=seed)
        if seed is not None or not self._seeded:
            self.core.seed(self._lane, [fresh_seed() if seed is None else seed])
            self._seeded = True
        self.core.begin(self._lane, (options or {}).get("episode"))
        return self.core.observe()[0], {"action_mask": self.action_masks()}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Apply one action.

        Raises:
            PolicyError: if the action is out of range.
        """
        core = self.core
        if not self._seeded:
            raise gym.error.ResetNeeded("call reset() before step()")
        try:
            self._action[0] = action
        except (TypeError, ValueError):
            raise PolicyError(f"action: got {action!r}; allowed: 0 to {len(core.action_names) - 1}") from None
        if not 0 <= self._action[0] < len(core.action_names):
            raise PolicyError(f"action: got {action!r}; allowed: 0 to {len(core.action_names) - 1}")
        core.advance(self._action)
        components = core.components[0]
        info: dict[str, Any] = dict(zip(core.component_names, components.tolist(), strict=True))
        info["action_mask"] = core.mask()[0].astype(np.int8)
        info["vector_reward"] = components
        terminated, truncated = bool(core.terminated[0]), bool(core.truncated[0])
        if terminated or truncated:
            info["outcome"] = core.outcome_names[core.outcome[0]]
        return core.observe()[0], float(core.reward[0]), terminated, truncated, info

    def render(self) -> Any:
        """Return the episode so far as a timeline, text or picture."""
        if self.render_mode is None:
            return None
        lines = self.core.timeline()
        return "\n".join(lines) if self.render_mode == "ansi" else draw_timeline(lines)
