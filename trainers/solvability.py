"""Proof that a workflow can be done: an oracle that succeeds, a null policy that fails, and a reason for the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..envs.cores import make_core
from ..envs.workflow_core import WorkflowCore
from ..envs.workflow_state import LIMIT, SUCCESS
from ..envs.workflow_truth import REASONS
from ..errors import PolicyError
from ..scenarios.loading import load_scenario
from ..scenarios.schema import Scenario
from .evaluation import play
from .statistics import Estimate, mean
from .workflow_baselines import make_workflow_baseline
from .workflow_oracle import Oracle

I64 = NDArray[np.int64]
ATTEMPTS: Final = 6
STUBBORN: Final = 2
GUIDES: Final = ("playbook", "always-verify")
RIVALS: Final = ("retry-n", "circuit-breaker", "happy-path")
_LANES, _EXAMPLES = 2048, 10
_NAMES: Final = tuple(REASONS)
_LIMITS, _UNKNOWN = len(_NAMES) - 1, len(_NAMES)


@dataclass(frozen=True)
class Solvability:
    """What can be reached in one profile of a workflow.

    Args:
        profile: its name.
        episodes: episodes that were looked at, numbers ``0 ... episodes - 1`` of the seed.
        solved: how many the oracle brought to success.
        at_once: how many of these in its first attempt.
        unsolvable: how many are out of reach, by reason; see :data:`~brownout.envs.workflow_truth.REASONS`.
        examples: numbers of some of them, by reason.
        undecided: numbers of episodes that were not solved and have no reason: the proof has a hole.
        missed: numbers of episodes that the oracle did not solve but one of :data:`RIVALS` did, which refutes it.
        null_successes: episodes in which doing nothing succeeds.
        utility: mean utility of the oracle's first attempt.
    """

    profile: str
    episodes: int
    solved: int
    at_once: int
    unsolvable: dict[str, int]
    examples: dict[str, tuple[int, ...]]
    undecided: tuple[int, ...]
    missed: tuple[int, ...]
    null_successes: int
    utility: Estimate

    @property
    def ok(self) -> bool:
        """Whether the oracle solved all that can be solved, and doing nothing solves nothing."""
        return not self.undecided and not self.missed and not self.null_successes

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"ok": self.ok, **asdict(self)}

    def to_text(self) -> str:
        """One line for a person to read."""
        beyond = self.episodes - self.solved - len(self.undecided)
        parts = [f"{name} {count} (episode {self.examples[name][0]} ...)" for name, count in self.unsolvable.items()]
        lost = f"; out of reach {beyond}: {', '.join(parts)}" if beyond else ""
        holes = f"; neither solved nor explained: {', '.join(map(str, self.undecided))}" if self.undecided else ""
        holes += f"; solved by others only: {', '.join(map(str, self.missed))}" if self.missed else ""
        return (
            f"oracle solves {self.solved:,} of {self.episodes - beyond:,} solvable episodes "
            f"({self.at_once:,} at once), null solves {self.null_successes}{lost}{holes}"
        )


def solvability(
    scenario: str | Path | Scenario | dict[str, Any],
    profile: str = "production",
    *,
    episodes: int = 10_000,
    split: str = "eval",
    seed: int = 0,
    attempts: int = ATTEMPTS,
    progress: Callable[[int], None] | None = None,
) -> Solvability:
    """Find out which episodes of a workflow can be brought to success, and why the others cannot.

    An episode is solved if the oracle ends it in success: its actions are the proof. One that it does not solve is
    tried again, with detours that bring other luck, then along the rules in :data:`GUIDES`, at last against all odds:
    where nothing can be set right, luck is looked for (see :class:`.workflow_oracle.Oracle`). Reasons are read from
    the hidden truth at the end of the first attempt: a revoked scope and a field past help are facts of the episode;
    the others hold on every way that was tried.

    Args:
        scenario: built-in name, path, mapping or scenario of a workflow.
        profile: fault profile.
        episodes: number of episodes.
        split: ``eval`` or ``train``.
        seed: seed of the episodes.
        attempts: attempts at an episode by its own plan.
        progress: called with the number of episodes that have been looked at.

    Raises:
        ScenarioError: if the scenario or profile cannot be used.
        PolicyError: if the scenario is not a workflow, or a number is below 1.
    """
    loaded = load_scenario(scenario)
    for name, number in (("episodes", episodes), ("attempts", attempts)):
        if number < 1:
            raise PolicyError(f"{name}: got {number!r}; allowed: 1 or more")

    def core_of(lanes: int) -> WorkflowCore:
        core = make_core(loaded, lanes, profile=profile, split=split)
        if not isinstance(core, WorkflowCore):
            raise PolicyError(f"{loaded.name}: env: got {loaded.env!r}; an oracle exists for: workflow")
        return core

    outcome, reason = np.zeros(episodes, np.int64), np.zeros(episodes, np.int64)
    utility = np.zeros(episodes)
    for first in range(0, episodes, _LANES):
        chosen = np.arange(first, min(first + _LANES, episodes))
        outcome[chosen], utility[chosen], reason[chosen] = _attempt(core_of(chosen.size), chosen, seed)
        if progress is not None:
            progress(int(chosen[-1]) + 1)
    # own detours, then the rules as far as they do no harm, then the rules come what may, then against all odds
    tries: list[dict[str, Any]] = [{"attempt": i} for i in range(1, attempts)]
    tries += [{"guide": name, "foresight": foresight} for foresight in (True, False) for name in GUIDES]
    tries += [{"attempt": i, "stubborn": True} for i in range(STUBBORN)]
    at_once = int((outcome == SUCCESS).sum())
    for way in tries:
        left = np.flatnonzero(outcome != SUCCESS)
        for chosen in np.split(left, range(_LANES, left.size, _LANES)):
            if chosen.size:
                outcome[chosen], _, again = _attempt(core_of(chosen.size), chosen, seed, **way)
                reason[chosen] = np.minimum(reason[chosen], np.where(reason[chosen] == _UNKNOWN, again, _UNKNOWN))
    lost = outcome != SUCCESS
    found = {name: np.flatnonzero(lost & (reason == i)) for i, name in enumerate(_NAMES)}
    arena = core_of(min(_LANES, episodes))

    def won_by(name: str) -> NDArray[np.bool_]:
        return play(make_workflow_baseline(name, arena), arena, episodes, seed).outcome == SUCCESS

    missed = np.flatnonzero(lost & np.any([won_by(name) for name in RIVALS], axis=0))
    return Solvability(
        profile, episodes, int((~lost).sum()), at_once,
        {name: len(some) for name, some in found.items() if some.size},
        {name: tuple(some[:_EXAMPLES].tolist()) for name, some in found.items() if some.size},
        tuple(np.flatnonzero(lost & (reason == _UNKNOWN)).tolist()),
        tuple(missed.tolist()), int(won_by("null").sum()), mean(utility),
    )  # fmt: skip


def _attempt(
    core: WorkflowCore, episodes: I64, seed: int, *, guide: str | None = None, **way: Any
) -> tuple[I64, NDArray[np.float64], I64]:
    """Play each of ``episodes`` once; returns outcomes, utilities and the number of the reason why it is not solved."""
    n = core.num_lanes
    core.seed(core.all_lanes, [seed] * n)
    core.begin(core.all_lanes, episodes)
    oracle = Oracle(core, guide=None if guide is None else make_workflow_baseline(guide, core), **way)
    over, outcome, utility = np.zeros(n, np.bool_), np.zeros(n, np.int64), np.zeros(n)
    reason = np.full(n, _UNKNOWN)
    while not over.all():
        hopeless = oracle.truth.hopeless()
        core.advance(oracle.act_batch(core.observe(), core.mask()), np.flatnonzero(over))
        utility += core.reward
        ended = ~over & (core.terminated | core.truncated)
        why = np.where(
            hopeless.any(axis=1), hopeless.argmax(axis=1), np.where(core.outcome == LIMIT, _LIMITS, _UNKNOWN)
        )
        outcome[ended], reason[ended] = core.outcome[ended], why[ended]
        over |= ended
    return outcome, utility, reason
