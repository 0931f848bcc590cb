"""The router's bookkeeping for one real task: the same columns and masks as in training, outcomes from real calls.

A :class:`LiveCore` is a one-lane :class:`~brownout.envs.router_core.RouterCore` whose calls are not resolved when
they are placed. Whoever drives it reports each end with :meth:`LiveCore.complete` and then steps the core, which
books the result exactly as the simulation does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..envs.lanes import F64, I64, Bools
from ..envs.router_core import Kind, RouterCore
from ..envs.streams import U64, stream_id
from ..errors import BrownoutError
from ..faults import Calls, Status, Verb
from ..rewards.components import ACCURACY, HANDOFF, SAFETY
from ..rewards.registry import did_you_mean
from ..scenarios.schema import RouterScenario
from ..scenarios.tasks import Outcomes, TaskSource

PENDING: Final = 1e18  # finish of a call that still runs: later than any other, yet finite, as it does run
PREFIX: Final = "task."


class CallableError(BrownoutError, ValueError):
    """A function given to the runtime, or what it said about a task, is not valid."""


class LiveSource:
    """What is known of the portfolio, without a source of outcomes.

    Args:
        known: the scenario's own source, for columns, strengths and expected prices.
        max_calls: calls that each configuration can take on one task.
    """

    def __init__(self, known: TaskSource, max_calls: Sequence[int]) -> None:
        self.columns = known.columns
        self.strength, self.expected_cost, self.expected_latency = (
            known.strength, known.expected_cost, known.expected_latency,
        )  # fmt: skip
        self.quality = known.quality
        self._max_calls = np.array(max_calls, dtype=np.float32)  # as the simulation has it

    def allocate(self, num_lanes: int) -> None:
        """Make room for ``num_lanes`` lanes."""
        self.group = np.zeros(num_lanes, np.int64)
        self.features = np.zeros((num_lanes, len(self.columns)), np.float32)
        self.calls_allowed = np.broadcast_to(self._max_calls, (num_lanes, self._max_calls.size)).copy()

    def begin(self, lanes: I64, keys: U64, episodes: I64 | int = 0) -> None:
        """Do nothing: the task comes from outside."""

    def call(self, lanes: I64, keys: U64, k: I64, number: I64) -> Outcomes:
        """Refuse: real calls have real outcomes.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("a live source has no outcomes of its own")


@dataclass(frozen=True)
class SideResult:
    """How a blocking call to a judge or the person ended.

    Args:
        status: how it ended.
        latency_s: seconds it took.
        cost_usd: what it cost.
        score: what the judge said, 0 or 1 if it only accepts or rejects.
    """

    status: Status
    latency_s: float
    cost_usd: float
    score: float = 0.0


