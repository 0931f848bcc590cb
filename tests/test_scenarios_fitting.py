"""The likelihood against brute force, its gradient, and what the fit recovers and admits not to know."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from brownout.errors import TableError
from brownout.scenarios.fitting import ResponseFit, fit_best_model, fit_response_model, simulate_counts
from brownout.scenarios.likelihood import Counts, Likelihood

F64 = NDArray[np.float64]
SDS = np.array([1.3, 0.7, 0.9])


def counts(queries: int = 8, seed: int = 0, families: tuple[str, ...] = ("x", "x", "y"), classes: int = 2) -> Counts:
    rng = np.random.default_rng(seed)
    names = tuple(f"c{k}" for k in range(len(families)))
    runs = rng.integers(0, 5, (queries, len(names)))
    runs[0] = 4
    labels = tuple("uvw"[:classes])
    return Counts(names, families, labels, np.arange(queries) % classes, runs, rng.binomial(runs, 0.4))


def brute_force(data: Counts, margin: F64, sds: F64) -> F64:
    """The integral of the module's docstring, on a finer and wider grid, without tables."""
    z = np.linspace(-6.5, 6.5, 161)
    w = np.exp(-z * z / 2)
    w /= w.sum()
    logs = []
    for q in range(len(data.query_class)):
        total = np.ones(len(z))
        for family in dict.fromkeys(data.families):
            inside = np.ones((len(z), len(z)))
            for k in [k for k, name in enumerate(data.families) if name == family]:
                x = margin[k, data.query_class[q]] - sds[0] * z[:, None] + sds[1] * z[None, :]
                p = 1.0 / (1.0 + np.exp(-(x[:, :, None] + sds[2] * z)))
                s, n = data.successes[q, k], data.runs[q, k]
                inside = inside * ((p**s * (1 - p) ** (n - s)) @ w)
            total = total * (inside @ w)
        logs.append(np.log(total @ w))
    return np.array(logs)


def test_the_likelihood_is_the_integral() -> None:
    data = counts()
    margin = np.array([[0.5, -1.0], [2.0, 0.0], [-0.7, 1.1]])
    assert Likelihood(data).per_query(margin, SDS) == pytest.approx(brute_force(data, margin, SDS), abs=1e-4)


def test_without_spread_runs_are_independent() -> None:
    data = counts()
    margin = np.full((3, 2), 0.3)
    p = 1.0 / (1.0 + np.exp(-0.3))
    by_hand = data.successes.sum(axis=1) * np.log(p) + (data.runs - data.successes).sum(axis=1) * np.log(1 - p)
    assert Likelihood(data).per_query(margin, (0.0, 0.0, 0.0)) == pytest.approx(by_hand, abs=1e-6)


def test_the_gradient_is_the_slope() -> None:
    data = counts(20)
    likelihood, step = Likelihood(data), 1e-5
    margin = np.array([[0.5, -1.0], [2.0, 0.0], [-0.7, 1.1]])
    value, gradient = likelihood.gradient(margin, SDS)
    assert value == pytest.approx(likelihood.value(margin, SDS))
    for place in np.ndindex(margin.shape):
        shift = np.zeros_like(margin)
        shift[place] = step
        slope = (likelihood.value(margin + shift, SDS) - likelihood.value(margin - shift, SDS)) / (2 * step)
        assert gradient.margin[place] == pytest.approx(slope, abs=1e-5)
    for j in range(3):
        shift = step * np.eye(3)[j]
        slope = (likelihood.value(margin, SDS + shift) - likelihood.value(margin, SDS - shift)) / (2 * step)
        assert gradient.sds[j] == pytest.approx(slope, abs=1e-4)


def test_equal_queries_are_one_query_counted_often() -> None:
    data = counts(6)
    again = data.choose([0, 1, 2, 3, 4, 5, 5, 5, 0])
    margin = np.zeros((3, 2))
    once = Likelihood(data).per_query(margin, SDS)
    assert Likelihood(again).per_query(margin, SDS) == pytest.approx(once[[0, 1, 2, 3, 4, 5, 5, 5, 0]])


def test_impossible_counts_are_refused() -> None:
    data = counts()
    with pytest.raises(TableError, match="between 0 and the number of runs"):
        Counts(data.configs, data.families, data.classes, data.query_class, data.runs, data.runs + 1)
    with pytest.raises(TableError, match="allowed"):
        Counts(data.configs, data.families[:2], data.classes, data.query_class, data.runs, data.successes)


