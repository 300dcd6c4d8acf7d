"""Candidates as a point list that 3D Slicer opens beside its scan (Markups JSON, ``.mrk.json``).

    ScanCandidates ──write_markups()──▶ UID.mrk.json

Slicer works in RAS.  The file declares its points as LPS, so Slicer converts them itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nodule_det.candidates import NO_COLUMNS, ScanCandidates, ScoreColumns
from nodule_det.files import write_json

SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/"
    "Resources/Schema/markups-schema-v1.0.3.json#"
)
SUFFIX = ".mrk.json"
"""Ending from which Slicer recognises the format."""


def write_markups(
    path: Path, found: ScanCandidates, most: int, extra: ScoreColumns = NO_COLUMNS
) -> None:
    """Write the best candidates of a scan, whole or not at all.

    Args:
        path: File; its name must end in ``.mrk.json`` for Slicer to open it by itself.
        found: Candidates, the best first.
        most: Largest number of points to write.
        extra: Further figures of each score, by name, for the descriptions.
    """
    columns = {name: column(found.score).tolist() for name, column in extra.items()}
    points = [
        _point(i + 1, world_mm, score, diameter_mm, {name: v[i] for name, v in columns.items()})
        for i, (world_mm, score, diameter_mm) in enumerate(
            zip(
                found.world_mm[:most].tolist(),
                found.score[:most].tolist(),
                found.diameter_mm[:most].tolist(),
                strict=True,
            )
        )
    ]
    markup = {
        "type": "Fiducial",
        "name": "candidates",
        "coordinateSystem": "LPS",
        "coordinateUnits": "mm",
        "labelFormat": "%N-%d",
        "lastUsedControlPointNumber": len(points),
        "controlPoints": points,
    }
    write_json(path, {"@schema": SCHEMA, "markups": [markup]})


def _point(
    rank: int,
    world_mm: list[float],
    score: float,
    diameter_mm: float,
    more: Mapping[str, float],
) -> dict[str, Any]:
    others = "".join(f", {name.replace('_', ' ')} {value:.3g}" for name, value in more.items())
    return {
        "id": str(rank),
        "label": f"{rank}: {score:.2f}",
        "description": f"probability {score:.4f}, diameter {diameter_mm:.1f} mm{others}",
        "position": world_mm,
        "selected": True,
        "locked": False,
        "visibility": True,
        "positionStatus": "defined",
    }
