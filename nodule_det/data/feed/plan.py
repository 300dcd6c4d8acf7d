"""The content of each batch of a run, decided before any voxel is read.

    (seed, epoch, step) ──▶ EpochPlan.rows() ──▶ Samples(scan, corner, orientation, intensity)

A batch depends only on ``(seed, epoch, step)``, so a run resumed in the middle of an epoch gets
the same batches as an uninterrupted one.  Thousands of samples are drawn at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from nodule_det.arrays import IntArray
from nodule_det.config.train import TrainConfig
from nodule_det.data.feed.augment import draw_orientations, shifted_corners
from nodule_det.data.feed.draws import Draws, Stream, generator
from nodule_det.data.feed.patches import Patches, PatchPlan, TrainingScan
from nodule_det.errors import ConfigError
from nodule_det.progress import counted

PLANNED_AT_ONCE = 4096
"""Samples drawn together: enough that the time per sample no longer falls, 1 MB of memory."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Patches of a batch, or of several, one per row.

    Attributes:
        scan: (n,) index into the scans.
        corner: (n, 3) first voxel (z, y, x) of the scan; may lie outside.
        orientation: (n,) index into ``augment.ORIENTATIONS``.
        intensity: (n, 3) standard deviation of the noise in HU, contrast factor, scale factor.
    """

    scan: IntArray
    corner: IntArray
    orientation: IntArray
    intensity: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.scan)

    def __getitem__(self, rows: slice | IntArray) -> Samples:
        return Samples(*(getattr(self, field.name)[rows] for field in fields(self)))


class EpochPlan:
    """The samples of a training run.

    An epoch is ``patches.per_epoch`` drawn patches and ``augment.copies`` augmented copies of
    each, reshuffled for each epoch.  The incomplete last batch is dropped (different patches in
    each epoch).

    Args:
        scans: Scans to train on, as ``Store.training(fold)`` returns them.
        config: Settings of the run.

    Raises:
        ConfigError: If a scan is smaller than a patch, or an epoch smaller than a batch.
        StoreError: If the scans lack a requested kind of patch.
    """

    def __init__(self, scans: Sequence[TrainingScan], config: TrainConfig) -> None:
        self._config = config
        self._patches = PatchPlan(scans, config.patches, config.seed)
        self._planned = lru_cache(2)(self._plan_steps)
        self.batch_size = config.optim.batch_size
        if self.steps_per_epoch < 1:
            raise ConfigError(
                f"patches.per_epoch={config.patches.per_epoch} with "
                f"augment.copies={config.augment.copies} gives "
                f"{counted(self.epoch_size, 'patch', 'patches')}, fewer than "
                f"optim.batch_size={config.optim.batch_size}; draw more patches"
            )

    @property
    def epoch_size(self) -> int:
        """Patches of an epoch, copies included."""
        return self._config.patches.per_epoch * (1 + self._config.augment.copies)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches of an epoch."""
        return self.epoch_size // self.batch_size

    def rows(self, epoch: int, step: int, *, rank: int = 0, world_size: int = 1) -> Samples:
        """Return the samples of a batch, or one process's share: every ``world_size``-th.

        Raises:
            ConfigError: If the processes cannot share a batch equally.
        """
        size = self.batch_size
        if size % world_size:
            raise ConfigError(
                f"optim.batch_size={size} cannot be shared equally by {world_size} processes; "
                "use a number of processes that divides it"
            )
        together = max(1, PLANNED_AT_ONCE // size)
        chunk, place = divmod(step, together)
        planned = self._planned(epoch, chunk * together, together)
        return planned[slice(place * size + rank, (place + 1) * size, world_size)]

    def draw(self, epoch: int, numbers: IntArray) -> tuple[Samples, Patches]:
        """Draw samples of an epoch.

        Args:
            epoch: Epoch, from 0.
            numbers: (n,) which, 0 ... epoch_size - 1.  Each drawn patch is followed by its copies.

        Returns:
            The samples, and the patches that they are or are copies of.
        """
        augment, seed = self._config.augment, self._config.seed
        number, copy = np.divmod(numbers, 1 + augment.copies)
        patches = self._patches.draw(epoch, number)
        corner, orientation = patches.corner.copy(), np.zeros(len(numbers), np.int64)
        intensity = np.tile(np.array([0, 1, 1], np.float32), (len(numbers), 1))
        rows = np.flatnonzero(copy)
        if len(rows):
            words = (seed, epoch, number[rows], copy[rows])
            draws = Draws(Stream.COPY, *words)
            drawn = Patches(*(getattr(patches, f.name)[rows] for f in fields(Patches)))
            size_vox = self._config.patches.size_vox
            corner[rows] = shifted_corners(drawn, augment.shift_vox, size_vox, draws)
            orientation[rows] = draw_orientations(
                draws, rotate=augment.rotate, mirror=augment.mirror
            )
            if augment.changes_intensity:
                draws = Draws(Stream.INTENSITY, *words)
                intensity[rows, 0] = augment.noise_hu * draws.uniform()
                intensity[rows, 1] = 1 + augment.contrast * (2 * draws.uniform() - 1)
                intensity[rows, 2] = 1 + augment.scale * (2 * draws.uniform() - 1)
        return Samples(patches.scan, corner, orientation, intensity), patches

    def _plan_steps(self, epoch: int, first: int, n: int) -> Samples:
        order = _order(self._config.seed, epoch, self.epoch_size)
        return self.draw(epoch, order[first * self.batch_size : (first + n) * self.batch_size])[0]


@lru_cache(2)
def _order(seed: int, epoch: int, n: int) -> IntArray:
    return generator(Stream.ORDER, seed, epoch).permutation(n)
