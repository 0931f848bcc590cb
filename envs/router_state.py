"""What the router remembers: the arrays of ``N`` lanes, its services, its plan, and how a state is saved.

The physics that moves this state is in :mod:`brownout.envs.router_core`, what a policy sees of it in
:mod:`brownout.envs.router_view`.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..rewards import COMPONENTS
from ..scenarios.loading import services_of
from ..scenarios.schema import RouterScenario
from ..scenarios.tasks import TaskSource, task_source
from .lanes import F64, I64, Bools, LaneCore
from .quantiles import QuantileBank
from .router_view import RouterView
from .streams import stream_ids


class Kind(IntEnum):
    """Kinds of action; the first ``K`` actions are all of kind ``LAUNCH``."""

    LAUNCH = 0
    WAIT = 1
    JUDGE = 2
    REPAIR = 3
    SUBMIT = 4
    ESCALATE = 5
    ABSTAIN = 6
    NOTHING = 7


OUTCOMES = ("success", "wrong_answer", "escalated", "abstained", "limit")
SUCCESS, WRONG, ESCALATED, ABSTAINED, LIMIT = range(5)
LAUNCHED, RUNNING, CANDIDATES, FAILED, LAST_STATUS, BEST_SCORE, LAST_COST, LAST_LATENCY = range(8)
PER_CONFIG = 8
_INF = np.inf
_TINY = 1e-12  # what a free call usually costs, so that its ratio is defined
_MENDED = 1e-4  # a repaired candidate comes before the one it was made from


class RouterState(LaneCore):
    """Arrays of the router, one row per lane; :class:`brownout.envs.router_core.RouterCore` moves them."""

    component_names = tuple(component.name for component in COMPONENTS)
    outcome_names = OUTCOMES
    _saved = (
        *LaneCore._saved, "committed", "used", "running", "best", "unjudged", "judgements",
        "failures", "finish", "start", "cost", "retry_after", "config", "status", "right", "merit", "value", "conf",
        "last_failure", "retry_at", "family_running", "rank", "scores", "evidence", "unscored", "quality", "rounds",
    )  # fmt: skip

    def _set_up(self) -> None:
        self.spec = spec = self._expect(RouterScenario)
        self.config_names = self.usage_names = tuple(spec.portfolio)
        k, n, m = len(self.config_names), self.num_lanes, spec.max_calls
        self.source = self._make_source(self.split)
        self.source.allocate(n)
        self.num_configs, self.max_calls = k, m
        families = [entry.family for entry in spec.portfolio.values()]
        order = {family: i for i, family in enumerate(dict.fromkeys(families))}
        self.family_of = np.array([order[family] for family in families], dtype=np.int64)
        self.strength = np.clip(self.source.strength, 0.0, 0.999)
        self.judge_names = tuple(spec.panel)
        ask = tuple(f"judge:{name}" for name in spec.judges or ()) or ("judge",)
        self._usual_cost = np.maximum(self.source.expected_cost, _TINY)
        self._usual_latency = np.maximum(self.source.expected_latency, _TINY)
        self.action_names = (
            *(f"launch:{name}" for name in self.config_names),
            "wait", *ask, "repair", "submit", "escalate", "abstain",
        )  # fmt: skip
        kinds = [Kind.LAUNCH] * k + [Kind.WAIT] + [Kind.JUDGE] * len(ask) + list(range(Kind.REPAIR, Kind.NOTHING))
        self._kind_of = np.array(kinds, dtype=np.int64)
        self._set_side_services()

        self.committed = np.zeros(n)
        self.used, self.running, self.unjudged = (np.zeros(n, np.int64) for _ in range(3))
        self.judgements, self.failures = np.zeros((n, len(ask)), np.int64), np.zeros(n, np.int64)
        self.best = np.full(n, -1, np.int64)
        self.finish = np.full((n, m), _INF)
        self.start, self.cost, self.retry_after = np.zeros((n, m)), np.zeros((n, m)), np.zeros((n, m))
        self.config = np.zeros((n, m), np.int64)
        self.status = np.zeros((n, m), np.int8)
        self.right = np.zeros((n, m), np.bool_)
        self.merit = np.zeros((n, m))
        self.value = np.full((n, m), -1.0)
        self.conf = np.zeros((n, PER_CONFIG, k), np.float32)
        self.last_failure = np.full((n, k), -_INF)
        self.retry_at = np.zeros((n, k))
        self.family_running = np.zeros((n, len(order)), np.int64)
        # with several judges or graded answers candidates are ranked by what is known of them, else by their value
        self.graded = spec.quality is not None
        self.weighs = self.graded or len(self.judge_names) > 1
        judges, wide = (len(self.judge_names), m) if self.weighs else (0, 0)
        self.rank = np.full((n, m), -_INF) if self.weighs else self.value
        self._no_rank = -_INF if self.weighs else -1.0
        self.scores = np.full((n, m, judges), -1.0)
        self.unscored = np.zeros((n, judges), np.int64)
        self.evidence = np.zeros((n, wide))
        self.quality, self.rounds = np.zeros((n, wide)), np.zeros((n, wide), np.int64)
        self._bind_faults(services_of(spec), _World(self))
        self._show(RouterView(self))

    def _make_source(self, split: str) -> TaskSource:
        """Return where tasks and the outcomes of calls come from."""
        return task_source(self.spec, split)

    def _set_side_services(self) -> None:
        """Tables and streams of the judges and the person; ``_side`` holds place, service and streams by name."""
        spec, first = self.spec, self.num_configs
        tables = []
        self._side: dict[str, tuple[int, int, Any]] = {}
        services = [*spec.panel.items(), *([] if spec.person is None else [("person", spec.person)])]
        for place, (name, service) in enumerate(services):
            tables += [service.cost_usd.table(), service.latency_s.table()]
            prefix = name if spec.judges is None or name == "person" else f"judge.{name}"
            ids = stream_ids((f"{prefix}.cost", f"{prefix}.latency", f"{prefix}.verdict"))
            number = first + max(len(spec.panel), 1) if name == "person" else first + place
            self._side[name] = (place, number, ids)
        self._side_bank = QuantileBank(tables) if tables else None
        self._repair_streams = np.array(
            [stream_ids((f"repair.{name}.fix", f"repair.{name}.harm")) for name in self.config_names]
        )

    def _legal(self, lanes: I64 | None) -> Bools:
        return self.view.legal(lanes)

    def get_state(self) -> dict[str, NDArray[Any]]:
        """Return every lane's state, with the group of its task."""
        state = super().get_state()
        state["group"] = self.source.group.copy()
        return state

    def set_state(self, state: dict[str, NDArray[Any]]) -> None:
        """Continue from :meth:`get_state`; the task is drawn again from the episode's key."""
        super().set_state(state)
        self.source.begin(self.all_lanes, self.keys, self.episodes)
        self._allowed = self._legal(None)

    @property
    def group(self) -> I64:
        """``(N,)`` number of each lane's task class or query."""
        return self.source.group

    def usage(self, lanes: I64) -> I64:
        """Return the ``(n, K)`` calls to each configuration."""
        return self.conf[lanes, LAUNCHED].astype(np.int64)

    def placed(self, lanes: I64) -> I64:
        """Return the ``(n,)`` calls, the judge's included."""
        return self.used[lanes] + self.judgements[lanes].sum(axis=1)


class _World:
    """What a trigger's ``when`` may ask about the router."""

    names = ("clock_s", "spend_usd", "step", "running", "launched", "failed", "episode")

    def __init__(self, core: RouterState) -> None:
        self._core = core

    def value(self, name: str, lanes: I64) -> F64:
        """Return state variable ``name`` of ``lanes``."""
        core = self._core
        array = {
            "clock_s": core.clock, "spend_usd": core.spend, "step": core.steps, "running": core.running,
            "launched": core.used, "failed": core.failures, "episode": core.episodes,
        }[name]  # fmt: skip
        return array.take(lanes).astype(np.float64)
