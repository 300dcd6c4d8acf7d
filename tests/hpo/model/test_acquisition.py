import numpy as np
import pytest
from scipy.stats import norm

from nodule_det.hpo.model import acquisition
from nodule_det.hpo.model.gp import fit_surrogate


def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def fitted():
    x = np.random.default_rng(1).random((15, 2))
    return fit_surrogate(x, 0.8 - ((x - 0.6) ** 2).sum(1), np.full(15, 0.01))


GRID = np.stack(np.meshgrid(np.linspace(0, 1, 21), np.linspace(0, 1, 21)), -1).reshape(-1, 2)
NONE = np.empty((0, 2))


@pytest.mark.parametrize("u", [3.0, 0.0, -0.9, -1.1, -5.0])
def test_log_improvement_is_the_textbook_formula(u):
    expected = np.log(2 * (u * norm.cdf(u) + norm.pdf(u)))
    got = acquisition.log_improvement(np.array([2 * u]), np.array([2.0]), np.array(0.0))
    assert got[0] == pytest.approx(expected, rel=1e-6)


def test_log_improvement_falls_without_a_step_however_far_below():
    u = -np.logspace(-1, 5, 400)
    logs = acquisition.log_improvement(u, np.ones(400), np.array(0.0))
    assert np.isfinite(logs).all()
    assert (np.diff(logs) < 0).all()


def test_without_noise_and_pending_points_noisy_improvement_is_expected_improvement():
    x = np.random.default_rng(2).random((12, 2))
    exact = fit_surrogate(x, np.sin(4 * x[:, 0]) * 0.5 + x[:, 1] * 0.2)
    nei, ei = acquisition.log_nei(exact, NONE, rng())(GRID), acquisition.log_ei(exact)(GRID)
    hopeful = ei > ei.max() - 1
    assert nei[hopeful] == pytest.approx(ei[hopeful], abs=0.5)


@pytest.mark.parametrize("name", ["log_nei", "log_ei_over_fantasies"])
def test_a_pending_point_promises_less(fitted, name):
    score = getattr(acquisition, name)
    first = GRID[np.argmax(score(fitted, NONE, rng())(GRID))]
    before = score(fitted, NONE, rng())(first[None])
    after = score(fitted, first[None], rng())(first[None])
    assert after < before - 0.5


def test_with_a_point_pending_noisy_improvement_looks_elsewhere(fitted):
    first = GRID[np.argmax(acquisition.log_nei(fitted, NONE, rng())(GRID))]
    second = GRID[np.argmax(acquisition.log_nei(fitted, first[None], rng())(GRID))]
    assert np.linalg.norm(second - first) > 0.05


def test_expected_improvement_ignores_pending_points(fitted):
    assert np.array_equal(acquisition.log_ei(fitted)(GRID), acquisition.log_ei(fitted)(GRID))


def test_thompson_draws_have_the_posterior_mean_and_spread(fitted):
    there = np.array([[0.1, 0.9], [0.6, 0.6], [2.0, 2.0]])
    draws = np.array(
        [acquisition.thompson(fitted, np.random.default_rng(i))(there) for i in range(600)]
    )
    mean, variance = fitted.posterior(there)
    assert draws.mean(0) == pytest.approx(mean, abs=0.15)
    assert draws.std(0) == pytest.approx(np.sqrt(variance), rel=0.2, abs=0.03)


def test_one_thompson_draw_is_one_function(fitted):
    score = acquisition.thompson(fitted, rng())
    assert score(GRID)[:5] == pytest.approx(score(GRID[:5]))


def test_scores_do_not_depend_on_the_company_of_a_candidate(fitted):
    score = acquisition.log_nei(fitted, GRID[:3], rng())
    assert score(GRID)[7] == pytest.approx(score(GRID[7:8])[0])


def test_over_several_models_the_mean_improvement_counts(fitted):
    low, high = (lambda x: np.full(len(x), np.log(0.1))), (lambda x: np.full(len(x), np.log(0.3)))
    assert acquisition.over([low, high])(GRID[:3]) == pytest.approx(np.log([0.2] * 3))
