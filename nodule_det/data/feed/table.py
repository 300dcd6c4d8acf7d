"""The table from which a GPU makes a batch: a few numbers per patch, and per ball in a patch.

    Samples + findings ──TruthTable.of()──▶ BallGroup(rows, numbers, edge), MaskRows ──▶ gather

Several findings may reach a patch.  They are assigned to slots, at most one of each patch per slot,
so that no two balls of a slot write to the same voxel and all are drawn at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nodule_det.arrays import BoolArray, FloatArray, IntArray
from nodule_det.data.feed.patches import TrainingScan
from nodule_det.data.feed.plan import Samples
from nodule_det.data.feed.targets import LESION_SHARE, MIN_RADIUS_VOX, balls

SMALLEST_BOX = 8
"""Balls of a slot are drawn in boxes of 8, 16, 32 ... voxels: a few groups, little waste."""


@dataclass(frozen=True, slots=True)
class BallGroup:
    """Balls that are drawn together, no two of them in the same patch.

    Attributes:
        rows: (m,) patches.
        numbers: (m, 9) centre (z, y, x) from the patch's corner, first voxel of the box (z, y, x),
            radius at which the target reaches 0, lesion's share - 1, whether it is excluded.
        edge: Edge of the boxes.
    """

    rows: IntArray
    numbers: FloatArray
    edge: int


@dataclass(frozen=True, slots=True)
class MaskRows:
    """Patches of scans with lesion masks.

    Attributes:
        rows: (m,) patches.
        lesions: (m, k, 5) of each lesion of the scan: centre (z, y, x) in voxels of the scan,
            radius, share.  Rows of scans with fewer lesions are filled up with centres at
            infinity.
    """

    rows: IntArray
    lesions: FloatArray


class TruthTable:
    """The findings of all scans, in flat arrays.

    Args:
        scans: Scans to train on.
        masked: (n_scans,) which of them have a label volume.
        size_vox: Edge of the patches.
    """

    def __init__(self, scans: Sequence[TrainingScan], masked: BoolArray, size_vox: int) -> None:
        found = [balls(scan) for scan in scans]
        self._size_vox, self._masked = size_vox, masked
        self._first = np.cumsum([0, *map(len, found)])
        flat = [(i, ball) for i, of_scan in enumerate(found) for ball in of_scan]
        self._scan = np.array([i for i, _ in flat], np.int64)
        self._center = np.array([ball.center for _, ball in flat], np.float64).reshape(-1, 3)
        self._radius = np.array([ball.radius_vox for _, ball in flat], np.float64)
        self._excluded = np.array([ball.excluded for _, ball in flat], bool)
        volume = np.array([ball.volume_vox for _, ball in flat], np.float64)
        self._share = LESION_SHARE * size_vox**3 / volume
        small = masked[self._scan] & ~self._excluded  # the mask is drawn over it
        drawn = np.where(small, MIN_RADIUS_VOX, self._radius)
        self._drawn = drawn - 1 / (12 * drawn)

    def balls_of(self, samples: Samples) -> list[BallGroup]:
        """Return the balls that reach the samples, slot after slot, in the order of drawing."""
        counts = np.diff(self._first)[samples.scan]
        row = np.repeat(np.arange(len(samples)), counts)
        first = np.cumsum(counts) - counts
        ball = np.arange(len(row)) - first[row] + self._first[samples.scan[row]]
        at = self._center[ball] - samples.corner[row]
        drawn = self._drawn[ball, None]
        start = np.clip(np.ceil(at - drawn - 0.5), 0, self._size_vox)
        stop = np.clip(np.floor(at + drawn + 0.5) + 1, 0, self._size_vox)
        meets = (start < stop).all(axis=1)
        row, ball, at, start, stop = (v[meets] for v in (row, ball, at, start, stop))
        slot = np.arange(len(row)) - np.searchsorted(row, row)  # rows are in order
        edge = _box_edge((stop - start).max(axis=1, initial=1), self._size_vox)
        numbers = np.column_stack(
            [
                at,
                np.minimum(start, self._size_vox - edge[:, None]),
                self._drawn[ball] + 0.5,
                self._share[ball] - 1.0,
                self._excluded[ball],
            ]
        )
        groups = []
        for key in np.unique(slot * 4096 + edge).tolist():
            of_group = np.flatnonzero((slot == key // 4096) & (edge == key % 4096))
            groups.append(BallGroup(row[of_group], numbers[of_group], key % 4096))
        return groups

    def masks_of(self, samples: Samples) -> MaskRows | None:
        """Return the patches whose scans have masks and lesions; None if there is none."""
        lesions = {
            scan: np.flatnonzero((self._scan == scan) & ~self._excluded)
            for scan in np.unique(samples.scan).tolist()
            if self._masked[scan]
        }
        rows = np.array([i for i, s in enumerate(samples.scan.tolist()) if len(lesions.get(s, ()))])
        if not len(rows):
            return None
        most = max(len(lesions[s]) for s in samples.scan[rows].tolist())
        numbers = np.tile([np.inf, np.inf, np.inf, 1.0, 0.0], (len(rows), most, 1))
        for i, scan in enumerate(samples.scan[rows].tolist()):
            own = lesions[scan]
            numbers[i, : len(own), :3] = self._center[own]
            numbers[i, : len(own), 3], numbers[i, : len(own), 4] = (
                self._radius[own],
                self._share[own],
            )
        return MaskRows(rows, numbers)


def _box_edge(needed: FloatArray, size_vox: int) -> NDArray[np.int64]:
    """Round edges up to the next of 8, 16, 32 ..., at most the patch."""
    edge = SMALLEST_BOX * 2 ** np.ceil(np.log2(np.maximum(needed, SMALLEST_BOX) / SMALLEST_BOX))
    return np.asarray(np.minimum(edge, size_vox), np.int64)
