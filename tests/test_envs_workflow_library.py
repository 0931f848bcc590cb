"""What holds in every workflow and profile of the library: reading does no harm, intensity 0 is the clean world."""

from __future__ import annotations

import numpy as np
import pytest

from brownout.envs.streams import stream_id, uniform
from brownout.envs.workflow_core import WorkflowCore
from brownout.envs.workflow_state import LIMIT, SUCCESS, Kind
from brownout.scenarios import builtin_scenarios, load_scenario
from brownout.trainers.baselines import make_baseline

WORKFLOWS = [name for name in builtin_scenarios() if load_scenario(name).env == "workflow"]
PROFILES = ("clean", "production", "hostile")
LANES, STEPS = 192, 28
# what is true on the servers, but for copies that catch up
TRUTH = ("applied", "bad", "stray", "applied_key", "stands_at", "needed", "banned", "facts", "draft", "version",
         "revoked", "renamed", "lock_until", "input_at", "hold", "key", "planted")  # fmt: skip


def begun(name: str, profile: str, intensity: float = 1.0) -> WorkflowCore:
    core = WorkflowCore(name, LANES, profile=profile, intensity=intensity)
    core.seed(core.all_lanes, range(LANES))
    core.begin(core.all_lanes)
    return core


def drawn(core: WorkflowCore, step: int) -> np.ndarray:
    """A random legal action of each lane, handing over and giving up left out."""
    mask = core.mask()
    mask[:, [Kind.ESCALATE, Kind.FINISH, Kind.ABORT]] = False
    u = uniform(core.keys, stream_id("test.action"), step)
    rank = (u * mask.sum(axis=1)).astype(np.int64)
    return np.asarray((np.cumsum(mask, axis=1) > rank[:, None]).argmax(axis=1))


def put(core: WorkflowCore, state: dict[str, np.ndarray]) -> None:
    """Go back to ``state``, and on from there without faults."""
    core.set_state(state)
    core.plan = None


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_read_more_changes_no_truth_and_no_score(name: str, profile: str) -> None:
    """From every state on the way of a careful and of a random policy, with the faults of the way behind it.

    After one more ``fetch`` or ``verify`` the servers hold what they held, no copy that was right is wrong, and to
    finish then ends as it would have ended before, unless time has run out or brought what was on its way.
    """
    compared = 0
    for rule in ("playbook", None):
        core, copy = begun(name, profile), begun(name, "clean")
        policy = None if rule is None else make_baseline(rule, core)
        over = np.zeros(LANES, np.bool_)
        for step in range(STEPS):
            state = {key: value for key, value in core.get_state().items() if not key.startswith("plan.")}
            put(copy, state)
            copy.advance(np.full(LANES, int(Kind.FINISH)))
            plain = copy.outcome.copy()
            for read in (Kind.FETCH, Kind.VERIFY):
                put(copy, state)
                held = (copy.known > 0) & ~copy.outdated(copy.all_lanes).take(copy.record_of, axis=1)
                held &= ~copy.wrong & ~copy.foreign[:, None]
                open_ = copy.mask()[:, read] & ~over
                copy.advance(np.full(LANES, int(read)))
                ended = copy.terminated | copy.truncated
                goes = open_ & ~ended
                for array in TRUTH:
                    assert np.array_equal(getattr(copy, array)[goes], state[array][goes]), (array, read)
                assert not (copy.wrong & held)[goes].any()
                late = (state["stands_at"] > state["clock"][:, None]).any(axis=1)
                copy.advance(np.full(LANES, int(Kind.FINISH)))
                again = copy.outcome
                same = (again == plain) | (late & (again == SUCCESS))
                assert same[goes & (again != LIMIT)].all(), (rule, step, read)
                compared += int(goes.sum())
            actions = drawn(core, step) if policy is None else policy.act_batch(core.observe(), core.mask())
            core.advance(actions, np.flatnonzero(over))
            over |= core.terminated | core.truncated
    assert compared > 20 * LANES


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", WORKFLOWS)
def test_intensity_zero_is_the_clean_world_bit_for_bit(name: str, profile: str) -> None:
    clean, calm = begun(name, "clean"), begun(name, profile, intensity=0.0)
    for step in range(STEPS):
        assert np.array_equal(clean.observe(), calm.observe())
        assert np.array_equal(clean.mask(), calm.mask())
        actions = drawn(clean, step)
        for core in (clean, calm):
            core.advance(actions)
        assert np.array_equal(clean.reward, calm.reward)
        assert np.array_equal(clean.components, calm.components)
        assert np.array_equal(clean.outcome, calm.outcome)
        ended = np.flatnonzero(clean.terminated | clean.truncated)
        if ended.size:
            for core in (clean, calm):
                core.begin(ended)
    before, after = clean.get_state(), calm.get_state()
    assert all(np.array_equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_the_hostile_world_is_not_the_clean_one(name: str) -> None:
    """The counterpart: otherwise the equality above would say nothing."""
    clean, hostile = begun(name, "clean"), begun(name, "hostile")
    for step in range(12):
        actions = drawn(clean, step)
        for core in (clean, hostile):
            core.advance(actions)
    assert (clean.observe() != hostile.observe()).any(axis=1).mean() > 0.5
