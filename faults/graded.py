"""A plan whose intensity differs from lane to lane, for trainings that mix healthy and faulted episodes.

Intensity acts on a fault in more ways than one: rates grow, bursts last longer, effects get stronger. So every
scale in use is a plan of its own, bound like any other, and a lane belongs to one of them for a whole episode. An
episode at scale ``s`` therefore equals, bit for bit, the same episode of a plan bound at ``s`` times the intensity,
and at scale 0 the healthy one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..envs.streams import U64
from ..errors import FaultError
from .calls import Calls
from .log import InjectionLog
from .runtime import BoundPlan

LEVELS: Final = 20
"""Scales are multiples of ``1 / LEVELS``: a schedule that moves slowly then needs few plans at a time."""

MOST_SCALE: Final = 100.0

I64 = NDArray[np.int64]


class GradedPlan:
    """Takes the place of a :class:`BoundPlan`; all lanes begin at scale 1.

    Args:
        plan: the plan at scale 1.
    """

    def __init__(self, plan: BoundPlan) -> None:
        self._plans = {LEVELS: plan}
        self._level = np.full(plan.num_lanes, LEVELS)
        self._base = plan

    def assign(self, lanes: I64, scales: Any) -> None:
        """Give lanes their scales, rounded to multiples of ``1 / LEVELS``; for lanes between two episodes.

        Args:
            lanes: ``(m,)`` lanes.
            scales: one number, or one per lane; 0 is a healthy episode, 1 the plan's own intensity.

        Raises:
            FaultError: if a scale is not a number from 0 to 100.
        """
        values = np.asarray(scales, dtype=np.float64)
        good = (values >= 0.0) & (values <= MOST_SCALE)  # also false for NaN
        if not good.all():
            raise FaultError(f"scale = {values[~good].flat[0]!r} is not allowed: must be 0 to {MOST_SCALE:g}")
        self._level[lanes] = np.rint(values * LEVELS).astype(np.int64)

    @property
    def scales(self) -> NDArray[np.float64]:
        """The ``(num_lanes,)`` scale of each lane's episode."""
        return self._level / LEVELS

    @property
    def log(self) -> InjectionLog:
        """What was done to which call in every lane; parameters are those at scale 1."""
        return self._base.log

    @property
    def fault_ids(self) -> tuple[str, ...]:
        """The ids of the planned faults."""
        return self._base.fault_ids

    @property
    def timeless_ids(self) -> frozenset[str]:
        """Ids of the faults whose strike on a call depends on nothing but the call itself."""
        return self._base.timeless_ids

    def parts(self, lanes: I64) -> Iterator[tuple[BoundPlan, I64 | None]]:
        """Yield each plan that these lanes are under, with the rows of ``lanes`` it is about (None: all)."""
        levels = self._level.take(lanes)
        present = np.bincount(levels).nonzero()[0]
        for level in present.tolist():
            if level:
                yield self._at(level), None if present.size == 1 else (levels == level).nonzero()[0]

    def _at(self, level: int) -> BoundPlan:
        if level not in self._plans:
            self._plans[level] = self._base.at(level / LEVELS)
        return self._plans[level]

    def reset(self, lanes: I64, keys: U64) -> None:
        """Start episodes; see :meth:`BoundPlan.reset`."""
        for plan, rows in self.parts(lanes):
            plan.reset(lanes if rows is None else lanes.take(rows), keys if rows is None else keys.take(rows))

    def strike(self, calls: Calls, keys: U64) -> None:
        """Let each lane's plan act on its call, in place; see :meth:`BoundPlan.strike`."""
        for plan, rows in self.parts(calls.lanes):
            if rows is None:
                plan.strike(calls, keys)
            else:
                own = calls.select(rows)
                plan.strike(own, keys.take(rows))
                calls.assign(rows, own)

    def get_state(self) -> dict[str, NDArray[Any]]:
        """Return scales, and of each plan what it remembers of its own lanes."""
        state: dict[str, NDArray[Any]] = {"scale": self.scales}
        for level in np.unique(self._level[self._level > 0]).tolist():
            lanes = (self._level == level).nonzero()[0]
            state |= {f"{level}/{name}": array[lanes] for name, array in self._at(level).arrays().items()}
        return state

    def set_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over a state from :meth:`get_state` of the same plan and number of lanes.

        Raises:
            FaultError: if arrays are missing or of another shape.
        """
        scales = state.get("scale")
        if scales is None or scales.shape != self._level.shape:
            met = "nothing" if scales is None else f"shape {scales.shape}"
            raise FaultError(f"fault state 'scale': got {met}; this plan needs {self._level.shape}")
        self.assign(np.arange(self._level.size), scales)
        for level in np.unique(self._level[self._level > 0]).tolist():
            lanes = (self._level == level).nonzero()[0]
            for name, array in self._at(level).arrays().items():
                given = state.get(f"{level}/{name}")
                if given is None or given.shape != array[lanes].shape:
                    met = "nothing" if given is None else f"shape {given.shape}"
                    raise FaultError(f"fault state '{level}/{name}': got {met}; allowed: {array[lanes].shape}")
                array[lanes] = given
