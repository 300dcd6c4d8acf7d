"""Shapes of lesions, as LIDC's readers rate them: lobulation, sphericity, margin; cavities, cores.

    Variety, rng ──draw_shape()──▶ Shape ──depth()──▶ distance under its surface

A shape is a smooth union of balls, stretched and turned.  It is drawn in units of its own radius:
its volume is that of the unit ball and its centroid the origin, which is where LUNA16's readers
would put the centre.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nodule_det.arrays import FloatArray
from nodule_det.config.data import PhantomShapes
from nodule_det.data.phantom.canvas import Axes, Points, Volume

RATINGS = (1, 2, 3, 4, 5)

LOBULATION_SHARE = (0.62, 0.28, 0.06, 0.03, 0.01)
"""Share of each rating, none to marked.  LIDC rates 118 of 1,192 nodules 3 or higher (9.9 %); how
the rest is divided is our estimate."""

SHAPE_COLUMNS = ("lobulation", "sphericity", "margin", "cavity")
"""Columns of ``annotations.csv`` that describe a shape."""

SPHERICITY_SHARE = (0.01, 0.05, 0.25, 0.44, 0.25)
"""Linear to round.  Our estimate: most nodules are rated between ovoid (3) and round (5)."""

MARGIN_SHARE = (0.02, 0.06, 0.14, 0.33, 0.45)
"""Poorly defined to sharp.  Our estimate."""

EVEN_SHARE = (0.2, 0.2, 0.2, 0.2, 0.2)

LOBES = {1: (0, 1), 2: (1, 3), 3: (2, 4), 4: (3, 6), 5: (5, 9)}
"""Lobulation -> number of lobes beside the main ball, as a half-open range."""
LOBE_AWAY, LOBE_RADIUS = (0.65, 1.05), (0.45, 0.75)
"""Distance of a lobe's centre from that of the main ball, and its radius, in radii of that ball."""

LONGEST = {1: (2.6, 3.2), 2: (2.1, 2.6), 3: (1.6, 2.1), 4: (1.2, 1.6), 5: (1.0, 1.2)}
"""Sphericity -> longest axis by shortest."""

EDGE_MM = {1: (3.0, 4.5), 2: (2.2, 3.2), 3: (1.4, 2.4), 4: (0.8, 1.4), 5: (0.3, 0.8)}
"""Margin -> width over which the lesion fades into the lung, at most ``WIDEST_EDGE`` radii."""
WIDEST_EDGE = 0.8

CAVITY_FROM_MM, CAVITY_SHARE, CAVITY_EVEN_SHARE = 8.0, 0.04, 0.15
"""Only larger solid lesions have cavities.  The share is our estimate."""
CAVITY_RADIUS, CAVITY_AWAY = (0.3, 0.65), 0.2
CORE_RADIUS, CORE_AWAY = (0.25, 0.65), 0.9
"""Radii of a cavity and of the solid core of a part-solid lesion, and how far off centre they may
lie: the core reaches ``CORE_AWAY`` radii at most, so that it stays inside."""

BLEND = 0.12
"""Width of the fillet between lobes, in radii."""

HALF_GRID, GRID_STEP = 2.0, 0.1
"""Half the edge of the cube in which volume and centroid are computed, and its step, in radii."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A lesion's shape in units of the radius of the sphere of the same volume.

    Attributes:
        lobulation, sphericity, margin: LIDC's ratings, 1 to 5.
        lobes: (n, 4) centres (z, y, x) and radii of the balls, before stretching.
        unstretch: (3, 3) matrix from an offset (z, y, x) from the lesion's centre to the balls.
        edge_mm: Width of the edge.
        cavity: (4,) centre and radius of the hole, or None.
        core: (4,) centre and radius of the solid part of a part-solid lesion, or None.
        reach: Largest distance of the surface from the centroid.
    """

    lobulation: int
    sphericity: int
    margin: int
    lobes: Points
    unstretch: FloatArray
    edge_mm: float
    cavity: Points | None
    core: Points | None
    reach: float

    def attributes(self) -> dict[str, str]:
        """Return its description for the CSV files, in the order of ``SHAPE_COLUMNS``."""
        return {
            "lobulation": str(self.lobulation),
            "sphericity": str(self.sphericity),
            "margin": str(self.margin),
            "cavity": "yes" if self.cavity is not None else "no",
        }

    def depth(self, offset: Axes) -> Volume:
        """Return the distance under the surface, in radii; negative outside.

        Exact for a ball, and about right near the surface of other shapes.

        Args:
            offset: Offsets from the centroid along z, y and x, in radii, shaped to broadcast.
        """
        q = self._squeezed(offset)
        total = np.zeros(q[0].shape, np.float32)
        for *center, radius in self.lobes.astype(np.float32):
            away = np.sqrt(sum((a - c) ** 2 for a, c in zip(q, center, strict=True)))
            total += np.exp(np.clip((radius - away) / np.float32(BLEND), -60, 60))
        return np.asarray(np.float32(BLEND) * np.log(np.maximum(total, np.float32(1e-30))))

    def ball_depth(self, ball: Points, offset: Axes) -> Volume:
        """Return the depth in a cavity or core (z, y, x, radius), which is stretched as well."""
        q = self._squeezed(offset)
        away = np.sqrt(sum((a - np.float32(c)) ** 2 for a, c in zip(q, ball[:3], strict=True)))
        return np.asarray(np.float32(ball[3]) - away)

    def _squeezed(self, offset: Axes) -> list[Volume]:
        z, y, x = offset
        return [row[0] * z + row[1] * y + row[2] * x for row in self.unstretch.astype(np.float32)]


