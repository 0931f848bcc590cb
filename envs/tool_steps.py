"""The desk that carries out steps, says what stands, and takes back what should not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..faults import Status
from .tool_api import HEADERS, Operation, argument_name, slug
from .tool_calls import Done, Sent
from .tool_core import FOREIGN
from .tool_ledger import Entry
from .tool_office import Office, Refusal, Reply, start_of
from .tool_records import RecordDesk
from .tool_values import fits
from .workflow_state import Kind

_CALL = Kind.CALL_CHEAP
_SOMEBODY = 20  # number of the first of the people whom a search with wrong data finds


class StepDesk:
    """Carries out steps and keeps what they have done.

    Args:
        office: what the desks share.
        records: the desk of the records, for their versions.
    """

    def __init__(self, office: Office, records: RecordDesk) -> None:
        self.office, self.core, self.clerk, self._records = office, office.core, office.clerk, records

    # ---------------------------------------------------------------- carrying out

    def call(self, operation: Operation, arguments: dict[str, Any]) -> Reply:
        """Carry out a step.

        Raises:
            Refusal: if what must come first has not happened, or arguments are missing or unknown.
        """
        core, step = self.core, operation.step
        unmet = self._unmet(step)
        if unmet:
            raise Refusal(409, f"Not possible yet: {', '.join(unmet)}.")
        sent, details = self._sent(step, arguments)
        if details and not sent.old_names:
            raise Refusal(422, details=details)
        done, history, _ = self.office.place(_CALL, step=step, sent=sent)
        if done.status in (Status.UNPROCESSABLE, Status.CONFLICT):
            return self._refused(step, done, sent, details)
        body, headers, status = self._result(step, done, sent), {}, 200
        if core.writes[step]:
            headers["Location"] = f"{self._collection(step)}/{body['id']}"
            pending = body["status"] == "pending" and done.status in (Status.PENDING, Status.OK)
            status = 202 if pending else 200 if core.natural[step] else 201
        if done.replayed:
            headers["Idempotent-Replayed"] = "true"
        return self.office.answer(operation, done, body, status, headers, history)

    def _unmet(self, step: int) -> list[str]:
        """What must come first: reads that have not been made, and writes that still wait."""
        core = self.core
        unmet = [
            f"'{core.step_names[other]}' has not been run"
            for other in np.flatnonzero(core.sources[step]).tolist()
            if not core.applied[0, other]
        ]
        for name in core.spec.steps[core.step_names[step]].after:
            entries = core.ledger.of_step(core.step_names.index(name))
            if any(entry.ready_s > self.office.now for entry in entries):
                unmet.append(f"'{name}' has not been approved")
        return unmet

    def _sent(self, step: int, arguments: Mapping[str, Any]) -> tuple[Sent, list[dict[str, Any]]]:
        """Read the arguments of a step, and what is wrong with their names and types."""
        core, sent, details = self.core, Sent(), []
        columns = np.flatnonzero(core.needs[step]).tolist()
        names = {self.office.argument(c, int(core.service_of_step[step])): c for c in columns}
        former = {argument_name(core.field_names[c]): c for c in columns}
        for name, value in arguments.items():
            if name in HEADERS:
                if value is not None and not isinstance(value, str):
                    details.append(_detail("must be text", "type_error", "header", HEADERS[name]))
            elif name not in names:
                if name in former:
                    sent.values[former[name]] = value
                details.append(_detail("unexpected field", "extra_forbidden", "body", name))
            elif isinstance(value, bool | list | dict):
                details.append(_detail("must be text or a number", "type_error", "body", name))
            else:
                sent.values[names[name]] = value
        details += [_detail("field required", "missing", "body", name) for name in names if name not in arguments]
        sent.old_names = former != names and sent.values.keys() == set(columns) and bool(details)
        key = arguments.get("idempotency_key")
        sent.key = key[:255] or None if isinstance(key, str) else None
        sent.outdated = lambda: self._outdated(step, arguments.get("if_match"))
        return sent, details

    def _outdated(self, step: int, tags: Any) -> bool:
        """Whether If-Match names a version that is not the present one of any record."""
        if not isinstance(tags, str) or tags.strip() in ("", "*") or not self.core.writes[step]:
            return False
        other = FOREIGN if self.core.foreign[0] else 0
        present = {self._records.etag(record, other) for record in range(len(self.core.record_names))}
        return any(tag.strip().removeprefix("W/") not in present for tag in tags.split(","))

    def _refused(self, step: int, done: Done, sent: Sent, details: list[dict[str, Any]]) -> Reply:
        """Say why a service does not accept a call as it is."""
        core, error = self.core, self.clerk.error
        service, facts = int(core.service_of_step[step]), core.case_fields.facts
        if done.status is Status.CONFLICT:
            if core.draft[0, step]:
                return Reply(409, error(409, "An unfinished draft of this request exists in the session."))
            if done.outdated:
                return Reply(412, error(412))
            return Reply(409, error(409, "The record has been changed since it was read."))
        if done.reused:
            return Reply(422, error(422, "This idempotency key was used with other parameters."))
        if service in core.drifted and not sent.old_names:
            former = {argument_name(core.field_names[c]): value for c, value in sent.values.items()}
            # the names may have changed while the call was under way
            details = details or (self._sent(step, former)[1] if done.old_names else [])
        if details:
            return Reply(422, error(422, "Some fields are not known in this version.", details))
        shown = [c for c in done.wrong if not fits(sent.values.get(c), facts[c]) or core.visible[0, c]]
        return Reply(422, error(422, details=[
            _detail(f"not a valid {facts[c].type.word}", "value_error", "body", self.office.argument(c, service))
            for c in shown
        ]))  # fmt: skip

    def _result(self, step: int, done: Done, sent: Sent) -> dict[str, Any]:
        """Return the body of the answer to a step."""
        core = self.core
        if core.writes[step]:
            now, entry = self.office.now, done.entry
            if entry is None:  # reported, and not done
                entry = Entry(core.new_id(step), step, dict(sent.values), sent.key, 0, True, False, now, now)
            return self._body(entry)
        decides = [name for name, by in zip(core.decision_names, core.decided_by.tolist(), strict=True) if by == step]
        other = FOREIGN if done.foreign else _SOMEBODY + step if done.wrong and not decides else 0
        body: dict[str, Any] = {"operation": core.step_names[step], "result": "ok"} | self._ids(step, other)
        return body | {slug(name): bool(core.told[0, core.decision_names.index(name)] == 1) for name in decides}

    # ---------------------------------------------------------------- what stands

    def _collection(self, step: int) -> str:
        return next(o.tool.path for o in self.office.operations if o.kind == "list_effects" and o.step == step)

    def _ids(self, step: int, other: int) -> dict[str, str]:
        """The ids of the records that a step is about."""
        names = [self.core.record_names[record] for record in np.flatnonzero(self.core.reads[step]).tolist()]
        return {f"{slug(name)}_id": self.core.case(other).id(name) for name in names}

    def _body(self, entry: Entry) -> dict[str, Any]:
        """Return an effect as it is listed."""
        core, service = self.core, int(self.core.service_of_step[entry.step])
        body: dict[str, Any] = {
            "id": entry.id,
            "operation": core.step_names[entry.step],
            "status": "pending" if entry.ready_s > self.office.now else "done",
            "created_at": self.clerk.time(entry.created_s),
            **self._ids(entry.step, entry.owner),
        }
        for column in np.flatnonzero(core.needs[entry.step]).tolist():
            body[self.office.argument(column, service)] = entry.values.get(column)
        return body

    def list(self, operation: Operation, arguments: dict[str, Any]) -> Reply:
        """Answer with what a step has done and stands."""
        start = start_of(arguments)
        done, history, _ = self.office.place(Kind.VERIFY, step=operation.step)
        items = [self._body(entry) for entry in self.core.ledger.of_step(operation.step)]
        return self.office.page(operation, done, items, start, history)

    def get(self, operation: Operation, arguments: dict[str, Any]) -> Reply:
        """Answer with one effect."""
        entry = self.core.ledger.find(operation.step, str(arguments["effect_id"]))
        done, history, _ = self.office.place(Kind.VERIFY, step=operation.step)
        if entry is None and done.status is Status.OK:
            return Reply(404, self.clerk.error(404))
        return self.office.answer(operation, done, {} if entry is None else self._body(entry), history=history)

    def undo(self, operation: Operation, arguments: dict[str, Any]) -> Reply:
        """Take one effect back.

        Raises:
            Refusal: if there is no such effect.
        """
        entry = self.core.ledger.find(operation.step, str(arguments["effect_id"]))
        if entry is None:
            raise Refusal(404)
        body = self._body(entry) | {"status": "undone"}
        done, history, _ = self.office.place(Kind.COMPENSATE, step=operation.step, sent=Sent(entry=entry))
        return self.office.answer(operation, done, body, history=history)


def _detail(message: str, kind: str, *where: str) -> dict[str, Any]:
    return {"loc": list(where), "message": message, "type": kind}
