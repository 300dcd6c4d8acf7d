"""MetaImage headers: read exactly as SimpleITK does, or refused in one line."""

import os

import numpy as np
import pytest

from nodule_det.data.readers.read import read_scan
from nodule_det.errors import GeometryError, ScanError
from tests.data.scan_files import noise, same_place_as_itk, write_file

ANY = (ScanError, GeometryError)


def metaimage(tmp_path, **lines):
    """Write a MetaImage; ``key=value`` replaces or adds a line, None drops it."""
    path = write_file(tmp_path / "s.mhd", noise())
    fields = dict(line.split(" = ") for line in path.read_text().splitlines())
    fields = {"ObjectType": "Image", "NDims": "3"} | lines | fields | lines
    fields["ElementDataFile"] = fields.pop("ElementDataFile")  # the last line of a header
    path.write_text("".join(f"{k} = {v}\n" for k, v in fields.items() if v is not None))
    return path


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ({"Offset": "-162,5768 -12,5 100"}, "Offset='-162,5768 .*3 numbers, with decimal"),
        ({"Offset": "nan 0 0"}, "Offset='nan 0 0'; expected 3 numbers"),
        ({"Offset": "left 0 0"}, "Offset='left 0 0'; expected 3 numbers"),
        ({"Offset": "1 2"}, "Offset='1 2'; expected 3 numbers"),
        ({"Offset": "1e999 0 0"}, "Offset='1e999 0 0'; expected 3 numbers"),
        ({"Offset": "1_0 0 0"}, "Offset='1_0 0 0'; expected 3 numbers"),
        ({"Offset": "1e8 0 0"}, "has its first voxel at .* expected at most 10000 mm"),
        ({"Position": "9 9 9"}, "Offset=.* and Position='9 9 9', which contradict each other"),
        ({"Origin": "0 0 0"}, "Offset=.* and Origin='0 0 0', which contradict each other"),
        ({"ElementSize": "1 1 1"}, "ElementSpacing=.* and ElementSize='1 1 1', which contradict"),
        ({"ElementSpacing": "0,8 0,7 2,5"}, "ElementSpacing='0,8 0,7 2,5'; expected 3 numbers"),
        ({"ElementSpacing": "inf 1 1"}, "ElementSpacing='inf 1 1'; expected 3 numbers"),
        ({"ElementSpacing": "1e-9 1 1"}, "spacing of 1 x 1 x 1e-09 mm .* units wrong"),
        ({"ElementSpacing": "1000 1 1"}, "spacing of 1 x 1 x 1000 mm .* units wrong"),
        ({"ElementSpacing": "-1 1 1"}, "must be positive"),
        ({"ElementSpacing": "0 1 1"}, "must be positive"),
        ({"NDims": "99999"}, "NDims=99999 and 1 channel"),
        ({"NDims": "4"}, "NDims=4"),
        ({"NDims": "2"}, "NDims=2"),
        ({"NDims": "three"}, "NDims='three'; expected 1 numbers"),
        ({"DimSize": "inf 9 6"}, "DimSize='inf 9 6'; expected 3 numbers"),
        ({"DimSize": "nan 9 6"}, "DimSize='nan 9 6'; expected 3 numbers"),
        ({"DimSize": "8.5 9 6"}, "DimSize='8.5 9 6'; expected three whole numbers"),
        ({"DimSize": "-8 -9 6"}, "DimSize='-8 -9 6'; expected three whole numbers"),
        ({"DimSize": "0 9 6"}, "DimSize='0 9 6'; expected three whole numbers"),
        ({"DimSize": "8 9 6 1"}, "DimSize='8 9 6 1'; expected 3 numbers"),
        ({"DimSize": "99999 99999 99999"}, "is truncated: it has 864 of 1999"),
        ({"DimSize": "8 9 5"}, "more than the 720 bytes of voxels that its header describes"),
        ({"TransformMatrix": "1 0 0 0 1 0 0 0 nan"}, "expected 9 numbers"),
        ({"TransformMatrix": "1 0 0 0 1 0 0 0"}, "expected 9 numbers"),
        ({"TransformMatrix": "1 0 0 0 1 0 0 0 0"}, "not perpendicular unit vectors"),
        ({"TransformMatriy": "0 1 0 1 0 0 0 0 1"}, "unknown line 'TransformMatriy'; did you mean"),
        ({"HeaderSize": "-7"}, "HeaderSize=-7"),
        ({"HeaderSize": "1e99"}, "is truncated"),
        ({"CompressedData": "perhaps"}, "CompressedData='perhaps'; expected True or False"),
        ({"CompressedData": "True"}, "truncated or damaged"),
        ({"BinaryDataByteOrderMSB": "False", "ElementByteOrderMSB": "True"}, "that differ"),
        ({"BinaryData": "False"}, "keeps its voxels as text"),
        ({"ElementType": "MET_STRING"}, "ElementType='MET_STRING'; supported are"),
        ({"ElementNumberOfChannels": "2"}, "2 channel"),
        ({"ElementDataFile": "../s.raw"}, "does not lie in its own folder"),
        ({"ElementDataFile": "/etc/passwd"}, "does not lie in its own folder"),
        ({"ElementDataFile": "a/../../s.raw"}, "does not lie in its own folder"),
        ({"ElementDataFile": "s%02d.raw 1 6 1"}, "keeps each slice in a file of its own"),
        ({"ElementDataFile": "LIST"}, "keeps each slice in a file of its own"),
        ({"ElementDataFile": ""}, "does not lie in its own folder"),
    ],
    ids=lambda v: " ".join(f"{k}={n}" for k, n in v.items()) if isinstance(v, dict) else "",
)  # fmt: skip
def test_a_metaimage_header_that_a_lenient_parser_would_take_is_refused(tmp_path, lines, words):
    path = metaimage(tmp_path, **lines)
    with pytest.raises(ANY, match=words) as error:
        read_scan(path)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_doubled_line_of_another_value_is_refused(tmp_path):
    path = metaimage(tmp_path)
    path.write_text("Offset = 1 2 3\n" + path.read_text())
    with pytest.raises(ScanError, match=r"s\.mhd has the line 'Offset' twice, as '1 2 3' and"):
        read_scan(path)


