"""What the agent learns from calls: fields, verdicts, repairs, and what became of a step.

Everything here moves what the agent holds (:class:`~brownout.envs.workflow_state.Known`,
:class:`~brownout.envs.workflow_state.Belief`); what is true on the servers was settled before, in
:mod:`brownout.envs.workflow_core`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..faults import Calls, Status
from .lanes import F64, I64, Bools
from .rows import any_of
from .streams import uniform
from .workflow_state import (
    CHECKED,
    DONE,
    FETCHED,
    FLAGGED,
    IN_FLIGHT,
    REPAIRED,
    SLIPPED,
    STUCK,
    TODO,
    UNKNOWN,
    UNSEEN,
    Kind,
    WorkflowState,
    at,
    flat,
)

_OK, _PENDING = np.int8(Status.OK), np.int8(Status.PENDING)
_FETCH, _VALIDATE, _REPAIR, _CALL, _LAST_CALL, _VERIFY, _REFRESH, _RESYNC, _COMPENSATE, _CLARIFY = (
    int(kind)
    for kind in (Kind.FETCH, Kind.VALIDATE_CHEAP, Kind.REPAIR_CHEAP, Kind.CALL_CHEAP, Kind.DISPATCH, Kind.VERIFY,
                 Kind.REFRESH, Kind.RESYNC, Kind.COMPENSATE, Kind.CLARIFY)
)  # fmt: skip
_KINDS = int(Kind.NOTHING)
_NOBODY = np.zeros(0, np.int64)
# answers after which the work may or may not have been done
_DOUBTFUL = np.zeros(len(Status), np.bool_)
_DOUBTFUL[[Status.TIMEOUT, Status.RESET, Status.SERVER_ERROR, Status.BAD_GATEWAY, Status.UNEXPECTED, Status.MALFORMED,
           Status.EMPTY, Status.PARTIAL]] = True  # fmt: skip


def _is_flagged(known: NDArray[np.int8]) -> Bools:
    """Fields that are known to be wrong, or taken to be."""
    return (known == FLAGGED) | (known == STUCK)


class WorkflowLearning(WorkflowState):
    """The part of the physics that writes into what the agent holds."""

    # ---------------------------------------------------------------- which step is meant

    def to_verify(self, rows: I64) -> I64:
        """The step that ``verify`` reads back: the current one if it is in doubt, else the first write that was
        reported done and not read back, else the current one."""
        cursor = self.cursor.take(rows)
        belief = self.belief.take(rows, axis=0)
        open_ = (belief == DONE) & ~self.verified.take(rows, axis=0) & self.writes
        doubt = belief[np.arange(len(rows)), cursor] == UNKNOWN
        return np.where(~doubt & any_of(open_), open_.argmax(axis=1), cursor)

    def to_compensate(self, rows: I64) -> I64:
        """The step that ``compensate`` undoes: the first with too much of it that can be undone, else the current."""
        over = (self.excess.take(rows, axis=0) > 0) & self.compensable
        return np.where(any_of(over), over.argmax(axis=1), self.cursor.take(rows))

    # ---------------------------------------------------------------- answers

    def _learn(self, rows: I64, kind: I64, step: I64, record: I64, calls: Calls, keeps: Bools, luck: F64) -> None:
        """Take note of what came back."""
        self._note_status(rows, step, calls.status, calls.retry_after_s)
        ok = calls.status == _OK
        present = np.bincount(kind, minlength=_KINDS).tolist()
        if any(present[_CALL : _LAST_CALL + 1]):
            chosen = ((kind >= _CALL) & (kind <= _LAST_CALL)).nonzero()[0]
            self.attempts[rows[chosen], step[chosen]] += 1
            self._conclude(rows[chosen], step[chosen], calls.status[chosen])
        if present[_COMPENSATE]:
            self._learn_undo(rows, step, keeps, calls.status, kind == _COMPENSATE)

        def of(first: int, last: int) -> I64:
            if not any(present[first : last + 1]):
                return _NOBODY
            return ((kind >= first) & (kind <= last) & ok).nonzero()[0]

        chosen = of(_FETCH, _FETCH)
        if chosen.size:
            self._learn_fetch(rows[chosen], step[chosen], record[chosen], calls.right[chosen])
        chosen = of(_VALIDATE, _VALIDATE + 1)
        if chosen.size:
            strong = kind[chosen] - _VALIDATE
            self._learn_validate(rows[chosen], step[chosen], strong, calls.right[chosen], luck[chosen])
        chosen = of(_REPAIR, _REPAIR + 1)
        if chosen.size:
            self._learn_repair(rows[chosen], step[chosen], kind[chosen] - _REPAIR, calls.right[chosen])
        chosen = of(_VERIFY, _VERIFY)
        if chosen.size:
            self._learn_verify(rows[chosen], step[chosen])
        chosen = of(_REFRESH, _REFRESH)
        if chosen.size:
            lanes = rows[chosen]
            now = self.clock.take(lanes)
            self.token_known[lanes] = now + self.spec.token.ttl_s
            self.token_until[lanes] = np.where(calls.right[chosen], self.token_known[lanes], now)
        chosen = of(_RESYNC, _RESYNC)
        if chosen.size:
            self._learn_resync(rows[chosen])
        if present[_CLARIFY]:
            self.questions[rows[kind == _CLARIFY]] += 1
            chosen = of(_CLARIFY, _CLARIFY)
            self._learn_clarify(rows[chosen], step[chosen])

    def _note_status(self, rows: I64, step: I64, status: NDArray[np.int8], retry_after: F64) -> None:
        places, cell = flat(self.status, rows, step)
        places[cell] = status
        self.answer[rows] = status
        failed = (status != _OK) & (status != _PENDING)
        if failed.any():
            lanes = rows[failed]
            clock = self.clock.take(lanes)
            self.failed_at[lanes] = clock
            self.retry_at[lanes] = clock + retry_after[failed]

    def _conclude(self, rows: I64, step: I64, status: NDArray[np.int8]) -> None:
        """Form a belief about a step from the status of a call that was to carry it out."""
        belief, cell = flat(self.belief, rows, step)
        doubt = _DOUBTFUL.take(status) & self.writes.take(step)
        now = np.where(doubt, UNKNOWN, belief.take(cell))
        now = np.where(status == _OK, DONE, now)
        belief[cell] = np.where(status == _PENDING, IN_FLIGHT, now)
        self.verified.reshape(-1)[cell] = False
        done = status == _OK
        if self.decision_names and done.any():
            self._hear_decisions(rows[done], step[done])

    def _hear_decisions(self, rows: I64, step: I64) -> None:
        """Take over what a step found out; a step that worked on wrong data, or never ran, found out the opposite."""
        for index, by in enumerate(self.decided_by.tolist()):
            lanes = rows[step == by]
            if not lanes.size:
                continue
            sound = (self.applied[lanes, by] > 0) & (self.bad[lanes, by] == 0)
            self.told[lanes, index] = np.where(self.facts[lanes, index] == sound, 1, 2)
            self.rule_out(lanes)

    def _land(self, rows: I64, step: I64) -> None:
        """Take the answer of a call that ran in the background or waited for an approval."""
        status = self.flight_status[rows, step]
        retry = self.flight_retry[rows, step]
        self.flight_until[rows, step] = np.inf
        belief, cell = flat(self.belief, rows, step)
        belief[cell] = TODO
        self._note_status(rows, step, status, retry)
        self._conclude(rows, step, status)
        if self._tells(rows):
            name, word = self.step_names[int(step[0])], Status(int(status[0])).word
            self._say(f"{name} in the background: {word.replace('-', ' ')}")

    # ---------------------------------------------------------------- fields

    def _learn_fetch(self, rows: I64, step: I64, record: I64, right: Bools) -> None:
        """Read a record. Of two readings of one version the better one is kept, so reading again never hurts."""
        mine = self.fields_of_record.take(record, axis=0)
        version, cell = flat(self.version, rows, record)
        snapshot = self.snapshot.reshape(-1)
        moved = snapshot.take(cell) != version.take(cell)
        known, wrong = self.known.take(rows, axis=0), self.wrong.take(rows, axis=0)
        caught_up = self._serve(rows, record, mine) if self.lag.any() else None
        dirty = self.dirt.take(rows, axis=0) != 0
        now = dirty | self.foreign.take(rows)[:, None]
        spoilt = ~right
        if spoilt.any():
            hit = spoilt.nonzero()[0]
            now[hit, self.first_need[step[hit], record[hit]]] = True
        fresh = mine & (moved[:, None] | (known == UNSEEN))
        if caught_up is not None:
            fresh |= caught_up & wrong
        again = mine & ~fresh
        shows = dirty & self.visible.take(rows, axis=0)
        better = again & wrong & ~now & _is_flagged(known)
        known = np.where(fresh, np.where(shows, FLAGGED, FETCHED), np.where(better, FETCHED, known))
        self.known[rows] = known
        self.wrong[rows] = np.where(fresh, now, wrong & (now | ~again))
        snapshot[cell] = version.take(cell)
        order = self.read_order.take(rows, axis=0)
        self.read_order.reshape(-1)[cell] = order.max(axis=1) + 1
        self._hear_changes(rows, self.changed.take(rows, axis=0) & self.reads.T.take(record, axis=0))

    def _serve(self, rows: I64, record: I64, mine: Bools) -> Bools:
        """Let the reads of ``record`` bring the earlier version as often as they must, then the present one.

        Returns:
            ``(n, F)`` fields that have just come to be right.
        """
        served, cell = flat(self.served, rows, record)
        reads, lag = served.take(cell), self.lag.take(rows, axis=0)
        old = mine & (lag > 0)
        caught_up = old & (lag <= reads[:, None])
        self.lag[rows] = np.where(caught_up, 0, lag)
        self.dirt[rows] = np.where(caught_up, 0, self.dirt.take(rows, axis=0))
        old &= ~caught_up
        behind = any_of(old)
        served[cell] = reads + behind
        self.behind.reshape(-1)[cell] = behind
        return caught_up

    def _field_draws(self, streams: NDArray[np.uint64], rows: I64) -> F64:
        """One number per field of each lane: a second look at one version of a record sees the same."""
        return uniform(self.keys.take(rows)[:, None], streams, self.field_flags(self.version, rows))

    def _learn_validate(self, rows: I64, step: I64, strong: I64, right: Bools, luck: F64) -> None:
        """Look at the fields that the step needs, and for instructions that do not belong there."""
        detect = self.detect.take(strong) * (1.0 - self.context.take(rows) * self.spec.session.confusion)
        u = self._field_draws(self._look.take(strong, axis=0), rows)
        known, wrong = self.known.take(rows, axis=0), self.wrong.take(rows, axis=0)
        looked = self.needs.take(step, axis=0) & (known != UNSEEN) & ~_is_flagged(known)
        odd = np.where(wrong, u < detect[:, None], u >= 1.0 - self.false_alarm.take(strong)[:, None])
        odd &= right[:, None]
        passed = np.maximum(known, (CHECKED + strong)[:, None])
        self.known[rows] = np.where(looked, np.where(odd, FLAGGED, passed), known)
        caught = (luck < detect) & right
        self.planted[rows] &= ~(caught[:, None] & self.reads.take(step, axis=0))

    def _learn_repair(self, rows: I64, step: I64, strong: I64, right: Bools) -> None:
        """Repair the flagged fields that the step needs. Where it fails, the reasoner admits it or is fooled."""
        u = self._field_draws(self._mend.take(strong, axis=0), rows)
        known, wrong = self.known.take(rows, axis=0), self.wrong.take(rows, axis=0)
        worked = self.needs.take(step, axis=0) & (known == FLAGGED)
        # what came wrong over the wire stands right on the server, so there is something to repair it from
        mendable = self.repairable.take(rows, axis=0) | (self.dirt.take(rows, axis=0) == 0)
        mend, detect = self.mend.take(strong)[:, None], self.detect.take(strong)[:, None]
        mended = (u < mend) & mendable & right[:, None]
        admits = ~mended & (u < mend + (1.0 - mend) * detect) & wrong
        tried = np.where(strong[:, None] > 0, STUCK, FLAGGED)
        self.known[rows] = np.where(worked, np.where(admits, tried, REPAIRED), known)
        self.wrong[rows] = wrong & ~(worked & mended)

    def _learn_clarify(self, rows: I64, step: I64) -> None:
        """Ask the requester: the flagged fields of the step, and whether anything at all has changed."""
        u = self._field_draws(self._knows[0], rows)
        known = self.known.take(rows, axis=0)
        asked = self.needs.take(step, axis=0) & _is_flagged(known)
        assert self.spec.requester is not None
        told = asked & (u < self.spec.requester.knows)
        self.known[rows] = np.where(told, REPAIRED, known)
        self.wrong[rows] &= ~told
        self._hear_changes(rows, self.changed.take(rows, axis=0))

    def _hear_changes(self, rows: I64, heard: Bools) -> None:
        """Learn what has changed about ``(n, W)`` steps: what was done the old way is in doubt."""
        self.messages[rows] = 0
        if heard.any():
            self.changed[rows] &= ~heard
            self.verified[rows] &= ~heard

    # ---------------------------------------------------------------- steps and session

    def _learn_verify(self, rows: I64, step: I64) -> None:
        """Read back what stands, and compare it with what the agent holds and with the versions of today."""
        count, stray = at(self.applied, rows, step), at(self.stray, rows, step)
        bad = at(self.bad, rows, step)
        need = self.needs.take(step, axis=0)
        holds = ~any_of(need & self.wrong.take(rows, axis=0))
        holds &= ~at(self.changed, rows, step) & ~self.misled(rows, step)
        amiss = (bad == SLIPPED) | ((bad != 0) & holds)
        amiss &= (count > 0) & self.writes.take(step)
        natural = self.natural.take(step)
        due, now = at(self.stands_at, rows, step), self.clock.take(rows)
        waits = (count > 0) & (due > now) & self.writes.take(step)
        good = (count > 0) & ~amiss & ~waits
        excess = np.where(amiss & ~natural, count, np.maximum(count - 1, 0)) + stray
        places, cell = flat(self.belief, rows, step)
        places[cell] = np.where(good, DONE, TODO)
        self.verified.reshape(-1)[cell] = good
        self.excess.reshape(-1)[cell] = np.where(self.writes.take(step) & ~waits, excess, 0)
        if waits.any():
            lanes, place = rows[waits], step[waits]
            self.belief[lanes, place] = IN_FLIGHT
            self.flight_until[lanes, place] = due[waits]
            self.flight_status[lanes, place], self.flight_retry[lanes, place] = _OK, 0.0
        if self.decision_names and good.any():
            self._hear_decisions(rows[good], step[good])
        self._forget(rows, self.old_copies(rows) & self.reads.take(step, axis=0))

    def _forget(self, rows: I64, old: Bools) -> None:
        """Take note that ``(n, R)`` records have moved on: their fields must be read again."""
        if not old.any():
            return
        self.known[rows] = np.where(old.take(self.record_of, axis=1), UNSEEN, self.known.take(rows, axis=0))
        for array in (self.snapshot, self.read_order):
            array[rows] = np.where(old, -1, array.take(rows, axis=0))
        self.behind[rows] &= ~old

    def misled(self, rows: I64, step: I64) -> Bools:
        """Whether a step builds on a read that was made with wrong data."""
        wrong = (self.applied.take(rows, axis=0) == 0) | (self.bad.take(rows, axis=0) != 0)
        return any_of(wrong & self.sources.take(step, axis=0))

    def outdated(self, rows: I64) -> Bools:
        """Records that have moved on since the agent read them, ``(n, R)``."""
        snapshot = self.snapshot.take(rows, axis=0)
        return (snapshot >= 0) & (snapshot != self.version.take(rows, axis=0))

    def old_copies(self, rows: I64) -> Bools:
        """Records that the agent holds in another version than the present one, ``(n, R)``."""
        return self.outdated(rows) | self.behind.take(rows, axis=0)

    def _learn_undo(self, rows: I64, step: I64, keeps: Bools, status: NDArray[np.int8], undo: Bools) -> None:
        """Believe what the service says: that the surplus, or the whole step, is undone; doubt a lost answer."""
        told = undo & ((status == _OK) | _DOUBTFUL.take(status))
        rows, step, keeps, ok = rows[told], step[told], keeps[told], status[told] == _OK
        self.belief[rows, step] = np.where(ok, np.where(keeps, DONE, TODO), UNKNOWN)
        self.verified[rows, step] = False
        self.excess[rows, step] = 0

    def _learn_resync(self, rows: I64) -> None:
        """Set up the session anew: own customer, no drafts, present interface, empty context, known versions."""
        self.foreign[rows] = False
        self.draft[rows] = False
        self.renamed[rows] = False
        self.context[rows] = 0.0
        self.synced_at[rows] = self.clock[rows]
        self._forget(rows, self.old_copies(rows))

    def _tell(self, kind: Kind, step: int, record: int, status: Status) -> None:
        """Write a line about lane 0's call."""
        word = self.action_names[kind]
        if kind == Kind.FETCH:
            what = self.record_names[record]
        elif kind in (Kind.REFRESH, Kind.RESYNC, Kind.CLARIFY) or step == self.num_steps:
            what = ""
        else:
            what = self.step_names[step]
        self._say(f"{word} {what}".rstrip() + f": {status.word.replace('-', ' ')}")
