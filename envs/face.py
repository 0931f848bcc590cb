"""What the scalar and the batched face of a lane core have in common: the names of things."""

from __future__ import annotations

from ..scenarios.columns import Column
from ..scenarios.schema import Scenario
from .lanes import LaneCore


class CoreFace:
    """Read-only descriptions of the core behind an environment."""

    core: LaneCore

    @property
    def observation_columns(self) -> tuple[Column, ...]:
        """Name, unit and range of every observation column."""
        return self.core.observation_columns

    @property
    def action_names(self) -> tuple[str, ...]:
        """Name of every action."""
        return self.core.action_names

    @property
    def component_names(self) -> tuple[str, ...]:
        """Name of every objective component."""
        return self.core.component_names

    @property
    def outcome_names(self) -> tuple[str, ...]:
        """Name of every way an episode can end."""
        return self.core.outcome_names

    @property
    def scenario(self) -> Scenario:
        """The scenario that is simulated."""
        return self.core.scenario

    @property
    def profile(self) -> str:
        """The fault profile of the scenario."""
        return self.core.profile
