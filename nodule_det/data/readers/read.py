"""Image files -> voxels in Hounsfield units and where they lie: the one door for all formats.

    path ──scan_paths()──▶ [ScanPath] ──read_scan()──▶ Scan (int16 HU, Grid)
                                      └─read_mask()──▶ uint8 in the grid of its scan

| format | what is opened |
| --- | --- |
| MetaImage | ``.mhd`` (with its ``.raw`` or ``.zraw``), ``.mha`` |
| NIfTI | ``.nii``, ``.nii.gz`` |
| DICOM | the folder of a series |

SimpleITK reads MetaImage and DICOM, nibabel NIfTI; what they would pass over in silence is checked
before (``metaimage.py``, ``nifti.py``, ``dicom.py``).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nodule_det.arrays import FloatArray
from nodule_det.data.readers.dicom import (
    SeriesFolder,
    check_series,
    choose,
    list_series,
    read_slices,
)
from nodule_det.data.readers.dicom_header import patient_key
from nodule_det.data.readers.metaimage import check_compressed, check_metaimage
from nodule_det.data.readers.nifti import nifti_grid, nifti_values
from nodule_det.data.scan import HuVolume, Scan, to_hu
from nodule_det.errors import GeometryError, ScanError
from nodule_det.geometry import Grid

META_SUFFIXES = (".mhd", ".mha")
NIFTI_SUFFIXES = (".nii.gz", ".nii")
SUFFIXES = (*META_SUFFIXES, *NIFTI_SUFFIXES)
FORMATS = f"{', '.join(SUFFIXES)} or the folder of a DICOM series"
SAME_PLACE_MM = 0.1
"""How far the corners of two grids may be apart and be called the same."""
AIR_HU = -300
"""Every CT of a chest has voxels of lung and air below this."""


class ScanPath(NamedTuple):
    """A scan on disk: its key, what :func:`read_scan` opens, and the key of its patient."""

    series_uid: str
    path: Path
    patient_key: str


def image_stem(path: Path) -> str:
    """Return a file's name without the ending of its format.

    Example:
        >>> image_stem(Path("imagesTr/lung_001.nii.gz"))
        'lung_001'
    """
    name = path.name
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def is_image_file(path: Path) -> bool:
    """Tell by its name whether a file is an image that we read (macOS's ``._`` shadows are not)."""
    return path.name.lower().endswith(SUFFIXES) and not path.name.startswith(".")


def read_scan(path: Path, series_uid: str | None = None) -> Scan:
    """Read a CT scan.

    Args:
        path: A ``.mhd``, ``.mha``, ``.nii`` or ``.nii.gz`` file, or the folder of a DICOM series.
        series_uid: Which series of a DICOM folder; it may be left out where there is one.  For
            a file it is the key that the scan gets, by default the file's stem.

    Returns:
        The scan: int16 HU clipped to [-1024, 3071], in the file's own grid.

    Raises:
        ScanError: If the file is missing, damaged, incomplete, or no CT.
        GeometryError: If its axes are sheared, or it does not say where its voxels lie.
        MemoryError: If its voxels do not fit in memory.
    """
    path = Path(path)
    if path.is_dir():
        slices = choose(list_series(path), series_uid)
        ordered, grid = check_series(slices)
        volume_hu = read_slices(ordered, grid)
        series_uid = slices[0].series_uid
    else:
        values, grid = _read_image(path)
        volume_hu = to_hu(values, str(path))
        series_uid = series_uid or image_stem(path)
    _check_values(path, volume_hu)
    return Scan(series_uid, volume_hu, grid)


def _check_values(path: Path, volume_hu: HuVolume) -> None:
    low, high = int(volume_hu.min()), int(volume_hu.max())
    if low == high:
        raise ScanError(f"{path} has the same value, {low} HU, in every voxel; export it again")
    if low > AIR_HU:
        raise ScanError(
            f"{path} has values from {low} to {high} HU and no air: they are no Hounsfield units "
            "(a rescale intercept of -1024 not applied?) or no chest; convert the scan again"
        )


def read_mask(path: Path, like: Grid) -> NDArray[np.uint8]:
    """Read a label image that lies in the grid of a scan.

    Args:
        path: MetaImage or NIfTI file.
        like: Grid of the scan.

    Returns:
        (z, y, x) uint8 labels; 0 is background.

    Raises:
        GeometryError: If it has another shape, or lies elsewhere.
        ScanError: If it cannot be read, or its values are no whole numbers from 0 to 255.
    """
    path = Path(path)
    values, grid = _read_image(path)
    if grid.size_vox != like.size_vox:
        raise GeometryError(
            f"mask {path} has {_size(grid)} voxels (z, y, x), its scan has {_size(like)}; "
            "resample the mask to the grid of the scan"
        )
    apart = float(np.linalg.norm(_corners(grid) - _corners(like), axis=1).max())
    if apart > SAME_PLACE_MM:
        raise GeometryError(
            f"mask {path} lies up to {apart:.4g} mm away from its scan; resample the mask to the "
            "grid of the scan"
        )
    labels = values if values.dtype.kind in "iu" else np.rint(values)
    if not np.array_equal(labels, values) or labels.min() < 0 or labels.max() > 255:
        raise ScanError(f"mask {path} has values other than whole numbers from 0 to 255")
    mask: NDArray[np.uint8] = labels.astype(np.uint8)
    return mask


def _size(grid: Grid) -> str:
    return " x ".join(map(str, grid.size_vox))


def _corners(grid: Grid) -> FloatArray:
    ends = [[0, n - 1] for n in grid.size_vox]
    return grid.to_world(np.array(np.meshgrid(*ends)).reshape(3, -1).T)


def read_grid(path: Path) -> Grid:
    """Read where the voxels of an image file (no DICOM) lie, without its voxels.

    Raises:
        ScanError: If the file is missing or damaged.
        GeometryError: If its axes are sheared, or it does not say where its voxels lie.
    """
    path = Path(path)
    _check_image_file(path)
    if path.name.lower().endswith(NIFTI_SUFFIXES):
        return nifti_grid(path)
    check_metaimage(path)
    return _itk_grid(path, _itk_read(path, header_only=True))


def _check_image_file(path: Path) -> None:
    if not path.is_file():
        raise ScanError(f"{path} does not exist; give {FORMATS}")
    if not path.stat().st_size:
        raise ScanError(f"{path} is empty; copy it again")
    if not is_image_file(path):
        hint = ": give its folder" if path.suffix.lower() == ".dcm" else ""
        raise ScanError(f"{path} is no image that can be read{hint}; give {FORMATS}")


def _read_image(path: Path) -> tuple[NDArray[Any], Grid]:
    """Read a MetaImage or NIfTI file: values (z, y, x) as stored and rescaled, and the grid."""
    import SimpleITK as sitk

    grid = read_grid(path)
    if path.name.lower().endswith(NIFTI_SUFFIXES):
        return nifti_values(path), grid
    check_compressed(path)
    return sitk.GetArrayFromImage(_itk_read(path)), grid


def _itk_read(path: Path, *, header_only: bool = False) -> Any:
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # our errors say it, and name the file
    try:
        if not header_only:
            return reader.Execute()
        reader.ReadImageInformation()
        return reader
    except RuntimeError as error:  # all that SimpleITK raises
        reason = str(error).strip().splitlines()[-1].strip()
        if "allocate" in reason or "bad_alloc" in reason:
            raise MemoryError(reason) from None
        raise ScanError(
            f"{path} cannot be read, it is truncated or damaged ({reason}); copy it again"
        ) from None
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)


