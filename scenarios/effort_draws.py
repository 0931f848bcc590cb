"""What calls on one task share besides their odds: cost, time, and the way in which wrong answers fail.

Everything is a normal score, the sum of a part of the task, one of the family, one of the configuration and one of
the call, weighted so that its variance is 1. A cost or a time is the quantile at which its score stands, so the
distribution of a configuration stays what the scenario says and only the calls on one task become alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..envs.quantiles import QuantileBank, QuantileTable, by_score, normal, score_position
from ..envs.streams import U64, stream_id, stream_ids, uniform
from ..faults.calls import Status
from .schema import Effort, ModelTasks, RouterScenario, Sharing

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


def _weights(part: Sharing) -> F64:
    """Weights of the scores of task, family, configuration and call: roots of their shares."""
    return np.sqrt(np.array([part.task, part.family, part.configuration, part.own]))


def _task_part(part: Sharing, difficulty: F64, z: F64) -> F64:
    """Score of the task, correlated with the score of its difficulty."""
    rho = part.difficulty
    return rho * difficulty + float(np.sqrt(1.0 - rho * rho)) * z


class EffortDraws:
    """Costs and times of calls.

    Args:
        effort: how much calls share.
        share: ``(C,)`` share of each class of task.
        classes: ``C`` names.
        costs: distribution of each configuration's cost.
        latencies: the same of its time.
    """

    def __init__(
        self,
        effort: Effort,
        share: F64,
        classes: Sequence[str],
        costs: Sequence[QuantileTable],
        latencies: Sequence[QuantileTable],
    ) -> None:
        shifts = np.array([(effort.classes or {}).get(c, (0.0, 0.0)) for c in classes], dtype=np.float64)
        self._shift = shifts - share @ shifts
        within = np.sqrt(1.0 - share @ self._shift**2)
        self._parts = effort.cost, effort.latency
        self._weights = [_weights(part) * scale for part, scale in zip(self._parts, within, strict=True)]
        self._together = effort.together, float(np.sqrt(1.0 - effort.together**2))
        self._streams = stream_ids(("task.effort.cost", "task.effort.latency"))
        self._normal = normal()
        self._bank = QuantileBank([by_score(table) for table in (*costs, *latencies)])
        self._size = len(costs)

    @staticmethod
    def streams(name: str, family: str) -> U64:
        """Streams of what a family and a configuration keep on one task: of the cost, then of the time."""
        places = f"family.{family}", f"configuration.{name}"
        return stream_ids([f"effort.{measure}.{place}" for measure in ("cost", "latency") for place in places])

    def allocate(self, num_lanes: int) -> None:
        """Make room for ``num_lanes`` lanes."""
        self._task = np.zeros((num_lanes, 2))

    def begin(self, lanes: I64, keys: U64, group: I64, difficulty: F64) -> None:
        """Draw what all calls on a task share.

        Args:
            lanes: ``(n,)`` lanes that begin.
            keys: ``(n,)`` their episode keys.
            group: ``(n,)`` class of their task.
            difficulty: ``(n,)`` normal score of its difficulty within the class.
        """
        z = self._normal.sample(uniform(keys[:, None], self._streams))
        for j, (part, weights) in enumerate(zip(self._parts, self._weights, strict=True)):
            self._task[lanes, j] = self._shift[group, j] + weights[0] * _task_part(part, difficulty, z[:, j])

    def call(self, lanes: I64, k: I64, x: F64) -> tuple[F64, F64]:
        """Cost and time of calls.

        Args:
            lanes: ``(n,)`` where.
            k: ``(n,)`` configurations.
            x: ``(n, 9)`` scores: of the call in columns 3 (cost) and 4 (time), those of :meth:`streams` from 5 on.
        """
        task = self._task.take(lanes, axis=0)
        (_, family, keeps, own), (_, slow_family, slow_keeps, slow_own) = self._weights
        cost = task[:, 0] + family * x[:, 5] + keeps * x[:, 6] + own * x[:, 3]
        slow = task[:, 1] + slow_family * x[:, 7] + slow_keeps * x[:, 8] + slow_own * x[:, 4]
        latency = self._together[0] * cost + self._together[1] * slow
        return (
            self._bank.sample(k, score_position(cost)),
            self._bank.sample(k + self._size, score_position(latency)),
        )


class FailureDraws:
    """Which wrong answers are visible failures, and of which status; see :meth:`of`."""

    def __init__(self, shares: F64, sharing: Sharing, streams: U64) -> None:
        # the score above which a wrong answer fails; shares are checked, so both ends are finite or never reached
        self._total = shares.sum(axis=1)
        table = by_score(QuantileTable(np.linspace(0.0, 1.0, 1025)))
        self._uniform = QuantileBank([table])
        self._cumulative = np.cumsum(shares, axis=1)
        self._sharing, self._weights = sharing, _weights(sharing)
        self._streams, self._task_stream = streams, stream_id("task.effort.failure")
        self._normal = normal()

    @classmethod
    def of(cls, scenario: RouterScenario) -> FailureDraws | None:
        """The draws that a scenario asks for, None if no wrong answer fails visibly."""
        entries = scenario.portfolio
        shares = np.zeros((len(entries), len(Status)))
        words = {status.word: int(status) for status in Status}
        for k, entry in enumerate(entries.values()):
            for word, share in (entry.wrong.fails if entry.wrong is not None else {}).items():
                shares[k, words[word]] = share
        if not shares.any():
            return None
        assert isinstance(scenario.tasks, ModelTasks)
        effort = scenario.tasks.effort or Effort()  # pyright: ignore[reportCallIssue]
        streams = [
            stream_ids((f"effort.failure.family.{entry.family}", f"effort.failure.configuration.{name}",
                        f"configuration.{name}.failure", f"configuration.{name}.failure.status"))
            for name, entry in entries.items()
        ]  # fmt: skip
        return cls(shares, effort.failure, np.array(streams, dtype=np.uint64))

    def allocate(self, num_lanes: int) -> None:
        """Make room for ``num_lanes`` lanes."""
        self._task = np.zeros(num_lanes)

    def begin(self, lanes: I64, keys: U64, difficulty: F64) -> None:
        """Draw what all calls on a task share; ``difficulty`` is the normal score of its difficulty."""
        z = self._normal.sample(uniform(keys, self._task_stream))
        self._task[lanes] = self._weights[0] * _task_part(self._sharing, difficulty, z)

    def call(self, lanes: I64, keys: U64, k: I64, number: I64) -> NDArray[np.int8]:
        """Status of calls whose answer is wrong."""
        streams = self._streams.take(k, axis=0)
        kept = self._normal.sample(uniform(keys[:, None], streams[:, :2]))
        u = uniform(keys[:, None], streams[:, 2:], number[:, None])
        _, family, keeps, own = self._weights
        score = self._task.take(lanes) + family * kept[:, 0] + keeps * kept[:, 1] + own * self._normal.sample(u[:, 0])
        share = self._uniform.sample(np.zeros(len(k), np.int64), score_position(score))
        cumulative = self._cumulative.take(k, axis=0)
        chosen = (cumulative <= (u[:, 1] * cumulative[:, -1])[:, None]).sum(axis=1)
        failed = share >= 1.0 - self._total.take(k)
        return np.where(failed & (self._total.take(k) > 0.0), chosen, int(Status.OK)).astype(np.int8)
