"""What the fields of a workflow's records read: words with sensible values, and the language of record schemas."""

from __future__ import annotations

from typing import Any

import pytest

from brownout import ToolEpisode
from brownout.errors import ScenarioError
from brownout.faults import FieldType
from brownout.scenarios import WorkflowScenario, builtin_scenarios, load_scenario
from tool_support import Walk
from workflow_support import tiny_workflow


def fields(**customer: Any) -> dict[str, Any]:
    data = tiny_workflow()
    data["records"]["customer"]["fields"] |= customer
    return data


def spec(data: Any) -> WorkflowScenario:
    scenario = load_scenario(data)
    assert isinstance(scenario, WorkflowScenario)
    return scenario


@pytest.mark.parametrize("name", builtin_scenarios("workflow"))
def test_every_word_has_a_value_that_fits_it(name: str) -> None:
    from brownout.envs.tool_values import fits, same

    values = set()
    for seed in range(12):
        core = ToolEpisode(name, seed, profile="clean")._core
        for column, facts in enumerate(core.case_fields.facts):
            value = core.case().clean(column)
            assert fits(value, facts), (facts.path, value)
            assert same(value, value, facts)
            later = core.case().clean(column, 1)
            assert later != value
            values.add(value)
    assert len(values) > 12 * 4


def test_a_name_and_an_address_go_together() -> None:
    core = ToolEpisode("refund", 1, profile="clean")._core
    first, last = core.case().clean(0).casefold().split(" ", 1)
    assert core.case().clean(1).startswith(first)
    assert last.split()[-1][:3] in core.case().clean(1)


def test_a_field_may_be_given_in_the_language_of_records() -> None:
    scenario = spec(fields(
        job={"type": "faker", "provider": "job"},
        greeting={"type": "text", "template": "Dear {job} of {order.total}"},
        joined={"type": "date", "start": "2020-01-01", "end": "2020-01-31"},
        due={"type": "date", "after": "joined", "within_days": [1, 1]},
        paid={"type": "copy", "of": "order.total"},
        order_ref={"type": "reference", "to": "order"},
        tier={"type": "choice", "values": ["a", "b"], "required": False},
    ))  # fmt: skip
    types = {fact.path: fact.type for fact in scenario.fault_fields().facts}
    assert types["customer.job"] is FieldType.TEXT
    assert types["customer.due"] is FieldType.DATE
    assert types["customer.tier"] is FieldType.CHOICE
    walk = Walk(ToolEpisode(scenario, 2, profile="clean"))
    body, order = walk.record("customer").json(), walk.record("order").json()
    assert body["greeting"].startswith(f"Dear {body['job']} of {int(order['total'])}")
    assert body["joined"][:8] == "2020-01-"
    assert body["due"] > body["joined"]
    assert float(body["paid"]) == float(order["total"])
    assert body["order_ref"] == order["id"] == walk.session.task["order_id"]
    assert body["tier"] in ("a", "b")


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"type": "nothing"}, "records.customer.fields.x"),
        ({"type": "faker"}, "provider"),
        ({"type": "text", "template": "{nobody}"}, "no field"),
        ({"type": "copy", "of": "order.nothing"}, "no field 'order.nothing'"),
        ({"type": "reference", "to": "order", "each": 2}, "only `to`"),
        ({"type": "reference", "to": "invoice"}, "no record 'invoice'"),
        ("money", "records.customer.fields.x"),
    ],
)
def test_mistakes_in_a_field_are_named(field: Any, message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        load_scenario(fields(x=field))


def test_words_alone_keep_the_hash_of_a_scenario() -> None:
    assert spec(tiny_workflow()).hash == spec(fields()).hash != spec(fields(x="text")).hash
