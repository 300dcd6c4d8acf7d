"""Run a network over a whole scan in slabs, with exactly the result of a single pass.

    volume (z, y, x) HU ──box──▶ slabs with halo ──network──▶ cores ──▶ probability of the box

With batch norm, the output at a voxel depends only on voxels within the network's reach.  So the
box is cut into slabs along z, each slab is computed with a halo of that reach, and only its core is
kept.  There is no overlap to blend and no seam, and the result does not depend on box or slabs.

A network whose reach is unbounded (instance or group norm, attention) has no such slabs.  It is
searched by overlapping windows of the size that it was trained on, blended by Gaussian weights, as
MONAI and nnU-Net do.

Slabs begin and end at multiples of the network's stride.  Otherwise its strided convolutions would
see other voxels, and the output would silently be wrong.

Volume and probability stay on the device; only the peaks and the cubes around them are copied back.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from nodule_det.arrays import IntArray
from nodule_det.candidates import SMALLEST
from nodule_det.data.scan import HuVolume
from nodule_det.errors import DeviceMemoryError, DivergedError
from nodule_det.model import (
    WINDOW_HU,
    ReceptiveField,
    is_out_of_memory,
    job_memory_bytes,
    normalise,
    without_kernel_search,
)

Probability = NDArray[np.float32]
Voxel = tuple[int, int, int]

SLAB_BYTES = 1536 << 20
"""Memory of a slab on a CPU: a scan of 23 million voxels in one piece.  A slab of a third of it
computes twice as many rows, since the halo of a residual network is 24 rows on either side."""

CPU_SHARE = 0.25
"""Largest fraction of the job's memory for a slab on a CPU."""

GPU_SHARE = 0.5
"""Fraction of a GPU's free memory for a slab.  The rest is a reserve for errors of the estimate."""

MOST_VOXELS = 100_000_000
"""Larger slabs gain nothing, and come near the 2^31 values that GPU kernels can count."""

CUBES_AT_ONCE = 32
"""Cubes around peaks that are copied from the device together: 5 MB at 1 mm."""

WINDOW_OVERLAP = 0.5
"""Share of a window that the next one covers as well: nnU-Net's."""

