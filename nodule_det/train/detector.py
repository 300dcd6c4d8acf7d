"""What a training needs of a detector, and the usual one: a network that scores each voxel.

    batch ──loss()──▶ scalar        volume ──search()──▶ on the device ──candidates()──▶ points

The loop, resuming, validation and everything behind it know only this protocol and the weights of
an ``nn.Module``.  If the network of ``model.factory`` has these methods itself, it is the detector.
``docs/model.md`` says what a detector of boxes would need.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from nodule_det.arrays import BoolArray
from nodule_det.candidates import HostVolume, PeakVolume, ScanCandidates, find_candidates
from nodule_det.config.train import TrainConfig
from nodule_det.geometry import Grid
from nodule_det.inference import DeviceVolume, probability_on_device, slab_voxels
from nodule_det.model import (
    OwnDetector,
    ReceptiveField,
    finds_candidates,
    normalise,
    own_code,
)
from nodule_det.train.losses import detection_loss


class Detector(Protocol):
    """Learns from batches of patches and finds candidates in whole scans."""

    @property
    def reach_vox(self) -> int | None:
        """How far an output sees, in voxels; None if that is unbounded."""

    def loss(self, forward: nn.Module, image_hu: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Return the scalar loss of a batch.

        Args:
            forward: The network, or what shares it between processes.
            image_hu: (n, 1, z, y, x) HU.
            target: (n, 1, z, y, x) in [0, 1].
            weight: (n, 1, z, y, x), 0 where a voxel does not count.
        """

    def search(self, volume_hu: Tensor) -> Any:
        """Search a (z, y, x) volume in HU on its device; the result is for :meth:`candidates`."""

    def candidates(self, found: Any, grid: Grid, inside: BoolArray) -> ScanCandidates:
        """Return the candidates of a scan; runs in a thread beside the next search.

        Args:
            found: Result of :meth:`search`.
            grid: Where the voxels are.
            inside: (z, y, x) mask of where candidates count.
        """


class Segmenter:
    """A network of logits: focal cross-entropy, and the peaks of its probability.

    Args:
        model: The network, on ``device``; in its form for inference where it only searches.
        config: Settings of the run.
        field: Receptive field of the network.
        device: Where to compute.
        dtype: Type of the forward pass.
    """

    def __init__(
        self,
        model: nn.Module,
        config: TrainConfig,
        field: ReceptiveField,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self._model, self._config, self._field = model, config, field
        self._device, self._dtype = device, dtype
        self._slab_bytes = int(config.validation.slab_gb * 2**30)

    @property
    def reach_vox(self) -> int | None:
        """Radius of the receptive field."""
        return self._field.radius_vox

    def loss(self, forward: nn.Module, image_hu: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Compare the logits of a batch with its targets."""
        image = normalise(image_hu).to(memory_format=torch.channels_last_3d)
        with own_code(self._config.model.factory, "a training step"):
            logits = forward(image)
        return detection_loss(logits, target, weight)

    def search(self, volume_hu: Tensor) -> PeakVolume:
        """Compute the probability of each voxel."""
        _, probability = probability_on_device(
            self._model, self._field, volume_hu, dtype=self._dtype,
            max_voxels=slab_voxels(self._field, self._device, self._slab_bytes),
        )  # fmt: skip
        if self._device.type == "cpu":
            return HostVolume(probability.numpy())
        return DeviceVolume(probability)

    def candidates(self, found: PeakVolume, grid: Grid, inside: BoolArray) -> ScanCandidates:
        """Find the peaks and measure them."""
        return find_candidates(found, grid, self._config.candidates, inside)


def make_detector(
    model: nn.Module,
    config: TrainConfig,
    field: ReceptiveField,
    device: torch.device,
    dtype: torch.dtype,
) -> Detector:
    """Return the network's own detector if it is one, otherwise a :class:`Segmenter` of it."""
    if finds_candidates(model):
        return OwnDetector(model, config.model.factory)
    return Segmenter(model, config, field, device, dtype)
