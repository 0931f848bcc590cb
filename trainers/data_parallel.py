"""One training on several workers: gradients averaged by Ray Train's TorchTrainer over gloo.

Rendezvous, placement, restarts and checkpoints are Ray's. Every rank runs the same training loop on lanes of
its own, keyed by (seed, rank, iteration), and all ranks hold the same weights at any time. A worker that dies
or hangs takes its group down; Ray starts a new group, which continues from the last checkpoint. Rank 0 then
continues its lanes exactly, the others play fresh episodes.
"""

from __future__ import annotations

import shutil
import signal
import tempfile
import threading
import warnings
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..errors import ArtefactError, BrownoutError, PolicyError, WorkerError
from .ppo import AllReduce, PPOConfig
from .progress import LiveProgress, MetricsFile, TensorBoard
from .ray_session import (
    REPLACEMENTS,
    TIMEOUT_S,
    Place,
    environment,
    ray_session,
    read_result,
    refuse_local_folder,
    typed,
    worker_env,
)
from .training import CHECKPOINT, TrainResult, read_checkpoint, train_loop

STORAGE: Final = "ray-train"  # Ray's own folder inside the run folder, while a training runs
_NOT_KEPT: Final = ("metrics.jsonl", ".metadata.json")  # the driver writes its own, live


class Board:
    """An actor on which rank 0 pins its records, and any rank the error that ended it."""

    def __init__(self) -> None:
        self.records: list[tuple[int, dict[str, Any]]] = []
        self.groups = 0
        self.error: BrownoutError | None = None

    def begin(self) -> None:
        """A group of workers has started."""
        self.groups += 1

    def pin(self, record: dict[str, Any]) -> None:
        """Add a record of the present group."""
        self.records.append((self.groups, record))

    def take(self) -> list[tuple[int, dict[str, Any]]]:
        """Return the records since the last call, each with the number of its group from 1."""
        records, self.records = self.records, []
        return records

    def fail(self, error: BrownoutError) -> None:
        """Keep the first error that no restart can mend."""
        self.error = self.error or error

    def failure(self) -> BrownoutError | None:
        """Return that error."""
        return self.error


@dataclass(frozen=True)
class _Order:
    """What a rank is told to do."""

    place: Place
    config: PPOConfig
    board: Any
    resume: str | None
    evaluate_every: int
    checkpoint_every: int


def _run_rank(settings: Mapping[str, Any]) -> None:
    """Train as one rank of a group; runs in a worker of Ray Train."""
    import ray

    order: _Order = settings["order"]
    # An error of the training itself would come back at every restart. The first group tells the board and
    # dies of it, the second finds it there and leaves in peace; the driver raises it.
    if ray.get(order.board.failure.remote(), timeout=order.place.timeout_s) is not None:
        return
    try:
        _train_rank(order)
    except BrownoutError as error:
        ray.get(order.board.fail.remote(error), timeout=order.place.timeout_s)
        raise
    finally:
        order.place.leave()


def _train_rank(order: _Order) -> None:
    import ray
    from ray import train

    task, config, comm = order.place.enter(), order.config, AllReduce()
    order.place.awake()
    chief = comm.rank == 0
    if chief:
        ray.get(order.board.begin.remote(), timeout=order.place.timeout_s)
    with tempfile.TemporaryDirectory(prefix="brownout-") as name:
        folder = Path(name)
        checkpoint = train.get_checkpoint()
        if checkpoint is not None:
            checkpoint.to_directory(name)
        elif order.resume is not None:
            _copy_run(Path(order.resume), folder)
        due = False

        def told(record: dict[str, Any], trainer: Any) -> None:
            nonlocal due
            order.place.awake()
            if chief:
                order.board.pin.remote(record)
            if due:  # the loop has written its checkpoint after the iteration before this one
                _report(record, folder if chief else None)
            due = trainer.iteration % order.checkpoint_every == 0

        result = train_loop(
            lambda lanes: task.make_env(lanes, config.gamma),
            config,
            comm=comm,
            out=folder if chief else None,
            resume=folder / CHECKPOINT if (folder / CHECKPOINT).exists() else False,
            evaluate_fn=task.score if chief else None,
            evaluate_every=order.evaluate_every,
            checkpoint_every=order.checkpoint_every,
            callback=told,
        )
        _report(result.record, folder if chief else None)


