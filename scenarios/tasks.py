"""Task sources of the router: an item-response model, and the replay of recorded runs.

A source answers two questions, for any subset of lanes at once: which task does this episode hold, and how
does call number ``j`` to configuration ``k`` turn out on it. Both answers are pure functions of the episode's
key, so they can be asked in any order and any batch.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..envs.quantiles import QuantileBank, QuantileTable, logistic, normal
from ..envs.streams import GOLDEN, U64, mix64, pick, stream_id, stream_ids, uniform
from ..errors import TableError
from .columns import Column
from .effort_draws import EffortDraws, FailureDraws
from .quality import QualityCurve
from .schema import ModelTasks, RouterScenario, TableTasks, rates_below, success_rates
from .tables import RecordedTable

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

_UNIT = 2.0**-53
_S11 = np.uint64(11)


@dataclass(slots=True)
class Outcomes:
    """How ``n`` calls turn out when nothing interferes; every array is ``(n,)``.

    ``status`` uses the codes of :class:`brownout.faults.Status`; ``cost_usd`` and ``latency_s`` are those of
    the whole call. ``quality`` is there if the scenario has it; then ``right`` says whether it is accepted.
    """

    right: NDArray[np.bool_]
    cost_usd: F64
    latency_s: F64
    status: NDArray[np.int8]
    quality: F64 | None = None


class TaskSource(Protocol):
    """What the router asks of a source of tasks."""

    columns: tuple[Column, ...]
    strength: F64
    expected_cost: F64
    expected_latency: F64
    quality: tuple[F64, F64] | None
    """Mean and variance of the quality of each configuration's fresh answers, if the scenario has quality."""

    def allocate(self, num_lanes: int) -> None:
        """Make room for ``num_lanes`` lanes."""
        ...

    def begin(self, lanes: I64, keys: U64, episodes: I64 | int = 0) -> None:
        """Draw the task of the episode that starts in ``lanes``; the mix of tasks may depend on its number."""
        ...

    @property
    def features(self) -> NDArray[np.float32]:
        """``(N, F)`` features of each lane's task, known before any call."""
        ...

    @property
    def calls_allowed(self) -> NDArray[np.float32]:
        """``(N, K)`` calls that each configuration can take on each lane's task."""
        ...

    @property
    def group(self) -> I64:
        """``(N,)`` number of the task's class or query, for clustered statistics."""
        ...

    def call(self, lanes: I64, keys: U64, k: I64, number: I64) -> Outcomes:
        """Resolve call ``number`` to configuration ``k`` in ``lanes``."""
        ...


