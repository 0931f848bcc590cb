"""What an effect on records is: which fields it can strike, what it marks, and how it spoils the text.

An effect has two halves. :meth:`RecordEffect.strike` works on a grid of cells without any text: an environment
that only needs to know which fields are dirty, whether that shows and whether it can be repaired stops
there. :meth:`RecordEffect.corrupt` makes the damaged text of the cells so marked; record generators and tool
sessions use it.

How an environment uses it::

    fields = source.fields_of(("customer", "order"))           # or Fields.of([FieldFacts(...), ...])
    bound = plan.bind_records(fields, intensity)               # None if nothing can strike
    cells = Cells.clean(fields, n)                             # n lanes, F fields
    if bound is not None:
        bound.strike(cells, keys)                              # keys: (n,) episode or record keys
    cells.dirt, cells.visible, cells.repairable                # (n, F): the hidden truth
    bound.effect_names[cells.dirt[lane, column] - 1]           # which effect, for the truth only
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ..envs.streams import U64, uniform
from .base import Effect, Metadata
from .calls import F64, Mask
from .cells import FieldFacts, Fields, FieldType, Struck
from .draws import Draw, substream

Texts = NDArray[np.object_]
"""``(m,)`` strings; None for an empty cell."""


class CellDraw(Draw):
    """Random numbers for struck cells, pure functions of (record, field, fault, request).

    Args:
        keys: ``(m,)`` key of each cell's record.
        streams: ``(m,)`` constants of the fault's stream at each cell's field.
        kind_streams: ``(m,)`` constants of the fault's stream at each cell's kind of record.
    """

    __slots__ = ("_kind_streams",)

    def __init__(self, keys: U64, streams: U64, kind_streams: U64) -> None:
        super().__init__(keys, streams, np.zeros(keys.shape, dtype=np.int64))
        self._kind_streams = kind_streams

    def of_record(self) -> F64:
        """Return ``(m,)`` floats in [0, 1), the same for all cells of one record."""
        stream = self._kind_streams + substream(self._count)
        self._count += 1
        return uniform(self._keys, stream)


@dataclass(frozen=True)
class CellText:
    """What :meth:`RecordEffect.corrupt` may look at besides the values.

    Args:
        facts: the field.
        earlier: returns the ``(m,)`` texts that the field of the same records held ``k`` versions ago, k >= 1.
        other: returns the ``(m,)`` clean texts of another field of the same records, by its name.
        fields: all fields, for facts about the others.
    """

    facts: FieldFacts
    earlier: Callable[[int], Texts]
    other: Callable[[str], Texts]
    fields: Fields


class RecordEffect(Effect):
    """What happens to cells of records. Subclass it as a frozen dataclass with ``strike`` and ``corrupt``.

    Class attributes besides those of :class:`~brownout.faults.base.Effect`, all with defaults:

    * ``fields``: types of field it strikes when the trigger has no ``on(...)``.
    * ``allowed_fields``: types of field it can strike at all.
    * ``per``: ``cell``: every cell has a draw of its own. ``record``: the cells of one record share their draw,
      so ``rate(p)`` is the share of records.
    * ``first``: whether it strikes before the others whatever the order of the plan, because they depend on it.

    Effects strike in the order of the plan. The first one to strike a cell wins: later ones leave it alone.
    """

    category: ClassVar[str] = "records"
    ports: ClassVar[frozenset[str]] = frozenset({"records"})
    metadata: ClassVar[Metadata] = Metadata(kind="value", disturbs="observation", duration="permanent")
    fields: ClassVar[tuple[FieldType, ...]] = tuple(FieldType)
    allowed_fields: ClassVar[tuple[FieldType, ...]] = tuple(FieldType)
    per: ClassVar[Literal["cell", "record"]] = "cell"
    first: ClassVar[bool] = False

    def strike(self, cells: Struck, draw: CellDraw) -> None:
        """Mark the cells that the trigger selected.

        Args:
            cells: the selected cells, ``m`` of them; mark them through ``cells.mark`` and its sisters.
            draw: random numbers for these cells.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say what happens to a cell: define strike")

    def corrupt(self, values: Texts, draw: CellDraw, text: CellText) -> Texts:
        """Return the damaged text of cells of one field.

        Args:
            values: ``(m,)`` clean texts, none of them empty.
            draw: random numbers for these cells: the same as ``strike`` had for them, from its first request on.
            text: the field, and what else the records hold.

        Returns:
            ``(m,)`` texts or None. Cells that came out equal are changed in the smallest plausible way
            afterwards, so that a struck cell always differs.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say what a damaged cell reads: define corrupt")

    def reaches(self, fields: Fields, mask: Mask) -> Mask:
        """Return the part of ``mask``, ``(F,)`` fields that trigger and types allow, that it can strike."""
        return mask

    @classmethod
    def reach_facts(cls) -> dict[str, Any]:
        """Return the types of field it strikes."""
        return {
            "fields": [type_.word for type_ in cls.fields],
            "allowed_fields": [type_.word for type_ in cls.allowed_fields],
            "per": cls.per,
        }
