"""A file that is only ever appended to, line by line, by one process at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from .errors import BrownoutError


class AppendLog:
    """Appends lines, each handed to the operating system before :meth:`append` returns.

    What was appended survives the death of the process; :meth:`sync` makes it survive a power cut too. A line
    that a crash cut off is taken away when the file is opened again.

    Args:
        path: the file; continued if it exists, made with its folder if not.
        error: what to raise when the file cannot be used.
        mode: permissions of a new file.

    Raises:
        BrownoutError: the file cannot be opened, or another process is writing it; of the type ``error``.
    """

    def __init__(self, path: str | Path, *, error: type[BrownoutError], mode: int = 0o644) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, mode)
        except OSError as reason:
            raise error(f"{self.path}: cannot open the log: {reason}") from reason
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise error(f"{self.path}: another process is writing this log; allowed: one at a time") from None
        self.torn_bytes = self._take_away_torn_line()
        self.size = os.fstat(self._file).st_size

    def _take_away_torn_line(self) -> int:
        """Cut the file back to its last whole line; returns the bytes taken away."""
        size = os.fstat(self._file).st_size
        end = size
        while end > 0:
            start = max(end - 65536, 0)
            at = os.pread(self._file, end - start, start).rfind(b"\n")
            if at >= 0:
                end = start + at + 1
                break
            end = start
        if end < size:
            os.ftruncate(self._file, end)
        return size - end

    def append(self, line: bytes) -> int:
        """Append one line, its end included; returns the offset at which it begins.

        Raises:
            OSError: the disk is full, or broken.
        """
        begin = self.size
        while line:  # one write as a rule, so that a line is whole or torn at its end
            written = os.write(self._file, line)
            self.size += written
            line = line[written:]
        return begin

    def read(self, offset: int, length: int) -> bytes:
        """Read back what stands at an offset."""
        return os.pread(self._file, length, offset)

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """(offset, line) of every whole line, ends included."""
        offset = 0
        with self.path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    return
                yield offset, line
                offset += len(line)

    def sync(self) -> None:
        """Wait until the disk has everything appended so far."""
        os.fsync(self._file)

    def close(self) -> None:
        """Sync and close; closing twice is fine."""
        if self._file >= 0:
            self.sync()
            os.close(self._file)
            self._file = -1
