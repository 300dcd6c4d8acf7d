"""Listing a data set: one broken file or folder costs one scan, and nothing special is opened."""

import errno
import json
import os
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest

from nodule_det.config.data import DataConfig, Layout
from nodule_det.data.layouts.detect import list_scans
from nodule_det.data.readers.read import find_scans, read_entry, read_mask
from nodule_det.errors import LayoutError, NoduleDetError, ScanError, TableError
from nodule_det.geometry import Grid
from tests.data.dicom_files import (
    ORIGIN_MM,
    SERIES,
    SPACING_MM,
    chest_hu,
    chest_series,
    save_series,
)
from tests.data.scan_files import noise, write_file

HEADER = "seriesuid,coordX,coordY,coordZ,diameter_mm"
VOLUME = chest_hu()
GRID = Grid(VOLUME.shape, SPACING_MM, ORIGIN_MM)


def outcome(entries):
    """Read every entry: its key -> "read", or the reason."""
    found = {}
    for entry in entries:
        try:
            read_entry(entry)
            found[entry.series_uid] = "read"
        except NoduleDetError as error:
            found[entry.series_uid] = str(error)
    assert not [words for words in found.values() if "\n" in words]
    return found


def test_one_series_in_several_folders_is_one_scan(tmp_path):
    series = chest_series()
    save_series(series[:20], tmp_path / "000")
    save_series(series[20:30], tmp_path / "x" / "001")
    save_series(series[28:], tmp_path / "002")  # two slices twice
    (entry,) = find_scans(tmp_path)
    np.testing.assert_array_equal(read_entry(entry).volume_hu, VOLUME)


def test_a_series_and_its_copy_in_another_folder_are_one_scan(tmp_path):
    save_series(chest_series(), tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "copy of a")
    os.symlink(tmp_path / "a", tmp_path / "link")
    (entry,) = find_scans(tmp_path)
    np.testing.assert_array_equal(read_entry(entry).volume_hu, VOLUME)


def test_identical_files_of_one_name_are_one_scan_and_different_ones_are_named(tmp_path):
    write_file(tmp_path / "a" / "s.mhd", noise())
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    write_file(tmp_path / "a" / "t.nii.gz", noise())
    write_file(tmp_path / "b" / "t.nii.gz", noise(seed=1))
    found = outcome(find_scans(tmp_path))
    assert found["s"] == "read"
    assert "2 scans are called t: " in found["t"]
    assert "b/t.nii.gz; take one of them out" in found["t"]


def test_broken_folders_of_one_name_cost_themselves_only(tmp_path):
    save_series(chest_series(), tmp_path / "good")
    for letter in "ab":
        (tmp_path / letter / "DICOM").mkdir(parents=True)
        (tmp_path / letter / "DICOM" / "1.dcm").touch()
    found = outcome(find_scans(tmp_path))
    assert found[SERIES] == "read"
    assert "a/DICOM/1.dcm is empty" in found["a/DICOM"]
    assert "b/DICOM/1.dcm is empty" in found["b/DICOM"]


def test_a_closed_folder_costs_itself_only(tmp_path, monkeypatch):
    write_file(tmp_path / "s.nii", noise())
    (tmp_path / "closed").mkdir()
    listed = Path.iterdir

    def closed(folder):  # root may list everything
        if folder.name == "closed":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", closed)
    found = outcome(find_scans(tmp_path))
    assert found["s"] == "read"
    assert "cannot be listed (Permission denied)" in found["closed"]


@pytest.mark.parametrize("name", [b"M\xfcller", b"M\xfcller J\xfcrgen, CT [1]", b"\xff\xfe"])
def test_names_that_are_not_utf8_are_read(tmp_path, name):
    folder = os.fsencode(tmp_path) + b"/" + name
    save_series(chest_series(), tmp_path / "x")
    os.rename(os.fsencode(tmp_path) + b"/x", folder)
    write_file(tmp_path / "s.nii", noise())
    os.rename(os.fsencode(tmp_path) + b"/s.nii", folder + b"/" + name + b".nii")
    found = outcome(find_scans(tmp_path))
    assert found.pop(SERIES) == "read"
    ((key, state),) = found.items()
    assert state == "read"
    assert key.encode()  # plain text: it becomes a file name and a cell of a table


@pytest.mark.parametrize("compressed", [False, True])
def test_compressed_slices_in_a_folder_that_is_not_utf8_are_read(tmp_path, compressed):
    from pydicom.uid import RLELossless

    series = chest_series()
    if compressed:
        for dataset in series:
            dataset.compress(RLELossless)
    save_series(series, tmp_path / "x")
    os.rename(os.fsencode(tmp_path) + b"/x", os.fsencode(tmp_path) + b"/M\xfcller")
    assert outcome(find_scans(tmp_path)) == {SERIES: "read"}


@pytest.mark.parametrize("name", ["Müller Jürgen", "肺 CT", "a=b,c [1]", "new\nline", " x "])
def test_odd_names_are_read(tmp_path, name):
    save_series(chest_series(), tmp_path / name)
    write_file(tmp_path / name / f"{name}.nii.gz", noise())
    found = outcome(find_scans(tmp_path))
    assert set(found.values()) == {"read"}
    assert all(key.isprintable() for key in found)


