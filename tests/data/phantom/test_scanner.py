"""The scanner: blur, noise and storage of a patient that is known."""

from __future__ import annotations

import numpy as np
import pytest

from nodule_det.data.phantom.anatomy import draw_patient
from nodule_det.data.phantom.canvas import Lattice
from nodule_det.data.phantom.scanner import CLIP_HU, OVERLAP, Protocol, acquire, draw_protocol

LATTICE = Lattice((24, 96, 96), (2.0, 3.0, 3.0))
PATIENT = draw_patient(np.random.default_rng(0))


def scanned(hu, *, thickness_mm=2.0, noise_hu=20.0, seed=0):
    volume = np.full(LATTICE.size_vox, hu, np.float32)
    protocol = Protocol(thickness_mm=thickness_mm, psf_mm=0.5, noise_hu=noise_hu)
    return acquire(volume, LATTICE, PATIENT, protocol, np.random.default_rng(seed))


def test_noise_has_the_strength_of_the_protocol_and_no_offset():
    image = scanned(0.0, noise_hu=20.0)
    assert image.dtype == np.int16
    assert image.mean() == pytest.approx(0, abs=1)
    assert 0.7 * 20 < image.std() < 1.5 * 20
    assert scanned(0.0, noise_hu=40.0).std() == pytest.approx(2 * image.std(), rel=0.02)


def test_the_same_seed_draws_the_same_noise():
    np.testing.assert_array_equal(scanned(-800.0), scanned(-800.0))
    assert (scanned(-800.0) != scanned(-800.0, seed=1)).mean() > 0.5


def test_values_are_stored_in_twelve_bits():
    assert scanned(-5000.0).max() == CLIP_HU[0]
    assert scanned(9000.0).min() == CLIP_HU[1]


def test_slices_are_as_thick_as_their_distance_or_overlap():
    rng = np.random.default_rng(0)
    overlaps = np.array([draw_protocol(2.0, rng).thickness_mm / 2.0 for _ in range(500)])
    assert overlaps.min() == 1.0
    assert overlaps.max() <= OVERLAP[1]
    assert (overlaps > 1).mean() == pytest.approx(0.3, abs=0.08)  # four standard errors
