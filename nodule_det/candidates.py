"""Probability volume -> candidates in world mm; candidates of many scans -> CSV.

    probability (z, y, x) ──find_candidates()──▶ ScanCandidates ──write_candidates()──▶ CSV

A candidate is a peak.  Its score is the peak's probability, so that one list ranks all scans; its
centre and diameter come from the voxels around the peak that reach half of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from nodule_det.arrays import BoolArray, FloatArray, IntArray
from nodule_det.config.train import CandidateConfig
from nodule_det.geometry import Grid
from nodule_det.tables import CANDIDATE_COLUMNS, DIAMETER, write_table

REACH_MM = 16.0
"""Half the edge of the cube in which a peak's extent is measured: no lesion under 3 cm is cut."""

ScoreColumns = Mapping[str, Callable[[FloatArray], FloatArray]]
NO_COLUMNS: ScoreColumns = {}

SMALLEST = 1e-6
"""Lower limit of the threshold, because a probability of 0 is never a peak."""

NEIGHBOURS_VOX = 1.8
"""Above sqrt(3), the distance of the farthest of the 26 neighbours, and below 2."""

MANY_PEAKS = 100_000
"""Above this many voxels (a saturated network), groups are labelled in an array of the whole scan.
Below it, neighbours are looked up, which saves 0.1 s for a scan of 28 million voxels."""

Voxel = tuple[int, int, int]


@dataclass(frozen=True)
class ScanCandidates:
    """Candidates of one scan, best first.

    Attributes:
        world_mm: (n, 3) centres (x, y, z), LPS.
        score: (n,) probability of the peak.
        diameter_mm: (n,) diameter of a sphere with the volume of the peak's extent.
        n_dropped: Peaks discarded by ``candidates.max_per_scan``.
    """

    world_mm: FloatArray
    score: FloatArray
    diameter_mm: FloatArray
    n_dropped: int = 0

    def __len__(self) -> int:
        return len(self.score)


FARTHEST_MM, LARGEST_MM = 1e5, 1000.0
"""Coordinates and diameters beyond these are not from a scan."""


def checked(rows: object, n_dropped: object) -> ScanCandidates:
    """Build candidates from a record on disk.

    Args:
        rows: A list of [x, y, z, score, diameter_mm].
        n_dropped: Peaks left out.

    Raises:
        ValueError: If a number is missing, or one that no candidate can have.
    """
    table = np.array(rows if rows else np.empty((0, 5)))
    if table.ndim != 2 or table.shape[1] != 5 or table.dtype.kind not in "if":
        raise ValueError("the candidates are not rows of five numbers")
    table = table.astype(np.float64)
    world_mm, score, diameter_mm = table[:, :3], table[:, 3], table[:, 4]
    if not (np.abs(world_mm) <= FARTHEST_MM).all():
        raise ValueError(f"a coordinate is not within {FARTHEST_MM:g} mm")
    if not ((score >= 0) & (score <= 1)).all():
        raise ValueError("a score is not between 0 and 1")
    if not ((diameter_mm >= 0) & (diameter_mm <= LARGEST_MM)).all():
        raise ValueError(f"a diameter is not between 0 and {LARGEST_MM:g} mm")
    if isinstance(n_dropped, bool) or not isinstance(n_dropped, int) or n_dropped < 0:
        raise ValueError(f"n_dropped={n_dropped}")
    return ScanCandidates(world_mm, score, diameter_mm, n_dropped)


class PeakVolume(Protocol):
    """A probability volume, in memory or on a GPU."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along (z, y, x)."""

    def peaks(self, threshold: float) -> tuple[IntArray, NDArray[np.float32]]:
        """Find the (n, 3) voxels that none of 26 neighbours exceeds, in array order, and values."""

    def cubes(self, voxels: IntArray, reach: Voxel) -> Iterator[NDArray[np.float32]]:
        """Cut a cube of half-width ``reach`` around each voxel; -1 outside the volume."""


