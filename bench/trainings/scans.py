"""Small made-up pieces of lung with nodules and vessels, on which a training takes seconds.

    seed ──piece()──▶ HU, findings ──write_store()──▶ a store as ``nodule_det.data`` writes it

Whole phantom chests (``source=phantom``) cost a short training more time in validation than in
training.  A piece is 40 x 48 x 48 mm of noisy parenchyma with branching tubes and, on average,
three nodules of 4 to 11 mm, a third of them ground-glass.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import ndimage

from nodule_det.arrays import FloatArray
from nodule_det.data.scan import Finding, Prepared, ScanEntry
from nodule_det.data.store import StoreInfo, write_info, write_scan
from nodule_det.files import write_json
from nodule_det.geometry import Grid

SIZE_VOX = (40, 48, 48)
FOLDS = 3
LUNG_HU = -860.0
NOISE_HU = 70.0
"""Standard deviation of the noise, which is correlated over neighbouring voxels."""
VESSELS = 9
MARGIN_VOX = 5
"""Least distance of a nodule's centre from the edge of the piece."""


def piece(rng: np.random.Generator) -> tuple[FloatArray, list[tuple[FloatArray, float]]]:
    """Draw a piece of lung.

    Returns:
        (z, y, x) HU, and (centre in voxels, diameter in mm) of each nodule.
    """
    hu = np.full(SIZE_VOX, LUNG_HU)
    hu += 25 * _correlated(rng, 4.0)
    at = np.indices(SIZE_VOX).reshape(3, -1).T.astype(float)
    for _ in range(VESSELS):
        away = _from_tube(at, rng).reshape(SIZE_VOX)
        _blend(hu, -20.0, away, radius_mm=rng.uniform(0.6, 2.0))
    nodules: list[tuple[FloatArray, float]] = []
    for _ in range(1 + rng.poisson(2.0)):
        center = rng.uniform(MARGIN_VOX, np.array(SIZE_VOX) - MARGIN_VOX)
        diameter_mm = 4 + 7 * rng.beta(1.2, 2.5)
        if any(np.linalg.norm(center - other) < 12 for other, _ in nodules):
            continue
        stretch = np.exp(rng.normal(0, 0.12, 3))
        away = np.linalg.norm((at - center) / stretch, axis=1).reshape(SIZE_VOX)
        away += 0.5 * _correlated(rng, 1.5)  # bumps
        inside_hu = rng.uniform(-650, -450) if rng.random() < 1 / 3 else rng.uniform(-150, 50)
        _blend(hu, inside_hu, away, radius_mm=diameter_mm / 2)
        nodules.append((center, diameter_mm))
    return hu + NOISE_HU * _correlated(rng, 0.7), nodules


def _correlated(rng: np.random.Generator, scale_vox: float) -> FloatArray:
    field = ndimage.gaussian_filter(rng.normal(size=SIZE_VOX), scale_vox)
    return np.asarray(field / field.std())


def _from_tube(at: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Return the distances of points to a random segment that may end inside the piece."""
    size = np.array(SIZE_VOX)
    start, end = rng.uniform(-0.3 * size, 1.3 * size, (2, 3))
    along = end - start
    share = np.clip((at - start) @ along / (along @ along), 0, 1)
    return np.asarray(np.linalg.norm(at - start - share[:, None] * along, axis=1))


def _blend(hu: FloatArray, inside_hu: float, away_mm: FloatArray, radius_mm: float) -> None:
    """Draw a body with an edge 1.5 voxels wide."""
    share = np.clip((radius_mm - away_mm) / 1.5 + 0.5, 0, 1)
    hu += share * (inside_hu - hu)


def write_store(path: Path, n_scans: int) -> None:
    """Write a store of pieces: scan n has the seed n and is in fold n modulo ``FOLDS``."""
    part = path.with_name(f"{path.name}.part")
    (part / "scans").mkdir(parents=True, exist_ok=True)
    write_info(part, StoreInfo({"spacing_mm": 1.0, "margin_mm": 0.0}))
    lung = np.ones(SIZE_VOX, bool)
    grid = Grid(SIZE_VOX, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    uids = {f"1.2.{n}": n % FOLDS for n in range(n_scans)}
    for n, uid in enumerate(uids):
        hu, nodules = piece(np.random.default_rng(n))
        findings = [
            Finding(tuple(grid.to_world(center).tolist()), diameter_mm, False, {})
            for center, diameter_mm in nodules
        ]
        entry = ScanEntry(uid, part / "scans", f"piece{n}", tuple(findings))
        voxels = np.rint(np.clip(hu, -1024, 1000)).astype(np.int16)
        write_scan(part / "scans", entry, Prepared(voxels, grid, lung, None, (1.0, 1.0, 1.0)))
    write_json(part / "splits.json", {"folds": uids})
    part.rename(path)
