"""What the fields of a workflow's records read: every record that an episode binds is one row of one schema of records.

All records of a workflow are laid side by side in a single kind, whose fields are called ``record__field``. So a
field may be made from fields of other records of the same episode (a template, a sum, a date that follows another),
and another row is another customer, with records that fit together just as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ..errors import RecordError
from .record_facts import TYPE_OF
from .record_schema import AnyField, RecordSchema

CASE = "case"
_ADAPTER: TypeAdapter[Any] = TypeAdapter(AnyField)
_POOL = 400
_IN_TEMPLATE = re.compile(r"\{([a-z][a-z0-9_]*)\.([a-z][a-z0-9_]*)\}")
_ITEMS = (
    "ceramic teapot", "desk lamp", "walking boots", "rain jacket", "coffee grinder", "wool blanket", "travel adapter",
    "garden hose", "picture frame", "kitchen scale", "bicycle helmet", "yoga mat", "wall clock", "paper shredder",
    "linen shirt", "cast iron pan", "camping stove", "usb headset", "office chair", "toolbox", "beach towel",
    "table fan", "leather wallet", "storage basket",
)  # fmt: skip
_CHOICES: dict[str, dict[str, float]] = {
    "plan": {"basic": 0.5, "team": 0.35, "enterprise": 0.15},
    "role": {"viewer": 0.5, "editor": 0.35, "admin": 0.15},
    "size": {"S": 0.2, "M": 0.35, "L": 0.3, "XL": 0.15},
    "system": {"crm": 0.3, "erp": 0.25, "wiki": 0.2, "payroll": 0.15, "warehouse": 0.1},
    "currency": {"USD": 0.6, "EUR": 0.3, "GBP": 0.1},
    "status": {"open": 0.5, "active": 0.4, "closed": 0.1},
}
_TEXTS: dict[str, dict[str, Any]] = {
    "street": {"type": "street", "pool": _POOL},
    "city": {"type": "faker", "provider": "city", "pool": _POOL},
    "address": {"type": "address", "pool": _POOL},
    "item": {"type": "choice", "values": list(_ITEMS)},
    "product": {"type": "choice", "values": list(_ITEMS)},
    "title": {"type": "faker", "provider": "catch_phrase", "pool": _POOL},
    "text": {"type": "faker", "provider": "sentence", "pool": _POOL, "arguments": {"nb_words": 12}},
    "description": {"type": "faker", "provider": "sentence", "pool": _POOL, "arguments": {"nb_words": 12}},
    "supplier": {"type": "faker", "provider": "company", "pool": _POOL},
    "company": {"type": "faker", "provider": "company", "pool": _POOL},
}
_ORGANISATIONS = ("company", "supplier", "vendor", "organisation", "organization")
_PEOPLE = ("name", "holder", "contact", "owner", "customer", "employee")
_LATER = ("until", "valid_from", "due", "ends", "expires")
_AMOUNTS = {"limit": {"median": 4000, "p95": 20000}, "amount": {"median": 180, "p95": 1500}}


def field_word(field: str | Mapping[str, Any]) -> str:
    """Return the kind word of a field given as a word or in the language of record schemas."""
    return field if isinstance(field, str) else _WORDS_OF.get(str(field["type"]), "text")


_WORDS_OF = {name: type_.word for name, type_ in TYPE_OF.items()} | {"copy": "text"}


def check_field(field: Any) -> Any:
    """Return a field as it is; one in the language of record schemas once it is known to be such.

    Raises:
        ValueError: naming the part that is wrong.
    """
    if not isinstance(field, Mapping):
        return field
    try:
        _ADAPTER.validate_python({name: _undotted(name, value) for name, value in field.items()})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"][1:])
        raise ValueError(f"{place}: {first['msg']}" if place else str(first["msg"])) from None
    if field["type"] == "reference" and set(field) - {"type", "to", "required"}:
        raise ValueError("a reference in a workflow has only `to`: the record whose id it holds")
    return dict(field)


def _undotted(name: str, value: Any) -> Any:
    """A template whose fields may be those of other records, as ``{record.field}``, without the dots."""
    return _IN_TEMPLATE.sub(r"{\1__\2}", value) if name == "template" and isinstance(value, str) else value


def column_name(record: str, field: str) -> str:
    """Return the name of ``record.field`` in the schema."""
    plain = "".join(c if c.isalnum() else "_" for c in f"{record}__{field}".lower())
    return plain if plain[0].isalpha() else f"r{plain}"


def references(records: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return the record whose id a field holds, for the fields that are references with ``to``."""
    return {
        f"{record}.{name}": str(spec["to"])
        for record, fields in records.items()
        for name, spec in fields.items()
        if isinstance(spec, Mapping) and spec["type"] == "reference"
    }


