"""What every registered environment must keep, whatever it simulates.

Parametrised over the registry and the scenario library, so that a new environment or scenario is covered as
soon as it exists.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.utils.env_match import check_environments_match
from gymnasium.vector import AutoresetMode

from brownout.envs import ENVIRONMENTS
from brownout.envs.trace import trace_digest
from brownout.errors import PolicyError
from env_cases import (
    CASES,
    FAULTY,
    Case,
    assert_same,
    batched,
    choose,
    differences,
    kind,
    label,
    scalar,
    several,
)

MODES = list(AutoresetMode)
STEPS = {1: 120, 3: 80, 64: 30}
DIGEST_EPISODES = 96

every_case = pytest.mark.parametrize("case", CASES, ids=label)
faulty_case = pytest.mark.parametrize("case", FAULTY, ids=label)
every_id = pytest.mark.parametrize("env_id", ENVIRONMENTS)
every_mode = pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)


def play(env: Any, steps: int, seed: int, action_seed: int = 0, start: Any = None) -> list[Any]:
    """Everything a batched environment returns in ``steps`` steps; with no autoreset, resets included."""
    rng = np.random.default_rng(action_seed)
    seen = [env.reset(seed=seed, options=start)]
    for _ in range(steps):
        masks = np.stack(env.call("action_masks")) if hasattr(env, "call") else env.action_masks()
        seen.append(env.step(choose(masks, rng)))
        over = seen[-1][2] | seen[-1][3]
        if env.metadata["autoreset_mode"] == AutoresetMode.DISABLED and over.any():
            seen.append(env.reset(options={"reset_mask": over.copy()}))
    return seen


def play_scalar(env: Any, steps: int, seed: int, options: Any = None) -> list[Any]:
    """Everything a scalar environment returns in ``steps`` steps over as many episodes as they take."""
    return play_scalar_from(env, env.reset(seed=seed, options=options), steps, draws=1)


def play_scalar_from(env: Any, start: Any, steps: int = 60, draws: int = 2) -> list[Any]:
    """Continue from a reset's return value, with actions drawn by the generator of seed ``draws``."""
    rng = np.random.default_rng(draws)
    seen, mask = [start], start[1]["action_mask"]
    for _ in range(steps):
        seen.append(env.step(int(choose(mask[None], rng)[0])))
        mask = seen[-1][4]["action_mask"]
        if seen[-1][2] or seen[-1][3]:
            seen.append(env.reset())
            mask = seen[-1][1]["action_mask"]
    return seen


# ---------------------------------------------------------------- registry


@every_id
def test_every_id_has_scenarios_with_and_without_faults(env_id: str) -> None:
    profiles = {profile for name, _, profile in CASES if name == env_id}
    assert {"clean", "production"} <= profiles, f"no scenario with env: {kind(env_id)}"


@every_id
def test_registered_ids_are_the_listed_ones(env_id: str) -> None:
    registered = {name for name, spec in gym.registry.items() if spec.namespace == "brownout"}
    assert registered == set(ENVIRONMENTS)
    assert gym.spec(env_id).vector_entry_point is not None


@every_case
def test_spec_survives_json(case: Case) -> None:
    """A specification sent as text to another process makes the same environment."""
    env = gym.make(case[0], scenario=case[1], profile=case[2], disable_env_checker=True)
    assert env.spec is not None
    again = EnvSpec.from_json(env.spec.to_json())
    assert again == env.spec
    made = gym.make(again)
    assert_same(play_scalar(env, 20, seed=4), play_scalar(made, 20, seed=4))


# ---------------------------------------------------------------- public checkers


@every_case
def test_gymnasium_checker(case: Case) -> None:
    """The project's pytest settings turn each warning into an error."""
    check_env(scalar(case).unwrapped, skip_render_check=True)


@every_id
def test_gymnasium_checker_renders_every_mode(env_id: str) -> None:
    pytest.importorskip("matplotlib")
    check_env(gym.make(env_id, disable_env_checker=True).unwrapped)


