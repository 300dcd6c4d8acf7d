"""The mean probability of several networks over several views of a scan.

    checkpoints ──load_ensemble()──▶ Ensemble ──probability(volume)──▶ Region

A view is the volume mirrored or rotated onto its own axes.  Its probability is turned back before
averaging.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, permutations, product
from pathlib import Path

import numpy as np
import torch
from torch import nn

from nodule_det.arrays import BoolArray
from nodule_det.candidates import ScanCandidates, find_candidates
from nodule_det.checkpoint import Meta, load_model
from nodule_det.config.train import CandidateConfig
from nodule_det.data.scan import HuVolume
from nodule_det.errors import CheckpointError
from nodule_det.geometry import Grid
from nodule_det.inference import (
    DeviceVolume,
    Probability,
    Region,
    predict_volume,
    probability_on_device,
)
from nodule_det.model import OwnDetector, finds_candidates, for_inference
from nodule_det.origin import ScanRecord, union

View = tuple[tuple[int, int, int], tuple[int, int, int]]
"""Order of the axes, and a step of 1 or -1 along each axis of the result."""


def views(n: int) -> list[View]:
    """Return the first ``n`` symmetries of a cube: 1 for the scan itself, 8 for all mirrorings.

    Example:
        >>> views(2)
        [((0, 1, 2), (1, 1, 1)), ((0, 1, 2), (1, 1, -1))]
    """
    every = product(permutations(range(3)), product((1, -1), repeat=3))
    return [(order, flips) for order, flips in islice(every, n)]  # type: ignore[misc]


def turn(volume: HuVolume, view: View) -> HuVolume:
    """Return a view of a (z, y, x) volume."""
    order, flips = view
    return np.asarray(volume.transpose(order)[tuple(slice(None, None, f) for f in flips)])


def turn_back(volume: np.ndarray, view: View) -> np.ndarray:
    """Undo :func:`turn`."""
    order, flips = view
    upright = volume[tuple(slice(None, None, f) for f in flips)]
    return np.asarray(upright.transpose(np.argsort(order)))


@dataclass(frozen=True)
class Ensemble:
    """Networks with the same spacing, on one device."""

    members: tuple[tuple[nn.Module, Meta], ...]
    device: torch.device
    dtype: torch.dtype
    n_views: int = 1

    @property
    def meta(self) -> Meta:
        """How scans are prepared for all members, with the architecture of the first one."""
        return self.members[0][1]

    @property
    def scans(self) -> ScanRecord:
        """Scans that any member was trained or selected on."""
        return union(meta.scans for _, meta in self.members)

    @property
    def n_passes(self) -> int:
        """Number of network passes per scan."""
        return len(self.members) * self.n_views

    @property
    def stays_on_device(self) -> bool:
        """Whether a probability volume stays on a GPU: means are taken on the host."""
        return self.n_passes == 1 and self.device.type != "cpu"

    def search(self, volume_hu: HuVolume) -> Probability | DeviceVolume:
        """Return the mean probability in the form that ``find_candidates`` takes.

        Args and errors as for :meth:`probability`.
        """
        if not self.stays_on_device:
            return self.probability(volume_hu).probability
        ((model, meta),) = self.members
        volume = torch.from_numpy(np.array(volume_hu)).to(self.device)
        _, probability = probability_on_device(
            model, meta.receptive_field, volume, dtype=self.dtype
        )
        return DeviceVolume(probability)

    def candidates(
        self, volume_hu: HuVolume, grid: Grid, config: CandidateConfig, inside: BoolArray
    ) -> ScanCandidates:
        """Return the candidates of a scan: peaks of the mean probability, or of the one detector.

        Args:
            volume_hu: (z, y, x) int16 HU, prepared for ``meta``.
            grid: Where the voxels are.
            config: How peaks are found.
            inside: (z, y, x) mask of where candidates count.

        Raises:
            NoduleDetError: As :meth:`probability`.
        """
        model, meta = self.members[0]
        if not finds_candidates(model):
            return find_candidates(self.search(volume_hu), grid, config, inside)
        detector = OwnDetector(model, meta.model.factory)
        with torch.no_grad():
            found = detector.search(torch.from_numpy(np.array(volume_hu)).to(self.device))
            return detector.candidates(found, grid, inside)

    def probability(self, volume_hu: HuVolume) -> Region:
        """Return the mean probability of a lesion at each voxel.

        Args:
            volume_hu: (z, y, x) int16 HU, prepared for ``meta``.

        Returns:
            The whole volume.  For one member and one view it equals ``predict_volume`` exactly.

        Raises:
            DeviceMemoryError: If not even the thinnest slab fits.
            DivergedError: If a network returns values that are not finite.
        """
        total: np.ndarray | None = None
        for view in views(self.n_views):
            turned = turn(volume_hu, view)
            for model, meta in self.members:
                region = predict_volume(
                    model, meta.receptive_field, turned, device=self.device, dtype=self.dtype
                )
                upright = turn_back(region.probability, view)
                if total is None:
                    total = upright if self.n_passes == 1 else upright.copy()
                else:
                    total += upright
        assert total is not None  # there is at least one member
        if self.n_passes > 1:
            total /= self.n_passes
        return Region((0, 0, 0), np.ascontiguousarray(total))


def load_ensemble(
    paths: Sequence[Path],
    device: torch.device,
    dtype: torch.dtype,
    n_views: int = 1,
    factory: str = "",
) -> Ensemble:
    """Load networks for inference.

    Args:
        paths: Checkpoints.
        device: Where to compute.
        dtype: Type of the forward pass.
        n_views: Views of each scan.
        factory: The ``model.factory`` that the checkpoints may name, see ``load_model``.

    Raises:
        CheckpointError: If one is missing or damaged or names another factory, or they were
            trained on voxels of different size, or are detectors that cannot be averaged.
    """
    members = [(path, *load_model(path, factory)) for path in paths]
    first, _, meta = members[0]
    for path, _, other in members[1:]:
        if (other.spacing_mm, other.margin_mm) != (meta.spacing_mm, meta.margin_mm):
            raise CheckpointError(
                f"checkpoint {path} was trained on voxels of {other.spacing_mm:g} mm with a margin "
                f"of {other.margin_mm:g} mm, but {first} with {meta.spacing_mm:g} mm and "
                f"{meta.margin_mm:g} mm; use checkpoints that were trained with the same settings"
            )
    if len(members) * n_views > 1 and any(finds_candidates(model) for _, model, _ in members):
        raise CheckpointError(
            f"checkpoint {first} finds candidates itself, and those of several networks or views "
            "cannot be averaged; use one checkpoint (hpo finish: folds=[0] seeds=[0]) and views=1"
        )
    loaded = tuple(
        (for_inference(model, other.model).to(device), other) for _, model, other in members
    )
    return Ensemble(loaded, device, dtype, n_views)
