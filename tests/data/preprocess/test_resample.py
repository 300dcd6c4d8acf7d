"""Resampling against closed forms: straight lines, waves, and balls with a known peak."""

from __future__ import annotations

import numpy as np
import pytest

from nodule_det.data.preprocess.resample import canonical, resample, taps, target_grid
from nodule_det.geometry import Grid

FINE = Grid((60, 80, 70), (1.25, 0.7, 0.7), (-20.0, 30.0, -100.0))


def isotropic(grid, spacing_mm=1.0, rim=4):
    low = np.full(3, rim)
    return target_grid(grid, low, np.array(grid.size_vox) - 1 - rim, spacing_mm)


def field(grid, function):
    """Evaluate a function of world (x, y, z) on a grid, as HU."""
    voxels = np.moveaxis(np.indices(grid.size_vox), 0, -1)
    return np.rint(function(*np.moveaxis(grid.to_world(voxels), -1, 0))).astype(np.int16)


def test_a_slope_stays_the_same_slope():
    slope = lambda x, y, z: 3 * x - 2 * y + z  # noqa: E731
    target = isotropic(FINE)
    moved = resample(field(FINE, slope), FINE, target)
    assert np.abs(moved.astype(int) - field(target, slope)).max() <= 2  # input and output rounded


def test_the_peak_of_a_small_nodule_is_kept():
    center = FINE.to_world([30, 40, 35])

    def blob(x, y, z):
        away2 = (x - center[0]) ** 2 + (y - center[1]) ** 2 + (z - center[2]) ** 2
        return -850 + 900 * 2 ** (-away2 / 2**2)  # half height at 2 mm: 4 mm across

    target = isotropic(FINE)
    moved = resample(field(FINE, blob), FINE, target)
    voxel = tuple(np.rint(target.to_voxel(center)).astype(int))
    truth = field(target, blob)[voxel]
    assert moved[voxel] == pytest.approx(truth, abs=25)  # linear interpolation loses 60


def test_what_is_finer_than_the_new_voxels_is_averaged_not_aliased():
    checker = (1000 * (np.indices((40, 40, 40)).sum(0) % 2)).astype(np.int16)
    grid = Grid((40, 40, 40), (0.5, 0.5, 0.5), (0.0, 0.0, 0.0))
    moved = resample(checker, grid, isotropic(grid, 1.5))
    assert np.abs(moved - 500).max() < 30


def test_places_on_the_samples_give_the_samples():
    matrix = taps(np.arange(5.0), 5, 1.0).toarray()
    np.testing.assert_allclose(matrix, np.eye(5), atol=1e-7)


def test_the_weights_of_every_place_sum_to_one():
    matrix = taps(np.linspace(-0.4, 9.4, 23), 10, 0.44).toarray()
    np.testing.assert_allclose(matrix.sum(1), 1, rtol=1e-6)


def test_the_new_grid_stays_within_the_box():
    target = target_grid(FINE, np.array([2, 3, 4]), np.array([42, 63, 54]), 1.0)
    assert target.size_vox == (51, 43, 36)  # 40 x 1.25 = 50 mm, 60 x 0.7 = 42 mm, 50 x 0.7 = 35 mm
    np.testing.assert_allclose(target.origin_mm, FINE.to_world([2, 3, 4]))


AXES = np.eye(3)
TURNS = {
    "feet last": AXES * [1, 1, -1],
    "prone": AXES * [-1, -1, 1],
    "sagittal slices": AXES[:, [1, 2, 0]],
    "coronal, flipped": AXES[:, [0, 2, 1]] * [-1, 1, 1],
}


@pytest.mark.parametrize("axes", TURNS.values(), ids=TURNS.keys())
def test_a_turned_scan_becomes_the_upright_one_without_a_new_voxel(axes):
    rows = tuple(map(tuple, axes.tolist()))
    grid = Grid((4, 5, 6), (3.0, 2.0, 1.0), (10.0, 20.0, 30.0), rows)
    volume = np.arange(120, dtype=np.int16).reshape(4, 5, 6)
    turned, upright = canonical(volume, grid)
    np.testing.assert_allclose(upright.direction, np.eye(3))
    for voxel in [(0, 0, 0), (3, 4, 5), (1, 2, 3)]:
        world = grid.to_world(voxel)
        there = tuple(np.rint(upright.to_voxel(world)).astype(int))
        assert turned[there] == volume[voxel]


def test_an_upright_scan_stays_as_it_is():
    volume = np.zeros(FINE.size_vox, np.int16)
    turned, upright = canonical(volume, FINE)
    assert upright == FINE
    assert turned.shape == volume.shape
