"""Measure the receptive field of any network from gradients.

    network ──measure()──▶ ReceptiveField

Along each axis, the input is a long bar.  The gradient of one plane of the output across it shows
which planes of the input it depends on: it is exactly 0 where there is no path.  For this, a copy
of the network gets random positive weights that sum to about 1.  The activations of a positive
input are then positive averages, so hardly any path is closed by a ReLU, or by a layer that was
initialised to zero.  If the gradient reaches an end of the longest bar, the receptive field is
unbounded.

The stride is the smallest shift of the input that the output follows, in a copy with random weights
of both signs.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from nodule_det.errors import ConfigError
from nodule_det.model.receptive_field import ReceptiveField

STRIDES = (1, 2, 4, 8, 16, 32, 64)
"""Strides to try."""

LENGTHS_VOX = (64, 128, 256)
"""Lengths of the bar.  A field of more than about 120 voxels either way counts as unbounded: with
such a halo, a slab would be the whole scan."""

TOLERANCE = 1e-3
"""Largest difference of two outputs that count as equal, in standard deviations of the output.
Rounding stays below 1e-5; another phase of a stride differs by about 1."""

SCALE = 1e15
"""Factor on the gradient, so that a path of 60 kernels, 3^-60 of it, is still above the smallest
float32."""

SEED = 20_261_128


def measure(model: nn.Module, patch_vox: int) -> ReceptiveField:
    """Measure a network's receptive field, stride and memory.

    Args:
        model: Network from (n, 1, z, y, x) to logits of the same shape, on the CPU.  It is left
            unchanged.
        patch_vox: Edge of the patches that it is trained on, which it must accept.

    Returns:
        The field.  Its radius is the largest of the three axes, rounded up to the stride, and
        None if it is unbounded along any of them.

    Raises:
        ConfigError: If the network accepts no size that the probe can use.
    """
    generator = torch.Generator().manual_seed(SEED)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)  # for networks that draw numbers themselves
        averaging = _randomised(model, generator, positive=True)
        width = _narrowest(averaging, patch_vox)
        if width is None:  # searched by windows of that size
            n_bytes = _bytes_per_voxel(averaging, patch_vox)
            return ReceptiveField(
                stride_vox=patch_vox, radius_vox=None, window_vox=patch_vox, bytes_per_voxel=n_bytes
            )
        step, n_bytes = _accepted_step(averaging, width), _bytes_per_voxel(averaging, patch_vox)
        radii: list[int] = []
        for axis in range(3):
            radius = _radius(averaging, axis, width, generator)
            if radius is None:
                break
            radii.append(radius)
        if len(radii) == 3:
            signed = _randomised(model, generator, positive=False)
            steps = [_stride(signed, a, width, r, generator) for a, r in enumerate(radii)]
            step = max(step, *steps)
    bounded = len(radii) == 3
    return ReceptiveField(
        stride_vox=step,
        radius_vox=-(-max(radii) // step) * step if bounded else None,
        window_vox=patch_vox,
        bytes_per_voxel=n_bytes,
    )


def _randomised(model: nn.Module, generator: torch.Generator, *, positive: bool) -> nn.Module:
    """Copy a network in evaluation mode with random weights: averages, or normally distributed."""
    try:
        probe = copy.deepcopy(model).float().eval().requires_grad_(False)
    except Exception as error:
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise ConfigError(
            f"the network of model.factory cannot be copied by copy.deepcopy ({why}); keep no "
            "generators, open files or computed tensors in its attributes"
        ) from error
    for name, weight in probe.named_parameters():
        fan_in = weight[0].numel() if weight.dim() > 1 else 1
        if weight.dim() > 1 and not positive:
            weight.copy_(torch.randn(weight.shape, generator=generator) / fan_in**0.5)
            continue
        draw = 0.5 + torch.rand(weight.shape, generator=generator)
        weight.copy_(draw / fan_in * (0.1 if name.endswith("bias") else 1.0))
    for module in probe.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
    return probe


def _bar(axis: int, length: int, width: int, generator: torch.Generator) -> Tensor:
    shape = [width, width, width]
    shape[axis] = length
    return torch.rand((1, 1, *shape), generator=generator)


def _maps(probe: nn.Module, x: Tensor) -> bool:
    """Return whether the network accepts a size and keeps it."""
    try:
        with torch.no_grad():
            return bool(probe(x).shape == x.shape)
    except (RuntimeError, ValueError, AssertionError, IndexError):
        return False


def _narrowest(probe: nn.Module, patch_vox: int) -> int | None:
    """Return the smallest width of a bar that the network accepts; None if only cubic patches."""
    widths = [w for w in (16, 32, 64, 128) if w < patch_vox]
    for width in (*widths, patch_vox):
        if _maps(probe, torch.rand((1, 1, LENGTHS_VOX[0], width, width))):
            return width
    if _maps(probe, torch.rand((1, 1, *3 * (patch_vox,)))):
        return None
    raise ConfigError(
        f"the network of model.factory maps neither patches of {patch_vox} voxels nor blocks of "
        f"{LENGTHS_VOX[0]} x {patch_vox} x {patch_vox} to their own size; change model.kwargs or "
        "patches.size_vox"
    )


def _accepted_step(probe: nn.Module, width: int) -> int:
    """Return the smallest power of two whose odd multiples the network accepts as sizes."""
    for step in STRIDES:
        odd = width + step if (width // step) % 2 == 0 else width
        if width % step == 0 and _maps(probe, torch.rand(1, 1, odd, odd, odd)):
            return step
    return width


def _radius(probe: nn.Module, axis: int, width: int, generator: torch.Generator) -> int | None:
    """Return the largest distance along an axis between a plane and an input it depends on."""
    for length in LENGTHS_VOX:
        x = _bar(axis, length, width, generator).requires_grad_(True)
        y = probe(x)[0, 0]
        farthest = 0
        for place in (length // 2 - 1, length // 2):  # last and first voxel of a cell: see farthest
            first, last = _support(x, y, axis, place, generator)
            if first == 0 or last == length - 1:
                break
            farthest = max(farthest, place - first, last - place)
        else:
            return farthest
    return None


def _support(
    x: Tensor, y: Tensor, axis: int, place: int, generator: torch.Generator
) -> tuple[int, int]:
    """Return the first and last plane of the input that one plane of the output depends on."""
    plane = y.select(axis, place)
    weight = SCALE * (0.5 + torch.rand(plane.shape, generator=generator))
    (gradient,) = torch.autograd.grad((plane * weight).sum(), x, retain_graph=True)
    others = [a for a in range(3) if a != axis]
    seen = (gradient[0, 0] != 0).any(dim=others[1]).any(dim=others[0]).nonzero()
    return (place, place) if len(seen) == 0 else (int(seen[0]), int(seen[-1]))


def _stride(
    probe: nn.Module, axis: int, width: int, radius: int, generator: torch.Generator
) -> int:
    """Return the smallest shift of the input that the output follows, away from the ends."""
    length = next(n for n in (*LENGTHS_VOX, 2 * LENGTHS_VOX[-1]) if n > 2 * radius + STRIDES[-1])
    x = _bar(axis, length, width, generator)
    inner = length - 2 * radius

    def inside(volume: Tensor) -> Tensor:
        y: Tensor = probe(volume)
        return y[0, 0].narrow(axis, radius, inner)

    with torch.no_grad():
        y = inside(x)
        for step in STRIDES:
            moved = inside(x.roll(step, 2 + axis)).narrow(axis, step, inner - step)
            off = (moved - y.narrow(axis, 0, inner - step)).abs().max()
            if off <= TOLERANCE * y.std():
                return step
    raise ConfigError(
        "the output of model.factory's network does not follow a shift of its input by 1, 2, 4, "
        f"... or {STRIDES[-1]} voxels, as that of a convolutional network does; use powers of two "
        "as strides"
    )


def _bytes_per_voxel(probe: nn.Module, patch_vox: int) -> int:
    """Return an upper bound of the memory of a forward pass: all activations held at once."""
    total = 0

    def count(_module: nn.Module, _inputs: object, output: object) -> None:
        nonlocal total
        if isinstance(output, Tensor):
            total += 4 * output.numel()

    leaves = [m for m in probe.modules() if next(m.children(), None) is None]
    hooks = [m.register_forward_hook(count) for m in leaves]
    try:
        with torch.no_grad():
            probe(torch.rand((1, 1, *3 * (patch_vox,))))
    finally:
        for hook in hooks:
            hook.remove()
    return max(64, -(-total // patch_vox**3))
