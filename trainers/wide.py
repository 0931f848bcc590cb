"""Room for tables where the output is no terminal."""

from __future__ import annotations

from rich.console import Console


def wide(console: Console, width: int = 150) -> Console:
    """Return a console of at least ``width`` columns in a pipe: a table cut at its edge would hide the intervals."""
    return console if console.is_terminal else Console(width=max(console.width, width), file=console.file)
