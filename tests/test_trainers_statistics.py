"""Intervals, paired differences, pass@k and frontiers against scipy, brute force and simulated coverage."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from scipy.special import ndtri

from brownout.envs.streams import stream_id, uniform
from brownout.trainers import frontier, statistics

F64 = NDArray[np.float64]


def draw(name: str, *shape: int) -> F64:
    keys = np.arange(int(np.prod(shape)), dtype=np.uint64)
    return uniform(keys, stream_id(f"test.statistics.{name}")).reshape(shape)


def normal(name: str, *shape: int) -> F64:
    return ndtri(draw(name, *shape))


def ends(estimate: statistics.Estimate | statistics.Difference) -> tuple[float, float]:
    return estimate.low, estimate.high


# ---------------------------------------------------------------- means


@pytest.mark.parametrize("n", [2, 5, 300])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_mean_interval_is_students(n: int, level: float) -> None:
    values = normal("t", n) * 3 + 1
    expected = stats.ttest_1samp(values, 0).confidence_interval(level)
    got = statistics.mean(values, level=level)
    assert got.value == pytest.approx(values.mean())
    assert ends(got) == pytest.approx((expected.low, expected.high))
    assert (got.n, got.half_width) == (n, pytest.approx((expected.high - expected.low) / 2))


def test_clusters_of_one_change_nothing() -> None:
    values = normal("single", 40)
    assert ends(statistics.mean(values, np.arange(40))) == pytest.approx(ends(statistics.mean(values)))


def test_equal_clusters_are_as_good_as_their_means() -> None:
    values = normal("equal", 30, 4)
    clustered = statistics.mean(values.ravel(), np.repeat([f"q{i}" for i in range(30)], 4))
    assert ends(clustered) == pytest.approx(ends(statistics.mean(values.mean(axis=1))))
    assert clustered.n == 120


def test_the_order_of_episodes_does_not_matter() -> None:
    values, ids = normal("order", 50), np.arange(50) % 7
    order = np.argsort(draw("shuffle", 50))
    shuffled = statistics.mean(values[order], ids[order])
    assert ends(shuffled) == pytest.approx(ends(statistics.mean(values, ids)))


def test_coverage_of_the_plain_interval() -> None:
    samples = normal("coverage", 3000, 8)
    hits = [not statistics.mean(sample).excludes(0.0) for sample in samples]
    assert np.mean(hits) == pytest.approx(0.95, abs=0.015)


def test_coverage_with_shared_queries_needs_the_clusters() -> None:
    shared = np.repeat(normal("query", 1500, 20), 5, axis=1)  # 20 queries with 5 episodes each
    samples = shared + 0.7 * normal("episode", 1500, 100)
    ids = np.repeat(np.arange(20), 5)
    robust = [not statistics.mean(sample, ids).excludes(0.0) for sample in samples]
    naive = [not statistics.mean(sample).excludes(0.0) for sample in samples]
    assert np.mean(robust) == pytest.approx(0.95, abs=0.02)
    assert np.mean(naive) < 0.75


def test_a_mean_without_spread_to_go_by_is_undefined() -> None:
    assert math.isnan(statistics.mean([]).value)
    one = statistics.mean([3.0])
    assert one.value == 3.0
    assert math.isnan(one.low)
    assert not one.excludes(99.0)
    single_query = statistics.mean([1.0, 2.0, 3.0], [0, 0, 0])
    assert single_query.value == 2.0
    assert math.isnan(single_query.high)
    assert math.isnan(statistics.mean([1.0, math.nan, 2.0]).value)


# ---------------------------------------------------------------- proportions


@pytest.mark.parametrize(("wins", "n"), [(0, 5), (1, 7), (30, 60), (199, 200), (12, 12)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_proportion_interval_is_wilsons(wins: int, n: int, level: float) -> None:
    expected = stats.binomtest(wins, n).proportion_ci(level, method="wilson")
    got = statistics.proportion([1] * wins + [0] * (n - wins), level=level)
    assert ends(got) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_coverage_of_clustered_proportions() -> None:
    rate = np.where(draw("rate", 1500, 25, 1) < 0.7, 0.95, 0.1)  # most queries easy, some hard: mean 0.695
    samples = (draw("success", 1500, 25, 6) < rate).reshape(1500, 150)
    ids = np.repeat(np.arange(25), 6)
    robust = [not statistics.proportion(sample, ids).excludes(0.695) for sample in samples]
    naive = [not statistics.proportion(sample).excludes(0.695) for sample in samples]
    assert 0.93 < np.mean(robust) < 0.985
    assert np.mean(naive) < 0.75


def test_a_clustered_proportion_is_no_more_certain_than_its_data() -> None:
    all_right = statistics.proportion([1] * 40, np.repeat(np.arange(4), 10))
    few = stats.binomtest(4, 4).proportion_ci(method="wilson")
    assert all_right.value == all_right.high == 1.0
    assert all_right.low < few.low  # four clusters, and Student's quantile instead of the normal one
    balanced = statistics.proportion([0, 1] * 20, np.repeat(np.arange(20), 2))
    assert balanced.high - balanced.low >= 2 * statistics.proportion([0, 1] * 20).half_width
    assert math.isnan(statistics.proportion([1, 0], ["a", "a"]).low)
    assert math.isnan(statistics.proportion([]).value)
    assert math.isnan(statistics.proportion([1.0, math.nan]).value)


# ---------------------------------------------------------------- quantiles


@pytest.mark.parametrize("q", [0.05, 0.5, 0.95, 0.99])
@pytest.mark.parametrize("n", [1, 5, 6, 59, 100, 400, 1000])
def test_quantile_interval_is_that_of_order_statistics(q: float, n: int) -> None:
    values = draw("quantile", n) ** 2
    expected = stats.quantile_test(values, p=q).confidence_interval(0.95)
    got = statistics.quantile(values, q)
    assert got.value == pytest.approx(np.quantile(values, q))
    assert ends(got) == pytest.approx((expected.low, expected.high), nan_ok=True)


def test_quantile_interval_covers_and_is_not_wasteful() -> None:
    samples = draw("quantile-coverage", 2000, 200)
    for q in (0.5, 0.95):
        hits = np.mean([not statistics.quantile(sample, q).excludes(q) for sample in samples])
        assert 0.945 < hits < 0.99


def test_a_tail_that_the_data_does_not_reach_is_undefined() -> None:
    estimate = statistics.percentiles(np.arange(100.0))
    assert tuple(estimate) == ("p50", "p95", "p99")
    assert math.isnan(estimate["p99"].high)
    assert not math.isnan(estimate["p99"].low)
    assert math.isnan(statistics.quantile([], 0.5).value)
    assert math.isnan(statistics.quantile([1.0, math.nan], 0.5).value)


# ---------------------------------------------------------------- paired differences


def test_paired_difference_is_the_paired_t_test() -> None:
    a, b = normal("a", 25), normal("b", 25) * 0.5 + 0.3
    test = stats.ttest_rel(a, b)
    interval = test.confidence_interval(0.95)
    got = statistics.paired_difference(a, b)
    assert got.value == pytest.approx((a - b).mean())
    assert ends(got) == pytest.approx((interval.low, interval.high))
    assert got.p_value == pytest.approx(test.pvalue)


def test_clustered_pairs_reduce_to_their_cluster_means() -> None:
    a, b = normal("ca", 20, 3), normal("cb", 20, 3)
    test = stats.ttest_rel(a.mean(axis=1), b.mean(axis=1))
    got = statistics.paired_difference(a.ravel(), b.ravel(), np.repeat(np.arange(20), 3))
    assert got.p_value == pytest.approx(test.pvalue)
    assert got.n == 60


@pytest.mark.parametrize("n", [10, 40, 1000])
@pytest.mark.parametrize("power", [0.8, 0.9])
def test_smallest_detectable_difference_has_its_power(n: int, power: float) -> None:
    delta = normal("power", n)
    got = statistics.paired_difference(delta, np.zeros(n), power=power)
    shift = got.smallest_detectable / (delta.std(ddof=1) / math.sqrt(n))
    critical = stats.t.ppf(0.975, n - 1)
    exact = stats.nct.sf(critical, n - 1, shift) + stats.nct.cdf(-critical, n - 1, shift)
    assert exact == pytest.approx(power, abs=0.02)


def test_smallest_detectable_difference_in_simulation() -> None:
    noise = normal("detect", 3000, 30)
    shift = (stats.t.ppf(0.975, 29) + stats.t.ppf(0.8, 29)) / math.sqrt(30)
    found = [statistics.paired_difference(row + shift, np.zeros(30)).excludes(0.0) for row in noise]
    assert np.mean(found) == pytest.approx(0.8, abs=0.025)
    typical = [statistics.paired_difference(row, np.zeros(30)).smallest_detectable for row in noise[:300]]
    assert np.mean(typical) == pytest.approx(shift, rel=0.05)


def test_paired_difference_at_the_edges() -> None:
    same = statistics.paired_difference([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert (same.value, same.p_value, same.excludes(0.0)) == (0.0, 1.0, False)
    shifted = statistics.paired_difference([2.0, 3.0, 4.0], [1.0, 2.0, 3.0])
    assert (shifted.value, shifted.p_value) == (1.0, 0.0)
    for broken in ([1.0], [1.0, math.nan]):
        got = statistics.paired_difference(broken, [0.0] * len(broken))
        assert math.isnan(got.low)
        assert math.isnan(got.p_value)
        assert math.isnan(got.smallest_detectable)
    with pytest.raises(ValueError, match="2 and 3"):
        statistics.paired_difference([1.0, 2.0], [1.0, 2.0, 3.0])


# ---------------------------------------------------------------- pass@k, tail


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_pass_at_k_and_pass_hat_k_by_enumeration(k: int) -> None:
    for n in range(6):
        for c in range(n + 1):
            runs = [1] * c + [0] * (n - c)
            subsets = list(itertools.combinations(runs, k))
            at_k, hat_k = statistics.pass_at_k([n], [c], k)[0], statistics.pass_hat_k([n], [c], k)[0]
            if n < k:
                assert math.isnan(at_k)
                assert math.isnan(hat_k)
            else:
                assert at_k == pytest.approx(np.mean([any(subset) for subset in subsets]))
                assert hat_k == pytest.approx(np.mean([all(subset) for subset in subsets]))


def test_pass_at_k_is_unbiased_where_the_naive_estimate_is_not() -> None:
    rate, n, k = 0.3, 6, 4
    wins = (draw("pass", 20_000, n) < rate).sum(axis=1)
    truth = 1 - (1 - rate) ** k
    assert statistics.pass_at_k(n, wins, k).mean() == pytest.approx(truth, abs=0.01)
    assert abs((1 - (1 - wins / n) ** k).mean() - truth) > 0.03
    assert statistics.pass_hat_k(n, wins, k).mean() == pytest.approx(rate**k, abs=0.005)


def test_cvar_by_hand_and_at_its_ends() -> None:
    values = [5.0, -1.0, 3.0, 1.0]
    assert statistics.cvar(values, 0.25) == -1.0
    assert statistics.cvar(values, 0.5) == 0.0
    assert statistics.cvar(values, 0.375) == pytest.approx((-1.0 + 0.5 * 1.0) / 1.5)
    assert statistics.cvar(values, 1.0) == 2.0
    assert math.isnan(statistics.cvar([], 0.1))
    assert math.isnan(statistics.cvar([1.0, math.nan], 0.1))


# ---------------------------------------------------------------- frontier


@pytest.mark.parametrize("maximize", list(itertools.product([True, False], repeat=3)))
def test_non_dominated_by_definition(maximize: tuple[bool, ...]) -> None:
    points = np.round(draw("pareto", 40, 3) * 4) / 4  # a coarse grid has ties and doubles
    sign = np.where(maximize, 1, -1)

    def beats(p: F64, q: F64) -> bool:
        return bool((p * sign >= q * sign).all() and (p * sign > q * sign).any())

    expected = [not any(beats(p, q) for p in points) for q in points]
    got = frontier.non_dominated(points, maximize)
    assert got.tolist() == expected
    assert 0 < got.sum() < 40


def test_a_point_with_nan_neither_wins_nor_beats() -> None:
    points = [[0.9, 1.0], [math.nan, 0.0], [0.9, 1.0], [0.5, 2.0]]
    assert frontier.non_dominated(points, (True, False)).tolist() == [True, False, True, False]


def test_hypervolume_by_counting_cells() -> None:
    points = np.round(draw("volume", 12, 2) * 20) / 20
    centres = (np.arange(30) + 0.5) / 20
    cost, quality = np.meshgrid(centres, centres - 0.25)
    reference = (1.25, -0.25)
    inside = (cost < reference[0]) & (quality > reference[1])
    covered = np.zeros(cost.shape, bool)
    for c, q in points:
        covered |= (cost > c) & (quality < q)
    assert frontier.hypervolume_2d(points, reference) == pytest.approx((covered & inside).sum() / 400)
    assert frontier.hypervolume_2d([[2.0, 0.5]], (1.0, 0.0)) == 0.0
    assert frontier.hypervolume_2d([], (1.0, 0.0)) == 0.0
    assert math.isnan(frontier.hypervolume_2d([[math.nan, 0.5]], (1.0, 0.0)))


@given(st.lists(st.tuples(*[st.integers(0, 6)] * 3), max_size=6))
def test_hypervolume_in_three_dimensions_counts_covered_cells(points: list[tuple[int, int, int]]) -> None:
    cost, latency, quality = np.meshgrid(*[np.arange(6) + 0.5] * 3, indexing="ij")
    covered = np.zeros(cost.shape, bool)
    for c, t, q in points:
        covered |= (cost > c) & (latency > t) & (quality < q)
    assert frontier.hypervolume_3d(np.reshape(points, (-1, 3)), (6.0, 6.0, 0.0)) == covered.sum()


def grid_quality(points: F64, cost: F64) -> F64:
    """Best quality at each cost by mixing at most two of the points, the origin and "spend less"."""
    best = np.zeros(len(cost))
    table = np.vstack([[0.0, 0.0], points])
    for a, b in itertools.product(table, repeat=2):
        if a[0] < b[0]:
            within = (cost >= a[0]) & (cost <= b[0])
            mixed = a[1] + (b[1] - a[1]) * (cost - a[0]) / (b[0] - a[0])
            best = np.where(within, np.maximum(best, mixed), best)
        best = np.where(cost >= a[0], np.maximum(best, a[1]), best)
    return np.maximum.accumulate(best)


@pytest.mark.parametrize("cost_max", [0.3, 0.8, 2.0])
def test_aiq_is_the_mean_height_of_all_mixtures(cost_max: float) -> None:
    for i in range(8):
        points = draw(f"aiq{i}", 6, 2)
        grid = np.linspace(0.0, cost_max, 4001)
        expected = np.trapezoid(grid_quality(points, grid), grid) / cost_max
        assert frontier.aiq(points, cost_max) == pytest.approx(expected, abs=2e-4)


def test_aiq_by_hand() -> None:
    # the hull rises to 0.5 at 1, to 0.8 at 2, and stays; (1.5, 0.6) lies under it, (3, 0.7) falls
    points = [[1.0, 0.5], [2.0, 0.8], [1.5, 0.6], [3.0, 0.7]]
    assert frontier.quality_hull(points).tolist() == [[0, 0], [1, 0.5], [2, 0.8]]
    assert frontier.aiq(points, 4.0) == pytest.approx((0.25 + 0.65 + 1.6) / 4)
    assert frontier.aiq([[0.0, 0.4]], 1.0) == pytest.approx(0.4)
    assert math.isnan(frontier.aiq([], 1.0))
    assert math.isnan(frontier.aiq([[1.0, math.nan]], 1.0))


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: statistics.mean([1.0], level=95), "level: got 95"),
        (lambda: statistics.mean([[1.0, 2.0]]), r"shape \(1, 2\)"),
        (lambda: statistics.mean([1.0, 2.0], [1]), "clusters"),
        (lambda: statistics.proportion([0, 2]), "got 2.0"),
        (lambda: statistics.quantile([1.0], 95), "q: got 95"),
        (lambda: statistics.pass_at_k([3], [4], 1), "4 of 3"),
        (lambda: statistics.pass_at_k([3], [1], 0), "k: got 0"),
        (lambda: statistics.cvar([1.0], 0.0), "share: got 0.0"),
        (lambda: frontier.aiq([[1.0, 1.0]], 0.0), "cost_max: got 0.0"),
        (lambda: frontier.aiq([1.0, 2.0], 1.0), "points"),
        (lambda: frontier.non_dominated([[1.0, 1.0]], [True]), "points"),
    ],
)
def test_impossible_input_is_refused(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match=message):
        call()


def test_a_bootstrap_interval_takes_percentiles_and_none_over_undefined_draws() -> None:
    draws = np.arange(1001.0)
    for level, low, high in ((0.95, 25.0, 975.0), (0.5, 250.0, 750.0)):
        estimate = statistics.bootstrap_estimate(7.0, draws, 5, level)
        assert (estimate.value, estimate.n) == (7.0, 5)
        assert (estimate.low, estimate.high) == pytest.approx((low, high))
    draws[3] = np.nan
    for undefined in (draws, []):
        estimate = statistics.bootstrap_estimate(7.0, undefined, 5)
        assert estimate.value == 7.0
        assert np.isnan([estimate.low, estimate.high]).all()
    with pytest.raises(ValueError, match="level"):
        statistics.bootstrap_estimate(7.0, draws, 5, level=95.0)
