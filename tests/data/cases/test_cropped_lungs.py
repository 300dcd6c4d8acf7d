"""Lungs that the field of view cuts off, in a real scan and in phantoms with ribs and vessels."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

import numpy as np
import pytest

from nodule_det.config.data import PhantomConfig
from nodule_det.data.phantom.make import make_scan
from nodule_det.data.preprocess.lungs import Lungs, coarse_steps, find_lungs
from nodule_det.data.readers.read import read_scan
from nodule_det.geometry import Grid


@dataclass(frozen=True)
class Whole:
    """A chest that is in the image as a whole, and its lungs."""

    volume: np.ndarray
    grid: Grid
    lungs: Lungs

    def cropped(self, first, last) -> tuple[Lungs, float]:
        """Return the lungs of a part, and the share of the whole lungs' mask that lies in it.

        Args:
            first: First voxel (z, y, x) of the part, a multiple of the coarse steps.
            last: The voxel after its last one.
        """
        part = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
        volume = np.ascontiguousarray(self.volume[part])
        x, y, z = self.grid.to_world(first).tolist()
        grid = Grid(volume.shape, self.grid.spacing_mm, (x, y, z), self.grid.direction)
        steps = coarse_steps(self.grid)
        coarse = tuple(
            slice(a // s, -(-b // s)) for a, b, s in zip(first, last, steps, strict=True)
        )
        share = self.lungs.mask[coarse].sum() / self.lungs.mask.sum()
        return find_lungs(volume, grid, "crop"), float(share)

    def box(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the first voxel of the lungs, and the one after their last."""
        where = np.argwhere(self.lungs.mask)
        steps = np.array(coarse_steps(self.grid))
        return where.min(axis=0) * steps, (where.max(axis=0) + 1) * steps


def cut(whole: Whole, side: str, mm: float) -> tuple[list[int], list[int]]:
    """Return the part of a scan whose edge cuts some millimetres off a lung."""
    low, high = whole.box()
    steps = np.array(coarse_steps(whole.grid))
    first, last = np.zeros(3, int), np.array(whole.volume.shape)
    axis = 1 if side == "front" else 2
    off = round(mm / whole.grid.spacing_mm[axis] / steps[axis]) * steps[axis]
    if side in ("right", "both", "front"):
        first[axis] = low[axis] + off
    if side in ("left", "both"):
        last[axis] = high[axis] - off
    return first.tolist(), last.tolist()


CUTS = [("right", 5), ("left", 5), ("both", 5), ("front", 5), ("right", 20), ("both", 15)]


def check(whole: Whole, side: str, mm: float) -> None:
    lungs, share = whole.cropped(*cut(whole, side, mm))
    assert 0.6 < share < 1
    volume_ml = whole.lungs.right_ml + whole.lungs.left_ml
    assert lungs.right_ml + lungs.left_ml == pytest.approx(share * volume_ml, rel=0.05)
    assert min(lungs.right_ml, lungs.left_ml) > 0.3 * share * volume_ml
    assert lungs.notes() == ()


@pytest.fixture(scope="module")
def real(shared, tmp_path_factory) -> Whole:
    folder = tmp_path_factory.mktemp("LIDC-IDRI-0314")
    for source in ("LIDC-IDRI-0314", "LIDC-IDRI-0314-repair"):
        shutil.copytree(shared / "data" / source, folder, dirs_exist_ok=True)
    scan = read_scan(folder)
    return Whole(scan.volume_hu, scan.grid, find_lungs(scan.volume_hu, scan.grid, "real"))


@pytest.mark.parametrize(("side", "mm"), CUTS)
def test_both_lungs_of_the_real_scan_are_found_as_far_as_they_are_there(real, side, mm):
    check(real, side, mm)


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_targeted_reconstruction_of_one_side_warns_of_one_lung(real, side):
    low, high = real.box()
    step = coarse_steps(real.grid)[2]
    middle = int((low[2] + high[2]) // 2 // step * step)
    z, y, x = real.volume.shape
    first, last = (0, middle - 8 * step) if side == "right" else (middle + 8 * step, x)
    lungs, _ = real.cropped((0, 0, first), (z, y, last))
    found = {"right": lungs.right_ml, "left": lungs.left_ml}
    assert found[side] > 0.7 * getattr(real.lungs, f"{side}_ml")
    assert min(found.values()) == 0
    assert lungs.notes()[0].startswith(f"only the {side} lung was found")


@pytest.fixture(scope="module")
def phantom() -> Whole:
    scan, _ = make_scan(0, PhantomConfig(size_vox=[96, 160, 160]))
    lungs = find_lungs(scan.volume_hu, scan.grid, "phantom")
    return Whole(scan.volume_hu, scan.grid, lungs)


@pytest.mark.parametrize(("side", "mm"), CUTS)
def test_both_lungs_of_a_phantom_are_found_as_far_as_they_are_there(phantom, side, mm):
    check(phantom, side, mm)
