"""Where the lungs are: dark, inside the body, large, and closed over vessels and wall nodules.

volume, grid ──coarse (2.5 mm)──▶ threshold ──▶ components ──▶ closing ──▶ mask, its grid
"""

from __future__ import annotations

from math import ceil

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nodule_det.arrays import BoolArray, FloatArray
from nodule_det.data.scan import HuVolume
from nodule_det.errors import ScanError
from nodule_det.geometry import Grid

Mask = BoolArray

COARSE_MM = 2.5
LUNG_BELOW_HU = -400
CLOSING_MM = 15.0
"""Radius of the closing.  A ball of this radius, rolled along the wall, does not fall into the pit
that a nodule leaves there: one of 20 mm is covered to its centre and beyond."""
ROUNDING_MM = 0.01
"""Many distances are 15 mm but for the last digits of a header; all of them count as within."""
SMALLEST_LUNG_ML = 150.0
MOST_PARTS = 4
"""Lungs come as one part (joined by the airways), two, or a few where disease divides them."""


def coarse_steps(grid: Grid) -> tuple[int, int, int]:
    """Return the subsampling along (z, y, x) that comes nearest to ``COARSE_MM``.

    Halves go down: 1 mm and 0.9999999999999998 mm, as formats write it, must come to the same.
    """
    z, y, x = (max(1, ceil(COARSE_MM / s - 0.5 - 1e-6)) for s in grid.spacing_mm)
    return z, y, x


def lung_mask(volume_hu: HuVolume, grid: Grid, name: str) -> Mask:
    """Find the lungs.

    Args:
        volume_hu: (z, y, x) HU; only every n-th voxel is looked at (``coarse_steps``).
        grid: Where its voxels lie.
        name: The scan, for the error.

    Returns:
        Mask of the coarse grid ``volume[::sz, ::sy, ::sx]``.

    Raises:
        ScanError: If nothing looks like a lung.
    """
    steps = coarse_steps(grid)
    coarse = volume_hu[tuple(slice(None, None, s) for s in steps)]
    spacing_mm = np.asarray(grid.spacing_mm) * steps
    labels, n = ndimage.label(coarse < LUNG_BELOW_HU)
    sizes_ml = np.bincount(labels.ravel(), minlength=n + 1) * float(np.prod(spacing_mm)) / 1000
    sizes_ml[0] = 0
    sizes_ml[_outside(labels)] = 0
    parts = [i for i in np.argsort(-sizes_ml)[:MOST_PARTS] if sizes_ml[i] >= SMALLEST_LUNG_ML]
    if not parts:
        raise ScanError(
            f"no lungs were found in {name}: no dark part inside the body reaches "
            f"{SMALLEST_LUNG_ML:g} ml; is it a chest CT in HU? masks=FOLDER takes masks of your own"
        )
    return _close(np.isin(labels, parts), spacing_mm)


def _outside(labels: NDArray[np.integer]) -> NDArray[np.integer]:
    """Name the parts that touch the sides of the scan: air around the patient."""
    sides = [labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1]]
    return np.unique(np.concatenate([side.ravel() for side in sides]))


def _close(mask: Mask, spacing_mm: FloatArray) -> Mask:
    """Close a mask by a ball, through two distance transforms; borders are open."""
    pad = [int(np.ceil(CLOSING_MM / s)) + 1 for s in spacing_mm]
    padded = np.pad(mask, [(p, p) for p in pad])
    radius_mm = CLOSING_MM + ROUNDING_MM
    grown = ndimage.distance_transform_edt(~padded, sampling=spacing_mm) <= radius_mm
    closed = ndimage.distance_transform_edt(grown, sampling=spacing_mm) > radius_mm
    inner = closed[tuple(slice(p, p + n) for p, n in zip(pad, mask.shape, strict=True))]
    return np.asarray(inner | mask)
