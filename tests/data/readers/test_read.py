"""All formats through one door: the same scan, the same Grid, and what is refused."""

import contextlib
import shutil

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from nodule_det.data.readers.read import find_scans, read_entry, read_grid, read_mask, read_scan
from nodule_det.errors import GeometryError, ScanError
from nodule_det.geometry import Grid, grid_from_ras_affine
from tests.data.scan_files import (
    GRIDS,
    SERIES_UID,
    UPRIGHT,
    cut,
    itk_image,
    noise,
    write_file,
    write_series,
    write_slice,
)


def write(folder, kind, volume, grid=UPRIGHT):
    """Write a scan in a format; give what is opened."""
    if kind == "dicom":
        write_series(folder / "series", volume, grid)
        return folder / "series"
    compress = kind == "zraw"
    return write_file(
        folder / f"scan.{'mhd' if compress else kind}", volume, grid, compress=compress
    )


KINDS = ["mhd", "zraw", "mha", "nii", "nii.gz", "dicom"]


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("kind", KINDS)
def test_each_voxel_is_found_at_its_place_in_the_world(tmp_path, kind, grid):
    volume = noise()
    scan = read_scan(write(tmp_path, kind, volume, grid))
    assert scan.volume_hu.dtype == np.int16
    voxels = np.argwhere(np.ones(scan.grid.size_vox, bool))
    there = grid.to_voxel(scan.grid.to_world(voxels))  # DICOM may run along z the other way
    np.testing.assert_allclose(there, np.rint(there), atol=1e-3)
    values = volume[tuple(np.rint(there).astype(int).T)]
    np.testing.assert_array_equal(scan.volume_hu[tuple(voxels.T)], values)


@pytest.mark.parametrize("kind", KINDS)
def test_a_scan_is_called_by_its_series_uid_or_else_by_its_file(tmp_path, kind):
    path = write(tmp_path, kind, noise())
    assert read_scan(path).series_uid == (SERIES_UID if kind == "dicom" else "scan")


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_clipped_and_padding_becomes_air(tmp_path, kind):
    volume = noise()
    volume[0, 0, :4] = [-2000, -1025, 3072, 20000]
    scan = read_scan(write(tmp_path, kind, volume))
    assert scan.volume_hu[0, 0, :4].tolist() == [-1024, -1024, 3071, 3071]


@pytest.mark.parametrize("kind", KINDS)
def test_a_constant_volume_is_refused(tmp_path, kind):
    path = write(tmp_path, kind, np.full(UPRIGHT.size_vox, -1000, np.int16))
    with pytest.raises(ScanError, match=r"has the same value, -1000 HU, in every voxel"):
        read_scan(path)


@pytest.mark.parametrize("kind", KINDS)
def test_values_that_are_no_hounsfield_units_are_refused(tmp_path, kind):
    with pytest.raises(ScanError, match=r"from \d+ to \d+ HU and no air.*-1024 not applied"):
        read_scan(write(tmp_path, kind, noise() + np.int16(1024)))


@pytest.mark.parametrize("kind", ["mhd", "nii.gz"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_voxel_that_is_no_number_is_refused(tmp_path, kind, bad):
    volume = noise().astype(np.float32)
    volume[1, 2, 3] = bad
    with pytest.raises(ScanError, match=r"scan\.\S+ has 1 NaN or infinite voxel"):
        read_scan(write(tmp_path, kind, volume))


def test_fractions_are_rounded_not_cut_off(tmp_path):
    volume = noise().astype(np.float32)
    volume[0, 0, :3] = [-10.6, 10.6, 0.4]
    scan = read_scan(write(tmp_path, "nii", volume))
    assert scan.volume_hu[0, 0, :3].tolist() == [-11, 11, 0]


# --- MetaImage


def header_without(path, word):
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line for line in lines if not line.startswith(word)) + "\n")


