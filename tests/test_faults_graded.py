"""Lanes with intensities of their own: each one equals the lane of a plan bound at that intensity."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from brownout.envs.cores import make_core
from brownout.envs.lanes import LaneCore
from brownout.envs.trace import random_actions
from brownout.errors import FaultError
from brownout.faults import GradedPlan

LANES, STEPS = 24, 120


def trace(core: LaneCore, scales: Any = None, steps: int = STEPS) -> list[NDArray[Any]]:
    """What each lane goes through, episode after episode, with random legal actions."""
    if scales is not None:
        core.grade(core.all_lanes, scales)
    core.seed(core.all_lanes, range(core.num_lanes))
    core.begin(core.all_lanes)
    return go_on(core, scales, steps)


def go_on(core: LaneCore, scales: Any, steps: int) -> list[NDArray[Any]]:
    seen = []
    for _ in range(steps):
        mask = core.mask()
        core.advance(random_actions(core, mask))
        over = core.terminated | core.truncated
        ended = np.flatnonzero(over)
        outcome = np.where(over, core.outcome, -1)
        row = np.concatenate(
            [core.observe(), core.components, core.reward[:, None], outcome[:, None], over[:, None]], axis=1
        )
        seen.append(row)
        if ended.size:
            if scales is not None:
                core.grade(ended, np.broadcast_to(scales, LANES)[ended])
            core.begin(ended)
    return seen


def lanes_of(seen: list[NDArray[Any]], lanes: Any) -> bytes:
    return np.stack(seen)[:, lanes].tobytes()


# burst, sticky, rates, memory and plain conditions (which grow stronger above 1) are all among these
@pytest.mark.parametrize("name", ["support-desk", "provider-outage", "price-surge", "judge-drift", "refund"])
def test_a_lane_equals_that_of_a_plan_bound_at_its_intensity(name: str) -> None:
    choices = [0.0, 0.25, 1.0, 1.5]
    scales = np.array(choices * (LANES // 4))
    mixed = trace(make_core(name, LANES), scales)
    alone = [trace(make_core(name, LANES, intensity=x)) for x in choices]
    assert len({lanes_of(seen, slice(None)) for seen in alone}) == 4, "these intensities must differ to prove anything"
    for offset, seen in enumerate(alone):
        own = slice(offset, None, 4)
        assert lanes_of(mixed, own) == lanes_of(seen, own), choices[offset]


def test_scale_0_is_the_clean_episode_and_scale_1_the_plan_itself() -> None:
    plain, clean = make_core("support-desk", LANES), make_core("support-desk", LANES, profile="clean")
    graded = make_core("support-desk", LANES)
    assert lanes_of(trace(graded, 1.0), slice(None)) == lanes_of(trace(plain), slice(None))
    assert isinstance(graded.plan, GradedPlan)
    assert lanes_of(trace(graded, 0.0), slice(None)) == lanes_of(trace(clean), slice(None))


def test_a_scale_holds_from_one_episode_to_the_next_and_multiplies_the_core_s_own_intensity() -> None:
    core = make_core("support-desk", LANES, profile="hostile", intensity=0.5)
    other = make_core("support-desk", LANES, profile="hostile", intensity=0.2)
    assert lanes_of(trace(core, 0.4), slice(None)) == lanes_of(trace(other), slice(None))
    assert core.plan is not None
    counts = core.plan.log.counts
    assert sum(counts.values()) > 0
    assert counts == (other.plan.log.counts if other.plan is not None else {})


def test_a_state_continues_bit_for_bit() -> None:
    scales = np.tile([0.0, 0.5, 1.0, 2.0], LANES // 4)
    first, second = make_core("support-desk", LANES), make_core("support-desk", LANES)
    trace(first, scales, 30)
    second.grade(second.all_lanes, 1.0)
    second.set_state(first.get_state())
    assert lanes_of(go_on(first, scales, 30), slice(None)) == lanes_of(go_on(second, scales, 30), slice(None))


def test_bad_scales_and_states_are_refused() -> None:
    core = make_core("support-desk", 4)
    for bad in (-0.1, 101.0, float("nan")):
        with pytest.raises(FaultError, match="must be 0 to 100"):
            core.grade(core.all_lanes, bad)
    state = core.get_state()
    with pytest.raises(FaultError, match="'20/"):
        core.set_state({name: array for name, array in state.items() if "plan.20/" not in name})
    with pytest.raises(FaultError, match="'scale'"):
        core.set_state({name: array for name, array in state.items() if name != "plan.scale"})


def test_a_healthy_core_has_nothing_to_grade() -> None:
    core = make_core("support-desk", 4, profile="clean")
    core.grade(core.all_lanes, 0.5)
    assert core.plan is None
