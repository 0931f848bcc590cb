"""Rewards: objective components, scalarisations, preferences and shaping.

Rewards read ground truth. They know neither which faults exist nor which struck.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .components import COMPONENT_NAMES, COMPONENTS, Component
from .lagrangian import Lagrangian
from .lexicographic import Lexicographic
from .preferences import PREFERENCE_NAMES, PreferenceColumn, Preferences
from .registry import (
    POTENTIALS,
    REWARDS,
    Potential,
    Preference,
    Reward,
    known_rewards,
    lookup_reward,
    register_potential,
    register_reward,
)
from .shaping import BestCandidate, PotentialShaping, compile_shaping
from .weighted import WeightedSum

__all__ = [
    "COMPONENTS",
    "COMPONENT_NAMES",
    "POTENTIALS",
    "PREFERENCE_NAMES",
    "REWARDS",
    "BestCandidate",
    "CompiledReward",
    "Component",
    "Lagrangian",
    "Lexicographic",
    "Potential",
    "PotentialShaping",
    "Preference",
    "PreferenceColumn",
    "Preferences",
    "Reward",
    "WeightedSum",
    "compile_reward",
    "compile_shaping",
    "known_rewards",
    "lookup_reward",
    "register_potential",
    "register_reward",
]


class CompiledReward(NamedTuple):
    """A scenario's reward and the preferences it is called with."""

    reward: Reward
    preferences: Preferences


def compile_reward(
    reward: Mapping[str, Any], preferences: Mapping[str, Any], budget_usd: float, deadline_s: float
) -> CompiledReward:
    """Compile the sections ``reward`` and ``preferences`` of a scenario.

    Args:
        reward: ``kind`` (default ``weighted-sum``) and the parameters of that reward.
        preferences: by name, a number or ``[low, high]``. ``per_usd`` and ``per_s`` that are left out are the
            reward's own parameters, so a plain scenario needs no preferences at all.
        budget_usd: the budget where no preference says otherwise, USD.
        deadline_s: the deadline where no preference says otherwise, seconds.

    Raises:
        RewardError: naming the field, the value met and what is allowed.

    >>> compiled = compile_reward({"per_usd": 2.0}, {"deadline_s": [10, 60]}, 0.5, 120.0)
    >>> compiled.reward.per_usd, compiled.preferences.sampled
    (2.0, ('deadline_s',))
    """
    built = REWARDS.build(reward, "reward", default="weighted-sum")
    defaults = {
        "per_usd": float(getattr(built, "per_usd", 0.0)),
        "per_s": float(getattr(built, "per_s", 0.0)),
        "budget_usd": budget_usd,
        "deadline_s": deadline_s,
    }
    return CompiledReward(built, Preferences.compile(preferences, defaults))
