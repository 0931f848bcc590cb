"""Collect rollouts from the native lanes and estimate advantages, in plain NumPy.

The collector speaks the fast path of the lane environments: ``lane_reset`` and ``lane_step`` with same-step
autoreset. Every random number is keyed by ``(seed, rank, iteration)``, the first reset included, so a worker
that is restarted in the middle of a training never repeats data it has delivered before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..envs.streams import GOLDEN, mix64, stream_id, uniform
from ..errors import PolicyError, WorkerError
from .curriculum import EpisodeChooser, Orders
from .imitation import Teacher
from .policy import F32, F64, Policy, sample

if TYPE_CHECKING:
    from .ppo import PPOConfig

Bool = NDArray[np.bool_]
I64 = NDArray[np.int64]


def lane_keys(name: str, seed: int, rank: int, iteration: int, lanes: int) -> NDArray[np.uint64]:
    """Return one 64-bit key per lane, different for every name, seed, rank and iteration."""
    base = np.uint64(stream_id(f"trainer.{name}.{seed}.{rank}.{iteration}"))
    return mix64(np.arange(lanes, dtype=np.uint64) * GOLDEN + base)


@dataclass
class Episodes:
    """What became of the ``E`` episodes that ended during a rollout; the last five only with a curriculum."""

    utility: F64  # (E,) sum of rewards, undiscounted
    length: I64  # (E,) steps
    outcome: I64  # (E,) code, index into the environment's outcome_names
    components: F64  # (E, C) sums, in the order of the environment's component_names
    seed: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))  # (E,) lane seed
    number: I64 = field(default_factory=lambda: np.zeros(0, np.int64))  # (E,) episode index
    scale: F64 = field(default_factory=lambda: np.zeros(0, np.float64))  # (E,) of the fault intensity
    replayed: Bool = field(default_factory=lambda: np.zeros(0, np.bool_))  # (E,) drawn from the episodes played before
    score: F64 = field(default_factory=lambda: np.zeros(0, np.float64))  # (E,) what makes it come again

    def __len__(self) -> int:
        """Return the number of episodes."""
        return len(self.utility)


@dataclass
class Rollout:
    """``T`` steps of ``N`` lanes; the first axis is time."""

    observations: F32  # (T, N, D) raw, as the environment gave them
    masks: Bool  # (T, N, A)
    actions: I64  # (T, N)
    log_probs: F32  # (T, N) of the actions when they were taken
    values: F32  # (T, N) estimated by the policy that acted
    advantages: F32  # (T, N)
    returns: F32  # (T, N) advantages + values
    episodes: Episodes
    advice: I64 = field(default_factory=lambda: np.zeros((0, 0), np.int64))  # (T, N) the teacher's actions, if any

    @property
    def steps(self) -> int:
        """Number of environment steps."""
        return self.actions.size

    @staticmethod
    def concatenate(parts: Sequence[Rollout]) -> Rollout:
        """Join rollouts of equal length along the lanes."""
        if len(parts) == 1:
            return parts[0]
        arrays = {
            f.name: np.concatenate([getattr(part, f.name) for part in parts], axis=1)
            for f in fields(Rollout)
            if f.name != "episodes"
        }
        ends = {f.name: np.concatenate([getattr(part.episodes, f.name) for part in parts]) for f in fields(Episodes)}
        return Rollout(**arrays, episodes=Episodes(**ends))


def advantages(
    rewards: F64, values: NDArray[Any], next_values: NDArray[Any], ended: Bool, gamma: float, lam: float
) -> F64:
    """Generalised advantage estimation (Schulman et al., 2016, equation 16).

    Args:
        rewards: ``(T, N)`` reward of each step.
        values: ``(T, N)`` value of the observation acted on.
        next_values: ``(T, N)`` value of what the step led to: 0 after a termination, the value of the final
            observation after a truncation, else the value of the next observation.
        ended: ``(T, N)`` true where the episode ended with this step; nothing flows back over it.
        gamma: discount per step.
        lam: trade-off between bias (0) and variance (1).

    Returns:
        ``(T, N)`` advantages in float64.
    """
    delta = rewards + gamma * next_values.astype(np.float64) - values
    carry = np.where(ended, 0.0, gamma * lam)
    result = np.empty_like(delta)
    running = np.zeros(delta.shape[1])
    for t in range(len(delta) - 1, -1, -1):
        running = delta[t] + carry[t] * running
        result[t] = running
    return result


class Collector:
    """Steps one batch of lanes with a policy, ``steps`` at a time.

    Args:
        env: a native vector environment (see ``brownout.envs``), wrapped or not.
        steps: steps per rollout, T.
        seed: seed of the training.
        rank: rank of this worker; ranks never share an episode.
        gamma: discount per step.
        lam: lambda of the advantage estimate.
        chooser: begins the episodes; default: every lane plays its own, one after the other.
        teacher: whom the policy imitates, if anybody.
    """

    def __init__(
        self,
        env: Any,
        *,
        steps: int = 32,
        seed: int = 0,
        rank: int = 0,
        gamma: float = 1.0,
        lam: float = 0.95,
        chooser: EpisodeChooser | None = None,
        teacher: Teacher | None = None,
    ) -> None:
        self.chooser, self.teacher = chooser, teacher
        self.env: Any = env.unwrapped
        self.steps, self.seed, self.rank, self.gamma, self.lam = steps, seed, rank, gamma, lam
        self.lanes = int(self.env.num_envs)
        self._ready = False
        self._observation: F32 = np.zeros((self.lanes, 0), dtype=np.float32)
        self._mask: Bool = np.zeros((self.lanes, 0), dtype=bool)
        self._utility: F64 = np.zeros(self.lanes)
        self._length: I64 = np.zeros(self.lanes, dtype=np.int64)
        self._components: F64 = np.zeros((self.lanes, len(self.env.component_names)))

    @classmethod
    def of(cls, env: Any, config: PPOConfig, rank: int = 0) -> Collector:
        """Make the collector that a configuration asks for.

        Raises:
            PolicyError: it asks for a curriculum that the environment cannot follow, or a teacher it does not have.
        """
        native = env.unwrapped
        chooser = None
        if config.curriculum or getattr(native, "episode_window", None) is not None:
            chooser = EpisodeChooser(native, config.replay_score if config.replay > 0.0 else None)
        return cls(
            env, steps=config.rollout_steps, seed=config.seed, rank=rank, gamma=config.gamma, lam=config.gae_lambda,
            chooser=chooser, teacher=Teacher(config.imitate, env) if config.imitate else None,
        )  # fmt: skip

    def restart(self, iteration: int) -> None:
        """Begin fresh episodes in every lane, with seeds that belong to this iteration."""
        keys = lane_keys("lanes", self.seed, self.rank, iteration, self.lanes)
        start = (keys,) if self.chooser is None else self.chooser.restart(keys)
        observation, mask = self.env.lane_reset(*start)
        self._observation, self._mask = observation.copy(), mask.copy()
        self._utility[:] = 0.0
        self._length[:] = 0
        self._components[:] = 0.0
        self._ready = True

    def collect(self, policy: Policy, iteration: int, orders: Orders | None = None) -> Rollout:
        """Play ``steps`` steps in every lane, sampling actions from the policy.

        The first call of a collector starts the lanes with seeds of that iteration.

        Args:
            policy: who acts.
            iteration: keys the action samples.
            orders: what the curriculum says about the episodes that begin, and what the teacher does.

        Raises:
            PolicyError: a lesson is ordered, and this collector has no teacher.
            WorkerError: the environment returned a reward or an observation that is not finite.
        """
        orders = orders or Orders()
        lesson, teacher = orders.lesson, self.teacher
        if lesson is not None and teacher is None:
            raise PolicyError("imitate: this source of rollouts has no teacher")
        if self.chooser is not None:
            self.chooser.orders = orders
        if not self._ready:
            self.restart(iteration)
        steps, lanes = self.steps, self.lanes
        observations = np.empty((steps + 1, *self._observation.shape), dtype=np.float32)
        masks = np.empty((steps, *self._mask.shape), dtype=bool)
        actions = np.empty((steps, lanes), dtype=np.int64)
        log_probs = np.empty((steps, lanes), dtype=np.float32)
        rewards = np.empty((steps, lanes))
        advice = np.empty((0, 0) if lesson is None else (steps, lanes), dtype=np.int64)
        ended = np.zeros((steps, lanes), dtype=bool)
        finals: list[tuple[int, I64, F32]] = []  # (t, truncated lanes, their final observations)
        log: list[tuple[F64, I64, I64, F64]] = []
        keys = lane_keys("actions", self.seed, self.rank, iteration, lanes)
        stream = stream_id("action")
        for t in range(steps):
            observations[t], masks[t] = self._observation, self._mask
            draws = uniform(keys, stream, t)
            actions[t], log_probs[t] = sample(policy.logits(self._observation, self._mask), draws)
            if lesson is not None and teacher is not None:
                advice[t] = teacher.advise(self._observation, self._mask)
                if lesson.acts > 0.0:
                    taken = teacher.takes_over(keys, t, lesson.acts)
                    actions[t, taken] = advice[t, taken]
            step = self.env.lane_step(actions[t])
            rewards[t] = step.reward
            self._utility += step.reward
            self._length += 1
            self._components += step.components
            if len(step.ended):
                rows = step.ended
                ended[t, rows] = True
                outcome = step.outcome.astype(np.int64)
                log.append((self._utility[rows], self._length[rows], outcome, self._components[rows]))
                self._utility[rows] = 0.0
                self._length[rows] = 0
                self._components[rows] = 0.0
                cut = step.truncated[rows] & ~step.terminated[rows]
                if cut.any():
                    finals.append((t, rows[cut], step.final_observation[cut].copy()))
            self._observation, self._mask = step.observation, step.mask
        observations[steps] = self._observation
        self._observation, self._mask = self._observation.copy(), self._mask.copy()
        self._refuse_non_finite(observations, rewards, iteration)

        all_values = policy.values(observations.reshape(-1, observations.shape[-1])).reshape(steps + 1, lanes)
        values = all_values[:-1]
        next_values = np.where(ended, np.float32(0), all_values[1:])
        if finals:
            bootstrap = policy.values(np.concatenate([final for _, _, final in finals]))
            times = np.concatenate([np.full(len(rows), t) for t, rows, _ in finals])
            next_values[times, np.concatenate([rows for _, rows, _ in finals])] = bootstrap
        advantage = advantages(rewards, values, next_values, ended, self.gamma, self.lam)
        return Rollout(
            observations=observations[:-1],
            masks=masks,
            actions=actions,
            log_probs=log_probs,
            values=values,
            advantages=advantage.astype(np.float32),
            returns=(advantage + values).astype(np.float32),
            episodes=self._episodes(log, {} if self.chooser is None else self.chooser.finished(advantage, ended)),
            advice=advice,
        )

    def _episodes(self, log: list[tuple[F64, I64, I64, F64]], more: Mapping[str, Any]) -> Episodes:
        if not log:
            empty = np.zeros(0, dtype=np.int64)
            return Episodes(np.zeros(0), empty, empty, np.zeros((0, self._components.shape[1])))
        return Episodes(*(np.concatenate(column) for column in zip(*log, strict=True)), **more)

    def _refuse_non_finite(self, observations: F32, rewards: F64, iteration: int) -> None:
        where = f"rank {self.rank}, iteration {iteration}"
        if not np.isfinite(rewards).all():
            t, lane = np.argwhere(~np.isfinite(rewards))[0]
            raise WorkerError(f"{where}: reward {rewards[t, lane]} in lane {lane}, step {t}; must be finite")
        if not np.isfinite(observations).all():
            t, lane, column = np.argwhere(~np.isfinite(observations))[0]
            name = self.env.observation_columns[column].name
            value = observations[t, lane, column]
            raise WorkerError(f"{where}: observation column {name!r} is {value} in lane {lane}; must be finite")

    def get_state(self) -> dict[str, NDArray[Any]]:
        """Return everything that :meth:`collect` continues from, as arrays."""
        if not self._ready:
            return {}
        state = {f"env.{name}": np.array(value) for name, value in self.env.get_state().items()}
        own = {
            "observation": self._observation,
            "mask": self._mask,
            "utility": self._utility,
            "length": self._length,
            "components": self._components,
        }
        own |= {} if self.chooser is None else self.chooser.get_state()
        return state | {name: value.copy() for name, value in own.items()}

    def set_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue from :meth:`get_state`; an empty state starts afresh at the next call.

        Raises:
            WorkerError: the state belongs to another number of lanes.
        """
        if not state:
            self._ready = False
            return
        if len(state["utility"]) != self.lanes:
            raise WorkerError(f"lane state of {len(state['utility'])} lanes, this collector has {self.lanes}")
        if self.chooser is not None:
            self.chooser.set_state(state)
        self.env.set_state({name[4:]: value for name, value in state.items() if name.startswith("env.")})
        self._observation, self._mask = np.array(state["observation"]), np.array(state["mask"])
        self._utility, self._length = np.array(state["utility"]), np.array(state["length"])
        self._components = np.array(state["components"])
        self._ready = True
