"""A plain blob detector, for comparison with the network.

    store scan ──respond()──▶ strongest blob at each voxel ──peaks──▶ find_blobs(): candidates

It needs no training: a lung nodule is a bright blob, so the Laplacian of a Gaussian, taken at the
sizes of nodules, peaks at its centre (Lindeberg 1998).  So it does at vessel branchings.

References:
    Lindeberg (1998), Feature detection with automatic scale selection, IJCV 30(2).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nodule_det.arrays import BoolArray, FloatArray
from nodule_det.candidates import ScanCandidates
from nodule_det.data.store import StoredScan
from nodule_det.geometry import Grid

FloatVolume = NDArray[np.float32]
Mask = BoolArray

SCALES_MM = (1.4, 2.0, 2.8, 4.0, 5.6, 8.0)
"""Standard deviations of the Gaussian.  The response to a ball peaks where its radius is sqrt(3)
times this, so these find nodules of 5 to 28 mm, and smaller ones with a weaker response."""

RADIUS_PER_SCALE = math.sqrt(3)

WINDOW_HU = (-1000.0, 150.0)
"""Values are clipped to this range: bone and metal are no more nodule-like than soft tissue."""

FULL_RESPONSE = math.sqrt(2 / math.pi) * 3**1.5 * math.exp(-1.5) * (WINDOW_HU[1] - WINDOW_HU[0])
"""Response to a ball of 150 HU in -1000 HU at its best scale: the largest possible."""

HALVED_AFTER_MM = 2.8
"""Above this scale every second voxel of 1 mm is enough: the Gaussian has removed finer detail."""

WEAKEST = 0.02
"""Weaker peaks are noise: every nodule of the phantom responds more strongly."""

PEAK_MM, APART_MM, APART_SCALES = 2.0, 4.0, 1.2
"""A peak is the highest voxel within ``PEAK_MM``.  Of two peaks closer than ``APART_MM``, or closer
than ``APART_SCALES`` times the larger of their scales, only the higher is kept."""

MOST_PEAKS = 600
"""Number of highest peaks examined per scan; more than FROC at 8 false positives could count."""


def of_scan(scan: StoredScan) -> ScanCandidates:
    """Find the blobs of a stored scan, inside the mask in which the network's candidates count."""
    return find_blobs(scan.volume(), scan.grid, scan.search_mask())


def find_blobs(
    volume_hu: NDArray[np.int16], grid: Grid, lung: Mask, most: int = 200
) -> ScanCandidates:
    """Find the blobs of a scan.

    Args:
        volume_hu: (z, y, x) HU, of about 1 mm.
        grid: Its grid; isotropic, as in a store.
        lung: (z, y, x) mask of allowed centres.
        most: Number of strongest blobs to keep.

    Returns:
        Candidates, best first.  The score is the response as a fraction of the largest possible
        one.  The diameter is that of the ball that responds most strongly at the blob's scale.
    """
    response, scale = respond(volume_hu, grid.spacing_mm[0])
    response *= lung
    reach_vox = 2 * max(1, round(PEAK_MM / grid.spacing_mm[0])) + 1
    highest = ndimage.maximum_filter(response, size=reach_vox)
    voxels = np.argwhere((response == highest) & (response > WEAKEST))
    score = response[tuple(voxels.T)]
    order = np.argsort(-score, kind="stable")[:MOST_PEAKS]
    voxels, score = voxels[order], score[order]
    scale_mm = np.asarray(SCALES_MM)[scale[tuple(voxels.T)]]
    world_mm = grid.to_world(voxels)
    kept = _strongest_apart(world_mm, scale_mm)[:most]
    return ScanCandidates(
        world_mm[kept],
        np.minimum(score[kept].astype(np.float64), 1.0),
        2 * RADIUS_PER_SCALE * scale_mm[kept],
    )


def respond(
    volume_hu: NDArray[np.int16], spacing_mm: float
) -> tuple[FloatVolume, NDArray[np.uint8]]:
    """Compute the strongest response over all scales.

    Args:
        volume_hu: (z, y, x) HU.
        spacing_mm: Edge of its voxels.

    Returns:
        (z, y, x) responses as fractions of ``FULL_RESPONSE``, and the index of the scale of each.
    """
    smooth = np.clip(volume_hu, *WINDOW_HU).astype(np.float32)
    shape, factor, done_mm = smooth.shape, 1, 0.0
    best = np.full(shape, -np.inf, np.float32)
    which = np.zeros(shape, np.uint8)
    for k, scale_mm in enumerate(SCALES_MM):
        step_vox = math.sqrt(scale_mm**2 - done_mm**2) / (spacing_mm * factor)
        smooth = ndimage.gaussian_filter(smooth, step_vox, truncate=3.5)
        done_mm = scale_mm
        answer = ndimage.laplace(smooth)
        answer *= np.float32(-((scale_mm / (spacing_mm * factor)) ** 2) / FULL_RESPONSE)
        if factor > 1:
            answer = _doubled(answer, shape)
        stronger = answer > best
        np.copyto(best, answer, where=stronger)
        which[stronger] = k
        if factor == 1 and scale_mm >= HALVED_AFTER_MM * max(spacing_mm, 1.0):
            smooth, factor = np.ascontiguousarray(smooth[::2, ::2, ::2]), 2
    return best, which


def _doubled(values: FloatVolume, shape: tuple[int, ...]) -> FloatVolume:
    """Upsample by two with linear interpolation, one axis at a time."""
    for axis, n in enumerate(shape):
        values = np.moveaxis(values, axis, 0)
        fine = np.empty((n, *values.shape[1:]), np.float32)
        fine[::2] = values
        between = fine[1::2]
        between[: len(values) - 1] = (values[:-1] + values[1:]) * np.float32(0.5)
        between[len(values) - 1 :] = values[-1]
        values = np.moveaxis(fine, 0, axis)
    return values


def _strongest_apart(world_mm: FloatArray, scale_mm: FloatArray) -> NDArray[np.intp]:
    """Return the blobs (strongest first) that are not too close to a stronger one."""
    kept: list[int] = []
    for i, (point_mm, size_mm) in enumerate(zip(world_mm, scale_mm, strict=True)):
        away_mm = np.linalg.norm(world_mm[kept] - point_mm, axis=1)
        limit_mm = np.maximum(APART_MM, APART_SCALES * np.maximum(scale_mm[kept], size_mm))
        if (away_mm > limit_mm).all():
            kept.append(i)
    return np.array(kept, np.intp)
