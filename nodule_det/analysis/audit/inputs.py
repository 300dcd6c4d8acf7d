"""Lists that do not fit each other: scans, ids, sizes, rows that occur twice, rows cut off."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nodule_det.analysis.audit.finding import (
    SHOWN,
    AuditFinding,
    Level,
    candidate_row,
    case_rows,
    lesion_row,
)
from nodule_det.analysis.audit.job import AuditJob
from nodule_det.arrays import IntArray, StrArray, plain_id
from nodule_det.froc import EXCLUDED_MM, UPPER, Candidates, Lesions, match
from nodule_det.progress import counted, of_total

RADII = "diameters_are_radii"

CAP_LEAST = 10
"""Fewer rows a scan than this may be equal by chance."""

SMALL_MM = 3.0
"""Nodules below this size are not annotated as a rule (LIDC-IDRI, LUNA16)."""

TINY_MM = 1.5
"""No annotated nodule is this small."""

HUGE_MM = 100.0
"""No annotated nodule is this large."""

COPIED_LEAST = 3
"""Fewer equal candidates of two scans are not called a copy."""


def odd_lists(job: AuditJob) -> Iterator[AuditFinding]:
    """Look for everything that is wrong with lists, ids and rows."""
    yield from _left_out(job)
    yield from _silent_cases(job)
    yield from _equal_counts(job)
    yield from _short_list(job)
    yield from _same_candidates(job)
    yield from _copied_scans(job)
    yield from _same_lesions(job.lesions)
    yield from _sizes(job)
    yield from _excluded(job.excluded)
    yield from _no_healthy_scan(job)


def _left_out(job: AuditJob) -> Iterator[AuditFinding]:
    matched = job.matched
    if matched.n_unknown:
        outside = np.setdiff1d(job.candidates.case, matched.cases)
        yield AuditFinding(
            Level.WARNING,
            "unknown_candidates",
            f"{counted(matched.n_unknown, 'candidate')} of "
            f"{counted(len(outside), 'scan that is', 'scans that are')} not listed were left "
            f"out{_misspelt(outside, matched.cases)}: is the list of scans complete?",
            case_rows(outside),
        )
    if matched.n_nan:
        yield AuditFinding(
            Level.WARNING,
            "nan_scores",
            f"left out: {counted(matched.n_nan, 'candidate')} without a score. Does the detector "
            "fail on these scans?",
            tuple(
                candidate_row(job.candidates, row)
                for row in np.flatnonzero(np.isnan(job.candidates.score))[:SHOWN]
            ),
        )
    for what, findings in (("lesions", job.all_lesions), ("excluded findings", job.excluded)):
        outside = np.setdiff1d(findings.case, matched.cases)
        if len(outside):
            hint = _misspelt(outside, matched.cases)
            n = int(np.isin(findings.case, outside).sum())
            yield AuditFinding(
                Level.WARNING if hint else Level.NOTE,
                f"unknown_{what.split()[0]}",
                f"left out: {counted(n, what.removesuffix('s'))} of "
                f"{counted(len(outside), 'scan that is', 'scans that are')} not listed{hint}, as "
                "expected if they belong to other folds",
                case_rows(outside),
            )


def _misspelt(outside: StrArray, cases: StrArray) -> str:
    """Say how many ids are known but for their spelling: leading zeros, ".0", file endings."""
    plain = {plain_id(case) for case in cases.tolist()}
    n = sum(plain_id(case) in plain for case in outside.tolist())
    return (
        f" ({counted(n, 'id is', 'ids are')} listed in another spelling; write ids alike)"
        if n
        else ""
    )


def _silent_cases(job: AuditJob) -> Iterator[AuditFinding]:
    matched = job.matched
    silent = np.setdiff1d(matched.cases, job.candidates.case)
    if not len(silent):
        return
    many = 2 * len(silent) >= matched.n_cases
    advice = ": was one fold evaluated against the scans of all?" if many else ""
    with_lesions = np.isin(silent, matched.cases[matched.lesion_case]).sum()
    yield AuditFinding(
        Level.WARNING if many else Level.NOTE,
        "cases_without_candidates",
        f"{of_total(len(silent), matched.n_cases, 'scan', 'has', 'have')} no candidate, "
        f"{with_lesions} of them with lesions. Such scans count all the same{advice}",
        case_rows(silent),
    )


def _equal_counts(job: AuditJob) -> Iterator[AuditFinding]:
    """Notice a cap: many scans with exactly as many rows as the fullest."""
    cases, count = np.unique(job.candidates.case, return_counts=True)
    if len(cases) < 3:
        return
    most = int(count.max())
    full = int((count == most).sum())
    if most >= CAP_LEAST and full >= max(3, 0.2 * len(cases)):
        yield AuditFinding(
            Level.WARNING,
            "capped_rows",
            f"{of_total(full, len(cases), 'scan', 'has', 'have')} exactly "
            f"{counted(most, 'candidate')} and none has more: the detector's output was cut off, "
            "and what was cut may hold lesions. Raise the limit",
            case_rows(cases[count == most]),
        )


def _short_list(job: AuditJob) -> Iterator[AuditFinding]:
    rate = len(job.matched.fp_row) / job.matched.n_cases
    if 0 < rate < UPPER and not job.matched.found.all():
        yield AuditFinding(
            Level.NOTE,
            "short_list",
            f"all candidates together make {rate:.2g} false positives per scan, so the curve is "
            "flat from there on. If a score threshold was applied, lower it",
        )


def _same_candidates(job: AuditJob) -> Iterator[AuditFinding]:
    rows = _repeated(job.candidates)
    if len(rows):
        scans = np.unique(job.candidates.case[rows])
        yield AuditFinding(
            Level.WARNING if len(rows) > 0.01 * len(job.candidates) else Level.NOTE,
            "duplicate_candidates",
            f"{of_total(len(rows), len(job.candidates), 'candidate')}, in "
            f"{counted(len(scans), 'scan')}, {'has' if len(rows) == 1 else 'have'} exactly the "
            "place of an earlier one of the same scan: each counts as a false positive of its "
            "own. Remove the duplicates, or were two files appended?",
            tuple(candidate_row(job.candidates, row) for row in rows[:SHOWN]),
        )


def _repeated(table: Candidates | Lesions) -> IntArray:
    """Return rows that have exactly the place of an earlier row of the same scan."""
    _, case = np.unique(table.case, return_inverse=True)
    order = np.lexsort((*table.world_mm.T, case))
    keys = np.column_stack([case, table.world_mm])[order]
    same = np.flatnonzero((keys[1:] == keys[:-1]).all(axis=1)) + 1
    return np.sort(order[same])


def _copied_scans(job: AuditJob) -> Iterator[AuditFinding]:
    """Notice scans with exactly the candidates of another scan."""
    candidates = job.candidates
    cases, case = np.unique(candidates.case, return_inverse=True)
    order = np.lexsort((*candidates.world_mm.T, case))
    edges = np.searchsorted(case[order], np.arange(len(cases) + 1))
    seen: dict[bytes, str] = {}
    copies = []
    for i, name in enumerate(cases.tolist()):
        points = candidates.world_mm[order[edges[i] : edges[i + 1]]]
        if len(points) >= COPIED_LEAST and seen.setdefault(points.tobytes(), name) != name:
            copies.append(name)
    if copies:
        yield AuditFinding(
            Level.WARNING,
            "copied_scans",
            f"{counted(len(copies), 'scan has', 'scans have')} exactly the candidates of another "
            "scan: was one output written under several ids?",
            case_rows(copies),
        )


def _same_lesions(lesions: Lesions) -> Iterator[AuditFinding]:
    rows = _repeated(lesions)
    if len(rows):
        yield AuditFinding(
            Level.WARNING,
            "repeated_lesions",
            f"{counted(len(rows), 'lesion has', 'lesions have')} exactly the place of an earlier "
            "one and count as well. Merge the marks of several readers",
            tuple(lesion_row(lesions, row) for row in rows[:SHOWN]),
        )


def _sizes(job: AuditJob) -> Iterator[AuditFinding]:
    """Notice diameters in cm or um, and radii in their place."""
    diameter, n = job.lesions.diameter_mm, len(job.lesions)
    tiny, small = np.flatnonzero(diameter < TINY_MM), np.flatnonzero(diameter < SMALL_MM)
    huge = np.flatnonzero(diameter > HUGE_MM)
    if len(tiny):
        scans = len(np.unique(job.lesions.case[tiny]))
        yield _size_finding(
            job,
            "diameters_in_cm",
            tiny,
            f"below {TINY_MM:g} mm: {of_total(len(tiny), n, 'diameter')}, in "
            f"{counted(scans, 'scan')}; the median is {np.median(diameter):.2g} mm: are they in "
            "cm? Convert them to mm",
        )
    else:
        yield from _radii(job, small)
    if len(huge):
        yield _size_finding(
            job,
            "diameters_too_large",
            huge,
            f"{of_total(len(huge), n, 'diameter', 'is', 'are')} above {HUGE_MM:g} mm: are they in "
            "micrometres or voxels? Convert them to mm",
        )


def _radii(job: AuditJob, small: IntArray) -> Iterator[AuditFinding]:
    """Notice radii in place of diameters: in many lesions, or in those of some scans.

    Halved, a nodule of 6 mm falls below the size at which nodules are annotated, and one whose
    candidate is half a radius off its centre is missed.
    """
    n, n_scans = len(job.lesions), len(np.unique(job.lesions.case))
    gained = _found_at_twice_the_size(job)
    if len(small):
        scans = len(np.unique(job.lesions.case[small]))
        yield _size_finding(
            job,
            RADII,
            small,
            f"{of_total(len(small), n, 'diameter')}, in {scans} of {counted(n_scans, 'scan')} "
            f"with lesions, {'is' if len(small) == 1 else 'are'} below {SMALL_MM:g} mm, where "
            "nodules are not annotated as a rule: are they radii? Double them, in these scans or "
            "in all",
            Level.WARNING if len(small) >= max(3, 0.08 * n) else Level.NOTE,
        )
    elif len(gained) >= max(2, 0.03 * n):
        scans = len(np.unique(job.lesions.case[gained]))
        yield _size_finding(
            job,
            RADII,
            gained,
            f"{of_total(len(gained), n, 'lesion')}, in {scans} of {counted(n_scans, 'scan')} with "
            f"lesions, {'is' if len(gained) == 1 else 'are'} missed despite a candidate within "
            "one diameter of the centre: are the diameters radii (then double them), or are "
            "candidates imprecise?",
            Level.WARNING if len(gained) >= max(3, 0.2 * n) else Level.NOTE,
        )


def _size_finding(
    job: AuditJob, code: str, rows: IntArray, message: str, level: Level = Level.WARNING
) -> AuditFinding:
    shown = tuple(lesion_row(job.lesions, row) for row in rows[:SHOWN])
    return AuditFinding(level, code, message, shown)


def _found_at_twice_the_size(job: AuditJob) -> IntArray:
    """Return the missed lesions that would be found if their diameters were twice as large."""
    missed = np.flatnonzero(~job.matched.found)
    table = job.lesions.take(missed)
    larger = Lesions(table.case, table.world_mm, 2 * table.diameter_mm)
    again = match(
        job.matched.cases, larger, job.candidates, drop_unknown_candidates=True, drop_nan=True
    )
    return missed[again.found]


def _excluded(excluded: Lesions) -> Iterator[AuditFinding]:
    if not len(excluded):
        yield AuditFinding(
            Level.NOTE,
            "no_excluded_findings",
            "there is no list of excluded findings: if the data have one (LUNA16 does), every "
            "candidate on an excluded finding now counts as a false positive. Pass it as excluded=",
        )
        return
    without = np.flatnonzero(~(excluded.diameter_mm > 0) & (excluded.diameter_mm != -1))
    if len(without):
        yield AuditFinding(
            Level.NOTE,
            "excluded_without_diameter",
            f"{of_total(len(without), len(excluded), 'excluded finding', 'has', 'have')} a "
            f"diameter that is NaN, 0 or negative: {EXCLUDED_MM:g} mm is used, as for LUNA16's -1",
            tuple(lesion_row(excluded, row) for row in without[:SHOWN]),
        )


def _no_healthy_scan(job: AuditJob) -> Iterator[AuditFinding]:
    matched = job.matched
    if matched.n_cases >= 10 and len(np.unique(matched.lesion_case)) == matched.n_cases:
        yield AuditFinding(
            Level.NOTE,
            "no_healthy_scans",
            f"each scan ({matched.n_cases} in all) has a lesion: if the list of scans was made "
            "from the annotations, add the scans without lesions, whose false positives count",
        )
