"""Stored pixels become Hounsfield units: bits, byte orders, compression and padding."""

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from nodule_det.data.readers.read import read_scan
from nodule_det.errors import ScanError
from tests.data.dicom_files import chest_series, save_series
from tests.data.scan_files import noise

HU = noise((5, 12, 10))


def test_implicit_explicit_big_endian_and_deflated_files_hold_the_same_voxels(tmp_path):
    for syntax in (
        ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
    ):  # fmt: skip
        folder = tmp_path / syntax
        save_series(chest_series(HU), folder, syntax=syntax)
        np.testing.assert_array_equal(read_scan(folder).volume_hu, np.clip(HU, -1024, 3071))


def test_run_length_encoded_slices_are_read(tmp_path):
    series = chest_series(HU)
    for dataset in series:
        dataset.compress(RLELossless)
    save_series(series, tmp_path)
    np.testing.assert_array_equal(read_scan(tmp_path).volume_hu, np.clip(HU, -1024, 3071))


@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize(("stored", "high"), [(12, 11), (12, 15), (13, 12), (16, 15)])
def test_unused_bits_are_left_out_as_gdcm_does(tmp_path, signed, stored, high):
    values = (HU + (0 if signed else 1024)).clip(-(2 ** (stored - 1)), 2 ** (stored - 1) - 1)
    series = chest_series(HU, BitsStored=stored, HighBit=high, PixelRepresentation=signed)
    for dataset, pixels in zip(series, values, strict=True):
        shifted = (pixels.astype(np.int32) << (high + 1 - stored)) & 0xFFFF
        dataset.PixelData = shifted.astype("<u2").tobytes()
        dataset.RescaleIntercept = 0 if signed else -1024
    save_series(series, tmp_path)
    got = read_scan(tmp_path).volume_hu
    np.testing.assert_array_equal(got, np.clip(values - (0 if signed else 1024), -1024, 3071))
    if high == stored - 1:  # GDCM refuses other high bits of CT
        for k in range(len(HU)):
            by_itk = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / f"{k:04d}.dcm")))[0]
            np.testing.assert_array_equal(got[k], np.clip(by_itk, -1024, 3071))


@pytest.mark.parametrize("padding", [3000, -500, 0])
@pytest.mark.parametrize("limit", [False, True])
def test_declared_padding_around_the_image_becomes_air(tmp_path, padding, limit):
    framed = HU.copy()
    framed[:, :2] = padding
    framed[:, 6, 5] = padding  # inside: a voxel like any other
    more = {"PixelPaddingValue": padding}
    if limit:
        framed[:, 0] = padding + 3
        more["PixelPaddingRangeLimit"] = padding + 3
    series = chest_series(framed)
    for dataset in series:
        for keyword, value in more.items():
            dataset.add_new(keyword, "SS", value)
    save_series(series, tmp_path)
    hu = read_scan(tmp_path).volume_hu
    assert (hu[:, :2] == -1024).all()
    assert (hu[:, 6, 5] == padding).all()
    inside = ~((hu == -1024) & (framed >= padding) & (framed <= padding + 3))
    np.testing.assert_array_equal(hu[inside], np.clip(framed, -1024, 3071)[inside])


def test_an_empty_padding_value_is_an_absent_one(tmp_path):
    series = chest_series(HU)
    for dataset in series:
        dataset.add_new(0x00280120, "SS", None)
    save_series(series, tmp_path)
    np.testing.assert_array_equal(read_scan(tmp_path).volume_hu, np.clip(HU, -1024, 3071))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"RescaleSlope": 0}, "RescaleSlope=0, which makes all its voxels equal"),
        ({"BitsAllocated": 12}, "pixels of 12 bits"),
        ({"BitsStored": 17}, "17 stored"),
        ({"HighBit": 7}, "up to bit 7"),
        ({"Rows": 6}, "240 bytes of pixels, its rows and columns take 120"),
        ({"Rows": 65535, "Columns": 65535}, "is truncated: it has 240 of 85"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "is a colour image"),
        ({"NumberOfFrames": "7"}, "7 frames with 0 positions"),
        ({"NumberOfFrames": "7e9"}, "NumberOfFrames='7e9'; expected 1 to"),
    ],
)
def test_pixels_that_do_not_fit_their_header_are_refused_by_name(tmp_path, change, words):
    series = chest_series(HU)
    with pydicom.config.disable_value_validation():
        for keyword, value in change.items():
            if keyword == "NumberOfFrames":
                series[2].add_new(0x00280008, "LO", value)  # IS cannot hold it
            else:
                setattr(series[2], keyword, value)
        save_series(series, tmp_path)
    with pytest.raises(ScanError, match=rf"0002\.dcm.*{words}"):
        read_scan(tmp_path)


def test_a_compressed_slice_whose_last_fragment_is_cut_off_is_refused(tmp_path):
    series = chest_series(HU)
    for dataset in series:
        dataset.compress(RLELossless)
    save_series(series, tmp_path)
    path = tmp_path / "0003.dcm"
    for n in (1, 8, 9, 40):
        whole = path.read_bytes()
        path.write_bytes(whole[:-n])
        with pytest.raises(ScanError, match=r"0003\.dcm .* cannot be decoded"):
            read_scan(tmp_path)
        path.write_bytes(whole)
