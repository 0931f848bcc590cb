"""What a trigger is, how triggers compose, and the registry of their names.

A trigger is a *hazard*: the probability in [0, 1] that the fault strikes this call; a plain condition is 0 or
1. Hazards compose as independent events: ``a & b`` is the product, ``a | b`` is ``1 - (1-a)(1-b)``, ``~a`` is
``1 - a``. A fault draws one uniform per (fault, service, call number) and strikes when it is below
``intensity * hazard``.

A trigger of one's own is a frozen dataclass of :class:`Trigger` with ``hazard``, under
:func:`register_trigger`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..envs.streams import U64
from ..errors import FaultError
from .calls import Calls, Verb
from .world import Services, Table, World

F64 = NDArray[np.float64]


class Context:
    """The calls whose hazard is asked for; every property has shape ``(m,)``."""

    __slots__ = ("_calls", "_keys", "_rows", "world")

    def __init__(self, calls: Calls, keys: U64, rows: NDArray[np.int64] | None, world: World) -> None:
        self._calls = calls
        self._keys = keys
        self._rows = rows
        self.world = world

    def _take(self, values: NDArray[Any]) -> NDArray[Any]:
        return values if self._rows is None else values.take(self._rows)

    @property
    def lanes(self) -> NDArray[np.int64]:
        """The lane of each call."""
        return self._take(self._calls.lanes)

    @property
    def service(self) -> NDArray[np.int64]:
        """The index of the service called."""
        return self._take(self._calls.service)

    @property
    def verb(self) -> NDArray[np.int64]:
        """The verb of the call."""
        return self._take(self._calls.verb)

    @property
    def number(self) -> NDArray[np.int64]:
        """How many calls of the lane went to that service before."""
        return self._take(self._calls.number)

    @property
    def time_s(self) -> F64:
        """Virtual time in the episode, seconds."""
        return self._take(self._calls.started_s)

    @property
    def keys(self) -> U64:
        """The episode key of each call's lane."""
        return self._take(self._keys)

    def value(self, name: str) -> F64:
        """A named number of the world, per call."""
        return self.world.value(name, self.lanes)


Hazard = Callable[[Context], Any]
"""Returns ``(m,)`` probabilities, or one number for all."""


class Scope(Protocol):
    """What the plan offers a trigger when it binds it to an environment."""

    services: Services
    world: World

    def lane_array(self, name: str, fill: float) -> F64:
        """Return a ``(num_lanes,)`` array that is saved with the state and refilled at episode starts."""
        ...

    def stream(self, name: str) -> int:
        """Return the constant of a stream of this fault."""
        ...

    def service_streams(self, name: str) -> U64:
        """Return the ``(K,)`` constants of a stream of this fault at each service."""
        ...


class Trigger:
    """Base of all triggers. A leaf defines :meth:`hazard`; the rest has defaults."""

    name: ClassVar[str] = ""
    selective: ClassVar[bool] = False
    """Whether it says which services or verbs the fault is about, as ``on(...)`` does."""
    clocked: ClassVar[bool] = False
    """Whether it follows the clock of an episode, which records do not have."""
    of_records: ClassVar[bool] = False
    """Whether it is about records, so that calls have nothing it could look at."""

    def hazard(self, context: Context) -> Any:
        """Return the ``(m,)`` probability that the fault strikes each call (or one number for all)."""
        raise NotImplementedError(f"trigger {type(self).__name__} does not define hazard")

    def bounds(self, services: Services) -> tuple[Table, Table]:
        """Return the lowest and highest hazard per verb and service; equal where it is constant."""
        return filled(services, 0.0), filled(services, 1.0)

    def selects(self, services: Services) -> NDArray[np.bool_]:
        """Return the ``(len(Verb), K)`` mask of calls that its ``on(...)`` parts leave possible."""
        return np.ones((len(Verb), len(services)), dtype=np.bool_)

    def reads(self) -> tuple[str, ...]:
        """Return the named quantities of the world that it reads."""
        return ()

    def is_certain(self) -> bool:
        """Return whether the hazard is always 0 or 1."""
        return False

    def compile(self, scope: Scope) -> Hazard:
        """Return the function that computes the hazard in one environment."""
        return self.hazard

    def at(self, intensity: float) -> tuple[Trigger, float]:
        """Return the trigger at an intensity, and the factor left over for its hazard."""
        return self, intensity

    def leaves(self) -> Iterator[Trigger]:
        """Yield the parts that are not combinations."""
        yield self

    def __and__(self, other: Trigger) -> Trigger:
        return And(self, other)

    def __or__(self, other: Trigger) -> Trigger:
        return Or(self, other)

    def __invert__(self) -> Trigger:
        return Not(self)

    def __str__(self) -> str:
        given = [getattr(self, field.name) for field in fields(self)] if is_dataclass(self) else []
        arguments = ", ".join(repr(value) if isinstance(value, str) else f"{value}" for value in given)
        return f"{self.name}({arguments})" if given else self.name


