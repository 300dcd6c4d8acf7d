"""Number and appearance of nodules, drawn from LIDC-IDRI's statistics.

    rng ──draw_count(), draw_nodule(), draw_excluded()──▶ Nodule (not yet placed)

The numbers come from the published annotations of LIDC-IDRI's 897 scans of at most 2.5 mm slice
thickness: 1,192 nodules of 3 mm and more, marked by at least three of four readers.

References:
    Armato et al. (2011), Medical Physics 38(2): LIDC-IDRI.
    Setio et al. (2017), Medical Image Analysis 42: LUNA16, whose diameters these are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from nodule_det.config.data import PhantomShapes
from nodule_det.data.phantom.shapes import Shape, draw_shape

SCANS_WITH = {0: 290, 1: 315, 2: 160, 3: 63, 4: 25, 5: 22, 6: 11, 7: 4, 8: 2, 9: 4, 12: 1}
"""Number of nodules in a scan -> scans with that many; 1.33 on average."""

DIAMETER_AT = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
DIAMETER_MM = (3.2, 4.0, 5.1, 6.4, 9.7, 19.2, 32.3)
"""Quantiles of the diameter: those of the equal-volume spheres, less the 0.5 mm by which the
readers' outlines lie outside a nodule.  They yield LUNA16's median 6.4 mm, and its mean of ln d,
1.99; between them ln d is linear.  All kinds together are a little larger (median 6.7 mm, mean
of ln d 2.03), because nodules that are not solid start at ``SMALLEST_NONSOLID_MM``."""

SMALLEST_NONSOLID_MM = 5.0
"""Readers find no part-solid or ground-glass nodules smaller than this."""

LARGE_MM = 10.0
SPICULATED_LARGE, SPICULATED_SMALL = 0.22, 0.05
"""Share of spiculated nodules above and below ``LARGE_MM``: 9.4 % in all, mostly large ones."""

CALCIFIED_SOLID = 190 / 1036
"""Share of calcified nodules among the solid ones: 16 % of all, and no others are."""


class Texture(StrEnum):
    """Texture of a nodule, as written in ``annotations.csv``."""

    SOLID = "solid"
    PART_SOLID = "part_solid"
    GROUND_GLASS = "ground_glass"


TEXTURE_SHARE = {
    Texture.SOLID: 1036 / 1192,
    Texture.PART_SOLID: 75 / 1192,
    Texture.GROUND_GLASS: 81 / 1192,
}


EVEN_TEXTURE_SHARE = {
    Texture.SOLID: 0.6,
    Texture.PART_SOLID: 0.2,
    Texture.GROUND_GLASS: 0.2,
}
"""Shares where every kind is to be common (``phantom.shapes=even``)."""


class Attachment(StrEnum):
    """What a nodule touches, as written in ``annotations.csv``."""

    ISOLATED = "isolated"
    JUXTA_PLEURAL = "juxta_pleural"
    JUXTA_VASCULAR = "juxta_vascular"


ATTACHMENT_SHARE = {
    Attachment.ISOLATED: 0.50,
    Attachment.JUXTA_PLEURAL: 0.27,
    Attachment.JUXTA_VASCULAR: 0.23,
}
"""LIDC's readers did not note it; reviews of screening scans report a fifth to a third for each."""


class Kind(StrEnum):
    """A lesion, or a kind of excluded finding as written in their CSV."""

    NODULE = "nodule"
    MICRONODULE = "micronodule"
    GRANULOMA = "granuloma"
    PLAQUE = "plaque"


EXCLUDED_PER_SCAN = {Kind.MICRONODULE: 0.8, Kind.GRANULOMA: 0.3, Kind.PLAQUE: 0.4}
"""Mean numbers per scan.  LUNA16 excludes some 40 places per scan, but most were marked by only one
of four readers, and many are duplicates.  The phantom has only the findings behind such marks."""


@dataclass(frozen=True, slots=True)
class Nodule:
    """A finding before it is placed.

    Attributes:
        diameter_mm: Diameter of the sphere of the same volume; of a plaque, its width.
        hu: Attenuation, of the ground-glass part where the texture is part-solid.
        plaque_mm: Thickness of a plaque, else 0.
        shape: Its shape; None is a bumpy ellipsoid.
    """

    kind: Kind
    diameter_mm: float
    texture: Texture
    attachment: Attachment
    spiculated: bool
    calcified: bool
    hu: float
    plaque_mm: float = 0.0
    shape: Shape | None = None

    @property
    def reach_mm(self) -> float:
        """Distance from the centre to the farthest part of the surface, spikes left out."""
        return self.diameter_mm / 2 * (1.0 if self.shape is None else self.shape.reach)

    def attributes(self) -> dict[str, str]:
        """Return its description for the CSV files, in the order of their columns."""
        if self.kind is not Kind.NODULE:
            return {"kind": self.kind.value}
        return {
            "texture": self.texture.value,
            "attachment": self.attachment.value,
            "spiculation": "yes" if self.spiculated else "no",
            "calcified": "yes" if self.calcified else "no",
        } | (self.shape.attributes() if self.shape is not None else {})


