"""Triggers about records: which cells go bad depends on other fields, on the value itself, or on the record.

In the words of missing-data theory ``rate(p)`` is *completely at random*, ``depends`` *at random* and
``own_value`` *not at random* (Rubin, "Inference and missing data", 1976); the same three mechanisms fit every
effect, not only missing values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..envs.streams import stream_ids, uniform
from ..errors import FaultError
from .base import check_share
from .cells import CellContext, Fields
from .compose import Context, Hazard, Scope, Trigger, filled, register_trigger
from .world import Services, Table


class _OfRecords(Trigger):
    of_records: ClassVar[bool] = True


class _ByRank(_OfRecords):
    low: float
    high: float

    def bounds(self, services: Services) -> tuple[Table, Table]:
        """Return the two ends."""
        return filled(services, min(self.low, self.high)), filled(services, max(self.low, self.high))


@register_trigger("depends")
@dataclass(frozen=True)
class Depends(_ByRank):
    """Cells by another field of their record: the probability goes from ``low`` at its smallest values to ``high``
    at its largest, by rank.
    """

    field: str
    low: float
    high: float

    def __post_init__(self) -> None:
        if not isinstance(self.field, str) or not self.field:
            raise FaultError(f"field = {self.field!r} is not allowed: must name a field")
        check_share(self, "low", "high")

    def compile(self, scope: Scope) -> Hazard:
        """Find the field in every kind of record and return the hazard."""
        fields = scope.services
        assert isinstance(fields, Fields)
        columns = np.array([_column(fields, self.field, fact.kind) for fact in fields.facts], dtype=np.int64)
        if not fields.knows(self.field):
            raise FaultError(f"{self}: {self.field!r} is not a field; fields: {', '.join(fields.names)}")

        def hazard(context: Context) -> Any:
            assert isinstance(context, CellContext)
            other = columns.take(context.service)
            known = other >= 0
            level = context.level(np.where(known, other, 0))
            return np.where(known, self.low + (self.high - self.low) * level, 0.0)

        return hazard


def _column(fields: Fields, name: str, kind: str) -> int:
    try:
        return fields.index(name, kind)
    except FaultError:
        return -1


@register_trigger("own_value")
@dataclass(frozen=True)
class OwnValue(_ByRank):
    """Cells by their own value: the probability goes from ``low`` at the field's smallest values to ``high`` at its
    largest, by rank.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        check_share(self, "low", "high")

    def hazard(self, context: Context) -> Any:
        """Return the probability at each value's rank."""
        assert isinstance(context, CellContext)
        return self.low + (self.high - self.low) * context.level(context.service)


@register_trigger("bad_records")
@dataclass(frozen=True)
class BadRecords(_OfRecords):
    """Cells with probability ``p``, all of them in a share ``share`` of the records: some records are bad, and the
    same ones for every fault.
    """

    p: float
    share: float = 0.2

    def __post_init__(self) -> None:
        check_share(self, "p", "share")
        if self.p > self.share:
            raise FaultError(f"p = {self.p!r} is not allowed: must be at most share = {self.share!r}")

    def at(self, intensity: float) -> tuple[Trigger, float]:
        """Fill the bad records first, then let more records be bad."""
        p = min(1.0, self.p * intensity)
        return BadRecords(p, max(self.share, p)), 1.0

    def bounds(self, services: Services) -> tuple[Table, Table]:
        """Return 0, and the probability within a bad record."""
        return filled(services, 0.0), filled(services, self.p / self.share if self.share else 0.0)

    def compile(self, scope: Scope) -> Hazard:
        """Return the hazard: that of a bad record, or 0."""
        # the stream has no fault in its name, so that all faults agree which records are bad
        streams = stream_ids([f"record.bad@{family}" for family in scope.services.families])
        within = self.p / self.share if self.share else 0.0

        def hazard(context: Context) -> Any:
            bad = uniform(context.keys, streams.take(context.service)) < self.share
            return np.where(bad, within, 0.0)

        return hazard