@pytest.mark.parametrize(
    ("line", "error", "words"),
    [
        ("ElementSpacing", GeometryError, r"s\.mhd has no voxel spacing; add .*ElementSpacing ="),
        ("Offset", GeometryError, r"s\.mhd has no origin; add the line 'Offset = X Y Z'"),
        ("DimSize", ScanError, r"s\.mhd has DimSize=None; expected 3 numbers"),
        ("ElementType", ScanError, r"s\.mhd has ElementType=''; supported are MET_CHAR"),
        ("ElementDataFile", ScanError, r"s\.mhd is not a MetaImage.* it has no line"),
    ],
)
def test_a_metaimage_header_that_lacks_a_line_is_refused(tmp_path, line, error, words):
    path = write_file(tmp_path / "s.mhd", noise())
    header_without(path, line)
    with pytest.raises(error, match=words):
        read_scan(path)


def test_a_metaimage_without_its_raw_file_is_refused(tmp_path):
    path = write_file(tmp_path / "s.mhd", noise())
    (tmp_path / "s.raw").unlink()
    with pytest.raises(ScanError, match=r"s\.mhd needs the file s\.raw beside it, which is missin"):
        read_scan(path)


@pytest.mark.parametrize("n_bytes", [1, 400])
def test_a_truncated_raw_file_is_refused_with_both_sizes(tmp_path, n_bytes):
    path = write_file(tmp_path / "s.mhd", noise())
    cut(tmp_path / "s.raw", n_bytes)
    whole = 6 * 9 * 8 * 2
    with pytest.raises(
        ScanError, match=rf"s\.raw is truncated: it has {whole - n_bytes} of {whole} "
    ):
        read_scan(path)


@pytest.mark.parametrize("name", ["s.mhd", "s.mha"])
def test_truncated_compressed_voxels_are_refused(tmp_path, name):
    path = write_file(tmp_path / name, noise(), compress=True)
    cut(tmp_path / ("s.zraw" if name == "s.mhd" else name), 100)
    with pytest.raises(ScanError, match=r"bytes of compressed voxels in s\.\w+: it is truncated"):
        read_scan(path)


def test_damaged_compressed_voxels_are_refused(tmp_path):
    path = write_file(tmp_path / "s.mhd", noise(), compress=True)
    raw = tmp_path / "s.zraw"
    raw.write_bytes(b"\xff" * raw.stat().st_size)
    with pytest.raises(ScanError, match=r"s\.zraw .*damaged \(.*incorrect header check"):
        read_scan(path)


def test_a_sheared_metaimage_is_refused_by_name(tmp_path):
    path = write_file(tmp_path / "s.mhd", noise())
    text = path.read_text()
    assert "TransformMatrix = 1 0 0 0 1 0 0 0 1" in text
    path.write_text(text.replace("= 1 0 0 0 1 0 0 0 1", "= 1 0 0 0 1 0 0 0.3 1"))
    with pytest.raises(GeometryError, match=r"s\.mhd: direction=.*not perpendicular.*gantry tilt"):
        read_scan(path)


# --- NIfTI: nibabel and SimpleITK, both ways


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_what_simpleitk_writes_nibabel_places_where_our_grid_does(tmp_path, grid):
    path = write_file(tmp_path / "s.nii.gz", noise(), grid)
    read = read_scan(path).grid
    image = nibabel.load(path)
    for z, y, x in [(0, 0, 0), (5, 8, 7), (2, 0, 3)]:
        right, front, up = nibabel.affines.apply_affine(image.affine, [x, y, z])
        np.testing.assert_allclose(read.to_world([z, y, x]), [-right, -front, up], atol=1e-4)
        np.testing.assert_allclose(read.to_world([z, y, x]), grid.to_world([z, y, x]), atol=1e-4)


@pytest.mark.parametrize("axes", [(1, 1, 1), (-1, 1, 1), (-1, -1, 1), (1, -1, -1)])
def test_what_nibabel_writes_simpleitk_places_where_our_grid_does(tmp_path, axes):
    affine = np.diag([*(np.array(axes) * [0.8, 0.7, 2.5]), 1.0])
    affine[:3, 3] = [10.0, -20.0, 30.0]
    values = noise().transpose(2, 1, 0)
    image = nibabel.Nifti1Image(values, affine)
    nibabel.save(image, tmp_path / "s.nii")
    scan = read_scan(tmp_path / "s.nii")
    itk = sitk.ReadImage(str(tmp_path / "s.nii"))
    for z, y, x in [(0, 0, 0), (5, 8, 7), (2, 0, 3)]:
        by_itk = itk.TransformIndexToPhysicalPoint((x, y, z))
        np.testing.assert_allclose(scan.grid.to_world([z, y, x]), by_itk, atol=1e-4)
        assert scan.volume_hu[z, y, x] == values[x, y, z]
    affine = nibabel.load(tmp_path / "s.nii").affine
    assert scan.grid == grid_from_ras_affine(affine, values.shape)