def _itk_grid(path: Path, image: Any) -> Grid:
    """Describe an image, or a reader that has seen its header."""
    x, y, z = image.GetSize()
    dx, dy, dz = image.GetSpacing()
    ox, oy, oz = image.GetOrigin()
    c = image.GetDirection()
    rows = ((c[0], c[1], c[2]), (c[3], c[4], c[5]), (c[6], c[7], c[8]))
    try:
        return Grid((z, y, x), (dz, dy, dx), (ox, oy, oz), rows)
    except GeometryError as error:
        raise GeometryError(f"{path}: {error}") from None


def scan_paths(path: Path, exclude: Path | None = None) -> list[ScanPath]:
    """List the scans of a file or folder, with all folders below it; reads DICOM headers only.

    A DICOM folder with a damaged file is listed all the same: reading it says what is wrong.

    Args:
        path: An image file, a DICOM folder, or a folder with any number of them.
        exclude: A folder to leave out (masks).

    Returns:
        The scans, sorted by path; a DICOM folder of several series gives one entry each.

    Raises:
        ScanError: If there is no scan, or two scans have the same key.
    """
    path = Path(path)
    if not path.is_dir():
        _check_image_file(path)
        return [_file_scan(path)]
    found: list[ScanPath] = []
    other: set[str] = set()
    for folder in folders_below(path, exclude):
        scans, content = scans_in(folder)
        found += scans
        other |= content.other
    if not found:
        only = f"; it holds DICOM files of modality {', '.join(sorted(other))}" if other else ""
        raise ScanError(f"{path} holds no scan: looked for {FORMATS} of CT, in all folders{only}")
    refuse_twins(found)
    return found


def folders_below(root: Path, exclude: Path | None = None) -> Iterator[Path]:
    """Return a folder and all below it, in the order of their names; hidden ones are left out.

    Raises:
        ScanError: If a folder may not be read.
    """
    for name, folders, _ in os.walk(root, onerror=_refuse_closed, followlinks=True):
        here = Path(name)
        folders[:] = sorted(
            f for f in folders if not f.startswith(".") and not _same(here / f, exclude)
        )
        yield here


def _refuse_closed(error: OSError) -> None:
    raise ScanError(
        f"{error.filename} cannot be listed ({error.strerror}); ask for the right to read it"
    )


def _same(folder: Path, other: Path | None) -> bool:
    return other is not None and folder.resolve() == other.resolve()


def scans_in(folder: Path) -> tuple[list[ScanPath], SeriesFolder]:
    """List the scans that lie directly in a folder, and its DICOM series."""
    content = list_series(folder)
    scans = [_file_scan(file) for file in sorted(folder.iterdir()) if is_image_file(file)]
    for uid, slices in sorted(content.ct.items()):
        scans.append(ScanPath(uid, folder, slices[0].patient_key))
    if content.damaged and not content.ct:
        scans.append(ScanPath(folder.name, folder, patient_key(folder.name)))
    return scans, content


def _file_scan(path: Path) -> ScanPath:
    return ScanPath(image_stem(path), path, patient_key(image_stem(path)))


def refuse_twins(scans: Sequence[ScanPath]) -> None:
    """Refuse two scans of the same key.

    Raises:
        ScanError: If there are two.
    """
    first: dict[str, Path] = {}
    for uid, path, _ in scans:
        if uid in first:
            raise ScanError(
                f"two scans are called {uid}: {first[uid]} and {path}; take one of them out, or "
                "rename it"
            )
        first[uid] = path
