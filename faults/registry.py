"""The registry of effects: by decorator, or by entry point of an installed distribution.

A distribution offers effects in the entry-point group ``brownout.faults``. It is imported only when a plan
asks for a name that nothing loaded so far provides; a broken plug-in therefore disturbs nobody who does not
use it.
"""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar, overload

from ..errors import FaultError
from .base import Effect

GROUP = "brownout.faults"
RESERVED = ("fault", "when", "id")
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")

EffectClass = type[Effect]
E = TypeVar("E", bound=Effect)

_EFFECTS: dict[str, EffectClass] = {}


@overload
def register_fault(target: str) -> Callable[[type[E]], type[E]]: ...
@overload
def register_fault(target: type[E]) -> type[E]: ...
def register_fault(target: str | type[E]) -> type[E] | Callable[[type[E]], type[E]]:
    """Class decorator that makes an effect known by name.

    Use it above ``@dataclass(frozen=True)``, bare (``SlowResponse`` becomes ``slow-response``) or with a
    name.

    Raises:
        FaultError: if the name is malformed or taken, or the class is not a frozen dataclass of a
            :class:`~brownout.faults.base.CallEffect` with its own ``strike``.
    """
    if isinstance(target, str):
        return lambda cls: _register(target, cls)
    return _register(kebab(target.__name__), target)


def _register(name: str, cls: type[E]) -> type[E]:
    shown = getattr(cls, "__qualname__", repr(cls))
    if not (isinstance(cls, type) and issubclass(cls, Effect)):
        raise FaultError(f"fault {name!r}: {shown} must be a subclass of {_bases()}")
    if not NAME.fullmatch(name):
        raise FaultError(f"fault name {name!r} of {shown} is not allowed: use lower-case words joined by '-'")
    parameters = cls.__dict__.get("__dataclass_params__")
    if not is_dataclass(cls) or parameters is None or not parameters.frozen:
        raise FaultError(
            f"fault {name!r}: {shown} must be a frozen dataclass; put @register_fault above @dataclass(frozen=True)"
        )
    clash = sorted({field.name for field in fields(cls)} & set(RESERVED))
    if clash:
        raise FaultError(f"fault {name!r}: {shown} may not have a parameter {clash[0]!r}: plans use that field")
    if any(cls.strike is base.strike for base in (Effect, *Effect.__subclasses__())):
        raise FaultError(f"fault {name!r}: {shown} must define strike; see {_bases()}")
    if name in _EFFECTS:
        other = _EFFECTS[name]
        raise FaultError(
            f"fault {name!r} is already registered by {other.__module__}.{other.__qualname__}; "
            f"{cls.__module__}.{shown} needs another name"
        )
    if "name" in cls.__dict__ and cls.__dict__["name"] != name:
        raise FaultError(f"fault {name!r}: {shown} already has the name {cls.__dict__['name']!r}")
    cls.name = name
    _EFFECTS[name] = cls
    return cls


def _bases() -> str:
    return " or ".join(base.__name__ for base in Effect.__subclasses__())


def kebab(name: str) -> str:
    """Turn ``SlowResponse`` into ``slow-response``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name).lower()


def unregister_fault(name: str) -> None:
    """Forget an effect, so that a notebook can define it anew.

    Raises:
        FaultError: if no effect of that name is registered.
    """
    if name not in _EFFECTS:
        raise FaultError(f"fault {name!r} is not registered; registered: {', '.join(sorted(_EFFECTS))}")
    cls = _EFFECTS.pop(name)
    if "name" in cls.__dict__:
        del cls.name


def registered_faults() -> dict[str, EffectClass]:
    """Return the effects loaded so far, by name, sorted."""
    return dict(sorted(_EFFECTS.items()))


def known_faults() -> tuple[str, ...]:
    """Return every name a plan may use, sorted; entry points are listed without being imported."""
    return tuple(sorted({*_EFFECTS, *(point.name for point in _entry_points())}))


def lookup(name: str) -> EffectClass:
    """Return the effect of that name, importing the plug-in that offers it if need be.

    Raises:
        FaultError: if nobody offers it (with the nearest known names), or the plug-in is broken (with the
            distribution's name).
    """
    if name not in _EFFECTS:
        _load_entry_point(name)
    if name in _EFFECTS:
        return _EFFECTS[name]
    raise FaultError(f"unknown fault {name!r}{suggest(name, known_faults())}")


def load_plugin(reference: str) -> None:
    """Import ``module`` or ``module:Class`` that registers effects; never called for a scenario.

    Raises:
        FaultError: if the module or the name in it cannot be loaded.
    """
    module, _, attribute = reference.partition(":")
    try:
        found: object = importlib.import_module(module)
        if attribute:
            found = getattr(found, attribute)
    except Exception as error:
        raise FaultError(
            f"plug-in {reference!r} cannot be loaded: {type(error).__name__}: {error}; give module or module:Class"
        ) from error
    if attribute and not (isinstance(found, type) and issubclass(found, Effect)):
        raise FaultError(f"plug-in {reference!r} is not a subclass of {_bases()} but {found!r}")
    if isinstance(found, type) and issubclass(found, Effect) and found not in _EFFECTS.values():
        register_fault(found)


def suggest(name: object, known: Iterable[str]) -> str:
    """Return ``; did you mean ...? known: ...`` for an error message."""
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=2, cutoff=0.6)
    guess = f"; did you mean {' or '.join(repr(item) for item in near)}?" if near else ""
    return f"{guess or ';'} known: {', '.join(names) or 'none'}"


def _entry_points() -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=GROUP))


def _load_entry_point(name: str) -> None:
    points = {point.value: point for point in _entry_points() if point.name == name}
    if len(points) > 1:
        owners = ", ".join(sorted(_owner(point) for point in points.values()))
        raise FaultError(f"fault {name!r} is offered by several distributions: {owners}; keep one")
    for point in points.values():
        owner = _owner(point)
        try:
            found = point.load()
        except Exception as error:
            raise FaultError(
                f"fault {name!r} of {owner} cannot be loaded from {point.value!r}: {type(error).__name__}: {error}"
            ) from error
        if name in _EFFECTS:
            return
        if not isinstance(found, type):
            raise FaultError(f"fault {name!r} of {owner}: {point.value!r} is no effect class and registers no {name!r}")
        try:
            _register(name, found)
        except FaultError as error:
            raise FaultError(f"{error} (offered by {owner})") from error


def _owner(point: EntryPoint) -> str:
    return f"distribution {point.dist.name} {point.dist.version}" if point.dist else "an unnamed distribution"
