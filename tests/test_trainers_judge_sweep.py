"""The sweep of a judge's error rates, small: figures that can be checked, break-even rates, errors, the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brownout import cli
from brownout.envs.router_core import RouterCore
from brownout.errors import BrownoutError
from brownout.trainers.baselines import Desk, One
from brownout.trainers.evaluation import play
from brownout.trainers.judge_sweep import JudgeSweep, _bisect, best_single, judge_sweep, opening_shares, with_rates
from brownout.trainers.ppo import PPOConfig
from brownout.trainers.study_pictures import draw_judge_sweep
from router_support import tiny

SMALL = PPOConfig(lanes=64, rollout_steps=16, minibatch=128, entropy=0.1)


def bet(**judge: Any) -> dict[str, Any]:
    """`cheap` is right more often than not at an eightieth of the price of `dear`, which is always right."""
    data = tiny(person=None, repair=None)
    data["portfolio"] = {
        "cheap": {"family": "a", "skill": 0.3, "cost_usd": 0.01, "latency_s": 1.0, "max_calls": 1},
        "dear": {"family": "b", "skill": 50.0, "cost_usd": 0.8, "latency_s": 1.0, "max_calls": 1},
    }
    data["judge"] = {"true_positive": 1.0, "false_positive": 0.1, "cost_usd": 0.0, "latency_s": 0.0, **judge}
    data["reward"] = {"accuracy": 1.0, "per_usd": 1.0, "per_s": 0.0, "wrong_answer": -2.0}
    return data


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> tuple[JudgeSweep, Path]:
    out = tmp_path_factory.mktemp("policies")
    found = judge_sweep(bet(), [0.0, 0.9], steps=60_000, seeds=1, episodes=800, config=SMALL, profile="clean", out=out)
    return found, out


def test_the_rules_at_each_rate_are_what_arithmetic_says(sweep: tuple[JudgeSweep, Path]) -> None:
    """With p = P(cheap right): cheap-first is worth p + .2 (1-p)(1-f) - 2 (1-p) f - .01, dear alone .2."""
    found, _ = sweep
    assert found.single == "dear"
    core = RouterCore(bet(), 1)
    p = float(core.strength[0])
    for point in found.points:
        f = point.false_positive
        expected = p + 0.2 * (1 - p) * (1 - f) - 2.0 * (1 - p) * f - 0.01
        row = point.row("cheapest-first")
        assert abs(row.utility.value - expected) < 2.3 * row.utility.half_width
        assert point.row("best-single").utility.value == pytest.approx(0.2)
        assert row.against is not None
        assert row.against.value == pytest.approx(row.utility.value - 0.2)


def test_the_break_even_rate_is_what_arithmetic_says(sweep: tuple[JudgeSweep, Path]) -> None:
    found, _ = sweep
    p = float(RouterCore(bet(), 1).strength[0])
    exact = (p + (1 - p) * 0.2 - 0.21) / (2.2 * (1 - p))
    even = found.break_even[0]
    assert even.rate is not None
    assert even.low is not None
    assert even.high is not None
    assert even.low < even.rate < even.high
    assert even.low - 0.02 < exact < even.high + 0.02


def test_the_trained_policy_turns_from_cheap_to_strong(sweep: tuple[JudgeSweep, Path]) -> None:
    found, _ = sweep
    first, last = found.points
    assert (first.starts_cheap, last.starts_cheap) == (1.0, 0.0)
    turn = found.break_even[2]
    assert (turn.low, turn.high) == (0.0, 0.9)
    for point in found.points:
        difference = point.row("trained").against
        assert difference is not None
        assert difference.high >= 0.0, "it never falls below the best single configuration by more than its interval"


def test_policies_are_kept_and_the_picture_is_drawn(sweep: tuple[JudgeSweep, Path], tmp_path: Path) -> None:
    found, out = sweep
    assert sorted(path.name for path in out.iterdir()) == ["fp-0-tp-1", "fp-0.9-tp-1"]
    picture = draw_judge_sweep(found, tmp_path / "sweep.png")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_openings_are_told_apart() -> None:
    core = RouterCore(bet(), 1)
    launch = {name: core.action_names.index(f"launch:{name}") for name in ("cheap", "dear")}
    wait, abstain = core.action_names.index("wait"), core.action_names.index("abstain")

    class Opening:
        def __init__(self, *actions: int) -> None:
            self.actions = actions

        def act_batch(self, observations: Any, mask: Any, uniforms: Any = None) -> Any:
            launched = observations[:, [c.name for c in core.observation_columns].index("cheap.launched")]
            launched = launched + observations[:, [c.name for c in core.observation_columns].index("dear.launched")]
            ready = np.asarray(mask)[:, core.action_names.index("submit")]
            script = np.array([*self.actions, wait, wait])
            return np.where(ready, core.action_names.index("submit"), script[launched.astype(int)])

    for actions, kind, cheap in (
        ([launch["cheap"]], "cheap", 1.0), ([launch["dear"]], "strong", 0.0),
        ([launch["cheap"], launch["dear"]], "parallel", 1.0), ([launch["dear"], launch["cheap"]], "parallel", 0.0),
        ([abstain], "none", 0.0),
    ):  # fmt: skip
        kinds, first, starts_cheap = opening_shares(play(Opening(*actions), core, 20), core, single=1)
        assert kinds == {k: float(k == kind) for k in ("cheap", "strong", "parallel", "none")}
        assert first == {core.action_names[actions[0]]: 1.0}
        assert starts_cheap == cheap


def test_the_best_single_configuration_is_the_best_of_all() -> None:
    core = RouterCore("support-desk", 256, split="train")
    utilities = [play(One(Desk(core), core, k), core, 2000).utility.mean() for k in range(core.num_configs)]
    chosen = best_single(core.spec, "production")
    assert utilities[chosen] >= max(utilities) - 0.02


def test_bisection_finds_a_falling_zero() -> None:
    assert _bisect(lambda part: 0.3 - part / 128) == pytest.approx(0.3)
    assert _bisect(lambda part: -1.0) is None
    assert _bisect(lambda part: 1.0) is None


def test_one_of_several_judges_is_changed_alone() -> None:
    scenario: Any = RouterCore("patch-review", 1).spec
    changed = with_rates(scenario, "tests", 0.4, 0.9)
    assert (changed.panel["tests"].false_positive, changed.panel["tests"].true_positive) == (0.4, 0.9)
    assert changed.panel["reviewer"] == scenario.panel["reviewer"]
    assert changed.panel["tests"].correlation == scenario.panel["tests"].correlation


@pytest.mark.parametrize(
    ("scenario", "options", "said"),
    [
        ("patch-review", {}, "several judges; say which: reviewer, tests, audit"),
        ("patch-review", {"judge": "nobody"}, "no judge 'nobody'; allowed: reviewer"),
        ("deep-research", {}, "no false-positive rate"),
        (bet(), {"false_positive": [0.1, 1.2]}, "false_positive: got 1.2; allowed: numbers from 0 to 1"),
        (bet(), {"false_positive": []}, "false_positive: got nothing"),
        (bet(), {"seeds": 0}, "seeds: got 0"),
    ],
)
def test_what_cannot_be_swept_is_refused(scenario: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(BrownoutError, match=said):
        judge_sweep(scenario, **options)


def test_the_command_prints_a_table_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bet.yaml"
    import yaml

    path.write_text(yaml.safe_dump(bet()))
    common = ["judges", str(path), "--false-positive", "0.1", "--steps", "2048", "--seeds", "1", "--episodes", "100",
              "--profile", "clean"]  # fmt: skip
    assert cli.main([*common, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["single"] == "dear"
    assert [row["policy"] for row in data["points"][0]["rows"]] == [
        "trained", "cheapest-first", "strongest-first", "best-single",
    ]  # fmt: skip
    assert cli.main([*common, "--true-positive", "0.9,1", "--picture", str(tmp_path / "s.png")]) == 0
    text = capsys.readouterr().out
    assert "dear alone" in text
    assert "cheapest-first falls below the best single configuration (right accepted 0.9)" in text
    assert (tmp_path / "s.png").stat().st_size > 10_000
    assert cli.main(["judges", str(path), "--false-positive", "some"]) == 2


@pytest.mark.ray
@pytest.mark.slow
def test_ray_workers_give_the_same_figures(ray_cluster: object) -> None:
    options: dict[str, Any] = {"steps": 2048, "seeds": 1, "episodes": 100, "config": SMALL, "profile": "clean"}
    told: list[float] = []
    there = judge_sweep(bet(), [0.1, 0.6], **options, workers=2, progress=lambda p: told.append(p.false_positive))
    here = judge_sweep(bet(), [0.1, 0.6], **options)
    assert there.to_dict() == here.to_dict()
    assert told == [0.1, 0.6]