@pytest.mark.parametrize("name", ["x", "x.dcm", "x.mhd", "x.nii.gz", "x.xml", "annotations.csv"])
def test_fifos_sockets_and_devices_are_never_opened(tmp_path, name):
    scans = tmp_path / "scans"
    save_series(chest_series(), scans / "good")
    folder = scans / ("good" if "." not in name else "odd")
    folder.mkdir(exist_ok=True)
    os.mkfifo(folder / name)
    with socket.socket(socket.AF_UNIX) as s:
        here = os.open(folder, os.O_RDONLY)
        s.bind(f"/proc/self/fd/{here}/s.dcm" if name == "x.mhd" else f"/proc/self/fd/{here}/s")
        os.close(here)
        os.symlink("/dev/zero", folder / "zero.nii")
        found = outcome(find_scans(scans))
    assert found[SERIES] == "read" or "is not a regular file" in found[SERIES]
    assert all(v == "read" or "not a regular file" in v for v in found.values())
    if name == "annotations.csv":
        config = DataConfig(source=str(scans), layout=Layout.folder, annotations=str(folder / name))
        with pytest.raises(TableError, match="is not a regular file"):
            list_scans(config)


def test_a_link_that_leads_in_a_circle_is_followed_once(tmp_path):
    write_file(tmp_path / "a" / "s.nii", noise())
    os.symlink(tmp_path, tmp_path / "a" / "up")
    assert outcome(find_scans(tmp_path)) == {"s": "read"}


# --- Decathlon and nnU-Net


def decathlon(root, n=3):
    cases = []
    for i in range(n):
        write_file(root / "imagesTr" / f"lung_{i}.nii.gz", VOLUME, GRID)
        write_file(root / "labelsTr" / f"lung_{i}.nii.gz", (VOLUME == 30).astype(np.uint8), GRID)
        cases.append({k: f"./{k}sTr/lung_{i}.nii.gz" for k in ("image", "label")})
    index = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "cancer"}}
    (root / "dataset.json").write_text(json.dumps(index | {"training": cases}))
    return DataConfig(source=str(root))


@pytest.mark.parametrize("damage", ["cut", "gone", "moved", "flipped bit"])
def test_one_bad_label_costs_one_scan(tmp_path, damage):
    config = decathlon(tmp_path)
    label = tmp_path / "labelsTr" / "lung_1.nii.gz"
    content = bytearray(label.read_bytes())
    if damage == "cut":
        label.write_bytes(content[: len(content) // 2])
    elif damage == "flipped bit":
        content[-6] ^= 1  # in the checksum
        label.write_bytes(content)
    elif damage == "moved":
        write_file(label, np.zeros((2, 3, 4), np.uint8))
    else:
        label.unlink()
    found = outcome(list_scans(config))
    assert found.pop("lung_1").count(str(label)) == 1
    assert found == {"lung_0": "read", "lung_2": "read"}


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"training": 7}', '{"training": [{"image": 1, "label": 2}]}', "{}", "[]",
     '{"training": [], "modality": {"0": "MRI"}}', "\xff", '{"training": "x"}',
     '{"training": [{"image": "../../etc/passwd", "label": "x"}]}'],
)  # fmt: skip
def test_a_damaged_index_is_one_line(tmp_path, text):
    decathlon(tmp_path, 1)
    (tmp_path / "dataset.json").write_text(text, encoding="latin-1")
    with pytest.raises(LayoutError) as error:
        list_scans(DataConfig(source=str(tmp_path)))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600


# --- tables and XML


def test_a_cell_of_a_megabyte_is_one_line(tmp_path):
    write_file(tmp_path / "s.nii", noise())
    (tmp_path / "annotations.csv").write_text(f"{HEADER}\ns,1,2,3,{'4' * 1_000_000}\n")
    with pytest.raises(TableError, match=r"line 2 cannot be read as CSV \(field larger than") as e:
        list_scans(DataConfig(source=str(tmp_path)))
    assert len(str(e.value)) < 300


def reading(folder, uid, x="10"):
    points = "".join(
        f"<edgeMap><xCoord>{a}</xCoord><yCoord>{b}</yCoord></edgeMap>"
        for a, b in [(x, 10), (20, 10), (20, 20), (10, 20)]
    )
    (folder / f"{uid}.xml").write_text(
        "<LidcReadMessage><ResponseHeader><SeriesInstanceUid>"
        f"{uid}</SeriesInstanceUid></ResponseHeader><readingSession><unblindedReadNodule><roi>"
        f"<imageZposition>-150</imageZposition><inclusion>TRUE</inclusion>{points}"
        "</roi></unblindedReadNodule></readingSession></LidcReadMessage>"
    )


@pytest.mark.parametrize("x", ["1" * 5000, "1" * 400, "9" * 12, "nan", ""])
def test_a_damaged_reading_costs_one_scan(tmp_path, x):
    for uid in ("1.5", "1.6"):
        save_series(chest_series(series=uid), tmp_path / uid)
        reading(tmp_path, uid, "10" if uid == "1.5" else x)
    found = outcome(list_scans(DataConfig(source=str(tmp_path), layout=Layout.lidc)))
    assert found["1.5"] == "read"
    assert "its readers' XML is missing or damaged" in found["1.6"]
    assert len(found["1.6"]) < 600


# --- masks beside scans


def test_masks_beside_the_images_are_not_scans(tmp_path):
    write_file(tmp_path / "images" / "s.nii", noise())
    write_file(tmp_path / "labels" / "s.nii", (noise() > 0).astype(np.uint8))
    write_file(tmp_path / "seg-lungs-LUNA16" / "s.mhd", (noise() > 0).astype(np.uint8))
    (entry,) = find_scans(tmp_path)
    assert entry.path == tmp_path / "images" / "s.nii"
    assert read_mask(tmp_path / "seg-lungs-LUNA16" / "s.mhd", read_entry(entry).grid).any()


def test_a_folder_without_scans_is_one_line(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(ScanError, match="holds no scan"):
        find_scans(tmp_path)
