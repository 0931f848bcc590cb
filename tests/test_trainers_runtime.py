"""The runtime on real asyncio concurrency: races, limits, failures, leaks, and what a caller gets back."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib.util
import logging
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import brownout
from brownout.errors import ArtefactError, PolicyError, TableError
from brownout.trainers.runtime import Answer, CallableError, Decision, LiveConfiguration, Runtime, Step, Verdict
from brownout.trainers.runtime_clock import run_simulated
from router_support import tiny
from source_tree import ROOT


class Script:
    """Takes named actions in order; `submit` when they run out."""

    def __init__(self, *names: str) -> None:
        self.names, self.at = names, 0
        self.actions = ["launch:sure", "launch:dud", "launch:slow", "wait", "judge", "repair", "submit", "escalate",
                        "abstain"]  # fmt: skip

    def act_batch(self, observations: Any, mask: Any, uniforms: Any = None) -> np.ndarray:
        name = self.names[self.at] if self.at < len(self.names) else "submit"
        self.at += 1
        return np.array([self.actions.index(name)])


SECONDS = {"sure": 8.0, "dud": 2.0, "slow": 64.0}


async def ask(task: Any, configuration: str) -> Answer:
    await asyncio.sleep(SECONDS[configuration])
    return Answer(f"{configuration} says", 0.25, tokens_in=7)


async def accept(task: Any, answer: Any) -> bool:
    await asyncio.sleep(1.0)
    return True


def make(policy: Any, call: Any = ask, judge: Any = accept, scenario: Any = None, **options: Any) -> Runtime:
    given: Any = call if isinstance(call, dict) else dict.fromkeys(SECONDS, call)
    features = options.pop("features", lambda task: {"class": "only"})
    return Runtime(policy, scenario or tiny(), given, judge, features=features, **options)


def run(runtime: Runtime, task: Any = "a task", **options: Any) -> Decision:
    return run_simulated(runtime.solve(task, **options))


def rows_of(decision: Decision, config: str) -> list[dict[str, Any]]:
    return [row for row in decision.calls if row["config"] == config]


# ---------------------------------------------------------------- decisions


def test_calls_run_at_once_and_the_loser_is_cancelled() -> None:
    stopped: list[str] = []

    async def call(task: Any, configuration: str) -> Answer:
        try:
            return await ask(task, configuration)
        except asyncio.CancelledError:
            stopped.append(configuration)
            raise

    decision = run(make(Script("launch:sure", "launch:slow", "launch:dud", "wait", "wait", "judge"), call))
    assert (decision.outcome, decision.answer, decision.config, decision.accepted) == (
        "submitted", "sure says", "sure", True,
    )  # fmt: skip
    assert decision.clock_s == 9.0  # 8 s of `sure`, though 2 s of `dud` and 9 s of `slow` passed meanwhile
    assert stopped == ["slow"]
    assert [row["failure_mode"] for row in decision.calls] == ["ok", "ok", "ok", "cancelled"]
    # the call told no cost: 9 of 64 expected seconds of an expected $0.5
    assert decision.calls[-1]["cost_usd"] == pytest.approx(0.5 * 9 / 64)
    assert decision.calls[-1]["cost_estimated"] is True
    assert decision.timeline[-1].endswith("submit: submitted")


def test_the_policy_sees_what_happened() -> None:
    seen: list[Step] = []

    async def call(task: Any, configuration: str) -> Answer:
        await asyncio.sleep(3.0)
        error = ConnectionError("no")
        error.retry_after_s = 5.0  # type: ignore[attr-defined]
        raise error

    runtime = make(Script("launch:dud", "wait", "wait", "abstain"), call, observer=seen.append)
    decision = run(runtime)
    names = [column.name for column in runtime.observation_columns]
    after = dict(zip(names, seen[2].observation, strict=True))
    assert (after["clock"], after["dud.failed"], after["dud.last_status"]) == (3.0, 1.0, 3.0)
    assert (after["dud.retry_in"], after["spend"]) == (5.0, 0.0)
    assert dict(zip(names, seen[3].observation, strict=True))["clock"] == 8.0  # the wait backed off until then
    assert decision.outcome == "abstained"
    assert decision.answer is None


def test_repair_gets_the_answer_and_a_person_takes_over() -> None:
    asked: list[Any] = []

    async def mend(task: Any, answer: Any, configuration: str) -> tuple[str, float]:
        asked.append((task, answer, configuration))
        await asyncio.sleep(2.0)
        return "mended", 0.125

    async def person(task: Any) -> Answer:
        await asyncio.sleep(100.0)
        return Answer("by hand", 2.0)

    script = Script("launch:sure", "wait", "repair", "wait", "escalate")
    decision = run(make(script, repair=mend, person=person))
    assert asked == [("a task", "sure says", "sure")]
    assert (decision.outcome, decision.answer, decision.config) == ("escalated", "by hand", "person")
    assert (decision.spend_usd, decision.person_usd, decision.clock_s) == (0.375, 2.0, 110.0)
    assert [row["kind"] for row in decision.calls] == ["launch", "repair", "person"]
    assert run(make(Script("escalate"))).answer is None  # without a hook the caller hands over


def test_what_no_hook_can_do_is_hidden_from_the_policy() -> None:
    with pytest.raises(PolicyError, match="chose action 5"):
        run(make(Script("launch:sure", "wait", "repair")))


def test_graded_scores_count_from_the_threshold() -> None:
    async def grade(task: Any, answer: Any) -> Verdict:
        return Verdict(0.6, 0.01)

    script = ("launch:sure", "wait", "judge")
    assert run(make(Script(*script), judge=grade)).accepted is True
    assert run(make(Script(*script), judge=grade, accept_at=0.7)).accepted is False


def test_a_judge_that_breaks_leaves_the_answer_unjudged() -> None:
    async def broken(task: Any, answer: Any) -> bool:
        raise KeyError("score")

    decision = run(make(Script("launch:sure", "wait", "judge"), judge=broken))
    assert decision.accepted is None
    assert decision.answer == "sure says"
    row = rows_of(decision, "judge")[0]
    assert (row["failure_mode"], row["error"]) == ("unexpected", "KeyError: 'score'")


def test_objects_that_break_when_looked_at_end_the_call() -> None:
    class Odd:
        cost_usd = 0.5

        @property
        def answer(self) -> Any:
            raise RuntimeError("lazy")

    class OddError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("lazy")

    async def call(task: Any, configuration: str) -> Any:
        if configuration == "sure":
            return Odd()
        raise OddError

    decision = run(make(Script("launch:sure", "launch:dud", "wait", "wait", "abstain"), call))
    assert [row["failure_mode"] for row in decision.calls] == ["malformed", "malformed"]
    assert "unreadable: RuntimeError" in decision.calls[0]["error"]


# ---------------------------------------------------------------- limits


def test_a_hanging_call_is_cut() -> None:
    async def hang(task: Any, configuration: str) -> Answer:
        await asyncio.Event().wait()
        raise AssertionError

    call = {"sure": LiveConfiguration(hang, timeout_s=5.0), "dud": hang, "slow": hang}
    decision = run(make(Script("launch:sure", "launch:dud", "wait", "wait", "abstain"), call, timeout_s=11.0))
    assert [(row["config"], row["failure_mode"], row["latency_s"]) for row in decision.calls] == [
        ("sure", "timeout", 5.0), ("dud", "timeout", 11.0),
    ]  # fmt: skip
    assert decision.leaked == 0


def test_the_deadline_ends_a_task_and_shows_what_was_in_hand() -> None:
    decision = run(make(Script("launch:dud", "launch:slow", "wait", "wait"), preferences={"deadline_s": 20.0},
                        timeout_s=99.0))  # fmt: skip
    assert (decision.outcome, decision.clock_s, decision.answer) == ("limit", 20.0, None)
    assert decision.candidate == "dud says"
    assert [(row["failure_mode"], row["latency_s"]) for row in rows_of(decision, "slow")] == [("cancelled", 20.0)]


def test_a_judge_is_cut_at_the_deadline() -> None:
    async def slow(task: Any, answer: Any) -> bool:
        await asyncio.sleep(50.0)
        return True

    decision = run(make(Script("launch:dud", "launch:slow", "wait", "judge"), judge=slow,
                        preferences={"deadline_s": 20.0}, timeout_s=99.0))  # fmt: skip
    assert (decision.outcome, decision.clock_s) == ("limit", 20.0)
    assert {row["config"]: row["failure_mode"] for row in decision.calls} == {
        "dud": "ok", "slow": "cancelled", "judge": "cancelled",
    }  # fmt: skip


def test_steps_run_out() -> None:
    decision = run(make(Script("launch:slow", *["launch:sure"] * 2), scenario=tiny(limits__max_steps=3)))
    assert (decision.outcome, decision.steps, len(decision.calls)) == ("limit", 3, 3)


class Greedy:
    """Launches whatever it may, then waits, then abstains."""

    def act_batch(self, observations: Any, mask: Any, uniforms: Any = None) -> np.ndarray:
        return np.array([np.flatnonzero(mask[0])[0] if mask[0][:4].any() else 8])


def test_a_call_that_could_pass_the_budget_is_not_launched() -> None:
    call = {name: LiveConfiguration(ask, 0.25) for name in SECONDS}
    decision = run(make(Greedy(), call, preferences={"budget_usd": 0.9}))
    assert decision.outcome == "abstained"
    assert len(decision.calls) == 3
    assert decision.spend_usd == 0.75
    assert decision.refused > 0
    assert decision.overruns == 0


def test_money_set_aside_comes_back() -> None:
    """Two calls at a time fit; each costs less than declared, so more follow."""
    call = {name: LiveConfiguration(ask, 0.5) for name in SECONDS}
    decision = run(make(Greedy(), call, preferences={"budget_usd": 1.0}))
    assert len(decision.calls) == 3
    assert decision.spend_usd == 0.75


def test_without_a_declared_cost_the_mean_price_is_set_aside(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "brownout.runtime"):
        runtime = make(Greedy(), preferences={"budget_usd": 0.6})
    assert "no max_cost_usd for sure, dud, slow" in caplog.text
    assert runtime.reserves == [0.25, 0.0625, 0.5]


def test_a_cost_above_the_declared_one_is_loud(caplog: pytest.LogCaptureFixture) -> None:
    call = {name: LiveConfiguration(ask, 0.2) for name in SECONDS}
    runtime = make(Script("launch:sure", "wait"), call, preferences={"budget_usd": 0.22})
    with caplog.at_level(logging.ERROR, "brownout.runtime"):
        decision = run(runtime)
    assert decision.overruns == runtime.counts["overruns"] == runtime.counts["over_budget"] == 1
    assert "cost $0.250000, declared at most $0.200000" in caplog.text
    assert "spent $0.250000 of a budget of $0.220000" in caplog.text
    assert decision.outcome == "limit"


# ---------------------------------------------------------------- nothing is left behind


async def stubborn(task: Any, configuration: str) -> Answer:
    """Takes every cancellation for a joke."""
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.01 if task == "for a while" else 3600.0)


def test_a_call_that_will_not_stop_is_reported_as_leaked(caplog: pytest.LogCaptureFixture) -> None:
    runtime = make(Script("launch:sure", "launch:dud", "abstain"), {"sure": stubborn, "dud": ask, "slow": ask})

    async def main() -> tuple[Decision, float, int]:
        with caplog.at_level(logging.ERROR, "brownout.runtime"):
            decision = await runtime.solve("a task")
        loop = asyncio.get_running_loop()
        left = list(runtime.leaked)
        ended = loop.time()
        for task in left:  # the test has to get rid of it somehow
            task.get_coro().close()
        return decision, ended, len(left)

    loop = asyncio.new_event_loop()
    try:
        start = loop.time()
        runtime.grace_s = 0.05
        decision, ended, left = loop.run_until_complete(main())
    finally:
        loop.close()
    assert decision.leaked == left == runtime.counts["leaked"] == 1
    assert ended - start < 2.0
    assert "still runs" in caplog.text
    row = rows_of(decision, "sure")[0]
    assert (row["failure_mode"], row["abandoned"]) == ("cancelled", True)
    assert "abandoned" not in rows_of(decision, "dud")[0]


def test_cancelling_a_task_stops_its_calls() -> None:
    running: set[str] = set()

    async def call(task: Any, configuration: str) -> Answer:
        running.add(configuration)
        try:
            return await ask(task, configuration)
        finally:
            await asyncio.sleep(0.5)  # takes a moment to clean up
            running.discard(configuration)

    runtime = make(Script("launch:sure", "launch:slow", "wait"), call)

    async def main() -> int:
        child = asyncio.ensure_future(runtime.solve("a task"))
        await asyncio.sleep(1.0)
        assert running == {"sure", "slow"}
        child.cancel()
        await asyncio.sleep(0.1)
        child.cancel()  # an impatient caller does not change that
        with pytest.raises(asyncio.CancelledError):
            await child
        return len(asyncio.all_tasks())

    assert run_simulated(main()) == 1
    assert not running
    assert runtime.counts["cancelled"] == 1


def test_a_broken_policy_stops_its_calls_and_loses_no_other_task() -> None:
    class Moody(Script):
        def act_batch(self, observations: Any, mask: Any, uniforms: Any = None) -> np.ndarray:
            self.at += 1
            if self.at == 4:
                raise ZeroDivisionError("policy")
            legal = mask[0]
            wanted = [4, 6, 3, 0] if legal[3] or legal[4] or legal[6] else [0]
            return np.array([next(action for action in wanted if legal[action])])

    runtime = make(Moody())
    decisions = run_simulated(runtime.solve_many(["a", "b", "c"], concurrency=2))
    outcomes = [decision.outcome for decision in decisions]
    assert sorted(outcomes) == ["harness_error", "submitted", "submitted"]
    broken = decisions[outcomes.index("harness_error")]
    assert broken.error == "ZeroDivisionError: policy"
    assert all(row["failure_mode"] in ("ok", "cancelled") for row in broken.calls)
    assert runtime.counts["tasks"] == 3
    assert runtime.counts["harness_error"] == 1


def test_a_task_with_bad_features_is_not_lost() -> None:
    def features(task: Any) -> dict[str, Any]:
        return {"class": "only" if task == "good" else "strange"}

    runtime = make(Script(*["launch:dud", "wait", "submit"] * 3), features=features)
    good, bad, again = run_simulated(runtime.solve_many(["good", "bad", "good"], concurrency=1))
    assert (good.outcome, bad.outcome, again.outcome) == ("submitted", "harness_error", "submitted")
    assert "features.class: got 'strange'; allowed: only" in str(bad.error)
    assert runtime.counts["tasks"] == 3
    assert (good.run, again.run) == (0, 1)
    assert again.calls[0]["sample"] == 1  # of the same query


def test_a_log_that_cannot_be_written_stops_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = make(Script(*["launch:dud", "wait", "submit"] * 9), log=tmp_path / "log.jsonl")
    monkeypatch.setattr("brownout.trainers.runtime_log.os.write", _full)
    with pytest.raises(TableError, match=r"a row of the log was lost: .*No space left"):
        run_simulated(runtime.solve_many(range(9), concurrency=2))
    assert runtime.counts["calls"] <= 4


def _full(*_: Any) -> int:
    raise OSError(28, "No space left on device")


# ---------------------------------------------------------------- refusals


async def _answer(task: Any, configuration: str) -> Answer:
    return Answer("x", 0.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"call": {"sure": ask, "dud": ask}}, "configurations: missing slow"),
        ({"call": {**dict.fromkeys(SECONDS, ask), "slaw": ask}}, "no 'slaw'.*did you mean 'slow'"),
        ({"call": lambda: None, "judge": None}, "judge: the scenario has one"),
        ({"judge": "a plain function"}, "'_plain_judge' is not async; allowed"),
        ({"judge": 3}, "judge: got 3"),
        ({"preferences": {"budget_usd": -1.0}}, "preferences.budget_usd: got -1.0"),
        ({"preferences": {"bugdet_usd": 1.0}}, "did you mean 'budget_usd'"),
        ({"timeout_s": 0}, "timeout_s: got 0"),
        ({"grace_s": "long"}, "grace_s: got 'long'"),
        ({"statuses": {"Odd": "strange"}}, r"statuses\['Odd'\]: got 'strange'; allowed: ok, timeout"),
        ({"statuses": {3.5: "timeout"}}, "got the key 3.5"),
    ],
)
def test_what_cannot_work_is_refused_at_once(change: dict[str, Any], message: str) -> None:
    if change.get("judge") == "a plain function":
        change = {"judge": _plain_judge}
    with pytest.raises(CallableError, match=message):
        make("baseline:null", **change)


def _panel() -> dict[str, Any]:
    data = tiny(person=None)
    price = {"cost_usd": 0.03125, "latency_s": 1.0}
    data["judges"] = {"tests": {**price, "false_positive": 0.0}, "model": {**price, "true_positive": 0.9}}
    del data["judge"]
    return data


def test_several_judges_have_a_function_each() -> None:
    asked: list[str] = []

    def judge(name: str, score: float) -> Any:
        async def say(task: Any, answer: Any) -> Verdict:
            asked.append(f"{name}: {answer}")
            await asyncio.sleep(1.0)
            return Verdict(score, 0.5)

        return say

    script = Script("launch:sure", "wait", "judge:model", "judge:tests")
    script.actions = ["launch:sure", "launch:dud", "launch:slow", "wait", "judge:tests", "judge:model", "repair",
                      "submit", "escalate", "abstain"]  # fmt: skip
    runtime = make(script, judge={"tests": judge("tests", 0.2), "model": judge("model", 0.8)}, scenario=_panel())
    decision = run(runtime)
    assert asked == ["model: sure says", "tests: sure says"]
    assert [row["verdict"]["accepted"] for name in ("model", "tests") for row in rows_of(decision, name)] == [
        True,
        False,
    ]
    assert decision.accepted is False, "the tests tell more than the model"
    assert decision.spend_usd == 0.25 + 2 * 0.5


@pytest.mark.parametrize(
    ("judge", "message"),
    [
        (accept, "judge: the scenario has several; give a mapping with the keys tests, model"),
        ({"tests": accept}, "judge: missing model; needed: tests, model"),
        ({"tests": accept, "model": accept, "modell": accept}, "no 'modell'.*did you mean 'model'"),
        ({"tests": accept, "model": 3}, "judge.model: got 3"),
    ],
)
def test_judges_that_do_not_fit_are_refused(judge: Any, message: str) -> None:
    with pytest.raises(CallableError, match=message):
        make("baseline:null", judge=judge, scenario=_panel())


def test_a_score_reaches_the_policy_as_it_is() -> None:
    data = tiny(person=None, quality={"accept_at": 0.75}, judge__score_sd=0.1)
    seen: list[float] = []

    async def score(task: Any, answer: Any) -> float:
        return 0.6

    runtime = make(Script("launch:sure", "wait", "judge"), judge=score, scenario=data,
                   observer=lambda step: seen.append(float(step.observation[-2])))  # fmt: skip
    assert runtime.observation_columns[-2].name == "judge.judge"
    decision = run(runtime)
    assert seen == pytest.approx([-1.0, -1.0, -1.0, 0.6])
    assert rows_of(decision, "judge")[0]["verdict"]["accepted"] is False, "from 0.75, as the scenario says"


def _plain_judge(task: Any, answer: Any) -> bool:
    return True


def test_a_policy_for_other_columns_is_refused(tmp_path: Path) -> None:
    from brownout.envs.router_core import RouterCore
    from brownout.trainers.artefact import save_policy
    from brownout.trainers.policy import Policy, initial_weights

    core = RouterCore("support-desk", 1)
    policy = Policy(initial_weights(len(core.observation_columns), len(core.action_names)))
    save_policy(tmp_path, policy, core)
    with pytest.raises(ArtefactError, match="does not fit 'tiny'"):
        make(str(tmp_path))
    desk = Runtime(str(tmp_path), "support-desk", _answer, accept,
                   features=lambda task: {"class": "faq", "difficulty_hint": 0.0})  # fmt: skip
    assert run(desk).steps >= 1


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({}, "missing class.faq, class.account, class.contract, difficulty_hint; needed: class, difficulty_hint"),
        ({"class": "faq"}, "missing difficulty_hint"),
        ({"class": "faq", "difficulty_hint": 9.0}, "difficulty_hint: got 9.0; allowed: a number from -8 to 8"),
        ({"class": "faq", "difficulty_hint": float("nan")}, "got nan"),
        ({"class": "faq", "difficulty_hint": "hard"}, "got 'hard'"),
        ({"class": "fag", "difficulty_hint": 0.0}, r"class: got 'fag' \(did you mean 'faq'\?\); allowed: faq"),
        ({"class": "faq", "difficulty": 0.0}, "no column 'difficulty' .*did you mean 'difficulty_hint'"),
        ({"class": "faq", "class.faq": 1.0, "difficulty_hint": 0.0}, "'class.faq' is given twice"),
        ([1.0], "got list; allowed: a mapping"),
    ],
)
def test_features_are_checked(features: Any, message: str) -> None:
    runtime = Runtime("baseline:null", "support-desk", _answer, accept, features=lambda task: features)
    with pytest.raises(CallableError, match=message):
        run(runtime, {"id": 7})


def test_features_reach_their_columns() -> None:
    seen: list[Step] = []
    for features in (
        {"class": "account", "difficulty_hint": 1.5},
        {"task.class.account": True, "class.faq": 0, "class.contract": 0.0, "difficulty_hint": np.float32(1.5)},
    ):
        runtime = Runtime("baseline:null", "support-desk", _answer, accept, features=lambda _, f=features: f,
                          observer=seen.append)  # fmt: skip
        run(runtime)
    assert seen[0].observation[:4].tolist() == [0.0, 1.0, 0.0, 1.5]
    assert seen[0].observation.tobytes() == seen[1].observation.tobytes()


def test_sampled_preferences_must_be_said() -> None:
    scenario = brownout.load_scenario("support-desk", ["preferences.per_usd=[0.5, 4]"])
    runtime = Runtime("baseline:null", scenario, _answer, accept,
                      features=lambda task: {"class": "faq", "difficulty_hint": 0.0})  # fmt: skip
    with pytest.raises(CallableError, match=r"trained on 0.5 to 4 utility/USD; say which value applies"):
        run(runtime)
    with pytest.raises(CallableError, match=r"per_usd: got 9.0; allowed: a number from 0.5 to 4"):
        run(runtime, preferences={"per_usd": 9.0})
    assert run(runtime, preferences={"per_usd": 2.0}).outcome == "abstained"


def test_a_task_can_name_its_operating_point() -> None:
    scenario = brownout.load_scenario("support-desk", ["preferences={per_usd: [0.5, 4], deadline_s: [10, 100]}"])
    seen: list[Step] = []
    runtime = Runtime("baseline:null", scenario, _answer, accept, observer=seen.append,
                      features=lambda task: {"class": "faq", "difficulty_hint": 0.0},
                      operating_point=lambda task: task["wants"],
                      preferences={"per_usd": 1.0, "deadline_s": 20.0})  # fmt: skip
    names = [column.name for column in runtime.observation_columns]
    for wants, given, expected in (
        ({}, None, (1.0, 20.0)),
        ({"per_usd": 2.0}, None, (2.0, 20.0)),
        ({"per_usd": 2.0, "deadline_s": 50.0}, {"per_usd": 4.0}, (4.0, 50.0)),
    ):
        run_simulated(runtime.solve({"id": 1, "wants": wants}, preferences=given))
        shown = dict(zip(names, seen[-1].observation.tolist(), strict=True))
        assert (shown["per_usd"], shown["deadline_left"]) == expected
        assert shown["log_per_usd"] == pytest.approx(math.log10(expected[0]), abs=1e-6)
        assert shown["log_deadline_left"] == pytest.approx(math.log10(expected[1]), abs=1e-6)
    with pytest.raises(CallableError, match=r"per_usd: got 9.0; allowed: a number from 0.5 to 4"):
        run_simulated(runtime.solve({"id": 1, "wants": {"per_usd": 9.0}}))


def test_callables_of_every_kind_are_taken() -> None:
    class Client:
        async def __call__(self, task: Any, configuration: str) -> Answer:
            return Answer("x", 0.0)

    async def with_key(key: str, task: Any, configuration: str) -> Answer:
        return Answer(key, 0.0)

    call = {"sure": Client(), "dud": functools.partial(with_key, "k"), "slow": lambda t, c: ask(t, c)}
    for name, answer in (("sure", "x"), ("dud", "k"), ("slow", "slow says")):
        assert run(make(Script(f"launch:{name}", "wait"), call)).answer == answer


# ---------------------------------------------------------------- soak, example


@pytest.fixture(scope="module")
def soaking() -> Any:
    spec = importlib.util.spec_from_file_location("runtime_soak", ROOT / "benchmarks" / "runtime_soak.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture
def quiet() -> Any:
    logger = logging.getLogger("brownout.runtime")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.mark.usefixtures("quiet")
def test_a_soak_loses_nothing(soaking: Any) -> None:
    """150 tasks on stubs that fail in every way; `benchmarks/runtime_soak.py` is the full size."""
    report = soaking.soak(150, concurrency=48, cancelled=20, seed=1, scale_s=0.005)
    assert not report.problems
    assert 4 <= report.most_running_calls <= 8
    assert report.calls > 1000
    assert {"timeout", "reset", "rate-limited", "unavailable", "refused", "malformed", "cancelled"} <= set(
        report.failure_modes
    )
    assert {"submitted", "escalated", "limit", "cancelled"} <= set(report.outcomes)
    assert 0.8 < report.highest_spend_share <= 1.0
    assert report.refused > 0


@pytest.mark.usefixtures("quiet")
def test_the_soak_notices_what_is_wrong(soaking: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from brownout.trainers.runtime_log import CallLog

    honest = CallLog.write

    def forgetful(self: Any, row: Any) -> None:
        if row.get("config") != "judge" or row["sample"] != 1:
            honest(self, row)

    monkeypatch.setattr(CallLog, "write", forgetful)
    monkeypatch.setattr(soaking, "JUDGE_MOST", soaking.JUDGE_MOST / 10)
    monkeypatch.setitem(soaking.MOST, "small", 0.01)
    problems = " ".join(soaking.soak(12, concurrency=12, cancelled=0).problems)
    assert "rows for" in problems
    assert "have no row" in problems


def test_the_example_runs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("runtime_stub", ROOT / "examples" / "runtime_stub.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, "argv", ["runtime_stub.py", "--tasks", "6"])
    module.main()
    assert "of 6 right" in capsys.readouterr().out
