"""What faults do to values that wrapped tools return: nothing left, a part, one thing wrong, records damaged."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from ..errors import FaultError
from ..faults import Cells, CellText, FaultPlan, FieldFacts, Fields, FieldType
from ..faults.record_plan import BoundRecordPlan
from ..faults.record_text import nudged
from .streams import U64, mix64, stream_id


def cut(text: Any, u: float) -> Any:
    """Return the first part of a text or of bytes; ``u`` in [0, 1) says how much."""
    return text[: int(len(text) * (0.1 + 0.8 * u))]


def emptied(value: Any) -> Any:
    """Return nothing, in the form of ``value``."""
    return type(value)() if isinstance(value, str | bytes | list | tuple | dict | set) else None


def halved(value: Any) -> Any:
    """Return the first half of a text, a list or a mapping; None for what has no parts."""
    if isinstance(value, str | bytes | list | tuple):
        return value[: len(value) // 2]
    if isinstance(value, dict):
        return {key: value[key] for key in list(value)[: len(value) // 2]}
    return None


def altered(value: Any, u: float) -> Any:
    """Return a copy of a JSON-like value in which one thing, chosen by ``u``, is plausibly wrong."""
    value = copy.deepcopy(value)
    leaves = list(_leaves(value))
    if not leaves:
        return _wrong(value)
    holder, key, leaf = leaves[min(int(u * len(leaves)), len(leaves) - 1)]
    holder[key] = _wrong(leaf)
    return value


def _leaves(value: Any) -> Any:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in list(pairs):
        if isinstance(part, dict | list) and part:
            yield from _leaves(part)
        else:
            yield value, key, part


def _wrong(leaf: Any) -> Any:
    if isinstance(leaf, bool):
        return not leaf
    if isinstance(leaf, int):
        return leaf + 1
    if isinstance(leaf, float):
        return leaf * 10.0 if leaf else 1.0
    if isinstance(leaf, str) and leaf:
        facts = FieldFacts("value", "value", FieldType.AMOUNT if _is_number(leaf) else FieldType.TEXT)
        return nudged(leaf, facts)
    return None


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).lstrip("-").isdigit()


def _typed(fields: Mapping[str, str]) -> list[tuple[str, FieldType]]:
    return [(name, FieldType.parse(word)) for name, word in fields.items()]


class RecordDamage:
    """The effects on records of a plan, at work on the records that tools return.

    Args:
        fields: the declared fields of all tools; a tool is a kind of record.
        bound: the plan.
    """

    def __init__(self, fields: Fields, bound: BoundRecordPlan) -> None:
        self._fields, self._bound = fields, bound
        self._columns = {
            kind: [i for i, fact in enumerate(fields.facts) if fact.kind == kind] for kind in fields.family_names
        }
        self.log: list[dict[str, Any]] = []

    @classmethod
    def of(cls, plan: FaultPlan, tools: Mapping[str, Mapping[str, str]], intensity: float) -> Self | None:
        """Bind a plan to the fields that tools declare; None if it can strike none.

        Raises:
            FaultError: if the plan strikes records and no tool declares any, or a kind of field is not known.
        """
        try:
            facts = [
                FieldFacts(tool, name, FieldType.parse(word))
                for tool, own in tools.items()
                for name, word in own.items()
            ]
        except ValueError as error:
            raise FaultError(f"fields: {error}") from None
        strikes = [fault for fault in plan.faults if "records" in fault.effect.ports]
        if not facts:
            if strikes:
                first = strikes[0]
                raise FaultError(
                    f"{first.where} ({first.effect.name}): strikes records, and no tool says what its fields hold; "
                    "give WrapTool(..., fields={...})"
                )
            return None
        fields = Fields.of(facts)
        bound = plan.bind_records(fields, intensity)
        return None if bound is None else cls(fields, bound)

    def start(self, key: U64) -> None:
        """Begin an episode."""
        self._key = key
        self.log = []

    def damaged(self, tool: str, value: Any, key: str | None, number: int) -> Any:
        """Return a copy of the records in ``value`` with the cells damaged that the plan strikes.

        Args:
            tool: who returned them.
            value: one mapping or a list of them; anything else comes back as it is.
            key: the field that identifies a record; None: by call and place.
            number: number of the call.
        """
        columns = self._columns.get(tool, [])
        records = [value] if isinstance(value, dict) else value
        if not columns or not isinstance(records, list) or not all(isinstance(one, dict) for one in records):
            return value
        names = [str(one.get(key, "")) if key else f"{number}.{row}" for row, one in enumerate(records)]
        keys = mix64(self._key + np.array([stream_id(f"record.{tool}.{name}") for name in names], np.uint64))
        cells = Cells.clean(self._fields, len(records))
        self._bound.strike(cells, keys)
        out = [dict(one) for one in records]
        for row, one in enumerate(out):
            for column in columns:
                code = int(cells.dirt[row, column])
                name = self._fields.facts[column].name
                if code and one.get(name) not in (None, ""):
                    one[name] = self._spoilt(code, one, column, keys[row : row + 1])
                    self.log.append(
                        {"effect": self._bound.effect_names[code - 1], "fault": self._bound.fault_ids[code - 1],
                         "service": tool, "number": number, "record": names[row], "field": name}
                    )  # fmt: skip
        return out[0] if isinstance(value, dict) else out

    def _spoilt(self, code: int, record: Mapping[str, Any], column: int, keys: U64) -> Any:
        facts = self._fields.facts[column]
        clean = record[facts.name]

        def text_of(name: str) -> Any:
            return np.array([str(record.get(name) or "")], dtype=object)

        def earlier(version: int) -> Any:
            found = str(clean)
            for _ in range(version):
                found = nudged(found, facts)
            return np.array([found], dtype=object)

        text = CellText(facts=facts, earlier=earlier, other=text_of, fields=self._fields)
        found = self._bound.spoil(code, text_of(facts.name), keys, column, text)[0]
        if found is None or isinstance(clean, str):
            return found
        try:
            return type(clean)(found)
        except (TypeError, ValueError):
            return found
