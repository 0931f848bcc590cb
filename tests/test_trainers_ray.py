"""Training on Ray: sweeps through Tune, data-parallel gradients through Train, and what all ways share."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import ray_support
import toy_lanes
from brownout import trace_digest
from brownout.errors import ArtefactError, FaultError, PolicyError, WorkerError
from brownout.scenarios.loading import LIBRARY, load_scenario
from brownout.trainers import ray_session
from brownout.trainers.api import Task, train
from brownout.trainers.artefact import load_policy
from brownout.trainers.distributed import ray_trace_digest, train_side_by_side, train_workers
from brownout.trainers.ppo import PPOConfig
from brownout.trainers.training import read_checkpoint, train_loop
from ray_support import ToyTask
from toy_lanes import ToyLanes

CONFIG = PPOConfig(lanes=32, rollout_steps=16, minibatch=256, hidden=(16, 16), steps=12 * 512)


@pytest.fixture
def cluster(ray_cluster: None) -> Iterator[None]:
    """Workers cannot import the modules of the tests, so these travel by value."""
    from ray import cloudpickle

    for module in (ray_support, toy_lanes):
        cloudpickle.register_pickle_by_value(module)
    yield
    for module in (ray_support, toy_lanes):
        cloudpickle.unregister_pickle_by_value(module)


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


# ---------------------------------------------------------------- side by side


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_trials_run_side_by_side_and_the_best_is_kept(cluster: None, tmp_path: Path) -> None:
    out = tmp_path / "run"
    task = ToyTask(str(tmp_path), "kill", after=300)  # in iteration 18 of the trial that comes there first
    config = replace(CONFIG, steps=20 * 512)
    sweep: dict[str, Any] = {"learning_rate": [1e-9, 1e-2]}
    result = train_side_by_side(task, config, 1, sweep, out=out, evaluate_every=5, timeout_s=100)
    table = json.loads((out / "sweep.json").read_text())
    rows = {row["name"]: row for row in table["trials"]}
    assert set(rows) == {"learning_rate=1e-09,seed=0", "learning_rate=0.01,seed=0"}
    assert all(row["status"] == "finished" and row["steps"] == config.steps for row in rows.values())
    best, worst = rows["learning_rate=0.01,seed=0"], rows["learning_rate=1e-09,seed=0"]
    assert table["best"] == best["name"]
    assert best["score"] > worst["score"] + 0.1
    assert result.best_score == best["score"]
    assert task.score(load_policy(out)) == pytest.approx(best["score"])
    assert json.loads((out / "config.json").read_text())["learning_rate"] == 1e-2
    # One process was killed; Tune started its trial again, which went on from its checkpoint.
    assert (tmp_path / "kill-0").exists()
    assert sorted(row["restarts"] for row in rows.values()) == [0, 1]
    assert any("was lost and started again" in warning for warning in result.warnings)
    for row in rows.values():
        assert [r["iteration"] for r in records(out / "trials" / row["name"])] == list(range(20))
    assert not (out / "ray-tune").exists()

    # Resumed with one more value, one of which cannot work: only the new trials run.
    times = {name: (out / "trials" / name / "trial.json").stat().st_mtime_ns for name in rows}
    sweep["learning_rate"].append(1e30)
    again = train_side_by_side(task, config, 1, sweep, out=out, resume=True, evaluate_every=5, timeout_s=100)
    assert {name: (out / "trials" / name / "trial.json").stat().st_mtime_ns for name in rows} == times
    failed = json.loads((out / "sweep.json").read_text())["trials"][-1]
    assert failed["status"] == "failed"
    assert "not finite" in failed["error"]
    assert again.best_score == result.best_score
    assert any("learning_rate=1e+30" in warning and "not finite" in warning for warning in again.warnings)


def test_resume_refuses_trials_of_other_options_before_it_starts_ray(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"trials: no such folder; there are no trials to resume"):
        train_side_by_side(ToyTask(), CONFIG, 2, out=tmp_path, resume=True)
    place = tmp_path / "trials" / "seed=0"
    place.mkdir(parents=True)
    outcome = {
        "status": "finished",
        "config": {**CONFIG.__dict__, "hidden": [16, 16], "gamma": 0.5},
        "task": {"scenario": "", "profile": "", "intensity": 1.0},
    }
    (place / "trial.json").write_text(json.dumps(outcome))
    with pytest.raises(ArtefactError, match=r"seed=0.*other options: gamma was 0.5, now 1.0"):
        train_side_by_side(ToyTask(), CONFIG, 2, out=tmp_path, resume=True)
    (place / "trial.json").write_text("{")
    with pytest.raises(ArtefactError, match=r"trial.json: damaged"):
        train_side_by_side(ToyTask(), CONFIG, 2, out=tmp_path, resume=True)


@pytest.mark.ray
def test_a_sweep_without_any_result_is_an_error(cluster: None, tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match=r"none of 1 trials came to a result: .*not finite"):
        train_side_by_side(ToyTask(), CONFIG, 1, {"learning_rate": [1e30]}, out=tmp_path, timeout_s=100)
    assert json.loads((tmp_path / "sweep.json").read_text())["best"] is None


# ---------------------------------------------------------------- data parallel


class Pair:
    """Two ranks as threads of this process, which average through a barrier."""

    size = 2

    def __init__(self, rank: int, shared: list[Any], barrier: threading.Barrier) -> None:
        self.rank, self.shared, self.barrier = rank, shared, barrier

    def mean_(self, arrays: Sequence[NDArray[Any]]) -> None:
        self.shared[self.rank] = [array.copy() for array in arrays]
        self.barrier.wait(timeout=60)
        for array, one, two in zip(arrays, *self.shared, strict=True):
            array[...] = (one + two) / 2
        self.barrier.wait(timeout=60)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_ranks_are_repeatable_learn_and_survive_a_kill(cluster: None, tmp_path: Path) -> None:
    out = tmp_path / "run"
    config = replace(CONFIG, learning_rate=1e-2, steps=10 * 1024)
    result = train_workers(ToyTask(), config, 2, out=out, evaluate_every=4, timeout_s=100)
    assert (result.iterations, result.steps) == (10, config.steps)
    assert ToyTask().score(load_policy(out)) == pytest.approx(result.best_score)
    assert [r["iteration"] for r in records(out)] == list(range(10))
    assert not (out / "ray-train").exists()
    # Bit for bit what two threads of this process train.
    shared, barrier = [None, None], threading.Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        pairs = [Pair(rank, shared, barrier) for rank in range(2)]
        here = list(pool.map(lambda pair: train_loop(ToyLanes, config, comm=pair).policy.weights, pairs))
    last = load_policy(out / "last").weights
    for name, weight in last.items():
        np.testing.assert_array_equal(weight, here[0][name], err_msg=name)
        np.testing.assert_array_equal(weight, here[1][name], err_msg=name)

    # Resumed, and killed at the end of iteration 17. Such short iterations may outrun Ray's book-keeping, so
    # the new group starts from the checkpoint of iteration 15 or from the one before, where this call began.
    task = ToyTask(str(tmp_path), "kill", after=16 * 8)
    longer = replace(config, steps=20 * 1024)
    result = train_workers(task, longer, 2, out=out, resume=True, evaluate_every=4, checkpoint_every=5, timeout_s=100)
    assert (tmp_path / "kill-0").exists()
    assert (result.iterations, result.steps) == (20, longer.steps)
    assert [r["iteration"] for r in records(out)] == list(range(20))
    assert re.match(r"workers were lost after iteration 1\d; again from iteration 1[05]", result.warnings[0])
    assert records(out)[-1]["utility"] > records(out)[0]["utility"] + 0.1


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_error_in_a_rank_is_typed_and_leaves_a_checkpoint(cluster: None, tmp_path: Path) -> None:
    task = ToyTask(str(tmp_path), "nan", times=2, after=16 * 3)
    with pytest.raises(WorkerError, match=r"iteration 2: reward nan in lane .*checkpoint.npz is usable: .* resume"):
        train_workers(task, CONFIG, 1, out=tmp_path / "run", checkpoint_every=1, timeout_s=100)
    assert not (tmp_path / "nan-1").exists()  # not tried again
    assert int(read_checkpoint(tmp_path / "run" / "checkpoint.npz")[0]["counters"][0]) == 1


def test_nothing_to_resume_is_an_error(ray_cluster: None, tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"checkpoint.npz: no such file"):
        train_workers(ToyTask(), CONFIG, 2, out=tmp_path, resume=True)


# ---------------------------------------------------------------- all ways


def test_the_digest_does_not_depend_on_the_number_of_workers(ray_cluster: None) -> None:
    alone = trace_digest("textbook", 24, lanes=8)
    assert ray_trace_digest("textbook", 24, workers=1, timeout_s=100) == alone
    assert ray_trace_digest("textbook", 24, workers=2, timeout_s=100) == alone
    assert trace_digest("textbook", 24, seed=1, lanes=8) != alone


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 2, "collectors": 2}, "workers and collectors: choose one way"),
        ({"seeds": 2, "collectors": 1}, "collectors and seeds: choose one way"),
        ({"workers": 2, "callback": lambda record, trainer: None}, "callback: the iterations of workers run in other"),
        ({"sweep": {"gama": [1]}}, "unknown training option 'gama'; did you mean 'gamma'"),
    ],
)
def test_train_refuses_what_does_not_go_together(options: Any, message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        train("textbook", **options)


@pytest.mark.ray
def test_train_on_a_real_scenario_with_collectors(ray_cluster: None, tmp_path: Path) -> None:
    config = PPOConfig(lanes=16, rollout_steps=16, minibatch=128, steps=512, hidden=(8,))
    result = train("textbook", config=config, collectors=2, out=tmp_path, timeout_s=100)
    assert result.steps == 512
    policy = load_policy(tmp_path)
    policy.check(Task(load_scenario("textbook")).make_env(1))
    assert policy.card is not None
    assert policy.card.training["steps"] == 512


def test_a_dead_address_is_refused_at_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(WorkerError, match=rf"address '{address}': no Ray cluster there .*allowed: host:port"):
        ray_session._refuse_silent_host(address)


def test_an_error_from_a_worker_keeps_its_type() -> None:
    class Remote(Exception):
        def __init__(self, cause: BaseException) -> None:
            self.cause = cause

    assert isinstance(ray_session.typed(Remote(FaultError("x")), "rank 1"), FaultError)
    error = ray_session.typed(Remote(KeyError("x")), "rank 1")
    assert isinstance(error, WorkerError)
    assert str(error) == "rank 1: KeyError: 'x'"


def test_workers_find_the_package_where_this_process_found_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["/other", "/src"]))
    monkeypatch.setattr(ray_session, "__file__", "/src/brownout/trainers/ray_session.py")
    assert ray_session.worker_env()["PYTHONPATH"] == os.pathsep.join(["/other", "/src"])
    monkeypatch.delenv("PYTHONPATH")
    assert ray_session.worker_env()["PYTHONPATH"] == "/src"
    for installed in ("/venv/lib/python3.11/site-packages/brownout/trainers/x.py", "/checkout/trainers/x.py"):
        monkeypatch.setattr(ray_session, "__file__", installed)
        assert "PYTHONPATH" not in ray_session.worker_env()
    assert ray_session.worker_env()["OMP_NUM_THREADS"] == "1"


def test_a_silent_process_ends_itself() -> None:
    code = (
        "import time; from brownout.trainers.ray_session import Place\n"
        "place = Place(None, '.', 0.3)\n"
        "place.awake(); place.leave(); time.sleep(0.6); print('awake', flush=True)\n"
        "place.awake(); time.sleep(60); print('never')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stdout == "awake\n"
    assert "Timeout" in done.stderr


def test_a_relative_scenario_path_survives_another_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(LIBRARY / "textbook.yaml", tmp_path / "mine.yaml")
    monkeypatch.chdir(tmp_path)
    scenario = load_scenario("mine.yaml")
    placed = ray_session.Place.of(Task(scenario), 1.0)
    assert placed.task.scenario.path == tmp_path / "mine.yaml"
    assert scenario.path == Path("mine.yaml")
    assert placed.task.scenario.hash == scenario.hash
