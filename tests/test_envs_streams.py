"""Named streams: known answers, uniform and independent draws, and bits that no batch or order can move."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from brownout.envs.streams import GOLDEN, episode_keys, mix64, pick, pick_allowed, stream_id, stream_ids, uniform

MASK = 0xFFFFFFFFFFFFFFFF
# Chance of a false alarm of one statistical check; seeds are fixed, so a pass stays a pass.
ALPHA = 1e-4
N = 65536
BINS = 16


def keys_of(seeds: Any, episodes: Any = 0, split: str = "train") -> NDArray[np.uint64]:
    seeds, episodes = np.broadcast_arrays(np.asarray(seeds), np.asarray(episodes))
    return episode_keys(seeds, episodes, split)


# ---------------------------------------------------------------- known answers


def mixed(z: int) -> int:
    """The finaliser in Python integers, written from the publication."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def drawn(seed: int, episode: int, split: str, stream: str, counter: int) -> float:
    """One draw in Python integers."""
    key = mixed((seed + 0x9E3779B97F4A7C15) & MASK)
    key = (key + episode * 0xD1342543DE82EF95) & MASK
    key = mixed(key ^ stream_id(f"split.{split}"))
    return (mixed((key + stream_id(stream) + counter * 0x9E3779B97F4A7C15) & MASK) >> 11) * 2.0**-53


def test_the_finaliser_gives_the_published_numbers() -> None:
    """The first five outputs of SplitMix64 seeded with 1234567, as other implementations print them."""
    expected = [
        6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821,
    ]  # fmt: skip
    z = np.arange(1, 6, dtype=np.uint64) * GOLDEN + np.uint64(1234567)
    assert mix64(z).tolist() == expected


def test_the_finaliser_works_in_place() -> None:
    z = np.array([1, 2, 3], dtype=np.uint64)
    assert mix64(z) is z
    assert z.tolist() == [mixed(1), mixed(2), mixed(3)]


def test_a_stream_is_named_by_a_stable_hash() -> None:
    assert stream_id("task") == int.from_bytes(hashlib.blake2b(b"task", digest_size=8).digest(), "little")
    assert stream_ids(["task", "judge"]).tolist() == [stream_id("task"), stream_id("judge")]
    names = [f"{kind}.{i}" for kind in ("fault", "configuration", "judge") for i in range(1000)]
    assert len(set(stream_ids(names).tolist())) == len(names)


@pytest.mark.parametrize("seed", [0, 7, 2**63 + 5, MASK])
@pytest.mark.parametrize("counter", [0, 1, 12345])
def test_a_draw_is_the_formula(seed: int, counter: int) -> None:
    key = keys_of(np.array([seed], dtype=np.uint64), 3, "eval")
    assert uniform(key, stream_id("judge.verdict"), counter).tolist() == [
        drawn(seed, 3, "eval", "judge.verdict", counter)
    ]


def test_known_draws() -> None:
    """Any change of the generator shows here; it changes every simulation, so it needs a new version."""
    key = keys_of([0, 1, 2], [0, 0, 5])
    assert key.tolist() == [13743037712526787991, 5188989140205764822, 5767555744693731517]
    found = uniform(key, stream_id("task.class"), np.array([0, 1, 2]))
    assert found.tolist() == [0.7417129761643796, 0.616351374473309, 0.3860849173703008]


# ---------------------------------------------------------------- distribution


def axes() -> dict[str, NDArray[np.float64]]:
    """Draws that differ along one axis only."""
    stream, one = stream_id("task"), keys_of([11], [4])
    many = stream_ids([f"service.{i}" for i in range(N)])
    return {
        "seeds": uniform(keys_of(np.arange(N)), stream),
        "distant seeds": uniform(keys_of(np.arange(N, dtype=np.uint64) << np.uint64(40)), stream),
        "episodes": uniform(keys_of(5, np.arange(N)), stream),
        "counters": uniform(one, stream, np.arange(N)),
        "streams": uniform(one, many),
        "eval": uniform(keys_of(np.arange(N), 0, "eval"), stream),
    }


AXES = axes()


@pytest.mark.parametrize("axis", AXES)
def test_draws_are_uniform(axis: str) -> None:
    u = AXES[axis]
    assert u.dtype == np.float64
    assert u.min() >= 0.0
    assert u.max() < 1.0
    assert stats.kstest(u, "uniform").pvalue > ALPHA
    assert stats.chisquare(np.bincount((u * 256).astype(int), minlength=256)).pvalue > ALPHA
    low_bits = (u * 2**53).astype(np.uint64) & np.uint64(0xFF)  # the last bits are as good as the first
    assert stats.chisquare(np.bincount(low_bits.astype(int), minlength=256)).pvalue > ALPHA


