"""A plain folder of scans in any format, and one CSV of lesions or a lesion mask per scan.

The CSV is ``annotations=FILE.csv``, or ``annotations.csv`` in the folder, with LUNA16's columns.
``seriesuid`` is a file's stem or a DICOM SeriesInstanceUID.  A scan that the CSV does not mention
has no lesions.  Without a CSV, lesions are read from masks (``masked.py``).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nodule_det.config.data import DataConfig
from nodule_det.data.layouts.annotations import read_findings, refuse_strangers
from nodule_det.data.layouts.masked import has_masks, list_masked
from nodule_det.data.readers.read import find_scans
from nodule_det.data.scan import ScanEntry
from nodule_det.errors import LayoutError

ANNOTATIONS, EXCLUDED = "annotations.csv", "annotations_excluded.csv"


def list_folder(root: Path, config: DataConfig) -> list[ScanEntry]:
    """List the scans of a plain folder.

    Raises:
        LayoutError: If there is neither a CSV of lesions nor a lesion mask.
        ScanError: If the folder has no scan, or two with the same key.
        TableError: If a CSV is damaged, or names a missing series and ``partial`` is off.
    """
    lesions_path = Path(config.annotations) if config.annotations else root / ANNOTATIONS
    excluded_path = Path(config.excluded) if config.excluded else root / EXCLUDED
    has_excluded = config.excluded is not None or excluded_path.is_file()
    if config.annotations is not None or lesions_path.is_file():
        scans = find_scans(root, exclude=Path(config.masks) if config.masks else None)
        lesions = read_findings(lesions_path)
    elif has_masks(root, config):
        scans, lesions = list_masked(root, config), {}
    else:
        raise LayoutError(
            f"{root} has no {ANNOTATIONS}; add annotations=FILE.csv with the columns "
            "seriesuid,coordX,coordY,coordZ,diameter_mm, or lesion masks: images in a folder "
            "labels beside images, DICOM SEG or RTSTRUCT"
        )
    excluded = read_findings(excluded_path, excluded=True) if has_excluded else {}
    if not config.partial:
        known = {scan.series_uid for scan in scans}
        refuse_strangers(lesions_path, lesions, known, str(root))
        refuse_strangers(excluded_path, excluded, known, str(root))
    return [
        replace(
            scan,
            findings=(
                *scan.findings,
                *lesions.get(scan.series_uid, ()),
                *excluded.get(scan.series_uid, ()),
            ),
        )
        for scan in scans
    ]
