"""The lane core: a simulation as arrays over ``N`` lanes, one lane being one running episode.

Physics is written once, in a subclass of :class:`LaneCore`. The batched environment
(:mod:`brownout.envs.vector`), the scalar environment (:mod:`brownout.envs.scalar`) and the trainers' fast
path are faces of the same core; they differ only in when they begin the next episode and in what they
return.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import PolicyError, ScenarioError
from ..faults import BoundPlan, FaultPlan, GradedPlan, Services, World
from ..rewards import compile_reward
from ..scenarios.columns import Column
from ..scenarios.loading import fault_plan, load_scenario
from ..scenarios.schema import Scenario
from .streams import episode_keys

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]
S = TypeVar("S", bound=Scenario)


@dataclass(slots=True)
class LaneStep:
    """One step of all lanes, with ended lanes already in their next episode (same-step autoreset).

    Args:
        observation: ``(N, D)`` float32; for an ended lane that of its new episode.
        reward: ``(N,)`` float64.
        terminated: ``(N,)`` bool.
        truncated: ``(N,)`` bool.
        mask: ``(N, A)`` bool, the actions allowed next.
        components: ``(N, C)`` float64, what the step cost and gained.
        ended: ``(m,)`` lanes whose episode ended in this step.
        final_observation: ``(m, D)`` float32, the last observation of those episodes.
        outcome: ``(m,)`` int8, index into ``outcome_names``.
    """

    observation: NDArray[np.float32]
    reward: F64
    terminated: Bools
    truncated: Bools
    mask: Bools
    components: F64
    ended: I64
    final_observation: NDArray[np.float32]
    outcome: NDArray[np.int8]


class View(Protocol):
    """What a policy sees of a core."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """The observation columns."""
        ...

    def observe(self, lanes: I64 | None) -> NDArray[np.float32]:
        """Return a fresh ``(n, D)`` observation of ``lanes``, None for all."""
        ...

    def legal(self, lanes: I64 | None) -> Bools:
        """Return the ``(n, A)`` actions that make sense now, None for all lanes; no row is all False."""
        ...


class LaneCore(ABC):
    """Arrays and life cycle that every simulation shares. The last three actions of every simulation end an episode.

    Args:
        scenario: built-in name, path, mapping or scenario.
        num_lanes: number of lanes ``N``.
        profile: fault profile of the scenario.
        intensity: scales every fault of the profile; 0 switches them off.
        split: ``train`` or ``eval``: disjoint sets of episodes.
        max_episode_steps: steps after which an episode is truncated; default: the scenario's.

    Raises:
        ScenarioError: if the scenario, profile or split cannot be used.
    """

    action_names: tuple[str, ...]
    observation_columns: tuple[Column, ...]
    usage_names: tuple[str, ...]
    graded: bool = False  # whether answers have a quality in [0, 1] rather than being right or wrong
    trace: list[str] | None = None
    component_names: ClassVar[tuple[str, ...]]
    outcome_names: ClassVar[tuple[str, ...]]
    plan: BoundPlan | GradedPlan | None
    view: View
    _saved: ClassVar[tuple[str, ...]] = ("seeds", "episodes", "keys", "steps", "clock", "spend")

    def __init__(
        self,
        scenario: Any,
        num_lanes: int = 1,
        *,
        profile: str = "production",
        intensity: float = 1.0,
        split: str = "train",
        max_episode_steps: int | None = None,
    ) -> None:
        if num_lanes < 1:
            raise ScenarioError(f"num_envs: got {num_lanes!r}; allowed: 1 or more")
        if split not in ("train", "eval"):
            raise ScenarioError(f"split: got {split!r}; allowed: train, eval")
        if not 0.0 <= intensity <= 100.0:
            raise ScenarioError(f"intensity: got {intensity!r}; allowed: 0 to 100")
        if max_episode_steps is not None and max_episode_steps < 1:
            raise ScenarioError(f"max_episode_steps: got {max_episode_steps!r}; allowed: 1 or more")
        self.scenario: Scenario = load_scenario(scenario)
        self.num_lanes = num_lanes
        self.profile = profile
        self.intensity = intensity
        self.split = split
        self.max_steps = max_episode_steps or self.scenario.limits.max_steps
        limits = self.scenario.limits
        self.ends_on_budget, self.ends_on_deadline = limits.on_budget != "soft", limits.on_deadline == "end"
        self.reward_function, self.preference_source = compile_reward(
            self.scenario.reward, self.scenario.preferences, limits.budget_usd, limits.deadline_s
        )
        self.all_lanes = np.arange(num_lanes)
        self.seeds = np.zeros(num_lanes, np.uint64)
        self.episodes = np.full(num_lanes, -1, np.int64)
        self.keys = np.zeros(num_lanes, np.uint64)
        self.steps = np.zeros(num_lanes, np.int64)
        self.preferences: dict[str, F64] = {}
        self.components: F64 = np.zeros((num_lanes, len(self.component_names)))
        self.reward: F64 = np.zeros(num_lanes)
        self.terminated: Bools = np.zeros(num_lanes, np.bool_)
        self.truncated: Bools = np.zeros(num_lanes, np.bool_)
        self.outcome = np.zeros(num_lanes, np.int8)
        self.clock: F64 = np.zeros(num_lanes)
        self.spend: F64 = np.zeros(num_lanes)
        self._set_up()

    # ---------------------------------------------------------------- life cycle

    def seed(self, lanes: I64, seeds: Iterable[int]) -> None:
        """Give ``lanes`` their seeds; their next episode is number 0.

        Raises:
            PolicyError: if a seed is negative or needs more than 64 bits.
        """
        numbers = [int(s) for s in seeds]
        bad = [s for s in numbers if not 0 <= s < 1 << 64]
        if bad:
            raise PolicyError(f"seed: got {bad[0]}; allowed: 0 to 2**64 - 1")
        self.seeds[lanes] = np.array(numbers, dtype=np.uint64)
        self.episodes[lanes] = -1

    def grade(self, lanes: I64, scales: Any) -> None:
        """Let the next episodes of ``lanes`` have fault intensities of their own; call it before :meth:`begin`.

        Args:
            lanes: ``(m,)`` lanes between two episodes.
            scales: what multiplies the core's intensity, one number or one per lane, in steps of 0.05; 0 is the
                episode without faults.

        Raises:
            FaultError: if a scale is not a number from 0 to 100.
        """
        if self.plan is None:
            return
        if not isinstance(self.plan, GradedPlan):
            self.plan = GradedPlan(self.plan)
        self.plan.assign(lanes, scales)

    def begin(self, lanes: I64, episodes: I64 | int | None = None) -> None:
        """Start the next episode of ``lanes``, or the one with the given index."""
        number = self.episodes[lanes] + 1 if episodes is None else episodes
        self.episodes[lanes] = number
        keys = episode_keys(self.seeds[lanes], self.episodes[lanes], self.split)
        self.keys[lanes] = keys
        self.steps[lanes] = 0
        for name, values in self.preference_source.sample(keys).items():
            if name not in self.preferences:
                self.preferences[name] = np.zeros(self.num_lanes)
            self.preferences[name][lanes] = values
        self._begin(lanes, keys)

    def advance(self, actions: I64, frozen: I64 | None = None) -> None:
        """Apply one action per lane and fill reward, components, flags and outcome.

        Args:
            actions: ``(N,)`` action indices; one that the mask forbids does nothing but use up a step.
            frozen: lanes whose episode has ended and that this call must leave alone.
        """
        self.components = np.zeros(self.components.shape)
        self.terminated = np.zeros(self.num_lanes, np.bool_)
        self._advance(actions, frozen)
        self.steps += 1
        self.truncated = self.steps >= self.max_steps
        self.truncated &= ~self.terminated
        if frozen is not None:
            self.truncated[frozen] = False
        if self.truncated.any():
            self._truncate(np.flatnonzero(self.truncated))
        self.reward = self.reward_function(self.components, self.preferences)
        if frozen is not None:
            self.reward[frozen] = 0.0

    # ---------------------------------------------------------------- for subclasses

    @abstractmethod
    def _set_up(self) -> None:
        """Make tables, arrays, fault plan (:meth:`_bind_faults`) and view (:meth:`_show`), once what is common stands.

        Raises:
            ScenarioError: if the scenario is for another environment, or the profile cannot be used.
        """

    @abstractmethod
    def _begin(self, lanes: I64, keys: NDArray[np.uint64]) -> None:
        """Set up the state of an episode that starts."""

    @abstractmethod
    def _advance(self, actions: I64, frozen: I64 | None) -> None:
        """Apply actions; write components, ``terminated`` and ``outcome``."""

    @abstractmethod
    def _truncate(self, lanes: I64) -> None:
        """Settle what is still open in lanes that ran out of steps."""

    @property
    @abstractmethod
    def group(self) -> I64:
        """``(N,)`` number of each lane's query, class or kind of episode, for clustered statistics."""

    @abstractmethod
    def usage(self, lanes: I64) -> I64:
        """Return the ``(n, U)`` calls placed in the running episodes of ``lanes``, per entry of ``usage_names``."""

    def placed(self, lanes: I64) -> I64:
        """Return the ``(n,)`` calls that faults could strike in the running episodes of ``lanes``."""
        return self.usage(lanes).sum(axis=1)

    # ---------------------------------------------------------------- shared services

    def _expect(self, kind: type[S]) -> S:
        """The scenario, if it is one of ``kind``."""
        if not isinstance(self.scenario, kind):
            allowed = kind.model_fields["env"].default
            raise ScenarioError(f"{self.scenario.name}: env: got {self.scenario.env!r}; allowed: {allowed}")
        return self.scenario

    def _bind_faults(self, services: Services, world: World) -> tuple[FaultPlan, float]:
        """Bind the profile's faults to the lanes; return its plan as declared and the intensity it has here."""
        plan, factor = fault_plan(self.scenario, self.profile)
        intensity, ports = self.intensity * factor, type(self.scenario).ports
        self.plan = plan.bind(services, ports, intensity=intensity, num_lanes=self.num_lanes, world=world)
        return plan, intensity

    def _show(self, view: View) -> None:
        """Let policies see the lanes through ``view``."""
        self.view, self.observation_columns = view, view.columns
        self._allowed: Bools = np.zeros((self.num_lanes, len(self.action_names)), np.bool_)

    def observe(self, lanes: I64 | None = None) -> NDArray[np.float32]:
        """Return a fresh ``(n, D)`` observation of ``lanes`` (default: all); see ``observation_columns``."""
        return self.view.observe(lanes)

    def mask(self, lanes: I64 | None = None) -> Bools:
        """Return a fresh ``(n, A)`` array of the allowed actions; no row is all False."""
        return self._allowed.copy() if lanes is None else self._allowed[lanes]

    def timeline(self) -> list[str]:
        """Lines of lane 0's episode so far; needs ``trace`` to be a list."""
        return list(self.trace or ())

    def _tells(self, rows: I64) -> bool:
        """Whether a timeline is kept and lane 0, whose it is, comes first in ``rows`` (always ascending)."""
        return self.trace is not None and rows.size > 0 and rows[0] == 0

    def _say(self, text: str) -> None:
        assert self.trace is not None
        self.trace.append(f"{self.clock[0]:9.2f} s  ${self.spend[0]:8.4f}  {text}")

    def check_actions(self, actions: Any) -> I64:
        """Return ``actions`` as ``(N,)`` int64.

        Raises:
            PolicyError: if the shape, type or range is wrong.
        """
        array = np.asarray(actions)
        if array.shape != (self.num_lanes,) or array.dtype.kind not in "iu":
            raise PolicyError(
                f"actions: got shape {array.shape} and type {array.dtype}; allowed: ({self.num_lanes},) of integers"
            )
        if array.min() < 0 or array.max() >= len(self.action_names):
            raise PolicyError(
                f"actions: got values {array.min()} to {array.max()}; allowed: 0 to {len(self.action_names) - 1}"
            )
        return array.astype(np.int64)

    def get_state(self) -> dict[str, NDArray[Any]]:
        """Return a copy of every lane's state, fault plan included, enough to continue bit for bit elsewhere."""
        state = {name: np.copy(getattr(self, name)) for name in self._saved}
        state.update({f"preference.{name}": np.copy(values) for name, values in self.preferences.items()})
        if self.plan is not None:
            state.update({f"plan.{name}": array for name, array in self.plan.get_state().items()})
        return state

    def set_state(self, state: dict[str, NDArray[Any]]) -> None:
        """Continue from :meth:`get_state`.

        Raises:
            ScenarioError: if the state belongs to another number of lanes or lacks an array.
        """
        for name in self._saved:
            array = getattr(self, name)
            if name not in state or state[name].shape != array.shape:
                met = "nothing" if name not in state else f"shape {state[name].shape}"
                raise ScenarioError(f"lane state {name!r}: got {met}; allowed: shape {array.shape}")
            array[...] = state[name]
        for key, values in state.items():
            if key.startswith("preference."):
                self.preferences[key.removeprefix("preference.")] = np.copy(values)
        if self.plan is not None:
            self.plan.set_state({name[5:]: array for name, array in state.items() if name.startswith("plan.")})
