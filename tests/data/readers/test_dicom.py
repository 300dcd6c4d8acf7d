"""What makes a DICOM series whole, each refusal by file and position, and one real series."""

import locale
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nodule_det.data.readers import dicom_header as tags
from nodule_det.data.readers.dicom_header import patient_key
from nodule_det.data.readers.read import find_scans, read_scan
from nodule_det.errors import GeometryError, ScanError
from nodule_det.geometry import Grid
from tests.data.scan_files import (
    ROTATED,
    SERIES_UID,
    UPRIGHT,
    cut,
    edit,
    kept_locale,
    noise,
    write_series,
    write_slice,
)

VOLUME = noise()


@pytest.fixture
def series(tmp_path):
    """Return the files of a whole series of six slices from z = -200 to z = -187.5."""
    return write_series(tmp_path, VOLUME)


def refused(folder, words, error=ScanError, **uid):
    with pytest.raises(error, match=words):
        read_scan(folder, **uid)


# --- the header


def implicit(tag, value):
    """Encode a data element as SimpleITK's writer does."""
    return struct.pack("<HHI", *tag, len(value)) + value


def test_a_file_cut_off_in_its_header_is_refused(tmp_path, series):
    series[0].write_bytes(series[0].read_bytes()[:190])
    refused(tmp_path, r"0\.dcm ends in the middle of its header or is damaged there, 190 bytes")


def test_scans_without_a_patient_are_not_all_one_patient_s(tmp_path):
    for folder in ("a", "b"):
        write_series(tmp_path / folder, VOLUME, t0010_0020="", t0020_000e=f"1.2.{ord(folder)}")
    one, two = find_scans(tmp_path)
    assert one.patient_key != two.patient_key


def test_reading_leaves_the_process_s_character_set_alone(tmp_path, series):
    before = locale.getencoding()
    read_scan(tmp_path)
    assert locale.getencoding() == before


# --- the series


@pytest.mark.parametrize("compressor", ["JPEG", "JPEG2000"])
def test_losslessly_compressed_slices_are_read(tmp_path, compressor):
    write_series(tmp_path, VOLUME, compressor=compressor)
    np.testing.assert_array_equal(read_scan(tmp_path).volume_hu, VOLUME)


def test_the_names_of_files_do_not_matter(tmp_path, series):
    for path, name in zip(series, "zbyaxc", strict=True):
        path.rename(tmp_path / name)
    np.testing.assert_array_equal(read_scan(tmp_path).volume_hu, VOLUME)


def test_rescale_slope_and_intercept_give_hounsfield_units(tmp_path):
    stored = np.arange(6 * 9 * 8, dtype=np.int16).reshape(6, 9, 8)
    write_series(tmp_path, stored, t0028_1052="0", t0028_1053="1")
    for path in tmp_path.iterdir():
        edit(path, implicit(tags.INTERCEPT, b"0 "), implicit(tags.INTERCEPT, b"-9"))
        edit(path, implicit(tags.SLOPE, b"1 "), implicit(tags.SLOPE, b"-2"))
    np.testing.assert_array_equal(
        read_scan(tmp_path).volume_hu, np.maximum(-2 * stored.astype(int) - 9, -1024)
    )


def test_unsigned_padding_becomes_air_not_metal(tmp_path):
    volume = VOLUME.astype(np.int32)
    volume[:, 0, 0] = 63536 - 1024
    for k, pixels in enumerate((volume + 1024).astype(np.uint16)):
        path = tmp_path / f"{k}.dcm"
        write_slice(path, pixels, UPRIGHT.to_world([k, 0, 0]), t0028_1052="0")
        padding = implicit(tags.PADDING, struct.pack("<H", 63536))
        content = path.read_bytes()
        old = implicit(tags.INTERCEPT, b"0 ")
        assert old in content
        path.write_bytes(content.replace(old, padding + implicit(tags.INTERCEPT, b"-1024 ")))
    hu = read_scan(tmp_path).volume_hu
    assert (hu[:, 0, 0] == -1024).all()
    np.testing.assert_array_equal(hu[:, 1:], VOLUME[:, 1:])


def test_two_series_in_a_folder_are_never_chosen_between_at_random(tmp_path, series):
    for k in range(4):
        pixels = VOLUME[k] // 2
        write_slice(tmp_path / f"b{k}.dcm", pixels, (0, 0, k), t0020_000e="1.2.826.2")
    refused(
        tmp_path,
        r"holds 2 CT series: 1\.2\.826\.1 \(6 slices\); 1\.2\.826\.2 \(4 slices\); name one",
    )
    assert read_scan(tmp_path, "1.2.826.1").grid.size_vox == (6, 9, 8)
    assert read_scan(tmp_path, "1.2.826.2").grid.size_vox == (4, 9, 8)
    refused(tmp_path, r"holds no CT series 9\.9; it holds 1\.2\.826\.1", series_uid="9.9")


