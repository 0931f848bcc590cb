"""The generated parts of the documentation are what the code says now."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest

from source_tree import ROOT


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    import importlib.util

    monkeypatch.syspath_prepend(ROOT / "docs")
    spec = importlib.util.spec_from_file_location("docs_build", ROOT / "docs" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_are_fresh() -> None:
    # In a process of its own: other tests register faults and rewards.
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "build.py"), "--check"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_a_stale_table_is_found(build: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "README.md"
    page.write_text("before\n<!-- triggers:start -->\nold\n<!-- triggers:end -->\nafter\n", encoding="utf-8")
    monkeypatch.setattr(build, "ROOT", tmp_path)
    monkeypatch.setattr(build, "pages", lambda: [page])
    blocks = {"triggers": lambda: "new"}
    assert build.refresh(blocks, write=False) == ["README.md"]
    assert "old" in page.read_text(encoding="utf-8")
    assert build.refresh(blocks, write=True) == ["README.md"]
    assert page.read_text(encoding="utf-8") == "before\n<!-- triggers:start -->\nnew\n<!-- triggers:end -->\nafter\n"
    assert build.refresh(blocks, write=False) == []
    with pytest.raises(ValueError, match="no page shows commands"):
        build.refresh({"commands": lambda: ""}, write=False)


def test_markers(build: Any) -> None:
    assert build.markers("<!-- a:start -->\n<!-- a:end -->\n<!-- a remark -->\n<!-- b:start -->\n<!-- b:end -->") == [
        "a",
        "b",
    ]
    for text in ("<!-- a:start -->", "<!-- a:end -->", "<!-- a:start -->\n<!-- b:start -->\n<!-- b:end -->"):
        with pytest.raises(ValueError, match=r"start|end"):
            build.markers(text)


def test_every_generated_part_is_filled(build: Any) -> None:
    for path in build.pages():
        text = path.read_text(encoding="utf-8")
        for name in build.markers(text):
            part = text.partition(f"<!-- {name}:start -->")[2].partition(f"<!-- {name}:end -->")[0]
            assert part.strip(), f"{path.name}: {name} is empty; run docs/build.py"


def test_a_name_without_a_meaning_stops_the_build(build: Any) -> None:
    with pytest.raises(ValueError, match="has nothing about 'swim'"):
        build.reference.required({"walk": "on foot"}, "swim", "ACTIONS")
