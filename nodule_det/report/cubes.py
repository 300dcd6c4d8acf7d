"""A small cube of a scan as one grey picture, so that a page can cut any plane out of it.

    StoredScan, point ──cut_cube()──▶ (EDGE, EDGE, EDGE) HU ──encode()──▶ data:image/jpeg

The picture is the cube's axial slices, feet first, tiled row by row.  A tile's edge is a multiple
of JPEG's blocks of 8 pixels, so compression never mixes two slices.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nodule_det.arrays import FloatArray
from nodule_det.data.scan import HuVolume
from nodule_det.geometry import Grid

EDGE = 56
"""Voxels along a cube's edge."""
COLUMNS = 8
"""Slices in a row of the picture."""
ROOM = 2.2
"""Edge of the cube over the diameter of what it shows, at least."""
QUALITY = 72
"""JPEG quality at which lung vessels look as they do uncompressed; about 35 kB a cube."""
AIR_HU = -1024


@dataclass(frozen=True)
class Cube:
    """A cut-out and where it lies.

    Attributes:
        volume_hu: (EDGE, EDGE, EDGE) HU, (z, y, x).
        low: (z, y, x) voxel of the scan at the cube's first voxel.
        step: Voxels of the scan per voxel of the cube; above 1 for what would not fit.
        voxel_mm: Edge of a voxel of the cube.
    """

    volume_hu: HuVolume
    low: FloatArray
    step: float
    voxel_mm: float

    def to_cube(self, voxel: FloatArray) -> list[float]:
        """Convert a voxel (z, y, x) of the scan to one of the cube."""
        return [round(float(v), 2) for v in (voxel - self.low) / self.step]


def cut_cube(volume_hu: HuVolume, grid: Grid, center_mm: FloatArray, diameter_mm: float) -> Cube:
    """Cut a cube around a point, with room for a lesion of that diameter; air lies outside."""
    spacing_mm = grid.spacing_mm[0]
    step = max(1.0, ROOM * diameter_mm / (EDGE * spacing_mm))
    low = np.round(grid.to_voxel(center_mm) - step * EDGE / 2)
    index = [np.rint(low[axis] + step * np.arange(EDGE)).astype(int) for axis in range(3)]
    inside = [(i >= 0) & (i < n) for i, n in zip(index, volume_hu.shape, strict=True)]
    cube = np.full((EDGE, EDGE, EDGE), AIR_HU, np.int16)
    there = np.ix_(*(i[ok] for i, ok in zip(index, inside, strict=True)))
    cube[np.ix_(*inside)] = volume_hu[there]
    return Cube(cube, low, step, step * spacing_mm)


def encode(cube: HuVolume, window_hu: tuple[int, int]) -> str:
    """Write a cube as a data URI."""
    low, high = window_hu
    grey = np.clip((cube.astype(np.float32) - low) * (255 / (high - low)), 0, 255)
    picture = _tile(np.rint(grey).astype(np.uint8))
    buffer = io.BytesIO()
    Image.fromarray(picture, "L").save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _tile(cube: NDArray[np.uint8]) -> NDArray[np.uint8]:
    rows = -(-EDGE // COLUMNS)
    filled = np.zeros((rows * COLUMNS, EDGE, EDGE), np.uint8)
    filled[:EDGE] = cube
    tiles = filled.reshape(rows, COLUMNS, EDGE, EDGE).transpose(0, 2, 1, 3)
    return tiles.reshape(rows * EDGE, COLUMNS * EDGE)
