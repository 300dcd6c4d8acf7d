import numpy as np
import pytest

from nodule_det.hpo.model import gp as module
from nodule_det.hpo.model.gp import Joint, Scales, draw_surrogates, fit_surrogate, shears


def wave(x):
    return np.sin(3 * x[:, 0]) * 0.4 + 0.3


@pytest.fixture(scope="module")
def fitted():
    x = np.random.default_rng(0).random((40, 3))
    return fit_surrogate(x, wave(x), np.full(40, 0.005))


def test_it_predicts_a_smooth_function_between_its_points(fitted):
    new = np.random.default_rng(1).random((100, 3))
    mean, sd = fitted.predict(new)
    assert np.abs(mean - wave(new)).max() < 0.05
    assert np.mean(np.abs(mean - wave(new)) < 3 * sd) > 0.9


def test_a_column_without_effect_gets_a_longer_scale(fitted):
    lengths = fitted.scales.lengths
    assert lengths[0] < 0.5 * min(lengths[1], lengths[2])


def test_far_from_data_it_says_that_it_does_not_know(fitted):
    _, near = fitted.predict(fitted.features[:1])
    _, far = fitted.predict(fitted.features[:1] + 5)
    assert far > 5 * near


def test_a_noisy_value_is_trusted_less():
    x = np.linspace(0, 1, 8)[:, None]
    values = np.full(8, 0.5)
    values[3] = 0.9
    trusted = fit_surrogate(x, values, np.full(8, 0.01)).predict(x[3:4])[0]
    doubted = np.full(8, 0.01)
    doubted[3] = 0.4
    assert fit_surrogate(x, values, doubted).predict(x[3:4])[0] < trusted


def test_first_scores_near_zero_are_not_blown_up():
    x = np.random.default_rng(2).random((3, 2))
    assert fit_surrogate(x, np.array([0.001, 0.002, 0.004])).scale == module.SCALE_FLOOR


def test_equal_values_and_equal_points_can_be_fitted():
    x = np.tile([[0.2, 0.7]], (6, 1))
    mean, sd = fit_surrogate(x, np.full(6, 0.4)).predict(x[:1])
    assert mean == pytest.approx(0.4)
    assert np.isfinite(sd).all()


def test_drawn_scales_differ_where_the_data_leave_them_open(fitted):
    x, se = fitted.features, np.full(40, 0.005)
    models = draw_surrogates(x, wave(x), se, np.random.default_rng(0), 20)
    lengths = np.array([m.scales.lengths for m in models])
    spread = np.log(lengths).std(0)
    assert spread[0] < 0.5 * min(spread[1:])
    again = fit_surrogate(x, wave(x), se, np.random.default_rng(0))
    assert np.array_equal(again.scales.lengths, lengths[0])


def test_without_a_generator_every_draw_is_the_most_probable(fitted):
    x = fitted.features
    for model in draw_surrogates(x, wave(x), np.full(40, 0.005), None, 2):
        assert np.array_equal(model.scales.lengths, fitted.scales.lengths)


def test_no_trial_is_refused():
    with pytest.raises(ValueError, match="at least one completed trial"):
        fit_surrogate(np.empty((0, 2)), np.empty(0))


@pytest.mark.parametrize("sheared", [(), (1,), (0, 2)])
def test_the_gradient_is_that_of_finite_differences(sheared):
    rng = np.random.default_rng(3)
    x, y, own = rng.random((12, 3)), rng.normal(size=12), rng.uniform(0.01, 0.1, 12)
    known = module._Known(x, y, own, shears(3, sheared))
    theta = rng.normal(size=5 + 2 * len(sheared)) * 0.3 - 1
    _, gradient = module._surprise(theta, known)
    for i in range(len(theta)):
        step = np.zeros(len(theta))
        step[i] = 1e-6
        up = module._surprise(theta + step, known)[0]
        down = module._surprise(theta - step, known)[0]
        assert gradient[i] == pytest.approx((up - down) / 2e-6, rel=1e-4, abs=1e-6)


def oblique(x):
    """Crest at x0 = 0.4 + 0.2 (x1 - x2)."""
    return np.exp(-0.5 * ((x[:, 0] - 0.4 - 0.2 * (x[:, 1] - x[:, 2])) / 0.08) ** 2)


def test_a_sheared_column_learns_how_its_crest_moves():
    x, new = np.random.default_rng(8).random((2, 60, 3))
    straight, sheared = (fit_surrogate(x, oblique(x), sheared=s) for s in ((), (0,)))
    assert sheared.scales.shear[0] == pytest.approx([0, -0.2, 0.2], abs=0.03)
    assert not sheared.scales.shear[1:].any()
    errors = [np.abs(s.predict(new)[0] - oblique(new)).mean() for s in (straight, sheared)]
    assert errors[1] < 0.5 * errors[0]


def test_the_covariance_at_one_length_by_hand():
    scales = Scales(np.array([2.0]), 3.0, 0.0)
    matern = [(1 + r + r * r / 3) * np.exp(-r) for r in (5**0.5, 5**0.5 / 0.3)]
    expected = 3 * (0.75 * matern[0] + 0.25 * matern[1])
    assert scales.covariance(np.array([[0.0]]), np.array([[2.0]]))[0, 0] == pytest.approx(expected)


def test_a_joint_draw_has_the_posterior_mean_and_variance(fitted):
    points = np.random.default_rng(4).random((5, 3)) * 1.5
    draws = Joint(fitted, points, 0.0, np.random.default_rng(5).normal(size=(20_000, 5))).values()
    mean, variance = fitted.posterior(points)
    assert draws.mean(0) == pytest.approx(mean, abs=0.03)
    assert draws.var(0) == pytest.approx(variance, rel=0.1, abs=1e-4)


def test_told_a_drawn_value_the_joint_keeps_it(fitted):
    points = np.random.default_rng(6).random((2, 3)) + 1
    joint = Joint(fitted, points, 0.0, np.array([[1.0, -1.0], [0.3, 2.0]]))
    mean, variance = joint.posterior(points)
    assert mean == pytest.approx(joint.values(), abs=1e-2)
    assert variance.max() < 1e-4


def test_averaged_over_draws_the_joint_mean_is_the_posterior_mean(fitted):
    points = np.array([[0.5, 0.5, 1.5]])
    there = np.array([[0.5, 0.5, 1.3]])
    joint = Joint(fitted, points, 0.0, np.array([[-1.0], [1.0]]))
    mean, variance = joint.posterior(there)
    before, before_variance = fitted.posterior(there)
    assert mean.mean() == pytest.approx(before[0])
    assert variance[0] < before_variance[0]
