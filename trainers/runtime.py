"""``Runtime``: a trained policy that drives real calls.

The policy sees the columns it was trained on. Its decisions are carried out with asyncio: launched calls run at the
same time, a wait ends with the first answer, and what is not needed any more is cancelled. See ``docs/runtime.md``.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..envs.router_core import RouterCore
from ..errors import TableError
from ..rewards.registry import did_you_mean
from ..scenarios.columns import Column
from ..scenarios.loading import load_scenario
from ..scenarios.schema import RouterScenario, Scenario
from .evaluation import resolve_policy
from .live_core import CallableError, LiveCore, encode_task, task_preferences
from .runtime_calls import Answer, Verdict, check_async
from .runtime_log import CallLog
from .runtime_status import Refused, StatusRule, StatusTable
from .runtime_task import TaskRun
from .runtime_types import Decision, Step

__all__ = [
    "Answer",
    "CallableError",
    "Decision",
    "Hooks",
    "LiveConfiguration",
    "Refused",
    "Runtime",
    "Step",
    "Verdict",
]

logger = logging.getLogger("brownout.runtime")
CallFunction = Callable[[Any, str], Awaitable[Any]]
JudgeFunction = Callable[[Any, Any], Awaitable[Any]]


@dataclass(frozen=True)
class LiveConfiguration:
    """How to reach one configuration.

    Args:
        call: ``async (task, configuration) -> Answer``.
        max_cost_usd: what one call can cost at most (a limit on its tokens, say). It is set aside before the call
            starts, so the budget is as hard as this number is true. None sets the scenario's mean price aside.
        timeout_s: seconds after which a call is cut; None takes the runtime's.
    """

    call: CallFunction
    max_cost_usd: float | None = None
    timeout_s: float | None = None


@dataclass(frozen=True)
class Hooks:
    """All functions that connect a policy to the world; ``brownout runtime --calls module:hooks`` names one.

    Args:
        configurations: by name a function or a :class:`LiveConfiguration`, or one function for all.
        judge: ``async (task, answer) -> bool``, score in [0, 1], (score, cost) or :class:`Verdict`. Needed when the
            scenario has a judge; for several judges a mapping from their names to such functions.
        features: ``task -> {column: value}``, what is known of a task; default: its entry ``features``.
        query_id: ``task -> text``; default: its entry ``query_id`` or ``id``, else a digest of its text.
        repair: ``async (task, answer, configuration) -> Answer``; without one the policy may not repair.
        person: ``async (task) -> Answer``; without one ``escalate`` ends the task and leaves the rest to the caller.
        statuses: exception type, class name or HTTP code -> status word, before the built-in rules.
        judge_max_cost_usd: what one judgement can cost at most.
        operating_point: ``task -> {preference: value}``, what a dollar and a second weigh for this task, its budget
            and deadline; what it leaves out is the runtime's.
    """

    configurations: Mapping[str, CallFunction | LiveConfiguration] | CallFunction
    judge: JudgeFunction | Mapping[str, JudgeFunction] | None = None
    features: Callable[[Any], Any] | None = None
    query_id: Callable[[Any], str] | None = None
    repair: Callable[[Any, Any, str], Awaitable[Any]] | None = None
    person: Callable[[Any], Awaitable[Any]] | None = None
    statuses: StatusRule | None = None
    judge_max_cost_usd: float | None = None
    operating_point: Callable[[Any], Mapping[str, float]] | None = None


class Runtime:
    """Solves tasks with a policy and real calls; one runtime serves many tasks at once.

    Args:
        policy: a policy, an artefact folder or ``baseline:NAME``.
        scenario: the scenario it was trained on (name, path, mapping or object). Its portfolio, limits and
            prices count here, its fault profiles do not.
        configurations: see :class:`Hooks`, as for ``judge``, ``features``, ``query_id``, ``repair``, ``person``,
            ``statuses``, ``judge_max_cost_usd`` and ``operating_point``.
        preferences: ``budget_usd``, ``deadline_s``, ``per_usd``, ``per_s``; default: the scenario's. One that the
            scenario samples must be given here, by ``operating_point`` or to :meth:`solve`.
        hard_budget: refuse a call that could pass the budget, by hiding its action from the policy. False does
            what the simulation does: the task ends once the budget is spent, so calls in flight may pass it.
            Default: hard, unless the scenario's ``limits.on_budget`` is ``soft``.
        timeout_s: seconds after which a call is cut; default: the deadline.
        judge_timeout_s: the same for the judge; default: ``timeout_s``.
        person_timeout_s: the same for the person; default: a day.
        accept_at: score from which the judge accepts; default: 0.5, or the scenario's ``quality.accept_at``.
        grace_s: seconds that a cancelled call may take to stop; after that it counts as leaked.
        log: a :class:`~brownout.trainers.runtime_log.CallLog`, or the path of one.
        observer: called with a :class:`Step` at every decision.

    Raises:
        CallableError: a function is missing, not async, or for no configuration of the scenario.
        ArtefactError: the policy does not fit the scenario.
    """

    def __init__(
        self,
        policy: Any,
        scenario: str | Path | Mapping[str, Any] | Scenario,
        configurations: Mapping[str, CallFunction | LiveConfiguration] | CallFunction,
        judge: JudgeFunction | Mapping[str, JudgeFunction] | None = None,
        *,
        features: Callable[[Any], Any] | None = None,
        query_id: Callable[[Any], str] | None = None,
        repair: Callable[[Any, Any, str], Awaitable[Any]] | None = None,
        person: Callable[[Any], Awaitable[Any]] | None = None,
        statuses: StatusRule | None = None,
        judge_max_cost_usd: float | None = None,
        operating_point: Callable[[Any], Mapping[str, float]] | None = None,
        preferences: Mapping[str, float] | None = None,
        hard_budget: bool | None = None,
        timeout_s: float | None = None,
        judge_timeout_s: float | None = None,
        person_timeout_s: float = 86_400.0,
        accept_at: float | None = None,
        grace_s: float = 1.0,
        log: CallLog | str | Path | None = None,
        observer: Callable[[Step], None] | None = None,
    ) -> None:
        loaded = load_scenario(scenario)
        if not isinstance(loaded, RouterScenario):
            raise CallableError(f"scenario {loaded.name!r}: its environment is {loaded.env!r}; allowed: router")
        self.scenario = loaded
        core = LiveCore(loaded)
        self.name, self.policy = resolve_policy(policy, RouterCore(loaded, 1, profile="clean"))
        self._probe, self._idle = core, [core]
        self.configurations = _configurations(configurations, core.config_names)
        for what, function in (("repair", repair), ("person", person)):
            if function is not None:
                check_async(function, what)
        self.judges = _judges(judge, loaded)
        self.repair, self.person = repair, person
        self._features, self._query_id = features or _own_features, query_id or _own_id
        self.statuses = StatusTable(statuses)
        self._preferences = dict(preferences or {})
        self._operating_point = operating_point or _nothing
        task_preferences(core, {**_middle(core), **self._preferences})
        soft = loaded.limits.on_budget == "soft"
        self.hard_budget = not soft if hard_budget is None else hard_budget
        deadline = self._preferences.get("deadline_s", loaded.limits.deadline_s)
        self.timeout_s = _positive("timeout_s", deadline if timeout_s is None else timeout_s)
        self.judge_timeout_s = _positive("judge_timeout_s", judge_timeout_s or self.timeout_s)
        self.person_timeout_s = _positive("person_timeout_s", person_timeout_s)
        self.grace_s = _positive("grace_s", grace_s)
        usual = 0.5 if loaded.quality is None else loaded.quality.accept_at
        self.accept_at = usual if accept_at is None else _positive("accept_at", accept_at)
        self.judge_max_cost_usd = judge_max_cost_usd
        self._set_reserves(core)
        self.log = CallLog(log) if isinstance(log, (str, Path)) else log
        self.observer = observer
        self.counts: Counter[str] = Counter()
        self.leaked: set[asyncio.Task[Any]] = set()
        self._runs: Counter[str] = Counter()
        self._samples: Counter[tuple[str, int, str]] = Counter()

    @property
    def observation_columns(self) -> tuple[Column, ...]:
        """What the policy sees, by column."""
        return self._probe.observation_columns

    @property
    def action_names(self) -> tuple[str, ...]:
        """What the policy can do, by index."""
        return self._probe.action_names

    @classmethod
    def of(cls, policy: Any, scenario: Any, hooks: Hooks, **options: Any) -> Runtime:
        """Build a runtime from hooks; the options are those of the class."""
        given = {name: getattr(hooks, name) for name in hooks.__dataclass_fields__}
        return cls(policy, scenario, **{**given, **options})

    def _set_reserves(self, core: LiveCore) -> None:
        """What is set aside per call: the declared maximum, else the mean price."""
        panel, repair = self.scenario.panel.values(), self.scenario.repair
        prices = core.source.expected_cost.tolist()
        most = [self.configurations[name].max_cost_usd for name in core.config_names]
        factor = repair.cost_factor if repair is not None else 1.0
        self.reserves = [p if m is None else m for p, m in zip(prices, most, strict=True)]
        self.repair_reserves = [p * factor if m is None else m for p, m in zip(prices, most, strict=True)]
        self.judge_prices = [judge.cost_usd.table().mean for judge in panel]
        self.judge_times = [judge.latency_s.table().mean for judge in panel]
        most_judge = self.judge_max_cost_usd
        self.judge_reserves = [price if most_judge is None else most_judge for price in self.judge_prices]
        open_ = [name for name, m in zip(core.config_names, most, strict=True) if m is None]
        if self.hard_budget and open_:
            logger.warning("no max_cost_usd for %s: the mean price is set aside, a dear call may pass the budget",
                           ", ".join(open_))  # fmt: skip

    # ---------------------------------------------------------------- solving

    async def solve(self, task: Any, *, preferences: Mapping[str, float] | None = None) -> Decision:
        """Solve one task.

        Cancelling it stops its calls first. A broken policy or hook raises; failing calls do not.

        Args:
            task: anything; it is handed to the functions as it is.
            preferences: of this task, over those of ``operating_point`` and of the runtime.

        Raises:
            CallableError: its features or preferences are not valid.
            PolicyError: the policy chose what is not allowed.
            TableError: the log cannot be written.
        """
        return await self._solve(task, preferences, [])

    async def _solve(self, task: Any, preferences: Mapping[str, float] | None, failed: list[Decision]) -> Decision:
        query_id = self.query_id(task)
        shown = self._features(task)
        if inspect.isawaitable(shown):
            shown = await shown
        core = self._idle.pop() if self._idle else LiveCore(self.scenario)
        try:
            features = encode_task(core, shown, query_id)
            chosen = task_preferences(core, {**self._preferences, **self._operating_point(task), **(preferences or {})})
            number = self.log.next_run(query_id) if self.log is not None else self._runs[query_id]
            self._runs[query_id] += 1
            run = TaskRun(self, core, task, query_id, number, features, shown, chosen)
            try:
                decision = await run.play()
            except BaseException as error:
                name = "cancelled" if isinstance(error, asyncio.CancelledError) else "harness_error"
                failed.append(run.decision(name, f"{type(error).__name__}: {error}"))
                self._note(failed[0])
                raise
        finally:
            self._idle.append(core)
        self._note(decision)
        return decision

    async def solve_many(
        self,
        tasks: Iterable[Any],
        *,
        concurrency: int = 8,
        on_decision: Callable[[Decision], None] | None = None,
    ) -> list[Decision]:
        """Solve many tasks, ``concurrency`` at a time; returns their decisions in the order of the tasks.

        A task on which policy or hooks break gets a decision with the outcome ``harness_error``; the others go on.

        Args:
            tasks: an iterable; the next task is taken when there is room for it.
            concurrency: tasks at a time.
            on_decision: called with each decision as it is made.

        Raises:
            CallableError: ``concurrency`` is not a whole number from 1.
            TableError: the log cannot be written; running tasks are stopped.
        """
        if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
            raise CallableError(f"concurrency: got {concurrency!r}; allowed: a whole number from 1")
        numbered = enumerate(tasks)
        decisions: dict[int, Decision] = {}

        async def work() -> None:
            for index, task in numbered:
                decisions[index] = decision = await self._solve_or_report(index, task)
                if on_decision is not None:
                    on_decision(decision)

        workers = [asyncio.ensure_future(work()) for _ in range(concurrency)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        return [decisions[index] for index in sorted(decisions)]

    async def _solve_or_report(self, index: int, task: Any) -> Decision:
        failed: list[Decision] = []
        try:
            return await self._solve(task, None, failed)
        except TableError:
            raise
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            logger.exception("task %d: %s", index, text)
            if failed:
                return failed[0]
            try:
                query_id = self.query_id(task)
            except Exception:
                query_id = f"#{index}"
            decision = Decision(query_id, self._runs[query_id], "harness_error", error=text)
            self._note(decision)
            return decision

    def _note(self, decision: Decision) -> None:
        """Count a decision and log it."""
        self.counts["tasks"] += 1
        self.counts[decision.outcome] += 1
        if self.log is None:
            return
        fields = ("query_id", "run", "outcome", "config", "accepted", "spend_usd", "person_usd", "clock_s", "steps",
                  "refused", "overruns", "leaked", "error")  # fmt: skip
        self.log.write({"kind": "task", **{name: getattr(decision, name) for name in fields},
                        "calls": len(decision.calls)})  # fmt: skip
        self.log.check()

    # ---------------------------------------------------------------- for the tasks

    def query_id(self, task: Any) -> str:
        """Id of a task."""
        return str(self._query_id(task))

    def next_sample(self, query_id: str, config: str) -> int:
        """Number of the next call of a configuration on a task."""
        if self.log is not None:
            return self.log.next_sample(query_id, config)
        key = (query_id, 0, config)
        self._samples[key] += 1
        return self._samples[key] - 1

    def note_leak(self, child: asyncio.Task[Any], where: str) -> None:
        """Report a coroutine that does not stop; it is kept in ``leaked`` until it does."""
        self.counts["leaked"] += 1
        logger.error("%s: a call still runs %g s after its cancellation; it is left behind", where, self.grace_s)
        self.leaked.add(child)
        child.add_done_callback(self.leaked.discard)

    def close(self) -> None:
        """Close the log."""
        if self.log is not None:
            self.log.close()


def _judges(given: Any, scenario: RouterScenario) -> dict[str, JudgeFunction]:
    """The judges' functions by the names that the scenario gives them."""
    names = list(scenario.panel)
    if scenario.judges is None:
        if given is None:
            if names:
                raise CallableError("judge: the scenario has one, so the policy will ask it; give an async function")
            return {}
        check_async(given, "judge")
        return {name: given for name in names}  # noqa: C420 (its type would hold None)
    if not isinstance(given, Mapping):
        raise CallableError(f"judge: the scenario has several; give a mapping with the keys {', '.join(names)}")
    for name in given:
        if name not in names:
            near = did_you_mean(name, names)
            raise CallableError(f"judge: the scenario has no {name!r}{near}; allowed: {', '.join(names)}")
    lacking = [name for name in names if name not in given]
    if lacking:
        raise CallableError(f"judge: missing {', '.join(lacking)}; needed: {', '.join(names)}")
    for name in names:
        check_async(given[name], f"judge.{name}")
    return {name: given[name] for name in names}


