"""The claims: measured on what is known beforehand, honest about what is missing, and a page that is fresh."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brownout.cli import main
from brownout.extras import missing_extra
from brownout.scenarios import load_scenario
from brownout.trainers.claim_ensembles import cheapest_mix, ensemble_against_repeats, first_accepted, opposite_plans
from brownout.trainers.claim_evidence import Evidence, Figure, bootstrap, halves, mean_figure
from brownout.trainers.claim_list import CLAIMS
from brownout.trainers.claim_loop import UNLIMITED, AskAgain, loop_figures
from brownout.trainers.claim_measures import four_small_runs, shortest_path, solved_by_all, success_at, success_gap
from brownout.trainers.claims import measure_claims, row, stamp, stamps, to_markdown
from brownout.trainers.fixed_plans import KnownRuns
from source_tree import ROOT

PAGE = ROOT / "docs" / "claims.md"
FAST = [claim for claim in CLAIMS if claim.id != "endless-loop"]


class Given(Evidence):
    """Evidence made up: these runs stand for everything."""

    def __init__(self, runs: KnownRuns) -> None:
        super().__init__(None, 100, 100)
        object.__setattr__(self, "runs", runs)

    @property
    def sources(self) -> list[KnownRuns]:  # type: ignore[override]
        return [self.runs]  # type: ignore[attr-defined]

    @property
    def browsecomp(self) -> KnownRuns:  # type: ignore[override]
        return self.runs  # type: ignore[attr-defined]


def made_up(rates: Any, cost: Any, seconds: Any, tasks: int = 400, repeats: int = 4) -> KnownRuns:
    """Runs that are right in blocks: task ``q`` of configuration ``k`` always, or never."""
    k = len(rates)
    order = np.arange(tasks) * 7919 % tasks
    right = np.stack([(order + 37 * i) % tasks < rate * tasks for i, rate in enumerate(rates)], axis=1)
    shape = (tasks, k, repeats)
    full = np.broadcast_to(right[:, :, None], shape).copy()
    spread = [np.broadcast_to(np.asarray(v, float)[None, :, None], shape).copy() for v in (cost, seconds)]
    names = tuple(f"m{i}" for i in range(k))
    return KnownRuns("made up", True, names, names, full, *spread)


def figure(figures: Any, start: str) -> Figure:
    return next(f for f in figures if f.what.startswith(start))


def test_success_at_n_is_unbiased() -> None:
    runs = made_up([0.5, 0.5], [1, 1], [1, 1], tasks=2)
    runs.right[:] = [[[True, False, False, False], [True] * 4], [[False] * 4, [True, True, False, False]]]
    assert success_at(runs, 1).tolist() == [[0.25, 1.0], [0.0, 0.5]]
    assert success_at(runs, 2).tolist() == [[0.5, 1.0], [0.0, pytest.approx(1 - 1 / 6)]]
    assert success_at(runs, 4).tolist() == [[1.0, 1.0], [0.0, 1.0]]


def test_four_small_runs_gain_nothing_where_repeats_are_alike() -> None:
    # the dear one is weak: a pair that wins; the best one is dear: no pair wins against it
    found = four_small_runs(Given(made_up([0.4, 0.2, 0.6], [1.0, 8.0, 9.0], [1, 1, 1])))
    assert figure(found, "pairs in which").value == pytest.approx(50.0)  # m0 against m1, not against m2
    gain = figure(found, "success, four")
    assert "m0 against m1" in gain.what
    assert gain.value == pytest.approx(20.0, abs=0.5)
    assert figure(found, "its cost").value == pytest.approx(-50.0)
    assert figure(found, "the same against the best").value == pytest.approx(-20.0, abs=0.5)


def test_the_gap_is_that_of_the_median_configuration() -> None:
    runs = made_up([0.5, 0.5, 0.5], [1, 1, 1], [1, 1, 1], repeats=10)
    runs.right[:, 1] = np.arange(10) < 1  # one of ten, always another success@n: 10 % to 100 %
    runs.right[:, 2] = np.arange(10) < 5
    gaps = [100 * (success_at(runs, 10) - runs.rate)[:, k].mean() for k in range(3)]
    assert gaps == pytest.approx([0.0, 90.0, 50.0])
    found = success_gap(Given(runs))
    assert figure(found, "success@10 minus success@1, median").value == pytest.approx(50.0)


def test_solved_by_all_multiplies_and_prefers_different_makers() -> None:
    runs = replace(made_up([1.0, 1.0, 0.5, 0.4], [1] * 4, [1] * 4), families=("x", "x", "y", "z"))
    runs.right[:, 2, :2], runs.right[:, 2, 2:] = True, False  # half of the runs, of every task
    assert figure(solved_by_all(Given(runs)), "solved by each of the best three").value == pytest.approx(20.0, abs=1.0)


def test_the_shortest_path_is_hindsight_and_the_race_is_not() -> None:
    found = shortest_path(Given(made_up([1.0] * 3, [1] * 3, [10.0, 20.0, 30.0])))
    assert figure(found, "all runs").value == pytest.approx(2.0)
    assert figure(found, "what can be had").value == pytest.approx(2.0)  # the fastest is known
    blocks = made_up([0.25] * 4, [1] * 4, [8.0] * 4)
    assert figure(shortest_path(Given(blocks)), "all runs").value == pytest.approx(1.0)


def test_a_mix_of_complements_beats_repeats() -> None:
    # two halves of the tasks: m0 and m1 solve one each, m2 is best alone and dear
    runs = made_up([0.5, 0.5, 0.6], [1.0, 1.0, 10.0], [1.0, 2.0, 50.0])
    runs.right[:, 1] = ~runs.right[:, 0]
    assert cheapest_mix(runs, 0.6) == [0, 1]
    found = ensemble_against_repeats(Given(runs))
    assert figure(found, "success, mix").value == pytest.approx(40.0, abs=0.1)
    assert figure(found, "cost, all at once").value == pytest.approx(100 * (2 / 40 - 1))
    assert figure(found, "time").value < -90
    verdict = next(claim for claim in CLAIMS if claim.id == "diverse-ensemble").holds
    assert verdict(found) is True
    assert verdict([replace(f, value=-40.0) if f.what.startswith("cost, all") else f for f in found]) is False


def test_plans_are_opposite_where_calls_can_be_cancelled() -> None:
    runs = made_up([0.5, 0.5, 0.6], [1.0, 1.5, 2.0], [5.0, 6.0, 7.0])
    runs.right[:, 1] = ~runs.right[:, 0]
    found = opposite_plans(Given(runs))
    assert figure(found, "waves of the fastest").value == 1
    assert figure(found, "waves of the cheapest").value == 2
    assert figure(found, "cost of the best plan with one").value == pytest.approx(0.0)
    assert figure(found, "cost of the fastest").low > 0
    assert figure(found, "time of the fastest").high < 0
    assert next(claim for claim in CLAIMS if claim.id == "opposite-plans").holds(found) is True


def test_first_accepted_is_the_formula() -> None:
    right = np.array([[False, True], [True, False], [False, False]])
    t, f = 0.9, 0.2
    assert first_accepted(right, t, f) == pytest.approx([(1 - f) * t + (1 - f) * (1 - t), t, 0.0])
    assert first_accepted(right, 1.0, 0.0).tolist() == [1.0, 1.0, 0.0]


def test_intervals_cover_and_halves_part() -> None:
    rng = np.random.default_rng(3)
    runs = made_up([0.5], [1], [1])
    inside = 0
    for _ in range(60):
        found = mean_figure("x", runs, (rng.random(80) < 0.3).astype(float), "%")
        inside += found.low <= 30.0 <= found.high
    assert inside >= 52
    one, two = halves(101)
    assert sorted([*one, *two]) == list(range(101))
    assert bootstrap(lambda q: float("nan"), 5)[1] != bootstrap(lambda q: 1.0, 5)[1]


def test_a_retry_without_a_stop_pays_for_every_turn() -> None:
    from brownout.envs.router_core import RouterCore
    from brownout.trainers.baselines import Desk
    from brownout.trainers.evaluation import play

    core = RouterCore(load_scenario("overnight-loop", list(UNLIMITED)), 64, split="eval")
    costs = []
    for turns in (1, 4, 16):
        records = play(AskAgain(Desk(core), core, 0, turns), core, 300)
        costs.append(records.component("cost_usd"))
        assert records.launches[0] <= 300 * turns
        assert not records.launches[1:].any()
    assert (costs[1] >= costs[0]).all()
    assert (costs[2] >= costs[1]).all()
    assert costs[2].mean() > 2 * costs[1].mean() > 2 * costs[0].mean()


def test_without_a_table_the_page_says_what_is_missing(tmp_path: Path) -> None:
    findings = measure_claims(Evidence(tmp_path, tasks=300), claims=FAST)
    text = to_markdown(findings, Evidence(tmp_path, tasks=300))
    assert text.count("not measured; give a folder that holds mcpmark.parquet or mcpmark.csv") == 6
    assert {f.where for finding in findings for f in finding.figures} == {"browsecomp, simulated"}
    for finding in findings:
        for text_of in (finding.claim.claim, finding.claim.published, finding.claim.source, finding.claim.how):
            assert text_of in text


def test_a_recorded_table_is_used(tmp_path: Path) -> None:
    with (tmp_path / "mcpmark.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["query_id", "config", "sample", "success", "cost_usd", "latency_s"])
        for q in range(60):
            for k, name in enumerate(("a-small", "b-large", "c-huge")):
                for sample in range(4):
                    out.writerow([f"q{q}", name, sample, int((q * (k + 3) + sample * k) % 5 < 2 + k), 4**k, 10 + k])
    evidence = Evidence(tmp_path, tasks=300)
    runs = evidence.table("mcpmark")
    assert runs is not None
    assert (runs.configs, runs.families, runs.right.shape) == (
        ("a-small", "b-large", "c-huge"), ("a", "b", "c"), (60, 3, 4),
    )  # fmt: skip
    findings = measure_claims(evidence, claims=[claim for claim in FAST if claim.id == "success-at-ten"])
    assert findings[0].missing == ()
    places = [f.where for f in findings[0].figures]
    assert list(dict.fromkeys(places)) == [
        "MCPMark, recorded", "fitted to MCPMark, simulated", "browsecomp, simulated",
    ]  # fmt: skip
    recorded = figure(findings[0].figures, "success@4 minus success@1, median")
    assert recorded.value == pytest.approx(100 * np.median((runs.right.any(axis=2) - runs.rate).mean(axis=0)))
    assert findings[0].holds["MCPMark, recorded"] in (None, False)  # four runs cannot show ten
    assert "table `mcpmark`" in stamps(evidence)


def test_a_missing_library_is_said_and_not_hidden() -> None:
    def fails(evidence: Evidence) -> tuple[Figure, ...]:
        raise missing_extra("train", ImportError("no torch", name="torch"))

    claim = replace(CLAIMS[-1], measure=fails)
    (finding,) = measure_claims(Evidence(None), claims=[claim])
    assert finding.figures == ()
    assert "torch is not installed" in finding.missing[0]
    assert "not measured" in to_markdown([finding], Evidence(None))


def test_a_learned_stop_ends_the_loop() -> None:
    found = loop_figures(Evidence(None, tasks=400, steps=120_000))
    assert figure(found, "the trained policy: 99th").value < figure(found, "retries without a stop: 99th").value / 2
    assert figure(found, "utility per request, trained policy minus retries").low > 0


# ---------------------------------------------------------------- the page


def test_the_page_is_that_of_this_code() -> None:
    """Registry, scenarios and every simulated figure; measured anew, without the recorded table."""
    page = PAGE.read_text(encoding="utf-8")
    evidence = Evidence(None)
    for name, value in stamps(evidence).items():
        assert stamp(name, value) in page, "stale: run brownout claims --data DIR --out docs/claims.md"
    for claim in CLAIMS:
        for text in (claim.claim, claim.published, claim.source, claim.note, claim.how, claim.rule, claim.why):
            assert text in page, f"stale: {claim.id}"
    findings = measure_claims(evidence, claims=FAST)
    for finding in findings:
        for found in finding.figures:
            assert row(found) in page, f"stale: {finding.claim.id}: {row(found)}"
    assert "not measured" not in page  # it was written with the table


@pytest.mark.skipif("BROWNOUT_DATA" not in os.environ, reason="BROWNOUT_DATA names no folder of recorded tables")
def test_recorded_figures_on_the_page_skipped_without_the_tables() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for finding in measure_claims(Evidence(Path(os.environ["BROWNOUT_DATA"])), claims=FAST):
        for found in finding.figures:
            assert row(found) in page, finding.claim.id


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "docs" / "claims.md"
    assert main(["claims", "--tasks", "200", "--steps", "20000", "--out", str(target), "--json"]) == 0
    data = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(name))
    assert [claim["id"] for claim in data["claims"]] == [claim.id for claim in CLAIMS]
    text = target.read_text(encoding="utf-8")
    for claim in data["claims"]:
        assert claim["figures"], claim["id"]
        for found in claim["figures"]:
            assert f"| {found['what']} | {found['where']} |" in text
    assert main(["claims", "--data", str(tmp_path / "nowhere")]) == 2
    assert "no folder" in capsys.readouterr().err
