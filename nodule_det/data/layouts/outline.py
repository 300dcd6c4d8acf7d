"""The pixels that a reader's outline encloses.

LIDC's outline (``edgeMap``) is a closed chain of pixels that lies just *outside* what it
encloses, so its own pixels do not count: neither to a nodule nor, for an outline with
``inclusion`` FALSE, to the hole in it.

References:
    Armato et al., Medical Physics 38:915-931 (2011), on the outlines.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from nodule_det.arrays import BoolArray, IntArray


def enclosed_pixels(outline: IntArray) -> IntArray:
    """Return the pixels strictly inside an outline.

    Args:
        outline: (n, 2) corners (x, y) of a polygon, in pixels; closed whether or not the last
            corner repeats the first.

    Returns:
        (m, 2) pixels (x, y); none for a single point or a line.

    Example:
        >>> enclosed_pixels(np.array([[0, 0], [2, 0], [2, 2], [0, 2]])).tolist()
        [[1, 1]]
    """
    low, high = outline.min(axis=0), outline.max(axis=0)
    xs, ys = (np.arange(a, b + 1) for a, b in zip(low, high, strict=True))
    pixels = np.stack(np.meshgrid(xs, ys, indexing="ij"), axis=-1).reshape(-1, 2)
    odd, on_edge = np.zeros(len(pixels), bool), np.zeros(len(pixels), bool)
    for start, end in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        crosses, touches = _meets(pixels, start, end)
        odd ^= crosses
        on_edge |= touches
    return pixels[odd & ~on_edge]


def _meets(pixels: IntArray, start: IntArray, end: IntArray) -> tuple[BoolArray, BoolArray]:
    """Return which pixels' rays to the right cross an edge, and which pixels lie on it, exactly."""
    x, y = pixels.T
    (x0, y0), (x1, y1) = start, end
    side = (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0)
    between = (np.minimum(x0, x1) <= x) & (x <= np.maximum(x0, x1))
    between &= (np.minimum(y0, y1) <= y) & (y <= np.maximum(y0, y1))
    rises = (y0 <= y) & (y < y1) & (side > 0)
    falls = (y1 <= y) & (y < y0) & (side < 0)
    return rises | falls, between & (side == 0)


def region_pixels(outlines: Iterable[tuple[IntArray, bool]]) -> IntArray:
    """Return the pixels of one slice that lie inside inclusions and outside holes.

    If the outline of a tiny nodule encloses no pixel, the pixel at its centre is used.  Holes that
    would leave nothing of a nodule are ignored.

    Args:
        outlines: The slice's (outline, inclusion) pairs.

    Returns:
        (m, 2) distinct pixels (x, y).
    """
    kept: set[tuple[int, int]] = set()
    holes: set[tuple[int, int]] = set()
    for outline, inclusion in outlines:
        inside = {(int(x), int(y)) for x, y in enclosed_pixels(outline)}
        if inclusion and not inside:
            x, y = np.rint(outline.mean(axis=0)).astype(int)
            inside = {(int(x), int(y))}
        (kept if inclusion else holes).update(inside)
    return np.array(sorted(kept - holes or kept), np.int64).reshape(-1, 2)