def _configurations(given: Any, names: tuple[str, ...]) -> dict[str, LiveConfiguration]:
    if not isinstance(given, Mapping):
        given = dict.fromkeys(names, given)
    for name in given:
        if name not in names:
            near = did_you_mean(name, list(names))
            raise CallableError(f"configurations: the scenario has no {name!r}{near}; allowed: {', '.join(names)}")
    lacking = [name for name in names if name not in given]
    if lacking:
        raise CallableError(f"configurations: missing {', '.join(lacking)}; needed: {', '.join(names)}")
    result: dict[str, LiveConfiguration] = {}
    for name in names:
        entry = given[name]
        entry = entry if isinstance(entry, LiveConfiguration) else LiveConfiguration(entry)
        check_async(entry.call, f"configurations.{name}")
        for field in ("max_cost_usd", "timeout_s"):
            if getattr(entry, field) is not None:
                _positive(f"configurations.{name}.{field}", getattr(entry, field))
        result[name] = entry
    return result


def _positive(where: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 < value < 1e9:
        raise CallableError(f"{where}: got {value!r}; allowed: a number above 0")
    return float(value)


def _middle(core: RouterCore) -> dict[str, float]:
    """A stand-in for preferences that only :meth:`Runtime.solve` will be told."""
    return {column.name: column.low for column in core.preference_source.columns if column.sampled}


def _nothing(task: Any) -> Mapping[str, float]:
    return {}


def _own_features(task: Any) -> Any:
    found = task.get("features", {}) if isinstance(task, Mapping) else getattr(task, "features", {})
    return found if found is not None else {}


def _own_id(task: Any) -> str:
    for name in ("query_id", "id"):
        found = task.get(name) if isinstance(task, Mapping) else getattr(task, name, None)
        if found is not None:
            return str(found)
    return hashlib.blake2b(str(task).encode(), digest_size=8).hexdigest()
