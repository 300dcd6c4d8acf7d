"""Which candidates are hits: by the distance to the centre, by boxes, or by masks.

None, Boxes, Masks + tables ──read_rules()──▶ HitRules ──▶ froc.match()
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nodule_det.analysis import overlap_rules
from nodule_det.arrays import FloatArray, StrArray
from nodule_det.config.hits import HitBy as HitSetting
from nodule_det.errors import FrocInputError
from nodule_det.evaluate.reading import Job, read_sizes
from nodule_det.froc import Candidates, HitRules, Lesions

LEAST_IOU = 0.1
"""Overlap from which a candidate is a hit: that of nnDetection and PI-CAI."""


@dataclass(frozen=True)
class Boxes:
    """A candidate is a hit if its box overlaps the lesion's.

    Boxes have the columns ``sizeX``, ``sizeY``, ``sizeZ`` (edges in mm), or else ``diameter_mm``,
    the edge of a cube.

    Attributes:
        iou: Smallest intersection over union of a hit.
    """

    iou: float = LEAST_IOU


@dataclass(frozen=True)
class Masks:
    """A candidate is a hit if it lies in the lesion's mask, or if their masks overlap.

    Attributes:
        lesions: Store with lesion masks, or folder of label images ``UID.nii.gz``.
        candidates: The same of the detector.  Without it a candidate's point decides.
        iou: Smallest intersection over union of a hit, if the candidates have masks.
    """

    lesions: Path | str
    candidates: Path | str | None = None
    iou: float = LEAST_IOU


@dataclass(frozen=True)
class Files:
    """The files of lesions, which may have columns of boxes."""

    annotations: Path
    excluded: Path | None


HitBy = Boxes | Masks | None
"""What decides about hits; None for the distance to the centre."""


@dataclass(frozen=True)
class Sizes:
    """(n, 3) edges of boxes in mm: of lesions, candidates and excluded findings."""

    lesions: FloatArray
    candidates: FloatArray
    excluded: FloatArray


def read_rules(
    by: HitBy,
    cases: StrArray,
    tables: tuple[Lesions, Candidates, Lesions],
    sizes: Sizes | None = None,
) -> HitRules | None:
    """Return the rules of hits; None where the distance to the centre decides.

    Args:
        by: What decides.
        cases: Ids of the evaluated scans.
        tables: Lesions, candidates and excluded findings.
        sizes: Their boxes, for ``Boxes``.

    Raises:
        FrocInputError: If a box has no volume, a threshold is not in (0, 1], or a mask does not
            fit.
        ScanError, StoreError: If a mask is missing or cannot be read.
    """
    if by is None:
        return None
    if not isinstance(by, Boxes | Masks):
        raise FrocInputError(
            f"hit={by!r} is not a rule: use Boxes(iou=0.1), Masks(FOLDER), or None for the "
            "distance to the centre"
        )
    lesions, candidates, excluded = tables
    if isinstance(by, Boxes):
        if sizes is None:
            raise FrocInputError("hits by boxes need the sizes of all boxes")
        boxes = ((lesions, sizes.lesions), (candidates, sizes.candidates))
        return overlap_rules(*boxes, (excluded, sizes.excluded), by.iou)
    from nodule_det.evaluate.masks import open_masks, rules_of_masks, rules_of_two_masks

    masks = open_masks(by.lesions)
    if by.candidates is None:
        return rules_of_masks(masks, cases, tables)
    both = (masks, open_masks(by.candidates))
    return rules_of_two_masks(both, cases, tables, by.iou)


def hit_by(hit: HitSetting, iou: float, masks: str, candidate_masks: str) -> HitBy:
    """Return what decides about hits, from the settings of a command."""
    if hit is HitSetting.centre:
        return None
    return Masks(masks, candidate_masks or None, iou) if masks else Boxes(iou)


def rules_of_files(by: HitBy, job: Job, candidates: Path, files: Files) -> HitRules | None:
    """Return the rules of hits, with boxes from the columns of the files.

    Args:
        by: What decides.
        job: The tables.  Its candidates are those of the file.
        candidates: File of the detector.
        files: The other files.
    """
    sizes = None
    if isinstance(by, Boxes):
        excluded = np.empty((0, 3)) if files.excluded is None else read_sizes(files.excluded)
        sizes = Sizes(read_sizes(files.annotations), read_sizes(candidates), excluded)
    return read_rules(by, job.cases, (job.lesions, job.candidates, job.excluded), sizes)


def describe(by: HitBy) -> str:
    """Return what counts as a hit; empty for the distance to the centre."""
    if by is None:
        return ""
    if isinstance(by, Masks) and by.candidates is None:
        return "a hit lies in the lesion's mask"
    what = "mask" if isinstance(by, Masks) else "box"
    return f"a hit is a {what} with an IoU of at least {by.iou:g} with the lesion's"
