"""What the workflow remembers: the arrays of ``N`` lanes, the tables made from the scenario, and its services.

The physics that moves this state is in :mod:`brownout.envs.workflow_core`, what a policy sees of it in
:mod:`brownout.envs.workflow_view`, what faults may do to it in :mod:`brownout.envs.workflow_ports`.

Sizes: ``N`` lanes, ``T`` steps, ``W = T + 1`` columns of steps (the last stands for "no step"), ``R`` records,
``F`` fields, ``S`` services (the business services, then cheap, strong, auth, requester, person), ``C`` decisions.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..faults import Cells
from ..faults.graded import LEVELS
from ..rewards import COMPONENTS
from ..scenarios.workflow_schema import WorkflowScenario
from .lanes import F64, I64, Bools, LaneCore
from .rows import any_of, sum_of, whole_rows
from .workflow_ports import WorkflowWorld
from .workflow_records import Episodes, Messes
from .workflow_tables import WorkflowTables
from .workflow_view import WorkflowView


class Kind(IntEnum):
    """The actions, in the order of their indices, and ``NOTHING`` for one that the mask forbids."""

    FETCH = 0
    VALIDATE_CHEAP = 1
    VALIDATE_STRONG = 2
    REPAIR_CHEAP = 3
    REPAIR_STRONG = 4
    CALL_CHEAP = 5
    CALL_STRONG = 6
    DISPATCH = 7
    VERIFY = 8
    REFRESH = 9
    RESYNC = 10
    COMPENSATE = 11
    CLARIFY = 12
    WAIT = 13
    SWITCH = 14
    ESCALATE = 15
    FINISH = 16
    ABORT = 17
    NOTHING = 18


ACTIONS = (
    "fetch", "validate:cheap", "validate:strong", "repair:cheap", "repair:strong", "call:cheap", "call:strong",
    "dispatch", "verify", "refresh", "resync", "compensate", "clarify", "wait", "switch", "escalate", "finish", "abort",
)  # fmt: skip


class Known(IntEnum):
    """What the agent knows of a field: ``CHECKED`` by the cheap reasoner, ``ASSURED`` by the strong one; ``STUCK``:
    flagged, and the strong reasoner could not repair it."""

    UNSEEN = 0
    FETCHED = 1
    CHECKED = 2
    ASSURED = 3
    FLAGGED = 4
    REPAIRED = 5
    STUCK = 6


class Belief(IntEnum):
    """What the agent believes of a step; ``SKIPPED``: a decision says that it must not be done."""

    TODO = 0
    DONE = 1
    UNKNOWN = 2
    IN_FLIGHT = 3
    SKIPPED = 4


# plain numbers: looking a member up takes longer than most of what is done with it
UNSEEN, FETCHED, CHECKED, ASSURED, FLAGGED, REPAIRED, STUCK = map(int, Known)
TODO, DONE, UNKNOWN, IN_FLIGHT, SKIPPED = map(int, Belief)
OUTCOMES = (
    "success",
    "partial",
    "silent_garbage",
    "duplicate_effect",
    "escalated",
    "aborted",
    "limit",
    "harness_error",
)
SUCCESS, PARTIAL, GARBAGE, DUPLICATE, ESCALATED, ABORTED, LIMIT, HARNESS_ERROR = range(8)
_BEGUN_ANEW = (
    "clock", "spend", "context", "messages", "questions", "reasoner", "foreign", "synced_at", "made", "revoked",
    "renamed", "version", "snapshot", "read_order", "behind", "served", "planted", "dirt", "visible", "repairable",
    "lag", "wrong", "known", "applied", "bad", "stray", "key", "applied_key", "stands_at", "belief", "verified",
    "excess", "attempts", "status", "answer", "failed_at", "retry_at", "flight_until", "lock_until", "input_at", "hold",
    "changed", "draft", "told", "begun", "cursor", "moot",
)  # fmt: skip
AS_HELD, SLIPPED = 1, 2  # how an effect came to be bad: from what the agent held, or by a slip of its pen


class WorkflowState(WorkflowTables):
    """Arrays of the workflow, one row per lane; :class:`brownout.envs.workflow_core.WorkflowCore` moves them.

    What is true (hidden from the agent):

    * ``dirt`` (N, F) int16: 0 for a field that is clean on its server, else what spoiled it (1 + index of the fault on
      records); ``visible`` (N, F): a check of the format shows it; ``repairable`` (N, F): the clean value can be found.
    * ``lag`` (N, F): how many reads of its record bring what is in a dirty field before the clean value comes, 0: all
      of them; ``served`` (N, R): reads that have brought such a field.
    * ``version`` (N, R): version of each record on its server; ``planted`` (N, R): an instruction is hidden in it.
    * ``applied`` (N, W): how often each step's effect stands; ``bad`` (N, W): 0 right, 1 made from wrong data,
      2 from a slip; ``stray`` (N, W): effects of the step that nobody asked for (another customer's, an injected one).
    * ``stands_at`` (N, W) s: when the last effect of a step stands, its call being over and approved where it must be.
    * ``applied_key`` (N, W): idempotency key under which the first effect was made, -1 for somebody else's.
    * ``changed`` (N, W): the requester has changed what the step is about; ``draft`` (N, W): a draft is in the way.
    * ``lock_until``, ``input_at`` (N, W) s: when a lock ends, when the step's input is there; ``hold`` (N, W) s: how
      long the next call of the step will wait for an approval.
    * ``token_until`` (N,) s: when the token really ends; ``foreign`` (N,): the session is another customer's.
    * ``revoked``, ``renamed`` (N, S): services that refuse the agent, or the interface it uses.
    * ``facts`` (N, C): the decisions as they should come out; ``needed``, ``banned`` (N, W): effects that must stand,
      effects that must not.
    * ``begun`` (N,): earlier work had done part of the steps.

    What the agent holds:

    * ``known`` (N, F): :class:`Known`; ``wrong`` (N, F): its copy of the field is wrong (hidden from it).
    * ``snapshot`` (N, R): version it has read, -1 for none; ``behind`` (N, R): what was read was the one before
      (hidden from it); ``read_order`` (N, R): number of the last read, -1 for none.
    * ``belief`` (N, W): :class:`Belief`; ``verified`` (N, W): read back since; ``excess`` (N, W): effects it knows
      must be undone; ``key`` (N, W): idempotency key in use; ``attempts`` (N, W): calls so far.
    * ``status`` (N, W): :class:`~brownout.faults.Status` of the last call made for the step (0: none); ``answer`` (N,):
      that of the last call of all; ``failed_at``, ``retry_at`` (N,) s: when a call last failed, when a retry was
      invited.
    * ``flight_until`` (N, W) s: end of the call in flight (infinite: none); ``flight_status``, ``flight_retry``.
    * ``told`` (N, C): 0 not yet, 1 the decision holds, 2 it does not.
    * ``cursor`` (N,): the current step, T for none; ``token_known`` (N,) s: expiry it was told; ``context`` (N,)
      share of
      the window; ``messages``, ``questions`` (N,): unread from, asked of the requester; ``reasoner`` (N,): last one
      used, 0 none, 1 cheap, 2 strong; ``synced_at`` (N,) s: last resync.
    * ``made`` (N, S): calls placed per service; ``clock`` (N,) s, ``spend`` (N,) USD.
    """

    component_names = tuple(component.name for component in COMPONENTS)
    outcome_names = OUTCOMES
    action_names = ACTIONS
    _saved = (
        *LaneCore._saved, "cursor", "token_until", "token_known", "context", "foreign", "messages",
        "questions", "reasoner", "synced_at", "begun", "made", "revoked", "renamed", "version", "snapshot",
        "read_order", "behind", "served", "planted", "dirt", "visible", "repairable", "lag", "wrong", "known",
        "applied", "bad", "stray", "key", "applied_key", "stands_at", "belief", "verified", "excess", "attempts",
        "status", "answer", "failed_at", "retry_at", "flight_until", "flight_status", "flight_retry", "lock_until",
        "input_at", "hold", "changed", "draft", "needed", "banned", "facts", "told", "groups", "scale_level",
    )  # fmt: skip

    def _set_up(self) -> None:
        self.spec = self._expect(WorkflowScenario)
        self._read_scenario(self.spec)
        self._allocate(self.num_lanes)
        self.scale_level = np.full(self.num_lanes, LEVELS)
        self.started_s = 0.0  # when lane 0's last call reached its service; kept with the timeline
        self.world = WorkflowWorld(self)
        plan, intensity = self._bind_faults(self.services, self.world)
        self._messes = Messes(plan, self.spec.fault_fields(), intensity)
        self._show(WorkflowView(self))

    # ---------------------------------------------------------------- arrays

    def _allocate(self, n: int) -> None:
        w, r, f = self.num_steps + 1, len(self.record_names), len(self.field_names)
        s, c = len(self.services), len(self.decision_names)

        def zeros(columns: int | None, dtype: Any) -> NDArray[Any]:
            return np.zeros(n if columns is None else (n, columns), dtype)

        self.context = zeros(None, float)
        self.token_until, self.token_known, self.synced_at = zeros(None, float), zeros(None, float), zeros(None, float)
        self.cursor, self.messages, self.questions, self.reasoner, self.groups = (zeros(None, int) for _ in range(5))
        self.foreign, self.begun = zeros(None, bool), zeros(None, bool)
        self.made, self.revoked, self.renamed = zeros(s, int), zeros(s, bool), zeros(s, bool)
        self.version, self.snapshot, self.read_order, self.served = (zeros(r, int) for _ in range(4))
        self.planted, self.behind = zeros(r, bool), zeros(r, bool)
        self.dirt, self.known, self.lag = zeros(f, np.int16), zeros(f, np.int8), zeros(f, np.int8)
        self.visible, self.repairable, self.wrong = zeros(f, bool), zeros(f, bool), zeros(f, bool)
        self.applied, self.stray, self.key, self.applied_key, self.excess, self.attempts = (
            zeros(w, int) for _ in range(6)
        )
        self.bad, self.belief, self.status, self.flight_status = (zeros(w, np.int8) for _ in range(4))
        self.answer, self.failed_at, self.retry_at = zeros(None, np.int8), zeros(None, float), zeros(None, float)
        self.verified, self.changed, self.draft, self.needed, self.banned = (zeros(w, bool) for _ in range(5))
        self.flight_until, self.flight_retry = zeros(w, float), zeros(w, float)
        self.lock_until, self.input_at, self.hold, self.stands_at = (zeros(w, float) for _ in range(4))
        self.facts, self.told = zeros(c, bool), zeros(c, np.int8)
        self.ready: Bools = zeros(self.num_steps, bool)
        self.target: I64 = zeros(None, int)  # the step that the call being placed is about
        self.moot: Bools = zeros(w, bool)  # steps that what was told of the decisions rules out
        self.ready_count: I64 = zeros(None, int)
        self._at_start = self._fresh_rows()

    def _fresh_rows(self) -> list[tuple[NDArray[Any], Any]]:
        """The rows of every array that an episode begins anew, and what a row is then."""
        fill = {"snapshot": -1, "read_order": -1, "failed_at": -np.inf, "flight_until": np.inf}
        found = []
        for name in _BEGUN_ANEW:
            array = getattr(self, name)
            if array.size:
                fresh = np.full((1, *array.shape[1:]), fill.get(name, 0), array.dtype)
                found.append((whole_rows(array), whole_rows(fresh)[0]))
        return found

    # ---------------------------------------------------------------- records

    def grade(self, lanes: I64, scales: Any) -> None:
        """Let the next episodes of ``lanes`` have fault intensities of their own; see :meth:`LaneCore.grade`."""
        super().grade(lanes, scales)
        self.scale_level[lanes] = np.rint(np.asarray(scales) * LEVELS).astype(np.int64)

    def _bind_records(self, lanes: I64, keys: NDArray[np.uint64]) -> None:
        """Let the plan spoil the fields of the records that the starting episodes bind."""
        if not self._messes:
            return
        levels = self.scale_level.take(lanes)
        for level in np.bincount(levels).nonzero()[0].tolist():
            mess = self._messes.at(level)
            if mess is not None:
                rows = lanes[levels == level]
                cells = Cells.clean(mess.fields, len(rows), world=Episodes(self.episodes.take(rows)))
                mess.strike(cells, keys[levels == level])
                for own, struck in (
                    (self.dirt, cells.dirt), (self.visible, cells.visible), (self.repairable, cells.repairable),
                    (self.lag, cells.lag),
                ):  # fmt: skip
                    whole_rows(own)[rows] = whole_rows(struck)

    # ---------------------------------------------------------------- faces

    @property
    def group(self) -> I64:
        """``(N,)`` number of each lane's kind of episode: which of the decisions hold."""
        return self.groups

    def usage(self, lanes: I64) -> I64:
        """Return the ``(n, S)`` calls that each service got in the running episodes of ``lanes``."""
        return self.made[lanes]

    def set_state(self, state: dict[str, NDArray[Any]]) -> None:
        """Continue from :meth:`get_state`."""
        super().set_state(state)
        self.rule_out(self.all_lanes)
        self._find_ready()
        self._allowed = self.view.legal(None)

    # ---------------------------------------------------------------- where the agent stands

    def _find_ready(self) -> None:
        """Find the steps that can be worked on: open, and everything before them believed finished."""
        belief = self.belief[:, : self.num_steps]
        done = belief == DONE
        done |= belief == SKIPPED
        bits = done[:, 0] * self._bit[0]
        for step in range(1, self.num_steps):
            bits |= done[:, step] * self._bit[step]
        ready = (self.before[: self.num_steps] & ~bits[:, None]) == 0
        ready &= ~done
        ready &= belief != IN_FLIGHT
        self.ready, self.ready_count = ready, sum_of(ready)

    def _find_ready_one(self) -> list[bool]:
        """The same of one lane: plain numbers are quicker than arrays of one."""
        belief = self.belief[0].tolist()
        done = sum(1 << step for step in range(self.num_steps) if belief[step] in (DONE, SKIPPED))
        ready = [
            not before & ~done and state in (TODO, UNKNOWN)
            for before, state in zip(self._before, belief[:-1], strict=True)
        ]
        self.ready[0], self.ready_count[0] = ready, sum(ready)
        return ready

    def _skip(self) -> None:
        """Pass over the steps that a decision rules out.

        What has been done and turns out to be ruled out must be undone.
        """
        belief, moot = self.belief, self.moot
        done = moot & (belief == DONE)
        np.copyto(self.excess, 1, where=done)
        done |= moot & (belief == TODO)
        np.copyto(belief, np.int8(SKIPPED), where=done)

    def rule_out(self, lanes: I64) -> None:
        """Note which steps are ruled out by what was told of the decisions in ``lanes``, and take up the others."""
        if self.decision_names:
            told = self.told[lanes].take(np.maximum(self.condition, 0), axis=1)
            moot = (self.condition >= 0) & (told > 0) & ((told == 1) != self.wanted)
            belief = self.belief[lanes]
            self.belief[lanes] = np.where((belief == SKIPPED) & ~moot, TODO, belief)
            self.moot[lanes] = moot

    def _move_cursor(self) -> None:
        """Leave a step that can no longer be worked on for the next one that can; stay otherwise."""
        t = self.num_steps
        if self.moot.any():
            self._skip()
        if self.num_lanes == 1:
            ready, cursor = self._find_ready_one(), self.cursor.item(0)
            if cursor == t or not ready[cursor]:
                self._next_step(self.all_lanes, 0)
            return
        self._find_ready()
        at = np.minimum(self.cursor, t - 1)
        stays = self.ready.ravel().take(self.all_lanes * t + at)
        stays &= self.cursor < t
        if not stays.all():
            self._next_step((~stays).nonzero()[0], 0)

    def _start_cursor(self, lanes: I64) -> None:
        """Put ``lanes`` at the first step of a fresh episode, in which nothing is believed done."""
        self.ready[lanes] = self._first_ready
        self.ready_count[lanes] = np.count_nonzero(self._first_ready)
        self.cursor[lanes] = self._first_ready.argmax()

    def _next_step(self, rows: I64, ahead: int) -> None:
        """Put the cursor on the next ready step, from ``ahead`` places after the present one; T if there is none."""
        t = self.num_steps
        order = self.cyclic.take((self.cursor.take(rows) + ahead) % t, axis=0)
        ready = self.ready.ravel().take(rows[:, None] * t + order)
        first = ready.argmax(axis=1)
        here = np.arange(len(rows)) * t + first
        self.cursor[rows] = np.where(ready.ravel().take(here), order.ravel().take(here), t)

    def field_flags(self, table: NDArray[Any], rows: I64) -> NDArray[Any]:
        """Spread ``(N, R)`` values of records over their fields, ``(n, F)``."""
        return table.take(rows, axis=0).take(self.record_of, axis=1)

    def standing(self, rows: I64) -> I64:
        """How many wrong, duplicate or unwanted effects stand, ``(n,)``."""
        applied, bad = self.applied.take(rows, axis=0), self.bad.take(rows, axis=0)
        stands = applied > 0
        count = np.maximum(applied - 1, 0) + self.stray.take(rows, axis=0)
        count += stands & ((bad != 0) | self.banned.take(rows, axis=0))
        return sum_of(np.where(self.writes, count, 0))

    def _settled(self, rows: I64) -> tuple[I64, Bools, Bools]:
        """Wrong effects that stand, whether any is a duplicate, and whether nothing that is needed is missing.

        What is on its way counts if it does harm, since nobody will stop it, but it is not there yet.
        """
        applied = self.applied.take(rows, axis=0)
        twice = any_of((applied > 1) & self.writes)
        open_ = (applied == 0) | (self.stands_at.take(rows, axis=0) > self.clock.take(rows)[:, None])
        complete = ~any_of(self.needed.take(rows, axis=0) & open_)
        return self.standing(rows), twice, complete


def flat(array: NDArray[Any], rows: I64, columns: Any) -> tuple[NDArray[Any], I64]:
    """The flat view of a matrix and the places of one column per row."""
    return array.reshape(-1), rows * array.shape[1] + columns


def at(array: NDArray[Any], rows: I64, columns: Any) -> NDArray[Any]:
    """Values of one column per row."""
    return array.reshape(-1).take(rows * array.shape[1] + columns)


__all__ = ["F64", "I64", "Belief", "Bools", "Kind", "Known", "WorkflowState", "at", "flat"]
