"""Registries of reward and potential plug-ins.

A plug-in is a frozen dataclass: its fields are its parameters, its ``__call__`` does the work. It is
registered by decorator, or by an installed distribution through an entry-point group
(``brownout.rewards``, ``brownout.potentials``) that is looked at only when a name is not known yet.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, ClassVar, Generic, Protocol, TypeVar, overload, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from ..errors import BrownoutError, RewardError

F64 = NDArray[np.float64]
Preference = Mapping[str, F64]

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@runtime_checkable
class Reward(Protocol):
    """A scalarisation of the objective components.

    It must use elementwise operations only (``+ - * /``, comparisons, minimum, maximum), never a sum or a
    product over lanes, so that a lane's reward has the same bits alone and in a batch of thousands.
    """

    def __call__(self, components: F64, preference: Preference) -> F64:
        """Return the reward of each lane.

        Args:
            components: ``(N, C)`` rows in the order of ``COMPONENT_NAMES``.
            preference: ``(N,)`` arrays ``per_usd``, ``per_s``, ``budget_usd``, ``deadline_s`` of the lanes'
                running episodes.

        Returns:
            ``(N,)`` rewards.
        """
        ...


@runtime_checkable
class Potential(Protocol):
    """A potential function over named observation columns, see ``shaping.py``.

    ``columns`` names the observation columns that ``__call__`` is given.
    """

    columns: ClassVar[tuple[str, ...]]

    def __call__(self, columns: Mapping[str, F64]) -> F64:
        """Return the ``(N,)`` potentials of states given by their ``(N,)`` columns; elementwise."""
        ...


def did_you_mean(name: object, known: list[str]) -> str:
    """Return `` (did you mean 'x'?)`` when a known name is close to ``name``, else an empty string."""
    near = difflib.get_close_matches(str(name), known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def check_number(
    where: str, value: object, low: float = -math.inf, high: float = math.inf, *, above: bool = False
) -> float:
    """Return ``value`` as a float after checking it.

    Args:
        where: plug-in and field, for the message.
        value: the value met.
        low: least allowed value (excluded when ``above``).
        high: greatest allowed value.
        above: whether ``low`` itself is refused.

    Raises:
        RewardError: if it is not a finite number of that range.
    """
    limits = [f"{'above' if above else 'at least'} {low:g}"] if low > -math.inf else []
    limits += [f"at most {high:g}"] if high < math.inf else []
    allowed = " ".join(["a finite number", " and ".join(limits)]).strip()
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise RewardError(f"{where}: got {value!r}; allowed: {allowed}")
    number = float(value)
    if not math.isfinite(number) or number < low or number > high or (above and number == low):
        raise RewardError(f"{where}: got {value!r}; allowed: {allowed}")
    return number


T = TypeVar("T")
C = TypeVar("C", bound=type)


class Registry(Generic[T]):
    """Named plug-ins of one kind.

    Args:
        kind: what the plug-ins are, for messages.
        group: entry-point group of third-party plug-ins.
        protocol: what an instance must offer.
    """

    def __init__(self, kind: str, group: str, protocol: type[T]) -> None:
        self.kind = kind
        self.group = group
        self.protocol = protocol
        self._types: dict[str, type] = {}

    def add(self, name: str, plugin: type) -> None:
        """Register a plug-in class.

        Raises:
            RewardError: if the name is taken or malformed, or the class is not a callable dataclass.
        """
        if not _NAME.fullmatch(name):
            raise RewardError(f"{self.kind} name: got {name!r}; allowed: lower-case words joined by '-'")
        if name in self._types:
            taken = f"{self._types[name].__module__}.{self._types[name].__qualname__}"
            raise RewardError(f"{self.kind} {name!r} is registered already, by {taken}")
        fits = isinstance(plugin, type) and dataclasses.is_dataclass(plugin) and "__call__" in dir(plugin)
        if not fits:
            raise RewardError(
                f"{self.kind} {name!r}: got {plugin!r}; allowed: a dataclass with __call__ "
                "(put the register decorator above @dataclass)"
            )
        self._types[name] = plugin

    def known(self) -> list[str]:
        """Names that can be looked up, sorted; installed plug-ins are listed without being loaded."""
        return sorted({*self._types, *(entry.name for entry in self._entries())})

    def lookup(self, name: str) -> type:
        """Return the class registered as ``name``; an installed plug-in is loaded on first use.

        Raises:
            RewardError: if there is none (the message lists the known names), or its plug-in is broken.
        """
        if name in self._types:
            return self._types[name]
        entries = [entry for entry in self._entries() if entry.name == name]
        if len(entries) > 1:
            owners = ", ".join(_owner(entry) for entry in entries)
            raise RewardError(f"{self.kind} {name!r} is offered by several distributions: {owners}; keep one")
        if not entries:
            known = self.known()
            near = did_you_mean(name, known)
            raise RewardError(f"no {self.kind} {name!r}{near}; allowed: {', '.join(known)}")
        try:
            loaded = entries[0].load()
            if name not in self._types:
                self.add(name, loaded)
        except Exception as error:  # whatever a third party raises has to name its owner
            raise RewardError(
                f"{self.kind} {name!r} of distribution {_owner(entries[0])} cannot be loaded "
                f"({entries[0].value}): {type(error).__name__}: {error}"
            ) from error
        return self._types[name]

    def build(self, spec: Mapping[str, Any], where: str, default: str | None = None) -> T:
        """Make an instance from a mapping ``{kind: name, parameter: value, ...}``.

        Args:
            spec: the mapping, e.g. a section of a scenario.
            where: place of the section, put in front of every message.
            default: the name used when ``kind`` is not given.

        Raises:
            RewardError: naming the field, the value met and what is allowed.
        """
        parameters = dict(spec)
        name = parameters.pop("kind", default)
        if not isinstance(name, str):
            raise RewardError(f"{where}.kind: got {name!r}; allowed: {', '.join(self.known())}")
        try:
            plugin = self.lookup(name)
        except RewardError as error:
            raise RewardError(f"{where}.kind: {error}") from error
        fields = [field.name for field in dataclasses.fields(plugin) if field.init]
        for parameter in parameters:
            if parameter not in fields:
                raise RewardError(
                    f"{where}.{parameter}: {self.kind} {name!r} has no such parameter"
                    f"{did_you_mean(parameter, fields)}; allowed: {', '.join(fields) or '(none)'}"
                )
        for parameter, value in parameters.items():
            if isinstance(value, bool) and "bool" not in str(plugin.__annotations__.get(parameter, "bool")):
                raise RewardError(f"{where}.{parameter}: got {value!r}; allowed: a number, not true or false")
        try:
            instance = TypeAdapter(plugin).validate_python(parameters)
        except ValidationError as error:
            raise RewardError(_explain(error, where)) from error
        except BrownoutError as error:
            raise RewardError(f"{where}: {error}") from error
        if not isinstance(instance, self.protocol):
            lacks = f"does not offer the interface {self.protocol.__name__}"
            raise RewardError(f"{where}: {self.kind} {name!r} {lacks}")
        return instance

    def _entries(self) -> list[EntryPoint]:
        return [entry for entry in entry_points(group=self.group) if entry.name not in self._types]


def _explain(error: ValidationError, where: str) -> str:
    """Say which field of a section is wrong, and how."""
    first = error.errors(include_url=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error" and not first["loc"]:
        return f"{where}: {message}"  # raised by the plug-in itself, which names the field
    path = ".".join([where, *(str(key) for key in first["loc"])])
    met = "" if first["type"] == "missing" else f"got {first['input']!r}; "
    return f"{path}: {met}{message}"


def _owner(entry: EntryPoint) -> str:
    return repr(entry.dist.name) if entry.dist is not None else repr(entry.value)


REWARDS: Registry[Reward] = Registry("reward", "brownout.rewards", Reward)
POTENTIALS: Registry[Potential] = Registry("potential", "brownout.potentials", Potential)


def _kebab(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()


def _decorator(registry: Registry[Any], name: str | type) -> Any:
    if isinstance(name, type):
        registry.add(_kebab(name.__name__), name)
        return name

    def decorate(plugin: type) -> type:
        registry.add(name, plugin)
        return plugin

    return decorate


@overload
def register_reward(name: str) -> Callable[[C], C]: ...
@overload
def register_reward(name: C) -> C: ...
def register_reward(name: Any) -> Any:
    """Class decorator that registers a reward, bare (kebab-case of the class name) or with a name.

    It goes above ``@dataclass(frozen=True)``.

    Raises:
        RewardError: if the name is taken or the class does not fit.
    """
    return _decorator(REWARDS, name)


@overload
def register_potential(name: str) -> Callable[[C], C]: ...
@overload
def register_potential(name: C) -> C: ...
def register_potential(name: Any) -> Any:
    """Class decorator that registers a potential function, used like :func:`register_reward`."""
    return _decorator(POTENTIALS, name)


def lookup_reward(name: str) -> type:
    """Return the reward class registered as ``name``.

    Raises:
        RewardError: if there is none, listing the known names.
    """
    return REWARDS.lookup(name)


def known_rewards() -> list[str]:
    """Names of the rewards that a scenario can use."""
    return REWARDS.known()