class ModelTaskSource:
    """Tasks of the item-response model of :class:`~brownout.scenarios.schema.ModelTasks`.

    Args:
        scenario: a router scenario with model tasks.
    """

    def __init__(self, scenario: RouterScenario) -> None:
        tasks = scenario.tasks
        assert isinstance(tasks, ModelTasks)
        self._tasks = tasks
        classes = list(tasks.classes)
        self._cumulative, *last = (np.cumsum(share)[:-1] for share in tasks.mixes)
        self._moves = last[0] - self._cumulative if last else None
        self._mean = np.array([tasks.difficulty[c][0] for c in classes])
        self._sd = np.array([tasks.difficulty[c][1] for c in classes])
        self._skill = np.array(
            [
                [entry.skill[c] if isinstance(entry.skill, dict) else entry.skill for c in classes]
                for entry in scenario.portfolio.values()
            ],
            dtype=np.float64,
        )
        self._max_calls = np.array([entry.max_calls for entry in scenario.portfolio.values()], dtype=np.int64)
        self._normal = normal()
        self._start_streams = stream_ids(("task.class", "task.difficulty", "task.hint"))
        names, entries = list(scenario.portfolio), list(scenario.portfolio.values())
        tables: list[QuantileTable] = [self._normal, logistic()]
        rows, streams = [], []
        for name, entry in zip(names, entries, strict=True):
            assert entry.cost_usd is not None
            assert entry.latency_s is not None
            tables += [entry.cost_usd.table(), entry.latency_s.table()]
            rows.append([0, 0, 1, len(tables) - 2, len(tables) - 1])
            streams.append(
                stream_ids(
                    (
                        f"latent.family.{entry.family}",
                        f"latent.configuration.{name}",
                        f"configuration.{name}.noise",
                        f"configuration.{name}.cost",
                        f"configuration.{name}.latency",
                    )
                )
            )
        self._rows = np.array(rows, dtype=np.int64)
        self._streams = np.array(streams, dtype=np.uint64)
        self._per_call = np.array([0, 0, 1, 1, 1], dtype=np.uint64) * GOLDEN
        self._bank = QuantileBank(tables)
        costs, latencies = tables[2::2], tables[3::2]
        common = tasks.configuration_sd
        self._latent = np.array([common if entry.latent_sd is None else entry.latent_sd for entry in entries])
        joint = np.sqrt(self._sd**2 + tasks.family_sd**2 + (self._latent**2)[:, None])
        self._curve = None if scenario.quality is None else QualityCurve(scenario.quality)
        self._cut = 0.0 if self._curve is None else self._curve.cut
        margin, share = self._skill - self._mean, tasks.mixes[0]
        self.strength = success_rates(margin - self._cut, joint) @ share
        self.quality = None if self._curve is None else self._curve.moments(margin, joint, share)
        if tasks.ceiling is not None:
            rest = np.sqrt(tasks.family_sd**2 + self._latent**2)
            parts = [
                rates_below(self._skill[:, c] - m, s, rest, tasks.ceiling - m)
                for c, (m, s) in enumerate(zip(self._mean, self._sd, strict=True))
            ]
            self.strength = np.stack(parts, axis=1) @ share
        factors = [
            (1.0, 1.0) if entry.wrong is None else (entry.wrong.cost_factor, entry.wrong.latency_factor)
            for entry in entries
        ]
        self._wrong = np.array(factors) if any(entry.wrong is not None for entry in entries) else None
        usual = 1.0 + (1.0 - self.strength[:, None]) * (np.array(factors) - 1.0)
        self.expected_cost = np.array([table.mean for table in costs]) * usual[:, 0]
        self.expected_latency = np.array([table.mean for table in latencies]) * usual[:, 1]
        self._effort = None
        if tasks.effort is not None:
            self._effort = EffortDraws(tasks.effort, share, classes, costs, latencies)
            self._rows[:, 3:] = 0  # scores instead of amounts
            more = [EffortDraws.streams(name, entry.family) for name, entry in zip(names, entries, strict=True)]
            self._rows = np.concatenate([self._rows, np.zeros((len(names), 4), np.int64)], axis=1)
            self._streams = np.concatenate([self._streams, np.array(more, dtype=np.uint64)], axis=1)
            self._per_call = np.concatenate([self._per_call, np.zeros(4, np.uint64)])
        self._failures = FailureDraws.of(scenario)
        self._one_hot = np.eye(len(classes), dtype=np.float32)
        columns = [Column(f"task.class.{c}", "flag", 0.0, 1.0) for c in classes]
        if tasks.hint_sd is not None:
            columns.append(Column("task.difficulty_hint", "logit", -8.0, 8.0))
        self.columns = tuple(columns)

    def allocate(self, num_lanes: int) -> None:
        """Make room for ``num_lanes`` lanes."""
        self.group = np.zeros(num_lanes, np.int64)
        self.difficulty = np.zeros(num_lanes)
        self.features = np.zeros((num_lanes, len(self.columns)), np.float32)
        allowed = np.broadcast_to(self._max_calls, (num_lanes, self._max_calls.size))
        self.calls_allowed = allowed.astype(np.float32)  # compared with float32 counts in every step
        for part in (self._effort, self._failures):
            if part is not None:
                part.allocate(num_lanes)

    def begin(self, lanes: I64, keys: U64, episodes: I64 | int = 0) -> None:
        """Draw class, difficulty and the hint of it."""
        u = uniform(keys[:, None], self._start_streams)
        if self._moves is None:
            group = np.searchsorted(self._cumulative, u[:, 0], side="right")
        else:
            assert self._tasks.drift is not None
            gone = np.minimum(np.reshape(episodes, (-1, 1)) / self._tasks.drift.over, 1.0)
            group = (self._cumulative + gone * self._moves <= u[:, :1]).sum(axis=1)
        z = self._normal.sample(u[:, 1:])
        difficulty = self._mean.take(group) + self._sd.take(group) * z[:, 0]
        self.group[lanes] = group
        self.difficulty[lanes] = difficulty
        features = self._one_hot.take(group, axis=0)
        if self._tasks.hint_sd is not None:
            hint = np.clip(difficulty + self._tasks.hint_sd * z[:, 1], -8.0, 8.0)
            features = np.concatenate([features, hint[:, None].astype(np.float32)], axis=1)
        self.features[lanes] = features
        if self._effort is not None:
            self._effort.begin(lanes, keys, group, z[:, 0])
        if self._failures is not None:
            self._failures.begin(lanes, keys, z[:, 0])

    def call(self, lanes: I64, keys: U64, k: I64, number: I64) -> Outcomes:
        """Resolve calls: two latents that last for the task, then noise, cost and latency of the call."""
        z = self._streams.take(k, axis=0)
        z += keys[:, None]
        z += number.astype(np.uint64)[:, None] * self._per_call
        bits = mix64(z)
        bits >>= _S11
        x = self._bank.sample(self._rows.take(k, axis=0), np.multiply(bits, _UNIT, dtype=np.float64))
        margin = self._skill[k, self.group.take(lanes)] - self.difficulty.take(lanes)
        margin += self._tasks.family_sd * x[:, 0]
        margin += self._latent.take(k) * x[:, 1]
        margin += x[:, 2]
        right = margin > self._cut
        if self._tasks.ceiling is not None:
            right &= self.difficulty.take(lanes) <= self._tasks.ceiling
        cost, latency = (x[:, 3].copy(), x[:, 4].copy()) if self._effort is None else self._effort.call(lanes, k, x)
        if self._wrong is not None:
            factor = self._wrong.take(k, axis=0)
            cost = np.where(right, cost, cost * factor[:, 0])
            latency = np.where(right, latency, latency * factor[:, 1])
        status = np.ones(len(k), np.int8)
        if self._failures is not None:
            status = np.where(right, status, self._failures.call(lanes, keys, k, number))
        outcome = Outcomes(right, cost, latency, status)
        if self._curve is not None:
            outcome.quality = self._curve.of(margin)
        return outcome


