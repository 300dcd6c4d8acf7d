"""Findings find a free place at the right depth, and are painted with their own volume."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nodule_det.config.data import PhantomShapes
from nodule_det.data.phantom.anatomy import Chest
from nodule_det.data.phantom.canvas import Lattice, Tubes
from nodule_det.data.phantom.lungs import Lungs
from nodule_det.data.phantom.nodules import APART_MM, CAVITY_HU, CLEAR_MM, Placed, paint, place
from nodule_det.data.phantom.shapes import draw_shape
from nodule_det.data.phantom.statistics import Attachment, Kind, Nodule, Texture

LATTICE = Lattice((48, 48, 48), (1.0, 1.0, 1.0))
LUNG_HU = -860.0
NO_VESSELS = Tubes(np.empty((0, 3)), np.empty((0, 3)), np.empty(0), np.empty(0))


def solid(diameter_mm, attachment=Attachment.ISOLATED, texture=Texture.SOLID):
    return Nodule(Kind.NODULE, diameter_mm, texture, attachment, False, False, 30.0)


def half_chest():
    """Fill the half z > 10 mm with lung: its depth is z - 10."""
    depth_mm = np.arange(48, dtype=np.float32)[:, None, None] - np.full((1, 48, 48), 10, np.float32)
    return Chest(LATTICE, np.zeros_like(depth_mm), depth_mm, (24.0, 24.0, 24.0), 100.0, 80.0)


def empty_lungs():
    hu, nothing = np.full(LATTICE.size_vox, LUNG_HU, np.float32), np.zeros(LATTICE.size_vox)
    return Lungs((slice(0, 48),) * 3, LATTICE, hu, nothing, nothing, half_chest().lung_depth_mm)


def placed(nodule, seed, taken=()):
    rng = np.random.default_rng(seed)
    return place(nodule, half_chest(), NO_VESSELS, empty_lungs(), taken, rng)


def test_an_isolated_nodule_keeps_clear_of_the_pleura_and_one_beside_it_does_not():
    for seed in range(10):
        isolated = placed(solid(8.0), seed)
        assert isolated.center_mm[0] >= 10 + 4 + CLEAR_MM
        beside = placed(solid(8.0, Attachment.JUXTA_PLEURAL), seed)
        assert 10 + 0.5 * 4 <= beside.center_mm[0] <= 10 + 4


def test_findings_keep_their_distance():
    taken = []
    for seed in range(6):
        found = placed(solid(6.0), seed, taken)
        for other in taken:
            assert np.linalg.norm(found.center_mm - other.center_mm) > 3 + 3 + APART_MM
        taken.append(found)


def test_a_nodule_too_large_or_without_a_vessel_has_no_place():
    assert placed(solid(40.0), 0) is None
    assert placed(solid(6.0, Attachment.JUXTA_VASCULAR), 0) is None


@pytest.mark.parametrize("diameter_mm", [8.0, 14.0])
def test_a_painted_nodule_has_the_volume_of_its_sphere(diameter_mm):
    lungs = empty_lungs()
    paint(Placed(solid(diameter_mm), np.full(3, 24.0)), lungs, np.random.default_rng(0))
    share = (lungs.hu - LUNG_HU) / (30 - LUNG_HU)
    volume_mm3 = np.pi / 6 * diameter_mm**3
    assert share.sum() == pytest.approx(volume_mm3, rel=0.2)
    middle_mm = np.average(np.indices(share.shape).reshape(3, -1), axis=1, weights=share.ravel())
    np.testing.assert_allclose(middle_mm, 24, atol=0.3)
    assert lungs.hu[24, 24, 24] == pytest.approx(30, abs=60)
    assert (lungs.hu[0] == LUNG_HU).all()


@pytest.mark.parametrize("seed", range(4))
def test_a_shaped_nodule_has_the_volume_of_its_sphere_around_its_centre(seed):
    rng = np.random.default_rng(seed)
    shape = draw_shape(PhantomShapes.even, 13.0, part_solid=False, solid=False, rng=rng)
    lungs = empty_lungs()
    paint(Placed(replace(solid(13.0), shape=shape), np.full(3, 24.0)), lungs, rng)
    share = (lungs.hu - LUNG_HU) / (30 - LUNG_HU)
    assert share.sum() == pytest.approx(np.pi / 6 * 13.0**3, rel=0.25)
    middle_mm = np.average(np.indices(share.shape).reshape(3, -1), axis=1, weights=share.ravel())
    np.testing.assert_allclose(middle_mm, 24, atol=0.6)


def test_a_cavity_holds_air_and_a_core_is_denser_than_the_haze_around_it():
    rng = np.random.default_rng(0)
    ball = draw_shape(PhantomShapes.even, 16.0, part_solid=False, solid=False, rng=rng)
    cavity, core = np.array([0.1, 0, 0, 0.5]), np.array([0, 0.3, 0, 0.4])
    hollow, cored = empty_lungs(), empty_lungs()
    nodule = replace(solid(16.0), shape=replace(ball, cavity=cavity))
    paint(Placed(nodule, np.full(3, 24.0)), hollow, rng)
    assert hollow.hu.min() == pytest.approx(CAVITY_HU, abs=1)
    assert hollow.hu.max() > -50
    haze = replace(solid(16.0, texture=Texture.PART_SOLID), hu=-500.0)
    paint(Placed(replace(haze, shape=replace(ball, core=core)), np.full(3, 24.0)), cored, rng)
    assert cored.hu.max() == pytest.approx(20, abs=30)
    off_mm = 8 * np.linalg.solve(ball.unstretch, core[:3])
    middle_mm = np.argwhere(cored.hu > -200).mean(axis=0)
    np.testing.assert_allclose(middle_mm, 24 + off_mm, atol=0.7)


def test_an_elongated_isolated_nodule_keeps_clear_of_the_pleura_with_its_far_end():
    rng = np.random.default_rng(0)
    shape = draw_shape(PhantomShapes.even, 8.0, part_solid=False, solid=True, rng=rng)
    nodule = replace(solid(8.0), shape=replace(shape, reach=2.0))
    found = [placed(nodule, seed) for seed in range(5)]
    assert all(one.center_mm[0] >= 10 + 2 * 4 + CLEAR_MM for one in found)


def test_painting_never_makes_a_voxel_darker():
    lungs = empty_lungs()
    lungs.hu[24:] = 700.0  # bone
    before = lungs.hu.copy()
    paint(Placed(solid(10.0), np.full(3, 24.0)), lungs, np.random.default_rng(0))
    assert (lungs.hu >= before).all()
    assert (lungs.hu[24:] == 700).all()
