"""What goes into FROC analysis: lesions and candidates as columns, all of one length.

Positions are world millimetres (x, y, z), LPS.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nodule_det.errors import FrocInputError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
StrArray = NDArray[np.str_]


@dataclass(frozen=True)
class Lesions:
    """Annotated findings, those that count or those that are excluded.

    Attributes:
        case: (n,) id of the scan.
        world_mm: (n, 3) centres.
        diameter_mm: (n,) diameters; of excluded findings a negative one means 10 mm.
    """

    case: StrArray
    world_mm: FloatArray
    diameter_mm: FloatArray

    def __post_init__(self) -> None:
        _check_columns("lesions", self.case, self.world_mm, self.diameter_mm)

    def __len__(self) -> int:
        return len(self.case)

    def take(self, rows: IntArray) -> Lesions:
        """Give some of them."""
        return Lesions(self.case[rows], self.world_mm[rows], self.diameter_mm[rows])


@dataclass(frozen=True)
class Candidates:
    """What a detector says.

    Attributes:
        case: (n,) id of the scan.
        world_mm: (n, 3) points.
        score: (n,) larger is surer; any scale, negative numbers and logits included.
    """

    case: StrArray
    world_mm: FloatArray
    score: FloatArray

    def __post_init__(self) -> None:
        _check_columns("candidates", self.case, self.world_mm, self.score)

    def __len__(self) -> int:
        return len(self.case)

    def take(self, rows: IntArray) -> Candidates:
        """Give some of them."""
        return Candidates(self.case[rows], self.world_mm[rows], self.score[rows])


def _check_columns(what: str, case: StrArray, world_mm: FloatArray, number: FloatArray) -> None:
    n = len(case)
    if world_mm.shape != (n, 3) or number.shape != (n,):
        raise FrocInputError(
            f"{what} have {n} case ids, positions of shape {world_mm.shape} and numbers of shape "
            f"{number.shape}; needed are ({n}, 3) and ({n},)"
        )
    bad = np.flatnonzero(~np.isfinite(world_mm).all(axis=1))
    if len(bad):
        raise FrocInputError(
            f"{len(bad)} of {n} {what} have a position that is not finite; the first is row "
            f"{bad[0]}, case {case[bad[0]]}, {world_mm[bad[0]].tolist()}"
        )


NO_LESIONS = Lesions(np.empty(0, np.str_), np.empty((0, 3)), np.empty(0))
