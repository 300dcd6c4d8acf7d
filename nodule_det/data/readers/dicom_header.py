"""The header of one DICOM file, read up to its pixels, also where the file is cut off.

    file ──read_header()──▶ SliceHeader (tags of geometry and rescale, where the pixels lie)

SimpleITK reads the pixels, but of a truncated file it says no more than that it cannot read it,
and to read a header it reads the pixels too.  A refusal has to name the slice's position, and
listing a data set must not read all of it.  So this module walks the data elements itself.

Of who the patient is nothing is kept but a hash: see :func:`patient_key`.

References:
    DICOM PS3.5, section 7: the data set; PS3.10, section 7: the file.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from nodule_det.errors import ScanError

Tag = tuple[int, int]

TRANSFER_SYNTAX: Tag = (0x0002, 0x0010)
IMAGE_TYPE: Tag = (0x0008, 0x0008)
SOP_CLASS: Tag = (0x0008, 0x0016)
SOP_UID: Tag = (0x0008, 0x0018)
MODALITY: Tag = (0x0008, 0x0060)
PATIENT_ID: Tag = (0x0010, 0x0020)
SERIES_UID: Tag = (0x0020, 0x000E)
POSITION: Tag = (0x0020, 0x0032)
ORIENTATION: Tag = (0x0020, 0x0037)
SAMPLES: Tag = (0x0028, 0x0002)
FRAMES: Tag = (0x0028, 0x0008)
ROWS: Tag = (0x0028, 0x0010)
COLUMNS: Tag = (0x0028, 0x0011)
PIXEL_SPACING: Tag = (0x0028, 0x0030)
BITS_ALLOCATED: Tag = (0x0028, 0x0100)
SIGNED: Tag = (0x0028, 0x0103)
PADDING: Tag = (0x0028, 0x0120)
INTERCEPT: Tag = (0x0028, 0x1052)
SLOPE: Tag = (0x0028, 0x1053)
PIXELS: Tag = (0x7FE0, 0x0010)

WANTED = {
    TRANSFER_SYNTAX, IMAGE_TYPE, SOP_CLASS, SOP_UID, MODALITY, PATIENT_ID, SERIES_UID, POSITION,
    ORIENTATION, SAMPLES, FRAMES, ROWS, COLUMNS, PIXEL_SPACING, BITS_ALLOCATED, SIGNED, PADDING,
    INTERCEPT, SLOPE,
}  # fmt: skip
BINARY = {SAMPLES, ROWS, COLUMNS, BITS_ALLOCATED, SIGNED, PADDING}
"""Tags whose value is a 16-bit integer; the others are text."""

ITEM, ITEM_END, SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)
UNDEFINED = 0xFFFFFFFF
LONG_VR = {
    b"OB",
    b"OD",
    b"OF",
    b"OL",
    b"OV",
    b"OW",
    b"SQ",
    b"SV",
    b"UC",
    b"UN",
    b"UR",
    b"UT",
    b"UV",
}
"""Value representations whose length takes four bytes after two empty ones."""
IMPLICIT_SYNTAX = "1.2.840.10008.1.2"
UNREADABLE_SYNTAX = {
    "1.2.840.10008.1.2.2": "big-endian",
    "1.2.840.10008.1.2.1.99": "deflated",
}
PREAMBLE = 128


@dataclass(frozen=True, slots=True)
class SliceHeader:
    """What a DICOM file says of itself before its pixels.

    Attributes:
        path: The file.
        patient_key: Hash of the patient's identifier.
        values: Text or integer of each tag of ``WANTED`` that the file has.
        pixel_offset: Byte where the pixels begin; None if the file has none.
        pixel_bytes: Length that the file gives for them; None where they are compressed.
        file_bytes: Size of the file.
    """

    path: Path
    patient_key: str
    file_bytes: int
    pixel_offset: int | None = None
    pixel_bytes: int | None = None
    values: dict[Tag, str | int] = field(default_factory=dict)

    def text(self, tag: Tag) -> str:
        """Return a text value; empty if the file lacks it."""
        return str(self.values.get(tag, ""))

    def integer(self, tag: Tag, default: int = 0) -> int:
        """Return a number that the file holds in binary."""
        return int(self.values.get(tag, default))

    def numbers(self, tag: Tag, count: int, name: str) -> tuple[float, ...]:
        r"""Return a value of ``count`` decimals, as DICOM writes them: ``1.0\2.0``.

        Raises:
            ScanError: If the file lacks it, or it is something else.
        """
        try:
            numbers = tuple(float(word) for word in self.text(tag).split("\\"))
        except ValueError:
            numbers = ()
        if len(numbers) != count:
            raise ScanError(
                f"{self.path} has {name}={self.text(tag)!r}, needed is a value of {count} "
                "number(s); export the series again"
            )
        return numbers

    @property
    def series_uid(self) -> str:
        """SeriesInstanceUID."""
        return self.text(SERIES_UID)

    @property
    def position_mm(self) -> tuple[float, float, float]:
        """World (x, y, z) of the centre of the first pixel, in mm, LPS."""
        x, y, z = self.numbers(POSITION, 3, "ImagePositionPatient")
        return x, y, z

    def __str__(self) -> str:
        """Name the slice as errors do: its file and position."""
        try:
            return f"{self.path} (z = {self.position_mm[2]:g} mm)"
        except ScanError:
            return str(self.path)


def patient_key(identifier: str) -> str:
    """Hash an identifier: equal for scans of one patient, and no way back to whom.

    Example:
        >>> patient_key("LIDC-IDRI-0314") == patient_key(" LIDC-IDRI-0314 ")
        True
        >>> len(patient_key("LIDC-IDRI-0314"))
        16
    """
    return hashlib.sha256(f"nodule_det patient {identifier.strip()}".encode()).hexdigest()[:16]


def is_dicom(path: Path) -> bool:
    """Tell whether a file begins as a DICOM file does."""
    with open(path, "rb") as file:
        return file.read(PREAMBLE + 4)[PREAMBLE:] == b"DICM"


def read_header(path: Path) -> SliceHeader:
    """Read a DICOM file's header.

    Raises:
        ScanError: If it is no DICOM file, ends before its header does, or is written in one of
            the retired encodings (big-endian, deflated).
    """
    with open(path, "rb") as file:
        if file.read(PREAMBLE + 4)[PREAMBLE:] != b"DICM":
            raise ScanError(
                f"{path} is {'empty' if not path.stat().st_size else 'no DICOM file'}; "
                "copy it again, or take it out of the folder"
            )
        values: dict[Tag, str | int] = {}
        try:
            pixels = _walk(file, values)
        except (struct.error, RecursionError):
            raise ScanError(
                f"{path} ends in the middle of its header, after {path.stat().st_size} bytes; "
                "copy it again from where it came"
            ) from None
    series = str(values.get(SERIES_UID, ""))
    key = patient_key(str(values.pop(PATIENT_ID, "")) or series)  # nameless scans are no one's
    syntax = str(values.get(TRANSFER_SYNTAX, ""))
    if syntax in UNREADABLE_SYNTAX:
        raise ScanError(
            f"{path} is written in the retired {UNREADABLE_SYNTAX[syntax]} encoding; convert the "
            "series (for instance with gdcmconv --raw)"
        )
    offset, length = pixels or (None, None)
    return SliceHeader(path, key, path.stat().st_size, offset, length, values)


def _walk(file: BinaryIO, values: dict[Tag, str | int]) -> tuple[int, int | None] | None:
    """Collect the wanted values up to the pixels; give the pixels' offset and length."""
    explicit = True
    while True:
        start = file.read(4)
        if not start:
            return None
        tag = _tag(start)
        if tag[0] != 0x0002:  # the meta header is explicit whatever follows
            syntax = str(values.get(TRANSFER_SYNTAX, ""))
            if syntax in UNREADABLE_SYNTAX:
                return None
            explicit = syntax != IMPLICIT_SYNTAX
        vr, length = _vr_and_length(file, explicit)
        if tag == PIXELS:
            return file.tell(), None if length == UNDEFINED else length
        if length == UNDEFINED:
            _skip_sequence(file, explicit and vr != b"UN")
        elif tag in WANTED:
            values[tag] = _value(tag, file.read(length))
        else:
            file.seek(length, 1)


