"""Evaluation: the same episodes for everybody, the same bits at any number of lanes, honest intervals."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import fields, replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from brownout.envs.router_core import RouterCore
from brownout.envs.streams import uniform
from brownout.errors import ArtefactError, PolicyError, ScenarioError
from brownout.scenarios import load_scenario
from brownout.trainers import statistics
from brownout.trainers.artefact import save_policy
from brownout.trainers.baselines import make_baseline
from brownout.trainers.card import PolicyCard
from brownout.trainers.evaluation import EpisodeRecords, Evaluation, PolicyResult, evaluate, play, resolve_policy
from brownout.trainers.policy import Policy, initial_weights
from brownout.trainers.statistics import Difference, Estimate
from brownout.trainers.tables import cells, headings, print_evaluation
from router_support import PER_S, Table, tiny

DESK = load_scenario("support-desk")
FIELDS = ("utility", "components", "steps", "outcome", "group", "launches")


def core_of(scenario: Any = DESK, lanes: int = 64, **options: Any) -> RouterCore:
    return RouterCore(scenario, lanes, split="eval", **options)


def records_of(name: str, episodes: int, seed: int = 0, **options: Any) -> EpisodeRecords:
    core = core_of(**options)
    return play(make_baseline(name, core), core, episodes, seed)


def fresh_policy(core: RouterCore, seed: int = 0) -> Policy:
    """An untrained policy that prefers some actions to others."""
    weights = initial_weights(len(core.observation_columns), len(core.action_names), (8, 8), seed)
    last = weights["policy.2.weight"]
    weights["policy.2.weight"] = (last * 300).astype(np.float32)
    return Policy(weights, card=PolicyCard.of(core))


class Script:
    """Plays the named actions in order; keeps no state, for it reads the step from the observation."""

    def __init__(self, core: RouterCore, *actions: str) -> None:
        self.codes = np.array([core.action_names.index(action) for action in actions])
        self.left = [c.name for c in core.observation_columns].index("steps_left")
        self.most = core.max_steps

    def act_batch(self, observations: Any, mask: Any, uniforms: Any = None) -> Any:
        return self.codes[(self.most - observations[:, self.left]).astype(int)]


# ---------------------------------------------------------------- what is recorded


def test_an_episode_is_recorded_as_played_by_hand() -> None:
    core = core_of(tiny(), 8)
    records = play(Script(core, "launch:slow", "launch:sure", "wait", "judge", "submit"), core, 20)
    cost = 0.25 + 0.03125 + 0.5 * 9 / 64
    assert records.utility.tolist() == pytest.approx([1.0 - cost - 9 * PER_S] * 20)
    assert records.component("cost_usd").tolist() == pytest.approx([cost] * 20)
    assert records.component("latency_s").tolist() == [9.0] * 20
    assert records.component("accuracy").tolist() == [1.0] * 20
    assert records.steps.tolist() == [5] * 20
    assert records.outcome.tolist() == [records.outcome_names.index("success")] * 20
    assert records.launches.tolist() == [20, 0, 20]


def test_episode_e_is_number_e_of_the_seed() -> None:
    """Also past the first ones, where a lane has gone on to other numbers."""
    records = records_of("cheapest-first", 40, seed=100, lanes=7)
    for e in (0, 6, 7, 23, 39):
        table = Table(DESK, seed=100, episode=e, split="eval")
        rule = make_baseline("cheapest-first", table.core)
        utility = 0.0
        while True:
            table.core.advance(rule.act_batch(table.core.observe(), table.core.mask()))
            utility += float(table.core.reward[0])
            if table.core.terminated[0] or table.core.truncated[0]:
                break
        assert utility == records.utility[e]
        assert table.core.outcome[0] == records.outcome[e]
        assert table.core.source.group[0] == records.group[e]


@pytest.mark.parametrize("name", ["random", "race-all", "greedy-index"])
def test_records_are_the_same_bits_at_any_number_of_lanes(name: str) -> None:
    whole = records_of(name, 150, lanes=150)
    for lanes in (1, 13, 64):
        part = records_of(name, 150, lanes=lanes)
        for field in FIELDS:
            assert np.array_equal(getattr(part, field), getattr(whole, field)), (lanes, field)


def test_a_trained_kind_of_policy_is_the_same_at_any_number_of_lanes() -> None:
    policy = fresh_policy(core_of(lanes=1), seed=1)
    tables = [evaluate({"p": policy}, DESK, episodes=130, lanes=lanes).to_dict() for lanes in (1, 7, 130, 512)]
    assert all(table == tables[0] for table in tables)
    assert tables[0]["rows"][0]["steps"] > 1


def test_more_episodes_repeat_the_first_and_other_seeds_do_not() -> None:
    few, many, other = (records_of("cheapest-first", n, seed) for n, seed in ((50, 0), (80, 0), (50, 50)))
    assert np.array_equal(few.utility, many.utility[:50])
    assert not np.array_equal(other.utility, few.utility)


def test_a_stochastic_policy_is_given_keyed_uniforms_and_others_none() -> None:
    class Nosy:
        def __init__(self, stochastic: bool) -> None:
            self.stochastic = stochastic
            self.given: list[Any] = []

        def act_batch(self, observations: Any, mask: Any, uniforms: Any = None) -> Any:
            self.given.append(uniforms)
            return np.full(len(observations), core.action_names.index("abstain"))

    core = core_of(lanes=4)
    curious, plain = Nosy(True), Nosy(False)
    for actor in (curious, plain):
        play(actor, core, 4)
    assert plain.given == [None]
    core.seed(core.all_lanes, [0] * 4)
    core.begin(core.all_lanes, core.all_lanes)
    from brownout.envs.streams import stream_id

    assert np.array_equal(curious.given[0], uniform(core.keys, stream_id("policy.action"), 0))


def test_fewer_than_one_episode_is_refused() -> None:
    with pytest.raises(PolicyError, match="episodes: got 0; allowed: 1 or more"):
        records_of("null", 0)


# ---------------------------------------------------------------- the table


def test_rows_hold_the_statistics_of_the_records() -> None:
    table = evaluate(["baseline:cheapest-first", "baseline:always-strongest"], DESK, episodes=400)
    row, other = table.rows
    assert row.records is not None
    assert other.records is not None
    assert row.utility == statistics.mean(row.records.utility)
    assert row.success.value == (row.records.component("accuracy") > 0).mean()
    assert row.cost_usd.value == row.records.component("cost_usd").mean()
    assert row.latency_quantiles["p95"].value == np.quantile(row.records.component("latency_s"), 0.95)
    assert sum(row.outcomes.values()) == pytest.approx(1.0)
    assert row.outcomes["success"] == row.success.value
    assert sum(other.launches.values()) == pytest.approx(1.0)
    assert other.launches["frontier"] == 1.0
    assert row.steps == row.records.steps.mean()
    assert (row.against, row.share_of_ceiling, table.clusters) == (None, None, None)
    assert (table.scenario, table.scenario_hash, table.profile, table.split) == (
        "support-desk", DESK.hash, "production", "eval",
    )  # fmt: skip


def test_differences_are_paired_on_the_same_episodes() -> None:
    table = evaluate(["baseline:cheapest-first", "baseline:greedy-index"], DESK, episodes=1500)
    first, second = (row.records for row in table.rows)
    assert first is not None
    assert second is not None
    assert np.array_equal(first.group, second.group)
    found = table.rows[1].against
    assert found == statistics.paired_difference(first.utility, second.utility)
    assert found is not None
    assert found.value == pytest.approx(table.rows[0].utility.value - table.rows[1].utility.value)
    unpaired = math.hypot(*(row.utility.half_width for row in table.rows))
    assert (found.high - found.low) / 2 < 0.95 * unpaired
    same = evaluate({"a": "baseline:random", "b": "baseline:random"}, DESK, episodes=50).rows[1].against
    assert same is not None
    assert (same.value, same.p_value) == (0.0, 1.0)


def test_names_are_those_given_and_never_taken_twice() -> None:
    assert [row.name for row in evaluate(["baseline:null"] * 3, DESK, episodes=4).rows] == ["null", "null'", "null''"]
    named = evaluate({"mine": "baseline:null", "theirs": "baseline:random"}, DESK, episodes=4)
    assert [row.name for row in named.rows] == ["mine", "theirs"]
    assert named.row("theirs").against is not None
    assert evaluate("baseline:null", DESK, episodes=4).rows[0].name == "null"


def test_profile_intensity_split_and_seed_matter() -> None:
    def utilities(**options: Any) -> Any:
        records = evaluate("baseline:cheapest-first", DESK, episodes=300, **options).rows[0].records
        assert records is not None
        return records.utility

    reference = utilities()
    changes: list[dict[str, Any]] = [{"profile": "clean"}, {"intensity": 3.0}, {"split": "train"}, {"seed": 300}]
    for change in changes:
        assert utilities(**change).mean() != reference.mean(), change
    assert np.array_equal(utilities(intensity=0.0), utilities(profile="clean"))


def test_json_is_complete_and_has_no_undefined_numbers() -> None:
    table = evaluate(["baseline:null", "baseline:random"], DESK, episodes=3)
    data = json.loads(table.to_json(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert data["rows"][0]["cost_quantiles"]["p99"]["high"] is None
    assert data["rows"][1]["against"]["n"] == 3
    assert "records" not in data["rows"][0]
    assert data["scenario_hash"] == DESK.hash


def test_every_field_is_read_back_from_json() -> None:
    estimate, difference = Estimate(0.5, 0.25, 0.75, 9), Difference(0.5, 0.25, 0.75, 9, 0.125, 0.0625)
    row = PolicyResult(
        name="a", episodes=9, utility=estimate, success=replace(estimate, value=1.0), cost_usd=replace(estimate, n=1),
        latency_s=replace(estimate, n=2), cost_quantiles={"p50": estimate}, latency_quantiles={"p95": estimate},
        outcomes={"success": 1.0}, launches={"one": 1.0}, steps=3.5, share_of_ceiling=0.75, share_of_bound=0.5,
        regret=replace(estimate, n=3), quality=replace(estimate, n=4), against=difference,
    )  # fmt: skip
    table = Evaluation((row,), "s", "hash", "hostile", 0.5, "train", 7, 1.25, 1.5, 3, "oracle")
    for one in (table, row):
        left = [f.name for f in fields(one) if getattr(one, f.name) == f.default and f.name != "records"]
        assert not left, f"no value of its own: {left}"
    assert Evaluation.from_dict(json.loads(table.to_json())) == table


def test_an_evaluation_kept_before_answers_had_a_quality_is_still_read() -> None:
    table = evaluate("baseline:null", DESK, episodes=4).to_dict()
    del table["rows"][0]["quality"]
    assert Evaluation.from_dict(table).rows[0].quality is None


def test_the_table_shows_who_hands_over_and_is_not_cut_in_a_pipe() -> None:
    table = evaluate(["baseline:always-escalate", "baseline:strongest-first"], DESK, episodes=60)
    for row in table.rows:
        shown = dict(zip(headings(table), cells(table, row), strict=True))
        assert shown["handed over %"] == f"{100 * row.outcomes['escalated']:.1f}"
    assert table.rows[0].outcomes["escalated"] == 1.0
    assert 0.0 < table.rows[1].outcomes["escalated"] < 1.0
    pipe = StringIO()
    print_evaluation(table, Console(file=pipe, width=80))
    text = pipe.getvalue()
    assert "…" not in text
    assert all(cell in text for row in table.rows for cell in cells(table, row))


def test_progress_names_the_policy() -> None:
    heard: list[tuple[str, int]] = []
    evaluate(
        {"mine": "baseline:null"}, DESK, episodes=10, lanes=4, progress=lambda name, done: heard.append((name, done))
    )
    assert heard[-1] == ("mine", 10)


# ---------------------------------------------------------------- recorded tables


@pytest.fixture
def recorded(tmp_path: Path) -> dict[str, Any]:
    """Twelve queries that are all easy or all hard: episodes of one query agree."""
    path = tmp_path / "runs.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["query_id", "config", "sample", "success", "cost_usd", "latency_s"])
        rows.writerows([f"q{q:02}", "one", s, int(q % 2 == 0), 0.1, 1.0] for q in range(40) for s in range(2))
    data = tiny(tasks={"table": str(path), "eval_fraction": 0.3, "features": []}, portfolio={"one": {}})
    data["reward"] = {"accuracy": 1.0, "per_usd": 0.0, "per_s": 0.0, "wrong_answer": 0.0}
    return data


def test_intervals_over_a_table_count_queries_and_not_episodes(recorded: dict[str, Any]) -> None:
    table = evaluate(["baseline:always-cheapest", "baseline:null"], recorded, episodes=4000, profile="clean")
    row = table.rows[0]
    assert row.records is not None
    queries = np.unique(row.records.group)
    assert table.clusters == len(queries)
    assert 6 <= len(queries) <= 20
    assert row.utility == statistics.mean(row.records.utility, row.records.group)
    naive = statistics.mean(row.records.utility)
    assert row.utility.value == naive.value
    assert row.utility.half_width > 8 * naive.half_width
    # as wide as that of one value per query
    assert row.utility.half_width == pytest.approx(1.96 * 0.5 / math.sqrt(len(queries)), rel=0.35)
    assert row.success.half_width > 5 * naive.half_width
    against = table.rows[1].against
    assert against is not None
    assert (against.high - against.low) / 2 == pytest.approx(row.utility.half_width)


# ---------------------------------------------------------------- which policy


def test_a_policy_may_be_an_object_a_baseline_or_a_folder(tmp_path: Path) -> None:
    core = core_of(lanes=1)
    policy = fresh_policy(core)
    folder = save_policy(tmp_path / "mine", policy, core)
    name, loaded = resolve_policy(folder, core)
    assert name == "mine"
    assert resolve_policy(str(folder), core)[0] == "mine"
    tables = [evaluate({"p": p}, DESK, episodes=60).to_dict() for p in (loaded, str(folder))]
    assert tables[0] == tables[1]
    assert resolve_policy("baseline:race-all", core)[0] == "race-all"
    script = Script(core, "abstain")
    assert resolve_policy(script, core) == ("policy", script)


def test_unknown_policies_are_refused_with_what_is_known(tmp_path: Path) -> None:
    core = core_of(lanes=1)
    with pytest.raises(PolicyError, match=r"no policy 'nowhere/at/all': neither a folder nor baseline:NAME"):
        resolve_policy("nowhere/at/all", core)
    with pytest.raises(PolicyError, match=r"no baseline 'cheapest-frist'; did you mean 'cheapest-first'.*race-all"):
        resolve_policy("baseline:cheapest-frist", core)
    with pytest.raises(ArtefactError, match=r"policy\.json: no such file"):
        resolve_policy(tmp_path, core)
    with pytest.raises(PolicyError, match="policies: got none; allowed: one or more"):
        evaluate([], DESK)
    with pytest.raises(PolicyError, match="policies: got none"):
        evaluate({}, DESK)
    with pytest.raises(PolicyError, match="support-desk, profile production: not independent boxes"):
        resolve_policy("baseline:weitzman", core)


def test_a_policy_of_another_scenario_is_refused_by_name_of_column(tmp_path: Path) -> None:
    folder = save_policy(tmp_path / "tiny", fresh_policy(core_of(tiny(), 1)), core_of(tiny(), 1))
    with pytest.raises(ArtefactError, match=r"trained on scenario 'tiny', does not fit 'support-desk'.*'sure\."):
        evaluate(folder, DESK, episodes=4)
    with pytest.raises(ArtefactError, match="does not fit 'support-desk'"):
        evaluate(fresh_policy(core_of(tiny(), 1)), DESK, episodes=4)


def test_an_unknown_profile_is_refused_with_those_there_are() -> None:
    with pytest.raises(ScenarioError, match=r"no profile 'staging'; allowed: clean, production"):
        evaluate("baseline:null", DESK, episodes=4, profile="staging")


def test_a_policy_trained_under_faults_may_be_tried_without_them(tmp_path: Path) -> None:
    core = core_of(lanes=1)
    folder = save_policy(tmp_path / "mine", fresh_policy(core), core)
    row = evaluate(folder, DESK, episodes=20, profile="clean").rows[0]
    assert row.episodes == 20
    assert replace(row, records=None) == replace(row)
