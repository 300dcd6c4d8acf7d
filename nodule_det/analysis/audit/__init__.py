"""What may be wrong with the input of an evaluation: read it before you trust the figures.

    lesions, candidates, excluded, Matched ──audit()──▶ [AuditFinding]

A wrong list of scans, a forgotten list of excluded findings, or swapped axes do not stop an
evaluation: they produce a plausible but wrong number.  Each check looks for the trace of one
mistake, scan by scan where it can affect some scans only, and names its evidence and the remedy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from nodule_det.analysis.audit.finding import (
    SHOWN,
    AuditFinding,
    Level,
    candidate_row,
    lesion_row,
)
from nodule_det.analysis.audit.inputs import RADII, odd_lists
from nodule_det.analysis.audit.job import AuditJob
from nodule_det.analysis.audit.places import misplaced
from nodule_det.analysis.audit.scores import odd_scores
from nodule_det.froc import Candidates, Lesions, Matched
from nodule_det.progress import counted, of_total

__all__ = ["AuditFinding", "Level", "audit"]


def audit(
    lesions: Lesions,
    candidates: Candidates,
    excluded: Lesions,
    matched: Matched,
    by_centre: Matched | None = None,
) -> list[AuditFinding]:
    """Look for everything that is known to go wrong, warnings first.

    Args:
        lesions: As they were passed to :func:`nodule_det.froc.match`.
        candidates: Likewise.
        excluded: Likewise.
        matched: The outcome.
        by_centre: The outcome by the distance to the centre, where boxes or masks decided: checks
            of positions and sizes are made with it.
    """
    evaluated = lesions.take(np.flatnonzero(np.isin(lesions.case, matched.cases)))
    job = AuditJob(evaluated, lesions, candidates, excluded, by_centre or matched)
    outcome = replace(job, matched=matched)
    findings = [
        *odd_lists(job),
        *odd_scores(job),
        *misplaced(job),
        *_missed(outcome),
        *_worst(outcome),
    ]
    if {finding.code for finding in findings} & {"shifted", "corner_for_centre"}:
        findings = [f for f in findings if f.code != RADII]  # the shift explains the near misses
    return sorted(findings, key=lambda finding: finding.level is Level.NOTE)


def _missed(job: AuditJob) -> Iterator[AuditFinding]:
    found, diameter = job.matched.found, job.lesions.diameter_mm
    missed = np.flatnonzero(~found)
    if not len(missed):
        return
    largest = missed[np.argsort(-diameter[missed], kind="stable")]
    of_found = f"{np.median(diameter[found]):.1f} mm" if found.any() else "not defined"
    yield AuditFinding(
        Level.NOTE,
        "missed_lesions",
        f"{of_total(len(missed), job.matched.n_lesions, 'lesion', 'is', 'are')} missed. Their "
        f"median diameter is {np.median(diameter[missed]):.1f} mm, of those detected {of_found}",
        tuple(lesion_row(job.lesions, row) for row in largest[:SHOWN]),
    )


def _worst(job: AuditJob) -> Iterator[AuditFinding]:
    if not len(job.matched.fp_row):
        return
    n = min(SHOWN, len(job.matched.fp_row))
    worst = job.matched.fp_row[np.argsort(-job.matched.fp_score, kind="stable")[:n]]
    yield AuditFinding(
        Level.NOTE,
        "worst_false_positives",
        f"the {counted(n, 'false positive')} with the highest scores: some may be lesions that "
        "were not annotated",
        tuple(candidate_row(job.candidates, row) for row in worst),
    )
