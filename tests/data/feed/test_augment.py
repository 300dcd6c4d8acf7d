"""Shift and rotation of augmented copies."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodule_det.data.feed.augment import (
    ORIENTATIONS,
    ROTATIONS,
    Rotation,
    draw_orientations,
    rotated,
    shifted_corners,
    unrotated,
)
from nodule_det.data.feed.draws import Draws, Stream
from nodule_det.data.feed.patches import Kind, Patches, rim_vox

CUBE = np.arange(27).reshape(3, 3, 3)
TURNS = [  # by 90 degrees in the axial, coronal and sagittal planes
    lambda cube: np.rot90(cube, axes=(1, 2)),
    lambda cube: np.rot90(cube, axes=(0, 2)),
    lambda cube: np.rot90(cube, axes=(0, 1)),
]


def reachable_by_turns():
    found, frontier = {}, [CUBE]
    while frontier:
        cube = frontier.pop()
        if cube.tobytes() not in found:
            found[cube.tobytes()] = cube
            frontier += [np.ascontiguousarray(turn(cube)) for turn in TURNS]
    return set(found)


def test_rotations_are_the_24_that_turns_in_three_planes_reach():
    ours = {np.ascontiguousarray(rotated(CUBE, r)).tobytes() for r in ROTATIONS}
    assert len(ours) == 24
    assert ours == reachable_by_turns()


def test_the_first_rotation_changes_nothing():
    np.testing.assert_array_equal(rotated(CUBE, ROTATIONS[0]), CUBE)


def test_a_swap_of_two_axes_is_a_mirror_image():
    assert Rotation((0, 2, 1), (False, False, False)).handedness == -1
    assert Rotation((0, 2, 1), (False, True, False)).handedness == 1


def test_orientations_are_the_rotations_and_then_their_mirror_images():
    assert ORIENTATIONS[:24] == ROTATIONS
    assert {o.handedness for o in ORIENTATIONS[24:]} == {-1}
    cubes = {np.ascontiguousarray(rotated(CUBE, o)).tobytes() for o in ORIENTATIONS}
    assert len(cubes) == 48


def draws(n, copy=1):
    return Draws(Stream.COPY, 0, 0, np.arange(n), copy)


@pytest.mark.parametrize(
    ("settings", "allowed"),
    [
        ({"rotate": True, "mirror": False}, range(24)),
        ({"rotate": True, "mirror": True}, range(48)),
        ({"rotate": False, "mirror": True}, (0, 24)),
        ({"rotate": False, "mirror": False}, (0,)),
    ],
)
def test_all_orientations_that_are_allowed_are_drawn_about_equally_often(settings, allowed):
    n = np.bincount(draw_orientations(draws(100 * len(allowed)), **settings), minlength=48)
    assert set(np.flatnonzero(n)) == set(allowed)
    assert n[list(allowed)].min() > 60  # 100 expected, standard deviation below 10
    assert n.max() < 140


@given(st.sampled_from(ORIENTATIONS), st.tuples(*[st.integers(0, 4)] * 3))
def test_a_marker_written_into_the_unrotated_view_lies_where_the_rotation_takes_it(rotation, at):
    marked = np.zeros((5, 5, 5))
    marked[at] = 1
    there = np.zeros((5, 5, 5))
    unrotated(there, rotation)[at] = 1
    np.testing.assert_array_equal(there, rotated(marked, rotation))


def patches(corner, point, n):
    tiled = (np.tile(values, (n, 1)) for values in (corner, point))
    return Patches(np.zeros(n, int), *tiled, np.full(n, Kind.LESION))


@given(st.tuples(*[st.integers(4, 27)] * 3), st.integers(0, 16), st.integers(0, 2**32 - 1))
def test_a_shift_keeps_the_point_inside_and_within_its_limit(inside, shift_vox, seed):
    corner = (5, -9, 60)
    drawn = patches(corner, np.add(corner, inside), 1)
    new = shifted_corners(drawn, shift_vox, 32, Draws(Stream.COPY, seed, 0, 0, [1]))
    assert np.abs(new - corner).max() <= shift_vox
    at = drawn.point - new
    assert (at >= rim_vox(32)).all()
    assert (at < 32 - rim_vox(32)).all()


def test_a_shift_reaches_both_ends_of_its_range():
    shifts = shifted_corners(patches((0, 0, 0), (16, 16, 16), 200), 3, 32, draws(200))
    for axis in range(3):
        assert set(shifts[:, axis]) == {-3, -2, -1, 0, 1, 2, 3}


def test_a_lesion_at_the_rim_is_shifted_to_the_inside_only():
    shifts = shifted_corners(patches((0, 0, 0), (4, 27, 16), 500), 16, 32, draws(500))
    # the point at 4 can go to 4 ... 20, the one at 27 to 27 ... 11, the one at 16 to 4 ... 27
    assert shifts.min(axis=0).tolist() == [-16, 0, -11]
    assert shifts.max(axis=0).tolist() == [0, 16, 12]
