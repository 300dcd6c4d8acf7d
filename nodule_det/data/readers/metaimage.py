"""MetaImage files (.mhd, .mha): a strict parser of the header, and the voxels.

    path ──metaimage_grid()──▶ Grid
         └─metaimage_source()──▶ VoxelSource ──read_voxels()──▶ (z, y, x)

ITK's parser turns ``-162,5768`` and ``nan`` into 0, takes a spacing of 1 mm where the header has
none, and keeps one of two contradicting lines.  Each of these moves or stretches a scan without a
word, so the header is parsed here, and anything that is not a plain number is refused.
"""

from __future__ import annotations

import difflib
import math
from pathlib import Path

import numpy as np

from nodule_det.data.readers.voxels import Packing, VoxelSource, check_claim, is_regular
from nodule_det.errors import GeometryError, ScanError
from nodule_det.geometry import Grid

TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4",
    "MET_UINT": "u4", "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
"""MetaIO's long has four bytes on every machine."""
ORIGIN_KEYS = ("Offset", "Position", "Origin")
SPACING_KEYS = ("ElementSpacing", "ElementSize")
MATRIX_KEYS = ("TransformMatrix", "Rotation", "Orientation")
BYTE_ORDER_KEYS = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
"""Names that MetaImage has for the same thing: any one will do, two must agree."""
KNOWN_KEYS = (
    *ORIGIN_KEYS, *SPACING_KEYS, *MATRIX_KEYS, *BYTE_ORDER_KEYS, "ObjectType", "ObjectSubType",
    "NDims", "DimSize", "ElementType", "ElementDataFile", "ElementNumberOfChannels", "BinaryData",
    "CompressedData", "CompressedDataSize", "HeaderSize", "CenterOfRotation",
    "AnatomicalOrientation", "TransformType",
)  # fmt: skip
SIMILAR = 0.85
"""How alike an unknown key must be to a known one to be taken for a misspelling."""
AGREE = 1e-6
LARGEST_AXIS = 100_000
HEADER_BYTES = 65536
LONGEST_VALUE = 300
"""What is longer is damage, and cut so that an error stays a line."""


def metaimage_grid(path: Path) -> Grid:
    """Read where the voxels of a MetaImage lie; reads the header only.

    Raises:
        ScanError: If it is not a 3-D MetaImage of one channel, or a line of it is damaged, doubled
            or contradicts another.
        GeometryError: If the header lacks spacing or origin, or its axes are sheared.
    """
    fields, header_bytes = _read_header(path)
    check_claim(_source(path, fields, header_bytes))
    x, y, z = _size(path, fields)
    spacing = _same_under_all_names(path, fields, SPACING_KEYS, 3)
    if spacing is None:
        raise GeometryError(
            f"{path} has no voxel spacing; add the line 'ElementSpacing = X Y Z' in mm"
        )
    origin = _same_under_all_names(path, fields, ORIGIN_KEYS, 3)
    if origin is None:
        raise GeometryError(
            f"{path} has no origin; add the line 'Offset = X Y Z' (centre of the first voxel, "
            "mm, LPS)"
        )
    axes = np.reshape(_same_under_all_names(path, fields, MATRIX_KEYS, 9) or np.eye(3), (3, 3))
    rows = tuple((float(a), float(b), float(c)) for a, b, c in axes.T)  # MetaIO lists axis by axis
    dx, dy, dz = spacing
    ox, oy, oz = origin
    try:
        return Grid((z, y, x), (dz, dy, dx), (ox, oy, oz), (rows[0], rows[1], rows[2]))
    except GeometryError as error:
        raise GeometryError(f"{path}: {error}") from None


def metaimage_source(path: Path) -> VoxelSource:
    """Return where the voxels of a MetaImage are.

    Raises:
        ScanError: As :func:`metaimage_grid`, or if the voxel file is missing or lies outside the
            folder of the header.
    """
    return _source(path, *_read_header(path))


def voxel_file(path: Path) -> Path:
    """Return the file that holds the voxels of a MetaImage: its own, or the one beside it.

    Raises:
        ScanError: If its header does not say, or names a file outside its folder.
    """
    return _voxel_file(path, _read_header(path)[0])[0]


def _source(path: Path, fields: dict[str, str], header_bytes: int) -> VoxelSource:
    x, y, z = _size(path, fields)
    raw, local = _voxel_file(path, fields)
    if not is_regular(raw):
        raise ScanError(
            f"{path} needs the file {fields['ElementDataFile']} beside it, which is missing or not "
            "a regular file; copy both"
        )
    kind = fields.get("ElementType", "")
    if kind not in TYPES:
        raise ScanError(f"{path} has ElementType={kind!r}; supported are {', '.join(TYPES)}")
    if not _flag(path, fields, "BinaryData", True):
        raise ScanError(f"{path} keeps its voxels as text (BinaryData = False); write it as binary")
    big = [_flag(path, fields, key, False) for key in BYTE_ORDER_KEYS if key in fields]
    if len(set(big)) > 1:
        raise ScanError(f"{path} has {' and '.join(BYTE_ORDER_KEYS)} that differ; keep one")
    dtype = np.dtype((">" if any(big) else "<") + TYPES[kind])
    packed = _flag(path, fields, "CompressedData", False)
    start = header_bytes if local else _header_size(path, fields)
    if packed:
        _check_packed_size(path, fields, raw, start)
    return VoxelSource(raw, start, Packing.ZLIB if packed else Packing.RAW, dtype, (z, y, x))


