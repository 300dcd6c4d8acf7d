"""What an audit looks at: the input of an evaluation, its outcome, and both scan by scan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nodule_det.arrays import BoolArray, IntArray
from nodule_det.froc import Candidates, Lesions, Matched


@dataclass(frozen=True)
class AuditJob:
    """An evaluation.

    Attributes:
        lesions: Findings of evaluated scans that count, in the order of ``matched``.
        all_lesions: The same with those of scans that are not evaluated.
        candidates: Output of the detector.
        excluded: Findings that are neither lesion nor background.
        matched: The outcome.
    """

    lesions: Lesions
    all_lesions: Lesions
    candidates: Candidates
    excluded: Lesions
    matched: Matched

    @cached_property
    def scans(self) -> tuple[Scan, ...]:
        """Evaluated scans that have both lesions and candidates."""
        return tuple(_scans(self.lesions, self.candidates, self.matched.found))

    @cached_property
    def silent(self) -> tuple[Scan, ...]:
        """Those of them in which no lesion is found: where something may be wrong."""
        return tuple(scan for scan in self.scans if not scan.found.any())


@dataclass(frozen=True)
class Scan:
    """Lesions and candidates of one scan.

    Attributes:
        case: Its id.
        lesions: (n,) rows of its lesions.
        candidates: (k,) rows of its candidates, the highest score first.
        found: (n,) whether each lesion is found.
    """

    case: str
    lesions: IntArray
    candidates: IntArray
    found: BoolArray


def _scans(lesions: Lesions, candidates: Candidates, found: BoolArray) -> Iterator[Scan]:
    cases = np.unique(lesions.case)
    if not len(cases) or not len(candidates):
        return
    at = np.minimum(np.searchsorted(cases, candidates.case), len(cases) - 1)
    usable = np.flatnonzero((cases[at] == candidates.case) & ~np.isnan(candidates.score))
    order = usable[np.lexsort((-candidates.score[usable], at[usable]))]
    edges = np.searchsorted(at[order], np.arange(len(cases) + 1))
    of_lesion = np.searchsorted(cases, lesions.case)
    by_case = np.argsort(of_lesion, kind="stable")
    starts = np.searchsorted(of_lesion[by_case], np.arange(len(cases) + 1))
    for i, case in enumerate(cases.tolist()):
        of_case = order[edges[i] : edges[i + 1]]
        rows = by_case[starts[i] : starts[i + 1]]
        if len(of_case):
            yield Scan(case, rows, of_case, found[rows])
