"""The pixels of DICOM slices in Hounsfield units.

    checked slices ──read_pixels()──▶ (z, y, x) int16 HU

Uncompressed pixels are decoded here: it takes no library that may end the process, and any file
name.  Compressed ones go through SimpleITK (GDCM), after a check that no fragment is cut off.

References:
    DICOM PS3.5, section 8 and annex A.4 (fragments); PS3.3, C.7.5.1.1.2 (padding).
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nodule_det.data.readers import dicom_header as tags
from nodule_det.data.readers.dicom_header import SliceHeader, unpacked
from nodule_det.data.scan import MAX_HU, MIN_HU, HuVolume, to_hu
from nodule_det.errors import ScanError

EXPORT_AGAIN = "export the series again from the archive"
WHOLE_BITS = (8, 16, 32)
LARGE_BYTES, LARGE_RATIO = 2**26, 1000
"""Pixels of more than 64 MiB are not compressed by more than this."""


def check_pixels(header: SliceHeader) -> None:
    """Refuse a slice that is cut off, or not a plain grey image; reads no pixels.

    Raises:
        ScanError: If it is; the message names the file and its position.
    """
    if not header.frame_bytes or header.pixel_offset is None:
        raise ScanError(
            f"{header} ends before its pixels, after {header.file_bytes} bytes: "
            f"the slice is truncated; {EXPORT_AGAIN}"
        )
    if header.integer(tags.SAMPLES, 1) != 1 or header.text(tags.PHOTOMETRIC) in (
        "RGB", "PALETTE COLOR", "YBR_FULL", "YBR_FULL_422",
    ):  # fmt: skip
        raise ScanError(f"{header} is a colour image; expected grey CT slices")
    allocated = header.integer(tags.BITS_ALLOCATED)
    stored = header.integer(tags.BITS_STORED, allocated)
    high = header.integer(tags.HIGH_BIT, stored - 1)
    if allocated not in WHOLE_BITS or not 1 <= stored <= high + 1 <= allocated:
        raise ScanError(
            f"{header} has pixels of {allocated} bits, {stored} stored up to bit {high}: its "
            f"header is damaged; {EXPORT_AGAIN}"
        )
    n_frames = 1 if header.frame is None else header.n_frames
    expected = header.frame_bytes * n_frames
    there = header.file_bytes - header.pixel_offset
    if header.pixel_bytes is None:  # compressed
        if expected > LARGE_BYTES and expected > LARGE_RATIO * there:
            raise ScanError(f"{header} cannot hold {expected} bytes of pixels; {EXPORT_AGAIN}")
        return
    there = min(header.pixel_bytes, there)
    if there < expected:
        raise ScanError(
            f"{header} is truncated: it has {there} of {expected} bytes of pixels; {EXPORT_AGAIN}"
        )
    if header.pixel_bytes > expected + 1:  # an odd length is padded
        raise ScanError(
            f"{header} has {header.pixel_bytes} bytes of pixels, its rows and columns take "
            f"{expected}: its header is damaged; {EXPORT_AGAIN}"
        )


def read_pixels(slices: Sequence[SliceHeader], rows: int, columns: int) -> HuVolume:
    """Read the pixels of checked slices in Hounsfield units.

    Returns:
        (z, y, x) int16, clipped; padding is ``MIN_HU``.

    Raises:
        ScanError: If a slice cannot be decoded; the message names it.
    """
    volume = np.empty((len(slices), rows, columns), np.int16)
    decoded: tuple[Path | None, NDArray[Any]] = (None, np.empty(0))
    for k, header in enumerate(slices):
        if header.pixel_bytes is not None and header.text(tags.TRANSFER_SYNTAX) in (
            tags.NATIVE_SYNTAXES
        ):
            values = _rescaled(_native(header), header)
        else:
            if decoded[0] != header.path:
                decoded = (header.path, _decoded(header))
            values = decoded[1].reshape(-1, rows, columns)[header.frame or 0]
        volume[k] = _without_padding(values.reshape(rows, columns), header)
    return volume


def _native(header: SliceHeader) -> NDArray[Any]:
    """Return the stored values of a slice, (y * x,), sign and unused bits resolved."""
    allocated = header.integer(tags.BITS_ALLOCATED)
    order = ">" if header.big_endian else "<"
    dtype = np.dtype(f"{order}u{allocated // 8}")
    start = (header.pixel_offset or 0) + (header.frame or 0) * header.frame_bytes
    count = header.frame_bytes // dtype.itemsize
    try:
        if header.deflated is None:
            raw = np.fromfile(header.path, dtype, count, offset=start)
        else:
            content, _ = unpacked(header.path, header.deflated)
            raw = np.frombuffer(content.getbuffer(), dtype, count, start)
    except (ValueError, zlib.error):
        raise ScanError(f"{header} changed while it was read; {EXPORT_AGAIN}") from None
    if raw.size != count:
        raise ScanError(f"{header} changed while it was read; {EXPORT_AGAIN}")
    stored = header.integer(tags.BITS_STORED, allocated)
    high = header.integer(tags.HIGH_BIT, stored - 1)
    values = raw.astype(dtype.newbyteorder("="), copy=False)
    if stored < allocated:
        values = values << (allocated - 1 - high)
    if header.integer(tags.SIGNED):
        values = values.view(f"i{allocated // 8}")
    return values >> (allocated - stored) if stored < allocated else values


def _rescaled(values: NDArray[Any], header: SliceHeader) -> NDArray[Any]:
    slope, intercept = rescale(header)
    if slope == 1 and intercept.is_integer() and values.dtype.itemsize < 4:
        return values.astype(np.int32) + int(intercept)
    return values * slope + intercept


def rescale(header: SliceHeader) -> tuple[float, float]:
    """Return RescaleSlope and RescaleIntercept.

    Raises:
        ScanError: If one is missing or not a number, or the slope is 0.
    """
    (slope,) = header.numbers(tags.SLOPE, 1, "RescaleSlope")
    (intercept,) = header.numbers(tags.INTERCEPT, 1, "RescaleIntercept")
    if slope == 0:
        raise ScanError(
            f"{header} has RescaleSlope=0, which makes all its voxels equal; {EXPORT_AGAIN}"
        )
    return slope, intercept


def _decoded(header: SliceHeader) -> NDArray[Any]:
    """Decode a compressed file with SimpleITK: all its frames, rescaled."""
    import SimpleITK as sitk

    _check_fragments(header)
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # our errors say it, and name the file
    try:
        with _plain_name(header.path) as name:
            reader.SetFileName(name)
            values: NDArray[Any] = sitk.GetArrayFromImage(reader.Execute())
    except RuntimeError:  # all that SimpleITK raises
        raise ScanError(_undecodable(header)) from None
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)
    if values.size * (header.integer(tags.BITS_ALLOCATED) // 8) != header.frame_bytes * (
        1 if header.frame is None else header.n_frames
    ):
        raise ScanError(_undecodable(header))
    return values


def _undecodable(header: SliceHeader) -> str:
    return (
        f"{header} has pixels that cannot be decoded (transfer syntax "
        f"{header.text(tags.TRANSFER_SYNTAX)}): truncated, or of an unsupported compression; "
        f"{EXPORT_AGAIN}"
    )


@contextmanager
def _plain_name(path: Path) -> Iterator[str]:
    """Yield a name for SimpleITK, which ends the process at one that is not UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        with open(path, "rb") as file:
            yield f"/dev/fd/{file.fileno()}"
    else:
        yield str(path)


