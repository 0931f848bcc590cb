"""Quantile tables: means, percentiles and shapes against closed forms, equal bits in any batch, errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from brownout.envs.quantiles import (
    KNOTS,
    QuantileBank,
    QuantileTable,
    constant,
    empirical,
    exponential,
    log10,
    log_uniform,
    logistic,
    lognormal,
    lognormal_mean,
    normal,
    pareto,
    uniform_between,
)

# Uniforms on a fine even grid: what the table makes of them has the table's own distribution.
GRID = (np.arange(1 << 18) + 0.5) / (1 << 18)

EXACT = {
    "uniform": (uniform_between(2.0, 5.0), stats.uniform(2.0, 3.0)),
    "normal": (normal(1.0, 2.0), stats.norm(1.0, 2.0)),
    "logistic": (logistic(), stats.logistic()),
    "lognormal": (lognormal(2.0, 9.0), stats.lognorm(math.log(4.5) / stats.norm.ppf(0.95), scale=2.0)),
    "log-uniform": (log_uniform(0.1, 10.0), stats.loguniform(0.1, 10.0)),
    "pareto": (pareto(3.0), stats.pareto(3.0)),
}
TABLES = {
    **{name: table for name, (table, _) in EXACT.items()},
    "lognormal by mean": lognormal_mean(0.53, 0.76),
    "exponential": exponential(7.0),
    "constant": constant(0.3),
    "empirical": empirical([3.0, 1.0, 1.0, 8.0]),
}


@pytest.mark.parametrize("name", EXACT)
def test_a_table_follows_its_distribution(name: str) -> None:
    table, exact = EXACT[name]
    inner = np.linspace(0.01, 0.99, 99)
    found = table.sample(inner)
    np.testing.assert_allclose(found, exact.ppf(inner), rtol=2e-3, atol=2e-3)
    assert [table.quantile(float(p)) for p in inner] == pytest.approx(found.tolist(), rel=1e-12)


@pytest.mark.parametrize("name", EXACT)
def test_a_table_has_nearly_the_mean_of_its_distribution(name: str) -> None:
    table, exact = EXACT[name]
    assert table.mean == pytest.approx(float(exact.mean()), rel=5e-3)


@pytest.mark.parametrize("name", TABLES)
def test_the_mean_is_that_of_the_samples(name: str) -> None:
    table = TABLES[name]
    assert float(table.sample(GRID).mean()) == pytest.approx(table.mean, rel=1e-9)


def test_a_mean_that_was_asked_for_is_exact() -> None:
    assert exponential(7.0).mean == pytest.approx(7.0, rel=1e-12)
    assert lognormal_mean(0.53, 0.76).mean == pytest.approx(0.53, rel=1e-12)
    assert lognormal_mean(0.53, 0.0).mean == pytest.approx(0.53, rel=1e-12)


def test_a_lognormal_has_the_percentiles_it_was_given_and_one_by_mean_its_spread() -> None:
    table = lognormal(0.8, 2.5)
    assert table.quantile(0.5) == pytest.approx(0.8, rel=1e-9)
    assert table.quantile(0.95) == pytest.approx(2.5, rel=1e-3)
    spread = np.log(lognormal_mean(3.0, 0.6).sample(GRID)).std()
    assert spread == pytest.approx(0.6, rel=0.01)


def test_tails_are_cut_at_a_quarter_of_a_knot() -> None:
    edge = 0.25 / (KNOTS - 1)
    for table, exact in (EXACT["normal"], EXACT["logistic"], EXACT["pareto"]):
        assert table.low == pytest.approx(float(exact.ppf(edge)), rel=1e-6)
        assert table.high == pytest.approx(float(exact.ppf(1.0 - edge)), rel=1e-6)


@pytest.mark.parametrize("name", TABLES)
def test_samples_stay_in_range_and_rise_with_the_uniform(name: str) -> None:
    table = TABLES[name]
    u = np.concatenate([[0.0], GRID[:: 1 << 6], [np.nextafter(1.0, 0.0)]])
    x = table.sample(u)
    assert x[0] == table.low
    assert x[-1] <= table.high
    assert (np.diff(x) >= 0.0).all()


def test_a_constant_never_differs() -> None:
    assert set(constant(0.3).sample(GRID[::999]).tolist()) == {0.3}


def test_an_empirical_table_has_the_quantiles_of_the_samples() -> None:
    samples = [0.2, 0.4, 0.4, 1.0, 7.0]
    table = empirical(samples)
    assert (table.low, table.high) == (0.2, 7.0)
    for p in (0.25, 0.5, 0.75):
        assert table.quantile(p) == pytest.approx(float(np.quantile(samples, p)), rel=1e-12)
    assert empirical([3.0]).sample(GRID[:5]).tolist() == [3.0] * 5


@given(st.lists(st.floats(0.0, 1.0, exclude_max=True), min_size=1, max_size=70), st.sampled_from(sorted(TABLES)))
def test_a_sample_has_the_same_bits_in_any_batch(u: list[float], name: str) -> None:
    table = TABLES[name]
    whole = table.sample(np.array(u))
    alone = [float(table.sample(np.array([value]))[0]) for value in u]
    assert whole.tolist() == alone
    assert table.sample(np.array(u)[::-1])[::-1].tolist() == alone
    assert table.sample(np.array([u, u])).tolist() == [alone, alone]


def test_a_bank_draws_what_its_tables_draw() -> None:
    tables = list(TABLES.values())
    bank = QuantileBank(tables)
    u = GRID[:: 1 << 8]
    rows = np.arange(u.size) % len(tables)
    expected = [float(tables[row].sample(u[i : i + 1])[0]) for i, row in enumerate(rows)]
    assert bank.sample(rows, u).tolist() == expected
    grid = bank.sample(np.arange(len(tables)), np.repeat(u[:3, None], len(tables), axis=1))
    assert grid.shape == (3, len(tables))
    assert grid[2, 1] == tables[1].sample(u[2:3])[0]


def test_sampling_leaves_the_uniforms_alone() -> None:
    u = GRID[:10].copy()
    normal().sample(u)
    QuantileBank([normal()]).sample(np.zeros(10, np.int64), u)
    assert np.array_equal(u, GRID[:10])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros(KNOTS - 1), f"has {KNOTS} values"),
        (np.full(KNOTS, np.nan), "finite and non-decreasing"),
        (np.full(KNOTS, np.inf), "finite and non-decreasing"),
        (np.linspace(1.0, 0.0, KNOTS), "finite and non-decreasing"),
    ],
)
def test_values_that_are_no_quantiles_are_refused(values: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        QuantileTable(values)


def test_impossible_parameters_are_refused_with_their_values() -> None:
    with pytest.raises(ValueError, match=r"median=2, p95=1"):
        lognormal(2, 1)
    with pytest.raises(ValueError, match=r"median=0\.0"):
        lognormal(0.0, 1.0)
    with pytest.raises(ValueError, match=r"low=0\.0, high=1"):
        log_uniform(0.0, 1)
    with pytest.raises(ValueError, match=r"low=2, high=1"):
        log_uniform(2, 1)
    with pytest.raises(ValueError, match=r"alpha > 0, not -1"):
        pareto(-1)
    with pytest.raises(ValueError, match="at least one sample"):
        empirical([])
    with pytest.raises(ValueError, match="all finite"):
        empirical([1.0, float("nan")])
    with pytest.raises(ValueError, match="non-decreasing"):
        uniform_between(2.0, 1.0)


def test_the_logarithm_is_exact_to_seven_digits_and_the_same_alone() -> None:
    values = np.geomspace(1e-6, 1e6, 20_001)
    logs = log10(values)
    np.testing.assert_allclose(logs, np.log10(values), atol=6e-8)
    assert (np.diff(logs) > 0).all()
    assert [log10(values[i : i + 1])[0] for i in range(0, 20_001, 997)] == logs[::997].tolist()
