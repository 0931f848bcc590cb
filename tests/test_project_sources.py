"""What no file of the package may contain: hidden randomness, and loaders that run code."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from source_tree import ENTROPY_ALLOWED, ROOT, package_files

# The parts of numpy.random without state of their own; everything else draws from or sets a global.
STATELESS = {"BitGenerator", "Generator", "PCG64", "Philox", "SeedSequence", "default_rng"}
MODULES = {
    "random": "draws from a global generator",
    "secrets": "draws that no seed repeats",
    "uuid": "names that no seed repeats",
    "dill": "loading runs code",
    "joblib": "loading runs code",
    "marshal": "loading runs code",
    "pickle": "loading runs code",
    "shelve": "loading runs code",
}
CALLS = {
    "compile": "runs code",
    "eval": "runs code",
    "exec": "runs code",
    "hash": "differs from process to process",
    "os.urandom": "draws that no seed repeats",
    "yaml.load": "use yaml.safe_load",
    "yaml.unsafe_load": "use yaml.safe_load",
    "yaml.full_load": "use yaml.safe_load",
}


def aliases(tree: ast.AST) -> dict[str, str]:
    """Local name -> full dotted name, for every import from elsewhere in the tree."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.split(".")[0]
                names[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def dotted(node: ast.AST, names: dict[str, str]) -> str:
    """The full dotted name of an expression such as ``np.random.rand``; empty for any other expression."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        owner = dotted(node.value, names)
        return f"{owner}.{node.attr}" if owner else ""
    return ""


def absolute_modules(node: ast.Import | ast.ImportFrom) -> list[str]:
    """The modules an import statement names; none for a relative import."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if node.module and not node.level else []


def findings(source: str, entropy: bool = False) -> list[str]:
    """What is forbidden in a source text, each with its line; ``entropy`` allows ``SeedSequence()`` and ``secrets``."""
    tree = ast.parse(source)
    names = aliases(tree)
    in_dunder_hash = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name == "__hash__"
        for inner in ast.walk(node)
    }
    found: list[str] = []

    def report(node: ast.AST, what: str, why: str) -> None:
        found.append(f"line {getattr(node, 'lineno', 0)}: {what}: {why}")

    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for module in absolute_modules(node):
                top = module.split(".")[0]
                if top in MODULES and not (entropy and top == "secrets"):
                    report(node, f"import {module}", MODULES[top])
                if module == "numpy.random" and isinstance(node, ast.ImportFrom):
                    for alias in node.names:
                        if alias.name not in STATELESS:
                            report(node, f"numpy.random.{alias.name}", "draws from a global generator")
        elif isinstance(node, ast.Attribute):
            name = dotted(node, names)
            if name.startswith("numpy.random.") and name.split(".")[2] not in STATELESS:
                report(node, name, "draws from a global generator")
        elif isinstance(node, ast.Call):
            name = dotted(node.func, names)
            keywords = {keyword.arg: keyword.value for keyword in node.keywords}
            if name in CALLS and not (name == "hash" and node in in_dunder_hash):
                report(node, f"{name}()", CALLS[name])
            fresh = name.startswith("numpy.random.") and not node.args and not keywords
            if fresh and not (entropy and name == "numpy.random.SeedSequence"):
                report(node, f"{name}()", "without a seed it differs from run to run")
            pickles = keywords.get("allow_pickle")
            if pickles is not None and not (isinstance(pickles, ast.Constant) and pickles.value is False):
                report(node, "allow_pickle", "loading runs code")
            safe = keywords.get("weights_only")
            if name == "torch.load" and not (isinstance(safe, ast.Constant) and safe.value is True):
                report(node, "torch.load()", "loading runs code without weights_only=True")
    return found


@pytest.mark.parametrize("path", package_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_sources_hold_nothing_forbidden(path: Path) -> None:
    entropy = path.relative_to(ROOT).as_posix() in ENTROPY_ALLOWED
    assert not findings(path.read_text(encoding="utf-8"), entropy)


@pytest.mark.parametrize(
    "source",
    [
        "import random",
        "from random import choice",
        "import numpy as np\nx = np.random.rand(3)",
        "import numpy as np\nrng = np.random.RandomState(3)",
        "import numpy\nnumpy.random.seed(0)",
        "from numpy.random import normal",
        "from numpy import random as r\nr.shuffle([])",
        "import numpy as np\nrng = np.random.default_rng()",
        "from numpy.random import Generator, PCG64\nrng = Generator(PCG64())",
        "import numpy as np\nseed = np.random.SeedSequence().entropy",
        "seed = hash('crm')",
        "import pickle",
        "from os import urandom\nurandom(8)",
        "import yaml\nyaml.load('a: 1', Loader=yaml.Loader)",
        "import numpy as np\nnp.load('x.npy', allow_pickle=True)",
        "import torch\ntorch.load('x.pt')",
        "value = eval('1')",
    ],
)
def test_each_forbidden_thing_is_found(source: str) -> None:
    assert findings(source)


@pytest.mark.parametrize(
    "source",
    [
        "from .random import thing",
        "import numpy as np\nrng = np.random.default_rng(7)\nu = rng.random(3)",
        "import numpy as np\ndef f(rng: np.random.Generator) -> None: ...",
        "class A:\n    def __hash__(self):\n        return hash(self.name)",
        "import yaml\nyaml.safe_load('a: 1')",
        "import numpy as np\nnp.load('x.npy', allow_pickle=False)",
        "import re\nre.compile('a')",
    ],
)
def test_what_is_allowed_passes(source: str) -> None:
    assert not findings(source)
