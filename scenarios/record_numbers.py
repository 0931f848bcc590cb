"""Generators of days, times, amounts, whole numbers and choices, and of what is computed from them."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..faults.cells import FieldType
from .record_fields import FieldValues, Values
from .record_schema import GROUP

if TYPE_CHECKING:
    from .records import Block

_FIRST_DAY, _LAST_DAY = np.datetime64("1900-01-01", "D"), np.datetime64("2150-01-01", "D")


class Day(FieldValues):
    """A day, as ``datetime64[D]``."""

    type = FieldType.DATE
    per_day = 1

    def values(self, block: Block) -> Values:
        """Return the values of a block."""
        spec, u = self.spec, block.uniform(self.name)
        if spec.after is None:
            first = np.datetime64(spec.start, "D")
            days = (np.datetime64(spec.end, "D") - first).astype(np.int64) + 1
            return first + (u * (days * self.per_day)).astype(np.int64).astype(self._step)
        least, greatest = spec.within_days
        base = block.path(spec.after).astype(self._kind)
        more = (u * ((greatest - least + 1) * self.per_day)).astype(np.int64)
        return base + (least * self.per_day + more).astype(self._step)

    @property
    def _step(self) -> str:
        return "timedelta64[D]" if self.per_day == 1 else "timedelta64[s]"

    @property
    def _kind(self) -> str:
        return "datetime64[D]" if self.per_day == 1 else "datetime64[s]"

    def text(self, values: Values) -> NDArray[np.object_]:
        """Return the values as they stand in a file."""
        return _iso_days(values.astype("datetime64[D]"))

    def number(self, values: Values) -> NDArray[np.float64]:
        """Return numbers to rank by."""
        return values.astype("datetime64[D]").astype(np.float64)

    def span(self) -> tuple[float, float] | None:
        """Return least and greatest value, if known."""
        if self.spec.after is not None:
            return None
        ends = (np.datetime64(day, "D").astype(np.int64) for day in (self.spec.start, self.spec.end))
        low, high = (float(day) for day in ends)
        return low, high


class Stamp(Day):
    """A day and time of day, as ``datetime64[s]``."""

    type = FieldType.STAMP
    per_day = 86_400

    def values(self, block: Block) -> Values:
        """Return the values of a block."""
        return super().values(block).astype("datetime64[s]")

    def text(self, values: Values) -> NDArray[np.object_]:
        """Return the values as they stand in a file."""
        days = values.astype("datetime64[D]")
        seconds = (values - days).astype(np.int64)
        return _iso_days(days) + _times_of_day().take(seconds)


class Amount(FieldValues):
    """A rounded draw from a distribution."""

    type = FieldType.AMOUNT

    def setup(self) -> None:
        """Prepare pools and tables."""
        self.table = self.spec.value.table()
        self.decimals = 0 if self.spec.type == "integer" else self.spec.decimals

    def values(self, block: Block) -> Values:
        """Return the values of a block."""
        return np.rint(self.table.sample(block.uniform(self.name)) * 10**self.decimals) / 10**self.decimals

    def text(self, values: Values) -> NDArray[np.object_]:
        """Return the values as they stand in a file."""
        return decimal_text(values, self.decimals)

    def number(self, values: Values) -> NDArray[np.float64]:
        """Return numbers to rank by."""
        return values.astype(np.float64)

    def span(self) -> tuple[float, float] | None:
        """Return least and greatest value, if known."""
        return self.table.low, self.table.high


class Integer(Amount):
    """A whole number."""

    type = FieldType.INTEGER

    def values(self, block: Block) -> Values:
        """Return the values of a block."""
        return super().values(block).astype(np.int64)


class Choice(FieldValues):
    """One of a list of values."""

    type = FieldType.CHOICE

    def setup(self) -> None:
        """Prepare pools and tables."""
        self.options = np.array(list(self.spec.values), dtype=object)
        shares = np.array(list(self.spec.values.values()))
        self.bounds = np.cumsum(shares)[:-1] / shares.sum()
        self.order = {value: float(place) for place, value in enumerate(self.options)}

    def values(self, block: Block) -> Values:
        """Return the values of a block."""
        return self.options.take(np.searchsorted(self.bounds, block.uniform(self.name), side="right"))

    def number(self, values: Values) -> NDArray[np.float64]:
        """Return numbers to rank by."""
        return np.array([self.order[value] for value in values.tolist()])


class Total(Amount):
    """The sum of fields of the record, or of a field of the records that refer to it."""

    def setup(self) -> None:
        """Prepare pools and tables."""
        self.decimals = self.spec.decimals

    def values(self, block: Block) -> Values:
        """Return the values of a block."""
        scale = 10**self.decimals
        if isinstance(self.spec.of, tuple):
            whole = np.rint(block[self.spec.of[0]] * scale)
            for name in self.spec.of[1:]:
                whole = whole + np.rint(block[name] * scale)
            return whole / scale
        kind, _, name = self.spec.of.partition(".")
        groups, place = np.unique(block.rows // GROUP, return_inverse=True)
        children, owners = self.source.group_children(kind, self.kind, groups)
        amounts = np.rint(block.at(kind, children)[name] * scale)
        slot = np.searchsorted(groups, owners // GROUP) * GROUP + owners % GROUP
        sums = np.bincount(slot, weights=amounts, minlength=groups.size * GROUP)
        return sums[place * GROUP + block.rows % GROUP] / scale

    def span(self) -> tuple[float, float] | None:
        """Return least and greatest value, if known."""
        return None


class Product(Amount):
    """The product of fields of the record and a constant."""

    def setup(self) -> None:
        """Prepare pools and tables."""
        self.decimals = self.spec.decimals

    def values(self, block: Block) -> Values:
        """Return the values of a block."""
        found = block[self.spec.of[0]].astype(np.float64)
        for name in self.spec.of[1:]:
            found = found * block[name]
        # rounding half up twice keeps what is exact in decimals exact
        return np.rint(np.round(found * self.spec.times * 10**self.decimals, 6)) / 10**self.decimals

    def span(self) -> tuple[float, float] | None:
        """Return least and greatest value, if known."""
        return None


def decimal_text(values: Values, decimals: int) -> NDArray[np.object_]:
    """Return numbers as text with so many digits after the point."""
    found = np.empty(values.size, dtype=object)
    found[:] = list(map(f"%.{decimals}f".__mod__, values.tolist()))
    return found


def _iso_days(days: Values) -> NDArray[np.object_]:
    if not days.size:
        return np.empty(0, dtype=object)
    if days.min() < _FIRST_DAY or days.max() >= _LAST_DAY:
        return np.datetime_as_string(days, unit="D").astype(object)
    return _all_days().take((days - _FIRST_DAY).astype(np.int64))


@lru_cache(maxsize=1)
def _all_days() -> NDArray[np.object_]:
    return np.datetime_as_string(np.arange(_FIRST_DAY, _LAST_DAY), unit="D").astype(object)


@lru_cache(maxsize=1)
def _times_of_day() -> NDArray[np.object_]:
    times = [f"T{s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d}Z" for s in range(86_400)]
    return np.array(times, dtype=object)
