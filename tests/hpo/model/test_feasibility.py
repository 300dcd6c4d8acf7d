import numpy as np

from nodule_det.hpo.model.feasibility import fit_feasibility


def test_points_beyond_the_limit_are_unlikely_to_succeed():
    x = np.random.default_rng(0).random((40, 2))
    model = fit_feasibility(x, x.sum(1) < 1.2)
    chance = np.exp(model.log_chance(np.array([[0.2, 0.2], [0.95, 0.95]])))
    assert chance[0] > 0.9
    assert chance[1] < 0.1


def test_without_a_failure_every_point_is_feasible():
    x = np.random.default_rng(0).random((5, 2))
    model = fit_feasibility(x, np.ones(5, bool))
    assert model.knows_nothing
    assert not model.log_chance(x).any()


def test_a_single_failure_makes_its_neighbourhood_less_likely_than_the_rest():
    model = fit_feasibility(np.array([[0.2, 0.2]]), np.zeros(1, bool))
    near, far = model.log_chance(np.array([[0.2, 0.21], [0.9, 0.9]]))
    assert near < far - 0.5
