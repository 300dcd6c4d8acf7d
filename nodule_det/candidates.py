"""Probability volume -> candidates in world mm; candidates of many scans -> CSV.

    probability (z, y, x) ──find_candidates()──▶ ScanCandidates ──write_candidates()──▶ CSV

A candidate is a lesion: the voxels around a peak that reach half of it, whatever their shape.  Its
score is the peak's probability, so that one list ranks all scans; centre and diameter are those of
the region.
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
from nodule_det.geometry import Grid, Triple
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

HIGHER_SHARES = (0.75, 0.9, 1.0)
LARGEST_LESION_MM3 = np.pi / 6 * 33.0**3
"""A larger region than a ball of 33 mm, the largest of LIDC-IDRI, is cut at a higher share."""

NECK, THINNEST_MM, FEWEST_OF_A_PAIR = 0.7, 1.5, 60
"""Two lesions touch where a region narrows to less than ``NECK`` of the thinner one's half
thickness, each of ``THINNEST_MM`` at least; regions of fewer voxels are not examined.  Balls of
equal size are told apart up to an overlap of 0.3 radii."""
ROWS_AT_ONCE = 16
"""Rows (z) of a volume in memory that are searched for peaks together."""

PEAKS_AT_ONCE = 2_000
"""Peaks that are examined together, highest first, until there are enough candidates.  A network
that has just begun to learn has tens of thousands, nearly all of them too low to matter."""

Voxel = tuple[int, int, int]


@dataclass(frozen=True)
class ScanCandidates:
    """Candidates of one scan, best first.

    Attributes:
        world_mm: (n, 3) centres (x, y, z), LPS.
        score: (n,) probability of the peak.
        diameter_mm: (n,) diameter of a sphere with the volume of the region.
        n_dropped: Lower peaks not examined because of ``candidates.max_per_scan``.
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
        n_rows, threshold = self.shape[0], max(threshold, SMALLEST)
        found = [
            self._peaks_of(start, min(start + ROWS_AT_ONCE, n_rows), threshold)
            for start in range(0, n_rows, ROWS_AT_ONCE)
        ]
        voxels, values = zip(*found, strict=True)
        return np.concatenate(voxels), np.concatenate(values)

    def _peaks_of(
        self, start: int, stop: int, threshold: float
    ) -> tuple[IntArray, NDArray[np.float32]]:
        """Find the peaks of some rows: an untrained network has millions above the threshold."""
        n_rows, y, x = self.shape
        padded = np.full((stop - start + 2, y + 2, x + 2), -1.0, np.float32)
        top, bottom = max(0, start - 1), min(n_rows, stop + 1)
        padded[top - start + 1 : bottom - start + 1, 1:-1, 1:-1] = self._probability[top:bottom]
        flat = padded.ravel()
        plane = (y + 2) * (x + 2)
        high = np.flatnonzero(flat[plane:-plane] >= threshold) + plane
        here = np.ravel_multi_index((1, 1, 1), padded.shape)
        for offset in np.ndindex(3, 3, 3):
            if offset != (1, 1, 1):
                neighbour = high + (np.ravel_multi_index(offset, padded.shape) - here)
                high = high[flat[neighbour] <= flat[high]]
        voxels = np.stack(np.unravel_index(high, padded.shape), axis=1) - 1
        return voxels + np.array([start, 0, 0]), flat[high]

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
    """Find the lesions of a probability volume: one candidate each, whatever their shape.

    A peak is a voxel that none of its 26 neighbours exceeds; adjacent peaks count as one.  Its
    region is what is connected to it at ``region_share`` of its height or more.  A region that
    reaches a higher peak belongs to that one's lesion, unless it narrows to a neck in between: then
    two lesions touch, and each gets its own part.  Peaks or centres closer than ``merge_mm`` to a
    higher one are merged into it; of equal peaks the first in array order is kept.

    Args:
        probability: (z, y, x) in [0, 1], in memory or on a GPU.
        grid: Grid of the volume.
        config: Threshold, merging distance and limit.
        search: (z, y, x) mask in which peaks count (the lungs); None means everywhere.

    Returns:
        At most ``max_per_scan`` candidates; ``n_dropped`` is the number of peaks not looked at
        (among the lowest, those that would have been merged count too).
    """
    volume = HostVolume(probability) if isinstance(probability, np.ndarray) else probability
    voxels, score = volume.peaks(config.threshold)
    order = np.argsort(-score, kind="stable")
    voxels, score = voxels[order], score[order]

    found = _Found(grid, config)
    n_seen = n_left = 0
    while n_seen < len(voxels) and not found.full:
        last = score[min(n_seen + PEAKS_AT_ONCE, len(score)) - 1]
        end = int(np.searchsorted(-score, -last, side="right"))  # equal peaks stay together
        n_left = _examine(voxels[n_seen:end], score[n_seen:end], volume, search, found)
        n_seen = end
    low = voxels[n_seen:]
    n_low = len(low) if search is None else int(search[tuple(low.T)].sum())
    return found.candidates(n_left + n_low)


