"""The oracle, the proof of what can be solved, the rules of workflows and what is measured of their recovery."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from brownout.cli import app
from brownout.envs.cores import make_core
from brownout.envs.workflow_core import WorkflowCore
from brownout.envs.workflow_truth import REASONS, HiddenTruth
from brownout.errors import PolicyError
from brownout.scenarios import builtin_scenarios, load_scenario
from brownout.trainers.baselines import make_baseline
from brownout.trainers.checking import check_scenario
from brownout.trainers.evaluation import evaluate, play
from brownout.trainers.recovery import ALL, recovery
from brownout.trainers.solvability import solvability
from workflow_support import TINY_WORKFLOW, tiny_workflow

WORKFLOWS = [name for name in builtin_scenarios() if load_scenario(name).env == "workflow"]


def begun(n: int, profile: str = "clean", *overrides: str) -> WorkflowCore:
    core = make_core(load_scenario("refund", list(overrides)), n, profile=profile, split="eval")
    assert isinstance(core, WorkflowCore)
    core.seed(core.all_lanes, [0] * n)
    core.begin(core.all_lanes, core.all_lanes)
    return core


@pytest.mark.parametrize("profile", ["clean", "production", "hostile"])
@pytest.mark.parametrize("name", WORKFLOWS)
def test_the_oracle_solves_what_can_be_solved_and_doing_nothing_solves_nothing(name: str, profile: str) -> None:
    found = solvability(name, profile, episodes=150)
    assert found.ok, found.to_text()
    assert found.solved + sum(found.unsolvable.values()) == found.episodes
    assert set(found.unsolvable) <= set(REASONS)
    assert found.solved > 0.7 * found.episodes


def test_the_oracle_takes_legal_actions_only_and_does_not_depend_on_the_lanes() -> None:
    core = begun(32, "hostile")
    oracle = make_baseline("oracle", core)
    over = np.zeros(32, np.bool_)
    while not over.all():
        mask = core.mask()
        actions = oracle.act_batch(core.observe(), mask)
        assert mask[core.all_lanes, actions][~over].all()
        core.advance(actions, np.flatnonzero(over))
        over |= core.terminated | core.truncated
    utilities = []
    for lanes in (5, 40):
        arena = make_core("refund", lanes, profile="hostile", split="eval")
        utilities.append(play(make_baseline("oracle", arena), arena, 40).utility)
    assert np.array_equal(*utilities)


def test_looking_ahead_leaves_the_world_alone() -> None:
    core = begun(8, "production")
    oracle = make_baseline("oracle", core)
    before = core.get_state()
    oracle.act_batch(core.observe(), core.mask())
    after = core.get_state()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_reasons_are_read_from_the_hidden_truth() -> None:
    core = begun(4, "clean", "requester.knows=0")
    truth = HiddenTruth(core)
    names = list(REASONS)
    assert not truth.hopeless().any()
    core.revoked[0, core.services.names.index("payments")] = True
    field = core.field_names.index("customer.email")
    core.dirt[1:3, field] = 1
    core.visible[1, field] = True  # flagged as soon as it is read, and nothing to repair it from
    core.detect[:] = 0.0
    core.facts[:], core.needed[:, 2], core.banned[:, 2] = True, True, False
    why = truth.hopeless()
    assert np.flatnonzero(why[0]).tolist() == [names.index("revoked-scope")]
    assert np.flatnonzero(why[1]).tolist() == [names.index("unrepairable-field")]
    assert np.flatnonzero(why[2]).tolist() == [names.index("unnoticeable-field")]
    assert not why[3].any()


def test_an_impossible_workflow_is_explained_and_a_free_lunch_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = {"profiles": {"shut": [{"fault": "revoked-scope", "when": "always"}]}}
    data = load_scenario("refund").model_dump(mode="json", by_alias=True) | blocked
    found = solvability(data, "shut", episodes=60)
    assert found.ok
    assert found.solved == 0
    assert found.unsolvable == {"revoked-scope": 60}
    # an oracle that gives up too early is refuted by the rules that go on
    monkeypatch.setattr(HiddenTruth, "blocked", lambda self: np.ones(self.core.num_lanes, np.bool_))
    monkeypatch.setattr("brownout.trainers.solvability.GUIDES", ())
    refuted = solvability("refund", "clean", episodes=60, attempts=1)
    assert refuted.missed
    assert not refuted.ok


def test_luck_that_makes_up_for_a_wrong_finding_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt name opens a branch that must stay shut; nobody can set the name right or close the branch.

    The only way is that the write on that branch is confirmed and never done, in three of ten calls.
    """
    steps = {
        "locate": TINY_WORKFLOW["steps"]["locate"],
        "bill": {**TINY_WORKFLOW["steps"]["pay"], "when": "owes"},
        "tell": {**TINY_WORKFLOW["steps"]["tell"], "after": ["bill"]},
    }
    faults = (
        {"fault": "typo", "when": "always & on('customer.name')"},
        {"fault": "lying-success", "when": "rate(0.3) & on('bank')"},
    )
    decisions = {"owes": {"by": "locate", "share": 0.0}}
    data = tiny_workflow(*faults, steps=steps, decisions=decisions, requester=None)
    found = solvability(data, episodes=200)
    assert (found.ok, found.at_once) == (True, 0)
    assert found.solved > 190, "one of some thirty calls is a lie, nearly always"
    monkeypatch.setattr("brownout.trainers.solvability.STUBBORN", 0)
    refuted = solvability(data, episodes=200)
    assert not refuted.ok
    assert len(refuted.missed) == pytest.approx(0.3 * 200, abs=25), "the happy path is as lucky as that"


