"""Arteries, veins and airways: trees that fill the lungs, and the false positives of a detector.

    Chest ──grow_trees()──▶ Trees (vessels, airways as tubes)

Each tree connects points drawn uniformly in its lung with the hilum, nearest points first.  A new
branch leaves the tree where the distance to the new point plus the weighted path to the hilum is
shortest.  Radii follow Murray's law: the (approximate) cubes of the daughters' radii sum to the
mother's.

References:
    Cuntz et al. (2010), One rule to grow them all, PLoS Comput Biol 6(8): the greedy tree.
    Murray (1926), PNAS 12(3); exponent 2.7 for pulmonary arteries as in Huang et al. (1996),
    J Appl Physiol 81(5).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nodule_det.arrays import IntArray
from nodule_det.data.phantom.anatomy import Chest
from nodule_det.data.phantom.canvas import Points, Tubes, join

HILUM_MM = 27.0
"""Distance of each hilum from the midline."""

TARGETS_PER_LITRE = (330.0, 480.0)
"""Ends of one tree per litre of lung.  With the radii below, 4.5 % of the lung lies above -600 HU.
Real scans have 6-7 %, because of many very fine vessels, each of which would cost time."""

FEWEST_TARGETS, MOST_TARGETS = 80, 1300
TIP_RADIUS_MM = (0.55, 0.7)
"""Radius of an outermost vessel that a CT still shows."""

THINNER = -0.3
"""Exponent by which the outermost vessels are thinner where there are more of them, so that the
trunks, which feed more tips, stay about as thick."""

AIRWAY_TARGETS, AIRWAY_TIP_MM, AIRWAY_MOST_MM = 26, 1.15, 6.0
WALL_FACTOR, WALL_MM = 1.15, 0.55
"""An airway's wall extends to 1.15 times its lumen's radius plus 0.55 mm."""

TRACHEA_RADIUS_MM, TRACHEA_WALL_MM = 9.0, 1.5
MAIN_BRONCHUS_RADIUS_MM = (7.0, 5.5)
DEEP_MM = 3.5
"""Vessels end this far from the pleura."""

MURRAY, AIRWAY_MURRAY = 2.7, 2.2
SPLIT_RATIO = 1.25
"""A branch starts at most this much wider than it continues: a thick mother shows as a junction."""


@dataclass(frozen=True, slots=True)
class Growth:
    """How a tree grows.

    Attributes:
        back: Weight of the path to the hilum; 0 gives the shortest tree, 1 a star.
        step_mm: Length of the straight pieces of a branch.
        tip_mm: Radius of the outermost piece.
        murray: Exponent of Murray's law.
    """

    back: float
    step_mm: float
    tip_mm: float
    murray: float


@dataclass(frozen=True, slots=True)
class Trees:
    """What grows in the lungs.

    Attributes:
        vessels: Arteries and veins.
        bronchi: Air in the airways of the lungs.
        trachea: Air in the trachea and the two main bronchi, which lie outside the lungs.
        walls: The tubes around all airways.
    """

    vessels: Tubes
    bronchi: Tubes
    trachea: Tubes
    walls: Tubes


def grow_trees(chest: Chest, density: float, rng: np.random.Generator) -> Trees:
    """Grow two trees of vessels and one of airways in each lung, and the trachea.

    Args:
        chest: Shape of the lungs.
        density: Number of vessels, relative to the usual one.
        rng: Source of the trees.
    """
    voxels = np.argwhere(chest.lung_depth_mm > DEEP_MM)
    spacing_mm = np.asarray(chest.lattice.spacing_mm)
    center_mm = np.asarray(chest.center_mm)
    carina_mm = center_mm + np.array([14, 0, 0])
    top_mm = np.array([chest.lattice.extent_mm[0] + 20, center_mm[1] - 8, center_mm[2]])
    trachea = [_tube(carina_mm, top_mm, TRACHEA_RADIUS_MM, TRACHEA_RADIUS_MM)]
    vessels, bronchi = [], []
    for side in (-1, 1):
        lung = voxels[side * (voxels[:, 2] * spacing_mm[2] - center_mm[2]) > 0]
        hilum_mm = center_mm + np.array([0, 0, side * HILUM_MM])
        litres = len(lung) * float(spacing_mm.prod()) / 1e6
        for shift_mm in (0.0, -9.0):  # the veins leave the hilum below the arteries
            n = int(np.clip(litres * rng.uniform(*TARGETS_PER_LITRE), FEWEST_TARGETS, MOST_TARGETS))
            n = round(n * density)
            targets_mm = (rng.choice(lung, n) + rng.random((n, 3)) - 0.5) * spacing_mm
            root_mm = hilum_mm + rng.normal([shift_mm, 0, 0], [3, 4, 0])
            tip_mm = rng.uniform(*TIP_RADIUS_MM) * density**THINNER
            growth = Growth(0.25, 7.0, tip_mm, MURRAY)
            vessels.append(grow_tree(root_mm, targets_mm, growth, rng))
        targets_mm = (rng.choice(lung, AIRWAY_TARGETS) + 0.5) * spacing_mm
        growth = Growth(0.35, 9.0, AIRWAY_TIP_MM, AIRWAY_MURRAY)
        bronchi.append(_at_most(grow_tree(hilum_mm, targets_mm, growth, rng), AIRWAY_MOST_MM))
        trachea.append(_tube(carina_mm, hilum_mm, *MAIN_BRONCHUS_RADIUS_MM))
    thin, thick = join(bronchi), join(trachea)
    walls = join([thin.thicker(WALL_FACTOR, WALL_MM), thick.thicker(1.0, TRACHEA_WALL_MM)])
    return Trees(join(vessels), thin, thick, walls)


def grow_tree(
    root_mm: Points, targets_mm: Points, growth: Growth, rng: np.random.Generator
) -> Tubes:
    """Connect points with a root by a tree of tubes.

    Args:
        root_mm: (3,) start of the tree.
        targets_mm: (n, 3) ends of its branches.
        growth: How it grows.
        rng: Source of the bends.

    Returns:
        One tube for each piece, thicker towards the root.
    """
    near_first = np.linalg.norm(targets_mm - root_mm, axis=1) * rng.uniform(
        0.85, 1.15, len(targets_mm)
    )
    nodes = np.empty((1 + len(targets_mm) * MOST_PIECES, 3))
    length_mm = np.zeros(len(nodes))
    parent = np.full(len(nodes), -1)
    nodes[0], n = root_mm, 1
    for target_mm in targets_mm[np.argsort(near_first)]:
        away_mm = np.sqrt(((nodes[:n] - target_mm) ** 2).sum(axis=1))
        at = int(np.argmin(away_mm + growth.back * length_mm[:n]))
        pieces = _branch(nodes[at], target_mm, growth.step_mm, rng)
        m = len(pieces)
        nodes[n : n + m] = pieces
        parent[n : n + m] = [at, *range(n, n + m - 1)]
        length_mm[n : n + m] = length_mm[at] + away_mm[at] * np.arange(1, m + 1) / m
        n += m
    radius_mm = _radii_mm(parent[:n], growth)
    up = parent[1:n]
    mother_mm = np.minimum(radius_mm[up], SPLIT_RATIO * radius_mm[1:])
    return Tubes(nodes[up], nodes[1:n], mother_mm, radius_mm[1:])


MOST_PIECES = 20
"""Largest number of pieces of one branch, which bounds the memory of a tree."""


def _branch(start_mm: Points, end_mm: Points, step_mm: float, rng: np.random.Generator) -> Points:
    """Return (m, 3) points along a branch, bowed by about 6 % and slightly irregular."""
    way_mm = end_mm - start_mm
    length_mm = float(np.sqrt(way_mm @ way_mm))
    m = min(max(1, round(length_mm / step_mm)), MOST_PIECES)
    t = (np.arange(1, m + 1) / m)[:, None]
    bow_mm = rng.normal(0, 0.06 * length_mm, 3)
    points = start_mm + way_mm * t + bow_mm * 4 * t * (1 - t)
    points[:-1] += rng.normal(0, 0.35, (m - 1, 3))
    return np.asarray(points, np.float64)


def _radii_mm(parent: IntArray, growth: Growth) -> Points:
    """Return the radius of each node from the number of tips that it feeds.

    Example:
        >>> _radii_mm(np.array([-1, 0, 1, 1]), Growth(0, 1, 1.0, 2.0)).round(3).tolist()
        [1.414, 1.414, 1.0, 1.0]
    """
    tips = (np.bincount(parent[1:], minlength=len(parent)) == 0).astype(np.int64).tolist()
    for child, mother in reversed(list(enumerate(parent.tolist()))[1:]):
        tips[mother] += tips[child]
    return np.asarray(growth.tip_mm * np.array(tips, np.float64) ** (1 / growth.murray))


def _at_most(tubes: Tubes, radius_mm: float) -> Tubes:
    return Tubes(
        tubes.start_mm,
        tubes.end_mm,
        np.minimum(tubes.start_radius_mm, radius_mm),
        np.minimum(tubes.end_radius_mm, radius_mm),
    )


def _tube(start_mm: Points, end_mm: Points, start_radius_mm: float, end_radius_mm: float) -> Tubes:
    return Tubes(
        start_mm[None], end_mm[None], np.array([start_radius_mm]), np.array([end_radius_mm])
    )
