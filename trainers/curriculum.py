"""What a training plays next: how many episodes have faults, how strong these are, and which come again.

The learner decides once per rollout (:class:`Orders`): the present values of the schedules, and the episodes to
draw from. Whoever steps the lanes carries it out (:class:`EpisodeChooser`). Both are pure functions of named
streams and of what was played before, so a training is the same however many processes share the lanes' work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import yaml
from numpy.typing import NDArray

from ..envs.hindsight import hindsight_of
from ..envs.lanes import LaneCore
from ..envs.streams import GOLDEN, episode_keys, mix64, pick, stream_id, uniform
from ..errors import PolicyError
from ..faults.graded import LEVELS
from .imitation import Lesson
from .replay import F64, I64, U64, ReplayBuffer, positive_value_loss
from .schedules import Schedule

if TYPE_CHECKING:
    from .ppo import PPOConfig
    from .rollout import Episodes

SCHEDULES: Final = ("fault_share", "intensity")
OPTIONS: Final = (
    *SCHEDULES, "replay", "replay_size", "replay_temperature", "replay_staleness", "replay_score",
)  # fmt: skip
_FAULTED = stream_id("curriculum.faulted")
_REPLAY = stream_id("curriculum.replay")
_PICK = stream_id("curriculum.pick")
_EPISODE = stream_id("curriculum.episode")


@dataclass(frozen=True)
class Orders:
    """What holds for one rollout and the episodes that begin in it; plain data, sent to rollout actors.

    Args:
        fault_share: chance that an episode has faults.
        intensity: multiplies the fault intensity of these.
        replay: chance that an episode is drawn from those below.
        seeds: ``(B,)`` lane seeds of the episodes to draw from.
        episodes: ``(B,)`` their indices.
        cumulative: ``(B,)`` cumulative probabilities.
        lesson: what the teacher does; None: it is not asked.
    """

    fault_share: float = 1.0
    intensity: float = 1.0
    replay: float = 0.0
    seeds: U64 = field(default_factory=lambda: np.zeros(0, np.uint64))
    episodes: I64 = field(default_factory=lambda: np.zeros(0, np.int64))
    cumulative: F64 = field(default_factory=lambda: np.zeros(0))
    lesson: Lesson | None = None


class Curriculum:
    """The learner's side: schedules and the replay buffer.

    Args:
        config: its options in :data:`OPTIONS`.
    """

    def __init__(self, config: PPOConfig) -> None:
        self.fault_share, self.intensity = Schedule.parse(config.fault_share), Schedule.parse(config.intensity)
        self.replay = config.replay
        self.buffer = ReplayBuffer(config.replay_size, config.replay_temperature, config.replay_staleness)
        self._orders = Orders()

    def orders(self, share: float, iteration: int) -> Orders:
        """Return what holds for the next rollout, when ``share`` of the steps have been made."""
        now = self.fault_share.at(share), round(self.intensity.at(share) * LEVELS) / LEVELS
        self._orders = Orders(*now)
        if self.replay > 0.0:
            buffer = self.buffer
            cumulative = buffer.cumulative(iteration)
            self._orders = Orders(*now, self.replay, buffer.seeds, buffer.episodes, cumulative)
        return self._orders

    def learn(self, episodes: Episodes, iteration: int) -> dict[str, Any]:
        """Take in what was played, and return what belongs in the iteration's record."""
        record: dict[str, Any] = {
            "curriculum": {"fault_share": self._orders.fault_share, "intensity": self._orders.intensity}
        }
        if len(episodes):
            record["curriculum"]["faulted"] = float((episodes.scale > 0.0).mean())
        if self.replay > 0.0:
            self.buffer.add(episodes.seed, episodes.number, episodes.score, iteration)
            figures: dict[str, float] = {"size": len(self.buffer)}
            if len(episodes):
                figures["share"] = float(episodes.replayed.mean())
                figures["score"] = float(episodes.score.mean())
            if len(self.buffer):
                figures["kept_score"] = float(self.buffer.scores.mean())
                figures["age"] = float((iteration - self.buffer.played).mean())
            record["replay"] = figures
        return record

    def get_state(self) -> dict[str, NDArray[Any]]:
        """Return the buffer, as arrays."""
        return self.buffer.get_state() if self.replay > 0.0 else {}

    def set_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue exactly from :meth:`get_state`."""
        if state:
            self.buffer.set_state(state)


class EpisodeChooser:
    """The lanes' side: begins every episode of a training environment, and keeps book of those that end.

    Whether an episode has faults is a function of its seed, its index and the present fault share. An episode
    that comes again keeps its task and its draws, under the fault share and intensity of the present.

    Args:
        env: native vector environment; its lanes must play the train split.
        score: ``auto``, ``regret`` or ``value-loss``: what makes an episode come again; None keeps no scores.

    Raises:
        PolicyError: the environment cannot do this, plays held-out episodes, or has no hindsight bound to take
            the regret from.
    """

    def __init__(self, env: Any, score: str | None = None) -> None:
        core = getattr(env, "core", None)
        if not isinstance(core, LaneCore):
            raise PolicyError("fault_share, intensity, replay: this environment does not let its episodes be chosen")
        if core.split != "train":
            raise PolicyError(f"a curriculum chooses among episodes of the split train, not {core.split!r}")
        self.orders = Orders()
        self.window: tuple[int, int] | None = env.episode_window
        self._core, n = core, core.num_lanes
        bounded = score in ("auto", "regret") and hindsight_of(core, np.zeros(1), np.zeros(1), np.ones(1)) is not None
        if score == "regret" and not bounded:
            raise PolicyError("replay_score: 'regret' needs a hindsight bound, which is not known here; use value-loss")
        self._score = score and ("regret" if bounded else "value-loss")
        self._home, self._fresh, self._begun = np.zeros(n, np.uint64), np.zeros(n, np.int64), np.zeros(n, np.int64)
        self._scale, self._replayed = np.ones(n), np.zeros(n, np.bool_)
        self._utility, self._gain, self._length = np.zeros(n), np.zeros(n), np.zeros(n, np.int64)
        self._ended: list[tuple[U64, I64, F64, NDArray[np.bool_], F64]] = []
        env.on_step = self.follow

    def restart(self, seeds: U64) -> tuple[U64, I64]:
        """Begin afresh with one seed per lane; return seed and index of each lane's first episode."""
        self._home[:] = seeds
        for array in (self._fresh, self._begun, self._replayed, self._utility, self._gain, self._length):
            array[:] = 0
        self._ended.clear()
        own, first = self._next_fresh(self._core.all_lanes)
        self._grade(self._core.all_lanes, own, first)
        return own, first

    def follow(self, core: LaneCore, ended: I64) -> None:
        """After a step: keep book of the lanes that ``ended``, and begin their next episodes."""
        self._utility += core.reward
        if not ended.size:
            return
        self._ended.append(
            (core.seeds[ended], core.episodes[ended], self._scale[ended], self._replayed[ended], self._utility[ended])
        )
        self._utility[ended] = 0.0
        orders, home, begun = self.orders, self._home[ended], self._begun[ended]
        again = np.zeros(ended.size, np.bool_)
        if orders.cumulative.size:
            again = uniform(home, _REPLAY, begun) < orders.replay
        seeds, numbers = np.zeros(ended.size, np.uint64), np.zeros(ended.size, np.int64)
        seeds[~again], numbers[~again] = self._next_fresh(ended[~again])
        if again.any():
            row = np.searchsorted(orders.cumulative, uniform(home[again], _PICK, begun[again]), side="right")
            seeds[again], numbers[again] = orders.seeds[row], orders.episodes[row]
        self._begun[ended] += 1
        self._replayed[ended] = again
        core.seed(ended, seeds.tolist())
        self._grade(ended, seeds, numbers)
        core.begin(ended, numbers)

    def _next_fresh(self, lanes: I64) -> tuple[U64, I64]:
        """Seeds and indices of episodes that these lanes have not played yet."""
        home, count = self._home[lanes], self._fresh[lanes]
        self._fresh[lanes] += 1
        if self.window is None:
            return home, count
        # a window holds fewer indices than a lane plays episodes, so every one gets a seed of its own
        first, end = self.window
        seeds = mix64(home + count.astype(np.uint64) * GOLDEN)
        return seeds, first + pick(uniform(seeds, _EPISODE), end - first)

    def _grade(self, lanes: I64, seeds: U64, numbers: I64) -> None:
        keys = episode_keys(seeds, numbers, self._core.split)
        faulted = uniform(keys, _FAULTED) < self.orders.fault_share
        self._scale[lanes] = np.where(faulted, self.orders.intensity, 0.0)
        self._core.grade(lanes, self._scale[lanes])

    def finished(self, advantages: F64, ended: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
        """Return the book of the episodes that ended in a rollout, and start a new one.

        Args:
            advantages: ``(T, N)`` of the rollout.
            ended: ``(T, N)`` where an episode ended.

        Returns:
            ``(E,)`` arrays ``seed``, ``number``, ``scale``, ``replayed`` and ``score``.
        """
        empty = (np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.bool_), np.zeros(0))
        columns = (np.concatenate(column) for column in zip(empty, *self._ended, strict=True))
        seed, number, scale, replayed, utility = columns
        self._ended.clear()
        score = np.zeros(len(seed))
        if self._score == "value-loss":
            score = positive_value_loss(advantages, ended, self._gain, self._length)
        elif self._score == "regret" and len(seed):
            bounds = hindsight_of(self._core, seed, number, scale)
            assert bounds is not None
            score = bounds - utility
        return {"seed": seed, "number": number, "scale": scale, "replayed": replayed, "score": score}

    _saved = ("_home", "_fresh", "_begun", "_scale", "_replayed", "_utility", "_gain", "_length")

    def get_state(self) -> dict[str, NDArray[Any]]:
        """Return everything that the lanes continue from, as arrays."""
        return {f"chooser{name}": getattr(self, name).copy() for name in self._saved}

    def set_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue exactly from :meth:`get_state`; the environment's own state is to be set afterwards."""
        for name in self._saved:
            getattr(self, name)[...] = state[f"chooser{name}"]
        self._ended.clear()
        self._core.grade(self._core.all_lanes, self._scale)


def read_curriculum(source: str | Path | Mapping[str, Any]) -> dict[str, Any]:
    """Read curriculum options: a YAML file or a mapping of names in :data:`OPTIONS` to values.

    Raises:
        PolicyError: naming file, option and what is allowed. Values are checked by the configuration.

    >>> read_curriculum({"fault_share": "0:1@0.5", "replay": 0.3})
    {'fault_share': '0:1@0.5', 'replay': 0.3}
    """
    where, data = "curriculum", source
    if not isinstance(source, Mapping):
        where = str(source)
        try:
            data = yaml.safe_load(Path(source).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise PolicyError(f"{where}: not a readable YAML file: {' '.join(str(error).split())}") from error
    if not isinstance(data, Mapping) or not data:
        raise PolicyError(f"{where}: a curriculum maps options to values, got {data!r}; options: {', '.join(OPTIONS)}")
    for name in data:
        if name not in OPTIONS:
            raise PolicyError(f"{where}: unknown option {name!r}; allowed: {', '.join(OPTIONS)}")
    return dict(data)