def _examine(
    voxels: IntArray,
    score: NDArray[np.float32],
    volume: PeakVolume,
    search: BoolArray | None,
    found: _Found,
) -> int:
    """Add the lesions of some peaks, highest first, and return how many peaks were left over."""
    kept = _middles(voxels, volume.shape)
    voxels, score = voxels[kept], score[kept]
    if search is not None:
        inside = search[tuple(voxels.T)]
        voxels, score = voxels[inside], score[inside]
    apart = found.apart(voxels)
    voxels, score = voxels[apart], score[apart]

    z, y, x = (int(REACH_MM / s) for s in found.grid.spacing_mm)
    taken = np.zeros(len(voxels), bool)  # by the region of an equal peak
    n_seen = 0
    for cube in volume.cubes(voxels, (z, y, x)):
        if found.full:
            break
        i, n_seen = n_seen, n_seen + 1
        if taken[i]:
            continue
        corner = voxels[i] - (z, y, x)
        equal = np.arange(n_seen, np.searchsorted(-score, -score[i], side="right"))
        for region in regions(cube, found.grid.spacing_mm, found.config.region_share):
            found.add(region, corner, float(score[i]))
            taken[equal[_contains(region.inside, voxels[equal] - corner)]] = True
    return len(voxels) - n_seen


class _Found:
    """The candidates of a scan so far, best first."""

    def __init__(self, grid: Grid, config: CandidateConfig) -> None:
        self.grid, self.config = grid, config
        self._peaks_mm = np.empty((0, 3))
        self._voxel_mm3 = float(np.prod(grid.spacing_mm))
        self._world_mm: list[FloatArray] = []
        self._score: list[float] = []
        self._diameter_mm: list[float] = []

    @property
    def full(self) -> bool:
        return len(self._score) >= self.config.max_per_scan

    def apart(self, voxels: IntArray) -> IntArray:
        """Return the indices of peaks (best first) that no better peak is close to."""
        world_mm, merge_mm = self.grid.to_world(voxels), self.config.merge_mm
        free = np.arange(len(voxels))
        if len(self._peaks_mm) and merge_mm:
            away_mm = KDTree(self._peaks_mm).query(world_mm)[0]
            free = np.flatnonzero(away_mm >= merge_mm)
        kept = free[_apart(world_mm[free], merge_mm)]
        self._peaks_mm = np.concatenate([self._peaks_mm, world_mm[kept]])
        return kept

    def add(self, region: Region, corner: IntArray, score: float) -> None:
        """Add a lesion, unless its centre is too close to one that is already there."""
        world_mm = self.grid.to_world(region.center_vox + corner)
        if self.full or self._is_near(world_mm):
            return
        self._world_mm.append(world_mm)
        self._score.append(score)
        volume_mm3 = region.inside.sum() * self._voxel_mm3
        self._diameter_mm.append(float((6 * volume_mm3 / np.pi) ** (1 / 3)))

    def _is_near(self, world_mm: FloatArray) -> bool:
        if not self._world_mm:
            return False
        away_mm = np.linalg.norm(np.array(self._world_mm) - world_mm, axis=1)
        return bool(away_mm.min() < self.config.merge_mm)

    def candidates(self, n_dropped: int) -> ScanCandidates:
        world_mm = np.array(self._world_mm, np.float64).reshape(-1, 3)
        diameter_mm = np.array(self._diameter_mm, np.float64)
        return ScanCandidates(world_mm, np.array(self._score, np.float64), diameter_mm, n_dropped)


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


@dataclass(frozen=True)
class Region:
    """The voxels of one lesion in a cube.

    Attributes:
        inside: (z, y, x) mask in the cube.
        center_vox: (3,) centroid, weighted by probability, in voxels of the cube.
    """

    inside: BoolArray
    center_vox: FloatArray


