"""The lung mask on drawn chests: two dark lungs in a body in air."""

from __future__ import annotations

import numpy as np
import pytest

from nodule_det.data.preprocess.lungs import coarse_steps, lung_mask
from nodule_det.errors import ScanError
from nodule_det.geometry import Grid

GRID = Grid((64, 110, 130), (2.5, 2.5, 2.5), (0.0, 0.0, 0.0))


def ball(center, radius_vox):
    z, y, x = np.indices(GRID.size_vox)
    away = (z - center[0]) ** 2 + (y - center[1]) ** 2 + (x - center[2]) ** 2
    return away < radius_vox**2


def chest():
    """Body of 40 HU in air, two lungs of -850 HU with 25 voxels' radius (about 1 litre each)."""
    volume = np.full(GRID.size_vox, -1000, np.int16)
    volume[:, 10:100, 10:120] = 40
    for x in (40, 90):
        volume[ball((32, 55, x), 25)] = -850
    return volume


def test_both_lungs_are_found_and_the_air_around_the_patient_is_not():
    mask = lung_mask(chest(), GRID, "scan")
    assert mask[32, 55, 40]
    assert mask[32, 55, 90]
    assert not mask[32, 2, 65]
    assert not mask[32, 55, 5]
    assert mask.sum() == pytest.approx(2 * 4 / 3 * np.pi * 25**3, rel=0.1)


@pytest.mark.parametrize("diameter_mm", [8, 15, 20])
def test_most_of_a_nodule_at_the_wall_lies_in_the_mask(diameter_mm):
    volume = chest()
    radius_vox = diameter_mm / 2 / 2.5
    center = (32, 55, round(40 - 25 + radius_vox))
    nodule = ball(center, radius_vox + 0.5)
    volume[nodule] = 30
    mask = lung_mask(volume, GRID, "scan")
    assert mask[center]
    assert mask[nodule].mean() > 0.6


def test_a_vessel_inside_a_lung_belongs_to_it():
    volume = chest()
    volume[10:54, 54:57, 39:42] = 50
    assert lung_mask(volume, GRID, "scan")[32, 55, 40]


def test_a_scan_without_lungs_is_refused_by_name():
    volume = np.full(GRID.size_vox, 40, np.int16)
    with pytest.raises(ScanError, match=r"no lungs were found in head\.mhd.*masks=FOLDER"):
        lung_mask(volume, GRID, "head.mhd")


def test_fine_scans_are_looked_at_in_steps_of_about_two_and_a_half_millimetres():
    assert coarse_steps(Grid((300, 512, 512), (1.25, 0.7, 0.7), (0, 0, 0))) == (2, 4, 4)
    assert coarse_steps(Grid((60, 512, 512), (5.0, 0.7, 0.7), (0, 0, 0))) == (1, 4, 4)


def test_the_last_digit_of_a_spacing_changes_nothing():
    steps = [
        coarse_steps(Grid((9, 9, 9), (s, 1.0, 1.0), (0, 0, 0))) for s in (1.0, 0.9999999999999998)
    ]
    assert steps[0] == steps[1] == (2, 2, 2)
