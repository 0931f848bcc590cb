"""What failed calls leave of a task's odds: against simulated tasks, against Bayes' rule by hand, and as a policy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from brownout.envs.quantiles import by_score
from brownout.errors import PolicyError, TableError
from brownout.scenarios import RouterScenario, load_scenario
from brownout.scenarios.tasks import ModelTaskSource
from brownout.trainers.attempts import AttemptCore, MixedSource, index_policy, play_out
from brownout.trainers.belief import RecordedTask, TaskBelief

SHARES = {"task": 0.4, "family": 0.2, "configuration": 0.1, "difficulty": 0.7}
SHIFTS = {"plain": [-0.4, 0.2], "odd": [0.6, -0.3]}
EFFORT = {"cost": SHARES, "latency": {**SHARES, "difficulty": -0.3}, "together": 0.5}


def scenario(tasks: dict[str, Any] | None = None, price: float = 0.1, **entries: Any) -> RouterScenario:
    """Three configurations, two of them of one family; wrong answers of the first cost half."""
    portfolio: dict[str, Any] = {
        "cheap": {"family": "a", "skill": -0.5, "cost_usd": {"median": price / 5, "p95": price}, "latency_s": 1.0},
        "kin": {"family": "a", "skill": 0.0, "cost_usd": {"median": price, "p95": 5 * price}, "latency_s": 2.0},
        "dear": {"family": "b", "skill": 1.0, "cost_usd": {"median": 5 * price, "p95": 20 * price}, "latency_s": 4.0},
    }  # fmt: skip
    for name, changes in entries.items():
        portfolio[name] |= changes
    for entry in portfolio.values():
        entry["max_calls"] = 3
        entry["latency_s"] = {"median": entry["latency_s"], "p95": 3.0 * entry["latency_s"]}
    portfolio["cheap"]["wrong"] = {"cost_factor": 0.5, "latency_factor": 1.0}
    data = {
        "version": 1,
        "name": "belief",
        "env": "router",
        "tasks": {
            "classes": {"plain": 0.6, "odd": 0.4}, "difficulty": {"plain": [-0.5, 1.5], "odd": [0.8, 1.5]},
            "family_sd": 0.8, "configuration_sd": 0.6, "hint_sd": None, "effort": EFFORT, **(tasks or {}),
        },
        "portfolio": portfolio,
        "judge": {"true_positive": 1.0, "false_positive": 0.0, "cost_usd": 0.0, "latency_s": 0.0},
        "person": None,
        "limits": {"budget_usd": 1e6, "deadline_s": 1e6, "on_budget": "soft", "on_deadline": "soft",
                   "max_parallel": 1, "max_calls": 9, "max_steps": 10},
        "reward": {"accuracy": 1.0, "per_usd": 1.0, "wrong_answer": 0.0},
        "preferences": {"per_usd": [0.1, 10]},
        "profiles": {"production": []},
    }  # fmt: skip
    loaded = load_scenario(data)
    assert isinstance(loaded, RouterScenario)
    return loaded


def begun(spec: RouterScenario, lanes: int, belief: TaskBelief | None = None, **options: Any) -> AttemptCore:
    core = AttemptCore(spec, lanes, profile="clean", belief=belief or TaskBelief([spec], 3), **options)
    core.seed(core.all_lanes, range(lanes))
    core.begin(core.all_lanes, 0)
    return core


def column(core: AttemptCore, seen: Any, name: str) -> Any:
    return seen[:, [c.name for c in core.observation_columns].index(name)]


@pytest.mark.parametrize(
    "tasks",
    [{}, {"effort": None}, {"ceiling": 1.5}, {"effort": {**EFFORT, "classes": SHIFTS}}],
    ids=["plain", "without-effort", "ceiling", "class-shifts"],
)  # fmt: skip
def test_what_is_believed_is_what_happens(tasks: dict[str, Any]) -> None:
    """Successes and costs of simulated calls, grouped by what was believed of them, come out as believed."""
    spec, rng = scenario(tasks), np.random.default_rng(0)
    core = begun(spec, 60_000)
    over = np.zeros(core.num_lanes, bool)
    rows: list[tuple[Any, ...]] = []
    for step in range(4):
        going = np.flatnonzero(~over)
        seen, mask = core.observe(going), core.mask(going)
        k = (rng.random((len(going), 3)) * mask[:, :3]).argmax(axis=1)
        actions = np.full(core.num_lanes, len(core.action_names) - 1)
        actions[going] = k
        spent = core.spend[going].copy()
        core.advance(actions, np.flatnonzero(over))
        names = np.array(core.config_names)[k]
        chance = np.array([column(core, seen, f"belief.{n}.chance") for n in core.config_names])[k, np.arange(len(k))]
        price = np.array([column(core, seen, f"belief.{n}.price") for n in core.config_names])[k, np.arange(len(k))]
        rows += zip(
            names.tolist(), [step] * len(k), chance, 10.0**price, core.terminated[going], core.spend[going] - spent,
            strict=True,
        )  # fmt: skip
        over[going] |= core.terminated[going]
    believed, price, right, cost = (np.array([row[i] for row in rows], dtype=float) for i in (2, 3, 4, 5))
    step = np.array([row[1] for row in rows])
    for number in range(4):
        chosen = np.flatnonzero(step == number)
        for part in np.array_split(chosen[np.argsort(believed[chosen], kind="stable")], 8):
            error = np.sqrt(right[part].var() / len(part)) + 1e-3
            assert right[part].mean() == pytest.approx(believed[part].mean(), abs=4.0 * error + 0.01), number
        for part in np.array_split(chosen[np.argsort(price[chosen], kind="stable")], 8):
            error = cost[part].std() / np.sqrt(len(part))
            assert cost[part].mean() == pytest.approx(price[part].mean(), abs=4.0 * error + 0.03 * price[part].mean())
    assert believed[step == 3].std() > 0.03  # the columns do tell tasks apart


def test_bayes_rule_by_hand() -> None:
    """One class, no latents, no effort: the odds after failures are a sum over difficulties."""
    spec = scenario(
        {"classes": {"all": 1.0}, "difficulty": {"all": [0.0, 2.0]}, "family_sd": 0.0, "configuration_sd": 0.0,
         "effort": None}
    )  # fmt: skip
    belief = TaskBelief([spec], 3)
    z = np.random.default_rng(0).normal(size=400_000)
    wrong = [1.0 / (1.0 + np.exp(skill - 2.0 * z)) for skill in (-0.5, 0.0, 1.0)]
    failed = np.array([[0, 0, 0], [2, 0, 1], [3, 3, 2]])
    chance, _ = belief.look(np.ones((3, 1), np.float32), failed, np.zeros((3, 2, 3)))
    for row, counts in enumerate(failed):
        weight = np.prod([w**n for w, n in zip(wrong, counts, strict=True)], axis=0)
        for k in range(3):
            expected = 0.0 if counts[k] == 3 else ((1.0 - wrong[k]) * weight).sum() / weight.sum()
            assert chance[row, k] == pytest.approx(expected, abs=0.01)


def test_a_dear_failure_tells_of_a_hard_task() -> None:
    spec = scenario()
    belief = TaskBelief([spec], 3)
    failed = np.tile([1, 0, 0], (3, 1))
    scores = np.zeros((3, 2, 3))
    scores[:, 0, 0] = (-1.5, 0.0, 1.5)
    chance, price = belief.look(np.tile(np.array([1.0, 0.0], np.float32), (3, 1)), failed, scores)
    assert (np.diff(chance, axis=0) < -0.02).all()
    assert (np.diff(price, axis=0) > 0.0).all()
    assert (np.diff(price[:, 1]) / price[:-1, 1] > np.diff(price[:, 2]) / price[:-1, 2]).all()  # kin tells more


def test_scores_are_read_back_from_costs_and_times() -> None:
    spec = scenario()
    belief, lanes = TaskBelief([spec], 3), 4000
    source = ModelTaskSource(spec)
    source.allocate(lanes)
    at, keys = np.arange(lanes), np.arange(lanes, dtype=np.uint64) * np.uint64(2**40 + 1)
    source.begin(at, keys)
    k = at % 3
    out = source.call(at, keys, k, np.zeros(lanes, np.int64))
    scores = belief.scores(k, out.cost_usd, out.latency_s, out.right)
    assert np.abs(scores.mean(axis=0)).max() < 0.08
    assert np.abs(scores.std(axis=0) - 1.0).max() < 0.08
    # the time counts for what the cost leaves open, so all they have in common is the task's difficulty
    together = float((scores[:, 0] * scores[:, 1]).mean())
    assert together == pytest.approx(0.7 * -0.3 * 0.4, abs=0.05)
    wrong = ~out.right & (k == 0)
    assert belief.scores(k, out.cost_usd, out.latency_s)[wrong] == pytest.approx(scores[wrong])
    right = out.right & (k == 0)
    assert (belief.scores(k, out.cost_usd, out.latency_s)[right, 0] > scores[right, 0]).mean() > 0.9


def test_a_price_that_never_varies_tells_nothing() -> None:
    spec = scenario(cheap={"cost_usd": 0.02})
    scores = TaskBelief([spec], 3).scores(np.zeros(2, np.int64), np.full(2, 0.01), np.full(2, 1.0))
    assert scores[:, 0].tolist() == [0.0, 0.0]


def test_an_unknown_class_is_a_mixture() -> None:
    belief = TaskBelief([scenario()], 3)
    failed, scores = np.tile([1, 1, 0], (3, 1)), np.full((3, 2, 3), 0.4)
    classes = np.array([[1, 0], [0, 1], [0.5, 0.5]], np.float32)
    plain, odd, either = belief.look(classes, failed, scores)[0]
    assert (odd < plain).all()
    assert ((odd < either) & (either < plain)).all()


def test_several_simulators_are_weighed_by_what_was_seen() -> None:
    easy, hard = (scenario({"difficulty": {"plain": [m, 0.5], "odd": [m, 0.5]}}) for m in (-2.0, 4.0))
    both, one = TaskBelief([easy, hard], 3), TaskBelief([hard], 3)
    classes = np.array([[1, 0]], np.float32)
    fresh, worn = np.zeros((1, 3), np.int64), np.array([[3, 3, 2]])
    none = np.zeros((1, 2, 3))
    alone = [TaskBelief([s], 3).look(classes, fresh, none)[0] for s in (easy, hard)]
    assert both.look(classes, fresh, none)[0] == pytest.approx(np.mean(alone, axis=0))
    assert both.look(classes, worn, none)[0][0, 2] == pytest.approx(one.look(classes, worn, none)[0][0, 2], abs=0.03)


def test_recorded_queries_correct_the_prior_of_their_class_alone() -> None:
    spec, rng = scenario(), np.random.default_rng(1)
    config = np.repeat(np.arange(3), 4)
    n = len(config)

    def queries(group: int, right: bool, count: int) -> list[RecordedTask]:
        cost = np.array([0.02, 0.1, 0.5])[config]
        return [
            RecordedTask(group, config, np.full(n, right), cost * rng.lognormal(0, 0.1, n), np.full(n, 2.0))
            for _ in range(count)
        ]

    fresh, none = np.zeros((2, 3), np.int64), np.zeros((2, 2, 3))
    classes = np.eye(2, dtype=np.float32)
    before = TaskBelief([spec], 3).look(classes, fresh, none)[0]
    few, many, solved = (
        TaskBelief([spec], 3, queries(1, right, count)).look(classes, fresh, none)[0]
        for right, count in ((False, 5), (False, 60), (True, 60))
    )
    for found in (few, many, solved):
        assert found[0] == pytest.approx(before[0])  # the other class
    assert (before[1] - 0.01 > few[1]).all()
    assert (few[1] - 0.05 > many[1]).all()
    assert (solved[1] > before[1] + 0.1).all()


def test_calls_that_differ_in_nothing_are_no_trouble() -> None:
    shares = {"task": 0.5, "family": 0.5, "configuration": 0.0, "difficulty": 0.0}
    spec = scenario({"effort": {"cost": shares, "latency": shares, "together": 0.0}})
    failed, scores = np.array([[2, 1, 0]]), np.zeros((1, 2, 3))
    scores[:, :, :2] = (2.0, 1.0)
    chance, price = TaskBelief([spec], 3).look(np.array([[1, 0]], np.float32), failed, scores)
    assert ((chance > 0.0) & (chance < 1.0)).all()
    assert price[0, 1] == pytest.approx(np.interp(1.0, *score_table(spec)), rel=0.02)  # kin costs what its score says


def score_table(spec: RouterScenario) -> tuple[Any, Any]:
    """Scores and costs of the second configuration."""
    cost = spec.portfolio["kin"].cost_usd
    assert cost is not None
    table = by_score(cost.table()).values
    return np.linspace(-4.0, 4.0, len(table)), table


def test_too_many_states_are_refused() -> None:
    with pytest.raises(TableError, match=r"belief: 3 configurations with 30 calls each give 29791 states; allowed"):
        TaskBelief([scenario()], 30)


def test_the_index_is_the_cheapest_success_that_pays() -> None:
    core = begun(scenario(), 3000)
    policy = index_policy(core.observation_columns, len(core.action_names))
    over, stopped = np.zeros(core.num_lanes, bool), 0
    for _ in range(8):
        going = np.flatnonzero(~over)
        if not going.size:
            break
        seen, mask = core.observe(going), core.mask(going)
        action = policy.act_batch(seen, mask)
        chance = np.stack([column(core, seen, f"belief.{n}.chance") for n in core.config_names], axis=1)
        price = 10.0 ** np.stack([column(core, seen, f"belief.{n}.price") for n in core.config_names], axis=1)
        per_usd = core.preferences["per_usd"][going]
        rate = np.where(mask[:, :3], chance / (price * per_usd[:, None]), 0.0)
        clear = np.abs(np.log(np.maximum(rate.max(axis=1), 1e-9))) > 1e-3
        expected = np.where(rate.max(axis=1) > 1.0, rate.argmax(axis=1), len(core.action_names) - 1)
        assert (action[clear] == expected[clear]).mean() > 0.999
        stopped += int((action == len(core.action_names) - 1).sum())
        full = np.full(core.num_lanes, len(core.action_names) - 1)
        full[going] = action
        core.advance(full, np.flatnonzero(over))
        over[going] |= core.terminated[going]
    assert 0 < stopped < core.num_lanes


def test_the_index_under_a_belief_beats_the_index_that_counts_failures_alone() -> None:
    spec = scenario()
    blind = scenario({"effort": None})
    scored = []
    for belief in (TaskBelief([spec], 3), TaskBelief([blind], 3)):
        core = begun(spec, 30_000, belief)
        policy = index_policy(core.observation_columns, len(core.action_names))
        won, paid, _ = play_out(core, policy, np.full(core.num_lanes, 0.4))
        scored.append(won - 0.4 * paid)
    gain = scored[0] - scored[1]
    assert gain.mean() > 3.0 * gain.std() / np.sqrt(len(gain))


def test_layers_too_narrow_for_the_index_are_refused() -> None:
    core = begun(scenario(), 1)
    with pytest.raises(PolicyError, match=r"hidden: got \[64, 2\]; allowed: 3 and more"):
        index_policy(core.observation_columns, len(core.action_names), hidden=(64, 2))


def test_an_episode_begins_without_memory() -> None:
    spec = scenario()
    core, again = (begun(spec, 500, source=MixedSource([ModelTaskSource(spec)])) for _ in range(2))
    core.advance(np.zeros(500, np.int64))
    core.begin(core.all_lanes, 0)
    for one in (core, again):
        one.advance(np.zeros(500, np.int64))
    going = ~again.terminated
    assert going.any()
    assert np.array_equal(core.observe()[going], again.observe()[going])
