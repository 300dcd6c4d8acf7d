"""Values of trials, prepared for a model with mean 0 and variance 1.

    values (n,), se (n,) ──winsorise()──▶ without heavy lower tail ──standardise()──▶ Standardised

Scaling is relative to the data: a study whose values differ by less than 0.01, or a loss in the
thousands, is searched as well as one whose values fill [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nodule_det.arrays import BoolArray, FloatArray

TUKEY = 1.5
"""Number of interquartile ranges below the first quartile at which a value is an outlier."""

EXPLODED = 30.0
"""The first quartile is itself among the outliers if it is further below the median than this many
times the distance from the median to the best value."""
REACH = 5.0
"""Then the fence is this many times that distance below the median."""

MIN_NOISE = 1e-6
"""Variance added to every standardised value, to keep factorisations stable."""

EQUAL = 1e-12
"""Spread, relative to the largest value, below which values differ only by rounding."""


@dataclass(frozen=True)
class Standardised:
    """Values with mean 0 and variance at most 1, and how to convert them back."""

    values: FloatArray
    """(n,)"""
    noise: FloatArray
    """(n,) known noise variance of each value, independent of the others, in the same units."""
    center: float
    scale: float
    shared: FloatArray | None = None
    """(n, n) covariance of the noise from shared validation cases, of the values less their mean,
    in the same units; None if no such noise is known."""


def winsorise(values: FloatArray) -> FloatArray:
    """Raise low outliers to Tukey's lower fence.

    A training that diverges to a finite value, or a loss that explodes, would otherwise determine
    the scale of all others.  Larger is better, so high values are not changed.

    If a quarter of the values have exploded, so has the first quartile.  Up to a half, the fence
    then lies below the median, in units of the distance from there to the best value.

    Args:
        values: (n,) objective, larger is better.

    References:
        Tukey (1977), Exploratory Data Analysis.  Ax winsorises at the same fence.
    """
    if len(values) == 0:
        return values
    first, middle, third = np.percentile(values, [25, 50, 75])
    spread, top = third - first, values.max() - middle
    if top > 0 and (spread == 0 or middle - first > EXPLODED * top):
        fence = float(middle - REACH * top)
    else:
        fence = float(first - TUKEY * spread) if spread > 0 else -np.inf
    return np.maximum(values, fence)


def standardise(
    values: FloatArray, se: FloatArray | None, influence: FloatArray | None = None
) -> Standardised:
    """Scale values to mean 0 and standard deviation 1.

    A hard validation case lowers all values, so their errors are correlated.  The mean is
    subtracted from the errors as it is from the values, which leaves the error of differences.

    If the values differ by less than their standard errors, the scale is the median standard error,
    so that a few nearly equal first values do not become meaningful differences.

    Args:
        values: (n,), n at least 1.
        se: (n,) standard errors, independent of each other; None if unknown.
        influence: (n, c) how much each of c validation cases pulls each value up or down, in
            addition to ``se``.  Products are covariances.  None if unknown.
    """
    center, scale = float(np.mean(values)), float(np.std(values))
    noise = np.zeros(len(values)) if se is None else se**2
    shared = None
    if influence is not None and influence.any():
        pulls = influence - influence.mean(0)
        shared = pulls @ pulls.T
    total = noise if shared is None else noise + shared.diagonal()
    scale = max(scale, float(np.median(np.sqrt(total))))
    if scale <= EQUAL * float(np.abs(values).max()):
        scale = 1.0
    return Standardised(
        (values - center) / scale,
        noise / scale**2 + MIN_NOISE,
        center,
        scale,
        None if shared is None else shared / scale**2,
    )


def standardise_labels(succeeded: BoolArray) -> Standardised:
    """Scale success (1) and failure (0) as if there were one more trial of each kind.

    So even if all outcomes are failures, they are below the value expected elsewhere.
    """
    n = len(succeeded)
    share = (int(succeeded.sum()) + 1) / (n + 2)
    scale = float(np.sqrt(share * (1 - share)))
    labels = succeeded.astype(np.float64)
    return Standardised((labels - share) / scale, np.full(n, MIN_NOISE), share, scale)
