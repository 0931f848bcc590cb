"""Frozen sets: every byte counts, a new process plays them alike, and a refusal says what changed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import stress_cases
from brownout.errors import ArtefactError, StressError
from brownout.scenarios import load_scenario
from brownout.trainers import evaluation_set
from brownout.trainers.evaluation_set import EvaluationSet, expected_end, read_set
from brownout.trainers.freeze import freeze_run, freeze_scenario
from brownout.trainers.stress import stress
from brownout.trainers.stress_play import Job
from brownout.trainers.stress_replay import open_source, replay, replay_with
from brownout.trainers.stress_rows import read_rows
from brownout.trainers.stress_watch import Limits

CASES = Path(stress_cases.__file__)
RETRYING = CASES.parent.parent / "examples" / "agents" / "retrying.py"


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of an agent that retries and so gets things wrong."""
    folder = tmp_path_factory.mktemp("evaluation-set") / "run"
    stress(f"{RETRYING}:handle", "refund", profile="hostile", episodes=16, out=folder, limits=Limits(max_calls=80))
    return folder


@pytest.fixture(scope="module")
def frozen(played: Path) -> EvaluationSet:
    return freeze_run(played, played.parent / "worst.jsonl", worst=6)


def test_the_worst_are_frozen_with_what_happened_in_them(played: Path, frozen: EvaluationSet) -> None:
    rows = sorted((row for row in read_rows(played) if row.condition == "faulted"), key=lambda r: (r.utility, r.key))
    assert [one.job.episode for one in frozen.episodes] == [row.episode for row in rows[:6]]
    assert frozen.version == "0.1.0"
    assert frozen.scenario_hash == load_scenario("refund").hash
    for one, row in zip(frozen.episodes, rows, strict=False):
        assert one.recorded is not None
        assert (one.recorded.outcome, one.recorded.digest) == (row.outcome, row.digest)
        assert [injection["effect"] for injection in one.injections] == [i.effect for i in row.injections]
        assert len([event for event in one.recorded.events if event["kind"] == "call"]) == row.calls
        assert one.expected == expected_end(load_scenario("refund"), one.job)


def test_what_must_stand_at_the_end_follows_the_decisions() -> None:
    scenario = load_scenario("refund")
    ends = [expected_end(scenario, Job("clean", 0, e, 0, "production", 0.0, "eval")) for e in range(40)]
    paid = {"done": ["refund", "notify"], "not_done": ["decline"]}
    declined = {"done": ["decline", "notify"], "not_done": ["refund"]}
    assert all(end in (paid, declined) for end in ends)
    assert ends.count(paid) > ends.count(declined) > 0


def test_a_new_process_plays_it_bit_for_bit(frozen: EvaluationSet, tmp_path: Path) -> None:
    here = list(replay(open_source(frozen.path)))
    assert len(here) == 6
    assert all(one.same and one.identical for one in here)
    other = subprocess.run(
        [sys.executable, "-m", "brownout", "replay", str(frozen.path), "--json"],
        capture_output=True, text=True, timeout=60, cwd=tmp_path, check=True,
    )  # fmt: skip
    rows = [json.loads(line) for line in other.stdout.splitlines()]
    for one, row in zip(here, rows, strict=True):
        assert row == json.loads(one.row.to_line()) | {"differences": [], "identical": True}
    injections = [[i["effect"] for i in one.injections] for one in frozen.episodes]
    assert [[i["effect"] for i in row["injections"]] for row in rows] == injections
    assert sum(map(len, injections)) > 6


def test_the_same_agent_meets_the_same_injections_again(frozen: EvaluationSet, tmp_path: Path) -> None:
    report = stress(f"{RETRYING}:handle", evalset=frozen.path, out=tmp_path, limits=Limits(max_calls=80))
    assert (report.evalset, report.seed, report.episodes) == (frozen.hash, None, 6)
    rows = {row.episode: row for row in read_rows(tmp_path) if row.condition == "faulted"}
    assert len(rows) == 6
    for one in frozen.episodes:
        row = rows[one.job.episode]
        assert one.recorded is not None
        assert row.digest == one.recorded.digest
        assert [dict(injection) for injection in one.injections] == [i.model_dump(mode="json") for i in row.injections]
    with pytest.raises(StressError, match="leave --isolate"):
        stress(f"{RETRYING}:handle", evalset=frozen.path, out=tmp_path / "x", isolate=True)


def test_another_agent_plays_it_too(frozen: EvaluationSet) -> None:
    found = list(replay_with(open_source(frozen.path, episode=1), f"{CASES}:hand_over"))
    assert [one.row.outcome for one in found] == ["escalated"]
    assert found[0].same
    assert not found[0].identical


def test_one_changed_byte_is_refused(frozen: EvaluationSet, tmp_path: Path) -> None:
    whole = frozen.path.read_bytes()
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(whole)
    assert read_set(copy).hash == frozen.hash
    lines = whole.splitlines(keepends=True)
    places = {0, 5, 12, 60, 75, 80, len(whole) - 1, *range(100, len(whole), 9973)}
    at = 0
    for line in lines:  # the hash, its end and the last bytes of every line
        places |= {at + 9, at + 72, at + 75, at + len(line) - 2, at + len(line) - 1}
        at += len(line)
    for place in sorted(places):
        changed = bytearray(whole)
        changed[place] ^= 1
        copy.write_bytes(changed)
        with pytest.raises(ArtefactError, match=r"copy\.jsonl"):
            read_set(copy)
    for other in (
        b"".join([lines[0], lines[2], lines[1], *lines[3:]]), b"".join(lines[:-1]), whole + lines[1],
        whole + b"\n", whole[:-1], b"", lines[0] + b"".join(lines),
    ):  # fmt: skip
        copy.write_bytes(other)
        with pytest.raises(ArtefactError, match=r"copy\.jsonl"):
            read_set(copy)


