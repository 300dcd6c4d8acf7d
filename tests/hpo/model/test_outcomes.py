import numpy as np
import pytest

from nodule_det.hpo.model.outcomes import MIN_NOISE, standardise, standardise_labels, winsorise


def test_values_are_scaled_to_mean_zero_and_variance_one_in_any_unit():
    for unit in (1e-6, 1.0, 1e6):
        data = standardise(unit * np.array([1.0, 2.0, 3.0]), unit * np.full(3, 0.1))
        sd = (2 / 3) ** 0.5
        assert data.values == pytest.approx([-1 / sd, 0, 1 / sd])
        assert data.noise == pytest.approx([(0.1 / sd) ** 2 + MIN_NOISE] * 3)
        assert data.values * data.scale + data.center == pytest.approx([unit, 2 * unit, 3 * unit])


def test_values_within_a_hundredth_are_scaled_to_the_same_problem():
    values, se = np.array([0.1, 0.7, 0.4, 0.55]), np.full(4, 0.02)
    wide, narrow = standardise(values, se), standardise(0.9 + 0.01 * values, 0.01 * se)
    assert narrow.values == pytest.approx(wide.values)
    assert narrow.noise == pytest.approx(wide.noise)


def test_values_that_differ_by_less_than_their_errors_are_not_inflated():
    data = standardise(np.array([0.001, 0.002, 0.004]), np.array([0.02, 0.03, 0.5]))
    assert data.scale == 0.03
    assert np.abs(data.values).max() < 0.1


@pytest.mark.parametrize("value", [0.0, 0.4, 1e6, -1e-6])
def test_equal_values_of_unknown_error_stay_finite(value):
    data = standardise(np.full(3, value), None)
    assert data.values == pytest.approx([0, 0, 0])
    assert data.scale == 1


def test_low_outliers_are_raised_to_the_fence_of_tukey_and_high_ones_kept():
    values = np.array([-1e6, 1.0, 2.0, 3.0, 4.0, 5.0, 1e6])
    # Quartiles 1.5 and 4.5: the fence lies at 1.5 - 1.5 * 3.
    assert list(winsorise(values)) == [-3.0, 1.0, 2.0, 3.0, 4.0, 5.0, 1e6]


def test_the_fence_holds_when_a_third_of_the_values_have_exploded():
    values = np.array([-1e8, -1e5, -1e3, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    # The first quartile is -1000 and the median 1, four below the best.
    assert list(winsorise(values)) == [1 - 5 * 4] * 3 + [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


def test_an_outlier_is_found_among_equal_values():
    values = np.array([-1e9, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.75])
    assert list(winsorise(values)) == [0.5 - 5 * 0.25] + [0.5] * 6 + [0.75]


@pytest.mark.parametrize("values", [[], [0.3], [0.5, 0.5, 0.5, 0.5, 0.1], [0.1, 0.2, 0.3]])
def test_values_without_a_tail_are_not_winsorised(values):
    assert list(winsorise(np.array(values))) == values


def test_failures_alone_are_below_the_value_expected_elsewhere():
    data = standardise_labels(np.zeros(4, bool))
    assert data.center == pytest.approx(1 / 6)  # as of one more success and one more failure
    assert (data.values < 0).all()
    assert data.values * data.scale + data.center == pytest.approx([0.0] * 4)


def test_an_error_that_all_values_share_does_not_affect_their_differences():
    values, se = np.array([0.1, 0.7, 0.4]), np.full(3, 0.02)
    alone = standardise(values, se)
    shared = standardise(values, se, np.full((3, 1), 0.5))
    assert shared.shared == pytest.approx(np.zeros((3, 3)))
    assert shared.noise == pytest.approx(alone.noise)
    assert shared.scale == alone.scale


def test_the_error_of_a_difference_is_that_of_the_influences():
    influence = np.array([[0.03, 0.04, 0.0], [0.03, 0.0, 0.02], [0.01, 0.0, 0.0]])
    data = standardise(np.array([0.1, 0.7, 0.4]), None, influence)
    for i, j in [(0, 1), (0, 2), (1, 2)]:
        variance = data.shared[i, i] + data.shared[j, j] - 2 * data.shared[i, j]
        expected = np.sum((influence[i] - influence[j]) ** 2)
        assert variance * data.scale**2 == pytest.approx(expected)


def test_values_that_differ_by_less_than_the_error_of_differences_are_not_inflated():
    influence = 0.03 * np.eye(4)
    data = standardise(np.array([0.001, 0.002, 0.003, 0.004]), None, influence)
    assert data.scale == pytest.approx(0.03 * (3 / 4) ** 0.5)  # less the mean of four
