"""Data sets whose lesions are masks: labels beside images, SEG and RTSTRUCT beside series."""

import sys

import numpy as np
import pytest

from nodule_det.config.data import DataConfig, Layout
from nodule_det.data.layouts.detect import detect, list_scans
from nodule_det.data.readers.lesions import read_lesions
from nodule_det.data.scan import Finding
from nodule_det.errors import LayoutError
from tests.data.dicom_files import chest_series, save_series
from tests.data.mask_files import drawn_labels, rtstruct, seg, series_and_grid
from tests.data.scan_files import UPRIGHT, noise, write_file

HEADER = "seriesuid,coordX,coordY,coordZ,diameter_mm\n"


def listed(root, **settings):
    return {e.series_uid: e for e in list_scans(DataConfig(source=str(root), **settings))}


def saved(dataset, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture
def dicom(tmp_path):
    """Return a data set of one series, in a folder of its own, and what made it."""
    series, grid = series_and_grid()
    save_series(series, tmp_path / "set" / "ct")
    return tmp_path / "set", series, grid


@pytest.mark.parametrize("kind", ["seg", "rtstruct"])
@pytest.mark.parametrize("folder", ["ct", "masks of somebody"])
def test_each_component_of_a_segment_is_a_lesion(dicom, kind, folder):
    root, series, grid = dicom
    labels = drawn_labels()
    labels[0, 0, 0] = 3  # a second part of segment 3
    made = seg(series, labels) if kind == "seg" else None
    if made is None:
        # the two parts of ROI 3 lie six slices apart
        labels[0, 0, 0] = 0
        labels[5, 1, 22] = 3
        labels[6, 10, 1] = 3
        made = rtstruct(series, grid, labels)
    path = saved(made, root / folder / "mask.dcm")
    entry = listed(root)["1.2.3.4"]
    assert entry.problem is None
    assert entry.lesion_objects == (path,)
    assert [f.attributes["segment"] for f in entry.findings] == ["1", "2", "3", "3"]
    ring = entry.findings[0]
    # 3 slices of 7 x 7 voxels less 3 x 3; centre at voxel (2, 6, 7)
    np.testing.assert_allclose(ring.center_mm, (-40 + 7 * 0.7, -30 + 6 * 0.8, 105), atol=1e-6)
    assert ring.diameter_mm == pytest.approx((6 * 120 * 2.5 * 0.8 * 0.7 / np.pi) ** (1 / 3))
    np.testing.assert_array_equal(read_lesions(entry), labels)


def test_a_copy_of_an_object_counts_once(dicom):
    root, series, _ = dicom
    made = seg(series, drawn_labels())
    saved(made, root / "a" / "mask.dcm")
    saved(made, root / "b" / "mask.dcm")
    assert len(listed(root)["1.2.3.4"].findings) == 3


def test_a_csv_takes_precedence_over_objects(dicom):
    root, series, _ = dicom
    saved(seg(series, drawn_labels()), root / "mask.dcm")
    (root / "annotations.csv").write_text(HEADER + "1.2.3.4,-35,-25,105,4\n")
    entry = listed(root)["1.2.3.4"]
    assert entry.findings == (Finding((-35, -25, 105), 4),)
    assert entry.lesion_objects == ()


def test_an_object_of_another_series_is_reported_and_its_neighbour_too(dicom):
    root, _, _ = dicom
    other, _ = series_and_grid(series="1.2.3.77")
    saved(seg(other, drawn_labels()), root / "ct" / "mask.dcm")
    entries = listed(root)
    assert (
        "has no lesion mask: looked for a DICOM SEG or RTSTRUCT that references series 1.2.3.4"
        in (entries.pop("1.2.3.4").problem)
    )
    (stray,) = entries.values()
    assert "mask.dcm references series 1.2.3.77, which the data set does not have" in stray.problem
    assert listed(root, partial=True) == {}


def test_a_mask_of_another_frame_of_reference_costs_its_scan_only(dicom):
    root, series, _ = dicom
    made = seg(series, drawn_labels())
    made.FrameOfReferenceUID = "1.2.99"
    saved(made, root / "ct" / "mask.dcm")
    other, _ = series_and_grid(series="1.2.3.77")
    save_series(other, root / "other")
    saved(seg(other, drawn_labels()), root / "other" / "mask.dcm")
    entries = listed(root)
    assert "has FrameOfReferenceUID='1.2.99'" in entries["1.2.3.4"].problem
    assert entries["1.2.3.77"].problem is None
    assert len(entries["1.2.3.77"].findings) == 3


def test_a_mask_of_a_tilted_series_is_refused(tmp_path):
    series = chest_series()
    for k, dataset in enumerate(series):
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y + k * 1.5, z]
    save_series(series, tmp_path / "ct")
    labels = np.zeros((48, 96, 96), np.uint8)
    labels[20:22, 40:44, 40:44] = 1
    saved(rtstruct(series, series_and_grid()[1], labels[:7, :20, :24] + drawn_labels()),
          tmp_path / "ct" / "mask.dcm")  # fmt: skip
    assert "has a gantry tilt or unequal gaps" in listed(tmp_path)["1.2.3.4"].problem