def test_the_check_command_names_what_is_out_of_reach() -> None:
    result = CliRunner().invoke(
        app, ["scenarios", "check", "refund", "--profile", "hostile", "--seeds", "300", "--episodes", "50", "--json"]
    )
    assert result.exit_code == 0, result.output
    (report,) = json.loads(result.stdout)
    (profile,) = report["profiles"]
    found = profile["solvability"]
    assert found["ok"]
    assert found["episodes"] == 300
    assert found["null_successes"] == 0
    assert found["solved"] + sum(found["unsolvable"].values()) == 300
    assert check_scenario("textbook", episodes=50, profiles=["clean"]).profiles[0].solvability is None


def test_solvability_is_for_workflows() -> None:
    with pytest.raises(PolicyError, match="workflow"):
        solvability("textbook", "clean", episodes=5)


def test_what_the_oracle_reaches_is_named_as_such() -> None:
    table = evaluate(["baseline:oracle", "baseline:null"], "refund", episodes=100)
    assert table.bound_kind == "oracle"
    assert table.row("oracle").regret is not None
    assert table.row("oracle").regret.value == 0.0  # pyright: ignore[reportOptionalMemberAccess]
    assert table.row("null").share_of_bound == 0.0
    assert evaluate("baseline:null", "support-desk", episodes=20).bound_kind == "hindsight"


def test_rules_differ_in_what_they_were_made_for() -> None:
    hangs = {"fault": "timeout", "applied": 1.0, "when": "rate(0.2) & on('mail')"}
    lies = {"fault": "lying-success", "when": "rate(0.3) & (on('payments') | on('mail'))"}
    data = load_scenario("refund").model_dump(mode="json", by_alias=True) | {
        "profiles": {"hang": [hangs], "lie": [lies]}
    }
    names = ["baseline:happy-path", "baseline:retry-n", "baseline:always-verify"]
    hang = evaluate(names, data, profile="hang", episodes=400)
    # a repeated mail is there twice; who reads back knows that it was sent
    assert hang.row("retry-n").outcomes["duplicate_effect"] > 0.1
    assert hang.row("always-verify").outcomes["duplicate_effect"] == 0.0
    lie = evaluate(names, data, profile="lie", episodes=400)
    assert lie.row("always-verify").success.value > lie.row("retry-n").success.value + 0.2


def test_recovery_counts_the_struck_episodes_only() -> None:
    study = recovery("baseline:playbook", "refund", episodes=300, by="effect")
    rows = {row.name: row for row in study.rows}
    assert study.rows[0].name == ALL
    clean = make_core("refund", 300, profile="production", split="eval")
    assert isinstance(clean, WorkflowCore)
    clean.seed(clean.all_lanes, [0] * 300)
    clean.begin(clean.all_lanes, clean.all_lanes)
    assert sum(rows[name].episodes for name in ("typo", "missing-field", "outlier")) >= int(
        (clean.dirt != 0).any(axis=1).sum()
    )
    assert rows["timeout"].extra_s.value > 15.0  # it hangs for 20 s
    assert rows["timeout"].strikes >= rows["timeout"].episodes > 0
    calm = recovery("baseline:playbook", "refund", episodes=50, intensity=0.0)
    assert all(row.episodes == 0 and np.isnan(row.recovered.value) for row in calm.rows)
