"""Worker processes that an agent may crash, hang or kill without losing an episode.

Every worker plays one episode at a time and tells each request as it happens. When it dies, or does not come back in
time and is killed, what it told is enough to settle the episode here, and another worker takes its place.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Final, Literal

from ..errors import AgentError, StressError
from .ray_session import worker_env
from .stress_play import Job
from .stress_watch import GRACE_S

START_S: Final = 120.0  # a worker that is not ready by then counts as failed
STARTS: Final = 3  # failed starts in a row after which a run gives up
_LOOK_S: Final = 0.5  # how often time limits are looked at when nothing happens
_TAIL: Final = 2000  # characters of the log that an error quotes at most


@dataclass(frozen=True)
class Ended:
    """A job that is over.

    Args:
        job: which.
        row: what the worker made of it; None when it died.
        events: the requests that were made.
        over: how the harness ended the episode before the worker died, if it did: ``limit`` or ``loop``.
        fate: ``hang`` or ``killed``, where there is no row.
        error: how the process died.
        wall_s: real seconds.
    """

    job: Job
    row: dict[str, Any] | None
    events: list[dict[str, Any]]
    over: str | None = None
    fate: Literal["hang", "killed"] | None = None
    error: str | None = None
    wall_s: float = 0.0


@dataclass(eq=False)
class _Worker:
    process: subprocess.Popen[bytes]
    pipe: Connection
    started: float
    ready: bool = False
    job: Job | None = None
    events: list[dict[str, Any]] = field(default_factory=list)
    over: str | None = None

    def told(self, message: Mapping[str, Any]) -> dict[str, Any] | None:
        """Take in a message; returns the row that ends the job."""
        kind = message["kind"]
        if kind == "event":
            self.events.append(message["event"])
        elif kind == "over":
            self.over = message["how"]
        elif kind == "row":
            return message["row"]
        return None

    def kill(self) -> str:
        """End its process and all that the agent started in its session; returns how the process had died."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        status = self.process.wait()
        self.pipe.close()
        return signal.Signals(-status).name if status < 0 else f"exit status {status}"


