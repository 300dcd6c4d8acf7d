"""What becomes of a scan before a network sees it, in ingest and in predict alike.

Scan ──canonical──▶ lung mask ──▶ box of the lungs ──resample──▶ Prepared
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nodule_det.arrays import FloatArray
from nodule_det.config.data import StoreConfig
from nodule_det.data.preprocess.lungs import (
    Mask,
    coarse_steps,
    find_lungs,
    lung_volumes,
    volume_notes,
)
from nodule_det.data.preprocess.resample import canonical, resample, target_grid
from nodule_det.data.scan import Finding, Prepared, Scan
from nodule_det.errors import ScanError
from nodule_det.geometry import Grid

LESION_ROOM_MM = 8.0
"""Kept around a lesion that lies outside the box of the lungs."""

ROUNDING = 1e-4
"""Share of a voxel by which headers of one scan in different formats differ."""


def prepare(
    scan: Scan,
    config: StoreConfig,
    findings: Sequence[Finding] = (),
    *,
    mask: NDArray[np.uint8] | None = None,
    labels: NDArray[np.uint8] | None = None,
) -> Prepared:
    """Crop a scan to its lungs and bring it to isotropic spacing.

    Args:
        scan: As it was read.
        config: Spacing and margin.
        findings: The box is widened to hold the lesions among them, wherever they lie.
        mask: (z, y, x) lung mask of the scan's own grid, which wins over ours.
        labels: (z, y, x) lesion labels of the scan's own grid.

    Raises:
        ScanError: If no lungs are found, or the mask is empty.
    """
    volume, grid = canonical(scan.volume_hu, scan.grid)
    if mask is None:
        lungs = find_lungs(volume, grid, scan.series_uid)
        lung, lung_ml, steps = lungs.mask, (lungs.right_ml, lungs.left_ml), coarse_steps(grid)
    else:
        lung, steps = canonical(mask, scan.grid)[0] > 0, (1, 1, 1)
        if not lung.any():
            raise ScanError(f"the lung mask of {scan.series_uid} is empty; make it again")
        middle = lung.shape[2] / 2
        lung_ml = lung_volumes(lung, float(np.prod(grid.spacing_mm)) / 1000, middle)
    low, high = _box(lung, steps, grid, config.margin_mm, findings)
    target = target_grid(grid, low, high, config.spacing_mm)
    return Prepared(
        resample(volume, grid, target),
        target,
        nearest(lung, steps, grid, target) > 0,
        None
        if labels is None
        else nearest(canonical(labels, scan.grid)[0], (1, 1, 1), grid, target),
        scan.grid.spacing_mm,
        lung_ml,
        (*scan.notes, *volume_notes(*lung_ml)),
        scan.grid,
    )


def _box(
    lung: Mask,
    steps: tuple[int, int, int],
    grid: Grid,
    margin_mm: float,
    findings: Sequence[Finding],
) -> tuple[FloatArray, FloatArray]:
    """Return the first and last voxel, (z, y, x), of lungs plus margin and of all lesions."""
    voxels = [np.flatnonzero(lung.any(axis=other)) for other in ((1, 2), (0, 2), (0, 1))]
    margin = margin_mm / np.asarray(grid.spacing_mm)
    low = np.array([v[0] * s for v, s in zip(voxels, steps, strict=True)]) - margin
    high = np.array([v[-1] * s for v, s in zip(voxels, steps, strict=True)]) + margin
    for finding in findings:
        if not finding.excluded:
            center = grid.to_voxel(finding.center_mm)
            room = (finding.diameter_mm / 2 + LESION_ROOM_MM) / np.asarray(grid.spacing_mm)
            low, high = np.minimum(low, center - room), np.maximum(high, center + room)
    last = np.asarray(grid.size_vox) - 1
    return np.clip(np.floor(low), 0, last), np.clip(np.ceil(high), 0, last)


def nearest(
    volume: NDArray[np.generic], steps: tuple[int, int, int], grid: Grid, target: Grid
) -> NDArray[np.uint8]:
    """Look a mask or labels up at the voxels of another grid of the same directions.

    Args:
        volume: (z, y, x) at every ``steps``-th voxel of ``grid``.
        steps: Voxels of ``grid`` between two of ``volume``.
        grid: The scan's grid.
        target: Grid that is wanted.
    """
    start = grid.to_voxel(target.origin_mm)
    index = []
    for axis in range(3):
        step = target.spacing_mm[axis] / grid.spacing_mm[axis]
        at = (start[axis] + step * np.arange(target.size_vox[axis])) / steps[axis]
        # Halves go down, whatever the last digit of a header says: rint would make it a coin toss.
        below = np.ceil(at - 0.5 - ROUNDING).astype(int)
        index.append(np.clip(below, 0, volume.shape[axis] - 1))
    return np.asarray(volume[np.ix_(*index)], np.uint8)
