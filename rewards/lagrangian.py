"""A mean constraint on one component, priced by a multiplier that dual ascent adjusts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from ..errors import RewardError
from .components import ACCURACY, COMPONENT_NAMES, HANDOFF, SAFETY
from .registry import F64, Preference, check_number, register_reward


@register_reward("lagrangian")
@dataclass(frozen=True)
class Lagrangian:
    """Maximise the value of answers subject to a mean total per episode of one component.

    reward = accuracy * A + wrong_answer * safety + handoff * H - multiplier * (constrained component)

    The constant ``multiplier * limit`` of the Lagrangian changes no policy and is left out. The reward is
    immutable: :meth:`update` returns the reward of the next training iteration.

    Args:
        constraint: component whose mean total per episode is limited.
        limit: the limit, in that component's unit per episode.
        multiplier: its price now; 0 ignores the constraint.
        rate: step of the dual ascent, in multiplier per unit of violation.
        accuracy: value of a right answer.
        wrong_answer: value of a wrong answer, zero or negative.
        handoff: value of handing over to a person who gets it right.

    Raises:
        RewardError: if a number is out of range.

    Source: E. Altman, "Constrained Markov Decision Processes" (1999), chapter 3; dual ascent as in
    Tessler, Mankowitz and Mannor, "Reward constrained policy optimization" (ICLR 2019).
    """

    constraint: Literal["cost_usd", "latency_s", "late_s", "safety", "handoff"] = "cost_usd"
    limit: float = 0.1
    multiplier: float = 1.0
    rate: float = 1.0
    accuracy: float = 1.0
    wrong_answer: float = -0.5
    handoff: float = 0.4

    def __post_init__(self) -> None:
        if self.constraint not in COMPONENT_NAMES[1:]:
            allowed = ", ".join(COMPONENT_NAMES[1:])
            raise RewardError(f"lagrangian.constraint: got {self.constraint!r}; allowed: {allowed}")
        for name in ("limit", "multiplier", "accuracy"):
            check_number(f"lagrangian.{name}", getattr(self, name), low=0.0)
        check_number("lagrangian.rate", self.rate, low=0.0, above=True)
        check_number("lagrangian.wrong_answer", self.wrong_answer, high=0.0)
        check_number("lagrangian.handoff", self.handoff)

    def __call__(self, components: F64, preference: Preference) -> F64:
        """Return the ``(N,)`` rewards of ``(N, C)`` components; the preference plays no part."""
        total = components[:, ACCURACY] * self.accuracy
        total += components[:, SAFETY] * self.wrong_answer
        total += components[:, HANDOFF] * self.handoff
        total -= components[:, COMPONENT_NAMES.index(self.constraint)] * self.multiplier
        return total

    def update(self, mean_total: float) -> Lagrangian:
        """Return the reward after one step of dual ascent.

        Args:
            mean_total: mean total of the constrained component per episode, under the present policy.
        """
        mean_total = check_number("lagrangian.update", mean_total)
        return replace(self, multiplier=max(0.0, self.multiplier + self.rate * (mean_total - self.limit)))
