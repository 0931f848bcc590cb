"""Imports inside the package run one way, and heavy libraries wait until they are used."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from source_tree import (
    ENTROPY_ALLOWED,
    HEAVY_ALLOWED,
    NEEDS_EXTRA,
    OUTSIDE,
    PACKAGES,
    ROOT,
    module_name,
    package_files,
)

HEAVY = {
    "fastapi",
    "jinja2",
    "matplotlib",
    "mcp",
    "onnx",
    "onnxruntime",
    "pandas",
    "pyarrow",
    "ray",
    "sb3_contrib",
    "stable_baselines3",
    "tensorboard",
    "torch",
    "uvicorn",
}
LEAVES = {"brownout.envs.streams", "brownout.envs.quantiles"}
MODULES = {module_name(path) for path in package_files()} | set(PACKAGES)

# What a folder must not import; the leaves of envs are open to everybody.
CLOSED = {
    "brownout.scenarios": {"brownout.envs", "brownout.trainers"},
    "brownout.rewards": {"brownout.envs", "brownout.trainers"},
    "brownout.faults": {"brownout.envs", "brownout.trainers"},
    "brownout.envs": {"brownout.trainers"},
}

file_cases = pytest.mark.parametrize("path", package_files(), ids=lambda path: str(path.relative_to(ROOT)))


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def imports(tree: ast.AST, module: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """(line, module imported) for every import in the tree, relative ones resolved."""
    here = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + 1] if node.level else []
            source = ".".join([*base, *(node.module.split(".") if node.module else [])])
            for alias in node.names:
                name = f"{source}.{alias.name}"
                yield node.lineno, name if name in MODULES else source


def wrong_arrows(tree: ast.AST, module: str, is_package: bool) -> list[str]:
    home = next((package for package in CLOSED if within(module, package)), None)
    found = []
    for line, name in imports(tree, module, is_package):
        if not within(name, "brownout"):
            continue
        closed = any(within(name, package) for package in CLOSED.get(home or "", ()))
        if closed and name not in LEAVES:
            found.append(f"line {line}: {module} imports {name}")
        if within(name, "brownout.cli") and module not in {"brownout.__main__", "brownout.cli"}:
            found.append(f"line {line}: {module} imports {name}")
        if module in LEAVES and name not in LEAVES | {"brownout.errors"}:
            found.append(f"line {line}: the leaf {module} imports {name}")
    return found


def absolute_imports(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names = [node.module]
        found += [f"line {node.lineno}: {name}" for name in names if within(name, "brownout")]  # type: ignore[attr-defined]
    return found


def run_at_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run when a module is imported; what only a type checker reads is left out."""
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
            yield from run_at_import(statement.orelse)
            continue
        yield statement
        for part in ("body", "orelse", "finalbody"):
            yield from run_at_import(getattr(statement, part, []))
        for handler in getattr(statement, "handlers", []):
            yield from run_at_import(handler.body)


def heavy_imports(tree: ast.Module) -> set[str]:
    found: set[str] = set()
    for statement in run_at_import(tree.body):
        if isinstance(statement, ast.Import):
            found |= {alias.name.split(".")[0] for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom) and statement.module and not statement.level:
            found.add(statement.module.split(".")[0])
    return found & HEAVY


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@file_cases
def test_arrows_run_one_way(path: Path) -> None:
    assert not wrong_arrows(parsed(path), module_name(path), path.name == "__init__.py")


@file_cases
def test_the_package_imports_itself_relatively(path: Path) -> None:
    assert not absolute_imports(parsed(path))


@file_cases
def test_heavy_libraries_are_imported_where_used(path: Path) -> None:
    allowed = HEAVY_ALLOWED.get(path.relative_to(ROOT).as_posix(), set())
    assert heavy_imports(parsed(path)) <= allowed


@file_cases
def test_modules_have_docstrings(path: Path) -> None:
    assert ast.get_docstring(parsed(path)), "say in the first line what the module is for"


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("brownout.faults.plan", "from ..envs.lanes import LaneEnv"),
        ("brownout.faults.plan", "from .. import envs"),
        ("brownout.rewards.pricing", "def late():\n    from ..envs import lanes"),
        ("brownout.scenarios.schema", "from ..trainers import ppo"),
        ("brownout.envs.lanes", "from ..trainers.policy import Policy"),
        ("brownout.envs.lanes", "from ..cli import main"),
        ("brownout.errors", "from . import cli"),
        ("brownout.envs.streams", "from ..faults import plan"),
    ],
)
def test_a_wrong_arrow_is_found(module: str, source: str) -> None:
    MODULES.add("brownout.cli")  # so that the case holds whichever modules there are
    assert wrong_arrows(ast.parse(source), module, is_package=False)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("brownout.faults.plan", "from ..envs.streams import uniform"),
        ("brownout.envs.lanes", "from ..faults import FaultPlan"),
        ("brownout.__main__", "from .cli import main"),
        ("brownout.envs.quantiles", "from ..errors import ScenarioError\nfrom .streams import mix64"),
    ],
)
def test_a_right_arrow_passes(module: str, source: str) -> None:
    assert not wrong_arrows(ast.parse(source), module, is_package=False)


def test_imports_are_told_apart_by_when_they_run() -> None:
    source = """
import torch.nn
try:
    from pandas import DataFrame
except ImportError:
    import pyarrow
if TYPE_CHECKING:
    import ray
def later():
    import matplotlib
class Held:
    import onnx
"""
    assert heavy_imports(ast.parse(source)) == {"torch", "pandas", "pyarrow", "onnx"}
    assert absolute_imports(ast.parse("from brownout.envs import lanes\nimport brownout"))


def test_every_folder_of_modules_is_listed() -> None:
    folders = {path.parent.name for path in ROOT.glob("*/*.py") if not path.parent.name.startswith(".")}
    assert {f"brownout.{name}" for name in folders - OUTSIDE} <= set(PACKAGES)


def test_folders_are_flat() -> None:
    nested = [path for package in PACKAGES[1:] for path in (ROOT / package.split(".")[1]).glob("*/**/*.py")]
    assert not nested


def test_allowances_name_modules_that_exist() -> None:
    """A renamed module must not leave its allowance behind for another to use."""
    assert {ROOT / path for path in {*HEAVY_ALLOWED, *ENTROPY_ALLOWED}} <= set(package_files())
    assert set(NEEDS_EXTRA) <= MODULES
