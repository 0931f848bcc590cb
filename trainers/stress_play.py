"""One episode of a stress run, from opening it to its row."""

from __future__ import annotations

import sysconfig
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..scenarios.fault_selection import select_faults
from ..scenarios.schema import Scenario
from .own_episode import OwnEpisode
from .own_tools import OwnTools
from .stress_agents import AgentDriver, AgentFailed, AgentStopped
from .stress_rows import AgentOutcome, EpisodeRow, Key, row_from
from .stress_watch import Event, Limits, Watch

if TYPE_CHECKING:
    from ..envs.tools import ToolEpisode


@dataclass(frozen=True)
class Job:
    """One episode to play.

    Args:
        condition: ``clean``, ``faulted``, ``only:EFFECT`` or ``intensity:X``.
        seed: its seed.
        episode: its number.
        repeat: which of the repeats.
        profile: fault profile.
        intensity: fault intensity.
        split: ``eval`` or ``train``.
        only: the one effect to play under; None for all of the profile.
    """

    condition: str
    seed: int
    episode: int
    repeat: int
    profile: str
    intensity: float
    split: str
    only: str | None = None

    @property
    def key(self) -> Key:
        """The same as that of its row."""
        return self.condition, self.seed, self.episode, self.repeat

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


class Stage:
    """Opens episodes of one scenario, or over tools of a team's own.

    Args:
        scenario: the scenario, or the tools.
        limits: ceilings of every episode.
    """

    def __init__(self, scenario: Scenario | OwnTools, limits: Limits) -> None:
        self.scenario, self.limits = scenario, limits
        self._alone: dict[tuple[str, str], Scenario] = {}

    def open(self, job: Job, watch: Watch | None = None) -> ToolEpisode | OwnEpisode:
        """Begin the episode of a job."""
        if isinstance(self.scenario, OwnTools):
            return OwnEpisode(self.scenario, _about(job), self.limits.max_calls, job.only, watch)
        return self._open(self.scenario, job, watch)

    def _open(self, scenario: Scenario, job: Job, watch: Watch | None = None) -> ToolEpisode:
        from ..envs.tools import ToolEpisode

        return ToolEpisode(
            self._scenario(scenario, job), job.seed, profile=job.profile, intensity=job.intensity, split=job.split,
            episode=job.episode, max_calls=self.limits.max_calls, watch=watch,
        )  # fmt: skip

    def again(self, job: Job, events: Iterable[Event]) -> ToolEpisode | OwnEpisode:
        """Make an episode again from its recorded events; tools of one's own are not called again.

        Raises:
            EpisodeError: an answer differs from the recorded one.
        """
        from ..envs.tools import ToolEpisode

        if isinstance(self.scenario, OwnTools):
            return OwnEpisode(self.scenario, _about(job), self.limits.max_calls, events=events)
        header = self._open(self.scenario, job).header
        return ToolEpisode.replay(header | {"scenario": self._scenario(self.scenario, job)}, events)

    def _scenario(self, scenario: Scenario, job: Job) -> Scenario:
        if job.only is None:
            return scenario
        key = job.profile, job.only
        if key not in self._alone:
            self._alone[key] = select_faults(scenario, job.profile, only=[job.only])
        return self._alone[key]

    def play(
        self, job: Job, driver: AgentDriver, tell: Callable[[Event], None], over: Callable[[str], None]
    ) -> EpisodeRow:
        """Let an agent play the episode of a job; nothing that goes wrong is raised.

        Args:
            job: which.
            driver: the agent.
            tell: given every event as it happens.
            over: told when a ceiling or a loop ends the episode.
        """
        began = time.monotonic()
        watch = Watch(self.limits, tell, over, driver.remote)
        try:
            episode = self.open(job, watch)
        except Exception as error:
            return self.spoilt(job, "returned", _place(error), time.monotonic() - began)
        how: AgentOutcome = "returned"
        why: str | None = None
        try:
            answer = driver.run(episode, watch.outlived)
            if isinstance(episode, OwnEpisode):
                episode.returned(answer)
        except AgentStopped:
            why = "went on after the end of its episode and was stopped"
        except AgentFailed as error:
            how, why = "killed" if error.killed else "crash", str(error)
        except BaseException as error:  # SystemExit too: whatever an agent raises is its outcome
            how, why = "crash", _place(error)
        wall_s = time.monotonic() - began
        return self.row(job, episode, how, why, wall_s, watch.ended, watch.reported_usd)

    def settle(
        self, job: Job, events: list[Event], how: AgentOutcome, why: str | None, wall_s: float, ended: str | None
    ) -> tuple[EpisodeRow, list[Event]]:
        """The row of an episode whose process died, from the requests that it told, and all its events."""
        try:
            episode = self.again(job, events)
        except Exception as error:
            return self.spoilt(job, how, f"{why}; then: {_place(error)}", wall_s), events
        reported = sum(float(event["cost_usd"]) for event in events if event["kind"] == "usage")
        return self.row(job, episode, how, why, wall_s, ended, reported), episode.events

    def row(
        self, job: Job, episode: ToolEpisode | OwnEpisode, how: AgentOutcome, why: str | None, wall_s: float,
        ended: str | None, reported_usd: float,
    ) -> EpisodeRow:  # fmt: skip
        """Close an episode and write down what became of it.

        Args:
            job: which.
            episode: its episode, open or not.
            how: how the agent ended, as far as its process shows.
            why: what went wrong, in one line.
            wall_s: real seconds.
            ended: ``limit`` or ``loop`` where the harness ended the episode.
            reported_usd: what the agent said its model cost.
        """
        if episode.error is not None:
            return self.spoilt(job, how, episode.error, wall_s)
        try:
            by_agent = episode.done
            episode.close(None if ended is None else "limit")
            result = episode.result().to_dict()
        except Exception as error:
            return self.spoilt(job, how, _place(error), wall_s)
        if how in ("returned", "crash"):
            if ended == "loop":
                how = "loop"
            elif ended is not None or result["outcome"] == "limit":
                how = "limit"
            elif how == "returned" and by_agent:
                how = "finished"
        valid = result["outcome"] != "harness_error"
        about = job.to_dict() | {"scenario_hash": self.scenario.hash}
        data = result | about | {
            "valid": valid, "agent_outcome": how, "error": why, "reported_usd": reported_usd, "wall_s": wall_s,
        }  # fmt: skip
        return row_from(data, "episode")

    def spoilt(self, job: Job, how: AgentOutcome, why: str, wall_s: float) -> EpisodeRow:
        """The row of an episode that the harness could not carry through; it has no score."""
        data: Mapping[str, Any] = job.to_dict() | {
            "scenario": self.scenario.name, "scenario_hash": self.scenario.hash, "valid": False,
            "outcome": "harness_error", "agent_outcome": how, "error": why, "wall_s": wall_s,
        }  # fmt: skip
        return row_from(data, "episode")


def _about(job: Job) -> dict[str, Any]:
    return {name: getattr(job, name) for name in ("profile", "intensity", "split", "seed", "episode")}


def _place(error: BaseException) -> str:
    """An exception in one line, with the innermost line of the user's own code."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not _known(Path(frame.filename).resolve())]
    frame = (theirs or list(frames) or [None])[-1]
    where = "" if frame is None else f" ({Path(frame.filename).name}:{frame.lineno})"
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}{': ' if text else ''}{text[:300]}{where}"


def _known(file: Path) -> bool:
    """Whether a file is of this package, of the standard library or installed."""
    package = Path(__file__).resolve().parent.parent
    return (
        file.parent.parent == package and file.parent.name in ("envs", "faults", "rewards", "scenarios", "trainers")
    ) or any(file.is_relative_to(sysconfig.get_paths()[name]) for name in ("stdlib", "purelib"))
