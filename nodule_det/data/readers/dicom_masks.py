"""DICOM segmentations (SEG) and RT structure sets (RTSTRUCT) -> labels in the grid of their scan.

    file ──open_mask()──▶ MaskObject (which series) ──draw_masks()──▶ (z, y, x) uint8 labels

Frames and contours are placed by their world positions, whatever their order.  What does not lie on
the voxels of the scan to 0.1 mm is refused and never moved.

References:
    DICOM PS3.3, A.51 and C.8.20 (Segmentation), A.19 and C.8.8.5, C.8.8.6 (structure set).
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nodule_det.arrays import BoolArray, FloatArray, IntArray
from nodule_det.data.readers.contours import ON_CONTOUR_PX, fill_contours
from nodule_det.errors import NoduleDetError, ScanError
from nodule_det.geometry import Grid

SEG_CLASS = "1.2.840.10008.5.1.4.1.1.66.4"
RTSTRUCT_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"
MASK_CLASSES = {SEG_CLASS, RTSTRUCT_CLASS}
OFF_GRID_MM = 0.1
"""How far a frame or contour may be from the voxels of its scan."""
SAME_STEP = 1e-3
"""How far a pixel's step may differ from a voxel's, relative."""
MOST_LABELS = 255
EXTRA = "pip install 'nodule_det[dicom]'"


@dataclass(frozen=True, slots=True)
class MaskObject:
    """A SEG or RTSTRUCT file.

    Attributes:
        path: The file.
        series_uids: The series that it references.
        dataset: As pydicom reads it.
    """

    path: Path
    series_uids: tuple[str, ...]
    dataset: Any


def open_mask(path: Path) -> MaskObject:
    """Open a SEG or RTSTRUCT file.

    Raises:
        ScanError: If pydicom is not installed, or the file is damaged or references no series.
    """
    try:
        from pydicom import dcmread
    except ImportError:
        raise ScanError(
            f"{path} is a DICOM segmentation or structure set, which needs pydicom to be read: "
            f"{EXTRA}"
        ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = dcmread(path)
            uids = tuple(dict.fromkeys(str(uid) for uid in _referenced(dataset)))
    except Exception as error:  # a damaged file ends pydicom in any of a dozen ways
        raise _damaged(path, error) from None
    if not uids:
        raise ScanError(
            f"{path} does not reference the series that it was drawn on; export it again"
        )
    return MaskObject(path, uids, dataset)


def _damaged(path: Path, error: Exception) -> ScanError:
    text = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return ScanError(f"{path} is damaged or lacks a tag ({text}); export it again")


def _referenced(dataset: Any) -> Iterator[Any]:
    for series in dataset.get("ReferencedSeriesSequence", []):
        yield series.SeriesInstanceUID
    for frame in dataset.get("ReferencedFrameOfReferenceSequence", []):
        for study in frame.get("RTReferencedStudySequence", []):
            for series in study.get("RTReferencedSeriesSequence", []):
                yield series.SeriesInstanceUID


def draw_masks(
    masks: Sequence[MaskObject], grid: Grid, frames_of_reference: Collection[str]
) -> NDArray[np.uint8]:
    """Draw all segments and ROIs of a scan into its grid.

    Args:
        masks: The objects that reference the scan.
        grid: Of the scan.
        frames_of_reference: FrameOfReferenceUIDs of its slices; empty if they have none.

    Returns:
        (z, y, x) labels: 0 is background, segments are counted from 1 over all objects.

    Raises:
        ScanError: If an object is damaged or of a kind that is not read, has another frame of
            reference, a segment that is empty, overlaps another or does not lie on the voxels
            of the scan.
    """
    labels = np.zeros(grid.size_vox, np.uint8)
    count = 0
    for mask in masks:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                draw = _seg if str(mask.dataset.SOPClassUID) == SEG_CLASS else _rtstruct
                for name, voxels in draw(mask, grid, frames_of_reference):
                    count += 1
                    _add(labels, voxels, count, f"{mask.path}, {name}")
        except (NoduleDetError, MemoryError):
            raise
        except Exception as error:  # a damaged file ends pydicom in any of a dozen ways
            raise _damaged(mask.path, error) from None
    return labels


def _add(labels: NDArray[np.uint8], voxels: IntArray, number: int, name: str) -> None:
    if number > MOST_LABELS:
        raise ScanError(f"{name} is one more than {MOST_LABELS} segments; export fewer per scan")
    if not len(voxels):
        raise ScanError(f"{name} is empty; take it out, or draw it again")
    at = tuple(voxels.T)
    other = labels[at]
    if other.any():
        raise ScanError(
            f"{name} overlaps segment {other[other > 0][0]} of the scan in "
            f"{np.count_nonzero(other)} voxels; keep one of them"
        )
    labels[at] = number


def _check_frame_of_reference(uid: str, known: Collection[str], name: str) -> None:
    if known and uid not in known:
        raise ScanError(
            f"{name} has FrameOfReferenceUID={uid!r}, its scan has {min(known)}: its coordinates "
            "are not those of the scan; export it on this series"
        )


# --- SEG


def _seg(
    mask: MaskObject, grid: Grid, frames_of_reference: Collection[str]
) -> Iterator[tuple[str, IntArray]]:
    dataset = mask.dataset
    if dataset.SegmentationType != "BINARY":
        raise ScanError(
            f"{mask.path} has SegmentationType={str(dataset.SegmentationType)[:20]!r}; expected "
            "BINARY: export it again"
        )
    uid = str(dataset.get("FrameOfReferenceUID", ""))
    _check_frame_of_reference(uid, frames_of_reference, str(mask.path))
    groups = dataset.PerFrameFunctionalGroupsSequence
    pixels = dataset.pixel_array.reshape(-1, int(dataset.Rows), int(dataset.Columns))
    if len(groups) != len(pixels):
        raise ScanError(
            f"{mask.path} has {len(pixels)} frames and {len(groups)} positions; export it again"
        )
    found: dict[int, list[IntArray]] = {int(s.SegmentNumber): [] for s in dataset.SegmentSequence}
    shared = dataset.get("SharedFunctionalGroupsSequence", [{}])[0]
    for k, (group, frame) in enumerate(zip(groups, pixels, strict=True), 1):
        segment = _group(group, shared, "SegmentIdentificationSequence")
        number = int(segment.ReferencedSegmentNumber)
        if frame.any():
            name = f"{mask.path}, frame {k}"
            found[number].append(_frame_voxels(frame > 0, group, shared, grid, name))
    for number, voxels in sorted(found.items()):
        joined = np.concatenate(voxels) if voxels else np.empty((0, 3), np.int64)
        if len(np.unique(joined, axis=0)) < len(joined):
            raise ScanError(
                f"{mask.path}, segment {number} has two frames at one place; export it again"
            )
        yield f"segment {number}", joined


def _group(group: Any, shared: Any, keyword: str) -> Any:
    """Return a functional group of a frame, its own or the one of all frames."""
    items = group.get(keyword) or shared.get(keyword)
    if not items:
        raise KeyError(f"no {keyword}")
    return items[0]


def _frame_voxels(frame: BoolArray, group: Any, shared: Any, grid: Grid, name: str) -> IntArray:
    """Return the voxels (n, 3) (z, y, x) of a frame's pixels."""
    position = _group(group, shared, "PlanePositionSequence").ImagePositionPatient
    cosines = _group(group, shared, "PlaneOrientationSequence").ImageOrientationPatient
    measures = _group(group, shared, "PixelMeasuresSequence")
    dy, dx = (float(v) for v in measures.PixelSpacing)
    origin = np.array(position, np.float64)
    along_row = np.array(cosines[:3], np.float64) * dx
    along_column = np.array(cosines[3:], np.float64) * dy
    steps = grid.to_voxel(origin + np.stack([along_row, along_column])) - grid.to_voxel(origin)
    axes = np.abs(np.rint(steps)).sum(axis=0)
    if not np.allclose(steps, np.rint(steps), atol=SAME_STEP) or sorted(axes) != [0, 1, 1]:
        raise ScanError(
            f"{name} has pixels of {dy:g} x {dx:g} mm along {_shown(cosines)}, which are not the "
            "voxels of its scan; resample it to the scan, and export it again"
        )
    gap = measures.get("SpacingBetweenSlices")
    expected = grid.spacing_mm[int(np.flatnonzero(axes == 0)[0])]
    if gap is not None and abs(float(gap) - expected) > max(OFF_GRID_MM, 0.01 * expected):
        raise ScanError(
            f"{name} has SpacingBetweenSlices={float(gap):g} mm, its scan has {expected:.4g} mm; "
            "resample it to the scan, and export it again"
        )
    row, column = np.nonzero(frame)
    return _on_grid(grid, origin + column[:, None] * along_row + row[:, None] * along_column, name)


