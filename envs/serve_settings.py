"""What ``brownout serve`` may be told: how simulated time passes, and the limits of the service."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from ..errors import ServeError


@dataclass(frozen=True)
class ServeSettings:
    """Time and limits of the service.

    What the service does takes simulated time, of which ``time_scale`` is really waited. What the client does
    takes the time it takes: with ``count_idle`` the whole seconds between an answer and the next request pass on
    the episode's clock too, so a client that sleeps as ``Retry-After`` says has really waited.

    Args:
        time_scale: real seconds waited per simulated second; 0 waits for nothing, 1 is real time.
        count_idle: let a client's own pauses pass on the episode's clock, in whole seconds.
        open_episodes: episodes open at the same time.
        batch: episodes opened by one request to the control address.
        body_bytes: size of a request's body; a larger one is answered 413.
        header_bytes: size of a request's line and headers; larger ones are answered 431 or 400.
        rate_per_s: requests per second of one episode, with bursts of one second; 0 is no limit.
        connections: connections open at the same time; one more is answered 503.
        receive_s: seconds that a request may take to arrive.
        idle_s: seconds after which an episode that nobody uses is closed and recorded.
        shutdown_s: seconds that running requests get when the service stops.

    Raises:
        ServeError: a value is out of range.
    """

    time_scale: float = 0.0
    count_idle: bool = True
    open_episodes: int = 4096
    batch: int = 1000
    body_bytes: int = 64 * 1024
    header_bytes: int = 16 * 1024
    rate_per_s: float = 0.0
    connections: int = 4096
    receive_s: float = 30.0
    idle_s: float = 900.0
    shutdown_s: float = 2.0

    def __post_init__(self) -> None:
        may_be_zero = {"time_scale", "count_idle", "rate_per_s"}
        for field in fields(self):
            value = getattr(self, field.name)
            least = 0.0 if field.name in may_be_zero else math.ulp(0.0)
            if not (math.isfinite(value) and value >= least):
                allowed = "a finite number, 0 or more" if field.name in may_be_zero else "a finite number above 0"
                raise ServeError(f"{field.name}: got {value!r}; allowed: {allowed}")
