"""The rules of thumb that people use today, as batched policies over the same observations.

Every baseline sees exactly what a trained policy sees, plus what an operator knows of the portfolio: mean
price, mean latency and mean success of each configuration. ``make_baseline("cheapest-first", env)`` binds one
to an environment; :data:`BASELINES` lists them.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..envs.lanes import LaneCore
from ..envs.optimal import OPTIMAL, optimal_policies
from ..envs.router_core import RouterCore
from ..envs.streams import pick_allowed
from ..errors import PolicyError
from ..scenarios.schema import Judge

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Actor(Protocol):
    """Anything that chooses actions for a batch of lanes."""

    def act_batch(
        self, observations: NDArray[Any], mask: NDArray[Any], uniforms: NDArray[np.float64] | None = None
    ) -> I64:
        """Return ``(n,)`` legal actions for ``(n, D)`` observations and ``(n, A)`` masks."""
        ...


def sharpness(judge: Judge) -> float:
    """How well a judge tells right from wrong: Youden's index of its rates, or how sure its scores are."""
    return judge.true_positive - judge.false_positive if judge.score_sd is None else 1.0 / judge.score_sd


class Desk:
    """What a baseline reads: named observation columns and what is known of the portfolio.

    Args:
        core: the router core whose observations will be read.
    """

    def __init__(self, core: RouterCore) -> None:
        self.configs = core.config_names
        self.k = len(self.configs)
        self.price, self.latency, self.strength = (
            core.source.expected_cost, core.source.expected_latency, core.strength,
        )  # fmt: skip
        self.by_price = np.argsort(self.price, kind="stable")
        self.by_strength = np.argsort(-self.strength, kind="stable")
        names = [column.name for column in core.observation_columns]
        self._index = {name: i for i, name in enumerate(names)}
        self._blocks = {
            field: self._index[f"{self.configs[0]}.{field}"]
            for field in (
                "launched",
                "running",
                "candidates",
                "failed",
                "best_score",
                "since_failure",
                "retry_in",
            )
        }
        self.wait, actions = self.k, len(core.action_names)
        self.repair, self.submit, self.escalate, self.abstain = range(actions - 4, actions)
        panel = list(core.spec.panel.values())
        # of several judges the rules ask the one that tells right from wrong best
        keen = max(range(len(panel)), key=lambda j: sharpness(panel[j])) if panel else 0
        self.judge, self.judge_spec = self.k + 1 + keen, panel[keen] if panel else None
        self.classes = [i for i, name in enumerate(names) if name.startswith("task.class.")]

    def column(self, observations: NDArray[Any], name: str) -> F64:
        """One named column, ``(n,)``."""
        return observations[:, self._index[name]].astype(np.float64)

    def block(self, observations: NDArray[Any], field: str) -> F64:
        """One field of every configuration, ``(n, K)``."""
        start = self._blocks[field]
        return observations[:, start : start + self.k].astype(np.float64)


class Rule:
    """A baseline: a list of (condition, action) pairs, tried in order, the first legal one taken.

    Subclasses implement :meth:`_choose`, which returns the pairs for a batch.
    """

    name = ""
    summary = ""

    def __init__(self, desk: Desk, core: RouterCore) -> None:
        self.desk = desk

    def _choose(self, observations: NDArray[Any], mask: Bools) -> list[tuple[Any, Any]]:
        """Return pairs of a condition (``(n,)`` bool or True) and an action (``(n,)`` or one index)."""
        raise NotImplementedError

    def act_batch(
        self, observations: NDArray[Any], mask: NDArray[Any], uniforms: NDArray[np.float64] | None = None
    ) -> I64:
        """Return the first legal action whose condition holds; abstain if there is none."""
        legal = np.asarray(mask, dtype=np.bool_)
        n = len(observations)
        action = np.full(n, -1, dtype=np.int64)
        rows = np.arange(n)
        for condition, wanted in self._choose(observations, legal):
            want = np.broadcast_to(np.asarray(wanted, dtype=np.int64), (n,))
            open_ = (action < 0) & legal[rows, want] & condition
            action = np.where(open_, want, action)
        return np.where(action < 0, self.desk.abstain, action)

    def first_open(self, order: I64, allowed: Bools) -> tuple[Bools, I64]:
        """For each row the first configuration in ``order`` that ``allowed`` (n, K) admits, and if any."""
        ranked = allowed[:, order]
        return np.asarray(ranked.any(axis=1)), order[ranked.argmax(axis=1)]


