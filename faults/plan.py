"""Fault plans: which faults, with which parameters, triggered when. Plain data until bound."""

from __future__ import annotations

import math
import re
import typing
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FaultError
from .base import CallEffect, Effect
from .calls import Verb
from .cells import Fields
from .compose import Trigger, aims_itself
from .grammar import parse_trigger
from .log import DEFAULT_CAPACITY, parameters_of
from .record_base import RecordEffect
from .record_plan import BoundRecordPlan
from .registry import RESERVED, EffectClass, lookup, suggest
from .runtime import BoundPlan
from .triggers import check_names
from .world import EmptyWorld, Services, World

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.#:-]*")


@dataclass(frozen=True)
class PlannedFault:
    """One line of a plan.

    Args:
        id: names the fault's random streams and its rows in the log; unique in the plan.
        effect: what happens.
        trigger: when and where.
        where: where it was declared, for messages.
    """

    id: str
    effect: Effect
    trigger: Trigger
    where: str

    def reach(self, services: Services) -> NDArray[np.bool_]:
        """Return the ``(len(Verb), K)`` mask of calls it can strike.

        Raises:
            FaultError: if it names a service, verb or family that is not there, or can strike no call.
        """
        effect = self.effect
        assert isinstance(effect, CallEffect)
        with _blame(self.where, effect.name):
            for leaf in self.trigger.leaves():
                if leaf.of_records:
                    raise FaultError(f"{leaf}: this trigger is about fields of records, and the fault strikes calls")
            verbs = effect.allowed_verbs if aims_itself(self.trigger) else effect.verbs
            mask = np.isin(np.arange(len(Verb)), verbs)[:, None] & services.placeable()
            mask &= self.trigger.selects(services)
            served = effect.serves(services)
            if served is not None:
                mask = mask & served[None, :]
            if not mask.any():
                raise FaultError(
                    f"it can strike no call: when = '{self.trigger}'; it acts on "
                    f"{', '.join(verb.word for verb in verbs)} calls; services: {', '.join(services.names)}"
                )
            return mask

    def field_reach(self, fields: Fields, may_miss: bool = False) -> NDArray[np.bool_]:
        """Return the ``(F,)`` mask of fields of records it can strike.

        Args:
            fields: the fields there are.
            may_miss: whether it may be that it can strike none of them.

        Raises:
            FaultError: if it names a field that is not there, can strike none, or follows a clock.
        """
        effect = self.effect
        assert isinstance(effect, RecordEffect)
        with _blame(self.where, effect.name):
            for leaf in self.trigger.leaves():
                if leaf.clocked:
                    raise FaultError(f"{leaf}: records have no clock that this trigger could follow")
            types = effect.allowed_fields if aims_itself(self.trigger) else effect.fields
            mask = np.isin(fields.types, types) & self.trigger.selects(fields)[0]
            mask = effect.reaches(fields, mask)
            if not (mask.any() or may_miss):
                raise FaultError(
                    f"it can strike no field: when = '{self.trigger}'; it acts on {', '.join(t.word for t in types)} "
                    f"fields; fields: {', '.join(fields.described())}"
                )
            return mask


class _blame:
    """Context that prefixes errors with the place in the plan."""

    def __init__(self, where: str, name: str) -> None:
        self._prefix = f"{where} ({name})" if name else where

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, FaultError):
            raise FaultError(f"{self._prefix}: {error}") from None


