"""Which pixels contours enclose."""

import numpy as np
import pytest

from nodule_det.data.readers.contours import fill_contours
from tests.data.mask_files import borders


def square(low, high):
    return np.array([[low, low], [low, high], [high, high], [high, low]], float)


def test_a_contour_inside_another_is_a_hole():
    mask = fill_contours([square(0.5, 5.5), square(2.5, 3.5)], (8, 8))
    expected = np.zeros((8, 8), bool)
    expected[1:6, 1:6] = True
    expected[3, 3] = False
    np.testing.assert_array_equal(mask, expected)


def test_centres_on_a_contour_are_inside():
    expected = np.zeros((8, 8), bool)
    expected[1:5, 1:5] = True
    np.testing.assert_array_equal(fill_contours([square(1, 4)], (8, 8)), expected)
    np.testing.assert_array_equal(fill_contours([square(1.0002, 3.9998)], (8, 8)), expected)


def test_a_hole_through_centres_keeps_them():
    mask = fill_contours([square(0, 6), square(2, 4)], (8, 8))
    assert [int(v) for v in mask[3]] == [1, 1, 1, 0, 1, 1, 1, 0]


def test_a_diamond_has_its_corners():
    diamond = np.array([[0, 2], [2, 4], [4, 2], [2, 0]], float)
    assert fill_contours([diamond], (5, 5)).sum(axis=1).tolist() == [1, 3, 5, 3, 1]


def test_a_single_corner_is_its_pixel():
    assert np.argwhere(fill_contours([np.array([[2.0, 3.0]])], (5, 5))).tolist() == [[2, 3]]


@pytest.mark.parametrize("seed", range(20))
def test_the_outlines_of_any_mask_enclose_it(seed):
    mask = np.random.default_rng(seed).random((12, 15)) < 0.5
    np.testing.assert_array_equal(fill_contours(borders(mask), mask.shape), mask)


def test_contours_may_reach_over_the_image():
    assert fill_contours([square(-0.5, 3.5)], (4, 4)).all()
