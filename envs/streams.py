"""Named random streams: every draw is a pure function of (seed, episode, split, stream, counter).

There is no generator state. A lane's *episode key* mixes its seed, its episode index and the split; a
stream adds a constant derived from its name; the counter is a step or a call number. One SplitMix64
finaliser turns the sum into 64 random bits, of which the top 53 make the float. A draw therefore depends
neither on how many lanes run beside it nor on which other draws were made.

Source of the finaliser: Steele, Lea and Flood, "Fast splittable pseudorandom number generators"
(OOPSLA 2014), with Stafford's mix 13 constants.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

U64 = NDArray[np.uint64]

GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_EPISODE_STEP: Final = np.uint64(0xD1342543DE82EF95)
_MUL_1: Final = np.uint64(0xBF58476D1CE4E5B9)
_MUL_2: Final = np.uint64(0x94D049BB133111EB)
_S27: Final = np.uint64(27)
_S30: Final = np.uint64(30)
_S31: Final = np.uint64(31)
_S11: Final = np.uint64(11)
_TO_UNIT: Final = 2.0**-53


@lru_cache(maxsize=65536)
def stream_id(name: str) -> int:
    """Return the 64-bit constant of a stream name (the same in every process).

    >>> stream_id("task") == stream_id("task"), stream_id("task") == stream_id("judge")
    (True, False)
    """
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


def stream_ids(names: list[str] | tuple[str, ...]) -> U64:
    """Return the constants of several stream names as a ``(len(names),)`` array."""
    return np.array([stream_id(name) for name in names], dtype=np.uint64)


def mix64(z: U64) -> U64:
    """Apply the SplitMix64 finaliser to ``z`` in place and return it."""
    z ^= z >> _S30
    z *= _MUL_1
    z ^= z >> _S27
    z *= _MUL_2
    z ^= z >> _S31
    return z


def episode_keys(seeds: NDArray[Any], episodes: NDArray[Any], split: str) -> U64:
    """Return the key of each lane's episode.

    Args:
        seeds: ``(n,)`` lane seeds, any 64-bit integers.
        episodes: ``(n,)`` episode index of each lane, counted from 0 at the last seeding.
        split: ``train``, ``eval`` or any other name of a disjoint set of episodes.
    """
    keys = mix64(seeds.astype(np.uint64) + GOLDEN)
    keys += episodes.astype(np.uint64) * _EPISODE_STEP
    keys ^= np.uint64(stream_id(f"split.{split}"))
    return mix64(keys)


def uniform(keys: U64, stream: Any, counter: Any = 0) -> NDArray[np.float64]:
    """Draw floats in [0, 1) for ``keys``; the three arguments broadcast.

    Args:
        keys: episode keys, ``uint64`` of any shape.
        stream: constant(s) from :func:`stream_id`, an int or a ``uint64`` array.
        counter: step or call number(s), non-negative.

    >>> key = episode_keys(np.array([7]), np.array([0]), "train")
    >>> bool((uniform(key, stream_id("task")) == uniform(key, stream_id("task"))).all())
    True
    """
    z = keys + (stream if isinstance(stream, np.ndarray) else np.uint64(stream))
    if isinstance(counter, np.ndarray):
        z = z + counter.astype(np.uint64) * GOLDEN
    elif counter:
        z = z + np.uint64((counter * int(GOLDEN)) & 0xFFFFFFFFFFFFFFFF)
    elif z is keys:
        z = z.copy()
    bits = mix64(z)
    bits >>= _S11
    return np.multiply(bits, _TO_UNIT, dtype=np.float64)


def pick(u: NDArray[np.float64], n: int | NDArray[np.int64]) -> NDArray[np.int64]:
    """Turn uniforms into integers in ``[0, n)``."""
    return np.minimum((u * n).astype(np.int64), np.asarray(n) - 1)


def pick_allowed(u: NDArray[np.float64], allowed: NDArray[Any]) -> NDArray[np.int64]:
    """Turn ``(n,)`` uniforms into one column each that its row of ``(n, A)`` flags allows; every row allows one."""
    rank = np.cumsum(allowed, axis=1)
    return (rank > pick(u, rank[:, -1])[:, None]).argmax(axis=1)
