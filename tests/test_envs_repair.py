"""Answers with a quality: draws, repair rounds, scores, faults and what is paid for it, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from brownout.envs.hindsight import hindsight_bounds
from brownout.envs.optimum import ceiling_of
from brownout.envs.router_core import RouterCore
from brownout.envs.streams import stream_id, uniform
from brownout.scenarios.quality import QualityCurve
from brownout.scenarios.schema import Quality
from brownout.trainers.baselines import make_baseline
from brownout.trainers.evaluation import evaluate
from router_support import Table, begin, column, step_all, tiny

LANES = 4000
QUALITY = {"scale": 2.0, "gain": 0.5, "loss": 0.4, "accept_at": 0.6, "floor": 0.3}


def graded(*faults: Any, skill: float = 0.0, difficulty_sd: float = 0.0, **changes: Any) -> dict[str, Any]:
    """The tiny scenario with a configuration `writer` whose answers have a quality, and a scoring judge."""
    data = tiny(*faults, person=None)
    data["tasks"]["difficulty"] = {"only": [0.0, difficulty_sd]}
    data["portfolio"] = {"writer": {"family": "a", "skill": skill, "cost_usd": 0.25, "latency_s": 8.0, "max_calls": 8}}
    data["judge"] = {"score_sd": 0.125, "cost_usd": 0.03125, "latency_s": 1.0}
    data["quality"] = dict(QUALITY)
    data["repair"] = {"harm": 0.0, "cost_factor": 0.5, "latency_factor": 0.25}
    for path, value in changes.items():
        part, field = path.split("__")
        data[part][field] = value
    return data


def fresh_quality(core: RouterCore, number: int) -> Any:
    """Quality of call ``number``, from the noise of its margin (skill and difficulty are nil)."""
    u = uniform(core.keys, stream_id("configuration.writer.noise"), number)
    margin = np.log(u / (1.0 - u))
    return 1.0 / (1.0 + np.exp(-margin / QUALITY["scale"]))


# ---------------------------------------------------------------- quality


def test_the_quality_of_a_fresh_answer_is_a_logistic_of_its_margin() -> None:
    core = begin(graded(), LANES)
    step_all(core, "launch:writer", "wait")
    expected = fresh_quality(core, 0)
    inner = np.abs(expected - 0.5) < 0.45  # the tables of noise end somewhere
    assert np.abs(core.quality[:, 0] - expected)[inner].max() < 2e-3
    assert (core.right[:, 0] == (core.quality[:, 0] >= 0.6)).all()


def test_what_an_operator_expects_is_what_comes() -> None:
    core = begin(graded(skill=0.7, difficulty_sd=1.1), LANES)
    step_all(core, "launch:writer", "wait")
    assert core.source.quality is not None
    mean, variance = core.source.quality
    met = core.quality[:, 0]
    assert abs(met.mean() - mean[0]) < 4.5 * met.std() / np.sqrt(LANES)
    assert met.var() == pytest.approx(variance[0], rel=0.1)
    rate = core.right[:, 0].mean()
    assert abs(rate - core.source.strength[0]) < 4.5 * np.sqrt(rate * (1 - rate) / LANES)


@pytest.mark.parametrize("margin", [-40.0, -3.0, 0.0, 0.4, 12.0, 99.0])
def test_the_curve(margin: float) -> None:
    curve = QualityCurve(Quality(scale=1.5, accept_at=0.8))
    assert curve.of(np.array([margin]))[0] == pytest.approx(
        1 / (1 + np.exp(-max(min(margin / 1.5, 16), -16))), abs=1e-5
    )
    assert curve.of(np.array([curve.cut]))[0] == pytest.approx(0.8, abs=1e-5)


def test_accuracy_is_the_quality_and_success_a_threshold() -> None:
    seen: set[str] = set()
    for seed in range(60):
        table = Table(graded(), seed=seed)
        turn = table.do("launch:writer", "wait", "submit")
        quality = float(table.core.quality[0, 0])
        assert turn.parts["accuracy"] == quality
        assert turn.outcome == ("success" if quality >= 0.6 else "wrong_answer")
        assert turn.parts["safety"] == (1.0 if quality < 0.3 else 0.0)
        assert turn.reward == pytest.approx(quality - 0.5 * (quality < 0.3))
        seen.add(f"{turn.outcome} {quality < 0.3}")
    assert seen == {"success False", "wrong_answer False", "wrong_answer True"}


# ---------------------------------------------------------------- repair


def test_a_round_adds_a_share_of_what_is_missing() -> None:
    core = begin(graded(), LANES)
    step_all(core, "launch:writer", "wait")
    first = core.quality[:, 0].copy()
    step_all(core, "repair")
    second = first + 0.5 * (1.0 - first) * fresh_quality(core, 1)
    inner = np.abs(fresh_quality(core, 1) - 0.5) < 0.45
    assert np.abs(core.quality[:, 1] - second)[inner].max() < 1e-3
    step_all(core, "wait")
    assert (core.spend == 0.25 + 0.125).all()
    assert (core.clock == 8.0 + 2.0).all()
    assert (column(core, "best_rounds") == 1.0).all(), "a repaired answer is expected to be better, so it is the best"


def test_a_round_can_harm() -> None:
    core = begin(graded(repair__harm=1.0), LANES)
    step_all(core, "launch:writer", "wait", "repair", "wait")
    u = uniform(core.keys, stream_id("repair.writer.fix"), 1)
    assert np.allclose(core.quality[:, 1], core.quality[:, 0] * (1.0 - 0.4 * u))
    step_all(core, "submit")
    assert (core.components[:, 0] == core.quality[:, 0]).all(), "who expects harm keeps the first answer"


def test_rounds_have_diminishing_returns() -> None:
    core = begin(graded(repair__harm=0.1, difficulty_sd=1.0), LANES)
    step_all(core, "launch:writer", "wait")
    for _ in range(5):
        step_all(core, "repair", "wait")
    mean = core.quality[:, :6].mean(axis=0)
    gains = np.diff(mean)
    assert (gains > 0).all()
    assert (np.diff(gains) < 0).all()


# ---------------------------------------------------------------- scores


def test_a_score_is_the_quality_with_an_error() -> None:
    core = begin(graded(), LANES)
    step_all(core, "launch:writer", "wait", "judge")
    score, quality = column(core, "judge.judge").astype(float), core.quality[:, 0]
    middle = np.abs(quality - 0.5) < 0.1  # elsewhere the error is cut at 0 and 1
    error = (score - quality)[middle]
    assert abs(error.mean()) < 4.5 * 0.125 / np.sqrt(len(error))
    assert error.std() == pytest.approx(0.125, rel=0.1)
    assert ((score >= 0) & (score <= 1)).all()


def test_the_belief_weighs_score_and_expectation_by_their_precision() -> None:
    table = Table(graded(difficulty_sd=1.0), seed=5)
    table.do("launch:writer", "wait")
    assert table.core.source.quality is not None
    mean, variance = (float(x[0]) for x in table.core.source.quality)
    assert table.see("best_strength") == pytest.approx(mean)
    table.do("judge")
    score, known, said = table.see("judge.judge"), 1.0 / variance, 1.0 / 0.125**2
    belief = (mean * known + score * said) / (known + said)
    assert table.see("best_strength") == pytest.approx(belief, abs=1e-6)
    assert table.see("best_accepted") == float(belief >= 0.6)


def test_a_judge_with_a_taste_repeats_its_error() -> None:
    for correlation in (0.0, 0.5, 1.0):
        core = begin(graded(judge__correlation=correlation), LANES)
        step_all(core, "launch:writer", "wait", "judge", "launch:writer", "wait", "judge")
        errors = core.scores[:, :2, 0] - core.quality[:, :2]
        middle = (np.abs(core.quality[:, :2] - 0.5) < 0.15).all(axis=1)
        met = np.asarray(np.corrcoef(errors[middle].T))[0, 1]
        assert met == pytest.approx(correlation, abs=4.5 / np.sqrt(middle.sum()))


# ---------------------------------------------------------------- faults


def test_a_silent_regression_ruins_the_answer_whatever_its_quality() -> None:
    fault = {"fault": "silent-regression", "loss": 1.0, "when": "always"}
    core = begin(graded(fault), 200)
    step_all(core, "launch:writer", "wait")
    assert (core.quality[:, 0] == 0.0).all()
    assert core.plan is not None
    assert core.plan.log.counts == {"silent-regression#0": 200}
    step_all(core, "submit")
    assert (core.components[:, 0] == 0.0).all()


def test_a_share_of_answers_is_lost_and_the_others_are_untouched() -> None:
    fault = {"fault": "silent-regression", "loss": 0.25, "when": "always"}
    struck, clean = begin(graded(fault), LANES), begin(graded(fault), LANES, intensity=0.0)
    for core in (struck, clean):
        step_all(core, "launch:writer", "wait")
    lost = struck.quality[:, 0] == 0.0
    assert abs(lost.mean() - 0.25) < 4.5 * np.sqrt(0.25 * 0.75 / LANES)
    assert (struck.quality[~lost, 0] == clean.quality[~lost, 0]).all()


def test_a_visible_failure_leaves_no_candidate() -> None:
    table = Table(graded({"fault": "malformed-body", "when": "always"}))
    table.do("launch:writer", "wait")
    assert table.core.best[0] == -1
    assert not table.legal() & {"submit", "judge", "repair"}


def test_drift_moves_the_scores_of_good_and_bad_answers() -> None:
    fault = {"fault": "judge-drift", "false_positive": 0.2, "true_positive": -0.1, "when": "always"}
    struck, clean = begin(graded(fault), LANES), begin(graded(fault), LANES, intensity=0.0)
    for core in (struck, clean):
        step_all(core, "launch:writer", "wait", "judge")
    moved = struck.scores[:, 0, 0] - clean.scores[:, 0, 0]
    good, inner = clean.right[:, 0], (np.abs(clean.scores[:, 0, 0] - 0.5) < 0.25)
    assert np.allclose(moved[good & inner], -0.1)
    assert np.allclose(moved[~good & inner], 0.2)


# ---------------------------------------------------------------- budgets and evaluation


def test_the_cap_is_drawn_with_the_task_shown_and_kept() -> None:
    core = begin("deep-research", LANES, profile="clean")
    caps = core.preferences["budget_usd"].copy()
    assert 0.5 <= caps.min() < 0.6
    assert 9.0 < caps.max() <= 10.0
    assert np.allclose(column(core, "budget_left"), caps)
    step_all(core, "launch:heavy", "launch:heavy", "wait", "wait", "launch:heavy", "wait")
    assert (core.spend <= caps).all()


def test_the_bound_of_a_draft_and_one_round_by_hand() -> None:
    """The better of two answers alone, or as a draft that the other one mends."""
    data = graded(portfolio__writer={"family": "a", "cost_usd": 0.25, "latency_s": 8.0, "max_calls": 2})
    data["reward"] = {"accuracy": 2.0, "per_usd": 1.0, "per_s": 0.01, "wrong_answer": 0.0}
    core = begin(data, LANES, profile="clean")
    bounds = hindsight_bounds(core, LANES)
    assert bounds is not None
    core.seed(core.all_lanes, [0] * LANES)
    core.begin(core.all_lanes, core.all_lanes)
    nil = np.zeros(LANES, np.int64)
    first, second = (core.source.call(core.all_lanes, core.keys, nil, nil + j).quality for j in (0, 1))
    assert first is not None
    assert second is not None
    high, low = np.maximum(first, second), np.minimum(first, second)
    alone = 2.0 * high - 0.25 - 0.08
    mended = 2.0 * (1.0 - (1.0 - high) * (1.0 - 0.5 * low)) - 0.25 - 0.125 - 0.08 - 0.02
    assert np.allclose(bounds, np.maximum(np.maximum(alone, mended), 0.0))
    assert (mended > alone).mean() > 0.1


def test_no_optimum_is_claimed() -> None:
    assert ceiling_of(RouterCore("deep-research", 4)) is None


def test_an_evaluation_reports_quality_and_counts_successes_by_threshold() -> None:
    table = evaluate(["baseline:draft-and-repair", "baseline:null"], "deep-research", episodes=300)
    first, null = table.rows
    assert first.records is not None
    assert first.quality is not None
    assert null.quality is not None
    assert first.quality.value == pytest.approx(first.records.component("accuracy").mean())
    assert first.success.value == pytest.approx((first.records.component("accuracy") >= 0.8).mean())
    assert null.quality.value == 0.0
    assert evaluate("baseline:null", "textbook", episodes=10).rows[0].quality is None


def test_draft_and_repair_repairs_until_the_judge_is_content() -> None:
    """Two rounds at least lie before a threshold that no first draft reaches; after it the answer goes out."""
    data = graded(quality__accept_at=0.9, quality__gain=0.8, judge__score_sd=1e-3)
    core = RouterCore(data, 1)
    rule = make_baseline("draft-and-repair", core)
    rounds = []
    for seed in range(20):
        core.seed(core.all_lanes, [seed])
        core.begin(core.all_lanes, 0)
        played: list[str] = []
        while not (core.terminated[0] or core.truncated[0]):
            action = rule.act_batch(core.observe(), core.mask())
            played.append(core.action_names[int(action[0])])
            core.advance(action)
        core.terminated[:] = core.truncated[:] = False
        assert played[:3] == ["launch:writer", "wait", "judge"]
        assert played[3:-1] == ["repair", "wait", "judge"] * ((len(played) - 4) // 3)
        if core.outcome_names[core.outcome[0]] == "success":
            assert played[-1] == "submit"
        rounds.append(played.count("repair"))
    assert max(rounds) > 1


def test_recorded_scores_are_qualities(tmp_path: Any) -> None:
    rows = ["query_id,config,sample,success,cost_usd,latency_s"]
    rows += [f"q{i},writer,{j},{0.25 + 0.5 * j},0.25,8" for i in range(40) for j in range(2)]
    (tmp_path / "runs.csv").write_text("\n".join(rows) + "\n")
    data = graded()
    data["tasks"] = {"table": str(tmp_path / "runs.csv")}
    data["portfolio"] = {"writer": {}}
    core = begin(data, 64)
    step_all(core, "launch:writer", "wait")
    assert set(core.quality[:, 0].tolist()) == {0.25, 0.75}
    assert core.source.quality is not None
    assert core.source.quality[0][0] == pytest.approx(0.5)
    assert core.source.strength[0] == pytest.approx(0.5), "half of the runs reach accept_at"
