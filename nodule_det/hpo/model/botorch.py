"""The same surrogate and the same acquisition by BoTorch: ``acquisition.strategy=botorch``.

    features (n, d), values (n,), se (n,) ──fit_botorch()──▶ BoTorchModel ──log_nei()──▶ Score

Kernel, priors, noise and standardising are those of ``surrogate``, so one is the oracle of the
other.  Importing this module loads torch, some 250 MB: only the strategy that needs it does so.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from nodule_det.arrays import BoolArray, FloatArray
from nodule_det.hpo.model.acquisition import Score
from nodule_det.hpo.model.gp import (
    FIT_ITERATIONS,
    NOISE_PRIOR,
    ROUGH_LENGTH,
    ROUGH_SHARE,
    SHEAR_SPREAD,
    STARTS,
    Scales,
    lengthscale_prior,
    shears,
    standardise,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # GPyTorch still uses torch.jit
    from botorch.acquisition.logei import qLogNoisyExpectedImprovement
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from botorch.sampling.normal import SobolQMCNormalSampler
    from gpytorch.constraints import GreaterThan
    from gpytorch.kernels import MaternKernel, ScaleKernel
    from gpytorch.likelihoods import FixedNoiseGaussianLikelihood
    from gpytorch.means import ZeroMean
    from gpytorch.mlls import ExactMarginalLogLikelihood
    from gpytorch.priors import LogNormalPrior, NormalPrior
    from linear_operator.utils.warnings import NumericalWarning


SAMPLES = 256
"""Draws of the best value so far."""
CHUNK = 400
"""Candidates scored at a time, which bounds the memory."""
LEAST_EXTRA_NOISE = math.exp(-9)


class ShearedMatern(MaternKernel):  # type: ignore[misc]  # GPyTorch has no types
    """Matern-5/2 on two lengths, of inputs of which some columns move with the others.

    Args:
        free: (d, d) entries of the shear that are fitted.
        lengthscale_prior: Of each length.
    """

    def __init__(self, free: BoolArray, lengthscale_prior: Any) -> None:
        super().__init__(2.5, ard_num_dims=len(free), lengthscale_prior=lengthscale_prior)
        self._free = torch.from_numpy(free)
        steps = torch.zeros(int(free.sum()), dtype=torch.float64)
        self.register_parameter("steps", torch.nn.Parameter(steps))
        self.register_prior("steps_prior", NormalPrior(0.0, 1.0), "steps")

    @property
    def shear(self) -> torch.Tensor:
        """(d, d), as in :class:`nodule_det.hpo.model.gp.Scales`."""
        shear = torch.zeros(self._free.shape, dtype=torch.float64)
        return shear.masked_scatter(self._free, SHEAR_SPREAD * self.steps)

    def set_shear(self, shear: torch.Tensor) -> None:
        """Take over the entries of a shear that are fitted."""
        self.initialize(steps=shear[self._free] / SHEAR_SPREAD)

    def forward(self, x1: Any, x2: Any, **settings: Any) -> Any:
        """Return the covariance of the moved inputs."""
        shear = self.shear
        x1, x2 = x1 + x1 @ shear.T, x2 + x2 @ shear.T
        smooth = super().forward(x1, x2, **settings)
        rough = super().forward(x1 / ROUGH_LENGTH, x2 / ROUGH_LENGTH, **settings)
        return (1 - ROUGH_SHARE) * smooth + ROUGH_SHARE * rough


class BoTorchModel:
    """A fitted BoTorch model of standardised values."""

    def __init__(self, model: Any, features: FloatArray) -> None:
        self.model = model
        self.features = features

    @property
    def scales(self) -> Scales:
        """Parameters of the covariance."""
        kernel = self.model.covar_module
        return Scales(
            kernel.base_kernel.lengthscale.detach().numpy()[0],
            float(kernel.outputscale.detach()),
            float(self.model.likelihood.second_noise.detach()),
            kernel.base_kernel.shear.detach().numpy(),
        )

    def posterior(self, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return posterior mean and variance of the function, (c,) each, standardised."""
        with torch.no_grad():
            posterior = self.model.posterior(torch.from_numpy(features))
        return posterior.mean.numpy()[:, 0], posterior.variance.numpy()[:, 0]

    def log_nei(self, pending: FloatArray, seed: int, samples: int = SAMPLES) -> Score:
        """Score by qLogNoisyExpectedImprovement of one more point, pending points given.

        Args:
            pending: (m, d) inputs of the trials that run; m may be 0.
            seed: Of the quasi-random draws.
            samples: Number of draws.

        References:
            Ament et al. (2023), Unexpected Improvements to Expected Improvement.
        """
        with _quiet(), torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed)
            promise = qLogNoisyExpectedImprovement(
                self.model,
                torch.from_numpy(self.features),
                sampler=SobolQMCNormalSampler(torch.Size([samples]), seed=seed),
                X_pending=torch.from_numpy(pending) if len(pending) else None,
            )

        def score(candidates: FloatArray) -> FloatArray:
            with _quiet(), torch.no_grad():
                chunks = torch.split(torch.from_numpy(candidates)[:, None], CHUNK)
                return np.concatenate([promise(chunk).numpy() for chunk in chunks])

        return score


