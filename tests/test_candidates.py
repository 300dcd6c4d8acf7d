"""Peaks at known places are found there, once each, in the order of their height."""

import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

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


def balls(*centers_and_radii, size_vox=SIZE_VOX):
    """Return a mask of balls (z, y, x, radius)."""
    voxels = np.stack(np.indices(size_vox), axis=-1)
    inside = np.zeros(size_vox, bool)
    for *center, radius in centers_and_radii:
        inside |= np.linalg.norm(voxels - center, axis=-1) <= radius
    return inside


def centroid(mask):
    return np.argwhere(mask).mean(axis=0)


def test_a_lobulated_lesion_with_a_top_in_each_lobe_is_one_candidate_at_its_centroid():
    lobes = [(20, 22, 20, 6), (20, 22, 27, 5), (20, 28, 22, 4.5), (25, 20, 21, 4.5)]
    lesion = balls(*lobes)
    volume = np.where(lesion, 0.7, 0.01).astype(np.float32)
    for lobe, height in zip(lobes, (0.95, 0.9, 0.85, 0.8), strict=True):
        volume[tuple(lobe[:3])] = height
    found = find_candidates(volume, UPRIGHT, CONFIG)
    np.testing.assert_allclose(found.score, [0.95], rtol=1e-6)
    away_vox = np.abs(UPRIGHT.to_voxel(found.world_mm[0]) - centroid(lesion))
    assert (away_vox < 0.1).all()


@pytest.mark.parametrize("dip", [0.7, 0.55])
def test_an_elongated_lesion_with_several_tops_is_one_candidate(dip):
    z, y, x = np.indices(SIZE_VOX)
    along = 0.8 * (y - 22) + 0.6 * (x - 24)
    across = np.hypot(-0.6 * (y - 22) + 0.8 * (x - 24), z - 20)
    lesion = (along / 15) ** 2 + (across / 3.5) ** 2 <= 1
    tops = 0.9 - (0.9 - dip) * np.sin(np.pi * along / 9) ** 2  # 0.9 every 9 mm
    volume = np.where(lesion, tops, 0).astype(np.float32)
    found = find_candidates(volume, UPRIGHT, CONFIG)
    assert len(found) == 1
    np.testing.assert_allclose(UPRIGHT.to_voxel(found.world_mm[0]), (20, 22, 24), atol=0.5)


def test_a_faint_top_on_the_slope_of_a_lesion_belongs_to_it():
    volume = bumps(((20, 22, 18), 0.95), ((20, 22, 27), 0.4), sigma_mm=4.0)
    assert volume[20, 22, 23:26].min() > 0.2  # half of the faint one, but not of the other
    assert len(find_candidates(volume, UPRIGHT, CONFIG)) == 1
    apart = find_candidates(volume, UPRIGHT, CandidateConfig(region_share=1))
    np.testing.assert_allclose(apart.score, [0.95, 0.4], rtol=1e-6)


@pytest.mark.parametrize("second", [0.9, 0.8, 0.6])
@pytest.mark.parametrize(("radius", "apart"), [(5, 10), (4, 8), (6, 10), (3.5, 7)])
def test_two_lesions_that_touch_are_two_candidates_each_at_its_own_centre(second, radius, apart):
    places = [(20, 22, 16, radius), (20, 22, 16 + apart, radius)]
    volume = np.where(balls(places[1]), second, 0).astype(np.float32)
    volume[balls(places[0])] = 0.9
    found = find_candidates(volume, UPRIGHT, CONFIG)
    np.testing.assert_allclose(found.score, [0.9, second], rtol=1e-6)
    centers = sorted(UPRIGHT.to_voxel(found.world_mm).tolist())
    np.testing.assert_allclose(centers, [place[:3] for place in places], atol=0.8)
    volume_mm3 = np.array([4 / 3 * np.pi * radius**3] * 2)
    np.testing.assert_allclose(np.pi / 6 * found.diameter_mm**3, volume_mm3, rtol=0.2)


def test_a_large_and_a_small_lesion_that_touch_are_two():
    volume = np.where(balls((20, 22, 15, 8), (20, 22, 27, 4)), 0.9, 0).astype(np.float32)
    found = find_candidates(volume, UPRIGHT, CONFIG)
    centers = sorted(UPRIGHT.to_voxel(found.world_mm).tolist())
    np.testing.assert_allclose(centers, [(20, 22, 15), (20, 22, 27)], atol=0.8)


