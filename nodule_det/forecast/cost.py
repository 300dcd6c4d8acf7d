"""Memory and run time of a training, predicted from its architecture before a job is submitted.

    settings of a training ──footprint()──▶ memory, work of a step, steps
    footprints + times of complete trials ──fit_speed()──▶ seconds of the next one

The network is counted layer by layer, as ``monai.networks.nets.UNet`` builds it.  Memory is the
peak of a training step: weights, gradients and both moments of Adam, what the forward pass saves
for the backward pass, and the loss at full resolution.  Validation is not included, since it cuts
scans into slabs that fit.  The speed of a node is fitted to the completed trials of the study.

``docs/tuning.md`` reports its accuracy (``bench/forecast.py``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from nodule_det.config.train import ModelConfig, Precision, TrainConfig

PARAMETER_BYTES = 22
"""Bytes per parameter: fp32 weight, gradient, two moments, and copies by autocast and kernels."""
LOSS_BYTES = 40
"""Bytes per voxel of a batch at full resolution: image, target, weight and tensors of the loss."""
WORKING_COPIES = 1.5
"""Copies of input and output of the largest layer during its computation: gradients, layouts."""
PADDED_CHANNELS = 16
"""oneDNN computes on whole blocks of this many channels."""
CPU_BASE_BYTES = 480_000_000
"""Memory of a process that has loaded torch and MONAI."""
ENOUGH_TIMES = 6
"""Number of completed trials needed to predict times."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One convolution with its norm, activation, sum and concatenation.  Per patch."""

    c_in: int
    c_out: int
    kernel: int
    places: int
    """Voxels at which the kernel is applied: of the output, or of the input if transposed."""
    voxels: int
    """Voxels of the output."""
    kept: int
    """Number of output-sized tensors saved for the backward pass."""
    joined: int = 0
    """Channels of the skip connection concatenated with the input, which is a new tensor."""
    norm: bool = True

    @property
    def n_parameters(self) -> int:
        """Weights and biases, and two parameters per channel of the norm."""
        return self.kernel**3 * self.c_in * self.c_out + self.c_out * (3 if self.norm else 1)

    @property
    def operations(self) -> float:
        """Multiplications and additions of the forward pass."""
        return 2.0 * self.kernel**3 * self.c_in * self.c_out * self.places


def layers(model: ModelConfig, edge: int) -> Iterator[Layer]:
    """List the convolutions of the network for a patch of ``edge`` voxels, encoder then decoder."""
    edge *= 2 if model.full_resolution else 1  # the first level then keeps the resolution
    above = 1
    for level in range(model.depth):
        c = model.filters << level
        yield from _down(model, edge, level, above, c)
        above = c
    for level in reversed(range(model.depth - 1)):
        yield from _up(model, edge, level)


def _down(model: ModelConfig, edge: int, level: int, above: int, c: int) -> Iterator[Layer]:
    bottom = level == model.depth - 1  # works at the resolution of the level above it
    n = (edge >> (level if bottom else level + 1)) ** 3
    k = model.kernel_size
    yield Layer(c_in=above, c_out=c, kernel=k, places=n, voxels=n, kept=2)
    if model.residual:  # a second convolution, and a shortcut that changes the channels
        yield Layer(c_in=c, c_out=c, kernel=k, places=n, voxels=n, kept=2)
        keeps = bottom or (level == 0 and model.full_resolution)
        size = 1 if keeps else k
        yield Layer(c_in=above, c_out=c, kernel=size, places=n, voxels=n, kept=1, norm=False)


