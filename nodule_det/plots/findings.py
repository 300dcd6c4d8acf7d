"""A sheet of slices: detected nodules, missed nodules, and the worst false positives.

    scans + candidates + Matched ──save_findings()──▶ findings.png

The first figure to look at after a training: it shows at a glance whether the network mistakes
vessels for nodules, misses small nodules, or is off-centre.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from nodule_det.arrays import FloatArray
from nodule_det.candidates import ScanCandidates
from nodule_det.data.scan import MIN_HU, HuVolume
from nodule_det.data.store import StoredScan
from nodule_det.files import replacing
from nodule_det.froc import Matched
from nodule_det.plots.style import FALSE_POSITIVE, HIT, MISS, Mark

COLUMNS = 8
HALF_MM = 24.0
"""Half the edge of a tile: a nodule of 3 cm and what is around it."""
LUNG_WINDOW_HU = (-1350.0, 150.0)
"""Width 1500, level -600: what radiologists set for the lungs."""
BELOW: dict[str, Any] = {"ha": "center", "va": "top", "fontsize": 6.5}
UID_END = 8
"""Characters of a long id that are shown: ids of one data set differ at their end."""
SMALLEST_RING_MM = 10.0
"""Diameter of the smallest ring: a tighter one would hide the nodule that it marks."""


@dataclass(frozen=True)
class Tile:
    """A position in a scan, and its caption."""

    scan: StoredScan
    world_mm: FloatArray
    diameter_mm: float
    text: str


def save_findings(
    scans: Sequence[StoredScan],
    candidates: Sequence[ScanCandidates],
    matched: Matched,
    path: Path,
) -> None:
    """Draw up to eight of each outcome as axial slices with rings.

    True positives are spread over their scores, highest first.  False negatives are the largest
    ones, and false positives those with the highest scores.

    Args:
        scans: Evaluated scans.
        candidates: Candidates of each scan, in the same order.
        matched: Result of matching; rows are the candidates, and the lesions, of all scans in turn.
        path: PNG to write.
    """
    rows = [
        (HIT, hits(scans, matched)),
        (MISS, misses(scans, matched)),
        (FALSE_POSITIVE, false_positives(scans, candidates, matched)),
    ]
    figure = Figure(figsize=(1.5 * COLUMNS, 1.95 * len(rows) + 0.4), layout="constrained")
    grid = figure.subplots(len(rows), COLUMNS, squeeze=False)
    for (mark, (tiles, n)), axes in zip(rows, grid, strict=True):
        for ax in axes:
            ax.set_axis_off()
            ax.set_box_aspect(1)  # empty ones too, so that all rows have the same height
        for ax, tile in zip(axes, tiles, strict=False):
            _draw(ax, tile, mark)
        axes[0].set_title(f"{n} {mark.name}", loc="left", color="black", fontsize=9)
    low, high = LUNG_WINDOW_HU
    figure.supxlabel(
        f"Axial slices of {2 * HALF_MM:g} mm, window W {high - low:g} L {(low + high) / 2:g} HU.  "
        "R: right of the patient.  Found lesions by score, missed ones by size, false positives by "
        "score.  Slices are counted from the head, in the source series.",
        fontsize=8,
    )
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def hits(scans: Sequence[StoredScan], matched: Matched) -> tuple[list[Tile], int]:
    """Choose true positives spread over the ranks of their scores; also return their number."""
    found = np.flatnonzero(matched.found)
    found = found[np.argsort(-matched.lesion_score[found], kind="stable")]
    ranks = np.unique(np.linspace(0, len(found) - 1, min(COLUMNS, len(found))).round().astype(int))
    places = _lesions(scans)
    tiles = []
    for i in found[ranks]:
        scan, world_mm, diameter_mm = places[i]
        text = f"score {matched.lesion_score[i]:.2f}, {diameter_mm:.1f} mm"
        tiles.append(Tile(scan, world_mm, diameter_mm, text))
    return tiles, len(found)


def misses(scans: Sequence[StoredScan], matched: Matched) -> tuple[list[Tile], int]:
    """Choose the largest missed lesions; also return the number of missed ones."""
    missed = np.flatnonzero(~matched.found)
    places = _lesions(scans)
    largest = sorted(missed, key=lambda i: -places[i][2])[:COLUMNS]
    return [Tile(*places[i], f"{places[i][2]:.1f} mm") for i in largest], len(missed)


def false_positives(
    scans: Sequence[StoredScan], candidates: Sequence[ScanCandidates], matched: Matched
) -> tuple[list[Tile], int]:
    """Choose the false positives with the highest scores; also return their number."""
    ends = np.cumsum([len(found) for found in candidates])
    tiles = []
    for k in np.argsort(-matched.fp_score, kind="stable")[:COLUMNS]:
        row = int(matched.fp_row[k])
        i = int(np.searchsorted(ends, row, side="right"))
        j = row - int(ends[i] - len(candidates[i]))
        found = candidates[i]
        diameter_mm = float(found.diameter_mm[j])
        text = f"score {found.score[j]:.2f}"
        tiles.append(Tile(scans[i], found.world_mm[j], diameter_mm, text))
    return tiles, len(matched.fp_score)


def _lesions(scans: Sequence[StoredScan]) -> list[tuple[StoredScan, FloatArray, float]]:
    return [(s, np.asarray(f.center_mm), f.diameter_mm) for s in scans for f in s.lesions]


def _draw(ax: Axes, tile: Tile, mark: Mark) -> None:
    spacing_mm = tile.scan.grid.spacing_mm
    image, (y, x) = crop(
        tile.scan.volume(), tile.scan.grid.to_voxel(tile.world_mm), HALF_MM / spacing_mm[1]
    )
    low, high = LUNG_WINDOW_HU
    ax.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    radius_vox = max(1.6 * tile.diameter_mm, SMALLEST_RING_MM) / 2 / spacing_mm[1]
    ax.add_patch(
        Circle((x, y), radius_vox, fill=False, color=mark.colour, linestyle=mark.line, lw=1.4)
    )
    ax.text(0.5, -0.02, f"{tile.text}\n{place(tile)}", transform=ax.transAxes, **BELOW)
    right = ax.text(0.03, 0.5, "R", transform=ax.transAxes, color="white", fontsize=7, va="center")
    right.set_path_effects([withStroke(linewidth=1.5, foreground="black")])


def place(tile: Tile) -> str:
    """Return the end of the scan's id, and the number of the slice from the head.

    Stores of earlier versions do not know the slices of the source: theirs are called resampled.
    """
    grid = tile.scan.source_grid or tile.scan.grid
    n, k = grid.size_vox[0], round(float(grid.to_voxel(tile.world_mm)[0]))
    head_first = grid.to_world([n - 1, 0, 0])[2] < grid.to_world([0, 0, 0])[2]
    number = k + 1 if head_first else n - k
    uid = tile.scan.series_uid
    short = uid if len(uid) <= UID_END else f"…{uid[-UID_END:]}"
    name = "slice" if tile.scan.source_grid else "resampled"
    return f"{short}, {name} {number}/{n}"


def crop(
    volume_hu: HuVolume, voxel: FloatArray, half_vox: float
) -> tuple[NDArray[np.int16], tuple[float, float]]:
    """Cut an axial square around a voxel, with air where it leaves the scan.

    Args:
        volume_hu: (z, y, x) HU.
        voxel: (3,) continuous centre (z, y, x).
        half_vox: Half the edge of the square.

    Returns:
        (2 half + 1, 2 half + 1) HU, and the position of the centre in it, (y, x).
    """
    reach = round(half_vox)
    z, y, x = np.round(voxel).astype(int)
    out = np.full((2 * reach + 1, 2 * reach + 1), MIN_HU, np.int16)
    plane = volume_hu[min(max(z, 0), len(volume_hu) - 1)]
    top, left = max(y - reach, 0), max(x - reach, 0)
    part = plane[top : max(y + reach + 1, 0), left : max(x + reach + 1, 0)]
    at_y, at_x = top - (y - reach), left - (x - reach)
    out[at_y : at_y + part.shape[0], at_x : at_x + part.shape[1]] = part
    return out, (float(voxel[1] - y + reach), float(voxel[2] - x + reach))