T = TypeVar("T", bound=Trigger)
_TRIGGERS: dict[str, type[Trigger]] = {}


def register_trigger(name: str) -> Callable[[type[T]], type[T]]:
    """Class decorator that makes a trigger known by name in the text form.

    Raises:
        FaultError: if the name is no identifier or taken, or the class is not a dataclass of Trigger.
    """

    def register(cls: type[T]) -> type[T]:
        if not (isinstance(cls, type) and issubclass(cls, Trigger) and is_dataclass(cls)):
            raise FaultError(f"trigger {name!r} must be a dataclass that subclasses Trigger, not {cls!r}")
        if not name.isidentifier():
            raise FaultError(f"trigger name {name!r} is not allowed: use a Python identifier")
        if name in _TRIGGERS:
            raise FaultError(f"trigger {name!r} is already registered by {_TRIGGERS[name].__qualname__}")
        cls.name = name
        _TRIGGERS[name] = cls
        return cls

    return register


def known_triggers() -> dict[str, type[Trigger]]:
    """Return the triggers of the text form, by name, sorted."""
    return dict(sorted(_TRIGGERS.items()))


def filled(services: Services, value: float) -> Table:
    """Return a table with one value everywhere."""
    return np.full((len(Verb), len(services)), value)


@dataclass(frozen=True)
class And(Trigger):
    """Both, as independent events: the product of the hazards."""

    left: Trigger
    right: Trigger

    def bounds(self, services: Services) -> tuple[Table, Table]:
        """Return the products."""
        (low, high), (low2, high2) = self.left.bounds(services), self.right.bounds(services)
        return low * low2, high * high2

    def selects(self, services: Services) -> NDArray[np.bool_]:
        """Return what both select."""
        return self.left.selects(services) & self.right.selects(services)

    def is_certain(self) -> bool:
        """Return whether both are."""
        return self.left.is_certain() and self.right.is_certain()

    def compile(self, scope: Scope) -> Hazard:
        """Return the product."""
        left, right = self.left.compile(scope), self.right.compile(scope)
        return lambda context: left(context) * np.asarray(right(context), dtype=np.float64)

    def at(self, intensity: float) -> tuple[Trigger, float]:
        """Spend the intensity on one side only, so that the product grows by it once."""
        left, rest = self.left.at(intensity)
        if rest == 1.0:
            return And(left, self.right), 1.0
        right, rest = self.right.at(intensity)
        return And(left, right), rest

    def leaves(self) -> Iterator[Trigger]:
        """Yield those of both sides."""
        yield from self.left.leaves()
        yield from self.right.leaves()

    def __str__(self) -> str:
        left = f"({self.left})" if isinstance(self.left, Or) else f"{self.left}"
        right = f"({self.right})" if isinstance(self.right, And | Or) else f"{self.right}"
        return f"{left} & {right}"