def known(margin: F64, sds: F64, families: tuple[str, ...], queries: int, repeats: int, seed: int) -> Counts:
    """Counts drawn from the model by NumPy, apart from the package's own streams."""
    rng = np.random.default_rng(seed)
    k, c = margin.shape
    group = np.arange(queries) % c
    kinds = list(dict.fromkeys(families))
    shared = rng.normal(0, sds[1], (queries, len(kinds)))[:, [kinds.index(f) for f in families]]
    x = margin.T[group] - rng.normal(0, sds[0], (queries, 1)) + shared + rng.normal(0, sds[2], (queries, k))
    runs = np.full((queries, k), repeats)
    wins = rng.binomial(runs, 1 / (1 + np.exp(-x)))
    return Counts(tuple(f"c{i}" for i in range(k)), families, tuple("uvw"[:c]), group, runs, wins)


TRUTH = np.array([[-1.0], [0.5], [1.5], [0.0]])
FAMILIES = ("x", "x", "y", "y")


@pytest.fixture(scope="module")
def large() -> ResponseFit:
    return fit_response_model(known(TRUTH, SDS, FAMILIES, 600, 4, 3))


def test_a_large_table_gives_the_parameters_back(large: ResponseFit) -> None:
    assert large.margin[:, 0] == pytest.approx(TRUTH[:, 0], abs=0.3)
    assert large.sds == pytest.approx(tuple(SDS), abs=0.3)
    assert not large.notes
    assert large.difficulty == pytest.approx([0.0])


def test_intervals_contain_the_truth_about_as_often_as_they_say() -> None:
    hits, wide = [], []
    for seed in range(8):
        intervals = fit_response_model(known(TRUTH, SDS, FAMILIES, 100, 4, 100 + seed)).intervals
        truth = {f"margin.c{k}.u": TRUTH[k, 0] for k in range(4)}
        truth |= dict(zip(("difficulty_sd", "family_sd", "configuration_sd"), SDS, strict=True))
        hits += [intervals[name].covers(float(value)) for name, value in truth.items()]
        wide += [intervals["margin.c0.u"].high - intervals["margin.c0.u"].low]
    # 56 intervals of 95 %; fewer than 48 hits have a chance below 1 % even if those of one table go together
    assert sum(hits) >= 48
    assert 0.4 < np.mean(wide) < 1.6  # a hundred queries say something, and not everything


def test_more_queries_narrow_the_intervals(large: ResponseFit) -> None:
    small = fit_response_model(large.counts.choose(range(60)))
    for name in ("margin.c0.u", "difficulty_sd", "configuration_sd"):
        a, b = small.intervals[name], large.intervals[name]
        assert b.high - b.low < 0.6 * (a.high - a.low)


def test_the_likelihood_prefers_the_truth_on_other_queries(large: ResponseFit) -> None:
    fresh = known(TRUTH, SDS, FAMILIES, 200, 4, 4)
    alone = fit_response_model(large.counts, fixed={"difficulty_sd": 0, "family_sd": 0, "configuration_sd": 0})
    assert large.score(fresh).mean() > alone.score(fresh).mean() + 0.3


def test_classes_get_their_difficulty_and_few_queries_shrink() -> None:
    margin = np.array([[1.5, -1.5], [2.5, -0.5], [0.5, -2.5]])
    fit = fit_response_model(known(margin, np.array([0.8, 0.0, 0.5]), ("x", "y", "z"), 200, 4, 5))
    assert fit.difficulty @ fit.counts.share == pytest.approx(0.0, abs=1e-9)
    assert fit.difficulty[1] - fit.difficulty[0] == pytest.approx(3.0, abs=0.8)
    assert fit.margin == pytest.approx(margin, abs=0.6)
    # one query of a class, on which the worst configuration is right by luck: its skill moves, not to infinity
    data = fit.counts
    group = data.query_class.copy()
    group[:] = 0
    group[0] = 1
    wins = data.successes.copy()
    wins[0] = [0, 0, 4]
    lucky = fit_response_model(Counts(data.configs, data.families, data.classes, group, data.runs, wins))
    skill = lucky.skill[:, 1] - lucky.skill[:, 0]
    assert 0.0 < skill[2] - skill[0] < 2.5
    assert lucky.intervals["margin.c2.v"].high - lucky.intervals["margin.c2.v"].low > 2.0


