"""Messy records: clean ones, what a fault plan did to them, and the truth about every cell.

The plan marks cells, its effects spoil their text, and a second version of a record becomes a row of its own
beside the first. A block of rows comes out the same alone, in a larger block, or in another process.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..envs.streams import stream_id, uniform
from ..errors import RecordError
from ..faults import BoundRecordPlan, Cells, CellText, FaultPlan
from .record_facts import number_names, plan_of
from .records import Block, RecordSource

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]
Mask = NDArray[np.bool_]
Texts = NDArray[np.object_]

BLOCK_ROWS = 16_384


@dataclass(frozen=True, eq=False)
class MessyBlock:
    """Some rows of a messy table, ``m`` rows of ``F`` fields, and the truth about them.

    Args:
        names: the fields, in the order of the columns.
        record: ``(m,)`` number of the record that each row is about.
        copy: ``(m,)`` the row is a second version of its record.
        values: per field ``(m,)`` texts as they stand in the table, None where empty.
        clean: per field ``(m,)`` texts as they should be.
        fault: ``(m, F)`` 0 for a clean cell, else 1 + index in :attr:`MessyRecords.fault_ids`.
        visible: ``(m, F)`` a check of format, range or uniqueness shows it.
        repairable: ``(m, F)`` the clean value can be found from what is there.
    """

    names: tuple[str, ...]
    record: I64
    copy: Mask
    values: dict[str, Texts]
    clean: dict[str, Texts]
    fault: NDArray[np.int16]
    visible: Mask
    repairable: Mask

    def __len__(self) -> int:
        return self.record.size

    @property
    def dirty(self) -> Mask:
        """``(m, F)`` the mask of dirty cells."""
        return self.fault != 0


class MessyRecords:
    """The messy records of one kind.

    Args:
        source: the clean records.
        kind: kind of record; default: the schema's main kind.
        mess: a profile of the schema (``clean``, ``production``, ``hostile`` ...) or a fault plan.
        intensity: scales every fault; 0 is clean records.

    Raises:
        RecordError: if there is no such kind or profile.
        FaultError: if the plan does not fit the schema.

    >>> messy = MessyRecords(RecordSource("commerce", seed=7), "customer", "production")
    >>> block = messy.block(0, 1000)
    >>> bool((block.values["city"][~block.dirty[:, 7]] == block.clean["city"][~block.dirty[:, 7]]).all())
    True
    """

    def __init__(
        self,
        source: RecordSource,
        kind: str | None = None,
        mess: str | FaultPlan = "production",
        intensity: float = 1.0,
    ) -> None:
        self.source = source
        self.kind = source.schema.main_kind if kind is None else kind
        self.names = tuple(source.fields_of_kind(self.kind))
        plan, factor = plan_of(source.schema, mess) if isinstance(mess, str) else (mess, 1.0)
        others = sorted({port for fault in plan.faults for port in fault.effect.ports} - {"records"})
        if others:
            raise RecordError(f"a plan for records may hold effects on records only; one needs {', '.join(others)}")
        self.fields = source.fields_of([self.kind])
        self._numbers = number_names(source.schema, self.kind)
        self._bound: BoundRecordPlan | None = plan.bind_records(
            self.fields, intensity * factor, self._numbers, may_miss=True
        )

    @property
    def fault_ids(self) -> tuple[str, ...]:
        """Ids of the faults at work on this kind, in the order of the plan."""
        return () if self._bound is None else self._bound.fault_ids

    @property
    def effect_names(self) -> tuple[str, ...]:
        """The effect of each of :attr:`fault_ids`."""
        return () if self._bound is None else self._bound.effect_names

    def block(self, start: int, stop: int) -> MessyBlock:
        """Return the rows about records ``start`` to ``stop - 1``.

        Raises:
            RecordError: if there are no such records.
        """
        block = self.source.block(self.kind, np.arange(start, stop))
        clean = {name: block.text(name) for name in self.names}
        cells = Cells.clean(
            self.fields,
            block.rows.size,
            number=block.rows,
            world=_BlockWorld(self.source, block, self._numbers),
            levels=lambda column: self.source.level(block, self.names[column]),
        )
        if self._bound is not None:
            self._bound.strike(cells, block.keys)
        row, copy, in_conflict = self._layout(cells, block)
        # a second version holds the conflict and nothing else; the first one everything but the conflict
        own = in_conflict.take(row, axis=0) == copy[:, None]
        fault = cells.dirt.take(row, axis=0) * own
        return MessyBlock(
            names=self.names,
            record=block.rows.take(row),
            copy=copy,
            values=self._spoilt(block, clean, row, fault),
            clean={name: values.take(row) for name, values in clean.items()},
            fault=fault,
            visible=cells.visible.take(row, axis=0) & (fault != 0),
            repairable=cells.repairable.take(row, axis=0) & (fault != 0),
        )

    def blocks(self, rows: int, size: int = BLOCK_ROWS) -> Iterator[MessyBlock]:
        """Yield the rows about the first ``rows`` records, ``size`` records at a time."""
        for start in range(0, rows, size):
            yield self.block(start, min(start + size, rows))

    def _layout(self, cells: Cells, block: Block) -> tuple[I64, Mask, Mask]:
        """Return the record of each row, which rows are second versions, and the grid's cells in conflict."""
        n = len(cells)
        if self._bound is None or not cells.copied.any():
            return np.arange(n), np.zeros(n, dtype=np.bool_), np.zeros(cells.dirt.shape, dtype=np.bool_)
        in_conflict = np.isin(cells.dirt, self._bound.first_codes)
        copied = cells.copied[:, 0]
        row = np.repeat(np.arange(n), 1 + copied)
        second = np.zeros(row.size, dtype=np.bool_)
        second[1:] = row[1:] == row[:-1]
        # which of the two comes first is drawn, so that "the last one wins" is right half the time
        later = uniform(block.keys, stream_id("record.copy-order")) < 0.5
        return row, copied.take(row) & (second == later.take(row)), in_conflict

    def _spoilt(self, block: Block, clean: dict[str, Texts], row: I64, fault: NDArray[np.int16]) -> dict[str, Texts]:
        keys = block.keys
        found = {name: values.take(row) for name, values in clean.items()}
        if self._bound is None:
            return found
        rows, columns = fault.nonzero()
        codes = fault[rows, columns]
        for column in np.unique(columns).tolist():
            here = columns == column
            for code in np.unique(codes[here]).tolist():
                mine = rows[here & (codes == code)]
                of = row.take(mine)
                name = self.names[column]
                text = self._text(block, clean, name, column, of)
                found[name][mine] = self._bound.spoil(code, clean[name].take(of), keys.take(of), column, text)
        return found

    def _text(self, block: Block, clean: dict[str, Texts], name: str, column: int, of: I64) -> CellText:
        def earlier(version: int) -> Texts:
            return self.source.block(self.kind, block.rows.take(of), version).text(name)

        return CellText(
            facts=self.fields.facts[column],
            earlier=earlier,
            other=lambda other: clean[other].take(of),
            fields=self.fields,
        )


class _BlockWorld:
    """The number fields of a block, for conditions such as ``when(total > 500)``."""

    def __init__(self, source: RecordSource, block: Block, names: Sequence[str]) -> None:
        self._source = source
        self._block = block
        self.names = names

    def value(self, name: str, lanes: I64) -> F64:
        return self._source.number(self._block, name).take(lanes)
