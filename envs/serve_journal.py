"""The record of a service: every episode opened, every request, every result, as lines of one file.

The file is only appended to. A line is with the operating system before the answer it belongs to goes out, so the
death of the process loses nothing that an agent has seen; the disk is waited for in batches, and before the answer
that ends an episode. Nobody but the owner may read the file: it holds seeds, results and addresses.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from ..append_log import AppendLog
from ..errors import ServeError

FORMAT: Final = "brownout.serve/1"
KINDS: Final = ("opened", "event", "closed")

Place = tuple[int, int]  # offset and length of a line


class Journal:
    """Appends rows and reads them back by their place.

    Args:
        folder: where ``episodes.jsonl`` is, or will be.

    Raises:
        ServeError: the file cannot be opened, is in use, or is no such record.
    """

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as reason:
            raise ServeError(f"{folder}: cannot make the folder of records: {reason}") from reason
        self._log = AppendLog(folder / "episodes.jsonl", error=ServeError, mode=0o600)
        self.path = self._log.path
        self._synced = 0
        self._syncing: asyncio.Task[None] | None = None
        self._failure: ServeError | None = None
        if not self._log.size:
            from .. import __version__

            self.write({"kind": "journal", "format": FORMAT, "version": __version__})

    def rows(self) -> Iterator[tuple[Place, dict[str, Any]]]:
        """Every row from the beginning, with its place.

        Raises:
            ServeError: a line is not one that a service writes.
        """
        for number, (offset, line) in enumerate(self._log.lines(), 1):
            row: Any = None
            try:
                row = json.loads(line)
                good = row["format"] == FORMAT if number == 1 else row["kind"] in KINDS and isinstance(row["id"], str)
            except (ValueError, KeyError, TypeError):
                good = False
            if not good:
                raise ServeError(f"{self.path}: line {number} is not of a {FORMAT} record: {line[:60]!r}")
            if number > 1:
                yield (offset, len(line)), row

    def write(self, row: dict[str, Any]) -> Place:
        """Append a row; it is with the operating system when this returns.

        Raises:
            ServeError: the row could not be written.
        """
        line = json.dumps(row, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"
        try:
            return self._log.append(line), len(line)
        except OSError as reason:
            self._failure = ServeError(f"{self.path}: a row was lost: {reason}")
            raise self._failure from reason

    def read(self, place: Place) -> dict[str, Any]:
        """The row at a place."""
        return json.loads(self._log.read(*place))

    async def durable(self) -> None:
        """Wait until the disk has every row written so far; callers at the same time share one wait.

        Raises:
            ServeError: the disk failed, now or before.
        """
        if self._failure is not None:
            raise self._failure
        goal = self._log.size
        while self._synced < goal:
            if self._syncing is None:
                self._syncing = asyncio.create_task(self._sync())
            await asyncio.shield(self._syncing)

    async def _sync(self) -> None:
        size = self._log.size
        try:
            await asyncio.to_thread(self._log.sync)
            self._synced = size
        except OSError as reason:
            raise ServeError(f"{self.path}: cannot be synced to the disk: {reason}") from reason
        finally:
            self._syncing = None

    def close(self) -> None:
        """Sync and close."""
        self._log.close()
