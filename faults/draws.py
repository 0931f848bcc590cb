"""Random numbers for effects: independent sub-streams of one fault, pure functions of the call."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..envs import quantiles
from ..envs.streams import U64, stream_id, uniform

F64 = NDArray[np.float64]


@lru_cache(maxsize=1)
def unit_exponential() -> quantiles.QuantileTable:
    """The exponential distribution with mean 1, as a table."""
    return quantiles.exponential(1.0)


@lru_cache(maxsize=64)
def unit_pareto(alpha: float) -> quantiles.QuantileTable:
    """The Pareto distribution with minimum 1 and tail exponent ``alpha``, as a table."""
    return quantiles.pareto(alpha)


@lru_cache(maxsize=256)
def substream(index: int) -> np.uint64:
    """Return the constant that opens sub-stream ``index`` of any stream."""
    return np.uint64(stream_id(f"draw.{index}"))


class Draw:
    """Draws for the rows an effect sees; every request opens the next sub-stream.

    The first request of one fault never shares bits with its second, with its trigger or with another
    fault, and a row's numbers depend on its episode, service and call number alone.

    Args:
        keys: ``(n,)`` episode keys.
        streams: ``(n,)`` constants of the fault's stream at each row's service.
        numbers: ``(n,)`` call numbers.
    """

    __slots__ = ("_count", "_keys", "_numbers", "_streams")

    def __init__(self, keys: U64, streams: NDArray[np.uint64], numbers: NDArray[Any]) -> None:
        self._keys = keys
        self._streams = streams
        self._numbers = numbers
        self._count = 0

    def __len__(self) -> int:
        return self._keys.shape[0]

    def uniform(self) -> F64:
        """Return ``(n,)`` floats in [0, 1)."""
        stream = self._streams + substream(self._count)
        self._count += 1
        return uniform(self._keys, stream, self._numbers)

    def chance(self, p: float) -> NDArray[np.bool_]:
        """Return an ``(n,)`` mask, true with probability ``p``."""
        return self.uniform() < p

    def exponential(self, mean: float) -> F64:
        """Return ``(n,)`` exponential draws with the given mean."""
        return unit_exponential().sample(self.uniform()) * mean

    def pareto(self, alpha: float) -> F64:
        """Return ``(n,)`` Pareto draws of at least 1 with tail exponent ``alpha``."""
        return unit_pareto(alpha).sample(self.uniform())
