"""Fault plans around a team's own tools: what callers meet, what really ran, and the clock."""

import asyncio
import inspect
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

import brownout
from brownout.envs.wrap import WrappedTools
from brownout.envs.wrap_types import ToolReset, ToolTimeout
from brownout.envs.wrap_values import altered, emptied, halved
from brownout.errors import FaultError


class Bank:
    """A ledger that says what really happened."""

    def __init__(self) -> None:
        self.paid: list[int] = []

    def pay(self, amount: int, to: str = "x") -> dict[str, object]:
        self.paid.append(amount)
        return {"id": len(self.paid), "amount": amount, "to": to}

    async def look(self, name: str) -> dict[str, object]:
        return {"name": name, "email": f"{name}@example.com", "total": 12.5}


def one(bank: Bank, *plan: Mapping[str, object], **options: object) -> WrappedTools:
    return brownout.wrap({"pay": bank.pay}, list(plan), **options)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(("applied", "ran"), [(0.0, []), (1.0, [5])])
def test_a_timeout_strikes_before_or_after_the_real_call_and_costs_its_seconds(applied: float, ran: list[int]) -> None:
    bank = Bank()
    tools = one(bank, {"fault": "timeout", "after_s": 12, "applied": applied, "when": "nth_call(1)"})
    with pytest.raises(ToolTimeout) as caught:
        tools["pay"](5)
    assert isinstance(caught.value, TimeoutError)
    assert bank.paid == ran
    assert tools.clock_s == 12.0
    assert tools["pay"](5)["amount"] == 5
    first, second = tools.calls
    assert (first.status, first.applied, first.error) == ("timeout", bool(ran), "ToolTimeout")
    assert (second.status, second.applied, second.error) == ("ok", True, "")
    assert [row["effect"] for row in tools.injections] == ["timeout"]
    assert tools.injections[0]["phase"] == ("after" if ran else "before")


def test_http_failures_carry_status_and_retry_after() -> None:
    tools = one(
        Bank(),
        {"fault": "rate-limit", "per_minute": 1, "burst": 1, "retry_after_s": 7, "load": 0.0},
        {"fault": "server-error", "code": 502, "when": "nth_call(1)"},
    )
    with pytest.raises(brownout.ToolError) as bad_gateway:
        tools["pay"](1)
    with pytest.raises(brownout.ToolError) as limited:
        tools["pay"](1)
    assert (bad_gateway.value.status_code, bad_gateway.value.retry_after_s) == (502, None)
    assert limited.value.status_code == 429
    assert limited.value.retry_after_s is not None
    assert 0 < limited.value.retry_after_s <= 60


def test_a_reset_is_a_connection_error_and_can_be_turned_into_the_clients_own() -> None:
    class ClientError(Exception):
        pass

    plan = {"fault": "connection-reset", "when": "every(1)"}
    with pytest.raises(ToolReset):
        one(Bank(), plan)["pay"](1)
    with pytest.raises(ClientError, match="reset"):
        one(Bank(), plan, raises=lambda error: ClientError(str(error)))["pay"](1)


def test_a_silent_noop_reports_the_last_success_and_does_nothing() -> None:
    bank = Bank()
    tools = one(bank, {"fault": "silent-noop", "when": "nth_call(2)"})
    assert tools["pay"](5)["id"] == 1
    assert tools["pay"](6) == {"id": 1, "amount": 5, "to": "x"}
    assert bank.paid == [5]
    told = brownout.wrap(
        {"pay": brownout.WrapTool(bank.pay, writes=True, acknowledges={"id": 0})},
        [{"fault": "silent-noop", "when": "every(1)"}],
    )
    assert told["pay"](7) == {"id": 0}
    assert bank.paid == [5]


def test_bodies_are_damaged_in_the_form_of_the_value() -> None:
    def text() -> str:
        return "0123456789"

    cases = {"malformed-body": lambda found: "0123456789".startswith(found) and 0 < len(found) < 10,
             "empty-result": lambda found: found == ""}  # fmt: skip
    for name, holds in cases.items():
        assert holds(brownout.wrap([text], [{"fault": name, "when": "every(1)"}])["text"]())
    with pytest.raises(json.JSONDecodeError):
        one(Bank(), {"fault": "malformed-body", "when": "every(1)"})["pay"](1)
    found = one(Bank(), {"fault": "partial-result", "lost": 1.0, "when": "on('pay')"})["pay"](1)
    assert found != {"id": 1, "amount": 1, "to": "x"}


def test_values_keep_their_form() -> None:
    assert (emptied([1]), emptied({"a": 1}), emptied("x"), emptied(3)) == ([], {}, "", None)
    assert (halved([1, 2, 3, 4]), halved({"a": 1, "b": 2}), halved("abcd"), halved(3)) == ([1, 2], {"a": 1}, "ab", None)
    value = {"a": [1, 2.0, "x1"], "b": {"c": True}}
    assert all(altered(value, u) != value for u in (0.0, 0.3, 0.6, 0.9))
    assert value == {"a": [1, 2.0, "x1"], "b": {"c": True}}


def test_intensity_0_leaves_every_call_alone() -> None:
    bank = Bank()
    tools = one(bank, {"fault": "timeout", "when": "every(1)"}, intensity=0.0)
    assert [tools["pay"](i)["amount"] for i in range(20)] == list(range(20))
    assert (tools.injections, tools.clock_s) == ([], 0.0)


