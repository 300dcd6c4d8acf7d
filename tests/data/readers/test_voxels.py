"""Packed voxels are read to the end of their stream: one flipped bit anywhere is noticed."""

import gzip
import re
import tracemalloc
import zlib

import numpy as np
import pytest

from nodule_det.data.readers.read import read_mask, read_scan
from nodule_det.errors import GeometryError, ScanError
from nodule_det.geometry import Grid
from tests.data.scan_files import UPRIGHT, noise, write_file

SEED = 20


def packed_start(content):
    """Return the first byte of the stream of a file that SimpleITK packed."""
    if content[:2] == b"\x1f\x8b":
        return 10  # behind gzip's own header
    at = content.find(b"ElementDataFile = LOCAL\n")
    if at >= 0:
        return at + 24
    return content.find(b"\n\n") + 12 if content[:4] == b"NRRD" else 0


@pytest.mark.parametrize("name", ["s.nii.gz", "s.mhd", "s.mha", "s.nrrd", "s.nhdr"])
@pytest.mark.parametrize("read", ["scan", "mask"])
def test_single_bit_flips_in_a_packed_stream_never_change_a_voxel(tmp_path, name, read):
    labels = (noise() > 1200).astype(np.uint8)
    values = labels if read == "mask" else noise()
    path = write_file(tmp_path / name, values, compress=True)
    voxels = next((p for p in tmp_path.iterdir() if p != path), path)
    good = voxels.read_bytes()
    generator = np.random.default_rng(SEED)
    refused = 0
    for _ in range(150):
        content = bytearray(good)
        bit = generator.integers(packed_start(good) * 8, len(good) * 8)
        content[bit // 8] ^= 1 << (bit % 8)
        voxels.write_bytes(content)
        try:
            got = read_scan(path).volume_hu if read == "scan" else read_mask(path, UPRIGHT)
        except (ScanError, GeometryError):
            refused += 1
        else:
            np.testing.assert_array_equal(got, values)
    assert refused >= 140  # the others hit bits that mean nothing, such as gzip's flags


@pytest.mark.parametrize("name", ["s.nii.gz", "s.mhd", "s.nrrd"])
def test_a_stream_cut_at_any_place_is_refused(tmp_path, name):
    path = write_file(tmp_path / name, noise(), compress=True)
    voxels = next((p for p in tmp_path.iterdir() if p != path), path)
    good = voxels.read_bytes()
    for n in {1, 2, 4, 8, 9, len(good) // 2}:
        voxels.write_bytes(good[:-n])
        with pytest.raises(ScanError, match="truncated or damaged"):
            read_scan(path)


def test_several_gzip_members_and_zeros_at_the_end_are_read(tmp_path):
    content = write_file(tmp_path / "s.nii", noise()).read_bytes()
    members = [gzip.compress(content[a : a + 300]) for a in range(0, len(content), 300)]
    (tmp_path / "m.nii.gz").write_bytes(b"".join(members) + bytes(100))
    np.testing.assert_array_equal(read_scan(tmp_path / "m.nii.gz").volume_hu, noise())


def test_bytes_behind_the_stream_are_refused(tmp_path):
    content = write_file(tmp_path / "s.nii", noise()).read_bytes()
    (tmp_path / "m.nii.gz").write_bytes(gzip.compress(content) + b"more")
    with pytest.raises(ScanError, match="truncated or damaged"):
        read_scan(tmp_path / "m.nii.gz")


def test_a_stream_that_unpacks_to_gigabytes_is_stopped_at_what_the_header_says(tmp_path):
    path = write_file(tmp_path / "s.mhd", noise(), compress=True)
    packer = zlib.compressobj()
    pieces = [packer.compress(bytes(2**20)) for _ in range(256)] + [packer.flush()]
    (tmp_path / "s.zraw").write_bytes(b"".join(pieces))  # 256 MiB in 260 kB
    header = re.sub(r"DataSize = \d+", f"DataSize = {sum(map(len, pieces))}", path.read_text())
    path.write_text(header)
    tracemalloc.start()
    with pytest.raises(ScanError, match="more than the 864 bytes of voxels"):
        read_scan(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24


@pytest.mark.parametrize("name", ["s.nii", "s.mha", "s.nrrd", "s.nii.gz"])
def test_reading_takes_the_memory_of_the_result_whatever_the_file_holds(tmp_path, name):
    size = (64, 128, 256)  # 2 million voxels: 16.8 MB as float64, 4.2 MB as HU
    volume = np.zeros(size)
    volume[:, ::2] = -1000.0
    path = write_file(tmp_path / name, volume, Grid(size, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)))
    read_scan(path)  # imports
    tracemalloc.start()
    scan = read_scan(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (scan.volume_hu.nbytes, scan.volume_hu.dtype) == (4_194_304, np.int16)
    assert peak < scan.volume_hu.nbytes + 12_000_000


def test_a_small_file_that_claims_a_large_scan_is_refused_before_it_is_read(tmp_path):
    # 900 million voxels; deflate could hold them in as little
    path = tmp_path / "s.mha"
    header = (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nCompressedData = True\n"
        "CompressedDataSize = 900000\nDimSize = 1000 1000 900\nElementSpacing = 1 1 1\n"
        "Offset = 0 0 0\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
    )
    path.write_bytes(header.encode() + bytes(900_000))
    tracemalloc.start()
    words = r"s\.mha claims 900 x 1000 x 1000 voxels \(z, y, x\) in \d+ bytes, which no CT has"
    with pytest.raises(ScanError, match=words):
        read_scan(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000
