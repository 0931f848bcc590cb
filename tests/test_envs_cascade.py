"""The closed form of a judged cascade: against enumeration, and against the environment."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brownout.envs.cascade import judged_cascade
from brownout.envs.router_core import RouterCore
from brownout.errors import TableError
from brownout.trainers.baselines import make_baseline
from brownout.trainers.evaluation import play
from router_support import tiny

share = st.floats(0.0, 1.0)
twentieths = st.integers(0, 20).map(lambda n: n / 20)
EPISODES = 3000


def enumerated(right: tuple[bool, ...], t: float, f: float) -> tuple[float, float]:
    """Success and calls, by going through every sequence of verdicts."""
    success = calls = 0.0
    for verdicts in product((True, False), repeat=len(right)):
        chance = 1.0
        for x, accepted in zip(right, verdicts, strict=True):
            p = t if x else f
            chance *= p if accepted else 1.0 - p
        chosen = verdicts.index(True) if True in verdicts else len(right) - 1
        success += chance * right[chosen]
        calls += chance * (chosen + 1)
    return success, calls


@given(st.lists(st.booleans(), min_size=1, max_size=5).map(tuple), share, share)
def test_the_formula_is_the_enumeration(right: tuple[bool, ...], t: float, f: float) -> None:
    value = judged_cascade([right], t, f)
    assert (value.success[0], value.calls[0]) == pytest.approx(enumerated(right, t, f), abs=1e-12)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 1000), twentieths, twentieths)
def test_the_formula_is_the_environment(seed: int, t: float, f: float) -> None:
    """Attempts are read from the streams without being played; the environment then plays the cascade."""
    scenario = tiny(person=None, judge__true_positive=t, judge__false_positive=f)
    scenario["tasks"].update({"difficulty": {"only": [0.0, 1.5]}, "configuration_sd": 1.0})
    prices = {"small": (0.125, -1.0), "middle": (0.25, 0.0), "large": (0.5, 1.0)}
    scenario["portfolio"] = {
        name: {"family": name, "skill": skill, "cost_usd": cost, "latency_s": 1.0}
        for name, (cost, skill) in prices.items()
    }
    core = RouterCore(scenario, EPISODES)
    records = play(make_baseline("cheapest-first", core), core, EPISODES, seed)
    core.seed(core.all_lanes, [seed] * EPISODES)
    core.begin(core.all_lanes, np.arange(EPISODES))
    zero = np.zeros(EPISODES, np.int64)
    right = np.column_stack([core.source.call(core.all_lanes, core.keys, zero + k, zero).right for k in range(3)])
    value = judged_cascade(right, t, f)
    for met, expected in (
        (records.component("accuracy"), value.success),
        (records.component("cost_usd"), value.cost([cost for cost, _ in prices.values()], judge_usd=0.03125)),
    ):
        difference = met - expected  # mean zero, world by world; only the verdicts are random
        assert abs(difference.mean()) < 4.5 * difference.std() / np.sqrt(EPISODES) + 1e-9


def test_a_perfect_judge_finds_what_there_is_and_a_blind_one_stops_at_the_first() -> None:
    right = [[0, 0, 1], [1, 0, 0], [0, 0, 0]]
    assert judged_cascade(right, 1.0, 0.0).success.tolist() == [1.0, 1.0, 0.0]
    assert judged_cascade(right, 1.0, 1.0).success.tolist() == [0.0, 1.0, 0.0]
    assert judged_cascade(right, 0.0, 0.0).success.tolist() == [1.0, 0.0, 0.0], "all rejected: the last one"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(([0.5], 1.0, 0.0), "shape"), (([[0.5]], 1.5, 0.0), "true_positive: got 1.5"), (([[2.0]], 1.0, 0.0), "right")],
)
def test_impossible_input_is_refused(arguments: Any, said: str) -> None:
    with pytest.raises(TableError, match=said):
        judged_cascade(*arguments)
