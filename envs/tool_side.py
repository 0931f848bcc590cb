"""The desk beside the business services: tokens, the session, the requester, the clock, and the ends of an episode."""

from __future__ import annotations

from typing import Any

from ..faults import Status
from .tool_api import Operation, argument_name
from .tool_bodies import dump
from .tool_office import Office, Reply
from .workflow_state import Kind

IDLE_S = 0.05
"""Virtual seconds that an answer takes for which no service is asked."""
_AT_A_TIME = 4


class SideDesk:
    """Answers what is about no record and no step.

    Args:
        office: what the desks share.
    """

    def __init__(self, office: Office) -> None:
        self.office, self.core, self.clerk = office, office.core, office.clerk
        self._sessions = 0

    def token(self, operation: Operation, arguments: dict[str, Any]) -> Reply:
        """Answer with a new token."""
        done, *_ = self.office.place(Kind.REFRESH, step=self.core.num_steps)
        token = self.office.issue() if done.status is Status.OK else self.office.next_token(1)
        body = {"access_token": token, "token_type": "Bearer", "expires_in": int(self.core.spec.token.ttl_s)}
        return self.office.answer(operation, done, body, headers={"Cache-Control": "no-store"})

    def reset(self, operation: Operation, arguments: dict[str, Any]) -> Reply:
        """Set up the session anew and tell what the services have renamed."""
        core = self.core
        done, *_ = self.office.place(Kind.RESYNC, step=core.num_steps)
        self._sessions += 1
        changes = []
        for service in sorted(core.drifted):
            names = [core.field_names[column] for column in range(len(core.field_names)) if self._uses(service, column)]
            renamed = {argument_name(name): argument_name(name, True) for name in names}
            changes.append({"service": core.services.names[service], "renamed": renamed})
        body = {
            "session": "ses_" + self.clerk.token_of("session", self._sessions, 8),
            "created_at": self.clerk.time(self.office.now),
            "interface_changes": changes,
        }
        if done.status is Status.OK and core.drifted != self.office.told:
            self.office.told = set(core.drifted)
            self.office.describe()
        return self.office.answer(operation, done, body, 201)

    def _uses(self, service: int, column: int) -> bool:
        core = self.core
        steps = core.needs[: core.num_steps, column] & (core.service_of_step[:-1] == service)
        return bool(steps.any()) or int(core.service_of_record[core.record_of[column]]) == service

    # ---------------------------------------------------------------- requester

    def messages(self, operation: Operation, arguments: dict[str, Any]) -> Reply:
        """Answer with what the requester has written."""
        core = self.core
        core.pass_time(IDLE_S)
        items = []
        for number, (at, step, column, value) in enumerate(core.messages_sent):
            field, name = argument_name(core.field_names[column]), core.step_names[step]
            items.append({
                "id": "msg_" + self.clerk.token_of("message", number, 6),
                "received_at": self.clerk.time(at),
                **self._change(step, column, value),
                "text": f"One more thing: for '{name}' please use {value} as the {field.replace('_', ' ')} instead.",
            })  # fmt: skip
        return Reply(200, dump({"items": items, "next_cursor": None}))

    def _change(self, step: int, column: int, value: str) -> dict[str, Any]:
        core = self.core
        return {
            "for": core.step_names[step],
            "field": argument_name(core.field_names[column]),
            "value": self.office.value(column, value),
        }

    def ask(self, operation: Operation, arguments: dict[str, Any]) -> Reply:
        """Let the requester answer a question, if they still do."""
        core, requester = self.core, self.core.spec.requester
        assert requester is not None
        about = str(arguments["about"])
        patient = int(core.questions[0]) < requester.patience
        known = core.requester_knows()
        done, *_ = self.office.place(Kind.CLARIFY, step=core.num_steps)
        if not patient:
            body = {"answer": "I am sorry, I cannot help you any further.", "values": {}, "changes": []}
            return self.office.answer(operation, done, {"question": about} | body)
        columns = self._meant(about)
        values = {
            argument_name(core.field_names[c]): self.office.value(c, core.case().clean(c, core.field_version[c]))
            for c in columns
            if known[c]
        }
        unknown = [argument_name(core.field_names[c]) for c in columns if not known[c]]
        told = ", ".join(f"{name} is {value}" for name, value in values.items())
        answer = (f"{told}." if told else "") + (f" I do not know {', '.join(unknown)}." if unknown else "")
        body = {
            "answer": answer.strip() or "What would you like to know?",
            "values": values,
            "changes": [self._change(s, c, v) for s, wishes in core.wishes.items() for c, v in wishes.items()],
        }
        return self.office.answer(operation, done, {"question": about} | body)

    def _meant(self, about: str) -> list[int]:
        """The fields that a question names, in its order, as many as can be asked at a time."""
        asked = about.lower().replace(".", "_")
        names = {argument_name(name).lower(): column for column, name in enumerate(self.core.field_names)}
        found = sorted((asked.find(name), column) for name, column in names.items() if name in asked)
        return [column for _, column in found][:_AT_A_TIME]

    # ---------------------------------------------------------------- clock and ends

    def wait(self, operation: Operation, arguments: dict[str, Any]) -> Reply:
        """Let time pass."""
        seconds = float(arguments["seconds"])
        self.core.pass_time(seconds)
        return Reply(200, dump({"waited_s": seconds, "now": self.clerk.time(self.office.now)}))

    def handoff(self, operation: Operation, arguments: dict[str, Any]) -> Reply:
        """Hand over to a person."""
        self.core.hand_over()
        return Reply(202, dump({"status": "handed_over", "queue": "back-office"}))

    def finish(self, operation: Operation, arguments: dict[str, Any]) -> Reply:
        """Finish."""
        self.core.stop(Kind.FINISH)
        return Reply(200, dump({"status": "closed"}))

    def abort(self, operation: Operation, arguments: dict[str, Any]) -> Reply:
        """Stop without having finished."""
        self.core.stop(Kind.ABORT)
        return Reply(200, dump({"status": "cancelled"}))
