"""Tilted and uneven stacks become upright, even volumes in the right place; others are refused."""

import numpy as np
import pytest

from nodule_det.data.readers.read import read_scan
from nodule_det.errors import GeometryError, ScanError
from tests.data.dicom_files import (
    NODULE_MM,
    ORIGIN_MM,
    SPACING_MM,
    chest_hu,
    chest_series,
    save_series,
)


def nodule_center(scan):
    """Return the world centre of the soft voxels within 16 mm of where the nodule was drawn."""
    voxels = np.argwhere(scan.volume_hu > -400)
    world = scan.grid.to_world(voxels)
    near = np.linalg.norm(world - NODULE_MM, axis=1) < 16
    return world[near].mean(axis=0)


def tilted(folder, degrees, sideways=0.0):
    """Scan the chest with a tilted gantry: slice k is shifted towards the back by z tan(angle)."""
    slope = np.tan(np.radians(degrees))
    slices = []
    for k in range(48):
        shift = np.array([sideways * slope, slope]) * k * SPACING_MM[0]
        origin = (ORIGIN_MM[0] + shift[0], ORIGIN_MM[1] + shift[1], ORIGIN_MM[2] + 6.0 * k)
        (pixels,) = chest_hu((1, 96, 96), SPACING_MM, origin)
        slices.append((origin, pixels))
    series = chest_series(np.stack([pixels for _, pixels in slices]))
    for dataset, (origin, _) in zip(series, slices, strict=True):
        dataset.ImagePositionPatient = [round(float(v), 4) for v in origin]
    save_series(series, folder)
    return folder


@pytest.mark.parametrize("degrees", [-20, -5, 12.5, 30])
def test_a_gantry_tilt_is_corrected_and_every_voxel_keeps_its_place(tmp_path, degrees):
    scan = read_scan(tilted(tmp_path, degrees))
    assert scan.notes == (f"gantry tilt of {abs(degrees):.1f} degrees corrected",)
    assert scan.grid.size_vox[0] == 48
    np.testing.assert_allclose(nodule_center(scan), NODULE_MM, atol=1.5)
    truth = chest_hu(scan.grid.size_vox, scan.grid.spacing_mm, scan.grid.origin_mm)
    inside = scan.volume_hu > -1024  # where a slice reaches
    apart = np.abs(scan.volume_hu.astype(int) - truth)[inside]
    assert np.median(apart) == 0
    assert (apart > 0).mean() < 0.06  # edges, blurred by half a pixel


def test_a_tilt_in_both_directions_is_corrected(tmp_path):
    scan = read_scan(tilted(tmp_path, 10, sideways=0.7))
    np.testing.assert_allclose(nodule_center(scan), NODULE_MM, atol=1.0)


def test_an_upright_stack_is_taken_as_it_is(tmp_path):
    save_series(chest_series(), tmp_path)
    scan = read_scan(tmp_path)
    assert scan.notes == ()
    np.testing.assert_array_equal(scan.volume_hu, chest_hu())


def uneven(folder, steps, numbers=None):
    """Scan the chest at slices ``steps`` millimetres apart."""
    heights = ORIGIN_MM[2] + np.concatenate([[0], np.cumsum(steps)])
    volume = np.concatenate([chest_hu((1, 96, 96), SPACING_MM, (-190, -190, z)) for z in heights])
    series = chest_series(volume)
    for k, (dataset, z) in enumerate(zip(series, heights, strict=True)):
        dataset.ImagePositionPatient = [-190, -190, round(float(z), 3)]
        if numbers is not None:
            dataset.InstanceNumber = numbers[k]
    save_series(series, folder)
    return folder


@pytest.mark.parametrize(
    "steps",
    [
        [2.0] * 40 + [5.0] * 40,
        [5.0] * 20 + [2.5] * 60,
        [3.0] * 20 + [4.0] * 20 + [3.0] * 30,
    ],
    ids=["2 then 5", "5 then 2.5", "3, 4, 3"],
)
def test_two_constant_spacings_become_the_narrower_one(tmp_path, steps):
    scan = read_scan(uneven(tmp_path, steps))
    assert scan.grid.spacing_mm[0] == pytest.approx(min(steps), abs=1e-3)
    words = f"slices {min(steps):g} and {max(steps):g} mm apart resampled to {min(steps):g} mm"
    assert scan.notes == (words,)
    assert scan.grid.size_vox[0] == int(sum(steps) / min(steps) + 1e-6) + 1
    np.testing.assert_allclose(nodule_center(scan), NODULE_MM, atol=1.5)
    heights = scan.grid.origin_mm[2] + scan.grid.spacing_mm[0] * np.arange(scan.grid.size_vox[0])
    for k in (0, len(heights) // 2, len(heights) - 1):  # in body and air, far from the lungs
        assert scan.volume_hu[k, 48, 8] in (40, -1000)


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([5.0] * 10 + [10.0] + [5.0] * 10, r"lie 10 mm, elsewhere 5 mm: 1 slice\(s\) missing"),
        ([5.0] * 10 + [15.0] + [5.0] * 10, r"lie 15 mm, elsewhere 5 mm: 2 slice\(s\) missing"),
        ([2.0] * 10 + [4.0] * 2 + [2.0] * 10, r"lie 4 mm, elsewhere 2 mm: 1 slice\(s\) missing"),
        ([2.0] * 10 + [8.0] * 10 + [2.0] * 11, "two constant ones of at most 5 mm"),
        ([2.0, 3.0, 4.0, 5.0, 4.0, 3.0, 2.0], "lies .* mm off its place in a stack of equal gaps"),
        ([2.0, 4.0] * 10, "off its place in a stack of equal gaps"),
    ],
)
def test_other_gaps_are_refused_as_what_they_are(tmp_path, steps, words):
    with pytest.raises(ScanError, match=words):
        read_scan(uneven(tmp_path, steps))


def test_a_run_of_missing_slices_is_told_from_a_wider_spacing_by_their_numbers(tmp_path):
    steps = [2.0] * 20 + [4.0] * 10
    numbers = list(range(1, 22)) + list(range(23, 43, 2))
    with pytest.raises(ScanError, match=r"lie 4 mm, elsewhere 2 mm: 1 slice\(s\) missing"):
        read_scan(uneven(tmp_path / "skipped", steps, numbers))
    assert read_scan(uneven(tmp_path / "whole", steps)).grid.spacing_mm[0] == pytest.approx(2.0)


def test_positions_rounded_to_a_tenth_are_one_even_stack(tmp_path):
    heights = np.round(1.25 * np.arange(31), 1)
    assert read_scan(uneven(tmp_path, np.diff(heights))).notes == ()


def test_irregular_shifts_are_refused(tmp_path):
    series = chest_series(chest_hu()[:12])
    for k, dataset in enumerate(series):
        dataset.ImagePositionPatient = [-190, -190 + 9 * (k > 5), -300 + 6 * k]
    save_series(series, tmp_path)
    with pytest.raises(GeometryError, match="the slices do not lie on each other"):
        read_scan(tmp_path)
