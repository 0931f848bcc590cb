"""The training loop: records, files, exact resume, recovery, best policy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from brownout.errors import ArtefactError, WorkerError
from brownout.trainers.artefact import load_policy, read_arrays
from brownout.trainers.policy import Policy
from brownout.trainers.ppo import PPOConfig
from brownout.trainers.rollout import Collector, Rollout
from brownout.trainers.training import Trainer, train_loop
from test_trainers_ppo import greedy_utility
from toy_lanes import ToyLanes

CONFIG = PPOConfig(lanes=64, rollout_steps=16, minibatch=256, hidden=(16, 16), steps=10 * 1024)


def after(iterations: int) -> Any:
    return lambda record, trainer: trainer.iteration >= iterations


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_five_and_five_iterations_equal_ten_bit_for_bit(tmp_path: Path) -> None:
    whole = train_loop(ToyLanes, CONFIG, out=tmp_path / "whole")
    first = train_loop(ToyLanes, CONFIG, out=tmp_path / "parts", callback=after(5))
    assert (first.iterations, whole.iterations) == (5, 10)
    second = train_loop(ToyLanes, CONFIG, out=tmp_path / "parts", resume=True)
    assert second.iterations == 10
    one, two = (read_arrays(tmp_path / name / "checkpoint.npz") for name in ("whole", "parts"))
    assert one.keys() == two.keys()
    assert any(name.startswith("lanes.env.") for name in one)
    for name in one:
        if name not in ("seconds", "meta.json"):
            np.testing.assert_array_equal(one[name], two[name], err_msg=name)
    measured = ("seconds", "steps_per_s")
    records = [
        [{k: v for k, v in record.items() if k not in measured} for record in lines(tmp_path / name)]
        for name in ("whole", "parts")
    ]
    assert records[0] == records[1]
    assert len(records[0]) == 10
    changed = first.policy.weights["policy.0.weight"] != second.policy.weights["policy.0.weight"]
    assert changed.any()


def test_the_entropy_bonus_may_end_before_the_training() -> None:
    weights: dict[float, list[float]] = {}
    for until in (1.0, 0.5):
        seen = weights[until] = []
        config = replace(CONFIG, entropy=0.5, entropy_end=0.2, entropy_until=until)
        train_loop(ToyLanes, config, callback=lambda r, t, seen=seen: seen.append(r["entropy_weight"]))
    assert weights[1.0] == pytest.approx([0.5 - 0.04 * i for i in range(10)])
    assert weights[0.5] == pytest.approx([0.5, 0.42, 0.34, 0.26, 0.18] + 5 * [0.1])


def test_records_tell_the_story_and_files_hold_it(tmp_path: Path) -> None:
    result = train_loop(ToyLanes, CONFIG, out=tmp_path)
    records = lines(tmp_path)
    assert [r["iteration"] for r in records] == list(range(10))
    assert records[-1]["steps"] == result.steps == 10 * 1024
    last = records[-1]
    for name in ("utility", "steps_per_s", "entropy", "kl", "clip_fraction", "explained_variance", "length"):
        assert np.isfinite(last[name]), name
    assert sum(last["action"].values()) == pytest.approx(1)
    assert sum(last["outcome"].values()) == pytest.approx(1)
    assert last["outcome"].keys() == {"success", "failure", "limit"}
    assert last["utility"] == pytest.approx(last["component"]["accuracy"] - last["component"]["cost_usd"])
    assert last["utility"] > records[0]["utility"]
    assert records[0]["learning_rate"] == CONFIG.learning_rate
    share = 0.9 * (1 - CONFIG.learning_rate_end)
    assert last["learning_rate"] == pytest.approx(CONFIG.learning_rate * (1 - share))
    assert json.loads((tmp_path / "config.json").read_text())["lanes"] == 64
    loaded = load_policy(tmp_path)
    np.testing.assert_array_equal(loaded.weights["policy.1.weight"], result.policy.weights["policy.1.weight"])
    assert loaded.card is not None
    assert loaded.card.training["steps"] == 10 * 1024
    assert not [p for p in tmp_path.rglob("*") if p.name.endswith(".tmp")]


def test_the_best_policy_is_kept_apart_from_the_last_and_over_a_resume(tmp_path: Path) -> None:
    scores = iter([1.0, 5.0, 2.0, 3.0, 4.0])
    seen: list[Policy] = []

    def evaluate(policy: Policy) -> float:
        seen.append(policy)
        return next(scores)

    train_loop(ToyLanes, CONFIG, out=tmp_path, evaluate_fn=evaluate, evaluate_every=2, callback=after(6))
    result = train_loop(ToyLanes, CONFIG, out=tmp_path, evaluate_fn=evaluate, evaluate_every=2, resume=True)
    assert result.best_score == 5.0
    assert len(seen) == 5
    for policy, expected in ((result.policy, seen[1]), (load_policy(tmp_path), seen[1])):
        np.testing.assert_array_equal(policy.weights["policy.0.weight"], expected.weights["policy.0.weight"])
    last = load_policy(tmp_path / "last")
    np.testing.assert_array_equal(last.weights["policy.0.weight"], seen[-1].weights["policy.0.weight"])
    assert [r.get("score") for r in lines(tmp_path)][1::2] == [1.0, 5.0, 2.0, 3.0, 4.0]


class Failing(ToyLanes):
    """Raises once, or returns NaN, in the middle of an iteration."""

    error: BaseException | None = None
    at = 16 * 4 + 5
    calls = 0

    def lane_step(self, actions: Any) -> Any:
        step = super().lane_step(actions)
        self.calls += 1
        if self.calls == self.at:
            if self.error is not None:
                raise self.error
            step.reward[:] = np.nan
        return step


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("the disk is on fire"), None])
def test_whatever_ends_a_training_leaves_a_checkpoint_that_continues_exactly(
    tmp_path: Path, error: BaseException | None
) -> None:
    def failing(lanes: int) -> Failing:
        env = Failing(lanes)
        env.error = error
        return env

    whole = train_loop(ToyLanes, CONFIG)
    if isinstance(error, KeyboardInterrupt):
        assert train_loop(failing, CONFIG, out=tmp_path).interrupted
    else:
        with pytest.raises(WorkerError if error is None else RuntimeError, match=r"reward nan|on fire"):
            train_loop(failing, CONFIG, out=tmp_path)
    assert load_policy(tmp_path).card is not None
    assert len(lines(tmp_path)) == 4
    resumed = train_loop(ToyLanes, CONFIG, out=tmp_path, resume=True)
    for name, value in whole.policy.weights.items():
        np.testing.assert_array_equal(resumed.policy.weights[name], value)
    assert [r["iteration"] for r in lines(tmp_path)] == list(range(10))


def test_checkpoints_are_written_on_the_way(tmp_path: Path) -> None:
    seen = []

    def look(record: dict[str, Any], trainer: Trainer) -> None:
        path = tmp_path / "checkpoint.npz"
        seen.append(int(read_arrays(path)["counters"][0]) if path.exists() else 0)

    train_loop(ToyLanes, CONFIG, out=tmp_path, checkpoint_every=3, callback=look)
    assert seen == [0, 0, 0, 3, 3, 3, 6, 6, 6, 9]


def test_what_cannot_be_resumed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="no such file"):
        train_loop(ToyLanes, CONFIG, out=tmp_path / "nothing", resume=True)
    with pytest.raises(ArtefactError, match="needs the run folder"):
        train_loop(ToyLanes, CONFIG, resume=True)
    train_loop(ToyLanes, CONFIG, out=tmp_path, callback=after(2))
    with pytest.raises(ArtefactError, match="epochs was 2, now 3"):
        train_loop(ToyLanes, replace(CONFIG, epochs=3), out=tmp_path, resume=True)

    class Other(ToyLanes):
        scenario = SimpleNamespace(name="toy", hash="def456")

    with pytest.raises(ArtefactError, match=r"belongs to scenario 'toy' \(abc123"):
        train_loop(Other, CONFIG, out=tmp_path, resume=True)
    path = tmp_path / "checkpoint.npz"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ArtefactError, match="cut off or altered"):
        train_loop(ToyLanes, CONFIG, out=tmp_path, resume=True)
    np.savez(path, theta=np.zeros(3))
    with pytest.raises(ArtefactError, match="not a training checkpoint"):
        train_loop(ToyLanes, CONFIG, out=tmp_path, resume=True)


def test_a_refused_resume_leaves_the_run_as_it_was(tmp_path: Path) -> None:
    train_loop(ToyLanes, CONFIG, out=tmp_path, callback=after(3))
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with pytest.raises(ArtefactError):
        train_loop(ToyLanes, replace(CONFIG, gamma=0.9), out=tmp_path, resume=True)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_a_longer_training_may_go_on_from_a_finished_one(tmp_path: Path) -> None:
    train_loop(ToyLanes, CONFIG, out=tmp_path)
    result = train_loop(ToyLanes, replace(CONFIG, steps=12 * 1024), out=tmp_path, resume=True)
    assert result.iterations == 12


class Pool:
    """Two collectors in place of one, as remote workers would be."""

    def __init__(self) -> None:
        self.parts = [Collector(ToyLanes(32), steps=16, rank=rank) for rank in (1, 2)]

    def collect(self, policy: Policy, iteration: int, orders: Any = None) -> Rollout:
        return Rollout.concatenate([part.collect(policy, iteration, orders) for part in self.parts])

    def get_state(self) -> dict[str, Any]:
        return {}

    def set_state(self, state: Any) -> None:
        assert not state


def test_rollouts_may_come_from_elsewhere() -> None:
    asked: list[int] = []

    def make_env(lanes: int) -> ToyLanes:
        asked.append(lanes)
        return ToyLanes(lanes)

    result = train_loop(make_env, replace(CONFIG, steps=40 * 1024), collector=Pool())
    assert asked == [1]
    assert greedy_utility(result.policy) > 0.65


class OneGood(ToyLanes):
    """The cheap box never fails, so a policy may settle on it at once."""

    action_names = ("launch:cheap", "launch:strong", "submit")

    def _begin(self, rows: Any) -> None:
        super()._begin(rows)
        self.chance[rows] = 1.0


def test_a_policy_that_settles_early_or_on_one_configuration_is_pointed_out() -> None:
    hasty = replace(CONFIG, entropy=0.0, learning_rate=0.01, steps=400 * 1024)
    warnings = train_loop(OneGood, hasty, callback=after(60)).warnings
    assert len(warnings) == 2, "each is said once"
    assert any("stopped exploring" in message for message in warnings)
    assert any("launch:cheap is over 99 %" in message for message in warnings)
    assert train_loop(ToyLanes, CONFIG).warnings == []


@pytest.mark.parametrize("tensorboard", [False, True])
def test_tensorboard_is_optional(tmp_path: Path, tensorboard: bool) -> None:
    if tensorboard:
        pytest.importorskip("tensorboard")
    train_loop(ToyLanes, CONFIG, out=tmp_path, callback=after(2), tensorboard=tensorboard)
    assert bool(list(tmp_path.rglob("events.out.*"))) == tensorboard


def test_progress_says_how_far_and_how_good(capsys: pytest.CaptureFixture[str]) -> None:
    train_loop(ToyLanes, CONFIG, progress=True, ceiling=0.72)
    said = capsys.readouterr().err
    assert "100%" in said
    assert "of ceiling" in said
    assert "steps/s" in said


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The loop sets torch's threads; leave them as they were."""
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_training_is_not_resumed_at_another_intensity(tmp_path: Path) -> None:
    import brownout

    options: dict[str, Any] = {"steps": 2048, "out": tmp_path, "config": PPOConfig(lanes=16, rollout_steps=16)}
    brownout.train("textbook", **options)
    with pytest.raises(ArtefactError, match=r"not to 'textbook' \(\w+, 'production x 2'\)"):
        brownout.train("textbook", **options, intensity=2.0, resume=True)
