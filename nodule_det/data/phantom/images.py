"""Write a scan in the formats of hospitals and challenges: MetaImage, NIfTI or a DICOM series.

    Scan ──write_image()──▶ UID.mhd + UID.raw  |  UID.nii.gz  |  UID/0001.dcm ...

SimpleITK writes everything into a hidden folder beside the target.  The files are then renamed into
place, and the one that readers look for is renamed last.
"""

from __future__ import annotations

import locale
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nodule_det.config.data import FileFormat
from nodule_det.data.scan import Scan
from nodule_det.errors import LayoutError

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
INTERCEPT_HU = -1024
SCAN_DATE, SCAN_TIME = "20000101", "120000"
"""Fixed, so that the same seed gives the same bytes; SimpleITK would use the current time."""


def image_name(uid: str, file_format: FileFormat) -> str:
    """Return the name of the file or folder that a reader opens."""
    suffix = {FileFormat.mhd: ".mhd", FileFormat.nifti: ".nii.gz", FileFormat.dicom: ""}
    return f"{uid}{suffix[file_format]}"


def write_image(scan: Scan, path: Path, file_format: FileFormat) -> None:
    """Write a scan whole or not at all.

    Args:
        scan: The scan to write.
        path: Header, file or folder, as named by :func:`image_name`.
        file_format: File format.

    Raises:
        LayoutError: If the disk is full or the folder is not writable.
    """
    import SimpleITK as sitk

    with _beside(path) as hidden:
        try:
            if file_format is FileFormat.dicom:
                (hidden / path.name).mkdir()
                _write_slices(_image(scan), scan.series_uid, hidden / path.name)
            else:
                sitk.WriteImage(_image(scan), str(hidden / path.name))
        except RuntimeError as error:  # all that SimpleITK raises
            raise LayoutError(
                f"{path} cannot be written ({str(error).strip().splitlines()[-1]}); "
                "free space there, ask for the right to write, or use another folder"
            ) from error
        for part in sorted(hidden.iterdir(), key=lambda part: part.name == path.name):
            _flush(part)
            os.replace(part, path.with_name(part.name))


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Create an empty hidden folder beside a file, and delete it afterwards."""
    hidden = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    hidden.mkdir()
    try:
        yield hidden
    finally:
        shutil.rmtree(hidden)


def _flush(part: Path) -> None:
    """Flush the content to the disk before it is renamed."""
    for file in sorted(part.iterdir()) if part.is_dir() else [part]:
        with open(file, "rb") as f:
            os.fsync(f.fileno())


def _image(scan: Scan) -> Any:
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(scan.volume_hu)
    image.SetSpacing(scan.grid.spacing_mm[::-1])
    image.SetOrigin(scan.grid.origin_mm)
    image.SetDirection([cosine for row in scan.grid.direction for cosine in row])
    return image


def _write_slices(image: Any, uid: str, folder: Path) -> None:
    """Write one DICOM file per slice, with the tags that readers and archives need."""
    import SimpleITK as sitk

    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    series = _series_tags(image, uid)
    for k in range(image.GetSize()[2]):
        slice_image = image[:, :, k]
        position_mm = image.TransformIndexToPhysicalPoint((0, 0, k))
        tags = {
            **series,
            "0008|0018": f"{uid}.{k + 1}",  # SOP instance
            "0020|0013": str(k + 1),  # instance number
            "0020|0032": "\\".join(f"{v:.4f}" for v in position_mm),  # image position (patient)
            "0020|1041": f"{position_mm[2]:.4f}",  # slice location
        }
        for tag, value in tags.items():
            slice_image.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{k + 1:04d}.dcm"))
        with _kept_locale():
            writer.Execute(slice_image)


@contextmanager
def _kept_locale() -> Iterator[None]:
    """Restore the process's character set, which GDCM's writer changes to ASCII."""
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        yield
    finally:
        locale.setlocale(locale.LC_CTYPE, before)


def _series_tags(image: Any, uid: str) -> dict[str, str]:
    """Return the tags that all slices share; the patient is fictitious and has no name."""
    dx, dy, dz = image.GetSpacing()
    axes = image.GetDirection()
    along_row, along_column = axes[0::3], axes[1::3]
    return {
        "0008|0008": "DERIVED\\SECONDARY\\AXIAL",
        "0008|0016": CT_IMAGE_STORAGE,
        "0008|0020": SCAN_DATE,
        "0008|0030": SCAN_TIME,
        "0008|0060": "CT",
        "0008|103e": "synthetic chest CT",
        "0010|0010": "PHANTOM",
        "0010|0020": uid.rsplit(".", 1)[-1][:16],  # patient: one scan each
        "0018|0050": f"{dz:.4f}",  # slice thickness
        "0018|5100": "HFS",
        "0020|000d": f"{uid}.0",  # study
        "0020|000e": uid,  # series
        "0020|0011": "1",
        "0020|0037": "\\".join(f"{v:.6f}" for v in (*along_row, *along_column)),
        "0020|0052": f"{uid}.0.1",  # frame of reference
        "0028|0030": f"{dy:.4f}\\{dx:.4f}",
        "0028|1052": str(INTERCEPT_HU),
        "0028|1053": "1",
        "0028|1054": "HU",
    }
