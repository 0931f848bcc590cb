"""The fields of records, and the batch of cells that an effect on records marks.

A *cell* is one field of one record. An environment lays its records out as a grid of ``n`` rows (one per
lane, or per record of a table) by ``F`` fields; effects mark cells of the grid as dirty and say whether a
check of the format would show it and whether the clean value can still be found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..envs.streams import U64, stream_ids, uniform
from ..errors import FaultError
from .calls import F64, I64, Mask, Verb, Word
from .compose import Context
from .world import EmptyWorld, Services, World

NONE = -1
"""No such field."""


class FieldType(Word):
    """What a field of a record holds; only ``TEXT`` has no format that a check could see broken."""

    TEXT = 0
    EMAIL = 1
    PHONE = 2
    DATE = 3
    STAMP = 4
    AMOUNT = 5
    INTEGER = 6
    CHOICE = 7
    KEY = 8
    REFERENCE = 9
    CODE = 10


@dataclass(frozen=True)
class FieldFacts:
    """What an effect may know about one field of one kind of record.

    Args:
        kind: the kind of record, such as ``customer``.
        name: the field.
        type: what it holds.
        required: whether a check refuses an empty value.
        derived: whether its value follows from other records or fields.
        sources: fields of the same record that a derived value needs.
        pair: the field of the same record that it is mixed up with.
        unit: the field of the same record that names its unit.
        stamp: whether it says when the record was written.
        low: least value in use (dates: days since 1970).
        high: greatest value in use.
        choices: the values a choice allows.
        decimals: digits after the point of an amount.
    """

    kind: str
    name: str
    type: FieldType = FieldType.TEXT
    required: bool = True
    derived: bool = False
    sources: tuple[str, ...] = ()
    pair: str | None = None
    unit: str | None = None
    stamp: bool = False
    low: float = 0.0
    high: float = 0.0
    choices: tuple[str, ...] = ()
    decimals: int = 2

    @property
    def path(self) -> str:
        """The name that ``on(...)`` matches: ``kind.field``."""
        return f"{self.kind}.{self.name}"


@dataclass(frozen=True)
class Fields(Services):
    """The fields of all kinds of records, in the order of a grid's columns.

    To triggers they are what services are for calls: named ``kind.field``, with the kind as the family. Build
    them with :meth:`of`.
    """

    facts: tuple[FieldFacts, ...] = ()
    elsewhere: tuple[str, ...] = ()

    @classmethod
    def of(cls, facts: Iterable[FieldFacts], elsewhere: Iterable[str] = ()) -> Self:
        """Return the fields described by ``facts``.

        Args:
            facts: the fields.
            elsewhere: names of fields that exist and are not among these; patterns may match them alone.

        Raises:
            FaultError: if a field is there twice or names another one that is not there.
        """
        facts = tuple(facts)
        fields = cls(
            tuple(f.path for f in facts), tuple(f.kind for f in facts), facts=facts, elsewhere=tuple(elsewhere)
        )
        for fact in facts:
            for other in (*fact.sources, fact.pair, fact.unit):
                if other is not None:
                    fields.index(other, fact.kind)
        return fields

    def index(self, name: str, kind: str) -> int:
        """Return the column of a field, given as ``field`` of the same kind or as ``kind.field``.

        Raises:
            FaultError: if there is none, naming those there are.
        """
        for candidate in (f"{kind}.{name}", name):
            if candidate in self.names:
                return self.names.index(candidate)
        own = [fact.name for fact in self.facts if fact.kind == kind]
        raise FaultError(f"{name!r} is not a field of {kind}; allowed: {', '.join(own)}")

    @cached_property
    def types(self) -> NDArray[np.int8]:
        """``(F,)`` :class:`FieldType` of each field."""
        return np.array([fact.type for fact in self.facts], dtype=np.int8)

    @cached_property
    def required(self) -> Mask:
        """``(F,)`` whether a check refuses an empty value."""
        return np.array([fact.required for fact in self.facts], dtype=np.bool_)

    @cached_property
    def derived(self) -> Mask:
        """``(F,)`` whether the value follows from others."""
        return np.array([fact.derived for fact in self.facts], dtype=np.bool_)

    @cached_property
    def pair(self) -> I64:
        """``(F,)`` column of the field it is mixed up with, -1 for none."""
        return self._columns(lambda fact: fact.pair)

    @cached_property
    def unit(self) -> I64:
        """``(F,)`` column of the field that names its unit, -1 for none."""
        return self._columns(lambda fact: fact.unit)

    @cached_property
    def stamp(self) -> I64:
        """``(F,)`` column that says when the record was written, -1 for none."""
        stamps = {fact.kind: column for column, fact in enumerate(self.facts) if fact.stamp}
        return np.array([stamps.get(fact.kind, NONE) for fact in self.facts], dtype=np.int64)

    @cached_property
    def kind(self) -> I64:
        """``(F,)`` index of each field's kind in :attr:`family_names`."""
        return self.family_index()

    @cached_property
    def sources(self) -> tuple[tuple[int, ...], ...]:
        """Columns that each derived field's value needs."""
        return tuple(tuple(self.index(name, fact.kind) for name in fact.sources) for fact in self.facts)

    def knows(self, name: str) -> bool:
        """Return whether ``field`` or ``kind.field`` is a field of any kind."""
        return any(name in (known, known.partition(".")[2]) for known in (*self.names, *self.elsewhere))

    def _columns(self, named: Callable[[FieldFacts], str | None]) -> I64:
        names = [(named(fact), fact.kind) for fact in self.facts]
        return np.array([NONE if name is None else self.index(name, kind) for name, kind in names], dtype=np.int64)

    def described(self) -> list[str]:
        """Return ``kind.field (type)`` of every field, for messages."""
        return [f"{fact.path} ({fact.type.word})" for fact in self.facts]

    def placeable(self) -> Mask:
        """Return a mask of ones: triggers look at its first row only."""
        return np.ones((len(Verb), len(self)), dtype=np.bool_)

    def matching(self, pattern: str) -> Mask:
        """Return the mask of fields that match a glob over ``kind.field``, the same in every row.

        Raises:
            FaultError: if nothing matches, naming the fields there are.
        """
        hit = np.array([fnmatchcase(name, pattern) for name in self.names], dtype=np.bool_)
        if not hit.any() and not any(fnmatchcase(name, pattern) for name in self.elsewhere):
            raise FaultError(f"on({pattern!r}) matches no field; fields: {', '.join(self.names)}")
        return np.tile(hit, (len(Verb), 1))


