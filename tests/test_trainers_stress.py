"""Stress runs with real processes: agents that die, hang and loop; runs that are killed and go on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import stress_cases
from brownout.envs.tools import ToolEpisode
from brownout.errors import AgentError, ArtefactError, ScenarioError, StressError
from brownout.scenarios import load_scenario
from brownout.trainers.stress import agent_spec, stress
from brownout.trainers.stress_agents import load_agent
from brownout.trainers.stress_play import Job, Stage
from brownout.trainers.stress_report import StressReport, read_report, report_from
from brownout.trainers.stress_rows import EpisodeRow, read_rows
from brownout.trainers.stress_watch import Limits

CASES = Path(stress_cases.__file__)
QUICK = Limits(max_calls=60, timeout_s=30.0)


def agent(name: str) -> str:
    return f"{CASES}:{name}"


def run(name: str, out: Path, **options: Any) -> StressReport:
    return stress(agent(name), "refund", out=out, **{"limits": QUICK, "episodes": 6, **options})


def comparable(folder: Path) -> list[dict[str, Any]]:
    """The rows without the only field that real time is in."""
    rows = sorted(read_rows(folder), key=lambda row: row.key)
    return [json.loads(row.to_line()) | {"wall_s": None} for row in rows]


def command(out: Path, name: str, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "brownout", "stress", agent(name), "-s", "refund", "--out", str(out), *more],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for_rows(folder: Path, count: int) -> None:
    until = time.monotonic() + 30
    path = folder / "episodes.jsonl"
    while time.monotonic() < until:
        if path.is_file() and len(path.read_bytes().splitlines()) >= count:
            return
        time.sleep(0.02)
    raise AssertionError(f"no {count} episodes in {folder}")


# ---------------------------------------------------------------- agents that end badly

ENDS = {
    "finish": "finished", "return": "returned", "crash": "crash", "exit": "killed", "kill": "killed",
    "segfault": "killed", "hang": "hang", "loop": "loop", "async": "crash", "calls": "limit",
}  # fmt: skip


def test_every_way_to_end_is_a_typed_outcome_and_no_episode_is_lost(tmp_path: Path) -> None:
    episodes = 20
    tasks = [ToolEpisode("refund", 8, intensity=0.0, episode=i).session.task for i in range(episodes)]
    ways = [stress_cases.way(task) for task in tasks]
    assert set(ways) == set(stress_cases.WAYS), "the seed must bring every way to end"
    limits = Limits(max_calls=60, timeout_s=4.0)
    report = run("mixed", tmp_path, episodes=episodes, seed=8, workers=2, limits=limits)

    rows = read_rows(tmp_path)
    assert len(rows) == len({row.key for row in rows}) == report.planned == 2 * episodes
    ends = {(row.condition, row.episode): row.agent_outcome for row in rows}
    assert ends == {(c, i): ENDS[w] for c in ("clean", "faulted") for i, w in enumerate(ways)}
    assert report.valid == 2 * episodes
    assert not report.invalid
    for condition in ("clean", "faulted"):
        assert report.agent_outcomes[condition] == Counter(ENDS[w] for w in ways)
        assert sum(report.outcomes[condition].values()) == episodes
        for name in ("crash", "hang", "killed", "loop"):
            share = sum(ENDS[w] == name for w in ways) / episodes
            assert report.conditions[condition][name].value == pytest.approx(share)
    told = {ways[row.episode]: row.error for row in rows if row.error}
    line = CASES.read_text().splitlines().index('    raise ValueError("no such thing")') + 1
    assert told["crash"] == f"ValueError: no such thing (stress_cases.py:{line})"
    assert told["async"].startswith("RuntimeError: out of ideas (stress_cases.py:")
    assert told["exit"] == "its process ended: exit status 3"
    assert told["kill"] == "its process ended: SIGKILL"
    assert told["segfault"] == "its process ended: SIGSEGV"
    assert told["hang"] == "did not return within 5 s"
    for row in rows:
        assert EpisodeRow.model_validate(json.loads(row.to_line())) == row
        episode = ToolEpisode("refund", 8, intensity=row.intensity, episode=row.episode, max_calls=60)
        if ways[row.episode] in ("exit", "kill", "hang", "return", "segfault", "crash"):
            # an agent that dies leaves the episode that one leaves which returns
            stress_cases.read(episode.session)
            episode.close()
            assert row.digest == episode.result().digest


def test_ceilings_end_the_episode(tmp_path: Path) -> None:
    limited = {
        "spend": ({"max_usd": 0.5}, "limit"),
        "talk": ({"max_calls": 9}, "limit"),
        "spin": ({"loop_after": 5}, "loop"),
    }
    for name, (ceilings, end) in limited.items():
        options = {"timeout_s": 20.0, "max_calls": 40, **ceilings}
        run(name, tmp_path / name, episodes=1, limits=Limits(**options), intensity=0.0)
        for row in read_rows(tmp_path / name):
            assert (row.agent_outcome, row.outcome) == (end, "limit")
            assert row.wall_s < 5.0  # an agent that goes on after the end is stopped, not waited for
            if name == "talk":
                assert row.calls == 9
            if name == "spend":
                assert 0.5 < row.cost_usd == pytest.approx(0.6)
                assert row.reported_usd == pytest.approx(0.6)


def test_waiting_and_new_answers_are_no_loop() -> None:
    stage = Stage(load_scenario("refund"), Limits(loop_after=4, max_calls=40))

    class Driver:
        spec, digest, remote = "test", None, False

        def run(self, episode: Any, stopped: Any) -> None:
            for _ in range(8):
                episode.session.call("clock.wait", seconds=1)
            for number in range(8):
                episode.session.call("nothing.there", number=number)
            for _ in range(4):
                episode.session.call("nothing.there", number=0)
                episode.session.call("requester.messages")  # new the first time, so no loop before

    job = Job("clean", 0, 0, 0, "production", 0.0, "eval")
    row = stage.play(job, Driver(), lambda event: None, lambda how: None)
    assert row.agent_outcome == "loop"
    assert row.calls == 8 + 8 + 1 + 1 + 4


# ---------------------------------------------------------------- the harness


class Broken:
    spec, digest, remote = "test", None, False

    def run(self, episode: Any, stopped: Any) -> None:
        try:
            stress_cases.hand_over(episode.session)
        except Exception:
            return  # an agent that swallows it does not turn it into a score


def test_an_error_of_the_harness_is_never_a_score(monkeypatch: pytest.MonkeyPatch) -> None:
    from brownout.envs.tool_core import ToolCore

    def broken(*_: Any) -> None:
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr(ToolCore, "perform", broken)
    stage = Stage(load_scenario("refund"), Limits())
    row = stage.play(Job("clean", 0, 0, 0, "production", 0.0, "eval"), Broken(), lambda e: None, lambda h: None)
    assert not row.valid
    assert row.outcome == "harness_error"
    assert row.utility != row.utility
    assert "a bug of ours" in str(row.error)
    missing = Stage(load_scenario("refund"), Limits())
    row = missing.play(Job("clean", 0, 0, 0, "nowhere", 0.0, "eval"), Broken(), lambda e: None, lambda h: None)
    assert not row.valid


def test_the_same_rows_with_one_worker_and_with_three(tmp_path: Path) -> None:
    for workers in (1, 3):
        run("hand_over", tmp_path / str(workers), episodes=6, workers=workers, repeats=2)
    one, three = (comparable(tmp_path / name) for name in ("1", "3"))
    assert one == three
    assert len({row["digest"] for row in one}) > 6  # other episodes, other digests
    reports = [read_report(tmp_path / name).model_dump() for name in ("1", "3")]
    for report in reports:
        report["wall_s"] = None
        report["worst"] = [{**worst, "replay": None} for worst in report["worst"]]
    assert json.dumps(reports[0]) == json.dumps(reports[1])


def test_an_async_agent_and_a_plain_one_do_the_same(tmp_path: Path) -> None:
    for name in ("hand_over", "patient"):
        run(name, tmp_path / name, episodes=3)
    assert comparable(tmp_path / "hand_over") == comparable(tmp_path / "patient")


# ---------------------------------------------------------------- runs that are cut short


def test_a_run_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    options = ("-n", "8", "--workers", "2", "--timeout", "30", "--max-calls", "60")
    process = command(broken, "slow", *options)
    wait_for_rows(broken, 5)
    process.kill()
    process.communicate(timeout=10)
    with (broken / "episodes.jsonl").open("ab") as file:
        file.write(b'{"scenario":"refund","cut')
    before = len(read_rows(broken))
    assert 5 <= before < 16
    said: list[str] = []
    report = run("slow", broken, episodes=8, workers=2, resume=True, say=said.append)
    assert said[0] == f"{before} episodes are done already"
    assert "cut off" in said[1]
    assert report.complete
    run("slow", whole, episodes=8, workers=2)
    assert comparable(broken) == comparable(whole)


def test_workers_end_with_the_run(tmp_path: Path) -> None:
    process = command(tmp_path, "mixed", "-n", "40", "--workers", "2", "--timeout", "60", "--seed", "8")
    wait_for_rows(tmp_path, 3)
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True)
    pids = [int(pid) for pid in children.stdout.split()]
    assert pids
    process.kill()
    process.communicate(timeout=10)
    until = time.monotonic() + 10
    while any(_alive(pid) for pid in pids) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(_alive(pid) for pid in pids)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_so_and_can_be_resumed(tmp_path: Path, number: signal.Signals) -> None:
    process = command(tmp_path, "slow", "-n", "6")
    wait_for_rows(tmp_path, 3)
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 1, err
    assert "--resume plays them" in out
    report = read_report(tmp_path)
    assert report.stopped == "interrupted"
    assert report.unplayed == 12 - report.valid > 0
    done = stress(agent("slow"), "refund", episodes=6, out=tmp_path, resume=True)
    assert done.complete
    assert done.stopped is None
    assert done.wall_s > report.wall_s


def test_limits_of_the_run(tmp_path: Path) -> None:
    report = run("hand_over", tmp_path / "cost", episodes=5, cost_limit_usd=0.045)
    assert (report.stopped, report.valid, report.unplayed) == ("cost limit", 5, 5)
    report = run("slow", tmp_path / "time", episodes=200, time_limit_s=4.0)
    assert report.stopped == "time limit"
    assert 0 < report.unplayed < 400
    done = run("hand_over", tmp_path / "cost", episodes=5, resume=True)
    assert done.complete
    report = run("finish", tmp_path / "silent", episodes=2, cost_limit_usd=1.0)
    assert any("reported no cost" in note for note in report.notes)


def test_resume_refuses_another_configuration(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(CASES.read_text())
    folder = tmp_path / "run"

    def again(**options: Any) -> None:
        given = {"episodes": 2, "out": folder, "limits": QUICK, **options}
        stress(f"{file}:hand_over", "refund", **given)

    again()
    with pytest.raises(StressError, match="--resume to complete it, --overwrite"):
        again()
    for options, word in (
        ({"episodes": 3}, "episodes: 2 -> 3"),
        ({"seed": 4}, "seed: 0 -> 4"),
        ({"overrides": ["limits.budget_usd=0.5"]}, "scenario_hash: "),
        ({"limits": Limits()}, "limits: "),
    ):
        with pytest.raises(StressError, match=word):
            again(resume=True, **options)
    again(resume=True)
    rows = (folder / "episodes.jsonl").read_text()
    file.write_text(CASES.read_text() + "\n# edited\n")
    (folder / "episodes.jsonl").write_text("".join(rows.splitlines(keepends=True)[:2]))
    with pytest.raises(StressError, match="agent_digest"):
        again(resume=True)
    with pytest.raises(ArtefactError, match="no such file"):
        stress(agent("finish"), "refund", out=tmp_path / "nothing", resume=True)


# ---------------------------------------------------------------- input


@pytest.mark.parametrize(
    ("spec", "part"),
    [
        ("nothing", "allowed: module:callable"),
        ("no_such_module_here:handle", "cannot import 'no_such_module_here'"),
        ("nowhere.py:handle", "no file 'nowhere.py'"),
        (f"{CASES}:finnish", "did you mean 'finish'?"),
        (f"{CASES}:WAYS", "is a tuple; allowed: a callable"),
        (f"{CASES}:agents", "has no 'agents'"),
        ("json:dumps.nothing", "has no 'nothing'"),
        ("os:getcwd", "cannot be called with one session"),
        ("http:no-such-program --serve", "no program 'no-such-program'"),
        ("mcp:", "no program ''"),
        ("http:'open", "not a command line"),
    ],
)
def test_an_agent_that_cannot_be_loaded_is_refused(spec: str, part: str) -> None:
    with pytest.raises(AgentError) as refused:
        load_agent(spec)
    assert part in str(refused.value)


def test_a_run_that_cannot_be_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    for options, part in (
        ({"scenario": "support-desk"}, "has no tools for an agent"),
        ({"scenario": None}, "none given"),
        ({"episodes": 0}, "episodes: got 0"),
        ({"repeats": 0}, "repeats: got 0"),
        ({"workers": 0}, "workers: got 0"),
        ({"split": "test"}, "split: got 'test'"),
        ({"intensities": [-1.0]}, "intensities: got -1.0"),
    ):
        with pytest.raises(StressError, match=part):
            stress(agent("finish"), **{"scenario": "refund", "out": folder, **options})
    with pytest.raises(ScenarioError, match="profile"):
        stress(agent("finish"), "refund", profile="worse", out=folder)
    bad: list[dict[str, Any]] = [{"max_calls": 0}, {"timeout_s": 0.0}, {"max_usd": -1.0}, {"loop_after": -1}]
    for ceilings in bad:
        with pytest.raises(StressError, match=next(iter(ceilings))):
            Limits(**ceilings)
    assert not folder.exists()
    with pytest.raises(AgentError, match="cannot import"):
        stress("no_such_module_here:handle", "refund", out=folder)
    assert not (folder / "config.json").exists()


def test_a_function_is_found_again_by_workers() -> None:
    assert agent_spec(stress_cases.finish) == f"{CASES}:finish"
    for lost in (lambda session: None, len):
        with pytest.raises(StressError, match="at the top of a file"):
            agent_spec(lost)


def test_a_summary_that_does_not_add_up_is_refused(tmp_path: Path) -> None:
    run("finish", tmp_path, episodes=2)
    path = tmp_path / "stress.json"
    good = json.loads(path.read_text())
    assert report_from(good).valid == 4
    for change in (
        {"valid": 3}, {"unplayed": 1}, {"outcomes": {}}, {"planned": 5}, {"invalid": {"harness_error": 1}},
        {"format": "brownout.stress/9"}, {"extra": 1},
    ):  # fmt: skip
        path.write_text(json.dumps(good | change))
        with pytest.raises(ArtefactError, match=r"stress\.json: "):
            read_report(tmp_path)
    lines = (tmp_path / "episodes.jsonl").read_text().splitlines(keepends=True)
    for text, part in (("".join([*lines, lines[0]]), "twice"), ("{]\n", ":1: not readable"), ("{}\n", "required")):
        (tmp_path / "episodes.jsonl").write_text(text)
        with pytest.raises(ArtefactError, match=part):
            read_rows(tmp_path)
