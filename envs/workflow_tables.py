"""The tables that the physics of the workflow looks things up in, made once from the scenario."""

from __future__ import annotations

import numpy as np

from ..scenarios.loading import services_of
from ..scenarios.workflow_schema import WorkflowScenario
from .lanes import F64, I64, LaneCore
from .quantiles import QuantileBank, constant
from .streams import stream_id, stream_ids

DRAWS = ("latency", "cost", "thought", "price", "slip", "strict", "obey")


class WorkflowTables(LaneCore):
    """What stays the same in every lane and episode; steps and services are rows, in the order of the scenario.

    A table over steps has one row more than there are steps, for "no step".
    """

    def _read_scenario(self, spec: WorkflowScenario) -> None:
        """Make the tables that the physics looks things up in."""
        self.services = services_of(spec)
        self.usage_names = self.services.names
        self.family_of = self.services.family_index()
        self.step_names = tuple(spec.steps)
        self.field_names = spec.field_names
        self.record_names = tuple(spec.records)
        self.decision_names = tuple(spec.decisions)
        steps, t, f, r = list(spec.steps.values()), len(spec.steps), len(self.field_names), len(self.record_names)
        self.num_steps = t
        place = {name: i for i, name in enumerate(self.services.names)}
        column = {name: i for i, name in enumerate(self.step_names)}
        self.first_side = len(spec.services)
        self.auth_index, self.requester_index, self.person_index = (
            place["auth"], place["requester"], place["person"],
        )  # fmt: skip
        self.record_of = np.array([self.record_names.index(name.partition(".")[0]) for name in self.field_names])
        self.service_of_record = np.array([place[kind.service] for kind in spec.records.values()])
        self.service_of_step = np.array([*(place[step.service] for step in steps), 0])
        self.needs = np.zeros((t + 1, f), np.bool_)
        self.reads = np.zeros((t + 1, r), np.bool_)
        for i, name in enumerate(self.step_names):
            for field in spec.needed_fields(name):
                self.needs[i, self.field_names.index(field)] = True
                self.reads[i, self.record_of[self.field_names.index(field)]] = True
        own = np.eye(r, dtype=np.bool_)[self.record_of].T
        self.fields_of_record = own
        self.first_need = (self.needs[:, None, :] & own[None]).argmax(axis=2)
        self.writes = np.array([*(step.writes for step in steps), False])
        self.keyed, self.natural = (
            np.array([*(step.idempotency == word for step in steps), False]) for word in ("key", "natural")
        )
        self.compensable = np.array([*(step.compensable for step in steps), False])
        word = np.uint8 if t <= 8 else np.uint32  # room for one bit per step
        self.before = np.zeros(t + 1, word)
        self._bit = (1 << np.arange(t)).astype(word)
        self.sources = np.zeros((t + 1, t + 1), np.bool_)  # steps that read, whose result a step builds on
        for i, step in enumerate(steps):
            for other in step.after:
                self.before[i] |= self._bit[column[other]]
                self.sources[i, column[other]] = not self.writes[column[other]]
        self._before: list[int] = self.before[:t].tolist()
        self._first_ready = self.before[:t] == 0
        goal = set(spec.goal_steps)
        self.goal = np.array([*(name in goal for name in self.step_names), False])
        self.condition = np.array(
            [*(self.decision_names.index(c) if (c := s.when or s.unless) else -1 for s in steps), -1]
        )
        self.wanted = np.array([*(step.when is not None for step in steps), False])
        self.decided_by = np.array([column[d.by] for d in spec.decisions.values()], dtype=np.int64)
        self._shares = np.array([d.share for d in spec.decisions.values()])
        drifts = [d.drift for d in spec.decisions.values()]
        self._share_moves = np.array(
            [0.0 if d is None else d.to - s for d, s in zip(drifts, self._shares, strict=True)]
        )
        self._moves_over = np.array([1 if d is None else d.over for d in drifts])
        self._shares_move = any(drift is not None for drift in drifts)
        self.cyclic = (np.arange(t + 1)[:, None] + np.arange(t)) % t
        auth = [service.auth for service in spec.services.values()]
        self.auth = np.array([*auth, False, False, False, False, False])
        self.strict = np.array([*(service.strict for service in spec.services.values()), 0.0, 0.0, 0.0, 0.0, 0.0])
        pair = [spec.reasoners["cheap"], spec.reasoners["strong"]]
        self.detect, self.mend, self.slip, self.obey, self.false_alarm = (
            np.array([getattr(one, word) for one in pair]) for word in ("detect", "mend", "slip", "obey", "false_alarm")
        )
        self._read_prices(spec)

    def _shares_at(self, episodes: I64) -> F64:
        """Shares of episodes in which the decisions hold, ``(C,)``, or ``(n, C)`` where they move with the episode."""
        if not self._shares_move:
            return self._shares
        return self._shares + np.minimum(episodes[:, None] / self._moves_over, 1.0) * self._share_moves

    def _read_prices(self, spec: WorkflowScenario) -> None:
        """Tables of latency and price per service, and the streams that sample them."""
        names = self.services.names
        tables = [constant(0.0)]
        rows = np.zeros((3, len(names), 4), np.int64)  # by reasoner used: none, cheap, strong
        sides = (
            *spec.services.values(), spec.reasoners["cheap"], spec.reasoners["strong"], spec.token, spec.requester,
            spec.person,
        )  # fmt: skip
        for i, side in enumerate(sides):
            if side is not None:
                rows[:, i, 0], rows[:, i, 1] = len(tables), len(tables) + 1
                tables += [side.latency_s.table(), side.cost_usd.table()]
        for used in (1, 2):
            rows[used, :, 2:] = rows[0, self.first_side + used - 1, :2]
        self._price_rows, self._bank = rows, QuantileBank(tables)
        self._streams = np.array([stream_ids([f"{name}.{draw}" for draw in DRAWS]) for name in names])
        self.mean_cost = np.array([tables[i].mean for i in rows[0, :, 1]])
        self.mean_latency = np.array([tables[i].mean for i in rows[0, :, 0]])
        self._look, self._mend, self._knows = (
            np.array([stream_ids([f"{word}.{who}.{name}" for name in self.field_names]) for who in whos])
            for word, whos in (("look", ("cheap", "strong")), ("mend", ("cheap", "strong")), ("knows", ("requester",)))
        )
        self._fact_streams = stream_ids([f"decision.{name}" for name in self.decision_names])
        self._begun_streams = stream_ids(("history.begun", "history.depth"))
        self._verdict_stream = stream_id("person.verdict")
        self._approval_bank = QuantileBank(
            [constant(0.0) if s.approval_s is None else s.approval_s.table() for s in spec.steps.values()]
            + [constant(0.0)]
        )
        self._approval_streams = stream_ids([*(f"approval.{name}" for name in self.step_names), "approval"])
        self.has_approval = any(step.approval_s is not None for step in spec.steps.values())
