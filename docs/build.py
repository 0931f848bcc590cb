"""Refresh the generated parts of README.md and docs/.

    python docs/build.py            everything: tables from the code, then trainings, figures and pictures
    python docs/build.py --tables   only the tables, which are read from the code in a second
    python docs/build.py --check    exit with 1 if a table is stale; writes nothing
    python docs/build.py --redraw   tables, figures and pictures from the last trainings in runs/docs

A generated part stands between ``<!-- NAME:start -->`` and ``<!-- NAME:end -->``. Tables come from
``generators/reference.py`` and ``generators/workflow_reference.py``; measured figures and pictures from
``generators/figures.py``, ``generators/agents.py`` and ``generators/report_picture.py``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from generators import agents, figures, reference, report_picture, workflow_reference

ROOT = Path(__file__).resolve().parents[1]
Blocks = Mapping[str, Callable[[], str]]
TABLES: Blocks = {**reference.BLOCKS, **workflow_reference.BLOCKS}
MEASURED: Blocks = {**figures.BLOCKS, **agents.BLOCKS}


def pages(root: Path = ROOT) -> list[Path]:
    """Every page that may hold a generated part."""
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


def markers(text: str) -> list[str]:
    """Names of the generated parts of a page, in order.

    Raises:
        ValueError: if a part is not closed, or closed twice.
    """
    names: list[str] = []
    open_name = ""
    for number, line in enumerate(text.splitlines(), 1):
        inner = line.strip().removeprefix("<!-- ").removesuffix(" -->")
        if inner == line.strip() or ":" not in inner:
            continue
        name, _, end = inner.rpartition(":")
        if end == "start" and not open_name:
            names.append(name)
            open_name = name
        elif end == "end" and open_name == name:
            open_name = ""
        elif end in ("start", "end"):
            raise ValueError(f"line {number}: {line.strip()} does not fit; open: {open_name or 'nothing'}")
    if open_name:
        raise ValueError(f"<!-- {open_name}:start --> has no end")
    return names


def filled(text: str, contents: Mapping[str, str]) -> str:
    """Return the page with the named parts replaced; other parts stay."""
    for name in markers(text):
        if name in contents:
            start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
            before, _, rest = text.partition(start)
            _, _, after = rest.partition(end)
            text = f"{before}{start}\n{contents[name].strip()}\n{end}{after}"
    return text


def refresh(blocks: Blocks, *, write: bool) -> list[str]:
    """Fill the parts that ``blocks`` can make; return the pages that changed or would change.

    Raises:
        ValueError: if a page names a part that nobody makes, or no page shows one that is made.
    """
    shown = {path: markers(path.read_text(encoding="utf-8")) for path in pages()}
    known = {*TABLES, *MEASURED}
    for path, names in shown.items():
        unknown = sorted(set(names) - known)
        if unknown:
            raise ValueError(f"{path.name}: nobody makes {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    lost = sorted(set(blocks) - {name for names in shown.values() for name in names})
    if lost:
        raise ValueError(f"no page shows {', '.join(lost)}")
    contents = {name: make() for name, make in blocks.items()}
    changed: list[str] = []
    for path in shown:
        old = path.read_text(encoding="utf-8")
        new = filled(old, contents)
        if new != old:
            changed.append(str(path.relative_to(ROOT)))
            if write:
                path.write_text(new, encoding="utf-8")
    return changed


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--tables", action="store_true", help="only the tables that are read from the code")
    choice.add_argument("--check", action="store_true", help="exit with 1 if such a table is stale")
    choice.add_argument("--redraw", action="store_true", help="draw again from the last trainings in runs/docs")
    options = parser.parse_args(arguments)
    changed = refresh(TABLES, write=not options.check)
    if options.check:
        for page in changed:
            print(f"{page}: a generated part is stale; run: python docs/build.py --tables", file=sys.stderr)
        return 1 if changed else 0
    if not options.tables:
        figures.measure(fresh=not options.redraw)
        changed += refresh(MEASURED, write=True)
        report_picture.draw()
    for page in dict.fromkeys(changed):
        print(f"wrote {page}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
