"""Training targets: a target and a weight for each voxel of a patch.

    findings (+ label volume) ──balls()──▶ Ball ──draw_truth()──▶ target, weight

The target of a lesion is a ball of its diameter, or its mask where the data set has one.  The
weight says how much a voxel counts:

| voxel | target | weight |
| --- | --- | --- |
| of a lesion | 0 ... 1, the part of the voxel in the lesion | the lesion's share, see below |
| of an excluded finding | 0 | 0: neither lesion nor background |
| outside the scan | 0 | 0 |
| any other | 0 | 1 |

**Each lesion counts the same, whatever its size.**  FROC counts lesions, not voxels: a nodule of
4 mm has 34 voxels and one of 20 mm 4189, and with equal weights the network would rather sharpen
the outline of the large one than find the small one.  So the weights of a whole lesion sum to
``LESION_SHARE`` of the patch's voxels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nodule_det.data.feed.patches import Corner, TrainingScan

FloatVolume = NDArray[np.float32]

MIN_RADIUS_VOX = 1.5
"""Smallest ball drawn.  It holds a voxel with target 1 wherever its centre lies between voxels
(the farthest a voxel centre can be is sqrt(3)/2 = 0.87), so a nodule of 3 mm does not vanish."""

LESION_SHARE = 0.01
"""Sum of the weights of one lesion, as a share of the voxels of a patch.  A share, so that patches
of 32 and 64 voxels weigh lesions against background alike.  Found by pAUC, see ``train/losses.py``:
0.002 to 0.02 come to the same, 0.1 costs 0.02 and 0.5 costs 0.06 (more false positives)."""


@dataclass(frozen=True, slots=True)
class Ball:
    """A finding in voxels of its scan.

    Attributes:
        center: (z, y, x) continuous voxel.
        radius_vox: Half the diameter, at least ``MIN_RADIUS_VOX``.
        excluded: Whether it is neither lesion nor background.
    """

    center: tuple[float, float, float]
    radius_vox: float
    excluded: bool

    @property
    def volume_vox(self) -> float:
        """Voxels that it fills."""
        return 4 / 3 * math.pi * self.radius_vox**3


def balls(scan: TrainingScan) -> list[Ball]:
    """Convert a scan's findings to voxels, excluded ones first: lesions are drawn over them."""
    spacing_mm = scan.grid.spacing_mm[0]  # the store is isotropic
    found = []
    for finding in sorted(scan.findings, key=lambda finding: not finding.excluded):
        z, y, x = (float(v) for v in scan.grid.to_voxel(finding.center_mm))
        radius_vox = max(finding.diameter_mm / spacing_mm / 2, MIN_RADIUS_VOX)
        found.append(Ball((z, y, x), radius_vox, finding.excluded))
    return found


def draw_truth(
    findings: Sequence[Ball],
    labels: NDArray[np.uint8] | None,
    corner: Corner,
    target: FloatVolume,
    weight: FloatVolume,
) -> None:
    """Draw a scan's findings into a patch.

    Args:
        findings: Balls of the scan, as :func:`balls` gives them; those that miss the patch are
            passed over.
        labels: (W, W, W) cut of the label volume, nonzero in lesions, or None.  With it a lesion
            is its mask, and a ball of ``MIN_RADIUS_VOX`` at its centre: a hit is measured from
            the centre, and a mask may have lost a small lesion on the way to the store's grid.
        corner: (z, y, x) first voxel of the patch in the scan.
        target: (W, W, W) of zeros, drawn into.
        weight: (W, W, W) of ones, drawn into.
    """
    for ball in findings:
        radius_vox = ball.radius_vox if labels is None or ball.excluded else MIN_RADIUS_VOX
        box, inside = _coverage(ball.center, radius_vox, corner, target.shape[0])
        if not inside.size:
            continue
        if ball.excluded:
            weight[box][inside > 0] = 0.0
        else:
            _lay(inside, _share(ball, target.size), target[box], weight[box])
    if labels is not None:
        _draw_mask(findings, labels, corner, target, weight)


def _share(ball: Ball, patch_voxels: int) -> float:
    """Return the weight of a voxel in the lesion, so that all of them sum to ``LESION_SHARE``."""
    return LESION_SHARE * patch_voxels / ball.volume_vox


def _lay(
    inside: FloatVolume, share: float | FloatVolume, target: FloatVolume, weight: FloatVolume
) -> None:
    """Let a lesion have the voxels that it covers better than any before it."""
    stronger = inside > target
    np.copyto(target, inside, where=stronger)
    np.copyto(weight, 1.0 + (share - 1.0) * inside, where=stronger, casting="same_kind")


def _coverage(
    center: tuple[float, float, float], radius_vox: float, corner: Corner, size_vox: int
) -> tuple[tuple[slice, ...], FloatVolume]:
    """Return the share of each voxel inside a ball.

    A voxel's share falls from 1 to 0 over the one voxel across the ball's surface.  That ramp
    makes the ball's voxels sum to (4/3) pi (r^3 + r/4); the radius is drawn smaller by 1/(12 r),
    which makes it (4/3) pi r^3 again, but for terms of 1/r.

    Returns:
        Slices of the patch that hold the ball, and the (a, b, c) shares in them; empty where
        ball and patch do not meet.
    """
    drawn_vox = radius_vox - 1 / (12 * radius_vox)
    box, squares = [], []
    for at_scan, first in zip(center, corner, strict=True):  # plain floats: most balls miss
        at = at_scan - first
        start = min(max(math.ceil(at - drawn_vox - 0.5), 0), size_vox)
        stop = min(max(math.floor(at + drawn_vox + 0.5) + 1, 0), size_vox)
        if start >= stop:
            return (), np.empty(0, np.float32)
        box.append(slice(start, stop))
        squares.append((np.arange(start, stop, dtype=np.float32) - np.float32(at)) ** 2)
    z, y, x = squares
    distance_vox = np.sqrt(z[:, None, None] + y[:, None] + x)
    return tuple(box), np.clip(np.float32(drawn_vox + 0.5) - distance_vox, 0, 1)


def _draw_mask(
    findings: Sequence[Ball],
    labels: NDArray[np.uint8],
    corner: Corner,
    target: FloatVolume,
    weight: FloatVolume,
) -> None:
    """Draw the lesions' mask; each of its voxels belongs to the lesion nearest for its size."""
    lesions = [ball for ball in findings if not ball.excluded]
    voxels = np.argwhere(labels)
    if not lesions or not len(voxels):
        return
    centers = np.array([ball.center for ball in lesions])
    radii_vox = np.array([ball.radius_vox for ball in lesions])
    distance = np.linalg.norm((voxels + corner)[:, None] - centers, axis=2) / radii_vox
    shares = np.array([_share(ball, target.size) for ball in lesions], np.float32)
    where = tuple(voxels.T)
    target[where] = 1.0
    weight[where] = shares[distance.argmin(axis=1)]
