"""A fitted surrogate + pending points -> how much each candidate promises.

    Surrogate, pending (m, d) ──log_nei() | log_ei() | thompson()──▶ score(candidates (c, d)) (c,)

Scores are logarithms of an expected improvement (or a draw of the function); larger is better.
Given the values at finished and pending points a candidate is Gaussian and its improvement has a
closed form; so only those values are drawn, all candidates share the draws, and the scores are
smooth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import erfcx, logsumexp, ndtr

from nodule_det.arrays import FloatArray
from nodule_det.hpo.model.gp import ROUGH_LENGTH, ROUGH_SHARE, Joint, Surrogate

Score = Callable[[FloatArray], FloatArray]
"""(c, d) features -> (c,) promises."""

DRAWS = 64
CONTENDERS = 24
"""Finished points that may be the best; the others are so in practically no draw."""
WAVES = 1024
"""Cosines that a draw from the prior is made of."""


def log_nei(
    surrogate: Surrogate, pending: FloatArray, rng: np.random.Generator, draws: int = DRAWS
) -> Score:
    """Score by noisy expected improvement, with pending points integrated out.

    The best value so far is itself uncertain: it is drawn jointly at the finished points and the
    pending ones, so noise and running trials are both accounted for.

    Args:
        surrogate: Fitted to the completed trials.
        pending: (m, d) features of the trials that run; m may be 0.
        rng: Source of the draws.
        draws: How many; even.

    References:
        Letham et al. (2019), Constrained Bayesian Optimization with Noisy Experiments, with the
        logarithm of Ament et al. (2023), Unexpected Improvements to Expected Improvement.
    """
    mean, variance = surrogate.posterior(surrogate.features)
    likely = np.argsort(-(mean + 2 * np.sqrt(variance)), kind="stable")[:CONTENDERS]
    points = np.concatenate([surrogate.features[likely], pending])
    joint = Joint(surrogate, points, 0.0, _normals(draws, len(points), rng))
    return _expected_over_draws(joint, joint.values().max(axis=1))


def log_ei_over_fantasies(
    surrogate: Surrogate, pending: FloatArray, rng: np.random.Generator, draws: int = DRAWS
) -> Score:
    """Score by expected improvement, averaged over imagined outcomes of the pending points.

    References:
        Snoek, Larochelle, Adams (2012), Practical Bayesian Optimization, section 3.2.
    """
    if len(pending) == 0:
        return log_ei(surrogate)
    noise = float(np.median(surrogate.own_noise))
    joint = Joint(surrogate, pending, noise, _normals(draws, len(pending), rng))
    mean, _ = joint.posterior(np.concatenate([surrogate.features, pending]))
    return _expected_over_draws(joint, mean.max(axis=1))


def log_ei(surrogate: Surrogate) -> Score:
    """Score by expected improvement as if nothing were running: what the poster did."""
    best = surrogate.posterior(surrogate.features)[0].max()

    def score(candidates: FloatArray) -> FloatArray:
        mean, variance = surrogate.posterior(candidates)
        return log_improvement(mean, np.sqrt(variance), best)

    return score


def over(scores: Sequence[Score]) -> Score:
    """Average improvements, of which the scores are logarithms, over several models."""

    def score(candidates: FloatArray) -> FloatArray:
        logs = [score(candidates) for score in scores]
        return np.asarray(logsumexp(logs, axis=0) - math.log(len(logs)))

    return score


def thompson(surrogate: Surrogate, rng: np.random.Generator) -> Score:
    """Score by one draw of the function; the draw differs each time, which spreads the workers.

    A draw of the prior, made of random cosines, is moved to the data by the difference at the
    finished points.

    References:
        Kandasamy et al. (2018), Parallelised Bayesian Optimisation via Thompson Sampling.
        Wilson et al. (2020), Efficiently Sampling Functions from Gaussian Process Posteriors.
    """
    scales, x, root = surrogate.scales, surrogate.features, surrogate.root
    # The spectrum of a Matern-5/2 covariance is a Student t with 5 degrees of freedom.
    waves = rng.normal(size=(WAVES, x.shape[1]))
    waves *= np.sqrt(5 / rng.chisquare(5, WAVES))[:, None]
    waves[rng.random(WAVES) < ROUGH_SHARE] /= ROUGH_LENGTH
    phases = rng.uniform(0, 2 * math.pi, WAVES)
    heights = rng.normal(size=WAVES) * math.sqrt(2 * scales.variance / WAVES)

    def prior(inputs: FloatArray) -> FloatArray:
        return np.asarray(np.cos(scales.stretched(inputs) @ waves.T + phases) @ heights)

    seen = prior(x) + np.sqrt(surrogate.own_noise) * rng.normal(size=len(x))
    miss = surrogate.residuals - solve_triangular(root, seen, lower=True)
    weights = solve_triangular(root, miss, lower=True, trans="T")

    def score(candidates: FloatArray) -> FloatArray:
        return prior(candidates) + scales.covariance(candidates, x) @ weights

    return score


def log_improvement(mean: FloatArray, sd: FloatArray, best: FloatArray) -> FloatArray:
    """Return log E[max(0, f - best)] of f ~ N(mean, sd), accurate far below the best as well.

    With u = (mean - best) / sd it is log sd + log(phi(u) + u Phi(u)); below u = -1 the sum
    cancels, and Phi / phi is taken from the scaled complementary error function instead; below
    -1000 that cancels too, and phi(u) / u^2 is left.
    """
    u = (mean - best) / sd
    near, low = np.maximum(u, -1.0), np.minimum(u, -1.0)
    far = np.maximum(low, -1e3)
    log_phi = -0.5 * u * u - 0.5 * math.log(2 * math.pi)
    phi = np.exp(-0.5 * near * near) / math.sqrt(2 * math.pi)
    above = np.log(phi + near * ndtr(near))
    ratio = math.sqrt(math.pi / 2) * erfcx(-far / math.sqrt(2))
    tail = np.where(u > -1e3, np.log1p(far * ratio), -2 * np.log(-low))
    return np.asarray(np.log(sd) + np.where(u > -1, above, log_phi + tail))


def _expected_over_draws(joint: Joint, best: FloatArray) -> Score:
    def score(candidates: FloatArray) -> FloatArray:
        mean, variance = joint.posterior(candidates)
        logs = log_improvement(mean, np.sqrt(variance), best[:, None])
        return np.asarray(logsumexp(logs, axis=0) - math.log(len(best)))

    return score


def _normals(draws: int, columns: int, rng: np.random.Generator) -> FloatArray:
    """Draw (draws, columns) normals in pairs of opposite sign, so that their mean is 0."""
    half = rng.normal(size=(draws // 2, columns))
    return np.concatenate([half, -half])
