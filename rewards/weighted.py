"""The weighted sum, the reward that scenarios use unless they name another."""

from __future__ import annotations

from dataclasses import dataclass

from .components import ACCURACY, COST_USD, HANDOFF, LATE_S, LATENCY_S, SAFETY
from .registry import F64, Preference, check_number, register_reward


@register_reward("weighted-sum")
@dataclass(frozen=True)
class WeightedSum:
    """Utility in units of one right answer.

    reward = accuracy * A - per_usd * cost_usd - per_s * latency_s - late_per_s * late_s
             + wrong_answer * safety + handoff * H

    with A and H the components ``accuracy`` and ``handoff``. Where the episode's preference carries
    ``per_usd`` or ``per_s``, that value is used instead of the parameter.

    Args:
        accuracy: value of a right answer.
        per_usd: price of one USD spent.
        per_s: price of one second of virtual time.
        late_per_s: extra price of each second after the deadline (a soft deadline).
        wrong_answer: value of a wrong answer or a duplicate effect, zero or negative.
        handoff: value of handing over to a person who gets it right.

    Raises:
        RewardError: if a parameter is not finite, a price is negative, or ``wrong_answer`` is positive.

    >>> import numpy as np
    >>> WeightedSum(per_usd=2.0)(np.array([[1.0, 0.1, 3.0, 0.0, 0.0, 0.0]]), {})
    array([0.8])
    """

    accuracy: float = 1.0
    per_usd: float = 1.0
    per_s: float = 0.0
    late_per_s: float = 0.0
    wrong_answer: float = -0.5
    handoff: float = 0.4

    def __post_init__(self) -> None:
        for name in ("accuracy", "per_usd", "per_s", "late_per_s"):
            check_number(f"weighted-sum.{name}", getattr(self, name), low=0.0)
        check_number("weighted-sum.wrong_answer", self.wrong_answer, high=0.0)
        check_number("weighted-sum.handoff", self.handoff)

    def __call__(self, components: F64, preference: Preference) -> F64:
        """Return the ``(N,)`` rewards of ``(N, C)`` components."""
        total = components[:, ACCURACY] * self.accuracy
        total -= components[:, COST_USD] * preference.get("per_usd", self.per_usd)
        total -= components[:, LATENCY_S] * preference.get("per_s", self.per_s)
        if self.late_per_s:
            total -= components[:, LATE_S] * self.late_per_s
        if self.wrong_answer:
            total += components[:, SAFETY] * self.wrong_answer
        if self.handoff:
            total += components[:, HANDOFF] * self.handoff
        return total
