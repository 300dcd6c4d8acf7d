"""LUNA16's layout: scans in ``subset0`` ... ``subset9``, three CSVs beside them.

    root/
      annotations.csv            lesions
      annotations_excluded.csv   findings that are not scored; optional
      seriesuids.csv             all series, one per line, no header; optional
      .../subset3/UID.mhd        a scan of fold 3, in any supported format

Subset folders and CSVs may be anywhere below the root; of several CSVs the one nearest to it is
used.  Other folders (``seg-lungs-LUNA16``) are ignored.

References:
    Setio et al., Medical Image Analysis 42:1-13 (2017).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from nodule_det.config.data import DataConfig
from nodule_det.data.layouts.annotations import (
    read_findings,
    refuse_missing,
    refuse_strangers,
)
from nodule_det.data.readers.read import folders_below, join_twins, scans_in
from nodule_det.data.scan import ScanEntry
from nodule_det.errors import LayoutError
from nodule_det.untrusted import read_bytes

SUBSET = re.compile(r"subset(\d+)")
ANNOTATIONS, EXCLUDED, SERIES = "annotations.csv", "annotations_excluded.csv", "seriesuids.csv"
MAX_LIST_BYTES = 64 * 2**20


def list_luna16(root: Path, config: DataConfig) -> list[ScanEntry]:
    """List the scans of a data set in LUNA16's layout.

    Raises:
        LayoutError: If a CSV is ambiguous, or a listed scan is missing and ``partial`` is off.
        TableError: If a CSV is damaged, or names an unknown series.
    """
    masks = Path(config.masks) if config.masks else None
    scans = join_twins(list(_scans(root, masks)))
    if not scans:
        raise LayoutError(
            f"{root} has no scan in a folder subset0 ... subset9; use LUNA16's own folder"
        )
    lesions_path = Path(config.annotations) if config.annotations else nearest(root, ANNOTATIONS)
    if lesions_path is None:
        raise LayoutError(f"{root} has no {ANNOTATIONS}; add annotations=FILE.csv")
    excluded_path = Path(config.excluded) if config.excluded else nearest(root, EXCLUDED)
    lesions = read_findings(lesions_path)
    excluded = read_findings(excluded_path, excluded=True) if excluded_path else {}
    on_disk = {scan.series_uid for scan in scans}
    listed = _listed(root)
    if listed is not None:
        _refuse_unlisted(root, on_disk, listed)
    if not config.partial:
        for path, findings in ((lesions_path, lesions), (excluded_path, excluded)):
            if path is not None:
                refuse_strangers(path, findings, on_disk | (listed or set()), str(root))
        refuse_missing(root, listed or set(), on_disk)
    return [
        replace(
            scan,
            findings=(*lesions.get(scan.series_uid, ()), *excluded.get(scan.series_uid, ())),
        )
        for scan in scans
    ]


def _scans(root: Path, masks: Path | None) -> Iterator[ScanEntry]:
    for folder in folders_below(root, masks):
        fold = fold_of(folder.relative_to(root.parent))
        if fold is not None:
            for scan in scans_in(folder, root)[0]:
                yield replace(scan, fold=fold)


def fold_of(folder: Path) -> int | None:
    """Return the number of the subset folder that a folder is or lies in.

    Example:
        >>> fold_of(Path("LUNA16/subset3/subset3")), fold_of(Path("LUNA16/seg-lungs-LUNA16"))
        (3, None)
    """
    for name in reversed(folder.parts):
        match = SUBSET.fullmatch(name)
        if match:
            return int(match[1])
    return None


def nearest(root: Path, name: str) -> Path | None:
    """Find the file of this name nearest to the root.

    Raises:
        LayoutError: If two are equally near.
    """
    found = sorted(
        (folder / name for folder in folders_below(root) if (folder / name).is_file()),
        key=lambda path: len(path.parts),
    )
    if len(found) > 1 and len(found[0].parts) == len(found[1].parts):
        raise LayoutError(
            f"{root} has {found[0]} and {found[1]}; name the right one (annotations=, excluded=) "
            "or take the other out"
        )
    return found[0] if found else None


def _listed(root: Path) -> set[str] | None:
    """Read the list of series: one UID per line, with or without a header."""
    path = nearest(root, SERIES)
    if path is None:
        return None
    try:
        text = read_bytes(path, MAX_LIST_BYTES).decode("utf-8-sig", errors="replace")
    except (OSError, ValueError) as error:
        raise LayoutError(f"{error}; copy {path.name} again, or delete it") from None
    lines = (line.strip(" ,;\t\r") for line in text.splitlines())
    uids = {line for line in lines if line} - {"seriesuid"}
    if not uids:
        raise LayoutError(f"{path} is empty; it needs one series UID a line, or delete it")
    return uids


def _refuse_unlisted(root: Path, on_disk: set[str], listed: set[str]) -> None:
    strange = sorted(on_disk - listed)
    if strange:
        raise LayoutError(
            f"{root} holds the scan {strange[0]}, which its {SERIES} does not list; "
            "add it there, or take the scan out"
        )
