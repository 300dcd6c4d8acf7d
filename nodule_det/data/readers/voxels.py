"""The voxels of one file: exactly the bytes that its header promises, unpacked to their end.

    file, first byte, packing ──read_voxels(convert)──▶ (z, y, x) array

Voxels are converted a megabyte at a time, so the memory of a scan is that of the result, whatever
the number type of its file.  A packed stream is read to its end, so its checksum and length are
verified, and never unpacked further than the header says.  A header that claims more than the file
can hold is refused before any memory is taken.

References:
    RFC 1950 (zlib), RFC 1951 (deflate), RFC 1952 (gzip).
"""

from __future__ import annotations

import math
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nodule_det.errors import ScanError

Convert = Callable[[NDArray[Any]], NDArray[Any]]
"""Converts (n,) voxels to another number type, one by one."""

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


def read_voxels(source: VoxelSource, convert: Convert, dtype: DTypeLike) -> NDArray[Any]:
    """Read all voxels of a file.

    Args:
        source: Where they are.
        convert: Converts (n,) voxels as stored to ``dtype``; called many times.
        dtype: Number type of the result.

    Returns:
        (z, y, x) array of ``dtype``.

    Raises:
        ScanError: If there are fewer or more bytes than the header promises, or a packed stream
            is damaged or cut off.
        MemoryError: If they do not fit in memory.
    """
    check_claim(source)
    values = np.empty(source.size_vox, dtype)
    flat, at, there, rest = values.reshape(-1), 0, 0, b""
    with open(source.path, "rb") as file:
        file.seek(source.start, os.SEEK_END if source.start < 0 else os.SEEK_SET)
        for piece in _pieces(file, source):
            there += len(piece)
            if there > source.n_bytes:
                break
            rest += piece
            stored = np.frombuffer(rest, source.dtype, len(rest) // source.dtype.itemsize)
            flat[at : at + stored.size] = convert(stored)
            at, rest = at + stored.size, rest[stored.nbytes :]
    _check_length(source, there)
    return values


def _pieces(file: BinaryIO, source: VoxelSource) -> Iterator[bytes]:
    """Return the bytes of the voxels, a megabyte or less at a time."""
    if source.packing is not Packing.RAW:
        yield from _skipped(_unpacked(file, source), source.skip)
        return
    file.seek(source.skip, os.SEEK_CUR)
    left = source.n_bytes
    while piece := file.read(min(CHUNK_BYTES, left)):
        left -= len(piece)
        yield piece


def _skipped(pieces: Iterator[bytes], skip: int) -> Iterator[bytes]:
    for piece in pieces:
        yield piece[skip:]
        skip = max(0, skip - len(piece))


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


def _unpacked(file: BinaryIO, source: VoxelSource) -> Iterator[bytes]:
    """Unpack a stream to its end."""
    unpacker = zlib.decompressobj(source.packing.value)
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
            yield piece
            packed = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
            if not packed and not (piece and len(piece) == CHUNK_BYTES):
                packed = file.read(CHUNK_BYTES)
                if not packed and not unpacker.eof:
                    raise zlib.error("it ends in the middle of its stream")
    except zlib.error as error:
        raise ScanError(
            f"{source.path} cannot be read, it is truncated or damaged ({error}); copy it again"
        ) from None
