"""What the repository holds, read from pyproject.toml and the folders; used by tests and the wheel check."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES: list[str] = PYPROJECT["tool"]["setuptools"]["packages"]

# Folders that hold Python files and are not part of the package.
OUTSIDE = {"tests", "benchmarks", "docs", "examples", "build", "dist", "runs"}

# Modules that cannot be imported with the core dependencies alone: module -> the extra it needs.
NEEDS_EXTRA: dict[str, str] = dict.fromkeys(
    (
        "brownout.envs.mcp_face",
        "brownout.envs.serve",
        "brownout.envs.serve_agents",
        "brownout.envs.serve_control",
        "brownout.envs.serve_listener",
    ),
    "serve",
) | {"brownout.pytest_plugin": "pytest"}

# Modules that may import a heavy library at their top: path -> libraries.
HEAVY_ALLOWED: dict[str, set[str]] = {"envs/mcp_face.py": {"mcp"}, "envs/serve_listener.py": {"uvicorn"}}

# Modules that may ask for fresh entropy: a reset without a seed (`SeedSequence()`), a service's ids (`secrets`).
ENTROPY_ALLOWED = {"envs/vector.py", "envs/serve_secrets.py"}


def folder(package: str) -> Path:
    """The folder of a package: the repository root for ``brownout`` itself."""
    return ROOT.joinpath(*package.split(".")[1:])


def package_files() -> list[Path]:
    """Every Python file of the package, in a fixed order."""
    return sorted(path for package in PACKAGES for path in folder(package).glob("*.py"))


def module_name(path: Path) -> str:
    """The import name of a package file."""
    parts = ["brownout", *path.relative_to(ROOT).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules() -> list[str]:
    """Import names of all modules but ``__main__``, which runs the command when executed."""
    return sorted(name for name in map(module_name, package_files()) if name != "brownout.__main__")


def data_files() -> list[Path]:
    """Files that are no Python and must be installed with the package."""
    return [
        ROOT / "py.typed",
        *sorted((ROOT / "scenarios").glob("*.yaml")),
        *sorted((ROOT / "trainers").glob("*.html")),
    ]
