"""On a simulated clock the runtime is the environment: same observations, masks and actions, bit for bit."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

import brownout
from brownout.envs.router_core import RouterCore
from brownout.envs.streams import stream_id
from brownout.faults import Status, Verb
from brownout.trainers.baselines import make_baseline
from brownout.trainers.card import PolicyCard
from brownout.trainers.live_core import LiveCore
from brownout.trainers.policy import Policy, initial_weights
from brownout.trainers.runtime import Answer, Decision, Runtime, Step, Verdict
from brownout.trainers.runtime_clock import SimulatedLoop, run_simulated

LANE = np.zeros(1, np.int64)
# What the twin has to know of the episode to resolve a call as the environment does; the truth stays with it.
VISIBLE = ("clock", "spend", "committed", "running", "best", "judgements", "failures", "value", "family_running",
           "steps", "unjudged", "rank")  # fmt: skip


class HttpError(Exception):
    """Reads like the errors of HTTP clients."""

    def __init__(self, code: int, retry_after: float) -> None:
        super().__init__(f"HTTP {code}")
        self.status_code = code
        self.headers = {"Retry-After": repr(retry_after)} if retry_after else {}


class Whim:
    """Chooses by a digest of what it sees, so one bit that differs leads it elsewhere."""

    def __init__(self, salt: str) -> None:
        self.salt = salt.encode()

    def act_batch(self, observations: Any, mask: Any, uniforms: Any = None) -> np.ndarray:
        chosen = []
        for row, legal in zip(observations, mask, strict=True):
            digest = hashlib.blake2b(row.tobytes(), key=self.salt, digest_size=8).digest()
            open_ = np.flatnonzero(legal)
            # abstaining is always allowed and would end most episodes at once
            open_ = open_[:-1] if len(open_) > 1 else open_
            chosen.append(open_[int.from_bytes(digest, "little") % len(open_)])
        return np.array(chosen, dtype=np.int64)


class Twin:
    """Real async functions behind which the simulation decides: its task source, its faults, its judge."""

    def __init__(self, scenario: Any, profile: str) -> None:
        self.core = RouterCore(scenario, 1, profile=profile)
        self.live: LiveCore | None = None

    def begin(self, seed: int) -> None:
        self.core.seed(self.core.all_lanes, [seed])
        self.core.begin(self.core.all_lanes)

    def features(self, task: Any) -> dict[str, float]:
        columns = self.core.source.columns
        return {c.name: float(v) for c, v in zip(columns, self.core.source.features[0], strict=True)}

    def _sync(self) -> RouterCore:
        assert self.live is not None
        for name in VISIBLE:
            getattr(self.core, name)[...] = getattr(self.live, name)
        return self.core

    def _sync_before(self, configuration: str) -> None:
        """State at the moment of the launch, which the live core has booked by now."""
        core = self._sync()
        k = core.config_names.index(configuration)
        core.family_running[0, core.family_of[k]] -= 1
        core.running -= 1
        core.steps -= 1
        core.committed -= core.source.expected_cost[k]

    async def _run(self, name: str, verb: Verb) -> Answer:
        core, column = self.core, int(self.core.used[0])
        core._place(LANE, np.array([core.config_names.index(name)]), np.array([int(verb)]))
        start, finish = float(core.start[0, column]), float(core.finish[0, column])
        cost, status = float(core.cost[0, column]), Status(int(core.status[0, column]))
        retry = float(core.retry_after[0, column])
        loop = asyncio.get_running_loop()
        try:
            await asyncio.sleep(finish - start)
        except asyncio.CancelledError:
            core.clock[0] = loop.time()
            runs = np.zeros((1, core.max_calls), np.bool_)
            runs[0, column] = True
            return Answer(None, float(core._cancel_cost(LANE, runs)[0, column]))
        codes = {Status.SERVER_ERROR: 500, Status.BAD_GATEWAY: 502, Status.UNAVAILABLE: 503, Status.RATE_LIMITED: 429}
        error: Exception | None = None
        if status == Status.TIMEOUT:
            error = TimeoutError("gave up")
        elif status == Status.RESET:
            error = ConnectionResetError("peer")
        elif status in codes:
            error = HttpError(codes[status], retry)
        if error is not None:
            error.cost_usd = cost  # type: ignore[attr-defined]
            raise error
        return Answer(column, cost, status=status, retry_after_s=retry)

    async def call(self, task: Any, configuration: str) -> Answer:
        self._sync_before(configuration)
        return await self._run(configuration, Verb.LAUNCH)

    async def repair(self, task: Any, answer: Any, configuration: str) -> Answer:
        self._sync_before(configuration)
        return await self._run(configuration, Verb.REPAIR)

    async def _side(self, calls: Any) -> None:
        with contextlib.suppress(asyncio.CancelledError):  # the environment charges a judge in full
            await asyncio.sleep(float(calls.latency_s[0]))

    def judge(self) -> Any:
        """The judge's function, or one per judge."""
        of = {name: partial(self._judge, j) for j, name in enumerate(self.core.judge_names)}
        return of if self.core.spec.judges is not None else of.get("judge")

    async def _judge(self, j: int, task: Any, answer: Any) -> Verdict:
        calls, score = self._sync()._consult(LANE, j, np.array([answer]))
        await self._side(calls)
        return Verdict(float(score[0]), float(calls.cost_usd[0]), status=Status(int(calls.status[0])))

    async def person(self, task: Any) -> Answer:
        calls, _ = self._sync()._hand_over(LANE)
        await self._side(calls)
        return Answer("by hand", float(calls.cost_usd[0]), status=Status(int(calls.status[0])))


