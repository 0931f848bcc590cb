"""What is hidden from the agent of a workflow, asked as questions: what must be done, what is wrong, what is past help.

For oracles, checks and reports only; no policy that is to be used may read it.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from .lanes import F64, I64, Bools
from .workflow_core import WorkflowCore
from .workflow_state import Belief, Known

REASONS: Final = {
    "revoked-scope": "a service that is still needed refuses the agent for good; a person can take over",
    "unnoticeable-field": "a field that must be read is wrong, and neither a format check nor a reasoner sees it",
    "unrepairable-field": "a field that must be read is wrong, no reasoner can repair it, the requester does not know",
    "no-questions-left": "a field that must be read can only be had from the requester, who answers no more",
    "misleading-read": "a step that reads found out what is not so, and nothing shows it",
    "irreversible-effect": "a wrong effect stands that cannot be taken back, or be seen any more",
    "out-of-limits": "the steps, the budget or the deadline ran out",
}


class HiddenTruth:
    """Questions about the lanes of one core, answered from its hidden arrays as they are now.

    Args:
        core: the core to look into.
    """

    def __init__(self, core: WorkflowCore) -> None:
        self.core = core
        width = core.num_steps + 1
        self._before = np.zeros((width, width), np.bool_)
        for name, others in core.spec.ancestors.items():
            for other in others:
                self._before[core.step_names.index(name), core.step_names.index(other)] = True
        self._final = core.writes & ~core.compensable

    # ---------------------------------------------------------------- the way to the goal

    def won(self) -> Bools:
        """Whether ``finish`` would be a success now, ``(N,)``."""
        wrong, twice, complete = self.core._settled(self.core.all_lanes)
        return (wrong == 0) & ~twice & complete

    def path(self) -> Bools:
        """Steps that must still be carried out, ``(N, W)``: missing effects, and what comes before them and is open."""
        core = self.core
        applied = core.applied > 0
        missing = core.needed & ~applied
        missing |= core.needed & core.natural & (core.bad != 0)
        before = (missing[:, :, None] & self._before).any(axis=1) & ~core.banned & core._allowed_by(core.facts)
        return missing | (before & ~((core.belief == Belief.DONE) & applied))

    def unsound(self) -> Bools:
        """Steps that read, are believed done, and found out what is not so, ``(N, W)``."""
        core = self.core
        wrong = (core.applied == 0) | (core.bad != 0)
        return (core.belief == Belief.DONE) & ~core.writes & wrong

    def harm(self) -> Bools:
        """Steps with an effect that must not stand as it is, ``(N, W)``."""
        core = self.core
        wrong = (core.applied > 0) & (core.banned | (core.bad != 0))
        return core.writes & (wrong | (core.applied > 1) | (core.stray > 0))

    def irreversible(self) -> Bools:
        """Whether an effect is wrong for good, ``(N,)``: it cannot be undone, or the agent has nothing left to do."""
        core = self.core
        # a natural effect that is only bad is set right by another call
        lasting = ~core.natural | core.banned | (core.stray > 0)
        doable = (core.cursor < core.num_steps) | (core.belief == Belief.IN_FLIGHT).any(axis=1)
        doable |= ((core.belief == Belief.DONE) & core.writes & ~core.verified).any(axis=1)
        doable |= ((core.excess > 0) & core.compensable).any(axis=1)
        return (self.harm() & self._final & lasting).any(axis=1) | (~doable & ~self.won())

    def misled(self) -> Bools:
        """Whether a step that is done found out what is not so, and nothing shows it, ``(N,)``."""
        core = self.core
        old = core.outdated(core.all_lanes)
        redone = (old[:, None, :] & core.reads).any(axis=2)  # a resync opens these again
        return np.asarray((self.unsound() & ~redone & self._builds(self.path())).any(axis=1))

    def _builds(self, path: Bools) -> Bools:
        """Steps that some step of ``path`` comes after."""
        return np.asarray((path[:, :, None] & self._before).any(axis=1))

    def blocked(self) -> Bools:
        """Whether a service that is still needed refuses the agent for good, ``(N,)``."""
        core = self.core
        if not core.revoked.any():
            return np.zeros(core.num_lanes, np.bool_)
        path = self.path()
        steps = path & core.revoked.take(core.service_of_step, axis=1)
        unread = core.fields_of_record @ (core.known == Known.UNSEEN).T > 0
        wanted = (path[:, :, None] & core.reads).any(axis=1) & unread.T
        return steps.any(axis=1) | (wanted & core.revoked.take(core.service_of_record, axis=1)).any(axis=1)

    # ---------------------------------------------------------------- fields

    def spoilt(self, lane: int) -> dict[str, str]:
        """The fields that are wrong on their server, and the id of the fault that spoilt each."""
        core = self.core
        mess = core._messes.at(int(core.scale_level[lane]))
        if mess is None:
            return {}
        dirt = zip(core.field_names, core.dirt[lane].tolist(), strict=True)
        return {field: mess.fault_ids[code - 1] for field, code in dirt if code}

    def amiss(self) -> Bools:
        """Fields that the path needs and that are wrong in the agent's hands, or would be once read, ``(N, F)``."""
        core = self.core
        needed = (self.path()[:, :, None] & core.needs).any(axis=1)
        return needed & np.where(core.known == Known.UNSEEN, core.dirt != 0, core.wrong)

    def flagged(self, rows: I64) -> Bools:
        """Fields that the agent knows to be wrong, or will as soon as it reads them, ``(n, F)``."""
        core = self.core
        known = core.known.take(rows, axis=0)
        unseen = (known == Known.UNSEEN) & core.visible.take(rows, axis=0)
        return unseen | (known == Known.FLAGGED) | (known == Known.STUCK)

    def noticed(self, rows: I64, by: int, fresh: bool = False) -> Bools:
        """Fields that reasoner ``by`` (0 cheap, 1 strong) would see to be wrong, were they wrong, ``(n, F)``.

        With ``fresh``: after a resync, which empties the context.
        """
        core = self.core
        detect = core.detect[by] * (1.0 - core.context.take(rows) * core.spec.session.confusion * (not fresh))
        return core._field_draws(core._look[by], rows) < detect[:, None]

    def mended(self, rows: I64, by: int) -> Bools:
        """Fields that reasoner ``by`` would repair, were they flagged, ``(n, F)``."""
        core = self.core
        possible = core.repairable.take(rows, axis=0) | (core.dirt.take(rows, axis=0) == 0)
        possible &= core.known.take(rows, axis=0) != Known.STUCK
        return possible & (core._field_draws(core._mend[by], rows) < core.mend[by])

    def told(self, rows: I64) -> Bools:
        """Fields that the requester knows, ``(n, F)``."""
        core = self.core
        if core.spec.requester is None:
            return np.zeros((len(rows), len(core.field_names)), np.bool_)
        return core._field_draws(core._knows[0], rows) < core.spec.requester.knows

    def asks_left(self) -> Bools:
        """Whether the requester answers another question, ``(N,)``."""
        core = self.core
        return core.questions < (0 if core.spec.requester is None else core.spec.requester.patience)

    # ---------------------------------------------------------------- reasons

    def field_reasons(self) -> tuple[Bools, Bools, Bools]:
        """Whether a field stands in the way that nobody notices, nobody can set right, or nobody may be asked about."""
        core = self.core
        out = np.zeros((3, core.num_lanes), np.bool_)
        amiss = self.amiss()
        rows = np.flatnonzero(amiss.any(axis=1))
        if rows.size:
            # the present version of an old value comes by reading often enough
            wrong, flagged = amiss[rows] & (core.lag.take(rows, axis=0) == 0), self.flagged(rows)
            # what came wrong over the wire is there to be read again, once that it is wrong is known
            reread = core.dirt.take(rows, axis=0) == 0
            seen = flagged | self.noticed(rows, 0, fresh=True) | self.noticed(rows, 1, fresh=True)
            mended = self.mended(rows, 0) | self.mended(rows, 1) | reread
            told = self.told(rows)
            out[0, rows] = (wrong & ~seen).any(axis=1)
            out[1, rows] = (wrong & seen & ~mended & ~told).any(axis=1)
            out[2, rows] = (wrong & seen & ~mended & told).any(axis=1) & ~self.asks_left()[rows]
        return out[0], out[1], out[2]

    def hopeless(self) -> Bools:
        """Whether there is a reason why no action of the agent leads to success any more, ``(N, reasons - 1)``."""
        return np.stack([self.blocked(), *self.field_reasons(), self.misled(), self.irreversible()], axis=1)

    def beyond_luck(self) -> Bools:
        """The reasons among them that no other luck makes go away, ``(N, 2)``: a service that is shut, lasting harm."""
        return np.stack([self.blocked(), self.irreversible()], axis=1)

    def score(self) -> F64:
        """How much is lost, ``(N,)``: 1 for each thing that is past help, 1/100 for each that must be undone."""
        core = self.core
        flight = core.flight_until
        last = np.where(flight < np.inf, np.maximum(flight, core.stands_at), core.stands_at)
        too_late = (last > core.preferences["deadline_s"][:, None]).any(axis=1)
        if not core.ends_on_deadline:
            too_late = np.zeros(core.num_lanes, np.bool_)
        return self.hopeless().sum(axis=1) + too_late + 0.01 * self.harm().sum(axis=1)
