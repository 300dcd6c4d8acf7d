"""The trained network, rewritten for fast inference.

    trained network ──fuse()──▶ batch norm inside the convolutions, upsampling as dense convolution,
                                last block in fp32, large levels a few rows at a time

The result is the same up to the rounding of sums (``docs/model.md`` reports the gain).  A
transposed convolution of stride 2 computes each of the 8 positions (phases) of a 2 x 2 x 2 cell
with its own part of the kernel.  As one ordinary convolution with 8 outputs, which are then moved
to their positions, it runs on the fast kernels.  torch's own transposed convolution with one output
channel, the last layer, takes half of the whole network's time.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import cast

import torch
from monai.networks.blocks import Convolution
from monai.networks.layers.simplelayers import SkipConnection
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from nodule_det.model.device import channels_last

PHASES = 8
WIDEST_DENSE = 1
"""Output channels up to which the dense form is faster.  It multiplies by zeros as well: 64 taps
in place of 27, or 216 in place of 125."""

GROUP_BYTES = 12 << 20
"""Size of the largest tensor of a group of rows: small enough to be reused from the heap, large
enough that the margins of a group add little work."""


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
    for block in list(fused.modules()):
        for name, layer in list(block.named_children()):
            if isinstance(layer, nn.Conv3d):
                setattr(block, name, OneDnnConv(layer))
    layers = cast(nn.Sequential, fused.model)
    layers[-1] = InFullPrecision(layers[-1])
    first = next(m for m in fused.modules() if isinstance(m, OneDnnConv))
    fused.model = _by_rows(layers, first.stride[0], first.kernel_size[0])
    return channels_last(fused).requires_grad_(False)


def _by_rows(layers: nn.Module, stride: int, kernel_size: int) -> nn.Module:
    """Replace MONAI's nested (down, skip, up) by levels that are computed a few rows at a time."""
    if not (isinstance(layers, nn.Sequential) and len(layers) == 3):
        return InRows(layers, kernel_size)
    down, skip, up = layers
    below = _by_rows(cast(nn.Module, cast(SkipConnection, skip).submodule), 2, kernel_size)
    return Level(
        InRows(down, kernel_size, taken=stride), below, InRows(up, kernel_size, made=stride)
    )


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


class Level(nn.Module):
    """A level of the U-Net and those below it.

    Args:
        down: Block from the level above, which may halve the resolution.
        below: The levels below.
        up: Block from ``down``'s and ``below``'s results to the resolution of the level above.
    """

    def __init__(self, down: nn.Module, below: nn.Module, up: nn.Module) -> None:
        super().__init__()
        self.down, self.below, self.up = down, below, up

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, c, z, y, x) to (n, c', z, y, x)."""
        inside = self.down(x)
        return cast(Tensor, self.up(inside, self.below(inside)))


class InRows(nn.Module):
    """A block that computes a group of rows (z) at a time on a CPU.

    Inside, a block takes up to ten times the memory of what goes in and comes out; by groups, most
    of it is used again and again.  Each group is computed with a margin of rows, as many as the
    block's two convolutions reach, of which nothing is kept.

    Args:
        block: From (n, c, z, y, x) to (n, c', z', y', x').
        kernel_size: Of its convolutions.
        taken: Rows that go in for each row of the coarser side.
        made: Rows that come out for each of these.
    """

    def __init__(
        self, block: nn.Module, kernel_size: int, *, taken: int = 1, made: int = 1
    ) -> None:
        super().__init__()
        self.block = block
        self._margin, self._taken, self._made = 2 * (kernel_size // 2), taken, made
        convolutions = [m for m in block.modules() if isinstance(m, OneDnnConv)]
        self._channels = max((c.out_channels for c in convolutions), default=1)

    def forward(self, *parts: Tensor) -> Tensor:
        """Apply the block to parts of the same size, joined along channels."""
        taken, made, margin = self._taken, self._made, self._margin
        n, _, z, y, x = parts[0].shape
        channels = max(self._channels, sum(part.shape[1] for part in parts))
        row_bytes = 4 * n * channels * y * x // taken**2
        rows, n_rows = max(margin, GROUP_BYTES // row_bytes), z // taken
        if parts[0].device.type != "cpu" or rows >= n_rows:
            return cast(Tensor, self.block(_joined(parts)))
        out: Tensor | None = None
        for start in range(0, n_rows, rows):
            stop = min(start + rows, n_rows)
            top, bottom = max(0, start - margin), min(n_rows, stop + margin)
            group = _joined([part[:, :, top * taken : bottom * taken] for part in parts])
            done = self.block(group)
            if out is None:
                shape = (n, done.shape[1], n_rows * made, *done.shape[3:])
                out = torch.empty(shape, dtype=done.dtype, memory_format=torch.channels_last_3d)
            kept = done[:, :, (start - top) * made : (stop - top) * made]
            out[:, :, start * made : stop * made] = kept
        return cast(Tensor, out)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(tuple(parts), dim=1)


class OneDnnConv(nn.Module):
    """A convolution that oneDNN computes on a CPU, whatever the size of the input.

    torch hands small inputs (``ConvParams::use_mkldnn``: up to 20,480 rows of x in all channels) to
    a kernel of its own.  It unfolds them 27 times, which takes 108 bytes a voxel and channel, and
    with one channel nine times as long.
    """

    def __init__(self, conv: nn.Conv3d) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self.out_channels, self.kernel_size = conv.out_channels, conv.kernel_size
        self.stride, self.padding = conv.stride, cast(tuple[int, ...], conv.padding)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (n, c, z, y, x)."""
        return convolved(x, self.weight, self.bias, self.stride, self.padding)


def convolved(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, ...] = (1, 1, 1),
    padding: tuple[int, ...] = (0, 0, 0),
) -> Tensor:
    """Convolve (n, c, z, y, x), with oneDNN on a CPU that has it."""
    fast = x.dtype in (torch.float32, torch.bfloat16) and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if x.device.type != "cpu" or not fast or torch.is_grad_enabled():
        return functional.conv3d(x, weight, bias, stride, padding)
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        x, weight = x.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    return torch.mkldnn_convolution(x, weight, bias, padding, stride, (1, 1, 1), 1)


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
        out = convolved(functional.pad(x, self._pad), self.weight, self.bias)
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
    taps = [[k // 2 + r - 2 * (d - before) for d in range(width)] for r in range(2)]
    # Copied, not multiplied by zeros and ones: a GPU rounds the factors of products to TF32.
    which = torch.tensor([[t if 0 <= t < k else k for t in row] for row in taps])
    padded = functional.pad(weight, (0, 1, 0, 1, 0, 1))  # k is where a weight of 0 lies
    along = [which.view(2, width, *4 * (1,)), which.view(1, 1, 2, width, 1, 1)]
    dense = padded.cpu()[:, :, along[0], along[1], which]  # (c, c', 2, w, 2, w, 2, w)
    dense = dense.permute(1, 2, 4, 6, 0, 3, 5, 7)
    return dense.reshape(PHASES * c_out, c, width, width, width).to(weight.device)
