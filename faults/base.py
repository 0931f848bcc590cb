"""What every effect is: parameters, what it needs, what it is called in the fault taxonomy, and ``strike``.

The taxonomy follows the field: visible or silent, transient or permanent; crash, omission, timing or value
(Avizienis et al., "Basic concepts and taxonomy of dependable and secure computing", 2004); and the part of
the decision process that is disturbed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, ClassVar, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import FaultError
from .calls import BUSINESS, ROUTED, Calls, Mask, Verb
from .draws import Draw
from .world import Services


@dataclass(frozen=True)
class Metadata:
    """Where an effect stands in the taxonomy, and how a client recovers from it."""

    visibility: Literal["visible", "silent"] = "visible"
    duration: Literal["transient", "permanent"] = "transient"
    kind: Literal["crash", "omission", "timing", "value"] = "crash"
    disturbs: Literal["observation", "action", "transition"] = "transition"
    phase: Literal["before", "after", "both"] = "before"
    recovery: str = "retry, or use another service"


class Stage(IntEnum):
    """When in the life of a call an effect acts; within a stage, faults act in the order of the plan.

    A call is priced, admitted, served, carried back and read. The first fault that makes it fail wins:
    later ones do not see it.
    """

    PRICE = 0
    ADMISSION = 1
    SERVICE = 2
    TRANSPORT = 3
    RESULT = 4


class Memory:
    """What one stateful fault remembers: arrays with one row per lane.

    Args:
        services: the services of the environment.
        arrays: name to an array of shape ``(num_lanes, ...)``; index it with ``calls.lanes``.
    """

    __slots__ = ("arrays", "family_of", "services")

    def __init__(self, services: Services, arrays: dict[str, NDArray[np.float64]]) -> None:
        self.services = services
        self.arrays = arrays
        self.family_of = services.family_index()

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        return self.arrays[name]


class StartDraw(Protocol):
    """The draws an effect may make when an episode starts."""

    def uniform(self) -> NDArray[np.float64]:
        """Return ``(m,)`` floats in [0, 1) from the next sub-stream."""
        ...


class Effect:
    """What every effect is, whatever it strikes: parameters, ports, taxonomy and :meth:`strike`.

    Class attributes, all with defaults:

    * ``ports``: what the environment must offer.
    * ``default_when``: the trigger when a plan gives none; None means that a plan must give one.
    * ``metadata``: where it stands in the taxonomy.
    * ``category``: its group in the catalogue (services, latency, portfolio, records, ...).
    * ``name``: set by the registry.
    """

    name: ClassVar[str] = ""
    category: ClassVar[str] = "custom"
    ports: ClassVar[frozenset[str]] = frozenset()
    default_when: ClassVar[str | None] = None
    metadata: ClassVar[Metadata] = Metadata()

    def strike(self, target: Any, draw: Any, /) -> Any:
        """Change what the trigger selected; the classes below say what that is."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it does: define strike")

    def strengthened(self, factor: float) -> Self:
        """Return this effect ``factor`` (> 1) times as strong.

        Used at an intensity above 1 when the trigger is a plain condition, whose probability cannot grow.
        """
        return self

    @classmethod
    def reach_facts(cls) -> dict[str, Any]:
        """Return what the catalogue says about where it can strike."""
        return {}


class CallEffect(Effect):
    """What happens to a call. Subclass it as a frozen dataclass; only :meth:`strike` is needed.

    Class attributes besides those of :class:`Effect`, all with defaults:

    * ``verbs``: which calls it strikes when the trigger has no ``on(...)``.
    * ``allowed_verbs``: which calls it can strike at all.
    * ``stage``: when in the life of a call it acts.
    """

    ports: ClassVar[frozenset[str]] = frozenset({"calls"})
    verbs: ClassVar[tuple[Verb, ...]] = (*ROUTED, Verb.VALIDATE, *BUSINESS)
    allowed_verbs: ClassVar[tuple[Verb, ...]] = tuple(Verb)
    stage: ClassVar[Stage] = Stage.TRANSPORT

    def strike(self, calls: Calls, draw: Draw) -> Mask | None:
        """Change the calls that the trigger selected.

        Args:
            calls: the selected calls, ``n`` rows; change them through ``calls.fail`` and its sisters.
            draw: random numbers for these rows.

        Returns:
            ``(n,)`` mask of the rows that were really hit, or None for all.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say what happens to a call: define strike")

    @classmethod
    def reach_facts(cls) -> dict[str, Any]:
        """Return the verbs it strikes, and its stage."""
        return {
            "verbs": [verb.word for verb in cls.verbs],
            "allowed_verbs": [verb.word for verb in cls.allowed_verbs],
            "stage": cls.stage.name.lower(),
        }

    def serves(self, services: Services) -> Mask | None:
        """Return the ``(K,)`` mask of services this effect is about, or None for all.

        Raises:
            FaultError: if the parameters name something that is not there.
        """
        return None

    def memory(self, services: Services) -> Mapping[str, tuple[int, ...]]:
        """Return the arrays to keep per lane: name to the shape of one lane's row."""
        return {}

    def start(self, memory: Memory, lanes: NDArray[np.int64], draw: StartDraw) -> None:
        """Set the memory of lanes whose episode starts (it was filled with zeros)."""

    def screen(self, calls: Calls, rows: NDArray[np.int64] | None, memory: Memory) -> Mask | None:
        """Say cheaply, before any row is copied, which of the selected rows :meth:`strike` should see.

        This is also where a fault that counts calls updates its memory, for it sees every selected call.

        Args:
            calls: the whole batch.
            rows: ``(m,)`` the selected rows, None for all.
            memory: what this fault remembers.

        Returns:
            ``(m,)`` mask, or None for all.
        """
        return None


def check_number(
    effect: object,
    field: str,
    *,
    above: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    unit: str = "",
) -> None:
    """Refuse a field of a dataclass that is not a finite number in range.

    Raises:
        FaultError: naming the field, its value and the range.
    """
    value = getattr(effect, field)
    wanted = [
        f"{sign} {limit:g}"
        for sign, limit in ((">", above), (">=", at_least), ("<", below), ("<=", at_most))
        if limit is not None
    ]
    good = (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and (above is None or value > above)
        and (at_least is None or value >= at_least)
        and (below is None or value < below)
        and (at_most is None or value <= at_most)
    )
    if not good:
        range_ = " and ".join(wanted) + (f" ({unit})" if unit else "")
        raise FaultError(f"{field} = {value!r} is not allowed: must be a number {range_}")


def check_share(effect: object, *names: str) -> None:
    """Refuse fields that are not probabilities or shares in [0, 1].

    Raises:
        FaultError: naming the field, its value and the range.
    """
    for name in names:
        check_number(effect, name, at_least=0.0, at_most=1.0)


def check_choice(effect: object, field: str, allowed: tuple[object, ...]) -> None:
    """Refuse a field that is not one of the allowed values.

    Raises:
        FaultError: naming the field, its value and the choices.
    """
    value = getattr(effect, field)
    if value not in allowed or isinstance(value, bool):
        choices = ", ".join(str(choice) for choice in allowed)
        raise FaultError(f"{field} = {value!r} is not allowed; allowed: {choices}")
