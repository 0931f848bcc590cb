"""Every registered effect once in an episode: what it costs who does not notice, by hand, and the way out of it.

The workflow and the portfolio played here have constant latencies and prices (see ``workflow_support`` and
``router_support``), so every figure can be worked out on paper. The happy path through the workflow takes
1 + 1.5 + 2 + 4.5 + 1.5 = 10.5 s and costs 3 * 0.125 + 0.25 = 0.625 USD.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from brownout.envs.router import RouterEnv
from brownout.envs.workflow import WorkflowEnv
from brownout.envs.workflow_state import OUTCOMES
from brownout.faults import registered_faults
from router_support import Table, tiny
from workflow_support import HAPPY, TINY_WORKFLOW, Bench, tiny_workflow

EFFECTS = tuple(registered_faults())
FIRST = "nth_call(1) & on('bank')"
READ = "nth_call(1) & on('shop')"
F, C, V, W, END = "fetch", "call:cheap", "verify", "wait", "finish"
PAID = (F, C, F, C)
LOOK, MEND = "validate:strong", "repair:strong"
AGAIN = {"steps__pay__idempotency": "none"}
SIDE_BY_SIDE = {
    "steps": {
        "locate": TINY_WORKFLOW["steps"]["locate"],
        "left": {"service": "bank", "needs": ["order.total"], "after": ["locate"], "writes": True},
        "right": {"service": "bank", "needs": ["customer.email"], "after": ["locate"], "writes": True},
    }
}


@dataclass(frozen=True)
class Case:
    """What an effect does to an episode.

    Args:
        fault: its parameters and trigger.
        naive: actions of somebody who does not notice, or goes about it the wrong way.
        comes: outcome, seconds and USD of that, worked out by hand.
        careful: actions that get round it: its recovery path.
        changes: of the scenario.
        before: another fault that is needed for this one to show.
        reaches: the outcome of the careful actions.
        avoids: whether these keep clear of the effect, which then does not strike.
    """

    fault: dict[str, Any]
    naive: tuple[str, ...]
    comes: tuple[str, float, float]
    careful: tuple[str, ...]
    changes: dict[str, Any] = field(default_factory=dict)
    before: dict[str, Any] | None = None
    reaches: str = "success"
    avoids: bool = False

    def faults(self, name: str) -> list[dict[str, Any]]:
        """The plan: the effect, and what must come before it."""
        return [*([self.before] if self.before else []), {"fault": name, **self.fault}]


def record(where: str, *careful: str, **more: Any) -> Case:
    """A field is dirty: who does not look writes it, at the price of the happy path."""
    changes = more.pop("changes", {})
    fault = {"when": f"always & on({where!r})", **more}
    return Case(fault, HAPPY, ("silent_garbage", 10.5, 0.625), (*careful, END), changes)


ASK = "clarify"
CASES: dict[str, Case] = {
    # services: the client hangs 20 s and repeats what was done; or is refused, and stops
    "timeout": Case(
        {"after_s": 20.0, "applied": 1.0, "when": FIRST}, (*PAID, C, C, END),
        ("duplicate_effect", 4.5 + 20.5 + 4.5 + 1.5, 4 * 0.125 + 2 * 0.25), (*PAID, V, C, END), AGAIN,
    ),
    "connection-reset": Case(
        {"after_s": 2.0, "applied": 1.0, "when": FIRST}, (*PAID, C, C, END),
        ("duplicate_effect", 4.5 + 2.5 + 4.5 + 1.5, 4 * 0.125 + 2 * 0.25), (*PAID, V, C, END), AGAIN,
    ),
    "server-error": Case(
        {"code": 503, "retry_after_s": 7.0, "when": FIRST}, (*PAID, END), ("partial", 4.5 + 0.5 + 0.5, 0.25),
        (*PAID, W, C, C, END),
    ),
    # one call each 10 s; the second comes after 1.5 s and is refused after 0.1 s
    "rate-limit": Case(
        {"per_minute": 6, "burst": 1, "load": 0.0, "when": "on('crm')"}, (F, C, END), ("partial", 1 + 0.5 + 0.1, 0.125),
        (F, C, W, C, F, C, C, W, C, END),
    ),
    "outage": Case(
        {"family": "bank", "when": "nth_call(1)"}, (*PAID, END), ("partial", 4.5 + 0.5 + 0.3, 0.25), (*PAID, C, C, END)
    ),
    "unexpected-status": Case({"when": FIRST}, (*PAID, END), ("partial", 9.0, 0.25), (*PAID, V, C, C, END)),
    "malformed-body": Case(
        {"when": FIRST}, (*PAID, C, C, END), ("duplicate_effect", 9.0 + 4.5 + 1.5, 4 * 0.125 + 2 * 0.25),
        (*PAID, V, C, END), AGAIN,
    ),
    "empty-result": Case(
        {"when": FIRST}, (*PAID, C, C, END), ("duplicate_effect", 9.0 + 4.5 + 1.5, 4 * 0.125 + 2 * 0.25),
        (*PAID, V, C, END), AGAIN,
    ),
    "partial-result": Case(
        {"lost": 1.0, "when": READ}, HAPPY, ("silent_garbage", 10.5, 0.625), (F, C, F, LOOK, F, C, C, END)
    ),
    "silent-noop": Case({"when": FIRST}, HAPPY, ("partial", 10.5, 3 * 0.125), (*PAID, V, C, C, END)),
    # latency: who waits gets there
    "slow-response": Case(
        {"factor": 4.0, "when": FIRST}, HAPPY, ("success", 10.5 + 3 * 4.0, 0.625), HAPPY
    ),
    "load-latency": Case(
        {"slope": 0.25, "when": "always"}, (F, C, F, "dispatch", C, END),
        ("success", 4.5 + 8.0 + 0.5 + 4.0 * 1.25, 2 * 0.125 + 0.5 + 2 * 0.25), (*PAID, C, END), SIDE_BY_SIDE,
        avoids=True,
    ),
    "async-polling": Case({"poll_s": 5.0, "when": FIRST}, HAPPY, ("success", 10.5 + 1.0, 0.625), HAPPY),
    # auth and session
    "expired-token": Case(
        {"midway": 0.0, "when": "nth_call(2) & on('crm')"}, (F, C, C, END), ("partial", 1 + 1.5 + 1.5, 2 * 0.125),
        (F, C, "refresh", C, F, C, C, END),
    ),
    "refresh-failure": Case(
        {"race": 0.0, "latency_s": 1.0, "when": "nth_call(1)"}, (F, C, "refresh", C, END),
        ("partial", 1 + 1.5 + 1.0 + 1.5, 2 * 0.125), (F, C, "refresh", "refresh", C, F, C, C, END),
        before={"fault": "expired-token", "midway": 0.0, "when": "nth_call(2) & on('crm')"},
    ),
    "revoked-scope": Case(
        {"when": FIRST}, (*PAID, END), ("partial", 9.0, 0.25), (*PAID, "escalate"), reaches="escalated"
    ),
    "stale-session": Case(
        {"when": FIRST}, HAPPY, ("silent_garbage", 10.5, 0.625), (*PAID, V, "compensate", F, C, C, END)
    ),
    "leftover-draft": Case({"when": FIRST}, (*PAID, END), ("partial", 9.0, 0.25), (*PAID, "resync", C, C, END)),
    "held-lock": Case({"when": FIRST}, (*PAID, END), ("partial", 9.0, 0.25), (*PAID, W, C, C, END)),
    # a full window doubles what the reasoner costs and makes it slip
    "context-bloat": Case(
        {"share": 1.0, "when": "nth_call(1) & on('crm')"}, HAPPY, ("silent_garbage", 10.5, 3 * 0.25 + 0.25),
        (F, "resync", C, F, C, C, END), {"session__confusion": 1.0},
    ),
    "tenant-bleed": Case(
        {"when": FIRST}, HAPPY, ("silent_garbage", 10.5, 0.625), (*PAID, V, "compensate", "resync", C, C, END)
    ),
    # workflow
    "interruption": Case(
        {"restart_s": 16.0, "applied": 1.0, "when": FIRST}, (*PAID, *PAID, C, END),
        ("duplicate_effect", 9.0 + 16.0 + 9.0 + 1.5, 5 * 0.125 + 2 * 0.25), (*PAID, F, C, V, V, C, END),
    ),
    "changed-request": Case(
        {"noticed": 1.0, "when": FIRST}, HAPPY, ("silent_garbage", 10.5, 0.625),
        (*PAID, ASK, V, "compensate", C, C, END),
    ),
    "out-of-order-input": Case(
        {"mean_s": 0.001, "when": READ}, (F, C, F, W, END), ("partial", 1 + 1.5 + 2 + 3, 0.125),
        (F, C, F, W, F, C, C, END),
    ),
    "schema-drift": Case({"when": FIRST}, (*PAID, END), ("partial", 9.0, 0.25), (*PAID, "resync", C, C, END)),
    "duplicate-submission": Case(
        {"when": READ}, HAPPY, ("duplicate_effect", 10.5, 0.625), (F, C, F, V, C, END)
    ),
    "pending-approval": Case(
        {"when": FIRST}, HAPPY, ("partial", 10.5, 0.625), (*PAID, C, W, END), {"steps__tell__after": ["locate"]}
    ),
    # adversarial
    "injected-instruction": Case(
        {"when": READ}, HAPPY, ("silent_garbage", 10.5, 0.625), (F, C, F, LOOK, C, C, END)
    ),
    "poisoned-output": Case(
        {"when": READ}, HAPPY, ("silent_garbage", 10.5, 0.625), (F, C, F, LOOK, F, C, C, END)
    ),
    "lying-success": Case({"when": FIRST}, HAPPY, ("partial", 10.5, 0.625), (*PAID, V, C, C, END)),
    # records: what shows is flagged as soon as it is read, the rest by a look
    "missing-field": record("order.total", F, C, F, ASK, C, C),
    "malformed-format": record("order.total", F, C, F, MEND, C, C),
    "typo": record("customer.email", *PAID, LOOK, ASK, C),
    "conflicting-duplicate": record(
        "order.total", F, C, F, MEND, C, C,
        changes={"records__order__fields": {"total": "amount", "written": "stamp"}},
    ),
    "stale-value": record("order.total", F, C, F, F, C, C, reads=1),
    "swapped-fields": record(
        "customer.name", F, MEND, C, F, C, MEND, C, changes={"records__customer__pairs": [["name", "email"]]}
    ),
    "wrong-unit": record("order.total", F, C, F, LOOK, ASK, C, C),
    "encoding-damage": record("customer.name", F, MEND, C, F, C, C),
    "truncated-value": record("customer.name", F, LOOK, ASK, C, F, C, C),
    "outlier": record("order.total", F, C, F, ASK, C, C),
    "partial-update": record("customer.*", *PAID, LOOK, ASK, C),
    # portfolio: `sure` takes 8 s and 0.25 USD, `slow` 64 s and 0.5 USD, both are right; `dud` never is
    "price-change": Case(
        {"factor": 4.0, "when": "on('sure')"}, ("launch:sure", W, "submit"), ("success", 8.0, 1.0),
        ("launch:slow", W, "submit"), avoids=True,
    ),
    "silent-regression": Case(
        {"loss": 1.0, "when": "on('sure')"}, ("launch:sure", W, "submit"), ("wrong_answer", 8.0, 0.25),
        ("launch:sure", W, "judge", "launch:slow", W, "submit"),
    ),
    "judge-drift": Case(
        {"false_positive": 1.0, "when": "always"}, ("launch:dud", W, "judge", "launch:sure", W, "submit"),
        ("wrong_answer", 2.0 + 1.0 + 8.0, 0.0625 + 0.03125 + 0.25), ("launch:dud", W, "judge", "escalate"),
        reaches="escalated",
    ),
    "refusal": Case(
        {"when": "on('sure')"}, ("launch:sure", W, "abstain"), ("abstained", 8 * 0.3, 0.25 * 0.3),
        ("launch:sure", W, "launch:slow", W, "submit"),
    ),
    "capacity-limit": Case(
        {"limit": 1, "mode": "reject", "when": "always"}, ("launch:dud", "launch:slow", W, W, "submit"),
        ("wrong_answer", 2.0, 0.0625), ("launch:dud", "launch:slow", W, W, "launch:slow", W, "judge", "submit"),
    ),
}  # fmt: skip


def play(name: str, actions: tuple[str, ...]) -> tuple[str, float, float, dict[str, int]]:
    """Outcome, seconds, USD and strikes of an episode."""
    case = CASES[name]
    if registered_faults()[name].category == "portfolio":
        table = Table(tiny(*case.faults(name), **case.changes), profile="production")
        end = table.do(*actions)
        assert table.core.plan is not None
        return end.outcome, table.clock, table.spend, table.core.plan.log.counts
    bench = Bench(*case.faults(name), **case.changes)
    dirty = int((bench.core.dirt[0] != 0).sum())
    end = bench.do(*actions)
    struck = {f"{name}#0": dirty} if registered_faults()[name].category == "records" else bench.strikes
    return end.outcome, bench.clock, bench.spend, struck


# ---------------------------------------------------------------- every effect


@pytest.mark.parametrize("name", EFFECTS)
def test_what_comes_of_not_noticing_is_as_worked_out_by_hand(name: str) -> None:
    assert name in CASES, f"work out an episode with {name!r} by hand and add it to CASES"
    case = CASES[name]
    outcome, seconds, dollars, strikes = play(name, case.naive)
    assert strikes[f"{name}#0"] > 0
    assert (outcome, seconds, dollars) == (case.comes[0], pytest.approx(case.comes[1]), pytest.approx(case.comes[2]))


@pytest.mark.parametrize("name", EFFECTS)
def test_there_is_a_way_out(name: str) -> None:
    case = CASES[name]
    outcome, _, _, strikes = play(name, case.careful)
    assert (strikes[f"{name}#0"] > 0) != case.avoids, "there is nothing to recover from"
    assert outcome == case.reaches


@pytest.mark.parametrize("name", EFFECTS)
def test_without_the_effect_the_same_actions_end_otherwise(name: str) -> None:
    """The figures are the effect's doing: at intensity 0 they are not the same."""
    case = CASES[name]
    routed = registered_faults()[name].category == "portfolio"
    make = RouterEnv if routed else WorkflowEnv
    scenario = (tiny if routed else tiny_workflow)(*case.faults(name), **case.changes)
    env = make(scenario, intensity=0.0)
    env.reset(seed=0)
    names = list(env.unwrapped.action_names)  # pyright: ignore[reportAttributeAccessIssue]
    seconds = dollars = 0.0
    info: dict[str, Any] = {}
    for action in case.naive:
        *_, info = env.step(names.index(action))
        seconds, dollars = seconds + info["latency_s"], dollars + info["cost_usd"]
    assert (info.get("outcome"), seconds, dollars) != (case.comes[0], *map(pytest.approx, case.comes[1:]))


