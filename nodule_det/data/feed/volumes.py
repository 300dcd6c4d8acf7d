"""The voxels of the training scans, with as many scans on the device as fit.

    scans ──load──▶ DeviceVolumes: one flat int16 tensor (and uint8 labels) on the device
    patches of scans that did not fit ──cut on the CPU──▶ pinned cubes ──copy──▶ the same tensor

A scan has 25 MB and a patch of 64^3 half of one, so what does not fit is not copied scan by scan:
the CPU cuts the cubes of a batch, and 50 to 400 times fewer bytes cross the bus.  Both kinds lie in
one tensor, whose tail holds the cubes, so one gather serves all.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nodule_det.arrays import BoolArray, IntArray
from nodule_det.data.feed.batch import AIR_HU
from nodule_det.data.feed.cutter import corner_of, cut
from nodule_det.data.feed.patches import SCANS_AT_HAND, TrainingScan
from nodule_det.data.feed.plan import Samples
from nodule_det.progress import Progress

GIB = 1 << 30
"""What the setting ``feed.memory_gb`` counts in."""

log = logging.getLogger(__name__)

Held = tuple[IntArray, IntArray, IntArray, IntArray, IntArray]
"""``first``, ``first_label``, ``pitch``, ``low``, ``high`` of ``gather.Places``."""


class DeviceVolumes:
    """Scans on a device, and a tail for cubes of the others.

    Args:
        scans: Scans to train on.
        masked: (n_scans,) which have label volumes.
        device: Where the network runs.
        memory_bytes: Most that scans and labels may take there.
        n_cubes: Most cubes that are on the device at a time.
        size_vox: Edge of a cube.
        show_progress: Whether to show progress while loading.
    """

    def __init__(
        self,
        scans: Sequence[TrainingScan],
        masked: BoolArray,
        device: torch.device,
        memory_bytes: int,
        *,
        n_cubes: int,
        size_vox: int,
        threads: int = 1,
        show_progress: bool = False,
    ) -> None:
        self._scans, self._masked, self._size_vox = scans, masked, size_vox
        self.sizes = np.array([scan.grid.size_vox for scan in scans], np.int64).reshape(-1, 3)
        n_vox = self.sizes.prod(axis=1)
        taken = np.cumsum(n_vox * np.where(masked, 3, 2))
        self.resident: BoolArray = taken <= memory_bytes
        """(n_scans,) which scans lie on the device: the first ones, until the memory is used."""
        starts = np.cumsum(np.where(self.resident, n_vox, 0))
        self._starts = starts - np.where(self.resident, n_vox, 0)
        labelled = np.where(self.resident & masked, n_vox, 0)
        self._label_starts = np.cumsum(labelled) - labelled
        cubes = 0 if self.resident.all() else n_cubes * size_vox**3
        self._cubes_at, self._label_cubes_at = int(starts[-1]), int(labelled.sum())
        self.voxels = torch.empty(self._cubes_at + cubes, dtype=torch.int16, device=device)
        label_cubes = cubes if (masked & ~self.resident).any() else 0
        self.labels = torch.empty(
            self._label_cubes_at + label_cubes, dtype=torch.uint8, device=device
        )
        self._pool = ThreadPoolExecutor(max(1, threads), thread_name_prefix="cut")
        self._volume = lru_cache(SCANS_AT_HAND)(lambda scan: np.asarray(self._scans[scan].volume()))
        self._label = lru_cache(SCANS_AT_HAND)(lambda scan: np.asarray(self._scans[scan].labels()))
        n, taken_gb = int(self.resident.sum()), (self.voxels.nbytes + self.labels.nbytes) / GIB
        log.info(
            "%d of %d training scans are on %s (%.1f GB, at most %.1f GB: feed.memory_gb)%s",
            n, len(scans), device, taken_gb, memory_bytes / GIB,
            "" if n == len(scans) else "; patches of the others are cut on the CPU",
        )  # fmt: skip
        with Progress("load scans", n, enabled=show_progress) as progress:
            for scan in np.flatnonzero(self.resident).tolist():
                self._load(scan)
                progress.advance()

    def held(self, samples: Samples) -> tuple[Held, IntArray]:
        """Return where the voxels of samples lie.

        Returns:
            The columns of the table, and the (k,) rows whose cubes must be cut: they take the
            first k places of the tail, in this order.
        """
        size, scan = self._size_vox, samples.scan
        on_device = self.resident[scan]
        away = np.flatnonzero(~on_device)
        _, y, x = self.sizes[scan].T
        pitch = np.stack([y * x, x, np.ones_like(x)], axis=1)
        pitch[away] = [size**2, size, 1]
        low, high = np.zeros_like(samples.corner), self.sizes[scan] - 1
        low[away], high[away] = samples.corner[away], samples.corner[away] + size - 1
        first, first_label = self._starts[scan], self._label_starts[scan]
        cube = np.arange(len(away)) * size**3 - (samples.corner[away] * pitch[away]).sum(axis=1)
        first[away] = self._cubes_at + cube
        first_label[away] = self._label_cubes_at + cube
        return (first, first_label, pitch, low, high), away

    def cut(self, samples: Samples) -> tuple[Tensor, Tensor | None]:
        """Cut cubes on the CPU: (k, W, W, W) HU, and labels where the scans may have them."""
        shape = (len(samples), *3 * (self._size_vox,))
        pinned = self.voxels.is_cuda
        cubes = torch.empty(shape, dtype=torch.int16, pin_memory=pinned)
        labels = None
        if self._masked[samples.scan].any():
            labels = torch.zeros(shape, dtype=torch.uint8, pin_memory=pinned)
        images: NDArray[Any] = cubes.numpy()
        masks: NDArray[Any] | None = None if labels is None else labels.numpy()

        def cut_one(i: int) -> None:
            scan, corner = int(samples.scan[i]), corner_of(samples, i)
            cut(self._volume(scan), corner, images[i], AIR_HU)
            if masks is not None and self._masked[scan]:
                cut(self._label(scan), corner, masks[i], 0)

        list(self._pool.map(cut_one, range(len(samples))))
        return cubes, labels

    def place(self, cubes: Tensor, labels: Tensor | None) -> None:
        """Copy cubes into the tail, without waiting, on the current stream."""
        n = cubes.numel()
        tail = self.voxels[self._cubes_at : self._cubes_at + n]
        tail.copy_(cubes.view(-1), non_blocking=True)
        if labels is not None:
            tail_labels = self.labels[self._label_cubes_at : self._label_cubes_at + n]
            tail_labels.copy_(labels.view(-1), non_blocking=True)

    def unmap(self) -> None:
        """Let go of the scans on disk: mapped pages count as memory of the process."""
        self._volume.cache_clear()
        self._label.cache_clear()

    def _load(self, scan: int) -> None:
        n = int(self.sizes[scan].prod())
        start = int(self._starts[scan])
        volume = torch.from_numpy(np.array(self._scans[scan].volume()).ravel())
        self.voxels[start : start + n].copy_(volume)
        if self._masked[scan]:
            start = int(self._label_starts[scan])
            labels = torch.from_numpy(np.array(self._scans[scan].labels()).ravel())
            self.labels[start : start + n].copy_(labels)
