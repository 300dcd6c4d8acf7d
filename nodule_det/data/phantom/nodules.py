"""Place findings in the lungs and paint them.

    Nodule ──place()──▶ Placed ──paint()──▶ Lungs.hu

A nodule has the volume of its sphere: a bumpy ellipsoid, or a shape of ``shapes.py``.  Non-solid
nodules have wide soft edges, spiculated ones have spikes, and part-solid ones have a solid core.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nodule_det.data.phantom.anatomy import Chest
from nodule_det.data.phantom.canvas import (
    Axes,
    Lattice,
    Points,
    Tubes,
    Volume,
    draw_tubes,
    smooth_field,
)
from nodule_det.data.phantom.lungs import Lungs, blend, soft_step
from nodule_det.data.phantom.shapes import Shape
from nodule_det.data.phantom.statistics import Attachment, Kind, Nodule, Texture

TRIES = 400
"""Number of places drawn at once; the first free one is used."""

APART_MM = 4.0
"""Smallest gap between the surfaces of two findings."""

CLEAR_MM = 1.5
"""Gap between an isolated nodule and the pleura."""

IN_WALL = (0.5, 1.0)
"""Depth of a juxta-pleural nodule's centre in radii: its outer part lies in the chest wall."""

SPIKES = (24, 40)
SPIKE_RADIUS_MM = (1.2, 0.4)
SPIKE_END = (1.3, 1.9)
"""Number of spikes, their radii at root and tip, and how many radii of the nodule they reach."""

FED_BY_MM = (0.7, 3.0)
"""Radii of the vessels that a juxta-vascular nodule sits on."""

VESSEL_HU = -600.0
EDGE_VOX, HAZY_EDGE_VOX = 1.0, 2.5
"""Width of the edge of a solid nodule, and of one that fades into the lung."""

CORE_RADIUS, CORE_HU = 0.45, 20.0
"""Solid core of a part-solid nodule, in radii of the nodule."""

CAVITY_HU = -960.0

UNEVEN = (0.02, 0.06)
"""Standard deviation of the unevenness of a shape's surface, in radii."""

GRAIN_HU, HAZY_GRAIN_HU = 12.0, 45.0
"""Standard deviation of the HU inside."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A finding at its centre (z, y, x), in mm."""

    nodule: Nodule
    center_mm: Points

    @property
    def radius_mm(self) -> float:
        """Half the diameter."""
        return self.nodule.diameter_mm / 2


def place(
    nodule: Nodule,
    chest: Chest,
    vessels: Tubes,
    lungs: Lungs,
    taken: Sequence[Placed],
    rng: np.random.Generator,
) -> Placed | None:
    """Find a free place for a finding.

    Args:
        nodule: The finding to place.
        chest: Provides the depth in the lungs.
        vessels: Vessels on which juxta-vascular nodules may sit.
        lungs: The lungs without findings, to avoid airways and vessels.
        taken: Findings already placed.
        rng: Source of the places.

    Returns:
        The finding with its centre, or None if none of ``TRIES`` places is free.
    """
    points_mm = _propose(nodule, chest, vessels, rng)
    if not len(points_mm):
        return None
    low, high = _depths_mm(nodule)
    depth_mm = chest.depth_at(points_mm)
    free = (depth_mm >= low) & (depth_mm <= high)
    reach_mm = nodule.reach_mm
    margin_mm = reach_mm + 2 * np.asarray(chest.lattice.spacing_mm)
    free &= (points_mm > margin_mm).all(axis=1)
    free &= (points_mm < chest.lattice.extent_mm - margin_mm).all(axis=1)
    free &= lungs.at(lungs.lumen, points_mm) < 0.1
    if nodule.attachment is not Attachment.JUXTA_VASCULAR:
        free &= lungs.at(lungs.hu, points_mm) < VESSEL_HU
    for other in taken:
        gap_mm = np.linalg.norm(points_mm - other.center_mm, axis=1) - other.nodule.reach_mm
        free &= gap_mm > reach_mm + APART_MM
    chosen = np.flatnonzero(free)
    return Placed(nodule, points_mm[chosen[0]]) if chosen.size else None


