"""Where trainings fail through their own parameters: a model of the chance of getting a value.

    features of completed and failed trials ──fit_feasibility()──▶ log chance of a value, (c,)

Only outcomes inform it: out of memory and divergence belong to the parameters.  A crashed node or
a full disk says nothing about the point that happened to run there.
"""

from __future__ import annotations

import numpy as np
from scipy.special import log_ndtr

from nodule_det.arrays import BoolArray, FloatArray
from nodule_det.hpo.model.gp import Surrogate, fit_surrogate
from nodule_det.hpo.model.outcomes import standardise_labels

SHARPNESS = 0.18
"""Spread of the probit between a predicted 0 (failed) and 1 (gave a value)."""


class Feasibility:
    """A Gaussian process regression of success (1) and failure (0), read through a probit.

    A proper classifier would need an approximate posterior; least squares on labels orders points
    as well and costs one more fit of the kind that the surrogate uses anyway.
    """

    def __init__(self, surrogate: Surrogate | None) -> None:
        self._surrogate = surrogate

    @property
    def knows_nothing(self) -> bool:
        """Whether all points look alike, since no training has failed."""
        return self._surrogate is None

    def log_chance(self, features: FloatArray) -> FloatArray:
        """Return the log of the chance that each point, (c, d), gives a value; (c,)."""
        if self._surrogate is None:
            return np.zeros(len(features))
        mean, sd = self._surrogate.predict(features)
        return np.asarray(log_ndtr((mean - 0.5) / np.hypot(SHARPNESS, sd)))


def fit_feasibility(features: FloatArray, succeeded: BoolArray) -> Feasibility:
    """Fit to the outcomes so far; without a failure every point is taken for feasible."""
    if succeeded.all():
        return Feasibility(None)
    return Feasibility(fit_surrogate(features, standardise_labels(succeeded)))
