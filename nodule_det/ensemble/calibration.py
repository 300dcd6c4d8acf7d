"""Meaning of a score: its probability of a true positive, and its rate of false positives.

    Matched (out of fold) ──fit_calibration()──▶ Calibration ──▶ probability(), fp_per_scan()

The raw score of a network ranks candidates but is not a probability: a network trained on patches,
half of which have a nodule, is overconfident on whole scans.  The map is logistic in the logit of
the score (Platt 1999) and strictly increasing, so the order of candidates and the FROC curve do not
change.

References:
    Platt, J. (1999). Probabilistic outputs for support vector machines. Advances in Large Margin
    Classifiers. The targets of equation 4 keep the fit finite where the classes are separable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from nodule_det.arrays import FloatArray
from nodule_det.errors import FrocInputError
from nodule_det.froc import Matched, froc_curve, threshold_at
from nodule_det.progress import counted

RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives per scan for which a threshold is stored."""
FURTHEST = 16.0
"""Largest rate of false positives per scan in the map.  FROC figures need 8."""
POINTS = 64
"""Number of points of the map from a score to false positives per scan."""

CLOSEST = 1e-7
"""Distance to which scores are clipped from 0 and 1, where the logit is infinite."""
MAX_STEPS = 100
TOLERANCE = 1e-10


@dataclass(frozen=True)
class Calibration:
    """Maps from a raw score to a probability and to a rate of false positives, both monotone.

    Attributes:
        slope: Slope of the calibrated logit over the raw logit, positive.
        intercept: Intercept of the same line.
        scores: (p,) raw scores, decreasing.
        fp_per_scan: (p,) false positives per scan at or above each score, increasing.
        n_scans: Number of scans that it was fitted on.
        n_lesions: Number of lesions in them.
    """

    slope: float
    intercept: float
    scores: tuple[float, ...]
    fp_per_scan: tuple[float, ...]
    n_scans: int
    n_lesions: int

    def probability(self, score: ArrayLike) -> FloatArray:
        """Return the probability that a candidate is a true positive, same shape as the scores."""
        return _sigmoid(self.slope * _logit(score) + self.intercept)

    def false_positives(self, score: ArrayLike) -> FloatArray:
        """Return the expected false positives per scan among candidates with at least a score.

        Scores below the lowest known score get the rate of that score.
        """
        known = np.asarray(self.scores)[::-1]
        rates = np.asarray(self.fp_per_scan)[::-1]
        return np.asarray(np.interp(np.asarray(score, np.float64), known, rates), np.float64)

    def lowest_score(self, fp_per_scan: float) -> float:
        """Return the first known score with more than so many false positives per scan, or 0."""
        known = zip(self.scores, self.fp_per_scan, strict=True)
        return next((score for score, rate in known if rate > fp_per_scan), 0.0)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {
            "slope": self.slope,
            "intercept": self.intercept,
            "scores": list(self.scores),
            "fp_per_scan": list(self.fp_per_scan),
            "n_scans": self.n_scans,
            "n_lesions": self.n_lesions,
        }


def fit_calibration(matched: Matched) -> Calibration:
    """Fit the maps to candidates of scans that the networks were not trained on.

    Args:
        matched: The matched candidates.  Duplicate detections and candidates on excluded findings
            do not count.

    Raises:
        FrocInputError: If no lesion was detected or there is no false positive, a score is outside
            [0, 1], or higher scores are not more often true positives.
    """
    true, false = matched.lesion_score[matched.found], matched.fp_score
    if not len(true) or not len(false):
        raise FrocInputError(
            f"scores cannot be calibrated with {counted(len(true), 'detected lesion')} and "
            f"{counted(len(false), 'false positive')}: both are needed"
        )
    scores = np.concatenate([true, false])
    if scores.min() < 0 or scores.max() > 1:
        raise FrocInputError(
            f"scores from {scores.min():g} to {scores.max():g} cannot be calibrated: they must be "
            "probabilities of a network, in [0, 1]"
        )
    slope, intercept = _fit_line(_logit(true), _logit(false))
    if slope <= 0:
        raise FrocInputError(
            "scores cannot be calibrated: detected lesions do not score higher than false positives"
        )
    at, rates = _false_positive_rates(matched)
    return Calibration(slope, intercept, at, rates, matched.n_cases, matched.n_lesions)


def thresholds(matched: Matched) -> dict[str, float | None]:
    """Return the lowest score with at most each of ``RATES`` false positives per scan.

    None if even the highest score has more.
    """
    at = threshold_at(froc_curve(matched), RATES)
    pairs = zip(RATES, at.tolist(), strict=True)
    return {f"{rate:g}": score if np.isfinite(score) else None for rate, score in pairs}


def _false_positive_rates(matched: Matched) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Select false positives of the curve, spaced evenly in the logarithm of their rate."""
    falling = np.sort(matched.fp_score)[::-1]
    most = min(len(falling), max(1, int(FURTHEST * matched.n_cases)))
    counts = np.unique(np.rint(np.geomspace(1, most, POINTS)).astype(int))
    scores = np.unique(falling[counts - 1])[::-1]
    n_fp = len(falling) - np.searchsorted(falling[::-1], scores, side="left")  # ties enter together
    return tuple(scores.tolist()), tuple((n_fp / matched.n_cases).tolist())


def _fit_line(true: FloatArray, false: FloatArray) -> tuple[float, float]:
    """Fit slope and intercept by Newton's method to Platt's regularised likelihood."""
    x = np.concatenate([true, false])
    n_true, n_false = len(true), len(false)
    target = np.concatenate(
        [np.full(n_true, (n_true + 1) / (n_true + 2)), np.full(n_false, 1 / (n_false + 2))]
    )
    center, scale = x.mean(), max(float(x.std()), 1e-6)
    z = (x - center) / scale
    design = np.stack([z, np.ones_like(z)], axis=1)
    theta = np.array([0.0, np.log((n_true + 1) / (n_false + 1))])
    loss = _loss(design @ theta, target)
    for _ in range(MAX_STEPS):
        p = _sigmoid(design @ theta)
        gradient = design.T @ (p - target)
        curvature = (design * (p * (1 - p))[:, None]).T @ design + 1e-12 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        while (new := _loss(design @ (theta - step), target)) > loss and np.abs(step).max() > 1e-12:
            step = step / 2
        theta, gain, loss = theta - step, loss - new, new
        if gain < TOLERANCE * max(1.0, abs(loss)):
            break
    return float(theta[0] / scale), float(theta[1] - theta[0] * center / scale)


def _loss(logit: FloatArray, target: FloatArray) -> float:
    """Cross-entropy of logits, without overflow."""
    return float((np.logaddexp(0.0, logit) - target * logit).sum())


def _logit(score: ArrayLike) -> FloatArray:
    p = np.clip(np.asarray(score, np.float64), CLOSEST, 1 - CLOSEST)
    return np.asarray(np.log(p) - np.log1p(-p), np.float64)


def _sigmoid(logit: FloatArray) -> FloatArray:
    return np.asarray(np.exp(-np.logaddexp(0.0, -logit)), np.float64)
