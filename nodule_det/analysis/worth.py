"""What each lesion adds to a figure: every figure is a mean over the lesions.

    Matched ──worth()──▶ (n_lesions, figures) in [0, 1] ──mean over lesions──▶ pAUC, sensitivities

pAUC counts a lesion by the share of the axis that lies to the right of it: a lesion found at F
false positives per scan is worth 1 - F / upper.  The sensitivity at a rate r counts it 1 if F <= r.
A missed lesion is worth 0.  Where a lesion ties with false positives, F runs from the false
positives above its score to those at or above it, and the worth is the mean over that range.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nodule_det.arrays import FloatArray
from nodule_det.froc import Matched


@dataclass(frozen=True)
class Cost:
    """False positives per scan at which each lesion is found; infinite where it is missed.

    Attributes:
        least: (n_lesions,) false positives that score higher than the lesion.
        most: (n_lesions,) those that score at least as high.
    """

    least: FloatArray
    most: FloatArray


def cost(matched: Matched) -> Cost:
    """Compute at how many false positives per scan each lesion is found."""
    fps = np.sort(matched.fp_score)
    ends = (
        np.where(
            matched.found,
            (len(fps) - np.searchsorted(fps, matched.lesion_score, side=side)) / matched.n_cases,
            np.inf,
        )
        for side in ("right", "left")
    )
    return Cost(*ends)


def worth(cost: Cost, upper: float, rates: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Compute what each lesion adds to pAUC and to the sensitivities.

    Args:
        cost: False positives per scan of each lesion.
        upper: Where the partial area ends.
        rates: (r,) false positives per scan at which sensitivity is read.

    Returns:
        (n_lesions,) for pAUC and (n_lesions, r) for the sensitivities, each in [0, 1].
    """
    run = np.zeros(len(cost.least))
    np.subtract(cost.most, cost.least, out=run, where=np.isfinite(cost.least))
    tied = run > 0
    start, end = np.minimum(cost.least, upper), np.minimum(cost.most, upper)
    # The integral of max(0, 1 - f / upper) from start to end, over the length of the tie.
    integral = (end - start) - (end**2 - start**2) / (2 * upper)
    area = np.divide(integral, run, out=np.maximum(0.0, 1 - start / upper), where=tied)
    reached = cost.least[:, None] <= rates
    share = np.divide(
        rates - np.where(tied, cost.least, 0.0)[:, None],
        run[:, None],
        out=reached.astype(np.float64),
        where=tied[:, None],
    )
    return area, np.clip(share, 0.0, 1.0)
