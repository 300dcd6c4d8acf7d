"""The store: what is written is read back, and what is damaged is named."""

from __future__ import annotations

import json

import numpy as np
import pytest

from nodule_det.data.scan import Finding, Prepared, ScanEntry
from nodule_det.data.store import (
    open_store,
    write_scan,
    write_settings,
)
from nodule_det.errors import StoreError
from nodule_det.files import write_json
from nodule_det.geometry import Grid

GRID = Grid((18, 20, 22), (1.0, 1.0, 1.0), (5.0, 6.0, 7.0))
SETTINGS = {"spacing_mm": 1.0, "margin_mm": 12.0}
LESION = Finding((12.0, 15.0, 16.0), 6.5, False, {"texture": "solid"})
EXCLUDED = Finding((14.0, 15.0, 10.0), 10.0, True)


def make_store(path, folds=(0, 1), labels=None):
    volume = np.full(GRID.size_vox, -850, np.int16)
    volume[4:8, 4:8, 4:8] = 30
    lung = np.zeros(GRID.size_vox, bool)
    lung[:12, :12, :12] = True
    (path / "scans").mkdir(parents=True)
    write_settings(path, SETTINGS)
    for i, _ in enumerate(folds):
        write_scan(
            path / "scans",
            ScanEntry(f"1.2.{i}", path, f"p{i}", (LESION, EXCLUDED)),
            Prepared(volume, GRID, lung, labels, (2.5, 0.7, 0.7)),
        )
    write_json(
        path / "splits.json", {"how": {}, "folds": {f"1.2.{i}": f for i, f in enumerate(folds)}}
    )
    return volume, lung


def test_a_scan_is_read_back_as_it_was_written(tmp_path):
    volume, _ = make_store(tmp_path)
    scan = open_store(tmp_path).scans[0]
    np.testing.assert_array_equal(scan.volume(), volume)
    assert isinstance(scan.volume(), np.memmap)
    assert scan.grid == GRID
    assert scan.findings == (LESION, EXCLUDED)
    assert scan.lesions == (LESION,)
    assert scan.source_spacing_mm == (2.5, 0.7, 0.7)
    assert scan.labels() is None


def test_the_index_lists_blocks_of_lung_and_those_with_vessels(tmp_path):
    make_store(tmp_path)
    scan = open_store(tmp_path).scans[0]
    expected = [(z, y, x) for z in (0, 4, 8) for y in (0, 4, 8) for x in (0, 4, 8)]
    assert [tuple(b) for b in scan.lung_blocks().tolist()] == expected
    assert scan.vessel_blocks().tolist() == [[4, 4, 4]]
    assert scan.lung_mask().sum() == 12**3
    assert scan.search_mask().sum() == 16**3
    assert scan.search_mask().shape == GRID.size_vox


def test_labels_come_along_where_the_data_set_has_them(tmp_path):
    labels = np.random.default_rng(0).integers(0, 3, GRID.size_vox).astype(np.uint8)
    make_store(tmp_path, labels=labels)
    np.testing.assert_array_equal(open_store(tmp_path).scans[0].labels(), labels)


def test_a_fold_is_held_out_and_the_others_are_trained_on(tmp_path):
    make_store(tmp_path, folds=(0, 1, 2, 1))
    store = open_store(tmp_path)
    assert store.folds == (0, 1, 2)
    assert [s.series_uid for s in store.validation(1)] == ["1.2.1", "1.2.3"]
    assert [s.series_uid for s in store.training(1)] == ["1.2.0", "1.2.2"]
    with pytest.raises(StoreError, match=r"fold=7 has no scans .* it has \[0, 1, 2\]"):
        store.training(7)


def test_no_store_says_how_to_make_one(tmp_path):
    with pytest.raises(StoreError, match=r"holds no store; make one: python -m nodule_det\.data"):
        open_store(tmp_path / "nothing")


def test_an_unfinished_store_says_how_to_go_on(tmp_path):
    make_store(tmp_path)
    (tmp_path / "splits.json").unlink()
    with pytest.raises(StoreError, match="is unfinished; go on with it"):
        open_store(tmp_path)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("name", ["store.json", "scans/1.2.0.json"])
def test_a_damaged_json_is_named(tmp_path, name):
    make_store(tmp_path)
    cut(tmp_path / name)
    with pytest.raises(StoreError, match=r"json is (missing or )?damaged"):
        open_store(tmp_path)


def test_a_damaged_volume_is_named(tmp_path):
    make_store(tmp_path)
    cut(tmp_path / "scans/1.2.0.npy")
    with pytest.raises(StoreError, match=r"1\.2\.0\.npy is missing or damaged"):
        open_store(tmp_path).scans[0].volume()


def test_a_volume_of_another_size_is_named(tmp_path):
    make_store(tmp_path)
    np.save(tmp_path / "scans/1.2.0.npy", np.zeros((2, 3, 4), np.int16))
    with pytest.raises(StoreError, match=r"has \(2, 3, 4\) voxels, its \.json says \(18, 20, 22\)"):
        open_store(tmp_path).scans[0].volume()


def test_another_format_is_refused(tmp_path):
    make_store(tmp_path)
    file = tmp_path / "store.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 99}))
    with pytest.raises(StoreError, match="has format 99"):
        open_store(tmp_path)


def test_a_point_is_searched_exactly_where_the_search_mask_says(tmp_path):
    make_store(tmp_path)
    scan = open_store(tmp_path).scans[0]
    mask = np.pad(scan.search_mask(), 40)  # nothing is searched outside the box
    for shift in [(0, 0, 0), (0.4, -0.4, 0.4), (-6, -6, -6), (-1, 3, 3), (-20, 4, 4), (-21, 7, 4)]:
        for voxel in np.argwhere(np.ones(GRID.size_vox, bool))[::37] + np.array(shift):
            center = tuple(GRID.to_world(voxel).tolist())
            at = tuple(np.rint(voxel).astype(int) + 40)
            assert scan.is_searched(Finding(center, 5.0)) == mask[at], voxel
