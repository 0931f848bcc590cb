"""The process in which an agent under stress plays: ``python -m brownout.trainers.stress_worker PIPE``.

It takes an order, loads the agent, and then plays one episode after the other, telling every request as it happens.
It ends when the run that started it does.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ..errors import BrownoutError
from .own_tools import OwnTools
from .stress_agents import AgentDriver, load_agent
from .stress_files import load_kept_scenario
from .stress_play import Job, Stage
from .stress_watch import Limits


def main(pipe_number: int) -> None:
    """Serve one run.

    Args:
        pipe_number: file descriptor of the pipe to it. The first message is the order: ``agent``, ``folder`` (where
            the run keeps its scenario), ``limits`` and ``here`` (working directory); every further one is a job.
    """
    os.set_inheritable(pipe_number, False)  # an agent's child must not keep the pipe open
    pipe = Connection(pipe_number)
    telling = threading.Lock()

    def tell(kind: str, **message: Any) -> None:
        with telling:
            pipe.send_bytes(json.dumps({"kind": kind, **message}).encode())

    order = json.loads(pipe.recv_bytes())
    os.chdir(order["here"])
    try:
        stage = Stage(load_kept_scenario(Path(order["folder"])), Limits(**order["limits"]))
        driver = load_agent(order["agent"])
        if isinstance(stage.scenario, OwnTools):
            stage.scenario.prepare(driver)
        elif driver.remote:
            from . import stress_faces

            stress_faces.start()
    except BrownoutError as error:
        tell("refused", error=str(error))
        return
    tell("ready", digest=driver.digest)
    jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(pipe, jobs), daemon=True).start()
    while True:
        _play(jobs.get(), stage, driver, tell)


def _listen(pipe: Connection, jobs: queue.SimpleQueue[Job]) -> None:
    """Pass jobs on; when the run has gone, end this process and whatever the agent started."""
    try:
        while True:
            jobs.put(Job(**json.loads(pipe.recv_bytes())))
    except (EOFError, OSError):
        os.killpg(os.getpgid(0), signal.SIGKILL)


def _play(job: Job, stage: Stage, driver: AgentDriver, tell: Any) -> None:
    row = stage.play(
        job, driver, lambda event: tell("event", event=event), lambda how: tell("over", how=how)
    )  # fmt: skip
    sys.stdout.flush()
    tell("row", row=json.loads(row.to_line()))


if __name__ == "__main__":
    main(int(sys.argv[1]))
