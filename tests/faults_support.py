"""Small worlds, stub draws and batches for the tests of faults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brownout.envs.streams import episode_keys
from brownout.faults import BoundPlan, Calls, Draw, FaultPlan, Services
from brownout.faults.calls import CALL_FIELDS

SERVICES = Services(("small", "mid", "frontier", "alt", "judge", "person"), ("a", "a", "b", "c", "judge", "person"))
SMALL, MID, FRONTIER, ALT, JUDGE, PERSON = range(6)
PORTS = frozenset({"calls", "portfolio"})


class StubDraw(Draw):
    """Gives the uniforms it was told to, one row of numbers per request."""

    def __init__(self, *rows: Sequence[float]) -> None:
        self._rows = [np.array(row, dtype=np.float64) for row in rows]

    def uniform(self) -> NDArray[np.float64]:
        return self._rows.pop(0)


class TableWorld:
    """A world whose numbers are arrays over lanes."""

    def __init__(self, **values: NDArray[Any]) -> None:
        self.values = values

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.values)

    def value(self, name: str, lanes: NDArray[np.int64]) -> NDArray[np.float64]:
        return self.values[name].take(lanes).astype(np.float64)


def keys_of(lanes: Any, seed: int = 0, episode: int = 0) -> NDArray[np.uint64]:
    """Episode keys of lanes; lane ``i`` has seed ``seed + i``."""
    lanes = np.atleast_1d(np.asarray(lanes, dtype=np.int64))
    return episode_keys(lanes + seed, np.full(lanes.shape, episode), "train")


def bound(
    specs: Sequence[Mapping[str, Any]], num_lanes: int = 1, seed: int = 0, intensity: float = 1.0, **more: Any
) -> BoundPlan:
    """Bind a plan and start all its lanes."""
    plan = FaultPlan.from_specs(specs, "plan").bind(SERVICES, PORTS, intensity, num_lanes, **more)
    assert plan is not None
    plan.reset(np.arange(num_lanes), keys_of(np.arange(num_lanes), seed))
    return plan


def struck(calls: Calls, healthy: Calls) -> NDArray[np.bool_]:
    """Rows in which anything differs."""
    changed = np.zeros(len(calls), dtype=np.bool_)
    for name in CALL_FIELDS:
        changed |= getattr(calls, name) != getattr(healthy, name)
    return changed


def assert_same(left: Calls, right: Calls) -> None:
    """Both batches hold the same bits."""
    for name in CALL_FIELDS:
        a, b = getattr(left, name), getattr(right, name)
        assert a.dtype == b.dtype, name
        assert a.tobytes() == b.tobytes(), (name, a, b)


def chance_interval(p: float, n: int, z: float = 4.5) -> tuple[float, float]:
    """Interval that a binomial share leaves with probability below 1e-5."""
    half = z * np.sqrt(p * (1.0 - p) / n) + 0.5 / n
    return p - half, p + half
