import numpy as np
import pytest
import torch

from nodule_det.hpo.model import gp
from nodule_det.hpo.model.encoding import Columns
from nodule_det.hpo.model.gp import fit_surrogate, lengthscale_prior
from nodule_det.hpo.model.outcomes import standardise


def wave(x):
    return np.sin(3 * x[:, 0]) * 0.4 + 0.3


def fit(x, values, se=None, **settings):
    return fit_surrogate(x, standardise(values, se), **settings)


def lengths(surrogate):
    return np.exp(surrogate.hyperparameters[:, : surrogate.features.shape[1]])


@pytest.fixture(scope="module")
def fitted():
    x = np.random.default_rng(0).random((40, 3))
    return fit(x, wave(x), np.full(40, 0.005))


def test_it_predicts_a_smooth_function_between_its_points(fitted):
    new = np.random.default_rng(1).random((100, 3))
    mean, sd = fitted.predict(new)
    assert np.abs(mean - wave(new)).max() < 0.05
    assert np.mean(np.abs(mean - wave(new)) < 3 * sd) > 0.9


def test_a_column_without_effect_gets_a_longer_length(fitted):
    assert lengths(fitted)[0, 0] < 0.5 * min(lengths(fitted)[0, 1:])


def test_far_from_data_it_is_uncertain(fitted):
    _, near = fitted.predict(fitted.features[:1])
    _, far = fitted.predict(fitted.features[:1] + 5)
    assert far > 5 * near


def test_a_noisy_value_has_less_influence():
    x = np.linspace(0, 1, 8)[:, None]
    values = np.full(8, 0.5)
    values[3] = 0.9
    trusted = fit(x, values, np.full(8, 0.01)).predict(x[3:4])[0]
    doubted = np.full(8, 0.01)
    doubted[3] = 0.4
    assert fit(x, values, doubted).predict(x[3:4])[0] < trusted


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_predictions_scale_with_the_units_of_the_values(fitted, unit):
    x = fitted.features
    mean, sd = fit(x, unit * wave(x), unit * np.full(40, 0.005)).predict(x[:5] + 0.1)
    expected_mean, expected_sd = fitted.predict(x[:5] + 0.1)
    assert mean / unit == pytest.approx(expected_mean, rel=1e-3)
    assert sd / unit == pytest.approx(expected_sd, rel=1e-2)


def test_equal_values_and_equal_points_can_be_fitted():
    x = np.tile([[0.2, 0.7]], (6, 1))
    mean, sd = fit(x, np.full(6, 0.4)).predict(x[:1])
    assert mean == pytest.approx(0.4)
    assert np.isfinite(sd).all()


def test_draws_differ_if_the_data_do_not_determine_the_hyperparameters(fitted):
    x, se = fitted.features, np.full(40, 0.005)
    drawn = fit(x, wave(x), se, rng=np.random.default_rng(0), draws=20)
    spread = np.log(lengths(drawn)).std(0)
    assert spread[0] < 0.5 * min(spread[1:])
    again = fit(x, wave(x), se, rng=np.random.default_rng(0), draws=20)
    assert np.array_equal(again.hyperparameters, drawn.hyperparameters)


def test_without_a_generator_every_model_is_the_most_probable(fitted):
    x = fitted.features
    twice = fit(x, wave(x), np.full(40, 0.005), draws=2)
    assert twice.hyperparameters == pytest.approx(np.tile(fitted.hyperparameters, (2, 1)))


def test_members_predict_as_their_mixture_does(fitted):
    x, new = fitted.features, np.random.default_rng(1).random((5, 3))
    drawn = fit(x, wave(x), np.full(40, 0.005), rng=np.random.default_rng(0), draws=4)
    means, sds = np.moveaxis([m.predict(new) for m in drawn.members()], 1, 0)
    mean, sd = drawn.predict(new)
    assert mean == pytest.approx(means.mean(0))
    assert sd**2 == pytest.approx((sds**2).mean(0) + means.var(0))


def test_noise_that_is_as_large_as_the_differences_is_recognised_without_reported_errors():
    rng = np.random.default_rng(6)
    x, new = rng.random((60, 3)), rng.random((200, 3))
    noisy = fit(x, wave(x) + rng.normal(0, wave(x).std(), 60))
    mean, _ = noisy.predict(new)
    assert np.exp(noisy.hyperparameters[0, 4]) == pytest.approx(0.5, abs=0.2)  # of variance 1
    assert np.corrcoef(mean, wave(new))[0, 1] > 0.8


