"""The records that all readers and layouts speak in: a scan, its findings, and where it lies.

layout (luna16, lidc, msd, folder) ──▶ ScanEntry ──read_scan()──▶ Scan ──ingest──▶ store
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nodule_det.arrays import BoolArray
from nodule_det.errors import ScanError
from nodule_det.geometry import Grid, Triple
from nodule_det.progress import counted

HuVolume = NDArray[np.int16]

MIN_HU, MAX_HU = -1024, 3071
"""Range of a 12-bit CT; darker is padding outside the scanner's circle, brighter is metal."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A marked place in a scan: a lesion, or an excluded finding.

    Attributes:
        center_mm: World (x, y, z) in mm, LPS.
        diameter_mm: Diameter of the lesion; never negative (layouts replace LUNA16's -1 by
            ``DEFAULT_EXCLUDED_MM``).
        excluded: Neither lesion nor background: candidates there count as nothing, and nothing
            is trained on there.
        attributes: What else the annotation says (texture, readers, label of the mask ...).
    """

    center_mm: Triple
    diameter_mm: float
    excluded: bool = False
    attributes: dict[str, str] = field(default_factory=dict)


DEFAULT_EXCLUDED_MM = 10.0
"""Diameter of an excluded finding whose annotation gives none (LUNA16's rule)."""


@dataclass(frozen=True, slots=True)
class ScanEntry:
    """One scan of a data set, before any voxel is read.

    Attributes:
        series_uid: DICOM SeriesInstanceUID, or the file's stem where the format has none.
        path: Image file, or folder of a DICOM series.
        patient_key: Same for scans of one patient, and never the patient's own identifier: splits
            only need to know which scans belong together.
        findings: Lesions and excluded findings.
        fold: Fold that the layout itself gives (LUNA16's subsets), or None.
        test: Whether the layout itself puts it into a test set (``imagesTs`` of nnU-Net).
        lesion_mask: Label image of the lesions in the scan's own grid, where the layout has one.
        lesion_objects: DICOM SEG and RTSTRUCT files of the lesions, where the layout has them.
        lung_mask: User's lung mask in the scan's own grid, where given.
        folders: Further folders with slices of the same DICOM series.
        problem: Why the scan cannot be read, where listing it showed that already: it costs this
            scan, not the others.
    """

    series_uid: str
    path: Path
    patient_key: str
    findings: tuple[Finding, ...] = ()
    fold: int | None = None
    lesion_mask: Path | None = None
    lung_mask: Path | None = None
    folders: tuple[Path, ...] = ()
    lesion_objects: tuple[Path, ...] = ()
    problem: str | None = None
    test: bool = False


@dataclass(frozen=True, slots=True)
class Scan:
    """A CT volume in memory.

    Attributes:
        series_uid: Our key for the scan.
        volume_hu: (z, y, x) int16 Hounsfield units, clipped to [``MIN_HU``, ``MAX_HU``].
        grid: Where its voxels lie.
        notes: What the reader corrected (a gantry tilt, uneven slices), for the summary.
    """

    series_uid: str
    volume_hu: HuVolume
    grid: Grid
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Prepared:
    """A scan as it is stored and searched: isotropic voxels, cropped to the lungs.

    Attributes:
        volume_hu: (z, y, x) int16 HU.
        grid: Where its voxels lie.
        lung: (z, y, x) mask of the lungs in the same grid.
        labels: (z, y, x) uint8 lesion labels in the same grid, where the data set has them.
        source_spacing_mm: (z, y, x) spacing of the scan before it was resampled.
        lung_ml: Volume of the right and of the left lung, in ml.
        notes: What was corrected in the scan and what is implausible, for the summary.
        source_grid: Where the voxels of the scan lay before it was resampled.
    """

    volume_hu: HuVolume
    grid: Grid
    lung: BoolArray
    labels: NDArray[np.uint8] | None
    source_spacing_mm: Triple
    lung_ml: tuple[float, float] = (0.0, 0.0)
    notes: tuple[str, ...] = ()
    source_grid: Grid | None = None


def to_hu(values: NDArray[Any], name: str) -> HuVolume:
    """Round and clip Hounsfield units of any number type to int16.

    Args:
        values: Any shape, HU.
        name: File or slice, for the error.

    Raises:
        ScanError: If a value is NaN or infinite.
    """
    if values.dtype.kind == "f":
        bad = int(values.size - np.count_nonzero(np.isfinite(values)))
        if bad:
            raise ScanError(
                f"{name} has {counted(int(bad), 'NaN or infinite voxel')}; export the scan again"
            )
        values = np.rint(values)
    hu: HuVolume = np.clip(values, MIN_HU, MAX_HU).astype(np.int16, copy=False)
    return hu
