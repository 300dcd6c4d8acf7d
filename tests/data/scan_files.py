"""Tiny scans as real files: written by SimpleITK, in every format, in any orientation."""

from __future__ import annotations

import locale
import zlib
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nodule_det.data.readers.read import read_scan
from nodule_det.geometry import Grid

UPRIGHT = Grid((6, 9, 8), (2.5, 0.7, 0.8), (-30.0, 12.5, -200.0))
FLIPPED = Grid((6, 9, 8), (2.5, 0.7, 0.8), (30.0, 12.5, 50.0), ((-1, 0, 0), (0, -1, 0), (0, 0, 1)))
FEET_FIRST = Grid((6, 9, 8), (2.5, 0.7, 0.8), (3.0, 4.0, 5.0), ((1, 0, 0), (0, -1, 0), (0, 0, -1)))
SAGITTAL = Grid((6, 9, 8), (2.5, 0.7, 0.8), (3.0, 4.0, 5.0), ((0, 0, 1), (1, 0, 0), (0, 1, 0)))
ROTATED = Grid(
    (6, 9, 8), (2.5, 0.7, 0.8), (3.0, 4.0, 5.0), ((0.8, -0.6, 0.0), (0.6, 0.8, 0.0), (0, 0, 1))
)
GRIDS = {
    "upright": UPRIGHT,
    "flipped": FLIPPED,
    "feet_first": FEET_FIRST,
    "sagittal": SAGITTAL,
    "rotated": ROTATED,
}
SERIES_UID = "1.2.826.1"


def noise(size_vox=UPRIGHT.size_vox, seed=0):
    """Return (z, y, x) int16 values in which every voxel can be told from its neighbours."""
    return np.random.default_rng(seed).integers(-1000, 1500, size_vox).astype(np.int16)


def itk_image(volume, grid=UPRIGHT):
    image = sitk.GetImageFromArray(volume)
    image.SetSpacing([float(s) for s in grid.spacing_mm[::-1]])
    image.SetOrigin([float(v) for v in grid.origin_mm])
    image.SetDirection([float(c) for row in grid.direction for c in row])
    return image


def write_file(path: Path, volume, grid=UPRIGHT, *, compress=False) -> Path:
    """Write a MetaImage or NIfTI file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(itk_image(volume, grid), str(path), useCompression=compress)
    return path


def write_slice(path: Path, pixels, position_mm, grid=UPRIGHT, *, compressor="", **tags) -> Path:
    """Write one DICOM slice.

    Args:
        path: The file.
        pixels: (y, x) Hounsfield units.
        position_mm: World (x, y, z) of the first pixel.
        grid: Its spacing and axes.
        compressor: JPEG or JPEG2000 (both lossless), or none.
        **tags: Other values, as in ``t0008_0060="MR"``; None leaves the tag out.
    """
    axes = np.array(grid.direction, float)
    number = lambda values: "\\".join(f"{v:.6g}" for v in values)  # noqa: E731
    values = {
        "0008|0008": "ORIGINAL\\PRIMARY\\AXIAL",
        "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
        "0008|0018": f"{SERIES_UID}.{zlib.crc32(path.name.encode())}",
        "0008|0060": "CT",
        "0010|0020": "PATIENT-7",
        "0020|000d": "1.2.826.0",
        "0020|000e": SERIES_UID,
        "0020|0032": number(position_mm),
        "0020|0037": number([*axes[:, 0], *axes[:, 1]]),
        "0028|1052": "-1024",
        "0028|1053": "1",
    }
    values |= {name[1:].replace("_", "|"): value for name, value in tags.items()}
    image = sitk.GetImageFromArray(pixels)
    image.SetSpacing([float(s) for s in grid.spacing_mm[:0:-1]])
    for tag, value in values.items():
        if value is not None:
            image.SetMetaData(tag, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    if compressor:
        writer.UseCompressionOn()
        writer.SetCompressor(compressor)
    writer.SetFileName(str(path))
    with kept_locale():
        writer.Execute(image)
    return path


@contextmanager
def kept_locale():
    """Put back the process's character set: writing DICOM sets it to ASCII, for good."""
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        yield
    finally:
        locale.setlocale(locale.LC_CTYPE, before)


def write_series(folder: Path, volume, grid=UPRIGHT, **options) -> list[Path]:
    """Write a DICOM series, one file per slice; file k is ``k.dcm``."""
    return [
        write_slice(folder / f"{k}.dcm", pixels, grid.to_world([k, 0, 0]), grid, **options)
        for k, pixels in enumerate(volume)
    ]


def edit(path: Path, old: bytes, new: bytes) -> None:
    """Change bytes of a file, the same number of them."""
    content = path.read_bytes()
    assert old in content
    assert len(old) == len(new)
    path.write_bytes(content.replace(old, new))


def cut(path: Path, n_bytes: int) -> None:
    """Take bytes from the end of a file."""
    path.write_bytes(path.read_bytes()[:-n_bytes])


def same_place_as_itk(path):
    """Check every corner and every voxel against SimpleITK."""
    scan, image = read_scan(path), sitk.ReadImage(str(path))
    z, y, x = scan.grid.size_vox
    for voxel in [(0, 0, 0), (z - 1, 0, 0), (0, y - 1, 0), (0, 0, x - 1), (z - 1, y - 1, x - 1)]:
        there = image.TransformContinuousIndexToPhysicalPoint([float(v) for v in voxel[::-1]])
        np.testing.assert_allclose(scan.grid.to_world(voxel), there, atol=1e-3)
    values = np.clip(sitk.GetArrayFromImage(image).reshape(scan.grid.size_vox), -1024, 3071)
    np.testing.assert_array_equal(scan.volume_hu, np.rint(values))
