"""A scenario small enough to compute by hand, and a driver that plays named actions on it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brownout.envs.router_core import RouterCore

# `sure` is always right, `dud` never: the noise of a call is cut at about nine logits.
TINY: dict[str, Any] = {
    "version": 1,
    "name": "tiny",
    "env": "router",
    "tasks": {
        "classes": {"only": 1.0}, "difficulty": {"only": [0.0, 0.0]}, "family_sd": 0.0, "configuration_sd": 0.0,
        "hint_sd": None,
    },
    "portfolio": {
        "sure": {"family": "a", "skill": 50.0, "cost_usd": 0.25, "latency_s": 8.0},
        "dud": {"family": "b", "skill": -50.0, "cost_usd": 0.0625, "latency_s": 2.0},
        "slow": {"family": "b", "skill": 40.0, "cost_usd": 0.5, "latency_s": 64.0},
    },
    "judge": {"true_positive": 1.0, "false_positive": 0.0, "cost_usd": 0.03125, "latency_s": 1.0},
    "repair": {"fix": 1.0, "harm": 0.0, "cost_factor": 0.5, "latency_factor": 0.25},
    "person": {"accuracy": 1.0, "cost_usd": 2.0, "latency_s": 128.0},
    "limits": {
        "budget_usd": 16.0, "deadline_s": 1024.0, "max_steps": 24, "max_calls": 8, "max_parallel": 4, "backoff_s": 3.0,
    },
    "reward": {"accuracy": 1.0, "per_usd": 1.0, "per_s": 0.0078125, "wrong_answer": -0.5, "handoff": 0.75},
    "profiles": {"clean": []},
}  # fmt: skip
PER_S = 0.0078125


def tiny(*faults: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """The scenario with some fields changed (``limits__budget_usd=1``), and ``faults`` in production."""
    data = copy.deepcopy(TINY)
    for path, value in changes.items():
        *parents, last = path.split("__")
        target = data
        for key in parents:
            target = target.setdefault(key, {})
        target[last] = value
    data["profiles"]["production"] = [dict(fault) for fault in faults]
    return data


def portfolio(**skills: float) -> dict[str, Any]:
    """Configurations of the given skills, each of a family of its own."""
    return {
        name: {"family": name, "skill": skill, "cost_usd": 0.25, "latency_s": 8.0} for name, skill in skills.items()
    }


@dataclass
class Turn:
    """What one step of one lane did."""

    reward: float
    parts: dict[str, float]
    terminated: bool
    truncated: bool
    outcome: str


class Table:
    """One lane, played with action names."""

    def __init__(self, scenario: Any = None, *, seed: int = 0, episode: int = 0, **options: Any) -> None:
        self.core = RouterCore(tiny() if scenario is None else scenario, 1, **options)
        self.core.seed(self.core.all_lanes, [seed])
        self.core.begin(self.core.all_lanes, episode)
        self.names = list(self.core.action_names)

    def do(self, *actions: str) -> Turn:
        """Take actions and return what the last one did."""
        core = self.core
        for action in actions:
            core.advance(np.array([self.names.index(action)]))
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


def begin(scenario: Any, lanes: int, **options: Any) -> RouterCore:
    """A core of many lanes, lane ``i`` in episode 0 of seed ``i``."""
    core = RouterCore(scenario, lanes, **options)
    core.seed(core.all_lanes, range(lanes))
    core.begin(core.all_lanes)
    return core


def step_all(core: RouterCore, *actions: str) -> NDArray[np.float64]:
    """The same actions in every lane; returns the last rewards."""
    for action in actions:
        core.advance(np.full(core.num_lanes, core.action_names.index(action)))
    return core.reward


def column(core: RouterCore, name: str) -> NDArray[np.float32]:
    """One named observation column of every lane."""
    return core.observe()[:, [c.name for c in core.observation_columns].index(name)]
