"""What every use of Ray here shares: a session, equipped workers, typed errors and limited waits."""

from __future__ import annotations

import faulthandler
import logging
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..errors import BrownoutError, PolicyError, WorkerError
from ..extras import missing_extra
from .artefact import load_policy
from .training import CHECKPOINT, TrainResult, read_checkpoint

if TYPE_CHECKING:
    from .api import Task

TIMEOUT_S: Final = 300.0  # a worker that is silent for longer counts as hung
REPLACEMENTS: Final = 3  # how often one worker is replaced before the training gives up

# Read once, when NumPy and torch are loaded. Spinning threads of several workers would fight over the cores.
THREADS: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
_QUIET: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray's future default; without a choice it warns
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # scenarios may name tables relative to the working directory
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
}


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables that are not set already, and take them away again."""
    mine = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(mine)
    try:
        yield
    finally:
        for name in mine:
            os.environ.pop(name, None)


def worker_env() -> dict[str, str]:
    """Environment variables of every worker process: quiet threads, and where this package is found.

    An installed package needs no help. One that was found through ``PYTHONPATH`` or ``sys.path`` is found by
    the workers the same way.
    """
    env = dict(THREADS)
    package = Path(__file__).parent.parent
    name = __name__.partition(".")[0]
    if package.name == name and not {"site-packages", "dist-packages"} & set(package.parts):
        others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
        env["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([*others, str(package.parent.absolute())]))
    return env


@contextmanager
def _hushed() -> Iterator[None]:
    """Let Ray speak up only for errors; what concerns a training is told by the training."""
    logger = logging.getLogger("ray")
    level = logger.level
    logger.setLevel(max(level, logging.ERROR))
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def ray_session(address: str | None = None, cpus: int = 1) -> Iterator[Any]:
    """Give ``ray``, connected; end afterwards only what was started here.

    A session that runs in this process already is used as it is. Without one, ``address`` names a cluster to
    join (``auto`` or ``host:port``), and without an address a local Ray is started.

    Args:
        address: an existing cluster.
        cpus: CPUs that must be there at once; a local Ray promises them even when the machine has fewer.

    Raises:
        MissingExtraError: Ray is not installed.
        WorkerError: there is no cluster at ``address``.
    """
    try:
        import ray
    except ImportError as error:
        raise missing_extra("train", error) from error
    with environment(_QUIET), _hushed():
        if ray.is_initialized():
            yield ray
            return
        _refuse_silent_host(address)
        local: dict[str, Any] = {"num_cpus": max(cpus, _cores()), "object_store_memory": 256 * 2**20}
        try:
            ray.init(
                address=address or "local",
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=False,
                runtime_env={"env_vars": worker_env()},
                **({} if address else local),
            )
        except (OSError, RuntimeError, ValueError) as error:
            where = f"address {address!r}: no Ray cluster to join" if address else "Ray did not start"
            hint = " (one that asks for a token needs RAY_AUTH_MODE=token here)" if address else ""
            raise WorkerError(f"{where}{hint}: {_first_line(error)}") from error
        try:
            yield ray
        finally:
            ray.shutdown()


def _refuse_silent_host(address: str | None) -> None:
    """Look before Ray does: it would try for minutes and then end the whole process."""
    host, sign, port = (address or "").rpartition(":")
    if not sign or "/" in host:
        return
    try:
        socket.create_connection((host, int(port)), timeout=5.0).close()
    except (OSError, ValueError, OverflowError) as error:
        raise WorkerError(
            f"address {address!r}: no Ray cluster there ({error}); allowed: host:port of a running one, or auto"
        ) from error


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def refuse_local_folder(ray: Any, out: Path | None, what: str) -> None:
    """Refuse to train on several machines without a folder, which they must share.

    Raises:
        PolicyError: there is no ``out``.
    """
    machines = sum(1 for node in ray.nodes() if node["Alive"])
    if out is None and machines > 1:
        raise PolicyError(f"{what} on {machines} machines needs out: a folder on a file system that they share")


@dataclass(frozen=True)
class Place:
    """A task and where it is at home, for a worker that may live elsewhere."""

    task: Task
    folder: str
    timeout_s: float

    @classmethod
    def of(cls, task: Any, timeout_s: float) -> Place:
        """Describe this process; a scenario file's relative path becomes absolute."""
        path = getattr(getattr(task, "scenario", None), "path", None)
        if path is not None and not path.is_absolute():
            scenario = copy(task.scenario)
            scenario._path = path.absolute()
            task = replace(task, scenario=scenario)
        return cls(task, os.getcwd(), timeout_s)

    def enter(self) -> Task:
        """Settle in a worker process and return the task."""
        os.environ.update({name: os.environ.get(name, value) for name, value in THREADS.items()})
        with suppress(OSError):
            os.chdir(self.folder)
        return self.task

    def awake(self) -> None:
        """Restart the watchdog: a process that is silent for ``timeout_s`` ends, and Ray replaces it."""
        file = sys.__stderr__
        with suppress(OSError, ValueError, AttributeError, RuntimeError):
            faulthandler.dump_traceback_later(self.timeout_s, exit=True, file=file or sys.stderr)

    def leave(self) -> None:
        """Stop the watchdog."""
        faulthandler.cancel_dump_traceback_later()


def typed(error: BaseException, where: str) -> BrownoutError:
    """Turn an exception that Ray brought from a worker into one of this package.

    A typed error keeps its type and gains the place; anything else becomes a WorkerError.
    """
    cause: BaseException = error
    while getattr(cause, "cause", None) is not None and cause is not cause.cause:  # type: ignore[attr-defined]
        cause = cause.cause  # type: ignore[attr-defined]
    if isinstance(cause, BrownoutError):
        with suppress(TypeError):
            return type(cause)(f"{where}: {cause}")
    name = type(cause).__name__
    return WorkerError(f"{where}: {name}: {_first_line(cause)}")


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def read_result(folder: Path, out: Path | None, interrupted: bool, notes: list[str]) -> TrainResult:
    """Read the result of a training that ran elsewhere from its run folder.

    Args:
        folder: where checkpoint and policy are.
        out: folder to name in the result.
        interrupted: whether it was ended early.
        notes: warnings to put before its own.

    Raises:
        ArtefactError: nothing usable is there.
    """
    state, meta = read_checkpoint(folder / CHECKPOINT)
    iterations, steps = (int(value) for value in state["counters"])
    return TrainResult(
        policy=load_policy(folder),
        steps=steps,
        seconds=float(state["seconds"]),
        iterations=iterations,
        record=meta["record"],
        best_score=meta["best_score"],
        interrupted=interrupted,
        out=out,
        warnings=[*notes, *meta["warnings"]],
    )
