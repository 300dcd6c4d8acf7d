"""Shift and rotation of augmented copies."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nodule_det.data.feed.augment import (
    ROTATIONS,
    Rotation,
    draw_rotation,
    rotated,
    shifted_corner,
    unrotated,
)
from nodule_det.data.feed.patches import Kind, Patch, rim_vox

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


def test_all_rotations_are_drawn_about_equally_often():
    rng = np.random.default_rng(0)
    n = [0] * 24
    for _ in range(2400):
        n[ROTATIONS.index(draw_rotation(rng))] += 1
    assert min(n) > 60  # 100 expected, standard deviation 9.8
    assert max(n) < 140


@given(st.sampled_from(ROTATIONS), st.tuples(*[st.integers(0, 4)] * 3))
def test_a_marker_written_into_the_unrotated_view_lies_where_the_rotation_takes_it(rotation, at):
    marked = np.zeros((5, 5, 5))
    marked[at] = 1
    there = np.zeros((5, 5, 5))
    unrotated(there, rotation)[at] = 1
    np.testing.assert_array_equal(there, rotated(marked, rotation))


@given(
    st.tuples(*[st.integers(4, 27)] * 3),
    st.integers(0, 16),
    st.integers(0, 2**32),
)
def test_a_shift_keeps_the_point_inside_and_within_its_limit(inside, shift_vox, seed):
    corner = (5, -9, 60)
    patch = Patch(0, corner, tuple(c + i for c, i in zip(corner, inside, strict=True)), Kind.LESION)
    new = shifted_corner(patch, shift_vox, 32, np.random.default_rng(seed))
    assert np.abs(np.subtract(new, corner)).max() <= shift_vox
    at = np.subtract(patch.point, new)
    assert (at >= rim_vox(32)).all()
    assert (at < 32 - rim_vox(32)).all()


def test_a_shift_reaches_both_ends_of_its_range():
    patch = Patch(0, (0, 0, 0), (16, 16, 16), Kind.LESION)
    rng = np.random.default_rng(0)
    shifts = np.array([shifted_corner(patch, 3, 32, rng) for _ in range(200)])
    for axis in range(3):
        assert set(shifts[:, axis]) == {-3, -2, -1, 0, 1, 2, 3}


def test_a_lesion_at_the_rim_is_shifted_to_the_inside_only():
    patch = Patch(0, (0, 0, 0), (4, 27, 16), Kind.LESION)
    rng = np.random.default_rng(0)
    shifts = np.array([shifted_corner(patch, 16, 32, rng) for _ in range(500)])
    # the point at 4 can go to 4 ... 20, the one at 27 to 27 ... 11, the one at 16 to 4 ... 27
    assert shifts.min(axis=0).tolist() == [-16, 0, -11]
    assert shifts.max(axis=0).tolist() == [0, 16, 12]