def test_an_organ_is_refused(tmp_path):
    series = chest_series()
    save_series(series, tmp_path / "ct")
    labels = np.zeros((48, 96, 96), np.uint8)
    labels[10:40, 20:50, 20:60] = 1  # 30 x 30 x 40 voxels of 96 mm3: 3.5 litres, 188 mm
    saved(seg(series, labels), tmp_path / "ct" / "mask.dcm")
    assert "has a lesion (segment 1) of 188 mm" in listed(tmp_path)["1.2.3.4"].problem


def test_without_pydicom_each_series_names_the_extra(dicom, monkeypatch):
    root, series, _ = dicom
    saved(seg(series, drawn_labels()), root / "ct" / "mask.dcm")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    assert "needs pydicom to be read: pip install 'nodule_det[dicom]'" in (
        listed(root)["1.2.3.4"].problem
    )


# --- labels beside images


@pytest.fixture
def images(tmp_path):
    labels = np.zeros(UPRIGHT.size_vox, np.uint8)
    labels[1:3, 2:4, 1:4] = 1
    labels[5, 8, 7] = 2
    for name in ("a", "b"):
        write_file(tmp_path / "images" / f"{name}.nii.gz", noise())
        write_file(tmp_path / "labels" / f"{name}.mha", labels)
    return tmp_path


@pytest.mark.parametrize(
    ("scans", "masks"),
    [
        ("images", "labels"),
        ("images", "masks"),
        ("imagesTr", "labelsTr"),
        ("images_2024", "Segmentations_2024"),
        ("Images", "Masks"),
    ],
)
def test_labels_beside_images_are_lesion_masks(images, scans, masks):
    (images / "images").rename(images / "x").rename(images / scans)
    (images / "labels").rename(images / "y").rename(images / masks)
    assert detect(images, DataConfig(source=str(images))) is Layout.folder
    entries = listed(images)
    assert sorted(entries) == ["a", "b"]
    assert entries["a"].lesion_mask == images / masks / "a.mha"
    assert [len(entry.findings) for entry in entries.values()] == [2, 2]


def test_a_label_of_another_grid_or_none_costs_its_scan(images):
    write_file(images / "labels" / "a.mha", np.zeros((5, 9, 8), np.uint8))
    (images / "labels" / "b.mha").unlink()
    write_file(images / "images" / "c.nii.gz", noise())
    write_file(images / "labels" / "c.mha", np.zeros(UPRIGHT.size_vox, np.uint8))
    entries = listed(images)
    assert "a.mha has 5 x 9 x 8 voxels" in entries["a"].problem
    assert "b.nii.gz has no lesion mask: looked for an image b in a folder" in entries["b"].problem
    assert (entries["c"].problem, entries["c"].findings) == (None, ())
    assert sorted(listed(images, partial=True)) == ["a", "c"]


def test_two_labels_of_a_scan_are_refused(images):
    write_file(images / "masks" / "a.mha", np.zeros(UPRIGHT.size_vox, np.uint8))
    assert "has several lesion masks" in listed(images)["a"].problem


def test_lung_masks_named_by_the_user_are_not_lesions(images):
    (images / "labels").rename(images / "masks")
    with pytest.raises(LayoutError, match=r"has no known layout"):
        listed(images, masks=str(images / "masks"))


def test_a_dicom_series_may_have_a_label_image(tmp_path):
    series, grid = series_and_grid()
    save_series(series, tmp_path / "images" / "anna")
    write_file(tmp_path / "labels" / "anna.nii.gz", drawn_labels(), grid)
    entry = listed(tmp_path)["1.2.3.4"]
    assert entry.problem is None
    assert entry.lesion_mask == tmp_path / "labels" / "anna.nii.gz"
    assert len(entry.findings) == 3
