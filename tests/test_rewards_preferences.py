"""Preferences per episode: ranges, streams, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from brownout.envs.streams import episode_keys
from brownout.errors import RewardError
from brownout.rewards import PREFERENCE_NAMES, Preferences

DEFAULTS = {"per_usd": 1.0, "per_s": 0.0, "budget_usd": 0.5, "deadline_s": 60.0}


def keys(n: int, seed: int = 0) -> Any:
    return episode_keys(np.arange(n) + seed, np.zeros(n, np.int64), "train")


def compiled(**spec: Any) -> Preferences:
    return Preferences.compile(spec, DEFAULTS)


def test_what_is_left_out_keeps_its_default() -> None:
    drawn = compiled(per_s=0.25).sample(keys(4))
    assert tuple(drawn) == PREFERENCE_NAMES
    assert {name: set(values.tolist()) for name, values in drawn.items()} == {
        "per_usd": {1.0},
        "per_s": {0.25},
        "budget_usd": {0.5},
        "deadline_s": {60.0},
    }


@pytest.mark.parametrize("name", PREFERENCE_NAMES)
def test_a_range_is_drawn_log_uniformly(name: str) -> None:
    drawn = compiled(**{name: [0.02, 5.0]}).sample(keys(20_000))[name]
    assert drawn.min() >= 0.02
    assert drawn.max() <= 5.0
    assert stats.kstest(drawn, stats.loguniform(0.02, 5.0).cdf).pvalue > 0.001
    assert np.unique(drawn).size > 19_000


def test_a_draw_depends_on_its_episode_alone() -> None:
    preferences = compiled(per_usd=[0.1, 10], budget_usd={"low": 0.1, "high": 2})
    whole = preferences.sample(keys(64))
    for i in (0, 17, 63):
        alone = preferences.sample(keys(64)[i : i + 1])
        assert all(alone[name].tobytes() == whole[name][i : i + 1].tobytes() for name in PREFERENCE_NAMES)
    other = preferences.sample(keys(64, seed=1000))
    assert not np.intersect1d(whole["per_usd"], other["per_usd"]).size


def test_one_can_be_fixed_and_the_others_stay() -> None:
    given = compiled(per_usd=[0.1, 10], deadline_s=[10, 60], per_s=0.5)
    held = given.at("per_usd", 3.0)
    assert held.sampled == ("deadline_s",)
    assert held.named == given.named == ("per_usd", "per_s", "deadline_s")
    before, after = given.sample(keys(50)), held.sample(keys(50))
    assert set(after["per_usd"]) == {3.0}
    for name in ("per_s", "budget_usd", "deadline_s"):
        assert np.array_equal(before[name], after[name])
    with pytest.raises(RewardError, match=r"preferences.budget_usd: got 0"):
        given.at("budget_usd", 0.0)
    with pytest.raises(RewardError, match="no such preference"):
        given.at("per_dollar", 1.0)


def test_each_preference_has_a_stream_of_its_own() -> None:
    both = compiled(per_usd=[0.1, 10], per_s=[0.1, 10]).sample(keys(2000))
    assert np.array_equal(both["per_usd"], compiled(per_usd=[0.1, 10]).sample(keys(2000))["per_usd"])
    correlation = np.corrcoef(np.log(both["per_usd"]), np.log(both["per_s"]))[0, 1]
    assert abs(correlation) < 0.08


def test_sampling_leaves_the_keys_alone() -> None:
    given = keys(8)
    before = given.copy()
    compiled(per_usd=[0.1, 10]).sample(given)
    assert np.array_equal(given, before)


def test_columns_give_the_range_for_the_observation() -> None:
    columns = {column.name: column for column in compiled(per_usd=[0.1, 10], deadline_s=30).columns}
    assert (columns["per_usd"].low, columns["per_usd"].high, columns["per_usd"].sampled) == (0.1, 10.0, True)
    assert (columns["deadline_s"].low, columns["deadline_s"].high, columns["deadline_s"].sampled) == (
        30,
        30,
        False,
    )
    assert columns["deadline_s"].unit == "s"
    assert compiled(per_usd=[0.1, 10]).sampled == ("per_usd",)
    assert compiled(per_usd=[3, 3]).sampled == ()


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ({"per_dollar": 1}, ["preferences.per_dollar", "per_usd", "deadline_s"]),
        ({"budget_usb": 1}, ["budget_usb", "did you mean 'budget_usd'?"]),
        ({"per_usd": -1}, ["preferences.per_usd", "-1", "at least 0"]),
        ({"per_usd": "cheap"}, ["preferences.per_usd", "'cheap'", "number"]),
        ({"per_usd": True}, ["per_usd", "True"]),
        ({"budget_usd": 0}, ["budget_usd", "0", "above 0"]),
        ({"deadline_s": float("inf")}, ["deadline_s", "inf", "finite"]),
        ({"per_s": [0, 1]}, ["preferences.per_s.low", "0", "above 0"]),
        ({"per_s": [2, 1]}, ["preferences.per_s.high", "1", "at least 2"]),
        ({"per_s": [1, 2, 3]}, ["preferences.per_s", "[1, 2, 3]", "[low, high]"]),
        ({"per_s": {"low": 1}}, ["preferences.per_s", "['low']", "low and high"]),
        ({"per_s": None}, ["preferences.per_s", "None"]),
    ],
)
def test_a_bad_preference_names_field_value_and_what_is_allowed(spec: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(RewardError) as error:
        compiled(**spec)
    assert not [part for part in parts if part not in str(error.value)], str(error.value)
