"""The training loop: collect, learn, report, keep.

:class:`Trainer` is one training without files: ``step()`` runs one iteration and returns its record, and
``get_state()`` holds all that the next iteration depends on. :func:`train_loop` puts files, progress,
evaluation and recovery around it. The same loop runs in process, as one trial of a sweep and as one rank
of a data-parallel training.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import ArtefactError
from .artefact import brownout_version, load_policy, read_arrays, save_policy, write_arrays, write_text
from .card import PolicyCard
from .comm import Comm, Local
from .curriculum import OPTIONS, Curriculum, Orders
from .imitation import OPTIONS as IMITATION
from .imitation import Lesson
from .policy import Policy
from .ppo import Learner, PPOConfig
from .progress import LiveProgress, MetricsFile, TensorBoard
from .rollout import Collector, Rollout

State = dict[str, NDArray[Any]]
CHECKPOINT: Final = "checkpoint.npz"
CHECKPOINT_FORMAT: Final = 1
_FREE: Final = ("steps", "threads")  # options that may differ when a training is resumed


class Collects(Protocol):
    """What a source of rollouts must offer: one collector, or a pool of remote ones.

    A source may also have ``figures()``: what to add to the record of the iteration, ``notes`` (a list of
    warnings) among it.
    """

    def collect(self, policy: Policy, iteration: int, orders: Orders | None = None) -> Rollout:
        """Play one rollout; ``orders`` come from the curriculum and the teacher, if there is one."""
        ...

    def get_state(self) -> State:
        """Return what an exact continuation needs; empty when there is none."""
        ...

    def set_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue; an empty state starts afresh with seeds of the next iteration."""
        ...


class Trainer:
    """One training, an iteration at a time.

    Args:
        env: native vector environment with ``config.lanes`` lanes (with ``collector``: any number of lanes).
        config: hyper-parameters.
        comm: how ranks agree; :class:`~brownout.trainers.comm.Local` for a single process.
        collector: another source of rollouts, delivering ``config.batch`` steps an iteration.
    """

    def __init__(
        self, env: Any, config: PPOConfig, comm: Comm | None = None, collector: Collects | None = None
    ) -> None:
        core: Any = env.unwrapped
        self.env, self.config, self.comm = env, config, comm or Local()
        self.card = PolicyCard.of(env)
        self.components, self.outcomes = tuple(core.component_names), tuple(core.outcome_names)
        self.learner = Learner(config, len(self.card.columns), len(self.card.actions), self.comm)
        self.collector: Collects = collector or Collector.of(env, config, self.comm.rank)
        self.curriculum = Curriculum(config) if config.curriculum else None
        self.iteration, self.steps, self.seconds = 0, 0, 0.0

    @property
    def done(self) -> bool:
        """Whether the steps asked for have been made."""
        return self.steps >= self.config.steps

    def step(self) -> dict[str, Any]:
        """Run one iteration and return its record.

        With normalised observations the first iteration only measures them: a net that has learned on raw
        columns would have to unlearn them.
        """
        start = time.perf_counter()
        config, done = self.config, min(1.0, self.steps / self.config.steps)
        rate = config.learning_rate * (1 - done * (1 - config.learning_rate_end))
        beta = config.entropy * (1 - min(1.0, done / config.entropy_until) * (1 - config.entropy_end))
        orders = Orders() if self.curriculum is None else self.curriculum.orders(done, self.iteration)
        lesson = Lesson.at(config, done)
        rollout = self.collector.collect(self.learner.policy(), self.iteration, replace(orders, lesson=lesson))
        learned: dict[str, float] = {}
        if self.iteration > 0 or not config.normalise:
            learned = self.learner.update(rollout, self.iteration, rate, beta, lesson)
        self.learner.observe(rollout.observations)
        steps = rollout.steps * self.comm.size
        seconds = time.perf_counter() - start
        self.steps, self.seconds = self.steps + steps, self.seconds + seconds
        record = {
            "iteration": self.iteration,
            "steps": self.steps,
            "seconds": self.seconds,
            "steps_per_s": steps / seconds,
            **self._summary(rollout),
            "learning_rate": rate,
            "entropy_weight": beta,
            **learned,
        }
        if lesson is not None:
            record["imitation"] = asdict(lesson)
        if self.curriculum is not None:
            record |= self.curriculum.learn(rollout.episodes, self.iteration)
        record |= getattr(self.collector, "figures", dict)()
        self.iteration += 1
        return record

    def policy(self) -> Policy:
        """Return the current policy with its card."""
        policy = self.learner.policy()
        policy.card = self.card
        return policy

    def _summary(self, rollout: Rollout) -> dict[str, Any]:
        ends = rollout.episodes
        names = self.card.actions
        actions = np.bincount(rollout.actions.ravel(), minlength=len(names)) / rollout.actions.size
        summary: dict[str, Any] = {"episodes": len(ends)}
        if len(ends):
            shares = np.bincount(ends.outcome, minlength=len(self.outcomes)) / len(ends)
            summary["utility"] = float(ends.utility.mean())
            summary["length"] = float(ends.length.mean())
            means = ends.components.mean(axis=0).tolist()
            summary["component"] = dict(zip(self.components, means, strict=True))
            summary["outcome"] = dict(zip(self.outcomes, shares.tolist(), strict=True))
        return summary | {"action": dict(zip(names, actions.tolist(), strict=True))}

    def get_state(self) -> State:
        """Return all that the next iteration depends on."""
        state = {f"learner.{name}": value for name, value in self.learner.get_state().items()}
        state |= {f"lanes.{name}": value for name, value in self.collector.get_state().items()}
        if self.curriculum is not None:
            state |= {f"replay.{name}": value for name, value in self.curriculum.get_state().items()}
        state["counters"] = np.array([self.iteration, self.steps], dtype=np.int64)
        state["seconds"] = np.array(self.seconds)
        return state

    def set_state(self, state: Mapping[str, NDArray[Any]], *, lanes: bool = True) -> None:
        """Continue exactly from :meth:`get_state`.

        With ``lanes=False`` only the learner continues, and the lanes start fresh episodes with seeds that
        belong to the iteration: for a rank whose own lanes were lost.
        """
        self.learner.set_state(_part(state, "learner."))
        self.collector.set_state(_part(state, "lanes.") if lanes else {})
        if self.curriculum is not None:
            self.curriculum.set_state(_part(state, "replay."))
        self.iteration, self.steps = (int(value) for value in state["counters"])
        self.seconds = float(state["seconds"])


