"""Records made from a schema: any row of any kind, alone or a million at a time, always the same.

A value is a pure function of (seed, schema, kind, row, field). Nothing is remembered between rows: keys are
unique because they are a permutation of the row number, and relations hold because a child's parent and a
parent's children are both computed. ``version`` counts back in time: version 1 is what the field held before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..envs.streams import U64, episode_keys, stream_id, uniform
from ..errors import RecordError
from ..faults.cells import FieldFacts, Fields, FieldType
from . import record_links, record_numbers, record_words
from . import record_schema as rs
from .record_facts import REFERENCE_ROWS, facts_of
from .record_fields import FieldValues
from .record_links import Key, Reference
from .record_loading import load_record_schema
from .record_pools import check_locale
from .record_schema import GROUP, RecordSchema, ReferenceField
from .table_io import near

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]
Texts = NDArray[np.object_]
Plain = str | int | float

GENERATORS: dict[type, Callable[..., FieldValues]] = {
    rs.KeyField: record_links.Key,
    rs.FakerField: record_words.Faked,
    rs.NameField: record_words.FullName,
    rs.StreetField: record_words.Street,
    rs.AddressField: record_words.Address,
    rs.EmailField: record_words.Email,
    rs.PhoneField: record_words.Phone,
    rs.TextField: record_words.Template,
    rs.DateField: record_numbers.Day,
    rs.StampField: record_numbers.Stamp,
    rs.AmountField: record_numbers.Amount,
    rs.IntegerField: record_numbers.Integer,
    rs.ChoiceField: record_numbers.Choice,
    rs.CodeField: record_words.Code,
    rs.ReferenceField: record_links.Reference,
    rs.CopyField: record_links.Copy,
    rs.SumField: record_numbers.Total,
    rs.ProductField: record_numbers.Product,
}


class Block:
    """Some rows of one kind, whose fields are made when they are asked for and then kept.

    Args:
        source: where the records come from.
        kind: their kind.
        rows: ``(m,)`` row numbers, in any order.
        version: 0 for the present, ``k`` for ``k`` versions ago.
    """

    def __init__(self, source: RecordSource, kind: str, rows: I64, version: int = 0) -> None:
        self.source = source
        self.kind = kind
        self.rows = rows
        self.version = version
        self._kept: dict[str, Any] = {}

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """Return what ``make`` made the first time."""
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]

    @property
    def keys(self) -> U64:
        """``(m,)`` keys of the rows' draws; effects on records draw from them as well."""
        return self.once("#keys", lambda: self.source.keys(self.kind, self.rows))

    @property
    def locale(self) -> I64:
        """``(m,)`` index of each row's locale."""
        return self.once("#locale", lambda: self.source.locale_index(self.uniform("#locale", version=0)))

    def uniform(self, stream: str, version: int | None = None) -> F64:
        """Return ``(m,)`` floats in [0, 1) of one stream of this kind."""
        return uniform(self.keys, stream_id(f"field.{stream}"), self.version if version is None else version)

    def __getitem__(self, name: str) -> NDArray[Any]:
        """The values of a field."""
        return self.once(name, lambda: self.source.fields_of_kind(self.kind)[name].ready().values(self))

    def text(self, name: str) -> Texts:
        """The values of a field as they stand in a file."""
        return self.once(f"{name}#text", lambda: self.source.fields_of_kind(self.kind)[name].text(self[name]))

    def at(self, kind: str, rows: I64) -> Block:
        """Return rows of another kind, in the same version."""
        return Block(self.source, kind, rows, self.version)

    def path(self, path: str) -> NDArray[Any]:
        """The values of ``field``, or of ``kind.field`` of the referenced records."""
        kind, dot, name = path.partition(".")
        if not dot:
            return self[path]
        link = self.source.schema.kinds[self.kind].reference_to(kind)
        assert link is not None
        reference = self.source.fields_of_kind(self.kind)[link]
        assert isinstance(reference, Reference)
        return self.once(f"#{kind}", lambda: self.at(kind, reference.parents(self)))[name]


