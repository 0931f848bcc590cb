"""Fields, stub draws and batches for the tests of effects on records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brownout.envs.streams import episode_keys
from brownout.faults import BoundRecordPlan, CellDraw, Cells, CellText, FaultPlan, FieldFacts, Fields, FieldType, Struck

FACTS = (
    FieldFacts("person", "id", FieldType.KEY),
    FieldFacts("person", "first", pair="last"),
    FieldFacts("person", "last", pair="first"),
    FieldFacts("person", "email", FieldType.EMAIL),
    FieldFacts("person", "phone", FieldType.PHONE, required=False),
    FieldFacts("person", "born", FieldType.DATE, low=-10_000, high=12_000),
    FieldFacts("person", "credit", FieldType.AMOUNT, unit="currency", low=0, high=500),
    FieldFacts("person", "points", FieldType.INTEGER, low=0, high=90),
    FieldFacts("person", "currency", FieldType.CHOICE, choices=("USD", "EUR")),
    FieldFacts("person", "iban", FieldType.CODE),
    FieldFacts("person", "updated", FieldType.STAMP, stamp=True),
    FieldFacts("order", "id", FieldType.KEY),
    FieldFacts("order", "person", FieldType.REFERENCE),
    FieldFacts("order", "net", FieldType.AMOUNT, low=0, high=500),
    FieldFacts("order", "tax", FieldType.AMOUNT, derived=True, sources=("net",)),
)
FIELDS = Fields.of(FACTS)
AT = {name: column for column, name in enumerate(FIELDS.names)}


class StubDraw(CellDraw):
    """Gives the uniforms it was told to, one row of numbers per request, whichever kind of request."""

    def __init__(self, *rows: Sequence[float]) -> None:
        self._rows = [np.array(row, dtype=np.float64) for row in rows]

    def uniform(self) -> NDArray[np.float64]:
        return self._rows.pop(0)

    def of_record(self) -> NDArray[np.float64]:
        return self._rows.pop(0)


def texts(*values: str | None) -> NDArray[np.object_]:
    """An object array of texts."""
    found = np.empty(len(values), dtype=object)
    found[:] = values
    return found


def text_of(name: str, earlier: Sequence[Sequence[str]] = (), **others: Sequence[str]) -> CellText:
    """What an effect may look at: earlier versions in turn, and other fields by name."""
    return CellText(
        facts=FACTS[AT[name]],
        earlier=lambda version: texts(*earlier[version - 1]),
        other=lambda other: texts(*others[other]),
        fields=FIELDS,
    )


def selected(names: Sequence[str], records: Sequence[int] | None = None, n: int = 1) -> Struck:
    """Cells that a trigger selected, as code 1: one per name, of record 0 or of ``records``."""
    rows = np.zeros(len(names), dtype=np.int64) if records is None else np.array(records, dtype=np.int64)
    return Struck(Cells.clean(FIELDS, n), 1, rows, np.array([AT[name] for name in names], dtype=np.int64))


def keys_of(n: int, seed: int = 0) -> NDArray[np.uint64]:
    """Keys of ``n`` records."""
    return episode_keys(np.full(n, seed), np.arange(n), "records.test")


def bound_records(specs: Sequence[Mapping[str, Any]], intensity: float = 1.0, **more: Any) -> BoundRecordPlan:
    """Bind a plan to the fields."""
    plan = FaultPlan.from_specs(specs, "plan").bind_records(FIELDS, intensity, **more)
    assert plan is not None
    return plan


def struck(specs: Sequence[Mapping[str, Any]], n: int = 4000, intensity: float = 1.0, **more: Any) -> Cells:
    """Cells of ``n`` records after a plan."""
    cells = Cells.clean(FIELDS, n, number=np.arange(n))
    bound_records(specs, intensity, **more).strike(cells, keys_of(n))
    return cells
