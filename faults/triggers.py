"""The triggers: when and where a fault strikes.

Write them in Python, ``Rate(0.03) & On("frontier")``, or as text in a scenario,
``rate(0.03) & on('frontier')``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..envs.streams import U64, uniform
from ..errors import FaultError
from .base import check_number, check_share
from .compose import F64, And, Context, Hazard, Scope, Trigger, conjuncts, filled, register_trigger
from .draws import unit_exponential
from .predicate import Condition, parse_condition
from .world import Services, Table

SHORTEST_PHASE_S = 0.1
_FIRST_TWO = np.arange(2)


class _Certain(Trigger):
    """A plain condition: 0 or 1."""

    def is_certain(self) -> bool:
        return True


@register_trigger("always")
@dataclass(frozen=True)
class Always(_Certain):
    """Every call."""

    def bounds(self, services: Services) -> tuple[Table, Table]:
        """Return 1 and 1."""
        return filled(services, 1.0), filled(services, 1.0)

    def hazard(self, context: Context) -> float:
        """Return 1."""
        return 1.0


@register_trigger("rate")
@dataclass(frozen=True)
class Rate(Trigger):
    """Each call with probability ``p``, independently."""

    p: float

    def __post_init__(self) -> None:
        check_share(self, "p")

    def bounds(self, services: Services) -> tuple[Table, Table]:
        """Return ``p`` and ``p``."""
        return filled(services, self.p), filled(services, self.p)

    def hazard(self, context: Context) -> float:
        """Return ``p``."""
        return float(self.p)


@register_trigger("on")
@dataclass(frozen=True)
class On(_Certain):
    """Calls to a service, or with a verb, whose name matches a glob such as ``'crm*'`` or ``'judge'``."""

    pattern: str
    selective: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not isinstance(self.pattern, str) or not self.pattern:
            raise FaultError(f"pattern = {self.pattern!r} is not allowed: must be a name or glob")

    def bounds(self, services: Services) -> tuple[Table, Table]:
        """Return 0 or 1, the same for both."""
        table = services.matching(self.pattern).astype(np.float64)
        return table, table.copy()

    def selects(self, services: Services) -> NDArray[np.bool_]:
        """Return the matching calls."""
        return services.matching(self.pattern)

    def compile(self, scope: Scope) -> Hazard:
        """Return a table look-up."""
        table = self.bounds(scope.services)[0]
        return lambda context: table[context.verb, context.service]


@register_trigger("nth_call")
@dataclass(frozen=True)
class NthCall(_Certain):
    """The ``n``-th call of a lane to a service in an episode, counted from 1."""

    n: int

    def __post_init__(self) -> None:
        _check_count(self, "n")

    def hazard(self, context: Context) -> Any:
        """Return 1 for that call."""
        return context.number == self.n - 1


@register_trigger("every")
@dataclass(frozen=True)
class Every(_Certain):
    """Every ``n``-th call of a lane to a service: numbers n, 2n, ..."""

    n: int

    def __post_init__(self) -> None:
        _check_count(self, "n")

    def hazard(self, context: Context) -> Any:
        """Return 1 for these calls."""
        return (context.number + 1) % self.n == 0


@register_trigger("after")
@dataclass(frozen=True)
class After(_Certain):
    """Calls placed at or after virtual time ``t``, seconds in the episode."""

    t: float
    clocked: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_number(self, "t", at_least=0.0, unit="seconds")

    def hazard(self, context: Context) -> Any:
        """Return 1 from then on."""
        return context.time_s >= self.t


@register_trigger("between")
@dataclass(frozen=True)
class Between(_Certain):
    """Calls placed in ``t0 <= time < t1``, seconds in the episode."""

    t0: float
    t1: float
    clocked: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_number(self, "t0", at_least=0.0, unit="seconds")
        check_number(self, "t1", above=self.t0, unit="seconds")

    def hazard(self, context: Context) -> Any:
        """Return 1 in the window."""
        return (context.time_s >= self.t0) & (context.time_s < self.t1)


@register_trigger("when")
@dataclass(frozen=True)
class When(_Certain):
    """Calls placed while a condition on the lane's state holds, as in ``when(spend_usd > 0.2)``.

    Args:
        condition: a parsed condition, or its text.
    """

    condition: Condition | str

    def __post_init__(self) -> None:
        if isinstance(self.condition, str):
            object.__setattr__(self, "condition", parse_condition(self.condition))

    @property
    def parsed(self) -> Condition:
        """The parsed condition."""
        assert not isinstance(self.condition, str)
        return self.condition

    def reads(self) -> tuple[str, ...]:
        """Return the names in the condition."""
        return tuple(self.parsed.names())

    def hazard(self, context: Context) -> Any:
        """Return 1 while it holds."""
        return self.parsed.test(context.value)

    def compile(self, scope: Scope) -> Hazard:
        """Check the names and return the test."""
        check_names(self, scope.world.names)
        return self.hazard

    def __str__(self) -> str:
        return f"when({self.condition})"


@register_trigger("ramp")
@dataclass(frozen=True)
class Ramp(Trigger):
    """A probability that moves from ``start`` to ``end`` over ``over_s`` seconds of an episode."""

    start: float
    end: float
    over_s: float
    clocked: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_share(self, "start", "end")
        check_number(self, "over_s", above=0.0, unit="seconds")

    def bounds(self, services: Services) -> tuple[Table, Table]:
        """Return the two ends."""
        return filled(services, min(self.start, self.end)), filled(services, max(self.start, self.end))

    def hazard(self, context: Context) -> Any:
        """Return the probability at the time of the call."""
        return _slide(self.start, self.end, context.time_s / self.over_s)


@register_trigger("drift")
@dataclass(frozen=True)
class Drift(Trigger):
    """A probability that moves from ``start`` to ``end`` over a lane's first ``over`` episodes."""

    start: float
    end: float
    over: int

    def __post_init__(self) -> None:
        check_share(self, "start", "end")
        _check_count(self, "over")

    def bounds(self, services: Services) -> tuple[Table, Table]:
        """Return the two ends."""
        return filled(services, min(self.start, self.end)), filled(services, max(self.start, self.end))

    def reads(self) -> tuple[str, ...]:
        """Return ``episode``."""
        return ("episode",)

    def hazard(self, context: Context) -> Any:
        """Return the probability in the lane's present episode."""
        return _slide(self.start, self.end, context.value("episode") / self.over)

    def compile(self, scope: Scope) -> Hazard:
        """Check that the world counts episodes."""
        check_names(self, scope.world.names)
        return self.hazard


