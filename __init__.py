"""Training environments that simulate production for AI agents, faults included.

Importing the package registers its environments with Gymnasium and nothing more; the names below are
loaded on first use, so that ``import brownout`` stays quick and needs none of the optional extras.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import envs as envs  # registers the environments

if TYPE_CHECKING:
    from .envs.tools import EpisodeResult, ToolEpisode, ToolSession
    from .envs.trace import trace_digest
    from .envs.wrap import wrap
    from .envs.wrap_types import ToolError, WrapTool
    from .faults import CallEffect, Status, register_fault
    from .rewards import register_reward
    from .scenarios import Scenario, load_scenario
    from .trainers import evaluate, evaluate_frontier, load_policy, train

__version__ = "0.1.0"

__all__ = [
    "CallEffect",
    "EpisodeResult",
    "Scenario",
    "Status",
    "ToolEpisode",
    "ToolError",
    "ToolSession",
    "WrapTool",
    "__version__",
    "evaluate",
    "evaluate_frontier",
    "load_policy",
    "load_scenario",
    "register_fault",
    "register_reward",
    "trace_digest",
    "train",
    "wrap",
]

# Where each public name lives; keep in step with the imports for type checkers above.
_HOMES = {
    "CallEffect": ".faults",
    "EpisodeResult": ".envs.tools",
    "Scenario": ".scenarios",
    "Status": ".faults",
    "ToolEpisode": ".envs.tools",
    "ToolError": ".envs.wrap_types",
    "ToolSession": ".envs.tools",
    "WrapTool": ".envs.wrap_types",
    "evaluate": ".trainers",
    "evaluate_frontier": ".trainers",
    "load_policy": ".trainers",
    "load_scenario": ".scenarios",
    "register_fault": ".faults",
    "register_reward": ".rewards",
    "trace_digest": ".envs.trace",
    "train": ".trainers",
    "wrap": ".envs.wrap",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home, __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
