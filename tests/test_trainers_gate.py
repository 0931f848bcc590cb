"""The gate: intervals decide, small or broken runs never pass, baselines are paired episode by episode."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from brownout.errors import ArtefactError, GateError, StressError
from brownout.trainers.gate import GateResult, run_gate
from brownout.trainers.gate_config import GateConfig, read_gate
from brownout.trainers.gate_output import append_markdown, markdown_of, write_junit
from brownout.trainers.statistics import mean, proportion
from brownout.trainers.stress_report import EffectRow, Figure, StressReport, write_report
from brownout.trainers.stress_rows import EpisodeRow

N = 200


def row(episode: int, success: bool, condition: str = "faulted", **more: Any) -> EpisodeRow:
    outcome = "success" if success else "silent_garbage"
    values: dict[str, Any] = {
        "scenario": "refund", "scenario_hash": "h", "profile": "production", "intensity": 1.0, "split": "eval",
        "seed": 0, "episode": episode, "condition": condition, "valid": True, "outcome": outcome, "success": success,
        "utility": float(success), "cost_usd": 0.1, "latency_s": 2.0, "calls": 5, "agent_outcome": "finished",
        "wall_s": 0.1,
    }  # fmt: skip
    return EpisodeRow.model_validate(values | more)


def write_run(folder: Path, succeeds: Callable[[int], bool] = lambda _: True, n: int = N, **report: Any) -> Path:
    """A run of ``n`` faulted and clean episodes; which faulted ones succeed is given."""
    folder.mkdir()
    rows = [row(i, succeeds(i)) for i in range(n)] + [row(i, True, "clean") for i in range(n)]
    (folder / "episodes.jsonl").write_text("".join(one.to_line() for one in rows))
    wins = [float(succeeds(i)) for i in range(n)]
    figure = Figure.of(proportion(wins), "share", "higher")
    struck = [win for i, win in enumerate(wins) if i % 2]
    good = int(sum(struck))
    values: dict[str, Any] = {
        "version": "0", "agent": "a.py:handle", "scenario": "refund", "scenario_hash": "h", "profile": "production",
        "intensity": 1.0, "split": "eval", "seed": 0, "episodes": n, "repeats": 1, "planned": 2 * n, "valid": 2 * n,
        "invalid": {}, "wall_s": 1.0,
        "conditions": {"clean": {"success": Figure.of(proportion([1.0] * n), "share", "higher")},
                       "faulted": {"success": figure, "cost_usd": Figure.of(mean([0.1] * n), "USD", "lower")}},
        "paired": {"success": Figure.of(mean([win - 1.0 for win in wins]), "share", "higher")},
        "outcomes": {"clean": {"success": n}, "faulted": {"success": int(sum(wins)), "partial": n - int(sum(wins))}},
        "agent_outcomes": {"clean": {"finished": n}, "faulted": {"finished": n}},
        "effects": [EffectRow(
            effect="timeout", family="services", struck=len(struck), loss=figure, success_loss=figure,
            recovery=Figure.of(proportion(struck), "share", "higher"),
            outcomes={"success": good, "partial": len(struck) - good},
        )],
        "smallest_detectable": {"success": 0.05},
    }  # fmt: skip
    whole = StressReport.model_validate(values | report)
    write_report(folder, whole)
    same = ("version", "agent", "scenario", "scenario_hash", "profile", "intensity", "split", "seed", "evalset")
    told = {name: getattr(whole, name) for name in (*same, "limits", "repeats")}
    (folder / "config.json").write_text(json.dumps(told))
    return folder


def gate(*thresholds: dict[str, Any], **more: Any) -> GateConfig:
    return GateConfig.model_validate({"thresholds": list(thresholds), **more})


def judge(config: GateConfig, run: Path, baseline: Path | None = None) -> GateResult:
    return run_gate(config, run, baseline)


@pytest.mark.parametrize(
    ("bound", "verdict", "status"),
    [({"at_least": 0.8}, "pass", 0), ({"at_least": 0.97}, "fail", 1), ({"at_least": 0.89}, "undecided", 2),
     ({"at_most": 0.95}, "pass", 0), ({"at_most": 0.8}, "fail", 1), ({"at_least": 0.8, "at_most": 0.95}, "pass", 0)],
)  # fmt: skip
def test_the_interval_decides(tmp_path: Path, bound: dict[str, float], verdict: str, status: int) -> None:
    run = write_run(tmp_path / "run", lambda i: i % 10 != 0)  # 90 % of 200: [0.851, 0.934]
    result = judge(gate({"metric": "success", **bound}), run)
    assert (result.verdict, result.exit_status) == (verdict, status)


def test_an_undecided_threshold_says_how_many_episodes_would_do(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", lambda i: i % 10 != 0)
    (check,) = judge(gate({"metric": "success", "at_least": 0.88}), run).checks
    low = proportion([float(i % 10 != 0) for i in range(N)]).low
    assert f"about {int(N * ((0.9 - low) / 0.02) ** 2) + 1} values" in check.reason


def test_every_kind_of_figure_can_be_asked_for(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", lambda i: i % 10 != 0)
    result = judge(
        gate(
            {"metric": "success", "of": "clean", "at_least": 0.95},
            {"metric": "success", "of": "paired", "at_least": -0.2},
            {"metric": "recovery", "effect": "timeout", "at_least": 0.9},
        ),
        run,
    )
    assert [check.verdict for check in result.checks] == ["pass", "pass", "pass"]
    assert result.checks[1].detectable == 0.05


def test_one_failed_check_fails_the_gate_and_one_undecided_check_never_passes(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", lambda i: i % 10 != 0)
    good, open_, bad = ({"metric": "success", "at_least": bound} for bound in (0.5, 0.89, 0.99))
    assert judge(gate(good), run).verdict == "pass"
    assert judge(gate(good, open_), run).verdict == "undecided"
    assert judge(gate(good, open_, bad), run).verdict == "fail"


@pytest.mark.parametrize(
    ("report", "needs", "match"),
    [
        ({}, {"episodes": 500}, "the run has 200"),
        ({"planned": 420, "invalid": {"harness_error": 20}}, {}, "20 harness_error"),
        ({"planned": 420, "unplayed": 20, "stopped": "time limit"}, {}, "time limit"),
    ],
)
def test_too_few_invalid_or_missing_episodes_are_never_a_pass(
    tmp_path: Path, report: dict[str, Any], needs: dict[str, Any], match: str
) -> None:
    run = write_run(tmp_path / "run", **report)
    result = judge(gate({"metric": "success", "at_least": 0.5}, needs=needs), run)
    assert result.exit_status == 2
    assert any(match in check.reason for check in result.checks)


def test_an_undefined_figure_is_undecided(tmp_path: Path) -> None:
    nothing = Figure(value=float("nan"), low=float("nan"), high=float("nan"), n=0, unit="s", better="lower")
    run = write_run(tmp_path / "run", conditions={"clean": {}, "faulted": {"latency_s.p99": nothing}})
    assert judge(gate({"metric": "latency_s.p99", "at_most": 10.0}), run).verdict == "undecided"


def test_a_baseline_is_compared_episode_by_episode(tmp_path: Path) -> None:
    old = write_run(tmp_path / "old", lambda i: i % 10 != 0)
    new = write_run(tmp_path / "new", lambda i: i % 20 != 0)
    result = judge(gate({"metric": "success", "of": "baseline", "at_least": 0.0}), new, old)
    (check,) = result.checks
    assert check.figure is not None
    assert check.figure.value == pytest.approx(0.05)
    assert check.figure.n == N
    assert result.verdict == "pass"
    assert judge(gate({"metric": "success", "of": "baseline", "at_least": 0.0}), old, new).verdict == "fail"


def test_two_equal_runs_are_not_taken_for_certainly_equal(tmp_path: Path) -> None:
    a, b = (write_run(tmp_path / name, n=40) for name in "ab")
    rule = {"metric": "success", "of": "baseline"}
    assert judge(gate({**rule, "at_least": -0.01}), a, b).verdict == "undecided"
    assert judge(gate({**rule, "at_least": -0.12}), a, b).verdict == "pass"


def test_a_candidate_is_promoted_when_no_worse_and_better_in_something(tmp_path: Path) -> None:
    old = write_run(tmp_path / "old", lambda i: i % 5 != 0)
    new = write_run(tmp_path / "new", lambda i: i % 20 != 0)
    rule = GateConfig.model_validate(
        {"promotion": {"not_worse": {"success": 0.02, "cost_usd": 0.01}, "better": ["cost_usd", "utility"]}}
    )
    assert judge(rule, new, old).verdict == "pass"
    assert judge(rule, old, new).verdict == "fail"
    same = write_run(tmp_path / "same", lambda i: i % 5 != 0)
    assert judge(rule, same, old).verdict == "fail"


def test_a_baseline_of_other_episodes_is_refused(tmp_path: Path) -> None:
    rule = gate({"metric": "success", "of": "baseline", "at_least": 0.0})
    run = write_run(tmp_path / "run")
    with pytest.raises(StressError, match="not runs of the same episodes: scenario_hash: h and other"):
        judge(rule, run, write_run(tmp_path / "other", scenario_hash="other"))
    with pytest.raises(GateError, match="baseline: none given"):
        judge(rule, run)
    fewer = write_run(tmp_path / "fewer", n=100)
    assert judge(rule, run, fewer).verdict == "undecided"
    with pytest.raises(ArtefactError, match="nowhere"):
        judge(rule, run, tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("rule", "match"),
    [
        ({"metric": "sucess", "at_least": 0.5}, "no metric 'sucess'; the run has success"),
        ({"metric": "recovery", "effect": "outage", "at_least": 0.5}, "struck no episode; those that did: timeout"),
        ({"metric": "success", "effect": "timeout", "at_least": 0.5}, "allowed with effect: recovery"),
        ({"metric": "alone", "effect": "timeout", "at_most": 0.5}, "--isolate"),
        ({"metric": "recovery", "of": "baseline", "at_most": 0.5}, "cannot be paired"),
    ],
)
def test_a_question_the_run_cannot_answer_is_refused(tmp_path: Path, rule: dict[str, Any], match: str) -> None:
    run = write_run(tmp_path / "run")
    with pytest.raises(GateError, match=match):
        judge(gate(rule), run, write_run(tmp_path / "base"))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("thresholds:\n  - {metric: success}\n", r"gate.yaml:2: .*give at_least or at_most"),
        ("thresholds:\n  - {metric: success, atleast: 1}\n", r"gate.yaml:2: .*did you mean 'at_least'"),
        ("thresholds: []\n", "let everything through"),
        ("thresholds:\n  - {metric: success, at_least: .nan}\n", "at_least"),
        ("thresholds:\n  - {metric: success, at_least: 0.9, at_most: 0.1}\n", "nothing could pass"),
        ("- 1\n", "must be a mapping"),
        ("thresholds: [\n", "not valid YAML"),
        ("version: 2\nthresholds:\n  - {metric: success, at_least: 0.9}\n", "version"),
    ],
)
def test_a_bad_file_is_refused_with_line_and_field(tmp_path: Path, text: str, match: str) -> None:
    path = tmp_path / "gate.yaml"
    path.write_text(text)
    with pytest.raises(GateError, match=match):
        read_gate(path)


def test_the_command_exits_by_the_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from brownout import cli

    write_run(tmp_path / "run", lambda i: i % 10 != 0)
    for bound, status in ((0.8, 0), (0.99, 1), (0.89, 2)):
        path = tmp_path / "gate.yaml"
        path.write_text(f"report: run\nthresholds:\n  - {{metric: success, at_least: {bound}}}\n")
        arguments = ["gate", "--config", str(path), "--json", "--junit", str(tmp_path / f"{status}.xml")]
        assert cli.main(arguments) == status
        told = json.loads(capsys.readouterr().out)
        assert told["verdict"] == ["pass", "fail", "undecided"][status]
    suite = ElementTree.parse(tmp_path / "1.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("1", "1", "0")


def test_markdown_is_added_to_what_is_there(tmp_path: Path) -> None:
    result = judge(gate({"metric": "success", "at_least": 0.5}), write_run(tmp_path / "run"))
    summary = tmp_path / "summary.md"
    summary.write_text("# Before\n")
    append_markdown(result, summary)
    assert summary.read_text() == "# Before\n" + markdown_of(result)
    assert "| ✅ pass | success >= 0.5 |" in markdown_of(result)
    with pytest.raises(GateError, match="cannot be written"):
        write_junit(result, tmp_path / "no" / "such" / "folder.xml")
