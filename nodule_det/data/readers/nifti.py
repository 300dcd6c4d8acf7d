"""NIfTI images: the header by nibabel, checked for what it and ITK would pass over; the voxels.

    path ──_header()──▶ checked header ──nifti_grid()──▶ Grid
                                       ──nifti_values()──▶ voxels (z, y, x)

SimpleITK reads a truncated NIfTI file without a word and turns NaN into 0.  A file may also say
twice where its voxels lie (sform, qform), or not at all.  nibabel and ITK each have a rule for
such files and the rules differ, so a file that needs one is refused: after these checks the two
agree on every voxel.

References:
    https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h
"""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nodule_det.arrays import FloatArray
from nodule_det.data.readers.voxels import Convert, Packing, VoxelSource, check_claim, read_voxels
from nodule_det.errors import GeometryError, ScanError
from nodule_det.geometry import Grid, grid_from_ras_affine

AGREE_MM = 0.1
"""How far sform and qform may place the same corner apart."""
AGREE_SPACING = 0.01
"""How far the spacing of the sform may differ from pixdim: relative."""
HEADER_BYTES = {348: b"n+1", 540: b"n+2"}
"""Length of the header and its magic word, of NIfTI-1 and NIfTI-2."""
UNIT_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
"""Millimetres of the spatial units of ``xyzt_units``: unknown, metre, millimetre, micrometre."""
CODES = set(range(6))
"""Codes of sform and qform that NIfTI defines."""
LARGEST_VOXEL_BYTES = 8
LONGEST_EXTENSION = 2**24
"""Largest vox_offset: headers with extensions of more than 16 MiB are damaged."""


def nifti_grid(path: Path) -> Grid:
    """Read where the voxels of a NIfTI image lie; reads the header only.

    Raises:
        ScanError: If the file is damaged, or is not a 3-D volume.
        GeometryError: If it has no spacing or no position, two that contradict each other, or
            sheared axes.
    """
    header = _header(path)
    source = _source(path, header)
    check_claim(source)
    spacing = np.array([float(v) for v in header["pixdim"][1:4]])
    if not (np.isfinite(spacing) & (spacing > 0)).all():
        raise GeometryError(
            f"{path} has no voxel spacing (pixdim = {spacing.tolist()}); write it into the header"
        )
    affine = _affine(path, header, source.size_vox[::-1])
    units = int(header["xyzt_units"]) & 7
    if units not in UNIT_MM:
        raise GeometryError(
            f"{path} has the unknown unit xyzt_units={int(header['xyzt_units'])}; set it to 2 (mm)"
        )
    affine[:3] *= UNIT_MM[units]
    try:
        grid = grid_from_ras_affine(affine, source.size_vox[::-1])
    except GeometryError as error:
        raise GeometryError(f"{path}: {error}") from None
    written = spacing[::-1] * UNIT_MM[units]
    if not np.allclose(grid.spacing_mm, written, rtol=AGREE_SPACING):
        raise GeometryError(
            f"{path} has voxels of {_numbers(grid.spacing_mm)} mm (z, y, x) by its affine and of "
            f"{_numbers(written)} mm by pixdim; keep the one that is right"
        )
    return grid


def _numbers(values: Any) -> str:
    return " x ".join(f"{float(v):.4g}" for v in values)


def _affine(path: Path, header: Any, size_xyz: tuple[int, ...]) -> FloatArray:
    """Return the (4, 4) affine to RAS, of the sform or the qform, which must agree."""
    from nibabel.spatialimages import HeaderDataError

    s_code, q_code = int(header["sform_code"]), int(header["qform_code"])
    if not {s_code, q_code} <= CODES:
        raise GeometryError(
            f"{path} has the unknown sform_code={s_code} or qform_code={q_code}: its header is "
            "damaged; copy it again"
        )
    if not s_code and not q_code:
        raise GeometryError(
            f"{path} does not say where its voxels lie (sform_code and qform_code are 0); "
            "write it again with an affine"
        )
    qfac = float(header["pixdim"][0])
    if not np.isfinite(qfac):
        raise GeometryError(f"{path} has a damaged qform (pixdim[0] = {qfac}); copy it again")
    header["pixdim"][0] = -1 if qfac < 0 else 1  # nifti1.h: 0 means 1
    try:
        sform, qform = header.get_sform(), header.get_qform() if q_code else None
    except (ValueError, HeaderDataError) as error:  # a quaternion longer than 1
        raise GeometryError(f"{path} has a damaged qform ({error}); copy it again") from None
    if not s_code:
        return np.array(qform, np.float64)
    if not np.isfinite(sform).all():
        raise GeometryError(f"{path} has an sform that is not finite; copy it again")
    if qform is not None:
        _check_agreement(path, sform, qform, size_xyz)
    return np.array(sform, np.float64)