def test_no_case_is_left_over() -> None:
    assert set(CASES) == set(EFFECTS)


# ---------------------------------------------------------------- nothing tells its name


def words(value: Any) -> list[str]:
    """All text in what an environment hands out."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [word for key, item in value.items() for word in (*words(key), *words(item))]
    if isinstance(value, list | tuple):
        return [word for item in value for word in words(item)]
    if isinstance(value, np.ndarray) and value.dtype.kind in "OU":
        return words(value.tolist())
    return []


@pytest.mark.parametrize("name", EFFECTS)
def test_nothing_that_an_agent_can_observe_names_the_effect(name: str) -> None:
    case = CASES[name]
    routed = registered_faults()[name].category == "portfolio"
    scenario = (tiny if routed else tiny_workflow)(*case.faults(name), **case.changes)
    env: gym.Env[Any, Any] = (RouterEnv if routed else WorkflowEnv)(scenario)
    seen: list[str] = []
    for actions in (case.naive, case.careful):
        observation, info = env.reset(seed=0)
        bare: Any = env.unwrapped
        seen += [*words(info), *bare.action_names, *(column.name for column in bare.observation_columns), *OUTCOMES]
        for action in actions:
            observation, _, ended, _, info = env.step(bare.action_names.index(action))
            assert observation.dtype == np.float32, "numbers only"
            seen += words(info)
            if ended:
                break
    forms = (name, name.replace("-", "_"), name.replace("-", " "))
    assert not [word for word in seen if any(form in word.lower() for form in forms)]
