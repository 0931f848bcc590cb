"""One lane of the workflow that is acted on with real values: what an agent sends decides what is right.

The physics is that of :class:`~brownout.envs.workflow_core.WorkflowCore`: the same arrays, streams and fault plan. What
differs is where a call goes (the agent says so), what is wrong with its arguments (they are compared with what they
should be), and that every effect is kept, so that it can be listed and taken back. The arrays ``applied``, ``bad`` and
``stray`` are kept in step with those effects, so an end is judged by the same truth.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..faults import BoundRecordPlan, Calls, FieldType, Status
from ..faults.record_text import nudged
from .lanes import F64, I64, Bools
from .tool_calls import Done, Sent
from .tool_ledger import Entry, Ledger, matches
from .tool_values import Case, CaseFields, fits, same
from .workflow_core import WorkflowCore
from .workflow_state import AS_HELD, LIMIT, Kind

FOREIGN = 1  # number of the customer whose state a session may be in
_NO_ACTION = np.zeros(1, np.int64)
_FIXED = (FieldType.KEY, FieldType.REFERENCE)


class _Args:
    """What :meth:`WorkflowCore._admit_work` asks about the arguments of one call."""

    def __init__(self, rows: I64, step: I64, luck: F64, stale: bool, broken: bool) -> None:
        self.rows, self.step, self.luck = rows, step, luck
        self.stale, self.broken, self.slip = np.array([stale]), np.array([broken]), np.zeros(1, np.bool_)


class ToolCore(WorkflowCore):
    """One lane of a workflow behind an interface; see the module.

    Args:
        scenario: built-in name, path, mapping or scenario of a workflow.
        profile: fault profile.
        intensity: scales every fault of the profile.
        split: ``train`` or ``eval``.
        max_calls: requests after which the episode is over.
    """

    def __init__(self, scenario: Any, *, profile: str, intensity: float, split: str, max_calls: int) -> None:
        super().__init__(scenario, 1, profile=profile, intensity=intensity, split=split, max_episode_steps=max_calls)
        self._price_rows[1:] = self._price_rows[0]  # nobody but the agent writes arguments, and it pays for itself
        self.case_fields = CaseFields(self.spec)

    # ---------------------------------------------------------------- life cycle

    def _begin(self, lanes: I64, keys: NDArray[np.uint64]) -> None:
        super()._begin(lanes, keys)
        self.dirt_at_start = self.dirt[0].copy()
        self.cases: dict[int, Case] = {}
        self.ledger = Ledger()
        self.field_version = [0] * len(self.field_names)
        self.wishes: dict[int, dict[int, str]] = {}
        """Per step what the requester wants instead, by column."""
        self.messages_sent: list[tuple[float, int, int, str]] = []
        """Time, step, column and value of every change that a message told."""
        self.drifted: set[int] = set()
        """Services that have renamed their fields."""
        self.plants: dict[int, tuple[int, dict[int, str]]] = {}
        """Per record the step and the values that somebody smuggled into it."""
        self.interruptions = 0
        """How often the connection broke and the server forgot the session."""
        self.worked = False
        """Whether the last call was done on its server."""
        self._ids = 0
        self._noted = self._note()
        self._notice()

    def case(self, other: int = 0) -> Case:
        """Return the records of the episode's customer, or of somebody else."""
        if other not in self.cases:
            self.cases[other] = Case(self.case_fields, self.keys, other)
        return self.cases[other]

    def perform(self, operation: Callable[[], None]) -> None:
        """Let one request happen, and account for it as for one step of the environment."""
        self._operation = operation
        self.advance(_NO_ACTION)

    def _advance(self, actions: I64, frozen: I64 | None) -> None:
        clock, spend = self.clock.copy(), self.spend.copy()
        self._operation()
        self.land()
        self._account(clock, spend)

    def land(self) -> None:
        """Take note of what has been approved or finished by now."""
        for step in np.flatnonzero(self.flight_until[0] <= self.clock[0]).tolist():
            self._land(self.all_lanes, np.array([step]))

    # ---------------------------------------------------------------- requests

    def place(self, kind: Kind, step: int | None = None, record: int = 0, sent: Sent | None = None) -> Done:
        """Place a call and see it through.

        Args:
            kind: what is asked for.
            step: the step it is about; None: the first open one that reads the record, or none.
            record: the record it reads.
            sent: its arguments.
        """
        self._step = self.reader(record) if step is None else step
        self._record, self._sent, self._done = record, sent or Sent(), Done()
        self._call(self.all_lanes, np.array([int(kind)]))
        self._done.foreign = bool(self.foreign[0])
        if self._done.entry is not None and not self._done.replayed:
            self._done.entry.ready_s = float(self.stands_at[0, self._step])
        return self._done

    def reader(self, record: int) -> int:
        """The first step that reads a record and is not done yet; ``num_steps`` for none."""
        open_ = self.reads[: self.num_steps, record] & (self.applied[0, : self.num_steps] == 0) & ~self.moot[0, :-1]
        return int(open_.argmax()) if open_.any() else self.num_steps

    def pass_time(self, seconds: float, cost_usd: float = 0.0) -> None:
        """Let time pass, and pay."""
        until = self.clock + seconds
        if self.ends_on_deadline and until[0] > self.preferences["deadline_s"][0]:
            until = np.maximum(self.preferences["deadline_s"], self.clock)
            self.clock[:] = until
            self._end(self.all_lanes, LIMIT)
        self.clock[:] = until
        if cost_usd and not self.terminated[0]:
            self._pay(self.all_lanes, np.array([cost_usd]))

    def hand_over(self) -> None:
        """Hand the work to a person."""
        self.worked = True
        self._escalate(self.all_lanes)

    def stop(self, kind: Kind) -> None:
        """Finish or abort."""
        self._stop(self.all_lanes, kind)

    def end(self, outcome: int) -> None:
        """End the episode from outside."""
        self._end(self.all_lanes, outcome)

    # ---------------------------------------------------------------- what should be

    def expected(self, step: int) -> dict[int, str]:
        """Return what the arguments of a step should be, by column of the field."""
        wishes = self.wishes.get(step, {})
        return {
            column: wishes.get(column) or self.case().clean(column, self.field_version[column])
            for column in np.flatnonzero(self.needs[step]).tolist()
        }

    def shown(self, column: int, other: int = 0) -> str | None:
        """Return what stands in a field, damage included."""
        version = 0 if other else self.field_version[column]
        code, mess = int(self.dirt[0, column]), self.mess
        if not code or other or mess is None:
            return self.case(other).clean(column, version)
        return self.case().damaged(column, version, code, mess)

    @property
    def mess(self) -> BoundRecordPlan | None:
        """The faults on records, None if there are none."""
        return self._messes.at(int(self.scale_level[0]))

    def requester_knows(self) -> Bools:
        """Fields whose value the requester knows, ``(F,)``."""
        assert self.spec.requester is not None
        return self._field_draws(self._knows[0], self.all_lanes)[0] < self.spec.requester.knows

    def amiss(self, step: int, values: dict[int, Any]) -> list[int]:
        """Return the columns of arguments that are not what they should be.

        A write goes against the present versions; a read asks the service as it is now, so former values will do.
        """
        facts = self.case_fields.facts
        wrong = [c for c, wanted in self.expected(step).items() if not same(values.get(c), wanted, facts[c])]
        if self.writes[step]:
            return wrong
        former = {c: [self.case().clean(c, version) for version in range(self.field_version[c])] for c in wrong}
        return [c for c in wrong if not any(same(values.get(c), value, facts[c]) for value in former[c])]

    # ---------------------------------------------------------------- hooks of the physics

    def _step_of(self, rows: I64, kind: I64) -> I64:
        return np.array([self._step])

    def _record_of(self, rows: I64, step: I64) -> I64:
        return np.array([self._record])

    def _arguments(self, rows: I64, step: I64, writer: I64, load: F64, u: F64) -> Any:
        sent, done, place = self._sent, self._done, int(step[0])
        drifted = len(self.drifted)
        self._notice()
        done.old_names = len(self.drifted) > drifted
        done.wrong = self.amiss(place, sent.values)
        facts = self.case_fields.facts
        broken = any(
            not fits(sent.values.get(c), facts[c])
            or (self.visible[0, c] and str(sent.values.get(c)) == str(self.shown(c)))
            for c in done.wrong
        )
        old = self.old_copies(rows)[0]
        stale = bool(self.writes[place]) and any(old[self.record_of[c]] for c in done.wrong)
        entry = self.ledger.under(place, sent.key) if self.keyed[place] else None
        done.reused = entry is not None and _texts(entry.values) != _texts(sent.values)
        luck = u[:, 5]
        if done.reused or sent.old_names or done.old_names:
            return _Args(rows, step, luck - 1.0, False, True)
        done.outdated = sent.outdated()
        if done.outdated:
            return _Args(rows, step, luck - 1.0, True, False)
        return _Args(rows, step, luck, stale, broken)

    def _admit(self, rows: I64, kind: I64, step: I64, calls: Calls, refusal: NDArray[np.int8], retry: F64) -> None:
        self._notice()
        super()._admit(rows, kind, step, calls, refusal, retry)

    def _carry_out(self, args: Any, calls: Calls, work: I64, key: I64, luck: F64) -> F64:
        if not calls.applied[0]:
            return np.zeros(1)
        rows, step, done, sent = args.rows, int(args.step[0]), self._done, self._sent
        spoilt = bool(~calls.right[0]) and calls.status[0] == Status.OK
        foreign = bool(self.foreign[0])
        wrong = bool(done.wrong) or spoilt or bool(self.misled(rows, args.step)[0])
        if not self.writes[step]:
            self.applied[0, step] = 1
            self.bad[0, step] = AS_HELD if wrong or foreign else 0
            return np.zeros(1)
        done.entry = self.ledger.under(step, sent.key) if self.keyed[step] else None
        if done.entry is not None:
            done.replayed = True
            return np.zeros(1)
        values = dict(sent.values)
        if spoilt and values:
            values[next(iter(values))] = None
        odd = {column: values[column] for column in done.wrong if column in values}
        smuggled = any(s == step and matches(odd, payload) for s, payload in self.plants.values())
        done.entry = self._enter(step, values, sent.key, FOREIGN if foreign else 0, not wrong, foreign or smuggled)
        return self._approval(rows, args.step)

    def _undo(self, rows: I64, step: I64, keeps: Bools) -> None:
        if self._sent.entry is not None:
            self.ledger.remove(self._sent.entry)
            self._project(self._sent.entry.step)

    def _learn(self, rows: I64, kind: I64, step: I64, record: I64, calls: Calls, keeps: Bools, luck: F64) -> None:
        self._done.calls = calls
        self.worked = bool(calls.applied[0])
        super()._learn(rows, kind, step, record, calls, keeps, luck)

    # ---------------------------------------------------------------- effects

    def _enter(self, step: int, values: dict[int, Any], key: str | None, owner: int, right: bool, stray: bool) -> Entry:
        """Let an effect stand."""
        now = float(self.clock[0])
        entry = Entry(self.new_id(step), step, values, key, owner, right, stray, now, now)
        self.ledger.add(entry, bool(self.natural[step]))
        self._project(step)
        return entry

    def new_id(self, step: int) -> str:
        """Return an id for an effect, whether or not it will stand."""
        self._ids += 1
        return f"{self.step_names[step][:2].lower()}_{self.case().number('effect.id', 12, self._ids)}"

    def _project(self, step: int) -> None:
        """Keep the arrays that an end is judged by in step with the effects."""
        count, wrong, stray = self.ledger.count(step)
        self.applied[0, step] = count
        self.bad[0, step] = AS_HELD if wrong else 0
        self.stray[0, step] = stray
        self.stands_at[0, step] *= count > 0

    # ---------------------------------------------------------------- what faults have done

    def _note(self) -> dict[str, NDArray[Any]]:
        names = ("version", "changed", "messages", "key", "renamed", "planted")
        return {name: getattr(self, name)[0].copy() for name in names}

    def _notice(self) -> None:
        """Give what the fault plan has just moved its real values."""
        before = self._noted
        for record in np.flatnonzero(self.version[0] > before["version"]).tolist():
            self._move(record)
        for step in np.flatnonzero(self.changed[0] & ~before["changed"]).tolist():
            self._change(step, bool(self.messages[0] > before["messages"]))
        if (self.key[0] != before["key"]).any():
            self.interruptions += 1
        for service in np.flatnonzero(self.renamed[0]).tolist():
            self.drifted.add(service)
            self.renamed[0, service] = False
        for record in np.flatnonzero(self.planted[0] & ~before["planted"]).tolist():
            self._plant(record)
        for step in np.flatnonzero(self.writes & (self.applied[0] > 0)).tolist():
            if not self.ledger.own(step):
                values: dict[int, Any] = dict(self.expected(step))
                self._enter(step, values, None, 0, True, False)
        self._noted = self._note()

    def _move(self, record: int) -> None:
        """Somebody else changes a field of a record: one that the step needs."""
        target = int(self.target[0])
        mine = np.flatnonzero((self.record_of == record) & self.needs[target]).tolist()
        column = self._one_of(mine, f"version.{self.record_names[record]}", int(self.version[0, record]))
        if column is not None:
            self.field_version[column] += 1

    def _change(self, step: int, noticed: bool) -> None:
        """The requester wants something else."""
        count = len(self.wishes) + len(self.messages_sent) + 1
        column = self._one_of(np.flatnonzero(self.needs[step]).tolist(), f"change.{self.step_names[step]}", count)
        if column is None:
            return
        value = self.case().changed(column, self.field_version[column], count)
        self.wishes.setdefault(step, {})[column] = value
        if noticed:
            self.messages_sent.append((float(self.clock[0]), step, column, value))

    def _plant(self, record: int) -> None:
        """Somebody has written into a record what a write should be made with."""
        steps = np.flatnonzero(self.reads[:, record] & self.writes).tolist()
        step = int(self.target[0])
        step = step if step in steps else next(iter(steps), self.num_steps)
        columns = np.flatnonzero(self.needs[step] & (self.record_of == record)).tolist()
        column = self._one_of(columns, f"plant.{self.record_names[record]}", 0)
        if column is not None:
            value, right = self.case(2 + record).clean(column), self.expected(step)[column]
            value = nudged(right, self.case_fields.facts[column]) if value == right else value
            self.plants[record] = step, {column: value}

    def _one_of(self, columns: list[int], stream: str, counter: int) -> int | None:
        """One of some fields, drawn; not one that identifies a record if there is another."""
        free = [c for c in columns if self.case_fields.facts[c].type not in _FIXED] or columns
        return free[int(self.case().draw(stream, counter) * len(free))] if free else None


def _texts(values: dict[int, Any]) -> dict[int, str]:
    return {column: str(value).strip() for column, value in values.items()}


__all__ = ["FOREIGN", "Done", "Sent", "ToolCore"]
