"""Build the wheel, install it into an empty environment with core dependencies only, and use it there.

Catches what tests in a checkout cannot: a module or scenario left out of the wheel, a dependency not
declared, an import that needs an extra, a difference under the newest Gymnasium (the tests run on the one
that RLlib pins), and lower bounds in pyproject.toml that no longer hold. Exit status 1 with the reason when
something is wrong.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import venv
import zipfile
from pathlib import Path
from typing import Any

from packaging.version import Version

from source_tree import NEEDS_EXTRA, PYPROJECT, ROOT, data_files, modules, package_files

# Not held back by constraints.txt: the newest release must work too.
NEWEST = {"gymnasium"}
NEWEST_GYMNASIUM = Version("1.4")
LOWEST_PYTHON = (3, 11)


def fail(message: str) -> None:
    """End with the reason; the message is all that a user sees."""
    sys.exit(f"wheel check: {message}")


def run(command: list[str], where: Path, env: dict[str, str] | None = None) -> str:
    """Run a command to its end and return what it printed; a failure ends the check with its output."""
    result = subprocess.run(
        command, cwd=where, env=env, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL
    )
    if result.returncode:
        output = f"{result.stdout}{result.stderr}"
        fail(f"{' '.join(command[:4])} ... gave exit status {result.returncode}\n{output}")
    return result.stdout


def build_wheel(work: Path) -> Path:
    """Build from a copy, through the source distribution, so that nothing stale or unlisted slips in."""
    source = work / "source"
    extra_files = [ROOT / name for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE")]
    for path in [*package_files(), *data_files(), *extra_files]:
        target = source / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    run([sys.executable, "-m", "build", "--outdir", str(work / "dist"), str(source)], work)
    (wheel,) = (work / "dist").glob("*.whl")
    return wheel


def check_contents(wheel: Path) -> None:
    """The wheel holds the files of the package, all of them and no others."""
    wanted = {f"brownout/{path.relative_to(ROOT).as_posix()}" for path in [*package_files(), *data_files()]}
    found = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    if found != wanted:
        fail(f"{wheel.name} lacks {sorted(wanted - found)} and has {sorted(found - wanted)} too many")


def newest_pins() -> list[str]:
    """The pins of constraints.txt, without those of what must work at its newest."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.split("==")[0] not in NEWEST]


def lowest_pins() -> list[str]:
    """Each core dependency at its lower bound."""
    return [line.replace(">=", "==") for line in PYPROJECT["project"]["dependencies"]]


def install(wheel: Path, work: Path, pins: list[str]) -> Path:
    """An environment with the wheel and what it declares; returns its folder of programs."""
    work.mkdir()
    constraints = work / "constraints.txt"
    constraints.write_text("\n".join(pins), encoding="utf-8")
    home = work / "env"
    venv.create(home, with_pip=False, symlinks=True)
    programs = home / "bin"
    pip = [sys.executable, "-m", "pip", "--python", str(programs / "python"), "install", "--quiet"]
    run([*pip, "--disable-pip-version-check", "-c", str(constraints), str(wheel)], work)
    return programs


def check_use(programs: Path, work: Path) -> dict[str, Any]:
    """Import every module, check every environment and run the command; returns what the probe saw."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    python = str(programs / "python")
    request = json.dumps({"modules": modules(), "needs_extra": NEEDS_EXTRA})
    output = run([python, "-I", str(Path(__file__).with_name("wheel_probe.py")), request], work, clean)
    seen = json.loads(output.splitlines()[-1])
    if not Path(seen["file"]).is_relative_to(work):
        fail(f"imported {seen['file']}, which is not the wheel")
    if seen["complaints"]:
        fail("\n  ".join(["", *seen["complaints"]]))

    import gymnasium

    import brownout  # noqa: F401  (registers the ids of this checkout)

    ids = sorted(name for name, spec in gymnasium.registry.items() if spec.namespace == "brownout")
    if seen["environments"] != ids:
        fail(f"the wheel registers {seen['environments']}, this checkout {ids}")
    if "brownout.cli" in modules():
        help_text = run([str(programs / "brownout"), "--help"], work, clean)
        if "train" not in help_text:
            fail(f"`brownout --help` does not mention train:\n{help_text}")
    return seen


def describe(seen: dict[str, Any]) -> str:
    """One line about an environment that passed."""
    return (
        f"gymnasium {seen['gymnasium']}, import {seen['import_s']:.2f} s, "
        f"environments {', '.join(seen['environments']) or 'none'}"
    )


def main() -> None:
    """Do all of it in a folder that is gone afterwards."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="brownout-wheel-") as folder:
        work = Path(folder).resolve()
        wheel = build_wheel(work)
        check_contents(wheel)
        print(f"wheel check: {len(modules())} modules and {len(data_files())} data files")
        newest = work / "newest"
        seen = check_use(install(wheel, newest, newest_pins()), newest)
        if Version(seen["gymnasium"]) < NEWEST_GYMNASIUM:
            fail(f"meant to install the newest gymnasium, got {seen['gymnasium']}")
        print(f"  newest: {describe(seen)}")
        # Old releases have no wheels for Python versions that came after them.
        if sys.version_info[:2] == LOWEST_PYTHON:
            lowest = work / "lowest"
            print(f"  lower bounds: {describe(check_use(install(wheel, lowest, lowest_pins()), lowest))}")
    print(f"wheel check passed in {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
