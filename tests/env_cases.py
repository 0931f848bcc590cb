"""What the conformance tests run on: every registered id with each of its scenarios and profiles."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import load_env_creator
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from brownout.envs import ENVIRONMENTS
from brownout.scenarios import Scenario, builtin_scenarios, load_scenario

Case = tuple[str, str, str]


def kind(env_id: str) -> str:
    """``brownout/Router-v0`` -> ``router``, the ``env`` of its scenarios."""
    return env_id.split("/")[1].split("-")[0].lower()


@cache
def scenario_of(name: str) -> Scenario:
    """A built-in scenario, read once: reading one takes longer than most tests."""
    return load_scenario(name)


def cases() -> list[Case]:
    """(id, scenario, profile) for every built-in scenario and every profile of it."""
    scenarios = [scenario_of(name) for name in builtin_scenarios()]
    return [
        (env_id, scenario.name, profile)
        for env_id in ENVIRONMENTS
        for scenario in scenarios
        if scenario.env == kind(env_id)
        for profile in scenario.profiles
    ]


CASES = cases()
FAULTY = [case for case in CASES if case[2] != "clean"]


def label(case: Case) -> str:
    return "-".join(case[1:])


def scalar(case: Case, **kwargs: Any) -> Any:
    """The scenario's scalar environment as ``gymnasium.make`` gives it, unchecked unless asked for."""
    env_id, name, profile = case
    arguments = {"disable_env_checker": True, **kwargs}
    return gym.make(env_id, scenario=scenario_of(name), profile=profile, **arguments)


def batched(case: Case, num_envs: int, mode: AutoresetMode = AutoresetMode.NEXT_STEP, **kwargs: Any) -> Any:
    """The native batched environment of a case."""
    env_id, name, profile = case
    return gym.make_vec(
        env_id,
        num_envs=num_envs,
        scenario=scenario_of(name),
        profile=profile,
        autoreset_mode=mode,
        **kwargs,
    )


def several(case: Case, num_envs: int, mode: AutoresetMode = AutoresetMode.NEXT_STEP, **kwargs: Any) -> Any:
    """Gymnasium's ``SyncVectorEnv`` over scalar environments of a case."""
    env_id, name, profile = case
    creator: Any = load_env_creator(str(gym.spec(env_id).entry_point))
    arguments = {"scenario": scenario_of(name), "profile": profile, **kwargs}
    return gym.vector.SyncVectorEnv([lambda: creator(**arguments)] * num_envs, autoreset_mode=mode)


def choose(masks: NDArray[Any], rng: np.random.Generator, illegal: float = 0.4) -> NDArray[np.int64]:
    """An action per row: any at all with probability ``illegal``, else a legal one that seldom ends."""
    n, actions = masks.shape
    ending = np.ones(actions)
    ending[-3:] = 0.15  # the last actions hand over or stop
    weight = np.where(rng.random((n, 1)) < illegal, 1.0, masks * ending)
    return (weight.cumsum(axis=1) > rng.random((n, 1)) * weight.sum(axis=1, keepdims=True)).argmax(axis=1)


def differences(a: Any, b: Any, path: str = "") -> Iterator[str]:
    """Where two nested structures differ in type, keys, dtype, shape or any bit."""
    if type(a) is not type(b):
        yield f"{path}: {type(a).__name__} against {type(b).__name__}"
    elif isinstance(a, dict):
        if a.keys() != b.keys():
            yield f"{path}: keys {sorted(a)} against {sorted(b)}"
            return
        for key in a:
            yield from differences(a[key], b[key], f"{path}.{key}")
    elif isinstance(a, np.ndarray):
        if a.dtype != b.dtype or a.shape != b.shape:
            yield f"{path}: {a.dtype}{a.shape} against {b.dtype}{b.shape}"
        elif a.dtype == object:
            for i, (x, y) in enumerate(zip(a, b, strict=True)):
                yield from differences(x, y, f"{path}[{i}]")
        elif a.tobytes() != b.tobytes():
            yield f"{path}: {a} against {b}"
    elif isinstance(a, list | tuple):
        if len(a) != len(b):
            yield f"{path}: length {len(a)} against {len(b)}"
        for i, (x, y) in enumerate(zip(a, b, strict=False)):
            yield from differences(x, y, f"{path}[{i}]")
    elif a != b:
        yield f"{path}: {a!r} against {b!r}"


def assert_same(a: Any, b: Any, what: str = "") -> None:
    """Fail with the first places where ``a`` and ``b`` are not equal bit for bit."""
    found = list(differences(a, b, what))
    assert not found, "\n".join(found[:5])