def _depths_mm(nodule: Nodule) -> tuple[float, float]:
    """Return the smallest and largest depth of the centre in the lung, in mm."""
    radius_mm = nodule.diameter_mm / 2
    if nodule.kind is Kind.PLAQUE:
        return 0.0, nodule.plaque_mm
    if nodule.attachment is Attachment.JUXTA_PLEURAL:
        return IN_WALL[0] * radius_mm, IN_WALL[1] * radius_mm
    if nodule.attachment is Attachment.JUXTA_VASCULAR:
        return radius_mm, np.inf
    return nodule.reach_mm + CLEAR_MM, np.inf


def _propose(nodule: Nodule, chest: Chest, vessels: Tubes, rng: np.random.Generator) -> Points:
    """Draw (n, 3) candidate centres: on vessels, or uniformly at the allowed depths."""
    if nodule.attachment is Attachment.JUXTA_VASCULAR:
        radius_mm = vessels.end_radius_mm
        ends = vessels.end_mm[(radius_mm > FED_BY_MM[0]) & (radius_mm < FED_BY_MM[1])]
        if not len(ends):
            return ends
        beside_mm = rng.normal(0, 0.35 * nodule.diameter_mm / 2, (TRIES, 3))
        return np.asarray(rng.choice(ends, TRIES) + beside_mm)
    low, high = _depths_mm(nodule)
    spacing_mm = np.asarray(chest.lattice.spacing_mm)
    depth_mm, slack_mm = chest.lung_depth_mm, spacing_mm.max() / 2
    voxels = np.argwhere((depth_mm > low - slack_mm) & (depth_mm < high + slack_mm))
    if not len(voxels):
        return np.empty((0, 3))
    return np.asarray((rng.choice(voxels, TRIES) + rng.random((TRIES, 3)) - 0.5) * spacing_mm)


def paint(placed: Placed, lungs: Lungs, rng: np.random.Generator) -> None:
    """Paint a finding into the lungs wherever it is denser than the present tissue."""
    reach_mm = max(SPIKE_END[1] * placed.radius_mm, placed.nodule.reach_mm) + 3
    box = lungs.lattice.box(placed.center_mm - reach_mm, placed.center_mm + reach_mm)
    local = lungs.lattice.crop(box)
    share = _shape(placed, local, lungs.depth_mm[box], rng)
    hu = _inside_hu(placed, local, rng)
    there = lungs.hu[box]
    there += np.maximum(hu - there, 0) * share
    shape = placed.nodule.shape
    if shape is not None and shape.cavity is not None:
        blend(there, CAVITY_HU, _share_of_ball(shape.cavity, placed, shape, local) * share)


def _shape(placed: Placed, local: Lattice, depth_mm: Volume, rng: np.random.Generator) -> Volume:
    """Return the share of each voxel that the finding fills."""
    nodule, pixel_mm = placed.nodule, local.spacing_mm[2]
    if nodule.kind is Kind.PLAQUE:
        width = soft_step(placed.radius_mm - _away_mm(placed.center_mm, local), pixel_mm)
        return width * soft_step(np.float32(nodule.plaque_mm) - depth_mm, pixel_mm)
    edge_vox = EDGE_VOX if nodule.texture is Texture.SOLID else HAZY_EDGE_VOX
    edge_mm = edge_vox * pixel_mm
    if nodule.shape is not None:
        edge_mm = max(nodule.shape.edge_mm, edge_mm)
    share = soft_step(_signed_distance_mm(placed, local, rng), edge_mm)
    if nodule.spiculated:
        spikes = np.zeros(local.size_vox, np.float32)
        draw_tubes(spikes, local, _spikes(placed, rng), pixel_mm)
        share = np.maximum(share, 0.8 * spikes)
    return share


