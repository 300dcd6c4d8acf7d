"""A network over a whole scan: exactly what one pass over everything would give, in pieces.

    volume (z, y, x) HU ──box of the lungs──▶ slabs with halo ──network──▶ cores ──▶ probability

With batch norm the output at a voxel depends on the voxels within the network's reach and on
nothing else.  So the box is cut into slabs along z, each computed with a halo of that reach, and
only cores are kept: no overlap to blend, no seam, the same numbers whatever the slab.

Corners and sizes are multiples of the network's stride.  Elsewhere its strided convolutions would
look at other voxels, and the output would be off without a word.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from nodule_det.config.train import ModelConfig
from nodule_det.data.scan import HuVolume
from nodule_det.errors import DeviceMemoryError
from nodule_det.model import normalise, stride
from nodule_det.model.window import WINDOW_HU

Probability = NDArray[np.float32]

VOXELS_AT_ONCE = {"cpu": 24_000_000, "cuda": 48_000_000}
"""Voxels of a slab: about 10 x filters bytes each at the widest place (see docs/model.md)."""


@dataclass(frozen=True)
class Region:
    """Where in the scan a probability volume lies: its first voxel, (z, y, x)."""

    corner: tuple[int, int, int]
    probability: Probability


def reach_vox(config: ModelConfig) -> int:
    """Give how far an output voxel sees, in voxels, rounded up to the stride.

    Each level adds its convolutions' half widths, scaled by the level's voxel size: two units on
    the way down (one without residual units), the bottom, the transposed convolution and its unit
    on the way up.  An upper bound; a larger halo costs time and changes nothing.
    """
    half = config.kernel_size // 2
    convolutions = 3 if config.residual else 1
    reach = 0
    for level in range(config.depth):
        reach += half * convolutions * (1 << level)
        reach += (half + 1) * (1 << level)
    step = stride(config)
    return -(-2 * reach // step) * step


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
        model: Network in evaluation mode, on ``device``.
        config: Its architecture.
        volume_hu: (z, y, x) int16 HU of the scan.
        box: Part of interest (the lungs); None takes the whole scan.  It is widened to multiples
            of the stride.
        device: Where to compute.
        dtype: Type of the forward pass; float32 computes without autocast.
        max_voxels: Largest slab with its halo; by default what suits the device.

    Returns:
        Probability over the widened box, float32.

    Raises:
        DeviceMemoryError: If not even a slab of one stride fits.
    """
    step = stride(config)
    low, high = _aligned(box, volume_hu.shape, step)
    limit = max_voxels or VOXELS_AT_ONCE[device.type]
    halo = reach_vox(config)
    plane = int(np.prod(np.subtract(high[1:], low[1:])))
    core = max(step, (limit // max(plane, 1) - 2 * halo) // step * step)
    probability = np.empty(np.subtract(high, low), np.float32)
    for start in range(low[0], high[0], core):
        stop = min(start + core, high[0])
        first = max(low[0], start - halo)
        last = min(high[0], stop + halo)
        block = _padded(volume_hu, (first, low[1], low[2]), (last, high[1], high[2]))
        out = _forward(model, block, device, dtype)
        probability[start - low[0] : stop - low[0]] = out[start - first : stop - first]
    return Region((low[0], low[1], low[2]), probability)


def _aligned(
    box: tuple[slice, slice, slice] | None, size_vox: tuple[int, ...], step: int
) -> tuple[list[int], list[int]]:
    """Widen a box to multiples of the stride; it may end beyond the scan, where air is put."""
    spans = [s.indices(n)[:2] for s, n in zip(box or 3 * (slice(None),), size_vox, strict=True)]
    return [a // step * step for a, _ in spans], [-(-b // step) * step for _, b in spans]


def _padded(volume_hu: HuVolume, low: tuple[int, ...], high: tuple[int, ...]) -> HuVolume:
    inside = tuple(map(slice, low, np.minimum(high, volume_hu.shape)))
    block = np.array(volume_hu[inside])  # a copy: the map is read-only
    missing = [(0, int(n)) for n in np.subtract(high, low) - block.shape]
    if not any(after for _, after in missing):
        return block
    return np.pad(block, missing, constant_values=int(WINDOW_HU[0]))


@torch.inference_mode()
def _forward(
    model: nn.Module, block: HuVolume, device: torch.device, dtype: torch.dtype
) -> Probability:
    try:
        x = normalise(torch.from_numpy(np.ascontiguousarray(block)).to(device))[None, None]
        x = x.contiguous(memory_format=torch.channels_last_3d)
        with torch.autocast(device.type, dtype, enabled=dtype is not torch.float32):
            logits = model(x)
        return np.asarray(functional.sigmoid(logits[0, 0].float()).cpu().numpy())
    except torch.OutOfMemoryError as error:
        raise DeviceMemoryError(
            f"{device} has no memory left for a slab of {block.shape} voxels; "
            "use device=cpu or a smaller model"
        ) from error
