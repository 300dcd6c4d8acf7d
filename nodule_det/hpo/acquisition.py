"""A fitted surrogate + pending points -> how much each candidate promises.

    Surrogate, pending (m, d) ──log_nei() | log_ei() | thompson()──▶ score(candidates (c, d)) (c,)

Scores are logarithms of an expected improvement (or a draw of the function); larger is better.
Given the values at finished and pending points a candidate is Gaussian and its improvement has a
closed form; so only those values are drawn, all candidates share the draws, and the scores are
smooth.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from botorch.sampling.qmc import NormalQMCEngine

from nodule_det.hpo.surrogate import Joint, Surrogate

Score = Callable[[torch.Tensor], torch.Tensor]
"""(c, d) features -> (c,) promises."""

DRAWS = 128
CONTENDERS = 24
"""Finished points that may be the best; the others are so in practically no draw."""
WAVES = 1024
"""Cosines that a draw from the prior is made of."""


def log_nei(surrogate: Surrogate, pending: torch.Tensor, seed: int) -> Score:
    """Score by noisy expected improvement, with pending points integrated out.

    The best value so far is itself uncertain: it is drawn jointly at the finished points and the
    pending ones, so noise and running trials are both accounted for.

    Args:
        surrogate: Fitted to the completed trials.
        pending: (m, d) features of the trials that run; m may be 0.
        seed: Of the draws.

    References:
        Letham et al. (2019), Constrained Bayesian Optimization with Noisy Experiments, with the
        logarithm of Ament et al. (2023), Unexpected Improvements to Expected Improvement.
    """
    mean, variance = surrogate.posterior(surrogate.features)
    likely = (mean + 2 * variance.sqrt()).topk(min(CONTENDERS, len(mean))).indices
    points = torch.cat([surrogate.features[likely], pending])
    joint = Joint(surrogate, points, 0.0, _normals(len(points), seed))
    best = joint.values().amax(dim=1)
    return _expected_over_draws(joint, best)


def log_ei_over_fantasies(surrogate: Surrogate, pending: torch.Tensor, seed: int) -> Score:
    """Score by expected improvement, averaged over imagined outcomes of the pending points.

    References:
        Snoek, Larochelle, Adams (2012), Practical Bayesian Optimization, section 3.2.
    """
    if len(pending) == 0:
        return log_ei(surrogate)
    joint = Joint(surrogate, pending, surrogate.noise, _normals(len(pending), seed))
    mean, _ = joint.posterior(torch.cat([surrogate.features, pending]))
    return _expected_over_draws(joint, mean.amax(dim=1))


def log_ei(surrogate: Surrogate) -> Score:
    """Score by expected improvement as if nothing were running: what the poster did."""
    best = surrogate.posterior(surrogate.features)[0].max()

    def score(candidates: torch.Tensor) -> torch.Tensor:
        mean, variance = surrogate.posterior(candidates)
        return log_improvement(mean, variance.sqrt(), best)

    return score


def thompson(surrogate: Surrogate, seed: int) -> Score:
    """Score by one draw of the function; the draw differs each time, which spreads the workers.

    A draw of the prior, made of random cosines, is moved to the data by the difference at the
    finished points.

    References:
        Kandasamy et al. (2018), Parallelised Bayesian Optimisation via Thompson Sampling.
        Wilson et al. (2020), Efficiently Sampling Functions from Gaussian Process Posteriors.
    """
    rng = torch.Generator().manual_seed(seed)
    x, root = surrogate.features, surrogate.root
    # A Matern-5/2 spectrum is a Student t with 5 degrees of freedom.
    chi2 = torch.randn(WAVES, 5, generator=rng, dtype=torch.float64).square().sum(1, keepdim=True)
    waves = torch.randn(WAVES, x.shape[1], generator=rng, dtype=torch.float64)
    waves = waves / surrogate.kernel.base_kernel.lengthscale.detach() * (5 / chi2).sqrt()
    phases = 2 * math.pi * torch.rand(WAVES, generator=rng, dtype=torch.float64)
    heights = torch.randn(WAVES, generator=rng, dtype=torch.float64)
    heights = heights * math.sqrt(2 * surrogate.outputscale() / WAVES)

    def prior(inputs: torch.Tensor) -> torch.Tensor:
        return torch.cos(inputs @ waves.T + phases) @ heights

    # Cov(whitened residual) is 1; the draw's own noisy values differ from it by prior and noise.
    noise_sd = (root.square().sum(1) - surrogate.outputscale()).clamp_min(0).sqrt()
    noise = noise_sd * torch.randn(len(x), generator=rng, dtype=torch.float64)
    drawn = torch.linalg.solve_triangular(root, (prior(x) + noise)[:, None], upper=False)
    correction = torch.linalg.solve_triangular(
        root.T, surrogate.residuals[:, None] - drawn, upper=True
    ).squeeze(-1)

    def score(candidates: torch.Tensor) -> torch.Tensor:
        moved = surrogate.covariance(candidates, x) @ correction
        drawn_there: torch.Tensor = surrogate.prior_mean + prior(candidates) + moved
        return drawn_there

    return score


def log_improvement(mean: torch.Tensor, sd: torch.Tensor, best: torch.Tensor) -> torch.Tensor:
    """Give log E[max(0, f - best)] of f ~ N(mean, sd), accurate far below the best as well.

    With u = (mean - best) / sd it is log sd + log(phi(u) + u Phi(u)); below u = -1 the sum
    cancels, and Phi / phi is taken from the scaled complementary error function instead.
    """
    u = (mean - best) / sd
    near = u.clamp_min(-1.0)
    log_phi = -0.5 * u.square() - 0.5 * math.log(2 * math.pi)
    phi = torch.exp(-0.5 * near.square()) / math.sqrt(2 * math.pi)
    above = torch.log(phi + near * torch.special.ndtr(near))
    far = u.clamp(-1e3, -1.0)
    ratio = math.sqrt(math.pi / 2) * torch.special.erfcx(-far / math.sqrt(2))
    tail = torch.where(u > -1e3, torch.log1p(far * ratio), -2 * u.clamp_max(-1.0).neg().log())
    log_gain: torch.Tensor = torch.log(sd) + torch.where(u > -1, above, log_phi + tail)
    return log_gain


def _expected_over_draws(joint: Joint, best: torch.Tensor) -> Score:
    def score(candidates: torch.Tensor) -> torch.Tensor:
        mean, variance = joint.posterior(candidates)
        logs = log_improvement(mean, variance.sqrt(), best[:, None])
        return torch.logsumexp(logs, dim=0) - math.log(len(best))

    return score


def _normals(columns: int, seed: int) -> torch.Tensor:
    normals: torch.Tensor = NormalQMCEngine(columns, seed=seed).draw(DRAWS, dtype=torch.float64)
    return normals