def _away_mm(center_mm: Points, local: Lattice) -> Volume:
    z, y, x = local.axes()
    cz, cy, cx = (np.float32(c) for c in center_mm)
    return np.asarray(np.sqrt((z - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2), np.float32)


def _signed_distance_mm(placed: Placed, local: Lattice, rng: np.random.Generator) -> Volume:
    """Return the depth under the surface of a shape, or of a bumpy ellipsoid in random position."""
    r = placed.radius_mm
    if placed.nodule.shape is not None:
        depth = placed.nodule.shape.depth(_offset(placed, local))
        depth += smooth_field(local, max(0.7 * r, 1.6), rng) * np.float32(rng.uniform(*UNEVEN))
        return depth * np.float32(r)
    stretch = rng.uniform(0.85, 1.1, 3)
    stretch /= np.prod(stretch) ** (1 / 3)  # keeps the volume of the sphere
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    z, y, x = (
        axis - np.float32(at) for axis, at in zip(local.axes(), placed.center_mm, strict=True)
    )
    from_center = np.zeros(local.size_vox, np.float32)
    for row, length_mm in zip(
        turn.astype(np.float32), (r * stretch).astype(np.float32), strict=True
    ):
        from_center += ((row[0] * z + row[1] * y + row[2] * x) / length_mm) ** 2
    np.sqrt(from_center, out=from_center)
    bumps = smooth_field(local, max(0.7 * r, 1.6), rng) * np.float32(rng.uniform(0.04, 0.13))
    return np.asarray((1 + bumps - from_center) * np.float32(r))


def _spikes(placed: Placed, rng: np.random.Generator) -> Tubes:
    """Draw spikes in all directions."""
    n = int(rng.integers(*SPIKES))
    out = rng.normal(size=(n, 3))
    out *= placed.radius_mm / np.linalg.norm(out, axis=1, keepdims=True)
    return Tubes(
        placed.center_mm + 0.7 * out,
        placed.center_mm + rng.uniform(*SPIKE_END, (n, 1)) * out,
        np.full(n, SPIKE_RADIUS_MM[0]),
        np.full(n, SPIKE_RADIUS_MM[1]),
    )


def _inside_hu(placed: Placed, local: Lattice, rng: np.random.Generator) -> Volume:
    """Return the HU that the finding would have if it filled the whole box."""
    nodule = placed.nodule
    grain_hu = GRAIN_HU if nodule.texture is Texture.SOLID else HAZY_GRAIN_HU
    hu = np.float32(nodule.hu) + np.float32(grain_hu) * smooth_field(local, 4, rng)
    if nodule.texture is Texture.PART_SOLID:
        if nodule.shape is not None and nodule.shape.core is not None:
            core = _share_of_ball(nodule.shape.core, placed, nodule.shape, local)
        else:
            center_mm = placed.center_mm + rng.normal(0, 0.2 * placed.radius_mm, 3)
            core_mm = np.float32(CORE_RADIUS * placed.radius_mm) - _away_mm(center_mm, local)
            core = soft_step(core_mm, local.spacing_mm[2])
        hu += (np.float32(CORE_HU) - hu) * core
    return hu


def _share_of_ball(ball: Points, placed: Placed, shape: Shape, local: Lattice) -> Volume:
    """Return the share of each voxel in a shape's cavity or core."""
    depth_mm = shape.ball_depth(ball, _offset(placed, local)) * np.float32(placed.radius_mm)
    return soft_step(depth_mm, local.spacing_mm[2])


def _offset(placed: Placed, local: Lattice) -> Axes:
    """Return the offsets from the centre along z, y and x, in radii."""
    z, y, x = (
        (axis - np.float32(at)) / np.float32(placed.radius_mm)
        for axis, at in zip(local.axes(), placed.center_mm, strict=True)
    )
    return z, y, x
