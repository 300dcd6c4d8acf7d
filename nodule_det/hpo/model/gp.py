"""Completed trials -> a Gaussian process over the search space, by BoTorch and GPyTorch.

    features (n, d), standardised values (n,) ──fit_surrogate()──▶ Surrogate ──▶ predict()

The model is a BoTorch ``SingleTaskGP`` in float64 with our own kernel, fitted by BoTorch's
L-BFGS-B: an ensemble of b models of the same data with different hyperparameters, over which any
acquisition function of BoTorch averages.  Larger values are better.

Importing this module loads torch (about 250 MB): import it inside the functions that need a model.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from nodule_det.arrays import FloatArray
from nodule_det.hpo.model.encoding import Columns
from nodule_det.hpo.model.outcomes import Standardised

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # GPyTorch still uses torch.jit
    from botorch.models import SingleTaskGP
    from botorch.optim.closures.model_closures import get_loss_closure
    from botorch.optim.fit import fit_gpytorch_mll_scipy
    from botorch.posteriors.fully_bayesian import MCMC_DIM, GaussianMixturePosterior
    from botorch.settings import validate_input_scaling
    from botorch.utils.constraints import LogTransformedInterval
    from gpytorch.constraints import Interval
    from gpytorch.kernels import Kernel, ScaleKernel
    from gpytorch.likelihoods import FixedNoiseGaussianLikelihood
    from gpytorch.means import ZeroMean
    from gpytorch.mlls import ExactMarginalLogLikelihood
    from gpytorch.priors import NormalPrior
    from gpytorch.settings import debug, max_cholesky_size
    from linear_operator.operators import LinearOperator, to_linear_operator
    from linear_operator.utils.warnings import NumericalWarning

NOISE_PRIOR = (-4.0, 2.0)
"""Prior mean and spread of the log noise variance; those of the log output variance are (0, 1).

