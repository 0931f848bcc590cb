"""What only a whole schema of records shows: fields that are not there, or do not fit together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .record_codes import IBAN_DIGITS
from .record_schema import (
    NUMBERS,
    ChoiceField,
    CodeField,
    CopyField,
    DateField,
    EmailField,
    FakerField,
    KeyField,
    Kind,
    ProductField,
    RecordSchema,
    ReferenceField,
    SumField,
)


def problems(schema: RecordSchema) -> Iterator[str]:
    """Yield ``kinds.kind.fields.field.attribute: what is wrong`` for everything that does not fit together."""
    for kind_name, kind in schema.kinds.items():
        for name, field in kind.fields.items():
            for problem in _problems(schema, kind_name, kind, name, field):
                yield f"kinds.{kind_name}.fields.{name}.{problem}"
    for kind_name, name in _cycle(schema):
        yield f"kinds.{kind_name}.fields.{name}: its value is made from itself"


def _problems(schema: RecordSchema, kind_name: str, kind: Kind, name: str, field: Any) -> Iterator[str]:
    """Yield ``attribute: what is wrong`` for what only the whole schema shows."""
    own = ", ".join(kind.fields)
    unit = getattr(field, "unit", None)
    for attribute, other in (("pair", field.pair), ("unit", unit)):
        if other is not None and (other not in kind.fields or other == name):
            yield f"{attribute}: no other field {other!r} in {kind_name}; allowed: {own}"
            return
    mine = {name, field.pair}
    for rival, spec in kind.fields.items():
        theirs = {rival, spec.pair}
        if field.pair is not None and spec.pair is not None and mine & theirs and mine != theirs:
            yield f"pair: {rival!r} is in another pair with one of the two; allowed: one pair per field"
    if unit is not None and not isinstance(original(schema, kind.fields[unit]), ChoiceField):
        yield f"unit: {unit!r} must be a choice field, or a copy of one"
    for other in field.needs():
        attribute = {"text": "template", "date": "after", "stamp": "after"}.get(field.type, "of")
        if other not in kind.fields:
            yield f"{attribute}: no field {other!r} in {kind_name}; allowed: {own}"
        elif isinstance(field, EmailField) and not isinstance(kind.fields[other], FakerField):
            yield f"of: {other!r} must be a faker field"
        elif isinstance(field, SumField | ProductField) and not isinstance(
            original(schema, kind.fields[other]), NUMBERS
        ):
            yield f"of: {other!r} must hold a number"
        elif isinstance(field, DateField) and not isinstance(original(schema, kind.fields[other]), DateField):
            yield f"after: {other!r} must be a date or stamp field"
    if isinstance(field, KeyField) and kind.key != name:
        yield f"type: {kind_name} already has the key {kind.key!r}"
    if isinstance(field, CodeField):
        yield from _code_problems(field)
    if isinstance(field, ReferenceField):
        target = schema.kinds.get(field.to)
        if target is None:
            yield f"to: no kind {field.to!r}; allowed: {', '.join(schema.kinds)}"
        elif target.key is None:
            yield f"to: the kind {field.to!r} has no key field"
        elif field.each is None and target.rows is None:
            yield f"to: give each, or rows of the kind {field.to!r}"
    if isinstance(field, CopyField):
        yield from _path_problems(schema, kind_name, kind, "of", field.of, (), up=True)
    if isinstance(field, DateField) and field.after and "." in field.after:
        yield from _path_problems(schema, kind_name, kind, "after", field.after, (DateField,), up=True)
    if isinstance(field, SumField) and isinstance(field.of, str):
        yield from _path_problems(schema, kind_name, kind, "of", field.of, NUMBERS, up=False)


def original(schema: RecordSchema, field: Any) -> Any:
    """What a copy copies in the end; the field itself if it is no copy, None if the copy leads nowhere."""
    for _ in range(20):
        if not isinstance(field, CopyField):
            return field
        kind, _, name = field.of.partition(".")
        field = schema.kinds[kind].fields.get(name) if kind in schema.kinds else None
    return None


def _path_problems(
    schema: RecordSchema, kind_name: str, kind: Kind, attribute: str, path: str, types: tuple[type, ...], *, up: bool
) -> Iterator[str]:
    other_name, _, field_name = path.partition(".")
    other = schema.kinds.get(other_name)
    if other is None:
        yield f"{attribute}: no kind {other_name!r}; allowed: {', '.join(schema.kinds)}"
        return
    if field_name not in other.fields:
        yield f"{attribute}: no field {field_name!r} in {other_name}; allowed: {', '.join(other.fields)}"
        return
    if types and not isinstance(original(schema, other.fields[field_name]), types):
        yield f"{attribute}: {path} holds no {'date' if types == (DateField,) else 'number'}"
    if up and kind.reference_to(other_name) is None:
        yield f"{attribute}: {kind_name} has no reference to {other_name}"
    if not up:
        link = other.reference_to(kind_name)
        reference = other.fields[link] if link is not None else None
        if not isinstance(reference, ReferenceField) or reference.each is None:
            yield f"{attribute}: {other_name} has no reference to {kind_name} with each"


def _code_problems(field: CodeField) -> Iterator[str]:
    if field.scheme == "iban" and field.prefix and field.prefix not in IBAN_DIGITS:
        yield f"prefix: no country {field.prefix!r}; allowed: {', '.join(IBAN_DIGITS)}"
    if field.scheme != "iban" and not (
        field.prefix.isascii() and (field.prefix + "0").isdigit() and len(field.prefix) < 12
    ):
        yield f"prefix: must be at most 11 digits, got {field.prefix!r}"


def _made_from(schema: RecordSchema, kind_name: str, name: str) -> Iterator[tuple[str, str]]:
    field: Any = schema.kinds[kind_name].fields[name]
    yield from ((kind_name, other) for other in field.needs())
    path = field.of if isinstance(field, CopyField) else field.after if isinstance(field, DateField) else None
    path = field.of if isinstance(field, SumField) and isinstance(field.of, str) else path
    if path and "." in path:
        other, _, inner = path.partition(".")
        yield other, inner


def _cycle(schema: RecordSchema) -> Iterator[tuple[str, str]]:
    """Yield a field that is made from itself, if there is one."""
    done: set[tuple[str, str]] = set()

    def visit(node: tuple[str, str], above: tuple[tuple[str, str], ...]) -> Iterator[tuple[str, str]]:
        if node in above:
            yield node
        elif node not in done:
            for below in _made_from(schema, *node):
                yield from visit(below, (*above, node))
            done.add(node)

    for kind_name, kind in schema.kinds.items():
        for name in kind.fields:
            yield from visit((kind_name, name), ())
