"""The desk that answers reads of records: one by its id, or a list of them, page by page."""

from __future__ import annotations

from typing import Any

from ..faults import Status, lookup
from .tool_api import Operation, argument_name
from .tool_calls import Done
from .tool_core import FOREIGN
from .tool_office import Office, Refusal, Reply, start_of
from .workflow_state import Kind

_OTHERS = 10  # number of the first of the other people whose records are listed
_STRANGERS = 1000  # number of the first whose values turn up in a record that was altered on the way
_DAY_S = 86_400.0


class RecordDesk:
    """Answers reads of records.

    Args:
        office: what the desks share.
    """

    def __init__(self, office: Office) -> None:
        self.office, self.core, self.clerk = office, office.core, office.clerk

    def get(self, operation: Operation, arguments: dict[str, Any]) -> Reply:
        """Answer with one record.

        Raises:
            Refusal: if there is none with this id.
        """
        core, record, wanted = self.core, operation.record, str(arguments["id"])
        name = core.record_names[record]
        if wanted == core.case().id(name):
            return self._reply(operation, *self._read(operation))
        found = next((i for i in self._others(record) if core.case(i).id(name) == wanted), None)
        if found is None:
            raise Refusal(404)
        done, history, _ = self.office.place(Kind.FETCH, step=core.num_steps, record=record)
        return self._reply(operation, done, history, found, {})

    def list(self, operation: Operation, arguments: dict[str, Any]) -> Reply:
        """Answer with a page of records, those of other people among them."""
        core, record = self.core, operation.record
        start = start_of(arguments)
        done, history, other, altered = self._read(operation)
        others = [self._body(record, i, {}) for i in self._others(record)]
        mine = [self._body(record, other, altered)]
        twin = self._second_version(record)
        if twin is not None and not other:
            mine.append(twin)
        place = int(core.case().draw(f"place.{core.record_names[record]}") * (len(others) + 1))
        return self.office.page(operation, done, [*others[:place], *mine, *others[place:]], start, history)

    def etag(self, record: int, other: int, behind: bool = False) -> str:
        """Return the tag of a record as it is now, or of the version before the first (``behind``)."""
        name = self.core.record_names[record]
        version = 0 if other else -1 if behind else int(self.core.version[0, record])
        return self.clerk.etag(name, self.core.case(other).id(name), version)

    # ---------------------------------------------------------------- parts

    def _others(self, record: int) -> range:
        """The other people whose records are listed."""
        count = 7 + int(self.core.case().draw(f"count.{self.core.record_names[record]}") * 5)
        return range(_OTHERS, _OTHERS + count)

    def _read(self, operation: Operation) -> tuple[Done, Any, int, dict[int, str | None]]:
        """Place a read: what became of it, history, whose record it brings, and what was altered on the way."""
        core, record = self.core, operation.record
        done, history, struck = self.office.place(Kind.FETCH, record=record)
        assert done.calls is not None
        altered: dict[int, str | None] = {}
        if not done.calls.right[0] and done.status is Status.OK:
            mine = self.office.columns_of(record)
            column = int(core.first_need[int(core.target[0]), record])
            column = column if column in mine else mine[0]
            lost = any(lookup(effect).metadata.kind == "omission" for effect, _ in struck)
            altered[column] = None if lost else core.case(_STRANGERS + self.office.number).clean(column)
        return done, history, FOREIGN if core.foreign[0] else 0, altered

    def _reply(
        self, operation: Operation, done: Done, history: Any, other: int, altered: dict[int, str | None]
    ) -> Reply:
        record = operation.record
        tag = {"ETag": self.etag(record, other, behind=bool(self.core.behind[0, record]))}
        return self.office.answer(operation, done, self._body(record, other, altered), headers=tag, history=history)

    def _field_name(self, column: int) -> str:
        """The name of a field in the record that holds it."""
        record, _, field = self.core.field_names[column].partition(".")
        service = self.core.services.names.index(self.core.spec.records[record].service)
        return self.office.argument(column, service) if service in self.core.drifted else field

    def _body(self, record: int, other: int, altered: dict[int, str | None]) -> dict[str, Any]:
        """Return what stands in a record."""
        core, name = self.core, self.core.record_names[record]
        body: dict[str, Any] = {"id": core.case(other).id(name)}
        for column in self.office.columns_of(record):
            text = altered[column] if column in altered else core.shown(column, other)
            body[self._field_name(column)] = self.office.value(column, text)
        version = 0 if other else int(core.version[0, record])
        age = core.case().draw(f"updated.{name}.{other}", version)
        body["updated_at"] = self.clerk.time(self.office.now - 60.0 * age if version else -_DAY_S * (1.0 + 60.0 * age))
        if not other and core.behind[0, record]:
            body["updated_at"] = self.clerk.time(-_DAY_S * (62.0 + 300.0 * age))
        body["note"] = self.clerk.note(name, other)
        body["amendments"] = [] if other else self._amendments(record)
        if not other and record in core.plants and core.planted[0, record]:
            step, payload = core.plants[record]
            column, value = next(iter(payload.items()))
            field = argument_name(core.field_names[column])
            body["note"] = self.clerk.planted(name, core.step_names[step], field, value)
        return body

    def _amendments(self, record: int) -> list[dict[str, Any]]:
        """What the requester wants instead of what stands in a record."""
        core = self.core
        return [
            {
                "for": core.step_names[step],
                "field": argument_name(core.field_names[column]),
                "value": self.office.value(column, value),
                "by": "requester",
            }
            for step, wishes in core.wishes.items()
            for column, value in wishes.items()
            if core.record_of[column] == record
        ]

    def _second_version(self, record: int) -> dict[str, Any] | None:
        """The other version of a record that is there twice: right where the first is not."""
        core, mess, columns = self.core, self.core.mess, self.office.columns_of(record)
        if mess is None or not any(int(core.dirt[0, column]) in mess.first_codes for column in columns):
            return None
        clean: dict[int, str | None] = {c: core.case().clean(c, core.field_version[c]) for c in columns}
        age = 100.0 * core.case().draw(f"updated.{core.record_names[record]}.second")
        return self._body(record, 0, clean) | {"updated_at": self.clerk.time(-_DAY_S * age)}