def case_schema(name: str, records: Mapping[str, Mapping[str, Any]]) -> RecordSchema:
    """Return the schema in which one row holds all records of an episode.

    Args:
        name: the workflow.
        records: per record its fields, each a kind word or a mapping in the language of record schemas.

    Raises:
        RecordError: if fields do not fit together.
    """
    fields: dict[str, dict[str, Any]] = {}
    for record, own in records.items():
        for field, spec in own.items():
            fields[column_name(record, field)] = _column(record, field, spec, records)
        fields |= _person(record, own)
    try:
        return RecordSchema.model_validate({"version": 1, "name": "workflow", "kinds": {CASE: {"fields": fields}}})
    except ValidationError as error:
        problem = error.errors()[0]["msg"].removeprefix("Value error, ").replace(f"kinds.{CASE}.fields.", "")
        raise RecordError(f"{name}: records: {problem}") from None


def _column(record: str, field: str, spec: Any, records: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    if isinstance(spec, str):
        return _default(record, field, spec)
    column = dict(spec)
    if column["type"] == "reference" and column["to"] not in records:
        raise RecordError(f"records.{record}.{field}.to: no record {column['to']!r}; allowed: {', '.join(records)}")
    if column["type"] in ("key", "reference"):
        return _number(str(column.get("prefix") or f"{record[0].upper()}-"))

    def path(name: str) -> str:
        owner, dot, own = name.partition(".")
        return column_name(owner, own) if dot and owner in records else column_name(record, name)

    if column["type"] == "copy":
        owner, _, own = str(column["of"]).partition(".")
        original = records.get(owner, {}).get(own)
        if original is None:
            raise RecordError(f"records.{record}.{field}.of: no field {column['of']!r} in the workflow")
        if field_word(original) in ("amount", "integer"):
            return {"type": "sum", "of": [path(column["of"])], "decimals": 2 if field_word(original) == "amount" else 0}
        return {"type": "text", "template": f"{{{path(column['of'])}}}"}
    for key in ("pair", "unit", "after"):
        if isinstance(column.get(key), str):
            column[key] = path(column[key])
    of = column.get("of")
    if isinstance(of, Iterable):
        column["of"] = [path(name) for name in ([of] if isinstance(of, str) else of)]
    if column["type"] == "text":
        plain = re.compile(r"(?<!\{)\{([a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)?)\}(?!\})")
        column["template"] = plain.sub(lambda found: f"{{{path(found[1])}}}", column["template"])
    return column


def _person(record: str, own: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """A person's name and e-mail address that go together, where a record has both as kind words."""
    name = next((field for field in _PEOPLE if own.get(field) == "text"), None)
    email = next((field for field, word in own.items() if word == "email"), None)
    if name is None or email is None or record in _ORGANISATIONS:
        return {}
    parts = [column_name(record, f"{name} {part}") for part in ("first", "last")]
    return {
        parts[0]: {"type": "faker", "provider": "first_name", "pool": _POOL},
        parts[1]: {"type": "faker", "provider": "last_name", "pool": _POOL},
        column_name(record, name): {"type": "text", "template": f"{{{parts[0]}}} {{{parts[1]}}}"},
        column_name(record, email): {"type": "email", "of": parts},
    }


def _number(prefix: str) -> dict[str, Any]:
    return {"type": "faker", "provider": "numerify", "arguments": {"text": f"{prefix}%#######"}, "pool": 5000}


def _default(record: str, field: str, word: str) -> dict[str, Any]:
    """What a kind word stands for, by the name of the field."""
    if word == "text":
        if field in _PEOPLE:
            company = field == "name" and record in _ORGANISATIONS
            return _TEXTS["company"] if company else {"type": "name", "pool": _POOL}
        return _TEXTS.get(field, _TEXTS["title"])
    if word in ("email", "phone"):
        return {"type": word}
    if word == "date":
        start, end = ("2025-09-01", "2026-06-30") if field in _LATER else ("2025-05-01", "2025-08-31")
        return {"type": "date", "start": start, "end": end}
    if word == "stamp":
        return {"type": "stamp", "start": "2025-05-01", "end": "2025-08-31"}
    if word == "amount":
        return {"type": "amount", "value": _AMOUNTS.get(field, {"median": 60, "p95": 400})}
    if word == "integer":
        return {"type": "integer", "value": {"low": 1, "high": 48}}
    if word == "choice":
        return {"type": "choice", "values": _CHOICES.get(field, {"standard": 0.6, "plus": 0.3, "premium": 0.1})}
    if word == "code":
        if field == "postcode":
            return {"type": "faker", "provider": "postcode", "pool": _POOL}
        if field in ("account", "iban"):
            return {"type": "code", "scheme": "iban"}
        return {"type": "code", "scheme": "luhn", "prefix": "27"}
    return _number(f"{record[0].upper()}-")


__all__ = ["CASE", "case_schema", "check_field", "column_name", "field_word", "references"]
