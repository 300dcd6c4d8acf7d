"""Two ways to one model: the process written out on SciPy, and BoTorch's."""

import numpy as np
import pytest

from nodule_det.hpo.model.acquisition import log_nei
from nodule_det.hpo.model.botorch import BoTorchModel, build, fit_botorch
from nodule_det.hpo.model.gp import Surrogate, fit_surrogate

SHEARED = (0,)
GRID = 0.3 + 0.6 * np.random.default_rng(9).random((300, 3))


@pytest.fixture(scope="module")
def evidence():
    rng = np.random.default_rng(0)
    x = rng.random((30, 3))
    crest = 0.5 + 0.2 * (x[:, 1] - 0.5)
    values = 0.7 - 2 * (x[:, 0] - crest) ** 2 - ((x[:, 1:] - 0.6) ** 2).sum(1)
    values += rng.normal(0, 0.02, 30)
    return x, values, rng.uniform(0.01, 0.03, 30)


@pytest.fixture(scope="module")
def ours(evidence):
    return fit_surrogate(*evidence, sheared=SHEARED)


def the_same_by_botorch(surrogate: Surrogate) -> BoTorchModel:
    """Return the BoTorch model with the scales of ours, which was told the same values."""
    y = surrogate.root @ surrogate.residuals
    own = surrogate.own_noise - surrogate.scales.noise
    model = build(surrogate.features, y, own, SHEARED, surrogate.scales)
    return BoTorchModel(model, surrogate.features)


def test_the_posteriors_of_equal_scales_are_equal(ours):
    theirs = the_same_by_botorch(ours)
    mean, variance = ours.posterior(GRID)
    expected_mean, expected_variance = theirs.posterior(GRID)
    assert mean == pytest.approx(expected_mean, abs=1e-6)
    assert variance == pytest.approx(expected_variance, abs=1e-6)


def test_the_most_probable_scales_are_the_same(evidence, ours):
    theirs = fit_botorch(*evidence, seed=0, sheared=SHEARED)
    assert ours.scales.shear == pytest.approx(theirs.scales.shear, abs=0.01)
    assert np.log(ours.scales.lengths) == pytest.approx(np.log(theirs.scales.lengths), abs=0.05)
    assert ours.scales.variance == pytest.approx(theirs.scales.variance, rel=0.05)
    assert ours.scales.noise == pytest.approx(theirs.scales.noise, rel=0.05)


@pytest.mark.parametrize("pending", [0, 5])
def test_noisy_improvement_is_that_of_botorch_but_for_its_draws(ours, pending):
    running = np.random.default_rng(3).random((pending, 3)) * 0.2 + 0.5
    expected = the_same_by_botorch(ours).log_nei(running, seed=0, samples=4096)(GRID)
    got = log_nei(ours, running, np.random.default_rng(1), draws=4096)(GRID)
    hopeful = expected > expected.max() - 2
    assert hopeful.sum() > 5
    assert got[hopeful] == pytest.approx(expected[hopeful], abs=0.2)


def test_equal_seeds_give_equal_scores(evidence):
    model = fit_botorch(*evidence, seed=1)
    first, again = (model.log_nei(GRID[:2], seed=4)(GRID) for _ in range(2))
    assert np.array_equal(first, again)
