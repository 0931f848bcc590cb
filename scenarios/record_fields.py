"""From a field of a schema to its values: one small generator per type of field.

A generator turns a block of rows into an array. Every draw is a pure function of (seed, schema, kind, row,
field, version), so any rows can be made alone, in any order, with the same result.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..faults.cells import FieldType
from . import record_schema as rs
from .record_codes import IBAN_DIGITS, Permutation, iban, padded, with_check_digit, zero_padded
from .record_pools import Mixed, calling_code, family_name_first, number_first, pool, slugs

if TYPE_CHECKING:
    from .records import Block, RecordSource

I64 = NDArray[np.int64]
Values = NDArray[Any]
_DAY = np.timedelta64(1, "D")
_FIRST_DAY, _LAST_DAY = np.datetime64("1900-01-01", "D"), np.datetime64("2150-01-01", "D")


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
        self.stream = f"{name}."
        self.setup()

    def setup(self) -> None:
        """Prepare pools and tables, once."""

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


class Faked(FieldValues):
    """Values from a Faker pool."""

    def setup(self) -> None:
        """Prepare pools and tables."""
        self.pool = self.mixed(self.spec.provider, self.spec.pool, self.spec.arguments)

    def index(self, block: Block) -> I64:
        """Places in the pool; addresses made of this field take the same ones."""
        return block.once(f"{self.name}#index", lambda: self.pool.index(block.locale, block.uniform(self.name)))

    def values(self, block: Block) -> Values:
        """Return the values of a block."""
        return self.pool.take(self.index(block))

    def slugs(self) -> Mixed:
        """The same pool as it stands in e-mail addresses."""
        spec = self.spec
        arguments = json.dumps(spec.arguments, sort_keys=True)
        return Mixed([slugs(locale, spec.provider, spec.pool, arguments) for locale in self.source.locales])


class FullName(FieldValues):
    """First and last name in the order of the locale."""

    def setup(self) -> None:
        """Prepare pools and tables."""
        size, locales = self.spec.pool, self.source.locales
        first = [pool(locale, "first_name", size) for locale in locales]
        last = [pool(locale, "last_name", size) for locale in locales]
        self.left = Mixed([b if family_name_first(k) else a for k, a, b in zip(locales, first, last, strict=True)])
        right = [a if family_name_first(k) else b for k, a, b in zip(locales, first, last, strict=True)]
        self.right = Mixed([" " + part for part in right])

    def values(self, block: Block) -> Values:
        """Return the values of a block."""
        left = self.left.index(block.locale, block.uniform(f"{self.name}.left"))
        right = self.right.index(block.locale, block.uniform(f"{self.name}.right"))
        return self.left.take(left) + self.right.take(right)


class Street(FieldValues):
    """Street and house number in the order of the locale."""

    def setup(self) -> None:
        """Prepare pools and tables."""
        locales = self.source.locales
        streets = [pool(locale, "street_name", self.spec.pool) for locale in locales]
        numbers = np.array([str(n) for n in range(1, 200)], dtype=object)
        left, right = [], []
        for locale, street in zip(locales, streets, strict=True):
            first, second = (numbers, street) if number_first(locale) else (street, numbers)
            left.append(first)
            right.append(np.add(" ", second, dtype=object))
        self.left, self.right = Mixed(left), Mixed(right)

    def values(self, block: Block) -> Values:
        """Return the values of a block."""
        left = self.left.index(block.locale, block.uniform(f"{self.name}.left"))
        right = self.right.index(block.locale, block.uniform(f"{self.name}.right"))
        return self.left.take(left) + self.right.take(right)


class Address(Street):
    """Street, house number, postcode and city on one line."""

    def setup(self) -> None:
        """Prepare pools and tables."""
        super().setup()
        size, locales = self.spec.pool, self.source.locales
        # postcode and city are joined beforehand: they are one choice of size * size
        self.post = Mixed([", " + pool(locale, "postcode", size) + " " for locale in locales])
        self.city = self.mixed("city", size)

    def values(self, block: Block) -> Values:
        """Return the values of a block."""
        post = self.post.index(block.locale, block.uniform(f"{self.name}.post"))
        city = self.city.index(block.locale, block.uniform(f"{self.name}.city"))
        return super().values(block) + self.post.take(post) + self.city.take(city)


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


class Email(FieldValues):
    """Names, a number that makes it unique, and a domain for examples."""

    type = FieldType.EMAIL
    digits = 8

    def setup(self) -> None:
        """Prepare pools and tables."""
        fields = self.source.fields_of_kind(self.kind)
        made_of = [fields[name] for name in self.spec.of]
        self.parts = [(part, part.slugs()) for part in made_of if isinstance(part, Faked)]
        self.users = None if self.parts else self.mixed("user_name", 1000)
        name = f"email.{self.source.schema.name}.{self.kind}.{self.name}"
        self.permutation = Permutation(name, self.source.seed, 10**self.digits)
        self.domains = np.array([f"@example.{ending}" for ending in ("com", "org", "net")], dtype=object)

    def values(self, block: Block) -> Values:
        """Return the values of a block."""
        if self.users is not None:
            found = self.users.take(self.users.index(block.locale, block.uniform(f"{self.name}.user")))
        else:
            found = self.parts[0][1].take(self.parts[0][0].index(block))
            for part, slug in self.parts[1:]:
                found = found + "." + slug.take(part.index(block))
        high, low = np.divmod(self.permutation.number(block.rows), 10**4)
        found = found + padded(4).take(high) + padded(4).take(low)
        return found + self.domains.take((block.uniform(f"{self.name}.domain") * 3).astype(np.int64))


class Phone(FieldValues):
    """Country code and ten digits."""

    type = FieldType.PHONE

    def setup(self) -> None:
        """Prepare pools and tables."""
        self.codes = np.array([f"+{calling_code(locale)}-" for locale in self.source.locales], dtype=object)

    def values(self, block: Block) -> Values:
        """Return the values of a block."""
        area = 200 + (block.uniform(f"{self.name}.area") * 800).astype(np.int64)
        line = (block.uniform(f"{self.name}.line") * 10**7).astype(np.int64)
        middle, last = np.divmod(line, 10**4)
        found = self.codes.take(block.locale) + padded(3).take(area) + "-"
        return found + padded(3).take(middle) + "-" + padded(4).take(last)


class Template(FieldValues):
    """Text with other fields in it."""

    def values(self, block: Block) -> Values:
        """Return the values of a block."""
        names = self.spec.needs()
        columns = [block.text(name).tolist() for name in names]
        found = np.empty(block.rows.size, dtype=object)
        if not names:
            found[:] = self.spec.template.format()
            return found
        fill = self.spec.template.format
        found[:] = [fill(**dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)]
        return found


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


class Code(FieldValues):
    """A code with check digits."""

    type = FieldType.CODE

    def values(self, block: Block) -> Values:
        """Return the values of a block."""
        spec = self.spec
        country = spec.prefix or "DE"
        length = {"iban": IBAN_DIGITS.get(country, 0), "luhn": 15, "ean13": 12}[spec.scheme]
        free = length if spec.scheme == "iban" else length - len(spec.prefix)
        parts: list[tuple[I64, int]] = []
        while free:
            digits = min(9, free)
            u = block.uniform(f"{self.name}.{len(parts)}")
            parts.append(((u * 10**digits).astype(np.int64), digits))
            free -= digits
        if spec.scheme == "iban":
            return iban(country, parts)
        payload = spec.prefix + zero_padded(*parts[0])
        for part, digits in parts[1:]:
            payload = payload + zero_padded(part, digits)
        return with_check_digit(payload, (2, 1) if spec.scheme == "luhn" else (3, 1), fold=spec.scheme == "luhn")


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
        owner = np.where(place < rs.GROUP * spec.at_least, place % rs.GROUP, (u * rs.GROUP).astype(np.int64))
        return group * rs.GROUP + owner

    def values(self, block: Block) -> Values:
        """Return the values of a block."""
        key = self.source.schema.kinds[self.spec.to].key
        assert key is not None
        return block.at(self.spec.to, self.parents(block))[key]


class Copy(FieldValues):
    """A field of a referenced record."""

    def setup(self) -> None:
        """Prepare pools and tables."""
        kind, _, name = self.spec.of.partition(".")
        self.original = self.source.fields_of_kind(kind)[name]
        self.type = self.original.type

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
        groups, place = np.unique(block.rows // rs.GROUP, return_inverse=True)
        children, owners = self.source.group_children(kind, self.kind, groups)
        amounts = np.rint(block.at(kind, children)[name] * scale)
        slot = np.searchsorted(groups, owners // rs.GROUP) * rs.GROUP + owners % rs.GROUP
        sums = np.bincount(slot, weights=amounts, minlength=groups.size * rs.GROUP)
        return sums[place * rs.GROUP + block.rows % rs.GROUP] / scale

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


GENERATORS: dict[type, Callable[..., FieldValues]] = {
    rs.KeyField: Key, rs.FakerField: Faked, rs.NameField: FullName, rs.StreetField: Street, rs.AddressField: Address,
    rs.EmailField: Email, rs.PhoneField: Phone, rs.TextField: Template, rs.DateField: Day, rs.StampField: Stamp,
    rs.AmountField: Amount, rs.IntegerField: Integer, rs.ChoiceField: Choice, rs.CodeField: Code,
    rs.ReferenceField: Reference, rs.CopyField: Copy, rs.SumField: Total, rs.ProductField: Product,
}  # fmt: skip


def decimal_text(values: Values, decimals: int) -> NDArray[np.object_]:
    """Return numbers as text with so many digits after the point."""
    found = np.empty(values.size, dtype=object)
    found[:] = list(map(f"%.{decimals}f".__mod__, values.tolist()))
    return found


_TABLES: dict[str, NDArray[np.object_]] = {}


def _table(name: str, make: Callable[[], list[str]]) -> NDArray[np.object_]:
    if name not in _TABLES:
        _TABLES[name] = np.array(make(), dtype=object)
    return _TABLES[name]


def _iso_days(days: Values) -> NDArray[np.object_]:
    if not days.size:
        return np.empty(0, dtype=object)
    if days.min() < _FIRST_DAY or days.max() >= _LAST_DAY:
        return np.datetime_as_string(days, unit="D").astype(object)
    table = _table("days", lambda: np.datetime_as_string(np.arange(_FIRST_DAY, _LAST_DAY), unit="D").tolist())
    return table.take((days - _FIRST_DAY).astype(np.int64))


def _times_of_day() -> NDArray[np.object_]:
    return _table("times", lambda: [f"T{s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d}Z" for s in range(86_400)])
