"""Sequential attempts with a judge that does not err: the router in which one step is one whole attempt.

Where judging is free, instant and right, and calls are made one after another, nothing better can be done with
a call than to wait for it, have it judged, and submit it if it is accepted. :class:`AttemptCore` does so by itself,
so that a policy decides only which configuration to try next and when to stop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..envs.lanes import F64, I64, Bools
from ..envs.router_core import RouterCore
from ..envs.router_state import Kind
from ..envs.streams import U64, pick, stream_id, stream_ids, uniform
from ..errors import PolicyError, ScenarioError
from ..rewards.components import ACCURACY, COST_USD, LATENCY_S
from ..scenarios.columns import Column
from ..scenarios.schema import RouterScenario
from ..scenarios.tables import RecordedTable
from ..scenarios.tasks import Outcomes, TaskSource
from .belief import TaskBelief
from .policy import HIDDEN, Policy, initial_weights

_BEND = 0.25  # small enough that tanh keeps the finest differences of the index apart
_SHARPNESS = 20.0  # a call with 25 % more for its price is taken 7 times as often


class AttemptCore(RouterCore):
    """Lanes of a router in which every launch is played to its verdict within one step.

    Of the router's actions only launches and ``abstain`` are ever allowed. Observations are the router's own or, with a
    belief, what is sufficient: the task's features, the calls made, the price of a USD, and what the belief makes of
    the failed calls.

    Args:
        scenario: a scenario with a perfect, free and instant judge.
        num_lanes: number of lanes.
        source: where tasks come from; None takes the scenario's own.
        stake: USD at which a reward counts half in training: rewards are divided by ``1 + per_usd * stake``, which
            moves no optimum and keeps episodes with a high price of money from drowning all others.
        belief: what the tasks are taken to be, for the columns ``belief.*``; the features of the source must be
            flags of its classes. None shows the router's observations instead.
        options: ``profile``, ``intensity``, ``split``, ``max_episode_steps``.

    Raises:
        ScenarioError: if the judge errs, costs or takes time.
    """

    def __init__(
        self,
        scenario: RouterScenario,
        num_lanes: int = 1,
        *,
        source: TaskSource | None = None,
        stake: float = 0.0,
        belief: TaskBelief | None = None,
        **options: Any,
    ) -> None:
        self._given, self._stake, self._belief = source, stake, belief
        super().__init__(scenario, num_lanes, **options)
        self._told = np.zeros((self.num_lanes, 2, self.num_configs))
        if belief is not None:
            names = [column.name for column in self.observation_columns]
            kept = [*(f"{name}.launched" for name in self.config_names), "log_per_usd"]
            self._kept = np.array([*range(len(self.source.columns)), *(names.index(name) for name in kept)])
            self.observation_columns = (*(self.observation_columns[i] for i in self._kept), *belief.columns)
        judge = self.spec.judge
        rates = None if judge is None else (judge.true_positive, judge.false_positive)
        free = judge is not None and judge.cost_usd.table().high == judge.latency_s.table().high == 0.0
        if rates != (1.0, 0.0) or not free:
            raise ScenarioError(f"{self.spec.name}: judge: got {judge}; allowed: one that is right, free and instant")

    def _make_source(self, split: str) -> TaskSource:
        return super()._make_source(split) if self._given is None else self._given

    def _advance(self, actions: I64, frozen: I64 | None) -> None:
        kind = self._kind_of.take(actions)
        kind[~self._allowed.ravel().take(self.all_lanes * len(self.action_names) + actions)] = Kind.NOTHING
        if frozen is not None:
            kind[frozen] = Kind.NOTHING
        clock, spend = self.clock.copy(), self.spend.copy()
        rows = np.flatnonzero(kind == Kind.LAUNCH)
        if rows.size:
            self._place(rows, actions.take(rows), np.zeros(rows.size, np.int64))
            self._wait(rows)
            rows = rows[(self.unjudged.take(rows) > 0) & ~self.terminated.take(rows)]
        if rows.size:
            self._judge(rows, 0)
            rows = rows[self.value[rows, self.best.take(rows)] >= 2.0]
        if rows.size:
            self._stop(rows, Kind.SUBMIT)
        rows = np.flatnonzero(kind == Kind.ABSTAIN)
        if rows.size:
            self._stop(rows, Kind.ABSTAIN)
        np.subtract(self.spend, spend, out=self.components[:, COST_USD])
        np.subtract(self.clock, clock, out=self.components[:, LATENCY_S])
        if self._belief is not None:
            # a call that succeeded ends the episode, so every call that is looked at later has failed
            rows = np.flatnonzero((kind == Kind.LAUNCH) & ~self.terminated)
            k = actions.take(rows)
            cost, latency = self.components[rows, COST_USD], self.components[rows, LATENCY_S]
            self._told[rows, :, k] += self._belief.scores(k, cost, latency)
        self._allowed = self._legal(None)

    def _begin(self, lanes: I64, keys: U64) -> None:
        super()._begin(lanes, keys)
        self._told[lanes] = 0.0

    def observe(self, lanes: I64 | None = None) -> NDArray[np.float32]:
        """Return the observation of ``lanes``; see ``observation_columns``."""
        rows = super().observe(lanes)
        if self._belief is None:
            return rows
        at = self.all_lanes if lanes is None else lanes
        classes, failed = self.source.features[at], self.usage(at)
        seen = self._belief.observe(classes, failed, self._told[at], self.preferences["per_usd"][at])
        return np.concatenate([rows[:, self._kept], seen], axis=1)

    def _legal(self, lanes: I64 | None) -> Bools:
        legal = super()._legal(lanes)
        legal[:, self.num_configs : -1] = False
        return legal

    def advance(self, actions: I64, frozen: I64 | None = None) -> None:
        """Apply one action per lane; see :class:`~brownout.envs.lanes.LaneCore`."""
        super().advance(actions, frozen)
        if self._stake:
            self.reward /= 1.0 + self._stake * self.preferences["per_usd"]


def index_policy(columns: Sequence[Column], actions: int, hidden: Sequence[int] = HIDDEN, seed: int = 0) -> Policy:
    """A net that follows the greedy index given all that is known, exactly: where training may begin.

    The index is the plan ``greedy`` with context (:func:`~brownout.envs.sequential.greedy_plan`): the call whose
    success is cheapest, as long as it pays by itself. It is the order of the columns ``worth`` and their signs, and
    ``tanh`` keeps both.

    Args:
        columns: observation columns of an :class:`AttemptCore` with a belief.
        actions: number of its actions, the last of which gives up.
        hidden: widths of the hidden layers, each at least the number of configurations.
        seed: of all weights that training is left with.

    Raises:
        PolicyError: if a layer is too narrow.
    """
    worth = [i for i, c in enumerate(columns) if c.name.startswith("belief.") and c.name.endswith(".worth")]
    size = len(worth)
    if min(hidden) < size:
        raise PolicyError(f"hidden: got {list(hidden)}; allowed: {size} and more in each layer, one per configuration")
    weights, last = initial_weights(len(columns), actions, hidden, seed), len(hidden)
    for layer in range(last):
        weights[f"policy.{layer}.weight"][:, :size] = 0.0
        weights[f"policy.{layer}.weight"][worth if layer == 0 else np.arange(size), np.arange(size)] = _BEND
    weights[f"policy.{last}.weight"][:] = 0.0
    weights[f"policy.{last}.weight"][np.arange(size), np.arange(size)] = _SHARPNESS / _BEND**last
    return Policy(weights)


class MixedSource:
    """Tasks of several simulators of the same portfolio; each episode is drawn from one of them.

    Training on simulators fitted to different samples of the same queries keeps a policy from trusting what a
    hundred queries cannot tell.

    Args:
        sources: the simulators; columns and expectations are those of the first.
    """

    quality: tuple[F64, F64] | None = None

    def __init__(self, sources: Sequence[TaskSource]) -> None:
        self._sources = tuple(sources)
        first = self._sources[0]
        self.columns, self.strength = first.columns, first.strength
        self.expected_cost, self.expected_latency = first.expected_cost, first.expected_latency
        self._stream = stream_id("task.simulator")

    def allocate(self, num_lanes: int) -> None:
        """Make room for ``num_lanes`` lanes."""
        for source in self._sources:
            source.allocate(num_lanes)
        self.which = np.zeros(num_lanes, np.int64)
        self.group = np.zeros(num_lanes, np.int64)
        self.features = self._sources[0].features.copy()

    @property
    def calls_allowed(self) -> NDArray[np.float32]:
        """``(N, K)`` calls that each configuration can take."""
        return self._sources[0].calls_allowed

    def begin(self, lanes: I64, keys: U64, episodes: I64 | int = 0) -> None:
        """Draw simulator and task."""
        which = pick(uniform(keys, self._stream), len(self._sources))
        numbers = np.broadcast_to(episodes, which.shape)
        self.which[lanes] = which
        for i, source in enumerate(self._sources):
            rows = which == i
            if rows.any():
                mine = lanes[rows]
                source.begin(mine, keys[rows], numbers[rows])
                self.group[mine], self.features[mine] = source.group[mine], source.features[mine]

    def call(self, lanes: I64, keys: U64, k: I64, number: I64) -> Outcomes:
        """Resolve calls, each by the simulator of its episode."""
        n = len(lanes)
        out = Outcomes(np.zeros(n, np.bool_), np.zeros(n), np.zeros(n), np.zeros(n, np.int8))
        which = self.which.take(lanes)
        for i, source in enumerate(self._sources):
            rows = np.flatnonzero(which == i)
            if rows.size:
                part = source.call(lanes[rows], keys[rows], k[rows], number[rows])
                out.right[rows], out.status[rows] = part.right, part.status
                out.cost_usd[rows], out.latency_s[rows] = part.cost_usd, part.latency_s
        return out


class ReplaySource:
    """Recorded runs behind the columns of a simulator: what a policy trained there sees of real queries.

    Args:
        known: a source of the simulator, for columns and expectations; its features are not used.
        table: recorded runs.
        configs: indices of the portfolio's configurations in the table.
        query: ``(N,)`` query that each lane replays.
        features: ``(N, F)`` features of it, in the simulator's columns.
        repeats: calls of one configuration at most.
    """

    quality: tuple[F64, F64] | None = None

    def __init__(
        self,
        known: TaskSource,
        table: RecordedTable,
        configs: Sequence[int],
        query: I64,
        features: NDArray[np.float32],
        repeats: int,
    ) -> None:
        self.columns, self.strength = known.columns, known.strength
        self.expected_cost, self.expected_latency = known.expected_cost, known.expected_latency
        self.group, self.features = query, features
        take = (slice(None), np.asarray(configs, dtype=np.int64))
        self._success = np.nan_to_num(table.success[take]) >= 0.5
        self._cost, self._latency = np.nan_to_num(table.cost_usd[take]), np.nan_to_num(table.latency_s[take])
        self._status, self._samples = table.status[take].astype(np.int8), table.n_samples[take]
        self.calls_allowed = np.minimum(self._samples[query], repeats).astype(np.float32)
        self._orders = stream_ids([f"table.order.{table.configs[k]}" for k in configs])

    def allocate(self, num_lanes: int) -> None:
        """Nothing to do: every lane has its query."""

    def begin(self, lanes: I64, keys: U64, episodes: I64 | int = 0) -> None:
        """Nothing to do: every lane has its query."""

    def call(self, lanes: I64, keys: U64, k: I64, number: I64) -> Outcomes:
        """Play the recorded sample that comes ``number``-th in this episode's order."""
        query = self.group.take(lanes)
        repeat = np.arange(self._success.shape[2])
        u = uniform(keys[:, None], self._orders.take(k)[:, None], repeat[None, :])
        u[repeat[None, :] >= self._samples[query, k][:, None]] = 2.0
        place = np.argsort(u, axis=1, kind="stable")[np.arange(len(k)), number]
        cell = (query, k, place)
        return Outcomes(self._success[cell], self._cost[cell], self._latency[cell], self._status[cell])


def play_out(core: AttemptCore, policy: Any, per_usd: F64) -> tuple[F64, F64, F64]:
    """Play one episode in every lane of a freshly begun core.

    Args:
        core: the lanes.
        policy: asked for its most likely action.
        per_usd: ``(N,)`` price of a USD in each lane.

    Returns:
        ``(N,)`` success, cost in USD and number of calls.
    """
    core.preferences["per_usd"][:] = per_usd
    over = np.zeros(core.num_lanes, np.bool_)
    success = np.zeros(core.num_lanes)
    actions = np.full(core.num_lanes, len(core.action_names) - 1)
    while not over.all():
        going = np.flatnonzero(~over)
        actions[going] = policy.act_batch(core.observe(going), core.mask(going))
        core.advance(actions, np.flatnonzero(over))
        success[going] += core.components[going, ACCURACY]
        over[going] |= core.terminated[going] | core.truncated[going]
    return success, core.spend.copy(), core.used.astype(np.float64)
