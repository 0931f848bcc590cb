"""Costs, times and failures that calls on one task share: what is drawn, and what the fit finds again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from brownout.errors import ScenarioError, TableError
from brownout.faults import Status
from brownout.scenarios import RouterScenario, load_scenario
from brownout.scenarios.calibration import Calibration, calibrate
from brownout.scenarios.effort_fit import alikeness
from brownout.scenarios.tasks import ModelTaskSource
from brownout.trainers.goodness import Played, goodness_of_fit, play_calls

EFFORT: dict[str, Any] = {
    "cost": {"task": 0.4, "family": 0.15, "configuration": 0.1, "difficulty": 0.6},
    "latency": {"task": 0.2, "family": 0.1, "configuration": 0.2, "difficulty": -0.3},
    "together": 0.7,
    "failure": {"task": 0.5, "family": 0.1, "configuration": 0.2},
}


def scenario(effort: dict[str, Any] | None = None, fails: float = 0.0, factor: float = 1.0) -> RouterScenario:
    """Four configurations of three families."""
    wrong = {"cost_factor": factor, "fails": {"unexpected": fails, "empty": fails / 4}}
    prices = {"a-small": (-0.5, 0.01), "a-large": (1.0, 0.06), "b": (0.4, 0.03), "c": (0.8, 0.05)}
    portfolio = {
        name: {"family": name[0], "skill": skill, "cost_usd": {"median": price, "p95": 4 * price},
               "latency_s": {"median": 100 * price, "p95": 250 * price}, "wrong": wrong}
        for name, (skill, price) in prices.items()
    }  # fmt: skip
    tasks = {"classes": {"all": 1.0}, "difficulty": {"all": [0.0, 2.0]}, "family_sd": 0.5, "configuration_sd": 1.0}
    data = {"version": 1, "name": "known", "env": "router", "tasks": {**tasks, "effort": effort},
            "portfolio": portfolio, "profiles": {"production": []}}  # fmt: skip
    loaded = load_scenario(data)
    assert isinstance(loaded, RouterScenario)
    return loaded


def normal_score_products(played: Played, values: NDArray[np.float64]) -> dict[str, float]:
    """Correlation of normal scores of repeats, of one family and of different families, counted by hand."""
    from scipy.stats import norm, rankdata

    n, k, r = values.shape
    z = np.stack([norm.ppf((rankdata(values[:, j]) - 0.5) / (n * r)).reshape(n, r) for j in range(k)], axis=1)
    return {
        "repeats": float(np.mean([np.mean(z[:, j, 0] * z[:, j, 1]) for j in range(k)])),
        "kin": float(np.mean(z[:, 0, 0] * z[:, 1, 1])),
        "others": float(np.mean([np.mean(z[:, a, 0] * z[:, b, 1]) for a, b in ((0, 2), (0, 3), (1, 2), (2, 3))])),
    }


def test_scores_of_one_task_correlate_as_stated_and_each_price_keeps_its_distribution() -> None:
    apart, shared = play_calls(scenario(), 8000, 2), play_calls(scenario(EFFORT), 8000, 2)
    for k in range(4):
        for name in ("cost_usd", "latency_s"):
            one, other = getattr(apart, name)[:, k], getattr(shared, name)[:, k]
            for p in (0.1, 0.5, 0.9):
                assert np.quantile(other, p) == pytest.approx(np.quantile(one, p), rel=0.06)
    assert (apart.right == shared.right).all()  # no other draw moves
    alike = normal_score_products(shared, shared.cost_usd)
    assert alike == pytest.approx({"repeats": 0.65, "kin": 0.55, "others": 0.4}, abs=0.03)
    assert normal_score_products(apart, apart.cost_usd) == pytest.approx(
        {"repeats": 0.0, "kin": 0.0, "others": 0.0}, abs=0.03
    )
    # a time follows the cost of its call by 0.7, and what the cost leaves open is shared too; both parts have to do
    # with difficulty, hence the cross term
    time = normal_score_products(shared, shared.latency_s)
    cross = 2 * 0.7 * np.sqrt(0.51) * np.sqrt(0.4 * 0.2) * 0.6 * -0.3
    assert time["others"] == pytest.approx(0.49 * 0.4 + 0.51 * 0.2 + cross, abs=0.03)
    log = np.log(shared.cost_usd[:, :, 0]), np.log(shared.latency_s[:, :, 0])
    assert np.corrcoef(log[0][:, 2], log[1][:, 2])[0, 1] == pytest.approx(0.7, abs=0.03)


def test_dear_tasks_are_hard_where_the_scenario_says_so() -> None:
    shared = play_calls(scenario(EFFORT), 6000, 1)
    dear = shared.cost_usd[:, 0, 0] > np.median(shared.cost_usd[:, 0, 0])
    right = shared.right[:, 3, 0]
    assert right[dear].mean() < right[~dear].mean() - 0.1
    free = play_calls(scenario({**EFFORT, "cost": {**EFFORT["cost"], "difficulty": 0.0}}), 6000, 1)
    dear = free.cost_usd[:, 0, 0] > np.median(free.cost_usd[:, 0, 0])
    assert free.right[dear, 3, 0].mean() == pytest.approx(free.right[~dear, 3, 0].mean(), abs=0.04)


def test_wrong_answers_fail_visibly_at_the_stated_rate_and_together() -> None:
    played = play_calls(scenario(EFFORT, fails=0.2), 6000, 2)
    wrong = ~played.right
    status = played.status
    assert (status[played.right] == Status.OK).all()
    assert (status[wrong] == Status.UNEXPECTED).mean() == pytest.approx(0.2, abs=0.02)
    assert (status[wrong] == Status.EMPTY).mean() == pytest.approx(0.05, abs=0.01)
    failed, both_wrong = status[:, 2] != Status.OK, wrong[:, 2].all(axis=1)
    again = failed[both_wrong & failed[:, 0], 1].mean()
    assert again > 2 * 0.25  # repeats share 0.8 of the score
    assert play_calls(scenario(EFFORT), 100, 1).status.max() == Status.OK


def test_wrong_answers_cost_the_factor_and_expectations_know_it() -> None:
    one, three = play_calls(scenario(EFFORT), 3000, 1), play_calls(scenario(EFFORT, factor=3.0), 3000, 1)
    assert np.allclose(three.cost_usd / one.cost_usd, np.where(one.right, 1.0, 3.0))
    source = ModelTaskSource(scenario(EFFORT, factor=3.0))
    apart = play_calls(scenario(factor=3.0), 20_000, 1).cost_usd[:, :, 0].mean(axis=0)
    assert source.expected_cost == pytest.approx(apart, rel=0.05)


def test_a_call_draws_the_same_alone_and_in_a_batch() -> None:
    source = ModelTaskSource(scenario(EFFORT, fails=0.3, factor=2.0))
    n = 64
    keys = (np.arange(n, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    lanes = np.arange(n)
    source.allocate(n)
    source.begin(lanes, keys)
    k, number = lanes % 4, lanes % 3
    together = source.call(lanes, keys, k, number)
    for i in range(0, n, 7):
        source.begin(np.array([0]), keys[i : i + 1])
        alone = source.call(np.array([0]), keys[i : i + 1], k[i : i + 1], number[i : i + 1])
        for name in ("right", "cost_usd", "latency_s", "status"):
            assert getattr(alone, name)[0] == getattr(together, name)[i]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cost": {"task": 0.7, "family": 0.4}}, "their sum must not pass 1"),
        ({"cost": {"task": 0.5, "difficulty": 1.5}}, "effort.cost.difficulty"),
        ({"together": "yes"}, "effort.together"),
        ({"classes": {"none": [0, 0]}}, r"effort.classes: must name the classes \['all'\]"),
    ],
)
def test_impossible_efforts_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        scenario(change)


def test_impossible_failures_are_refused() -> None:
    with pytest.raises(ScenarioError, match=r"must not sum to more than 1"):
        scenario(EFFORT, fails=0.9)
    data = scenario(EFFORT).model_dump(mode="json")
    data["portfolio"]["b"]["wrong"] = {"fails": {"ok": 0.1}}
    with pytest.raises(ScenarioError, match=r"'ok' is no visible failure; allowed: timeout"):
        load_scenario(data)


SHOWN = {"unexpected": {"answer": "unexpected"}, "empty": {"answer": "empty"}}


@pytest.fixture(scope="module")
def fitted() -> Calibration:
    played = play_calls(scenario(EFFORT, fails=0.2, factor=1.6), 240, 4, seed=3)
    return calibrate(played.to_columns(), mapping=SHOWN)


def test_the_fit_finds_the_numbers_again(fitted: Calibration) -> None:
    rates = fitted.rates
    for measure in ("cost", "latency"):
        for name, value in EFFORT[measure].items():
            found = rates[f"effort.{measure}.{name}"]
            # bootstrap intervals of small shares are tight on one side: allow their width once more
            width = found.high - found.low
            assert found.low - width / 3 <= value <= found.high + width / 3, (measure, name, found)
            assert width < 1.0
    assert rates["effort.together"].covers(0.7)
    names = list(fitted.scenario.portfolio)
    assert all(rates[f"wrong.{name}.cost"].covers(1.6) for name in names)
    # eight intervals of 95 %, correlated as failures cluster
    hit = [
        rates[f"wrong.{name}.fails.{s}"].covers(v) for name in names for s, v in (("unexpected", 0.2), ("empty", 0.05))
    ]
    assert sum(hit) >= 6
    assert rates["effort.failure.task"].covers(0.5)


def test_the_fitted_scenario_repeats_how_alike_calls_are(fitted: Calibration) -> None:
    checks = [c for c in goodness_of_fit(fitted, episodes=3000, held_out=False).checks if c.kind == "effort"]
    assert len(checks) == 6
    assert sum(check.inside for check in checks) >= 5
    apart = fitted.scenario.model_dump(mode="json")
    apart["tasks"]["effort"] = None
    broken = Calibration(load_scenario(apart), fitted.runs, fitted.fit, (), {}, fitted.shift)  # type: ignore[arg-type]
    worse = [c for c in goodness_of_fit(broken, episodes=3000, held_out=False).checks if c.kind == "effort"]
    assert sum(check.inside for check in worse) <= 1


def test_alikeness_of_a_table_by_hand() -> None:
    # two queries, two configurations, two runs each; scores are +-z by the query alone
    query, config = np.repeat([0, 1], 4), np.tile([0, 0, 1, 1], 2)
    values = np.array([1.0, 1.0, 5.0, 5.0, 2.0, 2.0, 9.0, 9.0])
    right = np.array([True] * 4 + [False] * 4)
    found = alikeness(values, right, query, config, np.ones((1, 2)))
    from scipy.stats import norm

    square = norm.ppf(0.25) ** 2  # ranks 1.5 and 3.5 of 4
    assert found.repeats[0] == pytest.approx(square)
    assert found.pairs[0] == pytest.approx(square)
    assert found.success[0] == pytest.approx(-abs(norm.ppf(0.25)) * 0.5)


def test_a_mapping_to_a_status_that_is_none_is_refused() -> None:
    columns = play_calls(scenario(), 20, 2).to_columns()
    with pytest.raises(TableError, match=r"\{answer: STATUS\} is a wrong answer that shows"):
        calibrate(columns, mapping={"empty": {"answer": "ok"}})


def test_tasks_beyond_the_ceiling_are_never_solved_and_strengths_know_it() -> None:
    data = scenario().model_dump(mode="json")
    data["tasks"]["ceiling"] = 1.0
    limited = load_scenario(data)
    assert isinstance(limited, RouterScenario)
    usual, played = play_calls(scenario(), 20_000, 1), play_calls(limited, 20_000, 1)
    lost = usual.right & ~played.right
    assert lost.any()
    assert not (played.right & ~usual.right).any()  # no draw moves
    solved = played.right.any(axis=(1, 2)).mean()
    assert solved < 0.70 < usual.right.any(axis=(1, 2)).mean()  # 31 % of the tasks are harder than half a deviation
    assert ModelTaskSource(limited).strength == pytest.approx(played.right[:, :, 0].mean(axis=0), abs=0.012)
    assert ModelTaskSource(scenario()).strength == pytest.approx(usual.right[:, :, 0].mean(axis=0), abs=0.012)


def test_a_spread_of_its_own_makes_repeats_of_that_configuration_alike() -> None:
    data = scenario().model_dump(mode="json")
    data["portfolio"]["b"]["latent_sd"] = 6.0
    steady = load_scenario(data)
    assert isinstance(steady, RouterScenario)
    usual, played = play_calls(scenario(), 4000, 2).right, play_calls(steady, 4000, 2).right
    agree = [(r[:, :, 0] == r[:, :, 1]).mean(axis=0) for r in (usual, played)]
    assert agree[1][2] > agree[0][2] + 0.08
    assert (usual[:, [0, 1, 3]] == played[:, [0, 1, 3]]).all()
