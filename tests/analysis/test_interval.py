"""Intervals: values worked out with the standard library, and what holds at the ends."""

from statistics import NormalDist, stdev

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodule_det.analysis.interval import (
    Z,
    bca_interval,
    logit_interval,
    percentile_interval,
    standard_error,
)

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
    low, high = bca_interval(0.5, resampled, lambda: symmetric)
    assert (low, high) == (pytest.approx(0.025, abs=1e-9), pytest.approx(0.975, abs=1e-9))


def test_bca_shifts_towards_the_side_that_resampling_undershoots():
    # 60 % of the resamples lie below the figure: bias z0, both ends move up by 2 z0.
    resampled, normal = np.arange(10_001) / 10_000, NormalDist()
    low, high = bca_interval(0.6, resampled, lambda: np.array([-1.0, 0.0, 1.0]))
    bias = normal.inv_cdf((6000 + 0.5) / 10_001)
    assert low == pytest.approx(normal.cdf(2 * bias - Z), abs=1e-9)
    assert high == pytest.approx(normal.cdf(2 * bias + Z), abs=1e-9)


def test_bca_agrees_with_scipy():
    from scipy.stats import bootstrap

    data = np.random.default_rng(0).exponential(size=40)
    theirs = bootstrap((data,), np.mean, n_resamples=4000, method="BCa", rng=1)
    left_out = (data.sum() - data) / 39
    low, high = bca_interval(data.mean(), theirs.bootstrap_distribution, lambda: left_out)
    assert low == pytest.approx(theirs.confidence_interval.low, abs=1e-3)
    assert high == pytest.approx(theirs.confidence_interval.high, abs=1e-3)


def test_bca_of_resamples_on_one_side_is_the_percentile_interval():
    resampled = np.array([0.1, 0.2, 0.3])
    assert bca_interval(0.9, resampled, lambda: resampled) == percentile_interval(resampled)


def test_the_standard_error_is_the_deviation_over_resamples():
    assert standard_error(np.array([0.2, 0.4, 0.9])) == pytest.approx(stdev([0.2, 0.4, 0.9]))
    assert standard_error(np.array([0.2])) == 0