def nifti_values(path: Path, convert: Convert, dtype: DTypeLike) -> NDArray[Any]:
    """Read the voxels of a NIfTI image as (z, y, x), scaled by its slope and intercept.

    Args:
        path: The image.
        convert: Converts scaled voxels to ``dtype``.
        dtype: Number type of the result.

    Raises:
        ScanError: If they are cut off or damaged, or the scaling is not finite.
    """
    header = _header(path)
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or np.isnan(slope):  # nifti1.h: no scaling; nibabel writes NaN
        slope, intercept = 1.0, 0.0
    if not np.isfinite(slope) or not np.isfinite(intercept):
        raise ScanError(
            f"{path} has scl_slope={slope} and scl_inter={intercept}; expected finite numbers: "
            "convert the scan again"
        )

    def scaled(stored: NDArray[Any]) -> NDArray[Any]:
        return convert(stored if (slope, intercept) == (1, 0) else stored * slope + intercept)

    return read_voxels(_source(path, header), scaled, dtype)


def _source(path: Path, header: Any) -> VoxelSource:
    shape = [int(n) for n in header["dim"][1 : 1 + max(0, min(7, int(header["dim"][0])))]]
    if (
        len(shape) < 3
        or int(header["dim"][0]) > 7
        or min(shape) < 1
        or max(shape[3:], default=1) > 1
    ):
        raise ScanError(f"{path} has shape {tuple(shape)}; expected a single 3-D volume")
    try:
        dtype = header.get_data_dtype()
    except Exception as error:  # nibabel raises several kinds of its own
        raise ScanError(f"{path} has an unknown data type ({error}); copy it again") from None
    if dtype.kind not in "iuf" or dtype.itemsize > LARGEST_VOXEL_BYTES:
        raise ScanError(
            f"{path} has voxels of type {dtype}; expected whole numbers, float32 or float64"
        )
    if int(header["bitpix"]) != 8 * dtype.itemsize:
        raise ScanError(
            f"{path} has voxels of type {dtype} and bitpix={int(header['bitpix'])}: its header is "
            "damaged; copy it again"
        )
    packing = Packing.GZIP if path.name.lower().endswith(".gz") else Packing.RAW
    x, y, z = shape[:3]
    return VoxelSource(path, 0, packing, dtype, (z, y, x), int(float(header["vox_offset"])))


def _header(path: Path) -> Any:
    """Read the header unchanged: nibabel's own repairs would turn a missing spacing into 1 mm."""
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    damaged = ScanError(f"{path} is not a NIfTI file, or its header is damaged; copy it again")
    try:
        with gzip.open(path) if path.name.lower().endswith(".gz") else open(path, "rb") as file:
            start = file.read(max(HEADER_BYTES))
        sizes = {order: struct.unpack(f"{order}i", start[:4])[0] for order in "<>"}
    except (OSError, EOFError, zlib.error, struct.error):
        raise damaged from None
    order = next((order for order, size in sizes.items() if size in HEADER_BYTES), "")
    size = sizes.get(order, 0)
    if not order or len(start) < size or HEADER_BYTES[size] not in start[:size]:
        raise damaged
    kind = Nifti1Header if size == min(HEADER_BYTES) else Nifti2Header
    header = kind(start[:size], endianness=order, check=False)
    offset = float(header["vox_offset"])
    if not size <= offset <= LONGEST_EXTENSION or not offset.is_integer():
        raise damaged
    return header


def _check_agreement(path: Path, sform: Any, qform: Any, size_xyz: tuple[int, ...]) -> None:
    corners = np.array(np.meshgrid(*[[0, n - 1] for n in size_xyz])).reshape(3, -1)
    apart = (sform - qform)[:3] @ np.vstack([corners, np.ones(corners.shape[1])])
    worst = float(np.linalg.norm(apart, axis=0).max())
    if not worst <= AGREE_MM:
        raise GeometryError(
            f"{path} has an sform and a qform that place its voxels up to {worst:.4g} mm apart; "
            "keep the one that is right (set the code of the other to 0)"
        )
