"""``brownout stress``, ``freeze``, ``replay`` and ``shadow`` as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import stress_cases
from brownout.cli import main
from brownout.trainers.stress_report import report_from

CASES = Path(stress_cases.__file__)
AGENTS = CASES.parent.parent / "examples" / "agents"


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    return err


def test_from_a_run_to_a_replayed_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    stress = ["stress", f"{AGENTS}/retrying.py:handle", "-s", "refund", "-n", "12", "--profile", "hostile", "--repeats",
              "2", "--intensities", "0,0.5,1", "--quiet"]  # fmt: skip
    assert main(stress) == 0
    text = capsys.readouterr().out
    for word in ("success", "pass^2", "silent_garbage", "least found", "recovered", "intensity", "brownout replay runs",
                 "Run folder: runs/stress"):  # fmt: skip
        assert word in text, word
    assert main([*stress, "--resume", "--json"]) == 0
    report = report_from(json.loads(capsys.readouterr().out))
    assert report.planned == 12 * 2 * 3
    assert [point.intensity for point in report.intensity_curve] == [0.0, 0.5, 1.0]

    command = report.worst[0].replay.split()
    assert command[0] == "brownout"
    assert main(command[1:]) == 0  # the line that is printed works
    text = capsys.readouterr().out
    assert report.worst[0].timeline[0] in text
    assert "1 of 1 episodes as recorded" in text

    assert main(["freeze", "runs/stress", "--worst", "3", "--out", "worst.jsonl"]) == 0
    assert "3 episodes in worst.jsonl" in capsys.readouterr().out
    assert main(["replay", "worst.jsonl"]) == 0
    assert capsys.readouterr().out == "3 of 3 episodes as recorded\n"
    assert main(["stress", f"{CASES}:hand_over", "--evalset", "worst.jsonl", "--out", "again", "--quiet"]) == 0
    assert "3 episodes" in capsys.readouterr().out
    assert main(["replay", "worst.jsonl", "--agent", f"{CASES}:hand_over", "--episode", "0"]) == 0
    assert "escalated" in capsys.readouterr().out
    whole = Path("worst.jsonl").read_bytes()
    Path("worst.jsonl").write_bytes(whole.replace(b'"utility":', b'"utility": ', 1))
    assert "worst.jsonl:2: changed since it was frozen" in refusal(capsys, "replay", "worst.jsonl")


def test_shadow_prints_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["shadow", f"{CASES}:hand_over", "--baseline", f"{CASES}:give_up", "-s", "refund", "-n", "4"]
    assert main([*arguments, "--out", str(tmp_path), "--quiet"]) == 0
    text = capsys.readouterr().out
    assert "escalated" in text
    assert "+100.0 %" in text
    assert "4 clean, 4 faulted pairs" in " ".join(text.split())


def test_bad_input_is_status_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    agent = f"{CASES}:finish"
    for arguments, part in (
        (["stress", "nothing", "-s", "refund"], "allowed: module:callable"),
        (["stress", agent], "scenario: none given"),
        (["stress", agent, "-s", "refnd"], "no scenario 'refnd'"),
        (["stress", agent, "-s", "support-desk"], "has no tools"),
        (["stress", agent, "-s", "refund", "--intensities", "1,x"], "--intensities '1,x'"),
        (["stress", agent, "-s", "refund", "--timeout", "0"], "timeout_s"),
        (["stress", agent, "-s", "refund", "--resume"], "no such file"),
        (["stress", agent, "--evalset", "none.jsonl"], "none.jsonl: cannot read"),
        (["freeze", "refund", "--worst", "3", "--out", "x.jsonl"], "belong to"),
        (["freeze", str(tmp_path), "--out", "x.jsonl"], "a run folder is what"),
        (["replay", "none.jsonl"], "none.jsonl: cannot read"),
        (["shadow", agent, "--baseline", "nowhere.py:x", "-s", "refund", "-n", "1"], "no file 'nowhere.py'"),
    ):
        assert part in refusal(capsys, *arguments), arguments


def test_an_agent_that_cannot_be_imported_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "broken.py"
    file.write_text("import no_such_library\n\ndef handle(session): ...\n")
    text = refusal(capsys, "stress", f"{file}:handle", "-s", "refund", "--out", str(tmp_path / "run"))
    assert "cannot import" in text
    assert "No module named 'no_such_library'" in text
    file.write_text("import os\nos._exit(1)\n")
    text = refusal(capsys, "stress", f"{file}:handle", "-s", "refund", "--out", str(tmp_path / "run"))
    assert "3 worker processes in a row did not start" in text
