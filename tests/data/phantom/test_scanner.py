"""The scanner: blur, noise and storage of a patient that is known."""

from __future__ import annotations

import numpy as np
import pytest

from nodule_det.data.phantom.anatomy import draw_patient
from nodule_det.data.phantom.canvas import Lattice
from nodule_det.data.phantom.scanner import (
    CLIP_HU,
    OVERLAP,
    SHARP_MM,
    Protocol,
    acquire,
    draw_any_protocol,
    draw_protocol,
)

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


def test_a_sharp_kernel_overshoots_at_edges_and_hu_may_be_inexact():
    step = np.full(LATTICE.size_vox, -800.0, np.float32)
    step[:, :, 48:] = 0.0

    def image(**more):
        protocol = Protocol(thickness_mm=2.0, psf_mm=0.5, noise_hu=0.0, **more)
        return acquire(step.copy(), LATTICE, PATIENT, protocol, np.random.default_rng(0))

    assert image().max() <= 0
    assert image(sharpening=0.8).max() > 20
    assert image(offset_hu=9.0)[0, 0, 0] == -791
    assert image(gain=1.5)[0, 0, 0] == round(1.5 * (-800 + 1024) - 1024)


def test_any_protocol_is_sharper_noisier_and_thicker_than_the_standard_ones():
    rng = np.random.default_rng(0)
    drawn = [draw_any_protocol(1.0, rng) for _ in range(300)]
    assert min(p.psf_mm for p in drawn) < 0.3
    assert max(p.noise_hu for p in drawn) > 50
    assert max(p.thickness_mm for p in drawn) > 2.5
    assert min(p.thickness_mm for p in drawn) == 1.0
    assert all((p.sharpening > 0) == (p.psf_mm < SHARP_MM) for p in drawn)


def test_values_are_stored_in_twelve_bits():
    assert scanned(-5000.0).max() == CLIP_HU[0]
    assert scanned(9000.0).min() == CLIP_HU[1]


def test_slices_are_as_thick_as_their_distance_or_overlap():
    rng = np.random.default_rng(0)
    overlaps = np.array([draw_protocol(2.0, rng).thickness_mm / 2.0 for _ in range(500)])
    assert overlaps.min() == 1.0
    assert overlaps.max() <= OVERLAP[1]
    assert (overlaps > 1).mean() == pytest.approx(0.3, abs=0.08)  # four standard errors
