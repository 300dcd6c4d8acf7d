"""The store: what is written is read back, and what is damaged is named."""

from __future__ import annotations

import json
import os
import re

import numpy as np
import pytest

from nodule_det.data.scan import Finding, Prepared, ScanEntry
from nodule_det.data.store import (
    StoreInfo,
    open_store,
    write_info,
    write_scan,
)
from nodule_det.errors import StoreError
from nodule_det.files import write_json
from nodule_det.geometry import Grid

GRID = Grid((18, 20, 22), (1.0, 1.0, 1.0), (5.0, 6.0, 7.0))
SOURCE = Grid((9, 400, 400), (2.5, 0.7, 0.7), (-100.0, -100.0, 4.0))
SETTINGS = {"spacing_mm": 1.0, "margin_mm": 12.0}
LESION = Finding((12.0, 15.0, 16.0), 6.5, False, {"texture": "solid"})
EXCLUDED = Finding((14.0, 15.0, 10.0), 10.0, True)


def make_store(path, folds=(0, 1), labels=None):
    volume = np.full(GRID.size_vox, -850, np.int16)
    volume[4:8, 4:8, 4:8] = 30
    lung = np.zeros(GRID.size_vox, bool)
    lung[:12, :12, :12] = True
    (path / "scans").mkdir(parents=True)
    write_info(path, StoreInfo(SETTINGS))
    for i, _ in enumerate(folds):
        write_scan(
            path / "scans",
            ScanEntry(f"1.2.{i}", path, f"p{i}", (LESION, EXCLUDED)),
            Prepared(volume, GRID, lung, labels, SOURCE.spacing_mm, source_grid=SOURCE),
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
    assert scan.source_grid == SOURCE
    assert scan.labels() is None


def test_a_store_of_an_earlier_version_does_not_know_where_the_source_lay(tmp_path):
    make_store(tmp_path)
    file = tmp_path / "scans/1.2.0.json"
    content = json.loads(file.read_text())
    del content["source_grid"], content["checksum"]
    file.write_text(json.dumps(content))
    assert [scan.source_grid for scan in open_store(tmp_path).scans] == [None, SOURCE]


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
    with pytest.raises(StoreError, match="is not a store; create one with: python -m nodule_det"):
        open_store(tmp_path / "nothing")


def test_an_unfinished_store_says_how_to_go_on(tmp_path):
    make_store(tmp_path)
    (tmp_path / "splits.json").unlink()
    with pytest.raises(StoreError, match="is incomplete; resume it with the same command"):
        open_store(tmp_path)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("name", ["store.json", "splits.json", "scans/1.2.0.json"])
def test_a_damaged_json_is_named(tmp_path, name):
    make_store(tmp_path)
    cut(tmp_path / name)
    with pytest.raises(StoreError, match=r"json is (missing or )?damaged"):
        open_store(tmp_path)


def change(path, *keys, value):
    """Change a value of a JSON file, as a flipped bit or an editor would."""
    content = json.loads(path.read_text())
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    path.write_text(json.dumps(content))


ODD = [
    ("store.json", "settings", "spacing_mm", 0.0),
    ("store.json", "settings", "spacing_mm", "1"),
    ("store.json", "settings", []),
    ("splits.json", "folds", "1.2.0", 1.5),
    ("splits.json", "folds", "1.2.0", True),
    ("splits.json", "folds", "1.2.0", -1),
    ("splits.json", "folds", "../../secret", 0),
    ("splits.json", "folds", []),
    ("splits.json", "test", ["1.2.0"]),
    ("scans/1.2.0.json", "grid", "size_vox", [18, 20]),
    ("scans/1.2.0.json", "grid", "size_vox", [18, 20, 0]),
    ("scans/1.2.0.json", "grid", "size_vox", [18.0, 20, 22]),
    ("scans/1.2.0.json", "grid", "spacing_mm", [1.0, 1.0, 1e9]),
    ("scans/1.2.0.json", "grid", "direction", [[1, 0, 0], [0, 1, 0], [0, 1, 0]]),
    ("scans/1.2.0.json", "findings", 0, "center_mm", [1.0, 2.0]),
    ("scans/1.2.0.json", "findings", 0, "center_mm", [1.0, 2.0, 1e300]),
    ("scans/1.2.0.json", "findings", 0, "diameter_mm", -1.0),
    ("scans/1.2.0.json", "findings", 0, "diameter_mm", float("nan")),
    ("scans/1.2.0.json", "findings", 0, "excluded", "no"),
    ("scans/1.2.0.json", "findings", 0, "attributes", {"texture": 3}),
    ("scans/1.2.0.json", "findings", None),
    ("scans/1.2.0.json", "patient_key", 7),
    ("scans/1.2.0.json", "series_uid", "1.2.1"),
    ("scans/1.2.0.json", "checksums", {"../x": "0"}),
    ("scans/1.2.0.json", "source_spacing_mm", [0.0, 0.7, 0.7]),
    ("scans/1.2.0.json", "source_grid", "size_vox", [9, 400, -1]),
    ("scans/1.2.0.json", "source_grid", "spacing_mm", [1e9, 0.7, 0.7]),
    ("scans/1.2.0.json", "source_grid", 7),
]


@pytest.mark.parametrize("place", ODD, ids=lambda place: ".".join(map(str, place[:-1])))
@pytest.mark.parametrize("sealed", [True, False])
def test_a_value_out_of_range_is_one_line_with_a_checksum_or_without(tmp_path, place, sealed):
    make_store(tmp_path)
    name, *keys, value = place
    file = tmp_path / name
    if not sealed and name != "splits.json":  # which make_store writes without
        content = json.loads(file.read_text())
        del content["checksum"]
        file.write_text(json.dumps(content))
    change(file, *keys, value=value)
    with pytest.raises(StoreError, match=name.replace(".", r"\.")) as caught:
        open_store(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_plausible_change_is_seen_by_the_checksum(tmp_path):
    make_store(tmp_path)
    change(tmp_path / "scans/1.2.0.json", "findings", 0, "diameter_mm", value=7.5)
    with pytest.raises(StoreError, match=r"differs from its checksum; if you edited it, delete"):
        open_store(tmp_path)
    file = tmp_path / "scans/1.2.0.json"
    content = json.loads(file.read_text())
    del content["checksum"]
    file.write_text(json.dumps(content))
    assert open_store(tmp_path).scans[0].lesions[0].diameter_mm == 7.5


def test_a_store_of_an_earlier_version_is_read(tmp_path):
    """As format 1 was before it had checksums."""
    make_store(tmp_path)
    for file in (tmp_path / "store.json", *(tmp_path / "scans").glob("*.json")):
        content = json.loads(file.read_text())
        for key in ("checksum", "checksums", "secret_id", "anonymised"):
            content.pop(key, None)
        if file.name != "store.json":
            content["source_hash"] = "0" * 64
        file.write_text(json.dumps(content))
    scan = open_store(tmp_path).scans[0]
    assert scan.volume()[5, 5, 5] == 30
    assert scan.labels() is None
    assert scan.problems() == []


def test_a_damaged_volume_is_named(tmp_path):
    make_store(tmp_path)
    cut(tmp_path / "scans/1.2.0.npy")
    with pytest.raises(StoreError, match=r"1\.2\.0\.npy is damaged: it has \d+ bytes of voxels"):
        open_store(tmp_path).scans[0].volume()


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 3, 4), np.int16),
        np.zeros(GRID.size_vox, np.float64),
        np.zeros(GRID.size_vox, np.uint16),
        np.zeros(GRID.size_vox, ">i2"),
        np.asfortranarray(np.zeros(GRID.size_vox, np.int16)),
    ],
    ids=["size", "float64", "uint16", "big-endian", "Fortran"],
)
def test_a_volume_of_another_kind_is_refused(tmp_path, array):
    make_store(tmp_path)
    np.save(tmp_path / "scans/1.2.0.npy", array)
    with pytest.raises(StoreError, match=r"header is .* expected .*'<i2'.*\(18, 20, 22\)"):
        open_store(tmp_path).scans[0].volume()


