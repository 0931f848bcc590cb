"""Programs under stress, over HTTP: the same ends, and the same digests as the callable."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import stress_cases
from brownout.trainers.stress import stress
from brownout.trainers.stress_rows import read_rows
from brownout.trainers.stress_watch import Limits

pytest.importorskip("uvicorn")
CASES = Path(stress_cases.__file__)
COMMAND = CASES.parent / "stress_command.py"


def program(way: str) -> str:
    return f"http:{sys.executable} {COMMAND} {way}"


@pytest.mark.parametrize(
    ("way", "end", "error"),
    [
        ("status", "crash", "exit status 3"),
        ("kill", "killed", "SIGKILL"),
        ("hang", "hang", "did not return within 3.75 s"),
        ("spin", "loop", None),
    ],
)
def test_a_program_that_ends_badly_is_a_typed_outcome(way: str, end: str, error: str | None, tmp_path: Path) -> None:
    limits = Limits(timeout_s=3.0 if way == "hang" else 60.0, loop_after=5)
    report = stress(program(way), "refund", episodes=1, out=tmp_path, limits=limits, workers=2)
    assert report.valid == 2
    for row in read_rows(tmp_path):
        assert row.agent_outcome == end, row.error
        assert error is None or error in str(row.error)
        assert row.calls >= 2 or way == "hang"  # which has little time on a busy machine
    assert (
        f"{COMMAND} {way}"
        not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    )


def test_a_program_and_a_callable_do_the_same(tmp_path: Path) -> None:
    stress(program("finish"), "refund", episodes=4, out=tmp_path / "http", profile="clean", workers=2)
    file = tmp_path / "alike.py"
    file.write_text(
        "def handle(session):\n"
        "    session.call('crm.get_customer', id=session.task['customer_id'])\n"
        "    session.call('shop.get_order', id=session.task['order_id'])\n"
        "    session.call('handoff', reason='not sure')\n"
    )
    stress(f"{file}:handle", "refund", episodes=4, out=tmp_path / "python", profile="clean")
    http, python = ({row.key: row.digest for row in read_rows(tmp_path / name)} for name in ("http", "python"))
    assert http == python
    assert len(http) == 8
