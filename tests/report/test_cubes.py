"""Cubes cut out of a scan, and the picture that carries them."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from nodule_det.geometry import Grid
from nodule_det.report.cubes import (
    COLUMNS,
    EDGE,
    KNOTS_GREY,
    KNOTS_HU,
    SLICE_PIXELS,
    cut_cube,
    cut_slice,
    encode,
    encode_cube,
)

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
    assert cube.to_cube(GRID.to_world([45, 50, 55])) == [half, half, half]
    assert cube.voxel_mm == 1.0


def test_air_lies_outside_the_scan():
    cube = cut_cube(volume(), GRID, GRID.to_world([0, 50, 55]), 6.0)
    assert (cube.volume_hu[: EDGE // 2] == -1024).all()
    assert (cube.volume_hu[EDGE // 2] > -1024).any()


@pytest.mark.parametrize("diameter_mm", [26.0, 50.0])
def test_a_large_lesion_is_shown_whole(diameter_mm):
    cube = cut_cube(volume(), GRID, GRID.to_world([45, 50, 55]), diameter_mm)
    assert diameter_mm / cube.voxel_mm <= EDGE / 2
    center = np.array(cube.to_cube(GRID.to_world([45, 50, 55])))
    assert np.abs(center - EDGE / 2).max() <= 1


def decoded(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))


def test_the_picture_is_the_cubes_slices_row_by_row():
    smooth = np.linspace(-1200, -200, EDGE)[:, None, None] * np.ones((EDGE, EDGE, EDGE))
    picture = decoded(encode_cube(smooth.astype(np.int16)))
    for k in (0, 1, COLUMNS, EDGE - 1):
        top, left = k // COLUMNS * EDGE, k % COLUMNS * EDGE
        tile = picture[top : top + EDGE, left : left + EDGE]
        assert tile.mean() == pytest.approx(95 * k / (EDGE - 1), abs=2)


@pytest.mark.parametrize(
    ("hu", "within_hu"), [(-1000, 16), (-600, 16), (40, 7), (200, 7), (700, 36)]
)
def test_grey_levels_keep_hu_for_every_window(hu, within_hu):
    grey = decoded(encode(np.full((16, 16), hu, np.int16)))
    back = np.interp(grey, KNOTS_GREY, KNOTS_HU)
    assert np.abs(back - hu).max() <= within_hu


def test_a_scan_stored_feet_last_and_mirrored_is_shown_upright():
    """The same patient twice: in standard order, and with x and z running the other way."""
    scan = volume()
    n_z, _, n_x = GRID.size_vox
    last = tuple(GRID.to_world([n_z - 1, 0, n_x - 1]).tolist())
    turned = Grid(
        GRID.size_vox,
        GRID.spacing_mm,
        (last[0], GRID.origin_mm[1], last[2]),
        ((-1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, -1.0)),
    )
    center_mm = GRID.to_world([45, 50, 55])
    upright = cut_cube(scan, GRID, center_mm, 6.0)
    other = cut_cube(scan[::-1, :, ::-1], turned, center_mm, 6.0)
    np.testing.assert_array_equal(upright.volume_hu, other.volume_hu)
    np.testing.assert_array_equal(
        cut_slice(scan, GRID, center_mm[2]).image_hu,
        cut_slice(scan[::-1, :, ::-1], turned, center_mm[2]).image_hu,
    )


def test_thick_slices_are_interpolated_to_cubic_voxels():
    grid = Grid((20, 60, 60), (3.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    by_height = np.broadcast_to((30 * np.arange(20) - 1000)[:, None, None], grid.size_vox).astype(
        np.int16
    )
    cube = cut_cube(by_height, grid, grid.to_world([10, 30, 30]), 6.0)
    middle = cube.volume_hu[EDGE // 2 - 2 : EDGE // 2 + 3, EDGE // 2, EDGE // 2]
    assert middle.tolist() == [-720, -710, -700, -690, -680]  # 10 HU a millimetre


def test_the_whole_slice_covers_the_scan_and_is_not_too_large():
    scan = volume()
    whole = cut_slice(scan, GRID, float(GRID.to_world([45, 0, 0])[2]))
    np.testing.assert_array_equal(whole.image_hu, scan[45])
    assert whole.first_mm.tolist() == [-5.0, 6.0]
    wide = Grid((3, 512, 512), (1.0, 0.7, 0.7), (0.0, 0.0, 0.0))
    small = cut_slice(np.zeros(wide.size_vox, np.int16), wide, 1.0)
    assert small.image_hu.shape == (SLICE_PIXELS, SLICE_PIXELS)
    assert small.pixel_mm * (SLICE_PIXELS - 1) == pytest.approx(511 * 0.7)


def test_a_hundred_scans_make_a_page_of_less_than_60_megabytes():
    """Noise is the worst case of JPEG: five false positives a scan, with LIDC's 1.3 lesions."""
    noise = np.random.default_rng(1).normal(-850, 40, (EDGE, EDGE, EDGE)).astype(np.int16)
    flat = np.random.default_rng(1).normal(-850, 40, (SLICE_PIXELS, SLICE_PIXELS))
    finding = len(encode_cube(noise)) + len(encode(flat.astype(np.int16)))
    assert 100 * (5 + 1.3) * finding < 60e6
