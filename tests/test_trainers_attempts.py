"""One step per attempt: the same physics as the router, mixed simulators, and the replay behind their columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from brownout.envs.router_core import RouterCore
from brownout.errors import ScenarioError
from brownout.scenarios import RouterScenario, load_scenario
from brownout.scenarios.tables import RecordedTable
from brownout.scenarios.tasks import ModelTaskSource
from brownout.trainers.attempts import AttemptCore, MixedSource, ReplaySource, play_out


def scenario(skill: float = 0.0, **changes: Any) -> RouterScenario:
    data: dict[str, Any] = {
        "version": 1,
        "name": "attempts",
        "env": "router",
        "tasks": {"classes": {"all": 1.0}, "difficulty": {"all": [0.0, 1.5]}, "hint_sd": None},
        "portfolio": {
            "cheap": {"family": "a", "skill": skill - 0.5, "cost_usd": {"median": 0.01, "p95": 0.05}, "latency_s": 1,
                      "max_calls": 2},
            "dear": {"family": "b", "skill": skill + 1.0, "cost_usd": {"median": 0.1, "p95": 0.3}, "latency_s": 5,
                     "max_calls": 2},
        },
        "judge": {"true_positive": 1.0, "false_positive": 0.0, "cost_usd": 0.0, "latency_s": 0.0},
        "person": None,
        "limits": {"budget_usd": 1e6, "deadline_s": 1e6, "on_budget": "soft", "on_deadline": "soft",
                   "max_parallel": 1, "max_calls": 4, "max_steps": 40},
        "reward": {"accuracy": 1.0, "per_usd": 1.0, "wrong_answer": 0.0},
        "preferences": {"per_usd": [0.1, 10]},
        "profiles": {"production": [{"fault": "server-error", "when": "rate(0.2)"}]},
    }  # fmt: skip
    loaded = load_scenario({**data, **changes})
    assert isinstance(loaded, RouterScenario)
    return loaded


def begin(core: Any) -> Any:
    core.seed(core.all_lanes, range(core.num_lanes))
    core.begin(core.all_lanes, 0)
    return core


def test_an_attempt_is_launch_wait_judge_and_submit() -> None:
    lanes = 200
    short = begin(AttemptCore(scenario(), lanes, profile="production"))
    long = begin(RouterCore(scenario(), lanes, profile="production"))
    names = short.action_names
    launch, wait, judge, submit = (names.index(n) for n in ("launch:cheap", "wait", "judge", "submit"))
    short.advance(np.full(lanes, launch))
    total, over = np.zeros_like(long.components), np.zeros(lanes, bool)
    for action in (launch, wait, judge, submit):
        legal = long.mask()[:, action]
        accepted = long.view.observe(None)[:, [c.name for c in long.observation_columns].index("best_accepted")] > 0
        idle = over | ~legal | ((action == submit) & ~accepted)
        long.advance(np.full(lanes, action), np.flatnonzero(idle))
        total[~idle] += long.components[~idle]
        over |= long.terminated
    assert 0.1 < over.mean() < 0.9
    assert np.array_equal(short.terminated, over)
    assert np.array_equal(short.components, total)
    going = np.flatnonzero(~over)
    steps = [c.name for c in short.observation_columns].index("steps_left")
    one, other = short.observe(going), long.observe(going)
    assert np.array_equal(np.delete(one, steps, axis=1), np.delete(other, steps, axis=1))


def test_only_launches_and_giving_up_are_offered() -> None:
    core = begin(AttemptCore(scenario(), 50, profile="production"))
    for _ in range(4):
        mask = core.mask()
        assert not mask[:, 2:-1].any()
        assert mask[:, -1].all()
        core.advance(np.zeros(50, np.int64))
    assert not core.mask()[~core.terminated, 0].any()  # two calls of each at most


def test_the_stake_scales_rewards_and_nothing_else() -> None:
    plain, staked = (begin(AttemptCore(scenario(), 50, profile="production", stake=s)) for s in (0.0, 0.5))
    for core in (plain, staked):
        core.advance(np.ones(50, np.int64))
    assert np.array_equal(plain.components, staked.components)
    assert np.allclose(staked.reward, plain.reward / (1 + 0.5 * plain.preferences["per_usd"]))
    assert plain.reward.any()


def test_a_judge_that_errs_or_costs_is_refused() -> None:
    for judge in ({"true_positive": 0.9, "false_positive": 0.0, "cost_usd": 0, "latency_s": 0}, None,
                  {"true_positive": 1, "false_positive": 0, "cost_usd": 0.1, "latency_s": 0}):  # fmt: skip
        with pytest.raises(ScenarioError, match="allowed: one that is right, free and instant"):
            AttemptCore(scenario(judge=judge))


def test_mixed_simulators_play_each_episode_by_one_of_them() -> None:
    sure, lost = (ModelTaskSource(scenario(skill)) for skill in (30.0, -30.0))
    lanes = 400
    mixed = MixedSource([ModelTaskSource(scenario(skill)) for skill in (30.0, -30.0)])
    core = begin(AttemptCore(scenario(), lanes, source=mixed, profile="clean"))
    core.advance(np.ones(lanes, np.int64))
    assert np.array_equal(core.terminated, mixed.which == 0)
    assert 0.4 < core.terminated.mean() < 0.6
    rows = np.flatnonzero(mixed.which == 1)
    for source in (sure, lost):
        source.allocate(lanes)
        source.begin(core.all_lanes, core.keys)
    one, number = np.ones(lanes, np.int64), np.zeros(lanes, np.int64)
    alone = lost.call(core.all_lanes, core.keys, one, number)
    together = mixed.call(core.all_lanes, core.keys, one, number)
    assert np.array_equal(alone.cost_usd[rows], together.cost_usd[rows])


def recorded() -> RecordedTable:
    rows: dict[str, list[Any]] = {n: [] for n in ("query_id", "config", "sample", "success", "cost_usd", "latency_s")}
    for q in range(3):
        for c, config in enumerate(("cheap", "dear", "unused")):
            for sample in range(3):
                row = (f"q{q}", config, sample, int(sample == q and c < 2), 1 + 100 * q + 10 * c + sample, 1.0)
                for name, value in zip(rows, row, strict=True):
                    rows[name].append(value)
    return RecordedTable.from_columns(rows, eval_fraction=0)


class FirstLegal:
    """Launches what is allowed, in order."""

    def act_batch(self, observation: Any, mask: Any) -> Any:
        return mask.argmax(axis=1)


def test_a_replay_plays_every_sample_of_the_query_once_and_in_an_order_of_its_own() -> None:
    table = recorded()
    query = np.repeat(np.arange(3), 200)
    known = ModelTaskSource(scenario())
    features = np.ones((len(query), 1), np.float32)
    source = ReplaySource(known, table, [0, 1], query, features, 3)
    core = AttemptCore(scenario(limits={**scenario().limits.model_dump(), "max_calls": 6}), len(query), source=source,
                       profile="clean")  # fmt: skip
    begin(core)
    success, cost, calls = play_out(core, FirstLegal(), np.full(len(query), 1.0))
    assert success.all()  # each query has one right sample among the three of `cheap`
    assert set(calls.tolist()) == {1.0, 2.0, 3.0}  # it comes first, second or last
    for number in (1, 2, 3):
        assert (calls == number).mean() == pytest.approx(1 / 3, abs=0.07)
    last = cost[(query == 1) & (calls == 3)]
    assert np.allclose(last, 101 + 102 + 103)


def test_a_replay_shows_the_simulators_columns() -> None:
    core = AttemptCore(scenario(), 4, profile="clean")
    source = ReplaySource(
        ModelTaskSource(scenario()), recorded(), [0, 1], np.zeros(4, np.int64), np.ones((4, 1), np.float32), 2
    )
    replayed = AttemptCore(scenario(), 4, source=source, profile="clean")
    assert replayed.observation_columns == core.observation_columns
    assert np.array_equal(source.calls_allowed, np.full((4, 2), 2.0))