def independent(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    """Chi-square on a grid (any dependence) and correlation (a weak linear one)."""
    cells = (a * BINS).astype(int) * BINS + (b * BINS).astype(int)
    grid = stats.chisquare(np.bincount(cells, minlength=BINS * BINS)).pvalue
    return bool(grid > ALPHA and abs(np.corrcoef(a, b)[0, 1]) < 4.0 / np.sqrt(len(a)))


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("lag", [1, 2, 64])
def test_neighbours_along_an_axis_are_independent(axis: str, lag: int) -> None:
    u = AXES[axis]
    assert independent(u[:-lag], u[lag:])


def test_the_check_of_independence_can_fail() -> None:
    u = AXES["seeds"]
    assert not independent(u, u)
    assert not independent(u, np.mod(u + 0.3 * AXES["counters"], 1.0))
    assert not independent(u, np.where(u < 0.03, u, AXES["counters"]))


def test_streams_counters_and_splits_of_one_episode_are_independent() -> None:
    key, held_out = keys_of(np.arange(N)), keys_of(np.arange(N), 0, "eval")
    a, b = stream_id("fault.timeout#0@small"), stream_id("fault.timeout#1@small")
    draws = [
        uniform(key, a), uniform(key, b), uniform(key, a, 1), uniform(key, a, 2), uniform(held_out, a),
        uniform(keys_of(np.arange(N), 1), a),
    ]  # fmt: skip
    for i, first in enumerate(draws):
        for second in draws[i + 1 :]:
            assert independent(first, second)


def test_a_lane_and_its_neighbour_do_not_share_shifted_episodes() -> None:
    """Seed s at episode e + 1 is not seed s + 1 at episode e: lanes would replay each other."""
    seeds, episodes = np.meshgrid(np.arange(300), np.arange(300))
    keys = np.concatenate([keys_of(seeds.ravel(), episodes.ravel(), split) for split in ("train", "eval")])
    assert np.unique(keys).size == keys.size


# ---------------------------------------------------------------- invariance


def test_neither_batch_nor_order_moves_a_bit() -> None:
    rng = np.random.Generator(np.random.PCG64(3))
    seeds, episodes = rng.integers(0, 2**62, 257), rng.integers(0, 1000, 257)
    streams, counters = stream_ids([f"s{i % 7}" for i in range(257)]), rng.integers(0, 50, 257)
    keys = keys_of(seeds, episodes)
    whole = uniform(keys, streams, counters)
    order = rng.permutation(257)
    assert np.array_equal(
        uniform(keys_of(seeds[order], episodes[order]), streams[order], counters[order]), whole[order]
    )
    for i in range(0, 257, 16):
        alone = uniform(keys_of(seeds[i : i + 1], episodes[i : i + 1]), int(streams[i]), int(counters[i]))
        assert alone[0] == whole[i]


def test_draws_leave_their_arguments_alone() -> None:
    keys, streams, counters = keys_of([1, 2]), stream_ids(["a", "b"]), np.array([0, 3])
    before = keys.copy(), streams.copy(), counters.copy()
    for stream, counter in ((streams, counters), (stream_id("a"), 0), (0, 0), (streams, 5)):
        uniform(keys, stream, counter)
    for array, copy in zip((keys, streams, counters), before, strict=True):
        assert np.array_equal(array, copy)


def test_arguments_broadcast() -> None:
    keys, streams = keys_of([1, 2, 3]), stream_ids(["a", "b"])
    table = uniform(keys[:, None], streams, np.arange(3)[:, None])
    assert table.shape == (3, 2)
    for i, j in np.ndindex(3, 2):
        assert table[i, j] == uniform(keys[i : i + 1], int(streams[j]), i)[0]


def test_negative_and_huge_seeds_are_seeds_of_their_own() -> None:
    keys = [keys_of(np.array([seed]).astype(np.int64))[0] for seed in (-1, -2, 0, 1, 2**62)]
    assert len(set(map(int, keys))) == 5


# ---------------------------------------------------------------- whole numbers


def test_pick_covers_the_range_evenly_and_never_leaves_it() -> None:
    u = AXES["seeds"]
    assert stats.chisquare(np.bincount(pick(u, 7), minlength=7)).pvalue > ALPHA
    edge = np.array([0.0, np.nextafter(1.0, 0.0)])
    assert pick(edge, 5).tolist() == [0, 4]
    assert pick(edge, np.array([1, 3])).tolist() == [0, 2]
    assert pick(np.nextafter(np.ones(60), 0.0), np.arange(1, 61) * 10**13).tolist() == [
        i * 10**13 - 1 for i in range(1, 61)
    ]


def test_a_uniform_picks_one_of_the_allowed_columns_evenly() -> None:
    allowed = np.tile(np.array([False, True, False, True, True]), (7, 1))
    allowed[6] = [True, False, False, False, False]
    u = np.array([0.0, 0.33, 0.34, 0.66, 0.67, 1.0, 0.99])
    assert pick_allowed(u, allowed).tolist() == [1, 1, 3, 3, 4, 4, 0]