def nifti(path, affine=None, **codes):
    image = nibabel.Nifti1Image(noise().transpose(2, 1, 0), np.eye(4) if affine is None else affine)
    image.header.set_sform(image.affine, code=codes.get("sform", 1))
    image.header.set_qform(np.eye(4), code=codes.get("qform", 0))
    return image


def test_sform_and_qform_that_disagree_are_refused(tmp_path):
    affine = np.eye(4)
    affine[0, 3] = 7.5
    nibabel.save(nifti(tmp_path, affine, qform=1), tmp_path / "s.nii")
    with pytest.raises(
        GeometryError, match=r"s\.nii has an sform and a qform that .* 7\.5 mm apar"
    ):
        read_scan(tmp_path / "s.nii")


def test_an_sform_alone_is_enough(tmp_path):
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    image = nifti(tmp_path, affine)
    image.header["pixdim"][1:4] = [2, 2, 3]
    nibabel.save(image, tmp_path / "s.nii")
    assert read_scan(tmp_path / "s.nii").grid.spacing_mm == (3.0, 2.0, 2.0)


def test_a_nifti_that_says_nothing_of_its_place_is_refused(tmp_path):
    image = nifti(tmp_path)
    nibabel.save(image, tmp_path / "s.nii")
    patch(tmp_path / "s.nii", 252, np.int16([0, 0]))  # qform_code, sform_code
    with pytest.raises(GeometryError, match=r"s\.nii does not say where its voxels lie"):
        read_scan(tmp_path / "s.nii")


def test_a_nifti_without_spacing_is_refused(tmp_path):
    nibabel.save(nifti(tmp_path), tmp_path / "s.nii")
    patch(tmp_path / "s.nii", 80, np.float32([0, 0, 0]))  # pixdim[1:4]
    with pytest.raises(GeometryError, match=r"s\.nii has no voxel spacing \(pixdim = \[0\.0, "):
        read_scan(tmp_path / "s.nii")


def patch(path, offset, values):
    content = bytearray(path.read_bytes())
    content[offset : offset + values.nbytes] = values.tobytes()
    path.write_bytes(content)


def test_a_sheared_sform_is_refused_by_name(tmp_path):
    affine = np.eye(4)
    affine[1, 2] = 0.3
    nibabel.save(nifti(tmp_path, affine), tmp_path / "s.nii")
    with pytest.raises(GeometryError, match=r"s\.nii: direction=.*not perpendicular.*gantry tilt"):
        read_scan(tmp_path / "s.nii")


@pytest.mark.parametrize("name", ["s.nii", "s.nii.gz"])
def test_a_truncated_nifti_is_refused(tmp_path, name):
    path = write_file(tmp_path / name, noise())
    cut(path, 300)
    with pytest.raises(
        ScanError,
        match=r"s\.nii\S* (is truncated: it has|cannot be read, it is truncated or damaged)",
    ):
        read_scan(path)


def test_a_nifti_of_four_dimensions_is_refused(tmp_path):
    nibabel.save(
        nibabel.Nifti1Image(np.zeros((4, 4, 4, 2), np.int16), np.eye(4)), tmp_path / "s.nii"
    )
    with pytest.raises(ScanError, match=r"s\.nii has shape \(4, 4, 4, 2\); expected a single 3-D"):
        read_scan(tmp_path / "s.nii")


def test_a_nifti_with_extensions_is_read(tmp_path):
    image = nifti(tmp_path)
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"x" * 2000))
    nibabel.save(image, tmp_path / "s.nii.gz")
    np.testing.assert_array_equal(read_scan(tmp_path / "s.nii.gz").volume_hu, noise())


