"""The schema of records: what a file of kinds, fields and relations may say.

A schema describes the records of a business: which kinds there are, what their fields hold, how they refer
to each other, and how messy they are in each profile. It is data; :mod:`.records` makes the records.
"""

from __future__ import annotations

import string
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from .distributions import Distribution
from .schema import Number, Positive

FieldName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Count = Annotated[int, Field(ge=1)]
Days = Annotated[int, Field(ge=0, le=36_500)]
LARGEST_POOL = 100_000
GROUP = 8
"""Parents whose children lie together; see :class:`ReferenceField`."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Field(_Part):
    required: bool = Field(True, description="whether a check refuses an empty value")
    pair: FieldName | None = Field(None, description="field of the same record that it is mixed up with")

    def needs(self) -> tuple[str, ...]:
        """Fields of the same record that its value is made from."""
        return ()


class KeyField(_Field):
    """Number of the record, unique within its kind."""

    type: Literal["key"] = "key"
    prefix: str = Field("", max_length=20, description="text in front of the number")
    digits: Annotated[int, Field(ge=3, le=9)] = Field(8, description="length of the number; it limits the rows")


class FakerField(_Field):
    """Values of a Faker provider, drawn from a pool of them."""

    type: Literal["faker"] = "faker"
    provider: str = Field(description="method of Faker, such as company or job")
    arguments: dict[str, Any] = Field(default_factory=dict, description="keyword arguments of the provider")
    pool: Annotated[int, Field(ge=1, le=LARGEST_POOL)] = Field(1000, description="values per locale")


class NameField(_Field):
    """A person's full name: first and last name, in the order of the locale."""

    type: Literal["name"] = "name"
    pool: Annotated[int, Field(ge=1, le=LARGEST_POOL)] = Field(1000, description="first and last names per locale")


class StreetField(_Field):
    """Street and house number."""

    type: Literal["street"] = "street"
    pool: Annotated[int, Field(ge=1, le=LARGEST_POOL)] = Field(1000, description="streets per locale")


class AddressField(_Field):
    """Street, house number, postcode and city on one line."""

    type: Literal["address"] = "address"
    pool: Annotated[int, Field(ge=1, le=LARGEST_POOL)] = Field(
        1000, description="streets, cities and postcodes per locale"
    )


class EmailField(_Field):
    """An e-mail address at a domain reserved for examples, unique within its kind."""

    type: Literal["email"] = "email"
    of: tuple[FieldName, ...] = Field((), max_length=2, description="faker fields whose values make the address")

    def needs(self) -> tuple[str, ...]:
        """The fields that make the address."""
        return self.of


class PhoneField(_Field):
    """A phone number with the country code of the locale."""

    type: Literal["phone"] = "phone"


class TextField(_Field):
    """Text with other fields of the record in it."""

    type: Literal["text"] = "text"
    template: str = Field(min_length=1, description="text with {field} in it")

    @field_validator("template")
    @classmethod
    def _parses(cls, template: str) -> str:
        names = _names_in(template)
        if any(name is None for name in names):
            raise ValueError("write fields as {name}, without format or index; a brace itself is {{ or }}")
        return template

    def needs(self) -> tuple[str, ...]:
        """The fields in the template."""
        return tuple(name for name in _names_in(self.template) if name)


class DateField(_Field):
    """A day: between two days, or so many days after another date."""

    type: Literal["date"] = "date"
    start: date | None = Field(None, description="first day")
    end: date | None = Field(None, description="last day")
    after: str | None = Field(None, description="date it follows: a field, or kind.field of a referenced record")
    within_days: tuple[Days, Days] = Field((0, 30), description="least and greatest number of days after it")

    @model_validator(mode="after")
    def _one_form(self) -> DateField:
        if self.after is None and (self.start is None or self.end is None):
            raise ValueError("start: give start and end, or after and within_days")
        if self.after is not None and (self.start is not None or self.end is not None):
            raise ValueError("after: give start and end, or after and within_days, not both")
        if self.start is not None and self.end is not None and self.end < self.start:
            raise ValueError(f"end: must not be before start {self.start}, got {self.end}")
        if self.within_days[1] < self.within_days[0]:
            raise ValueError(f"within_days: the second must be at least the first, got {list(self.within_days)}")
        return self

    def needs(self) -> tuple[str, ...]:
        """The date it follows, if that is in the same record."""
        return (self.after,) if self.after and "." not in self.after else ()


class StampField(DateField):
    """A day and a time of day, UTC; the record's own time stamp, which stale versions set back."""

    type: Literal["stamp"] = "stamp"  # pyright: ignore[reportIncompatibleVariableOverride]


class AmountField(_Field):
    """An amount of money or of anything else that is measured."""

    type: Literal["amount"] = "amount"
    value: Distribution = Field(description="its distribution")
    decimals: Annotated[int, Field(ge=0, le=6)] = Field(2, description="digits after the point")
    unit: FieldName | None = Field(None, description="choice field of the same record that names the unit")


class IntegerField(_Field):
    """A whole number."""

    type: Literal["integer"] = "integer"
    value: Distribution = Field(description="its distribution, rounded to whole numbers")
    unit: FieldName | None = Field(None, description="choice field of the same record that names the unit")


class ChoiceField(_Field):
    """One of a list of values."""

    type: Literal["choice"] = "choice"
    values: dict[str, Positive] = Field(min_length=1, description="share of each value, or a list of values")

    @field_validator("values", mode="before")
    @classmethod
    def _equal_shares(cls, values: Any) -> Any:
        if isinstance(values, list | dict) and not all(isinstance(value, str) and value for value in values):
            raise ValueError("must be a list of texts, or a mapping from text to share; none of them empty")
        return dict.fromkeys(values, 1.0) if isinstance(values, list) else values


