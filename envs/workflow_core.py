"""Physics of the workflow: one call per step of the clock, over services, a session and records that misbehave.

A call goes through four stages. It is *placed* with the latency and price it would have in a healthy world; the fault
plan *strikes* it and may move hidden state; the server *admits* it or refuses it by that state (token, scope,
interface, input, draft, lock, version, arguments); what it did *takes effect* on the server, and only then the
agent *learns* what came back. An answer that is lost after the effect leaves the agent in doubt.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..faults import Calls, Status, Verb
from ..rewards.components import ACCURACY, COST_USD, HANDOFF, LATE_S, LATENCY_S, SAFETY
from .lanes import F64, I64, Bools
from .rows import any_of, sum_of, whole_rows
from .streams import uniform
from .workflow_learn import WorkflowLearning
from .workflow_state import (
    ABORTED,
    AS_HELD,
    DONE,
    DUPLICATE,
    ESCALATED,
    GARBAGE,
    LIMIT,
    PARTIAL,
    SLIPPED,
    SUCCESS,
    TODO,
    UNKNOWN,
    Kind,
    at,
    flat,
)

_VERB = np.array(
    [Verb.FETCH, Verb.VALIDATE, Verb.VALIDATE, Verb.REPAIR, Verb.REPAIR, Verb.CALL, Verb.CALL, Verb.CALL, Verb.VERIFY,
     Verb.REFRESH, Verb.RESYNC, Verb.COMPENSATE, Verb.CLARIFY], dtype=np.int64
)  # fmt: skip
_WRITER = np.array([0, 0, 0, 0, 0, 1, 2, 2, 0, 0, 0, 0, 0], dtype=np.int64)  # reasoner that writes the arguments
_THINKER = np.array([0, 1, 2, 1, 2, 1, 2, 2, 0, 0, 0, 0, 0], dtype=np.int64)  # reasoner in use
_FILLS = np.array([1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 0], dtype=np.float64)  # what enters the context
_SIDE = np.array(
    [-1, 0, 1, 0, 1, -1, -1, -1, -1, 2, 2, -1, 3], dtype=np.int64
)  # side service it goes to, -1: a business one
_OK, _EMPTY, _PENDING = np.int8(Status.OK), np.int8(Status.EMPTY), np.int8(Status.PENDING)
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = (
    np.int8(status) for status in (Status.UNAUTHORIZED, Status.FORBIDDEN, Status.NOT_FOUND)
)
_CONFLICT, _UNPROCESSABLE, _LOCKED = (
    np.int8(status) for status in (Status.CONFLICT, Status.UNPROCESSABLE, Status.LOCKED)
)
FETCH, VERIFY, COMPENSATE, DISPATCH, WAIT, NOTHING = (
    int(kind) for kind in (Kind.FETCH, Kind.VERIFY, Kind.COMPENSATE, Kind.DISPATCH, Kind.WAIT, Kind.NOTHING)
)


class Arguments:
    """What is wrong with the arguments of calls that carry out a step, ``(n,)`` each.

    ``slip``: the reasoner's own; ``stale``: a write against a version that has moved on; ``broken``: a format check
    shows it; ``wrong``: the effect will not be what it should be, for whatever reason but a slip.
    """

    __slots__ = ("broken", "luck", "rows", "slip", "stale", "step", "writer", "wrong")

    def __init__(self, core: WorkflowCore, rows: I64, step: I64, writer: I64, load: F64, u: F64) -> None:
        self.rows, self.step, self.writer, self.luck = rows, step, writer, u[:, 5]
        self.slip = u[:, 4] < core.slip.take(writer - 1) + load * core.spec.session.confusion
        # a read asks the service as it is now; a write goes against the version that the agent has read
        self.stale = any_of(core.reads.take(step, axis=0) & core.outdated(rows)) & core.writes.take(step)
        held = core.needs.take(step, axis=0) & core.wrong.take(rows, axis=0)
        self.broken = any_of(held & core.visible.take(rows, axis=0))
        self.wrong = any_of(held) | self.stale | at(core.changed, rows, step) | core.misled(rows, step)
        if core.behind.any():  # an old version gives itself away, but it does harm only where its values are old
            behind = any_of(core.reads.take(step, axis=0) & core.behind.take(rows, axis=0))
            self.stale = self.stale | (behind & core.writes.take(step))


class WorkflowCore(WorkflowLearning):
    """Lanes of the workflow environment; see :class:`brownout.envs.workflow.WorkflowEnv` for the rules."""

    # ---------------------------------------------------------------- life cycle

    def _begin(self, lanes: I64, keys: NDArray[np.uint64]) -> None:
        for rows, fresh in self._at_start:
            rows[lanes] = fresh
        self.token_until[lanes] = self.token_known[lanes] = self.spec.token.ttl_s
        if self.decision_names:
            self.facts[lanes] = uniform(keys[:, None], self._fact_streams) < self._shares_at(self.episodes[lanes])
        allowed = self._allowed_by(self.facts[lanes])
        self.needed[lanes] = allowed & self.goal
        self.banned[lanes] = ~allowed & self.writes
        # episodes whose decisions come out alike are one group
        self.groups[lanes] = self.facts[lanes] @ (1 << np.arange(len(self.decision_names)))
        if self.spec.history.begun:
            self._begin_half_done(lanes, keys)
        self._bind_records(lanes, keys)
        if self.plan is not None:
            self.plan.reset(lanes, keys)
        self._start_cursor(lanes)
        if lanes.size == self.num_lanes:
            self._allowed = self.view.legal(None)
        else:
            whole_rows(self._allowed)[lanes] = whole_rows(self.view.legal(lanes))
        if self.trace is not None and lanes[0] == 0:
            self.trace.clear()

    def _allowed_by(self, facts: Bools) -> Bools:
        """Which steps the decisions allow, ``(n, W)`` for ``(n, C)`` facts."""
        if not self.decision_names:
            return np.ones((len(facts), self.num_steps + 1), np.bool_)
        holds = facts.take(np.maximum(self.condition, 0), axis=1)
        return (self.condition < 0) | (holds == self.wanted)

    def _begin_half_done(self, lanes: I64, keys: NDArray[np.uint64]) -> None:
        """Let earlier work have made some of the first writes; whether it did, the agent cannot know."""
        u = uniform(keys[:, None], self._begun_streams)
        begun = u[:, 0] < self.spec.history.begun
        rank = np.cumsum(self.needed[lanes], axis=1)
        depth = (u[:, 1] * rank[:, -1]).astype(np.int64) + 1
        done = begun[:, None] & self.needed[lanes] & (rank <= depth[:, None])
        self.begun[lanes] = begun
        self.applied[lanes] = done
        self.applied_key[lanes] = np.where(done, -1, 0)
        doubt = begun[:, None] & self.writes
        self.belief[lanes] = np.where(doubt, UNKNOWN, TODO)

    def _advance(self, actions: I64, frozen: I64 | None) -> None:
        n = self.num_lanes
        legal = self._allowed.ravel().take(self.all_lanes * len(self.action_names) + actions)
        kind = actions.copy()
        if not legal.all():
            kind[~legal] = NOTHING
        if frozen is not None:
            kind[frozen] = NOTHING
        clock, spend = self.clock.copy(), self.spend.copy()
        calls = kind < WAIT
        if calls.all():
            self._call(self.all_lanes, kind)
        elif calls.any():
            rows = calls.nonzero()[0]
            self._call(rows, kind.take(rows))
        if not calls.all():
            counts = np.bincount(kind, minlength=NOTHING + 1).tolist()
            for code in range(Kind.WAIT, Kind.NOTHING):
                if counts[code]:
                    rows = self.all_lanes if counts[code] == n else (kind == code).nonzero()[0]
                    self._act(Kind(code), rows)
        self._account(clock, spend)
        self._move_cursor()
        self._allowed = self.view.legal(None)

    def _account(self, clock: F64, spend: F64) -> None:
        """Enter the time and the money that have gone since ``clock`` and ``spend``."""
        np.subtract(self.spend, spend, out=self.components[:, COST_USD])
        np.subtract(self.clock, clock, out=self.components[:, LATENCY_S])
        if not self.ends_on_deadline:
            deadline = self.preferences["deadline_s"]
            late = np.maximum(self.clock - deadline, 0.0) - np.maximum(clock - deadline, 0.0)
            self.components[:, LATE_S] = late

    def _truncate(self, lanes: I64) -> None:
        self.components[lanes, SAFETY] = self.standing(lanes)
        self.outcome[lanes] = LIMIT

    def _act(self, kind: Kind, rows: I64) -> None:
        """Do what is no call to a machine."""
        if kind == WAIT:
            self._wait(rows)
        elif kind == Kind.SWITCH:
            self._next_step(rows, 1)
            if self._tells(rows):
                self._say(f"switch to {self.step_names[int(self.cursor[0])]}")
        elif kind == Kind.ESCALATE:
            self._escalate(rows)
        else:
            self._stop(rows, kind)

    # ---------------------------------------------------------------- a call

    def _call(self, rows: I64, kind: I64) -> None:
        """Place one call per lane and see it through."""
        step = self._step_of(rows, kind)
        record = self._record_of(rows, step)
        service = self._service_of(kind, step, record)
        self.target[rows] = step
        writer = _WRITER.take(kind)
        keys = self.keys.take(rows)
        made, cell = flat(self.made, rows, service)
        number = made.take(cell)
        made[cell] = number + 1
        u = uniform(keys[:, None], self._streams.take(service, axis=0), number[:, None])
        x = self._bank.sample(self._price_rows[writer, service], u[:, :4])
        load = self.context.take(rows)
        dearer = 1.0 + load * self.spec.session.surcharge
        thinker = _THINKER.take(kind)
        price = np.where((thinker > 0) & (writer == 0), x[:, 1] * dearer, x[:, 1])
        thought, extra = x[:, 2], x[:, 3] * dearer
        now = self.clock.take(rows)
        calls = Calls(
            lanes=rows, service=service, verb=_VERB.take(kind), number=number, started_s=now + thought,
            latency_s=x[:, 0].copy(), cost_usd=price, status=np.ones(len(rows), np.int8),
            right=np.ones(len(rows), np.bool_), applied=np.ones(len(rows), np.bool_),
            pass_probability=np.zeros(len(rows)), retry_after_s=np.zeros(len(rows)),
            concurrent=self._concurrent(rows, service),
        )  # fmt: skip
        key = at(self.key, rows, step)  # as sent: a crash during the call loses it
        keeps = at(self.belief, rows, step) == DONE
        if self.plan is not None:
            self.plan.strike(calls, keys)
        refusal, retry = np.zeros(len(rows), np.int8), np.zeros(len(rows))
        wait = np.zeros(len(rows))
        work = writer.nonzero()[0]
        args = None
        if work.size:
            args = self._arguments(rows[work], step[work], writer[work], load[work], u[work])
            self._admit_work(args, calls, work, refusal, retry)
        self._admit(rows, kind, step, calls, refusal, retry)
        if args is not None:
            wait[work] = self._carry_out(args, calls, work, key, u[:, 6])
            self._settle(rows, step, calls, work, wait)
        undo = ((kind == COMPENSATE) & calls.applied).nonzero()[0]
        if undo.size:
            self._undo(rows[undo], step[undo], keeps[undo])
        self.context[rows] = np.minimum(self.context.take(rows) + _FILLS.take(kind) * self.spec.session.growth, 1.0)
        self.reasoner[rows] = np.where(thinker > 0, thinker, self.reasoner.take(rows))
        self._pass_time(rows, kind, step, calls, extra, wait)
        self._learn(rows, kind, step, record, calls, keeps, u[:, 6])
        self._pay(rows, calls.cost_usd + extra)
        if self._tells(rows):
            self.started_s = float(calls.started_s[0])
            self._tell(Kind(int(kind[0])), int(step[0]), int(record[0]), Status(int(calls.status[0])))

    def _arguments(self, rows: I64, step: I64, writer: I64, load: F64, u: F64) -> Arguments:
        """What is wrong with the arguments of calls that carry out a step."""
        return Arguments(self, rows, step, writer, load, u)

    def _step_of(self, rows: I64, kind: I64) -> I64:
        """The step that each call is about: the current one, unless something is to be read back or undone."""
        step = self.cursor.take(rows)
        back = kind == VERIFY
        if back.any():
            step = np.where(back, self.to_verify(rows), step)
        undo = kind == COMPENSATE
        if undo.any():
            step = np.where(undo, self.to_compensate(rows), step)
        return step

    def _record_of(self, rows: I64, step: I64) -> I64:
        """The record that a fetch reads: of those the step needs one not read yet, else the one read longest ago."""
        order = np.where(self.reads.take(step, axis=0), self.read_order.take(rows, axis=0), np.iinfo(np.int64).max)
        return order.argmin(axis=1)

    def _service_of(self, kind: I64, step: I64, record: I64) -> I64:
        """The service that each call goes to."""
        own = np.where(kind == FETCH, self.service_of_record.take(record), self.service_of_step.take(step))
        side = _SIDE.take(kind)
        return np.where(side < 0, own, self.first_side + side)

    def _concurrent(self, rows: I64, service: I64) -> I64:
        """Calls in flight at the same provider."""
        count = np.zeros(len(rows), np.int64)
        flying = self.flight_until.take(rows, axis=0) < np.inf
        busy = any_of(flying).nonzero()[0]
        if busy.size:
            same = self.family_of.take(self.service_of_step) == self.family_of.take(service[busy])[:, None]
            count[busy] = sum_of(flying[busy] & same)
        return count

    def _admit_work(self, args: Arguments, calls: Calls, work: I64, refusal: NDArray[np.int8], retry: F64) -> None:
        """Refuse to carry out a step: by its arguments, a draft in the way, a lock."""
        start = calls.started_s[work]
        strict = args.luck < self.strict.take(calls.service[work])
        found = np.where(args.stale & strict, _CONFLICT, np.int8(0))
        np.copyto(found, _UNPROCESSABLE, where=(args.broken | args.slip) & strict)
        np.copyto(found, _CONFLICT, where=at(self.draft, args.rows, args.step))
        lock = at(self.lock_until, args.rows, args.step)
        held = start < lock
        np.copyto(found, _LOCKED, where=held)
        refusal[work] = found
        retry[work] = np.where(held, lock - start, 0.0)

    def _admit(self, rows: I64, kind: I64, step: I64, calls: Calls, refusal: NDArray[np.int8], retry: F64) -> None:
        """Refuse what the server does not accept, by its state at the moment the call arrives."""
        service, start = calls.service, calls.started_s
        carries = _WRITER.take(kind) > 0
        touches = carries | (kind == FETCH)

        def refuse(where: Bools, status: np.int8) -> None:
            np.copyto(refusal, status, where=where)
            np.copyto(retry, 0.0, where=where)

        # from the inner checks to the outer ones: the last that applies wins
        refuse(touches & (start < at(self.input_at, rows, step)), _NOT_FOUND)
        refuse(touches & at(self.renamed, rows, service), _UNPROCESSABLE)
        refuse(at(self.revoked, rows, service), _FORBIDDEN)
        refuse(self.auth.take(service) & (start >= self.token_until.take(rows)), _UNAUTHORIZED)
        out = refusal != 0
        if out.any():
            calls.applied &= ~out
            shown = out & (calls.status == _OK)
            np.copyto(calls.status, refusal, where=shown)
            np.copyto(calls.retry_after_s, retry, where=shown)
            np.copyto(calls.cost_usd, 0.0, where=out)
        # a read that brings nothing cannot be taken for one that did
        nothing = carries & ~calls.applied & (calls.status == _OK) & ~self.writes.take(step)
        np.copyto(calls.status, _EMPTY, where=nothing)

    # ---------------------------------------------------------------- effects on the server

    def _carry_out(self, args: Arguments, calls: Calls, work: I64, key: I64, luck: F64) -> F64:
        """Do on the server what the calls ask for; returns the seconds until an approval, 0 for none."""
        wait = np.zeros(len(work))
        chosen = calls.applied[work].nonzero()[0]
        if not chosen.size:
            return wait
        which = work[chosen]
        rows, step = args.rows[chosen], args.step[chosen]
        # a failed call brings nothing right, but what was done before it failed may be
        spoilt = ~calls.right[which] & (calls.status[which] == _OK)
        bad = np.where(args.slip[chosen], SLIPPED, np.where(args.wrong[chosen] | spoilt, AS_HELD, 0))
        self._apply(rows, step, bad, key[which])
        heard = any_of(self.reads.take(step, axis=0) & self.planted.take(rows, axis=0))
        if heard.any():
            obeys = heard & (luck[which] < self.obey.take(args.writer[chosen] - 1))
            self.stray[rows[obeys], step[obeys]] += 1
        wait[chosen] = self._approval(rows, step)
        return wait

    def _apply(self, rows: I64, step: I64, bad: I64, key: I64) -> None:
        """Let the effect of ``step`` stand once more, as its idempotency has it."""
        applied, cell = flat(self.applied, rows, step)
        before = applied.take(cell)
        writes, natural = self.writes.take(step), self.natural.take(step)
        foreign = self.foreign.take(rows)
        stray = self.stray.reshape(-1)
        stray[cell] += foreign & writes
        bad = np.where(foreign & ~writes, AS_HELD, bad)
        again = self.keyed.take(step) & (before > 0)
        again &= self.applied_key.reshape(-1).take(cell) == key
        lands = ~(foreign & writes) & ~again
        fresh = ~writes | natural | (before == 0)  # sets the state anew instead of adding to it
        applied[cell] = np.where(lands, np.where(fresh, 1, before + 1), before)
        worst = np.where(fresh, bad, np.maximum(bad, self.bad.reshape(-1).take(cell)))
        self.bad.reshape(-1)[cell] = np.where(lands, worst, self.bad.reshape(-1).take(cell))
        first = lands & (before == 0)
        keys = self.applied_key.reshape(-1)
        keys[cell] = np.where(first, key, keys.take(cell))

    def _undo(self, rows: I64, step: I64, keeps: Bools) -> None:
        """Undo what is too much of a step that the agent ``keeps``, or the whole step."""
        applied, cell = flat(self.applied, rows, step)
        left = np.where(keeps, np.minimum(applied.take(cell), 1), 0)
        applied[cell] = left
        self.bad.reshape(-1)[cell] *= left > 0
        self.stray.reshape(-1)[cell] = 0
        self.stands_at.reshape(-1)[cell] *= left > 0
        self.key.reshape(-1)[cell] += left == 0  # what is done next is a new effect, under a new key

    def _approval(self, rows: I64, step: I64) -> F64:
        """Seconds until an accepted call takes effect."""
        hold, cell = flat(self.hold, rows, step)
        wait = hold.take(cell)
        if self.has_approval:
            u = uniform(self.keys.take(rows), self._approval_streams.take(step), at(self.attempts, rows, step))
            wait = np.maximum(wait, self._approval_bank.sample(step, u))
        hold[cell] = 0.0
        return wait

    def _settle(self, rows: I64, step: I64, calls: Calls, work: I64, wait: F64) -> None:
        """Note from when on what was done stands; while a step waits for that, a repetition waits as well."""
        done = work[calls.applied[work]]
        end = calls.started_s[done] + calls.latency_s[done]
        stands, cell = flat(self.stands_at, rows[done], step[done])
        wait[done] = np.maximum(wait[done], stands.take(cell) - end)
        stands[cell] = end + wait[done]

    # ---------------------------------------------------------------- time and money

    def _pass_time(self, rows: I64, kind: I64, step: I64, calls: Calls, extra: F64, wait: F64) -> None:
        """Let the clock run to the end of the calls; those in the background only take the time to be started."""
        end = calls.started_s + calls.latency_s
        behind = kind == DISPATCH
        pending = (wait > 0.0) & (calls.status == _OK)
        flies = behind | pending
        if flies.any():
            lanes, place = rows[flies], step[flies]
            self.flight_until[lanes, place] = end[flies] + wait[flies]
            self.flight_status[lanes, place] = calls.status[flies]
            self.flight_retry[lanes, place] = calls.retry_after_s[flies]
            calls.status[flies] = _PENDING
        until = np.where(behind, calls.started_s, end)
        if self.ends_on_deadline:
            deadline = self.preferences["deadline_s"].take(rows)
            over = until > deadline
            if over.any():
                until = np.minimum(until, np.maximum(deadline, self.clock.take(rows)))
                self.clock[rows] = until
                self._end(rows[over], LIMIT)
        self.clock[rows] = until

    def _wait(self, rows: I64) -> None:
        """Move the clock to the next answer or invitation to retry, or back off."""
        flight = self.flight_until.take(rows, axis=0)
        step = flight.argmin(axis=1)
        ends = flight[np.arange(len(rows)), step]
        clock = self.clock.take(rows)
        retry = self.retry_at.take(rows)
        retry = np.where(retry > clock, retry, np.inf)
        until = np.minimum(ends, retry)
        until = np.where(np.isfinite(until), until, clock + self.spec.limits.backoff_s)
        until = np.maximum(until, clock)
        settles = ends <= until
        if self.ends_on_deadline:
            deadline = self.preferences["deadline_s"].take(rows)
            over = until > deadline
            if over.any():
                until = np.minimum(until, np.maximum(deadline, clock))
                self.clock[rows] = until
                self._end(rows[over], LIMIT)
                settles &= ~over
        self.clock[rows] = until
        if self._tells(rows) and not settles[0]:
            self._say(f"wait for {until[0] - clock[0]:.1f} s")
        if settles.any():
            self._land(rows[settles], step[settles])

    def _pay(self, rows: I64, cost: F64) -> None:
        """Charge ``cost``; at a hard ceiling the charge stops there and the episode ends."""
        spent = self.spend.take(rows) + cost
        if self.ends_on_budget:
            budget = self.preferences["budget_usd"].take(rows)
            over = spent >= budget
            if over.any():
                spent = np.where(over, np.maximum(budget, self.spend.take(rows)), spent)
                over &= ~self.terminated.take(rows)
                self._end(rows[over], LIMIT)
        self.spend[rows] = spent

    # ---------------------------------------------------------------- ends

    def _escalate(self, rows: I64) -> None:
        """Hand over to a person, who puts right what is wrong."""
        person = self.spec.person
        assert person is not None
        keys, service = self.keys.take(rows), np.full(len(rows), self.person_index)
        u = uniform(keys[:, None], self._streams[self.person_index], 0)
        x = self._bank.sample(self._price_rows[0, self.person_index], u[:, :4])
        calls = Calls.place(rows, service, Verb.ESCALATE, 0, self.clock.take(rows), x[:, 0], x[:, 1])
        if self.plan is not None:
            self.plan.strike(calls, keys)
        right = (uniform(keys, self._verdict_stream) < person.accuracy) & (calls.status == _OK)
        self.made[rows, self.person_index] += 1
        self._end(rows, ESCALATED)
        self.components[rows, HANDOFF] = right
        self.components[rows[right], SAFETY] = 0.0
        self.clock[rows] += calls.latency_s
        self.spend[rows] += calls.cost_usd
        if self._tells(rows):
            self._say("escalate: a person takes over")

    def _stop(self, rows: I64, kind: Kind) -> None:
        """Finish or abort."""
        wrong, twice, complete = self._settled(rows)
        outcome = np.where(twice, DUPLICATE, np.where(wrong > 0, GARBAGE, np.where(complete, SUCCESS, PARTIAL)))
        self._end(rows, outcome if kind == Kind.FINISH else np.full(len(rows), ABORTED), wrong)
        if self._tells(rows):
            self._say(f"{kind.name.lower()}: {self.outcome_names[int(self.outcome[0])].replace('_', ' ')}")

    def _end(self, rows: I64, outcome: Any, wrong: I64 | None = None) -> None:
        """End episodes; what stands ``wrong`` on the servers counts, whoever made it stand."""
        if rows.size == 0:
            return
        self.terminated[rows] = True
        self.outcome[rows] = outcome
        self.components[rows, ACCURACY] = self.outcome[rows] == SUCCESS
        self.components[rows, SAFETY] = self.standing(rows) if wrong is None else wrong
        if self._tells(rows) and isinstance(outcome, int) and outcome == LIMIT:
            self._say("a limit ends the episode")
