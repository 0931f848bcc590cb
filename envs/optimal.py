"""Optimal plans as policies, playable in the environment like any other: ``baseline:NAME`` in an evaluation."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import PolicyError, TableError
from ..rewards import WeightedSum
from ..scenarios.schema import TableTasks
from ..scenarios.tables import RecordedTable
from ..scenarios.tasks import table_of
from .item_response_optimum import ABSTAIN, ESCALATE, SUBMIT, Optimum, optimum_of
from .optimum import WeitzmanPolicy
from .router_core import RouterCore
from .waves import WavePlanner

I64 = NDArray[np.int64]


class _Desk:
    """Where the observation columns and actions that a plan needs stand."""

    def __init__(self, core: RouterCore) -> None:
        self.names = [column.name for column in core.observation_columns]
        self.k = core.num_configs
        self._first = core.config_names[0]
        self.wait, self.judge, _, self.submit, self.escalate, self.abstain = range(self.k, self.k + 6)

    def column(self, observations: NDArray[Any], name: str) -> NDArray[Any]:
        """One column, ``(n,)``."""
        return observations[:, self.names.index(name)]

    def block(self, observations: NDArray[Any], field: str) -> I64:
        """``(n, K)`` whole numbers of a field that every configuration has."""
        first = self.names.index(f"{self._first}.{field}")
        return observations[:, first : first + self.k].astype(np.int64)


class OptimumPolicy:
    """The optimal policy of a scenario with tasks of the item-response model.

    Args:
        core: a core whose optimum is known.

    Raises:
        PolicyError: with the reason, where the optimum is not known or needs more memory than an observation gives.
    """

    name = "optimum"
    summary = "where it can be computed: the exact optimum, given class, hint and all verdicts so far"

    def __init__(self, core: RouterCore) -> None:
        optimum = optimum_of(core)
        self._desk = desk = _Desk(core)
        tasks = core.spec.tasks
        self._class = [desk.names.index(f"task.class.{c}") for c in getattr(tasks, "classes", ())]
        self._edges = [plan.edges for plan in optimum.plans]
        self._bins = max(len(edges) for edges in self._edges) + 1
        self._radix = np.cumprod([1, *(2 * (optimum.problem.calls[:-1] + 1))])
        self._size = int(2 * (optimum.problem.calls[-1] + 1) * self._radix[-1])
        self._end = desk.escalate if optimum.problem.handoff > 0.0 else desk.abstain
        self._blind = np.zeros(len(self._edges) * self._bins, np.int64)
        self._keys, self._actions = self._tabulate(optimum, core)

    def _tabulate(self, optimum: Optimum, core: RouterCore) -> tuple[I64, I64]:
        """Sorted keys of the observations that the plan meets, and the action of each."""
        keys, actions = [], []
        states = optimum.states
        for c, plan in enumerate(optimum.plans):
            nodes = plan.nodes
            case = c * self._bins + nodes.bin
            seen = 2 * states.total[nodes.state] + (states.accepted[nodes.state] > 0)
            keys.append(case * self._size + seen @ self._radix)
            end = {ABSTAIN: self._desk.abstain, ESCALATE: self._desk.escalate, SUBMIT: self._desk.submit}
            actions.append(np.array([end.get(d, d) for d in nodes.decision.tolist()], dtype=np.int64))
            # without an accepted answer one sequence of calls leads on, so its length tells where it ends unseen
            self._blind[case[nodes.blind]] = states.total[nodes.state[nodes.blind]].sum(axis=1) + 1
        key, action = np.concatenate(keys), np.concatenate(actions)
        order = np.lexsort((action, key))
        key, action = key[order], action[order]
        if ((key[1:] == key[:-1]) & (action[1:] != action[:-1])).any():
            raise PolicyError(
                f"{core.scenario.name}, profile {core.profile}: the optimal policy counts the accepted answers of a "
                "configuration, which an observation does not show; the ceiling holds all the same"
            )
        return key, action

    def act_batch(self, observations: NDArray[Any], mask: NDArray[Any], uniforms: Any = None) -> I64:
        """Look up what the plan does; wait for what runs, judge what comes unless it is submitted unseen."""
        desk = self._desk
        group = observations[:, self._class].argmax(axis=1)
        hint = desk.column(observations, "task.difficulty_hint") if self._bins > 1 else np.zeros(len(observations))
        bins = np.zeros(len(observations), np.int64)
        for c, edges in enumerate(self._edges):
            bins = np.where(group == c, np.searchsorted(edges, hint, side="right"), bins)
        case = group * self._bins + bins
        candidates = desk.block(observations, "candidates")
        accepted = desk.block(observations, "best_score") > 0
        key = case * self._size + (2 * candidates + accepted) @ self._radix
        at = np.minimum(np.searchsorted(self._keys, key), len(self._keys) - 1)
        action = np.where(self._keys[at] == key, self._actions[at], self._end)
        # an accepted answer that cannot be wrong ends the search, so the plan has no state beyond it
        known = (self._keys[at] == key) | ~accepted.any(axis=1)
        action = np.where(known, action, desk.submit)
        unseen = (candidates.sum(axis=1) == self._blind[case]) & ~accepted.any(axis=1)
        fresh = desk.column(observations, "unjudged") > 0
        action = np.where(fresh, np.where(unseen, desk.submit, desk.judge), action)
        action = np.where(desk.column(observations, "running") > 0, desk.wait, action)
        legal = np.asarray(mask, dtype=np.bool_)
        return np.where(legal[np.arange(len(action)), action], action, self._end)


@lru_cache(maxsize=4)
def _planner(
    table: RecordedTable, calls: tuple[int, ...], max_calls: int, max_parallel: int, cancel_share: float
) -> WavePlanner:
    return WavePlanner(
        table.success,
        table.cost_usd,
        table.latency_s,
        table.n_samples.astype(np.int64),
        queries=np.flatnonzero(~table.is_eval),
        calls=calls,
        max_calls=max_calls,
        max_parallel=max_parallel,
        cancel_share=cancel_share,
    )


class WavePlanPolicy:
    """The best plan in waves on the train queries of a recorded table, with the judge at hand.

    It is optimal for those queries among plans that see nothing but failures, if the judge does not err and takes
    no time. It judges every answer, submits the first accepted one, and counts the price of a verdict on each
    answer; budget and deadline it leaves out.

    Args:
        core: a core of a scenario with recorded runs and a judge.

    Raises:
        PolicyError: with the reason, where there is no such plan.
    """

    name = "wave-plan"
    summary = "on recorded runs: the plan of calls side by side that is best on the train queries"

    def __init__(self, core: RouterCore) -> None:
        spec, reward = core.spec, core.reward_function
        sampled = core.preference_source.sampled
        reason = None
        if not isinstance(spec.tasks, TableTasks):
            reason = "tasks come from a model"
        elif spec.judge is None:
            reason = "there is no judge to tell failures" if spec.judges is None else "there are several judges"
        elif spec.quality is not None:
            reason = "quality: answers are not just right or wrong"
        elif not isinstance(reward, WeightedSum):
            reason = "reward.kind is not weighted-sum"
        elif sampled:
            reason = f"preferences.{sampled[0]} is drawn per episode"
        if reason is not None:
            raise PolicyError(f"{core.scenario.name}: no {self.name}: {reason}")
        assert spec.judge is not None
        assert isinstance(reward, WeightedSum)
        given = {column.name: column.low for column in core.preference_source.columns}
        per_usd, per_s = given["per_usd"], given["per_s"]

        def price(service: Any) -> float:
            return per_usd * service.cost_usd.table().mean + per_s * service.latency_s.table().mean

        calls = tuple(entry.max_calls for entry in spec.portfolio.values())
        try:
            planner = _planner(table_of(spec), calls, core.max_calls, self._parallel(core), spec.limits.cancel_share)
        except TableError as error:
            raise PolicyError(f"{core.scenario.name}: no {self.name}: {error}") from error
        person = 0.0 if spec.person is None else reward.handoff * spec.person.accuracy - price(spec.person)
        self.value, self.plan = planner.solve(
            reward.accuracy, per_usd=per_usd, per_s=per_s, per_answer=price(spec.judge), stop=max(person, 0.0)
        )
        self._desk = desk = _Desk(core)
        self._until = np.cumsum([np.bincount(wave, minlength=desk.k) for wave in self.plan or [()]], axis=0, dtype=int)
        self._end = desk.escalate if person > 0.0 else desk.abstain

    def _parallel(self, core: RouterCore) -> int:
        return core.spec.limits.max_parallel

    def act_batch(self, observations: NDArray[Any], mask: NDArray[Any], uniforms: Any = None) -> I64:
        """Launch the wave that is due once the one before has failed; judge at once, submit what is accepted."""
        desk, legal = self._desk, np.asarray(mask, dtype=np.bool_)
        launched = desk.block(observations, "launched")
        running = desk.column(observations, "running") > 0
        need = (self._until[None] > launched[:, None]) & legal[:, None, : desk.k]
        due = np.asarray(need.any(axis=2))
        wave = due.argmax(axis=1)
        before = np.where(wave[:, None] > 0, self._until[np.maximum(wave - 1, 0)], 0)
        begun = (launched > before).any(axis=1)
        rows = np.arange(len(observations))
        go = due.any(axis=1) & (begun | ~running)
        action = np.where(running, desk.wait, self._end)
        action = np.where(go, need[rows, wave].argmax(axis=1), action)
        action = np.where(legal[:, desk.judge], desk.judge, action)
        action = np.where(desk.column(observations, "best_accepted") > 0, desk.submit, action)
        return np.where(legal[rows, action], action, desk.abstain)


class ExactPlanPolicy(WavePlanPolicy):
    """The same with one call at a time: the exact plan of :mod:`brownout.envs.sequential`."""

    name = "exact-plan"
    summary = "on recorded runs: the sequence of calls that is best on the train queries"

    def _parallel(self, core: RouterCore) -> int:
        return 1


OPTIMAL: dict[str, type[WeitzmanPolicy] | type[OptimumPolicy] | type[WavePlanPolicy]] = {
    policy.name: policy for policy in (WeitzmanPolicy, OptimumPolicy, ExactPlanPolicy, WavePlanPolicy)
}
"""Optimal policies by name; each raises :class:`PolicyError` where it does not apply."""


def optimal_policies(core: RouterCore) -> list[str]:
    """Names of the optimal policies that apply to a core's scenario and profile."""

    def applies(name: str) -> bool:
        try:
            OPTIMAL[name](core)
        except PolicyError:
            return False
        return True

    return [name for name in OPTIMAL if applies(name)]