class TableTaskSource:
    """Replay of recorded runs: each call plays one recorded sample, without replacement, in random order.

    Args:
        scenario: a router scenario with table tasks.
        split: ``train`` or ``eval``; the queries of the other split are never shown.
    """

    def __init__(self, scenario: RouterScenario, split: str) -> None:
        table = table_of(scenario)
        held_out = table.is_eval
        chosen = np.flatnonzero(held_out if split == "eval" else ~held_out)
        self._queries = chosen.astype(np.int64)
        self._success = np.nan_to_num(table.success, nan=0.0)
        self._cost = np.nan_to_num(table.cost_usd, nan=0.0)
        self._latency = np.nan_to_num(table.latency_s, nan=0.0)
        self._status = table.status.astype(np.int8)
        self._samples = table.n_samples.astype(np.int64)
        self._query_features = table.features.astype(np.float32)
        self._repeats = self._success.shape[2]
        names = list(scenario.portfolio)
        self._order_streams = stream_ids([f"table.order.{name}" for name in names])
        self._luck_streams = stream_ids([f"table.luck.{name}" for name in names])
        limit = np.array([entry.max_calls for entry in scenario.portfolio.values()], dtype=np.int64)
        self._allowed = np.minimum(self._samples, limit)
        train = np.flatnonzero(~held_out)
        there = self._exists()[train]
        weight = np.maximum(there.sum(axis=(0, 2)), 1)
        self._accept_at = None if scenario.quality is None else scenario.quality.accept_at
        won = self._success[train] if self._accept_at is None else self._success[train] >= self._accept_at
        self.strength = (won * there).sum(axis=(0, 2)) / weight
        self.quality = None
        if self._accept_at is not None:
            first, second = ((self._success[train] ** n * there).sum(axis=(0, 2)) / weight for n in (1, 2))
            self.quality = first, np.maximum(second - first * first, 0.0)
        self.expected_cost = (self._cost[train] * there).sum(axis=(0, 2)) / weight
        self.expected_latency = (self._latency[train] * there).sum(axis=(0, 2)) / weight
        self.columns = tuple(Column(f"task.{c.name}", c.unit, c.low, c.high) for c in table.feature_columns)

    def _exists(self) -> NDArray[np.bool_]:
        return np.arange(self._repeats) < self._samples[:, :, None]

    def allocate(self, num_lanes: int) -> None:
        """Make room for ``num_lanes`` lanes."""
        self.group = np.zeros(num_lanes, np.int64)
        self.features = np.zeros((num_lanes, len(self.columns)), np.float32)
        self.calls_allowed = np.zeros((num_lanes, self._samples.shape[1]), np.float32)

    def begin(self, lanes: I64, keys: U64, episodes: I64 | int = 0) -> None:
        """Draw the query."""
        query = self._queries.take(pick(uniform(keys, stream_id("task.query")), len(self._queries)))
        self.group[lanes] = query
        self.features[lanes] = self._query_features.take(query, axis=0)
        self.calls_allowed[lanes] = self._allowed.take(query, axis=0)

    def call(self, lanes: I64, keys: U64, k: I64, number: I64) -> Outcomes:
        """Play the recorded sample that comes ``number``-th in this episode's order."""
        query = self.group.take(lanes)
        repeat = np.arange(self._repeats)
        u = uniform(keys[:, None], self._order_streams.take(k)[:, None], repeat[None, :])
        u[repeat[None, :] >= self._samples[query, k][:, None]] = 2.0
        order = np.argsort(u, axis=1, kind="stable")
        cell = (query, k, order[np.arange(len(k)), np.minimum(number, self._repeats - 1)])
        if self._accept_at is not None:
            quality = self._success[cell]
            right = quality >= self._accept_at
            return Outcomes(right, self._cost[cell], self._latency[cell], self._status[cell], quality)
        luck = uniform(keys, self._luck_streams.take(k), number)
        return Outcomes(luck < self._success[cell], self._cost[cell], self._latency[cell], self._status[cell])