def _shown(values: Any) -> str:
    return "\\".join(f"{float(v):g}" for v in values)


def _on_grid(grid: Grid, world: FloatArray, name: str) -> IntArray:
    voxel = grid.to_voxel(world)
    whole = np.rint(voxel)
    off_mm = float((np.abs(voxel - whole) * grid.spacing_mm).max())
    if not off_mm <= OFF_GRID_MM:
        raise ScanError(
            f"{name} lies {off_mm:.3g} mm off the voxels of its scan; resample it to the scan, and "
            "export it again"
        )
    if (whole < 0).any() or (whole >= grid.size_vox).any():
        raise ScanError(f"{name} lies outside its scan; was it drawn on another series?")
    return np.asarray(whole, np.int64)


# --- RTSTRUCT


def _rtstruct(
    mask: MaskObject, grid: Grid, frames_of_reference: Collection[str]
) -> Iterator[tuple[str, IntArray]]:
    drawn: dict[int, list[Any]] = {}
    for item in mask.dataset.get("ROIContourSequence", []):
        contours = drawn.setdefault(int(item.ReferencedROINumber), [])
        contours += item.get("ContourSequence", None) or []
    rois = mask.dataset.StructureSetROISequence
    if not rois:
        raise ScanError(f"{mask.path} has no ROI; take it out, or draw one")
    for roi in rois:
        number = int(roi.ROINumber)
        name = f"{mask.path}, ROI {number}"
        uid = str(roi.get("ReferencedFrameOfReferenceUID", ""))
        _check_frame_of_reference(uid, frames_of_reference, name)
        yield f"ROI {number}", _roi_voxels(drawn.get(number, []), grid, name)


