"""Cut batches with NumPy, for a network on a CPU.

    Samples ──cut from the memory map──rotate──▶ image
            ──draw_truth()─────────────rotate──▶ target, weight

There are no worker processes: cutting a patch takes less time than sending it from one process to
another, and NumPy releases the interpreter's lock while it copies, so one thread stays ahead of
the network (``bench/feed.py``).  On one CPU thread this is 1.5 to 2.3 times as fast as
``gather.py``, which does the same for a network on a GPU.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nodule_det.data.feed.augment import ORIENTATIONS, rotated, unrotated
from nodule_det.data.feed.batch import AIR_HU, Batch
from nodule_det.data.feed.patches import SCANS_AT_HAND, Corner, TrainingScan
from nodule_det.data.feed.plan import Samples
from nodule_det.data.feed.targets import FloatVolume, balls, draw_truth
from nodule_det.data.scan import HuVolume

BATCHES_AHEAD = 2
"""Number of batches prepared ahead of the network."""

ODD_PITCH_VOX = 8
"""Voxels added to the rows and planes of the scratch a patch is turned in.  With a pitch of a power
of two the elements of a column fall into the same few cache lines: 5-8 times slower on two of
the six orders of axes."""


class NumpyCutter:
    """Cuts samples from memory-mapped scans, patch by patch.

    Args:
        scans: Scans to train on.
        size_vox: Edge of the patches.
    """

    def __init__(self, scans: Sequence[TrainingScan], size_vox: int) -> None:
        self._scans, self._size_vox = scans, size_vox
        self._findings = [balls(scan) for scan in scans]
        self._volume = lru_cache(SCANS_AT_HAND)(self._map_volume)
        self._labels = lru_cache(SCANS_AT_HAND)(self._map_labels)

    def cut(self, samples: Samples) -> Batch:
        """Make a batch, on the CPU."""
        cube = (len(samples), 1) + 3 * (self._size_vox,)
        image, target = np.empty(cube, np.int16), np.zeros(cube, np.float32)
        weight = np.ones(cube, np.float32)
        scratch = odd_pitched(self._size_vox)
        for i in range(len(samples)):
            self._fill(samples, i, scratch, image[i, 0], target[i, 0], weight[i, 0])
        return Batch(*map(torch.from_numpy, (image, target, weight)))

    def batches(self, steps: range, rows: Callable[[int], Samples]) -> Generator[Batch, None, None]:
        """Make the batches of some steps in a thread that stays ahead of the network."""
        pool = ThreadPoolExecutor(1, thread_name_prefix="feed")
        ahead: deque[Future[Batch]] = deque()
        try:
            for step in steps:
                ahead.append(pool.submit(self._cut_step, step, rows))
                if len(ahead) > BATCHES_AHEAD:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
            # Mapped pages count as memory of the process, also while scans are validated.
            self._volume.cache_clear()
            self._labels.cache_clear()

    def _cut_step(self, step: int, rows: Callable[[int], Samples]) -> Batch:
        return self.cut(rows(step))

    def _fill(
        self,
        samples: Samples,
        i: int,
        scratch: HuVolume,
        image: HuVolume,
        target: FloatVolume,
        weight: FloatVolume,
    ) -> None:
        scan, corner = int(samples.scan[i]), corner_of(samples, i)
        orientation = ORIENTATIONS[samples.orientation[i]]
        inside = cut(self._volume(scan), corner, scratch, AIR_HU)
        image[...] = rotated(scratch, orientation)
        target, weight = unrotated(target, orientation), unrotated(weight, orientation)
        labels = self._labels(scan)
        if labels is not None:
            mask = np.empty(target.shape, np.uint8)
            cut(labels, corner, mask, 0)
            labels = mask
        draw_truth(self._findings[scan], labels, corner, target, weight)
        if not inside:
            _ignore_outside(weight, corner, self._scans[scan].grid.size_vox)

    def _map_volume(self, scan: int) -> HuVolume:
        return np.asarray(self._scans[scan].volume())

    def _map_labels(self, scan: int) -> NDArray[np.uint8] | None:
        labels = self._scans[scan].labels()
        return None if labels is None else np.asarray(labels)


def corner_of(samples: Samples, i: int) -> Corner:
    """Return the corner of one sample as plain integers."""
    z, y, x = samples.corner[i].tolist()
    return z, y, x


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
