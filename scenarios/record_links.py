"""Generators of what links records: keys, references and copies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..faults.cells import FieldType
from .record_codes import Permutation, zero_padded
from .record_facts import field_type
from .record_fields import I64, FieldValues, Values
from .record_schema import GROUP

if TYPE_CHECKING:
    from .records import Block


class Key(FieldValues):
    """Prefix and number, unique."""

    type = FieldType.KEY

    def setup(self) -> None:
        """Prepare pools and tables."""
        name = f"key.{self.source.schema.name}.{self.kind}"
        self.permutation = Permutation(name, self.source.seed, 10**self.spec.digits)

    def values(self, block: Block) -> Values:
        """Return the values of a block."""
        return self.spec.prefix + zero_padded(self.permutation.number(block.rows), self.spec.digits)

    def row(self, key: str) -> int | None:
        """Return the row of a key, None if it is not a key of this kind."""
        digits = key.removeprefix(self.spec.prefix) if key.startswith(self.spec.prefix) else ""
        if len(digits) != self.spec.digits or not (digits.isascii() and digits.isdigit()):
            return None
        return self.permutation.row(int(digits))


class Reference(FieldValues):
    """The key of a record of another kind."""

    type = FieldType.REFERENCE

    def parents(self, block: Block) -> I64:
        """Return the ``(m,)`` rows referred to."""
        return block.once(f"{self.name}#rows", lambda: self.rows(block))

    def rows(self, block: Block) -> I64:
        """Return the ``(m,)`` rows referred to, made anew."""
        u = block.uniform(f"{self.name}.owner", version=0)
        spec = self.spec
        if spec.each is None:
            return (u * (self.source.schema.kinds[spec.to].rows or 1)).astype(np.int64)
        group, place = np.divmod(block.rows, spec.per_group)
        # the first children go to the parents in turn, so that each has its least number
        owner = np.where(place < GROUP * spec.at_least, place % GROUP, (u * GROUP).astype(np.int64))
        return group * GROUP + owner

    def values(self, block: Block) -> Values:
        """Return the values of a block."""
        key = self.source.schema.kinds[self.spec.to].key
        assert key is not None
        return block.at(self.spec.to, self.parents(block))[key]


class Copy(FieldValues):
    """A field of a referenced record."""

    def setup(self) -> None:
        """Take over what the original holds."""
        self.type = field_type(self.source.schema, self.kind, self.name)

    @property
    def original(self) -> FieldValues:
        """The field that is copied."""
        kind, _, name = self.spec.of.partition(".")
        return self.source.fields_of_kind(kind)[name]

    def values(self, block: Block) -> Values:
        """Return the values of a block."""
        return block.path(self.spec.of)

    def text(self, values: Values) -> NDArray[np.object_]:
        """Return the values as they stand in a file."""
        return self.original.text(values)

    def number(self, values: Values) -> NDArray[np.float64]:
        """Return numbers to rank by."""
        return self.original.number(values)

    def span(self) -> tuple[float, float] | None:
        """Return least and greatest value, if known."""
        return self.original.span()
