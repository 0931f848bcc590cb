"""Imitation: the pupil becomes like its teacher, values are learned meanwhile, and all of it bit for bit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import brownout
from brownout.envs.cores import make_core
from brownout.errors import ArtefactError, PolicyError
from brownout.scenarios import load_scenario
from brownout.trainers.api import Task
from brownout.trainers.artefact import load_policy, read_arrays
from brownout.trainers.baselines import make_baseline
from brownout.trainers.curriculum import Orders
from brownout.trainers.evaluation import play
from brownout.trainers.imitation import Lesson, Teacher
from brownout.trainers.ppo import Learner, PPOConfig
from brownout.trainers.rollout import Collector, Rollout
from brownout.trainers.training import Trainer
from toy_lanes import ToyLanes
from workflow_support import tiny_workflow

# time-outs whose work may be done, and amounts that are wrong without a sign: the teacher reads back and checks
TINY = load_scenario(
    tiny_workflow(
        {"fault": "timeout", "after_s": 20, "applied": 0.5, "when": "rate(0.1)"},
        {"fault": "outlier", "when": "rate(0.2)"},
        limits__max_steps=24,
    )
)
SMALL = PPOConfig(
    lanes=64, rollout_steps=16, minibatch=256, hidden=(16, 16), steps=10 * 1024, imitate="playbook", imitate_share=0.5,
    imitate_weight="0.2:0@0.8",
)  # fmt: skip
MEASURED = ("seconds", "steps_per_s")


def trained(out: Path | None = None, config: PPOConfig = SMALL, **options: Any) -> tuple[Any, list[dict[str, Any]]]:
    """The result of a training on the tiny workflow, and its records without what is measured in seconds."""
    told: list[dict[str, Any]] = []

    def note(record: dict[str, Any], trainer: Trainer) -> bool:
        told.append({name: value for name, value in record.items() if name not in MEASURED})
        return len(told) == options.get("stop_after")

    more = {name: value for name, value in options.items() if name != "stop_after"}
    return brownout.train(TINY, config=config, out=out, callback=note, evaluate_every=1000, **more), told


# ---------------------------------------------------------------- what is learned


def test_the_pupil_does_what_its_teacher_does() -> None:
    """On its own episodes, where plain cloning drifts away; without a teacher it learns none of it so soon."""
    config = replace(SMALL, lanes=256, minibatch=512, hidden=(32, 32), steps=80_000, imitate_share=1.0)
    policy = brownout.train(TINY, config=config, evaluate_every=1000).policy
    core = make_core(TINY, 256, split="eval")
    teacher = make_baseline("playbook", core)
    core.seed(core.all_lanes, range(256))
    core.begin(core.all_lanes)
    same, asked, running = 0, 0, np.ones(256, np.bool_)
    while running.any():
        actions = policy.act_batch(core.observe(), core.mask())
        same += int((actions == teacher.act_batch(core.observe(), core.mask()))[running].sum())
        asked += int(running.sum())
        core.advance(actions, np.flatnonzero(~running))
        running &= ~(core.terminated | core.truncated)
    assert same / asked > 0.98

    core = make_core(TINY, 128, split="eval")
    mine, theirs = (play(actor, core, 1000) for actor in (policy, make_baseline("playbook", core)))
    assert (mine.outcome == 0).mean() == pytest.approx((theirs.outcome == 0).mean(), abs=0.01)
    assert (theirs.outcome == 0).mean() > 0.95
    alone = brownout.train(TINY, config=replace(config, imitate=""), evaluate_every=1000).policy
    assert (play(alone, core, 1000).outcome == 0).mean() < 0.8


def test_reward_moves_the_value_net_alone_as_long_as_the_policy_only_imitates() -> None:
    env = Task(TINY).make_env(64)
    config = replace(SMALL, max_grad_norm=1e9)  # a gradient that is cut would be cut in both nets alike
    columns = len(env.core.observation_columns)
    acting = Learner(config, columns, 18).policy()
    rollout = Collector.of(env, config).collect(acting, 0, Orders(lesson=Lesson(1.0, True, 1.0)))
    weights = []
    for worth in (1.0, -3.0):
        learner = Learner(config, columns, 18)
        paid = replace(rollout, advantages=rollout.advantages * worth, returns=rollout.returns * worth)
        told = learner.update(paid, 1, entropy=0.5, lesson=Lesson(1.0, True, 1.0))
        assert set(told) == {
            "value_loss", "entropy", "imitation_loss", "agreement", "gradient_norm", "explained_variance",
        }  # fmt: skip
        weights.append(learner.policy().weights)
    one, other = weights
    moved = {name for name in one if (one[name] != other[name]).any()}
    assert moved == {name for name in one if name.startswith("value.")}
    assert (one["policy.0.weight"] != acting.weights["policy.0.weight"]).any()


def test_values_are_learned_before_the_policy_is_moved_by_them() -> None:
    config = replace(SMALL, lanes=128, minibatch=512, steps=40 * 2048)
    told: list[dict[str, Any]] = []
    calm = load_scenario("refund", ["reward.wrong_answer=-1"])  # what is dear and rare tells little in a small batch
    brownout.train(calm, config=config, evaluate_every=1000, callback=lambda r, t: told.append(r))
    explained = [record["explained_variance"] for record in told[1:20]]
    assert explained[0] < 0.0
    assert np.mean(explained[-5:]) > 0.15
    assert ["kl" in record for record in told[1:]] == [False] * 19 + [True] * 20


# ---------------------------------------------------------------- when the teacher speaks


def test_a_lesson_has_three_parts() -> None:
    config = replace(SMALL, imitate_weight="0.75:0@0.75")
    lessons = [Lesson.at(config, share) for share in (0.0, 0.25, 0.5, 0.625, 0.75, 1.0)]
    assert lessons == [
        Lesson(1.0, True, 1.0), Lesson(0.5, True, 1.0), Lesson(0.0, False, 0.25), Lesson(0.0, False, 0.125), None, None,
    ]  # fmt: skip
    assert Lesson.at(PPOConfig(), 0.0) is None


def test_the_teacher_acts_in_the_share_of_steps_that_the_lesson_says() -> None:
    env = Task(TINY).make_env(64)
    collector = Collector.of(env, SMALL)
    policy = Learner(SMALL, len(env.core.observation_columns), 18).policy()
    shares = []
    for i, acts in enumerate((1.0, 0.5, 0.0)):
        rollout = collector.collect(policy, i, Orders(lesson=Lesson(acts, True, 1.0)))
        assert rollout.masks.reshape(-1, 18)[np.arange(1024), rollout.advice.ravel()].all(), "advice is legal"
        shares.append((rollout.actions == rollout.advice).mean())
    assert shares[0] == 1.0
    assert 0.45 < shares[1] < 0.75
    assert shares[2] < 0.35
    assert collector.collect(policy, 3).advice.size == 0, "nobody was asked"


# ---------------------------------------------------------------- bits, files, records


def test_a_lesson_is_the_same_every_time_and_over_a_resume(tmp_path: Path) -> None:
    whole, told = trained(tmp_path / "whole")
    for cut in (3, 6, 9):  # while imitating, while the advice fades, and after it
        folder = tmp_path / f"cut{cut}"
        _, first = trained(folder, stop_after=cut)
        _, second = trained(folder, resume=True)
        assert (len(first), len(second)) == (cut, 10 - cut)
        assert json.dumps(first + second) == json.dumps(told)
        one, other = (read_arrays(where / "checkpoint.npz") for where in (tmp_path / "whole", folder))
        for name in one:
            if name not in ("seconds", "meta.json"):
                np.testing.assert_array_equal(one[name], other[name], err_msg=name)
    other = trained(config=replace(SMALL, imitate="happy-path"))[0]
    assert (other.policy.weights["policy.0.weight"] != whole.policy.weights["policy.0.weight"]).any()
    with pytest.raises(ArtefactError, match="imitate was 'playbook', now 'happy-path'"):
        trained(tmp_path / "whole", replace(SMALL, imitate="happy-path"), resume=True)


def test_the_records_and_the_card_tell_who_taught(tmp_path: Path) -> None:
    _, told = trained(tmp_path)
    assert [r["imitation"]["acts"] for r in told[:5]] == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])
    assert "imitation" not in told[-1]
    assert told[4]["agreement"] > told[1]["agreement"]
    card = load_policy(tmp_path).card
    assert card is not None
    assert card.training["imitation"] == {
        "imitate": "playbook", "imitate_share": 0.5, "imitate_weight": "0.2:0@0.8",
    }  # fmt: skip


def test_a_trained_policy_can_teach(tmp_path: Path) -> None:
    trained(tmp_path / "first")
    core = make_core(TINY, 32)
    core.seed(core.all_lanes, range(32))
    core.begin(core.all_lanes)
    teacher = Teacher(str(tmp_path / "first"), SimpleNamespace(unwrapped=SimpleNamespace(core=core)))
    expected = load_policy(tmp_path / "first").act_batch(core.observe(), core.mask())
    np.testing.assert_array_equal(teacher.advise(core.observe(), core.mask()), expected)
    result, told = trained(config=replace(SMALL, imitate=""), imitate=tmp_path / "first")
    assert "agreement" in told[1]
    assert result.steps == SMALL.steps


@pytest.mark.parametrize("scenario", ["support-desk", "textbook"])
def test_the_router_has_teachers_too(scenario: str) -> None:
    config = replace(SMALL, steps=30 * 1024, imitate_share=1.0)
    told: list[dict[str, Any]] = []
    brownout.train(
        scenario, config=config, imitate="cheapest-first", evaluate_every=1000, callback=lambda r, t: told.append(r)
    )
    assert told[-1]["agreement"] > 0.8


# ---------------------------------------------------------------- refusals


def test_a_teacher_that_is_not_there_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    for name, words in (
        ("play-book", "imitate: no baseline 'play-book'; did you mean 'playbook'"),
        ("baseline:nobody", "imitate: no baseline 'nobody'"),
        ("runs:nothing", "imitate: no policy 'runs:nothing'"),
    ):
        with pytest.raises(PolicyError, match=words):
            brownout.train("refund", steps=1000, imitate=name, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    brownout.train("textbook", steps=1000, out=tmp_path / "other", config=replace(SMALL, imitate=""))
    with pytest.raises(ArtefactError, match="does not fit"):
        brownout.train("refund", steps=1000, imitate=tmp_path / "other")
    with pytest.raises(PolicyError, match="imitate: 3, must be a name or a folder"):
        PPOConfig.of({"imitate": 3})
    with pytest.raises(PolicyError, match="imitate_weight: got '1:0'"):
        PPOConfig(imitate_weight="1:0")


def test_lanes_without_baselines_have_no_teacher() -> None:
    with pytest.raises(PolicyError, match="no baselines to imitate"):
        Collector.of(ToyLanes(4), SMALL)
    collector, lesson = Collector(ToyLanes(4), steps=4), Lesson(1.0, True, 1.0)
    with pytest.raises(PolicyError, match="has no teacher"):
        collector.collect(Learner(SMALL, 3, 3).policy(), 0, Orders(lesson=lesson))


# ---------------------------------------------------------------- Ray


class Both:
    """Two collectors of this process, in the place of two actors."""

    def __init__(self, task: Task) -> None:
        self.parts = [Collector.of(task.make_env(32), SMALL, rank) for rank in (0, 1)]

    def collect(self, policy: Any, iteration: int, orders: Any = None) -> Rollout:
        return Rollout.concatenate([part.collect(policy, iteration, orders) for part in self.parts])

    def get_state(self) -> dict[str, Any]:
        return {}

    def set_state(self, state: Any) -> None: ...


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_actors_have_the_teacher_of_the_learner(ray_cluster: None) -> None:
    task = Task(TINY)
    here = Trainer(task.make_env(1), SMALL, collector=Both(task))
    mine = [here.step() for _ in range(10)]
    _, told = trained(collectors=2, timeout_s=100)
    names = ("utility", "agreement", "imitation_loss", "imitation")
    assert [[r.get(n) for n in names] for r in mine] == [[r.get(n) for n in names] for r in told]