def fit_botorch(
    features: FloatArray,
    values: FloatArray,
    se: FloatArray | None,
    seed: int,
    sheared: Sequence[int] = (),
) -> BoTorchModel:
    """Fit by maximum a posteriori, as :func:`nodule_det.hpo.model.gp.fit_surrogate` does.

    Args:
        features: (n, d) inputs in [0, 1].
        values: (n,) objective, larger is better.
        se: (n,) standard error of each value, beside which one more noise level is estimated.
        seed: Of the new starts that BoTorch makes if its optimiser fails.
        sheared: Columns whose best place moves with the other columns.
    """
    y, own, _, _ = standardise(values, se)
    model = build(features, y, own, sheared)
    with _quiet(), torch.random.fork_rng():
        torch.manual_seed(seed)
        fit_gpytorch_mll(
            ExactMarginalLogLikelihood(model.likelihood, model),
            optimizer_kwargs={"options": {"maxiter": 2 * FIT_ITERATIONS}},
        )
    return BoTorchModel(model, features)


def build(
    features: FloatArray,
    y: FloatArray,
    own: FloatArray,
    sheared: Sequence[int] = (),
    scales: Scales | None = None,
) -> Any:
    """Make the model of standardised values, with given scales or with those of a first guess.

    Args:
        features: (n, d) inputs.
        y: (n,) standardised values.
        own: (n,) known variance of each.
        sheared: Columns whose best place moves with the other columns.
        scales: Where its parameters start.
    """
    d = features.shape[1]
    if scales is None:
        shift, log_noise = STARTS[0]
        scales = Scales(
            np.full(d, math.exp(lengthscale_prior(d)[0] - shift)), 1.0, math.exp(log_noise)
        )
    likelihood = FixedNoiseGaussianLikelihood(
        torch.from_numpy(own),
        learn_additional_noise=True,
        noise_prior=_log_normal(*NOISE_PRIOR),
        noise_constraint=GreaterThan(LEAST_EXTRA_NOISE),
    )
    matern = ShearedMatern(shears(d, sheared), _log_normal(*lengthscale_prior(d)))
    model = SingleTaskGP(
        torch.from_numpy(features),
        torch.from_numpy(y)[:, None],
        likelihood=likelihood,
        covar_module=ScaleKernel(matern, outputscale_prior=_log_normal(0.0, 1.0)),
        mean_module=ZeroMean(),
        outcome_transform=None,
    )
    matern.lengthscale = torch.from_numpy(scales.lengths)
    if scales.shear is not None:
        matern.set_shear(torch.from_numpy(scales.shear))
    model.covar_module.outputscale = scales.variance
    likelihood.second_noise = scales.noise
    return model.eval()


@contextmanager
def _quiet() -> Iterator[None]:
    """Let BoTorch add to a diagonal without a word where two points are nearly one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NumericalWarning)
        yield


def _log_normal(mean: float, spread: float) -> Any:
    """Return a prior of x whose mode is that of log x ~ N(mean, spread).

    A density over x carries a factor 1 / x that one over log x lacks; the shift cancels it.
    """
    return LogNormalPrior(mean + spread**2, spread)