def _check_packed_size(path: Path, fields: dict[str, str], raw: Path, start: int) -> None:
    """Compare CompressedDataSize with the file: ITK unpacks that many bytes, right or not."""
    there = raw.stat().st_size - start
    size = _whole(path, fields, "CompressedDataSize", -1 if raw == path else there)
    if size != there:
        raise ScanError(
            f"{path} has CompressedDataSize={fields.get('CompressedDataSize', 'nothing')}, but "
            f"{there} bytes of compressed voxels in {raw.name}: it is truncated or damaged; copy "
            "both again"
        )


def _header_size(path: Path, fields: dict[str, str]) -> int:
    """Return the first byte of the voxels in a file of their own; -n counts from its end."""
    size = _whole(path, fields, "HeaderSize", 0)
    if size < -1:
        raise ScanError(f"{path} has HeaderSize={size}; expected -1, 0 or a number of bytes")
    if size == -1:
        x, y, z = _size(path, fields)
        return -math.prod((x, y, z)) * np.dtype(TYPES[fields["ElementType"]]).itemsize
    return size


def _size(path: Path, fields: dict[str, str]) -> tuple[int, int, int]:
    if (
        _whole(path, fields, "NDims", 3) != 3
        or _whole(path, fields, "ElementNumberOfChannels", 1) != 1
    ):
        raise ScanError(
            f"{path} has NDims={fields.get('NDims', '3')} and "
            f"{fields.get('ElementNumberOfChannels', '1')} channel(s); expected a single 3-D volume"
        )
    sizes = _numbers(path, fields, "DimSize", 3)
    if not all(n.is_integer() and 1 <= n <= LARGEST_AXIS for n in sizes):
        raise ScanError(
            f"{path} has DimSize={fields.get('DimSize')!r}; expected three whole numbers from 1 to "
            f"{LARGEST_AXIS}"
        )
    x, y, z = (int(n) for n in sizes)
    return x, y, z


def _voxel_file(path: Path, fields: dict[str, str]) -> tuple[Path, bool]:
    """Return the file that holds the voxels, and whether it is the header's own."""
    name = fields["ElementDataFile"]
    if name.upper() == "LOCAL":
        return path, True
    if name.upper().startswith("LIST") or "%" in name:
        raise ScanError(
            f"{path} keeps each slice in a file of its own (ElementDataFile={name}); write it "
            "again as one file"
        )
    return beside(path, name, "ElementDataFile"), False


def beside(path: Path, name: str, key: str) -> Path:
    """Return a file that a header names, which must lie in the header's own folder or below it.

    Raises:
        ScanError: If the name leads elsewhere.
    """
    if "\0" in name or not name or Path(name).is_absolute() or ".." in Path(name).parts:
        raise ScanError(
            f"{path} has {key}={name!r}, which does not lie in its own folder; copy the voxels "
            "beside the header and name them there"
        )
    return path.parent / name


def _read_header(path: Path) -> tuple[dict[str, str], int]:
    """Return the header's lines as a dict, and the byte after it; ElementDataFile is the last."""
    with open(path, "rb") as file:
        head = file.read(HEADER_BYTES)
    fields: dict[str, str] = {}
    at = 0
    for line in head.splitlines(keepends=True):
        at += len(line)
        key, equals, value = line.decode("utf-8", "surrogateescape").partition("=")
        key, value = key.strip()[:LONGEST_VALUE], value.strip()[:LONGEST_VALUE]
        if not equals:
            break
        if fields.get(key, value) != value:
            raise ScanError(
                f"{path} has the line {key!r} twice, as {fields[key]!r} and {value!r}; keep one"
            )
        if key not in KNOWN_KEYS:
            close = difflib.get_close_matches(key, KNOWN_KEYS, 1, SIMILAR)
            if close:
                raise ScanError(f"{path} has the unknown line {key!r}; did you mean {close[0]!r}?")
        fields[key] = value
        if key == "ElementDataFile":
            return fields, at
    raise ScanError(
        f"{path} is not a MetaImage, or its header is damaged: it has no line "
        "'ElementDataFile = ...'"
    )


def _same_under_all_names(
    path: Path, fields: dict[str, str], keys: tuple[str, ...], count: int
) -> list[float] | None:
    """Return the numbers of the first of several names, which must agree; None if all lack."""
    found = {key: _numbers(path, fields, key, count) for key in keys if key in fields}
    if not found:
        return None
    (first, numbers), *others = found.items()
    for key, other in others:
        if not np.allclose(numbers, other, rtol=AGREE, atol=AGREE):
            raise ScanError(
                f"{path} has {first}={fields[first]!r} and {key}={fields[key]!r}, which contradict "
                "each other; keep the right one"
            )
    return numbers


def _numbers(path: Path, fields: dict[str, str], key: str, count: int) -> list[float]:
    try:
        numbers = [float(word) for word in fields[key].split()]
    except (KeyError, ValueError):
        numbers = []
    if len(numbers) != count or not all(math.isfinite(n) for n in numbers) or "_" in fields[key]:
        raise ScanError(
            f"{path} has {key}={fields.get(key)!r}; expected {count} numbers, with decimal points "
            "and blanks between them"
        )
    return numbers


def _whole(path: Path, fields: dict[str, str], key: str, default: int) -> int:
    if key not in fields:
        return default
    (number,) = _numbers(path, fields, key, 1)
    if not number.is_integer():
        raise ScanError(f"{path} has {key}={fields[key]!r}; expected a whole number")
    return int(number)


def _flag(path: Path, fields: dict[str, str], key: str, default: bool) -> bool:
    text = fields.get(key, str(default)).lower()
    if text not in ("true", "false", "1", "0", "t", "f"):
        raise ScanError(f"{path} has {key}={fields[key]!r}; expected True or False")
    return text[0] in "t1"
