"""The pixels that closed contours enclose.

A pixel is inside if its centre is, by the even-odd rule over all contours of a slice: a contour
inside another one is a hole.  Centres on a contour count as inside, because programs that trace
pixels draw through the centres of the outermost ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nodule_det.arrays import BoolArray, FloatArray

ON_CONTOUR_PX = 1e-3
"""Contours are written with about six digits."""


def fill_contours(contours: Sequence[FloatArray], shape: tuple[int, int]) -> BoolArray:
    """Return the pixels of one slice inside contours.

    Args:
        contours: Corners (n, 2) of each, (row, column) in pixels; 0 is the centre of the first
            pixel.  The last corner is joined to the first.
        shape: (rows, columns).

    Returns:
        (rows, columns) mask.

    Example:
        >>> square = np.array([[0.5, 0.5], [0.5, 2.5], [2.5, 2.5], [2.5, 0.5]])
        >>> fill_contours([square], (4, 4)).sum()
        np.int64(4)
    """
    rows, columns = shape
    start = np.concatenate(contours)
    end = np.concatenate([np.roll(corners, -1, axis=0) for corners in contours])
    near = np.rint(start)  # a corner at a pixel's centre is meant to be there exactly
    start = np.where(np.abs(start - near) < ON_CONTOUR_PX, near, start)
    near = np.rint(end)
    end = np.where(np.abs(end - near) < ON_CONTOUR_PX, near, end)
    mask = np.zeros(shape, bool)
    first = max(int(np.floor(start[:, 0].min())), 0)
    last = min(int(np.ceil(start[:, 0].max())), rows - 1)
    for row in range(first, last + 1):
        mask[row] = _fill_row(row, start, end, columns)
    return mask


def _fill_row(row: int, start: FloatArray, end: FloatArray, columns: int) -> BoolArray:
    low, high = np.minimum(start[:, 0], end[:, 0]), np.maximum(start[:, 0], end[:, 0])
    level = low == high
    met = (low <= row) & (row <= high) & ~level
    a, b = start[met], end[met]
    at = a[:, 1] + (row - a[:, 0]) / (b[:, 0] - a[:, 0]) * (b[:, 1] - a[:, 1])
    crossings = np.sort(at[high[met] > row])  # half open: a corner is crossed once
    filled = np.asarray(np.searchsorted(crossings, np.arange(columns)) % 2 == 1)
    on = np.rint(at)
    on = on[(np.abs(at - on) < ON_CONTOUR_PX) & (on >= 0) & (on < columns)]
    filled[on.astype(np.int64)] = True
    for i in np.flatnonzero(level & (low == row)):
        left, right = sorted((start[i, 1], end[i, 1]))
        filled[max(int(np.ceil(left)), 0) : int(np.floor(right)) + 1] = True
    return filled
