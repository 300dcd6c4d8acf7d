"""The patient and the coarse chest."""

from __future__ import annotations

import numpy as np
import pytest

from nodule_det.data.phantom.anatomy import Chest, draw_patient
from nodule_det.data.phantom.canvas import Lattice


def test_the_field_of_view_holds_the_body():
    for seed in range(50):
        patient = draw_patient(np.random.default_rng(seed))
        assert patient.field_mm > 2 * patient.half_width_mm > 2 * patient.half_depth_mm


def test_about_a_third_of_the_patients_have_contrast_agent():
    rng = np.random.default_rng(0)
    blood_hu = np.array([draw_patient(rng).blood_hu for _ in range(1000)])
    assert (blood_hu >= 110).mean() == pytest.approx(0.31, abs=0.06)  # LIDC; four standard errors


def test_depth_is_interpolated_between_the_coarse_voxels():
    depth_mm = np.arange(8, dtype=np.float32)[:, None, None] * np.ones((1, 4, 4), np.float32)
    lattice = Lattice((8, 4, 4), (3.0, 3.0, 3.0))
    chest = Chest(lattice, depth_mm, depth_mm, (0.0, 0.0, 0.0), 100.0, 80.0)
    first_mm = np.asarray(lattice.origin_mm)
    points_mm = first_mm + np.array([[0.0, 3.0, 3.0], [4.5, 3.0, 3.0], [99.0, 3.0, 3.0]])
    assert chest.depth_at(points_mm).tolist() == [0.0, 1.5, 7.0]


def test_varied_patients_differ_in_vessels_and_density_and_the_usual_ones_do_not():
    rng = np.random.default_rng(0)
    varied = [draw_patient(rng, varied=True) for _ in range(200)]
    vessels = [patient.vessels for patient in varied]
    assert min(vessels) < 1
    assert max(vessels) > 3.5
    assert min(patient.denser_hu for patient in varied) < -30
    usual = draw_patient(np.random.default_rng(0))
    assert (usual.vessels, usual.denser_hu, usual.smooth_vox) == (1.0, 0.0, 0.0)
