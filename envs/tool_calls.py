"""A call with real values: what was sent, and what became of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..faults import Calls, Status
from .tool_ledger import Entry


@dataclass
class Sent:
    """The arguments of a call that carries out a step.

    Args:
        values: what was sent, by column of the field.
        key: idempotency key, if any.
        outdated: tells, when the call arrives, whether a version was named that is not the present one.
        old_names: whether a name was used that the service no longer knows.
        entry: the effect to take back.
    """

    values: dict[int, Any] = field(default_factory=dict)
    key: str | None = None
    outdated: Callable[[], bool] = bool
    old_names: bool = False
    entry: Entry | None = None


@dataclass
class Done:
    """What became of a call: the call, and what it did.

    Args:
        calls: the call, as its caller sees it.
        entry: the effect it made or found; None if it made none.
        replayed: whether the effect had been made before under the same key.
        wrong: columns of arguments that are not what they should be.
        reused: whether a key was used again with other arguments.
        outdated: whether it named a version that is not the present one.
        foreign: whether the session is in the state of another customer.
        old_names: whether the service has renamed its fields while the call was under way.
        struck: the effects that struck it, with their parameters as JSON.
    """

    calls: Calls | None = None
    entry: Entry | None = None
    replayed: bool = False
    wrong: list[int] = field(default_factory=list)
    reused: bool = False
    outdated: bool = False
    foreign: bool = False
    old_names: bool = False
    struck: list[tuple[str, str]] = field(default_factory=list)

    @property
    def status(self) -> Status:
        """How the call ended."""
        assert self.calls is not None
        return Status(int(self.calls.status[0]))