@dataclass(slots=True)
class Cells:
    """A grid of ``n`` records by ``F`` fields, and what effects have done to them.

    Args:
        fields: the columns.
        dirt: ``(n, F)`` 0 for a clean cell, else 1 + the index of the planned fault that struck it (index into
            :attr:`BoundRecordPlan.fault_ids`).
        visible: ``(n, F)`` a check of format, range or uniqueness shows that something is wrong.
        repairable: ``(n, F)`` the clean value can still be found: from the damaged value itself, from other
            fields, or from a second version of the record.
        lag: ``(n, F)`` how many reads of the record bring what is in a dirty cell before the clean value comes; 0: all.
        copied: ``(n, kinds)`` a second version of that kind's record exists beside it.
        number: ``(n,)`` number of the record, for ``every(n)`` and ``nth_call(n)``.
        world: named quantities of the records, for ``when(...)``.
        levels: returns the ``(n,)`` rank in [0, 1] of a column's clean values among all values of the field; for
            the triggers ``depends`` and ``own_value``. None: ranks are drawn from a stream of the field.
    """

    fields: Fields
    dirt: NDArray[np.int16]
    visible: Mask
    repairable: Mask
    lag: NDArray[np.int8]
    copied: Mask
    number: I64
    world: World = field(default_factory=EmptyWorld)
    levels: Callable[[int], F64] | None = None

    @classmethod
    def clean(
        cls,
        fields: Fields,
        n: int,
        number: I64 | None = None,
        world: World | None = None,
        levels: Callable[[int], F64] | None = None,
    ) -> Self:
        """Return a grid of ``n`` clean records."""
        shape = (n, len(fields))
        return cls(
            fields=fields,
            dirt=np.zeros(shape, dtype=np.int16),
            visible=np.zeros(shape, dtype=np.bool_),
            repairable=np.zeros(shape, dtype=np.bool_),
            lag=np.zeros(shape, dtype=np.int8),
            copied=np.zeros((n, len(fields.family_names)), dtype=np.bool_),
            number=np.zeros(n, dtype=np.int64) if number is None else number,
            world=EmptyWorld() if world is None else world,
            levels=levels,
        )

    def __len__(self) -> int:
        return self.dirt.shape[0]


