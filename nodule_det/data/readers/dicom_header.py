"""The header of one DICOM file, read up to its pixels, also where the file is cut off.

    file ──read_header()──▶ SliceHeader (tags of geometry and rescale, where the pixels lie)
                            └──frames()──▶ one SliceHeader for each frame of an enhanced CT

A refusal has to name the slice's position, and listing a data set must not read all of it, so this
module walks the data elements itself.  It reads files with and without preamble and meta header,
implicit, explicit, big-endian and deflated.

Nothing of who the patient is is kept but a hash: see :func:`patient_key`.

References:
    DICOM PS3.5, section 7: the data set; PS3.10, section 7: the file; PS3.3, C.7.6.16:
    functional groups of multi-frame images.
"""

from __future__ import annotations

import hashlib
import io
import math
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from nodule_det.data.readers.voxels import is_regular
from nodule_det.errors import ScanError

Tag = tuple[int, int]

MEDIA_CLASS: Tag = (0x0002, 0x0002)
TRANSFER_SYNTAX: Tag = (0x0002, 0x0010)
IMAGE_TYPE: Tag = (0x0008, 0x0008)
SOP_CLASS: Tag = (0x0008, 0x0016)
SOP_UID: Tag = (0x0008, 0x0018)
MODALITY: Tag = (0x0008, 0x0060)
PATIENT_ID: Tag = (0x0010, 0x0020)
IDENTITY_REMOVED: Tag = (0x0012, 0x0062)
BURNED_IN: Tag = (0x0028, 0x0301)
STUDY_UID: Tag = (0x0020, 0x000D)
SERIES_UID: Tag = (0x0020, 0x000E)
ACQUISITION: Tag = (0x0020, 0x0012)
INSTANCE: Tag = (0x0020, 0x0013)
POSITION: Tag = (0x0020, 0x0032)
ORIENTATION: Tag = (0x0020, 0x0037)
FRAME_OF_REFERENCE: Tag = (0x0020, 0x0052)
SAMPLES: Tag = (0x0028, 0x0002)
PHOTOMETRIC: Tag = (0x0028, 0x0004)
FRAMES: Tag = (0x0028, 0x0008)
ROWS: Tag = (0x0028, 0x0010)
COLUMNS: Tag = (0x0028, 0x0011)
PIXEL_SPACING: Tag = (0x0028, 0x0030)
BITS_ALLOCATED: Tag = (0x0028, 0x0100)
BITS_STORED: Tag = (0x0028, 0x0101)
HIGH_BIT: Tag = (0x0028, 0x0102)
SIGNED: Tag = (0x0028, 0x0103)
PADDING: Tag = (0x0028, 0x0120)
PADDING_LIMIT: Tag = (0x0028, 0x0121)
INTERCEPT: Tag = (0x0028, 0x1052)
SLOPE: Tag = (0x0028, 0x1053)
STACK: Tag = (0x0020, 0x9056)
SHARED: Tag = (0x5200, 0x9229)
PER_FRAME: Tag = (0x5200, 0x9230)
PIXELS: Tag = (0x7FE0, 0x0010)

WANTED = {
    MEDIA_CLASS, TRANSFER_SYNTAX, IMAGE_TYPE, SOP_CLASS, SOP_UID, MODALITY, PATIENT_ID, STUDY_UID,
    SERIES_UID, ACQUISITION, INSTANCE, POSITION, ORIENTATION, FRAME_OF_REFERENCE, SAMPLES,
    PHOTOMETRIC, FRAMES, ROWS, COLUMNS, PIXEL_SPACING, BITS_ALLOCATED, BITS_STORED, HIGH_BIT,
    SIGNED, PADDING, PADDING_LIMIT, INTERCEPT, SLOPE, STACK, IDENTITY_REMOVED, BURNED_IN,
}  # fmt: skip
BINARY = {
    SAMPLES, ROWS, COLUMNS, BITS_ALLOCATED, BITS_STORED, HIGH_BIT, SIGNED, PADDING, PADDING_LIMIT,
}  # fmt: skip
"""Tags whose value is a 16-bit integer; the others are text."""
GROUPS = {
    (0x0020, 0x9111), (0x0020, 0x9113), (0x0020, 0x9116), (0x0028, 0x9110), (0x0028, 0x9145),
    (0x0018, 0x9329),
}  # fmt: skip
"""Sequences inside the functional groups that hold wanted tags: frame content, plane position and
orientation, pixel measures, pixel value transformation, CT image frame type."""
FRAME_TYPE: Tag = (0x0008, 0x9007)

