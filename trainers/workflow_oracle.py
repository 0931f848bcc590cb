"""The oracle of workflows: legal actions only, chosen by somebody who sees what is hidden and what comes next."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..envs.cores import make_core
from ..envs.streams import stream_ids, uniform
from ..envs.workflow_core import WorkflowCore
from ..envs.workflow_state import LIMIT, Belief, Kind, Known, at
from ..envs.workflow_truth import HiddenTruth
from ..faults import Status
from .baselines import I64, Actor, Bools

_TRANSIENT: Final = (
    Status.SERVER_ERROR, Status.BAD_GATEWAY, Status.UNAVAILABLE, Status.RATE_LIMITED, Status.REFUSED, Status.LOCKED,
    Status.NOT_FOUND,
)  # fmt: skip
# what is tried instead of an action that would do harm: another hand, or a call that lets the harm pass by
_INSTEAD: Final = (
    Kind.CALL_STRONG, Kind.VERIFY, Kind.FETCH, Kind.VALIDATE_CHEAP, Kind.VALIDATE_STRONG, Kind.WAIT, Kind.SWITCH,
    Kind.CLARIFY, Kind.RESYNC, Kind.REFRESH,
)  # fmt: skip
_PATIENCE = 8  # detours in one episode, so that harm that waits at every turn is not put off for ever
_WANDER = 0.15  # share of actions of a later attempt before which it does something else
_CROWDED = 0.5  # share of the context from which it is cleared


class Oracle:
    """Sees the hidden truth, and tries each action on a copy of the world before it takes it.

    It succeeds wherever it finds a way and hands over (or gives up) as soon as a reason says that there is none. It
    goes for success, not for utility, so its utility is what knowing everything is worth, not a bound.

    Args:
        core: the core that it will act in; no other.
        attempt: 0 goes straight; each other number makes its own detours, which bring other luck.
        guide: a policy to follow as long as it does no harm, instead of its own plan.
        foresight: whether actions are tried beforehand; without it a guide is followed come what may.
        stubborn: whether it goes on where a wrong field or finding leaves no way that is straight. Luck may make one:
            a call on the wrong branch that is confirmed and never done, or a twin who does the step right.
    """

    name, summary = "oracle", "sees what is hidden and tries each action beforehand; what can be reached, no policy"

    def __init__(
        self,
        core: WorkflowCore,
        attempt: int = 0,
        guide: Actor | None = None,
        foresight: bool = True,
        stubborn: bool = False,
    ) -> None:
        self.core, self.truth, self._attempt = core, HiddenTruth(core), attempt
        self._streams = stream_ids([f"oracle.{what}.{attempt}" for what in ("strays", "detour")])
        # the second attempt does not wait where nobody asks it to, the later ones are ever more patient
        self._pause_s = -1.0 if attempt == 1 else (2.0**attempt - 1.0) * core.spec.limits.backoff_s
        self._copy = make_core(
            core.scenario, core.num_lanes, profile=core.profile, intensity=core.intensity, split=core.split,
            max_episode_steps=core.max_steps,
        )  # fmt: skip
        assert isinstance(self._copy, WorkflowCore)
        self._ahead = HiddenTruth(self._copy)
        self._detours, self._guide = np.zeros(core.num_lanes, np.int64), guide
        self._foresight, self._stubborn = foresight, stubborn
        self._patience = core.max_steps if stubborn else _PATIENCE

    def act_batch(
        self, observations: NDArray[Any], mask: NDArray[Any], uniforms: NDArray[np.float64] | None = None
    ) -> I64:
        """Return one legal action for each lane of the core; only a guide looks at the observations."""
        legal = np.asarray(mask, dtype=np.bool_)
        if self._guide is not None:
            return self._avoid_harm(self._guide.act_batch(observations, legal), legal)
        action = np.full(len(legal), -1, dtype=np.int64)
        for condition, kind in self._choose():
            action = np.where((action < 0) & legal[:, kind] & condition, int(kind), action)
        if self._attempt:
            action = self._stray(action, legal)
        return self._avoid_harm(action, legal)

    def _stray(self, action: I64, legal: Bools) -> I64:
        """Now and then do something else first."""
        u = uniform(self.core.keys[:, None], self._streams, self.core.steps[:, None])
        other = np.array(_INSTEAD).take((u[:, 1] * len(_INSTEAD)).astype(np.int64))
        strays = (u[:, 0] < _WANDER) & legal[self.core.all_lanes, other] & (action < Kind.ESCALATE)
        return np.where(strays, other, action)

    # ---------------------------------------------------------------- what to do

    def _choose(self) -> list[tuple[Any, Kind]]:
        """Pairs of a condition and an action, tried in order."""
        core, truth = self.core, self.truth
        rows, cursor, clock = core.all_lanes, core.cursor, core.clock
        service = core.service_of_step.take(cursor)
        needs, reads = core.needs.take(cursor, axis=0), core.reads.take(cursor, axis=0)
        belief = at(core.belief, rows, cursor)
        old = core.outdated(rows).any(axis=1)
        hopeless = (truth.beyond_luck() if self._stubborn else truth.hopeless()).any(axis=1)
        harm = truth.harm()
        done = core.belief == Belief.DONE
        hidden = done & core.writes & ~core.verified & ~core.changed & (harm | (core.needed & (core.applied == 0)))
        late = (core.changed & harm).any(axis=1)  # done the old way
        there = core.writes.take(cursor) & (at(core.applied, rows, cursor) > 0)
        natural_bad = core.natural.take(cursor) & (at(core.bad, rows, cursor) != 0)
        harmed = at(harm, rows, cursor)
        surplus = (core.excess > 0) & core.compensable
        new_interface = at(core.renamed, rows, service)
        new_interface |= (reads & core.renamed.take(core.service_of_record, axis=1)).any(axis=1)
        failed = (clock - core.failed_at <= self._pause_s) & np.isin(core.answer, _TRANSIENT)
        unseen = (needs & (core.known == Known.UNSEEN)).any(axis=1)
        behind = (reads & core.behind).any(axis=1)
        changed = at(core.changed, rows, cursor)
        banned = at(core.banned, rows, cursor)
        flying = (core.belief == Belief.IN_FLIGHT).any(axis=1)
        return [
            (truth.won(), Kind.FINISH),
            (hopeless, Kind.ESCALATE),
            (hopeless, Kind.ABORT),
            (clock >= core.token_until, Kind.REFRESH),
            (core.foreign | at(core.draft, rows, cursor) | new_interface | old, Kind.RESYNC),
            (core.context > _CROWDED, Kind.RESYNC),
            (failed | (core.retry_at > clock), Kind.WAIT),
            (surplus.any(axis=1), Kind.COMPENSATE),
            ((belief == Belief.UNKNOWN) & harmed, Kind.COMPENSATE),
            (late, Kind.CLARIFY),
            (late, Kind.FETCH),
            (hidden.any(axis=1) | (there & ~natural_bad), Kind.VERIFY),
            ((harm & (core.belief == Belief.IN_FLIGHT)).any(axis=1), Kind.WAIT),
            (banned, Kind.SWITCH),
            (unseen | changed | behind, Kind.FETCH),
            (changed, Kind.CLARIFY),
            *self._set_fields_right(needs & core.wrong),
            ((~banned | self._stubborn) & ~unseen, Kind.CALL_CHEAP),
            (flying, Kind.WAIT),
            (True, Kind.VERIFY),
            (True, Kind.ESCALATE),
            (True, Kind.ABORT),
        ]  # fmt: skip

    def _set_fields_right(self, wrong: Bools) -> list[tuple[Any, Kind]]:
        """How to set right the fields of the current step that are wrong in the agent's hands."""
        core, truth = self.core, self.truth
        rows = np.flatnonzero(wrong.any(axis=1))
        if not rows.size:
            return []

        def spread(some: Any) -> Bools:
            out = np.zeros(core.num_lanes, np.bool_)
            out[rows] = some
            return out

        wrong = wrong[rows]
        flagged, seen = truth.flagged(rows), [truth.noticed(rows, by) for by in (0, 1)]
        mended = [truth.mended(rows, by) for by in (0, 1)]
        open_, known = wrong & ~flagged, wrong & flagged
        asked = known & ~mended[0] & ~mended[1] & truth.told(rows)
        wire = known & (core.dirt.take(rows, axis=0) == 0) & ~mended[0] & ~mended[1]
        whole = [known.any(axis=1) & ~(known & ~mended[by]).any(axis=1) for by in (0, 1)]
        return [
            (spread((open_ & seen[0]).any(axis=1)), Kind.VALIDATE_CHEAP),
            (spread((open_ & seen[1]).any(axis=1)), Kind.VALIDATE_STRONG),
            (spread(open_.any(axis=1)) & (core.context > 0), Kind.RESYNC),
            (spread(wire.any(axis=1)), Kind.FETCH),
            (spread(asked.any(axis=1)), Kind.CLARIFY),
            (spread(whole[0]), Kind.REPAIR_CHEAP),
            (spread(whole[1]), Kind.REPAIR_STRONG),
            (spread((known & mended[1]).any(axis=1)), Kind.REPAIR_STRONG),
            (spread((known & mended[0]).any(axis=1)), Kind.REPAIR_CHEAP),
        ]

    # ---------------------------------------------------------------- what would come of it

    def _avoid_harm(self, action: I64, legal: Bools) -> I64:
        """Replace actions that would do harm by ones that do less, as far as there are any."""
        if not self._foresight:
            return action
        self._detours[self.core.steps == 0] = 0
        state, before = self.core.get_state(), self.truth.score()
        least = self._foresee(state, action)
        rows = np.flatnonzero((least > before) & (self._detours < self._patience) & (action < Kind.ESCALATE))
        if not rows.size:
            return action
        self._detours[rows] += 1
        chosen = action.copy()
        for kind in _INSTEAD:
            open_ = rows[legal[rows, kind] & (least[rows] > before[rows])]
            if open_.size:
                trial = np.full(len(action), int(Kind.NOTHING) - 1)
                trial[open_] = kind
                score = self._foresee(state, trial)
                better = open_[score[open_] < least[open_]]
                chosen[better], least[better] = int(kind), score[better]
        return chosen

    def _foresee(self, state: dict[str, NDArray[Any]], action: I64) -> NDArray[np.float64]:
        """What is lost after ``action``, ``(N,)``."""
        copy = self._copy
        copy.set_state(state)
        copy.advance(action)
        out = copy.terminated & (copy.outcome == LIMIT) | copy.truncated
        return self._ahead.score() + out
