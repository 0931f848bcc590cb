"""The effects on records: what goes wrong between the truth and the field that holds it.

Each marks cells (``strike``) and makes their damaged text (``corrupt``); which of the two an environment or a
generator uses is its own affair. What counts as *visible* is that a check of format, range or uniqueness
shows it; as *repairable*, that the clean value can be found from what is still there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from ..errors import FaultError
from . import record_text as texts
from .base import Metadata, check_choice, check_number, check_share
from .calls import Mask
from .cells import NONE, Fields, FieldType, Struck
from .record_base import CellDraw, CellText, RecordEffect, Texts
from .registry import register_fault

_WRITTEN = (FieldType.TEXT, FieldType.EMAIL, FieldType.PHONE)
_COUNTED = (FieldType.AMOUNT, FieldType.INTEGER)
_CHANGING = (*_WRITTEN, *_COUNTED, FieldType.DATE, FieldType.CHOICE)
_NOT_THE_KEY = tuple(type_ for type_ in FieldType if type_ is not FieldType.KEY)


def _metadata(recovery: str, visible: bool = True, kind: Literal["omission", "value", "timing"] = "value") -> Metadata:
    return Metadata("visible" if visible else "silent", "permanent", kind, "observation", "before", recovery)


def _is_in(types: np.ndarray, *wanted: FieldType) -> Mask:
    return np.isin(types, wanted)


@register_fault
@dataclass(frozen=True)
class MissingField(RecordEffect):
    """The field is empty.

    Args:
        style: what stands there: ``null`` (nothing) or ``placeholder`` (N/A, -, TBD ...).
    """

    style: Literal["null", "placeholder"] = "null"
    fields: ClassVar[tuple[FieldType, ...]] = _NOT_THE_KEY
    allowed_fields: ClassVar[tuple[FieldType, ...]] = _NOT_THE_KEY
    metadata: ClassVar[Metadata] = _metadata("ask the requester, or derive it", kind="omission")

    def __post_init__(self) -> None:
        check_choice(self, "style", ("null", "placeholder"))

    def strike(self, cells: Struck, draw: CellDraw) -> None:
        """Empty the cells; a check sees it where the field is required."""
        cells.mark(visible=cells.required | (self.style == "placeholder"))

    def corrupt(self, values: Texts, draw: CellDraw, text: CellText) -> Texts:
        """Return nothing, or a placeholder."""
        if self.style == "null":
            return np.full(values.size, None, dtype=object)
        return texts.chosen(texts.PLACEHOLDERS, draw.uniform())


@register_fault
@dataclass(frozen=True)
class MalformedFormat(RecordEffect):
    """The value is there, written in another form: 5 Mar 2024, 1.234,50, ann at example.org. Nothing is lost."""

    fields: ClassVar[tuple[FieldType, ...]] = (
        FieldType.EMAIL, FieldType.PHONE, FieldType.DATE, FieldType.STAMP, *_COUNTED, FieldType.CODE,
    )  # fmt: skip
    allowed_fields: ClassVar[tuple[FieldType, ...]] = (*fields, FieldType.REFERENCE)
    metadata: ClassVar[Metadata] = _metadata("parse the other form")

    def strike(self, cells: Struck, draw: CellDraw) -> None:
        """Break the format."""
        cells.mark(visible=True, repairable=True)

    def corrupt(self, values: Texts, draw: CellDraw, text: CellText) -> Texts:
        """Write the values in another form."""
        return texts.reformatted(values, text.facts.type, draw.uniform())


@register_fault
@dataclass(frozen=True)
class Typo(RecordEffect):
    """One slip of the keyboard: a neighbouring key, a letter twice, missing or exchanged with the next.

    Codes and numbers get one wrong digit, which every check digit shows; a choice is no longer on the list.
    """

    fields: ClassVar[tuple[FieldType, ...]] = (*_WRITTEN, FieldType.CHOICE, FieldType.CODE)
    allowed_fields: ClassVar[tuple[FieldType, ...]] = (*fields, FieldType.REFERENCE)
    metadata: ClassVar[Metadata] = _metadata("compare with a second source", visible=False)

    def strike(self, cells: Struck, draw: CellDraw) -> None:
        """Misspell the cells; a choice can be told from its list."""
        choice = _is_in(cells.type, FieldType.CHOICE)
        cells.mark(visible=choice | _is_in(cells.type, FieldType.CODE), repairable=choice)

    def corrupt(self, values: Texts, draw: CellDraw, text: CellText) -> Texts:
        """Make one slip per value."""
        return texts.misspelt(values, text.facts, draw.uniform(), draw.uniform(), draw.uniform())


@register_fault
@dataclass(frozen=True)
class ConflictingDuplicate(RecordEffect):
    """The record is there twice, and the second version disagrees.

    ``rate(p)`` is the share of records with a second version. It holds earlier values in the fields in
    conflict, an older time stamp if records have one, and the same values elsewhere, from which other damage
    to the first version can be repaired.

    Args:
        conflict: share of the fields in reach that disagree; at least one does.
        older_days: how much older the second version's time stamp is at most, days.
    """

    conflict: float = 0.3
    older_days: float = 400.0
    fields: ClassVar[tuple[FieldType, ...]] = _CHANGING
    allowed_fields: ClassVar[tuple[FieldType, ...]] = (*_CHANGING, FieldType.CODE)
    per: ClassVar[Literal["cell", "record"]] = "record"
    first: ClassVar[bool] = True
    metadata: ClassVar[Metadata] = _metadata("take the version with the newer time stamp, or ask")

    def __post_init__(self) -> None:
        check_share(self, "conflict")
        check_number(self, "older_days", at_least=1.0, unit="days")

    def strike(self, cells: Struck, draw: CellDraw) -> None:
        """Put a share of the fields in conflict; the newer time stamp, if there is one, tells which is right."""
        chosen = draw.chance(self.conflict)
        chosen |= _one_of_each_record(cells, draw.of_record())
        dated = cells.stamp != NONE
        cells.mark(visible=True, repairable=dated, where=chosen)
        cells.touch(cells.stamp, visible=True, repairable=True, where=chosen)
        cells.copy()

    def corrupt(self, values: Texts, draw: CellDraw, text: CellText) -> Texts:
        """Return what the second version says."""
        return _earlier(values, draw, text, self.older_days)


@register_fault
@dataclass(frozen=True)
class StaleValue(RecordEffect):
    """The value is an earlier one; the record's time stamp, if it has one, is that of the earlier version.

    Args:
        older_days: how much older at most, days.
        reads: in a workflow, how many reads of the record bring the earlier version at most, before the present one
            comes; 0: all of them.
    """

    older_days: float = 400.0
    reads: int = 0
    fields: ClassVar[tuple[FieldType, ...]] = _CHANGING
    allowed_fields: ClassVar[tuple[FieldType, ...]] = (*_CHANGING, FieldType.CODE)
    metadata: ClassVar[Metadata] = _metadata("read it again, or ask", visible=False, kind="timing")

    def __post_init__(self) -> None:
        check_number(self, "older_days", at_least=1.0, unit="days")
        check_number(self, "reads", at_least=0.0, at_most=100.0)

    def strike(self, cells: Struck, draw: CellDraw) -> None:
        """Take the cells back to an earlier version, all cells of a record for the same number of reads."""
        lag = 1 + (draw.of_record() * self.reads).astype(np.int8) if self.reads else 0
        cells.mark(lag=lag)
        cells.touch(cells.stamp, repairable=False, lag=lag)

    def corrupt(self, values: Texts, draw: CellDraw, text: CellText) -> Texts:
        """Return the earlier values."""
        return _earlier(values, draw, text, self.older_days)


@register_fault
@dataclass(frozen=True)
class SwappedFields(RecordEffect):
    """Two fields of a record are exchanged: first and last name, street and city, net and gross."""

    metadata: ClassVar[Metadata] = _metadata("swap them back", visible=False)

    def reaches(self, fields: Fields, mask: Mask) -> Mask:
        """Return the fields that have a partner, one of each pair."""
        own = np.arange(len(fields))
        partner = fields.pair
        mask = mask & (partner != NONE) & (partner[partner] == own)
        return mask & ~(mask[partner] & (partner < own))

    def strike(self, cells: Struck, draw: CellDraw) -> None:
        """Exchange cells with their partners, where these are clean; a check sees it if the types differ."""
        partner = cells.pair
        free = ~cells.dirty_at(partner)
        differs = cells.type != cells.cells.fields.types.take(partner)
        cells.mark(visible=differs, repairable=True, where=free)
        cells.touch(partner, visible=differs, repairable=True, where=free)

    def corrupt(self, values: Texts, draw: CellDraw, text: CellText) -> Texts:
        """Return the partners' values."""
        assert text.facts.pair is not None
        return text.other(text.facts.pair)


