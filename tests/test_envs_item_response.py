"""The optimum of the item-response model: against enumeration of histories, against play, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest

from brownout.envs.item_response import ItemResponse, item_response_of
from brownout.envs.item_response_optimum import optimum_of, solve, value_of_judging
from brownout.envs.item_response_states import Grid, cells, cumulative, gauss_nodes
from brownout.envs.optimal import OPTIMAL, OptimumPolicy
from brownout.envs.optimum import boxes_of, ceiling_of
from brownout.envs.quantiles import logistic, normal
from brownout.envs.router_core import RouterCore
from brownout.errors import PolicyError
from brownout.scenarios import load_scenario
from brownout.scenarios.schema import Configuration, Judge, Limits, ModelTasks, Person, RouterScenario
from brownout.trainers import statistics
from brownout.trainers.baselines import applicable_baselines, make_baseline
from brownout.trainers.evaluation import evaluate, play

COMPUTED = ("test-suite", "code-review")


def core_of(name: str, *overrides: str, lanes: int = 1, profile: str = "clean", **options: Any) -> RouterCore:
    return RouterCore(load_scenario(name, overrides), lanes, profile=profile, **options)


# ---------------------------------------------------------------- against enumeration

FRESH, REJECTED, ACCEPTED = 0, 1, 2
Hand = tuple[tuple[int, int], ...]


def best_by_enumeration(problem: ItemResponse, grid: Grid) -> float:
    """Value of the best policy over full histories, answers without a verdict included, as the environment plays.

    A state is the multiset of answers in hand, each with its verdict. Every launch, judgement and end is tried;
    the environment's own order decides which answer is judged and which is submitted.
    """
    worlds, weights = [], []
    families = np.unique(problem.family)
    ys, zs = gauss_nodes(grid.latent), gauss_nodes(grid.latent)
    difficulty = problem.mean[0] + problem.sd[0] * cells(grid.difficulty)
    k = len(problem.calls)
    for d in difficulty:
        for y in product(range(grid.latent), repeat=len(families)):
            for z in product(range(grid.latent), repeat=k):
                margin = np.array(
                    [
                        problem.skill[j, 0]
                        - d
                        + problem.family_sd * ys[0][y[problem.family[j]]]
                        + problem.configuration_sd[j] * zs[0][z[j]]
                        for j in range(k)
                    ]
                )
                worlds.append(1.0 - cumulative(logistic(), -margin))
                weights.append(np.prod([ys[1][i] for i in y]) * np.prod([zs[1][i] for i in z]) / len(difficulty))
    p, w = np.array(worlds), np.array(weights)
    t, f = problem.true_positive, problem.false_positive
    accept = t * p + f * (1.0 - p)

    def mass(hand: Hand) -> np.ndarray:
        out = w.copy()
        for j, verdict in hand:
            out = out * {FRESH: 1.0, REJECTED: 1.0 - accept[:, j], ACCEPTED: accept[:, j]}[verdict]
        return out

    def best(hand: Hand, verdicts: tuple[int, ...]) -> tuple[int, int] | None:
        for verdict in verdicts:
            held = [answer for answer in hand if answer[1] == verdict]
            if held:
                return max(held, key=lambda answer: problem.strength[answer[0]])
        return None

    @cache
    def value(hand: Hand) -> float:
        here = mass(hand)
        total = float(here.sum())
        found = max(0.0, problem.handoff) * total
        answer = best(hand, (ACCEPTED, FRESH, REJECTED))
        if answer is not None:
            j, verdict = answer
            chance = {FRESH: p[:, j], REJECTED: (1.0 - t) * p[:, j], ACCEPTED: t * p[:, j]}[verdict]
            rest = list(hand)
            rest.remove(answer)
            right = float((mass(tuple(rest)) * chance).sum())
            found = max(found, problem.right * right + problem.wrong * (total - right))
        fresh = best(hand, (FRESH,))
        if fresh is not None and problem.judge is not None:
            rest = list(hand)
            rest.remove(fresh)
            judged = sum(value(tuple(sorted([*rest, (fresh[0], verdict)]))) for verdict in (REJECTED, ACCEPTED))
            found = max(found, judged - problem.judge * total)
        for j in range(k):
            if len(hand) < problem.max_calls and sum(answer[0] == j for answer in hand) < problem.calls[j]:
                found = max(found, value(tuple(sorted([*hand, (j, FRESH)]))) - problem.price[j] * total)
        return found

    return value(())


def problem_of_seed(seed: int) -> ItemResponse:
    """A small random problem: two configurations, of one family or two, three calls in all."""
    rng = np.random.default_rng(seed)
    t, f = [(1.0, 0.0), (0.9, 0.0), (1.0, 0.3), (0.9, 0.2), (0.75, 0.35), (0.3, 0.6)][seed % 6]
    return ItemResponse(
        share=np.ones(1), mean=np.zeros(1), sd=np.array([rng.uniform(0.3, 1.5)]), skill=rng.uniform(-1, 2, (2, 1)),
        family=np.array([0, seed % 2]), family_sd=rng.uniform(0.1, 1.5), configuration_sd=rng.uniform(0.1, 2.0, 2),
        hint_sd=None, calls=np.array([2, 2]), max_calls=3 + seed % 2, price=rng.uniform(0.0, 0.15, 2),
        judge=None if seed % 11 == 10 else float(rng.uniform(0.0, 0.1)), true_positive=t, false_positive=f,
        right=1.0, wrong=-float(rng.uniform(0.0, 3.0)), handoff=[-np.inf, 0.1, 0.4][seed % 3],
        strength=np.sort(rng.uniform(0.2, 0.9, 2))[:: 1 if seed % 4 else -1],
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(24))
def test_it_is_the_best_of_all_policies_over_histories(seed: int) -> None:
    problem, grid = problem_of_seed(seed), Grid(latent=3, difficulty=4)
    if problem.judge is None:
        problem = problem.without_judge()
    assert solve(problem, grid).value == pytest.approx(best_by_enumeration(problem, grid), abs=1e-10)


def test_the_enumeration_notices_another_problem() -> None:
    grid = Grid(latent=3, difficulty=4)
    problem = problem_of_seed(3)
    other = replace(problem, false_positive=problem.false_positive + 0.02)
    assert abs(solve(problem, grid).value - best_by_enumeration(other, grid)) > 1e-4


# ---------------------------------------------------------------- by hand


def one_call(judge: float | None, t: float = 1.0, f: float = 0.0, wrong: float = -1.0) -> ItemResponse:
    """One call of a free configuration that is right in half of all tasks, as far as anybody can know."""
    return ItemResponse(
        share=np.ones(1), mean=np.zeros(1), sd=np.zeros(1), skill=np.zeros((1, 1)), family=np.zeros(1, int),
        family_sd=0.0, configuration_sd=np.zeros(1), hint_sd=None, calls=np.ones(1, int), max_calls=1,
        price=np.zeros(1), judge=judge, true_positive=t, false_positive=f, right=1.0, wrong=wrong, handoff=-np.inf,
        strength=np.ones(1),
    )  # fmt: skip


def test_what_a_verdict_is_worth_by_hand() -> None:
    assert solve(one_call(None)).value == pytest.approx(0.0)
    assert solve(one_call(0.1)).value == pytest.approx(0.5 - 0.1)
    # accepted: right .45 of .6; rejected is not worth submitting
    assert solve(one_call(0.1, 0.9, 0.3)).value == pytest.approx(0.45 - 0.15 - 0.1)
    # too dear a judge is not asked
    assert solve(one_call(0.6, wrong=-0.5)).value == pytest.approx(0.5 - 0.25)


def test_a_judge_that_says_nothing_is_worth_nothing() -> None:
    assert value_of_judging(core_of("code-review", "judge.false_positive=0.93")) == 0.0
    assert value_of_judging(core_of("test-suite", "judge.cost_usd=1.5", "limits.budget_usd=99")) == pytest.approx(
        0.0, abs=1e-12
    )
    assert value_of_judging(core_of("test-suite", "judge=null")) == 0.0


def test_a_better_judge_is_worth_more() -> None:
    rates = [f"judge.false_positive={f}" for f in (0.0, 0.1, 0.2, 0.4)]
    worth = [value_of_judging(core_of("code-review", rate)) for rate in rates]
    assert worth == sorted(worth, reverse=True)
    assert worth[0] > worth[-1] + 0.05


def test_quadrature_is_that_of_the_tables() -> None:
    nodes, weights = gauss_nodes(16)
    u = (np.arange(200_000) + 0.5) / 200_000
    x = normal().sample(u)
    for power in (0, 1, 2, 4, 6):
        assert weights @ nodes**power == pytest.approx((x**power).mean(), rel=1e-5, abs=1e-8)
    assert cells(256).mean() == pytest.approx(x.mean(), abs=1e-6)


@pytest.mark.parametrize("name", COMPUTED)
def test_a_finer_grid_changes_next_to_nothing(name: str) -> None:
    optimum = optimum_of(core_of(name))
    assert solve(optimum.problem, Grid(32, 512, 256)).value == pytest.approx(optimum.value, rel=1e-4)
    assert solve(optimum.problem, Grid(8, 64, 8)).value < optimum.value - 1e-4  # and a coarse one is told apart


# ---------------------------------------------------------------- consistency


def test_independent_boxes_have_weitzmans_value() -> None:
    core = core_of("textbook")
    boxes = boxes_of(core)
    assert boxes is not None
    assert optimum_of(core).value == pytest.approx(boxes.value, abs=1e-12)
    assert ceiling_of(core) == boxes.value


def test_every_freedom_is_worth_something_and_every_price_costs() -> None:
    value = {
        change: optimum_of(core_of("test-suite", *([change] if change else []))).value
        for change in (
            "", "tasks.hint_sd=null", "tasks.hint_sd=0.3", "tasks.hint_sd=0", "person=null", "judge.cost_usd=0.1",
            "limits.max_calls=2", "portfolio.quick.max_calls=1",
        )
    }  # fmt: skip
    assert value["tasks.hint_sd=null"] < value[""] < value["tasks.hint_sd=0.3"] < value["tasks.hint_sd=0"]
    for less in ("person=null", "judge.cost_usd=0.1", "limits.max_calls=2", "portfolio.quick.max_calls=1"):
        assert value[less] < value[""] - 1e-4, less


def test_correlated_repeats_are_worth_less_than_fresh_draws() -> None:
    """The same chance at first, but a failure says more about the next try."""
    fresh = optimum_of(core_of("test-suite", "tasks.configuration_sd=0.0", "tasks.family_sd=0.0")).value
    assert optimum_of(core_of("test-suite", "tasks.configuration_sd=3.0", "tasks.family_sd=2.0")).value < fresh


# ---------------------------------------------------------------- what it refuses


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("reward={kind: lexicographic}", "reward.kind is not weighted-sum"),
        ("repair={}", "repair: answers can be repaired"),
        ("preferences={per_usd: [0.5, 2.0]}", "preferences.per_usd is drawn per episode"),
        ("reward.per_s=0.001", "reward.per_s: time has a price"),
        ("limits.max_steps=18", "limits.max_steps: 18 is below 3 steps per call and one to end, 19"),
        ("limits.budget_usd=2.0", "limits.budget_usd: 2 can be reached"),
        ("limits.deadline_s=3000", "limits.deadline_s: 3000 can be reached"),
        ("judge.cost_usd=3.0", "limits.budget_usd: 10 can be reached"),
        ("tasks.ceiling=2.0", "tasks.ceiling: some tasks are beyond every configuration"),
        ("tasks.drift={to: {bug: 0.2, feature: 0.8}, over: 100}", "tasks.drift: the mix of classes moves with"),
        ("tasks.effort={cost: {task: 0.5}}", "tasks.effort: what a call costs tells of the next one"),
        ("portfolio.deep.wrong={cost_factor: 2}", "portfolio.deep.wrong: what a call costs tells"),
        ("portfolio.deep.max_calls=64", "274625 states; allowed: 20000"),
    ],
)
def test_what_makes_it_inexact_is_refused_with_the_reason(override: str, reason: str) -> None:
    overrides = [override]
    if "max_calls" in override:
        overrides += [f"portfolio.{name}.max_calls=64" for name in ("quick", "steady")]
        overrides += ["limits.max_calls=64", "limits.max_steps=400", "limits.budget_usd=900", "limits.deadline_s=1e7"]
    core = core_of("test-suite", *overrides)
    with pytest.raises(PolicyError, match=f"test-suite, profile clean: no exact optimum: .*({reason})"):
        optimum_of(core)
    assert ceiling_of(core) is None
    with pytest.raises(PolicyError, match="no exact optimum"):
        make_baseline("optimum", core)


def test_judges_that_it_does_not_know_are_refused() -> None:
    alike = core_of("code-review", "judge.correlation=0.5")
    with pytest.raises(PolicyError, match=r"judge.correlation: verdicts on like answers are alike"):
        item_response_of(alike)
    both = core_of("code-review", "judge=null", "judges={one: {}, two: {}}")
    with pytest.raises(PolicyError, match="judges: there are several"):
        item_response_of(both)
    assert ceiling_of(both) is None
    graded = core_of("code-review", "quality={}", "judge.score_sd=0.1")
    with pytest.raises(PolicyError, match="quality: answers are not just right or wrong"):
        item_response_of(graded)


def test_every_field_of_a_scenario_is_accounted_for() -> None:
    """A new field may be one that the program must model or refuse: look there before it is added here."""
    known = {
        ModelTasks: "kind classes difficulty family_sd configuration_sd hint_sd ceiling effort drift",
        Configuration: "family skill cost_usd latency_s max_calls latent_sd wrong",
        Judge: "true_positive false_positive cost_usd latency_s correlation mistakes score_sd",
        Person: "accuracy cost_usd latency_s",
        Limits: "budget_usd deadline_s max_steps max_calls max_parallel on_budget on_deadline cancel_share backoff_s",
        RouterScenario: "version name description env limits reward preferences shaping profiles tasks portfolio judge "
        "judges repair quality person",
    }
    for part, fields in known.items():
        assert set(part.model_fields) == set(fields.split()), part.__name__


def test_a_latent_of_its_own_is_played_as_computed() -> None:
    core = core_of("test-suite", "portfolio.quick.latent_sd=3.0", "portfolio.steady.latent_sd=0.0", lanes=1024)
    value = optimum_of(core).value
    assert abs(value - optimum_of(core_of("test-suite")).value) > 5e-3
    estimate = statistics.mean(play(OptimumPolicy(core), core, 20_000).utility, level=0.9999)
    assert estimate.low < value < estimate.high


def test_faults_are_refused_unless_they_are_off() -> None:
    core = core_of("test-suite", profile="production")
    with pytest.raises(PolicyError, match="faults can strike; take the profile clean or intensity 0"):
        item_response_of(core)
    off = core_of("test-suite", profile="production", intensity=0.0)
    assert ceiling_of(off) == ceiling_of(core_of("test-suite"))


def test_soft_limits_do_not_bind_unless_lateness_costs() -> None:
    soft = ["limits.on_budget=soft", "limits.budget_usd=0.1", "limits.on_deadline=soft", "limits.deadline_s=1"]
    assert ceiling_of(core_of("test-suite", *soft)) == ceiling_of(core_of("test-suite"))
    with pytest.raises(PolicyError, match="late_per_s"):
        item_response_of(core_of("test-suite", *soft, "reward.late_per_s=0.01"))


def test_time_may_cost_where_nothing_can_overlap() -> None:
    alone = ["limits.max_parallel=1", "judge.latency_s=0"]
    slow = optimum_of(core_of("test-suite", *alone, "reward.per_s=0.0001")).value
    assert slow < optimum_of(core_of("test-suite", *alone)).value - 1e-3
    with pytest.raises(PolicyError, match=r"reward.per_s"):
        item_response_of(core_of("test-suite", "limits.max_parallel=1", "reward.per_s=0.0001"))


def test_equal_strength_is_refused_where_it_matters() -> None:
    skill = {"bug": -0.5, "feature": -0.5}
    twins = [f"portfolio.{name}.skill={skill}" for name in ("quick", "steady")]
    assert ceiling_of(core_of("test-suite", *twins)) is not None
    with pytest.raises(PolicyError, match="the same strength"):
        item_response_of(core_of("code-review", *twins))


# ---------------------------------------------------------------- played


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("test-suite", []),
        ("test-suite", ["tasks.hint_sd=null", "person=null"]),
        ("test-suite", ["judge.cost_usd=0.3"]),  # so dear that strong answers are submitted unseen
        ("test-suite", ["judge=null"]),
        ("test-suite", ["limits.max_parallel=1", "judge.latency_s=0", "reward.per_s=0.0002"]),
        ("code-review", []),
        ("code-review", ["judge.true_positive=1.0", "person=null", "reward.wrong_answer=-2.0"]),
        ("code-review", ["judge.false_positive=0.0", "judge.true_positive=0.7"]),
        ("code-review", ["judge.true_positive=0.6", "judge.false_positive=0.05", "reward.wrong_answer=0.0"]),
    ],
)
def test_playing_the_plan_earns_the_computed_value(name: str, overrides: list[str]) -> None:
    core = core_of(name, *overrides, lanes=1024, split="eval")
    records = play(OptimumPolicy(core), core, 20_000)
    estimate = statistics.mean(records.utility, level=0.9999)
    assert estimate.low < optimum_of(core).value < estimate.high
    assert estimate.half_width < 0.025
    assert (records.outcome != core.outcome_names.index("limit")).all()


@pytest.mark.parametrize("name", COMPUTED)
def test_no_baseline_is_above_it(name: str) -> None:
    core = core_of(name)
    rivals = [n for n in applicable_baselines(core) if n != "optimum"]
    table = evaluate(["baseline:optimum", *(f"baseline:{n}" for n in rivals)], name, episodes=6000, profile="clean")
    assert table.ceiling == ceiling_of(core)
    for row in table.rows[1:]:
        assert row.against is not None
        assert row.against.high > 0.0, row.name
        assert row.utility.low < table.ceiling  # type: ignore[operator]
    shares = [row.share_of_ceiling for row in table.rows if row.share_of_ceiling is not None]
    assert max(shares[1:]) < 1.02
    assert shares[0] == pytest.approx(1.0, abs=0.03)


def test_it_uses_the_hint_and_the_class() -> None:
    core = core_of("code-review")
    policy = OptimumPolicy(core)
    names = [column.name for column in core.observation_columns]
    core.seed(core.all_lanes, [0])
    core.begin(core.all_lanes)
    row = np.repeat(core.observe(), 4, axis=0)
    row[:, [names.index("task.class.bug"), names.index("task.class.feature")]] = [(1, 0), (0, 1), (0, 1), (0, 1)]
    row[:, names.index("task.difficulty_hint")] = [2.5, -3.0, 2.5, 6.0]
    actions = policy.act_batch(row, np.repeat(core.mask(), 4, axis=0))
    assert [core.action_names[a] for a in actions] == [
        "launch:quick", "launch:steady", "launch:deep", "escalate",
    ]  # fmt: skip


def test_a_row_is_decided_alone_and_every_action_is_legal() -> None:
    core = core_of("code-review", lanes=64)
    policy = OptimumPolicy(core)
    core.seed(core.all_lanes, range(64))
    core.begin(core.all_lanes)
    ended = np.zeros(64, np.bool_)
    for _ in range(core.max_steps):
        observation, mask = core.observe(), core.mask()
        action = policy.act_batch(observation, mask)
        assert mask[np.arange(64), action].all()
        assert policy.act_batch(observation[5:6], mask[5:6])[0] == action[5]
        core.advance(action, np.flatnonzero(ended) if ended.any() else None)
        ended |= core.terminated
        if ended.all():
            break
    assert ended.all()


def test_a_plan_that_counts_verdicts_has_a_value_but_is_not_played() -> None:
    """An observation shows the best verdict on a configuration's answers, not how many were accepted."""
    overrides = [
        "judge={true_positive: 0.74, false_positive: 0.26, cost_usd: 0.005, latency_s: 1}", "person=null",
        "tasks.difficulty={bug: [0, 1.6], feature: [0, 1.6]}", "tasks.configuration_sd=1.7", "tasks.family_sd=0",
        "tasks.hint_sd=null", "reward.wrong_answer=-0.7", "portfolio.quick.cost_usd=0.005",
        "portfolio.quick.skill=0.08", "portfolio.steady.cost_usd=0.01", "portfolio.steady.skill=0.51",
        "portfolio.deep.cost_usd=9", "portfolio.deep.skill=2", "limits.budget_usd=999",
    ]  # fmt: skip
    core = core_of("test-suite", *overrides)
    assert ceiling_of(core) == pytest.approx(optimum_of(core).value)
    with pytest.raises(PolicyError, match="counts the accepted answers"):
        OptimumPolicy(core)
    assert "optimum" not in applicable_baselines(core)


def test_optimal_policies_are_baselines_where_they_apply() -> None:
    assert set(OPTIMAL) == {"weitzman", "optimum", "exact-plan", "wave-plan"}
    assert set(applicable_baselines(core_of("textbook"))) & set(OPTIMAL) == {"weitzman", "optimum"}
    assert set(applicable_baselines(core_of("test-suite"))) & set(OPTIMAL) == {"optimum"}
    assert not set(applicable_baselines(core_of("test-suite", profile="production"))) & set(OPTIMAL)
    assert not set(applicable_baselines(core_of("support-desk"))) & set(OPTIMAL)