def _report(record: Mapping[str, Any], folder: Path | None) -> None:
    """Report to Ray Train; every rank must, and rank 0 brings the checkpoint."""
    from ray import train

    metrics = {name: record[name] for name in ("iteration", "steps", "utility", "score") if name in record}
    train.report(metrics, checkpoint=train.Checkpoint.from_directory(folder) if folder is not None else None)


def _copy_run(source: Path, target: Path) -> None:
    """Copy a checkpoint and the policies beside it."""
    for path in sorted(source.iterdir()):
        if path.name in (*_NOT_KEPT, STORAGE, "tensorboard"):
            continue
        if path.is_dir():
            shutil.copytree(path, target / path.name, dirs_exist_ok=True)
        else:
            shutil.copy2(path, target / path.name)


def _harvest(out: Path) -> None:
    """Bring the newest checkpoint that Ray Train stored into the run folder, then drop Ray's folder."""
    storage = out / STORAGE
    newest, most = None, _iterations(out)
    for folder in sorted(path.parent for path in storage.glob(f"*/checkpoint_*/{CHECKPOINT}")):
        with suppress(ArtefactError):  # cut off when the driver died: an older one is there
            iterations = _iterations(folder)
            if iterations > most:
                newest, most = folder, iterations
    if newest is not None:
        _copy_run(newest, out)
    shutil.rmtree(storage, ignore_errors=True)


def _iterations(folder: Path) -> int:
    path = folder / CHECKPOINT
    return int(read_checkpoint(path)[0]["counters"][0]) if path.exists() else -1


class _Watcher:
    """Shows and writes, in the driver's process, what rank 0 pins on the board."""

    def __init__(self, ray: Any, board: Any, out: Path, live: LiveProgress | None, tensorboard: bool) -> None:
        self.ray, self.board, self.out, self.live, self.tensorboard = ray, board, out, live, tensorboard
        self.group, self.last = 0, -1
        self.restarts: list[str] = []
        self.sinks: list[Any] = []
        self.error: BrownoutError | None = None
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="brownout-records", daemon=True)

    def __enter__(self) -> _Watcher:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join(timeout=30.0)
        for sink in self.sinks:
            sink.close()
        if self.error is not None and error[0] is None:
            raise self.error

    def _run(self) -> None:
        try:
            while not self._end.wait(0.5):
                self._drain()
            self._drain()
        except BrownoutError as error:  # a full disk, say; the training itself goes on
            self.error = error

    def _drain(self) -> None:
        records: list[tuple[int, dict[str, Any]]] = []
        with suppress(self.ray.exceptions.RayError, TimeoutError):
            records = self.ray.get(self.board.take.remote(), timeout=10.0)
        for group, record in records:
            if group != self.group:
                self._reopen(record)
            self.group, self.last = group, record["iteration"]
            for sink in (*self.sinks, *([self.live] if self.live is not None else [])):
                sink.write(record)

    def _reopen(self, record: Mapping[str, Any]) -> None:
        """Begin, or go back to where a new group of workers has begun."""
        if self.sinks:
            message = f"workers were lost after iteration {self.last}; again from iteration {record['iteration']}"
            self.restarts.append(message)
            if self.live is not None:
                self.live.say(f"note: {message}")
        for sink in self.sinks:
            sink.close()
        self.sinks = [MetricsFile(self.out / "metrics.jsonl", record["iteration"])]
        if self.tensorboard:
            self.sinks.append(TensorBoard(self.out / "tensorboard", record["steps"]))


