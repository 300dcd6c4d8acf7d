"""What counts as a hit where boxes or masks are given: rules for ``froc.match()``.

    centres, box sizes ──overlap_rules()──┐
    parts of a label map ──mask_rules()───┴──▶ HitRules ──▶ match(..., rules)

A rule decides which pairs of finding and candidate are hits.  Everything else is as with the
distance to the centre: a lesion has the best score among its hits, its other hits count neither
way, and one candidate may detect two lesions.
"""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real

import numpy as np

from nodule_det.arrays import BoolArray, FloatArray, IntArray
from nodule_det.errors import FrocInputError
from nodule_det.froc import Candidates, HitRule, HitRules, Lesions, near_centre
from nodule_det.progress import counted


def box_iou(
    center_mm: FloatArray, size_mm: FloatArray, other_mm: FloatArray, other_size_mm: FloatArray
) -> FloatArray:
    """Compute the intersection over union of boxes, pair by pair.

    Args:
        center_mm: (n, 3) centres of the first boxes.
        size_mm: (n, 3) their edges.
        other_mm: (n, 3) centres of the second boxes.
        other_size_mm: (n, 3) their edges.

    Returns:
        (n,) volumes of the intersections over those of the unions, in [0, 1].
    """
    low = np.maximum(center_mm - size_mm / 2, other_mm - other_size_mm / 2)
    high = np.minimum(center_mm + size_mm / 2, other_mm + other_size_mm / 2)
    common = np.maximum(high - low, 0.0).prod(axis=1)
    union = size_mm.prod(axis=1) + other_size_mm.prod(axis=1) - common
    return np.asarray(common / union, np.float64)


def overlap_rules(
    lesions: tuple[Lesions, FloatArray],
    candidates: tuple[Candidates, FloatArray],
    excluded: tuple[Lesions, FloatArray],
    least_iou: float,
) -> HitRules:
    """Return the rules by which a candidate whose box overlaps a finding's box is a hit.

    Args:
        lesions: Findings that count, and (n, 3) edges (x, y, z) of their boxes in mm.
        candidates: Output of the detector, and its boxes.
        excluded: Other findings, and their boxes.  One without a positive size is hit by candidates
            near its centre, as in :func:`nodule_det.froc.near_centre`.
        least_iou: Smallest intersection over union of a hit.

    Raises:
        FrocInputError: If ``least_iou`` is not in (0, 1], or a lesion or candidate has a box
            without volume.
    """
    _check_iou(least_iou)
    for (table, size_mm), what in ((lesions, "lesions"), (candidates, "candidates")):
        _check_sizes(table, size_mm, what)
    left_out, left_out_mm = excluded
    boxed: BoolArray = np.all(left_out_mm > 0, axis=1)
    by_box = _overlap(excluded, candidates, least_iou)
    by_centre = near_centre(left_out, candidates[0])

    def hits_excluded(finding: IntArray, candidate: IntArray) -> BoolArray:
        boxes, centres = by_box(finding, candidate), by_centre(finding, candidate)
        return np.asarray(np.where(boxed[finding], boxes, centres), np.bool_)

    return HitRules(_overlap(lesions, candidates, least_iou), hits_excluded)


def _overlap(
    findings: tuple[Lesions, FloatArray],
    candidates: tuple[Candidates, FloatArray],
    least_iou: float,
) -> HitRule:
    (table, size_mm), (found, found_mm) = findings, candidates
    size_mm = np.where(size_mm > 0, size_mm, 0.0)  # NaN and -1 of excluded findings

    def hits(finding: IntArray, candidate: IntArray) -> BoolArray:
        iou = box_iou(
            table.world_mm[finding],
            size_mm[finding],
            found.world_mm[candidate],
            found_mm[candidate],
        )
        return np.asarray(iou >= least_iou)

    return hits


def _check_sizes(table: Lesions | Candidates, size_mm: FloatArray, what: str) -> None:
    if size_mm.shape != (len(table), 3):
        raise FrocInputError(
            f"boxes of {what} have shape {size_mm.shape}, expected ({len(table)}, 3)"
        )
    bad = np.flatnonzero(~((size_mm > 0) & np.isfinite(size_mm)).all(axis=1))
    if len(bad):
        raise FrocInputError(
            f"{counted(len(bad), 'box', 'boxes')} of {what} without a positive size; the first is "
            f"row {bad[0]} of case {table.case[bad[0]]}, {size_mm[bad[0]].tolist()} mm"
        )


def mask_rules(
    lesion_part: IntArray,
    candidate_part: IntArray,
    excluded: Lesions,
    candidates: Candidates,
) -> HitRules:
    """Return the rules by which a candidate inside a lesion's mask is a hit.

    Excluded findings have no masks as a rule: candidates near their centre hit them.

    Args:
        lesion_part: (n_lesions,) number of the part of its scan's mask that is the lesion.
        candidate_part: (n_candidates,) part in which the candidate's point lies, 0 for none.
        excluded: Findings that are neither lesion nor background.
        candidates: Output of the detector.
    """

    def hits(lesion: IntArray, candidate: IntArray) -> BoolArray:
        return np.asarray(lesion_part[lesion] == candidate_part[candidate])

    return HitRules(hits, near_centre(excluded, candidates))


def mask_iou_rules(
    parts: tuple[IntArray, IntArray],
    tables: tuple[Lesions, Candidates, Lesions],
    iou: Mapping[str, FloatArray],
    least_iou: float,
) -> HitRules:
    """Return the rules by which a candidate whose mask overlaps a lesion's mask is a hit.

    Args:
        parts: (n_lesions,) and (n_candidates,) number of each one's part of its scan's mask.
        tables: Lesions, candidates and excluded findings.
        iou: Scan -> (parts of lesions, parts of candidates) intersection over union; scans without
            lesions need none.
        least_iou: Smallest intersection over union of a hit.

    Raises:
        FrocInputError: If ``least_iou`` is not in (0, 1].
    """
    _check_iou(least_iou)
    of_lesion, of_candidate = parts
    lesions, candidates, excluded = tables

    def hits(lesion: IntArray, candidate: IntArray) -> BoolArray:
        hit, cases = np.zeros(len(lesion), bool), lesions.case[lesion]
        for case in np.unique(cases).tolist():
            mine = np.flatnonzero(cases == case)
            pair = of_lesion[lesion[mine]], of_candidate[candidate[mine]]
            hit[mine] = iou[case][pair] >= least_iou
        return hit

    return HitRules(hits, near_centre(excluded, candidates))


def _check_iou(least_iou: float) -> None:
    if not (isinstance(least_iou, Real) and 0 < least_iou <= 1):
        raise FrocInputError(f"iou={least_iou} must be above 0 and at most 1, such as 0.1")
