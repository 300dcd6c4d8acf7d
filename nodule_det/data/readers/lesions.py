"""The lesion labels of a scan, from a label image or from DICOM SEG and RTSTRUCT files.

ScanEntry ──read_lesions()──▶ (z, y, x) uint8 labels in the scan's grid
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nodule_det.data.readers import dicom_header as tags
from nodule_det.data.readers.dicom import check_series, choose, list_series
from nodule_det.data.readers.dicom_masks import draw_masks, open_mask
from nodule_det.data.readers.read import check_plausible, read_grid, read_mask
from nodule_det.data.readers.stack import Stack
from nodule_det.data.scan import ScanEntry
from nodule_det.errors import ScanError
from nodule_det.geometry import Grid


def read_lesions(entry: ScanEntry) -> NDArray[np.uint8] | None:
    """Read the lesion labels of a scan.

    Returns:
        (z, y, x) labels, 0 is background; None if the entry has no lesion mask.

    Raises:
        ScanError: If a mask or a header of the scan cannot be read, or a mask is of another
            place.
        GeometryError: If a label image has another grid than the scan.
    """
    if entry.lesion_mask is not None:
        return read_mask(entry.lesion_mask, scan_grid(entry))
    if not entry.lesion_objects:
        return None
    stack, frames_of_reference = _stack(entry)
    masks = [open_mask(path) for path in entry.lesion_objects]
    if stack.notes:
        raise ScanError(
            f"{entry.path} has a gantry tilt or unequal gaps, which are corrected: "
            f"{masks[0].path} cannot be placed in it; convert both to NIfTI"
        )
    return draw_masks(masks, stack.grid, frames_of_reference)


def scan_grid(entry: ScanEntry) -> Grid:
    """Read where the voxels of a scan lie, from its headers.

    Raises:
        ScanError: If a header is damaged.
        GeometryError: If it does not say where its voxels lie.
    """
    if entry.path.is_dir():
        return _stack(entry)[0].grid
    return read_grid(entry.path)


def _stack(entry: ScanEntry) -> tuple[Stack, set[str]]:
    """Return the geometry of a DICOM series, and the FrameOfReferenceUIDs of its slices."""
    contents = [list_series(folder) for folder in (entry.path, *entry.folders)]
    ordered, stack = check_series(choose(contents, entry.series_uid))
    check_plausible(stack.grid, entry.path)
    uids = {header.text(tags.FRAME_OF_REFERENCE) for header in ordered}
    return stack, uids - {""}
