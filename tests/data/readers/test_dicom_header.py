"""The header of one DICOM file: what is read of it, and what is refused by the file's name."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace

import pytest
import SimpleITK as sitk

from nodule_det.data.readers import dicom_header as tags
from nodule_det.data.readers.dicom_header import (
    frames,
    is_dicom,
    patient_key,
    read_header,
    unpacked,
)
from nodule_det.errors import ScanError
from tests.data.scan_files import noise, write_series


@pytest.fixture
def series(tmp_path):
    """Return the files of a whole series of six slices from z = -200 to z = -187.5."""
    return write_series(tmp_path, noise())


def test_the_header_says_what_simpleitk_says(series):
    header = read_header(series[2])
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(series[2]))
    reader.ReadImageInformation()
    for tag in (tags.IMAGE_TYPE, tags.SOP_UID, tags.MODALITY, tags.SERIES_UID, tags.POSITION,
                tags.ORIENTATION, tags.PIXEL_SPACING, tags.INTERCEPT, tags.SLOPE):  # fmt: skip
        assert header.text(tag) == reader.GetMetaData(f"{tag[0]:04x}|{tag[1]:04x}").strip(" \0")
    assert (header.integer(tags.ROWS), header.integer(tags.COLUMNS)) == (9, 8)
    assert str(header) == f"{series[2]} (z = -195 mm)"


def element(tag, vr, value, *, explicit=True):
    """Encode a data element; a length of None is undefined."""
    length = 0xFFFFFFFF if value is None else len(value)
    start = struct.pack("<HH", *tag)
    if not explicit:
        return start + struct.pack("<I", length) + (value or b"")
    if vr in tags.LONG_VR:
        return start + vr + struct.pack("<HI", 0, length) + (value or b"")
    return start + vr + struct.pack("<H", length) + (value or b"")


def hand_written(path, body, syntax=b"1.2.840.10008.1.2.1\0"):
    path.write_bytes(bytes(128) + b"DICM" + element(tags.TRANSFER_SYNTAX, b"UI", syntax) + body)
    return path


@pytest.mark.parametrize("explicit", [True, False], ids=["explicit", "implicit"])
def test_sequences_of_undefined_length_are_passed_over(tmp_path, explicit):
    def e(tag, vr, value):
        return element(tag, vr, value, explicit=explicit)

    inner = e((8, 0x1150), b"UI", b"1.2.3\0") + e((8, 0x60), b"CS", b"MR")
    item = struct.pack("<HHI", *tags.ITEM, 0xFFFFFFFF) + inner
    item += struct.pack("<HHI", *tags.ITEM_END, 0)
    whole = struct.pack("<HHI", *tags.ITEM, 6) + b"abcdef"
    end = struct.pack("<HHI", *tags.SEQUENCE_END, 0)
    nested = e((8, 0x1140), b"SQ", None) + item + whole + end
    outer = struct.pack("<HHI", *tags.ITEM, 0xFFFFFFFF) + nested
    outer += struct.pack("<HHI", *tags.ITEM_END, 0)
    body = e((8, 0x1032), b"SQ", None) + outer + end + e(tags.SERIES_UID, b"UI", b"7.8.9\0")
    body += e(tags.PIXELS, b"OW", b"\1\2")
    syntax = b"1.2.840.10008.1.2.1\0" if explicit else b"1.2.840.10008.1.2\0"
    header = read_header(hand_written(tmp_path / "a.dcm", body, syntax))
    assert header.series_uid == "7.8.9"
    assert header.text(tags.MODALITY) == ""  # the MR stands in a sequence, it is another image's
    assert header.pixel_bytes == 2


def test_the_patient_is_a_hash_and_no_name_is_kept(series):
    header = read_header(series[0])
    assert header.patient_key == patient_key("PATIENT-7")
    assert "PATIENT-7" not in repr(header).replace(str(series[0].parent), "")


def test_spaces_around_a_patient_identifier_do_not_make_another_patient():
    assert patient_key(" LIDC-IDRI-0314 ") == patient_key("LIDC-IDRI-0314")
    assert patient_key("LIDC-IDRI-0314") != patient_key("LIDC-IDRI-0315")


def test_a_dicom_file_is_recognised_by_its_content(tmp_path, series):
    assert is_dicom(series[0])
    table = tmp_path / "annotations.csv"
    table.write_text("seriesuid,coordX,coordY,coordZ,diameter_mm\n" * 10)
    assert not is_dicom(table)
    with pytest.raises(ScanError, match=r"annotations\.csv is not a DICOM file"):
        read_header(table)


@pytest.mark.parametrize("text", ["1\\2", "1\\2\\x", "1\\2\\nan", "1\\2\\1_0", ""])
def test_a_position_that_is_not_three_numbers_is_refused(series, text):
    header = read_header(series[0])
    spoilt = replace(header, values={**header.values, tags.POSITION: text})
    with pytest.raises(ScanError, match=r"0\.dcm has ImagePositionPatient=.* expected 3 number"):
        _ = spoilt.position_mm


def test_each_frame_has_the_shared_values_and_its_own_position(series):
    header = read_header(series[0])
    groups = tuple({tags.POSITION: f"-30\\12.5\\{z}"} for z in (-200, -198))
    values = {**header.values, tags.FRAMES: "2"}
    one, two = frames(replace(header, values=values, groups=groups))
    assert [one.position_mm[2], two.position_mm[2]] == [-200, -198]
    assert two.text(tags.PIXEL_SPACING) == header.text(tags.PIXEL_SPACING)
    assert str(two) == f"{series[0]} (z = -198 mm, frame 2)"
    with pytest.raises(ScanError, match="multi-frame image of 3 frames with 2 positions"):
        frames(replace(header, values={**values, tags.FRAMES: "3"}, groups=groups))


def test_a_deflated_file_unpacks_to_a_multiple_of_its_size_at_most(tmp_path):
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    pieces = [packer.compress(bytes(2**20)) for _ in range(100)] + [packer.flush()]
    (tmp_path / "a").write_bytes(b"".join(pieces))  # 100 MiB in 100 kB
    with pytest.raises(ScanError, match="unpacks to more than 67108864 bytes: it is damaged"):
        unpacked(tmp_path / "a", 0)
