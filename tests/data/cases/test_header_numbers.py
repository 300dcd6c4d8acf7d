"""Numbers in headers: read exactly as an independent reader does, or refused in one line."""

import gzip
import os
import struct

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from nodule_det.data.readers.read import read_scan
from nodule_det.errors import GeometryError, ScanError
from tests.data.scan_files import GRIDS, UPRIGHT, itk_image, noise, write_file

ANY = (ScanError, GeometryError)


def same_place_as_itk(path):
    """Check every corner and every voxel against SimpleITK."""
    scan, image = read_scan(path), sitk.ReadImage(str(path))
    z, y, x = scan.grid.size_vox
    for voxel in [(0, 0, 0), (z - 1, 0, 0), (0, y - 1, 0), (0, 0, x - 1), (z - 1, y - 1, x - 1)]:
        there = image.TransformContinuousIndexToPhysicalPoint([float(v) for v in voxel[::-1]])
        np.testing.assert_allclose(scan.grid.to_world(voxel), there, atol=1e-3)
    values = np.clip(sitk.GetArrayFromImage(image).reshape(scan.grid.size_vox), -1024, 3071)
    np.testing.assert_array_equal(scan.volume_hu, np.rint(values))


# --- MetaImage


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


# --- NRRD


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("kind", ["nrrd", "nhdr"])
@pytest.mark.parametrize("compress", [False, True], ids=["raw", "gzip"])
def test_nrrd_is_read_as_simpleitk_reads_it(tmp_path, grid, kind, compress):
    same_place_as_itk(write_file(tmp_path / f"s.{kind}", noise(), grid, compress=compress))


def nrrd(tmp_path, old=b"", new=b""):
    path = write_file(tmp_path / "s.nrrd", noise())
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))
    return path


@pytest.mark.parametrize(
    "space", [b"right-anterior-superior", b"left-anterior-superior", b"RAS", b"LPS", b"LAS"]
)
def test_nrrd_spaces_are_turned_into_lps(tmp_path, space):
    path = nrrd(tmp_path, b"left-posterior-superior", space)
    if len(space) > 3:
        same_place_as_itk(path)
    signs = {"r": (-1, -1, 1), "l": (1, -1, 1)}[space.decode()[0].lower()]
    signs = (1, 1, 1) if space == b"LPS" else signs
    np.testing.assert_allclose(read_scan(path).grid.origin_mm, np.array((-30, 12.5, -200)) * signs)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"left-posterior-superior", b"scanner-xyz", "does not say where its voxels lie"),
        (b"space origin", b"#pace origin", "does not say where its voxels lie"),
        (b"(-30,12.5", b"(-30,12,5", r"space origin=.*expected 1 vector"),
        (b"(-30,", b"(nan,", r"space origin=.*expected 1 vector"),
        (b"sizes: 8 9 6", b"sizes: 8 9 7", "is truncated: it has 864 of 1008"),
        (b"sizes: 8 9 6", b"sizes: 8 9 5", "more than the 720 bytes"),
        (b"sizes: 8 9 6", b"sizes: 8 9 -6", "expected a single 3-D volume"),
        (b"sizes: 8 9 6", b"sizes: 8 9", "expected a single 3-D volume"),
        (b"sizes: 8 9 6", b"sizes: 99999999999999999999 9 6", "expected a single 3-D volume"),
        (b"dimension: 3", b"dimension: 4", "expected a single 3-D volume"),
        (b"encoding: raw", b"encoding: hex", "supported are"),
        (b"type: short", b"type: block", "supported are"),
        (b"endian: little", b"endian: middle", "expected little or big"),
        (b"space origin", b"space units: \"m\" \"m\" \"m\"\nspace origin", "expected mm"),
        (b"space origin", b"byte skip: 7\nspace origin", "skips lines or bytes"),
        (b"space origin", b"data file: ../s.raw\nspace origin", "not lie in its own folder"),
        (b"encoding: raw", b"encoding: raw\nencoding: gzip", "damaged or doubled line"),
        (b"NRRD0004", b"NRRX0004", "is not an NRRD file"),
    ],
)  # fmt: skip
def test_a_damaged_nrrd_header_is_refused(tmp_path, old, new, words):
    with pytest.raises(ANY, match=words):
        read_scan(nrrd(tmp_path, old, new))


# --- NIfTI


def patched(path, offset, values, order="<"):
    content = bytearray(path.read_bytes())
    data = values.astype(values.dtype.newbyteorder(order)).tobytes()
    content[offset : offset + len(data)] = data
    path.write_bytes(content)
    return path


def nifti(tmp_path, affine=None, values=None, sform=1, qform=1):
    affine = np.diag([-0.8, -0.7, 2.5, 1.0]) if affine is None else affine
    image = nibabel.Nifti1Image(noise().T if values is None else values, affine)
    image.set_sform(image.affine if sform else None, sform)
    image.set_qform(image.affine if qform else None, qform)
    nibabel.save(image, tmp_path / "s.nii")
    return tmp_path / "s.nii"


@pytest.mark.parametrize("qfac", [0.0, 1.0, -1.0])
@pytest.mark.parametrize("sform", [0, 1])
def test_a_missing_qfac_means_one_as_the_standard_says(tmp_path, qfac, sform):
    affine = np.diag([0.8, 0.7, -2.5 if qfac < 0 else 2.5, 1.0])
    path = nifti(tmp_path, affine, sform=sform)
    same_place_as_itk(patched(path, 76, np.float32([qfac])))