def draw_shape(
    variety: PhantomShapes,
    diameter_mm: float,
    *,
    part_solid: bool,
    solid: bool,
    rng: np.random.Generator,
) -> Shape:
    """Draw a shape.

    Args:
        variety: How often each rating occurs.
        diameter_mm: Diameter of the sphere of the same volume.
        part_solid: Whether it has a solid core.
        solid: Whether it may have a cavity.
        rng: Source of the shape.
    """
    even = variety is PhantomShapes.even
    lobulation = _rating(EVEN_SHARE if even else LOBULATION_SHARE, rng)
    sphericity = _rating(EVEN_SHARE if even else SPHERICITY_SHARE, rng)
    margin = _rating(EVEN_SHARE if even else MARGIN_SHARE, rng)
    lobes, unstretch = _lobes(lobulation, rng), _unstretch(sphericity, rng)
    lobes, reach = _normalised(lobes, unstretch)
    cavity = None
    share = CAVITY_EVEN_SHARE if even else CAVITY_SHARE
    if solid and diameter_mm > CAVITY_FROM_MM and rng.random() < share:
        cavity = _ball(CAVITY_RADIUS, CAVITY_AWAY, rng)
    core = None
    if part_solid:
        core = _ball(CORE_RADIUS, 0.0, rng)
        core[:3] = _direction(rng) * rng.uniform(0, CORE_AWAY - core[3])
    edge_mm = min(rng.uniform(*EDGE_MM[margin]), WIDEST_EDGE * diameter_mm / 2)
    return Shape(lobulation, sphericity, margin, lobes, unstretch, edge_mm, cavity, core, reach)


def _rating(share: tuple[float, ...], rng: np.random.Generator) -> int:
    return int(rng.choice(RATINGS, p=share))


def _direction(rng: np.random.Generator) -> Points:
    out = rng.normal(size=3)
    return np.asarray(out / np.linalg.norm(out))


def _ball(radius: tuple[float, float], away: float, rng: np.random.Generator) -> Points:
    return np.append(_direction(rng) * rng.uniform(0, away), rng.uniform(*radius))


def _lobes(lobulation: int, rng: np.random.Generator) -> Points:
    """Draw the main ball and the lobes on it."""
    n = int(rng.integers(*LOBES[lobulation]))
    out = rng.normal(size=(n, 3))
    out *= rng.uniform(*LOBE_AWAY, (n, 1)) / np.linalg.norm(out, axis=1, keepdims=True)
    lobes = np.column_stack([out, rng.uniform(*LOBE_RADIUS, n)])
    return np.concatenate([[[0.0, 0.0, 0.0, 1.0]], lobes])


def _unstretch(sphericity: int, rng: np.random.Generator) -> FloatArray:
    """Draw a turn, and axes that keep the volume: the middle one lies between the others."""
    longest = rng.uniform(*LONGEST[sphericity])
    axes = np.array([longest, longest ** rng.uniform(0, 0.5), 1.0])
    axes /= np.prod(axes) ** (1 / 3)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return np.asarray(turn / axes[:, None])


def _normalised(lobes: Points, unstretch: FloatArray) -> tuple[Points, float]:
    """Scale the balls to the unit ball's volume around their centroid; return the reach as well.

    Stretching keeps volumes and centroids, so both are measured on the balls before it.
    """
    for _ in range(2):  # the fillets do not scale along, so once is not enough
        inside = _inside(lobes)
        lobes = lobes * (4 / 3 * np.pi / (len(inside) * GRID_STEP**3)) ** (1 / 3)
    inside = _inside(lobes)
    centroid = inside.mean(axis=0)
    lobes[:, :3] -= centroid
    surface = np.linalg.solve(unstretch, (inside - centroid).T)
    return lobes, float(np.linalg.norm(surface, axis=0).max())


def _inside(lobes: Points) -> Points:
    """Return the (n, 3) points of a fine grid inside the balls."""
    axis = np.arange(-HALF_GRID, HALF_GRID + GRID_STEP / 2, GRID_STEP, dtype=np.float32)
    balls = Shape(1, 5, 5, lobes, np.eye(3), 0.0, None, None, 0.0)
    depth = balls.depth((axis[:, None, None], axis[None, :, None], axis[None, None, :]))
    return np.asarray(np.argwhere(depth > 0) * GRID_STEP - HALF_GRID)