@dataclass(frozen=True)
class Or(Trigger):
    """Either, as independent events: ``1 - (1-a)(1-b)``."""

    left: Trigger
    right: Trigger

    def bounds(self, services: Services) -> tuple[Table, Table]:
        """Return the combined bounds."""
        (low, high), (low2, high2) = self.left.bounds(services), self.right.bounds(services)
        return 1.0 - (1.0 - low) * (1.0 - low2), 1.0 - (1.0 - high) * (1.0 - high2)

    def selects(self, services: Services) -> NDArray[np.bool_]:
        """Return what either selects."""
        return self.left.selects(services) | self.right.selects(services)

    def is_certain(self) -> bool:
        """Return whether both are."""
        return self.left.is_certain() and self.right.is_certain()

    def compile(self, scope: Scope) -> Hazard:
        """Return the combined hazard."""
        left, right = self.left.compile(scope), self.right.compile(scope)

        def either(context: Context) -> Any:
            return 1.0 - (1.0 - _number(left(context))) * (1.0 - _number(right(context)))

        return either

    def at(self, intensity: float) -> tuple[Trigger, float]:
        """Scale both sides alike."""
        (left, rest), (right, rest2) = self.left.at(intensity), self.right.at(intensity)
        if rest == rest2:
            return Or(left, right), rest
        return Or(_scaled(left, rest), _scaled(right, rest2)), 1.0

    def leaves(self) -> Iterator[Trigger]:
        """Yield those of both sides."""
        yield from self.left.leaves()
        yield from self.right.leaves()

    def __str__(self) -> str:
        right = f"({self.right})" if isinstance(self.right, Or) else f"{self.right}"
        return f"{self.left} | {right}"


@dataclass(frozen=True)
class Not(Trigger):
    """The complement: ``1 - a``."""

    part: Trigger

    def bounds(self, services: Services) -> tuple[Table, Table]:
        """Return the complements, swapped."""
        low, high = self.part.bounds(services)
        return 1.0 - high, 1.0 - low

    def selects(self, services: Services) -> NDArray[np.bool_]:
        """Return the complement of an ``on(...)``; other conditions leave everything possible."""
        if all(leaf.selective for leaf in self.part.leaves()):
            return ~self.part.selects(services)
        return super().selects(services)

    def is_certain(self) -> bool:
        """Return whether the part is."""
        return self.part.is_certain()

    def compile(self, scope: Scope) -> Hazard:
        """Return the complement."""
        part = self.part.compile(scope)
        return lambda context: 1.0 - _number(part(context))

    def leaves(self) -> Iterator[Trigger]:
        """Yield those of the part."""
        yield from self.part.leaves()

    def __str__(self) -> str:
        return f"~({self.part})" if isinstance(self.part, And | Or) else f"~{self.part}"


@dataclass(frozen=True)
class _Scaled(Trigger):
    """A hazard times a factor, at most 1."""

    part: Trigger
    factor: float

    def bounds(self, services: Services) -> tuple[Table, Table]:
        low, high = self.part.bounds(services)
        return np.minimum(low * self.factor, 1.0), np.minimum(high * self.factor, 1.0)

    def compile(self, scope: Scope) -> Hazard:
        part = self.part.compile(scope)
        return lambda context: np.minimum(_number(part(context)) * self.factor, 1.0)

    def leaves(self) -> Iterator[Trigger]:
        yield from self.part.leaves()


def _scaled(part: Trigger, factor: float) -> Trigger:
    return part if factor == 1.0 else _Scaled(part, factor)


def conjuncts(trigger: Trigger) -> Iterator[Trigger]:
    """Yield the parts joined by ``&`` at the top."""
    if isinstance(trigger, And):
        yield from conjuncts(trigger.left)
        yield from conjuncts(trigger.right)
    else:
        yield trigger


def aims_itself(trigger: Trigger) -> bool:
    """Return whether the trigger says which calls it is about: it has an ``on(...)`` not under ``~``."""
    if isinstance(trigger, And | Or):
        return aims_itself(trigger.left) or aims_itself(trigger.right)
    return trigger.selective


def _number(hazard: Any) -> Any:
    return hazard if isinstance(hazard, float) else np.asarray(hazard, dtype=np.float64)
