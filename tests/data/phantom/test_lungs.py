"""Soft borders of the lungs."""

from __future__ import annotations

import numpy as np

from nodule_det.data.phantom.lungs import blend, soft_step


def test_a_voxel_at_the_surface_is_half_inside():
    distance_mm = np.array([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0], np.float32)
    assert soft_step(distance_mm, 2.0).tolist() == [0, 0, 0.25, 0.5, 0.75, 1, 1]


def test_values_move_by_a_share_towards_a_value_or_a_volume():
    values = np.array([0.0, 100.0, 200.0], np.float32)
    blend(values, 100.0, np.array([0.5, 0.5, 1.0], np.float32))
    assert values.tolist() == [50.0, 100.0, 100.0]
    blend(values, np.array([0.0, 0.0, 300.0], np.float32), np.array([1.0, 0.0, 0.5], np.float32))
    assert values.tolist() == [0.0, 100.0, 200.0]
