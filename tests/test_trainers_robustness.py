"""Sensitivity, ablation and drift: figures computed by hand, and nothing seen that lies ahead."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brownout import evaluate, load_policy, load_scenario
from brownout.errors import FaultError, PolicyError
from brownout.trainers import drift
from brownout.trainers.ablation import ALL, NONE, ablation
from brownout.trainers.api import Task, study_config
from brownout.trainers.baselines import make_baseline
from brownout.trainers.drift import FROZEN, RETRAINED, drift_study
from brownout.trainers.evaluation import play
from brownout.trainers.policy import Policy, initial_weights
from brownout.trainers.ppo import PPOConfig
from brownout.trainers.robustness_pictures import draw_drift, draw_sensitivity
from brownout.trainers.sensitivity import sensitivity
from router_support import PER_S, tiny
from workflow_support import tiny_workflow

SMALL = PPOConfig(lanes=16, rollout_steps=16, minibatch=128, hidden=(8,))
PLAIN = {"person": None, "repair": None}

# `sure` costs 0.25 and takes 8 s, and is always right; always-strongest asks it once and submits
DEAR = {"fault": "price-change", "factor": 2.0, "when": "on('sure')"}
SLOW = {"fault": "slow-response", "factor": 3.0, "when": "on('sure')"}
IDLE = {"fault": "price-change", "factor": 9.0, "when": "on('slow')"}


def two_faults() -> Any:
    return load_scenario(tiny(DEAR, SLOW, IDLE, **PLAIN))


# ---------------------------------------------------------------- sensitivity


def test_losses_are_those_one_computes_by_hand() -> None:
    study = sensitivity("baseline:always-strongest", two_faults(), by="id", episodes=50, intensities=(0.0, 1.0, 2.0))
    dear, slow = 0.25, 16.0 * PER_S
    ranked = {row.name: row for row in study.faults}
    assert [row.name for row in study.faults] == ["price-change#0", "slow-response#0", "price-change#1"]
    for name, loss, strikes in (
        ("price-change#0", dear, 100),
        ("slow-response#0", slow, 100),
        ("price-change#1", 0, 0),
    ):
        row = ranked[name]
        assert (row.alone.value, row.last.value) == pytest.approx((loss, loss)), name
        assert row.alone.low == pytest.approx(loss), "every episode loses the same, so the interval is a point"
        assert row.strikes == strikes
        assert row.success_lost.value == 0.0
    clean, whole, double = study.intensities
    assert clean.utility.value == pytest.approx(1.0 - 0.25 - 8.0 * PER_S)
    assert clean.loss.value == 0.0
    assert whole.loss.value == pytest.approx(dear + slow)
    # at 2 the price moves twice as far; a slow response, which strikes every call already, stays as slow
    assert double.loss.value == pytest.approx(2 * dear + slow)


def test_groups_and_pairs(tmp_path: Path) -> None:
    whole = sensitivity("baseline:cheapest-first", "support-desk", by="family", episodes=400, intensities=(0.0, 1.0))
    assert {row.name for row in whole.faults} == {"services", "latency", "portfolio"}
    rows = [evaluate("baseline:cheapest-first", "support-desk", episodes=400, profile=p).rows[0].records
            for p in ("clean", "production")]  # fmt: skip
    assert rows[0] is not None and rows[1] is not None  # noqa: PT018
    assert whole.intensities[1].loss.value == pytest.approx((rows[0].utility - rows[1].utility).mean())
    assert whole.intensities[1].loss.low > 0
    assert whole.intensities[1].loss.smallest_detectable > 0
    pytest.importorskip("matplotlib")
    assert draw_sensitivity(whole, tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")


# ---------------------------------------------------------------- ablation


def test_the_ablation_trains_and_evaluates_what_it_says(tmp_path: Path) -> None:
    said: list[str] = []
    table = ablation(
        two_faults(), steps=512, config=SMALL, episodes=60, out=tmp_path, progress=said.append, seeds=1
    )  # fmt: skip
    assert table.trainings == (ALL, NONE, "without portfolio", "without latency")
    assert table.conditions == ("clean", "all", "portfolio", "latency")
    assert len(table.cells) == 16
    held = {(c.training, c.condition) for c in table.cells if c.held_out}
    assert held == {
        ("without portfolio", "portfolio"), ("without latency", "latency"), (NONE, "all"), (NONE, "portfolio"),
        (NONE, "latency"),
    }  # fmt: skip
    scenario = two_faults()
    policy = load_policy(tmp_path / "without-portfolio-0")
    assert policy.card is not None
    assert policy.card.training["faults"] == ["slow-response#0"]
    assert load_policy(tmp_path / "no-faults-0").card.training["faults"] == []  # type: ignore[union-attr]
    row = evaluate(policy, scenario, episodes=60, only_faults=["portfolio"]).rows[0]
    assert table.cell("without portfolio", "portfolio").utility == row.utility
    first = evaluate(load_policy(tmp_path / "all-faults-0"), scenario, episodes=60, only_faults=["portfolio"]).rows[0]
    against = table.cell("without portfolio", "portfolio").against
    assert against is not None
    assert against.value == pytest.approx(first.utility.value - row.utility.value)
    assert table.cell(ALL, "all").against is None

    metrics = {path: path.read_bytes() for path in tmp_path.rglob("metrics.jsonl")}
    again = ablation(two_faults(), steps=512, config=SMALL, episodes=60, out=tmp_path, resume=True)
    assert again.cells == table.cells
    assert metrics == {path: path.read_bytes() for path in tmp_path.rglob("metrics.jsonl")}, "nothing is trained twice"


def test_an_ablation_of_a_workflow_counts_harm_and_passes_options_on(tmp_path: Path) -> None:
    lie = {"fault": "lying-success", "when": "rate(1) & on('bank')"}
    bad = {"fault": "outlier", "when": "rate(1) & on('order*')"}
    data = tiny_workflow(lie, bad)
    table = ablation(
        data, steps=512, config=SMALL, episodes=40, out=tmp_path, imitate="happy-path", curriculum={"fault_share": "1"}
    )
    assert table.conditions == ("clean", "all", "adversarial", "records")
    for name in ("all-faults", "no-faults", "without-records", "without-adversarial"):
        card = load_policy(tmp_path / f"{name}-0").card
        assert card is not None
        assert card.training["imitation"]["imitate"] == "happy-path"
    row = evaluate(load_policy(tmp_path / "no-faults-0"), data, episodes=40, only_faults=["records"]).rows[0]
    cell = table.cell(NONE, "records")
    assert row.records is not None
    assert cell.harm.value == pytest.approx((row.records.component("safety") > 0).mean())
    assert cell.success == row.success


def test_studies_of_a_workflow_do_not_settle_for_handing_over() -> None:
    workflow, router = load_scenario(tiny_workflow()), two_faults()
    assert study_config(workflow, taught=True).imitate == "always-verify"
    alone = study_config(workflow, taught=False)
    assert (alone.imitate, alone.entropy > 10 * PPOConfig().entropy) == ("", True)
    assert study_config(router, taught=True) == study_config(router, taught=False) == PPOConfig()


def test_several_seeds_widen_the_interval_by_the_luck_of_the_training() -> None:
    one = ablation(two_faults(), steps=512, config=SMALL, episodes=40, held_out=[], seed=5)
    two = ablation(two_faults(), steps=512, config=SMALL, episodes=40, held_out=["slow-response"], seeds=2, seed=5)
    assert two.trainings == (ALL, NONE, "without slow-response")
    assert "slow-response" in two.conditions
    assert two.cell(ALL, "all").utility.n == 80
    assert one.cell(ALL, "all").utility.n == 40


def test_an_ablation_without_faults_or_of_unknown_ones_is_refused() -> None:
    with pytest.raises(PolicyError, match="profile 'clean' has no faults"):
        ablation("textbook", profile="clean", steps=1)
    with pytest.raises(FaultError, match="no fault 'weather'"):
        ablation("support-desk", held_out=["weather"], steps=1)
    with pytest.raises(PolicyError, match="seeds: got 0"):
        ablation("support-desk", seeds=0)


# ---------------------------------------------------------------- drift


def moving(over: int = 60, **changes: Any) -> Any:
    data = tiny(**PLAIN, **changes)
    data["profiles"]["drift"] = [
        {"fault": "price-change", "factor": 4.0, "when": f"drift(0, 1, over={over}) & on('sure')"}
    ]
    return load_scenario(data)


def test_every_week_is_evaluated_on_its_own_episodes(tmp_path: Path) -> None:
    study = drift_study(
        moving(), weeks=3, episodes_per_week=20, steps=512, retrain_steps=256, config=SMALL,
        baseline="always-strongest", out=tmp_path,
    )  # fmt: skip
    assert len(study.rows) == 9
    assert study.notes == ()
    core = Task(moving(), "drift", split="eval").core(7)
    for week in range(3):
        policies = {RETRAINED: load_policy(tmp_path / f"week-{week:02d}"), FROZEN: load_policy(tmp_path / "week-00")}
        utility = {name: play(policy, core, 20, first=20 * week).utility for name, policy in policies.items()}
        for name in policies:
            assert study.of(name)[week].utility.value == pytest.approx(utility[name].mean())
        assert study.gains[week].value == pytest.approx((utility[RETRAINED] - utility[FROZEN]).mean())
    # the price of `sure` is expected to be 0.25 * (1 + 3 * share of the drift behind)
    rule = study.of("baseline:always-strongest")
    for week in range(3):
        expected = 0.25 * (1.0 + 3.0 * (20 * week + 9.5) / 60)
        assert rule[week].cost_usd.value == pytest.approx(expected, abs=0.2)
    assert rule[0].cost_usd.value < rule[2].cost_usd.value
    pytest.importorskip("matplotlib")
    assert draw_drift(study, tmp_path / "d.png").read_bytes().startswith(b"\x89PNG")


def test_training_again_sees_only_weeks_that_are_past(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Any, str, bool]] = []
    train = drift._train

    def spy(task: Task, config: PPOConfig, initial: Policy | None = None) -> Policy:
        seen.append((task.window, task.split, initial is None))
        return train(task, config, initial)

    monkeypatch.setattr(drift, "_train", spy)
    drift_study(
        moving(), weeks=4, episodes_per_week=100, steps=256, retrain_steps=256, recent=2, config=SMALL, baseline="null"
    )
    windows = [(0, 100), (0, 100), (0, 200), (100, 300)]
    assert seen == [
        (window, "train", first) for window, first in zip(windows, [True, False, False, False], strict=True)
    ]


def test_only_the_first_training_has_a_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    configs: list[PPOConfig] = []
    train = drift._train

    def spy(task: Task, config: PPOConfig, initial: Policy | None = None) -> Policy:
        configs.append(config)
        return train(task, config, initial)

    monkeypatch.setattr(drift, "_train", spy)
    config = replace(SMALL, entropy=0.2, entropy_end=0.1)
    drift_study(
        moving(), weeks=2, episodes_per_week=50, steps=512, retrain_steps=256, config=config, baseline="null",
        imitate="always-strongest", curriculum={"fault_share": "0:1@1"},
    )  # fmt: skip
    first, again = configs
    assert (first.imitate, first.entropy, first.steps, first.fault_share) == ("always-strongest", 0.2, 512, "0:1@1")
    assert (again.imitate, again.entropy, again.steps, again.fault_share) == ("", 0.2, 256, "0:1@1")


def test_a_workflow_drifts_too() -> None:
    lost = {"fault": "timeout", "after_s": 20.0, "applied": 1.0, "when": "drift(0, 1, over=90) & on('bank')"}
    data = tiny_workflow(lost)
    data["profiles"]["drift"] = data["profiles"]["production"]
    study = drift_study(
        data, weeks=3, episodes_per_week=30, steps=512, retrain_steps=256, config=SMALL, baseline="happy-path"
    )
    assert study.notes == ()
    shares = [row.success.value for row in study.of("baseline:happy-path")]
    assert shares[0] > shares[1] > shares[2], "it finishes without looking what became of a lost call"
    assert study.baseline == "happy-path"


def insisting(task: Task, *wanted: str) -> Policy:
    """A policy that always takes the first of these actions that is legal."""
    names, columns = task.core(1).action_names, len(task.core(1).observation_columns)
    weights = {name: np.zeros_like(w) for name, w in initial_weights(columns, len(names), (4,), 0).items()}
    for rank, action in enumerate(reversed(wanted)):
        weights["policy.1.bias"][names.index(action)] = 1.0 + rank
    return Policy(weights, None)


def test_a_training_that_brings_nothing_is_not_rolled_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def train(task: Task, config: PPOConfig, initial: Policy | None = None) -> Policy:
        good = config.seed in (0, 2)  # of week 0 and week 2
        return insisting(task, "submit", "launch:sure", "wait") if good else insisting(task, "abstain")

    monkeypatch.setattr(drift, "_train", train)
    scenario = moving(over=600, portfolio__sure__max_calls=1)
    study = drift_study(scenario, weeks=3, episodes_per_week=30, baseline="null")
    assert study.of(FROZEN)[0].utility.value > 0.5
    assert study.kept == (1, 2), "worse in week 1, no better in week 2"
    assert [row.utility for row in study.of(FROZEN)] == [row.utility for row in study.of(RETRAINED)]

    monkeypatch.setattr(
        drift, "_train", lambda task, config, initial=None: train(task, replace(config, seed=config.seed + 1))
    )
    study = drift_study(scenario, weeks=3, episodes_per_week=30, baseline="null")
    assert study.kept == (2,)
    assert [gain.value > 0.2 for gain in study.gains] == [False, True, True]


def test_the_score_of_a_window_is_that_of_its_episodes() -> None:
    actor = make_baseline("always-strongest", Task(moving(), "drift").core(1))
    early, late = (Task(moving(), "drift", window=window).score(actor) for window in ((0, 5), (200, 205)))
    assert early == pytest.approx(1.0 - 0.25 - 8 * PER_S, abs=0.1)
    assert late == pytest.approx(1.0 - 1.0 - 8 * PER_S)


def test_a_profile_that_stands_still_is_noted_and_bad_numbers_refused() -> None:
    study = drift_study(
        two_faults(), profile="production", weeks=2, episodes_per_week=200, steps=256, retrain_steps=256, config=SMALL,
        baseline="null",
    )  # fmt: skip
    assert "nothing moves with the episode" in study.notes[0]
    assert drift._notes(moving(over=1000), "drift", 100) == (
        "drift goes on for 1,000 episodes, but these weeks are 100",
    )
    with pytest.raises(PolicyError, match="weeks: got 1; allowed: 2 or more"):
        drift_study(moving(), weeks=1)


def test_the_library_s_moving_desk_moves_for_twelve_weeks_of_a_thousand() -> None:
    scenario = load_scenario("moving-desk")
    assert drift._notes(scenario, "drift", 12_000) == ()
    core = Task(scenario, "drift", split="eval").core(256)
    actor = make_baseline("greedy-index", core)
    weeks = [play(actor, core, 600, first=1000 * week).utility.mean() for week in (0, 5, 11)]
    assert weeks[0] > weeks[1] + 0.1 > weeks[2] + 0.2
