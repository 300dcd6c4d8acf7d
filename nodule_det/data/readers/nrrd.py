"""NRRD files (.nrrd, .nhdr), as 3D Slicer writes them: a strict parser of the header.

    path ──nrrd_grid()──▶ Grid
         └─nrrd_source()──▶ VoxelSource ──read_voxels()──▶ (z, y, x)

Only files that say where their voxels lie are read (``space``, ``space directions`` and ``space
origin``), with raw or gzip encoding in one file.

References:
    Definition of NRRD file format, https://teem.sourceforge.net/nrrd/format.html
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np

from nodule_det.data.readers.metaimage import LARGEST_AXIS, LONGEST_VALUE, beside
from nodule_det.data.readers.voxels import Packing, VoxelSource, check_claim, is_regular
from nodule_det.errors import GeometryError, ScanError
from nodule_det.geometry import Grid

TYPES = {
    "i1": "signed char|int8|int8_t",
    "u1": "uchar|unsigned char|uint8|uint8_t",
    "i2": "short|short int|signed short|signed short int|int16|int16_t",
    "u2": "ushort|unsigned short|unsigned short int|uint16|uint16_t",
    "i4": "int|signed int|int32|int32_t",
    "u4": "uint|unsigned int|uint32|uint32_t",
    "i8": "longlong|long long|long long int|signed long long|int64|int64_t",
    "u8": "ulonglong|unsigned long long|uint64|uint64_t",
    "f4": "float",
    "f8": "double",
}
DTYPES = {name: code for code, names in TYPES.items() for name in names.split("|")}
SPACES = {
    "left-posterior-superior": (1, 1, 1), "lps": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1), "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1), "las": (1, -1, 1),
}  # fmt: skip
"""Signs that turn a space into LPS."""
PACKINGS = {"raw": Packing.RAW, "gzip": Packing.GZIP, "gz": Packing.GZIP}
MAGIC = re.compile(rb"NRRD000[1-5]\r?\n")
HEADER_BYTES = 65536


def nrrd_grid(path: Path) -> Grid:
    """Read where the voxels of an NRRD file lie; reads the header only.

    Raises:
        ScanError: If it is not a 3-D NRRD file, or a field of it is damaged or doubled.
        GeometryError: If it does not say where its voxels lie, or its axes are sheared.
    """
    fields, _ = _read_header(path)
    source = nrrd_source(path)
    check_claim(source)
    space = fields.get("space", "").lower()
    if space not in SPACES or "space directions" not in fields or "space origin" not in fields:
        raise GeometryError(
            f"{path} does not say where its voxels lie (space={space!r}; expected one of "
            f"{', '.join(sorted(SPACES))}, with 'space directions' and 'space origin'); save it "
            "again as a volume, for example with 3D Slicer"
        )
    units = set(re.findall(r'"([^"]*)"', fields.get("space units", '"mm"')))
    if units != {"mm"}:
        raise GeometryError(f"{path} has space units {sorted(units)}; expected mm")
    sign = np.array(SPACES[space], float)
    steps = np.array(_vectors(path, fields, "space directions", 3)) * sign
    (origin,) = np.array(_vectors(path, fields, "space origin", 1)) * sign
    spacing = np.linalg.norm(steps, axis=1)
    if not (spacing > 0).all():
        raise GeometryError(f"{path} has no voxel spacing on an axis ('space directions')")
    rows = [tuple(float(v) for v in row) for row in (steps / spacing[:, None]).T]
    dx, dy, dz = (float(v) for v in spacing)
    ox, oy, oz = (float(v) for v in origin)
    try:
        return Grid(source.size_vox, (dz, dy, dx), (ox, oy, oz), (rows[0], rows[1], rows[2]))  # type: ignore[arg-type]
    except GeometryError as error:
        raise GeometryError(f"{path}: {error}") from None


def nrrd_source(path: Path) -> VoxelSource:
    """Return where the voxels of an NRRD file are.

    Raises:
        ScanError: As :func:`nrrd_grid`, or if the voxel file is missing or lies outside the folder
            of the header.
    """
    fields, header_bytes = _read_header(path)
    sizes = fields.get("sizes", "").split()
    whole = all(n.isascii() and n.isdigit() and 1 <= int(n[:9]) <= LARGEST_AXIS for n in sizes)
    if fields.get("dimension") != "3" or len(sizes) != 3 or not whole:
        raise ScanError(
            f"{path} has dimension={fields.get('dimension')!r} and sizes={fields.get('sizes')!r}; "
            "expected a single 3-D volume"
        )
    x, y, z = (int(n) for n in sizes)
    kind = fields.get("type", "").lower()
    packing = PACKINGS.get(fields.get("encoding", "").lower())
    if kind not in DTYPES or packing is None:
        raise ScanError(
            f"{path} has type={kind!r} and encoding={fields.get('encoding')!r}; supported are "
            "whole numbers, float and double, raw or gzip"
        )
    order = fields.get("endian", "little").lower()
    if order not in ("little", "big"):
        raise ScanError(f"{path} has endian={order!r}; expected little or big")
    dtype = np.dtype((">" if order == "big" else "<") + DTYPES[kind])
    skip = fields.get("byte skip", "0")
    if fields.get("line skip", "0") != "0" or skip not in ("0", "-1"):
        raise ScanError(f"{path} skips lines or bytes of its voxels; save it again without")
    name = fields.get("data file", "LOCAL")
    raw = path if name.upper() == "LOCAL" else beside(path, name, "data file")
    if not is_regular(raw):
        raise ScanError(f"{path} needs the file {name} beside it, which is missing; copy both")
    start = header_bytes if raw is path else 0
    if skip == "-1" and packing is Packing.RAW:
        start = -x * y * z * dtype.itemsize
    return VoxelSource(raw, start, packing, dtype, (z, y, x))


def _read_header(path: Path) -> tuple[dict[str, str], int]:
    """Return the header's fields, and the byte after the blank line that ends it."""
    with open(path, "rb") as file:
        head = file.read(HEADER_BYTES)
    if not MAGIC.match(head):
        raise ScanError(f"{path} is not an NRRD file, or its header is damaged; copy it again")
    fields: dict[str, str] = {}
    at = 0
    for line in head.splitlines(keepends=True):
        at += len(line)
        text = line.decode("utf-8", "surrogateescape").rstrip("\r\n")[:LONGEST_VALUE]
        if not text:
            return fields, at
        if text.startswith(("#", "NRRD")) or ":=" in text:
            continue
        name, colon, value = text.partition(": ")
        name = name.lower().replace("datafile", "data file").replace("lineskip", "line skip")
        name = name.replace("byteskip", "byte skip")
        if not colon or name in fields:
            raise ScanError(f"{path} has the damaged or doubled line {text!r} in its header")
        fields[name] = value.strip()
    if "data file" in fields:  # a detached header may end without a blank line
        return fields, at
    raise ScanError(f"{path} is truncated: its header has no end; copy it again")


def _vectors(path: Path, fields: dict[str, str], name: str, count: int) -> list[list[float]]:
    try:
        found = re.findall(r"\(([^()]*)\)", fields[name])
        vectors = [[float(word) for word in vector.split(",")] for vector in found]
        rest = re.sub(r"\([^()]*\)", "", fields[name]).strip()
    except ValueError:
        vectors, rest = [], ""
    fine = len(vectors) == count and all(len(v) == 3 for v in vectors) and not rest
    if not fine or not all(math.isfinite(n) for v in vectors for n in v):
        raise ScanError(
            f"{path} has {name}={fields[name]!r}; expected {count} vector(s) of three numbers"
        )
    return vectors
