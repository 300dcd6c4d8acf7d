"""The lung mask on drawn chests: two dark lungs in a body in air."""

from __future__ import annotations

import numpy as np
import pytest

from nodule_det.data.preprocess.lungs import coarse_steps, find_lungs, volume_notes
from nodule_det.errors import ScanError
from nodule_det.geometry import Grid
from tests.data.dicom_files import LUNGS_ML, chest_hu

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
    mask = find_lungs(chest(), GRID, "scan").mask
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
    mask = find_lungs(volume, GRID, "scan").mask
    assert mask[center]
    assert mask[nodule].mean() > 0.6


def test_a_vessel_inside_a_lung_belongs_to_it():
    volume = chest()
    volume[10:54, 54:57, 39:42] = 50
    assert find_lungs(volume, GRID, "scan").mask[32, 55, 40]


def test_a_scan_without_lungs_is_refused_by_name():
    volume = np.full(GRID.size_vox, 40, np.int16)
    with pytest.raises(ScanError, match=r"no lungs were found in head\.mhd.*masks=FOLDER"):
        find_lungs(volume, GRID, "head.mhd")


def test_fine_scans_are_looked_at_in_steps_of_about_two_and_a_half_millimetres():
    assert coarse_steps(Grid((300, 512, 512), (1.25, 0.7, 0.7), (0, 0, 0))) == (2, 4, 4)
    assert coarse_steps(Grid((60, 512, 512), (5.0, 0.7, 0.7), (0, 0, 0))) == (1, 4, 4)


def test_the_last_digit_of_a_spacing_changes_nothing():
    steps = [
        coarse_steps(Grid((9, 9, 9), (s, 1.0, 1.0), (0, 0, 0))) for s in (1.0, 0.9999999999999998)
    ]
    assert steps[0] == steps[1] == (2, 2, 2)


# --- lungs that the image cuts, fill around it, volumes: drawn chest of 2 x 2024 ml

SPACING_MM = (6.0, 4.0, 4.0)


def drawn(noise=0.0, joined=False):
    volume = chest_hu()
    if joined:  # an airway between the lungs
        volume[20:26, 46:50, 35:61] = -900
    if noise:
        volume = volume + np.random.default_rng(0).normal(0, noise, volume.shape)
    return volume.astype(np.int16)


def lungs_of(volume, first=(0, 0, 0)):
    z, y, x = np.array(first) * SPACING_MM
    grid = Grid(volume.shape, SPACING_MM, (-190.0 + x, -190.0 + y, -300.0 + z))
    return find_lungs(volume, grid, "scan")


@pytest.mark.parametrize("noise", [0, 20])
@pytest.mark.parametrize("joined", [False, True])
def test_the_volume_of_each_lung_is_reported(noise, joined):
    lungs = lungs_of(drawn(noise, joined))
    extra = 6 * 4 * 26 * 0.096 if joined else 0
    assert lungs.right_ml + lungs.left_ml == pytest.approx(LUNGS_ML + extra, rel=0.01)
    assert lungs.right_ml == pytest.approx(lungs.left_ml, rel=0.02)
    assert lungs.notes() == ()


@pytest.mark.parametrize("noise", [0, 20])
@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("columns", [17, 20, 30])
@pytest.mark.parametrize("side", ["right", "left", "both"])
def test_a_lung_at_the_edge_of_the_image_is_found_as_far_as_it_is_there(
    noise, joined, columns, side
):
    kept = slice(columns if side != "left" else 0, 96 - columns if side != "right" else 96)
    inside = (chest_hu()[:, :, kept] == -850).sum() * 0.096
    lungs = lungs_of(np.ascontiguousarray(drawn(noise, joined)[:, :, kept]), (0, 0, kept.start))
    found = lungs.right_ml + lungs.left_ml
    assert found == pytest.approx(inside + (60 if joined else 0), rel=0.02)
    assert min(lungs.right_ml, lungs.left_ml) > 0.3 * found
    assert lungs.mask.sum() * 0.096 >= 0.98 * inside


def test_a_lung_cut_from_the_front_is_found():
    cut = drawn(20)[:, 32:]
    inside = (chest_hu()[:, 32:] == -850).sum() * 0.096
    lungs = lungs_of(np.ascontiguousarray(cut), (0, 32, 0))
    assert lungs.right_ml + lungs.left_ml == pytest.approx(inside, rel=0.02)


def test_a_volume_cropped_to_the_lungs_is_taken_as_it_is():
    kept = np.ascontiguousarray(drawn(20)[9:38, 28:68, 16:80])
    inside = (chest_hu()[9:38, 28:68, 16:80] == -850).sum() * 0.096
    lungs = lungs_of(kept, (9, 28, 16))
    assert lungs.right_ml + lungs.left_ml == pytest.approx(inside, rel=0.02)


@pytest.mark.parametrize("noise", [0, 20])
@pytest.mark.parametrize("value", [-1024, -850, 0, 40, 3071])
@pytest.mark.parametrize("kind", ["frame", "circle", "circle in a frame", "one side", "below"])
def test_fill_of_any_value_around_the_image_is_not_lung(noise, value, kind):
    volume = drawn(noise)
    y, x = np.indices((96, 96))
    if "circle" in kind:
        volume[:, np.hypot(y - 47.5, x - 47.5) > 46] = value
    if "frame" in kind:
        volume = np.pad(
            volume, [(0, 0), (3, 3), (5, 3)], constant_values=value if kind == "frame" else 0
        )
    if kind == "one side":
        volume = np.pad(volume, [(0, 0), (0, 0), (30, 0)], constant_values=value)
    if kind == "below":
        volume = np.pad(volume, [(8, 0), (0, 0), (0, 0)], constant_values=value)
    lungs = lungs_of(volume)
    assert lungs.right_ml + lungs.left_ml == pytest.approx(LUNGS_ML, rel=0.01)
    assert lungs.right_ml == pytest.approx(lungs.left_ml, rel=0.02)


@pytest.mark.parametrize("value", [-1024, 0, -700])
def test_a_lung_cut_by_the_circle_of_reconstruction_is_found(value):
    volume = drawn(20)
    y, x = np.indices((96, 96))
    outside = np.hypot(y - 47.5, x - 56.5) > 38  # cuts 14 mm off the right lung
    inside = ((chest_hu() == -850) & ~outside).sum() * 0.096
    volume[:, outside] = value
    lungs = lungs_of(volume)
    assert inside < 0.99 * LUNGS_ML
    assert lungs.right_ml + lungs.left_ml == pytest.approx(inside, rel=0.02)


def test_a_mattress_is_not_a_lung():
    volume = drawn(20)
    volume[:, 80:92, 10:86] = np.random.default_rng(1).normal(-930, 10, (48, 12, 76))
    lungs = lungs_of(volume)
    assert lungs.right_ml + lungs.left_ml == pytest.approx(LUNGS_ML, rel=0.01)


def test_one_lung_is_warned_of():
    volume = drawn(20)
    volume[:, :, 48:][chest_hu()[:, :, 48:] == -850] = 20  # the left one is full of fluid
    lungs = lungs_of(volume)
    assert lungs.left_ml == 0
    assert lungs.notes()[0].startswith("only the right lung was found (20")


@pytest.mark.parametrize(
    ("volumes", "words"),
    [((400, 400), "800 ml, expected 1000 to 12000"), ((7000, 7000), "14000 ml, expected")],
)
def test_an_implausible_volume_is_warned_of(volumes, words):
    (note,) = volume_notes(*volumes)
    assert words in note
