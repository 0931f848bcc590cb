"""What a workflow scenario may say, and how a mistake in one is named."""

from __future__ import annotations

from typing import Any

import pytest

from brownout.errors import ScenarioError
from brownout.faults import Verb
from brownout.scenarios import WorkflowScenario, builtin_scenarios, load_scenario, services_of
from workflow_support import TINY_WORKFLOW, tiny_workflow

STEP = TINY_WORKFLOW["steps"]["pay"]


def load(**changes: Any) -> WorkflowScenario:
    scenario = load_scenario(tiny_workflow(**changes))
    assert isinstance(scenario, WorkflowScenario)
    return scenario


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps__pay__service": "banks"}, "steps.pay.service: got 'banks'; allowed: crm, shop, bank"),
        ({"steps__pay__needs": ["orders.total"]}, "steps.pay.needs: got 'orders'; allowed: customer, order"),
        ({"steps__pay__needs": ["order.sum"]}, "order: got 'sum'; allowed: total"),
        ({"steps__pay__after": ["find"]}, "steps.pay.after: got 'find'"),
        ({"steps__locate__after": ["tell"]}, "leads back to itself"),
        ({"steps__locate__compensable": True}, "are for steps with writes: true"),
        ({"steps__pay__when": "fair"}, "steps.pay.when: got 'fair'"),
        ({"decisions": {"fair": {"by": "pay", "share": 0.5}}}, "a decision comes from a step that reads"),
        ({"decisions": {"fair": {"by": "search", "share": 0.5}}}, "decisions.fair.by: got 'search'"),
        ({"goal": ["locate"]}, "goal: 'locate' does not write"),
        ({"goal": []}, "nothing to achieve"),
        ({"services__cheap": {}}, "this name is reserved"),
        ({"records__order__service": "shops"}, "records.order.service: got 'shops'"),
        ({"records__order__fields": {"total": "money"}}, "records"),
        ({"limits__on_budget": "mask"}, "on_budget: got 'mask'"),
        ({"reasoners": {"cheap": TINY_WORKFLOW["reasoners"]["cheap"]}}, "must name cheap and strong"),
        ({"steps__pay__idempotency": "maybe"}, "idempotency"),
    ],
)  # fmt: skip
def test_mistakes_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ScenarioError, match=message.replace("(", r"\(").replace("[", r"\[")):
        load(**changes)


def test_a_condition_comes_after_its_decision() -> None:
    steps = {**TINY_WORKFLOW["steps"], "side": {**STEP, "after": [], "when": "fair"}}
    with pytest.raises(ScenarioError, match="so it must come after that step"):
        load(steps=steps, decisions={"fair": {"by": "locate", "share": 0.5}})


def test_faults_are_checked_against_the_workflow() -> None:
    for fault, message in (
        ({"fault": "timeout", "when": "on('banks')"}, "matches no service and no verb"),
        ({"fault": "typo", "when": "rate(0.1) & on('order.sum')"}, "matches no field"),
        ({"fault": "silent-regression"}, "needs the port portfolio"),
        ({"fault": "timeout", "when": "when(launched > 1)"}, "'launched' is not a known quantity"),
    ):
        with pytest.raises(ScenarioError, match=message.replace("(", r"\(")):
            load_scenario(tiny_workflow(fault))


def test_every_service_takes_its_own_calls() -> None:
    services = services_of(load())
    assert services.names == ("crm", "shop", "bank", "cheap", "strong", "auth", "requester", "person")
    mask = services.placeable()
    taken = {name: {verb.word for verb in Verb if mask[verb, i]} for i, name in enumerate(services.names)}
    assert taken["bank"] == {"fetch", "call", "verify", "compensate"}
    assert taken["strong"] == {"validate", "repair"}
    assert taken["auth"] == {"refresh", "resync"}
    assert (taken["requester"], taken["person"]) == ({"clarify"}, {"escalate"})


def test_needs_can_name_a_whole_record() -> None:
    scenario = load(steps__pay__needs=["customer.*", "order.total"])
    assert scenario.needed_fields("pay") == ("customer.name", "customer.email", "order.total")


def test_a_goal_can_leave_writes_out() -> None:
    assert load().goal_steps == ("pay", "tell")
    assert load(goal=["pay"]).goal_steps == ("pay",)


def test_the_library_has_its_workflows() -> None:
    found = builtin_scenarios("workflow")
    assert set(found) >= {
        "refund", "address-change", "order-exchange", "subscription-cancel", "invoice-reconcile",
        "customer-onboarding", "claim-intake", "access-request",
    }  # fmt: skip
    parallel = 0
    for name in found:
        scenario = load_scenario(name)
        assert isinstance(scenario, WorkflowScenario)
        assert set(scenario.profiles) - {"drift"} == {"clean", "production", "hostile"}
        families = {plan["fault"] for plan in scenario.profiles["production"]}
        assert len(families) >= 8
        writes = [step for step in scenario.steps if scenario.steps[step].writes]
        parallel += any(
            a not in scenario.ancestors[b] and b not in scenario.ancestors[a] and not scenario.steps[a].unless
            and not scenario.steps[b].unless
            for a in writes for b in writes if a < b
        )  # fmt: skip
    assert parallel >= 2
