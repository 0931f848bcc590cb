"""The uses of Ray in one place: three ways to train, and a proof that workers simulate the same.

* :func:`train_side_by_side`: whole trainings through Ray Tune, one per CPU; the best use of cores.
* :func:`train_workers`: one training with data-parallel gradients through Ray Train.
* :func:`train_collectors`: rollout actors, for environments that are dear to step.
* :func:`ray_trace_digest`: the trace digest, played by several workers.
"""

from __future__ import annotations

from typing import Any

from ..envs.trace import episode_digests, merge_digests
from ..errors import PolicyError, WorkerError
from .api import Task
from .collectors import train_collectors
from .data_parallel import train_workers
from .ray_session import TIMEOUT_S, Place, ray_session, typed, worker_env
from .side_by_side import train_side_by_side

__all__ = ["ray_trace_digest", "train_collectors", "train_side_by_side", "train_workers"]


def ray_trace_digest(
    scenario: Any,
    episodes: int = 256,
    *,
    workers: int = 2,
    seed: int = 0,
    lanes: int = 64,
    profile: str = "production",
    intensity: float = 1.0,
    split: str = "train",
    address: str | None = None,
    timeout_s: float = TIMEOUT_S,
) -> str:
    """The same digest as :func:`brownout.trace_digest`, with the episodes divided among Ray workers.

    Args:
        scenario: built-in name, path, mapping or scenario.
        episodes: how many episodes.
        workers: processes to play them; changes nothing but speed.
        seed: seed of the first episode.
        lanes: lanes per worker.
        profile: fault profile.
        intensity: fault intensity.
        split: ``train`` or ``eval``.
        address: Ray cluster; default: a local one.
        timeout_s: seconds that all workers together may take.

    Raises:
        PolicyError: fewer than one worker or episode.
        WorkerError: a worker was lost, or did not answer in time.
    """
    from ..scenarios.loading import load_scenario

    if workers < 1 or episodes < 1:
        raise PolicyError(f"workers: {workers}, episodes: {episodes}; both must be 1 or more")
    place = Place.of(Task(load_scenario(scenario), profile, intensity, split), timeout_s)
    ends = [episodes * i // workers for i in range(workers + 1)]
    with ray_session(address, workers) as ray:
        player = ray.remote(num_cpus=1, runtime_env={"env_vars": worker_env()})(_Player)
        players = [player.remote() for _ in range(workers)]
        try:
            refs = [
                one.digests.remote(place, start, end - start, seed, lanes)
                for one, start, end in zip(players, ends, ends[1:], strict=False)
                if end > start
            ]
            parts = ray.get(refs, timeout=timeout_s)
        except TimeoutError as error:
            raise WorkerError(f"the workers did not answer within {timeout_s:g} s") from error
        except ray.exceptions.RayError as error:
            raise typed(error, "trace digest") from error
        finally:
            for one in players:
                ray.kill(one)
    return merge_digests([digest for part in parts for digest in part])


class _Player:
    """Plays a share of the episodes in a process of its own."""

    def digests(self, place: Place, start: int, episodes: int, seed: int, lanes: int) -> list[str]:
        """Digests of ``episodes`` episodes, the first of which has the seed ``seed + start``."""
        from ..envs.cores import make_core

        task = place.enter()
        core = make_core(task.scenario, lanes, profile=task.profile, intensity=task.intensity, split=task.split)
        return episode_digests(core, episodes, seed + start)
