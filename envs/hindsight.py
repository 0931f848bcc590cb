"""The hindsight bound: what a policy could reach if it knew every draw of the episode in advance.

Draws are pure functions of the episode's key, so they can be read without being played. For every call
``(k, j)`` that would succeed the cheapest plan that obtains it launches calls ``0 ... j`` of configuration
``k`` at once, submits as soon as number ``j`` answers and cancels the rest, so no plan that submits it has a
utility above

    accuracy - per_usd * (c_j + sum_{i<j} c_i min(1, L_j / L_i)) - per_s * L_j .

The bound of the episode is the best of these, of the same for repairs, of handing over, and of abstaining (0).
Where answers have a quality, a launch and ``n - 1`` rounds of repair of one configuration give at most what its ``n``
best answers give, at the price and in the time of its least launch and its ``n - 1`` least repairs.
Faults whose strikes depend on the call alone are read exactly. Those that depend on time or on what else
happened are left out, and as they may end calls ``i < j`` early and free of charge, these then count as free.
Both can only raise the bound, as long as such faults do not help otherwise (a price that falls, say).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..faults import Calls, FaultPlan, Status, Verb
from ..faults.graded import LEVELS
from ..rewards import WeightedSum
from ..scenarios.loading import fault_plan, services_of
from .lanes import LaneCore
from .router_core import RouterCore
from .streams import uniform

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]
_CHUNK = 4096
_BEYOND = 1e15  # USD or seconds that no limit allows


def hindsight_bounds(core: LaneCore, episodes: int, seed: int = 0) -> F64 | None:
    """Return the ``(E,)`` bounds of episodes ``0 ... episodes - 1`` of a seed.

    Args:
        core: any core of the scenario, profile, intensity and split in question; it is not touched.
        episodes: number of episodes ``E``.
        seed: seed of all of them.

    Returns:
        None where no bound is known, see :func:`hindsight_of`.
    """
    return hindsight_of(core, np.full(episodes, seed), np.arange(episodes), np.ones(episodes))


def hindsight_of(core: LaneCore, seeds: NDArray[Any], episodes: NDArray[Any], scales: F64) -> F64 | None:
    """Return the ``(E,)`` bounds of any episodes.

    Args:
        core: any core of the scenario, profile, intensity and split in question; it is not touched.
        seeds: ``(E,)`` lane seeds.
        episodes: ``(E,)`` episode indices.
        scales: ``(E,)`` what multiplies the core's intensity in each, as in :meth:`LaneCore.grade`.

    Returns:
        None for another environment than the router, or when the reward is not a weighted sum, for which alone the
        formula holds.
    """
    if not isinstance(core, RouterCore) or not isinstance(core.reward_function, WeightedSum):
        return None
    bounds = np.zeros(len(seeds))
    levels = np.rint(scales * LEVELS)
    for level in np.unique(levels):
        rows = np.flatnonzero(levels == level)
        for start in range(0, len(rows), _CHUNK):
            part = rows[start : start + _CHUNK]
            bounds[part] = _Reader(core, len(part), level / LEVELS).bounds(seeds[part], episodes[part])
    return bounds


@dataclass(frozen=True, eq=False)
class FirstCalls:
    """How the first call to each configuration would turn out, by episode.

    Args:
        keys: ``(E,)`` episode keys.
        right: ``(E, K)`` whether it brings a right answer.
        cost_usd: ``(E, K)`` what it costs.
        latency_s: ``(E, K)`` how long it takes.
    """

    keys: NDArray[np.uint64]
    right: Bools
    cost_usd: F64
    latency_s: F64


def first_calls(core: RouterCore, episodes: int, seed: int = 0) -> FirstCalls:
    """Read the first call to each configuration in episodes ``0 ... episodes - 1`` of a seed.

    Faults that depend on time or on what else happened are left out, as in the bounds.

    Args:
        core: any core of the scenario, profile, intensity and split in question; it is not touched.
        episodes: number of episodes ``E``.
        seed: seed of all of them.
    """
    k = core.num_configs
    keys = np.zeros(episodes, np.uint64)
    right, cost, latency = np.zeros((episodes, k), np.bool_), np.zeros((episodes, k)), np.zeros((episodes, k))
    for start in range(0, episodes, _CHUNK):
        numbers = np.arange(start, min(start + _CHUNK, episodes))
        reader = _Reader(core, len(numbers))
        reader.begin(np.full(len(numbers), seed), numbers)
        keys[numbers] = reader.core.keys
        for config in range(k):
            outcome = reader.call(config, 0, Verb.LAUNCH)
            right[numbers, config], cost[numbers, config], latency[numbers, config] = outcome
    return FirstCalls(keys, right, cost, latency)


class _Reader:
    """Reads the draws of a chunk of episodes, one lane each."""

    def __init__(self, like: RouterCore, lanes: int, scale: float = 1.0) -> None:
        self.core = RouterCore(
            like.scenario,
            lanes,
            profile=like.profile,
            intensity=0.0,
            split=like.split,
            max_episode_steps=like.max_steps,
        )
        self.reward: Any = like.reward_function
        self.plan = _timeless(like, lanes, scale)
        self.exact = like.plan is None or like.plan.timeless_ids == frozenset(like.plan.fault_ids)

    def begin(self, seeds: NDArray[Any], episodes: NDArray[Any]) -> None:
        """Put each lane at the start of its episode."""
        self.core.seed(self.core.all_lanes, seeds.tolist())
        self.core.begin(self.core.all_lanes, episodes.astype(np.int64))

    def bounds(self, seeds: NDArray[Any], episodes: NDArray[Any]) -> F64:
        """Return the bound of each episode, one per lane."""
        self.begin(seeds, episodes)
        best = np.maximum(self._handoff(), 0.0)
        for k in range(self.core.num_configs):
            best = np.maximum(best, self._chain(k) if self.core.graded else self._configuration(k))
        return best

    def _worth(self, value: Any, cost: F64, seconds: F64) -> F64:
        """Utility of gaining ``value`` at a price, minus infinity where a hard limit forbids it."""
        core, given = self.core, self.core.preferences
        late = np.maximum(seconds - given["deadline_s"], 0.0) * self.reward.late_per_s
        worth = value - given["per_usd"] * cost - given["per_s"] * seconds - late
        if core.ends_on_budget:
            worth = np.where(cost < given["budget_usd"], worth, -np.inf)
        if core.ends_on_deadline:
            worth = np.where(seconds <= given["deadline_s"], worth, -np.inf)
        return worth

    def _handoff(self) -> F64:
        core = self.core
        if core.spec.person is None:
            return np.full(core.num_lanes, -np.inf)
        call, right = core._hand_over(core.all_lanes)
        given = core.preferences
        # neither limit binds a person: the agent's clock and purse stop at the hand-over
        return self.reward.handoff * right - given["per_usd"] * call.cost_usd - given["per_s"] * call.latency_s

    def _configuration(self, k: int) -> F64:
        """Best worth of any call of configuration ``k``, or of a repair by it."""
        core = self.core
        best = np.full(core.num_lanes, -np.inf)
        costs: list[F64] = []
        times: list[F64] = []
        base_cost, base_time = np.full(core.num_lanes, np.inf), np.full(core.num_lanes, np.inf)
        share = core.spec.limits.cancel_share
        for j in range(min(int(core.source.calls_allowed[:, k].max()), core.max_calls)):
            allowed = j < core.source.calls_allowed[:, k]
            good, cost, seconds = self.call(k, j, Verb.LAUNCH)
            before = np.zeros(core.num_lanes)
            for c, s in zip(costs, times, strict=True) if self.exact else ():
                ran = np.minimum(1.0, seconds / np.maximum(s, 1e-300))
                before += c * (share + (1.0 - share) * ran)
            worth = self._worth(self.reward.accuracy, cost + before, seconds)
            best = np.maximum(best, np.where(good & allowed, worth, -np.inf))
            if core.spec.repair is not None and j > 0:
                mended, price, extra = self.call(k, j, Verb.REPAIR)
                worth = self._worth(self.reward.accuracy, price + base_cost, extra + base_time)
                best = np.maximum(best, np.where(mended & allowed & np.isfinite(base_cost), worth, -np.inf))
            costs.append(cost)
            times.append(seconds)
            base_cost, base_time = np.minimum(base_cost, cost), np.minimum(base_time, seconds)
        return best

    def _chain(self, k: int) -> F64:
        """Most that a launch of configuration ``k`` and rounds of repair are worth, where answers have a quality."""
        core, quality = self.core, self.core.spec.quality
        assert quality is not None
        best = np.full(core.num_lanes, -np.inf)
        launches, repairs = [], []
        for j in range(min(int(core.source.calls_allowed[:, k].max()), core.max_calls)):
            allowed = j < core.source.calls_allowed[:, k]
            launches.append(self._usable(k, j, Verb.LAUNCH, allowed))
            value, cost, seconds = launches[-1]
            best = np.maximum(best, self._worth(self.reward.accuracy * value, cost, seconds))
            if core.spec.repair is not None:
                repairs.append(self._usable(k, j, Verb.REPAIR, allowed))
        if not repairs:
            return best
        drafts, draft_cost, draft_time = (np.stack(part) for part in zip(*launches, strict=True))
        rounds, round_cost, round_time = (np.stack(part) for part in zip(*repairs, strict=True))
        good = np.sort(np.maximum(drafts, rounds), axis=0)[::-1]
        cost = draft_cost.min(axis=0) + np.cumsum(np.sort(round_cost, axis=0), axis=0)
        seconds = draft_time.min(axis=0) + np.cumsum(np.sort(round_time, axis=0), axis=0)
        missing = 1.0 - good[0]
        for n in range(1, len(good)):
            missing = missing * (1.0 - quality.gain * good[n])
            best = np.maximum(best, self._worth(self.reward.accuracy * (1.0 - missing), cost[n - 1], seconds[n - 1]))
        return best

    def _usable(self, k: int, number: int, verb: Verb, allowed: Bools) -> tuple[F64, F64, F64]:
        """Quality, cost and latency of a fresh answer; out of reach where the call fails or is not allowed."""
        calls = self._place(k, number, verb)
        assert calls.quality is not None
        there = allowed & (calls.status == Status.OK)
        return (
            np.where(there, calls.quality, 0.0), np.where(there, calls.cost_usd, _BEYOND),
            np.where(there, calls.latency_s, _BEYOND),
        )  # fmt: skip

    def call(self, k: int, number: int, verb: Verb) -> tuple[Bools, F64, F64]:
        """Whether call ``number`` to ``k`` brings a right answer, its cost and its latency."""
        calls = self._place(k, number, verb)
        return calls.right & (calls.status == Status.OK), calls.cost_usd, calls.latency_s

    def _place(self, k: int, number: int, verb: Verb) -> Calls:
        """Call ``number`` to ``k`` in every lane, struck by the faults that depend on nothing else."""
        core = self.core
        lanes, n = core.all_lanes, core.num_lanes
        service, count = np.full(n, k), np.full(n, number)
        outcome = core.source.call(lanes, core.keys, service, count)
        if verb == Verb.REPAIR:
            repair = core.spec.repair
            assert repair is not None
            u = uniform(core.keys, core._repair_streams[k, 0], number)
            outcome.right = outcome.right | (u < repair.fix)
            outcome.cost_usd = outcome.cost_usd * repair.cost_factor
            outcome.latency_s = outcome.latency_s * repair.latency_factor
        calls = Calls.place(
            lanes, service, verb, count, 0.0, outcome.latency_s, outcome.cost_usd, outcome.right, 0.0, 0
        )
        calls.status = outcome.status.copy()
        calls.quality = outcome.quality
        if self.plan is not None:
            self.plan.strike(calls, core.keys)
        return calls


def _timeless(like: RouterCore, lanes: int, scale: float) -> Any:
    """The part of the plan whose strikes depend on nothing but the call itself."""
    if like.plan is None:
        return None
    plan, factor = fault_plan(like.spec, like.profile)
    keep = like.plan.timeless_ids
    part = FaultPlan(tuple(fault for fault in plan.faults if fault.id in keep))
    return part.bind(
        services_of(like.spec),
        type(like.spec).ports,
        intensity=like.intensity * factor * scale,
        num_lanes=lanes,
        log_capacity=0,
    )