def test_missing_labels_are_noticed(tmp_path):
    make_store(tmp_path, labels=np.zeros(GRID.size_vox, np.uint8))
    (tmp_path / "scans/1.2.0.labels.npy").unlink()
    with pytest.raises(StoreError, match=r"labels\.npy cannot be read \(No such file"):
        open_store(tmp_path).scans[0].labels()


def flip(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["1.2.0.npy", "1.2.0.labels.npy"])
def test_a_single_flipped_bit_among_the_voxels_is_found(tmp_path, name):
    make_store(tmp_path, labels=np.zeros(GRID.size_vox, np.uint8))
    assert open_store(tmp_path).scans[0].problems() == []
    flip(tmp_path / "scans" / name, -1)
    first, second = (scan.problems() for scan in open_store(tmp_path).scans)
    assert first == [f"{tmp_path / 'scans' / name} differs from its checksum"]
    assert second == []


def test_impossible_hu_are_found_without_checksums(tmp_path):
    make_store(tmp_path)
    file = tmp_path / "scans/1.2.0.json"
    content = json.loads(file.read_text())
    del content["checksum"], content["checksums"]
    file.write_text(json.dumps(content))
    volume = np.full(GRID.size_vox, -850, np.int16)
    volume[3, 3, 3] = 32000
    np.save(tmp_path / "scans/1.2.0.npy", volume)
    assert "has voxels of -850 to 32000 HU" in open_store(tmp_path).scans[0].problems()[0]


def test_another_format_is_refused(tmp_path):
    make_store(tmp_path)
    file = tmp_path / "store.json"
    content = json.loads(file.read_text()) | {"format": 99}
    del content["checksum"]
    file.write_text(json.dumps(content))
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


@pytest.mark.parametrize(
    "name", ["store.json", "splits.json", "scans/1.2.0.json", "scans/1.2.0.npy"]
)
@pytest.mark.parametrize("kind", ["fifo", "folder"])
def test_what_is_not_a_file_is_refused_without_waiting(tmp_path, name, kind):
    make_store(tmp_path / "s")
    path = tmp_path / "s" / name
    path.unlink()
    os.mkfifo(path) if kind == "fifo" else path.mkdir()
    with pytest.raises(StoreError, match=re.escape(str(path))):
        [scan.volume() for scan in open_store(tmp_path / "s").scans]
