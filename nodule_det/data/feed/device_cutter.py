"""Batches made on the device, several steps at once, ahead of the network.

    plan ──thread: tables, cubes──▶ pinned memory ──own stream: copy, gather──▶ Batch, Batch, ...

A thread prepares the tables and the cubes of the next chunk of steps while the device makes the
batches of this chunk and the network trains on the last.  Nothing here waits for the device: the
network's stream waits for an event.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nodule_det.data.feed.batch import Batch
from nodule_det.data.feed.gather import PackedTable, gather, make_table, on_device, pack
from nodule_det.data.feed.patches import TrainingScan
from nodule_det.data.feed.plan import Samples
from nodule_det.data.feed.table import TruthTable
from nodule_det.data.feed.volumes import DeviceVolumes

PATCHES_AT_ONCE = 128
"""Most patches gathered by one call.  A call takes the host some 500 operations, hardly more for
more patches, and a step of a small network takes a GPU no longer than that."""

VOXELS_AT_ONCE = 1 << 22
"""Voxels that may be gathered by one call on any device: 16 patches of 64^3, 32 MB of indices."""

BYTES_PER_VOXEL = 4096
"""Memory of a GPU per voxel gathered by one call, if that is more voxels: a call and the batches
made by the last ones take about a fortieth of it."""

CHUNKS_AHEAD = 2
"""Chunks prepared on the CPU while the device makes one."""

CHUNKS_IN_FLIGHT = 3
"""Chunks that the network may still have to train on when another one is made.  Replaying a graph
takes the host no time, so without this bound it would enqueue the batches of 40 steps, until the
loop reads a loss: 27 GB at 32 patches of 128^3."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A group of patches whose numbers and cubes lie in memory, ready to be copied."""

    table: PackedTable
    cubes: tuple[Tensor, Tensor | None] | None


class DeviceCutter:
    """Cuts samples where the network runs.

    Args:
        scans: Scans to train on.
        size_vox: Edge of the patches.
        device: Where the network runs.
        memory_bytes: Most that the scans may take there.
        threads: CPU threads that cut patches of scans that do not fit.
        show_progress: Whether to show progress while loading.
    """

    def __init__(
        self,
        scans: Sequence[TrainingScan],
        size_vox: int,
        device: torch.device,
        memory_bytes: int,
        *,
        threads: int = 1,
        show_progress: bool = False,
    ) -> None:
        self._size_vox, self._device = size_vox, device
        self._together = patches_at_once(size_vox, device)
        masked = np.array([scan.labels() is not None for scan in scans], bool)
        self._truth = TruthTable(scans, masked, size_vox)
        self.volumes = DeviceVolumes(
            scans, masked, device, memory_bytes,
            n_cubes=self._together, size_vox=size_vox,
            threads=threads, show_progress=show_progress,
        )  # fmt: skip
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def cut(self, samples: Samples) -> Batch:
        """Make a batch at once, on the current stream."""
        return self._make([self._prepare(part) for part in self._groups(samples)])

    def batches(self, steps: range, rows: Callable[[int], Samples]) -> Generator[Batch, None, None]:
        """Make the batches of some steps, a chunk of them at a time."""
        if not steps:
            return
        size = len(rows(steps[0]))
        n = max(1, self._together // size)
        chunks = [steps[i : i + n] for i in range(0, len(steps), n)]
        pool = ThreadPoolExecutor(1, thread_name_prefix="feed")
        ahead: deque[Future[list[Prepared]]] = deque()
        made: deque[tuple[Batch, torch.cuda.Event | None, int]] = deque()
        trained: deque[torch.cuda.Event] = deque()
        try:
            for chunk in chunks:
                ahead.append(pool.submit(self._prepare_steps, chunk, rows))
                if len(ahead) > CHUNKS_AHEAD:
                    made.append(self._start(ahead.popleft().result(), size))
                if len(made) > 1:
                    yield from self._split(*made.popleft())
                    self._wait_if_far_ahead(trained)
            while ahead or made:
                if ahead:
                    made.append(self._start(ahead.popleft().result(), size))
                if len(made) > 1 or not ahead:
                    yield from self._split(*made.popleft())
                    self._wait_if_far_ahead(trained)
        finally:
            pool.shutdown(cancel_futures=True)
            self.volumes.unmap()

    def _wait_if_far_ahead(self, trained: deque[torch.cuda.Event]) -> None:
        """Note that a chunk's steps are enqueued, and wait for those of an earlier chunk.

        Args:
            trained: Events after the steps of the last chunks; the device still has work after
                the oldest one, so it does not wait for the host.
        """
        if self._stream is None:
            return
        trained.append(torch.cuda.current_stream(self._device).record_event())
        if len(trained) > CHUNKS_IN_FLIGHT:
            trained.popleft().synchronize()

    def _prepare_steps(self, steps: range, rows: Callable[[int], Samples]) -> list[Prepared]:
        parts, names = [rows(step) for step in steps], Samples.__dataclass_fields__
        joined = Samples(*(np.concatenate([getattr(s, name) for s in parts]) for name in names))
        return [self._prepare(part) for part in self._groups(joined)]

    def _groups(self, samples: Samples) -> list[Samples]:
        n = self._together
        return [samples[i : i + n] for i in range(0, len(samples), n)]

    def _prepare(self, samples: Samples) -> Prepared:
        held, away = self.volumes.held(samples)
        truth = self._truth.balls_of(samples), self._truth.masks_of(samples)
        sizes = self.volumes.sizes[samples.scan]
        table = make_table(samples, held, sizes, truth, self._size_vox)
        packed = pack(table, pinned=self._device.type == "cuda")
        return Prepared(packed, self.volumes.cut(samples[away]) if len(away) else None)

    def _make(self, groups: list[Prepared]) -> Batch:
        made = []
        for group in groups:
            if group.cubes is not None:
                self.volumes.place(*group.cubes)
            table = on_device(group.table, self._device)
            made.append(gather(table, self.volumes.voxels, self.volumes.labels, self._size_vox))
        if len(made) == 1:
            return made[0]
        return Batch(*(torch.cat(parts) for parts in zip(*(b.parts() for b in made), strict=True)))

    def _start(
        self, groups: list[Prepared], batch_size: int
    ) -> tuple[Batch, torch.cuda.Event | None, int]:
        """Enqueue a chunk on this feed's own stream."""
        with self._own_stream():
            batch = self._make(groups)
            event = None if self._stream is None else self._stream.record_event()
            return batch, event, batch_size

    def _own_stream(self) -> AbstractContextManager[object]:
        if self._stream is None:
            return nullcontext()
        return torch.cuda.stream(self._stream)

    def _split(
        self, chunk: Batch, event: torch.cuda.Event | None, batch_size: int
    ) -> Iterator[Batch]:
        """Hand out a chunk's batches on the current stream, which waits until they are made."""
        if event is not None:
            stream = torch.cuda.current_stream(self._device)
            stream.wait_event(event)
            for part in chunk.parts():
                part.record_stream(stream)
        for i in range(0, len(chunk.image_hu), batch_size):
            yield Batch(*(part[i : i + batch_size] for part in chunk.parts()))


def patches_at_once(size_vox: int, device: torch.device) -> int:
    """Return how many patches are gathered by one call."""
    voxels = VOXELS_AT_ONCE
    if device.type == "cuda":
        memory_bytes = torch.cuda.get_device_properties(device).total_memory
        voxels = max(voxels, memory_bytes // BYTES_PER_VOXEL)
    return max(1, min(PATCHES_AT_ONCE, voxels // size_vox**3))
