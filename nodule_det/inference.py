"""A network over a whole scan: exactly what one pass over everything would give, in pieces.

    volume (z, y, x) HU ──box──▶ slabs with halo ──network──▶ cores ──▶ probability of the box

With batch norm the output at a voxel depends on the voxels within the network's reach and on
nothing else.  So the box is cut into slabs along z, each computed with a halo of that reach, and
only cores are kept: no overlap to blend, no seam, the same numbers whatever box and slab.

What is computed begins and ends at multiples of the network's stride.  Elsewhere its strided
convolutions would look at other voxels, and the output would be off without a word.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from nodule_det.config.train import ModelConfig
from nodule_det.data.scan import HuVolume
from nodule_det.errors import DeviceMemoryError, DivergedError
from nodule_det.model import WINDOW_HU, is_out_of_memory, normalise, stride

Probability = NDArray[np.float32]
Voxel = tuple[int, int, int]

CPU_BUDGET_BYTES = 4 << 30
"""Memory for a slab where nobody can say how much is free: a job's share of a node."""

GPU_SHARE = 0.5
"""Share of a GPU's free memory for a slab; the rest is for what the estimate leaves out."""

MOST_VOXELS = 100_000_000
"""Larger slabs gain nothing, and come near the 2^31 values that GPU kernels can count."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Region:
    """Where in the scan a probability volume lies: its first voxel, (z, y, x)."""

    corner: Voxel
    probability: Probability


def predict_volume(
    model: nn.Module,
    config: ModelConfig,
    volume_hu: HuVolume,
    box: tuple[slice, slice, slice] | None = None,
    *,
    device: torch.device,
    dtype: torch.dtype,
    max_voxels: int | None = None,
) -> Region:
    """Compute the probability of a lesion at each voxel of a box.

    Args:
        model: Network in evaluation mode, on ``device``; :func:`~nodule_det.model.fuse` makes it
            faster.
        config: Its architecture.
        volume_hu: (z, y, x) int16 HU of the scan; may be a read-only memory map.
        box: Part of interest (the lungs); None takes the whole scan.  Voxels around it are seen by
            the network all the same.
        device: Where to compute.
        dtype: Type of the forward pass; float32 computes without autocast.
        max_voxels: Largest slab with its halo; by default what fits the device's memory.  A slab
            has at least one stride and its halo, however small this is.

    Returns:
        Probability over the box, float32.

    Raises:
        DeviceMemoryError: If not even the thinnest slab fits.
        DivergedError: If the network gives no numbers.
    """
    low, high = _bounds(box, volume_hu.shape)
    step, halo = stride(config), reach_vox(config)
    # what the box depends on, in whole strides; beyond the scan's end air is put
    first = [max(0, a - halo) // step * step for a in low]
    ends = [-(-n // step) * step for n in volume_hu.shape]
    last = [min(end, -(-(b + halo) // step) * step) for b, end in zip(high, ends, strict=True)]
    rows = (max_voxels or slab_voxels(config, device)) // math.prod(
        b - a for a, b in zip(first[1:], last[1:], strict=True)
    )
    core = last[0] - first[0]
    if rows < core:
        core = max(step, (rows - 2 * halo) // step * step)

    probability = np.empty([b - a for a, b in zip(low, high, strict=True)], np.float32)
    inside = tuple(slice(a - f, b - f) for a, b, f in zip(low, high, first, strict=True))[1:]
    start = low[0] // step * step
    while start < high[0]:
        stop = min(start + core, high[0])
        top = max(first[0], start - halo)
        bottom = min(last[0], -(-(stop + halo) // step) * step)
        block = _padded(volume_hu, (top, first[1], first[2]), (bottom, last[1], last[2]))
        try:
            out = _forward(model, block, device, dtype)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            core = _thinner(core, step, block, device, error)
            continue
        begin = max(start, low[0])
        rows_out = out[begin - top : stop - top]
        probability[begin - low[0] : stop - low[0]] = rows_out[(slice(None), *inside)]
        start += core
    return Region(low, probability)


def reach_vox(config: ModelConfig) -> int:
    """Return how far an output voxel sees, in voxels, rounded up to the stride.

    The interval of inputs is followed from the output back through every layer, for each place
    that an output voxel can have in a cell of the stride.

    Example:
        >>> reach_vox(ModelConfig(depth=3, kernel_size=3, residual=False))
        12
    """
    step = stride(config)
    farthest = 0
    for place in range(step):
        a, b = _seen(place, place, 0, config)
        farthest = max(farthest, place - a, b - place)
    return -(-farthest // step) * step


def _seen(a: int, b: int, level: int, config: ModelConfig) -> tuple[int, int]:
    """Return the inputs of a level that its outputs from a to b depend on."""
    half = config.kernel_size // 2
    again = half if config.residual else 0  # a residual unit's second convolution
    if level == config.depth - 1:
        return a - half - again, b + half + again
    step = config.strides[level]
    a, b = a - again, b + again
    a, b = -((half - a) // step), (b + half) // step  # the transposed convolution: ceil and floor
    below_a, below_b = _seen(a, b, level + 1, config)
    a, b = min(a, below_a) - again, max(b, below_b) + again
    return step * a - half, step * b + half


def slab_voxels(config: ModelConfig, device: torch.device) -> int:
    """Return the voxels of a slab that fit the memory of a device.

    Measured on a CPU (``docs/model.md``): 46 to 141 bytes a voxel without residual units, 135 to
    201 with them, whose last convolution works at full resolution on one channel, which oneDNN
    pads to 16.  This stays above what was measured.
    """
    bytes_per_voxel = 56 + 3 * config.filters + (100 if config.residual else 0)
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        budget = int(GPU_SHARE * (free + unused))
    else:
        budget = CPU_BUDGET_BYTES
    return min(MOST_VOXELS, budget // bytes_per_voxel)


def _bounds(
    box: tuple[slice, slice, slice] | None, size_vox: tuple[int, ...]
) -> tuple[Voxel, Voxel]:
    (z, z_end), (y, y_end), (x, x_end) = (
        s.indices(n)[:2] for s, n in zip(box or 3 * (slice(None),), size_vox, strict=True)
    )
    return (z, y, x), (z_end, y_end, x_end)


def _padded(volume_hu: HuVolume, low: Voxel, high: Voxel) -> HuVolume:
    """Copy a block, with air where it ends beyond the scan."""
    inside = tuple(slice(a, min(b, n)) for a, b, n in zip(low, high, volume_hu.shape, strict=True))
    block = np.array(volume_hu[inside])  # a copy: the map is read-only
    missing = [(0, b - a - n) for a, b, n in zip(low, high, block.shape, strict=True)]
    if not any(after for _, after in missing):
        return block
    return np.pad(block, missing, constant_values=int(WINDOW_HU[0]))


def _thinner(
    core: int, step: int, block: HuVolume, device: torch.device, error: RuntimeError
) -> int:
    """Halve the slabs after one that did not fit."""
    if core <= step:
        raise DeviceMemoryError(
            f"{device} has no memory left for {' x '.join(map(str, block.shape))} voxels, the "
            "thinnest slab of this network; use device=cpu or a network of fewer filters"
        ) from error
    thinner = max(step, core // 2 // step * step)
    log.warning("%s is out of memory at slabs of %d rows; goes on with %d", device, core, thinner)
    return thinner


@torch.inference_mode()
def _forward(
    model: nn.Module, block: HuVolume, device: torch.device, dtype: torch.dtype
) -> Probability:
    x = normalise(torch.from_numpy(block).to(device))[None, None]
    x = x.to(memory_format=torch.channels_last_3d)
    with torch.autocast(device.type, dtype, enabled=dtype is not torch.float32):
        logits = model(x)[0, 0].float()
    if not torch.isfinite(logits).all():
        raise DivergedError(
            "the network gives values that are not finite numbers; its training diverged, or "
            f"precision={dtype} is too narrow for it: try precision=fp32, or another checkpoint"
        )
    return np.asarray(functional.sigmoid(logits).cpu().numpy())
