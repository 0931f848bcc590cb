"""What every observation says of steps, time and money: used, left, and worth; the first columns, and the last ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..scenarios.columns import Column
from .quantiles import log10

if TYPE_CHECKING:
    from .lanes import LaneCore

CAP = 1e6
_LEAST = 1e-6
MAX_STEPS = 100_000.0
ACCOUNT = (
    Column("steps_left", "count", 0.0, MAX_STEPS),
    Column("clock", "s", 0.0, CAP),
    Column("spend", "USD", 0.0, CAP),
    Column("budget_left", "USD", 0.0, CAP),
    Column("deadline_left", "s", 0.0, CAP),
    Column("per_usd", "utility/USD", 0.0, CAP),
    Column("per_s", "utility/s", 0.0, CAP),
)
# where a preference shows, by name; it and what is left of it are also shown as a logarithm
_SHOWN_AS = {"per_usd": "per_usd", "per_s": "per_s", "budget_usd": "budget_left", "deadline_s": "deadline_left"}


class Logarithms:
    """The last columns: of each preference that the scenario names, the logarithm of the column that shows it.

    A range of preferences spans powers of ten, which a net cannot tell apart at their lower end.

    Args:
        core: the core to look at.
        first: where the columns of :data:`ACCOUNT` begin in its observation.
    """

    def __init__(self, core: LaneCore, first: int = 0) -> None:
        places = {column.name: i for i, column in enumerate(ACCOUNT)}
        shown = [places[_SHOWN_AS[name]] for name in core.preference_source.named]
        self._places = np.array(shown, np.int64) + first
        self.columns = tuple(
            Column(f"log_{ACCOUNT[i].name}", f"log10 {ACCOUNT[i].unit}", -6.0, 6.0) for i in shown
        )  # fmt: skip

    def fill(self, out: NDArray[np.float32]) -> None:
        """Write the columns of ``(n, D)`` observations whose other columns are there."""
        if self.columns:
            values = np.maximum(out.take(self._places, axis=1), _LEAST).astype(np.float64)
            out[:, -len(self.columns) :] = log10(values)


def fill_account(out: NDArray, core: LaneCore, of: Callable[[NDArray], NDArray]) -> None:
    """Write the columns of many lanes into the first rows of ``out``; all but the first are yet to be bounded.

    Args:
        out: ``(7 or more, n)``: rows here are columns of the observation.
        core: the core to look at.
        of: takes the lanes meant from an array of all lanes.
    """
    clock, spend, given = of(core.clock), of(core.spend), core.preferences
    out[0] = core.max_steps - of(core.steps)
    out[1] = clock
    out[2] = spend
    out[3] = of(given["budget_usd"]) - spend
    out[4] = of(given["deadline_s"]) - clock
    out[5] = of(given["per_usd"])
    out[6] = of(given["per_s"])


def account_of(core: LaneCore, lane: int) -> tuple[float, ...]:
    """The columns of one lane as plain numbers, without ``steps_left`` and yet to be bounded."""
    clock, spend, given = core.clock.item(lane), core.spend.item(lane), core.preferences
    return (
        clock, spend, given["budget_usd"].item(lane) - spend, given["deadline_s"].item(lane) - clock,
        given["per_usd"].item(lane), given["per_s"].item(lane),
    )  # fmt: skip