@register_trigger("sticky")
@dataclass(frozen=True)
class Sticky(Trigger):
    """A whole episode of one service, with probability ``p``: drawn once, true for all its calls or none."""

    p: float

    def __post_init__(self) -> None:
        check_share(self, "p")

    def at(self, intensity: float) -> tuple[Trigger, float]:
        """Let more or fewer episodes be hit, rather than a share of the calls of each."""
        return Sticky(min(1.0, self.p * intensity)), 1.0

    def bounds(self, services: Services) -> tuple[Table, Table]:
        """Return 0, and 1 if it can strike at all."""
        return filled(services, float(self.p == 1.0)), filled(services, float(self.p > 0.0))

    def compile(self, scope: Scope) -> Hazard:
        """Return the comparison of the episode's draw with ``p``."""
        streams = scope.service_streams("sticky")
        p = self.p
        return lambda context: uniform(context.keys, streams.take(context.service)) < p


@register_trigger("burst")
@dataclass(frozen=True)
class Burst(_Certain):
    """Calls placed while a two-state process is in its bad state: trouble comes in bursts and passes.

    The states alternate with exponential durations in virtual time, one process per episode and fault, and
    the process is stationary when the episode starts. Source: Gilbert, "Capacity of a burst-noise channel"
    (1960); Elliott (1963).

    Args:
        mean_on: mean duration of a burst, seconds.
        mean_off: mean time between bursts, seconds.
    """

    mean_on: float
    mean_off: float
    clocked: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("mean_on", "mean_off"):
            check_number(self, name, at_least=SHORTEST_PHASE_S, unit="seconds")

    def at(self, intensity: float) -> tuple[Trigger, float]:
        """Lengthen bursts at an intensity above 1."""
        longer = replace(self, mean_on=self.mean_on * intensity) if intensity > 1.0 else self
        return longer, intensity

    def compile(self, scope: Scope) -> Hazard:
        """Return the process."""
        return BurstProcess(self, scope)


