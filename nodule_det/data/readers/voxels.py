"""The voxels of one file: exactly the bytes that its header promises, unpacked to their end.

    file, first byte, packing ──read_voxels()──▶ (z, y, x) array

A packed stream is read to its end, so its checksum and length are verified, and never unpacked
further than the header says.  A header that claims more than the file can hold is refused before
any memory is taken.

References:
    RFC 1950 (zlib), RFC 1951 (deflate), RFC 1952 (gzip).
"""

from __future__ import annotations

import math
import stat
import zlib
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from nodule_det.errors import ScanError

CHUNK_BYTES = 2**20
DEFLATE_RATIO = 1032
"""Deflate cannot shrink anything by more than this."""
LARGE_BYTES = 2**30
LARGE_RATIO = 100
"""Above ``LARGE_BYTES``, a file must hold at least a hundredth of what its header claims: CT
shrinks two- to fourfold, label masks are smaller than that."""


class Packing(Enum):
    """How voxels are stored; the value is zlib's ``wbits``."""

    RAW = 0
    ZLIB = 15
    GZIP = 31


@dataclass(frozen=True)
class VoxelSource:
    """Where the voxels of an image lie and what they are.

    Attributes:
        path: The file that holds them.
        start: First byte of the voxels, or of the packed stream; negative counts from the end
            of the file.
        packing: Raw, zlib or gzip.
        skip: Bytes to leave out at the beginning of what was unpacked (or after ``start``).
        dtype: Number type, with its byte order.
        size_vox: (z, y, x).
    """

    path: Path
    start: int
    packing: Packing
    dtype: np.dtype[Any]
    size_vox: tuple[int, int, int]
    skip: int = 0

    @property
    def n_bytes(self) -> int:
        """Bytes of all voxels."""
        return math.prod(self.size_vox) * self.dtype.itemsize


def is_regular(path: Path) -> bool:
    """Return True for an ordinary file or a link to one: FIFOs and devices are never opened."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):  # a link to nowhere, a loop, a name with a NUL
        return False


def check_claim(source: VoxelSource) -> None:
    """Refuse a header whose voxels the file cannot hold; reads nothing.

    Raises:
        ScanError: If raw voxels are cut off or too many, or packed ones would have to be packed
            better than deflate can, or than an image of more than 1 GiB ever is.
    """
    there = source.path.stat().st_size - max(source.start, 0)
    if source.packing is Packing.RAW:
        _check_length(source, there - source.skip)
        return
    needed = source.n_bytes + source.skip
    if needed > DEFLATE_RATIO * there or (needed > LARGE_BYTES and needed > LARGE_RATIO * there):
        raise ScanError(
            f"{source.path} cannot hold the {needed} bytes of voxels that its header claims in "
            f"{there} compressed bytes: it is truncated or damaged; copy it again"
        )


def read_voxels(source: VoxelSource) -> NDArray[Any]:
    """Read all voxels of a file.

    Returns:
        (z, y, x) array of ``source.dtype``.

    Raises:
        ScanError: If there are fewer or more bytes than the header promises, or a packed stream
            is damaged or cut off.
        MemoryError: If they do not fit in memory.
    """
    check_claim(source)
    values = np.empty(source.size_vox, source.dtype)
    buffer = values.reshape(-1).view(np.uint8).data
    with open(source.path, "rb") as file:
        if source.start < 0:
            file.seek(source.start, 2)
        else:
            file.seek(source.start)
        if source.packing is Packing.RAW:
            file.seek(source.skip, 1)
            there = file.readinto(buffer)
        else:
            there = _unpack(file, source, buffer) - source.skip
    _check_length(source, there)
    return values


def _check_length(source: VoxelSource, there: int) -> None:
    needed = source.n_bytes
    if there < needed:
        raise ScanError(
            f"{source.path} is truncated: it has {max(there, 0)} of {needed} bytes of voxels; "
            "copy it again"
        )
    if there > needed and source.start >= 0:
        raise ScanError(
            f"{source.path} has more than the {needed} bytes of voxels that its header "
            f"describes ({' x '.join(map(str, source.size_vox))} of {source.dtype.name}): the "
            "header belongs to another image; copy both again"
        )


def _unpack(file: BinaryIO, source: VoxelSource, buffer: memoryview) -> int:
    """Unpack a stream into a buffer, and return how many bytes it holds.

    Unpacking stops at the first byte too many.
    """
    unpacker = zlib.decompressobj(source.packing.value)
    there = 0
    packed = file.read(CHUNK_BYTES)
    try:
        while packed or not unpacker.eof:
            if unpacker.eof:  # a gzip file may have several members, and zeros at its end
                packed = packed.lstrip(b"\0") or file.read(CHUNK_BYTES).lstrip(b"\0")
                if not packed:
                    break
                if source.packing is not Packing.GZIP:
                    raise zlib.error("bytes after its end")
                unpacker = zlib.decompressobj(source.packing.value)
            piece = unpacker.decompress(packed, CHUNK_BYTES)
            _copy(piece, buffer, there - source.skip)
            there += len(piece)
            if there - source.skip > len(buffer):
                return there
            packed = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
            if not packed and not (piece and len(piece) == CHUNK_BYTES):
                packed = file.read(CHUNK_BYTES)
                if not packed and not unpacker.eof:
                    raise zlib.error("it ends in the middle of its stream")
    except zlib.error as error:
        raise ScanError(
            f"{source.path} cannot be read, it is truncated or damaged ({error}); copy it again"
        ) from None
    return there


def _copy(piece: bytes, buffer: memoryview, at: int) -> None:
    """Copy a piece to its place; what lies before or behind the buffer is left out."""
    if at < 0:
        piece, at = piece[-at:], 0
    end = min(at + len(piece), len(buffer))
    if end > at:
        buffer[at:end] = piece[: end - at]
