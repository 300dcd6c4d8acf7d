"""Where to cut: the cubes of scans that make up an epoch.

    (seed, epoch, numbers) ──PatchPlan.draw()──▶ Patches(scan, corner, point) ──▶ feed

There is no state between draws.  Patch k of epoch e depends only on ``(seed, e, k)``, so a resumed
run, another batch order or another number of GPUs sees the same patches.

Shares are exact, not drawn: an epoch of 512 patches at ``patches.positive_fraction=0.5`` has 256
positives.  Lesions take turns across epochs, reshuffled each round, so each is seen equally often
(to within one), whether it is alone in its scan or one of ten.  For negatives, scans take turns in
the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nodule_det.arrays import IntArray
from nodule_det.config.train import PatchConfig
from nodule_det.data.blocks import BLOCK_VOX
from nodule_det.data.feed.draws import Draws, Stream, generator
from nodule_det.data.scan import Finding, HuVolume
from nodule_det.errors import ConfigError, StoreError
from nodule_det.geometry import Grid
from nodule_det.progress import counted

Corner = tuple[int, int, int]

SCANS_AT_HAND = 128
"""Scans whose file stays mapped: well below the usual limit of 1024 open files."""


class TrainingScan(Protocol):
    """What the feed needs of a scan: ``nodule_det.data.store.StoredScan`` has it."""

    @property
    def series_uid(self) -> str:
        """Our key for the scan."""

    @property
    def grid(self) -> Grid:
        """Where its voxels lie."""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Its lesions and excluded findings."""

    def volume(self) -> HuVolume:
        """Map its (z, y, x) voxels in HU."""

    def labels(self) -> NDArray[np.uint8] | None:
        """Map its (z, y, x) label volume, where the data set brings lesion masks."""

    def lung_blocks(self) -> IntArray:
        """Return (n, 3) corners of the blocks of lung."""

    def vessel_blocks(self) -> IntArray:
        """Return (n, 3) corners of the blocks of lung that hold dense voxels."""


class Kind(IntEnum):
    """What a patch is drawn around.  An epoch has the kinds in this order."""

    LESION = 0
    VESSEL = 1
    LUNG = 2


@dataclass(frozen=True, slots=True)
class Patches:
    """Cubes to cut, one per row.

    Attributes:
        scan: (n,) index into the scans of the plan.
        corner: (n, 3) first voxel, (z, y, x); may lie outside the volume.
        point: (n, 3) voxel that the patch was drawn around: a lesion's centre, or a voxel of lung.
            It lies inside the patch, and copies of the patch must keep it there.
        kind: (n,) what the point is, a :class:`Kind`.
    """

    scan: IntArray
    corner: IntArray
    point: IntArray
    kind: IntArray


def rim_vox(size_vox: int) -> int:
    """Return the smallest distance of a point from the patch's faces: an eighth of the edge.

    Points are uniform in the rest of the patch.  If all were near the centre, a network whose
    convolutions see the patch's border would learn the position, not the nodule.  In the rim, most
    of the point's surroundings would be missing.
    """
    return size_vox // 8


def admissible_corners(point: IntArray, size_vox: int) -> tuple[IntArray, IntArray]:
    """Return the lowest and highest corners, inclusive, that keep (n, 3) points inside."""
    rim = rim_vox(size_vox)
    return point - (size_vox - 1 - rim), point - rim