def _tag(data: bytes) -> Tag:
    group, element = struct.unpack("<HH", data)
    return group, element


def _vr_and_length(file: BinaryIO, explicit: bool) -> tuple[bytes, int]:
    if not explicit:
        return b"", struct.unpack("<I", file.read(4))[0]
    vr, short = struct.unpack("<2sH", file.read(4))
    return vr, struct.unpack("<I", file.read(4))[0] if vr in LONG_VR else short


def _value(tag: Tag, data: bytes) -> str | int:
    if tag in BINARY:
        return int(struct.unpack("<H", data[:2])[0])
    return data.decode("latin-1").strip(" \0")


def _skip_sequence(file: BinaryIO, explicit: bool) -> None:
    """Pass over the items of a sequence of undefined length, and its end."""
    while (tag := _tag(file.read(4))) != SEQUENCE_END:
        (length,) = struct.unpack("<I", file.read(4))
        if tag == ITEM and length == UNDEFINED:
            _skip_item(file, explicit)
        else:
            file.seek(length, 1)
    file.seek(4, 1)


def _skip_item(file: BinaryIO, explicit: bool) -> None:
    while _tag(file.read(4)) != ITEM_END:
        vr, length = _vr_and_length(file, explicit)
        if length == UNDEFINED:
            _skip_sequence(file, explicit and vr != b"UN")
        else:
            file.seek(length, 1)
    file.seek(4, 1)
