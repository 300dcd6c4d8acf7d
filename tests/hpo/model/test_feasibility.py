import numpy as np

from nodule_det.hpo.model.feasibility import fit_feasibility


def test_points_beyond_the_limit_are_taken_for_hopeless():
    x = np.random.default_rng(0).random((40, 2))
    model = fit_feasibility(x, x.sum(1) < 1.2)
    chance = np.exp(model.log_chance(np.array([[0.2, 0.2], [0.95, 0.95]])))
    assert chance[0] > 0.9
    assert chance[1] < 0.1


def test_without_a_failure_every_point_is_feasible():
    x = np.random.default_rng(0).random((5, 2))
    assert not fit_feasibility(x, np.ones(5, bool)).log_chance(x).any()


def test_without_a_success_nothing_is_known():
    x = np.random.default_rng(0).random((5, 2))
    assert not fit_feasibility(x, np.zeros(5, bool)).log_chance(x).any()