@every_case
def test_passive_checker_on_a_long_rollout(case: Case) -> None:
    env = scalar(case, disable_env_checker=False)
    seen = play_scalar(env, 400, seed=2)
    assert sum(len(part) == 2 for part in seen) > 5, "several episodes must be seen"


@every_case
def test_stable_baselines3_checker(case: Case) -> None:
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    checker.check_env(scalar(case).unwrapped, warn=True, skip_render_check=True)


@faulty_case
def test_intensity_zero_is_the_clean_profile(case: Case) -> None:
    env_id, scenario, _ = case
    quiet, clean = scalar(case, intensity=0.0), scalar((env_id, scenario, "clean"))
    assert quiet.observation_space == clean.observation_space
    check_environments_match(quiet, clean, num_steps=300, seed=3)
    assert_same(play_scalar(quiet, 300, seed=3), play_scalar(clean, 300, seed=3))


@faulty_case
def test_faults_are_felt(case: Case) -> None:
    """The converse of the test above: otherwise an ignored plan would pass it."""
    a = play(batched(case, 64, intensity=3.0), 40, seed=3)
    b = play(batched(case, 64, intensity=0.0), 40, seed=3)
    assert list(differences(a, b))


# ---------------------------------------------------------------- batched against scalar


@pytest.mark.parametrize(
    ("case", "num_envs"),
    # 64 scalar environments take their time: once per scenario
    [(case, n) for case in CASES for n in STEPS if n < 64 or case[2] == "production"],
    ids=lambda value: label(value) if isinstance(value, tuple) else str(value),
)
@every_mode
def test_batched_equals_scalar(case: Case, mode: AutoresetMode, num_envs: int) -> None:
    """Observations, rewards, flags and infos, bit for bit, illegal actions included."""
    native = play(batched(case, num_envs, mode), STEPS[num_envs], seed=11)
    reference = play(several(case, num_envs, mode), STEPS[num_envs], seed=11)
    assert_same(native, reference)
    assert data_equivalence(native, reference, exact=True)
    ended = sum(int((part[2] | part[3]).sum()) for part in native if len(part) == 5)
    assert ended >= num_envs, "no autoreset was seen"


@faulty_case
@pytest.mark.parametrize("intensity", [0.5, 3.0])
def test_batched_equals_scalar_at_other_intensities(case: Case, intensity: float) -> None:
    native = play(batched(case, 8, intensity=intensity), 50, seed=5)
    assert_same(native, play(several(case, 8, intensity=intensity), 50, seed=5))


@every_case
def test_batched_equals_scalar_on_the_eval_split(case: Case) -> None:
    native = play(batched(case, 5, split="eval"), 30, seed=0)
    assert_same(native, play(several(case, 5, split="eval"), 30, seed=0))
    assert list(differences(native, play(batched(case, 5, split="train"), 30, seed=0)))


@every_id
@every_mode
def test_resets_equal_those_of_scalar_environments(env_id: str, mode: AutoresetMode) -> None:
    """Seed lists with gaps, next episodes, episode options and partial resets, in one script."""
    case = next(case for case in FAULTY if case[0] == env_id)
    envs = [batched(case, 4, mode), several(case, 4, mode)]
    some = np.array([False, True, True, False])
    script: list[dict[str, Any]] = [
        {"seed": [5, 9, 5, 2**31]},
        {},
        {"seed": [None, 3, None, 4]},
        {"options": {"reset_mask": some}},
        {"seed": 20, "options": {"reset_mask": some}},
        {"options": {"episode": 7}},
        {"seed": 1, "options": {"episode": 2}},
        {},
    ]
    for call in script:
        results = []
        for env in envs:
            arguments = {**call, "options": dict(call["options"]) if "options" in call else None}
            rng = np.random.default_rng(3)
            results.append([env.reset(**arguments)])
            for _ in range(3):
                # choose() takes legal actions only, of which none but the last three can end an episode
                masks = np.stack(env.call("action_masks")) if hasattr(env, "call") else env.action_masks()
                masks = masks.copy()
                masks[:, -3:] = 0
                masks[:, -3] = 1 - masks.any(axis=1)
                step = env.step(choose(masks, rng, illegal=0.0))
                results[-1].append(step)
                over = step[2] | step[3]
                if mode == AutoresetMode.DISABLED and over.any():
                    results[-1].append(env.reset(options={"reset_mask": over.copy()}))
        assert_same(results[0], results[1], str(call))


