"""A fitted surrogate and the pending points -> acquisition values of candidates.

    Surrogate, pending (m, d) ──log_nei() | log_ei() | thompson()──▶ score(candidates (c, d)) (c,)

Scores are logarithms of an expected improvement (or a draw of the function), so larger is better.

BoTorch's ``qLogNoisyExpectedImprovement`` estimates the same quantity, but also samples the
candidate, with a joint covariance of all baseline points for each candidate.  Given the values at
the completed and pending points, a candidate is Gaussian and its improvement has a closed form.
So only those values are drawn, once, and one covariance serves a whole set of candidates.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from nodule_det.arrays import FloatArray
from nodule_det.hpo.model.gp import (
    MIN_VARIANCE,
    ROUGH_LENGTH,
    ROUGH_SHARE,
    ShearedMatern,
    Surrogate,
    exact,
)
from nodule_det.hpo.model.outcomes import MIN_NOISE

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # GPyTorch still uses torch.jit
    from botorch.acquisition import AcquisitionFunction
    from botorch.acquisition.analytic import _log_ei_helper
    from botorch.sampling.pathwise import draw_matheron_paths, gaussian_update
    from botorch.sampling.pathwise.features.generators import GenKernelFeatures
    from botorch.sampling.pathwise.features.maps import KernelFeatureMap
    from botorch.sampling.pathwise.utils import SineCosineTransform
    from botorch.utils.safe_math import logmeanexp
    from botorch.utils.sampling import draw_sobol_normal_samples
    from botorch.utils.transforms import t_batch_mode_transform
    from linear_operator.utils.cholesky import psd_safe_cholesky

Score = Callable[[FloatArray], FloatArray]
"""(c, d) features -> (c,) scores."""

DRAWS = 128
"""Number of draws of the values at completed and pending points, over all models."""
CONTENDERS = 24
"""Number of completed points that may be the best.  The others practically never are in a draw."""
CHUNK = 128
"""Number of candidates scored at a time, whose joint covariance is computed."""


class LogNoisyImprovement(AcquisitionFunction):  # type: ignore[misc]  # BoTorch has no types
    """Logarithm of the expected improvement over a best value that is itself uncertain.

    The values at some points are drawn jointly, s times for each of the b models.  Each draw
    fixes a best value and makes a candidate Gaussian.  The improvement is averaged over all draws.

    Args:
        surrogate: Fitted to the completed trials.
        points: (p, d) points at which values are drawn, p at least 1.
        draws: Number s of draws per model.
        seed: Seed of the quasi-random draws.
        noise: (b,) noise variance of the values at the points; 0 draws the function itself.

    References:
        Letham et al. (2019), Constrained Bayesian Optimization with Noisy Experiments.
        Ament et al. (2023), Unexpected Improvements to Expected Improvement, for the logarithm.
    """

    def __init__(
        self, surrogate: Surrogate, points: FloatArray, draws: int, seed: int, noise: torch.Tensor
    ) -> None:
        super().__init__(surrogate.model)
        self._points = torch.from_numpy(points)
        mean, covariance = self._joint(self._points[:0])
        extra = (noise + MIN_NOISE)[:, None, None] * torch.eye(len(points))
        self._root = psd_safe_cholesky(covariance + extra)
        normals = draw_sobol_normal_samples(len(points), draws, dtype=mean.dtype, seed=seed)
        self.values = mean[:, None] + normals @ self._root.mT
        """(b, s, p) drawn values."""
        self._weights = torch.linalg.solve_triangular(self._root.mT, normals.mT, upper=True).mT
        self.best = self.values.amax(-1)
        """(b, s) best value of each draw."""

    def posterior(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the mean under each draw, (b, s, c), and the common variance, (b, c)."""
        p = len(self._points)
        mean, covariance = self._joint(x)
        cross = covariance[:, :p, p:]
        explained = torch.linalg.solve_triangular(self._root, cross, upper=False).square().sum(1)
        variance = covariance.diagonal(dim1=-2, dim2=-1)[:, p:] - explained
        return mean[:, None, p:] + self._weights @ cross, variance.clamp_min(MIN_VARIANCE)

    @t_batch_mode_transform(expected_q=1)  # type: ignore[untyped-decorator]
    def forward(self, X: torch.Tensor) -> torch.Tensor:
        """Return (c,) log improvements of candidates, (c, 1, d)."""
        mean, variance = self.posterior(X[:, 0])
        sd = variance.sqrt()[:, None]
        logs = _log_ei_helper((mean - self.best[..., None]) / sd) + sd.log()
        improvement: torch.Tensor = logmeanexp(logs.flatten(0, 1), dim=0)
        return improvement

    def _joint(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        posterior = self.model.posterior(torch.cat([self._points, x]))
        return posterior.distribution.mean, posterior.distribution.covariance_matrix


def log_nei(surrogate: Surrogate, pending: FloatArray, seed: int, draws: int = DRAWS) -> Score:
    """Score by noisy expected improvement, with the values at pending points integrated out.

    The best value so far is drawn jointly at the completed points and the pending ones, so noise
    and running trials are both accounted for.

    Args:
        surrogate: Fitted to the completed trials.
        pending: (m, d) features of the running trials; m may be 0.
        seed: Seed of the draws.
        draws: Number of draws over all models of the surrogate.
    """
    means, variances = surrogate.posterior(surrogate.features)
    hopes = (means + 2 * np.sqrt(variances)).max(0)
    likely = np.argsort(-hopes, kind="stable")[:CONTENDERS]
    points = np.concatenate([surrogate.features[likely], pending])
    with exact(), torch.no_grad():
        each = max(1, draws // len(means))
        noiseless = torch.zeros(len(means))
        improvement = LogNoisyImprovement(surrogate, points, each, seed, noiseless)
    return _in_chunks(lambda x: improvement(x[:, None]))


def log_ei_over_fantasies(
    surrogate: Surrogate, pending: FloatArray, seed: int, draws: int = DRAWS
) -> Score:
    """Score by expected improvement, averaged over imagined outcomes of the pending points.

    References:
        Snoek, Larochelle, Adams (2012), Practical Bayesian Optimization, section 3.2.
    """
    if len(pending) == 0:
        return log_ei(surrogate, pending, seed)
    with exact(), torch.no_grad():
        noise = surrogate.model.likelihood.noise.median(-1).values
        improvement = LogNoisyImprovement(
            surrogate, pending, max(1, draws // len(noise)), seed, noise
        )
        seen = torch.from_numpy(np.concatenate([surrogate.features, pending]))
        improvement.best = improvement.posterior(seen)[0].amax(-1)
    return _in_chunks(lambda x: improvement(x[:, None]))


def log_ei(surrogate: Surrogate, pending: FloatArray, seed: int) -> Score:
    """Score by expected improvement, ignoring running trials as the poster did."""
    best = surrogate.posterior(surrogate.features)[0].max(1, keepdims=True)

    def score(candidates: FloatArray) -> FloatArray:
        mean, variance = map(torch.from_numpy, surrogate.posterior(candidates))
        sd = variance.sqrt()
        logs = _log_ei_helper((mean - torch.from_numpy(best)) / sd) + sd.log()
        return np.asarray(logmeanexp(logs, dim=0).numpy())

    return score


def thompson(surrogate: Surrogate, pending: FloatArray, seed: int) -> Score:
    """Score by one draw of the function.  Draws differ each time, which spreads the workers, so
    pending points need not be modelled.

    BoTorch draws a path from the prior, made of random cosines, and conditions it on the data with
    Matheron's rule.

    References:
        Kandasamy et al. (2018), Parallelised Bayesian Optimisation via Thompson Sampling.
        Wilson et al. (2020), Efficiently Sampling Functions from Gaussian Process Posteriors.
    """
    model = surrogate.members()[0].model
    noise = model.likelihood.covariance(len(surrogate.features))
    update = partial(gaussian_update, noise_covariance=noise)
    with exact(), torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(seed)
        path = draw_matheron_paths(model, torch.Size([]), update_strategy=update)
    return _in_chunks(lambda x: path(x).reshape(-1))


@GenKernelFeatures.register(ShearedMatern)  # type: ignore[untyped-decorator]
def _cosines(kernel: ShearedMatern, *, num_inputs: int, num_outputs: int) -> KernelFeatureMap:
    """Return random Fourier features of the kernel, for BoTorch's draws of paths.

    The spectrum of a Matern-5/2 covariance is a Student t with 5 degrees of freedom.
    """
    waves = num_outputs // 2
    weight = torch.randn(waves, num_inputs, dtype=torch.float64)
    weight *= (5 / torch.distributions.Chi2(5.0).sample((waves, 1))).sqrt()
    weight[: round(ROUGH_SHARE * waves)] /= ROUGH_LENGTH
    height = torch.tensor((2 / num_outputs) ** 0.5, dtype=torch.float64)
    return KernelFeatureMap(
        kernel,
        weight.expand(*kernel.batch_shape, -1, -1),
        input_transform=kernel.stretched,
        output_transform=SineCosineTransform(height),
    )


def _in_chunks(score: Callable[[torch.Tensor], torch.Tensor]) -> Score:
    def in_chunks(candidates: FloatArray) -> FloatArray:
        with exact(), torch.no_grad():
            chunks = torch.split(torch.from_numpy(candidates), CHUNK)
            return np.concatenate([score(chunk).numpy() for chunk in chunks])

    return in_chunks
