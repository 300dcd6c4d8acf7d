"""From resampled figures to a standard error and an interval.

The default works on the logit scale: figures live in [0, 1], and over 30 cases the plain percentile
interval holds the truth in 91 % where it says 95 % (bench/coverage.py; docs/froc.md has the table).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

import numpy as np

from nodule_det.arrays import FloatArray

Z = 1.959963984540054
"""97.5 % quantile of the normal distribution."""

NO_SPREAD = 1e-9
"""Below it resamples differ by rounding only."""


class Interval(Enum):
    """How a 95 % interval is made."""

    logit = "logit"
    bca = "bca"
    percentile = "percentile"


def standard_error(resampled: FloatArray) -> float:
    """Return the standard deviation of a figure over its resamples."""
    return float(np.std(resampled, ddof=1)) if len(resampled) > 1 else 0.0


def error_of_figure(value: float, resampled: FloatArray, n_lesions: int) -> float:
    """Return the standard error of a figure in [0, 1], which is never 0.

    Where no resample differs from the figure (every lesion found, or none; a single case) the
    spread is that of :func:`logit_interval`, a logit error of 1, at the figure kept half a lesion
    away from 0 and 1: who weighs figures by their error must not take such a one for the truth.

    Args:
        value: The figure itself.
        resampled: (b,) the figure over resamples.
        n_lesions: Lesions it was computed from.
    """
    spread = standard_error(resampled)
    if spread > NO_SPREAD:
        return spread
    kept = float(_off_the_ends(np.array(value), n_lesions))
    return kept * (1 - kept)  # the derivative of the figure by its logit


def logit_interval(value: float, resampled: FloatArray, n_lesions: int) -> tuple[float, float]:
    """Return estimate -+ 1.96 standard deviations on the logit scale, mapped back.

    Figures are kept half a lesion away from 0 and 1, where the logit has no end.

    Args:
        value: The figure itself.
        resampled: (b,) the figure over resamples.
        n_lesions: Lesions it was computed from.
    """

    def logit(x: FloatArray) -> FloatArray:
        x = _off_the_ends(x, n_lesions)
        return np.asarray(np.log(x / (1 - x)), np.float64)

    spread = float(np.std(logit(resampled), ddof=1)) if len(resampled) > 1 else 0.0
    # No resample differs from the figure when every lesion was found, or none: the data then
    # still allow a miss in n_lesions + 1 (rule of succession), whose logit error is about 1.
    center, spread = float(logit(np.array(value))), spread if spread > NO_SPREAD else 1.0
    low, high = (1 / (1 + np.exp(-(center + s * Z * spread))) for s in (-1, 1))
    return min(float(low), value), max(float(high), value)


def _off_the_ends(figures: FloatArray, n_lesions: int) -> FloatArray:
    """Keep figures half a lesion away from 0 and 1."""
    rim = 0.5 / (n_lesions + 1)
    return np.clip(figures, rim, 1 - rim)


def percentile_interval(resampled: FloatArray) -> tuple[float, float]:
    """Return the 2.5 % and 97.5 % quantiles; 0 and 1, all that is possible, without any resample.

    Where no resample differs (every lesion found, or none) both are the figure itself.
    """
    if not len(resampled):
        return 0.0, 1.0
    low, high = np.quantile(resampled, [0.025, 0.975])
    return float(low), float(high)


def bca_interval(
    value: float, resampled: FloatArray, jackknife: Callable[[], FloatArray]
) -> tuple[float, float]:
    """Return the bias-corrected and accelerated interval.

    Like the percentile interval it is the figure itself where no resample differs.

    References:
        Efron (1987), Better bootstrap confidence intervals, JASA 82(397).
    """
    if not len(resampled):
        return percentile_interval(resampled)
    below = (np.sum(resampled < value) + 0.5 * np.sum(resampled == value)) / len(resampled)
    if below in (0.0, 1.0):
        return percentile_interval(resampled)
    bias = _quantile_normal(float(below))
    left_out = jackknife()  # empty if leaving out any case leaves no lesion
    away = left_out.sum() / max(1, len(left_out)) - left_out
    scale = float((away**2).sum()) ** 1.5
    acceleration = float((away**3).sum()) / (6 * scale) if scale else 0.0
    ends = []
    for z in (-Z, Z):
        shifted = bias + (bias + z) / (1 - acceleration * (bias + z))
        ends.append(float(np.quantile(resampled, _normal(shifted))))
    return ends[0], ends[1]


def _normal(z: float) -> float:
    from math import erf, sqrt

    return 0.5 * (1 + erf(z / sqrt(2)))


def _quantile_normal(p: float) -> float:
    from statistics import NormalDist

    return NormalDist().inv_cdf(p)