def test_an_image_of_another_modality_is_refused(tmp_path):
    write_series(tmp_path, VOLUME, t0008_0060="MR")
    refused(tmp_path, r"holds DICOM files of modality MR; expected a CT series")


def test_a_report_or_an_overview_beside_the_series_is_left_out(tmp_path, series):
    write_slice(tmp_path / "sr.dcm", VOLUME[0], (0, 0, 0), t0008_0060="SR", t0020_000e="1.5")
    overview = "ORIGINAL\\PRIMARY\\LOCALIZER"
    write_slice(tmp_path / "scout.dcm", VOLUME[0], (5, 5, 5), ROTATED, t0008_0008=overview)
    (tmp_path / "notes.txt").write_text("not an image")
    np.testing.assert_array_equal(read_scan(tmp_path).volume_hu, VOLUME)


def test_a_folder_without_slices_is_refused(tmp_path):
    refused(tmp_path, r"holds no CT slices; use the folder of a DICOM series")


@pytest.mark.parametrize("n_bytes", [1, 2, 100, 144])
def test_a_truncated_slice_is_refused_by_name_and_position(tmp_path, series, n_bytes):
    cut(series[3], n_bytes)
    words = (
        rf"3\.dcm \(z = -192\.5 mm\) is truncated: it has {144 - n_bytes} of 144 bytes of pixels"
    )
    refused(tmp_path, words)


def test_a_slice_whose_pixels_are_shorter_than_its_size_is_refused(tmp_path, series):
    cut(series[3], 44)
    edit(series[3], implicit(tags.PIXELS, bytes(144))[:8], implicit(tags.PIXELS, bytes(100))[:8])
    refused(tmp_path, r"3\.dcm \(z = -192\.5 mm\) is truncated: it has 100 of 144 bytes")


def test_a_slice_that_ends_before_its_pixels_is_refused(tmp_path, series):
    cut(series[3], 144 + 8)
    refused(tmp_path, r"3\.dcm \(z = -192\.5 mm\) ends before its pixels, after \d+ bytes")


@pytest.mark.parametrize("compressor", ["JPEG", "JPEG2000"])
def test_a_truncated_compressed_slice_is_refused(tmp_path, compressor):
    series = write_series(tmp_path, VOLUME, compressor=compressor)
    cut(series[4], 40)
    refused(tmp_path, r"4\.dcm \(z = -190 mm\) has pixels that cannot be decoded")


def test_a_slice_that_is_a_link_to_nowhere_is_refused(tmp_path, series):
    series[5].unlink()
    series[5].symlink_to(tmp_path / "moved" / "5.dcm")
    refused(tmp_path, r"5\.dcm cannot be read: .* a link to nowhere")


def test_an_empty_slice_is_refused(tmp_path, series):
    series[3].write_bytes(b"")
    refused(tmp_path, r"3\.dcm is empty; copy it again")


def test_a_file_called_dcm_that_is_none_is_refused(tmp_path, series):
    series[3].write_text("<html>404</html>" * 20)
    refused(tmp_path, r"3\.dcm is not a DICOM file; copy it again")


@pytest.mark.parametrize("gone", [1, 3, 4])
def test_a_missing_slice_is_refused_by_its_neighbours(tmp_path, series, gone):
    series[gone].unlink()
    words = (
        rf"between \S+{gone - 1}\.dcm \(z = {-200 + 2.5 * (gone - 1):g} mm\) and "
        rf"\S+{gone + 1}\.dcm \(z = {-200 + 2.5 * (gone + 1):g} mm\) lie 5 mm, elsewhere 2\.5 mm: "
        r"1 slice\(s\) missing"
    )
    refused(tmp_path, words)


def test_two_missing_slices_are_counted(tmp_path):
    for k in (0, 1, 2, 5, 6, 7):
        write_slice(tmp_path / f"{k}.dcm", VOLUME[k % 6], (0, 0, k))
    refused(tmp_path, r"lie 3 mm, elsewhere 1 mm: 2 slice\(s\) missing")


def test_two_slices_at_one_place_are_refused(tmp_path, series):
    write_slice(tmp_path / "copy.dcm", VOLUME[3], UPRIGHT.to_world([2, 0, 0]))
    refused(
        tmp_path, r"(2|copy)\.dcm \(z = -195 mm\) lies at the same place as .*: a doubled slice"
    )


def test_unequal_gaps_are_refused(tmp_path):
    for k, z in enumerate([0, 1, 2, 3.4, 4.4, 5.4]):
        write_slice(tmp_path / f"{k}.dcm", VOLUME[k], (0, 0, z))
    refused(tmp_path, r"2\.dcm \(z = 2 mm\) lies 0\.16 mm off its place in a stack of equal gaps")


def test_positions_rounded_to_a_tenth_of_a_millimetre_are_taken(tmp_path):
    for k in range(6):
        write_slice(tmp_path / f"{k}.dcm", VOLUME[k], (0, 0, round(1.25 * k, 1)))
    assert read_scan(tmp_path).grid.spacing_mm[0] == pytest.approx(6.2 / 5)


