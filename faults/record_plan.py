"""A plan at work on records: selects the cells each fault strikes, and lets the faults mark them.

Whether a fault strikes a cell depends on the record's key, the field and the fault's id alone: never on which
other records are in the batch, their order, or which other faults draw.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..envs.streams import U64, mix64, stream_id, stream_ids
from ..errors import BrownoutError, FaultError
from .calls import I64, Mask
from .cells import CellContext, Cells, Fields, Struck
from .compose import Hazard
from .record_base import CellDraw, CellText, RecordEffect, Texts
from .record_text import nudged
from .world import EmptyWorld, Services, World

if TYPE_CHECKING:
    from .plan import PlannedFault

_S11 = np.uint64(11)
_UNIT = 2.0**-53


class _Scope:
    """Hands a fault's trigger its streams; ``sticky`` draws once per record, so streams go by kind."""

    def __init__(self, fault_id: str, fields: Fields, names: Sequence[str]) -> None:
        self.services: Services = fields
        self.world: World = _Names(names)
        self._id = fault_id
        self._asked: Counter[str] = Counter()

    def lane_array(self, name: str, fill: float) -> NDArray[np.float64]:
        raise FaultError(f"{name}: records remember nothing between draws")

    def stream(self, name: str) -> int:
        self._asked[name] += 1
        again = "" if self._asked[name] == 1 else f".{self._asked[name]}"
        return stream_id(f"fault.{self._id}.{name}{again}")

    def service_streams(self, name: str) -> U64:
        base = self.stream(name)
        return stream_ids(self.services.families) ^ np.uint64(base)