class LiveCore(RouterCore):
    """One lane whose calls are real.

    Args:
        scenario: the scenario that the policy was trained on; its fault profiles are not used.
    """

    outcome_names = ("submitted", "submitted", "escalated", "abstained", "limit")  # nobody tells right from wrong

    def __init__(self, scenario: RouterScenario) -> None:
        super().__init__(scenario, 1, profile="clean", intensity=0.0, split="train")
        self.trace = []
        self._lane = self.all_lanes
        self._side_result: SideResult | None = None
        self._cancelled: F64 | None = None
        self._left_open: list[int] = []

    def _make_source(self, split: str) -> LiveSource:
        return LiveSource(super()._make_source(split), [entry.max_calls for entry in self.spec.portfolio.values()])

    # ---------------------------------------------------------------- life cycle

    def begin_task(self, key: str, run: int, features: NDArray[np.float32], preferences: Mapping[str, float]) -> None:
        """Start a task; whatever the core held before is forgotten.

        Args:
            key: id of the task; a stochastic policy draws by it.
            run: which solution of this task it is, from 0.
            features: ``(F,)`` values of ``source.columns``.
            preferences: ``per_usd``, ``per_s``, ``budget_usd`` and ``deadline_s`` of this task.
        """
        self._side_result = self._cancelled = None
        self._left_open = []
        self.seed(self._lane, [stream_id(key)])
        self.begin(self._lane, run)
        self.source.features[0] = features
        for name, value in preferences.items():
            self.preferences[name][0] = value
        self.terminated[0] = self.truncated[0] = False
        self._allowed = self._legal(None)

    def tick(self, clock: float) -> None:
        """Let ``clock`` seconds have passed since the task began; a deadline that ends tasks stops the clock."""
        if self.ends_on_deadline:
            clock = min(clock, float(self.preferences["deadline_s"][0]))
        self.clock[0] = max(clock, float(self.clock[0]))

    def kind(self, action: int) -> Kind:
        """What kind of action ``action`` is."""
        return Kind(int(self._kind_of[action]))

    def take(self, action: int) -> None:
        """Step with ``action``."""
        self.advance(np.array([action], dtype=np.int64))

    @property
    def over(self) -> bool:
        """Whether the task has ended."""
        return bool(self.terminated[0] or self.truncated[0])

    # ---------------------------------------------------------------- what the driver reports

    def complete(self, column: int, clock: float, cost_usd: float, status: Status, retry_after_s: float) -> None:
        """Report the end of the call in ``column`` at ``clock`` seconds; a later ``wait`` books it."""
        self.finish[0, column] = clock
        self.cost[0, column] = cost_usd
        self.status[0, column] = status
        self.retry_after[0, column] = retry_after_s

    def report_side(self, result: SideResult) -> None:
        """Report the end of a call to the judge or the person, before the step that asked for it."""
        self._side_result = result

    def report_cancelled(self, costs: Mapping[int, float]) -> None:
        """Report what calls cost that were stopped, or had ended unnoticed, by column.

        Before the step that ends the task the costs wait for it; after it they are charged at once.
        """
        row = np.zeros((1, self.max_calls))
        for column, cost in costs.items():
            row[0, column] = cost
        if self.over:
            self._pay_cancelled(self._lane, row)
        else:
            self._cancelled = row

    # ---------------------------------------------------------------- what the driver asks

    def running_columns(self) -> list[int]:
        """Columns of the calls that were launched and not booked yet, or not when the task ended."""
        return self._left_open if self.over else np.flatnonzero(np.isfinite(self.finish[0])).tolist()

    def ended(self) -> bool:
        """Whether the end of some call is reported and not booked yet."""
        return bool((self.finish[0] < PENDING).any())

    def back_off_until(self) -> float:
        """Clock at which a ``wait`` with nothing running ends."""
        return float(self._back_off(self._lane)[0])

    def to_judge(self, j: int) -> int:
        """Column of the candidate that judge ``j`` would score now."""
        return int(self._next_to_judge(self._lane, j)[0])

    # ---------------------------------------------------------------- bookkeeping that differs

    def _resolve(
        self, rows: I64, k: I64, verb: I64, number: I64, started: F64, concurrent: I64
    ) -> tuple[Outcomes, Any]:
        running = np.full(1, int(Status.RUNNING), np.int8)
        return Outcomes(np.zeros(1, np.bool_), np.zeros(1), np.full(1, PENDING), running), 0.0

    def _reported(self, rows: I64, verb: Verb, name: str) -> tuple[Calls, float]:
        result, self._side_result = self._side_result, None
        if result is None:
            raise RuntimeError(f"no result of {name} was reported")
        calls = Calls.place(rows, verb=verb, latency_s=result.latency_s, cost_usd=result.cost_usd)
        calls.status[:] = result.status
        return calls, result.score

    def _consult(self, rows: I64, j: int, record: I64) -> tuple[Calls, F64]:
        calls, score = self._reported(rows, Verb.JUDGE, self.judge_names[j])
        return calls, np.array([score])

    def _hand_over(self, rows: I64) -> tuple[Calls, Bools]:
        return self._reported(rows, Verb.ESCALATE, "the person")[0], np.ones(1, np.bool_)

    def _cancel_cost(self, rows: I64, runs: Bools) -> F64:
        cost, self._cancelled = self._cancelled, None
        if cost is not None:
            return cost
        self._left_open = np.flatnonzero(runs[0]).tolist()  # their cost is reported once they have stopped
        return np.zeros((1, self.max_calls))

    def _stop(self, rows: I64, kind: Kind) -> None:
        super()._stop(rows, kind)
        self.components[:, [ACCURACY, SAFETY, HANDOFF]] = np.nan  # the truth about a real answer is not known


# ---------------------------------------------------------------- features and preferences


