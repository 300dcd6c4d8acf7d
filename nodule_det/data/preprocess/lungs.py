"""Where the lungs are: dark, inside the body, large, and closed over vessels and wall nodules.

volume, grid ──coarse (2.5 mm)──▶ fill, air, lung ──▶ components ──▶ closing ──▶ Lungs

A lung that the edge of the image cuts off is found as far as it is in the image.  Lungs that are
consolidated or full of fluid are as dense as the wall around them and are not found, but the volume
of what is found is checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import ceil

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nodule_det.arrays import BoolArray, FloatArray
from nodule_det.data.scan import HuVolume
from nodule_det.errors import ScanError
from nodule_det.geometry import Grid

Mask = BoolArray

COARSE_MM = 2.5
LUNG_BELOW_HU = -400
CLOSING_MM = 15.0
"""Radius of the closing.  A ball of this radius, rolled along the wall, does not fall into the pit
that a nodule leaves there: one of 20 mm is covered to its centre and beyond."""
ROUNDING_MM = 0.01
"""Many distances are 15 mm but for the last digits of a header; all of them count as within."""
SMALLEST_LUNG_ML = 150.0
MOST_PARTS = 4
"""Lungs come as one part (joined by the airways), two, or a few where disease divides them."""
MOST_CANDIDATES = 12
AIR_BELOW_HU = -970
"""Median of air: -1000, of lungs with severe emphysema: -950."""
TISSUE_ABOVE_HU = -300
WITHIN_BODY = 0.5
"""Share of a part at the image's edge that lies between tissue: all of a lung, little of the
mattress."""
FILL_SHARE, MOST_FILLS = 0.6, 4
SMALLEST_BODY_ML = 500.0
BRIDGE_VOX = 2
VALLEY = 0.5
CUT_BODY = 0.5
"""How much more tissue one edge of the image has than the other where the body is cut off there,
relative to the column with most of it."""
SMALLER_LUNG = 0.1
"""The smaller lung has a tenth of the volume, or it counts as missing."""
PLAUSIBLE_ML = (1000.0, 12_000.0)
"""Two lungs of a small adult after breathing out; of a large one with emphysema."""


def coarse_steps(grid: Grid) -> tuple[int, int, int]:
    """Return the subsampling along (z, y, x) that comes nearest to ``COARSE_MM``.

    Halves go down: 1 mm and 0.9999999999999998 mm, as formats write it, must come to the same.
    """
    z, y, x = (max(1, ceil(COARSE_MM / s - 0.5 - 1e-6)) for s in grid.spacing_mm)
    return z, y, x


@dataclass(frozen=True)
class Lungs:
    """The lungs of a scan.

    Attributes:
        mask: (z, y, x) of the coarse grid ``volume[::sz, ::sy, ::sx]``, closed over vessels and
            nodules at the wall.
        right_ml: Air-filled volume on the patient's right, in ml, as far as it is in the image.
        left_ml: The same on the left.
    """

    mask: Mask
    right_ml: float
    left_ml: float

    def notes(self) -> tuple[str, ...]:
        """Return a warning for each volume that is not plausible."""
        return volume_notes(self.right_ml, self.left_ml)


def volume_notes(right_ml: float, left_ml: float) -> tuple[str, ...]:
    """Return a warning for each lung volume that is not plausible.

    Example:
        >>> volume_notes(2000, 1900)
        ()
        >>> volume_notes(2000, 0)[0].partition(":")[0]
        'only the right lung was found (2000 ml)'
    """
    low, high = PLAUSIBLE_ML
    total = right_ml + left_ml
    notes = []
    if min(right_ml, left_ml) < SMALLER_LUNG * total:
        side = "right" if right_ml > left_ml else "left"
        notes.append(
            f"only the {side} lung was found ({max(right_ml, left_ml):.0f} ml): the other is "
            "missing, collapsed or full of fluid; check it, or set masks=FOLDER"
        )
    if not low <= total <= high:
        notes.append(
            f"the lungs have {total:.0f} ml, expected {low:g} to {high:g}: check the picture, or "
            "set masks=FOLDER"
        )
    return tuple(notes)


def find_lungs(volume_hu: HuVolume, grid: Grid, name: str) -> Lungs:
    """Find the lungs.

    Fill around the image is taken out first, then every dark part is either air or lung: air is
    darker than any lung, and a part that reaches the edge of the image must lie within the body.

    Args:
        volume_hu: (z, y, x) HU in canonical axes; only every n-th voxel is looked at
            (``coarse_steps``).
        grid: Where its voxels lie.
        name: The scan, for the error.

    Raises:
        ScanError: If nothing looks like a lung.
    """
    steps = coarse_steps(grid)
    coarse = np.ascontiguousarray(volume_hu[tuple(slice(None, None, s) for s in steps)])
    spacing_mm = np.asarray(grid.spacing_mm) * steps
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    fill = outside_fill(coarse, voxel_ml)
    dark = (coarse < LUNG_BELOW_HU) & ~fill
    lung = _lung_parts(coarse, dark, fill, voxel_ml)
    if not lung.any():  # a bridge of air between lung and the outside: cut it
        core = ndimage.binary_erosion(dark, iterations=BRIDGE_VOX)
        seeds = _lung_parts(coarse, core, fill, voxel_ml)
        if seeds.any():
            lung = ndimage.binary_dilation(seeds, iterations=BRIDGE_VOX, mask=dark)
    if not lung.any():
        raise ScanError(
            f"no lungs were found in {name}: no dark part inside the body reaches "
            f"{SMALLEST_LUNG_ML:g} ml; is it a chest CT in HU, and are the lungs filled with air? "
            "masks=FOLDER takes lung masks of your own"
        )
    right_ml, left_ml = lung_volumes(lung, voxel_ml, _middle(coarse > TISSUE_ABOVE_HU, fill))
    return Lungs(_close(lung, spacing_mm), right_ml, left_ml)


def outside_fill(coarse: HuVolume, voxel_ml: float) -> BoolArray:
    """Return the voxels around the image that no scanner measured, whatever their value.

    Fill is one value without noise that reaches the image's corners through most slices: outside
    the circle of reconstruction, or a frame.  Both may be there, so it is looked for again inside
    what was found, as long as a body remains.
    """
    fill = np.zeros(coarse.shape, bool)
    rows, columns = (0, coarse.shape[1] - 1), (0, coarse.shape[2] - 1)
    for _ in range(MOST_FILLS):
        grown = fill.copy()
        for y, x in product(rows, columns):
            value, share = _usual(coarse[:, y, x][~fill[:, y, x]], len(coarse))
            if share >= FILL_SHARE and not grown[:, y, x].all():
                labels, _ = ndimage.label((coarse == value) & ~grown)
                grown |= np.isin(labels, np.unique(labels[:, y, x][labels[:, y, x] > 0]))
        body_ml = np.count_nonzero((coarse > TISSUE_ABOVE_HU) & ~grown) * voxel_ml
        if grown.sum() == fill.sum() or body_ml < SMALLEST_BODY_ML:
            break
        fill = grown
        left = ~fill
        inside_y, inside_x = (np.flatnonzero(left.any(axis=a)) for a in ((0, 2), (0, 1)))
        rows, columns = (inside_y[0], inside_y[-1]), (inside_x[0], inside_x[-1])
    return fill


def _usual(values: HuVolume, n: int) -> tuple[int, float]:
    """Return the most common value and how many of n it is."""
    if not values.size:
        return 0, 0.0
    found, counts = np.unique(values, return_counts=True)
    return int(found[counts.argmax()]), float(counts.max()) / n


def _lung_parts(coarse: HuVolume, dark: BoolArray, fill: BoolArray, voxel_ml: float) -> BoolArray:
    """Return the connected dark parts that are lung: the largest ones that are not air."""
    labels, n = ndimage.label(dark)
    sizes_ml = np.bincount(labels.ravel(), minlength=n + 1) * voxel_ml
    sizes_ml[0] = 0
    edge = _at_edge(labels, fill)
    boxes = ndimage.find_objects(labels)
    lungs: list[int] = []
    body: BoolArray | None = None
    for i in np.argsort(-sizes_ml)[:MOST_CANDIDATES]:
        if sizes_ml[i] < SMALLEST_LUNG_ML or len(lungs) == MOST_PARTS:
            break
        part = labels[boxes[i - 1]] == i
        if np.median(coarse[boxes[i - 1]][part]) < AIR_BELOW_HU:
            continue
        if i in edge:
            body = _within_body(coarse, fill) if body is None else body
            if body[boxes[i - 1]][part].mean() < WITHIN_BODY:
                continue
        lungs.append(int(i))
    return np.asarray(np.isin(labels, lungs) & (labels > 0))


def _at_edge(labels: NDArray[np.integer], fill: BoolArray) -> set[int]:
    """Name the parts that reach the sides of the image or its fill."""
    sides = [labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1]]
    touched = [side.ravel() for side in sides]
    if fill.any():
        touched.append(labels[ndimage.binary_dilation(fill)])
    return set(np.unique(np.concatenate(touched)).tolist()) - {0}


def _within_body(coarse: HuVolume, fill: BoolArray) -> BoolArray:
    """Return the voxels that lie between tissue of the body, front to back or right to left.

    Where the image cuts the chest wall off on one side, the other direction still tells.
    """
    labels, n = ndimage.label((coarse > TISSUE_ABOVE_HU) & ~fill)
    if not n:
        return np.zeros(coarse.shape, bool)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    body = labels == sizes.argmax()
    within = np.zeros(coarse.shape, bool)
    for axis in (1, 2):
        before = np.logical_or.accumulate(body, axis=axis)
        behind = np.flip(np.logical_or.accumulate(np.flip(body, axis), axis=axis), axis)
        within |= before & behind
    return within


def _middle(tissue: BoolArray, fill: BoolArray) -> float:
    """Return the x index of the middle of the body.

    A reconstruction of one side cuts the body off: its middle is then beyond the edge with more
    tissue.
    """
    profile = (tissue & ~fill).sum(axis=(0, 1))
    total = profile.sum()
    if not total:
        return float(tissue.shape[2]) / 2
    inside = np.flatnonzero((~fill).any(axis=(0, 1)))
    first, last = profile[inside[0]] / profile.max(), profile[inside[-1]] / profile.max()
    if abs(first - last) > CUT_BODY:
        return 0.0 if first > last else float(len(profile))
    return float((profile * np.arange(len(profile))).sum() / total)


def lung_volumes(lung: BoolArray, voxel_ml: float, middle: float) -> tuple[float, float]:
    """Return the volume of the right and of the left lung, in ml.

    Seen from the front, two lungs are two hills with the mediastinum between them: they are divided
    at the deepest place of that valley.  A single hill is one lung.

    Args:
        lung: (z, y, x) mask in canonical axes: x grows towards the patient's left.
        voxel_ml: Volume of a voxel.
        middle: x index of the middle of the body, which tells the side of a single lung.
    """
    area = lung.sum(axis=(0, 1)).astype(float)
    before, behind = np.maximum.accumulate(area), np.maximum.accumulate(area[::-1])[::-1]
    hills = np.minimum(before, behind)
    valley = int(np.argmax(hills - area))
    total = float(area.sum())
    if total and hills[valley] - area[valley] > VALLEY * hills[valley]:
        right = float(area[:valley].sum() + area[valley] / 2)
    else:
        right = total if (area * np.arange(len(area))).sum() / max(total, 1) < middle else 0.0
    return right * voxel_ml, (total - right) * voxel_ml


def _close(mask: Mask, spacing_mm: FloatArray) -> Mask:
    """Close a mask by a ball, through two distance transforms; borders are open.

    A closed mask stays in the box of the mask, so only that is worked on.
    """
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    pad = [int(np.ceil(CLOSING_MM / s)) + 1 for s in spacing_mm]
    padded = np.pad(mask[box], [(p, p) for p in pad])
    radius_mm = CLOSING_MM + ROUNDING_MM
    grown = ndimage.distance_transform_edt(~padded, sampling=spacing_mm) <= radius_mm
    closed = ndimage.distance_transform_edt(grown, sampling=spacing_mm) > radius_mm
    inner = closed[tuple(slice(p, n - p) for p, n in zip(pad, closed.shape, strict=True))]
    out = mask.copy()
    out[box] |= inner
    return out
