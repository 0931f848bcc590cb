"""Every example in a docstring or a documentation page does what it says."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

from source_tree import ROOT, modules

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def failures(tests: list[doctest.DocTest]) -> str:
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=FLAGS, verbose=False)
    for test in tests:
        runner.run(test, out=report.append)
    return "".join(report)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Examples that write files write them outside the tree."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", modules())
def test_examples_in_docstrings(name: str) -> None:
    assert not failures(doctest.DocTestFinder().find(importlib.import_module(name)))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_in_pages(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not failures([doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)])


def test_a_wrong_example_is_reported() -> None:
    parsed = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)
    assert "Expected:" in failures([parsed])
