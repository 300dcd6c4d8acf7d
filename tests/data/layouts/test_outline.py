"""Pixels that an outline encloses; the outline's own do not count."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from nodule_det.data.layouts.outline import enclosed_pixels, region_pixels


def square(low, high):
    """Return a chain of pixels around a square, as readers' outlines are."""
    side = list(range(low, high))
    return np.array(
        [(i, low) for i in side]
        + [(high, i) for i in side]
        + [(low + high - i, high) for i in side]
        + [(low, low + high - i) for i in side]
    )


@pytest.mark.parametrize("edge", [2, 3, 10])
def test_a_square_encloses_what_lies_inside_its_chain(edge):
    pixels = enclosed_pixels(square(5, 5 + edge))
    assert len(pixels) == (edge - 1) ** 2
    assert pixels.min() == 6
    assert pixels.max() == 5 + edge - 1


def test_a_closed_chain_and_an_open_one_enclose_the_same():
    chain = square(0, 4)
    closed = np.vstack([chain, chain[:1]])
    np.testing.assert_array_equal(enclosed_pixels(chain), enclosed_pixels(closed))


def test_a_slanted_edge_is_exact():
    # the triangle (0, 0), (4, 0), (0, 4): (1, 1), (2, 1), (1, 2) lie inside; (2, 2) on its edge
    pixels = enclosed_pixels(np.array([[0, 0], [4, 0], [0, 4]]))
    assert {tuple(p) for p in pixels.tolist()} == {(1, 1), (2, 1), (1, 2)}


@pytest.mark.parametrize("points", [[[3, 4]], [[3, 4], [5, 4]]])
def test_a_point_or_a_line_encloses_nothing(points):
    assert enclosed_pixels(np.array(points)).shape == (0, 2)


@given(st.floats(1.5, 12), st.floats(-0.5, 0.5), st.floats(-0.5, 0.5))
def test_the_chain_around_a_disc_encloses_the_disc(radius, dx, dy):
    x, y = np.mgrid[:30, :30]
    disc = (x - 15 - dx) ** 2 + (y - 15 - dy) ** 2 <= radius**2
    rim = ndimage.binary_dilation(disc) & ~disc
    angle = np.arctan2(y - 15 - dy, x - 15 - dx)
    points = np.argwhere(rim)[np.argsort(angle[rim])]
    inside = {tuple(p) for p in enclosed_pixels(points).tolist()}
    assert {tuple(p) for p in np.argwhere(ndimage.binary_erosion(disc)).tolist()} <= inside
    assert inside <= {tuple(p) for p in np.argwhere(disc).tolist()}


def test_a_hole_is_taken_out_but_for_its_chain():
    # 9 x 9 pixels inside, the hole's chain around 1 x 1: 81 - 1
    outlines = [(square(0, 10), True), (square(4, 6), False)]
    assert len(region_pixels(outlines)) == 80


def test_two_parts_in_a_slice_count_together_and_once():
    apart = [(square(0, 3), True), (square(10, 13), True)]
    assert len(region_pixels(apart)) == 8
    assert len(region_pixels([(square(0, 3), True)] * 2)) == 4


def test_an_outline_that_encloses_nothing_counts_as_one_pixel():
    assert region_pixels([(np.array([[3, 4], [4, 4], [5, 4]]), True)]).tolist() == [[4, 4]]


def test_a_hole_that_would_leave_nothing_is_passed_over():
    assert len(region_pixels([(square(0, 3), True), (square(0, 3), False)])) == 4