class PatchPlan:
    """The patches of every epoch.

    Args:
        scans: Scans to train on.
        config: Size, number and shares of the patches.
        seed: Seed of the run.

    Raises:
        ConfigError: If a scan is smaller than a patch.
        StoreError: If no scan can provide a requested kind of patch, or a lesion lies outside its
            scan.
    """

    def __init__(self, scans: Sequence[TrainingScan], config: PatchConfig, seed: int) -> None:
        for scan in scans:
            _refuse_small(scan, config.size_vox)
        self._scans = scans
        self._sizes = np.array([scan.grid.size_vox for scan in scans], np.int64).reshape(-1, 3)
        self._size_vox = config.size_vox
        self._seed = seed
        lesions = [place for i, scan in enumerate(scans) for place in _lesions(i, scan)]
        self._lesions = np.array(lesions, np.int64).reshape(-1, 4)  # scan, z, y, x
        self._blocks: dict[tuple[int, int], NDArray[np.uint32]] = {}
        self.counts = _counts(config)
        """Patches of each kind in an epoch, in the order of :class:`Kind`."""
        if self.counts[Kind.LESION] and not lesions:
            raise StoreError(
                f"none of {counted(len(scans), 'scan')} to train on has a lesion, and "
                f"patches.positive_fraction={config.positive_fraction} asks for patches around "
                "lesions: was the data set ingested with its annotations?"
            )

    def draw(self, epoch: int, numbers: IntArray) -> Patches:
        """Draw patches of an epoch, all at once.

        Args:
            epoch: Epoch, from 0.
            numbers: (n,) which patches, 0 ... per_epoch - 1, in any order.

        Raises:
            StoreError: If no scan has blocks of a kind that is needed.
        """
        counts = np.array(self.counts)
        ends = np.cumsum(counts)
        kind = np.searchsorted(ends, numbers, side="right")
        turn = epoch * counts[kind] + numbers - (ends - counts)[kind]
        draws = Draws(Stream.PATCH, self._seed, epoch, numbers)
        scan, point = np.zeros(len(kind), np.int64), np.zeros((len(kind), 3), np.int64)
        rows = np.flatnonzero(kind == Kind.LESION)
        whose = self._lesions[self._whose_turn(Kind.LESION, turn[rows], len(self._lesions))]
        scan[rows], point[rows] = whose[:, 0], whose[:, 1:]
        self._draw_blocks(kind, turn, draws, scan, point)
        low, high = admissible_corners(point, self._size_vox)
        moved = [draws.integers(high[:, axis] - low[:, axis] + 1) for axis in range(3)]
        return Patches(scan, low + np.stack(moved, axis=1), point, kind)

    def _whose_turn(self, kind: Kind, turns: IntArray, n: int) -> IntArray:
        """Return which of n lesions or scans each (m,) turn belongs to."""
        rounds, place = np.divmod(turns, max(n, 1))
        whose = np.zeros(len(turns), np.int64)
        for round_ in np.unique(rounds).tolist():
            rows = rounds == round_
            whose[rows] = _shuffled(self._seed, int(kind), round_, n)[place[rows]]
        return whose

    def _draw_blocks(
        self, kind: IntArray, turn: IntArray, draws: Draws, scan: IntArray, point: IntArray
    ) -> None:
        """Draw voxels of the scans whose turn it is; fills ``scan`` and ``point``."""
        chosen = np.zeros(len(kind), np.int64)
        n_blocks = np.ones(len(kind), np.int64)
        for one in (Kind.VESSEL, Kind.LUNG):
            rows = np.flatnonzero(kind == one)
            first = self._whose_turn(one, turn[rows], len(self._scans))
            having = {s: self._next_with_blocks(s, one) for s in np.unique(first).tolist()}
            scan[rows] = [having[s] for s in first.tolist()]
            n_blocks[rows] = [len(self._index(s, one)) for s in scan[rows].tolist()]
        which = draws.integers(n_blocks)
        for one in (Kind.VESSEL, Kind.LUNG):
            for row in np.flatnonzero(kind == one).tolist():
                chosen[row] = self._index(int(scan[row]), one)[which[row]]
        rows = kind != Kind.LESION
        _, y, x = self._sizes[scan].T
        corner = np.stack([chosen // (y * x), chosen // x % y, chosen % x], axis=1)
        choices = np.where(rows, BLOCK_VOX, 1)
        inside = np.stack([draws.integers(choices) for _ in range(3)], axis=1)
        point[rows] = (corner + inside)[rows]

    def _next_with_blocks(self, first: int, kind: Kind) -> int:
        """Return the scan whose turn it is, or the next one that has blocks of a kind."""
        n = len(self._scans)
        for scan in (*range(first, n), *range(first)):
            if len(self._index(scan, kind)):
                return int(scan)
        raise StoreError(
            f"none of {counted(n, 'scan')} to train on has {kind.name.lower()} blocks in its "
            "index, to draw negatives from: look at the lung masks in the store's summary.png"
        )

    def _index(self, scan: int, kind: Kind) -> NDArray[np.uint32]:
        """Return the first voxel of each block of a kind, numbered in array order.

        All are kept once read: 4 bytes a block, 0.4 MB for the lungs of an adult at 1 mm.
        """
        found = self._blocks.get((scan, kind))
        if found is None:
            stored = self._scans[scan]
            blocks = stored.vessel_blocks() if kind is Kind.VESSEL else stored.lung_blocks()
            flat = np.ravel_multi_index(tuple(np.asarray(blocks).T), stored.grid.size_vox)
            found = self._blocks[scan, kind] = np.asarray(flat, np.uint32)
        return found


def _counts(config: PatchConfig) -> tuple[int, int, int]:
    lesion = round(config.per_epoch * config.positive_fraction)
    vessel = min(round(config.per_epoch * config.vessel_fraction), config.per_epoch - lesion)
    return lesion, vessel, config.per_epoch - lesion - vessel


def _lesions(index: int, scan: TrainingScan) -> list[tuple[int, int, int, int]]:
    """Return (scan, z, y, x) of each lesion of a scan."""
    places = []
    for finding in scan.findings:
        if finding.excluded:
            continue
        if not scan.grid.contains(finding.center_mm):
            raise StoreError(
                f"scan {scan.series_uid}: the lesion at {finding.center_mm} mm lies outside the "
                "stored volume; ingest the scan again"
            )
        z, y, x = (int(v) for v in np.rint(scan.grid.to_voxel(finding.center_mm)))
        places.append((index, z, y, x))
    return places


def _refuse_small(scan: TrainingScan, size_vox: int) -> None:
    if min(scan.grid.size_vox) < size_vox:
        z, y, x = scan.grid.size_vox
        raise ConfigError(
            f"patches.size_vox={size_vox} is larger than the lung box of scan {scan.series_uid}, "
            f"{z} x {y} x {x} voxels (z, y, x); use a smaller patch, or make the store with a "
            "finer store.spacing_mm or a larger store.margin_mm"
        )


@lru_cache(64)
def _shuffled(seed: int, kind: int, round_: int, n: int) -> IntArray:
    return generator(Stream.TURN, seed, kind, round_).permutation(n)
