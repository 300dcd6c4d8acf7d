"""Small chests as real files: large enough for lungs, coarse enough to be ingested in a blink."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nodule_det.geometry import Grid

GRID = Grid((36, 56, 66), (5.0, 5.0, 5.0), (-160.0, -140.0, -300.0))
LESION_VOXEL = (18, 28, 20)
LESION_MM = 20.0
HEADER = "seriesuid,coordX,coordY,coordZ,diameter_mm"


def chest_hu(seed=0):
    """Draw a body in air, two lungs of one litre, noise, and a lesion in the right lung."""
    z, y, x = np.indices(GRID.size_vox)
    volume = np.full(GRID.size_vox, -1000, np.int16)
    volume[:, 5:51, 5:61] = 40
    for center in (20, 46):
        away2 = (z - 18) ** 2 + (y - 28) ** 2 + (x - center) ** 2
        volume[away2 < 13**2] = -850
    noise = np.random.default_rng(seed).normal(0, 30, GRID.size_vox)
    volume = (volume + noise).astype(np.int16)
    lz, ly, lx = LESION_VOXEL
    volume[(z - lz) ** 2 + (y - ly) ** 2 + (x - lx) ** 2 <= 2**2] = 35
    return volume


def lesion_row(uid):
    """Write the lesion as LUNA16 would."""
    x, y, z = GRID.to_world(LESION_VOXEL)
    return f"{uid},{x},{y},{z},{LESION_MM}"


def write_chest(path: Path, *, seed=0) -> Path:
    """Write a chest as MetaImage or NIfTI."""
    image = sitk.GetImageFromArray(chest_hu(seed))
    image.SetSpacing(GRID.spacing_mm[::-1])
    image.SetOrigin(GRID.origin_mm)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    return path


def write_folder(root: Path, n=3) -> Path:
    """Write n chests and their annotations; gives the folder, ``annotations.csv`` beside it."""
    for i in range(n):
        write_chest(root / "scans" / f"scan{i}.mhd", seed=i)
    rows = [lesion_row(f"scan{i}") for i in range(n)]
    (root / "annotations.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    return root / "scans"
