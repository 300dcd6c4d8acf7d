"""A volume on another spacing: separable cubic interpolation, widened where it shrinks.

    volume, grid ──resample(box, spacing)──▶ volume, grid

Each axis is one sparse matrix of taps, and only the box that they reach is ever touched.  Cubic
convolution keeps the peak of a 4 mm nodule, from which linear interpolation takes 60 HU; where
the new voxels are larger than the old, the kernel is widened by their ratio, which is the
low-pass filter that keeps noise from aliasing.

References:
    Keys (1981), Cubic convolution interpolation for digital image processing, IEEE TASSP 29(6).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from nodule_det.arrays import FloatArray
from nodule_det.data.scan import HuVolume, to_hu
from nodule_det.geometry import Grid, Triple

SHARPNESS = -0.5
"""Keys' parameter: the one value that reproduces quadratics."""


def canonical(volume: NDArray[Any], grid: Grid) -> tuple[NDArray[Any], Grid]:
    """Turn a scan so that its axes run nearest to feet-head, front-back, right-left.

    Axes are swapped and flipped, no voxel is computed: a network then sees every patient the same
    way round.  A rotated scan stays rotated by what is left, under 45 degrees.
    """
    axes = np.abs(np.asarray(grid.direction))  # rows: world x, y, z; columns: index x, y, z
    order: list[int] = []
    for world in (2, 1, 0):  # z, y, x: the array axis that runs most along each
        free = [j for j in range(3) if j not in order]
        order.append(max(free, key=lambda j: axes[world, j]))
    flipped = [grid.direction[world][j] < 0 for world, j in zip((2, 1, 0), order, strict=True)]
    array_axes = [2 - j for j in order]
    turned = volume.transpose(array_axes)
    turned = turned[tuple(slice(None, None, -1) if f else slice(None) for f in flipped)]
    return turned, _turned_grid(grid, array_axes, flipped)


def _turned_grid(grid: Grid, array_axes: list[int], flipped: list[bool]) -> Grid:
    first = np.zeros(3)
    for axis, flip in zip(array_axes, flipped, strict=True):
        first[axis] = grid.size_vox[axis] - 1 if flip else 0
    columns = np.asarray(grid.direction)[:, ::-1]  # columns of array axes (z, y, x)
    turned = np.stack(
        [columns[:, a] * (-1 if f else 1) for a, f in zip(array_axes, flipped, strict=True)], 1
    )[:, ::-1]
    z, y, x = (grid.size_vox[a] for a in array_axes)
    dz, dy, dx = (grid.spacing_mm[a] for a in array_axes)
    ox, oy, oz = (float(v) for v in grid.to_world(first))
    rows = [tuple(float(v) for v in row) for row in turned]
    return Grid((z, y, x), (dz, dy, dx), (ox, oy, oz), (rows[0], rows[1], rows[2]))  # type: ignore[arg-type]


def target_grid(grid: Grid, low: FloatArray, high: FloatArray, spacing_mm: float) -> Grid:
    """Lay an isotropic grid over a box of another grid.

    Args:
        grid: The scan's own.
        low: (z, y, x) first voxel of the box.
        high: (z, y, x) last voxel of the box, included.
        spacing_mm: Edge of the new voxels.
    """
    extent_mm = (np.asarray(high, float) - low) * grid.spacing_mm
    z, y, x = (int(n) for n in np.floor(extent_mm / spacing_mm + 1e-6) + 1)
    ox, oy, oz = (float(v) for v in grid.to_world(low))
    spacing: Triple = (spacing_mm, spacing_mm, spacing_mm)
    return Grid((z, y, x), spacing, (ox, oy, oz), grid.direction)


def resample(volume_hu: HuVolume, grid: Grid, target: Grid) -> HuVolume:
    """Compute HU on a grid of the same directions.

    Args:
        volume_hu: (z, y, x) HU.
        grid: Where its voxels lie.
        target: Where they are wanted.

    Returns:
        (z, y, x) int16 HU of ``target``.
    """
    start = grid.to_voxel(target.origin_mm)
    matrices, box = [], []
    for axis in (0, 1, 2):
        step = target.spacing_mm[axis] / grid.spacing_mm[axis]
        at = start[axis] + step * np.arange(target.size_vox[axis])
        matrix = taps(at, grid.size_vox[axis], step)
        reached = slice(int(matrix.indices.min()), int(matrix.indices.max()) + 1)
        matrices.append(matrix[:, reached])
        box.append(reached)
    values = np.asarray(volume_hu[tuple(box)], np.float32)
    for axis, matrix in enumerate(matrices):
        values = _along(values, axis, matrix)
    return to_hu(values, "the resampled scan")


def taps(at: FloatArray, n: int, step: float) -> sparse.csr_matrix:
    """Return the (m, n) matrix that interpolates n samples at m places; borders are repeated.

    Args:
        at: (m,) places, in samples.
        n: Samples.
        step: Distance of two places, in samples; above 1 the kernel is widened by it.
    """
    width = max(step, 1.0)
    reach = int(np.ceil(2 * width))
    offsets = np.arange(-reach, reach + 1)
    columns = np.floor(at)[:, None].astype(int) + offsets
    weights = _keys((at[:, None] - columns) / width)
    weights /= weights.sum(1, keepdims=True)
    rows = np.repeat(np.arange(len(at)), len(offsets))
    place = (rows, np.clip(columns, 0, n - 1).ravel())
    matrix = sparse.coo_matrix((weights.ravel().astype(np.float32), place), (len(at), n)).tocsr()
    matrix.eliminate_zeros()
    return matrix


def _keys(x: FloatArray) -> FloatArray:
    x = np.abs(x)
    a = SHARPNESS
    inner = ((a + 2) * x - (a + 3)) * x * x + 1
    outer = a * (((x - 5) * x + 8) * x - 4)
    return np.where(x < 1, inner, np.where(x < 2, outer, 0.0))


def _along(
    values: NDArray[np.float32], axis: int, matrix: sparse.csr_matrix
) -> NDArray[np.float32]:
    """Apply a matrix along one axis; the others are looped over in planes that fit the cache."""
    if axis == 0:
        flat = values.reshape(values.shape[0], -1)
        return np.asarray(matrix @ flat).reshape(-1, *values.shape[1:])
    out = np.empty(
        [matrix.shape[0] if i == axis else n for i, n in enumerate(values.shape)], np.float32
    )
    for k, plane in enumerate(values):
        out[k] = matrix @ plane if axis == 1 else (matrix @ plane.T).T
    return out