def test_a_refusal_names_the_line(frozen: EvaluationSet, tmp_path: Path) -> None:
    copy = tmp_path / "copy.jsonl"
    copy.write_text(frozen.path.read_text().replace('"outcome":"silent_garbage"', '"outcome":"success"'))
    with pytest.raises(ArtefactError, match=r"copy\.jsonl:2: changed since it was frozen"):
        read_set(copy)


def test_another_version_or_scenario_is_refused_with_what_changed(
    frozen: EvaluationSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = load_scenario("refund", ["limits.budget_usd=0.5", "services.crm.strict=0.7"])
    with pytest.raises(StressError) as refused:
        open_source(frozen.path, scenario=other)
    assert "limits.budget_usd: 1.0 -> 0.5" in str(refused.value)
    assert "services.crm.strict: 0.6 -> 0.7" in str(refused.value)
    with pytest.raises(StressError, match=r"limits\.budget_usd: 1\.0 -> 0\.5"):
        stress(f"{CASES}:finish", "refund", overrides=["limits.budget_usd=0.5"], evalset=frozen.path, out=tmp_path)
    monkeypatch.setattr(evaluation_set, "brownout_version", lambda: "9.9.9")
    with pytest.raises(StressError, match=r"frozen by brownout 0\.1\.0; this is 9\.9\.9"):
        open_source(frozen.path)


def test_episodes_that_nobody_has_played_can_be_frozen(tmp_path: Path) -> None:
    frozen = freeze_scenario(load_scenario("refund"), tmp_path / "set.jsonl", episodes=30, seed=5)
    assert [one.job.episode for one in frozen.episodes] == list(range(30))
    assert all(one.recorded is None for one in frozen.episodes)
    found = list(replay(open_source(frozen.path)))
    assert all(one.same and one.identical is None for one in found)
    known = sorted({i["effect"] for one in frozen.episodes for i in one.injections})
    assert known
    some = freeze_scenario(load_scenario("refund"), tmp_path / "some.jsonl", episodes=30, seed=5, effects=known[:1])
    assert 0 < len(some.episodes) < 30
    assert all(known[0] in {i["effect"] for i in one.injections} for one in some.episodes)
    with pytest.raises(StressError, match="was struck by 'tmieout'; allowed: "):
        freeze_scenario(load_scenario("refund"), tmp_path / "none.jsonl", episodes=3, effects=["tmieout"])


def test_only_what_an_effect_struck_is_frozen(played: Path, tmp_path: Path) -> None:
    rows = [row for row in read_rows(played) if "timeout" in row.struck_by]
    frozen = freeze_run(played, tmp_path / "timeouts.jsonl", effects=["timeout"])
    assert {one.job.episode for one in frozen.episodes} == {row.episode for row in rows}
    with pytest.raises(StressError, match="was struck by 'nothing'; allowed: "):
        freeze_run(played, tmp_path / "x.jsonl", effects=["nothing"])
    with pytest.raises(StressError, match="no scored episode under 'only:timeout'"):
        freeze_run(played, tmp_path / "x.jsonl", condition="only:timeout")


def test_a_run_can_be_replayed_and_says_when_it_was_changed(played: Path, tmp_path: Path) -> None:
    assert all(one.same and one.identical for one in replay(open_source(played)))
    assert all(one.same and one.identical for one in replay(open_source(played, condition="clean")))
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"episode": 99}, "no such episode: episode 99"), ({"seed": 3}, "seed 3"), ({"condition": "x"}, "condition x"),
    ]  # fmt: skip
    for asked, part in wrong:
        with pytest.raises(StressError, match=part):
            open_source(played, **asked)
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("config.json", "scenario.yaml", "episodes.jsonl", "requests.jsonl"):
        (copy / name).write_bytes((played / name).read_bytes())

    def change(line: dict[str, Any]) -> None:
        event = next(event for event in line["events"] if event["kind"] == "call")
        event["response"]["text"] += " "
        event["digest"] = "0"

    lines = [json.loads(line) for line in (copy / "requests.jsonl").read_text().splitlines()]
    first = next(line for line in lines if line["key"][0] == "faulted")
    change(first)
    (copy / "requests.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = {one.row.episode: one for one in replay(open_source(copy))}
    assert not found[first["key"][2]].same
    assert sum(not one.same for one in found.values()) == 1
    (copy / "scenario.yaml").write_text(
        (copy / "scenario.yaml").read_text().replace("budget_usd: 1.0", "budget_usd: 2.0")
    )
    with pytest.raises(StressError, match=r"scenario\.yaml is "):
        open_source(copy)


def test_an_episode_of_a_set_is_named_by_its_line_alone(frozen: EvaluationSet) -> None:
    named: list[dict[str, Any]] = [{"seed": 1}, {"condition": "clean"}, {"repeat": 1}]
    for options in named:
        with pytest.raises(StressError, match="named by --episode alone"):
            open_source(frozen.path, **options)
    with pytest.raises(StressError, match="no episode 6; allowed: 0 to 5"):
        open_source(frozen.path, episode=6)