def _statuses(tools: WrappedTools, name: str, n: int) -> list[str]:
    for _ in range(n):
        try:
            tools[name]()
        except Exception:
            continue
    return [call.status for call in tools.calls if call.tool == name]


def _pair(seed: int) -> WrappedTools:
    plan = [{"fault": "timeout", "when": "rate(0.3)"}, {"fault": "server-error", "when": "rate(0.2)"}]
    return brownout.wrap({"a": lambda: 1, "b": lambda: 2}, plan, seed)


def test_same_seed_same_faults_and_one_tools_calls_move_no_other_tools() -> None:
    alone = _statuses(_pair(3), "a", 60)
    beside = _pair(3)
    _statuses(beside, "b", 17)
    assert _statuses(beside, "a", 60) == alone
    assert _statuses(_pair(4), "a", 60) != alone
    again = _pair(3)
    _statuses(again, "a", 60)
    again.reset(episode=0)
    assert _statuses(again, "a", 60) == alone
    again.reset()
    assert _statuses(again, "a", 60) != alone


def test_the_same_faults_in_another_process() -> None:
    code = (
        "import brownout\n"
        "tools = brownout.wrap({'a': lambda: 1}, [{'fault': 'timeout', 'when': 'rate(0.3)'}], 9)\n"
        "for _ in range(40):\n"
        "    try:\n        tools['a']()\n    except TimeoutError:\n        pass\n"
        "print([call.status for call in tools.calls])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60,
            env={**__import__("os").environ, "PYTHONHASHSEED": salt},
        ).stdout
        for salt in ("0", "77")
    }  # fmt: skip
    assert len(outputs) == 1
    assert "timeout" in outputs.pop()


def test_async_tools_run_side_by_side_on_the_virtual_clock() -> None:
    bank = Bank()
    tools = brownout.wrap(
        {
            "look": brownout.WrapTool(bank.look, latency_s=3.0),
            "pay": brownout.WrapTool(bank.pay, writes=True, latency_s=2.0),
        },
        [],
    )
    assert inspect.iscoroutinefunction(tools["look"])

    async def both() -> None:
        await asyncio.gather(tools["look"]("a"), tools["look"](name="b"))

    asyncio.run(both())
    assert tools.clock_s == 3.0
    tools["pay"](1)
    assert tools.clock_s == 5.0


def test_real_time_is_virtual_time_scaled() -> None:
    tools = one(Bank(), {"fault": "timeout", "after_s": 10, "when": "nth_call(1)"}, time_scale=0.02)
    begin = time.monotonic()
    with pytest.raises(ToolTimeout):
        tools["pay"](1)
    assert time.monotonic() - begin >= 0.2


def test_signature_name_and_own_exceptions_are_kept() -> None:
    def refuse(amount: int, *, note: str = "") -> None:
        """Say no."""
        raise ZeroDivisionError(note)

    tools = brownout.wrap([refuse], [])
    assert inspect.signature(tools["refuse"]) == inspect.signature(refuse)
    assert tools["refuse"].__doc__ == "Say no."
    with pytest.raises(ZeroDivisionError, match="because"):
        tools["refuse"](1, note="because")
    assert tools.calls[0].error == "raised"


def test_a_record_read_again_shows_the_same_damage() -> None:
    def rows() -> list[dict[str, object]]:
        return [{"id": i, "email": f"ann{i}@example.com", "total": 10.5 + i} for i in range(200)]

    spec = brownout.WrapTool(rows, fields={"email": "email", "total": "amount"}, key="id")
    plan = [{"fault": "typo", "when": "rate(0.3)"}, {"fault": "missing-field", "when": "rate(0.1)"}]
    tools = brownout.wrap({"rows": spec}, plan, 5)
    first, clean = tools["rows"](), rows()
    assert tools["rows"]() == first
    dirty = {(str(row["record"]), row["field"]) for row in tools.injections if row["number"] == 0}
    pairs = list(zip(first, clean, strict=True))
    seen = {(str(mine["id"]), name) for mine, right in pairs for name in right if mine[name] != right[name]}
    assert seen == dirty
    assert 20 < len(dirty) < 200
    assert {name for _, name in seen} == {"email", "total"}


@pytest.mark.parametrize(
    ("tools", "plan", "match"),
    [
        ({}, [], "at least one callable"),
        ([lambda: 1], [], "no name of its own"),
        ({"a": 3}, [], "a name and a callable"),
        ({"a": (lambda: (yield 1))}, [], "piece by piece"),
        ({"a": print}, [{"fault": "nonsense"}], "nonsense"),
        ({"a": print}, [{"fault": "expired-token", "when": "rate(0.1)"}], "port session"),
        ({"a": print}, [{"fault": "typo", "when": "rate(0.1)"}], "fields"),
        ({"a": brownout.WrapTool(print, fields={"x": "colour"})}, [], "colour"),
        ({"a": print}, "nowhere.yaml", "nowhere.yaml"),
    ],
)
def test_bad_input_is_refused_by_name(tools: object, plan: object, match: str) -> None:
    with pytest.raises(FaultError, match=match):
        brownout.wrap(tools, plan)  # type: ignore[arg-type]


def test_a_plan_comes_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text("- {fault: server-error, code: 503, when: 'nth_call(1)'}\n")
    with pytest.raises(brownout.ToolError, match="503 Service Unavailable"):
        brownout.wrap({"a": print}, path)["a"]("x")
