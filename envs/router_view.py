"""What a router policy sees: the observation columns, their values, and the mask of allowed actions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..faults import Status
from ..scenarios.columns import Column
from .account import ACCOUNT, CAP, Logarithms, account_of, fill_account
from .lanes import F64, I64, Bools

if TYPE_CHECKING:
    from .router_state import RouterState

_STATIC = ("launched", "running", "candidates", "failed", "last_status", "best_score", "last_cost", "last_latency")
_GENERAL = 14
_THIRD = 1.0 / 3.0


class RouterView:
    """Turns the state of a :class:`~brownout.envs.router_state.RouterState` into observations and masks.

    Args:
        core: the core to look at.
    """

    def __init__(self, core: RouterState) -> None:
        self._core = core
        limits = core.spec.limits
        self._parallel = limits.max_parallel
        self._masks_budget = limits.on_budget == "mask"
        self._judges = len(core.judge_names)
        self._person, self._repair = core.spec.person is not None, core.spec.repair is not None
        self._memory_s = min(2.0 * limits.deadline_s, CAP)
        m = float(core.max_calls)
        general = [
            *ACCOUNT,
            Column("running", "count", 0.0, m),
            Column("unjudged", "count", 0.0, m),
            Column("best_value", "share", 0.0, 1.0),
            Column("best_strength", "share", 0.0, 1.0),
            Column("best_accepted", "flag", 0.0, 1.0),
            Column("best_unjudged", "flag", 0.0, 1.0),
            Column("best_rejected", "flag", 0.0, 1.0),
        ]
        ranges = {"last_status": ("code", 0.0, float(Status.CANCELLED)), "best_score": ("score", -1.0, 1.0)}
        ranges |= dict.fromkeys(("last_cost", "last_latency"), ("share", 0.0, 1.0))
        per_config = [
            Column(f"{name}.{field}", *ranges.get(field, ("count", 0.0, m)))
            for field in _STATIC
            for name in core.config_names
        ]
        timed = [
            Column(f"{name}.{field}", "s", 0.0, self._memory_s)
            for field in ("since_failure", "retry_in")
            for name in core.config_names
        ]
        weighed = [Column(f"judge.{name}", "score", -1.0, 1.0) for name in core.judge_names if core.weighs]
        if core.graded:
            weighed.append(Column("best_rounds", "count", 0.0, m))
        self._first = len(core.source.columns)
        self._logarithms = Logarithms(core, self._first)
        self.columns = (*core.source.columns, *general, *per_config, *timed, *weighed, *self._logarithms.columns)

    def observe(self, lanes: I64 | None) -> NDArray[np.float32]:
        """Fill one row per lane, column by column."""
        core = self._core
        everything = lanes is None
        n = core.num_lanes if lanes is None else len(lanes)

        def of(array: NDArray) -> NDArray:
            return array if everything else array[lanes]

        out = np.empty((n, len(self.columns)), np.float32)
        f, k = self._first, core.num_configs
        clock, best = of(core.clock), of(core.best)
        rows = core.all_lanes if lanes is None else lanes
        # without a candidate column 0 holds none either, so its value is -1
        record = rows * core.max_calls + np.maximum(best, 0)
        value: F64 = core.value.reshape(-1).take(record)
        out[:, f : f + _GENERAL] = self._one(value.item()) if core.num_lanes == 1 else self._many(lanes, value)
        out[:, :f] = of(core.source.features)
        g = f + _GENERAL
        static = len(_STATIC) * k
        out[:, g : g + static] = of(core.conf).reshape(n, static)
        g += static
        since = clock[:, None] - of(core.last_failure)
        out[:, g : g + k] = np.minimum(since, self._memory_s, out=since)
        retry = of(core.retry_at) - clock[:, None]
        np.maximum(retry, 0.0, out=retry)
        g += k
        out[:, g : g + k] = np.minimum(retry, self._memory_s, out=retry)
        g += k
        if core.weighs:
            out[:, g : g + self._judges] = core.scores.reshape(core.value.size, self._judges).take(record, axis=0)
            g += self._judges
            if core.graded:
                out[:, g] = core.rounds.reshape(-1).take(record)
                g += 1
        self._logarithms.fill(out)
        return out

    def _many(self, lanes: I64 | None, value: F64) -> NDArray[np.float32]:
        """The general columns of many lanes, ``(n, 14)``; ``value`` is that of each lane's best candidate."""
        core = self._core

        def of(array: NDArray) -> NDArray:
            return array if lanes is None else array[lanes]

        level = np.floor(value)
        # rows here are columns there: whole rows are quicker to fill than strided columns
        general = np.empty((_GENERAL, len(value)), np.float32)
        fill_account(general, core, of)
        bounded = general[1:7]
        np.maximum(bounded, 0.0, out=bounded)
        np.minimum(bounded, CAP, out=bounded)
        general[7] = of(core.running)
        general[8] = of(core.unjudged)
        general[9] = np.maximum(value, 0.0) * _THIRD
        general[10] = np.where(level < 0, 0.0, value - level)
        general[11] = level == 2.0
        general[12] = level == 1.0
        general[13] = level == 0.0
        return general.T

    def _one(self, value: float) -> list[float]:
        """The same for a single lane: plain numbers are quicker than arrays of one."""
        core, level = self._core, math.floor(value)
        return [
            core.max_steps - core.steps.item(), *(min(max(x, 0.0), CAP) for x in account_of(core, 0)),
            core.running.item(), core.unjudged.item(), max(value, 0.0) * _THIRD, 0.0 if level < 0 else value - level,
            level == 2, level == 1, level == 0,
        ]  # fmt: skip

    def legal(self, lanes: I64 | None) -> Bools:
        """Which actions make sense now; ``abstain`` always does, so no row is all False."""
        return self._legal_one() if self._core.num_lanes == 1 else self._legal_many(lanes)

    def _legal_one(self) -> Bools:
        """The mask of a single lane, in plain numbers."""
        core = self._core
        running, best = core.running.item(), core.best.item()
        room = core.used.item() < core.max_calls and running < self._parallel
        launch = [
            room and n < most
            for n, most in zip(core.conf[0, 0].tolist(), core.source.calls_allowed[0].tolist(), strict=True)
        ]
        if self._masks_budget:
            left = core.preferences["budget_usd"].item() - core.spend.item() - core.committed.item()
            launch = [
                fits and cost < left for fits, cost in zip(launch, core.source.expected_cost.tolist(), strict=True)
            ]
        held = best >= 0
        mend = self._repair and held and launch[core.config[0, best]]
        wait = running > 0 or core.failures.item() > 0
        judge = (core.unscored[0] > 0).tolist() if core.weighs else [self._judges > 0 and core.unjudged.item() > 0]
        return np.array([[*launch, wait, *(judge or [False]), mend, held, self._person, True]])

    def _legal_many(self, lanes: I64 | None) -> Bools:
        """The masks of many lanes."""
        core = self._core
        everything = lanes is None

        def of(array: NDArray) -> NDArray:
            return array if everything else array[lanes]

        n = core.num_lanes if lanes is None else len(lanes)
        k = core.num_configs
        running, best = of(core.running), of(core.best)
        out = np.empty((n, len(core.action_names)), np.bool_)
        room = (of(core.used) < core.max_calls) & (running < self._parallel)
        launch = out[:, :k]
        np.less(of(core.conf)[:, 0], of(core.source.calls_allowed), out=launch)
        launch &= room[:, None]
        if self._masks_budget:
            left = of(core.preferences["budget_usd"]) - of(core.spend) - of(core.committed)
            launch &= core.source.expected_cost < left[:, None]  # spending all of it ends the episode
        held = best >= 0
        out[:, k] = (running > 0) | (of(core.failures) > 0)
        if core.weighs and self._judges:
            np.greater(of(core.unscored), 0, out=out[:, k + 1 : -4])
        else:
            out[:, k + 1] = of(core.unjudged) > 0 if self._judges else False
        if self._repair:
            rows = core.all_lanes if lanes is None else lanes
            which = core.config.reshape(-1).take(rows * core.max_calls + np.maximum(best, 0))
            out[:, -4] = held & launch[np.arange(n), which]
        else:
            out[:, -4] = False
        out[:, -3] = held
        out[:, -2] = self._person
        out[:, -1] = True
        return out
