"""The Decathlon's lung task: lesions are the connected components of label masks."""

import json
import re

import numpy as np
import pytest

from nodule_det.config.data import DataConfig, StoreConfig
from nodule_det.data.ingest.ingest import named_test_set
from nodule_det.data.ingest.splits import Plan, write_splits
from nodule_det.data.layouts import msd
from nodule_det.data.layouts.detect import list_scans
from nodule_det.data.layouts.msd import components, list_msd
from nodule_det.data.store import read_splits
from nodule_det.errors import ConfigError, LayoutError
from nodule_det.geometry import Grid
from tests.data.scan_files import ROTATED, UPRIGHT, noise, write_file


@pytest.fixture
def task(tmp_path):
    """Return a task of two labelled scans: one with two lesions, one with none."""
    root = tmp_path / "Task06_Lung"
    labels = np.zeros(UPRIGHT.size_vox, np.uint8)
    labels[1:3, 2:4, 1:4] = 1
    labels[5, 8, 7] = 1
    for name, label in (("lung_001", labels), ("lung_002", np.zeros_like(labels))):
        write_file(root / "imagesTr" / f"{name}.nii.gz", noise())
        write_file(root / "labelsTr" / f"{name}.nii.gz", label)
        (root / "imagesTr" / f"._{name}.nii.gz").write_bytes(b"macOS")
    cases = [
        {"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"}
        for n in ("lung_001", "lung_002")
    ]
    index = {"modality": {"0": "CT"}, "training": cases, "test": ["./imagesTs/lung_003.nii.gz"]}
    (root / "dataset.json").write_text(json.dumps(index))
    return root


def listed(root, **settings):
    return {e.series_uid: e for e in list_msd(root, DataConfig(source=str(root), **settings))}


def test_each_component_is_a_lesion(task):
    entries = listed(task)
    first, second = entries["lung_001"].findings
    # voxels 1..2, 2..3, 1..3 (z, y, x) of 2.5 x 0.7 x 0.8 mm from (-30, 12.5, -200)
    np.testing.assert_allclose(
        first.center_mm, (-30 + 2 * 0.8, 12.5 + 2.5 * 0.7, -200 + 1.5 * 2.5), atol=1e-4
    )
    volume_mm3 = 12 * 2.5 * 0.7 * 0.8
    assert first.diameter_mm == pytest.approx((6 * volume_mm3 / np.pi) ** (1 / 3))
    assert second.diameter_mm == pytest.approx((6 * 2.5 * 0.7 * 0.8 / np.pi) ** (1 / 3))
    assert not first.excluded
    assert entries["lung_001"].lesion_mask == task / "labelsTr" / "lung_001.nii.gz"
    assert entries["lung_002"].findings == ()


def test_voxels_that_share_a_corner_are_one_lesion():
    labels = np.zeros(UPRIGHT.size_vox, np.uint8)
    labels[2, 2, 2] = labels[3, 3, 3] = 1
    (lesion,) = components(labels, ROTATED)
    np.testing.assert_allclose(lesion.center_mm, ROTATED.to_world([2.5, 2.5, 2.5]))


def test_the_diameter_of_a_ball_is_its_own():
    grid = Grid((40, 40, 40), (1.0, 1.0, 1.0), (0, 0, 0))
    z, y, x = np.mgrid[:40, :40, :40]
    ball = ((z - 20) ** 2 + (y - 19) ** 2 + (x - 18) ** 2 <= 8**2).astype(np.uint8)
    (lesion,) = components(ball, grid)
    assert lesion.diameter_mm == pytest.approx(16, abs=0.2)
    np.testing.assert_allclose(lesion.center_mm, (18, 19, 20), atol=1e-9)


def test_a_label_of_another_shape_is_refused(task):
    write_file(task / "labelsTr" / "lung_001.nii.gz", np.zeros((5, 9, 8), np.uint8))
    problem = next(e.problem for e in list_msd(task, DataConfig(source=str(task))) if e.problem)
    assert re.search(r"mask \S+lung_001\.nii\.gz has 5 x 9 x 8 voxels", problem)


def test_a_missing_label_is_refused(task):
    (task / "labelsTr" / "lung_002.nii.gz").unlink()
    problem = next(e.problem for e in list_msd(task, DataConfig(source=str(task))) if e.problem)
    assert re.search(r"needs its label \S+lung_002\.nii\.gz, which is missing", problem)


def test_a_missing_image_is_refused_or_left_out_on_request(task):
    (task / "imagesTr" / "lung_002.nii.gz").unlink()
    with pytest.raises(
        LayoutError, match=r"lists the series \S+lung_002\.nii\.gz, but its scan is n"
    ):
        listed(task)
    assert list(listed(task, partial=True)) == ["lung_001"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", r"dataset\.json is not an index of a Decathlon task .* \(JSONDecodeError"),
        ('{"name": "Lung"}', r"is not an index .*needs 'training': a list of"),
        ('{"training": [1]}', r"is not an index of a Decathlon task .* \(TypeError"),
        ('{"modality": {"0": "MRI"}, "training": []}', r"is of modality MRI, expected CT"),
        ('{"training": []}', r"has none of the images that its dataset\.json names"),
    ],
)
def test_an_index_that_makes_no_sense_is_refused(task, content, words):
    (task / "dataset.json").write_text(content)
    with pytest.raises(LayoutError, match=words):
        listed(task)


