"""What one call alone gives: the points that every router must beat, and the hull of their mixes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..envs.router_core import RouterCore
from ..scenarios.schema import Scenario
from .baselines import Desk, One
from .evaluation import LANES, play

F64 = NDArray[np.float64]


def single_call_points(
    scenario: Scenario, *, episodes: int, profile: str = "production", intensity: float = 1.0, seed: int = 0
) -> F64:
    """Play "one call to k, submit what it says" for every configuration, on the same held-out episodes.

    Args:
        scenario: a router scenario.
        episodes: episodes per configuration.
        profile: fault profile.
        intensity: fault intensity.
        seed: seed of the episodes.

    Returns:
        ``(K, 2)`` mean cost, USD, and share of right answers of each configuration.
    """
    core = RouterCore(scenario, min(LANES, episodes), profile=profile, intensity=intensity, split="eval")
    desk, points = Desk(core), np.zeros((core.num_configs, 2))
    for k in range(core.num_configs):
        records = play(One(desk, core, k, retries=0), core, episodes, seed)
        points[k] = records.component("cost_usd").mean(), (records.component("accuracy") > 0).mean()
    return points
