"""What a fixed order of calls brings under a judge that errs: the first accepted answer wins, else the last.

With ``x_i`` the success of attempt ``i`` in a world, ``t`` and ``f`` the judge's true- and false-positive rate, and
errors that are independent, attempt ``i`` is reached with probability

    A_i = prod_{k<i} (1 - t x_k - f (1 - x_k)),

and the submitted answer is right with probability ``sum_i A_i x_i t + A_n x_n (1 - t)``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import TableError

F64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CascadeValue:
    """What a cascade does in each of ``W`` worlds.

    Args:
        success: ``(W,)`` probability that the submitted answer is right.
        calls: ``(W,)`` expected calls, each of which is judged once.
        reached: ``(W, n)`` probability that each attempt is made.
    """

    success: F64
    calls: F64
    reached: F64

    def cost(self, cost_usd: ArrayLike, judge_usd: float = 0.0) -> F64:
        """Expected cost per world, USD.

        Args:
            cost_usd: ``(W, n)`` or ``(n,)`` cost of each attempt.
            judge_usd: price of a verdict.
        """
        return (self.reached * (np.asarray(cost_usd, dtype=np.float64) + judge_usd)).sum(axis=1)


def judged_cascade(right: ArrayLike, true_positive: float, false_positive: float) -> CascadeValue:
    """Evaluate "run in order, submit the first answer that the judge accepts, else the last one", exactly.

    Args:
        right: ``(W, n)`` whether attempt ``i`` is right in each world; a probability where attempts of one world
            are independent of each other.
        true_positive: probability that a right answer is accepted.
        false_positive: probability that a wrong answer is accepted.

    Raises:
        TableError: if a number lies outside [0, 1] or there is no attempt.

    >>> value = judged_cascade([[0, 1]], true_positive=1.0, false_positive=0.25)
    >>> value.success.tolist(), value.calls.tolist()  # a quarter of the time the wrong first answer passes
    ([0.75], [1.75])
    """
    x = np.asarray(right, dtype=np.float64)
    if x.ndim != 2 or x.shape[1] == 0:
        raise TableError(f"right: got shape {x.shape}; allowed: (worlds, attempts), at least one attempt")
    for name, values in (("right", x), ("true_positive", true_positive), ("false_positive", false_positive)):
        if not bool(np.all((np.asarray(values) >= 0.0) & (np.asarray(values) <= 1.0))):
            raise TableError(f"{name}: got {values!r}; allowed: 0 to 1")
    accepted = true_positive * x + false_positive * (1.0 - x)
    reached = np.ones_like(x)
    np.cumprod(1.0 - accepted[:, :-1], axis=1, out=reached[:, 1:])
    success = (reached * x).sum(axis=1) * true_positive + reached[:, -1] * x[:, -1] * (1.0 - true_positive)
    return CascadeValue(success, reached.sum(axis=1), reached)
