"""NIfTI images, read by nibabel and checked for what it and ITK would pass over.

    path ──_header()──▶ checked header ──nifti_grid()──▶ Grid
                                       ──nifti_values()──▶ voxels (z, y, x)

SimpleITK reads a truncated NIfTI file without a word and turns NaN into 0, so nibabel reads the
voxels.  A file may also say twice where its voxels lie (sform, qform), or not at all.  nibabel
and ITK each have a rule for such files and the rules differ, so a file that needs one is refused:
after these checks the two agree on every voxel.
"""

from __future__ import annotations

import errno
import gzip
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nodule_det.arrays import FloatArray
from nodule_det.errors import GeometryError, ScanError
from nodule_det.geometry import Grid, grid_from_ras_affine

AGREE_MM = 0.1
"""How far sform and qform may place the same corner apart."""
HEADER_BYTES = {348: b"n+1", 540: b"n+2"}
"""Length of the header and its magic word, of NIfTI-1 and NIfTI-2."""


def nifti_grid(path: Path) -> Grid:
    """Read where the voxels of a NIfTI image lie; reads the header only.

    Raises:
        ScanError: If the file is damaged, or holds no 3-D volume.
        GeometryError: If it gives no spacing or no position, two that contradict each other, or
            sheared axes.
    """
    header = _header(path)
    shape = header.get_data_shape()
    if len(shape) != 3:
        raise ScanError(f"{path} has shape {tuple(map(int, shape))}; needed is one 3-D volume")
    spacing = [float(v) for v in header["pixdim"][1:4]]
    if not all(np.isfinite(v) and v > 0 for v in spacing):
        raise GeometryError(
            f"{path} gives no voxel spacing (pixdim = {spacing}); write it into the header"
        )
    try:
        return grid_from_ras_affine(_affine(path, header), shape)
    except GeometryError as error:
        raise GeometryError(f"{path}: {error}") from None


def _affine(path: Path, header: Any) -> FloatArray:
    """Return the (4, 4) affine to RAS, of the sform or the qform, which must agree."""
    from nibabel.spatialimages import HeaderDataError

    s_code, q_code = int(header["sform_code"]), int(header["qform_code"])
    if not s_code and not q_code:
        raise GeometryError(
            f"{path} does not say where its voxels lie (sform_code and qform_code are 0); "
            "write it again with an affine"
        )
    try:
        sform, qform = header.get_sform(), header.get_qform() if q_code else None
    except (ValueError, HeaderDataError) as error:  # a quaternion that is none
        raise GeometryError(f"{path} has a damaged qform ({error}); copy it again") from None
    if not s_code:
        return np.asarray(qform, np.float64)
    if qform is not None:
        _check_agreement(path, sform, qform, header.get_data_shape())
    return np.asarray(sform, np.float64)


def nifti_values(path: Path) -> NDArray[Any]:
    """Read the voxels of a NIfTI image as (z, y, x), scaled by its slope and intercept.

    Raises:
        ScanError: If they are cut off or damaged.
    """
    from nibabel.arrayproxy import ArrayProxy
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    try:
        values = np.asanyarray(ArrayProxy(str(path), _header(path)))
    except (
        OSError, EOFError, ValueError, KeyError, OverflowError, zlib.error, ImageFileError,
        HeaderDataError,
    ) as error:  # fmt: skip
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            raise MemoryError(str(error)) from None
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ScanError(
            f"{path} cannot be read, it is truncated or damaged ({reason}); copy it again"
        ) from None
    return np.ascontiguousarray(values.transpose())


def _header(path: Path) -> Any:
    """Read the header as it stands: nibabel's own repairs would give a spacing of 1."""
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    damaged = ScanError(f"{path} is no NIfTI file, or its header is damaged; copy it again")
    try:
        with gzip.open(path) if path.name.lower().endswith(".gz") else open(path, "rb") as file:
            start = file.read(max(HEADER_BYTES))
        (size,) = struct.unpack("<i", start[:4])
        size = size if size in HEADER_BYTES else struct.unpack(">i", start[:4])[0]
    except (OSError, EOFError, zlib.error, struct.error):
        raise damaged from None
    if size not in HEADER_BYTES or len(start) < size or HEADER_BYTES[size] not in start:
        raise damaged
    kind = Nifti1Header if size == min(HEADER_BYTES) else Nifti2Header
    header = kind(start[:size], check=False)
    if not float(header["vox_offset"]) >= size:
        raise damaged
    return header


def _check_agreement(path: Path, sform: Any, qform: Any, shape: tuple[int, ...]) -> None:
    corners = np.array(np.meshgrid(*[[0, n - 1] for n in shape])).reshape(3, -1)
    apart = (sform - qform)[:3] @ np.vstack([corners, np.ones(corners.shape[1])])
    worst = float(np.linalg.norm(apart, axis=0).max())
    if worst > AGREE_MM:
        raise GeometryError(
            f"{path} has an sform and a qform that place its voxels up to {worst:.4g} mm apart; "
            "keep the one that is right (set the code of the other to 0)"
        )
