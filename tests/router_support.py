"""A scenario small enough to compute by hand, and a driver that plays named actions on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brownout.envs.router_core import RouterCore
from lane_support import OneLane, changed

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
    return changed(TINY, faults, changes)


def portfolio(**skills: float) -> dict[str, Any]:
    """Configurations of the given skills, each of a family of its own."""
    return {
        name: {"family": name, "skill": skill, "cost_usd": 0.25, "latency_s": 8.0} for name, skill in skills.items()
    }


class Table(OneLane[RouterCore]):
    """One lane of the router, played with action names."""

    def __init__(self, scenario: Any = None, *, seed: int = 0, episode: int = 0, **options: Any) -> None:
        super().__init__(RouterCore(tiny() if scenario is None else scenario, 1, **options), seed, episode)


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
