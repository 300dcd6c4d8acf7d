"""Content of the page: every lesion, detected or missed, and the strongest false positives.

Scored + Scans ──list_findings()──▶ rows of the page's list, with their pictures
Scored ──list_cases()──▶ the scores of every scan, for the operating point
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nodule_det.arrays import FloatArray
from nodule_det.froc import MISSED, Candidates, Lesions, Matched
from nodule_det.geometry import Grid
from nodule_det.report.cubes import EDGE, Cube, cut_cube, cut_slice, encode, encode_cube
from nodule_det.report.scans import Scans, ScanVoxels


@dataclass(frozen=True)
class Scored:
    """A detector's candidates, the annotated lesions, and their matching.

    Attributes:
        lesions: Findings that count.
        notes: Other annotations of each lesion.
        candidates: The detector's output.
        candidate_diameter_mm: (n,) diameter with which to draw each candidate.
        matched: Result of the matching.
    """

    lesions: Lesions
    notes: Sequence[str]
    candidates: Candidates
    candidate_diameter_mm: FloatArray
    matched: Matched

    def place(self, lesion: int | None, row: int | None) -> tuple[FloatArray, float]:
        """Return centre and diameter of a lesion, or otherwise of a candidate."""
        if lesion is not None:
            return self.lesions.world_mm[lesion], float(self.lesions.diameter_mm[lesion])
        return self.candidates.world_mm[row], float(self.candidate_diameter_mm[row])


def list_cases(matched: Matched) -> list[dict[str, Any]]:
    """Return the scores in every scan: of its lesions (None if missed) and false positives."""
    return [
        {
            "uid": uid,
            "lesions": [
                round(float(matched.lesion_score[i]), 6) if matched.found[i] else None
                for i in np.flatnonzero(matched.lesion_case == case)
            ],
            "fps": np.sort(matched.fp_score[matched.fp_case == case])[::-1].round(6).tolist(),
        }
        for case, uid in enumerate(matched.cases.tolist())
    ]


def list_findings(
    scored: Scored, scans: Scans, *, false_positives_per_scan: int
) -> Iterator[dict[str, Any]]:
    """Yield one row per finding, as ``page.js`` reads it, scan by scan.

    Args:
        scored: Candidates and lesions.
        scans: Every evaluated scan.
        false_positives_per_scan: Number to show of each scan, those with the highest scores.
    """
    rising = np.sort(scored.matched.fp_score)
    number = 0
    for case, uid in enumerate(scored.matched.cases.tolist()):
        found = list(_of_case(scored.matched, case, false_positives_per_scan))
        if not found:
            continue
        voxels = scans.read(uid)
        for outcome, lesion, row in found:
            score = None if row is None else float(scored.candidates.score[row])
            yield {
                "id": number,
                "scan": uid,
                "case": case,
                "outcome": outcome,
                "diameter_mm": None if lesion is None else round(scored.place(lesion, None)[1], 2),
                "score": None if score is None else round(score, 6),
                "fp_per_scan": None
                if score is None
                else _fp_per_scan(rising, score, scored.matched.n_cases),
                "note": "" if lesion is None else scored.notes[lesion],
                **_pictures(voxels, scored, lesion, row),
            }
            number += 1


def _of_case(
    matched: Matched, case: int, false_positives: int
) -> Iterator[tuple[str, int | None, int | None]]:
    """Yield (outcome, lesion, row of the candidate) of a scan; a missed lesion has no row."""
    for lesion in np.flatnonzero(matched.lesion_case == case):
        row = int(matched.lesion_row[lesion])
        yield ("miss", int(lesion), None) if row == MISSED else ("hit", int(lesion), row)
    mine = np.flatnonzero(matched.fp_case == case)
    strongest = mine[np.argsort(-matched.fp_score[mine], kind="stable")][:false_positives]
    for fp in strongest:
        yield "fp", None, int(matched.fp_row[fp])


def _fp_per_scan(rising: FloatArray, score: float, n_cases: int) -> float:
    """Return the false positives per scan at a threshold equal to this score."""
    return float(len(rising) - np.searchsorted(rising, score, side="left")) / n_cases


def _pictures(
    voxels: ScanVoxels, scored: Scored, lesion: int | None, row: int | None
) -> dict[str, Any]:
    """Return the cube and the axial slice of a finding, and what is drawn on them."""
    volume, grid = voxels.volume_hu, voxels.grid
    center, diameter = scored.place(lesion, row)
    cube = cut_cube(volume, grid, center, diameter)
    whole = cut_slice(volume, grid, float(center[2]))
    place = (center[:2] - whole.first_mm) / whole.pixel_mm
    return {
        "world_mm": [round(float(v), 2) for v in center],
        "center": [int(v) for v in np.clip(np.rint(cube.to_cube(center)), 0, EDGE - 1)],
        "voxel_mm": round(cube.voxel_mm, 4),
        "first_mm": [round(float(v), 3) for v in cube.first_mm],
        "slices": _slices(voxels.source or grid) | {"resampled": voxels.source is None},
        "rings": _rings(cube, scored, lesion, row),
        "image": encode_cube(cube.volume_hu),
        "axial": {
            "image": encode(whole.image_hu),
            "pixel_mm": round(whole.pixel_mm, 4),
            "place": [round(float(v), 2) for v in place],
        },
    }


def _slices(grid: Grid) -> dict[str, Any]:
    """Return the numbering of axial slices: z of the one at the feet, their distance and number.

    The number is 0 for a scan whose slices are not axial: they have none in this view.
    """
    upright = abs(abs(grid.direction[2][2]) - 1) < 0.01
    n, step_mm = grid.size_vox[0], grid.spacing_mm[0]
    ends_mm = [float(grid.to_world([k, 0, 0])[2]) for k in (0, n - 1)]
    first_mm = round(min(ends_mm), 3)
    return {"first_mm": first_mm, "step_mm": round(step_mm, 4), "n": n if upright else 0}


def _rings(cube: Cube, scored: Scored, lesion: int | None, row: int | None) -> list[dict[str, Any]]:
    places = []
    if lesion is not None:
        places.append(("lesion", *scored.place(lesion, None)))
    if row is not None:
        places.append(("candidate", *scored.place(None, row)))
    return [
        {
            "kind": kind,
            "center": cube.to_cube(world_mm),
            "radius": round(diameter_mm / 2 / cube.voxel_mm, 2),
        }
        for kind, world_mm, diameter_mm in places
    ]
