"""The inside of the lungs: parenchyma, vessels, fissures and airways, on the scan's own voxels.

    Chest + Trees ──draw_lungs()──▶ Lungs ◀──paint()── nodules
                                      └──lay_into()──▶ HU of the scan

Only the box around the lungs is drawn, about a third of the scan.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nodule_det.data.phantom.anatomy import Chest, Patient
from nodule_det.data.phantom.canvas import (
    Box,
    Lattice,
    Points,
    Volume,
    draw_tubes,
    resample,
    smooth_field,
)
from nodule_det.data.phantom.vessels import Trees

PARENCHYMA_HU = (-885.0, -830.0)
"""Mean density of a lung at full inspiration."""

PATCHY_HU = 16.0
"""Standard deviation of the density at scales of 25 mm (lobules, emphysema) and 7 mm."""

DEPENDENT_HU = (10.0, 35.0)
"""Increase in density from the middle of the lung to the back, where blood pools; a decrease in
front."""

FISSURE_HU, FISSURE_SHARE, FISSURE_MM = -620.0, 0.45, 0.5
"""Oblique fissure: thinner than a voxel, so it shows as a faint sheet of this share of a voxel."""
FISSURE_TILT, FISSURE_WAVE_MM = 0.9, 5.0

WALL_HU, WALL_SHARE, LUMEN_HU = 0.0, 0.85, -985.0


@dataclass(frozen=True, slots=True)
class Lungs:
    """The box around the lungs, as if it contained nothing else.

    Attributes:
        box: Its position in the scan.
        lattice: Its voxels.
        hu: (z, y, x) HU of lung, also beyond the lung's border; findings are painted into it.
        lumen: (z, y, x) share of airway.
        trachea: (z, y, x) the same for airways that continue outside the lungs.
        depth_mm: (z, y, x) depth in the lung.
    """

    box: Box
    lattice: Lattice
    hu: Volume
    lumen: Volume
    trachea: Volume
    depth_mm: Volume

    def lay_into(self, scan_hu: Volume) -> None:
        """Blend the lungs into the scan, voxel by voxel, by the share that is lung."""
        share = soft_step(self.depth_mm, self.lattice.spacing_mm[2])
        inside = scan_hu[self.box]
        blend(inside, self.hu, share)
        blend(inside, LUMEN_HU, self.trachea * (1 - share))

    def at(self, values: Volume, points_mm: Points) -> Volume:
        """Return a volume's values in the voxels nearest to points (n, 3) in mm."""
        voxel = (points_mm - np.asarray(self.lattice.origin_mm)) / self.lattice.spacing_mm
        z, y, x = np.clip(np.rint(voxel).astype(int), 0, np.array(values.shape) - 1).T
        return np.asarray(values[z, y, x])


def soft_step(distance_mm: Volume, width_mm: float) -> Volume:
    """Return the share of a voxel inside a surface: 0 to 1 over ``width_mm`` of distance to it."""
    share = distance_mm * np.float32(1 / width_mm)
    share += np.float32(0.5)
    return np.clip(share, 0, 1, out=share)


def blend(values: Volume, toward: Volume | float, share: Volume) -> None:
    """Blend values in place with others by a share."""
    change = np.subtract(toward, values, dtype=np.float32)
    change *= share
    values += change


def draw_lungs(
    chest: Chest, trees: Trees, patient: Patient, scan: Lattice, rng: np.random.Generator
) -> Lungs:
    """Draw lungs without findings.

    Args:
        chest: Shape of the lungs.
        trees: Vessels and airways.
        patient: HU of blood, and of the lung.
        scan: The scan's voxels.
        rng: Source of densities and the fissure's waves.
    """
    box = _lung_box(chest, scan)
    lattice = scan.crop(box)
    pixel_mm = lattice.spacing_mm[2]
    hu = _parenchyma(chest, lattice, rng) + np.float32(patient.denser_hu)
    vessels = np.zeros(lattice.size_vox, np.float32)
    draw_tubes(vessels, lattice, trees.vessels, pixel_mm)
    blend(hu, patient.blood_hu, vessels)
    blend(hu, FISSURE_HU, _fissure(chest, lattice, rng))
    wall, trachea = np.zeros_like(hu), np.zeros_like(hu)
    draw_tubes(wall, lattice, trees.walls, pixel_mm)
    draw_tubes(trachea, lattice, trees.trachea, pixel_mm)
    lumen = trachea.copy()
    draw_tubes(lumen, lattice, trees.bronchi, pixel_mm)
    wall *= np.float32(WALL_SHARE)
    blend(hu, WALL_HU, wall)
    blend(hu, LUMEN_HU, lumen)
    depth_mm = resample(chest.lung_depth_mm, chest.lattice, lattice)
    return Lungs(box, lattice, hu, lumen, trachea, depth_mm)


def _lung_box(chest: Chest, scan: Lattice) -> Box:
    """Return the box around the lungs, extended towards the head to include the trachea."""
    voxels = np.argwhere(chest.lung_depth_mm > -chest.lattice.spacing_mm[2])
    low_mm = (voxels.min(axis=0) - 1) * chest.lattice.spacing_mm
    high_mm = (voxels.max(axis=0) + 1) * chest.lattice.spacing_mm
    high_mm[0] = scan.extent_mm[0]
    return scan.box(low_mm, high_mm)


def _parenchyma(chest: Chest, lattice: Lattice, rng: np.random.Generator) -> Volume:
    coarse = chest.lattice
    patchy = PATCHY_HU * (smooth_field(coarse, 25, rng) + smooth_field(coarse, 7, rng))
    back = np.linspace(-1, 1, coarse.size_vox[1], dtype=np.float32)[None, :, None]
    patchy += rng.uniform(*PARENCHYMA_HU) + rng.uniform(*DEPENDENT_HU) * back
    return resample(patchy.astype(np.float32), coarse, lattice)


def _fissure(chest: Chest, lattice: Lattice, rng: np.random.Generator) -> Volume:
    """Draw the oblique fissure of both lungs: from high at the back to low in front."""
    z, y, _ = chest.lattice.axes()
    center_z, center_y, _ = chest.center_mm
    height_mm = (z - center_z) - FISSURE_TILT * (y - center_y)
    height_mm = height_mm + FISSURE_WAVE_MM * smooth_field(chest.lattice, 50, rng)
    away_mm = resample(height_mm / np.hypot(1, FISSURE_TILT), chest.lattice, lattice)
    pixel_mm = lattice.spacing_mm[2]
    share = soft_step(np.float32((FISSURE_MM + pixel_mm) / 2) - np.abs(away_mm), pixel_mm)
    share *= np.float32(FISSURE_SHARE)
    return share
