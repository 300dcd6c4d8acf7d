"""Put outcomes of different scans together, and take some scans out.

    scan 1 ──match()──▶ Matched ─┐
    scan 2 ──match()──▶ Matched ─┴──merge()──▶ Matched ──analyse()──▶ Froc

Scans can be matched one by one, in any number of processes.  What a candidate hits is decided
within its scan, so nothing is lost: the figures of the merged outcome are those of one big job to
the last bit, whatever the order of the parts.  A part keeps 24 bytes for each false positive and no
position, so memory is bounded by the largest scan and by what the curve itself needs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from nodule_det.arrays import IntArray
from nodule_det.errors import FrocInputError
from nodule_det.froc import MISSED, Matched


def merge(parts: Iterable[Matched]) -> Matched:
    """Put the outcomes of different cases together.

    Rows of candidates are numbered consecutively: those of the second part follow those of the
    first, as if the files had been appended in this order.

    Raises:
        FrocInputError: If there is no part, or two parts evaluate the same case.
    """
    parts = list(parts)
    if not parts:
        raise FrocInputError("there is no outcome to merge: the list of parts is empty")
    cases = np.concatenate([part.cases for part in parts])
    ordered = np.sort(cases)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(twice):
        raise FrocInputError(f"case {twice[0]} was evaluated in two parts: a case belongs to one")
    first_case = _starts([part.n_cases for part in parts])
    first_row = _starts([part.n_rows for part in parts])

    def rows(of_parts: list[IntArray], first: IntArray) -> IntArray:
        moved = [np.where(r == MISSED, MISSED, r + k) for r, k in zip(of_parts, first, strict=True)]
        return np.concatenate(moved).astype(np.int64)

    return Matched(
        cases=cases,
        lesion_case=rows([p.lesion_case for p in parts], first_case),
        lesion_row=rows([p.lesion_row for p in parts], first_row),
        lesion_score=np.concatenate([p.lesion_score for p in parts]),
        fp_case=rows([p.fp_case for p in parts], first_case),
        fp_score=np.concatenate([p.fp_score for p in parts]),
        fp_row=rows([p.fp_row for p in parts], first_row),
        excluded_row=rows([p.excluded_row for p in parts], first_row),
        repeated_row=rows([p.repeated_row for p in parts], first_row),
        n_unknown=sum(p.n_unknown for p in parts),
        n_nan=sum(p.n_nan for p in parts),
        n_rows=sum(p.n_rows for p in parts),
    )


def _starts(counts: list[int]) -> IntArray:
    return np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)


def keep_cases(matched: Matched, kept: IntArray) -> Matched:
    """Return the outcome of some cases only, in the order of ``kept``.

    Args:
        matched: The outcome of all.
        kept: Indices of the cases to keep.
    """
    place = np.full(matched.n_cases, -1, np.int64)
    place[kept] = np.arange(len(kept))
    lesions = np.flatnonzero(place[matched.lesion_case] >= 0)
    fps = np.flatnonzero(place[matched.fp_case] >= 0)
    return replace(
        matched,
        cases=matched.cases[kept],
        lesion_case=place[matched.lesion_case[lesions]],
        lesion_row=matched.lesion_row[lesions],
        lesion_score=matched.lesion_score[lesions],
        fp_case=place[matched.fp_case[fps]],
        fp_score=matched.fp_score[fps],
        fp_row=matched.fp_row[fps],
    )
