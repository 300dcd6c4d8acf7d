"""Two detectors on the same cases: how far apart, how sure, and how many cases it would take.

    Matched A, Matched B ──compare()──▶ Comparison of pAUC and of CPM

Both answer the same questions: what is a hard case for one is mostly hard for the other.  So the
cases are resampled once for both (the difference varies far less than either figure), and the test
swaps whole cases between the two.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from nodule_det.analysis.bootstrap import (
    Events,
    Resampled,
    check_resamples,
    draw_weights,
    in_order_of_ids,
)
from nodule_det.analysis.interval import NO_SPREAD, Z, error_of_figure, standard_error
from nodule_det.arrays import FloatArray
from nodule_det.errors import FrocInputError
from nodule_det.froc import CPM_RATES, UPPER, Matched, cpm, froc_curve, pauc

POWER = 0.8
"""Chance to see a difference that is there, in ``cases_needed``."""

ROUNDING = 1e-12
"""Differences closer than this are equal."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One figure of two detectors.

    Attributes:
        first: The figure of the first detector.
        second: That of the second.
        difference: ``second - first``.
        se: Its standard error over cases resampled for both.
        interval: ``difference -+ 1.96 se``.
        p_value: Of the test that swaps cases, two-sided.
        cases_needed: Cases like these that show a difference of ``Comparison.detect`` at the 5 %
            level four times in five; None where the detectors never differ.
    """

    first: float
    second: float
    difference: float
    se: float
    interval: tuple[float, float]
    p_value: float
    cases_needed: int | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What sets two detectors apart."""

    pauc: Difference
    cpm: Difference
    upper: float
    n_cases: int
    n_lesions: int
    detect: float
    """Difference that ``cases_needed`` is about."""
    bootstrap: int
    permutations: int
    seed: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def compare(
    first: Matched,
    second: Matched,
    *,
    upper: float = UPPER,
    bootstrap: int = 1000,
    permutations: int = 1000,
    seed: int = 0,
    detect: float = 0.03,
) -> Comparison:
    """Compare two detectors.

    Args:
        first: One detector.
        second: The other, on the same cases and lesions in the same order.
        upper: False positives per scan up to which the area is taken.
        bootstrap: Resamples of the cases.
        permutations: Random swaps of cases between the detectors.
        seed: Of both.
        detect: Difference for which the number of cases is wanted.

    Raises:
        FrocInputError: If the cases or lesions differ, there is no lesion, ``detect`` is not
            positive, or there are too few resamples or permutations.

    References:
        Venkatraman and Begg (1996), A distribution-free procedure for comparing receiver operating
        characteristic curves from a paired experiment, Biometrika 83(4).
    """
    _check_same(first, second)
    if not (math.isfinite(detect) and detect > 0):
        raise FrocInputError(f"detect={detect} must be a positive difference, such as 0.03")
    check_resamples(bootstrap)
    if permutations < 1:
        raise FrocInputError(f"permutations={permutations} must be at least 1; use 1000")
    rng = np.random.default_rng(seed)
    weights = draw_weights(first.cases, bootstrap, rng)
    rates = np.asarray(CPM_RATES)
    one, two = (Events(m).figures(weights, upper, rates) for m in (first, second))
    swapped = _swapped(first, second, permutations, upper, rng)
    curves = froc_curve(first), froc_curve(second)

    def difference(values: list[float], drawn: FloatArray, permuted: FloatArray) -> Difference:
        se, d = standard_error(drawn), values[1] - values[0]
        if se <= NO_SPREAD < abs(d):  # as sure as two figures without spread, and no surer
            se = math.hypot(*(error_of_figure(v, drawn, first.n_lesions) for v in values))
        beyond = int((np.abs(permuted) >= abs(d) - ROUNDING).sum())
        return Difference(
            first=values[0],
            second=values[1],
            difference=d,
            se=se,
            interval=(d - Z * se, d + Z * se),
            p_value=(1 + beyond) / (1 + len(permuted)),
            cases_needed=cases_needed(se, first.n_cases, detect),
        )

    return Comparison(
        pauc=difference([pauc(c, upper) for c in curves], two.pauc - one.pauc, swapped[0]),
        cpm=difference([cpm(c) for c in curves], _cpm(two) - _cpm(one), swapped[1]),
        upper=upper,
        n_cases=first.n_cases,
        n_lesions=first.n_lesions,
        detect=detect,
        bootstrap=bootstrap,
        permutations=permutations,
        seed=seed,
    )