@every_id
def test_render_shows_lane_zero(env_id: str) -> None:
    case = next(case for case in FAULTY if case[0] == env_id)
    lanes, single = batched(case, 5, AutoresetMode.DISABLED, render_mode="ansi"), scalar(case, render_mode="ansi")
    rng = np.random.default_rng(8)
    lanes.reset(seed=3)
    single.reset(seed=3)
    longest = 0
    for _ in range(150):
        actions = choose(lanes.action_masks(), rng)
        step = lanes.step(actions)
        single.step(int(actions[0]))
        assert lanes.render() == (single.render(),)
        longest = max(longest, len(single.render().splitlines()))
        over = step[2] | step[3]
        if over.any():
            lanes.reset(options={"reset_mask": over})
        if over[0]:
            single.reset()
    assert longest > 3


# ---------------------------------------------------------------- seeds and episodes


@every_case
def test_equal_seeds_equal_and_different_seeds_differ(case: Case) -> None:
    a, b, c = (play(batched(case, 16), 30, seed) for seed in (7, 7, 1007))
    assert_same(a, b)
    for part in range(2):  # observations and rewards alike
        assert list(differences([row[part] for row in a[1:]], [row[part] for row in c[1:]]))


@every_case
def test_lanes_differ(case: Case) -> None:
    """No two lanes may live the same life; compared over some episodes, as tasks can resemble each other."""
    env = batched(case, 16).unwrapped
    env.reset(seed=0)
    lives, rng = [[] for _ in range(16)], np.random.default_rng(0)
    for _ in range(60):
        step = env.step(np.full(16, choose(env.action_masks()[:1], rng, 0.0)[0]))
        for lane, life in enumerate(lives):
            life.append(step[0][lane].tobytes())
    assert len({tuple(life) for life in lives}) > 8


@every_case
def test_nothing_survives_a_reset(case: Case) -> None:
    """A rollout after k episodes equals a fresh environment put at that episode."""
    used = scalar(case)
    rng = np.random.default_rng(0)
    start = used.reset(seed=13)
    for _ in range(6):
        over, info = False, start[1]
        while not over:
            action = int(choose(info["action_mask"][None], rng)[0])
            _, _, terminated, truncated, info = used.step(action)
            over = terminated or truncated
        start = used.reset()
    rest = play_scalar_from(used, start)
    fresh = scalar(case)
    assert_same(rest, play_scalar_from(fresh, fresh.reset(seed=13, options={"episode": 6})))


@every_case
@every_mode
def test_state_continues_exactly(case: Case, mode: AutoresetMode) -> None:
    """In another environment, that has lived through other episodes before."""
    first, second = batched(case, 6, mode).unwrapped, batched(case, 6, mode).unwrapped
    play(first, 25, seed=1)
    play(second, 10, seed=99)
    state = first.get_state()
    copied = {name: np.array(value) for name, value in state.items()}
    second.set_state(copied)
    assert_same(first.current(), second.current())
    rng = np.random.default_rng(4)
    for _ in range(40):
        actions = choose(first.action_masks(), rng)
        a, b = first.step(actions), second.step(actions)
        assert_same(a, b)
        over = a[2] | a[3]
        if mode == AutoresetMode.DISABLED and over.any():
            assert_same(*(env.reset(options={"reset_mask": over.copy()}) for env in (first, second)))
    assert_same(copied, state, "the state taken must not move with the environment")


@every_case
def test_state_survives_a_file_without_pickle(case: Case, tmp_path: Any) -> None:
    env = batched(case, 3).unwrapped
    play(env, 10, seed=1)
    np.savez(tmp_path / "state.npz", **env.get_state())
    with np.load(tmp_path / "state.npz", allow_pickle=False) as stored:
        assert_same(dict(stored), env.get_state())


