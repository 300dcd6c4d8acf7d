"""The trained network, rewritten for fast inference.

    trained network ──fuse()──▶ batch norm inside the convolutions, upsampling as dense convolution,
                                last block in fp32

The result is the same up to the rounding of sums (``docs/model.md`` reports the gain).  A
transposed convolution of stride 2 computes each of the 8 positions (phases) of a 2 x 2 x 2 cell
with its own part of the kernel.  As one ordinary convolution with 8 outputs, which are then moved
to their positions, it runs on the fast kernels.  torch's own transposed convolution with one output
channel, the last layer, takes half of the whole network's time.
"""

from __future__ import annotations

import copy
from typing import cast

import torch
from monai.networks.blocks import Convolution
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from nodule_det.model.device import channels_last

PHASES = 8
WIDEST_DENSE = 1
"""Output channels up to which the dense form is faster.  It multiplies by zeros as well: 64 taps
in place of 27, or 216 in place of 125."""


def fuse(model: nn.Module) -> nn.Module:
    """Return a copy of a network rewritten for inference.

    Args:
        model: Network of :func:`~nodule_det.model.build_model`, in evaluation mode, in fp32.

    Raises:
        ValueError: If the network is in training mode, where batch norm is not constant.
    """
    if model.training:
        raise ValueError("fuse() needs a network in evaluation mode: call eval() first")
    fused = copy.deepcopy(model)
    for block in fused.modules():
        if isinstance(block, Convolution):
            _fold_norm(block)
            if _pays(block.conv):
                block.conv = DenseUpsampling(cast(nn.ConvTranspose3d, block.conv))
    layers = cast(nn.Sequential, fused.model)
    layers[-1] = InFullPrecision(layers[-1])
    return channels_last(fused).requires_grad_(False)


def _fold_norm(block: nn.Module) -> None:
    norm = getattr(getattr(block, "adn", None), "N", None)
    if isinstance(norm, nn.modules.batchnorm._BatchNorm):  # SyncBatchNorm after several GPUs
        conv = cast(nn.Conv3d, block.conv)
        transposed = isinstance(conv, nn.ConvTranspose3d)
        block.conv = fuse_conv_bn_eval(conv, norm, transpose=transposed)
        cast(nn.Module, block.adn).N = nn.Identity()


def _pays(conv: object) -> bool:
    return (
        isinstance(conv, nn.ConvTranspose3d)
        and conv.out_channels <= WIDEST_DENSE
        and conv.stride == (2, 2, 2)
    )


class InFullPrecision(nn.Module):
    """A block that computes in fp32 even if the rest of the network uses fewer bits.

    Logits of bf16 have 8 binary digits: most candidates of a scan would share their score with
    another one, and the FROC curve would have coarse steps.
    """

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block without autocast."""
        with torch.autocast(x.device.type, enabled=False):
            return cast(Tensor, self.block(x.float()))


class DenseUpsampling(nn.Module):
    """A transposed convolution of stride 2 as one convolution to 8 phases.

    Args:
        transposed: Kernel k (odd), stride 2, padding k // 2, output padding 1: twice the size.
    """

    def __init__(self, transposed: nn.ConvTranspose3d) -> None:
        super().__init__()
        k = transposed.kernel_size[0]
        if transposed.stride != (2, 2, 2) or transposed.padding != 3 * (k // 2,) or k % 2 == 0:
            raise ValueError(f"expected stride 2 and padding k // 2, got {transposed}")
        before, after = (k // 2) // 2, (k // 2 + 1) // 2
        weight = _phases(transposed.weight.detach(), before, after)
        self.weight = nn.Parameter(weight)
        bias = transposed.bias
        self.bias = None if bias is None else nn.Parameter(bias.detach().repeat_interleave(PHASES))
        self._pad = 3 * (before, after)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, c, z, y, x) to (n, c', 2z, 2y, 2x)."""
        out = functional.conv3d(functional.pad(x, self._pad), self.weight, self.bias)
        n, channels, z, y, x_size = out.shape
        cells = out.reshape(n, channels // PHASES, 2, 2, 2, z, y, x_size)
        placed = cells.permute(0, 1, 5, 2, 6, 3, 7, 4)
        return placed.reshape(n, channels // PHASES, 2 * z, 2 * y, 2 * x_size)


def _phases(weight: Tensor, before: int, after: int) -> Tensor:
    """Distribute the taps of a transposed kernel over the phases.

    The output at 2 m + r uses the input at m + d with tap k // 2 + r - 2 d, if it exists.

    Args:
        weight: (c, c', k, k, k) weights of a transposed convolution.
        before: Number of inputs used before m, along each axis.
        after: Number of inputs used after m.

    Returns:
        (8 c', c, w, w, w) with w = before + 1 + after.
    """
    c, c_out, k = weight.shape[:3]
    width = before + 1 + after
    # which[r, d, t] is 1 where tap t serves phase r from the input d - before away
    which = weight.new_zeros(2, width, k)
    for r in range(2):
        for d in range(width):
            tap = k // 2 + r - 2 * (d - before)
            if 0 <= tap < k:
                which[r, d, tap] = 1
    dense = torch.einsum("poijk,adi,bej,gfk->oabgpdef", weight, which, which, which)
    return dense.reshape(PHASES * c_out, c, width, width, width)
