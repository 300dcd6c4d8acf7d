"""Label maps of lesions and of candidates: which part of a scan's mask belongs to which.

    folder of label images, or a store ──open_masks()──▶ LabelMap of a scan
    LabelMap + points ──▶ parts ──▶ HitRules

A part is a set of connected voxels of the same label (sharing a face, an edge or a corner), so both
binary masks and label maps with one number per lesion work.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nodule_det.analysis import mask_iou_rules, mask_rules
from nodule_det.arrays import FloatArray, IntArray, StrArray
from nodule_det.data.readers.read import image_stem, is_image_file, read_grid, read_mask
from nodule_det.data.store import open_store
from nodule_det.errors import FrocInputError, ScanError
from nodule_det.froc import EXCLUDED_MM, Candidates, HitRules, Lesions
from nodule_det.geometry import Grid
from nodule_det.progress import counted

TOUCHING = np.ones((3, 3, 3))
"""Voxels that share a face, an edge or a corner are connected."""


@dataclass(frozen=True)
class LabelMap:
    """The mask of a scan, split into parts.

    Attributes:
        parts: (z, y, x) number of the part of each voxel, from 1; 0 is background.
        grid: Where its voxels lie.
    """

    parts: NDArray[np.int32]
    grid: Grid

    @classmethod
    def of(cls, labels: NDArray[np.uint8], grid: Grid) -> LabelMap:
        """Number the connected voxels of each label of (z, y, x) labels."""
        parts, n = np.zeros(labels.shape, np.int32), 0
        for label, box in enumerate(ndimage.find_objects(labels), 1):
            if box is not None:
                numbered, more = ndimage.label(labels[box] == label, TOUCHING)
                parts[box] = np.where(numbered, numbered + n, parts[box])
                n += more
        return cls(parts, grid)

    def at(self, world_mm: FloatArray) -> IntArray:
        """Return the part in which each of (n, 3) points lies, 0 for none."""
        voxel = np.rint(self.grid.to_voxel(world_mm)).astype(np.int64).reshape(-1, 3)
        inside = ((voxel >= 0) & (voxel < self.parts.shape)).all(axis=1)
        found = np.zeros(len(voxel), np.int64)
        found[inside] = self.parts[tuple(voxel[inside].T)]
        return found

    def nearest(self, world_mm: FloatArray, reach_mm: float) -> int:
        """Return the part nearest to a point (3,), 0 if none is within reach."""
        if part := int(self.at(world_mm)[0]):
            return part
        center = self.grid.to_voxel(world_mm)
        reach_vox = reach_mm / np.asarray(self.grid.spacing_mm) + 0.5
        low = np.clip(np.floor(center - reach_vox), 0, self.parts.shape).astype(int)
        high = np.clip(np.ceil(center + reach_vox) + 1, 0, self.parts.shape).astype(int)
        box = self.parts[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
        there = np.argwhere(box)
        if not len(there):
            return 0
        away_mm = np.linalg.norm(self.grid.to_world(there + low) - world_mm, axis=1)
        first = int(np.argmin(away_mm))
        return int(box[tuple(there[first])]) if away_mm[first] <= reach_mm else 0


Masks = Callable[[str], LabelMap]
"""Id of a scan -> its mask.  Raises ScanError where there is none."""


def open_masks(path: Path | str) -> Masks:
    """Find the masks of a store, or of a folder of label images.

    Args:
        path: A store whose data set has lesion masks, or a folder with ``UID.nii.gz`` (or another
            image format) for each scan.

    Raises:
        ScanError: If the folder does not exist.
    """
    path = Path(path)
    if not path.is_dir():
        raise ScanError(f"masks={path} is not a folder of label images or a store")
    if (path / "store.json").is_file():
        return _of_store(path)
    files = {image_stem(f): f for f in sorted(path.rglob("*")) if is_image_file(f)}

    def read(uid: str) -> LabelMap:
        if uid not in files:
            raise ScanError(
                f"masks={path} has no label image of scan {uid}, such as {uid}.nii.gz; it has "
                f"{counted(len(files), 'image')}{f', such as {min(files)}' if files else ''}"
            )
        grid = read_grid(files[uid])
        return LabelMap.of(read_mask(files[uid], like=grid), grid)

    return read


def _of_store(path: Path) -> Masks:
    store = open_store(path)
    scans = {scan.series_uid: scan for scan in (*store.scans, *store.test)}

    def read(uid: str) -> LabelMap:
        labels = scans[uid].labels() if uid in scans else None
        if labels is None:
            what = "masks of scan" if uid in scans else "scan"
            raise ScanError(f"the store masks={path} has no {what} {uid}; use the one that has it")
        return LabelMap.of(np.asarray(labels), scans[uid].grid)

    return read


Tables = tuple[Lesions, Candidates, Lesions]
"""Lesions, candidates and excluded findings."""


def rules_of_masks(masks: Masks, cases: StrArray, tables: Tables) -> HitRules:
    """Return the rules by which a candidate inside a lesion's mask is a hit.

    Args:
        masks: Of the lesions.  Only scans with lesions need one.
        cases: Ids of the evaluated scans.
        tables: As they are matched.

    Raises:
        ScanError: If a mask is missing.
        FrocInputError: If a lesion has no part within its radius.
    """
    lesions, candidates, excluded = tables
    of_lesion, of_candidate = (np.zeros(len(t), np.int64) for t in (lesions, candidates))
    for case in np.intersect1d(cases, lesions.case).tolist():
        label_map = masks(case)
        mine = np.flatnonzero(candidates.case == case)
        of_candidate[mine] = label_map.at(candidates.world_mm[mine])
        _find_lesions(label_map, lesions, case, of_lesion)
    return mask_rules(of_lesion, of_candidate, excluded, candidates)


def rules_of_two_masks(
    masks: tuple[Masks, Masks], cases: StrArray, tables: Tables, least_iou: float
) -> HitRules:
    """Return the rules by which a candidate whose own mask overlaps a lesion's is a hit.

    Args:
        masks: Of lesions, and of candidates.  Both masks of a scan must have the same grid.
        cases: Ids of the evaluated scans.
        tables: As they are matched.  A candidate lies in its part of the mask, or near it.
        least_iou: Smallest intersection over union of a hit.

    Raises:
        ScanError: If a mask is missing.
        FrocInputError: If two masks of a scan differ in their grid, or a lesion or candidate has no
            part near it.
    """
    lesions, candidates, _ = tables
    of_lesion, of_candidate = (np.zeros(len(t), np.int64) for t in (lesions, candidates))
    overlaps = {}
    for case in np.intersect1d(cases, lesions.case).tolist():
        truth, found = (read(case) for read in masks)
        if truth.parts.shape != found.parts.shape or not _same_grid(truth.grid, found.grid):
            raise FrocInputError(
                f"the masks of scan {case} have different grids, {truth.grid.size_vox} and "
                f"{found.grid.size_vox} voxels (z, y, x): resample the candidates' mask to the "
                "grid of the lesions' mask"
            )
        _find_lesions(truth, lesions, case, of_lesion)
        for row in np.flatnonzero(candidates.case == case):
            point = candidates.world_mm[row]
            of_candidate[row] = found.nearest(point, EXCLUDED_MM / 2)
            if not of_candidate[row]:
                raise FrocInputError(
                    f"candidate row {row} of scan {case} at {point.round(1).tolist()} mm has no "
                    f"part of the candidates' mask within {EXCLUDED_MM / 2:g} mm"
                )
        overlaps[case] = _ious(truth.parts, found.parts)
    return mask_iou_rules((of_lesion, of_candidate), tables, overlaps, least_iou)


def _find_lesions(label_map: LabelMap, lesions: Lesions, case: str, of_lesion: IntArray) -> None:
    """Set the part of each lesion of a scan."""
    for row in np.flatnonzero(lesions.case == case):
        point, radius = lesions.world_mm[row], float(lesions.diameter_mm[row]) / 2
        of_lesion[row] = label_map.nearest(point, radius)
        if not of_lesion[row]:
            raise FrocInputError(
                f"the mask of scan {case} has no part within {radius:g} mm of the lesion at "
                f"{point.round(1).tolist()} mm (annotation row {row}): is it the mask of this scan?"
            )


def _same_grid(one: Grid, other: Grid) -> bool:
    ends = [[0, 0, 0], [n - 1 for n in one.size_vox]]
    return bool(np.allclose(one.to_world(ends), other.to_world(ends), atol=0.1))


def _ious(truth: NDArray[np.int32], found: NDArray[np.int32]) -> FloatArray:
    """Return (parts + 1, parts + 1) intersection over union of two numbered masks."""
    shape = (int(truth.max()) + 1, int(found.max()) + 1)
    of_truth, of_found = (
        np.bincount(p.ravel(), minlength=n) for p, n in zip((truth, found), shape, strict=True)
    )
    both = np.flatnonzero((truth > 0) & (found > 0))
    pair = truth.ravel()[both].astype(np.int64) * shape[1] + found.ravel()[both]
    common = np.bincount(pair, minlength=shape[0] * shape[1]).reshape(shape)
    union = of_truth[:, None] + of_found - common
    return np.asarray(common / np.maximum(union, 1), np.float64)
