"""Preferences: how one episode weighs money and time, and its own budget and deadline.

Each preference is fixed, or drawn per episode from a range and shown in the observation, so that one
trained policy covers the whole accuracy-cost-latency frontier and the operating point is chosen at run time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ..envs.quantiles import QuantileTable, log_uniform
from ..envs.streams import U64, stream_id, uniform
from ..errors import RewardError
from .registry import F64, check_number, did_you_mean

_UNITS: Final = {"per_usd": "utility/USD", "per_s": "utility/s", "budget_usd": "USD", "deadline_s": "s"}
_LIMITS: Final = ("budget_usd", "deadline_s")

PREFERENCE_NAMES: Final[tuple[str, ...]] = tuple(_UNITS)


@dataclass(frozen=True, slots=True)
class PreferenceColumn:
    """One preference: a fixed number (``low == high``) or a range drawn log-uniformly per episode."""

    name: str
    unit: str
    low: float
    high: float

    @property
    def sampled(self) -> bool:
        """Whether it differs between episodes."""
        return self.low < self.high


class Preferences:
    """The four preferences of an episode, compiled.

    Use :meth:`compile`. ``columns`` holds one :class:`PreferenceColumn` per preference in the order of
    ``PREFERENCE_NAMES``; ``sampled`` the names of those that are drawn; ``named`` those that the scenario names,
    fixed or as a range, so that a policy trained on a range can be used at one point of it.
    """

    def __init__(self, columns: Sequence[PreferenceColumn], named: Sequence[str] = ()) -> None:
        self.columns = tuple(columns)
        self.named = tuple(named)
        self.sampled = tuple(column.name for column in self.columns if column.sampled)
        self._tables: dict[str, tuple[int, QuantileTable]] = {
            column.name: (stream_id(f"preference.{column.name}"), log_uniform(column.low, column.high))
            for column in self.columns
            if column.sampled
        }

    @classmethod
    def compile(cls, spec: Mapping[str, Any], defaults: Mapping[str, float], where: str = "preferences") -> Preferences:
        """Compile a scenario's preferences.

        Args:
            spec: by name, a number, ``[low, high]`` or ``{low: ..., high: ...}``. A range is drawn
                log-uniformly once per episode and must be above zero.
            defaults: the number used for a name that ``spec`` leaves out; all four names.
            where: place of the section, put in front of every message.

        Raises:
            RewardError: naming the field, the value met and what is allowed.

        >>> preferences = Preferences.compile(
        ...     {"per_usd": [0.1, 10]}, {"per_usd": 1, "per_s": 0, "budget_usd": 0.5, "deadline_s": 60})
        >>> preferences.sampled
        ('per_usd',)
        """
        names = list(PREFERENCE_NAMES)
        for name in spec:
            if name not in names:
                near = did_you_mean(name, names)
                raise RewardError(f"{where}.{name}: no such preference{near}; allowed: {', '.join(names)}")
        columns = []
        for name in names:
            low, high = _bounds(spec.get(name, defaults[name]), f"{where}.{name}", name in _LIMITS)
            columns.append(PreferenceColumn(name, _UNITS[name], low, high))
        return cls(columns, [name for name in names if name in spec])

    def at(self, name: str, value: float) -> Preferences:
        """The same preferences with one of them fixed; no other draw moves.

        Raises:
            RewardError: no such preference, or a value that it cannot have.
        """
        fixed = Preferences.compile({name: value}, {c.name: c.low for c in self.columns}).columns
        pairs = zip(fixed, self.columns, strict=True)
        return Preferences([new if new.name == name else old for new, old in pairs], self.named)

    def sample(self, keys: U64) -> dict[str, F64]:
        """Draw the preferences of new episodes.

        Args:
            keys: ``(n,)`` episode keys.

        Returns:
            a fresh ``(n,)`` array for each of ``PREFERENCE_NAMES``. Each sampled one has a stream of its own,
            ``preference.<name>``, so fixing one moves no other.
        """
        drawn: dict[str, F64] = {}
        for column in self.columns:
            if column.name in self._tables:
                stream, table = self._tables[column.name]
                drawn[column.name] = table.sample(uniform(keys, stream))
            else:
                drawn[column.name] = np.full(keys.shape, column.low)
        return drawn


def _bounds(value: Any, where: str, positive: bool) -> tuple[float, float]:
    """Return ``(low, high)`` of one preference, equal when it is fixed."""
    if isinstance(value, Mapping):
        if set(value) != {"low", "high"}:
            raise RewardError(f"{where}: got the keys {sorted(map(str, value))}; allowed: low and high")
        value = (value["low"], value["high"])
    if not isinstance(value, (list, tuple)):
        number = check_number(where, value, 0.0, above=positive)
        return number, number
    if len(value) != 2:
        raise RewardError(f"{where}: got {list(value)}; allowed: a number, or [low, high]")
    low = check_number(f"{where}.low", value[0], 0.0, above=True)  # the draw is uniform in the logarithm
    high = check_number(f"{where}.high", value[1], low)
    return low, high
