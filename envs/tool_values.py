"""What the records of one episode read: clean and damaged values, versions, other people's records, other customers'.

A value is a pure function of the episode's key, the field and its version. Which cells are damaged, and by what, is
said by the arrays of the core; the text of the damage is made by the effects' own ``corrupt``.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..faults import BoundRecordPlan, CellText, FieldFacts, Fields, FieldType
from ..faults.record_text import nudged
from ..scenarios.record_facts import facts_of
from ..scenarios.record_schema import RecordSchema
from ..scenarios.records import RecordSource
from ..scenarios.workflow_records import CASE, case_schema, column_name, field_word, references
from ..scenarios.workflow_schema import WorkflowScenario
from .streams import stream_id, uniform

Texts = NDArray[np.object_]
_ROWS = 1 << 36
_EARLIER = 1_000  # versions before the first that the agent can see
_NUMBERS = (FieldType.AMOUNT, FieldType.INTEGER)


@lru_cache(maxsize=32)
def _source(schema: str) -> RecordSource:
    return RecordSource(RecordSchema.model_validate_json(schema), seed=0)


class CaseFields:
    """The fields of a workflow's records, in the order of :attr:`WorkflowScenario.field_names`.

    Args:
        spec: the scenario.

    Raises:
        RecordError: if the fields do not fit together.
    """

    def __init__(self, spec: WorkflowScenario) -> None:
        specs = spec.field_specs
        schema = case_schema(spec.name, specs)
        self.source = _source(schema.model_dump_json())
        self.names = spec.field_names
        self.records = tuple(spec.records)
        self.columns = tuple(column_name(*name.split(".", 1)) for name in self.names)
        generators = self.source.fields_of_kind(CASE)
        self.facts: list[FieldFacts] = []
        for planned, column in zip(spec.fault_fields().facts, self.columns, strict=True):
            made = facts_of(schema, CASE, column, generators[column].span())
            self.facts.append(
                replace(planned, low=made.low, high=made.high, choices=made.choices, decimals=made.decimals)
            )
        self.fields = Fields.of(self.facts)
        self.words = tuple(field_word(specs[f.kind][f.name]) for f in self.facts)
        self.references = references(specs)

    def column(self, record: str, field: str) -> int:
        """Return the place of a field."""
        return self.names.index(f"{record}.{field}")


class Case:
    """The records of one customer: those of the episode, or of somebody else.

    Args:
        fields: the fields of the workflow.
        keys: ``(1,)`` the key of the episode.
        other: 0 for the customer of the episode, else the number of somebody else.
    """

    def __init__(self, fields: CaseFields, keys: NDArray[np.uint64], other: int = 0) -> None:
        self.fields = fields
        self.keys = keys
        self.other = other
        self._made: dict[int, dict[str, Texts]] = {}
        self._row = int(self.draw("case.row", other) * _ROWS)
        self._dirty: dict[tuple[int, int], str | None] = {}

    def draw(self, name: str, counter: int = 0) -> float:
        """Return one number in [0, 1) of a stream of the episode."""
        return float(uniform(self.keys, stream_id(name), counter)[0])

    def number(self, name: str, digits: int, counter: int = 0) -> str:
        """Return a number of so many digits, the first not 0."""
        low = 10 ** (digits - 1)
        return str(low + int(self.draw(name, counter) * 9 * low))

    def id(self, record: str) -> str:
        """Return the id of a record."""
        return f"{record[:3].lower()}_{self.number(f'case.{record}.id', 8, self.other)}"

    def clean(self, column: int, version: int = 0) -> str:
        """Return what a field should hold, as text; another version differs from the one before."""
        name = self.fields.names[column]
        if name in self.fields.references:
            return self.id(self.fields.references[name])
        if version not in self._made:
            self._made[version] = self.fields.source.text(CASE, [self._row], version=version)
        value = str(self._made[version][self.fields.columns[column]][0])
        if 0 < version < _EARLIER and value == self.clean(column, version - 1):
            return nudged(value, self.fields.facts[column])
        return value

    def damaged(self, column: int, version: int, code: int, plan: BoundRecordPlan) -> str | None:
        """Return what stands in a field that a fault has spoilt.

        Args:
            column: the field.
            version: its version.
            code: what the core says spoilt it: 1 + index of the planned fault.
            plan: the plan.
        """
        if (column, version) not in self._dirty:
            clean = np.array([self.clean(column, version)], dtype=object)
            facts = self.fields.facts[column]

            def other(name: str) -> Texts:
                place = self.fields.fields.index(name, facts.kind)
                return np.array([self.clean(place, version)], dtype=object)

            def earlier(back: int) -> Texts:
                return np.array([self.clean(column, _EARLIER + back)], dtype=object)

            text = CellText(facts=facts, earlier=earlier, other=other, fields=self.fields.fields)
            self._dirty[column, version] = plan.spoil(code, clean, self.keys, column, text)[0]
        return self._dirty[column, version]

    def changed(self, column: int, version: int, count: int) -> str:
        """Return what the requester wants a field to be instead."""
        value = self.clean(column, 2 * _EARLIER + count)
        now = self.clean(column, version)
        return nudged(now, self.fields.facts[column]) if value == now else value


# ---------------------------------------------------------------- comparing and checking

_EMAIL = re.compile(r"[A-Za-z0-9._%+'-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}")
_PHONE = re.compile(r"\+?[0-9][0-9 ().-]{5,}")


def same(sent: Any, wanted: str, facts: FieldFacts) -> bool:
    """Return whether a value that was sent is the one wanted.

    Amounts are compared to their decimals, whole numbers as numbers, dates as dates, e-mail addresses without case,
    phone numbers by their digits, all else as text without space around it.
    """
    if sent is None or isinstance(sent, bool | dict | list):
        return False
    text = str(sent).strip()
    if facts.type in _NUMBERS:
        number, want = _decimal(text), _decimal(wanted)
        places = facts.decimals if facts.type is FieldType.AMOUNT else 0
        step = Decimal(1).scaleb(-places)
        return number is not None and want is not None and abs(number) < 10**18 and abs(number - want) * 2 < step
    if facts.type is FieldType.EMAIL:
        return text.casefold() == wanted.casefold()
    if facts.type is FieldType.PHONE:
        return [c for c in text if c.isdigit()] == [c for c in wanted if c.isdigit()]
    if facts.type in (FieldType.DATE, FieldType.STAMP):
        return text == wanted or text.removesuffix("Z") == wanted.removesuffix("Z")
    return text == wanted.strip()


def fits(sent: Any, facts: FieldFacts, word: str = "") -> bool:
    """Return whether a value has the form that its field asks for; what any check of the format would see."""
    if sent is None or isinstance(sent, bool | dict | list):
        return False
    text = str(sent).strip()
    if not text or "\ufffd" in text or "\u00c3" in text or "\u00c2" in text or "\ufeff" in text or "\u00ef" in text:
        return False
    if facts.type is FieldType.EMAIL:
        return _EMAIL.fullmatch(text) is not None
    if facts.type is FieldType.PHONE:
        return _PHONE.fullmatch(text) is not None
    if facts.type in _NUMBERS:
        number = _decimal(text)
        greatest = max(abs(facts.low), abs(facts.high)) * 5 or 10**9
        whole = facts.type is FieldType.AMOUNT or (number is not None and number == number.to_integral_value())
        return number is not None and whole and 0 <= number <= Decimal(greatest)
    if facts.type is FieldType.DATE:
        try:
            return 1990 <= date.fromisoformat(text).year <= 2060 and len(text) == 10
        except ValueError:
            return False
    if facts.type is FieldType.CHOICE and facts.choices:
        return text in facts.choices
    return True


def _decimal(text: str) -> Decimal | None:
    try:
        value = Decimal(text)
    except (InvalidOperation, ValueError):
        return None
    return value if value.is_finite() else None


def plain(text: str | None, facts: FieldFacts) -> Any:
    """Return a value as it stands in a JSON body: numbers as numbers where they can be read as such."""
    if text is not None and facts.type in _NUMBERS and re.fullmatch(r"-?[0-9]{1,15}(\.[0-9]{1,6})?", text):
        return float(text) if "." in text else int(text)
    return text