class HostVolume:
    """A (z, y, x) probability volume in memory."""

    def __init__(self, probability: NDArray[np.float32]) -> None:
        self._probability = probability

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along (z, y, x)."""
        return self._probability.shape

    def peaks(self, threshold: float) -> tuple[IntArray, NDArray[np.float32]]:
        """Find the peaks; only voxels above the threshold are compared with neighbours."""
        padded = np.pad(self._probability, 1, constant_values=-1.0)
        flat = padded.ravel()
        high = np.flatnonzero(flat >= max(threshold, SMALLEST))
        here = np.ravel_multi_index((1, 1, 1), padded.shape)
        for offset in np.ndindex(3, 3, 3):
            if offset != (1, 1, 1):
                neighbour = high + (np.ravel_multi_index(offset, padded.shape) - here)
                high = high[flat[neighbour] <= flat[high]]
        voxels = np.stack(np.unravel_index(high, padded.shape), axis=1) - 1
        return voxels, flat[high]

    def cubes(self, voxels: IntArray, reach: Voxel) -> Iterator[NDArray[np.float32]]:
        """Cut the cube around each voxel, one after the other."""
        size_vox = self._probability.shape
        for voxel in voxels.tolist():
            spans = list(zip(voxel, reach, size_vox, strict=True))
            inside = tuple(slice(max(0, v - r), min(n, v + r + 1)) for v, r, n in spans)
            out = np.full([2 * r + 1 for r in reach], -1.0, np.float32)
            there = tuple(
                slice(s.start - v + r, s.stop - v + r)
                for s, (v, r, _) in zip(inside, spans, strict=True)
            )
            out[there] = self._probability[inside]
            yield out


def find_candidates(
    probability: NDArray[np.float32] | PeakVolume,
    grid: Grid,
    config: CandidateConfig,
    search: BoolArray | None = None,
) -> ScanCandidates:
    """Find the peaks of a probability volume.

    A peak is a voxel that none of its 26 neighbours exceeds; adjacent peaks count as one.  Peaks
    closer than ``merge_mm`` to a higher one are merged into it; of equal peaks the first in array
    order is kept.  Peaks whose measured centres are that close (two maxima of one large lesion) are
    merged as well.

    Args:
        probability: (z, y, x) in [0, 1], in memory or on a GPU.
        grid: Grid of the volume.
        config: Threshold, merging distance and limit.
        search: (z, y, x) mask in which peaks count (the lungs); None means everywhere.

    Returns:
        At most ``max_per_scan`` candidates; ``n_dropped`` is the number discarded.
    """
    volume = HostVolume(probability) if isinstance(probability, np.ndarray) else probability
    voxels, score = volume.peaks(config.threshold)
    kept = _middles(voxels, volume.shape)
    voxels, score = voxels[kept], score[kept]
    if search is not None:
        inside = search[tuple(voxels.T)]
        voxels, score = voxels[inside], score[inside]
    order = np.argsort(-score, kind="stable")
    voxels, score = voxels[order], score[order]
    apart = _apart(grid.to_world(voxels), config.merge_mm)
    measured = apart[: config.max_per_scan]
    voxels, score = voxels[measured], score[measured]
    z, y, x = (int(REACH_MM / s) for s in grid.spacing_mm)
    cubes = volume.cubes(voxels, (z, y, x))
    extents = [
        _extent(cube, voxel, peak, grid)
        for cube, voxel, peak in zip(cubes, voxels, score, strict=True)
    ]
    world_mm = grid.to_world(np.array([center for center, _ in extents]).reshape(-1, 3))
    kept = _apart(world_mm, config.merge_mm)
    return ScanCandidates(
        world_mm=world_mm[kept],
        score=score[kept].astype(np.float64),
        diameter_mm=np.array([diameter for _, diameter in extents], np.float64)[kept],
        n_dropped=len(apart) - len(measured),
    )


def _middles(voxels: IntArray, shape: tuple[int, ...]) -> IntArray:
    """Return the index of one voxel per connected group: the one nearest the group's centroid.

    Adjacent peaks have the same height, because neither exceeds the other.  A confident network
    predicts exactly 1 throughout a nodule; such a plateau yields one voxel.
    """
    if not len(voxels):
        return np.empty(0, np.int64)
    n, group = _groups(voxels, shape)
    size = np.bincount(group, minlength=n)
    centroid = np.stack([np.bincount(group, v, n) for v in voxels.T], axis=1) / size[:, None]
    away = np.linalg.norm(voxels - centroid[group], axis=1)
    by_group = np.lexsort((away, group))
    first = by_group[np.searchsorted(group[by_group], np.arange(n))]
    return np.sort(first)


def _groups(voxels: IntArray, shape: tuple[int, ...]) -> tuple[int, IntArray]:
    """Label the connected groups (26 neighbours): their number, and the group of each voxel."""
    if len(voxels) > MANY_PEAKS:
        there = np.zeros(shape, bool)
        there[tuple(voxels.T)] = True
        labels, n = ndimage.label(there, np.ones((3, 3, 3)))
        return n, labels[tuple(voxels.T)].astype(np.int64) - 1
    pairs = KDTree(voxels).query_pairs(NEIGHBOURS_VOX, output_type="ndarray")
    links = coo_array((np.ones(len(pairs), bool), tuple(pairs.T)), shape=2 * (len(voxels),))
    n, group = connected_components(links, directed=False)
    return n, group.astype(np.int64)


def _apart(world_mm: FloatArray, merge_mm: float) -> NDArray[np.intp]:
    """Return the indices of points (sorted best first) with no better kept point nearby.

    An untrained network has tens of thousands of peaks, so neighbours are looked up in a tree.
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
    cube: NDArray[np.float32], voxel: IntArray, peak: float, grid: Grid
) -> tuple[FloatArray, float]:
    """Measure the connected voxels around a peak that reach half of it.

    Args:
        cube: Probabilities around the peak, which is at its centre.
        voxel: (3,) position of the peak in the volume.
        peak: Its probability.
        grid: Grid of the volume.

    Returns:
        Their centre as a continuous voxel, and the diameter of a sphere of their volume, mm.
    """
    middle = tuple(n // 2 for n in cube.shape)
    labels, _ = ndimage.label(cube >= peak / 2)
    own = labels == labels[middle]
    voxels = np.argwhere(own)
    weights = cube[own].astype(np.float64)
    center = ((voxels + (voxel - middle)) * weights[:, None]).sum(0) / weights.sum()
    volume_mm3 = len(voxels) * float(np.prod(grid.spacing_mm))
    return center, float((6 * volume_mm3 / np.pi) ** (1 / 3))


def write_candidates(
    path: Path, scans: Iterable[tuple[str, ScanCandidates]], extra: ScoreColumns = NO_COLUMNS
) -> None:
    """Write LUNA16's columns and ``diameter_mm``, one row per candidate, scan by scan.

    Args:
        path: CSV, written atomically.
        scans: Series key and candidates of each scan.
        extra: Name of an additional column -> function from the (n,) scores to its (n,) values.
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
