"""Two detectors on the same scans: the difference, its 95% CI, a test, and the scans it takes.

    Matched A, Matched B ──compare()──▶ Comparison of pAUC and of CPM

Both detectors read the same scans: what is hard for one is mostly hard for the other.  So both get
the same weights of the scans (the difference varies far less than either figure), and the test
swaps whole scans, or all scans of a patient, between the two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from nodule_det.analysis.bootstrap import (
    Events,
    Resampled,
    Units,
    check_resamples,
    gamma_weights,
    leave_one_out,
    seeded,
    units_of,
)
from nodule_det.analysis.interval import (
    NO_SPREAD,
    Z,
    difference_interval,
    few_units,
    pseudo_lesions,
    unbiased_variance,
)
from nodule_det.analysis.worth import cost, worth
from nodule_det.arrays import FloatArray, IntArray, StrArray
from nodule_det.errors import FrocInputError
from nodule_det.froc import CPM_RATES, UPPER, Candidates, Matched, cpm, froc_curve, pauc

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
        se: Its standard error over scans (or patients) resampled for both.
        interval: 95% CI of the difference.
        p_value: Of the test that swaps scans, two-sided.
        cases_needed: Scans like these in which a difference of ``Comparison.detect`` is significant
            at the 5% level four times in five; None where the detectors never differ.
        cases_needed_interval: Its 95% CI, from how well so few scans tell the standard error;
            None with fewer than 5 scans.
    """

    first: float
    second: float
    difference: float
    se: float
    interval: tuple[float, float]
    p_value: float
    cases_needed: int | None
    cases_needed_interval: tuple[int, int] | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The differences between two detectors."""

    pauc: Difference
    cpm: Difference
    upper: float
    n_cases: int
    n_patients: int | None
    """Patients that were resampled and swapped; None where scans were."""
    n_lesions: int
    detect: float
    """Difference that ``cases_needed`` is about."""
    bootstrap: int
    permutations: int
    seed: int
    few_scans: str | None
    """Why the intervals mean nothing, where there are too few scans or patients for any."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
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
    patients: Mapping[str, str] | None = None,
) -> Comparison:
    """Compare two detectors.

    Args:
        first: One detector.
        second: The other, on the same cases and lesions in the same order.
        upper: False positives per scan up to which the area is taken.
        bootstrap: Resamples of the scans or patients.
        permutations: Random swaps of scans or patients between the detectors.
        seed: Of both.
        detect: Difference for which the number of scans is wanted.
        patients: Patient of every scan, where patients have several.

    Raises:
        FrocInputError: If the cases or lesions differ, there is no lesion, ``detect`` is not
            positive, there are too few resamples or permutations, or a scan has no patient.

    References:
        Venkatraman and Begg (1996), A distribution-free procedure for comparing receiver operating
        characteristic curves from a paired experiment, Biometrika 83(4).
    """
    _check_same(first, second)
    _check_settings(bootstrap, permutations, detect)
    units, rng = units_of(first.cases, patients), seeded(seed)
    pair = _Pair(first, second, units, upper)
    spread = pair.differences(gamma_weights(units, bootstrap, rng))
    swapped = _swapped(first, second, units, permutations, upper, rng)
    values = [_pauc_and_cpm(m, upper) for m in (first, second)]
    variance = unbiased_variance(spread, units.n)
    pseudo, ratio = pair.pseudo_lesions(), pair.ratio_of_errors()

    def difference(j: int) -> Difference:
        d, v, m = values[1][j] - values[0][j], float(variance[j]), float(pseudo[j])
        interval = difference_interval(d, v, m, first.n_lesions, units.n)
        se = math.sqrt(v)
        if se <= NO_SPREAD < abs(d):  # every resample differs alike: a single scan, or all alike
            se = m / (first.n_lesions + 2 * m)
        needed = cases_needed(se, first.n_cases, detect)
        return Difference(
            first=values[0][j],
            second=values[1][j],
            difference=d,
            se=se,
            interval=interval,
            p_value=(1 + int((np.abs(swapped[:, j]) >= abs(d) - ROUNDING).sum()))
            / (1 + len(swapped)),
            cases_needed=needed,
            cases_needed_interval=_between(needed, ratio[j]),
        )

    return Comparison(
        pauc=difference(0),
        cpm=difference(1),
        upper=upper,
        n_cases=first.n_cases,
        n_patients=None if patients is None else units.n,
        n_lesions=first.n_lesions,
        detect=detect,
        bootstrap=bootstrap,
        permutations=permutations,
        seed=seed,
        few_scans=few_units(units.n, "scans" if patients is None else "patients"),
    )


