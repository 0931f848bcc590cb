"""Stress-testing an agent: the same episodes clean and faulted, in processes that it may crash, hang or kill.

``brownout stress`` on the command line. The run is written as it goes; see :mod:`brownout.trainers.stress_files`.
"""

from __future__ import annotations

import inspect
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..errors import ArtefactError, StressError
from ..scenarios.fault_selection import fault_groups
from ..scenarios.loading import load_scenario
from ..scenarios.schema import Scenario
from .artefact import brownout_version, write_text
from .own_tools import PROFILE, OwnTools
from .stress_files import (
    CONFIG_FILE,
    LOG_FILE,
    EpisodeFiles,
    clear,
    keep_scenario,
    read_config,
    refuse_other,
)
from .stress_play import Job, Stage
from .stress_pool import Ended, Pool
from .stress_report import REPORT_FILE, StressReport, read_report, write_report
from .stress_rows import CLEAN, FAULTED, INTENSITY, ONLY, EpisodeRow, row_from
from .stress_summary import summarise
from .stress_watch import Limits

if TYPE_CHECKING:
    from .evaluation_set import EvaluationSet

FORMAT: Final = "brownout.stress-run/1"
INTERRUPTED: Final = "interrupted"
Progress = Callable[[EpisodeRow, int, int], None]


@dataclass(frozen=True)
class StressPlan:
    """What a run plays.

    Args:
        scenario: on what; or tools of a team's own.
        episodes: episodes 0 ... n - 1 of ``seed``.
        repeats: how often each is played in every condition.
        profile: fault profile of the faulted condition.
        intensity: fault intensity of the faulted condition.
        split: ``eval`` or ``train``.
        seed: seed of the episodes.
        isolate: whether every effect is also played alone.
        intensities: fault intensities of the curve; none draws no curve.
        evalset: a frozen set, whose episodes are played instead.

    Raises:
        StressError: the plan is not possible.
    """

    scenario: Scenario | OwnTools
    episodes: int = 200
    repeats: int = 1
    profile: str = "production"
    intensity: float = 1.0
    split: str = "eval"
    seed: int = 0
    isolate: bool = False
    intensities: tuple[float, ...] = ()
    evalset: EvaluationSet | None = None

    def __post_init__(self) -> None:
        for name, low in (("episodes", 1), ("repeats", 1), ("intensity", 0)):
            if not getattr(self, name) >= low:
                raise StressError(f"{name}: got {getattr(self, name)!r}; allowed: {low} or more")
        if self.scenario.env not in ("workflow", OwnTools.env):
            raise StressError(
                f"scenario {self.scenario.name!r}: a {self.scenario.env} has no tools for an agent; allowed: a workflow"
            )
        if self.split not in ("eval", "train"):
            raise StressError(f"split: got {self.split!r}; allowed: eval, train")
        bad = [value for value in self.intensities if not value >= 0]
        if bad:
            raise StressError(f"intensities: got {bad[0]!r}; allowed: numbers from 0")
        if self.evalset is not None and (self.isolate or self.intensities):
            raise StressError("a frozen set says how its episodes are played; leave --isolate and --intensities out")
        _effects(self.scenario, self.profile)  # refuses an unknown profile

    @property
    def alone(self) -> list[str]:
        """The effects that are played alone."""
        return _effects(self.scenario, self.profile) if self.isolate else []

    @property
    def curve(self) -> list[float]:
        """The intensities that are neither the clean nor the faulted condition."""
        return [value for value in dict.fromkeys(self.intensities) if value not in (0.0, self.intensity)]

    @property
    def conditions(self) -> list[str]:
        """The conditions, clean and faulted first."""
        return [CLEAN, FAULTED, *(ONLY + name for name in self.alone), *(f"{INTENSITY}{x:g}" for x in self.curve)]

    def jobs(self) -> list[Job]:
        """Every episode to play, the conditions of one side by side, so that a run cut short has whole pairs."""
        return [job for base in self._bases() for r in range(self.repeats) for job in self._twins(base, r)]

    def _bases(self) -> Iterable[Job]:
        if self.evalset is not None:
            return [frozen.job for frozen in self.evalset.episodes]
        return [
            Job(FAULTED, self.seed, episode, 0, self.profile, self.intensity, self.split)
            for episode in range(self.episodes)
        ]

    def _twins(self, base: Job, repeat: int) -> Iterator[Job]:
        def twin(condition: str, intensity: float, only: str | None) -> Job:
            return Job(condition, base.seed, base.episode, repeat, base.profile, intensity, base.split, only)

        yield twin(CLEAN, 0.0, None)
        yield twin(FAULTED, base.intensity, base.only)
        for effect in self.alone:
            yield twin(ONLY + effect, base.intensity, effect)
        for intensity in self.curve:
            yield twin(f"{INTENSITY}{intensity:g}", intensity, None)

    def about(self, agent: str) -> dict[str, Any]:
        """The fields of a summary that say what was run."""
        frozen = self.evalset
        return {
            "version": brownout_version(),
            "agent": agent,
            "scenario": self.scenario.name,
            "scenario_hash": self.scenario.hash,
            "profile": self.profile,
            "intensity": float(self.intensity),
            "split": self.split,
            "seed": self.seed if frozen is None else None,
            "evalset": None if frozen is None else frozen.hash,
            "episodes": self.episodes if frozen is None else len(frozen.episodes),
        }

    def config(self, agent: str, limits: Limits) -> dict[str, Any]:
        """What a resumed run must share."""
        path = self.scenario.path
        own = self.scenario.about() if isinstance(self.scenario, OwnTools) else {}
        return {
            "format": FORMAT,
            **self.about(agent),
            **own,
            "repeats": self.repeats,
            "isolate": self.alone,
            "intensities": [float(value) for value in self.intensities],
            "limits": limits.to_dict(),
            "scenario_file": None if path is None else str(path.absolute()),
            "evalset_file": None if self.evalset is None else str(self.evalset.path.absolute()),
        }


