"""Cubes cut out of a scan, and the picture that carries them."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from nodule_det.geometry import Grid
from nodule_det.report.cubes import COLUMNS, EDGE, cut_cube, encode

GRID = Grid((90, 100, 110), (1.0, 1.0, 1.0), (-5.0, 6.0, 7.0))


def volume():
    return np.random.default_rng(0).integers(-1000, 400, GRID.size_vox, dtype=np.int16)


def test_a_cube_holds_the_voxels_around_its_point():
    scan = volume()
    cube = cut_cube(scan, GRID, GRID.to_world([45, 50, 55]), 6.0)
    half = EDGE // 2
    np.testing.assert_array_equal(
        cube.volume_hu, scan[45 - half : 45 + half, 50 - half : 50 + half, 55 - half : 55 + half]
    )
    assert cube.to_cube(np.array([45.0, 50.0, 55.0])) == [half, half, half]
    assert cube.voxel_mm == 1.0


def test_air_lies_outside_the_scan():
    cube = cut_cube(volume(), GRID, GRID.to_world([0, 50, 55]), 6.0)
    assert (cube.volume_hu[: EDGE // 2] == -1024).all()
    assert (cube.volume_hu[EDGE // 2] > -1024).any()


@pytest.mark.parametrize("diameter_mm", [26.0, 50.0])
def test_a_large_lesion_is_shown_whole(diameter_mm):
    cube = cut_cube(volume(), GRID, GRID.to_world([45, 50, 55]), diameter_mm)
    assert diameter_mm / cube.voxel_mm <= EDGE / 2
    center = np.array(cube.to_cube(np.array([45.0, 50.0, 55.0])))
    assert np.abs(center - EDGE / 2).max() <= 1


def test_the_picture_is_the_cubes_slices_row_by_row():
    smooth = np.linspace(-1000, 400, EDGE)[:, None, None] * np.ones((EDGE, EDGE, EDGE))
    uri = encode(smooth.astype(np.int16), (-1000, 400))
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))
    for k in (0, 1, COLUMNS, EDGE - 1):
        top, left = k // COLUMNS * EDGE, k % COLUMNS * EDGE
        tile = picture[top : top + EDGE, left : left + EDGE]
        assert tile.mean() == pytest.approx(255 * k / (EDGE - 1), abs=2)


def test_a_hundred_scans_make_a_page_of_less_than_60_megabytes():
    """Noise is the worst case of JPEG: eight findings a scan, with LIDC's 1.3 lesions in it."""
    noise = np.random.default_rng(1).normal(-850, 40, (EDGE, EDGE, EDGE)).astype(np.int16)
    assert 100 * (5 + 1.3) * len(encode(noise, (-1200, 400))) < 60e6