def _up(model: ModelConfig, edge: int, level: int) -> Iterator[Layer]:
    c = model.filters << level
    top, last = level == 0, level == model.depth - 2
    joined = 3 * c if last else 2 * c
    out = 1 if top else c >> 1
    n, k = (edge >> (level + 1)) ** 3, model.kernel_size
    logits = top and not model.residual
    out_voxels = n if top and model.full_resolution else 8 * n
    yield Layer(
        c_in=joined,
        c_out=out,
        kernel=k,
        places=n,
        voxels=out_voxels,
        kept=1 if logits else 2,
        joined=joined,
        norm=not logits,
    )
    if model.residual:
        kept = 2 if top else 3
        yield Layer(
            c_in=out,
            c_out=out,
            kernel=k,
            places=out_voxels,
            voxels=out_voxels,
            kept=kept,
            norm=not top,
        )


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Resources that one training needs."""

    n_parameters: int
    memory_bytes: float
    """Peak of a training step."""
    steps: int
    operations_per_step: float
    """Multiplications and additions, forward and backward."""
    bytes_per_step: float
    """Bytes that a step saves for its backward pass."""
    validation: float
    """Operations per voxel of a scan, times the number of validations."""

    @property
    def work(self) -> tuple[float, float, float, float]:
        """Terms of the run time: start, operations, memory traffic, validations."""
        return (
            1.0,
            self.operations_per_step * self.steps,
            self.bytes_per_step * self.steps,
            self.validation,
        )


def footprint(train: TrainConfig, *, gpu: bool) -> Footprint:
    """Return the resources that a training needs.

    Args:
        train: Settings of the training.
        gpu: Whether it runs on a GPU.  On a CPU channels are padded, and the memory of the process
            itself is added.

    Returns:
        Memory in bytes and work.  16-bit precision is assumed if ``precision=auto``.
    """
    edge, batch = train.patches.size_vox, train.optim.batch_size
    network = list(layers(train.model, edge))
    value_bytes = 4 if train.precision is Precision.fp32 else 2
    saved = sum(x.kept * x.voxels * x.c_out + x.joined * x.places for x in network)
    largest = max(
        x.voxels * _padded(x.c_out, gpu=gpu) + x.places * _padded(x.c_in, gpu=gpu) for x in network
    )
    n_parameters = sum(x.n_parameters for x in network)
    saved_bytes = batch * (value_bytes * saved + LOSS_BYTES * edge**3)
    working_bytes = batch * value_bytes * WORKING_COPIES * largest
    patches = train.patches.per_epoch * (1 + train.augment.copies)
    steps = train.limits.epochs * max(1, patches // batch)
    forward = sum(x.operations for x in network)
    return Footprint(
        n_parameters=n_parameters,
        memory_bytes=(
            PARAMETER_BYTES * n_parameters
            + saved_bytes
            + working_bytes
            + (0 if gpu else CPU_BASE_BYTES)
        ),
        steps=steps,
        operations_per_step=3 * forward * batch,
        bytes_per_step=float(saved_bytes),
        validation=forward / edge**3 * -(-train.limits.epochs // train.validation.every_epochs),
    )


def _padded(channels: int, *, gpu: bool) -> int:
    return channels if gpu else -(-channels // PADDED_CHANNELS) * PADDED_CHANNELS


@dataclass(frozen=True)
class Speed:
    """Speed of the nodes of a study."""

    seconds_per: tuple[float, ...]
    """Seconds for one unit of each kind of :attr:`Footprint.work`."""
    off: float
    """Largest factor between a time it was fitted to and its prediction, at least 1."""

    def seconds(self, needs: Footprint) -> float:
        """Predict the run time of a training."""
        return math.fsum(s * w for s, w in zip(self.seconds_per, needs.work, strict=True))


def fit_speed(needs: Sequence[Footprint], seconds: Sequence[float]) -> Speed | None:
    """Fit the speed of a node to completed trainings.

    All coefficients are non-negative, and errors are relative to the time.

    Args:
        needs: Resources of n trainings.
        seconds: (n,) their run times, positive.

    Returns:
        None for fewer than :data:`ENOUGH_TIMES`.
    """
    if len(needs) < ENOUGH_TIMES:
        return None
    from scipy.optimize import nnls  # takes a quarter of a second, saved in studies without limits

    took = np.asarray(seconds, np.float64)
    work = np.array([n.work for n in needs])
    unit = work.max(axis=0)
    shares, _ = nnls(work / unit / took[:, None], np.ones(len(took)))
    predicted = (work / unit) @ shares
    off = float(np.exp(np.abs(np.log(predicted / took)).max()))
    return Speed(tuple(shares / unit), off)