def _part(state: Mapping[str, NDArray[Any]], prefix: str) -> State:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


@dataclass
class TrainResult:
    """What a training left behind."""

    policy: Policy  # the best by evaluation, else the last
    steps: int
    seconds: float  # spent in collecting and learning, over all resumes
    iterations: int
    record: dict[str, Any]  # the last iteration
    best_score: float | None = None
    interrupted: bool = False
    out: Path | None = None
    warnings: list[str] = field(default_factory=list)


def train_loop(
    make_env: Callable[[int], Any],
    config: PPOConfig,
    *,
    comm: Comm | None = None,
    collector: Collects | None = None,
    out: str | Path | None = None,
    resume: bool | str | Path = False,
    evaluate_fn: Callable[[Policy], float] | None = None,
    evaluate_every: int = 10,
    checkpoint_every: int = 10,
    callback: Callable[[dict[str, Any], Trainer], bool | None] | None = None,
    progress: bool = False,
    tensorboard: bool = False,
    ceiling: float | None = None,
    initial: Policy | None = None,
) -> TrainResult:
    """Train until ``config.steps`` steps are made, the callback says stop, or Ctrl-C.

    Args:
        make_env: given a number of lanes, returns a native vector environment of that many.
        config: hyper-parameters.
        comm: how ranks agree; only rank 0 writes files and shows progress.
        collector: another source of rollouts (``make_env`` is then asked for one lane, to read names from).
        out: run folder: ``policy.json`` and ``weights.npz`` (best by evaluation, else last), ``last/``,
            ``checkpoint.npz``, ``metrics.jsonl``, ``config.json``, ``tensorboard/``; None keeps nothing.
        resume: continue from ``out/checkpoint.npz``, or from the checkpoint file given.
        evaluate_fn: scores a policy, higher is better; must leave the training environment alone.
        evaluate_every: iterations between evaluations.
        checkpoint_every: iterations between checkpoints; one more is written whenever the loop ends.
        callback: called on every rank with each record and the trainer; returning True ends the training.
        progress: show a live display on stderr.
        tensorboard: also write TensorBoard events into ``out/tensorboard``.
        ceiling: best achievable utility, shown as a share.
        initial: warm start from this policy.

    Raises:
        ArtefactError: nothing usable to resume from, or it belongs to other options or another scenario.
        WorkerError: a reward, observation or gradient was not finite; the checkpoint holds the last complete
            iteration.
    """
    comm = comm or Local()
    env = make_env(config.lanes if collector is None else 1)
    trainer = Trainer(env, config, comm, collector)
    chief = comm.rank == 0
    folder = Path(out) if out is not None else None
    run = _Run(trainer, folder if chief else None, evaluate_fn)
    if initial is not None:
        trainer.learner.load_policy(initial)
    if resume:
        if isinstance(resume, bool) and folder is None:
            raise ArtefactError("resume needs the run folder (out)")
        path = Path(str(folder)) / CHECKPOINT if isinstance(resume, bool) else Path(resume)
        run.resume(path, lanes=chief)
    sinks: list[Any] = []
    with ExitStack() as stack:
        stack.callback(env.close if hasattr(env, "close") else lambda: None)
        if chief and folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            write_text(folder / "config.json", json.dumps(asdict(config), indent=2) + "\n")
            sinks.append(MetricsFile(folder / "metrics.jsonl", trainer.iteration))
            if tensorboard:
                sinks.append(TensorBoard(folder / "tensorboard", trainer.steps))
        for sink in sinks:
            stack.callback(sink.close)
        live = stack.enter_context(LiveProgress(config.steps, ceiling)) if progress and chief else None
        interrupted = False
        try:
            while not trainer.done:
                record = trainer.step()
                last = trainer.done
                if evaluate_fn is not None and chief and (last or trainer.iteration % evaluate_every == 0):
                    record["score"] = run.evaluate()
                for message in run.watch(record):
                    record["warning"] = message
                    if live is not None:
                        live.say(f"note: {message}")
                run.keep(record)
                for sink in (*sinks, *([live] if live is not None else [])):
                    sink.write(record)
                stop = callback is not None and callback(record, trainer)
                if trainer.iteration % checkpoint_every == 0 and not last:
                    run.save()
                if stop:
                    break
        except KeyboardInterrupt:
            interrupted = True
        finally:
            run.save()
    return run.result(interrupted)


