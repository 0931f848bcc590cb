"""The session and the batched environment are one simulation: the same dirt, the same strikes, the same draws."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from brownout import ToolEpisode, load_scenario
from brownout.envs.streams import stream_id, uniform
from brownout.envs.tool_values import same
from brownout.envs.workflow_core import WorkflowCore
from brownout.faults import RecordEffect, lookup
from brownout.scenarios import builtin_scenarios
from brownout.scenarios.workflow_records import field_word
from tool_support import Walk, episode

WORKFLOWS = builtin_scenarios("workflow")
RECORD_FAULTS = ("typo", "missing-field", "outlier", "stale-value", "encoding-damage", "malformed-format",
                 "truncated-value", "wrong-unit", "partial-update")  # fmt: skip


def records_only(name: str) -> Any:
    """A workflow in which nothing but records goes wrong, and often."""
    data = load_scenario(name).model_dump(mode="json")
    words = {field_word(spec) for kind in data["records"].values() for spec in kind["fields"].values()}
    data["profiles"]["production"] = [
        {"fault": fault, "when": "rate(0.06)"}
        for fault in RECORD_FAULTS
        if words & {type_.word for type_ in cast(type[RecordEffect], lookup(fault)).fields}
    ]
    return load_scenario(data)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_what_is_dirty_is_what_the_environment_says(name: str) -> None:
    scenario, n = records_only(name), 24
    core = WorkflowCore(scenario, n, split="eval")
    core.seed(core.all_lanes, range(n))
    core.begin(core.all_lanes)
    struck: set[str] = set()
    for seed in range(n):
        walk = Walk(ToolEpisode(scenario, seed))
        own = walk.core
        assert (own.dirt[0] == core.dirt[seed]).all()
        assert (own.facts[0] == core.facts[seed]).all()
        assert (own.applied[0] == core.applied[seed]).all()
        for record in own.record_names:
            body = walk.record(record).json()
            for column in np.flatnonzero(own.record_of == own.record_names.index(record)).tolist():
                clean = own.case().clean(column)
                value = body[own.field_names[column].partition(".")[2]]
                dirty = core.dirt[seed, column] != 0
                # a damaged text may still mean the same only where nothing but its form is damaged
                facts = own.case_fields.facts[column]
                if dirty:
                    assert value is None or str(value) != clean, (own.field_names[column], value)
                else:
                    assert same(value, clean, facts), (own.field_names[column], value, clean)
        walk.episode.close()
        told = {(i["effect"], i["field"]) for i in walk.episode.result().injections}
        assert len(told) == (core.dirt[seed] != 0).sum()
        struck |= {effect for effect, _ in told}
    assert len(struck) >= 5


def test_faults_strike_the_calls_that_they_strike_in_the_environment() -> None:
    faults = [{"fault": fault, "when": "rate(0.12)"} for fault in
              ("timeout", "server-error", "malformed-body", "lying-success", "expired-token", "held-lock",
               "slow-response", "leftover-draft")]  # fmt: skip
    actions = ("fetch", "call:cheap", "fetch", "call:cheap", "call:cheap", "refresh", "call:cheap", "verify")
    met = set()
    for seed in range(60):
        one = episode(*faults, seed=seed)
        data = one._core.spec.model_dump(mode="json")
        for reasoner in data["reasoners"].values():
            reasoner |= {"latency_s": 0.0, "slip": 0.0}
        core = WorkflowCore(load_scenario(data), 1, split="eval")
        core.seed(core.all_lanes, [seed])
        core.begin(core.all_lanes)
        walk = Walk(one)
        for action in actions:
            index = core.action_names.index(action)
            if not core.mask()[0, index] or walk.session.done:
                break
            cursor = int(core.cursor[0])
            step = core.step_names[cursor] if cursor < core.num_steps else ""
            if action == "fetch":
                record = int(core._record_of(core.all_lanes, core.cursor)[0])
                core.advance(np.array([index]))
                walk.record(core.record_names[record])
            elif action == "refresh":
                core.advance(np.array([index]))
                walk.session.call("auth.token")
            elif action == "verify":
                step = core.step_names[int(core.to_verify(core.all_lanes)[0])]
                tools = [t.name for t in walk.session.tools if f".list_{step}" in t.name]
                if not tools:
                    break
                core.advance(np.array([index]))
                walk.session.call(tools[0])
            else:
                if any(not one._core.applied[0, s] for s in np.flatnonzero(one._core.sources[cursor])):
                    break
                core.advance(np.array([index]))
                walk.call(step)
            assert int(one._core.answer[0]) == int(core.answer[0]), (seed, action, one.events[-1])
            assert one._core.clock[0] == core.clock[0]
            assert one._core.spend[0] <= core.spend[0]
            assert (one._core.applied[0] == core.applied[0]).all()
            assert (one._core.made[0] == core.made[0]).all()
            met.add(int(core.answer[0]))
    assert len(met) >= 6


def test_a_strict_service_draws_as_in_the_environment() -> None:
    refused = 0
    for seed in range(80):
        walk = Walk(episode({"fault": "outlier", "when": "on('order.total')"}, seed=seed))
        walk.call("locate")
        if not walk.call("policy").json()["eligible"]:
            continue
        shown = walk.core.shown(walk.core.field_names.index("order.total"))
        answer = walk.call("refund", order_total=shown)
        drawn = uniform(walk.core.keys, stream_id("payments.strict"), 0)[0] < walk.core.spec.services["payments"].strict
        assert (answer.status == 422) == drawn
        refused += drawn
    assert 20 < refused < 60


def test_intensity_zero_is_the_clean_world() -> None:
    for seed in range(5):
        walks = [Walk(ToolEpisode("refund", seed, profile="hostile", intensity=0.0)),
                 Walk(ToolEpisode("refund", seed, profile="clean"))]  # fmt: skip
        for walk in walks:
            walk.record("customer")
            walk.do("locate", "policy")
            walk.call("refund")
            walk.session.call("finish")
        assert walks[0].episode.events == walks[1].episode.events


def test_arrays_stay_in_step_with_the_effects() -> None:
    for seed in range(25):
        walk = Walk(ToolEpisode("order-exchange", seed, profile="hostile"))
        for _ in range(2):
            for name in walk.steps:
                walk.call(name)
                walk.session.call("auth.token")
        core = walk.core
        for step in np.flatnonzero(core.writes).tolist():
            entries = core.ledger.of_step(step)
            assert core.applied[0, step] == sum(not e.stray for e in entries)
            assert core.stray[0, step] == sum(e.stray for e in entries)
            assert bool(core.bad[0, step]) == any(not e.right and not e.stray for e in entries)
