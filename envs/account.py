"""The first columns of every observation: steps, time and money used and left, and what they are worth."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from numpy.typing import NDArray

from ..scenarios.columns import Column

if TYPE_CHECKING:
    from .lanes import LaneCore

CAP = 1e6
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