WINDOWS_AT_ONCE = 8
"""Windows in a batch at most.  More gain nothing."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Region:
    """A probability volume and its position in the scan: its first voxel, (z, y, x)."""

    corner: Voxel
    probability: Probability


def predict_volume(
    model: nn.Module,
    field: ReceptiveField,
    volume_hu: HuVolume,
    box: tuple[slice, slice, slice] | None = None,
    *,
    device: torch.device,
    dtype: torch.dtype,
    max_voxels: int | None = None,
) -> Region:
    """Compute the probability of a lesion at each voxel of a box.

    Args:
        model: Network in evaluation mode, on ``device``;
            :func:`~nodule_det.model.for_inference` makes it faster.
        field: Its receptive field.
        volume_hu: (z, y, x) int16 HU of the scan; may be a read-only memory map.
        box: Region of interest (the lungs); None means the whole scan.  The network still sees the
            voxels around it.
        device: Device to compute on.
        dtype: Type of the forward pass; float32 computes without autocast.
        max_voxels: Largest slab with its halo; by default what fits the device's memory.  A slab
            is never smaller than one stride and its halo.

    Returns:
        Probability over the box, float32.

    Raises:
        DeviceMemoryError: If not even the thinnest slab fits.
        DivergedError: If the network's output is not finite.
    """
    volume = torch.from_numpy(np.array(volume_hu)).to(device)  # a copy: the map is read-only
    corner, probability = probability_on_device(
        model, field, volume, box, dtype=dtype, max_voxels=max_voxels
    )
    return Region(corner, np.asarray(probability.cpu().numpy()))


@torch.inference_mode()
@without_kernel_search()
def probability_on_device(
    model: nn.Module,
    field: ReceptiveField,
    volume_hu: Tensor,
    box: tuple[slice, slice, slice] | None = None,
    *,
    dtype: torch.dtype,
    max_voxels: int | None = None,
) -> tuple[Voxel, Tensor]:
    """Compute the probability over a box of a volume on the device.

    Args and errors as for :func:`predict_volume`.

    Returns:
        The first voxel of the box, and its float32 probability on the device of the volume.
    """
    device, shape = volume_hu.device, tuple(volume_hu.shape)
    low, high = _bounds(box, shape)
    if field.radius_vox is None:
        return low, _windowed(model, field, volume_hu, dtype, max_voxels)[_box(low, high)]
    step, halo = field.stride_vox, field.radius_vox
    # what the box depends on, in whole strides; beyond the scan's end lies air
    first = [max(0, a - halo) // step * step for a in low]
    ends = [-(-n // step) * step for n in shape]
    last = [min(end, -(-(b + halo) // step) * step) for b, end in zip(high, ends, strict=True)]
    rows = (max_voxels or slab_voxels(field, device)) // math.prod(
        b - a for a, b in zip(first[1:], last[1:], strict=True)
    )
    core = last[0] - first[0]
    if rows < core:
        core = max(step, (rows - 2 * halo) // step * step)

    probability = torch.empty([b - a for a, b in zip(low, high, strict=True)], device=device)
    finite = torch.tensor(True, device=device)
    inside = tuple(slice(a - f, b - f) for a, b, f in zip(low, high, first, strict=True))[1:]
    start = low[0] // step * step
    while start < high[0]:
        stop = min(start + core, high[0])
        top = max(first[0], start - halo)
        bottom = min(last[0], -(-(stop + halo) // step) * step)
        block = _padded(volume_hu, (top, first[1], first[2]), (bottom, last[1], last[2]))
        try:
            logits = _forward(model, block, dtype)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            core = _thinner(core, step, tuple(block.shape), device, error)
            continue
        finite &= torch.isfinite(torch.stack(torch.aminmax(logits))).all()
        begin = max(start, low[0])
        rows_out = logits[begin - top : stop - top]
        probability[begin - low[0] : stop - low[0]] = rows_out[(slice(None), *inside)].sigmoid_()
        start += core
    _require_finite(finite, dtype)
    return low, probability


def _windowed(
    model: nn.Module,
    field: ReceptiveField,
    volume_hu: Tensor,
    dtype: torch.dtype,
    max_voxels: int | None,
) -> Tensor:
    """Compute the probability of a whole volume by overlapping windows."""
    from monai.inferers import sliding_window_inference

    edge = field.window_vox
    n_at_once = max(1, (max_voxels or slab_voxels(field, volume_hu.device)) // edge**3)

    def logits(window: Tensor) -> Tensor:
        with torch.autocast(window.device.type, dtype, enabled=dtype is not torch.float32):
            return model(window.to(memory_format=torch.channels_last_3d)).float()  # type: ignore[no-any-return]

    try:
        blended = sliding_window_inference(
            normalise(volume_hu)[None, None], 3 * (edge,), min(WINDOWS_AT_ONCE, n_at_once), logits,
            overlap=WINDOW_OVERLAP, mode="gaussian", padding_mode="constant", cval=0.0,
        )  # fmt: skip
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceMemoryError(
            f"{volume_hu.device} has no memory left for windows of {edge} voxels; use device=cpu "
            "or a smaller network"
        ) from error
    result: Tensor = blended[0, 0]
    _require_finite(torch.isfinite(result).all(), dtype)
    return result.sigmoid_()


def _require_finite(finite: Tensor, dtype: torch.dtype) -> None:
    if not finite:
        raise DivergedError(
            "the network's output is not finite: its training diverged, or "
            f"precision={dtype} is too narrow for it; try precision=fp32, or another checkpoint"
        )


class DeviceVolume:
    """A probability volume on a device, searched for peaks there; see ``candidates.PeakVolume``.

    Args:
        probability: (z, y, x) float32.
    """

    def __init__(self, probability: Tensor) -> None:
        self._probability = probability

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along (z, y, x)."""
        return tuple(self._probability.shape)

    @torch.inference_mode()
    def peaks(self, threshold: float) -> tuple[IntArray, NDArray[np.float32]]:
        """Find the peaks by a maximum over each voxel's neighbours, one axis after the other."""
        highest = self._probability[None, None]
        for axis in range(3):
            kernel, padding = [1, 1, 1], [0, 0, 0]
            kernel[axis], padding[axis] = 3, 1
            highest = functional.max_pool3d(highest, kernel, 1, padding)
        is_peak = highest[0, 0] == self._probability
        is_peak &= self._probability >= max(threshold, SMALLEST)
        voxels = is_peak.nonzero()
        values = self._probability[voxels[:, 0], voxels[:, 1], voxels[:, 2]]
        return voxels.cpu().numpy(), values.cpu().numpy()

    @torch.inference_mode()
    def cubes(self, voxels: IntArray, reach: Voxel) -> Iterator[NDArray[np.float32]]:
        """Cut the cube around each voxel on the device, many at a time."""
        device = self._probability.device
        for start in range(0, len(voxels), CUBES_AT_ONCE):
            center = torch.from_numpy(voxels[start : start + CUBES_AT_ONCE]).to(device)
            index, inside = [], []
            for axis, (n, r) in enumerate(zip(self.shape, reach, strict=True)):
                along = center[:, axis, None] + torch.arange(-r, r + 1, device=device)
                index.append(along.clamp(0, n - 1))
                inside.append((along >= 0) & (along < n))
            (z, y, x), (in_z, in_y, in_x) = index, inside
            cubes = self._probability[z[:, :, None, None], y[:, None, :, None], x[:, None, None]]
            known = in_z[:, :, None, None] & in_y[:, None, :, None] & in_x[:, None, None]
            yield from torch.where(known, cubes, -1.0).cpu().numpy()


