"""What calls return and raise, and the statuses they are read as; and `brownout runtime` as a function."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from brownout.faults import Status
from brownout.trainers.runtime import Answer, CallableError, Hooks, Refused, Verdict
from brownout.trainers.runtime_calls import read_answer, read_verdict
from brownout.trainers.runtime_cli import load_hooks, read_tasks, run_tasks
from brownout.trainers.runtime_log import read_log
from brownout.trainers.runtime_status import StatusTable, retry_after


class Named(Exception):
    """An exception with attributes."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__("named")
        self.__dict__.update(attributes)


def called(name: str, *bases: type[Exception]) -> Exception:
    return type(name, bases or (Exception,), {})("text")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (TimeoutError(), Status.TIMEOUT),
        (ConnectionResetError(), Status.RESET),
        (BrokenPipeError(), Status.RESET),
        (ConnectionRefusedError(), Status.UNAVAILABLE),
        (Refused("no"), Status.REFUSED),
        (json.JSONDecodeError("bad", "{", 0), Status.MALFORMED),
        (called("APITimeoutError", called("APIConnectionError").__class__), Status.TIMEOUT),
        (called("APIConnectionError"), Status.RESET),
        (called("ReadTimeout", called("TimeoutException").__class__), Status.TIMEOUT),
        (called("RateLimitError"), Status.RATE_LIMITED),
        (Named(status_code=429), Status.RATE_LIMITED),
        (Named(status=503), Status.UNAVAILABLE),
        (Named(code=529), Status.UNAVAILABLE),
        (Named(status_code=502), Status.BAD_GATEWAY),
        (Named(status_code=500), Status.SERVER_ERROR),
        (Named(status_code=599), Status.SERVER_ERROR),
        (Named(status_code=504), Status.TIMEOUT),
        (Named(status_code=404), Status.UNEXPECTED),
        (Named(status_code=True), Status.UNEXPECTED),
        (Named(response=SimpleNamespace(status_code=429, headers={})), Status.RATE_LIMITED),
        (KeyError("choices"), Status.UNEXPECTED),
    ],
    ids=lambda value: value.word if isinstance(value, Status) else type(value).__name__,
)
def test_exceptions_read_as_statuses(error: Exception, status: Status) -> None:
    assert StatusTable().read(error) == (status, 0.0)


def test_rules_of_ones_own_come_first() -> None:
    quota = called("QuotaExceeded")
    quota.status_code = 400  # type: ignore[attr-defined]
    table = StatusTable({"QuotaExceeded": "rate-limited", 404: Status.EMPTY, TimeoutError: "unavailable"})
    assert table.read(quota)[0] == Status.RATE_LIMITED
    assert table.read(Named(status_code=404))[0] == Status.EMPTY
    assert table.read(TimeoutError())[0] == Status.UNAVAILABLE
    assert table.read(Named(status_code=429))[0] == Status.RATE_LIMITED
    with pytest.raises(CallableError, match="allowed: ok, timeout"):
        StatusTable({404: "cancelled"})


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (Named(), 0.0),
        (Named(retry_after=3), 3.0),
        (Named(retry_after_s=0.5, retry_after=9), 0.5),
        (Named(headers={"Retry-After": "7"}), 7.0),
        (Named(response=SimpleNamespace(headers={"retry-after": "1.5"})), 1.5),
        (Named(headers={"Retry-After": format_datetime(datetime.fromtimestamp(1060, UTC), usegmt=True)}), 60.0),
        (Named(headers={"Retry-After": format_datetime(datetime.fromtimestamp(900, UTC), usegmt=True)}), 0.0),
        (Named(headers={"Retry-After": "soon"}), 0.0),
        (Named(retry_after=float("inf")), 0.0),
        (Named(retry_after=-1), 0.0),
    ],
)
def test_retry_after_in_every_form(error: Exception, seconds: float) -> None:
    assert retry_after(error, now=1000.0) == seconds


@pytest.mark.parametrize(
    ("value", "status", "cost"),
    [
        (Answer("x", 0.5), Status.OK, 0.5),
        (("x", 0.5), Status.OK, 0.5),
        ({"answer": "x", "cost_usd": 0.5, "status": "partial-result"}, Status.MALFORMED, 0.5),
        ({"answer": "x", "cost_usd": 0.5, "status": "partial"}, Status.PARTIAL, 0.5),
        (SimpleNamespace(answer="x", cost_usd=0), Status.OK, 0.0),
        (Answer("x"), Status.OK, None),
        (Answer("x", float("nan")), Status.OK, None),
        (Answer("x", -1.0), Status.OK, None),
        (Answer(None, 0.5), Status.EMPTY, 0.5),
        (Answer("", 0.5), Status.EMPTY, 0.5),
        (Answer(np.zeros(3), 0.5), Status.OK, 0.5),
        (Answer("x", 0.5, status=Status.CANCELLED), Status.MALFORMED, 0.5),
        ("x", Status.MALFORMED, None),
        (None, Status.MALFORMED, None),
    ],
)
def test_answers_of_every_form(value: Any, status: Status, cost: float | None) -> None:
    ended = read_answer(value)
    assert (ended.status, ended.cost_usd) == (status, cost)
    if status == Status.MALFORMED:
        assert ended.error


