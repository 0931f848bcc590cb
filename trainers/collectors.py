"""Rollout actors on Ray, for environments that are dear to step.

The learner stays in this process; every actor steps its share of the lanes. Ray restarts an actor that dies
and sends it the lost call again. A restarted actor runs its constructor again, so nothing there decides what
is played: lanes and actions are keyed by (seed, rank, iteration), and a lost rollout is replaced by fresh
episodes, never by some that were delivered before.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import PolicyError, WorkerError
from .curriculum import Orders
from .policy import Policy
from .ppo import PPOConfig
from .ray_session import REPLACEMENTS, TIMEOUT_S, Place, ray_session, typed, worker_env
from .rollout import Collector, Episodes, Rollout
from .training import CHECKPOINT, TrainResult, train_loop

START_S: Final = 60.0  # what a new process may take, beside the time-out, until it plays


class RolloutWorker:
    """One actor: some lanes of the training and the collector that steps them.

    Args:
        place: task and working directory.
        config: hyper-parameters.
        lanes: lanes of this actor.
        rank: its number, which keys its episodes.
    """

    def __init__(self, place: Place, config: PPOConfig, lanes: int, rank: int) -> None:
        self.place, self.config, self.lanes, self.rank = place, config, lanes, rank
        self.collector: Collector | None = None
        self.born = f"{os.getpid()}@{time.time_ns()}"

    def collect(self, policy: Policy, iteration: int, orders: Orders | None = None) -> tuple[str, Rollout]:
        """Play one rollout; the first element changes when the actor has been restarted.

        The environment is built here, because an exception in an actor's constructor loses its type.
        """
        if self.collector is None:
            env = self.place.enter().make_env(self.lanes, self.config.gamma)
            self.collector = Collector.of(env, self.config, self.rank)
        return self.born, self.collector.collect(policy, iteration, orders)

    def identity(self) -> int:
        """Process id."""
        return os.getpid()


class CollectorPool:
    """Rollout actors as one source of rollouts.

    Args:
        ray: a connected ``ray``.
        place: task and working directory.
        config: hyper-parameters; its lanes are divided among the actors.
        count: actors.
        timeout_s: an actor that has not answered for so long counts as hung, and is killed and replaced.
        replacements: how often each actor is replaced before the training ends with an error.

    Raises:
        PolicyError: fewer lanes than actors.
    """

    def __init__(
        self,
        ray: Any,
        place: Place,
        config: PPOConfig,
        count: int,
        timeout_s: float = TIMEOUT_S,
        replacements: int = REPLACEMENTS,
    ) -> None:
        if not 1 <= count <= config.lanes:
            raise PolicyError(f"collectors: {count}, must be from 1 to the number of lanes, {config.lanes}")
        self.ray, self.timeout_s, self.replacements = ray, timeout_s, replacements
        self.replaced, self.notes = 0, list[str]()
        actor = ray.remote(
            num_cpus=1,
            max_restarts=replacements,
            max_task_retries=-1,  # as long as there are restarts left
            runtime_env={"env_vars": worker_env()},
        )(RolloutWorker)
        shares = [config.lanes // count + (rank < config.lanes % count) for rank in range(count)]
        self.workers = [actor.remote(place, config, share, rank) for rank, share in enumerate(shares)]
        self._born = [""] * count

    def collect(self, policy: Policy, iteration: int, orders: Orders | None = None) -> Rollout:
        """Play one rollout on all actors.

        Raises:
            WorkerError: an actor was lost and its replacements are used up, or a rollout failed.
            BrownoutError: what a rollout raised, with its type.
        """
        shared = [self.ray.put(policy), iteration, self.ray.put(orders)]
        refs = [worker.collect.remote(*shared) for worker in self.workers]
        self._wait(refs, iteration)
        parts: list[Rollout] = []
        for rank, ref in enumerate(refs):
            try:
                born, part = self.ray.get(ref, timeout=self.timeout_s)
            except self.ray.exceptions.RayActorError as error:
                raise WorkerError(
                    f"collector {rank} was lost in iteration {iteration} and its replacements "
                    f"({self.replacements}) are used up"
                ) from error
            except (self.ray.exceptions.RayError, TimeoutError) as error:
                raise typed(error, f"collector {rank}, iteration {iteration}") from error
            if self._born[rank] not in ("", born):
                self.replaced += 1
                self.notes.append(
                    f"collector {rank} was lost and replaced in iteration {iteration}; its lanes play fresh episodes"
                )
            self._born[rank] = born
            parts.append(part)
        return _own(Rollout.concatenate(parts))

    def _wait(self, refs: list[Any], iteration: int) -> None:
        """Wait for all; kill what does not answer, so that Ray restarts it and repeats the call."""
        late: list[Any] = []
        for attempt in range(self.replacements + 2):
            starting = attempt > 0 or "" in self._born
            limit = self.timeout_s + (START_S if starting else 0.0)
            _, late = self.ray.wait(refs, num_returns=len(refs), timeout=limit)
            if not late:
                return
            for rank, ref in enumerate(refs):
                if ref in late:
                    self.notes.append(f"collector {rank} hung in iteration {iteration}: no answer for {limit:g} s")
                    self.ray.kill(self.workers[rank], no_restart=False)
        ranks = [rank for rank, ref in enumerate(refs) if ref in late]
        free = self.ray.available_resources().get("CPU", 0.0)
        raise WorkerError(
            f"collectors {ranks} did not answer in iteration {iteration}, tried {self.replacements + 2} "
            f"times for {self.timeout_s:g} s and more ({free:g} CPUs of the cluster are free); give more time, fewer "
            "collectors, or a cluster with more CPUs"
        )

    def figures(self) -> dict[str, Any]:
        """Replacements so far, and what happened since the last call."""
        notes, self.notes = self.notes, []
        return {"workers_replaced": self.replaced} | ({"notes": notes} if notes else {})

    def get_state(self) -> dict[str, NDArray[Any]]:
        """Return nothing: lanes that live elsewhere are not part of a checkpoint."""
        return {}

    def set_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Let the lanes play fresh episodes, with seeds of the next iteration (they do so by themselves)."""

    def close(self) -> None:
        """Stop the actors."""
        for worker in self.workers:
            self.ray.kill(worker)