def cases_needed(se: float, n_cases: int, difference: float, power: float = POWER) -> int | None:
    """Return the cases at which a difference is significant at 5 % with a chance of ``power``.

    The standard error falls with the square root of the cases.

    Args:
        se: Standard error of the difference over ``n_cases``.
        n_cases: Cases that it was measured on.
        difference: What is to be seen.
        power: Chance to see it.

    Example:
        >>> cases_needed(0.02, 100, 0.03)
        349
    """
    if se <= ROUNDING:
        return None
    return math.ceil(n_cases * ((Z + NormalDist().inv_cdf(power)) * se / difference) ** 2)


def _check_same(first: Matched, second: Matched) -> None:
    if not np.array_equal(first.cases, second.cases):
        raise FrocInputError(
            f"the detectors were evaluated on {first.n_cases} and {second.n_cases} cases that are "
            "not the same or not in the same order; match both with one list of scans"
        )
    if not np.array_equal(first.lesion_case, second.lesion_case):
        raise FrocInputError(
            f"the detectors were evaluated on other lesions ({first.n_lesions} and "
            f"{second.n_lesions}); match both with one list of annotations"
        )


def _cpm(figures: Resampled) -> FloatArray:
    return np.asarray(figures.sensitivity.mean(axis=1), np.float64)


def _swapped(
    first: Matched, second: Matched, n: int, upper: float, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Return (n,) differences of pAUC and CPM with random cases swapped between the detectors.

    Both detectors stand side by side as 2 x n_cases cases, of which a weight of 0 or 1 takes each
    case from one of them.
    """
    both = _side_by_side(first, second)
    coins = rng.integers(2, size=(n, first.n_cases)).astype(np.float64)
    from_second = in_order_of_ids(first.cases, coins)
    rates = np.asarray(CPM_RATES)
    one = both.figures(np.hstack([1 - from_second, from_second]), upper, rates)
    two = both.figures(np.hstack([from_second, 1 - from_second]), upper, rates)
    return two.pauc - one.pauc, _cpm(two) - _cpm(one)


def _side_by_side(first: Matched, second: Matched) -> Events:
    ranked = [_on_common_scale(m) for m in (first, second)]
    return Events(
        Matched(
            cases=np.concatenate([first.cases, second.cases]),
            lesion_case=np.concatenate([first.lesion_case, second.lesion_case + first.n_cases]),
            lesion_row=np.concatenate([first.lesion_row, second.lesion_row]),
            lesion_score=np.concatenate([lesion for lesion, _ in ranked]),
            fp_case=np.concatenate([first.fp_case, second.fp_case + first.n_cases]),
            fp_score=np.concatenate([fp for _, fp in ranked]),
            fp_row=np.concatenate([first.fp_row, second.fp_row]),
            excluded_row=np.empty(0, np.int64),
            repeated_row=np.empty(0, np.int64),
        )
    )


def _on_common_scale(matched: Matched) -> tuple[FloatArray, FloatArray]:
    """Return lesion and false-positive scores as the false positives that their threshold costs.

    Scores of two detectors mean different things; the false positives at or above a score mean the
    same.  The order is kept: a lesion between two false positives gets the half between them.
    """
    fps = np.sort(matched.fp_score)
    fp = len(fps) - np.searchsorted(fps, matched.fp_score, side="left")
    at_least = len(fps) - np.searchsorted(fps, matched.lesion_score, side="left")
    above = len(fps) - np.searchsorted(fps, matched.lesion_score, side="right")
    lesion = np.where(at_least == above, at_least + 0.5, at_least)
    return -lesion.astype(np.float64), -fp.astype(np.float64)
