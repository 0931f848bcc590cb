"""The pytest plug-in: a marked test passes, fails with the checks, and never passes without having stressed."""

from __future__ import annotations

import json

import pytest

from report_support import AGENTS
from source_tree import PYPROJECT

pytest_plugins = ["pytester"]
HEAD = f"""
import pytest
from pathlib import Path
NAIVE, CAREFUL = (f"{AGENTS}/{{name}}.py:handle" for name in ("naive", "careful"))
FEW = {{"episodes": 2}}
"""


@pytest.fixture(autouse=True)
def nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plug-in is named below, whether or not the package is installed; others stay away."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


def outcomes(pytester: pytest.Pytester, text: str, *arguments: str) -> pytest.RunResult:
    """Run a file of tests in a process of its own: NumPy cannot be imported twice in one."""
    pytester.makepyfile(test_agents=HEAD + text)
    return pytester.runpytest_subprocess("-p", "brownout.pytest_plugin", "-p", "no:cacheprovider", *arguments)


def test_the_entry_point_names_the_module() -> None:
    assert PYPROJECT["project"]["entry-points"]["pytest11"] == {"brownout": "brownout.pytest_plugin"}


def test_a_gate_that_passes_is_a_test_that_passes(pytester: pytest.Pytester) -> None:
    result = outcomes(pytester, """
@pytest.mark.brownout("refund", profile="clean", episodes=4, needs=FEW,
                      thresholds={"success": {"at_least": 0.3}, "silent_garbage": {"at_most": 0.6}})
def test_it(brownout_stress, tmp_path):
    result = brownout_stress(NAIVE)
    assert result.report.valid == 8
    assert result.report.profile == "clean"
    assert result.gate.verdict == "pass"
    assert result.folder == tmp_path / "brownout"
    assert {p.name for p in result.folder.iterdir()} >= {"stress.json", "report.html", "report.md", "junit.xml"}
""", "--strict-markers")  # fmt: skip
    result.assert_outcomes(passed=1)


def test_a_gate_that_fails_shows_its_checks(pytester: pytest.Pytester) -> None:
    result = outcomes(pytester, """
@pytest.mark.brownout("refund", episodes=30, thresholds={"success": {"at_least": 0.97}, "calls": {"at_most": 50}})
def test_it(brownout_stress):
    brownout_stress(NAIVE)
""", "--brownout-out", "kept")  # fmt: skip
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*naive.py:handle on refund: fail, 1 of 2 checks pass", "*fail *success >= 0.97 *lies beyond the bound*",
         "report: *kept*report.html"]
    )  # fmt: skip
    text = result.stdout.str()
    assert "calls <=" not in text  # what passed is not in the way
    assert "Traceback" not in text
    folder = pytester.path / "kept" / "test_agents.py-test_it"
    report = json.loads((folder / "stress.json").read_text(encoding="utf-8"))
    assert f"{report['conditions']['faulted']['success']['value']:.4g} [" in text


def test_undecided_is_a_failure_unless_allowed(pytester: pytest.Pytester) -> None:
    result = outcomes(pytester, """
pytestmark = pytest.mark.brownout("refund", profile="clean", episodes=4, thresholds={"success": {"at_least": 0.9}})
def test_no(brownout_stress):
    brownout_stress(NAIVE)
@pytest.mark.brownout(allow_undecided=True)
def test_yes(brownout_stress):
    assert brownout_stress(NAIVE).gate.verdict == "undecided"
""")  # fmt: skip
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*undecided  clean: 30 valid episodes*the run has 4"])


def test_a_file_of_rules_and_a_baseline(pytester: pytest.Pytester) -> None:
    pytester.makefile(
        ".yaml",
        gate="""
needs: {episodes: 2}
baseline: before/first
thresholds: [{metric: success, of: baseline, at_least: -1}]
""",
    )
    result = outcomes(pytester, """
OPTIONS = dict(scenario="refund", profile="clean", episodes=4)
@pytest.mark.brownout(thresholds={"calls": {"at_most": 99}}, needs=FEW, **OPTIONS)
def test_a(brownout_stress):
    Path("before").mkdir()
    brownout_stress(NAIVE).folder.rename("before/first")
@pytest.mark.brownout(gate="gate.yaml", **OPTIONS)
def test_b(brownout_stress):
    assert brownout_stress(NAIVE).gate.verdict == "pass"
    with pytest.raises(pytest.fail.Exception, match="profile"):
        brownout_stress(NAIVE, profile="production")
""")  # fmt: skip
    result.assert_outcomes(passed=2)


SLIPS = {
    '@pytest.mark.brownout("refund")': "give thresholds=*or gate='gate.yaml'",
    '@pytest.mark.brownout("refund", treshold=1)': "no option 'treshold'; allowed: scenario, *thresholds*",
    '@pytest.mark.brownout("refund", thresholds={"success": {"at_leas": 1}})': "thresholds.0.at_leas: *got 1",
    '@pytest.mark.brownout("nowhere", thresholds={"success": {"at_least": 1}})': "*nowhere*",
    '@pytest.mark.brownout("refund", 7)': "allowed without a name: the scenario",
    '@pytest.mark.brownout("refund", gate="none.yaml")': "*none.yaml*",
}


def test_slips_are_told_in_one_line(pytester: pytest.Pytester) -> None:
    tests = [f"{mark}\ndef test_{i}(brownout_stress):\n    brownout_stress(NAIVE)\n" for i, mark in enumerate(SLIPS)]
    result = outcomes(pytester, "\n".join(tests))
    result.assert_outcomes(failed=len(SLIPS))
    assert "Traceback" not in result.stdout.str()
    result.stdout.fnmatch_lines([f"*brownout*{message}*" for message in SLIPS.values()])


def test_a_test_that_stresses_nothing_does_not_pass(pytester: pytest.Pytester) -> None:
    result = outcomes(pytester, """
def test_never_called(brownout_stress):
    pass
@pytest.mark.brownout("refund")
def test_without_the_fixture():
    pass
def test_skipped(brownout_stress):
    pytest.skip("not today")
def test_that_fails_by_itself(brownout_stress):
    assert 1 == 2
""")  # fmt: skip
    result.assert_outcomes(failed=2, errors=1, skipped=1)
    result.stdout.fnmatch_lines(["*marked brownout, but the test does not take the fixture*",
                                 "*was never called with an agent*", "*assert 1 == 2"])  # fmt: skip


def test_without_the_library_for_pages_there_is_markdown(pytester: pytest.Pytester) -> None:
    result = outcomes(pytester, """
import sys
@pytest.mark.brownout("refund", profile="clean", episodes=2, needs=FEW, thresholds={"calls": {"at_most": 99}})
def test_it(brownout_stress, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    folder = brownout_stress(NAIVE).folder
    assert (folder / "report.md").is_file() and not (folder / "report.html").exists()
""")  # fmt: skip
    result.assert_outcomes(passed=1)


def test_unused_it_loads_nothing(pytester: pytest.Pytester) -> None:
    result = outcomes(pytester, """
import sys
def test_it():
    assert "brownout.pytest_plugin" in sys.modules
    assert not [name for name in sys.modules if name.startswith("brownout.trainers")]
    assert not {"pydantic", "yaml", "scipy", "matplotlib", "jinja2", "torch"} & set(sys.modules)
""")  # fmt: skip
    result.assert_outcomes(passed=1)
