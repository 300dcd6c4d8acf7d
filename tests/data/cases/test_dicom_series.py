"""DICOM as hospitals export it: read as an independent reader does, or refused by name."""

import os
import shutil

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
    SecondaryCaptureImageStorage,
)

from nodule_det.data.readers.read import find_scans, read_scan
from nodule_det.errors import ScanError
from tests.data.dicom_files import (
    ORIGIN_MM,
    SERIES,
    SPACING_MM,
    chest_hu,
    chest_series,
    naked,
    save_series,
)

VOLUME = chest_hu()


@pytest.fixture
def files(tmp_path):
    """Write the whole series; gives its files."""
    return save_series(chest_series(), tmp_path)


def whole(folder, **options):
    """Check that the chest is read in full, at its place."""
    scan = read_scan(folder, **options)
    np.testing.assert_array_equal(scan.volume_hu, VOLUME)
    np.testing.assert_allclose(scan.grid.spacing_mm, SPACING_MM, rtol=2e-4)
    np.testing.assert_allclose(scan.grid.origin_mm, ORIGIN_MM)
    return scan


def refused(folder, words):
    with pytest.raises(ScanError, match=words) as error:
        read_scan(folder)
    assert "\n" not in str(error.value)


def change(path, **values):
    dataset = pydicom.dcmread(path)
    with pydicom.config.disable_value_validation():
        for keyword, value in values.items():
            if value is None:
                delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)
        dataset.save_as(path)


# --- what is not a slice


@pytest.mark.parametrize("name", ["dicomdir", "DICOMDIR", "DIRFILE", "index", "d.dcm"])
def test_a_dicom_directory_of_any_name_is_passed_over(tmp_path, files, name):
    d = Dataset()
    d.file_meta = FileMetaDataset()
    d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    d.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    d.file_meta.MediaStorageSOPInstanceUID = "1.2.9"
    d.FileSetID, d.FileSetConsistencyFlag, d.DirectoryRecordSequence = "", 0, []
    d.save_as(tmp_path / name, enforce_file_format=True)
    whole(tmp_path)
    assert [e.series_uid for e in find_scans(tmp_path)] == [SERIES]


@pytest.mark.parametrize("series", ["1.2.9", SERIES], ids=["own series", "series of the CT"])
@pytest.mark.parametrize(
    ("sop", "modality"),
    [
        (SecondaryCaptureImageStorage, "CT"),
        (SecondaryCaptureImageStorage, "OT"),
        ("1.2.840.10008.5.1.4.1.1.7.2", "CT"),  # multi-frame secondary capture
        ("1.2.840.10008.5.1.4.1.1.88.67", "SR"),  # dose report
        ("1.2.840.10008.5.1.4.1.1.11.1", "PR"),  # presentation state
        ("1.2.840.10008.5.1.4.1.1.104.1", "DOC"),  # PDF
        ("1.2.840.10008.5.1.4.1.1.481.3", "RTSTRUCT"),
        ("1.3.12.2.1107.5.9.1", "CT"),  # Siemens' own, without pixels
    ],
)
def test_what_is_not_a_slice_is_passed_over(tmp_path, files, sop, modality, series):
    (d,) = chest_series(VOLUME[:1], series=series, ImageType=["DERIVED", "SECONDARY"])
    d.SOPClassUID = d.file_meta.MediaStorageSOPClassUID = sop
    d.Modality, d.SOPInstanceUID = modality, "1.2.9.9"
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(d, keyword)
    if modality != "CT" or "1107" in sop:
        del d.PixelData, d.Rows, d.Columns
    d.save_as(tmp_path / "other.dcm", enforce_file_format=True)
    whole(tmp_path)
    assert [e.series_uid for e in find_scans(tmp_path)] == [SERIES]


