"""Targets and weights of a patch."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodule_det.data.feed.targets import LESION_SHARE, MIN_RADIUS_VOX, Ball, balls, draw_truth
from tests.data.memory_scan import MemoryScan, finding

W = 32
ORIGIN = (0, 0, 0)
PLACE = st.tuples(*[st.floats(15, 17)] * 3)


def truth(found, corner=ORIGIN, labels=None):
    target, weight = np.zeros((W, W, W), np.float32), np.ones((W, W, W), np.float32)
    draw_truth(found, labels, corner, target, weight)
    return target, weight


@pytest.mark.parametrize(("radii_vox", "within"), [((1.5, 3), 0.06), ((3, 12), 0.015)])
@given(st.data())
def test_a_ball_has_its_volume_wherever_it_lies_between_voxels(radii_vox, within, data):
    center, radius_vox = data.draw(PLACE), data.draw(st.floats(*radii_vox))
    target, _ = truth([Ball(center, radius_vox, False)])
    assert target.sum() == pytest.approx(4 / 3 * math.pi * radius_vox**3, rel=within)
    assert target.min() >= 0
    assert target.max() == 1


@given(PLACE, st.floats(1.5, 12))
def test_weight_times_volume_is_the_same_for_every_lesion(center, radius_vox):
    target, weight = truth([Ball(center, radius_vox, False)])
    volume_vox = 4 / 3 * math.pi * radius_vox**3
    np.testing.assert_allclose(weight[target == 1], LESION_SHARE * W**3 / volume_vox, rtol=1e-5)
    assert (weight[target == 0] == 1).all()
    assert (weight > 0).all()


def test_a_nodule_of_three_voxels_by_hand():
    target, weight = truth([Ball((16.0, 16.0, 16.0), 1.5, False)])
    # drawn with radius 1.5 - 1/18: 1 at distance 0, 1.9444 - sqrt(2) at sqrt(2), 0 at 2
    assert target[16, 16, 15:19].tolist() == pytest.approx([0.9444, 1, 0.9444, 0], abs=1e-4)
    assert target[16, 15, 15] == pytest.approx(1.9444 - math.sqrt(2), abs=1e-4)
    assert weight[16, 16, 16] == pytest.approx(LESION_SHARE * W**3 / (4 / 3 * math.pi * 1.5**3))
    assert weight[0, 0, 0] == 1


def test_a_finding_below_three_voxels_is_drawn_as_three():
    (small,) = balls(MemoryScan(np.zeros((W, W, W), np.int16), (finding((5, 6, 7), 0.5),)))
    assert small.radius_vox == MIN_RADIUS_VOX
    assert small.center == (5, 6, 7)


def test_a_patch_holds_the_part_of_a_lesion_that_lies_in_it():
    whole, _ = truth([Ball((16.0, 16.0, 16.0), 6.0, False)])
    part, _ = truth([Ball((16.0, 16.0, 16.0), 6.0, False)], corner=(14, -3, 0))
    np.testing.assert_array_equal(part[:18, 3:, :], whole[14:, :29, :])
    assert part[18:].sum() == 0


def test_a_finding_beyond_the_patch_leaves_no_trace():
    target, weight = truth([Ball((16.0, 16.0, 40.0), 5.0, False), Ball((-9.0, 1, 1), 5.0, True)])
    assert target.max() == 0
    assert (weight == 1).all()


def test_nothing_is_trained_on_an_excluded_finding():
    target, weight = truth([Ball((16.0, 16.0, 16.0), 4.0, True)])
    assert target.max() == 0
    assert weight[16, 16, 16] == weight[16, 16, 20] == weight[13, 16, 16] == 0
    assert weight[16, 16, 21] == 1


def test_a_lesion_wins_over_an_excluded_finding_at_the_same_place():
    zeros = np.zeros((W, W, W), np.int16)
    both = (finding((16, 16, 16), 4.0), finding((16, 16, 19), 10.0, excluded=True))
    target, weight = truth(balls(MemoryScan(zeros, both)))
    assert target[16, 16, 16] == 1
    assert weight[16, 16, 16] > 1
    assert weight[16, 16, 22] == 0


def test_two_lesions_that_touch_keep_the_larger_target_of_each_voxel():
    a, b = Ball((16.0, 16.0, 12.0), 4.0, False), Ball((16.0, 16.0, 18.0), 3.0, False)
    together, _ = truth([a, b])
    np.testing.assert_array_equal(together, np.maximum(truth([a])[0], truth([b])[0]))


def test_a_mask_takes_the_place_of_the_ball():
    mask = np.zeros((W, W, W), np.uint8)
    mask[10:22, 15:18, 15:18] = 1  # a rod
    target, weight = truth([Ball((15.5, 16.0, 16.0), 3.0, False)], labels=mask)
    np.testing.assert_array_equal(target, mask)
    assert set(weight[mask > 0]) == {np.float32(LESION_SHARE * W**3 / (36 * math.pi))}
    assert (weight[mask == 0] == 1).all()


def test_a_lesion_that_its_mask_lost_is_drawn_as_the_smallest_ball():
    target, _ = truth([Ball((16.0, 16.0, 16.0), 2.0, False)], labels=np.zeros((W, W, W), np.uint8))
    np.testing.assert_array_equal(target, truth([Ball((16.0, 16.0, 16.0), 1.5, False)])[0])


def test_each_voxel_of_a_mask_has_the_weight_of_the_lesion_it_belongs_to():
    mask = np.zeros((W, W, W), np.uint8)
    mask[14:19, 14:19, 4:9] = mask[10:21, 10:21, 18:29] = 1
    small, large = Ball((16.0, 16.0, 6.0), 3.0, False), Ball((15.0, 15.0, 23.0), 6.0, False)
    _, weight = truth([small, large], labels=mask)
    assert weight[16, 16, 6] == pytest.approx(8 * weight[15, 15, 23])  # (6 / 3)^3
