"""Several judges, errors that repeat, drift of one judge: behaviour with hand-computed expectations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from brownout.envs.router_core import RouterCore
from brownout.errors import ScenarioError
from brownout.scenarios import load_scenario
from router_support import Table, begin, column, portfolio, step_all, tiny

LANES = 4000
CHECK = {"true_positive": 1.0, "false_positive": 0.0, "cost_usd": 0.125, "latency_s": 4.0}
NOD = {"true_positive": 1.0, "false_positive": 0.999, "cost_usd": 0.0625, "latency_s": 2.0}


def panel(*faults: Any, **judges: Any) -> dict[str, Any]:
    """The tiny scenario with several judges."""
    data = tiny(*faults, person=None)
    del data["judge"]
    data["judges"] = judges
    return data


def share(values: Any) -> float:
    return float(np.mean(values))


def sigma(p: float) -> float:
    """Four standard deviations of a share over the lanes."""
    return 4.0 * float(np.sqrt(max(p * (1.0 - p), 1e-4) / LANES))


# ---------------------------------------------------------------- several judges


def test_every_judge_has_an_action_a_price_and_a_column() -> None:
    table = Table(panel(check=CHECK, nod=NOD))
    assert table.names == [
        "launch:sure", "launch:dud", "launch:slow", "wait", "judge:check", "judge:nod", "repair", "submit", "escalate",
        "abstain",
    ]  # fmt: skip
    table.do("launch:dud", "wait")
    assert {"judge:check", "judge:nod"} <= table.legal()
    assert (table.see("judge.check"), table.see("judge.nod"), table.see("unjudged")) == (-1.0, -1.0, 1.0)
    turn = table.do("judge:nod")
    assert (turn.parts["cost_usd"], turn.parts["latency_s"]) == (0.0625, 2.0)
    assert (table.see("judge.check"), table.see("judge.nod"), table.see("unjudged")) == (-1.0, 1.0, 0.0)
    assert table.see("best_accepted") == 1.0
    turn = table.do("judge:check")
    assert (turn.parts["cost_usd"], turn.parts["latency_s"]) == (0.125, 4.0)
    assert (table.see("judge.check"), table.see("judge.nod")) == (0.0, 1.0)


def test_a_judge_scores_a_candidate_once() -> None:
    table = Table(panel(check=CHECK, nod=NOD))
    table.do("launch:dud", "wait", "judge:nod")
    assert "judge:nod" not in table.legal()
    assert "judge:check" in table.legal()
    table.do("launch:dud", "wait")
    assert "judge:nod" in table.legal(), "a new candidate is open to all"
    spent = table.spend
    table.do("judge:nod", "judge:nod", "judge:check", "judge:check", "judge:check")
    assert table.spend == spent + 0.0625 + 2 * 0.125, "a third time there is nobody left to judge, which costs nothing"


def test_the_verdict_that_says_more_counts() -> None:
    """`nod` accepts nearly everything, so its yes is worth next to nothing beside the no of `check`."""
    table = Table(panel(check=CHECK, nod=NOD))
    table.do("launch:dud", "wait", "judge:nod")
    assert table.see("best_accepted") == 1.0
    table.do("judge:check")
    assert (table.see("best_accepted"), table.see("best_rejected")) == (0.0, 1.0)


def test_the_best_candidate_is_the_one_most_likely_right() -> None:
    """A weak configuration's answer that two judges accept goes before a strong one's that one accepts."""
    good = {"true_positive": 0.9, "false_positive": 0.1, "cost_usd": 0.0, "latency_s": 1.0}
    names = {"weak": -0.5, "strong": 0.5}
    data = {**panel(one=good, two=good), "portfolio": portfolio(**names)}
    found: set[bool] = set()
    for seed in range(40):
        table = Table(data, seed=seed)
        table.do("launch:weak", "launch:strong", "wait", "wait", "judge:one", "judge:one", "judge:two")
        strength = dict(zip(names, table.core.strength, strict=True))
        odds = {name: np.log(p / (1.0 - p)) for name, p in strength.items()}
        for m, name in enumerate(names):
            for score in table.core.scores[0, m]:
                odds[name] += 0.0 if score < 0 else np.log(9.0) * (1.0 if score else -1.0)
        best = max(odds, key=lambda name: odds[name])
        assert table.see("best_strength") == pytest.approx(strength[best], abs=1e-6)
        found.add(best == "weak")
    assert found == {True, False}


def test_rates_are_those_of_each_judge() -> None:
    rates = {"strict": (0.7, 0.05), "lax": (0.95, 0.4)}
    judges = {
        n: {"true_positive": t, "false_positive": f, "cost_usd": 0, "latency_s": 0} for n, (t, f) in rates.items()
    }
    for config, which in (("sure", 0), ("dud", 1)):
        core = begin(panel(**judges), LANES)
        step_all(core, f"launch:{config}", "wait", "judge:strict", "judge:lax")
        for name, pair in rates.items():
            assert abs(share(column(core, f"judge.{name}")) - pair[which]) < sigma(pair[which])


def test_one_judge_with_a_name_plays_like_one_without() -> None:
    one, several = tiny(), panel(judge_a=tiny()["judge"])
    a, b = Table(one), Table(several)
    assert [name.replace("judge:judge_a", "judge") for name in b.names] == a.names
    for table, ask in ((a, "judge"), (b, "judge:judge_a")):
        table.do("launch:dud", "wait", ask, "launch:sure", "wait", ask)
    assert a.core.observe().tobytes() == b.core.observe().tobytes()


# ---------------------------------------------------------------- correlated errors


def judged_twice(correlation: float, second: str = "dud", rate: float = 0.3) -> tuple[Any, Any]:
    """Verdicts on two wrong answers of one task, the first of `dud`."""
    data = tiny(portfolio=portfolio(dud=-50.0, other=-50.0), person=None)
    data["judge"] = {"true_positive": 0.6, "false_positive": rate, "correlation": correlation, "cost_usd": 0,
                     "latency_s": 0}  # fmt: skip
    core = begin(data, LANES)
    step_all(core, "launch:dud", "wait", "judge")
    first = core.value[:, 0] >= 2.0
    step_all(core, f"launch:{second}", "wait", "judge")
    return first, core.value[:, 1] >= 2.0


@pytest.mark.parametrize("correlation", [0.0, 0.4, 1.0])
def test_a_repeated_wrong_answer_fools_the_judge_again(correlation: float) -> None:
    first, second = judged_twice(correlation)
    for verdicts in (first, second):
        assert abs(share(verdicts) - 0.3) < sigma(0.3), "each rate is what the scenario says"
    both = 0.09 + correlation * 0.3 * 0.7
    assert abs(share(first & second) - both) < sigma(both)
    if correlation == 1.0:
        assert (first == second).all()


def test_wrong_answers_of_two_configurations_are_judged_apart() -> None:
    first, second = judged_twice(1.0, second="other")
    assert abs(share(first & second) - 0.09) < sigma(0.09)


def test_right_answers_are_judged_apart() -> None:
    data = tiny(portfolio=portfolio(sure=50.0), person=None)
    data["judge"] = {"true_positive": 0.5, "false_positive": 0.5, "correlation": 1.0, "cost_usd": 0, "latency_s": 0}
    core = begin(data, LANES)
    step_all(core, "launch:sure", "wait", "judge", "launch:sure", "wait", "judge")
    both = (core.value[:, :2] >= 2.0).all(axis=1)
    assert abs(share(both) - 0.25) < sigma(0.25)


@pytest.mark.parametrize("together", [True, False])
def test_judges_can_share_their_mistakes(together: bool) -> None:
    judge = {"true_positive": 0.9, "false_positive": 0.3, "correlation": 1.0, "cost_usd": 0, "latency_s": 0}
    judges = {name: {**judge, **({"mistakes": "model"} if together else {})} for name in ("one", "two")}
    core = begin(panel(**judges), LANES)
    step_all(core, "launch:dud", "wait", "judge:one", "judge:two")
    one, two = column(core, "judge.one") > 0, column(core, "judge.two") > 0
    both = 0.3 if together else 0.09
    assert abs(share(one & two) - both) < sigma(both)
    assert bool((one == two).all()) is together


# ---------------------------------------------------------------- faults


def test_drift_can_strike_one_judge_alone() -> None:
    judge = {"true_positive": 0.9, "false_positive": 0.1, "cost_usd": 0.0, "latency_s": 0.0}
    drift = {"fault": "judge-drift", "false_positive": 0.5, "true_positive": 0.0, "when": "always & on('two')"}
    core = begin(panel(drift, one=judge, two=judge), LANES)
    step_all(core, "launch:dud", "wait", "judge:one", "judge:two")
    for name, rate in (("one", 0.1), ("two", 0.6)):
        assert abs(share(column(core, f"judge.{name}")) - rate) < sigma(rate)


def test_drift_grows_with_the_episodes() -> None:
    judge = {"true_positive": 0.9, "false_positive": 0.1, "cost_usd": 0.0, "latency_s": 0.0}
    drift = {"fault": "judge-drift", "false_positive": 0.8, "true_positive": 0.0,
             "when": "drift(0.0, 1.0, over=100) & on('two')"}  # fmt: skip
    for episode, rate in ((0, 0.1), (50, 0.5), (100, 0.9), (400, 0.9)):
        core = RouterCore(panel(drift, one=judge, two=judge), LANES)
        core.seed(core.all_lanes, range(LANES))
        core.begin(core.all_lanes, episode)
        step_all(core, "launch:dud", "wait", "judge:one", "judge:two")
        assert abs(share(column(core, "judge.two")) - rate) < sigma(rate)
        assert abs(share(column(core, "judge.one")) - 0.1) < sigma(0.1)


def test_a_fault_on_judge_means_all_judges_and_one_that_fails_leaves_no_verdict() -> None:
    fault = {"fault": "server-error", "code": 503, "latency_s": 0.5, "when": "always & on('judge')"}
    table = Table(panel(fault, check=CHECK, nod=NOD))
    table.do("launch:dud", "wait")
    for name in ("check", "nod"):
        turn = table.do(f"judge:{name}")
        assert (turn.parts["latency_s"], table.see(f"judge.{name}"), table.see("unjudged")) == (0.5, -1.0, 1.0)
    assert {"judge:check", "judge:nod"} <= table.legal(), "it may be asked again"


# ---------------------------------------------------------------- schema


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"judge": {}, "judges": {"alfa": {}}}, "judges: `judge` is given too"),
        ({"judges": {"person": {}}}, "judges.person: this name is taken"),
        ({"judges": {"dud": {}}}, "judges.dud: this name is taken"),
        ({"judges": {}}, "judges"),
        ({"judges": {"alfa": {"correlation": 1.5}}}, "judges.alfa.correlation"),
        ({"judges": {"alfa": {"false_positiv": 0.5}}}, "judges.alfa.false_positiv: unknown field .did you mean"),
        ({"judges": {"alfa": {"score_sd": 0.1}}}, "judges.alfa.score_sd: got 0.1; allowed: left out"),
        ({"quality": {}, "judges": {"alfa": {}}}, "judges.alfa.score_sd: got None; allowed: a number above 0"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], said: str) -> None:
    data = tiny()
    del data["judge"]
    with pytest.raises(ScenarioError, match=said.replace("[", r"\[")):
        load_scenario({**data, **change})


def test_several_judges_survive_a_round_trip_and_an_override() -> None:
    scenario = load_scenario("patch-review", ["judges.tests.false_positive=0.5"])
    assert scenario.panel["tests"].false_positive == 0.5  # type: ignore[attr-defined]
    assert list(scenario.panel) == ["reviewer", "tests", "audit"]  # type: ignore[attr-defined]
    assert load_scenario(scenario.model_dump(mode="json")).hash == scenario.hash


def test_a_base_with_one_judge_can_be_given_several(tmp_path: Any) -> None:
    path = tmp_path / "more.yaml"
    path.write_text("extends: support-desk\nname: more\njudge: null\njudges: {alfa: {}, beta: {}}\n")
    assert list(load_scenario(path).panel) == ["alfa", "beta"]  # type: ignore[attr-defined]
    path.write_text("extends: support-desk\nname: more\njudges: {alfa: {}, beta: {}}\n")
    with pytest.raises(ScenarioError, match="drops an inherited one"):
        load_scenario(path)


def test_fields_at_their_defaults_leave_the_digest_as_it_was() -> None:
    plain, said = tiny(), tiny(judge__correlation=0.0, judge__mistakes=None, quality=None, judges=None)
    assert load_scenario(plain).hash == load_scenario(said).hash
    assert load_scenario(tiny(judge__correlation=0.5)).hash != load_scenario(plain).hash