ITEM, ITEM_END, SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)
UNDEFINED = 0xFFFFFFFF
LONG_VR = {
    b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV",
}  # fmt: skip
"""Value representations whose length takes four bytes after two empty ones."""
SHORT_VR = {
    b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN",
    b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US",
}  # fmt: skip
IMPLICIT_SYNTAX = "1.2.840.10008.1.2"
EXPLICIT_SYNTAX = "1.2.840.10008.1.2.1"
BIG_ENDIAN_SYNTAX = "1.2.840.10008.1.2.2"
DEFLATED_SYNTAX = "1.2.840.10008.1.2.1.99"
NATIVE_SYNTAXES = {"", IMPLICIT_SYNTAX, EXPLICIT_SYNTAX, BIG_ENDIAN_SYNTAX, DEFLATED_SYNTAX}
"""Transfer syntaxes whose pixels are not compressed."""
PREAMBLE = 128
LONGEST_VALUE = 2**16
"""Wanted values are short: a longer one is damage."""
LONGEST_TEXT = 300
"""What is longer is damage, and cut so that an error stays a line."""
MOST_FRAMES = 20_000
LARGEST_DEFLATED, DEFLATED_RATIO = 2**26, 100
"""A deflated data set of more bytes must not unpack to more than this many times its size."""
DEEPEST = 40


