"""How much each patient pulls the pAUC of a detector up or down.

    Matched, patients ──influence()──▶ {key of a patient: pull}

The pulls of one detector give the standard error of its pAUC.  Those of two detectors on the same
patients give the covariance of their pAUCs, and so the error of the difference, without another
look at their candidates.  They are what the tuning driver keeps of a validation.

References:
    Jaeckel (1972), The infinitesimal jackknife, Bell Laboratories memorandum MM 72-1215-11.
    Efron (1982), The Jackknife, the Bootstrap and Other Resampling Plans, chapter 6.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

import numpy as np

from nodule_det.analysis.bootstrap import units_of
from nodule_det.analysis.worth import cost, worth
from nodule_det.arrays import FloatArray
from nodule_det.froc import UPPER, Matched, check_upper

KEY_DIGITS = 3
"""Hexadecimal digits of a key, so that a detector has at most 4,096 pulls.  Patients with equal
keys are counted together, which is a jackknife over groups."""
SIGNIFICANT_DIGITS = 4


def influence(
    matched: Matched, patients: Mapping[str, str], upper: float = UPPER
) -> dict[str, float]:
    """Compute the pull of each patient, for a file.

    Args:
        matched: What the candidates hit.
        patients: Patient of every scan.  Its scans are not independent, so they count together.
        upper: False positives per scan up to which the area is taken.

    Returns:
        Pull by key.  A key is the beginning of a hash of the patient.  The sum of squares is the
        variance of the pAUC.  Empty without a lesion, or with one patient only.

    Raises:
        FrocInputError: If ``upper`` is not positive, or a scan has no patient.
    """
    check_upper(upper)
    units = units_of(matched.cases, patients)
    if not matched.n_lesions or units.n < 2:
        return {}
    unbiased = math.sqrt(units.n / (units.n - 1))
    pulls = unbiased * np.bincount(units.of_case, derivative(matched, upper), units.n)
    names = np.unique([str(patients[case]).strip() for case in matched.cases.tolist()])
    total: dict[str, float] = {}
    for name, pull in zip(names.tolist(), pulls.tolist(), strict=True):
        key = hashlib.sha256(name.encode()).hexdigest()[:KEY_DIGITS]
        total[key] = total.get(key, 0.0) + pull
    return {key: float(f"{total[key]:.{SIGNIFICANT_DIGITS}g}") for key in sorted(total)}


def derivative(matched: Matched, upper: float = UPPER) -> FloatArray:
    """Differentiate the pAUC by the weight of each case, at equal weights of 1.

    pAUC is the mean worth of the lesions.  A lesion of the case changes that mean directly.  A
    false positive of the case moves every lesion below it to the right, where it is worth less.
    With a tie the worth W is the mean of w(F) = max(0, 1 - F / upper) from the least to the most
    false positives per scan, a to b: dW/da = (W - w(a)) / (b - a), dW/db = (w(b) - W) / (b - a).

    Args:
        matched: What the candidates hit, with at least one lesion.
        upper: False positives per scan up to which the area is taken.

    Returns:
        (n_cases,) derivatives, whose sum is 0.
    """
    n, found, of_lesion = matched.n_cases, matched.found, cost(matched)
    value, _ = worth(of_lesion, upper, np.empty(0))
    own = np.bincount(matched.lesion_case, value - value.mean(), n)
    value, least, most = value[found], of_lesion.least[found], of_lesion.most[found]
    order = np.argsort(matched.lesion_score[found], kind="stable")
    score = matched.lesion_score[found][order]
    w_least, w_most = (np.maximum(0.0, 1 - rate / upper) for rate in (least, most))
    tied = most > least
    run = np.where(tied, most - least, 1.0)
    half = np.where(least < upper, -0.5 / upper, 0.0)  # without a tie a = b, and they share w'
    pushed, mean = np.zeros(n), 0.0
    higher = np.searchsorted(score, matched.fp_score, side="left")  # than this many lesions
    as_high = np.searchsorted(score, matched.fp_score, side="right")
    for rate, change, n_below in (
        (least, value - w_least, higher),
        (most, w_most - value, as_high),
    ):
        slope = np.where(tied, change / run, half)
        below = np.append(0.0, np.cumsum(slope[order]))
        pushed += np.bincount(matched.fp_case, below[n_below], n)
        mean += float(slope @ rate)
    return np.asarray((own + (pushed - mean) / n) / matched.n_lesions, np.float64)
