"""Whole trainings side by side through Ray Tune: the best use of several cores.

Every trial is one single-threaded training on one CPU, with a run folder of its own below ``out/trials``. Ray
Tune places the trials, runs as many at a time as there are CPUs, and starts a trial again whose process died
or hung; it continues from the checkpoint in its folder. The best by evaluation is copied to ``out``.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from ..errors import ArtefactError, BrownoutError, WorkerError
from .artefact import write_text
from .ppo import PPOConfig
from .progress import LiveProgress
from .ray_session import (
    REPLACEMENTS,
    TIMEOUT_S,
    Place,
    environment,
    ray_session,
    read_result,
    refuse_local_folder,
)
from .sweep import Trial, plan_trials, read_sweep
from .training import CHECKPOINT, TrainResult, read_checkpoint, train_loop

TRIALS: Final = "trials"
TABLE: Final = "sweep.json"
OUTCOME: Final = "trial.json"  # in a trial's folder, written when it has ended by itself
STORAGE: Final = "ray-tune"  # Ray's own folder inside the run folder, while trials run
_REPORT_EVERY_S: Final = 0.5


@dataclass(frozen=True)
class _Order:
    """What every trial is told."""

    place: Place
    trials: Mapping[str, Trial]
    folder: str
    tensorboard: bool
    evaluate_every: int
    checkpoint_every: int


def _run_trial(settings: Mapping[str, Any], order: _Order) -> None:
    """Train one trial; runs in a worker of Ray Tune."""
    from ray import tune

    trial = order.trials[settings["trial"]]
    folder = Path(order.folder) / TRIALS / trial.name
    task = order.place.enter()
    order.place.awake()
    told_at = 0.0
    best: float | None = None

    def told(record: dict[str, Any], trainer: Any) -> None:
        nonlocal told_at, best
        order.place.awake()
        if "score" in record:
            best = max(record["score"], best if best is not None else record["score"])
        if time.monotonic() - told_at > _REPORT_EVERY_S and not trainer.done:
            told_at = time.monotonic()
            tune.report(_figures(record, best))

    outcome: dict[str, Any] = {"task": _identity(task), "config": asdict(trial.config)}
    try:
        result = train_loop(
            lambda lanes: task.make_env(lanes, trial.config.gamma),
            trial.config,
            out=folder,
            resume=(folder / CHECKPOINT).exists(),
            evaluate_fn=task.score,
            evaluate_every=order.evaluate_every,
            checkpoint_every=order.checkpoint_every,
            callback=told,
            tensorboard=order.tensorboard,
        )
        outcome |= {"status": "finished", "score": result.best_score, "warnings": result.warnings}
        best = result.best_score
        figures = _figures(result.record, best)
    except BrownoutError as error:  # would come again at every start
        outcome |= {"status": "failed", "error": str(error)}
        figures = {"steps": 0}
    finally:
        order.place.leave()
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / OUTCOME, json.dumps(outcome, indent=2) + "\n")
    tune.report(figures)


def _figures(record: Mapping[str, Any], best: float | None) -> dict[str, Any]:
    names = ("iteration", "steps", "steps_per_s", "utility")
    figures = {name: record[name] for name in names if name in record}
    return figures if best is None else figures | {"score": best}


def _identity(task: Any) -> dict[str, Any]:
    """What two trainings must share to be compared or continued."""
    scenario = getattr(task, "scenario", None)
    return {
        "scenario": str(getattr(scenario, "hash", "")),
        "profile": str(getattr(task, "profile", "")),
        "intensity": float(getattr(task, "intensity", 1.0)),
    }


def train_side_by_side(
    task: Any,
    config: PPOConfig,
    seeds: int = 1,
    sweep: str | Path | Mapping[str, Any] | None = None,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    address: str | None = None,
    progress: bool = False,
    tensorboard: bool = False,
    evaluate_every: int = 20,
    checkpoint_every: int = 10,
    timeout_s: float = TIMEOUT_S,
    replacements: int = REPLACEMENTS,
) -> TrainResult:
    """Run one training per seed and combination of the sweep, and keep the best.

    The best is the one of highest utility on held-out episodes of the training split. ``out/sweep.json``
    lists all trials, ``out/trials`` holds their run folders.

    Args:
        task: what to train on.
        config: hyper-parameters of all trials, where the sweep says nothing else.
        seeds: seeds per combination, counted up from ``config.seed``.
        sweep: YAML file or mapping ``option -> values``; all combinations are trained.
        out: run folder; on several machines it must be on a file system that they share. None keeps nothing.
        resume: keep the finished trials in ``out``, continue the others; more seeds, values or steps may be
            asked for than before.
        address: Ray cluster; default: a local one.
        progress: show a live display of all trials together.
        tensorboard: also write TensorBoard events, one folder per trial.
        evaluate_every: iterations between selections of the best policy within a trial.
        checkpoint_every: iterations between checkpoints of a trial.
        timeout_s: seconds of silence after which a trial's process counts as hung and ends.
        replacements: how often a trial is started again when its process died.

    Raises:
        PolicyError: the sweep is not valid.
        ArtefactError: the trials in ``out`` belong to another scenario or other options.
        WorkerError: no trial came to a result.
    """
    trials = plan_trials(config, seeds, None if sweep is None else read_sweep(sweep))
    with ExitStack() as stack:
        if out is not None:
            folder = Path(out).absolute()
            folder.mkdir(parents=True, exist_ok=True)
        else:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="brownout-"))).absolute()
        shutil.rmtree(folder / STORAGE, ignore_errors=True)
        if resume:
            if not (folder / TRIALS).is_dir():
                raise ArtefactError(f"{folder / TRIALS}: no such folder; there are no trials to resume")
            open_trials = [trial for trial in trials if not _finished(folder, trial, task)]
        else:
            open_trials = trials
            for trial in trials:
                for name in (CHECKPOINT, OUTCOME):
                    (folder / TRIALS / trial.name / name).unlink(missing_ok=True)
        lost: dict[str, str] = {}
        restarts: dict[str, int] = {}
        if open_trials:
            ray = stack.enter_context(ray_session(address))
            refuse_local_folder(ray, None if out is None else folder, "seeds and sweep")
            _refuse_no_cpu(ray)
            order = _Order(
                Place.of(task, timeout_s),
                {trial.name: trial for trial in open_trials},
                str(folder),
                tensorboard,
                evaluate_every,
                checkpoint_every,
            )
            live = None
            if progress:
                total = sum(trial.config.steps for trial in open_trials)
                live = stack.enter_context(LiveProgress(total, task.ceiling()))
            try:
                lost = _tune(order, live, restarts, replacements)
            finally:
                shutil.rmtree(folder / STORAGE, ignore_errors=True)
        rows = [_row(folder, trial, lost.get(trial.name), restarts.get(trial.name, 0)) for trial in trials]
        best = _best(rows)
        table = {"task": _identity(task), "best": best and best["name"], "trials": rows}
        write_text(folder / TABLE, json.dumps(table, indent=2) + "\n")
        if best is None:
            reasons = "; ".join(f"{row['name']}: {row['error'] or row['status']}" for row in rows[:3])
            raise WorkerError(f"none of {len(rows)} trials came to a result: {reasons}")
        shutil.copytree(
            folder / TRIALS / best["name"], folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(OUTCOME)
        )
        interrupted = any(row["status"] == "unfinished" for row in rows)
        return read_result(folder, None if out is None else Path(out), interrupted, _notes(rows))


def _finished(folder: Path, trial: Trial, task: Any) -> bool:
    """Whether a trial need not run again.

    Raises:
        ArtefactError: its folder belongs to something else.
    """
    path = folder / TRIALS / trial.name / OUTCOME
    if not path.exists():
        return False
    try:
        outcome = json.loads(path.read_text(encoding="utf-8"))
        theirs, identity = PPOConfig.of(outcome["config"]), outcome["task"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtefactError(f"{path}: damaged: {type(error).__name__} {error}; remove it to train again") from error
    if identity != _identity(task):
        raise ArtefactError(f"{path}: belongs to {identity}, this training is of {_identity(task)}")
    mine, old = asdict(trial.config), asdict(theirs)
    changed = [name for name in mine if mine[name] != old[name] and name not in ("steps", "threads")]
    if changed:
        differences = "; ".join(f"{name} was {old[name]!r}, now {mine[name]!r}" for name in changed)
        raise ArtefactError(f"{path}: cannot resume with other options: {differences}")
    return outcome.get("status") == "finished" and theirs.steps >= trial.config.steps


def _refuse_no_cpu(ray: Any) -> None:
    cpus = ray.cluster_resources().get("CPU", 0.0)
    if cpus < 1:
        raise WorkerError(f"the Ray cluster has {cpus:g} CPUs; every trial needs 1")


def _tune(order: _Order, live: LiveProgress | None, restarts: dict[str, int], replacements: int) -> dict[str, str]:
    """Run the trials through Ray Tune; return those that were lost for good, and why."""
    from ray import tune

    quiet = {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "TUNE_PRINT_ALL_TRIAL_ERRORS": "0", "RAY_AIR_NEW_OUTPUT": "0"}
    with environment(quiet):
        trainable = tune.with_resources(tune.with_parameters(_run_trial, order=order), {"cpu": 1})
        tuner = tune.Tuner(
            trainable,
            param_space={"trial": tune.grid_search(list(order.trials))},
            tune_config=tune.TuneConfig(reuse_actors=True),  # the next trial finds its imports done
            run_config=tune.RunConfig(
                name="trials",
                storage_path=str(Path(order.folder) / STORAGE),
                failure_config=tune.FailureConfig(max_failures=replacements),
                callbacks=[_observer(live, restarts)],
                verbose=0,
            ),
        )
        results = tuner.fit()
    lost = {}
    for result in results:
        if result.error is not None:
            name = (result.config or {}).get("trial", "")
            reason = [line for line in str(result.error).splitlines() if line.strip()]
            lost[name] = reason[-1].strip() if reason else type(result.error).__name__
    return lost


def _observer(live: LiveProgress | None, restarts: dict[str, int]) -> Any:
    """A callback of Tune, in this process: shows progress and counts restarts."""
    from ray import tune

    class Observer(tune.Callback):
        def __init__(self, live: LiveProgress | None, restarts: dict[str, int]) -> None:
            self.live, self.restarts = live, restarts
            self.latest: dict[str, Mapping[str, Any]] = {}

        def __getstate__(self) -> dict[str, Any]:
            return {"live": None, "restarts": {}, "latest": {}}  # Tune stores its callbacks; a display stays

        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
            self.latest[trial.config["trial"]] = result
            if self.live is not None and "steps_per_s" in result:
                running = [t.config["trial"] for t in trials if t.status == "RUNNING"]
                self.live.write(_together(self.latest, running))

        def on_trial_recover(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            name = trial.config["trial"]
            self.restarts[name] = self.restarts.get(name, 0) + 1
            if self.live is not None:
                self.live.say(f"note: trial {name} was lost and is started again")

    return Observer(live, restarts)


def _together(latest: Mapping[str, Mapping[str, Any]], running: Sequence[str]) -> dict[str, Any]:
    """One record for the display: steps of all trials, and the best utility and score so far."""
    record: dict[str, Any] = {
        "steps": sum(int(result.get("steps", 0)) for result in latest.values()),
        "steps_per_s": sum(latest[name].get("steps_per_s", 0.0) for name in running if name in latest),
    }
    for name in ("utility", "score"):
        values = [result[name] for result in latest.values() if result.get(name) is not None]
        if values:
            record[name] = max(values)
    return record


def _row(folder: Path, trial: Trial, lost: str | None, restarts: int) -> dict[str, Any]:
    """What became of a trial, read from its folder."""
    place = folder / TRIALS / trial.name
    row: dict[str, Any] = {
        "name": trial.name,
        "options": dict(trial.options),
        "status": "unfinished",
        "score": None,
        "utility": None,
        "steps": 0,
        "seconds": 0.0,
        "restarts": restarts,
        "error": lost,
        "warnings": [],
    }
    if (place / CHECKPOINT).exists():
        state, meta = read_checkpoint(place / CHECKPOINT)
        row |= {
            "score": meta["best_score"],
            "utility": meta["record"].get("utility"),
            "steps": int(state["counters"][1]),
            "seconds": round(float(state["seconds"]), 3),
            "warnings": meta["warnings"],
        }
    if (place / OUTCOME).exists():
        outcome = json.loads((place / OUTCOME).read_text(encoding="utf-8"))
        row |= {"status": outcome["status"], "error": outcome.get("error")}
    elif lost is not None:
        row["status"] = "lost"
    return row


def _best(rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    scored = [row for row in rows if row["score"] is not None]
    return max(scored, key=lambda row: row["score"]) if scored else None


def _notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    notes = [
        f"trial {r['name']} {r['status']}: {r['error'] or 'stopped early'}" for r in rows if r["status"] != "finished"
    ]
    return notes + [
        f"trial {r['name']} was lost and started again, {r['restarts']} times" for r in rows if r["restarts"]
    ]
