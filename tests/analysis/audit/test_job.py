"""An evaluation scan by scan."""

import numpy as np

from nodule_det.analysis.audit.job import AuditJob
from nodule_det.froc import NO_LESIONS, match
from tests.analysis.froc_jobs import as_candidates, as_lesions

LESIONS = as_lesions([("b", 0, 0, 0, 6), ("a", 0, 0, 0, 6), ("b", 50, 0, 0, 6), ("c", 0, 0, 0, 6)])
CANDIDATES = as_candidates(
    [("b", 0, 0, 0, 0.1), ("a", 9, 9, 9, 0.2), ("b", 9, 9, 9, 0.9), ("d", 0, 0, 0, 0.5)]
)


def job(candidates=CANDIDATES):
    matched = match(list("abcd"), LESIONS, candidates, drop_nan=True)
    return AuditJob(LESIONS, LESIONS, candidates, NO_LESIONS, matched)


def test_scans_have_their_lesions_and_their_candidates_by_falling_score():
    a, b = job().scans
    assert (a.case, a.lesions.tolist(), a.candidates.tolist()) == ("a", [1], [1])
    assert (b.case, b.lesions.tolist(), b.candidates.tolist()) == ("b", [0, 2], [2, 0])
    assert b.found.tolist() == [True, False]


def test_scans_without_a_found_lesion_are_singled_out():
    assert [scan.case for scan in job().silent] == ["a"]


def test_candidates_without_a_score_are_not_looked_at():
    odd = as_candidates([("a", 0, 0, 0, np.nan), ("a", 1, 0, 0, 0.5)])
    assert [scan.candidates.tolist() for scan in job(odd).scans] == [[1]]


def test_without_candidates_there_is_no_scan_to_look_at():
    assert job(as_candidates([])).scans == ()
