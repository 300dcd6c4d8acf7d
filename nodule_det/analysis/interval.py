"""From weighted figures to a 95% confidence interval (CI) and a standard error.

    worth of the lesions ──pseudo_lesions()──▶ m ┐
    figures under Gamma weights ─────────────────┴─gamma_intervals()──▶ low, high, standard error

The default adds one pseudo-lesion whose fate is a coin toss, so an interval never shrinks to a
point: not where every lesion is found, and not with few scans.  bench/coverage.py measures how
often it holds the truth; docs/froc.md has the table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from statistics import NormalDist

import numpy as np
from scipy.special import stdtrit

from nodule_det.arrays import FloatArray, IntArray
from nodule_det.errors import FrocInputError

Z = 1.959963984540054
"""97.5% quantile of the normal distribution."""

NO_SPREAD = 1e-9
"""Below it resamples differ by rounding only."""


FEW_UNITS = 5
"""With fewer scans (or patients) no method holds what it promises."""

PRIOR_CORRELATION = 0.3
"""Correlation of the fates of lesions of one scan, assumed where the data cannot tell."""


class Interval(Enum):
    """How a 95% CI is made."""

    gamma = "gamma"
    logit = "logit"
    bca = "bca"
    percentile = "percentile"


def interval_kind(name: Interval | str) -> Interval:
    """Return the kind of interval of this name.

    Raises:
        FrocInputError: If there is none.
    """
    try:
        return Interval(name)
    except ValueError:
        kinds = ", ".join(kind.value for kind in Interval)
        raise FrocInputError(f"interval={name!r} is not a kind of interval; use {kinds}") from None


def few_units(n: int, what: str = "scans") -> str | None:
    """Return a sentence where there are too few scans or patients for an interval, or None."""
    if n >= FEW_UNITS:
        return None
    return f"a 95% CI needs at least {FEW_UNITS} {what}, and there are {n}"


def pseudo_lesions(worth: FloatArray, unit: IntArray) -> FloatArray:
    """Compute how many lesions the pseudo-lesion stands for: the design effect of a figure.

    It is 1 + rho P.  P is the number of other lesions in the unit of an average lesion, and rho the
    correlation of their worth, drawn to ``PRIOR_CORRELATION`` by the weight of one missed lesion.

    Args:
        worth: (n_lesions, c) what each lesion adds to each of c figures, or to a difference.
        unit: (n_lesions,) scan or patient of each lesion.

    Returns:
        (c,) numbers of at least 1.
    """
    total, count = len(worth), np.bincount(unit).astype(np.float64)
    pairs = float((count * (count - 1)).sum()) / total
    if pairs <= 0:
        return np.ones(worth.shape[1])
    away = worth - worth.mean(axis=0)
    within = (away * away).sum(axis=0)
    order = np.argsort(unit, kind="stable")
    starts = np.flatnonzero(np.diff(unit[order], prepend=-1))
    between = (np.add.reduceat(away[order], starts, axis=0) ** 2).sum(axis=0)
    rho = (between - within + PRIOR_CORRELATION * pairs) / (pairs * (within + 1))
    return np.asarray(1 + pairs * np.clip(rho, 0, 1), np.float64)


@dataclass(frozen=True)
class Bounds:
    """95% CIs and standard errors of c figures, each of shape (c,)."""

    low: FloatArray
    high: FloatArray
    se: FloatArray


def gamma_intervals(
    values: FloatArray,
    resampled: FloatArray,
    lesions: FloatArray,
    pseudo: FloatArray,
    coin: FloatArray,
) -> Bounds:
    """Compute the default intervals, with one pseudo-lesion that is missed or found.

    Every figure is S / D, the worth of the lesions over their number.  Each resample counts twice:
    as S / (D + m g), with the pseudo-lesion missed, and as (S + m g) / (D + m g), with it found.
    The interval runs from the 2.5% to the 97.5% quantile.  With one lesion per scan that is
    found or not, it is the mid-p Clopper-Pearson interval.

    Args:
        values: (c,) the figures.
        resampled: (b, c) the figures under Gamma weights of the units.
        lesions: (b,) D, the weight of all lesions in each resample.
        pseudo: (c,) m, lesions that the pseudo-lesion stands for.
        coin: (b,) g, exponential draws.

    References:
        Learned-Miller and Thomas (2019), A new confidence interval for the mean of a bounded random
        variable, arXiv:1905.06208.
        Korn and Graubard (1998), Confidence intervals for proportions with small expected number of
        positive counts estimated from survey data, Survey Methodology 24(2).
    """
    weight = coin[:, None] * pseudo
    both = missed_and_found(resampled, lesions[:, None], weight)
    low, high = np.quantile(both, [0.025, 0.975], axis=0)
    return Bounds(np.minimum(low, values), np.maximum(high, values), np.std(both, axis=0, ddof=1))


def missed_and_found(figures: FloatArray, lesions: FloatArray, weight: FloatArray) -> FloatArray:
    """Return the (2 b, c) figures with the pseudo-lesion of this weight missed, then found."""
    s, d = figures * lesions, lesions + weight
    return np.concatenate([s / d, (s + weight) / d])


def unbiased_variance(resampled: FloatArray, n_units: int) -> FloatArray:
    """Return the variance of figures from their spread under Gamma weights.

    Weights of shape k, divided by their sum, spread a mean of n numbers by their variance (of
    divisor n) over n k + 1.  Expected is the same over n - 1.

    Args:
        resampled: (b, c) the figures.
        n_units: Scans or patients that were weighted.
    """
    spread = np.var(resampled, axis=0, ddof=1)
    if n_units < 2:
        return np.asarray(spread, np.float64)
    k = gamma_shape(n_units)
    return np.asarray(spread * (n_units * k + 1) / (n_units - 1), np.float64)


def difference_interval(
    difference: float, variance: float, pseudo: float, n_lesions: int, n_units: int
) -> tuple[float, float]:
    """Return the 95% CI of a difference of two figures, with two pseudo-lesions added.

    One is found by the first detector only and one by the second only, so the interval never
    shrinks to a point.

    Args:
        difference: The difference itself.
        variance: Its variance.
        pseudo: Lesions that a pseudo-lesion stands for (:func:`pseudo_lesions` of the difference).
        n_lesions: Lesions it was computed from.
        n_units: Scans or patients.

    References:
        Agresti and Min (2005), Simple improved confidence intervals for comparing matched
        proportions, Statistics in Medicine 24(5).
    """
    t = float(stdtrit(max(1, n_units - 1), 0.975))
    total = n_lesions + 2 * pseudo
    center = difference * n_lesions / total
    half = t * math.sqrt(n_lesions**2 * variance + pseudo**2) / total
    low, high = min(difference, center - half), max(difference, center + half)
    return max(-1.0, low), min(1.0, high)


def gamma_shape(n_units: int) -> float:
    """Return the shape of the Gamma weights: their variance is (n + 3) / (n - 1) for n units.

    It makes up for two things: the spread of n numbers about their own mean is too small, and with
    few of them it is poorly known (Student's t).
    """
    return max(n_units - 1, 0.5) / (n_units + 3)


def standard_error(resampled: FloatArray) -> float:
    """Return the standard deviation of a figure over its resamples."""
    return float(np.std(resampled, ddof=1)) if len(resampled) > 1 else 0.0


def error_of_figure(value: float, resampled: FloatArray, n_lesions: int) -> float:
    """Return the standard error of a figure in [0, 1], which is never 0.

    Where no resample differs from the figure (every lesion found, or none; a single case) the
    spread is that of :func:`logit_interval`, a logit error of 1, at the figure kept half a lesion
    away from 0 and 1.  A caller that weighs figures by their error must not take it for exact.

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
    """Return the 2.5% and 97.5% quantiles; 0 and 1, all that is possible, without any resample.

    Where no resample differs (every lesion found, or none) both are the figure itself.
    """
    if not len(resampled):
        return 0.0, 1.0
    low, high = np.quantile(resampled, [0.025, 0.975])
    return float(low), float(high)


def bca_interval(value: float, resampled: FloatArray, left_out: FloatArray) -> tuple[float, float]:
    """Return the bias-corrected and accelerated interval.

    Args:
        value: The figure itself.
        resampled: (b,) the figure over resamples.
        left_out: (n,) the figure without each unit; empty if there is no lesion without any.

    Like the percentile interval it is the figure itself where no resample differs.

    References:
        Efron (1987), Better bootstrap confidence intervals, JASA 82(397).
    """
    if not len(resampled):
        return percentile_interval(resampled)
    below = (np.sum(resampled < value) + 0.5 * np.sum(resampled == value)) / len(resampled)
    if below in (0.0, 1.0):
        return percentile_interval(resampled)
    bias = NormalDist().inv_cdf(float(below))
    away = left_out.sum() / max(1, len(left_out)) - left_out
    scale = float((away**2).sum()) ** 1.5
    acceleration = float((away**3).sum()) / (6 * scale) if scale else 0.0
    ends = []
    for z in (-Z, Z):
        shifted = bias + (bias + z) / (1 - acceleration * (bias + z))
        ends.append(float(np.quantile(resampled, NormalDist().cdf(shifted))))
    return ends[0], ends[1]
