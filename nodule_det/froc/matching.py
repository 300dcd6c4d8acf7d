"""Which candidate hits what: the one place where distances are looked at.

    cases, lesions, candidates, excluded ──match()──▶ Matched

A candidate hits a finding if it lies nearer to its centre than half its diameter.  Hits are
looked for within a case only, in chunks, so millions of candidates need no more memory than
themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nodule_det.errors import FrocInputError
from nodule_det.froc.records import (
    NO_LESIONS,
    Candidates,
    FloatArray,
    IntArray,
    Lesions,
    StrArray,
)

EXCLUDED_MM = 10.0
"""Diameter of an excluded finding whose annotation gives a negative one (LUNA16's rule)."""

PAIRS_AT_ONCE = 1_000_000
"""Pairs of candidate and finding whose distance is computed together."""

MISSED = -1


@dataclass(frozen=True)
class Matched:
    """What became of every lesion and candidate: all that the figures need.

    Attributes:
        cases: (n_cases,) evaluated cases, those without lesions or candidates included.
        lesion_case: (n_lesions,) index of each lesion's case.
        lesion_row: (n_lesions,) row of the candidate that found it, ``MISSED`` where none did.
        lesion_score: (n_lesions,) score of that candidate; meaningless where missed, so that no
            score has to stand for a miss.
        fp_case: (n_fp,) index of the case of each false positive.
        fp_score: (n_fp,) its score.
        fp_row: (n_fp,) its row in the candidates.
        excluded_row: rows that hit excluded findings only.
        repeated_row: rows that hit a lesion which a better candidate found.
        n_unknown: candidates left out because their case is not evaluated (opt-out).
        n_nan: candidates left out because their score is NaN (opt-out).
        n_rows: rows of the candidates that were looked at, those left out included.
    """

    cases: StrArray
    lesion_case: IntArray
    lesion_row: IntArray
    lesion_score: FloatArray
    fp_case: IntArray
    fp_score: FloatArray
    fp_row: IntArray
    excluded_row: IntArray
    repeated_row: IntArray
    n_unknown: int = 0
    n_nan: int = 0
    n_rows: int = 0

    @property
    def n_cases(self) -> int:
        """Evaluated cases."""
        return len(self.cases)

    @property
    def n_lesions(self) -> int:
        """Lesions that count."""
        return len(self.lesion_case)

    @property
    def found(self) -> NDArray[np.bool_]:
        """(n_lesions,) whether any candidate hits it."""
        return np.asarray(self.lesion_row != MISSED)


def match(
    cases: Sequence[str] | StrArray,
    lesions: Lesions,
    candidates: Candidates,
    excluded: Lesions = NO_LESIONS,
    *,
    drop_unknown: bool = False,
    drop_nan: bool = False,
) -> Matched:
    """Decide for every candidate what it hits, and for every lesion what found it.

    A lesion's score is the best among its hits; of equal ones the first row counts.  Its other
    hits are neither true nor false positives.  One candidate may find two lesions.  A candidate
    that hits only excluded findings is ignored.

    Args:
        cases: Ids of all evaluated cases.
        lesions: Findings that count.
        candidates: What the detector says.
        excluded: Findings that are neither lesion nor background.
        drop_unknown: Leave out candidates and findings of other cases; an error otherwise.
        drop_nan: Leave out candidates whose score is NaN; an error otherwise.

    Raises:
        FrocInputError: If there is no case, a case stands twice, a lesion has no positive
            diameter, a case is unknown, or a score is NaN.
    """
    known = _index_cases(cases)
    _check_diameters(lesions)
    lesion_of = _look_up(known, lesions.case, "lesion", drop_unknown)
    excluded_of = _look_up(known, excluded.case, "excluded finding", drop_unknown)
    case_of = _look_up(known, candidates.case, "candidate", drop_unknown)
    nan = np.isnan(candidates.score)
    if nan.any() and not drop_nan:
        first = int(np.flatnonzero(nan)[0])
        raise FrocInputError(
            f"{nan.sum()} of {len(candidates)} scores are NaN; the first is candidate row {first} "
            f"of case {candidates.case[first]}; mend it, or leave them out (drop_nan=true)"
        )
    usable = (case_of >= 0) & ~nan
    by_case = _ByCase(np.where(usable, case_of, -1), candidates, len(known.names))

    kept = np.flatnonzero(lesion_of >= 0)
    row_of = np.full(len(kept), MISSED, np.int64)
    hits = np.zeros(len(candidates), bool)
    radius = lesions.diameter_mm[kept] / 2
    for lesion, rows in by_case.hits(lesion_of[kept], lesions.world_mm[kept], radius):
        hits[rows] = True
        _keep_best(row_of, lesion, rows, candidates.score)

    ignored = np.zeros(len(candidates), bool)
    kept_x = np.flatnonzero(excluded_of >= 0)
    diameter = excluded.diameter_mm[kept_x]
    radius = np.where(diameter < 0, EXCLUDED_MM, diameter) / 2
    for _, rows in by_case.hits(excluded_of[kept_x], excluded.world_mm[kept_x], radius):
        ignored[rows] = True
    ignored &= ~hits
    fp = np.flatnonzero(usable & ~hits & ~ignored)
    finders = np.zeros(len(candidates), bool)
    finders[row_of[row_of != MISSED]] = True
    return Matched(
        cases=known.names,
        lesion_case=lesion_of[kept],
        lesion_row=row_of,
        lesion_score=np.where(row_of == MISSED, 0.0, _take(candidates.score, row_of)),
        fp_case=case_of[fp],
        fp_score=candidates.score[fp],
        fp_row=fp,
        excluded_row=np.flatnonzero(ignored),
        repeated_row=np.flatnonzero(hits & ~finders),
        n_unknown=int((case_of < 0).sum()),
        n_nan=int(nan.sum()),
        n_rows=len(candidates),
    )


@dataclass(frozen=True)
class _Cases:
    names: StrArray
    index: dict[str, int]


def _index_cases(cases: Sequence[str] | StrArray) -> _Cases:
    names = np.asarray(cases, dtype=np.str_).reshape(-1)
    if not len(names):
        raise FrocInputError("there is no case to evaluate; the list of scans is empty")
    index: dict[str, int] = {}
    for i, name in enumerate(names.tolist()):
        if index.setdefault(name, i) != i:
            raise FrocInputError(f"case {name} stands twice in the list of scans")
    return _Cases(names, index)


def _look_up(known: _Cases, case: StrArray, what: str, drop: bool) -> IntArray:
    """Give the index of each case, -1 where it is not evaluated."""
    # The strings of a whole column would need more memory than the column: a part at a time.
    index = np.empty(len(case), np.int64)
    for start in range(0, len(case), PAIRS_AT_ONCE):
        names = case[start : start + PAIRS_AT_ONCE].tolist()
        index[start : start + len(names)] = [known.index.get(name, -1) for name in names]
    if (index < 0).any() and not drop:
        odd = np.unique(case[index < 0])
        raise FrocInputError(
            f"{(index < 0).sum()} {what}s belong to {len(odd)} cases that are not in the list of "
            f"scans, such as {str(odd[0])!r}{_nearly(str(odd[0]), known)}; correct the list, or "
            "leave them out (drop_unknown=true)"
        )
    return index


def _nearly(case: str, known: _Cases) -> str:
    """Say so if the case is known by nearly the same id: blanks, another case, a file's ending."""
    plain = {_plain(name): name for name in known.names.tolist()}
    return f" (which is nearly {plain[_plain(case)]!r})" if _plain(case) in plain else ""


def _plain(case: str) -> str:
    bare = case.strip().strip("\"'").lower().replace("\\", "/").rsplit("/", 1)[-1]
    return re.sub(r"(\.(mhd|mha|nii|gz|npy|dcm))+$", "", bare)


def _check_diameters(lesions: Lesions) -> None:
    bad = np.flatnonzero(~(lesions.diameter_mm > 0) | ~np.isfinite(lesions.diameter_mm))
    if len(bad):
        raise FrocInputError(
            f"lesion row {bad[0]} of case {lesions.case[bad[0]]} has diameter_mm="
            f"{lesions.diameter_mm[bad[0]]}; a lesion that counts needs a positive one"
        )


class _ByCase:
    """Candidates sorted by case, so that those of one case are a slice."""

    def __init__(self, case_of: IntArray, candidates: Candidates, n_cases: int) -> None:
        self._rows = np.argsort(case_of, kind="stable").astype(np.int64)
        self._world_mm = candidates.world_mm[self._rows]
        edges = np.searchsorted(case_of[self._rows], np.arange(n_cases + 1))
        self._start, self._count = edges[:-1], np.diff(edges)

    def hits(
        self, case_of: IntArray, world_mm: FloatArray, radius_mm: FloatArray
    ) -> Iterator[tuple[IntArray, IntArray]]:
        """Yield (finding, candidate row) pairs, chunk by chunk, by rising finding."""
        count = self._count[case_of]
        chunks = np.cumsum(count) // PAIRS_AT_ONCE
        for chunk in np.unique(chunks):
            some = np.flatnonzero(chunks == chunk)
            n = count[some]
            finding = np.repeat(some, n)
            within = np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n)
            place = np.repeat(self._start[case_of[some]], n) + within
            away_mm = self._world_mm[place] - world_mm[finding]
            near = (away_mm * away_mm).sum(axis=1) < radius_mm[finding] ** 2
            yield finding[near], self._rows[place[near]]


def _keep_best(best: IntArray, lesion: IntArray, row: IntArray, score: FloatArray) -> None:
    """Put the best row of each lesion of a chunk into ``best``; of equal scores the first row."""
    order = np.lexsort((row, -score[row], lesion))
    lesion, row = lesion[order], row[order]
    first = np.flatnonzero(np.diff(lesion, prepend=-1))
    best[lesion[first]] = row[first]


def _take(values: FloatArray, index: IntArray) -> FloatArray:
    if not len(values):
        return np.zeros(len(index))
    return np.asarray(values[np.maximum(index, 0)], np.float64)
