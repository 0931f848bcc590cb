"""From a scenario to its simulation: the one place that knows which core and which faces belong to which ``env``."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ..scenarios.loading import load_scenario
from .lanes import LaneCore
from .scalar import LaneEnv
from .vector import LaneVectorEnv


def _class(scenario: Any, suffix: str, module: str = "") -> tuple[Any, Any]:
    loaded = load_scenario(scenario)
    home = import_module(f".{loaded.env}{module}", __package__)
    return getattr(home, f"{loaded.env.capitalize()}{suffix}"), loaded


def make_core(scenario: Any, num_lanes: int = 1, **options: Any) -> LaneCore:
    """Return ``num_lanes`` lanes of the simulation that a scenario is for.

    Args:
        scenario: built-in name, path, mapping or scenario.
        num_lanes: number of lanes.
        options: ``profile``, ``intensity``, ``split``, ``max_episode_steps`` of :class:`~brownout.envs.lanes.LaneCore`.

    Raises:
        ScenarioError: if the scenario, profile or split cannot be used.

    >>> make_core("textbook", 3).num_lanes, type(make_core("refund")).__name__
    (3, 'WorkflowCore')
    """
    core, loaded = _class(scenario, "Core", "_core")
    return core(loaded, num_lanes, **options)


def make_lanes(scenario: Any, num_envs: int, **options: Any) -> LaneVectorEnv:
    """Return the batched environment that a scenario is for; ``options`` are those of its class."""
    env, loaded = _class(scenario, "VectorEnv")
    return env(num_envs, loaded, **options)


def make_env(scenario: Any, **options: Any) -> LaneEnv:
    """Return the scalar environment that a scenario is for; ``options`` are those of its class."""
    env, loaded = _class(scenario, "Env")
    return env(loaded, **options)
