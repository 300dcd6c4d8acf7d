"""The 3D U-Net in MONAI's conventions: the layer list of ``monai.networks.nets.UNet``.

    (n, 1, z, y, x) in [0, 1] ──▶ levels of f, 2f, 4f ... filters ──▶ (n, 1, z, y, x) logits

MONAI's UNet halves the resolution at every level, including the first, and returns to full
resolution with its last transposed convolution.  This is an eighth of the work of a network that
starts at full resolution (``model.full_resolution``).  Batch norm is used instead of MONAI's
instance norm: its statistics are constant after training, so a voxel's output only depends on its
neighbourhood, and a scan can be computed in pieces of any size.  ReLU is used instead of PReLU,
whose backward pass takes a fifth of a step.
"""

from __future__ import annotations

import math

import torch
from monai.networks.layers import Act, Norm
from monai.networks.nets import UNet
from torch import nn

from nodule_det.config.train import ModelConfig

PRIOR = 0.01
"""Probability that an untrained network predicts everywhere (Lin et al. 2017, section 4.1).
Starting at 1/2, the first steps would be spent on learning that nodules are rare."""

RESIDUAL_UNITS = 2
"""Convolutions of a residual unit, as in MONAI's examples."""


def build_unet(config: ModelConfig) -> nn.Module:
    """Build an untrained network; its weights come from torch's global generator.

    Returns:
        Module from (n, 1, z, y, x) float in [0, 1] to (n, 1, z, y, x) logits; z, y, x must be
        multiples of :func:`stride`.
    """
    model: nn.Module = UNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=1,
        channels=tuple(config.filters << level for level in range(config.depth)),
        strides=config.strides,
        kernel_size=config.kernel_size,
        up_kernel_size=config.kernel_size,
        num_res_units=RESIDUAL_UNITS if config.residual else 0,
        act=Act.RELU,
        norm=Norm.BATCH,
    )
    _start_at_prior(model)
    return model


def stride(config: ModelConfig) -> int:
    """Return the stride of the coarsest level, of which sizes and corners must be multiples."""
    return math.prod(config.strides)


def _start_at_prior(model: nn.Module) -> None:
    last = [m for m in model.modules() if isinstance(m, nn.Conv3d | nn.ConvTranspose3d)][-1]
    if last.bias is None or last.out_channels != 1:
        raise RuntimeError(f"expected a last convolution with one biased output, found {last}")
    with torch.no_grad():
        last.bias.fill_(-math.log(1 / PRIOR - 1))
