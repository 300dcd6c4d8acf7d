"""A plain folder of scans whose lesions are masks, without a CSV.

    images/X.nii.gz + labels/X.nii.gz ─┐
    DICOM series + SEG or RTSTRUCT ────┴──▶ one finding per component (of a segment or ROI)

A scan without a mask is refused: it may have lesions that were not drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nodule_det.config.data import DataConfig
from nodule_det.data.layouts.msd import components
from nodule_det.data.readers.dicom_header import SOP_UID, SliceHeader, patient_key
from nodule_det.data.readers.dicom_masks import open_mask
from nodule_det.data.readers.lesions import read_lesions, scan_grid
from nodule_det.data.readers.read import (
    clean_name,
    find_scans_and_masks,
    folders_below,
    image_stem,
    is_image_file,
    mask_folders,
)
from nodule_det.data.scan import Finding, ScanEntry
from nodule_det.errors import GeometryError, ScanError
from nodule_det.geometry import Grid
from nodule_det.progress import Progress

LARGEST_MM = 100.0
"""Half a litre: a larger component is an organ."""


@dataclass(slots=True)
class Masks:
    """What a data set has of lesion masks.

    Attributes:
        labels: (folder, name) of images -> their label images.
        objects: Series UID -> SEG and RTSTRUCT files that reference it.
        unread: What is wrong with each SEG or RTSTRUCT file that cannot be read.
    """

    labels: dict[tuple[Path, str], list[Path]] = field(default_factory=dict)
    objects: dict[str, list[Path]] = field(default_factory=dict)
    unread: dict[Path, str] = field(default_factory=dict)


def has_masks(root: Path, config: DataConfig) -> bool:
    """Return whether a folder holds label images beside images, SEG or RTSTRUCT files."""
    exclude = _lung_masks(config)
    if _label_images(root, exclude):
        return True
    try:
        return bool(find_scans_and_masks(root, exclude)[1])
    except ScanError:  # no scan
        return False


def list_masked(root: Path, config: DataConfig) -> list[ScanEntry]:
    """List the scans of a folder with the lesions of their masks; reads every mask.

    A scan without a mask, or with one that cannot be used, has a ``problem``; with ``partial``,
    scans without a mask are left out.

    Raises:
        ScanError: If there is no scan.
    """
    exclude = _lung_masks(config)
    scans, headers = find_scans_and_masks(root, exclude)
    masks = _sort(headers, _label_images(root, exclude))
    entries = []
    with Progress("lesion masks", len(scans)) as progress:
        for scan in scans:
            entry = scan if scan.problem else _with_mask(scan, masks)
            if entry is not None:
                entries.append(_with_findings(entry))
            elif not config.partial:
                entries.append(replace(scan, problem=_lacking(scan, masks)))
            progress.advance()
    if config.partial:
        return entries
    return entries + _without_scan(masks, {scan.series_uid for scan in scans})


def _lung_masks(config: DataConfig) -> Path | None:
    return Path(config.masks) if config.masks else None


def _label_images(root: Path, exclude: Path | None) -> dict[tuple[Path, str], list[Path]]:
    """List the label images beside folders of images, by the image's folder and name."""
    found: dict[tuple[Path, str], list[Path]] = {}
    for images in folders_below(root, exclude):
        if images == root or not images.name.lower().startswith("images"):
            continue
        try:
            folders = [f for f in mask_folders(images) if exclude is None or not _same(f, exclude)]
            labels = [f for folder in folders for f in sorted(folder.iterdir())]
        except OSError:  # listing the scans says it
            continue
        for label in filter(is_image_file, labels):
            found.setdefault((images, image_stem(label)), []).append(label)
    return found


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def _sort(headers: Sequence[SliceHeader], labels: dict[tuple[Path, str], list[Path]]) -> Masks:
    masks = Masks(labels)
    by_uid = {header.text(SOP_UID) or str(header.path): header.path for header in headers}
    for path in sorted(by_uid.values()):  # copies count once
        try:
            for uid in open_mask(path).series_uids:
                masks.objects.setdefault(uid, []).append(path)
        except ScanError as error:
            masks.unread[path] = str(error)
        except OSError as error:
            masks.unread[path] = f"{path} cannot be read ({error.strerror})"
    return masks


