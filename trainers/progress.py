"""What a person sees and keeps of a training: a live line, a metrics file, TensorBoard."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ..errors import ArtefactError
from ..extras import missing_extra

if TYPE_CHECKING:
    from rich.progress import Progress

Record = Mapping[str, Any]


class MetricsFile:
    """``metrics.jsonl``: one JSON object per iteration, flushed at once.

    Args:
        path: the file.
        after: keep only the records before this iteration (a resumed training repeats the others).
    """

    def __init__(self, path: Path, after: int = 0) -> None:
        kept = []
        if after and path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    if json.loads(line)["iteration"] < after:
                        kept.append(line)
                except (ValueError, KeyError, TypeError):
                    continue  # a line that a crash cut off
        try:
            path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
            self._file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise ArtefactError(f"{path}: cannot write metrics: {error}") from error

    def write(self, record: Record) -> None:
        """Append one record; what is not a finite number becomes null."""
        self._file.write(json.dumps(_finite(record)) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class TensorBoard:
    """Scalars for TensorBoard, by environment step."""

    def __init__(self, folder: Path, after: int = 0) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise missing_extra("train", error) from error
        self._writer = SummaryWriter(str(folder), purge_step=after or None)

    def write(self, record: Record) -> None:
        """Add every finite number of a record, nested ones as ``group/name``."""
        step = int(record["steps"])
        for name, value in record.items():
            for key, number in value.items() if isinstance(value, Mapping) else (("", value),):
                if isinstance(number, (int, float)) and math.isfinite(number):
                    self._writer.add_scalar(f"{name}/{key}" if key else name, number, step)

    def close(self) -> None:
        """Flush and close."""
        self._writer.close()


class LiveBar:
    """A bar that is drawn while it is entered; without a terminal there is none."""

    _bar: Progress | None = None

    def __enter__(self) -> Self:
        """Start drawing."""
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop drawing and leave the last state on the screen."""
        if self._bar is not None:
            self._bar.stop()


class LiveProgress(LiveBar):
    """A bar with steps per second, utility, share of the ceiling and time left.

    Where the output is no terminal (a log of CI) it prints one line every ten seconds instead.
    """

    def __init__(self, steps: int, ceiling: float | None = None, every_s: float = 10.0) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        self._ceiling, self._steps, self._every_s, self._printed = ceiling, steps, every_s, time.monotonic()
        self._console = Console(stderr=True)
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("train"),
                BarColumn(bar_width=24),
                TaskProgressColumn(),
                TextColumn("{task.fields[text]}"),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._task = self._bar.add_task("train", total=steps, text="")

    def write(self, record: Record) -> None:
        """Show one iteration."""
        steps = int(record["steps"])
        text = self.text(record)
        if self._bar is not None:
            self._bar.update(self._task, completed=min(steps, self._steps), text=text)
        elif time.monotonic() - self._printed >= self._every_s or steps >= self._steps:
            self._printed = time.monotonic()
            self._console.print(f"train {min(1.0, steps / self._steps):4.0%}  {text}", highlight=False)

    def say(self, message: str) -> None:
        """Print a line above the bar."""
        self._console.print(message, highlight=False)

    def text(self, record: Record) -> str:
        """Put the figures of one record into words."""
        parts = [f"{record['steps_per_s'] / 1000:.0f}k steps/s"]
        utility = record.get("utility")
        if utility is not None and math.isfinite(utility):
            parts.append(f"utility {utility:+.3f}")
            if self._ceiling:
                parts.append(f"{utility / self._ceiling:.1%} of ceiling")
        faults, replay = record.get("curriculum"), record.get("replay")
        if faults is not None:
            parts.append(f"faults {faults['fault_share']:.0%} x {faults['intensity']:.2f}")
        if replay is not None:
            parts.append(f"replay {replay.get('share', 0.0):.0%}")
        score = record.get("score")
        if score is not None:
            parts.append(f"greedy {score:+.3f}")
        return "  ".join(parts)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
