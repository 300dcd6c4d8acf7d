"""Candidates in the wrong place: voxels, other axes or units, mirrored scans, corners of boxes.

Each check asks whether lesions that are missed as the input stands would be found if one known
mistake were undone, and in which scans.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from nodule_det.analysis.audit.finding import SHOWN, AuditFinding, Level, candidate_row, case_rows
from nodule_det.analysis.audit.job import AuditJob, Scan
from nodule_det.arrays import BoolArray, FloatArray, IntArray
from nodule_det.progress import counted, of_total

SCAN_MM = 700.0
"""No chest CT is so large that two of its points are further apart."""

NEAR_MM = 40.0
"""Shifts up to this length are looked for."""

SHIFT_MM = 2.0
"""Offsets that differ less are one shift."""

LEAST_SHIFT_MM = 1.5
"""Smaller shifts are errors of localisation."""

PAIRS = 3000
"""Offsets of missed lesions that are tried as a common shift."""

FEW_CANDIDATES = 3
"""Fewer candidates may lack a negative coordinate by chance."""

CHANCE = 1e-3
"""Coincidences rarer than this are reported."""

RAS = np.array([-1.0, -1.0, 1.0])

# What may have been done to (x, y, z), and what undoes it.
MISTAKES: dict[str, Callable[[FloatArray], FloatArray]] = {
    "x and z are swapped (array order z, y, x)": lambda p: p[:, ::-1],
    "x and y have the other sign (RAS instead of LPS)": lambda p: p * RAS,
    "x and z are swapped and x and y have the other sign": lambda p: p[:, ::-1] * RAS,
    "x and y are swapped": lambda p: p[:, [1, 0, 2]],
    "x has the other sign": lambda p: p * [-1.0, 1.0, 1.0],
    "y has the other sign": lambda p: p * [1.0, -1.0, 1.0],
    "z has the other sign": lambda p: p * [1.0, 1.0, -1.0],
    "the unit is cm instead of mm": lambda p: p * 10.0,
    "the unit is m instead of mm": lambda p: p * 1000.0,
}


def misplaced(job: AuditJob) -> Iterator[AuditFinding]:
    """Look for everything that puts candidates in the wrong place."""
    yield from _far_away(job)
    voxels = list(_voxels(job))
    yield from voxels
    axes = list(_wrong_axes(job))
    yield from axes
    if not axes and not voxels:
        yield from _mirrored(job)
        yield from _shifted(job)


def _far_away(job: AuditJob) -> Iterator[AuditFinding]:
    far: list[int] = []
    n = 0
    for scan in job.scans:
        away = job.candidates.world_mm[scan.candidates] - job.lesions.world_mm[scan.lesions[0]]
        far += scan.candidates[(away * away).sum(axis=1) > SCAN_MM**2].tolist()
        n += len(scan.candidates)
    if far:
        yield AuditFinding(
            Level.WARNING,
            "outside_the_scan",
            f"{of_total(len(far), n, 'candidate', 'lies', 'lie')} more than {SCAN_MM:g} mm from a "
            "lesion of the same scan, farther than any scan reaches: check units and axes",
            tuple(candidate_row(job.candidates, row) for row in far[:SHOWN]),
        )


def _voxels(job: AuditJob) -> Iterator[AuditFinding]:
    """Notice voxel indices: never negative where lesions are, and no lesion is found."""
    odd = [scan for scan in job.silent if _looks_like_voxels(job, scan)]
    rows = np.concatenate([scan.candidates for scan in odd]) if odd else np.empty(0, np.int64)
    if len(rows) < FEW_CANDIDATES and len(odd) < len(job.scans):
        return
    if odd:
        points = job.candidates.world_mm[rows]
        whole = float((points == np.round(points)).mean())
        yield AuditFinding(
            Level.WARNING,
            "voxel_coordinates",
            f"in {of_total(len(odd), len(job.scans), 'scan')} no lesion is found and no candidate "
            f"has a negative coordinate, but lesions have ({whole:.0%} of the coordinates are "
            "whole numbers): these look like voxels. Convert them to world mm with the scan's "
            "origin, spacing and direction",
            case_rows(scan.case for scan in odd),
        )


def _looks_like_voxels(job: AuditJob, scan: Scan) -> bool:
    lesions = job.lesions.world_mm[scan.lesions]
    return bool((lesions < 0).any() and (job.candidates.world_mm[scan.candidates] >= 0).all())


def _wrong_axes(job: AuditJob) -> Iterator[AuditFinding]:
    best: tuple[int, str, list[Scan]] = (0, "", [])
    for what, undo in MISTAKES.items():
        gained = [(scan, int(_found(job, scan, undo).sum())) for scan in job.silent]
        scans = [scan for scan, n in gained if n]
        n = sum(n for _, n in gained)
        if n > best[0]:
            best = (n, what, scans)
    n, what, scans = best
    if n < max(2, 0.02 * job.matched.n_lesions):
        return
    found = int(job.matched.found.sum())
    yield AuditFinding(
        Level.WARNING,
        "wrong_axes",
        f"{of_total(found, job.matched.n_lesions, 'lesion', 'is', 'are')} found, but {found + n} "
        f"would be if in {of_total(len(scans), len(job.scans), 'scan')} {what}: undo that, "
        "candidates need world mm (x, y, z), LPS",
        case_rows(scan.case for scan in scans),
    )


def _found(job: AuditJob, scan: Scan, undo: Callable[[FloatArray], FloatArray]) -> BoolArray:
    """Return which lesions of a scan are found once a mistake is undone."""
    points = undo(job.candidates.world_mm[scan.candidates])
    away = job.lesions.world_mm[scan.lesions][:, None] - points[None]
    radius = job.lesions.diameter_mm[scan.lesions] / 2
    return np.asarray(((away * away).sum(axis=2) < radius[:, None] ** 2).any(axis=1))


def _mirrored(job: AuditJob) -> Iterator[AuditFinding]:
    """Notice scans whose x and y are mirrored about an unknown plane: only z agrees.

    In each scan without a found lesion the best candidates, as many as it has lesions, are asked
    whether one has the z of a lesion.  By chance that happens in a known share of scans.
    """
    odd, chances = [], []
    for scan in job.silent:
        top = job.candidates.world_mm[scan.candidates[: len(scan.lesions)]]
        lesions = job.lesions.world_mm[scan.lesions]
        radius = job.lesions.diameter_mm[scan.lesions] / 2
        z = np.abs(top[None, :, 2] - lesions[:, None, 2]) < radius[:, None] / 2
        extent = float(np.ptp(job.candidates.world_mm[scan.candidates][:, 2])) + 1.0
        chance = min(0.9, len(top) * float(radius.sum()) / max(extent, 100.0))
        chances.append(chance)
        if z.any():
            odd.append(scan)
    if len(odd) < 3 or _at_least(len(odd), np.array(chances)) > CHANCE:
        return
    yield AuditFinding(
        Level.WARNING,
        "mirrored_scans",
        f"in {of_total(len(odd), len(job.silent), 'scan')} without a found lesion the best "
        "candidates have the z of a lesion, but not its x and y: x and y may be mirrored, as in "
        "LUNA16's flipped scans. Use the scan's direction (TransformMatrix) when converting to "
        "world mm",
        case_rows(scan.case for scan in odd),
    )


def _at_least(n: int, chances: FloatArray) -> float:
    """Return the chance of n or more successes of independent tries."""
    distribution = np.array([1.0])
    for p in chances:
        distribution = np.convolve(distribution, [1 - p, p])
    return float(distribution[n:].sum())


def _shifted(job: AuditJob) -> Iterator[AuditFinding]:
    """Notice candidates that are all off by one vector, or by half a diameter along each axis."""
    lesion, offset = _offsets(job)
    if not len(offset):
        return
    found, total = int(job.matched.found.sum()), job.matched.n_lesions
    enough = found + max(3, 0.2 * total)
    radius = job.lesions.diameter_mm[lesion] / 2
    shift, n_shift = _common(lesion, offset, job.matched.found[lesion])
    corner, n_corner = _corner(lesion, offset / radius[:, None])
    if n_corner >= max(enough, n_shift + 1):
        name = ", ".join(f"{s:+g}" for s in corner)
        yield AuditFinding(
            Level.WARNING,
            "corner_for_centre",
            f"{of_total(found, total, 'lesion', 'is', 'are')} found, but "
            f"{counted(n_corner, 'lesion has', 'lesions have')} a candidate half a diameter away "
            f"along each axis ({name}): a corner of the box was taken for its centre. Use the "
            "centre of the box",
        )
    elif float(np.linalg.norm(shift)) < LEAST_SHIFT_MM:
        return
    elif n_shift >= enough or (n_shift >= max(8, 0.5 * total) and _is_biased(job, shift)):
        vector = ", ".join(f"{v:.1f}" for v in shift)
        yield AuditFinding(
            Level.WARNING,
            "shifted",
            f"{of_total(found, total, 'lesion', 'is', 'are')} found, and "
            f"{counted(n_shift, 'lesion has', 'lesions have')} a candidate that is off by nearly "
            f"the same vector, ({vector}) mm: a corner may have been taken for the centre, or an "
            "origin is wrong. Subtract the shift at its source",
        )


def _offsets(job: AuditJob) -> tuple[IntArray, FloatArray]:
    """Return the lesion and the offset (n, 3) of each candidate near a lesion."""
    lesion, offset = [np.empty(0, np.int64)], [np.empty((0, 3))]
    for scan in job.scans:
        points = job.candidates.world_mm[scan.candidates]
        for row in scan.lesions:
            away = points - job.lesions.world_mm[row]
            near = away[(away * away).sum(axis=1) < NEAR_MM**2]
            lesion.append(np.full(len(near), row))
            offset.append(near)
    return np.concatenate(lesion), np.concatenate(offset)


def _common(lesion: IntArray, offset: FloatArray, found: BoolArray) -> tuple[FloatArray, int]:
    """Return the offset that most lesions share, and how many do."""
    tried = np.concatenate([np.flatnonzero(~found), np.flatnonzero(found)])[:PAIRS]
    best, most = np.zeros(3), 0
    for i in tried:
        away = offset - offset[i]
        alike = (away * away).sum(axis=1) < SHIFT_MM**2
        n = len(np.unique(lesion[alike]))
        if n > most:
            best, most = np.median(offset[alike], axis=0), n
    return np.asarray(best, np.float64), most


def _corner(lesion: IntArray, offset: FloatArray) -> tuple[tuple[float, ...], int]:
    """Return the corner of the box, in radii, near which most lesions have a candidate."""
    counts = {}
    for signs in np.stack(np.meshgrid(*[[-1.0, 1.0]] * 3), axis=-1).reshape(-1, 3):
        away = offset - signs
        counts[tuple(signs.tolist())] = len(np.unique(lesion[(away * away).sum(axis=1) < 0.25]))
    corner = max(counts, key=lambda signs: counts[signs])
    return corner, counts[corner]


def _is_biased(job: AuditJob, shift: FloatArray) -> bool:
    """Return whether a shift is large against the lesions, and certain."""
    radius = float(np.median(job.lesions.diameter_mm)) / 2
    if float(np.linalg.norm(shift)) < 0.3 * radius:
        return False
    rows = job.matched.lesion_row[job.matched.found]
    if len(rows) < 8:
        return False
    away = job.candidates.world_mm[rows] - job.lesions.world_mm[job.matched.found]
    error = away.std(axis=0, ddof=1) / np.sqrt(len(rows)) + 1e-6
    return bool((np.abs(away.mean(axis=0)) / error).max() > 6)
