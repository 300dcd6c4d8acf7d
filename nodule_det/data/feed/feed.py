"""The training feed: patches, targets and weights, batch after batch, from memory-mapped scans.

    PatchPlan ──▶ cut from the memory map ──rotate──▶ Batch(image, target, weight)
                  draw_truth() ────────────rotate──▶

A batch depends on ``(seed, epoch, step)`` alone, so a run resumed in the middle of an epoch goes
on with the batches that it would have had.  There are no worker processes: cutting takes less
time than handing the cut from one process to another, and numpy lets go of the interpreter's
lock while it copies, so one thread keeps ahead of the network (``bench/feed.py``).

Images leave as raw HU.  The network's device brings them to its window, a batch at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nodule_det.arrays import IntArray
from nodule_det.config.train import TrainConfig
from nodule_det.data.feed.augment import (
    ROTATIONS,
    Rotation,
    draw_rotation,
    rotated,
    shifted_corner,
    unrotated,
)
from nodule_det.data.feed.patches import (
    SCANS_AT_HAND,
    Corner,
    Patch,
    PatchPlan,
    Stream,
    TrainingScan,
    generator,
)
from nodule_det.data.feed.targets import FloatVolume, balls, draw_truth
from nodule_det.data.scan import HuVolume
from nodule_det.errors import ConfigError

AIR_HU = -1024
"""What a patch holds where it reaches outside the scan.  The network's window turns it to 0, which
is also what its convolutions see around a whole scan."""

BATCHES_AHEAD = 2
"""Batches made while the network works on one."""

ODD_PITCH_VOX = 8
"""Voxels added to the rows and planes of the scratch a patch is turned in.  With a pitch of a power
of two the elements of a column fall into the same few cache lines: 5-8 times slower on two of
the six orders of axes."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one optimiser step is made of; n patches of edge W.

    Attributes:
        image_hu: (n, 1, W, W, W) int16 HU.
        target: (n, 1, W, W, W) float32 in [0, 1]: how much of a voxel lies in a lesion.
        weight: (n, 1, W, W, W) float32: how much a voxel counts, 0 where nothing is known.
    """

    image_hu: HuVolume
    target: FloatVolume
    weight: FloatVolume


class Feed:
    """The batches of a training run.

    An epoch is ``patches.per_epoch`` drawn patches and ``augment.copies`` augmented copies of
    each, in an order shuffled anew for each epoch; what does not fill a batch at its end is left
    out, and that is never the same patches.

    Args:
        scans: Scans to train on, as ``Store.training(fold)`` gives them.
        config: Settings of the run.

    Raises:
        ConfigError: If a scan is smaller than a patch, or an epoch smaller than a batch.
        StoreError: If the scans lack what the shares of patches ask for.
    """

    def __init__(self, scans: Sequence[TrainingScan], config: TrainConfig) -> None:
        self._scans = scans
        self._config = config
        self._size_vox = config.patches.size_vox
        self._plan = PatchPlan(scans, config.patches, config.seed)
        self._findings = [balls(scan) for scan in scans]
        self._volume = lru_cache(SCANS_AT_HAND)(self._map_volume)
        self._labels = lru_cache(SCANS_AT_HAND)(self._map_labels)
        if self.steps_per_epoch < 1:
            raise ConfigError(
                f"patches.per_epoch={config.patches.per_epoch} with augment.copies="
                f"{config.augment.copies} gives {self.epoch_size} patches, fewer than "
                f"optim.batch_size={config.optim.batch_size}; draw more patches"
            )

    @property
    def epoch_size(self) -> int:
        """Patches of an epoch, copies included."""
        return self._config.patches.per_epoch * (1 + self._config.augment.copies)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches of an epoch."""
        return self.epoch_size // self._config.optim.batch_size

    def batches(
        self, epoch: int, *, first_step: int = 0, rank: int = 0, world_size: int = 1
    ) -> Iterator[Batch]:
        """Make an epoch's batches from ``first_step`` on, in a thread that stays ahead.

        Args:
            epoch: Epoch, from 0.
            first_step: Step to begin with: what a resumed run has behind it in this epoch.
            rank: Which share of each batch.
            world_size: Processes that share a batch.

        Raises:
            ConfigError: If the processes cannot share a batch equally.
        """
        steps = range(first_step, self.steps_per_epoch)
        pool = ThreadPoolExecutor(1, thread_name_prefix="feed")
        ahead: deque[Future[Batch]] = deque()
        try:
            for step in steps:
                ahead.append(pool.submit(self.batch, epoch, step, rank=rank, world_size=world_size))
                if len(ahead) > BATCHES_AHEAD:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def batch(self, epoch: int, step: int, *, rank: int = 0, world_size: int = 1) -> Batch:
        """Make one batch, or one process's share of it: every ``world_size``-th patch."""
        size = self._config.optim.batch_size
        if size % world_size:
            raise ConfigError(
                f"optim.batch_size={size} cannot be shared equally by {world_size} processes; "
                "start as many as divide it"
            )
        order = _order(self._config.seed, epoch, self.epoch_size)
        samples = order[step * size : (step + 1) * size][rank::world_size]
        cube = (len(samples), 1) + 3 * (self._size_vox,)
        batch = Batch(
            np.empty(cube, np.int16), np.zeros(cube, np.float32), np.ones(cube, np.float32)
        )
        scratch = odd_pitched(self._size_vox)
        for i, sample in enumerate(samples):
            self._fill(batch, i, epoch, int(sample), scratch)
        return batch

    def sample(self, epoch: int, sample: int) -> tuple[Patch, Corner, Rotation]:
        """Tell what sample ``0 ... epoch_size - 1`` of an epoch is, before any voxel is read.

        Returns:
            The patch that was drawn, where this copy of it is cut, and how it is turned.  Each
            drawn patch is followed by its copies.
        """
        number, copy = divmod(sample, 1 + self._config.augment.copies)
        patch = self._plan.draw(epoch, number)
        if copy == 0:
            return patch, patch.corner, ROTATIONS[0]
        rng = generator(Stream.COPY, self._config.seed, epoch, number, copy)
        corner = shifted_corner(patch, self._config.augment.shift_vox, self._size_vox, rng)
        return patch, corner, draw_rotation(rng) if self._config.augment.rotate else ROTATIONS[0]

    def _fill(self, batch: Batch, i: int, epoch: int, sample: int, scratch: HuVolume) -> None:
        patch, corner, rotation = self.sample(epoch, sample)
        inside = cut(self._volume(patch.scan), corner, scratch, AIR_HU)
        batch.image_hu[i, 0] = rotated(scratch, rotation)
        target, weight = (unrotated(v[i, 0], rotation) for v in (batch.target, batch.weight))
        labels = self._labels(patch.scan)
        if labels is not None:
            mask = np.empty(target.shape, np.uint8)
            cut(labels, corner, mask, 0)
            labels = mask
        draw_truth(self._findings[patch.scan], labels, corner, target, weight)
        if not inside:
            _ignore_outside(weight, corner, self._scans[patch.scan].grid.size_vox)

    def _map_volume(self, scan: int) -> HuVolume:
        return np.asarray(self._scans[scan].volume())

    def _map_labels(self, scan: int) -> NDArray[np.uint8] | None:
        labels = self._scans[scan].labels()
        return None if labels is None else np.asarray(labels)