class _Run:
    """Files, best policy and warnings of one call of :func:`train_loop`."""

    def __init__(self, trainer: Trainer, out: Path | None, evaluate_fn: Callable[[Policy], float] | None) -> None:
        self.trainer, self.out, self.evaluate_fn = trainer, out, evaluate_fn
        self.record: dict[str, Any] = {}
        self.best_score: float | None = None
        self.best: Policy | None = None
        self.warnings: list[str] = []
        self._state: State = {}
        self._policy: Policy | None = None
        self._saved = -1
        self._one_sided = 0

    def keep(self, record: dict[str, Any]) -> None:
        """Remember a complete iteration; an exception in the next one cannot touch it."""
        self.record = record
        if self.out is not None:
            self._state, self._policy = self.trainer.get_state(), self.trainer.policy()

    def evaluate(self) -> float:
        """Score the current policy and keep it when it is the best."""
        assert self.evaluate_fn is not None
        policy = self.trainer.policy()
        score = float(self.evaluate_fn(policy))
        if self.best_score is None or score > self.best_score:
            self.best_score, self.best = score, policy
            if self.out is not None:
                self.out.mkdir(parents=True, exist_ok=True)
                save_policy(self.out, policy, self.trainer.env, training=self._training() | {"score": score})
        return score

    def save(self) -> None:
        """Write checkpoint and last policy of the last complete iteration, once."""
        if self.out is None or not self._state or self._saved == int(self._state["counters"][0]):
            return
        assert self._policy is not None
        meta = {
            "format": CHECKPOINT_FORMAT,
            "brownout": brownout_version(),
            "config": asdict(self.trainer.config),
            "card": self.trainer.card.as_json(),
            "record": self.record,
            "best_score": self.best_score,
            "warnings": self.warnings,
        }
        text = np.frombuffer(json.dumps(meta).encode(), dtype=np.uint8)
        try:
            write_arrays(self.out / CHECKPOINT, self._state | {"meta.json": text})
        except OSError as error:
            raise ArtefactError(f"{self.out / CHECKPOINT}: cannot write the checkpoint: {error}") from error
        save_policy(self.out / "last", self._policy, self.trainer.env, training=self._training())
        if self.best_score is None:
            save_policy(self.out, self._policy, self.trainer.env, training=self._training())
        self._saved = int(self._state["counters"][0])

    def resume(self, path: Path, *, lanes: bool) -> None:
        """Continue from a checkpoint file."""
        state, meta = read_checkpoint(path)
        mine, theirs = asdict(self.trainer.config), PPOConfig.of(meta["config"])
        changed = [
            f"{name} was {old!r}, now {mine[name]!r}"
            for name, old in asdict(theirs).items()
            if name not in _FREE and mine[name] != old
        ]
        if changed:
            raise ArtefactError(f"{path}: cannot resume with other options: {'; '.join(changed)}")
        card = PolicyCard.from_json(meta["card"])
        card.check(self.trainer.env)
        own = self.trainer.card
        if (card.scenario_hash, card.profile) != (own.scenario_hash, own.profile):
            raise ArtefactError(
                f"{path}: belongs to scenario {card.scenario!r} ({card.scenario_hash}, {card.profile!r}), "
                f"not to {own.scenario!r} ({own.scenario_hash}, {own.profile!r})"
            )
        try:
            self.trainer.set_state(state, lanes=lanes)
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise ArtefactError(f"{path}: incomplete: {type(error).__name__} {error}") from error
        self.best_score, self.warnings = meta["best_score"], list(meta["warnings"])
        self.keep(meta["record"])
        if self.best_score is not None:
            self.best = load_policy(path.parent)

    def watch(self, record: Mapping[str, Any]) -> list[str]:
        """Return new warnings: a policy that settles early, or on one configuration only."""
        found = list(record.get("notes", ()))
        launches = {name: share for name, share in record["action"].items() if name.startswith("launch:")}
        favourite = max(launches, key=lambda name: launches[name], default="")
        one_sided = len(launches) > 1 and launches[favourite] > 0.99 * sum(launches.values())
        self._one_sided = self._one_sided + 1 if one_sided else 0
        if self._one_sided == 20:
            found.append(f"{favourite} is over 99 % of all launches; right only if it dominates the others")
        early = record["steps"] < 0.2 * self.trainer.config.steps
        if early and record.get("entropy", 1.0) < 0.01:
            found.append("the policy almost stopped exploring in the first fifth; raise the entropy bonus")
        found = [message for message in found if message not in self.warnings]
        self.warnings += found
        return found

    def result(self, interrupted: bool) -> TrainResult:
        """Gather what the caller gets."""
        trainer = self.trainer
        return TrainResult(
            policy=self.best or trainer.policy(),
            steps=trainer.steps,
            seconds=trainer.seconds,
            iterations=trainer.iteration,
            record=self.record,
            best_score=self.best_score,
            interrupted=interrupted,
            out=self.out,
            warnings=self.warnings,
        )

    def _training(self) -> dict[str, Any]:
        trainer = self.trainer
        summary = {"seed": trainer.config.seed, "steps": trainer.steps, "seconds": round(trainer.seconds, 3)}
        faults = getattr(getattr(getattr(trainer.env.unwrapped, "core", None), "plan", None), "fault_ids", ())
        summary["faults"] = sorted(faults)
        if trainer.config.curriculum:
            summary["curriculum"] = {name: getattr(trainer.config, name) for name in OPTIONS}
        if trainer.config.imitate:
            summary["imitation"] = {name: getattr(trainer.config, name) for name in IMITATION}
        utility = self.record.get("utility")
        return summary if utility is None else summary | {"utility": utility}


def read_checkpoint(path: Path) -> tuple[State, dict[str, Any]]:
    """Read a checkpoint: arrays and description.

    Raises:
        ArtefactError: missing, damaged, or of a newer format.
    """
    arrays = read_arrays(path)
    try:
        meta = json.loads(arrays.pop("meta.json").tobytes())
        number = int(meta["format"])
        if any(name not in meta for name in ("config", "card", "record", "best_score", "warnings")):
            raise ValueError("a field is missing")
    except (KeyError, ValueError, TypeError) as error:
        raise ArtefactError(f"{path}: not a training checkpoint: {type(error).__name__} {error}") from error
    if number > CHECKPOINT_FORMAT:
        raise ArtefactError(f"{path}: format {number} is newer than {CHECKPOINT_FORMAT}; upgrade brownout")
    return arrays, meta
