"""Peaks at known places are found there, once each, in the order of their height."""

import csv

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodule_det.candidates import find_candidates, write_candidates
from nodule_det.config.train import CandidateConfig
from nodule_det.geometry import Grid

SIZE_VOX = (40, 44, 48)
UPRIGHT = Grid(SIZE_VOX, (1.0, 1.0, 1.0), (-20.0, 5.0, -300.0))
GRIDS = {
    "upright": UPRIGHT,
    "flipped": Grid(SIZE_VOX, (1, 1, 1), (30, 12, 50), ((-1, 0, 0), (0, -1, 0), (0, 0, 1))),
    "sagittal": Grid(SIZE_VOX, (1, 1, 1), (3, 4, 5), ((0, 0, 1), (1, 0, 0), (0, 1, 0))),
    "rotated": Grid(SIZE_VOX, (1, 1, 1), (3, 4, 5), ((0.8, -0.6, 0), (0.6, 0.8, 0), (0, 0, 1))),
    "anisotropic": Grid(SIZE_VOX, (1.5, 0.7, 0.7), (0, 0, 0)),
}
CONFIG = CandidateConfig()


def bumps(*peaks, grid=UPRIGHT, sigma_mm=2.5):
    """Return a volume with a Gaussian bump of each height at each voxel (z, y, x)."""
    voxels = np.stack(np.indices(SIZE_VOX), axis=-1)
    volume = np.zeros(SIZE_VOX)
    for center, height in peaks:
        away_mm = np.linalg.norm((voxels - center) * grid.spacing_mm, axis=-1)
        volume = np.maximum(volume, height * np.exp(-0.5 * (away_mm / sigma_mm) ** 2))
    return volume.astype(np.float32)


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_a_peak_is_found_at_its_place_between_voxels_on_any_grid(grid):
    place = (20.3, 22.4, 18.7)
    found = find_candidates(bumps((place, 0.9), grid=grid), grid, CONFIG)
    assert len(found) == 1
    away_vox = np.abs(grid.to_voxel(found.world_mm[0]) - place)
    assert (away_vox < 0.5).all()


def test_the_best_comes_first_with_its_height_as_score():
    volume = bumps(((10, 10, 10), 0.4), ((30, 30, 30), 0.8), ((10, 30, 10), 0.6))
    found = find_candidates(volume, UPRIGHT, CONFIG)
    np.testing.assert_allclose(found.score, [0.8, 0.6, 0.4], rtol=1e-6)
    np.testing.assert_allclose(found.world_mm[0], UPRIGHT.to_world([30, 30, 30]), atol=0.1)


@pytest.mark.parametrize("diameter_mm", [5, 10, 20])
def test_a_ball_of_certain_voxels_is_one_candidate_of_its_size_at_its_middle(diameter_mm):
    away = np.linalg.norm(np.stack(np.indices(SIZE_VOX), -1) - (20, 22, 24), axis=-1)
    found = find_candidates((away <= diameter_mm / 2).astype(np.float32), UPRIGHT, CONFIG)
    assert len(found) == 1
    np.testing.assert_allclose(found.world_mm, [UPRIGHT.to_world([20, 22, 24])], atol=1e-6)
    assert found.diameter_mm[0] == pytest.approx(diameter_mm, abs=0.5)


@pytest.mark.parametrize(("apart_vox", "n"), [(5, 1), (6, 2)])
def test_peaks_merge_below_the_merging_distance_in_mm(apart_vox, n):
    volume = bumps(((20, 20, 20), 0.9), ((20, 20, 20 + apart_vox), 0.8), sigma_mm=1.0)
    assert len(find_candidates(volume, UPRIGHT, CandidateConfig(merge_mm=6.0))) == n


def test_the_merging_distance_is_in_mm_not_voxels():
    fine = GRIDS["anisotropic"]
    peaks = [((20, 20, 20), 0.9), ((20, 20, 28), 0.8)]  # 8 voxels, 5.6 mm
    volume = bumps(*peaks, grid=fine, sigma_mm=1.0)
    assert len(find_candidates(volume, fine, CandidateConfig(merge_mm=6.0))) == 1
    assert len(find_candidates(volume, fine, CandidateConfig(merge_mm=5.5))) == 2


def test_of_two_equal_peaks_that_merge_the_first_stays():
    volume = np.zeros(SIZE_VOX, np.float32)
    volume[20, 20, 20] = volume[20, 20, 23] = 0.5
    found = find_candidates(volume, UPRIGHT, CONFIG)
    np.testing.assert_allclose(found.world_mm, [UPRIGHT.to_world([20, 20, 20])])


def test_touching_peaks_are_one_without_any_merging():
    volume = np.zeros(SIZE_VOX, np.float32)
    volume[20, 20, 20:25] = 0.5
    found = find_candidates(volume, UPRIGHT, CandidateConfig(merge_mm=0))
    np.testing.assert_allclose(found.world_mm, [UPRIGHT.to_world([20, 20, 22])])


