"""How the slices of a series lie on each other, and how a tilted or uneven stack becomes a volume.

    sorted slices ──stack_of()──▶ Stack (Grid, where each slice goes) ──assemble()──▶ HU volume

A regular, upright stack is taken as it is.  Two kinds of stack are resampled, linearly, and the
summary says so:

* **gantry tilt**: slices shifted evenly against each other within their plane, by up to 35 degrees.
  Each slice is moved to its place in an upright grid, as dcm2niix does.
* **two spacings**: gaps that jump between two constant values, as two reconstructions joined by the
  archive have.  The wider gaps (at most 5 mm) are filled up to the narrower ones.

Everything else is refused: a missing or doubled slice, irregular gaps or shifts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from nodule_det.arrays import FloatArray
from nodule_det.data.readers import dicom_header as tags
from nodule_det.data.readers.dicom_header import SliceHeader
from nodule_det.data.readers.pixels import EXPORT_AGAIN
from nodule_det.data.scan import MIN_HU, HuVolume
from nodule_det.errors import GeometryError, ScanError
from nodule_det.geometry import Grid, Triple

DOUBLED_MM = 0.01
"""Slices closer than this lie at the same place."""
GAP_TOLERANCE = 0.1
"""How far a slice may be from its place in a regular stack, in gaps: positions are rounded."""
DRIFT_PIXELS = 0.5
"""How far slices may be from where an even tilt puts them, within their plane."""
LARGEST_TILT_DEG = 35.0
"""Gantries tilt by up to 30 degrees."""
LARGEST_GAP_MM = 5.0
LARGEST_RATIO = 5.0
SHORTEST_RUN = 3
"""Gaps of one spacing in a row; a single wide gap is a missing slice."""
SAME_GAP = 0.05
"""How far gaps of one spacing may differ, relative; plus the rounding of positions."""
ROUNDING_MM = 0.02
WHOLE_GAP = 0.15
"""A gap that lacks slices is a multiple of the usual one, to this."""


@dataclass(frozen=True)
class Stack:
    """A series as a volume.

    Attributes:
        grid: Of the finished volume.
        shift_px: (n, 2) first row and column of each slice in the grid, where the stack is tilted.
        between: (m,) place of each of the grid's slices among the n slices, where they are uneven.
        notes: What was corrected, for the summary.
    """

    grid: Grid
    shift_px: FloatArray | None = None
    between: FloatArray | None = None
    notes: tuple[str, ...] = ()


def sort_along_normal(slices: Sequence[SliceHeader]) -> tuple[list[SliceHeader], FloatArray]:
    """Sort slices along their normal.

    Returns:
        The slices, and (3, 3) columns: direction of a row, of a column, and the normal.
    """
    cosines = np.array(slices[0].numbers(tags.ORIENTATION, 6, "ImageOrientationPatient"))
    row, column = cosines[:3], cosines[3:]
    normal = np.cross(row, column)
    ordered = sorted(slices, key=lambda s: float(normal @ np.array(s.position_mm)))
    return ordered, np.stack([row, column, normal], axis=1)


def stack_of(ordered: Sequence[SliceHeader], axes: FloatArray) -> Stack:
    """Find out how sorted slices make a volume.

    Args:
        ordered: Slices along their normal, alike in all but position.
        axes: As :func:`sort_along_normal` returns them.

    Raises:
        ScanError: If a slice is doubled or missing, or the gaps are irregular.
        GeometryError: If the slices are shifted irregularly, or tilted too far.
    """
    if len(ordered) < 2:
        raise ScanError(f"{ordered[0]} is the only slice of its series; a volume needs two or more")
    first = ordered[0]
    positions = np.array([s.position_mm for s in ordered])
    along = (positions - positions[0]) @ axes[:, 2]
    dy, dx = first.numbers(tags.PIXEL_SPACING, 2, "PixelSpacing")
    dz, between = _gaps(ordered, along)
    shift_mm = (positions - positions[0]) @ axes[:, :2]  # (n, 2): along rows (x), along columns (y)
    shift_px = _tilt(ordered, along, shift_mm, dy, dx)
    rows, columns = first.integer(tags.ROWS), first.integer(tags.COLUMNS)
    origin = positions[0]
    notes = []
    if shift_px is not None:
        low = shift_px.min(axis=0)
        origin = origin + axes[:, 1] * low[0] * dy + axes[:, 0] * low[1] * dx
        shift_px = shift_px - low
        rows += int(np.ceil(shift_px[:, 0].max()))
        columns += int(np.ceil(shift_px[:, 1].max()))
        notes.append(f"gantry tilt of {tilt_degrees(along, shift_mm):.1f} degrees corrected")
    if between is not None:
        gaps = np.diff(along)
        notes.append(
            f"slices {gaps.min():.4g} and {gaps.max():.4g} mm apart resampled to {dz:.4g} mm"
        )
    size = (len(ordered) if between is None else len(between), rows, columns)
    try:
        grid = Grid(size, (dz, dy, dx), _triple(origin), _rows(axes))
    except GeometryError as error:
        raise GeometryError(f"{first.path}: {error}") from None
    return Stack(grid, shift_px, between, tuple(notes))


def _triple(values: FloatArray) -> Triple:
    a, b, c = (float(v) for v in values)
    return a, b, c


def _rows(axes: FloatArray) -> tuple[Triple, Triple, Triple]:
    return _triple(axes[0]), _triple(axes[1]), _triple(axes[2])


def _gaps(ordered: Sequence[SliceHeader], along: FloatArray) -> tuple[float, FloatArray | None]:
    """Return the gap in mm, and where the new slices go if there are two kinds of gap."""
    gaps = np.diff(along)
    closest = int(gaps.argmin())
    if gaps[closest] < DOUBLED_MM:
        raise ScanError(
            f"{ordered[closest + 1]} lies at the same place as {ordered[closest].path}, and they "
            "differ: a doubled slice; take one of the two out"
        )
    dz = float(along[-1]) / len(gaps)
    off = np.abs(along - dz * np.arange(len(along)))
    usual = float(np.median(gaps))
    if off.max() <= GAP_TOLERANCE * dz and gaps.max() <= 1.5 * usual:
        return dz, None
    narrow = _narrow_of_two(ordered, gaps)
    if narrow is not None:
        n = int(np.floor(along[-1] / narrow + GAP_TOLERANCE)) + 1
        return narrow, np.interp(narrow * np.arange(n), along, np.arange(len(along)))
    widest = int(gaps.argmax())
    if _are_missing(ordered, gaps / usual):
        raise ScanError(
            f"between {ordered[widest]} and {ordered[widest + 1]} lie {gaps[widest]:g} mm, "
            f"elsewhere {usual:g} mm: {round(gaps[widest] / usual) - 1} slice(s) missing; "
            f"{EXPORT_AGAIN}"
        )
    worst = int(off.argmax())
    raise ScanError(
        f"{ordered[worst]} lies {off[worst]:.3g} mm off its place in a stack of equal gaps of "
        f"{dz:.4g} mm; the gaps run from {gaps.min():.4g} to {gaps.max():.4g} mm, and not in runs "
        f"of two constant ones of at most {LARGEST_GAP_MM:g} mm: resample the series to equal gaps "
        "first"
    )


def _are_missing(ordered: Sequence[SliceHeader], ratios: FloatArray) -> bool:
    """Return whether the wide gaps are multiples of the usual one where slices are missing.

    A run of wide gaps is a wider spacing, unless the InstanceNumbers skip there.
    """
    found, at = False, 0
    for is_wide, run in groupby(ratios > 1.5):
        n = len(list(run))
        part = ratios[at : at + n]
        if is_wide:
            whole = np.abs(part - np.rint(part)).max() < WHOLE_GAP
            skip = n < SHORTEST_RUN or _numbers_skip(ordered[at : at + n + 1], float(part.mean()))
            if not (whole and skip):
                return False
            found = True
        at += n
    return found


def _narrow_of_two(ordered: Sequence[SliceHeader], gaps: FloatArray) -> float | None:
    """Return the narrower of two constant gaps that come in runs; None if they are not such."""
    low, high = float(gaps.min()), float(gaps.max())
    if high > min(LARGEST_GAP_MM + ROUNDING_MM, LARGEST_RATIO * low):
        return None
    wide = gaps > (low + high) / 2
    for part in (gaps[wide], gaps[~wide]):
        if np.abs(part - np.median(part)).max() > SAME_GAP * np.median(part) + ROUNDING_MM:
            return None
    at = 0
    for is_wide, run in groupby(wide):
        n = len(list(run))
        if n < SHORTEST_RUN or (is_wide and _numbers_skip(ordered[at : at + n + 1], high / low)):
            return None
        at += n
    return float(np.median(gaps[~wide]))


def _numbers_skip(run: Sequence[SliceHeader], ratio: float) -> bool:
    """Return whether the InstanceNumbers of a run of wide gaps leave out as many as fit in."""
    try:
        numbers = [int(header.text(tags.INSTANCE)) for header in run]
    except ValueError:
        return False
    steps = np.abs(np.diff(numbers))
    return bool((steps > 1).all() and np.abs(steps - ratio).max() < 0.5)


def tilt_degrees(along: FloatArray, shift_mm: FloatArray) -> float:
    """Return the tilt of a stack whose last slice is shifted by ``shift_mm[-1]``."""
    return float(np.degrees(np.arctan2(np.linalg.norm(shift_mm[-1]), along[-1])))


def _tilt(
    ordered: Sequence[SliceHeader], along: FloatArray, shift_mm: FloatArray, dy: float, dx: float
) -> FloatArray | None:
    """Return the (n, 2) shift of each slice in rows and columns; None for an upright stack."""
    pixel_mm = min(dy, dx)
    away = np.linalg.norm(shift_mm, axis=1)
    if away.max() <= DRIFT_PIXELS * pixel_mm:
        return None
    uneven = np.linalg.norm(shift_mm - np.outer(along / along[-1], shift_mm[-1]), axis=1)
    worst = int(uneven.argmax())
    if uneven[worst] > DRIFT_PIXELS * pixel_mm:
        raise GeometryError(
            f"{ordered[worst]} is shifted within its plane by {uneven[worst]:.3g} mm against the "
            f"line from {ordered[0]} to {ordered[-1]}: the slices do not lie on each other; "
            f"{EXPORT_AGAIN}"
        )
    degrees = tilt_degrees(along, shift_mm)
    if degrees > LARGEST_TILT_DEG:
        raise GeometryError(
            f"{ordered[-1]} is shifted within its plane by {away[-1]:.3g} mm against {ordered[0]}: "
            f"a tilt of {degrees:.0f} degrees, more than a gantry's {LARGEST_TILT_DEG:g}; "
            f"{EXPORT_AGAIN}"
        )
    return np.stack([shift_mm[:, 1] / dy, shift_mm[:, 0] / dx], axis=1)


def assemble(volume: HuVolume, stack: Stack) -> HuVolume:
    """Bring the slices of a series to the grid of its stack.

    Args:
        volume: (n, y, x) HU of the sorted slices.
        stack: Where they go.

    Returns:
        (z, y, x) HU of ``stack.grid``; ``MIN_HU`` where no slice reaches.
    """
    if stack.shift_px is not None:
        out = np.full((len(volume), *stack.grid.size_vox[1:]), MIN_HU, np.int16)
        for k, (down, right) in enumerate(stack.shift_px):
            _place(volume[k], out[k], float(down), float(right))
        volume = out
    if stack.between is not None:
        below = np.minimum(stack.between.astype(int), len(volume) - 2)
        share = (stack.between - below).astype(np.float32)
        blended = np.empty(stack.grid.size_vox, np.int16)
        for k, (b, s) in enumerate(zip(below, share, strict=True)):
            blended[k] = np.rint((1 - s) * volume[b] + s * volume[b + 1])
        volume = blended
    return volume


def _place(pixels: HuVolume, out: HuVolume, down: float, right: float) -> None:
    """Put a slice into a larger one, its first pixel at a row and column between pixels."""
    y, x = int(down), int(right)
    padded = np.pad(pixels.astype(np.float32), 1, constant_values=MIN_HU)
    fy, fx = down - y, right - x
    rows = (1 - fy) * padded[1:] + fy * padded[:-1]
    moved = (1 - fx) * rows[:, 1:] + fx * rows[:, :-1]
    there = out[y : y + len(moved), x : x + moved.shape[1]]
    there[:] = np.rint(moved[: there.shape[0], : there.shape[1]])
