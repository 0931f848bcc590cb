"""Plans in waves on recorded runs: against play in every world, against sequences, and as policies."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brownout.envs.optimal import ExactPlanPolicy, WavePlanPolicy
from brownout.envs.router_core import RouterCore
from brownout.envs.sequential import Attempts, ExactPlanner
from brownout.envs.waves import Wave, WavePlanner
from brownout.errors import PolicyError, TableError
from brownout.scenarios import load_scenario
from brownout.scenarios.tasks import table_of
from brownout.trainers import statistics
from brownout.trainers.baselines import applicable_baselines
from brownout.trainers.evaluation import evaluate, play

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
Prices = dict[str, float]


@st.composite
def tables(draw: Any, q: int = 2, k: int = 2, r: int = 2) -> Arrays:
    """Small random tables, with ragged numbers of samples."""

    def integers(high: int, low: int = 0) -> np.ndarray:
        size = q * k * r
        return np.array(draw(st.lists(st.integers(low, high), min_size=size, max_size=size)), float).reshape(q, k, r)

    n = np.array(draw(st.lists(st.integers(1, r), min_size=q * k, max_size=q * k))).reshape(q, k)
    return integers(1), integers(9) / 16, integers(4), n


def play_out(plan: tuple[Wave, ...], table: Arrays, prize: float, prices: Prices, cancel_share: float) -> float:
    """Mean utility of a plan over every query and every order of its samples, call by call."""
    success, cost, latency, n = table
    per_usd, per_s = prices.get("per_usd", 1.0), prices.get("per_s", 0.0)
    total = 0.0
    for q in range(len(success)):
        orders = [list(itertools.permutations(range(n[q, k]))) for k in range(success.shape[1])]
        worlds = list(itertools.product(*orders))
        for world in worlds:
            used, utility = [0] * success.shape[1], 0.0
            for wave in plan:
                calls = []
                for k in wave:
                    if used[k] < n[q, k]:
                        calls.append((k, world[k][used[k]]))
                        used[k] += 1
                ends = [latency[q, k, i] for k, i in calls if success[q, k, i]]
                won = bool(ends)
                end = min(ends) if won else max((latency[q, k, i] for k, i in calls), default=0.0)
                for k, i in calls:
                    done = latency[q, k, i] <= end
                    ran = 1.0 if done else end / latency[q, k, i]
                    utility -= per_usd * cost[q, k, i] * (cancel_share + (1.0 - cancel_share) * ran)
                    utility -= prices.get("per_answer", 0.0) * done
                utility -= per_s * end
                if won:
                    utility += prize
                    break
            else:
                utility += prices.get("stop", 0.0)
            total += utility / len(worlds)
    return total / len(success)


def plans(k: int, r: int, parallel: int) -> list[tuple[Wave, ...]]:
    """Every plan that calls nothing more often than ``r`` times."""
    waves = [w for size in range(1, parallel + 1) for w in itertools.combinations_with_replacement(range(k), size)]
    found: list[tuple[Wave, ...]] = [()]
    for plan in found:
        for wave in waves:
            used = np.bincount([j for w in (*plan, wave) for j in w], minlength=k)
            if (used <= r).all():
                found.append((*plan, wave))
    return found


EVERY_PLAN = plans(2, 2, 2)


@given(
    tables(),
    st.sampled_from([0.5, 1.0, 3.0]),
    st.fixed_dictionaries(
        {
            "per_usd": st.sampled_from([0.5, 1.0]), "per_s": st.sampled_from([0.0, 0.05, 0.3]),
            "per_answer": st.sampled_from([0.0, 0.1]), "stop": st.sampled_from([0.0, 0.2]),
        }
    ),
    st.sampled_from([0.0, 0.25]),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_no_plan_in_waves_beats_it(table: Arrays, prize: float, prices: Prices, cancel_share: float) -> None:
    planner = WavePlanner(*table, max_parallel=2, cancel_share=cancel_share)
    value, plan = planner.solve(prize, **prices)
    assert play_out(plan, table, prize, prices, cancel_share) == pytest.approx(value, abs=1e-9)
    assert max(play_out(p, table, prize, prices, cancel_share) for p in EVERY_PLAN) <= value + 1e-9


@given(tables(q=3, k=2, r=3), st.floats(0.1, 5.0))
@settings(max_examples=30, deadline=None)
def test_singletons_are_the_sequential_plan(table: Arrays, prize: float) -> None:
    value = ExactPlanner(Attempts.of(*table)).solve(prize)[0]
    assert WavePlanner(*table, max_parallel=1).solve(prize)[0] == pytest.approx(value, abs=1e-9)
    assert WavePlanner(*table, max_parallel=3).solve(prize)[0] >= value - 1e-9


def test_waves_may_pay_where_time_is_free() -> None:
    """Side by side a quick success cuts a slow and dear failure short, which in sequence is paid for in full."""
    success = np.array([[[1], [0]], [[0], [1]]], float)
    latency, cost = np.where(success > 0, 1.0, 10.0), np.where(success > 0, 0.1, 0.5)
    table = success, cost, latency, np.ones((2, 2), int)
    assert WavePlanner(*table).solve(1.0)[0] == pytest.approx(1.0 - (0.1 + 0.6) / 2)
    assert WavePlanner(*table, max_parallel=2).solve(1.0) == (pytest.approx(1.0 - 0.1 - 0.05), ((0, 1),))


def a_table(success: Any, latency: Any = 1.0, cost: float = 0.1) -> Arrays:
    success = np.array(success, float)
    shape = success.shape
    latency = np.broadcast_to(np.asarray(latency, float), shape).copy()
    return success, np.full(shape, cost), latency, np.full(shape[:2], shape[2])


def test_the_dearer_the_time_the_wider_the_wave() -> None:
    # two configurations, each solves half of the queries and not the same half
    planner = WavePlanner(*a_table([[[1], [0]], [[0], [1]]], latency=10.0), max_parallel=2)
    assert planner.solve(1.0) == (pytest.approx(1.0 - 0.15), ((0,), (1,)))
    # side by side: both prices, one time; in sequence 1.5 calls and 15 s
    assert planner.solve(1.0, per_s=0.02) == (pytest.approx(1.0 - 0.2 - 0.2), ((0, 1),))


def test_a_cancelled_call_costs_the_share_of_its_time() -> None:
    table = a_table([[[1], [1]]], latency=[[[1.0], [4.0]]])
    for share, paid in ((0.0, 0.1 * 1 / 4), (0.2, 0.1 * (0.2 + 0.8 / 4)), (1.0, 0.1)):
        planner = WavePlanner(*table, max_parallel=2, cancel_share=share)
        both = planner.waves.index((0, 1))
        assert planner._pay[both, 0] == pytest.approx(0.1 + paid)
        assert planner._time[both, 0] == pytest.approx(1.0)


def test_limits_on_calls_hold() -> None:
    table = a_table([[[1, 0, 0, 0]] * 2, [[0, 0, 0, 1]] * 2], cost=0.01)
    assert len(WavePlanner(*table).solve(1.0)[1]) == 4
    assert len(WavePlanner(*table, max_calls=2).solve(1.0)[1]) == 2
    assert WavePlanner(*table, calls=[1, 2]).solve(1.0)[1].count((0,)) <= 1


def test_too_much_is_refused_with_the_number() -> None:
    with pytest.raises(TableError, match="390625 states and 8 waves; allowed: 20000 states"):
        WavePlanner(*a_table(np.zeros((2, 8, 4))))


# ---------------------------------------------------------------- played

SCENARIO: dict[str, Any] = {
    "version": 1, "name": "recorded", "env": "router",
    "tasks": {"table": "runs.csv", "eval_fraction": 0.3, "features": []},
    "portfolio": {"a": {"max_calls": 3}, "b": {"max_calls": 3}, "c": {"max_calls": 2}},
    "judge": {"true_positive": 1.0, "false_positive": 0.0, "cost_usd": 0.0, "latency_s": 0.0},
    "person": None,
    "limits": {"budget_usd": 100.0, "deadline_s": 1e5, "max_steps": 60, "max_parallel": 4, "cancel_share": 0.1},
    "reward": {"accuracy": 1.0, "per_usd": 1.0, "per_s": 0.003, "wrong_answer": -0.5},
    "profiles": {"clean": []},
}  # fmt: skip


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Any:
    rng = np.random.default_rng(4)
    lines = ["query_id,config,sample,success,cost_usd,latency_s"]
    for q in range(60):
        ease = rng.normal()
        for name, skill, price, slow in (("a", -0.3, 0.03, 10), ("b", 0.4, 0.08, 25), ("c", 0.9, 0.15, 60)):
            chance = 1.0 / (1.0 + np.exp(-(skill + ease + rng.normal())))
            for sample in range(3):
                cost, latency = price * rng.uniform(0.5, 2.0), slow * rng.uniform(0.4, 3.0)
                lines.append(f"q{q},{name},{sample},{int(rng.random() < chance)},{cost:.5f},{latency:.4f}")
    path: Path = tmp_path_factory.mktemp("recorded") / "runs.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    data = {**SCENARIO, "tasks": {**SCENARIO["tasks"], "table": str(path)}}
    return lambda *overrides: load_scenario(data, overrides)


@pytest.mark.parametrize("policy", [ExactPlanPolicy, WavePlanPolicy])
def test_playing_a_plan_earns_its_value_on_its_own_queries(recorded: Any, policy: type[WavePlanPolicy]) -> None:
    core = RouterCore(recorded(), 1024, profile="clean", split="train")
    rule = policy(core)
    estimate = statistics.mean(play(rule, core, 20_000).utility, level=0.9999)
    assert estimate.low < rule.value < estimate.high
    assert estimate.half_width < 0.03


def test_waves_are_worth_more_than_a_sequence_when_time_has_a_price(recorded: Any) -> None:
    core = RouterCore(recorded(), 512, profile="clean", split="train")
    waves, sequence = WavePlanPolicy(core), ExactPlanPolicy(core)
    assert waves.value > sequence.value + 0.02
    assert max(len(wave) for wave in waves.plan) > 1
    assert {len(wave) for wave in sequence.plan} == {1}
    one, two = play(waves, core, 8000), play(sequence, core, 8000)
    assert statistics.paired_difference(one.utility, two.utility).low > 0.0
    assert one.component("latency_s").mean() < two.component("latency_s").mean()
    assert one.component("cost_usd").mean() > two.component("cost_usd").mean()


def test_plans_are_fitted_on_train_queries_and_played_on_the_others(recorded: Any) -> None:
    on = {split: RouterCore(recorded(), 4, profile="clean", split=split) for split in ("train", "eval")}
    rule = ExactPlanPolicy(on["eval"])
    assert rule.plan == ExactPlanPolicy(on["train"]).plan
    runs = table_of(on["eval"].spec)
    assert 0 < runs.is_eval.sum() < len(runs.is_eval)
    columns = runs.success, runs.cost_usd, runs.latency_s, runs.n_samples
    on_train = WavePlanner(*columns, queries=np.flatnonzero(~runs.is_eval), calls=[3, 3, 2])
    assert rule.value == on_train.solve(1.0, per_s=0.003)[0]
    assert rule.value != WavePlanner(*columns, calls=[3, 3, 2]).solve(1.0, per_s=0.003)[0]
    table = evaluate(
        ["baseline:exact-plan", "baseline:wave-plan", "baseline:null"], recorded(), episodes=300, profile="clean"
    )
    assert (table.ceiling, [row.name for row in table.rows]) == (None, ["exact-plan", "wave-plan", "null"])
    assert table.rows[0].utility.value > 0.2
    assert {"exact-plan", "wave-plan"} <= set(applicable_baselines(on["eval"]))


@pytest.mark.parametrize("judge", ["{}", "{true_positive: 0.6, false_positive: 0.3, latency_s: 5}"])
def test_every_action_is_legal_and_a_row_is_decided_alone(recorded: Any, judge: str) -> None:
    core = RouterCore(recorded(f"judge={judge}", "limits.max_calls=5"), 64, profile="clean")
    rule = WavePlanPolicy(core)
    core.seed(core.all_lanes, range(64))
    core.begin(core.all_lanes)
    ended = np.zeros(64, np.bool_)
    for _ in range(core.max_steps):
        observation, mask = core.observe(), core.mask()
        action = rule.act_batch(observation, mask)
        assert mask[np.arange(64), action].all()
        assert rule.act_batch(observation[9:10], mask[9:10])[0] == action[9]
        core.advance(action, np.flatnonzero(ended) if ended.any() else None)
        ended |= core.terminated
        if ended.all():
            break
    assert ended.all()


def test_a_person_takes_over_when_the_plan_has_failed(recorded: Any) -> None:
    scenario = recorded("person={accuracy: 1.0, cost_usd: 0.2, latency_s: 0}", "reward.handoff=0.9")
    core = RouterCore(scenario, 256, profile="clean", split="train")
    rule = ExactPlanPolicy(core)
    records = play(rule, core, 4000)
    shares = np.bincount(records.outcome, minlength=5) / 4000
    assert shares[core.outcome_names.index("escalated")] > 0.02
    assert shares[core.outcome_names.index("abstained")] == 0.0
    assert len(rule.plan) < len(ExactPlanPolicy(RouterCore(recorded(), 1, profile="clean")).plan)


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("judge=null", "no judge"),
        ("judges={one: {}, two: {}}", "several judges"),
        ("reward={kind: lexicographic}", "not weighted-sum"),
        ("preferences={per_usd: [0.5, 2]}", "preferences.per_usd is drawn per episode"),
    ],
)
def test_where_there_is_no_such_plan_it_says_why(recorded: Any, override: str, reason: str) -> None:
    overrides = ["judge=null", override] if "judges" in override else [override]
    core = RouterCore(recorded(*overrides), 1, profile="clean")
    with pytest.raises(PolicyError, match=f"recorded: no exact-plan: .*{reason}"):
        ExactPlanPolicy(core)
    assert not {"exact-plan", "wave-plan"} & set(applicable_baselines(core))


def test_modelled_tasks_have_no_recorded_plan() -> None:
    with pytest.raises(PolicyError, match="support-desk: no wave-plan: tasks come from a model"):
        WavePlanPolicy(RouterCore("support-desk", 1))
