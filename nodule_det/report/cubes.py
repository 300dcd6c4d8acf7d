"""Images of a finding: a small cube from which any plane can be cut, and the whole axial slice.

    volume, Grid, point ──cut_cube()──▶ (EDGE, EDGE, EDGE) HU ──encode_cube()──▶ data:image/jpeg
                        └─cut_slice()─▶ (rows, columns) HU ─────encode()───────▶ data:image/jpeg

Both are sampled along the axes of the patient, so left and right are where a reader expects them.
The image of a cube shows its axial slices, feet first, tiled row by row.  The edge of a tile is a
multiple of JPEG's 8-pixel blocks, so compression never mixes two slices.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

from nodule_det.arrays import FloatArray
from nodule_det.data.scan import HuVolume
from nodule_det.geometry import Grid

EDGE = 56
"""Voxels along a cube's edge."""
COLUMNS = 8
"""Slices per row of the image."""
VOXEL_MM = 1.0
"""Largest voxel of a cube, unless the finding would not fit."""
MARGIN = 2.2
"""Smallest ratio of the cube's edge to the diameter of the finding."""
SLICE_PIXELS = 288
"""Largest edge of an axial slice: enough to see where in the lung a finding is."""
QUALITY = 88
"""JPEG quality at which a narrow window still looks uncompressed."""
AIR_HU = -1024

KNOTS_HU = (-1200, -200, 300, 1500)
KNOTS_GREY = (0, 95, 205, 255)
"""Grey levels by HU, linear in between.  256 levels then serve the windows of lung (10.5 HU a
level), mediastinum (4.5) and bone (24): each step is below the noise of a chest CT."""


@dataclass(frozen=True)
class Cube:
    """A cut-out and its position.

    Attributes:
        volume_hu: (EDGE, EDGE, EDGE) HU, (z, y, x), along the patient's axes.
        first_mm: World (x, y, z) of the centre of its first voxel.
        voxel_mm: Edge of a voxel.
    """

    volume_hu: HuVolume
    first_mm: FloatArray
    voxel_mm: float

    def to_cube(self, world_mm: FloatArray) -> list[float]:
        """Convert a world point (x, y, z) to a voxel (z, y, x) of the cube."""
        return [round(float(v), 2) for v in (world_mm - self.first_mm)[::-1] / self.voxel_mm]


@dataclass(frozen=True)
class Slice:
    """An axial slice through the whole scan, and its position.

    Attributes:
        image_hu: (rows, columns) HU; rows from front to back, columns from the patient's right.
        first_mm: World (x, y) of the centre of its first pixel.
        pixel_mm: Edge of a pixel.
    """

    image_hu: HuVolume
    first_mm: FloatArray
    pixel_mm: float


def cut_cube(volume_hu: HuVolume, grid: Grid, center_mm: FloatArray, diameter_mm: float) -> Cube:
    """Cut a cube around a point, large enough for a lesion of this diameter; air outside."""
    voxel_mm = max(min(min(grid.spacing_mm), VOXEL_MM), MARGIN * diameter_mm / EDGE)
    nearest_mm = grid.to_world(np.rint(grid.to_voxel(center_mm)))  # samples then meet voxels
    first_mm = nearest_mm - voxel_mm * (EDGE // 2)
    along = voxel_mm * np.arange(EDGE)
    z, y, x = np.meshgrid(along, along, along, indexing="ij")
    return Cube(_sample(volume_hu, grid, first_mm + np.stack([x, y, z], -1)), first_mm, voxel_mm)


def cut_slice(volume_hu: HuVolume, grid: Grid, z_mm: float) -> Slice:
    """Cut the axial slice at a height, over the whole extent of the scan."""
    size = np.asarray(grid.size_vox)
    corners_mm = grid.to_world(np.indices((2, 2, 2)).reshape(3, -1).T * (size - 1))
    low, high = corners_mm[:, :2].min(axis=0), corners_mm[:, :2].max(axis=0)
    pixel_mm = max(min(grid.spacing_mm), float((high - low).max()) / (SLICE_PIXELS - 1))
    columns, rows = (np.arange(n) for n in np.floor((high - low) / pixel_mm + 1.5).astype(int))
    y, x = np.meshgrid(low[1] + pixel_mm * rows, low[0] + pixel_mm * columns, indexing="ij")
    points_mm = np.stack([x, y, np.full_like(x, z_mm)], -1)
    return Slice(_sample(volume_hu, grid, points_mm), low, pixel_mm)


def _sample(volume_hu: HuVolume, grid: Grid, points_mm: FloatArray) -> HuVolume:
    """Return HU at world points (..., 3), interpolated linearly."""
    voxel = np.moveaxis(np.round(grid.to_voxel(points_mm), 6), -1, 0)
    hu = ndimage.map_coordinates(
        volume_hu, voxel, output=np.float32, order=1, mode="constant", cval=AIR_HU
    )
    return np.rint(hu).astype(np.int16)


def encode_cube(cube: HuVolume) -> str:
    """Return a cube as the data URI of one tiled image."""
    rows = -(-EDGE // COLUMNS)
    filled = np.full((rows * COLUMNS, EDGE, EDGE), AIR_HU, np.int16)
    filled[:EDGE] = cube
    tiles = filled.reshape(rows, COLUMNS, EDGE, EDGE).transpose(0, 2, 1, 3)
    return encode(tiles.reshape(rows * EDGE, COLUMNS * EDGE))


def encode(image_hu: HuVolume) -> str:
    """Return an image (rows, columns) as a data URI, in the grey levels of ``KNOTS_GREY``."""
    grey = np.rint(np.interp(image_hu, KNOTS_HU, KNOTS_GREY)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(grey, "L").save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
