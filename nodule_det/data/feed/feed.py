"""The training feed: patches, targets and weights, batch after batch, where the network runs.

    EpochPlan ──rows──▶ NumpyCutter (CPU) or DeviceCutter (GPU) ──▶ Batch(image, target, weight)

A batch depends only on ``(seed, epoch, step)``, so a run resumed in the middle of an epoch gets
the same batches as an uninterrupted one.  Images are in HU; the network applies its window.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import Protocol

import torch

from nodule_det.config.train import TrainConfig
from nodule_det.cpus import available_cpus
from nodule_det.data.feed.batch import Batch, noise_seed, vary_intensity
from nodule_det.data.feed.cutter import NumpyCutter
from nodule_det.data.feed.device_cutter import DeviceCutter
from nodule_det.data.feed.patches import TrainingScan
from nodule_det.data.feed.plan import EpochPlan, Samples
from nodule_det.data.feed.volumes import GIB


class Cutter(Protocol):
    """Makes batches from samples: ``NumpyCutter`` or ``DeviceCutter``."""

    def cut(self, samples: Samples) -> Batch:
        """Make one batch."""

    def batches(self, steps: range, rows: Callable[[int], Samples]) -> Generator[Batch, None, None]:
        """Make the batches of some steps, ahead of the network."""


class Feed:
    """The batches of a training run.

    Args:
        scans: Scans to train on, as ``Store.training(fold)`` returns them.
        config: Settings of the run.
        cutter: Makes the batches; by default NumPy, for a network on the CPU.

    Raises:
        ConfigError: If a scan is smaller than a patch, or an epoch smaller than a batch.
        StoreError: If the scans lack a requested kind of patch.
    """

    def __init__(
        self,
        scans: Sequence[TrainingScan],
        config: TrainConfig,
        cutter: Cutter | None = None,
    ) -> None:
        self._config = config
        self.plan = EpochPlan(scans, config)
        self._cutter: Cutter = cutter or NumpyCutter(scans, config.patches.size_vox)

    @property
    def epoch_size(self) -> int:
        """Patches of an epoch, copies included."""
        return self.plan.epoch_size

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches of an epoch."""
        return self.plan.steps_per_epoch

    def batches(
        self, epoch: int, *, first_step: int = 0, rank: int = 0, world_size: int = 1
    ) -> Generator[Batch, None, None]:
        """Make an epoch's batches from ``first_step`` on, ahead of the network.

        Args:
            epoch: Epoch, from 0.
            first_step: Step to begin with: the steps of this epoch that a resumed run has done.
            rank: Which share of each batch.
            world_size: Processes that share a batch.

        Raises:
            ConfigError: If the processes cannot share a batch equally.
        """

        def rows(step: int) -> Samples:
            return self.plan.rows(epoch, step, rank=rank, world_size=world_size)

        steps = range(first_step, self.steps_per_epoch)
        with closing(self._cutter.batches(steps, rows)) as batches:
            for step, batch in zip(steps, batches, strict=True):
                yield self._varied(batch, rows(step), epoch, step, rank)

    def batch(self, epoch: int, step: int, *, rank: int = 0, world_size: int = 1) -> Batch:
        """Make one batch, or one process's share of it: every ``world_size``-th patch."""
        samples = self.plan.rows(epoch, step, rank=rank, world_size=world_size)
        return self._varied(self._cutter.cut(samples), samples, epoch, step, rank)

    def _varied(self, batch: Batch, samples: Samples, epoch: int, step: int, rank: int) -> Batch:
        if not self._config.augment.changes_intensity:
            return batch
        intensity = torch.from_numpy(samples.intensity.copy())
        if batch.image_hu.is_cuda:
            intensity = intensity.pin_memory().to(batch.image_hu.device, non_blocking=True)
        return vary_intensity(batch, intensity, noise_seed(self._config.seed, epoch, step, rank))


OWN_BYTES_PER_VOXEL = 4096
"""Memory of a training step per voxel of a batch, assumed of a network of ``model.factory``: about
32 channels at full resolution, 32 times, in fp32."""


def cutting_threads(wanted: int) -> int:
    """Return how many CPU threads cut patches for a GPU: the setting, or all cores but one, 1-8."""
    if wanted:
        return wanted
    return min(8, max(1, available_cpus() - 1))


def feed_budget_bytes(config: TrainConfig, device: torch.device) -> int:
    """Return the GPU memory that training scans may take.

    ``feed.memory_gb``, or what is free but for a quarter of the card and twice the estimate of a
    training step (16 bytes a parameter is little beside its activations: 10 bytes per input voxel
    and filter, 54 at full resolution, see docs/performance.md), which leaves space for validation.
    """
    if config.feed.memory_gb is not None:
        return int(config.feed.memory_gb * GIB)
    free, total = torch.cuda.mem_get_info(device)
    per_voxel = config.model.filters * (54 if config.model.full_resolution else 10)
    if config.model.factory:
        per_voxel = OWN_BYTES_PER_VOXEL
    step = config.optim.batch_size * config.patches.size_vox**3 * per_voxel
    return max(0, free - max(total // 4, 2 * step + 2 * GIB))


def make_feed(
    scans: Sequence[TrainingScan],
    config: TrainConfig,
    device: torch.device,
    *,
    show_progress: bool = False,
) -> Feed:
    """Build the feed that suits the device."""
    if device.type == "cpu":
        return Feed(scans, config)
    cutter = DeviceCutter(
        scans,
        config.patches.size_vox,
        device,
        feed_budget_bytes(config, device),
        threads=cutting_threads(config.feed.threads),
        show_progress=show_progress,
    )
    return Feed(scans, config, cutter)