Wide, since programs that report no errors may be as noisy as their values differ."""

ROUGH_SHARE, ROUGH_LENGTH = 0.25, 0.3
"""Fraction of the variance with lengths shorter by this factor.  A process with a single smoothness
is overconfident between its points once it has learned the broad shape."""

SHEAR_SPREAD = 0.08
"""Prior standard deviation of the shift of the optimum on a sheared column, from one end of another
column to the other: half a decade out of the six of a learning rate.  With k sheared columns it is
smaller by sqrt(k), since they share what one learning rate would have."""

LENGTH_BOUNDS, VARIANCE_BOUNDS, NOISE_BOUNDS = (-2.5, 4.0), (-3.0, 3.0), (-9.0, 1.0)
"""Bounds of the logarithms."""
STEP_BOUND = 4.0
"""Bound of a shear, in units of its prior standard deviation."""

STARTS = ((0.7, -4.0), (-0.5, -1.0))
"""Starts of the two fits, for a smooth and for a noisy function: how far the log lengths start
below their prior mean, and the log noise."""
FIT_ITERATIONS = 40
MANY = 200
"""Number of trials above which one start of half the iterations is used.  With about 365 values of
six functions, the predictions were as good as after two whole fits, in a third of the time."""
CURVATURE_STEP = 1e-3
BATCH_ELEMENTS = 1_000_000
"""Largest number of covariance elements differentiated at a time, which limits the memory."""


class ShearedMatern(Kernel):  # type: ignore[misc]  # GPyTorch has no types
    """Matern-5/2 kernel on two length scales, with inputs of which some columns are sheared.

    The distance r is that of (x + S x) / length, with one length per parameter and a matrix S that
    is zero except for the fitted rows of the sheared columns.  With the Matern-5/2 function m(r),
    the covariance is (1 - ROUGH_SHARE) m(r) + ROUGH_SHARE m(r / ROUGH_LENGTH).

    Args:
        columns: The parameter of each column, and the columns whose optimum depends on the others,
            as that of a learning rate does on minibatch, depth and width.
        batch: Number of models b.
    """

    has_lengthscale = True

    def __init__(self, columns: Columns, batch: int) -> None:
        super().__init__(
            ard_num_dims=columns.n_parameters,
            batch_shape=torch.Size([batch]),
            lengthscale_constraint=_log_interval(LENGTH_BOUNDS),
        )
        self.register_prior(
            "log_lengthscale_prior",
            NormalPrior(*lengthscale_prior(columns.n_parameters)),
            "raw_lengthscale",
        )
        self._parameter = torch.tensor(columns.parameter, dtype=torch.long)
        self._free = torch.from_numpy(columns.shifts)
        self._spread = SHEAR_SPREAD / math.sqrt(max(1, len(columns.sheared)))
        self.moves = bool(self._free.any())
        """Whether any column is sheared."""
        if self.moves:
            steps = torch.zeros(batch, columns.n_shifts, dtype=torch.float64)
            self.register_parameter("steps", torch.nn.Parameter(steps))
            self.register_prior("steps_prior", NormalPrior(0.0, 1.0), "steps")
            self.register_constraint("steps", Interval(-STEP_BOUND, STEP_BOUND, transform=None))

    @property
    def shear(self) -> torch.Tensor:
        """(b, d, d) matrix; row i has the factors by which other columns are added to column i."""
        shear = torch.zeros(*self.batch_shape, *self._free.shape, dtype=torch.float64)
        return shear.masked_scatter(self._free, self._spread * self.steps)

    def stretched(self, x: torch.Tensor) -> Any:
        """Return inputs, (..., n, d), in sheared coordinates, divided by their lengths."""
        moved = x + x @ self.shear.mT if self.moves else x
        return moved / self.lengthscale[..., self._parameter]

    def forward(self, x1: Any, x2: Any, diag: bool = False, **settings: Any) -> Any:
        """Return the covariance between two sets of inputs, (b, n1, n2), or its diagonal."""
        if diag and x1 is x2:
            return torch.ones_like(self.stretched(x1)[..., 0])
        z1, z2 = self.stretched(x1), self.stretched(x2)
        if diag:
            return _shape((z1 - z2).square().sum(-1))
        squares = z1.square().sum(-1)[..., :, None] + z2.square().sum(-1)[..., None, :]
        return _shape(squares.sub(z1 @ z2.mT, alpha=2))


class _Shape(torch.autograd.Function):
    """Covariance with variance 1 as a function of squared distances, with its derivative.

    Matern-5/2 is (1 + r + r^2 / 3) exp(-r) at r = sqrt(5) times the distance.  Its derivative by
    the squared distance is -5/6 (1 + r) exp(-r).  That is finite at 0, unlike automatic
    differentiation through the square root.
    """

    @staticmethod
    def forward(ctx: Any, squared: torch.Tensor) -> torch.Tensor:
        r = (5 * squared.clamp_min(0)).sqrt_()
        shape, falls = torch.zeros_like(r), torch.zeros_like(r)
        for share, length in ((1 - ROUGH_SHARE, 1.0), (ROUGH_SHARE, ROUGH_LENGTH)):
            q = r / length
            decay = torch.exp(-q).mul_(share)
            falls.add_((q + 1) * decay, alpha=5 / 6 / length**2)
            shape.add_((q * q / 3 + q + 1) * decay)
        ctx.save_for_backward(falls)
        return shape

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        (falls,) = ctx.saved_tensors
        return -gradients[0] * falls


_shape: Any = _Shape.apply


class PartlySharedNoise(FixedNoiseGaussianLikelihood):  # type: ignore[misc]
    """Known noise, of which a part is correlated, plus an estimated level.

    Args:
        data: The n values whose noise it is.
        batch: Number of models b.
    """

    def __init__(self, data: Standardised, batch: int) -> None:
        super().__init__(
            torch.from_numpy(data.noise).expand(batch, -1),
            learn_additional_noise=True,
            noise_constraint=_log_interval(NOISE_BOUNDS),
            batch_shape=torch.Size([batch]),
        )
        self.second_noise_covar.register_prior(
            "log_noise_prior", NormalPrior(*NOISE_PRIOR), "raw_noise"
        )
        self.shared = None if data.shared is None else torch.from_numpy(data.shared)
        """(n, n) covariance of the correlated part."""

    def covariance(self, n: int) -> LinearOperator:
        """Return the covariance of the noise, (b, n, n), of the values that were observed."""
        return self._shaped_noise_covar(torch.Size([*self.noise.shape[:-1], n]))

    def _shaped_noise_covar(self, shape: torch.Size, *inputs: Any, **settings: Any) -> Any:
        """Return the covariance of the noise; GPyTorch's hook."""
        alone = super()._shaped_noise_covar(shape, *inputs, **settings)
        if self.shared is None or shape[-1] != len(self.shared):
            return alone
        return alone + to_linear_operator(self.shared.expand(*shape[:-1], -1, -1))


class Ensemble(SingleTaskGP):  # type: ignore[misc]
    """Gaussian processes of the same values with b sets of hyperparameters; batch shape (b,)."""

    _is_ensemble = True  # tells BoTorch's acquisition functions to average over the models

    def posterior(self, X: Any, **settings: Any) -> GaussianMixturePosterior:
        """Return the posterior of each model at points (..., q, d); batch shape (..., b)."""
        posterior = super().posterior(X.unsqueeze(MCMC_DIM), **settings)
        return GaussianMixturePosterior(posterior.distribution)