def test_a_nifti_of_version_two_is_read(tmp_path):
    nibabel.save(nibabel.Nifti2Image(noise().T, np.eye(4)), tmp_path / "s.nii")
    np.testing.assert_array_equal(read_scan(tmp_path / "s.nii").volume_hu, noise())


def test_a_big_endian_nifti_with_a_slope_is_read(tmp_path):
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    header.set_slope_inter(2.0, -1024.0)
    stored = (noise().T.astype(int) + 1024) // 2
    image = nibabel.Nifti1Image(2.0 * stored - 1024, np.eye(4), header)
    nibabel.save(image, tmp_path / "s.nii")
    np.testing.assert_array_equal(read_scan(tmp_path / "s.nii").volume_hu, 2 * stored.T - 1024)


# --- what is no image


@pytest.mark.parametrize("name", ["s.mhd", "s.mha", "s.nii", "s.nii.gz"])
def test_an_empty_file_is_refused(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(ScanError, match=rf"{name} is empty; copy it again"):
        read_scan(tmp_path / name)


@pytest.mark.parametrize("name", ["s.mhd", "s.mha", "s.nii", "s.nii.gz"])
def test_a_file_of_something_else_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"these are not voxels " * 50)
    with pytest.raises(ScanError, match=rf"{name} is not a (MetaImage|NIfTI file)"):
        read_scan(tmp_path / name)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_with_wrong_bytes_is_read_or_refused_and_nothing_else(tmp_path, kind):
    opened = write(tmp_path, kind, noise())
    target = opened / "2.dcm" if kind == "dicom" else opened
    good = target.read_bytes()
    generator = np.random.default_rng(0)
    for trial in range(60):
        content = bytearray(good)
        for _ in range(generator.choice([1, 3, 20])):
            reach = len(content) if trial % 2 else min(len(content), 900)  # headers lie in front
            content[generator.integers(reach)] = generator.integers(256)
        target.write_bytes(content)
        with contextlib.suppress(ScanError, GeometryError):
            read_scan(opened)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("scan.png", r"scan\.png is not an image that can be read; set \.mhd, \.mha, \.nii\.gz"),
        ("1.dcm", r"1\.dcm is not an image that can be read: use its folder"),
    ],
)
def test_an_unknown_ending_is_refused_with_the_known_ones(tmp_path, name, words):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ScanError, match=words):
        read_scan(tmp_path / name)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ScanError, match=r"s\.mhd does not exist; set \.mhd"):
        read_scan(tmp_path / "s.mhd")


def test_no_library_prints_its_own_warnings(tmp_path, capfd):
    path = write_file(tmp_path / "s.nii.gz", noise())
    cut(path, 300)
    series = write_series(tmp_path / "series", noise())
    cut(series[2], 10)
    for broken in (path, tmp_path / "series"):
        with pytest.raises(ScanError):
            read_scan(broken)
    assert capfd.readouterr() == ("", "")


# --- masks


@pytest.mark.parametrize("kind", ["mhd", "nii.gz"])
def test_a_mask_gives_its_labels_in_the_scan_s_grid(tmp_path, kind):
    labels = np.zeros(UPRIGHT.size_vox, np.uint8)
    labels[2:4, 3, 4:6] = 3
    path = write_file(tmp_path / f"m.{kind}", labels)
    mask = read_mask(path, like=UPRIGHT)
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, labels)


def test_a_mask_of_another_shape_is_refused(tmp_path):
    path = write_file(tmp_path / "m.mhd", np.zeros((5, 9, 8), np.uint8))
    with pytest.raises(GeometryError, match=r"m\.mhd has 5 x 9 x 8 voxels.*its scan has 6 x 9 x 8"):
        read_mask(path, like=UPRIGHT)


def test_a_mask_that_lies_elsewhere_is_refused(tmp_path):
    moved = Grid(UPRIGHT.size_vox, UPRIGHT.spacing_mm, (-30.0, 12.5, -197.0))
    path = write_file(tmp_path / "m.mhd", np.zeros(moved.size_vox, np.uint8), moved)
    with pytest.raises(GeometryError, match=r"m\.mhd lies up to 3 mm away from its scan"):
        read_mask(path, like=UPRIGHT)


