"""How sure a figure is: the same curve over resampled cases, thousands of times.

    Matched ──Events──▶ weighted curves of many resamples ──▶ pauc, sensitivities ──▶ intervals

Cases are resampled, not lesions or candidates: what is found in one scan hangs together.  A
resample is a vector of multinomial weights, one per case; the events (lesions found, false
positives) are sorted by score once, so a resampled curve is two running sums over the weights of
their cases.  Only the head of the list that can hold enough false positives is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from nodule_det.arrays import FloatArray, StrArray
from nodule_det.errors import FrocInputError
from nodule_det.froc import CPM_RATES, UPPER, Matched, areas, read

CELLS_AT_ONCE = 4_000_000
"""Resamples x events that are computed together: 32 MB for each of a few arrays."""


@dataclass(frozen=True)
class Resampled:
    """The figures of b resamples; rows without any lesion are left out.

    Attributes:
        pauc: (b,) partial area.
        sensitivity: (b, r) at the asked rates.
        n_undefined: Resamples in which no lesion was drawn.
    """

    pauc: FloatArray
    sensitivity: FloatArray
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
            weights: (b, n_cases) how often each case counts.
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
    if bootstrap < 2:
        raise FrocInputError(f"bootstrap={bootstrap} is too few resamples; use 1000")


def draw_weights(cases: StrArray, n_resamples: int, rng: np.random.Generator) -> FloatArray:
    """Draw (b, n_cases) multinomial weights: each row resamples the cases with replacement.

    A case gets its weights by its id, so the order of the cases does not matter.
    """
    n = len(cases)
    drawn = rng.multinomial(n, np.full(n, 1 / n), n_resamples).astype(np.float64)
    return in_order_of_ids(cases, drawn)


def leave_one_out(cases: StrArray) -> FloatArray:
    """Return the (n_cases, n_cases) weights of a jackknife, cases left out by rising id."""
    return in_order_of_ids(cases, 1.0 - np.eye(len(cases)))


def in_order_of_ids(cases: StrArray, columns: FloatArray) -> FloatArray:
    """Hand (b, n_cases) columns, made for cases by rising id, to the cases as they stand."""
    placed = np.empty_like(columns)
    placed[:, np.argsort(cases, kind="stable")] = columns
    return placed


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
    """Compute pAUC and sensitivities over resampled cases."""
    weights = draw_weights(matched.cases, n_resamples, rng)
    return Events(matched).figures(
        weights, upper, np.asarray(CPM_RATES if rates is None else rates, np.float64)
    )