class Struck:
    """The ``m`` cells of a grid that a fault's trigger selected, sorted by record, and the words to mark them.

    Cells that an earlier fault made dirty are among them and stay as they are, whatever is said about them.

    Args:
        cells: the whole grid.
        code: what to write into ``Cells.dirt``.
        row: ``(m,)`` record of each cell.
        column: ``(m,)`` field of each cell.
    """

    __slots__ = ("cells", "code", "column", "row")

    def __init__(self, cells: Cells, code: int, row: I64, column: I64) -> None:
        self.cells = cells
        self.code = code
        self.row = row
        self.column = column

    def __len__(self) -> int:
        return self.row.size

    @property
    def type(self) -> NDArray[np.int8]:
        """``(m,)`` :class:`FieldType` of each cell."""
        return self.cells.fields.types.take(self.column)

    @property
    def required(self) -> Mask:
        """``(m,)`` whether a check refuses an empty value there."""
        return self.cells.fields.required.take(self.column)

    @property
    def pair(self) -> I64:
        """``(m,)`` column of the field that each is mixed up with, -1 for none."""
        return self.cells.fields.pair.take(self.column)

    @property
    def unit(self) -> I64:
        """``(m,)`` column of the field that names its unit, -1 for none."""
        return self.cells.fields.unit.take(self.column)

    @property
    def stamp(self) -> I64:
        """``(m,)`` column of its record's time stamp, -1 for none."""
        return self.cells.fields.stamp.take(self.column)

    @property
    def kind(self) -> I64:
        """``(m,)`` index of its record's kind."""
        return self.cells.fields.kind.take(self.column)

    def dirty_at(self, columns: I64) -> Mask:
        """Return whether other cells of the same records, one per struck cell, are dirty; False for -1."""
        return (self.cells.dirt[self.row, columns] != 0) & (columns != NONE)

    def mark(self, visible: Any = False, repairable: Any = False, where: Mask | None = None, lag: Any = 0) -> None:
        """Make cells dirty.

        Args:
            visible: whether a check of format, range or uniqueness shows it; ``(m,)`` or one for all.
            repairable: whether the clean value can be found from the damaged one. That it stands elsewhere (in
                a second version of the record, or derived from other fields) is added by the plan.
            where: ``(m,)`` the cells to mark, None for all.
            lag: after how many reads of the record the clean value comes, in an environment where it can be read
                again; ``(m,)`` or one for all, 0: never.
        """
        chosen = ~self.dirty_at(self.column)
        self._write(self.column, visible, repairable, chosen if where is None else chosen & where, lag)

    def touch(
        self, columns: I64, visible: Any = False, repairable: Any = True, where: Mask | None = None, lag: Any = 0
    ) -> None:
        """Make other cells of the same records dirty as well, one per cell that this fault has marked."""
        chosen = (columns != NONE) & ~self.dirty_at(columns)
        chosen &= self.cells.dirt[self.row, self.column] == self.code
        self._write(columns, visible, repairable, chosen if where is None else chosen & where, lag)

    def _write(self, columns: I64, visible: Any, repairable: Any, chosen: Mask, lag: Any) -> None:
        rows, columns = self.row[chosen], columns[chosen]
        self.cells.dirt[rows, columns] = self.code
        for table, value in ((self.cells.visible, visible), (self.cells.repairable, repairable), (self.cells.lag, lag)):
            table[rows, columns] = value[chosen] if isinstance(value, np.ndarray) and value.ndim else value

    def copy(self, where: Mask | None = None) -> None:
        """Note that a second version of the records of these cells exists."""
        chosen = slice(None) if where is None else where
        self.cells.copied[self.row[chosen], self.kind[chosen]] = True


class CellContext(Context):
    """The cells whose hazard a trigger is asked for; every property has shape ``(m,)``."""

    __slots__ = ("_cells", "_column", "_row", "_row_keys")

    def __init__(self, cells: Cells, row: I64, column: I64, keys: U64) -> None:
        self._cells = cells
        self._row = row
        self._column = column
        self._row_keys = keys
        self.world = cells.world

    @property
    def lanes(self) -> I64:
        """The record of each cell."""
        return self._row

    @property
    def service(self) -> I64:
        """The field of each cell."""
        return self._column

    @property
    def verb(self) -> I64:
        """0: records have no verbs."""
        return np.zeros(self._row.size, dtype=np.int64)

    @property
    def number(self) -> I64:
        """The number of the record."""
        return self._cells.number.take(self._row)

    @property
    def time_s(self) -> F64:
        """0: records have no clock."""
        return np.zeros(self._row.size)

    @property
    def keys(self) -> U64:
        """The key of each cell's record."""
        return self._row_keys.take(self._row)

    def level(self, columns: I64) -> F64:
        """Return the rank in [0, 1] of one column's clean value in each cell's record."""
        levels = np.empty(self._row.size)
        for column in np.unique(columns).tolist():
            mine = (columns == column).nonzero()[0]
            if self._cells.levels is None:
                stream = stream_ids([f"level.{self._cells.fields.names[column]}"])
                levels[mine] = uniform(self._row_keys.take(self._row.take(mine)), stream)
            else:
                levels[mine] = self._cells.levels(column).take(self._row.take(mine))
        return levels