class Pool:
    """Plays jobs on worker processes.

    Args:
        order: what every worker is told: see :func:`brownout.trainers.stress_worker.main`.
        workers: how many.
        deadline_s: real seconds after which a job's worker is killed.
        log: file that takes what agents print.
    """

    def __init__(self, order: Mapping[str, Any], workers: int, deadline_s: float, log: Path) -> None:
        self.digest: str | None = None
        self._order, self._count, self._deadline_s, self._log = dict(order), workers, deadline_s, log
        self._workers: list[_Worker] = []
        self._failed = 0

    def __enter__(self) -> Pool:
        """Start the first worker, which shows whether the agent can be loaded.

        Raises:
            AgentError: it cannot.
            StressError: no worker came up.
        """
        try:
            while not any(worker.ready for worker in self._workers):
                if not self._workers:
                    self._workers.append(self._start())
                self._listen(_LOOK_S)
                self._hung()
                self._check_starts()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Kill every worker."""
        self.close()

    def close(self) -> None:
        """Kill every worker, and what agents started."""
        for worker in self._workers:
            worker.kill()
        self._workers.clear()

    def run(self, jobs: Iterator[Job], stop: Callable[[], bool]) -> Iterator[Ended]:
        """Play jobs and yield each as it ends, in no fixed order; every job taken is yielded once.

        Args:
            jobs: taken one by one.
            stop: once true no further job is taken; those that run are let finish.

        Raises:
            StressError: workers do not come up again.
        """
        exhausted = False
        while True:
            if not exhausted:
                exhausted = stop()
            for worker in [one for one in self._workers if one.ready and one.job is None]:
                job = None if exhausted else next(jobs, None)
                if job is None:
                    exhausted = True
                    break
                self._give(worker, job)
            if exhausted and not any(worker.job for worker in self._workers):
                return
            if not exhausted and len(self._workers) < self._count:
                self._workers.append(self._start())
            yield from self._listen(self._patience())
            yield from self._hung()
            self._check_starts()

    # ---------------------------------------------------------------- one worker

    def _start(self) -> _Worker:
        here, there = Pipe()
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", f"{__package__}.stress_worker", str(there.fileno())],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[there.fileno()],
                env=_environment(), start_new_session=True,
            )  # fmt: skip
        there.close()
        worker = _Worker(process, here, time.monotonic())
        with suppress(OSError):  # dead already: noticed when it is listened to
            here.send_bytes(json.dumps(self._order).encode())
        return worker

    def _give(self, worker: _Worker, job: Job) -> None:
        worker.job, worker.events, worker.over, worker.started = job, [], None, time.monotonic()
        with suppress(OSError):
            worker.pipe.send_bytes(json.dumps(job.to_dict()).encode())

    def _patience(self) -> float:
        now = time.monotonic()
        left = [worker.started + self._deadline_s - now for worker in self._workers if worker.job]
        return max(0.0, min([_LOOK_S, *left]))

    def _listen(self, patience_s: float) -> list[Ended]:
        """Take in what workers tell for at most ``patience_s``; returns the jobs that ended."""
        ended = []
        waiting = {worker.pipe: worker for worker in self._workers}
        for pipe in wait(list(waiting), patience_s):
            worker = waiting[pipe]  # pyright: ignore[reportArgumentType]
            try:
                message = json.loads(worker.pipe.recv_bytes())
            except (EOFError, OSError):
                ended += self._died(worker)
                continue
            if message["kind"] == "ready":
                worker.ready, self._failed = True, 0
                self.digest = message["digest"]
            elif message["kind"] == "refused":
                raise AgentError(message["error"])
            elif (row := worker.told(message)) is not None and worker.job is not None:
                wall_s = time.monotonic() - worker.started
                ended.append(Ended(worker.job, row, worker.events, worker.over, wall_s=wall_s))
                worker.job = None
        return ended

    def _died(self, worker: _Worker) -> list[Ended]:
        """A worker's pipe has closed: clear up, and end its job."""
        how = worker.kill()
        self._workers.remove(worker)
        if worker.job is None:
            if not worker.ready:
                self._failed += 1
            return []
        wall_s = time.monotonic() - worker.started
        return [Ended(worker.job, None, worker.events, worker.over, "killed", f"its process ended: {how}", wall_s)]

    def _hung(self) -> list[Ended]:
        ended = []
        for worker in list(self._workers):
            waited = time.monotonic() - worker.started
            if worker.job is None:
                if not worker.ready and waited > START_S:
                    worker.kill()
                    self._workers.remove(worker)
                    self._failed += 1
                continue
            if worker.pipe.poll() and waited < self._deadline_s + GRACE_S:
                continue  # what it told comes first
            if worker.process.poll() is not None:  # a child of it may still hold the pipe open
                ended += self._died(worker)
                continue
            if waited < self._deadline_s:
                continue
            worker.kill()
            self._workers.remove(worker)
            why = f"did not return within {self._deadline_s:g} s"
            ended.append(Ended(worker.job, None, worker.events, worker.over, "hang", why, waited))
        return ended

    def _check_starts(self) -> None:
        if self._failed >= STARTS:
            raise StressError(f"{self._failed} worker processes in a row did not start; {self._said()}")

    def _said(self) -> str:
        with suppress(OSError):
            lines = self._log.read_text(encoding="utf-8", errors="replace")[-_TAIL:].strip().splitlines()
            if lines:
                return f"the last line of {self._log} is: {lines[-1]}"
        return f"{self._log} says nothing"


def _environment() -> dict[str, str]:
    """The user's own, with one thread per process unless it says otherwise, and with this package on the path."""
    ours = worker_env()
    return ours | os.environ | {name: value for name, value in ours.items() if name == "PYTHONPATH"}