def draw_count(mean: float, rng: np.random.Generator) -> int:
    """Draw the number of nodules in a scan: Poisson with this mean, or LIDC's own if it is 0."""
    if mean > 0:
        return int(rng.poisson(mean))
    counts = np.array(list(SCANS_WITH.values()), np.float64)
    return int(rng.choice(list(SCANS_WITH), p=counts / counts.sum()))


def draw_diameter_mm(rng: np.random.Generator) -> float:
    """Draw a nodule's diameter in mm."""
    return float(np.exp(np.interp(rng.random(), DIAMETER_AT, np.log(DIAMETER_MM))))


def draw_nodule(rng: np.random.Generator, shapes: PhantomShapes = PhantomShapes.ball) -> Nodule:
    """Draw a nodule from LIDC's statistics.

    Args:
        rng: Source of the nodule.
        shapes: Bumpy ellipsoids, or shapes as LIDC's readers rate them.
    """
    share = EVEN_TEXTURE_SHARE if shapes is PhantomShapes.even else TEXTURE_SHARE
    texture = Texture(rng.choice(list(share), p=list(share.values())))
    diameter_mm = draw_diameter_mm(rng)
    while texture is not Texture.SOLID and diameter_mm < SMALLEST_NONSOLID_MM:
        diameter_mm = draw_diameter_mm(rng)
    attachment = Attachment(rng.choice(list(ATTACHMENT_SHARE), p=list(ATTACHMENT_SHARE.values())))
    spiculated_share = SPICULATED_LARGE if diameter_mm > LARGE_MM else SPICULATED_SMALL
    calcified = texture is Texture.SOLID and rng.random() < CALCIFIED_SOLID
    nodule = Nodule(
        kind=Kind.NODULE,
        diameter_mm=diameter_mm,
        texture=texture,
        attachment=attachment,
        spiculated=bool(rng.random() < spiculated_share),
        calcified=bool(calcified),
        hu=_hu(texture, bool(calcified), rng),
    )
    if shapes is PhantomShapes.ball:
        return nodule
    return replace(nodule, shape=draw_shape(
        shapes, diameter_mm, part_solid=texture is Texture.PART_SOLID,
        solid=texture is Texture.SOLID and not calcified, rng=rng,
    ))  # fmt: skip


def _hu(texture: Texture, calcified: bool, rng: np.random.Generator) -> float:
    """Draw the attenuation: soft tissue, calcium, or a haze over the lung's own -850 HU."""
    if texture is Texture.GROUND_GLASS:
        return rng.uniform(-680, -480)
    if texture is Texture.PART_SOLID:
        return rng.uniform(-560, -420)
    return rng.uniform(150, 500) if calcified else rng.normal(25, 35)


def draw_excluded(rng: np.random.Generator) -> list[Nodule]:
    """Draw a scan's excluded findings."""
    found = []
    for kind, mean in EXCLUDED_PER_SCAN.items():
        found += [_excluded(kind, rng) for _ in range(rng.poisson(mean))]
    return found


def _excluded(kind: Kind, rng: np.random.Generator) -> Nodule:
    """Draw one: a nodule under 3 mm, a calcified scar, or a flat thickening of the pleura."""
    diameter_mm, hu, attachment, plaque_mm = {
        Kind.MICRONODULE: (rng.uniform(2, 3), rng.normal(25, 35), Attachment.ISOLATED, 0.0),
        Kind.GRANULOMA: (rng.uniform(3, 5), rng.uniform(500, 900), Attachment.ISOLATED, 0.0),
        Kind.PLAQUE: (
            rng.uniform(8, 18),
            rng.uniform(40, 300),
            Attachment.JUXTA_PLEURAL,
            rng.uniform(2, 4),
        ),
    }[kind]
    calcified = hu > 130  # the threshold of calcium scores
    return Nodule(kind, diameter_mm, Texture.SOLID, attachment, False, calcified, hu, plaque_mm)