@pytest.mark.parametrize(
    ("families", "repeats", "name", "value", "why"),
    [
        (("x", "y"), 4, "family_sd", 0.0, "every family has one configuration"),
        (("x", "x"), 4, "family_sd", 0.0, "one family"),
        (("x", "x", "y"), 1, "configuration_sd", 0.8, "no configuration has repeats"),
        (("x",), 4, "configuration_sd", 0.0, "one configuration"),
        (("x",), 1, "difficulty_sd", 1.0, "luck from difficulty"),
    ],
)
def test_what_a_table_cannot_tell_is_assumed_and_said(
    families: tuple[str, ...], repeats: int, name: str, value: float, why: str
) -> None:
    fit = fit_response_model(known(np.zeros((len(families), 1)), SDS, families, 40, repeats, 6))
    assert fit.point()[name] == value
    assert not fit.intervals[name].identified
    assert any(why in note for note in fit.notes)


def test_no_spread_is_within_its_interval() -> None:
    fit = fit_response_model(known(TRUTH, np.array([1.0, 0.0, 0.0]), FAMILIES, 150, 4, 7))
    assert fit.intervals["family_sd"].low < 0.1
    assert fit.intervals["configuration_sd"].low < 0.1
    assert fit.intervals["configuration_sd"].high < 0.8


def test_configurations_that_always_or_never_succeed_stay_finite() -> None:
    runs = np.full((30, 2), 3)
    wins = np.stack([np.full(30, 3), np.zeros(30, int)], axis=1)
    fit = fit_response_model(Counts(("all", "none"), ("x", "y"), ("u",), np.zeros(30, int), runs, wins))
    assert np.isfinite(fit.margin).all()
    assert fit.margin[0, 0] > 2.0 > -2.0 > fit.margin[1, 0]


def test_bad_requests_are_refused() -> None:
    data = counts()
    with pytest.raises(TableError, match=r"fixed\.spread"):
        fit_response_model(data, fixed={"spread": 1.0})
    runs, wins = data.runs * [1, 0, 1], data.successes * [1, 0, 1]
    silent = Counts(data.configs, data.families, data.classes, data.query_class, runs, wins)
    with pytest.raises(TableError, match="'c1' has no run"):
        fit_response_model(silent)


def test_drawn_tables_repeat_the_fit_and_depend_on_the_seed(large: ResponseFit) -> None:
    first, again, other = simulate_counts(large, 1), simulate_counts(large, 1), simulate_counts(large, 2)
    assert (first.successes == again.successes).all()
    assert (first.successes != other.successes).any()
    rate = large.counts.successes.sum(axis=0) / large.counts.runs.sum(axis=0)
    assert first.successes.sum(axis=0) / first.runs.sum(axis=0) == pytest.approx(rate, abs=0.06)


def test_the_bootstrap_agrees_with_the_information() -> None:
    fit = fit_response_model(known(TRUTH[:2], SDS, ("x", "y"), 80, 3, 8))
    boot = fit.bootstrap(12, seed=1)
    for name in ("margin.c0.u", "difficulty_sd"):
        ratio = (boot[name].high - boot[name].low) / (fit.intervals[name].high - fit.intervals[name].low)
        assert 0.4 < ratio < 1.7
    assert not boot["family_sd"].identified


# ---------------------------------------------------------------- spreads of their own, and a ceiling


RATIO, CEILING = np.array([1.6, 0.7, 1.1]), np.array([1.2, 2.0])
PLACE = np.array([[0.5, -1.0], [2.0, 0.0], [-0.7, 1.1]])


def test_spreads_of_their_own_are_those_of_the_integral() -> None:
    data = counts(families=("x", "y", "z"))
    whole = Likelihood(data).per_query(PLACE, SDS, RATIO)
    for k in range(3):  # alone, a configuration has the common spread times its ratio
        alone = Counts((data.configs[k],), ("x",), data.classes, data.query_class, data.runs[:, [k]],
                       data.successes[:, [k]])  # fmt: skip
        one = Likelihood(alone).per_query(PLACE[[k]], SDS, RATIO[[k]])
        other = Likelihood(alone).per_query(PLACE[[k]], SDS * (1.0, 1.0, RATIO[k]))
        assert one == pytest.approx(other)
    assert whole != pytest.approx(Likelihood(data).per_query(PLACE, SDS), abs=1e-3)
    assert Likelihood(data).per_query(PLACE, SDS, np.ones(3)) == pytest.approx(Likelihood(data).per_query(PLACE, SDS))


