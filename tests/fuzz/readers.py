"""Mutated scans, masks, tables and indices: each is read right, or refused in one line.

    python -m tests.fuzz.readers [--mutations 5000] [--seed 0]

Every seed (each format that is read, and the files beside it) is damaged as ``mutations.py`` says.
Wrong content is a mutation that is accepted although the voxels or their places differ from what an
independent reader (SimpleITK, nibabel, pydicom) finds in the same bytes.  Exits with 1 if there is
a traceback, a hang or wrong content.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK as sitk
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless

from nodule_det.config.data import DataConfig, Layout
from nodule_det.data.layouts.detect import list_scans
from nodule_det.data.readers.read import find_scans, read_entry, read_mask
from nodule_det.data.scan import Scan
from nodule_det.errors import NoduleDetError
from tests.data.dicom_files import chest_series, naked, save_series
from tests.data.mask_files import drawn_labels, rtstruct, seg, series_and_grid
from tests.data.scan_files import UPRIGHT, noise, write_file
from tests.fuzz.mutations import Seed, main, one_line

FAR_MM = 1e-2


def volume() -> np.ndarray:
    return noise((5, 8, 7))


def write_image(name: str, *, compress: bool = False) -> Callable[[Path], Path]:
    return lambda folder: write_file(folder / name, noise(), compress=compress)


def write_mask(folder: Path) -> Path:
    return write_file(folder / "m.nii", (noise() > 1300).astype(np.uint8))


def write_packed_mask(folder: Path) -> Path:
    return write_file(folder / "m.nii.gz", (noise() > 1300).astype(np.uint8), compress=True)


def write_dicom(syntax: str | None = None, *, bare: bool = False) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        # GDCM cannot decode run-length images of a few bytes
        large = noise((3, 32, 40)) if syntax == RLELossless else volume()
        series = chest_series(large)
        if syntax == RLELossless:
            for dataset in series:
                dataset.compress(RLELossless)
            save_series(series, folder)
        elif bare:
            for k, dataset in enumerate(series):
                naked(dataset, folder / f"IM{k}")
        else:
            save_series(series, folder, syntax=syntax)

    return write


def write_enhanced(folder: Path) -> None:
    from tests.data.cases.test_dicom_series import enhanced

    folder.mkdir(parents=True, exist_ok=True)
    enhanced(folder)


def write_decathlon(folder: Path) -> None:
    for i in range(2):
        write_file(folder / f"imagesTr/l{i}.nii.gz", noise())
        write_file(folder / f"labelsTr/l{i}.nii.gz", (noise() > 1300).astype(np.uint8))
    cases = [
        {"image": f"./imagesTr/l{i}.nii.gz", "label": f"./labelsTr/l{i}.nii.gz"} for i in (0, 1)
    ]
    index = {"modality": {"0": "CT"}, "labels": {"1": "cancer"}, "training": cases}
    (folder / "dataset.json").write_text(json.dumps(index))


def write_table(folder: Path) -> None:
    write_file(folder / "s.nii.gz", noise())
    x, y, z = UPRIGHT.to_world((2, 3, 4))
    rows = f"seriesuid,coordX,coordY,coordZ,diameter_mm\ns,{x},{y},{z},6\n"
    (folder / "annotations.csv").write_text(rows)
    (folder / "annotations_excluded.csv").write_text(rows.replace(",6\n", ",-1\n"))


def write_lidc(folder: Path) -> None:
    from tests.data.cases.test_listing import reading

    save_series(chest_series(volume(), series="1.5"), folder / "s")
    reading(folder, "1.5")


def write_objects(kind: Callable[..., Any]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        series, grid = series_and_grid()
        save_series(series, folder / "s")
        made = (
            seg(series, drawn_labels()) if kind is seg else rtstruct(series, grid, drawn_labels())
        )
        made.save_as(folder / "mask.dcm", enforce_file_format=True)

    return write


def read_folder(folder: Path) -> list[Scan]:
    return [read_entry(entry) for entry in find_scans(folder)]


def read_layout(layout: Layout) -> Callable[[Path], list[Scan]]:
    def read(folder: Path) -> list[Scan]:
        entries = list_scans(DataConfig(source=str(folder), layout=layout))
        scans = [scan for entry in entries if (scan := _or_none(entry)) is not None]
        return scans or [read_entry(entries[0])]  # raises

    return read


def _or_none(entry: object) -> Scan | None:
    try:
        return read_entry(entry)  # type: ignore[arg-type]
    except NoduleDetError as error:
        one_line(error)
        return None


def read_masks(folder: Path) -> list[Scan]:
    for path in sorted(folder.iterdir()):
        if path.suffix != ".zraw":
            mask = read_mask(path, UPRIGHT)
            return [Scan(path.name, mask.astype(np.int16), UPRIGHT)]
    return []


def judge_image(folder: Path, scan: Scan) -> str:
    """Compare an accepted image with SimpleITK, and NIfTI with nibabel too."""
    (path,) = (p for p in folder.iterdir() if p.suffix not in (".raw", ".zraw") and p.name != "x")
    z, y, x = (n - 1 for n in scan.grid.size_vox)
    corners = np.array([(0, 0, 0), (z, 0, 0), (0, y, 0), (0, 0, x), (z, y, x)], float)
    if path.name.endswith((".nii", ".nii.gz")):
        image = nibabel.load(path)
        unit = {1: 1000.0, 3: 0.001}.get(int(image.header["xyzt_units"]) & 7, 1.0)
        theirs = nibabel.affines.apply_affine(image.affine, corners[:, ::-1]) * [-1, -1, 1] * unit
        values = np.asanyarray(image.dataobj).squeeze().T
    else:
        image = sitk.ReadImage(str(path))
        theirs = np.array(
            [image.TransformContinuousIndexToPhysicalPoint(c[::-1].tolist()) for c in corners]
        )
        values = sitk.GetArrayFromImage(image)
    return _differences(scan, theirs, scan.grid.to_world(corners), values)


def _differences(scan: Scan, theirs: np.ndarray, ours: np.ndarray, values: np.ndarray) -> str:
    apart = float(np.abs(theirs - ours).max())
    if not apart <= FAR_MM * max(1.0, float(np.abs(ours).max()) / 1000):
        return f"corners lie {apart:g} mm apart"
    if values.shape != scan.volume_hu.shape:
        return f"shapes {values.shape} and {scan.volume_hu.shape}"
    if not np.array_equal(np.clip(np.rint(values), -1024, 3071), scan.volume_hu):
        return "other voxels"
    return ""


def judge_dicom(folder: Path, scan: Scan) -> str:
    """Compare each slice of an accepted series with what pydicom says of its place and pixels."""
    import pydicom

    if scan.notes:  # resampled: held by tests of their own
        return ""
    places: dict[int, float] = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        with contextlib.suppress(Exception):
            d = pydicom.dcmread(path, force=True)
            z, y, x = scan.grid.to_voxel([float(v) for v in d.ImagePositionPatient])
            k = round(float(z))
            pixels = d.pixel_array * float(d.RescaleSlope) + float(d.RescaleIntercept)
            if max(abs(y), abs(x)) > 0.6 or abs(z - k) > 0.15:
                return f"{path.name} lies at voxel {z:.2f}, {y:.2f}, {x:.2f}"
            same = np.array_equal(np.clip(np.rint(pixels), -1024, 3071), scan.volume_hu[k])
            padding = "PixelPaddingValue" in d
            if not same and not padding and not _more_bits(d):
                return f"{path.name} has other pixels"
            places[k] = float(z)
    return ""


def _more_bits(d: object) -> bool:
    """Return whether pydicom leaves the unused bits in, which GDCM and we take out."""
    return int(d.BitsStored) < int(d.BitsAllocated)  # type: ignore[attr-defined]


def judge_nothing(folder: Path, scan: Scan) -> str:
    return ""


SEEDS = [
    *(
        Seed(name, write_image(name, compress=compress), read_folder, judge_image)
        for name, compress in [
            ("s.mhd", False), ("s.mha", False), ("c.mhd", True), ("c.mha", True), ("s.nii", False),
            ("s.nii.gz", True), ("s.nrrd", False), ("c.nrrd", True), ("s.nhdr", False),
        ]
    ),
    Seed("dicom", write_dicom(), read_folder, judge_dicom),
    Seed("dicom big-endian", write_dicom(ExplicitVRBigEndian), read_folder, judge_dicom),
    Seed("dicom deflated", write_dicom(DeflatedExplicitVRLittleEndian), read_folder, judge_dicom),
    Seed("dicom bare", write_dicom(bare=True), read_folder, judge_dicom),
    Seed("dicom run-length", write_dicom(RLELossless), read_folder, judge_dicom),
    Seed("dicom enhanced", write_enhanced, read_folder, judge_nothing),
    Seed("mask", write_mask, read_masks, judge_nothing),
    Seed("packed mask", write_packed_mask, read_masks, judge_nothing),
    Seed("decathlon", write_decathlon, read_layout(Layout.msd), judge_nothing),
    Seed("folder", write_table, read_layout(Layout.folder), judge_nothing),
    Seed("seg", write_objects(seg), read_layout(Layout.folder), judge_nothing),
    Seed("rtstruct", write_objects(rtstruct), read_layout(Layout.folder), judge_nothing),
    Seed("lidc", write_lidc, read_layout(Layout.lidc), judge_nothing),
]  # fmt: skip


if __name__ == "__main__":
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    sys.exit(main(SEEDS, (__doc__ or "").splitlines()[0], 5000))
