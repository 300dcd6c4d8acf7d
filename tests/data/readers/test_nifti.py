"""NIfTI headers: read exactly as SimpleITK does, or refused in one line."""

import gzip
import struct

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from nodule_det.data.readers.read import read_scan
from nodule_det.errors import GeometryError, ScanError
from tests.data.scan_files import UPRIGHT, itk_image, noise, same_place_as_itk

ANY = (ScanError, GeometryError)


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
        (252, np.int16([1, 77]), "unknown sform_code=77 or qform_code=1"),
        (252, np.int16([-3, 0]), "unknown sform_code=0 or qform_code=-3"),
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