@dataclass(frozen=True, slots=True)
class SliceHeader:
    """What a DICOM file, or one frame of it, says before its pixels.

    Attributes:
        path: The file.
        patient_key: Hash of the patient's identifier.
        file_bytes: Size of the data set: that of the file, or of what a deflated one unpacks to.
        pixel_offset: Byte where the pixels begin; None if the file has none.
        pixel_bytes: Length that the file claims for them; None where they are compressed.
        values: Text or integer of each tag of ``WANTED`` that the file has.
        big_endian: Whether its pixels are.
        deflated: Byte where a deflated data set begins; ``pixel_offset`` counts in the unpacked
            one.
        frame: Index of the frame in its file; None for a file of one slice.
        groups: Values of each frame's functional groups, those of all frames before them.
    """

    path: Path
    patient_key: str
    file_bytes: int
    pixel_offset: int | None = None
    pixel_bytes: int | None = None
    values: dict[Tag, str | int] = field(default_factory=dict)
    big_endian: bool = False
    deflated: int | None = None
    frame: int | None = None
    groups: tuple[dict[Tag, str | int], ...] = ()

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
        text = self.text(tag)
        try:
            numbers = tuple(float(word) for word in text.split("\\"))
        except ValueError:
            numbers = ()
        if len(numbers) != count or not all(map(math.isfinite, numbers)) or "_" in text:
            raise ScanError(
                f"{self.path} has {name}={text!r}; expected {count} number(s): export the series "
                "again"
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

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame of uncompressed pixels."""
        return self.integer(ROWS) * self.integer(COLUMNS) * (self.integer(BITS_ALLOCATED) // 8)

    @property
    def n_frames(self) -> int:
        """Frames of the file.

        Raises:
            ScanError: If NumberOfFrames is not a whole number.
        """
        text = self.text(FRAMES) or "1"
        if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MOST_FRAMES):
            raise ScanError(
                f"{self.path} has NumberOfFrames={text!r}; expected 1 to {MOST_FRAMES}: export "
                "the series again"
            )
        return int(text)

    def __str__(self) -> str:
        """Name the slice as errors do: its file, frame and position."""
        frame = "" if self.frame is None else f", frame {self.frame + 1}"
        try:
            return f"{self.path} (z = {self.position_mm[2]:g} mm{frame})"
        except ScanError:
            return f"{self.path}{frame}"


def patient_key(identifier: str) -> str:
    """Hash an identifier: equal for scans of one patient, and no way back to whom.

    Example:
        >>> patient_key("LIDC-IDRI-0314") == patient_key(" LIDC-IDRI-0314 ")
        True
        >>> len(patient_key("LIDC-IDRI-0314"))
        16
    """
    text = f"nodule_det patient {identifier.strip()}"
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]


def is_dicom(path: Path) -> bool:
    """Return whether a file begins as a DICOM file does, with or without a preamble."""
    with open(path, "rb") as file:
        return _start(file.read(PREAMBLE + 8)) is not None


def _start(head: bytes) -> int | None:
    """Return where the first data element of a file begins; None if it is not DICOM.

    Without a preamble the file begins with an element of group 0002 (meta header) or 0008.
    """
    if head[PREAMBLE : PREAMBLE + 4] == b"DICM":
        return PREAMBLE + 4
    if head[PREAMBLE + 4 : PREAMBLE + 8] == b"\2\0\0\0":  # a meta header, behind a damaged DICM
        return PREAMBLE + 4
    if len(head) >= 8 and _begins_naked(head[:8]):
        return 0
    return None


def _begins_naked(head: bytes) -> bool:
    for order in "<>":
        group, element, length = struct.unpack(f"{order}HHI", head)
        if group in (0x0002, 0x0008) and element < 0x0100:
            if head[4:6] in SHORT_VR | LONG_VR:
                return True
            return bool(length < 256 and order == "<")
    return False


def read_header(path: Path) -> SliceHeader:
    """Read a DICOM file's header.

    Raises:
        ScanError: If it is not a DICOM file, or ends or is damaged before its header does.
    """
    if not is_regular(path):
        raise ScanError(f"{path} cannot be read: it is not a regular file, or a link to nowhere")
    with open(path, "rb") as file:
        head = file.read(PREAMBLE + 8)
        start = _start(head)
        if start is None:
            raise ScanError(
                f"{path} is {'not a DICOM file' if head else 'empty'}; copy it again, or take it "
                "out of the folder"
            )
        size = path.stat().st_size
        file.seek(start)
        try:
            return _read(path, file, size)
        except (struct.error, RecursionError, zlib.error):
            raise ScanError(
                f"{path} ends in the middle of its header or is damaged there, {size} bytes; "
                "copy it again"
            ) from None


def _read(path: Path, file: BinaryIO, size: int) -> SliceHeader:
    values: dict[Tag, Any] = {}
    _Walker(file, "<", True, size).walk(values, meta=True)
    syntax = str(values.get(TRANSFER_SYNTAX, ""))
    deflated = None
    if syntax == DEFLATED_SYNTAX:
        deflated = file.tell()
        file, size = unpacked(path, deflated)
    order = ">" if syntax == BIG_ENDIAN_SYNTAX or _peek(file, 2) == b"\0\x08" else "<"
    explicit = _peek(file, 8)[4:6] in SHORT_VR | LONG_VR  # some files say one and are the other
    offset, length = _Walker(file, order, explicit, size).walk(values) or (None, None)
    groups = _frame_values(values.pop(SHARED, []), values.pop(PER_FRAME, []))
    series = str(values.get(SERIES_UID, ""))
    key = patient_key(str(values.pop(PATIENT_ID, "")) or series)  # unnamed scans are kept apart
    return SliceHeader(
        path, key, size, offset, length, values, order == ">", deflated, None, groups
    )


def unpacked(path: Path, start: int) -> tuple[io.BytesIO, int]:
    """Unpack the data set of a deflated file that begins at a byte.

    Raises:
        ScanError: If it is larger than any slice.
        zlib.error: If it is damaged or cut off.
    """
    with open(path, "rb") as file:
        file.seek(start)
        unpacker = zlib.decompressobj(-15)
        packed = file.read()
        limit = max(LARGEST_DEFLATED, DEFLATED_RATIO * len(packed))
        content = unpacker.decompress(packed, limit)
    if unpacker.unconsumed_tail:
        raise ScanError(f"{path} unpacks to more than {limit} bytes: it is damaged")
    if not unpacker.eof:
        raise zlib.error("it ends in the middle of its stream")
    return io.BytesIO(content), len(content)


def _peek(file: BinaryIO, n: int) -> bytes:
    at = file.tell()
    found = file.read(n)
    file.seek(at)
    return found


def _frame_values(shared: list[Any], per_frame: list[Any]) -> tuple[dict[Tag, str | int], ...]:
    common = _flat(shared[0]) if shared else {}
    return tuple(common | _flat(item) for item in per_frame)


def _flat(item: Mapping[Tag, Any]) -> dict[Tag, str | int]:
    """Return the values of a functional group's item without the sequences around them."""
    found: dict[Tag, str | int] = {}
    for tag, value in item.items():
        if isinstance(value, list):
            for inner in value[:1]:
                found |= _flat(inner)
        else:
            found[tag] = value
    return found


def frames(header: SliceHeader) -> list[SliceHeader]:
    """Return a header for each frame of a file; a file of one slice is its own.

    Raises:
        ScanError: If the functional groups are not as many as the frames.
    """
    if not header.groups and header.n_frames == 1:
        return [header]
    if len(header.groups) != header.n_frames:
        raise ScanError(
            f"{header.path} is a multi-frame image of {header.n_frames} frames with "
            f"{len(header.groups)} positions: it is damaged, or not an enhanced CT; convert it to "
            "NIfTI"
        )
    kept = {k: v for k, v in header.values.items() if k not in (INSTANCE, SOP_UID, ACQUISITION)}
    found = []
    for k, group in enumerate(header.groups):
        values = kept | group
        if FRAME_TYPE in values:
            values[IMAGE_TYPE] = values[FRAME_TYPE]
        found.append(replace(header, values=values, frame=k, groups=()))
    return found


class _Walker:
    """Walks the data elements of a data set; never reads beyond the file's end."""

    def __init__(self, file: BinaryIO, order: str, explicit: bool, size: int) -> None:
        self._file, self._order, self._explicit, self._size = file, order, explicit, size

    def walk(self, values: dict[Tag, Any], *, meta: bool = False) -> tuple[int, int | None] | None:
        """Collect the wanted values up to the pixels, and return the pixels' offset and length.

        With ``meta`` it stops at the end of group 0002, which is explicit whatever follows.
        """
        while start := self._file.read(4):
            tag = self._tag(start)
            if meta and tag[0] != 0x0002:
                self._file.seek(-4, 1)
                return None
            vr, length = self._vr_and_length()
            if tag == PIXELS:
                return self._file.tell(), None if length == UNDEFINED else length
            self._take(tag, vr, length, values, (SHARED, PER_FRAME), 0)
        return None

    def _take(
        self,
        tag: Tag,
        vr: bytes,
        length: int,
        values: dict[Tag, Any],
        sequences: tuple[Tag, ...] | set[Tag],
        depth: int,
    ) -> None:
        """Keep the value of an element if it is wanted, and move behind it."""
        if tag in sequences:
            values[tag] = self._items(length, depth + 1)
        elif length == UNDEFINED:
            self._skip_sequence(self._explicit and vr != b"UN", depth)
        elif tag in WANTED or tag == FRAME_TYPE:
            value = self._value(tag, self._exactly(length))
            if value is not None:
                values[tag] = value
        else:
            self._skip(length)

    def _items(self, length: int, depth: int) -> list[dict[Tag, Any]]:
        """Read the items of a sequence that holds wanted tags."""
        end = None if length == UNDEFINED else self._file.tell() + length
        items: list[dict[Tag, Any]] = []
        if depth > DEEPEST or (end or 0) > self._size:
            raise struct.error
        while end is None or self._file.tell() < end:
            tag, n = self._tag(self._exactly(4)), self._length4()
            if tag == SEQUENCE_END:
                break
            if tag != ITEM or len(items) > MOST_FRAMES:
                raise struct.error
            items.append(self._item(None if n == UNDEFINED else self._file.tell() + n, depth))
        return items

    def _item(self, end: int | None, depth: int) -> dict[Tag, Any]:
        values: dict[Tag, Any] = {}
        while end is None or self._file.tell() < end:
            tag = self._tag(self._exactly(4))
            if tag == ITEM_END:
                self._length4()
                break
            vr, length = self._vr_and_length()
            self._take(tag, vr, length, values, GROUPS, depth)
        return values

    def _tag(self, data: bytes) -> Tag:
        group, element = struct.unpack(f"{self._order}HH", data)
        return group, element

    def _length4(self) -> int:
        return int(struct.unpack(f"{self._order}I", self._exactly(4))[0])

    def _vr_and_length(self, explicit: bool | None = None) -> tuple[bytes, int]:
        if not (self._explicit if explicit is None else explicit):
            return b"", self._length4()
        vr, short = struct.unpack(f"{self._order}2sH", self._exactly(4))
        if vr in LONG_VR:
            return vr, self._length4()
        if vr not in SHORT_VR:
            raise struct.error
        return vr, short

    def _value(self, tag: Tag, data: bytes) -> str | int | None:
        """Decode a value; an empty one is an absent one."""
        if tag in BINARY:
            return int(struct.unpack(f"{self._order}H", data[:2])[0]) if data else None
        return data[:LONGEST_TEXT].decode("latin-1").strip(" \0") or None

    def _exactly(self, n: int) -> bytes:
        data = self._file.read(n) if n <= LONGEST_VALUE else b""
        if len(data) != n:
            raise struct.error
        return data

    def _skip(self, n: int) -> None:
        if self._file.seek(n, 1) > self._size:
            raise struct.error

    def _skip_sequence(self, explicit: bool, depth: int) -> None:
        """Pass over the items of a sequence of undefined length, and its end."""
        if depth > DEEPEST:
            raise struct.error
        while (tag := self._tag(self._exactly(4))) != SEQUENCE_END:
            length = self._length4()
            if tag != ITEM:
                raise struct.error
            if length == UNDEFINED:
                self._skip_item(explicit, depth + 1)
            else:
                self._skip(length)
        self._length4()

    def _skip_item(self, explicit: bool, depth: int) -> None:
        while self._tag(self._exactly(4)) != ITEM_END:
            vr, length = self._vr_and_length(explicit)
            if length == UNDEFINED:
                self._skip_sequence(explicit and vr != b"UN", depth + 1)
            else:
                self._skip(length)
        self._length4()
