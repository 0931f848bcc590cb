"""How the ranks of a data-parallel training agree: one averaging hook, a no-op for a single process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from numpy.typing import NDArray


class Comm(Protocol):
    """What the training loop asks of its surroundings."""

    rank: int
    size: int

    def mean_(self, arrays: Sequence[NDArray[Any]]) -> None:
        """Replace every array, in place, by its average over all ranks (same shapes on every rank)."""
        ...


class Local:
    """A single process: nothing to average."""

    rank = 0
    size = 1

    def mean_(self, arrays: Sequence[NDArray[Any]]) -> None:
        """Leave the arrays as they are."""
