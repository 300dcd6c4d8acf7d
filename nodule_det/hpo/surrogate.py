"""Completed trials -> a Gaussian process over the search space.

    features (n, d), values (n,), se (n,) ──fit_surrogate()──▶ Surrogate ──▶ predict(), Joint

Everything is float64.  Values are larger-is-better; standardising and its inverse live here and
nowhere else.  The process is written out, on SciPy: its gradient in closed form fits a hundred
trials several times faster than automatic differentiation, and a driver that waits on a login node
for weeks need not hold a deep-learning library in memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

FloatArray = NDArray[np.float64]

SCALE_FLOOR = 0.15
"""Smallest spread that values are standardised by.  Scores live in [0, 1]; three first scores
near zero, blown up to unit variance, would pin the search to their differences."""

LEAST_NOISE = 1e-6
"""Variance added to every standardised value, which keeps the factorisations stable."""

LEAST_VARIANCE = 1e-10
NOISE_PRIOR = (-5.0, 1.0)
"""Mean and spread of the logarithm of the noise variance; of the output variance: (0, 1)."""

FIT_ITERATIONS = 40
MANY = 200
"""Above this number of trials an iteration is dear and one climb finds the summit."""


@dataclass(frozen=True)
class Scales:
    """Parameters of the covariance, of standardised values."""

    lengths: FloatArray
    """(d,) distance over which the function changes, per column."""
    variance: float
    """Of the function."""
    noise: float
    """Variance that values have beyond their own standard errors."""

    def covariance(self, a: FloatArray, b: FloatArray) -> FloatArray:
        """Give the Matern-5/2 covariance of the function at two sets of inputs, (a, b)."""
        a, b = a / self.lengths, b / self.lengths
        squared = (a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * a @ b.T
        r = np.sqrt(5 * np.maximum(squared, 0.0))
        return np.asarray(self.variance * (1 + r + r * r / 3) * np.exp(-r))


@dataclass(frozen=True)
class Surrogate:
    """A fitted Gaussian process."""

    scales: Scales
    features: FloatArray
    """(n, d) inputs it was fitted to."""
    own_noise: FloatArray
    """(n,) variance of each standardised value, all noise together."""
    root: FloatArray
    """(n, n) lower Cholesky factor of the covariance of the values."""
    residuals: FloatArray
    """(n,) standardised values, whitened by ``root``."""
    center: float
    scale: float

    def posterior(self, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Give posterior mean and variance of the function, (c,) each, standardised."""
        cross = _solve(self.root, self.scales.covariance(self.features, features))
        variance = self.scales.variance - (cross * cross).sum(0)
        return self.residuals @ cross, np.maximum(variance, LEAST_VARIANCE)

    def predict(self, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Give posterior mean and standard deviation, (c,) each, in units of the values."""
        mean, variance = self.posterior(features)
        return mean * self.scale + self.center, np.sqrt(variance) * self.scale


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
        self, surrogate: Surrogate, points: FloatArray, noise: float, normals: FloatArray
    ) -> None:
        self._scales = surrogate.scales
        self._inputs = np.concatenate([surrogate.features, points])
        n, j = len(surrogate.features), len(points)
        cross = _solve(surrogate.root, self._scales.covariance(surrogate.features, points))
        block = self._scales.covariance(points, points) - cross.T @ cross
        self._root = np.zeros((n + j, n + j))
        self._root[:n, :n] = surrogate.root
        self._root[n:, :n] = cross.T
        self._root[n:, n:] = cholesky(block + (noise + LEAST_NOISE) * np.eye(j), lower=True)
        known = np.broadcast_to(surrogate.residuals, (len(normals), n))
        self._whitened = np.concatenate([known, normals], axis=1)
        self._known = n

    def values(self) -> FloatArray:
        """Give the drawn values at the points, (s, j)."""
        return np.asarray(self._whitened @ self._root[self._known :].T)

    def posterior(self, candidates: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Give the mean under each draw, (s, c), and the variance that all draws share, (c,)."""
        cross = _solve(self._root, self._scales.covariance(self._inputs, candidates))
        variance = self._scales.variance - (cross * cross).sum(0)
        return self._whitened @ cross, np.maximum(variance, LEAST_VARIANCE)


def fit_surrogate(
    features: FloatArray,
    values: FloatArray,
    se: FloatArray | None = None,
    rng: np.random.Generator | None = None,
) -> Surrogate:
    """Fit a Matern-5/2 process with one length scale per column, by maximum a posteriori.

    Args:
        features: (n, d) inputs in [0, 1].
        values: (n,) objective, larger is better.
        se: (n,) standard error of each value.  One more noise level is estimated beside them, for
            what they do not cover: two trainings of one point differ by more than their cases.
        rng: If given, the scales are drawn once, as by :func:`draw_surrogates`.

    Raises:
        ValueError: If there is no trial to learn from.
    """
    return draw_surrogates(features, values, se, rng, 1)[0]


def draw_surrogates(
    features: FloatArray,
    values: FloatArray,
    se: FloatArray | None,
    rng: np.random.Generator | None,
    count: int,
) -> list[Surrogate]:
    """Fit ``count`` processes whose scales are drawn around the most probable ones.

    The draws differ as far as the data leave the scales open (Laplace's approximation).  With some
    ten values per scale the one best guess is too sure of itself, and a search that believes it
    digs itself in.

    Args:
        features: See :func:`fit_surrogate`.
        values: See :func:`fit_surrogate`.
        se: See :func:`fit_surrogate`.
        rng: Source of the draws; without it all have the most probable scales.
        count: How many.
    """
    if len(values) == 0:
        raise ValueError("a surrogate needs at least one completed trial")
    y, own, center, scale = standardise(values, se)
    surrogates = []
    for scales in _likely(features, y, own, rng, count):
        noise = own + scales.noise
        root = cholesky(scales.covariance(features, features) + np.diag(noise), lower=True)
        surrogates.append(Surrogate(scales, features, noise, root, _solve(root, y), center, scale))
    return surrogates


def standardise(
    values: FloatArray, se: FloatArray | None
) -> tuple[FloatArray, FloatArray, float, float]:
    """Bring values to mean 0 and spread 1 at most.

    Returns:
        (n,) standardised values, (n,) their known variances, and the center and scale of before.
    """
    center, scale = float(np.mean(values)), max(float(np.std(values)), SCALE_FLOOR)
    own = np.zeros(len(values)) if se is None else (se / scale) ** 2
    return (values - center) / scale, own + LEAST_NOISE, center, scale


def lengthscale_prior(dimension: int) -> tuple[float, float]:
    """Give mean and spread of the logarithm of a length: functions of more columns are smoother.

    References:
        Hvarfner, Hellsten, Nardi (2024), Vanilla Bayesian Optimization Performs Great in High
        Dimensions.  Their mean of sqrt(2) and spread of sqrt(3) are moved to shorter and narrowed:
        with some 60 points and 11 scales, longer ones foretold too small errors.
    """
    return -0.6 + 0.5 * math.log(dimension), 1.0


def _likely(
    x: FloatArray, y: FloatArray, own: FloatArray, rng: np.random.Generator | None, count: int
) -> list[Scales]:
    """Climb from two starts, a quiet function and a noisy one; draw around the better end."""
    d = x.shape[1]
    length, _ = lengthscale_prior(d)
    squares = (x[:, None] - x) ** 2
    bounds = [(-2.5, 4.0)] * d + [(-3.0, 3.0), (-9.0, 1.0)]
    starts = [
        np.array([length - shift] * d + [0.0, noise])
        for shift, noise in STARTS[: 1 if len(y) > MANY else None]
    ]
    ends = [
        minimize(
            _surprise,
            start,
            (squares, y, own),
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": FIT_ITERATIONS if len(y) <= MANY else FIT_ITERATIONS // 2},
        )
        for start in starts
    ]
    best = np.asarray(min(ends, key=lambda end: float(end.fun)).x, np.float64)
    thetas = np.tile(best, (count, 1))
    if rng is not None:
        thetas += rng.normal(size=thetas.shape) * _spread(best, squares, y, own)
        thetas = np.clip(thetas, *np.transpose(bounds))
    return [Scales(np.exp(t[:d]), float(np.exp(t[d])), float(np.exp(t[d + 1]))) for t in thetas]


def _spread(theta: FloatArray, *data: FloatArray) -> FloatArray:
    """Give one standard deviation of each log scale, by the curvature at the summit (Laplace)."""
    gradient = _surprise(theta, *data)[1]
    curvature = np.empty(len(theta))
    for i in range(len(theta)):
        moved = theta.copy()
        moved[i] += CURVATURE_STEP
        curvature[i] = (_surprise(moved, *data)[1][i] - gradient[i]) / CURVATURE_STEP
    # The prior alone has curvature 1: the data can only narrow it.
    return np.asarray(1 / np.sqrt(np.maximum(curvature, 1.0)))


CURVATURE_STEP = 1e-3
STARTS = ((0.7, -4.0), (-0.5, -1.0))
"""Of the two climbs: how far the lengths lie below their prior mean, and the log noise."""


def _surprise(
    theta: FloatArray, squares: FloatArray, y: FloatArray, own: FloatArray
) -> tuple[float, FloatArray]:
    """Give the negative log posterior of the log scales, and its gradient.

    Args:
        theta: (d + 2,) logarithms of lengths, variance and noise.
        squares: (n, n, d) squared differences per column.
        y: (n,) standardised values.
        own: (n,) known noise variance.

    References:
        Rasmussen, Williams (2006), Gaussian Processes for Machine Learning, equation 5.9.
    """
    n, _, d = squares.shape
    inverse, variance, noise = np.exp(-2 * theta[:d]), np.exp(theta[d]), np.exp(theta[d + 1])
    r = np.sqrt(5 * (squares @ inverse))
    decay = np.exp(-r)
    shape = (1 + r + r * r / 3) * decay
    root = cholesky(variance * shape + np.diag(own + noise), lower=True, check_finite=False)
    weights = cho_solve((root, True), y, check_finite=False)
    slope = cho_solve((root, True), np.eye(n), check_finite=False) - np.outer(weights, weights)
    length, spread = lengthscale_prior(d)
    z = (theta - np.array([length] * d + [0.0, NOISE_PRIOR[0]])) / np.array(
        [spread] * d + [1.0, NOISE_PRIOR[1]]
    )
    # dK / dlog length = 5/3 variance (1 + r) exp(-r) * squares / length^2
    by_length = (slope * ((5 / 3) * variance * (1 + r) * decay)).ravel() @ squares.reshape(-1, d)
    gradient = np.empty(d + 2)
    gradient[:d] = 0.5 * by_length * inverse
    gradient[d] = 0.5 * float((slope * shape).sum()) * variance
    gradient[d + 1] = 0.5 * float(np.trace(slope)) * noise
    surprise = 0.5 * float(y @ weights) + float(np.log(np.diag(root)).sum())
    return surprise + 0.5 * float(z @ z), gradient + z / np.array([spread] * d + [1.0, 1.0])


def _solve(root: FloatArray, right: FloatArray) -> FloatArray:
    return np.asarray(solve_triangular(root, right, lower=True, check_finite=False))
