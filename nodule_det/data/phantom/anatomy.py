"""The chest without the lungs' interior: body, fat, bones, heart, diaphragm, shape of the lungs.

    rng ──draw_patient()──▶ Patient ──draw_chest()──▶ Chest (tissue HU, depth in the lung)

All structures here are larger than a few millimetres, so they are drawn on a lattice of
``COARSE_MM`` and interpolated.  Sizes are drawn uniformly from the usual adult range in an atlas of
anatomy.  z increases towards the head, y towards the back, x towards the patient's left.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from nodule_det.arrays import BoolArray
from nodule_det.data.phantom.canvas import Lattice, Points, Volume, smooth_field
from nodule_det.geometry import Triple

Mask = BoolArray

COARSE_MM = 3.0
"""Lattice of the coarse anatomy: ribs are 8 mm, and the time grows with the cube of 1 / spacing."""

CONTRAST_SHARE = 0.31
"""Scans with contrast agent: 312 of LIDC-IDRI's 1,018."""

VESSELS, DENSER_HU = (0.8, 4.0), (-45.0, 60.0)
"""Of varied patients: number of vessels, relative to the usual one, and density of the lung, from
emphysema to shallow inspiration."""

AIR_HU, FAT_HU, MUSCLE_HU, WALL_HU, BLOOD_HU = -1000.0, -100.0, 45.0, 35.0, 42.0
TABLE_HU = -250.0
MARROW_HU, CORTEX_HU, DISC_HU = 190.0, 450.0, 90.0

SPINE_RADIUS_MM = 17.0
CORTEX_MM = 3.5
VERTEBRA_MM, DISC_MM = 26.0, 5.0
RIB_PITCH_MM, RIB_MM, RIB_DROP_MM = 24.0, 8.5, 34.0
"""Distance of ribs, their height, and how far a rib falls from the spine to the sternum."""

RIM_VOX, FAR_MM = 4, 12.0
"""Coarse voxels around the lungs in which depth is computed; farther out it is -``FAR_MM``."""


@dataclass(frozen=True, slots=True)
class Patient:
    """The numbers that make one chest differ from another, in mm."""

    half_width_mm: float
    half_depth_mm: float
    fat_mm: float
    scanned_mm: float
    """Length of the scan along z."""
    field_mm: float
    """Width of the reconstructed field of view."""
    blood_hu: float
    """HU of heart and vessels: contrast agent or not."""
    vessels: float = 1.0
    """Number of vessels, relative to the usual one."""
    denser_hu: float = 0.0
    """How much denser the lung is than usual."""
    smooth_vox: float = 0.0
    """Smoothing of the lung's surface, which otherwise has steps of ``COARSE_MM``."""


def draw_patient(rng: np.random.Generator, *, varied: bool = False) -> Patient:
    """Draw a patient, and the field of view that a technician would choose.

    Args:
        rng: Source of the numbers.
        varied: Also draw more vessels and denser or emptier lungs.
    """
    half_width_mm = rng.uniform(138, 152)
    contrast = rng.random() < CONTRAST_SHARE
    patient = Patient(
        half_width_mm=half_width_mm,
        half_depth_mm=rng.uniform(96, 110),
        fat_mm=rng.uniform(8, 24),
        scanned_mm=rng.uniform(245, 305),
        field_mm=2 * half_width_mm * rng.uniform(1.06, 1.18),
        blood_hu=rng.uniform(110, 200) if contrast else BLOOD_HU,
    )
    if varied:
        patient = replace(
            patient,
            vessels=rng.uniform(*VESSELS),
            denser_hu=rng.uniform(*DENSER_HU),
            smooth_vox=1.0,
        )
    return patient


@dataclass(frozen=True, slots=True)
class Chest:
    """The coarse anatomy.

    Attributes:
        lattice: Position of its voxels.
        tissue_hu: (z, y, x) HU; inside the lungs, that of the nearest tissue, so that only
            ``lung_depth_mm`` determines the border of the lung and it stays sharp.
        lung_depth_mm: (z, y, x) distance to the lung's border, positive inside.
        center_mm: (z, y, x) midpoint of the two hila.
        half_width_mm, half_depth_mm: Half axes of the body.
    """

    lattice: Lattice
    tissue_hu: Volume
    lung_depth_mm: Volume
    center_mm: Triple
    half_width_mm: float
    half_depth_mm: float

    def depth_at(self, points_mm: Points) -> Points:
        """Return the depth in the lung at points (n, 3), in mm."""
        voxel = (points_mm - np.asarray(self.lattice.origin_mm)) / self.lattice.spacing_mm
        depth = ndimage.map_coordinates(self.lung_depth_mm, voxel.T, order=1, mode="nearest")
        return np.asarray(depth, np.float64)