def test_no_trial_is_refused():
    with pytest.raises(ValueError, match="at least one completed trial"):
        fit_surrogate(np.empty((0, 2)), standardise(np.zeros(1), None))


@pytest.mark.parametrize("sheared", [(), (1,), (0, 2)])
def test_the_gradient_is_that_of_finite_differences(sheared):
    rng = np.random.default_rng(3)
    x, data = rng.random((12, 3)), standardise(rng.normal(size=12), np.full(12, 0.2))
    theta = rng.normal(size=5 + 2 * len(sheared)) * 0.3 - 0.5
    size = len(theta)
    columns = Columns((0, 1, 2), sheared)
    (gradient,) = gp._gradient(theta[None], x, data, columns)
    moved = np.concatenate([theta + step * np.eye(size) for step in (1e-5, -1e-5)])
    mll = gp._likelihood_of(gp._model(moved, data, x, columns)).train()
    with torch.no_grad():
        up, down = np.split(12 * gp.get_loss_closure(mll)().numpy(), 2)
    assert gradient == pytest.approx((up - down) / 2e-5, rel=1e-4, abs=1e-6)


def oblique(x):
    """Crest at x0 = 0.4 + 0.2 (x1 - x2)."""
    return np.exp(-0.5 * ((x[:, 0] - 0.4 - 0.2 * (x[:, 1] - x[:, 2])) / 0.08) ** 2)


def test_a_sheared_column_learns_how_its_optimum_shifts():
    x, new = np.random.default_rng(8).random((2, 60, 3))
    straight, sheared = (fit(x, oblique(x), columns=Columns((0, 1, 2), s)) for s in ((), (0,)))
    shear = sheared.model.covar_module.base_kernel.shear[0].numpy()
    assert shear[0] == pytest.approx([0, -0.2, 0.2], abs=0.03)
    assert not shear[1:].any()
    errors = [np.abs(s.predict(new)[0] - oblique(new)).mean() for s in (straight, sheared)]
    assert errors[1] < 0.5 * errors[0]


@pytest.mark.parametrize("sheared", [(0,), (0, 1), (0, 1, 2)])
def test_sheared_columns_share_the_shift_that_one_would_have(sheared):
    kernel = gp.ShearedMatern(Columns((0, 1, 2), sheared), 1)
    torch.nn.init.ones_(kernel.steps)
    shear = kernel.shear[0].detach().numpy()
    assert np.linalg.norm(shear) == pytest.approx(gp.SHEAR_SPREAD * 2**0.5)  # of two others each
    assert shear[0, 1] == pytest.approx(gp.SHEAR_SPREAD / len(sheared) ** 0.5)


def test_the_covariance_at_one_length_by_hand():
    kernel = gp.ShearedMatern(Columns((0,)), 1)
    kernel.lengthscale = 2.0
    matern = [(1 + r + r * r / 3) * np.exp(-r) for r in (5**0.5, 5**0.5 / 0.3)]
    points = torch.tensor([[[0.0], [2.0]]], dtype=torch.float64)
    (covariance,) = kernel(points).to_dense().detach().numpy()
    expected = 0.75 * matern[0] + 0.25 * matern[1]
    assert covariance == pytest.approx(np.array([[1, expected], [expected, 1]]))


def test_the_hyperparameters_are_those_of_highest_posterior_around():
    rng = np.random.default_rng(5)
    x = rng.random((30, 2))
    data = standardise(wave(x) + 0.02 * rng.normal(size=30), np.full(30, 0.02))
    best = fit_surrogate(x, data, columns=Columns((0, 1), (0,)))
    around = best.hyperparameters + 0.05 * rng.normal(size=(50, 5))
    mll = gp._likelihood_of(
        gp._model(np.concatenate([best.hyperparameters, around]), data, x, best.columns)
    ).train()
    with torch.no_grad():
        losses = gp.get_loss_closure(mll)().numpy()
    assert (losses[0] < losses[1:]).all()


def test_the_prior_of_lengths_grows_with_the_root_of_the_dimension():
    assert lengthscale_prior(4)[0] - lengthscale_prior(1)[0] == pytest.approx(np.log(2))


