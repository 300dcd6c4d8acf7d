"""What an output voxel of a network depends on: computed for the built-in U-Net.

    ModelConfig ──receptive_field()──▶ ReceptiveField ──▶ slabs or windows of inference

For any other network it is measured (``model/probe.py``) and stored in its checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass

from nodule_det.config.train import ModelConfig
from nodule_det.model.unet import stride


@dataclass(frozen=True, kw_only=True)
class ReceptiveField:
    """How far an output voxel sees, and what sizes a network accepts.

    Attributes:
        stride_vox: What sizes and corners of a block must be multiples of.
        radius_vox: Largest distance of an input that an output voxel depends on, a multiple of the
            stride.  None if it is unbounded, as with instance norm, group norm or attention: such
            a network is searched by overlapping windows.
        window_vox: Edge of these windows: that of the patches that the network was trained on.
        bytes_per_voxel: Memory of a forward pass, per voxel of its input.
    """

    stride_vox: int
    radius_vox: int | None
    window_vox: int
    bytes_per_voxel: int

    def __post_init__(self) -> None:
        radius = 0 if self.radius_vox is None else self.radius_vox
        for value, low in ((self.stride_vox, 1), (radius, 0), (self.window_vox, 1),
                           (self.bytes_per_voxel, 1)):  # fmt: skip
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value < 2**40:
                raise ValueError(f"{value!r} cannot be part of a receptive field")
        if radius % self.stride_vox:
            raise ValueError(f"radius {radius} is not a multiple of the stride {self.stride_vox}")


def receptive_field(config: ModelConfig) -> ReceptiveField:
    """Compute the receptive field of the built-in U-Net.

    Memory was measured on a CPU (``docs/model.md``), where the large levels are computed a few rows
    at a time: the estimate stays above it.  What remains are the results of a level and of those
    below it, which have more voxels at full resolution.
    """
    bytes_per_voxel = 36 + 2 * config.filters
    if config.full_resolution:
        bytes_per_voxel += 12 * config.filters
    step = stride(config)
    return ReceptiveField(
        stride_vox=step,
        radius_vox=reach_vox(config),
        window_vox=step,
        bytes_per_voxel=bytes_per_voxel,
    )


def reach_vox(config: ModelConfig) -> int:
    """Return the receptive radius of an output voxel, in voxels, rounded up to the stride.

    The interval of inputs is traced from the output back through every layer, for each position
    that an output voxel can have within a cell of the stride.

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