def test_two_tops_of_one_large_lesion_are_one_candidate():
    volume = np.zeros(SIZE_VOX, np.float32)
    volume[12:28, 14:30, 16:32] = 0.8
    volume[13, 15, 17] = volume[26, 28, 30] = 0.9
    found = find_candidates(volume, UPRIGHT, CONFIG)
    assert len(found) == 1
    np.testing.assert_allclose(found.world_mm, [UPRIGHT.to_world([19.5, 21.5, 23.5])], atol=0.1)


def test_what_is_below_the_threshold_is_dropped():
    volume = bumps(((10, 10, 10), 0.4), ((30, 30, 30), 0.8))
    assert len(find_candidates(volume, UPRIGHT, CandidateConfig(threshold=0.5))) == 1


def test_a_peak_counts_only_where_is_searched():
    volume = bumps(((10, 10, 10), 0.4), ((30, 30, 30), 0.8))
    search = np.zeros(SIZE_VOX, bool)
    search[:28] = True  # the slope of the higher one reaches in: that is no peak
    found = find_candidates(volume, UPRIGHT, CONFIG, search)
    np.testing.assert_allclose(found.score, [0.4], rtol=1e-6)


def test_the_limit_keeps_the_best_and_says_how_many_it_left_out():
    volume = bumps(*(((z, 20, 20), z / 100) for z in (5, 15, 25, 35)))
    found = find_candidates(volume, UPRIGHT, CandidateConfig(max_per_scan=3))
    np.testing.assert_allclose(found.score, [0.35, 0.25, 0.15], rtol=1e-6)
    assert found.n_dropped == 1


@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_nothing_gives_no_candidate(threshold):
    empty = np.zeros(SIZE_VOX, np.float32)
    found = find_candidates(empty, UPRIGHT, CandidateConfig(threshold=threshold))
    assert (len(found), found.world_mm.shape, found.n_dropped) == (0, (0, 3), 0)


def test_more_plateaus_than_are_looked_up_in_a_tree_are_labelled_alike(monkeypatch):
    volume = np.zeros(SIZE_VOX, np.float32)
    volume[4:7, 4:9, 4:6] = volume[4:7, 9, 6] = 1.0  # touches by an edge
    volume[20:22, 20:22, 20:23] = volume[30, 30, 30] = 1.0
    config = CandidateConfig(merge_mm=0)
    few = find_candidates(volume, UPRIGHT, config)
    monkeypatch.setattr("nodule_det.candidates.MANY_PEAKS", 3)
    many = find_candidates(volume, UPRIGHT, config)
    assert len(few) == 3
    np.testing.assert_array_equal(few.world_mm, many.world_mm)


def test_peaks_at_the_border_are_found():
    volume = np.zeros(SIZE_VOX, np.float32)
    volume[0, 0, 0] = volume[-1, -1, -1] = 0.5
    assert len(find_candidates(volume, UPRIGHT, CONFIG)) == 2


def slow_peaks(volume, threshold):
    """Return the voxels that no neighbour reaches, by looking at each."""
    padded = np.pad(volume, 1, constant_values=-1)
    for voxel in np.argwhere(volume >= threshold):
        around = padded[tuple(slice(v, v + 3) for v in voxel)]
        if (around >= volume[tuple(voxel)]).sum() == 1:
            yield tuple(voxel.tolist())


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.1, 0.6, 0.95]))
def test_without_merging_every_strict_peak_is_found_and_nothing_else(seed, threshold):
    volume = np.random.default_rng(seed).random((5, 6, 7), np.float32)
    grid = Grid(volume.shape, (1, 1, 1), (0, 0, 0))
    found = find_candidates(volume, grid, CandidateConfig(threshold=threshold, merge_mm=0))
    expected = sorted((volume[v] for v in slow_peaks(volume, threshold)), reverse=True)
    np.testing.assert_allclose(found.score, np.array(expected, np.float64))


def test_the_file_has_luna16s_columns_and_the_diameter(tmp_path):
    first = find_candidates(bumps(((20, 22, 24), 0.9)), UPRIGHT, CONFIG)
    none = find_candidates(np.zeros(SIZE_VOX, np.float32), UPRIGHT, CONFIG)
    write_candidates(tmp_path / "c.csv", [("1.2.3", first), ("1.2.4", none)])
    rows = list(csv.reader((tmp_path / "c.csv").read_text().splitlines()))
    assert rows[0] == ["seriesuid", "coordX", "coordY", "coordZ", "probability", "diameter_mm"]
    assert [row[0] for row in rows[1:]] == ["1.2.3"]
    assert [float(cell) for cell in rows[1][1:4]] == first.world_mm[0].tolist()
    assert float(rows[1][4]) == first.score[0]
