"""DICOM series: which slices a folder holds, whether they make a whole volume, and their pixels.

    folder ──list_series()──▶ SeriesFolder ──choose()──▶ slices ──check_series()──▶ sorted, Grid
                                                                └──read_slices()──▶ HU volume

The checks are our own.  SimpleITK drops a slice that it cannot read with no more than a printed
line, and stretches the z spacing over a missing one: every nodule moves, in silence.

Slices marked LOCALIZER (the scanner's overview image) are no part of a volume and left out, as
are objects that are no CT images (reports, segmentations) beside a CT series.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nodule_det.arrays import FloatArray
from nodule_det.data.readers import dicom_header as tags
from nodule_det.data.readers.dicom_header import SliceHeader, is_dicom, read_header
from nodule_det.data.scan import MAX_HU, MIN_HU, HuVolume, to_hu
from nodule_det.errors import GeometryError, ScanError
from nodule_det.geometry import Grid, Triple

DIRECTORY_CLASS = "1.2.840.10008.1.3.10"
"""SOP class of a DICOMDIR, the table of contents of a disc."""
DOUBLED_MM = 0.01
"""Slices closer than this lie at the same place."""
GAP_TOLERANCE = 0.1
"""How far a slice may be from its place in a regular stack, in gaps: positions are rounded."""
DRIFT_PIXELS = 0.5
"""How far slices may be shifted against each other within their plane."""
SERIES_UID = re.compile(r"[\w.\-]{1,128}", re.ASCII)
"""Archives that make patients anonymous put words in place of digits, but no ``/``."""
EXPORT_AGAIN = "export the series again from the archive"


@dataclass(slots=True)
class SeriesFolder:
    """The DICOM files of one folder.

    Attributes:
        path: The folder.
        ct: SeriesInstanceUID -> slices of a CT series, localizers left out.
        other: Modalities of the images that are no CT.
        damaged: What is wrong with each file whose header cannot be read.
    """

    path: Path
    ct: dict[str, list[SliceHeader]] = field(default_factory=dict)
    other: set[str] = field(default_factory=set)
    damaged: list[ScanError] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.ct or self.other or self.damaged)


def list_series(folder: Path) -> SeriesFolder:
    """Sort the DICOM files that lie directly in a folder by their series; reads headers only.

    Files that do not begin as DICOM are passed over, unless they are called ``.dcm``.
    """
    content = SeriesFolder(folder)
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name == "DICOMDIR" or path.is_dir():
            continue
        try:
            if path.suffix.lower() == ".dcm" or is_dicom(path):
                _sort_in(content, read_header(path))
        except ScanError as error:
            content.damaged.append(error)
        except OSError as error:  # a link to nowhere, a file without rights
            if path.suffix.lower() in (".dcm", ""):
                content.damaged.append(ScanError(f"{path} cannot be read ({error.strerror})"))
    return content


def _sort_in(content: SeriesFolder, header: SliceHeader) -> None:
    if header.text(tags.SOP_CLASS) == DIRECTORY_CLASS:
        return
    if not header.series_uid:
        raise ScanError(f"{header.path} lacks a SeriesInstanceUID; {EXPORT_AGAIN}")
    if not SERIES_UID.fullmatch(header.series_uid):  # it becomes a file name
        raise ScanError(
            f"{header.path} has SeriesInstanceUID={header.series_uid!r}, needed are letters, "
            f"digits and points; {EXPORT_AGAIN}"
        )
    if header.text(tags.MODALITY) != "CT":
        content.other.add(header.text(tags.MODALITY) or "unknown")
    elif "LOCALIZER" not in header.text(tags.IMAGE_TYPE).split("\\"):
        content.ct.setdefault(header.series_uid, []).append(header)


def choose(content: SeriesFolder, series_uid: str | None = None) -> list[SliceHeader]:
    """Return the slices of one CT series of a folder: the named one, or the only one.

    Raises:
        ScanError: If the folder holds no CT series, several and none is named, not the named
            one, or a file whose header is damaged (its series is unknown).
    """
    if content.damaged:
        raise content.damaged[0]
    if not content.ct and content.other:
        raise ScanError(
            f"{content.path} holds DICOM files of modality {', '.join(sorted(content.other))}, "
            "needed is a CT series; give the folder of the CT"
        )
    if not content.ct:
        raise ScanError(f"{content.path} holds no CT slices; give the folder of a DICOM series")
    found = "; ".join(f"{uid} ({len(c)} slices)" for uid, c in sorted(content.ct.items()))
    if series_uid is None:
        if len(content.ct) > 1:
            raise ScanError(
                f"{content.path} holds {len(content.ct)} CT series: {found}; "
                "name one of them by its UID, or put each into a folder of its own"
            )
        return next(iter(content.ct.values()))
    if series_uid not in content.ct:
        raise ScanError(f"{content.path} holds no CT series {series_uid}; it holds {found}")
    return content.ct[series_uid]


def check_series(slices: Sequence[SliceHeader]) -> tuple[list[SliceHeader], Grid]:
    """Sort the slices of a series along its normal, and prove that they make a whole volume.

    Returns:
        The slices in the order of the grid's z index, and the grid.

    Raises:
        ScanError: If a slice is truncated, doubled, missing, or differs from the others in size,
            spacing, orientation or rescaling; the message names the file and its position.
        GeometryError: If the slices are shifted against each other (a tilted gantry).
    """
    for header in slices:
        _check_slice(header)
    _check_alike(slices)
    first = slices[0]
    cosines = np.array(first.numbers(tags.ORIENTATION, 6, "ImageOrientationPatient"))
    row, column = cosines[:3], cosines[3:]
    normal = np.cross(row, column)
    ordered = sorted(slices, key=lambda s: float(normal @ np.array(s.position_mm)))
    positions = np.array([s.position_mm for s in ordered])
    dy, dx = first.numbers(tags.PIXEL_SPACING, 2, "PixelSpacing")
    dz = _check_gaps(ordered, positions @ normal)
    _check_drift(ordered, positions, normal, min(dy, dx))
    size = (len(slices), first.integer(tags.ROWS), first.integer(tags.COLUMNS))
    axes = np.stack([row, column, normal], axis=1)
    try:
        grid = Grid(size, (dz, dy, dx), ordered[0].position_mm, _rows(axes))
    except GeometryError as error:
        raise GeometryError(f"{first.path}: {error}") from None
    return ordered, grid


def _rows(axes: FloatArray) -> tuple[Triple, Triple, Triple]:
    a, b, c = ((float(row[0]), float(row[1]), float(row[2])) for row in axes)
    return a, b, c


def _check_slice(header: SliceHeader) -> None:
    """Refuse a slice that is cut off, or no plain grey image."""
    expected = (
        header.integer(tags.ROWS)
        * header.integer(tags.COLUMNS)
        * (header.integer(tags.BITS_ALLOCATED) // 8)
    )
    if not expected or header.pixel_offset is None:
        raise ScanError(
            f"{header} ends before its pixels, after {header.file_bytes} bytes: "
            f"the slice is truncated; {EXPORT_AGAIN}"
        )
    if header.integer(tags.SAMPLES, 1) != 1 or header.text(tags.FRAMES) not in ("", "1"):
        raise ScanError(
            f"{header} is a colour or multi-frame image; needed is one grey slice per file, "
            "or convert the series to NIfTI"
        )
    if header.pixel_bytes is None:  # compressed: decoding tells
        return
    there = min(header.pixel_bytes, header.file_bytes - header.pixel_offset)
    if there < expected:
        raise ScanError(
            f"{header} is truncated: it has {there} of {expected} bytes of pixels; {EXPORT_AGAIN}"
        )


def _check_alike(slices: Sequence[SliceHeader]) -> None:
    """Refuse a slice that differs from most others in what one volume has in common."""

    def rounded(tag: tags.Tag, count: int, name: str) -> Callable[[SliceHeader], Hashable]:
        return lambda header: tuple(round(v, 3) for v in header.numbers(tag, count, name))

    common: list[tuple[str, Callable[[SliceHeader], Hashable]]] = [
        ("rows and columns", lambda h: (h.integer(tags.ROWS), h.integer(tags.COLUMNS))),
        ("ImageOrientationPatient", rounded(tags.ORIENTATION, 6, "ImageOrientationPatient")),
        ("PixelSpacing", rounded(tags.PIXEL_SPACING, 2, "PixelSpacing")),
        ("RescaleIntercept", rounded(tags.INTERCEPT, 1, "RescaleIntercept")),
        ("RescaleSlope", rounded(tags.SLOPE, 1, "RescaleSlope")),
    ]
    for name, value_of in common:
        values = [value_of(header) for header in slices]
        usual, _ = Counter(values).most_common(1)[0]
        for header, value in zip(slices, values, strict=True):
            if value != usual:
                raise ScanError(
                    f"{header} has {name} {value}, most slices of its series have {usual}: they "
                    "are no one volume; take the slice out, or export the series again"
                )


def _check_gaps(ordered: Sequence[SliceHeader], along_mm: FloatArray) -> float:
    """Refuse doubled and missing slices and unequal gaps; give the gap in mm."""
    if len(ordered) < 2:
        raise ScanError(f"{ordered[0]} is the only slice of its series; a volume needs two or more")
    gaps = np.diff(along_mm)
    usual = float(np.median(gaps))
    for before, after, gap in zip(ordered[:-1], ordered[1:], gaps, strict=True):
        if gap < DOUBLED_MM:
            raise ScanError(
                f"{after} lies at the same place as {before.path}: a doubled slice; "
                "take one of the two out"
            )
        if gap > 1.5 * usual:
            raise ScanError(
                f"between {before} and {after} lie {gap:g} mm, elsewhere {usual:g} mm: "
                f"{round(gap / usual) - 1} slice(s) missing; {EXPORT_AGAIN}"
            )
    dz = float(along_mm[-1] - along_mm[0]) / (len(ordered) - 1)
    off = np.abs(along_mm - along_mm[0] - dz * np.arange(len(ordered)))
    worst = int(off.argmax())
    if off[worst] > GAP_TOLERANCE * dz:
        raise ScanError(
            f"{ordered[worst]} lies {off[worst]:.3g} mm off its place in a stack of equal gaps of "
            f"{dz:.4g} mm; the gaps run from {gaps.min():.4g} to {gaps.max():.4g} mm: resample "
            "the series to equal gaps first"
        )
    return dz


def _check_drift(
    ordered: Sequence[SliceHeader],
    positions: FloatArray,
    normal: FloatArray,
    pixel_mm: float,
) -> None:
    """Refuse slices that do not lie straight above each other."""
    offset = positions - positions[0]
    within = np.linalg.norm(offset - np.outer(offset @ normal, normal), axis=1)
    worst = int(within.argmax())
    if within[worst] > DRIFT_PIXELS * pixel_mm:
        raise GeometryError(
            f"{ordered[worst]} is shifted within its plane by {within[worst]:.3g} mm against "
            f"{ordered[0]}: the volume is sheared (a tilted gantry?); resample it to an upright "
            "grid first (for instance with dcm2niix)"
        )


def read_slices(ordered: Sequence[SliceHeader], grid: Grid) -> HuVolume:
    """Read the pixels of checked slices in Hounsfield units.

    Returns:
        (z, y, x) int16, clipped; padding is ``MIN_HU``.

    Raises:
        ScanError: If a slice cannot be decoded; the message names it.
    """
    import SimpleITK as sitk

    volume = np.empty(grid.size_vox, np.int16)
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # our errors say it, and name the file
    try:
        for k, header in enumerate(ordered):
            reader.SetFileName(str(header.path))
            try:
                pixels = sitk.GetArrayFromImage(reader.Execute())  # a view would outlive the image
            except RuntimeError:  # all that SimpleITK raises
                raise ScanError(
                    f"{header} has pixels that cannot be decoded (transfer syntax "
                    f"{header.text(tags.TRANSFER_SYNTAX)}): truncated, or of an unknown "
                    f"compression; {EXPORT_AGAIN}"
                ) from None
            volume[k] = _without_padding(pixels.reshape(volume.shape[1:]), header)
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)
    return volume


def _without_padding(pixels: NDArray[np.generic], header: SliceHeader) -> HuVolume:
    """Clip to HU, and give padding beyond the clip's upper end the value of air.

    Padding of -2000 is clipped anyway; unsigned padding such as 63536 would turn into metal.
    """
    hu = to_hu(pixels, str(header))
    if tags.PADDING in header.values:
        stored = header.integer(tags.PADDING)
        if header.integer(tags.SIGNED) and stored >= 2**15:
            stored -= 2**16
        slope, intercept = (
            header.numbers(tag, 1, name)[0]
            for tag, name in ((tags.SLOPE, "RescaleSlope"), (tags.INTERCEPT, "RescaleIntercept"))
        )
        padding_hu = slope * stored + intercept
        if padding_hu > MAX_HU:
            hu[np.asarray(pixels == padding_hu)] = MIN_HU
    return hu
