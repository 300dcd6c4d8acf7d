"""One phantom scan from one seed.

    seed ──▶ Patient ──▶ Chest ──▶ Trees ──▶ Lungs ──▶ findings ──▶ scanner ──▶ Scan, Findings

Each step has its own random generator, so that a change in one does not affect the others.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import numpy as np

from nodule_det.config.data import PhantomConfig, PhantomScanners, PhantomShapes
from nodule_det.data.phantom.anatomy import Chest, draw_chest, draw_patient
from nodule_det.data.phantom.canvas import Lattice, Tubes, resample
from nodule_det.data.phantom.lungs import Lungs, draw_lungs
from nodule_det.data.phantom.nodules import Placed, paint, place
from nodule_det.data.phantom.scanner import acquire, draw_any_protocol, draw_protocol
from nodule_det.data.phantom.statistics import (
    Kind,
    Nodule,
    draw_count,
    draw_excluded,
    draw_nodule,
)
from nodule_det.data.phantom.vessels import grow_trees
from nodule_det.data.scan import Finding, Scan
from nodule_det.errors import ConfigError
from nodule_det.geometry import Grid

GENERATOR = 2
"""Incremented whenever a seed yields a different scan, so that versions never mix in a folder."""

DECIMALS = 4
"""Digits of spacing and positions in mm: DICOM allows 16 characters for a number."""

REDRAWS = 50
"""Number of nodules drawn until one fits; a large one may not fit in a small lung."""


FIRST_SETTINGS = (PhantomShapes.ball, PhantomScanners.standard)
"""Of settings that came later: scans made with these keep their UIDs."""


def series_uid(seed: int, config: PhantomConfig) -> str:
    """Return the DICOM UID of a seed's scan, unique to these settings."""
    words = f"nodule_det phantom {GENERATOR} {seed} {config.size_vox} {config.nodules_per_scan}"
    for setting in (config.shapes, config.scanners):
        if setting not in FIRST_SETTINGS:
            words += f" {setting.value}"
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, words).int}"


def make_scan(seed: int, config: PhantomConfig) -> tuple[Scan, tuple[Finding, ...]]:
    """Make the scan of a seed; the same seed gives the same scan to the bit.

    Args:
        seed: Seed of this scan (``config.seed`` is that of a data set's first).
        config: Size and number of nodules.

    Returns:
        The scan with its lesions and excluded findings, described by ``Finding.attributes``.

    Raises:
        ConfigError: If the requested number of nodules does not fit.
    """
    rngs = np.random.default_rng(seed).spawn(5)
    varied = config.scanners is PhantomScanners.varied
    patient = draw_patient(rngs[0], varied=varied)
    z, y, x = config.size_vox
    dz_mm = round(patient.scanned_mm / z, DECIMALS)
    pixel_mm = round(patient.field_mm / x, DECIMALS)
    lattice = Lattice((z, y, x), (dz_mm, pixel_mm, pixel_mm))

    chest = draw_chest(lattice, patient, rngs[1])
    trees = grow_trees(chest, patient.vessels, rngs[2])
    lungs = draw_lungs(chest, trees, patient, lattice, rngs[2])
    placed = _place_findings(chest, trees.vessels, lungs, config, rngs[3])
    for finding in placed:
        paint(finding, lungs, rngs[3])

    hu = resample(chest.tissue_hu, chest.lattice, lattice)
    lungs.lay_into(hu)
    draw = draw_any_protocol if varied else draw_protocol
    protocol = draw(dz_mm, rngs[4])
    volume_hu = acquire(hu, lattice, patient, protocol, rngs[4])
    grid = _grid(lattice, rngs[4])
    return (
        Scan(series_uid(seed, config), volume_hu, grid),
        tuple(_finding(one, grid) for one in placed),
    )


def _place_findings(
    chest: Chest, vessels: Tubes, lungs: Lungs, config: PhantomConfig, rng: np.random.Generator
) -> list[Placed]:
    """Draw and place a scan's findings, lesions first."""
    placed: list[Placed] = []

    def try_all(nodules: Iterator[Nodule]) -> bool:
        for nodule in nodules:
            found = place(nodule, chest, vessels, lungs, placed, rng)
            if found is not None:
                placed.append(found)
                return True
        return False

    n_nodules = draw_count(config.nodules_per_scan, rng)
    for _ in range(n_nodules):
        if not try_all(draw_nodule(rng, config.shapes) for _ in range(REDRAWS)):
            raise ConfigError(
                f"phantom.size_vox={config.size_vox} with "
                f"phantom.nodules_per_scan={config.nodules_per_scan}: {n_nodules} "
                "nodules do not fit into one of the scans; ask for fewer, or for more voxels"
            )
    for nodule in draw_excluded(rng):  # their number does not matter
        try_all(iter([nodule]))
    return placed


def _grid(lattice: Lattice, rng: np.random.Generator) -> Grid:
    """Place the scan in the scanner's coordinates, with the patient near the middle."""
    z, y, x = lattice.extent_mm
    origin_mm = (-x / 2 + rng.normal(0, 5), -y / 2, -z + rng.normal(0, 20))
    a, b, c = (round(float(v), DECIMALS) for v in origin_mm)
    return Grid(lattice.size_vox, lattice.spacing_mm, (a, b, c))


def _finding(placed: Placed, grid: Grid) -> Finding:
    """Return the finding in world mm, as a layout would."""
    voxel = placed.center_mm / grid.spacing_mm
    x, y, z = (round(float(v), DECIMALS) for v in grid.to_world(voxel))
    return Finding(
        (x, y, z),
        round(placed.nodule.diameter_mm, 2),
        excluded=placed.nodule.kind is not Kind.NODULE,
        attributes=placed.nodule.attributes(),
    )
