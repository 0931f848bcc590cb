"""The objective components: what really happened in a step, in fixed order.

Environments fill one row per lane and step from ground truth; rewards turn a row into a scalar. A component
is a fact (money, seconds, right or wrong), never a judgement of how much it matters: that is the reward's
part. Nothing here knows which faults exist.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Component:
    """One column of the ``(N, C)`` component array.

    Args:
        name: column name, also the key of the step's ``info``.
        unit: unit of the values.
        meaning: what one unit of it stands for, per step.
        good: +1 when more of it is welcome, -1 when less is.
    """

    name: str
    unit: str
    meaning: str
    good: int


COMPONENTS: Final[tuple[Component, ...]] = (
    Component("accuracy", "share", "the delivered result is right: 1 in the last step, 0 otherwise", 1),
    Component("cost_usd", "USD", "money billed during the step", -1),
    Component("latency_s", "s", "virtual time that passed during the step", -1),
    Component("late_s", "s", "part of that time that lies after the episode's deadline", -1),
    Component("safety", "count", "wrong or duplicate effects delivered unflagged, e.g. a wrong answer", -1),
    Component("handoff", "share", "a person took over and got it right: 1 in the last step, 0 otherwise", 1),
)

COMPONENT_NAMES: Final[tuple[str, ...]] = tuple(component.name for component in COMPONENTS)

ACCURACY: Final = COMPONENT_NAMES.index("accuracy")
COST_USD: Final = COMPONENT_NAMES.index("cost_usd")
LATENCY_S: Final = COMPONENT_NAMES.index("latency_s")
LATE_S: Final = COMPONENT_NAMES.index("late_s")
SAFETY: Final = COMPONENT_NAMES.index("safety")
HANDOFF: Final = COMPONENT_NAMES.index("handoff")
