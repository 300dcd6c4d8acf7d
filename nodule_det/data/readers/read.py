"""Image files -> voxels in Hounsfield units and where they lie: the one door for all formats.

    path ──find_scans()──▶ [ScanEntry] ──read_entry()──▶ Scan (int16 HU, Grid)
                                       └─read_mask()──▶ uint8 in the grid of its scan

| format | what is opened |
| --- | --- |
| MetaImage | ``.mhd`` (with its ``.raw`` or ``.zraw``), ``.mha`` |
| NIfTI | ``.nii``, ``.nii.gz`` |
| NRRD | ``.nrrd``, ``.nhdr`` (with its voxel file) |
| DICOM | the folder of a series |

Headers are parsed strictly, and voxels are read by one function for all files (``voxels.py``): the
libraries accept damaged files silently.
"""

from __future__ import annotations

import filecmp
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nodule_det.arrays import FloatArray
from nodule_det.data.readers import dicom_header as tags
from nodule_det.data.readers.dicom import SeriesFolder, check_series, choose, list_series
from nodule_det.data.readers.dicom_header import SliceHeader, patient_key
from nodule_det.data.readers.metaimage import metaimage_grid, metaimage_source, voxel_file
from nodule_det.data.readers.nifti import nifti_grid, nifti_values
from nodule_det.data.readers.nrrd import nrrd_grid, nrrd_source
from nodule_det.data.readers.pixels import read_pixels
from nodule_det.data.readers.stack import assemble
from nodule_det.data.readers.voxels import Convert, is_regular, read_voxels
from nodule_det.data.scan import HuVolume, Scan, ScanEntry, to_hu
from nodule_det.errors import GeometryError, ScanError
from nodule_det.geometry import Grid

SUFFIXES = (".mhd", ".mha", ".nii.gz", ".nii", ".nrrd", ".nhdr")
FORMATS = f"{', '.join(SUFFIXES)} or the folder of a DICOM series"
SAME_PLACE_MM = 0.1
"""How far the corners of two grids may be apart and be called the same."""
AIR_HU = -300
"""Every CT of a chest has voxels of lung and air below this."""
PLAUSIBLE_SPACING_MM = (0.05, 25.0)
"""CT has voxels of 0.1 mm (temporal bone) to 10 mm."""
MASK_FOLDER = re.compile(r"labels|masks|segmentations")
"""Beginning of the name of a folder with lesion masks, beside one that begins with ``images``."""
MOST_VOXELS = 2**31
"""Four times as many as 512 slices of 1024 x 1024 voxels of the finest scanners have."""
LARGE_VOXELS = 2**27
SHRUNK = 100
"""Largest number of voxels per byte of the file of a scan of more than ``LARGE_VOXELS``: CT is
noisy and takes about one byte per voxel when packed.  Smaller scans may be synthetic."""
FARTHEST_MM = 10_000.0
"""Larger coordinates are not of a scanner: its table is two metres long."""


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
    """Return whether a file's name is that of an image (macOS's ``._`` shadows are left out)."""
    return path.name.lower().endswith(SUFFIXES) and not path.name.startswith(".")


def read_entry(entry: ScanEntry) -> Scan:
    """Read the scan of an entry.

    Raises:
        ScanError: As :func:`read_scan`, or if listing it showed a problem.
        GeometryError: As :func:`read_scan`.
    """
    if entry.problem is not None:
        raise ScanError(entry.problem)
    return read_scan(entry.path, entry.series_uid, entry.folders)


def read_scan(path: Path, series_uid: str | None = None, folders: Sequence[Path] = ()) -> Scan:
    """Read a CT scan.

    Args:
        path: An image file of one of ``SUFFIXES``, or the folder of a DICOM series.
        series_uid: Which series of a DICOM folder; it may be left out where there is one.  For
            a file it is the key that the scan gets, by default the file's stem.
        folders: Further folders with slices of the series.

    Returns:
        The scan: int16 HU clipped to [-1024, 3071], in the file's own grid.

    Raises:
        ScanError: If the file is missing, damaged, incomplete, or not a CT.
        GeometryError: If its axes are sheared, or it does not say where its voxels lie.
        MemoryError: If its voxels do not fit in memory.
    """
    path = Path(path)
    if path.is_dir():
        scan = _read_series((path, *folders), series_uid)
    else:
        grid = read_grid(path)
        _check_shrunk(path, grid)
        volume = _FORMATS[_suffix(path)][1](path, partial(to_hu, name=str(path)), np.int16)
        scan = Scan(series_uid or image_stem(path), volume, grid)
    _check_values(path, scan.volume_hu)
    return scan


