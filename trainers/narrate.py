"""One episode told as a timeline, for people."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..envs.lanes import LaneCore
from ..envs.router_core import RouterCore
from ..envs.workflow_core import WorkflowCore
from ..envs.workflow_truth import HiddenTruth
from .baselines import Actor
from .episode_events import EpisodeRecorder, Span
from .evaluation import action_draws
from .workflow_events import Moment, WorkflowRecorder


@dataclass(frozen=True)
class Story:
    """An episode: its timeline, what it came to, and which faults struck.

    Args:
        lines: the timeline, oldest first.
        utility: sum of rewards.
        outcome: how it ended.
        totals: sum of each objective component.
        injections: rows of the injection log, as plain dictionaries.
        spans: calls, judgements and pauses with their times; of a workflow in the order in which they began, else
            in that in which they ended.
        moments: of a workflow its actions, with what was believed and what stood after each.
        spoilt: of a workflow the fields that were wrong from the start, and the id of the fault that spoilt each.
    """

    lines: list[str]
    utility: float
    outcome: str
    totals: dict[str, float]
    injections: list[dict[str, Any]]
    spans: list[Span] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)
    spoilt: dict[str, str] = field(default_factory=dict)


def tell(actor: Actor, core: LaneCore, seed: int, episode: int = 0) -> Story:
    """Play episode ``episode`` of ``seed`` on a one-lane core and tell it.

    Args:
        actor: the policy.
        core: a core with one lane; its state is overwritten.
        seed: seed of the lane.
        episode: index of the episode.
    """
    core.trace = []
    if core.plan is not None:
        core.plan.log.clear()  # the log counts lanes and episodes, not seeds
    core.seed(core.all_lanes, [seed])
    core.begin(core.all_lanes, episode)
    utility, totals = 0.0, np.zeros(len(core.component_names))
    recorder = _recorder(core)
    spoilt = HiddenTruth(core).spoilt(0) if isinstance(core, WorkflowCore) else {}
    while True:
        actions = np.asarray(actor.act_batch(core.observe(), core.mask(), action_draws(actor, core)), dtype=np.int64)
        if recorder is not None:
            recorder.before()
        core.advance(actions)
        if recorder is not None:
            recorder.after(int(actions[0]))
        utility += float(core.reward[0])
        totals += core.components[0]
        if core.terminated[0] or core.truncated[0]:
            break
    rows = [] if core.plan is None else core.plan.log.for_episode(0, episode)
    names = () if core.plan is None else rows.dtype.names or ()  # type: ignore[union-attr]
    injections = [{name: _plain(row[name]) for name in names} for row in rows]
    summary = dict(zip(core.component_names, totals.tolist(), strict=True))
    outcome = core.outcome_names[core.outcome[0]]
    spans = [] if recorder is None else recorder.spans
    moments = recorder.moments if isinstance(recorder, WorkflowRecorder) else []
    return Story(core.timeline(), utility, outcome, summary, injections, spans, moments, spoilt)


def _recorder(core: LaneCore) -> EpisodeRecorder | WorkflowRecorder | None:
    if isinstance(core, WorkflowCore):
        return WorkflowRecorder(core)
    return EpisodeRecorder(core) if isinstance(core, RouterCore) else None


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
