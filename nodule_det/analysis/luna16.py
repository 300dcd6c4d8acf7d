"""The figures of LUNA16's own script, for comparison with published ones.

    Candidates ──capped()──▶ rows ──match()──▶ Matched ──challenge_figures()──▶ ChallengeFigures

The script matches and reads its curve as :mod:`nodule_det.froc` does, with two habits of its own.
It reads at most 100 candidates per scan, without saying so.  And it bootstraps: what papers call
the CPM is often the mean over its resamples rather than the figure of the data.

References:
    Setio et al. (2017), Validation, comparison, and combination of algorithms for automatic
    detection of pulmonary nodules in CT images: the LUNA16 challenge, Medical Image Analysis 42.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nodule_det.analysis.bootstrap import (
    resample,
    seeded,
)
from nodule_det.arrays import IntArray
from nodule_det.errors import FrocInputError
from nodule_det.froc import CPM_RATES, Candidates, Matched, froc_curve, sensitivity_at
from nodule_det.progress import counted

CAP = 100
"""Candidates of a scan that the challenge reads."""

TAIL = 0.025
"""Share of resamples beyond either end of its intervals."""


@dataclass(frozen=True, kw_only=True)
class ChallengeFigures:
    """What the challenge reports, at its seven false-positive rates.

    ``mean``, ``low`` and ``high`` are of the resamples; ``low`` and ``high`` are order statistics.
    """

    rates: tuple[float, ...]
    sensitivity: tuple[float, ...]
    cpm: float
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    cpm_of_means: float
    n_capped: int
    """Candidates beyond the cap, which were discarded."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def capped(candidates: Candidates, limit: int = CAP) -> IntArray:
    """Return the rows that the challenge reads.

    In a scan with more than ``limit`` rows, those with a score strictly above that of the row of
    rank ``limit + 1`` count: of a tie at the cut, none does.  A NaN stays, for ``match`` to refuse.

    Raises:
        FrocInputError: If ``limit`` is less than 1.
    """
    if limit < 1:
        raise FrocInputError(f"limit={limit} must be at least 1 candidate per scan: LUNA16 has 100")
    _, case = np.unique(candidates.case, return_inverse=True)
    # NaN sorts last within its scan, behind every score.
    order = np.lexsort((-candidates.score, case))
    start = np.searchsorted(case[order], np.arange(case.max(initial=-1) + 2))
    floor = np.full(len(start) - 1, -np.inf)
    full = np.flatnonzero(np.diff(start) > limit)
    floor[full] = candidates.score[order[start[full] + limit]]
    small = np.diff(start) <= limit
    kept = small[case] | (candidates.score > floor[case]) | np.isnan(candidates.score)
    return np.flatnonzero(kept)


def challenge_figures(
    matched: Matched, *, bootstrap: int = 1000, seed: int = 0, n_capped: int = 0
) -> ChallengeFigures:
    """Compute the challenge's figures of capped and matched candidates.

    Raises:
        FrocInputError: If there is no lesion, or none in any resample.
    """
    read = sensitivity_at(froc_curve(matched), CPM_RATES)
    drawn = resample(matched, bootstrap, seeded(seed)).sensitivity
    if not len(drawn):
        raise FrocInputError(
            f"none of {counted(bootstrap, 'resample')} of {counted(matched.n_cases, 'scan')} holds "
            "a lesion, so there is nothing to report of them; use more resamples"
        )
    ordered = np.sort(drawn, axis=0)
    low, high = (ordered[math.floor(share * len(ordered))] for share in (TAIL, 1 - TAIL))
    mean = drawn.mean(axis=0)
    return ChallengeFigures(
        rates=CPM_RATES,
        sensitivity=tuple(read.tolist()),
        cpm=float(read.mean()),
        mean=tuple(mean.tolist()),
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
        cpm_of_means=float(mean.mean()),
        n_capped=n_capped,
    )
