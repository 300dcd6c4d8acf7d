"""Intervals: values worked out with the standard library, and what holds at the ends."""

from statistics import NormalDist, stdev

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import binom

from nodule_det.analysis.bootstrap import gamma_weights, units_of
from nodule_det.analysis.interval import (
    Z,
    bca_interval,
    difference_interval,
    few_units,
    gamma_intervals,
    interval_kind,
    logit_interval,
    percentile_interval,
    pseudo_lesions,
    standard_error,
    unbiased_variance,
)
from nodule_det.errors import FrocInputError

SHARES = st.floats(0.0, 1.0)


def test_z_is_the_quantile_of_the_normal_distribution():
    assert pytest.approx(NormalDist().inv_cdf(0.975), abs=1e-12) == Z


def test_the_logit_interval_is_the_estimate_and_1_96_deviations_mapped_back():
    resampled = np.array([0.5, 0.6, 0.7, 0.8])
    spread = Z * stdev(np.log(resampled / (1 - resampled)).tolist())
    low, high = logit_interval(0.65, resampled, n_lesions=1000)
    assert np.log(low / (1 - low)) == pytest.approx(np.log(0.65 / 0.35) - spread)
    assert np.log(high / (1 - high)) == pytest.approx(np.log(0.65 / 0.35) + spread)


@given(SHARES, st.lists(SHARES, min_size=2), st.integers(1, 1000))
def test_the_logit_interval_holds_the_figure_and_stays_between_0_and_1(value, resampled, n):
    low, high = logit_interval(value, np.array(resampled), n)
    assert 0 <= low <= value <= high <= 1


def test_a_perfect_detector_is_not_certain():
    low, high = logit_interval(1.0, np.ones(100), n_lesions=20)
    assert 0.7 < low < 0.95
    assert high == 1


def test_the_percentile_interval_is_two_quantiles():
    low, high = percentile_interval(np.arange(1001) / 1000)
    assert (low, high) == (pytest.approx(0.025), pytest.approx(0.975))


def test_bca_without_bias_and_skewness_is_the_percentile_interval():
    resampled = np.arange(1001) / 1000
    symmetric = np.array([-1.0, 0.0, 1.0])
    low, high = bca_interval(0.5, resampled, symmetric)
    assert (low, high) == (pytest.approx(0.025, abs=1e-9), pytest.approx(0.975, abs=1e-9))


def test_bca_shifts_towards_the_side_that_resampling_undershoots():
    # 60% of the resamples lie below the figure: bias z0, both ends move up by 2 z0.
    resampled, normal = np.arange(10_001) / 10_000, NormalDist()
    low, high = bca_interval(0.6, resampled, np.array([-1.0, 0.0, 1.0]))
    bias = normal.inv_cdf((6000 + 0.5) / 10_001)
    assert low == pytest.approx(normal.cdf(2 * bias - Z), abs=1e-9)
    assert high == pytest.approx(normal.cdf(2 * bias + Z), abs=1e-9)


def test_bca_agrees_with_scipy():
    from scipy.stats import bootstrap

    data = np.random.default_rng(0).exponential(size=40)
    theirs = bootstrap((data,), np.mean, n_resamples=4000, method="BCa", rng=1)
    left_out = (data.sum() - data) / 39
    low, high = bca_interval(data.mean(), theirs.bootstrap_distribution, left_out)
    assert low == pytest.approx(theirs.confidence_interval.low, abs=1e-3)
    assert high == pytest.approx(theirs.confidence_interval.high, abs=1e-3)


def test_bca_of_resamples_on_one_side_is_the_percentile_interval():
    resampled = np.array([0.1, 0.2, 0.3])
    assert bca_interval(0.9, resampled, resampled) == percentile_interval(resampled)


def test_the_standard_error_is_the_deviation_over_resamples():
    assert standard_error(np.array([0.2, 0.4, 0.9])) == pytest.approx(stdev([0.2, 0.4, 0.9]))
    assert standard_error(np.array([0.2])) == 0


def gamma(found, missed, n_resamples=200_000):
    """Return the default interval of lesions one a scan, each found or missed, with k = 1."""
    rng, n = np.random.default_rng(0), found + missed
    s = rng.gamma(found, size=n_resamples) if found else np.zeros(n_resamples)
    d = s + (rng.gamma(missed, size=n_resamples) if missed else 0)
    coin = rng.standard_exponential(n_resamples)
    bounds = gamma_intervals(np.array([found / n]), (s / d)[:, None], d, np.ones(1), coin)
    return float(bounds.low[0]), float(bounds.high[0])