@pytest.mark.parametrize(
    ("value", "status", "score"),
    [
        (True, Status.OK, 1.0),
        (0.25, Status.OK, 0.25),
        ((False, 0.1), Status.OK, 0.0),
        ({"score": 1}, Status.OK, 1.0),
        (Verdict(0.5, 0.1, status="timeout"), Status.TIMEOUT, 0.5),
        (1.5, Status.MALFORMED, None),
        (float("nan"), Status.MALFORMED, None),
        ("yes", Status.MALFORMED, None),
        (None, Status.MALFORMED, None),
    ],
)
def test_verdicts_of_every_form(value: Any, status: Status, score: float | None) -> None:
    ended = read_verdict(value)
    assert (ended.status, ended.answer) == (status, score)


# ---------------------------------------------------------------- the command

MODULE = """
from brownout.trainers.runtime import Answer, Hooks

async def ask(task, configuration):
    return Answer("yes", 0.001)

async def check(task, answer):
    return True, 0.001

hooks = Hooks(ask, check)
def make():
    return hooks
text = "no hooks"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "my_calls_for_test.py").write_text(MODULE)
    (tmp_path / "broken_calls_for_test.py").write_text("import no_such_module_anywhere\n")
    features = {"class": "faq", "difficulty_hint": 0.0}
    lines = [json.dumps({"id": f"q{i}", "features": features}) for i in range(5)]
    (tmp_path / "tasks.jsonl").write_text("\n".join(lines) + "\n\n")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("my_calls_for_test", None)


def test_a_file_of_tasks_is_solved_and_resumed(folder: Path) -> None:
    options: dict[str, Any] = {"calls": "my_calls_for_test:hooks", "out": "log.jsonl", "answers": "answers.jsonl"}
    first = run_tasks("baseline:cheapest-first", "support-desk", tasks=list(read_tasks("tasks.jsonl"))[:2], **options)
    assert (first.tasks, first.outcomes, first.calls, first.ok) == (2, {"submitted": 2}, 4, True)
    assert first.spend_usd == pytest.approx(0.004)
    second = run_tasks("baseline:cheapest-first", "support-desk", tasks="tasks.jsonl", resume=True, **options)
    assert (second.tasks, second.skipped) == (3, 2)
    assert "3 tasks of support-desk with cheapest-first: submitted 3" in second.to_text()
    ends = [row["query_id"] for row in read_log("log.jsonl") if row["kind"] == "task"]
    assert sorted(ends) == [f"q{i}" for i in range(5)]
    answers = [json.loads(line) for line in Path("answers.jsonl").read_text().splitlines()]
    assert [(entry["answer"], entry["accepted"]) for entry in answers] == [("yes", True)] * 5
    assert str(folder) not in sys.path
    assert json.loads(json.dumps(second.to_dict()))["ok"] is True


def test_a_task_that_breaks_shows_in_the_summary(folder: Path) -> None:
    tasks = [{"id": "good", "features": {"class": "faq", "difficulty_hint": 0.0}}, {"id": "bad"}]
    summary = run_tasks("baseline:null", "support-desk", calls="my_calls_for_test:make", tasks=tasks, out="log.jsonl")
    assert summary.outcomes == {"abstained": 1, "harness_error": 1}
    assert not summary.ok
    again = run_tasks("baseline:null", "support-desk", calls="my_calls_for_test:make", tasks=tasks, out="log.jsonl",
                      resume=True)  # fmt: skip
    assert (again.tasks, again.skipped) == (1, 1)  # what broke is tried again


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("my_calls_for_test", "allowed: module:name"),
        ("../my_calls:hooks", "allowed: module:name"),
        ("os:system('x')", "allowed: module:name"),
        ("no_such_calls:hooks", "cannot import 'no_such_calls'"),
        ("broken_calls_for_test:hooks", "no_such_module_anywhere"),
        ("my_calls_for_test:hook", "has no 'hook'; did you mean 'hooks'"),
        ("my_calls_for_test:text", "got str; allowed: brownout.trainers.runtime.Hooks"),
    ],
)
def test_hooks_are_named_in_full(spec: str, message: str) -> None:
    with pytest.raises(CallableError, match=message):
        load_hooks(spec)


@pytest.mark.usefixtures("folder")
def test_bad_input_is_refused_before_any_call() -> None:
    calls = []

    async def ask(task: Any, configuration: str) -> Answer:
        calls.append(task)
        return Answer("x", 0.0)

    async def check(task: Any, answer: Any) -> bool:
        return True

    Path("bad.jsonl").write_text('{"id": 1}\n{"id": 2\n')
    hooks = Hooks(ask, check, features=lambda task: {"class": "faq", "difficulty_hint": 0.0})
    with pytest.raises(CallableError, match=r"bad.jsonl: line 2: not JSON"):
        run_tasks("baseline:cheapest-first", "support-desk", calls=hooks, tasks="bad.jsonl", out="log.jsonl")
    with pytest.raises(CallableError, match="cannot read the tasks"):
        run_tasks("baseline:cheapest-first", "support-desk", calls=hooks, tasks="none.jsonl", out="log.jsonl")
    with pytest.raises(CallableError, match="concurrency: got 0"):
        run_tasks("baseline:cheapest-first", "support-desk", calls=hooks, tasks=[1], out="log.jsonl", concurrency=0)
    assert not calls
