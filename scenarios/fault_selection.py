"""Scenarios with some of their faults left out: families held out of training, or looked at alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

from ..errors import FaultError
from ..faults import FaultPlan, PlannedFault
from .loading import fault_plan
from .schema import Scenario

Grouping = Literal["family", "effect", "id"]
_NAMES: dict[str, Callable[[PlannedFault], str]] = {
    "family": lambda fault: fault.effect.category,
    "effect": lambda fault: fault.effect.name,
    "id": lambda fault: fault.id,
}


def fault_groups(scenario: Scenario, profile: str, by: Grouping) -> list[str]:
    """Return the families, effects or ids of a profile's faults, each once, in the order of the plan."""
    return list(dict.fromkeys(_NAMES[by](fault) for fault in fault_plan(scenario, profile)[0].faults))


def select_faults(
    scenario: Scenario, profile: str, *, only: Iterable[str] = (), without: Iterable[str] = ()
) -> Scenario:
    """Return the scenario with only, or without, some faults of one profile.

    The other faults keep their ids, so they draw what they drew before and results can be paired by episode.

    Args:
        scenario: the scenario.
        profile: the profile whose faults are meant; an implied ``hostile`` is taken from ``production``.
        only: selectors of faults to keep: a family (``services``), an effect (``timeout``) or an id
            (``timeout#0``); none keeps all.
        without: selectors of faults to leave out, after ``only``.

    Raises:
        ScenarioError: if there is no such profile.
        FaultError: if a selector fits no fault of it, naming those there are.
    """
    only, without = tuple(only), tuple(without)
    if not only and not without:
        return scenario
    plan, _ = fault_plan(scenario, profile)
    for selector in (*only, *without):
        if not any(selector in _of(fault) for fault in plan.faults):
            known = "; ".join(f"{by} {', '.join(fault_groups(scenario, profile, by)) or 'none'}" for by in _NAMES)  # pyright: ignore[reportArgumentType]
            raise FaultError(f"{scenario.name}: profile {profile} has no fault {selector!r}; allowed: {known}")
    kept = [fault for fault in plan.faults if (not only or _of(fault) & set(only)) and not _of(fault) & set(without)]
    source = profile if profile in scenario.profiles else "production"
    specs = FaultPlan(tuple(kept)).to_specs()
    chosen = scenario.model_copy(update={"profiles": {**scenario.profiles, source: specs}})
    chosen._path = scenario.path
    return chosen


def _of(fault: PlannedFault) -> set[str]:
    return {name(fault) for name in _NAMES.values()}