# ---------------------------------------------------------------- observations and masks


@every_case
@pytest.mark.parametrize("intensity", [1.0, 3.0])
def test_observations_stay_inside_their_space(case: Case, intensity: float) -> None:
    env = batched(case, 64, AutoresetMode.SAME_STEP, intensity=intensity)
    space, single = env.observation_space, env.single_observation_space
    rng = np.random.default_rng(6)
    env.reset(seed=8)
    for _ in range(150):
        actions = choose(env.action_masks(), rng, illegal=0.1)
        observation, reward, _, _, info = env.step(actions)
        assert observation.dtype == space.dtype
        outside = (observation < space.low) | (observation > space.high) | ~np.isfinite(observation)
        names = [env.observation_columns[column].name for column in np.unique(np.nonzero(outside)[1])]
        assert not names
        assert all(single.contains(final) for final in info.get("final_obs", ()) if final is not None)
        assert np.isfinite(reward).all()
        assert info["action_mask"].any(axis=1).all()
        assert np.isin(info["action_mask"], (0, 1)).all()


@every_case
def test_columns_and_actions_have_names(case: Case) -> None:
    env = scalar(case).unwrapped
    assert len({column.name for column in env.observation_columns}) == env.observation_space.shape[0]
    assert all(column.unit for column in env.observation_columns)
    assert len(set(env.action_names)) == env.action_space.n


@every_case
def test_a_forbidden_action_uses_up_a_step_and_nothing_else(case: Case) -> None:
    lanes = batched(case, 32, AutoresetMode.DISABLED).unwrapped
    left = [column.name for column in lanes.observation_columns].index("steps_left")
    rng = np.random.default_rng(9)
    before, _ = lanes.reset(seed=4)
    tried = 0
    for t in range(40):
        masks = lanes.action_masks()
        actions = choose(masks, rng, illegal=0.0)
        wrong = (masks == 0).any(axis=1) & (t % 2 == 1)
        actions[wrong] = (rng.random(masks.shape) * (1 - masks)).argmax(axis=1)[wrong]
        after, reward, terminated, truncated, info = lanes.step(actions)
        assert not terminated[wrong].any()
        wrong &= ~truncated  # running out of steps settles what is open
        expected = before.copy()
        expected[:, left] -= 1
        assert_same(after[wrong], expected[wrong])
        assert_same(info["action_mask"][wrong], masks[wrong])
        assert not reward[wrong].any()
        assert not info["vector_reward"][wrong].any()
        tried += int(wrong.sum())
        over = terminated | truncated
        before = lanes.reset(options={"reset_mask": over})[0] if over.any() else after
    assert tried > 300


@every_case
def test_the_time_limit_truncates(case: Case) -> None:
    lanes = batched(case, 8, AutoresetMode.DISABLED, max_episode_steps=5)
    _, info = lanes.reset(seed=0)
    forbidden = (info["action_mask"] == 0).argmax(axis=1)
    for step in range(1, 6):
        _, _, terminated, truncated, info = lanes.step(forbidden)
        assert not terminated.any()
        assert truncated.all() == truncated.any() == (step == 5)
    assert set(info["outcome"]) == {"limit"}


# ---------------------------------------------------------------- digests


def digests(seed: int = 0) -> dict[str, str]:
    return {label(case): trace_digest(case[1], DIGEST_EPISODES, seed=seed, lanes=64, profile=case[2]) for case in CASES}


@every_case
def test_digests_do_not_depend_on_the_number_of_lanes(case: Case) -> None:
    _, scenario, profile = case
    found = {
        trace_digest(scenario, DIGEST_EPISODES, lanes=lanes, profile=profile, intensity=1.5) for lanes in (1, 64, 1024)
    }
    assert len(found) == 1


def test_digests_of_more_episodes_than_lanes() -> None:
    """All 1,024 lanes are in use and take a second episode."""
    _, scenario, profile = FAULTY[0]
    found = {trace_digest(scenario, 1500, lanes=lanes, profile=profile) for lanes in (1, 64, 1024)}
    assert len(found) == 1


