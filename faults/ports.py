"""The ports: what an environment lets effects do to it, besides the calls themselves.

Operations are generic (a token ends, a version moves); that a fault is behind one is known to the plan alone. An
effect declares the ports it needs in ``ports`` and reaches them through ``calls.session`` and
``calls.workflow``. Lanes are those of the calls it was given; an operation that is about a step is about the one
that the call is made for.
"""

from __future__ import annotations

from typing import Any, Protocol

from .calls import I64


class SessionPort(Protocol):
    """Token, context, locks and versions: what the agent shares with the services."""

    def expire_token(self, lanes: I64, time_s: Any) -> None:
        """End the token at virtual time ``time_s``; the agent still believes in the expiry it was told."""
        ...

    def revoke_scope(self, lanes: I64, service: I64) -> None:
        """Refuse the agent at ``(n,)`` services for good."""
        ...

    def move_version(self, lanes: I64) -> None:
        """Let somebody else change the records that the step needs: what the agent has read of them is old."""
        ...

    def leave_draft(self, lanes: I64) -> None:
        """Leave an unfinished draft of the step, which is in the way of a new call until the session is resynced."""
        ...

    def lock(self, lanes: I64, seconds: Any) -> None:
        """Lock what the step writes for some seconds from now."""
        ...

    def grow_context(self, lanes: I64, share: Any) -> None:
        """Fill a share of the context window."""
        ...

    def switch_tenant(self, lanes: I64) -> None:
        """Put the session into the state of another customer, until it is resynced."""
        ...


class WorkflowPort(Protocol):
    """Steps, their inputs and the request."""

    def lose_progress(self, lanes: I64) -> None:
        """Forget everything the agent holds: beliefs, read fields, keys. What services have done stands."""
        ...

    def change_request(self, lanes: I64, noticed: Any) -> None:
        """Let the requester change what the step is about; ``(n,)`` mask of lanes that get a message about it."""
        ...

    def hold_input(self, lanes: I64, seconds: Any) -> None:
        """Let the input of the step arrive only some seconds from now."""
        ...

    def rename_fields(self, lanes: I64, service: I64) -> None:
        """Change the interface of ``(n,)`` services, which refuse the old one until the session is resynced."""
        ...

    def resubmit(self, lanes: I64) -> None:
        """Let a second copy of the request carry out the step, once, with a key of its own."""
        ...

    def hold_approval(self, lanes: I64, seconds: Any) -> None:
        """Let the next call of the step take effect only after somebody has approved it."""
        ...

    def plant_instruction(self, lanes: I64) -> None:
        """Hide an instruction in the records that the step needs; a reasoner may follow it."""
        ...
