"""Masks in blocks of 4 voxels: what a store's index of lung and vessels is made of.

    mask ──mostly()──▶ block mask ──pack()──▶ text ──unpack()──▶ block mask ──grown()──▶ mask

A block mask has one bit for every cube of ``BLOCK_VOX`` voxels; the last cube along an axis may
reach beyond the volume.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nodule_det.arrays import BoolArray
from nodule_det.data.scan import HuVolume
from nodule_det.errors import StoreError

BLOCK_VOX = 4
"""Edge of a block, in voxels."""

VESSEL_HU = -600
"""A block of lung whose densest voxel exceeds this holds a vessel, a wall or a nodule."""


def block_shape(size_vox: Sequence[int]) -> tuple[int, int, int]:
    """Count the blocks along each axis of a volume."""
    z, y, x = (-(-n // BLOCK_VOX) for n in size_vox)
    return z, y, x


def mostly(mask: BoolArray) -> BoolArray:
    """Mark the blocks of which more than half the voxels are in a (z, y, x) mask."""
    total = _block_reduce(mask.astype(np.int16), np.add, 0)
    return np.asarray(total > BLOCK_VOX**3 / 2)


def dense(volume_hu: HuVolume) -> BoolArray:
    """Mark the blocks of a (z, y, x) volume that hold a voxel above ``VESSEL_HU``."""
    return np.asarray(_block_reduce(volume_hu, np.maximum, VESSEL_HU) > VESSEL_HU)


def expand(blocks: BoolArray, size_vox: Sequence[int]) -> BoolArray:
    """Return the (z, y, x) mask of a block mask."""
    for axis in range(3):
        blocks = blocks.repeat(BLOCK_VOX, axis)
    z, y, x = size_vox
    return blocks[:z, :y, :x]


def grown(blocks: BoolArray, size_vox: Sequence[int]) -> BoolArray:
    """Return the (z, y, x) mask of blocks and all their neighbours."""
    return expand(np.asarray(ndimage.binary_dilation(blocks, np.ones((3, 3, 3), bool))), size_vox)


def pack(blocks: BoolArray) -> str:
    """Write a block mask as text: one bit per block, deflated, a few kB per scan."""
    return base64.b64encode(zlib.compress(np.packbits(blocks).tobytes(), 9)).decode("ascii")


def unpack(text: str, shape: tuple[int, int, int]) -> BoolArray:
    """Read what :func:`pack` wrote.

    Raises:
        StoreError: If the text is damaged or belongs to a mask of another size.
    """
    count = int(np.prod(shape))
    n_bytes = -(-count // 8)
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(base64.b64decode(text, validate=True), n_bytes + 1)
    except (binascii.Error, zlib.error, ValueError) as error:
        raise StoreError(f"a block mask is damaged ({error}); ingest the scan again") from error
    if len(data) != n_bytes or not stream.eof:
        raise StoreError(
            f"a block mask does not have {shape[0]} x {shape[1]} x {shape[2]} blocks; ingest the "
            "scan again"
        )
    bits = np.frombuffer(data, np.uint8)
    return np.unpackbits(bits, count=count).astype(bool).reshape(shape)


def _block_reduce(volume: NDArray[np.int16], reduce: np.ufunc, outside: int) -> NDArray[Any]:
    missing = [(0, -n % BLOCK_VOX) for n in volume.shape]
    padded = np.pad(volume, missing, constant_values=outside)
    z, y, x = block_shape(volume.shape)
    blocks = padded.reshape(z, BLOCK_VOX, y, BLOCK_VOX, x, BLOCK_VOX)
    return np.asarray(reduce.reduce(reduce.reduce(reduce.reduce(blocks, 5), 3), 1))
