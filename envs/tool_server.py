"""The services of an episode: take a request, let the physics act on it, and return the response."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .tool_api import Operation, Response
from .tool_core import ToolCore
from .tool_office import Office, Refusal, Reply, challenge, check
from .tool_records import RecordDesk
from .tool_side import IDLE_S, SideDesk
from .tool_steps import StepDesk


class ToolServer:
    """Everything behind the interface of one episode.

    Args:
        core: the core, with the episode begun.

    Raises:
        ScenarioError: if two operations would have one name.
    """

    def __init__(self, core: ToolCore) -> None:
        self.core = core
        self.office = office = Office(core)
        self.clerk = office.clerk
        records, side = RecordDesk(office), SideDesk(office)
        steps = StepDesk(office, records)
        self._handlers: dict[str, Callable[[Operation, dict[str, Any]], Reply]] = {
            "get_record": records.get, "list_records": records.list, "step": steps.call, "list_effects": steps.list,
            "get_effect": steps.get, "undo": steps.undo, "token": side.token, "reset": side.reset,
            "messages": side.messages, "ask": side.ask, "wait": side.wait, "handoff": side.handoff,
            "finish": side.finish, "abort": side.abort,
        }  # fmt: skip

    @property
    def operations(self) -> tuple[Operation, ...]:
        """Everything that the interface can do, as it is called now."""
        return self.office.operations

    @property
    def over(self) -> bool:
        """Whether the episode has ended."""
        return bool(self.core.terminated[0] or self.core.truncated[0])

    def gone(self) -> Response:
        """Return what comes back once the episode has ended."""
        headers = self.clerk.headers(self.office.number + 1, self.office.now)
        return Response(410, headers, self.clerk.error(410), 0.0)

    def handle(self, work: Callable[[], Reply]) -> Response:
        """Let one request happen, while the episode is open, and return what comes back."""
        core, office = self.core, self.office
        office.number += 1
        before, interruptions = office.now, core.interruptions
        found: list[Reply] = []

        def operation() -> None:
            try:
                found.append(work())
            except Refusal as refusal:
                core.pass_time(IDLE_S)
                text = self.clerk.error(refusal.status, refusal.message, refusal.details)
                found.append(Reply(refusal.status, text, refusal.headers))

        core.perform(operation)
        if core.interruptions > interruptions:
            office.tokens = set()
        reply, elapsed = found[0], office.now - before
        if reply.failure is not None:
            return Response(0, {}, "", elapsed, reply.failure)
        headers = self.clerk.headers(office.number, office.now) | reply.headers
        return Response(reply.status, headers, reply.text, elapsed)

    def serve(self, operation: Operation, arguments: dict[str, Any], token: str | None) -> Reply:
        """Check a request and let a desk answer it.

        Raises:
            Refusal: if it is not acceptable as it is.
        """
        secured = self._secured(operation)
        if secured and token not in self.office.tokens:
            raise Refusal(401, headers=challenge(operation.service))
        try:
            if operation.kind != "step":  # there the service itself looks at the arguments
                check(operation, arguments)
            return self._handlers[operation.kind](operation, arguments)
        except Refusal:
            # a service looks at the token and its scope before it looks at anything else
            if secured and self.office.now >= self.core.token_until[0]:
                raise Refusal(401, headers=challenge(operation.service)) from None
            if operation.service is not None and self.core.revoked[0, self._service(operation)]:
                raise Refusal(403) from None
            raise

    def _secured(self, operation: Operation) -> bool:
        return operation.service is not None and bool(self.core.auth[self._service(operation)])

    def _service(self, operation: Operation) -> int:
        assert operation.service is not None
        return self.core.services.names.index(operation.service)