def train_workers(
    task: Any,
    config: PPOConfig,
    workers: int,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    address: str | None = None,
    progress: bool = False,
    tensorboard: bool = False,
    evaluate_every: int = 20,
    checkpoint_every: int = 10,
    timeout_s: float = TIMEOUT_S,
    replacements: int = REPLACEMENTS,
) -> TrainResult:
    """Train on ``workers`` ranks, each with ``config.lanes`` lanes, averaging their gradients.

    It pays for large minibatches (4k rows per rank and more). The number of workers may change when a
    training is resumed.

    Args:
        task: what to train on.
        config: hyper-parameters; lanes and minibatch are per rank, steps over all ranks.
        workers: ranks.
        out: run folder; on several machines it must be on a file system that they share. None keeps nothing.
        resume: continue from the last checkpoint in ``out``.
        address: Ray cluster; default: a local one.
        progress: show a live display.
        tensorboard: also write TensorBoard events.
        evaluate_every: iterations between selections of the best policy.
        checkpoint_every: iterations between checkpoints.
        timeout_s: seconds after which a silent worker counts as hung.
        replacements: how often the group is started anew.

    Raises:
        WorkerError: workers were lost for good. The last checkpoint in ``out`` is usable.
        BrownoutError: what a rank raised, with its type.
        ArtefactError: nothing usable to resume from.
    """
    if workers < 1:
        raise PolicyError(f"workers: {workers}, must be 1 or more")
    with ExitStack() as stack:
        ray = stack.enter_context(ray_session(address, workers))
        refuse_local_folder(ray, None if out is None else Path(out), "workers")
        name = out or stack.enter_context(tempfile.TemporaryDirectory(prefix="brownout-"))
        folder = Path(name).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        _harvest(folder)
        if resume and not (folder / CHECKPOINT).exists():
            raise ArtefactError(f"{folder / CHECKPOINT}: no such file; there is nothing to resume")
        if not resume:
            (folder / CHECKPOINT).unlink(missing_ok=True)
        board = ray.remote(num_cpus=0, runtime_env={"env_vars": worker_env()})(Board).remote()
        stack.callback(ray.kill, board)
        order = _Order(
            Place.of(task, timeout_s), config, board, str(folder) if resume else None, evaluate_every, checkpoint_every
        )
        live = stack.enter_context(LiveProgress(config.steps, task.ceiling())) if progress else None
        interrupted = False
        with _Watcher(ray, board, folder, live, tensorboard) as watcher:
            try:
                _fit(order, workers, folder / STORAGE, timeout_s, replacements)
            except (KeyboardInterrupt, SystemExit):  # Ray Train answers Ctrl-C with either
                interrupted = True
            except Exception as error:
                known = _failure(ray, board)
                raise _explained(known, error, folder) from error
            finally:
                _harvest(folder)
            known = _failure(ray, board)
            if known is not None:
                raise _explained(known, known, folder)
        return read_result(folder, None if out is None else Path(out), interrupted, watcher.restarts)


def _fit(order: _Order, workers: int, storage: Path, timeout_s: float, replacements: int) -> None:
    """Run Ray Train; all of its waits get our time-out."""
    from ray import train
    from ray.train.torch import TorchConfig, TorchTrainer

    limit = str(timeout_s)
    waits = {
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # saves four seconds at the start
        "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": limit,
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": limit,
        "RAY_TRAIN_COLLECTIVE_TIMEOUT_S": limit,
    }
    failures = train.FailureConfig(max_failures=replacements, controller_failure_limit=replacements)
    handler = signal.getsignal(signal.SIGINT)  # Ray Train sets its own and leaves it there
    with environment(waits), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Ray warns of its own options
        try:
            TorchTrainer(
                _run_rank,
                train_loop_config={"order": order},
                torch_config=TorchConfig(backend="gloo", timeout_s=max(1, round(timeout_s))),
                scaling_config=train.ScalingConfig(num_workers=workers),
                run_config=train.RunConfig(
                    name="training",
                    storage_path=str(storage),
                    failure_config=failures,
                    checkpoint_config=train.CheckpointConfig(num_to_keep=2),
                    worker_runtime_env={"env_vars": worker_env()},
                ),
            ).fit()
        finally:
            if handler is not None and threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, handler)


def _failure(ray: Any, board: Any) -> BrownoutError | None:
    with suppress(ray.exceptions.RayError, TimeoutError):
        return ray.get(board.failure.remote(), timeout=30.0)
    return None


def _explained(known: BrownoutError | None, error: BaseException, folder: Path) -> BrownoutError:
    """The error for the user, with the way to continue where there is one."""
    if known is None:
        failures: Mapping[int, BaseException] = getattr(error, "worker_failures", {})
        rank, first = next(iter(sorted(failures.items())), (None, error))
        where = "Ray Train" if rank is None else f"workers were lost for good, first rank {rank}"
        known = typed(getattr(first, "_base_exc", first), where)
    path = folder / CHECKPOINT
    if isinstance(known, WorkerError) and path.exists():
        return WorkerError(f"{known}; {path} is usable: continue with resume")
    return known
