"""The curve and what is read off it.

Matched ──froc_curve()──▶ FrocCurve ──▶ pauc(), pauc_step(), sensitivity_at(), threshold_at(), cpm()
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from nodule_det.errors import FrocInputError
from nodule_det.froc.matching import Matched
from nodule_det.froc.records import FloatArray

UPPER = 5.0
"""False positives per scan up to which the partial area is taken."""

CPM_RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives per scan at which LUNA16 reads the sensitivity."""


@dataclass(frozen=True)
class FrocCurve:
    """Operating points from the strictest threshold to the laxest, each of shape (t + 1,).

    The first is (0, 0) with threshold infinity; neither axis ever falls.
    """

    fp_per_scan: FloatArray
    sensitivity: FloatArray
    threshold: FloatArray


def froc_curve(matched: Matched) -> FrocCurve:
    """Trace sensitivity against false positives per scan, one point per distinct score.

    Equal scores enter together, so the order of the input never matters.

    Raises:
        FrocInputError: If there is no lesion: then sensitivity is not defined.
    """
    if not matched.n_lesions:
        raise FrocInputError(
            f"there is no lesion in {matched.n_cases} scans, so sensitivity is not defined; "
            "was the annotation file filtered down to nothing?"
        )
    found, fps = np.sort(matched.lesion_score[matched.found]), np.sort(matched.fp_score)
    scores = np.unique(np.concatenate([found, fps]))[::-1]
    n_found = len(found) - np.searchsorted(found, scores, side="left")
    n_fp = len(fps) - np.searchsorted(fps, scores, side="left")
    return FrocCurve(
        np.append(0.0, n_fp / matched.n_cases),
        np.append(0.0, n_found / matched.n_lesions),
        np.append(np.inf, scores),
    )


def pauc(curve: FrocCurve, upper: float = UPPER) -> float:
    """Give the area under the polyline from 0 to ``upper``, divided by ``upper``: in [0, 1].

    The line is continued flat after its last point, so false positives of the lowest score, added
    at the end, change nothing.
    """
    check_upper(upper)
    return float(areas(curve.fp_per_scan[None], curve.sensitivity[None], upper)[0])


def pauc_step(curve: FrocCurve, upper: float = UPPER) -> float:
    """Give the same area under the steps: what thresholds can really reach.

    It differs from :func:`pauc` only where lesions and false positives have equal scores.
    """
    check_upper(upper)
    start = np.minimum(curve.fp_per_scan, upper)
    return float((np.diff(start, append=upper) * curve.sensitivity).sum() / upper)


def sensitivity_at(curve: FrocCurve, fp_per_scan: ArrayLike) -> FloatArray:
    """Read the polyline; on a vertical piece the upper value counts."""
    return read(curve.fp_per_scan, curve.sensitivity, np.atleast_1d(fp_per_scan).astype(float))


def threshold_at(curve: FrocCurve, fp_per_scan: ArrayLike) -> FloatArray:
    """Give the lowest score that keeps the false positives at or below each rate.

    Infinity where even the highest score makes more.
    """
    rates = np.atleast_1d(fp_per_scan).astype(float)
    return curve.threshold[np.searchsorted(curve.fp_per_scan, rates, side="right") - 1]


def cpm(curve: FrocCurve) -> float:
    """Give the mean sensitivity at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false positives per scan."""
    return float(sensitivity_at(curve, CPM_RATES).mean())


def areas(fp_per_scan: FloatArray, sensitivity: FloatArray, upper: float) -> FloatArray:
    """Give the partial areas of many curves at once.

    Args:
        fp_per_scan: (b, t) never falling, from 0.
        sensitivity: (b, t) never falling.
        upper: Where the area ends.

    Returns:
        (b,) areas divided by ``upper``.
    """
    run = np.diff(fp_per_scan, axis=1)
    kept = np.diff(np.minimum(fp_per_scan, upper), axis=1)
    share = np.divide(kept, run, out=np.zeros_like(run), where=run > 0)
    height = sensitivity[:, :-1] + np.diff(sensitivity, axis=1) * share / 2
    beyond = np.maximum(upper - fp_per_scan[:, -1], 0.0) * sensitivity[:, -1]
    return np.asarray(((kept * height).sum(axis=1) + beyond) / upper, np.float64)


def read(fp_per_scan: FloatArray, sensitivity: FloatArray, rates: FloatArray) -> FloatArray:
    """Read one polyline, (t,) and (t,), at (r,) rates."""
    below = np.searchsorted(fp_per_scan, rates, side="right") - 1
    above = np.minimum(below + 1, len(fp_per_scan) - 1)
    run = fp_per_scan[above] - fp_per_scan[below]
    share = np.divide(rates - fp_per_scan[below], run, out=np.zeros_like(rates), where=run > 0)
    rise = sensitivity[above] - sensitivity[below]
    return np.asarray(sensitivity[below] + rise * share, np.float64)


def check_upper(upper: float) -> None:
    """Refuse an end of the area that is no positive number."""
    if not (np.isfinite(upper) and upper > 0):
        raise FrocInputError(f"upper={upper} must be a positive number of false positives per scan")