def test_beyond_the_ceiling_only_failures_are_possible() -> None:
    data = counts(400, seed=3)
    likelihood = Likelihood(data)
    usual = likelihood.per_query(PLACE, SDS)
    lost, never = data.successes.sum(axis=1) == 0, data.runs.sum(axis=1) == 0
    high = likelihood.per_query(PLACE, SDS, None, np.full(2, 60.0))
    assert high == pytest.approx(usual, abs=1e-9)
    low = likelihood.per_query(PLACE, SDS, None, np.full(2, -60.0))
    assert low[lost] == pytest.approx(0.0, abs=1e-6)
    assert (low[~lost] < -20.0).all()
    some = likelihood.per_query(PLACE, SDS, None, CEILING)
    assert (some[lost & ~never] > usual[lost & ~never]).all()
    assert (lost & ~never).any()


def test_the_gradient_is_the_slope_in_spreads_and_ceilings_too() -> None:
    likelihood, step = Likelihood(counts(60)), 1e-5
    value, gradient = likelihood.gradient(PLACE, SDS, RATIO, CEILING)
    assert value == pytest.approx(likelihood.value(PLACE, SDS, RATIO, CEILING))
    for k in range(3):
        shift = np.eye(3)[k] * step
        up, down = (likelihood.value(PLACE, SDS, RATIO + s, CEILING) for s in (shift, -shift))
        assert gradient.latent[k] * SDS[2] == pytest.approx((up - down) / (2 * step), abs=2e-3)
        up, down = (likelihood.value(PLACE, SDS + s, RATIO, CEILING) for s in (shift, -shift))
        assert gradient.sds[k] == pytest.approx((up - down) / (2 * step), abs=2e-2)
    for c in range(2):
        shift = np.eye(2)[c] * step
        up, down = (likelihood.value(PLACE, SDS, RATIO, CEILING + s) for s in (shift, -shift))
        assert gradient.ceiling[c] == pytest.approx((up - down) / (2 * step), abs=1e-4)


def grown(ceiling: float, spreads: tuple[float, ...], queries: int = 500) -> Counts:
    """Drawn from the model, with a ceiling and spreads of their own."""
    rng = np.random.default_rng(5)
    d = rng.normal(0.0, 2.0, queries)
    x = np.array([0.5, 1.5, 1.0]) - d[:, None] + rng.normal(size=(queries, 3)) * spreads
    chance = np.where(d[:, None] > ceiling, 0.0, 1.0 / (1.0 + np.exp(-x)))
    wins = rng.binomial(4, chance)
    return Counts(("a", "b", "c"), ("x", "y", "z"), ("all",), np.zeros(queries, int), np.full((queries, 3), 4), wins)


def test_the_model_grows_where_the_table_asks_for_it_and_only_there() -> None:
    plain = fit_best_model(grown(99.0, (1.0, 1.0, 1.0)))
    assert plain.ratio is None
    assert plain.ceiling is None
    found = fit_best_model(grown(1.5, (0.3, 1.0, 2.5)))
    assert found.ratio is not None
    assert found.latent_sd[0] < 0.8 < 1.8 < found.latent_sd[2]
    assert found.intervals["latent_sd.c"].covers(2.5)
    assert found.ceiling is not None
    assert found.intervals["ceiling"].low - 0.3 < 1.5 < found.intervals["ceiling"].high + 0.3
    other = grown(1.5, (0.3, 1.0, 2.5), 300)
    assert found.score(other).sum() > fit_response_model(grown(1.5, (0.3, 1.0, 2.5))).score(other).sum()
    again = simulate_counts(found)
    lost = [(c.successes.sum(axis=1) == 0).mean() for c in (again, grown(1.5, (0.3, 1.0, 2.5)))]
    assert lost[0] == pytest.approx(lost[1], abs=0.05)
