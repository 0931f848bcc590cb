"""The registry: names, errors, and plug-ins that load only when asked for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brownout.errors import FaultError
from brownout.faults import (
    CallEffect,
    Calls,
    FaultPlan,
    Status,
    describe_faults,
    known_faults,
    load_plugin,
    lookup,
    register_fault,
    registered_faults,
    unregister_fault,
)
from brownout.faults.registry import kebab
from faults_support import bound, keys_of

BUILT_IN = {
    "timeout", "connection-reset", "server-error", "rate-limit", "outage", "unexpected-status",
    "malformed-body", "empty-result", "partial-result", "silent-noop",
    "slow-response", "load-latency", "async-polling",
    "price-change", "silent-regression", "judge-drift", "refusal", "capacity-limit",
    "missing-field", "malformed-format", "typo", "conflicting-duplicate", "stale-value", "swapped-fields",
    "wrong-unit", "encoding-damage", "truncated-value", "outlier", "partial-update",
    "expired-token", "refresh-failure", "revoked-scope", "stale-session", "leftover-draft", "held-lock",
    "context-bloat", "tenant-bleed",
    "interruption", "changed-request", "out-of-order-input", "schema-drift", "duplicate-submission",
    "pending-approval",
    "injected-instruction", "poisoned-output", "lying-success",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _tidy() -> Iterator[None]:
    """Forget what a test registered."""
    before, modules = set(registered_faults()), set(sys.modules)
    yield
    for name in set(registered_faults()) - before:
        unregister_fault(name)
    for name in set(sys.modules) - modules:
        if name.startswith("demo_faults"):
            del sys.modules[name]


def test_built_in_names() -> None:
    assert set(registered_faults()) == BUILT_IN
    assert set(known_faults()) >= BUILT_IN


@register_fault("regional-outage")
@dataclass(frozen=True)
class RegionalOutage(CallEffect):
    """Calls to one region are refused until it recovers."""

    status: Status = Status.UNAVAILABLE

    def strike(self, calls: Any, draw: Any) -> None:
        calls.fail(self.status, latency_s=0.2)


unregister_fault("regional-outage")


def test_a_fault_with_strike_alone_works() -> None:
    register_fault("regional-outage")(RegionalOutage)
    with pytest.raises(FaultError, match=r"plan\[0\] \(regional-outage\): needs a field 'when'"):
        bound([{"fault": "regional-outage"}])
    spec = {"fault": "regional-outage", "status": "rate-limited", "when": "on('small')"}
    plan = bound([spec], num_lanes=3)
    calls = Calls.place([0, 1, 2], service=[0, 1, 0])
    plan.strike(calls, keys_of([0, 1, 2]))
    assert calls.status.tolist() == [Status.RATE_LIMITED, Status.OK, Status.RATE_LIMITED]
    assert calls.latency_s.tolist() == [0.2, 1.0, 0.2]
    assert calls.cost_usd.tolist() == [0.0, 0.01, 0.0]
    rows = plan.log.rows()
    assert rows["effect"].tolist() == ["regional-outage"] * 2
    assert rows["parameters"][0] == '{"status": "rate-limited"}'
    assert any(row["name"] == "regional-outage" and row["category"] == "custom" for row in describe_faults())
    assert FaultPlan.from_specs(FaultPlan.from_specs([spec]).to_specs()).faults[0].effect == RegionalOutage(
        Status.RATE_LIMITED
    )


def test_bare_decorator_uses_the_class_name() -> None:
    @register_fault
    @dataclass(frozen=True)
    class HTTPTeapotServed(CallEffect):
        def strike(self, calls: Calls, draw: Any) -> None:
            calls.fail(Status.UNEXPECTED)

    assert lookup("http-teapot-served") is HTTPTeapotServed
    assert HTTPTeapotServed.name == "http-teapot-served"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Timeout", "timeout"),
        ("SlowResponse", "slow-response"),
        ("HTTPError", "http-error"),
        ("Code429Storm", "code429-storm"),
    ],
)
def test_kebab(name: str, expected: str) -> None:
    assert kebab(name) == expected


def test_a_duplicate_name_raises() -> None:
    with pytest.raises(FaultError, match=r"'timeout' is already registered by brownout\.faults\.services\.Timeout"):
        register_fault("timeout")(RegionalOutage)
    assert lookup("timeout").__name__ == "Timeout"


def test_a_second_name_for_a_class_raises() -> None:
    register_fault("regional-outage")(RegionalOutage)
    with pytest.raises(FaultError, match="already has the name 'regional-outage'"):
        register_fault("another-outage")(RegionalOutage)


def test_bad_classes_are_refused() -> None:
    class Plain(CallEffect):
        def strike(self, calls: Calls, draw: Any) -> None: ...

    @dataclass
    class Thawed(CallEffect):
        def strike(self, calls: Calls, draw: Any) -> None: ...

    @dataclass(frozen=True)
    class Idle(CallEffect):
        pass

    @dataclass(frozen=True)
    class Clashing(CallEffect):
        when: float = 0.0

        def strike(self, calls: Calls, draw: Any) -> None: ...

    wrong: Any = dict
    with pytest.raises(FaultError, match="'x': dict must be a subclass of CallEffect"):
        register_fault("x")(wrong)
    for cls in (Plain, Thawed):
        with pytest.raises(FaultError, match="must be a frozen dataclass; put @register_fault above"):
            register_fault("x")(cls)
    with pytest.raises(FaultError, match="must define strike"):
        register_fault("x")(Idle)
    with pytest.raises(FaultError, match="may not have a parameter 'when'"):
        register_fault("x")(Clashing)
    for name in ("Bad Name", "", "-x", "x--y", "x_y"):
        with pytest.raises(FaultError, match="use lower-case words joined by '-'"):
            register_fault(name)(RegionalOutage)
    assert set(registered_faults()) == BUILT_IN


def test_unregister_an_unknown_name_raises() -> None:
    with pytest.raises(FaultError, match="'nope' is not registered; registered: async-polling"):
        unregister_fault("nope")


# Entry points.

CODE = '''
from dataclasses import dataclass
from brownout.faults import CallEffect, Status, register_fault

LOADED = True

@dataclass(frozen=True)
class Flood(CallEffect):
    """Water in the machine room."""
    depth: float = 1.0
    def strike(self, calls, draw):
        calls.fail(Status.UNAVAILABLE, latency_s=self.depth)
'''


def install(folder: Path, dist: str, module: str, code: str, points: dict[str, str]) -> None:
    """Put a distribution with entry points on a path."""
    (folder / f"{module}.py").write_text(code)
    info = folder / f"{dist}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: 1.2\n")
    lines = [f"{name} = {value}" for name, value in points.items()]
    (info / "entry_points.txt").write_text("[brownout.faults]\n" + "\n".join(lines) + "\n")


def test_an_entry_point_loads_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "demo_one", "demo_faults_one", CODE, {"flood": "demo_faults_one:Flood"})
    monkeypatch.syspath_prepend(tmp_path)
    assert "flood" in known_faults()
    with pytest.raises(FaultError, match="did you mean 'flood'"):
        lookup("floud")
    assert "demo_faults_one" not in sys.modules
    plan = bound([{"fault": "flood", "depth": 3.0, "when": "always"}])
    assert "demo_faults_one" in sys.modules
    calls = Calls.place([0])
    plan.strike(calls, keys_of([0]))
    assert calls.latency_s[0] == 3.0
    assert lookup("flood").name == "flood"


def test_an_entry_point_may_register_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = CODE.replace("@dataclass", '@register_fault("flood")\n@dataclass')
    install(tmp_path, "demo_two", "demo_faults_two", code, {"flood": "demo_faults_two"})
    monkeypatch.syspath_prepend(tmp_path)
    assert lookup("flood").__module__ == "demo_faults_two"


@pytest.mark.parametrize(
    ("code", "value", "message"),
    [
        ("raise RuntimeError('no licence')", "demo_faults_bad:Flood", "RuntimeError: no licence"),
        ("x = 1", "demo_faults_bad:Flood", "AttributeError"),
        ("import not_there_at_all", "demo_faults_bad", "ModuleNotFoundError"),
        ("x = 1", "demo_faults_bad:x", "is no effect class and registers no 'broken'"),
        ("x = 1", "demo_faults_bad", "is no effect class and registers no 'broken'"),
        ("class Flood: pass", "demo_faults_bad:Flood", "must be a subclass of CallEffect or RecordEffect (offered by"),
    ],
)
def test_a_broken_plug_in_hurts_only_who_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, value: str, message: str
) -> None:
    install(tmp_path, "demo_bad", "demo_faults_bad", code, {"broken": value})
    monkeypatch.syspath_prepend(tmp_path)
    assert "broken" in known_faults()
    assert bound([{"fault": "timeout", "when": "always"}]) is not None
    with pytest.raises(FaultError) as caught:
        FaultPlan.from_specs([{"fault": "broken", "when": "always"}], "p")
    assert message in str(caught.value)
    assert "distribution demo_bad 1.2" in str(caught.value)
    assert str(caught.value).startswith("p[0]: ")


def test_two_distributions_with_one_name_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "demo_a", "demo_faults_a", CODE, {"flood": "demo_faults_a:Flood"})
    install(tmp_path, "demo_b", "demo_faults_b", CODE, {"flood": "demo_faults_b:Flood"})
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(FaultError, match=r"several distributions: distribution demo_a 1\.2, distribution demo_b 1\.2"):
        lookup("flood")
    assert "demo_faults_a" not in sys.modules


def test_an_entry_point_cannot_replace_a_built_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "demo_c", "demo_faults_c", CODE, {"timeout": "demo_faults_c:Flood"})
    monkeypatch.syspath_prepend(tmp_path)
    assert lookup("timeout").__module__ == "brownout.faults.services"


def test_explicit_plug_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "demo_faults_local.py").write_text(CODE + "NUMBER = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    load_plugin("demo_faults_local:Flood")
    load_plugin("demo_faults_local:Flood")
    assert lookup("flood").__module__ == "demo_faults_local"
    with pytest.raises(
        FaultError, match="plug-in 'demo_faults_local:NUMBER' is not a subclass of CallEffect or RecordEffect but 3"
    ):
        load_plugin("demo_faults_local:NUMBER")
    with pytest.raises(FaultError, match="plug-in 'demo_faults_local:Nope' cannot be loaded: AttributeError"):
        load_plugin("demo_faults_local:Nope")
    with pytest.raises(FaultError, match="plug-in 'demo_faults_gone' cannot be loaded: ModuleNotFoundError"):
        load_plugin("demo_faults_gone")


def test_a_scenario_cannot_name_a_module() -> None:
    with pytest.raises(FaultError, match="unknown fault 'os:system'"):
        FaultPlan.from_specs([{"fault": "os:system", "when": "always"}])


def test_strike_must_be_defined() -> None:
    class Nothing(CallEffect):
        pass

    with pytest.raises(NotImplementedError, match="Nothing does not say what happens to a call: define strike"):
        Nothing().strike(Calls.place([0]), np.zeros(1))  # pyright: ignore[reportArgumentType]
