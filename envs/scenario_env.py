"""The constructor that the environments of every kind of scenario have in common, scalar and batched."""

from __future__ import annotations

from typing import Any, ClassVar

from gymnasium.vector import AutoresetMode

from .lanes import LaneCore
from .scalar import LaneEnv
from .vector import LaneVectorEnv


class ScenarioEnv(LaneEnv):
    """One lane of ``core_type``, made from a scenario.

    Args:
        scenario: built-in name, path, mapping or scenario; default: ``default_scenario``.
        profile: fault profile of the scenario.
        intensity: scales every fault of the profile; 0 is bit-identical to none.
        split: ``train`` or ``eval``: disjoint sets of episodes.
        max_episode_steps: steps after which an episode is truncated; default: the scenario's.
        render_mode: ``ansi`` or ``rgb_array``.

    Raises:
        ScenarioError: if the scenario is for another environment or an argument cannot be used.
    """

    core_type: ClassVar[type[LaneCore]]
    default_scenario: ClassVar[str]

    def __init__(
        self,
        scenario: Any = None,
        profile: str = "production",
        intensity: float = 1.0,
        split: str = "train",
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        core = self.core_type(
            self.default_scenario if scenario is None else scenario, 1, profile=profile, intensity=intensity,
            split=split, max_episode_steps=max_episode_steps,
        )  # fmt: skip
        super().__init__(core, render_mode=render_mode)


class ScenarioVectorEnv(LaneVectorEnv):
    """``num_envs`` lanes of the environment ``env_type``, stepped together.

    Args:
        num_envs: number of lanes.
        scenario: as for :class:`ScenarioEnv`, like the arguments not listed here.
        autoreset_mode: ``NEXT_STEP`` (default), ``SAME_STEP`` or ``DISABLED``.
        shaping_gamma: add the scenario's potential-based shaping, for a learner with this discount.
    """

    env_type: ClassVar[type[ScenarioEnv]]

    def __init__(
        self,
        num_envs: int = 1,
        scenario: Any = None,
        profile: str = "production",
        intensity: float = 1.0,
        split: str = "train",
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        shaping_gamma: float | None = None,
    ) -> None:
        one = self.env_type
        core = one.core_type(
            one.default_scenario if scenario is None else scenario, num_envs, profile=profile, intensity=intensity,
            split=split, max_episode_steps=max_episode_steps,
        )  # fmt: skip
        super().__init__(core, autoreset_mode=autoreset_mode, render_mode=render_mode, shaping_gamma=shaping_gamma)