def encode_task(core: RouterCore, features: Mapping[str, Any], where: str) -> NDArray[np.float32]:
    """Turn the features of one task into the values of the task columns.

    A key is a column's name without ``task.``, or the name of a group of flags whose value names the one that is
    set: ``{"class": "faq"}`` stands for ``{"class.faq": 1, "class.account": 0, ...}``. A group with the level
    ``other`` takes any text.

    Args:
        core: a core of the scenario.
        features: by name.
        where: the task, for messages.

    Returns:
        ``(F,)`` float32 in the order of the columns.

    Raises:
        CallableError: a column is missing, unknown, of the wrong type or out of range.
    """
    columns = {column.name.removeprefix(PREFIX): i for i, column in enumerate(core.source.columns)}
    groups = _groups(core)
    allowed = [*groups, *(name for name in columns if not any(name in flags for flags in groups.values()))]
    values: dict[str, float] = {}
    if not isinstance(features, Mapping):
        raise CallableError(f"{where}: features: got {type(features).__name__}; allowed: a mapping of names to values")
    for key, value in features.items():
        name = str(key).removeprefix(PREFIX)
        if name in columns:
            given = {name: value}
        elif name in groups:
            given = _one_of(name, value, groups[name], where)
        else:
            raise CallableError(
                f"{where}: features: no column {name!r}{did_you_mean(name, allowed)}; allowed: {', '.join(allowed)}"
            )
        twice = [entry for entry in given if entry in values]
        if twice:
            raise CallableError(f"{where}: features: {twice[0]!r} is given twice; allowed: once")
        values.update(given)
    lacking = [name for name in columns if name not in values]
    if lacking:
        raise CallableError(f"{where}: features: missing {', '.join(lacking)}; needed: {', '.join(allowed)}")
    out = np.zeros(len(columns), np.float32)
    for name, i in columns.items():
        column, value = core.source.columns[i], values[name]
        if isinstance(value, (bool, np.bool_)):
            value = float(value)
        fits = isinstance(value, (int, float, np.integer, np.floating)) and column.low <= value <= column.high
        if not fits:
            raise CallableError(
                f"{where}: features.{name}: got {value!r}; allowed: a number from {column.low:g} to {column.high:g}"
                f" ({column.unit})"
            )
        out[i] = value
    return out


def _groups(core: RouterCore) -> dict[str, dict[str, str]]:
    """Groups of flags of which one is set: group -> {column: level}."""
    groups: dict[str, dict[str, str]] = {}
    for column in core.source.columns:
        name = column.name.removeprefix(PREFIX)
        if column.unit != "flag":
            continue
        if name.startswith("class."):
            groups.setdefault("class", {})[name] = name.removeprefix("class.")
        elif "=" in name:
            group, _, level = name.partition("=")
            groups.setdefault(group, {})[name] = level
    return groups


def _one_of(name: str, value: Any, flags: Mapping[str, str], where: str) -> dict[str, Any]:
    levels = list(flags.values())
    chosen = str(value) if str(value) in levels else "other"
    if chosen not in levels:
        raise CallableError(
            f"{where}: features.{name}: got {value!r}{did_you_mean(value, levels)}; allowed: {', '.join(levels)}"
        )
    return {column: float(level == chosen) for column, level in flags.items()}


def task_preferences(core: RouterCore, given: Mapping[str, float]) -> dict[str, float]:
    """Fill in the scenario's fixed preferences and check the given ones.

    Args:
        core: a core of the scenario.
        given: some of ``per_usd``, ``per_s``, ``budget_usd``, ``deadline_s``.

    Raises:
        CallableError: unknown name, a value that is no number or outside what the scenario samples, or none for
            one that the scenario samples.
    """
    columns = {column.name: column for column in core.preference_source.columns}
    for name in given:
        if name not in columns:
            raise CallableError(
                f"preferences: no {name!r}{did_you_mean(name, list(columns))}; allowed: {', '.join(columns)}"
            )
    result: dict[str, float] = {}
    for name, column in columns.items():
        value = given.get(name)
        if value is None:
            if column.sampled:
                raise CallableError(
                    f"preferences.{name}: the policy was trained on {column.low:g} to {column.high:g} {column.unit}; "
                    "say which value applies"
                )
            value = column.low
        low, high = (column.low, column.high) if column.sampled else (0.0, 1e6)
        positive = value is not None and not isinstance(value, bool) and isinstance(value, (int, float))
        if not positive or not low <= value <= high or (name in ("budget_usd", "deadline_s") and value <= 0):
            raise CallableError(f"preferences.{name}: got {value!r}; allowed: a number from {low:g} to {high:g}")
        result[name] = float(value)
    return result
