"""MetaImage headers (.mhd, .mha), checked before SimpleITK reads the file.

ITK takes a spacing of 1 mm where the header gives none, and of compressed voxels that it cannot
unpack it says so and goes on with what is in its memory; both would be wrong in silence.
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path

from nodule_det.errors import GeometryError, ScanError

BYTES = {
    "MET_CHAR": 1, "MET_UCHAR": 1, "MET_SHORT": 2, "MET_USHORT": 2, "MET_INT": 4, "MET_UINT": 4,
    "MET_LONG": 4, "MET_ULONG": 4, "MET_LONG_LONG": 8, "MET_ULONG_LONG": 8, "MET_FLOAT": 4,
    "MET_DOUBLE": 8,
}  # fmt: skip
ORIGIN_KEYS = ("Offset", "Position", "Origin")
SPACING_KEYS = ("ElementSpacing", "ElementSize")
"""Names under which MetaImage knows them; any one will do."""
HEADER_BYTES = 65536
CHUNK_BYTES = 2**22


def check_metaimage(path: Path) -> None:
    """Refuse a MetaImage that does not say where its voxels lie, or lacks some of them.

    Raises:
        ScanError: If it is no MetaImage, not 3-D, or its voxels are missing or cut off.
        GeometryError: If the header lacks spacing or origin.
    """
    fields, header_bytes = _read_header(path)
    size = _numbers(path, fields, "DimSize")
    if len(size) != 3 or fields.get("ElementNumberOfChannels", "1") != "1":
        raise ScanError(
            f"{path} has DimSize={fields.get('DimSize')!r} and "
            f"{fields.get('ElementNumberOfChannels', '1')} channel(s); needed is one 3-D volume"
        )
    if not any(key in fields for key in SPACING_KEYS):
        raise GeometryError(
            f"{path} gives no voxel spacing; add the line 'ElementSpacing = X Y Z' in mm"
        )
    if not any(key in fields for key in ORIGIN_KEYS):
        raise GeometryError(
            f"{path} gives no origin; add the line 'Offset = X Y Z' (centre of the first voxel, "
            "mm, LPS)"
        )
    _check_voxels(path, fields, header_bytes, [round(n) for n in size])


def check_compressed(path: Path) -> None:
    """Refuse compressed voxels that are damaged: ITK says so, and goes on with what it has.

    Raises:
        ScanError: If they cannot be unpacked, or are fewer than the header says.
    """
    fields, header_bytes = _read_header(path)
    if not _is_compressed(fields):
        return
    raw, local = _voxel_file(path, fields)
    unpack, there = zlib.decompressobj(), 0
    try:
        with open(raw, "rb") as file:
            file.seek(header_bytes if local else 0)
            while chunk := file.read(CHUNK_BYTES):
                there += len(unpack.decompress(chunk))
    except zlib.error as error:
        raise ScanError(f"{raw} is damaged ({error}); copy it again") from None
    size = [round(n) for n in _numbers(path, fields, "DimSize")]
    needed = math.prod(size) * _voxel_bytes(path, fields)
    if there != needed or not unpack.eof:
        raise ScanError(f"{raw} unpacks to {there} of {needed} bytes of voxels; copy it again")


def voxel_file(path: Path) -> Path:
    """Return the file that holds the voxels of a MetaImage: its own, or the one beside it.

    Raises:
        ScanError: If its header does not say.
    """
    return _voxel_file(path, _read_header(path)[0])[0]


def _is_compressed(fields: dict[str, str]) -> bool:
    return fields.get("CompressedData", "False").lower() == "true"


def _voxel_file(path: Path, fields: dict[str, str]) -> tuple[Path, bool]:
    """Return the file that holds the voxels, and whether it is the header's own."""
    name = fields["ElementDataFile"]
    local = name.upper() == "LOCAL"
    return path if local else path.parent / name, local


def _voxel_bytes(path: Path, fields: dict[str, str]) -> int:
    kind = fields.get("ElementType", "")
    if kind not in BYTES:
        raise ScanError(f"{path} has ElementType={kind!r}; known are {', '.join(BYTES)}")
    return BYTES[kind]


def _read_header(path: Path) -> tuple[dict[str, str], int]:
    """Return the header's lines as a dict, and the byte after it; ElementDataFile is the last."""
    with open(path, "rb") as file:
        head = file.read(HEADER_BYTES)
    fields: dict[str, str] = {}
    at = 0
    for line in head.splitlines(keepends=True):
        at += len(line)
        key, equals, value = line.decode("latin-1").partition("=")
        if not equals:
            break
        fields[key.strip()] = value.strip()
        if key.strip() == "ElementDataFile":
            return fields, at
    raise ScanError(f"{path} is no MetaImage: its header has no line 'ElementDataFile = ...'")


def _numbers(path: Path, fields: dict[str, str], key: str) -> list[float]:
    try:
        return [float(word) for word in fields[key].split()]
    except (KeyError, ValueError):
        raise ScanError(f"{path} has {key}={fields.get(key)!r}, needed are numbers") from None


def _check_voxels(path: Path, fields: dict[str, str], header_bytes: int, size: list[int]) -> None:
    name = fields["ElementDataFile"]
    if name.upper().startswith("LIST") or "%" in name:
        raise ScanError(
            f"{path} keeps each slice in a file of its own (ElementDataFile={name}); write it "
            "again as one file"
        )
    raw, local = _voxel_file(path, fields)
    needed = math.prod(size) * _voxel_bytes(path, fields)
    if not raw.is_file():
        raise ScanError(f"{path} needs the file {name} beside it, which is missing; copy both")
    there = raw.stat().st_size - (header_bytes if local else 0)
    if _is_compressed(fields):
        said = fields.get("CompressedDataSize", "")
        needed = int(said) if said.isdigit() else 1
    elif there > needed and "HeaderSize" not in fields:
        raise ScanError(
            f"{raw} has {there} bytes of voxels, DimSize={fields['DimSize']} of "
            f"{fields['ElementType']} takes {needed}: the header is of another image"
        )
    if there < needed:
        raise ScanError(
            f"{raw} is truncated: it has {there} of {needed} bytes of voxels; copy it again"
        )
