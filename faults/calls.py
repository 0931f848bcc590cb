"""The batch of calls a fault acts on, and the words it uses to act.

A call is placed with the outcome it would have had in a world without faults: its latency, its price, its
status, whether its answer is right. A fault changes those numbers; it never touches a score.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import FaultError

if TYPE_CHECKING:
    from .base import Memory
    from .ports import SessionPort, WorkflowPort
    from .world import World

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
I8 = NDArray[np.int8]
Mask = NDArray[np.bool_]
Factor = float | F64


class Word(IntEnum):
    """An integer code that is written as a word in scenarios: ``RATE_LIMITED`` is ``rate-limited``."""

    @property
    def word(self) -> str:
        """The name as it is written in a scenario."""
        return self.name.lower().replace("_", "-")

    @classmethod
    def words(cls) -> tuple[str, ...]:
        """All names as they are written in a scenario."""
        return tuple(member.word for member in cls)

    @classmethod
    def parse(cls, value: object) -> Self:
        """Return the member called ``value`` (its word, or the member itself).

        Raises:
            FaultError: if there is no such member, naming those there are.
        """
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            name = value.upper().replace("-", "_")
            if name in cls.__members__:
                return cls[name]
        raise FaultError(f"{value!r} is not a {cls.__name__.lower()}; allowed: {', '.join(cls.words())}")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """Let pydantic read the words and write them into a JSON schema."""
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(
            cls.parse, json_schema_input_schema=core_schema.literal_schema(list(cls.words()))
        )


class Status(Word):
    """How a call ends, as its caller sees it."""

    RUNNING = 0
    OK = 1
    TIMEOUT = 2
    RESET = 3
    SERVER_ERROR = 4
    BAD_GATEWAY = 5
    UNAVAILABLE = 6
    RATE_LIMITED = 7
    UNEXPECTED = 8
    MALFORMED = 9
    EMPTY = 10
    PARTIAL = 11
    REFUSED = 12
    CANCELLED = 13
    UNAUTHORIZED = 14
    FORBIDDEN = 15
    NOT_FOUND = 16
    CONFLICT = 17
    UNPROCESSABLE = 18
    LOCKED = 19
    PENDING = 20


class Verb(Word):
    """What a call asks for."""

    LAUNCH = 0
    REPAIR = 1
    JUDGE = 2
    ESCALATE = 3
    FETCH = 4
    VALIDATE = 5
    CALL = 6
    VERIFY = 7
    REFRESH = 8
    RESYNC = 9
    COMPENSATE = 10
    CLARIFY = 11


ROUTED = (Verb.LAUNCH, Verb.REPAIR)
"""Calls that bring an answer in the router."""
BUSINESS = (Verb.FETCH, Verb.CALL, Verb.VERIFY, Verb.COMPENSATE)
"""Calls to the services of a workflow."""
MACHINES = tuple(verb for verb in Verb if verb not in (Verb.ESCALATE, Verb.CLARIFY))
"""Calls that a machine answers."""


@dataclass(slots=True)
class Calls:
    """A batch of ``n`` calls being placed; a lane appears at most once in a batch.

    Effects change the arrays in place, so they must be owned and writable.

    Args:
        lanes: ``(n,)`` the lane that places each call.
        service: ``(n,)`` index in :class:`~brownout.faults.world.Services`.
        verb: ``(n,)`` a :class:`Verb`.
        number: ``(n,)`` how many calls of this lane went to that service before: 0, 1, ...
        started_s: ``(n,)`` virtual time in the episode, seconds.
        latency_s: ``(n,)`` seconds until the caller has an answer or an error.
        cost_usd: ``(n,)`` what the call is billed.
        status: ``(n,)`` a :class:`Status`.
        right: ``(n,)`` hidden truth: the answer is right (judge calls: the judged answer is right).
        applied: ``(n,)`` the server did the work, so it is billed and took effect.
        pass_probability: ``(n,)`` judge calls: probability that the verdict is "accept".
        retry_after_s: ``(n,)`` seconds after which the server invites a retry; 0 means it does not say.
        concurrent: ``(n,)`` calls of the same family already running in that lane.
        quality: ``(n,)`` hidden quality of the answer in [0, 1], where the scenario has it.
        memory: what the fault remembers per lane, set while it strikes.
        world: the environment, set while a fault strikes; effects reach its ports through :attr:`session` and
            :attr:`workflow`.
    """

    lanes: I64
    service: I64
    verb: I64
    number: I64
    started_s: F64
    latency_s: F64
    cost_usd: F64
    status: I8
    right: Mask
    applied: Mask
    pass_probability: F64
    retry_after_s: F64
    concurrent: I64
    memory: Memory | None = None
    quality: F64 | None = None
    world: World | None = None

    @classmethod
    def place(
        cls,
        lanes: ArrayLike,
        service: ArrayLike = 0,
        verb: ArrayLike = Verb.LAUNCH,
        number: ArrayLike = 0,
        started_s: ArrayLike = 0.0,
        latency_s: ArrayLike = 1.0,
        cost_usd: ArrayLike = 0.01,
        right: ArrayLike = True,
        pass_probability: ArrayLike = 0.0,
        concurrent: ArrayLike = 0,
    ) -> Calls:
        """Build a batch of healthy calls; scalars are repeated for all ``lanes``."""
        rows = np.atleast_1d(np.asarray(lanes, dtype=np.int64))

        def column(value: ArrayLike, dtype: type) -> NDArray[Any]:
            out = np.empty(rows.shape, dtype)
            out[...] = value
            return out

        return cls(
            lanes=rows.copy(),
            service=column(service, np.int64),
            verb=column(verb, np.int64),
            number=column(number, np.int64),
            started_s=column(started_s, np.float64),
            latency_s=column(latency_s, np.float64),
            cost_usd=column(cost_usd, np.float64),
            status=column(Status.OK, np.int8),
            right=column(right, np.bool_),
            applied=column(True, np.bool_),
            pass_probability=column(pass_probability, np.float64),
            retry_after_s=column(0.0, np.float64),
            concurrent=column(concurrent, np.int64),
        )

    def __len__(self) -> int:
        return self.lanes.shape[0]

    def select(self, rows: NDArray[Any]) -> Calls:
        """Return a copy of some rows (indices or a mask)."""
        if rows.dtype == np.bool_:
            rows = rows.nonzero()[0]
        return Calls(
            self.lanes.take(rows),
            self.service.take(rows),
            self.verb.take(rows),
            self.number.take(rows),
            self.started_s.take(rows),
            self.latency_s.take(rows),
            self.cost_usd.take(rows),
            self.status.take(rows),
            self.right.take(rows),
            self.applied.take(rows),
            self.pass_probability.take(rows),
            self.retry_after_s.take(rows),
            self.concurrent.take(rows),
            self.memory,
            None if self.quality is None else self.quality.take(rows),
            self.world,
        )

    def assign(self, rows: NDArray[Any], sub: Calls) -> None:
        """Write what a fault may change of ``sub`` back into some rows (indices or a mask)."""
        self.latency_s[rows] = sub.latency_s
        self.cost_usd[rows] = sub.cost_usd
        self.status[rows] = sub.status
        self.right[rows] = sub.right
        self.applied[rows] = sub.applied
        self.pass_probability[rows] = sub.pass_probability
        self.retry_after_s[rows] = sub.retry_after_s
        if self.quality is not None:
            self.quality[rows] = sub.quality

    @property
    def session(self) -> SessionPort:
        """The port of token, context and locks, for effects that declare the port ``session``."""
        return self.world.session  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue]

    @property
    def workflow(self) -> WorkflowPort:
        """The port of steps and the request, for effects that declare the port ``workflow``."""
        return self.world.workflow  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue]

    # The vocabulary of effects. ``where`` is an (n,) mask; None means all rows.

    def fail(
        self,
        status: Status,
        latency_s: ArrayLike | None = None,
        applied: bool | Mask = False,
        retry_after_s: ArrayLike = 0.0,
        where: Mask | None = None,
    ) -> None:
        """End the call with an error that its caller sees.

        Args:
            status: how it ends.
            latency_s: seconds until the caller knows; None keeps the latency of the healthy call.
            applied: whether the server did the work first. If not, the call costs nothing; if it did, it is
                billed in full.
            retry_after_s: seconds after which a retry is invited, 0 for none.
            where: rows to fail.
        """
        mask: Any = True if where is None else where
        np.copyto(self.status, np.int8(status), where=mask)
        self._ruin(mask)
        if latency_s is not None:
            np.copyto(self.latency_s, latency_s, where=mask)
        if applied is not True:
            np.copyto(self.applied, self.applied & applied, where=mask)
            np.copyto(self.cost_usd, 0.0, where=mask & ~self.applied)
        np.copyto(self.retry_after_s, retry_after_s, where=mask)

    def delay(self, seconds: Factor = 0.0, factor: Factor = 1.0, where: Mask | None = None) -> None:
        """Make the answer come later: ``latency * factor + seconds``."""
        np.copyto(self.latency_s, self.latency_s * factor + seconds, where=True if where is None else where)

    def charge(self, factor: Factor, where: Mask | None = None) -> None:
        """Multiply what the call is billed."""
        np.copyto(self.cost_usd, self.cost_usd * factor, where=True if where is None else where)

    def spoil(self, where: Mask | None = None) -> Mask:
        """Make the answer wrong without a sign of it; return the rows that were right (or of any quality) before."""
        good = self.right if self.quality is None else self.quality > 0.0
        hit = good.copy() if where is None else good & where
        self._ruin(hit)
        return hit

    def skip(self, where: Mask | None = None, billed: bool = False) -> None:
        """Do nothing and report success: not applied, no right answer, status unchanged; free unless ``billed``."""
        mask: Any = True if where is None else where
        self._ruin(mask)
        np.copyto(self.applied, False, where=mask)
        if not billed:
            np.copyto(self.cost_usd, 0.0, where=mask)

    def _ruin(self, where: Any) -> None:
        """Leave nothing right about the answer."""
        np.copyto(self.right, False, where=where)
        if self.quality is not None:
            np.copyto(self.quality, 0.0, where=where)

    def sway(self, shift: Factor, where: Mask | None = None) -> None:
        """Shift the probability that a judge accepts (where answers have a quality: its score), within 0 and 1."""
        moved = np.minimum(np.maximum(self.pass_probability + shift, 0.0), 1.0)
        np.copyto(self.pass_probability, moved, where=True if where is None else where)


CALL_FIELDS: tuple[str, ...] = tuple(
    field.name for field in fields(Calls) if field.name not in ("memory", "quality", "world")
)
