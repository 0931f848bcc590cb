"""``brownout.train``: one call from a scenario to a policy, in process or on Ray."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..envs.cores import make_core, make_lanes
from ..envs.lanes import LaneCore
from ..envs.optimum import ceiling_of
from ..envs.vector import LaneVectorEnv
from ..errors import PolicyError
from ..scenarios.fault_selection import select_faults
from ..scenarios.loading import load_scenario
from ..scenarios.schema import Scenario
from ..scenarios.workflow_schema import WorkflowScenario
from .baselines import Actor
from .curriculum import read_curriculum
from .evaluation import play
from .imitation import find_teacher
from .ppo import PPOConfig
from .run_folder import describe_run
from .training import TrainResult, train_loop

SELECTION_EPISODES = 2048
SELECTION_SEED = 1_000_000


@dataclass(frozen=True)
class Task:
    """What is trained on; plain data, so that a Ray worker can rebuild the environment by itself.

    Args:
        scenario: the scenario.
        profile: fault profile.
        intensity: fault intensity.
        split: split of the training episodes.
        window: episode indices ``[first, end)`` to train and select on, which places it in a drift; default: a lane's
            episodes from 0 on.
        shaping: whether the scenario's potential-based shaping is added to the training reward.
    """

    scenario: Scenario
    profile: str = "production"
    intensity: float = 1.0
    split: str = "train"
    window: tuple[int, int] | None = None
    shaping: bool = True

    def make_env(self, lanes: int, gamma: float = 1.0) -> LaneVectorEnv:
        """Build the native vector environment."""
        env = make_lanes(
            self.scenario,
            lanes,
            profile=self.profile,
            intensity=self.intensity,
            split=self.split,
            shaping_gamma=gamma if self.shaping else None,
        )
        env.episode_window = self.window
        return env

    def ceiling(self) -> float | None:
        """Best achievable utility, where it is known."""
        return ceiling_of(self.core(1))

    @property
    def clustered(self) -> bool:
        """Whether episodes replay recorded queries, so that those of one query are not independent."""
        return getattr(getattr(self.scenario, "tasks", None), "kind", None) == "table"

    def score(self, policy: Actor, episodes: int = SELECTION_EPISODES) -> float:
        """Mean utility on held-out seeds of the *training* split: selection never sees the eval split."""
        first, end = self.window or (0, episodes)
        count = min(episodes, end - first)
        core = self.core(min(512, count))
        seeds = range(SELECTION_SEED, SELECTION_SEED + -(-episodes // count))
        return float(np.mean([play(policy, core, count, seed, first=first).utility.mean() for seed in seeds]))

    def core(self, lanes: int) -> LaneCore:
        """Build the lanes to play and evaluate on."""
        return make_core(self.scenario, lanes, profile=self.profile, intensity=self.intensity, split=self.split)


def study_config(scenario: Scenario, *, taught: bool) -> PPOConfig:
    """Hyper-parameters of a study of trainings that is given none.

    In a workflow PPO by itself settles for handing over, and trainings that all do the same say nothing of faults.

    Args:
        scenario: what is trained on.
        taught: in a workflow, begin with what a rule does that knows of no fault in particular, which makes trainings
            alike; else explore for long, which finds what nobody taught.
    """
    if not isinstance(scenario, WorkflowScenario):
        return PPOConfig()
    if taught:
        return PPOConfig(imitate="always-verify", imitate_weight="0", entropy=0.05, entropy_end=0.0)
    return PPOConfig(entropy=0.3, entropy_end=0.02)


def configure(
    config: PPOConfig | None = None,
    *,
    steps: int | None = None,
    seed: int | None = None,
    curriculum: str | Path | Mapping[str, Any] | None = None,
    imitate: str | Path | None = None,
) -> PPOConfig:
    """Return hyper-parameters with what is given in place of their own; see :func:`train`."""
    given = {"steps": steps, "seed": seed, "imitate": None if imitate is None else str(imitate)}
    chosen = asdict(config or PPOConfig()) | {name: value for name, value in given.items() if value is not None}
    return PPOConfig.of(chosen if curriculum is None else chosen | read_curriculum(curriculum))


def train(
    scenario: str | Path | Mapping[str, Any] | Scenario,
    *,
    steps: int | None = None,
    seed: int | None = None,
    profile: str = "production",
    intensity: float = 1.0,
    out: str | Path | None = None,
    resume: bool = False,
    config: PPOConfig | None = None,
    curriculum: str | Path | Mapping[str, Any] | None = None,
    imitate: str | Path | None = None,
    only_faults: Sequence[str] = (),
    without_faults: Sequence[str] = (),
    workers: int = 1,
    collectors: int = 0,
    seeds: int = 1,
    sweep: str | Path | Mapping[str, Any] | None = None,
    address: str | None = None,
    progress: bool = False,
    tensorboard: bool = False,
    evaluate_every: int = 20,
    timeout_s: float = 300.0,
    callback: Callable[[dict[str, Any], Any], bool | None] | None = None,
) -> TrainResult:
    """Train a policy with PPO.

    Without the Ray options everything runs in this process. The best policy by utility on held-out training
    episodes is kept.

    Args:
        scenario: built-in name, path, mapping or scenario.
        steps: environment steps; overrides ``config``.
        seed: seed of everything random; overrides ``config``.
        profile: fault profile.
        intensity: fault intensity.
        out: run folder (policy, checkpoint, metrics); None keeps nothing.
        resume: continue from the checkpoint in ``out``.
        config: hyper-parameters.
        curriculum: YAML file or mapping of the options ``fault_share``, ``intensity`` and ``replay...``; overrides
            ``config``.
        imitate: baseline or folder of a policy to imitate before learning from reward; overrides ``config``.
        only_faults: families, effects or ids of the faults to train under; default: all of the profile.
        without_faults: families, effects or ids of faults to hold out.
        workers: ranks of a data-parallel training on Ray Train, each with ``config.lanes`` lanes.
        collectors: rollout actors on Ray, for environments that are dear to step.
        seeds: whole trainings side by side on Ray Tune, the best of which is kept.
        sweep: YAML file or mapping ``option -> values`` of trainings side by side, the best of which is kept.
        address: Ray cluster to use; default: a local one.
        progress: show a live display.
        tensorboard: also write TensorBoard events.
        evaluate_every: iterations between selections of the best policy.
        timeout_s: seconds of silence after which a worker on Ray counts as hung and is replaced.
        callback: called with every iteration's record; returning True ends the training (in process or with
            collectors).

    Raises:
        ScenarioError, FaultError, PolicyError, ArtefactError: bad input, naming it.
        WorkerError: workers were lost for good; the last checkpoint is usable.
    """
    chosen = configure(config, steps=steps, seed=seed, curriculum=curriculum, imitate=imitate)
    loaded = select_faults(load_scenario(scenario), profile, only=only_faults, without=without_faults)
    task = Task(loaded, profile, intensity)
    settings = {
        "profile": profile, "intensity": intensity, "workers": workers, "collectors": collectors, "seeds": seeds,
    }  # fmt: skip
    modes = [name for name, on in (("workers", workers > 1), ("collectors", collectors > 0),
                                   ("seeds", seeds > 1), ("sweep", sweep is not None)) if on]  # fmt: skip
    if len(modes) > 1 and modes != ["seeds", "sweep"]:
        raise PolicyError(f"{' and '.join(modes)}: choose one way to use Ray (seeds and sweep go together)")
    if chosen.imitate:
        find_teacher(chosen.imitate, task.core(1))  # a wrong name should not leave a run folder behind
    if out is not None and not resume:  # what is resumed has its description
        describe_run(out, task.scenario, settings)
    if modes:
        from . import distributed

        common: dict[str, Any] = {
            "out": out, "resume": resume, "address": address, "progress": progress,
            "tensorboard": tensorboard, "evaluate_every": evaluate_every, "timeout_s": timeout_s,
        }  # fmt: skip
        if modes == ["collectors"]:
            return distributed.train_collectors(task, chosen, collectors, callback=callback, **common)
        if callback is not None:
            raise PolicyError(f"callback: the iterations of {' and '.join(modes)} run in other processes; leave it out")
        if modes == ["workers"]:
            return distributed.train_workers(task, chosen, workers, **common)
        return distributed.train_side_by_side(task, chosen, seeds, sweep, **common)
    return train_loop(
        lambda lanes: task.make_env(lanes, chosen.gamma),
        chosen,
        out=out,
        resume=resume,
        evaluate_fn=task.score,
        evaluate_every=evaluate_every,
        callback=callback,
        progress=progress,
        tensorboard=tensorboard,
        ceiling=task.ceiling(),
    )
