"""DICOM series written by pydicom: a drawn chest, and any damage that a test wants."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
)

SPACING_MM = (6.0, 4.0, 4.0)
ORIGIN_MM = (-190.0, -190.0, -300.0)
NODULE_MM = (70.0, 20.0, -160.0)
NODULE_DIAMETER_MM = 16.0
SERIES = "1.2.3.4"
LUNGS_ML = 4049.0
"""Two ellipsoids of 55 x 80 x 110 mm less the nodule, in voxels."""


def world_grid(size_vox=(48, 96, 96), spacing_mm=SPACING_MM, origin_mm=ORIGIN_MM):
    """Return the world x, y, z of each voxel, each (z, y, x)."""
    z, y, x = np.indices(size_vox)
    return (
        origin_mm[0] + x * spacing_mm[2],
        origin_mm[1] + y * spacing_mm[1],
        origin_mm[2] + z * spacing_mm[0],
    )


def chest_hu(size_vox=(48, 96, 96), spacing_mm=SPACING_MM, origin_mm=ORIGIN_MM):
    """Draw a body in air, two lungs of two litres, and a nodule of 16 mm in the left one."""
    x, y, z = world_grid(size_vox, spacing_mm, origin_mm)
    volume = np.full(size_vox, -1000, np.int16)
    volume[(x / 165) ** 2 + (y / 120) ** 2 < 1] = 40
    for side in (-75, 75):
        lung = ((x - side) / 55) ** 2 + (y / 80) ** 2 + ((z + 160) / 110) ** 2 < 1
        volume[lung] = -850
    nodule = (x - NODULE_MM[0]) ** 2 + (y - NODULE_MM[1]) ** 2 + (z - NODULE_MM[2]) ** 2
    volume[nodule < (NODULE_DIAMETER_MM / 2) ** 2] = 30
    return volume


def chest_series(volume=None, *, series=SERIES, patient="QA-1", study="1.2.3", **more):
    """Return a data set for each slice of a volume; ``more`` are further attributes."""
    datasets = []
    for k, pixels in enumerate(chest_hu() if volume is None else volume):
        d = Dataset()
        d.file_meta = FileMetaDataset()
        d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        d.SOPClassUID, d.SOPInstanceUID = CTImageStorage, f"{series}.{k + 1}"
        d.file_meta.MediaStorageSOPClassUID = d.SOPClassUID
        d.file_meta.MediaStorageSOPInstanceUID = d.SOPInstanceUID
        d.Modality, d.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
        d.PatientID, d.PatientName, d.PatientBirthDate, d.PatientSex = (
            patient,
            "Test^Phantom",
            "",
            "",
        )
        d.StudyInstanceUID, d.SeriesInstanceUID = study, series
        d.FrameOfReferenceUID, d.PositionReferenceIndicator = f"{study}.9", ""
        d.StudyDate, d.StudyTime, d.StudyID = "20200101", "120000", "1"
        d.AccessionNumber, d.ReferringPhysicianName, d.Manufacturer = "", "", "none"
        d.SeriesNumber, d.InstanceNumber, d.AcquisitionNumber = 1, k + 1, 1
        d.ImagePositionPatient = [*ORIGIN_MM[:2], ORIGIN_MM[2] + k * SPACING_MM[0]]
        d.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        d.PixelSpacing, d.SliceThickness = list(SPACING_MM[1:]), SPACING_MM[0]
        d.Rows, d.Columns = pixels.shape
        d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
        d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 16, 16, 15, 1
        d.RescaleIntercept, d.RescaleSlope, d.RescaleType, d.KVP = 0, 1, "HU", 120
        d.PixelData = pixels.astype("<i2").tobytes()
        d["PixelData"].VR = "OW"
        for keyword, value in more.items():
            setattr(d, keyword, value)
        datasets.append(d)
    return datasets


def save_series(datasets, folder: Path, name="{:04d}.dcm", syntax=None) -> list[Path]:
    """Write data sets as files, in any uncompressed transfer syntax."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name.format(k) for k in range(len(datasets))]
    for path, dataset in zip(paths, datasets, strict=True):
        dataset.file_meta.TransferSyntaxUID = syntax or dataset.file_meta.TransferSyntaxUID
        if syntax == ExplicitVRBigEndian:
            dataset.PixelData = np.frombuffer(dataset.PixelData, "<i2").astype(">i2").tobytes()
        dataset.save_as(path, enforce_file_format=True)
    return paths


def naked(dataset, path: Path, *, implicit=True) -> Path:
    """Write a data set without preamble and meta header, as old archives do."""
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, implicit
    plain = Dataset()
    plain.update(dataset)
    write_dataset(buffer, plain)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(buffer.getvalue())
    return path