def odd_pitched(size_vox: int) -> HuVolume:
    """Make an empty (W, W, W) scratch whose rows and planes are ``ODD_PITCH_VOX`` longer."""
    pitch = size_vox + ODD_PITCH_VOX
    return np.empty((size_vox, pitch, pitch), np.int16)[:, :size_vox, :size_vox]


def cut(volume: NDArray[Any], corner: Corner, out: NDArray[Any], outside: int) -> bool:
    """Copy a cube out of a volume.

    Args:
        volume: (z, y, x) voxels.
        corner: (z, y, x) first voxel of the cube; may lie outside.
        out: (W, W, W) the cube, filled.
        outside: Value of its voxels that lie outside the volume.

    Returns:
        Whether all of the cube lies in the volume.
    """
    there, here = _overlap(corner, volume.shape, out.shape[0])
    whole = volume[there].shape == out.shape
    if not whole:
        out.fill(outside)
    out[here] = volume[there]
    return whole


def _ignore_outside(weight: FloatVolume, corner: Corner, size_vox: tuple[int, ...]) -> None:
    """Set the weight of a patch's voxels outside a volume of ``size_vox`` to 0."""
    _, here = _overlap(corner, size_vox, weight.shape[0])
    known = weight[here].copy()
    weight.fill(0.0)
    weight[here] = known


def _overlap(
    corner: Corner, size_vox: tuple[int, ...], edge: int
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return where a cube and a volume overlap, as slices of the volume and of the cube."""
    spans = [
        (min(max(c, 0), n), min(max(c + edge, 0), n), c)
        for c, n in zip(corner, size_vox, strict=True)
    ]
    there = tuple(slice(start, stop) for start, stop, _ in spans)
    return there, tuple(slice(start - c, stop - c) for start, stop, c in spans)


@lru_cache(2)
def _order(seed: int, epoch: int, n: int) -> IntArray:
    return generator(Stream.ORDER, seed, epoch).permutation(n)
