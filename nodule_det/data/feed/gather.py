"""Batches made where the network runs: one gather for all patches, no loop over them.

    Places + BallGroups ──index_select──▶ image (n, W, W, W)
                        ──draw balls and masks──▶ target, weight

The volumes lie in one flat int16 tensor on the device.  After the table of a few integers per
patch, a fixed number of torch calls follows, none of which waits for the device.  The same code
runs on a CPU; there it is the test of the GPU, and the NumPy cutter is the test of both.

Two details make the results equal to the bit.  torch's float32 square root on a CPU is off by one
unit in the last place in a fifth of all values (pytorch issue 31250), so roots are taken in
float64.  Balls are drawn along the axes of the scan and scattered to their turned places, so that
sums are taken in the order in which NumPy takes them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nodule_det.arrays import IntArray
from nodule_det.data.feed.augment import AXES, FLIPS
from nodule_det.data.feed.batch import AIR_HU, Batch
from nodule_det.data.feed.plan import Samples
from nodule_det.data.feed.table import BallGroup, MaskRows


@dataclass(frozen=True, slots=True)
class Places:
    """Where the voxels of each patch lie in the flat tensor, on the device.

    Attributes:
        first: (n,) element of the flat tensor that voxel (0, 0, 0) of the scan has, or would have.
        first_label: (n,) the same in the tensor of labels.
        pitch: (n, 3) elements from one voxel to the next along z, y, x.
        low: (n, 3) smallest voxel of the scan that the tensor holds.
        high: (n, 3) largest one.
        size: (n, 3) voxels of the scan.
        corner: (n, 3) first voxel of the patch.
        axes: (n, 3) for each axis of the result, the axis of the scan.
        flips: (n, 3) for each axis of the result, whether it runs backwards.
        over: (k,) patches that reach outside their scan.
    """

    first: Tensor
    first_label: Tensor
    pitch: Tensor
    low: Tensor
    high: Tensor
    size: Tensor
    corner: Tensor
    axes: Tensor
    flips: Tensor
    over: Tensor


@dataclass(frozen=True, slots=True)
class Table:
    """Everything of a group of patches, on the device."""

    places: Places
    balls: list[tuple[Tensor, Tensor, int]]
    masks: tuple[Tensor, ...] | None


def make_table(
    samples: Samples,
    held: tuple[IntArray, IntArray, IntArray, IntArray, IntArray],
    sizes: IntArray,
    truth: tuple[Sequence[BallGroup], MaskRows | None],
    size_vox: int,
) -> Table:
    """Put a group's numbers into tensors on the CPU.

    Args:
        samples: The n patches.
        held: ``first``, ``first_label``, ``pitch``, ``low``, ``high`` of :class:`Places`.
        sizes: (n, 3) voxels of each patch's scan.
        truth: Balls and masks of the patches.
        size_vox: W.
    """
    first, first_label, pitch, low, high = map(torch.from_numpy, held)
    outside = np.any((samples.corner < 0) | (samples.corner + size_vox > sizes), axis=1)
    places = Places(
        first, first_label, pitch, low, high,
        torch.from_numpy(sizes),
        torch.from_numpy(samples.corner),
        torch.from_numpy(AXES[samples.orientation]),
        torch.from_numpy(FLIPS[samples.orientation]),
        torch.from_numpy(np.flatnonzero(outside)),
    )  # fmt: skip
    groups, masks = truth
    return Table(
        places,
        [(torch.from_numpy(g.rows), torch.from_numpy(g.numbers), g.edge) for g in groups],
        None if masks is None else tuple(map(torch.from_numpy, (masks.rows, masks.lesions))),
    )


@dataclass(frozen=True, slots=True)
class PackedTable:
    """A table in one block of memory: a copy takes the host longer than its bytes take the bus.

    Attributes:
        block: (k,) uint8, in pinned memory for a GPU.
        table: Its tensors are views of the block.
    """

    block: Tensor
    table: Table


def pack(table: Table, *, pinned: bool) -> PackedTable:
    """Copy a table into one block."""
    n_bytes = 0

    def count(tensor: Tensor) -> Tensor:
        nonlocal n_bytes
        n_bytes += _aligned(tensor.nbytes)
        return tensor

    _mapped(table, count)
    block, start = torch.empty(n_bytes, dtype=torch.uint8, pin_memory=pinned), 0

    def place(tensor: Tensor) -> Tensor:
        nonlocal start
        placed = _view(block, start, tensor).copy_(tensor)
        start += _aligned(tensor.nbytes)
        return placed

    return PackedTable(block, _mapped(table, place))


def on_device(packed: PackedTable, device: torch.device) -> Table:
    """Copy a table to a device without waiting."""
    block = packed.block.to(device, non_blocking=True)
    return _mapped(
        packed.table, lambda t: _view(block, int(t.storage_offset()) * t.element_size(), t)
    )


def _mapped(table: Table, change: Callable[[Tensor], Tensor]) -> Table:
    places = table.places
    return Table(
        Places(*(change(getattr(places, name)) for name in Places.__dataclass_fields__)),
        [(change(rows), change(numbers), edge) for rows, numbers, edge in table.balls],
        None if table.masks is None else tuple(map(change, table.masks)),
    )


def _view(block: Tensor, start: int, like: Tensor) -> Tensor:
    return block[start : start + like.nbytes].view(like.dtype).view(like.shape)


def _aligned(n_bytes: int) -> int:
    return -(-n_bytes // 16) * 16


def gather(table: Table, voxels: Tensor, labels: Tensor | None, size_vox: int) -> Batch:
    """Make the patches of a table.

    Args:
        table: On the device of ``voxels``.
        voxels: (m,) int16 HU of all volumes.
        labels: (k,) uint8 labels of all label volumes; needed where the table has masks.
        size_vox: W.
    """
    places = table.places
    ramp = torch.arange(size_vox, device=voxels.device)
    along = torch.where(places.flips[:, :, None], size_vox - 1 - ramp, ramp)
    where = places.corner.gather(1, places.axes)[:, :, None] + along  # voxel, by axis of the result
    low, high, pitch = (
        part.gather(1, places.axes)[:, :, None] for part in (places.low, places.high, places.pitch)
    )
    steps = where.maximum(low).minimum(high) * pitch
    index = outer_sum(steps) + places.first[:, None, None, None]
    image = voxels.index_select(0, index.view(-1)).view(index.shape)
    target = torch.zeros(index.shape, device=voxels.device)
    weight = torch.ones(index.shape, device=voxels.device)
    for rows, numbers, edge in table.balls:
        _draw_balls(places, rows, numbers, edge, target, weight)
    if table.masks is not None and labels is not None:
        rows, lesions = table.masks
        index = outer_sum(steps[rows]) + places.first_label[rows][:, None, None, None]
        mask = labels.index_select(0, index.view(-1)).view(index.shape) > 0
        if len(places.over):
            mask &= ~_outside(places, where, rows)
        _draw_masks(places, rows, lesions, where[rows], mask, target, weight)
    if len(places.over):
        outside = _outside(places, where, places.over)
        image[places.over] = image[places.over].masked_fill(outside, AIR_HU)
        weight[places.over] = weight[places.over].masked_fill(outside, 0.0)
    return Batch(image[:, None], target[:, None], weight[:, None])


def outer_sum(parts: Tensor) -> Tensor:
    """Add (n, 3, a) to (n, a, a, a), the first two axes first."""
    return parts[:, 0, :, None, None] + parts[:, 1, None, :, None] + parts[:, 2, None, None, :]


def _outside(places: Places, where: Tensor, rows: Tensor) -> Tensor:
    """Return (m, W, W, W): which voxels of some patches lie outside their scan."""
    size = places.size.gather(1, places.axes)[:, :, None]
    beyond = ((where < 0) | (where >= size))[rows]
    return beyond[:, 0, :, None, None] | beyond[:, 1, None, :, None] | beyond[:, 2, None, None, :]


def _draw_balls(
    places: Places, rows: Tensor, numbers: Tensor, edge: int, target: Tensor, weight: Tensor
) -> None:
    """Draw a group's balls along the axes of the scan, and scatter them to their turned places."""
    size = target.shape[-1]
    place = numbers[:, 3:6].long()[:, :, None] + torch.arange(edge, device=target.device)
    squares = (place.float() - numbers[:, :3, None].float()) ** 2
    reach, share, excluded = (numbers[:, i, None, None, None].float() for i in (6, 7, 8))
    distance = outer_sum(squares).double().sqrt().float()
    inside = (reach - distance).clamp(0, 1)
    back = places.axes[rows].argsort(1)  # for each axis of the scan, the axis of the result
    flips = places.flips[rows].gather(1, back)[:, :, None]
    pitch = torch.pow(size, 2 - back)  # W^2, W, 1 for axis 0, 1, 2 of the result
    step = torch.where(flips, size - 1 - place, place) * pitch[:, :, None]
    index = outer_sum(step) + (rows * size**3)[:, None, None, None]
    before, weighed = target.take(index), weight.take(index)
    wins = (inside > before) & (excluded == 0)
    target.put_(index, torch.where(wins, inside, before))
    weighed = torch.where((inside > 0) & (excluded > 0), 0.0, weighed)
    weight.put_(index, torch.where(wins, 1 + share * inside, weighed))


def _draw_masks(
    places: Places,
    rows: Tensor,
    lesions: Tensor,
    where: Tensor,
    mask: Tensor,
    target: Tensor,
    weight: Tensor,
) -> None:
    """Draw lesion masks; each voxel belongs to the lesion that is nearest for its size."""
    axes = places.axes[rows]
    nearest = torch.full(mask.shape, torch.inf, dtype=torch.float64, device=mask.device)
    share = torch.zeros(mask.shape, device=mask.device)
    for lesion in lesions.unbind(1):
        center = lesion[:, :3].gather(1, axes)
        radius, own = (lesion[:, i, None, None, None] for i in (3, 4))
        distance = outer_sum((where - center[:, :, None]) ** 2).sqrt() / radius
        closer = distance < nearest
        nearest = torch.where(closer, distance, nearest)
        share = torch.where(closer, own.float(), share)
    target[rows] = torch.where(mask, 1.0, target[rows])
    weight[rows] = torch.where(mask, share, weight[rows])