def test_above_two_hundred_trials_one_start_finds_the_function_too():
    x = np.random.default_rng(0).random((gp.MANY + 50, 2))
    surrogate = fit(x, wave(x), np.full(len(x), 0.01), rng=np.random.default_rng(0), draws=2)
    new = np.random.default_rng(1).random((50, 2))
    assert np.abs(surrogate.predict(new)[0] - wave(new)).max() < 0.02


def test_with_shared_noise_it_predicts_as_the_closed_form_does():
    rng = np.random.default_rng(3)
    x, influence = rng.random((12, 2)), rng.normal(size=(12, 5)) * 0.1 + 0.2
    data = standardise(wave(x), np.full(12, 0.01), influence)
    fitted = fit_surrogate(x, data)
    new = rng.random((12, 2))  # as many as there are values, which must not be taken for them
    kernel = fitted.model.covar_module
    with torch.no_grad():
        k, cross = (
            kernel(torch.from_numpy(a), torch.from_numpy(x)).to_dense()[0].numpy() for a in (x, new)
        )
        prior = kernel(torch.from_numpy(new), diag=True)[0].numpy()
    level = np.exp(fitted.hyperparameters[0, 3])
    noisy = k + np.diag(data.noise) + data.shared + level * np.eye(12)
    means, variances = fitted.posterior(new)
    assert means[0] == pytest.approx(cross @ np.linalg.solve(noisy, data.values), abs=1e-6)
    explained = np.sum(cross * np.linalg.solve(noisy, cross.T).T, axis=1)
    assert variances[0] == pytest.approx(prior - explained, abs=1e-6)


def test_an_error_that_all_values_share_changes_no_prediction(fitted):
    x, se = fitted.features, np.full(40, 0.005)
    values = wave(x)
    shared = fit_surrogate(x, standardise(values, se, np.full((40, 1), 0.2)))
    for ours, without in zip(shared.predict(x + 0.1), fitted.predict(x + 0.1), strict=True):
        assert ours == pytest.approx(without)


def test_known_correlated_errors_are_distinguished_from_the_function():
    # One case lifts every second value by .3: an error, if the influences say so.
    x = np.linspace(0, 1, 20)[:, None]
    lifts = np.where(np.arange(20) % 2, 0.3, 0.0)
    told = fit_surrogate(x, standardise(wave(x) + lifts, np.full(20, 0.01), lifts[:, None]))
    independent = fit(x, wave(x) + lifts, np.hypot(0.01, lifts))

    def error(surrogate):
        mean, _ = surrogate.predict(x)
        off = mean - wave(x)
        return float(np.std(off))

    assert error(told) < 0.03
    assert error(told) < 0.5 * error(independent)


def test_a_list_has_one_length_and_shifts_no_optimum():
    columns = Columns((0, 1, 1, 1, 2), sheared=(0, 4))
    assert np.argwhere(columns.shifts).tolist() == [[0, 4], [4, 0]]
    x = np.random.default_rng(0).random((12, 5))
    surrogate = fit(x, wave(x), columns=columns)
    assert surrogate.hyperparameters.shape == (1, 3 + 2 + 2)  # lengths, variance, noise, shifts
    lengths = torch.exp(torch.from_numpy(surrogate.hyperparameters[0, :3]))
    kernel = surrogate.model.covar_module.base_kernel
    kernel.steps.zero_()
    inputs = torch.from_numpy(x)
    expected = inputs / lengths[[0, 1, 1, 1, 2]]
    assert torch.allclose(kernel.stretched(inputs)[0], expected)


def test_a_list_without_effect_disturbs_little():
    """With a length and a shift for each of its twenty values, the error was much larger."""
    rng = np.random.default_rng(3)
    x, new = rng.random((2, 60, 3))
    junk = np.eye(20)[rng.integers(20, size=(2, 60))] * 0.5**0.5
    with_list, new_with_list = np.concatenate([[x, new], junk], axis=2)

    def error(parameter):
        surrogate = fit(with_list, oblique(x), columns=Columns(parameter, (0,)))
        return np.abs(surrogate.predict(new_with_list)[0] - oblique(new)).mean()

    assert error((0, 1, 2, *[3] * 20)) < 0.5 * error(tuple(range(23)))
