"""What ends an episode from outside: too many calls, too much money or time, or calls that lead nowhere."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from ..errors import StressError
from .stress_agents import AgentStopped

Event = dict[str, Any]
GRACE_S: Final = 5.0  # what an agent has to return after its episode ended by the clock
_PATIENCE: Final = 50  # calls that an agent may still make after the end
REQUESTS: Final = ("call", "wire")  # kinds of events
AFTER: Final = "after"  # a request after the end that leaves no trace
_WAIT: Final = "clock.wait"


@dataclass(frozen=True)
class Limits:
    """Ceilings of one episode.

    Args:
        max_calls: requests.
        max_usd: USD spent, the agent's own model included; None for the scenario's budget only.
        timeout_s: real seconds; an agent that is silent then is killed a few seconds later.
        loop_after: requests in a row that each repeat an earlier one and bring the answer that one brought; 0 never
            ends an episode for that. Waits are not counted.

    Raises:
        StressError: a ceiling that no episode can be played under.
    """

    max_calls: int = 200
    max_usd: float | None = None
    timeout_s: float = 300.0
    loop_after: int = 25

    def __post_init__(self) -> None:
        for name, low in (("max_calls", 1), ("max_usd", 0.0), ("timeout_s", 0.0), ("loop_after", 0)):
            value = getattr(self, name)
            if value is not None and not (value >= low and (value > 0 or name != "timeout_s")):
                word = "above" if name == "timeout_s" else "from"
                raise StressError(f"{name}: got {value!r}; allowed: {word} {low:g}")

    @property
    def deadline_s(self) -> float:
        """Real seconds after which a silent agent is killed."""
        return self.timeout_s + min(GRACE_S, self.timeout_s / 4)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


class Watch:
    """Sees every request of one episode, after it was answered.

    Args:
        limits: ceilings.
        tell: given every event, before anything else.
        over: told once how the episode was ended, ``limit`` or ``loop``.
        remote: whether the agent runs in a process of its own, which its driver stops; else it is stopped here.

    Attributes:
        ended: ``limit`` or ``loop`` where this ended the episode.
        reported_usd: what the agent said its own model cost.
    """

    def __init__(
        self, limits: Limits, tell: Callable[[Event], None], over: Callable[[str], None], remote: bool = False
    ) -> None:
        self.ended: str | None = None
        self.reported_usd = 0.0
        self._limits, self._tell, self._over, self._remote = limits, tell, over, remote
        self._until = time.monotonic() + limits.timeout_s
        self._seen: set[bytes] = set()
        self._repeats = 0
        self._after = 0

    def outlived(self) -> bool:
        """Whether the agent goes on and on after the end of its episode."""
        return self._after > _PATIENCE

    def __call__(self, event: Event) -> str | None:
        """Take in one event; returns ``limit`` when the episode must end here.

        Raises:
            AgentStopped: the agent goes on and on after the end of its episode.
        """
        if event["kind"] == AFTER:
            self._after += 1
            if self.outlived() and not self._remote:
                raise AgentStopped
            return None
        self._tell(event)
        if event["kind"] == "usage":
            self.reported_usd += float(event["cost_usd"])
        if self.ended is None and event["kind"] != "close":
            self.ended = self._judge(event)
            if self.ended is not None:
                self._over(self.ended)
                return "limit"
        return None

    def _judge(self, event: Event) -> str | None:
        most = self._limits.max_usd
        if (most is not None and event["spend_usd"] > most) or time.monotonic() > self._until:
            return "limit"
        if event["kind"] not in REQUESTS or event.get("tool") == _WAIT or not self._limits.loop_after:
            return None
        pair = signature(event)
        self._repeats = self._repeats + 1 if pair in self._seen else 0
        self._seen.add(pair)
        return "loop" if self._repeats >= self._limits.loop_after else None


def signature(event: Mapping[str, Any]) -> bytes:
    """What two requests share when one repeats the other and brings the same answer.

    A fresh token or idempotency key makes no other request of it, and the date no other answer.
    """
    arguments = {name: value for name, value in (event.get("arguments") or {}).items() if name != "idempotency_key"}
    asked = [event.get(name) for name in ("tool", "method", "path", "body")]
    response = event["response"]
    same = [*asked, arguments, response["status"], response["failure"], response["text"]]
    return hashlib.blake2b(json.dumps(same, sort_keys=True).encode(), digest_size=16).digest()
