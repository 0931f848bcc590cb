"""Generators of text: names, streets, addresses, e-mail, phone numbers, codes, templates."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from ..faults.cells import FieldType
from .record_codes import IBAN_DIGITS, Permutation, iban, padded, with_check_digit, zero_padded
from .record_fields import I64, FieldValues, Values
from .record_pools import Mixed, calling_code, family_name_first, number_first, pool, slugs

if TYPE_CHECKING:
    from .records import Block


class Faked(FieldValues):
    """Values from a Faker pool."""

    def fill(self) -> None:
        """Make the pools."""
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

    def fill(self) -> None:
        """Make the pools."""
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

    def fill(self) -> None:
        """Make the pools."""
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

    def fill(self) -> None:
        """Make the pools."""
        super().fill()
        size, locales = self.spec.pool, self.source.locales
        # postcode and city are joined beforehand: they are one choice of size * size
        self.post = Mixed([", " + pool(locale, "postcode", size) + " " for locale in locales])
        self.city = self.mixed("city", size)

    def values(self, block: Block) -> Values:
        """Return the values of a block."""
        post = self.post.index(block.locale, block.uniform(f"{self.name}.post"))
        city = self.city.index(block.locale, block.uniform(f"{self.name}.city"))
        return super().values(block) + self.post.take(post) + self.city.take(city)


class Email(FieldValues):
    """Names, a number that makes it unique, and a domain for examples."""

    type = FieldType.EMAIL
    digits = 8

    def fill(self) -> None:
        """Make the pools."""
        fields = self.source.fields_of_kind(self.kind)
        made_of = [part.ready() for name in self.spec.of if isinstance(part := fields[name], Faked)]
        self.parts = [(part, part.slugs()) for part in made_of]
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

    def fill(self) -> None:
        """Make the pools."""
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
