"""What thresholds can really reach, where lesions and false positives have equal scores.

    FrocCurve ──▶ pauc_step(), sensitivity_step_at()

The curve of ``froc.py`` joins its points by straight lines.  A threshold either takes all
candidates of one score or none, so between two points it stays at the lower one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from nodule_det.arrays import FloatArray
from nodule_det.froc import UPPER, FrocCurve, check_rates, check_upper


def pauc_step(curve: FrocCurve, upper: float = UPPER) -> float:
    """Return the area under the steps from 0 to ``upper``, divided by ``upper``: in [0, 1].

    It differs from :func:`nodule_det.froc.pauc` only where lesions and false positives have equal
    scores.
    """
    check_upper(upper)
    start = np.minimum(curve.fp_per_scan, upper)
    return float((np.diff(start, append=upper) * curve.sensitivity).sum() / upper)


def sensitivity_step_at(curve: FrocCurve, fp_per_scan: ArrayLike) -> FloatArray:
    """Return the sensitivity of the threshold that :func:`nodule_det.froc.threshold_at` returns."""
    rates = check_rates(fp_per_scan)
    return curve.sensitivity[np.searchsorted(curve.fp_per_scan, rates, side="right") - 1]
