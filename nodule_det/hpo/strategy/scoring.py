"""The score of points: improvement, probability of success and priors.

coordinates (c, p) ──Scorer()──▶ scores (c,)
"""

from __future__ import annotations

import numpy as np

from nodule_det.arrays import FloatArray
from nodule_det.hpo.model.acquisition import Score
from nodule_det.hpo.model.encoding import Features
from nodule_det.hpo.model.feasibility import Feasibility


class Scorer:
    """Scores points of a space, on the log scale.

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
        self._space = features.space
        self._features = features
        self._improvement = improvement
        self._feasibility = feasibility
        has_prior = any(p.prior is not None for p in self._space.free)
        self._prior_weight = prior_weight if has_prior else 0.0

    def __call__(self, units: FloatArray) -> FloatArray:
        """Return the scores, (c,), of the points at coordinates (c, p)."""
        x = self._features.of_units(units)
        scores = self._improvement(x) + self._feasibility.log_chance(x)
        if self._prior_weight:
            log_priors = [self._space.log_prior(self._space.from_unit(u)) for u in units]
            scores = scores + self._prior_weight * np.array(log_priors)
        return scores
