"""Physics of the router: an event-driven clock over calls in flight, for ``N`` lanes at once.

Every call of an episode has a record: a column ``m < M`` of the lane's call arrays. A launched call is fully
resolved when it is placed (its draws are pure functions), but the lane learns the result only when the clock
reaches the call's finish. ``wait`` moves the clock there; ``judge`` takes its own time; ``submit``,
``escalate`` and ``abstain`` end the episode and cancel what still runs, at a cost in proportion to the time
it ran (plus the share that is due on starting, ``limits.cancel_share``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..faults import Calls, Status, Verb
from ..rewards.components import ACCURACY, COST_USD, HANDOFF, LATE_S, LATENCY_S, SAFETY
from ..scenarios.tasks import Outcomes
from .lanes import F64, I64, Bools
from .router_judging import RouterJudging
from .router_state import (
    _INF,
    _MENDED,
    ABSTAINED,
    BEST_SCORE,
    CANDIDATES,
    ESCALATED,
    FAILED,
    LAST_COST,
    LAST_LATENCY,
    LAST_STATUS,
    LIMIT,
    PER_CONFIG,
    RUNNING,
    SUCCESS,
    WRONG,
    Kind,
)


class RouterCore(RouterJudging):
    """Lanes of the router environment; see :class:`brownout.envs.router.RouterEnv` for the rules."""

    # ---------------------------------------------------------------- life cycle

    def _begin(self, lanes: I64, keys: NDArray[np.uint64]) -> None:
        self.source.begin(lanes, keys, self.episodes[lanes])
        for array in (self.clock, self.spend, self.committed, self.used, self.running, self.unjudged,
                      self.judgements, self.failures, self.retry_at, self.family_running, self.conf):  # fmt: skip
            array[lanes] = 0
        self.best[lanes] = -1
        self.finish[lanes] = _INF
        self.value[lanes] = -1.0
        if self.weighs:
            self.rank[lanes] = -_INF
            self.scores[lanes] = -1.0
            self.unscored[lanes] = 0
        self.conf[lanes, BEST_SCORE] = -1.0
        self.last_failure[lanes] = -_INF
        if self.plan is not None:
            self.plan.reset(lanes, keys)
        if lanes.size == self.num_lanes:
            self._allowed = self._legal(None)
        else:
            self._allowed[lanes] = self._legal(lanes)
        if self.trace is not None and lanes[0] == 0:
            self.trace.clear()

    def _advance(self, actions: I64, frozen: I64 | None) -> None:
        n = self.num_lanes
        legal = self._allowed.ravel().take(self.all_lanes * len(self.action_names) + actions)
        kind = self._kind_of.take(actions)
        if not legal.all():
            kind[~legal] = Kind.NOTHING
        if frozen is not None:
            kind[frozen] = Kind.NOTHING
        clock, spend = self.clock.copy(), self.spend.copy()
        counts = np.bincount(kind, minlength=7).tolist()
        if counts[Kind.LAUNCH] or counts[Kind.REPAIR]:
            self._launch(kind, actions, counts[Kind.LAUNCH], counts[Kind.REPAIR])
        for code, count in enumerate(counts):
            if count and code not in (Kind.LAUNCH, Kind.REPAIR, Kind.NOTHING):
                rows = self.all_lanes if count == n else np.flatnonzero(kind == code)
                if code == Kind.WAIT:
                    self._wait(rows)
                elif code == Kind.JUDGE:
                    self._judge_all(rows, actions)
                else:
                    self._stop(rows, Kind(code))
        np.subtract(self.spend, spend, out=self.components[:, COST_USD])
        np.subtract(self.clock, clock, out=self.components[:, LATENCY_S])
        if not self.ends_on_deadline:
            deadline = self.preferences["deadline_s"]
            late = np.maximum(self.clock - deadline, 0.0) - np.maximum(clock - deadline, 0.0)
            self.components[:, LATE_S] = late
        self._allowed = self._legal(None)

    def _truncate(self, lanes: I64) -> None:
        before = self.spend[lanes]
        self._cancel(lanes)
        self.components[lanes, COST_USD] += self.spend[lanes] - before
        self.outcome[lanes] = LIMIT

    # ---------------------------------------------------------------- actions

    def _launch(self, kind: I64, actions: I64, launches: int, repairs: int) -> None:
        """Place launches and repairs together: one batch costs less than two."""
        placed = kind == Kind.LAUNCH
        if repairs:
            placed |= kind == Kind.REPAIR
        rows = self.all_lanes if launches + repairs == self.num_lanes else np.flatnonzero(placed)
        k, verb = actions.take(rows), np.zeros(len(rows), np.int64)
        if repairs:
            mends = kind.take(rows) == Kind.REPAIR
            verb[mends] = Verb.REPAIR
            k[mends] = self.config[rows[mends], self.best.take(rows[mends])]
        self._place(rows, k, verb)

    def _place(self, rows: I64, k: I64, verb: I64) -> None:
        """Start one call of configuration ``k`` per lane in ``rows``; takes no time."""
        column = self.used.take(rows)
        conf = self.conf.reshape(-1)
        conf_cell = rows * (PER_CONFIG * self.num_configs) + k
        number = conf.take(conf_cell).astype(np.int64)
        started = self.clock.take(rows)
        record = rows * self.max_calls + column
        family = rows * self.family_running.shape[1] + self.family_of.take(k)
        busy = self.family_running.reshape(-1)
        outcome, retry_after = self._resolve(rows, k, verb, number, started, busy.take(family))
        self.start.reshape(-1)[record] = started
        self.finish.reshape(-1)[record] = started + outcome.latency_s
        self.cost.reshape(-1)[record] = outcome.cost_usd
        self.config.reshape(-1)[record] = k
        self.status.reshape(-1)[record] = outcome.status
        self.right.reshape(-1)[record] = outcome.right
        self.merit.reshape(-1)[record] = self.strength.take(k) + _MENDED * verb
        if self.weighs:
            self._note_candidates(rows, record, k, verb, outcome)
        self.retry_after.reshape(-1)[record] = retry_after
        busy[family] += 1
        conf[conf_cell] += 1
        conf[conf_cell + self.num_configs] += 1
        self.used[rows] = column + 1
        self.running[rows] += 1
        self.committed[rows] += self.source.expected_cost.take(k)
        if self._tells(rows):
            name = self.config_names[int(k[0])]
            self._say(f"{'repair with' if verb[0] == Verb.REPAIR else 'launch'} {name}")

    def _resolve(
        self, rows: I64, k: I64, verb: I64, number: I64, started: F64, concurrent: I64
    ) -> tuple[Outcomes, Any]:
        """How calls that start now will turn out, faults included, and the ``Retry-After`` they will carry."""
        keys = self.keys.take(rows)
        outcome = self.source.call(rows, keys, k, number)
        if verb.any():
            self._mend(np.flatnonzero(verb), rows, keys, k, number, outcome)
        if self.plan is None:
            return outcome, 0.0
        calls = Calls(
            lanes=rows, service=k, verb=verb, number=number, started_s=started,
            latency_s=outcome.latency_s, cost_usd=outcome.cost_usd, status=outcome.status, right=outcome.right,
            applied=np.ones(len(k), np.bool_), pass_probability=np.zeros(len(k)),
            retry_after_s=np.zeros(len(k)), concurrent=concurrent, quality=outcome.quality,
        )  # fmt: skip
        self.plan.strike(calls, keys)
        outcome.latency_s, outcome.cost_usd = calls.latency_s, calls.cost_usd
        outcome.status, outcome.right, outcome.quality = calls.status, calls.right, calls.quality
        return outcome, calls.retry_after_s

    def _wait(self, rows: I64) -> None:
        """Move the clock to the next completion, or back off when nothing runs."""
        finish = self.finish.take(rows, axis=0)
        column = finish.argmin(axis=1)
        clock = self.clock.take(rows)
        until = np.maximum(finish[np.arange(len(rows)), column], clock)
        settles = self.running.take(rows) > 0
        if not settles.all():
            pause = self._back_off(rows)
            until = np.where(settles, until, pause)
            if self._tells(rows) and not settles[0]:
                self._say(f"back off for {pause[0] - clock[0]:.1f} s")
        if self.ends_on_deadline:
            deadline = self.preferences["deadline_s"].take(rows)
            over = until > deadline
            if over.any():
                self.clock[rows] = np.minimum(until, np.maximum(deadline, clock))
                self._end(rows[over], LIMIT)
                settles &= ~over
            else:
                self.clock[rows] = until
        else:
            self.clock[rows] = until
        if settles.all():
            self._settle(rows, column)
        elif settles.any():
            self._settle(rows[settles], column[settles])

    def _back_off(self, rows: I64) -> F64:
        """When a wait with nothing running ends: at the first ``Retry-After``, else after ``limits.backoff_s``."""
        clock = self.clock.take(rows)
        retry = self.retry_at.take(rows, axis=0)
        retry = np.where(retry > clock[:, None], retry, _INF).min(axis=1)
        return np.where(np.isfinite(retry), retry, clock + self.spec.limits.backoff_s)

    def _settle(self, rows: I64, column: I64) -> None:
        """Book the result of the call in ``column`` of each lane in ``rows``."""
        record = rows * self.max_calls + column
        k = self.config.reshape(-1).take(record)
        ok = self.status.reshape(-1).take(record) == Status.OK
        lasted = self.finish.reshape(-1).take(record) - self.start.reshape(-1).take(record)
        self.finish.reshape(-1)[record] = _INF
        self.running[rows] -= 1
        self.family_running.reshape(-1)[rows * self.family_running.shape[1] + self.family_of.take(k)] -= 1
        self.committed[rows] -= self.source.expected_cost.take(k)
        conf = self.conf.reshape(-1)
        cell = rows * (PER_CONFIG * self.num_configs) + k
        conf[cell + RUNNING * self.num_configs] -= 1
        conf[cell + CANDIDATES * self.num_configs] += ok
        conf[cell + LAST_STATUS * self.num_configs] = self.status.reshape(-1).take(record)
        cost = self.cost.reshape(-1).take(record)
        # x / (x + mean) is a logistic function of the log ratio, without a logarithm of lane data
        conf[cell + LAST_COST * self.num_configs] = cost / (cost + self._usual_cost.take(k))
        conf[cell + LAST_LATENCY * self.num_configs] = lasted / (lasted + self._usual_latency.take(k))
        value = np.where(ok, 1.0 + self.merit.reshape(-1).take(record), -1.0)
        self.value.reshape(-1)[record] = value
        if self.weighs:
            self._enter(rows, record, k, ok)
        best, rank = self.best.take(rows), self.rank.reshape(-1)
        beats = rank.take(record) > np.where(best < 0, self._no_rank, rank.take(rows * self.max_calls + best))
        self.best[rows] = np.where(beats, column, best)
        self.unjudged[rows] += ok
        if not ok.all():
            bad = ~ok
            lost, which, clock = rows[bad], k[bad], self.clock[rows[bad]]
            conf[cell[bad] + FAILED * self.num_configs] += 1
            self.failures[lost] += 1
            self.last_failure[lost, which] = clock
            self.retry_at[lost, which] = clock + self.retry_after.reshape(-1)[record[bad]]
        if self._tells(rows):
            status = Status(int(self.status.reshape(-1)[record[0]])).name.lower().replace("_", " ")
            self._say(f"{self.config_names[int(k[0])]} answers: {status} (${cost[0]:.4f})")
        self._pay(rows, cost)

    def _pay(self, rows: I64, cost: F64) -> None:
        """Charge ``cost``; at a hard ceiling the charge stops there and the episode ends."""
        if not self.ends_on_budget:
            self.spend[rows] += cost
            return
        spent = self.spend.take(rows) + cost
        budget = self.preferences["budget_usd"].take(rows)
        over = spent >= budget
        if over.any():
            self.spend[rows] = np.where(over, np.maximum(budget, self.spend.take(rows)), spent)
            over &= ~self.terminated.take(rows)
            self._end(rows[over], LIMIT)
        else:
            self.spend[rows] = spent

    def _judge_all(self, rows: I64, actions: I64) -> None:
        """Have each lane's candidate scored by the judge that its action names."""
        if self.judgements.shape[1] == 1:
            self._judge(rows, 0)
            return
        which = actions.take(rows) - (self.num_configs + 1)
        for j in range(self.judgements.shape[1]):
            asked = rows[which == j]
            if asked.size:
                self._judge(asked, j)

    def _stop(self, rows: I64, kind: Kind) -> None:
        """Submit, escalate or abstain; a person's time and price come after what was cancelled."""
        call: Calls | None = None
        if kind == Kind.SUBMIT:
            record = rows * self.max_calls + self.best.take(rows)
            right = self.right.reshape(-1).take(record)
            if self.spec.quality is None:
                self.components[rows, ACCURACY], self.components[rows, SAFETY] = right, ~right
            else:
                quality = self.quality.reshape(-1).take(record)
                self.components[rows, ACCURACY] = quality
                self.components[rows, SAFETY] = quality < self.spec.quality.floor
            outcome = np.where(right, SUCCESS, WRONG)
        elif kind == Kind.ESCALATE:
            call, right = self._hand_over(rows)
            right &= call.status == Status.OK
            self.components[rows, HANDOFF] = right
            outcome = np.full(len(rows), ESCALATED)
        else:
            outcome = np.full(len(rows), ABSTAINED)
        self._end(rows, outcome)
        if call is not None:
            self.clock[rows] += call.latency_s
            self.spend[rows] += call.cost_usd
        if self._tells(rows):
            outcome_name = self.outcome_names[int(self.outcome[rows[0]])]
            self._say(f"{kind.name.lower()}: {outcome_name.replace('_', ' ')}")

    # ---------------------------------------------------------------- ends

    def _end(self, rows: I64, outcome: Any) -> None:
        if rows.size == 0:
            return
        self.terminated[rows] = True
        self.outcome[rows] = outcome
        busy = rows[self.running.take(rows) > 0]
        if busy.size:
            self._cancel(busy)
        if self._tells(rows) and isinstance(outcome, int):
            self._say("a limit ends the episode")

    def _cancel(self, rows: I64) -> None:
        """Stop what still runs, and pay for it."""
        runs = np.isfinite(self.finish.take(rows, axis=0))
        self._pay_cancelled(rows, np.where(runs, self._cancel_cost(rows, runs), 0.0))
        status = self.status.take(rows, axis=0)
        self.status[rows] = np.where(runs, np.int8(Status.CANCELLED), status)
        self.finish[rows] = _INF
        self.running[rows] = 0
        self.family_running[rows] = 0
        self.conf[rows, RUNNING] = 0.0

    def _cancel_cost(self, rows: I64, runs: Bools) -> F64:
        """``(n, M)`` cost of stopping the calls that ``runs`` marks: each its share of the time it ran."""
        finish = self.finish.take(rows, axis=0)
        start = self.start.take(rows, axis=0)
        length = np.where(runs, finish - start, 1.0)
        ran = np.minimum(np.maximum(self.clock.take(rows)[:, None] - start, 0.0), length)
        share = np.where(length > 0.0, ran / np.where(length > 0.0, length, 1.0), 1.0)
        due = self.spec.limits.cancel_share
        share = due + (1.0 - due) * share
        return share * self.cost.take(rows, axis=0)

    def _pay_cancelled(self, rows: I64, cost: F64) -> None:
        """Charge ``(n, M)`` costs of cancelled calls, up to a hard ceiling."""
        # cumsum adds in order, so the bits do not depend on the batch as those of sum() may
        spent = self.spend.take(rows) + np.cumsum(cost, axis=1)[:, -1]
        if self.ends_on_budget:
            spent = np.maximum(np.minimum(spent, self.preferences["budget_usd"].take(rows)), self.spend.take(rows))
        self.spend[rows] = spent