@dataclass(frozen=True, slots=True)
class _Frame:
    """Coordinates in which the shapes are expressed; all broadcast to a volume, in mm."""

    z: Volume
    y: Volume
    x: Volume
    height: Volume
    """0 at the feet's end of the scan, 1 at the head's."""
    right_left: Volume
    """Distance from the midline, wavy as a body's surface is; positive to the left."""
    front_back: Volume
    """The same from front to back; positive to the back."""
    cage_width_mm: float
    cage_depth_mm: float
    cage: Volume
    """1 on the inner surface of the rib cage, less inside."""


def draw_chest(lattice: Lattice, patient: Patient, rng: np.random.Generator) -> Chest:
    """Draw the coarse anatomy of a patient.

    Args:
        lattice: The scan's voxels.
        patient: Sizes.
        rng: Source of everything else.
    """
    coarse = lattice.coarser(COARSE_MM)
    frame = _frame(coarse, patient, rng)
    scanned_mm = float(coarse.extent_mm[0])
    diaphragm = frame.z <= _diaphragm_mm(frame, scanned_mm * rng.uniform(0.10, 0.20))
    mediastinum = np.abs(frame.right_left) < _mediastinum_mm(frame)
    heart = _heart(frame, scanned_mm, rng)
    lung = (frame.cage < 1) & ~diaphragm & ~mediastinum & ~heart & (frame.height < 0.985)
    lung &= _from_spine_mm(frame) > SPINE_RADIUS_MM + 9  # muscle and vessels beside the spine
    lung = ndimage.binary_opening(lung)

    tissue_hu = _soft_tissue(frame, patient, coarse)
    fatty = smooth_field(coarse, 14, rng) > 0.35
    tissue_hu[mediastinum & (frame.cage < 1) & fatty] = FAT_HU
    tissue_hu[heart] = patient.blood_hu
    _draw_abdomen(tissue_hu, frame, diaphragm, rng)
    _draw_spine(tissue_hu, frame)
    aorta = np.hypot(frame.x - 22, frame.y - _spine_mm(frame) + 14) < 12
    tissue_hu[aorta & (frame.height < 0.8)] = patient.blood_hu * rng.uniform(1.0, 1.2)
    _draw_ribs(tissue_hu, frame)

    depth_mm = _fill_lungs(tissue_hu, lung, coarse)
    if patient.smooth_vox:
        depth_mm = ndimage.gaussian_filter(depth_mm, patient.smooth_vox)
    middle = coarse.extent_mm / 2
    return Chest(
        coarse,
        tissue_hu,
        depth_mm,
        (0.52 * scanned_mm, float(middle[1] + 8), float(middle[2])),
        patient.half_width_mm,
        patient.half_depth_mm,
    )


def _frame(coarse: Lattice, patient: Patient, rng: np.random.Generator) -> _Frame:
    """Set up the coordinates: origin in the middle of the body, surfaces wavy by some mm."""
    z, y, x = coarse.axes()
    y = y - np.float32(coarse.extent_mm[1] / 2)
    x = x - np.float32(coarse.extent_mm[2] / 2)
    height = z / np.float32(coarse.extent_mm[0])
    right_left = x + 4 * smooth_field(coarse, 60, rng)
    front_back = y + 4 * smooth_field(coarse, 60, rng)
    width_mm = patient.half_width_mm - patient.fat_mm - 14  # muscle and ribs
    depth_mm = patient.half_depth_mm - patient.fat_mm - 12
    above = np.clip((height - 0.45) / 0.62, 0, 1)
    taper = np.sqrt(np.clip(1 - above**2.2, 0.02, 1))  # the lungs narrow to their apices
    cage = (right_left / (width_mm * taper)) ** 2
    cage += ((front_back - 4) / (depth_mm * (0.35 + 0.65 * taper))) ** 2
    return _Frame(z, y, x, height, right_left, front_back, width_mm, depth_mm, cage)


def _diaphragm_mm(frame: _Frame, lowest_mm: float) -> Volume:
    """Return the height of the diaphragm: a dome on each side, the right one higher (the liver)."""
    scanned_mm = float(frame.z.max())

    def surface(side: int, base_mm: float) -> Volume:
        across = (frame.x - side * 0.5 * frame.cage_width_mm) / (0.5 * frame.cage_width_mm)
        along = (frame.y - 5) / (0.75 * frame.cage_depth_mm)
        dome = 0.28 * np.exp(-1.2 * (across**2 + along**2)) - 0.12
        return np.asarray(base_mm + scanned_mm * dome, np.float32)

    right, left = surface(-1, lowest_mm + 0.05 * scanned_mm), surface(1, lowest_mm)
    return np.asarray(np.where(frame.x < 0, right, left), np.float32)


def _mediastinum_mm(frame: _Frame) -> Volume:
    """Return the half width of the mediastinum: widest at the great vessels, narrow in front."""
    vessels = 17 + 9 * np.exp(-(((frame.height - 0.72) / 0.18) ** 2))
    along = (frame.front_back + 2) / (0.52 * frame.cage_depth_mm)
    return np.asarray(11 + vessels * np.exp(-(along**2)), np.float32)


