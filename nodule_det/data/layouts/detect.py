"""List the scans of a data set on disk: LUNA16, LIDC-IDRI, Decathlon or a plain folder.

    DataConfig ──detect()──▶ Layout ──list_*()──▶ [ScanEntry] ──ingest──▶ check_findings()

An invalid table stops everything, because it concerns the whole data set.  A fault in one scan is
found when that scan is read, and only that scan fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from nodule_det.config.data import DataConfig, Layout
from nodule_det.data.layouts import folder, luna16, msd
from nodule_det.data.layouts.folder import list_folder
from nodule_det.data.layouts.lidc import list_lidc
from nodule_det.data.layouts.lidc_xml import ROOT, is_reading
from nodule_det.data.layouts.luna16 import list_luna16
from nodule_det.data.layouts.masked import has_masks
from nodule_det.data.layouts.msd import list_msd
from nodule_det.data.readers.read import SUFFIXES, folders_below
from nodule_det.data.readers.voxels import is_regular
from nodule_det.data.scan import ScanEntry
from nodule_det.errors import LayoutError
from nodule_det.geometry import Grid
from nodule_det.progress import counted

LISTERS: dict[Layout, Callable[[Path, DataConfig], list[ScanEntry]]] = {
    Layout.luna16: list_luna16,
    Layout.lidc: list_lidc,
    Layout.msd: list_msd,
    Layout.folder: list_folder,
}


def list_scans(config: DataConfig) -> list[ScanEntry]:
    """List the scans of a data set of any layout; reads only tables and headers.

    Args:
        config: ``source`` (a folder), ``layout``, and the settings of the layout.

    Returns:
        Entries sorted by ``series_uid``.

    Raises:
        LayoutError: If the folder is missing, its layout is not recognised, it does not match
            the layout, or a scan has no mask in ``masks``.
        TableError: If a CSV is damaged or names an unknown series.
        ScanError: If the folder has no scan, or two with the same key.
    """
    root = Path(config.source)
    if not root.is_dir():
        raise LayoutError(f"source={root} is not a folder; use the folder of a data set")
    layout = detect(root, config) if config.layout is Layout.auto else config.layout
    entries = LISTERS[layout](root, config)
    if config.masks is not None:
        entries = with_masks(entries, Path(config.masks))
    return sorted(entries, key=lambda entry: entry.series_uid)


def detect(root: Path, config: DataConfig) -> Layout:
    """Detect the layout of a folder from its files.

    Raises:
        LayoutError: If no layout is recognised; the message says what was looked for.
    """
    if (root / msd.INDEX).is_file():
        return Layout.msd
    for path in _walk(root):
        if luna16.fold_of(path.parent.relative_to(root.parent)) is not None:
            return Layout.luna16
        if path.suffix.lower() == ".xml" and is_reading(path):
            return Layout.lidc
    if config.annotations is not None or (root / folder.ANNOTATIONS).is_file():
        return Layout.folder
    if has_masks(root, config):
        return Layout.folder
    raise LayoutError(
        f"source={root} has no known layout: looked for {msd.INDEX} (msd), for folders "
        f"subset0 ... subset9 with scans (luna16), for XML files of {ROOT} (lidc), and for "
        f"annotations=FILE.csv, {folder.ANNOTATIONS} or lesion masks (folder); set layout= "
        "to select one"
    )


def _walk(root: Path) -> Iterator[Path]:
    for here in folders_below(root):
        try:
            yield from sorted(file for file in here.iterdir() if is_regular(file))
        except OSError:  # reported when the scans are listed
            continue


def with_masks(entries: Sequence[ScanEntry], masks: Path) -> list[ScanEntry]:
    """Return the scans with their lung masks, the images of the same names.

    A scan without a mask has a ``problem``.

    Raises:
        LayoutError: If none of the scans has a mask.
    """
    if not masks.is_dir():
        raise LayoutError(f"masks={masks} is not a folder; use a folder with one image per scan")
    found = [_with_mask(entry, masks) for entry in entries]
    if found and all(entry.lung_mask is None for entry in found):
        raise LayoutError(
            f"masks={masks} has no mask for any of {counted(len(found), 'scan')}: looked for "
            f"images named like them ({found[0].series_uid}{SUFFIXES[0]}, ...)"
        )
    return found


def _with_mask(entry: ScanEntry, masks: Path) -> ScanEntry:
    for suffix in SUFFIXES:
        path = masks / f"{entry.series_uid}{suffix}"
        if path.is_file():
            return replace(entry, lung_mask=path)
    problem = (
        f"masks={masks} has no mask for scan {entry.series_uid}: looked for "
        f"{', '.join(SUFFIXES)} of that name; add it, or leave masks= out to find all lungs"
    )
    return replace(entry, problem=entry.problem or problem)


def check_findings(entry: ScanEntry, grid: Grid) -> None:
    """Refuse a finding that lies outside its scan.

    Args:
        entry: The scan.
        grid: Its grid, known once it is read.

    Raises:
        LayoutError: If a finding lies outside the scan.
    """
    for finding in entry.findings:
        if not grid.contains(finding.center_mm):
            x, y, z = (f"{v:.4g}" for v in finding.center_mm)
            voxel = ", ".join(f"{v:.1f}" for v in grid.to_voxel(finding.center_mm))
            kind = "excluded finding" if finding.excluded else "lesion"
            raise LayoutError(
                f"the {kind} at ({x}, {y}, {z}) mm of scan {entry.series_uid} lies outside it, at "
                f"voxel ({voxel}) (z, y, x) of {' x '.join(map(str, grid.size_vox))}; coordinates "
                "must be world millimetres in LPS: are they voxels, or RAS?"
            )
