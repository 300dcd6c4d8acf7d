"""The one conversion between voxels and millimetres."""

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from nodule_det.errors import GeometryError
from nodule_det.geometry import Grid, grid_from_ras_affine

UPRIGHT = Grid((10, 20, 30), (2.0, 1.0, 0.5), (-5.0, 7.0, 100.0))
coordinate = st.floats(-500, 500)
spacing = st.floats(0.2, 5)
size = st.integers(1, 40)


@st.composite
def grids(draw):
    axes = Rotation.from_rotvec([draw(st.floats(-3, 3)) for _ in range(3)]).as_matrix()
    axes = axes * [draw(st.sampled_from([-1, 1])) for _ in range(3)]
    return Grid(
        (draw(size), draw(size), draw(size)),
        (draw(spacing), draw(spacing), draw(spacing)),
        (draw(coordinate), draw(coordinate), draw(coordinate)),
        tuple(tuple(float(v) for v in row) for row in axes),
    )


def test_an_upright_grid_by_hand():
    # voxel (z, y, x) = (3, 2, 4): x = -5 + 4 * 0.5, y = 7 + 2 * 1, z = 100 + 3 * 2
    assert UPRIGHT.to_world([3, 2, 4]).tolist() == [-3, 9, 106]
    assert UPRIGHT.to_voxel([-3, 9, 106]).tolist() == [3, 2, 4]


def test_flipped_axes_run_against_the_world():
    grid = Grid((10, 20, 30), (2.0, 1.0, 0.5), (0, 0, 0), ((-1, 0, 0), (0, -1, 0), (0, 0, 1)))
    assert grid.to_world([3, 2, 4]).tolist() == [-2, -2, 6]


@given(grids(), coordinate, coordinate, coordinate)
def test_converting_there_and_back_changes_nothing(grid, x, y, z):
    np.testing.assert_allclose(grid.to_world(grid.to_voxel([x, y, z])), [x, y, z], atol=1e-6)


@given(grids(), st.floats(-9, 50), st.floats(-9, 50), st.floats(-9, 50))
def test_simpleitk_agrees(grid, z, y, x):
    image = sitk.Image([int(n) for n in grid.size_vox[::-1]], sitk.sitkUInt8)
    image.SetSpacing(grid.spacing_mm[::-1])
    image.SetOrigin(grid.origin_mm)
    image.SetDirection([c for row in grid.direction for c in row])
    world = image.TransformContinuousIndexToPhysicalPoint((x, y, z))
    np.testing.assert_allclose(grid.to_world([z, y, x]), world, atol=1e-6)


@given(grids(), st.floats(-9, 50), st.floats(-9, 50), st.floats(-9, 50))
def test_nibabel_agrees(grid, z, y, x):
    columns = [grid.to_world(unit) - grid.to_world([0, 0, 0]) for unit in np.eye(3)[::-1]]
    lps = np.eye(4)
    lps[:3] = np.column_stack([*columns, grid.origin_mm])
    affine = np.diag([-1, -1, 1, 1]) @ lps
    ours = grid_from_ras_affine(affine, grid.size_vox[::-1])
    right, front, up = nibabel.affines.apply_affine(affine, [x, y, z])
    np.testing.assert_allclose(ours.to_world([z, y, x]), [-right, -front, up], atol=1e-6)
    assert ours.size_vox == grid.size_vox


@given(grids())
def test_a_grid_survives_json(grid):
    assert Grid.from_dict(grid.as_dict()) == grid


def test_a_crop_keeps_its_voxels_in_place():
    part = UPRIGHT.crop([3, 2, 4], [5, 6, 7])
    assert part.size_vox == (5, 6, 7)
    np.testing.assert_array_equal(part.to_world([1, 1, 1]), UPRIGHT.to_world([4, 3, 5]))


def test_a_grid_reaches_to_the_outer_faces_of_its_voxels():
    inside = UPRIGHT.contains(UPRIGHT.to_world([[-0.49, 0, 0], [9.49, 19.49, 29.49]]))
    outside = UPRIGHT.contains(UPRIGHT.to_world([[-0.51, 0, 0], [0, 0, 29.51]]))
    assert inside.tolist() == [True, True]
    assert outside.tolist() == [False, False]


@pytest.mark.parametrize("spacing_mm", [(0.0, 1, 1), (1, -1, 1), (1, 1, float("nan"))])
def test_an_invalid_spacing_is_refused(spacing_mm):
    with pytest.raises(GeometryError, match=r"spacing_mm=.* \(z, y, x\) must be positive"):
        Grid((2, 2, 2), spacing_mm, (0, 0, 0))


def test_an_empty_axis_is_refused():
    with pytest.raises(GeometryError, match=r"size_vox=\(0, 2, 2\) \(z, y, x\) has an empty axis"):
        Grid((0, 2, 2), (1, 1, 1), (0, 0, 0))


def test_an_origin_that_is_not_finite_is_refused():
    with pytest.raises(GeometryError, match=r"origin_mm=.* is not finite"):
        Grid((2, 2, 2), (1, 1, 1), (0, float("inf"), 0))


@pytest.mark.parametrize(
    "direction",
    [((1, 0, 0), (0, 1, 0.3), (0, 0, 1)), ((2, 0, 0), (0, 1, 0), (0, 0, 1)), ((0, 0, 0),) * 3],
)
def test_sheared_axes_are_refused(direction):
    with pytest.raises(
        GeometryError, match=r"not perpendicular unit vectors \(an uncorrected gant"
    ):
        Grid((2, 2, 2), (1, 1, 1), (0, 0, 0), direction)


def test_an_affine_without_spacing_is_refused():
    with pytest.raises(GeometryError, match=r"has no spacing on an axis"):
        grid_from_ras_affine(np.diag([1, 0, 1, 1]), (2, 2, 2))