class _Names(EmptyWorld):
    """A world of which only the names are known; values come with the cells."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)


@dataclass
class _Active:
    """One fault of the plan, ready to strike."""

    code: int
    planned: PlannedFault
    effect: RecordEffect
    hazard: Hazard | None
    factor: float
    streams: U64
    kind_streams: U64
    begin: int
    end: int


class BoundRecordPlan:
    """The effects on records of a fault plan, bound to fields; made by :meth:`FaultPlan.bind_records`.

    Args:
        reaches: the faults in the order of the plan, each with the ``(F,)`` mask of fields it can strike.
        fields: the fields.
        intensity: scales every fault, above 0.
        names: the quantities that conditions may read of a record.
    """

    def __init__(
        self,
        reaches: Sequence[tuple[PlannedFault, Mask]],
        fields: Fields,
        intensity: float,
        names: Sequence[str] = (),
    ) -> None:
        faults = [fault for fault, _ in reaches]
        self.fields = fields
        self.intensity = intensity
        self.fault_ids = tuple(fault.id for fault in faults)
        """Ids of the faults; ``Cells.dirt`` holds 1 + the index in here."""
        self.effect_names = tuple(fault.effect.name for fault in faults)
        """Names of their effects, in the same order."""
        self.first_codes = [code for code, fault in enumerate(faults, 1) if _effect(fault).first]
        """What ``Cells.dirt`` holds where second versions of records disagree."""
        columns: list[I64] = []
        streams: list[U64] = []
        limits: list[NDArray[np.uint64]] = []
        self._active: list[_Active] = []
        begin = 0
        order = sorted(range(len(faults)), key=lambda i: not _effect(faults[i]).first)
        for index in order:
            planned, effect = faults[index], _effect(faults[index])
            trigger, factor = planned.trigger.at(intensity)
            if intensity > 1.0 and planned.trigger.is_certain():
                effect = effect.strengthened(intensity)
            low, high = (table[0] for table in trigger.bounds(fields))
            own = reaches[index][1].nonzero()[0]
            by_field = stream_ids([f"fault.{planned.id}@{name}" for name in fields.names])
            by_kind = stream_ids([f"fault.{planned.id}@{kind}" for kind in fields.families])
            try:
                hazard = None if (low == high)[own].all() else trigger.compile(_Scope(planned.id, fields, names))
            except FaultError as error:
                raise FaultError(f"{planned.where} ({effect.name}): {error}") from None
            columns.append(own)
            streams.append((by_kind if effect.per == "record" else by_field).take(own))
            # u < p for u of 53 bits is the same as its bits < ceil(p * 2**53).
            limits.append(np.ceil(np.minimum(high[own] * factor, 1.0) * 2.0**53).astype(np.uint64))
            end = begin + own.size
            self._active.append(_Active(index + 1, planned, effect, hazard, factor, by_field, by_kind, begin, end))
            begin = end
        self._columns = np.concatenate(columns)
        self._streams = np.concatenate(streams)
        self._limits = np.concatenate(limits)

    def strike(self, cells: Cells, keys: U64) -> None:
        """Mark what the plan makes dirty, in place.

        Args:
            cells: ``n`` records, clean so far.
            keys: ``(n,)`` the keys of their draws: episode keys, or keys of records.

        Raises:
            FaultError: if an effect raises, naming the fault.
        """
        bits = keys[:, None] + self._streams
        mix64(bits)
        bits >>= _S11
        hits = bits < self._limits
        rows, places = hits.nonzero()
        if not rows.size:
            return
        for active in self._active:
            mine = ((places >= active.begin) & (places < active.end)).nonzero()[0]
            if mine.size:
                self._strike_one(active, cells, keys, rows.take(mine), places.take(mine), bits)
        self._add_what_stands_elsewhere(cells)

    def _strike_one(self, active: _Active, cells: Cells, keys: U64, row: I64, place: I64, bits: U64) -> None:
        column = self._columns.take(place)
        if active.hazard is not None:
            hazard = active.hazard(CellContext(cells, row, column, keys))
            keep = bits[row, place] * _UNIT < hazard * active.factor
            row, column = row[keep], column[keep]
            if not row.size:
                return
        draw = CellDraw(keys.take(row), active.streams.take(column), active.kind_streams.take(column))
        try:
            active.effect.strike(Struck(cells, active.code, row, column), draw)
        except BrownoutError as error:
            raise FaultError(f"{self._place(active)}: {error}") from error
        except Exception as error:
            what = f"strike raised {type(error).__name__}: {error}"
            raise FaultError(f"{self._place(active)}: {what}") from error

    def _add_what_stands_elsewhere(self, cells: Cells) -> None:
        """A dirty value is repairable if a second version of the record holds it, or clean fields give it."""
        fields, dirty = cells.fields, cells.dirt != 0
        if cells.copied.any():
            in_conflict = np.isin(cells.dirt, self.first_codes)
            cells.repairable |= dirty & ~in_conflict & cells.copied.take(fields.kind, axis=1)
        for column in fields.derived.nonzero()[0].tolist():
            known = dirty[:, column].copy()
            for source in fields.sources[column]:
                known &= ~dirty[:, source] | cells.repairable[:, source]
            cells.repairable[:, column] |= known

    def spoil(self, code: int, values: Texts, keys: U64, column: int, text: CellText) -> Texts:
        """Return the damaged text of dirty cells of one field; every one differs from its clean value.

        Args:
            code: the value of ``Cells.dirt`` in these cells.
            values: ``(m,)`` clean texts, none of them None or empty.
            keys: ``(m,)`` keys of their records.
            column: the field.
            text: what else the effect may look at.

        Raises:
            FaultError: if an effect raises or returns nonsense, naming the fault.
        """
        active = next(active for active in self._active if active.code == code)
        columns = np.full(values.size, column)
        draw = CellDraw(keys, active.streams.take(columns), active.kind_streams.take(columns))
        try:
            found = active.effect.corrupt(values, draw, text)
        except BrownoutError as error:
            raise FaultError(f"{self._place(active)}: {error}") from error
        except Exception as error:
            what = f"corrupt raised {type(error).__name__}: {error}"
            raise FaultError(f"{self._place(active)}: {what}") from error
        if not isinstance(found, np.ndarray) or found.shape != values.shape or found.dtype != object:
            raise FaultError(
                f"{self._place(active)}: corrupt returned {found!r}; it must be {values.size} texts or None"
            )
        same = (found == values).nonzero()[0]
        if same.size:
            found = found.copy()
            found[same] = [nudged(value, text.facts) for value in values[same]]
        return found

    @staticmethod
    def _place(active: _Active) -> str:
        return f"{active.planned.where} ({active.effect.name}, id {active.planned.id})"


def _effect(fault: PlannedFault) -> RecordEffect:
    assert isinstance(fault.effect, RecordEffect)
    return fault.effect