def _heart(frame: _Frame, scanned_mm: float, rng: np.random.Generator) -> Mask:
    """Draw the heart: an ellipsoid in front and to the left."""
    x = (frame.x - rng.uniform(18, 30)) / rng.uniform(48, 58)
    y = (frame.y + 0.22 * frame.cage_depth_mm) / rng.uniform(38, 46)
    z = (frame.z - 0.33 * scanned_mm) / rng.uniform(46, 56)
    return np.asarray(x**2 + y**2 + z**2 < 1)


def _soft_tissue(frame: _Frame, patient: Patient, coarse: Lattice) -> Volume:
    """Draw air, table, fat, muscle and the inside of the rib cage, in this order."""

    def superellipse(rim_mm: float) -> Mask:
        across = np.abs(frame.right_left / (patient.half_width_mm - rim_mm)) ** 2.4
        along = np.abs(frame.front_back / (patient.half_depth_mm - rim_mm)) ** 2.4
        return np.asarray(across + along < 1)

    hu = np.full(coarse.size_vox, AIR_HU, np.float32)
    top_mm = patient.half_depth_mm + 14 - 0.0016 * frame.x**2  # a shallow trough
    table = (np.abs(frame.y - top_mm) < 2.5) & (np.abs(frame.x) < 0.47 * patient.field_mm)
    hu[np.broadcast_to(table, hu.shape)] = TABLE_HU
    body = superellipse(0.0)
    hu[body] = FAT_HU
    hu[superellipse(patient.fat_mm)] = MUSCLE_HU
    hu[(frame.cage < 1) & body] = WALL_HU
    return hu


def _draw_abdomen(hu: Volume, frame: _Frame, diaphragm: Mask, rng: np.random.Generator) -> None:
    """Fill the cage below the diaphragm: liver to the right, spleen and stomach to the left."""
    below = (frame.cage < 1.02) & diaphragm
    hu[below & (frame.x < 0)] = rng.uniform(50, 110)
    hu[below & (frame.x >= 0)] = MUSCLE_HU


def _spine_mm(frame: _Frame) -> float:
    """Return the position of the vertebral bodies' axis behind the middle."""
    return 0.66 * frame.cage_depth_mm


def _from_spine_mm(frame: _Frame) -> Volume:
    """Return the distance to the axis of the vertebral bodies, which are wider than deep."""
    return np.asarray(np.hypot(frame.x, 1.15 * (frame.y - _spine_mm(frame))), np.float32)


def _draw_spine(hu: Volume, frame: _Frame) -> None:
    """Draw vertebral bodies with cortex and discs, the spinal canal, and the arch around it."""
    away = np.broadcast_to(_from_spine_mm(frame), hu.shape)
    disc = np.broadcast_to(np.mod(frame.z, VERTEBRA_MM) < DISC_MM, hu.shape)
    bone = np.where(away > SPINE_RADIUS_MM - CORTEX_MM, CORTEX_HU, MARROW_HU)
    inside = away < SPINE_RADIUS_MM
    hu[inside] = np.where(disc, DISC_HU, bone)[inside]
    canal = np.hypot(frame.x, frame.y - _spine_mm(frame) - SPINE_RADIUS_MM - 6)
    canal = np.broadcast_to(canal, hu.shape)
    hu[canal < 10] = CORTEX_HU
    hu[canal < 7] = WALL_HU


def _draw_ribs(hu: Volume, frame: _Frame) -> None:
    """Draw the ribs, oblique bands of a shell around the cage, and the sternum."""
    angle = np.arctan2(frame.right_left, frame.front_back)
    band = np.mod(frame.z - RIB_DROP_MM * np.cos(angle), RIB_PITCH_MM) < RIB_MM
    rib = (frame.cage > 1.02) & (frame.cage < 1.16) & band & (hu > FAT_HU - 1)
    hu[rib] = CORTEX_HU
    hu[ndimage.binary_erosion(rib)] = MARROW_HU
    sternum = (np.abs(frame.right_left) < 15) & (
        np.abs(frame.front_back + frame.cage_depth_mm + 2) < 5
    )
    hu[sternum] = MARROW_HU


def _fill_lungs(hu: Volume, lung: Mask, coarse: Lattice) -> Volume:
    """Fill the lungs with the tissue around them, and return the depth in them, in mm.

    Distances run between voxel centres, so half a voxel is taken off on either side.
    """
    hull = ndimage.find_objects(lung.astype(np.int8))[0]
    box = tuple(slice(max(s.start - RIM_VOX, 0), s.stop + RIM_VOX) for s in hull)
    inside, nearest = ndimage.distance_transform_edt(
        lung[box], sampling=coarse.spacing_mm, return_indices=True
    )
    outside = ndimage.distance_transform_edt(~lung[box], sampling=coarse.spacing_mm)
    hu[box] = hu[box][tuple(nearest)]
    half_mm = sum(coarse.spacing_mm) / 6
    depth_mm = np.full(lung.shape, -FAR_MM, np.float32)
    depth_mm[box] = np.where(lung[box], inside - half_mm, half_mm - outside)
    return depth_mm