def test_digests_do_not_depend_on_the_process() -> None:
    """Two processes that salt ``hash()`` differently, and this one, agree; another seed does not."""
    program = "import json, test_envs_conformance as t; print(json.dumps(t.digests()))"
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": salt, "PYTHONPATH": os.path.dirname(__file__)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for salt in ("1", "2")
    ]
    here = digests()
    for run in runs:
        output, _ = run.communicate(timeout=100)
        assert run.returncode == 0
        assert json.loads(output.splitlines()[-1]) == here
    assert not set(here.values()) & set(digests(seed=1).values())
    # a profile shows only where a fault struck, so no more is asked than that most of them differ
    assert len(set(here.values())) > 0.8 * len(here)


# ---------------------------------------------------------------- misuse


@every_id
def test_misuse_is_refused(env_id: str) -> None:
    lanes: Any = gym.make_vec(env_id, num_envs=3, autoreset_mode=AutoresetMode.DISABLED)
    names: tuple[str, ...] = lanes.unwrapped.action_names
    with pytest.raises(gym.error.ResetNeeded):
        lanes.step(np.zeros(3, np.int64))
    with pytest.raises(gym.error.ResetNeeded, match="every lane"):
        lanes.reset(options={"reset_mask": np.array([True, False, False])})
    lanes.reset(seed=0)
    for actions in (np.zeros(2, np.int64), np.zeros(3), np.array([0, 0, len(names)]), np.array([0, -1, 0])):
        with pytest.raises(PolicyError, match="allowed"):
            lanes.step(actions)
    for mask in (np.zeros(3, np.bool_), np.ones(2, np.bool_), np.ones(3), [True] * 3):
        with pytest.raises(PolicyError, match="reset_mask"):
            lanes.reset(options={"reset_mask": mask})
    with pytest.raises(PolicyError, match="one per lane"):
        lanes.reset(seed=[1, 2])
    stop = len(names) - 1
    lanes.step(np.array([stop, names.index("wait"), names.index("wait")]))
    with pytest.raises(PolicyError, match="lane 0 has ended"):
        lanes.step(np.full(3, stop))


@every_id
def test_scalar_misuse_is_refused(env_id: str) -> None:
    env = gym.make(env_id, disable_env_checker=True).unwrapped
    with pytest.raises(gym.error.ResetNeeded):
        env.step(0)
    env.reset(seed=0)
    for action in (-1, 10_000, "submit", None):
        with pytest.raises(PolicyError, match="allowed: 0 to"):
            env.step(action)


@every_id
def test_a_reset_mask_is_left_as_it_was(env_id: str) -> None:
    lanes = gym.make_vec(env_id, num_envs=2)
    lanes.reset(seed=0)
    options = {"reset_mask": np.array([True, False])}
    for _ in range(2):
        lanes.reset(options=options)
    assert list(options) == ["reset_mask"]


@every_id
def test_environments_can_be_copied_into_workers(env_id: str) -> None:
    """Gymnasium's asynchronous vector environment sends the environment's maker to other processes."""
    case = next(case for case in FAULTY if case[0] == env_id)
    workers = gym.make_vec(
        env_id, num_envs=2, scenario=case[1], profile=case[2], vectorization_mode="async",
        vector_kwargs={"context": "spawn"},
    )  # fmt: skip
    try:
        here = batched(case, 2)
        assert_same(workers.reset(seed=5), here.reset(seed=5))
        rng = np.random.default_rng(0)
        for _ in range(10):
            actions = choose(here.unwrapped.action_masks(), rng)
            assert_same(workers.step(actions), here.step(actions))
    finally:
        workers.close()


def test_streams_of_successive_seeds_do_not_overlap() -> None:
    """Lane ``i + 1`` of seed ``s`` is lane ``i`` of seed ``s + 1``, as in Gymnasium, and nothing else is shared."""
    case = FAULTY[0]
    rows = [batched(case, 4).reset(seed=seed)[0] for seed in range(3)]
    for low, high in pairwise(rows):
        assert_same(low[1:], high[:-1])