class CodeField(_Field):
    """A code with check digits."""

    type: Literal["code"] = "code"
    scheme: Literal["iban", "luhn", "ean13"] = Field(
        description="IBAN (numeric countries), card number or article number"
    )
    prefix: str = Field("", description="iban: country, default DE; others: first digits")


class ReferenceField(_Field):
    """The key of a record of another kind.

    With ``each`` that record owns so many of these on average: its children lie in groups of 8 parents, so
    that both directions are found without searching. Without it any of the ``rows`` of the other kind is
    referred to.
    """

    type: Literal["reference"] = "reference"
    to: FieldName = Field(description="the other kind")
    each: Annotated[float, Field(gt=0, le=64)] | None = Field(
        None, description="records of this kind per record of the other"
    )
    at_least: Annotated[int, Field(ge=0, le=64)] = Field(0, description="least number per record of the other")

    @property
    def per_group(self) -> int:
        """Children of a group of parents."""
        return round(GROUP * (self.each or 0))

    @model_validator(mode="after")
    def _enough(self) -> ReferenceField:
        if self.each is None and self.at_least:
            raise ValueError("at_least: needs each, the mean number per record of the other kind")
        if self.each is not None and self.per_group < max(1, GROUP * self.at_least):
            raise ValueError(f"each: must be at least at_least = {self.at_least} and 1/{GROUP}, got {self.each}")
        return self


class CopyField(_Field):
    """A field of a referenced record, written here as well."""

    type: Literal["copy"] = "copy"
    of: str = Field(pattern=r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$", description="kind.field of the referenced record")
    unit: FieldName | None = Field(None, description="choice field of the same record that names the unit")


class SumField(_Field):
    """The sum of amounts: of fields of this record, or of a field of the records that refer to it."""

    type: Literal["sum"] = "sum"
    of: tuple[FieldName, ...] | str = Field(
        description="list of fields, or kind.field of the records that refer to this one"
    )
    decimals: Annotated[int, Field(ge=0, le=6)] = Field(2, description="digits after the point")
    unit: FieldName | None = Field(None, description="choice field of the same record that names the unit")

    def needs(self) -> tuple[str, ...]:
        """The fields it adds, if they are in the same record."""
        return self.of if isinstance(self.of, tuple) else ()


class ProductField(_Field):
    """The product of number fields of this record, and of a constant."""

    type: Literal["product"] = "product"
    of: tuple[FieldName, ...] = Field(min_length=1, description="the fields")
    times: Number = Field(1.0, description="a constant factor, such as a tax rate")
    decimals: Annotated[int, Field(ge=0, le=6)] = Field(2, description="digits after the point")
    unit: FieldName | None = Field(None, description="choice field of the same record that names the unit")

    def needs(self) -> tuple[str, ...]:
        """The factors."""
        return self.of


AnyField = Annotated[
    KeyField | FakerField | NameField | StreetField | AddressField | EmailField | PhoneField | TextField | DateField
    | StampField | AmountField | IntegerField | ChoiceField | CodeField | ReferenceField | CopyField | SumField
    | ProductField,
    Field(discriminator="type"),
]  # fmt: skip

NUMBERS = (AmountField, IntegerField, SumField, ProductField)


class Kind(_Part):
    """One kind of record."""

    fields: dict[FieldName, AnyField] = Field(min_length=1, description="the fields, in the order of the columns")
    rows: Count | None = Field(
        None, description="how many there are; needed where references without `each` point to it"
    )

    @property
    def key(self) -> str | None:
        """The name of the key field."""
        return next((name for name, field in self.fields.items() if isinstance(field, KeyField)), None)

    def reference_to(self, kind: str) -> str | None:
        """The first field that refers to a kind."""
        found = (n for n, f in self.fields.items() if isinstance(f, ReferenceField) and f.to == kind)
        return next(found, None)


class RecordSchema(_Part):
    """A schema of records; see ``docs/records.md``."""

    version: Literal[1]
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    description: str = ""
    main: FieldName | None = Field(None, description="the kind that is made when none is asked for; default: the first")
    locales: dict[str, Positive] = Field({"en_US": 1.0}, min_length=1, description="share of each Faker locale")
    kinds: dict[FieldName, Kind] = Field(min_length=1, description="the kinds of records")
    profiles: dict[str, list[dict[str, Any]]] = Field(
        default_factory=dict, description="faults on records per profile: production, hostile or your own"
    )

    _path: Path | None = PrivateAttr(None)

    @property
    def path(self) -> Path | None:
        """File that the schema was read from, if any."""
        return self._path

    @property
    def main_kind(self) -> str:
        """The kind that is made when none is asked for."""
        return self.main or next(iter(self.kinds))

    @field_validator("profiles")
    @classmethod
    def _has_clean(cls, profiles: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
        if profiles.get("clean"):
            raise ValueError("clean: this profile has no faults by definition; give them to another profile")
        return {"clean": [], **profiles}

    @field_validator("locales", mode="before")
    @classmethod
    def _one_locale(cls, locales: Any) -> Any:
        return {locales: 1.0} if isinstance(locales, str) else locales

    @model_validator(mode="after")
    def _fits_together(self) -> RecordSchema:
        if self.main is not None and self.main not in self.kinds:
            raise ValueError(f"main: no kind {self.main!r}; allowed: {', '.join(self.kinds)}")
        from .record_checks import problems  # which needs the classes above

        for problem in problems(self):
            raise ValueError(problem)
        return self


def _names_in(template: str) -> list[str | None]:
    """The fields in a template; None for what is no plain field."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError:
        return [None]
    return [
        name if name.isidentifier() and not spec and conversion is None else None
        for _, name, spec, conversion in parts
        if name is not None
    ]