@dataclass(frozen=True)
class _Pair:
    """Two detectors under the same weights; figures are pAUC and CPM, in this order."""

    first: Matched
    second: Matched
    units: Units
    upper: float

    def differences(self, weights: FloatArray) -> FloatArray:
        """Return (b, 2) differences, second minus first."""
        one, two = (
            Events(m).figures(weights, self.upper, np.asarray(CPM_RATES))
            for m in (self.first, self.second)
        )
        return _both(two) - _both(one)

    def pseudo_lesions(self) -> FloatArray:
        """Return (2,) lesions that a pseudo-lesion of the differences stands for."""
        costs = [cost(m) for m in (self.first, self.second)]
        unit = self.units.of_case[self.first.lesion_case]
        keys = [column for c in costs for column in (c.most, c.least)]
        order = np.lexsort((*keys, unit))  # rows in any order, equal sums
        one, two = (worth(c, self.upper, np.asarray(CPM_RATES)) for c in costs)
        area, cpm_ = two[0] - one[0], two[1].mean(axis=1) - one[1].mean(axis=1)
        return pseudo_lesions(np.column_stack([area, cpm_])[order], unit[order])

    def ratio_of_errors(self) -> list[tuple[float, float] | None]:
        """Return the 95% CI of the true variance of each difference, over the measured one.

        The influence of each unit (by leaving it out) says how heavy the tails are.

        References:
            Bonett (2006), Approximate confidence interval for standard deviation of nonnormal
            distributions, Computational Statistics and Data Analysis 50(3).
        """
        n = self.units.n
        if few_units(n):
            return [None, None]
        away = self.differences(leave_one_out(self.units))
        away = away - away.mean(axis=0)
        squares = (away**2).sum(axis=0)
        c = n / (n - Z)
        out: list[tuple[float, float] | None] = []
        for fourth, square in zip((away**4).sum(axis=0), squares, strict=True):
            kurtosis = n * fourth / square**2 if square > ROUNDING**2 else 3.0
            half = Z * c * math.sqrt(max(0.0, kurtosis - (n - 3) / n) / (n - 1))
            out.append((c * math.exp(-half), c * math.exp(half)))
        return out


def _between(needed: int | None, ratio: tuple[float, float] | None) -> tuple[int, int] | None:
    if needed is None or ratio is None:
        return None
    return math.floor(needed * ratio[0]), math.ceil(needed * ratio[1])


def cases_needed(se: float, n_cases: int, difference: float, power: float = POWER) -> int | None:
    """Return the cases at which a difference is significant at 5% with a chance of ``power``.

    The standard error falls with the square root of the cases.

    Args:
        se: Standard error of the difference over ``n_cases``.
        n_cases: Cases that it was measured on.
        difference: Difference to detect.
        power: Chance to detect it.

    Example:
        >>> cases_needed(0.02, 100, 0.03)
        349
    """
    if se <= ROUNDING:
        return None
    return math.ceil(n_cases * ((Z + NormalDist().inv_cdf(power)) * se / difference) ** 2)


INCOMPLETE, MANY_CANDIDATES = 0.2, 5.0
"""A detector was not run on all scans if this share of them has no candidate, while the others have
so many on average that none would happen by chance far less often."""


def common_scans(cases: StrArray, first: Candidates, second: Candidates) -> IntArray:
    """Return the indices of the scans on which both detectors were run, as far as can be told.

    A scan without candidates counts as not run only where the detector has many candidates in most
    scans and none in many: then part of its output is missing.

    Args:
        cases: (n_cases,) evaluated scans.
        first: Candidates of one detector.
        second: Candidates of the other.
    """
    kept = np.ones(len(cases), bool)
    for candidates in (first, second):
        names, count = np.unique(candidates.case, return_counts=True)
        silent = ~np.isin(cases, names)
        n_silent = int(silent.sum())
        many = len(count) > 0 and float(count.mean()) >= MANY_CANDIDATES
        if many and n_silent >= max(2, INCOMPLETE * len(cases)):
            kept &= ~silent
    return np.flatnonzero(kept)


def _check_settings(bootstrap: int, permutations: int, detect: float) -> None:
    if not (math.isfinite(detect) and detect > 0):
        raise FrocInputError(f"detect={detect} must be a positive difference, such as 0.03")
    check_resamples(bootstrap)
    if permutations < 1:
        raise FrocInputError(f"permutations={permutations} must be at least 1; use 1000")


def _pauc_and_cpm(matched: Matched, upper: float) -> tuple[float, float]:
    curve = froc_curve(matched)
    return pauc(curve, upper), cpm(curve)


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


def _both(figures: Resampled) -> FloatArray:
    """Return (b, 2): pAUC and CPM."""
    return np.column_stack([figures.pauc, figures.sensitivity.mean(axis=1)])


def _swapped(
    first: Matched,
    second: Matched,
    units: Units,
    n: int,
    upper: float,
    rng: np.random.Generator,
) -> FloatArray:
    """Return (n, 2) differences with random units swapped between the detectors.

    Both detectors are put side by side as 2 x n_cases cases, of which a weight of 0 or 1 takes each
    case from one of them.
    """
    both = _side_by_side(first, second)
    from_second = rng.integers(2, size=(n, units.n)).astype(np.float64)[:, units.of_case]
    rates = np.asarray(CPM_RATES)
    one = both.figures(np.hstack([1 - from_second, from_second]), upper, rates)
    two = both.figures(np.hstack([from_second, 1 - from_second]), upper, rates)
    return _both(two) - _both(one)


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
