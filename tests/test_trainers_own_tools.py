"""Stress runs over a team's own tools: the same runner, rows, summary and gate as over a workflow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import own_cases
from brownout.cli import main
from brownout.envs.wrap_types import ToolError
from brownout.errors import AgentError, BrownoutError, FaultError, StressError
from brownout.trainers.freeze import freeze_run
from brownout.trainers.own_episode import OwnEpisode
from brownout.trainers.own_tools import OwnTools, as_data, as_text
from brownout.trainers.stress import stress
from brownout.trainers.stress_agents import load_agent
from brownout.trainers.stress_play import Job, Stage
from brownout.trainers.stress_replay import open_source, replay, replay_with
from brownout.trainers.stress_report import StressReport
from brownout.trainers.stress_rows import EpisodeRow, read_rows
from brownout.trainers.stress_watch import Limits

CASES = Path(own_cases.__file__)
EXAMPLES = Path(__file__).parents[1] / "examples" / "own_tools"
PLAN = """\
- {fault: timeout, after_s: 30, applied: 1.0, when: "on('pay') & nth_call(1)"}
- {fault: server-error, code: 503, when: "on('due') & rate(0.5)"}
"""


def at(name: str) -> str:
    return f"{CASES}:{name}"


@pytest.fixture
def own(tmp_path: Path) -> OwnTools:
    (tmp_path / "storm.yaml").write_text(PLAN, encoding="utf-8")
    return OwnTools.of(at("make"), tmp_path / "storm.yaml", at("check"))


def run(agent: str, own: OwnTools, out: Path, **options: Any) -> tuple[StressReport, list[EpisodeRow]]:
    defaults: dict[str, Any] = {"episodes": 2, "limits": Limits(max_calls=12, timeout_s=30.0, loop_after=8)}
    report = stress(at(agent), own, out=out, **defaults | options)
    return report, sorted(read_rows(out), key=lambda row: row.key)


def comparable(rows: list[EpisodeRow]) -> list[dict[str, Any]]:
    return [json.loads(row.to_line()) | {"wall_s": None} for row in rows]


def test_a_run_over_own_tools(own: OwnTools, tmp_path: Path) -> None:
    report, rows = run("good", own, tmp_path / "a", episodes=8, isolate=True, intensities=(2.0,))
    assert (report.scenario, report.scenario_hash, report.profile) == ("storm", own.hash, "plan")
    assert report.conditions["clean"]["success"].value == 1.0
    assert report.outcomes["faulted"] == {"duplicate_effect": 8}  # the payment that timed out had been made
    assert report.outcomes["only:server-error"] == {"success": 8}
    assert report.outcomes["only:timeout"] == {"duplicate_effect": 8}
    assert len(report.intensity_curve) == 3
    clean, faulted = (next(row for row in rows if row.condition == name) for name in ("clean", "faulted"))
    assert (clean.calls, clean.cost_usd, clean.latency_s, clean.utility) == (2, 0.5, 1.25, 1.0)
    assert clean.agent_outcome == "returned"
    assert len({row.calls for row in rows if row.condition == "faulted"}) > 1  # every episode has faults of its own
    assert not clean.injections
    assert faulted.utility == -2.0
    assert faulted.duplicate_effects == 1
    assert {(one.effect, one.family) for row in rows for one in row.injections} == {
        ("timeout", "services"), ("server-error", "services"),
    }  # fmt: skip
    assert any("! timeout at pay, after the work was done" in line for line in faulted.timeline)
    assert report.effects[0].effect == "timeout"


def test_the_same_whatever_the_workers_and_resumed(own: OwnTools, tmp_path: Path) -> None:
    _, one = run("good", own, tmp_path / "a", episodes=6)
    _, two = run("good", own, tmp_path / "b", episodes=6, workers=2)
    assert comparable(one) == comparable(two)
    assert len({row.digest for row in one}) == 12
    lines = (tmp_path / "b" / "episodes.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "b" / "episodes.jsonl").write_text("".join(lines[:5]), encoding="utf-8")
    _, three = run("good", own, tmp_path / "b", episodes=6, resume=True)
    assert comparable(three) == comparable(one)
    (tmp_path / "other.yaml").write_text(PLAN.replace("0.5", "0.6"), encoding="utf-8")
    other = OwnTools.of(at("make"), tmp_path / "other.yaml", at("check"))
    with pytest.raises(StressError, match="scenario_hash"):
        run("good", other, tmp_path / "b", episodes=6, resume=True)


def play(agent: str, own: OwnTools, condition: str = "clean") -> EpisodeRow:
    """One episode in this process."""
    stage = Stage(own, Limits(max_calls=12, loop_after=8))
    job = Job(condition, 0, 0, 0, "plan", float(condition != "clean"), "eval")
    return stage.play(job, load_agent(at(agent)), lambda event: None, lambda how: None)


@pytest.mark.parametrize(
    ("agent", "how", "outcome"),
    [
        ("good", "returned", "success"),
        ("lazy", "returned", "silent_garbage"),  # it said done
        ("breaks", "crash", "partial"),
        ("gone", "crash", "success"),  # the work was done all the same
        ("spins", "loop", "limit"),
        ("counts", "limit", "limit"),
    ],
)
def test_how_an_agent_ends(own: OwnTools, agent: str, how: str, outcome: str) -> None:
    row = play(agent, own)
    assert (row.agent_outcome, row.outcome, row.success, row.valid) == (how, outcome, outcome == "success", True)
    if agent == "counts":
        assert row.calls == 12


def test_an_agent_that_dies(own: OwnTools, tmp_path: Path) -> None:
    report, rows = run("dies", own, tmp_path / "a", episodes=1)
    row = next(row for row in rows if row.condition == "clean")
    assert (row.agent_outcome, row.outcome, row.calls, row.latency_s) == ("killed", "partial", 1, 0.25)  # as it told
    assert report.valid == 2


def test_an_agent_that_hangs(own: OwnTools, tmp_path: Path) -> None:
    report, rows = run("hangs", own, tmp_path / "a", episodes=1, limits=Limits(timeout_s=0.6))
    assert {row.agent_outcome for row in rows} == {"hang"}
    assert report.valid == 2


def test_tools_without_world_seed_or_check() -> None:
    assert play("ping", OwnTools("none", at("bare"), at("ping_check"), ())).success
    unchecked = OwnTools("none", at("bare"), None, ())
    assert play("ping", unchecked).outcome == "success"
    assert play("breaks", unchecked).outcome == "partial"


@pytest.mark.parametrize(
    ("check", "message"),
    [("odd_check", "outcome: got 'excellent'; allowed: success"), ("broken_check", "LookupError: no ledger")],
)
def test_a_check_that_fails_gives_no_score(own: OwnTools, check: str, message: str) -> None:
    row = play("good", OwnTools(own.name, own.tools, at(check), own.specs))
    assert not row.valid
    assert row.outcome == "harness_error"
    assert message in str(row.error)


@pytest.mark.parametrize(
    ("tools", "check", "message"),
    [
        ("absent", None, "tools .*has no 'absent'"),
        ("make", "absent", "check .*has no 'absent'"),
        ("make", "lazy", "cannot be called with a world and an answer"),
        ("no_tools", None, "made a list; allowed: tools by name"),
        ("no_making", None, "making them failed: OSError: no database"),
        ("bare", None, "'pay'.* ping"),  # the plan names a tool that is not there
    ],
)
def test_what_cannot_work_is_refused(own: OwnTools, tools: str, check: str | None, message: str) -> None:
    bad = OwnTools(own.name, at(tools), check and at(check), own.specs)
    with pytest.raises(BrownoutError, match=message):
        bad.prepare(load_agent(at("good")))


def test_a_run_is_refused_before_its_first_episode(own: OwnTools, tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="making them failed"):
        run("good", OwnTools(own.name, at("no_making"), None, own.specs), tmp_path / "a")
    assert not read_rows(tmp_path / "a")


def test_what_does_not_go_together_is_refused(own: OwnTools, tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="called in its process"):
        own.prepare(load_agent("http:python agent.py"))
    with pytest.raises(StressError, match="one plan of faults"):
        run("good", own, tmp_path / "a", profile="hostile")
    with pytest.raises(StressError, match="split: got 'train'"):
        run("good", own, tmp_path / "a", split="train")
    with pytest.raises(FaultError, match="cannot be read as a plan"):
        OwnTools.of(at("make"), tmp_path / "absent.yaml", None)


def test_replay_needs_an_agent_and_nothing_is_frozen(own: OwnTools, tmp_path: Path) -> None:
    report, _ = run("good", own, tmp_path / "a", episodes=1)
    assert report.worst[0].replay.endswith(f"--agent {at('good')}")
    source = open_source(tmp_path / "a")
    with pytest.raises(StressError, match="name an agent"):
        list(replay(source))
    (again,) = replay_with(source, at("good"))
    assert again.identical
    (other,) = replay_with(source, at("lazy"))
    assert not other.identical
    with pytest.raises(StressError, match="cannot be frozen"):
        freeze_run(tmp_path / "a", tmp_path / "set.jsonl")


def test_calls_after_the_end_are_refused(own: OwnTools) -> None:
    stage = Stage(own, Limits(max_calls=1))
    episode = stage.open(Job("clean", 0, 0, 0, "plan", 0.0, "eval"))
    assert isinstance(episode, OwnEpisode)
    episode.session["due"]()
    with pytest.raises(ToolError, match="410"):
        episode.session["due"]()
    assert (episode.result().outcome, episode.result().calls) == ("limit", 1)


def test_arguments_and_answers_as_text() -> None:
    assert as_data((1, "a"), {"b": [2]}) == {"0": 1, "1": "a", "b": [2]}
    assert as_text(object()) == as_text(object())
    assert as_text({1: 2, "a": 3}) == as_text({1: 2, "a": 3})  # keys that cannot be sorted


def test_command_line_and_gate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a"
    place = ["--tools", f"{EXAMPLES / 'desk.py'}:make", "--check", f"{EXAMPLES / 'desk.py'}:check"]
    agent = f"{EXAMPLES / 'agent.py'}:handle"
    words = ["stress", agent, *place, "--plan", str(EXAMPLES / "plan.yaml"), "-n", "30", "--out", str(out), "--quiet"]
    assert main([*words, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["conditions"]["clean"]["success"]["value"] == 1.0
    assert report["outcomes"]["faulted"]["duplicate_effect"] > 0
    assert main(["report", str(out), "--out", str(tmp_path / "page.html")]) == 0
    assert "nothing came back: ToolTimeout" in (tmp_path / "page.html").read_text(encoding="utf-8")
    capsys.readouterr()
    gate = tmp_path / "gate.yaml"
    gate.write_text("version: 1\nthresholds:\n  - {metric: success, of: clean, at_least: 0.8}\n", encoding="utf-8")
    assert main(["gate", str(out), "--config", str(gate)]) == 0
    gate.write_text("version: 1\nthresholds:\n  - {metric: duplicate_effect, at_most: 0.0001}\n", encoding="utf-8")
    assert main(["gate", str(out), "--config", str(gate)]) != 0
    for wrong in (["stress", agent, *place], ["stress", agent, "-s", "refund", "--plan", str(EXAMPLES / "plan.yaml")]):
        assert main(wrong) == 2
    assert "--tools needs --plan" in capsys.readouterr().err