class Stage:
    """The environment, and beside it the runtime with the twin's functions."""

    def __init__(self, scenario: Any, profile: str, **options: Any) -> None:
        self.env = RouterCore(scenario, 1, profile=profile)
        self.twin = twin = Twin(scenario, profile)
        options = {"timeout_s": 1e6, **options}
        middle = {c.name: c.low for c in self.env.preference_source.columns}
        self.runtime = Runtime(
            Whim(""), scenario, twin.call, twin.judge(), repair=twin.repair, person=twin.person,
            features=twin.features, observer=self._observe, preferences=middle, **options,
        )  # fmt: skip
        twin.live = self.live = self.runtime._idle[0]
        self.steps: list[Any] = []

    def _observe(self, step: Step) -> None:
        name = self.env.action_names[step.action]
        self.steps.append((step.observation.tobytes(), step.mask.tobytes(), name))

    def in_environment(self, seed: int, actor: Any) -> list[Any]:
        core = self.env
        core.seed(core.all_lanes, [seed])
        core.begin(core.all_lanes)
        steps = []
        while True:
            observation, mask = core.observe(), core.mask()
            action = int(actor.act_batch(observation, mask)[0])
            steps.append((observation[0].tobytes(), mask[0].tobytes(), core.action_names[action]))
            core.advance(np.array([action]))
            if core.terminated[0] or core.truncated[0]:
                return steps

    def in_runtime(self, seed: int, actor: Any) -> tuple[list[Any], Decision]:
        self.twin.begin(seed)
        self.steps = []
        self.runtime.policy = actor
        preferences = {name: float(values[0]) for name, values in self.twin.core.preferences.items()}
        decision = run_simulated(self.runtime.solve({"id": seed}, preferences=preferences))
        return self.steps, decision

    def compare(self, seed: int, actor: Any) -> tuple[list[Any], Decision]:
        """Play an episode on both sides and hold them against each other."""
        expected = self.in_environment(seed, actor)
        steps, decision = self.in_runtime(seed, actor)
        env, live = self.env, self.live
        assert [action for *_, action in steps] == [action for *_, action in expected], (seed, decision.timeline)
        assert steps == expected, seed
        assert live.observe().tobytes() == env.observe().tobytes(), seed
        assert (live.clock[0], live.spend[0]) == (env.clock[0], env.spend[0]), seed
        outcome = env.outcome_names[env.outcome[0]]
        assert decision.outcome == {"success": "submitted", "wrong_answer": "submitted"}.get(outcome, outcome)
        assert decision.leaked == 0
        return steps, decision


def actors(scenario: Any) -> Iterator[tuple[str, Any]]:
    core = RouterCore(scenario, 1)
    for salt in ("a", "b"):
        yield f"whim-{salt}", Whim(salt)
    for name in ("cheapest-first", "race-all", "best-of-n", "greedy-index", "retry-then-fallback"):
        yield name, make_baseline(name, core)
    weights = initial_weights(len(core.observation_columns), len(core.action_names), seed=3)
    weights["policy.2.weight"] *= 100.0  # an opinion on everything, unlike a fresh net
    yield "network", Policy(weights, card=PolicyCard.of(core))


@pytest.mark.parametrize(("profile", "episodes"), [("clean", 200), ("production", 200), ("hostile", 80)])
def test_the_runtime_is_the_environment_bit_for_bit(profile: str, episodes: int) -> None:
    """Eight policies take turns; between them every kind of action, ending and failure occurs."""
    stage = Stage("support-desk", profile, hard_budget=False)
    actions: set[str] = set()
    outcomes: set[str] = set()
    modes: set[str] = set()
    cast = list(actors("support-desk"))
    for seed in range(episodes):
        steps, decision = stage.compare(seed, cast[seed % len(cast)][1])
        actions |= {action for *_, action in steps}
        outcomes.add(decision.outcome)
        modes |= {row["failure_mode"] for row in decision.calls}
    rare = {"abstain", "repair"} if profile == "hostile" else {"abstain"}
    assert set(stage.env.action_names) - actions <= rare
    assert {"submitted", "escalated", "limit"} <= outcomes
    expected = {"clean": set(), "production": {"rate-limited", "unavailable", "malformed"}, "hostile": {"timeout"}}
    assert {"ok", "cancelled", *expected[profile]} <= modes


