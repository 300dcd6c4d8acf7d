"""The same curve under thousands of random weights of the scans, from which intervals come.

    Matched ──Events──▶ weighted curves of many resamples ──▶ pauc, sensitivities ──▶ intervals

The unit that is weighted is the scan, or the patient where patients have several scans: what is
found in one scan is correlated.  The events (lesions found, false positives) are sorted by score
once, so a resampled curve is two running sums over the weights of their scans.  Only the head of
the list that can hold enough false positives is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from numbers import Integral

import numpy as np

from nodule_det.analysis.interval import gamma_shape
from nodule_det.arrays import FloatArray, IntArray, StrArray
from nodule_det.errors import FrocInputError
from nodule_det.froc import CPM_RATES, UPPER, Matched, areas, read
from nodule_det.progress import of_total

CELLS_AT_ONCE = 4_000_000
"""Resamples x events that are computed together: 32 MB for each of a few arrays."""


@dataclass(frozen=True)
class Resampled:
    """The figures of b resamples; rows without any lesion are left out.

    Attributes:
        pauc: (b,) partial area.
        sensitivity: (b, r) at the requested rates.
        n_lesions: (b,) weight of all lesions, found or missed.
        n_undefined: Resamples in which no lesion was drawn.
    """

    pauc: FloatArray
    sensitivity: FloatArray
    n_lesions: FloatArray
    n_undefined: int


class Events:
    """Lesions found and false positives of a detector, by falling score."""

    def __init__(self, matched: Matched) -> None:
        found = matched.found
        score = np.concatenate([matched.lesion_score[found], matched.fp_score])
        case = np.concatenate([matched.lesion_case[found], matched.fp_case])
        is_fp = np.arange(len(score)) >= found.sum()
        order = np.argsort(-score, kind="stable")
        self.score, self.case, self.is_fp = score[order], case[order], is_fp[order]
        self.ends_tie = np.append(self.score[1:] != self.score[:-1], [True] * bool(len(score)))
        self.n_cases = matched.n_cases
        self.lesions_of_case = np.bincount(matched.lesion_case, minlength=matched.n_cases)
        self.fp_so_far = np.cumsum(self.is_fp)

    def figures(self, weights: FloatArray, upper: float, rates: FloatArray) -> Resampled:
        """Compute the figures under weights of the cases.

        Args:
            weights: (b, n_cases) how much each case counts.
            upper: False positives per scan up to which the area is taken.
            rates: (r,) rates at which sensitivity is read.
        """
        defined = weights @ self.lesions_of_case > 0
        weights = weights[defined]
        head = self._head(weights, max(upper, float(rates.max(initial=0.0))))
        pauc, sensitivity = [], []
        for part in _split(weights, head):
            fp, s = self._curves(part, head)
            pauc.append(areas(fp, s, upper))
            sensitivity.append(np.array([read(f, v, rates) for f, v in zip(fp, s, strict=True)]))
        return Resampled(
            np.concatenate([*pauc, np.empty(0)]),
            np.concatenate([*sensitivity, np.empty((0, len(rates)))]),
            np.asarray(weights @ self.lesions_of_case, np.float64),
            int((~defined).sum()),
        )

    def _curves(self, weights: FloatArray, head: int) -> tuple[FloatArray, FloatArray]:
        """Return (b, t) false positives per scan and sensitivity over the first ``head`` events."""
        ends = np.flatnonzero(self.ends_tie[:head])
        of_event = weights[:, self.case[:head]]
        fp = np.cumsum(of_event * self.is_fp[:head], axis=1)[:, ends]
        fp /= weights.sum(axis=1, keepdims=True)
        found = np.cumsum(of_event * ~self.is_fp[:head], axis=1)[:, ends]
        found /= (weights @ self.lesions_of_case)[:, None]
        zero = np.zeros((len(weights), 1))
        return np.hstack([zero, fp]), np.hstack([zero, found])

    def _head(self, weights: FloatArray, furthest: float) -> int:
        """Find how many events are enough: past them every curve is beyond ``furthest``."""
        n = len(self.score)
        need = furthest * weights.sum(axis=1)
        head = int(np.searchsorted(self.fp_so_far, 1.1 * need.max(initial=0.0))) + 1
        while head < n:
            of_case = np.bincount(self.case[:head], self.is_fp[:head], self.n_cases)
            if (weights @ of_case > need).all():
                return head + int(np.argmax(self.ends_tie[head - 1 :]))
            head += head // 4 + 1
        return n


def check_resamples(bootstrap: int) -> None:
    """Refuse a number of resamples that has no spread."""
    if not isinstance(bootstrap, Integral) or isinstance(bootstrap, bool):
        raise FrocInputError(f"bootstrap={bootstrap!r} must be a whole number, such as 1000")
    if bootstrap < 2:
        raise FrocInputError(f"bootstrap={bootstrap} is too few resamples; use 1000")


def seeded(seed: int) -> np.random.Generator:
    """Return the generator of a seed.

    Raises:
        FrocInputError: If it is not a whole number of at least 0.
    """
    if not isinstance(seed, Integral) or isinstance(seed, bool) or seed < 0:
        raise FrocInputError(f"seed={seed!r} must be a whole number of at least 0")
    return np.random.default_rng(int(seed))


@dataclass(frozen=True)
class Units:
    """What is independent of each other: scans, or patients with all their scans.

    Attributes:
        of_case: (n_cases,) index of each case's unit; units are numbered by rising name, so that
            the order of the cases changes no random weight.
        n: Units.
    """

    of_case: IntArray
    n: int


def units_of(cases: StrArray, patients: Mapping[str, str] | None = None) -> Units:
    """Group the cases by patient; without patients every case is a unit.

    Args:
        cases: (n_cases,) ids.
        patients: Patient of every case.

    Raises:
        FrocInputError: If a case has no patient.
    """
    if patients is None:
        names = cases
    else:
        missing = [case for case in cases.tolist() if not _is_name(patients.get(case))]
        if missing:
            raise FrocInputError(
                f"{of_total(len(missing), len(cases), 'scan', 'has', 'have')} no patient, such as "
                f"{missing[0]!r}: name the patient of every scan, or leave patients out"
            )
        names = np.array([str(patients[case]).strip() for case in cases.tolist()], np.str_)
    unique, of_case = np.unique(names, return_inverse=True)
    return Units(of_case.astype(np.int64).reshape(-1), len(unique))


def _is_name(patient: object) -> bool:
    """Return False for an empty cell: None, NaN or blanks."""
    return patient is not None and patient == patient and bool(str(patient).strip())


def draw_weights(units: Units, n_resamples: int, rng: np.random.Generator) -> FloatArray:
    """Draw (b, n_cases) multinomial weights: each row resamples the units with replacement."""
    drawn = rng.multinomial(units.n, np.full(units.n, 1 / units.n), n_resamples)
    return np.asarray(drawn[:, units.of_case], np.float64)


GRAIN = 2.0**-24
"""Random weights are multiples of this, so that sums of them are exact in any order."""


def gamma_weights(units: Units, n_resamples: int, rng: np.random.Generator) -> FloatArray:
    """Draw (b, n_cases) Gamma weights of mean 1, one for all cases of a unit.

    References:
        Rubin (1981), The Bayesian bootstrap, Annals of Statistics 9(1).
    """
    k = gamma_shape(units.n)
    drawn = np.rint(rng.gamma(k, size=(n_resamples, units.n)) / (k * GRAIN)) * GRAIN
    return np.asarray(np.maximum(drawn, GRAIN)[:, units.of_case], np.float64)


def leave_one_out(units: Units) -> FloatArray:
    """Return the (n_units, n_cases) weights of a jackknife, units left out by rising name."""
    return (1.0 - np.eye(units.n))[:, units.of_case]


def _split(weights: FloatArray, n_events: int) -> Iterator[FloatArray]:
    rows = max(1, CELLS_AT_ONCE // max(1, min(n_events, CELLS_AT_ONCE)))
    for start in range(0, len(weights), rows):
        yield weights[start : start + rows]


def resample(
    matched: Matched,
    n_resamples: int,
    rng: np.random.Generator,
    *,
    upper: float = UPPER,
    rates: FloatArray | None = None,
) -> Resampled:
    """Compute pAUC and sensitivities over cases drawn with replacement."""
    weights = draw_weights(units_of(matched.cases), n_resamples, rng)
    return Events(matched).figures(
        weights, upper, np.asarray(CPM_RATES if rates is None else rates, np.float64)
    )