@lru_cache(maxsize=8)
def _load_table(path: Path, stamp: int, options: str) -> RecordedTable:
    """Read a table once per process and version of the file; ``stamp`` is its time of change."""
    return RecordedTable.load(path, **json.loads(options))


def table_of(scenario: RouterScenario) -> RecordedTable:
    """Load the table that a scenario names, for its configurations in their order.

    Raises:
        TableError: if the file is missing or cannot be used as it is.
    """
    tasks = scenario.tasks
    assert isinstance(tasks, TableTasks)
    path = Path(tasks.table).expanduser()
    if not path.is_absolute() and scenario.path is not None and (scenario.path.parent / path).is_file():
        path = scenario.path.parent / path
    if not path.is_file():
        raise TableError(
            f"{scenario.path or scenario.name}: tasks.table: no file {tasks.table!r}; give its path there "
            "or by --set tasks.table=PATH"
        )
    options = {
        "configs": list(scenario.portfolio),
        "eval_fraction": tasks.eval_fraction,
        "salt": tasks.salt,
        "features": tasks.features,
        "missing": tasks.missing,
        "failure_status": tasks.failure_status,
    }
    return _load_table(path.resolve(), path.stat().st_mtime_ns, json.dumps(options))


def task_source(scenario: RouterScenario, split: str) -> ModelTaskSource | TableTaskSource:
    """Build the source that a scenario asks for."""
    if isinstance(scenario.tasks, ModelTasks):
        return ModelTaskSource(scenario)
    return TableTaskSource(scenario, split)
