"""Probability volume -> candidates in world mm; candidates of many scans -> CSV.

    probability (z, y, x) ──find_candidates()──▶ ScanCandidates ──write_candidates()──▶ CSV

A candidate is a peak.  Its score is the peak's probability, so that one list ranks all scans; its
centre and diameter come from the voxels around the peak that reach half of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from nodule_det.arrays import BoolArray, FloatArray
from nodule_det.config.train import CandidateConfig
from nodule_det.geometry import Grid
from nodule_det.tables import CANDIDATE_COLUMNS, DIAMETER, write_table

REACH_MM = 16.0
"""Half the edge of the cube in which a peak's extent is looked for: no lesion under 3 cm is cut."""

ScoreColumns = Mapping[str, Callable[[FloatArray], FloatArray]]
NO_COLUMNS: ScoreColumns = {}

SMALLEST = 1e-6
"""A probability of 0 is nowhere a peak, whatever the threshold."""


@dataclass(frozen=True)
class ScanCandidates:
    """Candidates of one scan, the best first.

    Attributes:
        world_mm: (n, 3) centres (x, y, z), LPS.
        score: (n,) probability of the peak.
        diameter_mm: (n,) diameter of the sphere whose volume the peak's extent has.
        n_dropped: Peaks left out by ``candidates.max_per_scan``.
    """

    world_mm: FloatArray
    score: FloatArray
    diameter_mm: FloatArray
    n_dropped: int = 0

    def __len__(self) -> int:
        return len(self.score)


def find_candidates(
    probability: NDArray[np.float32],
    grid: Grid,
    config: CandidateConfig,
    search: BoolArray | None = None,
) -> ScanCandidates:
    """Find the peaks of a probability volume.

    A peak is a voxel that none of its 26 neighbours exceeds; peaks that touch are one.  Peaks
    closer than ``merge_mm`` to a higher one belong to it; of equal ones the first in array order
    stays.  So do peaks whose extents have their centres that close: two tops of one large lesion.

    Args:
        probability: (z, y, x) in [0, 1].
        grid: Where its voxels lie.
        config: Threshold, merging distance and limit.
        search: (z, y, x) where a peak counts (the lungs); None takes all of it.

    Returns:
        At most ``max_per_scan`` candidates; ``n_dropped`` says how many more there were.
    """
    voxels = _peaks(probability, config.threshold)
    if search is not None:
        voxels = voxels[search[tuple(voxels.T)]]
    order = np.argsort(-probability[tuple(voxels.T)], kind="stable")
    voxels = voxels[order]
    peaks = voxels[_apart(grid.to_world(voxels), config.merge_mm)]
    measured = peaks[: config.max_per_scan]
    extents = [_extent(probability, tuple(v), grid) for v in measured]
    world_mm = grid.to_world(np.array([center for center, _ in extents]).reshape(-1, 3))
    kept = _apart(world_mm, config.merge_mm)
    return ScanCandidates(
        world_mm=world_mm[kept],
        score=probability[tuple(measured[kept].T)].astype(np.float64),
        diameter_mm=np.array([diameter for _, diameter in extents], np.float64)[kept],
        n_dropped=len(peaks) - len(measured),
    )


def _peaks(probability: NDArray[np.float32], threshold: float) -> NDArray[np.intp]:
    """Return (n, 3) voxels that no neighbour of 26 exceeds, in array order.

    Only voxels that are high enough are looked at, and after each neighbour only those left.  A
    network that is sure says exactly 1 all through a nodule; such a plateau gives one voxel.
    """
    padded = np.pad(probability, 1, constant_values=-1.0)
    flat = padded.ravel()
    high = np.flatnonzero(flat >= max(threshold, SMALLEST))
    here = np.ravel_multi_index((1, 1, 1), padded.shape)
    for offset in np.ndindex(3, 3, 3):
        if offset != (1, 1, 1):
            neighbour = high + (np.ravel_multi_index(offset, padded.shape) - here)
            high = high[flat[neighbour] <= flat[high]]
    voxels = np.stack(np.unravel_index(high, padded.shape), axis=1) - 1
    return voxels[_middles(voxels, probability.shape)]


def _middles(voxels: NDArray[np.intp], shape: tuple[int, ...]) -> NDArray[np.intp]:
    """Return the index of one voxel for each connected group: the one nearest the group's centroid.

    Two peaks that touch have the same height, because neither exceeds the other.
    """
    there = np.zeros(shape, bool)
    there[tuple(voxels.T)] = True
    labels, n = ndimage.label(there, np.ones((3, 3, 3)))
    group = labels[tuple(voxels.T)] - 1
    size = np.bincount(group, minlength=n)
    centroid = np.stack([np.bincount(group, v, n) for v in voxels.T], axis=1) / size[:, None]
    away = np.linalg.norm(voxels - centroid[group], axis=1)
    by_group = np.lexsort((away, group))
    first = by_group[np.searchsorted(group[by_group], np.arange(n))]
    return np.sort(first)


def _apart(world_mm: FloatArray, merge_mm: float) -> NDArray[np.intp]:
    """Return the indices of points, best first, that no better kept point is near.

    An untrained network has ten thousands of peaks, so neighbours are looked up in a tree.
    """
    if not len(world_mm) or merge_mm == 0:
        return np.arange(len(world_mm))
    tree = KDTree(world_mm)
    nearer_than_mm = np.nextafter(merge_mm, 0.0)
    free = np.ones(len(world_mm), bool)
    kept: list[int] = []
    for i, point in enumerate(world_mm):
        if free[i]:
            kept.append(i)
            free[tree.query_ball_point(point, nearer_than_mm)] = False
    return np.array(kept, np.intp)


def _extent(
    probability: NDArray[np.float32], peak: tuple[int, ...], grid: Grid
) -> tuple[FloatArray, float]:
    """Measure the connected voxels around a peak that reach half of it.

    Returns:
        Their centre as a continuous voxel, and the diameter of a sphere of their volume, mm.
    """
    reach = [int(REACH_MM / s) for s in grid.spacing_mm]
    low = [max(0, p - r) for p, r in zip(peak, reach, strict=True)]
    high = [p + r + 1 for p, r in zip(peak, reach, strict=True)]
    part = probability[tuple(map(slice, low, high))]
    half = part >= probability[peak] / 2
    labels, _ = ndimage.label(half)
    own = labels == labels[tuple(np.subtract(peak, low))]
    voxels = np.argwhere(own)
    weights = part[own].astype(np.float64)
    center = (voxels * weights[:, None]).sum(0) / weights.sum() + low
    volume_mm3 = len(voxels) * float(np.prod(grid.spacing_mm))
    return center, float((6 * volume_mm3 / np.pi) ** (1 / 3))


def write_candidates(
    path: Path, scans: Iterable[tuple[str, ScanCandidates]], extra: ScoreColumns = NO_COLUMNS
) -> None:
    """Write LUNA16's columns and ``diameter_mm``, one row per candidate, scan by scan.

    Args:
        path: CSV to write, whole or not at all.
        scans: Series key and candidates of each scan.
        extra: Name of a further column -> its (n,) values from the (n,) scores.
    """
    rows = (
        (uid, *point, score, diameter, *more)
        for uid, found in scans
        for point, score, diameter, *more in zip(
            found.world_mm.tolist(),
            found.score.tolist(),
            found.diameter_mm.tolist(),
            *(column(found.score).tolist() for column in extra.values()),
            strict=True,
        )
    )
    write_table(path, (*CANDIDATE_COLUMNS, DIAMETER, *extra), rows)
