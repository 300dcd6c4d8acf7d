"""Positions of voxels in the patient: the only conversion between array indices and millimetres.

    voxel (z, y, x) ──Grid.to_world()──▶ world (x, y, z) mm, LPS ──Grid.to_voxel()──▶ voxel

A voxel is a continuous array index; an integer is a voxel's *centre*.  World is millimetres in
LPS (x to the patient's left, y to the back, z to the head), as in DICOM and ITK.  NIfTI's RAS is
converted to LPS only in :func:`grid_from_ras_affine`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from nodule_det.arrays import BoolArray, FloatArray
from nodule_det.errors import GeometryError

Triple = tuple[float, float, float]

IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
ORTHONORMAL_TOLERANCE = 1e-3
"""Tolerated deviation of direction cosines from orthonormal: headers have 4-6 digits."""


@dataclass(frozen=True, slots=True)
class Grid:
    """A regular grid of voxels in the patient.

    Attributes:
        size_vox: (z, y, x) number of voxels.
        spacing_mm: (z, y, x) distance between neighbouring voxel centres, in mm.
        origin_mm: (x, y, z) world position of the centre of voxel (0, 0, 0), in mm, LPS.
        direction: 3 x 3 rows; column j is the world direction (x, y, z) of the j-th index axis
            in ITK's order (x, y, z), so the identity is a scan in standard orientation.

    Raises:
        GeometryError: If a spacing is not positive and finite, or the axes are not orthonormal
            (a sheared grid, as from an uncorrected gantry tilt).
    """

    size_vox: tuple[int, int, int]
    spacing_mm: Triple
    origin_mm: Triple
    direction: tuple[Triple, Triple, Triple] = IDENTITY

    def __post_init__(self) -> None:
        if min(self.size_vox) < 1:
            raise GeometryError(f"size_vox={self.size_vox} (z, y, x) has an empty axis")
        if not all(np.isfinite(s) and s > 0 for s in self.spacing_mm):
            raise GeometryError(
                f"spacing_mm={self.spacing_mm} (z, y, x) must be positive: "
                "check the voxel spacing in the header"
            )
        if not np.isfinite(self.origin_mm).all():
            raise GeometryError(f"origin_mm={self.origin_mm} is not finite")
        axes = np.asarray(self.direction, np.float64)
        if axes.shape != (3, 3) or not np.allclose(
            axes.T @ axes, np.eye(3), atol=ORTHONORMAL_TOLERANCE
        ):
            raise GeometryError(
                f"direction={axes.tolist()} has axes that are not perpendicular unit vectors "
                "(an uncorrected gantry tilt?); resample the scan to an upright grid first"
            )

    @property
    def _step_mm(self) -> FloatArray:
        """(3, 3) matrix: world step (x, y, z) for one voxel along array axes (z, y, x)."""
        axes = np.asarray(self.direction, np.float64)[:, ::-1]
        return np.asarray(axes * np.asarray(self.spacing_mm), np.float64)

    def to_world(self, voxel: ArrayLike) -> FloatArray:
        """Convert voxels to world points.

        Args:
            voxel: (..., 3) continuous indices (z, y, x).

        Returns:
            (..., 3) points (x, y, z) in mm, LPS.

        Example:
            >>> grid = Grid((10, 20, 30), (2.0, 1.0, 1.0), (-5.0, 0.0, 100.0))
            >>> grid.to_world([1, 0, 3]).tolist()
            [-2.0, 0.0, 102.0]
        """
        world = np.asarray(voxel, np.float64) @ self._step_mm.T + np.asarray(self.origin_mm)
        return np.asarray(world, np.float64)

    def to_voxel(self, world: ArrayLike) -> FloatArray:
        """Convert world points (..., 3) (x, y, z) in mm to continuous voxels (..., 3) (z, y, x)."""
        offset = np.asarray(world, np.float64) - np.asarray(self.origin_mm)
        return np.asarray(offset @ np.linalg.inv(self._step_mm).T, np.float64)

    def contains(self, world: ArrayLike) -> BoolArray:
        """Return which world points (..., 3) are in the grid, including its outer voxel faces."""
        voxel = self.to_voxel(world)
        inside = (voxel >= -0.5) & (voxel <= np.asarray(self.size_vox) - 0.5)
        return np.asarray(inside.all(axis=-1))

    def crop(self, start: ArrayLike, size_vox: ArrayLike) -> Grid:
        """Return the sub-grid of ``size_vox`` voxels whose first voxel is ``start`` (z, y, x)."""
        z, y, x = (int(n) for n in np.asarray(size_vox))
        return Grid((z, y, x), self.spacing_mm, _triple(self.to_world(start)), self.direction)

    def as_dict(self) -> dict[str, Any]:
        """Return the grid as plain lists, for JSON."""
        return {
            "size_vox": list(self.size_vox),
            "spacing_mm": list(self.spacing_mm),
            "origin_mm": list(self.origin_mm),
            "direction": [list(row) for row in self.direction],
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Grid:
        """Read back what :meth:`as_dict` wrote."""
        z, y, x = (int(n) for n in values["size_vox"])
        rows = values["direction"]
        return cls(
            (z, y, x),
            _triple(values["spacing_mm"]),
            _triple(values["origin_mm"]),
            (_triple(rows[0]), _triple(rows[1]), _triple(rows[2])),
        )


def grid_from_ras_affine(affine: ArrayLike, size_xyz: ArrayLike) -> Grid:
    """Build the grid of a NIfTI image read with nibabel.

    Args:
        affine: (4, 4) voxel (x, y, z) -> RAS mm, as ``nibabel.Nifti1Image.affine``.
        size_xyz: (3,) shape of nibabel's array, in its order (x, y, z).

    Raises:
        GeometryError: If the affine is singular or sheared.
    """
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.asarray(affine, np.float64)
    spacing_xyz = np.linalg.norm(lps[:3, :3], axis=0)
    if not (spacing_xyz > 0).all():
        raise GeometryError(f"the affine {np.asarray(affine).tolist()} has no spacing on an axis")
    axes = lps[:3, :3] / spacing_xyz
    x, y, z = (int(n) for n in np.asarray(size_xyz))
    return Grid(
        (z, y, x),
        _triple(spacing_xyz[::-1]),
        _triple(lps[:3, 3]),
        (_triple(axes[0]), _triple(axes[1]), _triple(axes[2])),
    )


def _triple(values: ArrayLike) -> Triple:
    a, b, c = (float(v) for v in np.asarray(values, np.float64))
    return a, b, c