@dataclass(frozen=True)
class FaultPlan:
    """An ordered set of planned faults. Empty means a healthy world."""

    faults: tuple[PlannedFault, ...] = ()

    @classmethod
    def from_specs(cls, specs: Sequence[Mapping[str, Any]], where: str = "faults") -> FaultPlan:
        """Read a plan from plain data, one mapping per fault.

        Each has ``fault`` (a name), optionally ``when`` (a trigger as text or object) and ``id``, and the
        effect's parameters. An id is by default ``<name>#<index among faults of that name>``, so that adding
        a fault of another kind moves no draw of this one.

        Args:
            specs: the mappings.
            where: where they come from, for messages, such as ``desk.yaml: profiles.production``.

        Raises:
            FaultError: naming place, field, value and what is allowed.
        """
        if isinstance(specs, str | Mapping) or not isinstance(specs, Sequence):
            raise FaultError(f"{where}: must be a list of faults, not {specs!r}")
        used: Counter[str] = Counter()
        ids: dict[str, str] = {}
        planned: list[PlannedFault] = []
        for index, spec in enumerate(specs):
            place = f"{where}[{index}]"
            name, effect, trigger = _read(spec, place)
            fault_id = spec.get("id", f"{name}#{used[name]}")
            used[name] += 1
            if not isinstance(fault_id, str) or not ID.fullmatch(fault_id):
                raise FaultError(
                    f"{place} ({name}): id = {fault_id!r} is not allowed: use letters, digits and any of _ . # : -"
                )
            if fault_id in ids:
                raise FaultError(f"{place} ({name}): id = {fault_id!r} is already used by {ids[fault_id]}")
            ids[fault_id] = place
            planned.append(PlannedFault(fault_id, effect, trigger, place))
        return cls(tuple(planned))

    def __len__(self) -> int:
        return len(self.faults)

    def to_specs(self) -> list[dict[str, Any]]:
        """Return the plan as plain data that :meth:`from_specs` reads back, every parameter and id given."""
        return [
            {
                "fault": fault.effect.name,
                "id": fault.id,
                **parameters_of(fault.effect),
                "when": str(fault.trigger),
            }
            for fault in self.faults
        ]

    def of(self, base: type[Effect]) -> FaultPlan:
        """Return the part of the plan whose effects are of one class, such as ``RecordEffect``."""
        return FaultPlan(tuple(fault for fault in self.faults if isinstance(fault.effect, base)))

    def check(
        self,
        services: Services,
        ports: Iterable[str],
        names: Iterable[str] | None = None,
        fields: Fields | None = None,
    ) -> None:
        """Refuse a plan that does not fit an environment.

        Args:
            services: the services it has.
            ports: the ports it offers, such as ``calls`` and ``portfolio``.
            names: the quantities conditions may read; None leaves them unchecked until the plan is bound.
            fields: the fields of its records, for effects on records; None leaves these unchecked as well.

        Raises:
            FaultError: for a missing port, an unknown service, family or quantity, or a fault that can
                strike no call.
        """
        offered = frozenset(ports)
        for fault in self.faults:
            missing = ", ".join(sorted(fault.effect.ports - offered))
            if missing:
                raise FaultError(
                    f"{fault.where} ({fault.effect.name}): needs the port {missing}, which this environment "
                    f"does not offer; offered: {', '.join(sorted(offered)) or 'none'}"
                )
            if isinstance(fault.effect, CallEffect):
                fault.reach(services)
            elif isinstance(fault.effect, RecordEffect):
                if fields is not None:
                    fault.field_reach(fields)
                continue
            if names is not None:
                with _blame(fault.where, fault.effect.name):
                    check_names(fault.trigger, names)

    def bind(
        self,
        services: Services,
        ports: Iterable[str],
        intensity: float = 1.0,
        num_lanes: int = 1,
        world: World | None = None,
        log_capacity: int = DEFAULT_CAPACITY,
    ) -> BoundPlan | None:
        """Bind the plan to an environment.

        Args:
            services: the services it has.
            ports: the ports it offers.
            intensity: 0 is a healthy world, 1 the plan as declared, above 1 more of it.
            num_lanes: how many episodes run side by side.
            world: named numbers for conditions and the log.
            log_capacity: injections to keep in the log.

        Returns:
            The bound plan of the effects on calls, or None if nothing can ever strike a call (no such faults, or
            intensity 0).

        Raises:
            FaultError: as :meth:`check`, or if ``intensity`` is not a finite number >= 0.
        """
        _check_intensity(intensity)
        world = EmptyWorld() if world is None else world
        self.check(services, ports, world.names)
        faults = self.of(CallEffect).faults
        if not faults or intensity == 0:
            return None
        return BoundPlan(faults, services, float(intensity), num_lanes, world, log_capacity)

    def bind_records(
        self, fields: Fields, intensity: float = 1.0, names: Iterable[str] | None = None, may_miss: bool = False
    ) -> BoundRecordPlan | None:
        """Bind the effects on records to the fields of an environment's or a table's records.

        Args:
            fields: the fields they have.
            intensity: 0 is clean records, 1 the plan as declared, above 1 more of it.
            names: the quantities that conditions may read of a record; None: none.
            may_miss: leave out faults that can strike none of these fields, instead of refusing them.

        Returns:
            The bound plan, or None if nothing can ever strike (no effects on records, or intensity 0).

        Raises:
            FaultError: for an unknown field or quantity, a fault that can strike no field, or an intensity that
                is not a finite number >= 0.
        """
        _check_intensity(intensity)
        names = tuple(names or ())
        reaches = [(fault, fault.field_reach(fields, may_miss)) for fault in self.of(RecordEffect).faults]
        reaches = [(fault, mask) for fault, mask in reaches if mask.any()]
        for fault, _ in reaches:
            with _blame(fault.where, fault.effect.name):
                check_names(fault.trigger, names)
        if not reaches or intensity == 0:
            return None
        return BoundRecordPlan(reaches, fields, float(intensity), names)