@pytest.mark.parametrize("bad", [0.5, -1.0, 300.0])
def test_a_mask_of_values_that_are_no_labels_is_refused(tmp_path, bad):
    path = write_file(tmp_path / "m.nii", np.full(UPRIGHT.size_vox, bad, np.float32))
    with pytest.raises(
        ScanError, match=r"m\.nii has values other than whole numbers from 0 to 255"
    ):
        read_mask(path, like=UPRIGHT)


@pytest.mark.parametrize("kind", ["mhd", "mha", "nii.gz"])
def test_the_grid_is_read_without_the_voxels(tmp_path, kind):
    path = write_file(tmp_path / f"s.{kind}", noise())
    np.testing.assert_allclose(read_grid(path).to_world([1, 2, 3]), UPRIGHT.to_world([1, 2, 3]))


# --- listing


def test_scans_are_listed_in_all_folders(tmp_path):
    write_file(tmp_path / "b" / "two.nii.gz", noise())
    write_file(tmp_path / "a.mhd", noise())
    write_series(tmp_path / "b" / "c" / "d", noise())
    write_file(tmp_path / ".trash" / "no.mhd", noise())
    shutil.copy(tmp_path / "a.mhd", tmp_path / "._a.mhd")
    found = find_scans(tmp_path)
    assert [(e.series_uid, e.path.relative_to(tmp_path).as_posix()) for e in found] == [
        ("a", "a.mhd"),
        ("two", "b/two.nii.gz"),
        (SERIES_UID, "b/c/d"),
    ]
    assert len({entry.patient_key for entry in found}) == 3


def test_one_file_or_one_dicom_folder_lists_itself(tmp_path):
    path = write_file(tmp_path / "one.mhd", noise())
    assert [scan.path for scan in find_scans(path)] == [path]
    write_series(tmp_path / "series", noise())
    assert [scan.path for scan in find_scans(tmp_path / "series")] == [tmp_path / "series"]


def test_each_series_of_a_folder_is_listed(tmp_path):
    write_series(tmp_path, noise()[:3])
    for k in range(3):
        write_slice(tmp_path / f"b{k}.dcm", noise()[k], (0, 0, k), t0020_000e="1.2.826.2")
    assert [scan.series_uid for scan in find_scans(tmp_path)] == [SERIES_UID, "1.2.826.2"]


def test_a_folder_with_a_damaged_slice_is_listed_so_that_reading_can_say_why(tmp_path):
    series = write_series(tmp_path, noise())
    series[1].write_bytes(b"")
    assert [scan.series_uid for scan in find_scans(tmp_path)] == [SERIES_UID]
    with pytest.raises(ScanError, match=r"1\.dcm is empty"):
        read_scan(tmp_path)


def test_a_folder_without_scans_says_what_was_looked_for(tmp_path):
    with pytest.raises(ScanError, match=r"holds no scan: looked for \.mhd, .* DICOM series of CT"):
        find_scans(tmp_path)
    write_slice(tmp_path / "1.dcm", noise()[0], (0, 0, 0), t0008_0060="MR")
    with pytest.raises(ScanError, match=r"it holds DICOM files of modality MR$"):
        find_scans(tmp_path)


def test_two_scans_of_one_name_are_refused(tmp_path):
    write_file(tmp_path / "a" / "s.mhd", noise())
    write_file(tmp_path / "b" / "s.nii", noise())
    (entry,) = find_scans(tmp_path)
    with pytest.raises(ScanError, match=r"2 scans are called s: \S*a/s\.mhd and \S*b/s\.nii"):
        read_entry(entry)


def test_a_folder_of_masks_is_left_out(tmp_path):
    write_file(tmp_path / "s.mhd", noise())
    write_file(tmp_path / "masks" / "s.mhd", noise())
    assert len(find_scans(tmp_path, exclude=tmp_path / "masks")) == 1


def test_an_image_with_several_channels_is_refused(tmp_path):
    image = sitk.Compose([itk_image(noise())] * 2)
    sitk.WriteImage(image, str(tmp_path / "s.mhd"))
    with pytest.raises(ScanError, match=r"and 2 channel\(s\); expected a single 3-D volume"):
        read_scan(tmp_path / "s.mhd")
