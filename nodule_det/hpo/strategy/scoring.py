"""The score of points: improvement, probability of success and priors, with its gradient.

    coordinates (c, p) ──Scorer()──▶ scores (c,)
    coordinates (k, p) ──Scorer.climb()──▶ coordinates of higher scores (k, p)

Scores add on the log scale.  Only floats can be moved by a small amount, so the gradient is that by
their coordinates.  All other parameters stay as they are.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch

from nodule_det.arrays import FloatArray
from nodule_det.hpo.model.acquisition import Score
from nodule_det.hpo.model.encoding import Features
from nodule_det.hpo.model.feasibility import Feasibility
from nodule_det.hpo.model.gp import exact
from nodule_det.hpo.space.space import Kind

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # GPyTorch still uses torch.jit
    from botorch.exceptions.errors import OptimizationGradientError
    from botorch.generation import gen_candidates_scipy

CHUNK = 128
"""Number of points scored at a time, whose joint covariance is computed."""
CLIMB_ITERATIONS = 8
"""Iterations of L-BFGS-B in one climb, as in BoTorch's mixed search."""
PRIOR_STEP = 1e-6
"""Step of the coordinate for the slope of a log prior."""


class Scorer:
    """Scores points of a space.

    Args:
        features: The map from the space to model inputs.
        improvement: Log expected improvement, or a draw of the function.
        feasibility: Its log probability of success is added.
        prior_weight: Weight of the log prior.
    """

    def __init__(
        self,
        features: Features,
        improvement: Score,
        feasibility: Feasibility,
        prior_weight: float = 0.0,
    ) -> None:
        self._features = features
        self._improvement = improvement
        self._feasibility = feasibility
        space = features.space
        has_prior = any(p.prior is not None for p in space.free)
        self._prior_weight = prior_weight if has_prior else 0.0
        self._climbs = any(p.kind is Kind.FLOAT for p in space.free)
        self._column_of = torch.from_numpy(features.column_of)

    def __call__(self, units: FloatArray) -> FloatArray:
        """Return the scores, (c,), of the points at coordinates (c, p)."""
        with exact(), torch.no_grad():
            chunks = torch.split(torch.from_numpy(units), CHUNK)
            return np.concatenate([self._at(chunk).numpy() for chunk in chunks])

    def climb(self, units: FloatArray) -> FloatArray:
        """Move floats uphill by L-BFGS-B, each point on its own; (k, p) -> (k, p).

        Returns:
            The new coordinates; none, (0, p), if the space has no floats.
        """
        if not self._climbs or not len(units):
            return units[:0]
        try:
            # Recorded, and so hidden: BoTorch warns if a line search ends at rounding errors.
            with exact(), warnings.catch_warnings(record=True):
                found, _ = gen_candidates_scipy(
                    torch.from_numpy(units)[:, None],
                    lambda points: self._at(points[:, 0]),
                    lower_bounds=0.0,
                    upper_bounds=1.0,
                    options={"maxiter": CLIMB_ITERATIONS},
                )
        except OptimizationGradientError:  # a gradient that is not a number
            return units[:0]
        return np.asarray(found[:, 0].numpy())

    def _at(self, units: torch.Tensor) -> torch.Tensor:
        """Return the scores, (c,), differentiable by the coordinates of floats."""
        here = units.detach().numpy()
        # The coordinate of a float is its column, up to rounding, so its derivative is 1.
        moved = (units - units.detach()) * torch.from_numpy(self._features.moving(here))
        x = torch.from_numpy(self._features.of_units(here)) + moved @ self._column_of
        scores = self._improvement.at(x) + self._feasibility.log_chance_at(x)
        if self._prior_weight:
            values, slopes = map(torch.from_numpy, self._log_priors(here))
            scores = scores + self._prior_weight * (values + (moved * slopes).sum(1))
        return scores

    def _log_priors(self, units: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return log priors, (c,), and their slopes along the coordinates, (c, p)."""
        space = self._features.space
        values, slopes = np.zeros(len(units)), np.zeros(units.shape)
        for i, point in enumerate(units):
            params = space.from_unit(point)
            values[i] = space.log_prior(params)
            for j, p in enumerate(space.free):
                if p.kind is Kind.FLOAT and p.prior is not None and p.name in params:
                    up, down = (
                        p.log_prior(point[j] + step, params) for step in (PRIOR_STEP, -PRIOR_STEP)
                    )
                    slopes[i, j] = (up - down) / (2 * PRIOR_STEP)
        return values, slopes
