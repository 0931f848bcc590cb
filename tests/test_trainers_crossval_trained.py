"""The methods of the cross-validation that go by simulators: what they may learn from, and that failed runs tell."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from brownout.envs.sequential import Attempts
from brownout.errors import TableError
from brownout.scenarios.tables import RecordedTable
from brownout.trainers.crossval import crossval, run_fold
from brownout.trainers.crossval_trained import (
    TrainedOptions,
    columns_of,
    fit_on,
    labels_of,
    price_range,
    replay,
    score_fitted,
    train_in,
)
from brownout.trainers.policy import Policy
from brownout.trainers.ppo import PPOConfig

PRIZES = tuple(np.geomspace(0.1, 30.0, 9))
QUICK = TrainedOptions(steps=150_000, simulators=1, draws=8)


def table(queries: int = 100, repeats: int = 3, seed: int = 0) -> RecordedTable:
    """Dear tasks are hopeless: a failed run of `cheap` shows by its cost whether `strong` is worth a dollar or two."""
    rng = np.random.default_rng(seed)
    names = ("query_id", "config", "sample", "success", "cost_usd", "latency_s", "failure_mode", "kind")
    rows: dict[str, list[Any]] = {name: [] for name in names}
    for q in range(queries):
        effort = rng.normal()
        hard = 3.0 * effort + 0.6 * rng.normal()
        for config, skill, price in (("cheap", -1.5, 0.05), ("strong", 1.5, 1.0), ("third", 0.5, 0.6)):
            for sample in range(repeats):
                right = rng.random() < 1.0 / (1.0 + np.exp(-(skill - hard)))
                cost = price * np.exp(1.0 * effort + 0.15 * rng.normal())
                mode = "" if right or rng.random() < 0.8 else "unexpected"
                kind = "plain" if q % 2 else "other-kind"
                for name, value in zip(
                    names, (f"q{q:03d}", config, sample, int(right), cost, 10 * cost, mode, kind), strict=True
                ):
                    rows[name].append(value)
    return RecordedTable.from_columns(rows, features=["kind"], failure_status={"unexpected": "unexpected"})


@pytest.fixture(scope="module")
def runs() -> RecordedTable:
    return table()


def fold(runs: RecordedTable, test: Any, **options: Any) -> Any:
    common: dict[str, Any] = {
        "size": 3, "repeats": 3, "select_repeats": 1, "methods": ("exact", "belief", "trained"), "prizes": PRIZES,
        "trained": QUICK,
    }  # fmt: skip
    return run_fold(runs, [0, 1, 2], test, **{**common, **options})


def test_a_policy_that_reads_failed_runs_beats_the_exact_plan_that_cannot(runs: RecordedTable) -> None:
    options = TrainedOptions(simulators=1, draws=16)
    result = crossval(runs, size=3, repeats=3, folds=2, seeds=1, methods=("exact", "belief"), prizes=PRIZES,
                      draws=100, trained=options)  # fmt: skip
    (gap,) = result.differences
    assert (gap.method, gap.reference) == ("belief", "exact")
    assert gap.aiq.value > 0.02
    assert gap.aiq.low > 0.0
    assert result.foresight is not None
    without, context, gain = result.foresight
    assert gain.low > 0.05  # costs tell a lot in this table
    assert gain.value == pytest.approx(context.value - without.value)


def test_test_queries_never_enter_the_fit(runs: RecordedTable) -> None:
    test = np.arange(0, 100, 4)
    turned = {name: getattr(runs, name).copy() for name in ("success", "cost_usd", "latency_s")}
    turned["success"][test] = 1.0 - turned["success"][test]
    turned["cost_usd"][test] *= 7.0
    turned["latency_s"][test] *= 3.0
    changed = RecordedTable(**{**runs.__dict__, **turned})
    train = np.setdiff1d(np.arange(100), test)
    options = TrainedOptions(simulators=2, draws=2)
    one, other = (
        fit_on(t, [0, 1, 2], train, repeats=3, per_usd=(0.1, 5.0), options=options, seed=3) for t in (runs, changed)
    )
    assert [s.hash for s in one.scenarios] == [s.hash for s in other.scenarios]
    failed, told = np.tile([1, 0, 1], (2, 1)), np.full((2, 2, 3), 0.3)
    known = one.features[test[:2]]
    assert np.array_equal(one.belief.look(known, failed, told), other.belief.look(known, failed, told))
    # and what they are asked about does differ
    costs = [replay(p, t, test, PRIZES, repeats=3, draws=2)[0] for p, t in ((one, runs), (other, changed))]
    assert not np.array_equal(costs[0], costs[1])


def test_training_goes_on_from_the_index_and_is_kept_only_if_better(runs: RecordedTable) -> None:
    options = TrainedOptions(simulators=1)
    fitted = fit_on(runs, [0, 1, 2], np.arange(80), repeats=3, per_usd=(0.1, 5.0), options=options, seed=0)
    ruined = PPOConfig(steps=40_000, lanes=256, learning_rate=1.0, entropy=100.0, normalise=False)
    assert train_in(fitted, steps=1, seed=0, config=ruined) is fitted
    # a start that never calls anything is easy to beat
    weights = {name: array.copy() for name, array in fitted.policy.weights.items()}
    weights["policy.2.bias"][-1] = 3.0
    idle = replace(fitted, policy=Policy({**weights, "policy.2.weight": 0.01 * weights["policy.2.weight"]}))
    config = PPOConfig(steps=150_000, lanes=512, rollout_steps=16, learning_rate=3e-3, normalise=False)
    assert train_in(idle, steps=1, seed=0, config=config) is not idle


def test_both_methods_share_simulators_and_start(runs: RecordedTable) -> None:
    found = fold(runs, np.arange(20), trained=TrainedOptions(steps=20_000, simulators=1, draws=4))
    alone = fold(runs, np.arange(20), methods=("belief",), trained=TrainedOptions(simulators=1, draws=4))
    assert np.array_equal(found.cost["belief"], alone.cost["belief"])
    assert np.abs(found.success["trained"] - found.success["belief"]).mean() < 0.05


def test_equal_seeds_give_equal_figures_and_others_do_not(runs: RecordedTable) -> None:
    test = np.arange(20)
    options = TrainedOptions(steps=20_000, simulators=2, draws=4)
    first, again, other = (fold(runs, test, trained=options, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(first.cost["trained"], again.cost["trained"])
    assert not np.array_equal(first.cost["belief"], other.cost["belief"])  # another bootstrap of the queries
    assert np.array_equal(first.cost["exact"], other.cost["exact"])


def test_figures_lie_between_nothing_and_everything(runs: RecordedTable) -> None:
    found = fold(runs, np.arange(20), trained=TrainedOptions(steps=20_000, simulators=1, draws=4))
    cost, success = found.cost["trained"], found.success["trained"]
    assert cost.shape == success.shape == (len(PRIZES), 20)
    assert ((success >= 0.0) & (success <= 1.0)).all()
    assert (success * 4 == np.round(success * 4)).all()  # a share of four orders of the samples
    most = runs.cost_usd[:20].sum(axis=(1, 2))
    assert (cost <= most + 1e-9).all()


def test_resampled_simulators_differ_and_are_the_same_again(runs: RecordedTable) -> None:
    options = TrainedOptions(simulators=3, class_column="kind")
    one, two = (
        fit_on(runs, [0, 1], np.arange(80), repeats=2, per_usd=(0.1, 5.0), options=options, seed=seed)
        for seed in (0, 0)
    )
    hashes = [scenario.hash for scenario in one.scenarios]
    assert hashes == [scenario.hash for scenario in two.scenarios]
    assert len(set(hashes)) == 3
    assert [c.name for c in one.known.columns] == ["task.class.other-kind", "task.class.plain"]
    assert np.array_equal(one.features[:2], np.eye(2))  # q000 is of the other kind, q001 plain


def test_classes_come_from_a_text_column(runs: RecordedTable) -> None:
    assert labels_of(runs, "kind")[:3] == ["other-kind", "plain", "other-kind"]
    assert labels_of(runs, None) == ["all"] * 100
    with pytest.raises(TableError, match="class_column: 'colour' is no text column among the features; allowed: kind"):
        labels_of(runs, "colour")
    with pytest.raises(TableError, match="class_column: 'colour'"):
        crossval(runs, methods=("trained",), trained=TrainedOptions(class_column="colour"))


def test_impossible_options_are_refused() -> None:
    for name in ("steps", "simulators", "draws"):
        bad: dict[str, Any] = {name: 0}
        with pytest.raises(TableError, match=f"trained.{name}: got 0; allowed: 1 or more"):
            TrainedOptions(**bad)


def test_columns_keep_runs_and_statuses(runs: RecordedTable) -> None:
    columns = columns_of(runs, [1], np.array([4, 4, 7]), labels_of(runs, None))
    assert columns["query_id"] == ["000000"] * 3 + ["000001"] * 3 + ["000002"] * 3
    assert columns["cost_usd"][:3] == columns["cost_usd"][3:6] == runs.cost_usd[4, 1].tolist()
    assert set(columns["failure_mode"]) <= {"", "unexpected"}


def test_prices_span_the_frontier(runs: RecordedTable) -> None:
    fit = Attempts.of(runs.success, runs.cost_usd, runs.latency_s, runs.n_samples)
    low, high = price_range(fit, PRIZES)
    assert 0.0 < low < high <= 3.0 / PRIZES[0]


def test_options_reach_the_trainer(runs: RecordedTable) -> None:
    train, test = np.arange(60), np.arange(60, 70)
    fit = Attempts.of(runs.success, runs.cost_usd, runs.latency_s, runs.n_samples, train)
    found, seen = score_fitted(
        runs, [0, 1, 2], train, test, fit, PRIZES, methods=["trained"], repeats=3, options=QUICK, seed=0
    )
    cost, success = found["trained"]
    assert seen.shape == (10, 2)
    assert (seen[np.isfinite(seen)] < 0.0).all()
    assert success[-1].mean() > success[0].mean()  # who pays more for a success gets more of them
    assert cost[-1].mean() > cost[0].mean()


@pytest.mark.ray
@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_figures(runs: RecordedTable, ray_cluster: object) -> None:
    from brownout.trainers.crossval import on_ray

    options: dict[str, Any] = {
        "size": 2, "repeats": 2, "folds": 2, "seeds": 1, "draws": 20, "methods": ("exact", "trained"), "prizes": PRIZES,
        "trained": TrainedOptions(steps=20_000, simulators=1, draws=2),
    }  # fmt: skip
    told: list[tuple[int, int]] = []
    here = crossval(runs, **options)
    there = crossval(runs, **options, map_folds=on_ray(2), progress=lambda *at: told.append(at))
    assert json.dumps(here.to_dict()) == json.dumps(there.to_dict())
    assert told == [(1, 2), (2, 2)]
