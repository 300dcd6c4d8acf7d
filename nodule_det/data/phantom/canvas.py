"""Where a phantom is drawn: lattices of points, smooth random fields, and tubes.

    Lattice ──smooth_field(), resample()──▶ volumes ◀──draw_tubes()── Tubes

Points are (z, y, x) mm from the centre of the scan's first voxel.  Smooth structures (body, bones,
density of the lung) are drawn on a coarse lattice and resampled.  Only small structures are drawn
on the scan's own lattice.  Volumes are float32 throughout.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nodule_det.arrays import BoolArray, FloatArray
from nodule_det.geometry import Triple

Volume = NDArray[np.float32]
Points = FloatArray
Box = tuple[slice, slice, slice]
Axes = tuple[Volume, Volume, Volume]

TUBES_AT_ONCE = 256
"""Tubes drawn in one NumPy pass, few enough to stay in the CPU's cache."""


@dataclass(frozen=True, slots=True)
class Lattice:
    """An upright grid of points.

    Attributes:
        size_vox: (z, y, x) number of points.
        spacing_mm: (z, y, x) distance of neighbours, in mm.
        origin_mm: (z, y, x) position of the first point, in mm.
    """

    size_vox: tuple[int, int, int]
    spacing_mm: Triple
    origin_mm: Triple = (0.0, 0.0, 0.0)

    @property
    def extent_mm(self) -> Points:
        """(z, y, x) distance from the first point to the last, in mm."""
        return (np.asarray(self.size_vox) - 1.0) * self.spacing_mm

    def axes(self) -> Axes:
        """Return the positions along z, y and x, shaped to broadcast to a volume."""
        z, y, x = (
            np.float32(start) + np.arange(n, dtype=np.float32) * np.float32(step)
            for n, step, start in zip(self.size_vox, self.spacing_mm, self.origin_mm, strict=True)
        )
        return z[:, None, None], y[None, :, None], x[None, None, :]

    def coarser(self, spacing_mm: float) -> Lattice:
        """Cover the same extent with points about ``spacing_mm`` apart, but no closer than here."""
        step = np.maximum(self.spacing_mm, spacing_mm)
        z, y, x = (max(int(np.ceil(n)) + 1, 4) for n in self.extent_mm / step)
        spacing = self.extent_mm / (np.array([z, y, x]) - 1)
        a, b, c = (float(v) for v in np.where(spacing > 0, spacing, step))  # an axis of one point
        return Lattice((z, y, x), (a, b, c), self.origin_mm)

    def box(self, low_mm: Points, high_mm: Points) -> Box:
        """Return the points between two corners (z, y, x); may be empty."""
        start, stop = self.indices(low_mm, high_mm)
        z, y, x = (slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
        return z, y, x

    def indices(
        self, low_mm: Points, high_mm: Points
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return the first and last-but-one index of the points between corners (..., 3)."""
        low = np.ceil((low_mm - np.asarray(self.origin_mm)) / self.spacing_mm)
        high = np.floor((high_mm - np.asarray(self.origin_mm)) / self.spacing_mm) + 1
        start = np.clip(low, 0, self.size_vox).astype(np.int32)
        return start, np.maximum(np.clip(high, 0, self.size_vox).astype(np.int32), start)

    def crop(self, box: Box) -> Lattice:
        """Return the lattice of the points in a box."""
        start = np.array([s.start for s in box])
        a, b, c = (float(v) for v in start * self.spacing_mm + self.origin_mm)
        z, y, x = (s.stop - s.start for s in box)
        return Lattice((z, y, x), self.spacing_mm, (a, b, c))


def resample(values: Volume, lattice: Lattice, onto: Lattice) -> Volume:
    """Interpolate linearly from one lattice to another; border values are extended."""
    for axis in range(3):
        n, step = lattice.size_vox[axis], lattice.spacing_mm[axis]
        offset_mm = onto.origin_mm[axis] - lattice.origin_mm[axis]
        at = (offset_mm + np.arange(onto.size_vox[axis]) * onto.spacing_mm[axis]) / step
        at = np.clip(at, 0, n - 1)
        low = np.minimum(at.astype(np.intp), n - 2)
        weight = (at - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        lower = np.take(values, low, axis)
        values = np.take(values, low + 1, axis)
        values -= lower
        values *= weight
        values += lower
    return values


def smooth_field(lattice: Lattice, scale_mm: float, rng: np.random.Generator) -> Volume:
    """Draw a random field of mean 0, variance about 1 and correlation length ``scale_mm``.

    White noise is drawn with two points per scale, smoothed, and interpolated.
    """
    coarse = lattice.coarser(scale_mm / 2)
    noise = rng.standard_normal(coarse.size_vox, dtype=np.float32)
    noise = ndimage.gaussian_filter(noise, 1.0)
    return resample(noise / noise.std(), coarse, lattice)


@dataclass(frozen=True, slots=True)
class Tubes:
    """Straight pieces of vessels or airways, tapering from start to end.

    Attributes:
        start_mm, end_mm: (n, 3) end points (z, y, x), in mm.
        start_radius_mm, end_radius_mm: (n,) radii there, in mm.
    """

    start_mm: Points
    end_mm: Points
    start_radius_mm: Points
    end_radius_mm: Points

    def __len__(self) -> int:
        return len(self.start_mm)

    def part(self, rows: slice | BoolArray) -> Tubes:
        """Return a subset."""
        return Tubes(
            self.start_mm[rows],
            self.end_mm[rows],
            self.start_radius_mm[rows],
            self.end_radius_mm[rows],
        )

    def thicker(self, factor: float, more_mm: float) -> Tubes:
        """Return wider tubes around these, as an airway's wall surrounds its lumen."""
        return Tubes(
            self.start_mm,
            self.end_mm,
            self.start_radius_mm * factor + more_mm,
            self.end_radius_mm * factor + more_mm,
        )


def join(parts: list[Tubes]) -> Tubes:
    """Concatenate several sets of tubes."""
    return Tubes(
        np.concatenate([p.start_mm for p in parts]),
        np.concatenate([p.end_mm for p in parts]),
        np.concatenate([p.start_radius_mm for p in parts]),
        np.concatenate([p.end_radius_mm for p in parts]),
    )


def draw_tubes(volume: Volume, lattice: Lattice, tubes: Tubes, soft_mm: float) -> None:
    """Raise each voxel to the share of it that a tube covers.

    Args:
        volume: (z, y, x) shares in [0, 1] on the points of ``lattice``, drawn into.
        lattice: Position of the voxels.
        tubes: Tubes to draw; parts outside the lattice are ignored.
        soft_mm: Width over which the share falls from 1 to 0 across a surface: about a voxel.
    """
    for first in range(0, len(tubes), TUBES_AT_ONCE):
        some = tubes.part(slice(first, first + TUBES_AT_ONCE))
        voxel, share = _coverage(lattice, some, soft_mm)
        np.maximum.at(volume.reshape(-1), voxel, share)


def _coverage(lattice: Lattice, tubes: Tubes, soft_mm: float) -> tuple[NDArray[np.int32], Volume]:
    """Compute the flat index and share of each voxel in the tubes' boxes, concatenated."""
    tube, voxel = _voxels_in_boxes(lattice, tubes, soft_mm)
    along = (tubes.end_mm - tubes.start_mm).astype(np.float32)
    length2 = np.maximum((along**2).sum(axis=1), np.float32(1e-6))
    start = (tubes.start_mm - np.asarray(lattice.origin_mm)).astype(np.float32)
    offset = [
        voxel[k] * np.float32(lattice.spacing_mm[k]) - start[:, k].take(tube) for k in range(3)
    ]
    step = [along[:, k].take(tube) for k in range(3)]
    t = (offset[0] * step[0] + offset[1] * step[1] + offset[2] * step[2]) / length2.take(tube)
    np.clip(t, 0, 1, out=t)
    away2 = sum((offset[k] - t * step[k]) ** 2 for k in range(3))
    radius = tubes.start_radius_mm.astype(np.float32)
    taper = (tubes.end_radius_mm - tubes.start_radius_mm).astype(np.float32)
    share = (radius.take(tube) + t * taper.take(tube) - np.sqrt(away2)) / np.float32(soft_mm)
    share += np.float32(0.5)
    hit = np.flatnonzero(share > 0)
    _, ny, nx = lattice.size_vox
    flat = (voxel[0].take(hit) * ny + voxel[1].take(hit)) * nx + voxel[2].take(hit)
    return flat, np.minimum(share.take(hit), 1)


def _voxels_in_boxes(
    lattice: Lattice, tubes: Tubes, soft_mm: float
) -> tuple[NDArray[np.int32], list[NDArray[np.int32]]]:
    """List the voxels of all tubes' boxes: (m,) tube of each, and three (m,) indices z, y, x."""
    reach = np.maximum(tubes.start_radius_mm, tubes.end_radius_mm) + soft_mm / 2
    low = np.minimum(tubes.start_mm, tubes.end_mm) - reach[:, None]
    high = np.maximum(tubes.start_mm, tubes.end_mm) + reach[:, None]
    first, stop = lattice.indices(low, high)
    span = stop - first
    count = span.prod(axis=1, dtype=np.int32)
    tube = np.repeat(np.arange(len(tubes), dtype=np.int32), count)
    nth = np.arange(count.sum(), dtype=np.int32) - np.repeat(
        np.cumsum(count, dtype=np.int32) - count, count
    )
    width = span[:, 2].take(tube)
    row, x = np.divmod(nth, width)
    z, y = np.divmod(row, span[:, 1].take(tube))
    return tube, [axis + first[:, k].take(tube) for k, axis in enumerate((z, y, x))]