def _check_fragments(header: SliceHeader) -> None:
    """Refuse compressed pixels whose fragments are cut off: some decoders fill up with grey."""
    with open(header.path, "rb") as file:
        file.seek(header.pixel_offset or 0)
        while len(head := file.read(8)) == 8:
            group, element, length = struct.unpack("<HHI", head)
            if (group, element) == tags.SEQUENCE_END:
                return
            if (group, element) != tags.ITEM:
                break
            if file.seek(length, os.SEEK_CUR) > header.file_bytes:
                break
    raise ScanError(_undecodable(header))


def _without_padding(values: NDArray[Any], header: SliceHeader) -> HuVolume:
    """Clip to HU, and set padding to the value of air.

    Padding of -2000 is clipped anyway; unsigned padding such as 63536 would turn into metal.  A
    padding value that is also a value of tissue counts only where it reaches the image's border.
    """
    if values.dtype.kind == "i":
        hu: HuVolume = np.clip(values, MIN_HU, MAX_HU).astype(np.int16)
    else:
        hu = to_hu(values, str(header))
    if tags.PADDING in header.values:
        low, high = sorted(_padding_hu(header))
        if high > MIN_HU:
            padding = (values >= low - 1e-3) & (values <= high + 1e-3)
            hu[padding if low > MAX_HU else at_border(padding)] = MIN_HU
    return hu


def _padding_hu(header: SliceHeader) -> tuple[float, float]:
    slope, intercept = rescale(header)
    bounds = []
    for tag in (tags.PADDING, tags.PADDING_LIMIT):
        stored = header.integer(tag, header.integer(tags.PADDING))
        if header.integer(tags.SIGNED) and stored >= 2**15:
            stored -= 2**16
        bounds.append(slope * stored + intercept)
    return bounds[0], bounds[1]


def at_border(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the parts of a (y, x) mask that reach its border."""
    labels, _ = ndimage.label(mask)
    sides = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return np.isin(labels, np.unique(sides[sides > 0]))