def _with_mask(scan: ScanEntry, masks: Masks) -> ScanEntry | None:
    """Return a scan with its mask, or with a problem if it has two; None if it has none."""
    labels = list(masks.labels.get((scan.path.parent, image_stem(scan.path)), []))
    if scan.path.is_dir():
        labels += masks.labels.get((scan.path.parent, scan.series_uid), [])
        labels += masks.labels.get((scan.path, scan.series_uid), [])
    objects = masks.objects.get(scan.series_uid, []) if scan.path.is_dir() else []
    if len(labels) > 1 or (labels and objects):
        names = " and ".join(str(path) for path in [*labels, *objects])
        return replace(scan, problem=f"{scan.path} has several lesion masks: {names}; keep one")
    if labels:
        return replace(scan, lesion_mask=labels[0])
    if objects:
        return replace(scan, lesion_objects=tuple(objects))
    return None


def _lacking(scan: ScanEntry, masks: Masks) -> str:
    """Say why a scan has no mask."""
    beside = [path for path in masks.unread if scan.path.is_dir()]
    if beside:  # which series it references is not known: it may be this one
        return masks.unread[beside[0]]
    stem = image_stem(scan.path)
    kinds = f"an image {stem} in a folder labels or masks beside images"
    if scan.path.is_dir():
        kinds = f"a DICOM SEG or RTSTRUCT that references series {scan.series_uid}, or {kinds}"
    return (
        f"{scan.path} has no lesion mask: looked for {kinds}; add it, set annotations=FILE.csv, or "
        "set partial=true to leave out scans without a mask"
    )


def _without_scan(masks: Masks, known: set[str]) -> list[ScanEntry]:
    """Return an entry with a problem for each object of which no series is there."""
    used = {path for uid in known for path in masks.objects.get(uid, [])}
    found = []
    for uid, paths in masks.objects.items():
        for path in paths:
            if path not in used:
                used.add(path)
                problem = (
                    f"{path} references series {clean_name(uid)}, which the data set does not "
                    "have; add the series, take the file out, or set partial=true"
                )
                name = clean_name(f"{path.name} of {uid}".replace("/", "_"))
                found.append(ScanEntry(name, path, patient_key(uid), problem=problem))
    return found


def _with_findings(entry: ScanEntry) -> ScanEntry:
    if entry.problem:
        return entry
    try:
        labels = read_lesions(entry)
        if labels is None:
            return entry
        found = tuple(_findings(labels, scan_grid(entry), bool(entry.lesion_objects)))
    except (ScanError, GeometryError) as error:
        return replace(entry, problem=str(error))
    except (OSError, MemoryError) as error:
        return replace(entry, problem=f"the lesion mask of {entry.path} cannot be read ({error})")
    for finding in found:
        if finding.diameter_mm > LARGEST_MM:
            mask = entry.lesion_mask or entry.lesion_objects[0]
            number = finding.attributes.get("segment", "1")
            return replace(
                entry,
                problem=f"{mask} has a lesion (segment {number}) of {finding.diameter_mm:.0f} mm: "
                "it must be an organ; export the lesions only, or set masks= for lungs",
            )
    return replace(entry, findings=found)


def _findings(labels: NDArray[np.uint8], grid: Grid, by_segment: bool) -> list[Finding]:
    """Turn labels into findings: components of all labels, or of each segment."""
    if not by_segment:
        return components(labels, grid)
    found = []
    for number in range(1, int(labels.max(initial=0)) + 1):
        for finding in components((labels == number).astype(np.uint8), grid):
            attributes = {"segment": str(number)} | finding.attributes
            found.append(replace(finding, attributes=attributes))
    return found