@register_fault
@dataclass(frozen=True)
class WrongUnit(RecordEffect):
    """An amount is given in another unit or currency than the record's.

    Where a field of the record names the unit, it names the one used, so converting back repairs the amount.
    Otherwise the amount is off by ``factor`` and nothing says so. ``rate(p)`` is the share of records.

    Args:
        factor: what an amount without a unit is multiplied with; 100 gives cents for units.
    """

    factor: float = 100.0
    fields: ClassVar[tuple[FieldType, ...]] = (FieldType.AMOUNT,)
    allowed_fields: ClassVar[tuple[FieldType, ...]] = _COUNTED
    per: ClassVar[Literal["cell", "record"]] = "record"
    metadata: ClassVar[Metadata] = _metadata("read the unit and convert", visible=False)

    def __post_init__(self) -> None:
        check_number(self, "factor", above=0.0)
        if self.factor == 1.0:
            raise FaultError("factor = 1 is not allowed: it changes nothing")

    def strike(self, cells: Struck, draw: CellDraw) -> None:
        """Convert the cells; leave those alone whose unit is dirty already."""
        free = ~cells.dirty_at(cells.unit)
        named = free & _convertible(cells.cells.fields).take(cells.column)
        cells.mark(visible=named, repairable=named, where=free)
        cells.touch(cells.unit, visible=True, repairable=True, where=named)

    def corrupt(self, values: Texts, draw: CellDraw, text: CellText) -> Texts:
        """Return converted amounts, or for the unit itself the unit used."""
        u, facts = draw.of_record(), text.facts
        if facts.type not in _COUNTED:
            return texts.other_units(values, facts.choices, u)
        if facts.unit is None:
            return texts.multiplied(values, np.full(values.size, self.factor), facts.decimals)
        unit = text.fields.facts[text.fields.index(facts.unit, facts.kind)]
        clean = text.other(facts.unit)
        rates = texts.conversion(clean, texts.other_units(clean, unit.choices, u), self.factor)
        return texts.multiplied(values, rates, max(4, facts.decimals))


