"""Scores that do not rank: equal ones, and ones that are larger for less suspicious candidates."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nodule_det.analysis.audit.finding import AuditFinding, Level, case_rows
from nodule_det.analysis.audit.job import AuditJob
from nodule_det.arrays import FloatArray
from nodule_det.progress import of_total

DEVIATIONS = 3.0
"""How far below chance detected lesions must rank, in standard errors, to look reversed."""

LEAST_FP = 4
"""A scan with fewer false positives says little about the order of its scores."""


def odd_scores(job: AuditJob) -> Iterator[AuditFinding]:
    """Look for everything that is wrong with scores."""
    yield from _equal(job)
    reversed_ = list(_reversed(job))
    yield from reversed_ or _reversed_scans(job)


def _equal(job: AuditJob) -> Iterator[AuditFinding]:
    matched = job.matched
    found = matched.lesion_score[matched.found]
    tied = int(np.isin(found, matched.fp_score).sum())
    scores = np.concatenate([found, matched.fp_score])
    distinct = len(np.unique(scores))
    if len(scores) > 1 and distinct == 1:
        yield AuditFinding(
            Level.WARNING,
            "equal_scores",
            f"all {len(scores)} scores are {scores[0]:g}: a curve needs a score that ranks. Write "
            "the detector's confidence, not its decision",
        )
    elif tied:
        yield AuditFinding(
            Level.WARNING if 10 * tied > matched.n_lesions else Level.NOTE,
            "equal_scores",
            f"{of_total(tied, len(found), 'detected lesion', 'has', 'have')} the same score as "
            f"false positives ({distinct} different scores among {len(scores)}), which no "
            "threshold tells apart: compare pAUC with its step-wise value, and write scores with "
            "more digits",
        )


def _auc(found: FloatArray, fps: FloatArray) -> float:
    """Return the share of pairs in which the lesion scores higher; a tie counts half."""
    fps = np.sort(fps)
    below = np.searchsorted(fps, found, side="left") + np.searchsorted(fps, found, side="right")
    return float(below.mean() / (2 * len(fps)))


def _reversed(job: AuditJob) -> Iterator[AuditFinding]:
    matched = job.matched
    found, fps = matched.lesion_score[matched.found], matched.fp_score
    if not len(found) or not len(fps):
        return
    auc = _auc(found, fps)
    error = np.sqrt((len(found) + len(fps) + 1) / (12 * len(found) * len(fps)))
    if auc < 0.5 - DEVIATIONS * error:
        yield AuditFinding(
            Level.WARNING,
            "reversed_scores",
            f"{of_total(len(found), matched.n_lesions, 'lesion', 'is', 'are')} found, but detected "
            f"lesions score higher than false positives in only {auc:.0%} of all pairs: the order "
            "of the scores looks reversed. Write a score that is larger for more suspicious "
            "candidates",
        )


def _reversed_scans(job: AuditJob) -> Iterator[AuditFinding]:
    """Notice scans in which lesions score below nearly all else, where others are the opposite."""
    matched = job.matched
    order = np.argsort(matched.fp_case, kind="stable")
    edges = np.searchsorted(matched.fp_case[order], np.arange(matched.n_cases + 1))
    aucs: dict[str, float] = {}
    for case in np.unique(matched.lesion_case[matched.found]):
        fps = matched.fp_score[order[edges[case] : edges[case + 1]]]
        found = matched.lesion_score[matched.found & (matched.lesion_case == case)]
        if len(fps) >= LEAST_FP:
            aucs[str(matched.cases[case])] = _auc(found, fps)
    values = np.array(list(aucs.values()))
    low, high = int((values < 0.1).sum()), int((values > 0.9).sum())
    if low >= 3 and low >= 0.05 * len(values) and len(values) - low - high <= 0.5 * low:
        yield AuditFinding(
            Level.WARNING,
            "reversed_scores",
            f"in {of_total(low, len(values), 'scan')} detected lesions score lower than nearly "
            f"all false positives, in {high} higher: the order of the scores looks reversed in "
            "some scans. Write a score that is larger for more suspicious candidates",
            case_rows(case for case, auc in aucs.items() if auc < 0.1),
        )
