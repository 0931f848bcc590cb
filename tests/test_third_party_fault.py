"""A fault in a package of its own: built as a wheel, installed, named by a scenario, found and logged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PYPROJECT = """
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "acme-faults"
version = "3.1"

[project.entry-points."brownout.faults"]
acme-stall = "acme_faults:Stall"
acme-broken = "acme_faults.missing:Nothing"
"""

# What the documentation calls fifteen lines; imported by nobody but brownout's registry.
MODULE = '''
from dataclasses import dataclass

from brownout.faults import CallEffect, Status, register_fault


@register_fault("acme-stall")
@dataclass(frozen=True)
class Stall(CallEffect):
    """The gateway of Acme holds a call back and then drops it."""

    hold_s: float = 20.0

    def strike(self, calls, draw):
        calls.fail(Status.TIMEOUT, latency_s=self.hold_s)
'''

SCENARIO = """
extends: support-desk
name: acme
profiles:
  production:
    - {fault: acme-stall, hold_s: 21.5, when: "rate(0.2) & on('frontier')"}
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the package's wheel was installed."""
    work = tmp_path_factory.mktemp("acme")
    source = work / "source"
    (source / "acme_faults").mkdir(parents=True)
    (source / "pyproject.toml").write_text(PYPROJECT, encoding="utf-8")
    (source / "acme_faults" / "__init__.py").write_text(MODULE, encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    for step in (
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(work / "dist"), str(source)],
        [*pip, "install", "--no-deps", "--no-index", "--find-links", str(work / "dist"), "--target",
         str(work / "site"), "acme-faults==3.1"],
    ):  # fmt: skip
        done = subprocess.run(step, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (work / "dist").glob("*.whl")
    assert wheel.name.startswith("acme_faults-3.1-")
    (work / "own.yaml").write_text(SCENARIO, encoding="utf-8")
    return work


def command(site: Path, *arguments: str, plugin: bool = True) -> subprocess.CompletedProcess[str]:
    """Run Python where the package is installed, or where it is not."""
    env = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}
    if plugin:
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(site / "site"), os.environ.get("PYTHONPATH", "")]))
    return subprocess.run([sys.executable, *arguments], cwd=site, env=env, capture_output=True, text=True, timeout=100)


def brownout(site: Path, *arguments: str, plugin: bool = True) -> subprocess.CompletedProcess[str]:
    return command(site, "-m", "brownout", *arguments, plugin=plugin)


PLAY = """
import json, sys
import numpy as np
from brownout.envs.router_core import RouterCore
from brownout.faults import Status

assert "acme_faults" not in sys.modules
found = {}
for intensity in (0.0, 1.0, 3.0):
    core = RouterCore("own.yaml", 2000, profile="production", intensity=intensity)
    core.seed(core.all_lanes, range(2000))
    core.begin(core.all_lanes)
    names = list(core.action_names)
    for action in ("launch:frontier", "launch:medium"):
        core.advance(np.full(2000, names.index(action)))
    struck = core.status[:, 0] == Status.TIMEOUT
    rows = [] if core.plan is None else core.plan.log.rows()
    found[str(intensity)] = {
        "struck": int(struck.sum()),
        "medium": int((core.status[:, 1] != Status.OK).sum()),
        "latency": sorted(set(np.round(core.finish[struck, 0], 9).tolist())),
        "cost": float(core.cost[struck, 0].sum()),
        "log": sorted({(str(r["fault"]), str(r["effect"]), str(r["service"])) for r in rows}),
        "logged": sorted(int(r["lane"]) for r in rows) == np.flatnonzero(struck).tolist(),
        "lanes": np.flatnonzero(struck).tolist(),
    }
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def played(site: Path) -> dict[str, Any]:
    result = command(site, "-c", PLAY)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_the_fault_strikes_as_often_and_as_hard_as_the_scenario_says(played: dict[str, Any]) -> None:
    one = played["1.0"]
    assert 330 < one["struck"] < 470  # 400 expected of 2,000
    assert one["medium"] == 0
    assert (one["latency"], one["cost"]) == ([21.5], 0.0)


def test_intensity_scales_it(played: dict[str, Any]) -> None:
    assert played["0.0"]["struck"] == 0
    assert 1110 < played["3.0"]["struck"] < 1290
    assert set(played["1.0"]["lanes"]) < set(played["3.0"]["lanes"])  # more of it, on top of the same


def test_the_log_names_it(played: dict[str, Any]) -> None:
    assert played["0.0"]["log"] == []
    assert played["1.0"]["log"] == [["acme-stall#0", "acme-stall", "frontier"]]
    assert played["1.0"]["logged"]


def test_the_command_line_knows_it(site: Path) -> None:
    result = brownout(site, "rollout", "own.yaml", "-p", "baseline:always-strongest", "--seed", "3", "--intensity", "5",
                      "--show-faults", "--json")  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert {row["fault"] for row in json.loads(result.stdout)["injections"]} == {"acme-stall#0"}


def test_an_unknown_fault_lists_it_without_importing_it(site: Path) -> None:
    (site / "typo.yaml").write_text(SCENARIO.replace("acme-stall", "acme-stal"), encoding="utf-8")
    result = brownout(site, "scenarios", "show", "typo.yaml")
    assert result.returncode == 2
    assert "unknown fault 'acme-stal'; did you mean 'acme-stall'" in result.stderr
    assert "known: acme-broken, acme-stall, async-polling" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_without_the_package_the_scenario_is_refused(site: Path) -> None:
    result = brownout(site, "scenarios", "show", "own.yaml", plugin=False)
    assert result.returncode == 2
    assert "unknown fault 'acme-stall'" in result.stderr
    assert "acme" not in result.stderr.split("known:")[1]


def test_a_bad_parameter_of_it_is_one_error(site: Path) -> None:
    (site / "bad.yaml").write_text(SCENARIO.replace("hold_s: 21.5", "hold: 3"), encoding="utf-8")
    result = brownout(site, "scenarios", "show", "bad.yaml")
    assert result.returncode == 2
    assert "unknown parameter 'hold'" in result.stderr
    assert "hold_s" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_broken_plugin_harms_only_who_asks_for_it(site: Path) -> None:
    (site / "broken.yaml").write_text(SCENARIO.replace("acme-stall, hold_s: 21.5", "acme-broken"), encoding="utf-8")
    result = brownout(site, "scenarios", "show", "broken.yaml")
    assert result.returncode == 2
    assert "acme-broken" in result.stderr
    assert "distribution acme-faults 3.1" in result.stderr
    assert "Traceback" not in result.stderr