@register_fault
@dataclass(frozen=True)
class EncodingDamage(RecordEffect):
    """UTF-8 read as Latin-1: ``Müller`` becomes ``MÃ¼ller``.

    A text of ASCII letters alone gets the remains of a byte order mark or of a non-breaking space.

    Args:
        lossy: share of the cells in which the letters were replaced by ``\\ufffd`` and are lost.
    """

    lossy: float = 0.0
    fields: ClassVar[tuple[FieldType, ...]] = (FieldType.TEXT,)
    allowed_fields: ClassVar[tuple[FieldType, ...]] = (*_WRITTEN, FieldType.CHOICE)
    metadata: ClassVar[Metadata] = _metadata("encode as Latin-1, decode as UTF-8")

    def __post_init__(self) -> None:
        check_share(self, "lossy")

    def strike(self, cells: Struck, draw: CellDraw) -> None:
        """Damage the cells; what was not lost can be decoded back."""
        cells.mark(visible=True, repairable=~draw.chance(self.lossy))

    def corrupt(self, values: Texts, draw: CellDraw, text: CellText) -> Texts:
        """Return the damaged texts."""
        return texts.decoded_wrongly(values, draw.chance(self.lossy))


@register_fault
@dataclass(frozen=True)
class TruncatedValue(RecordEffect):
    """The value is cut off, as by a column that is too narrow.

    Args:
        keep: share of the value that is kept at least; how much more is drawn.
    """

    keep: float = 0.4
    fields: ClassVar[tuple[FieldType, ...]] = (FieldType.TEXT, FieldType.EMAIL)
    allowed_fields: ClassVar[tuple[FieldType, ...]] = (*_WRITTEN, FieldType.CODE, FieldType.REFERENCE, FieldType.STAMP)
    metadata: ClassVar[Metadata] = _metadata("look it up in a second source", visible=False)

    def __post_init__(self) -> None:
        check_number(self, "keep", at_least=0.0, below=1.0)

    def strike(self, cells: Struck, draw: CellDraw) -> None:
        """Cut the cells; a check sees it in anything but free text."""
        cells.mark(visible=~_is_in(cells.type, FieldType.TEXT))

    def corrupt(self, values: Texts, draw: CellDraw, text: CellText) -> Texts:
        """Return the beginnings."""
        return texts.truncated(values, self.keep, draw.uniform(), email=text.facts.type is FieldType.EMAIL)


