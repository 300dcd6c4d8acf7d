"""Augmentation: how a copy differs from its patch, by a shift and an orientation.

    Patches ──shifted_corners()──▶ where to cut
            ──draw_orientations()──▶ how to rotate it in the batch

Drawing and applying are separate: :func:`rotated` and :func:`unrotated` are views of an array, so
image, target and weight rotate together, and rotating costs no more than copying.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nodule_det.arrays import IntArray
from nodule_det.data.feed.draws import Draws
from nodule_det.data.feed.patches import Patches, admissible_corners


@dataclass(frozen=True, slots=True)
class Rotation:
    """A rotation of the cube onto itself: reorder the axes, then reverse some.

    Attributes:
        axes: For each axis of the result, the corresponding axis of the input.
        flips: For each axis of the result, whether it runs backwards.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    @property
    def handedness(self) -> int:
        """1 for a rotation, -1 for a mirror image."""
        a, b, c = self.axes
        even = (a, b, c) in ((0, 1, 2), (1, 2, 0), (2, 0, 1))
        return (1 if even else -1) * (-1 if sum(self.flips) % 2 else 1)


_ALL = tuple(
    Rotation((a, b, c), (f, g, h))
    for a, b, c in permutations((0, 1, 2))
    for f, g, h in product((False, True), repeat=3)
)

ROTATIONS = tuple(rotation for rotation in _ALL if rotation.handedness == 1)
"""The 24 rotations that turns by 0/90/180/270 degrees in the axial, coronal and sagittal planes
reach one after the other.  The first changes nothing."""


MIRRORED = tuple(Rotation(r.axes, (*r.flips[:2], not r.flips[2])) for r in ROTATIONS)

ORIENTATIONS = ROTATIONS + MIRRORED
"""The 24 rotations, then the mirror image of each along the last axis."""

AXES = np.array([o.axes for o in ORIENTATIONS], np.int64)
FLIPS = np.array([o.flips for o in ORIENTATIONS], bool)


def draw_orientations(draws: Draws, *, rotate: bool, mirror: bool) -> IntArray:
    """Draw one of ``ORIENTATIONS`` per row, uniformly from those that the settings allow.

    Three consecutive random turns would favour some of the 24 rotations, because there are 64
    sequences of turns.
    """
    turned = draws.integers(len(ROTATIONS) if rotate else 1)
    return turned + len(ROTATIONS) * draws.integers(2 if mirror else 1)


def rotated(cube: NDArray[Any], rotation: Rotation) -> NDArray[Any]:
    """View a cube (z, y, x) in its rotated frame.

    Example:
        >>> quarter_turn = Rotation((0, 2, 1), (False, True, False))  # about the z axis
        >>> rotated(np.array([[[1, 2], [3, 4]]]), quarter_turn).tolist()
        [[[2, 4], [1, 3]]]
    """
    return cube.transpose(rotation.axes)[_steps(rotation)]


def unrotated(cube: NDArray[Any], rotation: Rotation) -> NDArray[Any]:
    """View a cube for a rotated patch in the frame before the rotation.

    Data written into ``unrotated(cube, r)`` appears in ``cube`` rotated by ``r``.
    """
    back = tuple(int(axis) for axis in np.argsort(rotation.axes))
    return cube[_steps(rotation)].transpose(back)


def _steps(rotation: Rotation) -> tuple[slice, ...]:
    return tuple(slice(None, None, -1 if flip else 1) for flip in rotation.flips)


def shifted_corners(patches: Patches, shift_vox: int, size_vox: int, draws: Draws) -> IntArray:
    """Draw where to cut shifted copies.

    Args:
        patches: The patches as drawn, n of them.
        shift_vox: Largest shift along each axis, in voxels.
        size_vox: Edge of the patches.
        draws: The generators of these copies.

    Returns:
        (n, 3) corners, drawn uniformly from those within ``shift_vox`` of the patch's own that keep
        its point inside, at least a rim from the faces.  So the range of shifts is reduced where
        the full range would push a lesion's centre out.
    """
    lowest, highest = admissible_corners(patches.point, size_vox)
    low = np.maximum(lowest, patches.corner - shift_vox)
    high = np.minimum(highest, patches.corner + shift_vox)
    moved = [draws.integers(high[:, axis] - low[:, axis] + 1) for axis in range(3)]
    return low + np.stack(moved, axis=1)
