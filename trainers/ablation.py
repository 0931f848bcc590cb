"""Training with and without faults, evaluated clean and under each family, held-out families included."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import PolicyError
from ..scenarios.fault_selection import fault_groups, select_faults
from ..scenarios.loading import load_scenario
from ..scenarios.schema import Scenario
from .api import Task, configure, study_config, train
from .evaluation import LANES, EpisodeRecords, play
from .policy import Policy
from .ppo import PPOConfig
from .statistics import Difference, Estimate, mean, paired_difference, proportion
from .training import CHECKPOINT

ALL, NONE = "all faults", "no faults"


@dataclass(frozen=True)
class Cell:
    """One training evaluated under one condition.

    Args:
        training: what was trained under.
        condition: what it is evaluated under.
        held_out: whether the condition's faults were held out of the training.
        utility: mean utility.
        success: share of episodes answered right.
        harm: share of episodes that end with something wrong: a wrong answer, a wrong or doubled effect.
        against: the training under all faults minus this one, on the same episodes; None for itself.
    """

    training: str
    condition: str
    held_out: bool
    utility: Estimate
    success: Estimate
    harm: Estimate
    against: Difference | None


@dataclass(frozen=True)
class Ablation:
    """The table; with one training seed its intervals cover the luck of the episodes, not that of the training."""

    scenario: str
    scenario_hash: str
    profile: str
    steps: int
    seeds: int
    episodes: int
    trainings: tuple[str, ...]
    conditions: tuple[str, ...]
    cells: tuple[Cell, ...]

    def cell(self, training: str, condition: str) -> Cell:
        """One cell of the table."""
        return next(cell for cell in self.cells if (cell.training, cell.condition) == (training, condition))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def ablation(
    scenario: str | Path | Scenario | dict[str, Any],
    *,
    profile: str = "production",
    intensity: float = 1.0,
    held_out: Sequence[str] | None = None,
    steps: int = 1_000_000,
    seeds: int = 1,
    seed: int = 0,
    episodes: int = 5000,
    config: PPOConfig | None = None,
    curriculum: str | Path | Mapping[str, Any] | None = None,
    imitate: str | Path | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Ablation:
    """Train under all faults, under none, and with each family held out; evaluate each under every condition.

    Conditions are the clean profile, the whole profile, and each family of faults alone, all on the same
    held-out episodes. With several seeds the intervals are cluster-robust over trainings.

    Args:
        scenario: built-in name, path, mapping or scenario.
        profile: fault profile to train and evaluate under.
        intensity: fault intensity.
        held_out: families, effects or ids to hold out, one training each; default: every family.
        steps: steps of each training.
        seeds: trainings of each kind.
        seed: first training seed.
        episodes: evaluation episodes per condition.
        config: hyper-parameters; default: :func:`~brownout.trainers.api.study_config`.
        curriculum: of every training, as for :func:`~brownout.trainers.api.train`.
        imitate: teacher of every training.
        out: folder for the run folders; None keeps nothing.
        resume: continue or keep the trainings that are in ``out``.
        progress: called with what is being done.

    Raises:
        ScenarioError, FaultError, PolicyError: bad input, naming it.
    """
    loaded = load_scenario(scenario)
    families = fault_groups(loaded, profile, "family")
    if not families:
        raise PolicyError(f"{loaded.name}: profile {profile!r} has no faults to leave out")
    if seeds < 1 or (resume and out is None):
        raise PolicyError(f"seeds: got {seeds}; allowed: 1 or more" if seeds < 1 else "resume needs the folder out")
    chosen_config = config or study_config(loaded, taught=True)
    chosen_config = configure(chosen_config, steps=steps, curriculum=curriculum, imitate=imitate)
    selectors = list(families if held_out is None else held_out)
    trainings = {ALL: (loaded, profile), NONE: (loaded, "clean")}
    for selector in selectors:
        trainings[f"without {selector}"] = (select_faults(loaded, profile, without=[selector]), profile)
    alone = list(dict.fromkeys([*families, *selectors]))
    conditions = {"clean": (loaded, "clean"), "all": (loaded, profile)}
    conditions |= {name: (select_faults(loaded, profile, only=[name]), profile) for name in alone}
    say = progress or (lambda text: None)
    tasks = {name: Task(chosen, where, intensity, "eval") for name, (chosen, where) in conditions.items()}
    records: dict[tuple[str, str], list[EpisodeRecords]] = {}
    for name, (chosen, where) in trainings.items():
        for number in range(seed, seed + seeds):
            say(f"training under {name}, seed {number}")
            folder = _folder(out, name, number)
            policy = _trained(chosen, where, intensity, replace(chosen_config, seed=number), folder, resume)
            for condition, task in tasks.items():
                say(f"evaluating {name}, seed {number}, under {condition}")
                core = task.core(min(LANES, episodes))
                records.setdefault((name, condition), []).append(play(policy, core, episodes))
    cells = [
        _cell(name, condition, records, _clusters(records[name, condition], Task(loaded).clustered))
        for name in trainings
        for condition in conditions
    ]
    return Ablation(
        loaded.name, loaded.hash, profile, steps, seeds, episodes, tuple(trainings), tuple(conditions), tuple(cells)
    )


def _folder(out: str | Path | None, name: str, seed: int) -> Path | None:
    return None if out is None else Path(out) / f"{name.replace(' ', '-')}-{seed}"


def _trained(
    scenario: Scenario,
    profile: str,
    intensity: float,
    config: PPOConfig,
    folder: Path | None,
    resume: bool,
) -> Policy:
    going = resume and folder is not None and (folder / CHECKPOINT).exists()
    return train(scenario, profile=profile, intensity=intensity, config=config, out=folder, resume=going).policy


def _clusters(records: list[EpisodeRecords], clustered: bool) -> NDArray[Any] | None:
    """What episodes share: their training, where there are several; else their query, if they replay recorded ones."""
    if len(records) > 1:
        return np.repeat(np.arange(len(records)), len(records[0].utility))
    return records[0].group if clustered else None


def _cell(
    name: str, condition: str, records: dict[tuple[str, str], list[EpisodeRecords]], clusters: NDArray[Any] | None
) -> Cell:
    own, first = records[name, condition], records[ALL, condition]
    utility = np.concatenate([part.utility for part in own])
    success = np.concatenate([part.component("accuracy") > 0 for part in own])
    harm = np.concatenate([part.component("safety") > 0 for part in own])
    against = None
    if name != ALL:
        against = paired_difference(np.concatenate([part.utility for part in first]), utility, clusters)
    held_out = name == f"without {condition}" or (name == NONE and condition != "clean")
    return Cell(
        name, condition, held_out, mean(utility, clusters), proportion(success, clusters), proportion(harm, clusters),
        against,
    )  # fmt: skip
