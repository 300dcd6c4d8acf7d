import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodule_det.data.phantom.canvas import Lattice, Tubes, draw_tubes, resample, smooth_field

LATTICE = Lattice((12, 14, 16), (2.0, 1.5, 1.0), (1.0, -2.0, 0.5))
MM = st.floats(-5, 30)
POINT = st.tuples(MM, MM, MM)


def test_a_coarser_lattice_has_the_same_corners():
    coarse = LATTICE.coarser(5.0)
    assert coarse.origin_mm == LATTICE.origin_mm
    np.testing.assert_allclose(coarse.extent_mm, LATTICE.extent_mm)
    assert (np.array(coarse.spacing_mm) <= 7).all()


def test_a_single_point_can_be_covered_too():
    point = Lattice((1, 1, 1), (9.0, 7.0, 7.0))
    assert smooth_field(point, 2.0, np.random.default_rng(0)).shape == (1, 1, 1)


def test_a_box_holds_the_points_between_its_corners_and_no_others():
    box = LATTICE.box(np.array([3.0, 0.0, 1.6]), np.array([7.0, 2.5, 3.4]))
    assert box == (slice(1, 4), slice(2, 4), slice(2, 3))
    assert LATTICE.crop(box).origin_mm == (3.0, 1.0, 2.5)


def test_linear_functions_survive_resampling():
    z, y, x = LATTICE.axes()
    coarse = LATTICE.coarser(4.0)
    cz, cy, cx = coarse.axes()
    values = (2 * cz - cy + 3 * cx).astype(np.float32)
    np.testing.assert_allclose(resample(values, coarse, LATTICE), 2 * z - y + 3 * x, atol=1e-4)


def test_a_smooth_field_has_unit_variance_and_changes_over_its_scale():
    lattice = Lattice((40, 40, 40), (1.0, 1.0, 1.0))
    field = smooth_field(lattice, 4.0, np.random.default_rng(0))
    assert field.std() == pytest.approx(1, abs=0.2)
    neighbours = np.corrcoef(field[:, :, :-1].ravel(), field[:, :, 1:].ravel())[0, 1]
    far = np.corrcoef(field[:, :, :-12].ravel(), field[:, :, 12:].ravel())[0, 1]
    assert neighbours > 0.9
    assert abs(far) < 0.2


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(POINT, POINT, st.floats(0.3, 3), st.floats(0.3, 3)), min_size=1, max_size=4)
)
def test_tubes_agree_with_the_distance_of_every_voxel_to_every_tube(ends):
    tubes = Tubes(
        np.array([e[0] for e in ends], np.float64),
        np.array([e[1] for e in ends], np.float64),
        np.array([e[2] for e in ends]),
        np.array([e[3] for e in ends]),
    )
    drawn = np.zeros(LATTICE.size_vox, np.float32)
    draw_tubes(drawn, LATTICE, tubes, soft_mm=1.0)
    z, y, x = np.broadcast_arrays(*LATTICE.axes())
    points = np.stack([z, y, x], axis=-1).astype(np.float64)
    slow = np.zeros(LATTICE.size_vox)
    for start, end, r0, r1 in ends:
        along = np.subtract(end, start)
        t = np.clip((points - start) @ along / max(along @ along, 1e-6), 0, 1)
        away = np.linalg.norm(points - start - t[..., None] * along, axis=-1)
        slow = np.maximum(slow, np.clip(r0 + t * (r1 - r0) - away + 0.5, 0, 1))
    np.testing.assert_allclose(drawn, slow, atol=2e-3)
