"""A driver that plays named actions on one lane of a core, and scenarios changed field by field."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from brownout.envs.lanes import LaneCore

C = TypeVar("C", bound=LaneCore)


def changed(scenario: Mapping[str, Any], faults: Iterable[Mapping[str, Any]], changes: Mapping[str, Any]) -> Any:
    """The scenario with some fields changed (``limits__budget_usd=1``), and ``faults`` in production."""
    data = copy.deepcopy(dict(scenario))
    for path, value in changes.items():
        *parents, last = path.split("__")
        target = data
        for key in parents:
            target = target.setdefault(key, {})
        target[last] = value
    data["profiles"]["production"] = [dict(fault) for fault in faults]
    return data


@dataclass
class Turn:
    """What one step of one lane did."""

    reward: float
    parts: dict[str, float]
    terminated: bool
    truncated: bool
    outcome: str


class OneLane(Generic[C]):
    """One lane, played with action names."""

    def __init__(self, core: C, seed: int = 0, episode: int = 0) -> None:
        self.core = core
        self.core.seed(self.core.all_lanes, [seed])
        self.core.begin(self.core.all_lanes, episode)
        self.names = list(self.core.action_names)

    def take(self, action: str) -> None:
        """Take one action."""
        self.core.advance(np.array([self.names.index(action)]))

    def do(self, *actions: str) -> Turn:
        """Take actions and return what the last one did."""
        core = self.core
        for action in actions:
            self.take(action)
        parts = dict(zip(core.component_names, core.components[0].tolist(), strict=True))
        ended = bool(core.terminated[0] or core.truncated[0])
        outcome = core.outcome_names[core.outcome[0]] if ended else ""
        return Turn(float(core.reward[0]), parts, bool(core.terminated[0]), bool(core.truncated[0]), outcome)

    def legal(self) -> set[str]:
        """Names of the actions allowed now."""
        return {name for name, allowed in zip(self.names, self.core.mask()[0], strict=True) if allowed}

    def see(self, column: str) -> float:
        """One named column of the observation."""
        names = [c.name for c in self.core.observation_columns]
        return float(self.core.observe()[0, names.index(column)])

    @property
    def clock(self) -> float:
        return float(self.core.clock[0])

    @property
    def spend(self) -> float:
        return float(self.core.spend[0])
