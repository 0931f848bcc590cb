"""The installed package: its names, version, dependencies, and the time it takes to import."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import brownout
from brownout.errors import BrownoutError
from brownout.extras import MissingExtraError, missing_extra
from source_tree import PYPROJECT, ROOT
from wheel_probe import IMPORT_LIMIT_S, import_seconds

LIGHT_IMPORT = """
import json, sys
import brownout
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""
NOT_AT_IMPORT = {"faker", "matplotlib", "onnx", "pandas", "pyarrow", "ray", "scipy", "torch", "typer"}


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def requirements() -> list[Requirement]:
    project = PYPROJECT["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    return [Requirement(line) for line in [*project["dependencies"], *extras]]


def test_version_matches_the_metadata() -> None:
    assert version("brownout") == brownout.__version__


def test_the_changelog_has_the_version() -> None:
    assert f"## [{brownout.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_command_is_installed() -> None:
    (command,) = entry_points(group="console_scripts", name="brownout")
    assert command.value == "brownout.cli:main"


@pytest.mark.parametrize("name", brownout.__all__)
def test_public_names_resolve(name: str) -> None:
    assert getattr(brownout, name) is not None
    assert name in dir(brownout)


def test_the_lists_of_public_names_agree() -> None:
    tree = ast.parse(Path(brownout.__file__).read_text(encoding="utf-8"))
    typed = {
        alias.name: f".{node.module}"
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == brownout._HOMES
    assert set(brownout.__all__) == {*typed, "__version__"}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = brownout.nonsense


def test_the_package_is_imported_once() -> None:
    """Under the name of its folder as well, it would register everything twice."""
    root = str(ROOT / "__init__.py")
    names = [name for name, module in sys.modules.items() if getattr(module, "__file__", None) == root]
    assert names == ["brownout"]


@pytest.mark.timing
def test_import_is_quick() -> None:
    assert import_seconds(sys.executable) < IMPORT_LIMIT_S


def test_import_loads_no_heavy_library() -> None:
    run = subprocess.run([sys.executable, "-c", LIGHT_IMPORT], capture_output=True, text=True, check=True, timeout=60)
    loaded = set(json.loads(run.stdout))
    assert "gymnasium" in loaded, "importing brownout registers its environments"
    assert not loaded & NOT_AT_IMPORT


def test_every_dependency_is_pinned_within_its_bounds() -> None:
    pinned = pins()
    for requirement in requirements():
        name = canonicalize_name(requirement.name)
        if name != "brownout":
            assert requirement.specifier, f"{name} has no lower bound"
            assert requirement.specifier.contains(pinned[name], prereleases=True), name


def test_pins_name_releases_not_builds() -> None:
    assert not [pin for pin in pins().values() if "+" in pin]


def test_the_missing_extra_is_named() -> None:
    error = missing_extra("train", ModuleNotFoundError("No module named 'torch'", name="torch"))
    assert isinstance(error, MissingExtraError)
    assert isinstance(error, ImportError)
    assert isinstance(error, BrownoutError)
    assert str(error).startswith("torch is not installed;")
    assert str(error).endswith("pip install 'brownout[train]'")
