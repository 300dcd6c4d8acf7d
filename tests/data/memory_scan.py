"""A scan in memory, with all that the feed asks of a stored one."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from nodule_det.data.scan import Finding
from nodule_det.geometry import Grid

ORIGIN_MM = (-40.0, 12.5, 300.0)


@dataclass(frozen=True)
class MemoryScan:
    """Voxels, findings by voxel, and indices of lung and vessels."""

    volume_hu: np.ndarray
    findings: tuple[Finding, ...] = ()
    series_uid: str = "1.2.3"
    label_volume: np.ndarray | None = None
    lung: np.ndarray = field(default_factory=lambda: np.array([[20, 24, 28], [40, 36, 32]]))
    vessels: np.ndarray = field(default_factory=lambda: np.array([[40, 36, 32]]))

    @property
    def grid(self):
        return Grid(self.volume_hu.shape, (1.0, 1.0, 1.0), ORIGIN_MM)

    def volume(self):
        return self.volume_hu

    def labels(self):
        return self.label_volume

    def lung_blocks(self):
        return self.lung

    def vessel_blocks(self):
        return self.vessels


def finding(voxel, diameter_mm, excluded=False):
    """Make a finding at voxel (z, y, x) of a scan whose voxels are 1 mm."""
    z, y, x = voxel
    ox, oy, oz = ORIGIN_MM
    return Finding((ox + x, oy + y, oz + z), diameter_mm, excluded)


def noise(seed=0, size_vox=(64, 72, 80)):
    """Fill a volume with HU that are never the same twice in a row."""
    return np.random.default_rng(seed).integers(-1000, 400, size_vox, dtype=np.int16)
