"""DICOM series: which slices folders hold, and whether they make a whole volume.

    folders ──list_series()──▶ SeriesFolder ──choose()──▶ slices ──check_series()──▶ sorted, Stack

The checks are our own.  SimpleITK drops a slice that it cannot read with no more than a printed
line, and stretches the z spacing over a missing one: every nodule moves, silently.

Files are grouped by their series first, so a slice whose other tags are damaged is missed there and
refused by name.  Passed over are objects that are not slices: DICOM directories, reports,
segmentations, presentation states, secondary captures, and the scanner's overview images
(``LOCALIZER``) that do not lie in the stack.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nodule_det.data.readers import dicom_header as tags
from nodule_det.data.readers.dicom_header import SliceHeader, frames, is_dicom, read_header
from nodule_det.data.readers.dicom_masks import MASK_CLASSES
from nodule_det.data.readers.pixels import EXPORT_AGAIN, check_pixels, rescale
from nodule_det.data.readers.stack import DOUBLED_MM, Stack, sort_along_normal, stack_of
from nodule_det.data.readers.voxels import is_regular
from nodule_det.errors import ScanError
from nodule_det.progress import counted

DIRECTORY_CLASS = "1.2.840.10008.1.3.10"
"""SOP class of a DICOM directory, the table of contents of a disc."""
CT_CLASSES = {f"1.2.840.10008.5.1.4.1.1.2{kind}" for kind in ("", ".1", ".2")}
"""CT image, enhanced CT, legacy converted enhanced CT."""
STANDARD_CLASS = re.compile(r"1\.2\.840\.10008\.5\.1\.4\.[\d.]+", re.ASCII)
OTHER_MODALITIES = {
    "AU", "CR", "DOC", "DX", "ECG", "ES", "FID", "IO", "KO", "MG", "MR", "NM", "OP", "OT", "PR",
    "PT", "PX", "REG", "RF", "RTDOSE", "RTIMAGE", "RTPLAN", "RTRECORD", "RTSTRUCT", "RWV", "SEG",
    "SM", "SR", "US", "XA", "XC",
}  # fmt: skip
SERIES_UID = re.compile(r"[\w.\-]{1,128}", re.ASCII)
"""Archives that make patients anonymous put words in place of digits, but no ``/``."""
SAME_COSINE = 1e-3
SAME_SPACING = 1e-3
"""How far slices of a volume may differ in orientation, and relatively in pixel spacing."""


@dataclass(slots=True)
class SeriesFolder:
    """The DICOM files of one folder.

    Attributes:
        path: The folder.
        ct: SeriesInstanceUID -> slices of a CT series, and what lies among them.
        masks: SEG and RTSTRUCT files.
        other: Modalities of the images that are not CT slices.
        damaged: What is wrong with each file whose header cannot be read.
    """

    path: Path
    ct: dict[str, list[SliceHeader]] = field(default_factory=dict)
    masks: list[SliceHeader] = field(default_factory=list)
    other: set[str] = field(default_factory=set)
    damaged: list[ScanError] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.ct or self.other or self.damaged)


def list_series(folder: Path) -> SeriesFolder:
    """Sort the DICOM files that lie directly in a folder by their series; reads headers only.

    Files that do not begin as DICOM are passed over, unless they are called ``.dcm`` or like the
    slices beside them.

    Raises:
        OSError: If the folder cannot be listed.
    """
    content = SeriesFolder(folder)
    series: dict[str, list[SliceHeader]] = {}
    strange: list[Path] = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name.upper() == "DICOMDIR" or path.is_dir():
            continue
        try:
            if path.suffix.lower() == ".dcm" or _looks_like_dicom(path):
                _sort_in(series, content, read_header(path))
            else:
                strange.append(path)
        except ScanError as error:
            content.damaged.append(error)
        except OSError as error:  # a file without rights
            content.damaged.append(ScanError(f"{path} cannot be read ({error.strerror})"))
    for uid, headers in series.items():
        slices = [h for h in headers if _is_ct(h)]
        if all(map(_is_localizer, slices)):  # or no slices at all
            content.other |= {_kind(h) for h in headers}
        else:
            content.ct[uid] = _with_those_among(slices, headers)
    _miss_slices(content, strange)
    return content


def _looks_like_dicom(path: Path) -> bool:
    return is_regular(path) and is_dicom(path)


def _sort_in(
    series: dict[str, list[SliceHeader]], content: SeriesFolder, header: SliceHeader
) -> None:
    if DIRECTORY_CLASS in (header.text(tags.SOP_CLASS), header.text(tags.MEDIA_CLASS)):
        return
    if not _is_ct(header) and tags.POSITION not in header.values:
        content.other.add(_kind(header))
        if header.text(tags.SOP_CLASS) in MASK_CLASSES:
            content.masks.append(header)
        return
    uid = header.series_uid
    if not uid:
        raise ScanError(f"{header.path} lacks a SeriesInstanceUID; {EXPORT_AGAIN}")
    if not SERIES_UID.fullmatch(uid) or uid.strip(".") == "":  # it becomes a file name
        raise ScanError(
            f"{header.path} has SeriesInstanceUID={uid!r}; expected letters, digits and points: "
            f"{EXPORT_AGAIN}"
        )
    series.setdefault(uid, []).extend(frames(header) if _is_ct(header) else [header])


def _kind(header: SliceHeader) -> str:
    modality = header.text(tags.MODALITY) or "unknown"
    return "CT, but not of CT slices" if modality == "CT" else modality


def _is_ct(header: SliceHeader) -> bool:
    """Return whether a file is a CT slice: by its SOP class, or its modality where it has none."""
    sop, modality = header.text(tags.SOP_CLASS), header.text(tags.MODALITY)
    if sop in CT_CLASSES:
        return modality not in OTHER_MODALITIES
    if STANDARD_CLASS.fullmatch(sop):
        return False
    return modality == "CT" and (tags.POSITION in header.values or tags.ROWS in header.values)


def _with_those_among(
    slices: list[SliceHeader], headers: Iterable[SliceHeader]
) -> list[SliceHeader]:
    """Return the slices of a series, with everything that lies among them whatever it says it is.

    A localizer that does not is left out, as is any object that is not a slice.
    """
    usual, _ = Counter(_shape(h) for h in slices if not _is_localizer(h)).most_common(1)[0]
    stack = [h for h in slices if not _is_localizer(h) or _shape(h) == usual]
    return stack + [h for h in headers if not _is_ct(h) and _shape(h) == usual]


def _is_localizer(header: SliceHeader) -> bool:
    return "LOCALIZER" in header.text(tags.IMAGE_TYPE).split("\\")


def _shape(header: SliceHeader) -> tuple[object, ...]:
    """Return what slices of one stack have in common, as far as the header says it."""
    try:
        cosines = header.numbers(tags.ORIENTATION, 6, "ImageOrientationPatient")
    except ScanError:
        cosines = ()
    return (
        *(round(v, 2) for v in cosines),
        header.integer(tags.ROWS),
        header.integer(tags.COLUMNS),
    )


def _miss_slices(content: SeriesFolder, strange: Sequence[Path]) -> None:
    """Report files that are not DICOM but called like the slices beside them, or empty."""
    here = [h.path for slices in content.ct.values() for h in slices]
    patterns = {re.sub(r"\d+", "0", path.name) for path in here}
    suffixes = {path.suffix.lower() for path in here}
    for path in strange:
        like = re.sub(r"\d+", "0", path.name) in patterns
        try:
            empty = path.suffix.lower() in suffixes and path.stat().st_size < tags.PREAMBLE
        except OSError:
            like, empty = True, True
        if here and (like or empty):
            content.damaged.append(
                ScanError(
                    f"{path} lies among the slices of a series and is not a DICOM file; copy it "
                    "again, or take it out of the folder"
                )
            )


def choose(contents: Sequence[SeriesFolder], series_uid: str | None = None) -> list[SliceHeader]:
    """Return the slices of one CT series of one or several folders: the named one, or the only one.

    Raises:
        ScanError: If the folders hold no CT series, several and none is named, not the named
            one, or a file whose header is damaged (its series is unknown).
    """
    path = contents[0].path
    for content in contents:
        if content.damaged:
            raise content.damaged[0]
    ct: dict[str, list[SliceHeader]] = {}
    for content in contents:
        for uid, slices in content.ct.items():
            ct.setdefault(uid, []).extend(slices)
    other = set().union(*(content.other for content in contents))
    if not ct and other:
        raise ScanError(
            f"{path} holds DICOM files of modality {', '.join(sorted(other))}; expected a CT "
            "series: use the folder of the CT"
        )
    if not ct:
        raise ScanError(f"{path} holds no CT slices; use the folder of a DICOM series")
    found = "; ".join(f"{uid} ({counted(len(c), 'slice')})" for uid, c in sorted(ct.items()))
    if series_uid is None:
        if len(ct) > 1:
            raise ScanError(
                f"{path} holds {len(ct)} CT series: {found}; "
                "name one of them by its UID, or put each into a folder of its own"
            )
        return next(iter(ct.values()))
    if series_uid not in ct:
        raise ScanError(f"{path} holds no CT series {series_uid}; it holds {found}")
    return ct[series_uid]


def check_series(slices: Sequence[SliceHeader]) -> tuple[list[SliceHeader], Stack]:
    """Sort the slices of a series along its normal, and prove that they make a whole volume.

    Identical copies of a slice are counted once.

    Returns:
        The slices along the normal, and how they make a volume.

    Raises:
        ScanError: If a slice is truncated, doubled, missing, or differs from the others in
            patient, size, spacing, orientation or rescaling; the message names the file and its
            position.
        GeometryError: If the slices are shifted against each other in another way than by an
            even tilt.
    """
    for header in slices:
        if not _is_ct(header):
            raise ScanError(
                f"{header} lies among the slices of a CT series, but has Modality="
                f"{header.text(tags.MODALITY)!r} and SOPClassUID={header.text(tags.SOP_CLASS)!r}; "
                f"{EXPORT_AGAIN}"
            )
        check_pixels(header)
        rescale(header)
    _check_one_examination(slices)
    _check_alike(slices)
    ordered, axes = sort_along_normal(slices)
    ordered = _without_copies(ordered)
    _check_acquisitions(ordered)
    return ordered, stack_of(ordered, axes)


def _check_one_examination(slices: Sequence[SliceHeader]) -> None:
    """Refuse slices of two patients or examinations that share a series UID.

    LIDC's anonymiser gave every slice a FrameOfReferenceUID of its own: that says nothing.
    """
    common: tuple[tuple[str, Callable[[SliceHeader], str]], ...] = (
        ("patients (PatientID)", lambda h: h.patient_key),
        ("studies (StudyInstanceUID)", lambda h: h.text(tags.STUDY_UID)),
        ("stacks (StackID)", lambda h: h.text(tags.STACK)),
    )
    for what, of in common:
        first = slices[0]
        for header in slices:
            if of(header) != of(first):
                raise ScanError(
                    f"{first} and {header} belong to two {what} under one SeriesInstanceUID; "
                    f"separate them, or {EXPORT_AGAIN}"
                )
    frames_of_reference = Counter(h.text(tags.FRAME_OF_REFERENCE) for h in slices)
    if len(frames_of_reference) > 1 and min(frames_of_reference.values()) > 1:
        raise ScanError(
            f"{slices[0].path.parent} holds slices of {len(frames_of_reference)} "
            "FrameOfReferenceUIDs under one SeriesInstanceUID: they were not scanned in one "
            f"position; separate them, or {EXPORT_AGAIN}"
        )


def _check_alike(slices: Sequence[SliceHeader]) -> None:
    """Refuse a slice that differs from most others in what one volume has in common."""
    common = (
        ("rows", tags.ROWS, 0, 0.0, 0.0),
        ("columns", tags.COLUMNS, 0, 0.0, 0.0),
        ("ImageOrientationPatient", tags.ORIENTATION, 6, SAME_COSINE, 0.0),
        ("PixelSpacing", tags.PIXEL_SPACING, 2, 0.0, SAME_SPACING),
        ("RescaleIntercept", tags.INTERCEPT, 1, 1e-6, 0.0),
        ("RescaleSlope", tags.SLOPE, 1, 1e-6, 0.0),
    )
    for name, tag, count, absolute, relative in common:
        values = [
            header.numbers(tag, count, name) if count else (float(header.integer(tag)),)
            for header in slices
        ]
        usual = np.median(np.array(values), axis=0)
        for header, value in zip(slices, values, strict=True):
            if not np.allclose(value, usual, rtol=relative, atol=absolute):
                raise ScanError(
                    f"{header} has {name} {_shown(value)}, most slices of its series have "
                    f"{_shown(usual)}: they are not one volume; take the slice out, or "
                    "export the series again"
                )


def _shown(values: Iterable[float]) -> str:
    return "\\".join(f"{v:.6g}" for v in values)


def _without_copies(ordered: Sequence[SliceHeader]) -> list[SliceHeader]:
    """Leave out slices that are copies of the one before them, in all tags and pixels."""
    kept: list[SliceHeader] = []
    for header in ordered:
        place = np.array(header.position_mm)
        if not kept or not (
            np.abs(place - kept[-1].position_mm).max() < DOUBLED_MM
            and kept[-1].values == header.values
            and _pixel_bytes(kept[-1]) == _pixel_bytes(header)
        ):
            kept.append(header)
    return kept


def _pixel_bytes(header: SliceHeader) -> bytes:
    start = header.deflated if header.deflated is not None else header.pixel_offset or 0
    length = -1
    if header.pixel_bytes is not None and header.deflated is None:
        start += (header.frame or 0) * header.frame_bytes
        length = header.frame_bytes
    with open(header.path, "rb") as file:
        file.seek(start)
        return file.read(length)


def _check_acquisitions(ordered: Sequence[SliceHeader]) -> None:
    """Refuse two acquisitions whose slices lie between each other.

    Acquisitions that follow each other along the table are one volume: a scan step by step has one
    for each step.
    """
    numbers = [header.text(tags.ACQUISITION) for header in ordered]
    changes = [k for k in range(1, len(numbers)) if numbers[k] != numbers[k - 1]]
    if len(changes) > len(set(numbers)) - 1:
        k = changes[-1]
        raise ScanError(
            f"{ordered[k - 1]} and {ordered[k]} are of acquisitions {numbers[k - 1]!r} and "
            f"{numbers[k]!r} that lie between each other under one SeriesInstanceUID; separate "
            f"them, or {EXPORT_AGAIN}"
        )