@register_fault
@dataclass(frozen=True)
class Outlier(RecordEffect):
    """A number or date far outside the range in use: a stuck key, a default such as 1900-01-01, a lost sign.

    Args:
        factor: how many times the greatest value in use an amount is at least.
        negative: share of the amounts that are negative.
    """

    factor: float = 10.0
    negative: float = 0.2
    fields: ClassVar[tuple[FieldType, ...]] = (*_COUNTED, FieldType.DATE)
    allowed_fields: ClassVar[tuple[FieldType, ...]] = fields
    metadata: ClassVar[Metadata] = _metadata("derive it, or ask")

    def __post_init__(self) -> None:
        check_number(self, "factor", above=1.0)
        check_share(self, "negative")

    def strike(self, cells: Struck, draw: CellDraw) -> None:
        """Put the cells out of range."""
        cells.mark(visible=True)

    def corrupt(self, values: Texts, draw: CellDraw, text: CellText) -> Texts:
        """Return values out of range."""
        if text.facts.type is FieldType.DATE:
            return texts.strange_dates(values, draw.uniform())
        return texts.out_of_range(values, text.facts, self.factor, draw.uniform(), draw.chance(self.negative))


@register_fault
@dataclass(frozen=True)
class PartialUpdate(RecordEffect):
    """An update wrote the first fields of a record and stopped: the rest still holds the values before it.

    ``rate(p)`` is the share of records; ``on(...)`` says which fields the update was about, two at least.
    """

    fields: ClassVar[tuple[FieldType, ...]] = _CHANGING
    allowed_fields: ClassVar[tuple[FieldType, ...]] = (*_CHANGING, FieldType.CODE)
    per: ClassVar[Literal["cell", "record"]] = "record"
    metadata: ClassVar[Metadata] = _metadata("look it up in a second source, or ask", visible=False, kind="omission")

    def reaches(self, fields: Fields, mask: Mask) -> Mask:
        """Return the fields of kinds of which at least two can be updated together."""
        return mask & (np.bincount(fields.kind[mask], minlength=len(fields.family_names)) >= 2)[fields.kind]

    def strike(self, cells: Struck, draw: CellDraw) -> None:
        """Leave all fields behind a drawn one as they were; the first was written in any case."""
        place, count = _places(cells)
        written = 1 + (draw.of_record() * (count - 1)).astype(np.int64)
        cells.mark(where=(count > 1) & (place >= written))

    def corrupt(self, values: Texts, draw: CellDraw, text: CellText) -> Texts:
        """Return the values before the update."""
        return _earlier(values, draw, text, 0.0)


def _earlier(values: Texts, draw: CellDraw, text: CellText, older_days: float) -> Texts:
    """The first earlier version that differs; of a time stamp, an older one."""
    u = draw.of_record()
    if text.facts.stamp:
        return texts.older(values, u, older_days)
    found = text.earlier(1)
    for version in range(2, 5):
        same = found == values
        if not same.any():
            break
        found = np.where(same, text.earlier(version), found)
    return found


def _places(cells: Struck) -> tuple[np.ndarray, np.ndarray]:
    """Each cell's place among the cells of its record, from 0, and how many there are; kinds are apart."""
    group = cells.row * len(cells.cells.fields.family_names) + cells.kind
    order = np.argsort(group, kind="stable")
    starts = np.ones(order.size, dtype=np.bool_)
    starts[1:] = group[order[1:]] != group[order[:-1]]
    first = np.maximum.accumulate(np.where(starts, np.arange(order.size), 0))
    number = np.cumsum(starts) - 1
    place, count = np.empty_like(order), np.empty_like(order)
    place[order] = np.arange(order.size) - first
    count[order] = np.bincount(number)[number]
    return place, count


def _one_of_each_record(cells: Struck, u: np.ndarray) -> Mask:
    place, count = _places(cells)
    return place == (u * count).astype(np.int64)


def _convertible(fields: Fields) -> Mask:
    """Fields whose unit field names at least two units that convert into each other."""
    named = [column != NONE and texts.has_other_unit(fields.facts[column].choices) for column in fields.unit.tolist()]
    return np.array(named, dtype=np.bool_)