class Random(Rule):
    """A uniformly random legal action."""

    name, summary = "random", "a random legal action"
    stochastic = True

    def act_batch(
        self, observations: NDArray[Any], mask: NDArray[Any], uniforms: NDArray[np.float64] | None = None
    ) -> I64:
        """Pick the ``floor(u * legal)``-th legal action.

        Raises:
            PolicyError: without ``uniforms``.
        """
        if uniforms is None:
            raise PolicyError("baseline:random needs uniforms from a named stream")
        return pick_allowed(uniforms, np.asarray(mask, dtype=np.bool_))


class One(Rule):
    """Ask one configuration, retry it on a visible failure, submit what it says."""

    def __init__(self, desk: Desk, core: RouterCore, config: int, retries: int = 2) -> None:
        super().__init__(desk, core)
        self.config, self.retries = config, retries

    def _choose(self, observations: NDArray[Any], mask: Bools) -> list[tuple[Any, Any]]:
        desk = self.desk
        running = desk.column(observations, "running") > 0
        tries = desk.block(observations, "launched")[:, self.config]
        return [(True, desk.submit), (running, desk.wait), (tries <= self.retries, self.config)]


class AlwaysCheapest(One):
    """Always the cheapest configuration."""

    name, summary = "always-cheapest", "the cheapest configuration, retried twice on visible errors"

    def __init__(self, desk: Desk, core: RouterCore) -> None:
        super().__init__(desk, core, int(desk.by_price[0]))


class AlwaysStrongest(One):
    """Always the strongest configuration."""

    name, summary = "always-strongest", "the strongest configuration, retried twice on visible errors"

    def __init__(self, desk: Desk, core: RouterCore) -> None:
        super().__init__(desk, core, int(desk.by_strength[0]))


class Cascade(Rule):
    """Ask configurations in a fixed order, judge each answer, submit the first accepted one."""

    order: I64

    def _choose(self, observations: NDArray[Any], mask: Bools) -> list[tuple[Any, Any]]:
        desk = self.desk
        accepted = desk.column(observations, "best_accepted") > 0
        running = desk.column(observations, "running") > 0
        fresh = desk.block(observations, "launched") == 0
        more, config = self.first_open(self.order, fresh & mask[:, : desk.k])
        return [
            (accepted, desk.submit), (True, desk.judge), (running, desk.wait), (more, config), (True, desk.submit),
            (True, desk.escalate),
        ]  # fmt: skip


class CheapestFirst(Cascade):
    """The cascade of FrugalGPT: from cheap to dear."""

    name, summary = "cheapest-first", "cascade from cheap to dear, first answer the judge accepts"

    def __init__(self, desk: Desk, core: RouterCore) -> None:
        super().__init__(desk, core)
        self.order = desk.by_price


class StrongestFirst(Cascade):
    """The cascade from strong to weak."""

    name, summary = "strongest-first", "cascade from strong to weak, first answer the judge accepts"

    def __init__(self, desk: Desk, core: RouterCore) -> None:
        super().__init__(desk, core)
        self.order = desk.by_strength


class BestOfN(Rule):
    """Several parallel calls to one configuration, all judged; the best one is submitted.

    The configuration is the one with the most success per unit of value spent.
    """

    name, summary = "best-of-n", "three parallel calls to the configuration with the best value, all judged"
    n = 3

    def __init__(self, desk: Desk, core: RouterCore) -> None:
        super().__init__(desk, core)
        weights = core.preference_source.columns
        per_usd, per_s = (0.5 * (c.low + c.high) for c in weights if c.name in ("per_usd", "per_s"))
        value = desk.strength - self.n * per_usd * desk.price - per_s * desk.latency
        self.config = int(np.argmax(value))

    def _choose(self, observations: NDArray[Any], mask: Bools) -> list[tuple[Any, Any]]:
        desk = self.desk
        launched = desk.block(observations, "launched")[:, self.config]
        running = desk.column(observations, "running") > 0
        accepted = desk.column(observations, "best_accepted") > 0
        return [
            (accepted, desk.submit), (launched < self.n, self.config), (running, desk.wait), (True, desk.judge),
            (True, desk.submit), (True, desk.escalate),
        ]  # fmt: skip