@pytest.mark.parametrize(("code", "unit"), [(1, 1e-3), (2, 1), (3, 1e3), (0, 1)])
def test_units_of_metres_and_micrometres_are_turned_into_millimetres(tmp_path, code, unit):
    affine = np.diag([-0.8, -0.7, 2.5, 1.0])
    affine[:3, 3] = 10, 20, 30
    affine[:3] *= unit
    path = patched(nifti(tmp_path, affine), 123, np.uint8([code]))
    scan = read_scan(path)
    np.testing.assert_allclose(scan.grid.spacing_mm, (2.5, 0.7, 0.8), rtol=1e-6)
    np.testing.assert_allclose(scan.grid.origin_mm, (-10, -20, 30), rtol=1e-5)


@pytest.mark.parametrize("shape", [(8, 9, 6, 1), (8, 9, 6, 1, 1)])
def test_further_axes_of_length_one_are_left_out(tmp_path, shape):
    same_place_as_itk(nifti(tmp_path, values=noise().T.reshape(shape)))


@pytest.mark.parametrize("qform", [0, 1])
def test_a_big_endian_nifti_is_read_as_simpleitk_reads_it(tmp_path, qform):
    image = nibabel.Nifti1Image(noise().T, np.diag([-0.8, -0.7, 2.5, 1.0])).as_reoriented(
        [[0, 1], [1, 1], [2, 1]]
    )
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    big = nibabel.Nifti1Image(noise().T, image.affine, header)
    big.set_qform(big.affine, qform)
    nibabel.save(big, tmp_path / "s.nii")
    assert (tmp_path / "s.nii").read_bytes()[:4] == struct.pack(">i", 348)
    same_place_as_itk(tmp_path / "s.nii")


def test_a_slope_and_an_intercept_are_applied_as_simpleitk_does(tmp_path):
    path = nifti(tmp_path)
    same_place_as_itk(patched(path, 112, np.float32([0.5, -100])))


@pytest.mark.parametrize("slope", [0.0, np.nan])
def test_a_slope_of_nothing_means_no_scaling(tmp_path, slope):
    path = patched(nifti(tmp_path), 112, np.float32([slope, 7]))
    np.testing.assert_array_equal(read_scan(path).volume_hu, noise())


@pytest.mark.parametrize(
    ("offset", "values", "words"),
    [
        (112, np.float32([np.inf, 0]), "scl_slope=inf"),
        (112, np.float32([1, np.inf]), "scl_inter=inf"),
        (112, np.float32([1, np.nan]), "scl_inter=nan"),
        (76, np.float32([np.nan]), r"pixdim\[0\] = nan"),
        (80, np.float32([0]), "no voxel spacing"),
        (80, np.float32([np.nan]), "no voxel spacing"),
        (80, np.float32([np.inf]), "no voxel spacing"),
        (80, np.float32([-0.8]), "no voxel spacing"),
        (80, np.float32([1.6]), "place its voxels up to"),
        (123, np.uint8([7]), "unknown unit"),
        (123, np.uint8([1]), "spacing of 2500 x 700 x 800 mm"),
        (123, np.uint8([3]), "spacing of 0.0025 x 0.0007 x 0.0008 mm"),
        (280, np.float32([np.nan]), "sform that is not finite"),
        (40, np.int16([4, 8, 9, 3, 2]), r"shape \(8, 9, 3, 2\); expected a single 3-D volume"),
        (40, np.int16([2]), "expected a single 3-D volume"),
        (40, np.int16([9]), "expected a single 3-D volume"),
        (40, np.int16([-3]), "expected a single 3-D volume"),
        (42, np.int16([-8]), "expected a single 3-D volume"),
        (42, np.int16([9]), "is truncated: it has 864 of 972"),
        (42, np.int16([7]), "more than the 756 bytes"),
        (42, np.int16([32767, 32767, 32767]), "is truncated: it has 864 of"),
        (70, np.int16([32]), "voxels of type complex64"),
        (70, np.int16([128]), "voxels of type"),
        (70, np.int16([77]), "unknown data type"),
        (70, np.int16([8]), "bitpix=16: its header is damaged"),
        (108, np.float32([np.nan]), "header is damaged"),
        (108, np.float32([1e30]), "header is damaged"),
        (108, np.float32([352.5]), "header is damaged"),
        (108, np.float32([356]), "is truncated"),
        (252, np.int16([0, 0]), "does not say where its voxels lie"),
    ],
)
def test_a_damaged_nifti_header_is_refused(tmp_path, offset, values, words):
    with pytest.raises(ANY, match=words):
        read_scan(patched(nifti(tmp_path), offset, values))


def test_a_spacing_that_contradicts_the_sform_is_refused(tmp_path):
    path = patched(nifti(tmp_path, qform=0), 80, np.float32([1.6, 1.4, 5.0]))
    with pytest.raises(GeometryError, match=r"by its affine and of 5 x 1\.4 x 1\.6 mm by pixdim"):
        read_scan(path)


def test_a_tiny_file_that_claims_gigabytes_takes_no_memory(tmp_path):
    path = patched(nifti(tmp_path), 40, np.int16([3, 1024, 1024, 1024]))
    with gzip.open(tmp_path / "s.nii.gz", "wb") as file:
        file.write(path.read_bytes()[:352])
    with pytest.raises(ScanError, match="cannot hold the 21474"):
        read_scan(tmp_path / "s.nii.gz")


def test_itk_and_we_agree_on_the_file_that_all_others_are_changed_from(tmp_path):
    same_place_as_itk(nifti(tmp_path))
    sitk.WriteImage(itk_image(noise()), str(tmp_path / "s.mhd"))
    assert read_scan(tmp_path / "s.mhd").grid == UPRIGHT
