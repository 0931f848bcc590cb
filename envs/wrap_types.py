"""What a team says about the tools it wraps, and what calls of wrapped tools meet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


class ToolError(Exception):
    """What a wrapped tool raises when the other side refuses or breaks.

    Args:
        message: as a client library would word it.
        status_code: the HTTP status, None when no answer came.
        retry_after_s: seconds after which a retry is invited, None if nothing was said.
    """

    def __init__(self, message: str, status_code: int | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.retry_after_s = retry_after_s


class ToolTimeout(ToolError, TimeoutError):
    """No answer in time; whether the work was done is not known."""


class ToolReset(ToolError, ConnectionResetError):
    """The connection broke; whether the work was done is not known."""


@dataclass(frozen=True)
class WrapTool:
    """One tool to be wrapped, with what a simulation must know of it.

    Args:
        call: the function, sync or async.
        family: provider; tools of a family share outages, rate limits and capacity.
        writes: whether it changes something: effects on writes (a silent no-op, an after-effect time-out) need it.
        latency_s: virtual seconds of a healthy call: a number or a distribution as scenarios write it.
        cost_usd: what a call is billed, likewise.
        fields: what the fields of the records it returns hold (``{"email": "email", "total": "amount"}``), for
            effects on records; a result is one mapping or a list of them.
        key: the field that identifies a record, so that reading it again shows the same damage.
        acknowledges: what a call returns that reports success without having been carried out; default: what the
            last real success returned.
    """

    call: Callable[..., Any]
    family: str = "tools"
    writes: bool = False
    latency_s: Any = 0.0
    cost_usd: Any = 0.0
    fields: Mapping[str, str] = field(default_factory=dict)
    key: str | None = None
    acknowledges: Any = None


@dataclass(frozen=True)
class WrappedCall:
    """One call as it went: ground truth for whoever runs the agent.

    Args:
        tool: its name.
        number: how many calls of that tool came before it in the episode.
        started_s: virtual time of its start, seconds.
        latency_s: virtual seconds until its caller had an answer or an error.
        cost_usd: what it was billed.
        status: how it ended, as its caller saw it.
        applied: whether the real tool was run.
        right: whether what came back was left as it was.
        error: name of the exception that the caller met, empty for none.
    """

    tool: str
    number: int
    started_s: float
    latency_s: float
    cost_usd: float
    status: str
    applied: bool
    right: bool
    error: str