class RaceAll(Rule):
    """Launch every configuration at once; judge answers as they come; the first accepted one wins."""

    name, summary = (
        "race-all",
        "all configurations at once, first answer the judge accepts, the rest cancelled",
    )

    def _choose(self, observations: NDArray[Any], mask: Bools) -> list[tuple[Any, Any]]:
        desk = self.desk
        fresh = desk.block(observations, "launched") == 0
        more, config = self.first_open(desk.by_strength, fresh & mask[:, : desk.k])
        accepted = desk.column(observations, "best_accepted") > 0
        running = desk.column(observations, "running") > 0
        return [
            (accepted, desk.submit), (True, desk.judge), (more, config), (running, desk.wait), (True, desk.submit),
            (True, desk.escalate),
        ]  # fmt: skip


class DraftAndRepair(Rule):
    """One draft, judged and repaired until the judge accepts it; another draft only if there is none."""

    name, summary = (
        "draft-and-repair",
        "a draft of the strongest that may be called, repaired until the judge accepts it (scenarios with quality)",
    )

    def _choose(self, observations: NDArray[Any], mask: Bools) -> list[tuple[Any, Any]]:
        desk = self.desk
        accepted = desk.column(observations, "best_accepted") > 0
        running = desk.column(observations, "running") > 0
        more, config = self.first_open(desk.by_strength, mask[:, : desk.k])
        return [
            (accepted, desk.submit), (running, desk.wait), (True, desk.judge), (True, desk.repair), (True, desk.submit),
            (more, config), (True, desk.escalate),
        ]  # fmt: skip


class RetryThenFallback(Rule):
    """What gateways do: act on visible errors only. Retry the strongest twice, then fall back down the list."""

    name, summary = (
        "retry-then-fallback",
        "the strongest first; retries and falls back on visible errors only",
    )
    retries = 2

    def _choose(self, observations: NDArray[Any], mask: Bools) -> list[tuple[Any, Any]]:
        desk = self.desk
        running = desk.column(observations, "running") > 0
        launched = desk.block(observations, "launched")
        cooling = desk.block(observations, "retry_in")
        open_ = (launched <= self.retries) & mask[:, : desk.k]
        more, config = self.first_open(desk.by_strength, open_)
        rows = np.arange(len(observations))
        back_off = more & (launched[rows, config] > 0) & (cooling[rows, config] > 0)
        return [
            (True, desk.submit), (running, desk.wait), (back_off, desk.wait), (more, config), (True, desk.escalate),
        ]  # fmt: skip


class GreedyIndex(Rule):
    """The index rule conditioned on failures: the configuration with the best chance per cost, given what failed.

    Success rates are conditioned on the number of failures of every configuration by counting over sampled
    tasks (correlated repeats included), per task class where classes are observed. It stops when no call is
    worth its expected cost. Source of the rule: Weitzman (1979); recomputing it after every failure is a
    4-approximation under correlation (Dimitriou et al., and field measurements within half a per cent).
    """

    name, summary = (
        "greedy-index",
        "best chance per cost given all failures so far, judged; stops when not worth it",
    )
    worlds = 4096

    def __init__(self, desk: Desk, core: RouterCore) -> None:
        super().__init__(desk, core)
        probe = type(core)(core.scenario, self.worlds, profile="clean", split="train")
        probe.seed(probe.all_lanes, range(self.worlds))
        probe.begin(probe.all_lanes)
        self._allowed = probe.source.calls_allowed.max(axis=0)
        depth = int(self._allowed.max())
        lanes, keys = probe.all_lanes, probe.keys
        self._right = np.zeros((self.worlds, desk.k, depth), np.bool_)
        for k in range(desk.k):
            for j in range(int(self._allowed[k])):
                number = np.full(self.worlds, j)
                there = j < probe.source.calls_allowed[:, k]
                self._right[:, k, j] = probe.source.call(lanes, keys, np.full(self.worlds, k), number).right & there
        self._group = probe.observe()[:, desk.classes].argmax(axis=1) if desk.classes else np.zeros(self.worlds, int)
        fails = np.cumsum(self._right, axis=2) == 0
        self._alive = np.concatenate([np.ones((self.worlds, desk.k, 1), np.bool_), fails], axis=2)
        judge = desk.judge_spec
        self._judge_cost = 0.0 if judge is None else judge.cost_usd.table().mean
        self._judge_time = 0.0 if judge is None else judge.latency_s.table().mean
        self._value = float(getattr(core.reward_function, "accuracy", 1.0))
        person = core.spec.person
        self._handoff, self._person_cost, self._person_time = 0.0, 0.0, 0.0
        if person is not None:
            self._handoff = float(getattr(core.reward_function, "handoff", 0.0)) * person.accuracy
            self._person_cost, self._person_time = person.cost_usd.table().mean, person.latency_s.table().mean
        self._cache: dict[tuple[int, ...], F64] = {}

    def _chances(self, state: tuple[int, ...]) -> F64:
        """Success chance of each configuration given the failures in ``state`` (class, then counts)."""
        if state not in self._cache:
            alive = self._group == state[0]
            for k, count in enumerate(state[1:]):
                alive = alive & self._alive[:, k, count]
            here = self._right[alive]
            # one pseudo-observation of failure keeps thin cells honest
            nexts = [here[:, k, min(c, here.shape[2] - 1)].sum() / (len(here) + 1) for k, c in enumerate(state[1:])]
            self._cache[state] = np.array(nexts)
        return self._cache[state]

    def _choose(self, observations: NDArray[Any], mask: Bools) -> list[tuple[Any, Any]]:
        desk = self.desk
        n = len(observations)
        tried = desk.block(observations, "candidates").astype(np.int64)
        tried = np.minimum(tried, self._alive.shape[2] - 1)
        group = observations[:, desk.classes].argmax(axis=1) if desk.classes else np.zeros(n, np.int64)
        states, place = np.unique(np.column_stack([group, tried]), axis=0, return_inverse=True)
        chance = np.array([self._chances(tuple(state)) for state in states.tolist()])[place.reshape(-1)]
        per_usd, per_s = desk.column(observations, "per_usd"), desk.column(observations, "per_s")
        cost = per_usd[:, None] * (desk.price + self._judge_cost) + per_s[:, None] * (desk.latency + self._judge_time)
        gain = self._value * chance - cost
        legal = mask[:, : desk.k] & (desk.block(observations, "retry_in") <= 0)
        index = np.where(legal & (gain > 0), chance / np.maximum(cost, 1e-12), -1.0)
        worth = index.max(axis=1) > 0
        config = index.argmax(axis=1)
        accepted = desk.column(observations, "best_accepted") > 0
        running = desk.column(observations, "running") > 0
        hand_over = self._handoff - per_usd * self._person_cost - per_s * self._person_time > 0
        return [
            (accepted, desk.submit), (True, desk.judge), (running, desk.wait), (worth, config),
            (hand_over, desk.escalate), (desk.column(observations, "best_rejected") == 0, desk.submit),
            (True, desk.abstain),
        ]  # fmt: skip