class BurstProcess:
    """The phases of a burst trigger in every lane.

    A pure function of (episode key, time): phase ``k`` lasts as long as draw ``k`` of the fault's stream
    says. The arrays only remember the phase last looked at; a look at an earlier time starts over.
    """

    def __init__(self, trigger: Burst, scope: Scope) -> None:
        self._stream = scope.stream("burst")
        self._share_on = trigger.mean_on / (trigger.mean_on + trigger.mean_off)
        self._mean = np.array([trigger.mean_off, trigger.mean_on])
        self._phase = scope.lane_array("burst.phase", -1.0)
        self.start_s = scope.lane_array("burst.start_s", 0.0)
        self.end_s = scope.lane_array("burst.end_s", 0.0)
        self.on = scope.lane_array("burst.on", 0.0)

    def __call__(self, context: Context) -> F64:
        """Return 1 for calls placed during a burst."""
        lanes, time = context.lanes, context.time_s
        if len(lanes) == 1:
            # one look into the arrays is all that most calls of a scalar environment need
            lane = lanes.item()
            if self.start_s[lane] <= time[0] < self.end_s[lane]:
                return self.on[lane : lane + 1].copy()
        outside = (time >= self.end_s.take(lanes)) | (time < self.start_s.take(lanes))
        if outside.any():
            rows = outside.nonzero()[0]
            self._advance(lanes.take(rows), context.keys.take(rows), time.take(rows))
        return self.on.take(lanes)

    def _advance(self, lanes: NDArray[np.int64], keys: U64, time: F64) -> None:
        phase, start, end, on = (values.take(lanes) for values in (self._phase, self.start_s, self.end_s, self.on))
        fresh = (phase < 0) | (time < start)
        new = fresh.nonzero()[0]
        if new.size:
            u = uniform(keys.take(new)[:, None], self._stream, _FIRST_TWO)
            first = (u[:, 0] < self._share_on).astype(np.int64)
            phase[new], start[new], on[new] = 0.0, 0.0, first
            end[new] = unit_exponential().sample(u[:, 1]) * self._mean.take(first)
        rows = (time >= end).nonzero()[0]
        while rows.size:
            phase[rows] += 1.0
            on[rows] = 1.0 - on[rows]
            start[rows] = end[rows]
            u = uniform(keys[rows], self._stream, phase[rows].astype(np.int64) + 1)
            end[rows] += unit_exponential().sample(u) * self._mean.take(on[rows].astype(np.int64))
            rows = rows[time[rows] >= end[rows]]
        self._phase[lanes], self.start_s[lanes], self.end_s[lanes], self.on[lanes] = phase, start, end, on


def drawn_per_episode(trigger: Trigger) -> Trigger | None:
    """Return ``trigger`` with its sticky part as a rate, if the fault can draw once per episode instead.

    That is the case for one ``sticky`` joined by ``&`` with plain conditions only.
    """
    parts = list(conjuncts(trigger))
    sticky = [part for part in parts if isinstance(part, Sticky)]
    if len(sticky) != 1 or not all(part.is_certain() or part is sticky[0] for part in parts):
        return None
    return _swap(trigger, sticky[0])


def _swap(trigger: Trigger, sticky: Sticky) -> Trigger:
    if isinstance(trigger, And):
        return And(_swap(trigger.left, sticky), _swap(trigger.right, sticky))
    return Rate(sticky.p) if trigger is sticky else trigger


def check_names(trigger: Trigger, names: Any) -> None:
    """Refuse a trigger that reads a quantity the environment does not have.

    Raises:
        FaultError: naming the quantity and those there are.
    """
    known = set(names)
    for leaf in trigger.leaves():
        for name in leaf.reads():
            if name not in known:
                allowed = ", ".join(sorted(known)) or "none"
                raise FaultError(f"{leaf}: {name!r} is not a known quantity here; allowed: {allowed}")


def _check_count(trigger: Trigger, name: str) -> None:
    check_number(trigger, name, at_least=1)
    if getattr(trigger, name) != int(getattr(trigger, name)):
        raise FaultError(f"{name} = {getattr(trigger, name)!r} is not allowed: must be a whole number >= 1")


def _slide(start: float, end: float, progress: F64) -> F64:
    return start + (end - start) * np.minimum(progress, 1.0)