@pytest.mark.parametrize("series", ["1.2.9", SERIES], ids=["own series", "series of the CT"])
def test_an_overview_image_is_passed_over(tmp_path, files, series):
    (d,) = chest_series(VOLUME[:1], series=series, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    d.ImageOrientationPatient, d.SOPInstanceUID = [1, 0, 0, 0, 0, -1], "1.2.9.9"
    d.save_as(tmp_path / "scout.dcm", enforce_file_format=True)
    whole(tmp_path)
    assert [e.series_uid for e in find_scans(tmp_path)] == [SERIES]


# --- slices that used to vanish


@pytest.mark.parametrize("implicit", [True, False])
@pytest.mark.parametrize("name", ["IM{:04d}", "{}.ima", "{}.dcm", "{:08d}", "1.2.840.{}"])
def test_a_series_without_preamble_is_read(tmp_path, implicit, name):
    for k, dataset in enumerate(chest_series()):
        naked(dataset, tmp_path / name.format(k), implicit=implicit)
    whole(tmp_path)
    assert [e.series_uid for e in find_scans(tmp_path)] == [SERIES]


@pytest.mark.parametrize("which", [0, 20, 47], ids=["first", "middle", "last"])
class TestOneSlice:
    """Damage to one slice: the series is read in full, or refused by the slice's name."""

    @pytest.mark.parametrize(
        "values",
        [
            {"Modality": None}, {"Modality": ""}, {"Modality": "CX"}, {"Modality": "C"},
            {"SOPClassUID": None}, {"SOPClassUID": ""}, {"SOPClassUID": "1.2.840.1"},
            {"ImageType": None}, {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
            {"PatientName": "Other^Name"}, {"InstanceNumber": 1},
        ],
        ids=str,
    )  # fmt: skip
    def test_a_slice_that_its_other_tags_identify_is_kept(self, tmp_path, files, which, values):
        change(files[which], **values)
        whole(tmp_path)

    @pytest.mark.parametrize(
        ("values", "words"),
        [
            ({"Modality": "MR"}, "has Modality='MR'"),
            ({"SOPClassUID": SecondaryCaptureImageStorage}, "lies among the slices of a CT series"),
            ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"}, "lies among the slices of a CT"),
            ({"SOPClassUID": "", "Modality": "QQ"}, "lies among the slices of a CT series"),
            ({"SeriesInstanceUID": None}, "lacks a SeriesInstanceUID"),
            ({"SeriesInstanceUID": "../x"}, "SeriesInstanceUID='../x'"),
            ({"ImagePositionPatient": None}, "ImagePositionPatient=''"),
            ({"ImageOrientationPatient": None}, "ImageOrientationPatient=''"),
            ({"PixelData": None}, "ends before its pixels"),
            ({"RescaleSlope": None}, "RescaleSlope=''"),
            ({"RescaleSlope": 0}, "RescaleSlope=0"),
            ({"RescaleIntercept": -1024}, "has RescaleIntercept -1024"),
            ({"PatientID": "QA-2"}, r"belong to two patients \(PatientID\)"),
            ({"StudyInstanceUID": "1.2.77"}, "belong to two studies"),
        ],
        ids=str,
    )
    def test_a_slice_that_cannot_be_used_is_named(self, tmp_path, files, which, values, words):
        change(files[which], **values)
        refused(tmp_path, rf"{files[which].name}.*{words}")

    @pytest.mark.parametrize("name", ["{:04d}.dcm", "IM{:04d}", "{}", "{}.IMA"])
    @pytest.mark.parametrize("content", [b"", b"x", b"<html>404</html>" * 40, bytes(4000)])
    def test_a_file_among_the_slices_that_is_not_dicom_is_named(
        self, tmp_path, which, name, content
    ):
        files = save_series(chest_series(), tmp_path, name)
        files[which].write_bytes(content)
        refused(tmp_path, rf"{files[which].name} (is|lies among)")

    @pytest.mark.parametrize("keep", [60, 140, 400, 1000])
    def test_a_file_cut_off_is_named(self, tmp_path, files, which, keep):
        files[which].write_bytes(files[which].read_bytes()[:keep])
        refused(tmp_path, files[which].name)

    def test_a_damaged_magic_word_hides_no_slice(self, tmp_path, which):
        files = save_series(chest_series(), tmp_path, "{:04d}")
        content = bytearray(files[which].read_bytes())
        content[128:132] = b"DICN"
        files[which].write_bytes(content)
        whole(tmp_path)


# --- one volume under one UID


def test_two_patients_under_one_uid_are_refused(tmp_path, files):
    second = chest_series(patient="QA-2")
    for k, dataset in enumerate(second):
        dataset.ImagePositionPatient = [*ORIGIN_MM[:2], ORIGIN_MM[2] + 48 * 6 + 6 * k]
        dataset.SOPInstanceUID = f"1.5.{k}"
    save_series(second, tmp_path, "b{:04d}.dcm")
    refused(tmp_path, r"belong to two patients \(PatientID\) under one SeriesInstanceUID")


def test_two_acquisitions_whose_slices_alternate_are_refused(tmp_path):
    series = chest_series()
    for k, dataset in enumerate(series):
        dataset.AcquisitionNumber = 1 + k % 2
    save_series(series, tmp_path)
    refused(tmp_path, "acquisitions '.' and '.' that lie between each other")


def test_two_positions_of_the_patient_under_one_uid_are_refused(tmp_path):
    series = chest_series()
    for k, dataset in enumerate(series):
        dataset.FrameOfReferenceUID = f"1.2.{k // 24}"
    save_series(series, tmp_path)
    refused(tmp_path, "holds slices of 2 FrameOfReferenceUIDs under one SeriesInstanceUID")


def test_acquisitions_that_follow_each_other_along_the_table_are_one_volume(tmp_path):
    series = chest_series()
    for k, dataset in enumerate(series):
        dataset.AcquisitionNumber = k // 8
        dataset.FrameOfReferenceUID = f"1.2.{k}"  # as LIDC's anonymiser writes them
    save_series(series, tmp_path)
    whole(tmp_path)


@pytest.mark.parametrize("copy", [shutil.copy, os.symlink, os.link], ids=["copy", "link", "hard"])
def test_identical_copies_and_links_are_counted_once(tmp_path, files, copy):
    for k in (0, 10, 47):
        copy(files[k], tmp_path / f"{k:04d} (1).dcm")
    copy(files[0], tmp_path / "0000 (2).dcm")
    whole(tmp_path)


def test_spacings_and_orientations_that_differ_by_rounding_are_one_volume(tmp_path):
    series = chest_series()
    for k, dataset in enumerate(series):
        dataset.PixelSpacing = ["4.00049", "4.00049"] if k % 2 else ["4.00051", "4.00051"]
        dataset.ImageOrientationPatient = ["1", f"{1e-4 * (k % 3):g}", "0", "0", "1", "0"]
    save_series(series, tmp_path)
    whole(tmp_path)


# --- multi-frame


def enhanced(tmp_path, change=None):
    """Write the chest as a native enhanced CT: one file, functional groups, no legacy tags."""
    series = chest_series()
    d = series[0]
    d.SOPClassUID = d.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
    d.NumberOfFrames = len(series)
    d.PixelData = VOLUME[::-1].astype("<i2").tobytes()  # frames in another order than space
    shared = Dataset()
    orientation, measures, transform = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    measures.PixelSpacing, measures.SliceThickness = [4, 4], 6
    transform.RescaleIntercept, transform.RescaleSlope, transform.RescaleType = 0, 1, "HU"
    shared.PlaneOrientationSequence = [orientation]
    shared.PixelMeasuresSequence = [measures]
    shared.PixelValueTransformationSequence = [transform]
    d.SharedFunctionalGroupsSequence = [shared]
    d.PerFrameFunctionalGroupsSequence = []
    for k in reversed(range(len(series))):
        frame, plane, content = Dataset(), Dataset(), Dataset()
        plane.ImagePositionPatient = [*ORIGIN_MM[:2], ORIGIN_MM[2] + 6 * k]
        content.StackID, content.InStackPositionNumber = "1", k + 1
        frame.PlanePositionSequence, frame.FrameContentSequence = [plane], [content]
        d.PerFrameFunctionalGroupsSequence.append(frame)
    for keyword in (
        "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleIntercept",
        "RescaleSlope", "RescaleType", "SliceThickness",
    ):  # fmt: skip
        delattr(d, keyword)
    if change is not None:
        change(d)
    d.save_as(tmp_path / "enhanced.dcm", enforce_file_format=True)
    return tmp_path


def test_a_native_enhanced_ct_is_read(tmp_path):
    whole(enhanced(tmp_path))
    image = sitk.ReadImage(str(tmp_path / "enhanced.dcm"))
    by_itk = sitk.GetArrayFromImage(image)
    np.testing.assert_array_equal(np.sort(by_itk, axis=None), np.sort(VOLUME, axis=None))


def test_a_compressed_enhanced_ct_is_read(tmp_path):
    whole(enhanced(tmp_path, lambda d: d.compress(pydicom.uid.RLELossless)))


@pytest.mark.parametrize("compressed", [False, True])
def test_a_legacy_converted_enhanced_ct_is_read(tmp_path, compressed):
    import highdicom

    converted = highdicom.legacy.LegacyConvertedEnhancedCTImage(
        chest_series(), "1.2.3.77", 9, "1.2.3.78", 1
    )
    if compressed:
        converted.compress(pydicom.uid.RLELossless)
    converted.save_as(tmp_path / "legacy.dcm")
    assert whole(tmp_path).series_uid == "1.2.3.77"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda d: d.PerFrameFunctionalGroupsSequence.pop(), "48 frames with 47 positions"),
        (lambda d: setattr(d, "NumberOfFrames", 49), "49 frames with 48 positions"),
        (lambda d: setattr(d, "PixelData", d.PixelData[:-2000]), "is truncated: it has"),
        (
            lambda d: d.PerFrameFunctionalGroupsSequence[9]
            .PlanePositionSequence[0]
            .__delattr__("ImagePositionPatient"),
            "ImagePositionPatient=''",
        ),
        (
            lambda d: setattr(
                d.PerFrameFunctionalGroupsSequence[9].FrameContentSequence[0], "StackID", "2"
            ),
            "two stacks",
        ),
        (lambda d: d.__delattr__("SharedFunctionalGroupsSequence"), "RescaleSlope=''"),
    ],
)  # fmt: skip
def test_a_damaged_enhanced_ct_is_refused(tmp_path, damage, words):
    refused(enhanced(tmp_path, damage), words)