class AlwaysEscalate(Rule):
    """Hand everything to a person."""

    name, summary = "always-escalate", "every task to a person"

    def _choose(self, observations: NDArray[Any], mask: Bools) -> list[tuple[Any, Any]]:
        return [(True, self.desk.escalate)]


class Null(Rule):
    """Do nothing: the policy that must fail."""

    name, summary = "null", "abstains at once"

    def _choose(self, observations: NDArray[Any], mask: Bools) -> list[tuple[Any, Any]]:
        return []


_RULES: tuple[Callable[[Desk, RouterCore], Rule], ...] = (
    Random, AlwaysCheapest, AlwaysStrongest, CheapestFirst, StrongestFirst, BestOfN, RaceAll, GreedyIndex,
    DraftAndRepair, RetryThenFallback, AlwaysEscalate, Null,
)  # fmt: skip
BASELINES: dict[str, Callable[[Desk, RouterCore], Rule]] = {rule.name: rule for rule in _RULES}


def applicable_baselines(core: LaneCore) -> list[str]:
    """Names of the baselines that make sense in a scenario, ``null`` left out, and of its optimal policies."""
    if not isinstance(core, RouterCore):
        from .workflow_baselines import applicable_workflow_baselines

        return applicable_workflow_baselines(core)
    senseless = {"null"}
    if core.spec.person is None:
        senseless.add(AlwaysEscalate.name)
    if not core.graded or core.spec.repair is None:
        senseless.add(DraftAndRepair.name)
    return [*(name for name in BASELINES if name not in senseless), *optimal_policies(core)]


def make_baseline(name: str, core: LaneCore) -> Actor:
    """Bind the baseline or optimal policy called ``name`` to a core.

    Raises:
        PolicyError: if there is none of that name, or the optimal policy does not apply.
    """
    if not isinstance(core, RouterCore):
        from .workflow_baselines import make_workflow_baseline

        return make_workflow_baseline(name, core)
    if name in OPTIMAL:
        return OPTIMAL[name](core)
    if name not in BASELINES:
        known = [*BASELINES, *OPTIMAL]
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise PolicyError(f"no baseline {name!r}{hint} Allowed: {', '.join(known)}")
    return BASELINES[name](Desk(core), core)
