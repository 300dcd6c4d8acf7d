"""What a page shows of each scan: every lesion, found or missed, and the worst false positives.

StoredScan + candidates + Matched ──list_findings()──▶ rows of the page's case browser
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nodule_det.arrays import FloatArray
from nodule_det.data.store import StoredScan
from nodule_det.froc import MISSED, Candidates, Lesions, Matched
from nodule_det.report.cubes import EDGE, Cube, cut_cube, encode


@dataclass(frozen=True)
class Scored:
    """A detector's candidates, the truth, and what hit what.

    Attributes:
        lesions: Findings that count.
        notes: What else the annotation says of each lesion, in words.
        candidates: What the detector says.
        candidate_diameter_mm: (n,) diameter to draw each candidate with.
        matched: What hit what.
    """

    lesions: Lesions
    notes: Sequence[str]
    candidates: Candidates
    candidate_diameter_mm: FloatArray
    matched: Matched

    def place(self, lesion: int | None, row: int | None) -> tuple[FloatArray, float]:
        """Return centre and diameter of a lesion, or else of a candidate."""
        if lesion is not None:
            return self.lesions.world_mm[lesion], float(self.lesions.diameter_mm[lesion])
        return self.candidates.world_mm[row], float(self.candidate_diameter_mm[row])


def list_findings(
    scored: Scored,
    scans: dict[str, StoredScan],
    *,
    false_positives_per_scan: int,
    window_hu: tuple[int, int],
) -> Iterator[dict[str, Any]]:
    """Yield one row per finding, as ``page.js`` reads it, scan by scan.

    Args:
        scored: What was found, and what was there.
        scans: series_uid -> scan; every evaluated scan.
        false_positives_per_scan: How many of each scan to show, the surest ones.
        window_hu: HU shown black and white.
    """
    rising = np.sort(scored.matched.fp_score)
    number = 0
    for case, uid in enumerate(scored.matched.cases.tolist()):
        scan = scans[uid]
        volume = scan.volume()
        for outcome, lesion, row in _of_case(scored.matched, case, false_positives_per_scan):
            center, diameter = scored.place(lesion, row)
            cube = cut_cube(volume, scan.grid, center, diameter)
            score = None if row is None else float(scored.candidates.score[row])
            yield {
                "id": number,
                "scan": uid,
                "outcome": outcome,
                "diameter_mm": None if lesion is None else round(diameter, 2),
                "score": score,
                "fp_per_scan": None
                if score is None
                else _fp_per_scan(rising, score, scored.matched.n_cases),
                "world_mm": [round(float(v), 2) for v in center],
                "note": "" if lesion is None else scored.notes[lesion],
                "center": _voxel(cube, scan, center),
                "voxel_mm": cube.voxel_mm,
                "rings": _rings(cube, scan, scored, lesion, row),
                "image": encode(cube.volume_hu, window_hu),
            }
            number += 1


def _of_case(
    matched: Matched, case: int, false_positives: int
) -> Iterator[tuple[str, int | None, int | None]]:
    """Yield (outcome, lesion, candidate row) of a case; one of the two last is given, or both."""
    for lesion in np.flatnonzero(matched.lesion_case == case):
        row = int(matched.lesion_row[lesion])
        yield ("miss", int(lesion), None) if row == MISSED else ("hit", int(lesion), row)
    mine = np.flatnonzero(matched.fp_case == case)
    surest = mine[np.argsort(-matched.fp_score[mine], kind="stable")][:false_positives]
    for fp in surest:
        yield "fp", None, int(matched.fp_row[fp])


def _fp_per_scan(rising: FloatArray, score: float, n_cases: int) -> float:
    """Return the false positives per scan that a threshold at this score makes."""
    return float(len(rising) - np.searchsorted(rising, score, side="left")) / n_cases


def _voxel(cube: Cube, scan: StoredScan, world_mm: FloatArray) -> list[int]:
    """Return the voxel of the cube in which a point lies."""
    voxel = np.rint(cube.to_cube(scan.grid.to_voxel(world_mm))).astype(int)
    return [int(v) for v in np.clip(voxel, 0, EDGE - 1)]


def _rings(
    cube: Cube, scan: StoredScan, scored: Scored, lesion: int | None, row: int | None
) -> list[dict[str, Any]]:
    places = []
    if lesion is not None:
        places.append(("lesion", *scored.place(lesion, None)))
    if row is not None:
        places.append(("candidate", *scored.place(None, row)))
    return [
        {
            "kind": kind,
            "center": cube.to_cube(scan.grid.to_voxel(world_mm)),
            "radius": round(diameter_mm / 2 / cube.voxel_mm, 2),
        }
        for kind, world_mm, diameter_mm in places
    ]