class RecordSource:
    """The records of a schema.

    Args:
        schema: a built-in name, the path of a YAML file, a mapping or a loaded schema.
        seed: equal seeds give equal records.
        locale: Faker locales to use instead of the schema's: a name, or the share of each.

    Raises:
        RecordError: if the schema or a locale is not valid. A Faker provider is asked for when a value of its
            field is.

    >>> source = RecordSource("commerce", seed=7)
    >>> order = source.record("order", 0)
    >>> source.record("customer", order["customer_id"])["customer_id"] == order["customer_id"]
    True
    """

    def __init__(
        self,
        schema: str | Path | Mapping[str, Any] | RecordSchema,
        seed: int = 0,
        locale: str | Mapping[str, float] | None = None,
    ) -> None:
        self.schema = load_record_schema(schema)
        self.seed = int(seed)
        shares = dict(self.schema.locales)
        if locale is not None:
            shares = {locale: 1.0} if isinstance(locale, str) else dict(locale)
        if not shares or not all(np.isfinite(share) and share > 0 for share in shares.values()):
            raise RecordError(f"locale = {locale!r} is not allowed: give a Faker locale, or a positive share of each")
        for name in shares:
            check_locale(name)
        self.locales = tuple(shares)
        weights = np.array(list(shares.values()))
        self._locale_bounds = np.cumsum(weights)[:-1] / weights.sum()
        self._fields: dict[str, dict[str, FieldValues]] = {}
        self._levels: dict[tuple[str, str], F64] = {}

    # ------------------------------------------------------------ parts

    def fields_of_kind(self, kind: str) -> dict[str, FieldValues]:
        """Return the generators of a kind's fields, in the order of the schema.

        Raises:
            RecordError: if there is no such kind.
        """
        if kind not in self._fields:
            spec = self.schema.kinds.get(kind)
            if spec is None:
                allowed = ", ".join(self.schema.kinds)
                raise RecordError(
                    f"{self.schema.name}: no kind {kind!r}{near(kind, self.schema.kinds)}; allowed: {allowed}"
                )
            made = self._fields[kind] = {}
            for name, field in spec.fields.items():
                made[name] = GENERATORS[type(field)](self, kind, name, field)
        return self._fields[kind]

    def keys(self, kind: str, rows: I64) -> U64:
        """Return the ``(m,)`` keys of rows' draws."""
        return episode_keys(np.full(rows.size, self.seed), rows, f"records.{self.schema.name}.{kind}")

    def locale_index(self, u: F64) -> I64:
        """Return the index in :attr:`locales` that each uniform picks."""
        return np.searchsorted(self._locale_bounds, u, side="right")

    # ------------------------------------------------------------ values

    def block(self, kind: str, rows: ArrayLike, version: int = 0) -> Block:
        """Return some rows of a kind; their fields are made when asked for.

        Raises:
            RecordError: if there is no such kind, or a row is negative or beyond the key's digits.
        """
        fields = self.fields_of_kind(kind)
        rows = np.asarray(rows, dtype=np.int64).reshape(-1)
        key = self.schema.kinds[kind].key
        generator = fields[key] if key is not None else None
        limit = 10**generator.spec.digits if isinstance(generator, Key) else 2**40
        if rows.size and (rows.min() < 0 or rows.max() >= limit):
            raise RecordError(
                f"{kind}: row {rows.min() if rows.min() < 0 else rows.max()} is not allowed: 0 to {limit - 1}"
            )
        return Block(self, kind, rows, version)

    def fields(
        self, kind: str, rows: ArrayLike, names: Sequence[str] | None = None, version: int = 0
    ) -> dict[str, NDArray[Any]]:
        """Return fields of many records.

        Args:
            kind: kind of record.
            rows: ``(m,)`` row numbers.
            names: the fields, default all.
            version: 0 for the present, ``k`` for ``k`` versions ago.

        Returns:
            Per field ``(m,)`` values: text as objects, ``float64``, ``int64``, ``datetime64[D]`` or ``[s]``.

        Raises:
            RecordError: if there is no such kind, field or row.
        """
        block = self.block(kind, rows, version)
        return {name: block[name] for name in self._names(kind, names)}

    def text(
        self, kind: str, rows: ArrayLike, names: Sequence[str] | None = None, version: int = 0
    ) -> dict[str, Texts]:
        """Return the same as :meth:`fields`, as the text that stands in a file: 12.50, 2024-03-05."""
        block = self.block(kind, rows, version)
        return {name: block.text(name) for name in self._names(kind, names)}

    def record(self, kind: str, key: int | str, version: int = 0) -> dict[str, Plain]:
        """Return one record: numbers as numbers, all else as text.

        Args:
            kind: kind of record.
            key: its row number, or its key as text.
            version: 0 for the present, ``k`` for ``k`` versions ago.

        Raises:
            RecordError: if there is no such kind or record.
        """
        row = self.row(kind, key) if isinstance(key, str) else int(key)
        block = self.block(kind, [row], version)
        return {name: _plain(block, name) for name in self.fields_of_kind(kind)}

    def row(self, kind: str, key: str) -> int:
        """Return the row number of a key.

        Raises:
            RecordError: if it is no key of this kind.
        """
        fields = self.fields_of_kind(kind)
        name = self.schema.kinds[kind].key
        generator = None if name is None else fields[name]
        row = generator.row(key) if isinstance(generator, Key) else None
        if row is None:
            raise RecordError(f"{kind}: no record has the key {key!r}")
        return row

    # ------------------------------------------------------------ relations

    def parents(self, kind: str, rows: ArrayLike, to: str) -> I64:
        """Return the rows of the kind ``to`` that rows of ``kind`` refer to.

        Raises:
            RecordError: if ``kind`` does not refer to ``to``.
        """
        block = self.block(kind, rows)
        link = self.schema.kinds[kind].reference_to(to)
        if link is None:
            raise RecordError(f"{kind} has no reference to {to!r}")
        reference = self.fields_of_kind(kind)[link]
        assert isinstance(reference, Reference)
        return reference.parents(block)

    def children(self, kind: str, to: str, parent: int) -> I64:
        """Return the rows of ``kind`` that refer to one row of the kind ``to``, in rising order.

        Raises:
            RecordError: if ``kind`` has no reference to ``to`` with ``each``.
        """
        rows, owners = self.group_children(kind, to, np.array([parent // GROUP]))
        return rows[owners == parent]

    def group_children(self, kind: str, to: str, groups: I64) -> tuple[I64, I64]:
        """Return the rows of ``kind`` that belong to groups of parents, and the parent of each."""
        self.fields_of_kind(kind)
        link = self.schema.kinds[kind].reference_to(to)
        spec = None if link is None else self.schema.kinds[kind].fields[link]
        if not isinstance(spec, ReferenceField) or spec.each is None:
            raise RecordError(f"{kind} has no reference to {to!r} with each")
        rows = (groups[:, None] * spec.per_group + np.arange(spec.per_group)).reshape(-1)
        return rows, self.parents(kind, rows, to)

    # ------------------------------------------------------------ facts

    def fields_of(self, kinds: Iterable[str] | None = None) -> Fields:
        """Return what effects on records may know about the fields of some kinds, in the order of the schema.

        Args:
            kinds: the kinds; default all.
        """
        facts: list[FieldFacts] = []
        chosen = list(self.schema.kinds if kinds is None else kinds)
        for kind in chosen:
            for name, generator in self.fields_of_kind(kind).items():
                span = generator.span()
                if span is None and generator.type in (FieldType.AMOUNT, FieldType.INTEGER, FieldType.DATE):
                    sample = self._sample(kind, name)
                    span = float(sample[0]), float(sample[-1])
                facts.append(facts_of(self.schema, kind, name, span))
        others = {kind: spec.fields for kind, spec in self.schema.kinds.items() if kind not in chosen}
        return Fields.of(facts, (f"{kind}.{name}" for kind, names in others.items() for name in names))

    def number(self, block: Block, name: str) -> F64:
        """Return a field of a block as numbers: itself, its day, its place in the list, its length."""
        return self.fields_of_kind(block.kind)[name].number(block[name])

    def level(self, block: Block, name: str) -> F64:
        """Return the ``(m,)`` rank in [0, 1] of a field's values among those of a fixed sample of records."""
        sample, values = self._sample(block.kind, name), self.number(block, name)
        below, above = np.searchsorted(sample, values, "left"), np.searchsorted(sample, values, "right")
        return (below + above) / (2.0 * sample.size)

    def _sample(self, kind: str, name: str) -> F64:
        if (kind, name) not in self._levels:
            block = Block(self, kind, np.arange(REFERENCE_ROWS))
            self._levels[kind, name] = np.sort(self.number(block, name))
        return self._levels[kind, name]

    def _names(self, kind: str, names: Sequence[str] | None) -> Sequence[str]:
        known = self.fields_of_kind(kind)
        for name in names or ():
            if name not in known:
                raise RecordError(f"{kind}: no field {name!r}{near(name, known)}; allowed: {', '.join(known)}")
        return list(known) if names is None else names


def _plain(block: Block, name: str) -> Plain:
    value = block[name]
    return block.text(name)[0] if value.dtype.kind in "OM" else value.item(0)