def regions(cube: NDArray[np.float32], spacing_mm: Triple, share: float) -> list[Region]:
    """Find the lesions that have their highest voxel in common with a peak.

    Args:
        cube: Probabilities around the peak, which is at its centre.
        spacing_mm: (z, y, x) size of a voxel.
        share: Share of the peak down to which its lesion extends.

    Returns:
        None if the peak belongs to the lesion of a higher one.  Usually one.  Several if a plateau
        of this height extends over touching lesions.
    """
    middle = tuple(n // 2 for n in cube.shape)
    peak = cube[middle]
    connected = _connected(cube, share, float(np.prod(spacing_mm)))
    box = ndimage.find_objects(connected.astype(np.uint8))[0]
    found = []
    for core, part in _parts(connected[box], spacing_mm):
        inside = np.zeros(cube.shape, bool)
        inside[box] = part
        highest = cube[box][core].max()
        if highest > peak or not (inside[middle] or highest == peak):
            continue  # a higher lesion, or another one that has a peak of its own
        voxels = np.argwhere(inside)
        weights = cube[inside].astype(np.float64)
        found.append(Region(inside, (voxels * weights[:, None]).sum(0) / weights.sum()))
    return found


def _connected(cube: NDArray[np.float32], share: float, voxel_mm3: float) -> BoolArray:
    """Return what is connected to the middle of a cube at a share of its height.

    Where that is larger than any lesion, as in the haze of a network that has learned little, the
    share is raised.
    """
    middle = tuple(n // 2 for n in cube.shape)
    region = np.zeros(cube.shape, bool)
    for level in (share, *(level for level in HIGHER_SHARES if level > share)):
        labels, _ = ndimage.label(cube >= level * cube[middle])
        region = labels == labels[middle]
        if region.sum() * voxel_mm3 <= LARGEST_LESION_MM3:
            break
    return region


def _parts(region: BoolArray, spacing_mm: Triple) -> list[tuple[BoolArray, BoolArray]]:
    """Split a region at its necks, as a watershed of the depth under its surface would.

    The core of a part is all that lies as deep as ``NECK`` of its deepest voxel.  A voxel belongs
    to the core whose surface, moved out by the depth at which the core begins, comes nearest.

    A bulge is a part of its own if the way from it to a thicker one is narrower than ``NECK`` of
    its own thickness.  Thin bulges never are: vessels, spikes, the unevenness of a small lesion.

    Returns:
        Core and whole of each part; the core of an undivided region is the region itself.
    """
    whole = [(region, region)]
    if region.sum() < FEWEST_OF_A_PAIR:
        return whole
    depth_mm = ndimage.distance_transform_edt(np.pad(region, 1), spacing_mm)[1:-1, 1:-1, 1:-1]
    depth_mm -= min(spacing_mm) / 2  # to the voxels' faces
    top = region & (ndimage.maximum_filter(depth_mm, 3) == depth_mm) & (depth_mm >= THINNEST_MM)
    tops = np.argwhere(top)
    cores: list[tuple[BoolArray, float]] = []
    bulges = np.zeros(region.shape, bool)  # of a core, or on the wide way to one
    for voxel in tops[np.argsort(-depth_mm[top], kind="stable")]:
        at = tuple(voxel)
        if bulges[at]:
            continue
        level_mm = NECK * float(depth_mm[at])
        labels, _ = ndimage.label(depth_mm >= level_mm, np.ones((3, 3, 3)))
        core = labels == labels[at]
        if not any((core & other).any() for other, _ in cores):
            cores.append((core, level_mm))
        bulges |= core
    if len(cores) < 2:
        return whole
    nearest = np.argmin([ndimage.distance_transform_edt(~core, spacing_mm) - level
                         for core, level in cores], axis=0)  # fmt: skip
    return [(core, region & (nearest == i)) for i, (core, _) in enumerate(cores)]


def _contains(inside: BoolArray, voxels: IntArray) -> BoolArray:
    """Say for each voxel (n, 3) of a cube, or beyond it, whether it is inside."""
    near = np.flatnonzero(((voxels >= 0) & (voxels < inside.shape)).all(axis=1))
    contained = np.zeros(len(voxels), bool)
    contained[near] = inside[tuple(voxels[near].T)]
    return contained


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
