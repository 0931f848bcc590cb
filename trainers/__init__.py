"""Policies, baselines, PPO, evaluation and adapters. Names load on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import train
    from .artefact import load_policy, save_policy
    from .baselines import BASELINES, make_baseline
    from .evaluation import Evaluation, evaluate
    from .frontier_curves import Frontier
    from .frontier_sweep import evaluate_frontier
    from .policy import Policy
    from .ppo import PPOConfig
    from .training import TrainResult

__all__ = [
    "BASELINES",
    "Evaluation",
    "Frontier",
    "PPOConfig",
    "Policy",
    "TrainResult",
    "evaluate",
    "evaluate_frontier",
    "load_policy",
    "make_baseline",
    "save_policy",
    "train",
]

_HOMES = {
    "BASELINES": ".baselines",
    "Evaluation": ".evaluation",
    "Frontier": ".frontier_curves",
    "PPOConfig": ".ppo",
    "Policy": ".policy",
    "TrainResult": ".training",
    "evaluate": ".evaluation",
    "evaluate_frontier": ".frontier_sweep",
    "load_policy": ".artefact",
    "make_baseline": ".baselines",
    "save_policy": ".artefact",
    "train": ".api",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home, __name__), name)
    globals()[name] = value
    return value