def _roi_voxels(contours: Sequence[Any], grid: Grid, name: str) -> IntArray:
    """Return the voxels (n, 3) (z, y, x) inside the contours of an ROI."""
    by_slice: dict[int, list[FloatArray]] = {}
    for contour in contours:
        kind = str(contour.ContourGeometricType)
        if kind != "CLOSED_PLANAR":
            raise ScanError(
                f"{name} has a contour of type {kind[:20]!r}; expected CLOSED_PLANAR: export the "
                "ROI again"
            )
        k, corners = _in_slice(contour.ContourData, grid, name)
        by_slice.setdefault(k, []).append(corners)
    if len(by_slice) > 1 and int(np.diff(sorted(by_slice)).min()) > 1:
        raise ScanError(
            f"{name} has no contours on neighbouring slices of its scan; fill the slices between "
            "them, and export the ROI again"
        )
    found = [np.empty((0, 3), np.int64)]
    for k, corners_of in sorted(by_slice.items()):
        filled = np.argwhere(fill_contours(corners_of, grid.size_vox[1:]))
        found.append(np.insert(filled, 0, k, axis=1))
    return np.concatenate(found)


def _in_slice(data: Any, grid: Grid, name: str) -> tuple[int, FloatArray]:
    """Return the slice of a contour, and its corners (n, 2) (row, column) there."""
    voxel = grid.to_voxel(np.array(data, np.float64).reshape(-1, 3))
    k = int(np.rint(voxel[:, 0].mean()))
    off_mm = float(np.abs(voxel[:, 0] - k).max()) * grid.spacing_mm[0]
    if not off_mm <= OFF_GRID_MM:
        raise ScanError(
            f"{name} has a contour {off_mm:.3g} mm off the slices of its scan; export the ROI on "
            "this series"
        )
    size = np.array(grid.size_vox)
    edge = 0.5 + ON_CONTOUR_PX
    inside = (voxel[:, 1:] >= -edge) & (voxel[:, 1:] <= size[1:] - 1 + edge)
    if not (0 <= k < size[0] and inside.all()):
        raise ScanError(f"{name} has a contour outside its scan; was it drawn on another series?")
    return k, voxel[:, 1:]