def stress(
    agent: str | Callable[[Any], Any],
    scenario: str | Path | Scenario | OwnTools | None = None,
    *,
    overrides: Iterable[str] = (),
    episodes: int = 200,
    repeats: int = 1,
    profile: str = "production",
    intensity: float = 1.0,
    split: str = "eval",
    seed: int = 0,
    isolate: bool = False,
    intensities: Sequence[float] = (),
    evalset: str | Path | None = None,
    limits: Limits | None = None,
    workers: int = 1,
    time_limit_s: float | None = None,
    cost_limit_usd: float | None = None,
    out: str | Path = "runs/stress",
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> StressReport:
    """Play an agent through a workflow, clean and faulted, and say where it breaks.

    Args:
        agent: see :func:`brownout.trainers.stress_agents.load_agent`; or a function of a module or file.
        scenario: built-in name, file or scenario of a workflow, or tools of your own; with ``evalset`` only if its
            file has moved.
        overrides: of the scenario, ``field=value``.
        episodes: episodes per condition.
        repeats: how often each is played; an agent that draws lots differs between them.
        profile: fault profile of the faulted condition.
        intensity: fault intensity of the faulted condition.
        split: ``eval`` or ``train``.
        seed: seed of the episodes.
        isolate: also play every effect alone.
        intensities: also play these fault intensities.
        evalset: file of a frozen set, whose episodes are played instead.
        limits: ceilings of every episode.
        workers: processes.
        time_limit_s: real seconds after which no further episode is begun.
        cost_limit_usd: USD that the agent reports for its own model, after which no further episode is begun.
        out: run folder.
        resume: complete the run in ``out``.
        overwrite: replace the run in ``out``.
        progress: called with each row, the number of episodes that are over, and of those that are planned.
        say: called with what a person should know at once.

    Returns:
        the summary, also written to ``out/stress.json``. After Ctrl-C it says so and the run can be resumed.

    Raises:
        AgentError: the agent cannot be loaded.
        StressError: the plan is not possible, another run is in ``out``, or worker processes do not come up.
        ScenarioError, ArtefactError: the scenario or the frozen set cannot be used.
    """
    began = time.monotonic()
    plan = _plan(
        scenario, overrides, evalset, episodes=episodes, repeats=repeats, profile=profile, intensity=intensity,
        split=split, seed=seed, isolate=isolate, intensities=tuple(intensities),
    )  # fmt: skip
    if workers < 1:
        raise StressError(f"workers: got {workers!r}; allowed: 1 or more")
    limits = limits or Limits()
    spec = agent if isinstance(agent, str) else agent_spec(agent)
    folder = Path(out)
    config = plan.config(spec, limits)
    if resume:
        refuse_other(folder, config | {"agent_digest": read_config(folder).get("agent_digest")})
    else:
        clear(folder, overwrite)
        keep_scenario(folder, plan.scenario)
    earlier_s = _earlier(folder) if resume else 0.0
    files = EpisodeFiles(folder)
    notes: list[str] = []
    try:
        if resume:
            if files.torn:
                notes.append(
                    "the last line of episodes.jsonl was cut off; it was taken away and its episode played again"
                )
            done = {row.key for row in files.rows}
            _say(say, f"{len(done)} episodes are done already", *notes)
        else:
            done = set()
        jobs = [job for job in plan.jobs() if job.key not in done]
        order = {"agent": spec, "folder": str(folder.absolute()), "limits": limits.to_dict(), "here": os.getcwd()}
        stopped: str | None = None
        if jobs:
            run = _Run(plan, files, Stage(plan.scenario, limits), progress, time_limit_s, cost_limit_usd, began)
            with Pool(order, min(workers, len(jobs)), limits.deadline_s, folder / LOG_FILE) as pool:
                config["agent_digest"] = pool.digest
                if resume:
                    refuse_other(folder, config)
                write_text(folder / CONFIG_FILE, json.dumps(config, indent=2) + "\n")
                stopped = run.play(pool, jobs)
        if cost_limit_usd is not None and not any(row.reported_usd for row in files.rows):
            notes.append(
                "the agent reported no cost of its own by session.usage(), so --cost-limit had nothing to act on"
            )
        report = summarise(
            files.rows, plan.about(spec) | {"limits": _ceilings(limits, time_limit_s, cost_limit_usd)},
            plan.conditions, repeats=repeats, planned=len(plan.jobs()), folder=folder, stopped=stopped, notes=notes,
            wall_s=earlier_s + time.monotonic() - began,
        )  # fmt: skip
    finally:
        files.close()
    write_report(folder, report)
    return report


class _Run:
    """Keeps what a run has come to, and knows when it is to stop."""

    def __init__(
        self, plan: StressPlan, files: EpisodeFiles, stage: Stage, progress: Progress | None,
        time_limit_s: float | None, cost_limit_usd: float | None, began: float,
    ) -> None:  # fmt: skip
        self._files, self._stage, self._progress = files, stage, progress
        self._until = None if time_limit_s is None else began + time_limit_s
        self._most = cost_limit_usd
        self._planned = len(plan.jobs())
        self._spent = sum(row.reported_usd for row in files.rows)
        self._stopped: str | None = None

    def play(self, pool: Pool, jobs: Iterable[Job]) -> str | None:
        """Play the jobs; returns why it stopped early, if it did."""
        try:
            for ended in pool.run(iter(jobs), self._stop):
                row, events = self._row(ended)
                self._files.add(row, events, ended.over)
                self._spent += row.reported_usd
                if self._progress is not None:
                    self._progress(row, len(self._files.rows), self._planned)
        except KeyboardInterrupt:
            self._stopped = INTERRUPTED
        return self._stopped if len(self._files.rows) < self._planned else None

    def _row(self, ended: Ended) -> tuple[EpisodeRow, list[dict[str, Any]]]:
        if ended.row is not None:
            return row_from(ended.row, "episode"), ended.events
        assert ended.fate is not None
        return self._stage.settle(ended.job, ended.events, ended.fate, ended.error, ended.wall_s, ended.over)

    def _stop(self) -> bool:
        if self._until is not None and time.monotonic() >= self._until:
            self._stopped = "time limit"
        elif self._most is not None and self._spent >= self._most:
            self._stopped = "cost limit"
        return self._stopped is not None


def agent_spec(agent: Callable[[Any], Any]) -> str:
    """How a function is named for the worker processes that load it again.

    Raises:
        StressError: it has no file, or is not at the top of it.
    """
    name = getattr(agent, "__qualname__", "")
    try:
        file = inspect.getsourcefile(inspect.unwrap(agent))
    except TypeError:
        file = None
    if not name or "<" in name or file is None or not Path(file).is_file():
        raise StressError(
            f"agent {agent!r}: worker processes must find it again; allowed: a function or class at the top of a file"
        )
    return f"{file}:{name}"


def _effects(scenario: Scenario | OwnTools, profile: str) -> list[str]:
    """The effects of a profile, each once."""
    return scenario.effects if isinstance(scenario, OwnTools) else fault_groups(scenario, profile, "effect")


def _plan(
    scenario: str | Path | Scenario | OwnTools | None, overrides: Iterable[str], evalset: str | Path | None,
    **options: Any,
) -> StressPlan:  # fmt: skip
    if isinstance(scenario, OwnTools):
        if evalset is not None or list(overrides) or options["profile"] not in ("production", PROFILE):
            raise StressError("tools of your own have one plan of faults; leave evalset, overrides and profile out")
        if options["split"] != "eval":
            raise StressError(f"split: got {options['split']!r}; tools of your own have one: eval")
        options["profile"] = PROFILE
        return StressPlan(scenario, **options)
    if evalset is not None:
        from .evaluation_set import read_set

        frozen = read_set(evalset)
        loaded = frozen.scenario(None if scenario is None else load_scenario(scenario, overrides))
        first = frozen.episodes[0].job
        options |= {"profile": first.profile, "intensity": first.intensity, "split": first.split}
        return StressPlan(loaded, evalset=frozen, **options)
    if scenario is None:
        raise StressError("scenario: none given; allowed: a built-in workflow or a file, or a frozen set (--evalset)")
    return StressPlan(load_scenario(scenario, overrides), **options)


def _earlier(folder: Path) -> float:
    """Real seconds of the earlier parts of a run, as far as they were written down."""
    try:
        return read_report(folder).wall_s if (folder / REPORT_FILE).is_file() else 0.0
    except ArtefactError:
        return 0.0


def _ceilings(limits: Limits, time_limit_s: float | None, cost_limit_usd: float | None) -> dict[str, Any]:
    return limits.to_dict() | {"time_limit_s": time_limit_s, "cost_limit_usd": cost_limit_usd}


def _say(say: Callable[[str], None] | None, *lines: str) -> None:
    if say is not None:
        for line in lines:
            say(line)
