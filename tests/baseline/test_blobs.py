"""The blob detector, on balls of known position and size, and on a phantom scan."""

import math

import numpy as np
import pytest

from nodule_det.baseline.blobs import RADIUS_PER_SCALE, SCALES_MM, find_blobs
from nodule_det.geometry import Grid

GRID = Grid((60, 60, 60), (1.0, 1.0, 1.0), (-30.0, 10.0, -400.0))
EVERYWHERE = np.ones(GRID.size_vox, bool)


def ball(center, diameter_mm, hu=50, grid=GRID, lung_hu=-850):
    z, y, x = np.indices(grid.size_vox)
    away = np.sqrt((z - center[0]) ** 2 + (y - center[1]) ** 2 + (x - center[2]) ** 2)
    share = np.clip((diameter_mm / 2 / grid.spacing_mm[0] - away) + 0.5, 0, 1)
    return (lung_hu + (hu - lung_hu) * share).astype(np.int16)


@pytest.mark.parametrize("scale_mm", SCALES_MM[:-1])
def test_an_isolated_nodule_is_the_best_candidate_with_its_position_and_size(scale_mm):
    diameter_mm = 2 * RADIUS_PER_SCALE * scale_mm
    found = find_blobs(ball((31.3, 28.0, 30.6), diameter_mm), GRID, EVERYWHERE)
    place = GRID.to_world([31.3, 28.0, 30.6])
    assert np.linalg.norm(found.world_mm[0] - place) < 1.0
    assert found.diameter_mm[0] == pytest.approx(diameter_mm)
    assert (np.diff(found.score) <= 0).all()


def test_the_score_of_a_ball_of_full_contrast_is_nearly_one():
    volume = ball((30, 30, 30), 2 * RADIUS_PER_SCALE * 4.0, hu=150, lung_hu=-1000)
    assert find_blobs(volume, GRID, EVERYWHERE).score[0] == pytest.approx(1, abs=0.05)


def test_a_ball_responds_more_strongly_than_a_vessel_of_its_width():
    y, x = np.indices(GRID.size_vox[1:])
    tube = np.hypot(y - 30, x - 30) < 4
    volume = np.broadcast_to(np.where(tube, 50, -850).astype(np.int16), GRID.size_vox)
    vessel = find_blobs(volume, GRID, EVERYWHERE).score.max()
    assert find_blobs(ball((30, 30, 30), 8), GRID, EVERYWHERE).score[0] > 1.1 * vessel


def test_only_centres_in_the_lung_count_and_two_nodules_are_two_candidates():
    volume = np.maximum(ball((20, 20, 20), 8), ball((40, 40, 40), 8))
    left = EVERYWHERE.copy()
    left[30:] = False
    assert len(find_blobs(volume, GRID, EVERYWHERE)) == 2
    alone = find_blobs(volume, GRID, left)
    np.testing.assert_allclose(alone.world_mm, [GRID.to_world([20, 20, 20])], atol=0.5)


def test_the_spacing_of_the_store_hardly_changes_position_and_size():
    fine = Grid((60, 60, 60), (0.6, 0.6, 0.6), (0.0, 0.0, 0.0))
    found = find_blobs(ball((30, 30, 30), 7, grid=fine), fine, EVERYWHERE)
    assert np.linalg.norm(found.world_mm[0] - 18.0) < 0.6 * math.sqrt(3)
    assert found.diameter_mm[0] == pytest.approx(7, rel=0.02)


def test_a_uniform_lung_has_no_candidate():
    empty = np.full(GRID.size_vox, -850, np.int16)
    found = find_blobs(empty, GRID, EVERYWHERE)
    assert len(found) == 0
    assert found.world_mm.shape == (0, 3)


def test_the_limit_keeps_the_best():
    rng = np.random.default_rng(0)
    noisy = rng.normal(-850, 300, GRID.size_vox).astype(np.int16)
    every = find_blobs(noisy, GRID, EVERYWHERE)
    few = find_blobs(noisy, GRID, EVERYWHERE, most=3)
    assert len(every) > 3
    np.testing.assert_array_equal(few.world_mm, every.world_mm[:3])


def hits(points_mm, lesions):
    return sum(
        (np.linalg.norm(points_mm - f.center_mm, axis=1) < f.diameter_mm / 2).any() for f in lesions
    )


def test_on_a_phantom_it_finds_several_times_more_than_chance(store):
    rng = np.random.default_rng(0)
    found = chance = 0
    for scan in store.scans:
        region = scan.search_mask()
        best = find_blobs(scan.volume(), scan.grid, region, most=20)
        anywhere = rng.choice(np.argwhere(region), (50, 20))
        lesions = [f for f in scan.lesions if f.diameter_mm > 6]
        found += hits(best.world_mm, lesions)
        chance += np.mean([hits(scan.grid.to_world(points), lesions) for points in anywhere])
    assert found >= 3
    assert found > 5 * chance
