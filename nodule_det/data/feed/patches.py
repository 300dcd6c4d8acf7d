"""Where to cut: which cubes of which scans an epoch is made of.

    (seed, epoch, number) ──PatchPlan.draw()──▶ Patch(scan, corner, point) ──▶ feed

Nothing is remembered between two draws.  Patch k of epoch e depends on ``(seed, e, k)`` alone,
so a resumed run, another batch order or another number of GPUs sees the very same patches.

Shares are exact, not drawn: an epoch of 512 patches at ``patches.positive_fraction=0.5`` has 256
positives.  Lesions take turns, through all epochs, in an order shuffled for each round: each is
seen equally often (give or take one), whether it is alone in its scan or one of ten.  Scans take
turns in the same way for the negatives.
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
from nodule_det.data.scan import Finding, HuVolume
from nodule_det.errors import ConfigError, StoreError
from nodule_det.geometry import Grid

Corner = tuple[int, int, int]

SCANS_AT_HAND = 128
"""Scans whose index stays decoded, and whose file stays mapped: below the usual 1024 open files."""


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
    """What a patch was drawn around; an epoch holds the kinds in this order."""

    LESION = 0
    VESSEL = 1
    LUNG = 2


@dataclass(frozen=True, slots=True)
class Patch:
    """A cube to cut.

    Attributes:
        scan: Index into the scans of the plan.
        corner: (z, y, x) first voxel; may lie outside the volume.
        point: (z, y, x) voxel that it was drawn around: a lesion's centre, or a voxel of lung.
            It lies inside the patch, and copies of the patch must keep it there.
        kind: What the point is.
    """

    scan: int
    corner: Corner
    point: Corner
    kind: Kind


class Stream(IntEnum):
    """What random numbers are for: two purposes never share a sequence."""

    PATCH = 0
    COPY = 1
    TURN = 2
    ORDER = 3


def generator(stream: Stream, *words: int) -> np.random.Generator:
    """Make the generator of a purpose and a place, such as (seed, epoch, number).

    A stream always takes the same number of words: numpy's SeedSequence cannot tell (1, 2) from
    (1, 2, 0).
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([stream, *words])))


def rim_vox(size_vox: int) -> int:
    """Return how near to a patch's face its point may lie: an eighth of the edge.

    Points lie anywhere else in the patch with equal chance.  Were they all near the centre, a
    network whose convolutions see the patch's border would learn the place, not the nodule.  In
    the rim, most of what surrounds the point would be missing.
    """
    return size_vox // 8


def admissible_corners(point: Corner, size_vox: int) -> tuple[IntArray, IntArray]:
    """Return the lowest and highest corner, (3,) each and inclusive, that keep a point inside."""
    rim = rim_vox(size_vox)
    return np.asarray(point) - (size_vox - 1 - rim), np.asarray(point) - rim


class PatchPlan:
    """The patches of every epoch.

    Args:
        scans: Scans to train on.
        config: Size, number and shares of the patches.
        seed: Seed of the run.

    Raises:
        ConfigError: If a scan is smaller than a patch.
        StoreError: If a share is asked for that no scan can give, or a lesion lies outside its
            scan.
    """

    def __init__(self, scans: Sequence[TrainingScan], config: PatchConfig, seed: int) -> None:
        for scan in scans:
            _refuse_small(scan, config.size_vox)
        self._scans = scans
        self._size_vox = config.size_vox
        self._seed = seed
        self._lesions = [place for i, scan in enumerate(scans) for place in _lesions(i, scan)]
        self._blocks = lru_cache(SCANS_AT_HAND)(self._read_blocks)
        self.counts = _counts(config)
        """Patches of each kind in an epoch, in the order of :class:`Kind`."""
        if self.counts[Kind.LESION] and not self._lesions:
            raise StoreError(
                f"none of the {len(scans)} scans to train on has a lesion, and "
                f"patches.positive_fraction={config.positive_fraction} asks for patches around "
                "lesions: was the data set ingested with its annotations?"
            )

    def draw(self, epoch: int, number: int) -> Patch:
        """Draw patch ``number`` (0 ... per_epoch - 1) of an epoch."""
        kind, place = Kind.LESION, number
        while place >= self.counts[kind]:
            place -= self.counts[kind]
            kind = Kind(kind + 1)
        turn = epoch * self.counts[kind] + place
        rng = generator(Stream.PATCH, self._seed, epoch, number)
        if kind is Kind.LESION:
            scan, point = self._lesions[self._whose_turn(kind, turn, len(self._lesions))]
        else:
            scan, point = self._draw_block(kind, turn, rng)
        low, high = admissible_corners(point, self._size_vox)
        return Patch(scan, _corner(rng.integers(low, high, endpoint=True)), point, kind)

    def _whose_turn(self, kind: Kind, turn: int, n: int) -> int:
        round_, place = divmod(turn, n)
        return int(_shuffled(self._seed, int(kind), round_, n)[place])

    def _draw_block(self, kind: Kind, turn: int, rng: np.random.Generator) -> tuple[int, Corner]:
        """Draw a voxel of the scan whose turn it is, or of the next one that has such a block."""
        n = len(self._scans)
        first = self._whose_turn(kind, turn, n)
        for scan in (*range(first, n), *range(first)):
            blocks = self._blocks(scan, kind)
            if len(blocks):
                block = blocks[rng.integers(len(blocks))]
                return scan, _corner(block + rng.integers(BLOCK_VOX, size=3))
        raise StoreError(
            f"none of the {n} scans to train on has {kind.name.lower()} blocks in "
            "its index, to draw negatives from: look at the lung masks in the store's summary.png"
        )

    def _read_blocks(self, scan: int, kind: Kind) -> IntArray:
        stored = self._scans[scan]
        blocks = stored.vessel_blocks() if kind is Kind.VESSEL else stored.lung_blocks()
        return blocks.astype(np.int16)  # a quarter of the memory; scans are below 32768 voxels


def _counts(config: PatchConfig) -> tuple[int, int, int]:
    lesion = round(config.per_epoch * config.positive_fraction)
    vessel = min(round(config.per_epoch * config.vessel_fraction), config.per_epoch - lesion)
    return lesion, vessel, config.per_epoch - lesion - vessel


def _lesions(index: int, scan: TrainingScan) -> list[tuple[int, Corner]]:
    places = []
    for finding in scan.findings:
        if finding.excluded:
            continue
        if not scan.grid.contains(finding.center_mm):
            raise StoreError(
                f"scan {scan.series_uid}: the lesion at {finding.center_mm} mm lies outside the "
                "stored volume; ingest the scan again"
            )
        places.append((index, _corner(np.rint(scan.grid.to_voxel(finding.center_mm)))))
    return places


def _refuse_small(scan: TrainingScan, size_vox: int) -> None:
    if min(scan.grid.size_vox) < size_vox:
        z, y, x = scan.grid.size_vox
        raise ConfigError(
            f"patches.size_vox={size_vox} is larger than the lung box of scan {scan.series_uid}, "
            f"{z} x {y} x {x} voxels (z, y, x); use a smaller patch, or make the store with a "
            "finer store.spacing_mm or a larger store.margin_mm"
        )


@lru_cache(8)
def _shuffled(seed: int, kind: int, round_: int, n: int) -> IntArray:
    return generator(Stream.TURN, seed, kind, round_).permutation(n)


def _corner(values: NDArray[np.number]) -> Corner:
    z, y, x = (int(v) for v in values)
    return z, y, x