@dataclass(frozen=True)
class Surrogate:
    """An ensemble of b Gaussian processes of the same values."""

    model: Ensemble
    """The models of the standardised values."""
    hyperparameters: FloatArray
    """(b, t) logarithms of the lengths, variance and noise, then the steps of the shear."""
    data: Standardised
    features: FloatArray
    """(n, d) inputs that it was fitted to."""
    columns: Columns

    def posterior(self, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return posterior mean and variance of the function, (b, c) each, standardised."""
        with exact(), torch.no_grad():
            chunks = torch.split(torch.from_numpy(features), POSTERIOR_CHUNK)
            found = [self.model.posterior(chunk).distribution for chunk in chunks]
            mean = torch.cat([each.mean for each in found], -1)
            variance = torch.cat([each.variance for each in found], -1)
        return mean.numpy(), variance.clamp_min(MIN_VARIANCE).numpy()

    def predict(self, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return mean and standard deviation of the mixture, (c,) each, in units of the values."""
        means, variances = self.posterior(features)
        mean = means.mean(0)
        variance = variances.mean(0) + means.var(0)
        return mean * self.data.scale + self.data.center, np.sqrt(variance) * self.data.scale

    def members(self) -> list[Surrogate]:
        """Return the b processes as separate surrogates."""
        return [
            _surrogate(theta[None], self.data, self.features, self.columns)
            for theta in self.hyperparameters
        ]


MIN_VARIANCE = 1e-10
POSTERIOR_CHUNK = 256
"""Number of points predicted at a time, whose joint covariance is computed."""


def fit_surrogate(
    features: FloatArray,
    data: Standardised,
    *,
    columns: Columns | None = None,
    rng: np.random.Generator | None = None,
    draws: int = 1,
) -> Surrogate:
    """Fit hyperparameters by maximum a posteriori, or draw them around that maximum.

    The spread of the draws reflects the uncertainty of the hyperparameters (Laplace's
    approximation).  With about ten values per hyperparameter the single best estimate is
    overconfident, and a search that relies on it gets stuck.

    Args:
        features: (n, d) inputs in [0, 1].
        data: (n,) values, with their known noise.  An additional noise level is estimated, since
            two trainings of one point differ by more than their validation cases explain.
        columns: What the columns are; by default d parameters of which none is sheared.
        rng: Source of the draws; without it all b models have the most probable hyperparameters.
        draws: Number b of models.

    Raises:
        ValueError: If there are no values to fit to.
    """
    if len(features) == 0:
        raise ValueError("a surrogate needs at least one completed trial")
    columns = columns or Columns(tuple(range(features.shape[1])))
    with exact():
        best = _most_probable(features, data, columns)
        thetas = np.tile(best, (draws, 1))
        if rng is not None:
            thetas += rng.normal(size=thetas.shape) * _spread(best, features, data, columns)
        return _surrogate(thetas, data, features, columns)


def lengthscale_prior(dimension: int) -> tuple[float, float]:
    """Return prior mean and spread of a log length, which grows with the number of parameters.

    References:
        Hvarfner, Hellsten, Nardi (2024), Vanilla Bayesian Optimization Performs Great in High
        Dimensions.  Their mean of sqrt(2) and spread of sqrt(3) are reduced here: with about 60
        points and 11 lengths, longer ones predicted errors that were too small.
    """
    return -0.3 + 0.5 * math.log(dimension), 0.7


@contextmanager
def exact() -> Iterator[None]:
    """Use Cholesky factors for any number of trials, without warnings about scaling.

    Above 800 points GPyTorch would switch to iterative solvers, whose error the search would
    mistake for structure.  BoTorch adds jitter to the diagonal if two points are nearly equal, as
    it should.
    """
    with ExitStack() as stack:
        stack.enter_context(max_cholesky_size(sys.maxsize))
        stack.enter_context(debug(False))
        stack.enter_context(validate_input_scaling(False))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore", NumericalWarning)
        yield


def _most_probable(features: FloatArray, data: Standardised, columns: Columns) -> FloatArray:
    """Fit from two starts at once; return the better result, (t,)."""
    d = columns.n_parameters
    length, _ = lengthscale_prior(d)
    many = len(features) > MANY
    starts = np.array(
        [
            [length - shift] * d + [0.0, noise] + [0.0] * columns.n_shifts
            for shift, noise in STARTS[: 1 if many else None]
        ]
    )
    mll = _likelihood_of(_model(starts, data, features, columns)).train()
    fit_gpytorch_mll_scipy(
        mll, options={"maxiter": FIT_ITERATIONS // 2 if many else FIT_ITERATIONS}
    )
    with torch.no_grad():
        losses = get_loss_closure(mll)().numpy()
    return np.asarray(_hyperparameters(mll.model)[int(np.argmin(losses))])


def _spread(
    theta: FloatArray, features: FloatArray, data: Standardised, columns: Columns
) -> FloatArray:
    """Return the standard deviation of each hyperparameter, from the curvature at the maximum."""
    moved = theta + CURVATURE_STEP * np.concatenate([np.zeros((1, len(theta))), np.eye(len(theta))])
    size = max(1, BATCH_ELEMENTS // len(features) ** 2)
    gradients = [
        _gradient(moved[i : i + size], features, data, columns) for i in range(0, len(moved), size)
    ]
    gradient, *others = np.concatenate(gradients)
    curvature = np.array([(other - gradient)[i] for i, other in enumerate(others)])
    # The prior alone has curvature 1, and the data can only narrow it.
    return np.asarray(1 / np.sqrt(np.maximum(curvature / CURVATURE_STEP, 1.0)))


def _gradient(
    thetas: FloatArray, features: FloatArray, data: Standardised, columns: Columns
) -> FloatArray:
    """Return the gradient of the negative log posterior, (b, t)."""
    model = _model(thetas, data, features, columns)
    mll = _likelihood_of(model).train()
    (get_loss_closure(mll)().sum() * len(features)).backward()
    return np.concatenate([p.grad.reshape(len(thetas), -1).numpy() for p in _parameters(model)], 1)


def _surrogate(
    thetas: FloatArray, data: Standardised, features: FloatArray, columns: Columns
) -> Surrogate:
    model = _model(thetas, data, features, columns).eval().requires_grad_(False)
    return Surrogate(model, _hyperparameters(model), data, features, columns)


def _model(
    thetas: FloatArray, data: Standardised, features: FloatArray, columns: Columns
) -> Ensemble:
    """Return a model with given hyperparameters, (b, t), within their bounds."""
    b, d = len(thetas), columns.n_parameters
    kernel = ScaleKernel(
        ShearedMatern(columns, b),
        batch_shape=torch.Size([b]),
        outputscale_constraint=_log_interval(VARIANCE_BOUNDS),
    )
    kernel.register_prior("log_variance_prior", NormalPrior(0.0, 1.0), "raw_outputscale")
    model = Ensemble(
        torch.from_numpy(features).expand(b, -1, -1),
        torch.from_numpy(data.values).expand(b, -1)[..., None],
        likelihood=PartlySharedNoise(data, b),
        covar_module=kernel,
        mean_module=ZeroMean(batch_shape=torch.Size([b])),
        outcome_transform=None,
    )
    low, high = bounds(d, columns.n_shifts)
    parts = np.split(np.clip(thetas, low, high), [d, d + 1, d + 2], axis=1)
    with torch.no_grad():
        for parameter, part in zip(_parameters(model), parts, strict=False):
            parameter.copy_(torch.from_numpy(part).reshape(parameter.shape))
    return model


def bounds(dimension: int, steps: int) -> tuple[FloatArray, FloatArray]:
    """Return the bounds of the hyperparameters, (t,) each."""
    pairs = [LENGTH_BOUNDS] * dimension + [VARIANCE_BOUNDS, NOISE_BOUNDS]
    low, high = np.transpose(pairs + [(-STEP_BOUND, STEP_BOUND)] * steps)
    return low, high


def _parameters(model: Any) -> list[Any]:
    """Return the parameters of a model in the order of :attr:`Surrogate.hyperparameters`."""
    scaled = model.covar_module
    kernel = scaled.base_kernel
    noise = model.likelihood.second_noise_covar.raw_noise
    steps = [kernel.steps] if kernel.moves else []
    return [kernel.raw_lengthscale, scaled.raw_outputscale, noise, *steps]


def _hyperparameters(model: Any) -> FloatArray:
    rows = [p.detach().reshape(len(p), -1).numpy() for p in _parameters(model)]
    return np.concatenate(rows, axis=1)


def _likelihood_of(model: Any) -> Any:
    return ExactMarginalLogLikelihood(model.likelihood, model)


def _log_interval(logarithms: tuple[float, float]) -> Any:
    low, high = logarithms
    middle = math.exp((low + high) / 2)
    return LogTransformedInterval(math.exp(low), math.exp(high), initial_value=middle)