def _check_intensity(intensity: Any) -> None:
    good = isinstance(intensity, int | float | np.number) and not isinstance(intensity, bool)
    if not good or not math.isfinite(intensity) or intensity < 0:
        raise FaultError(f"intensity = {intensity!r} is not allowed: must be a finite number >= 0")


def _read(spec: object, place: str) -> tuple[str, Effect, Trigger]:
    if not isinstance(spec, Mapping):
        example = "{fault: timeout, when: 'rate(0.03)'}"
        raise FaultError(f"{place}: must be a mapping such as {example}, not {spec!r}")
    if "fault" not in spec:
        given = ", ".join(map(str, spec)) or "nothing"
        raise FaultError(f"{place}: has no field 'fault'; it must name the fault; given: {given}")
    name = spec["fault"]
    if not isinstance(name, str):
        raise FaultError(f"{place}: fault = {name!r} is not allowed: must be the name of a fault")
    with _blame(place, ""):
        cls = lookup(name)
    with _blame(place, name):
        effect = make_effect(cls, {key: value for key, value in spec.items() if key not in RESERVED})
        when = spec.get("when")
        if when is None:
            when = cls.default_when
        if when is None:
            raise FaultError("needs a field 'when' that says when it strikes, such as when: \"rate(0.03)\"")
        if isinstance(when, Trigger):
            return name, effect, when
        if not isinstance(when, str):
            raise FaultError(f'when = {when!r} is not allowed: must be a trigger such as "rate(0.03)"')
        return name, effect, parse_trigger(when)


@lru_cache(maxsize=256)
def _adapter(cls: EffectClass) -> tuple[Any, Mapping[str, Any]]:
    # Imported here: pydantic takes a good part of the package's import time.
    from pydantic import TypeAdapter

    try:
        return TypeAdapter(cls), typing.get_type_hints(cls)
    except NameError as error:
        where = f"{cls.__module__}.{cls.__qualname__}"
        raise FaultError(f"{where}: an annotation names {error.name!r}, which its module does not have") from error


def make_effect(cls: EffectClass, parameters: Mapping[Any, Any]) -> Effect:
    """Build an effect from plain data.

    Raises:
        FaultError: naming the parameter, its value and what is allowed.
    """
    allowed = [field.name for field in fields(cls) if field.init]  # pyright: ignore[reportArgumentType]
    for key in parameters:
        if key not in allowed:
            raise FaultError(f"unknown parameter {key!r}{suggest(key, [*allowed, *RESERVED])}")
    from pydantic import ValidationError

    adapter, hints = _adapter(cls)
    for key, value in parameters.items():
        if isinstance(value, bool) and hints[key] in (int, float, float | None, int | None):
            raise FaultError(f"{key} = {value!r} is not allowed: must be a number")
    try:
        return adapter.validate_python(dict(parameters))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        cause = first.get("ctx", {}).get("error")
        field = ".".join(str(part) for part in first["loc"][:1])
        if isinstance(cause, FaultError):
            raise FaultError(f"{field + ': ' if field else ''}{cause}") from None
        if first["type"] in ("missing", "missing_argument"):
            raise FaultError(f"needs the parameter {field!r}") from None
        raise FaultError(f"{field} = {first['input']!r} is not allowed: {first['msg']}") from None


def parameter_schema(name: str) -> dict[str, Any]:
    """Return the JSON schema of a fault's parameters.

    Raises:
        FaultError: if the name is unknown.
    """
    schema = _adapter(lookup(name))[0].json_schema()
    schema["additionalProperties"] = False
    return schema