@pytest.mark.parametrize(("found", "missed"), [(10, 0), (7, 3), (1, 19), (30, 0)])
def test_with_one_lesion_a_scan_it_is_the_mid_p_clopper_pearson_interval(found, missed):
    # Mid-p: P(X > x | p) + P(X = x | p) / 2 = 2.5% at the low end, and 97.5% at the high one.
    def mid_p(p):
        return binom.sf(found, found + missed, p) + binom.pmf(found, found + missed, p) / 2

    low, high = gamma(found, missed)
    assert low == pytest.approx(brentq(lambda p: mid_p(p) - 0.025, 0, 1), abs=0.003)
    if missed:
        assert high == pytest.approx(brentq(lambda p: mid_p(p) - 0.975, 0, 1), abs=0.003)
    else:
        assert high == 1


def test_lesions_in_scans_of_their_own_make_a_pseudo_lesion_of_one():
    assert pseudo_lesions(np.array([[0.0], [1.0], [1.0]]), np.arange(3)).tolist() == [1]


def test_lesions_that_share_their_fate_make_a_pseudo_lesion_of_a_whole_scan():
    # 100 scans of 3 lesions, all found or all missed: 2 other lesions each (P = 2).  Within:
    # 300 / 4 = 75; between: 100 (3 / 2)^2 = 225; rho = (225 - 75 + 0.3 * 2) / (2 (75 + 1)).
    worth = np.repeat(np.arange(100) % 2, 3).astype(float)[:, None]
    assert pseudo_lesions(worth, np.repeat(np.arange(100), 3))[0] == pytest.approx(1 + 150.6 / 76)


def test_where_all_are_found_the_correlation_is_the_assumed_one():
    # P = 2; (0 - 0 + 0.3 * 2) / (2 * (0 + 1)) = 0.3, so 1 + 0.3 * 2.
    unit = np.repeat(np.arange(5), 3)
    assert pseudo_lesions(np.ones((15, 1)), unit)[0] == pytest.approx(1.6)


@given(st.lists(st.tuples(SHARES, st.integers(0, 5)), min_size=2, max_size=30))
def test_the_default_interval_holds_the_figure_and_stays_between_0_and_1(lesions):
    worth = np.array([[w] for w, _ in lesions])
    unit = np.unique([u for _, u in lesions], return_inverse=True)[1]
    rng = np.random.default_rng(0)
    weights = rng.gamma(1, size=(100, unit.max() + 1))[:, unit]
    resampled = np.clip(weights @ worth / weights.sum(axis=1, keepdims=True), 0, 1)
    pseudo, value = pseudo_lesions(worth, unit), worth.mean(axis=0)
    bounds = gamma_intervals(
        value, resampled, weights.sum(axis=1), pseudo, rng.standard_exponential(100)
    )
    assert 0 <= bounds.low[0] <= value[0] <= bounds.high[0] <= 1
    assert bounds.se[0] > 0


def test_the_difference_interval_is_agresti_and_mins_with_students_t():
    # One lesion in each of 10 scans, 3 found by the second only, 1 by the first only: d = 0.2,
    # variance (4 - 10 * 0.2^2) / 9 / 10; two lesions added, t of 9 degrees is 2.262.
    variance = (4 - 0.4) / 9 / 10
    low, high = difference_interval(0.2, variance, 1.0, 10, 10)
    half = 2.2621571628 * (100 * variance + 1) ** 0.5 / 12
    assert (low, high) == (pytest.approx(2 / 12 - half), pytest.approx(2 / 12 + half))


def test_a_difference_stays_between_minus_1_and_1():
    assert difference_interval(-1.0, 0.0, 1.0, 1, 2) == (-1, 1)


@pytest.mark.parametrize("n", [6, 40])
def test_the_variance_under_gamma_weights_is_that_of_a_mean(n):
    values = np.random.default_rng(3).normal(size=n)
    weights = gamma_weights(units_of(np.arange(n).astype(str)), 60_000, np.random.default_rng(4))
    resampled = (weights @ values / weights.sum(axis=1))[:, None]
    assert unbiased_variance(resampled, n)[0] == pytest.approx(values.var(ddof=1) / n, rel=0.03)


def test_few_scans_are_named_in_a_sentence():
    assert few_units(4) == "a 95% CI needs at least 5 scans, and there are 4"
    assert few_units(2, "patients") == "a 95% CI needs at least 5 patients, and there are 2"
    assert few_units(5) is None


def test_an_unknown_kind_of_interval_is_refused():
    assert interval_kind("bca") is interval_kind(interval_kind("bca"))
    with pytest.raises(FrocInputError, match="interval='BCa' is not a kind of interval; use gamma"):
        interval_kind("BCa")
