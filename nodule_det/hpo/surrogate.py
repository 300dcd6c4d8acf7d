"""Completed trials -> a Gaussian process over the search space.

    features (n, d), values (n,), se (n,) ──fit_surrogate()──▶ Surrogate ──▶ predict(), Joint

Everything is float64.  Values are larger-is-better; standardising and its inverse live here and
nowhere else.  BoTorch fits the length scales; what follows is plain linear algebra on the fitted
covariance, so that a thousand candidates cost one triangular solve.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from botorch.exceptions import ModelFittingError
from botorch.exceptions.warnings import InputDataWarning, OptimizationWarning
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from gpytorch.kernels import MaternKernel, ScaleKernel
from gpytorch.likelihoods import FixedNoiseGaussianLikelihood
from gpytorch.mlls import ExactMarginalLogLikelihood
from gpytorch.priors import LogNormalPrior
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

SCALE_FLOOR = 0.15
"""Smallest spread that values are standardised by.  Scores live in [0, 1]; three first scores
near zero, blown up to unit variance, would pin the search to their differences."""

LEAST_NOISE = 1e-6
"""Variance added to every standardised value, which keeps the factorisations stable."""

FIT_ITERATIONS = 75
MANY = 200
"""Above this number of trials the scales are well determined and each iteration is dear."""


@dataclass(frozen=True)
class Surrogate:
    """A fitted Gaussian process over standardised values."""

    kernel: Any
    """GPyTorch kernel with its fitted scales."""
    features: torch.Tensor
    """(n, d) inputs it was fitted to."""
    root: torch.Tensor
    """(n, n) Cholesky factor of the covariance of the values, noise included."""
    residuals: torch.Tensor
    """(n,) values less the prior mean, whitened by ``root``."""
    prior_mean: float
    noise: float
    """Variance that the values have beyond their own standard errors."""
    center: float
    scale: float

    def covariance(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Give the prior covariance, (len(a), len(b)), of the function at two sets of inputs."""
        with torch.no_grad():
            matrix: torch.Tensor = self.kernel(a, b).to_dense()
        return matrix

    def outputscale(self) -> float:
        """Prior variance of the function, standardised."""
        return float(self.kernel.outputscale.detach())

    def posterior(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Give posterior mean and variance of the function, (c,) each, standardised."""
        whitened = _solve(self.root, self.covariance(self.features, features))
        variance = self.outputscale() - whitened.square().sum(0)
        return self.prior_mean + self.residuals @ whitened, variance.clamp_min(1e-10)

    def predict(self, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Give posterior mean and standard deviation, (c,) each, in units of the values."""
        mean, variance = self.posterior(torch.as_tensor(features, dtype=torch.float64))
        return (
            mean.numpy() * self.scale + self.center,
            variance.sqrt().numpy() * self.scale,
        )


class Joint:
    """The surrogate after it was also told the values at ``points``, which are drawn.

    With L the Cholesky factor of the covariance of (values, points), the values at the points are
    the last rows of L times independent standard normals; so a draw is its normals, and posterior
    means are linear in them.

    Args:
        surrogate: Fitted to the completed trials.
        points: (j, d) inputs, j may be 0.
        noise: Variance of what is seen there; 0 draws the function itself.
        normals: (s, j) standard normals, one row per draw.
    """

    def __init__(
        self, surrogate: Surrogate, points: torch.Tensor, noise: float, normals: torch.Tensor
    ) -> None:
        self._surrogate = surrogate
        self._inputs = torch.cat([surrogate.features, points])
        n, j = len(surrogate.features), len(points)
        cross = _solve(surrogate.root, surrogate.covariance(surrogate.features, points))
        block = surrogate.covariance(points, points) - cross.T @ cross
        block = block + (noise + LEAST_NOISE) * torch.eye(j, dtype=torch.float64)
        self._root = torch.zeros(n + j, n + j, dtype=torch.float64)
        self._root[:n, :n] = surrogate.root
        self._root[n:, :n] = cross.T
        self._root[n:, n:] = torch.linalg.cholesky(block)
        known = surrogate.residuals.expand(len(normals), n)
        self._whitened = torch.cat([known, normals], dim=1)

    def values(self) -> torch.Tensor:
        """Give the drawn values at the points, (s, j)."""
        n = len(self._surrogate.features)
        return self._surrogate.prior_mean + self._whitened @ self._root[n:].T

    def posterior(self, candidates: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Give the mean under each draw, (s, c), and the variance that all draws share, (c,)."""
        cross = _solve(self._root, self._surrogate.covariance(self._inputs, candidates))
        variance = self._surrogate.outputscale() - cross.square().sum(0)
        return self._surrogate.prior_mean + self._whitened @ cross, variance.clamp_min(1e-10)


def _solve(root: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    solution: torch.Tensor = torch.linalg.solve_triangular(root, right, upper=False)
    return solution


def lengthscale_prior(dimension: int) -> LogNormalPrior:
    """Expect smoother functions in more dimensions, so that distances stay comparable.

    References:
        Hvarfner, Hellsten, Nardi (2024), Vanilla Bayesian Optimization Performs Great in High
        Dimensions.  Their spread of sqrt(3) is narrowed to 1: with 20 points and 11 scales,
        MAP estimates wander otherwise.
    """
    return LogNormalPrior(loc=0.3 + 0.5 * math.log(dimension), scale=1.0)


def fit_surrogate(
    features: FloatArray, values: FloatArray, se: FloatArray | None = None
) -> Surrogate:
    """Fit a Matern-5/2 process with one length scale per column, by maximum a posteriori.

    Args:
        features: (n, d) inputs in [0, 1].
        values: (n,) objective, larger is better.
        se: (n,) standard error of each value.  One more noise level is estimated beside them, for
            what they do not cover: two trainings of one point differ by more than their cases.

    Raises:
        ValueError: If there is no trial to learn from.
        RuntimeError: If the fit does not converge.
    """
    if len(values) == 0:
        raise ValueError("a surrogate needs at least one completed trial")
    x = torch.as_tensor(features, dtype=torch.float64)
    center, scale = float(np.mean(values)), max(float(np.std(values)), SCALE_FLOOR)
    y = torch.as_tensor((values - center) / scale, dtype=torch.float64)
    own = torch.zeros(len(y), dtype=torch.float64) if se is None else torch.as_tensor(se / scale)
    own = own.square().clamp_min(LEAST_NOISE)
    model = _fitted(x, y, own)
    mean = float(model.mean_module.constant.detach())
    shared = float(model.likelihood.second_noise.detach())
    with torch.no_grad():
        covariance = model.covar_module(x, x).to_dense() + torch.diag(own + shared)
    root = torch.linalg.cholesky(covariance)
    residuals = _solve(root, (y - mean)[:, None]).squeeze(-1)
    return Surrogate(model.covar_module, x, root, residuals, mean, shared, center, scale)


def _fitted(x: torch.Tensor, y: torch.Tensor, own: torch.Tensor) -> Any:
    prior = lengthscale_prior(x.shape[-1])
    kernel = ScaleKernel(
        MaternKernel(nu=2.5, ard_num_dims=x.shape[-1], lengthscale_prior=prior),
        outputscale_prior=LogNormalPrior(0.0, 1.0),
    )
    with warnings.catch_warnings():
        # Labels of one class, or scores all alike, are what a young study has.
        warnings.simplefilter("ignore", InputDataWarning)
        likelihood = FixedNoiseGaussianLikelihood(own, learn_additional_noise=True)
        likelihood.second_noise_covar.register_prior(
            "noise_prior", LogNormalPrior(-5.0, 1.0), lambda m: m.noise
        )
        model = SingleTaskGP(
            x, y[:, None], likelihood=likelihood, covar_module=kernel, outcome_transform=None
        ).to(x)
    kernel.base_kernel.lengthscale = 0.5 * float(prior.loc.exp())
    kernel.outputscale = 1.0
    likelihood.second_noise = math.exp(-4.0)
    mll = ExactMarginalLogLikelihood(likelihood, model)
    try:
        with warnings.catch_warnings():
            # Stopping at FIT_ITERATIONS is meant: the last digits of a scale change no proposal.
            warnings.simplefilter("ignore", OptimizationWarning)
            limit = FIT_ITERATIONS if len(y) <= MANY else FIT_ITERATIONS // 3
            fit_gpytorch_mll(mll, optimizer_kwargs={"options": {"maxiter": limit}})
    except ModelFittingError as error:
        raise RuntimeError(
            f"the surrogate could not be fitted to {len(y)} trials: {error}"
        ) from error
    return model.eval()
