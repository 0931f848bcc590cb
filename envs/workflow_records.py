"""How the records that an episode binds come to be dirty: the effects on records of a plan, at any scale."""

from __future__ import annotations

import numpy as np

from ..faults import FaultPlan, Fields
from ..faults.graded import LEVELS
from ..faults.record_plan import BoundRecordPlan
from .lanes import F64, I64


class Messes:
    """The effects on records of a plan, bound once for each scale of the intensity in use."""

    def __init__(self, plan: FaultPlan, fields: Fields, intensity: float) -> None:
        self._plan, self._fields, self._intensity = plan, fields, intensity
        self._bound: dict[int, BoundRecordPlan | None] = {}

    def __bool__(self) -> bool:
        return self.at(LEVELS) is not None

    def at(self, level: int) -> BoundRecordPlan | None:
        """Return the plan at ``level`` times 1 / LEVELS of the intensity, None if nothing can strike."""
        if level not in self._bound:
            intensity = self._intensity * level / LEVELS
            self._bound[level] = self._plan.bind_records(self._fields, intensity, Episodes.names)
        return self._bound[level]


class Episodes:
    """What triggers of effects on records may ask."""

    names = ("episode",)

    def __init__(self, episodes: I64) -> None:
        self._episodes = episodes

    def value(self, name: str, lanes: I64) -> F64:
        """Return the episode of each record's lane."""
        return self._episodes.take(lanes).astype(np.float64)
