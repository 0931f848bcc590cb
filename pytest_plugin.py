"""pytest plug-in: ``@pytest.mark.brownout(...)`` and the fixture ``brownout_stress``.

A test that takes the fixture plays its agent through a workflow, clean and faulted, and fails unless the gate that the
marker describes passes. pytest loads this module at its start, so it imports nothing heavy until a test asks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .extras import missing_extra

try:
    import pytest
except ImportError as error:
    raise missing_extra("pytest", error) from error

if TYPE_CHECKING:
    from .trainers.gate import GateResult
    from .trainers.gate_config import GateConfig
    from .trainers.stress_report import StressReport

MARKER: Final = (
    "brownout(scenario, *, thresholds, gate, needs, baseline, allow_undecided=False, episodes=50, profile, ...): "
    "stress the agent that the test gives to the fixture brownout_stress; further options are those of "
    "brownout.trainers.stress.stress"
)
_OF_GATE: Final = ("thresholds", "gate", "needs", "baseline", "allow_undecided")
_OF_RUN: Final = (
    "scenario", "overrides", "episodes", "repeats", "profile", "intensity", "split", "seed", "isolate", "intensities",
    "evalset", "limits", "workers", "time_limit_s", "cost_limit_usd",
)  # fmt: skip
_EPISODES: Final = 50


@dataclass(frozen=True)
class StressResult:
    """What became of an agent.

    Args:
        report: the figures.
        gate: the verdict, check by check.
        folder: the run folder; ``report.html`` or ``report.md`` in it is for reading.
    """

    report: StressReport
    gate: GateResult
    folder: Path


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the one option."""
    group = parser.getgroup("brownout", "stress tests of agents")
    group.addoption(
        "--brownout-out",
        metavar="DIR",
        default=None,
        help="keep runs and reports here, a folder per test; default: tmp_path",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", MARKER)


class Stressor:
    """What the fixture gives to a test: call it with an agent."""

    def __init__(self, request: pytest.FixtureRequest, tmp_path: Path) -> None:
        self._request, self._tmp_path = request, tmp_path
        self.calls = 0

    def __call__(self, agent: str | Callable[[Any], Any], **options: Any) -> StressResult:
        """Play an agent and fail the test unless the gate passes.

        Args:
            agent: a function at the top of a file, or what ``brownout stress`` takes.
            options: go before those of the marker.
        """
        from .errors import BrownoutError

        self.calls += 1
        folder = _folder(self._request, self._tmp_path, self.calls)
        try:
            return _judge(agent, _options(self._request.node) | options, folder, self._request.config.rootpath)
        except BrownoutError as error:
            slip = str(error)
        pytest.fail(f"brownout: {slip}", pytrace=False)  # outside: the message says it all, without a traceback


@pytest.fixture
def brownout_stress(request: pytest.FixtureRequest, tmp_path: Path) -> Stressor:
    """Play an agent through a workflow, and fail the test unless the gate of its marker passes."""
    return Stressor(request, tmp_path)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuse a marked test that would stress nothing."""
    marked = any(mark.name == "brownout" for mark in item.own_markers)
    if marked and "brownout_stress" not in getattr(item, "fixturenames", ()):
        pytest.fail("marked brownout, but the test does not take the fixture brownout_stress", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """Fail a test that took the fixture, never called it and would pass."""
    result = yield
    stressor = getattr(item, "funcargs", {}).get("brownout_stress")
    if isinstance(stressor, Stressor) and not stressor.calls:
        pytest.fail("brownout_stress was never called with an agent: the test has shown nothing", pytrace=False)
    return result


def _options(node: Any) -> dict[str, Any]:
    """The options of the markers, those of the function before those of its class and module."""
    found: dict[str, Any] = {}
    for mark in reversed(list(node.iter_markers("brownout"))):
        if len(mark.args) > 1:
            pytest.fail(f"brownout marker: got {mark.args!r}; allowed without a name: the scenario", pytrace=False)
        found |= dict(zip(("scenario",), mark.args, strict=False)) | mark.kwargs
    return found


def _folder(request: pytest.FixtureRequest, tmp_path: Path, call: int) -> Path:
    out = request.config.getoption("--brownout-out")
    name = "brownout" if call == 1 else f"brownout-{call}"
    if out is None:
        return tmp_path / name
    test = re.sub(r"[^A-Za-z0-9_.-]+", "-", request.node.nodeid).strip("-.")
    return request.config.invocation_params.dir / out / (test if call == 1 else f"{test}-{call}")


def _judge(agent: str | Callable[[Any], Any], asked: dict[str, Any], folder: Path, root: Path) -> StressResult:
    from .trainers.gate import judge, run_gate
    from .trainers.stress import stress

    unknown = sorted(set(asked) - {*_OF_GATE, *_OF_RUN})
    if unknown:
        allowed = ", ".join((*_OF_RUN, *_OF_GATE))
        pytest.fail(f"brownout: no option {unknown[0]!r}; allowed: {allowed}", pytrace=False)
    rules = _rules(asked, root)  # before the run: a slip in it should not cost one
    options: dict[str, Any] = {"episodes": _EPISODES} | {
        name: value for name, value in asked.items() if name in _OF_RUN
    }
    report = stress(agent, out=folder, overwrite=True, **options)
    baseline = None if asked.get("baseline") is None else root / asked["baseline"]
    result = judge(rules, folder, baseline) if isinstance(rules, Path) else run_gate(rules, folder, baseline)
    page = _write(folder, result)
    bad = {"fail"} if asked.get("allow_undecided") else {"fail", "undecided"}
    if result.verdict in bad:
        pytest.fail(_table(result, page, bad), pytrace=False)
    return StressResult(report, result, folder)


def _rules(asked: Mapping[str, Any], root: Path) -> Path | GateConfig:
    """The gate of a marker: a file, or thresholds as in one; ``{metric: bounds}`` is short for a list of them."""
    from pydantic import ValidationError

    from .errors import GateError
    from .trainers.gate_config import GateConfig, read_gate

    thresholds, file = asked.get("thresholds"), asked.get("gate")
    if (file is None) == (thresholds is None) or (file is not None and asked.get("needs") is not None):
        pytest.fail(
            "brownout: give thresholds={metric: {'at_least': ...}}, with needs={...} if you like, or gate='gate.yaml'",
            pytrace=False,
        )
    if file is not None:
        read_gate(root / file)
        return root / file
    rules: Any = thresholds
    if isinstance(thresholds, Mapping):
        rules = [{"metric": metric, **bounds} for metric, bounds in thresholds.items()]
    try:
        return GateConfig.model_validate({"thresholds": rules, "needs": dict(asked.get("needs") or {})})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise GateError(f"{where}: {first['msg']}, got {first['input']!r}") from error


def _write(folder: Path, result: GateResult) -> Path:
    """Write what a person reads: a page, or Markdown without the libraries for it."""
    from .extras import MissingExtraError
    from .trainers.stress_documents import stress_junit, stress_markdown
    from .trainers.stress_files import REPORT_NAMES
    from .trainers.stress_findings import find
    from .trainers.stress_page import stress_html

    found = find(folder, result)
    (folder / REPORT_NAMES["junit"]).write_text(stress_junit(found), encoding="utf-8")
    (folder / REPORT_NAMES["md"]).write_text(stress_markdown(found), encoding="utf-8")
    try:
        text = stress_html(found)
    except MissingExtraError:
        return folder / REPORT_NAMES["md"]
    (folder / REPORT_NAMES["html"]).write_text(text, encoding="utf-8")
    return folder / REPORT_NAMES["html"]


def _table(result: GateResult, page: Path, bad: set[str]) -> str:
    from .trainers.figure_text import visible

    shown = [check for check in result.checks if check.verdict in bad]
    width = max(len(check.rule) for check in shown)
    lines = [f"  {check.verdict:<9}  {check.rule:<{width}}  {check.reason}" for check in shown]
    passed = sum(check.verdict == "pass" for check in result.checks)
    head = f"{result.agent} on {result.scenario}: {result.verdict}, {passed} of {len(result.checks)} checks pass"
    return visible("\n".join([head, *lines, f"report: {page}"]))
