"""The scanner: turns a patient into a CT, slice by slice.

sharp HU ──blur()──▶ ──add_noise()──▶ ──digitise()──▶ int16 HU
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from nodule_det.data.phantom.anatomy import Patient
from nodule_det.data.phantom.canvas import Lattice, Volume
from nodule_det.data.scan import HuVolume

SD_PER_FWHM = 0.42
"""Standard deviation of a Gaussian per full width at half maximum: 1 / sqrt(8 ln 2)."""

OVERLAP_SHARE, OVERLAP = 0.3, (1.0, 1.6)
"""Share of scans whose slices overlap, and by how much; in LIDC-IDRI the mean of thickness is
1.10 times the mean of spacing."""

PSF_MM = (0.45, 0.65)
"""Standard deviation of the in-plane point spread: soft to standard kernels, 1.1-1.5 mm FWHM."""

NOISE_HU = (14.0, 38.0)
"""Standard deviation of the noise half-way to the body surface: low to standard dose."""

ANY_PSF_MM, SHARP_MM = (0.25, 0.75), 0.42
ANY_NOISE_HU, ANY_THICKNESS_MM = (8.0, 45.0), (0.8, 3.0)
SHARPENING, SHARPENED_OVER_MM = (0.2, 0.8), 1.2
OFFSET_HU, GAIN_SD = 8.0, 0.015
"""The wider range: below ``SHARP_MM`` a kernel is a lung kernel, which overshoots at edges and is
noisier."""

CLIP_HU = (-1024, 3071)
"""12 bits, as scanners store them."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """How a patient is scanned.

    Attributes:
        thickness_mm: Width of a slice.
        psf_mm: Standard deviation of the in-plane point spread.
        noise_hu: Standard deviation of the noise.
        sharpening: Overshoot at edges of a sharp kernel: weight of the difference from a smoother
            image.
        offset_hu: Error of the HU of air.
        gain: Error of the scale of HU above air.
    """

    thickness_mm: float
    psf_mm: float
    noise_hu: float
    sharpening: float = 0.0
    offset_hu: float = 0.0
    gain: float = 1.0


def draw_protocol(slice_spacing_mm: float, rng: np.random.Generator) -> Protocol:
    """Draw a protocol for a distance between slices."""
    overlap = rng.uniform(*OVERLAP) if rng.random() < OVERLAP_SHARE else 1.0
    return Protocol(
        thickness_mm=slice_spacing_mm * overlap,
        psf_mm=rng.uniform(*PSF_MM),
        noise_hu=rng.uniform(*NOISE_HU),
    )


def draw_any_protocol(slice_spacing_mm: float, rng: np.random.Generator) -> Protocol:
    """Draw a protocol from a wider range: lung kernels, low doses, thick slices, inexact HU."""
    psf_mm = rng.uniform(*ANY_PSF_MM)
    sharp = psf_mm < SHARP_MM
    return Protocol(
        thickness_mm=max(slice_spacing_mm, np.exp(rng.uniform(*np.log(ANY_THICKNESS_MM)))),
        psf_mm=psf_mm,
        noise_hu=rng.uniform(*ANY_NOISE_HU) * (1.6 if sharp else 1.0),
        sharpening=rng.uniform(*SHARPENING) if sharp else 0.0,
        offset_hu=rng.normal(0, OFFSET_HU),
        gain=rng.normal(1, GAIN_SD),
    )


def acquire(
    hu: Volume, lattice: Lattice, patient: Patient, protocol: Protocol, rng: np.random.Generator
) -> HuVolume:
    """Scan a patient: blur by slice and point spread, add noise, store as int16.

    Args:
        hu: (z, y, x) sharp HU; overwritten.
        lattice: Position of its voxels.
        patient: Determines where noise is strong: behind the most tissue.
        protocol: Blur and noise.
        rng: Source of the noise.
    """
    dz_mm, pixel_mm, _ = lattice.spacing_mm
    hu = ndimage.gaussian_filter1d(hu, SD_PER_FWHM * protocol.thickness_mm / dz_mm, axis=0)
    for axis in (1, 2):
        hu = ndimage.gaussian_filter1d(hu, protocol.psf_mm / pixel_mm, axis=axis)
    if protocol.sharpening:
        smoother = _smooth_in_plane(hu, SHARPENED_OVER_MM / pixel_mm)
        hu += np.float32(protocol.sharpening) * (hu - smoother)
    if protocol.offset_hu or protocol.gain != 1:
        hu = (hu + 1024) * np.float32(protocol.gain) + np.float32(protocol.offset_hu - 1024)
    hu += _noise(lattice, patient, rng) * np.float32(protocol.noise_hu)
    np.rint(hu, out=hu)
    return np.clip(hu, *CLIP_HU, out=hu).astype(np.int16)


def _noise(lattice: Lattice, patient: Patient, rng: np.random.Generator) -> Volume:
    """Draw noise with the grain of filtered back-projection, of standard deviation 1 half-way out.

    Its spectrum rises from nearly zero and falls again: a smooth field minus a smoother one.
    """
    noise = rng.standard_normal(lattice.size_vox, dtype=np.float32)
    noise = _smooth_in_plane(noise, 0.75)
    noise -= np.float32(0.55) * _smooth_in_plane(noise, 1.6)
    noise = ndimage.gaussian_filter1d(noise, 0.55, axis=0)
    noise *= _strength(lattice, patient) / noise[::4, ::4, ::4].std()
    return noise


def _smooth_in_plane(noise: Volume, sigma_vox: float) -> Volume:
    smooth = ndimage.gaussian_filter1d(noise, sigma_vox, axis=1, truncate=3)
    return np.asarray(ndimage.gaussian_filter1d(smooth, sigma_vox, axis=2, truncate=3))


def _strength(lattice: Lattice, patient: Patient) -> Volume:
    """Return the relative noise: 1.25 in the middle, 0.75 far out, half more at the shoulders."""
    z, y, x = lattice.axes()
    across = (x - np.float32(lattice.extent_mm[2] / 2)) / np.float32(0.6 * patient.half_width_mm)
    along = (y - np.float32(lattice.extent_mm[1] / 2)) / np.float32(0.6 * patient.half_depth_mm)
    height = z / np.float32(lattice.extent_mm[0])
    shoulders = 1 + 0.5 * np.clip((height - 0.8) / 0.2, 0, 1)
    return np.asarray(shoulders * (0.75 + 0.5 * np.exp(-(across**2) - along**2)))
