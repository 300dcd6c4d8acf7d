"""What may be wrong with the input of an evaluation, said before anyone believes its figures.

    cases, lesions, candidates, excluded, Matched ──audit()──▶ [AuditFinding]

A wrong list of scans, a forgotten list of excluded findings, or swapped axes do not stop an
evaluation: they give a plausible, wrong number.  Each check looks for the trace of one of these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from nodule_det.arrays import FloatArray, StrArray
from nodule_det.froc import Candidates, Lesions, Matched, match

SHOWN = 10
"""Missed lesions, and false positives, that are listed one by one."""

SCAN_MM = 700.0
"""No chest CT is so large that two of its points are further apart."""

CAP_LEAST = 10
"""Fewer rows a scan than this may be equal by chance."""

LOOK_AGAIN = 0.5
"""Below this share of lesions found, other axes are tried."""

FLIP = np.array([-1.0, -1.0, 1.0])

# What a detector's author may have done to (x, y, z), and what undoes it.
AXES: dict[str, Callable[[FloatArray], FloatArray]] = {
    "x and z are swapped (array order z, y, x)": lambda p: p[:, ::-1],
    "x and y have the other sign (RAS instead of LPS)": lambda p: p * FLIP,
    "x and z are swapped and x and y have the other sign": lambda p: p[:, ::-1] * FLIP,
}


class Level(StrEnum):
    """How much a finding matters."""

    WARNING = "warning"
    """The figures are probably not what is wanted."""
    NOTE = "note"


@dataclass(frozen=True)
class AuditFinding:
    """One thing that was noticed.

    Attributes:
        level: How much it matters.
        code: A word for programs, which stays.
        message: What was noticed, with its numbers, and what to do.
        rows: The cases, lesions or candidates it is about, the worst first.
    """

    level: Level
    code: str
    message: str
    rows: tuple[dict[str, Any], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "rows": list(self.rows)}


def audit(
    lesions: Lesions, candidates: Candidates, excluded: Lesions, matched: Matched
) -> list[AuditFinding]:
    """Look for everything that is known to go wrong, warnings first.

    Args:
        lesions: As they were given to :func:`nodule_det.froc.match`.
        candidates: As they were given.
        excluded: As they were given.
        matched: What came of it.
    """
    known_lesions = lesions.take(np.flatnonzero(np.isin(lesions.case, matched.cases)))
    findings = [
        *_strangers(lesions, excluded, matched),
        *_silent_cases(candidates, matched),
        *_equal_counts(candidates, matched),
        *_equal_scores(matched),
        *_voxels(known_lesions, candidates),
        *_far_away(known_lesions, candidates),
        *_other_axes(known_lesions, candidates, matched),
        *_twice(known_lesions),
        *_no_excluded(excluded),
        *_missed(known_lesions, matched),
        *_worst(candidates, matched),
    ]
    return sorted(findings, key=lambda finding: finding.level is Level.NOTE)


def _strangers(lesions: Lesions, excluded: Lesions, matched: Matched) -> Iterator[AuditFinding]:
    if matched.n_unknown:
        yield AuditFinding(
            Level.WARNING,
            "unknown_candidates",
            f"{matched.n_unknown} candidates of scans that are not listed were left out",
        )
    if matched.n_nan:
        yield AuditFinding(
            Level.WARNING, "nan_scores", f"{matched.n_nan} candidates without a score were left out"
        )
    for what, findings in (("lesions", lesions), ("excluded findings", excluded)):
        outside = np.setdiff1d(findings.case, matched.cases)
        if len(outside):
            n = int(np.isin(findings.case, outside).sum())
            yield AuditFinding(
                Level.WARNING,
                f"unknown_{what.split()[0]}",
                f"{n} {what} of {len(outside)} scans that are not listed were left out: is the "
                "list of scans complete?",
                _cases(outside),
            )


def _silent_cases(candidates: Candidates, matched: Matched) -> Iterator[AuditFinding]:
    silent = np.setdiff1d(matched.cases, candidates.case)
    if not len(silent):
        return
    many = 2 * len(silent) > matched.n_cases
    advice = "; was one fold evaluated against the scans of all?" if many else ""
    with_lesions = np.isin(silent, matched.cases[matched.lesion_case]).sum()
    yield AuditFinding(
        Level.WARNING if many else Level.NOTE,
        "cases_without_candidates",
        f"{len(silent)} of {matched.n_cases} scans have no candidate, {with_lesions} of them have "
        f"lesions; they count all the same{advice}",
        _cases(silent),
    )


def _equal_counts(candidates: Candidates, matched: Matched) -> Iterator[AuditFinding]:
    """Notice a cap: many scans with exactly as many rows as the fullest."""
    cases, count = np.unique(candidates.case, return_counts=True)
    if len(cases) < 3:
        return
    most = int(count.max())
    full = int((count == most).sum())
    if most >= CAP_LEAST and full >= max(3, 0.2 * len(cases)):
        yield AuditFinding(
            Level.WARNING,
            "capped_rows",
            f"{full} of {len(cases)} scans have exactly {most} candidates and none has more: the "
            "detector's output was cut off, and what was cut may hold lesions",
            _cases(cases[count == most]),
        )


def _equal_scores(matched: Matched) -> Iterator[AuditFinding]:
    found = matched.lesion_score[matched.found]
    tied = int(np.isin(found, matched.fp_score).sum())
    scores = np.concatenate([found, matched.fp_score])
    distinct = len(np.unique(scores))
    if len(scores) > 1 and distinct == 1:
        yield AuditFinding(
            Level.WARNING,
            "equal_scores",
            f"all {len(scores)} scores are {scores[0]:g}: a curve needs a score that ranks",
        )
    elif tied:
        yield AuditFinding(
            Level.WARNING if 10 * tied > matched.n_lesions else Level.NOTE,
            "equal_scores",
            f"{tied} of {len(found)} lesions found share their score with false positives "
            f"({distinct} scores among {len(scores)}); thresholds cannot tell these apart, compare "
            "pAUC with its value as steps",
        )


def _voxels(lesions: Lesions, candidates: Candidates) -> Iterator[AuditFinding]:
    """Notice voxel indices: never negative, mostly whole, where the lesions are neither."""
    if not len(candidates) or not len(lesions):
        return
    whole = float((candidates.world_mm == np.round(candidates.world_mm)).mean())
    if (candidates.world_mm >= 0).all() and (lesions.world_mm < 0).any() and whole > 0.5:
        yield AuditFinding(
            Level.WARNING,
            "voxel_coordinates",
            f"no candidate has a negative coordinate and {whole:.0%} of them are whole numbers, "
            "but lesions have negative ones: these look like voxels, needed is world mm",
        )


def _far_away(lesions: Lesions, candidates: Candidates) -> Iterator[AuditFinding]:
    cases, first = np.unique(lesions.case, return_index=True)
    if not len(cases):
        return
    at = np.minimum(np.searchsorted(cases, candidates.case), len(cases) - 1)
    comparable = np.flatnonzero(cases[at] == candidates.case)
    away = candidates.world_mm[comparable] - lesions.world_mm[first[at[comparable]]]
    far = comparable[(away * away).sum(axis=1) > SCAN_MM**2]
    if len(far):
        yield AuditFinding(
            Level.WARNING,
            "outside_the_scan",
            f"{len(far)} of {len(comparable)} candidates lie more than {SCAN_MM:g} mm from a "
            "lesion of the same scan, which no scan is large enough for: check units and axes",
            tuple(_candidate(candidates, row) for row in far[:SHOWN]),
        )


def _other_axes(
    lesions: Lesions, candidates: Candidates, matched: Matched
) -> Iterator[AuditFinding]:
    found = int(matched.found.sum())
    if not len(candidates) or found >= LOOK_AGAIN * matched.n_lesions:
        return
    for how, undo in AXES.items():
        turned = Candidates(candidates.case, undo(candidates.world_mm), candidates.score)
        again = match(matched.cases, lesions, turned, drop_unknown_candidates=True, drop_nan=True)
        n = int(again.found.sum())
        if n >= 2 * found + 2:
            yield AuditFinding(
                Level.WARNING,
                "wrong_axes",
                f"{found} of {matched.n_lesions} lesions are found, but {n} would be if {how}: "
                "candidates need world mm (x, y, z), LPS",
            )


def _twice(lesions: Lesions) -> Iterator[AuditFinding]:
    _, index = np.unique(lesions.case, return_inverse=True)
    keys = np.column_stack([index, lesions.world_mm])
    n = len(lesions) - len(np.unique(keys, axis=0))
    if n:
        yield AuditFinding(
            Level.WARNING,
            "repeated_lesions",
            f"{n} lesions have the place of another one; they count as lesions of their own",
        )


def _no_excluded(excluded: Lesions) -> Iterator[AuditFinding]:
    if not len(excluded):
        yield AuditFinding(
            Level.NOTE,
            "no_excluded_findings",
            "no excluded findings were given: if the data have such a list (LUNA16 does), every "
            "candidate on one now counts as a false positive",
        )


def _missed(lesions: Lesions, matched: Matched) -> Iterator[AuditFinding]:
    missed = np.flatnonzero(~matched.found)
    if not len(missed):
        return
    largest = missed[np.argsort(-lesions.diameter_mm[missed], kind="stable")]
    yield AuditFinding(
        Level.NOTE,
        "missed_lesions",
        f"{len(missed)} of {matched.n_lesions} lesions are hit by no candidate; their median "
        f"diameter is {np.median(lesions.diameter_mm[missed]):.1f} mm, of those hit "
        f"{_median(lesions.diameter_mm[matched.found])} mm",
        tuple(_lesion(lesions, row) for row in largest[:SHOWN]),
    )


def _worst(candidates: Candidates, matched: Matched) -> Iterator[AuditFinding]:
    if not len(matched.fp_row):
        return
    n = min(SHOWN, len(matched.fp_row))
    worst = matched.fp_row[np.argsort(-matched.fp_score, kind="stable")[:n]]
    yield AuditFinding(
        Level.NOTE,
        "worst_false_positives",
        f"the {n} false positives of the highest score: some may be lesions nobody annotated",
        tuple(_candidate(candidates, row) for row in worst),
    )


def _median(values: Any) -> str:
    return f"{np.median(values):.1f}" if len(values) else "no"


def _cases(cases: StrArray) -> tuple[dict[str, Any], ...]:
    return tuple({"case": str(case)} for case in cases[:SHOWN])


def _lesion(lesions: Lesions, row: int) -> dict[str, Any]:
    return {
        "case": str(lesions.case[row]),
        "world_mm": lesions.world_mm[row].tolist(),
        "diameter_mm": float(lesions.diameter_mm[row]),
    }


def _candidate(candidates: Candidates, row: int) -> dict[str, Any]:
    score = float(candidates.score[row])
    return {
        "case": str(candidates.case[row]),
        "world_mm": candidates.world_mm[row].tolist(),
        "score": score if np.isfinite(score) else None,
        "row": int(row),
    }