def test_a_hard_budget_that_never_binds_changes_nothing() -> None:
    scenario = brownout.load_scenario("support-desk", ["limits.budget_usd=50", "limits.on_budget=end"])
    stage = Stage(scenario, "production", hard_budget=True)
    for seed in range(40):
        assert stage.compare(seed, Whim("c"))[1].refused == 0


def test_a_hard_budget_changes_only_decisions_that_it_refuses() -> None:
    scenario = brownout.load_scenario("support-desk", ["limits.budget_usd=0.4", "limits.on_budget=end"])
    stage, refused = Stage(scenario, "production", hard_budget=True), 0
    for seed in range(40):
        expected = stage.in_environment(seed, Whim("a"))
        steps, decision = stage.in_runtime(seed, Whim("a"))
        refused += bool(decision.refused)
        assert decision.refused or steps == expected
    assert 0 < refused < 40


@pytest.mark.parametrize(
    "overrides",
    [
        ["limits.on_deadline=soft", "limits.deadline_s=10"],
        ["limits.on_budget=end", "limits.budget_usd=0.3"],
        ["limits.on_budget=mask", "limits.budget_usd=0.3"],
        ["limits.on_budget=soft"],
        ["limits.cancel_share=0.25", "limits.max_steps=7"],
        ["limits.deadline_s=8"],
        ["preferences.per_usd=[0.5, 4]", "preferences.deadline_s=[5, 100]"],
        ["judge.latency_s=2.0", "portfolio.fast.latency_s=0.5", "portfolio.large.latency_s=0.5"],
    ],
    ids=["soft-deadline", "budget", "mask", "soft-budget", "cancel-share", "short", "sampled", "ties"],
)
def test_every_rule_of_the_limits_holds_in_the_runtime(overrides: list[str]) -> None:
    stage = Stage(brownout.load_scenario("support-desk", overrides), "production", hard_budget=False)
    for seed in range(24):
        stage.compare(seed, Whim("ab"[seed % 2]))


@pytest.mark.parametrize(
    "scenario",
    ["textbook", "flaky-api", "judge-drift", "overnight-loop", "patch-review", "deep-research", "cheap-first"],
)
def test_other_scenarios_match_as_well(scenario: str) -> None:
    stage = Stage(scenario, "production", hard_budget=False)
    for seed in range(12):
        stage.compare(seed, Whim("d"))


def test_faults_that_depend_on_running_calls_match_as_well() -> None:
    """`capacity-limit` counts what runs at the moment of a launch, so calls have to start one by one."""
    stage = Stage("price-surge", "hostile", hard_budget=False)
    cast = list(actors("price-surge"))
    modes: set[str] = set()
    for seed in range(24):
        modes |= {row["failure_mode"] for row in stage.compare(seed, cast[seed % len(cast)][1])[1].calls}
    assert "rate-limited" in modes


def test_one_wrong_bit_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison notices a price that is off by a millionth of itself."""
    honest = Answer

    def late(*args: Any, **kwargs: Any) -> Answer:
        answer = honest(*args, **kwargs)
        return Answer(answer.answer, (answer.cost_usd or 0.0) * (1 + 1e-6), answer.status, answer.retry_after_s)

    monkeypatch.setitem(globals(), "Answer", late)
    stage = Stage("support-desk", "clean", hard_budget=False)
    with pytest.raises(AssertionError):
        stage.compare(0, Whim("a"))


def test_the_simulated_clock_keeps_time() -> None:
    async def main() -> tuple[float, bool]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        first, second = loop.create_task(asyncio.sleep(0.1)), loop.create_task(asyncio.sleep(3600.0))
        await first
        assert loop.time() == 0.1
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(second), 5.0)
        await second
        return loop.time(), first.done()

    assert run_simulated(main()) == (3600.0, True)


def test_a_simulated_deadlock_is_an_error() -> None:
    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(RuntimeError, match="no timer"):
        run_simulated(main())


def test_stochastic_policies_draw_by_task() -> None:
    """`random` is given the uniforms of the task's own stream, so a task solved again draws anew and repeatably."""
    stage = Stage("support-desk", "clean")
    actor = make_baseline("random", stage.env)
    runs = [[action for *_, action in stage.in_runtime(3, actor)[0]] for _ in range(6)]
    again = [[action for *_, action in Stage("support-desk", "clean").in_runtime(3, actor)[0]] for _ in range(1)]
    assert runs[:1] == again
    assert any(run != runs[0] for run in runs)
    core = LiveCore(brownout.load_scenario("support-desk"))  # type: ignore[arg-type]
    core.begin_task("3", 1, core.source.features[0], {"budget_usd": 0.6})
    assert core.seeds[0] == np.uint64(stream_id("3"))
