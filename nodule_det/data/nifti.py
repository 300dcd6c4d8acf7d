"""NIfTI headers, checked before SimpleITK reads the file.

A NIfTI file may say twice where its voxels lie (sform, qform), or not at all.  nibabel and ITK
each have a rule for such files and the rules differ, so a file that needs one is refused: after
these checks the two agree on every voxel, and :func:`nifti_grid` is what both give.
"""

from __future__ import annotations

import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from nodule_det.errors import GeometryError, ScanError
from nodule_det.geometry import Grid, grid_from_ras_affine

AGREE_MM = 0.1
"""How far sform and qform may place the same corner apart."""


def nifti_grid(path: Path) -> Grid:
    """Read where the voxels of a NIfTI image lie; reads the header only.

    Raises:
        ScanError: If the file is damaged, or holds no 3-D volume.
        GeometryError: If it gives no spacing or no position, two that contradict each other, or
            sheared axes.
    """
    image = _open(path)
    header, shape = image.header, image.shape
    if len(shape) != 3:
        raise ScanError(f"{path} has shape {tuple(shape)}; needed is one 3-D volume")
    spacing = [float(v) for v in header["pixdim"][1:4]]
    if not all(np.isfinite(v) and v > 0 for v in spacing):
        raise GeometryError(
            f"{path} gives no voxel spacing (pixdim = {spacing}); write it into the header"
        )
    sform, s_code = header.get_sform(coded=True)
    qform, q_code = header.get_qform(coded=True)
    if not s_code and not q_code:
        raise GeometryError(
            f"{path} does not say where its voxels lie (sform_code and qform_code are 0); "
            "write it again with an affine"
        )
    if s_code and q_code:
        _check_agreement(path, sform, qform, shape)
    try:
        return grid_from_ras_affine(sform if s_code else qform, shape)
    except GeometryError as error:
        raise GeometryError(f"{path}: {error}") from None


def _open(path: Path) -> Any:
    import nibabel
    from nibabel.filebasedimages import ImageFileError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers that are refused here by name
            return nibabel.Nifti1Image.from_filename(path)
    except (ImageFileError, OSError, EOFError, zlib.error, ValueError):
        raise ScanError(
            f"{path} is no NIfTI file, or its header is damaged; copy it again"
        ) from None


def _check_agreement(path: Path, sform: Any, qform: Any, shape: tuple[int, ...]) -> None:
    corners = np.array(np.meshgrid(*[[0, n - 1] for n in shape])).reshape(3, -1)
    apart = (sform - qform)[:3] @ np.vstack([corners, np.ones(corners.shape[1])])
    worst = float(np.linalg.norm(apart, axis=0).max())
    if worst > AGREE_MM:
        raise GeometryError(
            f"{path} has an sform and a qform that place its voxels up to {worst:.4g} mm apart; "
            "keep the one that is right (set the code of the other to 0)"
        )