def _own(rollout: Rollout) -> Rollout:
    """Copy what is a read-only window into Ray's object store, which torch must not get."""
    for part in (rollout, rollout.episodes):
        for f in fields(part):
            value = getattr(part, f.name)
            if isinstance(value, np.ndarray) and not value.flags.writeable:
                setattr(part, f.name, value.copy())
    assert isinstance(rollout.episodes, Episodes)
    return rollout


def train_collectors(
    task: Any,
    config: PPOConfig,
    collectors: int,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    address: str | None = None,
    progress: bool = False,
    tensorboard: bool = False,
    evaluate_every: int = 20,
    checkpoint_every: int = 10,
    callback: Callable[[dict[str, Any], Any], bool | None] | None = None,
    timeout_s: float = TIMEOUT_S,
    replacements: int = REPLACEMENTS,
) -> TrainResult:
    """Train in this process on rollouts of ``collectors`` actors.

    A resumed training continues the learner exactly; its lanes play fresh episodes. ``workers_replaced`` in
    the records counts replacements, and the result's warnings name each.

    Args:
        task: what to train on.
        config: hyper-parameters; ``lanes`` are divided among the actors.
        collectors: actors.
        out: run folder; None keeps nothing.
        resume: continue from the checkpoint in ``out``.
        address: Ray cluster; default: a local one.
        progress: show a live display.
        tensorboard: also write TensorBoard events.
        evaluate_every: iterations between selections of the best policy.
        checkpoint_every: iterations between checkpoints.
        callback: called with every record and the trainer; returning True ends the training.
        timeout_s: seconds without an answer after which an actor counts as hung.
        replacements: how often each actor is replaced.

    Raises:
        WorkerError: an actor was lost for good, or a rollout failed. The last checkpoint in ``out`` is usable.
    """
    folder = Path(out) if out is not None else None
    with ray_session(address, collectors) as ray:
        pool = CollectorPool(ray, Place.of(task, timeout_s), config, collectors, timeout_s, replacements)
        try:
            return train_loop(
                lambda lanes: task.make_env(lanes, config.gamma),
                config,
                collector=pool,
                out=out,
                resume=resume,
                evaluate_fn=task.score,
                evaluate_every=evaluate_every,
                checkpoint_every=checkpoint_every,
                callback=callback,
                progress=progress,
                tensorboard=tensorboard,
                ceiling=task.ceiling(),
            )
        except WorkerError as error:
            kept = folder / CHECKPOINT if folder is not None else None
            if kept is None or not kept.exists():
                raise
            raise WorkerError(f"{error}; {kept} is usable: continue with resume") from error
        finally:
            pool.close()