def test_a_test_set_without_labels_is_reported(task):
    assert msd.test_set_note(task) is None
    for name in ("lung_003", "lung_004"):
        write_file(task / "imagesTs" / f"{name}.nii.gz", noise())
    note = msd.test_set_note(task)
    assert note.startswith("2 scans in imagesTs, the data set's own test set, have no label in ")
    assert note.endswith("store.test_scans holds out a test set of the labelled scans")
    assert msd.test_set_note(task / "imagesTs") is None
    assert set(listed(task)) == {"lung_001", "lung_002"}


def test_a_test_set_with_labels_is_that_of_the_store(task):
    labels = np.zeros(UPRIGHT.size_vox, np.uint8)
    labels[1:3, 2:4, 1:4] = 1
    for name in ("lung_003", "lung_004"):
        write_file(task / "imagesTs" / f"{name}.nii.gz", noise())
    write_file(task / "labelsTs" / "lung_003.nii.gz", labels)
    entries = listed(task)
    assert {uid: e.test for uid, e in entries.items()} == {
        "lung_001": False,
        "lung_002": False,
        "lung_003": True,
    }
    assert len(entries["lung_003"].findings) == 1
    assert msd.test_set_note(task).startswith("1 of 2 scans in imagesTs, the data set's own test")
    config = StoreConfig()
    assert named_test_set(list(entries.values()), config) == {entries["lung_003"].patient_key}
    with pytest.raises(ConfigError, match=r"own test set of 1 scan, so store\.test_fraction=0\.2"):
        named_test_set(list(entries.values()), StoreConfig(test_fraction=0.2))


# --- nnU-Net v2


def nnunet(root, index=None, ending=".nii.gz"):
    labels = np.zeros(UPRIGHT.size_vox, np.uint8)
    labels[1:3, 2:4, 1:4] = 1
    for name in ("case_001", "case_002"):
        write_file(root / "imagesTr" / f"{name}_0000{ending}", noise())
        write_file(root / "labelsTr" / f"{name}{ending}", labels)
    content = {
        "channel_names": {"0": "CT"}, "labels": {"background": 0, "nodule": 1}, "numTraining": 2,
        "file_ending": ending,
    }  # fmt: skip
    (root / "dataset.json").write_text(json.dumps(content | (index or {})))
    return root


@pytest.mark.parametrize("ending", [".nii.gz", ".mha", ".nrrd"])
def test_nnunet_v2_is_read_by_the_names_of_its_files(tmp_path, ending):
    root = nnunet(tmp_path, ending=ending)
    entries = list_scans(DataConfig(source=str(root)))
    assert [entry.series_uid for entry in entries] == ["case_001", "case_002"]
    assert [len(entry.findings) for entry in entries] == [1, 1]
    assert entries[0].lesion_mask == root / "labelsTr" / f"case_001{ending}"


def test_labelled_test_images_of_nnunet_are_the_test_set_of_the_store(tmp_path):
    root = nnunet(tmp_path / "Dataset101")
    write_file(root / "imagesTs" / "case_003_0000.nii.gz", noise())
    write_file(root / "labelsTs" / "case_003.nii.gz", np.ones(UPRIGHT.size_vox, np.uint8))
    entries = list_scans(DataConfig(source=str(root)))
    config = StoreConfig(folds=2)
    plan = Plan(entries, config, test=named_test_set(entries, config))
    write_splits(tmp_path, plan, {e.series_uid: e.series_uid for e in entries})
    splits = read_splits(tmp_path)
    assert (splits.test, sorted(splits.folds)) == (("case_003",), ["case_001", "case_002"])
    assert msd.test_set_note(root) is None


def test_nnunet_v2_may_list_its_cases(tmp_path):
    cases = {
        "x": {"images": ["imagesTr/case_002_0000.nii.gz"], "label": "labelsTr/case_002.nii.gz"}
    }
    (entry,) = list_scans(DataConfig(source=str(nnunet(tmp_path, {"dataset": cases}))))
    assert entry.series_uid == "case_002"


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ({"numTraining": 3}, "numTraining=3, labelsTr has 2 files"),
        ({"channel_names": {"0": "T2"}}, "is of modality T2, expected CT"),
        ({"file_ending": None}, "is not an index|numTraining"),
        ({"dataset": {"x": {"images": ["../a.nii.gz"], "label": "b"}}}, "not in its folder"),
        ({"dataset": {"x": {"images": [], "label": "b"}}}, "is not an index"),
    ],
)
def test_a_damaged_index_of_nnunet_is_refused(tmp_path, index, words):
    with pytest.raises(LayoutError, match=words):
        list_scans(DataConfig(source=str(nnunet(tmp_path, index))))
