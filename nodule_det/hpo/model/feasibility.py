"""Feasibility: a model of the probability that a training with given parameters gives a value.

    features of completed and failed trials ──fit_feasibility()──▶ log probability of a value, (c,)

Only outcomes inform it: running out of memory and divergence are caused by the parameters.  A
crashed node or a full disk says nothing about the point that ran there.
"""

from __future__ import annotations

import numpy as np
from scipy.special import log_ndtr

from nodule_det.arrays import BoolArray, FloatArray
from nodule_det.hpo.model.gp import Surrogate, fit_surrogate
from nodule_det.hpo.model.outcomes import standardise_labels

SHARPNESS = 0.18
"""Scale of the probit between a predicted 0 (failure) and 1 (value)."""


class Feasibility:
    """Gaussian process regression of success (1) and failure (0), converted by a probit.

    A proper classifier would need an approximate posterior.  Regression on labels ranks points
    equally well and needs only one more fit of the surrogate's kind.
    """

    def __init__(self, surrogate: Surrogate | None) -> None:
        self._surrogate = surrogate

    @property
    def knows_nothing(self) -> bool:
        """Whether all points are equally likely to succeed, since no training has failed."""
        return self._surrogate is None

    def log_chance(self, features: FloatArray) -> FloatArray:
        """Return the log probability that each point, (c, d), gives a value; (c,)."""
        if self._surrogate is None:
            return np.zeros(len(features))
        mean, sd = self._surrogate.predict(features)
        return np.asarray(log_ndtr((mean - 0.5) / np.hypot(SHARPNESS, sd)))


def fit_feasibility(features: FloatArray, succeeded: BoolArray) -> Feasibility:
    """Fit to the outcomes so far.  Without a failure every point is assumed to be feasible."""
    if succeeded.all():
        return Feasibility(None)
    return Feasibility(fit_surrogate(features, standardise_labels(succeeded)))
