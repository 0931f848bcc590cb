"""What makes the values of a field: the base of the generators.

A generator turns a block of rows into an array. Every draw is a pure function of (seed, schema, kind, row,
field, version), so any rows can be made alone, in any order, with the same result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import RecordError
from ..faults.cells import FieldType
from .record_pools import Mixed, pool

if TYPE_CHECKING:
    from .records import Block, RecordSource

I64 = NDArray[np.int64]
Values = NDArray[Any]


class FieldValues:
    """Makes the values of one field.

    Args:
        source: the records it belongs to.
        kind: its kind of record.
        name: the field.
        spec: what the schema says.
    """

    type: FieldType = FieldType.TEXT

    def __init__(self, source: RecordSource, kind: str, name: str, spec: Any) -> None:
        self.source = source
        self.kind = kind
        self.name = name
        self.spec = spec
        self._filled = False
        self.setup()

    def setup(self) -> None:
        """Prepare what is cheap, when the kind is first asked for."""

    def fill(self) -> None:
        """Make what takes time, such as pools, when a value is first asked for."""

    def ready(self) -> Self:
        """Return the generator with its pools made.

        Raises:
            RecordError: if Faker does not have what the schema asks for.
        """
        if not self._filled:
            try:
                self.fill()
            except RecordError as error:
                schema = self.source.schema
                place = f"{schema.path or schema.name}: kinds.{self.kind}.fields.{self.name}"
                raise RecordError(f"{place}.{error}") from None
            self._filled = True
        return self

    def values(self, block: Block) -> Values:
        """Return the ``(m,)`` values of a block: text, numbers or dates."""
        raise NotImplementedError

    def text(self, values: Values) -> NDArray[np.object_]:
        """Return values as they stand in a file."""
        return values

    def number(self, values: Values) -> NDArray[np.float64]:
        """Return something to rank values by: the number itself, the day, the length of a text."""
        return np.array([len(value) for value in values.tolist()], dtype=np.float64)

    def span(self) -> tuple[float, float] | None:
        """Return least and greatest value in use, None if it is known from a sample only."""
        return None

    def mixed(self, provider: str, size: int, arguments: dict[str, Any] | None = None) -> Mixed:
        """Return the pools of a provider in the locales of the source."""
        return Mixed([pool(locale, provider, size, arguments) for locale in self.source.locales])
