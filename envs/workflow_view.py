"""What a workflow policy sees: the observation columns, their values, and the mask of allowed actions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..faults import Status
from ..scenarios.columns import Column
from .account import ACCOUNT, CAP, MAX_STEPS, Logarithms, account_of, fill_account
from .lanes import I64, Bools
from .rows import any_of, sum_of

if TYPE_CHECKING:
    from .workflow_state import WorkflowState

_NEVER = 1e6
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
_BITS = 5  # for a count of steps
_MOST = (1 << _BITS) - 1
_FIELD_BITS = 4  # for a count of the fields that one step needs
_MOST_FIELDS = (1 << _FIELD_BITS) - 1


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
        self._fields_of = [row.nonzero()[0].tolist() for row in core.needs]
        self._writes: list[bool] = core.writes.tolist()
        self._weight = np.int32(1) << (_FIELD_BITS * np.arange(len(_KNOWN), dtype=np.int32))
        answers = np.zeros((len(Status), len(_ANSWERS)), np.float32)
        for column, statuses in enumerate(_ANSWERS.values()):
            answers[list(statuses), column] = 1.0
        self._answers = answers
        self._failure = np.ones(len(Status), np.bool_)
        self._failure[[Status.RUNNING, Status.OK, Status.PENDING]] = False
        self._failures: list[bool] = self._failure.tolist()
        waits = [step.approval_s is not None for step in spec.steps.values()]
        self._facts = np.concatenate(
            [
                np.eye(t + 1, t),
                np.column_stack([core.writes, core.keyed, core.natural, core.compensable, [*waits, False]]),
            ],
            axis=1,
        ).astype(np.float32)
        self._count = np.zeros(core.num_lanes, np.int32)  # fields of the current step by state, packed
        self._progress = np.zeros(core.num_lanes, np.int32)  # steps by belief, packed
        self._by_belief = np.array([0, *(1 << (_BITS * np.arange(4)))], np.int32)
        self._logarithms = Logarithms(core)
        m = self._memory_s
        self.columns = (
            *ACCOUNT,
            Column("token_left", "s", 0.0, CAP),
            Column("since_resync", "s", 0.0, m),
            Column("context", "share", 0.0, 1.0),
            Column("messages", "count", 0.0, CAP),
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
            *(Column(f"fields.{name}", "count", 0.0, float(_MOST_FIELDS)) for name in _KNOWN),
            *(Column(f"last.{name}", "flag", 0.0, 1.0) for name in _ANSWERS),
            *(Column(f"at.{name}", "flag", 0.0, 1.0) for name in core.step_names),
            *(
                Column(f"step.{name}", "flag", 0.0, 1.0)
                for name in ("writes", "keyed", "natural", "compensable", "waits")
            ),
            *(Column(f"{name}.belief", "code", 0.0, 4.0) for name in core.step_names),
            *self._logarithms.columns,
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
        cursor = of(core.cursor)
        cell = rows * w + cursor
        if n == 1:
            out[0, : self._plain] = self._one(int(rows[0]))
        else:
            out[:, : self._plain] = self._many(rows, of, cell)
        a = self._plain + len(_ANSWERS)
        b = a + self._facts.shape[1]
        out[:, self._plain : a] = self._answers.take(of(core.answer), axis=0)
        out[:, a:b] = self._facts.take(cursor, axis=0)
        out[:, b : b + t] = of(core.belief)[:, :t]
        self._logarithms.fill(out)
        return out

    def _many(self, rows: I64, of: Callable[[NDArray], NDArray], cell: I64) -> NDArray[np.float32]:
        """The columns before ``last.*`` of many lanes."""
        core = self._core
        n, t = len(rows), core.num_steps
        cursor, clock = of(core.cursor), of(core.clock)
        # rows here are columns there: whole rows are quicker to fill than strided columns
        plain = np.empty((self._plain, n), np.float32)
        fill_account(plain, core, of)
        plain[7] = of(core.token_known) - clock
        plain[8] = clock - of(core.synced_at)
        np.minimum(plain[8], self._memory_s, out=plain[8])
        bounded = plain[1:9]
        np.maximum(bounded, 0.0, out=bounded)
        np.minimum(bounded, CAP, out=bounded)
        plain[9] = of(core.context)
        plain[10] = of(core.messages)
        np.maximum(self._patience - of(core.questions), 0, out=plain[11], casting="unsafe")
        reasoner = of(core.reasoner)
        plain[12] = reasoner == 1
        plain[13] = reasoner == 2
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
            plain[27 + i] = (count >> (_FIELD_BITS * i)) & _MOST_FIELDS
        return plain.T

    def _one(self, lane: int) -> list[float]:
        """The same of one lane: plain numbers are quicker than arrays of one."""
        core = self._core
        t, clock, cursor = core.num_steps, core.clock.item(lane), core.cursor.item(lane)
        progress, count = self._progress.item(lane), self._count.item(lane)
        done, unknown, flying, skipped, unread, excess = ((progress >> (_BITS * i)) & _MOST for i in range(6))
        amounts = (
            *account_of(core, lane), core.token_known.item(lane) - clock,
            min(clock - core.synced_at.item(lane), self._memory_s),
        )  # fmt: skip
        reasoner = core.reasoner.item(lane)
        return [
            core.max_steps - core.steps.item(lane), *(min(max(x, 0.0), CAP) for x in amounts), core.context.item(lane),
            core.messages.item(lane), max(self._patience - core.questions.item(lane), 0), reasoner == 1, reasoner == 2,
            done, unknown, t - done - skipped, core.ready_count.item(lane), flying, unread, excess,
            cursor < t and core.belief.item(lane, cursor) == 2, core.attempts.item(lane, cursor),
            core.excess.item(lane, cursor), self._failures[core.status.item(lane, cursor)],
            min(clock - core.failed_at.item(lane), self._memory_s),
            min(max(core.retry_at.item(lane) - clock, 0.0), self._memory_s),
            *((count >> (_FIELD_BITS * i)) & _MOST_FIELDS for i in range(len(_KNOWN))),
        ]  # fmt: skip

    def _count_fields(self, rows: I64, cursor: I64, lanes: I64 | None) -> I64:
        """Count the fields of the current step by what is known of them, some bits for each state."""
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
        weight += ((belief == 1) & self._core.writes & ~verified) * np.int32(1 << (4 * _BITS))
        weight += (excess > 0) * np.int32(1 << (5 * _BITS))
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
        if len(rows) == 1:
            return self._legal_one(rows.item())
        cursor = of(core.cursor)
        count = self._count_fields(rows, cursor, lanes)
        progress = self._count_steps(of(core.belief), of(core.verified), of(core.excess), lanes)
        unseen, fetched, checked, _, flagged, repaired, _ = (
            (count >> (_FIELD_BITS * i)) & _MOST_FIELDS for i in range(len(_KNOWN))
        )
        t = core.num_steps
        cell = rows * (t + 1) + cursor
        has = cursor < t
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

    def _count_one(self, lane: int, cursor: int) -> tuple[int, int]:
        """Count fields and steps of one lane, in plain numbers."""
        core = self._core
        known = core.known[lane].tolist()
        count = sum(1 << (_FIELD_BITS * known[field]) for field in self._fields_of[cursor])
        progress = 0
        states = zip(
            core.belief[lane].tolist(), self._writes, core.verified[lane].tolist(), core.excess[lane].tolist(),
            strict=True,
        )  # fmt: skip
        for belief, writes, verified, excess in states:
            if belief:
                progress += 1 << (_BITS * (belief - 1))
                progress += (belief == 1 and writes and not verified) << (4 * _BITS)
            progress += (excess > 0) << (5 * _BITS)
        self._count[lane], self._progress[lane] = count, progress
        return count, progress

    def _legal_one(self, lane: int) -> Bools:
        """The mask of one lane, in plain numbers."""
        core, cursor = self._core, self._core.cursor.item(lane)
        count, progress = self._count_one(lane, cursor)
        unseen, fetched, checked, _, flagged, repaired, _ = (
            (count >> (_FIELD_BITS * i)) & _MOST_FIELDS for i in range(len(_KNOWN))
        )
        has = cursor < core.num_steps
        flying, unread, excess = ((progress >> (_BITS * i)) & _MOST for i in (2, 4, 5))
        work = has and unseen == 0
        undo = excess > 0 and bool(((core.excess[lane] > 0) & core.compensable).any())
        undo = undo or (has and core.belief.item(lane, cursor) == 2 and core.compensable.item(cursor))
        return np.array([[
            has and self._needs_any.item(cursor), fetched + repaired > 0, fetched + repaired + checked > 0, flagged > 0,
            flagged > 0, work, work, work, unread > 0 or core.writes.item(cursor), True, True, undo,
            has and core.questions.item(lane) < self._patience,
            flying > 0 or self._failures[core.answer.item(lane)], core.ready_count.item(lane) > 1, self._person, True,
            True,
        ]])  # fmt: skip
