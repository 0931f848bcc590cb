"""The services of an episode: take a request, let the physics act on it, and write the response."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..errors import ScenarioError
from ..faults import Status
from .tool_api import HEADERS, Operation, Response, argument_name, operations, slug
from .tool_bodies import Clerk, dump, filler, http_status, retry_after
from .tool_core import FOREIGN, Done, Sent, ToolCore
from .tool_ledger import Entry
from .tool_values import fits, plain
from .workflow_state import Kind

PAGE = 4
IDLE_S = 0.05
"""Virtual seconds that the answer to a request takes which never reaches a service."""
_CALL = Kind.CALL_CHEAP


class Refusal(Exception):
    """A request that no service has to look at."""

    def __init__(
        self, status: int, message: str | None = None, details: list[dict[str, Any]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.status, self.message, self.details, self.headers = status, message, details, dict(headers or {})


class Reply:
    """A response being written."""

    def __init__(self, status: int, text: str, headers: Mapping[str, str] | None = None, failure: str | None = None):
        self.status, self.text, self.headers, self.failure = status, text, dict(headers or {}), failure


class ToolServer:
    """Everything behind the interface of one episode.

    Args:
        core: the core, with the episode begun.
    """

    def __init__(self, core: ToolCore) -> None:
        self.core = core
        self.spec = core.spec
        self.clerk = Clerk(core.case())
        self.number = 0
        self.issued = 0
        self.sessions = 0
        self.tokens: set[str] = set()
        self.told: set[int] = set()
        self.operations: tuple[Operation, ...] = ()
        self.describe()
        self.first_token = self.issue()
        self._handlers: dict[str, Callable[[Operation, dict[str, Any]], Reply]] = {
            name: getattr(self, f"_on_{name}")
            for name in ("token", "get_record", "list_records", "step", "list_effects", "get_effect", "undo", "reset",
                         "messages", "ask", "wait", "handoff", "finish", "abort")
        }  # fmt: skip

    def describe(self) -> None:
        """Make the description of the interface as it is told to agents now."""
        names = self.core.services.names
        self.operations = operations(self.spec, self.core.case_fields.facts, {names[i] for i in self.told})
        tools = [operation.tool.flat_name for operation in self.operations]
        twice = sorted({name for name in tools if tools.count(name) > 1})
        if twice:
            raise ScenarioError(f"{self.spec.name}: two operations are called {twice[0]!r}; rename a step or a record")

    def issue(self) -> str:
        """Return a new access token; the ones before it are void."""
        self.issued += 1
        token = self.clerk.token_of("token", self.issued, 24)
        self.tokens = {token}
        return token

    @property
    def over(self) -> bool:
        """Whether the episode has ended."""
        return bool(self.core.terminated[0] or self.core.truncated[0])

    # ---------------------------------------------------------------- requests

    def handle(self, work: Callable[[], Reply]) -> Response:
        """Let one request happen and return what comes back."""
        core = self.core
        self.number += 1
        if self.over:
            return Response(410, self.clerk.headers(self.number, float(core.clock[0])), self.clerk.error(410), 0.0)
        before, strikes = float(core.clock[0]), core.interruptions
        found: list[Reply] = []

        def operation() -> None:
            try:
                found.append(work())
            except Refusal as refusal:
                core.pass_time(IDLE_S)
                text = self.clerk.error(refusal.status, refusal.message, refusal.details)
                found.append(Reply(refusal.status, text, refusal.headers))

        core.perform(operation)
        if core.interruptions > strikes:
            self.tokens = set()
        reply, now = found[0], float(core.clock[0])
        if reply.failure is not None:
            return Response(0, {}, "", now - before, reply.failure)
        headers = self.clerk.headers(self.number, now) | reply.headers
        return Response(reply.status, headers, reply.text, now - before)

    def serve(self, operation: Operation, arguments: dict[str, Any], token: str | None) -> Reply:
        """Check a request and let its handler answer it.

        Raises:
            Refusal: if it is not acceptable as it is.
        """
        if token not in self.tokens and self._needs_token(operation):
            raise Refusal(401, headers=self._challenge(operation.service))
        self._check(operation, arguments)
        return self._handlers[operation.kind](operation, arguments)

    def _needs_token(self, operation: Operation) -> bool:
        return operation.service is not None and bool(self.core.auth[self._service(operation)])

    def _service(self, operation: Operation) -> int:
        assert operation.service is not None
        return self.core.services.names.index(operation.service)

    @staticmethod
    def _challenge(service: str | None) -> dict[str, str]:
        return {"WWW-Authenticate": f'Bearer realm="{service or "api"}", error="invalid_token", '
                'error_description="The access token expired or was revoked"'}  # fmt: skip

    def _check(self, operation: Operation, arguments: dict[str, Any]) -> None:
        """Refuse arguments that are missing, unknown or of another type than the schema says.

        Raises:
            Refusal: naming them.
        """
        if operation.kind == "step":
            return  # the service itself looks at these
        properties = operation.tool.parameters["properties"]
        details = [
            {"loc": [name], "message": "field required", "type": "missing"}
            for name in operation.tool.parameters["required"]
            if arguments.get(name) is None
        ]
        for name, value in arguments.items():
            if name in properties:
                problem = _problem(value, properties[name])
                if value is not None and problem:
                    details.append({"loc": [name], "message": problem, "type": "type_error"})
            elif name not in HEADERS:
                details.append({"loc": [name], "message": "unexpected field", "type": "extra_forbidden"})
        if details:
            raise Refusal(422, details=details)

    # ---------------------------------------------------------------- what did not go well

    def _failed(self, done: Done, operation: Operation, good: str = "{}", status: int = 200) -> Reply | None:
        """Return the reply to a call that did not go well; None if it did."""
        assert done.calls is not None
        word, retry = done.status, float(done.calls.retry_after_s[0])
        if word in (Status.OK, Status.PENDING):
            return None
        if word in (Status.TIMEOUT, Status.RESET):
            return Reply(0, "", failure="timeout" if word is Status.TIMEOUT else "reset")
        headers = {"Retry-After": retry_after(retry)} if retry > 0.0 else {}
        if word is Status.MALFORMED:
            text, content = self.clerk.damaged(good, self.number)
            return Reply(status, text, {"Content-Type": content})
        if word in (Status.EMPTY, Status.PARTIAL):
            return Reply(status, "", {"Content-Length": "0"})
        if word is Status.UNEXPECTED:
            code = self._unexpected_code()
            return Reply(code, "" if code < 400 else self.clerk.error(code), headers)
        code = http_status(word)
        if code == 401:
            headers |= self._challenge(operation.service)
        if code == 502 or (code in (500, 503) and self.clerk.case.draw("tool.page", self.number) < 0.4):
            return Reply(code, self.clerk.page(code), headers | {"Content-Type": "text/html"})
        return Reply(code, self.clerk.error(code), headers)

    def _unexpected_code(self) -> int:
        plan = self.core.plan
        assert plan is not None
        for row in reversed(plan.log.rows().tolist()):
            parameters = json.loads(str(row[9]))
            if row[8] == "unexpected-status":
                return int(parameters["code"])
        return 409

    def _struck(self, since: int) -> set[str]:
        """Names of the effects that have struck since the log had so many rows."""
        plan = self.core.plan
        return set() if plan is None else {str(row["effect"]) for row in plan.log.rows()[since:]}

    def _log_size(self) -> int:
        return 0 if self.core.plan is None else len(self.core.plan.log)

    # ---------------------------------------------------------------- records

    def _name(self, column: int) -> str:
        """The name of a field in the record that holds it."""
        record, _, field = self.spec.field_names[column].partition(".")
        service = self.core.services.names.index(self.spec.records[record].service)
        return argument_name(f"{record}.{field}", True) if service in self.core.drifted else field

    def _argument(self, column: int, service: int) -> str:
        return argument_name(self.spec.field_names[column], service in self.core.drifted)

    def _columns(self, record: int) -> list[int]:
        return np.flatnonzero(self.core.record_of == record).tolist()

    def _record(self, record: int, other: int, altered: dict[int, str | None] | None = None) -> dict[str, Any]:
        """Return what stands in a record."""
        core, name = self.core, self.core.record_names[record]
        facts = core.case_fields.facts
        body: dict[str, Any] = {"id": core.case(other).id(name)}
        for column in self._columns(record):
            text = (altered or {}).get(column, core.shown(column, other)) if altered else core.shown(column, other)
            body[self._name(column)] = plain(text, facts[column])
        age = core.case(other).draw(f"updated.{name}", other * 1000 + (0 if other else int(core.version[0, record])))
        body["updated_at"] = self.clerk.time(-86_400.0 * (1.0 + 60.0 * age) if other or not core.version[0, record]
                                             else float(core.clock[0]) - 60.0 * age)  # fmt: skip
        body["note"] = self.clerk.note(name, other)
        body["amendments"] = []
        if not other:
            if record in core.plants and core.planted[0, record]:
                step, payload = core.plants[record]
                column, value = next(iter(payload.items()))
                body["note"] = self.clerk.planted(
                    name, core.step_names[step], argument_name(core.field_names[column]), value
                )
            body["amendments"] = [
                {"for": core.step_names[step], "field": argument_name(core.field_names[column]),
                 "value": plain(value, facts[column]), "by": "requester"}
                for step, wishes in core.wishes.items()
                for column, value in wishes.items()
                if core.record_of[column] == record
            ]  # fmt: skip
        return body

    def _etag(self, record: int, other: int) -> str:
        name = self.core.record_names[record]
        version = 0 if other else int(self.core.version[0, record])
        return self.clerk.etag(name, self.core.case(other).id(name), version)

    def _read(self, operation: Operation) -> tuple[Done, int, dict[int, str | None], bool]:
        """Place a read of a record: what became of it, whose it is, what was altered on the way, and bloat."""
        core, record = self.core, operation.record
        context, rows = float(core.context[0]), self._log_size()
        done = core.place(Kind.FETCH, record=record)
        assert done.calls is not None
        other = FOREIGN if core.foreign[0] else 0
        altered: dict[int, str | None] = {}
        if not done.calls.right[0] and done.status is Status.OK:
            step = int(core.target[0])
            column = int(core.first_need[step, record])
            column = column if core.record_of[column] == record else self._columns(record)[0]
            struck = self._struck(rows)
            altered[column] = None if "partial-result" in struck else core.case(40 + self.number).clean(column)
        bloated = float(core.context[0]) > context + core.spec.session.growth + 1e-9
        return done, other, altered, bloated

    def _on_get_record(self, operation: Operation, arguments: dict[str, Any]) -> Reply:
        core, record = self.core, operation.record
        wanted = str(arguments["id"])
        others = {core.case(10 + i).id(core.record_names[record]): 10 + i for i in range(self._count(record))}
        if wanted in others:
            return self._reply_record(operation, core.place(Kind.FETCH, core.num_steps, record), others[wanted], {},
                                      False)  # fmt: skip
        if wanted != core.case().id(core.record_names[record]):
            raise Refusal(404)
        return self._reply_record(operation, *self._read(operation))

    def _reply_record(
        self, operation: Operation, done: Done, other: int, altered: dict[int, str | None], bloated: bool
    ) -> Reply:
        body = self._record(operation.record, other, altered)
        if bloated:
            body["history"] = filler(self.clerk, self.number)
        text = dump(body)
        tag = {"ETag": self._etag(operation.record, other)}
        return self._failed(done, operation, text) or Reply(200, text, tag)

    def _count(self, record: int) -> int:
        """How many records of other people are listed."""
        return 7 + int(self.core.case().draw(f"count.{self.core.record_names[record]}") * 5)

    def _on_list_records(self, operation: Operation, arguments: dict[str, Any]) -> Reply:
        core, record = self.core, operation.record
        start = self._start(arguments)
        done, other, altered, bloated = self._read(operation)
        others = [self._record(record, 10 + i) for i in range(self._count(record))]
        mine = [self._record(record, other, altered)]
        twin = self._second_version(record)
        if twin is not None and not other:
            mine.append(twin)
        place = int(core.case().draw(f"place.{core.record_names[record]}") * (len(others) + 1))
        return self._page(operation, done, [*others[:place], *mine, *others[place:]], start, bloated)

    def _second_version(self, record: int) -> dict[str, Any] | None:
        """The other version of a record that is there twice: right where the first is not."""
        core = self.core
        mess = core._messes.at(int(core.scale_level[0])) if core._messes else None
        columns = self._columns(record)
        if mess is None or not any(int(core.dirt[0, c]) in mess.first_codes for c in columns):
            return None
        clean: dict[int, str | None] = {c: core.case().clean(c, core.field_version[c]) for c in columns}
        body = self._record(record, 0, clean)
        body["updated_at"] = self.clerk.time(-86_400.0 * 200.0 * core.case().draw("updated.second"))
        return body

    @staticmethod
    def _start(arguments: dict[str, Any]) -> int:
        cursor = arguments.get("cursor")
        if cursor in (None, ""):
            return 0
        text = str(cursor).removeprefix("p")
        if not (str(cursor).startswith("p") and text.isascii() and text.isdigit() and len(text) < 6):
            raise Refusal(400, "The cursor is not one that was given out.")
        return int(text) * PAGE

    def _page(self, operation: Operation, done: Done, items: list[Any], start: int, bloated: bool = False) -> Reply:
        more = f"p{start // PAGE + 1}" if start + PAGE < len(items) else None
        body: dict[str, Any] = {"items": items[start : start + PAGE], "next_cursor": more}
        if bloated:
            body["history"] = filler(self.clerk, self.number)
        text = dump(body)
        return self._failed(done, operation, text) or Reply(200, text)

    # ---------------------------------------------------------------- steps

    def _on_step(self, operation: Operation, arguments: dict[str, Any]) -> Reply:
        core, step = self.core, operation.step
        service = int(core.service_of_step[step])
        missing = self._unmet(step)
        if missing:
            raise Refusal(409, f"Not possible yet: {', '.join(missing)}.")
        sent, details = self._sent(step, service, arguments)
        if details and not sent.old_names:
            raise Refusal(422, details=details)
        context = float(core.context[0])
        done = core.place(_CALL, step, sent=sent)
        body = self._result(step, done, sent)
        if float(core.context[0]) > context + core.spec.session.growth + 1e-9:
            body["history"] = filler(self.clerk, self.number)
        good = 201 if core.writes[step] and not core.natural[step] else 200
        text = dump(body)
        if done.status in (Status.UNPROCESSABLE, Status.CONFLICT):
            return self._refused(step, done, sent, details)
        failed = self._failed(done, operation, text, good)
        if failed is not None:
            return failed
        headers = {}
        if done.status is Status.PENDING:
            good = 202
        if core.writes[step]:
            headers["Location"] = f"{self._collection(step)}/{body['id']}"
        if done.replayed:
            headers["Idempotent-Replayed"] = "true"
        return Reply(good, text, headers)

    def _collection(self, step: int) -> str:
        return next(o.tool.path for o in self.operations if o.kind == "list_effects" and o.step == step)

    def _unmet(self, step: int) -> list[str]:
        """What must come first: reads that have not been made, and writes that still wait."""
        core, unmet = self.core, []
        for other in np.flatnonzero(core.sources[step]).tolist():
            if not core.applied[0, other]:
                unmet.append(f"'{core.step_names[other]}' has not been run")
        for name in self.spec.steps[core.step_names[step]].after:
            other = core.step_names.index(name)
            if any(entry.ready_s > core.clock[0] for entry in core.ledger.of_step(other)):
                unmet.append(f"'{name}' has not been approved")
        return unmet

    def _sent(self, step: int, service: int, arguments: dict[str, Any]) -> tuple[Sent, list[dict[str, Any]]]:
        """Read the arguments of a step; what is wrong with their names and types."""
        core, sent, details = self.core, Sent(), []
        columns = np.flatnonzero(core.needs[step]).tolist()
        names = {self._argument(c, service): c for c in columns}
        old = {argument_name(core.field_names[c]): c for c in columns}
        for name, value in arguments.items():
            if name in HEADERS:
                continue
            if name not in names:
                if name in old:
                    sent.old_names = True
                    sent.values[old[name]] = value
                details.append({"loc": ["body", name], "message": "unexpected field", "type": "extra_forbidden"})
            elif isinstance(value, bool | list | dict):
                details.append({"loc": ["body", name], "message": "must be text or a number", "type": "type_error"})
            else:
                sent.values[names[name]] = value
        for name in names:
            if name not in arguments:
                details.append({"loc": ["body", name], "message": "field required", "type": "missing"})
        if any(column not in sent.values for column in columns):
            sent.old_names = sent.old_names and bool(sent.values) and len(sent.values) == len(columns)
        for header in HEADERS:
            if arguments.get(header) is not None and not isinstance(arguments[header], str):
                details.append({"loc": ["header", HEADERS[header]], "message": "must be text", "type": "type_error"})
        if isinstance(arguments.get("idempotency_key"), str):
            sent.key = arguments["idempotency_key"][:255] or None
        sent.outdated = self._outdated(step, arguments.get("if_match"))
        return sent, details

    def _outdated(self, step: int, tags: Any) -> bool:
        """Whether If-Match names a version that is not the present one."""
        if not isinstance(tags, str) or not tags.strip() or tags.strip() == "*" or not self.core.writes[step]:
            return False
        other = FOREIGN if self.core.foreign[0] else 0
        present = {self._etag(record, other) for record in range(len(self.core.record_names))}
        return any(tag.strip().removeprefix("W/") not in present for tag in tags.split(","))

    def _refused(self, step: int, done: Done, sent: Sent, details: list[dict[str, Any]]) -> Reply:
        """Say why a service does not accept the arguments of a step."""
        core = self.core
        service = int(core.service_of_step[step])
        if done.status is Status.CONFLICT:
            if core.draft[0, step]:
                return Reply(409, self.clerk.error(409, "An unfinished draft of this request exists in the session."))
            if sent.outdated:
                return Reply(412, self.clerk.error(412))
            return Reply(409, self.clerk.error(409, "The record has been changed since it was read."))
        if done.reused:
            return Reply(422, self.clerk.error(422, "This idempotency key was used with other parameters."))
        if service in core.drifted and (sent.old_names or details):
            _, details = self._sent(step, service, {argument_name(core.field_names[c]): v
                                                    for c, v in sent.values.items()})  # fmt: skip
            return Reply(422, self.clerk.error(422, "Some fields are not known in this version.", details))
        facts = core.case_fields.facts
        shown = [c for c in done.wrong if not fits(sent.values.get(c), facts[c]) or core.visible[0, c]]
        details = [
            {"loc": ["body", self._argument(c, service)], "message": f"not a valid {facts[c].type.word}",
             "type": "value_error"}
            for c in shown
        ]  # fmt: skip
        return Reply(422, self.clerk.error(422, details=details))

    def _result(self, step: int, done: Done, sent: Sent) -> dict[str, Any]:
        """Return the body of an answer to a step."""
        core, name = self.core, self.core.step_names[step]
        if core.writes[step]:
            entry = done.entry
            if entry is None:  # reported, and not done
                now = float(core.clock[0])
                entry = Entry(core.new_id(step), step, dict(sent.values), sent.key, 0, True, False, now, now)
            return self._effect(entry)
        body: dict[str, Any] = {"operation": name, "result": "ok"}
        other = FOREIGN if done.foreign else 20 + step if done.wrong and not self._decides(step) else 0
        for record in np.flatnonzero(core.reads[step]).tolist():
            body[f"{slug(core.record_names[record])}_id"] = core.case(other).id(core.record_names[record])
        for index, by in enumerate(core.decided_by.tolist()):
            if by == step:
                body[slug(core.decision_names[index])] = bool(core.told[0, index] == 1)
        return body

    def _decides(self, step: int) -> bool:
        return step in self.core.decided_by.tolist()

    def _effect(self, entry: Entry) -> dict[str, Any]:
        """Return an effect as it is listed."""
        core = self.core
        service = int(core.service_of_step[entry.step])
        body: dict[str, Any] = {
            "id": entry.id,
            "operation": core.step_names[entry.step],
            "status": "pending_approval" if entry.ready_s > core.clock[0] else "done",
            "created_at": self.clerk.time(entry.created_s),
        }
        for record in np.flatnonzero(core.reads[entry.step]).tolist():
            body[f"{slug(core.record_names[record])}_id"] = core.case(entry.owner).id(core.record_names[record])
        for column in np.flatnonzero(core.needs[entry.step]).tolist():
            body[self._argument(column, service)] = entry.values.get(column)
        return body

    def _on_list_effects(self, operation: Operation, arguments: dict[str, Any]) -> Reply:
        core, start = self.core, self._start(arguments)
        done = core.place(Kind.VERIFY, operation.step)
        items = [self._effect(entry) for entry in core.ledger.of_step(operation.step)]
        return self._page(operation, done, items, start)

    def _on_get_effect(self, operation: Operation, arguments: dict[str, Any]) -> Reply:
        core = self.core
        entry = core.ledger.find(operation.step, str(arguments["effect_id"]))
        done = core.place(Kind.VERIFY, operation.step)
        text = dump(self._effect(entry)) if entry is not None else "{}"
        failed = self._failed(done, operation, text)
        if failed is not None:
            return failed
        return Reply(404, self.clerk.error(404)) if entry is None else Reply(200, text)

    def _on_undo(self, operation: Operation, arguments: dict[str, Any]) -> Reply:
        core = self.core
        entry = core.ledger.find(operation.step, str(arguments["effect_id"]))
        if entry is None:
            raise Refusal(404)
        body = self._effect(entry) | {"status": "undone"}
        done = core.place(Kind.COMPENSATE, operation.step, sent=Sent(entry=entry))
        text = dump(body)
        return self._failed(done, operation, text) or Reply(200, text)

    # ---------------------------------------------------------------- session, requester, clock

    def _on_token(self, operation: Operation, arguments: dict[str, Any]) -> Reply:
        done = self.core.place(Kind.REFRESH, self.core.num_steps)
        token = self.issue() if done.status is Status.OK else self.clerk.token_of("token", self.issued + 1, 24)
        text = dump({"access_token": token, "token_type": "Bearer", "expires_in": int(self.spec.token.ttl_s)})
        return self._failed(done, operation, text) or Reply(200, text, {"Cache-Control": "no-store"})

    def _on_reset(self, operation: Operation, arguments: dict[str, Any]) -> Reply:
        core = self.core
        done = core.place(Kind.RESYNC, core.num_steps)
        self.sessions += 1
        changes = []
        for service in sorted(core.drifted):
            columns = [c for c in range(len(core.field_names)) if self._uses(service, c)]
            renamed = {argument_name(core.field_names[c]): argument_name(core.field_names[c], True) for c in columns}
            changes.append({"service": core.services.names[service], "renamed": renamed})
        text = dump({"session": "ses_" + self.clerk.token_of("session", self.sessions, 8),
                     "created_at": self.clerk.time(float(core.clock[0])), "interface_changes": changes})  # fmt: skip
        failed = self._failed(done, operation, text)
        if failed is None and core.drifted != self.told:
            self.told = set(core.drifted)
            self.describe()
        return failed or Reply(201, text)

    def _uses(self, service: int, column: int) -> bool:
        core = self.core
        return bool((core.needs[: core.num_steps, column] & (core.service_of_step[:-1] == service)).any()) or bool(
            core.service_of_record[core.record_of[column]] == service
        )

    def _message(self, number: int, at: float, step: int, column: int, value: str) -> dict[str, Any]:
        core = self.core
        field = argument_name(core.field_names[column])
        return {
            "id": "msg_" + self.clerk.token_of("message", number, 6),
            "received_at": self.clerk.time(at),
            "for": core.step_names[step],
            "field": field,
            "value": plain(value, core.case_fields.facts[column]),
            "text": f"One more thing: for '{core.step_names[step]}' please use {value} as the "
            f"{field.replace('_', ' ')} instead. Thank you!",
        }

    def _on_messages(self, operation: Operation, arguments: dict[str, Any]) -> Reply:
        self.core.pass_time(IDLE_S)
        items = [self._message(i, *told) for i, told in enumerate(self.core.messages_sent)]
        return Reply(200, dump({"items": items, "next_cursor": None}))

    def _on_ask(self, operation: Operation, arguments: dict[str, Any]) -> Reply:
        core, requester = self.core, self.spec.requester
        assert requester is not None
        about = str(arguments["about"])
        answers = int(core.questions[0]) < requester.patience
        known = (core._field_draws(core._knows[0], core.all_lanes) < requester.knows)[0]
        done = core.place(Kind.CLARIFY, core.num_steps)
        body: dict[str, Any] = {"question": about}
        if not answers:
            body |= {"answer": "I am sorry, I cannot help you any further.", "values": {}, "changes": []}
        else:
            columns = self._meant(about)
            values = {
                argument_name(core.field_names[c]): plain(core.case().clean(c, core.field_version[c]),
                                                          core.case_fields.facts[c])
                for c in columns
                if known[c]
            }  # fmt: skip
            unknown = [argument_name(core.field_names[c]) for c in columns if not known[c]]
            changes = [
                {"for": core.step_names[step], "field": argument_name(core.field_names[c]),
                 "value": plain(value, core.case_fields.facts[c])}
                for step, wishes in core.wishes.items()
                for c, value in wishes.items()
            ]  # fmt: skip
            told = ", ".join(f"{name} is {value}" for name, value in values.items())
            answer = (told + "." if told else "") + (f" I do not know {', '.join(unknown)}." if unknown else "")
            body |= {"answer": answer.strip() or "What would you like to know?", "values": values, "changes": changes}
        text = dump(body)
        return self._failed(done, operation, text) or Reply(200, text)

    def _meant(self, about: str) -> list[int]:
        """The fields that a question names, four at most."""
        asked = about.lower().replace(".", "_")
        names = {argument_name(name).lower(): c for c, name in enumerate(self.core.field_names)}
        return [c for _, c in sorted((asked.find(name), c) for name, c in names.items() if name in asked)][:4]

    def _on_wait(self, operation: Operation, arguments: dict[str, Any]) -> Reply:
        seconds = float(arguments["seconds"])
        self.core.pass_time(seconds)
        return Reply(200, dump({"waited_s": seconds, "now": self.clerk.time(float(self.core.clock[0]))}))

    def _on_handoff(self, operation: Operation, arguments: dict[str, Any]) -> Reply:
        self.core.hand_over()
        return Reply(202, dump({"status": "handed_over", "queue": "back-office"}))

    def _on_finish(self, operation: Operation, arguments: dict[str, Any]) -> Reply:
        self.core.stop(Kind.FINISH)
        return Reply(200, dump({"status": "closed"}))

    def _on_abort(self, operation: Operation, arguments: dict[str, Any]) -> Reply:
        self.core.stop(Kind.ABORT)
        return Reply(200, dump({"status": "cancelled"}))


def _problem(value: Any, schema: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a value, None if nothing is."""
    wanted = schema.get("type")
    if wanted == "number":
        if isinstance(value, bool) or not isinstance(value, int | float) or not -1e15 < value < 1e15:
            return "must be a number"
        if value <= schema.get("exclusiveMinimum", -1e15) or value > schema.get("maximum", 1e15):
            return f"must be above {schema.get('exclusiveMinimum')} and at most {schema.get('maximum')}"
    elif wanted == "string" and not isinstance(value, str):
        return "must be text"
    if "enum" in schema and value not in schema["enum"]:
        return f"must be one of {', '.join(schema['enum'])}"
    return None
