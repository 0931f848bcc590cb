"""What a workflow policy sees: the observation columns, their values, and the mask of allowed actions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..faults import Status
from ..scenarios.columns import Column
from .lanes import I64, Bools
from .rows import any_of, sum_of

if TYPE_CHECKING:
    from .workflow_state import WorkflowState

_CAP = 1e6
_NEVER = 1e6
MAX_STEPS = 100_000.0
_KNOWN = ("unseen", "fetched", "checked", "assured", "flagged", "repaired", "stuck")
_ANSWERS: dict[str, tuple[Status, ...]] = {
    "ok": (Status.OK,),
    "lost": (Status.TIMEOUT, Status.RESET, Status.MALFORMED, Status.EMPTY, Status.PARTIAL, Status.UNEXPECTED),
    "down": (Status.SERVER_ERROR, Status.BAD_GATEWAY, Status.UNAVAILABLE, Status.RATE_LIMITED, Status.REFUSED),
    "unauthorized": (Status.UNAUTHORIZED,),
    "forbidden": (Status.FORBIDDEN,),
    "not_found": (Status.NOT_FOUND,),
    "conflict": (Status.CONFLICT,),
    "unprocessable": (Status.UNPROCESSABLE,),
    "locked": (Status.LOCKED,),
    "pending": (Status.PENDING,),
}
_BITS = 5  # a step needs at most 31 fields of one state, or the count stops there
_MOST = (1 << _BITS) - 1


class WorkflowView:
    """Turns the state of a :class:`~brownout.envs.workflow_state.WorkflowState` into observations and masks.

    Args:
        core: the core to look at.
    """

    def __init__(self, core: WorkflowState) -> None:
        self._core = core
        spec, t = core.spec, core.num_steps
        self._memory_s = min(2.0 * spec.limits.deadline_s, _NEVER)
        self._person, self._requester = spec.person is not None, spec.requester is not None
        self._patience = 0 if spec.requester is None else spec.requester.patience
        self._needs_any = core.needs.any(axis=1)
        self._weight = np.int64(1) << (_BITS * np.arange(len(_KNOWN), dtype=np.int64))
        answers = np.zeros((len(Status), len(_ANSWERS)), np.float32)
        for column, statuses in enumerate(_ANSWERS.values()):
            answers[list(statuses), column] = 1.0
        self._answers = answers
        self._failure = np.ones(len(Status), np.bool_)
        self._failure[[Status.RUNNING, Status.OK, Status.PENDING]] = False
        waits = [step.approval_s is not None for step in spec.steps.values()]
        self._facts = np.concatenate(
            [
                np.eye(t + 1, t),
                np.column_stack([core.writes, core.keyed, core.natural, core.compensable, [*waits, False]]),
            ],
            axis=1,
        ).astype(np.float32)
        self._count = np.zeros(core.num_lanes, np.int64)  # fields of the current step by state, packed
        self._progress = np.zeros(core.num_lanes, np.int64)  # steps by belief, packed
        self._by_belief = np.array([0, *(1 << (_BITS * np.arange(4)))], np.int64)
        m = self._memory_s
        self.columns = (
            Column("steps_left", "count", 0.0, MAX_STEPS),
            Column("clock", "s", 0.0, _CAP),
            Column("spend", "USD", 0.0, _CAP),
            Column("budget_left", "USD", 0.0, _CAP),
            Column("deadline_left", "s", 0.0, _CAP),
            Column("per_usd", "utility/USD", 0.0, _CAP),
            Column("per_s", "utility/s", 0.0, _CAP),
            Column("token_left", "s", 0.0, _CAP),
            Column("since_resync", "s", 0.0, m),
            Column("context", "share", 0.0, 1.0),
            Column("messages", "count", 0.0, _CAP),
            Column("questions_left", "count", 0.0, 16.0),
            Column("cheap_last", "flag", 0.0, 1.0),
            Column("strong_last", "flag", 0.0, 1.0),
            Column("done", "count", 0.0, t),
            Column("unknown", "count", 0.0, t),
            Column("remaining", "count", 0.0, t),
            Column("ready", "count", 0.0, t),
            Column("in_flight", "count", 0.0, t),
            Column("unverified", "count", 0.0, t),
            Column("excess", "count", 0.0, t),
            Column("step.unknown", "flag", 0.0, 1.0),
            Column("step.attempts", "count", 0.0, MAX_STEPS),
            Column("step.excess", "count", 0.0, MAX_STEPS),
            Column("step.failed", "flag", 0.0, 1.0),
            Column("since_failure", "s", 0.0, m),
            Column("retry_in", "s", 0.0, m),
            *(Column(f"fields.{name}", "count", 0.0, float(_MOST)) for name in _KNOWN),
            *(Column(f"last.{name}", "flag", 0.0, 1.0) for name in _ANSWERS),
            *(Column(f"at.{name}", "flag", 0.0, 1.0) for name in core.step_names),
            *(
                Column(f"step.{name}", "flag", 0.0, 1.0)
                for name in ("writes", "keyed", "natural", "compensable", "waits")
            ),
            *(Column(f"{name}.belief", "code", 0.0, 4.0) for name in core.step_names),
        )
        self._plain = next(i for i, column in enumerate(self.columns) if column.name.startswith("last."))

    def observe(self, lanes: I64 | None) -> NDArray[np.float32]:
        """Fill one row per lane."""
        core = self._core
        everything = lanes is None

        rows = core.all_lanes if lanes is None else lanes

        def of(array: NDArray) -> NDArray:
            return array if everything else array.take(rows, axis=0)

        n, t, w = len(rows), core.num_steps, core.num_steps + 1
        out = np.empty((n, len(self.columns)), np.float32)
        cursor, clock, spend = of(core.cursor), of(core.clock), of(core.spend)
        cell = rows * w + cursor
        # rows here are columns there: whole rows are quicker to fill than strided columns
        plain = np.empty((self._plain, n), np.float32)
        preferences = core.preferences
        plain[0] = core.max_steps - of(core.steps)
        plain[1] = clock
        plain[2] = spend
        plain[3] = of(preferences["budget_usd"]) - spend
        plain[4] = of(preferences["deadline_s"]) - clock
        plain[5] = of(preferences["per_usd"])
        plain[6] = of(preferences["per_s"])
        plain[7] = of(core.token_known) - clock
        plain[8] = clock - of(core.synced_at)
        np.minimum(plain[8], self._memory_s, out=plain[8])
        bounded = plain[1:9]
        np.maximum(bounded, 0.0, out=bounded)
        np.minimum(bounded, _CAP, out=bounded)
        plain[9] = of(core.context)
        plain[10] = of(core.messages)
        np.maximum(self._patience - of(core.questions), 0, out=plain[11], casting="unsafe")
        reasoner = of(core.reasoner)
        plain[12] = reasoner == 1
        plain[13] = reasoner == 2
        belief = of(core.belief)
        steps = belief[:, :t]
        progress = of(self._progress)
        done, unknown, flying, skipped, unread, excess = (
            (progress >> (_BITS * i)) & _MOST for i in range(6)
        )  # fmt: skip
        plain[14] = done
        plain[15] = unknown
        plain[16] = t - done - skipped
        plain[17] = of(core.ready_count)
        plain[18] = flying
        plain[19] = unread
        plain[20] = excess
        plain[21] = (core.belief.reshape(-1).take(cell) == 2) & (cursor < t)
        plain[22] = core.attempts.reshape(-1).take(cell)
        plain[23] = core.excess.reshape(-1).take(cell)
        since = clock - of(core.failed_at)
        plain[24] = self._failure.take(core.status.reshape(-1).take(cell))
        plain[25] = np.minimum(since, self._memory_s, out=since)
        retry = of(core.retry_at) - clock
        np.maximum(retry, 0.0, out=retry)
        plain[26] = np.minimum(retry, self._memory_s, out=retry)
        count = of(self._count)
        for i in range(len(_KNOWN)):
            plain[27 + i] = (count >> (_BITS * i)) & _MOST
        out[:, : self._plain] = plain.T
        a = self._plain + len(_ANSWERS)
        b = a + self._facts.shape[1]
        out[:, self._plain : a] = self._answers.take(of(core.answer), axis=0)
        out[:, a:b] = self._facts.take(cursor, axis=0)
        out[:, b:] = steps
        return out

    def _count_fields(self, rows: I64, cursor: I64, lanes: I64 | None) -> I64:
        """Count the fields of the current step by what is known of them, five bits for each state."""
        core = self._core
        known = core.known if lanes is None else core.known.take(rows, axis=0)
        weight = self._weight.take(known)
        weight *= core.needs.take(cursor, axis=0)
        count = sum_of(weight)
        if lanes is None:
            self._count = count
        else:
            self._count[lanes] = count
        return count

    def _count_steps(self, belief: NDArray, verified: Bools, excess: I64, lanes: I64 | None) -> I64:
        """Count steps by belief, those done and not read back, those with effects to undo, five bits for each."""
        weight = self._by_belief.take(belief)
        weight += ((belief == 1) & self._core.writes & ~verified) * np.int64(1 << (4 * _BITS))
        weight += (excess > 0) * np.int64(1 << (5 * _BITS))
        progress = sum_of(weight)
        if lanes is None:
            self._progress = progress
        else:
            self._progress[lanes] = progress
        return progress

    def legal(self, lanes: I64 | None) -> Bools:
        """Which actions make sense now; ``finish`` and ``abort`` always do, so no row is all False."""
        core = self._core

        def of(array: NDArray) -> NDArray:
            return array if lanes is None else array.take(lanes, axis=0)

        rows = core.all_lanes if lanes is None else lanes
        cursor = of(core.cursor)
        count = self._count_fields(rows, cursor, lanes)
        unseen, fetched, checked, _, flagged, repaired, _ = ((count >> (_BITS * i)) & _MOST for i in range(len(_KNOWN)))
        t = core.num_steps
        cell = rows * (t + 1) + cursor
        has = cursor < t
        belief = of(core.belief)
        progress = self._count_steps(belief, of(core.verified), of(core.excess), lanes)
        doubt = has & (core.belief.reshape(-1).take(cell) == 2)
        out = np.empty((len(core.action_names), len(rows)), np.bool_)
        out[0] = self._needs_any.take(cursor)
        fresh = fetched + repaired
        out[1] = fresh > 0
        out[2] = (fresh + checked) > 0
        out[3] = out[4] = flagged > 0
        out[5] = out[6] = out[7] = has & (unseen == 0)
        out[8] = ((progress >> (4 * _BITS)) & _MOST > 0) | core.writes.take(cursor)
        out[9] = out[10] = True
        out[11] = any_of((of(core.excess) > 0) & core.compensable) | (doubt & core.compensable.take(cursor))
        out[12] = has & (of(core.questions) < self._patience)
        failed = self._failure.take(of(core.answer))
        out[13] = ((progress >> (2 * _BITS)) & _MOST > 0) | failed
        out[14] = of(core.ready_count) > 1
        out[15] = self._person
        out[16] = out[17] = True
        return np.ascontiguousarray(out.T)
