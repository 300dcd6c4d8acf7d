"""Our closed forms, compared with BoTorch's acquisition functions and required properties."""

import warnings
from functools import partial

import numpy as np
import pytest
import torch

from nodule_det.hpo.model import acquisition
from nodule_det.hpo.model.encoding import Columns
from nodule_det.hpo.model.gp import exact, fit_surrogate
from nodule_det.hpo.model.outcomes import standardise

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from botorch.acquisition import LogExpectedImprovement
    from botorch.acquisition.logei import qLogNoisyExpectedImprovement
    from botorch.sampling.normal import SobolQMCNormalSampler

GRID = np.stack(np.meshgrid(np.linspace(0, 1, 21), np.linspace(0, 1, 21)), -1).reshape(-1, 2)
NONE = np.empty((0, 2))
SCORES = [
    acquisition.log_nei,
    acquisition.log_ei_over_fantasies,
    acquisition.log_ei,
    acquisition.thompson,
]


@pytest.fixture(scope="module")
def fitted():
    x = np.random.default_rng(1).random((15, 2))
    return fit_surrogate(x, standardise(0.8 - ((x - 0.6) ** 2).sum(1), np.full(15, 0.01)))


@pytest.fixture(scope="module")
def several():
    rng = np.random.default_rng(1)
    x = rng.random((15, 2))
    values = standardise(0.8 - ((x - 0.6) ** 2).sum(1), np.full(15, 0.03))
    return fit_surrogate(x, values, columns=Columns((0, 1), (0,)), rng=rng, draws=3)


def test_expected_improvement_equals_botorchs(fitted):
    best = fitted.posterior(fitted.features)[0].max()
    with exact(), torch.no_grad():
        expected = LogExpectedImprovement(fitted.model, best)(torch.from_numpy(GRID)[:, None])
    got = acquisition.log_ei(fitted, NONE, 0)(GRID)
    assert got == pytest.approx(expected.numpy(), abs=1e-6)


def botorchs_noisy_improvement(surrogate, running, seed):
    with exact(), torch.no_grad():
        promise = qLogNoisyExpectedImprovement(
            surrogate.model,
            torch.from_numpy(surrogate.features),
            sampler=SobolQMCNormalSampler(torch.Size([2048]), seed=seed),
            X_pending=torch.from_numpy(running) if len(running) else None,
        )
        return promise(torch.from_numpy(GRID)[:, None]).numpy()


@pytest.mark.parametrize("pending", [0, 5])
@pytest.mark.parametrize("models", ["fitted", "several"])
def test_noisy_improvement_equals_botorchs_within_the_error_of_the_draws(models, pending, request):
    surrogate = request.getfixturevalue(models)
    running = np.random.default_rng(3).random((pending, 2)) * 0.2 + 0.5
    samples = [botorchs_noisy_improvement(surrogate, running, seed) for seed in range(4)]
    expected = np.logaddexp.reduce(samples) - np.log(4)
    got = acquisition.log_nei(surrogate, running, seed=1, draws=4096)(GRID)
    hopeful = expected > expected.max() - 1  # below, BoTorch's smoothed maximum shows
    assert hopeful.sum() > 5
    assert got[hopeful] == pytest.approx(expected[hopeful], abs=0.25)


@pytest.mark.parametrize("score", [partial(SCORES[0], draws=4096), *SCORES[1:3]])
def test_the_improvement_is_averaged_over_several_models(several, score):
    together = score(several, NONE, 0)(GRID)
    alone = np.array([score(m, NONE, 0)(GRID) for m in several.members()])
    hopeful = together > together.max() - 3
    expected = np.log(np.exp(alone[:, hopeful]).mean(0))
    assert together[hopeful] == pytest.approx(expected, abs=0.3)


@pytest.mark.parametrize("score", SCORES[:2])
def test_a_pending_point_has_a_lower_score(fitted, score):
    first = GRID[np.argmax(score(fitted, NONE, 0)(GRID))]
    before = score(fitted, NONE, 0)(first[None])
    after = score(fitted, first[None], 0)(first[None])
    assert after < before - 0.5


def test_noisy_improvement_searches_away_from_a_pending_point(fitted):
    first = GRID[np.argmax(acquisition.log_nei(fitted, NONE, 0)(GRID))]
    second = GRID[np.argmax(acquisition.log_nei(fitted, first[None], 0)(GRID))]
    assert np.linalg.norm(second - first) > 0.05


def test_expected_improvement_ignores_pending_points(fitted):
    free, running = (acquisition.log_ei(fitted, points, 0)(GRID) for points in (NONE, GRID[:3]))
    assert np.array_equal(free, running)


@pytest.mark.parametrize("score", SCORES)
def test_equal_seeds_give_equal_scores(several, score):
    torch.manual_seed(1)
    first = score(several, GRID[:2], 4)(GRID)
    torch.manual_seed(2)
    assert np.array_equal(first, score(several, GRID[:2], 4)(GRID))


@pytest.mark.parametrize("score", SCORES)
def test_the_score_of_a_candidate_does_not_depend_on_the_others(several, score):
    many = score(several, GRID[:3], 0)
    assert many(GRID)[7] == pytest.approx(many(GRID[7:8])[0])


@pytest.mark.parametrize("score", SCORES)
def test_drawing_does_not_change_the_global_generator_of_torch(fitted, score):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    score(fitted, GRID[:2], 0)(GRID[:3])
    assert torch.rand(1) == expected


def test_thompson_draws_have_the_posterior_mean_and_spread(fitted):
    there = np.array([[0.1, 0.9], [0.6, 0.6], [2.0, 2.0]])
    draws = np.array([acquisition.thompson(fitted, NONE, i)(there) for i in range(200)])
    (mean,), (variance,) = fitted.posterior(there)
    assert draws.mean(0) == pytest.approx(mean, abs=0.2)
    assert draws.std(0) == pytest.approx(np.sqrt(variance), rel=0.2, abs=0.03)