def test_a_single_slice_is_no_volume(tmp_path):
    write_slice(tmp_path / "0.dcm", VOLUME[0], (0, 0, 7))
    refused(tmp_path, r"0\.dcm \(z = 7 mm\) is the only slice of its series")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"grid": ROTATED}, r"has ImageOrientationPatient 0\.8\\0\.6\\.* most slices .* 1\\0"),
        (
            {"grid": Grid((6, 9, 8), (2.5, 0.9, 0.9), (0, 0, 0))},
            r"has PixelSpacing 0\.9\\0\.9, most",
        ),
        ({"t0028_1052": "-1000"}, r"has RescaleIntercept -1000, most slices .* -1024:"),
        ({"t0028_1053": "2"}, r"has RescaleSlope 2, most slices"),
    ],
)
def test_a_slice_unlike_the_others_is_refused_by_name(tmp_path, series, options, words):
    write_slice(series[2], VOLUME[2], UPRIGHT.to_world([2, 0, 0]), **options)
    refused(tmp_path, r"2\.dcm \(z = -195 mm\) " + words)


def test_a_slice_of_another_size_is_refused(tmp_path, series):
    write_slice(series[2], VOLUME[2, :4], UPRIGHT.to_world([2, 0, 0]))
    refused(tmp_path, r"2\.dcm \(z = -195 mm\) has rows 4, most .* have 9:")


@pytest.mark.parametrize(
    ("tag", "name"),
    [(tags.POSITION, "ImagePositionPatient"), (tags.SLOPE, "RescaleSlope")],
)
def test_a_slice_that_lacks_a_tag_is_refused(tmp_path, series, tag, name):
    content = series[2].read_bytes()
    old = struct.pack("<HH", *tag)
    series[2].write_bytes(content.replace(old, struct.pack("<HH", tag[0], tag[1] + 0x7000)))
    refused(tmp_path, rf"2\.dcm.* has {name}=''; expected \d number")


def test_slices_that_are_shifted_irregularly_are_refused(tmp_path):
    for k in range(6):
        write_slice(tmp_path / f"{k}.dcm", VOLUME[k], (0, 0.8 * k * (k % 2), 2.5 * k))
    words = r"\.dcm \(z = .* is shifted within its plane by .* do not lie on each other"
    refused(tmp_path, words, GeometryError)


def test_a_tilt_that_no_gantry_has_is_refused(tmp_path):
    for k in range(6):
        write_slice(tmp_path / f"{k}.dcm", VOLUME[k], (0, 2.5 * k, 2.5 * k))
    refused(tmp_path, r"5\.dcm .* a tilt of 45 degrees, more than a gantry's 35", GeometryError)


def test_a_colour_image_is_refused(tmp_path):
    for k in range(3):
        image = sitk.Compose([sitk.GetImageFromArray(noise((9, 8)).astype(np.uint8))] * 3)
        image.SetMetaData("0008|0060", "CT")
        image.SetMetaData("0020|000e", SERIES_UID)
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(tmp_path / f"{k}.dcm"))
        with kept_locale():
            writer.Execute(image)
    refused(tmp_path, r"0\.dcm.* is a colour image; expected grey CT slices")


# --- a real series


@pytest.fixture(scope="module")
def damaged(request) -> Path:
    return request.getfixturevalue("shared") / "data" / "LIDC-IDRI-0314"


@pytest.fixture(scope="module")
def repaired(damaged, tmp_path_factory):
    folder = tmp_path_factory.mktemp("repaired")
    whole = damaged.with_name("LIDC-IDRI-0314-repair") / "000275.dcm"
    for path in damaged.glob("*.dcm"):
        os.symlink(whole if path.name == whole.name else path, folder / path.name)
    return folder


def test_the_real_series_is_refused_for_its_damaged_slice(damaged):
    words = r"000275\.dcm \(z = -549\.8 mm\) is truncated: it has 517322 of 524288 bytes"
    refused(damaged, words)


def test_the_repaired_real_series_has_its_nodule_where_luna16_says(repaired):
    (found,) = find_scans(repaired)
    assert found.patient_key == patient_key("LIDC-IDRI-0314")
    scan = read_scan(repaired)
    assert scan.series_uid.endswith("154677396354641150280013275227")
    assert scan.grid.size_vox == (275, 512, 512)
    np.testing.assert_allclose(scan.grid.spacing_mm, (1.0, 0.78125, 0.78125))
    center = scan.grid.to_voxel((-57.43923954, 131.2325201, -520.3592267))
    z, y, x = (int(v) for v in np.rint(center))
    assert scan.volume_hu[z - 2 : z + 3, y - 2 : y + 3, x - 2 : x + 3].mean() > -100  # soft tissue
    around = scan.volume_hu[z - 20 : z + 21, y - 20 : y + 21, x - 20 : x + 21]
    assert np.median(around) < -600  # in lung