@pytest.mark.parametrize(
    "lines",
    [
        {"Offset": None, "Position": "-30 12.5 -200"},
        {"Offset": None, "Origin": "-30 12.5 -200"},
        {"ElementSpacing": "8e-1 7.0e-1 2.5"},
        {"ElementSize": "0.8 0.7 2.5"},
        {"TransformMatrix": "0 1 0 -1 0 0 0 0 1"},
        {"TransformMatrix": "-1 0 0 0 -1 0 0 0 1"},
        {"Comment": "scanned on a Monday"},
        {"HeaderSize": "-1"},
        {"HeaderSize": "0"},
    ],
    ids=lambda lines: " ".join(f"{k}={n}" for k, n in lines.items()),
)
def test_other_ways_to_write_a_metaimage_are_read_as_simpleitk_reads_them(tmp_path, lines):
    same_place_as_itk(metaimage(tmp_path, **lines))


@pytest.mark.parametrize("name", ["A.MHD", "A.Mhd", "B.MHA", "C.NII", "D.NRRD", "E.NII.GZ"])
def test_capital_endings_are_read(tmp_path, name):
    write_file(tmp_path / "raw" / name.lower(), noise())
    for file in (tmp_path / "raw").iterdir():
        os.rename(file, tmp_path / (name if file.name == name.lower() else file.name))
    np.testing.assert_array_equal(read_scan(tmp_path / name).volume_hu, noise())


@pytest.mark.parametrize("kind", ["mha", "mhd", "nrrd", "nhdr", "nii", "nii.gz"])
@pytest.mark.parametrize("dtype", ["i2", "u2", "u1", "i4", "f4", "f8"])
def test_all_number_types_are_read_as_simpleitk_reads_them(tmp_path, kind, dtype):
    values = (np.abs(noise()) % 200 if dtype in ("u1", "u2") else noise()).astype(dtype)
    if dtype in ("u1", "u2"):
        with pytest.raises(ScanError, match="no air"):
            read_scan(write_file(tmp_path / f"s.{kind}", values))
    else:
        same_place_as_itk(write_file(tmp_path / f"s.{kind}", values))