def slab_voxels(field: ReceptiveField, device: torch.device, slab_bytes: int = SLAB_BYTES) -> int:
    """Return the voxels of a slab that fit the memory of a device.

    Args:
        field: Receptive field of the network, with its memory per voxel.
        device: Where to compute.  A GPU uses half of its free memory.
        slab_bytes: Memory limit on a CPU; at most a quarter of the job's memory is used.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        budget = int(GPU_SHARE * (free + unused))
    else:
        available = job_memory_bytes()
        budget = slab_bytes
        if available is not None:
            budget = min(budget, int(CPU_SHARE * available))
    return min(MOST_VOXELS, budget // field.bytes_per_voxel)


def _bounds(
    box: tuple[slice, slice, slice] | None, size_vox: tuple[int, ...]
) -> tuple[Voxel, Voxel]:
    (z, z_end), (y, y_end), (x, x_end) = (
        s.indices(n)[:2] for s, n in zip(box or 3 * (slice(None),), size_vox, strict=True)
    )
    return (z, y, x), (z_end, y_end, x_end)


def _box(low: Voxel, high: Voxel) -> tuple[slice, ...]:
    return tuple(slice(a, b) for a, b in zip(low, high, strict=True))


def _padded(volume_hu: Tensor, low: Voxel, high: Voxel) -> Tensor:
    """Cut a block, filled with air beyond the scan."""
    block = volume_hu[_box(low, high)]
    missing = [b - a - n for a, b, n in zip(low, high, block.shape, strict=True)]
    if not any(missing):
        return block
    after = [amount for n in reversed(missing) for amount in (0, n)]
    return functional.pad(block, after, value=int(WINDOW_HU[0]))


def _thinner(
    core: int, step: int, shape: tuple[int, ...], device: torch.device, error: RuntimeError
) -> int:
    """Halve the slab size after one did not fit."""
    if core <= step:
        raise DeviceMemoryError(
            f"{device} has no memory left for {' x '.join(map(str, shape))} voxels, the "
            "thinnest slab of this network; use device=cpu or a network of fewer filters"
        ) from error
    thinner = max(step, core // 2 // step * step)
    log.warning(
        "%s is out of memory at slabs of %d rows; continuing with %d", device, core, thinner
    )
    return thinner


def _forward(model: nn.Module, block: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the float32 logits of a (z, y, x) block of HU."""
    x = normalise(block)[None, None].to(memory_format=torch.channels_last_3d)
    with torch.autocast(block.device.type, dtype, enabled=dtype is not torch.float32):
        return model(x)[0, 0].float()  # type: ignore[no-any-return]
