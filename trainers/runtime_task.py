"""One task of the runtime: the policy's decisions carried out on real calls, under a budget and a deadline."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from ..envs.lanes import Bools
from ..envs.router_core import Kind
from ..errors import PolicyError
from ..faults import Status
from .evaluation import action_draws
from .live_core import LiveCore, SideResult
from .runtime_calls import UNCERTAIN, Ended, LiveCall, read_answer, read_verdict
from .runtime_types import Decision, Placed, Step

if TYPE_CHECKING:
    from .runtime import Runtime

logger = logging.getLogger("brownout.runtime")
_INSTANT: Final = 4  # turns of the event loop in which calls that end at one time all get to say so


class TaskRun:
    """Solves one task on one core; used once.

    Args:
        runtime: hooks, limits and log.
        core: a core that nobody else uses meanwhile.
        task: the user's task.
        query_id: its id.
        run: which solution of it.
        features: ``(F,)`` values of the task columns.
        shown: the features as the user gave them, for the log.
        preferences: budget, deadline and weights.
    """

    def __init__(
        self, runtime: Runtime, core: LiveCore, task: Any, query_id: str, run: int,
        features: NDArray[np.float32], shown: Mapping[str, Any], preferences: Mapping[str, float],
    ) -> None:  # fmt: skip
        self._rt, self._core, self._task = runtime, core, task
        self.query_id, self.run, self._shown = query_id, run, dict(shown)
        self._loop = asyncio.get_running_loop()
        self._t0 = self._loop.time()
        self._budget = preferences["budget_usd"]
        self._deadline = preferences["deadline_s"] if core.ends_on_deadline else math.inf
        self._placed: list[Placed] = []
        self._by_column: dict[int, Placed] = {}
        self._open: dict[int, float] = {}  # place in `_placed` -> money set aside
        self._paid: list[float] = []
        self._person_usd = 0.0
        self._rows: list[dict[str, Any]] = []
        self._closing = False
        self._refused = self._overruns = 0
        self._answer: Any = None
        self._config: str | None = None
        core.begin_task(query_id, run, features, preferences)

    # ---------------------------------------------------------------- the loop

    async def play(self) -> Decision:
        """Follow the policy to the end; whatever happens, no call is left running."""
        core = self._core
        try:
            while not core.over:
                if self._rt.log is not None:
                    self._rt.log.check()
                now = self._clock()
                core.tick(now)
                action = self._choose(core.observe(), self._mask(now))
                await self._perform(action)
        except BaseException:
            await self._stop_all()
            raise
        core.report_cancelled(await self._stop_all())
        return self.decision(core.outcome_names[core.outcome[0]])

    def _choose(self, observation: NDArray[np.float32], mask: Bools) -> int:
        policy = self._rt.policy
        actions = np.asarray(policy.act_batch(observation, mask, action_draws(policy, self._core)))
        action = int(actions[0])
        if not 0 <= action < mask.shape[1] or not mask[0, action]:
            raise PolicyError(
                f"the policy chose action {action}; allowed now: {', '.join(map(str, np.flatnonzero(mask[0])))}"
            )
        if self._rt.observer is not None:
            self._rt.observer(Step(self.query_id, self.run, observation[0], mask[0], action))
        return action

    def _mask(self, now: float) -> Bools:
        """What the simulation would allow, less what the hooks cannot do and the budget might not bear."""
        core, rt = self._core, self._rt
        mask = core.mask()
        k = core.num_configs
        if rt.repair is None:
            mask[0, -4] = False
        if now > self._deadline:  # only if the event loop was held up: what arrived in time may still be submitted
            mask[0, [*range(k), *range(k + 1, mask.shape[1] - 3)]] = False
        if rt.hard_budget:
            left = self._budget - math.fsum([*self._paid, *self._open.values()])
            needs = [*rt.reserves, 0.0, *(rt.judge_reserves or [0.0]), 0.0, 0.0, 0.0, 0.0]
            if core.best[0] >= 0:
                needs[-4] = rt.repair_reserves[int(core.config[0, core.best[0]])]
            fits = np.array(needs) <= left
            self._refused += bool((mask[0] & ~fits).any())
            mask[0] &= fits | (np.array(needs) == 0.0)
        return mask

    async def _perform(self, action: int) -> None:
        core, rt = self._core, self._rt
        kind = core.kind(action)
        if kind == Kind.LAUNCH:
            self._launch(action)
        elif kind == Kind.REPAIR:
            self._repair()
        elif kind == Kind.WAIT:
            await self._wait()
        elif kind == Kind.JUDGE:
            await self._judge(action - core.num_configs - 1)
        else:
            if kind == Kind.SUBMIT:
                best = self._by_column[int(core.best[0])]
                self._answer, self._config = best.result.answer, best.config
            core.report_cancelled(await self._stop_all())
            if kind == Kind.ESCALATE:
                core.report_side(await self._ask_person() if rt.person else SideResult(Status.OK, 0.0, 0.0))
        core.take(action)
        if kind in (Kind.LAUNCH, Kind.REPAIR):
            await asyncio.sleep(0)  # the request goes out before the next decision is thought over

    # ---------------------------------------------------------------- actions

    def _launch(self, k: int) -> None:
        rt, core = self._rt, self._core
        name = core.config_names[k]
        entry = rt.configurations[name]
        price, time_s = float(core.source.expected_cost[k]), float(core.source.expected_latency[k])
        self._place("launch", name, price, time_s, entry.max_cost_usd, lambda: entry.call(self._task, name),
                    entry.timeout_s or rt.timeout_s, column=int(core.used[0]))  # fmt: skip

    def _repair(self) -> None:
        rt, core = self._rt, self._core
        spec, hook = core.spec.repair, rt.repair
        assert spec is not None
        assert hook is not None
        best = self._by_column[int(core.best[0])]
        k = core.config_names.index(best.config)
        entry, answer = rt.configurations[best.config], best.result.answer
        price = float(core.source.expected_cost[k]) * spec.cost_factor
        time_s = float(core.source.expected_latency[k]) * spec.latency_factor
        self._place("repair", best.config, price, time_s, entry.max_cost_usd,
                    lambda: hook(self._task, answer, best.config), entry.timeout_s or rt.timeout_s,
                    column=int(core.used[0]))  # fmt: skip

    async def _wait(self) -> None:
        core = self._core
        if not core.running_columns():
            await self._sleep_until(min(core.back_off_until(), self._deadline))
            return
        if not core.ended():
            running = [self._by_column[column].live.ended for column in core.running_columns()]
            await self._first_of(running)
        if not core.ended():
            core.report_cancelled(await self._stop_all())

    async def _judge(self, j: int) -> None:
        core, rt = self._core, self._rt
        name = core.judge_names[j]
        judge = rt.judges[name]
        about = self._by_column[core.to_judge(j)]
        answer = about.result.answer
        placed = self._place("judge", name, rt.judge_prices[j], rt.judge_times[j], rt.judge_max_cost_usd,
                             lambda: judge(self._task, answer), rt.judge_timeout_s, about=about)  # fmt: skip
        await self._first_of([placed.live.ended])
        clock = float(core.clock[0])
        if placed.live.ended.done():
            result = placed.result
            latency = _lapse(clock, result.at_s - self._t0)
        else:
            core.report_cancelled(await self._stop_all())
            result = placed.result
            latency = self._deadline - clock + 1.0  # past the deadline, which is all that matters
        score = 0.0 if result.answer is None else float(result.answer)
        if not core.graded:
            score = float(score >= rt.accept_at)
        if result.status == Status.CANCELLED:
            result.status = Status.TIMEOUT
        core.report_side(SideResult(result.status, latency, placed.cost_usd, score))

    async def _ask_person(self) -> SideResult:
        rt = self._rt
        hook, spec = rt.person, self._core.spec.person
        assert hook is not None
        assert spec is not None
        started = float(self._core.clock[0])
        placed = self._place("person", "person", spec.cost_usd.table().mean, spec.latency_s.table().mean, None,
                             lambda: hook(self._task), rt.person_timeout_s)  # fmt: skip
        await asyncio.wait([placed.live.ended])
        result = placed.result
        if result.status == Status.OK:
            self._answer, self._config = result.answer, "person"
        return SideResult(result.status, _lapse(started, result.at_s - self._t0), placed.cost_usd)

    # ---------------------------------------------------------------- calls

    def _place(
        self, kind: str, config: str, price: float, time_s: float, most: float | None,
        invoke: Callable[[], Awaitable[Any]], timeout_s: float, column: int = -1, about: Placed | None = None,
    ) -> Placed:  # fmt: skip
        rt = self._rt
        sample = rt.next_sample(self.query_id, config)
        placed = Placed(kind, config, sample, column, price, time_s, most, about=about)
        number = len(self._placed)
        placed.live = LiveCall(
            read=read_verdict if kind == "judge" else read_answer,
            statuses=rt.statuses,
            grace_s=rt.grace_s,
            on_end=lambda _: self._ended(number),
        )
        self._placed.append(placed)
        if kind != "person":
            self._open[number] = placed.reserve
        if column >= 0:
            self._by_column[column] = placed
        placed.live.start(invoke, timeout_s)
        rt.counts["calls"] += 1
        return placed

    def _ended(self, number: int) -> None:
        """Book the end of a call: money, log, and the core, unless the task is closing."""
        placed, rt = self._placed[number], self._rt
        result = placed.result
        estimated = result.cost_usd is None
        placed.cost_usd = cost = self._estimate(placed, result) if result.cost_usd is None else result.cost_usd
        self._open.pop(number, None)
        if placed.kind == "person":
            self._person_usd += cost
        else:
            self._paid.append(cost)
        if placed.most_usd is not None and cost > placed.most_usd:
            self._overruns += 1
            rt.counts["overruns"] += 1
            logger.error(
                "%s: %s %d of %s cost $%.6f, declared at most $%.6f",
                self.query_id, placed.kind, placed.sample, placed.config, cost, placed.most_usd,
            )  # fmt: skip
        row = self._row(placed, result, estimated)
        self._rows.append(row)
        if rt.log is not None:
            rt.log.write(row)
        if placed.column >= 0 and not self._closing:
            self._core.complete(placed.column, result.at_s - self._t0, cost, result.status, result.retry_after_s)

    def _estimate(self, placed: Placed, result: Ended) -> float:
        """Cost of a call that told none: its price; for a cut call the share that the simulation would charge."""
        share = 1.0 if result.status == Status.OK else 0.0
        if result.status in UNCERTAIN:
            due = self._core.spec.limits.cancel_share
            ran = result.at_s - placed.live.started_s
            share = due + (1.0 - due) * min(ran / max(placed.expected_s, 1e-9), 1.0)
        return min(share * placed.expected_usd, placed.reserve)

    async def _stop_all(self) -> dict[int, float]:
        """Cancel what runs, see it stop, and return what the calls not booked yet cost, by column."""
        self._closing = True
        unbooked = self._core.running_columns()
        stopping = self._loop.create_task(self._stop())
        cancelled = False
        while not stopping.done():
            try:
                await asyncio.shield(stopping)
            except asyncio.CancelledError:
                cancelled = True  # the task is being cancelled from outside; stopping is bounded, so finish it
        stopping.result()
        if cancelled:
            raise asyncio.CancelledError
        # a call whose start failed has no record yet
        return {column: self._by_column[column].cost_usd for column in unbooked if column in self._by_column}

    async def _stop(self) -> None:
        leaked = self._rt.leaked
        alive = [placed.live for placed in self._placed if placed.live.alive and placed.live.child not in leaked]
        if not alive:
            return
        for live in alive:
            live.cut(Status.CANCELLED)
        await asyncio.wait([live.child for live in alive], timeout=self._rt.grace_s)
        await asyncio.wait([live.ended for live in alive])
        for live in alive:
            if live.alive:
                self._rt.note_leak(live.child, f"{self.query_id} (run {self.run})")

    # ---------------------------------------------------------------- time

    def _clock(self) -> float:
        return self._loop.time() - self._t0

    async def _sleep_until(self, clock: float) -> None:
        passed = self._loop.create_future()
        timer = self._loop.call_at(self._t0 + clock, _set, passed)
        try:
            await passed
        finally:
            timer.cancel()

    async def _first_of(self, futures: list[asyncio.Future[None]]) -> None:
        """Wait for the first of ``futures``, and for those that end in the same instant, up to the deadline."""
        alarm = self._loop.create_future()
        timer = None if math.isinf(self._deadline) else self._loop.call_at(self._t0 + self._deadline, _set, alarm)
        try:
            await asyncio.wait([*futures, alarm], return_when=asyncio.FIRST_COMPLETED)
            for _ in range(_INSTANT):
                await asyncio.sleep(0)
        finally:
            if timer is not None:
                timer.cancel()

    # ---------------------------------------------------------------- reports

    def _row(self, placed: Placed, result: Ended, estimated: bool) -> dict[str, Any]:
        judged = result.answer if placed.kind == "judge" and result.status == Status.OK else None
        failed = result.status not in (Status.OK, Status.CANCELLED)
        row: dict[str, Any] = {
            "kind": placed.kind,
            "query_id": self.query_id,
            "config": placed.config,
            "sample": placed.sample,
            "success": 0.0 if failed else None,
            "score": judged,
            "cost_usd": placed.cost_usd,
            "latency_s": result.at_s - placed.live.started_s,
            "n_calls": 1 if result.n_calls is None else result.n_calls,
            "tokens_in": result.tokens_in,
            "tokens_out": result.tokens_out,
            "failure_mode": result.status.word,
            "error": result.error,
            "task": self._shown,
            "run": self.run,
            "started_s": placed.live.started_s - self._t0,
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }
        if estimated:
            row["cost_estimated"] = True
        if result.abandoned:
            row["abandoned"] = True
        if judged is not None and placed.about is not None:
            row["verdict"] = {
                "config": placed.about.config, "sample": placed.about.sample, "score": judged,
                "accepted": judged >= self._rt.accept_at,
            }  # fmt: skip
        return row

    def decision(self, outcome: str, error: str | None = None) -> Decision:
        """Sum up; also warns loudly when the budget was passed."""
        core = self._core
        best = self._by_column.get(int(core.best[0]))
        value = math.floor(core.value[0, core.best[0]]) if best is not None else 1
        spend = math.fsum(self._paid)
        if self._rt.hard_budget and spend > self._budget:
            self._rt.counts["over_budget"] += 1
            logger.error("%s: spent $%.6f of a budget of $%.6f", self.query_id, spend, self._budget)
        return Decision(
            query_id=self.query_id, run=self.run, outcome=outcome, answer=self._answer, config=self._config,
            candidate=None if best is None else best.result.answer,
            accepted={0: False, 2: True}.get(value),
            spend_usd=spend, person_usd=self._person_usd, budget_usd=self._budget, clock_s=float(core.clock[0]),
            steps=int(core.steps[0]), calls=tuple(self._rows), refused=self._refused, overruns=self._overruns,
            leaked=sum(placed.live.alive for placed in self._placed), timeline=tuple(core.timeline()), error=error,
        )  # fmt: skip


def _lapse(start: float, end: float) -> float:
    """The time that added to ``start`` gives ``end`` to the last bit, which their difference may miss by one."""
    lapse = max(end - start, 0.0)
    if start + lapse < end:
        return math.nextafter(lapse, math.inf)
    return math.nextafter(lapse, 0.0) if start + lapse > end else lapse


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
