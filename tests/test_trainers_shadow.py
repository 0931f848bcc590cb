"""A candidate beside the agent in use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import stress_cases
from brownout.errors import ArtefactError, StressError
from brownout.trainers.shadow import compare, read_shadow, shadow
from brownout.trainers.stress import stress
from brownout.trainers.stress_rows import read_rows

AGENTS = Path(stress_cases.__file__).parent.parent / "examples" / "agents"
CASES = Path(stress_cases.__file__)


def test_a_better_candidate_is_seen_to_be_better(tmp_path: Path) -> None:
    report, candidate, baseline = shadow(
        f"{AGENTS}/retrying.py:handle", f"{AGENTS}/naive.py:handle", scenario="refund", episodes=25, workers=2,
        out=tmp_path,
    )  # fmt: skip
    assert read_shadow(tmp_path).model_dump_json() == report.model_dump_json()
    assert report.complete
    assert report.pairs == {"clean": 25, "faulted": 25}
    assert report.unpaired == {"clean": 0, "faulted": 0}
    gap = report.differences["faulted"]["success"]
    ours, theirs = (one.conditions["faulted"]["success"].value for one in (candidate, baseline))
    assert gap.value == pytest.approx(ours - theirs)
    assert gap.low > 0.0
    rows = {name: {row.key: row.success for row in read_rows(tmp_path / name)} for name in ("candidate", "baseline")}
    won = sum(rows["candidate"][key] and not rows["baseline"][key] for key in rows["baseline"])
    lost = sum(rows["baseline"][key] and not rows["candidate"][key] for key in rows["baseline"])
    assert (report.won, report.lost) == (won, lost)
    assert won > 5
    assert len(report.flips) == min(lost, 10)
    assert set(report.differences["clean"]) == set(candidate.paired)

    same = compare(tmp_path / "candidate", tmp_path / "candidate")
    assert (same.won, same.lost) == (0, 0)
    assert all(figure.value == 0.0 for gaps in same.differences.values() for figure in gaps.values())
    data = json.loads((tmp_path / "shadow.json").read_text())
    (tmp_path / "shadow.json").write_text(json.dumps(data | {"won": 1000}))
    with pytest.raises(ArtefactError, match=r"shadow\.json"):
        read_shadow(tmp_path)


def test_a_stored_run_can_be_the_baseline_if_it_is_of_the_same_episodes(tmp_path: Path) -> None:
    stress(f"{CASES}:hand_over", "refund", episodes=6, out=tmp_path / "stored")
    report, *_ = shadow(
        f"{CASES}:give_up", tmp_path / "stored", scenario="refund", episodes=4, out=tmp_path / "one"
    )  # fmt: skip
    assert report.pairs == {"clean": 4, "faulted": 4}
    assert report.unpaired == {"clean": 2, "faulted": 2}
    assert report.differences["faulted"]["aborted"].value == 1.0
    assert report.differences["faulted"]["escalated"].value == -1.0
    with pytest.raises(StressError, match="seed: 1 and 0"):
        shadow(f"{CASES}:give_up", tmp_path / "stored", scenario="refund", episodes=2, seed=1, out=tmp_path / "other")
