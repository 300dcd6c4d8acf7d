"""Completed trials -> a Gaussian process over the search space.

    features (n, d), values (n,), se (n,) ──fit_surrogate()──▶ Surrogate ──▶ predict(), Joint

Everything is float64.  Values are larger-is-better; standardising and its inverse live here and
nowhere else.  The process is written out, on SciPy: its gradient in closed form fits a hundred
trials several times faster than automatic differentiation, and a driver that waits on a login node
for weeks need not hold a deep-learning library in memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

from nodule_det.arrays import BoolArray, FloatArray

SCALE_FLOOR = 0.15
"""Smallest spread that values are standardised by.  Scores live in [0, 1]; three first scores
near zero, blown up to unit variance, would pin the search to their differences."""

LEAST_NOISE = 1e-6
"""Variance added to every standardised value, which keeps the factorisations stable."""

LEAST_VARIANCE = 1e-10
NOISE_PRIOR = (-5.0, 1.0)
"""Mean and spread of the logarithm of the noise variance; of the output variance: (0, 1)."""

ROUGH_SHARE, ROUGH_LENGTH = 0.25, 0.3
"""A share of the function is rougher: its lengths are this part of the others.  A process of one
smoothness, once it knows the broad shape, is far too sure of what lies between its points."""

SHEAR_SPREAD = 0.08
"""How far the best place on a sheared column moves, one standard deviation expected beforehand,
from one end of another column to the other: half a decade of the six of a learning rate."""

FIT_ITERATIONS = 40
MANY = 200
"""Above this number of trials an iteration is dear and one climb finds the summit."""


@dataclass(frozen=True)
class Scales:
    """Parameters of the covariance, of standardised values."""

    lengths: FloatArray
    """(d,) distance over which the function changes, per column, once sheared."""
    variance: float
    """Of the function."""
    noise: float
    """Variance that values have beyond their own standard errors."""
    shear: FloatArray | None = None
    """(d, d) in row i, how much of each other column is added to column i; None: nothing."""

    def stretched(self, x: FloatArray) -> FloatArray:
        """Return inputs, (n, d), in the coordinates where all distances count alike."""
        return (x if self.shear is None else x + x @ self.shear.T) / self.lengths

    def covariance(self, a: FloatArray, b: FloatArray) -> FloatArray:
        """Return the covariance of the function at two sets of inputs, (a, b)."""
        shape, _ = _shape(_distances(self.stretched(a), self.stretched(b)))
        return self.variance * shape


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
        """Return posterior mean and variance of the function, (c,) each, standardised."""
        cross = _solve(self.root, self.scales.covariance(self.features, features))
        variance = self.scales.variance - (cross * cross).sum(0)
        return self.residuals @ cross, np.maximum(variance, LEAST_VARIANCE)

    def predict(self, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return posterior mean and standard deviation, (c,) each, in units of the values."""
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
        """Return the drawn values at the points, (s, j)."""
        return np.asarray(self._whitened @ self._root[self._known :].T)

    def posterior(self, candidates: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the mean under each draw, (s, c), and the variance that all draws share, (c,)."""
        cross = _solve(self._root, self._scales.covariance(self._inputs, candidates))
        variance = self._scales.variance - (cross * cross).sum(0)
        return self._whitened @ cross, np.maximum(variance, LEAST_VARIANCE)


def fit_surrogate(
    features: FloatArray,
    values: FloatArray,
    se: FloatArray | None = None,
    rng: np.random.Generator | None = None,
    sheared: Sequence[int] = (),
) -> Surrogate:
    """Fit a process with one length scale per column, by maximum a posteriori.

    Args:
        features: (n, d) inputs in [0, 1].
        values: (n,) objective, larger is better.
        se: (n,) standard error of each value.  One more noise level is estimated beside them, for
            what they do not cover: two trainings of one point differ by more than their cases.
        rng: If given, the scales are drawn once, as by :func:`draw_surrogates`.
        sheared: Columns whose best place moves with the other columns, as that of a learning rate
            does with minibatch, depth and width.  How far each moves it is fitted too.

    Raises:
        ValueError: If there is no trial to learn from.
    """
    return draw_surrogates(features, values, se, rng, 1, sheared)[0]


def draw_surrogates(
    features: FloatArray,
    values: FloatArray,
    se: FloatArray | None,
    rng: np.random.Generator | None,
    count: int,
    sheared: Sequence[int] = (),
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
        sheared: See :func:`fit_surrogate`.
    """
    if len(values) == 0:
        raise ValueError("a surrogate needs at least one completed trial")
    y, own, center, scale = standardise(values, se)
    surrogates = []
    for scales in _likely(_Known(features, y, own, shears(features.shape[1], sheared)), rng, count):
        noise = own + scales.noise
        root = cholesky(scales.covariance(features, features) + np.diag(noise), lower=True)
        surrogates.append(Surrogate(scales, features, noise, root, _solve(root, y), center, scale))
    return surrogates


def shears(dimension: int, sheared: Sequence[int]) -> BoolArray:
    """Mark what is fitted of a shear, (d, d): the other columns, in the rows of the sheared."""
    free = np.zeros((dimension, dimension), np.bool_)
    free[list(sheared)] = True
    np.fill_diagonal(free, False)
    return free


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
    """Return mean and spread of the logarithm of a length: functions of more columns are smoother.

    References:
        Hvarfner, Hellsten, Nardi (2024), Vanilla Bayesian Optimization Performs Great in High
        Dimensions.  Their mean of sqrt(2) and spread of sqrt(3) are moved to shorter and narrowed:
        with some 60 points and 11 scales, longer ones foretold too small errors.
    """
    return -0.3 + 0.5 * math.log(dimension), 0.7


@dataclass(frozen=True)
class _Known:
    """What the scales are fitted to."""

    x: FloatArray
    """(n, d) inputs."""
    y: FloatArray
    """(n,) standardised values."""
    own: FloatArray
    """(n,) known noise variance."""
    free: BoolArray
    """(d, d) entries of the shear that are fitted."""

    @property
    def dimension(self) -> int:
        return int(self.x.shape[1])

    def scales(self, theta: FloatArray) -> Scales:
        """Read logarithms of d lengths, of variance and noise, and shears in SHEAR_SPREADs."""
        d = self.dimension
        shear = np.zeros((d, d))
        shear[self.free] = SHEAR_SPREAD * theta[d + 2 :]
        lengths, variance, noise = np.exp(theta[:d]), np.exp(theta[d]), np.exp(theta[d + 1])
        return Scales(lengths, float(variance), float(noise), shear if self.free.any() else None)

    def prior(self) -> tuple[FloatArray, FloatArray]:
        """Return mean and spread of the normal prior of each entry of theta."""
        d, k = self.dimension, int(self.free.sum())
        length, spread = lengthscale_prior(d)
        mean = [length] * d + [0.0, NOISE_PRIOR[0]] + [0.0] * k
        return np.array(mean), np.array([spread] * d + [1.0, NOISE_PRIOR[1]] + [1.0] * k)


def _likely(known: _Known, rng: np.random.Generator | None, count: int) -> list[Scales]:
    """Climb from two starts, a quiet function and a noisy one; draw around the better end."""
    d, k = known.dimension, int(known.free.sum())
    length, _ = lengthscale_prior(d)
    bounds = [(-2.5, 4.0)] * d + [(-3.0, 3.0), (-9.0, 1.0)] + [(-4.0, 4.0)] * k
    many = len(known.y) > MANY
    ends = [
        minimize(
            _surprise,
            np.array([length - shift] * d + [0.0, noise] + [0.0] * k),
            (known,),
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": FIT_ITERATIONS // 2 if many else FIT_ITERATIONS},
        )
        for shift, noise in STARTS[: 1 if many else None]
    ]
    best = np.asarray(min(ends, key=lambda end: float(end.fun)).x, np.float64)
    thetas = np.tile(best, (count, 1))
    if rng is not None:
        thetas += rng.normal(size=thetas.shape) * _spread(best, known)
        thetas = np.clip(thetas, *np.transpose(bounds))
    return [known.scales(theta) for theta in thetas]


def _spread(theta: FloatArray, known: _Known) -> FloatArray:
    """Return one standard deviation of each entry, by the curvature at the summit (Laplace)."""
    gradient = _surprise(theta, known)[1]
    curvature = np.empty(len(theta))
    for i in range(len(theta)):
        moved = theta.copy()
        moved[i] += CURVATURE_STEP
        curvature[i] = (_surprise(moved, known)[1][i] - gradient[i]) / CURVATURE_STEP
    # The prior alone has curvature 1: the data can only narrow it.
    return np.asarray(1 / np.sqrt(np.maximum(curvature, 1.0)))


CURVATURE_STEP = 1e-3
STARTS = ((0.7, -4.0), (-0.5, -1.0))
"""Of the two climbs: how far the lengths lie below their prior mean, and the log noise."""


def _surprise(theta: FloatArray, known: _Known) -> tuple[float, FloatArray]:
    """Return the negative log posterior of theta (see :meth:`_Known.scales`), and its gradient.

    Sums over pairs, of weights W and differences of two columns a and b, are taken as
    sum_ij W_ij (a_i - a_j) (b_i - b_j) = 2 a' (diag(W 1) - W) b: no array is larger than (n, n).

    References:
        Rasmussen, Williams (2006), Gaussian Processes for Machine Learning, equation 5.9.
    """
    x, d, scales = known.x, known.dimension, known.scales(theta)
    z = scales.stretched(x)
    shape, steepness = _shape(_distances(z, z))
    noise = np.diag(known.own + scales.noise)
    root = cholesky(scales.variance * shape + noise, lower=True, check_finite=False)
    weights = cho_solve((root, True), known.y, check_finite=False)
    slope = cho_solve((root, True), np.eye(len(x)), check_finite=False)
    slope -= np.outer(weights, weights)
    steep = slope * (2 * scales.variance * steepness)
    weighed = z * steep.sum(1)[:, None] - steep @ z
    gradient = np.empty(len(theta))
    gradient[:d] = (weighed * z).sum(0)
    gradient[d] = 0.5 * float((slope * shape).sum()) * scales.variance
    gradient[d + 1] = 0.5 * float(np.trace(slope)) * scales.noise
    gradient[d + 2 :] = -SHEAR_SPREAD * (weighed.T @ x / scales.lengths[:, None])[known.free]
    mean, spread = known.prior()
    off = (theta - mean) / spread
    surprise = 0.5 * float(known.y @ weights) + float(np.log(np.diag(root)).sum())
    return surprise + 0.5 * float(off @ off), gradient + off / spread


def _shape(r: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the covariance at sqrt(5) times distances, of variance 1, and how fast it falls.

    It is Matern-5/2, (1 + r + r^2 / 3) exp(-r), a share of it on shorter lengths.  How fast it
    falls is minus its derivative by the squared distance, 5/6 (1 + r) exp(-r) of each part.
    """
    shape, falls = np.zeros_like(r), np.zeros_like(r)
    for share, length in ((1 - ROUGH_SHARE, 1.0), (ROUGH_SHARE, ROUGH_LENGTH)):
        q = r / length
        decay = share * np.exp(-q)
        shape += (1 + q + q * q / 3) * decay
        falls += (5 / 6 / length**2) * (1 + q) * decay
    return shape, falls


def _distances(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return sqrt(5) times the distances between two sets of points, (a, b)."""
    squared = (a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * a @ b.T
    return np.asarray(np.sqrt(5 * np.maximum(squared, 0.0)))


def _solve(root: FloatArray, right: FloatArray) -> FloatArray:
    return np.asarray(solve_triangular(root, right, lower=True, check_finite=False))