def _read_series(folders: Sequence[Path], series_uid: str | None) -> Scan:
    ordered, stack = check_series(choose([list_series(f) for f in folders], series_uid))
    check_plausible(stack.grid, folders[0])
    first = ordered[0]
    volume = read_pixels(ordered, first.integer(tags.ROWS), first.integer(tags.COLUMNS))
    return Scan(first.series_uid, assemble(volume, stack), stack.grid, stack.notes)


def _check_shrunk(path: Path, grid: Grid) -> None:
    """Refuse a large scan whose file is smaller than the noise of a CT can be packed."""
    n = math.prod(grid.size_vox)
    there = _stored_in(path).stat().st_size
    if n > MOST_VOXELS or n > max(LARGE_VOXELS, SHRUNK * there):
        raise ScanError(
            f"{path} claims {_size(grid)} voxels (z, y, x) in {there} bytes, which no CT has: its "
            "header is damaged; copy it again"
        )


def _stored_in(path: Path) -> Path:
    """Return the file that holds the voxels of an image."""
    if path.name.lower().endswith((".mhd", ".mha")):
        return metaimage_source(path).path
    return nrrd_source(path).path if path.name.lower().endswith((".nrrd", ".nhdr")) else path


def _check_values(path: Path, volume_hu: HuVolume) -> None:
    low, high = int(volume_hu.min()), int(volume_hu.max())
    if low == high:
        raise ScanError(f"{path} has the same value, {low} HU, in every voxel; export it again")
    if low > AIR_HU:
        raise ScanError(
            f"{path} has values from {low} to {high} HU and no air: they are not Hounsfield "
            "units (a rescale intercept of -1024 not applied?) or not of a chest; convert the scan "
            "again"
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
        ScanError: If it cannot be read, or its values are not whole numbers from 0 to 255.
    """
    path = Path(path)
    grid = read_grid(path)
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
    return _FORMATS[_suffix(path)][1](path, partial(_labels, path=path), np.uint8)


def _labels(values: NDArray[Any], path: Path) -> NDArray[Any]:
    labels = values if values.dtype.kind in "iu" else np.rint(values)
    if not np.array_equal(labels, values) or (labels < 0).any() or (labels > 255).any():
        raise ScanError(f"mask {path} has values other than whole numbers from 0 to 255")
    return labels.astype(np.uint8)


def _size(grid: Grid) -> str:
    return " x ".join(map(str, grid.size_vox))


def _corners(grid: Grid) -> FloatArray:
    ends = [[0, n - 1] for n in grid.size_vox]
    return grid.to_world(np.array(np.meshgrid(*ends)).reshape(3, -1).T)


def read_grid(path: Path) -> Grid:
    """Read where the voxels of an image file (not DICOM) lie, without its voxels.

    Raises:
        ScanError: If the file is missing or damaged.
        GeometryError: If its axes are sheared, its spacing is not plausible, or it does not say
            where its voxels lie.
    """
    path = Path(path)
    _check_image_file(path)
    grid = _FORMATS[_suffix(path)][0](path)
    check_plausible(grid, path)
    return grid


def check_plausible(grid: Grid, path: Path) -> None:
    """Refuse a spacing or a position that no CT scanner writes: units or digits are wrong.

    Raises:
        GeometryError: If there is one.
    """
    low, high = PLAUSIBLE_SPACING_MM
    if not all(low <= s <= high for s in grid.spacing_mm):
        raise GeometryError(
            f"{path} has a voxel spacing of {' x '.join(f'{s:.4g}' for s in grid.spacing_mm)} mm "
            f"(z, y, x); expected {low:g} to {high:g} mm: are its units wrong?"
        )
    if not all(abs(v) <= FARTHEST_MM for v in grid.origin_mm):
        raise GeometryError(
            f"{path} has its first voxel at {grid.origin_mm} mm; expected at most "
            f"{FARTHEST_MM:g} mm from the scanner's centre: are its units wrong?"
        )


def _check_image_file(path: Path) -> None:
    if not path.exists():
        raise ScanError(f"{path} does not exist; set {FORMATS}")
    if not is_regular(path):
        raise ScanError(f"{path} is not a regular file; set {FORMATS}")
    if not path.stat().st_size:
        raise ScanError(f"{path} is empty; copy it again")
    if not is_image_file(path):
        hint = ": use its folder" if path.suffix.lower() == ".dcm" else ""
        raise ScanError(f"{path} is not an image that can be read{hint}; set {FORMATS}")


def _suffix(path: Path) -> str:
    return next(suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix))


def metaimage_values(path: Path, convert: Convert, dtype: DTypeLike) -> NDArray[Any]:
    """Read the voxels of a MetaImage; see :func:`read_voxels`."""
    return read_voxels(metaimage_source(path), convert, dtype)


def nrrd_values(path: Path, convert: Convert, dtype: DTypeLike) -> NDArray[Any]:
    """Read the voxels of an NRRD file; see :func:`read_voxels`."""
    return read_voxels(nrrd_source(path), convert, dtype)


Opened = tuple[Callable[[Path], Grid], Callable[[Path, Convert, DTypeLike], NDArray[Any]]]
_FORMATS: dict[str, Opened] = {
    ".mhd": (metaimage_grid, metaimage_values),
    ".mha": (metaimage_grid, metaimage_values),
    ".nii.gz": (nifti_grid, nifti_values),
    ".nii": (nifti_grid, nifti_values),
    ".nrrd": (nrrd_grid, nrrd_values),
    ".nhdr": (nrrd_grid, nrrd_values),
}


def find_scans(path: Path, exclude: Path | None = None) -> list[ScanEntry]:
    """List the scans of a file or folder, with all folders below it; reads DICOM headers only.

    What is wrong with one scan does not stop the others: it is the entry's ``problem``, or shows
    when it is read.  Folders of masks (``seg-lungs...``, labels beside images) are left out.

    Args:
        path: An image file, a DICOM folder, or a folder with any number of them.
        exclude: A folder to leave out (masks).

    Returns:
        The scans, sorted by path; a DICOM folder of several series gives one entry each, a series
        in several folders one entry.

    Raises:
        ScanError: If there is no scan.
    """
    path = Path(path)
    if not path.is_dir():
        _check_image_file(path)
        return [_file_scan(path)]
    return find_scans_and_masks(path, exclude)[0]


def find_scans_and_masks(
    path: Path, exclude: Path | None = None
) -> tuple[list[ScanEntry], list[SliceHeader]]:
    """List the scans of a folder as :func:`find_scans` does, and its SEG and RTSTRUCT files.

    Raises:
        ScanError: If there is no scan.
    """
    found: list[ScanEntry] = []
    masks: list[SliceHeader] = []
    other: set[str] = set()
    for folder in folders_below(path, exclude):
        scans, content = scans_in(folder, path)
        found += scans
        masks += content.masks
        other |= content.other
    if not found:
        only = f"; it holds DICOM files of modality {', '.join(sorted(other))}" if other else ""
        raise ScanError(f"{path} holds no scan: looked for {FORMATS} of CT, in all folders{only}")
    return join_twins(found), masks


def folders_below(root: Path, exclude: Path | None = None) -> Iterator[Path]:
    """Return a folder and all below it, in the order of their names, each once.

    Hidden folders and folders of masks are left out.  One that may not be read is returned, and
    nothing below it.
    """
    seen: set[tuple[int, int]] = set()
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            stat = folder.stat()
        except OSError:  # gone meanwhile
            continue
        if (stat.st_dev, stat.st_ino) in seen or (exclude is not None and _same(folder, exclude)):
            continue  # links may lead round in a circle
        seen.add((stat.st_dev, stat.st_ino))
        yield folder
        try:
            below = [f for f in folder.iterdir() if not f.name.startswith(".") and f.is_dir()]
        except OSError:
            continue
        names = {f.name.lower() for f in below}
        waiting += sorted((f for f in below if not _holds_masks(f, names)), reverse=True)


def _holds_masks(folder: Path, beside: set[str]) -> bool:
    name = folder.name.lower()
    return name.startswith("seg-lungs") or bool(
        MASK_FOLDER.match(name) and MASK_FOLDER.sub("images", name, count=1) in beside
    )


def mask_folders(images: Path) -> list[Path]:
    """Return the folders of lesion masks beside a folder of images: ``labelsTr`` of ``imagesTr``.

    Raises:
        OSError: If the folder above cannot be listed.
    """
    name = images.name.lower()
    return sorted(
        folder
        for folder in images.parent.iterdir()
        if MASK_FOLDER.match(folder.name.lower())
        and MASK_FOLDER.sub("images", folder.name.lower(), count=1) == name
        and folder.is_dir()
    )


def _same(folder: Path, other: Path) -> bool:
    return folder.resolve() == other.resolve()


def scans_in(folder: Path, root: Path) -> tuple[list[ScanEntry], SeriesFolder]:
    """List the scans that lie directly in a folder, and its DICOM series.

    Args:
        folder: Where to look.
        root: The data set's folder: a scan that cannot be named otherwise is called by its path
            below it.
    """
    name = clean_name(str(folder.relative_to(root)) if folder != root else folder.name)
    try:
        content = list_series(folder)
        scans = [_file_scan(file) for file in sorted(folder.iterdir()) if is_image_file(file)]
    except OSError as error:
        problem = f"{folder} cannot be listed ({error.strerror}); ask for the right to read it"
        return [ScanEntry(name, folder, patient_key(name), problem=problem)], SeriesFolder(folder)
    for uid, slices in sorted(content.ct.items()):
        scans.append(ScanEntry(uid, folder, slices[0].patient_key))
    if content.damaged and not content.ct:
        scans.append(ScanEntry(name, folder, patient_key(name)))
    return scans, content


def _file_scan(path: Path) -> ScanEntry:
    stem = clean_name(image_stem(path))
    return ScanEntry(stem, path, patient_key(stem))


def clean_name(name: str) -> str:
    """Return a name as text that every file and terminal takes.

    Bytes that are not UTF-8 (names from a Windows archive) are read as Latin-1, and control
    characters become ``_``.

    Example:
        >>> clean_name(os.fsdecode(bytes([77, 252, 108])))
        'Mül'
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        name = os.fsencode(name).decode("latin-1")
    return "".join(c if c.isprintable() else "_" for c in name)


def join_twins(scans: Sequence[ScanEntry]) -> list[ScanEntry]:
    """Make one entry of those with the same key.

    A DICOM series that lies in several folders is one scan, and so are identical files.  Two
    different scans of one name are one entry whose ``problem`` says so.
    """
    by_uid: dict[str, list[ScanEntry]] = {}
    for scan in scans:
        by_uid.setdefault(scan.series_uid, []).append(scan)
    return [_joined(twins) for twins in by_uid.values()]


def _joined(twins: list[ScanEntry]) -> ScanEntry:
    first, *others = twins
    if not others:
        return first
    if len({t.fold for t in twins}) == 1:
        if all(t.path.is_dir() for t in twins):
            return replace(first, folders=tuple(t.path for t in others))
        if all(_same_files(first.path, t.path) for t in others):
            return first
    places = " and ".join(str(t.path) for t in twins)
    problem = (
        f"{len(twins)} scans are called {first.series_uid}: {places}; take one of them out, or "
        "rename it"
    )
    return replace(first, problem=problem)


def _same_files(one: Path, other: Path) -> bool:
    """Return whether two image files hold the same bytes, with the voxel files beside them."""
    try:
        pairs = [(one, other)]
        if one.suffix.lower() == other.suffix.lower() == ".mhd":
            pairs.append((voxel_file(one), voxel_file(other)))
        return _suffix(one) == _suffix(other) and all(
            is_regular(a) and is_regular(b) and filecmp.cmp(a, b, shallow=False) for a, b in pairs
        )
    except (OSError, ScanError):
        return False