def test_a_vessel_that_leaves_a_lesion_is_part_of_it():
    lesion, vessel = balls((20, 22, 18, 6)), balls(*[(20, 22, x, 1.5) for x in range(18, 40)])
    found = find_candidates(np.where(lesion | vessel, 0.9, 0).astype(np.float32), UPRIGHT, CONFIG)
    assert len(found) == 1


def test_equal_tops_of_one_lesion_are_one_candidate():
    volume = np.where(balls((20, 22, 24, 9)), 0.6, 0).astype(np.float32)
    volume[20, 22, 17] = volume[20, 22, 31] = volume[14, 22, 24] = 0.9
    assert len(find_candidates(volume, UPRIGHT, CONFIG)) == 1


@pytest.mark.parametrize("corner", [(0, 0, 0), (39, 43, 47), (0, 43, 20)])
def test_lesions_at_the_border_touch_or_are_one_as_elsewhere(corner):
    z, y, x = corner
    inward = -1 if x > 30 else 1
    one = np.where(balls((z, y, x, 6), (z, y, x + 5 * inward, 5)), 0.9, 0).astype(np.float32)
    one[corner] = one[z, y, x + 5 * inward] = 0.95
    assert len(find_candidates(one, UPRIGHT, CONFIG)) == 1
    two = np.where(balls((z, y, x, 5), (z, y, x + 10 * inward, 5)), 0.9, 0).astype(np.float32)
    assert len(find_candidates(two, UPRIGHT, CONFIG)) == 2


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_the_axes_does_not_change_what_is_found(seed):
    volume = ndimage.gaussian_filter(np.random.default_rng(seed).random((14, 16, 18)), 2)
    volume = ((volume - volume.min()) / np.ptp(volume)).astype(np.float32)
    grid = Grid(volume.shape, (1, 1, 1), (0, 0, 0))
    turned = np.ascontiguousarray(volume.transpose(2, 1, 0))
    found = find_candidates(volume, grid, CONFIG)
    same = find_candidates(turned, Grid(turned.shape, (1, 1, 1), (0, 0, 0)), CONFIG)
    np.testing.assert_array_equal(found.score, same.score)
    np.testing.assert_allclose(found.world_mm, same.world_mm[:, ::-1], atol=0.5)


def test_the_best_are_kept_up_to_the_limit_although_some_belong_together():
    volume = bumps(((8, 8, 8), 0.9), ((30, 30, 30), 0.5), ((8, 30, 30), 0.4))
    volume[8, 8, 16] = 0.6
    volume[8, 8, 9:16] = 0.5  # bridge
    found = find_candidates(volume, UPRIGHT, CandidateConfig(max_per_scan=2))
    np.testing.assert_allclose(found.score, [0.9, 0.5], rtol=1e-6)
    assert found.n_dropped == 1


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


@pytest.mark.parametrize("at_once", [1, 2, 7])
@pytest.mark.parametrize("limit", [10, 1000])
def test_peaks_examined_a_few_at_a_time_give_the_same_candidates(monkeypatch, at_once, limit):
    noise = ndimage.gaussian_filter(np.random.default_rng(0).random((30, 40, 40)), 1.5)
    volume = np.round((noise - noise.min()) / np.ptp(noise), 2).astype(np.float32)  # has plateaus
    search = noise > np.quantile(noise, 0.3)
    grid, config = Grid(volume.shape, (1, 1, 1), (0, 0, 0)), CandidateConfig(max_per_scan=limit)
    together = find_candidates(volume, grid, config, search)
    monkeypatch.setattr("nodule_det.candidates.PEAKS_AT_ONCE", at_once)
    found = find_candidates(volume, grid, config, search)
    np.testing.assert_array_equal(found.world_mm, together.world_mm)
    np.testing.assert_array_equal(found.score, together.score)
    np.testing.assert_array_equal(found.diameter_mm, together.diameter_mm)
    assert bool(found.n_dropped) is bool(together.n_dropped) is (limit < 1000)


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
@settings(max_examples=40, deadline=None)
def test_without_merging_every_strict_peak_is_found_and_nothing_else(seed, threshold):
    volume = np.random.default_rng(seed).random((5, 6, 7), np.float32)
    grid = Grid(volume.shape, (1, 1, 1), (0, 0, 0))
    found = find_candidates(
        volume, grid, CandidateConfig(threshold=threshold, merge_mm=0, region_share=1)
    )
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
