"""Shapes have the volume and the centre that they are annotated with, whatever they look like."""

from __future__ import annotations

import numpy as np
import pytest

from nodule_det.config.data import PhantomShapes
from nodule_det.data.phantom.shapes import RATINGS, draw_shape

STEP = 0.15
AXIS = np.arange(-3, 3 + STEP / 2, STEP, dtype=np.float32)
GRID = (AXIS[:, None, None], AXIS[None, :, None], AXIS[None, None, :])


def shape_of(seed, *, variety=PhantomShapes.even, diameter_mm=12.0, part_solid=False):
    rng = np.random.default_rng(seed)
    return draw_shape(variety, diameter_mm, part_solid=part_solid, solid=not part_solid, rng=rng)


def inside(shape):
    return np.argwhere(shape.depth(GRID) > 0) * STEP - 3


@pytest.mark.parametrize("seed", range(8))
def test_a_shape_has_the_unit_balls_volume_around_its_centroid_within_its_reach(seed):
    shape = shape_of(seed)
    points = inside(shape)
    assert len(points) * STEP**3 == pytest.approx(4 / 3 * np.pi, rel=0.05)
    np.testing.assert_allclose(points.mean(axis=0), 0, atol=0.03)
    farthest = np.linalg.norm(points, axis=1).max()
    assert farthest == pytest.approx(shape.reach, abs=0.3)


def test_the_same_seed_draws_the_same_shape():
    np.testing.assert_array_equal(shape_of(3).depth(GRID), shape_of(3).depth(GRID))
    assert shape_of(3).attributes() == shape_of(3).attributes()


def test_rounder_ratings_have_shorter_longest_axes():
    axes = {rating: [] for rating in RATINGS}
    for seed in range(80):
        shape = shape_of(seed)
        if shape.lobulation == 1:  # one ball, stretched
            spread = np.sort(np.linalg.eigvalsh(np.cov(inside(shape).T)))
            axes[shape.sphericity].append(np.sqrt(spread[2] / spread[0]))
    means = [np.mean(axes[rating]) for rating in RATINGS]
    assert means == sorted(means, reverse=True)
    assert means[0] > 2.5
    assert means[-1] < 1.25


def test_lobes_make_dents_and_a_ball_has_none():
    def solidity(shape):
        """Share of pairs of points inside whose midpoint is inside as well."""
        points = inside(shape)
        rng = np.random.default_rng(0)
        a, b = points[rng.integers(len(points), size=(2, 4000))]
        z, y, x = ((a + b) / 2).T.astype(np.float32)
        return (shape.depth((z, y, x)) > 0).mean()

    of = {rating: [] for rating in RATINGS}
    for seed in range(60):
        shape = shape_of(seed)
        of[shape.lobulation].append(solidity(shape))
    assert np.mean(of[1]) > 0.999
    assert np.mean(of[5]) < np.mean(of[2]) < np.mean(of[1])


def test_lidcs_share_of_lobulated_nodules_is_that_of_the_readers():
    shapes = [shape_of(seed, variety=PhantomShapes.lidc) for seed in range(250)]
    share, expected = np.mean([s.lobulation >= 3 for s in shapes]), 118 / 1192
    assert abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / 250)


def test_a_core_lies_inside_and_off_centre_and_only_part_solid_lesions_have_one():
    cores = [shape_of(seed, part_solid=True).core for seed in range(40)]
    away = np.array([np.linalg.norm(core[:3]) for core in cores])
    assert (away + [core[3] for core in cores] <= 0.9 + 1e-9).all()
    assert away.mean() > 0.1
    assert all(shape_of(seed).core is None for seed in range(10))


def test_only_larger_solid_lesions_have_cavities():
    assert any(shape_of(seed).cavity is not None for seed in range(40))
    assert all(shape_of(seed, diameter_mm=7.9).cavity is None for seed in range(40))
    assert all(shape_of(seed, part_solid=True).cavity is None for seed in range(40))


def test_poorly_defined_margins_are_wider_and_never_wider_than_a_small_lesion():
    edges = {rating: [] for rating in RATINGS}
    for seed in range(100):
        shape = shape_of(seed)
        edges[shape.margin].append(shape.edge_mm)
    means = [np.mean(edges[rating]) for rating in RATINGS]
    assert means == sorted(means, reverse=True)
    assert all(shape_of(seed, diameter_mm=4.0).edge_mm <= 1.6 for seed in range(40))
